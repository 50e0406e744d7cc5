/* test_sequenced.c - what src/topics/sequenced.c promises where a log that
 * others share gives the numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boxes.h"
#include "topics/registry.h"

#define TTL_MS 60000
#define EPOCH  7

static const struct topic_key news = {{"alice", 5}, {"news", 4}};

static int open_log(void **state)
{
	const struct registry_options options = {
		.mailboxes = box_pointers,
		.workers = WORKERS,
		.history_size = 4,
		.history_ttl_ms = TTL_MS,
		.history_bytes = 65536,
		.replay_bytes = 65536,
		.is_log = true,
	};
	(void)state;
	int rv = open_boxes(SIZE_MAX);
	return rv != 0 ? rv : registry_new(&registry, &options);
}

static void drop_mail(void)
{
	struct mail mail;

	for (unsigned w = 0; w < WORKERS; w++) {
		if (!mailbox_take(&boxes[w], &mail))
			continue;
		for (struct message *m = mail.messages; m != NULL;) {
			struct message *next = m->links[w].next;
			message_unref(m, 1);
			m = next;
		}
	}
}

static void apply(uint64_t number)
{
	struct message *m = message_new(SPAN("x"), false, WORKERS);

	assert_non_null(m);
	m->sequence = number;
	m->accepted_ns = uv_hrtime();
	registry_apply(registry, &news, m);
	registry_reach(registry, number);
}

static struct registry_join join(uint64_t epoch, uint64_t after)
{
	struct registry_join j = {.member = members[0],
				  .resumes = true,
				  .epoch = epoch,
				  .after = after};

	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	return j;
}

static void leave(struct registry_join *j, uint64_t epoch)
{
	uint64_t posted;

	if (j->is_behind)
		registry_give_up(registry, j->topic, epoch, j->since);
	registry_leave(registry, j->topic, 0, &posted);
}

/* A topic that nobody published to, and one that has a history, are listed
 * apart: one in both lists would be freed twice. */
static void a_topic_that_was_only_subscribed_is_applied_to(void **state)
{
	(void)state;
	registry_renew(registry, EPOCH, 0);
	struct registry_join j = join(EPOCH, 0);
	leave(&j, EPOCH);
	apply(1024);
	assert_true(registry_history_bytes(registry) > 0);
	registry_age(registry, uv_hrtime() + 3ULL * TTL_MS * 1000000);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void a_topic_that_is_new_is_aged_like_others(void **state)
{
	(void)state;
	registry_renew(registry, EPOCH, 0);
	apply(1024);
	struct registry_join j = join(EPOCH, 1024);
	apply(2048);
	leave(&j, EPOCH);
	drop_mail();
	registry_age(registry, uv_hrtime() + 3ULL * TTL_MS * 1000000);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
}

static void resuming_is_exact_from_any_number_that_was_applied(void **state)
{
	(void)state;
	registry_renew(registry, EPOCH, 1023);
	apply(1024);
	apply(2048);
	apply(9 * 1024);
	for (uint64_t after = 1023; after < 9 * 1024; after += 512) {
		struct registry_join j = join(EPOCH, after);
		assert_true(j.is_exact);
		assert_true(j.is_behind);
		leave(&j, EPOCH);
	}
	struct registry_join last = join(EPOCH, 9 * 1024);
	assert_true(last.is_exact);
	assert_false(last.is_behind);
	leave(&last, EPOCH);
	struct registry_join before = join(EPOCH, 1022);
	assert_false(before.is_exact);
	leave(&before, EPOCH);
}

static void a_subscriber_is_told_the_epoch_that_its_topic_is_in(void **state)
{
	(void)state;
	registry_renew(registry, EPOCH, 0);
	struct registry_join j = join(EPOCH, 0);
	assert_int_equal(j.topic_epoch, EPOCH);
	registry_renew(registry, EPOCH + 1, 4096);
	struct registry_join again = join(EPOCH, 0);
	assert_int_equal(again.topic_epoch, EPOCH + 1);
	assert_false(again.is_exact);
	assert_int_equal(again.since, 4096);
	leave(&again, EPOCH + 1);
	leave(&j, EPOCH);
	drop_mail();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_log, close_registry)
	const struct CMUnitTest tests[] = {
		TEST(a_topic_that_was_only_subscribed_is_applied_to),
		TEST(a_topic_that_is_new_is_aged_like_others),
		TEST(resuming_is_exact_from_any_number_that_was_applied),
		TEST(a_subscriber_is_told_the_epoch_that_its_topic_is_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
