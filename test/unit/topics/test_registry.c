/* test_registry.c - what src/topics/registry.c, join.c and publish.c promise
 * where no history is kept. */
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

#define SMALL_BYTES 300 /* of a small mailbox: one message, but not two */

#ifdef OOM_SANITIZED
#define MANY_TOPICS 100000
#define TURNS       3000
#else
#define MANY_TOPICS 1000000
#define TURNS       20000
#endif

/* --- help ------------------------------------------------------------------*/

static int open_with(size_t mailbox_max_bytes)
{
	int rv = open_boxes(mailbox_max_bytes);
	return rv != 0 ? rv : new_registry(0, 0, 0);
}

static int open_registry(void **state)
{
	(void)state;
	return open_with(SIZE_MAX);
}

static int open_registry_with_small_mailboxes(void **state)
{
	(void)state;
	return open_with(SMALL_BYTES);
}

static const struct topic_key news = {{"alice", 5}, {"news", 4}};

/* Joins with a member that is new to the topic, or one in force. */
static struct topic *join(const struct topic_key *key, unsigned worker)
{
	struct registry_join j = {.member = members[worker]};

	assert_int_equal(registry_join(registry, key, worker, &j), 0);
	assert_non_null(j.topic);
	return j.topic;
}

/* The number of the last message, as a subscriber of `worker` learns it. */
static uint64_t since_of(const struct topic_key *key, unsigned worker)
{
	struct registry_join j = {.member = members[worker]};
	uint64_t posted;

	assert_int_equal(registry_join(registry, key, worker, &j), 0);
	registry_leave(registry, j.topic, worker, &posted);
	return j.since;
}

static bool leave(struct topic *t, unsigned worker)
{
	uint64_t posted;

	return registry_leave(registry, t, worker, &posted);
}

static struct registry_receipt publish(const struct topic_key *key)
{
	struct registry_receipt receipt;
	struct message *m = message_new(SPAN("x"), false, WORKERS);

	assert_non_null(m);
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
	return receipt;
}

/* Takes the mail of `worker`, which must be one message, and drops it. Returns
 * the member that it is for. */
static void *take_one(unsigned worker)
{
	struct mail mail;

	assert_true(mailbox_take(&boxes[worker], &mail));
	assert_int_equal(mail.messages_count, 1);
	void *member = mail.messages->links[worker].member;
	message_unref(mail.messages, 1);
	return member;
}

/* A message whose frame has `len` bytes, from 2 to 127. */
static struct message *message_of(size_t len)
{
	static const char data[128];
	struct message *m =
		message_new((struct span){data, len - 2}, false, WORKERS);

	assert_non_null(m);
	return m;
}

static bool has_mail(unsigned worker)
{
	return mailbox_is_waiting(&boxes[worker]);
}

/* --- publishing ------------------------------------------------------------*/

static void without_a_subscriber_it_gets_a_number_and_there_is_no_topic(
	void **state)
{
	struct message *m = message_new(SPAN("x"), false, WORKERS);
	struct registry_receipt receipt = {7, 7};

	(void)state;
	assert_non_null(m);
	message_ref(m, 1);
	assert_int_equal(registry_publish(registry, &news, m, &receipt), 0);
	assert_int_equal(receipt.sequence, 1);
	assert_int_equal(receipt.subscribers, 0);
	assert_int_equal(atomic_load(&m->refs), 1);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	for (unsigned w = 0; w < WORKERS; w++)
		assert_false(has_mail(w));
	message_unref(m, 1);
}

static void each_worker_with_subscribers_gets_it_once_for_its_member(
	void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 2);
	join(&news, 2);
	publish(&news);
	assert_ptr_equal(take_one(0), members[0]);
	assert_ptr_equal(take_one(2), members[2]);
	assert_false(has_mail(1));
	assert_false(has_mail(3));
	leave(t, 0);
	leave(t, 2);
	leave(t, 2);
}

static void all_subscribers_are_counted_on_all_workers(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 2);
	join(&news, 2);
	assert_int_equal(publish(&news).subscribers, 3);
	leave(t, 2);
	assert_int_equal(publish(&news).subscribers, 2);
	leave(t, 0);
	assert_int_equal(publish(&news).subscribers, 1);
	leave(t, 2);
	assert_int_equal(publish(&news).subscribers, 0);
}

static void each_mailbox_has_a_reference_and_the_publisher_none(void **state)
{
	struct message *m = message_new(SPAN("x"), false, WORKERS);
	struct topic *t = join(&news, 0);
	struct registry_receipt receipt;

	(void)state;
	assert_non_null(m);
	join(&news, 1);
	join(&news, 3);
	message_ref(m, 1);
	assert_int_equal(registry_publish(registry, &news, m, &receipt), 0);
	assert_int_equal(atomic_load(&m->refs), 4);
	take_one(0);
	take_one(1);
	take_one(3);
	assert_int_equal(atomic_load(&m->refs), 1);
	message_unref(m, 1);
	leave(t, 0);
	leave(t, 1);
	leave(t, 3);
}

static void messages_are_numbered_from_one_in_each_topic(void **state)
{
	struct topic_key weather = {{"alice", 5}, {"weather", 7}};
	struct topic *t = join(&news, 0);
	struct topic *u = join(&weather, 0);
	struct mail mail;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(publish(&news).sequence, i);
	assert_int_equal(publish(&weather).sequence, 1);
	assert_true(mailbox_take(&boxes[0], &mail));
	for (uint64_t i = 1; i <= 3; i++) {
		struct message *m = mail.messages;
		assert_int_equal(m->sequence, i);
		mail.messages = m->links[0].next;
		message_unref(m, 1);
	}
	message_unref(mail.messages, 1);
	leave(t, 0);
	leave(u, 0);
}

static void a_message_nobody_gets_takes_a_number_all_the_same(void **state)
{
	(void)state;
	assert_int_equal(publish(&news).sequence, 1);
	assert_int_equal(publish(&news).sequence, 2);
	struct topic *t = join(&news, 0);
	assert_int_equal(publish(&news).sequence, 3);
	leave(t, 0);
	assert_int_equal(publish(&news).sequence, 4);
}

/* --- a mailbox that is full ------------------------------------------------*/

static void if_one_mailbox_is_full_nobody_gets_it(void **state)
{
	struct registry_receipt receipt = {7, 7};
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 3);
	mailbox_post_message(&boxes[3], NULL, message_of(92));
	struct message *m = message_of(92);
	assert_non_null(m);
	message_ref(m, 1);
	assert_int_equal(registry_publish(registry, &news, m, &receipt),
			 UV_ENOBUFS);
	assert_int_equal(receipt.sequence, 0);
	assert_int_equal(receipt.subscribers, 0);
	assert_int_equal(atomic_load(&m->refs), 1);
	assert_false(has_mail(0));
	assert_null(take_one(3));
	assert_int_equal(registry_publish(registry, &news, m, &receipt), 0);
	assert_int_equal(receipt.sequence, 1);
	assert_ptr_equal(take_one(0), members[0]);
	assert_ptr_equal(take_one(3), members[3]);
	leave(t, 0);
	leave(t, 3);
}

static void a_full_mailbox_of_another_worker_is_no_hindrance(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	mailbox_post_message(&boxes[1], NULL, message_of(92));
	assert_false(mailbox_has_room(&boxes[1], SMALL_BYTES / 2));
	assert_int_equal(publish(&news).sequence, 1);
	leave(t, 0);
}

static void what_was_refused_does_not_count_as_posted(void **state)
{
	struct registry_receipt receipt;
	struct topic *t = join(&news, 0);
	uint64_t posted = 7;

	(void)state;
	publish(&news);
	assert_int_equal(
		registry_publish(registry, &news, message_of(98), &receipt),
		UV_ENOBUFS);
	registry_leave(registry, t, 0, &posted);
	assert_int_equal(posted, 1);
}

/* --- joining and leaving ---------------------------------------------------*/

static void without_a_member_a_worker_that_is_new_to_a_topic_is_enoent(
	void **state)
{
	struct registry_join j = {0};

	(void)state;
	assert_int_equal(registry_join(registry, &news, 0, &j), UV_ENOENT);
	assert_int_equal(registry_topics(registry), 0);
	struct topic *of_another = join(&news, 1);
	assert_int_equal(registry_join(registry, &news, 0, &j), UV_ENOENT);
	assert_null(j.member);
	assert_int_equal(publish(&news).subscribers, 1);
	assert_false(has_mail(0));
	leave(of_another, 1);
}

static void the_first_member_of_a_worker_stays_in_force(void **state)
{
	struct registry_join first = {.member = &members[0][0]};
	struct registry_join second = {.member = &members[0][1]};
	struct registry_join none = {0};

	(void)state;
	assert_int_equal(registry_join(registry, &news, 0, &first), 0);
	assert_ptr_equal(first.member, &members[0][0]);
	assert_int_equal(registry_join(registry, &news, 0, &second), 0);
	assert_ptr_equal(second.member, &members[0][0]);
	assert_int_equal(registry_join(registry, &news, 0, &none), 0);
	assert_ptr_equal(none.member, &members[0][0]);
	assert_ptr_equal(second.topic, first.topic);
	assert_ptr_equal(none.topic, first.topic);
	publish(&news);
	assert_ptr_equal(take_one(0), &members[0][0]);
	for (int i = 0; i < 3; i++)
		leave(first.topic, 0);
}

static void after_its_last_left_a_worker_needs_a_member_again(void **state)
{
	struct topic *t = join(&news, 1);
	struct registry_join j = {.member = &members[0][1]};

	(void)state;
	join(&news, 0);
	assert_true(leave(t, 0));
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_ptr_equal(j.member, &members[0][1]);
	leave(j.topic, 0);
	leave(t, 1);
}

static void only_the_workers_last_subscriber_leaves_as_the_last(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 0);
	join(&news, 1);
	assert_false(leave(t, 0));
	assert_true(leave(t, 0));
	assert_true(leave(t, 1));
}

static void after_its_last_left_nothing_more_is_posted_to_a_worker(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 1);
	leave(t, 0);
	publish(&news);
	assert_false(has_mail(0));
	assert_true(has_mail(1));
	leave(t, 1);
}

static void the_last_to_leave_learns_how_many_were_posted_for_its_member(
	void **state)
{
	struct topic *t = join(&news, 1);
	uint64_t posted;

	(void)state;
	publish(&news);
	for (unsigned times = 0; times < 3; times++) {
		join(&news, 0);
		join(&news, 0);
		for (unsigned i = 0; i < times; i++)
			publish(&news);
		posted = 99;
		assert_false(registry_leave(registry, t, 0, &posted));
		publish(&news);
		assert_true(registry_leave(registry, t, 0, &posted));
		assert_int_equal(posted, times + 1);
	}
	assert_true(registry_leave(registry, t, 1, &posted));
	assert_int_equal(posted, 1 + 0 + 1 + 2 + 3);
}

static void whoever_joins_learns_the_number_of_the_last_message(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	assert_int_equal(since_of(&news, 0), 0);
	publish(&news);
	assert_int_equal(since_of(&news, 0), 1);
	publish(&news);
	assert_int_equal(since_of(&news, 1), 2);
	assert_int_equal(publish(&news).sequence, 3);
	leave(t, 0);
}

static void a_topic_is_there_as_long_as_it_has_a_subscriber(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	assert_int_equal(registry_topics(registry), 1);
	assert_ptr_equal(join(&news, 1), t);
	assert_int_equal(registry_topics(registry), 1);
	leave(t, 0);
	assert_int_equal(registry_topics(registry), 1);
	leave(t, 1);
	assert_int_equal(registry_topics(registry), 0);
}

static void the_numbers_of_a_topic_that_was_gone_never_come_back(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_true(since_of(&news, 0) >= last);
		struct topic *t = join(&news, 0);
		for (int j = 0; j < i % 3; j++) {
			uint64_t sequence = publish(&news).sequence;
			assert_true(sequence > last);
			last = sequence;
		}
		leave(t, 0);
		assert_int_equal(registry_topics(registry), 0);
	}
	assert_true(last >= 99);
}

/* Of a shard's topics that were gone, the last to go may have had the lowest
 * numbers: 1,000 topics share the shards. */
static void nor_do_they_if_another_topic_went_after(void **state)
{
	char names[1000][8];
	struct topic_key keys[1000];
	struct topic *topics[1000];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(names[i], sizeof names[i], "%u", i);
		keys[i] = (struct topic_key){{"a", 1}, span_of(names[i])};
		topics[i] = join(&keys[i], 0);
		for (unsigned j = i; j < 1000; j += 100)
			publish(&keys[i]);
	}
	for (unsigned i = 0; i < 1000; i++)
		leave(topics[i], 0);
	assert_int_equal(registry_topics(registry), 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(since_of(&keys[i], 0) >= (1000 - i + 99) / 100);
}

/* --- keys ------------------------------------------------------------------*/

/* Each of these is a topic of its own. */
static const struct topic_key different[] = {
	{{"a", 1}, {"bc", 2}},        {{"ab", 2}, {"c", 1}},
	{{"abc", 3}, {"", 0}},        {{"", 0}, {"abc", 3}},
	{{"", 0}, {"", 0}},           {{"bc", 2}, {"a", 1}},
	{{"a", 1}, {"BC", 2}},        {{"a", 1}, {"b", 1}},
	{{"a", 1}, {"b\0", 2}},       {{"a", 1}, {"b\0c", 3}},
	{{"a", 1}, {"b\0d", 3}},      {{"a", 1}, {"\0b", 2}},
	{{"a\0", 2}, {"b", 1}},       {{"a\0b", 3}, {"c", 1}},
	{{"a\0b", 3}, {"d", 1}},      {{"a", 1}, {"\xc3\xa4", 2}},
	{{"a", 1}, {"a\xcc\x88", 3}}, {{"\0", 1}, {"\0\0", 2}},
	{{"\0\0", 2}, {"\0", 1}},
};

#define DIFFERENT (sizeof different / sizeof different[0])

static void topics_are_told_apart_by_each_byte_of_both_parts(void **state)
{
	struct topic *topics[DIFFERENT];

	(void)state;
	for (size_t i = 0; i < DIFFERENT; i++)
		topics[i] = join(&different[i], 0);
	assert_int_equal(registry_topics(registry), DIFFERENT);
	for (size_t i = 0; i < DIFFERENT; i++) {
		assert_ptr_equal(join(&different[i], 1), topics[i]);
		assert_int_equal(publish(&different[i]).sequence, 1);
	}
	for (size_t i = 0; i < DIFFERENT; i++) {
		leave(topics[i], 0);
		leave(topics[i], 1);
	}
}

static void a_message_goes_to_its_own_topic_alone(void **state)
{
	struct topic *t = join(&different[0], 0);

	(void)state;
	for (size_t i = 1; i < DIFFERENT; i++)
		assert_int_equal(publish(&different[i]).subscribers, 0);
	assert_false(has_mail(0));
	leave(t, 0);
}

static void an_absent_part_is_an_empty_one(void **state)
{
	struct topic_key absent = {{NULL, 0}, {NULL, 0}};
	struct topic_key empty = {{"", 0}, {"", 0}};
	struct topic *t = join(&absent, 0);

	(void)state;
	assert_int_equal(publish(&empty).subscribers, 1);
	leave(t, 0);
}

static void the_key_is_copied(void **state)
{
	char publisher[] = "alice";
	char name[] = "news";
	struct topic_key borrowed = {{publisher, 5}, {name, 4}};
	struct topic *t = join(&borrowed, 0);

	(void)state;
	memset(publisher, 'x', 5);
	memset(name, 'x', 4);
	assert_int_equal(publish(&borrowed).subscribers, 0);
	assert_int_equal(publish(&news).subscribers, 1);
	leave(t, 0);
}

static void a_long_key_is_a_key(void **state)
{
	static char name[1 << 20];
	struct topic_key key = {{"a", 1}, {name, sizeof name}};
	struct topic *t = join(&key, 0);

	(void)state;
	assert_int_equal(publish(&key).subscribers, 1);
	name[sizeof name - 1] = 1;
	assert_int_equal(publish(&key).subscribers, 0);
	leave(t, 0);
}

/* --- many topics -----------------------------------------------------------*/

static void topics_are_charged_with_their_names_as_long_as_they_exist(
	void **state)
{
	static char name[30000];
	const struct topic_key longest = {{"alice", 5}, {name, sizeof name}};
	(void)state;
	memory_settle();
	memory_set_limit(0, 1 << 20);
	struct topic *t = join(&longest, 0);
	join(&longest, 1);
	memory_settle();
	assert_in_range(memory_used(), (1 << 20) + sizeof name,
			(1 << 20) + sizeof name + 1000);
	leave(t, 0);
	leave(t, 1);
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
		topics[i] = join(&key, i % WORKERS);
	}
	assert_int_equal(registry_topics(registry), MANY_TOPICS);
	assert_int_equal(publish(&key).subscribers, 1);
	/* Not in the order in which they came. */
	for (unsigned i = 0; i < MANY_TOPICS; i++) {
		unsigned it = (unsigned)(i * UINT64_C(7919) % MANY_TOPICS);
		leave(topics[it], it % WORKERS);
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
		publish(&key);
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
	struct topic *t = join(&news, 0);

	(void)state;
	assert_true(aborts(free_registry, NULL));
	leave(t, 0);
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
		assert_int_equal(publish(&news).subscribers, 0);
	}
	assert_int_equal(rv, 0);
	assert_true(nth > 1);
	assert_int_equal(publish(&news).subscribers, 1);
	leave(j.topic, 0);
}

static void joining_a_topic_there_is_needs_no_memory(void **state)
{
	struct registry_join j = {.member = members[1]};

	(void)state;
	OOM_OR_SKIP();
	join(&news, 0);
	oom_fail_at(1);
	int rv = registry_join(registry, &news, 1, &j);
	assert_false(oom_end());
	assert_int_equal(rv, 0);
	leave(j.topic, 0);
	leave(j.topic, 1);
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
		topics[i] = rv == 0 ? j.topic : join(&key, 0);
	}
	assert_int_equal(registry_topics(registry), 5000);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		assert_int_equal(publish(&key).subscribers, 1);
		oom_fail_at(1);
		leave(topics[i], 0);
		failures += oom_end();
		assert_int_equal(publish(&key).subscribers, 0);
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
	struct topic *t = join(&news, 0);
	join(&news, 1);
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
		t = join(&news, w);
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
		leave(t, w);
}

#define KEYS 3

static const struct topic_key few[KEYS] = {
	{{"a", 1}, {"1", 1}},
	{{"a", 1}, {"2", 1}},
	{{"b", 1}, {"1", 1}},
};

/* What a worker knows of a topic: subscribers.c in small. Owner: its thread. */
struct local {
	struct topic *topic;
	unsigned subscribers;
	uint64_t last;  /* number of the last message */
	uint64_t taken; /* messages since the first subscriber joined */
};

struct worker {
	uv_thread_t thread;
	unsigned index;
	uint64_t random;
	struct local locals[KEYS];
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

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, open_registry, close_registry)
#define TEST_FULL(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_registry_with_small_mailboxes, \
					close_registry)

/* --- names that are made to collide (T15) --------------------------------- */

#ifdef OOM_SANITIZED
#define COLLIDING_BITS 13
#else
#define COLLIDING_BITS 18 /* 262,144 names */
#endif
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
		topics[i] = join(&key, 0);
	}
	for (unsigned i = 0; i < count; i++)
		leave(topics[i], 0);
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
		TEST(without_a_subscriber_it_gets_a_number_and_there_is_no_topic),
		TEST(each_worker_with_subscribers_gets_it_once_for_its_member),
		TEST(all_subscribers_are_counted_on_all_workers),
		TEST(each_mailbox_has_a_reference_and_the_publisher_none),
		TEST(messages_are_numbered_from_one_in_each_topic),
		TEST(a_message_nobody_gets_takes_a_number_all_the_same),
		TEST_FULL(if_one_mailbox_is_full_nobody_gets_it),
		TEST_FULL(a_full_mailbox_of_another_worker_is_no_hindrance),
		TEST_FULL(what_was_refused_does_not_count_as_posted),
		TEST(without_a_member_a_worker_that_is_new_to_a_topic_is_enoent),
		TEST(the_first_member_of_a_worker_stays_in_force),
		TEST(after_its_last_left_a_worker_needs_a_member_again),
		TEST(only_the_workers_last_subscriber_leaves_as_the_last),
		TEST(after_its_last_left_nothing_more_is_posted_to_a_worker),
		TEST(the_last_to_leave_learns_how_many_were_posted_for_its_member),
		TEST(whoever_joins_learns_the_number_of_the_last_message),
		TEST(a_topic_is_there_as_long_as_it_has_a_subscriber),
		TEST(the_numbers_of_a_topic_that_was_gone_never_come_back),
		TEST(nor_do_they_if_another_topic_went_after),
		TEST(topics_are_told_apart_by_each_byte_of_both_parts),
		TEST(a_message_goes_to_its_own_topic_alone),
		TEST(an_absent_part_is_an_empty_one),
		TEST(the_key_is_copied),
		TEST(a_long_key_is_a_key),
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
