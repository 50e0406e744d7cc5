/* chunk.h - bytes that wait to be written, shared by the connections of a loop.
 *
 * A chunk holds whole units (frames of a WebSocket, blocks of an event stream),
 * a part of one (`is_continued`), or a piece of an HTTP response. It borrows
 * the bytes of a message, to which it holds a reference; or it has bytes of its
 * own; or it owns an encoding. Its count is not atomic. A message is referenced
 * once for each chunk, however many connections of the loop wait to write it.
 * Owner: the loop's thread. */
#ifndef ISIMUD_CONN_CHUNK_H
#define ISIMUD_CONN_CHUNK_H

#include "base/span.h"
#include "topics/message.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct chunk {
#ifdef ISIMUD_DEBUG
	uv_thread_t owner;
#endif
	uint32_t refs;
	uint32_t len;            /* bytes to write */
	uint32_t cap;            /* of `own`; 0 if it borrows a message's */
	bool is_continued;       /* the unit goes on in the next chunk of the
				  * queue */
	bool is_paced;           /* it was queued because there was room: it
				  * does not count against the limit (conn.h) */
	const uint8_t *bytes;    /* `own`, or the message's or encoding's */
	struct message *message; /* a reference, or NULL */
	struct message_encoding *encoding; /* owned, or NULL */
	uint8_t own[];
};

/* A chunk of the frame of `m`; takes a reference of the caller's, also on
 * failure. NULL without memory. */
struct chunk *chunk_of_message(struct message *m);

/* The same of `bytes`, at most UINT32_MAX, which lie in `m` (message_encode())
 * and end a unit. */
struct chunk *chunk_of_part(struct message *m, struct span bytes);

/* The same of `bytes` that lie in `e`, which it takes, also on failure. */
struct chunk *chunk_of_encoding(struct message_encoding *e, struct span bytes);

/* An empty chunk with room for `cap` bytes. NULL without memory. */
struct chunk *chunk_new(size_t cap);

/* Appends to a chunk that has room (`cap` - `len`) and one reference. */
void chunk_append(struct chunk *c, const void *bytes, size_t len);

struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c);

#endif
