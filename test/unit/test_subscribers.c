/* test_subscribers.c - what src/subscribers.c promises.
 *
 * Two workers are played on one thread: each has a mailbox and subscribers of
 * its own, and takes its mail when a test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loopback.h"
#include "oom.h"
#include "subscribers.h"

#define UPGRADE                                                                \
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"                 \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define WORKERS     2
#define MAILBOX_MAX (1 << 20)

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
	(void)request;
	struct loopback *l = conn_group_of(c)->context;
	CONTAINER_OF(l, struct office, l)->newest = c;
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
	if (member->all != NULL)
		subscribers_remove(member->all, &member->subscriber);
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct member),
	.on_head = on_head,
	.on_request = on_request,
	.on_message = on_message,
	.on_end = on_end,
};

static void on_wake(uv_async_t *async)
{
	(void)async;
}

static int set_up(void **state)
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
	const struct registry_options options = {.mailboxes = o->by_worker,
						 .workers = WORKERS};
	assert_int_equal(registry_new(&o->registry, &options), 0);
	for (unsigned w = 0; w < WORKERS; w++)
		subscribers_init(&o->subscribers[w], o->registry, w,
				 &o->l.stats);
	*state = o;
	return 0;
}

static void deliver(struct office *o, unsigned worker)
{
	struct mail mail;
	if (mailbox_take(&o->mailboxes[worker], &mail))
		subscribers_deliver(&o->subscribers[worker], mail.messages);
}

static int tear_down(void **state)
{
	struct office *o = *state;

	for (unsigned w = 0; w < WORKERS; w++) {
		deliver(o, w);
		uv_close((uv_handle_t *)&o->mailboxes[w].async, NULL);
	}
	loopback_close(&o->l);
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_int_equal(o->subscribers[w].count, 0);
		deliver(o, w);
		mailbox_fini(&o->mailboxes[w]);
	}
	assert_int_equal(registry_topics(o->registry), 0);
	registry_free(o->registry);
	free(o);
	return 0;
}

static struct topic_key key_of(const char *topic)
{
	return (struct topic_key){SPAN("alice"), span_of(topic)};
}

static struct reader connect_reader(struct office *o, unsigned worker,
				    bool is_lazy)
{
	struct client *c =
		is_lazy ? connect_lazy_client(&o->l) : connect_client(&o->l);
	c->reads = true;
	send_text(c, UPGRADE);
	WAIT_UNTIL(&o->l, responses(c) == 1);
	skip_upgrade(c);
	c->reads = !is_lazy;
	struct member *member = conn_user(o->newest);
	member->all = &o->subscribers[worker];
	return (struct reader){c, o->newest, member};
}

static void join(struct reader *r, const char *topic)
{
	struct topic_key key = key_of(topic);
	assert_int_equal(subscribers_add(r->member->all, &r->member->subscriber,
					 r->conn, &key),
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
	conn_end_later(b.conn, ENDING_policy);
	deliver(o, 0); /* before the flush that ends it */
	expect_texts(o, &a, "one;");
	expect_texts(o, &c, "one;");
	assert_int_equal(o->subscribers[0].count, 2);
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
		int rv = subscribers_add(&o->subscribers[0], s, a.conn, &key);
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

#define WITH_OFFICE(test)                                                      \
	cmocka_unit_test_setup_teardown(test, set_up, tear_down)

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
		WITH_OFFICE(a_burst_of_small_messages_is_one_write),
		WITH_OFFICE(long_messages_are_not_copied),
		WITH_OFFICE(long_bursts_keep_their_order),
		WITH_OFFICE(a_slow_subscriber_is_ended_and_disturbs_nobody),
		WITH_OFFICE(what_a_full_mailbox_refuses_reaches_nobody),
		WITH_OFFICE(without_memory_a_subscriber_is_not_added),
		WITH_OFFICE(without_memory_to_deliver_subscribers_are_ended),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
