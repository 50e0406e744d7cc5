/* test_stream.c - what src/conn*.c promise those who are sent to: event
 * streams, room in the queue, pausing; and the fields of every answer.
 *
 * The rest is in test_conn.c. Clients are the other ends of TCP connections
 * (loopback.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "codec/sse.h"
#include "conn/private.h"
#include "loopback.h"
#include "oom.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define UPGRADE                                                                \
	"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"               \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
/* Of HTTP/1.0, which gets lines as they are, without chunks around them. */
#define GET_OLD(path) "GET " path " HTTP/1.0\r\n\r\n"
#define FIRST         "retry: 1\n\n"

/* What the hooks saw, and what they are to do. */
struct app {
	struct loopback l;
	struct conn *conn; /* that of the last request, until it ends */
	unsigned ends;
	struct buf texts; /* of messages, each with a ';' */
	unsigned messages;
	bool pauses;                 /* at each message */
	bool resumes;                /* right after */
	enum close_reason then_ends; /* right after, if not NONE */
	unsigned rooms;
	size_t to_feed; /* bytes that on_room sends, as long as it may */
	struct span subprotocol;
	unsigned asked; /* times that fields were asked for */
};

static struct app *app_of(const struct conn *c)
{
	return CONTAINER_OF(conn_group_of(c)->context, struct app, l);
}

/* --- hooks ---------------------------------------------------------------- */

static bool is_path(const struct http_request *request, const char *path)
{
	return span_equal(request->path, span_of(path));
}

static void on_head(struct conn *c, const struct http_request *request)
{
	if (is_path(request, "/early"))
		conn_respond_error(c, 401, "early", "X-Own: 1\r\n");
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct app *a = app_of(c);

	a->conn = c;
	if (is_path(request, "/stream"))
		conn_stream(c, SPAN(FIRST));
	else if (is_path(request, "/ws")) {
		if (conn_check_upgrade(c))
			conn_upgrade(c, a->subprotocol);
	} else if (!is_path(request, "/later"))
		conn_respond(c, &(struct http_response){.status = 200});
}

/* Tells what it was asked about: the spans must be those of the request. */
static const char *fields(struct conn *c, const struct http_request *request,
			  struct span origin)
{
	static char text[64];

	if (request == NULL)
		return "X-Unread: yes\r\n";
	app_of(c)->asked++;
	assert_ptr_equal(request, conn_request(c));
	if (origin.bytes == NULL)
		return NULL;
	snprintf(text, sizeof text, "X-Origin: %.*s\r\n", (int)origin.len,
		 origin.bytes);
	return text;
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct app *a = app_of(c);

	assert_true(is_text);
	assert_int_equal(conn_state(c), CONN_WEBSOCKET);
	a->messages++;
	buf_append(&a->texts, message.bytes, message.len);
	buf_append(&a->texts, ";", 1);
	if (a->pauses)
		conn_pause(c);
	if (a->resumes)
		conn_resume(c);
	if (a->then_ends != CLOSE_REASON_NONE)
		conn_end(c, a->then_ends, NULL);
}

static void on_room(struct conn *c)
{
	static const char filling[10000];
	struct app *a = app_of(c);

	a->rooms++;
	assert_true(conn_has_room(c));
	while (a->to_feed > 0 && conn_has_room(c)) {
		size_t len = a->to_feed < sizeof filling ? a->to_feed
							 : sizeof filling;
		conn_send_text(c, (struct span){filling, len});
		a->to_feed -= len;
	}
	if (a->to_feed > 0)
		conn_wait_for_room(c);
}

static void on_end(struct conn *c)
{
	struct app *a = app_of(c);

	a->ends++;
	if (a->conn == c)
		a->conn = NULL;
}

static const struct conn_hooks hooks = {
	.on_head = on_head,
	.on_request = on_request,
	.fields = fields,
	.on_message = on_message,
	.on_room = on_room,
	.on_end = on_end,
};

/* --- set-up --------------------------------------------------------------- */

static struct app *app_new(const struct conn_limits *limits)
{
	struct app *a = calloc(1, sizeof *a);
	assert_non_null(a);
	a->then_ends = CLOSE_REASON_NONE;
	loopback_open(&a->l, &hooks, limits);
	return a;
}

static struct app *app_with_duration(enum deadline_kind kind, uint64_t ms)
{
	struct conn_limits limits = roomy_limits;
	limits.durations_ms[kind] = ms;
	return app_new(&limits);
}

static void app_free(struct app *a)
{
	loopback_close(&a->l);
	buf_fini(&a->texts);
	free(a);
}

static int set_up(void **state)
{
	*state = app_new(&roomy_limits);
	return 0;
}

static int tear_down(void **state)
{
	app_free(*state);
	return 0;
}

/* Sends a request, and skips the head of the answer. */
static struct client *ask(struct app *a, struct client *c, const char *request)
{
	bool reads = c->reads;

	c->reads = true;
	send_text(c, request);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_non_null(a->conn);
	skip_upgrade(c);
	c->reads = reads;
	return c;
}

static struct client *open_stream(struct app *a)
{
	return ask(a, connect_client(&a->l), GET_OLD("/stream"));
}

static struct client *open_lazy_stream(struct app *a)
{
	return ask(a, connect_lazy_client(&a->l), GET_OLD("/stream"));
}

static struct client *open_websocket(struct app *a)
{
	return ask(a, connect_client(&a->l), UPGRADE);
}

static struct chunk *chunk_of(const char *text)
{
	struct chunk *chunk = chunk_new(strlen(text));

	assert_non_null(chunk);
	chunk_append(chunk, text, strlen(text));
	return chunk;
}

static void send_block(struct conn *c, const char *text)
{
	struct chunk *chunk = chunk_of(text);
	conn_send(c, chunk);
	chunk_unref(chunk);
}

static void send_filling(struct conn *c, size_t len)
{
	char *filling = malloc(len);

	assert_non_null(filling);
	memset(filling, 'x', len);
	conn_send_text(c, (struct span){filling, len});
	free(filling);
}

/* Whether what came behind the head is `text` and nothing else. */
static bool has_got(const struct client *c, const char *text)
{
	struct span got = {c->in.bytes + c->at, c->in.len - c->at};
	return span_equal(got, span_of(text));
}

static void wait_for_frame(struct app *a, struct client *c, struct frame *out)
{
	WAIT_UNTIL(&a->l, next_frame(c, out));
}

static void expect_close(struct app *a, struct client *c, unsigned code)
{
	struct frame frame;
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, code);
}

static void expect_ending(struct app *a, enum stats_counter how)
{
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(ended(&a->l, how), 1);
}

/* --- event streams -------------------------------------------------------- */

static void an_event_stream_is_an_answer_that_goes_on(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

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
	return ask(a, connect_client(&a->l), GET("/stream"));
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
	struct client *c =
		ask(a, connect_client(&a->l),
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
	expect_ending(a, STATS_closed_done);
}

static void an_open_stream_holds_no_parser(void **state)
{
	struct app *a = *state;

	open_stream(a);
	assert_null(a->conn->http);
	assert_null(a->conn->websocket);
	assert_int_equal(a->l.group->http_pooled, 1);
}

static void what_a_streams_client_sends_is_dropped(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	ask(a, c, GET_OLD("/stream") GET("/one"));
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
	expect_ending(a, STATS_closed_peer_gone);
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
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_streams_client_that_shuts_its_side_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->ends, 1);
}

static void a_reset_ends_a_stream(void **state)
{
	struct app *a = *state;

	reset_client(open_stream(a));
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_stream_shows_life_and_needs_no_answer(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 20);
	struct client *c = open_stream(a);
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
		send_filling(a->conn, 50000);
		turn(&a->l);
	}
	assert_non_null(a->conn->writing);
	uint64_t since_ms = a->conn->writing->since_ms;
	WAIT_UNTIL(&a->l, a->conn == NULL);
	assert_true(uv_now(&a->l.loop) >= since_ms + 100);
	expect_ending(a, STATS_closed_write_timeout);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "event: close"), 0);
	app_free(a);
}

/* --- the end of an event stream ------------------------------------------- */

static void a_stream_is_told_every_ending_with_a_code(void **state)
{
	static const struct {
		enum close_reason why;
		enum stats_counter counter;
		unsigned code;
		const char *reason;
	} rows[] = {
#define ROW(name, code, reason)                                                \
	{CLOSE_REASON_##name, STATS_closed_##name, code, reason},
		CLOSE_REASONS(ROW)
#undef ROW
	};
	(void)state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct app *a = app_new(&roomy_limits);
		struct client *c = open_stream(a);
		char expected[256] = FIRST;

		if (rows[i].code != 0)
			snprintf(expected, sizeof expected,
				 FIRST "event: close\n"
				       "data: {\"code\":%u,\"reason\":\"%s\"}"
				       "\n\n",
				 rows[i].code, rows[i].reason);
		conn_end(a->conn, rows[i].why, NULL);
		assert_null(a->conn);
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_true(has_got(c, expected));
		assert_int_equal(count_in(&a->l, CONN_LINGERING),
				 rows[i].code != 0);
		close_client(c);
		expect_ending(a, rows[i].counter);
		app_free(a);
	}
}

static void the_reason_of_an_end_is_escaped(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

	conn_end(a->conn, CLOSE_REASON_policy, "no \"x\\y\"\n");
	WAIT_UNTIL(&a->l, c->is_over);
	place_of(c, "{\"code\":1008,\"reason\":\"no \\\"x\\\\y\\\"\\n\"}\n\n");
}

static void what_was_sent_before_comes_before_the_last_block(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

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
	send_filling(a->conn, 200000);
	turn(&a->l);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	assert_int_equal(count_in(&a->l, CONN_FINISHING), 1);
	expect_ending(a, STATS_closed_going_away);
	app_free(a);
}

static void a_client_that_keeps_its_side_open_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_LINGER, 30);
	struct client *c = open_stream(a);
	(void)state;

	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, c->is_over);
	expect_ending(a, STATS_closed_going_away);
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
		expect_ending(a, STATS_closed_slow);
		app_free(a);
	}
}

static void an_unfinished_block_is_not_told(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

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

	send_filling(a->conn, 50000);
	turn(&a->l);
	send_filling(a->conn, 200000);
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
	struct client *stream = open_stream(a);
	struct client *websocket = open_websocket(a);
	struct client *last = open_stream(a);

	assert_int_equal(conn_group_end_some(a->l.group, 2), 2);
	expect_close(a, websocket, 1001);
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
	struct client *c = open_stream(a);

	conn_group_end_all(a->l.group);
	conn_group_end_all(a->l.group);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(count_of(c, "event: close"), 1);
	close_client(c);
	expect_ending(a, STATS_closed_going_away);
}

/* --- sending -------------------------------------------------------------- */

static void a_text_to_a_websocket_is_one_message(void **state)
{
	static const size_t lens[] = {0, 1, 125, 126, 65535, 65536};
	struct app *a = *state;
	struct client *c = open_websocket(a);

	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		struct frame frame;
		send_filling(a->conn, lens[i]);
		wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_TEXT);
		assert_int_equal(frame.payload.len, lens[i]);
		for (size_t k = 0; k < lens[i]; k++)
			assert_int_equal(frame.payload.bytes[k], 'x');
	}
}

static void a_part_to_a_websocket_is_nothing(void **state)
{
	struct app *a = *state;

	open_websocket(a);
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

	open_stream(a);
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
		send_filling(a->conn, 40000);
	assert_true(conn_unsent_bytes(a->conn) >= CONN_ROOM_BYTES);
	turn(&a->l);
	send_filling(a->conn, 100000);
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

	open_stream(a);
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

/* --- the opening handshake, the peer -------------------------------------- */

static void a_subprotocol_is_named_if_there_is_one(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);

	c->at = 0;
	assert_int_equal(count_of(c, "Sec-WebSocket-Protocol"), 0);
	a->subprotocol = SPAN("isimud.v1");
	c = open_websocket(a);
	place_of(c, "\r\nSec-WebSocket-Protocol: isimud.v1\r\n");
	assert_int_equal(a->asked, 0);
}

static void a_subprotocol_may_be_as_long_as_a_token(void **state)
{
	static char name[HTTP_BEARER_MAX_BYTES + 1];
	struct app *a = *state;

	memset(name, 'p', HTTP_BEARER_MAX_BYTES);
	a->subprotocol = span_of(name);
	struct client *c = open_websocket(a);
	place_of(c, name);
	assert_int_equal(place_of(c, "\r\n\r\n") + 4, c->in.len);
}

static void the_peer_is_told_by_its_address(void **state)
{
	struct app *a = *state;
	char peer[CONN_PEER_MAX];

	open_stream(a);
	conn_peer(a->conn, peer);
	assert_string_equal(peer, "127.0.0.1");
}

static void a_peer_at_a_unix_socket_has_no_address(void **state)
{
	struct app *a = *state;
	char peer[CONN_PEER_MAX] = "x";
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	assert_int_equal(
		conn_open(a->l.group, (struct accepted){fds[0], LISTENER_UNIX}),
		0);
	ask(a, add_client(&a->l, fds[1]), GET_OLD("/stream"));
	conn_peer(a->conn, peer);
	assert_string_equal(peer, "");
}

/* A connection to a socket of IPv6, from `to`, an address. Returns whether
 * there is IPv6 here. */
static bool connect_over_ipv6(struct app *a, const char *to)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6};
	socklen_t len = sizeof name;
	int off = 0;
	int listener = socket(AF_INET6, SOCK_STREAM, 0);
	int client = socket(AF_INET6, SOCK_STREAM, 0);
	bool is_there =
		listener >= 0 && client >= 0 &&
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off,
			   sizeof off) == 0 &&
		bind(listener, (struct sockaddr *)&name, len) == 0 &&
		listen(listener, 1) == 0 &&
		getsockname(listener, (struct sockaddr *)&name, &len) == 0 &&
		inet_pton(AF_INET6, to, &name.sin6_addr) == 1 &&
		connect(client, (struct sockaddr *)&name, len) == 0;

	if (is_there) {
		int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		assert_int_equal(fcntl(client, F_SETFL, O_NONBLOCK), 0);
		assert_int_equal(
			conn_open(a->l.group,
				  (struct accepted){server, LISTENER_TCP}),
			0);
		ask(a, add_client(&a->l, client), GET_OLD("/stream"));
	} else if (client >= 0) {
		close(client);
	}
	if (listener >= 0)
		close(listener);
	return is_there;
}

static void a_peer_over_ipv6_is_told_as_what_it_is(void **state)
{
	struct app *a = *state;
	char peer[CONN_PEER_MAX];

	if (!connect_over_ipv6(a, "::1"))
		skip();
	conn_peer(a->conn, peer);
	assert_string_equal(peer, "::1");
	assert_true(connect_over_ipv6(a, "::ffff:127.0.0.1"));
	conn_peer(a->conn, peer);
	assert_string_equal(peer, "127.0.0.1");
}

/* --- pausing -------------------------------------------------------------- */

static void put_text(struct buf *b, const char *text)
{
	put_frame(b, OP_TEXT, span_of(text));
}

static void send_all(struct client *c, struct buf *b)
{
	send_bytes(c, b->bytes, b->len);
	buf_fini(b);
}

static bool has_read(const struct app *a, const char *texts)
{
	struct span got = {a->texts.bytes, a->texts.len};
	return span_equal(got, span_of(texts));
}

/* "one", a Ping, "two", "three". */
static struct buf three_messages(void)
{
	struct buf b = {0};

	put_text(&b, "one");
	put_frame(&b, OP_PING, SPAN("p"));
	put_text(&b, "two");
	put_text(&b, "three");
	return b;
}

static void a_paused_websocket_is_handed_nothing_until_it_is_resumed(
	void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();
	struct frame frame;

	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	turn_for(&a->l, 20);
	assert_true(has_read(a, "one;"));
	assert_false(next_frame(c, &frame));
	/* Not in the call, but at its turn. */
	conn_resume(a->conn);
	assert_int_equal(a->messages, 1);
	WAIT_UNTIL(&a->l, a->messages == 2);
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	turn_for(&a->l, 20);
	assert_true(has_read(a, "one;two;"));
	a->pauses = false;
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, has_read(a, "one;two;three;"));
	assert_null(a->conn->websocket);
}

static void pausing_is_the_same_byte_by_byte(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();
	struct frame frame;

	a->pauses = true;
	for (size_t i = 0; i < b.len; i++) {
		send_bytes(c, b.bytes + i, 1);
		turn(&a->l);
	}
	buf_fini(&b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	turn_for(&a->l, 20);
	assert_false(next_frame(c, &frame));
	for (unsigned n = 2; n <= 3; n++) {
		assert_int_equal(a->messages, n - 1);
		conn_resume(a->conn);
		WAIT_UNTIL(&a->l, a->messages == n);
		turn(&a->l);
	}
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	assert_true(has_read(a, "one;two;three;"));
}

static void a_pause_may_come_anywhere_in_the_next_frame(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};
	unsigned n = 0;

	put_text(&b, "one");
	put_text(&b, "two");
	a->pauses = true;
	for (size_t cut = 0; cut <= b.len; cut++) {
		a->texts.len = 0;
		send_bytes(c, b.bytes, cut);
		turn_for(&a->l, 2);
		send_bytes(c, b.bytes + cut, b.len - cut);
		WAIT_UNTIL(&a->l, a->messages == n + 1);
		conn_resume(a->conn);
		WAIT_UNTIL(&a->l, a->messages == n + 2);
		conn_resume(a->conn);
		turn(&a->l);
		assert_true(has_read(a, "one;two;"));
		assert_null(a->conn->websocket);
		n += 2;
	}
	buf_fini(&b);
}

static void many_messages_pause_one_after_another(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf sent = {0};
	struct buf expected = {0};

	/* More than wslay reads ahead, and more than one read. */
	a->pauses = true;
	for (unsigned i = 0; i < 4000; i++) {
		char text[64];
		snprintf(text, sizeof text, "message %u of many;", i);
		buf_append(&expected, text, strlen(text));
		text[strlen(text) - 1] = '\0';
		put_text(&sent, text);
	}
	for (size_t at = 0; at < sent.len; at += 50000)
		send_bytes(c, sent.bytes + at,
			   sent.len - at < 50000 ? sent.len - at : 50000);
	for (unsigned n = 1; n <= 4000; n++) {
		WAIT_UNTIL(&a->l, a->messages == n);
		conn_resume(a->conn);
	}
	assert_int_equal(a->texts.len, expected.len);
	assert_memory_equal(a->texts.bytes, expected.bytes, expected.len);
	buf_fini(&sent);
	buf_fini(&expected);
}

static void one_that_is_paused_between_frames_holds_nothing(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->pauses = true;
	send_frame(c, OP_TEXT, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_null(a->conn->websocket);
	assert_null(a->conn->stash);
	put_text(&b, "two");
	put_text(&b, "three");
	send_all(c, &b);
	turn_for(&a->l, 20);
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	/* The third was read ahead. */
	assert_non_null(a->conn->websocket);
}

static void what_is_kept_while_paused_is_charged(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};
	char text[20000] = {0};

	turn(&a->l);
	size_t before = settled_memory_used();
	a->pauses = true;
	put_text(&b, "one");
	put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_true(settled_memory_used() > before + 15000);
	a->pauses = false;
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_int_equal(settled_memory_used(), before);
}

static void a_pause_that_is_over_at_once_is_none(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	a->resumes = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, has_read(a, "one;two;three;"));
	a->resumes = false;
	send_frame(c, OP_TEXT, SPAN("four"));
	send_frame(c, OP_TEXT, SPAN("five"));
	WAIT_UNTIL(&a->l, a->messages == 4);
	turn_for(&a->l, 20);
	assert_int_equal(a->messages, 4);
}

static void the_last_of_pause_and_resume_counts(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();

	conn_resume(a->conn);
	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_resume(a->conn);
	conn_pause(a->conn);
	turn_for(&a->l, 20);
	assert_int_equal(a->messages, 1);
	conn_pause(a->conn);
	conn_resume(a->conn);
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
}

static void one_that_is_paused_is_sent_to(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct frame frame;

	a->pauses = true;
	send_frame(c, OP_TEXT, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_send_text(a->conn, SPAN("hello"));
	wait_for_frame(a, c, &frame);
	assert_true(span_equal(frame.payload, SPAN("hello")));
}

/* Else a busy topic could hold up its commands for ever. */
static void one_is_resumed_however_much_is_queued(void **state)
{
	struct app *a = *state;
	struct client *c = ask(a, connect_lazy_client(&a->l), UPGRADE);
	struct buf b = three_messages();

	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	send_filling(a->conn, 100000);
	turn(&a->l);
	send_filling(a->conn, 100000);
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_true(conn_unsent_bytes(a->conn) > CONN_HIGH_WATER_BYTES);
}

static void pings_that_are_not_answered_while_paused_do_not_count(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 30);
	struct client *c = open_websocket(a);
	struct buf b = {0};
	struct frame frame;
	(void)state;

	/* Nor does the message that has begun. */
	a->pauses = true;
	put_text(&b, "one");
	put_text(&b, "two");
	send_bytes(c, b.bytes, b.len - 1);
	WAIT_UNTIL(&a->l, a->messages == 1);
	for (int i = 0; i < 6; i++) {
		wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	send_bytes(c, b.bytes + b.len - 1, 1);
	buf_fini(&b);
	a->pauses = false;
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	/* From now on they do. */
	wait_for_frame(a, c, &frame);
	while (frame.opcode == OP_PING)
		wait_for_frame(a, c, &frame);
	assert_int_equal(frame.code, 1011);
	app_free(a);
}

static void a_close_behind_a_pause_is_answered_afterwards(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->pauses = true;
	put_text(&b, "one");
	put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	turn_for(&a->l, 20);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	conn_resume(a->conn);
	expect_close(a, c, 1000);
	expect_ending(a, STATS_closed_peer_closed);
}

static void an_end_behind_a_pause_is_seen_afterwards(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	shutdown(c->fd, SHUT_WR);
	turn_for(&a->l, 20);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	a->pauses = false;
	conn_resume(a->conn);
	expect_ending(a, STATS_closed_peer_gone);
	assert_true(has_read(a, "one;two;three;"));
}

static void a_paused_one_is_ended_with_close(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_end(a->conn, CLOSE_REASON_forbidden, NULL);
	expect_close(a, c, 1008);
	/* The peer's Close comes behind what was not read. */
	send_frame(c, OP_CLOSE, SPAN("\x03\xf0"));
	expect_ending(a, STATS_closed_forbidden);
	assert_int_equal(a->messages, 1);
}

static void a_paused_one_may_be_ended_in_the_same_message(void **state)
{
	static const enum close_reason close_reasons[] = {
		CLOSE_REASON_policy, CLOSE_REASON_peer_gone};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct app *a = app_new(&roomy_limits);
		struct client *c = open_websocket(a);
		struct buf b = three_messages();

		a->pauses = true;
		a->then_ends = close_reasons[i];
		put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
		send_all(c, &b);
		WAIT_UNTIL(&a->l, a->l.group->count == 0);
		assert_int_equal(a->messages, 1);
		app_free(a);
	}
}

static void a_paused_one_is_aborted_with_all_others(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_all(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_group_abort_all(a->l.group);
	expect_ending(a, STATS_closed_going_away);
}

static void what_is_no_websocket_is_not_paused(void **state)
{
	struct app *a = *state;
	struct client *c = open_stream(a);

	conn_pause(a->conn);
	conn_resume(a->conn);
	shutdown(c->fd, SHUT_WR);
	expect_ending(a, STATS_closed_peer_gone);
}

/* --- without memory ------------------------------------------------------- */

/* One with a high descriptor: see test_conn.c. */
static void connect_high_client(struct app *a)
{
	int server;
	int client;

	tcp_pair(0, &server, &client);
	int high = fcntl(server, F_DUPFD_CLOEXEC, 200);
	assert_true(high >= 200);
	close(server);
	assert_int_equal(
		conn_open(a->l.group, (struct accepted){high, LISTENER_TCP}),
		0);
	struct client *c = add_client(&a->l, client);
	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	a->conn = NULL;
}

/* A stream, events in parts and whole, and its end. */
static bool stream_with_failing_allocation(struct app *a, unsigned nth)
{
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET_OLD("/later"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	struct chunk *chunk = chunk_of("data: y\n\n");
	/* By the library, not by what is tested. */
	buf_reserve(&c->in, 100000);
	oom_fail_at(nth);
	conn_stream(a->conn, SPAN(FIRST));
	for (int i = 0; i < 50; i++) {
		uv_run(&a->l.loop, UV_RUN_NOWAIT);
		if (i >= 5 && i < 25 && a->conn != NULL) {
			conn_send_part(a->conn, SPAN("id: 1\n"));
			conn_send(a->conn, chunk);
			conn_send_text(a->conn, SPAN("data: z\n\n"));
		}
		if (i == 20 && a->conn != NULL)
			conn_end(a->conn, CLOSE_REASON_policy, NULL);
	}
	bool has_failed = oom_end();
	chunk_unref(chunk);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	return has_failed;
}

/* No event is cut, and none but the last is `close`. */
static void assert_whole_events(const struct client *c)
{
	static const char *const blocks[] = {FIRST, "id: 1\ndata: y\n\n",
					     "data: z\n\n"};
	const char *at = memmem(c->in.bytes, c->in.len, "\r\n\r\n", 4);
	const char *end = c->in.bytes + c->in.len;

	for (at = at == NULL ? end : at + 4; at < end;) {
		size_t len = 0;
		for (size_t i = 0; i < 3 && len == 0; i++)
			if (strncmp(at, blocks[i], strlen(blocks[i])) == 0)
				len = strlen(blocks[i]);
		if (len == 0) {
			assert_memory_equal(at, "event: close\n", 13);
			assert_memory_equal(end - 3, "}\n\n", 3);
			return;
		}
		at += len;
	}
}

static void without_memory_a_stream_ends_and_nothing_else(void **state)
{
	unsigned nth = 0;
	bool has_failed;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct app *a = app_new(&roomy_limits);
		connect_high_client(a);
		has_failed = stream_with_failing_allocation(a, ++nth);
		struct client *c = &a->l.clients[1];
		buf_append(&c->in, "", 1);
		c->in.len--;
		assert_whole_events(c);
		app_free(a);
	} while (has_failed);
	assert_true(nth > 6);
}

static bool pause_with_failing_allocation(struct app *a, unsigned nth)
{
	struct client *c = open_websocket(a);
	struct buf b = {0};
	char text[8000] = {0};

	for (int i = 0; i < 3; i++)
		put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	buf_reserve(&a->texts, 30000);
	a->pauses = true;
	send_all(c, &b);
	oom_fail_at(nth);
	for (int i = 0; i < 50; i++) {
		uv_run(&a->l.loop, UV_RUN_NOWAIT);
		if (i % 10 == 9 && a->conn != NULL)
			conn_resume(a->conn);
	}
	bool has_failed = oom_end();
	assert_true(has_failed ? a->conn == NULL : a->messages == 3);
	return has_failed;
}

static void without_memory_a_paused_websocket_ends_and_nothing_else(
	void **state)
{
	unsigned nth = 0;
	bool has_failed;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct app *a = app_new(&roomy_limits);
		connect_high_client(a);
		has_failed = pause_with_failing_allocation(a, ++nth);
		app_free(a);
	} while (has_failed);
	assert_true(nth > 3);
}

#define WITH_APP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

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
		WITH_APP(a_subprotocol_is_named_if_there_is_one),
		WITH_APP(a_subprotocol_may_be_as_long_as_a_token),
		WITH_APP(the_peer_is_told_by_its_address),
		WITH_APP(a_peer_at_a_unix_socket_has_no_address),
		WITH_APP(a_peer_over_ipv6_is_told_as_what_it_is),
		WITH_APP(
			a_paused_websocket_is_handed_nothing_until_it_is_resumed),
		WITH_APP(pausing_is_the_same_byte_by_byte),
		WITH_APP(a_pause_may_come_anywhere_in_the_next_frame),
		WITH_APP(many_messages_pause_one_after_another),
		WITH_APP(one_that_is_paused_between_frames_holds_nothing),
		WITH_APP(what_is_kept_while_paused_is_charged),
		WITH_APP(a_pause_that_is_over_at_once_is_none),
		WITH_APP(the_last_of_pause_and_resume_counts),
		WITH_APP(one_that_is_paused_is_sent_to),
		WITH_APP(one_is_resumed_however_much_is_queued),
		cmocka_unit_test(
			pings_that_are_not_answered_while_paused_do_not_count),
		WITH_APP(a_close_behind_a_pause_is_answered_afterwards),
		WITH_APP(an_end_behind_a_pause_is_seen_afterwards),
		WITH_APP(a_paused_one_is_ended_with_close),
		cmocka_unit_test(a_paused_one_may_be_ended_in_the_same_message),
		WITH_APP(a_paused_one_is_aborted_with_all_others),
		WITH_APP(what_is_no_websocket_is_not_paused),
		cmocka_unit_test(without_memory_a_stream_ends_and_nothing_else),
		cmocka_unit_test(
			without_memory_a_paused_websocket_ends_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
