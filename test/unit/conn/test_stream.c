/* test_stream.c - event streams: start, end, sending, fields (conn.h) */
#include "app.h"
#include "codec/sse.h"

/* --- set-up --------------------------------------------------------------- */

static struct client *open_lazy_stream(struct app *a)
{
	return app_ask(a, connect_lazy_client(&a->l), GET_OLD("/stream"));
}

static void send_block(struct conn *c, const char *text)
{
	struct chunk *chunk = app_chunk(text);
	conn_send(c, chunk);
	chunk_unref(chunk);
}

/* Whether what came behind the head is `text` and nothing else. */
static bool has_got(const struct client *c, const char *text)
{
	struct span got = {c->in.bytes + c->at, c->in.len - c->at};
	return span_equal(got, span_of(text));
}

/* --- event streams -------------------------------------------------------- */

static void an_event_stream_is_an_answer_that_goes_on(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	assert_int_equal(place_of(c, "HTTP/1.1 200 OK\r\n"), 0);
	place_of(c, "\r\nContent-Type: text/event-stream\r\n");
	place_of(c, "\r\nCache-Control: no-store, no-transform\r\n");
	place_of(c, "\r\nX-Accel-Buffering: no\r\n");
	place_of(c, "\r\nConnection: close\r\n");
	c->at = 0;
	assert_int_equal(count_of(c, "Content-Length"), 0);
	assert_int_equal(count_of(c, "Transfer-Encoding"), 0);
	skip_upgrade(c);
	WAIT_UNTIL(&a->l, has_got(c, FIRST));
	send_block(a->conn, "data: 1\n\n");
	conn_send_text(a->conn, SPAN("data: 2\n\n"));
	WAIT_UNTIL(&a->l, has_got(c, FIRST "data: 1\n\ndata: 2\n\n"));
	assert_int_equal(count_in(&a->l, CONN_EVENT_STREAM), 1);
	assert_int_equal(ended(&a->l, STATS_http_200), 1);
	assert_false(c->is_over);
}

static struct client *open_chunked_stream(struct app *a)
{
	return app_ask(a, connect_client(&a->l), GET("/stream"));
}

static void a_stream_of_http_1_1_is_in_chunks(void **state)
{
	struct app *a = *state;
	struct client *c = open_chunked_stream(a);

	assert_true(conn_framing(a->conn) == FRAMING_CHUNK);
	c->at = 0;
	place_of(c, "\r\nTransfer-Encoding: chunked\r\n");
	place_of(c, "\r\nConnection: close\r\n");
	skip_upgrade(c);
	WAIT_UNTIL(&a->l, has_got(c, "a\r\n" FIRST "\r\n"));
	send_block(a->conn, "9\r\ndata: 1\n\n\r\n");
	conn_send_text(a->conn, SPAN("data: 12\n\n"));
	conn_send_text(a->conn, SPAN("")); /* would be the last chunk */
	WAIT_UNTIL(&a->l, has_got(c, "a\r\n" FIRST "\r\n"
				     "9\r\ndata: 1\n\n\r\n"
				     "a\r\ndata: 12\n\n\r\n"));
	conn_end(a->conn, CLOSE_REASON_going_away, "bye");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_true(has_got(c,
			    "a\r\n" FIRST "\r\n9\r\ndata: 1\n\n\r\n"
			    "a\r\ndata: 12\n\n\r\n"
			    "31\r\nevent: close\n"
			    "data: {\"code\":1001,\"reason\":\"bye\"}\n\n\r\n"
			    "0\r\n\r\n"));
}

static void a_stream_in_chunks_that_is_cut_has_no_last_one(void **state)
{
	struct app *a = *state;
	struct client *c = open_chunked_stream(a);

	WAIT_UNTIL(&a->l, has_got(c, "a\r\n" FIRST "\r\n"));
	conn_end(a->conn, CLOSE_REASON_peer_gone, NULL);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_true(has_got(c, "a\r\n" FIRST "\r\n"));
}

static void a_stream_in_chunks_shows_life_in_chunks(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 20);
	struct client *c = open_chunked_stream(a);
	(void)state;

	WAIT_UNTIL(&a->l, has_got(c, "a\r\n" FIRST "\r\n"
				     "2\r\n:\n\r\n2\r\n:\n\r\n"));
	app_free(a);
}

static void a_client_of_http_1_0_gets_the_same(void **state)
{
	struct app *a = *state;
	struct client *c = app_ask(
		a, connect_client(&a->l),
		"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");

	place_of(c, "\r\nConnection: close\r\n");
	send_block(a->conn, "data: 1\n\n");
	WAIT_UNTIL(&a->l, has_got(c, FIRST "data: 1\n\n"));
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
}

static void a_head_request_gets_the_head_of_a_stream(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	place_of(c, "\r\nContent-Type: text/event-stream\r\n");
	assert_int_equal(place_of(c, "\r\n\r\n") + 4, c->in.len);
	close_client(c);
	app_expect_ending(a, STATS_closed_done);
}

static void an_open_stream_holds_no_parser(void **state)
{
	struct app *a = *state;

	app_open_stream(a);
	assert_null(a->conn->http);
	assert_null(a->conn->websocket);
	assert_int_equal(a->l.group->http_pooled, 1);
}

static void what_a_streams_client_sends_is_dropped(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	app_ask(a, c, GET_OLD("/stream") GET("/one"));
	send_text(c, GET("/two") "nonsense");
	turn_for(&a->l, 20);
	send_block(a->conn, "data: 1\n\n");
	WAIT_UNTIL(&a->l, has_got(c, FIRST "data: 1\n\n"));
}

static void a_stream_may_be_the_answer_to_a_request_that_waited(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET_OLD("/later") GET("/one"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	turn(&a->l);
	conn_stream(a->conn, SPAN(""));
	conn_send_text(a->conn, SPAN("data: 1\n\n"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	WAIT_UNTIL(&a->l, has_got(c, "data: 1\n\n"));
	/* What lay behind the request is gone. */
	WAIT_UNTIL(&a->l, a->conn->stash == NULL);
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_peer_gone);
}

/* Behind more answers than it reads: its end must be seen all the same. */
static void a_stream_is_read_however_much_is_queued(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);
	char *first = calloc(1, 200000);

	assert_non_null(first);
	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	turn(&a->l);
	conn_stream(a->conn, (struct span){first, 200000});
	free(first);
	turn(&a->l);
	assert_int_equal(a->conn->reading, READING_FLOWING);
	shutdown(c->fd, SHUT_WR);
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_streams_client_that_shuts_its_side_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->ends, 1);
}

static void a_reset_ends_a_stream(void **state)
{
	struct app *a = *state;

	reset_client(app_open_stream(a));
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_stream_shows_life_and_needs_no_answer(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 20);
	struct client *c = app_open_stream(a);
	(void)state;

	WAIT_UNTIL(&a->l, count_of(c, SSE_KEEP_ALIVE) == 6);
	assert_int_equal(count_in(&a->l, CONN_EVENT_STREAM), 1);
	app_free(a);
}

/* Not before it has had a whole interval, wherever in one that began. */
static void a_stream_whose_client_does_not_read_is_given_up(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 100);
	struct client *c = open_lazy_stream(a);
	(void)state;

	turn_for(&a->l, 80);
	for (int i = 0; i < 4; i++) {
		app_send_text(a->conn, 50000);
		turn(&a->l);
	}
	assert_non_null(a->conn->writing);
	uint64_t since_ms = a->conn->writing->since_ms;
	WAIT_UNTIL(&a->l, a->conn == NULL);
	assert_true(uv_now(&a->l.loop) >= since_ms + 100);
	app_expect_ending(a, STATS_closed_write_timeout);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "event: close"), 0);
	app_free(a);
}

/* --- the end of an event stream ------------------------------------------- */

static void a_stream_is_told_every_ending_with_a_code(void **state)
{
	(void)state;

	for (int i = 0; i < CLOSE_REASON_COUNT; i++) {
		const struct app_ending *row = &app_endings[i];
		struct app *a = app_new(&roomy_limits);
		struct client *c = app_open_stream(a);
		char expected[256] = FIRST;

		if (row->code != 0)
			snprintf(expected, sizeof expected,
				 FIRST "event: close\n"
				       "data: {\"code\":%u,\"reason\":\"%s\"}"
				       "\n\n",
				 row->code, row->reason);
		conn_end(a->conn, row->why, NULL);
		assert_null(a->conn);
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_true(has_got(c, expected));
		assert_int_equal(count_in(&a->l, CONN_LINGERING),
				 row->code != 0);
		close_client(c);
		app_expect_ending(a, row->counter);
		app_free(a);
	}
}

static void the_reason_of_an_end_is_escaped(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	conn_end(a->conn, CLOSE_REASON_policy, "no \"x\\y\"\n");
	WAIT_UNTIL(&a->l, c->is_over);
	place_of(c, "{\"code\":1008,\"reason\":\"no \\\"x\\\\y\\\"\\n\"}\n\n");
}

static void what_was_sent_before_comes_before_the_last_block(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	send_block(a->conn, "data: 1\n\n");
	conn_end_later(a->conn, CLOSE_REASON_forbidden);
	send_block(a->conn, "data: 2\n\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "data: 2"), 0);
	assert_true(place_of(c, "data: 1\n\n") < place_of(c, "event: close\n"));
	assert_int_equal(ended(&a->l, STATS_closed_forbidden), 1);
}

static void a_client_that_does_not_read_its_last_block_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_CLOSE, 30);
	(void)state;

	open_lazy_stream(a);
	app_send_text(a->conn, 200000);
	turn(&a->l);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	assert_int_equal(count_in(&a->l, CONN_FINISHING), 1);
	app_expect_ending(a, STATS_closed_going_away);
	app_free(a);
}

static void a_client_that_keeps_its_side_open_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_LINGER, 30);
	struct client *c = app_open_stream(a);
	(void)state;

	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_going_away);
	app_free(a);
}

/* An event in two chunks, as it is sent with an id of the client's own. */
static void send_event(struct conn *c, unsigned n)
{
	char id[32];
	struct chunk *chunk = chunk_new(1010);

	assert_non_null(chunk);
	chunk_append(chunk, "data: ", 6);
	while (chunk->len < 1008)
		chunk_append(chunk, "x", 1);
	chunk_append(chunk, "\n\n", 2);
	snprintf(id, sizeof id, "id: %u\n", n);
	conn_send_part(c, span_of(id));
	conn_send(c, chunk);
	chunk_unref(chunk);
}

/* Reads events of send_event(), each of which must be whole, up to the last
 * block; returns how many. */
static unsigned read_events(const struct client *c)
{
	const char *at = c->in.bytes + c->at + strlen(FIRST);

	if (*at == ':')
		at += 3;
	for (unsigned n = 0;; n++) {
		char id[32];
		snprintf(id, sizeof id, "id: %u\ndata: ", n);
		if (strncmp(at, "event: close\ndata: {\"code\":1013,", 32) == 0)
			return n;
		assert_memory_equal(at, id, strlen(id));
		at += strlen(id) + 1002;
		assert_memory_equal(at, "\n\n", 2);
		at += 2;
	}
}

static void one_over_the_limit_gets_whole_events_and_then_1013(void **state)
{
	/* The write in flight has as many chunks as go into one; it ends inside
	 * an event or behind one. */
	for (size_t before = 0; before < 2; before++) {
		struct conn_limits limits = roomy_limits;
		limits.buffered_max_bytes = 100000;
		struct app *a = app_new(&limits);
		struct client *c = open_lazy_stream(a);
		unsigned sent = 0;
		(void)state;

		for (size_t i = 0; i < before; i++)
			send_block(a->conn, ":\n\n");
		while (sent < 90)
			send_event(a->conn, sent++);
		turn(&a->l);
		assert_int_equal(conn_in_flight(a->conn), 64);
		while (a->conn != NULL && sent < 10000) {
			send_event(a->conn, sent++);
			turn(&a->l);
		}
		c->reads = true;
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		buf_append(&c->in, "", 1);
		assert_in_range(read_events(c), 1, sent - 1);
		close_client(c);
		app_expect_ending(a, STATS_closed_slow);
		app_free(a);
	}
}

static void an_unfinished_block_is_not_told(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	send_block(a->conn, "data: 1\n\n");
	conn_send_part(a->conn, SPAN("id: 2\n"));
	conn_send_part(a->conn, SPAN("data: 2\n"));
	conn_end(a->conn, CLOSE_REASON_policy, NULL);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "2\n"), 0);
	place_of(c, "data: 1\n\nevent: close\n");
}

static void memory_is_relieved_of_streams_that_are_stuck(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_stream(a);
	size_t used;

	app_send_text(a->conn, 50000);
	turn(&a->l);
	app_send_text(a->conn, 200000);
	used = settled_memory_used();
	set_memory_limit(used / 91 * 100);
	conn_group_relieve(a->l.group);
	set_memory_limit(0);
	assert_null(a->conn);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	place_of(c, "\"code\":1013");
	assert_true(c->in.len < 100000);
}

static void some_are_ended_in_the_order_they_came(void **state)
{
	struct app *a = *state;
	struct client *stream = app_open_stream(a);
	struct client *websocket = app_open_websocket(a);
	struct client *last = app_open_stream(a);

	assert_int_equal(conn_group_end_some(a->l.group, 2), 2);
	app_expect_close(a, websocket, 1001);
	WAIT_UNTIL(&a->l, stream->is_over);
	place_of(stream, "\"code\":1001");
	assert_false(last->is_over);
	assert_int_equal(conn_group_end_some(a->l.group, 2), 1);
	assert_int_equal(conn_group_end_some(a->l.group, 2), 0);
	WAIT_UNTIL(&a->l, last->is_over);
}

static void ending_all_ends_streams_too(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	conn_group_end_all(a->l.group);
	conn_group_end_all(a->l.group);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "event: close"), 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_going_away);
}

/* --- sending -------------------------------------------------------------- */

static void a_text_to_a_websocket_is_one_message(void **state)
{
	static const size_t lens[] = {0, 1, 125, 126, 65535, 65536};
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		struct frame frame;
		app_send_text(a->conn, lens[i]);
		app_wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_TEXT);
		assert_int_equal(frame.payload.len, lens[i]);
		for (size_t k = 0; k < lens[i]; k++)
			assert_int_equal(frame.payload.bytes[k], 'x');
	}
}

static void a_part_to_a_websocket_is_nothing(void **state)
{
	struct app *a = *state;

	app_open_websocket(a);
	conn_send_part(a->conn, SPAN("id: 1\n"));
	assert_int_equal(conn_unsent_bytes(a->conn), 0);
}

static void nothing_is_sent_to_one_that_is_not_open(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	struct conn *conn = a->conn;
	assert_false(conn_has_room(conn));
	conn_send_text(conn, SPAN("data: 1\n\n"));
	conn_send_part(conn, SPAN("id: 1\n"));
	conn_stream(conn, SPAN(""));
	assert_true(conn_has_room(conn));
	conn_end(conn, CLOSE_REASON_policy, NULL);
	assert_false(conn_has_room(conn));
	conn_send_text(conn, SPAN("data: 1\n\n"));
	conn_send_part(conn, SPAN("id: 1\n"));
	WAIT_UNTIL(&a->l, c->is_over);
	skip_upgrade(c);
	assert_int_equal(count_of(c, "1\n"), 0);
}

static void one_that_is_doomed_has_no_room(void **state)
{
	struct app *a = *state;

	app_open_stream(a);
	conn_wait_for_room(a->conn);
	conn_end_later(a->conn, CLOSE_REASON_policy);
	assert_false(conn_has_room(a->conn));
	turn(&a->l);
	assert_int_equal(a->rooms, 0);
}

static void room_is_told_once_when_it_is_there(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_stream(a);

	while (conn_has_room(a->conn))
		app_send_text(a->conn, 40000);
	assert_true(conn_unsent_bytes(a->conn) >= CONN_ROOM_BYTES);
	turn(&a->l);
	app_send_text(a->conn, 100000);
	assert_false(conn_has_room(a->conn));
	conn_wait_for_room(a->conn);
	turn_for(&a->l, 20);
	assert_int_equal(a->rooms, 0);
	c->reads = true;
	WAIT_UNTIL(&a->l, a->rooms == 1);
	WAIT_UNTIL(&a->l, conn_unsent_bytes(a->conn) == 0);
	turn_for(&a->l, 10);
	assert_int_equal(a->rooms, 1);
}

static void whoever_waits_for_room_is_fed_all_of_it(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_stream(a);
	size_t before = c->in.len;

	a->to_feed = 3000000; /* more than may be buffered */
	conn_wait_for_room(a->conn);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->in.len >= before + 3000000);
	assert_int_equal(count_in(&a->l, CONN_EVENT_STREAM), 1);
	assert_true(a->rooms > 1);
}

static void bytes_are_unsent_until_the_kernel_has_them(void **state)
{
	struct app *a = *state;

	app_open_stream(a);
	send_block(a->conn, "data: 1\n\n");
	conn_send_text(a->conn, SPAN("data: 2\n\n"));
	conn_send_part(a->conn, SPAN("id: 1\n"));
	assert_int_equal(conn_unsent_bytes(a->conn), 24);
	send_block(a->conn, "data: 3\n\n");
	turn(&a->l);
	assert_int_equal(conn_unsent_bytes(a->conn), 0);
}

/* --- fields --------------------------------------------------------------- */

#define FROM(path)                                                             \
	"POST " path " HTTP/1.1\r\nHost: x\r\nOrigin: here\r\n"                \
	"Transfer-Encoding: chunked\r\n\r\n"

#define X_ORIGIN "\r\nX-Origin: here\r\n"

static void every_answer_to_a_request_has_the_fields(void **state)
{
	static const struct {
		const char *request;
		const char *status;
	} rows[] = {
		{FROM("/one") "0\r\n\r\n", "200 OK"},
		{FROM("/early"), "401 Unauthorized"},
		{FROM("/stream") "0\r\n\r\n", "200 OK"},
		{FROM("/ws") "0\r\n\r\n", "426 Upgrade Required"},
		{FROM("/one") "nonsense\r\n\r\n", "400 Bad Request"},
		{FROM("/one") "fffffff\r\n", "413 Content Too Large"},
	};
	struct app *a = *state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct client *c = connect_client(&a->l);
		send_text(c, rows[i].request);
		WAIT_UNTIL(&a->l, responses(c) == 1);
		place_of(c, rows[i].status);
		place_of(c, X_ORIGIN);
		assert_int_equal(count_of(c, "X-Origin"), 1);
		close_client(c);
	}
	assert_int_equal(a->asked, sizeof rows / sizeof rows[0]);
}

static void fields_come_beside_those_of_an_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, FROM("/early"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "\r\nX-Own: 1\r\nX-Origin: here\r\n");
}

static void there_may_be_no_fields(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_int_equal(a->asked, 1);
}

static void an_end_while_pending_has_the_fields(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, FROM("/later") "0\r\n\r\n");
	WAIT_UNTIL(&a->l, a->conn != NULL);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "503 Service Unavailable");
	place_of(c, X_ORIGIN);
}

static void content_that_takes_too_long_is_answered_with_the_fields(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_BODY, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, FROM("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "408 Request Timeout");
	place_of(c, X_ORIGIN);
	app_free(a);
}

static void where_no_head_was_read_the_fields_are_of_no_request(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	/* The second, too: the first one's head is over. */
	send_text(c, FROM("/one") "0\r\n\r\n"
				  "GET / HTTP/1.1\r\nOrigin: here\r\n: x\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "400 Bad Request");
	place_of(c, "X-Unread: yes");
	assert_int_equal(a->asked, 1);
	assert_int_equal(count_of(c, "X-Origin"), 1);
}

static void so_are_those_of_a_head_that_takes_too_long(void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 30);
	struct client *c = connect_client(&a->l);
	(void)state;

	send_text(c, "GET / HTTP/1.1\r\nOrigin: here\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "408 Request Timeout");
	place_of(c, "X-Unread: yes");
	assert_int_equal(a->asked, 0);
	app_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_APP(an_event_stream_is_an_answer_that_goes_on),
		WITH_APP(a_stream_of_http_1_1_is_in_chunks),
		WITH_APP(a_stream_in_chunks_that_is_cut_has_no_last_one),
		cmocka_unit_test(a_stream_in_chunks_shows_life_in_chunks),
		WITH_APP(a_client_of_http_1_0_gets_the_same),
		WITH_APP(a_head_request_gets_the_head_of_a_stream),
		WITH_APP(an_open_stream_holds_no_parser),
		WITH_APP(what_a_streams_client_sends_is_dropped),
		WITH_APP(a_stream_may_be_the_answer_to_a_request_that_waited),
		WITH_APP(a_stream_is_read_however_much_is_queued),
		WITH_APP(a_streams_client_that_shuts_its_side_is_gone),
		WITH_APP(a_reset_ends_a_stream),
		cmocka_unit_test(a_stream_shows_life_and_needs_no_answer),
		cmocka_unit_test(
			a_stream_whose_client_does_not_read_is_given_up),
		cmocka_unit_test(a_stream_is_told_every_ending_with_a_code),
		WITH_APP(the_reason_of_an_end_is_escaped),
		WITH_APP(what_was_sent_before_comes_before_the_last_block),
		cmocka_unit_test(
			a_client_that_does_not_read_its_last_block_is_closed),
		cmocka_unit_test(a_client_that_keeps_its_side_open_is_closed),
		cmocka_unit_test(
			one_over_the_limit_gets_whole_events_and_then_1013),
		WITH_APP(an_unfinished_block_is_not_told),
		WITH_APP(memory_is_relieved_of_streams_that_are_stuck),
		WITH_APP(some_are_ended_in_the_order_they_came),
		WITH_APP(ending_all_ends_streams_too),
		WITH_APP(a_text_to_a_websocket_is_one_message),
		WITH_APP(a_part_to_a_websocket_is_nothing),
		WITH_APP(nothing_is_sent_to_one_that_is_not_open),
		WITH_APP(one_that_is_doomed_has_no_room),
		WITH_APP(room_is_told_once_when_it_is_there),
		WITH_APP(whoever_waits_for_room_is_fed_all_of_it),
		WITH_APP(bytes_are_unsent_until_the_kernel_has_them),
		WITH_APP(every_answer_to_a_request_has_the_fields),
		WITH_APP(fields_come_beside_those_of_an_answer),
		WITH_APP(there_may_be_no_fields),
		WITH_APP(an_end_while_pending_has_the_fields),
		cmocka_unit_test(
			content_that_takes_too_long_is_answered_with_the_fields),
		WITH_APP(where_no_head_was_read_the_fields_are_of_no_request),
		cmocka_unit_test(so_are_those_of_a_head_that_takes_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
