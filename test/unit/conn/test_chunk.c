/* test_chunk.c - what src/conn/chunk.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "aborts.h"
#include "conn/chunk.h"
#include "oom.h"

static void a_chunk_of_a_message_borrows_its_frame(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);
	assert_non_null(m);
	struct chunk *c = chunk_of_message(message_ref(m, 1));

	(void)state;
	assert_non_null(c);
	assert_ptr_equal(c->bytes, m->frame);
	assert_int_equal(c->len, m->frame_len);
	assert_int_equal(c->cap, 0);
	chunk_unref(c);
	message_unref(m, 1);
}

static void a_chunk_of_a_part_borrows_just_that(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);
	assert_non_null(m);
	struct span part = message_data(m);
	part.bytes++;
	part.len -= 2;
	struct chunk *c = chunk_of_part(message_ref(m, 1), part);

	(void)state;
	assert_non_null(c);
	assert_ptr_equal(c->bytes, part.bytes);
	assert_int_equal(c->len, 2);
	assert_int_equal(c->cap, 0);
	assert_false(c->is_continued);
	assert_int_equal(atomic_load(&m->refs), 2);
	chunk_unref(c);
	assert_int_equal(atomic_load(&m->refs), 1);
	message_unref(m, 1);
}

static void however_often_a_chunk_is_held_it_holds_its_message_once(
	void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);
	assert_non_null(m);
	struct chunk *c = chunk_of_message(message_ref(m, 1));

	(void)state;
	assert_non_null(c);
	for (int i = 0; i < 9; i++)
		assert_ptr_equal(chunk_ref(c), c);
	assert_int_equal(c->refs, 10);
	for (int i = 0; i < 9; i++)
		chunk_unref(c);
	assert_int_equal(atomic_load(&m->refs), 2);
	chunk_unref(c);
	assert_int_equal(atomic_load(&m->refs), 1);
	message_unref(m, 1);
}

static void a_new_chunk_is_empty_and_has_room(void **state)
{
	struct chunk *c = chunk_new(100);

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->refs, 1);
	assert_int_equal(c->len, 0);
	assert_int_equal(c->cap, 100);
	assert_ptr_equal(c->bytes, c->own);
	assert_null(c->message);
	chunk_unref(c);
}

static void what_is_appended_is_copied_behind_what_was_there(void **state)
{
	struct chunk *c = chunk_new(10);
	char text[] = "news\0p";

	(void)state;
	assert_non_null(c);
	chunk_append(c, text, 4);
	chunk_append(c, NULL, 0);
	chunk_append(c, text + 4, 2);
	memset(text, 'x', sizeof text);
	chunk_append(c, "aper", 4);
	assert_int_equal(c->len, 10);
	assert_memory_equal(c->bytes, "news\0paper", 10);
	chunk_unref(c);
}

static void a_chunk_without_room_takes_nothing_but_nothing(void **state)
{
	struct chunk *c = chunk_new(0);

	(void)state;
	assert_non_null(c);
	chunk_append(c, "", 0);
	assert_int_equal(c->len, 0);
	chunk_unref(c);
}

static void append_five(void *chunk)
{
	chunk_append(chunk, "paper", 5);
}

static void appending_past_the_room_aborts(void **state)
{
	struct chunk *c = chunk_new(8);

	(void)state;
	assert_non_null(c);
	chunk_append(c, "news", 4);
	assert_true(aborts(append_five, c));
	chunk_unref(c);
}

static void appending_to_a_chunk_that_others_hold_aborts(void **state)
{
	struct chunk *c = chunk_ref(chunk_new(8));

	(void)state;
	assert_true(aborts(append_five, c));
	chunk_unref(c);
	append_five(c);
	assert_int_equal(c->len, 5);
	chunk_unref(c);
}

static void appending_to_a_chunk_of_a_message_aborts(void **state)
{
	struct chunk *c = chunk_of_message(message_new(SPAN("news"), false, 1));

	(void)state;
	assert_non_null(c);
	assert_true(aborts(append_five, c));
	chunk_unref(c);
}

static void room_that_does_not_fit_its_field_is_refused(void **state)
{
	(void)state;
	assert_null(chunk_new((size_t)UINT32_MAX + 1));
	assert_null(chunk_new(SIZE_MAX));
}

static void without_memory_there_is_no_chunk(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	struct chunk *c = chunk_new(100);
	assert_true(oom_end());
	assert_null(c);
}

static void without_memory_the_messages_reference_is_given_up_all_the_same(
	void **state)
{
	struct message *m;

	(void)state;
	OOM_OR_SKIP();
	m = message_new(SPAN("news"), false, 1);
	assert_non_null(m);
	message_ref(m, 1);
	oom_fail_at(1);
	struct chunk *c = chunk_of_message(m);
	assert_true(oom_end());
	assert_null(c);
	assert_int_equal(atomic_load(&m->refs), 1);
	message_unref(m, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chunk_of_a_message_borrows_its_frame),
		cmocka_unit_test(a_chunk_of_a_part_borrows_just_that),
		cmocka_unit_test(
			however_often_a_chunk_is_held_it_holds_its_message_once),
		cmocka_unit_test(a_new_chunk_is_empty_and_has_room),
		cmocka_unit_test(
			what_is_appended_is_copied_behind_what_was_there),
		cmocka_unit_test(
			a_chunk_without_room_takes_nothing_but_nothing),
		cmocka_unit_test(appending_past_the_room_aborts),
		cmocka_unit_test(appending_to_a_chunk_that_others_hold_aborts),
		cmocka_unit_test(appending_to_a_chunk_of_a_message_aborts),
		cmocka_unit_test(room_that_does_not_fit_its_field_is_refused),
		cmocka_unit_test(without_memory_there_is_no_chunk),
		cmocka_unit_test(
			without_memory_the_messages_reference_is_given_up_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
