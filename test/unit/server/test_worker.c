/* test_worker.c - what src/server/worker.c promises: real threads, fed by
 * mailbox.
 *
 * The application of these tests subscribes a client to the topic that its
 * message names after a '+', answers the request for /hold on a '!', answers
 * /stream with an event stream, and publishes any other message, or path, to
 * the topic it starts with: "a:hello", /a. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crew.h"
#include "fanout/subscribers.h"

#define UPGRADE                                                                \
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"                 \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define WORKERS 2

static const struct config config = {
	.workers = WORKERS,
	.body_max_bytes = 65536,
	.buffered_max_bytes = 1 << 22,
	.mailbox_max_bytes = 1 << 22,
	.header_timeout_ms = 60000,
	.body_timeout_ms = 60000,
	.write_timeout_ms = 60000,
	.idle_timeout_ms = 60000,
	.close_timeout_ms = 60000,
	.ping_interval_ms = 60000,
};

/* --- the application ------------------------------------------------------ */

/* The application keeps a list of the notes that it got. */
struct numbered_note {
	struct mailbox_note note;
	unsigned number;
};

static uv_mutex_t notes_lock;
static unsigned notes[10]; /* Guarded by `notes_lock`, as is the next */
static unsigned notes_count;

static atomic_int apps_open;
static atomic_bool app_fails;
static struct conn *_Atomic held;

static struct worker *worker_of(const struct conn *c)
{
	return CONTAINER_OF(conn_group_of(c), struct worker, group);
}

static void on_head(struct conn *c, const struct http_request *request)
{
	(void)c;
	(void)request;
}

static void publish_message(struct worker *w, struct span message)
{
	struct topic_key key = {SPAN("alice"), {message.bytes, 1}};
	struct registry_receipt receipt;
	struct message *m = message_new(message, false, WORKERS);
	if (m != NULL)
		registry_publish(w->shared->registry, &key, m, &receipt);
}

static void on_request(struct conn *c, const struct http_request *request)
{
	if (request->fields[HTTP_UPGRADE].bytes != NULL) {
		if (conn_check_upgrade(c))
			conn_upgrade(c, (struct span){0});
		return;
	}
	if (span_equal(request->path, SPAN("/stream"))) {
		conn_stream(c, SPAN(":\n\n"));
		return;
	}
	if (span_equal(request->path, SPAN("/hold"))) {
		held = c;
		return;
	}
	if (request->path.len > 1)
		publish_message(worker_of(c),
				(struct span){request->path.bytes + 1,
					      request->path.len - 1});
	conn_respond(c, &(struct http_response){.status = 200});
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct subscribers *all = conn_group_of(c)->context;
	struct topic_key key = {SPAN("alice"), {message.bytes + 1, 1}};

	(void)is_text;
	if (message.bytes[0] == '!')
		conn_respond(held, &(struct http_response){.status = 200});
	else if (message.bytes[0] != '+')
		publish_message(worker_of(c), message);
	else if (subscribers_add(all, conn_user(c), c, &key, NULL, NULL) != 0)
		conn_end(c, CLOSE_REASON_no_memory, NULL);
}

static void on_end(struct conn *c)
{
	subscribers_remove(conn_group_of(c)->context, conn_user(c));
}

static int app_open(struct worker *w, void **state)
{
	struct subscribers *all = malloc(sizeof *all);
	if (all == NULL || atomic_load(&app_fails)) {
		free(all);
		return UV_ENOMEM;
	}
	int rv = subscribers_init(all, w->shared->registry, w->index, 1 << 20,
				  &w->stats);
	CHECK(rv == 0);
	*state = all;
	atomic_fetch_add(&apps_open, 1);
	return 0;
}

static bool app_deliver(void *state, struct message *first, uint64_t until_ns)
{
	return subscribers_deliver(state, first, until_ns);
}

static void app_notify(void *state, struct mailbox_note *note)
{
	struct numbered_note *n = (struct numbered_note *)(void *)note;

	CHECK(state != NULL);
	uv_mutex_lock(&notes_lock);
	CHECK(notes_count < 10);
	notes[notes_count++] = n->number;
	uv_mutex_unlock(&notes_lock);
	free(n);
}

static unsigned count_notes(void)
{
	uv_mutex_lock(&notes_lock);
	unsigned count = notes_count;
	uv_mutex_unlock(&notes_lock);
	return count;
}

static void app_close(void *state)
{
	struct subscribers *all = state;
	CHECK(all->count == 0);
	subscribers_fini(all);
	free(all);
	atomic_fetch_sub(&apps_open, 1);
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct subscriber),
	.on_head = on_head,
	.on_request = on_request,
	.on_message = on_message,
	.on_end = on_end,
};

static const struct worker_app app = {
	.hooks = &hooks,
	.message_max_bytes = 65536,
	.open = app_open,
	.deliver = app_deliver,
	.notify = app_notify,
	.close = app_close,
};

/* --- set-up --------------------------------------------------------------- */

static int set_up(void **state)
{
	static struct config roomy;
	struct crew *crew = malloc(sizeof *crew);

	assert_non_null(crew);
	roomy = config;
	roomy.shares = crew_shares;
	crew_open(crew, &roomy, &app, WORKERS);
	const struct registry_options options = {.mailboxes = crew->mailboxes,
						 .workers = WORKERS};
	assert_int_equal(registry_new(&crew->shared.registry, &options), 0);
	assert_int_equal(idempotency_new(&crew->shared.idempotency, 0, 0), 0);
	*state = crew;
	return 0;
}

static int set_up_started(void **state)
{
	set_up(state);
	crew_start(*state);
	return 0;
}

static int tear_down(void **state)
{
	struct crew *crew = *state;

	for (unsigned i = 0; i < crew->clients_count; i++)
		close_client(&crew->clients[i]);
	crew_stop(crew);
	assert_int_equal(apps_open, 0);
	assert_int_equal(registry_topics(crew->shared.registry), 0);
	crew_close(crew);
	free(crew);
	return 0;
}

static struct client *post_websocket(struct crew *crew)
{
	struct client *c = crew_connect(crew, NULL);
	send_text(c, UPGRADE);
	CREW_UNTIL(crew, responses(c) == 1);
	skip_upgrade(c);
	return c;
}

/* A Pong tells that it is in force. */
static struct client *post_subscriber(struct crew *crew, const char *command)
{
	struct client *c = post_websocket(crew);
	struct frame frame;
	send_frame(c, OP_TEXT, span_of(command));
	send_frame(c, OP_PING, SPAN(""));
	CREW_UNTIL(crew, next_frame(c, &frame));
	assert_int_equal(frame.opcode, OP_PONG);
	return c;
}

static struct client *post_stream(struct crew *crew)
{
	struct client *c = crew_connect(crew, NULL);
	send_text(c, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	CREW_UNTIL(crew, responses(c) == 1);
	return c;
}

/* --- life ----------------------------------------------------------------- */

static void workers_start_and_stop(void **state)
{
	struct crew *crew = *state;

	crew_start(crew);
	assert_int_equal(apps_open, WORKERS);
	crew_stop(crew);
}

static void a_worker_that_never_started_drops_its_mail(void **state)
{
	struct crew *crew = *state;
	struct client *c = crew_connect(crew, NULL);

	mailbox_post_message(crew->mailboxes[0], NULL,
			     message_new(SPAN("one"), false, WORKERS));
	mailbox_post_order(crew->mailboxes[0], MAILBOX_STOP);
	worker_fini(crew->workers[0]);
	CREW_UNTIL(crew, c->is_over);
	memset(crew->workers[0], 0, sizeof *crew->workers[0]);
	assert_int_equal(worker_init(crew->workers[0], 0, &crew->shared), 0);
}

static void a_worker_whose_application_fails_does_not_start(void **state)
{
	struct crew *crew = *state;

	atomic_store(&app_fails, true);
	assert_int_equal(worker_start(crew->workers[0]), UV_ENOMEM);
	atomic_store(&app_fails, false);
}

static void a_socket_is_served_and_counted(void **state)
{
	struct crew *crew = *state;
	struct client *a = crew_connect(crew, NULL);
	struct client *b = crew_connect(crew, NULL);

	send_text(a, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	send_text(b, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	CREW_UNTIL(crew, responses(a) == 1 && responses(b) == 1);
	assert_int_equal(crew->shared.connections[LISTENER_TCP], 2);
	close_client(a);
	CREW_UNTIL(crew, crew->shared.connections[LISTENER_TCP] == 1);
	close_client(b);
	CREW_UNTIL(crew, crew->shared.connections[LISTENER_TCP] == 0);
	for (int w = 0; w < WORKERS; w++)
		assert_int_equal(
			stats_get(&crew->workers[w]->stats, STATS_accepted), 1);
}

static void a_descriptor_that_is_no_socket_is_not_counted(void **state)
{
	struct crew *crew = *state;

	atomic_fetch_add(&crew->shared.connections[LISTENER_TCP], 1);
	assert_int_equal(
		mailbox_post_socket(crew->mailboxes[0],
				    (struct accepted){-1, LISTENER_TCP}),
		0);
	CREW_UNTIL(crew, crew->shared.connections[LISTENER_TCP] == 0);
}

static void orders_are_carried_out_beside_connections(void **state)
{
	struct crew *crew = *state;
	struct client *c = post_websocket(crew);
	struct frame frame;

	mailbox_post_order(crew->mailboxes[0], MAILBOX_DUMP);
	mailbox_post_order(crew->mailboxes[1], MAILBOX_DUMP);
	send_frame(c, OP_PING, SPAN("p"));
	CREW_UNTIL(crew, next_frame(c, &frame));
	assert_int_equal(frame.opcode, OP_PONG);
}

static void post_note(struct crew *crew, unsigned number)
{
	struct numbered_note *n = malloc(sizeof *n);

	assert_non_null(n);
	n->number = number;
	mailbox_post_note(crew->mailboxes[0], &n->note);
}

static void notes_are_handed_to_the_application_in_order(void **state)
{
	struct crew *crew = *state;

	notes_count = 0;
	for (unsigned i = 0; i < 4; i++)
		post_note(crew, i);
	crew_start(crew);
	CREW_UNTIL(crew, count_notes() == 4);
	post_note(crew, 4);
	CREW_UNTIL(crew, count_notes() == 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(notes[i], i);
}

/* LeakSanitizer sees whether it is freed. */
static void a_note_for_a_worker_that_has_stopped_is_dropped(void **state)
{
	struct crew *crew = *state;

	notes_count = 0;
	crew_stop(crew);
	post_note(crew, 0);
	assert_int_equal(notes_count, 0);
}

static void stopping_ends_all_connections_first(void **state)
{
	struct crew *crew = *state;
	struct client *idle = crew_connect(crew, NULL);
	struct client *a = post_subscriber(crew, "+n");
	struct client *b = post_subscriber(crew, "+n");
	struct frame frame;

	struct client *stream = post_stream(crew);

	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_post_order(crew->mailboxes[w], MAILBOX_STOP);
	CREW_UNTIL(crew, stream->is_over);
	place_of(stream, "event: close\n");
	close_client(stream);
	CREW_UNTIL(crew, next_frame(a, &frame));
	assert_int_equal(frame.code, 1001);
	CREW_UNTIL(crew, next_frame(b, &frame));
	assert_int_equal(frame.code, 1001);
	CREW_UNTIL(crew, idle->is_over);
	/* A second order changes nothing; one that comes late is closed. */
	mailbox_post_order(crew->mailboxes[0], MAILBOX_STOP);
	struct client *late = crew_connect(crew, NULL);
	CREW_UNTIL(crew, late->is_over);
	send_frame(a, OP_CLOSE, SPAN("\x03\xe9"));
	send_frame(b, OP_CLOSE, SPAN("\x03\xe9"));
	CREW_UNTIL(crew, a->is_over && b->is_over);
	for (unsigned w = 0; w < WORKERS; w++)
		worker_join(crew->workers[w]);
	crew->started = 0;
	assert_int_equal(crew->shared.connections[LISTENER_TCP], 0);
	assert_int_equal(registry_topics(crew->shared.registry), 0);
}

static uint64_t gauge_of_all(const struct crew *crew, enum stats_gauge gauge)
{
	uint64_t sum = 0;
	for (unsigned w = 0; w < WORKERS; w++)
		sum += stats_gauge(&crew->workers[w]->stats, gauge);
	return sum;
}

static void open_connections_are_counted_by_their_kind(void **state)
{
	struct crew *crew = *state;

	post_websocket(crew);
	struct client *c = post_stream(crew);
	post_stream(crew);
	CREW_UNTIL(crew,
		   gauge_of_all(crew, STATS_GAUGE_event_stream) == 2 &&
			   gauge_of_all(crew, STATS_GAUGE_websocket) == 1);
	close_client(c);
	CREW_UNTIL(crew, gauge_of_all(crew, STATS_GAUGE_event_stream) == 1);
}

static void draining_ends_websockets_and_event_streams(void **state)
{
	struct crew *crew = *state;
	struct client *idle = crew_connect(crew, NULL);
	struct client *websockets[WORKERS];
	struct client *streams[WORKERS];
	struct frame frame;

	for (unsigned w = 0; w < WORKERS; w++)
		websockets[w] = post_websocket(crew);
	for (unsigned w = 0; w < WORKERS; w++)
		streams[w] = post_stream(crew);
	crew->shared.drain_spread_ms = 40;
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_post_order(crew->mailboxes[w], MAILBOX_DRAIN);
	for (unsigned w = 0; w < WORKERS; w++) {
		CREW_UNTIL(crew, next_frame(websockets[w], &frame));
		assert_int_equal(frame.code, 1001);
		CREW_UNTIL(crew, streams[w]->is_over);
		place_of(streams[w], "event: close\ndata: {\"code\":1001,");
	}
	/* Others go on until they have their answer. */
	send_text(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	CREW_UNTIL(crew, responses(idle) == 1);
	place_of(idle, "Connection: close");
}

/* --- publications --------------------------------------------------------- */

static void subscribers_on_all_workers_get_one_order(void **state)
{
	struct crew *crew = *state;
	struct client *readers[6];
	struct client *writers[2];
	struct buf expected = {0};
	struct frame frame;

	for (int i = 0; i < 6; i++)
		readers[i] = post_subscriber(crew, "+n");
	for (int i = 0; i < 2; i++)
		writers[i] = post_websocket(crew);
	for (int i = 0; i < 500; i++) {
		char text[16];
		snprintf(text, sizeof text, "n:%d", i);
		send_frame(writers[0], OP_TEXT, span_of(text));
		send_frame(writers[1], OP_TEXT, span_of(text));
	}
	for (int r = 0; r < 6; r++) {
		struct buf got = {0};
		for (int i = 0; i < 1000; i++) {
			CREW_UNTIL(crew, next_frame(readers[r], &frame));
			buf_append(&got, frame.payload.bytes,
				   frame.payload.len);
		}
		if (r == 0)
			buf_append(&expected, got.bytes, got.len);
		assert_int_equal(got.len, expected.len);
		assert_memory_equal(got.bytes, expected.bytes, got.len);
		buf_fini(&got);
	}
	buf_fini(&expected);
}

static void a_publisher_gets_its_own_message_without_delay(void **state)
{
	struct crew *crew = *state;
	struct client *c = post_subscriber(crew, "+n");
	struct frame frame;

	for (int i = 0; i < 100; i++) {
		send_frame(c, OP_TEXT, SPAN("n:mine"));
		CREW_UNTIL(crew, next_frame(c, &frame));
		assert_true(span_equal(frame.payload, SPAN("n:mine")));
	}
}

static void what_a_resumed_publisher_sends_is_delivered_at_once(void **state)
{
	struct crew *crew = *state;
	struct client *reader = post_subscriber(crew, "+n");
	struct frame frame;

	crew->next = 0; /* all on the one worker, which then sleeps */
	struct client *publisher = crew_connect(crew, NULL);
	crew->next = 0;
	struct client *releaser = post_websocket(crew);
	atomic_store(&held, NULL);
	send_text(publisher, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
			     "GET /now HTTP/1.1\r\nHost: x\r\n\r\n");
	CREW_UNTIL(crew, atomic_load(&held) != NULL);
	send_frame(releaser, OP_TEXT, SPAN("!"));
	CREW_UNTIL(crew, next_frame(reader, &frame));
	assert_true(span_equal(frame.payload, SPAN("now")));
}

static void subscribers_come_and_go_while_much_is_published(void **state)
{
	struct crew *crew = *state;
	struct client *writers[2] = {post_websocket(crew),
				     post_websocket(crew)};
	struct buf burst = {0};

	for (int i = 0; i < 100; i++)
		put_frame(&burst, OP_TEXT, SPAN("n:some text"));
	for (int round = 0; round < 25; round++) {
		struct client *a = post_websocket(crew);
		struct client *b = post_websocket(crew);
		send_frame(a, OP_TEXT, SPAN("+n"));
		send_bytes(writers[0], burst.bytes, burst.len);
		send_frame(b, OP_TEXT, SPAN("+n"));
		send_bytes(writers[1], burst.bytes, burst.len);
		crew_turn(crew);
		if (round % 2 == 0)
			reset_client(a);
		close_client(b);
	}
	buf_fini(&burst);
	/* The last order of tear_down() comes in the middle of it. */
}

#define WITH_CREW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define WITH_STARTED(test)                                                     \
	cmocka_unit_test_setup_teardown(test, set_up_started, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_CREW(workers_start_and_stop),
		WITH_CREW(a_worker_that_never_started_drops_its_mail),
		WITH_CREW(a_worker_whose_application_fails_does_not_start),
		WITH_STARTED(a_socket_is_served_and_counted),
		WITH_STARTED(a_descriptor_that_is_no_socket_is_not_counted),
		WITH_STARTED(orders_are_carried_out_beside_connections),
		WITH_CREW(notes_are_handed_to_the_application_in_order),
		WITH_STARTED(a_note_for_a_worker_that_has_stopped_is_dropped),
		WITH_STARTED(open_connections_are_counted_by_their_kind),
		WITH_STARTED(draining_ends_websockets_and_event_streams),
		WITH_STARTED(stopping_ends_all_connections_first),
		WITH_STARTED(subscribers_on_all_workers_get_one_order),
		WITH_STARTED(a_publisher_gets_its_own_message_without_delay),
		WITH_STARTED(
			what_a_resumed_publisher_sends_is_delivered_at_once),
		WITH_STARTED(subscribers_come_and_go_while_much_is_published),
	};
	if (uv_mutex_init(&notes_lock) != 0)
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	uv_mutex_destroy(&notes_lock);
	return failed;
}
