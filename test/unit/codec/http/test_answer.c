/* test_answer.c - what src/codec/http/answer.c promises. Each stream is fed
 * whole and byte by byte, and must come to the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/http/answer.h"

#define LIMIT 64 /* of a response's content */

/* "200:hello;" for each response, then "more", "bad" or, where the stream's end
 * ends it, "200:hello.". `rest` receives what is behind a 101. */
static void read_stream(const char *stream, size_t step, char *out,
			const char **rest)
{
	struct http_answers *a = http_answers_new(LIMIT);
	struct span left = span_of(stream);
	enum http_answer_event event = HTTP_ANSWER_MORE;

	assert_non_null(a);
	out[0] = '\0';
	*rest = NULL;
	while (left.len > 0 && event != HTTP_ANSWER_BAD && *rest == NULL) {
		size_t used;
		struct span piece = {left.bytes,
				     left.len < step ? left.len : step};
		event = http_answers_read(a, piece, &used);
		left.bytes += used;
		left.len -= used;
		if (event != HTTP_ANSWER_DONE)
			continue;
		const struct http_answer *answer = http_answers_last(a);
		sprintf(out + strlen(out), "%u:%.*s%s;", answer->status,
			(int)answer->content.len, answer->content.bytes,
			answer->keep_alive ? "" : "!");
		if (answer->status == 101)
			*rest = left.bytes;
	}
	if (event == HTTP_ANSWER_BAD) {
		strcat(out, "bad");
	} else if (event == HTTP_ANSWER_MORE) {
		if (http_answers_finish(a) == HTTP_ANSWER_DONE)
			sprintf(out + strlen(out), "%u:%.*s.",
				http_answers_last(a)->status,
				(int)http_answers_last(a)->content.len,
				http_answers_last(a)->content.bytes);
		else
			strcat(out, "more");
	}
	http_answers_free(a);
}

static void expect(const char *stream, const char *wanted)
{
	char out[512];
	const char *rest;

	read_stream(stream, strlen(stream), out, &rest);
	assert_string_equal(out, wanted);
	read_stream(stream, 1, out, &rest);
	assert_string_equal(out, wanted);
}

static void responses_follow_each_other(void **state)
{
	(void)state;
	expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	       "HTTP/1.1 503 No\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
	       "200:hello;503:;");
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n",
	       "200:abcde;204:;");
	expect("HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 2\r\n"
	       "\r\nno",
	       "401:no!;");
}

static void content_without_a_length_ends_with_the_connection(void **state)
{
	(void)state;
	expect("HTTP/1.0 200 OK\r\n\r\nall of it", "200:all of it.");
	expect("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nless", "more");
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
	       "more");
	expect("HTTP/1.1 20", "more");
}

static void what_is_no_http_is_bad(void **state)
{
	(void)state;
	expect("SSH-2.0-OpenSSH_9.2\r\n", "bad");
	expect("HTTP/2.0 200 OK\r\n\r\n", "bad");
	expect("HTTP/1.1 2000 OK\r\n\r\n", "bad");
	expect(" HTTP/1.1 200 OK\r\n\r\n", "bad");
}

static void content_over_the_limit_is_bad(void **state)
{
	char stream[256];

	(void)state;
	sprintf(stream, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%0*d",
		LIMIT + 1, LIMIT + 1, 0);
	expect(stream, "bad");
	sprintf(stream, "HTTP/1.0 200 OK\r\n\r\n%0*d", LIMIT + 1, 0);
	expect(stream, "bad");
}

static void fields_are_found_in_any_case(void **state)
{
	struct http_answers *a = http_answers_new(LIMIT);
	struct span stream =
		SPAN("HTTP/1.1 503 No\r\nRETRY-after:  7 \r\nX: y\r\n"
		     "Content-Length: 0\r\n\r\n");
	size_t used;

	(void)state;
	assert_int_equal(http_answers_read(a, stream, &used), HTTP_ANSWER_DONE);
	const struct http_answer *answer = http_answers_last(a);
	struct span retry = answer->fields[HTTP_ANSWER_RETRY_AFTER];
	assert_true(span_equal(retry, SPAN("7")) ||
		    span_equal(retry, SPAN("7 ")));
	assert_null(answer->fields[HTTP_ANSWER_ACCEPT].bytes);
	http_answers_free(a);
}

static void what_is_behind_a_101_is_left(void **state)
{
	static const char head[] = "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Accept: abc\r\n\r\n";
	char stream[256];
	char out[512];
	const char *rest;

	(void)state;
	sprintf(stream, "%sframe", head);
	for (size_t step = 1; step <= strlen(stream); step++) {
		read_stream(stream, step, out, &rest);
		assert_non_null(rest);
		assert_string_equal(rest, "frame");
	}
}

/* Where heads are alike the content may be another, or end another way. */
static void answers_that_are_alike_are_read_one_by_one(void **state)
{
#define ALIKE "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
#define BARE  "HTTP/1.1 204 Fine\r\n\r\n"
#define CLOSE                                                                  \
	"HTTP/1.1 200 OK\r\nConnection: close\r\n"                             \
	"Content-Length: 1\r\n\r\n"
	(void)state;
	expect(ALIKE "abc" ALIKE "def" ALIKE "ghi" BARE BARE ALIKE "jkl",
	       "200:abc;200:def;200:ghi;204:;204:;200:jkl;");
	expect(ALIKE "abc" ALIKE "de", "200:abc;more");
	expect(ALIKE "abc" ALIKE, "200:abc;more");
	expect(ALIKE "abc"
		     "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndefg"
		     "HTTP/1.1 200 OK\r\n\r\nrest",
	       "200:abc;200:defg;200:rest.");
	expect(CLOSE "a" CLOSE "b", "200:a!;200:b!;");
#undef ALIKE
#undef BARE
#undef CLOSE
}

static void fields_stay_where_heads_are_alike(void **state)
{
	static const char head[] = "HTTP/1.1 503 No\r\nRetry-After: 7\r\n"
				   "Content-Length: 1\r\n\r\n";
	struct http_answers *a = http_answers_new(LIMIT);
	char stream[256];
	size_t at = 0;
	size_t used;

	(void)state;
	sprintf(stream, "%sa%sb", head, head);
	for (unsigned i = 0; i < 2; i++) {
		struct span rest = {stream + at, strlen(stream) - at};
		assert_int_equal(http_answers_read(a, rest, &used),
				 HTTP_ANSWER_DONE);
		const struct http_answer *answer = http_answers_last(a);
		assert_int_equal(answer->status, 503);
		assert_true(span_equal(answer->fields[HTTP_ANSWER_RETRY_AFTER],
				       SPAN("7")));
		assert_true(span_equal(answer->content,
				       i == 0 ? SPAN("a") : SPAN("b")));
		at += used;
	}
	http_answers_free(a);
}

static void note_head(void *user)
{
	strcat(user, "head;");
}

static void note_content(void *user, struct span bytes)
{
	strncat(user, bytes.bytes, bytes.len);
}

static void the_content_of_a_stream_is_told_as_it_comes(void **state)
{
	static const struct http_answers_stream stream = {
		.on_head = note_head, .on_content = note_content};
	static const char bytes[] =
		"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

	(void)state;
	for (size_t step = 1; step < sizeof bytes; step++) {
		struct http_answers *a = http_answers_new(LIMIT);
		char told[256] = "";
		char answers[256] = "";
		size_t used;

		http_answers_stream(a, &stream, told);
		for (size_t at = 0; at < sizeof bytes - 1; at += used) {
			size_t left = sizeof bytes - 1 - at;
			struct span piece = {bytes + at,
					     left < step ? left : step};
			if (http_answers_read(a, piece, &used) !=
			    HTTP_ANSWER_DONE)
				continue;
			const struct http_answer *answer = http_answers_last(a);
			sprintf(answers + strlen(answers), "%u:%.*s;",
				answer->status, (int)answer->content.len,
				answer->content.bytes);
		}
		assert_string_equal(told, "head;abcde");
		assert_string_equal(answers, "503:no;200:;");
		http_answers_free(a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(responses_follow_each_other),
		cmocka_unit_test(
			content_without_a_length_ends_with_the_connection),
		cmocka_unit_test(what_is_no_http_is_bad),
		cmocka_unit_test(content_over_the_limit_is_bad),
		cmocka_unit_test(fields_are_found_in_any_case),
		cmocka_unit_test(what_is_behind_a_101_is_left),
		cmocka_unit_test(answers_that_are_alike_are_read_one_by_one),
		cmocka_unit_test(fields_stay_where_heads_are_alike),
		cmocka_unit_test(the_content_of_a_stream_is_told_as_it_comes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
