/* test_cursor.c - what src/codec/cursor.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codec/cursor.h"

#include <errno.h>

#define EPOCH "0123456789abcdef"

static void an_epoch_has_sixteen_digits_and_a_number_no_leading_zeros(
	void **state)
{
	char out[CURSOR_MAX];

	(void)state;
	assert_int_equal(cursor_write(out, 0x1f, 0), 18);
	assert_string_equal(out, "000000000000001f-0");
	assert_int_equal(cursor_write(out, 0x0123456789abcdef, 420), 20);
	assert_string_equal(out, EPOCH "-420");
}

static void the_longest_cursor_fits(void **state)
{
	char out[CURSOR_MAX + CURSOR_PART_MAX];
	size_t len = cursor_write(out, UINT64_MAX, UINT64_MAX);

	(void)state;
	assert_int_equal(len, CURSOR_MAX - 1);
	len += cursor_write_part(out + len, UINT64_MAX);
	assert_int_equal(len, CURSOR_MAX + CURSOR_PART_MAX - 1);
	assert_string_equal(out, "ffffffffffffffff-18446744073709551615"
				 ".18446744073709551615");
}

static void a_further_part_follows_a_dot(void **state)
{
	char out[CURSOR_PART_MAX + 1];

	(void)state;
	assert_int_equal(cursor_write_part(out, 7), 2);
	assert_string_equal(out, ".7");
	assert_int_equal(cursor_write_part(out, 0), 2);
	assert_string_equal(out, ".0");
}

static void what_is_written_is_read_again(void **state)
{
	static const uint64_t numbers[] = {
		0, 1, 9, 10, 42, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
	char out[CURSOR_MAX + 7 * CURSOR_PART_MAX];
	uint64_t read[8];
	uint64_t epoch;
	size_t len = cursor_write(out, 0xfedcba9876543210, numbers[0]);

	(void)state;
	for (unsigned parts = 1;; parts++) {
		struct span text = {out, len};
		assert_int_equal(cursor_parse(text, parts, &epoch, read), 0);
		assert_true(epoch == 0xfedcba9876543210);
		assert_memory_equal(read, numbers, parts * sizeof read[0]);
		if (parts == 8)
			break;
		len += cursor_write_part(out + len, numbers[parts]);
	}
}

static void as_many_parts_as_there_may_be_are_read(void **state)
{
	static char out[CURSOR_MAX + CURSOR_PARTS_MAX * CURSOR_PART_MAX];
	static uint64_t read[CURSOR_PARTS_MAX];
	uint64_t epoch;
	size_t len = cursor_write(out, 1, 0);

	(void)state;
	for (unsigned i = 1; i < CURSOR_PARTS_MAX; i++)
		len += cursor_write_part(out + len, i);
	assert_int_equal(cursor_parse((struct span){out, len}, CURSOR_PARTS_MAX,
				      &epoch, read),
			 0);
	for (unsigned i = 0; i < CURSOR_PARTS_MAX; i++)
		assert_int_equal(read[i], i);
}

static void another_number_of_parts_is_refused(void **state)
{
	uint64_t read[3];
	uint64_t epoch;

	(void)state;
	assert_int_equal(cursor_parse(SPAN(EPOCH "-1.2"), 1, &epoch, read),
			 -EINVAL);
	assert_int_equal(cursor_parse(SPAN(EPOCH "-1.2"), 3, &epoch, read),
			 -EINVAL);
	assert_int_equal(cursor_parse(SPAN(EPOCH "-1.2"), 2, &epoch, read), 0);
}

static void anything_else_is_refused(void **state)
{
	static const char *const others[] = {
		"",
		"-",
		EPOCH,
		EPOCH "-",
		EPOCH "-1 ",
		" " EPOCH "-1",
		EPOCH "-+1",
		EPOCH "--1",
		EPOCH "-01",
		EPOCH "-00",
		EPOCH "-1a",
		EPOCH "-1.",
		EPOCH ".1",
		EPOCH "0-1",
		"123456789abcdef-1",
		"0123456789abcdeF-1",
		"0123456789abcdeg-1",
		"0x23456789abcdef-1",
		EPOCH "-18446744073709551616",
		EPOCH "-18446744073709551620",
		EPOCH "-99999999999999999999",
		EPOCH "-184467440737095516150",
	};
	uint64_t read;
	uint64_t epoch;

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (cursor_parse(span_of(others[i]), 1, &epoch, &read) !=
		    -EINVAL)
			fail_msg("accepted: \"%s\"", others[i]);
	assert_int_equal(
		cursor_parse((struct span){EPOCH "-1\0", 19}, 1, &epoch, &read),
		-EINVAL);
	assert_int_equal(cursor_parse((struct span){NULL, 0}, 1, &epoch, &read),
			 -EINVAL);
}

/* Behind the text lies what would go on with it. */
static void nothing_is_read_behind_the_text(void **state)
{
	static const char text[] = EPOCH "-12345.6";
	uint64_t read[2];
	uint64_t epoch;

	(void)state;
	for (size_t len = 0; len < sizeof text - 1; len++)
		assert_int_equal(
			cursor_parse((struct span){text, len}, 2, &epoch, read),
			-EINVAL);
	assert_int_equal(cursor_parse((struct span){text, 19}, 1, &epoch, read),
			 0);
	assert_int_equal(read[0], 12);
}

static void a_count_is_a_plain_number_up_to_the_most(void **state)
{
	static const char *const wrong[] = {
		"",    "00",  "01", "-1",    "+1",    "1 ",        " 1",
		"1.0", "1e1", "x",  "\"1\"", "65537", "4294967296"};
	uint32_t last = 7;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_int_equal(cursor_parse_last(span_of(wrong[i]), &last),
				 -EINVAL);
	assert_int_equal(cursor_parse_last(SPAN("0"), &last), 0);
	assert_int_equal(last, 0);
	assert_int_equal(cursor_parse_last(SPAN("65536"), &last), 0);
	assert_int_equal(last, CURSOR_LAST_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_count_is_a_plain_number_up_to_the_most),
		cmocka_unit_test(
			an_epoch_has_sixteen_digits_and_a_number_no_leading_zeros),
		cmocka_unit_test(the_longest_cursor_fits),
		cmocka_unit_test(a_further_part_follows_a_dot),
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(as_many_parts_as_there_may_be_are_read),
		cmocka_unit_test(another_number_of_parts_is_refused),
		cmocka_unit_test(anything_else_is_refused),
		cmocka_unit_test(nothing_is_read_behind_the_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
