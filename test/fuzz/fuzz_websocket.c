/* fuzz_websocket.c - frames of a client, whole and in pieces.
 *
 * An input is three bytes (which limit, and whether messages may be compressed,
 * which message the handler refuses, how the pieces are cut) and the stream.
 * However it is cut, and whether or not each message pauses, it must come to
 * the same events and the same end; messages keep the limit and are UTF-8 if
 * they are text; replies are whole frames as a server sends them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "codec/websocket.h"

#define REFUSED 1008 /* the handler's code */

/* What was told, in order, and what it came to. */
struct record {
	size_t limit;
	struct inflater *inflater; /* NULL: nothing may be compressed */
	unsigned messages_left;    /* until one is refused; 0: none is */
	bool pauses;               /* at each message */
	bool is_silent;            /* nothing is written down */
	bool has_ended;            /* by a refusal, or the answer to a Close */
	struct buf events;
	struct websocket_result result;
	bool is_idle;
};

static void put(struct record *r, char kind, struct span bytes)
{
	if (r->is_silent)
		return;
	CHECK(buf_append(&r->events, &kind, 1) == 0);
	CHECK(buf_append(&r->events, &bytes.len, sizeof(bytes.len)) == 0);
	CHECK(buf_append(&r->events, bytes.bytes, bytes.len) == 0);
}

/* The length of the character at `bytes`, decoded as RFC 3629 3 describes it;
 * 0 if it is none. */
static size_t character_len(const uint8_t *bytes, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = bytes[0] < 0x80         ? 1
		     : bytes[0] >> 5 == 0x6  ? 2
		     : bytes[0] >> 4 == 0xe  ? 3
		     : bytes[0] >> 3 == 0x1e ? 4
					     : 0;
	uint32_t c;

	if (len <= 1)
		return len;
	if (len > left)
		return 0;
	c = bytes[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if (bytes[i] >> 6 != 2)
			return 0;
		c = c << 6 | (bytes[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

static void check_utf8(struct span text)
{
	for (size_t i = 0, len; i < text.len; i += len) {
		len = character_len((const uint8_t *)text.bytes + i,
				    text.len - i);
		CHECK(len > 0);
	}
}

static unsigned on_message(void *user, bool is_text, struct span message)
{
	struct record *r = user;

	CHECK(!r->has_ended);
	CHECK(message.bytes != NULL && message.len <= r->limit);
	if (is_text)
		check_utf8(message);
	put(r, is_text ? 't' : 'b', message);
	r->has_ended = r->messages_left > 0 && --r->messages_left == 0;
	if (r->has_ended)
		return REFUSED;
	return r->pauses ? WEBSOCKET_PAUSE : 0;
}

/* A Pong, or a Close with a code or without; a Close is the last. */
static void on_reply(void *user, struct span frame)
{
	struct record *r = user;
	const uint8_t *bytes = (const uint8_t *)frame.bytes;

	CHECK(!r->has_ended);
	CHECK(frame.len >= 2 && frame.len <= WEBSOCKET_CONTROL_MAX);
	CHECK(bytes[0] == 0x8a || bytes[0] == 0x88);
	CHECK(bytes[1] == frame.len - 2);
	if (bytes[0] == 0x88) {
		CHECK(frame.len == 2 || frame.len == 4);
		r->has_ended = true;
	}
	put(r, 'r', frame);
}

static const struct websocket_handler handler = {on_message, on_reply};

static void check_end(const struct record *r)
{
	unsigned code = r->result.code;
	const char *reason = r->result.reason;

	switch (r->result.outcome) {
	case WEBSOCKET_OPEN:
		CHECK(!r->has_ended);
		break;
	case WEBSOCKET_PAUSED:
		CHECK(false); /* run() goes on */
		break;
	case WEBSOCKET_CLOSED:
		CHECK(r->has_ended);
		CHECK(code >= 1000 && code <= 4999 && code != 1006);
		break;
	case WEBSOCKET_FAILED:
		CHECK(r->has_ended == (code == REFUSED));
		CHECK((reason == NULL) == (code == REFUSED));
		CHECK(code == 1002 || code == 1007 || code == 1009 ||
		      code == REFUSED);
		CHECK(reason == NULL || strlen(reason) <= 123);
		break;
	}
}

/* Feeds pieces of one byte or, up to `piece_max`, of random lengths. */
static void feed(struct record *r, struct websocket *ws, struct span stream,
		 size_t piece_max)
{
	while (stream.len > 0 && r->result.outcome == WEBSOCKET_OPEN) {
		size_t max = piece_max < stream.len ? piece_max : stream.len;
		size_t len = max == stream.len ? max : 1 + (size_t)rand() % max;

		r->result = websocket_read(ws, (struct span){stream.bytes, len},
					   &handler, r);
		while (r->result.outcome == WEBSOCKET_PAUSED)
			r->result = websocket_read(ws, r->result.unread,
						   &handler, r);
		stream.bytes += len;
		stream.len -= len;
	}
}

/* `ws`: NULL, or one that was another connection's. Returns one that may serve
 * the next connection, as the pool of conn/read.c does; or NULL. */
static struct websocket *run(struct record *r, struct websocket *ws,
			     struct span stream, size_t piece_max)
{
	if (ws == NULL)
		ws = websocket_new(r->limit);
	CHECK(ws != NULL);
	websocket_set_inflater(ws, r->inflater);
	feed(r, ws, stream, piece_max);
	r->is_idle = websocket_is_idle(ws);
	CHECK(websocket_memory(ws) > 0);
	check_end(r);
	if (r->is_idle && r->result.outcome == WEBSOCKET_OPEN)
		return ws;
	websocket_free(ws);
	return NULL;
}

/* Whichever allocation fails, it is 1011. */
static void run_without_memory(struct span stream, size_t limit,
			       bool may_be_compressed)
{
	for (unsigned nth = 1; nth < 30; nth++) {
		struct record r = {.limit = limit, .is_silent = true};
		if (may_be_compressed)
			r.inflater = inflater_new();

		alloc_fail_at(nth);
		struct websocket *ws = websocket_new(limit);
		if (ws != NULL)
			websocket_set_inflater(ws, r.inflater);
		if (ws != NULL)
			feed(&r, ws, stream, SIZE_MAX);
		bool has_failed = alloc_end();
		CHECK(ws != NULL || has_failed);
		if (r.result.outcome == WEBSOCKET_FAILED && !has_failed)
			CHECK(r.result.code != 1011);
		websocket_free(ws);
		inflater_free(r.inflater);
		if (!has_failed)
			return;
	}
}

static void check_same(const struct record *a, const struct record *b)
{
	struct span a_events = {a->events.bytes, a->events.len};
	struct span b_events = {b->events.bytes, b->events.len};

	CHECK(span_equal(a_events, b_events));
	CHECK(a->result.outcome == b->result.outcome);
	CHECK(a->result.code == b->result.code);
	CHECK(span_equal(span_of(a->result.reason), span_of(b->result.reason)));
	if (a->result.outcome == WEBSOCKET_OPEN)
		CHECK(a->is_idle == b->is_idle);
}

/* --- both sides ----------------------------------------------------------- */

static unsigned on_same(void *user, bool is_text, struct span message)
{
	struct span *left = user;

	CHECK(!is_text && span_equal(message, *left));
	left->bytes = NULL;
	return 0;
}

static void on_no_reply(void *user, struct span frame)
{
	(void)user;
	CHECK(frame.bytes[0] == (char)0x8a);
}

/* `ws` is told `payload` by `frame`, a whole message. */
static void check_told(struct websocket *ws, struct span frame,
		       struct span payload)
{
	static const struct websocket_handler same = {on_same, on_no_reply};

	CHECK(ws != NULL);
	CHECK(websocket_read(ws, frame, &same, &payload).outcome ==
	      WEBSOCKET_OPEN);
	CHECK(payload.bytes == NULL);
	CHECK(websocket_is_idle(ws));
	websocket_free(ws);
}

/* What one side writes, the other reads. */
static void check_sides(struct span payload)
{
	static const uint8_t mask[WEBSOCKET_MASK_BYTES] = {1, 2, 0xfe, 0xff};
	uint8_t control[WEBSOCKET_CONTROL_MAX];
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	struct buf frame = {0};

	size_t len = websocket_write_header(end, 2, payload.len);
	CHECK(buf_append(&frame, (char *)end - len, len) == 0);
	CHECK(buf_append(&frame, payload.bytes, payload.len) == 0);
	check_told(websocket_new_client(SIZE_MAX),
		   (struct span){frame.bytes, frame.len}, payload);
	frame.len = 0;
	CHECK(websocket_append_masked(&frame, 2, payload, mask) == 0);
	check_told(websocket_new(SIZE_MAX),
		   (struct span){frame.bytes, frame.len}, payload);
	buf_fini(&frame);
	alloc_fail_at(1);
	CHECK(websocket_append_masked(&frame, 2, payload, mask) != 0);
	alloc_end();
	buf_fini(&frame);
	CHECK(websocket_write_close(control, 1000, payload) <= sizeof control);
	if (payload.len <= 125)
		CHECK(websocket_write_ping(control, payload) ==
		      payload.len + 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t limits[] = {0, 8, 125, 1000, 65536, SIZE_MAX};
	struct inflater *inflater = NULL;
	struct record first = {0};
	struct websocket *pooled = NULL;
	struct span stream;
	size_t piece_maxes[] = {SIZE_MAX, 1, 8, 4096};

	if (size < 3)
		return 0;
	stream = (struct span){(const char *)data + 3, size - 3};
	srand(data[2]);
	/* Without a limit a little is too much to inflate. */
	bool may_be_compressed = data[0] >= 128 && data[0] % 6 != 5;
	if (may_be_compressed)
		inflater = inflater_new();
	for (size_t i = 0; i < sizeof(piece_maxes) / sizeof(size_t); i++) {
		struct record r = {.limit = limits[data[0] % 6],
				   .inflater = inflater,
				   .messages_left = data[1],
				   .pauses = i % 2 != 0 || data[2] % 2 != 0};

		/* Byte by byte through a long stream takes too long. */
		if (piece_maxes[i] < 4096 && stream.len > 4096)
			continue;
		pooled = run(&r, pooled, stream, piece_maxes[i]);
		if (i == 0) {
			first = r;
			continue;
		}
		check_same(&first, &r);
		buf_fini(&r.events);
	}
	websocket_free(pooled);
	buf_fini(&first.events);
	inflater_free(inflater);
	check_sides(stream);
	if (stream.len <= 4096)
		run_without_memory(stream, limits[data[0] % 6],
				   may_be_compressed);
	return 0;
}
