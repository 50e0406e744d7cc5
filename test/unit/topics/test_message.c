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
#include "oom.h"
#include "topics/message.h"

#define THREADS 4
#define TURNS   20000

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

/* --- forms ---------------------------------------------------------------- */

static const struct message_source source = {
	.epoch = 0x1f,
	.publisher = {"al\"ice", 6},
	.topic = {"news", 4},
};

static struct message *numbered(struct span data, bool is_json)
{
	struct message *m = message_new(data, is_json, 2);

	assert_non_null(m);
	m->sequence = 42;
	m->epoch = 0x1f;
	return m;
}

static void assert_form(struct span data, bool is_json, enum message_form form,
			struct span expected)
{
	struct message *m = numbered(data, is_json);
	struct span bytes = message_encode(m, form, &source);
	struct message_encoding *apart = NULL;
	struct buf out = {0};

	assert_true(span_equal(bytes, expected));
	if (form != MESSAGE_FRAME) {
		apart = message_encode_apart(m, form, &source);
		assert_true(
			span_equal(message_encoding_bytes(apart), expected));
	}
	message_encoding_free(apart);
	assert_int_equal(buf_append(&out, "before", 6), 0);
	assert_int_equal(message_append(&out, m, form, &source), 0);
	assert_int_equal(out.len, 6 + expected.len);
	assert_memory_equal(out.bytes, "before", 6);
	assert_memory_equal(out.bytes + 6, expected.bytes, expected.len);
	buf_fini(&out);
	message_unref(m, 1);
}

#define ENVELOPE(data)                                                         \
	"{\"type\":\"message\",\"publisher\":\"al\\\"ice\","                   \
	"\"topic\":\"news\",\"id\":\"000000000000001f-42\",\"data\":" data "}"

static void the_first_form_is_the_frame(void **state)
{
	(void)state;
	assert_form(SPAN("news"), false, MESSAGE_FRAME, SPAN("\x81\x04news"));
}

static void an_envelope_is_a_text_frame_of_json(void **state)
{
	(void)state;
	assert_form(SPAN("\"a\n"), false, MESSAGE_ENVELOPE,
		    SPAN("\x81\x61" ENVELOPE("\"\\\"a\\n\"")));
	assert_form(SPAN("[1]"), true, MESSAGE_ENVELOPE,
		    SPAN("\x81\x5d" ENVELOPE("[1]")));
}

static void an_event_has_its_id_first(void **state)
{
	(void)state;
	assert_form(SPAN("a\r\nb"), false, MESSAGE_BARE_EVENT,
		    SPAN("id: 000000000000001f-42\ndata: a\ndata: b\n\n"));
	assert_form(SPAN(""), false, MESSAGE_BARE_EVENT,
		    SPAN("id: 000000000000001f-42\ndata: \n\n"));
}

static void an_event_may_have_the_envelope_as_its_data(void **state)
{
	(void)state;
	assert_form(SPAN("a\nb"), false, MESSAGE_BARE_EVENT_ENVELOPE,
		    SPAN("id: 000000000000001f-42\n"
			 "data: " ENVELOPE("\"a\\nb\"") "\n\n"));
}

static void assert_event_form(bool is_json, enum message_form form,
			      const char *expected)
{
	struct message *m =
		message_new_event(SPAN("1"), is_json, SPAN("g\"l"), 2);
	struct span bytes;

	assert_non_null(m);
	m->sequence = 42;
	m->epoch = 0x1f;
	assert_true(span_equal(message_data(m), SPAN("1")));
	assert_true(span_equal(message_event(m), SPAN("g\"l")));
	bytes = message_encode(m, form, &source);
	assert_int_equal(bytes.len, strlen(expected));
	assert_memory_equal(bytes.bytes, expected, bytes.len);
	message_unref(m, 1);
}

#define TYPED_ENVELOPE                                                         \
	"{\"type\":\"message\",\"publisher\":\"al\\\"ice\","                   \
	"\"topic\":\"news\",\"id\":\"000000000000001f-42\","                   \
	"\"event\":\"g\\\"l\",\"data\":1}"

static void a_message_may_have_the_type_of_its_event(void **state)
{
	(void)state;
	assert_event_form(false, MESSAGE_FRAME,
			  "\x81\x01"
			  "1");
	assert_event_form(false, MESSAGE_BARE_EVENT,
			  "id: 000000000000001f-42\nevent: g\"l\n"
			  "data: 1\n\n");
	assert_event_form(false, MESSAGE_EVENT,
			  "2c\r\nid: 000000000000001f-42\nevent: g\"l\n"
			  "data: 1\n\n\r\n");
	assert_event_form(true, MESSAGE_ENVELOPE, "\x81\x6a" TYPED_ENVELOPE);
	assert_event_form(true, MESSAGE_BARE_EVENT_ENVELOPE,
			  "id: 000000000000001f-42\nevent: g\"l\n"
			  "data: " TYPED_ENVELOPE "\n\n");
}

static void without_a_type_it_has_none(void **state)
{
	struct message *m = message_new(SPAN("x"), false, 1);

	(void)state;
	assert_non_null(m);
	assert_null(message_event(m).bytes);
	message_unref(m, 1);
}

static void an_event_is_a_chunk_of_http(void **state)
{
	(void)state;
	assert_form(SPAN("a\r\nb"), false, MESSAGE_EVENT,
		    SPAN("29\r\nid: 000000000000001f-42\n"
			 "data: a\ndata: b\n\n\r\n"));
	assert_form(SPAN(""), false, MESSAGE_EVENT,
		    SPAN("20\r\nid: 000000000000001f-42\n"
			 "data: \n\n\r\n"));
	assert_form(SPAN("1"), true, MESSAGE_EVENT_ENVELOPE,
		    SPAN("7b\r\nid: 000000000000001f-42\n"
			 "data: " ENVELOPE("1") "\n\n\r\n"));
}

static void a_bare_event_lies_in_the_chunk(void **state)
{
	struct message *m = numbered(SPAN("a"), false);
	struct span chunk = message_encode(m, MESSAGE_EVENT, &source);
	struct span bare = message_encode(m, MESSAGE_BARE_EVENT, &source);

	(void)state;
	assert_ptr_equal(bare.bytes, chunk.bytes + 4);
	assert_int_equal(bare.len, chunk.len - 4 - 2);
	message_unref(m, 1);
}

static void the_body_of_an_event_is_what_follows_its_id(void **state)
{
	struct message *m = numbered(SPAN("a\nb"), false);
	struct span body = message_event_body(
		message_encode(m, MESSAGE_EVENT, &source), MESSAGE_EVENT);
	struct span bare = message_event_body(
		message_encode(m, MESSAGE_BARE_EVENT, &source),
		MESSAGE_BARE_EVENT);

	(void)state;
	assert_true(span_equal(body, SPAN("data: a\ndata: b\n\n\r\n")));
	assert_true(span_equal(bare, SPAN("data: a\ndata: b\n\n")));
	message_unref(m, 1);
}

/* Every length of a frame's header, and escapes that make it grow. */
static void forms_of_any_length_are_whole(void **state)
{
	static const size_t lens[] = {0, 1, 30, 31, 200, 65000, 70000};
	static char data[70000];

	(void)state;
	memset(data, 1, sizeof data); /* \u0001: six characters each */
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		struct message *m =
			numbered((struct span){data, lens[i]}, false);
		size_t json = sizeof ENVELOPE("\"\"") - 1 + 6 * lens[i];
		size_t header = json <= 125 ? 2 : json <= 65535 ? 4 : 10;
		struct span e = message_encode(m, MESSAGE_ENVELOPE, &source);
		assert_int_equal(e.len, header + json);
		assert_int_equal((unsigned char)e.bytes[0], 0x81);
		assert_memory_equal(e.bytes + header, "{\"type\"", 7);
		assert_int_equal(e.bytes[e.len - 1], '}');
		e = message_encode(m, MESSAGE_BARE_EVENT, &source);
		assert_int_equal(e.len, 24 + 6 + lens[i] + 2);
		e = message_encode(m, MESSAGE_EVENT, &source);
		assert_int_equal(strtoul(e.bytes, NULL, 16),
				 24 + 6 + lens[i] + 2);
		message_unref(m, 1);
	}
}

static void a_connection_has_the_form_of_its_framing(void **state)
{
	(void)state;
	for (unsigned form = 0; form < MESSAGE_FORMS; form++)
		assert_int_equal(
			message_form_for(message_forms[form].framing,
					 message_forms[form].has_envelope),
			form);
}

static void an_event_may_begin_with_another_id(void **state)
{
	struct message *m = numbered(SPAN("a"), false);
	struct span body = message_event_body(
		message_encode(m, MESSAGE_EVENT, &source), MESSAGE_EVENT);
	struct buf out = {0};

	(void)state;
	assert_int_equal(message_append_event_start(&out, MESSAGE_EVENT,
						    SPAN("1-2"), body.len),
			 0);
	assert_int_equal(buf_append(&out, body.bytes, body.len), 0);
	assert_true(span_equal((struct span){out.bytes, out.len},
			       SPAN("11\r\nid: 1-2\ndata: a\n\n\r\n")));
	out.len = 0;
	assert_int_equal(message_append_event_start(&out, MESSAGE_BARE_EVENT,
						    SPAN("1-2"), 9),
			 0);
	assert_true(span_equal((struct span){out.bytes, out.len},
			       SPAN("id: 1-2\n")));
	buf_fini(&out);
	message_unref(m, 1);
}

static void a_form_is_made_once(void **state)
{
	struct message *m = numbered(SPAN("news"), false);

	(void)state;
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		struct span first =
			message_encode(m, (enum message_form)form, &source);
		struct span again =
			message_encode(m, (enum message_form)form, &source);
		assert_ptr_equal(first.bytes, again.bytes);
		assert_int_equal(first.len, again.len);
	}
	message_unref(m, 1);
}

static size_t settled(void)
{
	memory_settle();
	return memory_used();
}

static void what_forms_take_is_charged_until_the_message_goes(void **state)
{
	static char data[100000];
	memory_set_limit(0, 1 << 20);
	size_t before = settled();
	struct message *m = numbered((struct span){data, sizeof data}, false);

	(void)state;
	for (unsigned form = 1; form < MESSAGE_ENCODINGS; form++) {
		size_t so_far = settled();
		size_t len =
			message_encode(m, (enum message_form)form, &source).len;
		assert_in_range(settled() - so_far, len, len + 100);
	}
	message_unref(m, 1);
	assert_int_equal(settled(), before);
	memory_set_limit(0, 0);
}

static void forms_count_as_kept_while_the_message_is(void **state)
{
	struct message *early = numbered(SPAN("news"), false);
	struct message *late = numbered(SPAN("news"), false);

	(void)state;
	message_encode(late, MESSAGE_EVENT, &source);
	assert_int_equal(message_kept_forms(), 0); /* nobody keeps it */
	message_keep(early);
	assert_int_equal(message_kept_forms(), 0);
	message_encode(early, MESSAGE_FRAME, &source);
	assert_int_equal(message_kept_forms(), 0);
	message_encode(early, MESSAGE_ENVELOPE, &source);
	size_t one = message_kept_forms();
	assert_in_range(one, 64, 1024);
	message_keep(late);
	size_t both = message_kept_forms();
	assert_in_range(both, one + 16, 2048);
	message_drop(early);
	assert_int_equal(message_kept_forms(), both - one);
	message_encode(early, MESSAGE_EVENT, &source);
	assert_int_equal(message_kept_forms(), both - one);
	message_drop(late);
	assert_int_equal(message_kept_forms(), 0);
	message_unref(early, 1);
	message_unref(late, 1);
}

static void no_more_forms_are_kept_than_may_be(void **state)
{
	static char data[10000];
	struct message *one = numbered((struct span){data, 9000}, false);
	struct message *two = numbered((struct span){data, 9000}, false);
	struct message *loose = numbered((struct span){data, 9000}, false);

	(void)state;
	message_keep(one);
	message_keep(two);
	message_bound_forms(15000);
	assert_non_null(message_encode(one, MESSAGE_EVENT, &source).bytes);
	size_t kept = message_kept_forms();
	assert_null(message_encode(two, MESSAGE_EVENT, &source).bytes);
	assert_null(message_encode(one, MESSAGE_ENVELOPE, &source).bytes);
	assert_int_equal(message_kept_forms(), kept);
	/* What nobody keeps has its forms as long as it is sent. */
	assert_non_null(message_encode(loose, MESSAGE_EVENT, &source).bytes);
	assert_int_equal(message_kept_forms(), kept);
	/* What is there stays there. */
	assert_non_null(message_encode(one, MESSAGE_EVENT, &source).bytes);
	message_drop(one);
	assert_non_null(message_encode(two, MESSAGE_EVENT, &source).bytes);
	message_drop(two);
	assert_int_equal(message_kept_forms(), 0);
	message_bound_forms(SIZE_MAX);
	message_unref(one, 1);
	message_unref(two, 1);
	message_unref(loose, 1);
}

static void without_memory_there_is_no_form_for_now(void **state)
{
	static char data[1000]; /* its envelope outgrows the first guess */

	(void)state;
	OOM_OR_SKIP();
	for (unsigned form = 1; form < MESSAGE_FORMS; form++) {
		struct message *m =
			numbered((struct span){data, sizeof data}, false);
		unsigned absent = 0;
		struct span bytes;
		do {
			oom_fail_at(absent + 1);
			bytes = message_encode(m, (enum message_form)form,
					       &source);
			absent += bytes.bytes == NULL;
			/* What can't be made smaller stays as it is. */
			assert_true(oom_end() || bytes.bytes != NULL);
		} while (bytes.bytes == NULL);
		assert_true(absent >= 1);
		message_unref(m, 1);
	}
}

struct encoder {
	uv_thread_t thread;
	uv_barrier_t *barrier;
	struct message **messages;
	unsigned wrong;
	const char *got[TURNS / 100][MESSAGE_FORMS];
};

static void encode_all(void *arg)
{
	struct encoder *e = arg;

	for (unsigned i = 0; i < TURNS / 100; i++) {
		uv_barrier_wait(e->barrier);
		for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
			struct span bytes = message_encode(
				e->messages[i], (enum message_form)form,
				&source);
			e->got[i][form] = bytes.bytes;
			e->wrong += memmem(bytes.bytes, bytes.len, "news", 4) ==
				    NULL;
		}
		message_unref(e->messages[i], 1);
	}
}

/* One message is kept, to compare what the threads got of it. */
static void threads_that_want_a_form_at_once_get_the_same(void **state)
{
	static struct encoder encoders[THREADS];
	static struct message *messages[TURNS / 100];
	uv_barrier_t barrier;

	(void)state;
	assert_int_equal(uv_barrier_init(&barrier, THREADS), 0);
	for (unsigned i = 0; i < TURNS / 100; i++)
		messages[i] =
			message_ref(numbered(SPAN("news"), false), THREADS);
	for (unsigned i = 0; i < TURNS / 100; i++)
		message_keep(messages[i]);
	for (int t = 0; t < THREADS; t++) {
		encoders[t].barrier = &barrier;
		encoders[t].messages = messages;
		assert_int_equal(uv_thread_create(&encoders[t].thread,
						  encode_all, &encoders[t]),
				 0);
	}
	for (int t = 0; t < THREADS; t++)
		uv_thread_join(&encoders[t].thread);
	for (int t = 0; t < THREADS; t++) {
		assert_int_equal(encoders[t].wrong, 0);
		assert_memory_equal(encoders[t].got, encoders[0].got,
				    sizeof encoders[0].got);
	}
	for (unsigned i = 0; i < TURNS / 100; i++) {
		message_drop(messages[i]);
		message_unref(messages[i], 1);
	}
	assert_int_equal(message_kept_forms(), 0);
	uv_barrier_destroy(&barrier);
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
		cmocka_unit_test(the_first_form_is_the_frame),
		cmocka_unit_test(an_envelope_is_a_text_frame_of_json),
		cmocka_unit_test(an_event_has_its_id_first),
		cmocka_unit_test(an_event_may_have_the_envelope_as_its_data),
		cmocka_unit_test(a_message_may_have_the_type_of_its_event),
		cmocka_unit_test(without_a_type_it_has_none),
		cmocka_unit_test(an_event_is_a_chunk_of_http),
		cmocka_unit_test(a_bare_event_lies_in_the_chunk),
		cmocka_unit_test(the_body_of_an_event_is_what_follows_its_id),
		cmocka_unit_test(forms_of_any_length_are_whole),
		cmocka_unit_test(a_connection_has_the_form_of_its_framing),
		cmocka_unit_test(an_event_may_begin_with_another_id),
		cmocka_unit_test(a_form_is_made_once),
		cmocka_unit_test(
			what_forms_take_is_charged_until_the_message_goes),
		cmocka_unit_test(forms_count_as_kept_while_the_message_is),
		cmocka_unit_test(no_more_forms_are_kept_than_may_be),
		cmocka_unit_test(without_memory_there_is_no_form_for_now),
		cmocka_unit_test(threads_that_want_a_form_at_once_get_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
