/* websocket.h - the opening handshake and frames of RFC 6455.
 *
 * wslay (its frame API) parses frames, and websocket.c joins them to messages,
 * since wslay's event API has gaps. A server never masks its frames, so one
 * encoded frame is shared by all subscribers (5.1). Codec: no socket, thread or
 * clock. Threads: any; a `struct websocket` belongs to one at a time. */
#ifndef ISIMUD_CODEC_WEBSOCKET_H
#define ISIMUD_CODEC_WEBSOCKET_H

#include "base/buf.h"
#include "base/span.h"
#include "codec/deflate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBSOCKET_ACCEPT_LEN  28
#define WEBSOCKET_HEADER_MAX  10  /* bytes of a server's frame header */
#define WEBSOCKET_CONTROL_MAX 127 /* bytes of a server's control frame */

/* Close codes (RFC 6455 7.4.1, IANA registry). */
enum websocket_close {
	WEBSOCKET_NORMAL = 1000, /* a client of ours is done */
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_PROTOCOL_ERROR = 1002,
	WEBSOCKET_UNSUPPORTED_DATA = 1003,
	WEBSOCKET_NO_STATUS = 1005, /* never sent */
	WEBSOCKET_INVALID_DATA = 1007,
	WEBSOCKET_POLICY_VIOLATION = 1008,
	WEBSOCKET_TOO_BIG = 1009,
	WEBSOCKET_INTERNAL_ERROR = 1011,
	WEBSOCKET_SERVICE_RESTART = 1012,
	WEBSOCKET_TRY_AGAIN_LATER = 1013,
};

/* Makes Sec-WebSocket-Accept of `key` (4.2.2, item 5.4). `out`: 28 characters
 * and a NUL. Returns 0, or 400 if `key` is not 16 bytes in base64 (4.2.1, item
 * 5). */
int websocket_accept(struct span key,
		     char out[static WEBSOCKET_ACCEPT_LEN + 1]);

/* Writes the header of an unfragmented, unmasked frame with `len` bytes of
 * payload so that it ENDS at `end`, in front of the payload. `opcode`: 1 text,
 * 2 binary; with 0x40, RSV1, where the payload is compressed (RFC 7692 6).
 * Returns the header's length: 2, 4 or 10. */
size_t websocket_write_header(uint8_t *end, unsigned opcode, uint64_t len);

/* Encodes a Close frame; `reason` is cut, at a character, to what fits. `code`
 * 0 or 1005: without a body. Returns its length. */
size_t websocket_write_close(uint8_t out[static WEBSOCKET_CONTROL_MAX],
			     unsigned code, struct span reason);

/* Encodes a Ping frame; `payload` at most 125 bytes. Returns its length. */
size_t websocket_write_ping(uint8_t out[static WEBSOCKET_CONTROL_MAX],
			    struct span payload);

#define WEBSOCKET_MASK_BYTES 4

/* Appends an unfragmented frame as a client sends it, masked by `mask`, which
 * nobody must be able to guess (5.3). `payload` must not lie in `out`. Returns
 * 0, or UV_ENOMEM with `out` unchanged. */
int websocket_append_masked(struct buf *out, unsigned opcode,
			    struct span payload,
			    const uint8_t mask[static WEBSOCKET_MASK_BYTES]);

#define WEBSOCKET_PAUSE 1 /* no close code */

/* What a reader is told, in the order of arrival, during websocket_read(). No
 * callback may free the websocket. */
struct websocket_handler {
	/* A whole text (valid UTF-8) or binary message; `message` is borrowed.
	 * Returns 0; WEBSOCKET_PAUSE: reading stops behind it, for now; or a
	 * close code: reading stops there, and websocket_read() returns that
	 * code; Close is the caller's to send. */
	unsigned (*on_message)(void *user, bool is_text, struct span message);
	/* Bytes that must be sent: a Pong, or the answer to a Close. */
	void (*on_reply)(void *user, struct span frame);
};

/* The receiving side of a connection in the middle of a frame or a fragmented
 * message. Between messages it is idle, and may serve another connection. */
struct websocket;

/* `message_max_bytes`: the limit of a message, over all its fragments (1009).
 * Memory grows with what has arrived, never with what a header claims. NULL
 * without memory. */
struct websocket *websocket_new(size_t message_max_bytes);

/* The same for the client's side: frames must come unmasked (5.1). What goes to
 * on_reply is as a server sends it; websocket_append_masked() makes a client's
 * of its payload. */
struct websocket *websocket_new_client(size_t message_max_bytes);
void websocket_free(struct websocket *ws); /* NULL is fine */

/* permessage-deflate was agreed: messages may be compressed, and are inflated
 * by `inflater`, borrowed for as long as it is not set again. NULL, as at
 * first: it was not. To be called while it is idle. */
void websocket_set_inflater(struct websocket *ws, struct inflater *inflater);

/* What websocket_read() came to. */
struct websocket_result {
	enum {
		WEBSOCKET_OPEN,   /* all is read; go on */
		WEBSOCKET_PAUSED, /* on_message asked for it; go on with
				     `unread` first, even if that is nothing */
		WEBSOCKET_CLOSED, /* the peer sent Close, `code` (1005: none),
				     and its answer went to on_reply */
		WEBSOCKET_FAILED, /* the peer must be failed with `code`
				     (7.1.7): nothing was sent, send Close
				     yourself */
	} outcome;
	unsigned code;
	const char *reason; /* FAILED by this codec: static text for Close */
	struct span unread; /* PAUSED: the rest of `bytes`; what was taken of
			       them and not used keeps it from being idle */
	struct span close_reason; /* CLOSED: the peer's, UTF-8; lives as long as
				     the websocket */
};

/* Reads all of `bytes`, unless it comes to an end before. After CLOSED or
 * FAILED the websocket can only be freed.
 *
 * Failed: 1002 for reserved bits (but RSV1 of a message's first frame, if it
 * may be compressed) or opcodes, an unmasked frame, a control frame that is
 * fragmented or over 125 bytes, a length not in its shortest form or over 2^63,
 * a continuation without a start or a new message inside another, Close with a
 * body of one byte or an invalid code; 1007 for text (or a Close reason) that
 * is not UTF-8, as soon as that is certain, or at its end if it was compressed,
 * and for a message that can't be inflated; 1009 over the limit, which is that
 * of an inflated message, too; 1011 without memory. */
struct websocket_result websocket_read(struct websocket *ws, struct span bytes,
				       const struct websocket_handler *handler,
				       void *user);

/* The bytes of memory that it holds. */
size_t websocket_memory(const struct websocket *ws);

/* Whether it is between messages, with no byte pending: then it may serve
 * another connection, or be freed. */
bool websocket_is_idle(const struct websocket *ws);

#endif
