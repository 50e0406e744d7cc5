/* test_traceparent.c - src/codec/traceparent.c: what is one, and what is
 * ignored. */
#include "codec/traceparent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The example of W3C Trace Context, 3.2.4. */
#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void one_of_version_00_is_passed_on(void **state)
{
	static const char *const all[] = {
		GOOD,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
		"00-00000000000000000000000000000001-0000000000000001-00",
	};
	(void)state;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct span one = span_of(all[i]);
		struct span got = traceparent_parse(one);

		assert_int_equal(one.len, TRACEPARENT_BYTES);
		assert_ptr_equal(got.bytes, one.bytes);
		assert_int_equal(got.len, one.len);
	}
}

static void what_is_not_one_is_ignored(void **state)
{
	static const char *const all[] = {
		"",
		"00",
		/* another version */
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		/* zero */
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		/* capitals */
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		/* too long, too short, two of them */
		GOOD "-",
		GOOD "-what-the-future-will-be-like",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
		GOOD ", " GOOD,
	};
	(void)state;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		assert_null(traceparent_parse(span_of(all[i])).bytes);
	assert_null(traceparent_parse((struct span){0}).bytes);
}

/* Whatever byte of a good one is replaced by one that may not stand there. */
static void each_byte_counts(void **state)
{
	static const char wrong[] = "gG/:`@-_ \"\\\n\x7f\x80\xff";
	char text[] = GOOD;
	(void)state;

	for (size_t at = 0; at < TRACEPARENT_BYTES; at++) {
		char right = text[at];

		for (size_t i = 0; i < sizeof wrong; i++) {
			if (wrong[i] == right)
				continue;
			text[at] = wrong[i];
			assert_null(
				traceparent_parse(
					(struct span){text, TRACEPARENT_BYTES})
					.bytes);
		}
		text[at] = right;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_version_00_is_passed_on),
		cmocka_unit_test(what_is_not_one_is_ignored),
		cmocka_unit_test(each_byte_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
