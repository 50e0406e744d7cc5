/* test_record.c - what src/cluster/record.h promises. */
#include "cluster/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
/* A quote, where a digit must be. */
#define NO_TRACEPARENT                                                         \
	"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\""
#include <stdlib.h>
#include <uv.h>

static const uint8_t id[DIGEST_SHA256_BYTES] = {1, 2, 3};
static const uint8_t content[DIGEST_SHA256_BYTES] = {4, 5, 6};

static struct span span_of_buf(const struct buf *b)
{
	return (struct span){b->bytes, b->len};
}

static struct record publications(uint32_t flags)
{
	return (struct record){.kind = RECORD_PUBLICATIONS,
			       .flags = flags,
			       .epoch = 0x0102030405060708,
			       .nonce = UINT64_MAX,
			       .id = id,
			       .content = content};
}

static void add(struct buf *out, const char *publisher, const char *topic,
		struct span data, bool is_json)
{
	struct record_publication p = {.publisher = span_of(publisher),
				       .topic = span_of(topic),
				       .data = data,
				       .is_json = is_json};
	assert_int_equal(record_add(out, 0, &p), 0);
}

static void what_is_written_is_read(void **state)
{
	struct buf out = {0};
	struct record in = publications(RECORD_KEYED | RECORD_IS_ARRAY);
	struct record r;
	struct record_publication p;
	(void)state;

	assert_int_equal(record_begin(&out, &in), 0);
	add(&out, "alice", "news", SPAN("{}"), true);
	add(&out, "", "", SPAN("a\0b"), false);
	p = (struct record_publication){.publisher = SPAN("bob"),
					.topic = SPAN("t"),
					.event = SPAN("goal"),
					.data = SPAN("")};
	assert_int_equal(record_add(&out, 0, &p), 0);
	p = (struct record_publication){.topic = SPAN("traced"),
					.data = SPAN("1"),
					.traceparent = SPAN(TRACEPARENT),
					.is_json = true};
	assert_int_equal(record_add(&out, 0, &p), 0);

	assert_int_equal(record_parse(&r, span_of_buf(&out)), 0);
	assert_int_equal(r.kind, RECORD_PUBLICATIONS);
	assert_int_equal(r.flags, RECORD_KEYED | RECORD_IS_ARRAY);
	assert_int_equal(r.epoch, 0x0102030405060708);
	assert_int_equal(r.nonce, UINT64_MAX);
	assert_memory_equal(r.id, id, sizeof id);
	assert_memory_equal(r.content, content, sizeof content);
	assert_int_equal(r.count, 4);
	assert_true(record_next(&r.body, &p));
	assert_true(span_equal(p.publisher, SPAN("alice")));
	assert_true(span_equal(p.topic, SPAN("news")));
	assert_true(span_equal(p.data, SPAN("{}")));
	assert_true(p.is_json);
	assert_true(record_next(&r.body, &p));
	assert_int_equal(p.publisher.len, 0);
	assert_true(span_equal(p.data, SPAN("a\0b")));
	assert_false(p.is_json);
	assert_true(record_next(&r.body, &p));
	assert_true(span_equal(p.event, SPAN("goal")));
	assert_int_equal(p.data.len, 0);
	assert_null(p.traceparent.bytes);
	assert_true(record_next(&r.body, &p));
	assert_true(span_equal(p.traceparent, SPAN(TRACEPARENT)));
	assert_true(span_equal(p.data, SPAN("1")));
	assert_true(p.is_json);
	assert_false(record_next(&r.body, &p));
	buf_fini(&out);
}

static void a_marker_is_read(void **state)
{
	struct buf out = {0};
	struct record in = {.kind = RECORD_MARKER,
			    .flags = RECORD_IS_NEW,
			    .epoch = 7,
			    .nonce = 9,
			    .previous = 1ULL << 40,
			    .sum = 0xfedcba9876543210,
			    .begins = 77};
	struct record r;
	(void)state;

	assert_int_equal(record_begin(&out, &in), 0);
	assert_int_equal(record_parse(&r, span_of_buf(&out)), 0);
	assert_int_equal(r.kind, RECORD_MARKER);
	assert_int_equal(r.flags, RECORD_IS_NEW);
	assert_int_equal(r.epoch, 7);
	assert_int_equal(r.previous, 1ULL << 40);
	assert_int_equal(r.sum, 0xfedcba9876543210);
	assert_int_equal(r.begins, 77);
	assert_int_equal(r.body.len, 0);
	buf_fini(&out);
}

/* Every prefix, and one byte more, is no record; nor are the bytes of another
 * version or kind, or of unknown flags. */
static void nothing_else_is_a_record(void **state)
{
	struct record in = publications(RECORD_KEYED);
	struct record r;
	struct buf out = {0};
	(void)state;

	assert_int_equal(record_begin(&out, &in), 0);
	assert_int_equal(record_parse(&r, span_of_buf(&out)), UV_EINVAL);
	add(&out, "alice", "news", SPAN("hello"), false);
	for (size_t len = 0; len < out.len; len++) {
		/* On the heap, so that a sanitizer sees a byte too many. */
		char *copy = malloc(len + 1);
		memcpy(copy, out.bytes, len);
		assert_int_equal(record_parse(&r, (struct span){copy, len}),
				 UV_EINVAL);
		free(copy);
	}
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_int_equal(record_parse(&r, span_of_buf(&out)), UV_EINVAL);
	out.len--;
	static const size_t at[] = {0, 1, 2, 7};
	for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
		out.bytes[at[i]] ^= 0x40;
		assert_int_equal(record_parse(&r, span_of_buf(&out)),
				 UV_EINVAL);
		out.bytes[at[i]] ^= 0x40;
	}
	assert_int_equal(record_parse(&r, span_of_buf(&out)), 0);
	buf_fini(&out);
}

static void a_record_takes_1024_publications(void **state)
{
	struct buf out = {0};
	struct record in = publications(0);
	struct record r;
	struct record_publication p = {.data = SPAN("x")};
	(void)state;

	assert_int_equal(record_begin(&out, &in), 0);
	for (unsigned i = 0; i < RECORD_PUBLICATIONS_MAX; i++)
		assert_int_equal(record_add(&out, 0, &p), 0);
	size_t len = out.len;
	assert_int_equal(record_add(&out, 0, &p), UV_E2BIG);
	assert_int_equal(out.len, len);
	assert_int_equal(record_parse(&r, span_of_buf(&out)), 0);
	assert_int_equal(r.count, RECORD_PUBLICATIONS_MAX);
	buf_fini(&out);
}

static void names_that_are_too_long_are_refused(void **state)
{
	struct buf out = {0};
	struct record in = publications(0);
	char *name = calloc(1, RECORD_NAME_MAX_BYTES + 1);
	struct record_publication p = {
		.topic = {name, RECORD_NAME_MAX_BYTES + 1}};
	(void)state;

	assert_int_equal(record_begin(&out, &in), 0);
	assert_int_equal(record_add(&out, 0, &p), UV_E2BIG);
	p.topic.len--;
	assert_int_equal(record_add(&out, 0, &p), 0);
	p.event = (struct span){name, RECORD_EVENT_MAX_BYTES + 1};
	assert_int_equal(record_add(&out, 0, &p), UV_E2BIG);
	buf_fini(&out);
	free(name);
}

/* Who reaches the log is no node of ours, maybe. */
static void what_would_break_a_subscriber_is_no_record(void **state)
{
	const struct span illegal = {"\xff", 1};
	const struct record_publication cases[] = {
		{.publisher = illegal, .data = SPAN("x")},
		{.topic = illegal, .data = SPAN("x")},
		{.data = illegal},
		{.data = SPAN("{"), .is_json = true},
		{.data = SPAN("x"), .event = SPAN("a\nid: 1")},
		{.data = SPAN("x"), .traceparent = SPAN(NO_TRACEPARENT)},
	};
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf out = {0};
		struct record in = publications(0);
		struct record r;
		assert_int_equal(record_begin(&out, &in), 0);
		assert_int_equal(record_add(&out, 0, &cases[i]), 0);
		assert_int_equal(record_parse(&r, span_of_buf(&out)),
				 UV_EINVAL);
		buf_fini(&out);
	}
}

static void numbers_grow_with_sequence_and_index(void **state)
{
	(void)state;
	assert_int_equal(record_number(1, 0), 1024);
	assert_true(record_number(1, RECORD_PUBLICATIONS_MAX - 1) <
		    record_number(2, 0));
}

static void the_sum_depends_on_sequence_and_nonce(void **state)
{
	(void)state;
	assert_int_equal(record_mix(5, 6), record_mix(5, 6));
	assert_int_not_equal(record_mix(5, 6), record_mix(6, 6));
	assert_int_not_equal(record_mix(5, 6), record_mix(5, 7));
	/* Two records that changed places. */
	assert_int_not_equal(record_mix(1, 10) + record_mix(2, 20),
			     record_mix(1, 20) + record_mix(2, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(a_marker_is_read),
		cmocka_unit_test(nothing_else_is_a_record),
		cmocka_unit_test(a_record_takes_1024_publications),
		cmocka_unit_test(names_that_are_too_long_are_refused),
		cmocka_unit_test(what_would_break_a_subscriber_is_no_record),
		cmocka_unit_test(numbers_grow_with_sequence_and_index),
		cmocka_unit_test(the_sum_depends_on_sequence_and_nonce),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
