/* outq.c - a ring of chunk pointers. */
#include "conn/outq.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

#define CHUNK_MIN 512 /* bytes of room in a chunk made by outq_write() */

static uint32_t cap_of(const struct outq *q)
{
	return q->cap == 0 ? OUTQ_FEW : q->cap;
}

static struct chunk **chunk_slot(struct outq *q, uint32_t i)
{
	struct chunk **slots = q->cap == 0 ? q->few : q->many;
	return &slots[(q->head + i) & (cap_of(q) - 1)];
}

static struct chunk *chunk_at(const struct outq *q, uint32_t i)
{
	struct chunk *const *slots = q->cap == 0 ? q->few : q->many;
	return slots[(q->head + i) & (cap_of(q) - 1)];
}

static void free_many(struct outq *q)
{
	if (q->cap == 0)
		return;
	memory_credit(q->cap * sizeof(struct chunk *));
	free(q->many);
}

static int grow_queue(struct outq *q)
{
	uint32_t cap = 4 * cap_of(q);
	struct chunk **many = calloc(cap, sizeof(struct chunk *));
	if (many == NULL)
		return UV_ENOMEM;
	memory_charge(cap * sizeof(struct chunk *));
	for (uint32_t i = 0; i < q->count; i++)
		many[i] = *chunk_slot(q, i);
	free_many(q);
	q->many = many;
	q->cap = cap;
	q->head = 0;
	return 0;
}

/* An empty queue keeps no memory. */
static void shrink(struct outq *q)
{
	free_many(q);
	q->cap = 0;
	q->head = 0;
}

void outq_fini(struct outq *q)
{
	outq_truncate(q, 0);
}

int outq_push(struct outq *q, struct chunk *c)
{
	if (q->count == cap_of(q) && grow_queue(q) != 0)
		return UV_ENOMEM;
	*chunk_slot(q, q->count++) = chunk_ref(c);
	q->bytes += c->len;
	return 0;
}

int outq_write(struct outq *q, struct span bytes, uint32_t sealed)
{
	return outq_write_pieces(q, &bytes, 1, sealed);
}

static void append_all(struct chunk *c, const struct span *pieces,
		       unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		chunk_append(c, pieces[i].bytes, pieces[i].len);
}

int outq_write_pieces(struct outq *q, const struct span *pieces, unsigned count,
		      uint32_t sealed)
{
	struct chunk *last =
		q->count > sealed ? *chunk_slot(q, q->count - 1) : NULL;
	size_t len = 0;

	for (unsigned i = 0; i < count; i++)
		len += pieces[i].len;
	if (last != NULL && last->refs == 1 && last->cap - last->len >= len &&
	    last->cap > 0) {
		append_all(last, pieces, count);
		q->bytes += len;
		return 0;
	}
	struct chunk *c = chunk_new(len < CHUNK_MIN ? CHUNK_MIN : len);
	if (c == NULL)
		return UV_ENOMEM;
	append_all(c, pieces, count);
	int rv = outq_push(q, c);
	chunk_unref(c);
	return rv;
}

unsigned outq_gather(const struct outq *q, uv_buf_t *bufs, unsigned max,
		     size_t max_bytes)
{
	size_t bytes = 0;
	unsigned n = 0;
	uint32_t skip = q->head_offset;

	while (n < max && n < q->count && bytes < max_bytes) {
		const struct chunk *c = chunk_at(q, n);
		/* libuv's uv_buf_t is for reading too, hence not const. */
		bufs[n].base = (char *)(uintptr_t)(c->bytes + skip);
		bufs[n].len = c->len - skip;
		bytes += bufs[n].len;
		skip = 0;
		n++;
	}
	return n;
}

size_t outq_spared_bytes(const struct outq *q)
{
	bool is_oldest = true;
	size_t bytes = 0;

	for (uint32_t i = 0; i < q->count; i++) {
		const struct chunk *c = chunk_at(q, i);
		if (is_oldest || c->is_paced)
			bytes += c->len;
		is_oldest = is_oldest && c->is_continued;
	}
	return bytes - q->head_offset;
}

void outq_consume(struct outq *q, size_t len)
{
	CHECK(len <= q->bytes);
	q->bytes -= len;
	while (q->count > 0) {
		struct chunk *c = *chunk_slot(q, 0);
		size_t left = c->len - q->head_offset;
		if (len < left) {
			q->head_offset += (uint32_t)len;
			return;
		}
		len -= left;
		q->head_offset = 0;
		q->head = (q->head + 1) & (cap_of(q) - 1);
		q->count--;
		chunk_unref(c);
	}
	shrink(q);
}

static void drop_newest(struct outq *q)
{
	struct chunk *c = *chunk_slot(q, --q->count);

	q->bytes -= q->count == 0 ? c->len - q->head_offset : c->len;
	chunk_unref(c);
	if (q->count == 0) {
		q->head_offset = 0;
		shrink(q);
	}
}

void outq_truncate(struct outq *q, uint32_t keep)
{
	while (keep > 0 && keep < q->count &&
	       chunk_at(q, keep - 1)->is_continued)
		keep++;
	while (q->count > keep)
		drop_newest(q);
}

void outq_drop_unfinished(struct outq *q, uint32_t sealed)
{
	while (q->count > sealed && chunk_at(q, q->count - 1)->is_continued)
		drop_newest(q);
}
