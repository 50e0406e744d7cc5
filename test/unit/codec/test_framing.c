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

static void where_messages_may_be_compressed_others_are_sent_too(void **state)
{
	(void)state;
	assert_framing(FRAMING_DEFLATED, 3, SPAN("\x81\x03"), SPAN(""),
		       SPAN(""));
	assert_framing(FRAMING_DEFLATED_SMALL, 3, SPAN("\x81\x03"), SPAN(""),
		       SPAN(""));
	/* A stored block, and an empty one, in a chunk. */
	assert_framing(FRAMING_GZIP, 3, SPAN("d\r\n\x00\x03\x00\xfc\xff"),
		       SPAN("\x00\x00\x00\xff\xff\r\n"), SPAN("0\r\n\r\n"));
	assert_framing(FRAMING_GZIP, 65535,
		       SPAN("10009\r\n\x00\xff\xff\x00\x00"),
		       SPAN("\x00\x00\x00\xff\xff\r\n"), SPAN("0\r\n\r\n"));
	assert_true(
		span_equal(framing_compressed_end(FRAMING_GZIP), SPAN("\r\n")));
	assert_true(
		span_equal(framing_compressed_end(FRAMING_DEFLATED), SPAN("")));
	assert_int_equal(framing_unit_max(FRAMING_GZIP), 65535);
}

static void assert_compressed(enum framing framing, size_t len,
			      struct span expected)
{
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;
	size_t start_len = framing_write_compressed_start(framing, end, len);

	assert_true(span_equal((struct span){end - start_len, start_len},
			       expected));
}

static void what_is_compressed_says_so(void **state)
{
	(void)state;
	assert_compressed(FRAMING_DEFLATED, 300, SPAN("\xc1\x7e\x01\x2c"));
	assert_compressed(FRAMING_DEFLATED_SMALL, 3, SPAN("\xc1\x03"));
	assert_compressed(FRAMING_GZIP, 26, SPAN("1a\r\n"));
}

static void each_framing_has_a_plain_one(void **state)
{
	static const enum framing plain[FRAMINGS] = {
		[FRAMING_TEXT] = FRAMING_TEXT,
		[FRAMING_DEFLATED] = FRAMING_TEXT,
		[FRAMING_DEFLATED_SMALL] = FRAMING_TEXT,
		[FRAMING_CHUNK] = FRAMING_CHUNK,
		[FRAMING_GZIP] = FRAMING_CHUNK,
		[FRAMING_BARE] = FRAMING_BARE,
	};

	(void)state;
	for (unsigned i = 0; i < FRAMINGS; i++) {
		assert_int_equal(framing_plain((enum framing)i), plain[i]);
		assert_int_equal(framing_is_websocket((enum framing)i),
				 plain[i] == FRAMING_TEXT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_text_frame_has_a_header_alone),
		cmocka_unit_test(a_chunk_has_a_size_and_ends_in_a_line_end),
		cmocka_unit_test(bare_lines_have_nothing_around_them),
		cmocka_unit_test(
			where_messages_may_be_compressed_others_are_sent_too),
		cmocka_unit_test(what_is_compressed_says_so),
		cmocka_unit_test(each_framing_has_a_plain_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
