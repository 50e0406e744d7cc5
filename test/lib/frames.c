/* frames.c - see frames.h. */
#include "frames.h"

void put(struct buf *b, const void *bytes, size_t len)
{
	assert_int_equal(buf_append(b, bytes, len), 0);
}

void put_header(struct buf *b, unsigned first, size_t len)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof(header);
	size_t header_len = websocket_write_header(end, first & 0xf, len);

	end[-(ptrdiff_t)header_len] = (uint8_t)first;
	end[1 - (ptrdiff_t)header_len] |= 0x80;
	put(b, end - header_len, header_len);
}

void frame_put_frame(struct buf *b, unsigned first, const void *payload,
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

void put_event(struct buf *events, const char *kind, struct span bytes)
{
	put(events, kind, strlen(kind));
	put(events, bytes.bytes, bytes.len);
	put(events, ";", 1);
}

unsigned frame_on_message(void *user, bool is_text, struct span message)
{
	struct record *r = user;

	put_event(&r->events, is_text ? "text:" : "binary:", message);
	return span_equal(message, SPAN(STOP)) ? 1008 : 0;
}

void on_reply(void *user, struct span frame)
{
	struct record *r = user;

	put_event(&r->events, "reply:", frame);
}

size_t frame_piece_len(unsigned split, size_t left)
{
	if (split == 0)
		return left;
	if (split == 1)
		return 1;
	return 1 + (size_t)rand() % left;
}

struct inflater *inflater;

struct record read_split(struct span in, size_t limit, unsigned split)
{
	struct record r = {0};
	struct websocket *ws = websocket_new(limit);

	assert_non_null(ws);
	websocket_set_inflater(ws, inflater);
	while (r.read_len < in.len && r.result.outcome == WEBSOCKET_OPEN) {
		size_t len = frame_piece_len(split, in.len - r.read_len);
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

void assert_record(const struct record *r, struct span events,
		   const struct expected *e)
{
	assert_int_equal(r->result.outcome, e->outcome);
	if (e->outcome != WEBSOCKET_OPEN)
		assert_int_equal(r->result.code, e->code);
	assert_int_equal(r->events.len, events.len);
	if (events.len > 0)
		assert_memory_equal(r->events.bytes, events.bytes, events.len);
}

void assert_comes_to(struct buf *in, size_t limit, struct span events,
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

void assert_events(struct buf *in, struct span events)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){.outcome = WEBSOCKET_OPEN});
}

void assert_fails(struct buf *in, struct span events, unsigned code)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){WEBSOCKET_FAILED, code, 0});
}

void assert_closed(struct buf *in, struct span events, unsigned code)
{
	assert_comes_to(in, LIMIT, events,
			(struct expected){WEBSOCKET_CLOSED, code, 0});
}
