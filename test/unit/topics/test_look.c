/* test_look.c - what src/topics/look.c and restore.c promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aborts.h"
#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/registry.h"

#define SIZE  4          /* messages a topic */
#define TTL   60000      /* ms */
#define BYTES (64 << 20) /* in all */

#define OLD    (TTL * UINT64_C(1000000)) /* in ns */
#define SECOND UINT64_C(1000000000)

#define TOPICS 3000

/* --- help ------------------------------------------------------------------*/

static uint64_t start; /* of the test, by uv_hrtime() */
static size_t used_before;

static int open_registry(void **state)
{
	(void)state;
	memory_settle();
	memory_set_limit(0, 1 << 30);
	used_before = memory_used();
	start = uv_hrtime();
	return open_boxes(SIZE_MAX) != 0 || new_registry(SIZE, TTL, BYTES) != 0;
}

/* All that was charged must be credited once it has gone. */
static int close_and_weigh(void **state)
{
	int rv = close_registry(state);
	memory_settle();
	return rv != 0 || memory_used() != used_before;
}

static const struct span anybody = {NULL, 0};
static const struct topic_key news = {{"alice", 5}, {"news", 4}};
static const struct topic_key weather = {{"alice", 5}, {"weather", 7}};
static const struct topic_key sports = {{"bob", 3}, {"sports", 6}};

static void publish_later(const struct topic_key *key, uint64_t later_ns)
{
	struct registry_receipt receipt;
	struct message *m = message_new(SPAN("x"), false, WORKERS);

	assert_non_null(m);
	m->accepted_ns = start + later_ns;
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
}

static void publish(const struct topic_key *key)
{
	publish_later(key, 0);
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

static void forget_history(void)
{
	while (registry_shrink_history(registry, 0))
		;
}

/* What was told last, and how often. */
static struct told {
	unsigned times;
	char publisher[32];
	char name[32];
	uint64_t sequence;
	uint64_t subscribers;
	uint64_t used_ns;
	unsigned messages_count;
	uint64_t first;
	int answer;
} told;

static int on_topic(void *user, const struct registry_topic *t)
{
	assert_ptr_equal(user, &told);
	told.times++;
	snprintf(told.publisher, sizeof told.publisher, "%.*s",
		 (int)t->key.publisher.len, t->key.publisher.bytes);
	snprintf(told.name, sizeof told.name, "%.*s", (int)t->key.name.len,
		 t->key.name.bytes);
	told.sequence = t->sequence;
	told.subscribers = t->subscribers;
	told.used_ns = t->used_ns;
	told.messages_count = t->messages_count;
	for (unsigned i = 0; i < t->messages_count; i++)
		assert_int_equal(t->messages[i]->sequence,
				 t->sequence - (t->messages_count - 1 - i));
	return told.answer;
}

static int find(const struct topic_key *key)
{
	told = (struct told){0};
	return registry_find(registry, key, on_topic, &told);
}

/* --- one topic -------------------------------------------------------------*/

static void a_topic_is_told_with_its_history_in_order(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 3 * SIZE; i++) {
		publish(&news);
		assert_int_equal(find(&news), 0);
		assert_int_equal(told.times, 1);
		assert_string_equal(told.publisher, "alice");
		assert_string_equal(told.name, "news");
		assert_int_equal(told.sequence, i);
		assert_int_equal(told.subscribers, 0);
		assert_int_equal(told.messages_count, i < SIZE ? i : SIZE);
		assert_int_equal(told.used_ns, start);
	}
}

/* Looking straightens the ring, which must not disturb what follows. */
static void a_topic_that_was_looked_at_goes_on_as_before(void **state)
{
	struct message *missed[SIZE];
	struct registry_join j = {.member = members[0], .resumes = true};

	(void)state;
	j.epoch = registry_epoch(registry);
	for (unsigned i = 1; i <= SIZE + 2; i++)
		publish(&news);
	assert_int_equal(find(&news), 0);
	publish(&news);
	j.after = 3;
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_int_equal(read_missed(&j, missed, SIZE), SIZE);
	for (unsigned i = 0; i < SIZE; i++) {
		assert_int_equal(missed[i]->sequence, 4 + i);
		message_unref(missed[i], 1);
	}
	leave(j.topic, 0);
}

static void subscribers_are_told_of_all_workers(void **state)
{
	struct topic *t = join(&news, 0);

	(void)state;
	join(&news, 0);
	join(&news, 3);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.subscribers, 3);
	assert_int_equal(told.messages_count, 0);
	leave(t, 0);
	leave(t, 0);
	leave(t, 3);
}

static void what_is_too_old_is_not_told(void **state)
{
	(void)state;
	publish_later(&news, -OLD);
	publish_later(&news, -OLD);
	publish_later(&news, -OLD / 2);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 3);
	assert_int_equal(told.messages_count, 1);
}

static void a_topic_there_is_not_is_enoent(void **state)
{
	(void)state;
	publish(&news);
	assert_int_equal(find(&weather), UV_ENOENT);
	assert_int_equal(told.times, 0);
}

static void what_the_visitor_returns_is_returned(void **state)
{
	uint64_t at = 0;

	(void)state;
	publish(&news);
	publish(&weather);
	told = (struct told){.answer = 7};
	assert_int_equal(registry_find(registry, &news, on_topic, &told), 7);
	assert_int_equal(
		registry_page(registry, anybody, 10, &at, on_topic, &told), 7);
	assert_int_equal(at, 0);
	assert_int_equal(registry_visit_all(registry, on_topic, &told), 7);
	assert_int_equal(told.times, 3);
}

/* --- pages -----------------------------------------------------------------*/

/* How often topic "i" was told, and in which order. */
static unsigned seen[TOPICS];
static unsigned order[TOPICS];
static unsigned seen_count;

static int on_number(void *user, const struct registry_topic *t)
{
	char text[16] = {0};

	(void)user;
	memcpy(text, t->key.name.bytes, t->key.name.len);
	unsigned i = (unsigned)strtoul(text, NULL, 10);
	seen[i]++;
	order[seen_count++ % TOPICS] = i;
	return 0;
}

static void forget_seen(void)
{
	memset(seen, 0, sizeof seen);
	seen_count = 0;
}

/* Even ones are alice's, odd ones bob's. */
static struct topic_key number_key(unsigned i, char text[static 16])
{
	snprintf(text, 16, "%u", i);
	return (struct topic_key){i % 2 == 0 ? SPAN("alice") : SPAN("bob"),
				  span_of(text)};
}

static void publish_numbers(unsigned from, unsigned to)
{
	char text[16];

	for (unsigned i = from; i < to; i++) {
		struct topic_key key = number_key(i, text);
		publish(&key);
	}
}

static void page(struct span publisher, unsigned limit, uint64_t *at)
{
	unsigned before = seen_count;

	assert_int_equal(
		registry_page(registry, publisher, limit, at, on_number, NULL),
		0);
	assert_true(seen_count - before <= limit);
}

static void pages_of_any_length_tell_each_topic_once(void **state)
{
	static const unsigned limits[] = {1, 2, 7, 100, 1000};

	(void)state;
	publish_numbers(0, TOPICS);
	for (unsigned l = 0; l < sizeof limits / sizeof limits[0]; l++) {
		uint64_t at = 0;
		unsigned pages = 0;
		forget_seen();
		do {
			page(anybody, limits[l], &at);
			pages++;
		} while (at != 0);
		for (unsigned i = 0; i < TOPICS; i++)
			assert_int_equal(seen[i], 1);
		assert_true(pages <= TOPICS / limits[l] + 1);
	}
}

static void their_order_is_the_same_each_time(void **state)
{
	unsigned first[TOPICS];
	uint64_t at = 0;

	(void)state;
	publish_numbers(0, TOPICS);
	forget_seen();
	do
		page(anybody, 1000, &at);
	while (at != 0);
	memcpy(first, order, sizeof first);
	forget_seen();
	do
		page(anybody, 7, &at);
	while (at != 0);
	assert_memory_equal(order, first, sizeof first);
}

static void a_page_has_one_publishers_topics_if_asked(void **state)
{
	uint64_t at = 0;

	(void)state;
	publish_numbers(0, TOPICS);
	forget_seen();
	do
		page(SPAN("bob"), 10, &at);
	while (at != 0);
	for (unsigned i = 0; i < TOPICS; i++)
		assert_int_equal(seen[i], i % 2);
	do
		page(SPAN("bo"), 10, &at);
	while (at != 0);
	assert_int_equal(seen_count, TOPICS / 2);
}

/* Tables grow, and shrink, between the pages. */
static void while_others_come_and_go_a_topic_is_told_exactly_once(void **state)
{
	static struct topic *stay[100];
	uint64_t at = 0;
	char text[16];
	bool is_odd = false;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		struct topic_key key = number_key(i, text);
		stay[i] = join(&key, 0);
	}
	forget_seen();
	do {
		page(anybody, 1, &at);
		is_odd = !is_odd;
		if (is_odd)
			publish_numbers(100, TOPICS);
		else
			forget_history();
	} while (at != 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(seen[i], 1);
		leave(stay[i], 0);
	}
}

/* A call is short however few topics are the publisher's. */
static void a_call_looks_at_so_many_topics_and_then_says_where_to_go_on(
	void **state)
{
	struct topic_key key = {{"alice", 5}, {NULL, 0}};
	uint64_t at = 0;
	unsigned calls = 0;

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		key.name = (struct span){(char *)&i, sizeof i};
		publish(&key);
	}
	assert_int_equal(registry_topics(registry), 50000);
	publish(&sports);
	told = (struct told){0};
	do {
		calls++;
		assert_int_equal(registry_page(registry, SPAN("bob"), 1000, &at,
					       on_topic, &told),
				 0);
	} while (at != 0);
	assert_int_equal(told.times, 1);
	assert_string_equal(told.name, "sports");
	assert_in_range(calls, 3, 20);
}

static void without_topics_there_is_one_empty_page(void **state)
{
	uint64_t at = 0;

	(void)state;
	forget_seen();
	page(anybody, 1000, &at);
	assert_int_equal(at, 0);
	publish_numbers(0, 100);
	forget_history();
	page(anybody, 1000, &at);
	assert_int_equal(at, 0);
	assert_int_equal(seen_count, 0);
}

/* A client may send any number. */
static void any_number_is_somewhere_to_go_on(void **state)
{
	uint64_t at = UINT64_MAX;
	uint64_t random = 1;

	(void)state;
	publish_numbers(0, TOPICS);
	forget_seen();
	page(anybody, 1000, &at);
	assert_int_equal(at, 0);
	assert_true(seen_count <= 1);
	for (int i = 0; i < 1000; i++) {
		at = (uint64_t)random_below(&random, UINT32_MAX) << 32 |
		     random_below(&random, UINT32_MAX);
		uint64_t before = at;
		page(anybody, 10, &at);
		assert_true(at == 0 || at > before);
	}
}

static void page_of_none(void *unused)
{
	uint64_t at = 0;

	(void)unused;
	registry_page(registry, anybody, 0, &at, on_number, NULL);
}

static void page_of_too_many(void *unused)
{
	uint64_t at = 0;

	(void)unused;
	registry_page(registry, anybody, 1001, &at, on_number, NULL);
}

static void a_limit_of_none_or_above_a_thousand_aborts(void **state)
{
	(void)state;
	assert_true(aborts(page_of_none, NULL));
	assert_true(aborts(page_of_too_many, NULL));
}

static void looking_needs_no_memory(void **state)
{
	uint64_t at = 0;

	(void)state;
	OOM_OR_SKIP();
	publish_numbers(0, 100);
	forget_seen();
	oom_fail_at(1);
	registry_page(registry, anybody, 1000, &at, on_number, NULL);
	assert_false(oom_end());
	assert_int_equal(seen_count, 100);
}

/* --- saving and restoring --------------------------------------------------*/

static void all_topics_are_visited_those_silent_for_longest_first(void **state)
{
	struct topic *t = join(&news, 0);
	char text[16];

	(void)state;
	forget_seen();
	for (unsigned i = 0; i < 100; i++) {
		struct topic_key key = number_key(i, text);
		publish_later(&key, 0);
	}
	for (unsigned i = 0; i < 100; i += 3) {
		struct topic_key key = number_key(i, text);
		publish_later(&key, 2 * SECOND);
	}
	/* As the text of its name is no number, it is told as "0". */
	assert_int_equal(registry_visit_all(registry, on_number, NULL), 0);
	assert_int_equal(seen_count, 101);
	assert_int_equal(seen[0], 2);
	for (unsigned i = 1; i < 66; i++)
		assert_true(order[i] > order[i - 1] && order[i] % 3 != 0);
	for (unsigned i = 0; i < 34; i++)
		assert_int_equal(order[66 + i], 3 * i);
	assert_int_equal(order[100], 0);
	leave(t, 0);
}

static void the_last_sequence_is_the_highest_there_was(void **state)
{
	(void)state;
	assert_int_equal(registry_last_sequence(registry), 0);
	publish(&news);
	for (unsigned i = 0; i < 7; i++)
		publish(&weather);
	publish_numbers(0, 100);
	assert_int_equal(registry_last_sequence(registry), 7);
	forget_history();
	assert_int_equal(registry_last_sequence(registry), 7);
}

static void a_registry_goes_on_in_an_epoch_above_its_last_number(void **state)
{
	(void)state;
	registry_set_epoch(registry, 12345, 1000);
	assert_int_equal(registry_epoch(registry), 12345);
	assert_int_equal(registry_last_sequence(registry), 1000);
	publish(&news);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 1001);
	assert_int_equal(told.messages_count, 1);
}

static void set_epoch(void *unused)
{
	(void)unused;
	registry_set_epoch(registry, 1, 1);
}

static void once_there_is_a_topic_its_epoch_is_fixed(void **state)
{
	(void)state;
	publish(&news);
	assert_true(aborts(set_epoch, NULL));
}

/* A saved topic with `count` messages up to `sequence`, `age` old. */
static struct message *saved_messages[2 * SIZE];

static struct registry_topic saved_topic(const struct topic_key *key,
					 uint64_t sequence, unsigned count,
					 uint64_t age_ns)
{
	struct registry_topic t = {
		.key = *key,
		.sequence = sequence,
		.used_ns = start - age_ns,
		.messages = saved_messages,
		.messages_count = count,
	};
	for (unsigned i = 0; i < count; i++) {
		struct message *m = message_new(SPAN("x"), false, WORKERS);
		assert_non_null(m);
		m->accepted_ns = start - age_ns;
		m->sequence = sequence - (count - 1 - i);
		saved_messages[i] = m;
	}
	return t;
}

static void what_was_saved_is_there_again(void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 3, SECOND);

	(void)state;
	registry_set_epoch(registry, 1, 20);
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 10);
	assert_int_equal(told.messages_count, 3);
	assert_int_equal(told.subscribers, 0);
	assert_int_equal(told.used_ns, start - SECOND);
	assert_true(registry_history_bytes(registry) > 0);
	publish(&news);
	publish(&weather);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 11);
	assert_int_equal(told.messages_count, 4);
	assert_int_equal(find(&weather), 0);
	assert_int_equal(told.sequence, 21);
}

static void a_number_alone_is_restored_too(void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 0, SECOND);

	(void)state;
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 10);
	assert_int_equal(told.messages_count, 0);
}

static void of_too_many_messages_the_last_are_restored(void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 2 * SIZE, SECOND);

	(void)state;
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 10);
	assert_int_equal(told.messages_count, SIZE);
}

static void messages_and_topics_that_are_too_old_are_not_restored(void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 3, OLD);

	(void)state;
	t.used_ns = start;
	saved_messages[2]->accepted_ns = start;
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.messages_count, 1);
	t = saved_topic(&weather, 10, 3, OLD);
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&weather), UV_ENOENT);
}

static void of_those_that_are_too_old_the_last_is_restored_if_it_is_retained(
	void **state)
{
	struct registry_options options = options_of(SIZE, TTL, BYTES);

	(void)state;
	registry_free(registry);
	options.retains = true;
	assert_int_equal(registry_new(&registry, &options), 0);
	struct registry_topic t = saved_topic(&news, 10, 3, 100 * OLD);
	assert_int_equal(registry_restore(registry, &t), 0);
	t = saved_topic(&weather, 10, 0, 100 * OLD);
	assert_int_equal(registry_restore(registry, &t), 0);
	while (registry_age(registry, start))
		;
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 10);
	assert_int_equal(told.messages_count, 1);
	assert_int_equal(find(&weather), UV_ENOENT);
	/* One more life. */
	assert_int_equal(registry_visit_all(registry, on_topic, &told), 0);
	assert_int_equal(told.messages_count, 1);
	assert_int_equal(told.used_ns, start - 100 * OLD);
}

/* Publishers note the time before they get a number. */
static void what_is_restored_has_no_gap_though_times_are_not_in_order(
	void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 3, SECOND);

	(void)state;
	saved_messages[1]->accepted_ns = start - OLD;
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.messages_count, 3);
}

static void beyond_the_bytes_there_are_those_restored_first_go(void **state)
{
	char text[16];

	(void)state;
	registry_free(registry);
	assert_int_equal(new_registry(SIZE, TTL, 4000), 0);
	for (unsigned i = 0; i < 50; i++) {
		struct topic_key key = number_key(i, text);
		struct registry_topic t = saved_topic(&key, 1, 1, SECOND);
		assert_int_equal(registry_restore(registry, &t), 0);
		assert_true(registry_history_bytes(registry) <= 4000);
	}
	size_t topics = registry_topics(registry);
	assert_in_range(topics, 4, 20);
	forget_seen();
	assert_int_equal(registry_visit_all(registry, on_number, NULL), 0);
	for (unsigned i = 0; i < topics; i++)
		assert_int_equal(order[i], 50 - topics + i);
}

static void without_history_nothing_is_restored(void **state)
{
	struct registry_topic t = saved_topic(&news, 10, 3, SECOND);

	(void)state;
	registry_free(registry);
	assert_int_equal(new_registry(0, 0, 0), 0);
	registry_set_epoch(registry, 1, 10);
	assert_int_equal(registry_restore(registry, &t), 0);
	assert_int_equal(registry_topics(registry), 0);
	publish(&news);
	assert_int_equal(registry_last_sequence(registry), 11);
}

static void a_topic_there_is_already_is_eexist(void **state)
{
	struct registry_topic t;

	(void)state;
	publish(&news);
	t = saved_topic(&news, 10, 3, SECOND);
	assert_int_equal(registry_restore(registry, &t), UV_EEXIST);
	assert_int_equal(find(&news), 0);
	assert_int_equal(told.sequence, 1);
}

static void numbers_with_a_gap_are_einval(void **state)
{
	struct registry_topic t;

	(void)state;
	for (unsigned wrong = 0; wrong < 3; wrong++) {
		t = saved_topic(&news, 10, 3, SECOND);
		saved_messages[wrong]->sequence++;
		assert_int_equal(registry_restore(registry, &t), UV_EINVAL);
	}
	t = saved_topic(&news, 10, 3, SECOND);
	t.sequence = 11;
	assert_int_equal(registry_restore(registry, &t), UV_EINVAL);
	t = saved_topic(&news, 2, 3, SECOND);
	assert_int_equal(registry_restore(registry, &t), UV_EINVAL);
	assert_int_equal(registry_topics(registry), 0);
}

static void without_memory_a_topic_is_not_restored(void **state)
{
	unsigned nth = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct registry_topic t = saved_topic(&news, 10, 1, SECOND);
		oom_fail_at(++nth);
		rv = registry_restore(registry, &t);
		oom_end();
		assert_int_equal(registry_topics(registry), rv == 0);
	} while (rv == UV_ENOMEM);
	assert_int_equal(rv, 0);
	assert_true(nth > 1);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, open_registry, close_and_weigh)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_topic_is_told_with_its_history_in_order),
		TEST(a_topic_that_was_looked_at_goes_on_as_before),
		TEST(subscribers_are_told_of_all_workers),
		TEST(what_is_too_old_is_not_told),
		TEST(a_topic_there_is_not_is_enoent),
		TEST(what_the_visitor_returns_is_returned),
		TEST(pages_of_any_length_tell_each_topic_once),
		TEST(their_order_is_the_same_each_time),
		TEST(a_page_has_one_publishers_topics_if_asked),
		TEST(while_others_come_and_go_a_topic_is_told_exactly_once),
		TEST(a_call_looks_at_so_many_topics_and_then_says_where_to_go_on),
		TEST(without_topics_there_is_one_empty_page),
		TEST(any_number_is_somewhere_to_go_on),
		TEST(a_limit_of_none_or_above_a_thousand_aborts),
		TEST(looking_needs_no_memory),
		TEST(all_topics_are_visited_those_silent_for_longest_first),
		TEST(the_last_sequence_is_the_highest_there_was),
		TEST(a_registry_goes_on_in_an_epoch_above_its_last_number),
		TEST(once_there_is_a_topic_its_epoch_is_fixed),
		TEST(what_was_saved_is_there_again),
		TEST(a_number_alone_is_restored_too),
		TEST(of_too_many_messages_the_last_are_restored),
		TEST(messages_and_topics_that_are_too_old_are_not_restored),
		TEST(of_those_that_are_too_old_the_last_is_restored_if_it_is_retained),
		TEST(what_is_restored_has_no_gap_though_times_are_not_in_order),
		TEST(beyond_the_bytes_there_are_those_restored_first_go),
		TEST(without_history_nothing_is_restored),
		TEST(a_topic_there_is_already_is_eexist),
		TEST(numbers_with_a_gap_are_einval),
		TEST(without_memory_a_topic_is_not_restored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
