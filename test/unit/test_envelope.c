/* test_envelope.c - src/envelope.c: the commands and answers of isimud.v1. */
#include "envelope.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oom.h"

#define ABSENT ((struct span){NULL, 0})

/* --- helpers -------------------------------------------------------------- */

/* Checks what was written, and that it is JSON; empties `out`. */
static void assert_written(struct buf *out, const char *expected)
{
	struct json_error error;
	struct span text = {out->bytes, out->len};

	if (!span_equal(text, span_of(expected)))
		fail_msg("%.*s", (int)text.len, text.bytes);
	assert_int_equal(json_check(text, &error), 0);
	buf_fini(out);
}

/* --- writing -------------------------------------------------------------- */

static void a_message_carries_a_string_in_quotes(void **state)
{
	struct buf out = {0};
	struct json_data data = {.text = SPAN("a \"b\"\n\0")};

	(void)state;
	assert_int_equal(envelope_write_message(&out, SPAN("p\\"), SPAN("t\0"),
						SPAN("00ff-7"), data),
			 0);
	assert_written(&out, "{\"type\":\"message\",\"publisher\":\"p\\\\\","
			     "\"topic\":\"t\\u0000\",\"id\":\"00ff-7\","
			     "\"data\":\"a \\\"b\\\"\\n\\u0000\"}");
}

static void a_message_carries_other_values_as_they_are(void **state)
{
	struct buf out = {0};
	struct json_data data = {.text = SPAN("{\"a\":[1.0]}"),
				 .is_json = true};

	(void)state;
	assert_int_equal(envelope_write_message(&out, SPAN("p"), SPAN("t"),
						SPAN("00ff-7"), data),
			 0);
	assert_written(&out, "{\"type\":\"message\",\"publisher\":\"p\","
			     "\"topic\":\"t\",\"id\":\"00ff-7\","
			     "\"data\":{\"a\":[1.0]}}");
}

static void a_gap_names_its_first_and_last(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(envelope_write_gap(&out, SPAN("p"), SPAN("t"),
					    SPAN("0-1"), SPAN("0-9")),
			 0);
	assert_written(&out, "{\"type\":\"gap\",\"publisher\":\"p\",\"topic\":"
			     "\"t\",\"from\":\"0-1\",\"to\":\"0-9\"}");
}

static void subscribed_says_whether_it_resumed_only_if_asked(void **state)
{
	static const char *const expected[] = {
		[ENVELOPE_NOT_ASKED] = "}",
		[ENVELOPE_RESUMED] = ",\"resumed\":true}",
		[ENVELOPE_NOT_RESUMED] = ",\"resumed\":false}",
	};
	struct buf out = {0};
	char text[128];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(envelope_write_subscribed(
					 &out, ABSENT, SPAN("p"), SPAN("t"),
					 SPAN("0-1"), (enum envelope_resumed)i),
				 0);
		snprintf(text, sizeof(text),
			 "{\"type\":\"subscribed\",\"publisher\":\"p\","
			 "\"topic\":\"t\",\"id\":\"0-1\"%s",
			 expected[i]);
		assert_written(&out, text);
	}
}

static void a_ref_is_sent_back_as_it_was_written(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(envelope_write_subscribed(
				 &out, SPAN("\"\\u0041\""), SPAN("p"),
				 SPAN("t"), SPAN("0-1"), ENVELOPE_NOT_ASKED),
			 0);
	assert_written(&out, "{\"type\":\"subscribed\",\"ref\":\"\\u0041\","
			     "\"publisher\":\"p\",\"topic\":\"t\","
			     "\"id\":\"0-1\"}");
	assert_int_equal(envelope_write_unsubscribed(&out, SPAN("1.0"),
						     SPAN("p"), SPAN("t")),
			 0);
	assert_written(&out, "{\"type\":\"unsubscribed\",\"ref\":1.0,"
			     "\"publisher\":\"p\",\"topic\":\"t\"}");
	assert_int_equal(envelope_write_published(&out, SPAN("1"), SPAN("0-2"),
						  UINT64_MAX),
			 0);
	assert_written(&out, "{\"type\":\"published\",\"ref\":1,\"id\":\"0-2\","
			     "\"subscribers\":18446744073709551615}");
	assert_int_equal(envelope_write_pong(&out, SPAN("\"\"")), 0);
	assert_written(&out, "{\"type\":\"pong\",\"ref\":\"\"}");
	assert_int_equal(
		envelope_write_error(&out, SPAN("1"), ENVELOPE_busy, NULL), 0);
	assert_written(&out, "{\"type\":\"error\",\"ref\":1,\"code\":\"busy\","
			     "\"message\":\"try again later\"}");
}

static void without_a_ref_there_is_no_such_member(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(
		envelope_write_unsubscribed(&out, ABSENT, SPAN("p"), SPAN("t")),
		0);
	assert_written(&out, "{\"type\":\"unsubscribed\",\"publisher\":\"p\","
			     "\"topic\":\"t\"}");
	assert_int_equal(envelope_write_published(&out, ABSENT, SPAN("0-2"), 0),
			 0);
	assert_written(&out, "{\"type\":\"published\",\"id\":\"0-2\","
			     "\"subscribers\":0}");
	assert_int_equal(envelope_write_pong(&out, ABSENT), 0);
	assert_written(&out, "{\"type\":\"pong\"}");
}

static void an_error_has_a_text_of_its_own_or_that_of_its_code(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(
		envelope_write_error(&out, ABSENT, ENVELOPE_bad_json, NULL), 0);
	assert_written(&out, "{\"type\":\"error\",\"code\":\"bad_json\","
			     "\"message\":\"the message is not JSON\"}");
	assert_int_equal(envelope_write_error(&out, ABSENT, ENVELOPE_no_memory,
					      "no \"more\""),
			 0);
	assert_written(&out, "{\"type\":\"error\",\"code\":\"no_memory\","
			     "\"message\":\"no \\\"more\\\"\"}");
}

static int write_message(struct buf *out)
{
	static char data[300];

	memset(data, '\n', sizeof(data));
	return envelope_write_message(
		out, SPAN("p"), SPAN("t"), SPAN("0-1"),
		(struct json_data){.text = {data, sizeof(data)}});
}

static int write_gap(struct buf *out)
{
	return envelope_write_gap(
		out, SPAN("ppppppppppppppppppppppppppppppppppppppppppppp"),
		SPAN("t"), SPAN("0-1"), SPAN("0-2"));
}

/* Returns how many allocations it took. */
static unsigned check_without_memory(int (*write)(struct buf *))
{
	unsigned nth = 0;
	int rv;

	do {
		struct buf out = {0};
		assert_int_equal(buf_append(&out, "x", 1), 0);
		oom_fail_at(++nth);
		rv = write(&out);
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
	assert_true(check_without_memory(write_message) > 1);
	assert_true(check_without_memory(write_gap) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_carries_a_string_in_quotes),
		cmocka_unit_test(a_message_carries_other_values_as_they_are),
		cmocka_unit_test(a_gap_names_its_first_and_last),
		cmocka_unit_test(
			subscribed_says_whether_it_resumed_only_if_asked),
		cmocka_unit_test(a_ref_is_sent_back_as_it_was_written),
		cmocka_unit_test(without_a_ref_there_is_no_such_member),
		cmocka_unit_test(
			an_error_has_a_text_of_its_own_or_that_of_its_code),
		cmocka_unit_test(without_memory_nothing_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
