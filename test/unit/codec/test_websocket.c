/* test_websocket.c - the handshake, writing, messages, control frames
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

/* --- opening handshake ---------------------------------------------------- */

/* RFC 6455 1.3. */
static void the_key_of_the_rfc_is_accepted_as_there(void **state)
{
	char out[WEBSOCKET_ACCEPT_LEN + 1];

	(void)state;
	assert_int_equal(
		websocket_accept(SPAN("dGhlIHNhbXBsZSBub25jZQ=="), out), 0);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void a_key_that_is_not_16_bytes_in_base64_is_400(void **state)
{
	static const char *const bad[] = {
		"",
		"dGhlIHNhbXBsZSBub25jZQ",     /* no padding */
		"dGhlIHNhbXBsZSBub25jZR==",   /* pad bits */
		"dGhlIHNhbXBsZSBub25jZTE=",   /* 17 bytes */
		"dGhlIHNhbXBsZSBub25jZTEy",   /* 18 bytes */
		"dGhlIHNhbXBsZSBub24=",       /* 14 bytes */
		"dGhlIHNhbXBsZSBub25 ZQ==",   /* a space */
		"dGhlIHNhbXBsZSBub25jZQ==\t", /* one byte too many */
		"dGhlIHNhbXBsZSBub25jZTEyMzQ=",
	};
	char out[WEBSOCKET_ACCEPT_LEN + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(websocket_accept(span_of(bad[i]), out), 400);
	assert_int_equal(websocket_accept((struct span){NULL, 0}, out), 400);
}

/* --- writing -------------------------------------------------------------- */

static void a_header_has_the_shortest_length_and_ends_at_the_payload(
	void **state)
{
	static const struct {
		uint64_t len;
		size_t header_len;
		const char *header;
	} rows[] = {
		{0, 2, "\x81\x00"},
		{1, 2, "\x81\x01"},
		{125, 2, "\x81\x7d"},
		{126, 4, "\x81\x7e\x00\x7e"},
		{127, 4, "\x81\x7e\x00\x7f"},
		{65535, 4, "\x81\x7e\xff\xff"},
		{65536, 10, "\x81\x7f\0\0\0\0\0\1\0\0"},
		{0x0102030405060708, 10, "\x81\x7f\1\2\3\4\5\6\7\x08"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *out = malloc(rows[i].header_len);
		uint8_t *end = out + rows[i].header_len;

		assert_non_null(out);
		assert_int_equal(websocket_write_header(end, 1, rows[i].len),
				 rows[i].header_len);
		assert_memory_equal(out, rows[i].header, rows[i].header_len);
		free(out);
	}
}

static void a_header_of_binary_has_opcode_2(void **state)
{
	uint8_t out[WEBSOCKET_HEADER_MAX];

	(void)state;
	assert_int_equal(websocket_write_header(out + sizeof(out), 2, 5), 2);
	assert_memory_equal(out + sizeof(out) - 2, "\x82\x05", 2);
}

static void assert_close_frame(unsigned code, struct span reason,
			       struct span expected)
{
	uint8_t out[WEBSOCKET_CONTROL_MAX];

	assert_int_equal(websocket_write_close(out, code, reason),
			 expected.len);
	assert_memory_equal(out, expected.bytes, expected.len);
}

static void a_close_frame_has_code_and_reason(void **state)
{
	(void)state;
	assert_close_frame(1013, SPAN("slow"), SPAN("\x88\x06\x03\xf5slow"));
	assert_close_frame(1000, SPAN(""), SPAN("\x88\x02\x03\xe8"));
	assert_close_frame(1000, (struct span){NULL, 0},
			   SPAN("\x88\x02\x03\xe8"));
}

static void a_close_frame_without_a_code_has_no_body(void **state)
{
	(void)state;
	assert_close_frame(0, SPAN("dropped"), SPAN("\x88\x00"));
	assert_close_frame(1005, SPAN("dropped"), SPAN("\x88\x00"));
}

/* Asserts how many bytes of `reason` a Close keeps. */
static void assert_reason_is_cut_to(const char *reason, size_t kept)
{
	uint8_t out[WEBSOCKET_CONTROL_MAX];

	assert_int_equal(websocket_write_close(out, 1008, span_of(reason)),
			 4 + kept);
	assert_int_equal(out[1], 2 + kept);
	assert_memory_equal(out + 4, reason, kept);
}

/* 123 bytes fit: RFC 6455 5.5 less the two of the code. */
static void a_long_reason_is_cut_at_the_end_of_a_character(void **state)
{
	char reason[200];

	(void)state;
	memset(reason, 'x', sizeof(reason));
	reason[123] = '\0';
	assert_reason_is_cut_to(reason, 123);
	reason[123] = 'x';
	reason[124] = '\0';
	assert_reason_is_cut_to(reason, 123);
	strcpy(reason + 121, "\xc3\xa9x"); /* ends at 123 */
	assert_reason_is_cut_to(reason, 123);
	strcpy(reason + 122, "\xc3\xa9"); /* would end at 124 */
	reason[121] = 'x';
	assert_reason_is_cut_to(reason, 122);
	strcpy(reason + 120, "\xf0\x9f\x98\x80");
	assert_reason_is_cut_to(reason, 120);
	strcpy(reason + 122, "\xf0\x9f\x98\x80");
	memset(reason + 120, 'x', 2);
	assert_reason_is_cut_to(reason, 122);
}

static void a_ping_frame_has_its_payload(void **state)
{
	uint8_t out[WEBSOCKET_CONTROL_MAX];
	char payload[125];

	(void)state;
	memset(payload, 'x', sizeof(payload));
	assert_int_equal(websocket_write_ping(out, SPAN("")), 2);
	assert_memory_equal(out, "\x89\x00", 2);
	assert_int_equal(websocket_write_ping(out, (struct span){payload, 125}),
			 127);
	assert_memory_equal(out, "\x89\x7d", 2);
	assert_memory_equal(out + 2, payload, 125);
}

/* --- messages ------------------------------------------------------------- */

/* RFC 6455 5.7. */
static void the_masked_hello_of_the_rfc_is_read(void **state)
{
	struct buf in = {0};

	(void)state;
	put(&in, BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"));
	assert_events(&in, SPAN("text:Hello;"));
}

static void messages_come_in_order_and_with_their_type(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | BINARY, BYTES("\xff\0\xfe"));
	frame_put_frame(&in, FIN | TEXT, BYTES(""));
	frame_put_frame(&in, FIN | BINARY, BYTES(""));
	frame_put_frame(&in, FIN | TEXT, BYTES("two"));
	assert_events(&in, SPAN("text:one;binary:\xff\0\xfe;text:;binary:;"
				"text:two;"));
}

static void fragments_make_one_message(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("one"));
	frame_put_frame(&in, 0, BYTES(""));
	frame_put_frame(&in, 0, BYTES(" two"));
	frame_put_frame(&in, FIN, BYTES(" three"));
	frame_put_frame(&in, BINARY, BYTES(""));
	frame_put_frame(&in, FIN, BYTES(""));
	assert_events(&in, SPAN("text:one two three;binary:;"));
}

/* `len` bytes of ASCII that differ from place to place. */
static void put_pattern(struct buf *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = (char)(' ' + (i * 7 + i / 251) % 90);

		put(b, &c, 1);
	}
}

/* The header that a server would echo it with, masked, is what is read. */
static void assert_is_read_whole(size_t len)
{
	struct buf payload = {0};
	struct buf in = {0};
	struct buf events = {0};

	put_pattern(&payload, len);
	frame_put_frame(&in, FIN | BINARY, payload.bytes, len);
	put_event(&events, "binary:", (struct span){payload.bytes, len});
	assert_events(&in, (struct span){events.bytes, events.len});
	buf_fini(&payload);
	buf_fini(&events);
}

static void messages_of_every_boundary_length_are_read_whole(void **state)
{
	static const size_t lens[] = {0,    1,     124,   125,  126,  127,
				      128,  4085,  4086,  4088, 4092, 4096,
				      4097, 65534, 65535, 65536};

	(void)state;
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		assert_is_read_whole(lens[i]);
}

static void a_message_of_16_mib_is_read_whole(void **state)
{
	static const size_t len = 16 << 20;
	struct buf payload = {0};
	struct buf in = {0};
	struct record r;

	(void)state;
	put_pattern(&payload, len);
	frame_put_frame(&in, FIN | TEXT, payload.bytes, len);
	r = read_split((struct span){in.bytes, in.len}, len, 0);
	assert_int_equal(r.result.outcome, WEBSOCKET_OPEN);
	assert_int_equal(r.events.len, sizeof("text:;") - 1 + len);
	assert_memory_equal(r.events.bytes + 5, payload.bytes, len);
	assert_true(r.was_idle);
	buf_fini(&r.events);
	buf_fini(&payload);
	buf_fini(&in);
}

/* --- control frames ------------------------------------------------------- */

static void a_ping_is_answered_with_its_payload(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | PING, BYTES("beat"));
	frame_put_frame(&in, FIN | PING, BYTES(""));
	assert_events(&in, SPAN("reply:\x8a\x04"
				"beat;reply:\x8a\0;"));
}

static void a_ping_of_125_bytes_is_answered_with_all_of_them(void **state)
{
	struct buf payload = {0};
	struct buf in = {0};
	struct buf events = {0};

	(void)state;
	put_pattern(&payload, 125);
	frame_put_frame(&in, FIN | PING, payload.bytes, 125);
	put(&events, BYTES("reply:\x8a\x7d"));
	put(&events, payload.bytes, 125);
	put(&events, ";", 1);
	assert_events(&in, (struct span){events.bytes, events.len});
	buf_fini(&payload);
	buf_fini(&events);
}

static void each_of_many_pings_is_answered(void **state)
{
	struct buf in = {0};
	struct buf events = {0};

	(void)state;
	for (int i = 0; i < 3000; i++) {
		frame_put_frame(&in, FIN | PING, BYTES("p"));
		put(&events, BYTES("reply:\x8a\x01p;"));
	}
	assert_events(&in, (struct span){events.bytes, events.len});
	buf_fini(&events);
}

static void a_pong_tells_nothing(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | PONG, BYTES("beat"));
	frame_put_frame(&in, FIN | PONG, BYTES(""));
	assert_events(&in, SPAN(""));
}

static void control_frames_may_come_between_fragments(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("one\xc3"));
	frame_put_frame(&in, FIN | PING, BYTES("\xff"));
	frame_put_frame(&in, 0, BYTES("\xa9"));
	frame_put_frame(&in, FIN | PONG, BYTES("y"));
	frame_put_frame(&in, FIN, BYTES("two"));
	assert_events(&in, SPAN("reply:\x8a\x01\xff;text:one\xc3\xa9two;"));
}

static void a_close_is_answered_with_its_code(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | CLOSE,
			BYTES("\x03\xe9going, \xc3\xa9t\xc3\xa9"));
	assert_closed(&in, SPAN("reply:\x88\x02\x03\xe9;"), 1001);
}

static void a_close_without_a_code_is_answered_without_one(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | CLOSE, BYTES(""));
	assert_closed(&in, SPAN("reply:\x88\0;"), 1005);
}

static void a_close_may_come_between_fragments(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, TEXT, BYTES("one"));
	frame_put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
	assert_closed(&in, SPAN("reply:\x88\x02\x03\xe8;"), 1000);
}

static void nothing_behind_a_close_is_read(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
	frame_put_frame(&in, FIN | TEXT, BYTES("late"));
	frame_put_frame(&in, FIN | PING, BYTES("late"));
	frame_put_frame(&in, FIN | 0xf, BYTES("bad"));
	assert_closed(&in, SPAN("reply:\x88\x02\x03\xe8;"), 1000);
}

static bool may_be_sent(unsigned code)
{
	return (code >= 1000 && code <= 1003) ||
	       (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* RFC 6455 7.4 and the IANA registry. */
static void just_the_close_codes_that_may_be_sent_are_accepted(void **state)
{
	(void)state;
	for (unsigned code = 0; code <= 65535; code++) {
		uint8_t body[2] = {(uint8_t)(code >> 8), (uint8_t)code};
		struct buf in = {0};
		struct record r;

		frame_put_frame(&in, FIN | CLOSE, body, sizeof(body));
		r = read_split((struct span){in.bytes, in.len}, LIMIT, 0);
		assert_int_equal(r.result.outcome, may_be_sent(code)
							   ? WEBSOCKET_CLOSED
							   : WEBSOCKET_FAILED);
		assert_int_equal(r.result.code,
				 may_be_sent(code) ? code : 1002);
		assert_int_equal(r.events.len, may_be_sent(code) ? 11 : 0);
		buf_fini(&r.events);
		buf_fini(&in);
	}
}

/* --- compressed messages -------------------------------------------------- */

static int agree(void **state)
{
	(void)state;
	inflater = inflater_new();
	return inflater == NULL;
}

static int disagree(void **state)
{
	(void)state;
	inflater_free(inflater);
	inflater = NULL;
	return 0;
}

/* The payload of a compressed message. */
static struct buf deflated(const void *bytes, size_t len)
{
	struct deflater *d = deflater_new(6, 1);
	struct buf out = {0};

	assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL,
					 (struct span){bytes, len}, SIZE_MAX,
					 &out),
			 0);
	out.len -= DEFLATE_TAIL_LEN;
	deflater_free(d);
	return out;
}

/* A compressed message of one frame. */
static void put_deflated(struct buf *b, unsigned opcode, const void *bytes,
			 size_t len)
{
	struct buf payload = deflated(bytes, len);

	frame_put_frame(b, FIN | RSV1 | opcode, payload.bytes, payload.len);
	buf_fini(&payload);
}

#define HELLO "\xf2\x48\xcd\xc9\xc9\x07\x00" /* RFC 7692 7.2.3.1 */

static void a_compressed_message_is_inflated(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | RSV1 | TEXT, BYTES(HELLO));
	frame_put_frame(&in, FIN | RSV1 | BINARY, BYTES(HELLO));
	frame_put_frame(&in, FIN | TEXT, BYTES("plain"));
	frame_put_frame(&in, FIN | RSV1 | TEXT, BYTES("\x00"));
	frame_put_frame(&in, FIN | RSV1 | TEXT, BYTES(HELLO));
	assert_events(&in, SPAN("text:Hello;binary:Hello;text:plain;text:;"
				"text:Hello;"));
}

/* RFC 7692 6.1: the bit says it of the whole message. */
static void a_compressed_message_may_be_fragmented(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
	frame_put_frame(&in, FIN | PING, BYTES("p"));
	frame_put_frame(&in, 0, BYTES(""));
	frame_put_frame(&in, FIN, BYTES("\xc9\xc9\x07\x00"));
	frame_put_frame(&in, TEXT, BYTES("pl"));
	frame_put_frame(&in, FIN, BYTES("ain"));
	assert_events(&in, SPAN("reply:\x8a\x01p;text:Hello;text:plain;"));
}

static void rsv1_stands_in_the_first_frame_alone(void **state)
{
	static const unsigned firsts[] = {FIN | RSV1 | CLOSE, FIN | RSV1 | PING,
					  FIN | RSV1 | PONG, FIN | RSV1, RSV1};

	(void)state;
	for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
		struct buf in = {0};
		frame_put_frame(&in, RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
		frame_put_frame(&in, firsts[i], BYTES("\x03\xe8"));
		assert_fails(&in, SPAN(""), 1002);
	}
	for (size_t i = 0; i < 3; i++) {
		struct buf in = {0};
		frame_put_frame(&in, firsts[i], BYTES("\x03\xe8"));
		assert_fails(&in, SPAN(""), 1002);
	}
}

static void the_other_reserved_bits_stay_errors(void **state)
{
	(void)state;
	for (unsigned rsv = 1; rsv < 8; rsv++) {
		struct buf in = {0};
		if (rsv == 4)
			continue;
		frame_put_frame(&in, FIN | rsv << 4 | TEXT, BYTES(HELLO));
		assert_fails(&in, SPAN(""), 1002);
	}
}

static void what_can_not_be_inflated_fails_with_1007(void **state)
{
	struct buf in = {0};

	(void)state;
	frame_put_frame(&in, FIN | RSV1 | TEXT, BYTES("Hello"));
	assert_fails(&in, SPAN(""), 1007);
	frame_put_frame(&in, FIN | RSV1 | BINARY, BYTES("\xf2\x48\xcd"));
	assert_fails(&in, SPAN(""), 1007);
}

static void text_is_checked_once_it_is_inflated(void **state)
{
	struct buf in = {0};

	(void)state;
	put_deflated(&in, TEXT, BYTES("\xc3\xa4\xe2\x82\xac"));
	put_deflated(&in, BINARY, BYTES("\xff"));
	put_deflated(&in, TEXT, BYTES("a\xff"));
	assert_fails(&in, SPAN("text:\xc3\xa4\xe2\x82\xac;binary:\xff;"), 1007);
	put_deflated(&in, TEXT, BYTES("\xe2\x82")); /* ends inside */
	put_deflated(&in, TEXT, BYTES("\xac"));
	assert_fails(&in, SPAN(""), 1007);
}

static void a_bomb_fails_with_1009(void **state)
{
	static char zeros[LIMIT + 1];
	struct buf in = {0};

	(void)state;
	put_deflated(&in, BINARY, zeros, sizeof zeros);
	assert_in_range(in.len, 1, 200);
	assert_fails(&in, SPAN(""), 1009);
	char *many = calloc(1, DEFLATE_MAX_BYTES);
	put_deflated(&in, BINARY, many, DEFLATE_MAX_BYTES);
	free(many);
	assert_fails(&in, SPAN(""), 1009);
}

static void the_limit_holds_for_what_is_inflated(void **state)
{
	static char text[LIMIT];
	struct buf in = {0};
	struct buf events = {0};

	(void)state;
	memset(text, 'a', sizeof text);
	put_deflated(&in, TEXT, text, sizeof text);
	put(&events, "text:", 5);
	put(&events, text, sizeof text);
	put(&events, ";", 1);
	assert_events(&in, (struct span){events.bytes, events.len});
	buf_fini(&events);
}

/* Blocks without content are not for free. */
static void a_payload_that_does_not_end_fails_with_1009(void **state)
{
	static char blocks[LIMIT / 4];
	struct buf in = {0};

	(void)state;
	for (size_t i = 0; i + 5 <= sizeof blocks; i += 5)
		memcpy(blocks + i, "\x00\x00\x00\xff\xff", 5);
	frame_put_frame(&in, RSV1 | BINARY, blocks, sizeof blocks);
	for (int i = 0; i < 4; i++)
		frame_put_frame(&in, 0, blocks, sizeof blocks);
	assert_fails(&in, SPAN(""), 1009);
}

/* One inflater serves all of a thread: nothing of it is in use between the
 * frames of a message. */
static void messages_of_two_connections_may_be_mixed(void **state)
{
	struct websocket *all[2] = {websocket_new(LIMIT), websocket_new(LIMIT)};
	struct buf parts[2] = {{0}, {0}};
	struct record r[2];

	(void)state;
	memset(r, 0, sizeof r);
	frame_put_frame(&parts[0], RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
	frame_put_frame(&parts[1], FIN, BYTES("\xc9\xc9\x07\x00"));
	for (int i = 0; i < 2; i++)
		websocket_set_inflater(all[i], inflater);
	for (int part = 0; part < 2; part++)
		for (int i = 0; i < 2; i++)
			websocket_read(all[i],
				       (struct span){parts[part].bytes,
						     parts[part].len},
				       &handler, &r[i]);
	for (int i = 0; i < 2; i++) {
		assert_true(span_equal(
			(struct span){r[i].events.bytes, r[i].events.len},
			SPAN("text:Hello;")));
		buf_fini(&r[i].events);
		buf_fini(&parts[i]);
		websocket_free(all[i]);
	}
}

static void a_header_may_say_that_the_payload_is_compressed(void **state)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;

	(void)state;
	assert_int_equal(websocket_write_header(end, RSV1 | TEXT, 5), 2);
	assert_memory_equal(end - 2, "\xc1\x05", 2);
}

#define AGREED(test) cmocka_unit_test_setup_teardown(test, agree, disagree)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_key_of_the_rfc_is_accepted_as_there),
		cmocka_unit_test(a_key_that_is_not_16_bytes_in_base64_is_400),
		cmocka_unit_test(
			a_header_has_the_shortest_length_and_ends_at_the_payload),
		cmocka_unit_test(a_header_of_binary_has_opcode_2),
		cmocka_unit_test(a_close_frame_has_code_and_reason),
		cmocka_unit_test(a_close_frame_without_a_code_has_no_body),
		cmocka_unit_test(
			a_long_reason_is_cut_at_the_end_of_a_character),
		cmocka_unit_test(a_ping_frame_has_its_payload),
		cmocka_unit_test(the_masked_hello_of_the_rfc_is_read),
		cmocka_unit_test(messages_come_in_order_and_with_their_type),
		cmocka_unit_test(fragments_make_one_message),
		cmocka_unit_test(
			messages_of_every_boundary_length_are_read_whole),
		cmocka_unit_test(a_message_of_16_mib_is_read_whole),
		cmocka_unit_test(a_ping_is_answered_with_its_payload),
		cmocka_unit_test(
			a_ping_of_125_bytes_is_answered_with_all_of_them),
		cmocka_unit_test(each_of_many_pings_is_answered),
		cmocka_unit_test(a_pong_tells_nothing),
		cmocka_unit_test(control_frames_may_come_between_fragments),
		cmocka_unit_test(a_close_is_answered_with_its_code),
		cmocka_unit_test(
			a_close_without_a_code_is_answered_without_one),
		cmocka_unit_test(a_close_may_come_between_fragments),
		cmocka_unit_test(nothing_behind_a_close_is_read),
		cmocka_unit_test(
			just_the_close_codes_that_may_be_sent_are_accepted),
		AGREED(a_compressed_message_is_inflated),
		AGREED(a_compressed_message_may_be_fragmented),
		AGREED(rsv1_stands_in_the_first_frame_alone),
		AGREED(the_other_reserved_bits_stay_errors),
		AGREED(what_can_not_be_inflated_fails_with_1007),
		AGREED(text_is_checked_once_it_is_inflated),
		AGREED(a_bomb_fails_with_1009),
		AGREED(the_limit_holds_for_what_is_inflated),
		AGREED(a_payload_that_does_not_end_fails_with_1009),
		AGREED(messages_of_two_connections_may_be_mixed),
		cmocka_unit_test(
			a_header_may_say_that_the_payload_is_compressed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
