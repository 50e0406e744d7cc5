/* test_handshake.c - the opening handshake, pausing, lack of memory (conn.h) */
#include "app.h"
#include "oom.h"

/* --- the opening handshake, the peer -------------------------------------- */

static void a_subprotocol_is_named_if_there_is_one(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);

	c->at = 0;
	assert_int_equal(count_of(c, "Sec-WebSocket-Protocol"), 0);
	a->subprotocol = SPAN("isimud.v1");
	c = app_open_websocket(a);
	place_of(c, "\r\nSec-WebSocket-Protocol: isimud.v1\r\n");
	assert_int_equal(a->asked, 0);
}

static void a_subprotocol_may_be_as_long_as_a_token(void **state)
{
	static char name[HTTP_BEARER_MAX_BYTES + 1];
	struct app *a = *state;

	memset(name, 'p', HTTP_BEARER_MAX_BYTES);
	a->subprotocol = span_of(name);
	struct client *c = app_open_websocket(a);
	place_of(c, name);
	assert_int_equal(place_of(c, "\r\n\r\n") + 4, c->in.len);
}

static void the_peer_is_told_by_its_address(void **state)
{
	struct app *a = *state;
	char peer[CONN_PEER_MAX];

	app_open_stream(a);
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
	app_ask(a, add_client(&a->l, fds[1]), GET_OLD("/stream"));
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
		app_ask(a, add_client(&a->l, client), GET_OLD("/stream"));
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
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();
	struct frame frame;

	a->pauses = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	turn_for(&a->l, 20);
	assert_true(app_has_read(a, "one;"));
	assert_false(next_frame(c, &frame));
	/* Not in the call, but at its turn. */
	conn_resume(a->conn);
	assert_int_equal(a->messages, 1);
	WAIT_UNTIL(&a->l, a->messages == 2);
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	turn_for(&a->l, 20);
	assert_true(app_has_read(a, "one;two;"));
	a->pauses = false;
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, app_has_read(a, "one;two;three;"));
	assert_null(a->conn->websocket);
}

static void pausing_is_the_same_byte_by_byte(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
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
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_PONG);
	assert_true(app_has_read(a, "one;two;three;"));
}

static void a_pause_may_come_anywhere_in_the_next_frame(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
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
		assert_true(app_has_read(a, "one;two;"));
		assert_null(a->conn->websocket);
		n += 2;
	}
	buf_fini(&b);
}

static void many_messages_pause_one_after_another(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
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
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->pauses = true;
	send_frame(c, OP_TEXT, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	assert_null(a->conn->websocket);
	assert_null(a->conn->stash);
	put_text(&b, "two");
	put_text(&b, "three");
	send_buf(c, &b);
	turn_for(&a->l, 20);
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	/* The third was read ahead. */
	assert_non_null(a->conn->websocket);
}

static void what_is_kept_while_paused_is_charged(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};
	char text[20000] = {0};

	turn(&a->l);
	size_t before = settled_memory_used();
	a->pauses = true;
	put_text(&b, "one");
	put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	send_buf(c, &b);
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
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	a->resumes = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, app_has_read(a, "one;two;three;"));
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
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();

	conn_resume(a->conn);
	a->pauses = true;
	send_buf(c, &b);
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
	struct client *c = app_open_websocket(a);
	struct frame frame;

	a->pauses = true;
	send_frame(c, OP_TEXT, SPAN("one"));
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_send_text(a->conn, SPAN("hello"));
	app_wait_for_frame(a, c, &frame);
	assert_true(span_equal(frame.payload, SPAN("hello")));
}

/* Else a busy topic could hold up its commands for ever. */
static void one_is_resumed_however_much_is_queued(void **state)
{
	struct app *a = *state;
	struct client *c =
		app_ask(a, connect_lazy_client(&a->l), UPGRADE("/ws"));
	struct buf b = three_messages();

	a->pauses = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	app_send_text(a->conn, 100000);
	turn(&a->l);
	app_send_text(a->conn, 100000);
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	assert_true(conn_unsent_bytes(a->conn) > CONN_HIGH_WATER_BYTES);
}

static void pings_that_are_not_answered_while_paused_do_not_count(void **state)
{
	struct app *a = app_with_duration(DEADLINE_PING, 30);
	struct client *c = app_open_websocket(a);
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
		app_wait_for_frame(a, c, &frame);
		assert_int_equal(frame.opcode, OP_PING);
	}
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	send_bytes(c, b.bytes + b.len - 1, 1);
	buf_fini(&b);
	a->pauses = false;
	conn_resume(a->conn);
	WAIT_UNTIL(&a->l, a->messages == 2);
	/* From now on they do. */
	app_wait_for_frame(a, c, &frame);
	while (frame.opcode == OP_PING)
		app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.code, 1011);
	app_free(a);
}

static void a_close_behind_a_pause_is_answered_afterwards(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = {0};

	a->pauses = true;
	put_text(&b, "one");
	put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	turn_for(&a->l, 20);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	conn_resume(a->conn);
	app_expect_close(a, c, 1000);
	app_expect_ending(a, STATS_closed_peer_closed);
}

static void an_end_behind_a_pause_is_seen_afterwards(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	shutdown(c->fd, SHUT_WR);
	turn_for(&a->l, 20);
	assert_int_equal(count_in(&a->l, CONN_WEBSOCKET), 1);
	a->pauses = false;
	conn_resume(a->conn);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_true(app_has_read(a, "one;two;three;"));
}

static void a_paused_one_is_ended_with_close(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_end(a->conn, CLOSE_REASON_forbidden, NULL);
	app_expect_close(a, c, 1008);
	/* The peer's Close comes behind what was not read. */
	send_frame(c, OP_CLOSE, SPAN("\x03\xf0"));
	app_expect_ending(a, STATS_closed_forbidden);
	assert_int_equal(a->messages, 1);
}

static void a_paused_one_may_be_ended_in_the_same_message(void **state)
{
	static const enum close_reason close_reasons[] = {
		CLOSE_REASON_policy, CLOSE_REASON_peer_gone};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct app *a = app_new(&roomy_limits);
		struct client *c = app_open_websocket(a);
		struct buf b = three_messages();

		a->pauses = true;
		a->ends_with = close_reasons[i];
		put_frame(&b, OP_CLOSE, SPAN("\x03\xe8"));
		send_buf(c, &b);
		WAIT_UNTIL(&a->l, a->l.group->count == 0);
		assert_int_equal(a->messages, 1);
		app_free(a);
	}
}

static void a_paused_one_is_aborted_with_all_others(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_websocket(a);
	struct buf b = three_messages();

	a->pauses = true;
	send_buf(c, &b);
	WAIT_UNTIL(&a->l, a->messages == 1);
	conn_group_abort_all(a->l.group);
	app_expect_ending(a, STATS_closed_going_away);
}

static void what_is_no_websocket_is_not_paused(void **state)
{
	struct app *a = *state;
	struct client *c = app_open_stream(a);

	conn_pause(a->conn);
	conn_resume(a->conn);
	shutdown(c->fd, SHUT_WR);
	app_expect_ending(a, STATS_closed_peer_gone);
}

/* --- without memory ------------------------------------------------------- */

/* A stream, events in parts and whole, and its end. */
static bool stream_with_failing_allocation(struct app *a, unsigned nth)
{
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET_OLD("/later"));
	WAIT_UNTIL(&a->l, a->conn != NULL);
	struct chunk *chunk = app_chunk("data: y\n\n");
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
		app_connect_high(a);
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
	struct client *c = app_open_websocket(a);
	struct buf b = {0};
	char text[8000] = {0};

	for (int i = 0; i < 3; i++)
		put_frame(&b, OP_TEXT, (struct span){text, sizeof text});
	buf_reserve(&a->texts, 30000);
	a->pauses = true;
	send_buf(c, &b);
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
		app_connect_high(a);
		has_failed = pause_with_failing_allocation(a, ++nth);
		app_free(a);
	} while (has_failed);
	assert_true(nth > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
