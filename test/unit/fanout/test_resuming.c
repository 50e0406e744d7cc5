/* test_resuming.c - cursors, resuming, lossy subscriptions (subscribers.h) */
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

#define HISTORY_SIZE 8

#define JOINED 16384 /* bytes of history that are sent together */

static int set_up_history(void **state)
{
	return set_up_with(state, HISTORY_SIZE);
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
		office_leave(&a);
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
		office_set_up(&fresh);
		o = fresh;
		lossy_walk(o, seed, 1 + seed % SIBLINGS, limits[seed / 2 % 4],
			   seed % 2);
		dropped += ended(&o->l, STATS_dropped);
		office_tear_down(&fresh);
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
		office_set_up(&fresh);
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
		office_tear_down(&fresh);
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
		office_set_up(&fresh);
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
		office_tear_down(&fresh);
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
		office_leave(&a);
	} while (has_failed);
	assert_true(nth > 1);
}

#define WITH_HISTORY(test)                                                     \
	cmocka_unit_test_setup_teardown(test, set_up_history, office_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
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
