/* Unit tests of http: queries and percent-coding. */
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

#define BEFORE "before|"

/* Everything is appended behind this. */
static struct buf start(void)
{
	struct buf out = {0};

	assert_int_equal(buf_append(&out, BEFORE, strlen(BEFORE)), 0);
	return out;
}

static void expect_bytes(struct buf *out, struct span expected)
{
	size_t len = strlen(BEFORE);

	assert_int_equal(out->len, len + expected.len);
	assert_memory_equal(out->bytes, BEFORE, len);
	if (expected.len > 0)
		assert_memory_equal(out->bytes + len, expected.bytes,
				    expected.len);
	buf_fini(out);
}

/* A copy that is alone in memory of its own, so that a sanitizer sees what is
 * read beyond it. */
static struct span copy_of(struct span s)
{
	char *bytes = malloc(s.len + (s.len == 0));

	assert_non_null(bytes);
	if (s.len > 0)
		memcpy(bytes, s.bytes, s.len);
	return (struct span){bytes, s.len};
}

static void free_copy(struct span s)
{
	/* It is copy_of()'s own. */
	free((void *)(uintptr_t)s.bytes);
}

/* --- parameters ----------------------------------------------------------- */

/* `expected`: [name][value] of each parameter. */
static void expect_parameters(const char *query, const char *expected)
{
	struct span copy = copy_of(span_of(query));
	struct span rest = copy;
	struct span name;
	struct span value;
	char text[200] = "";

	while (http_query_next(&rest, &name, &value)) {
		size_t len = strlen(text);

		assert_non_null(name.bytes);
		assert_non_null(value.bytes);
		snprintf(text + len, sizeof text - len, "[%.*s][%.*s]",
			 (int)name.len, name.bytes, (int)value.len,
			 value.bytes);
	}
	assert_string_equal(text, expected);
	assert_false(http_query_next(&rest, &name, &value));
	free_copy(copy);
}

static void a_query_is_divided_into_names_and_values(void **state)
{
	(void)state;
	expect_parameters("a=1", "[a][1]");
	expect_parameters("a=1&b=2&a=3", "[a][1][b][2][a][3]");
	expect_parameters("a=1;b=2", "[a][1;b=2]");
	expect_parameters("a==1=", "[a][=1=]");
	expect_parameters("a=?/b", "[a][?/b]");
}

static void names_and_values_stay_encoded(void **state)
{
	(void)state;
	expect_parameters("a%3D=%26+%zz", "[a%3D][%26+%zz]");
}

static void a_missing_equals_sign_is_an_empty_value(void **state)
{
	(void)state;
	expect_parameters("a", "[a][]");
	expect_parameters("a&b=&c", "[a][][b][][c][]");
}

static void a_name_may_be_empty(void **state)
{
	(void)state;
	expect_parameters("=", "[][]");
	expect_parameters("=a&=", "[][a][][]");
}

static void empty_sequences_are_skipped(void **state)
{
	(void)state;
	expect_parameters("&&a=1&&&b=2&", "[a][1][b][2]");
	expect_parameters("&", "");
	expect_parameters("", "");
}

static void an_absent_query_has_no_parameters(void **state)
{
	struct span query = {NULL, 0};
	struct span name;
	struct span value;

	(void)state;
	assert_false(http_query_next(&query, &name, &value));
}

/* --- decoding ------------------------------------------------------------- */

static void expect_decoded(const char *text, bool plus_is_space,
			   struct span expected)
{
	struct span copy = copy_of(span_of(text));
	struct buf out = start();

	assert_int_equal(http_decode(copy, plus_is_space, &out), 0);
	expect_bytes(&out, expected);
	free_copy(copy);
}

static void expect_invalid(const char *text)
{
	struct span copy = copy_of(span_of(text));
	struct buf out = start();

	assert_int_equal(http_decode(copy, true, &out), UV_EINVAL);
	expect_bytes(&out, SPAN(""));
	free_copy(copy);
}

static void percent_coded_bytes_are_decoded_once(void **state)
{
	(void)state;
	expect_decoded("a%20b%2Fc%2fd", true, SPAN("a b/c/d"));
	expect_decoded("%E2%82%AC%c3%a9", true, SPAN("\xe2\x82\xac\xc3\xa9"));
	expect_decoded("%2541%25", true, SPAN("%41%"));
	expect_decoded("-._~!$&'()*,;=:@/?", true, SPAN("-._~!$&'()*,;=:@/?"));
	expect_decoded("\xc3%A9", true, SPAN("\xc3\xa9"));
	expect_decoded("", true, SPAN(""));
}

static void every_byte_of_ascii_can_be_decoded(void **state)
{
	(void)state;
	for (int byte = 0; byte < 128; byte++) {
		char upper[4];
		char lower[4];
		char expected = (char)byte;

		snprintf(upper, sizeof upper, "%%%02X", (unsigned)byte);
		snprintf(lower, sizeof lower, "%%%02x", (unsigned)byte);
		expect_decoded(upper, true, (struct span){&expected, 1});
		expect_decoded(lower, false, (struct span){&expected, 1});
	}
}

static void a_plus_is_a_space_in_a_query_alone(void **state)
{
	(void)state;
	expect_decoded("a+b%2B+", true, SPAN("a b+ "));
	expect_decoded("a+b%2B+", false, SPAN("a+b++"));
}

static void decoded_text_may_hold_u_0000(void **state)
{
	(void)state;
	expect_decoded("a%00b%00", true, SPAN("a\0b\0"));
}

static void a_percent_without_two_digits_is_invalid(void **state)
{
	static const char *const bad[] = {
		"%",        "a%",     "%4",  "%4g",   "%g4",   "%%41",
		"% 1",      "%-1",    "%+1", "%0x41", "%4%31", "a%4",
		"ab%20c%2", "%u0041", "%/0", "%:0",   "%@0",   "%`0",
		"%0/",      "%0:",    "%0@", "%0`",   "%0G",   "%\xff\x30",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_invalid(bad[i]);
}

static void a_result_that_is_not_utf_8_is_invalid(void **state)
{
	static const char *const bad[] = {
		"%FF",
		"a%C3",
		"%C3b",
		"%80",
		"%C0%80",
		"%ED%A0%80",
		"%F4%90%80%80",
		"\xff",
		"%E2%82",
		"%C3%A9%A9",
		"%ED%A0%BD%ED%B8%80",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_invalid(bad[i]);
}

/* What stands in `out` before must not make bytes UTF-8 that are not. */
static void decoded_text_is_utf_8_by_itself(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(buf_append(&out, "\xc3", 1), 0);
	assert_int_equal(http_decode(SPAN("%A9"), true, &out), UV_EINVAL);
	assert_int_equal(out.len, 1);
	buf_fini(&out);
}

/* --- encoding ------------------------------------------------------------- */

static void expect_encoded(struct span text, const char *expected)
{
	struct buf out = start();

	assert_int_equal(http_encode(text, &out), 0);
	expect_bytes(&out, span_of(expected));
}

static void unreserved_characters_are_not_encoded(void **state)
{
	const char *all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			  "0123456789-._~";

	(void)state;
	expect_encoded(span_of(all), all);
	expect_encoded(SPAN(""), "");
	expect_encoded((struct span){NULL, 0}, "");
}

static void all_others_are_encoded(void **state)
{
	(void)state;
	expect_encoded(SPAN("a b+c&d=e%f/?#"),
		       "a%20b%2Bc%26d%3De%25f%2F%3F%23");
	expect_encoded(SPAN("\0\x1f\x7f\xe2\x82\xac\xff"),
		       "%00%1F%7F%E2%82%AC%FF");
}

static void what_is_encoded_decodes_to_itself(void **state)
{
	char text[128];
	struct buf encoded = {0};

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (char)i;
	assert_int_equal(
		http_encode((struct span){text, sizeof text}, &encoded), 0);
	for (int plus_is_space = 0; plus_is_space < 2; plus_is_space++) {
		struct buf out = start();

		assert_int_equal(
			http_decode((struct span){encoded.bytes, encoded.len},
				    plus_is_space, &out),
			0);
		expect_bytes(&out, (struct span){text, sizeof text});
	}
	buf_fini(&encoded);
}

/* --- names ---------------------------------------------------------------- */

static void a_name_is_the_same_however_it_is_encoded(void **state)
{
	(void)state;
	assert_true(http_query_is_name(SPAN("topic"), "topic"));
	assert_true(http_query_is_name(SPAN("%74opi%63"), "topic"));
	assert_true(http_query_is_name(SPAN("a+b"), "a b"));
	assert_true(http_query_is_name(SPAN("a%20b"), "a b"));
	assert_true(http_query_is_name(SPAN(""), ""));
}

static void a_name_is_all_of_it_in_the_same_case(void **state)
{
	(void)state;
	assert_false(http_query_is_name(SPAN("topics"), "topic"));
	assert_false(http_query_is_name(SPAN("topi"), "topic"));
	assert_false(http_query_is_name(SPAN("Topic"), "topic"));
	assert_false(http_query_is_name(SPAN(""), "topic"));
	assert_false(http_query_is_name(SPAN("topic%00"), "topic"));
	assert_false(http_query_is_name(SPAN("topic%"), "topic"));
	assert_false(http_query_is_name(SPAN("%7"), ""));
}

/* --- leaving parameters out ----------------------------------------------- */

static void expect_without(const char *query, const char *expected)
{
	/* The second NUL is there to be taken for a decoded %00. */
	static const char *const names[] = {"token\0", "since", NULL};
	struct span copy = copy_of(span_of(query));
	struct buf out = start();

	assert_int_equal(http_query_without(copy, names, &out), 0);
	expect_bytes(&out, span_of(expected));
	free_copy(copy);
}

static void a_named_parameter_is_left_out_wherever_it_stands(void **state)
{
	(void)state;
	expect_without("token=x&a=1&b=2", "a=1&b=2");
	expect_without("a=1&token=x&b=2", "a=1&b=2");
	expect_without("a=1&b=2&token=x", "a=1&b=2");
	expect_without("token=x", "");
	expect_without("token", "");
	expect_without("token=&a", "a");
}

static void every_parameter_of_every_name_is_left_out(void **state)
{
	(void)state;
	expect_without("token=x&a=1&since=2&token=y&b=2&token=z", "a=1&b=2");
	expect_without("since=1&token=x&since=2", "");
}

static void names_are_compared_decoded(void **state)
{
	(void)state;
	expect_without("%74oken=x&a=1", "a=1");
	expect_without("a=1&%74%6F%6b%65%6E=x", "a=1");
}

static void other_names_are_kept(void **state)
{
	static const char *const kept[] = {
		"tokens=x",    "toke=x",      "Token=x",   "a=token",
		"token%00=x",  "%00token=x",  "token+=x",  "token%3Dx",
		"=token",      "token%=x",    "token%2=x", "%7token=x",
		"token%26a=x", "a=1;token=x", "+token=x",  "%2574oken=x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
		expect_without(kept[i], kept[i]);
}

static void the_others_stay_as_they_were_sent(void **state)
{
	(void)state;
	expect_without("b=%7a+%zz&a=\xff&b=&=&c", "b=%7a+%zz&a=\xff&b=&=&c");
	expect_without("b=%7a&token=x&a=%7A%", "b=%7a&a=%7A%");
	expect_without("&&a=1&&b=2&", "&&a=1&&b=2&");
	expect_without("", "");
}

static void one_ampersand_stays_between_two(void **state)
{
	(void)state;
	expect_without("&token=x", "");
	expect_without("token=x&", "");
	expect_without("a&token=x&", "a&");
	expect_without("&token=x&a", "&a");
}

static void a_name_with_a_space_may_be_sent_with_a_plus(void **state)
{
	static const char *const names[] = {"a b", NULL};
	struct buf out = start();

	(void)state;
	assert_int_equal(
		http_query_without(SPAN("a+b=1&c&a%20b=2"), names, &out), 0);
	expect_bytes(&out, SPAN("c"));
}

static void an_empty_name_is_that_of_a_value_alone(void **state)
{
	static const char *const names[] = {"", NULL};
	struct buf out = start();

	(void)state;
	assert_int_equal(http_query_without(SPAN("a&=v&&=&b="), names, &out),
			 0);
	expect_bytes(&out, SPAN("a&&b="));
}

static void without_names_a_query_stays_whole(void **state)
{
	static const char *const names[] = {NULL};
	struct buf out = start();

	(void)state;
	assert_int_equal(http_query_without(SPAN("a=1&b"), names, &out), 0);
	expect_bytes(&out, SPAN("a=1&b"));
}

static void an_absent_query_stays_empty(void **state)
{
	static const char *const names[] = {"a", NULL};
	struct buf out = {0};

	(void)state;
	assert_int_equal(
		http_query_without((struct span){NULL, 0}, names, &out), 0);
	assert_int_equal(out.len, 0);
	buf_fini(&out);
}

/* --- without memory ------------------------------------------------------- */

static int decode(struct span text, struct buf *out)
{
	return http_decode(text, true, out);
}

static int leave_out(struct span text, struct buf *out)
{
	static const char *const names[] = {"b", NULL};

	return http_query_without(text, names, out);
}

static void what_finds_no_memory_changes_nothing(void **state)
{
	int (*const calls[])(struct span, struct buf *) = {decode, http_encode,
							   leave_out};
	char text[1000];

	(void)state;
	OOM_OR_SKIP();
	memset(text, 'a', sizeof text);
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		struct buf out = start();

		oom_fail_at(1);
		int rv = calls[i]((struct span){text, sizeof text}, &out);
		assert_true(oom_end());
		assert_int_equal(rv, UV_ENOMEM);
		expect_bytes(&out, SPAN(""));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_query_is_divided_into_names_and_values),
		cmocka_unit_test(names_and_values_stay_encoded),
		cmocka_unit_test(a_missing_equals_sign_is_an_empty_value),
		cmocka_unit_test(a_name_may_be_empty),
		cmocka_unit_test(empty_sequences_are_skipped),
		cmocka_unit_test(an_absent_query_has_no_parameters),
		cmocka_unit_test(percent_coded_bytes_are_decoded_once),
		cmocka_unit_test(every_byte_of_ascii_can_be_decoded),
		cmocka_unit_test(a_plus_is_a_space_in_a_query_alone),
		cmocka_unit_test(decoded_text_may_hold_u_0000),
		cmocka_unit_test(a_percent_without_two_digits_is_invalid),
		cmocka_unit_test(a_result_that_is_not_utf_8_is_invalid),
		cmocka_unit_test(decoded_text_is_utf_8_by_itself),
		cmocka_unit_test(unreserved_characters_are_not_encoded),
		cmocka_unit_test(all_others_are_encoded),
		cmocka_unit_test(what_is_encoded_decodes_to_itself),
		cmocka_unit_test(a_name_is_the_same_however_it_is_encoded),
		cmocka_unit_test(a_name_is_all_of_it_in_the_same_case),
		cmocka_unit_test(
			a_named_parameter_is_left_out_wherever_it_stands),
		cmocka_unit_test(every_parameter_of_every_name_is_left_out),
		cmocka_unit_test(names_are_compared_decoded),
		cmocka_unit_test(other_names_are_kept),
		cmocka_unit_test(the_others_stay_as_they_were_sent),
		cmocka_unit_test(one_ampersand_stays_between_two),
		cmocka_unit_test(a_name_with_a_space_may_be_sent_with_a_plus),
		cmocka_unit_test(an_empty_name_is_that_of_a_value_alone),
		cmocka_unit_test(without_names_a_query_stays_whole),
		cmocka_unit_test(an_absent_query_stays_empty),
		cmocka_unit_test(what_finds_no_memory_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
