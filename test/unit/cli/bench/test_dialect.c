/* test_dialect.c - what src/cli/bench/dialect.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench/dialect.h"

static const struct dialect_names names = {.prefix = "b-",
					   .publisher = {"a b\"", 4}};

static const struct dialect *dialect_called(const char *name)
{
	const struct dialect *d = dialects;

	while (strcmp(d->name, name) != 0)
		d++;
	return d;
}

static void note_payload(void *user, struct span payload)
{
	sprintf((char *)user + strlen(user), "%.*s;", (int)payload.len,
		payload.bytes);
}

static void note_damage(void *user)
{
	strcat(user, "damage;");
}

/* What a reader makes of `text`, a message, or a stream in pieces of `step`. */
static void expect(const char *name, const char *text, size_t step,
		   const char *wanted)
{
	char found[256] = "";
	struct buf head = {0};
	struct dialect_reader r = {
		.dialect = dialect_called(name),
		.user = found,
		.on_payload = note_payload,
		.on_damage = note_damage,
	};

	if (r.dialect->head != NULL)
		assert_int_equal(
			dialect_expand(&head, r.dialect->head, &names, 7), 0);
	r.head = (struct span){head.bytes, head.len};
	for (size_t at = 0; at < strlen(text); at += step) {
		size_t left = strlen(text) - at;
		r.dialect->read(&r, (struct span){text + at,
						  left < step ? left : step});
	}
	assert_string_equal(found, wanted);
	dialect_reader_fini(&r);
	buf_fini(&head);
}

static void templates_name_topic_and_publisher(void **state)
{
	struct buf out = {0};

	(void)state;
	assert_int_equal(dialect_expand(&out, "/x%20?%p&%t{%q}%", &names, 42),
			 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal(out.bytes, "/x%20?a%20b%22&b-000042{\"a b\\\"\"}%");
	buf_fini(&out);
}

static void a_raw_message_is_the_payload(void **state)
{
	(void)state;
	expect("raw", "hello", 5, "hello;");
}

#define ENVELOPE(sequence, data)                                               \
	"{\"type\":\"message\",\"publisher\":\"a b\\\"\",\"topic\":"           \
	"\"b-000007\",\"id\":\"0123456789abcdef-" sequence                     \
	"\",\"data\":\"" data "\"}"

static void an_envelope_is_checked_to_the_byte(void **state)
{
	static const char good[] = ENVELOPE("12", "hello");

	(void)state;
	expect("v1", good, sizeof good, "hello;");
	expect("v1", "{\"type\":\"subscribed\",\"topic\":\"b-000007\"}", 100,
	       "");
	expect("v1", "{\"type\":\"gap\"}", 100, "damage;");
	for (size_t i = 0; i < sizeof good - 1; i++) {
		char bad[sizeof good];
		memcpy(bad, good, sizeof good);
		bad[i] = '~';
		if (strstr(good, "0123") <= good + i &&
		    good + i <= strstr(good, "-12"))
			continue; /* any epoch will do */
		if (strstr(good, "hello") <= good + i &&
		    good + i < strstr(good, "hello") + 5)
			continue; /* the stamp is checked elsewhere */
		expect("v1", bad, sizeof bad, "damage;");
	}
}

static void the_numbers_of_envelopes_must_grow(void **state)
{
	char found[256] = "";
	struct buf head = {0};
	struct dialect_reader r = {
		.dialect = dialect_called("v1"),
		.user = found,
		.on_payload = note_payload,
		.on_damage = note_damage,
	};

	(void)state;
	assert_int_equal(dialect_expand(&head, r.dialect->head, &names, 7), 0);
	r.head = (struct span){head.bytes, head.len};
	r.dialect->read(&r, SPAN(ENVELOPE("2", "a")));
	r.dialect->read(&r, SPAN(ENVELOPE("5", "b")));
	r.dialect->read(&r, SPAN(ENVELOPE("5", "c")));
	r.dialect->read(&r, SPAN(ENVELOPE("4", "d")));
	dialect_reader_reset(&r);
	r.dialect->read(&r, SPAN(ENVELOPE("4", "e")));
	assert_string_equal(found, "a;b;damage;damage;e;");
	buf_fini(&head);
}

static void events_may_come_in_any_pieces(void **state)
{
	static const char stream[] = "retry: 2000\nid: 1-0\n\n"
				     ":\nid: 1-1\ndata: one\n\n"
				     "id: 1-2\r\ndata:two\r\n\r\n"
				     "event: message\ndata: three\n\n"
				     "data: a\ndata: b\n\n"
				     "event: reset\ndata: {}\n\n"
				     "data: unfinished\n";

	(void)state;
	for (size_t step = 1; step <= sizeof stream; step++)
		expect("sse", stream, step, "one;two;three;damage;damage;");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(templates_name_topic_and_publisher),
		cmocka_unit_test(a_raw_message_is_the_payload),
		cmocka_unit_test(an_envelope_is_checked_to_the_byte),
		cmocka_unit_test(the_numbers_of_envelopes_must_grow),
		cmocka_unit_test(events_may_come_in_any_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
