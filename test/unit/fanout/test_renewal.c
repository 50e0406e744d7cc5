/* test_renewal.c - what subscribers are told when all topics begin anew in
 * another epoch (registry_renew(), subscribers.h) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "office.h"

#define EPOCH        UINT64_C(0x1234567890abcdef)
#define BASE         1000
#define HISTORY_SIZE 8

/* Who was told, in order. */
static struct subscriber *told[4];
static unsigned told_count;

static void on_reset(struct subscribers *all, struct subscriber *s)
{
	(void)all;
	assert_true(told_count < sizeof told / sizeof told[0]);
	told[told_count++] = s;
}

static int set_up(void **state)
{
	int rv = set_up_with(state, HISTORY_SIZE);
	struct office *o = *state;

	for (unsigned w = 0; w < WORKERS; w++)
		o->subscribers[w].on_reset = on_reset;
	told_count = 0;
	return rv;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, office_tear_down)

static void put_from_to(struct office *o, struct buf *out, uint64_t from,
			uint64_t to)
{
	for (uint64_t n = from; n <= to; n++)
		put_form(o, out, "news", MESSAGE_EVENT, n);
}

static void each_message_has_an_id_of_the_epoch_it_was_published_in(
	void **state)
{
	struct office *o = *state;
	struct reader r = subscribe_in(o, 0, "news", MESSAGE_EVENT);
	struct buf expected = {0};

	put_from_to(o, &expected, 1, 2);
	publish_from_to(o, "news", 1, 2);
	registry_renew(o->registry, EPOCH, BASE);
	put_from_to(o, &expected, BASE + 1, BASE + 2);
	publish_from_to(o, "news", BASE + 1, BASE + 2);
	deliver(o, 0);
	expect_bytes(o, &r, (struct span){expected.bytes, expected.len});
	assert_int_equal(told_count, 1);
	assert_ptr_equal(told[0], &r.member->subscriber);
	buf_fini(&expected);
}

static void all_subscribers_of_all_topics_are_told_once(void **state)
{
	struct office *o = *state;
	struct reader a = subscribe(o, 0, "news");
	struct reader b = subscribe(o, 0, "news");
	struct reader c = subscribe(o, 1, "sports");

	registry_renew(o->registry, EPOCH, BASE);
	deliver(o, 0);
	assert_int_equal(told_count, 2);
	assert_true((told[0] == &a.member->subscriber &&
		     told[1] == &b.member->subscriber) ||
		    (told[1] == &a.member->subscriber &&
		     told[0] == &b.member->subscriber));
	deliver(o, 1);
	assert_int_equal(told_count, 3);
	assert_ptr_equal(told[2], &c.member->subscriber);
	assert_int_equal(subscribers_since(told[0]), BASE);
	assert_int_equal(o->subscribers[0].epoch, EPOCH);
	assert_int_equal(o->subscribers[1].epoch, EPOCH);
}

static void who_has_left_by_then_is_not_told(void **state)
{
	struct office *o = *state;
	struct reader gone = subscribe(o, 0, "news");
	struct reader r = subscribe(o, 0, "news");

	registry_renew(o->registry, EPOCH, BASE);
	office_leave(&gone);
	deliver(o, 0);
	assert_int_equal(told_count, 1);
	assert_ptr_equal(told[0], &r.member->subscriber);
}

/* The last one of a topic: the reset is all that still knows the topic. */
static void a_topic_that_nobody_waits_for_any_more_is_freed(void **state)
{
	struct office *o = *state;
	struct reader gone = subscribe(o, 0, "news");

	registry_renew(o->registry, EPOCH, BASE);
	office_leave(&gone);
	deliver(o, 0);
	assert_int_equal(told_count, 0);
	assert_int_equal(o->subscribers[0].count, 0);
}

static void history_that_one_still_had_to_get_is_void(void **state)
{
	struct office *o = *state;
	struct reader other = subscribe(o, 0, "news");

	publish_from_to(o, "news", 1, 4);
	deliver(o, 0);
	expect_from_to(o, &other, "news", 1, 4);
	struct reader r = connect_reader(o, 0, false);
	struct topic_key key = key_of("news");
	struct subscribers_resume resume = {.resumes = true,
					    .epoch =
						    registry_epoch(o->registry),
					    .after = 1};
	assert_int_equal(subscribers_add(r.member->all, &r.member->subscriber,
					 r.conn, &key, &resume, NULL),
			 0);
	registry_renew(o->registry, EPOCH, BASE);
	deliver(o, 0);
	assert_int_equal(told_count, 2);
	publish_nth(o, "news", BASE + 1);
	deliver(o, 0);
	expect_from_to(o, &r, "news", BASE + 1, BASE + 1);
	expect_from_to(o, &other, "news", BASE + 1, BASE + 1);
}

static void who_subscribes_before_the_worker_knows_comes_again(void **state)
{
	struct office *o = *state;
	struct reader r = connect_reader(o, 0, false);
	struct topic_key key = key_of("news");

	registry_renew(o->registry, EPOCH, BASE);
	assert_int_equal(subscribers_add(r.member->all, &r.member->subscriber,
					 r.conn, &key, NULL, NULL),
			 UV_EAGAIN);
	assert_int_equal(o->subscribers[0].count, 0);
	deliver(o, 0);
	join(&r, "news");
	publish_nth(o, "news", BASE + 1);
	deliver(o, 0);
	expect_from_to(o, &r, "news", BASE + 1, BASE + 1);
	assert_int_equal(told_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_message_has_an_id_of_the_epoch_it_was_published_in),
		TEST(all_subscribers_of_all_topics_are_told_once),
		TEST(who_has_left_by_then_is_not_told),
		TEST(a_topic_that_nobody_waits_for_any_more_is_freed),
		TEST(history_that_one_still_had_to_get_is_void),
		TEST(who_subscribes_before_the_worker_knows_comes_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
