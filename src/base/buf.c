/* buf.c - a byte buffer that grows on the heap. */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <uv.h>

#include "base/check.h"

#define BUF_CAP_MIN 64

/* Fresh memory costs as much as what is written to it, a fault for each page.
 * So much at once is asked for in huge pages, where the kernel has some
 * (/sys/kernel/mm/transparent_hugepage/enabled: `madvise` or `always`). */
#define HUGE_BYTES      ((size_t)4 << 20)
#define HUGE_PAGE_BYTES ((uintptr_t)2 << 20)

static void prefer_huge_pages(const struct buf *b)
{
	uintptr_t start = ((uintptr_t)b->bytes + HUGE_PAGE_BYTES - 1) &
			  ~(HUGE_PAGE_BYTES - 1);
	uintptr_t end = ((uintptr_t)b->bytes + b->cap) & ~(HUGE_PAGE_BYTES - 1);

	/* Without them all goes on as ever. */
	if (start < end)
		madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/* At least doubles, so that appending n bytes copies O(n) of them. */
int buf_reserve(struct buf *b, size_t extra)
{
	size_t cap = b->cap * 2; /* `cap` is at most PTRDIFF_MAX */
	char *bytes;

	if (extra <= b->cap - b->len)
		return 0;
	if (extra > PTRDIFF_MAX - b->len)
		return UV_ENOMEM;
	if (cap < BUF_CAP_MIN)
		cap = BUF_CAP_MIN;
	if (cap < b->len + extra)
		cap = b->len + extra;
	if (cap > PTRDIFF_MAX)
		cap = PTRDIFF_MAX; /* no object is larger */
	bytes = realloc(b->bytes, cap);
	if (bytes == NULL)
		return UV_ENOMEM;
	b->bytes = bytes;
	b->cap = cap;
	if (cap >= HUGE_BYTES)
		prefer_huge_pages(b);
	return 0;
}

int buf_append(struct buf *b, const void *bytes, size_t len)
{
	int rv;

	if (len == 0)
		return 0;
	rv = buf_reserve(b, len);
	if (rv != 0)
		return rv;
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
	return 0;
}

int buf_append_text(struct buf *b, const char *text)
{
	return buf_append(b, text, strlen(text));
}

void buf_consume(struct buf *b, size_t len)
{
	CHECK(len <= b->len);
	b->len -= len;
	if (len > 0 && b->len > 0)
		memmove(b->bytes, b->bytes + len, b->len);
}

void buf_fini(struct buf *b)
{
	free(b->bytes);
	*b = (struct buf){0};
}
