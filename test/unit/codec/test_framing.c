/* test_framing.c - what is around units on the wire. */
#include "codec/framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_framing(enum framing framing, size_t len,
			   struct span expected_start, struct span expected_end,
			   struct span expected_last)
{
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;
	size_t start_len = framing_write_start(framing, end, len);

	assert_true(span_equal((struct span){end - start_len, start_len},
			       expected_start));
	assert_true(span_equal(framing_end(framing), expected_end));
	assert_true(span_equal(framing_last(framing), expected_last));
}

static void a_text_frame_has_a_header_alone(void **state)
{
	(void)state;
	assert_framing(FRAMING_TEXT, 0, SPAN("\x81\x00"), SPAN(""), SPAN(""));
	assert_framing(FRAMING_TEXT, 300, SPAN("\x81\x7e\x01\x2c"), SPAN(""),
		       SPAN(""));
	assert_framing(FRAMING_TEXT, UINT32_MAX,
		       SPAN("\x81\x7f\x00\x00\x00\x00\xff\xff\xff\xff"),
		       SPAN(""), SPAN(""));
}

static void a_chunk_has_a_size_and_ends_in_a_line_end(void **state)
{
	(void)state;
	assert_framing(FRAMING_CHUNK, 26, SPAN("1a\r\n"), SPAN("\r\n"),
		       SPAN("0\r\n\r\n"));
	assert_framing(FRAMING_CHUNK, UINT32_MAX, SPAN("ffffffff\r\n"),
		       SPAN("\r\n"), SPAN("0\r\n\r\n"));
}

static void bare_lines_have_nothing_around_them(void **state)
{
	(void)state;
	assert_framing(FRAMING_BARE, 26, SPAN(""), SPAN(""), SPAN(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_frame_has_a_header_alone),
		cmocka_unit_test(a_chunk_has_a_size_and_ends_in_a_line_end),
		cmocka_unit_test(bare_lines_have_nothing_around_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
