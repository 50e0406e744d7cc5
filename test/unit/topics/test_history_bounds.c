/* test_history_bounds.c - time, retaining, bytes, lack of memory (registry.h)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/encode.h"
#include "topics/registry.h"

#include "history_topics.h"

/* --- help ------------------------------------------------------------------*/

static int replace_registry(const struct registry_options *options)
{
	registry_free(registry);
	return registry_new(&registry, options);
}

static int open_registry_that_retains(void **state)
{
	struct registry_options options = options_of(SIZE, TTL, BYTES);
	int rv = open_registry(state);

	options.retains = true;
	return rv != 0 ? rv : replace_registry(&options);
}

/* And whose numbers a log gives. */
static int open_log_that_retains(void **state)
{
	struct registry_options options = options_of(SIZE, TTL, BYTES);
	int rv = open_registry(state);

	options.retains = options.is_log = true;
	return rv != 0 ? rv : replace_registry(&options);
}

static const struct topic_key sports = {{"alice", 5}, {"sports", 6}};

/* --- those that are behind
 * --------------------------------------------------*/

/* The same of a log, where numbers between are of other topics. */
static void read_next_of_log(struct registry_join *j, uint64_t number)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};

	assert_true(j->is_behind);
	registry_read(registry, j->topic, &reading);
	assert_non_null(reading.message);
	assert_int_equal(reading.message->sequence, number);
	message_unref(reading.message, 1);
	j->since = reading.since;
	j->is_behind = !reading.is_live;
}

/* --- time ------------------------------------------------------------------*/

/* start is at most the time of the call that follows. */
static void what_is_too_old_is_not_told_though_it_is_there(void **state)
{
	(void)state;
	publish_later(&news, 1, -OLD);
	publish_later(&news, 1, -OLD + 30 * SECOND);
	publish_later(&news, 1, -OLD + 30 * SECOND);
	assert_true(can_resume(&news, 1));
	assert_false(can_resume(&news, 0));
}

static void a_publication_drops_what_is_too_old(void **state)
{
	(void)state;
	publish_later(&news, 10000, 0);
	publish_later(&news, 10000, 0);
	publish_later(&news, 1, OLD - 1);
	assert_true(registry_history_bytes(registry) > 20000);
	publish_later(&news, 1, OLD);
	assert_true(registry_history_bytes(registry) < 10000);
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
}

static void a_topic_that_was_silent_for_long_goes(void **state)
{
	(void)state;
	publish(&news);
	age_later(OLD);
	assert_int_equal(registry_topics(registry), 1);
	age_later(OLD + SECOND);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void one_that_was_not_stays(void **state)
{
	(void)state;
	publish(&news);
	publish(&weather);
	publish_later(&news, 1, OLD / 2);
	age_later(OLD + SECOND);
	assert_int_equal(registry_topics(registry), 1);
	assert_true(can_resume(&news, 1));
}

/* A topic is moved to the list's end once a second only. */
static void a_publication_within_the_second_counts_for_the_whole_time(
	void **state)
{
	(void)state;
	publish(&news);
	publish_later(&news, 1, SECOND - 1);
	age_later(OLD + SECOND - 1);
	assert_int_equal(registry_topics(registry), 1);
	assert_true(can_resume(&news, 1));
}

static void a_topic_with_subscribers_loses_what_is_too_old_and_stays(
	void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);

	(void)state;
	publish(&news);
	age_later(OLD + SECOND);
	assert_int_equal(registry_topics(registry), 1);
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_false(can_resume(&news, 0));
	assert_true(can_resume(&news, 1));
	assert_int_equal(publish_later(&news, 1, OLD + SECOND), 2);
	assert_true(can_resume(&news, 1));
	age_later(2 * OLD + SECOND);
	assert_true(can_resume(&news, 1));
	age_later(2 * OLD + 2 * SECOND);
	assert_false(can_resume(&news, 1));
	leave(&j);
}

static void a_topic_without_subscribers_keeps_its_number_for_a_while(
	void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);

	(void)state;
	publish_later(&news, 1, -OLD - SECOND);
	leave(&j);
	age_later(OLD);
	assert_int_equal(registry_topics(registry), 1);
	assert_true(can_resume(&news, 1));
	/* That was a use. */
	age_later(OLD);
	assert_int_equal(registry_topics(registry), 1);
	age_later(OLD + 300 * SECOND);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void the_numbers_of_a_topic_that_went_never_come_back(void **state)
{
	(void)state;
	publish(&news);
	publish(&news);
	age_later(OLD + SECOND);
	assert_int_equal(registry_topics(registry), 0);
	assert_false(can_resume(&news, 1));
	assert_true(can_resume(&news, 2));
	assert_int_equal(publish(&news), 3);
}

/* --- retaining -------------------------------------------------------------*/

static int count_messages(void *user, const struct registry_topic *t)
{
	*(unsigned *)user = t->messages_count;
	return 0;
}

/* How many messages of a topic are told; without using it. */
static unsigned count_kept(const struct topic_key *key)
{
	unsigned count = 0;

	registry_find(registry, key, count_messages, &count);
	return count;
}

static bool is_there(const struct topic_key *key)
{
	unsigned count;

	return registry_find(registry, key, count_messages, &count) == 0;
}

static void publish_times(const struct topic_key *key, unsigned times)
{
	while (times-- > 0)
		publish(key);
}

static void the_last_message_outlives_its_time(void **state)
{
	(void)state;
	publish_times(&news, 3);
	age_later(OLD + SECOND);
	assert_int_equal(count_kept(&news), 1);
	age_later(100 * OLD);
	assert_int_equal(count_kept(&news), 1);
	assert_true(can_resume(&news, 3));
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
	/* Who used it meanwhile has changed nothing. */
	age_later(100 * OLD);
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
}

static void so_it_does_before_the_others_are_dropped(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		publish_later(&news, 1, -OLD);
	assert_int_equal(count_kept(&news), 1);
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
	struct registry_join j = {.member = members[0], .last = SIZE};
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_true(j.is_behind);
	assert_int_equal(j.since, 2);
	leave(&j);
}

static void it_is_retained_until_there_is_a_newer_one(void **state)
{
	(void)state;
	publish_later(&news, 1000, -(2 * OLD));
	age_later(0);
	assert_true(can_resume(&news, 0));
	assert_int_equal(publish_later(&news, 1, 0), 2);
	assert_int_equal(count_kept(&news), 1);
	assert_true(registry_history_bytes(registry) < 1000);
	assert_false(can_resume(&news, 0));
	assert_true(can_resume(&news, 1));
	age_later(OLD + SECOND);
	assert_int_equal(publish_later(&news, 1, OLD + SECOND), 3);
	age_later(2 * OLD);
	assert_int_equal(count_kept(&news), 1);
}

static void what_takes_no_more_than_one_message_is_kept_of_a_long_history(
	void **state)
{
	struct registry_options options = options_of(1000, TTL, BYTES);

	(void)state;
	options.retains = true;
	assert_int_equal(replace_registry(&options), 0);
	publish(&weather);
	age_later(OLD + SECOND);
	size_t one = registry_history_bytes(registry);
	publish_times(&sports, 300);
	age_later(OLD + SECOND);
	assert_int_equal(registry_history_bytes(registry), 2 * one - 1);
	assert_int_equal(count_kept(&sports), 1);
}

/* Three that take a quarter each, the first two long ago. */
static void publish_to_three(void)
{
	publish_later(&news, BYTES / 4, -(3 * OLD));
	publish_later(&weather, BYTES / 4, -(2 * OLD));
	age_later(0);
	publish_later(&sports, BYTES / 4, 0);
	assert_int_equal(registry_topics(registry), 3);
}

static void where_bytes_are_needed_those_of_the_oldest_topics_go_first(
	void **state)
{
	(void)state;
	publish_to_three();
	publish_later(&sports, BYTES / 4, 0);
	assert_false(is_there(&news));
	assert_int_equal(count_kept(&weather), 1);
	assert_int_equal(count_kept(&sports), 2);
	publish_later(&sports, BYTES / 4, 0);
	assert_false(is_there(&weather));
	assert_int_equal(count_kept(&sports), 3);
}

static void one_that_was_published_to_again_is_not_old(void **state)
{
	(void)state;
	publish_to_three();
	publish_later(&news, 1, 0);
	publish_later(&news, BYTES / 4, 0);
	publish_later(&news, BYTES / 4, 0);
	assert_false(is_there(&weather));
	assert_int_equal(count_kept(&sports), 1);
	assert_int_equal(count_kept(&news), 3);
}

static void of_any_number_of_topics_the_newest_are_retained(void **state)
{
	char name[16];
	struct topic_key key = {{"a", 1}, {name, 0}};
	const unsigned count = 1000;

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		key.name.len = (size_t)snprintf(name, sizeof name, "%u", i);
		publish_later(&key, 100, i * 2 * SECOND);
		age_later(i * 2 * SECOND);
	}
	age_later(count * OLD);
	size_t kept = registry_topics(registry);
	assert_in_range(kept, 20, BYTES / 100);
	for (unsigned i = 0; i < count; i++) {
		key.name.len = (size_t)snprintf(name, sizeof name, "%u", i);
		assert_int_equal(count_kept(&key), i + kept >= count);
	}
	assert_false(registry_shrink_history(registry, BYTES / 2));
	assert_in_range(registry_topics(registry), kept / 3, kept - 1);
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void a_topic_that_has_subscribers_retains_as_well(void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);

	(void)state;
	publish(&news);
	age_later(OLD + SECOND);
	assert_true(can_resume(&news, 0));
	leave(&j);
	age_later(2 * OLD);
	assert_true(can_resume(&news, 0));
	j = join_after(&news, registry_epoch(registry), 0);
	assert_true(j.is_exact);
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_false(can_resume(&news, 0));
	assert_true(can_resume(&news, 1));
	leave(&j);
	age_later(2 * OLD);
	assert_int_equal(registry_topics(registry), 0);
}

static void who_is_behind_gets_what_was_before_it(void **state)
{
	(void)state;
	publish_times(&news, 3);
	struct registry_join j = stay_behind(&news, 0);
	age_later(OLD + SECOND);
	assert_true(registry_replay_bytes(registry) > 0);
	assert_int_equal(count_kept(&news), 1);
	read_all(&j);
	assert_int_equal(j.since, 3);
	assert_int_equal(registry_replay_bytes(registry), 0);
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
	leave(&j);
}

static void and_where_that_is_lost_it_comes_all_the_same(void **state)
{
	(void)state;
	publish_times(&news, 3);
	struct registry_join j = stay_behind(&news, 0);
	age_later(OLD + SECOND);
	assert_false(registry_shrink_replay(registry, 0));
	assert_int_equal(read_loss(&j), 2);
	read_all(&j);
	assert_int_equal(j.since, 3);
	leave(&j);
}

static void a_topic_that_has_no_message_is_not_retained(void **state)
{
	(void)state;
	publish(&news);
	publish_later(&news, BYTES, 0);
	struct registry_join j =
		join_after(&weather, registry_epoch(registry), 0);
	leave(&j);
	assert_int_equal(registry_topics(registry), 2);
	age_later(2 * OLD);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

/* Before, there is one retained, and one that has got too old just now. */
static void a_new_epoch_retains_nothing_of_before(void **state)
{
	struct registry_receipt receipt;

	(void)state;
	publish_later(&news, 1, -(2 * OLD));
	publish_later(&weather, 1, 0);
	age_later(0);
	assert_int_equal(count_kept(&news), 1);
	registry_renew(registry, registry_epoch(registry) + 1, 10);
	for (unsigned w = 0; w < WORKERS; w++) {
		struct mail mail;
		assert_true(mailbox_take(&boxes[w], &mail));
		assert_int_equal(mail.messages_count, 1);
		message_unref(mail.messages, 1);
	}
	assert_int_equal(count_kept(&news), 0);
	struct message *m = message_of(1);
	m->accepted_ns = start;
	assert_int_equal(registry_publish(registry, &sports, m, &receipt), 0);
	age_later(2 * OLD);
	assert_int_equal(registry_topics(registry), 1);
	assert_int_equal(count_kept(&sports), 1);
}

static void apply(const struct topic_key *key, uint64_t number)
{
	struct message *m = message_of(1);

	m->accepted_ns = start;
	m->sequence = number;
	registry_apply(registry, key, m);
	registry_reach(registry, number);
}

static void what_a_log_has_is_retained_too(void **state)
{
	(void)state;
	apply(&news, 1);
	apply(&weather, 2);
	apply(&news, 3);
	age_later(2 * OLD);
	assert_int_equal(count_kept(&news), 1);
	assert_int_equal(count_kept(&weather), 1);
	struct registry_join j = {.member = members[0], .last = 1};
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	read_next_of_log(&j, 3);
	leave(&j);
	age_later(4 * OLD);
	assert_int_equal(count_kept(&news), 1);
}

/* Who comes and goes is no reason to count it as one of those that never had a
 * message, which go first. */
static void a_topic_of_a_log_has_had_a_message(void **state)
{
	(void)state;
	apply(&news, 1);
	struct registry_join j =
		join_after(&weather, registry_epoch(registry), 1);
	apply(&weather, 2);
	leave(&j);
	for (unsigned i = 0; i < 2; i++) {
		j = join_after(&news, registry_epoch(registry), 0);
		leave(&j);
	}
	size_t kept = registry_history_bytes(registry);
	j = join_after(&sports, registry_epoch(registry), 2);
	leave(&j);
	assert_false(registry_shrink_history(registry, kept));
	assert_false(is_there(&sports));
	assert_int_equal(count_kept(&news), 1);
	assert_int_equal(count_kept(&weather), 1);
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

/* --- bytes -----------------------------------------------------------------*/

static void equal_messages_in_place_of_others_take_no_more(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		publish(&news);
	size_t bytes = registry_history_bytes(registry);
	for (unsigned i = 0; i < 10; i++) {
		publish(&news);
		assert_int_equal(registry_history_bytes(registry), bytes);
	}
}

static void a_topic_itself_counts_while_it_has_no_subscriber(void **state)
{
	static const char name[1000];
	const struct topic_key key = {{"a", 1}, {name, sizeof name}};

	(void)state;
	assert_int_equal(registry_history_bytes(registry), 0);
	struct registry_join a = join_after(&key, registry_epoch(registry), 0);
	struct registry_join b = join_after(&key, registry_epoch(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	leave(&a);
	assert_int_equal(registry_history_bytes(registry), 0);
	leave(&b);
	size_t bytes = registry_history_bytes(registry);
	assert_in_range(bytes, sizeof name, sizeof name + 1000);
	a = join_after(&key, registry_epoch(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	leave(&a);
	assert_int_equal(registry_history_bytes(registry), bytes);
}

static void topics_that_never_had_a_message_make_nobody_lose(void **state)
{
	char name[BYTES / 100];
	const struct topic_key key = {{"a", 1}, {name, sizeof name}};

	(void)state;
	publish_later(&news, BYTES / 4, 0);
	publish_later(&news, BYTES / 4, 0);
	publish_later(&weather, BYTES / 3, 0);
	size_t bytes = registry_history_bytes(registry);
	memset(name, 'x', sizeof name);
	for (unsigned i = 0; i < 1000; i++) {
		memcpy(name, &i, sizeof i);
		struct registry_join j =
			join_after(&key, registry_epoch(registry), 0);
		leave(&j);
		assert_true(registry_history_bytes(registry) <=
			    bytes + BYTES / 16);
	}
	assert_true(registry_history_bytes(registry) > bytes + BYTES / 50);
	assert_true(can_resume(&news, 0));
	assert_true(can_resume(&weather, 0));
	/* Where bytes are needed they go first. */
	publish_later(&sports, BYTES / 8, 0);
	assert_true(can_resume(&news, 0));
	/* One that has its first message is as any other. */
	publish_later(&key, 1, 0);
	assert_true(can_resume(&key, 0) || registry_topics(registry) >= 4);
	age_later(OLD + OLD);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void topics_silent_for_longest_lose_theirs_first(void **state)
{
	(void)state;
	publish_later(&news, BYTES / 4, 0);
	publish_later(&weather, BYTES / 4, 2 * SECOND);
	publish_later(&news, BYTES / 4, 4 * SECOND);
	publish_later(&sports, BYTES / 4, 6 * SECOND);
	assert_int_equal(registry_topics(registry), 2);
	assert_true(can_resume(&news, 0));
	assert_true(can_resume(&sports, 0));
	publish_later(&sports, BYTES / 2, 8 * SECOND);
	assert_true(can_resume(&sports, 0));
	assert_false(can_resume(&news, 1));
	assert_true(can_resume(&news, 2));
}

static void each_loses_its_oldest_and_no_more_than_is_needed(void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);

	(void)state;
	publish_later(&news, BYTES / 2, 0);
	publish_later(&news, BYTES / 4, 0);
	publish_later(&news, BYTES / 2, 0);
	assert_true(can_resume(&news, 1));
	assert_false(can_resume(&news, 0));
	assert_int_equal(publish_later(&news, 1, 0), 4);
	assert_true(can_resume(&news, 1));
	leave(&j);
}

static void what_is_too_large_is_not_kept_nor_what_was_before(void **state)
{
	(void)state;
	publish(&news);
	publish(&news);
	assert_int_equal(publish_later(&news, BYTES, 0), 3);
	assert_false(can_resume(&news, 2));
	assert_true(can_resume(&news, 3));
	publish(&news);
	assert_true(can_resume(&news, 3));
	assert_false(can_resume(&news, 2));
}

static void subscribers_get_what_is_too_large_all_the_same(void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);
	struct mail mail;

	(void)state;
	publish_later(&news, BYTES, 0);
	assert_true(mailbox_take(&boxes[0], &mail));
	assert_int_equal(mail.messages_count, 1);
	assert_int_equal(atomic_load(&mail.messages->refs), 1);
	message_unref(mail.messages, 1);
	leave(&j);
}

static void whoever_still_sends_a_message_keeps_it(void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);
	struct mail mail;

	(void)state;
	publish(&news);
	assert_false(registry_shrink_history(registry, 0));
	assert_true(mailbox_take(&boxes[0], &mail));
	assert_int_equal(mail.messages->sequence, 1);
	assert_int_equal(atomic_load(&mail.messages->refs), 1);
	message_unref(mail.messages, 1);
	assert_false(can_resume(&news, 0));
	assert_int_equal(registry_topics(registry), 1);
	leave(&j);
}

static void history_shrinks_to_what_is_asked_for(void **state)
{
	char name[16];
	struct topic_key key = {{"a", 1}, {name, 0}};

	(void)state;
	/* As many as fit: else the last might have a number above 1. */
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		publish_later(&key, 200, i * 2 * SECOND);
	}
	assert_int_equal(registry_topics(registry), 60);
	for (size_t bytes = registry_history_bytes(registry);;
	     bytes = bytes * 2 / 3) {
		assert_false(registry_shrink_history(registry, bytes));
		assert_true(registry_history_bytes(registry) <= bytes);
		assert_true(registry_history_bytes(registry) + 1000 >= bytes);
		if (bytes == 0)
			break;
		assert_true(bytes < 1000 || can_resume(&key, 0));
	}
	assert_int_equal(registry_topics(registry), 0);
}

static void nothing_is_ever_kept_beyond_what_is_allowed(void **state)
{
	static const struct topic_key keys[3] = {news, weather, sports};
	uint64_t random = 0x9e3779b97f4a7c15;
	struct registry_join j[3] = {0};

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned key = random_below(&random, 3);
		unsigned what = random_below(&random, 10);
		if (what > 1) {
			unsigned len = 1U << random_below(&random, 15);
			publish_later(&keys[key], random_below(&random, len),
				      i * SECOND / 4);
		} else if (j[key].topic == NULL) {
			j[key] = join_after(&keys[key],
					    registry_epoch(registry), 0);
		} else {
			leave(&j[key]);
			j[key].topic = NULL;
		}
		assert_true(registry_history_bytes(registry) <= BYTES);
	}
	for (unsigned key = 0; key < 3; key++)
		if (j[key].topic != NULL)
			leave(&j[key]);
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_int_equal(registry_topics(registry), 0);
}

static void publish_many(unsigned topics)
{
	char name[16];

	for (unsigned i = 0; i < topics; i++) {
		struct topic_key key = {{"alice", 5}, {name, 0}};
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		publish(&key);
	}
}

static void a_million_topics_published_once_are_bounded_and_then_gone(
	void **state)
{
	size_t before = heap_bytes();

	(void)state;
	publish_many(MANY_TOPICS);
	assert_true(registry_topics(registry) > 50);
	/* Of small blocks malloc takes a part for itself; and tables. */
	assert_true(heap_bytes() <= before + 2 * BYTES);
	age_later(OLD + SECOND);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	/* 64 tables of 16 pointers. */
	assert_true(heap_bytes() <= before + (16 << 10));
}

static void ageing_and_shrinking_stop_and_say_that_there_is_more(void **state)
{
	(void)state;
	for (int times = 0; times < 2; times++) {
		unsigned calls = 1;
		assert_int_equal(new_registry(SIZE, TTL, 100 << 20), 0);
		start = uv_hrtime();
		for (unsigned i = 0; i < 50000; i++) {
			struct topic_key key = {{(char *)&i, sizeof i},
						{"x", 1}};
			struct registry_receipt receipt;
			struct message *m = message_of(1);
			m->accepted_ns = start;
			assert_int_equal(
				registry_publish(registry, &key, m, &receipt),
				0);
		}
		size_t left = registry_topics(registry);
		assert_int_equal(left, 50000);
		while (times == 0 ? registry_age(registry, start + 2 * OLD)
				  : registry_shrink_history(registry, 0)) {
			calls++;
			size_t now = registry_topics(registry);
			assert_in_range(left - now, 1, 5000);
			left = now;
		}
		assert_int_equal(registry_topics(registry), 0);
		assert_in_range(calls, 10, 50);
		registry_free(registry);
	}
	registry = NULL;
}

/* That close_and_weigh() finds everything credited, and nothing leaks. */
static void freeing_a_registry_frees_its_history(void **state)
{
	(void)state;
	publish(&news);
	for (unsigned i = 0; i < 2 * SIZE; i++)
		publish(&weather);
}

/* --- without memory --------------------------------------------------------*/

static void without_memory_to_make_a_topic_nobody_gets_it(void **state)
{
	struct registry_receipt receipt;
	unsigned nth = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	for (;;) {
		struct message *m = message_of(1);
		oom_fail_at(++nth);
		rv = registry_publish(registry, &news, m, &receipt);
		if (!oom_end() || rv == 0)
			break;
		assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(receipt.sequence, 0);
		assert_int_equal(registry_topics(registry), 0);
		assert_int_equal(registry_history_bytes(registry), 0);
	}
	assert_int_equal(rv, 0);
	assert_int_equal(receipt.sequence, 1);
	assert_int_equal(nth, 3); /* the table, the topic, the ring */
	/* The message went without being kept. */
	assert_false(can_resume(&news, 0));
	assert_true(can_resume(&news, 1));
}

static void without_memory_for_more_messages_the_oldest_makes_room(void **state)
{
	struct registry_receipt receipt;

	(void)state;
	OOM_OR_SKIP();
	publish(&news);
	publish(&news);
	struct message *m = message_of(1);
	m->accepted_ns = start;
	oom_fail_at(1);
	int rv = registry_publish(registry, &news, m, &receipt);
	assert_true(oom_end());
	assert_int_equal(rv, 0);
	assert_true(can_resume(&news, 1));
	assert_false(can_resume(&news, 0));
}

static void ageing_needs_no_memory(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	publish(&news);
	oom_fail_at(1);
	age_later(OLD + SECOND);
	assert_false(oom_end());
	assert_int_equal(registry_topics(registry), 0);
}

/* --- threads ---------------------------------------------------------------*/

#define TEST_RETAINED(f)                                                       \
	cmocka_unit_test_setup_teardown(f, open_registry_that_retains,         \
					close_and_weigh)

#define TEST_LOG(f)                                                            \
	cmocka_unit_test_setup_teardown(f, open_log_that_retains,              \
					close_and_weigh)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(what_is_too_old_is_not_told_though_it_is_there),
		TEST(a_publication_drops_what_is_too_old),
		TEST(a_topic_that_was_silent_for_long_goes),
		TEST(one_that_was_not_stays),
		TEST(a_publication_within_the_second_counts_for_the_whole_time),
		TEST(a_topic_with_subscribers_loses_what_is_too_old_and_stays),
		TEST(a_topic_without_subscribers_keeps_its_number_for_a_while),
		TEST(the_numbers_of_a_topic_that_went_never_come_back),
		TEST_RETAINED(the_last_message_outlives_its_time),
		TEST_RETAINED(so_it_does_before_the_others_are_dropped),
		TEST_RETAINED(it_is_retained_until_there_is_a_newer_one),
		TEST_RETAINED(
			what_takes_no_more_than_one_message_is_kept_of_a_long_history),
		TEST_RETAINED(
			where_bytes_are_needed_those_of_the_oldest_topics_go_first),
		TEST_RETAINED(one_that_was_published_to_again_is_not_old),
		TEST_RETAINED(of_any_number_of_topics_the_newest_are_retained),
		TEST_RETAINED(a_topic_that_has_subscribers_retains_as_well),
		TEST_RETAINED(who_is_behind_gets_what_was_before_it),
		TEST_RETAINED(and_where_that_is_lost_it_comes_all_the_same),
		TEST_RETAINED(a_topic_that_has_no_message_is_not_retained),
		TEST_RETAINED(a_new_epoch_retains_nothing_of_before),
		TEST_LOG(what_a_log_has_is_retained_too),
		TEST_LOG(a_topic_of_a_log_has_had_a_message),
		TEST(equal_messages_in_place_of_others_take_no_more),
		TEST(a_topic_itself_counts_while_it_has_no_subscriber),
		TEST(topics_that_never_had_a_message_make_nobody_lose),
		TEST(topics_silent_for_longest_lose_theirs_first),
		TEST(each_loses_its_oldest_and_no_more_than_is_needed),
		TEST(what_is_too_large_is_not_kept_nor_what_was_before),
		TEST(subscribers_get_what_is_too_large_all_the_same),
		TEST(whoever_still_sends_a_message_keeps_it),
		TEST(history_shrinks_to_what_is_asked_for),
		TEST(nothing_is_ever_kept_beyond_what_is_allowed),
		TEST(a_million_topics_published_once_are_bounded_and_then_gone),
		TEST_BARE(ageing_and_shrinking_stop_and_say_that_there_is_more),
		TEST(freeing_a_registry_frees_its_history),
		TEST(without_memory_to_make_a_topic_nobody_gets_it),
		TEST(without_memory_for_more_messages_the_oldest_makes_room),
		TEST(ageing_needs_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
