/* test_read.c - that every connection has its turn (src/conn/read.c): how much
 * of one is read and used before the others are served. What is read, and how
 * it is paused, is in test_conn.c and test_stream.c. */
#include "app.h"
#include "oom.h"

#define A_TURN 128 /* requests or messages */

static struct client *open_ahead(struct app *a)
{
	struct client *c = app_open_websocket(a);

	a->unheard = a->conn;
	return c;
}

/* Takes the poll's one large read that is used at once: a large read behind it
 * waits. */
static void send_ahead(struct client *ahead)
{
	static const char text[40000];

	send_frame(ahead, OP_TEXT, (struct span){text, sizeof text});
}

static struct buf many(const char *text, unsigned count)
{
	struct buf b = {0};
	while (count-- > 0)
		assert_int_equal(buf_append(&b, text, strlen(text)), 0);
	return b;
}

static struct buf many_messages(const char *text, unsigned count)
{
	struct buf b = {0};
	while (count-- > 0)
		put_frame(&b, OP_TEXT, span_of(text));
	return b;
}

/* --- reads ---------------------------------------------------------------- */

/* libuv would read up to 32 times. */
static void at_most_one_read_a_connection_and_iteration(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	char text[50000] = {0};
	struct buf b = {0};

	for (int i = 0; i < 8; i++)
		put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	size_t all = ended(&a->l, STATS_bytes_in) + b.len;
	send_buf(c, &b);
	while (ended(&a->l, STATS_bytes_in) < all) {
		uint64_t before = ended(&a->l, STATS_bytes_in);
		turn(&a->l);
		assert_true(ended(&a->l, STATS_bytes_in) <=
			    before + CONN_BURST_BYTES);
	}
	WAIT_UNTIL(&a->l, a->messages == 8);
	assert_int_equal(a->texts.len, 8 * (sizeof text + 1));
	assert_int_equal(a->conn->reading, READING_FLOWING);
	assert_null(a->conn->stash);
}

static void the_same_where_what_comes_is_dropped(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct buf b = many("x", 400000);

	send_text(c, GET("/stream"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	size_t all = ended(&a->l, STATS_bytes_in) + b.len;
	send_buf(c, &b);
	while (ended(&a->l, STATS_bytes_in) < all) {
		uint64_t before = ended(&a->l, STATS_bytes_in);
		turn(&a->l);
		assert_true(ended(&a->l, STATS_bytes_in) <=
			    before + CONN_BURST_BYTES);
	}
	assert_int_equal(count_in(&a->l, CONN_EVENT_STREAM), 1);
}

static void much_of_one_is_used_at_once(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	char text[40000] = {0};

	for (unsigned n = 1; n <= 2; n++) {
		send_frame(c, OP_TEXT, (struct span){text, sizeof text});
		WAIT_UNTIL(&a->l, a->messages == n);
		assert_null(a->conn->stash);
		assert_false(conn_group_is_busy(a->l.group));
	}
}

/* Not in the poll, where all that are ready come one after another. */
static void much_of_others_waits_for_its_turn(void **state)
{
	struct app *a = *state;
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	char text[40000] = {0};

	send_ahead(ahead);
	send_frame(c, OP_TEXT, (struct span){text, sizeof text});
	WAIT_UNTIL(&a->l, a->conn->stash != NULL);
	assert_int_equal(a->messages, 0);
	assert_int_equal(a->conn->reading, READING_IN_LINE);
	assert_true(conn_group_is_busy(a->l.group));
	/* Nor does the loop sleep. */
	conn_group_flush(a->l.group);
	assert_int_equal(uv_backend_timeout(&a->l.loop), 0);
	turn(&a->l);
	assert_int_equal(a->messages, 1);
	assert_int_equal(a->conn->reading, READING_FLOWING);
	assert_false(conn_group_is_busy(a->l.group));
}

/* Both come in one poll. */
static void of_two_that_send_much_one_waits(void **state)
{
	struct app *a = *state;
	struct client *clients[2] = {app_open_websocket(a),
				     app_open_websocket(a)};
	char text[40000] = {0};

	for (unsigned i = 0; i < 2; i++)
		send_frame(clients[i], OP_TEXT,
			   (struct span){text, sizeof text});
	WAIT_UNTIL(&a->l, a->messages > 0 || conn_group_is_busy(a->l.group));
	assert_true(a->messages <= 1);
	WAIT_UNTIL(&a->l, a->messages == 2);
}

/* The end of a long message costs as much as all of it. */
static void the_rest_of_much_waits_too(void **state)
{
	struct app *a = *state;
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	char text[40000] = {0};
	struct buf b = {0};

	put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	uint64_t before = ended(&a->l, STATS_bytes_in);
	send_bytes(c, b.bytes, b.len - 1);
	WAIT_UNTIL(&a->l, ended(&a->l, STATS_bytes_in) == before + b.len - 1 &&
				  a->conn->reading == READING_FLOWING);
	turn(&a->l); /* the poll knows now that it has read all */
	send_ahead(ahead);
	send_bytes(c, b.bytes + b.len - 1, 1);
	WAIT_UNTIL(&a->l, a->conn->stash != NULL);
	assert_int_equal(a->messages, 0);
	WAIT_UNTIL(&a->l, a->messages == 1);
	buf_fini(&b);
}

/* --- turns ---------------------------------------------------------------- */

static void after_many_requests_it_is_the_others_turn(void **state)
{
	struct app *a = *state;
	struct client *greedy = connect_client(&a->l);
	struct client *modest = connect_client(&a->l);
	struct buf b = many(GET("/"), 3 * A_TURN);

	turn(&a->l);
	send_buf(greedy, &b);
	send_text(modest, GET("/"));
	WAIT_UNTIL(&a->l, responses(modest) == 1);
	assert_in_range(responses(greedy), A_TURN, 2 * A_TURN);
	for (unsigned n = a->requests; n < 3 * A_TURN + 1; n = a->requests) {
		turn(&a->l);
		assert_in_range(a->requests, n, n + A_TURN);
	}
	WAIT_UNTIL(&a->l, responses(greedy) == 3 * A_TURN);
}

static void after_many_messages_it_is_the_others_turn(void **state)
{
	struct app *a = *state;
	struct client *greedy = app_open_websocket(a);
	struct client *modest = app_open_websocket(a);
	struct buf b = many_messages("greedy", 3 * A_TURN);

	send_buf(greedy, &b);
	WAIT_UNTIL(&a->l, a->messages > 0);
	assert_int_equal(a->messages, A_TURN);
	send_frame(modest, OP_TEXT, SPAN("modest"));
	for (unsigned n = 1; n <= 2; n++) {
		turn(&a->l);
		assert_true(a->messages <= (n + 1) * A_TURN + 1);
	}
	WAIT_UNTIL(&a->l, a->messages == 3 * A_TURN + 1);
}

static void few_that_take_long_end_a_turn_as_well(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = many_messages("slow", 40);

	a->message_ns = 1000000;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages > 0);
	assert_true(a->messages <= 16);
	a->message_ns = 0;
	WAIT_UNTIL(&a->l, a->messages == 40);
}

static void many_that_send_little_do_not_make_a_poll_long(void **state)
{
	struct app *a = *state;
	struct client *clients[CLIENTS_MAX];
	const unsigned count = 60; /* each of 2 ms, in a poll of 10 ms */

	for (unsigned i = 0; i < count; i++)
		clients[i] = app_open_websocket(a);
	a->message_ns = 2000000;
	for (unsigned i = 0; i < count; i++)
		send_frame(clients[i], OP_TEXT, SPAN("x"));
	turn(&a->l);
	assert_in_range(a->messages, 1, 30);
	WAIT_UNTIL(&a->l, a->messages == count);
}

static void all_in_line_have_a_turn(void **state)
{
	struct app *a = *state;
	struct client *clients[8];
	char text[60000] = {0};

	for (int i = 0; i < 8; i++)
		clients[i] = app_open_websocket(a);
	a->message_ns = 2 * (uint64_t)CONN_ROUND_NS;
	for (int i = 0; i < 8; i++)
		send_frame(clients[i], OP_TEXT,
			   (struct span){text, sizeof text});
	/* Each turn is longer than the round, so each iteration has one. */
	for (unsigned n = a->messages; n < 8; n = a->messages) {
		turn(&a->l);
		assert_in_range(a->messages, n, n + 1);
	}
	assert_int_equal(a->texts.len, 8 * (sizeof text + 1));
}

static void one_that_ends_in_line_leaves_it(void **state)
{
	struct app *a = *state;
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	char text[60000] = {0};

	send_ahead(ahead);
	send_frame(c, OP_TEXT, (struct span){text, sizeof text});
	WAIT_UNTIL(&a->l, a->conn->stash != NULL);
	conn_end(a->conn, CLOSE_REASON_peer_gone, NULL);
	assert_true(list_is_empty(&a->l.group->line));
	WAIT_UNTIL(&a->l, a->l.group->count == 1);
	assert_int_equal(a->messages, 0);
}

/* Behind Close there is only the peer's. */
static void one_that_is_told_to_go_in_line_is_closed_in_order(void **state)
{
	struct app *a = *state;
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	struct frame frame;
	char text[60000] = {0};

	send_ahead(ahead);
	send_frame(c, OP_TEXT, (struct span){text, sizeof text});
	send_frame(c, OP_CLOSE, SPAN("\x03\xe8"));
	WAIT_UNTIL(&a->l, a->conn->stash != NULL);
	conn_end(a->conn, CLOSE_REASON_going_away, NULL);
	WAIT_UNTIL(&a->l, next_frame(c, &frame));
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, 1001);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(a->messages, 0);
}

static void the_peers_end_comes_behind_what_waits(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct buf b = many(GET("/"), 2 * A_TURN);

	send_buf(c, &b);
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 2 * A_TURN);
	assert_false(c->is_reset);
}

static void what_waits_in_line_is_charged(void **state)
{
	struct app *a = *state;
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	char text[60000] = {0};
	size_t before = settled_memory_used();

	send_ahead(ahead);
	send_frame(c, OP_TEXT, (struct span){text, sizeof text});
	WAIT_UNTIL(&a->l, a->conn->stash != NULL);
	assert_true(settled_memory_used() > before + sizeof text);
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_int_equal(settled_memory_used(), before);
}

static void without_memory_for_the_line_it_ends_and_nothing_else(void **state)
{
	struct app *a = *state;
	struct client *other = app_open_websocket(a);
	struct client *ahead = open_ahead(a);
	struct client *c = app_open_websocket(a);
	char text[60000] = {0};

	OOM_OR_SKIP();
	send_ahead(ahead);
	send_frame(c, OP_TEXT, (struct span){text, sizeof text});
	oom_fail_at(1);
	for (int i = 0; i < 10 && !oom_has_failed(); i++)
		uv_run(&a->l.loop, UV_RUN_ONCE);
	assert_true(oom_end());
	turn(&a->l);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 2);
	send_frame(other, OP_TEXT, SPAN("fine"));
	WAIT_UNTIL(&a->l, a->messages == 1);
}

/* --- flushes -------------------------------------------------------------- */

/* A fan-out may be long. */
static void answers_do_not_wait_for_subscribers(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);
	struct conn *subscriber;

	app_open_websocket(a);
	subscriber = a->conn;
	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->conn != subscriber);
	conn_send_text(subscriber, SPAN("hello"));
	conn_respond(a->conn, &(struct http_response){.status = 204});
	assert_ptr_equal(a->l.group->dirty.next, &subscriber->dirty);
	assert_ptr_equal(a->l.group->answering.next, &a->conn->dirty);
	WAIT_UNTIL(&a->l, responses(c) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_APP(at_most_one_read_a_connection_and_iteration),
		WITH_APP(the_same_where_what_comes_is_dropped),
		WITH_APP(much_of_one_is_used_at_once),
		WITH_APP(much_of_others_waits_for_its_turn),
		WITH_APP(of_two_that_send_much_one_waits),
		WITH_APP(the_rest_of_much_waits_too),
		WITH_APP(after_many_requests_it_is_the_others_turn),
		WITH_APP(after_many_messages_it_is_the_others_turn),
		WITH_APP(few_that_take_long_end_a_turn_as_well),
		WITH_APP(many_that_send_little_do_not_make_a_poll_long),
		WITH_APP(all_in_line_have_a_turn),
		WITH_APP(one_that_ends_in_line_leaves_it),
		WITH_APP(one_that_is_told_to_go_in_line_is_closed_in_order),
		WITH_APP(the_peers_end_comes_behind_what_waits),
		WITH_APP(what_waits_in_line_is_charged),
		WITH_APP(without_memory_for_the_line_it_ends_and_nothing_else),
		WITH_APP(answers_do_not_wait_for_subscribers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
