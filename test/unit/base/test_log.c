/* test_log.c - what src/base/log.c promises. Standard error is a socket here
 * that keeps writes apart, so one datagram is one write(2); or a pipe that
 * nobody reads for a while. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"

#define PREFIX_LEN  (sizeof "2012-06-18T09:00:00.000Z info  " - 1)
#define SUFFIX      " event=test\n"
#define SUFFIX_LEN  (sizeof SUFFIX - 1)
#define SENTENCE    2800 /* bytes with the prefix: see log.c */
#define DEADLINE_MS 20000

#define say(level, ...) log_event(level, "test", LOG_NO_FIELDS, __VA_ARGS__)

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

/* Logs `text` as INFO; `line` receives the sentence that was written, and a
 * line feed. */
static size_t log_sentence(const char *text, char line[static LOG_LINE_MAX + 2])
{
	capture();
	say(LOG_INFO, "%s", text);
	size_t n = next_line(line);
	restore();
	assert_true(n >= PREFIX_LEN + SUFFIX_LEN);
	assert_string_equal(line + n - SUFFIX_LEN, SUFFIX);
	n -= PREFIX_LEN + SUFFIX_LEN;
	memmove(line, line + PREFIX_LEN, n);
	line[n++] = '\n';
	line[n] = '\0';
	return n;
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
	say(LOG_INFO, "%s has %d subscribers", "news", 12);
	next_line(line);
	restore();
	assert_matches(line, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
			     "[0-9]{2}\\.[0-9]{3}Z info  "
			     "news has 12 subscribers event=test\n$");
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
	say(LOG_INFO, "x");
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
	say(LOG_DEBUG, "x");
	say(LOG_INFO, "x");
	say(LOG_WARN, "x");
	say(LOG_ERROR, "x");
	for (int i = 0; i < 4; i++)
		next_line(lines[i]);
	restore();
	for (int i = 0; i < 4; i++) {
		char pattern[32];
		snprintf(pattern, sizeof pattern, "Z %s x event=test\n$",
			 names[i]);
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
			say((enum log_level)of, "x");
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
	say(LOG_DEBUG, "%s", make());
	assert_int_equal(times_made, 0);
	log_set_level(LOG_DEBUG);
	capture();
	say(LOG_DEBUG, "%s", make());
	restore();
	assert_int_equal(times_made, 1);
}

static void levels_are_found_by_their_names_in_any_case(void **state)
{
	static const char *const others[] = {"",    "warning", "info ",
					     "inf", "4",       "trace"};

	(void)state;
	assert_int_equal(log_level_of("debug"), LOG_DEBUG);
	assert_int_equal(log_level_of("info"), LOG_INFO);
	assert_int_equal(log_level_of("warn"), LOG_WARN);
	assert_int_equal(log_level_of("error"), LOG_ERROR);
	assert_int_equal(log_level_of("DEBUG"), LOG_DEBUG);
	assert_int_equal(log_level_of("Info"), LOG_INFO);
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
	assert_int_equal(log_sentence(text, line), len + 1);
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
		log_sentence(text, line);
		snprintf(expected, sizeof expected, "a\\x%02xb\n", (unsigned)c);
		assert_string_equal(line, expected);
	}
}

static void a_client_cannot_forge_a_line(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_sentence("x\r\n2012-06-18T09:00:00.000Z error all is lost", line);
	assert_string_equal(line, "x\\x0d\\x0a2012-06-18T09:00:00.000Z error "
				  "all is lost\n");
}

static void an_argument_is_not_taken_for_a_format(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_sentence("100% %s %n", line);
	assert_string_equal(line, "100% %s %n\n");
}

static void a_longer_sentence_is_cut_and_its_fields_are_still_there(
	void **state)
{
	static char text[3 * LOG_LINE_MAX];
	char line[LOG_LINE_MAX + 2];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	for (size_t len = 1; len < sizeof text; len += 59) {
		char c = text[len];
		text[len] = '\0';
		size_t n = log_sentence(text, line);
		text[len] = c;
		assert_true(n == len + 1 || n > 2000);
		assert_string_equal(line + n - 2, "x\n");
	}
}

static void no_byte_in_hex_is_cut_in_two(void **state)
{
	(void)state;
	for (size_t before = 0; before < 4; before++) {
		char text[LOG_LINE_MAX] = "xxx";
		char line[LOG_LINE_MAX + 2];

		memset(text + before, 1, sizeof text - 1 - before);
		size_t n = log_sentence(text, line);
		assert_in_range(n, SENTENCE - PREFIX_LEN - 3,
				SENTENCE - PREFIX_LEN + 1);
		assert_int_equal((n - before - 1) % 4, 0);
		assert_string_equal(line + n - 5, "\\x01\n");
	}
}

static void an_empty_text_is_a_line_too(void **state)
{
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_sentence("", line);
	assert_string_equal(line, "\n");
}

static void a_standard_error_that_is_closed_does_no_harm(void **state)
{
	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	close(STDERR_FILENO);
	say(LOG_ERROR, "x");
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

/* --- fields --------------------------------------------------------------- */

/* `line` receives what is behind the sentence "x". */
static void log_fields(enum log_format format, const struct log_field *fields,
		       size_t count, char line[static LOG_LINE_MAX + 2])
{
	const char *start =
		format == LOG_TEXT ? "x event=" : "\"message\":\"x\"";

	log_set_format(format);
	capture();
	log_write(LOG_INFO, "test", fields, count, "x");
	next_line(line);
	restore();
	log_set_format(LOG_TEXT);
	char *at = strstr(line, start);
	assert_non_null(at);
	at += strlen(start) + (format == LOG_TEXT ? 4 : 0);
	memmove(line, at, strlen(at) + 1);
}

static void fields_come_behind_the_sentence(void **state)
{
	const struct log_field fields[] = {
		log_text("peer", "10.0.0.1"),
		log_number("count", 18446744073709551615u),
		log_text("topic", NULL), log_span("publisher", SPAN("a b"))};
	char line[LOG_LINE_MAX + 2];

	(void)state;
	log_fields(LOG_TEXT, fields, 4, line);
	assert_string_equal(line, " peer=10.0.0.1 count=18446744073709551615 "
				  "publisher=\"a b\"\n");
	log_fields(LOG_JSON, fields, 4, line);
	assert_string_equal(line, ",\"peer\":\"10.0.0.1\","
				  "\"count\":18446744073709551615,"
				  "\"publisher\":\"a b\"}\n");
}

static void a_value_cannot_look_like_another_field(void **state)
{
	static const struct {
		const char *value;
		const char *text;
		const char *json;
	} cases[] = {
		{"", " v=\"\"\n", ",\"v\":\"\"}\n"},
		{"a=b", " v=\"a=b\"\n", ",\"v\":\"a=b\"}\n"},
		{"a\" b=\"c", " v=\"a\\x22 b=\\x22c\"\n",
		 ",\"v\":\"a\\u0022 b=\\u0022c\"}\n"},
		{"a\nb", " v=a\\x0ab\n", ",\"v\":\"a\\u000ab\"}\n"},
		{"\\", " v=\\x5c\n", ",\"v\":\"\\u005c\"}\n"},
		{"\xff", " v=\\xff\n", ",\"v\":\"\\u00ff\"}\n"},
	};
	char line[LOG_LINE_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct log_field field = log_text("v", cases[i].value);
		log_fields(LOG_TEXT, &field, 1, line);
		assert_string_equal(line, cases[i].text);
		log_fields(LOG_JSON, &field, 1, line);
		assert_string_equal(line, cases[i].json);
	}
}

static void a_long_value_is_cut_and_what_does_not_fit_is_left_out(void **state)
{
	static char value[5000];
	struct log_field fields[40];
	char line[LOG_LINE_MAX + 2];

	(void)state;
	for (int c = 1; c <= 'x'; c += 'x' - 1) {
		memset(value, c, sizeof value - 1);
		for (int i = 0; i < 39; i++)
			fields[i] = log_text("v", value);
		fields[39] = log_number("last", 7);
		for (int f = LOG_TEXT; f <= LOG_JSON; f++) {
			log_fields((enum log_format)f, fields, 40, line);
			size_t n = strlen(line);
			assert_string_equal(line + n - 1, "\n");
			assert_non_null(strstr(line, "..."));
			/* Each is whole or not there. */
			assert_non_null(
				strstr(line, f == LOG_TEXT ? " last=7\n"
							   : ",\"last\":7}\n"));
		}
	}
}

/* --- the thread ----------------------------------------------------------- */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int pipe_ends[2];

/* Makes stderr a pipe that holds one page and that nobody reads. */
static void take_pipe(void)
{
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	fcntl(pipe_ends[1], F_SETPIPE_SZ, 4096);
	saved_stderr = dup(STDERR_FILENO);
	dup2(pipe_ends[1], STDERR_FILENO);
	close(pipe_ends[1]);
}

static void give_pipe_back(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
}

/* All that comes until the other end is closed. */
static char *read_all(void)
{
	size_t len = 0;
	size_t cap = 4 * LOG_RING_BYTES;
	char *all = malloc(cap);
	ssize_t n;

	assert_non_null(all);
	while ((n = read(pipe_ends[0], all + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	all[len] = '\0';
	close(pipe_ends[0]);
	return all;
}

static unsigned count_of(const char *text, const char *word)
{
	unsigned n = 0;

	while ((text = strstr(text, word)) != NULL) {
		n++;
		text++;
	}
	return n;
}

static void all_lines_are_written_by_the_time_it_is_stopped(void **state)
{
	char word[16];

	(void)state;
	take_pipe();
	fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20);
	int rv = log_start();
	for (int i = 0; i < 1000; i++)
		say(LOG_INFO, "<%d>", i);
	bool is_written = log_stop();
	give_pipe_back();
	char *all = read_all();
	assert_int_equal(rv, 0);
	assert_true(is_written);
	const char *at = all;
	for (int i = 0; i < 1000; i++) {
		snprintf(word, sizeof word, "<%d>", i);
		at = strstr(at, word); /* in order */
		assert_non_null(at);
	}
	assert_int_equal(count_of(all, "\n"), 1000);
	free(all);
}

#define WRITERS         4
#define LINES_EACH      2000
#define LONGER_THAN_ANY 200

static void *write_lines(void *arg)
{
	char text[LONGER_THAN_ANY + 1];

	memset(text, *(const char *)arg, sizeof text - 1);
	text[LONGER_THAN_ANY] = '\0';
	for (int i = 0; i < LINES_EACH; i++)
		say(LOG_INFO, "%s", text);
	return NULL;
}

/* Reads until `word` has come. */
static char *read_until(const char *word)
{
	size_t len = 0;
	size_t cap = 4 * LOG_RING_BYTES;
	char *all = calloc(1, cap);
	ssize_t n;

	while (all != NULL && strstr(all, word) == NULL && len + 1 < cap &&
	       (n = read(pipe_ends[0], all + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	return all;
}

static void nobody_waits_for_a_reader_that_does_not_read(void **state)
{
	static char marks[WRITERS] = {'a', 'b', 'c', 'd'};
	pthread_t threads[WRITERS];
	uint64_t told = 0;

	(void)state;
	uint64_t before = log_dropped();
	take_pipe();
	log_start();
	uint64_t from = now_ms();
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_lines, &marks[i]);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	uint64_t took = now_ms() - from;
	from = now_ms();
	bool is_written = log_stop();
	uint64_t stop_took = now_ms() - from;
	uint64_t lost = log_dropped() - before;

	/* Now somebody reads, and for the rest there is room. */
	fcntl(pipe_ends[0], F_SETPIPE_SZ, 1 << 20);
	char *all = read_until("event=log_dropped count=");
	bool is_stopped = log_stop();
	give_pipe_back();
	char *rest = read_all();

	assert_true(took < DEADLINE_MS);
	assert_false(is_written);
	assert_true(stop_took < DEADLINE_MS);
	assert_true(lost > 0 && lost < WRITERS * LINES_EACH);
	assert_true(is_stopped);
	const char *count = strstr(all, "event=log_dropped count=");
	assert_non_null(count);
	sscanf(count, "event=log_dropped count=%" SCNu64, &told);
	assert_int_equal(told, lost);
	/* What was kept is whole. */
	assert_int_equal(count_of(all, "event=test\n") +
				 count_of(rest, "event=test\n") + lost,
			 WRITERS * LINES_EACH);
	free(all);
	free(rest);
}

static void what_is_held_back_is_told_without_another_line(void **state)
{
	static struct log_limit limit = LOG_LIMIT("flood");
	unsigned allowed = 0;
	unsigned long told = 0;

	(void)state;
	take_pipe();
	fcntl(STDERR_FILENO, F_SETPIPE_SZ, 1 << 20);
	log_start();
	for (int i = 0; i < 5000; i++)
		allowed += log_limit_allows(&limit);
	char *all = read_until("of=flood");
	log_stop();
	give_pipe_back();
	char *rest = read_all();
	/* It may have been more than one second. */
	for (const char *at = all; (at = strstr(at, "of=flood count=")) != NULL;
	     at++)
		told += strtoul(at + 15, NULL, 10);
	for (const char *at = rest;
	     (at = strstr(at, "of=flood count=")) != NULL; at++)
		told += strtoul(at + 15, NULL, 10);
	assert_true(allowed >= LOG_LIMIT_LINES && allowed < 5000);
	assert_int_equal(allowed + told, 5000);
	free(all);
	free(rest);
}

static void a_stderr_that_cannot_be_written_keeps_nobody(void **state)
{
	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	close(STDERR_FILENO);
	uint64_t before = log_dropped();
	log_start();
	for (int i = 0; i < 100; i++)
		say(LOG_INFO, "x");
	bool is_stopped = log_stop();
	uint64_t lost = log_dropped() - before;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	assert_true(is_stopped);
	assert_int_equal(lost, 100);
}

static void lines_of_before_the_start_wait_a_moment_and_no_longer(void **state)
{
	char page[4096];

	(void)state;
	memset(page, '.', sizeof page);
	take_pipe();
	ssize_t n = write(STDERR_FILENO, page, sizeof page);
	uint64_t from = now_ms();
	say(LOG_INFO, "x");
	uint64_t took = now_ms() - from;
	give_pipe_back();
	close(pipe_ends[0]);
	assert_int_equal(n, sizeof page);
	assert_true(took < DEADLINE_MS);
}

/* What a child that fails a CHECK says, with a thread that logs or without, and
 * how it ends. */
static char *say_of_a_crash(bool has_thread, bool is_full, int *status)
{
	char page[4096];

	memset(page, '.', sizeof page);
	take_pipe();
	if (!is_full)
		fcntl(STDERR_FILENO, F_SETPIPE_SZ, 65536);
	if (is_full && write(STDERR_FILENO, page, sizeof page) < 0)
		_exit(3);
	pid_t child = fork();
	if (child == 0) {
		if (has_thread)
			log_start();
		say(LOG_INFO, "the last line before");
		CHECK(1 == 2);
		_exit(0);
	}
	waitpid(child, status, 0);
	give_pipe_back();
	return read_all();
}

static void a_failed_check_is_told_and_ends_the_process(void **state)
{
	int status;

	(void)state;
	for (int has_thread = 0; has_thread < 2; has_thread++) {
		char *all = say_of_a_crash(has_thread, false, &status);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
		assert_non_null(strstr(all, "CHECK failed: 1 == 2 at "));
		assert_non_null(strstr(all, "event=crash"));
		assert_non_null(strstr(all, "the last line before"));
		free(all);
	}
}

static void a_failed_check_ends_the_process_even_if_nobody_reads(void **state)
{
	int status;

	(void)state;
	for (int has_thread = 0; has_thread < 2; has_thread++) {
		uint64_t from = now_ms();
		free(say_of_a_crash(has_thread, true, &status));
		assert_true(now_ms() - from < DEADLINE_MS);
		assert_true(WIFSIGNALED(status));
	}
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
		TEST(levels_are_found_by_their_names_in_any_case),
		TEST(printable_ascii_but_the_backslash_stays_as_it_is),
		TEST(every_other_byte_is_written_in_hex),
		TEST(a_client_cannot_forge_a_line),
		TEST(an_argument_is_not_taken_for_a_format),
		TEST(a_longer_sentence_is_cut_and_its_fields_are_still_there),
		TEST(no_byte_in_hex_is_cut_in_two),
		TEST(an_empty_text_is_a_line_too),
		TEST(a_standard_error_that_is_closed_does_no_harm),
		TEST(fields_come_behind_the_sentence),
		TEST(a_value_cannot_look_like_another_field),
		TEST(a_long_value_is_cut_and_what_does_not_fit_is_left_out),
		TEST(all_lines_are_written_by_the_time_it_is_stopped),
		TEST(nobody_waits_for_a_reader_that_does_not_read),
		TEST(what_is_held_back_is_told_without_another_line),
		TEST(a_stderr_that_cannot_be_written_keeps_nobody),
		TEST(lines_of_before_the_start_wait_a_moment_and_no_longer),
		TEST(a_failed_check_is_told_and_ends_the_process),
		TEST(a_failed_check_ends_the_process_even_if_nobody_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
