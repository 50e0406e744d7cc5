/* test_encode.c - a message in its wire forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/memory.h"
#include "codec/deflate.h"
#include "oom.h"
#include "topics/encode.h"

#define THREADS 4
#define TURNS   20000

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

/* The bytes that it has for all; absent if there are none. */
static struct span encode(struct message *m, enum message_form form)
{
	struct message_encoding *apart;
	struct span bytes = message_encode(m, form, &source, &apart);

	if (apart == NULL)
		return bytes;
	message_encoding_free(apart);
	return (struct span){NULL, 0};
}

static void assert_form(struct span data, bool is_json, enum message_form form,
			struct span expected)
{
	struct message *m = numbered(data, is_json);
	struct span bytes = encode(m, form);
	struct message *kept = numbered(data, is_json);
	struct message_encoding *apart;
	struct buf out = {0};

	assert_true(span_equal(bytes, expected));
	/* One that the history keeps, and has no room for. */
	message_keep(kept);
	message_bound_forms(0);
	bytes = message_encode(kept, form, &source, &apart);
	assert_true(span_equal(bytes, expected));
	assert_true((apart == NULL) == (form == MESSAGE_FRAME));
	message_encoding_free(apart);
	message_bound_forms(SIZE_MAX);
	message_drop(kept);
	message_unref(kept, 1);
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
	assert_form(SPAN("\"a\n"), false, MESSAGE_V1,
		    SPAN("\x81\x61" ENVELOPE("\"\\\"a\\n\"")));
	assert_form(SPAN("[1]"), true, MESSAGE_V1,
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
	assert_form(SPAN("a\nb"), false, MESSAGE_BARE_EVENT_V1,
		    SPAN("id: 000000000000001f-42\n"
			 "data: " ENVELOPE("\"a\\nb\"") "\n\n"));
}

static void assert_event_form(bool is_json, enum message_form form,
			      const char *expected)
{
	struct message *m =
		message_new_from((struct json_data){.text = SPAN("1"),
						    .is_json = is_json,
						    .event = SPAN("g\"l")},
				 2);
	struct span bytes;

	assert_non_null(m);
	m->sequence = 42;
	m->epoch = 0x1f;
	assert_true(span_equal(message_data(m), SPAN("1")));
	assert_true(span_equal(message_event(m), SPAN("g\"l")));
	bytes = encode(m, form);
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
	assert_event_form(true, MESSAGE_V1, "\x81\x6a" TYPED_ENVELOPE);
	assert_event_form(true, MESSAGE_BARE_EVENT_V1,
			  "id: 000000000000001f-42\nevent: g\"l\n"
			  "data: " TYPED_ENVELOPE "\n\n");
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
	assert_form(SPAN("1"), true, MESSAGE_EVENT_V1,
		    SPAN("7b\r\nid: 000000000000001f-42\n"
			 "data: " ENVELOPE("1") "\n\n\r\n"));
}

static void a_bare_event_lies_in_the_chunk(void **state)
{
	struct message *m = numbered(SPAN("a"), false);
	struct span chunk = encode(m, MESSAGE_EVENT);
	struct span bare = encode(m, MESSAGE_BARE_EVENT);

	(void)state;
	assert_ptr_equal(bare.bytes, chunk.bytes + 4);
	assert_int_equal(bare.len, chunk.len - 4 - 2);
	message_unref(m, 1);
}

static void the_body_of_an_event_is_what_follows_its_id(void **state)
{
	struct message *m = numbered(SPAN("a\nb"), false);
	struct span body =
		message_event_body(encode(m, MESSAGE_EVENT), MESSAGE_EVENT);
	struct span bare = message_event_body(encode(m, MESSAGE_BARE_EVENT),
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
		struct span e = encode(m, MESSAGE_V1);
		assert_int_equal(e.len, header + json);
		assert_int_equal((unsigned char)e.bytes[0], 0x81);
		assert_memory_equal(e.bytes + header, "{\"type\"", 7);
		assert_int_equal(e.bytes[e.len - 1], '}');
		e = encode(m, MESSAGE_BARE_EVENT);
		assert_int_equal(e.len, 24 + 6 + lens[i] + 2);
		e = encode(m, MESSAGE_EVENT);
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
	struct span body =
		message_event_body(encode(m, MESSAGE_EVENT), MESSAGE_EVENT);
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
		struct span first = encode(m, (enum message_form)form);
		struct span again = encode(m, (enum message_form)form);
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
	for (unsigned form = 1; form < MESSAGE_FORMS; form++) {
		size_t so_far = settled();
		if (message_forms[form].made_of != form)
			continue;
		size_t len = encode(m, (enum message_form)form).len;
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
	encode(late, MESSAGE_EVENT);
	assert_int_equal(message_kept_forms(), 0); /* nobody keeps it */
	message_keep(early);
	assert_int_equal(message_kept_forms(), 0);
	encode(early, MESSAGE_FRAME);
	assert_int_equal(message_kept_forms(), 0);
	encode(early, MESSAGE_V1);
	size_t one = message_kept_forms();
	assert_in_range(one, 64, 1024);
	message_keep(late);
	size_t both = message_kept_forms();
	assert_in_range(both, one + 16, 2048);
	message_drop(early);
	assert_int_equal(message_kept_forms(), both - one);
	encode(early, MESSAGE_EVENT);
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
	assert_non_null(encode(one, MESSAGE_EVENT).bytes);
	size_t kept = message_kept_forms();
	assert_null(encode(two, MESSAGE_EVENT).bytes);
	assert_null(encode(one, MESSAGE_V1).bytes);
	assert_int_equal(message_kept_forms(), kept);
	/* What nobody keeps has its forms as long as it is sent. */
	assert_non_null(encode(loose, MESSAGE_EVENT).bytes);
	assert_int_equal(message_kept_forms(), kept);
	/* What is there stays there. */
	assert_non_null(encode(one, MESSAGE_EVENT).bytes);
	message_drop(one);
	assert_non_null(encode(two, MESSAGE_EVENT).bytes);
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
		if (encode(m, (enum message_form)form).bytes ==
		    (const char *)m->frame) {
			message_unref(m, 1);
			continue; /* it needs none */
		}
		message_unref(m, 1);
		m = numbered((struct span){data, sizeof data}, false);
		unsigned absent = 0;
		struct span bytes;
		do {
			oom_fail_at(absent + 1);
			bytes = encode(m, (enum message_form)form);
			absent += bytes.bytes == NULL;
			/* What can't be made smaller stays as it is. */
			assert_true(oom_end() || bytes.bytes != NULL);
		} while (bytes.bytes == NULL);
		assert_true(absent >= 1);
		message_unref(m, 1);
	}
}

/* --- compressed forms ----------------------------------------------------- */

#define MIN_BYTES 256

static struct message_source compressing(struct deflater *d)
{
	struct message_source s = source;

	s.deflater = d;
	return s;
}

/* JSON enough to be worth it. */
static struct message *worthy(size_t len)
{
	static char data[DEFLATE_MAX_BYTES + 1];

	for (size_t i = 0; i < len; i++)
		data[i] = "{\"a\":1},"[i % 8];
	return numbered((struct span){data, len}, false);
}

static void inflate_all(struct span bytes, int bits, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes.bytes,
		      .avail_in = (uInt)bytes.len};

	out->len = 0;
	assert_int_equal(buf_reserve(out, 20 * DEFLATE_MAX_BYTES), 0);
	z.next_out = (Bytef *)out->bytes;
	z.avail_out = (uInt)out->cap;
	assert_int_equal(inflateInit2(&z, bits), Z_OK);
	int rv = inflate(&z, Z_SYNC_FLUSH);
	assert_true(rv == Z_OK || rv == Z_BUF_ERROR);
	assert_int_equal(z.avail_in, 0);
	out->len = out->cap - z.avail_out;
	inflateEnd(&z);
}

static size_t frame_header_len(struct span frame)
{
	uint8_t len = (uint8_t)frame.bytes[1];

	return len <= 125 ? 2 : len == 126 ? 4 : 10;
}

/* What a client has decoded of a form that may be compressed. */
static void decode(struct span bytes, enum message_form form, struct buf *out)
{
	struct buf in = {0};
	int bits = form == MESSAGE_DEFLATED_SMALL_FRAME ||
				   form == MESSAGE_DEFLATED_SMALL_V1
			   ? -9
			   : -15;

	if (!message_forms[form].is_event) {
		size_t header = frame_header_len(bytes);
		assert_int_equal((uint8_t)bytes.bytes[0], 0xc1);
		assert_int_equal(buf_append(&in, bytes.bytes + header,
					    bytes.len - header),
				 0);
		assert_int_equal(
			buf_append(&in, DEFLATE_TAIL, DEFLATE_TAIL_LEN), 0);
		inflate_all((struct span){in.bytes, in.len}, bits, out);
	} else {
		char *data;
		size_t len = strtoul(bytes.bytes, &data, 16);
		assert_memory_equal(data, "\r\n", 2);
		assert_memory_equal(data + 2 + len, "\r\n", 2);
		/* It is flushed, or Go's decoder would keep it. */
		assert_memory_equal(data + 2 + len - DEFLATE_TAIL_LEN,
				    DEFLATE_TAIL, DEFLATE_TAIL_LEN);
		assert_int_equal(data + 4 + len - bytes.bytes, bytes.len);
		assert_int_equal(buf_append(&in, DEFLATE_GZIP_HEAD,
					    DEFLATE_GZIP_HEAD_LEN),
				 0);
		assert_int_equal(buf_append(&in, data + 2, len), 0);
		inflate_all((struct span){in.bytes, in.len}, 15 + 16, out);
	}
	buf_fini(&in);
}

/* What it should have: that of the form it is made of. */
static struct span content_of(struct message *m, enum message_form form)
{
	enum message_form plain = message_forms[form].made_of;
	struct span bytes = encode(m, plain);

	if (!message_forms[form].is_event) {
		size_t header = frame_header_len(bytes);
		return (struct span){bytes.bytes + header, bytes.len - header};
	}
	return encode(m, plain == MESSAGE_EVENT ? MESSAGE_BARE_EVENT
						: MESSAGE_BARE_EVENT_V1);
}

static void assert_compressed(size_t len, enum message_form form)
{
	struct deflater *d = deflater_new(1, MIN_BYTES);
	struct message_source s = compressing(d);
	struct message *m = worthy(len);
	struct message_encoding *apart;
	struct buf got = {0};
	struct buf appended = {0};

	struct span bytes = message_encode(m, form, &s, &apart);
	assert_null(apart);
	struct span content = content_of(m, form);
	assert_in_range(bytes.len, 1, content.len);
	decode(bytes, form, &got);
	assert_true(span_equal((struct span){got.bytes, got.len}, content));
	assert_int_equal(message_append(&appended, m, form, &s), 0);
	assert_true(
		span_equal((struct span){appended.bytes, appended.len}, bytes));
	assert_int_equal(deflater_totals(d).messages, 1);
	buf_fini(&got);
	buf_fini(&appended);
	message_unref(m, 1);
	deflater_free(d);
}

static bool may_compress(unsigned form)
{
	return framing_may_compress(message_forms[form].framing);
}

static void long_messages_are_compressed_once(void **state)
{
	(void)state;
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		if (!may_compress(form))
			continue;
		assert_compressed(MIN_BYTES, (enum message_form)form);
		assert_compressed(5000, (enum message_form)form);
		assert_compressed(100000, (enum message_form)form);
	}
}

/* Neither is it where nobody compresses. */
static void assert_not_compressed(struct message *m, enum message_form form,
				  struct deflater *d)
{
	struct message_source s = compressing(d);
	struct message_encoding *apart;
	struct buf got = {0};
	struct buf appended = {0};

	struct span bytes = message_encode(m, form, &s, &apart);
	assert_null(apart);
	assert_int_equal(message_append(&appended, m, form, &s), 0);
	assert_true(
		span_equal((struct span){appended.bytes, appended.len}, bytes));
	if (message_forms[form].is_event) {
		decode(bytes, form, &got);
		assert_true(span_equal((struct span){got.bytes, got.len},
				       content_of(m, form)));
	} else {
		assert_ptr_equal(bytes.bytes,
				 encode(m, message_forms[form].made_of).bytes);
	}
	assert_true(d == NULL || deflater_totals(d).messages == 0);
	buf_fini(&got);
	buf_fini(&appended);
}

static void short_messages_are_sent_as_they_are(void **state)
{
	struct deflater *d = deflater_new(1, MIN_BYTES);
	struct deflater *off = deflater_new(1, 0);

	(void)state;
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		struct message *none = worthy(0);
		struct message *one = worthy(MIN_BYTES - 1);
		struct message *longer = worthy(MIN_BYTES);
		if (may_compress(form)) {
			assert_not_compressed(none, (enum message_form)form, d);
			assert_not_compressed(one, (enum message_form)form, d);
			assert_not_compressed(longer, (enum message_form)form,
					      off);
			assert_not_compressed(longer, (enum message_form)form,
					      NULL);
		}
		message_unref(none, 1);
		message_unref(one, 1);
		message_unref(longer, 1);
	}
	deflater_free(d);
	deflater_free(off);
}

static void very_long_messages_are_sent_as_they_are(void **state)
{
	struct deflater *d = deflater_new(1, MIN_BYTES);

	(void)state;
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		struct message *m = worthy(DEFLATE_MAX_BYTES + 1);
		if (may_compress(form))
			assert_not_compressed(m, (enum message_form)form, d);
		message_unref(m, 1);
	}
	deflater_free(d);
}

/* The bytes that grow most: in an event, and in JSON. */
static void very_long_messages_may_grow_as_much_as_any(void **state)
{
	static char text[600000];
	struct deflater *d = deflater_new(1, MIN_BYTES);

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		memset(text, i == 0 ? '\n' : '\1', sizeof text);
		for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
			struct message *m = numbered(
				(struct span){text, sizeof text}, false);
			if (may_compress(form))
				assert_not_compressed(
					m, (enum message_form)form, d);
			message_unref(m, 1);
		}
		struct message *m =
			numbered((struct span){text, sizeof text}, false);
		struct span frame = encode(m, MESSAGE_V1);
		size_t each = i == 0 ? 2 : 6;
		assert_in_range(frame.len, each * sizeof text,
				each * sizeof text + 200);
		assert_null(memchr(frame.bytes + 16, text[0], frame.len - 16));
		message_unref(m, 1);
	}
	deflater_free(d);
}

/* One that its envelope makes too long is not tried again and again. */
static void what_does_not_get_shorter_is_sent_as_it_is(void **state)
{
	static char noise[60000];
	struct deflater *d = deflater_new(1, MIN_BYTES);
	unsigned random = 1;

	(void)state;
	for (size_t i = 0; i < sizeof noise; i++) {
		random = random * 1103515245 + 12345;
		noise[i] = (char)(random >> 16);
		if (noise[i] == '\n' || noise[i] == '\r')
			noise[i] = 'x'; /* it is one line */
	}
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		struct message *m =
			numbered((struct span){noise, sizeof noise}, false);
		/* An envelope of it does get shorter. */
		if (may_compress(form) && !message_forms[form].has_envelope)
			assert_not_compressed(m, (enum message_form)form, d);
		message_unref(m, 1);
	}
	deflater_free(d);
}

static void an_event_that_is_compressed_may_have_another_id(void **state)
{
	struct deflater *d = deflater_new(1, MIN_BYTES);
	struct message_source s = compressing(d);
	struct message_encoding *apart;
	static const size_t lens[] = {0, 1000};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct message *m = worthy(lens[i]);
		struct buf out = {0};
		struct buf got = {0};
		struct span event =
			message_encode(m, MESSAGE_GZIP_EVENT, &s, &apart);
		struct span body =
			message_event_body(event, MESSAGE_GZIP_EVENT);
		assert_int_equal(
			message_append_event_start(&out, MESSAGE_GZIP_EVENT,
						   SPAN("1f-1.2.3"), body.len),
			0);
		assert_int_equal(buf_append(&out, body.bytes, body.len), 0);
		decode((struct span){out.bytes, out.len}, MESSAGE_GZIP_EVENT,
		       &got);
		assert_memory_equal(got.bytes, "id: 1f-1.2.3\ndata: ", 19);
		assert_int_equal(got.len, 19 + lens[i] + 2);
		buf_fini(&out);
		buf_fini(&got);
		message_unref(m, 1);
	}
	assert_int_equal(deflater_totals(d).messages, 1);
	deflater_free(d);
}

static void without_room_it_is_compressed_for_the_caller_alone(void **state)
{
	struct deflater *d = deflater_new(1, MIN_BYTES);
	struct message_source s = compressing(d);
	struct message *m = worthy(1000);
	struct message_encoding *apart;
	struct buf out = {0};

	(void)state;
	message_keep(m);
	message_bound_forms(0);
	struct span bytes =
		message_encode(m, MESSAGE_DEFLATED_FRAME, &s, &apart);
	assert_non_null(apart);
	assert_int_equal((uint8_t)bytes.bytes[0], 0xc1);
	assert_int_equal(message_append(&out, m, MESSAGE_DEFLATED_FRAME, &s),
			 0);
	assert_true(span_equal((struct span){out.bytes, out.len}, bytes));
	assert_int_equal(message_kept_forms(), 0);
	message_encoding_free(apart);
	/* And for all again once there is. */
	message_bound_forms(SIZE_MAX);
	bytes = message_encode(m, MESSAGE_DEFLATED_FRAME, &s, &apart);
	assert_null(apart);
	assert_in_range(message_kept_forms(), bytes.len, bytes.len + 100);
	message_drop(m);
	message_unref(m, 1);
	buf_fini(&out);
	deflater_free(d);
}

/* Whatever allocation fails, what is sent is whole, or nothing. */
static void without_memory_it_is_not_compressed(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		if (!may_compress(form))
			continue;
		for (unsigned n = 1;; n++) {
			struct deflater *d = deflater_new(1, MIN_BYTES);
			struct message_source s = compressing(d);
			struct message *m = worthy(1000);
			struct message_encoding *apart;
			struct buf got = {0};
			oom_fail_at(n);
			struct span bytes = message_encode(
				m, (enum message_form)form, &s, &apart);
			bool has_failed = oom_end();
			if (bytes.bytes != NULL &&
			    (message_forms[form].is_event ||
			     (uint8_t)bytes.bytes[0] == 0xc1)) {
				decode(bytes, (enum message_form)form, &got);
				assert_true(span_equal(
					(struct span){got.bytes, got.len},
					content_of(m,
						   (enum message_form)form)));
			} else if (bytes.bytes != NULL) {
				assert_true(span_equal(
					bytes,
					encode(m,
					       message_forms[form].made_of)));
			}
			buf_fini(&got);
			message_encoding_free(apart);
			message_unref(m, 1);
			deflater_free(d);
			if (!has_failed)
				break;
		}
	}
}

/* --- threads -------------------------------------------------------------- */

#define COMPRESSED_FORMS 6

struct encoder {
	uv_thread_t thread;
	uv_barrier_t *barrier;
	struct message **messages;
	struct deflater *deflater;
	unsigned wrong;
	const char *got[TURNS / 100][MESSAGE_FORMS];
};

static void encode_all(void *arg)
{
	struct encoder *e = arg;

	for (unsigned i = 0; i < TURNS / 100; i++) {
		uv_barrier_wait(e->barrier);
		for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
			struct message_source s = compressing(e->deflater);
			struct message_encoding *apart;
			struct span bytes = message_encode(
				e->messages[i], (enum message_form)form, &s,
				&apart);
			e->got[i][form] = bytes.bytes;
			e->wrong += bytes.bytes == NULL || apart != NULL;
		}
		message_unref(e->messages[i], 1);
	}
}

/* One message is kept, to compare what the threads got of it. */
static void threads_that_want_a_form_at_once_get_the_same(void **state)
{
	static struct encoder encoders[THREADS];
	static struct message *messages[TURNS / 100];
	uint64_t compressed = 0;
	uv_barrier_t barrier;

	(void)state;
	assert_int_equal(uv_barrier_init(&barrier, THREADS), 0);
	for (unsigned i = 0; i < TURNS / 100; i++)
		messages[i] = message_ref(worthy(1000), THREADS);
	for (unsigned i = 0; i < TURNS / 100; i++)
		message_keep(messages[i]);
	for (int t = 0; t < THREADS; t++) {
		encoders[t].barrier = &barrier;
		encoders[t].messages = messages;
		encoders[t].deflater = deflater_new(1, MIN_BYTES);
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
		compressed += deflater_totals(encoders[t].deflater).messages;
		deflater_free(encoders[t].deflater);
	}
	/* However many wanted it at once, one has compressed it. */
	assert_int_equal(compressed, TURNS / 100 * COMPRESSED_FORMS);
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
		cmocka_unit_test(the_first_form_is_the_frame),
		cmocka_unit_test(an_envelope_is_a_text_frame_of_json),
		cmocka_unit_test(an_event_has_its_id_first),
		cmocka_unit_test(an_event_may_have_the_envelope_as_its_data),
		cmocka_unit_test(a_message_may_have_the_type_of_its_event),
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
		cmocka_unit_test(long_messages_are_compressed_once),
		cmocka_unit_test(short_messages_are_sent_as_they_are),
		cmocka_unit_test(very_long_messages_are_sent_as_they_are),
		cmocka_unit_test(very_long_messages_may_grow_as_much_as_any),
		cmocka_unit_test(what_does_not_get_shorter_is_sent_as_it_is),
		cmocka_unit_test(
			an_event_that_is_compressed_may_have_another_id),
		cmocka_unit_test(
			without_room_it_is_compressed_for_the_caller_alone),
		cmocka_unit_test(without_memory_it_is_not_compressed),
		cmocka_unit_test(threads_that_want_a_form_at_once_get_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
