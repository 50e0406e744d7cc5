/* test_config_sources.c - listeners, the password, showing (config.h) */
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

#define TEST_FILE(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(void)
{
	static const struct CMUnitTest tests[] = {
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
