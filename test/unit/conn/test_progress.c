/* test_progress.c - whoever takes what it is sent has the time it needs, and
 * whoever does not is given up (src/conn/progress.c, and the deadlines). */
#include "app.h"

#define LONG_BYTES 300000 /* what kernel buffers of SMALL_BYTES don't hold */
#define SIP_BYTES  4000
#define SIP_MS     5
/* Between two sips of a reader that is to be seen as one by a deadline: a busy
 * machine may keep us from both for longer than a short one. */
#define REST_MS  10
#define SHORT_MS 150
#define LONG_MS  600 /* several deadlines */

static struct app *with_duration(enum deadline_kind kind, uint64_t ms)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 1000000;
	limits.durations_ms[kind] = ms;
	return app_new(&limits);
}

/* One that has stopped reading, behind the head of the answer. */
static struct client *open_lazy(struct app *a, const char *request)
{
	return app_ask(a, connect_lazy_client(&a->l), request);
}

static void send_long(struct app *a)
{
	app_send_text(a->conn, LONG_BYTES);
}

/* Reads a little; returns whether anything came. */
static bool sip(struct app *a, struct client *c)
{
	char bytes[SIP_BYTES];

	turn_for(&a->l, SIP_MS);
	ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
	if (n > 0)
		assert_int_equal(buf_append(&c->in, bytes, (size_t)n), 0);
	else if (n == 0 || errno != EAGAIN)
		c->is_over = true;
	return n > 0;
}

/* Reads slowly until `bytes` more have come. Returns the milliseconds. */
static uint64_t sip_all(struct app *a, struct client *c, size_t bytes)
{
	uint64_t from_ns = uv_hrtime();
	size_t until = c->in.len + bytes;

	while (c->in.len < until) {
		sip(a, c);
		turn_for(&a->l, REST_MS);
		assert_false(c->is_over);
		assert_true(uv_hrtime() - from_ns < WAIT_MS * 1000000ULL);
	}
	return (uv_hrtime() - from_ns) / 1000000;
}

/* --- time ----------------------------------------------------------------- */

static void an_answer_that_is_read_slowly_arrives(void **state)
{
	struct app *a = with_duration(DEADLINE_WRITE, SHORT_MS);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/huge"));
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
	app_free(a);
}

static void the_last_answer_of_a_connection_too(void **state)
{
	struct app *a = with_duration(DEADLINE_WRITE, SHORT_MS);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	a->is_last = true;
	send_text(c, GET("/huge"));
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	app_free(a);
}

static void a_stream_that_is_read_slowly_goes_on(void **state)
{
	struct app *a = with_duration(DEADLINE_PING, SHORT_MS);
	struct client *c = open_lazy(a, GET("/stream"));
	(void)state;

	send_long(a);
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	assert_int_equal(count_in(&a->l, CONN_EVENT_STREAM), 1);
	app_free(a);
}

static void a_websocket_that_is_behind_need_not_answer_pings(void **state)
{
	struct app *a = with_duration(DEADLINE_PING, SHORT_MS);
	struct client *c = open_lazy(a, UPGRADE("/ws"));
	(void)state;

	send_long(a);
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	/* Once it has got the pings, it has to. */
	c->reads = true;
	WAIT_UNTIL(&a->l, ended(&a->l, STATS_closed_ping_timeout) == 1);
	app_free(a);
}

static void a_websocket_that_stops_reading_is_given_up(void **state)
{
	struct app *a = with_duration(DEADLINE_PING, 40);
	(void)state;

	open_lazy(a, UPGRADE("/ws"));
	send_long(a);
	WAIT_UNTIL(&a->l, ended(&a->l, STATS_closed_ping_timeout) == 1);
	app_free(a);
}

static void close_arrives_behind_what_is_read_slowly(void **state)
{
	struct app *a = with_duration(DEADLINE_CLOSE, SHORT_MS);
	struct client *c = open_lazy(a, UPGRADE("/ws"));
	struct frame frame;
	(void)state;

	send_long(a);
	turn(&a->l);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	c->reads = true;
	WAIT_UNTIL(&a->l, next_frame(c, &frame));
	assert_int_equal(frame.payload.len, LONG_BYTES);
	WAIT_UNTIL(&a->l, next_frame(c, &frame));
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, 1001);
	app_free(a);
}

static void the_last_block_arrives_behind_what_is_read_slowly(void **state)
{
	struct app *a = with_duration(DEADLINE_CLOSE, SHORT_MS);
	struct client *c = open_lazy(a, GET("/stream"));
	(void)state;

	send_long(a);
	turn(&a->l);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	assert_true(sip_all(a, c, LONG_BYTES) > LONG_MS);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(count_of(c, "\"code\":1001"), 1);
	app_free(a);
}

static void whoever_stops_reading_is_not_waited_for(void **state)
{
	struct app *a = with_duration(DEADLINE_CLOSE, 50);
	(void)state;

	open_lazy(a, UPGRADE("/ws"));
	send_long(a);
	turn(&a->l);
	uint64_t from_ms = uv_now(&a->l.loop);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_true(uv_now(&a->l.loop) - from_ms >= 50);
	app_free(a);
}

/* --- room ----------------------------------------------------------------- */

static void one_message_alone_is_never_too_much(void **state)
{
	static const char *const requests[] = {UPGRADE("/ws"), GET("/stream")};
	struct conn_limits limits = roomy_limits;
	(void)state;

	limits.buffered_max_bytes = 10000;
	for (int i = 0; i < 2; i++) {
		struct app *a = app_new(&limits);
		struct client *c = open_lazy(a, requests[i]);
		send_long(a);
		turn(&a->l);
		conn_send_text(a->conn, SPAN("behind it"));
		sip_all(a, c, LONG_BYTES);
		c->reads = true;
		WAIT_UNTIL(&a->l, count_of(c, "behind it") == 1);
		assert_non_null(a->conn);
		app_free(a);
	}
}

/* --- speed ---------------------------------------------------------------- */

static struct app *app_with_floor(uint64_t speed_min)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 1000000;
	limits.speed_min = speed_min;
	limits.speed_window_ms = 100;
	return app_new(&limits);
}

/* For some windows, or until it is over. */
static void sip_and_be_judged(struct app *a, struct client *c)
{
	for (int i = 0; i < 60 && !c->is_over && a->conn != NULL; i++) {
		sip(a, c);
		conn_group_judge_speed(a->l.group);
	}
}

static void one_that_is_slower_than_the_floor_ends(void **state)
{
	struct app *a = app_with_floor(100000000);
	struct client *c = open_lazy(a, UPGRADE("/ws"));
	(void)state;

	send_long(a);
	sip_and_be_judged(a, c);
	assert_null(a->conn);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	app_free(a);
}

static void one_that_is_faster_does_not(void **state)
{
	struct app *a = app_with_floor(1000);
	struct client *c = open_lazy(a, UPGRADE("/ws"));
	(void)state;

	send_long(a);
	sip_and_be_judged(a, c);
	assert_non_null(a->conn);
	app_free(a);
}

/* Whoever has nothing to take cannot be slow. */
static void nor_does_one_that_has_taken_all(void **state)
{
	struct app *a = app_with_floor(100000000);
	struct client *c = open_lazy(a, UPGRADE("/ws"));
	(void)state;

	c->reads = true;
	for (int i = 0; i < 10; i++) {
		conn_send_text(a->conn, SPAN("little"));
		turn_for(&a->l, 30);
		conn_group_judge_speed(a->l.group);
	}
	assert_non_null(a->conn);
	app_free(a);
}

static void an_answer_that_is_read_too_slowly_ends_too(void **state)
{
	struct app *a = app_with_floor(100000000);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/huge"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	sip_and_be_judged(a, c);
	assert_null(a->conn);
	app_expect_ending(a, STATS_closed_slow);
	app_free(a);
}

/* --- memory --------------------------------------------------------------- */

/* Two streams with as much to write: one reads slowly, the other does not. The
 * memory that is used is `percent` of the limit, for `at_least_ms` and until
 * one is ended. */
static void spare_who_reads(size_t percent, uint64_t at_least_ms)
{
	struct app *a = app_new(&roomy_limits);
	struct client *lazy = open_lazy(a, GET("/stream"));

	send_long(a);
	struct client *slow = open_lazy(a, GET("/stream"));
	struct conn *conn = a->conn;
	send_long(a);
	turn(&a->l);
	uint64_t from_ns = uv_hrtime();
	size_t now = 85;
	while (ended(&a->l, STATS_closed_slow) == 0 ||
	       uv_hrtime() - from_ns < at_least_ms * 1000000) {
		assert_true(uv_hrtime() - from_ns < WAIT_MS * 1000000ULL);
		turn_for(&a->l, 300);
		for (int i = 0; i < 4; i++)
			sip(a, slow);
		set_memory_limit(settled_memory_used() / now * 100);
		conn_group_relieve(a->l.group);
		set_memory_limit(0);
		now = percent;
	}
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	assert_ptr_equal(a->conn, conn);
	lazy->reads = true;
	WAIT_UNTIL(&a->l, lazy->is_over);
	app_free(a);
}

/* A write of 64 KiB takes such a reader longer than a laggard is given. */
static void tight_memory_spares_who_reads_slowly(void **state)
{
	(void)state;
	spare_who_reads(85, 4000);
}

static void scarce_memory_costs_those_first_that_do_not_read(void **state)
{
	(void)state;
	spare_who_reads(91, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_that_is_read_slowly_arrives),
		cmocka_unit_test(the_last_answer_of_a_connection_too),
		cmocka_unit_test(a_stream_that_is_read_slowly_goes_on),
		cmocka_unit_test(
			a_websocket_that_is_behind_need_not_answer_pings),
		cmocka_unit_test(a_websocket_that_stops_reading_is_given_up),
		cmocka_unit_test(close_arrives_behind_what_is_read_slowly),
		cmocka_unit_test(
			the_last_block_arrives_behind_what_is_read_slowly),
		cmocka_unit_test(whoever_stops_reading_is_not_waited_for),
		cmocka_unit_test(one_message_alone_is_never_too_much),
		cmocka_unit_test(one_that_is_slower_than_the_floor_ends),
		cmocka_unit_test(one_that_is_faster_does_not),
		cmocka_unit_test(nor_does_one_that_has_taken_all),
		cmocka_unit_test(an_answer_that_is_read_too_slowly_ends_too),
		cmocka_unit_test(tight_memory_spares_who_reads_slowly),
		cmocka_unit_test(
			scarce_memory_costs_those_first_that_do_not_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
