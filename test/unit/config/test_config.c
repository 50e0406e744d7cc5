/* test_config.c - defaults, kinds, ranges (config.h) */
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

#include "settings.h"

/* Up to three. */
static void given(const char *other, const char *text)
{
	size_t i = 0;

	while (others[i][0] != NULL)
		i++;
	others[i][0] = other;
	others[i][1] = text;
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
	{"DEFER_ACCEPT", AT(defer_accept_ms), "0", 0, "60", 60000, NULL,
	 "60.001", "DEFER_ACCEPT is out of range (0 to 60)"},
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
