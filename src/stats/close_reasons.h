/* close_reasons.h - every way a connection can end: one table.
 *
 * The enum, the close code and reason a WebSocket client is sent, the counter,
 * and the log line are all made from it. `code` 0: nothing is sent. */
#ifndef ISIMUD_STATS_CLOSE_REASONS_H
#define ISIMUD_STATS_CLOSE_REASONS_H

#include "codec/websocket.h"

/* Codes of our own (RFC 6455 7.4.2: 4000 to 4999), each like the status code of
 * HTTP behind the 4. */
enum {
	CLOSE_REASON_CODE_UNAUTHORIZED = 4401,
	CLOSE_REASON_CODE_FORBIDDEN = 4403,
	CLOSE_REASON_CODE_TIMEOUT = 4408,
	CLOSE_REASON_CODE_GONE = 4410,
};

/* clang-format off */
/*  name, close code, reason for the client (Close) or the log */
#define CLOSE_REASONS(X)                                                       \
	X(done, 0, "the last response is sent")                                \
	X(peer_gone, 0, "the peer is gone")                                    \
	X(peer_closed, 0, "the peer sent Close")                               \
	X(bad_request, 0, "not an acceptable HTTP request")                    \
	X(header_timeout, 0, "the request took too long")                      \
	X(idle_timeout, 0, "no further request came")                          \
	X(write_timeout, 0, "the peer did not read")                           \
	X(close_timeout, 0, "the peer did not answer Close")                   \
	X(ping_timeout, WEBSOCKET_INTERNAL_ERROR, "no answer to pings")        \
	X(message_timeout, WEBSOCKET_POLICY_VIOLATION,                         \
	  "the message took too long")                                         \
	X(slow, WEBSOCKET_TRY_AGAIN_LATER,                                     \
	  "too slow: messages would be lost, connect again")                   \
	X(going_away, WEBSOCKET_GOING_AWAY, "the server is going away")        \
	X(protocol, WEBSOCKET_PROTOCOL_ERROR, "protocol error")                \
	X(binary, WEBSOCKET_UNSUPPORTED_DATA, "a text message was expected")   \
	X(bad_data, WEBSOCKET_INVALID_DATA, "the message is not valid")        \
	X(policy, WEBSOCKET_POLICY_VIOLATION,                                  \
	  "the message is not allowed here")                                   \
	X(forbidden, WEBSOCKET_POLICY_VIOLATION,                               \
	  "this subscription is not allowed")                                  \
	X(auth_failed, WEBSOCKET_INTERNAL_ERROR,                               \
	  "the authority did not answer")                                      \
	X(auth_away, WEBSOCKET_TRY_AGAIN_LATER,                                \
	  "the authority is out of order, connect again")                      \
	X(auth_timeout, CLOSE_REASON_CODE_TIMEOUT,                             \
	  "the authority did not answer, connect again")                       \
	X(unauthorized, CLOSE_REASON_CODE_UNAUTHORIZED, "wrong credentials")   \
	X(denied, CLOSE_REASON_CODE_FORBIDDEN,                                 \
	  "the authority does not allow it")                                   \
	X(refused, WEBSOCKET_TRY_AGAIN_LATER, "not now, connect again later")  \
	X(busy, WEBSOCKET_TRY_AGAIN_LATER,                                     \
	  "too many clients are being checked, connect again")                 \
	X(not_resumed, CLOSE_REASON_CODE_GONE, "messages were lost since then")\
	X(renewed, WEBSOCKET_SERVICE_RESTART,                                  \
	  "messages may be lost, connect again")                               \
	X(too_big, WEBSOCKET_TOO_BIG, "the message is too big")                \
	X(displaced, 0, "quiet for longest, it made room for another")         \
	X(no_memory, WEBSOCKET_INTERNAL_ERROR, "the server is out of memory")
/* clang-format on */

enum close_reason {
#define CLOSE_REASON_ENUM(name, code, reason) CLOSE_REASON_##name,
	CLOSE_REASONS(CLOSE_REASON_ENUM)
#undef CLOSE_REASON_ENUM
	CLOSE_REASON_COUNT,
	CLOSE_REASON_NONE = CLOSE_REASON_COUNT,
};

#endif
