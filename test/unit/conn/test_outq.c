/* test_outq.c - what src/conn/outq.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "aborts.h"
#include "conn/outq.h"
#include "oom.h"

#define GATHER_ALL  256
#define STREAM_MAX  (1 << 16)
#define OPERATIONS  50000
#define SINGLE_ROOM 512 /* bytes of room in a chunk of outq_write() */

/* --- help ------------------------------------------------------------------*/

static struct chunk *chunk_of(const char *text)
{
	struct chunk *c = chunk_new(strlen(text));

	assert_non_null(c);
	chunk_append(c, text, strlen(text));
	return c;
}

/* Pushes a chunk of `text` that only the queue holds then. */
static void push(struct outq *q, const char *text)
{
	struct chunk *c = chunk_of(text);

	assert_int_equal(outq_push(q, c), 0);
	chunk_unref(c);
}

static void write_text(struct outq *q, const char *text, uint32_t sealed)
{
	assert_int_equal(outq_write(q, span_of(text), sealed), 0);
}

/* Copies all that is queued to `out`. Returns its length. */
static size_t read_all(const struct outq *q, char out[static STREAM_MAX])
{
	uv_buf_t bufs[GATHER_ALL];
	unsigned n = outq_gather(q, bufs, GATHER_ALL, SIZE_MAX);
	size_t len = 0;

	assert_int_equal(n, q->count);
	for (unsigned i = 0; i < n; len += bufs[i++].len) {
		assert_true(len + bufs[i].len <= STREAM_MAX);
		memcpy(out + len, bufs[i].base, bufs[i].len);
	}
	return len;
}

static void assert_queued(const struct outq *q, const char *text)
{
	static char stream[STREAM_MAX];
	size_t len = read_all(q, stream);

	assert_int_equal(len, strlen(text));
	assert_memory_equal(stream, text, len);
	assert_int_equal(q->bytes, len);
}

/* --- pushing and consuming -------------------------------------------------*/

static void zeroed_memory_is_an_empty_queue(void **state)
{
	struct outq q = {0};
	uv_buf_t buf;

	(void)state;
	assert_int_equal(q.bytes, 0);
	assert_int_equal(outq_gather(&q, &buf, 1, SIZE_MAX), 0);
	outq_consume(&q, 0);
	outq_truncate(&q, 0);
	outq_fini(&q);
}

static void chunks_come_out_in_the_order_they_went_in(void **state)
{
	struct outq q = {0};

	(void)state;
	push(&q, "a");
	push(&q, "bc");
	push(&q, "d");
	assert_int_equal(q.count, 3);
	assert_queued(&q, "abcd");
	outq_fini(&q);
}

static void a_queue_holds_a_reference_until_the_chunk_is_written(void **state)
{
	struct outq q = {0};
	struct chunk *c = chunk_of("news");

	(void)state;
	assert_int_equal(outq_push(&q, c), 0);
	assert_int_equal(c->refs, 2);
	outq_consume(&q, 3);
	assert_int_equal(c->refs, 2);
	outq_consume(&q, 1);
	assert_int_equal(c->refs, 1);
	chunk_unref(c);
	outq_fini(&q);
}

static void the_same_chunk_may_be_queued_twice(void **state)
{
	struct outq q = {0};
	struct chunk *c = chunk_of("ab");

	(void)state;
	assert_int_equal(outq_push(&q, c), 0);
	assert_int_equal(outq_push(&q, c), 0);
	assert_queued(&q, "abab");
	outq_fini(&q);
	assert_int_equal(c->refs, 1);
	chunk_unref(c);
}

static void few_chunks_need_no_memory(void **state)
{
	struct outq q = {0};

	(void)state;
	for (int i = 0; i < OUTQ_FEW; i++)
		push(&q, "a");
	assert_int_equal(q.cap, 0);
	outq_fini(&q);
}

static void an_empty_queue_keeps_no_memory(void **state)
{
	struct outq q = {0};

	(void)state;
	for (int i = 0; i < 100; i++)
		push(&q, "a");
	assert_true(q.cap >= 100);
	outq_consume(&q, 99);
	assert_queued(&q, "a");
	outq_consume(&q, 1);
	assert_int_equal(q.cap, 0);
	push(&q, "b");
	assert_queued(&q, "b");
	outq_fini(&q);
}

/* However far the oldest has moved on in the ring when it becomes full. */
static void the_ring_keeps_its_order_when_it_grows(void **state)
{
	(void)state;
	for (size_t first = 0; first < 64; first++) {
		struct outq q = {0};
		char expected[256] = "";

		/* Never empty, since an empty queue starts anew. */
		push(&q, "x");
		for (size_t i = 0; i < first; i++) {
			push(&q, "x");
			outq_consume(&q, 1);
		}
		for (size_t i = 0; i < 150; i++) {
			char text[] = {(char)('a' + i % 26), '\0'};
			push(&q, text);
			expected[i] = text[0];
		}
		outq_consume(&q, 1);
		assert_queued(&q, expected);
		outq_fini(&q);
	}
}

static void consuming_may_end_inside_a_chunk_or_between_two(void **state)
{
	struct outq q = {0};

	(void)state;
	push(&q, "abc");
	push(&q, "def");
	push(&q, "ghi");
	outq_consume(&q, 0);
	assert_queued(&q, "abcdefghi");
	outq_consume(&q, 1);
	assert_queued(&q, "bcdefghi");
	outq_consume(&q, 1);
	assert_queued(&q, "cdefghi");
	outq_consume(&q, 1);
	assert_int_equal(q.count, 2);
	assert_queued(&q, "defghi");
	outq_consume(&q, 4);
	assert_int_equal(q.count, 1);
	assert_queued(&q, "hi");
	outq_consume(&q, 2);
	assert_queued(&q, "");
	outq_fini(&q);
}

static void consume_three(void *q)
{
	outq_consume(q, 3);
}

static void consuming_more_than_there_is_aborts(void **state)
{
	struct outq q = {0};

	(void)state;
	push(&q, "ab");
	assert_true(aborts(consume_three, &q));
	outq_fini(&q);
}

/* --- gathering -------------------------------------------------------------*/

static void no_more_buffers_are_gathered_than_asked_for(void **state)
{
	struct outq q = {0};
	uv_buf_t bufs[3];

	(void)state;
	for (int i = 0; i < 5; i++)
		push(&q, "ab");
	assert_int_equal(outq_gather(&q, bufs, 0, SIZE_MAX), 0);
	assert_int_equal(outq_gather(&q, bufs, 3, SIZE_MAX), 3);
	outq_fini(&q);
}

static void gathering_ends_with_the_buffer_that_reaches_the_bytes(void **state)
{
	struct outq q = {0};
	uv_buf_t bufs[5];

	(void)state;
	for (int i = 0; i < 5; i++)
		push(&q, "ab");
	assert_int_equal(outq_gather(&q, bufs, 5, 0), 0);
	assert_int_equal(outq_gather(&q, bufs, 5, 1), 1);
	assert_int_equal(outq_gather(&q, bufs, 5, 2), 1);
	assert_int_equal(outq_gather(&q, bufs, 5, 3), 2);
	assert_int_equal(outq_gather(&q, bufs, 5, 10), 5);
	outq_consume(&q, 1);
	assert_int_equal(outq_gather(&q, bufs, 5, 2), 2);
	outq_fini(&q);
}

static void what_is_gathered_is_not_copied(void **state)
{
	struct outq q = {0};
	struct message *m = message_new(SPAN("news"), false, 1);
	uv_buf_t buf;

	(void)state;
	assert_non_null(m);
	struct chunk *c = chunk_of_message(m);
	assert_non_null(c);
	assert_int_equal(outq_push(&q, c), 0);
	outq_consume(&q, 2);
	assert_int_equal(outq_gather(&q, &buf, 1, SIZE_MAX), 1);
	assert_ptr_equal(buf.base, m->frame + 2);
	assert_int_equal(buf.len, 4);
	chunk_unref(c);
	outq_fini(&q);
}

/* --- writing ---------------------------------------------------------------*/

static void small_writes_share_a_chunk(void **state)
{
	struct outq q = {0};

	(void)state;
	for (int i = 0; i < SINGLE_ROOM; i++)
		write_text(&q, "a", 0);
	assert_int_equal(q.count, 1);
	assert_int_equal(q.bytes, SINGLE_ROOM);
	write_text(&q, "b", 0);
	assert_int_equal(q.count, 2);
	assert_int_equal(q.bytes, SINGLE_ROOM + 1);
	outq_fini(&q);
}

static void a_write_that_does_not_fit_is_not_split(void **state)
{
	char text[SINGLE_ROOM] = "";
	struct outq q = {0};
	uv_buf_t bufs[2];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	write_text(&q, "ab", 0);
	write_text(&q, text, 0);
	assert_int_equal(outq_gather(&q, bufs, 2, SIZE_MAX), 2);
	assert_int_equal(bufs[0].len, 2);
	assert_int_equal(bufs[1].len, sizeof text - 1);
	outq_fini(&q);
}

static void a_large_write_has_a_chunk_of_its_size(void **state)
{
	char text[10000] = "";
	struct outq q = {0};

	(void)state;
	memset(text, 'x', sizeof text - 1);
	write_text(&q, text, 0);
	assert_int_equal(q.count, 1);
	assert_queued(&q, text);
	write_text(&q, "b", 0);
	assert_int_equal(q.count, 2);
	outq_fini(&q);
}

static void what_is_written_is_copied(void **state)
{
	struct outq q = {0};
	char text[] = "news";

	(void)state;
	write_text(&q, text, 0);
	memset(text, 'x', 4);
	assert_queued(&q, "news");
	outq_fini(&q);
}

static void sealed_chunks_are_left_alone(void **state)
{
	struct outq q = {0};
	uv_buf_t before[1];
	uv_buf_t after[3];

	(void)state;
	write_text(&q, "ab", 0);
	assert_int_equal(outq_gather(&q, before, 1, SIZE_MAX), 1);
	write_text(&q, "cd", 1);
	write_text(&q, "ef", 1);
	assert_int_equal(outq_gather(&q, after, 3, SIZE_MAX), 2);
	assert_ptr_equal(after[0].base, before[0].base);
	assert_int_equal(after[0].len, 2);
	assert_int_equal(after[1].len, 4);
	assert_queued(&q, "abcdef");
	outq_fini(&q);
}

static void a_chunk_that_others_hold_is_not_written_to(void **state)
{
	struct outq q = {0};
	struct chunk *c = chunk_new(100);

	(void)state;
	assert_non_null(c);
	chunk_append(c, "ab", 2);
	assert_int_equal(outq_push(&q, c), 0);
	write_text(&q, "cd", 0);
	assert_int_equal(c->len, 2);
	assert_int_equal(q.count, 2);
	assert_queued(&q, "abcd");
	chunk_unref(c);
	outq_fini(&q);
}

static void a_message_is_not_written_to(void **state)
{
	struct outq q = {0};
	struct chunk *c = chunk_of_message(message_new(SPAN("news"), false, 1));

	(void)state;
	assert_non_null(c);
	assert_int_equal(outq_push(&q, c), 0);
	chunk_unref(c);
	write_text(&q, "", 0);
	write_text(&q, "x", 0);
	assert_int_equal(q.count, 2);
	assert_queued(&q, "\x81\x04newsx");
	outq_fini(&q);
}

static void writing_goes_on_in_a_chunk_that_is_written_in_part(void **state)
{
	struct outq q = {0};

	(void)state;
	write_text(&q, "abc", 0);
	outq_consume(&q, 2);
	write_text(&q, "d", 0);
	assert_int_equal(q.count, 1);
	assert_queued(&q, "cd");
	outq_fini(&q);
}

/* --- truncating ------------------------------------------------------------*/

static void truncating_keeps_the_oldest(void **state)
{
	struct outq q = {0};

	(void)state;
	push(&q, "ab");
	push(&q, "cd");
	push(&q, "ef");
	outq_truncate(&q, 4);
	outq_truncate(&q, 3);
	assert_queued(&q, "abcdef");
	outq_truncate(&q, 2);
	assert_queued(&q, "abcd");
	outq_truncate(&q, 0);
	assert_queued(&q, "");
	assert_int_equal(q.cap, 0);
	outq_fini(&q);
}

static void truncating_leaves_a_chunk_in_flight_where_it_is(void **state)
{
	struct outq q = {0};
	uv_buf_t before;
	uv_buf_t after;

	(void)state;
	for (int i = 0; i < 10; i++)
		push(&q, "abc");
	outq_consume(&q, 4);
	assert_int_equal(outq_gather(&q, &before, 1, SIZE_MAX), 1);
	outq_truncate(&q, 1);
	assert_int_equal(outq_gather(&q, &after, 1, SIZE_MAX), 1);
	assert_ptr_equal(after.base, before.base);
	assert_int_equal(after.len, before.len);
	assert_queued(&q, "bc");
	outq_consume(&q, 2);
	assert_queued(&q, "");
	outq_fini(&q);
}

static void truncating_forgets_how_much_of_the_oldest_is_written(void **state)
{
	struct outq q = {0};

	(void)state;
	push(&q, "abc");
	outq_consume(&q, 2);
	outq_truncate(&q, 0);
	assert_int_equal(q.bytes, 0);
	push(&q, "def");
	assert_queued(&q, "def");
	outq_fini(&q);
}

/* Pushes a chunk that ends inside a unit. */
static void push_part(struct outq *q, const char *text)
{
	struct chunk *c = chunk_of(text);

	c->is_continued = true;
	assert_int_equal(outq_push(q, c), 0);
	chunk_unref(c);
}

static void truncating_cuts_no_unit(void **state)
{
	static const char *const kept[] = {"",     "a",    "abcd",
					   "abcd", "abcd", "abcde"};

	(void)state;
	for (uint32_t keep = 0; keep < 6; keep++) {
		struct outq q = {0};
		push(&q, "a");
		push_part(&q, "b");
		push_part(&q, "c");
		push(&q, "d");
		push(&q, "e");
		push_part(&q, "f");
		push(&q, "g");
		outq_truncate(&q, keep);
		assert_queued(&q, kept[keep]);
		outq_fini(&q);
	}
}

static void truncating_where_the_end_of_a_unit_is_missing_keeps_it(void **state)
{
	struct outq q = {0};

	(void)state;
	push_part(&q, "a");
	push_part(&q, "b");
	outq_truncate(&q, 1);
	assert_queued(&q, "ab");
	outq_fini(&q);
}

static void what_is_unfinished_can_be_dropped(void **state)
{
	struct outq q = {0};

	(void)state;
	outq_drop_unfinished(&q, 0);
	push_part(&q, "a");
	push(&q, "b");
	outq_drop_unfinished(&q, 0);
	assert_queued(&q, "ab");
	push_part(&q, "c");
	push_part(&q, "d");
	outq_drop_unfinished(&q, 3);
	assert_queued(&q, "abc");
	outq_drop_unfinished(&q, 0);
	assert_queued(&q, "ab");
	outq_fini(&q);
	push_part(&q, "e");
	outq_drop_unfinished(&q, 0);
	assert_queued(&q, "");
	assert_int_equal(q.count, 0);
}

static void pieces_are_written_as_one(void **state)
{
	const struct span three[] = {SPAN("a"), SPAN(""), SPAN("bc")};
	struct outq q = {0};
	char filling[SINGLE_ROOM - 3];

	(void)state;
	assert_int_equal(outq_write_pieces(&q, three, 3, 0), 0);
	assert_queued(&q, "abc");
	/* Either fits behind that, but not both. */
	memset(filling, 'x', sizeof filling);
	const struct span two[] = {SPAN("d"), {filling, sizeof filling}};
	assert_int_equal(outq_write_pieces(&q, two, 2, 0), 0);
	assert_int_equal(q.count, 2);
	assert_int_equal(q.bytes, 3 + 1 + sizeof filling);
	outq_consume(&q, 3);
	uv_buf_t buf;
	assert_int_equal(outq_gather(&q, &buf, 1, SIZE_MAX), 1);
	assert_int_equal(buf.len, 1 + sizeof filling);
	assert_int_equal(buf.base[0], 'd');
	assert_int_equal(buf.base[1], 'x');
	outq_fini(&q);
}

static void what_is_dropped_is_given_up(void **state)
{
	struct outq q = {0};
	struct chunk *c = chunk_of("ab");

	(void)state;
	for (int i = 0; i < 9; i++)
		assert_int_equal(outq_push(&q, c), 0);
	outq_truncate(&q, 4);
	assert_int_equal(c->refs, 5);
	outq_fini(&q);
	assert_int_equal(c->refs, 1);
	chunk_unref(c);
}

/* --- against a model -------------------------------------------------------*/

/* The bytes that the queue must hold, in a row. */
struct model {
	char bytes[STREAM_MAX];
	size_t len;
	uint64_t random;
	unsigned char next; /* byte to be queued, so that each differs */
};

/* xorshift64, below `limit`. */
static uint32_t random_below(struct model *m, uint32_t limit)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 32) % limit;
}

/* Appends up to `max` new bytes to the model, and returns them. */
static struct span make_bytes(struct model *m, uint32_t max)
{
	struct span made = {m->bytes + m->len, 1 + random_below(m, max)};

	assert_true(m->len + made.len <= STREAM_MAX);
	for (size_t i = 0; i < made.len; i++)
		m->bytes[m->len++] = (char)m->next++;
	return made;
}

static void push_message(struct model *m, struct outq *q)
{
	struct span frame = {m->bytes + m->len, 2};
	struct span data;

	/* The model is of what is written: the frame's header too. */
	m->len += 2;
	data = make_bytes(m, 100);
	struct message *message = message_new(data, false, 1);
	assert_non_null(message);
	memcpy(m->bytes + (frame.bytes - m->bytes), message->frame, 2);
	struct chunk *c = chunk_of_message(message);
	assert_non_null(c);
	assert_int_equal(outq_push(q, c), 0);
	chunk_unref(c);
}

static void consume_some(struct model *m, struct outq *q)
{
	size_t len = random_below(m, (uint32_t)m->len + 1);

	if (random_below(m, 2) > 0 && len > 64)
		len = 64;
	outq_consume(q, len);
	m->len -= len;
	memmove(m->bytes, m->bytes + len, m->len);
}

static void truncate_some(struct model *m, struct outq *q)
{
	uv_buf_t bufs[GATHER_ALL];
	uint32_t keep = random_below(m, 1 + q->count);
	unsigned n = outq_gather(q, bufs, keep, SIZE_MAX);

	assert_int_equal(n, keep);
	m->len = 0;
	for (unsigned i = 0; i < n; i++)
		m->len += bufs[i].len;
	outq_truncate(q, keep);
	assert_int_equal(q->count, keep);
}

static void gather_some(struct model *m, const struct outq *q)
{
	uv_buf_t bufs[GATHER_ALL];
	unsigned max = random_below(m, GATHER_ALL);
	size_t max_bytes = random_below(m, (uint32_t)m->len + 100);
	unsigned n = outq_gather(q, bufs, max, max_bytes);
	size_t len = 0;

	assert_true(n <= max && n <= q->count);
	for (unsigned i = 0; i < n; len += bufs[i++].len) {
		assert_true(len < max_bytes);
		assert_memory_equal(bufs[i].base, m->bytes + len, bufs[i].len);
	}
	if (n < max && n < q->count)
		assert_true(len >= max_bytes);
}

static void operate(struct model *m, struct outq *q)
{
	bool is_full = m->len > STREAM_MAX / 4 || q->count > GATHER_ALL / 2;

	switch (is_full ? 7 : random_below(m, 9)) {
	case 0:
	case 1:
		push_message(m, q);
		break;
	case 2:
	case 3:
	case 4:
		assert_int_equal(outq_write(q, make_bytes(m, 100), 0), 0);
		break;
	case 5:
		assert_int_equal(outq_write(q, make_bytes(m, 2000),
					    random_below(m, 1 + q->count)),
				 0);
		break;
	case 6:
		if (random_below(m, 10) == 0)
			truncate_some(m, q);
		break;
	default:
		consume_some(m, q);
		break;
	}
}

static void whatever_is_done_the_bytes_are_those_of_a_simple_row(void **state)
{
	static char stream[STREAM_MAX];
	static struct model m = {.random = 0x9e3779b97f4a7c15};
	struct outq q = {0};

	(void)state;
	for (int i = 0; i < OPERATIONS; i++) {
		operate(&m, &q);
		assert_int_equal(q.bytes, m.len);
		assert_int_equal(read_all(&q, stream), m.len);
		assert_memory_equal(stream, m.bytes, m.len);
		gather_some(&m, &q);
	}
	outq_fini(&q);
}

/* --- without memory --------------------------------------------------------*/

static void without_memory_a_push_changes_nothing(void **state)
{
	struct outq q = {0};

	(void)state;
	OOM_OR_SKIP();
	push(&q, "ab");
	push(&q, "cd");
	outq_consume(&q, 1);
	struct chunk *c = chunk_of("ef");
	oom_fail_at(1);
	int rv = outq_push(&q, c);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_int_equal(c->refs, 1);
	assert_queued(&q, "bcd");
	assert_int_equal(outq_push(&q, c), 0);
	assert_queued(&q, "bcdef");
	chunk_unref(c);
	outq_fini(&q);
}

static void without_memory_a_write_changes_nothing(void **state)
{
	struct outq q = {0};
	unsigned nth = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	push(&q, "ab");
	push(&q, "cd");
	for (;;) {
		oom_fail_at(++nth);
		rv = outq_write(&q, SPAN("ef"), 2);
		if (!oom_end())
			break;
		assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(q.count, 2);
		assert_queued(&q, "abcd");
	}
	assert_int_equal(rv, 0);
	assert_int_equal(nth, 3); /* a chunk, then room in the ring */
	assert_queued(&q, "abcdef");
	outq_fini(&q);
}

static void a_write_to_a_chunk_with_room_needs_no_memory(void **state)
{
	struct outq q = {0};

	(void)state;
	OOM_OR_SKIP();
	write_text(&q, "ab", 0);
	oom_fail_at(1);
	int rv = outq_write(&q, SPAN("cd"), 0);
	assert_false(oom_end());
	assert_int_equal(rv, 0);
	assert_queued(&q, "abcd");
	outq_fini(&q);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_memory_is_an_empty_queue),
		cmocka_unit_test(chunks_come_out_in_the_order_they_went_in),
		cmocka_unit_test(
			a_queue_holds_a_reference_until_the_chunk_is_written),
		cmocka_unit_test(the_same_chunk_may_be_queued_twice),
		cmocka_unit_test(few_chunks_need_no_memory),
		cmocka_unit_test(an_empty_queue_keeps_no_memory),
		cmocka_unit_test(the_ring_keeps_its_order_when_it_grows),
		cmocka_unit_test(
			consuming_may_end_inside_a_chunk_or_between_two),
		cmocka_unit_test(consuming_more_than_there_is_aborts),
		cmocka_unit_test(no_more_buffers_are_gathered_than_asked_for),
		cmocka_unit_test(
			gathering_ends_with_the_buffer_that_reaches_the_bytes),
		cmocka_unit_test(what_is_gathered_is_not_copied),
		cmocka_unit_test(small_writes_share_a_chunk),
		cmocka_unit_test(a_write_that_does_not_fit_is_not_split),
		cmocka_unit_test(a_large_write_has_a_chunk_of_its_size),
		cmocka_unit_test(what_is_written_is_copied),
		cmocka_unit_test(sealed_chunks_are_left_alone),
		cmocka_unit_test(a_chunk_that_others_hold_is_not_written_to),
		cmocka_unit_test(a_message_is_not_written_to),
		cmocka_unit_test(
			writing_goes_on_in_a_chunk_that_is_written_in_part),
		cmocka_unit_test(truncating_keeps_the_oldest),
		cmocka_unit_test(
			truncating_leaves_a_chunk_in_flight_where_it_is),
		cmocka_unit_test(
			truncating_forgets_how_much_of_the_oldest_is_written),
		cmocka_unit_test(truncating_cuts_no_unit),
		cmocka_unit_test(
			truncating_where_the_end_of_a_unit_is_missing_keeps_it),
		cmocka_unit_test(what_is_unfinished_can_be_dropped),
		cmocka_unit_test(pieces_are_written_as_one),
		cmocka_unit_test(what_is_dropped_is_given_up),
		cmocka_unit_test(
			whatever_is_done_the_bytes_are_those_of_a_simple_row),
		cmocka_unit_test(without_memory_a_push_changes_nothing),
		cmocka_unit_test(without_memory_a_write_changes_nothing),
		cmocka_unit_test(a_write_to_a_chunk_with_room_needs_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
