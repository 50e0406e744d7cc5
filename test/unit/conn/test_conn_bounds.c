/* test_conn_bounds.c - slow peers, the budget, the group (conn.h) */
#include "app.h"
#include "oom.h"

#define SLOW_TO_END 60 /* connections; each takes 1 ms to end */

/* --- a WebSocket that is too slow ----------------------------------------- */

/* Takes frames up to Close; each must be whole and of `len` bytes. Returns how
 * many came. */
static unsigned take_up_to_close(struct app *a, struct client *c, size_t len,
				 unsigned code)
{
	struct frame frame;

	for (unsigned count = 0;; count++) {
		app_wait_for_frame(a, c, &frame);
		if (frame.opcode == OP_CLOSE) {
			assert_int_equal(frame.code, code);
			assert_int_equal(c->at, c->in.len);
			return count;
		}
		assert_int_equal(frame.opcode, OP_TEXT);
		assert_int_equal(frame.payload.len, len);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(frame.payload.bytes[i],
					 'a' + (char)(count % 26));
	}
}

static void one_over_the_limit_gets_whole_frames_and_then_1013(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_lazy_websocket(a);
	unsigned sent = 0;

	while (a->conn != NULL && sent < 10000) {
		app_send_filling(a->conn, 1000, 'a' + (char)(sent++ % 26));
		if (sent % 7 == 0)
			turn(&a->l);
	}
	assert_true(sent < 10000);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	c->reads = true;
	unsigned got = take_up_to_close(a, c, 1000, 1013);
	assert_true(got > 0 && got < sent);
	send_frame(c, OP_CLOSE, SPAN("\x03\xf5"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	close_client(c);
	app_expect_ending(a, STATS_closed_slow);
}

static void one_over_the_limit_behind_what_is_in_flight_gets_1013(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 10000;
	struct app *a = app_new(&limits);
	struct client *c = app_open_lazy_websocket(a);
	(void)state;

	/* Behind a frame that is being written, however long that is. */
	app_send_filling(a->conn, 300000, 'a');
	turn(&a->l);
	app_send_filling(a->conn, 9000, 'b');
	turn(&a->l);
	assert_non_null(a->conn);
	app_send_filling(a->conn, 9000, 'c');
	turn(&a->l);
	assert_null(a->conn);
	c->reads = true;
	assert_int_equal(take_up_to_close(a, c, 300000, 1013), 1);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	app_free(a);
}

static void a_burst_over_the_limit_is_fine_for_one_that_reads(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 10000;
	struct app *a = app_new(&limits);
	struct client *c = app_open_websocket(a);
	struct frame frame;
	(void)state;

	for (int i = 0; i < 20; i++)
		app_send_filling(a->conn, 1000, 'x');
	app_send_filling(a->conn, 30000, 'x');
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	for (int i = 0; i < 21; i++)
		app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.payload.len, 30000);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

static void a_burst_of_pings_is_fine_for_one_that_reads(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 1000;
	struct app *a = app_new(&limits);
	struct client *c = app_open_websocket(a);
	struct buf b = {0};
	char payload[100] = {0};
	struct frame frame;
	(void)state;

	for (int i = 0; i < 100; i++)
		put_frame(&b, OP_PING, (struct span){payload, sizeof payload});
	send_buf(c, &b);
	for (int i = 0; i < 100; i++) {
		app_wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PONG);
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

static void many_small_frames_count_for_more_than_their_bytes(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_lazy_websocket(a);
	unsigned sent = 1;

	app_send_filling(a->conn, 60000, 'a');
	turn(&a->l);
	while (a->conn != NULL && sent < 10000) {
		app_send_filling(a->conn, 1, 'b');
		turn(&a->l);
		sent++;
	}
	/* Of 3 bytes each; the limit is 262144. */
	assert_in_range(sent, 4000, 9000);
	c->reads = true;
	take_up_to_close(a, c, 60000, 1013);
}

static void pongs_that_are_not_read_count_too(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_lazy_websocket(a);
	struct buf b = {0};
	char payload[100] = {0};

	for (int i = 0; i < 100; i++)
		put_frame(&b, OP_PING, (struct span){payload, sizeof payload});
	for (int i = 0; i < WAIT_MS && a->conn != NULL; i++) {
		send_bytes(c, b.bytes, b.len);
		turn(&a->l);
	}
	buf_fini(&b);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	assert_true(queued_bytes(&a->l) <= 262144);
	c->reads = true;
	struct frame frame = {0};
	while (frame.opcode != OP_CLOSE)
		app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.code, 1013);
}

static void one_that_is_doomed_as_slow_ends_as_slow(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_lazy_websocket(a);
	struct conn *conn = a->conn;

	for (int i = 0; i < 1000; i++)
		app_send_filling(conn, 1000, 'a' + (char)(i % 26));
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	conn_group_end_all(a->l.group); /* before the flush */
	c->reads = true;
	take_up_to_close(a, c, 1000, 1013);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
}

/* --- the budget of memory ------------------------------------------------- */

static void large_content_does_not_stay_with_the_connection(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	char content[60000] = {0};
	size_t before;

	send_text(c, GET("/"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	before = settled_memory_used();
	send_text(c, "POST /x HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 60000\r\n\r\n");
	send_bytes(c, content, sizeof content / 2);
	WAIT_UNTIL(&a->l, settled_memory_used() > before + 20000);
	send_bytes(c, content, sizeof content / 2);
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_true(settled_memory_used() < before + 10000);
}

static void memory_is_relieved_of_the_worst_laggards(void **state)
{
	static const size_t lens[] = {60000, 200000, 60000};
	struct app *a = app_new(&roomy_limits);
	struct client *clients[3];
	struct conn *conns[3];
	size_t used;
	(void)state;

	for (int i = 0; i < 3; i++) {
		clients[i] = app_open_lazy_websocket(a);
		conns[i] = a->conn;
		app_send_filling(conns[i], 50000, 'a');
		turn(&a->l);
		app_send_filling(conns[i], lens[i], 'b');
	}
	/* SCARCE, but not even TIGHT without the longest. */
	used = settled_memory_used();
	set_memory_limit(used / 91 * 100);
	conn_group_relieve(a->l.group);
	set_memory_limit(0);
	assert_int_equal(conn_state(conns[0]), CONN_WEBSOCKET);
	assert_int_equal(conn_state(conns[1]), CONN_CLOSING);
	assert_int_equal(conn_state(conns[2]), CONN_WEBSOCKET);
	clients[1]->reads = true;
	assert_int_equal(take_up_to_close(a, clients[1], 50000, 1013), 1);
	app_free(a);
}

static void where_memory_is_full_none_may_begin_a_message(void **state)
{
	struct app *a = app_new(&roomy_limits);
	struct client *modest = app_open_websocket(a);
	struct client *greedy = app_open_websocket(a);
	struct frame frame;
	(void)state;

	size_t used = settled_memory_used();
	set_memory_limit(used - 100);
	assert_int_equal(memory_level(), MEMORY_FULL);
	send_frame(modest, OP_PING, SPAN("x"));
	app_wait_for_frame(a, modest, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	send_bytes(greedy, "\x81\xfe\xff\xff\0\0\0\0some", 12);
	app_expect_close(a, greedy, 1011);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	assert_int_equal(settled_memory_used(), used);
	set_memory_limit(0);
	app_free(a);
}

static void where_memory_is_full_a_publisher_is_told_so_in_its_content(
	void **state)
{
	static const char content[20000];
	struct app *a = app_new(&roomy_limits);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	conn_trust(a->conn);
	size_t idle = settled_memory_used();
	send_text(c, "POST /two HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 60000\r\n\r\n");
	send_bytes(c, content, sizeof content);
	WAIT_UNTIL(&a->l, settled_memory_used() > idle + 15000);
	set_memory_limit(settled_memory_used() - 100);
	assert_int_equal(memory_level(), MEMORY_FULL);
	send_bytes(c, content, sizeof content);
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "HTTP/1.1 503 ");
	place_of(c, "Retry-After: 1\r\n");
	assert_int_equal(count_in(&a->l, CONN_DISCARDING), 1);
	/* What was collected is free. */
	assert_true(settled_memory_used() < idle + 10000);
	set_memory_limit(idle - 100);
	send_bytes(c, content, sizeof content);
	WAIT_UNTIL(&a->l, count_in(&a->l, CONN_REQUEST) == 1);
	set_memory_limit(0);
	send_text(c, GET("/three"));
	WAIT_UNTIL(&a->l, responses(c) == 3);
	assert_int_equal(a->requests, 2);
	app_free(a);
}

/* --- the group ------------------------------------------------------------ */

static void ending_all_ends_each_in_its_way(void **state)
{
	struct app *a = *state;
	struct client *websocket = app_open_websocket(a);
	struct client *idle = connect_client(&a->l);
	struct client *pending = connect_client(&a->l);
	struct client *writing = connect_lazy_client(&a->l);
	struct client *closing = app_open_websocket(a);

	conn_end(a->conn, CLOSE_REASON_policy, NULL);
	send_text(pending, GET("/later"));
	send_text(writing, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 4);
	turn(&a->l);
	conn_group_end_all(a->l.group);
	conn_group_flush(a->l.group);
	assert_int_equal(a->ends, 5);
	WAIT_UNTIL(&a->l, idle->is_over);
	app_expect_close(a, websocket, 1001);
	app_expect_close(a, closing, 1008);
	WAIT_UNTIL(&a->l, pending->is_over);
	place_of(pending, "HTTP/1.1 503 ");
	place_of(pending, "Connection: close\r\n");
	writing->reads = true;
	WAIT_UNTIL(&a->l, writing->is_over);
	assert_false(writing->is_reset);
	assert_true(writing->in.len > BIG_BYTES);
	send_frame(websocket, OP_CLOSE, SPAN("\x03\xe9"));
	send_frame(closing, OP_CLOSE, SPAN("\x03\xf0"));
	WAIT_UNTIL(&a->l, websocket->is_over && closing->is_over);
	conn_group_end_all(a->l.group); /* again: nothing changes */
	for (unsigned i = 0; i < a->l.clients_count; i++)
		close_client(&a->l.clients[i]);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(ended(&a->l, STATS_closed_going_away), 4);
	assert_int_equal(ended(&a->l, STATS_closed_policy), 1);
}

/* Opens so many that it takes far longer than a round to end them. */
static void open_slow_to_end(struct app *a)
{
	for (unsigned i = 0; i < SLOW_TO_END; i++)
		connect_client(&a->l);
	a->end_takes_ms = 1;
}

static void many_are_ended_in_rounds(void **state)
{
	struct app *a = *state;

	open_slow_to_end(a);
	conn_group_end_all(a->l.group);
	conn_group_flush(a->l.group);
	assert_in_range(a->ends, 1, SLOW_TO_END / 2);
	assert_true(conn_group_is_busy(a->l.group));
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(a->ends, SLOW_TO_END);
	assert_false(conn_group_is_busy(a->l.group));
}

static void many_are_closed_in_rounds(void **state)
{
	struct app *a = *state;

	open_slow_to_end(a);
	conn_group_end_all(a->l.group);
	conn_group_flush(a->l.group);
	conn_group_abort_all(a->l.group);
	conn_group_flush(a->l.group);
	assert_in_range(a->ends, 2, SLOW_TO_END - 1);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(a->ends, SLOW_TO_END);
}

static void a_descriptor_that_is_no_socket_is_refused(void **state)
{
	struct app *a = *state;

	assert_int_not_equal(
		conn_open(a->l.group, (struct accepted){-1, LISTENER_TCP}), 0);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	a->ends--; /* the one that was never accepted */
}

static void parsers_are_used_again(void **state)
{
	struct app *a = *state;

	for (int round = 0; round < 2; round++) {
		struct client *c[30];
		unsigned messages = a->messages;
		for (int i = 0; i < 30; i++) {
			c[i] = app_open_websocket(a);
			send_bytes(c[i], "\x81\x81\0\0", 4);
		}
		turn_for(&a->l, 10);
		for (int i = 0; i < 30; i++)
			send_bytes(c[i], "\0\0x", 3);
		WAIT_UNTIL(&a->l, a->messages == messages + 30);
		for (int i = 0; i < 30; i++)
			close_client(c[i]);
		WAIT_UNTIL(&a->l, a->l.group->count == 0);
	}
}

/* A request, one that is refused, and one that is answered later, while the nth
 * allocation fails. Returns whether one did. */
static bool requests_with_failing_allocation(struct app *a, unsigned nth)
{
	int server;
	int fd;

	tcp_pair(0, &server, &fd);
	struct client *c = add_client(&a->l, fd);
	c->reads = false;
	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Transfer-Encoding: chunked\r\n\r\n"
		     "3\r\nabc\r\n0\r\n\r\n" GET("/later")
			     GET("/two") "nonsense\r\n\r\n");
	oom_fail_at(nth);
	conn_open(a->l.group, (struct accepted){server, LISTENER_TCP});
	for (int i = 0; i < 50; i++) {
		uv_run(&a->l.loop, UV_RUN_NOWAIT);
		if (i == 10 && a->pending_count > 0 && a->pending[0] != NULL)
			app_respond(a->pending[0], SPAN("/first"));
	}
	return oom_end();
}

/* Messages in and out, and Close. */
static bool frames_with_failing_allocation(struct app *a, unsigned nth)
{
	struct client *c = app_open_lazy_websocket(a);
	struct chunk *chunk = app_frame(OP_TEXT, 50000, 'x');
	struct buf frames = {0};

	put_frame(&frames, OP_TEXT, SPAN("one"));
	put_frame(&frames, OP_PING, SPAN("p"));
	put_frame(&frames, OP_TEXT, SPAN("two"));
	send_bytes(c, frames.bytes, frames.len - 2);
	buf_reserve(&a->texts, 100);
	oom_fail_at(nth);
	for (int i = 0; i < 50; i++) {
		uv_run(&a->l.loop, UV_RUN_NOWAIT);
		if (i >= 10 && i < 14 && a->conn != NULL)
			conn_send(a->conn, chunk);
		if (i == 30 && a->conn != NULL)
			conn_end(a->conn, CLOSE_REASON_policy, NULL);
	}
	bool has_failed = oom_end();
	chunk_unref(chunk);
	buf_fini(&frames);
	return has_failed;
}

static void fail_each_allocation_of(bool (*live)(struct app *, unsigned))
{
	unsigned nth = 0;
	bool has_failed;

	do {
		struct app *a = app_new(&roomy_limits);
		struct client *other = app_connect_high(a);
		has_failed = live(a, ++nth);
		send_text(other, GET("/two"));
		WAIT_UNTIL(&a->l, responses(other) == 2);
		a->has_no_memory = true;
		app_free(a);
	} while (has_failed);
	assert_true(nth > 3);
}

static void without_memory_a_connection_ends_and_nothing_else(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	fail_each_allocation_of(requests_with_failing_allocation);
}

static void without_memory_a_websocket_ends_and_nothing_else(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	fail_each_allocation_of(frames_with_failing_allocation);
}

static struct client *connect_pending_websocket(struct app *a)
{
	struct client *c = connect_client(&a->l);
	unsigned count = a->pending_count;

	send_text(c, UPGRADE("/ws-later"));
	WAIT_UNTIL(&a->l, a->pending_count == count + 1);
	return c;
}

static void without_memory_for_the_response_there_is_no_websocket(void **state)
{
	struct app *a = *state;

	OOM_OR_SKIP();
	struct client *first = connect_pending_websocket(a);
	struct client *second = connect_pending_websocket(a);
	oom_fail_at(1000);
	conn_upgrade(a->pending[0], (struct span){0});
	unsigned allocations = 1000 - oom_left_now();
	oom_fail_at(allocations); /* the last one */
	conn_upgrade(a->pending[1], (struct span){0});
	assert_true(oom_end());
	WAIT_UNTIL(&a->l, second->is_over);
	assert_int_equal(second->in.len, 0);
	WAIT_UNTIL(&a->l, responses(first) == 1);
	assert_int_equal(ended(&a->l, STATS_closed_no_memory), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_APP(one_over_the_limit_gets_whole_frames_and_then_1013),
		cmocka_unit_test(
			one_over_the_limit_behind_what_is_in_flight_gets_1013),
		cmocka_unit_test(
			a_burst_over_the_limit_is_fine_for_one_that_reads),
		cmocka_unit_test(a_burst_of_pings_is_fine_for_one_that_reads),
		WITH_APP(many_small_frames_count_for_more_than_their_bytes),
		WITH_APP(pongs_that_are_not_read_count_too),
		WITH_APP(large_content_does_not_stay_with_the_connection),
		cmocka_unit_test(memory_is_relieved_of_the_worst_laggards),
		cmocka_unit_test(where_memory_is_full_none_may_begin_a_message),
		cmocka_unit_test(
			where_memory_is_full_a_publisher_is_told_so_in_its_content),
		WITH_APP(one_that_is_doomed_as_slow_ends_as_slow),
		WITH_APP(ending_all_ends_each_in_its_way),
		WITH_APP(many_are_ended_in_rounds),
		WITH_APP(many_are_closed_in_rounds),
		WITH_APP(a_descriptor_that_is_no_socket_is_refused),
		WITH_APP(parsers_are_used_again),
		cmocka_unit_test(
			without_memory_a_connection_ends_and_nothing_else),
		cmocka_unit_test(
			without_memory_a_websocket_ends_and_nothing_else),
		WITH_APP(without_memory_for_the_response_there_is_no_websocket),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
