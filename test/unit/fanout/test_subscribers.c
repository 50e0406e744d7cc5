/* test_subscribers.c - what src/fanout promises.
 *
 * Two workers are played on one thread: each has a mailbox and subscribers of
 * its own, and takes its mail when a test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fanout/members.h"
#include "fanout/subscribers.h"
#include "loopback.h"
#include "oom.h"
#include "topics/encode.h"

#include <inttypes.h>

#define UPGRADE                                                                \
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"                 \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define STREAM       "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
#define OLD_STREAM   "GET /events HTTP/1.0\r\n\r\n"
#define WORKERS      2
#define MAILBOX_MAX  (1 << 20)
#define HISTORY_SIZE 8
#define SIBLINGS     3
#define JOINED       16384 /* bytes of history that are sent together */

struct office {
	struct loopback l;
	struct mailbox mailboxes[WORKERS];
	struct mailbox *by_worker[WORKERS];
	struct registry *registry;
	struct subscribers subscribers[WORKERS];
	struct conn *newest;
};

/* What a connection is to its worker (conn_user). */
struct member {
	struct subscribers *all;
	struct subscriber subscriber;
	struct subscriber siblings[SIBLINGS];
	struct subscriber *lossy[SIBLINGS]; /* NULL: none */
	size_t lossy_bytes;
};

/* A subscriber as the tests see it. */
struct reader {
	struct client *client;
	struct conn *conn;
	struct member *member;
};

static void on_head(struct conn *c, const struct http_request *request)
{
	(void)c;
	(void)request;
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct loopback *l = conn_group_of(c)->context;
	CONTAINER_OF(l, struct office, l)->newest = c;
	if (span_equal(request->path, SPAN("/events"))) {
		conn_stream(c, SPAN(""));
		return;
	}
	assert_true(conn_check_upgrade(c));
	conn_upgrade(c, (struct span){0});
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	(void)c;
	(void)is_text;
	(void)message;
}

static void on_end(struct conn *c)
{
	struct member *member = conn_user(c);
	if (member->all == NULL)
		return;
	subscribers_remove(member->all, &member->subscriber);
	for (int i = 0; i < SIBLINGS; i++) {
		subscribers_remove(member->all, &member->siblings[i]);
		if (member->lossy[i] == NULL)
			continue;
		subscribers_remove(member->all, member->lossy[i]);
		subscribers_lossy_free(member->lossy[i]);
	}
	assert_int_equal(member->lossy_bytes, 0);
}

static void on_room(struct conn *c)
{
	struct member *member = conn_user(c);
	struct subscribers *all = member->all;
	bool is_behind = subscribers_catch_up(all, &member->subscriber);

	for (int i = 0; i < SIBLINGS && !is_behind; i++)
		is_behind = subscribers_catch_up(all, &member->siblings[i]);
	for (int i = 0; i < SIBLINGS && !is_behind; i++)
		is_behind = member->lossy[i] != NULL &&
			    subscribers_catch_up(all, member->lossy[i]);
	if (is_behind) {
		subscribers_take_turns(all, 0);
		return;
	}
	for (int i = 0; i < SIBLINGS; i++)
		if (member->lossy[i] != NULL)
			subscribers_feed(all, member->lossy[i]);
}

/* What was lost last, and how often. */
static uint64_t lost_from;
static uint64_t lost_to;
static unsigned losses;

static void on_loss(struct subscribers *all, struct subscriber *s,
		    uint64_t from, uint64_t to)
{
	(void)all;
	(void)s;
	lost_from = from;
	lost_to = to;
	losses++;
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct member),
	.on_head = on_head,
	.on_request = on_request,
	.on_message = on_message,
	.on_room = on_room,
	.on_end = on_end,
};

static void on_wake(uv_async_t *async)
{
	(void)async;
}

static int set_up_with(void **state, uint32_t history_size)
{
	struct office *o = calloc(1, sizeof *o);
	assert_non_null(o);
	loopback_open(&o->l, &hooks, &roomy_limits);
	for (unsigned w = 0; w < WORKERS; w++) {
		struct mailbox *m = &o->mailboxes[w];
		assert_int_equal(
			mailbox_open(m, &o->l.loop, w, MAILBOX_MAX, on_wake),
			0);
		mailbox_set_owner(m);
		o->by_worker[w] = m;
	}
	struct registry_options options = {.mailboxes = o->by_worker,
					   .workers = WORKERS,
					   .history_size = history_size,
					   .history_ttl_ms = 60000,
					   .history_bytes = 1 << 20,
					   .replay_bytes = 1 << 20};
	assert_int_equal(registry_new(&o->registry, &options), 0);
	losses = 0;
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_int_equal(
			subscribers_init(&o->subscribers[w], o->registry, w,
					 roomy_limits.buffered_max_bytes,
					 &o->l.stats),
			0);
		o->subscribers[w].on_loss = on_loss;
	}
	*state = o;
	return 0;
}

static int set_up(void **state)
{
	return set_up_with(state, 0);
}

static int set_up_history(void **state)
{
	return set_up_with(state, HISTORY_SIZE);
}

static void deliver(struct office *o, unsigned worker)
{
	struct mail mail;
	if (mailbox_take(&o->mailboxes[worker], &mail))
		assert_true(subscribers_deliver(&o->subscribers[worker],
						mail.messages, UINT64_MAX));
}

/* Lets all go that is charged, so that what is not credited shows. */
static void end_all(struct office *o)
{
	conn_group_abort_all(o->l.group);
	WAIT_UNTIL(&o->l, o->l.group->count == 0);
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_int_equal(o->subscribers[w].count, 0);
		deliver(o, w);
		subscribers_fini(&o->subscribers[w]);
	}
	while (registry_shrink_history(o->registry, 0))
		;
	assert_int_equal(registry_topics(o->registry), 0);
}

static int tear_down(void **state)
{
	struct office *o = *state;

	for (unsigned w = 0; w < WORKERS; w++) {
		deliver(o, w);
		uv_close((uv_handle_t *)&o->mailboxes[w].async, NULL);
	}
	end_all(o);
	loopback_close(&o->l);
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_fini(&o->mailboxes[w]);
	registry_free(o->registry);
	free(o);
	return 0;
}

static struct topic_key key_of(const char *topic)
{
	return (struct topic_key){SPAN("alice"), span_of(topic)};
}

static struct reader connect_to(struct office *o, unsigned worker,
				const char *request, bool is_lazy)
{
	struct client *c =
		is_lazy ? connect_lazy_client(&o->l) : connect_client(&o->l);
	c->reads = true;
	send_text(c, request);
	WAIT_UNTIL(&o->l, count_of(c, "\r\n\r\n") == 1);
	skip_upgrade(c);
	c->reads = !is_lazy;
	struct member *member = conn_user(o->newest);
	member->all = &o->subscribers[worker];
	return (struct reader){c, o->newest, member};
}

static struct reader connect_reader(struct office *o, unsigned worker,
				    bool is_lazy)
{
	return connect_to(o, worker, UPGRADE, is_lazy);
}

static void join(struct reader *r, const char *topic)
{
	struct topic_key key = key_of(topic);
	assert_int_equal(subscribers_add(r->member->all, &r->member->subscriber,
					 r->conn, &key, NULL, NULL),
			 0);
}

static void leave(struct reader *r)
{
	subscribers_remove(r->member->all, &r->member->subscriber);
}

static struct reader subscribe(struct office *o, unsigned worker,
			       const char *topic)
{
	struct reader r = connect_reader(o, worker, false);
	join(&r, topic);
	return r;
}

/* Returns how many subscribers there were. */
static uint64_t publish_span(struct office *o, const char *topic,
			     struct span data)
{
	struct topic_key key = key_of(topic);
	struct registry_receipt receipt;
	struct message *m = message_new(data, false, WORKERS);

	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	assert_int_equal(registry_publish(o->registry, &key, m, &receipt), 0);
	return receipt.subscribers;
}

static uint64_t publish(struct office *o, const char *topic, const char *text)
{
	return publish_span(o, topic, span_of(text));
}

static struct message *publish_filling(struct office *o, const char *topic,
				       size_t len)
{
	struct topic_key key = key_of(topic);
	struct registry_receipt receipt;
	char *filling = malloc(len);
	assert_non_null(filling);
	memset(filling, 'x', len);
	struct message *m =
		message_new((struct span){filling, len}, false, WORKERS);

	free(filling);
	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	message_ref(m, 1); /* the test's own */
	assert_int_equal(registry_publish(o->registry, &key, m, &receipt), 0);
	return m;
}

/* Waits for the texts, each with a ';'; then nothing more may come. */
static void expect_texts(struct office *o, struct reader *r, const char *texts)
{
	struct buf got = {0};
	struct frame frame;

	while (got.len < strlen(texts)) {
		WAIT_UNTIL(&o->l, next_frame(r->client, &frame));
		assert_int_equal(frame.opcode, OP_TEXT);
		buf_append(&got, frame.payload.bytes, frame.payload.len);
		buf_append(&got, ";", 1);
	}
	assert_int_equal(got.len, strlen(texts));
	assert_memory_equal(got.bytes, texts, got.len);
	buf_fini(&got);
	for (int i = 0; i < 3; i++)
		turn(&o->l);
	assert_int_equal(r->client->at, r->client->in.len);
}

/* --- order and completeness ----------------------------------------------- */

static void all_subscribers_get_all_messages_in_one_order(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 0, "news");
	struct reader c = subscribe(o, 1, "news");

	assert_int_equal(publish(o, "news", "one"), 3);
	deliver(o, 1);
	publish(o, "news", "two");
	publish(o, "news", "three");
	deliver(o, 0);
	deliver(o, 1);
	expect_texts(o, &a, "one;two;three;");
	expect_texts(o, &b, "one;two;three;");
	expect_texts(o, &c, "one;two;three;");
	assert_int_equal(ended(&o->l, STATS_delivered), 9);
	assert_int_equal(ended(&o->l, STATS_subscribed), 3);
}

static void a_subscriber_gets_its_own_topic_alone(void **state)
{
	struct office *o = *state;
	struct reader news = subscribe(o, 0, "news");
	struct reader sports = subscribe(o, 0, "sports");

	publish(o, "news", "n1");
	publish(o, "sports", "s1");
	publish(o, "news", "n2");
	publish(o, "sports", "s2");
	assert_int_equal(publish(o, "weather", "w1"), 0);
	deliver(o, 0);
	expect_texts(o, &news, "n1;n2;");
	expect_texts(o, &sports, "s1;s2;");
}

static void one_that_joins_within_posted_messages_gets_what_came_after(
	void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");

	publish(o, "news", "one");
	publish(o, "news", "two");
	struct reader b = subscribe(o, 0, "news");
	publish(o, "news", "three");
	struct reader c = subscribe(o, 0, "news");
	deliver(o, 0);
	publish(o, "news", "four");
	deliver(o, 0);
	expect_texts(o, &a, "one;two;three;four;");
	expect_texts(o, &b, "three;four;");
	expect_texts(o, &c, "four;");
}

static void those_behind_one_that_left_still_get_all(void **state)
{
	struct office *o = *state;
	struct reader r[5];

	for (int i = 0; i < 5; i++)
		r[i] = subscribe(o, 0, "news");
	leave(&r[0]);
	leave(&r[4]);
	leave(&r[4]); /* nothing happens */
	assert_int_equal(o->subscribers[0].count, 3);
	assert_int_equal(publish(o, "news", "one"), 3);
	deliver(o, 0);
	expect_texts(o, &r[1], "one;");
	expect_texts(o, &r[2], "one;");
	expect_texts(o, &r[3], "one;");
	expect_texts(o, &r[0], "");
	expect_texts(o, &r[4], "");
}

static void an_empty_message_is_a_message(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");

	publish(o, "news", "");
	publish(o, "news", "");
	deliver(o, 0);
	expect_texts(o, &a, ";;");
}

/* --- leaving -------------------------------------------------------------- */

static void mail_for_one_that_left_is_dropped(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");

	publish(o, "news", "one");
	leave(&a);
	assert_int_equal(registry_topics(o->registry), 0);
	assert_int_equal(publish(o, "news", "two"), 0);
	deliver(o, 0);
	expect_texts(o, &a, "");
	assert_int_equal(ended(&o->l, STATS_delivered), 0);
}

static void mail_from_before_does_not_reach_one_that_came_back(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");

	publish(o, "news", "one");
	leave(&a);
	join(&a, "news");
	publish(o, "news", "two");
	leave(&a);
	join(&a, "news");
	publish(o, "news", "three");
	deliver(o, 0);
	expect_texts(o, &a, "three;");
}

static void mail_from_before_does_not_reach_it_while_others_stay(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 1, "news");

	publish(o, "news", "one");
	leave(&a);
	join(&a, "news");
	publish(o, "news", "two");
	deliver(o, 0);
	deliver(o, 1);
	expect_texts(o, &a, "two;");
	expect_texts(o, &b, "one;two;");
}

static void a_connection_that_ends_with_mail_waiting_has_left(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 0, "news");

	publish(o, "news", "one");
	close_client(a.client);
	WAIT_UNTIL(&o->l, o->subscribers[0].count == 1);
	deliver(o, 0);
	expect_texts(o, &b, "one;");
	publish(o, "news", "two");
	close_client(b.client);
	WAIT_UNTIL(&o->l, o->subscribers[0].count == 0);
	assert_int_equal(registry_topics(o->registry), 0);
	deliver(o, 0);
}

static void one_that_is_ending_disturbs_nobody(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 0, "news");
	struct reader c = subscribe(o, 0, "news");

	publish(o, "news", "one");
	conn_end_later(b.conn, CLOSE_REASON_policy);
	deliver(o, 0); /* before the flush that ends it */
	expect_texts(o, &a, "one;");
	expect_texts(o, &c, "one;");
	assert_int_equal(o->subscribers[0].count, 2);
}

/* --- turns ---------------------------------------------------------------- */

static unsigned deliver_some(struct office *o, bool *is_all)
{
	struct mail mail;
	uint64_t before = stats_get(&o->l.stats, STATS_delivered);

	mailbox_take(&o->mailboxes[0], &mail);
	*is_all = subscribers_deliver(&o->subscribers[0], mail.messages, 0);
	return (unsigned)(stats_get(&o->l.stats, STATS_delivered) - before);
}

/* However much is posted for one. */
static void topics_take_turns_when_there_is_no_time(void **state)
{
	struct office *o = *state;
	struct reader busy = subscribe(o, 0, "busy");
	struct reader quiet = subscribe(o, 0, "quiet");
	char texts[3 * 600 + 1] = "";
	bool is_all;

	for (unsigned i = 0; i < 600; i++) {
		assert_int_equal(publish(o, "busy", "b"), 1);
		memcpy(texts + 2 * i, "b;", 3);
	}
	publish(o, "quiet", "q");
	assert_int_equal(deliver_some(o, &is_all), 600);
	assert_false(is_all);
	/* What comes meanwhile is behind what waits. */
	publish(o, "quiet", "r");
	assert_int_equal(deliver_some(o, &is_all), 2);
	assert_true(is_all);
	expect_texts(o, &busy, texts);
	expect_texts(o, &quiet, "q;r;");
}

static void those_that_need_a_look_get_few_messages_at_once(void **state)
{
	struct office *o = *state;
	struct reader r[CLIENTS_MAX / 2];
	unsigned many = sizeof r / sizeof r[0];
	unsigned posted = 1000;
	unsigned delivered = 0;
	unsigned calls = 0;
	bool is_all = false;

	for (unsigned i = 0; i < many; i++) {
		r[i] = connect_to(o, 0, STREAM, false);
		r[i].member->subscriber.form = MESSAGE_EVENT;
		r[i].member->subscriber.has_cursor = true;
		r[i].member->subscriber.is_last = true;
		join(&r[i], "news");
	}
	for (unsigned i = 0; i < posted; i++)
		publish(o, "news", "x");
	while (!is_all) {
		unsigned some = deliver_some(o, &is_all);
		assert_in_range(some, 1, 4096 + many);
		delivered += some;
		calls++;
	}
	assert_int_equal(delivered, many * posted);
	assert_true(calls > 4);
}

static void one_that_leaves_with_messages_waiting_gets_no_more(void **state)
{
	struct office *o = *state;
	struct reader busy = subscribe(o, 0, "busy");
	struct reader quiet = subscribe(o, 0, "quiet");
	bool is_all;

	for (unsigned i = 0; i < 600; i++)
		publish(o, "busy", "b");
	publish(o, "quiet", "q");
	deliver_some(o, &is_all);
	assert_false(is_all);
	leave(&quiet);
	leave(&busy);
	join(&quiet, "quiet");
	publish(o, "quiet", "r");
	deliver_some(o, &is_all);
	assert_true(is_all);
	expect_texts(o, &quiet, "r;");
}

/* --- runs ----------------------------------------------------------------- */

static void a_burst_of_small_messages_is_one_write(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct frame frame;

	for (int i = 0; i < 500; i++)
		publish(o, "news", "a small one");
	deliver(o, 0);
	uint64_t writes = ended(&o->l, STATS_writes);
	for (int i = 0; i < 500; i++) {
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_true(span_equal(frame.payload, SPAN("a small one")));
	}
	assert_int_equal(ended(&o->l, STATS_writes), writes + 1);
	assert_int_equal(ended(&o->l, STATS_delivered), 500);
}

static void long_messages_are_not_copied(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 0, "news");
	static const size_t lens[] = {100, 20000, 200, 20000, 20000, 300, 400};
	struct message *messages[7];
	struct frame frame;

	for (int i = 0; i < 7; i++)
		messages[i] = publish_filling(o, "news", lens[i]);
	deliver(o, 0);
	/* The test's own reference, and that of the chunk both share; two
	 * messages in a row that are small were copied together. */
	for (int i = 0; i < 7; i++) {
		assert_int_equal(messages[i]->refs, i < 5 ? 2 : 1);
		message_unref(messages[i], 1);
	}
	for (int i = 0; i < 7; i++) {
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_int_equal(frame.payload.len, lens[i]);
		WAIT_UNTIL(&o->l, next_frame(b.client, &frame));
		assert_int_equal(frame.payload.len, lens[i]);
	}
}

static void long_bursts_keep_their_order(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct frame frame;

	/* More than one run of small messages, and large ones between. */
	for (size_t i = 0; i < 60; i++) {
		size_t len = i % 7 == 3 ? 17000 + i : 5000 + i;
		message_unref(publish_filling(o, "news", len), 1);
	}
	o->l.group->limits.buffered_max_bytes = 1 << 20;
	deliver(o, 0);
	for (size_t i = 0; i < 60; i++) {
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_int_equal(frame.payload.len,
				 i % 7 == 3 ? 17000 + i : 5000 + i);
	}
}

/* --- limits --------------------------------------------------------------- */

static void a_slow_subscriber_is_ended_and_disturbs_nobody(void **state)
{
	struct office *o = *state;
	struct reader before = subscribe(o, 0, "news");
	struct reader slow = connect_reader(o, 0, true);
	join(&slow, "news");
	struct reader after = subscribe(o, 0, "news");
	struct frame frame = {0};
	unsigned sent = 0;

	while (o->subscribers[0].count == 3 && sent < 1000) {
		for (int i = 0; i < 5; i++, sent++)
			message_unref(publish_filling(o, "news", 3000), 1);
		deliver(o, 0);
		turn(&o->l);
	}
	assert_int_equal(o->subscribers[0].count, 2);
	for (unsigned i = 0; i < sent; i++) {
		WAIT_UNTIL(&o->l, next_frame(before.client, &frame));
		assert_int_equal(frame.payload.len, 3000);
		WAIT_UNTIL(&o->l, next_frame(after.client, &frame));
		assert_int_equal(frame.payload.len, 3000);
	}
	slow.client->reads = true;
	unsigned got = 0;
	for (;; got++) {
		WAIT_UNTIL(&o->l, next_frame(slow.client, &frame));
		if (frame.opcode == OP_CLOSE)
			break;
		assert_int_equal(frame.payload.len, 3000);
	}
	assert_int_equal(frame.code, 1013);
	assert_true(got > 0 && got < sent);
}

static void what_a_full_mailbox_refuses_reaches_nobody(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 1, "news");
	struct reader c = subscribe(o, 0, "sports");
	struct topic_key key = key_of("news");
	struct registry_receipt receipt;
	struct message *large = message_new(SPAN("refused"), false, WORKERS);

	/* Mailbox 0 fills up with another topic's mail. */
	struct message *m = publish_filling(o, "sports", MAILBOX_MAX - 16);
	message_unref(m, 1);
	assert_non_null(large);
	assert_int_equal(registry_publish(o->registry, &key, large, &receipt),
			 UV_ENOBUFS);
	leave(&c);
	deliver(o, 0);
	publish(o, "news", "one");
	deliver(o, 0);
	deliver(o, 1);
	expect_texts(o, &a, "one;");
	expect_texts(o, &b, "one;");
}

static void without_memory_a_subscriber_is_not_added(void **state)
{
	struct office *o = *state;
	struct topic_key key = key_of("news");
	struct reader a = connect_reader(o, 0, false);
	struct subscriber *s = &a.member->subscriber;
	unsigned nth = 0;
	bool has_failed;

	OOM_OR_SKIP();
	do {
		oom_fail_at(++nth);
		int rv = subscribers_add(&o->subscribers[0], s, a.conn, &key,
					 NULL, NULL);
		has_failed = oom_end();
		assert_true(rv == 0 || (has_failed && rv == UV_ENOMEM));
		assert_int_equal(s->topic != NULL, rv == 0);
		assert_int_equal(o->subscribers[0].count, rv == 0);
		assert_int_equal(publish(o, "news", "one"), rv == 0);
		leave(&a);
		assert_int_equal(registry_topics(o->registry), 0);
	} while (has_failed);
	assert_true(nth > 3);
}

static void without_memory_to_deliver_subscribers_are_ended(void **state)
{
	struct office *o = *state;

	OOM_OR_SKIP();
	for (int messages = 1; messages <= 2; messages++) {
		struct reader a = subscribe(o, 0, "news");
		struct frame frame;
		for (int i = 0; i < messages; i++)
			publish(o, "news", "one");
		oom_fail_at(1);
		deliver(o, 0);
		assert_true(oom_end());
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_int_equal(frame.opcode, OP_CLOSE);
		assert_int_equal(frame.code, 1011);
		assert_int_equal(o->subscribers[0].count, 0);
	}
	/* One that joined in the middle is sent chunks of its own. */
	struct reader a = subscribe(o, 0, "news");
	publish(o, "news", "one");
	struct reader b = subscribe(o, 0, "news");
	publish(o, "news", "two");
	oom_fail_at(2);
	deliver(o, 0);
	assert_true(oom_end());
	expect_texts(o, &a, "one;two;");
	struct frame frame;
	WAIT_UNTIL(&o->l, next_frame(b.client, &frame));
	assert_int_equal(frame.code, 1011);
}

/* --- forms ---------------------------------------------------------------- */

/* Publishes the text of number `n`, which the topic must be at. */
static void publish_nth(struct office *o, const char *topic, uint64_t n)
{
	struct topic_key key = key_of(topic);
	struct registry_receipt receipt;
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, n);
	struct message *m = message_new(span_of(text), true, WORKERS);
	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	assert_int_equal(registry_publish(o->registry, &key, m, &receipt), 0);
	assert_int_equal(receipt.sequence, n);
}

static void publish_from_to(struct office *o, const char *topic, uint64_t from,
			    uint64_t to)
{
	for (uint64_t n = from; n <= to; n++)
		publish_nth(o, topic, n);
}

/* Appends what publish_nth() makes, in a form. */
static void put_form(struct office *o, struct buf *out, const char *topic,
		     enum message_form form, uint64_t n)
{
	struct topic_key key = key_of(topic);
	struct message_source source = {.epoch = registry_epoch(o->registry),
					.publisher = key.publisher,
					.topic = key.name};
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, n);
	struct message *m = message_new(span_of(text), true, 0);
	assert_non_null(m);
	m->sequence = n;
	m->epoch = source.epoch;
	assert_int_equal(message_append(out, m, form, &source), 0);
	message_unref(m, 1);
}

static struct span unread(const struct reader *r)
{
	return (struct span){r->client->in.bytes + r->client->at,
			     r->client->in.len - r->client->at};
}

/* Waits for exactly these bytes; then nothing more may come. */
static void expect_bytes(struct office *o, struct reader *r, struct span bytes)
{
	WAIT_UNTIL(&o->l, unread(r).len >= bytes.len);
	for (int i = 0; i < 3; i++)
		turn(&o->l);
	if (!span_equal(unread(r), bytes))
		fail_msg("received %.*s, not %.*s", (int)unread(r).len,
			 unread(r).bytes, (int)bytes.len, bytes.bytes);
	r->client->at = r->client->in.len;
}

static void expect_from_to(struct office *o, struct reader *r,
			   const char *topic, uint64_t from, uint64_t to)
{
	struct buf bytes = {0};

	for (uint64_t n = from; n <= to; n++)
		put_form(o, &bytes, topic,
			 (enum message_form)r->member->subscriber.form, n);
	expect_bytes(o, r, (struct span){bytes.bytes, bytes.len});
	buf_fini(&bytes);
}

static const char *request_of(enum message_form form)
{
	if (message_forms[form].framing == FRAMING_BARE)
		return OLD_STREAM;
	return message_forms[form].is_event ? STREAM : UPGRADE;
}

static struct reader subscribe_in(struct office *o, unsigned worker,
				  const char *topic, enum message_form form)
{
	struct reader r = connect_to(o, worker, request_of(form), false);
	r.member->subscriber.form = (uint8_t)form;
	join(&r, topic);
	return r;
}

static void each_gets_its_form_on_each_worker(void **state)
{
	struct office *o = *state;
	struct reader r[WORKERS][MESSAGE_FORMS][2];

	for (unsigned i = 0; i < 2; i++)
		for (unsigned w = 0; w < WORKERS; w++)
			for (unsigned f = 0; f < MESSAGE_FORMS; f++)
				r[w][f][i] = subscribe_in(o, w, "news",
							  (enum message_form)f);
	publish_nth(o, "news", 1);
	deliver(o, 0);
	publish_from_to(o, "news", 2, 20);
	deliver(o, 0);
	deliver(o, 1);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned w = 0; w < WORKERS; w++)
			for (unsigned f = 0; f < MESSAGE_FORMS; f++)
				expect_from_to(o, &r[w][f][i], "news", 1, 20);
	assert_int_equal(ended(&o->l, STATS_delivered),
			 20 * 2 * WORKERS * MESSAGE_FORMS);
}

/* Groups of members move as others come and go. */
static void those_of_other_forms_may_come_and_go(void **state)
{
	struct office *o = *state;
	struct reader r[12];
	bool is_in[12] = {false};
	uint32_t random = 1;

	for (unsigned i = 0; i < 12; i++) {
		enum message_form form = (enum message_form)(i % MESSAGE_FORMS);
		r[i] = connect_to(o, 0, request_of(form), false);
		r[i].member->subscriber.form = (uint8_t)form;
	}
	/* One that stays, so that numbers go on. */
	struct reader stays = subscribe(o, 0, "news");
	for (uint64_t n = 1; n <= 40; n++) {
		random = random * 1103515245 + 12345;
		unsigned i = (random >> 16) % 12;
		if (is_in[i])
			leave(&r[i]);
		else
			join(&r[i], "news");
		is_in[i] = !is_in[i];
		publish_nth(o, "news", n);
		deliver(o, 0);
		for (unsigned k = 0; k < 12; k++)
			expect_from_to(o, &r[k], "news", is_in[k] ? n : n + 1,
				       n);
	}
	expect_from_to(o, &stays, "news", 1, 40);
}

static void late_joiners_of_each_form_get_what_came_after(void **state)
{
	struct office *o = *state;
	struct reader first = subscribe(o, 0, "news");
	struct reader r[3][MESSAGE_FORMS];

	for (unsigned i = 0; i < 3; i++) {
		publish_nth(o, "news", i + 1);
		for (unsigned f = 0; f < MESSAGE_FORMS; f++)
			r[i][f] = subscribe_in(o, 0, "news",
					       (enum message_form)f);
	}
	publish_nth(o, "news", 4);
	deliver(o, 0);
	expect_from_to(o, &first, "news", 1, 4);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned f = 0; f < MESSAGE_FORMS; f++)
			expect_from_to(o, &r[i][f], "news", i + 2, 4);
	assert_int_equal(ended(&o->l, STATS_delivered),
			 4 + MESSAGE_FORMS * (3 + 2 + 1));
}

static void a_burst_of_small_events_is_one_write(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_in(o, 0, "news", MESSAGE_EVENT_V1);

	publish_from_to(o, "news", 1, 300);
	deliver(o, 0);
	uint64_t writes = ended(&o->l, STATS_writes);
	expect_from_to(o, &a, "news", 1, 300);
	assert_int_equal(ended(&o->l, STATS_writes), writes + 1);
}

static void forms_of_long_messages_are_not_copied(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_in(o, 0, "news", MESSAGE_V1);
	static const size_t lens[] = {100, 20000, 100};
	struct message *messages[3];

	for (int i = 0; i < 3; i++)
		messages[i] = publish_filling(o, "news", lens[i]);
	deliver(o, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(messages[i]->refs, i == 1 ? 2 : 1);
		message_unref(messages[i], 1);
	}
	for (int i = 0; i < 3; i++) {
		struct frame frame;
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_in_range(frame.payload.len, lens[i] + 60, lens[i] + 120);
	}
}

/* --- cursors -------------------------------------------------------------- */

static const char *const sibling_topics[SIBLINGS] = {"news", "sports",
						     "weather"};

static void be_sibling(struct reader *r, unsigned i)
{
	struct subscriber *s = &r->member->siblings[i];

	s->form = i == 1 ? MESSAGE_EVENT_V1 : MESSAGE_EVENT;
	s->has_cursor = true;
	s->ordinal = (uint16_t)i;
	s->is_last = i == SIBLINGS - 1;
}

static struct reader subscribe_siblings(struct office *o, unsigned worker,
					bool is_lazy)
{
	struct reader r = connect_to(o, worker, STREAM, is_lazy);

	for (unsigned i = 0; i < SIBLINGS; i++) {
		struct topic_key key = key_of(sibling_topics[i]);
		be_sibling(&r, i);
		assert_int_equal(subscribers_add(r.member->all,
						 &r.member->siblings[i], r.conn,
						 &key, NULL, NULL),
				 0);
	}
	return r;
}

/* Appends the event of message `n` of a sibling, its id from `numbers`. */
static void put_sibling(struct office *o, struct buf *out, unsigned i,
			const uint64_t numbers[SIBLINGS])
{
	struct buf event = {0};
	char id[128];
	char size[32];

	put_form(o, &event, sibling_topics[i],
		 i == 1 ? MESSAGE_EVENT_V1 : MESSAGE_EVENT, numbers[i]);
	struct span body = message_event_body(
		(struct span){event.bytes, event.len}, MESSAGE_EVENT);
	snprintf(id, sizeof id,
		 "id: %016" PRIx64 "-%" PRIu64 ".%" PRIu64 ".%" PRIu64 "\n",
		 registry_epoch(o->registry), numbers[0], numbers[1],
		 numbers[2]);
	snprintf(size, sizeof size, "%zx\r\n", strlen(id) + body.len - 2);
	assert_int_equal(buf_append(out, size, strlen(size)), 0);
	assert_int_equal(buf_append(out, id, strlen(id)), 0);
	assert_int_equal(buf_append(out, body.bytes, body.len), 0);
	buf_fini(&event);
}

static void an_event_of_several_topics_has_all_their_numbers(void **state)
{
	struct office *o = *state;
	struct reader other = subscribe(o, 0, "sports");
	struct buf expected = {0};
	uint64_t numbers[SIBLINGS] = {0};

	publish_nth(o, "sports", ++numbers[1]); /* before they subscribe */
	struct reader a = subscribe_siblings(o, 0, false);
	struct reader b = subscribe_siblings(o, 1, false);
	static const unsigned order[] = {0, 0, 2, 1, 0, 1, 1, 2};
	for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++) {
		unsigned topic = order[i];
		publish_nth(o, sibling_topics[topic], ++numbers[topic]);
		put_sibling(o, &expected, topic, numbers);
		deliver(o, 0);
		deliver(o, 1);
	}
	expect_bytes(o, &a, (struct span){expected.bytes, expected.len});
	expect_bytes(o, &b, (struct span){expected.bytes, expected.len});
	expect_from_to(o, &other, "sports", 1, 4);
	buf_fini(&expected);
}

static void a_cursor_tells_what_was_got_also_in_a_burst(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_siblings(o, 0, false);
	struct buf expected = {0};
	struct buf cursor = {0};
	uint64_t numbers[SIBLINGS] = {0};

	for (uint64_t n = 1; n <= 10; n++)
		for (unsigned i = 0; i < SIBLINGS; i++)
			publish_nth(o, sibling_topics[i], n);
	deliver(o, 0);
	for (unsigned i = 0; i < SIBLINGS; i++)
		while (numbers[i] < 10) {
			numbers[i]++;
			put_sibling(o, &expected, i, numbers);
		}
	expect_bytes(o, &a, (struct span){expected.bytes, expected.len});
	assert_int_equal(subscribers_write_cursor(&o->subscribers[0],
						  &a.member->siblings[1],
						  &cursor),
			 0);
	assert_int_equal(cursor.len, 16 + 9);
	assert_memory_equal(cursor.bytes + 16, "-10.10.10", 9);
	buf_fini(&expected);
	buf_fini(&cursor);
}

/* What it got is whole events; then it is told why. */
static void a_slow_stream_is_ended_behind_a_whole_event(void **state)
{
	struct office *o = *state;
	struct reader slow = subscribe_siblings(o, 0, true);
	struct client *c = slow.client;

	o->l.group->limits.buffered_max_bytes = 30000;
	for (unsigned sent = 0; o->subscribers[0].count > 0; sent++) {
		assert_true(sent < 10000);
		message_unref(publish_filling(o, "news", 700), 1);
		deliver(o, 0);
		turn(&o->l);
	}
	c->reads = true;
	WAIT_UNTIL(&o->l, c->is_over);
	size_t at = place_of(c, "event: close\n");
	/* A chunk of two digits' size begins behind a whole one. */
	assert_memory_equal(c->in.bytes + at - 9, "x\n\n\r\n", 5);
	assert_memory_equal(c->in.bytes + c->in.len - 7, "\r\n0\r\n\r\n", 7);
	assert_int_equal(count_of(c, "id: "), count_of(c, "data: x"));
	assert_int_equal(count_of(c, "\n\n"), count_of(c, "id: ") + 1);
}

/* --- resuming ------------------------------------------------------------- */

static void set_limit(struct office *o, size_t bytes)
{
	o->l.group->limits.buffered_max_bytes = bytes;
	for (unsigned w = 0; w < WORKERS; w++)
		o->subscribers[w].buffered_max_bytes = bytes;
}

/* Returns whether it was exact. */
static bool resume_one(struct office *o, struct reader *r, struct subscriber *s,
		       const char *topic, uint64_t after)
{
	struct topic_key key = key_of(topic);
	struct subscribers_resume resume = {.resumes = true,
					    .epoch =
						    registry_epoch(o->registry),
					    .after = after};
	bool is_exact;

	assert_int_equal(subscribers_add(r->member->all, s, r->conn, &key,
					 &resume, &is_exact),
			 0);
	assert_true(!is_exact || subscribers_since(s) == after);
	return is_exact;
}

/* The mailbox still has what the history has, too. */
static void one_that_resumes_gets_all_it_missed_once_and_goes_on(void **state)
{
	struct office *o = *state;
	struct reader other = subscribe(o, 0, "news");
	struct reader r[MESSAGE_FORMS];

	publish_from_to(o, "news", 1, 3);
	deliver(o, 0);
	publish_from_to(o, "news", 4, 6);
	for (unsigned f = 0; f < MESSAGE_FORMS; f++) {
		r[f] = connect_to(o, 0, request_of((enum message_form)f),
				  false);
		r[f].member->subscriber.form = (uint8_t)f;
		assert_true(resume_one(o, &r[f], &r[f].member->subscriber,
				       "news", 2));
	}
	publish_from_to(o, "news", 7, 8);
	deliver(o, 0);
	publish_nth(o, "news", 9);
	deliver(o, 0);
	for (unsigned f = 0; f < MESSAGE_FORMS; f++)
		expect_from_to(o, &r[f], "news", 3, 9);
	expect_from_to(o, &other, "news", 1, 9);
	assert_int_equal(ended(&o->l, STATS_resumed), MESSAGE_FORMS);
	assert_in_range(ended(&o->l, STATS_replayed), 4 * MESSAGE_FORMS,
			7 * MESSAGE_FORMS);
	assert_int_equal(ended(&o->l, STATS_not_resumed), 0);
}

static void one_that_missed_nothing_resumes_too(void **state)
{
	struct office *o = *state;
	struct reader other = subscribe(o, 0, "news");
	struct reader a = connect_reader(o, 1, false);

	publish_from_to(o, "news", 1, 3);
	assert_true(resume_one(o, &a, &a.member->subscriber, "news", 3));
	publish_nth(o, "news", 4);
	deliver(o, 0);
	deliver(o, 1);
	expect_from_to(o, &a, "news", 4, 4);
	expect_from_to(o, &other, "news", 1, 4);
}

static void one_that_missed_too_much_is_told_and_gets_what_there_is(
	void **state)
{
	struct office *o = *state;
	struct reader other = subscribe(o, 1, "news");
	struct reader a = connect_reader(o, 0, false);

	publish_from_to(o, "news", 1, HISTORY_SIZE + 2);
	assert_false(resume_one(o, &a, &a.member->subscriber, "news", 1));
	assert_int_equal(subscribers_since(&a.member->subscriber), 2);
	publish_nth(o, "news", HISTORY_SIZE + 3);
	deliver(o, 0);
	deliver(o, 1);
	expect_from_to(o, &a, "news", 3, HISTORY_SIZE + 3);
	expect_from_to(o, &other, "news", 1, HISTORY_SIZE + 3);
	assert_int_equal(ended(&o->l, STATS_not_resumed), 1);
	assert_int_equal(losses, 0);
}

static void one_that_leaves_while_behind_gives_the_rest_up(void **state)
{
	struct office *o = *state;
	struct reader a = connect_reader(o, 0, false);
	struct topic_key key = key_of("news");
	struct subscribers_resume resume = {
		.resumes = true, .epoch = registry_epoch(o->registry)};
	bool is_exact;

	publish_from_to(o, "news", 1, 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(subscribers_add(&o->subscribers[0],
						 &a.member->subscriber, a.conn,
						 &key, &resume, &is_exact),
				 0);
		assert_true(is_exact);
		assert_int_equal(o->subscribers[0].behind, 1);
		leave(&a);
		assert_int_equal(o->subscribers[0].behind, 0);
	}
	expect_bytes(o, &a, SPAN(""));
}

/* An id that is sent while a sibling's history is replayed has the numbers from
 * which those behind it will resume. */
static void several_topics_resume_each_from_its_number(void **state)
{
	struct office *o = *state;
	static const uint64_t after[SIBLINGS] = {1, 2, 0};
	uint64_t numbers[SIBLINGS];
	struct buf expected = {0};

	for (unsigned i = 0; i < SIBLINGS; i++)
		publish_from_to(o, sibling_topics[i], 1, 3);
	struct reader a = connect_to(o, 0, STREAM, false);
	for (unsigned i = 0; i < SIBLINGS; i++) {
		be_sibling(&a, i);
		a.member->siblings[i].since = after[i];
		numbers[i] = after[i];
	}
	for (unsigned i = 0; i < SIBLINGS; i++)
		assert_true(resume_one(o, &a, &a.member->siblings[i],
				       sibling_topics[i], after[i]));
	for (unsigned i = 0; i < SIBLINGS; i++)
		while (numbers[i] < 3) {
			numbers[i]++;
			put_sibling(o, &expected, i, numbers);
		}
	WAIT_UNTIL(&o->l, o->subscribers[0].behind == 0);
	publish_nth(o, "sports", ++numbers[1]);
	put_sibling(o, &expected, 1, numbers);
	deliver(o, 0);
	expect_bytes(o, &a, (struct span){expected.bytes, expected.len});
	buf_fini(&expected);
}

/* What it missed, and what comes meanwhile, waits in the history and not in its
 * queue; so it is not slow either, however little may be buffered. */
static void one_that_is_behind_gets_no_more_than_it_has_room_for(void **state)
{
	struct office *o = *state;
	struct reader a = connect_reader(o, 0, true);
	const uint64_t last = 200;
	struct frame frame;
	uint64_t n = 0;

	set_limit(o, 40000);
	while (n < HISTORY_SIZE) {
		message_unref(publish_filling(o, "news", 5000), 1);
		n++;
	}
	assert_true(resume_one(o, &a, &a.member->subscriber, "news", 0));
	while (n < last) {
		message_unref(publish_filling(o, "news", n % 10 ? 200 : 20000),
			      1);
		n++;
		deliver(o, 0);
		turn(&o->l);
		assert_true(conn_unsent_bytes(a.conn) <=
			    20000 + JOINED + 20100);
	}
	assert_int_equal(o->subscribers[0].behind, 1);
	a.client->reads = true;
	for (uint64_t i = 0; i < last; i++) {
		size_t len = i < HISTORY_SIZE ? 5000 : i % 10 ? 200 : 20000;
		WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
		assert_int_equal(frame.opcode, OP_TEXT);
		assert_int_equal(frame.payload.len, len);
	}
	assert_int_equal(o->subscribers[0].behind, 0);
	assert_int_equal(losses, 0);
	assert_int_equal(registry_replay_bytes(o->registry), 0);
	publish_nth(o, "news", last + 1);
	deliver(o, 0);
	WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
	assert_int_equal(conn_state(a.conn), CONN_WEBSOCKET);
}

/* Until nothing more is sent. */
static void fill_queue(struct office *o, struct reader *r)
{
	static const char text[CONN_ROOM_BYTES];

	while (conn_has_room(r->conn)) {
		conn_send_text(r->conn, (struct span){text, sizeof text});
		turn(&o->l);
	}
}

static void what_was_dropped_before_it_could_be_sent_is_told(void **state)
{
	struct office *o = *state;
	struct reader a = connect_reader(o, 0, true);
	uint64_t n = 0;

	publish_nth(o, "news", ++n);
	fill_queue(o, &a);
	assert_true(resume_one(o, &a, &a.member->subscriber, "news", 0));
	while (registry_replay_bytes(o->registry) < 300000) {
		assert_true(n < 100);
		message_unref(publish_filling(o, "news", 20000), 1);
		n++;
		deliver(o, 0);
		turn(&o->l);
	}
	assert_false(registry_shrink_replay(o->registry, 0));
	uint64_t got = subscribers_since(&a.member->subscriber);
	assert_int_equal(losses, 0);
	a.client->reads = true;
	WAIT_UNTIL(&o->l, o->subscribers[0].behind == 0);
	assert_int_equal(losses, 1);
	assert_int_equal(lost_from, got + 1);
	assert_int_equal(lost_to, n - HISTORY_SIZE);
}

/* Each has its turn: none keeps the others from theirs. */
static void those_that_are_behind_take_turns(void **state)
{
	struct office *o = *state;
	struct subscribers *all = &o->subscribers[0];
	struct reader r[3];

	for (int i = 0; i < HISTORY_SIZE; i++)
		message_unref(publish_filling(o, "news", 50000), 1);
	for (int i = 0; i < 3; i++)
		r[i] = connect_reader(o, 0, false);
	for (int i = 0; i < 3; i++) {
		assert_true(resume_one(o, &r[i], &r[i].member->subscriber,
				       "news", 0));
		assert_true(
			subscribers_catch_up(all, &r[i].member->subscriber));
		assert_true(
			subscribers_catch_up(all, &r[i].member->subscriber));
	}
	for (int i = 0; i < 3; i++) {
		assert_true(subscribers_has_turns(all));
		subscribers_take_turns(all, 0);
		for (int j = 0; j < 3; j++)
			assert_int_equal(
				subscribers_since(&r[j].member->subscriber) > 0,
				j <= i);
	}
	assert_false(subscribers_has_turns(all));
	WAIT_UNTIL(&o->l, all->behind == 0);
	for (int i = 0; i < 3; i++) {
		struct frame frame;
		for (int n = 0; n < HISTORY_SIZE; n++)
			WAIT_UNTIL(&o->l, next_frame(r[i].client, &frame));
	}
}

/* --- lossy ---------------------------------------------------------------- */

/* What a client of lossy subscriptions has been told, of each topic. */
struct account {
	uint64_t next[SIBLINGS]; /* the number to come */
	uint64_t got;
	uint64_t lost;
};

static uint64_t number_in(struct span json, const char *name)
{
	char wanted[32];
	snprintf(wanted, sizeof wanted, "\"%s\":\"", name);
	const char *at = memmem(json.bytes, json.len, wanted, strlen(wanted));

	assert_non_null(at);
	return strtoull(at + strlen(wanted) + 17, NULL, 10);
}

static unsigned topic_in(struct span json)
{
	for (unsigned i = 0; i < SIBLINGS; i++) {
		char wanted[32];
		snprintf(wanted, sizeof wanted, "\"topic\":\"%s\"",
			 sibling_topics[i]);
		if (memmem(json.bytes, json.len, wanted, strlen(wanted)))
			return i;
	}
	fail_msg("no topic: %.*s", (int)json.len, json.bytes);
	return 0;
}

/* Each number comes in a message, or in a gap notice. */
static void account_for(struct account *a, struct span json)
{
	unsigned topic = topic_in(json);

	if (memmem(json.bytes, json.len, "{\"type\":\"gap\"", 13) != NULL) {
		uint64_t to = number_in(json, "to");
		assert_int_equal(number_in(json, "from"), a->next[topic]);
		assert_true(to >= a->next[topic]);
		a->lost += to - a->next[topic] + 1;
		a->next[topic] = to + 1;
	} else {
		assert_int_equal(number_in(json, "id"), a->next[topic]);
		a->next[topic]++;
		a->got++;
	}
}

static void read_account(struct reader *r, struct account *a)
{
	struct frame frame;

	while (next_frame(r->client, &frame)) {
		assert_int_equal(frame.opcode, OP_TEXT);
		if (frame.payload.bytes[0] == '{') /* and no other text */
			account_for(a, frame.payload);
	}
}

static void be_lossy(struct reader *r, unsigned i)
{
	struct member *member = r->member;

	member->lossy[i] =
		subscribers_lossy_new(MESSAGE_V1, &member->lossy_bytes);
	assert_non_null(member->lossy[i]);
}

static struct reader subscribe_lossy(struct office *o, unsigned topics,
				     bool is_lazy)
{
	struct reader r = connect_reader(o, 0, is_lazy);

	r.member->subscriber.form = MESSAGE_V1; /* for expect_from_to() */
	for (unsigned i = 0; i < topics; i++) {
		struct topic_key key = key_of(sibling_topics[i]);
		be_lossy(&r, i);
		assert_int_equal(subscribers_add(r.member->all,
						 r.member->lossy[i], r.conn,
						 &key, NULL, NULL),
				 0);
	}
	return r;
}

static struct account fresh_account(void)
{
	return (struct account){.next = {1, 1, 1}};
}

static void a_lossy_one_that_reads_loses_nothing(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 1, false);
	struct reader plain = subscribe_in(o, 0, "news", MESSAGE_V1);

	publish_nth(o, "news", 1);
	deliver(o, 0);
	publish_from_to(o, "news", 2, 1500); /* more than the room there is */
	deliver(o, 0);
	expect_from_to(o, &a, "news", 1, 1500);
	expect_from_to(o, &plain, "news", 1, 1500);
	assert_int_equal(ended(&o->l, STATS_dropped), 0);
	assert_int_equal(ended(&o->l, STATS_delivered), 3000);
	assert_null(lossy_of(a.member->lossy[0])->waiting);
}

/* It comes in one delivery, and is more than may wait. */
static void a_burst_is_not_held_against_a_lossy_one_that_reads(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 2, false);
	struct account account = fresh_account();

	set_limit(o, 10000);
	for (int i = 0; i < 30; i++)
		message_unref(publish_filling(o, sibling_topics[i % 2], 900),
			      1);
	deliver(o, 0);
	WAIT_UNTIL(&o->l, (read_account(&a, &account),
			   account.next[0] == 16 && account.next[1] == 16));
	assert_int_equal(account.lost, 0);
	assert_int_equal(a.member->lossy_bytes, 0);
}

static void a_message_alone_is_not_too_much_for_a_lossy_one(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 2, false);
	struct account account = fresh_account();

	set_limit(o, 10000);
	message_unref(publish_filling(o, sibling_topics[0], 20000), 1);
	deliver(o, 0);
	WAIT_UNTIL(&o->l, (read_account(&a, &account), account.next[0] == 2));
	assert_int_equal(account.lost, 0);
}

/* Fills the queue so that nothing more is sent. */
static void stall(struct office *o, struct reader *r, uint64_t *n)
{
	while (conn_has_room(r->conn)) {
		assert_true(++*n < 10000);
		message_unref(publish_filling(o, "news", 4000), 1);
		deliver(o, 0);
		turn(&o->l);
	}
}

static void what_a_lossy_one_loses_at_the_end_is_told_all_the_same(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 1, true);
	struct account account = fresh_account();
	uint64_t n = 0;

	set_limit(o, 100000);
	stall(o, &a, &n);
	/* The last is longer than all that may wait. */
	for (int i = 0; i < 5; i++, n++)
		message_unref(publish_filling(o, "news", 300), 1);
	message_unref(publish_filling(o, "news", 100000), 1);
	n++;
	deliver(o, 0);
	struct lossy *l = lossy_of(a.member->lossy[0]);
	assert_int_equal(l->count, 0);
	assert_true(l->gap_from <= n - 5);
	assert_int_equal(l->gap_to, n);
	a.client->reads = true;
	WAIT_UNTIL(&o->l,
		   (read_account(&a, &account), account.next[0] == n + 1));
	assert_int_equal(l->gap_from, 0);
	assert_int_equal(account.lost, ended(&o->l, STATS_dropped));
	assert_true(account.lost >= 6);
}

static void the_oldest_goes_first(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 1, true);
	struct lossy *l = lossy_of(a.member->lossy[0]);
	uint64_t n = 0;

	stall(o, &a, &n);
	set_limit(o, conn_unsent_bytes(a.conn) + 10000);
	uint64_t sent = n;
	for (int i = 0; i < 30; i++, n++)
		message_unref(publish_filling(o, "news", 900), 1);
	deliver(o, 0);
	assert_int_equal(l->count, 9); /* each a little over 1000 */
	assert_int_equal(l->gap_from, sent + 1);
	assert_int_equal(l->gap_to, n - 9);
	assert_int_equal(l->bytes, a.member->lossy_bytes);
	assert_true(l->bytes <= 10000);
}

/* Nobody asks for room but the one that waits. */
static void a_message_that_waits_alone_is_sent_when_there_is_room(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe_lossy(o, 1, true);
	struct account account = fresh_account();
	struct lossy *l = lossy_of(a.member->lossy[0]);

	fill_queue(o, &a);
	publish_nth(o, "news", 1);
	deliver(o, 0);
	assert_int_equal(l->count, 1);
	a.client->reads = true;
	WAIT_UNTIL(&o->l, (read_account(&a, &account), account.next[0] == 2));
	assert_null(l->waiting);
}

/* Something else that the connection is sent, as long as it may be. */
static void send_other_text(struct reader *r, size_t len, size_t limit)
{
	char *text = calloc(1, len + 1);

	assert_non_null(text);
	if (conn_unsent_bytes(r->conn) + len + WEBSOCKET_HEADER_MAX <= limit)
		conn_send_text(r->conn, (struct span){text, len + 1});
	free(text);
}

/* Random sizes, bursts, pauses of reading, and limits. */
static void lossy_walk(struct office *o, uint32_t seed, unsigned topics,
		       size_t limit, bool with_others)
{
	struct reader a = subscribe_lossy(o, topics, true);
	struct account account = fresh_account();
	uint64_t n[SIBLINGS] = {0};
	uint64_t dropped = ended(&o->l, STATS_dropped);
	uint64_t delivered = ended(&o->l, STATS_delivered);
	uint32_t random = seed;

#define DICE(sides) ((random = random * 1103515245 + 12345) >> 16) % (sides)
	set_limit(o, limit);
	for (int step = 0; step < 150; step++) {
		unsigned burst = DICE(12);
		for (unsigned i = 0; i < burst; i++) {
			unsigned topic = DICE(topics);
			size_t len = DICE(20) == 0 ? limit : limit / 6;
			len = DICE((unsigned)len) + 1;
			message_unref(
				publish_filling(o, sibling_topics[topic], len),
				1);
			n[topic]++;
		}
		deliver(o, 0);
		assert_true(a.member->lossy_bytes <= limit);
		assert_true(with_others ||
			    conn_unsent_bytes(a.conn) + a.member->lossy_bytes <=
				    2 * limit + 200 * topics);
		if (with_others)
			send_other_text(&a, DICE((unsigned)limit), limit);
		a.client->reads = DICE(3) == 0;
		for (unsigned turns = DICE(4); turns > 0; turns--)
			turn(&o->l);
		read_account(&a, &account);
	}
	a.client->reads = true;
	for (unsigned i = 0; i < topics; i++)
		WAIT_UNTIL(&o->l, (read_account(&a, &account),
				   account.next[i] == n[i] + 1));
	assert_int_equal(account.lost, ended(&o->l, STATS_dropped) - dropped);
	assert_int_equal(account.got,
			 ended(&o->l, STATS_delivered) - delivered);
	assert_int_equal(a.member->lossy_bytes, 0);
	assert_int_equal(conn_state(a.conn), CONN_WEBSOCKET);
	close_client(a.client);
	WAIT_UNTIL(&o->l, o->subscribers[0].count == 0);
}

static void each_number_is_received_or_told_lost_in_order(void **state)
{
	static const size_t limits[] = {1024, 5000, 40000, 200000};
	uint64_t dropped = 0;

	(void)state;
	for (uint32_t seed = 0; seed < 16; seed++) {
		struct office *o;
		void *fresh;
		set_up(&fresh);
		o = fresh;
		lossy_walk(o, seed, 1 + seed % SIBLINGS, limits[seed / 2 % 4],
			   seed % 2);
		dropped += ended(&o->l, STATS_dropped);
		tear_down(&fresh);
	}
	assert_true(dropped > 100);
}

static void a_lossy_one_that_comes_back_loses_nothing_of_the_history(
	void **state)
{
	struct office *o = *state;
	struct reader a = connect_reader(o, 0, true);
	struct account account = {.next = {3, 1, 1}};

	set_limit(o, 1000);
	publish_from_to(o, "news", 1, 2);
	for (int i = 3; i <= 5; i++)
		message_unref(publish_filling(o, "news", 400), 1);
	message_unref(publish_filling(o, "news", 2000), 1);
	message_unref(publish_filling(o, "news", 100), 1);
	be_lossy(&a, 0);
	struct lossy *l = lossy_of(a.member->lossy[0]);
	assert_true(resume_one(o, &a, &l->subscriber, "news", 2));
	publish_nth(o, "news", 8);
	deliver(o, 0);
	assert_int_equal(l->count, 0); /* it waits in the history */
	a.client->reads = true;
	WAIT_UNTIL(&o->l, (read_account(&a, &account), account.next[0] == 9));
	assert_int_equal(account.lost, 0);
	assert_int_equal(ended(&o->l, STATS_dropped), 0);
	assert_int_equal(ended(&o->l, STATS_resumed), 1);
}

/* Whatever allocation fails, a lossy subscription knows what it lost, or ends.
 */
static void without_memory_a_lossy_one_loses_and_tells(void **state)
{
	bool has_failed;
	unsigned nth = 0;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct account account = fresh_account();
		struct office *o;
		struct frame frame;
		void *fresh;
		set_up(&fresh);
		o = fresh;
		struct reader a = subscribe_lossy(o, 1, false);
		for (int i = 0; i < 25; i++)
			message_unref(publish_filling(o, "news", 4000), 1);
		oom_fail_at(++nth);
		deliver(o, 0);
		has_failed = oom_end();
		while (account.next[0] < 26) {
			WAIT_UNTIL(&o->l, next_frame(a.client, &frame));
			if (frame.opcode == OP_CLOSE) {
				assert_int_equal(frame.code, 1011);
				break;
			}
			account_for(&account, frame.payload);
		}
		assert_int_equal(account.lost, ended(&o->l, STATS_dropped));
		assert_int_equal(account.lost > 0 || frame.opcode == OP_CLOSE,
				 has_failed && account.got < 25);
		tear_down(&fresh);
	} while (has_failed);
	assert_true(nth > 25);
}

/* Whether `text` is the end of what a reader of the form gets. */
static bool is_end(struct span text, bool is_stream, bool is_chunked)
{
	struct span end = is_stream ? SPAN("event: close\n") : SPAN("\x88");
	const char *line = memchr(text.bytes, '\n', text.len);

	if (is_chunked && line != NULL) {
		text.len -= (size_t)(line + 1 - text.bytes);
		text.bytes = line + 1;
	}
	return text.len >= end.len &&
	       memcmp(text.bytes, end.bytes, end.len) == 0;
}

/* How much of `expected` a reader got: whole units, and then the end if that is
 * not all. */
static void expect_some(struct office *o, struct reader *r,
			struct span expected)
{
	bool is_stream = message_forms[r->member->subscriber.form].is_event ||
			 r->member->siblings[0].has_cursor;
	bool is_chunked = conn_framing(r->conn) == FRAMING_CHUNK;
	struct span unit_end = is_chunked ? SPAN("\n\n\r\n") : SPAN("\n\n");
	size_t got = 0;

	WAIT_UNTIL(&o->l, unread(r).len >= expected.len ||
				  conn_group_of(r->conn)->count == 0 ||
				  r->client->is_over ||
				  count_of(r->client, "\x88") > 0);
	struct span text = unread(r);
	while (got < text.len && got < expected.len &&
	       text.bytes[got] == expected.bytes[got])
		got++;
	if (got == expected.len)
		return;
	/* A unit and the end may begin alike. */
	while (got > 0 && is_stream &&
	       (got < unit_end.len ||
		memcmp(text.bytes + got - unit_end.len, unit_end.bytes,
		       unit_end.len) != 0))
		got--;
	if (!is_end((struct span){text.bytes + got, text.len - got}, is_stream,
		    is_chunked))
		fail_msg("not the end at %zu: %.*s", got, (int)text.len,
			 text.bytes);
}

static void without_memory_each_gets_whole_units_until_its_end(void **state)
{
	bool has_failed;
	unsigned nth = 0;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct reader r[MESSAGE_FORMS + 1];
		struct office *o;
		void *fresh;
		set_up(&fresh);
		o = fresh;
		for (unsigned f = 0; f < MESSAGE_FORMS; f++)
			r[f] = subscribe_in(o, 0, "news", (enum message_form)f);
		r[MESSAGE_FORMS] = subscribe_siblings(o, 0, false);
		publish_from_to(o, "news", 1, 5);
		message_unref(publish_filling(o, "news", 20000), 1);
		oom_fail_at(++nth);
		deliver(o, 0);
		has_failed = oom_end();
		for (unsigned f = 0; f <= MESSAGE_FORMS; f++) {
			struct buf expected = {0};
			for (uint64_t n = 1; n <= 5; n++)
				if (f < MESSAGE_FORMS)
					put_form(o, &expected, "news",
						 (enum message_form)f, n);
				else
					put_sibling(o, &expected, 0,
						    (uint64_t[]){n, 0, 0});
			expect_some(
				o, &r[f],
				(struct span){expected.bytes, expected.len});
			buf_fini(&expected);
		}
		tear_down(&fresh);
	} while (has_failed);
	assert_true(nth > 30);
}

static void without_memory_nobody_resumes_and_nothing_is_kept(void **state)
{
	struct office *o = *state;
	struct topic_key key = key_of("news");
	struct subscribers_resume resume = {
		.resumes = true, .epoch = registry_epoch(o->registry)};
	struct reader a = connect_reader(o, 0, false);
	struct subscriber *s = &a.member->subscriber;
	unsigned nth = 0;
	bool has_failed;
	bool is_exact;

	OOM_OR_SKIP();
	publish_from_to(o, "news", 1, 3);
	do {
		oom_fail_at(++nth);
		int rv = subscribers_add(&o->subscribers[0], s, a.conn, &key,
					 &resume, &is_exact);
		has_failed = oom_end();
		assert_true(rv == 0 || (has_failed && rv == UV_ENOMEM));
		assert_int_equal(s->topic != NULL, rv == 0);
		assert_int_equal(o->subscribers[0].behind, rv == 0);
		leave(&a);
	} while (has_failed);
	assert_true(nth > 1);
}

#define WITH_OFFICE(test)                                                      \
	cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#define WITH_HISTORY(test)                                                     \
	cmocka_unit_test_setup_teardown(test, set_up_history, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_OFFICE(all_subscribers_get_all_messages_in_one_order),
		WITH_OFFICE(a_subscriber_gets_its_own_topic_alone),
		WITH_OFFICE(
			one_that_joins_within_posted_messages_gets_what_came_after),
		WITH_OFFICE(those_behind_one_that_left_still_get_all),
		WITH_OFFICE(an_empty_message_is_a_message),
		WITH_OFFICE(mail_for_one_that_left_is_dropped),
		WITH_OFFICE(mail_from_before_does_not_reach_one_that_came_back),
		WITH_OFFICE(
			mail_from_before_does_not_reach_it_while_others_stay),
		WITH_OFFICE(a_connection_that_ends_with_mail_waiting_has_left),
		WITH_OFFICE(one_that_is_ending_disturbs_nobody),
		WITH_OFFICE(topics_take_turns_when_there_is_no_time),
		WITH_OFFICE(those_that_need_a_look_get_few_messages_at_once),
		WITH_OFFICE(one_that_leaves_with_messages_waiting_gets_no_more),
		WITH_OFFICE(a_burst_of_small_messages_is_one_write),
		WITH_OFFICE(long_messages_are_not_copied),
		WITH_OFFICE(long_bursts_keep_their_order),
		WITH_OFFICE(a_slow_subscriber_is_ended_and_disturbs_nobody),
		WITH_OFFICE(what_a_full_mailbox_refuses_reaches_nobody),
		WITH_OFFICE(without_memory_a_subscriber_is_not_added),
		WITH_OFFICE(without_memory_to_deliver_subscribers_are_ended),
		WITH_OFFICE(each_gets_its_form_on_each_worker),
		WITH_OFFICE(those_of_other_forms_may_come_and_go),
		WITH_OFFICE(late_joiners_of_each_form_get_what_came_after),
		WITH_OFFICE(a_burst_of_small_events_is_one_write),
		WITH_OFFICE(forms_of_long_messages_are_not_copied),
		WITH_OFFICE(an_event_of_several_topics_has_all_their_numbers),
		WITH_OFFICE(a_cursor_tells_what_was_got_also_in_a_burst),
		WITH_OFFICE(a_slow_stream_is_ended_behind_a_whole_event),
		WITH_HISTORY(
			one_that_is_behind_gets_no_more_than_it_has_room_for),
		WITH_HISTORY(what_was_dropped_before_it_could_be_sent_is_told),
		WITH_HISTORY(those_that_are_behind_take_turns),
		WITH_HISTORY(
			one_that_resumes_gets_all_it_missed_once_and_goes_on),
		WITH_HISTORY(one_that_missed_nothing_resumes_too),
		WITH_HISTORY(
			one_that_missed_too_much_is_told_and_gets_what_there_is),
		WITH_HISTORY(one_that_leaves_while_behind_gives_the_rest_up),
		WITH_HISTORY(several_topics_resume_each_from_its_number),
		WITH_OFFICE(a_lossy_one_that_reads_loses_nothing),
		WITH_OFFICE(a_burst_is_not_held_against_a_lossy_one_that_reads),
		WITH_OFFICE(a_message_alone_is_not_too_much_for_a_lossy_one),
		WITH_OFFICE(
			what_a_lossy_one_loses_at_the_end_is_told_all_the_same),
		WITH_OFFICE(the_oldest_goes_first),
		WITH_OFFICE(
			a_message_that_waits_alone_is_sent_when_there_is_room),
		cmocka_unit_test(each_number_is_received_or_told_lost_in_order),
		WITH_HISTORY(
			a_lossy_one_that_comes_back_loses_nothing_of_the_history),
		cmocka_unit_test(without_memory_a_lossy_one_loses_and_tells),
		cmocka_unit_test(
			without_memory_each_gets_whole_units_until_its_end),
		WITH_HISTORY(without_memory_nobody_resumes_and_nothing_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
