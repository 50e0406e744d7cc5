/* test_lock.c - what src/base/lock.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "aborts.h"
#include "base/lock.h"

static struct lock stripe;
static struct rwlock shards[3];
static struct lock topic;
static struct lock leaves[2];

static int set_up(void **state)
{
	(void)state;
	int rv = lock_init(&stripe, LOCK_STRIPE);
	for (int i = 0; i < 3 && rv == 0; i++)
		rv = rwlock_init(&shards[i], LOCK_SHARD);
	if (rv == 0)
		rv = lock_init_short(&topic, LOCK_TOPIC);
	for (int i = 0; i < 2 && rv == 0; i++)
		rv = lock_init(&leaves[i], LOCK_LEAF);
	return rv;
}

static int tear_down(void **state)
{
	(void)state;
	lock_fini(&stripe);
	for (int i = 0; i < 3; i++)
		rwlock_fini(&shards[i]);
	lock_fini(&topic);
	lock_fini(&leaves[0]);
	lock_fini(&leaves[1]);
	return 0;
}

static void acquire_in_order(void)
{
	lock_acquire(&stripe);
	for (int i = 0; i < 3; i++)
		rwlock_read_acquire(&shards[i]);
	lock_acquire(&topic);
	lock_acquire(&leaves[0]);
}

static void release_out_of_order(void)
{
	for (int i = 0; i < 3; i++)
		rwlock_read_release(&shards[i]);
	lock_release(&stripe);
	lock_release(&leaves[0]);
	lock_release(&topic);
}

static void locks_are_taken_in_order_and_released_in_any(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		acquire_in_order();
		CHECK_HOLDS(&stripe);
		CHECK_HOLDS(&shards[1]);
		CHECK_HOLDS(&topic);
		CHECK_HOLDS(&leaves[0]);
		release_out_of_order();
	}
	rwlock_write_acquire(&shards[1]);
	CHECK_HOLDS(&shards[1]);
	CHECK_HOLDS_FOR_WRITING(&shards[1]);
	rwlock_write_release(&shards[1]);
}

#ifdef ISIMUD_DEBUG

static void topic_then_shard(void *arg)
{
	(void)arg;
	lock_acquire(&topic);
	rwlock_read_acquire(&shards[0]);
}

static void shards_downwards(void *arg)
{
	(void)arg;
	rwlock_read_acquire(&shards[1]);
	rwlock_read_acquire(&shards[0]);
}

static void a_shard_twice(void *arg)
{
	(void)arg;
	rwlock_read_acquire(&shards[1]);
	rwlock_read_acquire(&shards[1]);
}

static void two_leaves(void *arg)
{
	(void)arg;
	lock_acquire(&leaves[0]);
	lock_acquire(&leaves[1]);
}

static void one_that_was_not_taken(void *arg)
{
	(void)arg;
	lock_acquire(&leaves[0]);
	lock_release(&leaves[1]);
}

static void wrong_order_ends_the_process(void **state)
{
	(void)state;
	assert_true(aborts(topic_then_shard, NULL));
	assert_true(aborts(shards_downwards, NULL));
	assert_true(aborts(a_shard_twice, NULL));
	assert_true(aborts(two_leaves, NULL));
	assert_true(aborts(one_that_was_not_taken, NULL));
}

static void check_holds_topic(void *arg)
{
	(void)arg;
	CHECK_HOLDS(&topic);
}

static void check_for_writing_what_is_held_for_reading(void *arg)
{
	(void)arg;
	rwlock_read_acquire(&shards[0]);
	CHECK_HOLDS_FOR_WRITING(&shards[0]);
}

static void check_on_another_thread(void *arg)
{
	uv_thread_t thread;

	(void)arg;
	lock_acquire(&topic);
	uv_thread_create(&thread, check_holds_topic, NULL);
	uv_thread_join(&thread);
}

static void a_lock_that_is_not_held_ends_the_process(void **state)
{
	(void)state;
	assert_true(aborts(check_holds_topic, NULL));
	assert_true(aborts(check_for_writing_what_is_held_for_reading, NULL));
	assert_true(aborts(check_on_another_thread, NULL));
}

#else

static void release_builds_add_nothing(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct lock), sizeof(uv_mutex_t));
	assert_int_equal(sizeof(struct rwlock), sizeof(uv_rwlock_t));
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locks_are_taken_in_order_and_released_in_any),
#ifdef ISIMUD_DEBUG
		cmocka_unit_test(wrong_order_ends_the_process),
		cmocka_unit_test(a_lock_that_is_not_held_ends_the_process),
#else
		cmocka_unit_test(release_builds_add_nothing),
#endif
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
