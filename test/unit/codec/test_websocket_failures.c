/* test_websocket_failures.c - what fails a connection, pausing, both sides
 * (websocket.h) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/deflate.h"
#include "codec/websocket.h"

#include "frames.h"

/* --- what comes of them --------------------------------------------------- */

/* Fails with the byte before `certain`, no later, whatever is behind. */
static void assert_fails_at(struct buf *in, size_t certain, unsigned code)
{
	assert_comes_to(in, LIMIT, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, code, certain});
}

/* --- failures: 1002 ------------------------------------------------------- */

static void each_reserved_bit_fails_with_1002(void **state)
{
	static const unsigned opcodes[] = {0, TEXT, BINARY, CLOSE, PING, PONG};

	(void)state;
	for (unsigned rsv = 1; rsv < 8; rsv++) {
		for (size_t i = 0; i < 6; i++) {
			struct buf in = {0};

			frame_put_frame(&in, FIN | rsv << 4 | opcodes[i],
					BYTES("\x03\xe8"));
			assert_fails(&in, SPAN(""), 1002);
		}
	}
}

static void a_reserved_bit_in_a_continuation_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | RSV1, BYTES("two"));
	assert_fails(&in, SPAN(""), 1002);
}

static bool is_reserved(unsigned opcode)
{
	return (opcode >= 3 && opcode <= 7) || opcode >= 11;
}

static void each_reserved_opcode_fails_with_1002(void **state)
{
	(void)state;
	for (unsigned opcode = 0; opcode < 16; opcode++) {
		struct buf in = {0};

		if (!is_reserved(opcode))
			continue;
		frame_put_frame(&in, FIN | TEXT, BYTES("fine"));
		frame_put_frame(&in, FIN | opcode, BYTES(""));
		assert_fails(&in, SPAN("text:fine;"), 1002);
		frame_put_frame(&in, FIN | opcode, BYTES("x"));
		assert_fails(&in, SPAN(""), 1002);
	}
}

static void a_reserved_opcode_between_fragments_fails_with_1002(void **state)
{
	(void)state;
	for (unsigned opcode = 0; opcode < 16; opcode++) {
		struct buf in = {0};

		if (!is_reserved(opcode))
			continue;
		frame_put_frame(&in, TEXT, BYTES("one"));
		frame_put_frame(&in, FIN | opcode, BYTES("x"));
		frame_put_frame(&in, FIN, BYTES("two"));
		assert_fails(&in, SPAN(""), 1002);
	}
}

static void an_unmasked_frame_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put(&in, BYTES("\x81\x05Hello"));
	assert_fails(&in, SPAN(""), 1002);
	put(&in, BYTES("\x81\x00"));
	assert_fails(&in, SPAN(""), 1002);
	put(&in, BYTES("\x89\x00"));
	assert_fails(&in, SPAN(""), 1002);
	put(&in, BYTES("\x88\x02\x03\xe8"));
	assert_fails(&in, SPAN(""), 1002);
}

static void a_fragmented_control_frame_fails_with_1002(void **state)
{
	static const unsigned opcodes[] = {CLOSE, PING, PONG};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct buf in = {0};

		frame_put_frame(&in, opcodes[i], BYTES("\x03\xe8"));
		frame_put_frame(&in, FIN, BYTES(""));
		assert_fails_at(&in, 2, 1002);
	}
}

static void a_control_frame_over_125_bytes_fails_with_1002(void **state)
{
	static const unsigned opcodes[] = {CLOSE, PING, PONG};
	static const size_t lens[] = {126, 127, 65536};

	(void)state;
	for (size_t i = 0; i < 9; i++) {
		struct buf in = {0};

		put_header(&in, FIN | opcodes[i % 3], lens[i / 3]);
		put(&in, BYTES("\0\0\0\0\x03\xe8"));
		assert_fails_at(&in, 2, 1002);
	}
}

static void a_length_not_in_its_shortest_form_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put(&in, BYTES("\x82\xfe\x00\x7d\0\0\0\0"));
	assert_fails_at(&in, 4, 1002);
	put(&in, BYTES("\x82\xfe\x00\x00\0\0\0\0"));
	assert_fails_at(&in, 4, 1002);
	put(&in, BYTES("\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0"));
	assert_fails_at(&in, 10, 1002);
	put(&in, BYTES("\x82\xff\0\0\0\0\0\0\0\0\0\0\0\0"));
	assert_fails_at(&in, 10, 1002);
}

static void a_length_over_2_to_the_63_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put(&in, BYTES("\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0"));
	assert_fails_at(&in, 10, 1002);
	put(&in, BYTES("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"));
	assert_fails_at(&in, 10, 1002);
}

static void a_continuation_of_no_message_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN, BYTES("x"));
	assert_fails(&in, SPAN(""), 1002);
	frame_put_frame(&in, 0, BYTES(""));
	assert_fails(&in, SPAN(""), 1002);
	frame_put_frame(&in, TEXT, BYTES("a"));
	frame_put_frame(&in, FIN, BYTES("b"));
	frame_put_frame(&in, FIN, BYTES("c"));
	assert_fails(&in, SPAN("text:ab;"), 1002);
}

static void a_message_inside_another_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | TEXT, BYTES("two"));
	assert_fails(&in, SPAN(""), 1002);
	frame_put_frame(&in, BINARY, BYTES(""));
	frame_put_frame(&in, BINARY, BYTES(""));
	assert_fails(&in, SPAN(""), 1002);
}

static void a_close_with_a_body_of_one_byte_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | CLOSE, BYTES("\x03"));
	assert_fails(&in, SPAN(""), 1002);
}

/* --- failures: 1007 ------------------------------------------------------- */

/* Text that is UTF-8, and text whose last byte makes it certainly not. */
static const char *const good_utf8[] = {
	"",
	"\x7f",
	"\xc2\x80",
	"\xdf\xbf",
	"\xe0\xa0\x80",
	"\xed\x9f\xbf",
	"\xee\x80\x80",
	"\xef\xbf\xbf",
	"\xf0\x90\x80\x80",
	"\xf4\x8f\xbf\xbf",
	"12345678\xc3\xa9"
	"12345678\xf0\x9f\x98\x80"
	"1234567\xe2\x82\xac",
};

static const char *const bad_utf8[] = {
	"\x80",
	"\xbf",
	"\xc0",
	"\xc1",
	"\xc2\x7f",
	"\xc2\xc0",
	"\xc2"
	"A",
	"\xe0\x9f",
	"\xe0\x80",
	"\xed\xa0",
	"\xed\xbf",
	"\xe1\x80\x7f",
	"\xf0\x8f",
	"\xf0\x90\x80\xc0",
	"\xf4\x90",
	"\xf5",
	"\xf8",
	"\xfe",
	"\xff",
	"12345678\xff",
	"1234567\xff",
	"12345678\xc3\xa9"
	"1\x80",
};

static void every_border_of_utf8_is_read_as_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good_utf8) / sizeof(*good_utf8); i++) {
		struct buf in = {0};
		struct buf events = {0};

		frame_put_frame(&in, FIN | TEXT, good_utf8[i],
				strlen(good_utf8[i]));
		put_event(&events, "text:", span_of(good_utf8[i]));
		assert_events(&in, (struct span){events.bytes, events.len});
		buf_fini(&events);
	}
}

/* The text is part of a frame that has not all arrived. */
static void text_that_is_not_utf8_fails_with_1007_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_utf8) / sizeof(*bad_utf8); i++) {
		size_t len = strlen(bad_utf8[i]);
		struct buf payload = {0};
		struct buf in = {0};

		put(&payload, bad_utf8[i], len);
		put(&payload, BYTES("never read"));
		frame_put_frame(&in, TEXT, payload.bytes, payload.len);
		assert_fails_at(&in, 6 + len, 1007);
		buf_fini(&payload);
	}
}

static void a_character_over_a_border_of_fragments_is_checked(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("\xf0\x9f"));
	frame_put_frame(&in, 0, BYTES("\x98"));
	frame_put_frame(&in, FIN, BYTES("\x80"));
	assert_events(&in, SPAN("text:\xf0\x9f\x98\x80;"));
	frame_put_frame(&in, TEXT, BYTES("\xf0"));
	frame_put_frame(&in, FIN, BYTES("\x8f\x80\x80"));
	assert_fails_at(&in, 7 + 7, 1007);
}

static void ascii_inside_a_character_fails_with_1007_at_once(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT,
			BYTES("\xc3"
			      "12345678\xa9"));
	assert_fails_at(&in, 6 + 2, 1007);
}

static void text_that_ends_inside_a_character_fails_with_1007(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("caf\xc3"));
	frame_put_frame(&in, FIN | TEXT, BYTES("\xa9"));
	assert_fails(&in, SPAN(""), 1007);
	frame_put_frame(&in, TEXT, BYTES("\xe2\x82"));
	frame_put_frame(&in, FIN, BYTES(""));
	assert_fails(&in, SPAN(""), 1007);
}

static void binary_that_is_not_utf8_is_fine(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, BINARY, BYTES("\xff\xc3"));
	frame_put_frame(&in, FIN, BYTES("\xc0"));
	assert_events(&in, SPAN("binary:\xff\xc3\xc0;"));
}

/* wslay's event API skips the first two bytes of each piece of a Close. */
static void a_close_reason_that_is_not_utf8_fails_with_1007(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_utf8) / sizeof(*bad_utf8); i++) {
		size_t len = strlen(bad_utf8[i]);
		struct buf body = {0};
		struct buf in = {0};

		put(&body, BYTES("\x03\xe8"));
		put(&body, bad_utf8[i], len);
		put(&body, BYTES("never read"));
		frame_put_frame(&in, FIN | CLOSE, body.bytes, body.len);
		assert_fails_at(&in, 6 + 2 + len, 1007);
		buf_fini(&body);
	}
}

static void every_border_of_utf8_is_fine_in_a_close_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(good_utf8) / sizeof(*good_utf8); i++) {
		struct buf body = {0};
		struct buf in = {0};

		put(&body, BYTES("\x03\xe8"));
		put(&body, good_utf8[i], strlen(good_utf8[i]));
		frame_put_frame(&in, FIN | CLOSE, body.bytes, body.len);
		assert_closed(&in, SPAN("reply:\x88\x02\x03\xe8;"), 1000);
		buf_fini(&body);
	}
}

static void a_close_reason_that_ends_inside_a_character_fails_with_1007(
	void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8\xe2\x82"));
	assert_fails(&in, SPAN(""), 1007);
}

/* --- failures: 1009, 1011, the handler's ---------------------------------- */

static void a_frame_over_the_limit_fails_with_1009_unread(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("12345678"));
	assert_comes_to(&in, 8, SPAN("text:12345678;"),
			(struct expected){.outcome = WEBSOCKET_OPEN});
	frame_put_frame(&in, FIN | TEXT, BYTES("123456789"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 7});
	put(&in, BYTES("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"));
	put(&in, BYTES("\0\0\0\0xx"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 15});
}

static void fragments_over_the_limit_fail_with_1009(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("1234"));
	frame_put_frame(&in, FIN | PING, BYTES("this does not count"));
	frame_put_frame(&in, 0, BYTES("5678"));
	frame_put_frame(&in, FIN, BYTES(""));
	assert_comes_to(&in, 8,
			SPAN("reply:\x8a\x13this does not count;"
			     "text:12345678;"),
			(struct expected){.outcome = WEBSOCKET_OPEN});
	frame_put_frame(&in, TEXT, BYTES("1234"));
	frame_put_frame(&in, 0, BYTES("5678"));
	frame_put_frame(&in, FIN, BYTES("9"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 10 + 10 + 7});
	frame_put_frame(&in, BINARY, BYTES("1"));
	put(&in, BYTES("\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff"));
	put(&in, BYTES("\0\0\0\0xx"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 7 + 15});
}

static void a_limit_of_nothing_lets_the_empty_message_through(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES(""));
	frame_put_frame(&in, FIN | TEXT, BYTES("1"));
	assert_comes_to(&in, 0, SPAN("text:;"),
			(struct expected){WEBSOCKET_FAILED, 1009, 0});
}

/* The limit is far away; what a header claims is not what is reserved. */
static void a_claimed_length_takes_no_memory(void **state)
{
	struct buf in = {0};

	(void)state;
	put(&in, BYTES("\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0some"));
	assert_comes_to(&in, SIZE_MAX, SPAN(""),
			(struct expected){.outcome = WEBSOCKET_OPEN});
}

/* Reads an endless message, a MiB at a time, until it ends; at most 1 GiB. */
static struct websocket_result read_endless_message(struct websocket *ws)
{
	static const char header[] = "\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0";
	static const char piece[1 << 20];
	struct websocket_result result;

	result = websocket_read(ws, SPAN(header), &handler, NULL);
	for (int i = 0; i < 1024 && result.outcome == WEBSOCKET_OPEN; i++)
		result = websocket_read(ws, SPAN(piece), &handler, NULL);
	return result;
}

/* Present where a sanitizer owns malloc(), which then needs memory of its own.
 */
extern void __asan_init(void) __attribute__((weak));

extern void __tsan_init(void) __attribute__((weak));

static void no_memory_for_a_message_fails_with_1011(void **state)
{
	struct rlimit before;
	struct rlimit tight;
	struct websocket *ws = websocket_new(SIZE_MAX);
	struct websocket_result result = {0};
	void *volatile probe; /* or it is optimised away */

	(void)state;
	assert_non_null(ws);
	assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
	tight = (struct rlimit){64 << 20, before.rlim_max};
	if (__asan_init == NULL && __tsan_init == NULL)
		assert_int_equal(setrlimit(RLIMIT_DATA, &tight), 0);
	probe = malloc(128 << 20);
	if (probe == NULL)
		result = read_endless_message(ws);
	assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
	websocket_free(ws);
	free(probe);
	if (probe != NULL)
		skip(); /* the limit is not heeded here (valgrind) */
	assert_int_equal(result.outcome, WEBSOCKET_FAILED);
	assert_int_equal(result.code, 1011);
}

static void what_the_handler_answers_stops_the_reading(void **state)
{
	struct buf in = {0};
	struct record r;

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | TEXT, BYTES(STOP));
	frame_put_frame(&in, FIN | TEXT, BYTES("unread"));
	frame_put_frame(&in, FIN | PING, BYTES("unread"));
	frame_put_frame(&in, FIN | 0xf, BYTES("unread"));
	r = read_split((struct span){in.bytes, in.len}, LIMIT, 0);
	assert_null(r.result.reason);
	buf_fini(&r.events);
	assert_fails(&in, SPAN("text:one;text:" STOP ";"), 1008);
}

/* --- pausing -------------------------------------------------------------- */

static unsigned pause_on_message(void *user, bool is_text, struct span message)
{
	frame_on_message(user, is_text, message);
	return WEBSOCKET_PAUSE;
}

/* Feeds `in`, pausing behind every message, in pieces as in frame_piece_len().
 * Says with a '|' where it went on. */
static struct record read_pausing(struct span in, unsigned split)
{
	static const struct websocket_handler pausing = {pause_on_message,
							 on_reply};
	struct record r = {0};
	struct websocket *ws = websocket_new(LIMIT);

	assert_non_null(ws);
	while (r.read_len < in.len && r.result.outcome == WEBSOCKET_OPEN) {
		size_t len = frame_piece_len(split, in.len - r.read_len);
		struct span piece = {in.bytes + r.read_len, len};

		r.read_len += len;
		r.result = websocket_read(ws, piece, &pausing, &r);
		while (r.result.outcome == WEBSOCKET_PAUSED) {
			struct span unread = r.result.unread;
			/* They are the last of those given. */
			assert_true(unread.len <= len);
			if (unread.len > 0)
				assert_ptr_equal(unread.bytes + unread.len,
						 piece.bytes + len);
			put(&r.events, "|", 1);
			r.result = websocket_read(ws, unread, &pausing, &r);
		}
	}
	r.was_idle = websocket_is_idle(ws);
	websocket_free(ws);
	return r;
}

static void it_pauses_behind_each_message_and_goes_on(void **state)
{
	static const char expected[] =
		"text:one;|reply:\x8a\x01p;binary:two;|text:;|text:three;|"
		"reply:\x88\x02\x03\xe8;";
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | PING, BYTES("p"));
	frame_put_frame(&in, FIN | BINARY, BYTES("two"));
	frame_put_frame(&in, FIN | TEXT, BYTES(""));
	frame_put_frame(&in, TEXT, BYTES("th"));
	frame_put_frame(&in, FIN, BYTES("ree"));
	frame_put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
	for (unsigned split = 0; split < 2 + SPLITS; split++) {
		struct record r =
			read_pausing((struct span){in.bytes, in.len}, split);
		struct expected closed = {WEBSOCKET_CLOSED, 1000, 0};

		assert_record(&r, SPAN(expected), &closed);
		buf_fini(&r.events);
	}
	buf_fini(&in);
}

/* More than wslay takes at once, so that some is unread and some read ahead. */
static void all_of_a_long_stream_comes_over_many_pauses(void **state)
{
	static const char payload[100];
	struct buf in = {0};

	(void)state;
	for (int i = 0; i < 300; i++)
		frame_put_frame(&in, FIN | BINARY, payload, sizeof payload);
	for (unsigned split = 0; split < 2 + SPLITS; split++) {
		struct record r =
			read_pausing((struct span){in.bytes, in.len}, split);

		assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
		assert_int_equal(r.events.len, 300 * (7 + 100 + 2));
		assert_true(r.was_idle);
		buf_fini(&r.events);
	}
	buf_fini(&in);
}

static void a_paused_one_is_idle_if_nothing_was_read_ahead(void **state)
{
	static const struct websocket_handler pausing = {pause_on_message,
							 on_reply};

	(void)state;
	for (size_t extra = 0; extra < 7; extra++) {
		struct websocket *ws = websocket_new(LIMIT);
		struct record r = {0};
		struct buf in = {0};

		assert_non_null(ws);
		frame_put_frame(&in, FIN | TEXT, BYTES("hello"));
		frame_put_frame(&in, FIN | TEXT, BYTES("x"));
		r.result = websocket_read(
			ws, (struct span){in.bytes, 11 + extra}, &pausing, &r);
		assert_int_equal(r.result.outcome, WEBSOCKET_PAUSED);
		assert_int_equal(r.result.unread.len, 0);
		assert_int_equal(websocket_is_idle(ws), extra == 0);
		websocket_free(ws);
		buf_fini(&r.events);
		buf_fini(&in);
	}
}

/* --- idle ----------------------------------------------------------------- */

/* Feeds `in` byte by byte, after which it is idle at just the lengths that
 * `lens`, which ends in 0, names; and frees it. */
static void assert_idle_just_after(struct buf *in, const size_t *lens)
{
	struct record r = {0};
	struct websocket *ws = websocket_new(LIMIT);

	assert_non_null(ws);
	assert_true(websocket_is_idle(ws));
	for (size_t i = 0; i < in->len; i++) {
		r.result = websocket_read(ws, (struct span){in->bytes + i, 1},
					  &handler, &r);
		assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
		assert_int_equal(websocket_is_idle(ws), i + 1 == *lens);
		if (i + 1 == *lens)
			lens++;
	}
	assert_int_equal(*lens, 0);
	websocket_free(ws);
	buf_fini(&r.events);
	buf_fini(in);
}

static void it_is_idle_just_between_messages(void **state)
{
	static const char long_payload[65536];
	struct buf in = {0};
	size_t lens[9] = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("hello"));
	lens[0] = in.len;
	frame_put_frame(&in, FIN | TEXT, BYTES(""));
	lens[1] = in.len;
	frame_put_frame(&in, FIN | PING, BYTES("beat"));
	lens[2] = in.len;
	frame_put_frame(&in, FIN | PONG, BYTES(""));
	lens[3] = in.len;
	frame_put_frame(&in, FIN | BINARY, long_payload, 65536);
	lens[4] = in.len;
	frame_put_frame(&in, FIN | BINARY, long_payload, 65535);
	lens[5] = in.len;
	frame_put_frame(&in, FIN | BINARY, long_payload, 126);
	lens[6] = in.len;
	frame_put_frame(&in, FIN | BINARY, long_payload, 125);
	lens[7] = in.len;
	assert_idle_just_after(&in, lens);
}

static void it_is_not_idle_inside_a_fragmented_message(void **state)
{
	struct buf in = {0};
	size_t lens[2] = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES(""));
	frame_put_frame(&in, FIN | PING, BYTES("beat"));
	frame_put_frame(&in, 0, BYTES("one"));
	frame_put_frame(&in, FIN, BYTES(""));
	lens[0] = in.len;
	assert_idle_just_after(&in, lens);
}

static void it_is_not_idle_with_a_part_of_the_next_frame_read_ahead(
	void **state)
{
	struct buf in = {0};

	(void)state;
	for (size_t extra = 0; extra < 7; extra++) {
		struct record r;

		frame_put_frame(&in, FIN | TEXT, BYTES("hello"));
		frame_put_frame(&in, FIN | TEXT, BYTES("x"));
		r = read_split((struct span){in.bytes, 11 + extra}, LIMIT, 0);
		assert_int_equal(r.was_idle, extra == 0);
		buf_fini(&r.events);
		buf_fini(&in);
	}
}

static void reading_nothing_changes_nothing(void **state)
{
	struct record r = {0};
	struct websocket *ws = websocket_new(LIMIT);

	(void)state;
	assert_non_null(ws);
	r.result = websocket_read(ws, SPAN(""), &handler, &r);
	assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
	r.result = websocket_read(ws, (struct span){NULL, 0}, &handler, &r);
	assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
	assert_true(websocket_is_idle(ws));
	assert_int_equal(r.events.len, 0);
	websocket_free(ws);
}

/* --- the client's side ---------------------------------------------------- */

static void what_a_client_writes_a_server_reads(void **state)
{
	static const uint8_t mask[WEBSOCKET_MASK_BYTES] = {1, 0xfe, 0, 0x80};
	static const size_t lens[] = {0, 1, 125, 126, 65535, 65536};
	struct buf payload = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct buf in = {0};
		struct buf events = {0};

		payload.len = 0;
		for (size_t j = 0; j < lens[i]; j++)
			put(&payload, "x", 1);
		assert_int_equal(
			websocket_append_masked(
				&in, TEXT,
				(struct span){payload.bytes, payload.len},
				mask),
			0);
		put(&events, "text:", 5);
		put(&events, payload.bytes, payload.len);
		put(&events, ";", 1);
		assert_comes_to(&in, LIMIT * 2,
				(struct span){events.bytes, events.len},
				(struct expected){WEBSOCKET_OPEN, 0, 0});
		buf_fini(&events);
	}
	buf_fini(&payload);
}

/* Feeds a client `in`, in pieces of `step` bytes. */
static struct record read_as_client(struct span in, size_t step,
				    struct websocket **ws)
{
	struct record r = {0};

	*ws = websocket_new_client(LIMIT);
	assert_non_null(*ws);
	while (in.len > 0 && r.result.outcome == WEBSOCKET_OPEN) {
		struct span piece = {in.bytes, in.len < step ? in.len : step};

		r.result = websocket_read(*ws, piece, &handler, &r);
		in.bytes += piece.len;
		in.len -= piece.len;
	}
	return r;
}

static void a_client_reads_what_a_server_writes(void **state)
{
	static const char in[] = "\x81\x05hello\x89\x01p\x01\x01"
				 "a\x80\x01"
				 "b\x88\x06\x03\xf5slow";

	(void)state;
	for (size_t step = 1; step < sizeof(in); step++) {
		struct websocket *ws;
		struct record r = read_as_client(
			(struct span){in, sizeof(in) - 1}, step, &ws);
		struct span events = SPAN("text:hello;reply:\x8a\x01p;text:ab;"
					  "reply:\x88\x02\x03\xf5;");

		assert_int_equal(r.result.outcome, WEBSOCKET_CLOSED);
		assert_int_equal(r.result.code, 1013);
		assert_true(span_equal(r.result.close_reason, SPAN("slow")));
		assert_true(span_equal(
			(struct span){r.events.bytes, r.events.len}, events));
		buf_fini(&r.events);
		websocket_free(ws);
	}
}

static void a_client_reads_messages_in_the_pieces_they_come_in(void **state)
{
	struct buf in = {0};
	struct buf events = {0};

	(void)state;
	for (size_t len = 0; len < 300; len += 25) {
		char payload[300];
		uint8_t header[WEBSOCKET_HEADER_MAX];
		uint8_t *end = header + sizeof header;
		unsigned opcode = len % 50 == 0 ? TEXT : BINARY;
		size_t n = websocket_write_header(end, opcode, len);

		memset(payload, (int)('a' + len / 25), len);
		put(&in, (const char *)end - n, n);
		put(&in, payload, len);
		put_event(&events, opcode == TEXT ? "text:" : "binary:",
			  (struct span){payload, len});
	}
	for (size_t step = 1; step <= in.len; step++) {
		struct websocket *ws;
		struct record r = read_as_client(
			(struct span){in.bytes, in.len}, step, &ws);

		assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
		assert_true(websocket_is_idle(ws));
		assert_true(
			span_equal((struct span){r.events.bytes, r.events.len},
				   (struct span){events.bytes, events.len}));
		buf_fini(&r.events);
		websocket_free(ws);
	}
	buf_fini(&in);
	buf_fini(&events);
}

/* Whole or in pieces: the same is wrong. */
static void a_client_is_as_strict_with_what_comes_whole(void **state)
{
	static const struct {
		struct span in;
		unsigned code;
	} rows[] = {
		{SPAN("\x81\x02\xc3\x28"), 1007},
		{SPAN("\x81\x02\xed\xa0"), 1007},
		{SPAN("\x81\x7e\x00\x02hi"), 1002}, /* not the shortest */
		{SPAN("\xc1\x02hi"), 1002},         /* RSV1 */
		{SPAN("\x83\x02hi"), 1002},         /* reserved opcode */
		{SPAN("\x01\x01"
		      "a"
		      "\x81\x02hi"),
		 1002}, /* inside another */
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (size_t step = 1; step <= rows[i].in.len; step++) {
			struct websocket *ws;
			struct record r = read_as_client(rows[i].in, step, &ws);

			assert_int_equal(r.result.outcome, WEBSOCKET_FAILED);
			assert_int_equal(r.result.code, rows[i].code);
			assert_int_equal(r.events.len, 0);
			websocket_free(ws);
		}
}

static void a_message_over_the_limit_fails_a_client_with_1009(void **state)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t n = websocket_write_header(end, TEXT, LIMIT + 1);
	struct buf in = {0};
	struct websocket *ws;

	(void)state;
	put(&in, (const char *)end - n, n);
	for (size_t i = 0; i <= LIMIT; i++)
		put(&in, "x", 1);
	struct record r =
		read_as_client((struct span){in.bytes, in.len}, in.len, &ws);
	assert_int_equal(r.result.outcome, WEBSOCKET_FAILED);
	assert_int_equal(r.result.code, 1009);
	websocket_free(ws);
	buf_fini(&in);
}

static void a_masked_frame_fails_a_client_with_1002(void **state)
{
	struct buf in = {0};
	struct websocket *ws;

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("hello"));
	struct record r =
		read_as_client((struct span){in.bytes, in.len}, in.len, &ws);
	assert_int_equal(r.result.outcome, WEBSOCKET_FAILED);
	assert_int_equal(r.result.code, 1002);
	assert_int_equal(r.events.len, 0);
	websocket_free(ws);
	buf_fini(&in);
}

static void freeing_null_is_fine(void **state)
{
	(void)state;
	websocket_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_reserved_bit_fails_with_1002),
		cmocka_unit_test(
			a_reserved_bit_in_a_continuation_fails_with_1002),
		cmocka_unit_test(each_reserved_opcode_fails_with_1002),
		cmocka_unit_test(
			a_reserved_opcode_between_fragments_fails_with_1002),
		cmocka_unit_test(an_unmasked_frame_fails_with_1002),
		cmocka_unit_test(a_fragmented_control_frame_fails_with_1002),
		cmocka_unit_test(
			a_control_frame_over_125_bytes_fails_with_1002),
		cmocka_unit_test(
			a_length_not_in_its_shortest_form_fails_with_1002),
		cmocka_unit_test(a_length_over_2_to_the_63_fails_with_1002),
		cmocka_unit_test(a_continuation_of_no_message_fails_with_1002),
		cmocka_unit_test(a_message_inside_another_fails_with_1002),
		cmocka_unit_test(
			a_close_with_a_body_of_one_byte_fails_with_1002),
		cmocka_unit_test(every_border_of_utf8_is_read_as_text),
		cmocka_unit_test(text_that_is_not_utf8_fails_with_1007_at_once),
		cmocka_unit_test(
			a_character_over_a_border_of_fragments_is_checked),
		cmocka_unit_test(
			ascii_inside_a_character_fails_with_1007_at_once),
		cmocka_unit_test(
			text_that_ends_inside_a_character_fails_with_1007),
		cmocka_unit_test(binary_that_is_not_utf8_is_fine),
		cmocka_unit_test(
			a_close_reason_that_is_not_utf8_fails_with_1007),
		cmocka_unit_test(
			every_border_of_utf8_is_fine_in_a_close_reason),
		cmocka_unit_test(
			a_close_reason_that_ends_inside_a_character_fails_with_1007),
		cmocka_unit_test(a_frame_over_the_limit_fails_with_1009_unread),
		cmocka_unit_test(fragments_over_the_limit_fail_with_1009),
		cmocka_unit_test(
			a_limit_of_nothing_lets_the_empty_message_through),
		cmocka_unit_test(a_claimed_length_takes_no_memory),
		cmocka_unit_test(no_memory_for_a_message_fails_with_1011),
		cmocka_unit_test(what_the_handler_answers_stops_the_reading),
		cmocka_unit_test(it_pauses_behind_each_message_and_goes_on),
		cmocka_unit_test(all_of_a_long_stream_comes_over_many_pauses),
		cmocka_unit_test(
			a_paused_one_is_idle_if_nothing_was_read_ahead),
		cmocka_unit_test(it_is_idle_just_between_messages),
		cmocka_unit_test(it_is_not_idle_inside_a_fragmented_message),
		cmocka_unit_test(
			it_is_not_idle_with_a_part_of_the_next_frame_read_ahead),
		cmocka_unit_test(reading_nothing_changes_nothing),
		cmocka_unit_test(what_a_client_writes_a_server_reads),
		cmocka_unit_test(a_client_reads_what_a_server_writes),
		cmocka_unit_test(
			a_client_reads_messages_in_the_pieces_they_come_in),
		cmocka_unit_test(a_client_is_as_strict_with_what_comes_whole),
		cmocka_unit_test(
			a_message_over_the_limit_fails_a_client_with_1009),
		cmocka_unit_test(a_masked_frame_fails_a_client_with_1002),
		cmocka_unit_test(freeing_null_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
