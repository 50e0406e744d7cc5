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

static int write_one(struct buf *out, unsigned which)
{
	switch (which) {
	case 0:
		return sse_write_data(out, SPAN("a\nb"));
	case 1:
		return sse_write_id(out, SPAN("e-1"));
	case 2:
		return sse_write_event(out, SPAN("close"), SPAN("a\nb"));
	default:
		return sse_write_retry(out, 1);
	}
}

static void without_memory_nothing_is_written(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	for (unsigned i = 0; i < 4; i++) {
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
		cmocka_unit_test(a_line_end_at_either_end_survives),
		cmocka_unit_test(empty_data_is_one_data_line),
		cmocka_unit_test(u0000_is_passed),
		cmocka_unit_test(lines_of_data_end_where_the_data_ends),
		cmocka_unit_test(
			the_parts_of_an_event_stand_behind_one_another),
		cmocka_unit_test(the_one_line_form_is_what_is_written),
		cmocka_unit_test(without_memory_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
