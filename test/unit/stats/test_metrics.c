/* test_metrics.c - what src/stats/metrics.h promises. The format itself is
 * checked against a running server (test/integration/test_metrics.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/version.h"
#include "stats/metrics.h"

#include "oom.h"

static struct stats workers[3];
static struct stats acceptor;
static struct buf page;

/* Three workers and an acceptor that have counted nothing. */
static int empty_stats(void **state)
{
	(void)state;
	memset(workers, 0, sizeof workers);
	memset(&acceptor, 0, sizeof acceptor);
	return 0;
}

static int free_page(void **state)
{
	(void)state;
	buf_fini(&page);
	return 0;
}

static struct metrics_source source(unsigned count)
{
	static const struct stats *const all[] = {&workers[0], &workers[1],
						  &workers[2]};
	return (struct metrics_source){.workers = all,
				       .workers_count = count,
				       .acceptor = &acceptor,
				       .topics = 42,
				       .history_bytes = 43000,
				       .replay_bytes = 48000,
				       .forms_bytes = 49000,
				       .idempotency_count = 44,
				       .idempotency_bytes = 45000,
				       .auth_asked = 46,
				       .auth_kept = 47,
				       .auth_queued = 48,
				       .is_draining = 1};
}

static struct histogram acks;

static const _Atomic uint64_t joins[] = {0, 107, 207};
static const char *const join_names[] = {NULL, "start", "silent"};

static const struct metrics_bus bus = {.is_up = true,
				       .sequence = 101,
				       .lag_ms = 1500,
				       .pending_bytes = 102,
				       .records_in = 103,
				       .publications_in = 104,
				       .records_out = 105,
				       .publications_out = 106,
				       .joins = joins,
				       .join_names = join_names,
				       .join_kinds = 3,
				       .epochs = 108,
				       .lost_records = 109,
				       .divergences = 110,
				       .unknown = 111,
				       .resends = 112,
				       .warm_up_ms = 113,
				       .nodes = 3,
				       .acks = &acks};

/* The page anew, as text. */
static const char *write_page(unsigned count)
{
	struct metrics_source s = source(count);

	page.len = 0;
	assert_int_equal(metrics_write(&page, &s), 0);
	assert_int_equal(buf_append(&page, "", 1), 0);
	return page.bytes;
}

static void assert_has_line(const char *text, const char *line)
{
	char whole[256];

	snprintf(whole, sizeof whole, "\n%s\n", line);
	if (strstr(text, whole) == NULL)
		fail_msg("no line %s", line);
}

static void counters_of_all_threads_are_added_up(void **state)
{
	(void)state;
	stats_add(&workers[0], STATS_published, 1);
	stats_add(&workers[1], STATS_published, 20);
	stats_add(&workers[2], STATS_published, 300);
	stats_add(&acceptor, STATS_refused, 7);
	const char *text = write_page(3);
	assert_has_line(text, "isimud_publishes_total{result=\"ok\"} 321");
	assert_has_line(text, "isimud_connections_refused_total 7");
}

static void a_node_tells_of_its_bus(void **state)
{
	struct metrics_source s = source(1);

	(void)state;
	assert_null(strstr(write_page(1), "isimud_bus_"));
	s.bus = &bus;
	histogram_add(&acks, 150, 1);
	histogram_add(&acks, 90000000, 1);
	page.len = 0;
	assert_int_equal(metrics_write(&page, &s), 0);
	assert_int_equal(buf_append(&page, "", 1), 0);
	const char *text = page.bytes;
	assert_has_line(text, "isimud_bus_up 1");
	assert_has_line(text, "isimud_bus_nodes 3");
	assert_has_line(text, "isimud_bus_applied_sequence 101");
	assert_has_line(text, "isimud_bus_lag_seconds 1.500");
	assert_has_line(text, "isimud_bus_warm_up_seconds 0.113");
	assert_has_line(text, "isimud_bus_pending_bytes 102");
	assert_has_line(text, "isimud_bus_records_total{direction=\"in\"} 103");
	assert_has_line(text,
			"isimud_bus_publications_total{direction=\"in\"} 104");
	assert_has_line(text,
			"isimud_bus_records_total{direction=\"out\"} 105");
	assert_has_line(text,
			"isimud_bus_publications_total{direction=\"out\"} 106");
	assert_has_line(text, "isimud_bus_ack_seconds_bucket{le=\"10\"} 1");
	assert_has_line(text, "isimud_bus_ack_seconds_bucket{le=\"+Inf\"} 2");
	assert_has_line(text, "isimud_bus_ack_seconds_sum 90.000150");
	assert_has_line(text, "isimud_bus_ack_seconds_count 2");
	assert_has_line(text, "isimud_bus_joins_total{reason=\"start\"} 107");
	assert_has_line(text, "isimud_bus_joins_total{reason=\"silent\"} 207");
	assert_has_line(text, "isimud_bus_epochs_total 108");
	assert_has_line(text, "isimud_bus_lost_records_total 109");
	assert_has_line(text, "isimud_bus_divergences_total 110");
	assert_has_line(text, "isimud_bus_unknown_total 111");
	assert_has_line(text, "isimud_bus_resends_total 112");
}

static void a_worker_that_is_not_there_is_not_read(void **state)
{
	(void)state;
	stats_add(&workers[0], STATS_delivered, 1);
	stats_add(&workers[1], STATS_delivered, 1);
	assert_has_line(write_page(1), "isimud_deliveries_total 1");
}

static void every_other_counter_has_its_line_too(void **state)
{
	static const char *const names[] = {
		[STATS_accepted] = "connections_accepted_total",
		[STATS_refused] = "connections_refused_total",
		[STATS_accept_paused] = "accept_pauses_total",
		[STATS_requests] = "http_requests_total",
		[STATS_published] = "publishes_total{result=\"ok\"}",
		[STATS_published_bytes] = "published_bytes_total",
		[STATS_publish_denied] = "publishes_total{result=\"denied\"}",
		[STATS_publish_invalid] = "publishes_total{result=\"invalid\"}",
		[STATS_publish_full] = "publishes_total{result=\"full\"}",
		[STATS_subscribed] = "subscribed_total",
		[STATS_delivered] = "deliveries_total",
		[STATS_delivered_bytes] = "delivered_bytes_total",
		[STATS_replayed] = "replayed_total",
		[STATS_resumed] = "resumes_total{result=\"exact\"}",
		[STATS_not_resumed] = "resumes_total{result=\"reset\"}",
		[STATS_replay_lost] = "replay_lost_total",
		[STATS_dropped] = "dropped_total",
		[STATS_publish_repeated] = "publish_repeats_total",
		[STATS_commands] = "commands_total",
		[STATS_command_errors] = "command_errors_total",
		[STATS_password_wrong] = "passwords_wrong_total",
		[STATS_password_late] = "passwords_late_total",
		[STATS_host_refused] = "host_refused_total",
		[STATS_origin_refused] = "origin_refused_total",
		[STATS_bytes_in] = "received_bytes_total",
		[STATS_bytes_out] = "sent_bytes_total",
		[STATS_writes] = "writes_total",
		[STATS_deflated] = "deflated_total",
		[STATS_deflate_bytes_in] =
			"deflate_bytes_total{direction=\"in\"}",
		[STATS_deflate_bytes_out] =
			"deflate_bytes_total{direction=\"out\"}",
		[STATS_inflated] = "inflated_total",
		[STATS_inflate_bytes_in] =
			"inflate_bytes_total{direction=\"in\"}",
		[STATS_inflate_bytes_out] =
			"inflate_bytes_total{direction=\"out\"}",
		[STATS_auth_yes] = "auth_checks_total{result=\"yes\"}",
		[STATS_auth_no] = "auth_checks_total{result=\"no\"}",
		[STATS_auth_failed] = "auth_checks_total{result=\"failed\"}",
		[STATS_auth_known] = "auth_checks_total{result=\"known\"}",
		[STATS_auth_shared] = "auth_checks_total{result=\"shared\"}",
		[STATS_auth_busy] = "auth_checks_total{result=\"busy\"}",
	};

	(void)state;
	assert_int_equal(sizeof names / sizeof names[0], STATS_closed_done);
	for (unsigned c = 0; c < STATS_closed_done; c++)
		stats_add(&workers[c % 3], (enum stats_counter)c, 1000 + c);
	const char *text = write_page(3);
	for (unsigned c = 0; c < STATS_closed_done; c++) {
		char line[256];
		snprintf(line, sizeof line, "isimud_%s %u", names[c], 1000 + c);
		assert_has_line(text, line);
	}
}

static void every_ending_and_every_status_has_its_line(void **state)
{
	uint64_t n = 1000;

	(void)state;
	for (int c = STATS_closed_done; c < STATS_COUNT; c++)
		stats_add(&workers[c % 3], (enum stats_counter)c, n++);
	const char *text = write_page(3);
	n = 1000;
#define HAS_ENDING(name, code, reason)                                         \
	{                                                                      \
		char line[256];                                                \
		snprintf(line, sizeof line,                                    \
			 "isimud_connections_closed_total{reason=\"%s\"} %d",  \
			 #name, (int)n++);                                     \
		assert_has_line(text, line);                                   \
	}
	CLOSE_REASONS(HAS_ENDING)
#define HAS_STATUS(status, phrase)                                             \
	{                                                                      \
		char line[256];                                                \
		snprintf(line, sizeof line,                                    \
			 "isimud_http_responses_total{status=\"%d\"} %d",      \
			 status, (int)n++);                                    \
		assert_has_line(text, line);                                   \
	}
	HTTP_STATUSES(HAS_STATUS)
}

static void gauges_are_shown_for_each_worker(void **state)
{
	(void)state;
	stats_set_gauge(&workers[0], STATS_GAUGE_websocket, 5);
	stats_set_gauge(&workers[1], STATS_GAUGE_websocket, 6);
	stats_set_gauge(&workers[1], STATS_GAUGE_event_stream, 7);
	stats_set_gauge(&workers[1], STATS_GAUGE_buffered_worst_bytes, 1048577);
	stats_set_gauge(&workers[1], STATS_GAUGE_loop_lag_us, 1500);
	const char *text = write_page(2);
	assert_has_line(text, "isimud_connections{kind=\"websocket\",worker="
			      "\"0\"} 5");
	assert_has_line(text, "isimud_connections{kind=\"websocket\",worker="
			      "\"1\"} 6");
	assert_has_line(text, "isimud_connections{kind=\"event_stream\","
			      "worker=\"1\"} 7");
	assert_has_line(text, "isimud_buffered_worst_bytes{worker=\"1\"} "
			      "1048577");
	assert_has_line(text, "isimud_last_loop_lag_seconds{worker=\"1\"} "
			      "0.0015");
	assert_null(strstr(text, "worker=\"2\""));
}

static void large_numbers_are_shown_whole(void **state)
{
	(void)state;
	stats_add(&workers[0], STATS_bytes_out, UINT64_C(12345678901234567890));
	assert_has_line(write_page(1),
			"isimud_sent_bytes_total 12345678901234567890");
}

static void histograms_are_added_up_and_cumulative(void **state)
{
	(void)state;
	histogram_add(&workers[0].auth, 200, 3);      /* le 0.00025 */
	histogram_add(&workers[1].auth, 90, 1);       /* le 0.0001 */
	histogram_add(&workers[1].auth, 3000000, 2);  /* le 5 */
	histogram_add(&workers[2].auth, 20000000, 1); /* more than all */
	const char *text = write_page(3);
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"0.0001\"}"
			      " 1");
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"0.00025\"}"
			      " 4");
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"2.5\"} 4");
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"5\"} 6");
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"10\"} 6");
	assert_has_line(text, "isimud_auth_check_seconds_bucket{le=\"+Inf\"}"
			      " 7");
	assert_has_line(text, "isimud_auth_check_seconds_count 7");
	assert_has_line(text, "isimud_auth_check_seconds_sum 26.000690");
}

static void what_the_server_tells_is_shown(void **state)
{
	(void)state;
	const char *text = write_page(3);
	assert_has_line(text, "isimud_topics 42");
	assert_has_line(text, "isimud_history_bytes 43000");
	assert_has_line(text, "isimud_replay_bytes 48000");
	assert_has_line(text, "isimud_history_forms_bytes 49000");
	assert_has_line(text, "isimud_idempotency_keys 44");
	assert_has_line(text, "isimud_idempotency_bytes 45000");
	assert_has_line(text, "isimud_auth_checks_running 46");
	assert_has_line(text, "isimud_auth_kept 47");
	assert_has_line(text, "isimud_auth_checks_queued 48");
	assert_has_line(text, "isimud_draining 1");
	assert_has_line(text, "isimud_workers 3");
	char build[128];
	snprintf(build, sizeof build,
		 "isimud_build_info{version=\"%s\",revision=\"%s\"} 1", VERSION,
		 version_revision());
	assert_has_line(text, build);
}

static void it_is_appended(void **state)
{
	struct metrics_source s = source(1);

	(void)state;
	page.len = 0;
	assert_int_equal(buf_append(&page, "before\n", 7), 0);
	assert_int_equal(metrics_write(&page, &s), 0);
	assert_memory_equal(page.bytes, "before\n# HELP isimud_", 21);
	assert_int_equal(page.bytes[page.len - 1], '\n');
}

static void without_memory_it_is_enomem(void **state)
{
	struct metrics_source s = source(3);
	int rv = UV_ENOMEM;
	unsigned n = 0;

	(void)state;
	OOM_OR_SKIP();
	for (; rv == UV_ENOMEM && n < 100; n++) {
		buf_fini(&page);
		oom_fail_at(n + 1);
		rv = metrics_write(&page, &s);
		if (!oom_end())
			break;
		assert_true(rv == UV_ENOMEM || rv == 0);
	}
	assert_in_range(n, 3, 99);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, empty_stats, free_page)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(counters_of_all_threads_are_added_up),
		TEST(a_node_tells_of_its_bus),
		TEST(a_worker_that_is_not_there_is_not_read),
		TEST(every_other_counter_has_its_line_too),
		TEST(every_ending_and_every_status_has_its_line),
		TEST(gauges_are_shown_for_each_worker),
		TEST(large_numbers_are_shown_whole),
		TEST(histograms_are_added_up_and_cumulative),
		TEST(what_the_server_tells_is_shown),
		TEST(it_is_appended),
		TEST(without_memory_it_is_enomem),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
