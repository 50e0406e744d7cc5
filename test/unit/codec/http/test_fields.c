/* test_fields.c - values of fields, and responses (http.h) */

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

/* --- field values --------------------------------------------------------- */

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

/* --- responses ------------------------------------------------------------ */

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
