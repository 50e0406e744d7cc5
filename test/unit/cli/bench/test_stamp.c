/* test_stamp.c - what src/cli/bench/stamp.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench/stamp.h"

#define PAYLOAD_BYTES 40

static const struct stamp one = {
	.topic = 999999, .number = 0xfffffffe, .due_ns = UINT64_MAX - 1};

static void write_payload(char out[static PAYLOAD_BYTES])
{
	memset(out, STAMP_FILLER, PAYLOAD_BYTES);
	stamp_write(out, &one);
}

static void a_stamp_is_read_as_it_was_written(void **state)
{
	char payload[PAYLOAD_BYTES];
	struct stamp probe = one;
	struct stamp read;

	(void)state;
	write_payload(payload);
	assert_true(stamp_read((struct span){payload, sizeof payload}, &read));
	assert_int_equal(read.topic, one.topic);
	assert_int_equal(read.number, one.number);
	assert_true(read.due_ns == one.due_ns);
	assert_false(read.is_probe);
	probe.is_probe = true;
	stamp_write(payload, &probe);
	assert_true(stamp_read((struct span){payload, STAMP_BYTES}, &read));
	assert_int_equal(read.topic, one.topic);
	assert_true(read.is_probe);
}

static void each_byte_that_is_damaged_is_noticed(void **state)
{
	char payload[PAYLOAD_BYTES];
	struct stamp read;

	(void)state;
	for (size_t i = 0; i < sizeof payload; i++) {
		write_payload(payload);
		payload[i] = 'y';
		assert_false(stamp_read((struct span){payload, sizeof payload},
					&read));
	}
	write_payload(payload);
	for (size_t len = 0; len < STAMP_BYTES; len++)
		assert_false(stamp_read((struct span){payload, len}, &read));
}

static void a_tally_tells_what_is_ahead_late_or_there_twice(void **state)
{
	struct tally t = {0};

	(void)state;
	assert_int_equal(tally_take(&t, 0), TALLY_NEXT);
	assert_int_equal(tally_take(&t, 1), TALLY_NEXT);
	assert_int_equal(tally_take(&t, 1), TALLY_TWICE);
	assert_int_equal(tally_take(&t, 4), TALLY_AHEAD);
	assert_int_equal(tally_take(&t, 2), TALLY_LATE);
	assert_int_equal(tally_take(&t, 2), TALLY_TWICE);
	assert_int_equal(tally_take(&t, 0), TALLY_TWICE);
	assert_int_equal(tally_take(&t, 3), TALLY_LATE);
	assert_int_equal(tally_take(&t, 5), TALLY_NEXT);
	assert_int_equal(t.received, 6);
}

static void a_tally_remembers_64_messages(void **state)
{
	struct tally t = {0};

	(void)state;
	assert_int_equal(tally_take(&t, 0), TALLY_NEXT);
	assert_int_equal(tally_take(&t, 63), TALLY_AHEAD);
	assert_int_equal(tally_take(&t, 0), TALLY_TWICE);
	assert_int_equal(tally_take(&t, 1), TALLY_LATE);
	assert_int_equal(tally_take(&t, 64), TALLY_NEXT);
	assert_int_equal(tally_take(&t, 1), TALLY_TWICE);
	assert_int_equal(tally_take(&t, 1000), TALLY_AHEAD);
	assert_int_equal(tally_take(&t, 936), TALLY_LATE);
	assert_int_equal(tally_take(&t, 937), TALLY_LATE);
	assert_int_equal(tally_take(&t, 937), TALLY_TWICE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stamp_is_read_as_it_was_written),
		cmocka_unit_test(each_byte_that_is_damaged_is_noticed),
		cmocka_unit_test(
			a_tally_tells_what_is_ahead_late_or_there_twice),
		cmocka_unit_test(a_tally_remembers_64_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
