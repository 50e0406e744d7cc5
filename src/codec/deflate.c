/* deflate.c - zlib, raw, one message at a time. */
#include "codec/deflate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/check.h"
#include "base/memory.h"

#define STEP_BYTES  65536 /* room made for inflated bytes at once */
#define FLUSH_BYTES 16    /* more than what a flush adds */

_Static_assert(DEFLATE_MAX_BYTES <= UINT32_MAX, "zlib's lengths are unsigned");

/* A window's size in bits, and how much memory zlib spends on speed. */
static const struct {
	int bits;
	int memory;
} windows[DEFLATE_WINDOWS] = {
	[DEFLATE_WINDOW_FULL] = {DEFLATE_WINDOW_MAX, 8},
	[DEFLATE_WINDOW_SMALL] = {DEFLATE_WINDOW_MIN, 5},
};

/* --- memory --------------------------------------------------------------- */

/* Before each block of zlib's memory. */
union block {
	size_t size;
	max_align_t align;
};

static void *allocate(void *user, unsigned count, unsigned size)
{
	size_t bytes = sizeof(union block) + (size_t)count * size;
	union block *block = calloc(1, bytes);

	(void)user;
	if (block == NULL)
		return NULL;
	block->size = bytes;
	memory_charge(bytes);
	return block + 1;
}

static void release_block(void *user, void *memory)
{
	union block *block = (union block *)memory - 1;

	(void)user;
	memory_credit(block->size);
	free(block);
}

/* zlib's next_in is not const; it does not write there. */
static void set_input(z_stream *z, struct span bytes)
{
	z->next_in = (Bytef *)(uintptr_t)bytes.bytes;
	z->avail_in = (uInt)bytes.len;
}

static void count_deflated(struct deflate_totals *totals, size_t in, size_t out)
{
	totals->messages++;
	totals->bytes_in += in;
	totals->bytes_out += out;
}

/* --- compressing ---------------------------------------------------------- */

struct deflater {
	int level;
	size_t min_bytes;
	struct deflate_totals totals;
	bool is_made[DEFLATE_WINDOWS];
	z_stream streams[DEFLATE_WINDOWS];
};

struct deflater *deflater_new(int level, size_t min_bytes)
{
	struct deflater *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->level = level;
	d->min_bytes = min_bytes;
	return d;
}

void deflater_free(struct deflater *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; i < DEFLATE_WINDOWS; i++)
		if (d->is_made[i])
			deflateEnd(&d->streams[i]);
	free(d);
}

bool deflater_takes(const struct deflater *d, size_t len)
{
	return d != NULL && d->min_bytes > 0 && len >= d->min_bytes &&
	       len <= DEFLATE_MAX_BYTES;
}

struct deflate_totals deflater_totals(const struct deflater *d)
{
	return d->totals;
}

/* Makes the context for a window ready. Returns NULL without memory. */
static z_stream *start_deflating(struct deflater *d, enum deflate_window window)
{
	z_stream *z = &d->streams[window];

	if (d->is_made[window]) {
		CHECK(deflateReset(z) == Z_OK);
		return z;
	}
	*z = (z_stream){.zalloc = allocate, .zfree = release_block};
	if (deflateInit2(z, d->level, Z_DEFLATED, -windows[window].bits,
			 windows[window].memory, Z_DEFAULT_STRATEGY) != Z_OK)
		return NULL;
	d->is_made[window] = true;
	return z;
}

int deflater_append(struct deflater *d, enum deflate_window window,
		    struct span data, size_t max, struct buf *out)
{
	z_stream *z = start_deflating(d, window);

	CHECK(data.len <= DEFLATE_MAX_BYTES);
	if (z == NULL)
		return -ENOMEM;
	/* One byte more than allowed: if none is left over, the flush may be
	 * incomplete. */
	size_t room = deflateBound(z, (uLong)data.len) + FLUSH_BYTES;
	if (room > max)
		room = max;
	room++;
	if (buf_reserve(out, room) != 0)
		return -ENOMEM;
	set_input(z, data);
	z->next_out = (Bytef *)out->bytes + out->len;
	z->avail_out = (uInt)room;
	int rv = deflate(z, Z_SYNC_FLUSH);
	CHECK(rv == Z_OK || rv == Z_BUF_ERROR);
	if (z->avail_out == 0)
		return -E2BIG;
	size_t len = room - z->avail_out;
	CHECK(z->avail_in == 0 && len >= DEFLATE_TAIL_LEN);
	count_deflated(&d->totals, data.len, len);
	out->len += len;
	return 0;
}

size_t deflate_stored_len(size_t len)
{
	size_t blocks = (len + DEFLATE_STORED_MAX - 1) / DEFLATE_STORED_MAX;

	return len + blocks * DEFLATE_STORED_OVERHEAD;
}

void deflate_write_stored_head(uint8_t out[static DEFLATE_STORED_OVERHEAD],
			       size_t len)
{
	CHECK(len <= DEFLATE_STORED_MAX);
	out[0] = 0; /* not the last; stored; the rest of the byte */
	out[1] = (uint8_t)(len & 0xff);
	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)(~len & 0xff);
	out[4] = (uint8_t)(~len >> 8 & 0xff);
}

int deflate_append_stored(struct buf *out, struct span data)
{
	if (buf_reserve(out, deflate_stored_len(data.len)) != 0)
		return -ENOMEM;
	while (data.len > 0) {
		size_t len = data.len < DEFLATE_STORED_MAX ? data.len
							   : DEFLATE_STORED_MAX;
		uint8_t *p = (uint8_t *)out->bytes + out->len;
		deflate_write_stored_head(p, len);
		memcpy(p + DEFLATE_STORED_OVERHEAD, data.bytes, len);
		out->len += DEFLATE_STORED_OVERHEAD + len;
		data.bytes += len;
		data.len -= len;
	}
	return 0;
}

void deflate_store_in_place(struct buf *out, size_t from, size_t gap)
{
	const char *bytes = out->bytes + from + gap;
	size_t left = out->len - from - gap;

	CHECK(gap >= deflate_stored_len(left) - left);
	out->len = from;
	/* The block is complete; the next byte begins another. */
	while (left > 0) {
		size_t len =
			left < DEFLATE_STORED_MAX ? left : DEFLATE_STORED_MAX;
		char *to = out->bytes + out->len;
		uint8_t head[DEFLATE_STORED_OVERHEAD];
		deflate_write_stored_head(head, len);
		memmove(to + sizeof head, bytes, len);
		memcpy(to, head, sizeof head);
		out->len += sizeof head + len;
		bytes += len;
		left -= len;
	}
}

/* --- inflating ------------------------------------------------------------ */

struct inflater {
	struct deflate_totals totals;
	bool is_made;
	z_stream stream;
	struct buf out; /* the message; charged */
};

struct inflater *inflater_new(void)
{
	return calloc(1, sizeof(struct inflater));
}

static void drop_out(struct inflater *i)
{
	memory_credit(i->out.cap);
	buf_fini(&i->out);
}

void inflater_free(struct inflater *i)
{
	if (i == NULL)
		return;
	if (i->is_made)
		inflateEnd(&i->stream);
	drop_out(i);
	free(i);
}

struct deflate_totals inflater_totals(const struct inflater *i)
{
	return i->totals;
}

static z_stream *start_inflating(struct inflater *i)
{
	z_stream *z = &i->stream;

	if (i->is_made) {
		CHECK(inflateReset(z) == Z_OK);
		return z;
	}
	*z = (z_stream){.zalloc = allocate, .zfree = release_block};
	if (inflateInit2(z, -DEFLATE_WINDOW_MAX) != Z_OK)
		return NULL;
	i->is_made = true;
	return z;
}

/* Whether zlib is between two blocks (zlib.h: data_type). */
static bool is_between_blocks(const z_stream *z)
{
	return (z->data_type & 128) != 0;
}

/* Goes on behind a block that is marked as the last: another one of the same
 * message follows, which may refer to the bytes before. */
static int start_again(z_stream *z, const struct buf *out)
{
	size_t known = out->len < 1u << DEFLATE_WINDOW_MAX
			       ? out->len
			       : 1u << DEFLATE_WINDOW_MAX;

	CHECK(inflateReset(z) == Z_OK);
	if (known == 0)
		return Z_OK;
	return inflateSetDictionary(
		z, (const Bytef *)out->bytes + out->len - known, (uInt)known);
}

#define ENDED 1 /* by a block marked as the last, at the end of the input */

/* Returns 0 or -ENOMEM. */
static int reserve_out(struct inflater *i, size_t room)
{
	size_t before = i->out.cap;
	int rv = buf_reserve(&i->out, room);

	memory_charge(i->out.cap - before);
	return rv == 0 ? 0 : -ENOMEM;
}

/* Inflates the stream's input. Returns 0 once all is used, ENDED, or an error
 * as inflater_inflate(). */
static int inflate_some(struct inflater *i, size_t max)
{
	z_stream *z = &i->stream;
	struct buf *out = &i->out;

	for (;;) {
		size_t room = max + 1 - out->len; /* one more tells of too much
						   */
		if (room > STEP_BYTES)
			room = STEP_BYTES;
		if (reserve_out(i, room) != 0)
			return -ENOMEM;
		z->next_out = (Bytef *)out->bytes + out->len;
		z->avail_out = (uInt)room;
		int rv = inflate(z, Z_SYNC_FLUSH);
		out->len += room - z->avail_out;
		if (out->len > max)
			return -E2BIG;
		if (rv == Z_STREAM_END && z->avail_in == 0)
			return ENDED;
		if (rv == Z_STREAM_END)
			rv = start_again(z, out);
		if (rv == Z_MEM_ERROR)
			return -ENOMEM;
		if (rv != Z_OK && rv != Z_BUF_ERROR)
			return -EINVAL;
		if (z->avail_in == 0 && z->avail_out > 0)
			return 0;
	}
}

int inflater_inflate(struct inflater *i, struct span payload, size_t max,
		     struct span *out)
{
	const struct span tail = SPAN(DEFLATE_TAIL);
	z_stream *z = start_inflating(i);

	if (z == NULL)
		return -ENOMEM;
	if (payload.len > UINT32_MAX)
		return -E2BIG;
	if (max > UINT32_MAX)
		max = UINT32_MAX;
	if (i->out.cap > INFLATER_KEEP_BYTES)
		drop_out(i);
	i->out.len = 0;
	set_input(z, payload);
	int rv = inflate_some(i, max);
	/* If a block marked as the last ends the payload, the tail belongs to
	 * no block. */
	if (rv == 0) {
		set_input(z, tail);
		rv = inflate_some(i, max);
		if (rv == 0 && !is_between_blocks(z))
			rv = -EINVAL;
	}
	if (rv < 0)
		return rv;
	*out = (struct span){i->out.bytes, i->out.len};
	count_deflated(&i->totals, payload.len, out->len);
	return 0;
}
