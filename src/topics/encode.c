/* encode.c - writes the content of a form, compresses it if it may be, and
 * frames it. */
#include "topics/encode.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/lock.h"
#include "codec/cursor.h"
#include "codec/deflate.h"
#include "codec/sse.h"
#include "codec/v1_codec.h"

#include <uv.h>

/* More than any form needs beside the data and the topic's names (escapes not
 * counted), and the room that json_write_string() works in. If it is too
 * little, another allocation follows. */
#define FORM_OVERHEAD 8192
/* A byte becomes so many in the body of an event, at most: a line end "data: "
 * and a line end. */
#define BODY_PER_BYTE 7
/* Bytes of a form, without what is around them. */
#define CONTENT_MAX (MESSAGE_MAX_BYTES - FRAMING_START_MAX - FRAMING_END_MAX)
/* No compressed form is shorter. */
#define COMPRESSED_MIN (sizeof(struct message_encoding) + FRAMING_START_MAX)

/* A thread that compresses a message holds one of these locks, chosen by the
 * message; another that needs the same form waits, for no longer than it would
 * take itself. */
#define COMPRESSING_LOCKS 16
#define UNLOCKED          LOCK_INITIALIZER(LOCK_LEAF)
static struct lock compressing[COMPRESSING_LOCKS] = {
	UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED,
	UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED,
	UNLOCKED, UNLOCKED, UNLOCKED, UNLOCKED,
};

static struct lock *lock_of(const struct message *m)
{
	return &compressing[((uintptr_t)m >> 6) % COMPRESSING_LOCKS];
}

static const struct message_form_row *row_of(enum message_form form)
{
	CHECK(form < MESSAGE_FORMS);
	return &message_forms[form];
}

static bool may_compress(enum message_form form)
{
	return framing_may_compress(row_of(form)->framing);
}

/* --- what is inside ------------------------------------------------------- */

static int write_envelope(struct buf *out, const struct message *m,
			  const struct message_source *source, struct span id)
{
	struct json_data data = {.text = message_data(m),
				 .is_json = m->is_json,
				 .event = message_event(m),
				 .traceparent = message_traceparent(m)};
	return v1_write_message(out, source->publisher, source->topic, id,
				data);
}

/* An envelope has no line ends, and is one line of data. */
static int write_envelope_line(struct buf *out, const struct message *m,
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

/* What follows the id of an event. */
static int write_event_body(struct buf *out, const struct message *m,
			    bool has_envelope,
			    const struct message_source *source, struct span id)
{
	int rv = m->event_len > 0 ? sse_write_type(out, message_event(m)) : 0;
	if (rv != 0)
		return rv;
	return has_envelope ? write_envelope_line(out, m, source, id)
			    : sse_write_data(out, message_data(m));
}

/* The id of a message, as text. */
struct id {
	char text[CURSOR_MAX];
	struct span span;
};

static void write_id(struct id *id, const struct message *m)
{
	id->span = (struct span){id->text,
				 cursor_write(id->text, m->epoch, m->sequence)};
}

/* Writes what a form has inside, but for the id of an event. */
static int write_body(struct buf *out, const struct message *m,
		      enum message_form form,
		      const struct message_source *source)
{
	const struct message_form_row *row = row_of(form);
	struct span data = message_data(m);
	struct id id;

	write_id(&id, m);
	if (row->is_event)
		return write_event_body(out, m, row->has_envelope, source,
					id.span);
	return row->has_envelope ? write_envelope(out, m, source, id.span)
				 : buf_append(out, data.bytes, data.len);
}

static size_t form_room(const struct message *m,
			const struct message_source *source)
{
	return FORM_OVERHEAD + source->publisher.len + source->topic.len +
	       m->frame_len;
}

/* --- framing -------------------------------------------------------------- */

/* Frames what `out` has from `from` on, before which FRAMING_START_MAX bytes
 * are free. `*start` receives where it begins. Returns 0 or UV_ENOMEM. */
static int frame(struct buf *out, size_t from, enum framing framing,
		 bool is_compressed, size_t *start)
{
	struct span after = is_compressed ? framing_compressed_end(framing)
					  : framing_end(framing);
	size_t len = out->len - from;
	char *end = out->bytes + from;

	if (len > CONTENT_MAX)
		return UV_ENOMEM;
	*start = from -
		 (is_compressed
			  ? framing_write_compressed_start(framing, end, len)
			  : framing_write_start(framing, end, len));
	return buf_append(out, after.bytes, after.len);
}

/* Writes a whole form that is not compressed behind `out->len`, after
 * FRAMING_START_MAX bytes of room, and from `*start` on. Returns 0, or
 * UV_ENOMEM with `out->len` undefined. */
static int write_plain(struct buf *out, size_t *start, const struct message *m,
		       enum message_form form,
		       const struct message_source *source)
{
	struct id id;

	if (buf_reserve(out, FRAMING_START_MAX + form_room(m, source)) != 0)
		return UV_ENOMEM;
	out->len += FRAMING_START_MAX;
	size_t from = out->len;
	write_id(&id, m);
	if (row_of(form)->is_event && sse_write_id(out, id.span) != 0)
		return UV_ENOMEM;
	if (write_body(out, m, form, source) != 0)
		return UV_ENOMEM;
	return frame(out, from, row_of(form)->framing, false, start);
}

/* --- compressing ---------------------------------------------------------- */

/* Whether it is long enough, and not too long. */
static bool is_worth_it(const struct message *m,
			const struct message_source *source)
{
	return source->deflater != NULL &&
	       deflater_takes(source->deflater, message_data(m).len);
}

/* Appends the body of an event as blocks, flushed: compressed, if `d` is there
 * and that is shorter. */
static int append_blocks(struct buf *out, struct span body, struct deflater *d)
{
	if (d != NULL && body.len <= DEFLATE_MAX_BYTES &&
	    deflater_append(d, DEFLATE_WINDOW_FULL, body,
			    deflate_stored_len(body.len), out) == 0)
		return 0;
	int rv = deflate_append_stored(out, body);
	return rv != 0 ? rv : buf_append(out, DEFLATE_FLUSH, DEFLATE_FLUSH_LEN);
}

/* Appends the id of an event as a block. */
static int append_id_block(struct buf *out, const struct message *m)
{
	struct buf line = {0};
	struct id id;

	write_id(&id, m);
	int rv = sse_write_id(&line, id.span);
	if (rv == 0)
		rv = deflate_append_stored(out,
					   (struct span){line.bytes, line.len});
	buf_fini(&line);
	return rv;
}

/* The most that the body of an event may have. */
static size_t body_max(const struct message *m,
		       const struct message_source *source)
{
	return BODY_PER_BYTE * form_room(m, source);
}

/* Appends an event that is too long to be compressed. Its body is not written
 * elsewhere first: fresh memory is what costs most. */
static int append_long_event(struct buf *out, const struct message *m,
			     enum message_form form,
			     const struct message_source *source)
{
	size_t max = body_max(m, source);
	size_t gap = deflate_stored_len(max) - max;
	int rv = append_id_block(out, m);

	if (rv == 0)
		rv = buf_reserve(out, gap + form_room(m, source));
	if (rv != 0)
		return UV_ENOMEM;
	size_t from = out->len;
	out->len += gap;
	if (write_body(out, m, form, source) != 0 ||
	    out->len - from > CONTENT_MAX)
		return UV_ENOMEM;
	deflate_store_in_place(out, from, gap);
	return buf_append(out, DEFLATE_FLUSH, DEFLATE_FLUSH_LEN);
}

/* Appends the payload of a frame, without its tail. Returns 0; UV_E2BIG if it
 * is not shorter than `body`; or UV_ENOMEM. */
static int write_deflated_payload(struct buf *out, struct span body,
				  enum deflate_window window,
				  struct deflater *d)
{
	if (body.len > DEFLATE_MAX_BYTES)
		return UV_E2BIG;
	int rv = deflater_append(d, window, body,
				 body.len + DEFLATE_TAIL_LEN - 1, out);
	if (rv == 0)
		out->len -= DEFLATE_TAIL_LEN;
	return rv;
}

/* Writes a whole form of one that may be compressed, as write_plain() does; `d`
 * NULL: in stored blocks. Returns UV_E2BIG, too. */
static int write_compressed(struct buf *out, size_t *start,
			    const struct message *m, enum message_form form,
			    const struct message_source *source,
			    struct deflater *d)
{
	const struct message_form_row *row = row_of(form);
	struct span bytes = message_data(m);
	struct buf body = {0};
	int rv = 0;

	if (buf_reserve(out, FRAMING_START_MAX) != 0)
		return UV_ENOMEM;
	out->len += FRAMING_START_MAX;
	size_t from = out->len;
	if (row->is_event && bytes.len > DEFLATE_MAX_BYTES) {
		rv = append_long_event(out, m, form, source);
		return rv == 0 ? frame(out, from, row->framing, true, start)
			       : rv;
	}
	if (row->is_event || row->has_envelope) {
		rv = buf_reserve(&body, form_room(m, source));
		if (rv == 0)
			rv = write_body(&body, m, form, source);
		bytes = (struct span){body.bytes, body.len};
	}
	if (rv == 0 && bytes.len > CONTENT_MAX)
		rv = UV_ENOMEM;
	if (rv == 0 && row->is_event) {
		rv = append_id_block(out, m);
		if (rv == 0)
			rv = append_blocks(out, bytes, d);
	} else if (rv == 0) {
		rv = write_deflated_payload(out, bytes,
					    framing_window(row->framing), d);
	}
	buf_fini(&body);
	return rv == 0 ? frame(out, from, row->framing, true, start) : rv;
}

/* --- making them ---------------------------------------------------------- */

/* Makes the encoding of a form. Where it is a WebSocket's and does not get
 * shorter, that is one without bytes. NULL without memory. */
static struct message_encoding *make_encoding(
	const struct message *m, enum message_form form,
	const struct message_source *source)
{
	struct buf out = {0};
	size_t start = sizeof(struct message_encoding);
	int rv = buf_reserve(&out, start + FRAMING_START_MAX);

	out.len = start;
	if (rv == 0 && may_compress(form))
		rv = write_compressed(&out, &start, m, form, source,
				      is_worth_it(m, source) ? source->deflater
							     : NULL);
	else if (rv == 0)
		rv = write_plain(&out, &start, m, form, source);
	if (rv == UV_E2BIG) {
		out.len = sizeof(struct message_encoding);
		start = out.len;
		rv = 0;
	}
	if (rv == 0)
		return message_encoding_of(&out, start, form);
	buf_fini(&out);
	return NULL;
}

/* The encoding of a form, for all if there is room, else the caller's: then
 * `*is_apart`. NULL without memory. */
static struct message_encoding *make(struct message *m, enum message_form form,
				     const struct message_source *source,
				     bool *is_apart)
{
	struct message_encoding *mine = make_encoding(m, form, source);

	*is_apart = false;
	if (mine == NULL)
		return NULL;
	struct message_encoding *has = message_add(m, mine);
	*is_apart = has == NULL;
	return *is_apart ? mine : has;
}

/* The same of a form that is to be compressed: once for all threads, but where
 * there is no room. */
static struct message_encoding *make_once(struct message *m,
					  enum message_form form,
					  const struct message_source *source,
					  bool *is_apart)
{
	struct lock *lock = lock_of(m);

	*is_apart = false;
	if (!message_has_room(m, COMPRESSED_MIN))
		return make(m, form, source, is_apart);
	lock_acquire(lock);
	struct message_encoding *e = message_find(m, form);
	if (e == NULL)
		e = make(m, form, source, is_apart);
	lock_release(lock);
	return e;
}

static struct message_encoding *find_or_make(
	struct message *m, enum message_form form,
	const struct message_source *source, bool *is_apart)
{
	struct message_encoding *e = message_find(m, form);

	*is_apart = false;
	if (e != NULL)
		return e;
	return may_compress(form) && is_worth_it(m, source)
		       ? make_once(m, form, source, is_apart)
		       : make(m, form, source, is_apart);
}

/* --- parts of events ------------------------------------------------------ */

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
	return framing == FRAMING_BARE ? event : skip_line(event);
}

/* The id of an event is a line, or a stored block. */
static struct span skip_id(struct span event, enum framing framing)
{
	const uint8_t *head = (const uint8_t *)event.bytes;

	if (!framing_may_compress(framing))
		return skip_line(event);
	CHECK(event.len >= DEFLATE_STORED_OVERHEAD && head[0] == 0);
	size_t len = DEFLATE_STORED_OVERHEAD + head[1] + 256u * head[2];
	CHECK(event.len >= len);
	return (struct span){event.bytes + len, event.len - len};
}

struct span message_event_body(struct span event, enum message_form form)
{
	enum framing framing = row_of(form)->framing;

	return skip_id(unframed(event, framing), framing);
}

/* Appends the id of an event, as its framing has it. */
static int append_id(struct buf *out, struct span id, bool is_block)
{
	size_t from = out->len;

	if (buf_reserve(out, DEFLATE_STORED_OVERHEAD) != 0)
		return UV_ENOMEM;
	if (is_block)
		out->len += DEFLATE_STORED_OVERHEAD;
	size_t line = out->len;
	if (sse_write_id(out, id) != 0)
		return UV_ENOMEM;
	if (is_block)
		deflate_write_stored_head((uint8_t *)out->bytes + from,
					  out->len - line);
	return 0;
}

int message_append_event_start(struct buf *out, enum message_form form,
			       struct span id, size_t body_len)
{
	enum framing framing = row_of(form)->framing;
	bool is_block = framing_may_compress(framing);
	size_t before = out->len;
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;

	/* The id is written where the start will be, to learn its length. */
	if (append_id(out, id, is_block) != 0 ||
	    buf_reserve(out, FRAMING_START_MAX) != 0) {
		out->len = before;
		return UV_ENOMEM;
	}
	size_t id_len = out->len - before;
	struct span after = is_block ? framing_compressed_end(framing)
				     : framing_end(framing);
	size_t content = id_len + body_len - after.len;
	size_t len =
		is_block ? framing_write_compressed_start(framing, end, content)
			 : framing_write_start(framing, end, content);
	memmove(out->bytes + before + len, out->bytes + before, id_len);
	memcpy(out->bytes + before, end - len, len);
	out->len = before + len + id_len;
	return 0;
}

/* --- what others get ------------------------------------------------------ */

static struct span frame_of(const struct message *m)
{
	return (struct span){(const char *)m->frame, m->frame_len};
}

/* Whether a form has the bytes of the one that it is made of: a WebSocket's
 * that is not compressed. */
static bool is_uncompressed(const struct message *m, enum message_form form,
			    const struct message_source *source)
{
	return may_compress(form) && !row_of(form)->is_event &&
	       !is_worth_it(m, source);
}

/* An event that lies in another. */
static struct span inside(struct span event, enum framing framing)
{
	event = unframed(event, framing);
	event.len -= framing_end(framing).len;
	return event;
}

/* Recurses once: what a form is made of is made of itself. */
/* NOLINTNEXTLINE(misc-no-recursion) */
struct span message_encode(struct message *m, enum message_form form,
			   const struct message_source *source,
			   struct message_encoding **apart)
{
	enum message_form made_of = row_of(form)->made_of;
	bool lies_in = made_of != form && !may_compress(form);
	bool is_apart;

	*apart = NULL;
	if (form == MESSAGE_FRAME)
		return frame_of(m);
	if (is_uncompressed(m, form, source))
		return message_encode(m, made_of, source, apart);
	struct message_encoding *e =
		find_or_make(m, lies_in ? made_of : form, source, &is_apart);
	if (e != NULL && e->len > 0) {
		if (is_apart)
			*apart = e;
		struct span bytes = message_encoding_bytes(e);
		return lies_in ? inside(bytes, row_of(made_of)->framing)
			       : bytes;
	}
	/* Not shorter; or there was no memory for compressing it. */
	if (is_apart)
		message_encoding_free(e);
	if (!may_compress(form) || row_of(form)->is_event)
		return (struct span){NULL, 0};
	return message_encode(m, made_of, source, apart);
}

/* Appends what is soon made again. */
static int append_new(struct buf *out, const struct message *m,
		      enum message_form form,
		      const struct message_source *source)
{
	size_t before = out->len;
	size_t start;
	int rv = may_compress(form)
			 ? write_compressed(out, &start, m, form, source, NULL)
			 : write_plain(out, &start, m, form, source);

	if (rv != 0) {
		out->len = before;
		return UV_ENOMEM;
	}
	memmove(out->bytes + before, out->bytes + start, out->len - start);
	out->len -= start - before;
	return 0;
}

int message_append(struct buf *out, struct message *m, enum message_form form,
		   const struct message_source *source)
{
	struct message_encoding *apart = NULL;
	struct span bytes = {NULL, 0};

	if (is_uncompressed(m, form, source))
		form = row_of(form)->made_of;
	if (form == MESSAGE_FRAME)
		bytes = frame_of(m);
	else if (may_compress(form) && is_worth_it(m, source))
		bytes = message_encode(m, form, source, &apart);
	else
		return append_new(out, m, form, source);
	if (bytes.bytes == NULL)
		return UV_ENOMEM;
	int rv = buf_append(out, bytes.bytes, bytes.len);
	message_encoding_free(apart);
	return rv;
}
