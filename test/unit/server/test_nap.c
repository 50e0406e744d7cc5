/* test_nap.c - when the acceptor naps (src/server/nap.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/nap.h"

#define MS 1000000ULL

static void who_comes_alone_does_not_wait(void **state)
{
	struct nap n = {0};
	(void)state;

	for (unsigned i = 1; i <= 100; i++)
		assert_false(nap_is_due(&n, 1, 1000 * MS + 2 * MS * i));
}

static void those_in_quick_succession_are_waited_for(void **state)
{
	struct nap n = {0};
	(void)state;

	assert_false(nap_is_due(&n, 1, 1000 * MS));
	assert_true(nap_is_due(&n, 1, 1000 * MS + MS / 10));
	for (unsigned i = 1; i <= 100; i++)
		assert_true(nap_is_due(&n, 20, 1000 * MS + MS * i));
}

/* A client that connects again when it has its answer. */
static void a_nap_that_found_nobody_is_not_repeated_for_a_while(void **state)
{
	struct nap n = {0};
	unsigned naps = 0;
	(void)state;

	for (unsigned i = 1; i <= 650; i++)
		naps += nap_is_due(&n, 1, 1000 * MS + MS / 10 * i);
	assert_in_range(naps, 5, 15);
}

static void naps_end_with_the_crowd(void **state)
{
	struct nap n = {0};
	(void)state;

	nap_is_due(&n, 1, 1000 * MS);
	assert_true(nap_is_due(&n, 50, 1000 * MS + MS / 2));
	/* After it, the next comes alone, and late. */
	assert_false(nap_is_due(&n, 1, 2000 * MS));
	assert_false(nap_is_due(&n, 1, 3000 * MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_comes_alone_does_not_wait),
		cmocka_unit_test(those_in_quick_succession_are_waited_for),
		cmocka_unit_test(
			a_nap_that_found_nobody_is_not_repeated_for_a_while),
		cmocka_unit_test(naps_end_with_the_crowd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
