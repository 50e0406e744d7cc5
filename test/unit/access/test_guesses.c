/* test_guesses.c - what src/access/guesses.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "access/guesses.h"

static int clear(void **state)
{
	(void)state;
	guesses_clear();
	return 0;
}

static void each_address_is_counted_by_itself(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 100; i++) {
		assert_int_equal(guesses_note("192.0.2.1", 1000 + i), i);
		assert_int_equal(guesses_note("192.0.2.2", 1000 + i), i);
	}
}

static void an_ipv6_customer_is_one(void **state)
{
	(void)state;
	assert_int_equal(guesses_note("2001:db8:1:2::1", 1), 1);
	assert_int_equal(guesses_note("2001:db8:1:2:ffff::9", 1), 2);
	assert_int_equal(guesses_note("2001:db8:1:3::1", 1), 1);
}

static void a_unix_socket_is_nobody(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(guesses_note("", 1), 0);
}

static void who_was_silent_begins_anew(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 50; i++)
		assert_int_equal(
			guesses_note("192.0.2.1", i * GUESSES_FORGET_MS), i);
	assert_int_equal(guesses_note("192.0.2.1", 51 * GUESSES_FORGET_MS + 1),
			 1);
}

/* However many addresses there are, the table stays as it is, and who goes on
 * guessing stays known. */
static void others_do_not_push_out_who_goes_on(void **state)
{
	unsigned known = 0;
	char peer[32];

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(peer, sizeof peer, "10.%u.%u.%u", i >> 16,
			 i >> 8 & 255, i & 255);
		assert_int_equal(guesses_note(peer, i), 1);
		if (i % 8 == 0)
			known = guesses_note("192.0.2.1", i);
	}
	assert_true(known > GUESSES_FREE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_address_is_counted_by_itself,
				       clear),
		cmocka_unit_test_setup(an_ipv6_customer_is_one, clear),
		cmocka_unit_test_setup(a_unix_socket_is_nobody, clear),
		cmocka_unit_test_setup(who_was_silent_begins_anew, clear),
		cmocka_unit_test_setup(others_do_not_push_out_who_goes_on,
				       clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
