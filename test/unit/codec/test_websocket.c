/* test_websocket.c - what src/codec/websocket.c promises.
 *
 * Each stream of frames is fed whole, byte by byte and in random pieces, and
 * must come to the same events and the same end each time. */
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

#define LIMIT    65536 /* of a message, where a test names no other */
#define SPLITS   20    /* random ones */
#define TEXT     0x1   /* opcodes (5.2) */
#define BINARY   0x2
#define CLOSE    0x8
#define PING     0x9
#define PONG     0xa
#define FIN      0x80
#define RSV1     0x40
#define STOP     "stop" /* on_message answers this text with 1008 */
#define BYTES(s) (s), sizeof(s) - 1

/* --- streams of a client -------------------------------------------------- */

static void put(struct buf *b, const void *bytes, size_t len)
{
	assert_int_equal(buf_append(b, bytes, len), 0);
}

/* The header of a masked frame, in the shortest form. */
static void put_header(struct buf *b, unsigned first, size_t len)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof(header);
	size_t header_len = websocket_write_header(end, first & 0xf, len);

	end[-(ptrdiff_t)header_len] = (uint8_t)first;
	end[1 - (ptrdiff_t)header_len] |= 0x80;
	put(b, end - header_len, header_len);
}

/* A frame; `first` is its first byte: FIN, reserved bits, opcode. */
static void put_frame(struct buf *b, unsigned first, const void *payload,
		      size_t len)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	size_t start;

	put_header(b, first, len);
	put(b, mask, sizeof(mask));
	start = b->len;
	put(b, payload, len);
	for (size_t i = 0; i < len; i++)
		b->bytes[start + i] ^= (char)mask[i % 4];
}

/* --- what comes of them --------------------------------------------------- */

/* What was told, as `text:hello;`, `binary:...;`, `reply:...;`. */
struct record {
	struct buf events;
	struct websocket_result result;
	bool was_idle;   /* at the end */
	size_t read_len; /* up to and with the piece that came to an end */
};

static void put_event(struct buf *events, const char *kind, struct span bytes)
{
	put(events, kind, strlen(kind));
	put(events, bytes.bytes, bytes.len);
	put(events, ";", 1);
}

static unsigned on_message(void *user, bool is_text, struct span message)
{
	struct record *r = user;

	put_event(&r->events, is_text ? "text:" : "binary:", message);
	return span_equal(message, SPAN(STOP)) ? 1008 : 0;
}

static void on_reply(void *user, struct span frame)
{
	struct record *r = user;

	put_event(&r->events, "reply:", frame);
}

static const struct websocket_handler handler = {on_message, on_reply};

/* The next piece's length: of the whole, of one byte, of a random number. */
static size_t piece_len(unsigned split, size_t left)
{
	if (split == 0)
		return left;
	if (split == 1)
		return 1;
	return 1 + (size_t)rand() % left;
}

/* Whether permessage-deflate was agreed. */
static struct inflater *inflater;

static struct record read_split(struct span in, size_t limit, unsigned split)
{
	struct record r = {0};
	struct websocket *ws = websocket_new(limit);

	assert_non_null(ws);
	websocket_set_inflater(ws, inflater);
	while (r.read_len < in.len && r.result.outcome == WEBSOCKET_OPEN) {
		size_t len = piece_len(split, in.len - r.read_len);
		/* A copy of its own, so that reading past it is noticed. */
		char *piece = malloc(len);

		assert_non_null(piece);
		memcpy(piece, in.bytes + r.read_len, len);
		r.read_len += len;
		r.result = websocket_read(ws, (struct span){piece, len},
					  &handler, &r);
		free(piece);
	}
	r.was_idle = websocket_is_idle(ws);
	websocket_free(ws);
	return r;
}

/* An expected end, and how many of the bytes it takes to be certain of it. */
struct expected {
	int outcome;
	unsigned code;
	size_t certain; /* 0: do not ask */
};

static void assert_record(const struct record *r, struct span events,
			  const struct expected *e)
{
	assert_int_equal(r->result.outcome, e->outcome);
	if (e->outcome != WEBSOCKET_OPEN)
		assert_int_equal(r->result.code, e->code);
	assert_int_equal(r->events.len, events.len);
	if (events.len > 0)
		assert_memory_equal(r->events.bytes, events.bytes, events.len);
}

/* Feeds `in`, and frees it. */
static void assert_comes_to(struct buf *in, size_t limit, struct span events,
			    struct expected e)
{
	struct span bytes = {in->bytes, in->len};

	for (unsigned split = 0; split < 2 + SPLITS; split++) {
		struct record r = read_split(bytes, limit, split);

		assert_record(&r, events, &e);
		if (split == 1 && e.certain > 0)
			assert_int_equal(r.read_len, e.certain);
		if (e.outcome == WEBSOCKET_FAILED && r.result.reason != NULL)
			assert_in_range(strlen(r.result.reason), 1, 123);
		buf_fini(&r.events);
	}
	buf_fini(in);
}

static void assert_events(struct buf *in, struct span events)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){.outcome = WEBSOCKET_OPEN});
}

static void assert_fails(struct buf *in, struct span events, unsigned code)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){WEBSOCKET_FAILED, code, 0});
}

/* Fails with the byte before `certain`, no later, whatever is behind. */
static void assert_fails_at(struct buf *in, size_t certain, unsigned code)
{
	assert_comes_to(in, LIMIT, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, code, certain});
}

static void assert_closed(struct buf *in, struct span events, unsigned code)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){WEBSOCKET_CLOSED, code, 0});
}

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
	put_frame(&in, FIN | TEXT, BYTES("one"));
	put_frame(&in, FIN | BINARY, BYTES("\xff\0\xfe"));
	put_frame(&in, FIN | TEXT, BYTES(""));
	put_frame(&in, FIN | BINARY, BYTES(""));
	put_frame(&in, FIN | TEXT, BYTES("two"));
	assert_events(&in, SPAN("text:one;binary:\xff\0\xfe;text:;binary:;"
				"text:two;"));
}

static void fragments_make_one_message(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("one"));
	put_frame(&in, 0, BYTES(""));
	put_frame(&in, 0, BYTES(" two"));
	put_frame(&in, FIN, BYTES(" three"));
	put_frame(&in, BINARY, BYTES(""));
	put_frame(&in, FIN, BYTES(""));
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
	put_frame(&in, FIN | BINARY, payload.bytes, len);
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
	put_frame(&in, FIN | TEXT, payload.bytes, len);
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
	put_frame(&in, FIN | PING, BYTES("beat"));
	put_frame(&in, FIN | PING, BYTES(""));
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
	put_frame(&in, FIN | PING, payload.bytes, 125);
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
		put_frame(&in, FIN | PING, BYTES("p"));
		put(&events, BYTES("reply:\x8a\x01p;"));
	}
	assert_events(&in, (struct span){events.bytes, events.len});
	buf_fini(&events);
}

static void a_pong_tells_nothing(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | PONG, BYTES("beat"));
	put_frame(&in, FIN | PONG, BYTES(""));
	assert_events(&in, SPAN(""));
}

static void control_frames_may_come_between_fragments(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("one\xc3"));
	put_frame(&in, FIN | PING, BYTES("\xff"));
	put_frame(&in, 0, BYTES("\xa9"));
	put_frame(&in, FIN | PONG, BYTES("y"));
	put_frame(&in, FIN, BYTES("two"));
	assert_events(&in, SPAN("reply:\x8a\x01\xff;text:one\xc3\xa9two;"));
}

static void a_close_is_answered_with_its_code(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | CLOSE, BYTES("\x03\xe9going, \xc3\xa9t\xc3\xa9"));
	assert_closed(&in, SPAN("reply:\x88\x02\x03\xe9;"), 1001);
}

static void a_close_without_a_code_is_answered_without_one(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | CLOSE, BYTES(""));
	assert_closed(&in, SPAN("reply:\x88\0;"), 1005);
}

static void a_close_may_come_between_fragments(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("one"));
	put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
	assert_closed(&in, SPAN("reply:\x88\x02\x03\xe8;"), 1000);
}

static void nothing_behind_a_close_is_read(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
	put_frame(&in, FIN | TEXT, BYTES("late"));
	put_frame(&in, FIN | PING, BYTES("late"));
	put_frame(&in, FIN | 0xf, BYTES("bad"));
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

		put_frame(&in, FIN | CLOSE, body, sizeof(body));
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

	put_frame(b, FIN | RSV1 | opcode, payload.bytes, payload.len);
	buf_fini(&payload);
}

#define HELLO "\xf2\x48\xcd\xc9\xc9\x07\x00" /* RFC 7692 7.2.3.1 */

static void a_compressed_message_is_inflated(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | RSV1 | TEXT, BYTES(HELLO));
	put_frame(&in, FIN | RSV1 | BINARY, BYTES(HELLO));
	put_frame(&in, FIN | TEXT, BYTES("plain"));
	put_frame(&in, FIN | RSV1 | TEXT, BYTES("\x00"));
	put_frame(&in, FIN | RSV1 | TEXT, BYTES(HELLO));
	assert_events(&in, SPAN("text:Hello;binary:Hello;text:plain;text:;"
				"text:Hello;"));
}

/* RFC 7692 6.1: the bit says it of the whole message. */
static void a_compressed_message_may_be_fragmented(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
	put_frame(&in, FIN | PING, BYTES("p"));
	put_frame(&in, 0, BYTES(""));
	put_frame(&in, FIN, BYTES("\xc9\xc9\x07\x00"));
	put_frame(&in, TEXT, BYTES("pl"));
	put_frame(&in, FIN, BYTES("ain"));
	assert_events(&in, SPAN("reply:\x8a\x01p;text:Hello;text:plain;"));
}

static void rsv1_stands_in_the_first_frame_alone(void **state)
{
	static const unsigned firsts[] = {FIN | RSV1 | CLOSE, FIN | RSV1 | PING,
					  FIN | RSV1 | PONG, FIN | RSV1, RSV1};

	(void)state;
	for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
		struct buf in = {0};
		put_frame(&in, RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
		put_frame(&in, firsts[i], BYTES("\x03\xe8"));
		assert_fails(&in, SPAN(""), 1002);
	}
	for (size_t i = 0; i < 3; i++) {
		struct buf in = {0};
		put_frame(&in, firsts[i], BYTES("\x03\xe8"));
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
		put_frame(&in, FIN | rsv << 4 | TEXT, BYTES(HELLO));
		assert_fails(&in, SPAN(""), 1002);
	}
}

static void what_can_not_be_inflated_fails_with_1007(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | RSV1 | TEXT, BYTES("Hello"));
	assert_fails(&in, SPAN(""), 1007);
	put_frame(&in, FIN | RSV1 | BINARY, BYTES("\xf2\x48\xcd"));
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
	put_frame(&in, RSV1 | BINARY, blocks, sizeof blocks);
	for (int i = 0; i < 4; i++)
		put_frame(&in, 0, blocks, sizeof blocks);
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
	put_frame(&parts[0], RSV1 | TEXT, BYTES("\xf2\x48\xcd"));
	put_frame(&parts[1], FIN, BYTES("\xc9\xc9\x07\x00"));
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

/* --- failures: 1002 ------------------------------------------------------- */

static void each_reserved_bit_fails_with_1002(void **state)
{
	static const unsigned opcodes[] = {0, TEXT, BINARY, CLOSE, PING, PONG};

	(void)state;
	for (unsigned rsv = 1; rsv < 8; rsv++) {
		for (size_t i = 0; i < 6; i++) {
			struct buf in = {0};

			put_frame(&in, FIN | rsv << 4 | opcodes[i],
				  BYTES("\x03\xe8"));
			assert_fails(&in, SPAN(""), 1002);
		}
	}
}

static void a_reserved_bit_in_a_continuation_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("one"));
	put_frame(&in, FIN | RSV1, BYTES("two"));
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
		put_frame(&in, FIN | TEXT, BYTES("fine"));
		put_frame(&in, FIN | opcode, BYTES(""));
		assert_fails(&in, SPAN("text:fine;"), 1002);
		put_frame(&in, FIN | opcode, BYTES("x"));
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
		put_frame(&in, TEXT, BYTES("one"));
		put_frame(&in, FIN | opcode, BYTES("x"));
		put_frame(&in, FIN, BYTES("two"));
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

		put_frame(&in, opcodes[i], BYTES("\x03\xe8"));
		put_frame(&in, FIN, BYTES(""));
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
	put_frame(&in, FIN, BYTES("x"));
	assert_fails(&in, SPAN(""), 1002);
	put_frame(&in, 0, BYTES(""));
	assert_fails(&in, SPAN(""), 1002);
	put_frame(&in, TEXT, BYTES("a"));
	put_frame(&in, FIN, BYTES("b"));
	put_frame(&in, FIN, BYTES("c"));
	assert_fails(&in, SPAN("text:ab;"), 1002);
}

static void a_message_inside_another_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("one"));
	put_frame(&in, FIN | TEXT, BYTES("two"));
	assert_fails(&in, SPAN(""), 1002);
	put_frame(&in, BINARY, BYTES(""));
	put_frame(&in, BINARY, BYTES(""));
	assert_fails(&in, SPAN(""), 1002);
}

static void a_close_with_a_body_of_one_byte_fails_with_1002(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | CLOSE, BYTES("\x03"));
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

		put_frame(&in, FIN | TEXT, good_utf8[i], strlen(good_utf8[i]));
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
		put_frame(&in, TEXT, payload.bytes, payload.len);
		assert_fails_at(&in, 6 + len, 1007);
		buf_fini(&payload);
	}
}

static void a_character_over_a_border_of_fragments_is_checked(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES("\xf0\x9f"));
	put_frame(&in, 0, BYTES("\x98"));
	put_frame(&in, FIN, BYTES("\x80"));
	assert_events(&in, SPAN("text:\xf0\x9f\x98\x80;"));
	put_frame(&in, TEXT, BYTES("\xf0"));
	put_frame(&in, FIN, BYTES("\x8f\x80\x80"));
	assert_fails_at(&in, 7 + 7, 1007);
}

static void ascii_inside_a_character_fails_with_1007_at_once(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | TEXT,
		  BYTES("\xc3"
			"12345678\xa9"));
	assert_fails_at(&in, 6 + 2, 1007);
}

static void text_that_ends_inside_a_character_fails_with_1007(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | TEXT, BYTES("caf\xc3"));
	put_frame(&in, FIN | TEXT, BYTES("\xa9"));
	assert_fails(&in, SPAN(""), 1007);
	put_frame(&in, TEXT, BYTES("\xe2\x82"));
	put_frame(&in, FIN, BYTES(""));
	assert_fails(&in, SPAN(""), 1007);
}

static void binary_that_is_not_utf8_is_fine(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, BINARY, BYTES("\xff\xc3"));
	put_frame(&in, FIN, BYTES("\xc0"));
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
		put_frame(&in, FIN | CLOSE, body.bytes, body.len);
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
		put_frame(&in, FIN | CLOSE, body.bytes, body.len);
		assert_closed(&in, SPAN("reply:\x88\x02\x03\xe8;"), 1000);
		buf_fini(&body);
	}
}

static void a_close_reason_that_ends_inside_a_character_fails_with_1007(
	void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8\xe2\x82"));
	assert_fails(&in, SPAN(""), 1007);
}

/* --- failures: 1009, 1011, the handler's ---------------------------------- */

static void a_frame_over_the_limit_fails_with_1009_unread(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | TEXT, BYTES("12345678"));
	assert_comes_to(&in, 8, SPAN("text:12345678;"),
			(struct expected){.outcome = WEBSOCKET_OPEN});
	put_frame(&in, FIN | TEXT, BYTES("123456789"));
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
	put_frame(&in, TEXT, BYTES("1234"));
	put_frame(&in, FIN | PING, BYTES("this does not count"));
	put_frame(&in, 0, BYTES("5678"));
	put_frame(&in, FIN, BYTES(""));
	assert_comes_to(&in, 8,
			SPAN("reply:\x8a\x13this does not count;"
			     "text:12345678;"),
			(struct expected){.outcome = WEBSOCKET_OPEN});
	put_frame(&in, TEXT, BYTES("1234"));
	put_frame(&in, 0, BYTES("5678"));
	put_frame(&in, FIN, BYTES("9"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 10 + 10 + 7});
	put_frame(&in, BINARY, BYTES("1"));
	put(&in, BYTES("\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff"));
	put(&in, BYTES("\0\0\0\0xx"));
	assert_comes_to(&in, 8, SPAN(""),
			(struct expected){WEBSOCKET_FAILED, 1009, 7 + 15});
}

static void a_limit_of_nothing_lets_the_empty_message_through(void **state)
{
	struct buf in = {0};

	(void)state;
	put_frame(&in, FIN | TEXT, BYTES(""));
	put_frame(&in, FIN | TEXT, BYTES("1"));
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
	put_frame(&in, FIN | TEXT, BYTES("one"));
	put_frame(&in, FIN | TEXT, BYTES(STOP));
	put_frame(&in, FIN | TEXT, BYTES("unread"));
	put_frame(&in, FIN | PING, BYTES("unread"));
	put_frame(&in, FIN | 0xf, BYTES("unread"));
	r = read_split((struct span){in.bytes, in.len}, LIMIT, 0);
	assert_null(r.result.reason);
	buf_fini(&r.events);
	assert_fails(&in, SPAN("text:one;text:" STOP ";"), 1008);
}

/* --- pausing -------------------------------------------------------------- */

static unsigned pause_on_message(void *user, bool is_text, struct span message)
{
	on_message(user, is_text, message);
	return WEBSOCKET_PAUSE;
}

/* Feeds `in`, pausing behind every message, in pieces as in piece_len(). Says
 * with a '|' where it went on. */
static struct record read_pausing(struct span in, unsigned split)
{
	static const struct websocket_handler pausing = {pause_on_message,
							 on_reply};
	struct record r = {0};
	struct websocket *ws = websocket_new(LIMIT);

	assert_non_null(ws);
	while (r.read_len < in.len && r.result.outcome == WEBSOCKET_OPEN) {
		size_t len = piece_len(split, in.len - r.read_len);
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
	put_frame(&in, FIN | TEXT, BYTES("one"));
	put_frame(&in, FIN | PING, BYTES("p"));
	put_frame(&in, FIN | BINARY, BYTES("two"));
	put_frame(&in, FIN | TEXT, BYTES(""));
	put_frame(&in, TEXT, BYTES("th"));
	put_frame(&in, FIN, BYTES("ree"));
	put_frame(&in, FIN | CLOSE, BYTES("\x03\xe8"));
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
		put_frame(&in, FIN | BINARY, payload, sizeof payload);
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
		put_frame(&in, FIN | TEXT, BYTES("hello"));
		put_frame(&in, FIN | TEXT, BYTES("x"));
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
	put_frame(&in, FIN | TEXT, BYTES("hello"));
	lens[0] = in.len;
	put_frame(&in, FIN | TEXT, BYTES(""));
	lens[1] = in.len;
	put_frame(&in, FIN | PING, BYTES("beat"));
	lens[2] = in.len;
	put_frame(&in, FIN | PONG, BYTES(""));
	lens[3] = in.len;
	put_frame(&in, FIN | BINARY, long_payload, 65536);
	lens[4] = in.len;
	put_frame(&in, FIN | BINARY, long_payload, 65535);
	lens[5] = in.len;
	put_frame(&in, FIN | BINARY, long_payload, 126);
	lens[6] = in.len;
	put_frame(&in, FIN | BINARY, long_payload, 125);
	lens[7] = in.len;
	assert_idle_just_after(&in, lens);
}

static void it_is_not_idle_inside_a_fragmented_message(void **state)
{
	struct buf in = {0};
	size_t lens[2] = {0};

	(void)state;
	put_frame(&in, TEXT, BYTES(""));
	put_frame(&in, FIN | PING, BYTES("beat"));
	put_frame(&in, 0, BYTES("one"));
	put_frame(&in, FIN, BYTES(""));
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

		put_frame(&in, FIN | TEXT, BYTES("hello"));
		put_frame(&in, FIN | TEXT, BYTES("x"));
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

static void a_masked_frame_fails_a_client_with_1002(void **state)
{
	struct buf in = {0};
	struct websocket *ws;

	(void)state;
	put_frame(&in, FIN | TEXT, BYTES("hello"));
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
		cmocka_unit_test(reading_nothing_changes_nothing),
		cmocka_unit_test(what_a_client_writes_a_server_reads),
		cmocka_unit_test(a_client_reads_what_a_server_writes),
		cmocka_unit_test(a_masked_frame_fails_a_client_with_1002),
		cmocka_unit_test(freeing_null_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
