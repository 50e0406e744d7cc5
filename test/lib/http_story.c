/* http_story.c - see http_story.h. */
#include "http_story.h"

const char *const method_names[] = {
	[HTTP_METHOD_GET] = "GET",         [HTTP_METHOD_HEAD] = "HEAD",
	[HTTP_METHOD_POST] = "POST",       [HTTP_METHOD_PUT] = "PUT",
	[HTTP_METHOD_OPTIONS] = "OPTIONS", [HTTP_METHOD_CONNECT] = "CONNECT",
	[HTTP_METHOD_OTHER] = "OTHER",
};

const char *const field_names[HTTP_FIELD_COUNT] = {
	[HTTP_ACCEPT] = "accept",
	[HTTP_ACCEPT_ENCODING] = "accept-encoding",
	[HTTP_ACCESS_CONTROL_REQUEST_HEADERS] =
		"access-control-request-headers",
	[HTTP_ACCESS_CONTROL_REQUEST_METHOD] = "access-control-request-method",
	[HTTP_AUTHORIZATION] = "authorization",
	[HTTP_CONNECTION] = "connection",
	[HTTP_CONTENT_ENCODING] = "content-encoding",
	[HTTP_CONTENT_TYPE] = "content-type",
	[HTTP_COOKIE] = "cookie",
	[HTTP_EXPECT] = "expect",
	[HTTP_FORWARDED] = "forwarded",
	[HTTP_HOST] = "host",
	[HTTP_IDEMPOTENCY_KEY] = "idempotency-key",
	[HTTP_IF_NONE_MATCH] = "if-none-match",
	[HTTP_LAST_EVENT_ID] = "last-event-id",
	[HTTP_ORIGIN] = "origin",
	[HTTP_SEC_FETCH_SITE] = "sec-fetch-site",
	[HTTP_SEC_WEBSOCKET_EXTENSIONS] = "sec-websocket-extensions",
	[HTTP_SEC_WEBSOCKET_KEY] = "sec-websocket-key",
	[HTTP_SEC_WEBSOCKET_PROTOCOL] = "sec-websocket-protocol",
	[HTTP_SEC_WEBSOCKET_VERSION] = "sec-websocket-version",
	[HTTP_TRACEPARENT] = "traceparent",
	[HTTP_UPGRADE] = "upgrade",
	[HTTP_X_FORWARDED_FOR] = "x-forwarded-for",
	[HTTP_X_FORWARDED_PROTO] = "x-forwarded-proto",
};

void add(struct buf *log, const char *text)
{
	assert_int_equal(buf_append(log, text, strlen(text)), 0);
}

void add_span(struct buf *log, const char *name, struct span s)
{
	if (s.bytes == NULL)
		return;
	add(log, " ");
	add(log, name);
	add(log, "=[");
	assert_int_equal(buf_append(log, s.bytes, s.len), 0);
	add(log, "]");
}

void add_head(struct buf *log, const struct http_request *r)
{
	add(log, "HEAD ");
	add(log, method_names[r->method]);
	add(log, " ");
	assert_int_equal(buf_append(log, r->path.bytes, r->path.len), 0);
	add_span(log, "query", r->query);
	for (unsigned i = 0; i < HTTP_FIELD_COUNT; i++)
		add_span(log, field_names[i], r->fields[i]);
	if (r->minor_version != 1)
		add(log, " 1.0");
	if (r->has_content_length) {
		char number[40];

		snprintf(number, sizeof number, " length=%ju",
			 (uintmax_t)r->content_length);
		add(log, number);
	}
	if (r->is_chunked)
		add(log, " chunked");
	if (r->expects_continue)
		add(log, " continue");
	if (!r->keep_alive)
		add(log, " close");
	add(log, "\n");
}

void check_head_again(const struct buf *log, const struct http_request *r)
{
	struct buf head = {0};

	add_head(&head, r);
	assert_true(head.len <= log->len);
	assert_memory_equal(log->bytes + log->len - head.len, head.bytes,
			    head.len);
	buf_fini(&head);
}

void add_event(struct buf *log, const struct http *h, enum http_event event)
{
	const struct http_request *r = http_request(h);

	if (event == HTTP_HEAD) {
		assert_int_equal(r->content.len, 0);
		assert_true(http_is_in_request(h));
		add_head(log, r);
	} else if (event == HTTP_REQUEST) {
		assert_false(http_is_in_request(h));
		check_head_again(log, r);
		add(log, "REQUEST [");
		assert_int_equal(
			buf_append(log, r->content.bytes, r->content.len), 0);
		add(log, "]\n");
	} else {
		char number[40];

		assert_non_null(http_reason(h));
		snprintf(number, sizeof number, "BAD %d\n", http_status(h));
		add(log, number);
	}
}

bool feed_piece(struct http *h, const char *bytes, size_t len, struct buf *log)
{
	char *piece = malloc(len + 1);
	size_t at = 0;
	enum http_event event = HTTP_MORE;

	assert_non_null(piece);
	memcpy(piece, bytes, len);
	while (at < len || event == HTTP_HEAD) {
		size_t used;

		event = http_read(h, piece + at, len - at, &used);
		assert_true(used <= len - at);
		at += used;
		if (event == HTTP_MORE)
			break;
		add_event(log, h, event);
		if (event == HTTP_BAD)
			break;
	}
	if (event == HTTP_MORE)
		assert_int_equal(at, len);
	free(piece);
	return event != HTTP_BAD;
}

size_t piece_len(enum cut cut, size_t left)
{
	size_t len = cut == WHOLE ? left : 1;

	if (cut == RANDOM)
		len = 1 + (size_t)rand() % 40;
	return len < left ? len : left;
}

void feed(struct http *h, const char *bytes, size_t len, enum cut cut,
	  struct buf *log)
{
	for (size_t at = 0, n; at < len; at += n) {
		n = piece_len(cut, len - at);
		if (!feed_piece(h, bytes + at, n, log))
			break;
	}
	assert_int_equal(buf_append(log, "", 1), 0);
}

void expect_cut(const char *bytes, size_t len, enum cut cut,
		const char *expected)
{
	struct http *h = http_new(CONTENT_MAX_BYTES);
	struct buf log = {0};

	assert_non_null(h);
	feed(h, bytes, len, cut, &log);
	assert_string_equal(log.bytes, expected);
	buf_fini(&log);
	http_free(h);
}

void story_expect_bytes(const char *bytes, size_t len, const char *expected)
{
	expect_cut(bytes, len, WHOLE, expected);
	expect_cut(bytes, len, BYTES, expected);
	for (int i = 0; i < RANDOM_ROUNDS; i++)
		expect_cut(bytes, len, RANDOM, expected);
}

void expect(const char *text, const char *expected)
{
	story_expect_bytes(text, strlen(text), expected);
}

void expect_field(const char *line, const char *expected)
{
	char text[1000];

	snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n",
		 line);
	expect(text, expected);
}

void add_run(struct buf *b, char c, size_t count)
{
	while (count-- > 0)
		assert_int_equal(buf_append(b, &c, 1), 0);
}
