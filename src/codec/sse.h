/* sse.h - Server-Sent Events: the event stream of the WHATWG HTML standard,
 * section 9.2.
 *
 * A stream is a series of blocks, each ended by an empty line; we end lines by
 * LF. Clients take CR LF, CR and LF for line ends, so each line of the data
 * becomes a `data:` line, and arrives ended by LF. Codec: no socket, thread or
 * clock. Threads: any. */
#ifndef ISIMUD_CODEC_SSE_H
#define ISIMUD_CODEC_SSE_H

#include "base/buf.h"
#include "base/span.h"

#include <stddef.h>

/* A comment, which clients do not show: a sign of life. It belongs to the block
 * that follows, since some clients raise an empty message for a block without
 * data. */
#define SSE_KEEP_ALIVE ":\n"

/* Before and behind data of a single line, which is written directly. */
#define SSE_DATA     "data: "
#define SSE_DATA_END "\n\n"

/* The bytes that sse_write_data() appends for `data`. */
size_t sse_data_len(struct span data);

/* Appends `data` as `data:` lines, at least one, since clients drop an event
 * without any; and the empty line that ends the event. U+0000 is passed on, as
 * are bytes that are not UTF-8, which clients replace. Returns 0, or -ENOMEM
 * with `out` unchanged. */
int sse_write_data(struct buf *out, struct span data);

/* Appends "id: ID\n", the first line of an event. `id` has no line end and no
 * NUL. Returns 0, or -ENOMEM with `out` unchanged. */
int sse_write_id(struct buf *out, struct span id);

/* Appends "event: TYPE\n". `type` has no line end and no NUL. Returns 0, or
 * -ENOMEM with `out` unchanged. */
int sse_write_type(struct buf *out, struct span type);

/* The types of events of our own, which no publication may have: a client could
 * not tell them from ours. */
#define SSE_RESET "reset" /* messages of a topic were lost */
#define SSE_CLOSE "close" /* the stream ends, and why */

#define SSE_TYPE_MAX_BYTES 128 /* of a publication's */

/* Whether a publication may have `type`, in UTF-8: at most SSE_TYPE_MAX_BYTES,
 * no line end or U+0000, and none of our own. Returns 0; or -EINVAL and
 * `*wrong`, a sentence. */
int sse_check_type(struct span type, const char **wrong);

/* Appends a whole event of the given type without an id, so that the client
 * keeps its last event id. `type` has no line end. Returns 0, or -ENOMEM with
 * `out` unchanged. */
int sse_write_event(struct buf *out, struct span type, struct span data);

/* Appends the line that sets the time a client waits before it connects again;
 * the block that follows goes on with it. Returns 0, or -ENOMEM with `out`
 * unchanged. */
int sse_write_retry(struct buf *out, unsigned retry_ms);

#endif
