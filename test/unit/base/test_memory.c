/* test_memory.c - what src/base/memory.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "base/memory.h"

#define MIB     (size_t)1048576
#define LIMIT   (1000 * MIB)
#define TEST(f) cmocka_unit_test_setup(f, without_a_limit)

/* The process's own memory is far below every limit here, so that comparing
 * with it changes nothing, but where that is what is tested. */
static int without_a_limit(void **state)
{
	(void)state;
	memory_settle();
	memory_set_limit(0, 0);
	return 0;
}

static void is_near(size_t is, size_t expected, size_t slack)
{
	assert_in_range(is, expected > slack ? expected - slack : 0,
			expected + slack);
}

static void without_a_limit_all_is_fine(void **state)
{
	(void)state;
	memory_charge(SIZE_MAX / 4);
	assert_int_equal(memory_level(), MEMORY_FINE);
	assert_int_equal(memory_limit(), 0);
	memory_credit(SIZE_MAX / 4);
}

static void the_base_counts(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, 300 * MIB);
	assert_int_equal(memory_used(), 300 * MIB);
	assert_int_equal(memory_limit(), LIMIT);
}

static void the_level_rises_and_falls_in_three_steps(void **state)
{
	static const struct {
		unsigned percent;
		enum memory_level below;
		enum memory_level from;
	} steps[] = {{80, MEMORY_FINE, MEMORY_TIGHT},
		     {90, MEMORY_TIGHT, MEMORY_SCARCE},
		     {100, MEMORY_SCARCE, MEMORY_FULL}};

	(void)state;
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		size_t mark = LIMIT / 100 * steps[i].percent;
		memory_set_limit(LIMIT, mark - 1);
		assert_int_equal(memory_level(), steps[i].below);
		memory_charge(1);
		memory_settle();
		assert_int_equal(memory_level(), steps[i].from);
		memory_credit(1);
		memory_settle();
		assert_int_equal(memory_level(), steps[i].below);
	}
}

static void what_is_refused_depends_on_the_level(void **state)
{
	static const struct {
		unsigned percent;
		unsigned allowed; /* a bit for each use */
	} steps[] = {{79, 0x1f}, {80, 0x1e}, {89, 0x1e},
		     {90, 0x18}, {99, 0x18}, {100, 0}};

	(void)state;
	assert_int_equal(MEMORY_FOR_SUBSCRIBING, 0);
	assert_int_equal(MEMORY_FOR_PUBLISHING, 4);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		unsigned allowed = 0;
		memory_set_limit(LIMIT, LIMIT / 100 * steps[i].percent);
		for (unsigned use = 0; use < MEMORY_USES_COUNT; use++)
			allowed |= (unsigned)memory_allows((enum memory_use)use)
				   << use;
		assert_int_equal(allowed, steps[i].allowed);
	}
}

static void what_is_charged_is_told_in_the_end(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, 100 * MIB);
	for (int i = 0; i < 1000; i++)
		memory_charge(999);
	is_near(memory_used(), 100 * MIB + 999000, MEMORY_SLACK_BYTES);
	memory_settle();
	assert_int_equal(memory_used(), 100 * MIB + 999000);
	for (int i = 0; i < 1000; i++)
		memory_credit(999);
	memory_settle();
	assert_int_equal(memory_used(), 100 * MIB);
}

static void a_large_charge_is_told_at_once(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, 500 * MIB);
	memory_charge(400 * MIB);
	assert_int_equal(memory_level(), MEMORY_SCARCE);
	memory_credit(400 * MIB);
	assert_int_equal(memory_level(), MEMORY_FINE);
}

static void a_credit_that_is_told_before_its_charge_is_no_debt(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, 0);
	memory_credit(MIB);
	assert_int_equal(memory_used(), 0);
	assert_int_equal(memory_level(), MEMORY_FINE);
	memory_charge(MIB);
	memory_settle();
}

static void what_the_kernel_holds_counts_at_once(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, 700 * MIB);
	memory_charge_kernel(100 * MIB);
	assert_int_equal(memory_used(), 800 * MIB);
	assert_int_equal(memory_level(), MEMORY_TIGHT);
	memory_credit_kernel(100 * MIB);
	assert_int_equal(memory_level(), MEMORY_FINE);
}

static void charge_and_settle(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100000; i++) {
		memory_charge(100);
		memory_credit(50);
	}
	memory_settle();
}

static void threads_charges_add_up(void **state)
{
	uv_thread_t threads[4];

	(void)state;
	memory_set_limit(LIMIT, 100 * MIB);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			uv_thread_create(&threads[i], charge_and_settle, NULL),
			0);
	for (int i = 0; i < 4; i++)
		uv_thread_join(&threads[i]);
	assert_int_equal(memory_used(), 100 * MIB + 4 * 100000 * 50);
}

/* A sanitizer's memory counts as the process's own: it is not compared there.
 */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static void memory_that_is_touched_is_its_own(void **state)
{
	size_t before = memory_own();

	(void)state;
	assert_true(before > 100 * 1024);
	char *bytes = malloc(64 * MIB);
	assert_non_null(bytes);
	memset(bytes, 1, 64 * MIB);
	is_near(memory_own(), before + 64 * MIB, 8 * MIB);
	free(bytes);
}

/* As the pages of a library are: any process may map the same. */
static void pages_of_a_file_are_not_its_own_until_they_are_changed(void **state)
{
	FILE *file = tmpfile();
	size_t before = memory_own();
	size_t resident = memory_resident();

	(void)state;
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), 64 * MIB), 0);
	char *bytes = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			   fileno(file), 0);
	assert_true(bytes != MAP_FAILED);
	size_t sum = 0;
	for (size_t i = 0; i < 64 * MIB; i += 4096)
		sum += (unsigned char)bytes[i];
	assert_int_equal(sum, 0);
	is_near(memory_resident(), resident + 64 * MIB, 8 * MIB);
	is_near(memory_own(), before, 8 * MIB);
	memset(bytes, 1, 64 * MIB);
	is_near(memory_own(), before + 64 * MIB, 8 * MIB);
	munmap(bytes, 64 * MIB);
	fclose(file);
}

static void what_is_occupied_without_a_charge_counts_too(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, memory_own());
	char *bytes = malloc(200 * MIB);
	assert_non_null(bytes);
	memset(bytes, 1, 200 * MIB);
	size_t used = memory_used();
	memory_measure();
	is_near(memory_used(), used + 200 * MIB, 8 * MIB);
	free(bytes);
	memory_measure();
	is_near(memory_used(), used, 8 * MIB);
}

static void what_is_charged_but_not_touched_counts_as_charged(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, memory_own());
	size_t used = memory_used();
	memory_charge(300 * MIB);
	memory_measure();
	assert_int_equal(memory_used(), used + 300 * MIB);
	memory_credit(300 * MIB);
}

static void a_thread_that_charges_much_compares_by_itself(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, memory_own());
	size_t used = memory_used();
	char *bytes = malloc(200 * MIB);
	assert_non_null(bytes);
	memset(bytes, 1, 200 * MIB);
	for (size_t i = 0; i <= MEMORY_STEP_BYTES / 1000; i++) {
		memory_charge(1000);
		memory_credit(1000);
	}
	is_near(memory_used(), used + 200 * MIB, 8 * MIB);
	free(bytes);
	memory_measure();
}

/* Blocks that were freed, but for the last: the top of the heap does not fall,
 * so the allocator keeps the pages, in large runs that it can give back. */
enum {
	BLOCKS = 4096,
	BLOCK_BYTES = 16384
};
static char *blocks[BLOCKS];

static void allocate_blocks(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = malloc(BLOCK_BYTES);
		assert_non_null(blocks[i]);
		memset(blocks[i], 1, BLOCK_BYTES);
	}
}

static void free_blocks(void)
{
	for (int i = 0; i < BLOCKS - 1; i++)
		free(blocks[i]);
}

static void what_the_allocator_keeps_is_given_back(void **state)
{
	const size_t budget = 128 * MIB;

	(void)state;
	memory_set_limit(budget, memory_own());
	size_t before = memory_own();
	allocate_blocks();
	free_blocks();
	assert_true(memory_own() > before + 32 * MIB);
	memory_measure();
	assert_true(memory_own() < before + 16 * MIB);
	assert_int_equal(memory_level(), MEMORY_FINE);
	free(blocks[BLOCKS - 1]);
}

/* Has the blocks, and no more; `others` are charged besides. */
static size_t have_had_blocks(size_t others)
{
	size_t before = memory_own();

	memory_charge(others);
	allocate_blocks();
	memory_charge(BLOCKS * BLOCK_BYTES);
	memory_give_back();
	free_blocks();
	memory_give_back();
	assert_true(memory_own() > before + 32 * MIB);
	memory_credit(BLOCKS * BLOCK_BYTES);
	return before;
}

static void what_is_charged_no_more_is_given_back_without_a_limit(void **state)
{
	size_t before = have_had_blocks(0);

	(void)state;
	/* It may have to wait, as the last test made it do the same. */
	time_t end = time(NULL) + 60;
	while (memory_own() >= before + 16 * MIB) {
		memory_give_back();
		assert_true(time(NULL) < end);
	}
	free(blocks[BLOCKS - 1]);
}

static void while_charges_rise_and_fall_only_much_is_given_back(void **state)
{
	const size_t others = 1000 * MIB;
	size_t before = have_had_blocks(others);

	(void)state;
	for (int i = 0; i < 1000; i++) {
		size_t some = (size_t)(1 + i % 2) * MIB;
		memory_charge(some);
		memory_give_back();
		memory_credit(some);
	}
	assert_true(memory_own() > before + 32 * MIB);
	memory_credit(others);
	free(blocks[BLOCKS - 1]);
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_a_limit_all_is_fine),
		TEST(the_base_counts),
		TEST(the_level_rises_and_falls_in_three_steps),
		TEST(what_is_refused_depends_on_the_level),
		TEST(what_is_charged_is_told_in_the_end),
		TEST(a_large_charge_is_told_at_once),
		TEST(a_credit_that_is_told_before_its_charge_is_no_debt),
		TEST(what_the_kernel_holds_counts_at_once),
		TEST(threads_charges_add_up),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		TEST(memory_that_is_touched_is_its_own),
		TEST(pages_of_a_file_are_not_its_own_until_they_are_changed),
		TEST(what_is_occupied_without_a_charge_counts_too),
		TEST(what_is_charged_but_not_touched_counts_as_charged),
		TEST(a_thread_that_charges_much_compares_by_itself),
		TEST(what_the_allocator_keeps_is_given_back),
		TEST(what_is_charged_no_more_is_given_back_without_a_limit),
		TEST(while_charges_rise_and_fall_only_much_is_given_back),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
