/* buf.h - a byte buffer that grows on the heap.
 *
 * Owner: whoever embeds it. Zeroed memory is an empty buffer. Threads: none of
 * its own. */
#ifndef ISIMUD_BASE_BUF_H
#define ISIMUD_BASE_BUF_H

#include <stddef.h>

struct buf {
	char *bytes; /* NULL while `cap` is 0 */
	size_t len;  /* bytes in use */
	size_t cap;  /* bytes allocated */
};

/* Makes room for `extra` bytes more behind `len`. Returns 0, or UV_ENOMEM with
 * the buffer unchanged. */
int buf_reserve(struct buf *b, size_t extra);

/* Appends `len` bytes, which must not lie inside the buffer. Returns 0, or
 * UV_ENOMEM with the buffer unchanged. */
int buf_append(struct buf *b, const void *bytes, size_t len);

/* The same with a text, but for its NUL. */
int buf_append_text(struct buf *b, const char *text);

/* Drops the first `len` bytes, which must be there; keeps the memory. */
void buf_consume(struct buf *b, size_t len);

/* Frees the memory; the buffer is empty and usable afterwards. */
void buf_fini(struct buf *b);

#endif
