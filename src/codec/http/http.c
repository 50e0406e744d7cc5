/* http.c - reads requests: llhttp finds the parts; this file limits, copies and
 * checks them.
 *
 * llhttp reads heads and chunked content. Content of an announced length is
 * only counted, without llhttp. The parser is reset before each request, so
 * llhttp's own rules on what follows a request (keep-alive, Upgrade) do not
 * matter. A bad request is refused at the same byte however its bytes were
 * split into reads: llhttp reports a part only at its end or at the end of the
 * bytes, so the limits also bound how many bytes llhttp is given. */
#include "codec/http/http.h"

#include <stdlib.h>
#include <string.h>

/* Two enumerators of llhttp.h are named as two of http.h. */
#define HTTP_HEAD    LLHTTP_HEAD
#define HTTP_REQUEST LLHTTP_REQUEST
#include <llhttp.h>
#undef HTTP_HEAD
#undef HTTP_REQUEST

#include "base/buf.h"
#include "codec/http/head.h"

#define EMPTY_LINES_MAX   4     /* before a request line */
#define CHUNK_FRAME_BYTES 20    /* 16 digits, CR LF; CR LF after the data */
#define BUFFER_KEEP_BYTES 16384 /* larger ones are freed between requests */
#define TAIL_BYTES        8

/*  START ---> HEAD ---> LENGTH ---> START, or LAST if the connection ends
 *                  \--> CHUNKED --> the same; from any but LAST to BAD */
enum phase {
	PHASE_START,   /* no byte of a request yet; empty lines may come */
	PHASE_HEAD,    /* request line and fields */
	PHASE_LENGTH,  /* `content_left` bytes of content are to come */
	PHASE_CHUNKED, /* chunked content and trailers */
	PHASE_LAST,    /* the last request was read: what follows is dropped */
	PHASE_BAD,     /* `status` and `reason` say why */
};

struct http {
	llhttp_t parser;
	struct http_request request;
	enum phase phase;
	size_t content_max_bytes;

	/* PHASE_START */
	unsigned empty_lines;
	bool empty_line_cr; /* the CR of an empty line, its LF to come */

	/* PHASE_HEAD */
	struct http_head head;
	size_t head_bytes; /* read so far, up to `slice` */
	bool has_target;   /* all of it */
	bool is_http;      /* "HTTP/" stands where it must */

	/* PHASE_LENGTH, PHASE_CHUNKED */
	struct buf content;
	bool discards_content;
	size_t content_bytes; /* read so far */
	size_t content_left;  /* PHASE_LENGTH */
	size_t chunk_left;    /* of the data of the chunk being read */
	size_t framing_left;  /* bytes that are not chunk data, still allowed */

	/* The bytes that llhttp reads now, and the last ones before them. */
	const char *slice;
	char tail[TAIL_BYTES];

	/* Set in PHASE_BAD, and by callbacks that refuse. */
	struct http_error error;
};

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Says why the request is bad. Returns the status; llhttp stops where a
 * callback returns that. */
static int refuse_request(struct http *h, int status, const char *reason)
{
	return http_refuse(&h->error, status, reason);
}

static int keep_content(struct http *h, const char *bytes, size_t len)
{
	if (h->discards_content || buf_append(&h->content, bytes, len) == 0)
		return 0;
	return refuse_request(h, 500, "out of memory");
}

/* --- what llhttp reports of a head -----------------------------------------
 */

static int on_target(llhttp_t *parser, const char *at, size_t len)
{
	struct http *h = parser->data;

	return http_head_add_target(&h->head, at, len, &h->error);
}

static int on_target_complete(llhttp_t *parser)
{
	struct http *h = parser->data;

	if (h->head.target_len == 0)
		return refuse_request(h, 400, "malformed request target");
	h->has_target = true;
	return 0;
}

/* llhttp also accepts RTSP/ and ICE/, and several spaces. Only the bytes before
 * the version, and their number, show that. */
static int on_version(llhttp_t *parser, const char *at, size_t len)
{
	struct http *h = parser->data;
	const struct span protocol = SPAN("HTTP/");
	char sent[TAIL_BYTES];
	size_t here = (size_t)(at - h->slice);
	size_t method_len = strlen(llhttp_method_name(parser->method));

	(void)len;
	if (h->is_http)
		return 0;
	if (h->head_bytes + here !=
	    method_len + 1 + h->head.target_len + 1 + protocol.len)
		return refuse_request(h, 400, "malformed request line");
	here = min(here, protocol.len);
	memcpy(sent, h->tail + TAIL_BYTES - (protocol.len - here),
	       protocol.len - here);
	memcpy(sent + protocol.len - here, at - here, here);
	if (memcmp(sent, protocol.bytes, protocol.len) != 0)
		return refuse_request(h, 505, "only HTTP/1.1 is spoken here");
	h->is_http = true;
	return 0;
}

/* In PHASE_CHUNKED, field lines are trailers: llhttp checks them, and they do
 * not change the request. */
static int on_field_name(llhttp_t *parser, const char *at, size_t len)
{
	struct http *h = parser->data;

	if (h->phase == PHASE_HEAD)
		http_head_add_name(&h->head, at, len);
	return 0;
}

static int on_field_name_complete(llhttp_t *parser)
{
	struct http *h = parser->data;

	if (h->phase != PHASE_HEAD)
		return 0;
	return http_head_end_name(&h->head, &h->error);
}

static int on_field_value(llhttp_t *parser, const char *at, size_t len)
{
	struct http *h = parser->data;

	if (h->phase != PHASE_HEAD)
		return 0;
	return http_head_add_value(&h->head, at, len, &h->error);
}

static int on_field_value_complete(llhttp_t *parser)
{
	struct http *h = parser->data;

	if (h->phase == PHASE_HEAD)
		http_head_end_value(&h->head);
	return 0;
}

/* At the end of a head and of chunked content. */
static int pause_parser(llhttp_t *parser)
{
	(void)parser;
	return HPE_PAUSED;
}

/* --- what llhttp reports of chunked content --------------------------------
 */

static int on_chunk_header(llhttp_t *parser)
{
	struct http *h = parser->data;

	if (parser->content_length > h->content_max_bytes - h->content_bytes)
		return refuse_request(h, 413, "the content is too large");
	h->chunk_left = (size_t)parser->content_length;
	h->framing_left += CHUNK_FRAME_BYTES;
	return 0;
}

static int on_chunk_data(llhttp_t *parser, const char *at, size_t len)
{
	struct http *h = parser->data;

	h->chunk_left -= len;
	h->content_bytes += len;
	return keep_content(h, at, len);
}

/* --- giving bytes to llhttp ------------------------------------------------
 */

static const llhttp_settings_t settings = {
	.on_url = on_target,
	.on_url_complete = on_target_complete,
	.on_version = on_version,
	.on_header_field = on_field_name,
	.on_header_field_complete = on_field_name_complete,
	.on_header_value = on_field_value,
	.on_header_value_complete = on_field_value_complete,
	.on_headers_complete = pause_parser,
	.on_chunk_header = on_chunk_header,
	.on_body = on_chunk_data,
	.on_message_complete = pause_parser,
};

/* Says in HTTP's terms why llhttp stopped. */
static void refuse_for(struct http *h, llhttp_errno_t error)
{
	const llhttp_t *p = &h->parser;

	switch (error) {
	case HPE_PAUSED_H2_UPGRADE:
		refuse_request(h, 505, "only HTTP/1.1 is spoken here");
		break;
	case HPE_INVALID_VERSION:
		if (p->http_major == 1 && p->http_minor <= 1)
			refuse_request(h, 400, "malformed request line");
		else
			refuse_request(h, 505, "only HTTP/1.1 is spoken here");
		break;
	case HPE_INVALID_TRANSFER_ENCODING:
		if (p->flags & F_CONTENT_LENGTH)
			refuse_request(h, 400, llhttp_get_error_reason(p));
		else
			refuse_request(
				h, 400,
				"Transfer-Encoding does not end in chunked");
		break;
	default:
		refuse_request(h, 400, llhttp_get_error_reason(p));
	}
}

static void remember_tail(struct http *h, const char *bytes, size_t len)
{
	if (len >= TAIL_BYTES) {
		memcpy(h->tail, bytes + len - TAIL_BYTES, TAIL_BYTES);
		return;
	}
	memmove(h->tail, h->tail + len, TAIL_BYTES - len);
	memcpy(h->tail + TAIL_BYTES - len, bytes, len);
}

/* Lets llhttp read `len` bytes; `*used` receives how many it took. Returns
 * HPE_OK if it took all, HPE_PAUSED at the end of the head or the content; else
 * the request is bad near that byte. */
static llhttp_errno_t feed(struct http *h, const char *bytes, size_t len,
			   size_t *used)
{
	llhttp_errno_t rv;

	h->slice = bytes;
	rv = llhttp_execute(&h->parser, bytes, len);
	*used = len;
	if (rv != HPE_OK)
		*used = (size_t)(llhttp_get_error_pos(&h->parser) - bytes);
	if (rv == HPE_OK || rv == HPE_PAUSED)
		remember_tail(h, bytes, *used);
	else if (h->error.status == 0)
		refuse_for(h, rv);
	return rv;
}

/* Whether the bytes that llhttp read last end in an empty line. Before 9.3 it
 * accepts CR without LF there (CVE-2025-23167). */
static bool is_after_empty_line(const struct http *h)
{
	return memcmp(h->tail + TAIL_BYTES - 4, "\r\n\r\n", 4) == 0;
}

/* --- judging a head --------------------------------------------------------
 */

static enum http_method method_of(const llhttp_t *parser)
{
	switch (parser->method) {
	case HTTP_GET:
		return HTTP_METHOD_GET;
	case LLHTTP_HEAD:
		return HTTP_METHOD_HEAD;
	case HTTP_POST:
		return HTTP_METHOD_POST;
	case HTTP_PUT:
		return HTTP_METHOD_PUT;
	case HTTP_OPTIONS:
		return HTTP_METHOD_OPTIONS;
	case HTTP_CONNECT:
		return HTTP_METHOD_CONNECT;
	default:
		return HTTP_METHOD_OTHER;
	}
}

static int make_request(struct http *h)
{
	const llhttp_t *p = &h->parser;
	struct http_request *r = &h->request;

	if (!is_after_empty_line(h))
		return refuse_request(h, 400,
				      "the head does not end in CR LF CR LF");
	if (p->http_major != 1 || p->http_minor > 1)
		return refuse_request(h, 505, "only HTTP/1.1 is spoken here");
	r->method = method_of(p);
	r->minor_version = p->http_minor;
	r->has_content_length = (p->flags & F_CONTENT_LENGTH) != 0;
	r->content_length = r->has_content_length ? p->content_length : 0;
	r->is_chunked = (p->flags & F_CHUNKED) != 0;
	int status = http_head_make_request(&h->head, r, &h->error);
	if (status != 0)
		return status;
	if (r->content_length > h->content_max_bytes)
		return refuse_request(h, 413, "the content is too large");
	return 0;
}

/* --- reading ---------------------------------------------------------------
 */

/* Forgets the request before. */
static void start_request(struct http *h)
{
	llhttp_reset(&h->parser);
	http_head_clear(&h->head);
	http_release_content(h);
	h->request = (struct http_request){.method = HTTP_METHOD_OTHER};
	h->phase = PHASE_HEAD;
	h->empty_lines = 0;
	h->empty_line_cr = false;
	h->head_bytes = 0;
	h->has_target = false;
	h->is_http = false;
	h->content.len = 0;
	h->discards_content = false;
	h->content_bytes = 0;
	h->chunk_left = 0;
	h->framing_left = HTTP_CHUNK_MAX_BYTES;
}

/* Skips empty lines (RFC 9112 2.2); any other byte starts a request. Returns 0,
 * or the status if it is bad. */
static int skip_empty_lines(struct http *h, const char *bytes, size_t len,
			    size_t *used)
{
	for (; *used < len; ++*used) {
		char c = bytes[*used];

		if (!h->empty_line_cr && c != '\r' && c != '\n') {
			start_request(h);
			return 0;
		}
		if (c != (h->empty_line_cr ? '\n' : '\r'))
			return refuse_request(h, 400, "malformed empty line");
		h->empty_line_cr = !h->empty_line_cr;
		if (h->empty_line_cr && h->empty_lines++ == EMPTY_LINES_MAX)
			return refuse_request(h, 400, "too many empty lines");
	}
	return 0;
}

/* How many bytes of the head llhttp may be given at once; 0 at the limit. The
 * target and our event ids do not count, but llhttp reports them only after it
 * was given their bytes. */
static size_t head_room(const struct http *h)
{
	size_t event_id = min(h->head.event_id_len, HTTP_EVENT_ID_MAX_BYTES);
	size_t room = HTTP_HEAD_MAX_BYTES + h->head.target_len + event_id -
		      h->head_bytes;

	if (!h->has_target)
		room = min(room,
			   HTTP_TARGET_MAX_BYTES + 1 - h->head.target_len);
	return room;
}

static enum http_event finish_head(struct http *h)
{
	if (make_request(h) != 0)
		return HTTP_BAD;
	h->content_left = (size_t)h->request.content_length;
	h->phase = h->request.is_chunked ? PHASE_CHUNKED : PHASE_LENGTH;
	return HTTP_HEAD;
}

static enum http_event finish_request(struct http *h, struct span content)
{
	h->request.content = content;
	h->phase = h->request.keep_alive ? PHASE_START : PHASE_LAST;
	return HTTP_REQUEST;
}

static enum http_event end_badly(struct http *h, int status, const char *reason)
{
	refuse_request(h, status, reason);
	return HTTP_BAD;
}

/* Gives llhttp up to `*n` bytes of a head; `*n` receives how many it took.
 * llhttp refuses a tab behind the value of Content-Length or Transfer-Encoding,
 * though it is space (RFC 9110 5.6.3), so it is given a blank instead. */
static llhttp_errno_t feed_head(struct http *h, const char *bytes, size_t *n)
{
	const char *tab = memchr(bytes, '\t', *n);

	if (tab == bytes) {
		*n = 1;
		if (http_head_is_in_framing(&h->head))
			bytes = " ";
	} else if (tab != NULL) {
		*n = (size_t)(tab - bytes);
	}
	return feed(h, bytes, *n, n);
}

static enum http_event read_head(struct http *h, const char *bytes, size_t len,
				 size_t *used)
{
	while (*used < len) {
		size_t n = min(len - *used, head_room(h));
		llhttp_errno_t rv;

		if (n == 0)
			return end_badly(h, 431, "the head is too large");
		rv = feed_head(h, bytes + *used, &n);
		*used += n;
		if (h->error.status != 0)
			return HTTP_BAD;
		h->head_bytes += n;
		if (rv == HPE_PAUSED)
			return finish_head(h);
	}
	return HTTP_MORE;
}

/* Content that comes whole is not copied. */
static enum http_event read_length(struct http *h, const char *bytes,
				   size_t len, size_t *used)
{
	bool is_whole = h->content_bytes == 0 && len >= h->content_left;
	struct span content;

	len = min(len, h->content_left);
	if (!is_whole && keep_content(h, bytes, len) != 0)
		return HTTP_BAD;
	h->content_bytes += len;
	h->content_left -= len;
	*used = len;
	if (h->content_left > 0)
		return HTTP_MORE;
	content = (struct span){h->content.bytes, h->content.len};
	if (is_whole && !h->discards_content)
		content = (struct span){bytes, len};
	return finish_request(h, content);
}

static enum http_event read_chunked(struct http *h, const char *bytes,
				    size_t len, size_t *used)
{
	if (llhttp_get_errno(&h->parser) == HPE_PAUSED)
		llhttp_resume(&h->parser);
	while (*used < len) {
		size_t n = min(len - *used, h->chunk_left + h->framing_left);
		size_t content_bytes = h->content_bytes;
		llhttp_errno_t rv;

		if (n == 0)
			return end_badly(
				h, 413,
				"too many chunk extensions or trailers");
		rv = feed(h, bytes + *used, n, &n);
		if (h->error.status != 0)
			return HTTP_BAD;
		*used += n;
		h->framing_left -= n - (h->content_bytes - content_bytes);
		if (rv != HPE_PAUSED)
			continue;
		if (!is_after_empty_line(h))
			return end_badly(h, 400,
					 "the content has no proper end");
		return finish_request(
			h, (struct span){h->content.bytes, h->content.len});
	}
	return HTTP_MORE;
}

static enum http_event read_phase(struct http *h, const char *bytes, size_t len,
				  size_t *used)
{
	if (h->phase == PHASE_START &&
	    skip_empty_lines(h, bytes, len, used) != 0)
		return HTTP_BAD;
	switch (h->phase) {
	case PHASE_START:
		return HTTP_MORE;
	case PHASE_HEAD:
		return read_head(h, bytes, len, used);
	case PHASE_LENGTH:
		return read_length(h, bytes, len, used);
	case PHASE_CHUNKED:
		return read_chunked(h, bytes, len, used);
	case PHASE_LAST:
		*used = len;
		return HTTP_MORE;
	case PHASE_BAD:
		break;
	}
	return HTTP_BAD;
}

/* The head is bad at byte `at` of `read`. Looks for Origin in the rest of
 * `read`, but does not wait for more, which may never come. `has_begun`: the
 * head began in an earlier read. */
static void look_ahead(struct http *h, struct span read, size_t at,
		       bool has_begun)
{
	const char *line = read.bytes + at;
	const char *end = read.bytes + read.len;

	while (line > read.bytes && line[-1] != '\n')
		line--;
	if (line == read.bytes && has_begun) {
		line = memchr(line, '\n', read.len);
		if (line == NULL)
			return;
		line++;
	}
	if (line - read.bytes >= 4 && memcmp(line - 4, "\r\n\r\n", 4) == 0)
		return; /* what follows is content */
	http_head_look_ahead(&h->head,
			     (struct span){line, (size_t)(end - line)});
}

enum http_event http_read(struct http *h, const char *bytes, size_t len,
			  size_t *used)
{
	bool has_begun = h->phase == PHASE_HEAD;

	*used = 0;
	enum http_event event = read_phase(h, bytes, len, used);
	if (event != HTTP_BAD)
		return event;
	if (h->phase == PHASE_START)
		http_head_clear(&h->head); /* that of the request before */
	else if (h->phase == PHASE_HEAD &&
		 llhttp_get_errno(&h->parser) != HPE_PAUSED) /* at its end */
		look_ahead(h, (struct span){bytes, len}, *used, has_begun);
	h->phase = PHASE_BAD;
	return HTTP_BAD;
}

/* --- the rest --------------------------------------------------------------
 */

struct http *http_new(size_t content_max_bytes)
{
	struct http *h = calloc(1, sizeof *h);

	if (h == NULL)
		return NULL;
	llhttp_init(&h->parser, LLHTTP_REQUEST, &settings);
	h->parser.data = h;
	h->content_max_bytes = content_max_bytes;
	h->request.method = HTTP_METHOD_OTHER;
	return h;
}

void http_free(struct http *h)
{
	if (h == NULL)
		return;
	http_head_fini(&h->head);
	buf_fini(&h->content);
	free(h);
}

void http_reset(struct http *h)
{
	start_request(h);
	h->phase = PHASE_START;
	h->error = (struct http_error){0, NULL};
}

struct span http_origin_so_far(const struct http *h)
{
	if (h->phase != PHASE_HEAD && h->phase != PHASE_BAD)
		return (struct span){0};
	return http_head_find(&h->head, HTTP_ORIGIN);
}

const struct http_request *http_request(const struct http *h)
{
	return &h->request;
}

void http_discard_content(struct http *h)
{
	h->discards_content = true;
}

void http_release_content(struct http *h)
{
	h->request.content = (struct span){NULL, 0};
	if (h->content.cap > BUFFER_KEEP_BYTES)
		buf_fini(&h->content);
}

size_t http_memory(const struct http *h)
{
	return sizeof *h + h->content.cap + h->head.bytes.cap;
}

bool http_is_in_request(const struct http *h)
{
	return h->phase == PHASE_HEAD || h->phase == PHASE_LENGTH ||
	       h->phase == PHASE_CHUNKED;
}

int http_status(const struct http *h)
{
	return h->error.status;
}

const char *http_reason(const struct http *h)
{
	return h->error.reason;
}
