/* sse.h - Server-Sent Events: the event stream of the WHATWG HTML standard,
 * section 9.2.
 *
 * A stream is blocks that end in an empty line; a line ends in LF here. CR LF,
 * CR and LF are line ends to a client, so data is sent as one `data:` line for
 * each of its lines, and arrives with LF between them.
 * Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_SSE_H
#define ISIMUD_CODEC_SSE_H

#include "base/buf.h"
#include "base/span.h"

#include <stddef.h>

/* A comment, which no client shows: a sign of life. It is a line of the block
 * that follows: for a block without data some clients raise an empty message.
 */
#define SSE_KEEP_ALIVE ":\n"

/* Around data that has one line, where it is written in between. */
#define SSE_DATA     "data: "
#define SSE_DATA_END "\n\n"

/* The bytes that sse_write_data() appends for `data`. */
size_t sse_data_len(struct span data);

/* Appends the `data:` lines of `data` and the empty line that ends the event.
 * At least one line: without any, a client would drop the event. U+0000 is
 * passed as it is, and so is what is not UTF-8, which clients replace. Returns
 * 0, or -ENOMEM with `out` unchanged. */
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

/* Appends a whole event of the given type without an id: what a client knows as
 * the last event's id stays. `type` has no line end. Returns 0, or -ENOMEM
 * with `out` unchanged. */
int sse_write_event(struct buf *out, struct span type, struct span data);

/* Appends the line that sets the time a client waits before it connects again;
 * the block that follows goes on with it. Returns 0, or -ENOMEM with `out`
 * unchanged. */
int sse_write_retry(struct buf *out, unsigned retry_ms);

#endif
