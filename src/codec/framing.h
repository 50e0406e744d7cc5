/* framing.h - how units (a message, or some lines) are delimited on a
 * connection: the bytes before and behind each.
 *
 * One row of a table for each way. Codec: no socket, thread or clock. Threads:
 * any. */
#ifndef ISIMUD_CODEC_FRAMING_H
#define ISIMUD_CODEC_FRAMING_H

#include "base/span.h"
#include "codec/deflate.h"

#include <stdbool.h>
#include <stddef.h>

enum framing {
	FRAMING_TEXT, /* WebSocket: a text frame (RFC 6455 5.2) */
	/* The same with permessage-deflate (RFC 7692): compressed messages have
	 * RSV1; one framing for each deflate_window. */
	FRAMING_DEFLATED,
	FRAMING_DEFLATED_SMALL,
	FRAMING_CHUNK, /* event stream: a chunk of HTTP/1.1 (RFC 9112 7.1) */
	/* The same with Content-Encoding: gzip; each chunk has whole blocks.
	 * The stream has neither a last block nor a trailer (RFC 1952 2.3.1):
	 * clients can use all that they have decoded, and the last chunk marks
	 * the end. */
	FRAMING_GZIP,
	FRAMING_BARE, /* event stream of HTTP/1.0: nothing */
	FRAMINGS,
};

#define FRAMING_START_MAX 15 /* bytes before a unit */
#define FRAMING_END_MAX   7  /* bytes behind it */

/* The framing for the same bytes uncompressed; the framing itself if it never
 * compresses. */
enum framing framing_plain(enum framing framing);

/* Whether it is one of those. */
static inline bool framing_may_compress(enum framing framing)
{
	return framing_plain(framing) != framing;
}

/* How a message is compressed for it. */
enum deflate_window framing_window(enum framing framing);

/* Whether it is a WebSocket's, and not an event stream's. */
bool framing_is_websocket(enum framing framing);

/* The longest unit that framing_write_start() takes. */
size_t framing_unit_max(enum framing framing);

/* Writes the start of an uncompressed unit of `len` bytes, 1 to
 * framing_unit_max() (a text frame may be empty), so that it ends before `end`.
 * Returns its length. */
size_t framing_write_start(enum framing framing, char *end, size_t len);

/* The same for a unit that has been compressed: for WebSockets without
 * DEFLATE_TAIL, for event streams whole blocks, flushed (DEFLATE_FLUSH); of 1
 * to UINT32_MAX bytes. */
size_t framing_write_compressed_start(enum framing framing, char *end,
				      size_t len);

/* The bytes behind a plain unit, and behind a compressed one; may be empty. */
struct span framing_end(enum framing framing);
struct span framing_compressed_end(enum framing framing);

/* What tells that no unit follows; empty where only the end of the connection
 * does. */
struct span framing_last(enum framing framing);

#endif
