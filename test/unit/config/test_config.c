/* test_config.c - what src/config/config.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "config/cgroup.h"
#include "config/config.h"

/* The environment of a test: PASSWORD, one setting more, and those that this
 * one depends on. */
static const char *password;
static const char *name;
static const char *value;
static const char *others[4][2]; /* names and values; NULL behind the last */

static const char *get(const char *of)
{
	if (name != NULL && strcmp(of, name) == 0)
		return value;
	for (size_t i = 0; others[i][0] != NULL; i++)
		if (strcmp(of, others[i][0]) == 0)
			return others[i][1];
	return strcmp(of, "PASSWORD") == 0 ? password : NULL;
}

static int reset(void **state)
{
	(void)state;
	password = "secret";
	name = NULL;
	value = NULL;
	memset(others, 0, sizeof others);
	return 0;
}

/* Up to three. */
static void given(const char *other, const char *text)
{
	size_t i = 0;

	while (others[i][0] != NULL)
		i++;
	others[i][0] = other;
	others[i][1] = text;
}

static struct config load(const char *of, const char *text)
{
	char error[CONFIG_ERROR_MAX] = "";
	struct config c;

	name = of;
	value = text;
	if (config_load(&c, get, error) != 0)
		fail_msg("%s=%s: %s", of, text, error);
	return c;
}

static void assert_refused(const char *of, const char *text, const char *says)
{
	char error[CONFIG_ERROR_MAX] = "";
	struct config c;

	name = of;
	value = text;
	if (config_load(&c, get, error) != UV_EINVAL)
		fail_msg("%s=%s was accepted", of, text);
	assert_string_equal(error, says);
}

/* --- defaults --------------------------------------------------------------*/

static void an_empty_password_is_refused(void **state)
{
	(void)state;
	password = "";
	assert_refused(NULL, NULL, "PASSWORD must not be empty");
}

static void everything_but_the_password_has_a_default(void **state)
{
	(void)state;
	password = NULL;
	struct config c = load(NULL, NULL);
	assert_null(c.password);
	assert_null(c.password_file);
}

static void each_setting_but_the_limits_has_a_default(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	assert_string_equal(c.password, "secret");
	assert_string_equal(c.ip, "127.0.0.1");
	assert_int_equal(c.port, 3000);
	assert_true(c.homepage);
	assert_null(c.auth_url);
	assert_false(c.auth_cookie);
	assert_false(c.auth_per_topic);
	assert_string_equal(c.allowed_origins, "*");
	assert_null(c.history_file);
	assert_false(c.has_admin_port);
	assert_int_equal(c.log_level, LOG_INFO);
	assert_false(c.log_is_json);
}

static void each_limit_has_a_default(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	assert_int_equal(c.body_max_bytes, 2 << 20);
	assert_int_equal(c.buffered_max_bytes, 4 << 20);
	assert_int_equal(c.mailbox_max_bytes, 64 << 20);
	assert_int_equal(c.header_timeout_ms, 10000);
	assert_int_equal(c.body_timeout_ms, 30000);
	assert_int_equal(c.write_timeout_ms, 30000);
	assert_int_equal(c.idle_timeout_ms, 75000);
	assert_int_equal(c.close_timeout_ms, 5000);
	assert_int_equal(c.ping_interval_ms, 30000);
	assert_int_equal(c.drain_ms, 20000);
	assert_int_equal(c.auth_timeout_ms, 5000);
	assert_int_equal(c.auth_checks_max, 256);
	assert_int_equal(c.auth_cache_ttl_ms, 0);
	assert_int_equal(c.auth_cache_entries, 10000);
	assert_int_equal(c.subscriptions_max, 128);
	assert_int_equal(c.sse_retry_ms, 2000);
	assert_int_equal(c.history_size, 64);
	assert_int_equal(c.history_ttl_ms, 60000);
	assert_false(c.retain);
	assert_int_equal(c.idempotency_ttl_ms, 300000);
	assert_int_equal(c.idempotency_bytes, 16 << 20);
}

/* With a budget, so that the machine's does not matter. */
static uint64_t history_bytes_under(const char *memory_limit)
{
	return load("MEMORY_LIMIT", memory_limit).history_bytes;
}

static void the_kernel_takes_less_where_memory_has_a_limit(void **state)
{
	(void)state;
	assert_int_equal(load("MEMORY_LIMIT", "0").unsent_max_bytes, 65536);
	assert_int_equal(load("MEMORY_LIMIT", "1G").unsent_max_bytes, 4096);
}

static void history_has_64_mib_but_at_most_a_quarter_of_the_memory(void **state)
{
	(void)state;
	assert_int_equal(history_bytes_under("0"), 64 << 20);
	assert_int_equal(history_bytes_under("1G"), 64 << 20);
	assert_int_equal(history_bytes_under("256M"), 64 << 20);
	assert_int_equal(history_bytes_under("255M"), (255 << 20) / 4);
	assert_int_equal(history_bytes_under("1M"), 1 << 18);
}

static void the_cgroups_memory_bounds_history_too(void **state)
{
	(void)state;
	uint64_t quarter = load(NULL, NULL).memory_limit_bytes / 4;
	uint64_t expected =
		quarter != 0 && quarter < 64 << 20 ? quarter : 64 << 20;
	assert_int_equal(load(NULL, NULL).history_bytes, expected);
}

static void history_has_what_is_given_whatever_the_memory(void **state)
{
	(void)state;
	given("HISTORY_BYTES", "64M");
	assert_int_equal(history_bytes_under("1M"), 64 << 20);
	assert_int_equal(history_bytes_under("0"), 64 << 20);
}

static void repeats_have_16_mib_but_at_most_a_sixteenth_of_the_memory(
	void **state)
{
	(void)state;
	assert_int_equal(load("MEMORY_LIMIT", "0").idempotency_bytes, 16 << 20);
	assert_int_equal(load("MEMORY_LIMIT", "1G").idempotency_bytes,
			 16 << 20);
	assert_int_equal(load("MEMORY_LIMIT", "64M").idempotency_bytes,
			 4 << 20);
	given("IDEMPOTENCY_BYTES", "16M");
	assert_int_equal(load("MEMORY_LIMIT", "64M").idempotency_bytes,
			 16 << 20);
}

static void there_is_a_worker_for_each_available_cpu(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	unsigned cpus = cgroup_cpus("/");
	assert_int_equal(c.workers,
			 cpus < CONFIG_WORKERS_MAX ? cpus : CONFIG_WORKERS_MAX);
}

static void the_memory_limit_is_four_fifths_of_the_cgroups(void **state)
{
	(void)state;
	assert_int_equal(load(NULL, NULL).memory_limit_bytes,
			 cgroup_memory_limit("/") / 5 * 4);
}

static void a_memory_limit_of_0_is_none_whatever_the_cgroup_says(void **state)
{
	(void)state;
	assert_int_equal(load("MEMORY_LIMIT", "0").memory_limit_bytes, 0);
	assert_int_equal(load("MEMORY_LIMIT", "50M").memory_limit_bytes,
			 50 << 20);
}

#define LIMIT_REFUSED 77

/* In the child process: lowers the limit, and writes what follows from it. */
static int load_with_descriptors(rlim_t descriptors, int out)
{
	struct rlimit limit = {descriptors / 2, descriptors};
	char error[CONFIG_ERROR_MAX];
	struct config c;

	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return LIMIT_REFUSED;
	if (config_load(&c, get, error) != 0)
		return 1;
	return write(out, &c.connections_max, sizeof c.connections_max) < 0;
}

/* In a child process, since a limit once lowered stays so. Skips the test where
 * it cannot be lowered, as under valgrind. */
static uint64_t connections_max_of(rlim_t descriptors)
{
	uint64_t answer = 0;
	int status = 0;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t child = fork();
	if (child == 0)
		_exit(load_with_descriptors(descriptors, ends[1]));
	close(ends[1]);
	ssize_t n = read(ends[0], &answer, sizeof answer);
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == LIMIT_REFUSED)
		skip();
	assert_int_equal(n, sizeof answer);
	return answer;
}

static void connections_are_as_many_as_descriptors_less_what_is_needed(
	void **state)
{
	(void)state;
	uint64_t many = connections_max_of(20000);
	assert_in_range(many, 18000, 20000 - 1000);
	uint64_t some = connections_max_of(1024);
	assert_in_range(some, 500, 1024 - 128);
}

static void an_empty_value_is_refused(void **state)
{
	static const char *const names[] = {
		"IP",         "PORT",         "HOMEPAGE",
		"AUTH_URL",   "WORKERS",      "MAX_CONNECTIONS",
		"MAX_BODY",   "IDLE_TIMEOUT", "LOG_LEVEL",
		"LISTEN",     "ADMIN_PORT",   "PASSWORD_FILE",
		"LOG_FORMAT", "HISTORY_FILE", "ALLOWED_ORIGINS"};
	char says[64];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(says, sizeof says, "%s must not be empty", names[i]);
		assert_refused(names[i], "", says);
	}
}

/* --- kinds -----------------------------------------------------------------*/

static void text_is_taken_as_it_is(void **state)
{
	(void)state;
	assert_string_equal(load("PASSWORD", " p:\xc3\xa4 ").password,
			    " p:\xc3\xa4 ");
	assert_string_equal(load("AUTH_URL", "http://[::1]/a?b").auth_url,
			    "http://[::1]/a?b");
	assert_string_equal(load("HISTORY_FILE", "a b").history_file, "a b");
	assert_string_equal(
		load("ALLOWED_ORIGINS", "http://a,https://b").allowed_origins,
		"http://a,https://b");
}

static void origins_in_another_form_are_refused(void **state)
{
	static const char *const bad[] = {
		"example.com", "*,https://a", "https://a/", "https://a,",
		"https://u@a", "https://a:x", "https://a b"};
	char error[CONFIG_ERROR_MAX];
	struct config c;

	(void)state;
	name = "ALLOWED_ORIGINS";
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		value = bad[i];
		error[0] = '\0';
		if (config_load(&c, get, error) != UV_EINVAL)
			fail_msg("%s was accepted", bad[i]);
		assert_memory_equal(error, "ALLOWED_ORIGINS must ", 21);
	}
}

static void an_address_is_of_either_family(void **state)
{
	static const char *const good[] = {
		"0.0.0.0", "255.255.255.255", "10.1.2.3",      "::",
		"::1",     "2001:db8::a:1",   "::ffff:1.2.3.4"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_string_equal(load("IP", good[i]).ip, good[i]);
}

static void localhost_is_an_address(void **state)
{
	(void)state;
	assert_string_equal(load("IP", "localhost").ip, "127.0.0.1");
	assert_string_equal(load("IP", "LocalHost").ip, "127.0.0.1");
	struct config c = load("LISTEN", "localhost:3000");
	assert_string_equal(c.listeners[0].address, "127.0.0.1");
	assert_int_equal(c.listeners[0].port, 3000);
}

static void a_mode_is_octal(void **state)
{
	(void)state;
	assert_int_equal(load("UNIX_MODE", "0600").unix_mode, 0600);
	assert_int_equal(load("UNIX_MODE", "666").unix_mode, 0666);
	assert_refused("UNIX_MODE", "0668",
		       "UNIX_MODE must be a mode in octal, such as 0660");
	assert_refused("UNIX_MODE", "0440",
		       "UNIX_MODE must be from 0600 to 0777, for its owner at "
		       "least");
}

static void an_address_that_is_not_numeric_is_refused(void **state)
{
	static const char *const bad[] = {
		"localhost.", "127.0.0",          "127.0.0.256",
		"127.1",      "1.2.3.4 ",         " 1.2.3.4",
		"[::1]",      "::1%lo",           "1.2.3.4:5",
		"012.1.1.1",  "1:2:3:4:5:6:7:8:9"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("IP", bad[i],
			       "IP must be a numeric IPv4 or IPv6 address, or "
			       "localhost");
}

static void a_flag_is_true_or_false_in_three_words_each(void **state)
{
	static const char *const yes[] = {"true", "t", "1", "TRUE", "True"};
	static const char *const no[] = {"false", "f", "0", "FALSE", "F"};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		assert_true(load("HOMEPAGE", yes[i]).homepage);
		assert_false(load("HOMEPAGE", no[i]).homepage);
	}
}

static void a_flag_of_another_word_is_refused(void **state)
{
	static const char *const bad[] = {"yes", "no", "2",     "tr", "on",
					  "01",  " 1", "true ", "-"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("HOMEPAGE", bad[i],
			       "HOMEPAGE must be true, t, 1, false, f or 0");
}

static void a_log_level_is_one_of_four_words(void **state)
{
	(void)state;
	assert_int_equal(load("LOG_LEVEL", "debug").log_level, LOG_DEBUG);
	assert_int_equal(load("LOG_LEVEL", "info").log_level, LOG_INFO);
	assert_int_equal(load("LOG_LEVEL", "warn").log_level, LOG_WARN);
	assert_int_equal(load("LOG_LEVEL", "error").log_level, LOG_ERROR);
	assert_refused("LOG_LEVEL", "verbose",
		       "LOG_LEVEL must be debug, info, warn or error");
	assert_refused("LOG_LEVEL", "1",
		       "LOG_LEVEL must be debug, info, warn or error");
}

static void a_log_format_is_text_or_json(void **state)
{
	(void)state;
	assert_false(load("LOG_FORMAT", "text").log_is_json);
	assert_true(load("LOG_FORMAT", "json").log_is_json);
	assert_true(load("LOG_FORMAT", "JSON").log_is_json);
	assert_false(load("LOG_FORMAT", "Text").log_is_json);
	assert_refused("LOG_FORMAT", "xml", "LOG_FORMAT must be text or json");
}

static void an_admin_port_is_there_when_it_is_given_be_it_0(void **state)
{
	(void)state;
	struct config c = load("ADMIN_PORT", "0");
	assert_true(c.has_admin_port);
	assert_int_equal(c.admin_port, 0);
	c = load("ADMIN_PORT", "9000");
	assert_true(c.has_admin_port);
	assert_int_equal(c.admin_port, 9000);
}

static void a_number_is_only_digits(void **state)
{
	static const char *const bad[] = {
		"-1",  "+1",  " 1",  "1 ", "x", "1x",
		"0x1", "1.0", "1e3", "1K", "-", "99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("PORT", bad[i],
			       "PORT must be a whole number (0 to 65535)");
}

static void a_number_may_start_with_zeros_and_is_still_decimal(void **state)
{
	(void)state;
	assert_int_equal(load("PORT", "0010").port, 10);
}

static void bytes_may_be_given_in_units_of_1024(void **state)
{
	(void)state;
	assert_int_equal(load("MAX_BODY", "65537").body_max_bytes, 65537);
	assert_int_equal(load("MAX_BODY", "3K").body_max_bytes, 3 << 10);
	assert_int_equal(load("MAX_BODY", "3k").body_max_bytes, 3 << 10);
	assert_int_equal(load("MAX_BODY", "3M").body_max_bytes, 3 << 20);
	assert_int_equal(load("MAX_BODY", "3m").body_max_bytes, 3 << 20);
	assert_int_equal(load("MAX_BODY", "1G").body_max_bytes, 1 << 30);
	assert_int_equal(load("MAX_BODY", "1g").body_max_bytes, 1 << 30);
	assert_int_equal(load("MAX_BODY", "3Ki").body_max_bytes, 3 << 10);
	assert_int_equal(load("MAX_BODY", "64Mi").body_max_bytes, 64 << 20);
	assert_int_equal(load("MAX_BODY", "64MiB").body_max_bytes, 64 << 20);
	assert_int_equal(load("MAX_BODY", "64MB").body_max_bytes, 64 << 20);
	assert_int_equal(load("MAX_BODY", "64mib").body_max_bytes, 64 << 20);
}

static void bytes_in_another_form_are_refused(void **state)
{
	/* The last three would be 0, 1 and 1 KiB if they wrapped around. */
	static const char *const bad[] = {"K",
					  "1Kib ",
					  "1Bi",
					  "1iB",
					  "1KiBi",
					  "1 K",
					  "1T",
					  "1.5M",
					  "-1",
					  "0x10",
					  "1K ",
					  "18446744073709551616",
					  "18446744073709551617",
					  "18014398509481985K"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("MAX_BODY", bad[i],
			       "MAX_BODY must be a number of bytes, such as "
			       "65536, 64K, 1M, 64MiB (1 to 1073741824)");
}

static void durations_are_seconds_with_decimals_kept_in_milliseconds(
	void **state)
{
	(void)state;
	assert_int_equal(load("PING_INTERVAL", "2").ping_interval_ms, 2000);
	assert_int_equal(load("PING_INTERVAL", "0.25").ping_interval_ms, 250);
	assert_int_equal(load("PING_INTERVAL", "1.0016").ping_interval_ms,
			 1002);
	assert_int_equal(load("PING_INTERVAL", "007.5").ping_interval_ms, 7500);
	assert_int_equal(load("PING_INTERVAL", "10s").ping_interval_ms, 10000);
	assert_int_equal(load("PING_INTERVAL", "500ms").ping_interval_ms, 500);
	assert_int_equal(load("PING_INTERVAL", "1.5m").ping_interval_ms, 90000);
	assert_int_equal(load("PING_INTERVAL", "2H").ping_interval_ms, 7200000);
}

static void durations_in_another_form_are_refused(void **state)
{
	static const char *const bad[] = {
		"-1",  "+1",   " 1",    "1 ",    "x",    "1 s",
		".5",  "s",    "1d",    "1sm",   "1min", "inf",
		"nan", "0x10", "1e999", "1e400", "1,5",  "1..5"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("PING_INTERVAL", bad[i],
			       "PING_INTERVAL must be a number of seconds, "
			       "such as 30 or 0.5, or have a unit: 500ms, "
			       "10s, 2m, 1h (0.01 to 86400)");
}

/* --- ranges ----------------------------------------------------------------*/

/* A setting, what is just within its range, and what is just outside. */
struct range {
	const char *name;
	size_t offset;
	const char *min;
	uint64_t min_value;
	const char *max;
	uint64_t max_value;
	const char *below; /* NULL: there is nothing below */
	const char *above;
	const char *says;
};

#define AT(member) offsetof(struct config, member)
#define DURATION(name, member)                                                 \
	{                                                                      \
		name, AT(member), "0.01", 10, "86400", 86400000, "0.0094",     \
			"86400.001", name " is out of range (0.01 to 86400)"   \
	}

static const struct range ranges[] = {
	{"PORT", AT(port), "0", 0, "65535", 65535, NULL, "65536",
	 "PORT is out of range (0 to 65535)"},
	{"WORKERS", AT(workers), "1", 1, "64", 64, "0", "65",
	 "WORKERS is out of range (1 to 64)"},
	{"MAX_CONNECTIONS", AT(connections_max), "1", 1, "10000000", 10000000,
	 "0", "10000001", "MAX_CONNECTIONS is out of range (1 to 10000000)"},
	{"MAX_BODY", AT(body_max_bytes), "1", 1, "1G", 1 << 30, "0",
	 "1073741825", "MAX_BODY is out of range (1 to 1073741824)"},
	{"MAX_BUFFERED", AT(buffered_max_bytes), "1K", 1024, "1G", 1 << 30,
	 "1023", "1073741825",
	 "MAX_BUFFERED is out of range (1024 to 1073741824)"},
	{"MAX_UNSENT", AT(unsent_max_bytes), "0", 0, "1G", 1 << 30, NULL,
	 "1073741825", "MAX_UNSENT is out of range (0 to 1073741824)"},
	{"MAX_MAILBOX", AT(mailbox_max_bytes), "1K", 1024, "64G",
	 UINT64_C(64) << 30, "1023", "65G",
	 "MAX_MAILBOX is out of range (1024 to 68719476736)"},
	DURATION("HEADER_TIMEOUT", header_timeout_ms),
	DURATION("BODY_TIMEOUT", body_timeout_ms),
	DURATION("WRITE_TIMEOUT", write_timeout_ms),
	DURATION("IDLE_TIMEOUT", idle_timeout_ms),
	DURATION("CLOSE_TIMEOUT", close_timeout_ms),
	DURATION("PING_INTERVAL", ping_interval_ms),
	{"DRAIN_SECONDS", AT(drain_ms), "0", 0, "3600", 3600000, NULL,
	 "3600.001", "DRAIN_SECONDS is out of range (0 to 3600)"},
	{"ADMIN_PORT", AT(admin_port), "0", 0, "65535", 65535, NULL, "65536",
	 "ADMIN_PORT is out of range (0 to 65535)"},
	{"MEMORY_LIMIT", AT(memory_limit_bytes), "0", 0, "65536G",
	 UINT64_C(64) << 40, NULL, "65537G",
	 "MEMORY_LIMIT is out of range (0 to 70368744177664)"},
	DURATION("AUTH_TIMEOUT", auth_timeout_ms),
	{"AUTH_MAX_CHECKS", AT(auth_checks_max), "1", 1, "65536", 65536, "0",
	 "65537", "AUTH_MAX_CHECKS is out of range (1 to 65536)"},
	{"AUTH_QUEUE", AT(auth_queue), "0", 0, "1000000", 1000000, NULL,
	 "1000001", "AUTH_QUEUE is out of range (0 to 1000000)"},
	{"AUTH_CACHE_TTL", AT(auth_cache_ttl_ms), "0", 0, "86400", 86400000,
	 NULL, "86400.001", "AUTH_CACHE_TTL is out of range (0 to 86400)"},
	{"AUTH_CACHE_ENTRIES", AT(auth_cache_entries), "1", 1, "10000000",
	 10000000, "0", "10000001",
	 "AUTH_CACHE_ENTRIES is out of range (1 to 10000000)"},
	{"MAX_SUBSCRIPTIONS", AT(subscriptions_max), "1", 1, "1024", 1024, "0",
	 "1025", "MAX_SUBSCRIPTIONS is out of range (1 to 1024)"},
	{"SSE_RETRY", AT(sse_retry_ms), "0.1", 100, "3600", 3600000, "0.0994",
	 "3600.001", "SSE_RETRY is out of range (0.1 to 3600)"},
	{"HISTORY_SIZE", AT(history_size), "0", 0, "65536", 65536, NULL,
	 "65537", "HISTORY_SIZE is out of range (0 to 65536)"},
	{"HISTORY_TTL", AT(history_ttl_ms), "0", 0, "86400", 86400000, NULL,
	 "86400.001", "HISTORY_TTL is out of range (0 to 86400)"},
	{"HISTORY_BYTES", AT(history_bytes), "0", 0, "64G", UINT64_C(64) << 30,
	 NULL, "65G", "HISTORY_BYTES is out of range (0 to 68719476736)"},
	{"IDEMPOTENCY_TTL", AT(idempotency_ttl_ms), "0", 0, "86400", 86400000,
	 NULL, "86400.001", "IDEMPOTENCY_TTL is out of range (0 to 86400)"},
	{"IDEMPOTENCY_BYTES", AT(idempotency_bytes), "0", 0, "1G", 1 << 30,
	 NULL, "1073741825",
	 "IDEMPOTENCY_BYTES is out of range (0 to 1073741824)"},
};

#define RANGES (sizeof ranges / sizeof ranges[0])

static uint64_t load_number(const struct range *r, const char *text)
{
	struct config c = load(r->name, text);
	uint64_t number;

	memcpy(&number, (const char *)&c + r->offset, sizeof number);
	return number;
}

static void both_ends_of_a_range_are_within_it(void **state)
{
	(void)state;
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		assert_int_equal(load_number(r, r->min), r->min_value);
		assert_int_equal(load_number(r, r->max), r->max_value);
	}
}

static void what_is_outside_its_range_is_refused(void **state)
{
	(void)state;
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		if (r->below != NULL)
			assert_refused(r->name, r->below, r->says);
		assert_refused(r->name, r->above, r->says);
	}
}

static void each_setting_has_a_member_of_its_own(void **state)
{
	struct config plain = load(NULL, NULL);

	(void)state;
	for (const struct range *r = ranges; r < ranges + RANGES; r++) {
		struct config c = load(r->name, r->max);
		memcpy((char *)&c + r->offset, (const char *)&plain + r->offset,
		       sizeof(uint64_t));
		/* These follow from others. */
		c.has_admin_port = plain.has_admin_port;
		c.listeners[0].port = plain.listeners[0].port;
		c.history_bytes = plain.history_bytes;
		c.unsent_max_bytes = plain.unsent_max_bytes;
		c.connections_max = plain.connections_max;
		c.shares = plain.shares;
		assert_memory_equal(&c, &plain, sizeof c);
	}
}

/* --- settings that need others ---------------------------------------------*/

#define COOKIE_NEEDS                                                           \
	"AUTH_COOKIE needs AUTH_URL, and ALLOWED_ORIGINS without * and null"

static void cookies_need_an_authority_and_a_list_of_origins(void **state)
{
	(void)state;
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	given("AUTH_URL", "http://host/");
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	given("ALLOWED_ORIGINS", "*");
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	others[1][1] = " * ";
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	others[1][1] = "https://example.com,null";
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	others[1][1] = "https://example.com";
	assert_true(load("AUTH_COOKIE", "true").auth_cookie);
	others[0][0] = "IP"; /* in place of AUTH_URL */
	others[0][1] = "::1";
	assert_refused("AUTH_COOKIE", "true", COOKIE_NEEDS);
	assert_false(load("AUTH_COOKIE", "false").auth_cookie);
}

static void checks_of_each_topic_need_an_authority(void **state)
{
	(void)state;
	assert_refused("AUTH_PER_TOPIC", "true",
		       "AUTH_PER_TOPIC needs AUTH_URL");
	assert_false(load("AUTH_PER_TOPIC", "false").auth_per_topic);
	given("AUTH_URL", "http://host/");
	assert_true(load("AUTH_PER_TOPIC", "true").auth_per_topic);
}

static void what_is_retained_needs_a_history(void **state)
{
	static const char *const needed[] = {"HISTORY_SIZE", "HISTORY_TTL",
					     "HISTORY_BYTES"};

	(void)state;
	assert_true(load("RETAIN", "true").retain);
	given("RETAIN", "true");
	for (unsigned i = 0; i < 3; i++)
		assert_refused(needed[i], "0",
			       "RETAIN needs HISTORY_SIZE, HISTORY_TTL and "
			       "HISTORY_BYTES above 0");
	others[0][1] = "false";
	for (unsigned i = 0; i < 3; i++)
		assert_false(load(needed[i], "0").retain);
}

/* --- listeners -------------------------------------------------------------*/

static void assert_listener(const struct config_listener *l, bool is_unix,
			    const char *address, unsigned port)
{
	assert_int_equal(l->is_unix, is_unix);
	assert_string_equal(l->address, address);
	assert_int_equal(l->port, port);
}

static void without_a_list_ip_and_port_are_the_listener(void **state)
{
	(void)state;
	struct config c = load("IP", "::1");
	assert_int_equal(c.listeners_count, 1);
	assert_listener(&c.listeners[0], false, "::1", 3000);
	c = load("PORT", "80");
	assert_int_equal(c.listeners_count, 1);
	assert_listener(&c.listeners[0], false, "127.0.0.1", 80);
}

static void a_list_names_all_listeners_in_its_order(void **state)
{
	(void)state;
	struct config c = load("LISTEN", "unix:/run/a b:c,[::1]:3000,"
					 "0.0.0.0:0,[::ffff:1.2.3.4]:65535");
	assert_int_equal(c.listeners_count, 4);
	assert_listener(&c.listeners[0], true, "/run/a b:c", 0);
	assert_listener(&c.listeners[1], false, "::1", 3000);
	assert_listener(&c.listeners[2], false, "0.0.0.0", 0);
	assert_listener(&c.listeners[3], false, "::ffff:1.2.3.4", 65535);
}

static void a_list_may_have_eight_listeners(void **state)
{
	(void)state;
	struct config c = load("LISTEN", "1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,"
					 "1.1.1.1:4,1.1.1.1:5,1.1.1.1:6,"
					 "1.1.1.1:7,1.1.1.1:8");
	assert_int_equal(c.listeners_count, 8);
	assert_listener(&c.listeners[7], false, "1.1.1.1", 8);
	assert_refused("LISTEN",
		       "1.1.1.1:1,1.1.1.1:2,1.1.1.1:3,1.1.1.1:4,1.1.1.1:5,"
		       "1.1.1.1:6,1.1.1.1:7,1.1.1.1:8,1.1.1.1:9",
		       "LISTEN names more than 8 listeners");
}

static void a_listener_in_another_form_is_refused(void **state)
{
	static const char *const bad[] = {",",
					  "1.1.1.1:1,",
					  ",1.1.1.1:1",
					  "1.1.1.1:1,,",
					  "1.1.1.1",
					  "3000",
					  ":3000",
					  "localhost",
					  "::1:3000",
					  "[::1]",
					  "[::1]3000",
					  "[::1:3000",
					  "[]:3000",
					  "[1.1.1.1]:1",
					  "*:3000",
					  "1.1.1.1:1, 1.1.1.1:2",
					  " 1.1.1.1:1",
					  "tcp:1.1.1.1:1",
					  "[::1]]:1",
					  "[localhost]:1",
					  "UNIX:/a",
					  "[",
					  "]:1",
					  ":",
					  "http://1.1.1.1:1"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("LISTEN", bad[i],
			       "LISTEN must name IP:PORT, [IPV6]:PORT or "
			       "unix:/PATH, separated by commas");
}

static void a_listener_of_a_port_out_of_range_is_refused(void **state)
{
	static const char *const bad[] = {"1.1.1.1:",
					  "1.1.1.1:65536",
					  "1.1.1.1:-1",
					  "1.1.1.1:x",
					  "1.1.1.1:1 ",
					  "[::1]:1x",
					  "1.1.1.1:99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("LISTEN", bad[i],
			       "LISTEN has a port that is not a number from 0 "
			       "to 65535");
}

static void the_path_of_a_unix_socket_is_absolute(void **state)
{
	static const char *const bad[] = {"unix:", "unix:a", "unix:./a",
					  "unix:@a", "unix:/"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("LISTEN", bad[i],
			       "LISTEN has a Unix socket whose path does not "
			       "start with /");
}

static void the_path_of_a_unix_socket_has_up_to_107_bytes(void **state)
{
	static const char says[] =
		"LISTEN has a Unix socket whose path is over 107 bytes";
	char list[512];

	(void)state;
	snprintf(list, sizeof list, "unix:/%0106d", 0);
	struct config c = load("LISTEN", list);
	assert_string_equal(c.listeners[0].address, list + 5);
	for (int zeros = 107; zeros < 400; zeros++) {
		snprintf(list, sizeof list, "unix:/%0*d,1.1.1.1:1", zeros, 0);
		assert_refused("LISTEN", list, says);
	}
}

static void a_listener_is_named_as_in_the_list(void **state)
{
	static const char list[] = "unix:/run/a,[::1]:3000,1.2.3.4:80";
	static const char *const names[] = {"unix:/run/a", "[::1]:7",
					    "1.2.3.4:7"};
	char name_of[CONFIG_LISTENER_TEXT_MAX];

	(void)state;
	struct config c = load("LISTEN", list);
	for (size_t i = 0; i < 3; i++) {
		config_name_listener(&c.listeners[i], 7, name_of);
		assert_string_equal(name_of, names[i]);
	}
}

/* --- the password ----------------------------------------------------------*/

static char path[64];

static int make_file(void **state)
{
	strcpy(path, "/tmp/isimud-test-XXXXXX");
	int file = mkstemp(path);
	assert_true(file >= 0);
	close(file);
	return reset(state);
}

static int remove_file(void **state)
{
	(void)state;
	return remove(path);
}

static void write_file(const char *bytes, size_t len)
{
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

/* Reads PASSWORD_FILE, alone. */
static int read_file(struct config_passwords *out,
		     char error[static CONFIG_ERROR_MAX])
{
	password = NULL;
	struct config c = load("PASSWORD_FILE", path);
	*out = (struct config_passwords){0};
	return config_read_passwords(&c, out, error);
}

static void assert_read_two(const char *bytes, size_t len, struct span first,
			    struct span second)
{
	char error[CONFIG_ERROR_MAX];
	struct config_passwords out;
	const struct span expected[] = {first, second};

	write_file(bytes, len);
	assert_int_equal(read_file(&out, error), 0);
	assert_int_equal(out.count, second.bytes == NULL ? 1 : 2);
	for (unsigned i = 0; i < out.count; i++) {
		assert_int_equal(out.each[i].len, expected[i].len);
		assert_memory_equal(out.each[i].bytes, expected[i].bytes,
				    expected[i].len);
	}
	config_passwords_fini(&out);
}

static void assert_read(const char *bytes, size_t len, const char *expected,
			size_t expected_len)
{
	assert_read_two(bytes, len, (struct span){expected, expected_len},
			(struct span){NULL, 0});
}

static void assert_unreadable(const char *says)
{
	char error[CONFIG_ERROR_MAX] = "";
	struct config_passwords out;

	assert_int_equal(read_file(&out, error), UV_EINVAL);
	assert_string_equal(error, says);
	config_passwords_fini(&out);
}

static void assert_no_password(const struct config *c, const char *says)
{
	char error[CONFIG_ERROR_MAX];
	struct config_passwords out = {0};

	assert_int_equal(config_read_passwords(c, &out, error), UV_EINVAL);
	assert_string_equal(error, says);
	config_passwords_fini(&out);
}

static void a_password_is_required(void **state)
{
	(void)state;
	password = NULL;
	struct config c = load(NULL, NULL);
	assert_no_password(&c, "PASSWORD or PASSWORD_FILE is required");
}

static void a_password_is_given_once(void **state)
{
	(void)state;
	write_file("other", 5);
	struct config c = load("PASSWORD_FILE", path);
	assert_no_password(&c,
			   "PASSWORD and PASSWORD_FILE must not both be set");
}

static void a_password_of_the_environment_is_taken_as_it_is(void **state)
{
	char error[CONFIG_ERROR_MAX];
	struct config_passwords out = {0};

	(void)state;
	password = "a\nb\n";
	struct config c = load(NULL, NULL);
	assert_int_equal(config_read_passwords(&c, &out, error), 0);
	assert_int_equal(out.count, 1);
	assert_int_equal(out.each[0].len, 4);
	assert_memory_equal(out.each[0].bytes, "a\nb\n", 4);
	config_passwords_fini(&out);
}

static void a_file_has_a_password_a_line(void **state)
{
	(void)state;
	assert_read("hush", 4, "hush", 4);
	assert_read("hush\n", 5, "hush", 4);
	assert_read("hush\r\n", 6, "hush", 4);
	assert_read("hush\n\n", 6, "hush", 4);
	assert_read("\n\r\nhush\n", 8, "hush", 4);
	assert_read("hush\r", 5, "hush\r", 5);
	assert_read("hush\r\r\n", 7, "hush\r", 5);
	assert_read(" hu\0sh ", 7, " hu\0sh ", 7);
	assert_read_two("one\ntwo", 7, SPAN("one"), SPAN("two"));
	assert_read_two("one\r\ntwo\n", 9, SPAN("one"), SPAN("two"));
	assert_read_two("\none\n\ntwo\n\n", 11, SPAN("one"), SPAN("two"));
}

static void a_file_of_three_lines_is_refused(void **state)
{
	(void)state;
	write_file("one\ntwo\nthree\n", 14);
	assert_unreadable("PASSWORD_FILE has more than two lines");
}

static void what_does_not_fit_into_a_request_head_is_refused(void **state)
{
	static char bytes[3 * CONFIG_PASSWORD_MAX_BYTES];
	const size_t most = CONFIG_PASSWORD_MAX_BYTES;

	(void)state;
	memset(bytes, 'x', sizeof bytes - 1);
	assert_read(bytes, most, bytes, most);
	write_file(bytes, most + 1);
	assert_unreadable("PASSWORD_FILE has a password that is over 8192 "
			  "bytes, more than fits into a request head");
	write_file(bytes, sizeof bytes);
	assert_unreadable("PASSWORD_FILE can't be read: it is over 16 KiB");
	bytes[most] = bytes[2 * most + 2] = '\r';
	bytes[most + 1] = bytes[2 * most + 3] = '\n';
	assert_read_two(bytes, 2 * most + 4, (struct span){bytes, most},
			(struct span){bytes + most + 2, most});
	bytes[most + 1] = '\0';
	password = bytes;
	struct config c = load(NULL, NULL);
	assert_no_password(&c, "PASSWORD is over 8192 bytes, more than fits "
			       "into a request head");
}

static void a_file_without_a_password_is_refused(void **state)
{
	static const char *const bad[] = {"", "\n", "\r\n", "\n\n"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		write_file(bad[i], strlen(bad[i]));
		assert_unreadable("PASSWORD_FILE has no password");
	}
}

static void what_is_no_file_is_refused_and_not_waited_for(void **state)
{
	(void)state;
	assert_int_equal(remove(path), 0);
	assert_unreadable("PASSWORD_FILE can't be read: no such file or "
			  "directory");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_unreadable("PASSWORD_FILE can't be read: not a regular file");
	assert_int_equal(remove(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_unreadable("PASSWORD_FILE can't be read: illegal operation on a "
			  "directory");
}

/* --- showing ---------------------------------------------------------------*/

/* What config_print() writes of the test's environment; static. */
static const char *printed(const char *of, const char *text)
{
	static char out[8192];
	struct config c = load(of, text);

	memset(out, 0, sizeof out);
	FILE *file = fmemopen(out, sizeof out - 1, "w");
	assert_non_null(file);
	config_print(&c, file);
	assert_int_equal(fclose(file), 0);
	return out;
}

static void assert_printed(const char *of, const char *text, const char *line)
{
	const char *out = printed(of, text);
	const char *found = strstr(out, line);

	if (found == NULL || (found > out && found[-1] != '\n') ||
	    found[strlen(line)] != '\n')
		fail_msg("no line %s in:\n%s", line, out);
}

static void each_value_is_printed_in_a_form_that_can_be_given(void **state)
{
	(void)state;
	assert_printed("IP", "::1", "IP=::1");
	assert_printed("PORT", "080", "PORT=80");
	assert_printed("LISTEN", "unix:/a,[::1]:1", "LISTEN=unix:/a,[::1]:1");
	assert_printed("ADMIN_PORT", "0", "ADMIN_PORT=0");
	assert_printed("HOMEPAGE", "F", "HOMEPAGE=false");
	assert_printed("MAX_BODY", "2k", "MAX_BODY=2048");
	assert_printed("PING_INTERVAL", "0.250", "PING_INTERVAL=0.25");
	assert_printed("IDLE_TIMEOUT", "86399.999", "IDLE_TIMEOUT=86399.999");
	assert_printed("LOG_LEVEL", "debug", "LOG_LEVEL=debug");
	assert_printed("LOG_LEVEL", "warn", "LOG_LEVEL=warn");
	assert_printed("LOG_FORMAT", "json", "LOG_FORMAT=json");
	assert_printed("LOG_FORMAT", "text", "LOG_FORMAT=text");
	assert_printed("PASSWORD_FILE", "/a", "PASSWORD_FILE=/a");
	assert_printed("SSE_RETRY", "0.10", "SSE_RETRY=0.1");
	assert_printed("HISTORY_BYTES", "1g", "HISTORY_BYTES=1073741824");
	assert_printed("ALLOWED_ORIGINS", "http://a,null",
		       "ALLOWED_ORIGINS=http://a,null");
}

static void what_is_not_set_is_said_to_be_so(void **state)
{
	(void)state;
	assert_printed(NULL, NULL, "LISTEN is not set");
	assert_printed(NULL, NULL, "ADMIN_PORT is not set");
	assert_printed(NULL, NULL, "AUTH_URL is not set");
	assert_printed(NULL, NULL, "PASSWORD_FILE is not set");
	assert_printed(NULL, NULL, "HISTORY_FILE is not set");
}

static void the_password_is_never_printed(void **state)
{
	(void)state;
	assert_printed("PASSWORD", "hush-hush", "PASSWORD=***");
	assert_null(strstr(printed("PASSWORD", "hush-hush"), "hush"));
}

static void a_url_is_printed_without_credentials(void **state)
{
	static const char *const urls[][2] = {
		{"http://host/a", "http://host/a"},
		{"https://hush@host/a", "https://***@host/a"},
		{"https://u:hush@host:1/a", "https://***@host:1/a"},
		{"https://u:hu@sh@host/a", "https://***@host/a"},
		{"https://u:hu/sh@host/a", "https://***@host/a"},
		{"http://host/a?key=hush", "http://host/a?***"},
		{"http://host/a?b#hush", "http://host/a?***"},
		{"http://u:hush@host?x=hush@y", "http://***@host?***"},
		{"u:hush@host", "***@host"},
	};
	char line[128];

	(void)state;
	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		snprintf(line, sizeof line, "AUTH_URL=%s", urls[i][1]);
		assert_printed("AUTH_URL", urls[i][0], line);
	}
}

static void help_has_a_flag_and_a_default_for_each_setting(void **state)
{
	static char out[16384];
	size_t flags = 0;
	size_t defaults = 0;

	(void)state;
	FILE *file = fmemopen(out, sizeof out - 1, "w");
	assert_non_null(file);
	config_print_help(file);
	assert_int_equal(fclose(file), 0);
	for (char *at = out; (at = strstr(at, "\n  --")) != NULL; at++)
		flags++;
	for (char *at = out; (at = strstr(at, "default: ")) != NULL; at++)
		defaults++;
	assert_non_null(strstr(out, "  --max-body BYTES\n"));
	assert_non_null(strstr(out, "; default: 2M\n"));
	assert_memory_equal(out, "  --password TEXT\n", 18);
	/* The two passwords have none; the first flag has no line before. */
	assert_int_equal(defaults, flags + 1 - 2);
}

static void the_names_of_settings_are_known_as_they_are(void **state)
{
	(void)state;
	assert_true(config_is_setting("PASSWORD"));
	assert_true(config_is_setting("LOG_FORMAT"));
	assert_false(config_is_setting("PASSWOR"));
	assert_false(config_is_setting("PASSWORDS"));
	assert_false(config_is_setting("password"));
	assert_false(config_is_setting(""));
}

#define TEST(f)      cmocka_unit_test_setup(f, reset)
#define TEST_FILE(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(an_empty_password_is_refused),
		TEST(everything_but_the_password_has_a_default),
		TEST(each_setting_but_the_limits_has_a_default),
		TEST(each_limit_has_a_default),
		TEST(the_kernel_takes_less_where_memory_has_a_limit),
		TEST(history_has_64_mib_but_at_most_a_quarter_of_the_memory),
		TEST(the_cgroups_memory_bounds_history_too),
		TEST(history_has_what_is_given_whatever_the_memory),
		TEST(repeats_have_16_mib_but_at_most_a_sixteenth_of_the_memory),
		TEST(there_is_a_worker_for_each_available_cpu),
		TEST(the_memory_limit_is_four_fifths_of_the_cgroups),
		TEST(a_memory_limit_of_0_is_none_whatever_the_cgroup_says),
		TEST(connections_are_as_many_as_descriptors_less_what_is_needed),
		TEST(an_empty_value_is_refused),
		TEST(text_is_taken_as_it_is),
		TEST(origins_in_another_form_are_refused),
		TEST(an_address_is_of_either_family),
		TEST(localhost_is_an_address),
		TEST(a_mode_is_octal),
		TEST(an_address_that_is_not_numeric_is_refused),
		TEST(a_flag_is_true_or_false_in_three_words_each),
		TEST(a_flag_of_another_word_is_refused),
		TEST(a_log_level_is_one_of_four_words),
		TEST(a_log_format_is_text_or_json),
		TEST(an_admin_port_is_there_when_it_is_given_be_it_0),
		TEST(a_number_is_only_digits),
		TEST(a_number_may_start_with_zeros_and_is_still_decimal),
		TEST(bytes_may_be_given_in_units_of_1024),
		TEST(bytes_in_another_form_are_refused),
		TEST(durations_are_seconds_with_decimals_kept_in_milliseconds),
		TEST(durations_in_another_form_are_refused),
		TEST(both_ends_of_a_range_are_within_it),
		TEST(what_is_outside_its_range_is_refused),
		TEST(each_setting_has_a_member_of_its_own),
		TEST(cookies_need_an_authority_and_a_list_of_origins),
		TEST(checks_of_each_topic_need_an_authority),
		TEST(what_is_retained_needs_a_history),
		TEST(without_a_list_ip_and_port_are_the_listener),
		TEST(a_list_names_all_listeners_in_its_order),
		TEST(a_list_may_have_eight_listeners),
		TEST(a_listener_in_another_form_is_refused),
		TEST(a_listener_of_a_port_out_of_range_is_refused),
		TEST(the_path_of_a_unix_socket_is_absolute),
		TEST(the_path_of_a_unix_socket_has_up_to_107_bytes),
		TEST(a_listener_is_named_as_in_the_list),
		TEST(a_password_is_required),
		TEST_FILE(a_password_is_given_once),
		TEST(a_password_of_the_environment_is_taken_as_it_is),
		TEST_FILE(a_file_has_a_password_a_line),
		TEST_FILE(a_file_of_three_lines_is_refused),
		TEST_FILE(what_does_not_fit_into_a_request_head_is_refused),
		TEST_FILE(a_file_without_a_password_is_refused),
		TEST_FILE(what_is_no_file_is_refused_and_not_waited_for),
		TEST(each_value_is_printed_in_a_form_that_can_be_given),
		TEST(what_is_not_set_is_said_to_be_so),
		TEST(the_password_is_never_printed),
		TEST(a_url_is_printed_without_credentials),
		TEST(help_has_a_flag_and_a_default_for_each_setting),
		TEST(the_names_of_settings_are_known_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
