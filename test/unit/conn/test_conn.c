/* test_conn.c - what src/conn promises: each state, each way to end. (Event
 * streams, and pausing: test_stream.c.)
 *
 * The hooks below make of a request's path what a test needs; its clients are
 * the other ends of TCP connections (loopback.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "conn/private.h"
#include "loopback.h"
#include "oom.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define UPGRADE(path)                                                          \
	"GET " path " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"          \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define BIG_BYTES   50000  /* the content of /big: under the high water */
#define HUGE_BYTES  500000 /* of /huge: over it */
#define PENDING_MAX 64

/* What the hooks saw, and what they are to do. */
struct app {
	struct loopback l;
	struct conn *pending[PENDING_MAX]; /* to be answered by the test */
	unsigned pending_count;
	struct conn *websocket; /* the last that was accepted */
	unsigned heads;
	unsigned requests;
	unsigned ends;
	struct buf texts; /* of messages, each with a ';' */
	unsigned messages;
	enum close_reason on_message; /* ends the connection, if not NONE */
	bool is_later;                /* by conn_end_later() */
	enum conn_state state_after_end;
	bool has_no_memory; /* ends are not counted */
	bool pauses;        /* at each message */
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
	app_of(c)->heads++;
	assert_int_equal(conn_state(c), CONN_REQUEST);
	if (is_path(request, "/early"))
		conn_respond_error(c, 401, "early", NULL);
	else if (is_path(request, "/early-last"))
		conn_respond(c, &(struct http_response){.status = 401,
							.close = true});
	else if (is_path(request, "/gone-early"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
}

static void respond_with(struct conn *c, struct span content)
{
	conn_respond(c, &(struct http_response){.status = 200,
						.content_type = "text/plain",
						.content = content});
}

static void respond_with_filling(struct conn *c, size_t len)
{
	char *filling = malloc(len);
	assert_non_null(filling);
	memset(filling, 'x', len);
	respond_with(c, (struct span){filling, len});
	free(filling);
}

static void upgrade(struct conn *c)
{
	app_of(c)->websocket = c;
	conn_upgrade(c, (struct span){0});
}

static void keep_pending(struct conn *c)
{
	struct app *a = app_of(c);
	assert_true(a->pending_count < PENDING_MAX);
	a->pending[a->pending_count++] = c;
}

static void on_request(struct conn *c, const struct http_request *request)
{
	app_of(c)->requests++;
	assert_int_equal(conn_state(c), CONN_PENDING);
	assert_ptr_equal(conn_request(c), request);
	if (is_path(request, "/later"))
		keep_pending(c);
	else if (is_path(request, "/gone"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
	else if (is_path(request, "/big"))
		respond_with_filling(c, BIG_BYTES);
	else if (is_path(request, "/huge"))
		respond_with_filling(c, HUGE_BYTES);
	else if (is_path(request, "/stream"))
		conn_stream(c, SPAN("first"));
	else if (!is_path(request, "/ws") && !is_path(request, "/ws-later"))
		respond_with(c, request->path);
	else if (conn_check_upgrade(c)) {
		if (is_path(request, "/ws"))
			upgrade(c);
		else
			keep_pending(c);
	}
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct app *a = app_of(c);

	assert_int_equal(conn_state(c), CONN_WEBSOCKET);
	a->messages++;
	if (is_text) {
		buf_append(&a->texts, message.bytes, message.len);
		buf_append(&a->texts, ";", 1);
	}
	if (a->pauses)
		conn_pause(c);
	if (a->on_message == CLOSE_REASON_NONE)
		return;
	if (a->is_later)
		conn_end_later(c, a->on_message);
	else
		conn_end(c, a->on_message, NULL);
	a->state_after_end = conn_state(c);
}

static const char *fields(struct conn *c, const struct http_request *request,
			  struct span origin)
{
	(void)origin;
	if (request == NULL)
		return NULL; /* its head could not be read */
	assert_ptr_equal(conn_request(c), request);
	return request->path.len > 4 ? "X-Long: yes\r\n" : NULL;
}

static void on_room(struct conn *c)
{
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	conn_send_text(c, SPAN("room"));
}

static void on_end(struct conn *c)
{
	struct app *a = app_of(c);
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	*has_ended = true;
	a->ends++;
	for (unsigned i = 0; i < a->pending_count; i++)
		if (a->pending[i] == c)
			a->pending[i] = NULL;
	if (a->websocket == c)
		a->websocket = NULL;
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(bool),
	.on_head = on_head,
	.on_request = on_request,
	.fields = fields,
	.on_room = on_room,
	.on_message = on_message,
	.on_end = on_end,
};

/* --- set-up --------------------------------------------------------------- */

static struct app *app_new(const struct conn_limits *limits)
{
	struct app *a = calloc(1, sizeof *a);
	assert_non_null(a);
	a->on_message = CLOSE_REASON_NONE;
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
	uint64_t opened = ended(&a->l, STATS_accepted);
	loopback_close(&a->l);
	assert_true(a->has_no_memory || a->ends == opened);
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

static struct client *open_websocket(struct app *a)
{
	struct client *c = connect_client(&a->l);
	send_text(c, UPGRADE("/ws"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_non_null(a->websocket);
	skip_upgrade(c);
	return c;
}

/* One that has stopped reading, on small kernel buffers. */
static struct client *open_lazy_websocket(struct app *a)
{
	struct client *c = connect_lazy_client(&a->l);
	c->reads = true;
	send_text(c, UPGRADE("/ws"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	c->reads = false;
	return c;
}

static struct chunk *frame_of(unsigned opcode, size_t len, char filling)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t header_len = websocket_write_header(end, opcode, len);
	struct chunk *chunk = chunk_new(header_len + len);
	char *payload = malloc(len);

	assert_non_null(chunk);
	assert_non_null(payload);
	memset(payload, filling, len);
	chunk_append(chunk, end - header_len, header_len);
	chunk_append(chunk, payload, len);
	free(payload);
	return chunk;
}

static void send_filling(struct conn *c, size_t len, char filling)
{
	struct chunk *chunk = frame_of(OP_TEXT, len, filling);
	conn_send(c, chunk);
	chunk_unref(chunk);
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

/* --- requests ------------------------------------------------------------- */

static void a_request_is_answered_and_the_connection_is_kept(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "HTTP/1.1 200 OK\r\nDate: ");
	place_of(c, "\r\n\r\n/one");
	assert_int_equal(count_of(c, "Connection: close"), 0);
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "\r\n\r\n/two");
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
}

static void requests_are_read_byte_by_byte_as_well(void **state)
{
	static const char text[] = "POST /one HTTP/1.1\r\nHost: x\r\n"
				   "Content-Length: 3\r\n\r\nabc" GET("/two");
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	for (size_t i = 0; i < sizeof text - 1; i++) {
		send_bytes(c, text + i, 1);
		turn(&a->l);
	}
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
	assert_int_equal(a->heads, 2);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/two") GET("/three"));
	WAIT_UNTIL(&a->l, responses(c) == 3);
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
	assert_true(place_of(c, "/two") < place_of(c, "/three"));
}

static void head_is_answered_without_content(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "HEAD /one HTTP/1.1\r\nHost: x\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(count_of(c, "Content-Length: 4\r\n"), 2);
	assert_int_equal(count_of(c, "/one"), 0);
}

static void a_pending_request_holds_back_those_behind_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") GET("/one") GET("/later") GET("/two"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	assert_int_equal(c->in.len, 0);
	assert_int_equal(a->requests, 1);
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, a->pending_count == 2);
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(a->requests, 3);
	respond_with(a->pending[1], SPAN("/second"));
	WAIT_UNTIL(&a->l, responses(c) == 4);
	assert_true(place_of(c, "/first") < place_of(c, "/one"));
	assert_true(place_of(c, "/one") < place_of(c, "/second"));
	assert_true(place_of(c, "/second") < place_of(c, "/two"));
}

static void what_comes_while_pending_is_read_after_the_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") "GET /o");
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	send_text(c, "ne HTTP/1.1\r\nHost: x\r\n\r\n" GET("/two"));
	turn_for(&a->l, 20);
	assert_int_equal(a->requests, 1);
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, responses(c) == 3);
	assert_true(place_of(c, "/first") < place_of(c, "/one"));
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
}

static void the_content_of_a_refused_request_is_discarded(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 9\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_int_equal(count_in(&a->l, CONN_DISCARDING), 1);
	send_text(c, "GET /bad ");
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(count_of(c, "/bad"), 0);
	assert_int_equal(a->requests, 1);
}

static void an_expected_continue_is_sent(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "HTTP/1.1 100 Continue\r\n\r\n");
	send_text(c, "abc");
	WAIT_UNTIL(&a->l, responses(c) == 2);
}

static void a_continue_is_not_sent_for_content_that_has_come(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\nabc");
	WAIT_UNTIL(&a->l, count_of(c, "/one") == 1);
	assert_int_equal(responses(c), 1);
}

static void a_refused_expectation_ends_the_connection(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1); /* no 100 */
	place_of(c, "HTTP/1.1 401 ");
	place_of(c, "Connection: close\r\n");
	close_client(c);
	expect_ending(a, STATS_closed_done);
}

static void a_bad_request_is_answered_and_lingers(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") "nonsense\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	place_of(c, "HTTP/1.1 400 ");
	assert_int_equal(count_in(&a->l, CONN_LINGERING), 1);
	send_text(c, "more that nobody wants");
	turn_for(&a->l, 20);
	assert_int_equal(a->l.group->count, 1);
	close_client(c);
	expect_ending(a, STATS_closed_bad_request);
}

static void a_refused_request_gets_one_answer_even_if_it_turns_bad(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Transfer-Encoding: chunked\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	send_text(c, "no chunk\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1);
	close_client(c);
	expect_ending(a, STATS_closed_bad_request);
}

static void the_last_request_is_answered_before_the_end(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(
		c,
		"GET /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET(
			"/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 1);
	place_of(c, "Connection: close\r\n");
	close_client(c);
	expect_ending(a, STATS_closed_done);
}

static void a_last_answer_at_the_head_drops_the_content(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early-last HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 9\r\n\r\nabc");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	place_of(c, "HTTP/1.1 401 ");
	send_text(c, "def" GET("/two"));
	close_client(c);
	expect_ending(a, STATS_closed_done);
	assert_int_equal(a->requests, 0);
}

static void a_last_answer_may_come_later(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "GET /later HTTP/1.0\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 1);
	close_client(c);
	expect_ending(a, STATS_closed_done);
}

static void a_hook_may_end_the_connection_at_the_head(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/gone-early") GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->requests, 0);
}

static void a_hook_may_end_the_connection_at_the_request(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/gone") GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->requests, 2);
}

/* --- the peer's end ------------------------------------------------------- */

static void a_peer_that_has_shut_its_side_is_answered(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/two"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
}

static void a_peer_that_has_shut_its_side_is_answered_later(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") GET("/two"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
}

static void a_peer_that_has_shut_its_side_gets_all_of_a_long_answer(
	void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/big"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, count_in(&a->l, CONN_FINISHING) == 1);
	turn_for(&a->l, 20);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_true(c->in.len > BIG_BYTES);
	expect_ending(a, STATS_closed_done);
}

static void a_peer_that_shuts_its_side_gets_all_of_the_last_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, "GET /big HTTP/1.0\r\n\r\n");
	WAIT_UNTIL(&a->l, count_in(&a->l, CONN_FINISHING) == 1);
	turn(&a->l);
	shutdown(c->fd, SHUT_WR);
	turn_for(&a->l, 20);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_true(c->in.len > BIG_BYTES);
	expect_ending(a, STATS_closed_done);
}

static void a_peer_that_leaves_between_requests_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	close_client(c);
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_peer_that_leaves_within_a_request_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "GET /one HT");
	WAIT_UNTIL(&a->l, ended(&a->l, STATS_bytes_in) > 0);
	close_client(c);
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_pending_is_seen_at_the_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	reset_client(c);
	turn_for(&a->l, 20);
	assert_non_null(a->pending[0]);
	respond_with(a->pending[0], SPAN("/first"));
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_a_write_is_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/huge"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_pending_with_a_write_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/big") GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	expect_ending(a, STATS_closed_peer_gone);
	assert_null(a->pending[0]);
}

static void a_reset_while_lingering_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "nonsense\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	reset_client(c);
	expect_ending(a, STATS_closed_bad_request);
}

/* --- a peer that does not read -------------------------------------------- */

static void a_peer_that_does_not_read_is_not_read_any_further(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/huge"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/two"));
	turn_for(&a->l, 30);
	assert_int_equal(a->requests, 1);
	c->reads = true;
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_true(place_of(c, "\r\n\r\n/two") > HUGE_BYTES);
}

/* A short request can ask for a long answer, many times in one read. */
static void a_pipeline_whose_answers_are_not_read_waits(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);
	const unsigned all = 500;
	struct buf b = {0};

	for (unsigned i = 0; i < all; i++)
		assert_int_equal(
			buf_append(&b, GET("/big"), sizeof GET("/big") - 1), 0);
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	turn_for(&a->l, 20);
	assert_in_range(queued_bytes(&a->l), 1,
			CONN_HIGH_WATER_BYTES + BIG_BYTES + 1000);
	assert_true(a->requests < all);
	c->reads = true;
	WAIT_UNTIL(&a->l,
		   a->requests == all && c->in.len > (size_t)all * BIG_BYTES);
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
}

static void a_peer_that_never_reads_is_given_up(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/huge"));
	expect_ending(a, STATS_closed_write_timeout);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_true(c->is_reset);
	app_free(a);
}

static void a_peer_that_never_reads_its_last_answer_is_given_up(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") "nonsense\r\n\r\n");
	expect_ending(a, STATS_closed_bad_request);
	app_free(a);
}

static void a_peer_that_never_reads_is_given_up_while_pending(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/later"));
	expect_ending(a, STATS_closed_write_timeout);
	app_free(a);
}

static void a_write_that_starts_while_pending_has_its_time_too(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") GET("/later"));
	expect_ending(a, STATS_closed_write_timeout);
	assert_int_equal(a->requests, 2);
	app_free(a);
}

static void a_peer_that_never_reads_is_given_up_after_a_pending_request(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	respond_with_filling(a->pending[0], HUGE_BYTES);
	expect_ending(a, STATS_closed_write_timeout);
	app_free(a);
}

static void the_time_to_write_ends_when_all_is_written(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.durations_ms[DEADLINE_WRITE] = 200;
	limits.durations_ms[DEADLINE_IDLE] = 400;
	struct app *a = app_new(&limits);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, a->requests == 2);
	c->reads = true;
	WAIT_UNTIL(&a->l, responses(c) == 2);
	expect_ending(a, STATS_closed_idle_timeout);
	app_free(a);
}

static void the_time_to_write_ends_when_all_is_written_while_pending(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->in.len > BIG_BYTES);
	turn_for(&a->l, 200);
	assert_non_null(a->pending[0]);
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	app_free(a);
}

static void content_that_comes_beside_a_slow_write_has_its_own_time(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, "POST /two HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 3\r\n\r\na");
	WAIT_UNTIL(&a->l, a->heads == 2);
	turn(&a->l);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->in.len > BIG_BYTES);
	turn_for(&a->l, 200);
	send_text(c, "b");
	turn_for(&a->l, 200);
	send_text(c, "c");
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "\r\n\r\n/two");
	app_free(a);
}

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
	expect_ending(a, STATS_closed_header_timeout);
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
	expect_ending(a, STATS_closed_header_timeout);
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
	expect_ending(a, STATS_closed_header_timeout);
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
	expect_ending(a, STATS_closed_header_timeout);
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
	expect_ending(a, STATS_closed_idle_timeout);
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
	respond_with(a->pending[0], SPAN("/first"));
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
	respond_with(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 2);
	place_of(c, "HTTP/1.1 408 ");
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
	expect_ending(a, STATS_closed_bad_request);
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
	send_filling(a->websocket, 3, 'x');
	wait_for_frame(a, c, &frame);
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
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_memory_equal(a->texts.bytes, "one;two;", 8);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	wait_for_frame(a, c, &frame);
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
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	send_frame(c, OP_TEXT, SPAN("two"));
	turn_for(&a->l, 20);
	assert_int_equal(a->messages, 0);
	upgrade(a->pending[0]);
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
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	WAIT_UNTIL(&a->l, !list_is_empty(&a->l.group->stalled));
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	assert_int_equal(a->pending_count, 0);
	c->reads = true;
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	upgrade(a->pending[0]);
	WAIT_UNTIL(&a->l, a->messages == 1);
}

static void a_byte_at_a_time_makes_messages_as_well(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
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
	struct client *c = open_websocket(a);
	struct buf b = {0};

	put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
	put_frame(&b, OP_TEXT, SPAN("not read any more"));
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	expect_close(a, c, 1000);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(c->at, c->in.len);
	expect_ending(a, STATS_closed_peer_closed);
	assert_int_equal(a->messages, 0);
}

static void a_peer_that_leaves_without_close_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);

	close_client(c);
	expect_ending(a, STATS_closed_peer_gone);
	assert_null(a->websocket);
}

static void a_reset_of_a_websocket_with_a_write_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_websocket(a);

	send_filling(a->websocket, 200000, 'x');
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	expect_ending(a, STATS_closed_peer_gone);
}

static void every_ending_with_a_code_says_it_and_why(void **state)
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
		struct client *c = open_websocket(a);
		conn_end(a->websocket, rows[i].why, NULL);
		assert_null(a->websocket);
		if (rows[i].code != 0) {
			struct frame frame;
			wait_for_frame(a, c, &frame);
			assert_int_equal(frame.code, rows[i].code);
			frame.payload.bytes += 2;
			frame.payload.len -= 2;
			assert_true(span_equal(frame.payload,
					       span_of(rows[i].reason)));
			assert_int_equal(count_in(&a->l, CONN_CLOSING), 1);
			send_frame(c, OP_CLOSE, SPAN("\x03\xe8"));
		}
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_int_equal(c->at, c->in.len);
		close_client(c);
		expect_ending(a, rows[i].counter);
		app_free(a);
	}
}

static void a_hook_may_end_the_connection_at_a_message(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->on_message = CLOSE_REASON_policy;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	put_frame(&b, OP_PING, SPAN("p"));
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	expect_close(a, c, 1008);
	assert_int_equal(a->state_after_end, CONN_CLOSING);
	assert_int_equal(a->messages, 1);
	send_frame(c, OP_TEXT, SPAN("three"));
	send_frame(c, OP_CLOSE, SPAN("\x03\xf0"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(c->at, c->in.len); /* no Pong, no second Close */
	assert_int_equal(a->messages, 1);
	close_client(c);
	expect_ending(a, STATS_closed_policy);
}

static void a_hook_may_abort_the_connection_at_a_message(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->on_message = CLOSE_REASON_peer_gone;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	put_frame(&b, OP_CLOSE, SPAN(""));
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(a->state_after_end, CONN_CLOSED);
	expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->messages, 1);
}

static void an_ending_for_later_waits_for_the_flush(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);

	a->on_message = CLOSE_REASON_binary;
	a->is_later = true;
	send_frame(c, OP_BINARY, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_int_equal(a->state_after_end, CONN_WEBSOCKET);
	expect_close(a, c, 1003);
	close_client(c);
	expect_ending(a, STATS_closed_binary);
}

static void one_that_will_be_ended_hears_nothing_more(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->on_message = CLOSE_REASON_policy;
	a->is_later = true;
	put_frame(&b, OP_TEXT, SPAN("one"));
	put_frame(&b, OP_TEXT, SPAN("two"));
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	expect_close(a, c, 1008);
	assert_int_equal(a->messages, 1);
	close_client(c);
	expect_ending(a, STATS_closed_policy);
}

static void the_first_ending_for_later_decides(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);

	conn_end_later(a->websocket, CLOSE_REASON_policy);
	conn_end_later(a->websocket, CLOSE_REASON_too_big);
	send_filling(a->websocket, 3, 'x'); /* too late */
	conn_end(a->websocket, CLOSE_REASON_going_away, NULL);
	expect_close(a, c, 1008);
	close_client(c);
	expect_ending(a, STATS_closed_policy);
}

static void many_are_ended_while_they_are_walked_over(void **state)
{
	struct app *a = *state;
	struct client *c[40];
	struct conn *conns[40];

	for (int i = 0; i < 40; i++) {
		c[i] = open_websocket(a);
		conns[i] = a->websocket;
	}
	for (int i = 0; i < 40; i++)
		conn_end_later(conns[i], CLOSE_REASON_policy);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 40);
	conn_group_flush(a->l.group);
	assert_int_equal(count_in(&a->l, CONN_CLOSING), 40);
	for (int i = 0; i < 40; i++) {
		expect_close(a, c[i], 1008);
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
		struct client *c = open_websocket(a);
		send_bytes(c, rows[i].bytes.bytes, rows[i].bytes.len);
		expect_close(a, c, rows[i].code);
		send_frame(c, OP_CLOSE, SPAN("\x03\xe8"));
		WAIT_UNTIL(&a->l, c->is_over);
		assert_false(c->is_reset);
		assert_int_equal(c->at, c->in.len);
		close_client(c);
		expect_ending(a, rows[i].counter);
		app_free(a);
	}
}

static void close_is_sent_once_even_if_bad_frames_follow(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct buf b = {0};

	a->on_message = CLOSE_REASON_binary;
	put_frame(&b, OP_BINARY, SPAN("one"));
	buf_append(&b, "\xff\xff\xff\xff", 4);
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	expect_close(a, c, 1003);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(c->at, c->in.len);
	close_client(c);
	expect_ending(a, STATS_closed_binary);
}

static void a_peer_that_does_not_answer_close_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_CLOSE, 30);
	struct client *c = open_websocket(a);
	(void)state;

	conn_end(a->websocket, CLOSE_REASON_policy, NULL);
	expect_close(a, c, 1008);
	WAIT_UNTIL(&a->l, c->is_over);
	expect_ending(a, STATS_closed_policy);
	app_free(a);
}

static void nothing_is_sent_to_one_that_is_no_websocket(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, UPGRADE("/ws-later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	struct conn *conn = a->pending[0];
	send_filling(conn, 3, 'x');
	assert_int_equal(queued_bytes(&a->l), 0);
	upgrade(conn);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	conn_end(conn, CLOSE_REASON_policy, NULL);
	send_filling(conn, 3, 'x');
	expect_close(a, c, 1008);
	assert_int_equal(c->at, c->in.len);
}

/* --- pings ---------------------------------------------------------------- */

static void a_ping_of_the_peer_is_answered(void **state)
{
	struct app *a = *state;
	struct client *c = open_websocket(a);
	struct frame frame;

	send_frame(c, OP_PING, SPAN("are you there"));
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	assert_true(span_equal(frame.payload, SPAN("are you there")));
}

static void a_peer_that_is_not_heard_is_closed(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 30);
	struct client *c = open_websocket(a);
	struct frame frame;
	(void)state;

	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PING);
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PING);
	expect_close(a, c, 1011);
	close_client(c);
	expect_ending(a, STATS_closed_ping_timeout);
	app_free(a);
}

static void a_message_that_is_never_finished_ends_it(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 100);
	struct client *c = open_websocket(a);
	struct frame frame = {0};
	(void)state;

	send_bytes(c, "\x81\x84\0\0\0\0a", 7);
	while (frame.opcode != OP_CLOSE) {
		wait_for_frame(a, c, &frame);
		if (frame.opcode == OP_PING && c->at % 2 == 0)
			send_bytes(c, "b", 1);
	}
	assert_int_equal(frame.code, 1008);
	assert_int_equal(a->messages, 0);
	close_client(c);
	expect_ending(a, STATS_closed_message_timeout);
	app_free(a);
}

static void each_message_has_a_time_of_its_own(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 60);
	struct client *c = open_websocket(a);
	struct frame frame;
	(void)state;

	/* Whenever something has been read, a message is unfinished. */
	send_bytes(c, "\x81\x81\0\0", 4);
	for (unsigned i = 1; i <= 6; i++) {
		wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
		send_bytes(c, "\0\0x\x81\x81\0\0", 7);
		WAIT_UNTIL(&a->l, a->messages == i);
	}
	app_free(a);
}

static void a_peer_that_answers_pings_is_kept(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 60);
	struct client *c = open_websocket(a);
	struct frame frame;
	(void)state;

	for (int i = 0; i < 6; i++) {
		wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
		send_frame(c, OP_PONG, SPAN(""));
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

/* --- a WebSocket that is too slow ----------------------------------------- */

/* Takes frames up to Close; each must be whole and of `len` bytes. Returns how
 * many came. */
static unsigned take_up_to_close(struct app *a, struct client *c, size_t len,
				 unsigned code)
{
	struct frame frame;

	for (unsigned count = 0;; count++) {
		wait_for_frame(a, c, &frame);
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
	struct client *c = open_lazy_websocket(a);
	unsigned sent = 0;

	while (a->websocket != NULL && sent < 10000) {
		send_filling(a->websocket, 1000, 'a' + (char)(sent++ % 26));
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
	expect_ending(a, STATS_closed_slow);
}

static void one_over_the_limit_behind_what_is_in_flight_gets_1013(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 10000;
	struct app *a = app_new(&limits);
	struct client *c = open_lazy_websocket(a);
	(void)state;

	/* Behind a frame that is being written, however long that is. */
	send_filling(a->websocket, 300000, 'a');
	turn(&a->l);
	send_filling(a->websocket, 9000, 'b');
	turn(&a->l);
	assert_non_null(a->websocket);
	send_filling(a->websocket, 9000, 'c');
	turn(&a->l);
	assert_null(a->websocket);
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
	struct client *c = open_websocket(a);
	struct frame frame;
	(void)state;

	for (int i = 0; i < 20; i++)
		send_filling(a->websocket, 1000, 'x');
	send_filling(a->websocket, 30000, 'x');
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	for (int i = 0; i < 21; i++)
		wait_for_frame(a, c, &frame);
	assert_int_equal(frame.payload.len, 30000);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

static void a_burst_of_pings_is_fine_for_one_that_reads(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.buffered_max_bytes = 1000;
	struct app *a = app_new(&limits);
	struct client *c = open_websocket(a);
	struct buf b = {0};
	char payload[100] = {0};
	struct frame frame;
	(void)state;

	for (int i = 0; i < 100; i++)
		put_frame(&b, OP_PING, (struct span){payload, sizeof payload});
	send_bytes(c, b.bytes, b.len);
	buf_fini(&b);
	for (int i = 0; i < 100; i++) {
		wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PONG);
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	app_free(a);
}

static void many_small_frames_count_for_more_than_their_bytes(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_websocket(a);
	unsigned sent = 1;

	send_filling(a->websocket, 60000, 'a');
	turn(&a->l);
	while (a->websocket != NULL && sent < 10000) {
		send_filling(a->websocket, 1, 'b');
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
	struct client *c = open_lazy_websocket(a);
	struct buf b = {0};
	char payload[100] = {0};

	for (int i = 0; i < 100; i++)
		put_frame(&b, OP_PING, (struct span){payload, sizeof payload});
	for (int i = 0; i < WAIT_MS && a->websocket != NULL; i++) {
		send_bytes(c, b.bytes, b.len);
		turn(&a->l);
	}
	buf_fini(&b);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
	assert_true(queued_bytes(&a->l) <= 262144);
	c->reads = true;
	struct frame frame = {0};
	while (frame.opcode != OP_CLOSE)
		wait_for_frame(a, c, &frame);
	assert_int_equal(frame.code, 1013);
}

static void one_that_is_doomed_as_slow_ends_as_slow(void **state)
{
	struct app *a = *state;
	struct client *c = open_lazy_websocket(a);
	struct conn *conn = a->websocket;

	for (int i = 0; i < 1000; i++)
		send_filling(conn, 1000, 'a' + (char)(i % 26));
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	conn_group_end_all(a->l.group); /* before the flush */
	c->reads = true;
	take_up_to_close(a, c, 1000, 1013);
	assert_int_equal(ended(&a->l, STATS_closed_slow), 1);
}

/* --- the budget of memory --------------------------------------------------
 */

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
		clients[i] = open_lazy_websocket(a);
		conns[i] = a->websocket;
		send_filling(conns[i], 50000, 'a');
		turn(&a->l);
		send_filling(conns[i], lens[i], 'b');
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
	struct client *modest = open_websocket(a);
	struct client *greedy = open_websocket(a);
	struct frame frame;
	(void)state;

	size_t used = settled_memory_used();
	set_memory_limit(used - 100);
	assert_int_equal(memory_level(), MEMORY_FULL);
	send_frame(modest, OP_PING, SPAN("x"));
	wait_for_frame(a, modest, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	send_bytes(greedy, "\x81\xfe\xff\xff\0\0\0\0some", 12);
	expect_close(a, greedy, 1011);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	assert_int_equal(settled_memory_used(), used);
	set_memory_limit(0);
	app_free(a);
}

/* --- the group ------------------------------------------------------------ */

static void ending_all_ends_each_in_its_way(void **state)
{
	struct app *a = *state;
	struct client *websocket = open_websocket(a);
	struct client *idle = connect_client(&a->l);
	struct client *pending = connect_client(&a->l);
	struct client *writing = connect_lazy_client(&a->l);
	struct client *closing = open_websocket(a);

	conn_end(a->websocket, CLOSE_REASON_policy, NULL);
	send_text(pending, GET("/later"));
	send_text(writing, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 4);
	turn(&a->l);
	conn_group_end_all(a->l.group);
	assert_int_equal(a->ends, 5);
	WAIT_UNTIL(&a->l, idle->is_over);
	expect_close(a, websocket, 1001);
	expect_close(a, closing, 1008);
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
			c[i] = open_websocket(a);
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
			respond_with(a->pending[0], SPAN("/first"));
	}
	return oom_end();
}

/* Messages in and out, and Close. */
static bool frames_with_failing_allocation(struct app *a, unsigned nth)
{
	struct client *c = open_lazy_websocket(a);
	struct chunk *chunk = frame_of(OP_TEXT, 50000, 'x');
	struct buf frames = {0};

	put_frame(&frames, OP_TEXT, SPAN("one"));
	put_frame(&frames, OP_PING, SPAN("p"));
	put_frame(&frames, OP_TEXT, SPAN("two"));
	send_bytes(c, frames.bytes, frames.len - 2);
	buf_reserve(&a->texts, 100);
	oom_fail_at(nth);
	for (int i = 0; i < 50; i++) {
		uv_run(&a->l.loop, UV_RUN_NOWAIT);
		if (i >= 10 && i < 14 && a->websocket != NULL)
			conn_send(a->websocket, chunk);
		if (i == 30 && a->websocket != NULL)
			conn_end(a->websocket, CLOSE_REASON_policy, NULL);
	}
	bool has_failed = oom_end();
	chunk_unref(chunk);
	buf_fini(&frames);
	return has_failed;
}

/* One with a high descriptor: the loop has made room for those below, which it
 * can't do without memory (libuv: uv__io_start aborts). */
static struct client *connect_high_client(struct loopback *l)
{
	int server;
	int client;

	tcp_pair(0, &server, &client);
	int high = fcntl(server, F_DUPFD_CLOEXEC, 200);
	assert_true(high >= 200);
	close(server);
	assert_int_equal(
		conn_open(l->group, (struct accepted){high, LISTENER_TCP}), 0);
	return add_client(l, client);
}

static void fail_each_allocation_of(bool (*live)(struct app *, unsigned))
{
	unsigned nth = 0;
	bool has_failed;

	do {
		struct app *a = app_new(&roomy_limits);
		struct client *other = connect_high_client(&a->l);
		send_text(other, GET("/one"));
		WAIT_UNTIL(&a->l, responses(other) == 1);
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
	if (is_path(conn_request(c), "/ws-later") && random_below(4) > 0)
		conn_upgrade(c, (struct span){0});
	else if (random_below(4) == 0)
		conn_stream(c, SPAN("later"));
	else if (random_below(4) > 0)
		respond_with(c, SPAN("later"));
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
	struct chunk *chunk = frame_of(OP_TEXT, 1 + random_below(60000), 'x');
	for (unsigned i = 0; i < count; i++) {
		enum close_reason why =
			(enum close_reason)random_below(CLOSE_REASON_COUNT);
		if (random_below(4) == 0)
			conn_send_part(conns[i], SPAN("id: 1\n"));
		if (random_below(2) == 0)
			conn_send(conns[i], chunk);
		if (random_below(4) == 0)
			conn_send_text(conns[i], SPAN("text"));
		if (random_below(4) == 0)
			conn_wait_for_room(conns[i]);
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
		a->on_message = random_below(3) > 0
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

#define WITH_APP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_APP(a_request_is_answered_and_the_connection_is_kept),
		WITH_APP(requests_are_read_byte_by_byte_as_well),
		WITH_APP(pipelined_requests_are_answered_in_order),
		WITH_APP(head_is_answered_without_content),
		WITH_APP(a_pending_request_holds_back_those_behind_it),
		WITH_APP(what_comes_while_pending_is_read_after_the_answer),
		WITH_APP(the_content_of_a_refused_request_is_discarded),
		WITH_APP(an_expected_continue_is_sent),
		WITH_APP(a_continue_is_not_sent_for_content_that_has_come),
		WITH_APP(a_refused_expectation_ends_the_connection),
		WITH_APP(a_bad_request_is_answered_and_lingers),
		WITH_APP(
			a_refused_request_gets_one_answer_even_if_it_turns_bad),
		WITH_APP(the_last_request_is_answered_before_the_end),
		WITH_APP(a_last_answer_at_the_head_drops_the_content),
		WITH_APP(a_last_answer_may_come_later),
		WITH_APP(a_hook_may_end_the_connection_at_the_head),
		WITH_APP(a_hook_may_end_the_connection_at_the_request),
		WITH_APP(a_peer_that_has_shut_its_side_is_answered),
		WITH_APP(a_peer_that_has_shut_its_side_is_answered_later),
		WITH_APP(
			a_peer_that_has_shut_its_side_gets_all_of_a_long_answer),
		WITH_APP(
			a_peer_that_shuts_its_side_gets_all_of_the_last_answer),
		WITH_APP(a_peer_that_leaves_between_requests_is_gone),
		WITH_APP(a_peer_that_leaves_within_a_request_is_gone),
		WITH_APP(a_reset_while_pending_is_seen_at_the_answer),
		WITH_APP(a_reset_while_a_write_is_in_flight_ends_it),
		WITH_APP(a_reset_while_pending_with_a_write_in_flight_ends_it),
		WITH_APP(a_reset_while_lingering_ends_it),
		WITH_APP(a_peer_that_does_not_read_is_not_read_any_further),
		WITH_APP(a_pipeline_whose_answers_are_not_read_waits),
		cmocka_unit_test(a_peer_that_never_reads_is_given_up),
		cmocka_unit_test(
			a_peer_that_never_reads_its_last_answer_is_given_up),
		cmocka_unit_test(
			a_peer_that_never_reads_is_given_up_while_pending),
		cmocka_unit_test(
			a_write_that_starts_while_pending_has_its_time_too),
		cmocka_unit_test(
			a_peer_that_never_reads_is_given_up_after_a_pending_request),
		cmocka_unit_test(the_time_to_write_ends_when_all_is_written),
		cmocka_unit_test(
			the_time_to_write_ends_when_all_is_written_while_pending),
		cmocka_unit_test(
			content_that_comes_beside_a_slow_write_has_its_own_time),
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
		WITH_APP(one_that_is_doomed_as_slow_ends_as_slow),
		WITH_APP(ending_all_ends_each_in_its_way),
		WITH_APP(a_descriptor_that_is_no_socket_is_refused),
		WITH_APP(parsers_are_used_again),
		cmocka_unit_test(
			without_memory_a_connection_ends_and_nothing_else),
		cmocka_unit_test(
			without_memory_a_websocket_ends_and_nothing_else),
		WITH_APP(without_memory_for_the_response_there_is_no_websocket),
		cmocka_unit_test(nothing_that_peers_do_breaks_the_server),
		cmocka_unit_test(every_state_was_seen_and_every_ending_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
