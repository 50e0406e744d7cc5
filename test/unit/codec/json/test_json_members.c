/* test_json_members.c - subscriptions, members, lack of memory, writing
 * (json.h) */

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

/* --- subscriptions -------------------------------------------------------- */

static void a_subscription_has_publisher_and_topic(void **state)
{
	struct json_subscription s = {0};
	struct json_error error;

	(void)state;
	assert_int_equal(json_read_subscription(&s,
						SPAN("{\"topic\":\"t\\u00e9\","
						     "\"publisher\":\"news\"}"),
						&error),
			 0);
	assert_span(s.publisher, SPAN("news"));
	assert_span(s.topic, SPAN("t\xc3\xa9"));
	buf_fini(&s.memory);
}

static void a_subscription_follows_the_same_rules(void **state)
{
	struct json_subscription s = {0};
	struct json_error error;

	(void)state;
	assert_int_equal(
		json_read_subscription(&s, SPAN("{\"topic\":\"t\"}"), &error),
		422);
	assert_string_equal(error.text, "missing member `publisher`");
	assert_int_equal(
		json_read_subscription(
			&s, SPAN("{\"publisher\":[],\"topic\":\"t\"}"), &error),
		422);
	assert_string_equal(error.text,
			    "`publisher` must be a string, not an array");
	assert_int_equal(json_read_subscription(&s, SPAN("{"), &error), 400);
	buf_fini(&s.memory);
}

/* --- members -------------------------------------------------------------- */

/* Reads `text` for a string `s`, which must be there, a number or string `r`,
 * and anything `a`. */
static int read_members(struct span text, struct json_member wanted[3],
			struct buf *memory, struct json_error *error)
{
	const struct json_member all[] = {
		{"s", .kinds = JSON_STRING, .is_required = true},
		{"r", .kinds = JSON_STRING + JSON_NUMBER},
		{"a", .kinds = JSON_ANY},
	};

	memcpy(wanted, all, sizeof(all));
	for (size_t i = 0; i < 3; i++) { /* it must not matter */
		wanted[i].raw = wanted[i].value = SPAN("old");
		wanted[i].is_string = true;
	}
	return json_read_members(text, wanted, 3, memory, error);
}

static void members_are_read_by_what_they_may_be(void **state)
{
	struct json_member wanted[3];
	struct json_error error;
	struct buf memory = {0};

	(void)state;
	assert_int_equal(
		read_members(SPAN("{\"r\":1.0,\"s\":\"\\n\",\"a\":[ ]}"),
			     wanted, &memory, &error),
		0);
	assert_span(wanted[0].value, SPAN("\n"));
	assert_span(wanted[0].raw, SPAN("\"\\n\""));
	assert_true(wanted[0].is_string);
	assert_span(wanted[1].value, SPAN("1.0"));
	assert_false(wanted[1].is_string);
	assert_span(wanted[2].value, SPAN("[]"));
	assert_span(wanted[2].raw, SPAN("[ ]"));
	assert_false(wanted[2].is_string);
	buf_fini(&memory);
}

static void a_member_that_may_be_missing_is_absent(void **state)
{
	struct json_member wanted[3];
	struct json_error error;
	struct buf memory = {0};

	(void)state;
	assert_int_equal(
		read_members(SPAN("{\"s\":\"\"}"), wanted, &memory, &error), 0);
	assert_span(wanted[0].value, SPAN(""));
	for (size_t i = 1; i < 3; i++) {
		assert_null(wanted[i].value.bytes);
		assert_null(wanted[i].raw.bytes);
		assert_false(wanted[i].is_string);
	}
	buf_fini(&memory);
}

static void nothing_may_be_wanted(void **state)
{
	struct json_error error;
	struct buf memory = {0};

	(void)state;
	assert_int_equal(
		json_read_members(SPAN("{\"a\":1}"), NULL, 0, &memory, &error),
		0);
	assert_int_equal(
		json_read_members(SPAN("[]"), NULL, 0, &memory, &error), 422);
	buf_fini(&memory);
}

static void an_error_names_every_kind_that_may_be(void **state)
{
	struct json_member number = {"n", .kinds = JSON_NUMBER};
	struct json_member wanted[3];
	struct json_error error;
	struct buf memory = {0};

	(void)state;
	assert_int_equal(read_members(SPAN("{\"r\":null,\"s\":\"\"}"), wanted,
				      &memory, &error),
			 422);
	assert_string_equal(error.text,
			    "`r` must be a string or a number, not null");
	assert_int_equal(json_read_members(SPAN("{\"n\":\"\"}"), &number, 1,
					   &memory, &error),
			 422);
	assert_string_equal(error.text, "`n` must be a number, not a string");
	buf_fini(&memory);
}

static void after_an_error_the_raw_members_are_there(void **state)
{
	struct json_member wanted[3];
	struct json_error error;
	struct buf memory = {0};

	(void)state;
	assert_int_equal(read_members(SPAN("{\"s\":1,\"a\":2,\"r\":\"\\u0041\","
					   "\"a\":3}"),
				      wanted, &memory, &error),
			 422);
	assert_string_equal(error.text, "`s` must be a string, not a number");
	assert_null(wanted[0].raw.bytes);
	assert_span(wanted[1].raw, SPAN("\"\\u0041\""));
	assert_span(wanted[2].raw, SPAN("2"));
	assert_int_equal(
		read_members(SPAN("{\"r\":7}"), wanted, &memory, &error), 422);
	assert_string_equal(error.text, "missing member `s`");
	assert_span(wanted[1].raw, SPAN("7"));
	assert_int_equal(
		read_members(SPAN("{\"r\":7,}"), wanted, &memory, &error), 400);
	assert_null(wanted[1].raw.bytes);
	buf_fini(&memory);
}

static void a_text_is_room_enough_for_its_members(void **state)
{
	struct span text =
		SPAN("{\"s\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\","
		     "\"r\":12345678901234567890123456789012345678,"
		     "\"a\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}");
	struct json_member wanted[3];
	struct json_error error;
	struct buf memory = {0};
	const char *bytes;

	(void)state;
	assert_int_equal(buf_reserve(&memory, text.len), 0);
	bytes = memory.bytes;
	assert_int_equal(read_members(text, wanted, &memory, &error), 0);
	assert_ptr_equal(memory.bytes, bytes);
	assert_int_equal(memory.len, wanted[0].value.len + wanted[1].value.len +
					     wanted[2].value.len);
	buf_fini(&memory);
}

/* --- memory --------------------------------------------------------------- */

static unsigned allocations_left;

static void *allocate(size_t size)
{
	if (allocations_left == 0)
		return NULL;
	allocations_left--;
	return malloc(size);
}

static int limit_allocations(void **state)
{
	cJSON_Hooks hooks = {allocate, free};

	(void)state;
	cJSON_InitHooks(&hooks);
	return 0;
}

static int unlimit_allocations(void **state)
{
	(void)state;
	cJSON_InitHooks(NULL);
	return 0;
}

static void without_memory_for_cjson_an_escaped_name_is_a_500(void **state)
{
	struct json_publications p = {0};
	struct json_error error;
	struct span text = SPAN("{\"t\\u006fpic\":\"t\",\"data\":\"d\"}");
	unsigned given = 0;

	(void)state;
	for (;; given++) {
		allocations_left = given;
		if (json_read_publications(&p, text, &error) == 0)
			break;
		assert_int_equal(error.status, 500);
		assert_string_equal(error.text, "out of memory");
	}
	assert_true(given > 1);
	assert_span(p.all[0].data.text, SPAN("d"));
	json_publications_fini(&p);
}

/* What the scan has read, cJSON does not read again. */
static void a_usual_text_needs_no_cjson(void **state)
{
	struct json_publications p = {0};

	(void)state;
	allocations_left = 0;
	read_publications(&p, SPAN("[{\"topic\":\"t\\u00e9\",\"data\":[1,"
				   "{\"\\u0061\":2}],\"\\u0000\":3}]"));
	assert_span(p.all[0].data.text, SPAN("[1,{\"\\u0061\":2}]"));
	json_publications_fini(&p);
}

static void without_memory_publications_are_a_500(void **state)
{
	struct span text = SPAN("[{\"topic\":\"t\",\"data\":\"d\"},"
				"{\"topic\":\"t\",\"data\":[1]}]");
	unsigned nth = 0;
	int status;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct json_publications p = {0};
		struct json_error error = {0};
		oom_fail_at(++nth);
		status = json_read_publications(&p, text, &error);
		assert_int_equal(status, oom_end() ? 500 : 0);
		assert_int_equal(error.status, status);
		/* What was too much for it does it no harm. */
		read_publications(&p, text);
		assert_span(p.all[1].data.text, SPAN("[1]"));
		json_publications_fini(&p);
	} while (status != 0);
	assert_true(nth > 2);
}

static void without_memory_members_are_a_500(void **state)
{
	struct span text = SPAN("{\"t\\u006fpic\":\"t\"}");
	unsigned nth = 0;
	int status;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct json_member wanted = {"topic", .kinds = JSON_STRING};
		struct json_error error = {0};
		struct buf memory = {0};
		oom_fail_at(++nth);
		status = json_read_members(text, &wanted, 1, &memory, &error);
		assert_int_equal(status, oom_end() ? 500 : 0);
		assert_int_equal(error.status, status);
		buf_fini(&memory);
	} while (status != 0);
	assert_true(nth > 2);
}

/* An array of publications, `data_len` bytes of data in each. */
static struct span with_items(struct buf *out, size_t items, size_t data_len)
{
	static const char start[] = "{\"topic\":\"t\",\"data\":\"";

	out->len = 0;
	for (size_t i = 0; i < items; i++) {
		assert_int_equal(buf_append(out, i == 0 ? "[" : ",", 1), 0);
		assert_int_equal(buf_append(out, start, strlen(start)), 0);
		assert_int_equal(buf_reserve(out, data_len), 0);
		memset(out->bytes + out->len, 'd', data_len);
		out->len += data_len;
		assert_int_equal(buf_append(out, "\"}", 2), 0);
	}
	assert_int_equal(buf_append(out, "]", 1), 0);
	return (struct span){out->bytes, out->len};
}

static void memory_that_grew_large_is_not_kept(void **state)
{
	enum {
		SMALL = 65536
	};
	struct json_publications p = {0};
	struct buf text = {0};

	(void)state;
	read_publications(&p, with_items(&text, 5000, 100));
	assert_true(p.memory.cap > SMALL);
	assert_true(p.cap * sizeof(*p.all) > SMALL);
	read_publications(&p, with_items(&text, 3, 10));
	assert_span(p.all[2].data.text, SPAN("dddddddddd"));
	assert_true(p.memory.cap <= SMALL);
	assert_true(p.cap * sizeof(*p.all) <= SMALL);
	json_publications_fini(&p);
	buf_fini(&text);
}

static void large_memory_is_kept_for_another_large_text(void **state)
{
	struct json_publications p = {0};
	struct buf text = {0};
	const char *memory;

	(void)state;
	read_publications(&p, with_items(&text, 1, 200000));
	memory = p.memory.bytes;
	read_publications(&p, with_items(&text, 1, 199999));
	assert_ptr_equal(p.memory.bytes, memory);
	json_publications_fini(&p);
	buf_fini(&text);
}

/* --- write ---------------------------------------------------------------- */

static void an_error_is_appended_as_json(void **state)
{
	struct buf out = {0};
	struct json_error error;

	(void)state;
	assert_int_equal(json_write_error(&out, "Wrong credentials"), 0);
	assert_span((struct span){out.bytes, out.len},
		    SPAN("{\"error\":\"Wrong credentials\"}"));
	out.len = 0;
	assert_int_equal(json_write_error(&out, "a \"b\" \\ \n\x01 \xc3\xa9"),
			 0);
	assert_span((struct span){out.bytes, out.len},
		    SPAN("{\"error\":\"a \\\"b\\\" \\\\ \\n\\u0001 "
			 "\xc3\xa9\"}"));
	assert_int_equal(json_check((struct span){out.bytes, out.len}, &error),
			 0);
	buf_fini(&out);
}

static void assert_written(struct span text, struct span expected)
{
	struct buf out = {0};

	assert_int_equal(buf_append(&out, "x", 1), 0);
	assert_int_equal(json_write_string(&out, text), 0);
	assert_span((struct span){out.bytes + 1, out.len - 1}, expected);
	buf_fini(&out);
}

static void a_string_is_written_as_it_is_if_it_can_be(void **state)
{
	(void)state;
	assert_written(SPAN("hello/world, it is me!"),
		       SPAN("\"hello/world, it is me!\""));
	assert_written(SPAN("\x7f"), SPAN("\"\x7f\""));
	assert_written(SPAN("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
		       SPAN("\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""));
}

static void quotes_backslashes_and_controls_are_escaped(void **state)
{
	(void)state;
	assert_written(SPAN("\"\\\b\f\n\r\t"),
		       SPAN("\"\\\"\\\\\\b\\f\\n\\r\\t\""));
	for (char c = 0; c < 0x20; c++) {
		char expected[16];
		if (c != '\0' && strchr("\b\f\n\r\t", c) != NULL)
			continue;
		snprintf(expected, sizeof(expected), "\"\\u%04x\"",
			 (unsigned)c);
		assert_written((struct span){&c, 1}, span_of(expected));
	}
}

static void line_and_paragraph_separators_are_escaped(void **state)
{
	(void)state;
	assert_written(SPAN("a\xe2\x80\xa8"
			    "b\xe2\x80\xa9"),
		       SPAN("\"a\\u2028b\\u2029\""));
	assert_written(SPAN("\xe2\x80\xa7\xe2\x80\xaa\xe2\x81\xa8"),
		       SPAN("\"\xe2\x80\xa7\xe2\x80\xaa\xe2\x81\xa8\""));
}

/* Eight characters are looked at at a time. */
static void an_escape_is_made_wherever_it_is_needed(void **state)
{
	static const char *const special[] = {"\x1f", "\"", "\\",
					      "\xe2\x80\xa8"};
	static const char *const escaped[] = {"\\u001f", "\\\"", "\\\\",
					      "\\u2028"};
	char text[64];
	char expected[64];

	(void)state;
	for (size_t i = 0; i < sizeof(special) / sizeof(*special); i++) {
		for (int at = 0; at < 20; at++) {
			snprintf(text, sizeof(text), "%.*s%s%.*s", at,
				 "\x7f\x20!#[]~xxxxxxxxxxxxx", special[i],
				 20 - at, "xxxxxxxxxxxxxxxxxxxx");
			snprintf(expected, sizeof(expected), "\"%.*s%s%.*s\"",
				 at, "\x7f\x20!#[]~xxxxxxxxxxxxx", escaped[i],
				 20 - at, "xxxxxxxxxxxxxxxxxxxx");
			assert_written(span_of(text), span_of(expected));
		}
	}
}

static void a_written_string_is_read_as_it_was(void **state)
{
	char every[128 + 8];
	struct buf out = {0};

	(void)state;
	for (size_t i = 0; i < 128; i++)
		every[i] = (char)i;
	memcpy(every + 128, "\xe2\x80\xa8\xf0\x9f\x98\x80.", 8);
	assert_int_equal(buf_append(&out, "{\"topic\":\"t\",\"data\":", 20), 0);
	assert_int_equal(
		json_write_string(&out, (struct span){every, sizeof(every)}),
		0);
	assert_int_equal(buf_append(&out, "}", 1), 0);
	assert_publication((struct span){out.bytes, out.len}, SPAN("t"),
			   (struct span){every, sizeof(every)});
	buf_fini(&out);
}

static void an_empty_or_absent_string_is_written_empty(void **state)
{
	(void)state;
	assert_written(SPAN(""), SPAN("\"\""));
	assert_written((struct span){NULL, 0}, SPAN("\"\""));
}

/* One piece of a text, and how it is written. */
struct piece {
	struct span text;
	struct span written;
};

/* A long one is written in steps, and eight bytes at a time. */
static void a_long_string_is_written_as_its_pieces_are(void **state)
{
	const struct piece pieces[] = {
		{SPAN("a"), SPAN("a")},
		{SPAN("0123456789"), SPAN("0123456789")},
		{SPAN("\x01"), SPAN("\\u0001")},
		{SPAN("\n"), SPAN("\\n")},
		{SPAN("\""), SPAN("\\\"")},
		{SPAN("\xe2\x80\xa8"), SPAN("\\u2028")},
		{SPAN("\xe2\x80\xa9"), SPAN("\\u2029")},
		{SPAN("\xe2\x82\xac"), SPAN("\xe2\x82\xac")},
	};
	const uint32_t count = sizeof pieces / sizeof pieces[0];
	uint32_t random = 1;
	(void)state;

	for (int run = 0; run < 200; run++) {
		struct buf text = {0};
		struct buf expected = {0};
		assert_int_equal(buf_append(&expected, "\"", 1), 0);
		while (text.len < 2500) {
			random = random * 1103515245 + 12345;
			const struct piece *p = &pieces[(random >> 16) % count];
			assert_int_equal(
				buf_append(&text, p->text.bytes, p->text.len),
				0);
			assert_int_equal(buf_append(&expected, p->written.bytes,
						    p->written.len),
					 0);
		}
		assert_int_equal(buf_append(&expected, "\"", 1), 0);
		assert_written((struct span){text.bytes, text.len},
			       (struct span){expected.bytes, expected.len});
		buf_fini(&text);
		buf_fini(&expected);
	}
}

/* The processor's time to write `piece` again and again, nanoseconds: the least
 * of several. */
static uint64_t cost_to_write(struct span piece)
{
	char text[1 << 18];
	size_t len = sizeof text / piece.len * piece.len;
	struct buf out = {0};
	uint64_t least = UINT64_MAX;

	for (size_t i = 0; i < len; i++)
		text[i] = piece.bytes[i % piece.len];
	for (int run = 0; run < 9; run++) {
		struct timespec from;
		struct timespec to;
		out.len = 0;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		assert_int_equal(
			json_write_string(&out, (struct span){text, len}), 0);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		uint64_t took =
			(uint64_t)(to.tv_sec - from.tv_sec) * 1000000000 +
			(uint64_t)to.tv_nsec - (uint64_t)from.tv_nsec;
		least = took < least ? took : least;
	}
	buf_fini(&out);
	return least;
}

/* A loop writes a whole message at once. It is 5 times; byte by byte it was 30.
 */
static void no_string_costs_many_times_its_bytes(void **state)
{
	const struct span hostile[] = {
		SPAN("\x01"),        SPAN("\n"),           SPAN("a\x01"),
		SPAN("1234567\x01"), SPAN("\xe2\x98\x83"), SPAN("\xe2\x80\xa8"),
	};
	(void)state;

#ifdef OOM_SANITIZED
	skip();
#endif
	uint64_t plain = cost_to_write(SPAN("x"));
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		uint64_t cost = cost_to_write(hostile[i]);
		if (cost > 15 * plain)
			fail_msg("%zu: %llu ns, a plain one %llu ns", i,
				 (unsigned long long)cost,
				 (unsigned long long)plain);
	}
}

static int write_string(struct buf *out, const char *text)
{
	return json_write_string(out, span_of(text));
}

/* Returns how many allocations it took. */
static unsigned check_without_memory(int (*write)(struct buf *, const char *))
{
	char text[5000] = "";
	unsigned nth = 0;
	int rv;

	memset(text, '\n', sizeof(text) - 1);
	do {
		struct buf out = {0};
		assert_int_equal(buf_append(&out, "x", 1), 0);
		oom_fail_at(++nth);
		rv = write(&out, text);
		assert_int_equal(rv, oom_end() ? -ENOMEM : 0);
		assert_int_equal(out.len == 1, rv != 0);
		assert_int_equal(out.bytes[0], 'x');
		buf_fini(&out);
	} while (rv != 0);
	return nth - 1;
}

static void without_memory_nothing_is_written(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	assert_true(check_without_memory(write_string) > 1);
	assert_true(check_without_memory(json_write_error) > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_subscription_has_publisher_and_topic),
		cmocka_unit_test(a_subscription_follows_the_same_rules),
		cmocka_unit_test(members_are_read_by_what_they_may_be),
		cmocka_unit_test(a_member_that_may_be_missing_is_absent),
		cmocka_unit_test(nothing_may_be_wanted),
		cmocka_unit_test(an_error_names_every_kind_that_may_be),
		cmocka_unit_test(after_an_error_the_raw_members_are_there),
		cmocka_unit_test(a_text_is_room_enough_for_its_members),
		cmocka_unit_test_setup_teardown(
			without_memory_for_cjson_an_escaped_name_is_a_500,
			limit_allocations, unlimit_allocations),
		cmocka_unit_test_setup_teardown(a_usual_text_needs_no_cjson,
						limit_allocations,
						unlimit_allocations),
		cmocka_unit_test(without_memory_publications_are_a_500),
		cmocka_unit_test(without_memory_members_are_a_500),
		cmocka_unit_test(memory_that_grew_large_is_not_kept),
		cmocka_unit_test(large_memory_is_kept_for_another_large_text),
		cmocka_unit_test(an_error_is_appended_as_json),
		cmocka_unit_test(a_string_is_written_as_it_is_if_it_can_be),
		cmocka_unit_test(quotes_backslashes_and_controls_are_escaped),
		cmocka_unit_test(line_and_paragraph_separators_are_escaped),
		cmocka_unit_test(an_escape_is_made_wherever_it_is_needed),
		cmocka_unit_test(a_long_string_is_written_as_its_pieces_are),
		cmocka_unit_test(no_string_costs_many_times_its_bytes),
		cmocka_unit_test(a_written_string_is_read_as_it_was),
		cmocka_unit_test(an_empty_or_absent_string_is_written_empty),
		cmocka_unit_test(without_memory_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
