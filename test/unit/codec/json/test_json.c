/* test_json.c - what is JSON, and publications (json.h) */

#include "codec/json/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "base/name.h"
#include "oom.h"

#include "json_texts.h"
#include "utf8_texts.h"

/* --- helpers -------------------------------------------------------------- */

/* Checks a copy that ends where its memory does, so that a sanitizer sees every
 * byte read too much. */
static int check_copy(struct span text, struct json_error *error)
{
	char *copy = malloc(text.len + (text.len == 0));
	int status;

	assert_non_null(copy);
	memcpy(copy, text.bytes, text.len);
	status = json_check((struct span){copy, text.len}, error);
	free(copy);
	return status;
}

static void assert_json(struct span text)
{
	struct json_error error = {0};

	if (check_copy(text, &error) != 0)
		fail_msg("refused: %.*s: %s", (int)text.len, text.bytes,
			 error.text);
}

static void assert_not_json(struct span text)
{
	struct json_error error = {0};

	if (check_copy(text, &error) == 0)
		fail_msg("accepted: %.*s", (int)text.len, text.bytes);
	assert_int_equal(error.status, 400);
}

static void assert_problem(struct span text, const char *problem)
{
	struct json_error error = {0};

	assert_int_equal(check_copy(text, &error), 400);
	assert_int_equal(error.status, 400);
	assert_string_equal(error.text, problem);
}

/* Reads a publication that must be refused. */
static void assert_refused(struct span text, int status, const char *problem)
{
	struct json_publications p = {0};
	struct json_error error = {0};

	assert_int_equal(json_read_publications(&p, text, &error), status);
	assert_int_equal(error.status, status);
	assert_string_equal(error.text, problem);
	json_publications_fini(&p);
}

/* Reads a publication of `value`, which is not a string. */
static void assert_data(const char *value, const char *expected)
{
	struct json_publications p = {0};
	char text[1024];

	snprintf(text, sizeof(text), "{\"topic\":\"t\",\"data\":%s}", value);
	read_publications(&p, span_of(text));
	assert_span(p.all[0].data.text, span_of(expected));
	assert_true(p.all[0].data.is_json);
	json_publications_fini(&p);
}

/* --- what is JSON --------------------------------------------------------- */

static void every_kind_of_value_is_json(void **state)
{
	(void)state;
	assert_json(SPAN("{}"));
	assert_json(SPAN("[]"));
	assert_json(SPAN("\"\""));
	assert_json(SPAN("true"));
	assert_json(SPAN("false"));
	assert_json(SPAN("null"));
	assert_json(SPAN("{\"a\":[1,{\"b\":[]},\"c\"],\"\":{}}"));
	assert_json(SPAN("[[],[[]],{},{\"a\":{}},null,true,false]"));
}

static void numbers_follow_the_grammar(void **state)
{
	(void)state;
	assert_json(SPAN("0"));
	assert_json(SPAN("-0"));
	assert_json(SPAN("10"));
	assert_json(SPAN("0.10"));
	assert_json(SPAN("-1.5e+10"));
	assert_json(SPAN("1E-2"));
	assert_json(SPAN("0e0"));
	assert_json(SPAN("1e999"));
	assert_not_json(SPAN("01"));
	assert_not_json(SPAN("-01"));
	assert_not_json(SPAN("1."));
	assert_not_json(SPAN(".1"));
	assert_not_json(SPAN("+1"));
	assert_not_json(SPAN("-"));
	assert_not_json(SPAN("1e"));
	assert_not_json(SPAN("1e+"));
	assert_not_json(SPAN("1e+-1"));
	assert_not_json(SPAN("1.e1"));
	assert_not_json(SPAN("0x10"));
	assert_not_json(SPAN("NaN"));
	assert_not_json(SPAN("-Infinity"));
}

static void a_number_may_be_of_any_length(void **state)
{
	static char text[70000];
	struct json_publications p = {0};
	struct json_error error;
	size_t start = (size_t)sprintf(text, "{\"topic\":\"t\",\"data\":-1.");

	(void)state;
	memset(text + start, '7', 65536);
	strcpy(text + start + 65536, "}");
	assert_int_equal(json_read_publications(&p, span_of(text), &error), 0);
	assert_true(p.all[0].data.is_json);
	assert_int_equal(p.all[0].data.text.len, 65536 + 3);
	assert_memory_equal(p.all[0].data.text.bytes, text + start - 3,
			    65536 + 3);
	json_publications_fini(&p);
}

static void words_are_exact(void **state)
{
	(void)state;
	assert_not_json(SPAN("tru"));
	assert_not_json(SPAN("truE"));
	assert_not_json(SPAN("nul"));
	assert_not_json(SPAN("nulll"));
	assert_not_json(SPAN("False"));
	assert_not_json(SPAN("[fals]"));
	assert_not_json(SPAN("undefined"));
}

static void only_four_characters_are_space(void **state)
{
	(void)state;
	assert_json(SPAN(" \t\r\n{ \t\r\n\"a\" \t\r\n: \t\r\n[ \t\r\n1 \t\r\n, "
			 "\t\r\n2 \t\r\n] \t\r\n} \t\r\n"));
	assert_json(SPAN("[ ]"));
	assert_json(SPAN("{\n}"));
	assert_not_json(SPAN("\f1"));
	assert_not_json(SPAN("\v1"));
	assert_not_json(SPAN("1\0"));
	assert_not_json(SPAN("[1\0]"));
	assert_not_json(SPAN("\xc2\xa0"
			     "1"));
	assert_not_json(SPAN("\xe2\x80\xa8"
			     "1"));
}

static void a_byte_order_mark_is_refused(void **state)
{
	(void)state;
	assert_not_json(SPAN("\xef\xbb\xbf{}"));
	assert_not_json(SPAN("\xff\xfe{\0}\0"));
}

static void structure_is_exact(void **state)
{
	(void)state;
	assert_not_json(SPAN("[1,]"));
	assert_not_json(SPAN("[,1]"));
	assert_not_json(SPAN("[1 2]"));
	assert_not_json(SPAN("[1}"));
	assert_not_json(SPAN("[1"));
	assert_not_json(SPAN("{\"a\":1,}"));
	assert_not_json(SPAN("{,}"));
	assert_not_json(SPAN("{\"a\"}"));
	assert_not_json(SPAN("{\"a\":}"));
	assert_not_json(SPAN("{\"a\" 1}"));
	assert_not_json(SPAN("{\"a\":1 \"b\":2}"));
	assert_not_json(SPAN("{a:1}"));
	assert_not_json(SPAN("{'a':1}"));
	assert_not_json(SPAN("{1:1}"));
	assert_not_json(SPAN("{\"a\":1]"));
	assert_not_json(SPAN("]"));
	assert_not_json(SPAN("[1]//"));
	assert_not_json(SPAN("[1/**/]"));
}

static void nothing_may_follow(void **state)
{
	(void)state;
	assert_not_json(SPAN("{}{}"));
	assert_not_json(SPAN("1 2"));
	assert_not_json(SPAN("{} x"));
	assert_not_json(SPAN("[]]"));
}

static void an_empty_or_absent_text_is_refused(void **state)
{
	struct json_error error;

	(void)state;
	assert_problem(SPAN(""), "text is not JSON: byte 1: a value was "
				 "expected, but the text ends");
	assert_not_json(SPAN("  "));
	assert_int_equal(json_check((struct span){NULL, 0}, &error), 400);
	assert_refused((struct span){NULL, 0}, 400,
		       "text is not JSON: byte 1: a value was expected, but "
		       "the text ends");
}

static void control_characters_must_be_escaped(void **state)
{
	(void)state;
	for (char c = 0; c < 0x20; c++) {
		char text[] = {'"', 'a', c, 'b', '"'};
		char name[] = {'{', '"', c, '"', ':', '1', '}'};
		assert_not_json((struct span){text, sizeof(text)});
		assert_not_json((struct span){name, sizeof(name)});
	}
	assert_json(SPAN("\"\x7f\""));
}

/* The scan looks at eight characters at a time. */
static void a_bad_character_is_found_wherever_it_stands(void **state)
{
	static const char bad[] = {'\0', '\x1f', '\n',  '"',
				   '\\', '\x80', '\xff'};
	char text[40];

	(void)state;
	for (size_t i = 0; i < sizeof(bad); i++) {
		for (size_t at = 1; at < sizeof(text) - 1; at++) {
			memset(text, 'x', sizeof(text));
			text[0] = text[sizeof(text) - 1] = '"';
			assert_json((struct span){text, sizeof(text)});
			text[at] = bad[i];
			assert_not_json((struct span){text, sizeof(text)});
		}
	}
}

static void escapes_are_those_of_the_grammar(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		char text[] = {'"', '\\', (char)c, '0', '0', '4', '1', '"'};
		struct span span = {text, sizeof(text)};
		if (c != 0 && strchr("\"\\/bfnrtu", c) != NULL)
			assert_json(span);
		else
			assert_not_json(span);
	}
	assert_not_json(SPAN("\"\\u\""));
	assert_not_json(SPAN("\"\\u12\""));
	assert_not_json(SPAN("\"\\u123\""));
	assert_not_json(SPAN("\"\\u12g4\""));
	assert_not_json(SPAN("\"\\u+123\""));
	assert_not_json(SPAN("\"\\U0041\""));
	assert_not_json(SPAN("\"\\"));
	assert_not_json(SPAN("\"\\u00"));
	assert_json(SPAN("\"\\u00aF\""));
}

static void a_lone_surrogate_is_refused(void **state)
{
	(void)state;
	assert_problem(SPAN("\"a\\ud83d\""), "text is not JSON: byte 3: an "
					     "escape is half a surrogate pair");
	assert_not_json(SPAN("\"\\ude00\""));
	assert_not_json(SPAN("\"\\ude00\\ud83d\""));
	assert_not_json(SPAN("\"\\ude00\\ude00\""));
	assert_not_json(SPAN("\"\\ud83d\\ud83d\""));
	assert_not_json(SPAN("\"\\ud83d\\ue000\""));
	assert_not_json(SPAN("\"\\ud83d\\ud83d\\ude00\""));
	assert_not_json(SPAN("\"\\ud83d\\u0041\""));
	assert_not_json(SPAN("\"\\ud83dude00\""));
	assert_not_json(SPAN("\"\\ud83d\\\\ude00\""));
	assert_not_json(SPAN("\"\\ud83d\\ude0"));
	assert_not_json(SPAN("{\"\\ud83d\":1}"));
	assert_json(SPAN("\"\\ud83d\\ude00\""));
	assert_json(SPAN("\"\\uD83D\\uDE00\""));
	assert_json(SPAN("\"\\ud7ff\\ue000\""));
}

/* `depth` openings, something, and as many closings. */
static struct span nested(char *text, size_t depth, struct span opening,
			  const char *closing)
{
	size_t len = 0;

	for (size_t i = 0; i < depth; i++, len += opening.len)
		memcpy(text + len, opening.bytes, opening.len);
	text[len++] = '1';
	for (size_t i = 0; i < depth; i++)
		len += (size_t)sprintf(text + len, "%s", closing);
	return (struct span){text, len};
}

/* JSON is not called "not JSON" for being nested deeper than is read. */
static void check_depth(size_t depth, struct span opening, const char *closing)
{
	static char memory[8 * JSON_DEPTH_MAX];
	struct span text = nested(memory, depth, opening, closing);
	struct json_error error = {0};

	assert_true(text.len < sizeof(memory));
	if (depth <= JSON_DEPTH_MAX) {
		assert_json(text);
		return;
	}
	assert_int_equal(check_copy(text, &error), 400);
	assert_true(error.is_too_deep);
	assert_non_null(strstr(error.text, "nested more than 512 deep"));
	assert_null(strstr(error.text, "not JSON"));
}

static void depth_is_limited(void **state)
{
	static const struct {
		struct span opening;
		const char *closing;
	} kinds[] = {{{"[", 1}, "]"},
		     {{"{\"a\":", 5}, "}"},
		     {{"[0,", 3}, ",{}]"},
		     {{"{\"a\":", 5}, ",\"b\":[]}"}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		check_depth(1, kinds[i].opening, kinds[i].closing);
		check_depth(65, kinds[i].opening, kinds[i].closing);
		check_depth(JSON_DEPTH_MAX - 1, kinds[i].opening,
			    kinds[i].closing);
		check_depth(JSON_DEPTH_MAX + 1, kinds[i].opening,
			    kinds[i].closing);
	}
	check_depth(JSON_DEPTH_MAX, kinds[0].opening, kinds[0].closing);
	check_depth(JSON_DEPTH_MAX, kinds[1].opening, kinds[1].closing);
}

static void what_closes_must_be_what_was_opened(void **state)
{
	static char memory[8 * JSON_DEPTH_MAX];

	(void)state;
	/* Arrays and objects take turns, so that each place is told apart. */
	for (size_t wrong = 0; wrong < 256; wrong++) {
		size_t len = 0;
		for (size_t i = 0; i < 256; i++)
			len += (size_t)sprintf(memory + len, "%s",
					       i % 2 == 0 ? "[" : "{\"a\":");
		memory[len++] = '1';
		for (size_t i = 256; i-- > 0;)
			memory[len++] =
				(i % 2 == 0) != (i == wrong) ? ']' : '}';
		assert_not_json((struct span){memory, len});
		len -= wrong + 1;
		memory[len] = memory[len] == '}' ? ']' : '}';
		len += wrong + 1;
		assert_json((struct span){memory, len});
	}
}

/* A text of which nobody knows the rest, since it was not read. */
static void a_text_nested_too_deep_is_so_for_readers(void **state)
{
	static char memory[8 * JSON_DEPTH_MAX];
	struct json_publications p = {0};
	struct json_error error;

	(void)state;
	memset(memory, '[', 1000);
	assert_int_equal(
		json_read_publications(&p, (struct span){memory, 1000}, &error),
		400);
	assert_true(error.is_too_deep);
	assert_string_equal(error.text, "byte 513: arrays and objects are "
					"nested more than 512 deep");
	json_publications_fini(&p);
}

static void depth_counts_what_is_open_only(void **state)
{
	char text[4 * JSON_DEPTH_MAX];
	size_t len = 0;

	(void)state;
	text[len++] = '[';
	for (int i = 0; i < JSON_DEPTH_MAX; i++) {
		text[len++] = '[';
		text[len++] = ']';
		text[len++] = ',';
	}
	text[len++] = '0';
	text[len++] = ']';
	assert_json((struct span){text, len});
}

static void no_beginning_of_an_object_is_json(void **state)
{
	struct span text =
		SPAN("{\"topic\":\"a\\ud83d\\ude00\xc3\xa9\",\"data\""
		     ":[true,false,null,-1.5e+3,{\"\":\"\\n\"}]}");

	(void)state;
	assert_json(text);
	for (size_t len = 0; len < text.len; len++)
		assert_not_json((struct span){text.bytes, len});
}

static void an_error_says_what_and_where(void **state)
{
	(void)state;
	assert_problem(SPAN("{\"a\":1,\"b\":}"),
		       "text is not JSON: byte 12: a value was expected");
	assert_problem(SPAN("{\"a\":1,\"b\":"),
		       "text is not JSON: byte 12: a value was expected, but "
		       "the text ends");
	assert_problem(SPAN("{\"a\" 1}"),
		       "text is not JSON: byte 6: a colon was expected");
	assert_problem(SPAN("{a:1}"),
		       "text is not JSON: byte 2: a name in quotes was "
		       "expected");
	assert_problem(SPAN("{\"a\":1 \"b\":2}"),
		       "text is not JSON: byte 8: a comma or } was expected");
	assert_problem(SPAN("[1 2]"),
		       "text is not JSON: byte 4: a comma or ] was expected");
	assert_problem(SPAN("[-x]"),
		       "text is not JSON: byte 3: a digit was expected");
	assert_problem(SPAN("1 2"),
		       "text is not JSON: byte 3: the end was expected");
	assert_problem(SPAN("\"abc"),
		       "text is not JSON: byte 5: a closing quote was "
		       "expected, but the text ends");
	assert_problem(SPAN("\"a\nb\""),
		       "text is not JSON: byte 3: a control character is not "
		       "escaped");
	assert_problem(SPAN("\"a\\xb\""),
		       "text is not JSON: byte 4: an escape was expected");
	assert_problem(SPAN("\"\\u00x0\""),
		       "text is not JSON: byte 2: an escape needs four "
		       "hexadecimal digits");
	assert_problem(SPAN("\"ab\xff\""),
		       "text is not JSON: byte 4: a character is not UTF-8");
}

/* --- UTF-8 ---------------------------------------------------------------- */

static void a_string_has_every_character_in_its_shortest_form(void **state)
{
	static const uint32_t limits[] = {0, 0x80, 0x800, 0x10000, 0x200000};
	char text[6] = {0};

	(void)state;
	for (size_t len = 1; len <= 4; len++) {
		for (uint32_t c = 0; c < limits[len]; c++) {
			bool expected = len == utf8_shortest(c) &&
					c <= 0x10ffff &&
					(c < 0xd800 || c > 0xdfff);
			struct json_error error;
			if (c < 0x80 && len == 1)
				continue;
			utf8_encode_in(c, len, text + 1);
			text[0] = text[len + 1] = '"';
			if ((json_check((struct span){text, len + 2}, &error) ==
			     0) != expected)
				fail_msg("\"U+%X\" in %zu bytes", c, len);
		}
	}
}

/* --- publications --------------------------------------------------------- */

static void a_publication_has_topic_and_data(void **state)
{
	(void)state;
	assert_publication(SPAN("{\"topic\":\"a/b\",\"data\":\"hello\"}"),
			   SPAN("a/b"), SPAN("hello"));
	assert_publication(SPAN(" {\"data\" : \"hello\" , \"topic\":\"t\" } "),
			   SPAN("t"), SPAN("hello"));
}

static void empty_strings_are_present(void **state)
{
	(void)state;
	assert_publication(SPAN("{\"topic\":\"\",\"data\":\"\"}"), SPAN(""),
			   SPAN(""));
}

static void members_of_other_names_are_ignored(void **state)
{
	(void)state;
	assert_publication(SPAN("{\"x\":[1,{\"topic\":2}],\"topic\":\"t\",\"\":"
				"null,\"x\":{\"data\":\"no\"},\"data\":\"d\","
				"\"Topic\":1,\"DATA\":2,\"topic \":3}"),
			   SPAN("t"), SPAN("d"));
}

static void names_may_be_escaped(void **state)
{
	(void)state;
	assert_publication(
		SPAN("{\"\\u0074op\\u0069c\":\"t\",\"d\\u0061ta\":\"d\"}"),
		SPAN("t"), SPAN("d"));
}

static void a_name_with_u0000_is_not_cut_to_one_we_read(void **state)
{
	(void)state;
	assert_publication(SPAN("{\"topic\\u0000x\":\"no\",\"topic\":\"t\","
				"\"data\":\"d\",\"data\\u0000\":1}"),
			   SPAN("t"), SPAN("d"));
	assert_refused(SPAN("{\"topic\\u0000\":\"t\",\"data\":\"d\"}"), 422,
		       "missing member `topic`");
}

static void u0000_arrives_whole(void **state)
{
	(void)state;
	assert_publication(
		SPAN("{\"topic\":\"a\\u0000b\",\"data\":\"\\u0000c\\u0000\"}"),
		SPAN("a\0b"), SPAN("\0c\0"));
}

static void short_escapes_are_decoded(void **state)
{
	(void)state;
	assert_publication(
		SPAN("{\"topic\":\"\\\"\\\\\\/\",\"data\":\"a\\bb\\fc\\nd\\re"
		     "\\tf\\\\u0041\"}"),
		SPAN("\"\\/"), SPAN("a\bb\fc\nd\re\tf\\u0041"));
}

static void check_escape(uint32_t character)
{
	char text[64];
	char expected[4];
	size_t len = utf8_shortest(character);
	uint32_t rest = character - 0x10000;
	int used;

	utf8_encode_in(character, len, expected);
	if (character < 0x10000)
		used = snprintf(text, sizeof(text),
				"{\"topic\":\"\",\"data\":\"\\u%04x\"}",
				character);
	else
		used = snprintf(text, sizeof(text),
				"{\"topic\":\"\",\"data\":\"\\u%04X\\u%04x\"}",
				0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
	assert_publication((struct span){text, (size_t)used}, SPAN(""),
			   (struct span){expected, len});
}

static void every_escaped_character_becomes_utf8(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < 0x10000; c++) {
		if (c < 0xd800 || c > 0xdfff)
			check_escape(c);
	}
	for (uint32_t c = 0x10000; c < 0x110000; c += 0x3fd)
		check_escape(c);
	check_escape(0x10ffff);
}

static void unescaped_characters_stay_as_they_are(void **state)
{
	(void)state;
	assert_publication(
		SPAN("{\"topic\":\"\xd1\x81\xd0\xbf\xd0\xbe\xd1\x80\xd1\x82\","
		     "\"data\":\"\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}"),
		SPAN("\xd1\x81\xd0\xbf\xd0\xbe\xd1\x80\xd1\x82"),
		SPAN("\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

static void a_missing_member_is_named(void **state)
{
	(void)state;
	assert_refused(SPAN("{}"), 422, "missing member `topic`");
	assert_refused(SPAN("{\"data\":\"d\"}"), 422, "missing member `topic`");
	assert_refused(SPAN("{\"topic\":\"t\"}"), 422, "missing member `data`");
	assert_refused(SPAN("{\"Topic\":\"t\",\"data\":\"d\"}"), 422,
		       "missing member `topic`");
}

static void a_wrong_type_is_named(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"topic\":1,\"data\":\"d\"}"), 422,
		       "`topic` must be a string, not a number");
	assert_refused(SPAN("{\"topic\":null,\"data\":\"d\"}"), 422,
		       "`topic` must be a string, not null");
	assert_refused(SPAN("{\"topic\":true,\"data\":\"d\"}"), 422,
		       "`topic` must be a string, not a boolean");
	assert_refused(SPAN("{\"data\":1,\"topic\":{}}"), 422,
		       "`topic` must be a string, not an object");
	assert_refused(SPAN("{\"topic\":[\"t\"]}"), 422,
		       "`topic` must be a string, not an array");
}

static void a_text_that_is_no_object_is_refused(void **state)
{
	(void)state;
	assert_refused(SPAN("\"topic\""), 422,
		       "an object was expected, not a string");
	assert_refused(SPAN(" null "), 422, "an object was expected, not null");
	assert_refused(SPAN("0"), 422, "an object was expected, not a number");
	assert_refused(SPAN("true"), 422,
		       "an object was expected, not a boolean");
}

static void a_member_named_twice_is_refused(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"topic\":\"t\",\"topic\":\"t\",\"data\":\"d\"}"),
		       422, "`topic` is there twice");
	assert_refused(SPAN("{\"topic\":\"t\",\"data\":\"\",\"d\\u0061ta\":1}"),
		       422, "`data` is there twice");
}

static void what_is_not_json_is_no_publication(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"topic\":\"t\",\"data\":\"d\"} x"), 400,
		       "text is not JSON: byte 26: the end was expected");
	assert_refused(SPAN("{\"topic\":1,\"data\":\"\xff\"}"), 400,
		       "text is not JSON: byte 20: a character is not UTF-8");
}

/* An object of topic, data and `others` more. */
static struct span with_members(char *out, size_t others)
{
	size_t len = (size_t)sprintf(out, "{\"topic\":\"t\"");

	for (size_t i = 0; i < others; i++)
		len += (size_t)sprintf(out + len, ",\"m%zu\":%zu", i, i);
	len += (size_t)sprintf(out + len, ",\"data\":\"d\"}");
	return (struct span){out, len};
}

static void an_object_may_have_any_number_of_members(void **state)
{
	static char text[1048576];

	(void)state;
	assert_publication(with_members(text, 62), SPAN("t"), SPAN("d"));
	assert_publication(with_members(text, 50000), SPAN("t"), SPAN("d"));
}

static void data_may_have_any_number_of_values(void **state)
{
	static char text[1048576];
	struct json_publications p = {0};
	size_t len = (size_t)sprintf(text, "{\"topic\":\"t\",\"data\":[0");

	(void)state;
	for (size_t i = 0; i < 400000; i++)
		len += (size_t)sprintf(text + len, ",%zu", i % 10);
	len += (size_t)sprintf(text + len, "]}");
	read_publications(&p, (struct span){text, len});
	assert_int_equal(p.all[0].data.text.len, 800003);
	json_publications_fini(&p);
}

static void an_array_has_at_most_16384_publications(void **state)
{
	static const char item[] = "{\"topic\":\"t\",\"data\":12},";
	struct json_publications p = {0};
	char *text = malloc((JSON_PUBLICATIONS_MAX + 1) * strlen(item) + 3);
	size_t len = 1;

	(void)state;
	assert_non_null(text);
	text[0] = '[';
	for (size_t i = 0; i < JSON_PUBLICATIONS_MAX; i++, len += strlen(item))
		memcpy(text + len, item, strlen(item));
	text[len - 1] = ']';
	read_publications(&p, (struct span){text, len});
	assert_int_equal(p.count, JSON_PUBLICATIONS_MAX);
	assert_span(p.all[JSON_PUBLICATIONS_MAX - 1].data.text, SPAN("12"));
	text[len - 1] = ',';
	memcpy(text + len, "1]", 2);
	assert_refused((struct span){text, len + 2}, 422,
		       "too many publications, at most 16384 allowed");
	memcpy(text + len, "1}", 2);
	assert_refused((struct span){text, len + 2}, 400,
		       "text is not JSON: byte 393219: a comma or ] was "
		       "expected");
	json_publications_fini(&p);
	free(text);
}

static void members_inside_members_do_not_count(void **state)
{
	char inner[1024];
	char text[2048];
	int len;

	(void)state;
	with_members(inner, 70);
	len = snprintf(text, sizeof(text),
		       "{\"x\":[%s],\"y\":%s,\"topic\":\"t\",\"data\":\"d\"}",
		       inner, inner);
	assert_publication((struct span){text, (size_t)len}, SPAN("t"),
			   SPAN("d"));
}

static void publications_may_be_read_again_into_the_same_memory(void **state)
{
	struct json_publications p = {0};
	struct json_error error;
	const struct json_publication *all;
	const char *memory;

	(void)state;
	read_publications(&p, SPAN("[{\"topic\":\"tttttttttttttttttttttttttt\","
				   "\"data\":\"ddddddddddddddddddddddddddddd\"}"
				   ",{\"topic\":\"\",\"data\":null}]"));
	all = p.all;
	memory = p.memory.bytes;
	assert_int_equal(json_read_publications(&p, SPAN("{}"), &error), 422);
	assert_int_equal(json_read_publications(&p, SPAN("{"), &error), 400);
	read_publications(&p, SPAN("{\"topic\":\"u\",\"data\":\"e\"}"));
	assert_ptr_equal(p.all, all);
	assert_ptr_equal(p.memory.bytes, memory);
	assert_int_equal(p.count, 1);
	assert_false(p.is_array);
	assert_span(p.all[0].topic, SPAN("u"));
	assert_span(p.all[0].data.text, SPAN("e"));
	json_publications_fini(&p);
}

#define TRACEPARENT_REST                                                       \
	"0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void a_publication_may_have_an_event(void **state)
{
	struct json_publications p = {0};

	(void)state;
	read_publications(&p, SPAN("[{\"event\":\"g\\u00f6l\",\"topic\":\"t\","
				   "\"data\":1},{\"topic\":\"t\",\"data\":1,"
				   "\"event\":\"\"},{\"topic\":\"t\","
				   "\"data\":{\"event\":\"no\"}}]"));
	assert_span(p.all[0].data.event, SPAN("g\xc3\xb6l"));
	assert_null(p.all[1].data.event.bytes);
	assert_null(p.all[2].data.event.bytes);
	json_publications_fini(&p);
	read_publications(
		&p, SPAN("[{\"topic\":\"t\",\"data\":\"x\",\"event\":\"e\","
			 "\"traceparent\":\"\\u0030" TRACEPARENT_REST "\"},"
			 "{\"traceparent\":\"0\",\"topic\":\"t\",\"data\":1},"
			 "{\"traceparent\":{},\"topic\":\"t\",\"data\":1},"
			 "{\"topic\":\"t\",\"data\":1}]"));
	assert_span(p.all[0].data.traceparent, SPAN("0" TRACEPARENT_REST));
	assert_span(p.all[0].data.text, SPAN("x"));
	for (size_t i = 1; i < 4; i++) {
		assert_null(p.all[i].data.traceparent.bytes);
		assert_span(p.all[i].data.text, SPAN("1"));
	}
	json_publications_fini(&p);
	assert_refused(SPAN("{\"topic\":\"t\",\"data\":1,\"event\":null}"), 422,
		       "`event` must be a string, not null");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1},"
			    "{\"topic\":\"t\",\"data\":1,\"event\":\"a\\r\"}]"),
		       422, "item 2: `event` has a line end or U+0000");
}

/* `before`, so many letters, and `after`. */
static struct span with_name(char *out, const char *before, size_t letters,
			     const char *after)
{
	return (struct span){out, (size_t)sprintf(out, "%s%0*d%s", before,
						  (int)letters, 0, after)};
}

static void a_topic_has_at_most_1024_bytes_decoded(void **state)
{
	static char text[8192];
	struct json_publications p = {0};
	struct json_subscription s = {0};
	struct json_error error;
	size_t len = (size_t)sprintf(text, "{\"data\":1,\"topic\":\"");

	(void)state;
	for (size_t i = 0; i < NAME_MAX_BYTES; i++)
		len += (size_t)sprintf(text + len, "\\u0001");
	memcpy(text + len, "\"}", 3);
	read_publications(&p, span_of(text));
	assert_int_equal(p.all[0].topic.len, NAME_MAX_BYTES);
	json_publications_fini(&p);
	assert_refused(with_name(text, "{\"data\":1,\"topic\":\"",
				 NAME_MAX_BYTES + 1, "\"}"),
		       422, "`topic` has more than 1024 bytes");
	assert_refused(with_name(text,
				 "[{\"data\":1,\"topic\":\"\"},"
				 "{\"data\":1,\"topic\":\"",
				 NAME_MAX_BYTES + 1, "\"}]"),
		       422, "item 2: `topic` has more than 1024 bytes");
	assert_int_equal(
		json_read_subscription(
			&s,
			with_name(text, "{\"topic\":\"\",\"publisher\":\"",
				  NAME_MAX_BYTES + 1, "\"}"),
			&error),
		422);
	assert_string_equal(error.text, "`publisher` has more than 1024 bytes");
	buf_fini(&s.memory);
}

/* --- data of any kind ----------------------------------------------------- */

static void data_may_be_any_value(void **state)
{
	(void)state;
	assert_data("null", "null");
	assert_data("true", "true");
	assert_data("false", "false");
	assert_data("0", "0");
	assert_data("{}", "{}");
	assert_data("[]", "[]");
	assert_data("{\"a\":[1,{\"b\":null}],\"\":\"\"}",
		    "{\"a\":[1,{\"b\":null}],\"\":\"\"}");
}

static void numbers_and_escapes_stay_as_they_were_written(void **state)
{
	(void)state;
	assert_data("-0.0", "-0.0");
	assert_data("1.50E+02", "1.50E+02");
	assert_data("123456789012345678901234567890",
		    "123456789012345678901234567890");
	assert_data("1e999", "1e999");
	assert_data("[\"\\u0041\\/\\u0000\",\"\xc3\xa9\"]",
		    "[\"\\u0041\\/\\u0000\",\"\xc3\xa9\"]");
	assert_data("{\"a\":1,\"a\":2}", "{\"a\":1,\"a\":2}");
}

static void space_goes_but_in_strings(void **state)
{
	(void)state;
	assert_data(" \t\r\n[ \t\r\n1 , 2 ,\n[ ] , { } ] \t\r\n",
		    "[1,2,[],{}]");
	assert_data("{ \" a b \" : \" \\\" \" , \"\\\\\" : \" \\\\\" }",
		    "{\" a b \":\" \\\" \",\"\\\\\":\" \\\\\"}");
	assert_data("[ \"\\\\\\\" , \" , \" , \" ]",
		    "[\"\\\\\\\" , \",\" , \"]");
}

/* --- arrays --------------------------------------------------------------- */

static void an_array_holds_publications_in_their_order(void **state)
{
	struct json_publications p = {0};

	(void)state;
	read_publications(
		&p, SPAN(" [ {\"topic\":\"a\",\"data\":\"1\\n\"} ,\n{\"data\":"
			 "[ 2 ],\"x\":[{\"topic\":1}],\"topic\":\"b\\u0000\"},"
			 "{\"topic\":\"a\",\"data\":\"\"} ] "));
	assert_true(p.is_array);
	assert_int_equal(p.count, 3);
	assert_span(p.all[0].topic, SPAN("a"));
	assert_span(p.all[0].data.text, SPAN("1\n"));
	assert_false(p.all[0].data.is_json);
	assert_span(p.all[1].topic, SPAN("b\0"));
	assert_span(p.all[1].data.text, SPAN("[2]"));
	assert_true(p.all[1].data.is_json);
	assert_span(p.all[2].topic, SPAN("a"));
	assert_span(p.all[2].data.text, SPAN(""));
	assert_false(p.all[2].data.is_json);
	json_publications_fini(&p);
}

static void an_array_of_one_is_an_array(void **state)
{
	struct json_publications p = {0};

	(void)state;
	read_publications(&p, SPAN("[{\"topic\":\"t\",\"data\":\"d\"}]"));
	assert_true(p.is_array);
	assert_int_equal(p.count, 1);
	assert_span(p.all[0].data.text, SPAN("d"));
	json_publications_fini(&p);
}

static void an_array_may_be_empty(void **state)
{
	struct json_publications p = {0};

	(void)state;
	read_publications(&p, SPAN("[ ]"));
	assert_true(p.is_array);
	assert_int_equal(p.count, 0);
	json_publications_fini(&p);
}

static void an_error_in_an_array_names_the_item(void **state)
{
	(void)state;
	assert_refused(SPAN("[{\"topic\":\"t\"}]"), 422,
		       "item 1: missing member `data`");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1},{\"data\":1}]"), 422,
		       "item 2: missing member `topic`");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1},{\"data\":1,"
			    "\"topic\":2},3]"),
		       422, "item 2: `topic` must be a string, not a number");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1,\"data\":1}]"), 422,
		       "item 1: `data` is there twice");
	assert_refused(SPAN("[[{\"topic\":\"t\",\"data\":1}]]"), 422,
		       "item 1: an object was expected, not an array");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1},null]"), 422,
		       "item 2: an object was expected, not null");
	assert_refused(SPAN("[{\"topic\":\"t\",\"data\":1},]"), 400,
		       "text is not JSON: byte 25: a value was expected");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_value_is_json),
		cmocka_unit_test(numbers_follow_the_grammar),
		cmocka_unit_test(a_number_may_be_of_any_length),
		cmocka_unit_test(words_are_exact),
		cmocka_unit_test(only_four_characters_are_space),
		cmocka_unit_test(a_byte_order_mark_is_refused),
		cmocka_unit_test(structure_is_exact),
		cmocka_unit_test(nothing_may_follow),
		cmocka_unit_test(an_empty_or_absent_text_is_refused),
		cmocka_unit_test(control_characters_must_be_escaped),
		cmocka_unit_test(a_bad_character_is_found_wherever_it_stands),
		cmocka_unit_test(escapes_are_those_of_the_grammar),
		cmocka_unit_test(a_lone_surrogate_is_refused),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(what_closes_must_be_what_was_opened),
		cmocka_unit_test(a_text_nested_too_deep_is_so_for_readers),
		cmocka_unit_test(depth_counts_what_is_open_only),
		cmocka_unit_test(no_beginning_of_an_object_is_json),
		cmocka_unit_test(an_error_says_what_and_where),
		cmocka_unit_test(
			a_string_has_every_character_in_its_shortest_form),
		cmocka_unit_test(a_publication_has_topic_and_data),
		cmocka_unit_test(empty_strings_are_present),
		cmocka_unit_test(members_of_other_names_are_ignored),
		cmocka_unit_test(names_may_be_escaped),
		cmocka_unit_test(a_name_with_u0000_is_not_cut_to_one_we_read),
		cmocka_unit_test(u0000_arrives_whole),
		cmocka_unit_test(short_escapes_are_decoded),
		cmocka_unit_test(every_escaped_character_becomes_utf8),
		cmocka_unit_test(unescaped_characters_stay_as_they_are),
		cmocka_unit_test(a_missing_member_is_named),
		cmocka_unit_test(a_wrong_type_is_named),
		cmocka_unit_test(a_text_that_is_no_object_is_refused),
		cmocka_unit_test(a_member_named_twice_is_refused),
		cmocka_unit_test(what_is_not_json_is_no_publication),
		cmocka_unit_test(an_object_may_have_any_number_of_members),
		cmocka_unit_test(data_may_have_any_number_of_values),
		cmocka_unit_test(an_array_has_at_most_16384_publications),
		cmocka_unit_test(members_inside_members_do_not_count),
		cmocka_unit_test(
			publications_may_be_read_again_into_the_same_memory),
		cmocka_unit_test(a_publication_may_have_an_event),
		cmocka_unit_test(a_topic_has_at_most_1024_bytes_decoded),
		cmocka_unit_test(data_may_be_any_value),
		cmocka_unit_test(numbers_and_escapes_stay_as_they_were_written),
		cmocka_unit_test(space_goes_but_in_strings),
		cmocka_unit_test(an_array_holds_publications_in_their_order),
		cmocka_unit_test(an_array_of_one_is_an_array),
		cmocka_unit_test(an_array_may_be_empty),
		cmocka_unit_test(an_error_in_an_array_names_the_item),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
