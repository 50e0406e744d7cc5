/* test_history.c - what src/topics/history.c, evict.c and replay.c promise. */
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

#define SIZE  4          /* messages a topic */
#define TTL   60000      /* ms */
#define BYTES (64 << 10) /* in all */

#define SECOND UINT64_C(1000000000) /* in ns */
#define OLD    (TTL * UINT64_C(1000000))

#ifdef OOM_SANITIZED
#define MANY_TOPICS 100000
#define TURNS       3000
#else
#define MANY_TOPICS 1000000
#define TURNS       20000
#endif

/* --- help ------------------------------------------------------------------*/

static uint64_t start; /* of the test, by uv_hrtime() */
static size_t used_before;

static int open_with(size_t mailbox_max_bytes, uint32_t size, size_t bytes)
{
	memory_settle();
	memory_set_limit(0, 1 << 30);
	used_before = memory_used();
	start = uv_hrtime();
	int rv = open_boxes(mailbox_max_bytes);
	return rv != 0 ? rv : new_registry(size, TTL, bytes);
}

static int open_registry(void **state)
{
	(void)state;
	return open_with(SIZE_MAX, SIZE, BYTES);
}

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

static int open_registry_with_small_mailboxes(void **state)
{
	(void)state;
	return open_with(300, SIZE, BYTES);
}

static int open_boxes_alone(void **state)
{
	(void)state;
	registry = NULL;
	return open_boxes(SIZE_MAX);
}

/* All that was charged must be credited once it has gone. */
static int close_and_weigh(void **state)
{
	int rv = close_registry(state);
	memory_settle();
	return rv != 0 || memory_used() != used_before;
}

static const struct topic_key news = {{"alice", 5}, {"news", 4}};
static const struct topic_key weather = {{"alice", 5}, {"weather", 7}};
static const struct topic_key sports = {{"alice", 5}, {"sports", 6}};

static struct message *message_of(size_t len)
{
	static const char data[BYTES + 1];
	struct message *m =
		message_new((struct span){data, len}, false, WORKERS);

	assert_non_null(m);
	return m;
}

/* Publishes `len` bytes `later_ns` after the test's start. Returns the number
 * that it got. */
static uint64_t publish_later(const struct topic_key *key, size_t len,
			      uint64_t later_ns)
{
	struct registry_receipt receipt;
	struct message *m = message_of(len);

	m->accepted_ns = start + later_ns;
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
	assert_true(registry_history_bytes(registry) <= BYTES);
	return receipt.sequence;
}

static uint64_t publish(const struct topic_key *key)
{
	return publish_later(key, 1, 0);
}

static struct message *missed[SIZE];
static unsigned missed_count;

static struct registry_join join_after(const struct topic_key *key,
				       uint64_t epoch, uint64_t after)
{
	struct registry_join j = {
		.member = members[0],
		.resumes = true,
		.epoch = epoch,
		.after = after,
	};
	assert_int_equal(registry_join(registry, key, 0, &j), 0);
	missed_count = read_missed(&j, missed, SIZE);
	for (unsigned i = 0; i < missed_count; i++)
		message_unref(missed[i], 1);
	return j;
}

static void leave(const struct registry_join *j)
{
	uint64_t posted;

	if (j->is_behind)
		registry_give_up(registry, j->topic, registry_epoch(registry),
				 j->since);
	registry_leave(registry, j->topic, 0, &posted);
}

/* Whether who comes back after number `after` gets all since; checks that these
 * are what is told, then. Does not change the topic but for its use. */
static bool can_resume(const struct topic_key *key, uint64_t after)
{
	struct registry_join j =
		join_after(key, registry_epoch(registry), after);

	for (unsigned i = 0; i < missed_count; i++)
		assert_int_equal(missed[i]->sequence,
				 j.since - missed_count + 1 + i);
	if (j.is_exact)
		assert_int_equal(missed_count, j.since - after);
	leave(&j);
	return j.is_exact;
}

static void age_later(uint64_t later_ns)
{
	while (registry_age(registry, start + later_ns))
		;
}

/* Makes the event of the topic's newest message, as somebody who reads would.
 * Returns whether it is kept with it. */
static bool encode_newest(const struct topic_key *key, uint64_t sequence)
{
	const struct message_source source = {.epoch = registry_epoch(registry),
					      .publisher = key->publisher,
					      .topic = key->name};
	struct message_encoding *apart;
	struct registry_join j =
		join_after(key, registry_epoch(registry), sequence - 1);

	assert_int_equal(missed_count, 1);
	struct span form =
		message_encode(missed[0], MESSAGE_EVENT, &source, &apart);
	leave(&j);
	assert_non_null(form.bytes);
	message_encoding_free(apart);
	return apart == NULL;
}

static void further_forms_have_a_bound_of_their_own_and_displace_nobody(
	void **state)
{
	(void)state;
	uint64_t first = publish_later(&news, BYTES / 10, 0);
	uint64_t second = publish_later(&weather, BYTES / 10, 0);
	size_t bare = registry_history_bytes(registry);
	size_t forms = message_kept_forms();
	assert_true(encode_newest(&news, first));
	assert_in_range(message_kept_forms() - forms, BYTES / 10, BYTES / 8);
	assert_false(encode_newest(&weather, second));
	assert_in_range(message_kept_forms() - forms, BYTES / 10, BYTES / 8);
	assert_int_equal(registry_history_bytes(registry), bare);
	age_later(OLD + 10 * SECOND);
	age_later(OLD + OLD);
	assert_int_equal(message_kept_forms(), forms);
	second = publish_later(&weather, BYTES / 10, 0);
	assert_true(encode_newest(&weather, second));
}

/* --- resuming --------------------------------------------------------------*/

static void who_resumes_gets_what_it_missed(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= SIZE; i++)
		assert_int_equal(publish(&news), i);
	for (uint64_t after = 0; after <= SIZE; after++) {
		struct registry_join j =
			join_after(&news, registry_epoch(registry), after);
		assert_true(j.is_exact);
		assert_int_equal(j.since, SIZE);
		assert_int_equal(missed_count, SIZE - after);
		for (unsigned i = 0; i < missed_count; i++) {
			assert_int_equal(missed[i]->sequence, after + 1 + i);
			assert_int_equal(atomic_load(&missed[i]->refs), 1);
		}
		leave(&j);
	}
}

static void who_missed_more_than_is_kept_is_told_so(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3 * SIZE; i++) {
		uint64_t last = publish(&news);
		for (uint64_t after = 0; after <= last; after++)
			assert_int_equal(can_resume(&news, after),
					 after + SIZE >= last);
	}
}

static void numbers_that_were_not_given_yet_are_not_resumed_from(void **state)
{
	(void)state;
	publish(&news);
	assert_false(can_resume(&news, 2));
	assert_false(can_resume(&news, UINT64_MAX));
	assert_false(can_resume(&weather, 1));
	assert_true(can_resume(&news, 1));
}

static void nor_are_those_of_another_epoch(void **state)
{
	struct registry_join j;

	(void)state;
	publish(&news);
	j = join_after(&news, registry_epoch(registry) + 1, 0);
	assert_false(j.is_exact);
	assert_int_equal(missed_count, 1);
	assert_int_equal(j.since, 1);
	leave(&j);
}

static void who_does_not_resume_gets_nothing_from_before(void **state)
{
	struct registry_join j = {.member = members[0]};

	(void)state;
	publish(&news);
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_false(j.is_exact);
	assert_false(j.is_behind);
	assert_int_equal(j.since, 1);
	leave(&j);
}

static void who_is_asked_for_a_member_gets_nothing_yet(void **state)
{
	struct registry_join j = {.resumes = true};

	(void)state;
	j.epoch = registry_epoch(registry);
	publish(&news);
	assert_int_equal(registry_join(registry, &news, 0, &j), UV_ENOENT);
	j = join_after(&news, j.epoch, 0);
	assert_int_equal(missed_count, 1);
	leave(&j);
}

static void messages_are_kept_whether_or_not_there_are_subscribers(void **state)
{
	struct registry_join first =
		join_after(&news, registry_epoch(registry), 0);

	(void)state;
	publish(&news);
	leave(&first);
	publish(&news);
	assert_true(can_resume(&news, 0));
	assert_int_equal(registry_topics(registry), 1);
}

static void with_a_mailbox_full_a_message_is_not_kept(void **state)
{
	struct registry_join j = join_after(&news, registry_epoch(registry), 0);
	struct registry_receipt receipt;

	(void)state;
	publish(&news);
	assert_int_equal(
		registry_publish(registry, &news, message_of(200), &receipt),
		UV_ENOBUFS);
	assert_int_equal(receipt.sequence, 0);
	struct registry_join other =
		join_after(&news, registry_epoch(registry), 0);
	assert_int_equal(other.since, 1);
	assert_int_equal(missed_count, 1);
	leave(&other);
	leave(&j);
}

static void each_of_three_zeros_turns_history_off(void **state)
{
	(void)state;
	for (unsigned off = 0; off < 3; off++) {
		struct registry_receipt receipt;
		assert_int_equal(new_registry(off == 0 ? 0 : SIZE,
					      off == 1 ? 0 : TTL,
					      off == 2 ? 0 : BYTES),
				 0);
		for (uint64_t i = 1; i <= 3; i++) {
			assert_int_equal(registry_publish(registry, &news,
							  message_of(1),
							  &receipt),
					 0);
			assert_int_equal(receipt.sequence, i);
		}
		assert_int_equal(registry_topics(registry), 0);
		assert_false(can_resume(&news, 2));
		assert_true(can_resume(&news, 3));
		assert_int_equal(registry_history_bytes(registry), 0);
		assert_int_equal(registry_topics(registry), 0);
		assert_false(registry_age(registry, start + 2 * OLD));
		registry_free(registry);
	}
	registry = NULL;
}

/* --- those that are behind
 * --------------------------------------------------*/

/* Joins, and does not read. */
static struct registry_join stay_behind(const struct topic_key *key,
					uint64_t after)
{
	struct registry_join j = {
		.member = members[0],
		.resumes = true,
		.epoch = registry_epoch(registry),
		.after = after,
	};
	assert_int_equal(registry_join(registry, key, 0, &j), 0);
	assert_true(j.is_exact);
	assert_true(j.is_behind);
	assert_int_equal(j.since, after);
	return j;
}

/* Reads one message, which must be there. */
static void read_next(struct registry_join *j)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};

	assert_true(j->is_behind);
	registry_read(registry, j->topic, &reading);
	assert_non_null(reading.message);
	assert_int_equal(reading.message->sequence, j->since + 1);
	assert_int_equal(reading.since, j->since + 1);
	message_unref(reading.message, 1);
	j->since = reading.since;
	j->is_behind = !reading.is_live;
}

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

static void read_all(struct registry_join *j)
{
	while (j->is_behind)
		read_next(j);
}

/* Reads that something was lost. Returns the number of the last such. */
static uint64_t read_loss(struct registry_join *j)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};

	registry_read(registry, j->topic, &reading);
	assert_null(reading.message);
	assert_true(reading.since > j->since);
	j->since = reading.since;
	j->is_behind = !reading.is_live;
	return reading.since;
}

static void what_one_still_has_to_read_is_not_dropped(void **state)
{
	(void)state;
	publish(&news);
	publish(&news);
	struct registry_join j = stay_behind(&news, 1);
	for (unsigned i = 0; i < 10 * SIZE; i++)
		publish(&news);
	assert_true(registry_replay_bytes(registry) > 0);
	assert_false(can_resume(&news, 1)); /* for others it is gone */
	assert_true(can_resume(&news, 10 * SIZE + 2 - SIZE));
	read_all(&j);
	assert_int_equal(j.since, 10 * SIZE + 2);
	assert_int_equal(registry_replay_bytes(registry), 0);
	leave(&j);
}

static void what_nobody_has_to_read_any_more_is_given_back_at_once(void **state)
{
	size_t most = 0;

	(void)state;
	publish(&news);
	struct registry_join slow = stay_behind(&news, 0);
	struct registry_join slower = stay_behind(&news, 0);
	for (unsigned i = 0; i < 3 * SIZE; i++)
		publish(&news);
	most = registry_replay_bytes(registry);
	read_next(&slow);
	assert_int_equal(registry_replay_bytes(registry), most);
	read_next(&slower);
	assert_true(registry_replay_bytes(registry) < most);
	read_next(&slow);
	read_next(&slow);
	size_t before = registry_replay_bytes(registry);
	leave(&slower);
	assert_true(registry_replay_bytes(registry) < before);
	leave(&slow);
	assert_int_equal(registry_replay_bytes(registry), 0);
	assert_true(can_resume(&news, 2 * SIZE + 1));
}

/* Those that are too old, and those that others displace, as well. */
static void no_limit_of_the_history_drops_what_is_still_read(void **state)
{
	(void)state;
	publish(&news);
	publish(&news);
	struct registry_join j = stay_behind(&news, 0);
	age_later(OLD + 2 * SECOND);
	assert_true(registry_history_bytes(registry) < 100); /* the array */
	assert_int_equal(registry_topics(registry), 1);
	for (unsigned i = 0; i < 10; i++)
		publish_later(&weather, BYTES / 4, OLD + (3 + i) * SECOND);
	assert_true(can_resume(&news, 2));
	assert_false(can_resume(&news, 1));
	assert_false(registry_shrink_history(registry, 0));
	read_all(&j);
	assert_int_equal(j.since, 2);
	assert_int_equal(registry_replay_bytes(registry), 0);
	leave(&j);
}

static void one_that_catches_up_is_posted_what_comes_then(void **state)
{
	struct mail mail;

	(void)state;
	publish(&news);
	struct registry_join j = stay_behind(&news, 0);
	publish(&news);
	read_all(&j);
	assert_int_equal(j.since, 2);
	publish(&news);
	assert_true(mailbox_take(&boxes[0], &mail));
	assert_int_equal(mail.messages_count, 2); /* it leaves the 2 out */
	while (mail.messages != NULL) {
		struct message *m = mail.messages;
		mail.messages = m->links[0].next;
		message_unref(m, 1);
	}
	leave(&j);
}

static void beyond_its_bound_the_oldest_is_lost_and_that_is_told(void **state)
{
	(void)state;
	publish_later(&news, 1000, 0);
	struct registry_join j = stay_behind(&news, 0);
	size_t most = 0;
	for (unsigned i = 0; i < 60; i++) {
		publish_later(&news, 1000, 0);
		size_t now = registry_replay_bytes(registry);
		most = now > most ? now : most;
	}
	/* One topic alone gets half. */
	assert_in_range(most, BYTES / 2 - 2000, BYTES / 2);
	/* Nobody else had to read what was behind the one lost. */
	assert_int_equal(registry_replay_bytes(registry), 0);
	assert_int_equal(read_loss(&j), 61 - SIZE);
	read_all(&j);
	assert_int_equal(j.since, 61);
	assert_int_equal(registry_replay_bytes(registry), 0);
	leave(&j);
}

static void one_topic_leaves_something_for_others(void **state)
{
	(void)state;
	publish_later(&news, 1000, 0);
	struct registry_join j = stay_behind(&news, 0);
	for (unsigned i = 0; i < 25; i++)
		publish_later(&news, 1000, 0);
	assert_true(registry_replay_bytes(registry) > BYTES / 3);
	publish_later(&weather, 1000, 0);
	struct registry_join other = stay_behind(&weather, 0);
	for (unsigned i = 0; i < 10; i++)
		publish_later(&weather, 1000, 0);
	read_all(&other);
	assert_int_equal(other.since, 11);
	leave(&other);
	leave(&j);
}

static void where_memory_is_scarce_claims_are_broken(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIZE; i++)
		publish_later(&news, 1000, 0);
	struct registry_join j = stay_behind(&news, 0);
	publish_later(&news, 1000, 0);
	assert_true(registry_replay_bytes(registry) > 0);
	memory_set_limit(1000, 950);
	publish_later(&news, 1000, 0);
	memory_set_limit(0, 1 << 30);
	assert_int_equal(registry_replay_bytes(registry), 0);
	assert_int_equal(read_loss(&j), 2);
	read_all(&j);
	publish_later(&weather, 1000, 0);
	struct registry_join other = stay_behind(&weather, 0);
	age_later(OLD + SECOND);
	assert_true(registry_replay_bytes(registry) > 0);
	assert_false(registry_shrink_replay(registry, 0));
	assert_int_equal(registry_replay_bytes(registry), 0);
	assert_int_equal(read_loss(&other), 1);
	assert_false(other.is_behind);
	leave(&other);
	leave(&j);
	used_before = 1 << 30;
}

static void what_is_too_large_to_keep_is_lost_for_those_behind(void **state)
{
	(void)state;
	publish(&news);
	struct registry_join j = stay_behind(&news, 0);
	publish_later(&news, BYTES, 0);
	publish(&news);
	assert_int_equal(read_loss(&j), 2);
	read_all(&j);
	assert_int_equal(j.since, 3);
	leave(&j);
}

static void who_wants_the_last_gets_so_many_at_most(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= SIZE + 2; i++)
		publish(&news);
	for (unsigned last = 0; last <= SIZE + 3; last++) {
		for (unsigned way = 0; way < 3; way++) {
			/* Without a number, with one, with one too old. */
			static const uint64_t afters[] = {0, SIZE + 1, 1};
			struct registry_join j = {
				.member = members[0],
				.resumes = way > 0,
				.epoch = registry_epoch(registry),
				.after = afters[way],
				.last = last,
			};
			unsigned expected = last < SIZE ? last : SIZE;
			if (way == 1)
				expected = 1;
			else if (way == 2 && last == 0)
				expected = SIZE;
			assert_int_equal(registry_join(registry, &news, 0, &j),
					 0);
			assert_int_equal(j.is_exact, way == 1);
			assert_int_equal(j.since, SIZE + 2 - expected);
			assert_int_equal(j.is_behind, expected > 0);
			leave(&j);
		}
	}
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

#define KEYS    3
#define CLIENTS 3 /* of a topic, a worker */

/* No assertion on another thread than main's: cmocka's jump. */
static _Atomic unsigned wrong;
static _Atomic unsigned running;
static _Atomic unsigned exact;
static _Atomic unsigned inexact;
static _Atomic unsigned lost;
static unsigned ring_size;

static const struct topic_key few[KEYS] = {
	{{"a", 1}, {"1", 1}},
	{{"a", 1}, {"2", 1}},
	{{"b", 1}, {"1", 1}},
};

/* One that comes and goes, and knows the last number that it got. */
struct client {
	bool is_in;
	bool is_behind;
	uint64_t since;
	uint64_t last;
};

/* What a worker knows of a topic: subscribers.c in small. Owner: its thread. */
struct local {
	struct topic *topic;
	struct client clients[CLIENTS];
};

struct worker {
	uv_thread_t thread;
	unsigned index;
	uint64_t random;
	struct local locals[KEYS];
};

static void get(struct client *c, uint64_t sequence)
{
	if (c->is_behind || sequence <= c->since)
		return;
	wrong += sequence != c->last + 1;
	c->last = sequence;
}

static void take_mail(struct worker *w)
{
	struct mail mail;

	if (!mailbox_take(&boxes[w->index], &mail))
		return;
	while (mail.messages != NULL) {
		struct message *m = mail.messages;
		struct local *l = m->links[w->index].member;
		for (unsigned i = 0; i < CLIENTS; i++)
			if (l->clients[i].is_in)
				get(&l->clients[i], m->sequence);
		mail.messages = m->links[w->index].next;
		message_unref(m, 1);
	}
}

static void come(struct worker *w, unsigned key, struct client *c)
{
	struct local *l = &w->locals[key];
	struct registry_join j = {
		.member = l,
		.resumes = true,
		.epoch = registry_epoch(registry),
		.after = c->last,
	};

	if (registry_join(registry, &few[key], w->index, &j) != 0) {
		wrong++;
		return;
	}
	wrong += j.member != l;
	wrong += j.is_exact && j.since != c->last;
	wrong += !j.is_exact && j.since < c->last;
	j.is_exact ? exact++ : inexact++;
	l->topic = j.topic;
	c->last = c->since = j.since;
	c->is_in = true;
	c->is_behind = j.is_behind;
}

/* Reads some of what it missed. */
static void catch_up(const struct worker *w, unsigned key, struct client *c,
		     unsigned max)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = c->last};

	for (unsigned i = 0; i < max && c->is_behind; i++) {
		registry_read(registry, w->locals[key].topic, &reading);
		if (reading.message == NULL) {
			lost++;
			wrong += reading.since <= c->last;
		} else {
			wrong += reading.since != c->last + 1;
			wrong += reading.message->sequence != reading.since;
			message_unref(reading.message, 1);
		}
		c->last = c->since = reading.since;
		c->is_behind = !reading.is_live;
	}
}

static void go(struct worker *w, unsigned key, struct client *c)
{
	uint64_t posted;

	if (c->is_behind)
		registry_give_up(registry, w->locals[key].topic,
				 registry_epoch(registry), c->last);
	if (registry_leave(registry, w->locals[key].topic, w->index, &posted))
		take_mail(w);
	c->is_in = false;
}

static void come_and_go(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < TURNS || running > 0; i++) {
		unsigned key = random_below(&w->random, KEYS);
		struct client *c =
			&w->locals[key]
				 .clients[random_below(&w->random, CLIENTS)];
		if (random_below(&w->random, 3) == 0)
			take_mail(w);
		else if (c->is_in && c->is_behind &&
			 random_below(&w->random, 8) > 0)
			catch_up(w, key, c, random_below(&w->random, 40));
		else if (c->is_in)
			go(w, key, c);
		else
			come(w, key, c);
	}
	take_mail(w);
	for (unsigned key = 0; key < KEYS; key++)
		for (unsigned i = 0; i < CLIENTS; i++)
			if (w->locals[key].clients[i].is_in)
				go(w, key, &w->locals[key].clients[i]);
}

static void publish_to_few(void *arg)
{
	uint64_t random = 1 + (uintptr_t)arg;

	for (unsigned i = 0; i < TURNS; i++) {
		struct registry_receipt receipt;
		unsigned key = random_below(&random, KEYS);
		struct message *m = message_new(SPAN("x"), false, WORKERS);
		if (m == NULL) {
			wrong++;
			break;
		}
		m->accepted_ns = uv_hrtime();
		wrong +=
			registry_publish(registry, &few[key], m, &receipt) != 0;
		wrong += receipt.sequence == 0;
	}
	running--;
}

static int count_topic(void *user, const struct registry_topic *t)
{
	(void)t;
	++*(unsigned *)user;
	return 0;
}

/* All that others may do meanwhile. */
static void disturb(void *unused)
{
	uint64_t random = 7;

	(void)unused;
	while (running > 0) {
		unsigned told = 0;
		uint64_t at = 0;
		switch (random_below(&random, 5)) {
		case 0:
			registry_age(registry,
				     uv_hrtime() +
					     OLD / 60 *
						     random_below(&random, 90));
			break;
		case 1:
			registry_shrink_history(registry,
						random_below(&random, 4000));
			break;
		case 2:
			registry_page(registry, (struct span){NULL, 0}, 1000,
				      &at, count_topic, &told);
			wrong += told > KEYS || at != 0;
			break;
		case 3:
			registry_shrink_replay(registry,
					       random_below(&random, 4000));
			break;
		default:
			registry_find(registry, &few[0], count_topic, &told);
			wrong += told > 1;
		}
	}
}

static void run_threads(bool is_disturbed, bool retains)
{
	static struct worker workers[WORKERS];
	uv_thread_t publishers[2];
	uv_thread_t disturber;

	wrong = exact = inexact = lost = 0;
	running = 2;
	memset(workers, 0, sizeof workers);
	for (unsigned w = 0; w < WORKERS; w++) {
		workers[w].index = w;
		workers[w].random = 0x9e3779b97f4a7c15 + w;
		assert_int_equal(uv_thread_create(&workers[w].thread,
						  come_and_go, &workers[w]),
				 0);
	}
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(uv_thread_create(&publishers[i],
						  publish_to_few, (void *)i),
				 0);
	if (is_disturbed)
		assert_int_equal(uv_thread_create(&disturber, disturb, NULL),
				 0);
	for (int i = 0; i < 2; i++)
		uv_thread_join(&publishers[i]);
	for (unsigned w = 0; w < WORKERS; w++) {
		uv_thread_join(&workers[w].thread);
	}
	if (is_disturbed)
		uv_thread_join(&disturber);
	assert_int_equal(wrong, 0);
	while (registry_age(registry, uv_hrtime() + 2 * OLD))
		;
	/* What is retained. */
	assert_in_range(registry_topics(registry), 0, retains ? KEYS : 0);
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_int_equal(registry_replay_bytes(registry), 0);
}

static void who_comes_and_goes_gets_every_message_once_if_all_are_kept(
	void **state)
{
	(void)state;
	ring_size = 2 * TURNS;
	assert_int_equal(new_registry(ring_size, TTL, 100 << 20), 0);
	run_threads(false, false);
	assert_true(exact > 0);
	assert_int_equal(inexact, 0);
	assert_int_equal(lost, 0);
	registry_free(registry);
	registry = NULL;
}

static void who_comes_and_goes_misses_nothing_without_being_told(void **state)
{
	(void)state;
	ring_size = 16;
	assert_int_equal(new_registry(ring_size, TTL, 4000), 0);
	run_threads(true, false);
	assert_true(exact > 0);
	assert_true(inexact > 0);
	registry_free(registry);
	registry = NULL;
}

static void nor_where_the_last_message_is_retained(void **state)
{
	struct registry_options options = options_of(16, TTL, 4000);

	(void)state;
	options.retains = true;
	ring_size = 16;
	assert_int_equal(registry_new(&registry, &options), 0);
	run_threads(true, true);
	assert_true(exact > 0);
	assert_true(inexact > 0);
	registry_free(registry);
	registry = NULL;
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, open_registry, close_and_weigh)
#define TEST_FULL(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_registry_with_small_mailboxes, \
					close_and_weigh)
#define TEST_RETAINED(f)                                                       \
	cmocka_unit_test_setup_teardown(f, open_registry_that_retains,         \
					close_and_weigh)
#define TEST_LOG(f)                                                            \
	cmocka_unit_test_setup_teardown(f, open_log_that_retains,              \
					close_and_weigh)
/* Makes registries itself. */
#define TEST_BARE(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_boxes_alone, close_registry)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(who_resumes_gets_what_it_missed),
		TEST(further_forms_have_a_bound_of_their_own_and_displace_nobody),
		TEST(who_missed_more_than_is_kept_is_told_so),
		TEST(numbers_that_were_not_given_yet_are_not_resumed_from),
		TEST(nor_are_those_of_another_epoch),
		TEST(who_does_not_resume_gets_nothing_from_before),
		TEST(who_is_asked_for_a_member_gets_nothing_yet),
		TEST(messages_are_kept_whether_or_not_there_are_subscribers),
		TEST_FULL(with_a_mailbox_full_a_message_is_not_kept),
		TEST_BARE(each_of_three_zeros_turns_history_off),
		TEST(what_one_still_has_to_read_is_not_dropped),
		TEST(what_nobody_has_to_read_any_more_is_given_back_at_once),
		TEST(no_limit_of_the_history_drops_what_is_still_read),
		TEST(one_that_catches_up_is_posted_what_comes_then),
		TEST(beyond_its_bound_the_oldest_is_lost_and_that_is_told),
		TEST(one_topic_leaves_something_for_others),
		TEST(where_memory_is_scarce_claims_are_broken),
		TEST(what_is_too_large_to_keep_is_lost_for_those_behind),
		TEST(who_wants_the_last_gets_so_many_at_most),
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
		TEST_BARE(
			who_comes_and_goes_gets_every_message_once_if_all_are_kept),
		TEST_BARE(who_comes_and_goes_misses_nothing_without_being_told),
		TEST_BARE(nor_where_the_last_message_is_retained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
