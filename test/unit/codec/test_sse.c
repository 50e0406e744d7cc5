/* test_sse.c - what src/codec/sse.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/sse.h"
#include "oom.h"

#include <errno.h>

static void assert_data(struct span data, const char *expected)
{
	struct buf out = {0};

	assert_int_equal(sse_write_data(&out, data), 0);
	assert_int_equal(out.len, strlen(expected));
	assert_memory_equal(out.bytes, expected, out.len);
	assert_int_equal(sse_data_len(data), out.len);
	buf_fini(&out);
}

static void data_of_one_line_is_one_data_line(void **state)
{
	(void)state;
	assert_data(SPAN("news"), "data: news\n\n");
}

/* What sse.h says, byte by byte. */
static void write_slowly(struct span data, struct buf *out)
{
	assert_int_equal(buf_append(out, "data: ", 6), 0);
	for (size_t i = 0; i < data.len; i++) {
		bool is_cr = data.bytes[i] == '\r';
		if (!is_cr && data.bytes[i] != '\n') {
			assert_int_equal(buf_append(out, data.bytes + i, 1), 0);
			continue;
		}
		if (is_cr && i + 1 < data.len && data.bytes[i + 1] == '\n')
			i++;
		assert_int_equal(buf_append(out, "\ndata: ", 7), 0);
	}
	assert_int_equal(buf_append(out, "\n\n", 3), 0); /* and a NUL */
}

/* Eight bytes are looked at at a time: all texts of so many characters, with
 * some before. */
static void line_ends_are_found_wherever_they_stand(void **state)
{
	static const char characters[] = {'\r', '\n', 'a', '\x8a'};
	char text[16];
	(void)state;

	for (size_t before = 0; before < 10; before += 3) {
		memset(text, 'x', before);
		for (unsigned n = 0; n < 1u << 12; n++) {
			struct buf expected = {0};
			size_t len = before + n % 7;
			for (unsigned i = 0; before + i < len; i++)
				text[before + i] = characters[n >> 2 * i & 3];
			write_slowly((struct span){text, len}, &expected);
			assert_data((struct span){text, len}, expected.bytes);
			buf_fini(&expected);
		}
	}
}

/* A client takes one space off, if there is any. */
static void leading_spaces_and_colons_survive(void **state)
{
	(void)state;
	assert_data(SPAN(" : x"), "data:  : x\n\n");
}

static void each_kind_of_line_end_starts_a_data_line(void **state)
{
	(void)state;
	assert_data(SPAN("a\nb\rc\r\nd"),
		    "data: a\ndata: b\ndata: c\ndata: d\n\n");
	assert_data(SPAN("a\n\rb"), "data: a\ndata: \ndata: b\n\n");
	assert_data(SPAN("a\r\r\n\nb"), "data: a\ndata: \ndata: \ndata: b\n\n");
}

static void a_line_end_at_either_end_survives(void **state)
{
	(void)state;
	assert_data(SPAN("a\n"), "data: a\ndata: \n\n");
	assert_data(SPAN("a\r"), "data: a\ndata: \n\n");
	assert_data(SPAN("a\r\n"), "data: a\ndata: \n\n");
	assert_data(SPAN("\na"), "data: \ndata: a\n\n");
	assert_data(SPAN("\n"), "data: \ndata: \n\n");
}

static void empty_data_is_one_data_line(void **state)
{
	(void)state;
	assert_data(SPAN(""), "data: \n\n");
	assert_data((struct span){NULL, 0}, "data: \n\n");
}

static void u0000_is_passed(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(sse_write_data(&out, SPAN("a\0b")), 0);
	assert_int_equal(out.len, 11);
	assert_memory_equal(out.bytes, "data: a\0b\n\n", 11);
	buf_fini(&out);
}

static void lines_of_data_end_where_the_data_ends(void **state)
{
	(void)state;
	assert_data((struct span){"a\r\nb", 2}, "data: a\ndata: \n\n");
	assert_data((struct span){"ab", 1}, "data: a\n\n");
}

static void the_parts_of_an_event_stand_behind_one_another(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(sse_write_retry(&out, 0), 0);
	assert_int_equal(sse_write_retry(&out, UINT32_MAX), 0);
	assert_int_equal(sse_write_id(&out, SPAN("e-1")), 0);
	assert_int_equal(sse_write_data(&out, SPAN("x")), 0);
	assert_int_equal(sse_write_event(&out, SPAN("close"), SPAN("1\n2")), 0);
	static const char expected[] = "retry: 0\n"
				       "retry: 4294967295\n"
				       "id: e-1\n"
				       "data: x\n\n"
				       "event: close\ndata: 1\ndata: 2\n\n";
	assert_int_equal(out.len, sizeof expected - 1);
	assert_memory_equal(out.bytes, expected, out.len);
	buf_fini(&out);
}

static void the_one_line_form_is_what_is_written(void **state)
{
	(void)state;
	assert_data(SPAN("x"), SSE_DATA "x" SSE_DATA_END);
}

static void a_type_is_a_line(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(sse_write_type(&out, SPAN("goal")), 0);
	assert_int_equal(out.len, strlen("event: goal\n"));
	assert_memory_equal(out.bytes, "event: goal\n", out.len);
	buf_fini(&out);
}

static void a_publication_may_have_any_type_of_one_line(void **state)
{
	static const struct span types[] = {
		{"", 0},        {"goal", 4},  {" a:b\t", 5}, {"\xc3\xa9", 2},
		{"message", 7}, {"Close", 5}, {"closed", 6}, {"rese", 4},
	};
	char longest[SSE_TYPE_MAX_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		assert_int_equal(sse_check_type(types[i], NULL), 0);
	memset(longest, 'x', sizeof longest);
	assert_int_equal(
		sse_check_type((struct span){longest, sizeof longest}, NULL),
		0);
}

static void expect_refused(struct span type, const char *words)
{
	const char *wrong;

	assert_int_equal(sse_check_type(type, &wrong), -EINVAL);
	assert_non_null(strstr(wrong, words));
}

static void other_types_are_refused_with_the_reason(void **state)
{
	char longer[SSE_TYPE_MAX_BYTES + 1];

	(void)state;
	memset(longer, 'x', sizeof longer);
	expect_refused((struct span){longer, sizeof longer},
		       "`event` has more than 128 bytes");
	expect_refused(SPAN("a\nb"), "`event` has a line end or U+0000");
	expect_refused(SPAN("a\r"), "line end");
	expect_refused(SPAN("\0"), "U+0000");
	expect_refused(SPAN("reset"), "server's");
	expect_refused(SPAN("close"), "server's");
}

static int write_one(struct buf *out, unsigned which)
{
	switch (which) {
	case 0:
		return sse_write_data(out, SPAN("a\nb"));
	case 1:
		return sse_write_id(out, SPAN("e-1"));
	case 2:
		return sse_write_event(out, SPAN("close"), SPAN("a\nb"));
	case 3:
		return sse_write_type(out, SPAN("goal"));
	default:
		return sse_write_retry(out, 1);
	}
}

static void without_memory_nothing_is_written(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	for (unsigned i = 0; i < 5; i++) {
		struct buf out = {0};
		oom_fail_at(1);
		assert_int_equal(write_one(&out, i), -ENOMEM);
		assert_true(oom_end());
		assert_int_equal(out.len, 0);
		assert_int_equal(write_one(&out, i), 0);
		buf_fini(&out);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_of_one_line_is_one_data_line),
		cmocka_unit_test(leading_spaces_and_colons_survive),
		cmocka_unit_test(each_kind_of_line_end_starts_a_data_line),
		cmocka_unit_test(line_ends_are_found_wherever_they_stand),
		cmocka_unit_test(a_line_end_at_either_end_survives),
		cmocka_unit_test(empty_data_is_one_data_line),
		cmocka_unit_test(u0000_is_passed),
		cmocka_unit_test(lines_of_data_end_where_the_data_ends),
		cmocka_unit_test(
			the_parts_of_an_event_stand_behind_one_another),
		cmocka_unit_test(the_one_line_form_is_what_is_written),
		cmocka_unit_test(a_type_is_a_line),
		cmocka_unit_test(a_publication_may_have_any_type_of_one_line),
		cmocka_unit_test(other_types_are_refused_with_the_reason),
		cmocka_unit_test(without_memory_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
