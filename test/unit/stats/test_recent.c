/* test_recent.c - what src/stats/recent.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include <cjson/cJSON.h>

#include "stats/recent.h"

#define WORKERS 2

/* Two workers, and what is kept of them, from the time 0 on. */
struct fixture {
	struct stats stats[WORKERS];
	struct recent *recent;
	uint64_t now_ms;
	cJSON *told;
};

static int setup(void **state)
{
	struct fixture *f;
	const struct stats *stats[WORKERS];

	if (posix_memalign((void **)&f, _Alignof(struct fixture), sizeof *f) !=
	    0)
		return 1;
	memset(f, 0, sizeof *f);
	for (unsigned i = 0; i < WORKERS; i++)
		stats[i] = &f->stats[i];
	*state = f;
	return recent_new(&f->recent, stats, WORKERS, 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	recent_free(f->recent);
	cJSON_Delete(f->told);
	free(f);
	return 0;
}

static void take(struct fixture *f, uint64_t after_ms)
{
	f->now_ms += after_ms;
	recent_take(f->recent, f->now_ms);
}

/* What is told `after_ms` later, in f->told. */
static void tell(struct fixture *f, uint64_t after_ms)
{
	struct buf out = {0};

	assert_int_equal(recent_write(f->recent, f->now_ms + after_ms, &out),
			 0);
	cJSON_Delete(f->told);
	f->told = cJSON_ParseWithLength(out.bytes, out.len);
	assert_non_null(f->told);
	buf_fini(&out);
}

/* Of what was told, the figure of the newest sample but `back`. */
static cJSON *figure(struct fixture *f, const char *name, int back)
{
	cJSON *all = cJSON_GetObjectItemCaseSensitive(f->told, name);

	return cJSON_GetArrayItem(all, cJSON_GetArraySize(all) - 1 - back);
}

static void assert_figure(struct fixture *f, const char *name, double wanted)
{
	double found = figure(f, name, 0)->valuedouble;

	assert_true(found > wanted * 0.9999 - 1e-12 &&
		    found < wanted * 1.0001 + 1e-12);
}

static void at_first_nothing_is_known(void **state)
{
	struct fixture *f = *state;

	tell(f, 0);
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItem(f->told, "age")), 0);
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItem(f->told, "lag")),
		WORKERS);
}

static void what_counts_up_is_told_a_second(void **state)
{
	struct fixture *f = *state;

	take(f, 2000);
	stats_add(&f->stats[0], STATS_published, 10);
	stats_add(&f->stats[1], STATS_published, 20);
	stats_add(&f->stats[1], STATS_delivered, 100);
	stats_add(&f->stats[0], STATS_bytes_out, 5000);
	stats_add(&f->stats[0], STATS_bytes_in, 500);
	take(f, 2500); /* a late one */
	tell(f, 1500);
	assert_figure(f, "age", 1.5);
	assert_figure(f, "publications", 30 / 2.5);
	assert_figure(f, "deliveries", 100 / 2.5);
	assert_figure(f, "sent", 2000);
	assert_figure(f, "received", 200);
	assert_true(figure(f, "publications", 1)->valuedouble == 0);
}

static void gauges_are_those_of_all_workers(void **state)
{
	struct fixture *f = *state;

	stats_set_gauge(&f->stats[0], STATS_GAUGE_websocket, 3);
	stats_set_gauge(&f->stats[1], STATS_GAUGE_event_stream, 4);
	stats_set_gauge(&f->stats[0], STATS_GAUGE_buffered_bytes, 1000);
	stats_set_gauge(&f->stats[1], STATS_GAUGE_buffered_bytes, 2000);
	stats_set_gauge(&f->stats[0], STATS_GAUGE_buffered_worst_bytes, 900);
	stats_set_gauge(&f->stats[1], STATS_GAUGE_buffered_worst_bytes, 800);
	stats_set_gauge(&f->stats[0], STATS_GAUGE_loop_lag_us, 1500);
	stats_set_gauge(&f->stats[1], STATS_GAUGE_loop_lag_us, 60000000);
	take(f, 2000);
	tell(f, 0);
	assert_figure(f, "subscribers", 7);
	assert_figure(f, "buffered", 3000);
	assert_figure(f, "buffered_worst", 900);
	cJSON *lag = cJSON_GetObjectItem(f->told, "lag");
	assert_true(cJSON_GetArrayItem(cJSON_GetArrayItem(lag, 0), 0)
			    ->valuedouble == 0.0015);
	/* As much as there is room for. */
	assert_true(cJSON_GetArrayItem(cJSON_GetArrayItem(lag, 1), 0)
			    ->valuedouble == 6.5535);
}

static void percentiles_are_of_the_time_since_the_sample_before(void **state)
{
	struct fixture *f = *state;

	histogram_add(&f->stats[0].delivery, 9000000, 1000);
	take(f, 2000);
	histogram_add(&f->stats[0].delivery, 200, 50);  /* in (100, 250] */
	histogram_add(&f->stats[1].delivery, 2000, 50); /* in (1000, 2500] */
	take(f, 2000);
	tell(f, 0);
	assert_figure(f, "latency_p50", 0.00025);
	assert_figure(f, "latency_p99", 0.00247);
	histogram_add(&f->stats[1].delivery, 99000000, 1);
	take(f, 2000);
	tell(f, 0);
	assert_figure(f, "latency_p99", 10); /* or more */
	take(f, 2000);
	tell(f, 0);
	assert_true(cJSON_IsNull(figure(f, "latency_p50", 0)));
	assert_true(cJSON_IsNull(figure(f, "latency_p99", 0)));
}

static void no_two_samples_are_nearer_than_a_step(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 12; i++)
		take(f, 500);
	tell(f, 0);
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItem(f->told, "age")), 3);
}

static void only_the_last_ten_minutes_are_kept(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 2 * RECENT_SAMPLES + 7; i++) {
		stats_set_gauge(&f->stats[0], STATS_GAUGE_websocket,
				(uint64_t)i);
		take(f, RECENT_STEP_MS);
	}
	tell(f, 0);
	assert_int_equal(
		cJSON_GetArraySize(cJSON_GetObjectItem(f->told, "age")),
		RECENT_SAMPLES);
	assert_figure(f, "subscribers", 2 * RECENT_SAMPLES + 7);
	assert_true(figure(f, "subscribers", RECENT_SAMPLES - 1)->valuedouble ==
		    RECENT_SAMPLES + 8);
	assert_true(figure(f, "age", RECENT_SAMPLES - 1)->valuedouble ==
		    RECENT_STEP_MS / 1000.0 * (RECENT_SAMPLES - 1));
}

/* --- while another thread takes ------------------------------------------- */

static void write_all_the_time(void *user)
{
	struct fixture *f = user;
	struct buf out = {0};

	for (int i = 0; i < 200; i++) {
		out.len = 0;
		if (recent_write(f->recent, 0, &out) != 0)
			break;
	}
	buf_fini(&out);
}

static void it_is_told_while_it_is_taken(void **state)
{
	struct fixture *f = *state;
	uv_thread_t reader;

	assert_int_equal(uv_thread_create(&reader, write_all_the_time, f), 0);
	for (int i = 0; i < 5000; i++)
		take(f, RECENT_STEP_MS);
	uv_thread_join(&reader);
	tell(f, 0);
	assert_figure(f, "age", 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(at_first_nothing_is_known),
		TEST(what_counts_up_is_told_a_second),
		TEST(gauges_are_those_of_all_workers),
		TEST(percentiles_are_of_the_time_since_the_sample_before),
		TEST(no_two_samples_are_nearer_than_a_step),
		TEST(only_the_last_ten_minutes_are_kept),
		TEST(it_is_told_while_it_is_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
