/* test_histogram.c - what src/base/histogram.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

#include "base/histogram.h"

#define ADDITIONS 100000

static uint64_t count(const struct histogram *h, unsigned i)
{
	return atomic_load(&h->counts[i]);
}

static uint64_t total(const struct histogram *h)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
		sum += count(h, i);
	return sum;
}

static void zeroed_memory_is_empty(void **state)
{
	static const struct histogram h;

	(void)state;
	assert_int_equal(total(&h), 0);
	assert_int_equal(atomic_load(&h.sum_us), 0);
}

static void bounds_rise_from_100_us_to_10_s(void **state)
{
	(void)state;
	assert_int_equal(histogram_bounds_us[0], 100);
	assert_int_equal(histogram_bounds_us[HISTOGRAM_BOUNDS - 1], 10000000);
	for (unsigned i = 1; i < HISTOGRAM_BOUNDS; i++)
		assert_true(histogram_bounds_us[i] >
			    histogram_bounds_us[i - 1]);
}

static void a_bound_belongs_to_what_it_ends(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		struct histogram h = {0};
		histogram_add(&h, histogram_bounds_us[i], 1);
		assert_int_equal(count(&h, i), 1);
		histogram_add(&h, histogram_bounds_us[i] + 1, 1);
		assert_int_equal(count(&h, i + 1), 1);
		assert_int_equal(total(&h), 2);
	}
}

static void nothing_is_too_short_or_too_long(void **state)
{
	struct histogram h = {0};

	(void)state;
	histogram_add(&h, 0, 1);
	histogram_add(&h, UINT64_MAX / 2, 1);
	assert_int_equal(count(&h, 0), 1);
	assert_int_equal(count(&h, HISTOGRAM_BOUNDS), 1);
	assert_int_equal(atomic_load(&h.sum_us), UINT64_MAX / 2);
}

static void many_at_once_are_as_many_one_by_one(void **state)
{
	struct histogram once = {0};
	struct histogram often = {0};

	(void)state;
	histogram_add(&once, 700, 1000);
	for (int i = 0; i < 1000; i++)
		histogram_add(&often, 700, 1);
	assert_memory_equal(&once, &often, sizeof once);
	assert_int_equal(atomic_load(&once.sum_us), 700000);
}

static void add_many(void *arg)
{
	for (uint64_t i = 0; i < ADDITIONS; i++)
		histogram_add(arg, i * 37 % 20000000, 1);
}

static void a_reader_sees_it_only_grow(void **state)
{
	struct histogram h = {0};
	uv_thread_t writer;
	uint64_t before = 0;

	(void)state;
	assert_int_equal(uv_thread_create(&writer, add_many, &h), 0);
	while (before < ADDITIONS / 2) {
		uint64_t now = total(&h);
		assert_true(now >= before && now <= ADDITIONS);
		before = now;
	}
	uv_thread_join(&writer);
	assert_int_equal(total(&h), ADDITIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_memory_is_empty),
		cmocka_unit_test(bounds_rise_from_100_us_to_10_s),
		cmocka_unit_test(a_bound_belongs_to_what_it_ends),
		cmocka_unit_test(nothing_is_too_short_or_too_long),
		cmocka_unit_test(many_at_once_are_as_many_one_by_one),
		cmocka_unit_test(a_reader_sees_it_only_grow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
