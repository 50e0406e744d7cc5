/* test_log.c - what src/base/log.c promises. Standard error is a socket here
 * that keeps writes apart, so one datagram is one write(2). */
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

#define PREFIX_LEN (sizeof "2012-06-18T09:00:00.000Z info  " - 1)

static int saved_stderr;
static int reader;

/* Nothing may be asserted until restore(): the report would go astray. */
static void capture(void)
{
	int ends[2];

	assert_int_equal(
		socketpair(AF_UNIX,
			   SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
			   ends),
		0);
	reader = ends[0];
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
}

/* Puts what the next write wrote into `line`. Returns its length, 0 without a
 * further one. */
static size_t next_line(char line[static LOG_LINE_MAX + 2])
{
	ssize_t n = recv(reader, line, LOG_LINE_MAX + 1, 0);

	line[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void restore(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(reader);
}

/* Logs `text` as INFO; `line` receives what was written after the prefix. */
static size_t log_text(const char *text, char line[static LOG_LINE_MAX + 2])
{
	capture();
	log_info("%s", text);
	size_t n = next_line(line);
	restore();
	assert_true(n > PREFIX_LEN);
	memmove(line, line + PREFIX_LEN, n - PREFIX_LEN + 1);
	return n - PREFIX_LEN;
}

static void assert_matches(const char *line, const char *pattern)
{
	regex_t regex;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	int rv = regexec(&regex, line, 0, NULL, 0);
	regfree(&regex);
	if (rv != 0)
		fail_msg("\"%s\" does not match %s", line, pattern);
}

static int at_info(void **state)
{
	(void)state;
	log_set_level(LOG_INFO);
	return 0;
}

/* The first of all tests: no level has been set yet. */
static void before_a_level_is_set_info_is_written_and_debug_is_not(void **state)
{
	(void)state;
	assert_true(log_is_on(LOG_INFO));
	assert_false(log_is_on(LOG_DEBUG));
}

static void a_line_is_a_time_a_level_and_a_sentence(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	capture();
	log_info("%s has %d subscribers", "news", 12);
	next_line(line);
	restore();
	assert_matches(line, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
			     "[0-9]{2}\\.[0-9]{3}Z info  "
			     "news has 12 subscribers\n$");
}

static void the_time_is_utc_wherever_the_server_stands(void **state)
{
	char line[LOG_LINE_MAX + 2];
	struct tm utc = {0};

	(void)state;
	setenv("TZ", "XXX-9", 1);
	tzset();
	time_t before = time(NULL);
	capture();
	log_info("x");
	next_line(line);
	restore();
	time_t after = time(NULL);
	assert_non_null(strptime(line, "%Y-%m-%dT%H:%M:%S.", &utc));
	/* Two clocks: time() may lag by a tick of the kernel's. */
	assert_in_range(timegm(&utc), before - 1, after + 1);
}

static void each_level_has_its_name_in_the_line(void **state)
{
	static const char *const names[] = {"debug", "info ", "warn ", "error"};
	char lines[4][LOG_LINE_MAX + 2];

	(void)state;
	log_set_level(LOG_DEBUG);
	capture();
	log_debug("x");
	log_info("x");
	log_warn("x");
	log_error("x");
	for (int i = 0; i < 4; i++)
		next_line(lines[i]);
	restore();
	for (int i = 0; i < 4; i++) {
		char pattern[32];
		snprintf(pattern, sizeof pattern, "Z %s x\n$", names[i]);
		assert_matches(lines[i], pattern);
	}
}

static void lines_below_the_level_are_dropped(void **state)
{
	(void)state;
	for (int level = LOG_DEBUG; level <= LOG_ERROR; level++) {
		char line[LOG_LINE_MAX + 2];
		int written = 0;

		log_set_level((enum log_level)level);
		capture();
		for (int of = LOG_DEBUG; of <= LOG_ERROR; of++)
			log_write((enum log_level)of, "x");
		while (next_line(line) > 0)
			written++;
		restore();
		assert_int_equal(written, LOG_ERROR - level + 1);
		for (int of = LOG_DEBUG; of <= LOG_ERROR; of++)
			assert_int_equal(!!log_is_on((enum log_level)of),
					 of >= level);
	}
}

static int times_made;

static const char *make(void)
{
	times_made++;
	return "x";
}

static void arguments_of_a_debug_line_are_made_only_if_it_is_written(
	void **state)
{
	(void)state;
	times_made = 0;
	log_debug("%s", make());
	assert_int_equal(times_made, 0);
	log_set_level(LOG_DEBUG);
	capture();
	log_debug("%s", make());
	restore();
	assert_int_equal(times_made, 1);
}

static void levels_are_found_by_their_exact_names(void **state)
{
	static const char *const others[] = {
		"", "DEBUG", "Info", "warning", "info ", "inf", "4", "trace"};

	(void)state;
	assert_int_equal(log_level_of("debug"), LOG_DEBUG);
	assert_int_equal(log_level_of("info"), LOG_INFO);
	assert_int_equal(log_level_of("warn"), LOG_WARN);
	assert_int_equal(log_level_of("error"), LOG_ERROR);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		assert_int_equal(log_level_of(others[i]), -1);
}

static void printable_ascii_but_the_backslash_stays_as_it_is(void **state)
{
	char text[0x7f - 0x20 + 1] = "";
	char line[LOG_LINE_MAX + 2];
	size_t len = 0;

	(void)state;
	for (int c = 0x20; c < 0x7f; c++)
		if (c != '\\')
			text[len++] = (char)c;
	assert_int_equal(log_text(text, line), len + 1);
	assert_memory_equal(line, text, len);
	assert_string_equal(line + len, "\n");
}

static void every_other_byte_is_written_in_hex(void **state)
{
	(void)state;
	for (int c = 1; c < 256; c++) {
		char text[] = {'a', (char)c, 'b', '\0'};
		char line[LOG_LINE_MAX + 2];
		char expected[16];

		if (c >= 0x20 && c < 0x7f && c != '\\')
			continue;
		log_text(text, line);
		snprintf(expected, sizeof expected, "a\\x%02xb\n", (unsigned)c);
		assert_string_equal(line, expected);
	}
}

static void a_client_cannot_forge_a_line(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_text("x\r\n2012-06-18T09:00:00.000Z error all is lost", line);
	assert_string_equal(line, "x\\x0d\\x0a2012-06-18T09:00:00.000Z error "
				  "all is lost\n");
}

static void an_argument_is_not_taken_for_a_format(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_text("100% %s %n", line);
	assert_string_equal(line, "100% %s %n\n");
}

static void a_line_of_just_the_longest_length_is_whole(void **state)
{
	char text[LOG_LINE_MAX];
	char line[LOG_LINE_MAX + 2];
	size_t len = LOG_LINE_MAX - PREFIX_LEN - 1;

	(void)state;
	memset(text, 'x', len - 1);
	text[len - 1] = 'y';
	text[len] = '\0';
	assert_int_equal(log_text(text, line), len + 1);
	assert_string_equal(line + len - 1, "y\n");
}

static void a_longer_line_is_cut_and_still_ends_with_a_line_feed(void **state)
{
	static char text[3 * LOG_LINE_MAX];
	char line[LOG_LINE_MAX + 2];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	for (size_t len = LOG_LINE_MAX - PREFIX_LEN; len < sizeof text;
	     len += 59) {
		char c = text[len];
		text[len] = '\0';
		assert_int_equal(log_text(text, line),
				 LOG_LINE_MAX - PREFIX_LEN);
		text[len] = c;
		assert_memory_equal(line + LOG_LINE_MAX - PREFIX_LEN - 2, "x\n",
				    2);
	}
}

static void no_byte_in_hex_is_cut_in_two(void **state)
{
	(void)state;
	for (size_t before = 0; before < 4; before++) {
		char text[LOG_LINE_MAX] = "xxx";
		char line[LOG_LINE_MAX + 2];

		memset(text + before, 1, sizeof text - 1 - before);
		size_t n = log_text(text, line);
		assert_in_range(n, LOG_LINE_MAX - PREFIX_LEN - 3,
				LOG_LINE_MAX - PREFIX_LEN);
		assert_int_equal((n - before - 1) % 4, 0);
		assert_string_equal(line + n - 5, "\\x01\n");
	}
}

static void an_empty_text_is_a_line_too(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_text("", line);
	assert_string_equal(line, "\n");
}

static void a_standard_error_that_is_closed_does_no_harm(void **state)
{
	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	close(STDERR_FILENO);
	log_error("x");
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

#define TEST(f) cmocka_unit_test_setup(f, at_info)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			before_a_level_is_set_info_is_written_and_debug_is_not),
		TEST(a_line_is_a_time_a_level_and_a_sentence),
		TEST(the_time_is_utc_wherever_the_server_stands),
		TEST(each_level_has_its_name_in_the_line),
		TEST(lines_below_the_level_are_dropped),
		TEST(arguments_of_a_debug_line_are_made_only_if_it_is_written),
		TEST(levels_are_found_by_their_exact_names),
		TEST(printable_ascii_but_the_backslash_stays_as_it_is),
		TEST(every_other_byte_is_written_in_hex),
		TEST(a_client_cannot_forge_a_line),
		TEST(an_argument_is_not_taken_for_a_format),
		TEST(a_line_of_just_the_longest_length_is_whole),
		TEST(a_longer_line_is_cut_and_still_ends_with_a_line_feed),
		TEST(no_byte_in_hex_is_cut_in_two),
		TEST(an_empty_text_is_a_line_too),
		TEST(a_standard_error_that_is_closed_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
