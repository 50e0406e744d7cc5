/* deflate.h - DEFLATE (RFC 1951) for messages. Each message is compressed by
 * itself, so that all subscribers share the bytes; inflating keeps no memory
 * between messages.
 *
 * Uses zlib (third_party/README.md says why). Its contexts are large, so each
 * thread has one of each kind, made at the first use and charged to memory.h.
 * Codec: no socket or clock. A struct belongs to one thread. */
#ifndef ISIMUD_CODEC_DEFLATE_H
#define ISIMUD_CODEC_DEFLATE_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* zlib refuses 8 bits (256 bytes) of raw DEFLATE, and took 9 for it before
 * 1.2.9: so nobody is promised a window of 8. */
#define DEFLATE_WINDOW_MIN 9
#define DEFLATE_WINDOW_MAX 15

/* The windows that there are contexts for. */
enum deflate_window {
	DEFLATE_WINDOW_FULL,  /* 15 bits: 32 KiB */
	DEFLATE_WINDOW_SMALL, /* 9 bits: 512 bytes, for who can't have more */
	DEFLATE_WINDOWS,
};

/* What is longer is not compressed: a loop's thread would be at it for more
 * than its budget (src/README.md: Turns). */
#define DEFLATE_MAX_BYTES 262144

/* How much was done. */
struct deflate_totals {
	uint64_t messages;
	uint64_t bytes_in;
	uint64_t bytes_out;
};

/* Compresses. */
struct deflater;

/* `level`: 1 (fastest) to 9. `min_bytes`: what is shorter is not compressed; 0:
 * nothing is. NULL without memory. */
struct deflater *deflater_new(int level, size_t min_bytes);
void deflater_free(struct deflater *d); /* NULL is fine */

/* Whether data of `len` bytes is to be compressed at all. */
bool deflater_takes(const struct deflater *d, size_t len);

/* Appends `data`, compressed into blocks of which none is the last, and ended
 * by a full flush: the bytes end with an empty stored block, 00 00 ff ff, and
 * refer to nothing before them. Returns 0; or with `out` unchanged UV_ENOMEM,
 * or UV_E2BIG if it would take more than `max` bytes. */
int deflater_append(struct deflater *d, enum deflate_window window,
		    struct span data, size_t max, struct buf *out);
#define DEFLATE_TAIL     "\x00\x00\xff\xff"
#define DEFLATE_TAIL_LEN 4

/* The bytes that deflate_append_stored() appends for `len` bytes. */
#define DEFLATE_STORED_MAX      65535 /* bytes in one stored block */
#define DEFLATE_STORED_OVERHEAD 5     /* bytes before them */
size_t deflate_stored_len(size_t len);

/* Writes the head of a stored block of `len` bytes, at most DEFLATE_STORED_MAX.
 */
void deflate_write_stored_head(uint8_t out[static DEFLATE_STORED_OVERHEAD],
			       size_t len);

/* Appends `data` as stored blocks (RFC 1951 3.2.4), none of them the last: for
 * bytes in a compressed stream that are not worth compressing. They can follow
 * a full flush, or each other. Empty data appends nothing. Returns 0, or
 * -ENOMEM with `out` unchanged. */
int deflate_append_stored(struct buf *out, struct span data);

/* Makes stored blocks of what `out` has behind `from`, in place: `gap` free
 * bytes, at least deflate_stored_len(n) - n, and then n bytes. */
void deflate_store_in_place(struct buf *out, size_t from, size_t gap);

/* An empty stored block. deflater_append() ends with one; put one behind stored
 * data in a stream too, since Go's decoder hands out data only then. */
#define DEFLATE_FLUSH     "\x00\x00\x00\xff\xff"
#define DEFLATE_FLUSH_LEN 5

/* The head of a gzip stream (RFC 1952 2.3) without a name, a time or a system;
 * any of those blocks may follow it. */
#define DEFLATE_GZIP_HEAD     "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
#define DEFLATE_GZIP_HEAD_LEN 10

/* What deflater_append() has done so far. */
struct deflate_totals deflater_totals(const struct deflater *d);

/* Inflates messages of permessage-deflate, each by itself. */
struct inflater;

/* NULL without memory. It keeps a buffer of up to INFLATER_KEEP_BYTES. */
#define INFLATER_KEEP_BYTES 131072
struct inflater *inflater_new(void);
void inflater_free(struct inflater *i); /* NULL is fine */

/* Inflates the payload of a whole message (RFC 7692 7.2.2), of which the tail
 * is missing: in steps of 64 KiB, and never to more than `max` bytes. Blocks
 * may be marked as the last. `*out` lies in the inflater until the next call.
 * Returns 0; -E2BIG if it is more, -EINVAL if it is not DEFLATE or ends too
 * early, or -ENOMEM; then `*out` is undefined. */
int inflater_inflate(struct inflater *i, struct span payload, size_t max,
		     struct span *out);

/* The bytes that the payload of a message of at most `max` bytes can have: any
 * compressor's own blocks included, but not blocks without end. */
static inline size_t inflater_payload_max(size_t max)
{
	return max > SIZE_MAX / 2 ? max : max + max / 64 + 64;
}

struct deflate_totals inflater_totals(const struct inflater *i);

#endif
