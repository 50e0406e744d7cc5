/* test_content.c - content, limits, and what lacks memory (http.h) */

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

#include "http_story.h"

/* --- feeding -------------------------------------------------------------- */

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

/* --- where the content ends ----------------------------------------------- */

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
	story_expect_bytes(b.bytes, b.len,
			   "HEAD POST /p host=[a] chunked\nREQUEST []\n");
	buf_fini(&b);
}

static void framing_fields_in_trailers_are_refused(void **state)
{
	(void)state;
	expect_chunked("0\r\nContent-Length: 5\r\n\r\n", "BAD 400\n");
}

/* --- limits --------------------------------------------------------------- */

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
	story_expect_bytes(b.bytes, b.len,
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
		story_expect_bytes(b.bytes, b.len,
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

#define START "GET / HTTP/1.1\r\nHost: a\r\n"
static void an_origin_at_hand_behind_a_fault_counts(void **state)
{
	struct buf b = {0};

	(void)state;
	expect_origin_so_far(START "No field\r\nORIGIN: \thttp://a \r\n",
			     "http://a");
	expect_origin_so_far(START "No field\r\nOrigin: a\r\n\r\nOrigin: b\r\n",
			     "a");
	expect_origin_so_far("GET /\x01 HTTP/1.1\r\nOrigin: a\r\n\r\n", "a");
	expect_origin_so_far("GET / HTTP/9.1\r\nOrigin: a\r\n\r\n", "a");
	/* Not a whole line, no Origin, or two. */
	expect_origin_so_far(START "No field\r\nOrigin: http://a", "");
	expect_origin_so_far(START "No field\r\nOrigin: http://a\n\r\n", "");
	expect_origin_so_far(START "No field\r\nX\nOrigin: a\r\n\r\n", "");
	expect_origin_so_far(START "No field\r\nOrigin: a\rb\r\n\r\n", "");
	expect_origin_so_far(START "No field\r\nX-Origin: a\r\n: b\r\n", "");
	expect_origin_so_far(START "No field\r\n\r\nOrigin: a\r\n", "");
	expect_origin_so_far(START "No field\r\nOrigin: a\r\nOrigin: b\r\n\r\n",
			     "");
	expect_origin_so_far(START "Origin: a\r\nNo field\r\nOrigin: b\r\n\r\n",
			     "");
	/* The head was read: what follows is content. */
	expect_origin_so_far("GET / HTTP/1.1\r\n\r\nOrigin: a\r\n", "");
	expect_origin_so_far(START "Transfer-Encoding: x\r\n\r\n"
				   "Origin: a\r\n",
			     "");

	add(&b, "GET /");
	add_run(&b, 'x', HTTP_TARGET_MAX_BYTES);
	add(&b, " HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n");
	add_run(&b, '\0', 1);
	expect_origin_so_far(b.bytes, "http://a");
	b.len = 0;
	add(&b, START "X: ");
	add_run(&b, 'x', HTTP_HEAD_MAX_BYTES);
	add(&b, "\r\nOrigin: http://a\r\n");
	add_run(&b, '\0', 1);
	expect_origin_so_far(b.bytes, "http://a");
	b.len = 0;
	add(&b, START);
	for (int i = 1; i < HTTP_FIELDS_MAX; i++)
		add(&b, "X: y\r\n");
	add(&b, "Origin: http://a\r\n");
	add_run(&b, '\0', 1);
	expect_origin_so_far(b.bytes, "http://a");
	buf_fini(&b);
}

static void what_a_read_begins_with_may_be_the_end_of_a_line(void **state)
{
	const struct span first = SPAN(START "X-");
	const struct span second = SPAN("Origin: a\x01\r\nOrigin: b\r\n");
	struct http *h = http_new(CONTENT_MAX_BYTES);
	size_t used;

	(void)state;
	assert_non_null(h);
	assert_int_equal(http_read(h, first.bytes, first.len, &used),
			 HTTP_MORE);
	assert_int_equal(http_read(h, second.bytes, second.len, &used),
			 HTTP_BAD);
	struct span origin = http_origin_so_far(h);
	assert_true(span_equal(origin, SPAN("b")));
	http_free(h);
}

static void an_origin_is_known_once_its_line_is_complete(void **state)
{
	(void)state;
	expect_origin_so_far(START "Origin: http://a\r\nX: ", "http://a");
	expect_origin_so_far(START "Origin: http://a\r\nNo field\r\n",
			     "http://a");
	expect_origin_so_far(START "Origin: http://a", "");
	expect_origin_so_far(START "Origin: b\r\nOrigin: b\r\n\r\n", "");
	expect_origin_so_far(START "X: y\r\n", "");
	expect_origin_so_far("\r\n\r\n\r\n\r\n\r\n\r\n", "");
	expect_origin_so_far("\r\n", "");
}
#undef START

static void a_longer_id_counts_as_head(void **state)
{
	struct buf b = {0};

	(void)state;
	add(&b, "GET / HTTP/1.0\r\nLast-Event-ID:");
	add_run(&b, '7', HTTP_EVENT_ID_MAX_BYTES + HTTP_HEAD_MAX_BYTES);
	story_expect_bytes(b.bytes, b.len, "BAD 431\n");
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
	story_expect_bytes(b.bytes, b.len, expected.bytes);
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
	story_expect_bytes(b.bytes, b.len, expected.bytes);
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
	story_expect_bytes(b.bytes, b.len,
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
	story_expect_bytes(b.bytes, b.len, expected.bytes);
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
	story_expect_bytes(b.bytes, b.len, expected.bytes);
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
	story_expect_bytes(b.bytes, b.len, expected);
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
	story_expect_bytes(b.bytes, b.len, expected.bytes);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_request_that_finds_no_memory_is_refused_with_500),
		cmocka_unit_test(without_memory_there_is_no_reader),
		cmocka_unit_test(
			a_response_that_finds_no_memory_changes_nothing),
		cmocka_unit_test(credentials_that_find_no_memory_are_enomem),
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
		cmocka_unit_test(framing_fields_in_trailers_are_refused),
		cmocka_unit_test(a_head_over_its_limit_is_refused_with_431),
		cmocka_unit_test(an_id_of_ours_does_not_count_as_head),
		cmocka_unit_test(a_longer_id_counts_as_head),
		cmocka_unit_test(an_origin_is_known_once_its_line_is_complete),
		cmocka_unit_test(an_origin_at_hand_behind_a_fault_counts),
		cmocka_unit_test(
			what_a_read_begins_with_may_be_the_end_of_a_line),
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
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
