/* test_v1_codec.c - src/codec/v1_codec.c: the commands and answers of
 * isimud.v1. */
#include "codec/v1_codec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "oom.h"

#define ABSENT ((struct span){NULL, 0})

#define TRACEPARENT_REST                                                       \
	"0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define TRACEPARENT "0" TRACEPARENT_REST

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

static void assert_span(struct span got, struct span expected)
{
	assert_non_null(got.bytes);
	assert_int_equal(got.len, expected.len);
	assert_memory_equal(got.bytes, expected.bytes, expected.len);
}

/* Reads a copy that is gone afterwards, as a message is once it was handled. */
static int read_copy(struct v1_command *command, struct span text,
		     enum v1_error *code, struct json_error *error)
{
	char *copy = malloc(text.len + (text.len == 0));
	int rv;

	assert_non_null(copy);
	memcpy(copy, text.bytes, text.len);
	rv = v1_read(command, (struct span){copy, text.len}, code, error);
	memset(copy, 'X', text.len);
	free(copy);
	return rv;
}

static void read_command(struct v1_command *command, struct span text)
{
	enum v1_error code;
	struct json_error error;

	if (read_copy(command, text, &code, &error) != 0)
		fail_msg("refused: %s", error.text);
}

/* Reads what must be refused; `ref` NULL: the error can name none. */
static void assert_refused(struct span text, enum v1_error expected,
			   const char *problem, const char *ref)
{
	struct v1_command command = {0};
	enum v1_error code;
	struct json_error error;

	int status = read_copy(&command, text, &code, &error);
	assert_true(status >= 400);
	assert_int_equal(status, error.status);
	assert_string_equal(error.text, problem);
	assert_int_equal(code, expected);
	if (ref == NULL)
		assert_null(command.ref.bytes);
	else
		assert_span(command.ref, span_of(ref));
	buf_fini(&command.memory);
}

static void assert_bad(const char *text, const char *problem)
{
	assert_refused(span_of(text), V1_bad_command, problem, NULL);
}

/* --- reading -------------------------------------------------------------- */

static void subscribe_has_publisher_and_topic(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c,
		     SPAN("{\"type\":\"subscribe\",\"publisher\":\"a\\u0000\","
			  "\"topic\":\"\"}"));
	assert_int_equal(c.type, V1_SUBSCRIBE);
	assert_span(c.publisher, SPAN("a\0"));
	assert_span(c.topic, SPAN(""));
	assert_null(c.ref.bytes);
	assert_null(c.since.bytes);
	assert_false(c.drops);
	assert_null(c.data.text.bytes);
	assert_false(c.data.is_json);
	buf_fini(&c.memory);
}

static void subscribe_may_have_since_and_slow(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c, SPAN("{\"topic\":\"t\",\"publisher\":\"p\",\"slow\":"
			      "\"drop\",\"since\":\"00ff-7\",\"ref\":1,"
			      "\"type\":\"subscribe\"}"));
	assert_span(c.since, SPAN("00ff-7"));
	assert_span(c.ref, SPAN("1"));
	assert_true(c.drops);
	read_command(&c, SPAN("{\"topic\":\"t\",\"publisher\":\"p\",\"slow\":"
			      "\"close\",\"type\":\"subscribe\"}"));
	assert_null(c.since.bytes);
	assert_null(c.ref.bytes);
	assert_false(c.drops);
	buf_fini(&c.memory);
}

static void unsubscribe_has_publisher_and_topic(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c, SPAN("{\"type\":\"unsubscribe\",\"publisher\":\"p\","
			      "\"topic\":\"t\",\"ref\":\"\\u0041\"}"));
	assert_int_equal(c.type, V1_UNSUBSCRIBE);
	assert_span(c.publisher, SPAN("p"));
	assert_span(c.topic, SPAN("t"));
	assert_span(c.ref, SPAN("\"\\u0041\""));
	buf_fini(&c.memory);
}

static void publish_has_topic_and_data_of_any_kind(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c, SPAN("{\"type\":\"publish\",\"topic\":\"t\",\"data\":"
			      "\"a\\nb\"}"));
	assert_int_equal(c.type, V1_PUBLISH);
	assert_span(c.topic, SPAN("t"));
	assert_span(c.data.text, SPAN("a\nb"));
	assert_false(c.data.is_json);
	assert_null(c.publisher.bytes);
	read_command(&c, SPAN("{\"type\":\"publish\",\"topic\":\"t\",\"data\":"
			      "[ 1.0 ]}"));
	assert_span(c.data.text, SPAN("[1.0]"));
	assert_true(c.data.is_json);
	read_command(&c, SPAN("{\"type\":\"publish\",\"topic\":\"t\",\"data\":"
			      "null}"));
	assert_span(c.data.text, SPAN("null"));
	assert_true(c.data.is_json);
	buf_fini(&c.memory);
}

static void ping_needs_nothing(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c, SPAN("{\"type\":\"ping\"}"));
	assert_int_equal(c.type, V1_PING);
	read_command(&c, SPAN("{\"type\":\"ping\",\"ref\":-1.0e3}"));
	assert_span(c.ref, SPAN("-1.0e3"));
	buf_fini(&c.memory);
}

static void members_of_no_use_are_ignored(void **state)
{
	struct v1_command c = {0};

	(void)state;
	read_command(&c,
		     SPAN("{\"type\":\"ping\",\"topic\":1,\"data\":[],"
			  "\"since\":null,\"slow\":\"?\",\"x\":{\"ref\":{}},"
			  "\"publisher\":\"p\",\"ref\\u0000\":[],\"Ref\":{}}"));
	assert_null(c.ref.bytes);
	assert_null(c.publisher.bytes);
	assert_null(c.topic.bytes);
	assert_null(c.data.text.bytes);
	assert_false(c.data.is_json);
	read_command(&c,
		     SPAN("{\"type\":\"publish\",\"topic\":\"t\",\"data\":1,"
			  "\"since\":\"1\",\"slow\":\"drop\"}"));
	assert_null(c.since.bytes);
	assert_false(c.drops);
	buf_fini(&c.memory);
}

static void what_is_not_json_is_bad_json(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"type\":\"ping\",\"ref\":1"), V1_bad_json,
		       "text is not JSON: byte 23: a comma or } was expected, "
		       "but the text ends",
		       NULL);
	assert_refused(SPAN(""), V1_bad_json,
		       "text is not JSON: byte 1: a value was expected, but "
		       "the text ends",
		       NULL);
}

static void an_unknown_type_has_a_code_of_its_own(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"type\":\"PING\",\"topic\":1,\"ref\":\"a\"}"),
		       V1_unknown_type, "there is no such command", "\"a\"");
	assert_refused(SPAN("{\"type\":\"\"}"), V1_unknown_type,
		       "there is no such command", NULL);
	assert_refused(SPAN("{\"type\":\"ping\\u0000\"}"), V1_unknown_type,
		       "there is no such command", NULL);
}

static void a_command_is_an_object_with_a_type(void **state)
{
	(void)state;
	assert_bad("[]", "an object was expected, not an array");
	assert_bad("\"ping\"", "an object was expected, not a string");
	assert_bad("{}", "missing member `type`");
	assert_bad("{\"type\":null}", "`type` must be a string, not null");
	assert_bad("{\"type\":\"ping\",\"type\":\"ping\"}",
		   "`type` is there twice");
}

static void missing_and_wrong_members_are_named(void **state)
{
	(void)state;
	assert_bad("{\"type\":\"subscribe\",\"topic\":\"t\"}",
		   "missing member `publisher`");
	assert_bad("{\"type\":\"subscribe\",\"publisher\":\"p\"}",
		   "missing member `topic`");
	assert_bad("{\"type\":\"unsubscribe\",\"publisher\":\"p\"}",
		   "missing member `topic`");
	assert_bad("{\"type\":\"publish\",\"data\":1}",
		   "missing member `topic`");
	assert_bad("{\"type\":\"publish\",\"topic\":\"t\"}",
		   "missing member `data`");
	assert_bad("{\"type\":\"publish\",\"topic\":{},\"data\":1}",
		   "`topic` must be a string");
	assert_bad("{\"type\":\"subscribe\",\"publisher\":1,\"topic\":\"t\"}",
		   "`publisher` must be a string");
	assert_bad("{\"type\":\"subscribe\",\"publisher\":\"p\",\"topic\":\"t\""
		   ",\"since\":7}",
		   "`since` must be a string");
	assert_bad("{\"type\":\"subscribe\",\"publisher\":\"p\",\"topic\":\"t\""
		   ",\"slow\":true}",
		   "`slow` must be a string");
	assert_bad("{\"type\":\"subscribe\",\"publisher\":\"p\",\"topic\":\"t\""
		   ",\"slow\":\"Drop\"}",
		   "`slow` must be \"close\" or \"drop\"");
	assert_bad(
		"{\"type\":\"publish\",\"topic\":\"t\",\"data\":1,\"data\":2}",
		"`data` is there twice");
}

static void a_ref_is_a_string_or_a_number(void **state)
{
	(void)state;
	assert_bad("{\"type\":\"ping\",\"ref\":null}",
		   "`ref` must be a string or a number, not null");
	assert_bad("{\"type\":\"ping\",\"ref\":[1]}",
		   "`ref` must be a string or a number, not an array");
}

static void a_ref_has_at_most_128_bytes(void **state)
{
	struct v1_command c = {0};
	char ref[256];
	char text[512];

	(void)state;
	snprintf(ref, sizeof(ref), "\"%0*d\"", V1_REF_MAX_BYTES - 2, 0);
	snprintf(text, sizeof(text), "{\"type\":\"ping\",\"ref\":%s}", ref);
	read_command(&c, span_of(text));
	assert_span(c.ref, span_of(ref));
	snprintf(text, sizeof(text), "{\"type\":\"ping\",\"ref\":\"%0*d\"}",
		 V1_REF_MAX_BYTES - 1, 0);
	assert_bad(text, "`ref` has more than 128 bytes");
	buf_fini(&c.memory);
}

static void an_error_names_the_ref_wherever_it_stands(void **state)
{
	(void)state;
	assert_refused(SPAN("{\"type\":\"publish\",\"topic\":1,\"data\":2,"
			    "\"ref\":\"a\"}"),
		       V1_bad_command, "`topic` must be a string", "\"a\"");
	assert_refused(SPAN("{\"type\":1,\"ref\":2}"), V1_bad_command,
		       "`type` must be a string, not a number", "2");
	assert_refused(SPAN("{\"ref\":2}"), V1_bad_command,
		       "missing member `type`", "2");
	assert_refused(SPAN("{\"type\":\"subscribe\",\"publisher\":\"p\","
			    "\"topic\":\"t\",\"slow\":\"\",\"ref\":\"\"}"),
		       V1_bad_command, "`slow` must be \"close\" or \"drop\"",
		       "\"\"");
	assert_refused(SPAN("{\"type\":\"publish\",\"data\":1,\"data\":2,"
			    "\"ref\":3}"),
		       V1_bad_command, "`data` is there twice", "3");
}

static void a_command_may_be_read_again_into_the_same_memory(void **state)
{
	struct v1_command c = {0};
	struct span text = SPAN("{\"type\":\"publish\",\"ref\":\"r\",\"topic\":"
				"\"ttttttttttttttttttttttttttttttttttttttt\","
				"\"data\":\"dddddddddddddddddddddddddddddd\"}");
	const char *memory;

	(void)state;
	read_command(&c, text);
	memory = c.memory.bytes;
	for (int i = 0; i < 20; i++)
		read_command(&c, text);
	assert_ptr_equal(c.memory.bytes, memory);
	assert_int_equal(c.topic.len, 39);
	assert_span(c.ref, SPAN("\"r\""));
	buf_fini(&c.memory);
}

static void without_memory_reading_is_no_memory(void **state)
{
	unsigned nth = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	do {
		struct v1_command c = {0};
		enum v1_error code = V1_busy;
		struct json_error error = {0};
		oom_fail_at(++nth);
		rv = v1_read(&c, SPAN("{\"type\":\"ping\",\"ref\":1}"), &code,
			     &error);
		assert_int_equal(rv, oom_end() ? 500 : 0);
		if (rv != 0) {
			assert_int_equal(code, V1_no_memory);
			assert_string_equal(error.text,
					    "the server is out of memory");
		}
		buf_fini(&c.memory);
	} while (rv != 0);
	assert_true(nth > 1);
}

/* --- writing -------------------------------------------------------------- */

static void a_message_carries_a_string_in_quotes(void **state)
{
	struct buf out = {0};
	struct json_data data = {.text = SPAN("a \"b\"\n\0")};

	(void)state;
	assert_int_equal(v1_write_message(&out, SPAN("p\\"), SPAN("t\0"),
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
	assert_int_equal(v1_write_message(&out, SPAN("p"), SPAN("t"),
					  SPAN("00ff-7"), data),
			 0);
	assert_written(&out, "{\"type\":\"message\",\"publisher\":\"p\","
			     "\"topic\":\"t\",\"id\":\"00ff-7\","
			     "\"data\":{\"a\":[1.0]}}");
}

static void a_message_may_have_an_event(void **state)
{
	struct buf out = {0};
	struct json_data data = {.text = SPAN("x"), .event = SPAN("a\"b")};

	(void)state;
	assert_int_equal(v1_write_message(&out, SPAN("p"), SPAN("t"),
					  SPAN("00ff-7"), data),
			 0);
	assert_written(&out, "{\"type\":\"message\",\"publisher\":\"p\","
			     "\"topic\":\"t\",\"id\":\"00ff-7\","
			     "\"event\":\"a\\\"b\",\"data\":\"x\"}");
}

static void a_publication_may_have_an_event(void **state)
{
	static const struct {
		struct span event;
		const char *error; /* NULL: it is taken */
	} events[] = {
		{{"\"g\\u00f6l\"", 10}, NULL},
		{{"\"\"", 2}, NULL},
		{{"1", 1}, "`event` must be a string"},
		{{"\"a\\n\"", 5}, "`event` has a line end or U+0000"},
		{{"\"close\"", 7},
		 "`event` must not be `reset` or `close`, which are the "
		 "server's"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
		struct v1_command c = {0};
		enum v1_error code;
		struct json_error error;
		char text[200];
		int len = snprintf(text, sizeof(text),
				   "{\"type\":\"publish\",\"topic\":\"t\","
				   "\"data\":1,\"event\":%.*s}",
				   (int)events[i].event.len,
				   events[i].event.bytes);
		int rv = v1_read(&c, (struct span){text, (size_t)len}, &code,
				 &error);
		assert_int_equal(rv, events[i].error == NULL ? 0 : 422);
		if (rv != 0) {
			assert_int_equal(code, V1_bad_command);
			assert_string_equal(error.text, events[i].error);
		} else if (i == 0) {
			assert_span(c.data.event, SPAN("g\xc3\xb6l"));
		} else {
			assert_null(c.data.event.bytes);
		}
		buf_fini(&c.memory);
	}
}

static void a_message_may_have_a_traceparent(void **state)
{
	struct buf out = {0};
	struct json_data data = {.text = SPAN("x"),
				 .event = SPAN("goal"),
				 .traceparent = SPAN(TRACEPARENT)};

	(void)state;
	assert_int_equal(v1_write_message(&out, SPAN("p"), SPAN("t"),
					  SPAN("00ff-7"), data),
			 0);
	assert_written(&out, "{\"type\":\"message\",\"publisher\":\"p\","
			     "\"topic\":\"t\",\"id\":\"00ff-7\","
			     "\"event\":\"goal\",\"traceparent\":"
			     "\"" TRACEPARENT "\",\"data\":\"x\"}");
}

static void a_traceparent_that_is_none_is_ignored(void **state)
{
	static const struct {
		const char *value;
		bool is_one;
	} all[] = {
		{"\"" TRACEPARENT "\"", true},
		{"\"\\u0030" TRACEPARENT_REST "\"", true},
		{"\"\"", false},
		{"\"0" TRACEPARENT "\"", false},
		{"1", false},
		{"null", false},
		{"[\"" TRACEPARENT "\"]", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct v1_command c = {0};
		char text[200];
		int len = snprintf(text, sizeof(text),
				   "{\"type\":\"publish\",\"topic\":\"t\","
				   "\"data\":1,\"traceparent\":%s}",
				   all[i].value);
		read_command(&c, (struct span){text, (size_t)len});
		if (all[i].is_one)
			assert_span(c.data.traceparent, SPAN(TRACEPARENT));
		else
			assert_null(c.data.traceparent.bytes);
		buf_fini(&c.memory);
	}
}

static void a_gap_names_its_first_and_last(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(v1_write_gap(&out, SPAN("p"), SPAN("t"), SPAN("0-1"),
				      SPAN("0-9")),
			 0);
	assert_written(&out, "{\"type\":\"gap\",\"publisher\":\"p\",\"topic\":"
			     "\"t\",\"from\":\"0-1\",\"to\":\"0-9\"}");
}

static void subscribed_says_whether_it_resumed_only_if_asked(void **state)
{
	static const char *const expected[] = {
		[V1_NOT_ASKED] = "}",
		[V1_RESUMED] = ",\"resumed\":true}",
		[V1_NOT_RESUMED] = ",\"resumed\":false}",
	};
	struct buf out = {0};
	char text[128];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(v1_write_subscribed(&out, ABSENT, SPAN("p"),
						     SPAN("t"), SPAN("0-1"),
						     (enum v1_resumed)i),
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
	assert_int_equal(v1_write_subscribed(&out, SPAN("\"\\u0041\""),
					     SPAN("p"), SPAN("t"), SPAN("0-1"),
					     V1_NOT_ASKED),
			 0);
	assert_written(&out, "{\"type\":\"subscribed\",\"ref\":\"\\u0041\","
			     "\"publisher\":\"p\",\"topic\":\"t\","
			     "\"id\":\"0-1\"}");
	assert_int_equal(
		v1_write_unsubscribed(&out, SPAN("1.0"), SPAN("p"), SPAN("t")),
		0);
	assert_written(&out, "{\"type\":\"unsubscribed\",\"ref\":1.0,"
			     "\"publisher\":\"p\",\"topic\":\"t\"}");
	assert_int_equal(
		v1_write_published(&out, SPAN("1"), SPAN("0-2"), UINT64_MAX),
		0);
	assert_written(&out, "{\"type\":\"published\",\"ref\":1,\"id\":\"0-2\","
			     "\"subscribers\":18446744073709551615}");
	assert_int_equal(v1_write_pong(&out, SPAN("\"\"")), 0);
	assert_written(&out, "{\"type\":\"pong\",\"ref\":\"\"}");
	assert_int_equal(v1_write_error(&out, SPAN("1"), V1_busy, NULL), 0);
	assert_written(&out, "{\"type\":\"error\",\"ref\":1,\"code\":\"busy\","
			     "\"message\":\"try again later\"}");
}

static void without_a_ref_there_is_no_such_member(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(
		v1_write_unsubscribed(&out, ABSENT, SPAN("p"), SPAN("t")), 0);
	assert_written(&out, "{\"type\":\"unsubscribed\",\"publisher\":\"p\","
			     "\"topic\":\"t\"}");
	assert_int_equal(v1_write_published(&out, ABSENT, SPAN("0-2"), 0), 0);
	assert_written(&out, "{\"type\":\"published\",\"id\":\"0-2\","
			     "\"subscribers\":0}");
	assert_int_equal(v1_write_pong(&out, ABSENT), 0);
	assert_written(&out, "{\"type\":\"pong\"}");
}

static void an_error_has_a_text_of_its_own_or_that_of_its_code(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(v1_write_error(&out, ABSENT, V1_bad_json, NULL), 0);
	assert_written(&out, "{\"type\":\"error\",\"code\":\"bad_json\","
			     "\"message\":\"the message is not JSON\"}");
	assert_int_equal(
		v1_write_error(&out, ABSENT, V1_no_memory, "no \"more\""), 0);
	assert_written(&out, "{\"type\":\"error\",\"code\":\"no_memory\","
			     "\"message\":\"no \\\"more\\\"\"}");
}

static int write_message(struct buf *out)
{
	static char data[300];

	memset(data, '\n', sizeof(data));
	return v1_write_message(
		out, SPAN("p"), SPAN("t"), SPAN("0-1"),
		(struct json_data){.text = {data, sizeof(data)}});
}

static int write_gap(struct buf *out)
{
	return v1_write_gap(
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

/* --- cost ----------------------------------------------------------------- */

#define COST_BYTES 65536 /* the longest command */
#define COST_RUNS  20
#define COST_MAX   120 /* times that of a string */

/* Writes a command with such data, COST_BYTES long: `start`, then `piece` again
 * and again, then `end`. */
static void fill_command(char *text, const char *start, const char *piece,
			 const char *end)
{
	size_t piece_len = strlen(piece);
	size_t end_len = strlen(end);
	size_t len = (size_t)snprintf(text, COST_BYTES,
				      "{\"type\":\"publish\",\"topic\":\"t\","
				      "\"data\":%s",
				      start);

	for (; len + piece_len + end_len <= COST_BYTES; len += piece_len)
		memcpy(text + len, piece, piece_len);
	memset(text + len, ' ', COST_BYTES - len);
	memcpy(text + COST_BYTES - end_len, end, end_len);
}

/* The processor's time to read it, nanoseconds: the least of several. */
static uint64_t cost_of(const char *text)
{
	struct v1_command command = {0};
	uint64_t least = UINT64_MAX;

	for (int run = 0; run < COST_RUNS; run++) {
		enum v1_error code;
		struct json_error error;
		struct timespec from;
		struct timespec to;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		assert_int_equal(v1_read(&command,
					 (struct span){text, COST_BYTES}, &code,
					 &error),
				 0);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		uint64_t took =
			(uint64_t)(to.tv_sec - from.tv_sec) * 1000000000 +
			(uint64_t)to.tv_nsec - (uint64_t)from.tv_nsec;
		least = took < least ? took : least;
	}
	buf_fini(&command.memory);
	return least;
}

/* One pass, and no tree: no text costs many times what a string of its length
 * does: it is some 30 times, 50 without optimization; with a tree of values it
 * was 230. */
static void no_command_costs_much_more_than_its_bytes(void **state)
{
	static const struct {
		const char *start;
		const char *piece;
		const char *end;
	} hostile[] = {
		{"[", "0,", "0]}"},
		{"[", "[[[[[[[[]]]]]]]],", "0]}"},
		{"{", "\"a\":{},", "\"b\":0}}"},
		{"\"", "\\u0001", "\"}"},
		{"\"", "\xc3\xa9", "\"}"},
		{"[", "\"\",", "0]}"},
		{"[", "-1.5e+10,", "0]}"},
		{"[", "\t\r\n ", "0]}"},
	};
	static char text[COST_BYTES];
	(void)state;

#ifdef OOM_SANITIZED
	skip();
#endif
	fill_command(text, "\"", "x", "\"}");
	uint64_t plain = cost_of(text);
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		fill_command(text, hostile[i].start, hostile[i].piece,
			     hostile[i].end);
		uint64_t cost = cost_of(text);
		if (cost > COST_MAX * plain)
			fail_msg("%s: %llu ns, a string %llu ns",
				 hostile[i].piece, (unsigned long long)cost,
				 (unsigned long long)plain);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_command_costs_much_more_than_its_bytes),
		cmocka_unit_test(subscribe_has_publisher_and_topic),
		cmocka_unit_test(subscribe_may_have_since_and_slow),
		cmocka_unit_test(unsubscribe_has_publisher_and_topic),
		cmocka_unit_test(publish_has_topic_and_data_of_any_kind),
		cmocka_unit_test(ping_needs_nothing),
		cmocka_unit_test(members_of_no_use_are_ignored),
		cmocka_unit_test(what_is_not_json_is_bad_json),
		cmocka_unit_test(an_unknown_type_has_a_code_of_its_own),
		cmocka_unit_test(a_command_is_an_object_with_a_type),
		cmocka_unit_test(missing_and_wrong_members_are_named),
		cmocka_unit_test(a_ref_is_a_string_or_a_number),
		cmocka_unit_test(a_ref_has_at_most_128_bytes),
		cmocka_unit_test(an_error_names_the_ref_wherever_it_stands),
		cmocka_unit_test(
			a_command_may_be_read_again_into_the_same_memory),
		cmocka_unit_test(without_memory_reading_is_no_memory),
		cmocka_unit_test(a_message_carries_a_string_in_quotes),
		cmocka_unit_test(a_message_carries_other_values_as_they_are),
		cmocka_unit_test(a_message_may_have_an_event),
		cmocka_unit_test(a_publication_may_have_an_event),
		cmocka_unit_test(a_message_may_have_a_traceparent),
		cmocka_unit_test(a_traceparent_that_is_none_is_ignored),
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
