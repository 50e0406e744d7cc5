/* http.h - HTTP/1.1 requests in, responses out (RFC 9110, RFC 9112).
 *
 * llhttp, strict, finds the parts; this room adds the limits and the rules that
 * llhttp leaves to its user. Codec: no socket, thread or clock.
 * Threads: any; a `struct http` belongs to one at a time. */
#ifndef ISIMUD_CODEC_HTTP_HTTP_H
#define ISIMUD_CODEC_HTTP_HTTP_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_TARGET_MAX_BYTES 32768 /* request target; else 414 */
/* Request line and fields, but for the target and what the next counts; else
 * 431. */
#define HTTP_HEAD_MAX_BYTES 16384
/* Values of Last-Event-ID: the longest id of ours, which is that of 1024 topics
 * (cursor.h), and some space. What is longer counts above. */
#define HTTP_EVENT_ID_MAX_BYTES 22528
#define HTTP_FIELDS_MAX         100 /* field lines; else 431 */
/* Chunk extensions and trailers, and whatever else is neither data nor within
 * 20 bytes a chunk (leading zeros); else 413. */
#define HTTP_CHUNK_MAX_BYTES 16384

enum http_method {
	HTTP_METHOD_GET,
	HTTP_METHOD_HEAD,
	HTTP_METHOD_POST,
	HTTP_METHOD_PUT,
	HTTP_METHOD_OPTIONS,
	HTTP_METHOD_CONNECT,
	HTTP_METHOD_OTHER, /* known to llhttp, but to nothing here */
};

/* The fields that anybody here reads; the others are checked and dropped. */
enum http_field {
	HTTP_ACCEPT,
	HTTP_ACCEPT_ENCODING,
	HTTP_ACCESS_CONTROL_REQUEST_HEADERS,
	HTTP_ACCESS_CONTROL_REQUEST_METHOD,
	HTTP_AUTHORIZATION,
	HTTP_CONNECTION,
	HTTP_CONTENT_ENCODING,
	HTTP_CONTENT_TYPE,
	HTTP_COOKIE,
	HTTP_EXPECT,
	HTTP_FORWARDED,
	HTTP_HOST,
	HTTP_IDEMPOTENCY_KEY,
	HTTP_IF_NONE_MATCH,
	HTTP_LAST_EVENT_ID,
	HTTP_ORIGIN,
	HTTP_SEC_FETCH_SITE,
	HTTP_SEC_WEBSOCKET_EXTENSIONS,
	HTTP_SEC_WEBSOCKET_KEY,
	HTTP_SEC_WEBSOCKET_PROTOCOL,
	HTTP_SEC_WEBSOCKET_VERSION,
	HTTP_TRACEPARENT,
	HTTP_UPGRADE,
	HTTP_X_FORWARDED_FOR,
	HTTP_X_FORWARDED_PROTO,
	HTTP_FIELD_COUNT,
	HTTP_FIELD_UNKNOWN = HTTP_FIELD_COUNT,
};

/* A request. All spans live until the next call with the same `struct http`;
 * `content` may lie in the bytes given to http_read(), so it lives only as long
 * as these do. */
struct http_request {
	enum http_method method;
	unsigned minor_version; /* 1 for HTTP/1.1, 0 for HTTP/1.0 */
	struct span path;       /* as sent, not percent-decoded; begins with '/'
				   also for the absolute form; of OPTIONS it may
				   be "*", of CONNECT it is all of the target */
	struct span query;      /* behind '?', absent without one */
	/* Values without the space around them; absent if not sent. A list
	 * field (Accept, Accept-Encoding, Access-Control-Request-Headers,
	 * Connection, Content-Encoding, Forwarded, If-None-Match,
	 * Sec-Fetch-Site, Sec-WebSocket-Extensions, Sec-WebSocket-Protocol,
	 * Upgrade, X-Forwarded-For, X-Forwarded-Proto, Cookie) sent in several
	 * lines is joined by ", "
	 * ("; " for Cookie). Any other field of the enum that is sent twice
	 * makes the request bad (400). */
	struct span fields[HTTP_FIELD_COUNT];
	struct span content;     /* HTTP_REQUEST: all of it; before: empty */
	bool has_content_length; /* as announced in `content_length` */
	uint64_t content_length;
	bool is_chunked;
	bool expects_continue; /* Expect: 100-continue, of HTTP/1.1 */
	bool keep_alive; /* the client allows another request (9112 9.3) */
};

enum http_event {
	HTTP_MORE,    /* all bytes are used, the request is not complete */
	HTTP_HEAD,    /* the head is complete: call again to read the content.
			 Comes exactly once a request, also without content */
	HTTP_REQUEST, /* the request is complete */
	HTTP_BAD,     /* it is not HTTP, or over a limit: http_status() and
			 http_reason() say what; the connection can't go on */
};

/* The reading side of one connection. */
struct http;

/* `content_max_bytes`: the limit of a request's content; above it HTTP_BAD with
 * 413, at the head if the length is announced. NULL without memory. */
struct http *http_new(size_t content_max_bytes);
void http_free(struct http *h); /* NULL is fine */

/* Forgets everything, as if new; keeps small buffers for use by another
 * connection. */
void http_reset(struct http *h);

/* Reads bytes until something is to be told. `*used` receives how many of the
 * `len` bytes were read; the rest belongs to the next call (after
 * HTTP_REQUEST: to the next request, or to the protocol upgraded to). After
 * HTTP_HEAD call again even without bytes left: content may be none. After
 * HTTP_REQUEST the next call starts a new request; but if `keep_alive` was
 * false, all further bytes are dropped (HTTP_MORE).
 *
 * What is refused beyond llhttp's own checks (strict, no lenient flag):
 * versions other than 1.0 and 1.1, and RTSP and ICE, which llhttp takes for
 * HTTP (505); a request line with more than single spaces (400); a missing,
 * repeated or malformed Host in HTTP/1.1 (400; malformed: not a uri-host with
 * an optional port); both Content-Length and Transfer-Encoding, and
 * Transfer-Encoding in HTTP/1.0 (400); transfer codings that do not end in
 * chunked, or have it twice (400), and others before it (501); a head or
 * trailers that do not end in CR LF CR LF (llhttp before 9.3, CVE-2025-23167);
 * a request target that is not in origin, absolute (http or https, no user) or
 * asterisk form (OPTIONS alone) (400); NUL, CR or LF in a field's value;
 * control characters and bytes over 0x7e in the target, and '#'; an expectation
 * other than 100-continue (417). Empty lines before a request line are skipped,
 * at most 4. The authority of a target in absolute form takes the place of Host
 * (RFC 9112 3.2.2). */
enum http_event http_read(struct http *h, const char *bytes, size_t len,
			  size_t *used);

/* The request; see enum http_event for when it is complete. */
const struct http_request *http_request(const struct http *h);

/* The Origin of a request whose head is bad or not complete, so that the page
 * can read the error. Absent if the line has not come, or is repeated. A line
 * behind the fault counts too, if it came in the same read. */
struct span http_origin_so_far(const struct http *h);

/* After HTTP_HEAD: the content is checked and counted but not kept. */
void http_discard_content(struct http *h);

/* After HTTP_REQUEST, once the content is of no use: frees it if it is large,
 * so that it does not wait with the connection for the next request. */
void http_release_content(struct http *h);

/* The bytes of memory that it holds. */
size_t http_memory(const struct http *h);

/* Whether any byte of a request has come that is not complete yet. */
bool http_is_in_request(const struct http *h);

/* After HTTP_BAD: the status code to answer (400, 408, 413, 414, 417, 431, 500,
 * 501, 505), and a sentence that says what was wrong (static text). */
int http_status(const struct http *h);
const char *http_reason(const struct http *h);

/* Takes the first element, without the space around it, off the comma-separated
 * list `*list` (RFC 9110 5.6.1), which is absent behind the last one. An empty
 * element is one too. */
struct span http_list_take(struct span *list);

/* The same for parts that end at `separator`, where that is not in quotes. */
struct span http_part_take(struct span *parts, char separator);

/* Whether the comma-separated list `value` (RFC 9110 5.6.1) has `token`,
 * without regard to case. An absent list has none. */
bool http_list_has(struct span value, struct span token);

/* The same, but case matters, as it does for subprotocols (RFC 6455 4.1). */
bool http_list_has_exactly(struct span value, struct span token);

/* The first element of the comma-separated list `value` that begins with
 * `prefix` (case matters), whole and without the space around it; absent if
 * there is none. It lies in `value`. */
struct span http_list_find_prefix(struct span value, struct span prefix);

/* How much a client wants `type` ("text/event-stream"), by the value of its
 * Accept (RFC 9110 12.5.1): 0, not at all, to 1000. Of the media ranges that
 * match, the most specific one counts: the type itself, then type and "*", then
 * "*" twice; of several of these the highest weight. A range with parameters
 * does not match. A malformed weight is 0. 1000 if the field is absent, or
 * empty. */
unsigned http_accept_quality(struct span accept, struct span type);

/* Whether a client would rather have the content coding `coding` than none, by
 * the value of its Accept-Encoding (RFC 9110 12.5.3): it allows it, by name or
 * by "*", with a weight above 0, and not below that of "identity", where that
 * is there. A malformed weight is 0. False if the field is absent. */
bool http_accepts_coding(struct span accept_encoding, struct span coding);

/* Whether Accept names `type` itself, not by a wildcard, with a weight
 * above 0. */
bool http_accepts_explicitly(struct span accept, struct span type);

/* Whether the value of If-None-Match (RFC 9110 13.1.2) has the entity tag,
 * which is in quotes and has no comma; compared weakly. "*" has all. */
bool http_has_entity_tag(struct span if_none_match, struct span tag);

/* Whether the media type of `content_type` is `type` ("application/json");
 * parameters are allowed (RFC 9110 8.3.1). */
bool http_is_media_type(struct span content_type, struct span type);

/* Whether it is "application/json", or "application/" and a name that ends in
 * "+json" (RFC 6839 3.1). */
bool http_is_json(struct span content_type);

/* Reads `Basic` credentials (RFC 7617) from the value of Authorization, the
 * scheme in any case. `memory` receives the decoded bytes, which `username` and
 * `password` point into; the first colon divides them. Returns 0; UV_EINVAL if
 * `value` is absent or not well-formed; UV_ENOMEM. */
int http_basic_credentials(struct span value, struct buf *memory,
			   struct span *username, struct span *password);

/* The token of `Bearer` credentials (RFC 6750 2.1), the scheme in any case:
 * token68 of at most HTTP_BEARER_MAX_BYTES. Absent if there is none, or it is
 * malformed. */
#define HTTP_BEARER_MAX_BYTES 8192
struct span http_bearer_token(struct span value);

/* Whether `token` may stand in Bearer credentials: token68, not empty, at most
 * HTTP_BEARER_MAX_BYTES. */
bool http_is_token(struct span token);

/* Takes the next parameter off `*query`: name=value up to the next & (URL
 * standard 5.1, application/x-www-form-urlencoded). Both are still encoded, and
 * lie where `*query` does. The value is empty without a =; sequences without a
 * byte are skipped. Returns false at the end, with both undefined. */
bool http_query_next(struct span *query, struct span *name, struct span *value);

/* Whether a name, as http_query_next() gave it, is `wanted` once it is decoded.
 * One that does not decode is none. Whoever else decodes the same query must
 * find the same parameters in it as we do. */
bool http_query_is_name(struct span name, const char *wanted);

/* Appends `query` to `out` without the parameters that have one of `names`, in
 * UTF-8, which end in a NULL. Names are compared decoded; one that does not
 * decode is none of them. All others stay byte for byte as they are, with one &
 * between two. `query` must not lie in `out`. Returns 0, or UV_ENOMEM with
 * `out` unchanged. */
int http_query_without(struct span query, const char *const *names,
		       struct buf *out);

/* Appends `text` to `out` with %XX decoded (RFC 3986 2.1), and + as a space if
 * `plus_is_space`: in a query, but not in a path. The result may hold U+0000,
 * like every string of a client's. `text` must not lie in `out`. Returns 0;
 * UV_EINVAL for a % without two hexadecimal digits, or a result that is not
 * UTF-8; UV_ENOMEM; on errors `out` is unchanged. */
int http_decode(struct span text, bool plus_is_space, struct buf *out);

/* Appends `text` to `out` so that it can stand as a name or value in a query:
 * every byte as %XX but those that are unreserved (RFC 3986 2.3). `text` must
 * not lie in `out`. Returns 0, or UV_ENOMEM with `out` unchanged. */
int http_encode(struct span text, struct buf *out);

/* A response. */
struct http_response {
	int status;               /* one of status.h: it is CHECKed */
	const char *content_type; /* NULL: none, and no content */
	struct span content;
	const char *fields;      /* further field lines, each with its CR LF; or
				    NULL */
	const char *more_fields; /* the same, behind those */
	bool is_head;    /* answers HEAD: Content-Length, but no content */
	bool is_stream;  /* content goes on behind `content`, and no other
			    response follows: no Content-Length, and as if
			    `close` were set */
	bool is_chunked; /* of a stream: in chunks, of which `content` is the
			    first (RFC 9112 7.1); else until the connection
			    ends (6.3, item 8), as HTTP/1.0 knows it */
	bool close;      /* adds Connection: close */
	bool keep_alive; /* else, adds Connection: keep-alive: HTTP/1.0 asks
			    for it (RFC 9112 9.3) */
	uint64_t keep_alive_s; /* if not 0 and the connection is kept: adds
				  Keep-Alive: timeout, and names it in
				  Connection (RFC 9110 7.6.1) */
	const char *date;      /* an IMF-fixdate (RFC 9110 5.6.7), or NULL */
};

/* Appends the encoded response to `out`. Content-Length is sent for every
 * status but 1xx, 204 and 304, unless `is_stream`; those have no content.
 * Returns 0 or UV_ENOMEM, `out` then unchanged. */
int http_write_response(struct buf *out, const struct http_response *r);

/* What is around the data of a chunk (RFC 9112 7.1): its size, in at most
 * HTTP_CHUNK_START_MAX bytes, and its end. */
#define HTTP_CHUNK_START_MAX 10
#define HTTP_CHUNK_END       "\r\n"
/* Behind the last one: the content is whole. */
#define HTTP_LAST_CHUNK "0\r\n\r\n"

/* Writes the start of a chunk of `len` bytes, 1 to UINT32_MAX, so that it ends
 * before `end`. Returns its length. */
size_t http_write_chunk_start(char *end, size_t len);

/* The reason phrase of `status`; NULL for one that is not in status.h. */
const char *http_reason_phrase(int status);

#endif
