/* answer.c - reads responses: llhttp, strict, finds the parts, and this file
 * keeps them. */
#include "codec/http/answer.h"

#include <stdlib.h>
#include <string.h>

#include <llhttp.h>

#include "base/buf.h"

#define HEAD_MAX_BYTES      65536 /* values of the fields kept, and all names */
#define SAME_HEAD_MAX_BYTES 256
#define NAME_MAX_BYTES      32 /* no field that is kept has a longer name */

struct http_answers {
	llhttp_t parser;
	struct http_answer answer;
	size_t content_max_bytes;
	size_t head_bytes;
	bool is_complete;
	bool is_started;
	bool is_streamed; /* its content goes to `stream` */
	const struct http_answers_stream *stream; /* NULL: none */
	void *user;

	/* The field line being read. */
	char name[NAME_MAX_BYTES];
	size_t name_len;
	enum http_answer_field field;

	/* In which bytes of `values` each field lies. */
	struct buf values;
	size_t at[HTTP_ANSWER_FIELDS];
	size_t len[HTTP_ANSWER_FIELDS];
	bool is_there[HTTP_ANSWER_FIELDS];
	struct buf content;

	/* The last response that arrived whole: its head, and its content
	 * behind it. A response with the same bytes means the same, so
	 * thousands of equal ones are parsed once. */
	size_t same_head_len; /* 0: there is none */
	size_t same_content_len;
	char same_head[SAME_HEAD_MAX_BYTES];
};

static const struct span names[HTTP_ANSWER_FIELDS] = {
	[HTTP_ANSWER_ACCEPT] = SPAN("sec-websocket-accept"),
	[HTTP_ANSWER_PROTOCOL] = SPAN("sec-websocket-protocol"),
	[HTTP_ANSWER_RETRY_AFTER] = SPAN("retry-after"),
};

static int count_head(struct http_answers *a, size_t len)
{
	a->head_bytes += len;
	return a->head_bytes > HEAD_MAX_BYTES ? HPE_USER : HPE_OK;
}

static int on_start(llhttp_t *parser)
{
	struct http_answers *a = parser->data;

	a->is_started = true;
	return HPE_OK;
}

static int on_name(llhttp_t *parser, const char *bytes, size_t len)
{
	struct http_answers *a = parser->data;

	if (a->name_len + len <= NAME_MAX_BYTES)
		memcpy(a->name + a->name_len, bytes, len);
	a->name_len += len;
	return count_head(a, len);
}

static int on_name_complete(llhttp_t *parser)
{
	struct http_answers *a = parser->data;
	struct span name = {a->name, a->name_len};
	unsigned f = 0;

	if (name.len <= NAME_MAX_BYTES)
		while (f < HTTP_ANSWER_FIELDS &&
		       !span_equal_nocase(name, names[f]))
			f++;
	else
		f = HTTP_ANSWER_OTHER;
	a->field = (enum http_answer_field)f;
	a->name_len = 0;
	if (f < HTTP_ANSWER_FIELDS) {
		a->is_there[f] = true;
		a->at[f] = a->values.len;
		a->len[f] = 0;
	}
	return HPE_OK;
}

static int on_value(llhttp_t *parser, const char *bytes, size_t len)
{
	struct http_answers *a = parser->data;

	if (a->field != HTTP_ANSWER_OTHER) {
		if (buf_append(&a->values, bytes, len) != 0)
			return HPE_USER;
		a->len[a->field] += len;
	}
	return count_head(a, len);
}

/* 1xx, 204 and 304 have no content, which llhttp knows (RFC 9110 6.4.1). */
static int on_head(llhttp_t *parser)
{
	struct http_answers *a = parser->data;

	if (parser->http_major != 1 || parser->status_code < 100)
		return HPE_USER;
	a->is_streamed = a->stream != NULL && parser->status_code == 200;
	if (a->is_streamed)
		a->stream->on_head(a->user);
	return HPE_OK;
}

static int on_content(llhttp_t *parser, const char *bytes, size_t len)
{
	struct http_answers *a = parser->data;

	if (a->is_streamed) {
		a->stream->on_content(a->user, (struct span){bytes, len});
		return HPE_OK;
	}
	if (len > a->content_max_bytes - a->content.len ||
	    buf_append(&a->content, bytes, len) != 0)
		return HPE_USER;
	return HPE_OK;
}

static int on_answer_complete(llhttp_t *parser)
{
	struct http_answers *a = parser->data;

	a->is_complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_message_begin = on_start,
	.on_header_field = on_name,
	.on_header_field_complete = on_name_complete,
	.on_header_value = on_value,
	.on_headers_complete = on_head,
	.on_body = on_content,
	.on_message_complete = on_answer_complete,
};

struct http_answers *http_answers_new(size_t content_max_bytes)
{
	struct http_answers *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	a->content_max_bytes = content_max_bytes;
	llhttp_init(&a->parser, HTTP_RESPONSE, &settings);
	a->parser.data = a;
	return a;
}

void http_answers_free(struct http_answers *a)
{
	if (a == NULL)
		return;
	buf_fini(&a->values);
	buf_fini(&a->content);
	free(a);
}

void http_answers_stream(struct http_answers *a,
			 const struct http_answers_stream *stream, void *user)
{
	a->stream = stream;
	a->user = user;
}

static void start(struct http_answers *a)
{
	llhttp_reset(&a->parser);
	a->answer = (struct http_answer){0};
	a->head_bytes = 0;
	a->is_complete = false;
	a->is_started = false;
	a->is_streamed = false;
	a->name_len = 0;
	a->values.len = 0;
	a->content.len = 0;
	memset(a->is_there, 0, sizeof a->is_there);
}

/* What it found, as a struct http_answer. */
static enum http_answer_event finish_answer(struct http_answers *a)
{
	struct http_answer *answer = &a->answer;

	answer->status = a->parser.status_code;
	answer->keep_alive = llhttp_should_keep_alive(&a->parser) != 0;
	answer->content = (struct span){
		a->content.len == 0 ? "" : a->content.bytes, a->content.len};
	for (unsigned f = 0; f < HTTP_ANSWER_FIELDS; f++)
		if (a->is_there[f])
			answer->fields[f] = (struct span){
				a->len[f] == 0 ? ""
					       : a->values.bytes + a->at[f],
				a->len[f]};
	return HTTP_ANSWER_DONE;
}

/* Remembers the response that is the first `used` of `bytes`. */
static void remember_head(struct http_answers *a, struct span bytes,
			  size_t used)
{
	const char *end = memmem(bytes.bytes, used, "\r\n\r\n", 4);
	size_t len = end == NULL ? 0 : (size_t)(end - bytes.bytes) + 4;

	a->same_head_len = 0;
	if (len == 0 || len > SAME_HEAD_MAX_BYTES || a->answer.status == 101 ||
	    used - len != a->content.len || a->is_streamed)
		return;
	memcpy(a->same_head, bytes.bytes, len);
	a->same_head_len = len;
	a->same_content_len = a->content.len;
}

/* Whether `bytes` begin with the head of the last response. Then all but the
 * content is known. */
static bool read_same(struct http_answers *a, struct span bytes, size_t *used)
{
	size_t head = a->same_head_len;
	size_t content = a->same_content_len;

	if (head == 0 || !a->is_complete || bytes.len < head + content ||
	    memcmp(bytes.bytes, a->same_head, head) != 0)
		return false;
	a->answer.content = (struct span){bytes.bytes + head, content};
	*used = head + content;
	return true;
}

enum http_answer_event http_answers_read(struct http_answers *a,
					 struct span bytes, size_t *used)
{
	bool is_at_start = a->is_complete || !a->is_started;

	if (read_same(a, bytes, used))
		return HTTP_ANSWER_DONE;
	if (a->is_complete)
		start(a);
	*used = 0;
	if (bytes.len == 0)
		return HTTP_ANSWER_MORE;
	llhttp_errno_t rv = llhttp_execute(&a->parser, bytes.bytes, bytes.len);
	*used = bytes.len;
	if (rv == HPE_OK)
		return HTTP_ANSWER_MORE;
	if (!a->is_complete || (rv != HPE_PAUSED && rv != HPE_PAUSED_UPGRADE))
		return HTTP_ANSWER_BAD;
	*used = (size_t)(llhttp_get_error_pos(&a->parser) - bytes.bytes);
	finish_answer(a);
	if (is_at_start)
		remember_head(a, bytes, *used);
	return HTTP_ANSWER_DONE;
}

enum http_answer_event http_answers_finish(struct http_answers *a)
{
	if (a->is_complete || !a->is_started)
		return HTTP_ANSWER_BAD;
	llhttp_finish(&a->parser);
	return a->is_complete ? finish_answer(a) : HTTP_ANSWER_BAD;
}

const struct http_answer *http_answers_last(const struct http_answers *a)
{
	return &a->answer;
}
