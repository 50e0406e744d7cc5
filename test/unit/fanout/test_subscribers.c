/* test_subscribers.c - order, leaving, turns, limits, forms (subscribers.h) */
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

#include "office.h"

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
	office_leave(&r[0]);
	office_leave(&r[4]);
	office_leave(&r[4]); /* nothing happens */
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
	office_leave(&a);
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
	office_leave(&a);
	join(&a, "news");
	publish(o, "news", "two");
	office_leave(&a);
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
	office_leave(&a);
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
	office_leave(&quiet);
	office_leave(&busy);
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
	office_leave(&c);
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
		office_leave(&a);
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
			office_leave(&r[i]);
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
