/* outq.h - what one connection still has to write: chunks, oldest first.
 *
 * Up to two chunks need no memory of their own: mostly there are not more
 * between two flushes. Part of a struct conn, which checks its thread. */
#ifndef ISIMUD_CONN_OUTQ_H
#define ISIMUD_CONN_OUTQ_H

#include "conn/chunk.h"

#include <uv.h>

#define OUTQ_FEW 2

struct outq {
	size_t bytes;         /* not written yet */
	uint32_t head;        /* index of the oldest */
	uint32_t count;       /* chunks */
	uint32_t cap;         /* of `many`, a power of two; 0: `few` is used */
	uint32_t head_offset; /* bytes of the oldest that are written */
	union {
		struct chunk *few[OUTQ_FEW];
		struct chunk **many;
	};
};

/* Drops all chunks. Zeroed memory is an empty queue. */
void outq_fini(struct outq *q);

/* Appends a chunk, taking its own reference. Returns 0 or UV_ENOMEM. */
int outq_push(struct outq *q, struct chunk *c);

/* Appends a copy of `bytes`: to the newest chunk if only this queue has it and
 * it has room, else as a new one. The first `sealed` chunks are never appended
 * to. Returns 0 or UV_ENOMEM. */
int outq_write(struct outq *q, struct span bytes, uint32_t sealed);

/* The same for `count` pieces: all are queued, or none. */
int outq_write_pieces(struct outq *q, const struct span *pieces, unsigned count,
		      uint32_t sealed);

/* Fills `bufs` with the oldest bytes: at most `max` buffers, and none after the
 * one that reaches `max_bytes`. Returns how many. */
unsigned outq_gather(const struct outq *q, uv_buf_t *bufs, unsigned max,
		     size_t max_bytes);

/* The bytes that do not count against the limit: the rest of the oldest unit (a
 * chunk, and those that continue it), and chunks that are paced. Walks over
 * all. */
size_t outq_spared_bytes(const struct outq *q);

/* Drops the oldest `len` bytes: they are written. */
void outq_consume(struct outq *q, size_t len);

/* Drops all but the first `keep` chunks and the chunks that continue the last
 * of these. */
void outq_truncate(struct outq *q, uint32_t keep);

/* Drops the newest chunks if they are a unit without its end; the first
 * `sealed` chunks stay. */
void outq_drop_unfinished(struct outq *q, uint32_t sealed);

#endif
