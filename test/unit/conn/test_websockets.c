/* test_websockets.c - WebSockets, pings, deadlines, whatever a peer does
 * (conn.h) */
#include "app.h"

/* --- deadlines of requests ------------------------------------------------ */

static void a_head_that_takes_too_long_is_answered_408(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "GET /one HT");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	place_of(c, "HTTP/1.1 408 ");
	close_client(c);
	app_expect_ending(a, STATS_closed_header_timeout);
	app_free(a);
}

static void a_byte_now_and_then_does_not_help(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 50);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "GET /one HTTP/1.1\r\n");
	for (int i = 0; i < WAIT_MS && c->in.len == 0; i++) {
		send_text(c, "a: b\r\n");
		turn_for(&a->l, 10);
	}
	place_of(c, "HTTP/1.1 408 ");
	app_free(a);
}

static void a_peer_that_says_nothing_is_closed_without_a_word(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(c->in.len, 0);
	app_expect_ending(a, STATS_closed_header_timeout);
	app_free(a);
}

static void content_that_takes_too_long_is_answered_408(void **state)
{
	struct app *a = app_with_duration(DEADLINE_BODY, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "POST /one HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 3\r\n\r\na");
	WAIT_UNTIL(&a->l, c->is_over);
	place_of(c, "HTTP/1.1 408 ");
	close_client(c);
	app_expect_ending(a, STATS_closed_header_timeout);
	app_free(a);
}

static void refused_content_that_takes_too_long_gets_no_second_answer(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_BODY, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 3\r\n\r\na");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1);
	app_expect_ending(a, STATS_closed_header_timeout);
	app_free(a);
}

static void a_connection_without_further_requests_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_IDLE, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1);
	app_expect_ending(a, STATS_closed_idle_timeout);
	app_free(a);
}

static void no_deadline_passes_while_an_answer_is_pending(void **state)
{
	struct conn_limits limits = roomy_limits;
	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		limits.durations_ms[kind] = 20;
	limits.durations_ms[DEADLINE_IDLE] = 60000;
	struct app *a = app_new(&limits);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 100);
	assert_non_null(a->pending[0]);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	app_free(a);
}

static void a_request_after_a_pending_one_has_its_deadline(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, GET("/later") "GET /tw");
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 60);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 2);
	place_of(c, "HTTP/1.1 408 ");
	app_free(a);
}

static void a_connection_without_further_requests_is_closed_after_a_late_answer(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_IDLE, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 60);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1);
	app_expect_ending(a, STATS_closed_idle_timeout);
	app_free(a);
}

static void each_request_has_a_deadline_of_its_own(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 500);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "GET /o");
	for (unsigned i = 0; i < 5; i++) {
		turn_for(&a->l, 150);
		send_text(c, "ne HTTP/1.1\r\nHost: x\r\n\r\nGET /o");
	}
	WAIT_UNTIL(&a->l, responses(c) == 5);
	assert_int_equal(responses(c), 5);
	assert_int_equal(count_of(c, "\r\n\r\n/one"), 5);
	app_free(a);
}

static void a_peer_that_does_not_end_its_side_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_LINGER, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "nonsense\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_bad_request);
	app_free(a);
}

/* --- WebSockets ----------------------------------------------------------- */

static void a_websocket_is_accepted(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct frame frame;

	send_text(c, UPGRADE("/ws"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "HTTP/1.1 101 Switching Protocols\r\n");
	place_of(c, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
	skip_upgrade(c);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_send_filling(a->conn, 3, 'x');
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_TEXT);
	assert_true(span_equal(frame.payload, SPAN("xxx")));
}

static void a_handshake_that_is_not_one_is_refused(void **state)
{
	static const char *const heads[] = {
		"GET /ws HTTP/1.1\r\n",
		"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\n",
		"HEAD /ws HTTP/1.1\r\nConnection: Upgrade\r\n"
		"Upgrade: websocket\r\n",
		"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\n"
		"Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\n",
		"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\n"
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: short\r\n",
	};
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		send_text(c, heads[i]);
		send_text(c, "Host: x\r\n\r\n");
	}
	WAIT_UNTIL(&a->l, responses(c) == 5);
	assert_int_equal(count_of(c, "HTTP/1.1 426 "), 4);
	assert_int_equal(count_of(c, "Sec-WebSocket-Version: 13\r\n"), 4);
	assert_int_equal(count_of(c, "HTTP/1.1 400 "), 1);
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
}

static void frames_may_follow_the_handshake_at_once(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct buf b = {0};
	struct frame frame;

	buf_append(&b, UPGRADE("/ws"), strlen(UPGRADE("/ws")));
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_PING, SPAN("p"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_memory_equal(a->texts.bytes, "one;two;", 8);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
}

static void frames_may_follow_a_handshake_that_is_pending(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct buf b = {0};

	buf_append(&b, GET("/one") UPGRADE("/ws-later"),
		   strlen(GET("/one") UPGRADE("/ws-later")));
	put_frame(&b, OP_TEXT, SPAN("one"));
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	send_frame(c, OP_TEXT, SPAN("two"));
	turn_for(&a->l, 20);
	assert_int_equal(a->messages, 0);
	conn_upgrade(a->pending[0], (struct span){0});
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_memory_equal(a->texts.bytes, "one;two;", 8);
}

static void a_websocket_behind_unread_answers_is_read_once_they_are(
	void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct buf b = {0};

	/* More than the kernel takes. */
	c->reads = false;
	for (int i = 0; i < 40; i++)
		buf_append(&b, GET("/huge"), strlen(GET("/huge")));
	buf_append(&b, UPGRADE("/ws-later"), strlen(UPGRADE("/ws-later")));
	put_frame(&b, OP_TEXT, SPAN("one"));
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, !list_is_empty(&a->l.group->stalled));
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	assert_int_equal(a->pending_count, 0);
	c->reads = true;
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	conn_upgrade(a->pending[0], (struct span){0});
	WAIT_UNTIL(&a->l, a->messages == 1);
}

static void a_byte_at_a_time_makes_messages_as_well(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	for (size_t i = 0; i < b.len; i++) {
		send_bytes(c, b.bytes + i, 1);
		turn(&a->l);
	}
	buf_fini(&b);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_memory_equal(a->texts.bytes, "one;two;", 8);
}

static void a_close_of_the_peer_is_answered(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
	put_frame(&b, OP_TEXT, SPAN("not read any more"));
	send_buf(c, &b);
	app_expect_close(a, c, 1000);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(c->at, c->in.len);
	app_expect_ending(a, STATS_closed_peer_closed);
	assert_int_equal(a->messages, 0);
}

static void a_peer_that_leaves_without_close_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	close_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_null(a->conn);
}

static void a_reset_of_a_websocket_with_a_write_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_lazy_websocket(a);

	app_send_filling(a->conn, 200000, 'x');
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void every_ending_with_a_code_says_it_and_why(void **state)
{
	(void)state;

	for (int i = 0; i < CLOSE_REASON_COUNT; i++) {
		const struct app_ending *row = &app_endings[i];
		struct app *a = app_new(&roomy_limits);
		struct client *c = app_open_websocket(a);
		conn_end(a->conn, row->why, NULL);
		assert_null(a->conn);
		if (row->code != 0) {
			struct frame frame;
			app_wait_for_frame(a, c, &frame);
			assert_int_equal(frame.code, row->code);
			frame.payload.bytes += 2;
			frame.payload.len -= 2;
			assert_true(span_equal(frame.payload,
					       span_of(row->reason)));
			assert_int_equal(count_in(&a->l, CONN_CLOSING), 1);
			send_frame(c, OP_CLOSE, SPAN("\x03\xe8"));
		}
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_int_equal(c->at, c->in.len);
		close_client(c);
		app_expect_ending(a, row->counter);
		app_free(a);
	}
}

static void a_hook_may_end_the_connection_at_a_message(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->ends_with = CLOSE_REASON_policy;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	put_frame(&b, OP_PING, SPAN("p"));
	send_buf(c, &b);
	app_expect_close(a, c, 1008);
	assert_int_equal(a->state_after_end, CONN_CLOSING);
	assert_int_equal(a->messages, 1);
	send_frame(c, OP_TEXT, SPAN("three"));
	send_frame(c, OP_CLOSE, SPAN("\x03\xf0"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(c->at, c->in.len); /* no Pong, no second Close */
	assert_int_equal(a->messages, 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_policy);
}

static void a_hook_may_abort_the_connection_at_a_message(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->ends_with = CLOSE_REASON_peer_gone;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	put_frame(&b, OP_CLOSE, SPAN(""));
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(a->state_after_end, CONN_CLOSED);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->messages, 1);
}

static void an_ending_for_later_waits_for_the_flush(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	a->ends_with = CLOSE_REASON_binary;
	a->is_later = true;
	send_frame(c, OP_BINARY, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_int_equal(a->state_after_end, CONN_WEBSOCKET);
	app_expect_close(a, c, 1003);
	close_client(c);
	app_expect_ending(a, STATS_closed_binary);
}

static void one_that_will_be_ended_hears_nothing_more(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->ends_with = CLOSE_REASON_policy;
	a->is_later = true;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	send_buf(c, &b);
	app_expect_close(a, c, 1008);
	assert_int_equal(a->messages, 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_policy);
}

static void the_first_ending_for_later_decides(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	conn_end_later(a->conn, CLOSE_REASON_policy);
	conn_end_later(a->conn, CLOSE_REASON_too_big);
	app_send_filling(a->conn, 3, 'x'); /* too late */
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	app_expect_close(a, c, 1008);
	close_client(c);
	app_expect_ending(a, STATS_closed_policy);
}

static void what_is_committed_is_answered_before_the_server_s_end(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct frame frame;

	a->is_committed = true;
	conn_group_end_some(a->l.group, 1);
	conn_group_end_all(a->l.group);
	assert_int_equal(conn_state(a->conn), CONN_WEBSOCKET);
	conn_send_text(a->conn, SPAN("answer"));
	a->is_committed = false;
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	app_wait_for_frame(a, c, &frame);
	assert_true(span_equal(frame.payload, SPAN("answer")));
	app_expect_close(a, c, 1001);
	close_client(c);
	app_expect_ending(a, STATS_closed_going_away);
}

static void what_is_committed_holds_no_other_end_up(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	a->is_committed = true;
	conn_end(a->conn, CLOSE_REASON_policy, NULL);
	app_expect_close(a, c, 1008);
	close_client(c);
	app_expect_ending(a, STATS_closed_policy);
}

static void many_are_ended_while_they_are_walked_over(void **state)
{
	struct app *a = *state;
	struct client *c[40];
	struct conn *conns[40];

	for (int i = 0; i < 40; i++) {
		c[i] = app_open_websocket(a);
		conns[i] = a->conn;
	}
	for (int i = 0; i < 40; i++)
		conn_end_later(conns[i], CLOSE_REASON_policy);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 40);
	conn_group_flush(a->l.group);
	assert_int_equal(count_in(&a->l, CONN_CLOSING), 40);
	for (int i = 0; i < 40; i++) {
		app_expect_close(a, c[i], 1008);
		close_client(c[i]);
	}
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(ended(&a->l, STATS_closed_policy), 40);
}

static void bad_frames_are_answered_with_close(void **state)
{
	static const struct {
		struct span bytes;
		enum stats_counter counter;
		unsigned code;
	} rows[] = {
		{SPAN("\x81\x01x"), STATS_closed_protocol, 1002},
		{SPAN("\x81\x81\0\0\0\0\xff"), STATS_closed_bad_data, 1007},
		{SPAN("\x81\xff\0\0\0\0\0\x01\0\x01\0\0\0\0x"),
		 STATS_closed_too_big, 1009},
	};
	(void)state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct app *a = app_new(&roomy_limits);
		struct client *c = app_open_websocket(a);
		send_bytes(c, rows[i].bytes.bytes, rows[i].bytes.len);
		app_expect_close(a, c, rows[i].code);
		send_frame(c, OP_CLOSE, SPAN("\x03\xe8"));
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_int_equal(c->at, c->in.len);
		close_client(c);
		app_expect_ending(a, rows[i].counter);
		app_free(a);
	}
}

static void close_is_sent_once_even_if_bad_frames_follow(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->ends_with = CLOSE_REASON_binary;
	put_frame(&b, OP_BINARY, SPAN("one"));
	buf_append(&b, "\xff\xff\xff\xff", 4);
	send_buf(c, &b);
	app_expect_close(a, c, 1003);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(c->at, c->in.len);
	close_client(c);
	app_expect_ending(a, STATS_closed_binary);
}

static void a_peer_that_does_not_answer_close_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_CLOSE, 30);
	struct client *c = app_open_websocket(a);
	(void)state;

	conn_end(a->conn, CLOSE_REASON_policy, NULL);
	app_expect_close(a, c, 1008);
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_policy);
	app_free(a);
}

static void nothing_is_sent_to_one_that_is_no_websocket(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, UPGRADE("/ws-later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	struct conn *conn = a->pending[0];
	app_send_filling(conn, 3, 'x');
	assert_int_equal(queued_bytes(&a->l), 0);
	conn_upgrade(conn, (struct span){0});
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	conn_end(conn, CLOSE_REASON_policy, NULL);
	app_send_filling(conn, 3, 'x');
	app_expect_close(a, c, 1008);
	assert_int_equal(c->at, c->in.len);
}

/* --- pings ---------------------------------------------------------------- */

static void a_ping_of_the_peer_is_answered(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct frame frame;

	send_frame(c, OP_PING, SPAN("are you there"));
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	assert_true(span_equal(frame.payload, SPAN("are you there")));
}

static void a_peer_that_is_not_heard_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 30);
	struct client *c = app_open_websocket(a);
	struct frame frame;
	(void)state;

	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PING);
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PING);
	app_expect_close(a, c, 1011);
	close_client(c);
	app_expect_ending(a, STATS_closed_ping_timeout);
	app_free(a);
}

static void a_message_that_is_never_finished_ends_it(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 100);
	struct client *c = app_open_websocket(a);
	struct frame frame = {0};
	(void)state;

	send_bytes(c, "\x81\x84\0\0\0\0a", 7);
	while (frame.opcode != OP_CLOSE) {
		app_wait_for_frame(a, c, &frame);
		if (frame.opcode == OP_PING && c->at % 2 == 0)
			send_bytes(c, "b", 1);
	}
	assert_int_equal(frame.code, 1008);
	assert_int_equal(a->messages, 0);
	close_client(c);
	app_expect_ending(a, STATS_closed_message_timeout);
	app_free(a);
}

static void each_message_has_a_time_of_its_own(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 60);
	struct client *c = app_open_websocket(a);
	struct frame frame;
	(void)state;

	/* Whenever something has been read, a message is unfinished. */
	send_bytes(c, "\x81\x81\0\0", 4);
	for (unsigned i = 1; i <= 6; i++) {
		app_wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
		send_bytes(c, "\0\0x\x81\x81\0\0", 7);
		WAIT_UNTIL(&a->l, a->messages == i);
	}
	app_free(a);
}

static void a_peer_that_answers_pings_is_kept(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 60);
	struct client *c = app_open_websocket(a);
	struct frame frame;
	(void)state;

	for (int i = 0; i < 6; i++) {
		app_wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
		send_frame(c, OP_PONG, SPAN(""));
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

/* --- whatever a peer does ------------------------------------------------- */

#ifndef STORM_ROUNDS
#define STORM_ROUNDS 20
#endif

static unsigned storm_state;

static unsigned random_below(unsigned n)
{
	storm_state = storm_state * 1103515245 + 12345;
	return (storm_state >> 16) % n;
}

/* Something that a peer may say; most of it fits somewhere. */
static struct span random_words(void)
{
	static const struct span words[] = {
		SPAN(GET("/one")),
		SPAN(GET("/later")),
		SPAN(GET("/later")),
		SPAN(GET("/big")),
		SPAN(GET("/huge")),
		SPAN(GET("/early")),
		SPAN(GET("/early-last")),
		SPAN(GET("/gone")),
		SPAN(GET("/gone-early")),
		SPAN(UPGRADE("/ws")),
		SPAN(UPGRADE("/ws")),
		SPAN(GET("/stream")),
		SPAN("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n"),
		SPAN(UPGRADE("/ws-later")),
		SPAN(UPGRADE("/ws-later")),
		SPAN("HEAD /ws HTTP/1.1\r\nHost: x\r\n\r\n"),
		SPAN("GET /later HTTP/1.0\r\n\r\n"),
		SPAN("POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
		     "Expect: 100-continue\r\n\r\n"),
		SPAN("POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"),
		SPAN("POST /later HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 9\r\n\r\n"),
		SPAN("123456789"),
		SPAN("0\r\n\r\n"),
		SPAN("\r\n"),
		SPAN("nonsense\r\n\r\n"),
		SPAN("\x81\x81\0\0\0\0a"),
		SPAN("\x01\x81\0\0\0\0a"),
		SPAN("\x80\x81\0\0\0\0b"),
		SPAN("\x82\x81\0\0\0\0b"),
		SPAN("\x89\x80\0\0\0\0\x89\x81\0\0\0\0p"),
		SPAN("\x8a\x80\0\0\0\0"),
		SPAN("\x88\x80\0\0\0\0"),
		SPAN("\x88\x82\0\0\0\0\x03\xe8"),
		SPAN("\x88\x81\0\0\0\0x"),
		SPAN("\xff\xff"),
	};
	return words[random_below(sizeof words / sizeof words[0])];
}

/* A few words, often cut anywhere. */
static void say_something(struct client *c)
{
	struct buf b = {0};

	for (unsigned i = random_below(4) + 1; i > 0; i--) {
		struct span words = random_words();
		size_t len = random_below(4) > 0
				     ? words.len
				     : random_below((unsigned)words.len);
		buf_append(&b, words.bytes, len);
	}
	send(c->fd, b.bytes, b.len, MSG_NOSIGNAL);
	buf_fini(&b);
}

static void act_as_peer(struct client *c)
{
	if (c->fd < 0)
		return;
	switch (random_below(16)) {
	case 0:
		shutdown(c->fd, SHUT_WR);
		break;
	case 1:
		close_client(c);
		break;
	case 2:
		reset_client(c);
		break;
	case 3:
	case 4:
		c->reads = !c->reads;
		break;
	default:
		say_something(c);
	}
}

static void answer_pending(struct app *a, unsigned i)
{
	struct conn *c = a->pending[i];

	a->pending[i] = NULL;
	if (c == NULL)
		return;
	if (app_is_path(conn_request(c), "/ws-later") && random_below(4) > 0)
		conn_upgrade(c, (struct span){0});
	else if (random_below(4) == 0)
		conn_stream(c, SPAN("later"));
	else if (random_below(4) > 0)
		app_respond(c, SPAN("later"));
	else if (random_below(2) > 0)
		conn_respond_error(c, 500, "later", NULL);
	else
		conn_end(c, (enum close_reason)random_below(CLOSE_REASON_COUNT),
			 NULL);
}

/* What a publisher, or an application, does to any connection. */
static void act_on_all(struct app *a)
{
	struct conn *conns[CLIENTS_MAX];
	unsigned count = 0;

	LIST_FOR_EACH_SAFE (it, after, &a->l.group->conns)
		conns[count++] = CONTAINER_OF(it, struct conn, link);
	struct chunk *chunk = app_frame(OP_TEXT, 1 + random_below(60000), 'x');
	for (unsigned i = 0; i < count; i++) {
		enum close_reason why =
			(enum close_reason)random_below(CLOSE_REASON_COUNT);
		if (random_below(4) == 0)
			conn_send_part(conns[i], SPAN("id: 1\n"));
		if (random_below(2) == 0)
			conn_send(conns[i], chunk);
		if (random_below(4) == 0)
			conn_send_text(conns[i], SPAN("text"));
		if (random_below(4) == 0) {
			a->to_feed = random_below(30000);
			conn_wait_for_room(conns[i]);
		}
		if (random_below(3) > 0)
			conn_resume(conns[i]);
		if (random_below(40) == 0)
			conn_end_later(conns[i], why);
		if (random_below(80) == 0)
			conn_end(conns[i], why, NULL);
	}
	chunk_unref(chunk);
}

static void storm(unsigned seed)
{
	struct conn_limits limits = roomy_limits;

	storm_state = seed;
	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		limits.durations_ms[kind] = 2 + random_below(30);
	limits.buffered_max_bytes = 1 + random_below(200000);
	struct app *a = app_new(&limits);
	for (int i = 0; i < 400; i++) {
		if (i % 20 == 0) {
			struct client *c = connect_lazy_client(&a->l);
			c->reads = random_below(2) > 0;
		}
		a->ends_with = random_below(3) > 0
				       ? CLOSE_REASON_NONE
				       : (enum close_reason)random_below(
						 CLOSE_REASON_COUNT);
		a->is_later = random_below(2) > 0;
		a->pauses = random_below(2) > 0;
		act_as_peer(&a->l.clients[random_below(a->l.clients_count)]);
		if (random_below(3) == 0)
			turn(&a->l);
		if (random_below(10) == 0)
			act_on_all(a);
		for (unsigned k = 0; k < a->pending_count; k++)
			if (random_below(5) == 0)
				answer_pending(a, k);
		if (a->pending_count > PENDING_MAX / 2) {
			for (unsigned k = 0; k < a->pending_count; k++)
				answer_pending(a, k);
			a->pending_count = 0;
		}
	}
	app_free(a);
}

static void nothing_that_peers_do_breaks_the_server(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= STORM_ROUNDS; seed++)
		storm(seed);
}

/* --- all of it ------------------------------------------------------------ */

static void every_state_was_seen_and_every_ending_came(void **state)
{
	(void)state;
	assert_int_equal(states_seen, (1u << CONN_CLOSED) - 1);
#define CAME(name, code, reason) assert_true(totals[STATS_closed_##name] > 0);
	CLOSE_REASONS(CAME)
#undef CAME
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_that_takes_too_long_is_answered_408),
		cmocka_unit_test(a_byte_now_and_then_does_not_help),
		cmocka_unit_test(
			a_peer_that_says_nothing_is_closed_without_a_word),
		cmocka_unit_test(content_that_takes_too_long_is_answered_408),
		cmocka_unit_test(
			refused_content_that_takes_too_long_gets_no_second_answer),
		cmocka_unit_test(
			a_connection_without_further_requests_is_closed),
		cmocka_unit_test(no_deadline_passes_while_an_answer_is_pending),
		cmocka_unit_test(
			a_request_after_a_pending_one_has_its_deadline),
		cmocka_unit_test(
			a_connection_without_further_requests_is_closed_after_a_late_answer),
		cmocka_unit_test(each_request_has_a_deadline_of_its_own),
		cmocka_unit_test(a_peer_that_does_not_end_its_side_is_closed),
		WITH_APP(a_websocket_is_accepted),
		WITH_APP(a_handshake_that_is_not_one_is_refused),
		WITH_APP(frames_may_follow_the_handshake_at_once),
		WITH_APP(frames_may_follow_a_handshake_that_is_pending),
		WITH_APP(
			a_websocket_behind_unread_answers_is_read_once_they_are),
		WITH_APP(a_byte_at_a_time_makes_messages_as_well),
		WITH_APP(a_close_of_the_peer_is_answered),
		WITH_APP(a_peer_that_leaves_without_close_is_gone),
		WITH_APP(a_reset_of_a_websocket_with_a_write_in_flight_ends_it),
		cmocka_unit_test(every_ending_with_a_code_says_it_and_why),
		WITH_APP(a_hook_may_end_the_connection_at_a_message),
		WITH_APP(a_hook_may_abort_the_connection_at_a_message),
		WITH_APP(an_ending_for_later_waits_for_the_flush),
		WITH_APP(one_that_will_be_ended_hears_nothing_more),
		WITH_APP(the_first_ending_for_later_decides),
		WITH_APP(what_is_committed_is_answered_before_the_server_s_end),
		WITH_APP(what_is_committed_holds_no_other_end_up),
		WITH_APP(many_are_ended_while_they_are_walked_over),
		cmocka_unit_test(bad_frames_are_answered_with_close),
		WITH_APP(close_is_sent_once_even_if_bad_frames_follow),
		cmocka_unit_test(a_peer_that_does_not_answer_close_is_closed),
		WITH_APP(nothing_is_sent_to_one_that_is_no_websocket),
		WITH_APP(a_ping_of_the_peer_is_answered),
		cmocka_unit_test(a_peer_that_is_not_heard_is_closed),
		cmocka_unit_test(a_message_that_is_never_finished_ends_it),
		cmocka_unit_test(each_message_has_a_time_of_its_own),
		cmocka_unit_test(a_peer_that_answers_pings_is_kept),
		cmocka_unit_test(nothing_that_peers_do_breaks_the_server),
		cmocka_unit_test(every_state_was_seen_and_every_ending_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
