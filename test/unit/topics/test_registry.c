/* test_registry.c - publishing, joining, keys (registry.h) */
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

#define SMALL_BYTES 300 /* of a small mailbox: one message, but not two */

/* --- help ------------------------------------------------------------------*/

static int open_registry_with_small_mailboxes(void **state)
{
	(void)state;
	return bare_open_with(SMALL_BYTES);
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
	struct topic *t = bare_join(&news, 0);

	(void)state;
	bare_join(&news, 2);
	bare_join(&news, 2);
	bare_publish(&news);
	assert_ptr_equal(take_one(0), members[0]);
	assert_ptr_equal(take_one(2), members[2]);
	assert_false(has_mail(1));
	assert_false(has_mail(3));
	bare_leave(t, 0);
	bare_leave(t, 2);
	bare_leave(t, 2);
}

static void all_subscribers_are_counted_on_all_workers(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	bare_join(&news, 2);
	bare_join(&news, 2);
	assert_int_equal(bare_publish(&news).subscribers, 3);
	bare_leave(t, 2);
	assert_int_equal(bare_publish(&news).subscribers, 2);
	bare_leave(t, 0);
	assert_int_equal(bare_publish(&news).subscribers, 1);
	bare_leave(t, 2);
	assert_int_equal(bare_publish(&news).subscribers, 0);
}

static void each_mailbox_has_a_reference_and_the_publisher_none(void **state)
{
	struct message *m = message_new(SPAN("x"), false, WORKERS);
	struct topic *t = bare_join(&news, 0);
	struct registry_receipt receipt;

	(void)state;
	assert_non_null(m);
	bare_join(&news, 1);
	bare_join(&news, 3);
	message_ref(m, 1);
	assert_int_equal(registry_publish(registry, &news, m, &receipt), 0);
	assert_int_equal(atomic_load(&m->refs), 4);
	take_one(0);
	take_one(1);
	take_one(3);
	assert_int_equal(atomic_load(&m->refs), 1);
	message_unref(m, 1);
	bare_leave(t, 0);
	bare_leave(t, 1);
	bare_leave(t, 3);
}

static void messages_are_numbered_from_one_in_each_topic(void **state)
{
	struct topic_key weather = {{"alice", 5}, {"weather", 7}};
	struct topic *t = bare_join(&news, 0);
	struct topic *u = bare_join(&weather, 0);
	struct mail mail;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(bare_publish(&news).sequence, i);
	assert_int_equal(bare_publish(&weather).sequence, 1);
	assert_true(mailbox_take(&boxes[0], &mail));
	for (uint64_t i = 1; i <= 3; i++) {
		struct message *m = mail.messages;
		assert_int_equal(m->sequence, i);
		mail.messages = m->links[0].next;
		message_unref(m, 1);
	}
	message_unref(mail.messages, 1);
	bare_leave(t, 0);
	bare_leave(u, 0);
}

static void a_message_nobody_gets_takes_a_number_all_the_same(void **state)
{
	(void)state;
	assert_int_equal(bare_publish(&news).sequence, 1);
	assert_int_equal(bare_publish(&news).sequence, 2);
	struct topic *t = bare_join(&news, 0);
	assert_int_equal(bare_publish(&news).sequence, 3);
	bare_leave(t, 0);
	assert_int_equal(bare_publish(&news).sequence, 4);
}

/* --- a mailbox that is full ------------------------------------------------*/

static void if_one_mailbox_is_full_nobody_gets_it(void **state)
{
	struct registry_receipt receipt = {7, 7};
	struct topic *t = bare_join(&news, 0);

	(void)state;
	bare_join(&news, 3);
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
	bare_leave(t, 0);
	bare_leave(t, 3);
}

static void a_full_mailbox_of_another_worker_is_no_hindrance(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	mailbox_post_message(&boxes[1], NULL, message_of(92));
	assert_false(mailbox_has_room(&boxes[1], SMALL_BYTES / 2));
	assert_int_equal(bare_publish(&news).sequence, 1);
	bare_leave(t, 0);
}

static void what_was_refused_does_not_count_as_posted(void **state)
{
	struct registry_receipt receipt;
	struct topic *t = bare_join(&news, 0);
	uint64_t posted = 7;

	(void)state;
	bare_publish(&news);
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
	struct topic *of_another = bare_join(&news, 1);
	assert_int_equal(registry_join(registry, &news, 0, &j), UV_ENOENT);
	assert_null(j.member);
	assert_int_equal(bare_publish(&news).subscribers, 1);
	assert_false(has_mail(0));
	bare_leave(of_another, 1);
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
	bare_publish(&news);
	assert_ptr_equal(take_one(0), &members[0][0]);
	for (int i = 0; i < 3; i++)
		bare_leave(first.topic, 0);
}

static void after_its_last_left_a_worker_needs_a_member_again(void **state)
{
	struct topic *t = bare_join(&news, 1);
	struct registry_join j = {.member = &members[0][1]};

	(void)state;
	bare_join(&news, 0);
	assert_true(bare_leave(t, 0));
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_ptr_equal(j.member, &members[0][1]);
	bare_leave(j.topic, 0);
	bare_leave(t, 1);
}

static void only_the_workers_last_subscriber_leaves_as_the_last(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	bare_join(&news, 0);
	bare_join(&news, 1);
	assert_false(bare_leave(t, 0));
	assert_true(bare_leave(t, 0));
	assert_true(bare_leave(t, 1));
}

static void after_its_last_left_nothing_more_is_posted_to_a_worker(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	bare_join(&news, 1);
	bare_leave(t, 0);
	bare_publish(&news);
	assert_false(has_mail(0));
	assert_true(has_mail(1));
	bare_leave(t, 1);
}

static void the_last_to_leave_learns_how_many_were_posted_for_its_member(
	void **state)
{
	struct topic *t = bare_join(&news, 1);
	uint64_t posted;

	(void)state;
	bare_publish(&news);
	for (unsigned times = 0; times < 3; times++) {
		bare_join(&news, 0);
		bare_join(&news, 0);
		for (unsigned i = 0; i < times; i++)
			bare_publish(&news);
		posted = 99;
		assert_false(registry_leave(registry, t, 0, &posted));
		bare_publish(&news);
		assert_true(registry_leave(registry, t, 0, &posted));
		assert_int_equal(posted, times + 1);
	}
	assert_true(registry_leave(registry, t, 1, &posted));
	assert_int_equal(posted, 1 + 0 + 1 + 2 + 3);
}

static void whoever_joins_learns_the_number_of_the_last_message(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	assert_int_equal(since_of(&news, 0), 0);
	bare_publish(&news);
	assert_int_equal(since_of(&news, 0), 1);
	bare_publish(&news);
	assert_int_equal(since_of(&news, 1), 2);
	assert_int_equal(bare_publish(&news).sequence, 3);
	bare_leave(t, 0);
}

static void a_topic_is_there_as_long_as_it_has_a_subscriber(void **state)
{
	struct topic *t = bare_join(&news, 0);

	(void)state;
	assert_int_equal(registry_topics(registry), 1);
	assert_ptr_equal(bare_join(&news, 1), t);
	assert_int_equal(registry_topics(registry), 1);
	bare_leave(t, 0);
	assert_int_equal(registry_topics(registry), 1);
	bare_leave(t, 1);
	assert_int_equal(registry_topics(registry), 0);
}

static void the_numbers_of_a_topic_that_was_gone_never_come_back(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_true(since_of(&news, 0) >= last);
		struct topic *t = bare_join(&news, 0);
		for (int j = 0; j < i % 3; j++) {
			uint64_t sequence = bare_publish(&news).sequence;
			assert_true(sequence > last);
			last = sequence;
		}
		bare_leave(t, 0);
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
		topics[i] = bare_join(&keys[i], 0);
		for (unsigned j = i; j < 1000; j += 100)
			bare_publish(&keys[i]);
	}
	for (unsigned i = 0; i < 1000; i++)
		bare_leave(topics[i], 0);
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
		topics[i] = bare_join(&different[i], 0);
	assert_int_equal(registry_topics(registry), DIFFERENT);
	for (size_t i = 0; i < DIFFERENT; i++) {
		assert_ptr_equal(bare_join(&different[i], 1), topics[i]);
		assert_int_equal(bare_publish(&different[i]).sequence, 1);
	}
	for (size_t i = 0; i < DIFFERENT; i++) {
		bare_leave(topics[i], 0);
		bare_leave(topics[i], 1);
	}
}

static void a_message_goes_to_its_own_topic_alone(void **state)
{
	struct topic *t = bare_join(&different[0], 0);

	(void)state;
	for (size_t i = 1; i < DIFFERENT; i++)
		assert_int_equal(bare_publish(&different[i]).subscribers, 0);
	assert_false(has_mail(0));
	bare_leave(t, 0);
}

static void an_absent_part_is_an_empty_one(void **state)
{
	struct topic_key absent = {{NULL, 0}, {NULL, 0}};
	struct topic_key empty = {{"", 0}, {"", 0}};
	struct topic *t = bare_join(&absent, 0);

	(void)state;
	assert_int_equal(bare_publish(&empty).subscribers, 1);
	bare_leave(t, 0);
}

static void the_key_is_copied(void **state)
{
	char publisher[] = "alice";
	char name[] = "news";
	struct topic_key borrowed = {{publisher, 5}, {name, 4}};
	struct topic *t = bare_join(&borrowed, 0);

	(void)state;
	memset(publisher, 'x', 5);
	memset(name, 'x', 4);
	assert_int_equal(bare_publish(&borrowed).subscribers, 0);
	assert_int_equal(bare_publish(&news).subscribers, 1);
	bare_leave(t, 0);
}

static void a_long_key_is_a_key(void **state)
{
	static char name[1 << 20];
	struct topic_key key = {{"a", 1}, {name, sizeof name}};
	struct topic *t = bare_join(&key, 0);

	(void)state;
	assert_int_equal(bare_publish(&key).subscribers, 1);
	name[sizeof name - 1] = 1;
	assert_int_equal(bare_publish(&key).subscribers, 0);
	bare_leave(t, 0);
}

/* --- threads ---------------------------------------------------------------*/

#define TEST_FULL(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_registry_with_small_mailboxes, \
					close_registry)

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
