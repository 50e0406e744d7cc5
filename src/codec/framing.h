/* framing.h - what is around the bytes that a subscriber is sent: how units,
 * a message each or some lines, are told apart on a connection.
 *
 * One row of a table each. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_FRAMING_H
#define ISIMUD_CODEC_FRAMING_H

#include "base/span.h"

#include <stddef.h>

enum framing {
	FRAMING_TEXT,  /* WebSocket: a text frame (RFC 6455 5.2) */
	FRAMING_CHUNK, /* event stream: a chunk of HTTP/1.1 (RFC 9112 7.1) */
	FRAMING_BARE,  /* event stream of HTTP/1.0: nothing */
	FRAMINGS,
};

#define FRAMING_START_MAX 10 /* bytes before a unit */
#define FRAMING_END_MAX   2  /* bytes behind it */

/* Writes the start of a unit of `len` bytes, 1 to UINT32_MAX (a text frame may
 * be empty), so that it ends before `end`. Returns its length. */
size_t framing_write_start(enum framing framing, char *end, size_t len);

/* What is behind a unit; empty where nothing is. */
struct span framing_end(enum framing framing);

/* What tells that no unit follows; empty where only the end of the connection
 * does. */
struct span framing_last(enum framing framing);

#endif
