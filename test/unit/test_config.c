/* test_config.c - what src/config.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "config.h"

/* The environment of a test: PASSWORD, and one setting more. */
static const char *password;
static const char *name;
static const char *value;

static const char *get(const char *of)
{
	if (name != NULL && strcmp(of, name) == 0)
		return value;
	return strcmp(of, "PASSWORD") == 0 ? password : NULL;
}

static int reset(void **state)
{
	(void)state;
	password = "secret";
	name = NULL;
	value = NULL;
	return 0;
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

static void without_a_password_nothing_starts(void **state)
{
	(void)state;
	password = NULL;
	assert_refused(NULL, NULL, "PASSWORD is required");
	password = "";
	assert_refused(NULL, NULL, "PASSWORD must not be empty");
}

static void the_password_alone_is_enough(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	assert_string_equal(c.password, "secret");
	assert_string_equal(c.ip, "127.0.0.1");
	assert_int_equal(c.port, 3000);
	assert_true(c.homepage);
	assert_null(c.auth_url);
	assert_int_equal(c.log_level, LOG_INFO);
}

static void each_limit_has_a_default(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	assert_int_equal(c.body_max_bytes, 1 << 20);
	assert_int_equal(c.buffered_max_bytes, 1 << 20);
	assert_int_equal(c.mailbox_max_bytes, 64 << 20);
	assert_int_equal(c.header_timeout_ms, 10000);
	assert_int_equal(c.body_timeout_ms, 30000);
	assert_int_equal(c.write_timeout_ms, 30000);
	assert_int_equal(c.idle_timeout_ms, 75000);
	assert_int_equal(c.close_timeout_ms, 5000);
	assert_int_equal(c.ping_interval_ms, 30000);
	assert_int_equal(c.auth_timeout_ms, 5000);
	assert_int_equal(c.auth_checks_max, 256);
}

static void there_is_a_worker_for_each_available_cpu(void **state)
{
	struct config c = load(NULL, NULL);

	(void)state;
	assert_int_equal(c.workers, config_available_cpus("/"));
	assert_in_range(c.workers, 1, CONFIG_WORKERS_MAX);
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

static void connections_are_as_many_as_descriptors_less_a_reserve(void **state)
{
	(void)state;
	assert_int_equal(connections_max_of(1024), 1024 - 128);
	assert_int_equal(connections_max_of(257), 257 - 128);
}

static void few_descriptors_are_all_for_connections(void **state)
{
	(void)state;
	assert_int_equal(connections_max_of(256), 256);
	assert_int_equal(connections_max_of(64), 64);
}

static void an_empty_value_is_refused(void **state)
{
	static const char *const names[] = {
		"IP",       "PORT",         "HOMEPAGE",
		"AUTH_URL", "WORKERS",      "MAX_CONNECTIONS",
		"MAX_BODY", "IDLE_TIMEOUT", "LOG_LEVEL"};
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

static void an_address_that_is_not_numeric_is_refused(void **state)
{
	static const char *const bad[] = {
		"localhost", "127.0.0",          "127.0.0.256",
		"127.1",     "1.2.3.4 ",         " 1.2.3.4",
		"[::1]",     "::1%lo",           "1.2.3.4:5",
		"012.1.1.1", "1:2:3:4:5:6:7:8:9"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("IP", bad[i],
			       "IP must be a numeric IPv4 or IPv6 address");
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
}

static void bytes_in_another_form_are_refused(void **state)
{
	/* The last three would be 0, 1 and 1 KiB if they wrapped around. */
	static const char *const bad[] = {"K",
					  "1KB",
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
			       "65536, 64K, 1M (1 to 1073741824)");
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
}

static void durations_in_another_form_are_refused(void **state)
{
	static const char *const bad[] = {
		"-1",  "+1",  " 1",   "1 ",    "x",     "1s",  ".5",
		"inf", "nan", "0x10", "1e999", "1e400", "1,5", "1..5"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_refused("PING_INTERVAL", bad[i],
			       "PING_INTERVAL must be a number of seconds, "
			       "such as 30 or 0.5 (0.01 to 86400)");
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
	{"MAX_MAILBOX", AT(mailbox_max_bytes), "1K", 1024, "64G",
	 UINT64_C(64) << 30, "1023", "65G",
	 "MAX_MAILBOX is out of range (1024 to 68719476736)"},
	DURATION("HEADER_TIMEOUT", header_timeout_ms),
	DURATION("BODY_TIMEOUT", body_timeout_ms),
	DURATION("WRITE_TIMEOUT", write_timeout_ms),
	DURATION("IDLE_TIMEOUT", idle_timeout_ms),
	DURATION("CLOSE_TIMEOUT", close_timeout_ms),
	DURATION("PING_INTERVAL", ping_interval_ms),
	DURATION("AUTH_TIMEOUT", auth_timeout_ms),
	{"AUTH_MAX_CHECKS", AT(auth_checks_max), "1", 1, "65536", 65536, "0",
	 "65537", "AUTH_MAX_CHECKS is out of range (1 to 65536)"},
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
		assert_memory_equal(&c, &plain, sizeof c);
	}
}

/* --- CPUs ------------------------------------------------------------------*/

/* A root folder, ending in a slash. */
static char root[64];

static void make_folder(const char *path)
{
	char full[256];

	snprintf(full, sizeof full, "%s%s", root, path);
	assert_int_equal(mkdir(full, 0700), 0);
}

static void write_file(const char *path, const char *text)
{
	char full[256];

	snprintf(full, sizeof full, "%ssys/fs/cgroup/%s", root, path);
	FILE *file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static int make_root(void **state)
{
	strcpy(root, "/tmp/isimud-test-XXXXXX");
	assert_non_null(mkdtemp(root));
	strcat(root, "/");
	make_folder("sys");
	make_folder("sys/fs");
	make_folder("sys/fs/cgroup");
	make_folder("sys/fs/cgroup/cpu");
	return reset(state);
}

static int remove_root(void **state)
{
	static const char *const paths[] = {
		"sys/fs/cgroup/cpu/cpu.cfs_quota_us",
		"sys/fs/cgroup/cpu/cpu.cfs_period_us",
		"sys/fs/cgroup/cpu.max",
		"sys/fs/cgroup/cpu",
		"sys/fs/cgroup",
		"sys/fs",
		"sys",
		""};

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		char full[256];
		snprintf(full, sizeof full, "%s%s", root, paths[i]);
		remove(full);
	}
	return access(root, F_OK) == 0;
}

/* The CPUs there are without any quota, as far as workers go. */
static unsigned all_cpus(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
	unsigned cpus = (unsigned)CPU_COUNT(&set);
	return cpus < CONFIG_WORKERS_MAX ? cpus : CONFIG_WORKERS_MAX;
}

static unsigned at_most_all(unsigned cpus)
{
	return cpus < all_cpus() ? cpus : all_cpus();
}

static void without_a_quota_all_cpus_of_the_affinity_are_available(void **state)
{
	(void)state;
	assert_int_equal(config_available_cpus(root), all_cpus());
}

static void an_affinity_of_one_cpu_leaves_one(void **state)
{
	cpu_set_t before;
	cpu_set_t one;
	size_t cpu = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	write_file("cpu.max", "400000 100000\n");
	unsigned cpus = config_available_cpus(root);
	sched_setaffinity(0, sizeof before, &before);
	assert_int_equal(cpus, 1);
}

static void a_quota_of_cgroup_v2_is_rounded_up(void **state)
{
	(void)state;
	write_file("cpu.max", "50000 100000\n");
	assert_int_equal(config_available_cpus(root), 1);
	write_file("cpu.max", "100000 100000\n");
	assert_int_equal(config_available_cpus(root), 1);
	write_file("cpu.max", "100001 100000\n");
	assert_int_equal(config_available_cpus(root), at_most_all(2));
	write_file("cpu.max", "30000 20000");
	assert_int_equal(config_available_cpus(root), at_most_all(2));
	write_file("cpu.max", "1000 1000000\n");
	assert_int_equal(config_available_cpus(root), 1);
}

static void a_quota_above_the_affinity_changes_nothing(void **state)
{
	(void)state;
	write_file("cpu.max", "99900000 100000\n");
	assert_int_equal(config_available_cpus(root), all_cpus());
}

static void no_quota_is_called_max_in_cgroup_v2(void **state)
{
	(void)state;
	write_file("cpu.max", "max 100000\n");
	assert_int_equal(config_available_cpus(root), all_cpus());
}

static void a_quota_of_cgroup_v1_is_rounded_up(void **state)
{
	(void)state;
	write_file("cpu/cpu.cfs_period_us", "100000\n");
	write_file("cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(config_available_cpus(root), 1);
	write_file("cpu/cpu.cfs_quota_us", "150000\n");
	assert_int_equal(config_available_cpus(root), at_most_all(2));
}

static void no_quota_is_minus_one_in_cgroup_v1(void **state)
{
	(void)state;
	write_file("cpu/cpu.cfs_period_us", "100000\n");
	write_file("cpu/cpu.cfs_quota_us", "-1\n");
	assert_int_equal(config_available_cpus(root), all_cpus());
}

static void a_quota_of_cgroup_v2_comes_before_one_of_v1(void **state)
{
	(void)state;
	write_file("cpu.max", "max 100000\n");
	write_file("cpu/cpu.cfs_period_us", "100000\n");
	write_file("cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(config_available_cpus(root), all_cpus());
}

static void a_quota_that_makes_no_sense_is_none(void **state)
{
	static const char *const texts[] = {"",      "\n",  "x y\n", "50000\n",
					    "0 0\n", "0 1", "1 0",   "-5 10"};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		write_file("cpu.max", texts[i]);
		assert_int_equal(config_available_cpus(root), all_cpus());
	}
}

static void half_a_quota_of_cgroup_v1_is_none(void **state)
{
	(void)state;
	write_file("cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(config_available_cpus(root), all_cpus());
}

#define TEST(f)     cmocka_unit_test_setup(f, reset)
#define TEST_CPU(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(without_a_password_nothing_starts),
		TEST(the_password_alone_is_enough),
		TEST(each_limit_has_a_default),
		TEST(there_is_a_worker_for_each_available_cpu),
		TEST(connections_are_as_many_as_descriptors_less_a_reserve),
		TEST(few_descriptors_are_all_for_connections),
		TEST(an_empty_value_is_refused),
		TEST(text_is_taken_as_it_is),
		TEST(an_address_is_of_either_family),
		TEST(an_address_that_is_not_numeric_is_refused),
		TEST(a_flag_is_true_or_false_in_three_words_each),
		TEST(a_flag_of_another_word_is_refused),
		TEST(a_log_level_is_one_of_four_words),
		TEST(a_number_is_only_digits),
		TEST(a_number_may_start_with_zeros_and_is_still_decimal),
		TEST(bytes_may_be_given_in_units_of_1024),
		TEST(bytes_in_another_form_are_refused),
		TEST(durations_are_seconds_with_decimals_kept_in_milliseconds),
		TEST(durations_in_another_form_are_refused),
		TEST(both_ends_of_a_range_are_within_it),
		TEST(what_is_outside_its_range_is_refused),
		TEST(each_setting_has_a_member_of_its_own),
		TEST_CPU(
			without_a_quota_all_cpus_of_the_affinity_are_available),
		TEST_CPU(an_affinity_of_one_cpu_leaves_one),
		TEST_CPU(a_quota_of_cgroup_v2_is_rounded_up),
		TEST_CPU(a_quota_above_the_affinity_changes_nothing),
		TEST_CPU(no_quota_is_called_max_in_cgroup_v2),
		TEST_CPU(a_quota_of_cgroup_v1_is_rounded_up),
		TEST_CPU(no_quota_is_minus_one_in_cgroup_v1),
		TEST_CPU(a_quota_of_cgroup_v2_comes_before_one_of_v1),
		TEST_CPU(a_quota_that_makes_no_sense_is_none),
		TEST_CPU(half_a_quota_of_cgroup_v1_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
