/* response.c - writing responses (RFC 9112 4). */
#include "codec/http/http.h"

#include "base/check.h"
#include "base/decimal.h"
#include "codec/http/status.h"

#include <errno.h>
#include <string.h>

#define STATUS_LINE_MAX 64 /* with the longest phrase of status.h */

const char *http_reason_phrase(int status)
{
	switch (status) {
#define HTTP_PHRASE(code, phrase)                                              \
	case code:                                                             \
		return phrase;
		HTTP_STATUSES(HTTP_PHRASE)
#undef HTTP_PHRASE
	default:
		return NULL;
	}
}

static char *put_span(char *p, struct span s)
{
	if (s.len > 0)
		memcpy(p, s.bytes, s.len);
	return p + s.len;
}

static char *put_field_line(char *p, struct span name_and_colon,
			    struct span value)
{
	p = put_span(p, name_and_colon);
	p = put_span(p, value);
	return put_span(p, SPAN("\r\n"));
}

size_t http_write_chunk_start(char *end, size_t len)
{
	char *p = end;

	/* None of 0 bytes: that would be the last one. */
	CHECK(len > 0 && len <= UINT32_MAX);
	*--p = '\n';
	*--p = '\r';
	for (; len > 0; len /= 16)
		*--p = "0123456789abcdef"[len % 16];
	return (size_t)(end - p);
}

/* The content of a stream that is in it from the start. */
static char *put_first_chunk(char *p, struct span content)
{
	char start[HTTP_CHUNK_START_MAX];
	char *end = start + sizeof start;
	size_t len;

	if (content.len == 0)
		return p;
	len = http_write_chunk_start(end, content.len);
	p = put_span(p, (struct span){end - len, len});
	p = put_span(p, content);
	return put_span(p, SPAN(HTTP_CHUNK_END));
}

int http_write_response(struct buf *out, const struct http_response *r)
{
	/* No Content-Length for these (RFC 9110 8.6); for 304 it would have to
	 * be that of the content that is not sent. */
	bool may_have_content =
		r->status >= 200 && r->status != 204 && r->status != 304;
	bool has_content = may_have_content && r->content_type != NULL;
	struct span type = span_of(r->content_type);
	struct span fields = span_of(r->fields);
	struct span more_fields = span_of(r->more_fields);
	struct span date = span_of(r->date);
	const char *phrase = http_reason_phrase(r->status);
	size_t content_len = has_content ? r->content.len : 0;
	char *p;

	CHECK(phrase != NULL);
	if (buf_reserve(out, STATUS_LINE_MAX + 200 + date.len + type.len +
				     fields.len + more_fields.len +
				     content_len) != 0)
		return -ENOMEM;
	p = out->bytes + out->len;
	p = put_span(p, SPAN("HTTP/1.1 "));
	p = decimal_write(p, (uint64_t)r->status);
	p = put_field_line(p, SPAN(" "), span_of(phrase));
	if (date.bytes != NULL)
		p = put_field_line(p, SPAN("Date: "), date);
	if (has_content) {
		p = put_field_line(p, SPAN("Content-Type: "), type);
		p = put_span(p, SPAN("X-Content-Type-Options: nosniff\r\n"));
	}
	if (may_have_content && !r->is_stream) {
		p = put_span(p, SPAN("Content-Length: "));
		p = decimal_write(p, content_len);
		p = put_span(p, SPAN("\r\n"));
	}
	if (r->is_chunked)
		p = put_span(p, SPAN("Transfer-Encoding: chunked\r\n"));
	p = put_span(p, fields);
	p = put_span(p, more_fields);
	if (r->close || r->is_stream) {
		p = put_span(p, SPAN("Connection: close\r\n"));
	} else if (r->keep_alive || r->keep_alive_s > 0) {
		p = put_span(p, SPAN("Connection: keep-alive\r\n"));
		if (r->keep_alive_s > 0) {
			p = put_span(p, SPAN("Keep-Alive: timeout="));
			p = decimal_write(p, r->keep_alive_s);
			p = put_span(p, SPAN("\r\n"));
		}
	}
	p = put_span(p, SPAN("\r\n"));
	if (!r->is_head && r->is_chunked)
		p = put_first_chunk(p, r->content);
	else if (!r->is_head)
		p = put_span(p, (struct span){r->content.bytes, content_len});
	out->len = (size_t)(p - out->bytes);
	return 0;
}
