/* test_stats.c - what src/stats/stats.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "stats/stats.h"

#define ADDITIONS 200000

static void zeroed_memory_has_counted_nothing(void **state)
{
	static const struct stats s;

	(void)state;
	for (unsigned i = 0; i < STATS_COUNT; i++)
		assert_int_equal(stats_get(&s, i), 0);
}

static void each_counter_counts_for_itself(void **state)
{
	struct stats s = {0};

	(void)state;
	for (unsigned i = 0; i < STATS_COUNT; i++) {
		stats_add(&s, i, i + 1);
		stats_add(&s, i, 1000);
	}
	for (unsigned i = 0; i < STATS_COUNT; i++)
		assert_int_equal(stats_get(&s, i), 1001 + i);
}

static void a_counter_goes_past_32_bits(void **state)
{
	struct stats s = {0};

	(void)state;
	stats_add(&s, STATS_bytes_out, UINT32_MAX);
	stats_add(&s, STATS_bytes_out, 2);
	assert_int_equal(stats_get(&s, STATS_bytes_out), UINT64_C(1) << 32 | 1);
}

static void each_counter_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STATS_COUNT; i++) {
		assert_non_null(stats_counters[i].name);
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(stats_counters[i].name,
						stats_counters[j].name);
	}
}

static void the_names_are_those_of_the_tables(void **state)
{
	(void)state;
	assert_string_equal(stats_counters[STATS_accepted].name, "accepted");
	assert_string_equal(stats_counters[STATS_auth_failed].name,
			    "auth_failed");
	assert_string_equal(stats_counters[STATS_closed_done].name,
			    "closed_done");
	assert_string_equal(stats_counters[STATS_closed_slow].name,
			    "closed_slow");
	assert_string_equal(stats_counters[STATS_closed_no_memory].name,
			    "closed_no_memory");
	assert_string_equal(stats_counters[STATS_http_101].name, "http_101");
	assert_string_equal(stats_counters[STATS_COUNT - 1].name, "http_505");
}

static void two_threads_counters_share_no_cache_line(void **state)
{
	static struct stats two[2];

	(void)state;
	assert_int_equal((uintptr_t)&two[0] % 64, 0);
	assert_int_equal((uintptr_t)&two[1] % 64, 0);
}

static void count(void *arg)
{
	struct stats *s = arg;

	for (int i = 0; i < ADDITIONS; i++)
		stats_add(s, STATS_writes, 1);
}

static void a_reader_on_another_thread_sees_the_count_only_rise(void **state)
{
	struct stats s = {0};
	uv_thread_t thread;
	uint64_t before = 0;
	uint64_t now = 0;
	unsigned falls = 0;

	(void)state;
	assert_int_equal(uv_thread_create(&thread, count, &s), 0);
	while (now < ADDITIONS) {
		now = stats_get(&s, STATS_writes);
		falls += now < before;
		before = now;
	}
	uv_thread_join(&thread);
	assert_int_equal(falls, 0);
	assert_int_equal(stats_get(&s, STATS_writes), ADDITIONS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_memory_has_counted_nothing),
		cmocka_unit_test(each_counter_counts_for_itself),
		cmocka_unit_test(a_counter_goes_past_32_bits),
		cmocka_unit_test(each_counter_has_a_name_of_its_own),
		cmocka_unit_test(the_names_are_those_of_the_tables),
		cmocka_unit_test(two_threads_counters_share_no_cache_line),
		cmocka_unit_test(
			a_reader_on_another_thread_sees_the_count_only_rise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
