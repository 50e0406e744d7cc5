/* test_history.c - resuming, and those that are behind (registry.h) */
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

static int open_registry_with_small_mailboxes(void **state)
{
	(void)state;
	return open_with(300, SIZE, BYTES);
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

/* --- threads ---------------------------------------------------------------*/

#define KEYS 3

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

/* What a worker knows of a topic: fanout/subscribe.c in small. Owner: its
 * thread. */
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

#define TEST_FULL(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_registry_with_small_mailboxes, \
					close_and_weigh)

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
		TEST_BARE(
			who_comes_and_goes_gets_every_message_once_if_all_are_kept),
		TEST_BARE(who_comes_and_goes_misses_nothing_without_being_told),
		TEST_BARE(nor_where_the_last_message_is_retained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
