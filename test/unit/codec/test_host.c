/* test_host.c - what src/codec/host.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/host.h"

static void lists_of_hosts_are_checked(void **state)
{
	static const char *const good[] = {
		"*",         " * ",   "example.com", "a.example, *.b.example",
		"127.0.0.1", "[::1]", "localhost",   "xn--bcher-kva.example"};
	static const char *const bad[] = {"",
					  "*,a.example",
					  "a.example,",
					  "https://a.example",
					  "a.example:80",
					  "a.example/",
					  "::1",
					  "[]",
					  "*.",
					  "a.*",
					  "a b"};

	(void)state;
	assert_int_equal(host_check_list(NULL, NULL), 0);
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(host_check_list(good[i], NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (host_check_list(bad[i], NULL) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void a_host_is_allowed_by_its_name_whatever_its_port(void **state)
{
	static const char list[] = "push.example, *.apps.example, [::1], "
				   "127.0.0.1";
	static const char *const yes[] = {
		"push.example",   "PUSH.Example:3000", "push.example.",
		"a.apps.example", "b.a.apps.example",  "[::1]:3000",
		"127.0.0.1:3000", "127.0.0.1",         "push.example:"};
	static const char *const no[] = {"",
					 "example",
					 "evil.push.example",
					 "apps.example",
					 ".apps.example",
					 "xapps.example",
					 "[::2]",
					 "push.example.evil",
					 "127.0.0.2",
					 "push.example@evil"};

	(void)state;
	assert_int_equal(host_check_list(list, NULL), 0);
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		if (!host_is_allowed(list, span_of(yes[i])))
			fail_msg("\"%s\" is not allowed", yes[i]);
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		if (host_is_allowed(list, span_of(no[i])))
			fail_msg("\"%s\" is allowed", no[i]);
	assert_true(host_is_allowed(list, (struct span){0}));
	assert_true(host_is_allowed("*", span_of("evil")));
	assert_true(host_is_allowed(NULL, span_of("evil")));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_hosts_are_checked),
		cmocka_unit_test(
			a_host_is_allowed_by_its_name_whatever_its_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
