/* test_durations.c - what src/cli/bench/durations.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench/durations.h"

static int make_durations(void **state)
{
	*state = calloc(2, sizeof(struct durations));
	return *state == NULL;
}

static int free_durations(void **state)
{
	free(*state);
	return 0;
}

static void of_none_every_quantile_is_0(void **state)
{
	assert_int_equal(durations_at(*state, 0.5), 0);
}

static void a_quantile_is_right_within_two_percent(void **state)
{
	struct durations *d = *state;

	for (uint64_t power = 0; power < 63; power++)
		for (uint64_t k = 0; k < 8; k++) {
			uint64_t ns = (UINT64_C(1) << power) +
				      ((UINT64_C(1) << power) >> 3) * k;
			memset(d, 0, sizeof *d);
			durations_add(d, ns);
			uint64_t found = durations_at(d, 0.5);
			assert_true(found <= ns);
			assert_true(ns - found <= ns / 60);
			assert_true(d->longest_ns == ns);
		}
}

static void quantiles_of_a_thousand(void **state)
{
	struct durations *d = *state;

	for (uint64_t i = 1; i <= 1000; i++)
		durations_add(d, i * 1000);
	assert_in_range(durations_at(d, 0.5), 490000, 500000);
	assert_in_range(durations_at(d, 0.99), 974000, 990000);
	assert_in_range(durations_at(d, 0.999), 983000, 999000);
	assert_in_range(durations_at(d, 1), 984000, 1000000);
	assert_in_range(durations_at(d, 0), 984, 1000);
}

static void what_is_merged_is_counted_together(void **state)
{
	struct durations *d = *state;

	durations_add(&d[0], 10);
	durations_add(&d[1], 20);
	durations_add(&d[1], 30);
	durations_merge(&d[0], &d[1]);
	assert_int_equal(d[0].count, 3);
	assert_int_equal(d[0].longest_ns, 30);
	assert_int_equal(durations_at(&d[0], 0.5), 20);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, make_durations, free_durations)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(of_none_every_quantile_is_0),
		TEST(a_quantile_is_right_within_two_percent),
		TEST(quantiles_of_a_thousand),
		TEST(what_is_merged_is_counted_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
