/* framing.h - what is around the bytes that a subscriber is sent: how units,
 * a message each or some lines, are told apart on a connection.
 *
 * One row of a table each. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_FRAMING_H
#define ISIMUD_CODEC_FRAMING_H

#include "base/span.h"
#include "codec/deflate.h"

#include <stdbool.h>
#include <stddef.h>

enum framing {
	FRAMING_TEXT, /* WebSocket: a text frame (RFC 6455 5.2) */
	/* The same where permessage-deflate was agreed (RFC 7692): what is
	 * compressed has RSV1, by a deflate_window. */
	FRAMING_DEFLATED,
	FRAMING_DEFLATED_SMALL,
	FRAMING_CHUNK, /* event stream: a chunk of HTTP/1.1 (RFC 9112 7.1) */
	/* The same with Content-Encoding: gzip: a chunk of whole blocks. The
	 * stream has no last block and no trailer (RFC 1952 2.3.1): what a
	 * client has decoded is whole without, and the last chunk tells the
	 * end. */
	FRAMING_GZIP,
	FRAMING_BARE, /* event stream of HTTP/1.0: nothing */
	FRAMINGS,
};

#define FRAMING_START_MAX 15 /* bytes before a unit */
#define FRAMING_END_MAX   7  /* bytes behind it */

/* The framing of one who gets the same uncompressed; itself, if that is none of
 * those that may be compressed. */
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

/* What is behind a unit, and behind one that has been compressed; empty where
 * nothing is. */
struct span framing_end(enum framing framing);
struct span framing_compressed_end(enum framing framing);

/* What tells that no unit follows; empty where only the end of the connection
 * does. */
struct span framing_last(enum framing framing);

#endif
