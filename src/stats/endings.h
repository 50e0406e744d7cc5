/* endings.h - every way a connection can end: one table.
 *
 * The enum, the close code and reason a WebSocket client is sent, the counter,
 * and the log line are all made from it. `code` 0: nothing is sent. */
#ifndef ISIMUD_STATS_ENDINGS_H
#define ISIMUD_STATS_ENDINGS_H

/*  name, close code, reason for the client (Close) or the log */
#define ENDINGS(X)                                                             \
	X(done, 0, "the last response is sent")                                \
	X(peer_gone, 0, "the peer is gone")                                    \
	X(peer_closed, 0, "the peer sent Close")                               \
	X(bad_request, 0, "not an acceptable HTTP request")                    \
	X(header_timeout, 0, "the request took too long")                      \
	X(idle_timeout, 0, "no further request came")                          \
	X(write_timeout, 0, "the peer did not read")                           \
	X(close_timeout, 0, "the peer did not answer Close")                   \
	X(ping_timeout, 1011, "no answer to pings")                            \
	X(message_timeout, 1008, "the message took too long")                  \
	X(slow, 1013, "too slow: messages would be lost, connect again")       \
	X(going_away, 1001, "the server is going away")                        \
	X(protocol, 1002, "protocol error")                                    \
	X(binary, 1003, "a text message was expected")                         \
	X(bad_data, 1007, "the message is not valid")                          \
	X(policy, 1008, "the message is not allowed here")                     \
	X(forbidden, 1008, "this subscription is not allowed")                 \
	X(auth_failed, 1011, "the authority did not answer")                   \
	X(auth_away, 1013, "the authority is out of order, connect again")     \
	X(auth_timeout, 4408, "the authority did not answer, connect again")   \
	X(unauthorized, 4401, "wrong credentials")                             \
	X(denied, 4403, "the authority does not allow it")                     \
	X(refused, 1013, "not now, connect again later")                       \
	X(busy, 1013, "too many clients are being checked, connect again")     \
	X(not_resumed, 4410, "messages were lost since then")                  \
	X(renewed, 1012, "messages may be lost, connect again")                \
	X(too_big, 1009, "the message is too big")                             \
	X(displaced, 0, "quiet for longest, it made room for another")         \
	X(no_memory, 1011, "the server is out of memory")

enum ending {
#define ENDING_ENUM(name, code, reason) ENDING_##name,
	ENDINGS(ENDING_ENUM)
#undef ENDING_ENUM
	ENDING_COUNT,
	ENDING_NONE = ENDING_COUNT,
};

#endif
