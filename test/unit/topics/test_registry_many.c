/* test_registry_many.c - many topics, lack of memory, threads, collisions
 * (registry.h) */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "aborts.h"
#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/registry.h"

#include "registry_topics.h"

/* --- many topics -----------------------------------------------------------*/

static void topics_are_charged_with_their_names_as_long_as_they_exist(
	void **state)
{
	static char name[30000];
	const struct topic_key longest = {{"alice", 5}, {name, sizeof name}};
	(void)state;
	memory_settle();
	memory_set_limit(0, 1 << 20);
	struct topic *t = bare_join(&longest, 0);
	bare_join(&longest, 1);
	memory_settle();
	assert_in_range(memory_used(), (1 << 20) + sizeof name,
			(1 << 20) + sizeof name + 1000);
	bare_leave(t, 0);
	bare_leave(t, 1);
	memory_settle();
	assert_int_equal(memory_used(), 1 << 20);
}

static void a_million_topics_that_came_and_went_leave_nothing(void **state)
{
	struct topic **topics = calloc(MANY_TOPICS, sizeof *topics);
	char name[16];
	struct topic_key key = {{"alice", 5}, {name, 0}};

	(void)state;
	assert_non_null(topics);
	size_t before = heap_bytes();
	for (unsigned i = 0; i < MANY_TOPICS; i++) {
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		topics[i] = bare_join(&key, i % WORKERS);
	}
	assert_int_equal(registry_topics(registry), MANY_TOPICS);
	assert_int_equal(bare_publish(&key).subscribers, 1);
	/* Not in the order in which they came. */
	for (unsigned i = 0; i < MANY_TOPICS; i++) {
		unsigned it = (unsigned)(i * UINT64_C(7919) % MANY_TOPICS);
		bare_leave(topics[it], it % WORKERS);
	}
	assert_int_equal(registry_topics(registry), 0);
	/* 64 tables of 16 pointers, and what malloc keeps for itself. */
	assert_true(heap_bytes() <= before + (64 << 10));
	free(topics);
}

static void a_million_publications_to_as_many_topics_leave_nothing(void **state)
{
	size_t before = heap_bytes();
	char name[16];

	(void)state;
	for (unsigned i = 0; i < MANY_TOPICS; i++) {
		struct topic_key key = {{"alice", 5}, {name, 0}};
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		bare_publish(&key);
	}
	assert_int_equal(registry_topics(registry), 0);
	assert_true(heap_bytes() <= before + (4 << 10));
}

static void free_registry(void *unused)
{
	(void)unused;
	registry_free(registry);
}

static void freeing_while_a_subscriber_is_left_aborts(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	assert_true(aborts(free_registry, NULL));
	bare_leave(t, 0);
}

static void freeing_none_is_fine(void **state)
{
	(void)state;
	registry_free(NULL);
}

/* --- without memory --------------------------------------------------------*/

static void without_memory_there_is_no_registry(void **state)
{
	const struct registry_options options = {.mailboxes = box_pointers,
						 .workers = WORKERS};
	struct registry *r;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	int rv = registry_new(&r, &options);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
}

static void without_memory_joining_changes_nothing(void **state)
{
	struct registry_join j = {.member = members[0]};
	unsigned nth = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	for (;;) {
		oom_fail_at(++nth);
		rv = registry_join(registry, &news, 0, &j);
		if (!oom_end())
			break;
		assert_int_equal(rv, UV_ENOMEM);
		assert_ptr_equal(j.member, members[0]);
		assert_int_equal(registry_topics(registry), 0);
		assert_int_equal(bare_publish(&news).subscribers, 0);
	}
	assert_int_equal(rv, 0);
	assert_true(nth > 1);
	assert_int_equal(bare_publish(&news).subscribers, 1);
	bare_leave(j.topic, 0);
}

static void joining_a_topic_there_is_needs_no_memory(void **state)
{
	struct registry_join j = {.member = members[1]};

	(void)state;
	OOM_OR_SKIP();
	bare_join(&news, 0);
	oom_fail_at(1);
	int rv = registry_join(registry, &news, 1, &j);
	assert_false(oom_end());
	assert_int_equal(rv, 0);
	bare_leave(j.topic, 0);
	bare_leave(j.topic, 1);
}

/* Where a table cannot grow or shrink, the one there is goes on serving. */
static void without_memory_for_tables_topics_come_and_go_all_the_same(
	void **state)
{
	static struct topic *topics[5000];
	char name[16];
	struct topic_key key = {{"a", 1}, {name, 0}};
	unsigned failures = 0;

	(void)state;
	OOM_OR_SKIP();
	for (unsigned i = 0; i < 5000; i++) {
		struct registry_join j = {.member = members[0]};
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		/* A table's comes before the topic's; without one at all, the
		 * second try is the one that counts. */
		oom_fail_at(1);
		int rv = registry_join(registry, &key, 0, &j);
		failures += oom_end();
		topics[i] = rv == 0 ? j.topic : bare_join(&key, 0);
	}
	assert_int_equal(registry_topics(registry), 5000);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		assert_int_equal(bare_publish(&key).subscribers, 1);
		oom_fail_at(1);
		bare_leave(topics[i], 0);
		failures += oom_end();
		assert_int_equal(bare_publish(&key).subscribers, 0);
	}
	assert_int_equal(registry_topics(registry), 0);
	assert_true(failures >= 5000);
}

static void publishing_and_leaving_need_no_memory(void **state)
{
	struct registry_receipt receipt;
	struct message *m;
	uint64_t posted;

	(void)state;
	OOM_OR_SKIP();
	m = message_new(SPAN("x"), false, WORKERS);
	assert_non_null(m);
	struct topic *t = bare_join(&news, 0);
	bare_join(&news, 1);
	oom_fail_at(1);
	int rv = registry_publish(registry, &news, m, &receipt);
	registry_leave(registry, t, 0, &posted);
	registry_leave(registry, t, 1, &posted);
	assert_false(oom_end());
	assert_int_equal(rv, 0);
	assert_int_equal(receipt.subscribers, 2);
}

/* --- threads ---------------------------------------------------------------*/

/* No assertion on another thread than main's: cmocka's jump. */
static _Atomic unsigned wrong;

static _Atomic unsigned running;

static void publish_news(void *unused)
{
	uint64_t before = 0;

	(void)unused;
	for (unsigned i = 0; i < TURNS; i++) {
		struct registry_receipt receipt;
		struct message *m = message_new(SPAN("x"), false, WORKERS);
		if (m == NULL ||
		    registry_publish(registry, &news, m, &receipt) != 0) {
			wrong++;
			return;
		}
		wrong += receipt.sequence <= before;
		wrong += receipt.subscribers != WORKERS;
		before = receipt.sequence;
	}
}

static void all_workers_get_a_topics_messages_in_one_order(void **state)
{
	struct mail mails[WORKERS];
	uv_thread_t threads[4];
	struct topic *t = NULL;

	(void)state;
	wrong = 0;
	for (unsigned w = 0; w < WORKERS; w++)
		t = bare_join(&news, w);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			uv_thread_create(&threads[i], publish_news, NULL), 0);
	for (int i = 0; i < 4; i++)
		uv_thread_join(&threads[i]);
	assert_int_equal(wrong, 0);
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_true(mailbox_take(&boxes[w], &mails[w]));
		assert_int_equal(mails[w].messages_count, 4 * TURNS);
	}
	for (uint64_t sequence = 1; sequence <= 4 * TURNS; sequence++) {
		struct message *m = mails[0].messages;
		assert_int_equal(m->sequence, sequence);
		for (unsigned w = 0; w < WORKERS; w++) {
			assert_ptr_equal(mails[w].messages, m);
			mails[w].messages = m->links[w].next;
		}
		message_unref(m, WORKERS);
	}
	for (unsigned w = 0; w < WORKERS; w++)
		bare_leave(t, w);
}

static const struct topic_key few[KEYS] = {
	{{"a", 1}, {"1", 1}},
	{{"a", 1}, {"2", 1}},
	{{"b", 1}, {"1", 1}},
};

static void take_mail(struct worker *w)
{
	struct mail mail;

	if (!mailbox_take(&boxes[w->index], &mail))
		return;
	while (mail.messages != NULL) {
		struct message *m = mail.messages;
		struct local *l = m->links[w->index].member;
		wrong += m->sequence != ++l->last;
		l->taken++;
		mail.messages = m->links[w->index].next;
		message_unref(m, 1);
	}
}

static void join_local(struct worker *w, unsigned key)
{
	struct local *l = &w->locals[key];
	struct registry_join j = {0};
	int rv;

	rv = registry_join(registry, &few[key], w->index, &j);
	wrong += rv != (l->subscribers == 0 ? UV_ENOENT : 0);
	if (rv == UV_ENOENT) {
		j.member = l;
		rv = registry_join(registry, &few[key], w->index, &j);
		/* The topic may have been gone: no number comes back. */
		wrong += j.since < l->last;
		l->topic = j.topic;
		l->last = j.since;
		l->taken = 0;
	}
	wrong += rv != 0 || j.member != l;
	l->subscribers++;
}

/* All that was posted for the member is in the mailbox by now. */
static void leave_local(struct worker *w, unsigned key)
{
	struct local *l = &w->locals[key];
	uint64_t posted = 0;
	bool is_last = registry_leave(registry, l->topic, w->index, &posted);

	wrong += is_last != (--l->subscribers == 0);
	if (!is_last)
		return;
	take_mail(w);
	wrong += l->taken != posted;
}

static void come_and_go(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < TURNS; i++) {
		unsigned key = random_below(&w->random, KEYS);
		unsigned what = random_below(&w->random, 5);
		if (what < 2 && w->locals[key].subscribers < 3)
			join_local(w, key);
		else if (what < 4 && w->locals[key].subscribers > 0)
			leave_local(w, key);
		else
			take_mail(w);
	}
	for (unsigned key = 0; key < KEYS; key++)
		while (w->locals[key].subscribers > 0)
			leave_local(w, key);
	running--;
}

static void publish_to_few(void *arg)
{
	uint64_t random = (uintptr_t)arg;

	while (running > 0) {
		struct registry_receipt receipt;
		struct message *m = message_new(SPAN("x"), false, WORKERS);
		unsigned key = random_below(&random, KEYS);
		if (m == NULL ||
		    registry_publish(registry, &few[key], m, &receipt) != 0) {
			wrong++;
			return;
		}
		wrong += receipt.sequence == 0;
		wrong += registry_topics(registry) > KEYS;
	}
}

/* Nor any twice, nor out of order: a worker's messages follow on each other
 * from the one it joined at, and are as many as it learns where it leaves. */
static void however_workers_come_and_go_they_miss_no_message(void **state)
{
	static struct worker workers[WORKERS];
	static char seeds[2];
	uv_thread_t publishers[2];

	(void)state;
	wrong = 0;
	running = WORKERS;
	memset(workers, 0, sizeof workers);
	for (unsigned w = 0; w < WORKERS; w++) {
		workers[w].index = w;
		workers[w].random = 0x9e3779b97f4a7c15 + w;
		assert_int_equal(uv_thread_create(&workers[w].thread,
						  come_and_go, &workers[w]),
				 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(uv_thread_create(&publishers[i],
						  publish_to_few, &seeds[i]),
				 0);
	for (unsigned w = 0; w < WORKERS; w++)
		uv_thread_join(&workers[w].thread);
	for (int i = 0; i < 2; i++)
		uv_thread_join(&publishers[i]);
	assert_int_equal(wrong, 0);
	assert_int_equal(registry_topics(registry), 0);
}

/* --- names that are made to collide (T15) --------------------------------- */

#define NAME_LEN (2 * COLLIDING_BITS)

/* Times as long; a chain of all of them would take thousands. */
#define SLOWER_MAX 8

/* The `i`th name. "Aa" and "BB" have the same h * 31 + c, so all names of these
 * pairs have, in any order; the others differ from each other by that. */
static void make_name(char name[static NAME_LEN], unsigned i, bool collides)
{
	for (unsigned bit = 0; bit < COLLIDING_BITS; bit++)
		memcpy(name + 2 * (size_t)bit,
		       (i >> bit & 1) == 0 ? "Aa"
		       : collides          ? "BB"
					   : "Bc",
		       2);
}

static uint32_t unkeyed_hash(const char *name)
{
	uint32_t h = 0;

	for (size_t i = 0; i < NAME_LEN; i++)
		h = h * 31 + (unsigned char)name[i];
	return h;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Joins and leaves all; the CPU time that it took. */
static uint64_t time_names(bool collides)
{
	const unsigned count = 1u << COLLIDING_BITS;
	struct topic **topics = calloc(count, sizeof(struct topic *));
	char name[NAME_LEN];

	assert_non_null(topics);
	uint64_t from = now_ns();
	for (unsigned i = 0; i < count; i++) {
		make_name(name, i, collides);
		struct topic_key key = {{"alice", 5}, {name, NAME_LEN}};
		topics[i] = bare_join(&key, 0);
	}
	for (unsigned i = 0; i < count; i++)
		bare_leave(topics[i], 0);
	uint64_t took = now_ns() - from;
	free(topics);
	return took;
}

static void names_that_collide_without_a_key_cost_no_more(void **state)
{
	char name[NAME_LEN];
	uint64_t best[2] = {UINT64_MAX, UINT64_MAX};

	(void)state;
	make_name(name, 0, true);
	uint32_t hash = unkeyed_hash(name);
	for (unsigned i = 1; i < 1u << COLLIDING_BITS; i++) {
		make_name(name, i, true);
		assert_int_equal(unkeyed_hash(name), hash);
	}
	/* By turns, and the best of each: others use the machine. */
	for (int turn = 0; turn < 3; turn++)
		for (int collides = 0; collides < 2; collides++) {
			uint64_t took = time_names(collides);
			if (took < best[collides])
				best[collides] = took;
		}
	if (best[true] > SLOWER_MAX * best[false])
		fail_msg("%" PRIu64 " ns against %" PRIu64, best[true],
			 best[false]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(topics_are_charged_with_their_names_as_long_as_they_exist),
		TEST(a_million_topics_that_came_and_went_leave_nothing),
		TEST(a_million_publications_to_as_many_topics_leave_nothing),
		TEST(freeing_while_a_subscriber_is_left_aborts),
		cmocka_unit_test(freeing_none_is_fine),
		TEST(without_memory_there_is_no_registry),
		TEST(without_memory_joining_changes_nothing),
		TEST(joining_a_topic_there_is_needs_no_memory),
		TEST(without_memory_for_tables_topics_come_and_go_all_the_same),
		TEST(publishing_and_leaving_need_no_memory),
		TEST(all_workers_get_a_topics_messages_in_one_order),
		TEST(however_workers_come_and_go_they_miss_no_message),
		TEST(names_that_collide_without_a_key_cost_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
