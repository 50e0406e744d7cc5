/* message.c - one allocation: the struct, its links, the frame; and one for
 * each further form that somebody wanted. */
#include "topics/message.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "codec/cursor.h"
#include "codec/envelope.h"
#include "codec/http/http.h"
#include "codec/sse.h"
#include "codec/websocket.h"

#include <stdlib.h>

#define OPCODE_TEXT 1
/* More than any form needs beside the data and the topic's names, escapes left
 * out; a guess that is too low only costs another allocation. */
#define FORM_OVERHEAD 320
/* Room before a form for what is known once it is written: its length. */
#define START_MAX WEBSOCKET_HEADER_MAX
_Static_assert(HTTP_CHUNK_START_MAX <= START_MAX, "a chunk's start has room");

/* A form, in one allocation with its bytes. Immutable once it is in a message's
 * `forms`. */
struct message_encoding {
	size_t size; /* of this allocation */
	uint32_t at; /* where the form begins in it */
	uint32_t len;
};

static _Atomic size_t kept_forms;

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
	size_t header = websocket_write_header(payload, OPCODE_TEXT, data.len);
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

static int write_form(struct buf *out, const struct message *m,
		      enum message_form form,
		      const struct message_source *source)
{
	char text[CURSOR_MAX];
	struct span id = {text, cursor_write(text, source->epoch, m->sequence)};

	if (form == MESSAGE_ENVELOPE)
		return write_envelope(out, m, source, id);
	int rv = sse_write_id(out, id);
	if (rv == 0 && m->event_len > 0)
		rv = sse_write_type(out, message_event(m));
	if (rv != 0)
		return rv;
	return form == MESSAGE_EVENT ? sse_write_data(out, message_data(m))
				     : write_event_envelope(out, m, source, id);
}

/* Puts what goes before a form of `len` bytes, so that it ends before `end`.
 * Returns its length. */
static size_t write_start(char *end, enum message_form form, size_t len)
{
	return form == MESSAGE_ENVELOPE
		       ? websocket_write_header((uint8_t *)end, OPCODE_TEXT,
						len)
		       : http_write_chunk_start(end, len);
}

/* Makes an encoding of what `out` holds from `start` on, in that memory,
 * which it takes. */
static struct message_encoding *encoding_of(const struct buf *out, size_t start)
{
	size_t size = out->len;
	struct message_encoding *e = realloc(out->bytes, out->len);

	if (e == NULL) { /* then it stays as large as it is */
		e = (void *)out->bytes;
		size = out->cap;
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
	const size_t start = sizeof(struct message_encoding) + START_MAX;
	struct span data = message_data(m);
	struct buf out = {0};

	if (buf_reserve(&out, FORM_OVERHEAD + source->publisher.len +
				      source->topic.len + data.len) != 0)
		return NULL;
	out.len = start;
	if (write_form(&out, m, form, source) != 0 ||
	    out.len - start >
		    MESSAGE_MAX_BYTES - START_MAX - strlen(HTTP_CHUNK_END))
		goto err;
	size_t before = write_start(out.bytes + start, form, out.len - start);
	if (message_is_chunked(form) &&
	    buf_append(&out, HTTP_CHUNK_END, strlen(HTTP_CHUNK_END)) != 0)
		goto err;
	return encoding_of(&out, start - before);
err:
	buf_fini(&out);
	return NULL;
}

/* Counts a form that `m` has from now on; first where it matters to others, so
 * that message_drop() takes nothing off that is not there yet. */
static void count_form(struct message *m, size_t bytes)
{
	atomic_fetch_add_explicit(&kept_forms, bytes, memory_order_relaxed);
	size_t before = atomic_fetch_add_explicit(&m->further, bytes,
						  memory_order_acq_rel);
	if ((before & MESSAGE_IS_KEPT) == 0)
		atomic_fetch_sub_explicit(&kept_forms, bytes,
					  memory_order_relaxed);
}

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

size_t message_drop(struct message *m)
{
	size_t before = atomic_fetch_and_explicit(&m->further, ~MESSAGE_IS_KEPT,
						  memory_order_acq_rel);
	size_t bytes = before & ~MESSAGE_IS_KEPT;

	CHECK(before != bytes);
	if (bytes > 0)
		atomic_fetch_sub_explicit(&kept_forms, bytes,
					  memory_order_relaxed);
	return bytes;
}

size_t message_kept_forms(void)
{
	return atomic_load_explicit(&kept_forms, memory_order_relaxed);
}

static void encoding_free(struct message_encoding *e)
{
	if (e == NULL)
		return;
	memory_credit(e->size);
	free(e);
}

/* What follows the next line of `text`. */
static struct span skip_line(struct span text)
{
	const char *end = memchr(text.bytes, '\n', text.len);

	CHECK(end != NULL);
	end++;
	return (struct span){end, text.len - (size_t)(end - text.bytes)};
}

/* What is in a chunk. */
static struct span data_of(struct span chunk)
{
	struct span data = skip_line(chunk);

	data.len -= strlen(HTTP_CHUNK_END);
	return data;
}

static struct span encode_bare(struct message *m, enum message_form form,
			       const struct message_source *source)
{
	struct span chunk = message_encode(m,
					   form == MESSAGE_BARE_EVENT
						   ? MESSAGE_EVENT
						   : MESSAGE_EVENT_ENVELOPE,
					   source);

	return chunk.bytes == NULL ? chunk : data_of(chunk);
}

struct span message_encode(struct message *m, enum message_form form,
			   const struct message_source *source)
{
	if (form == MESSAGE_FRAME)
		return (struct span){(const char *)m->frame, m->frame_len};
	if (form >= MESSAGE_ENCODINGS)
		return encode_bare(m, form, source);
	_Atomic(struct message_encoding *) *slot = &m->forms[form - 1];
	struct message_encoding *e =
		atomic_load_explicit(slot, memory_order_acquire);
	if (e == NULL) {
		struct message_encoding *mine = encode(m, form, source);
		if (mine == NULL)
			return (struct span){NULL, 0};
		/* Somebody else may have been faster. */
		if (atomic_compare_exchange_strong_explicit(
			    slot, &e, mine, memory_order_acq_rel,
			    memory_order_acquire)) {
			e = mine;
			count_form(m, mine->size);
		} else {
			encoding_free(mine);
		}
	}
	return (struct span){(const char *)e + e->at, e->len};
}

struct span message_event_body(struct span event, enum message_form form)
{
	if (message_is_chunked(form))
		event = skip_line(event);
	return skip_line(event);
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
		encoding_free(atomic_load_explicit(&m->forms[i],
						   memory_order_relaxed));
	memory_credit(m->size);
	free(m);
}
