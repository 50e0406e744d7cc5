/* test_buf.c - what src/base/buf.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/buf.h"

static void zeroed_memory_is_an_empty_buffer(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(b.len, 1);
	assert_memory_equal(b.bytes, "x", 1);
	buf_fini(&b);
}

static void what_is_appended_stands_behind_what_was_there(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append_text(&b, "news"), 0);
	assert_int_equal(buf_append(&b, "\0paper", 6), 0);
	assert_int_equal(b.len, 10);
	assert_memory_equal(b.bytes, "news\0paper", 10);
	buf_fini(&b);
}

static void appending_nothing_changes_nothing(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_null(b.bytes);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, 0);
}

static void room_that_was_reserved_is_used_without_moving(void **state)
{
	struct buf b = {0};
	const char *before;

	(void)state;
	assert_int_equal(buf_reserve(&b, 1000), 0);
	assert_int_equal(b.len, 0);
	assert_true(b.cap >= 1000);
	before = b.bytes;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_ptr_equal(b.bytes, before);
	buf_fini(&b);
}

static void growing_byte_by_byte_moves_a_logarithmic_number_of_times(
	void **state)
{
	struct buf b = {0};
	unsigned grown = 0;

	(void)state;
	for (size_t i = 0; i < 1 << 20; i++) {
		size_t cap = b.cap;

		assert_int_equal(buf_append(&b, "x", 1), 0);
		grown += b.cap != cap;
	}
	assert_in_range(grown, 1, 20);
	assert_in_range(b.cap, 1 << 20, 2 << 20);
	buf_fini(&b);
}

static void consuming_drops_bytes_at_the_front_and_keeps_memory(void **state)
{
	struct buf b = {0};
	size_t cap;

	(void)state;
	assert_int_equal(buf_append(&b, "newspaper", 9), 0);
	cap = b.cap;
	buf_consume(&b, 4);
	assert_int_equal(b.len, 5);
	assert_memory_equal(b.bytes, "paper", 5);
	buf_consume(&b, 5);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, cap);
	buf_fini(&b);
}

static void consuming_nothing_of_an_empty_buffer_is_fine(void **state)
{
	struct buf b = {0};

	(void)state;
	buf_consume(&b, 0);
	assert_null(b.bytes);
	assert_int_equal(b.len, 0);
}

static void a_length_that_overflows_is_enomem_and_changes_nothing(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append_text(&b, "news"), 0);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), UV_ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 3), UV_ENOMEM);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.bytes, "news", 4);
	buf_fini(&b);
}

/* AddressSanitizer and ThreadSanitizer abort by default where malloc() fails.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void memory_that_does_not_exist_is_enomem_and_changes_nothing(
	void **state)
{
	struct buf b = {0};
	size_t cap;

	(void)state;
	assert_int_equal(buf_append_text(&b, "news"), 0);
	cap = b.cap;
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 4), UV_ENOMEM);
	assert_int_equal(b.cap, cap);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.bytes, "news", 4);
	buf_fini(&b);
}

static void a_buffer_is_usable_after_its_memory_was_freed(void **state)
{
	struct buf b = {0};

	(void)state;
	assert_int_equal(buf_append_text(&b, "news"), 0);
	buf_fini(&b);
	assert_null(b.bytes);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, 0);
	assert_int_equal(buf_append(&b, "paper", 5), 0);
	assert_memory_equal(b.bytes, "paper", 5);
	buf_fini(&b);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_memory_is_an_empty_buffer),
		cmocka_unit_test(what_is_appended_stands_behind_what_was_there),
		cmocka_unit_test(appending_nothing_changes_nothing),
		cmocka_unit_test(room_that_was_reserved_is_used_without_moving),
		cmocka_unit_test(
			growing_byte_by_byte_moves_a_logarithmic_number_of_times),
		cmocka_unit_test(
			consuming_drops_bytes_at_the_front_and_keeps_memory),
		cmocka_unit_test(consuming_nothing_of_an_empty_buffer_is_fine),
		cmocka_unit_test(
			a_length_that_overflows_is_enomem_and_changes_nothing),
		cmocka_unit_test(
			memory_that_does_not_exist_is_enomem_and_changes_nothing),
		cmocka_unit_test(a_buffer_is_usable_after_its_memory_was_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
