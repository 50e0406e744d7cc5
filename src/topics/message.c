/* message.c - one allocation: the struct, its links, the frame; and one for
 * each further form that somebody wanted. */
#include "topics/message.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "codec/cursor.h"
#include "codec/envelope.h"
#include "codec/sse.h"
#include "codec/websocket.h"

#include <stdlib.h>
#include <uv.h>

/* More than any form needs beside the data and the topic's names, escapes left
 * out, and the room that json_write_string() works in; a guess that is too low
 * only costs another allocation. */
#define FORM_OVERHEAD 8192
/* An encoding of n bytes may occupy so many n-ths more. */
#define SPARE_PART 32

const struct message_form_row message_forms[MESSAGE_FORMS] = {
#define FORM_ROW(name, framing, has_envelope, is_event, lies_in)               \
	[MESSAGE_##name] = {FRAMING_##framing, has_envelope, is_event,         \
			    MESSAGE_##lies_in},
	MESSAGE_FORM_TABLE(FORM_ROW)
#undef FORM_ROW
};

enum message_form message_form_for(enum framing framing, bool has_envelope)
{
	unsigned form = 0;

	while (message_forms[form].framing != framing ||
	       message_forms[form].has_envelope != has_envelope) {
		form++;
		CHECK(form < MESSAGE_FORMS);
	}
	return (enum message_form)form;
}

/* A form, in one allocation with its bytes. Immutable once it is in a message's
 * `forms`. */
struct message_encoding {
	size_t size; /* of this allocation */
	uint32_t at; /* where the form begins in it */
	uint32_t len;
};

static _Atomic size_t kept_forms;
static _Atomic size_t kept_forms_max = SIZE_MAX;

_Static_assert(SSE_TYPE_MAX_BYTES <= UINT8_MAX, "event_len is a byte");

struct message *message_new_event(struct span data, bool is_json,
				  struct span event, unsigned workers)
{
	size_t links = workers * sizeof(struct message_link);

	CHECK(event.len <= SSE_TYPE_MAX_BYTES);
	if (data.len > MESSAGE_MAX_BYTES - WEBSOCKET_HEADER_MAX)
		return NULL;
	size_t size = sizeof(struct message) + links + WEBSOCKET_HEADER_MAX +
		      data.len + event.len;
	struct message *m = malloc(size);
	if (m == NULL)
		return NULL;
	memory_charge(size);
	uint8_t *payload =
		(uint8_t *)(m->links + workers) + WEBSOCKET_HEADER_MAX;
	size_t header =
		framing_write_start(FRAMING_TEXT, (char *)payload, data.len);
	if (data.len > 0)
		memcpy(payload, data.bytes, data.len);
	if (event.len > 0)
		memcpy(payload + data.len, event.bytes, event.len);
	atomic_init(&m->refs, 1);
	atomic_init(&m->further, 0);
	m->size = size;
	m->header_len = (uint8_t)header;
	m->is_json = is_json;
	m->event_len = (uint8_t)event.len;
	m->is_reset = false;
	m->epoch = 0;
	m->claims = 0;
	m->sequence = 0;
	m->accepted_ns = 0;
	m->frame = payload - header;
	m->frame_len = (uint32_t)(header + data.len);
	for (unsigned i = 0; i < MESSAGE_ENCODINGS - 1; i++)
		atomic_init(&m->forms[i], NULL);
	return m;
}

struct message *message_new(struct span data, bool is_json, unsigned workers)
{
	return message_new_event(data, is_json, (struct span){0}, workers);
}

struct span message_event(const struct message *m)
{
	if (m->event_len == 0)
		return (struct span){0};
	return (struct span){(const char *)m->frame + m->frame_len,
			     m->event_len};
}

struct span message_data(const struct message *m)
{
	return (struct span){(const char *)m->frame + m->header_len,
			     m->frame_len - m->header_len};
}

/* --- further forms -------------------------------------------------------- */

static int write_envelope(struct buf *out, const struct message *m,
			  const struct message_source *source, struct span id)
{
	struct json_data data = {.text = message_data(m),
				 .is_json = m->is_json,
				 .event = message_event(m)};
	return envelope_write_message(out, source->publisher, source->topic, id,
				      data);
}

/* An envelope has no line ends, and is one line of data. */
static int write_event_envelope(struct buf *out, const struct message *m,
				const struct message_source *source,
				struct span id)
{
	int rv = buf_append(out, SSE_DATA, sizeof SSE_DATA - 1);
	if (rv == 0)
		rv = write_envelope(out, m, source, id);
	if (rv == 0)
		rv = buf_append(out, SSE_DATA_END, sizeof SSE_DATA_END - 1);
	return rv;
}

static int write_event(struct buf *out, const struct message *m,
		       bool has_envelope, const struct message_source *source,
		       struct span id)
{
	int rv = sse_write_id(out, id);
	if (rv == 0 && m->event_len > 0)
		rv = sse_write_type(out, message_event(m));
	if (rv != 0)
		return rv;
	return has_envelope ? write_event_envelope(out, m, source, id)
			    : sse_write_data(out, message_data(m));
}

/* Writes what is inside the framing of a form that is not the frame. */
static int write_content(struct buf *out, const struct message *m,
			 enum message_form form,
			 const struct message_source *source)
{
	const struct message_form_row *row = &message_forms[form];
	char text[CURSOR_MAX];
	struct span id = {text, cursor_write(text, m->epoch, m->sequence)};

	if (row->is_event)
		return write_event(out, m, row->has_envelope, source, id);
	return write_envelope(out, m, source, id);
}

/* Writes a whole form behind `out->len`, after FRAMING_START_MAX bytes of room,
 * and from `*start` on. Returns 0, or UV_ENOMEM with `out->len` undefined. */
static int write_whole(struct buf *out, size_t *start, const struct message *m,
		       enum message_form form,
		       const struct message_source *source)
{
	size_t room = FORM_OVERHEAD + source->publisher.len +
		      source->topic.len + m->frame_len;
	enum framing framing = message_forms[form].framing;
	struct span end = framing_end(framing);

	if (buf_reserve(out, room) != 0)
		return UV_ENOMEM;
	out->len += FRAMING_START_MAX;
	size_t from = out->len;
	if (write_content(out, m, form, source) != 0 ||
	    out->len - from >
		    MESSAGE_MAX_BYTES - FRAMING_START_MAX - FRAMING_END_MAX)
		return UV_ENOMEM;
	*start = from - framing_write_start(framing, out->bytes + from,
					    out->len - from);
	return buf_append(out, end.bytes, end.len);
}

/* Makes an encoding of what `out` holds from `start` on, in that memory,
 * which it takes, and gives back what is left of it if that is much. */
static struct message_encoding *encoding_of(const struct buf *out, size_t start)
{
	struct message_encoding *e = (void *)out->bytes;
	size_t size = out->cap;

	if (size - out->len > out->len / SPARE_PART) {
		void *smaller = realloc(out->bytes, out->len);
		if (smaller != NULL) {
			e = smaller;
			size = out->len;
		}
	}
	memory_charge(size);
	*e = (struct message_encoding){.size = size,
				       .at = (uint32_t)start,
				       .len = (uint32_t)(out->len - start)};
	return e;
}

static struct message_encoding *encode(const struct message *m,
				       enum message_form form,
				       const struct message_source *source)
{
	struct buf out = {0};
	size_t start;

	if (buf_reserve(&out, sizeof(struct message_encoding) + FORM_OVERHEAD +
				      source->publisher.len +
				      source->topic.len + m->frame_len) != 0)
		return NULL;
	out.len = sizeof(struct message_encoding);
	if (write_whole(&out, &start, m, form, source) != 0) {
		buf_fini(&out);
		return NULL;
	}
	return encoding_of(&out, start);
}

/* --- those that the history keeps ----------------------------------------- */

void message_keep(struct message *m)
{
	size_t before = atomic_load_explicit(&m->further, memory_order_relaxed);

	/* Not in one step: it is nobody else's, and this is on the way of every
	 * publication. */
	if (before > 0)
		atomic_fetch_add_explicit(&kept_forms, before,
					  memory_order_relaxed);
	atomic_store_explicit(&m->further, before | MESSAGE_IS_KEPT,
			      memory_order_relaxed);
}

void message_drop(struct message *m)
{
	size_t before = atomic_fetch_and_explicit(&m->further, ~MESSAGE_IS_KEPT,
						  memory_order_acq_rel);
	size_t bytes = before & ~MESSAGE_IS_KEPT;

	CHECK(before != bytes);
	if (bytes > 0)
		atomic_fetch_sub_explicit(&kept_forms, bytes,
					  memory_order_relaxed);
}

size_t message_kept_forms(void)
{
	return atomic_load_explicit(&kept_forms, memory_order_relaxed);
}

void message_bound_forms(size_t bytes)
{
	atomic_store_explicit(&kept_forms_max, bytes, memory_order_relaxed);
}

static void uncount_kept(size_t bytes)
{
	atomic_fetch_sub_explicit(&kept_forms, bytes, memory_order_relaxed);
}

/* Counts a form that `m` is to have, as if the history kept it. Returns false,
 * with nothing counted, if it does and there is no room. */
static bool reserve(const struct message *m, size_t bytes)
{
	size_t max =
		atomic_load_explicit(&kept_forms_max, memory_order_relaxed);
	size_t all = atomic_fetch_add_explicit(&kept_forms, bytes,
					       memory_order_relaxed) +
		     bytes;
	size_t further =
		atomic_load_explicit(&m->further, memory_order_relaxed);

	if (all <= max || (further & MESSAGE_IS_KEPT) == 0)
		return true;
	uncount_kept(bytes);
	return false;
}

/* `m` has the form now. Where the history does not keep it, or has just dropped
 * it, it does not count after all. */
static void settle(struct message *m, size_t bytes)
{
	size_t before = atomic_fetch_add_explicit(&m->further, bytes,
						  memory_order_acq_rel);

	if ((before & MESSAGE_IS_KEPT) == 0)
		uncount_kept(bytes);
}

/* --- making them ---------------------------------------------------------- */

struct span message_encoding_bytes(const struct message_encoding *e)
{
	return (struct span){(const char *)e + e->at, e->len};
}

void message_encoding_free(struct message_encoding *e)
{
	if (e == NULL)
		return;
	memory_credit(e->size);
	free(e);
}

struct message_encoding *message_encode_apart(
	const struct message *m, enum message_form form,
	const struct message_source *source)
{
	return encode(m, form, source);
}

/* Gives the message a form, if there is room; it may get one from somebody
 * else. Returns what it has then, or NULL. */
static struct message_encoding *add_form(struct message *m,
					 enum message_form form,
					 const struct message_source *source)
{
	_Atomic(struct message_encoding *) *slot = &m->forms[form - 1];
	struct message_encoding *has = NULL;
	struct message_encoding *mine;

	/* So much at least: what can't be kept need not be made. */
	if (!reserve(m, m->size))
		return NULL;
	uncount_kept(m->size);
	mine = encode(m, form, source);
	if (mine == NULL)
		return NULL;
	if (!reserve(m, mine->size)) {
		message_encoding_free(mine);
		return NULL;
	}
	if (atomic_compare_exchange_strong_explicit(slot, &has, mine,
						    memory_order_acq_rel,
						    memory_order_acquire)) {
		settle(m, mine->size);
		return mine;
	}
	uncount_kept(mine->size);
	message_encoding_free(mine);
	return has;
}

/* What follows the next line of `text`. */
static struct span skip_line(struct span text)
{
	const char *end = memchr(text.bytes, '\n', text.len);

	CHECK(end != NULL);
	end++;
	return (struct span){end, text.len - (size_t)(end - text.bytes)};
}

/* What is inside the framing of an event, and behind it. */
static struct span unframed(struct span event, enum framing framing)
{
	return framing == FRAMING_CHUNK ? skip_line(event) : event;
}

struct span message_encode(struct message *m, enum message_form form,
			   const struct message_source *source)
{
	enum message_form bytes_of = message_forms[form].lies_in;

	if (form == MESSAGE_FRAME)
		return (struct span){(const char *)m->frame, m->frame_len};
	struct message_encoding *e = atomic_load_explicit(
		&m->forms[bytes_of - 1], memory_order_acquire);
	if (e == NULL)
		e = add_form(m, bytes_of, source);
	if (e == NULL)
		return (struct span){NULL, 0};
	struct span bytes = message_encoding_bytes(e);
	if (bytes_of != form) {
		bytes = unframed(bytes, message_forms[bytes_of].framing);
		bytes.len -= framing_end(message_forms[bytes_of].framing).len;
	}
	return bytes;
}

int message_append(struct buf *out, const struct message *m,
		   enum message_form form, const struct message_source *source)
{
	size_t before = out->len;
	size_t start;

	if (form == MESSAGE_FRAME)
		return buf_append(out, m->frame, m->frame_len);
	if (write_whole(out, &start, m, form, source) != 0) {
		out->len = before;
		return UV_ENOMEM;
	}
	memmove(out->bytes + before, out->bytes + start, out->len - start);
	out->len -= start - before;
	return 0;
}

struct span message_event_body(struct span event, enum message_form form)
{
	return skip_line(unframed(event, message_forms[form].framing));
}

int message_append_event_start(struct buf *out, enum message_form form,
			       struct span id, size_t body_len)
{
	enum framing framing = message_forms[form].framing;
	size_t before = out->len;
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;

	/* The id is written where the start will be, to learn its length. */
	if (buf_reserve(out, FRAMING_START_MAX) != 0)
		return UV_ENOMEM;
	out->len += FRAMING_START_MAX;
	size_t from = out->len;
	if (sse_write_id(out, id) != 0) {
		out->len = before;
		return UV_ENOMEM;
	}
	size_t id_len = out->len - from;
	size_t len = framing_write_start(
		framing, end, id_len + body_len - framing_end(framing).len);
	memcpy(out->bytes + before, end - len, len);
	memmove(out->bytes + before + len, out->bytes + from, id_len);
	out->len = before + len + id_len;
	return 0;
}

/* --- references ----------------------------------------------------------- */

struct message *message_ref(struct message *m, unsigned n)
{
	atomic_fetch_add_explicit(&m->refs, n, memory_order_relaxed);
	return m;
}

void message_unref(struct message *m, unsigned n)
{
	/* All that others did with it happens before it is freed. */
	unsigned old =
		atomic_fetch_sub_explicit(&m->refs, n, memory_order_acq_rel);
	CHECK(old >= n);
	if (old > n)
		return;
	for (unsigned i = 0; i < MESSAGE_ENCODINGS - 1; i++)
		message_encoding_free(atomic_load_explicit(
			&m->forms[i], memory_order_relaxed));
	memory_credit(m->size);
	free(m);
}
