/* status.h - the status codes that are ever answered, with their reason
 * phrases (RFC 9110 15, RFC 6585): one table. The phrases, what is counted and
 * what /metrics shows are made from it. */
#ifndef ISIMUD_CODEC_HTTP_STATUS_H
#define ISIMUD_CODEC_HTTP_STATUS_H

/* clang-format off */
#define HTTP_STATUSES(X)                                                       \
	X(101, "Switching Protocols")                                          \
	X(200, "OK")                                                           \
	X(204, "No Content")                                                   \
	X(303, "See Other")                                                    \
	X(304, "Not Modified")                                                 \
	X(400, "Bad Request")                                                  \
	X(401, "Unauthorized")                                                 \
	X(403, "Forbidden")                                                    \
	X(404, "Not Found")                                                    \
	X(405, "Method Not Allowed")                                           \
	X(406, "Not Acceptable")                                               \
	X(408, "Request Timeout")                                              \
	X(413, "Content Too Large")                                            \
	X(414, "URI Too Long")                                                 \
	X(415, "Unsupported Media Type")                                       \
	X(417, "Expectation Failed")                                           \
	X(421, "Misdirected Request")                                          \
	X(422, "Unprocessable Content")                                        \
	X(426, "Upgrade Required")                                             \
	X(431, "Request Header Fields Too Large")                              \
	X(500, "Internal Server Error")                                        \
	X(501, "Not Implemented")                                              \
	X(503, "Service Unavailable")                                          \
	X(504, "Gateway Timeout")                                              \
	X(505, "HTTP Version Not Supported")
/* clang-format on */

#endif
