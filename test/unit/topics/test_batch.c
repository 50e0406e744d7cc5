/* test_batch.c - what src/topics/batch.c promises: all of several publications,
 * or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/registry.h"

#define BOX_BYTES 2000 /* a mailbox's: some messages, but not ten */
#define THREADS   3
#define ROUNDS    2000

static int open_with_history(void **state)
{
	int rv = open_boxes(BOX_BYTES);

	(void)state;
	return rv != 0 ? rv : new_registry(100, 60000, 1 << 20);
}

static int open_without_history(void **state)
{
	int rv = open_boxes(BOX_BYTES);

	(void)state;
	return rv != 0 ? rv : new_registry(0, 0, 0);
}

static const struct topic_key keys[] = {{{"alice", 5}, {"a", 1}},
					{{"alice", 5}, {"b", 1}},
					{{"alice", 5}, {"c", 1}}};

static struct message *message(size_t len)
{
	static const char data[1024];
	struct message *m =
		message_new((struct span){data, len}, false, WORKERS);

	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	return m;
}

/* `count` messages of `len` bytes, for one topic after the other. */
static void fill(struct registry_item *items, size_t count, size_t len)
{
	for (size_t i = 0; i < count; i++)
		items[i] = (struct registry_item){.key = keys[i % 3],
						  .message = message(len)};
}

static struct topic *join(const struct topic_key *key, unsigned worker)
{
	struct registry_join j = {.member = members[worker]};

	assert_int_equal(registry_join(registry, key, worker, &j), 0);
	return j.topic;
}

static void leave(struct topic *t, unsigned worker)
{
	uint64_t posted;

	registry_leave(registry, t, worker, &posted);
}

/* Takes all mail of a worker; returns how many messages it had. */
static size_t take_all(unsigned worker)
{
	struct mail mail;

	if (!mailbox_take(&boxes[worker], &mail))
		return 0;
	while (mail.messages != NULL) {
		struct message *m = mail.messages;
		mail.messages = m->links[worker].next;
		message_unref(m, 1);
	}
	return mail.messages_count;
}

static uint64_t number_of(const struct topic_key *key)
{
	struct registry_receipt receipt;

	assert_int_equal(registry_publish(registry, key, message(1), &receipt),
			 0);
	return receipt.sequence;
}

/* --------------------------------------------------------------------------*/

static void all_are_published_in_order(void **state)
{
	struct registry_item items[7];
	struct topic *t = join(&keys[0], 0);
	struct topic *u = join(&keys[1], 2);
	struct mail mail;

	(void)state;
	fill(items, 7, 3);
	assert_int_equal(registry_publish_all(registry, items, 7), 0);
	for (size_t i = 0; i < 7; i++) {
		assert_int_equal(items[i].receipt.sequence, 1 + i / 3);
		assert_int_equal(items[i].receipt.subscribers, i % 3 != 2);
	}
	assert_true(mailbox_take(&boxes[0], &mail));
	assert_int_equal(mail.messages_count, 3);
	for (uint64_t i = 1; i <= 3; i++) {
		struct message *m = mail.messages;
		assert_int_equal(m->sequence, i);
		assert_ptr_equal(m->links[0].member, members[0]);
		mail.messages = m->links[0].next;
		message_unref(m, 1);
	}
	assert_int_equal(take_all(2), 2);
	leave(t, 0);
	leave(u, 2);
}

static void none_is_published_if_one_finds_no_room(void **state)
{
	struct registry_item items[6];
	struct topic *t = join(&keys[0], 0);
	struct topic *u = join(&keys[2], 3);
	size_t before;

	(void)state;
	mailbox_post_message(&boxes[3], NULL, message(1000));
	assert_int_equal(number_of(&keys[0]), 1);
	assert_int_equal(take_all(0), 1);
	before = memory_used();
	fill(items, 6, 700);
	assert_int_equal(registry_publish_all(registry, items, 6), UV_ENOBUFS);
	assert_int_equal(take_all(0), 0);
	assert_int_equal(take_all(3), 1);
	assert_int_equal(number_of(&keys[0]), 2);
	assert_int_equal(take_all(0), 1);
	for (size_t i = 0; i < 6; i++)
		assert_null(items[i].message);
	assert_true(memory_used() <= before + 1000);
	/* Nothing stays reserved. */
	fill(items, 6, 700);
	assert_int_equal(registry_publish_all(registry, items, 6), 0);
	assert_int_equal(take_all(0), 2);
	assert_int_equal(take_all(3), 2);
	leave(t, 0);
	leave(u, 3);
}

static void an_empty_mailbox_takes_any_batch(void **state)
{
	struct registry_item items[9];
	struct topic *t = join(&keys[0], 1);

	(void)state;
	fill(items, 9, 1000);
	assert_int_equal(registry_publish_all(registry, items, 9), 0);
	assert_int_equal(take_all(1), 3);
	leave(t, 1);
}

static void what_is_reserved_nobody_else_has(void **state)
{
	(void)state;
	assert_true(mailbox_reserve(&boxes[0], BOX_BYTES));
	assert_false(mailbox_has_room(&boxes[0], 1));
	assert_false(mailbox_reserve(&boxes[0], 1));
	mailbox_unreserve(&boxes[0], BOX_BYTES);
	assert_true(mailbox_has_room(&boxes[0], 1));
}

/* Taking the mail leaves it reserved. */
static void a_reservation_outlives_the_mail(void **state)
{
	(void)state;
	mailbox_post_message(&boxes[0], NULL, message(100));
	assert_true(mailbox_reserve(&boxes[0], 1000));
	assert_int_equal(take_all(0), 1);
	assert_false(mailbox_has_room(&boxes[0], BOX_BYTES - 500));
	mailbox_unreserve(&boxes[0], 1000);
	assert_true(mailbox_has_room(&boxes[0], BOX_BYTES - 500));
}

/* So many that they are in all shards. */
static void a_batch_may_be_of_very_many_topics(void **state)
{
	enum {
		TOPICS = 600
	};
	static char names[TOPICS][8];
	static struct registry_item items[TOPICS];

	(void)state;
	for (size_t i = 0; i < TOPICS; i++) {
		int len = snprintf(names[i], sizeof names[i], "%zu", i);
		items[i] = (struct registry_item){
			.key = {SPAN("alice"), {names[i], (size_t)len}},
			.message = message(1)};
	}
	for (unsigned round = 1; round <= 2; round++) {
		assert_int_equal(registry_publish_all(registry, items, TOPICS),
				 0);
		for (size_t i = 0; i < TOPICS; i++) {
			assert_int_equal(items[i].receipt.sequence, round);
			items[i].message = message(1);
		}
	}
	for (size_t i = 0; i < TOPICS; i++)
		message_unref(items[i].message, 1);
	assert_int_equal(registry_topics(registry), TOPICS);
}

#define SMALL_HISTORY 40000

static int open_with_small_history(void **state)
{
	int rv = open_boxes(BOX_BYTES);

	(void)state;
	return rv != 0 ? rv : new_registry(1000, 60000, SMALL_HISTORY);
}

static atomic_bool is_watching;
static atomic_size_t most; /* that was seen in the history */

static void watch(void *unused)
{
	(void)unused;
	while (atomic_load(&is_watching)) {
		size_t now = registry_history_bytes(registry);
		if (now > atomic_load(&most))
			atomic_store(&most, now);
	}
}

/* Not even while it is posted. */
static void no_batch_takes_the_history_beyond_its_bytes(void **state)
{
	static struct registry_item items[100];
	uv_thread_t thread;

	(void)state;
	atomic_store(&most, 0);
	atomic_store(&is_watching, true);
	assert_int_equal(uv_thread_create(&thread, watch, NULL), 0);
	/* Until the other thread had a look at the right time. */
	for (int i = 0; i < 300 || atomic_load(&most) < SMALL_HISTORY / 2;
	     i++) {
		/* One of what there may be, then one of three times as much. */
		size_t count = i % 2 == 0 ? 20 : 100;
		fill(items, count, 1000);
		assert_int_equal(registry_publish_all(registry, items, count),
				 0);
	}
	atomic_store(&is_watching, false);
	uv_thread_join(&thread);
	assert_true(atomic_load(&most) <= SMALL_HISTORY);
	assert_true(registry_history_bytes(registry) > SMALL_HISTORY / 4);
}

static size_t kept; /* messages of a topic */

static int count_kept(void *user, const struct registry_topic *t)
{
	(void)user;
	kept += t->messages_count;
	assert_int_equal(t->messages[t->messages_count - 1]->sequence,
			 t->sequence);
	return 0;
}

static void of_a_batch_too_large_for_the_history_the_last_ones_stay(
	void **state)
{
	static struct registry_item items[102];

	(void)state;
	kept = 0;
	fill(items, 102, 1000);
	assert_int_equal(registry_publish_all(registry, items, 102), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(items[99 + i].receipt.sequence % 34, 0);
		registry_find(registry, &keys[i], count_kept, NULL);
	}
	assert_true(kept > 10 && kept < 40);
	/* And nothing stays reserved. */
	assert_true(registry_history_bytes(registry) >= kept * 1000);
	assert_true(registry_history_bytes(registry) < kept * 1300 + 2000);
}

static void without_history_all_get_numbers(void **state)
{
	struct registry_item items[3];
	struct topic *t = join(&keys[1], 0);

	(void)state;
	fill(items, 3, 3);
	assert_int_equal(registry_publish_all(registry, items, 3), 0);
	for (size_t i = 0; i < 3; i++)
		assert_in_range(items[i].receipt.sequence, 1,
				3); /* those of a shard count together */
	assert_int_equal(take_all(0), 1);
	leave(t, 0);
	assert_int_equal(registry_topics(registry), 0);
}

static void without_memory_for_a_topic_none_is_published(void **state)
{
	uint64_t before = 0;
	unsigned nth = 0;
	struct topic *t;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	t = join(&keys[0], 0);
	do {
		struct registry_item items[3];
		fill(items, 3, 3);
		oom_fail_at(++nth);
		rv = registry_publish_all(registry, items, 3);
		oom_end();
		if (rv == 0)
			break;
		assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(take_all(0), 0);
		before = number_of(&keys[0]);
		assert_int_equal(before, nth);
		assert_int_equal(take_all(0), 1);
	} while (nth < 100);
	assert_true(nth > 1);
	assert_int_equal(take_all(0), 1);
	leave(t, 0);
}

/* --- threads: batches over the same topics, in different orders ------------*/

static _Atomic uint64_t published;

static void publish_many(void *arg)
{
	unsigned first = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct registry_item items[6];
		for (unsigned k = 0; k < 6; k++)
			items[k] = (struct registry_item){
				.key = keys[(first + k * (1 + first % 2)) % 3],
				.message = message(20)};
		if (registry_publish_all(registry, items, 6) == 0)
			published++;
	}
}

static void batches_do_not_block_each_other(void **state)
{
	uv_thread_t threads[THREADS];
	struct topic *t[3];
	uint64_t sum = 0;

	(void)state;
	published = 0;
	for (unsigned i = 0; i < 3; i++)
		t[i] = join(&keys[i], i);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(uv_thread_create(&threads[i], publish_many,
						  (void *)(uintptr_t)i),
				 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned w = 0; w < 3; w++)
			sum += take_all(w);
		leave(t[i % 3], i % 3); /* a writer among the readers */
		sum += take_all(i % 3);
		t[i % 3] = join(&keys[i % 3], i % 3);
	}
	for (unsigned i = 0; i < THREADS; i++)
		uv_thread_join(&threads[i]);
	for (unsigned w = 0; w < 3; w++)
		sum += take_all(w);
	assert_true(sum <= 6 * published);
	assert_int_equal(number_of(&keys[0]) + number_of(&keys[1]) +
				 number_of(&keys[2]),
			 6 * published + 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(mailbox_has_room(&boxes[i], BOX_BYTES - 500));
		take_all(i);
		leave(t[i], i);
	}
}

#define WITH(test)                                                             \
	cmocka_unit_test_setup_teardown(test, open_with_history, close_registry)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH(all_are_published_in_order),
		WITH(none_is_published_if_one_finds_no_room),
		WITH(an_empty_mailbox_takes_any_batch),
		WITH(a_batch_may_be_of_very_many_topics),
		cmocka_unit_test_setup_teardown(
			no_batch_takes_the_history_beyond_its_bytes,
			open_with_small_history, close_registry),
		cmocka_unit_test_setup_teardown(
			of_a_batch_too_large_for_the_history_the_last_ones_stay,
			open_with_small_history, close_registry),
		WITH(what_is_reserved_nobody_else_has),
		WITH(a_reservation_outlives_the_mail),
		cmocka_unit_test_setup_teardown(without_history_all_get_numbers,
						open_without_history,
						close_registry),
		WITH(without_memory_for_a_topic_none_is_published),
		WITH(batches_do_not_block_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
