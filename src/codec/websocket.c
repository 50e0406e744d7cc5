/* websocket.c - the opening handshake and frames of RFC 6455.
 *
 * wslay's frame API parses frames; this file joins them to messages. wslay's
 * event API (1.1.1) would do that too, but it checks the reason of a Close that
 * arrives in pieces at the wrong places, does not apply the limit to fragments
 * that it does not buffer, knows no close code above 1011, and queues a copy of
 * every Pong on the heap.
 *
 * wslay reports a frame's header together with the first byte of its payload,
 * and may have read up to 4 KiB ahead by then: see `pending`. */
#include "codec/websocket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <wslay/wslay.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/utf8.h"

#define KEY_LEN           24   /* characters of Sec-WebSocket-Key */
#define KEY_BYTES         16   /* what they stand for */
#define PAYLOAD_MAX       125  /* bytes of a control frame (5.5) */
#define FIN               0x80 /* in the first byte of a frame (5.2) */
#define MASKED            0x80 /* in the second */
#define WSLAY_FRAME_BYTES 4200 /* about; wslay does not tell */
#define KEEP_MAX_BYTES    4096 /* message memory kept for the next message */

struct websocket {
	size_t message_max_bytes;
	struct inflater *inflater; /* NULL: nothing may be compressed */
	bool is_client; /* its peer is a server, which does not mask (5.1) */
	wslay_frame_context_ptr frames;

	/* The websocket_read() under way. */
	const struct websocket_handler *handler;
	void *user;
	struct span unread; /* not yet taken by wslay */

	size_t pending;        /* bytes that wslay took and has not reported */
	uint64_t payload_left; /* of the frame; 0 between frames */

	/* The message, over its fragments. */
	unsigned message_opcode; /* 0 between messages */
	bool is_compressed;
	struct utf8 utf8;
	struct buf message;

	/* The payload of a control frame, which may come between fragments. */
	size_t control_len;
	uint8_t control[PAYLOAD_MAX];
};

static const struct websocket_result open_result = {.outcome = WEBSOCKET_OPEN};

static struct websocket_result failed(unsigned code, const char *reason)
{
	return (struct websocket_result){
		.outcome = WEBSOCKET_FAILED, .code = code, .reason = reason};
}

static struct websocket_result protocol_error(const char *reason)
{
	return failed(WEBSOCKET_PROTOCOL_ERROR, reason);
}

/* --- writing -------------------------------------------------------------- */

int websocket_accept(struct span key, char out[static WEBSOCKET_ACCEPT_LEN + 1])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t decoded[KEY_LEN / 4 * 3];
	char joined[KEY_LEN + sizeof(guid) - 1];
	uint8_t sha1[DIGEST_SHA1_BYTES];

	if (key.len != KEY_LEN ||
	    base64_decode(key.bytes, key.len, decoded) != KEY_BYTES)
		return 400;
	memcpy(joined, key.bytes, KEY_LEN);
	memcpy(joined + KEY_LEN, guid, sizeof(guid) - 1);
	digest_sha1(joined, sizeof(joined), sha1);
	base64_encode(sha1, sizeof(sha1), out);
	return 0;
}

/* Writes the low `count` bytes of `value`, in network order, to end at `end`;
 * returns where they start. */
static uint8_t *write_back(uint8_t *end, uint64_t value, unsigned count)
{
	while (count-- > 0) {
		*--end = (uint8_t)(value & 0xff);
		value >>= 8;
	}
	return end;
}

size_t websocket_write_header(uint8_t *end, unsigned opcode, uint64_t len)
{
	uint8_t *start = end;

	if (len <= 125) {
		start = write_back(start, len, 1);
	} else if (len <= UINT16_MAX) {
		start = write_back(start, len, 2);
		*--start = 126;
	} else {
		start = write_back(start, len, 8);
		*--start = 127;
	}
	*--start = (uint8_t)(FIN | opcode);
	return (size_t)(end - start);
}

/* Cuts `text` to `max` bytes, or the fewer that end a character. */
static size_t cut(struct span text, size_t max)
{
	size_t len = text.len;

	if (len <= max)
		return len;
	for (len = max; len > 0; len--) {
		if (((uint8_t)text.bytes[len] & 0xc0) != 0x80)
			break;
	}
	return len;
}

/* Encodes a control frame. Its payload is `number`, of `number_bytes`, and the
 * text. */
static size_t write_control(uint8_t *out, unsigned opcode, unsigned number,
			    unsigned number_bytes, struct span text)
{
	size_t len = number_bytes + text.len;

	CHECK(len <= PAYLOAD_MAX);
	out[0] = (uint8_t)(FIN | opcode);
	out[1] = (uint8_t)len;
	write_back(out + 2 + number_bytes, number, number_bytes);
	if (text.len > 0)
		memcpy(out + 2 + number_bytes, text.bytes, text.len);
	return 2 + len;
}

size_t websocket_write_close(uint8_t out[static WEBSOCKET_CONTROL_MAX],
			     unsigned code, struct span reason)
{
	if (code == 0 || code == WEBSOCKET_NO_STATUS)
		return write_control(out, WSLAY_CONNECTION_CLOSE, 0, 0,
				     SPAN(""));
	reason.len = cut(reason, PAYLOAD_MAX - 2);
	return write_control(out, WSLAY_CONNECTION_CLOSE, code, 2, reason);
}

size_t websocket_write_ping(uint8_t out[static WEBSOCKET_CONTROL_MAX],
			    struct span payload)
{
	return write_control(out, WSLAY_PING, 0, 0, payload);
}

int websocket_append_masked(struct buf *out, unsigned opcode,
			    struct span payload,
			    const uint8_t mask[static WEBSOCKET_MASK_BYTES])
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof(header);
	size_t header_len = websocket_write_header(end, opcode, payload.len);
	int rv = buf_reserve(out,
			     header_len + WEBSOCKET_MASK_BYTES + payload.len);

	if (rv != 0)
		return rv;
	end[1 - (ptrdiff_t)header_len] |= MASKED;
	char *to = out->bytes + out->len;
	memcpy(to, end - header_len, header_len);
	memcpy(to + header_len, mask, WEBSOCKET_MASK_BYTES);
	to += header_len + WEBSOCKET_MASK_BYTES;
	for (size_t i = 0; i < payload.len; i++)
		to[i] = (char)(payload.bytes[i] ^
			       mask[i % WEBSOCKET_MASK_BYTES]);
	out->len += header_len + WEBSOCKET_MASK_BYTES + payload.len;
	return 0;
}

/* --- reading -------------------------------------------------------------- */

/* wslay's callback: copies unread bytes to its buffer; -1 if there are none. */
static ssize_t on_wslay_recv(uint8_t *bytes, size_t len, int flags, void *user)
{
	struct websocket *ws = user;

	(void)flags;
	if (len > ws->unread.len)
		len = ws->unread.len;
	if (len == 0)
		return -1;
	memcpy(bytes, ws->unread.bytes, len);
	ws->unread.bytes += len;
	ws->unread.len -= len;
	ws->pending += len;
	return (ssize_t)len;
}

struct websocket *websocket_new(size_t message_max_bytes)
{
	static const struct wslay_frame_callbacks callbacks = {
		.recv_callback = on_wslay_recv,
	};
	struct websocket *ws = calloc(1, sizeof(*ws));

	if (ws == NULL)
		return NULL;
	ws->message_max_bytes = message_max_bytes;
	if (wslay_frame_context_init(&ws->frames, &callbacks, ws) != 0) {
		free(ws);
		return NULL;
	}
	return ws;
}

struct websocket *websocket_new_client(size_t message_max_bytes)
{
	struct websocket *ws = websocket_new(message_max_bytes);

	if (ws != NULL)
		ws->is_client = true;
	return ws;
}

void websocket_free(struct websocket *ws)
{
	if (ws == NULL)
		return;
	wslay_frame_context_free(ws->frames);
	buf_fini(&ws->message);
	free(ws);
}

void websocket_set_inflater(struct websocket *ws, struct inflater *inflater)
{
	CHECK(websocket_is_idle(ws));
	ws->inflater = inflater;
}

/* wslay has checked that the length is in its shortest form. */
static size_t header_len(const struct websocket *ws, uint64_t payload_length)
{
	size_t mask_bytes = ws->is_client ? 0 : WEBSOCKET_MASK_BYTES;

	if (payload_length <= 125)
		return 2 + mask_bytes;
	return (payload_length <= UINT16_MAX ? 4 : 10) + mask_bytes;
}

/* The header of a Close, Ping or Pong; wslay has checked that it is neither
 * fragmented nor too long. */
static struct websocket_result start_control(
	struct websocket *ws, const struct wslay_frame_iocb *frame)
{
	if (frame->opcode > WSLAY_PONG)
		return protocol_error("Reserved opcode");
	if (frame->opcode == WSLAY_CONNECTION_CLOSE &&
	    frame->payload_length == 1)
		return protocol_error("Close with a body of one byte");
	ws->control_len = 0;
	return open_result;
}

/* The header of a text, a binary or a continuation frame. */
static struct websocket_result start_data(struct websocket *ws,
					  const struct wslay_frame_iocb *frame)
{
	bool is_continuation = frame->opcode == WSLAY_CONTINUATION_FRAME;
	bool is_compressed =
		is_continuation ? ws->is_compressed : frame->rsv != 0;
	size_t max = is_compressed ? inflater_payload_max(ws->message_max_bytes)
				   : ws->message_max_bytes;

	if (frame->opcode > WSLAY_BINARY_FRAME)
		return protocol_error("Reserved opcode");
	if (is_continuation && ws->message_opcode == 0)
		return protocol_error("Continuation of no message");
	if (!is_continuation && ws->message_opcode != 0)
		return protocol_error("Message inside a fragmented message");
	if (frame->payload_length > max - ws->message.len)
		return failed(WEBSOCKET_TOO_BIG, "Message too big");
	ws->is_compressed = is_compressed;
	if (!is_continuation)
		ws->message_opcode = frame->opcode;
	return open_result;
}

/* RSV1 alone may be set, and only in the first frame of a message (RFC 7692 6).
 */
static bool may_be_compressed(const struct websocket *ws,
			      const struct wslay_frame_iocb *frame)
{
	return ws->inflater != NULL && frame->rsv == WSLAY_RSV1_BIT &&
	       (frame->opcode == WSLAY_TEXT_FRAME ||
		frame->opcode == WSLAY_BINARY_FRAME);
}

static struct websocket_result start_frame(struct websocket *ws,
					   const struct wslay_frame_iocb *frame)
{
	struct websocket_result result;

	if (frame->rsv != 0 && !may_be_compressed(ws, frame))
		return protocol_error("Reserved bit set");
	if (frame->mask == ws->is_client)
		return protocol_error(ws->is_client ? "Frame is masked"
						    : "Frame is not masked");
	result = wslay_is_ctrl_frame(frame->opcode) ? start_control(ws, frame)
						    : start_data(ws, frame);
	if (result.outcome != WEBSOCKET_OPEN)
		return result;
	ws->pending -= header_len(ws, frame->payload_length);
	ws->payload_left = frame->payload_length;
	return open_result;
}

static struct websocket_result take_data(struct websocket *ws,
					 const struct wslay_frame_iocb *chunk)
{
	bool is_text = ws->message_opcode == WSLAY_TEXT_FRAME;

	if (is_text && !ws->is_compressed &&
	    !utf8_feed(&ws->utf8, chunk->data, chunk->data_length))
		return failed(WEBSOCKET_INVALID_DATA, "Text is not UTF-8");
	if (buf_append(&ws->message, chunk->data, chunk->data_length) != 0)
		return failed(WEBSOCKET_INTERNAL_ERROR, "Out of memory");
	return open_result;
}

/* Whether a peer may send `code` (7.4; 1012 to 1014: IANA registry). */
static bool is_close_code(unsigned code)
{
	if (code >= 1000 && code <= 1014)
		return code != 1004 && code != 1005 && code != 1006;
	return code >= 3000 && code <= 4999;
}

static unsigned close_code(const struct websocket *ws)
{
	return ws->control_len < 2
		       ? WEBSOCKET_NO_STATUS
		       : (unsigned)ws->control[0] << 8 | ws->control[1];
}

/* Takes a part of a Close: the code, then the reason. */
static struct websocket_result check_close(const struct websocket *ws)
{
	struct utf8 utf8 = {0};

	if (ws->control_len < 2)
		return open_result;
	if (!is_close_code(close_code(ws)))
		return protocol_error("Invalid close code");
	if (!utf8_feed(&utf8, ws->control + 2, ws->control_len - 2) ||
	    (ws->payload_left == 0 && utf8.left > 0))
		return failed(WEBSOCKET_INVALID_DATA, "Reason is not UTF-8");
	return open_result;
}

static struct websocket_result take_control(
	struct websocket *ws, const struct wslay_frame_iocb *chunk)
{
	CHECK(chunk->data_length <= PAYLOAD_MAX - ws->control_len);
	if (chunk->data_length > 0)
		memcpy(ws->control + ws->control_len, chunk->data,
		       chunk->data_length);
	ws->control_len += chunk->data_length;
	if (chunk->opcode == WSLAY_CONNECTION_CLOSE)
		return check_close(ws);
	return open_result;
}

/* Inflates a compressed message in place. */
static struct websocket_result inflate_message(struct websocket *ws,
					       struct span *message)
{
	switch (inflater_inflate(ws->inflater, *message, ws->message_max_bytes,
				 message)) {
	case 0:
		break;
	case -E2BIG:
		return failed(WEBSOCKET_TOO_BIG, "Message too big");
	case -ENOMEM:
		return failed(WEBSOCKET_INTERNAL_ERROR, "Out of memory");
	default:
		return failed(WEBSOCKET_INVALID_DATA,
			      "Message can't be inflated");
	}
	if (ws->message_opcode == WSLAY_TEXT_FRAME &&
	    !utf8_feed(&ws->utf8, (const uint8_t *)message->bytes,
		       message->len))
		return failed(WEBSOCKET_INVALID_DATA, "Text is not UTF-8");
	return open_result;
}

static struct websocket_result finish_message(struct websocket *ws)
{
	bool is_text = ws->message_opcode == WSLAY_TEXT_FRAME;
	struct websocket_result result = open_result;
	struct span message = SPAN("");
	unsigned code;

	if (ws->message.len > 0)
		message = (struct span){ws->message.bytes, ws->message.len};
	if (ws->is_compressed)
		result = inflate_message(ws, &message);
	if (result.outcome != WEBSOCKET_OPEN)
		return result;
	if (ws->utf8.left > 0)
		return failed(WEBSOCKET_INVALID_DATA, "Text is not UTF-8");
	code = ws->handler->on_message(ws->user, is_text, message);
	ws->message_opcode = 0;
	ws->message.len = 0;
	if (ws->message.cap > KEEP_MAX_BYTES)
		buf_fini(&ws->message);
	if (code == WEBSOCKET_PAUSE)
		return (struct websocket_result){.outcome = WEBSOCKET_PAUSED,
						 .unread = ws->unread};
	return code == 0 ? open_result : failed(code, NULL);
}

static struct websocket_result finish_control(const struct websocket *ws,
					      unsigned opcode)
{
	uint8_t out[WEBSOCKET_CONTROL_MAX];
	struct span reply = {(const char *)out, 0};
	struct span payload = {(const char *)ws->control, ws->control_len};
	unsigned code = close_code(ws);

	if (opcode == WSLAY_PING) {
		reply.len = write_control(out, WSLAY_PONG, 0, 0, payload);
		ws->handler->on_reply(ws->user, reply);
	} else if (opcode == WSLAY_CONNECTION_CLOSE) {
		reply.len = websocket_write_close(out, code, SPAN(""));
		ws->handler->on_reply(ws->user, reply);
		if (payload.len > 2)
			payload = (struct span){payload.bytes + 2,
						payload.len - 2};
		else
			payload = SPAN("");
		return (struct websocket_result){.outcome = WEBSOCKET_CLOSED,
						 .code = code,
						 .close_reason = payload};
	}
	return open_result;
}

/* Handles what wslay reports: a part of a payload, and its frame. */
static struct websocket_result take_chunk(struct websocket *ws,
					  const struct wslay_frame_iocb *chunk)
{
	struct websocket_result result = open_result;
	bool is_control = wslay_is_ctrl_frame(chunk->opcode);

	if (ws->payload_left == 0)
		result = start_frame(ws, chunk);
	if (result.outcome != WEBSOCKET_OPEN)
		return result;
	ws->pending -= chunk->data_length;
	ws->payload_left -= chunk->data_length;
	result = is_control ? take_control(ws, chunk) : take_data(ws, chunk);
	if (result.outcome != WEBSOCKET_OPEN || ws->payload_left > 0)
		return result;
	if (is_control)
		return finish_control(ws, chunk->opcode);
	return chunk->fin ? finish_message(ws) : open_result;
}

/* Returns the length of the next frame's payload, and of its header in
 * `*header`, if the frame is a whole message, unmasked, and has arrived
 * completely. Else returns 0, and wslay reads the frame. */
static size_t whole_payload(struct span unread, size_t *header)
{
	const uint8_t *f = (const uint8_t *)unread.bytes;
	size_t len;

	if (unread.len < 4 || (f[0] != (FIN | WSLAY_TEXT_FRAME) &&
			       f[0] != (FIN | WSLAY_BINARY_FRAME)))
		return 0;
	len = f[1];
	*header = 2;
	if (len == 126) {
		len = (size_t)f[2] << 8 | f[3];
		*header = 4;
	}
	bool is_shortest =
		*header == 2 ? len <= PAYLOAD_MAX : len > PAYLOAD_MAX;
	return is_shortest && len <= unread.len - *header ? len : 0;
}

/* Takes a server's message that has arrived whole, without a copy: a client
 * with many connections spends its time here. Returns whether there was one. */
static bool read_whole_message(struct websocket *ws,
			       struct websocket_result *result)
{
	size_t header = 0;
	size_t len = whole_payload(ws->unread, &header);
	struct span message = {ws->unread.bytes + header, len};
	bool is_text = (uint8_t)ws->unread.bytes[0] == (FIN | WSLAY_TEXT_FRAME);

	if (len == 0 || len > ws->message_max_bytes)
		return false;
	ws->unread.bytes += header + len;
	ws->unread.len -= header + len;
	if (is_text && !utf8_is_valid(message)) {
		*result = failed(WEBSOCKET_INVALID_DATA, "Text is not UTF-8");
		return true;
	}
	unsigned code = ws->handler->on_message(ws->user, is_text, message);
	if (code == WEBSOCKET_PAUSE)
		*result = (struct websocket_result){.outcome = WEBSOCKET_PAUSED,
						    .unread = ws->unread};
	else if (code != 0)
		*result = failed(code, NULL);
	return true;
}

struct websocket_result websocket_read(struct websocket *ws, struct span bytes,
				       const struct websocket_handler *handler,
				       void *user)
{
	struct websocket_result result = open_result;
	struct wslay_frame_iocb chunk;

	ws->handler = handler;
	ws->user = user;
	ws->unread = bytes;
	while (result.outcome == WEBSOCKET_OPEN) {
		if (ws->is_client && websocket_is_idle(ws) &&
		    ws->unread.len > 0 && read_whole_message(ws, &result))
			continue;
		ssize_t rv = wslay_frame_recv(ws->frames, &chunk);

		if (rv == WSLAY_ERR_WANT_READ)
			break;
		result = rv < 0 ? protocol_error("Malformed frame header")
				: take_chunk(ws, &chunk);
	}
	return result;
}

size_t websocket_memory(const struct websocket *ws)
{
	return sizeof(*ws) + WSLAY_FRAME_BYTES + ws->message.cap;
}

bool websocket_is_idle(const struct websocket *ws)
{
	return ws->pending == 0 && ws->payload_left == 0 &&
	       ws->message_opcode == 0;
}
