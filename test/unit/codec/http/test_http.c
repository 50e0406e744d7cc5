/* Unit tests of http: the rules of http.h, one after the other.
 *
 * Every input is read whole, byte by byte and in random pieces. What happens is
 * written down as text, one line an event, and must be the text expected. */
#include "codec/http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "oom.h"

#define CONTENT_MAX_BYTES 1000
#define RANDOM_ROUNDS     20

static const char *const method_names[] = {
	[HTTP_METHOD_GET] = "GET",         [HTTP_METHOD_HEAD] = "HEAD",
	[HTTP_METHOD_POST] = "POST",       [HTTP_METHOD_PUT] = "PUT",
	[HTTP_METHOD_OPTIONS] = "OPTIONS", [HTTP_METHOD_CONNECT] = "CONNECT",
	[HTTP_METHOD_OTHER] = "OTHER",
};

static const char *const field_names[HTTP_FIELD_COUNT] = {
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
	[HTTP_UPGRADE] = "upgrade",
	[HTTP_X_FORWARDED_FOR] = "x-forwarded-for",
	[HTTP_X_FORWARDED_PROTO] = "x-forwarded-proto",
};

/* --- writing down what happens ---------------------------------------------
 */

static void add(struct buf *log, const char *text)
{
	assert_int_equal(buf_append(log, text, strlen(text)), 0);
}

static void add_span(struct buf *log, const char *name, struct span s)
{
	if (s.bytes == NULL)
		return;
	add(log, " ");
	add(log, name);
	add(log, "=[");
	assert_int_equal(buf_append(log, s.bytes, s.len), 0);
	add(log, "]");
}

/* HEAD METHOD PATH, then whatever is not as in the plainest request. */
static void add_head(struct buf *log, const struct http_request *r)
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

/* Between head and end of a request nothing but the content changes. */
static void check_head_again(const struct buf *log,
			     const struct http_request *r)
{
	struct buf head = {0};

	add_head(&head, r);
	assert_true(head.len <= log->len);
	assert_memory_equal(log->bytes + log->len - head.len, head.bytes,
			    head.len);
	buf_fini(&head);
}

static void add_event(struct buf *log, const struct http *h,
		      enum http_event event)
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

/* --- feeding ---------------------------------------------------------------
 */

/* Reads one piece, which lies alone in memory of its own. Returns false once
 * the request is bad. */
static bool feed_piece(struct http *h, const char *bytes, size_t len,
		       struct buf *log)
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

enum cut {
	WHOLE,
	BYTES,
	RANDOM,
};

static size_t piece_len(enum cut cut, size_t left)
{
	size_t len = cut == WHOLE ? left : 1;

	if (cut == RANDOM)
		len = 1 + (size_t)rand() % 40;
	return len < left ? len : left;
}

static void feed(struct http *h, const char *bytes, size_t len, enum cut cut,
		 struct buf *log)
{
	for (size_t at = 0, n; at < len; at += n) {
		n = piece_len(cut, len - at);
		if (!feed_piece(h, bytes + at, n, log))
			break;
	}
	assert_int_equal(buf_append(log, "", 1), 0);
}

static void expect_cut(const char *bytes, size_t len, enum cut cut,
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

static void expect_bytes(const char *bytes, size_t len, const char *expected)
{
	expect_cut(bytes, len, WHOLE, expected);
	expect_cut(bytes, len, BYTES, expected);
	for (int i = 0; i < RANDOM_ROUNDS; i++)
		expect_cut(bytes, len, RANDOM, expected);
}

static void expect(const char *text, const char *expected)
{
	expect_bytes(text, strlen(text), expected);
}

/* A GET with Host and one further field line, or none. */
static void expect_field(const char *line, const char *expected)
{
	char text[1000];

	snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n",
		 line);
	expect(text, expected);
}

static void expect_host(const char *host, bool is_good)
{
	char text[1000];
	char expected[1000] = "BAD 400\n";

	snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
	if (is_good)
		snprintf(expected, sizeof expected,
			 "HEAD GET / host=[%s]\nREQUEST []\n", host);
	expect(text, expected);
}

static void expect_target(const char *target, const char *expected)
{
	char text[1000];

	snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n",
		 target);
	expect(text, expected);
}

static void expect_chunked(const char *content, const char *expected)
{
	char text[2000];
	char all[2000];

	snprintf(text, sizeof text,
		 "POST /p HTTP/1.1\r\nHost: a\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n%s",
		 content);
	snprintf(all, sizeof all, "HEAD POST /p host=[a] chunked\n%s",
		 expected);
	expect(text, all);
}

/* Text that is made of parts and of runs of one character. */
static void add_run(struct buf *b, char c, size_t count)
{
	while (count-- > 0)
		assert_int_equal(buf_append(b, &c, 1), 0);
}

/* --- requests --------------------------------------------------------------
 */

static void a_request_without_content_is_a_head_and_a_request(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD GET / host=[a]\nREQUEST []\n");
	expect("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD HEAD /x host=[a]\nREQUEST []\n");
	expect("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD OPTIONS /x host=[a]\nREQUEST []\n");
	expect("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD OTHER /x host=[a]\nREQUEST []\n");
}

static void content_of_an_announced_length_is_read(void **state)
{
	(void)state;
	expect("POST /pub HTTP/1.1\r\nHost: a\r\nContent-Length: "
	       "5\r\n\r\nhello",
	       "HEAD POST /pub host=[a] length=5\nREQUEST [hello]\n");
	expect("POST /pub HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	       "HEAD POST /pub host=[a] length=0\nREQUEST []\n");
	expect("GET /pub HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
	       "HEAD GET /pub host=[a] length=2\nREQUEST [hi]\n");
}

static void content_may_hold_any_byte(void **state)
{
	static const char text[] = "POST /p HTTP/1.1\r\nHost: a\r\n"
				   "Content-Length: 6\r\n\r\n\0\r\n\r\n\xff";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	assert_int_equal(sizeof text - 1 - used, 6);
	assert_int_equal(http_read(h, text + used, 6, &used), HTTP_REQUEST);
	assert_int_equal(used, 6);
	assert_int_equal(http_request(h)->content.len, 6);
	assert_memory_equal(http_request(h)->content.bytes, "\0\r\n\r\n\xff",
			    6);
	http_free(h);
}

static void content_that_comes_whole_is_not_copied(void **state)
{
	static const char text[] = "POST /p HTTP/1.1\r\nHost: a\r\n"
				   "Content-Length: 5\r\n\r\nhello";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	const char *content = text + sizeof text - 1 - 5;
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	assert_int_equal(http_read(h, content, 5, &used), HTTP_REQUEST);
	assert_ptr_equal(http_request(h)->content.bytes, content);
	http_free(h);
}

static void the_head_is_told_before_its_content_is_read(void **state)
{
	static const char text[] = "POST /p HTTP/1.1\r\nHost: a\r\n"
				   "Content-Length: 5\r\n\r\nhello";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	assert_int_equal(used, sizeof text - 1 - 5);
	assert_int_equal(http_read(h, "", 0, &used), HTTP_MORE);
	assert_int_equal(used, 0);
	http_free(h);
}

static void a_request_ends_without_any_byte_behind_its_head(void **state)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	assert_int_equal(used, sizeof text - 1);
	assert_int_equal(http_read(h, NULL, 0, &used), HTTP_REQUEST);
	http_free(h);
}

static void pipelined_requests_come_one_after_the_other(void **state)
{
	(void)state;
	expect("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
	       "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n"
	       "POST /3 HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n"
	       "\r\n5\r\nthree\r\n0\r\n\r\n"
	       "HEAD /4 HTTP/1.1\r\nHost: d\r\n\r\n",
	       "HEAD POST /1 host=[a] length=3\nREQUEST [one]\n"
	       "HEAD GET /2 host=[b]\nREQUEST []\n"
	       "HEAD POST /3 host=[c] chunked\nREQUEST [three]\n"
	       "HEAD HEAD /4 host=[d]\nREQUEST []\n");
}

static void a_request_knows_nothing_of_the_one_before(void **state)
{
	(void)state;
	expect("POST /1?q HTTP/1.1\r\nHost: a\r\nAccept: x\r\nOrigin: y\r\n"
	       "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n1"
	       "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
	       "HEAD POST /1 query=[q] accept=[x] expect=[100-continue] "
	       "host=[a] origin=[y] length=1 continue\nREQUEST [1]\n"
	       "HEAD GET /2 host=[b]\nREQUEST []\n");
}

static void nothing_is_read_behind_a_request(void **state)
{
	static const char text[] = "GET /sub HTTP/1.1\r\nHost: a\r\n"
				   "Connection: Upgrade\r\n"
				   "Upgrade: websocket\r\n\r\n"
				   "\x81\x85 the client's first frame";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t head = (size_t)(strstr(text, "\r\n\r\n") + 4 - text);
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	assert_int_equal(used, head);
	assert_int_equal(
		http_read(h, text + used, sizeof text - 1 - used, &used),
		HTTP_REQUEST);
	assert_int_equal(used, 0);
	assert_true(http_request(h)->keep_alive);
	http_free(h);
}

static void an_upgrade_not_taken_is_an_ordinary_request(void **state)
{
	(void)state;
	expect("POST /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, "
	       "HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n"
	       "Content-Length: 2\r\n\r\nhi"
	       "POST /2 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
	       "Upgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "2\r\nhi\r\n0\r\n\r\n"
	       "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
	       "Upgrade: h2c\r\n\r\n"
	       "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD POST /1 connection=[Upgrade, HTTP2-Settings] host=[a] "
	       "upgrade=[h2c] length=2\nREQUEST [hi]\n"
	       "HEAD POST /2 connection=[Upgrade] host=[a] upgrade=[h2c] "
	       "chunked\nREQUEST [hi]\n"
	       "HEAD GET /3 connection=[Upgrade] host=[a] upgrade=[h2c]\n"
	       "REQUEST []\n"
	       "HEAD GET /4 host=[a]\nREQUEST []\n");
}

static void empty_lines_before_a_request_are_skipped_up_to_four(void **state)
{
	(void)state;
	expect("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
	       "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD GET / host=[a]\nREQUEST []\n"
	       "HEAD GET / host=[a]\nREQUEST []\n");
	expect("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	       "BAD 400\n");
	expect("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect("\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
}

static void being_in_a_request_lasts_from_its_first_byte_to_its_last(
	void **state)
{
	static const char text[] = "\r\nPOST / HTTP/1.1\r\nHost: a\r\n"
				   "Content-Length: 2\r\n\r\nhi\r\n";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	enum http_event event = HTTP_MORE;

	(void)state;
	assert_false(http_is_in_request(h));
	for (size_t i = 0; i < sizeof text - 1; i++) {
		size_t used;

		event = http_read(h, text + i, 1, &used);
		assert_int_equal(used, 1);
		assert_int_equal(http_is_in_request(h),
				 i >= 2 && i < sizeof text - 4);
	}
	assert_int_equal(event, HTTP_MORE);
	http_free(h);
}

static void discarded_content_is_counted_but_not_kept(void **state)
{
	static const char *const texts[] = {
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
		"\r\n5\r\nhello\r\n0\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct http *h = http_new(CONTENT_MAX_BYTES);
		const char *text = texts[i];
		size_t used;

		assert_int_equal(http_read(h, text, strlen(text), &used),
				 HTTP_HEAD);
		text += used;
		http_discard_content(h);
		assert_int_equal(http_read(h, text, 3, &used), HTTP_MORE);
		text += used;
		assert_int_equal(http_read(h, text, strlen(text), &used),
				 HTTP_REQUEST);
		assert_int_equal(used, strlen(text));
		assert_int_equal(http_request(h)->content.len, 0);
		http_free(h);
	}
}

static void discarded_content_may_come_whole(void **state)
{
	static const char text[] = "POST / HTTP/1.1\r\nHost: a\r\n"
				   "Content-Length: 5\r\n\r\nhello";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	struct buf log = {0};
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	http_discard_content(h);
	assert_int_equal(
		http_read(h, text + used, sizeof text - 1 - used, &used),
		HTTP_REQUEST);
	assert_int_equal(used, 5);
	assert_int_equal(http_request(h)->content.len, 0);
	/* The next request's is kept. */
	feed(h, text, sizeof text - 1, BYTES, &log);
	assert_string_equal(log.bytes, "HEAD POST / host=[a] length=5\n"
				       "REQUEST [hello]\n");
	buf_fini(&log);
	http_free(h);
}

static void after_a_reset_a_new_request_is_read(void **state)
{
	static const char *const before[] = {
		"",
		"\r",
		"POST /",
		"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhe",
		("POST / HTTP/1.1\r\nHost:a\r\n"
		 "Transfer-Encoding:chunked\r\n\r\n5\r\nhe"),
		"not HTTP\r\n",
		"GET / HTTP/1.0\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
		struct http *h = http_new(CONTENT_MAX_BYTES);
		struct buf log = {0};

		feed(h, before[i], strlen(before[i]), BYTES, &log);
		http_reset(h);
		assert_false(http_is_in_request(h));
		assert_int_equal(http_status(h), 0);
		log.len = 0;
		feed(h, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 28, BYTES, &log);
		assert_string_equal(log.bytes,
				    "HEAD GET /2 host=[a]\nREQUEST []\n");
		buf_fini(&log);
		http_free(h);
	}
}

static void a_bad_request_stays_bad(void **state)
{
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, "?", 1, &used), HTTP_BAD);
	assert_int_equal(
		http_read(h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, &used),
		HTTP_BAD);
	assert_int_equal(used, 0);
	assert_int_equal(http_status(h), 400);
	assert_false(http_is_in_request(h));
	http_free(h);
}

static void freeing_nothing_is_fine(void **state)
{
	(void)state;
	http_free(NULL);
}

/* --- version and request line ----------------------------------------------
 */

static void only_versions_1_0_and_1_1_are_read(void **state)
{
	(void)state;
	expect("GET / HTTP/1.0\r\n\r\n", "HEAD GET / 1.0 close\nREQUEST []\n");
	expect("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "BAD 505\n");
	expect("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "BAD 505\n");
	expect("GET / HTTP/0.9\r\nHost: a\r\n\r\n", "BAD 505\n");
	expect("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "BAD 505\n");
	expect("GET /\r\n\r\n", "BAD 505\n");
	expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BAD 505\n");
}

static void other_protocols_of_llhttp_are_refused(void **state)
{
	(void)state;
	expect("OPTIONS * RTSP/1.0\r\n\r\n", "BAD 505\n");
	expect("POST /pub RTSP/1.0\r\nContent-Length: 0\r\n\r\n", "BAD 505\n");
	expect("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
	       "OPTIONS * RTSP/1.0\r\n\r\n",
	       "HEAD GET /1 host=[a]\nREQUEST []\nBAD 505\n");
	expect("SOURCE / ICE/1.0\r\n\r\n", "BAD 400\n");
}

static void a_malformed_request_line_is_refused(void **state)
{
	static const char *const lines[] = {
		"GET  / HTTP/1.1",  "GET /  HTTP/1.1",  "GET / HTTP/1.1 ",
		"GET / HTTP/1.1 x", " GET / HTTP/1.1",  "get / HTTP/1.1",
		"GETT / HTTP/1.1",  "GET\t/ HTTP/1.1",  "GET /\tHTTP/1.1",
		"GET / http/1.1",   "GET / HTTP /1.1",  "GET / HTTP/1",
		"GET / HTTP/1.",    "GET / HTTP/1.1.1", "GET / HTTP/1.10",
		"GET / HTTP/11",    "BREW / HTTP/1.1",  "GET HTTP/1.1",
		"\x16\x03\x01",
	};
	char text[100];

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		snprintf(text, sizeof text, "%s\r\nHost: a\r\n\r\n", lines[i]);
		expect(text, "BAD 400\n");
	}
}

static void a_line_ends_in_cr_lf_and_nothing_else(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\nHost: a\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\rHost: a\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\n\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\n\n", "BAD 400\n");
}

static void a_head_ends_in_cr_lf_cr_lf(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\r\nHost: a\r\n\rX", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\n\rXGET /2 HTTP/1.1\r\n"
	       "Host: a\r\n\r\n",
	       "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", "BAD 400\n");
}

/* --- Host ------------------------------------------------------------------
 */

static void http_1_1_needs_one_host(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "BAD 400\n");
}

static void a_host_is_a_uri_host_with_an_optional_port(void **state)
{
	static const char *const good[] = {
		"",
		"example.com",
		"example.com:80",
		"127.0.0.1:3000",
		"[::1]",
		"[::1]:3000",
		"a_b-c~d",
		"a%20b",
		"a:",
		"!$&'()*+,;=",
		"[1:2:3:4:5:6:7:8]:1",
	};
	static const char *const bad[] = {
		"a b",       "a/b",   "a?b",  "a#b",      "u@a",    "a:b",
		"a:80:80",   "a:-1",  "[::1", "[]",       "[::1]a", "::1",
		"[::g]",     "a%2",   "a%zz", "a\\b",     "\"a\"",  "a:80 ,b",
		"[1.2.3.4]", "a\xe9", "a%",   "http://a",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		expect_host(good[i], true);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_host(bad[i], false);
	/* What lies behind a value in memory is no part of it. */
	expect("GET / HTTP/1.1\r\nHost: a%4\r\nOrigin: 1\r\n\r\n", "BAD 400\n");
}

/* --- request targets -------------------------------------------------------
 */

static void a_target_is_divided_at_its_first_question_mark(void **state)
{
	(void)state;
	expect_target("/sub?topic=a?b&c=%41",
		      "HEAD GET /sub query=[topic=a?b&c=%41] host=[a]\n"
		      "REQUEST []\n");
	expect_target("/sub?", "HEAD GET /sub query=[] host=[a]\nREQUEST []\n");
	expect_target("/?x", "HEAD GET / query=[x] host=[a]\nREQUEST []\n");
	expect_target("//x/%2F\"<>",
		      "HEAD GET //x/%2F\"<> host=[a]\nREQUEST []\n");
}

static void the_authority_of_an_absolute_target_takes_the_place_of_host(
	void **state)
{
	(void)state;
	expect_target("http://b:80/pub?x",
		      "HEAD GET /pub query=[x] host=[b:80]\nREQUEST []\n");
	expect_target("HTTPS://b/", "HEAD GET / host=[b]\nREQUEST []\n");
	expect_target("http://[::1]:3000/x",
		      "HEAD GET /x host=[[::1]:3000]\nREQUEST []\n");
}

static void an_absolute_target_without_a_path_has_the_path_slash(void **state)
{
	(void)state;
	expect_target("http://b", "HEAD GET / host=[b]\nREQUEST []\n");
	expect_target("http://b?x=1",
		      "HEAD GET / query=[x=1] host=[b]\nREQUEST []\n");
}

static void the_asterisk_is_a_target_for_options_alone(void **state)
{
	(void)state;
	expect("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD OPTIONS * host=[a]\nREQUEST []\n");
	expect("OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect_target("*", "BAD 400\n");
}

static void other_targets_are_refused(void **state)
{
	static const char *const bad[] = {
		"http:///x",    "http://",    "http://u@b/", "ftp://b/",
		"a:80",         "x",          "/a#b",        "/a\x01",
		"/a\x7f",       "/\xc3\xa9",  "http://b c/", "http://b:x/",
		"http://b\\c/", "?x",         "/a\x80?b",    "/a?\x01",
		"http://b/#",   "http://[b/", "http:/b",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_target(bad[i], "BAD 400\n");
}

/* Whoever answers it has a head to refuse; nothing may follow. */
static void connect_is_told_from_other_methods(void **state)
{
	(void)state;
	expect("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
	       "HEAD CONNECT a:80 host=[a] close\nREQUEST []\n");
	expect("CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
	expect("CONNECT \r\nHost: a\r\n\r\n", "BAD 400\n");
}

static void a_nul_in_the_head_is_refused(void **state)
{
	static const char target[] = "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n";
	static const char name[] =
		"GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n";
	static const char value[] =
		"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n";

	(void)state;
	expect_bytes(target, sizeof target - 1, "BAD 400\n");
	expect_bytes(name, sizeof name - 1, "BAD 400\n");
	expect_bytes(value, sizeof value - 1, "BAD 400\n");
}

/* --- fields ----------------------------------------------------------------
 */

static void every_field_of_interest_is_found_in_any_case(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HTTP_FIELD_COUNT; i++) {
		const char *value = i == HTTP_EXPECT ? "100-continue" : "v-1";
		char name[40];
		char text[200];
		char expected[200];

		snprintf(name, sizeof name, "%s", field_names[i]);
		size_t len = strlen(name);
		for (size_t k = 0; k < len; k += 2) {
			if (name[k] != '-')
				name[k] = (char)(name[k] & ~0x20);
		}
		snprintf(text, sizeof text,
			 "GET / HTTP/1.0\r\nX%s: no\r\n%s: %s\r\n\r\n", name,
			 name, value);
		snprintf(expected, sizeof expected,
			 "HEAD GET / %s=[%s] 1.0 close\nREQUEST []\n",
			 field_names[i], value);
		expect(text, expected);
	}
}

static void a_name_that_only_resembles_a_field_is_not_one(void **state)
{
	static const char *const names[] = {
		"Hos",
		"Hosts",
		"Hast",
		"Accepd",
		"Accept-Char",
		"Access-Control-Request-Methot",
		"Access-Control-Request-Header",
		"Access-Control-Request-Headers-",
		"Access-Control-Request-Headers-And",
		"Origim",
		"Cookies",
		"Expec",
		"Upgrade-",
		"Authorizatiom",
		"Content-Typf",
		"Sec-WebSocket-Protocols-And-More-Of-The-Same-Kind",
	};
	char line[100];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(line, sizeof line, "%s: x", names[i]);
		expect_field(line, "HEAD GET / host=[a]\nREQUEST []\n");
	}
}

static void space_around_a_value_is_no_part_of_it(void **state)
{
	(void)state;
	expect_field("Origin: \t a b \t ",
		     "HEAD GET / host=[a] origin=[a b]\nREQUEST []\n");
	expect_field("Origin:a",
		     "HEAD GET / host=[a] origin=[a]\nREQUEST []\n");
}

static void a_field_may_be_empty(void **state)
{
	(void)state;
	expect_field("Origin:", "HEAD GET / host=[a] origin=[]\nREQUEST []\n");
	expect_field("Origin:  ",
		     "HEAD GET / host=[a] origin=[]\nREQUEST []\n");
}

static void a_value_may_hold_bytes_over_0x7f(void **state)
{
	(void)state;
	expect_field("Origin: \xc3\xa9\xff",
		     "HEAD GET / host=[a] origin=[\xc3\xa9\xff]\nREQUEST []\n");
}

static void the_lines_of_a_list_field_are_joined(void **state)
{
	(void)state;
	expect_field("Accept: a/b\r\nCookie: c=1\r\nConnection: x\r\n"
		     "accept:\r\nCookie: d=2\r\nAccept: c/d \r\nConnection: y",
		     "HEAD GET / accept=[a/b, c/d] connection=[x, y] "
		     "cookie=[c=1; d=2] host=[a]\nREQUEST []\n");
	expect_field("Accept:\r\nAccept: \r\nCookie:\r\nCookie: a",
		     "HEAD GET / accept=[] cookie=[a] host=[a]\nREQUEST []\n");
	expect_field("Access-Control-Request-Headers: a\r\n"
		     "Access-Control-Request-Headers: b",
		     "HEAD GET / access-control-request-headers=[a, b] "
		     "host=[a]\nREQUEST []\n");
	expect_field("Upgrade: a\r\nSec-WebSocket-Protocol: b\r\n"
		     "Sec-WebSocket-Protocol: c\r\nUpgrade: d",
		     "HEAD GET / host=[a] sec-websocket-protocol=[b, c] "
		     "upgrade=[a, d]\nREQUEST []\n");
}

static void any_other_field_of_interest_must_not_be_repeated(void **state)
{
	static const char *const single[] = {
		"Authorization",
		"Content-Type",
		"Idempotency-Key",
		"Last-Event-ID",
		"Origin",
		"Sec-WebSocket-Key",
		"Sec-WebSocket-Version",
		"Access-Control-Request-Method",
	};
	char lines[200];

	(void)state;
	for (size_t i = 0; i < sizeof single / sizeof single[0]; i++) {
		snprintf(lines, sizeof lines, "%s: a\r\nX: y\r\n%s: a",
			 single[i], single[i]);
		expect_field(lines, "BAD 400\n");
	}
	expect_field("Expect: 100-continue\r\nExpect: 100-continue",
		     "BAD 400\n");
}

static void fields_of_no_interest_may_be_repeated(void **state)
{
	(void)state;
	expect_field("X: a\r\nX: b", "HEAD GET / host=[a]\nREQUEST []\n");
}

static void a_malformed_field_line_is_refused(void **state)
{
	static const char *const lines[] = {
		"X : y",         " X: y",    "\tX: y",       "X",
		": y",           "X\t: y",   "X: a\r\n b",   "X: a\r\n\tb",
		"X:\r\n y",      "X: a\x01", "X: \x7f",      "X(: y",
		"X: a\rb",       "X: a\nb",  "X\xc3\xa9: y", "X: a\r\r",
		"Origin: a\x0b",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		expect_field(lines[i], "BAD 400\n");
	expect("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "BAD 400\n");
}

static void expect_is_100_continue_or_refused(void **state)
{
	(void)state;
	expect("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-CONTINUE\r\n"
	       "Content-Length: 1\r\n\r\nx",
	       "HEAD POST / expect=[100-CONTINUE] host=[a] length=1 continue\n"
	       "REQUEST [x]\n");
	expect("POST / HTTP/1.0\r\nExpect: 100-continue\r\n"
	       "Content-Length: 1\r\n\r\nx",
	       "HEAD POST / expect=[100-continue] 1.0 length=1 close\n"
	       "REQUEST [x]\n");
	expect_field("Expect: 200-ok", "BAD 417\n");
	expect_field("Expect: 100-continue, more", "BAD 417\n");
	expect_field("Expect:", "BAD 417\n");
}

/* --- keep-alive ------------------------------------------------------------
 */

static void connection_says_whether_another_request_may_follow(void **state)
{
	(void)state;
	expect_field("Connection: Close",
		     "HEAD GET / connection=[Close] host=[a] close\n"
		     "REQUEST []\n");
	expect_field("Connection: x,\tclose ,y",
		     "HEAD GET / connection=[x,\tclose ,y] host=[a] close\n"
		     "REQUEST []\n");
	expect_field("Connection: x\r\nConnection: close",
		     "HEAD GET / connection=[x, close] host=[a] close\n"
		     "REQUEST []\n");
	expect_field("Connection: closed",
		     "HEAD GET / connection=[closed] host=[a]\nREQUEST []\n");
	expect("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
	       "GET /2 HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
	       "HEAD GET /1 connection=[keep-alive] 1.0\nREQUEST []\n"
	       "HEAD GET /2 connection=[keep-alive, close] 1.0 close\n"
	       "REQUEST []\n");
}

static void bytes_behind_the_last_request_are_dropped(void **state)
{
	(void)state;
	expect("POST /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
	       "Content-Length: 2\r\n\r\nhi"
	       "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
	       "HEAD POST /1 connection=[close] host=[a] length=2 close\n"
	       "REQUEST [hi]\n");
	expect("GET /1 HTTP/1.0\r\n\r\n\x01 not HTTP",
	       "HEAD GET /1 1.0 close\nREQUEST []\n");
}

/* --- where the content ends ------------------------------------------------
 */

static void a_malformed_content_length_is_refused(void **state)
{
	static const char *const values[] = {
		"",
		"x",
		"-1",
		"+1",
		"1x",
		"0x1",
		"1 1",
		"1,1",
		"1, 1",
		"1\t1",
		"1.0",
		"1_0",
		" \t",
		"\"1\"",
		"1;2",
		"18446744073709551616",
		"99999999999999999999999999",
	};
	char line[100];

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		snprintf(line, sizeof line, "Content-Length: %s", values[i]);
		expect_field(line, "BAD 400\n");
	}
	expect_field("Content-Length : 1", "BAD 400\n");
	expect_field("Content-Length\t: 1", "BAD 400\n");
	expect_field("Content-Length: 1\r\nContent-Length: 1", "BAD 400\n");
	expect_field("Content-Length: 1\r\nContent-length: 2", "BAD 400\n");
}

/* RFC 9110 5.6.3. llhttp takes blanks alone. */
static void tabs_around_a_framing_value_are_space(void **state)
{
	(void)state;
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t2\t\r\n\r\nhi",
	       "HEAD POST / host=[a] length=2\nREQUEST [hi]\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2 \t "
	       "\t\r\n\r\nhi",
	       "HEAD POST / host=[a] length=2\nREQUEST [hi]\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\n"
	       "Transfer-Encoding:\tchunked\t\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	       "HEAD POST / host=[a] chunked\nREQUEST [hi]\n");
	expect("GET / HTTP/1.1\r\nHost:\ta\t\r\nOrigin:\tb\tc\t\r\n\r\n",
	       "HEAD GET / host=[a] origin=[b\tc]\nREQUEST []\n");
	expect_field("Content-Length: 1\t1", "BAD 400\n");
	expect_field("Content-Length\t: 1", "BAD 400\n");
	expect_field("Transfer-Encoding: chun\tked", "BAD 400\n");
	expect("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "BAD 400\n");
}

static void content_length_beside_transfer_encoding_is_refused(void **state)
{
	static const char *const codings[] = {
		"chunked", "gzip", "identity", "", "x, chunked", "chunked, x"};
	char lines[200];

	(void)state;
	for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++) {
		snprintf(lines, sizeof lines,
			 "Content-Length: 1\r\nTransfer-Encoding: %s",
			 codings[i]);
		expect_field(lines, "BAD 400\n");
	}
	expect_field("Transfer-Encoding: chunked\r\nContent-Length: 1",
		     "BAD 400\n");
	expect_field("Transfer-Encoding:\r\nContent-Length: 1", "BAD 400\n");
	expect_field("Content-Length: 0\r\nTransfer-Encoding: chunked",
		     "BAD 400\n");
}

static void transfer_encoding_in_http_1_0_is_refused(void **state)
{
	(void)state;
	expect("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "0\r\n\r\n",
	       "BAD 400\n");
}

static void transfer_codings_but_chunked_alone_are_refused(void **state)
{
	/* RFC 9112 6.3: where the content ends is not to be known. */
	static const char *const bad[] = {
		"gzip",
		"identity",
		"chunked, gzip",
		"chunked,chunked",
		"xchunked",
		"chunkedx",
		"chunked;q=1",
		"\"chunked\"",
		"chunked, identity",
		"",
		",",
		"chunked\r\nTransfer-Encoding: chunked",
		"chunked\r\nTransfer-Encoding: gzip",
	};
	static const char *const unknown[] = {
		"gzip, chunked",
		"gzip,, identity\t,\tchunked",
		"gzip\r\nTransfer-Encoding: chunked",
	};
	char line[100];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(line, sizeof line, "Transfer-Encoding: %s", bad[i]);
		expect_field(line, "BAD 400\n");
	}
	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
		snprintf(line, sizeof line, "Transfer-Encoding: %s",
			 unknown[i]);
		expect_field(line, "BAD 501\n");
	}
	expect_field("Transfer-Encoding: \x0b"
		     "chunked",
		     "BAD 400\n");
	expect_field("Transfer-Encoding : chunked", "BAD 400\n");
	expect_field("Transfer-Encoding:\r\n chunked", "BAD 400\n");
}

static void chunked_is_known_in_any_case(void **state)
{
	(void)state;
	expect("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED \r\n"
	       "\r\n1\r\nx\r\n0\r\n\r\n",
	       "HEAD POST / host=[a] chunked\nREQUEST [x]\n");
}

static void chunks_are_joined(void **state)
{
	(void)state;
	expect_chunked("0\r\n\r\n", "REQUEST []\n");
	expect_chunked("5\r\nhello\r\n000000B\r\n, new world\r\n000\r\n\r\n",
		       "REQUEST [hello, new world]\n");
	expect_chunked("a\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n",
		       "REQUEST [0123456789\r\n]\n");
}

static void chunk_extensions_are_dropped(void **state)
{
	(void)state;
	expect_chunked("5;a=b;c=\"d;\r\ne\"\r\nhello\r\n0\r\n\r\n",
		       "BAD 400\n");
	expect_chunked("5;a=b;c=\"d;e\"\r\nhello\r\n0;x\r\n\r\n",
		       "REQUEST [hello]\n");
}

static void malformed_chunks_are_refused(void **state)
{
	static const char *const bad[] = {
		"x\r\n",
		"\r\n",
		"5 \r\nhello\r\n0\r\n\r\n",
		" 5\r\nhello\r\n0\r\n\r\n",
		"-5\r\n",
		"+5\r\n",
		"0x5\r\n",
		"5\nhello\r\n0\r\n\r\n",
		"5\rhello\r\n0\r\n\r\n",
		"10000000000000000\r\n",
		"fffffffffffffffff\r\n",
		"5;\r\nhello\r\n0\r\n\r\n",
		"5;a\nhello\r\n0\r\n\r\n",
		"5; a\r\nhello\r\n0\r\n\r\n",
		"5;a=\"\r\nhello",
		";a\r\n",
	};
	static const char *const bad_ends[] = {
		"5\r\nhello!\r\n",
		"5\r\nhello\n0\r\n\r\n",
		"5\r\nhello\r0\r\n\r\n",
		"5\r\nhello0\r\n\r\n",
		"5\r\nhello\r\n0\r\n\n",
		"5\r\nhello\r\n0\n\r\n",
		"5\r\nhello\r\n0\r\n\rX",
		"5\r\nhello\r\n0\r\nA: b\r\n\rX",
		"5\r\nhello\r\n0\r\nA: b\n\r\n",
		"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
		"5\r\nhello\r\n0\r\n b\r\n\r\n",
		"5\r\nhello\r\n0\r\nA: \x01\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_chunked(bad[i], "BAD 400\n");
	for (size_t i = 0; i < sizeof bad_ends / sizeof bad_ends[0]; i++)
		expect_chunked(bad_ends[i], "BAD 400\n");
}

static void trailers_alter_nothing(void **state)
{
	(void)state;
	expect("POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
	       "Origin: o\r\n\r\n1\r\nx\r\n0\r\n"
	       "Host: evil\r\nAuthorization: Basic eDp5\r\nOrigin: evil\r\n"
	       "Connection: close, upgrade\r\nUpgrade: websocket\r\n"
	       "Accept: x\r\n\r\n"
	       "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
	       "HEAD POST /1 host=[a] origin=[o] chunked\nREQUEST [x]\n"
	       "HEAD GET /2 host=[b]\nREQUEST []\n");
}

static void the_request_is_the_same_before_and_after_its_trailers(void **state)
{
	static const char text[] = "POST /1?q HTTP/1.1\r\nHost: a\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n"
				   "1\r\nx\r\n0\r\nHost: evil\r\nAccept: y\r\n"
				   "Expect: 100-continue\r\n\r\n";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	struct http_request before;
	size_t used;

	(void)state;
	assert_int_equal(http_read(h, text, sizeof text - 1, &used), HTTP_HEAD);
	before = *http_request(h);
	assert_int_equal(
		http_read(h, text + used, sizeof text - 1 - used, &used),
		HTTP_REQUEST);
	before.content = http_request(h)->content;
	assert_memory_equal(&before, http_request(h), sizeof before);
	http_free(h);
}

static void trailers_may_be_many_and_long(void **state)
{
	struct buf b = {0};

	(void)state;
	add(&b, "POST /p HTTP/1.1\r\nHost: a\r\n"
		"Transfer-Encoding: chunked\r\n\r\n0\r\n");
	for (int i = 0; i < 2 * HTTP_FIELDS_MAX; i++)
		add(&b, "Origin: 0123456789012345678901234567890123456789\r\n");
	add(&b, "\r\n");
	expect_bytes(b.bytes, b.len,
		     "HEAD POST /p host=[a] chunked\nREQUEST []\n");
	buf_fini(&b);
}

static void framing_fields_in_trailers_are_refused(void **state)
{
	(void)state;
	expect_chunked("0\r\nContent-Length: 5\r\n\r\n", "BAD 400\n");
}

/* --- limits ----------------------------------------------------------------
 */

/* A head of `len` bytes, the target not counted. */
static void make_head(struct buf *b, size_t len)
{
	static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\nX: ";

	len++; /* the target */

	assert_int_equal(buf_append(b, start, sizeof start - 1), 0);
	add_run(b, 'x', len - (sizeof start - 1) - 4);
	assert_int_equal(buf_append(b, "\r\n\r\n", 4), 0);
}

static void a_head_over_its_limit_is_refused_with_431(void **state)
{
	struct buf b = {0};

	(void)state;
	make_head(&b, HTTP_HEAD_MAX_BYTES);
	make_head(&b, HTTP_HEAD_MAX_BYTES);
	make_head(&b, HTTP_HEAD_MAX_BYTES + 1);
	expect_bytes(b.bytes, b.len,
		     "HEAD GET / host=[a]\nREQUEST []\n"
		     "HEAD GET / host=[a]\nREQUEST []\nBAD 431\n");
	buf_fini(&b);
}

/* What the server gives out, it takes back: beside a target and fields of the
 * greatest length. */
static void an_id_of_ours_does_not_count_as_head(void **state)
{
	static const char start[] = "\r\nConnection: keep-alive\r\n"
				    "Last-Event-ID:";
	static const size_t over[] = {0, 1};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct buf b = {0};
		struct buf expected = {0};
		size_t counted = strlen("GET ") + strlen(" HTTP/1.0") +
				 strlen(start) + strlen("\r\nX:") +
				 strlen("\r\n\r\n");

		add(&b, "GET /");
		add_run(&b, 'x', HTTP_TARGET_MAX_BYTES - 1);
		add(&b, " HTTP/1.0");
		add(&b, start);
		add_run(&b, '7', HTTP_EVENT_ID_MAX_BYTES);
		add(&b, "\r\nX:");
		add_run(&b, 'x', HTTP_HEAD_MAX_BYTES - counted + over[i]);
		add(&b, "\r\n\r\n");
		add(&expected, "HEAD GET /");
		add_run(&expected, 'x', HTTP_TARGET_MAX_BYTES - 1);
		add(&expected, " connection=[keep-alive] last-event-id=[");
		add_run(&expected, '7', HTTP_EVENT_ID_MAX_BYTES);
		add(&expected, "] 1.0\nREQUEST []\n");
		add_run(&expected, '\0', 1);
		expect_bytes(b.bytes, b.len,
			     over[i] == 0 ? expected.bytes : "BAD 431\n");
		buf_fini(&b);
		buf_fini(&expected);
	}
}

/* Reads `text`, behind a request that was complete. */
static void expect_origin_so_far(const char *text, const char *expected)
{
	static const char before[] =
		"GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://before\r\n\r\n";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	assert_non_null(h);
	assert_int_equal(http_read(h, before, sizeof before - 1, &used),
			 HTTP_HEAD);
	assert_int_equal(http_read(h, "", 0, &used), HTTP_REQUEST);
	http_read(h, text, strlen(text), &used);
	struct span origin = http_origin_so_far(h);
	assert_int_equal(origin.len, strlen(expected));
	assert_memory_equal(origin.len == 0 ? "" : origin.bytes, expected,
			    origin.len);
	http_free(h);
}

static void an_origin_is_known_once_its_line_is_complete(void **state)
{
#define START "GET / HTTP/1.1\r\nHost: a\r\n"
	(void)state;
	expect_origin_so_far(START "Origin: http://a\r\nX: ", "http://a");
	expect_origin_so_far(START "Origin: http://a\r\nNo field\r\n",
			     "http://a");
	expect_origin_so_far(START "Origin: http://a", "");
	expect_origin_so_far(START "Origin: b\r\nOrigin: b\r\n\r\n", "");
	expect_origin_so_far(START "X: y\r\n", "");
	expect_origin_so_far("\r\n\r\n\r\n\r\n\r\n\r\n", "");
	expect_origin_so_far("\r\n", "");
#undef START
}

static void a_longer_id_counts_as_head(void **state)
{
	struct buf b = {0};

	(void)state;
	add(&b, "GET / HTTP/1.0\r\nLast-Event-ID:");
	add_run(&b, '7', HTTP_EVENT_ID_MAX_BYTES + HTTP_HEAD_MAX_BYTES);
	expect_bytes(b.bytes, b.len, "BAD 431\n");
	buf_fini(&b);
}

static void the_limit_of_a_head_counts_neither_content_nor_empty_lines(
	void **state)
{
	struct buf b = {0};
	struct buf expected = {0};

	(void)state;
	add(&b, "POST / HTTP/1.0\r\nContent-Length: 1000\r\n"
		"Connection: keep-alive\r\n\r\n");
	add_run(&b, 'x', 1000);
	add(&b, "\r\n\r\n\r\n");
	make_head(&b, HTTP_HEAD_MAX_BYTES);
	add(&expected, "HEAD POST / connection=[keep-alive] 1.0 length=1000\n"
		       "REQUEST [");
	add_run(&expected, 'x', 1000);
	add(&expected, "]\nHEAD GET / host=[a]\nREQUEST []\n");
	add_run(&expected, '\0', 1);
	expect_bytes(b.bytes, b.len, expected.bytes);
	buf_fini(&b);
	buf_fini(&expected);
}

static void a_target_over_its_limit_is_refused_with_414(void **state)
{
	struct buf b = {0};
	struct buf expected = {0};

	(void)state;
	add(&b, "GET /");
	add_run(&b, 'x', HTTP_TARGET_MAX_BYTES - 1);
	add(&b, " HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /");
	add_run(&b, 'x', HTTP_TARGET_MAX_BYTES);
	add(&b, "\x01 HTTP/1.0\r\n\r\n");
	add(&expected, "HEAD GET /");
	add_run(&expected, 'x', HTTP_TARGET_MAX_BYTES - 1);
	add(&expected, " connection=[keep-alive] 1.0\nREQUEST []\nBAD 414\n");
	add_run(&expected, '\0', 1);
	expect_bytes(b.bytes, b.len, expected.bytes);
	buf_fini(&b);
	buf_fini(&expected);
}

static void field_lines_over_their_limit_are_refused_with_431(void **state)
{
	struct buf b = {0};

	(void)state;
	for (int request = 0; request < 3; request++) {
		int lines = HTTP_FIELDS_MAX + (request == 2);

		add(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
		for (int i = 1; i < lines; i++)
			add(&b, "X: y\r\n");
		add(&b, "\r\n");
	}
	expect_bytes(b.bytes, b.len,
		     "HEAD GET / host=[a]\nREQUEST []\n"
		     "HEAD GET / host=[a]\nREQUEST []\nBAD 431\n");
	buf_fini(&b);
}

static void list_lines_up_to_the_limit_are_joined(void **state)
{
	struct buf b = {0};
	struct buf expected = {0};

	(void)state;
	add(&b, "GET / HTTP/1.0\r\n");
	for (int i = 0; i < HTTP_FIELDS_MAX / 2; i++)
		add(&b, "Cookie: a=0123456789\r\nAccept: b/c\r\n");
	add(&b, "\r\n");
	add(&expected, "HEAD GET / accept=[b/c");
	for (int i = 1; i < HTTP_FIELDS_MAX / 2; i++)
		add(&expected, ", b/c");
	add(&expected, "] cookie=[a=0123456789");
	for (int i = 1; i < HTTP_FIELDS_MAX / 2; i++)
		add(&expected, "; a=0123456789");
	add(&expected, "] 1.0 close\nREQUEST []\n");
	add_run(&expected, '\0', 1);
	expect_bytes(b.bytes, b.len, expected.bytes);
	buf_fini(&b);
	buf_fini(&expected);
}

static void content_announced_over_the_limit_is_refused_at_the_head(
	void **state)
{
	(void)state;
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n",
	       "BAD 413\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\n"
	       "Content-Length: 18446744073709551615\r\n\r\n",
	       "BAD 413\n");
	expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
	       "HEAD POST / host=[a] length=1000\n");
}

static void chunks_over_the_limit_are_refused_at_their_size(void **state)
{
	(void)state;
	expect_chunked("3e9\r\n", "BAD 413\n");
	expect_chunked("ffffffffffffffff\r\n", "BAD 413\n");
	expect_chunked("3e8\r\n", "");
	expect_chunked("5\r\nhello\r\n3e4\r\n", "BAD 413\n");
	expect_chunked("5\r\nhello\r\n3e3\r\n", "");
	expect_chunked("5\r\nhello\r\nffffffffffffffff\r\n", "BAD 413\n");
}

static void the_limit_of_content_is_that_of_one_request(void **state)
{
	static const char chunked[] = "POST / HTTP/1.1\r\nHost: a\r\n"
				      "Transfer-Encoding: chunked\r\n\r\n"
				      "3e8\r\n";
	struct buf b = {0};
	struct buf expected = {0};

	(void)state;
	for (int i = 0; i < 2; i++) {
		add(&b, chunked);
		add_run(&b, 'x', 1000);
		add(&b, "\r\n0\r\n\r\n");
		add(&expected, "HEAD POST / host=[a] chunked\nREQUEST [");
		add_run(&expected, 'x', 1000);
		add(&expected, "]\n");
	}
	add_run(&expected, '\0', 1);
	expect_bytes(b.bytes, b.len, expected.bytes);
	buf_fini(&b);
	buf_fini(&expected);
}

/* What comes between head and content: chunk extension, digits or trailer. */
static void expect_framing(const char *before, char c, size_t count,
			   const char *after, const char *expected)
{
	struct buf b = {0};

	add(&b, "POST /p HTTP/1.1\r\nHost: a\r\n"
		"Transfer-Encoding: chunked\r\n\r\n");
	add(&b, before);
	add_run(&b, c, count);
	add(&b, after);
	expect_bytes(b.bytes, b.len, expected);
	buf_fini(&b);
}

static void extensions_and_trailers_over_their_limit_are_refused_with_413(
	void **state)
{
	static const char refused[] =
		"HEAD POST /p host=[a] chunked\nBAD 413\n";
	static const char read[] =
		"HEAD POST /p host=[a] chunked\nREQUEST [x]\n";

	(void)state;
	expect_framing("1;", 'a', HTTP_CHUNK_MAX_BYTES, "\r\nx\r\n0\r\n\r\n",
		       refused);
	expect_framing("1;", 'a', HTTP_CHUNK_MAX_BYTES - 100,
		       "\r\nx\r\n0\r\n\r\n", read);
	expect_framing("1\r\nx\r\n0\r\nA: ", 'a', HTTP_CHUNK_MAX_BYTES + 40,
		       "\r\n\r\n", refused);
	expect_framing("1\r\nx\r\n0\r\nA: ", 'a', HTTP_CHUNK_MAX_BYTES - 100,
		       "\r\n\r\n", read);
	expect_framing("", '0', HTTP_CHUNK_MAX_BYTES + 40,
		       "1\r\nx\r\n0\r\n\r\n", refused);
}

static void chunks_of_one_byte_are_within_the_limits(void **state)
{
	struct buf b = {0};
	struct buf expected = {0};

	(void)state;
	add(&b, "POST /p HTTP/1.1\r\nHost: a\r\n"
		"Transfer-Encoding: chunked\r\n\r\n");
	add(&expected, "HEAD POST /p host=[a] chunked\nREQUEST [");
	for (int i = 0; i < CONTENT_MAX_BYTES; i++) {
		add(&b, "0000000000000001\r\nx\r\n");
		add(&expected, "x");
	}
	add(&b, "0\r\n\r\n");
	add(&expected, "]\n");
	add_run(&expected, '\0', 1);
	expect_bytes(b.bytes, b.len, expected.bytes);
	buf_fini(&b);
	buf_fini(&expected);
}

/* --- memory ------------------------------------------------------------- */

/* Reads a request while the nth allocation fails. Returns its status if it is
 * bad, else 0. */
static int read_without_memory(unsigned nth, enum cut cut, bool *failed)
{
	static const char text[] =
		"POST /a-path-that-is-longer-than-the-least-buffer-there-is-of-"
		"64 HTTP/1.1\r\nHost: a\r\nAccept: b/c\r\n"
		"Cookie: "
		"a-cookie-that-is-longer-than-the-rest-of-the-buffer\r\n"
		"Accept: d/e\r\nTransfer-Encoding: chunked\r\n\r\n"
		"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n";
	struct http *h = http_new(CONTENT_MAX_BYTES);
	enum http_event event = HTTP_MORE;
	int status;

	assert_non_null(h);
	oom_fail_at(nth);
	for (size_t at = 0, used; at < sizeof text - 1; at += used) {
		event = http_read(h, text + at,
				  piece_len(cut, sizeof text - 1 - at), &used);
		if (event == HTTP_BAD)
			break;
	}
	*failed = oom_end();
	assert_true(event == HTTP_BAD || event == HTTP_REQUEST);
	status = http_status(h);
	http_free(h);
	return status;
}

static void a_request_that_finds_no_memory_is_refused_with_500(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	for (enum cut cut = WHOLE; cut <= BYTES; cut++) {
		bool failed = true;
		unsigned nth;

		for (nth = 1; failed; nth++) {
			int status = read_without_memory(nth, cut, &failed);

			assert_int_equal(status, failed ? 500 : 0);
		}
		assert_in_range(nth, 4, 20);
	}
}

static void without_memory_there_is_no_reader(void **state)
{
	struct http *h;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	h = http_new(CONTENT_MAX_BYTES);
	assert_true(oom_end());
	assert_null(h);
}

static void a_response_that_finds_no_memory_changes_nothing(void **state)
{
	const struct http_response r = {.status = 200};
	struct buf out = {0};
	int rv;

	(void)state;
	OOM_OR_SKIP();
	add(&out, "before");
	oom_fail_at(1);
	rv = http_write_response(&out, &r);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_int_equal(out.len, 6);
	buf_fini(&out);
}

static void credentials_that_find_no_memory_are_enomem(void **state)
{
	struct buf memory = {0};
	struct span u;
	struct span p;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	rv = http_basic_credentials(SPAN("Basic YTpi"), &memory, &u, &p);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
}

/* --- field values ----------------------------------------------------------
 */

static void a_list_has_a_token_in_any_case_and_place(void **state)
{
	(void)state;
	assert_true(http_list_has(SPAN("close"), SPAN("close")));
	assert_true(http_list_has(SPAN("a, CLOSE ,b"), SPAN("close")));
	assert_true(http_list_has(SPAN(",, \tclose"), SPAN("close")));
	assert_true(
		http_list_has(SPAN("a=\"b,c\\\",\", close"), SPAN("close")));
	assert_false(
		http_list_has(SPAN("closed, clos, a close"), SPAN("close")));
	assert_false(http_list_has(SPAN("a=\", close,\""), SPAN("close")));
	assert_false(http_list_has(SPAN("a=\", close"), SPAN("close")));
	assert_false(http_list_has(SPAN("a=\"\\"), SPAN("close")));
	assert_false(http_list_has(SPAN(""), SPAN("close")));
	assert_false(http_list_has((struct span){NULL, 0}, SPAN("close")));
}

static void a_list_has_a_token_exactly_only_in_its_case(void **state)
{
	(void)state;
	assert_true(http_list_has_exactly(SPAN("a.v10, a.v1"), SPAN("a.v1")));
	assert_false(http_list_has_exactly(SPAN("A.V1"), SPAN("a.v1")));
	assert_false(http_list_has_exactly(SPAN("a.v10, a"), SPAN("a.v1")));
	assert_false(
		http_list_has_exactly((struct span){NULL, 0}, SPAN("a.v1")));
}

static void expect_prefixed(const char *list, const char *prefix,
			    const char *expected)
{
	struct span found =
		http_list_find_prefix(span_of(list), span_of(prefix));

	if (expected == NULL)
		assert_null(found.bytes);
	else
		assert_true(span_equal(found, span_of(expected)));
}

static void the_first_element_with_a_prefix_is_found_whole(void **state)
{
	(void)state;
	expect_prefixed("isimud.v1, bearer.a, bearer.b", "bearer.", "bearer.a");
	expect_prefixed("xbearer.a,\t bearer.b \t", "bearer.", "bearer.b");
	expect_prefixed("Bearer.a, bearer., bearer.b", "bearer.", "bearer.");
	expect_prefixed("\"bearer.a, bearer.b", "bearer.", NULL);
	expect_prefixed("\"\\\", bearer.a\", bearer.b", "bearer.", "bearer.b");
	expect_prefixed("bearer, bear", "bearer.", NULL);
	expect_prefixed(", ,", "bearer.", NULL);
	expect_prefixed("", "bearer.", NULL);
	expect_prefixed(NULL, "bearer.", NULL);
}

static void a_coding_is_accepted_by_its_name_or_by_any(void **state)
{
	static const char *const yes[] = {
		"gzip",      "br, GZIP",   "deflate, gzip;q=0.1", "*",
		"br;q=0, *", "gzip ; q=1", "*;q=0, gzip"};
	static const char *const no[] = {
		NULL,       "",           "br",          "gzip;q=0",
		"gzip2",    "x-gzip",     "*, gzip;q=0", "*;q=0",
		"gzip;q=x", "gzip;q=0.0", "identity;q=1"};

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		assert_true(http_accepts_coding(span_of(yes[i]), SPAN("gzip")));
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		assert_false(http_accepts_coding(span_of(no[i]), SPAN("gzip")));
}

static void an_entity_tag_is_found_in_a_list(void **state)
{
	static const char *const yes[] = {"\"a\"", "W/\"a\"", "\"b\" , \"a\"",
					  "*", "\"b\", W/\"a\""};
	static const char *const no[] = {NULL,      "",       "a",
					 "\"A\"",   "\"a\"b", "\"a, \"b\"",
					 "w/\"a\"", "\"*\""};

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		assert_true(
			http_has_entity_tag(span_of(yes[i]), SPAN("\"a\"")));
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		assert_false(
			http_has_entity_tag(span_of(no[i]), SPAN("\"a\"")));
}

static void expect_quality(const char *accept, unsigned expected)
{
	assert_int_equal(http_accept_quality(span_of(accept), SPAN("text/csv")),
			 expected);
}

static void a_type_has_the_quality_of_its_range(void **state)
{
	(void)state;
	expect_quality("text/csv", 1000);
	expect_quality("TEXT/Csv;Q=0.5", 500);
	expect_quality("text/html, text/csv;q=0.123", 123);
	expect_quality("text/html;q=0.3 , text/*;q=0.2", 200);
	expect_quality("text/html,*/*;q=0.1", 100);
	expect_quality("text/csv \t;\t ;; q=0.7 ; ,", 700);
	expect_quality("text/csv;q=0", 0);
	expect_quality("text/csv;q=0.000", 0);
	expect_quality("text/csv;q=1.000", 1000);
	expect_quality("text/csv;q=1.", 1000);
}

static void a_type_that_no_range_matches_has_quality_0(void **state)
{
	static const char *const others[] = {
		"text/html", "text/cs",      "text/csvs",
		"text",      "text/",        "tex/*",
		"texts/*",   "text/**",      "text/c*",
		"*",         "*/csv",        "*/**",
		"text /csv", "\"text/csv\"", ",",
		";q=1",      "textx*/*",     "\"a, text/csv,",
		"*;q=1",     "text/csv q=1", "text*csv/*",
	};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		expect_quality(others[i], 0);
}

static void the_most_specific_range_counts(void **state)
{
	(void)state;
	expect_quality("*/*, text/*;q=0.5, text/csv;q=0.1", 100);
	expect_quality("text/csv;q=0.1, text/*;q=0.5, */*", 100);
	expect_quality("text/csv;q=0, */*", 0);
	expect_quality("*/*;q=0.9, text/*;q=0.4", 400);
	expect_quality("text/*;q=0, */*", 0);
}

static void of_equally_specific_ranges_the_highest_counts(void **state)
{
	(void)state;
	expect_quality("text/csv;q=0.2, text/csv;q=0.8, text/csv;q=0.4", 800);
	expect_quality("*/*;q=0.2, */*;q=0.8", 800);
}

static void a_range_with_parameters_does_not_match(void **state)
{
	(void)state;
	expect_quality("text/csv;header=present", 0);
	expect_quality("text/csv;header=present;q=0.5, text/*;q=0.2", 200);
	expect_quality("text/csv;q=0.5;header=present", 0);
	expect_quality("text/csv;h=\"a;q=1, text/csv\", */*;q=0.3", 300);
	expect_quality("text/csv;q =0.5", 0);
	expect_quality("text/csv;q", 0);
}

static void a_malformed_weight_is_0(void **state)
{
	static const char *const weights[] = {
		"",     "a",   "2",      "1.001",  "0.1234", "10",   "-1",
		"+1",   "0,5", "0.5.5",  "0.-1",   "00.5",   "0. 5", "1e0",
		"\xff", "..5", "0.0000", "1.0000", "0x1",    "01",
	};
	char accept[40];

	(void)state;
	for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
		snprintf(accept, sizeof accept, "text/csv;q=%s, */*;q=0.5",
			 weights[i]);
		expect_quality(accept, 0);
	}
}

static void the_accept_of_old_java_is_understood(void **state)
{
	(void)state;
	expect_quality("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
		       200);
}

static void without_accept_every_type_has_quality_1000(void **state)
{
	(void)state;
	expect_quality(NULL, 1000);
	expect_quality("", 1000);
}

static void a_type_is_accepted_explicitly_only_by_its_name(void **state)
{
	static const char *const yes[] = {"text/csv", "*/*, TEXT/CSV;q=0.001",
					  "text/csv;q=0, text/csv;q=0.1"};
	static const char *const no[] = {NULL,
					 "",
					 "*/*",
					 "text/*",
					 "text/csv;q=0, */*",
					 "text/csv;a=b",
					 "text/html"};

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		assert_true(http_accepts_explicitly(span_of(yes[i]),
						    SPAN("text/csv")));
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		assert_false(http_accepts_explicitly(span_of(no[i]),
						     SPAN("text/csv")));
}

static void a_coding_is_used_where_it_is_wanted_as_much_as_none(void **state)
{
	static const char *const yes[] = {"gzip",
					  "GZip",
					  "gzip, deflate, br, zstd",
					  "br;q=1.0, gzip;q=0.8",
					  "deflate , gzip ;q=0.001",
					  "*",
					  "*;q=0.5",
					  "br, *;q=0.1",
					  "identity;q=0, *",
					  "identity;q=0.5, gzip;q=0.5",
					  "gzip;q=0.2;q=0.9",
					  "gzip;q=0, gzip",
					  "identity;q=0, gzip;q=.2",
					  ", gzip,"};
	static const char *const no[] = {"",
					 "identity",
					 "deflate, br",
					 "gzip;q=0",
					 "gzip;q=0.000",
					 "gzip;q=2",
					 "gzip;q=x",
					 "*;q=0",
					 "gzip;q=0, *",
					 "*, gzip;q=0",
					 "identity, gzip;q=0.5",
					 "identity;q=0.6, *;q=0.5",
					 "xgzip",
					 "gzip2, gzi",
					 "gzip/1"};

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
		assert_true(http_accepts_coding(span_of(yes[i]), SPAN("gzip")));
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
		assert_false(http_accepts_coding(span_of(no[i]), SPAN("gzip")));
	assert_false(http_accepts_coding((struct span){0}, SPAN("gzip")));
}

static void a_media_type_may_have_parameters(void **state)
{
	const struct span json = SPAN("application/json");

	(void)state;
	assert_true(http_is_media_type(SPAN("application/json"), json));
	assert_true(http_is_media_type(SPAN("Application/JSON;a=b"), json));
	assert_true(http_is_media_type(SPAN("application/json ; charset=utf-8"),
				       json));
	assert_false(http_is_media_type(SPAN("application/jsonp"), json));
	assert_false(http_is_media_type(SPAN("application/json, x"), json));
	assert_false(
		http_is_media_type(SPAN("text/plain;application/json"), json));
	assert_false(http_is_media_type(SPAN(""), json));
	assert_false(http_is_media_type((struct span){NULL, 0}, json));
}

static void expect_basic(const char *value, const char *username,
			 const char *password)
{
	struct buf memory = {0};
	struct span u;
	struct span p;

	assert_int_equal(
		http_basic_credentials(span_of(value), &memory, &u, &p), 0);
	assert_true(span_equal(u, span_of(username)));
	assert_true(span_equal(p, span_of(password)));
	buf_fini(&memory);
}

static void basic_credentials_are_divided_at_the_first_colon(void **state)
{
	(void)state;
	expect_basic("Basic YWxpY2U6c2VjcmV0", "alice", "secret");
	expect_basic("bASIC   YWxpY2U6c2VjcmV0", "alice", "secret");
	expect_basic("Basic YTpiOmM=", "a", "b:c");
	expect_basic("Basic Og==", "", "");
	expect_basic("Basic OnA=", "", "p");
	expect_basic("Basic w6k6YQ==", "\xc3\xa9", "a");
}

static void malformed_basic_credentials_are_invalid(void **state)
{
	static const char *const bad[] = {
		NULL,          "",
		"Basic",       "Basic ",
		"BasicYTpi",   "Basic\tYTpi",
		"Bearer YTpi", "Basic YTp",
		"Basic YTpi=", "Basic YTpi YTpi",
		"Basic YTpi,", "Basic YT*i",
		"Basic YWI=", /* no colon */
	};
	struct buf memory = {0};
	struct span u;
	struct span p;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(http_basic_credentials(span_of(bad[i]),
							&memory, &u, &p),
				 UV_EINVAL);
	buf_fini(&memory);
}

static void the_memory_of_credentials_may_be_used_again(void **state)
{
	struct buf memory = {0};
	struct span u;
	struct span p;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
			http_basic_credentials(SPAN("Basic YWxpY2U6c2VjcmV0"),
					       &memory, &u, &p),
			0);
		assert_true(span_equal(u, SPAN("alice")));
		assert_int_equal(memory.len, 12);
	}
	buf_fini(&memory);
}

static void a_bearer_token_is_token68(void **state)
{
	(void)state;
	assert_true(span_equal(http_bearer_token(SPAN("Bearer aZ09-._~+/==")),
			       SPAN("aZ09-._~+/==")));
	assert_true(
		span_equal(http_bearer_token(SPAN("bEARER  x")), SPAN("x")));
}

static void a_malformed_bearer_token_is_absent(void **state)
{
	static const char nul[] = "Bearer a\0b";
	static const char *const bad[] = {
		NULL,         "",           "Bearer",     "Bearer ",
		"Bearer =",   "Bearer a b", "Bearer a=b", "Bearer a,b",
		"Bearer a\r", "Basic abc",  "Bearerabc",  "Bearer \xc3\xa9",
		"Bearer a ",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_null(http_bearer_token(span_of(bad[i])).bytes);
	assert_null(
		http_bearer_token((struct span){nul, sizeof nul - 1}).bytes);
}

static void a_bearer_token_over_its_limit_is_absent(void **state)
{
	struct buf b = {0};

	(void)state;
	add(&b, "Bearer ");
	add_run(&b, 'x', HTTP_BEARER_MAX_BYTES);
	assert_int_equal(http_bearer_token((struct span){b.bytes, b.len}).len,
			 HTTP_BEARER_MAX_BYTES);
	add(&b, "x");
	assert_null(http_bearer_token((struct span){b.bytes, b.len}).bytes);
	buf_fini(&b);
}

static void a_token_is_what_bearer_credentials_may_hold(void **state)
{
	static const char *const bad[] = {NULL,  "",   "=",  "a b",     "a=b",
					  "a,b", " a", "a ", "\xc3\xa9"};
	struct buf b = {0};

	(void)state;
	assert_true(http_is_token(SPAN("aZ09-._~+/==")));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(http_is_token(span_of(bad[i])));
	assert_false(http_is_token(SPAN("a\0b")));
	add_run(&b, 'x', HTTP_BEARER_MAX_BYTES);
	assert_true(http_is_token((struct span){b.bytes, b.len}));
	add(&b, "x");
	assert_false(http_is_token((struct span){b.bytes, b.len}));
	buf_fini(&b);
}

/* --- responses -------------------------------------------------------------
 */

static void expect_response(const struct http_response *r, const char *expected)
{
	struct buf out = {0};

	add(&out, "before|");
	assert_int_equal(http_write_response(&out, r), 0);
	add_run(&out, '\0', 1);
	assert_int_equal(strncmp(out.bytes, "before|", 7), 0);
	assert_string_equal(out.bytes + 7, expected);
	buf_fini(&out);
}

static void a_response_has_its_fields_and_content(void **state)
{
	const struct http_response r = {
		.status = 401,
		.content_type = "application/json",
		.content = SPAN("{\"error\":1}"),
		.fields = "A: b\r\nC: d\r\n",
		.close = true,
		.date = "Sun, 06 Nov 1994 08:49:37 GMT",
	};

	(void)state;
	expect_response(&r, "HTTP/1.1 401 Unauthorized\r\n"
			    "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
			    "Content-Type: application/json\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Content-Length: 11\r\n"
			    "A: b\r\nC: d\r\n"
			    "Connection: close\r\n\r\n{\"error\":1}");
}

static void a_response_without_a_type_has_no_content(void **state)
{
	const struct http_response r = {.status = 303, .content = SPAN("x")};

	(void)state;
	expect_response(&r, "HTTP/1.1 303 See Other\r\n"
			    "Content-Length: 0\r\n\r\n");
}

static void a_response_to_head_has_the_length_without_the_content(void **state)
{
	const struct http_response r = {
		.status = 200,
		.content_type = "text/plain",
		.content = SPAN("0123456789"),
		.is_head = true,
	};

	(void)state;
	expect_response(&r, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Content-Length: 10\r\n\r\n");
}

static void a_stream_has_no_length_and_ends_with_the_connection(void **state)
{
	struct http_response r = {
		.status = 200,
		.content_type = "text/event-stream",
		.content = SPAN(":\n\n"),
		.keep_alive = true,
		.is_stream = true,
	};

	(void)state;
	expect_response(&r, "HTTP/1.1 200 OK\r\n"
			    "Content-Type: text/event-stream\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Connection: close\r\n\r\n:\n\n");
	r.is_head = true;
	expect_response(&r, "HTTP/1.1 200 OK\r\n"
			    "Content-Type: text/event-stream\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Connection: close\r\n\r\n");
}

static void a_stream_may_be_in_chunks(void **state)
{
	struct http_response r = {
		.status = 200,
		.content_type = "text/event-stream",
		.content = SPAN("0123456789abcdef:\n"),
		.is_stream = true,
		.is_chunked = true,
	};

	(void)state;
	expect_response(&r, "HTTP/1.1 200 OK\r\n"
			    "Content-Type: text/event-stream\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Transfer-Encoding: chunked\r\n"
			    "Connection: close\r\n\r\n"
			    "12\r\n0123456789abcdef:\n\r\n");
	/* A chunk without data would be the last. */
	r.content = SPAN("");
	expect_response(&r, "HTTP/1.1 200 OK\r\n"
			    "Content-Type: text/event-stream\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Transfer-Encoding: chunked\r\n"
			    "Connection: close\r\n\r\n");
	r.content = SPAN("x");
	r.is_head = true;
	expect_response(&r, "HTTP/1.1 200 OK\r\n"
			    "Content-Type: text/event-stream\r\n"
			    "X-Content-Type-Options: nosniff\r\n"
			    "Transfer-Encoding: chunked\r\n"
			    "Connection: close\r\n\r\n");
}

static void a_chunk_starts_with_its_size(void **state)
{
	static const struct {
		size_t len;
		const char *start;
	} cases[] = {
		{1, "1\r\n"},
		{15, "f\r\n"},
		{16, "10\r\n"},
		{255, "ff\r\n"},
		{0x1a2b3c, "1a2b3c\r\n"},
		{UINT32_MAX, "ffffffff\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char room[HTTP_CHUNK_START_MAX + 1] = {0};
		char *end = room + HTTP_CHUNK_START_MAX;
		size_t len = http_write_chunk_start(end, cases[i].len);
		assert_string_equal(end - len, cases[i].start);
	}
}

static void more_fields_follow_the_fields(void **state)
{
	struct http_response r = {
		.status = 204,
		.fields = "A: b\r\n",
		.more_fields = "C: d\r\nE: f\r\n",
		.keep_alive = true,
	};

	(void)state;
	expect_response(&r, "HTTP/1.1 204 No Content\r\n"
			    "A: b\r\nC: d\r\nE: f\r\n"
			    "Connection: keep-alive\r\n\r\n");
	r.fields = NULL;
	expect_response(&r, "HTTP/1.1 204 No Content\r\n"
			    "C: d\r\nE: f\r\n"
			    "Connection: keep-alive\r\n\r\n");
}

static void statuses_1xx_204_and_304_have_no_content_length(void **state)
{
	const struct http_response switching = {
		.status = 101,
		.fields = "Upgrade: websocket\r\n",
	};
	struct http_response none = {
		.status = 204,
		.content_type = "text/plain",
		.content = SPAN("x"),
	};

	(void)state;
	expect_response(&switching, "HTTP/1.1 101 Switching Protocols\r\n"
				    "Upgrade: websocket\r\n\r\n");
	expect_response(&none, "HTTP/1.1 204 No Content\r\n\r\n");
	none.status = 304;
	expect_response(&none, "HTTP/1.1 304 Not Modified\r\n\r\n");
}

static void a_response_of_any_size_is_written_whole(void **state)
{
	struct buf content = {0};
	struct buf fields = {0};
	struct buf out = {0};
	struct http_response r = {.status = 431, .content_type = "text/plain"};

	(void)state;
	add(&fields, "A: ");
	add_run(&fields, 'y', 100000);
	add(&fields, "\r\n");
	add_run(&fields, '\0', 1);
	r.fields = fields.bytes;
	r.more_fields = fields.bytes;
	add_run(&content, 'x', 100000);
	r.content = (struct span){content.bytes, content.len};
	assert_int_equal(http_write_response(&out, &r), 0);
	assert_true(out.len > content.len + 2 * (fields.len - 1));
	assert_memory_equal(out.bytes + out.len - content.len, content.bytes,
			    content.len);
	add_run(&out, '\0', 1);
	assert_non_null(strstr(out.bytes, "Content-Length: 100000\r\n"));
	buf_fini(&content);
	buf_fini(&fields);
	buf_fini(&out);
}

static void every_status_that_reading_gives_has_a_phrase(void **state)
{
	static const int statuses[] = {400, 408, 413, 414, 417,
				       431, 500, 501, 505};

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
		assert_non_null(http_reason_phrase(statuses[i]));
	assert_null(http_reason_phrase(299));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_request_that_finds_no_memory_is_refused_with_500),
		cmocka_unit_test(without_memory_there_is_no_reader),
		cmocka_unit_test(
			a_response_that_finds_no_memory_changes_nothing),
		cmocka_unit_test(credentials_that_find_no_memory_are_enomem),
		cmocka_unit_test(
			a_request_without_content_is_a_head_and_a_request),
		cmocka_unit_test(content_of_an_announced_length_is_read),
		cmocka_unit_test(content_may_hold_any_byte),
		cmocka_unit_test(content_that_comes_whole_is_not_copied),
		cmocka_unit_test(the_head_is_told_before_its_content_is_read),
		cmocka_unit_test(
			a_request_ends_without_any_byte_behind_its_head),
		cmocka_unit_test(pipelined_requests_come_one_after_the_other),
		cmocka_unit_test(a_request_knows_nothing_of_the_one_before),
		cmocka_unit_test(nothing_is_read_behind_a_request),
		cmocka_unit_test(an_upgrade_not_taken_is_an_ordinary_request),
		cmocka_unit_test(
			empty_lines_before_a_request_are_skipped_up_to_four),
		cmocka_unit_test(
			being_in_a_request_lasts_from_its_first_byte_to_its_last),
		cmocka_unit_test(discarded_content_is_counted_but_not_kept),
		cmocka_unit_test(after_a_reset_a_new_request_is_read),
		cmocka_unit_test(a_bad_request_stays_bad),
		cmocka_unit_test(freeing_nothing_is_fine),
		cmocka_unit_test(only_versions_1_0_and_1_1_are_read),
		cmocka_unit_test(other_protocols_of_llhttp_are_refused),
		cmocka_unit_test(a_malformed_request_line_is_refused),
		cmocka_unit_test(a_line_ends_in_cr_lf_and_nothing_else),
		cmocka_unit_test(a_head_ends_in_cr_lf_cr_lf),
		cmocka_unit_test(http_1_1_needs_one_host),
		cmocka_unit_test(a_host_is_a_uri_host_with_an_optional_port),
		cmocka_unit_test(
			a_target_is_divided_at_its_first_question_mark),
		cmocka_unit_test(
			the_authority_of_an_absolute_target_takes_the_place_of_host),
		cmocka_unit_test(
			an_absolute_target_without_a_path_has_the_path_slash),
		cmocka_unit_test(the_asterisk_is_a_target_for_options_alone),
		cmocka_unit_test(other_targets_are_refused),
		cmocka_unit_test(connect_is_told_from_other_methods),
		cmocka_unit_test(a_nul_in_the_head_is_refused),
		cmocka_unit_test(every_field_of_interest_is_found_in_any_case),
		cmocka_unit_test(a_name_that_only_resembles_a_field_is_not_one),
		cmocka_unit_test(space_around_a_value_is_no_part_of_it),
		cmocka_unit_test(a_field_may_be_empty),
		cmocka_unit_test(a_value_may_hold_bytes_over_0x7f),
		cmocka_unit_test(the_lines_of_a_list_field_are_joined),
		cmocka_unit_test(
			any_other_field_of_interest_must_not_be_repeated),
		cmocka_unit_test(fields_of_no_interest_may_be_repeated),
		cmocka_unit_test(a_malformed_field_line_is_refused),
		cmocka_unit_test(expect_is_100_continue_or_refused),
		cmocka_unit_test(
			connection_says_whether_another_request_may_follow),
		cmocka_unit_test(bytes_behind_the_last_request_are_dropped),
		cmocka_unit_test(a_malformed_content_length_is_refused),
		cmocka_unit_test(tabs_around_a_framing_value_are_space),
		cmocka_unit_test(
			content_length_beside_transfer_encoding_is_refused),
		cmocka_unit_test(transfer_encoding_in_http_1_0_is_refused),
		cmocka_unit_test(
			transfer_codings_but_chunked_alone_are_refused),
		cmocka_unit_test(chunked_is_known_in_any_case),
		cmocka_unit_test(chunks_are_joined),
		cmocka_unit_test(chunk_extensions_are_dropped),
		cmocka_unit_test(malformed_chunks_are_refused),
		cmocka_unit_test(trailers_alter_nothing),
		cmocka_unit_test(
			the_request_is_the_same_before_and_after_its_trailers),
		cmocka_unit_test(trailers_may_be_many_and_long),
		cmocka_unit_test(the_limit_of_content_is_that_of_one_request),
		cmocka_unit_test(discarded_content_may_come_whole),
		cmocka_unit_test(framing_fields_in_trailers_are_refused),
		cmocka_unit_test(a_head_over_its_limit_is_refused_with_431),
		cmocka_unit_test(an_id_of_ours_does_not_count_as_head),
		cmocka_unit_test(a_longer_id_counts_as_head),
		cmocka_unit_test(an_origin_is_known_once_its_line_is_complete),
		cmocka_unit_test(
			the_limit_of_a_head_counts_neither_content_nor_empty_lines),
		cmocka_unit_test(a_target_over_its_limit_is_refused_with_414),
		cmocka_unit_test(
			field_lines_over_their_limit_are_refused_with_431),
		cmocka_unit_test(list_lines_up_to_the_limit_are_joined),
		cmocka_unit_test(
			content_announced_over_the_limit_is_refused_at_the_head),
		cmocka_unit_test(
			chunks_over_the_limit_are_refused_at_their_size),
		cmocka_unit_test(
			extensions_and_trailers_over_their_limit_are_refused_with_413),
		cmocka_unit_test(chunks_of_one_byte_are_within_the_limits),
		cmocka_unit_test(a_list_has_a_token_in_any_case_and_place),
		cmocka_unit_test(a_list_has_a_token_exactly_only_in_its_case),
		cmocka_unit_test(
			the_first_element_with_a_prefix_is_found_whole),
		cmocka_unit_test(a_type_has_the_quality_of_its_range),
		cmocka_unit_test(a_type_that_no_range_matches_has_quality_0),
		cmocka_unit_test(the_most_specific_range_counts),
		cmocka_unit_test(of_equally_specific_ranges_the_highest_counts),
		cmocka_unit_test(a_range_with_parameters_does_not_match),
		cmocka_unit_test(a_malformed_weight_is_0),
		cmocka_unit_test(the_accept_of_old_java_is_understood),
		cmocka_unit_test(without_accept_every_type_has_quality_1000),
		cmocka_unit_test(
			a_type_is_accepted_explicitly_only_by_its_name),
		cmocka_unit_test(a_coding_is_accepted_by_its_name_or_by_any),
		cmocka_unit_test(an_entity_tag_is_found_in_a_list),
		cmocka_unit_test(
			a_coding_is_used_where_it_is_wanted_as_much_as_none),
		cmocka_unit_test(a_media_type_may_have_parameters),
		cmocka_unit_test(
			basic_credentials_are_divided_at_the_first_colon),
		cmocka_unit_test(malformed_basic_credentials_are_invalid),
		cmocka_unit_test(the_memory_of_credentials_may_be_used_again),
		cmocka_unit_test(a_bearer_token_is_token68),
		cmocka_unit_test(a_malformed_bearer_token_is_absent),
		cmocka_unit_test(a_bearer_token_over_its_limit_is_absent),
		cmocka_unit_test(a_token_is_what_bearer_credentials_may_hold),
		cmocka_unit_test(a_response_has_its_fields_and_content),
		cmocka_unit_test(a_response_without_a_type_has_no_content),
		cmocka_unit_test(
			a_response_to_head_has_the_length_without_the_content),
		cmocka_unit_test(
			a_stream_has_no_length_and_ends_with_the_connection),
		cmocka_unit_test(a_stream_may_be_in_chunks),
		cmocka_unit_test(a_chunk_starts_with_its_size),
		cmocka_unit_test(more_fields_follow_the_fields),
		cmocka_unit_test(
			statuses_1xx_204_and_304_have_no_content_length),
		cmocka_unit_test(a_response_of_any_size_is_written_whole),
		cmocka_unit_test(every_status_that_reading_gives_has_a_phrase),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
