/* test_deadline.c - what src/conn/deadline.c promises, on a real loop, which
 * ends by itself once nothing is set any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "aborts.h"
#include "conn/deadline.h"

#define SHORT     DEADLINE_IDLE /* 10 ms */
#define LONG      DEADLINE_HEAD /* 30 ms */
#define LONGEST   DEADLINE_LINGER
#define FIRED_MAX 1000

static const uint64_t durations_ms[DEADLINE_KINDS] = {
	[SHORT] = 10,
	[LONG] = 30,
	[DEADLINE_CLOSE] = 10, /* swept after SHORT in the same turn */
	[LONGEST] = 3600000,
	/* Not used, and so short that a wrong kind is seen. */
	[DEADLINE_BODY] = 1,
	[DEADLINE_WRITE] = 1,
	[DEADLINE_PING] = 1,
};

static uv_loop_t loop;
static struct deadlines all;

/* What has fired, in order. */
static struct {
	struct deadline *deadline;
	enum deadline_kind kind;
	uint64_t at_ms;
} fired[FIRED_MAX];
static unsigned fired_count;

/* What a test does where one fires; NULL: nothing. */
static void (*also)(struct deadline *d);

static void on_due(struct deadlines *of, struct deadline *d,
		   enum deadline_kind kind)
{
	assert_ptr_equal(of, &all);
	assert_true(fired_count < FIRED_MAX);
	fired[fired_count].deadline = d;
	fired[fired_count].kind = kind;
	fired[fired_count++].at_ms = uv_now(&loop);
	if (also != NULL)
		also(d);
}

static int open_loop(void **state)
{
	(void)state;
	fired_count = 0;
	also = NULL;
	alarm(60); /* a loop that does not end fails the program */
	return uv_loop_init(&loop) != 0 ||
	       deadlines_open(&all, &loop, durations_ms, on_due) != 0;
}

static int close_loop(void **state)
{
	(void)state;
	deadlines_close(&all);
	uv_run(&loop, UV_RUN_DEFAULT);
	alarm(0);
	return uv_loop_close(&loop);
}

static void run(void)
{
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static void assert_fired(unsigned i, const struct deadline *d,
			 enum deadline_kind kind)
{
	assert_true(i < fired_count);
	assert_ptr_equal(fired[i].deadline, d);
	assert_int_equal(fired[i].kind, kind);
}

static void nothing_fires_where_nothing_is_set(void **state)
{
	(void)state;
	run();
	assert_int_equal(fired_count, 0);
}

static void a_deadline_fires_once_and_not_before_its_time(void **state)
{
	struct deadline d = {0};
	uint64_t set_at = uv_now(&loop);

	(void)state;
	deadline_set(&all, &d, LONG);
	assert_int_equal(d.due_ms, set_at + 30);
	run();
	assert_int_equal(fired_count, 1);
	assert_fired(0, &d, LONG);
	assert_true(fired[0].at_ms >= set_at + 30);
}

static void deadlines_of_a_kind_fire_in_the_order_of_setting(void **state)
{
	struct deadline d[10] = {0};

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		deadline_set(&all, &d[i * 7 % 10], SHORT);
	run();
	assert_int_equal(fired_count, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_fired(i, &d[i * 7 % 10], SHORT);
}

static void a_shorter_kind_fires_first_though_it_was_set_last(void **state)
{
	struct deadline longer = {0};
	struct deadline shorter = {0};

	(void)state;
	deadline_set(&all, &longer, LONG);
	deadline_set(&all, &shorter, SHORT);
	run();
	assert_int_equal(fired_count, 2);
	assert_fired(0, &shorter, SHORT);
	assert_fired(1, &longer, LONG);
	assert_true(fired[1].at_ms >= longer.due_ms);
}

static void a_longer_kind_set_later_delays_nothing(void **state)
{
	struct deadline longest = {0};
	struct deadline shorter = {0};

	(void)state;
	deadline_set(&all, &shorter, SHORT);
	deadline_set(&all, &longest, LONGEST);
	while (fired_count == 0)
		uv_run(&loop, UV_RUN_ONCE);
	assert_fired(0, &shorter, SHORT);
	deadline_clear(&longest);
	uv_timer_stop(&all.timer);
}

static void setting_again_puts_it_behind_the_others(void **state)
{
	struct deadline a = {0};
	struct deadline b = {0};

	(void)state;
	deadline_set(&all, &a, SHORT);
	deadline_set(&all, &b, SHORT);
	deadline_set(&all, &a, SHORT);
	run();
	assert_int_equal(fired_count, 2);
	assert_fired(0, &b, SHORT);
	assert_fired(1, &a, SHORT);
}

static void setting_again_as_another_kind_replaces_the_first(void **state)
{
	struct deadline d = {0};
	uint64_t set_at = uv_now(&loop);

	(void)state;
	deadline_set(&all, &d, SHORT);
	deadline_set(&all, &d, LONG);
	run();
	assert_int_equal(fired_count, 1);
	assert_fired(0, &d, LONG);
	assert_true(fired[0].at_ms >= set_at + 30);
}

static struct deadline *other;
static enum deadline_kind other_kind;

static unsigned turns;
static unsigned fired_in_turn;
static unsigned most_in_a_turn;

static void on_turn(uv_prepare_t *prepare)
{
	unsigned now = fired_count - fired_in_turn;

	fired_in_turn = fired_count;
	most_in_a_turn = now > most_in_a_turn ? now : most_in_a_turn;
	turns++;
	if (fired_count == FIRED_MAX)
		uv_close((uv_handle_t *)prepare, NULL);
}

/* A storm of clients has its time-outs, pings and the like at once. */
static void of_many_at_once_some_fire_in_each_turn_of_the_loop(void **state)
{
	static struct deadline many[FIRED_MAX];
	uv_prepare_t prepare;

	(void)state;
	turns = fired_in_turn = most_in_a_turn = 0;
	assert_int_equal(uv_prepare_init(&loop, &prepare), 0);
	assert_int_equal(uv_prepare_start(&prepare, on_turn), 0);
	for (unsigned i = 0; i < FIRED_MAX; i++)
		deadline_set(&all, &many[i], i % 2 == 0 ? SHORT : LONG);
	uv_sleep(50);
	run();
	assert_int_equal(fired_count, FIRED_MAX);
	assert_true(most_in_a_turn <= FIRED_MAX / 3);
	assert_true(turns > 3);
}

static void set_other_once(struct deadline *d)
{
	(void)d;
	if (fired_count == 1)
		deadline_set(&all, other, other_kind);
}

static void setting_again_later_postpones(void **state)
{
	struct deadline first = {0};
	struct deadline postponed = {0};

	(void)state;
	deadline_set(&all, &first, SHORT);
	deadline_set(&all, &postponed, LONG);
	uint64_t due_ms = postponed.due_ms;
	other = &postponed;
	other_kind = LONG;
	also = set_other_once;
	uv_sleep(50); /* both are due, the second not any more */
	run();
	assert_int_equal(fired_count, 2);
	assert_fired(1, &postponed, LONG);
	assert_true(postponed.due_ms >= due_ms + 10);
	assert_true(fired[1].at_ms >= postponed.due_ms);
}

static void a_deadline_that_was_cleared_does_not_fire(void **state)
{
	struct deadline d[3] = {0};

	(void)state;
	for (int i = 0; i < 3; i++)
		deadline_set(&all, &d[i], SHORT);
	deadline_clear(&d[1]);
	run();
	assert_int_equal(fired_count, 2);
	assert_fired(0, &d[0], SHORT);
	assert_fired(1, &d[2], SHORT);
}

static void clearing_what_is_not_set_changes_nothing(void **state)
{
	struct deadline never = {0};
	struct deadline d = {0};

	(void)state;
	deadline_clear(&never);
	deadline_set(&all, &d, SHORT);
	deadline_clear(&d);
	deadline_clear(&d);
	run();
	assert_int_equal(fired_count, 0);
	deadline_set(&all, &d, SHORT);
	run();
	assert_int_equal(fired_count, 1);
	deadline_clear(&d);
}

static void once_all_are_cleared_the_loop_ends(void **state)
{
	struct deadline d[2] = {0};

	(void)state;
	deadline_set(&all, &d[0], SHORT);
	deadline_set(&all, &d[1], LONG);
	deadline_clear(&d[0]);
	deadline_clear(&d[1]);
	run();
	assert_int_equal(fired_count, 0);
}

static void set_again_thrice(struct deadline *d)
{
	if (fired_count < 4)
		deadline_set(&all, d, SHORT);
}

static void a_deadline_may_be_set_again_where_it_fires(void **state)
{
	struct deadline d = {0};

	(void)state;
	also = set_again_thrice;
	deadline_set(&all, &d, SHORT);
	run();
	assert_int_equal(fired_count, 4);
	for (unsigned i = 1; i < 4; i++) {
		assert_fired(i, &d, SHORT);
		assert_true(fired[i].at_ms >= fired[i - 1].at_ms + 10);
	}
}

static void a_shorter_one_may_be_set_where_one_fires(void **state)
{
	struct deadline first = {0};
	struct deadline shorter = {0};
	struct deadline longest = {0};

	(void)state;
	other = &shorter;
	other_kind = SHORT;
	also = set_other_once;
	deadline_set(&all, &longest, LONGEST);
	deadline_set(&all, &first, LONG);
	while (fired_count < 2)
		uv_run(&loop, UV_RUN_ONCE);
	assert_fired(0, &first, LONG);
	assert_fired(1, &shorter, SHORT);
	deadline_clear(&longest);
	uv_timer_stop(&all.timer);
}

static void clear_other(struct deadline *d)
{
	(void)d;
	deadline_clear(other);
}

/* Of the same kind and of a later one, which are swept in the same turn. */
static void a_deadline_cleared_where_another_fires_does_not_fire(void **state)
{
	static const enum deadline_kind kinds[] = {SHORT, DEADLINE_CLOSE};

	(void)state;
	also = clear_other;
	for (unsigned i = 0; i < 2; i++) {
		struct deadline d[2] = {0};
		deadline_set(&all, &d[0], SHORT);
		deadline_set(&all, &d[1], kinds[i]);
		assert_int_equal(d[1].due_ms, d[0].due_ms);
		other = &d[1];
		fired_count = 0;
		run();
		assert_int_equal(fired_count, 1);
		assert_fired(0, &d[0], SHORT);
	}
}

/* The timer is set for the next after each sweep: a kind's deadlines that were
 * set at different times fire at different times. */
static void each_fires_at_its_own_time(void **state)
{
	struct deadline first = {0};
	struct deadline early = {0};
	struct deadline late = {0};

	(void)state;
	other = &late;
	other_kind = LONG;
	also = set_other_once;
	deadline_set(&all, &first, SHORT);
	deadline_set(&all, &early, LONG);
	run();
	assert_int_equal(fired_count, 3);
	assert_fired(1, &early, LONG);
	assert_fired(2, &late, LONG);
	assert_true(fired[1].at_ms >= early.due_ms);
	assert_true(fired[2].at_ms >= late.due_ms);
	assert_true(late.due_ms >= early.due_ms + 10);
}

static void the_timer_works_again_after_a_pause(void **state)
{
	struct deadline d = {0};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		deadline_set(&all, &d, SHORT);
		run();
		assert_int_equal(fired_count, i + 1);
	}
}

static void close_all(void *unused)
{
	(void)unused;
	deadlines_close(&all);
}

static void closing_while_one_is_set_aborts(void **state)
{
	struct deadline d = {0};

	(void)state;
	deadline_set(&all, &d, SHORT);
	assert_true(aborts(close_all, NULL));
	deadline_clear(&d);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_loop, close_loop)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(nothing_fires_where_nothing_is_set),
		TEST(a_deadline_fires_once_and_not_before_its_time),
		TEST(deadlines_of_a_kind_fire_in_the_order_of_setting),
		TEST(of_many_at_once_some_fire_in_each_turn_of_the_loop),
		TEST(a_shorter_kind_fires_first_though_it_was_set_last),
		TEST(a_longer_kind_set_later_delays_nothing),
		TEST(setting_again_puts_it_behind_the_others),
		TEST(setting_again_as_another_kind_replaces_the_first),
		TEST(setting_again_later_postpones),
		TEST(a_deadline_that_was_cleared_does_not_fire),
		TEST(clearing_what_is_not_set_changes_nothing),
		TEST(once_all_are_cleared_the_loop_ends),
		TEST(a_deadline_may_be_set_again_where_it_fires),
		TEST(a_shorter_one_may_be_set_where_one_fires),
		TEST(a_deadline_cleared_where_another_fires_does_not_fire),
		TEST(each_fires_at_its_own_time),
		TEST(the_timer_works_again_after_a_pause),
		TEST(closing_while_one_is_set_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
