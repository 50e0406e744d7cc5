/* test_message.c - what src/topics/message.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "aborts.h"
#include "base/buf.h"
#include "base/memory.h"
#include "codec/websocket.h"
#include "oom.h"
#include "topics/message.h"

#define THREADS 4
#define TURNS   20000

#define MESSAGE_BYTES 72 /* of the struct, without its links */

static void assert_frame(size_t len, const char *header, size_t header_len)
{
	char *data = malloc(len + 1);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i % 127);
	struct message *m = message_new((struct span){data, len}, false, 3);
	assert_non_null(m);
	assert_int_equal(m->frame_len, header_len + len);
	assert_memory_equal(m->frame, header, header_len);
	assert_memory_equal(m->frame + header_len, data, len);
	message_unref(m, 1);
	free(data);
}

#define ASSERT_FRAME(len, header) assert_frame(len, header, sizeof header - 1)

/* RFC 6455 5.2: a final (80) text (1) frame, not masked. */
static void up_to_125_bytes_the_length_is_in_the_second_byte(void **state)
{
	(void)state;
	ASSERT_FRAME(0, "\x81\x00");
	ASSERT_FRAME(1, "\x81\x01");
	ASSERT_FRAME(125, "\x81\x7d");
}

static void from_126_to_65535_bytes_the_length_takes_two_bytes_more(
	void **state)
{
	(void)state;
	ASSERT_FRAME(126, "\x81\x7e\x00\x7e");
	ASSERT_FRAME(65535, "\x81\x7e\xff\xff");
}

static void from_65536_bytes_the_length_takes_eight_bytes_more(void **state)
{
	(void)state;
	ASSERT_FRAME(65536, "\x81\x7f\0\0\0\0\0\1\0\0");
	ASSERT_FRAME(0x1234567, "\x81\x7f\0\0\0\0\x01\x23\x45\x67");
}

static void data_that_is_absent_makes_an_empty_frame(void **state)
{
	struct message *m = message_new((struct span){NULL, 0}, false, 1);

	(void)state;
	assert_non_null(m);
	assert_int_equal(m->frame_len, 2);
	assert_memory_equal(m->frame, "\x81\x00", 2);
	message_unref(m, 1);
}

static void the_data_is_copied(void **state)
{
	char data[] = "a\0b";
	struct message *m = message_new((struct span){data, 3}, false, 1);

	(void)state;
	assert_non_null(m);
	memset(data, 'x', sizeof data);
	assert_memory_equal(m->frame,
			    "\x81\x03"
			    "a\0b",
			    5);
	message_unref(m, 1);
}

static void a_message_starts_with_one_reference_and_no_place(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 2);

	(void)state;
	assert_non_null(m);
	assert_int_equal(atomic_load(&m->refs), 1);
	assert_int_equal(m->sequence, 0);
	message_unref(m, 1);
}

static void the_links_of_all_workers_lie_beside_the_frame(void **state)
{
	static const unsigned workers[] = {0, 1, 2, 64};

	(void)state;
	for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
		struct message *m =
			message_new(SPAN("news"), false, workers[i]);
		assert_non_null(m);
		memset(m->links, 0xff, workers[i] * sizeof m->links[0]);
		assert_int_equal(m->frame_len, 6);
		assert_memory_equal(m->frame, "\x81\x04news", 6);
		message_unref(m, 1);
	}
}

/* Nothing is read of data that is too long: there is none here. */
static void data_whose_frame_could_be_too_long_is_refused(void **state)
{
	static const size_t lens[] = {MESSAGE_MAX_BYTES - 9, MESSAGE_MAX_BYTES,
				      SIZE_MAX - 9, SIZE_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
		assert_null(message_new((struct span){"", lens[i]}, false, 1));
}

static void references_are_taken_and_given_up_by_number(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);

	(void)state;
	assert_non_null(m);
	assert_ptr_equal(message_ref(m, 6), m);
	assert_int_equal(atomic_load(&m->refs), 7);
	message_unref(m, 2);
	assert_int_equal(atomic_load(&m->refs), 5);
	assert_memory_equal(m->frame, "\x81\x04news", 6);
	message_unref(m, 5);
}

static void give_up_two(void *message)
{
	message_unref(message, 2);
}

static void giving_up_more_references_than_there_are_aborts(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);

	(void)state;
	assert_non_null(m);
	assert_true(aborts(give_up_two, m));
	message_unref(m, 1);
}

struct holder {
	uv_thread_t thread;
	struct message *message;
	unsigned wrong;
};

/* Reads, then lets go: the last to do so frees what the others have read. */
static void take_and_give_up(void *arg)
{
	struct holder *h = arg;

	for (unsigned i = 0; i < TURNS; i++) {
		message_ref(h->message, 1 + i % 3);
		h->wrong += memcmp(h->message->frame, "\x81\x04news", 6) != 0;
		message_unref(h->message, 1 + i % 3);
	}
	message_unref(h->message, 1);
}

static void threads_share_a_message_and_whoever_is_last_frees_it(void **state)
{
	struct message *m = message_new(SPAN("news"), false, 1);
	struct holder holders[THREADS] = {0};

	(void)state;
	assert_non_null(m);
	for (int i = 0; i < THREADS; i++) {
		holders[i].message = message_ref(m, 1);
		assert_int_equal(uv_thread_create(&holders[i].thread,
						  take_and_give_up,
						  &holders[i]),
				 0);
	}
	message_unref(m, 1);
	for (int i = 0; i < THREADS; i++) {
		uv_thread_join(&holders[i].thread);
		assert_int_equal(holders[i].wrong, 0);
	}
}

static void without_memory_there_is_no_message(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	struct message *m = message_new(SPAN("news"), false, 1);
	assert_true(oom_end());
	assert_null(m);
}

static void it_has_what_it_was_made_of(void **state)
{
	const struct span traceparent =
		SPAN("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
	struct json_data from = {.text = SPAN("[1]"),
				 .is_json = true,
				 .event = SPAN("goal"),
				 .traceparent = traceparent};
	struct message *all = message_new_from(from, 2);

	(void)state;
	from.event = (struct span){0};
	struct message *traced = message_new_from(from, 2);
	assert_non_null(all);
	assert_non_null(traced);
	assert_true(span_equal(message_data(all), SPAN("[1]")));
	assert_true(span_equal(message_event(all), SPAN("goal")));
	assert_true(span_equal(message_traceparent(all), traceparent));
	assert_true(all->is_json);
	assert_null(message_event(traced).bytes);
	assert_true(span_equal(message_traceparent(traced), traceparent));
	message_unref(all, 1);
	message_unref(traced, 1);
}

/* What has no use for it does not pay for it. */
static void a_message_without_a_traceparent_is_not_larger(void **state)
{
	struct message *m = message_new(SPAN("x"), false, 1);
	struct message *longer = message_new(SPAN("xy"), false, 1);

	(void)state;
	assert_non_null(m);
	assert_non_null(longer);
	assert_int_equal(m->size, sizeof(struct message) +
					  sizeof(struct message_link) +
					  WEBSOCKET_HEADER_MAX + 1);
	assert_int_equal(longer->size, m->size + 1);
	/* As large as before there were traceparents. */
	assert_int_equal(sizeof(struct message), MESSAGE_BYTES);
	message_unref(m, 1);
	message_unref(longer, 1);
}

static void without_a_type_it_has_none(void **state)
{
	struct message *m = message_new(SPAN("x"), false, 1);

	(void)state;
	assert_non_null(m);
	assert_null(message_event(m).bytes);
	assert_null(message_traceparent(m).bytes);
	message_unref(m, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			up_to_125_bytes_the_length_is_in_the_second_byte),
		cmocka_unit_test(
			from_126_to_65535_bytes_the_length_takes_two_bytes_more),
		cmocka_unit_test(
			from_65536_bytes_the_length_takes_eight_bytes_more),
		cmocka_unit_test(data_that_is_absent_makes_an_empty_frame),
		cmocka_unit_test(the_data_is_copied),
		cmocka_unit_test(
			a_message_starts_with_one_reference_and_no_place),
		cmocka_unit_test(the_links_of_all_workers_lie_beside_the_frame),
		cmocka_unit_test(data_whose_frame_could_be_too_long_is_refused),
		cmocka_unit_test(references_are_taken_and_given_up_by_number),
		cmocka_unit_test(
			giving_up_more_references_than_there_are_aborts),
		cmocka_unit_test(
			threads_share_a_message_and_whoever_is_last_frees_it),
		cmocka_unit_test(without_memory_there_is_no_message),
		cmocka_unit_test(it_has_what_it_was_made_of),
		cmocka_unit_test(a_message_without_a_traceparent_is_not_larger),
		cmocka_unit_test(without_a_type_it_has_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
