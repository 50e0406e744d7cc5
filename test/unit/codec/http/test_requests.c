/* test_requests.c - requests and their lines, Host, targets, fields (http.h) */

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

/* --- requests ------------------------------------------------------------- */

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

/* --- version and request line --------------------------------------------- */

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

/* --- Host ----------------------------------------------------------------- */

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

/* --- request targets ------------------------------------------------------ */

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
	story_expect_bytes(target, sizeof target - 1, "BAD 400\n");
	story_expect_bytes(name, sizeof name - 1, "BAD 400\n");
	story_expect_bytes(value, sizeof value - 1, "BAD 400\n");
}

/* --- fields --------------------------------------------------------------- */

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
	expect_field("Traceparent: a\r\ntraceparent: b",
		     "HEAD GET / host=[a] traceparent=[a, b]\nREQUEST []\n");
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

/* --- keep-alive ----------------------------------------------------------- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(discarded_content_may_come_whole),
	};

	srand(1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
