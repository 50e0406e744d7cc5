/* chunks.c - makes chunks of messages, in the forms that subscribers are
 * sent. */
#include "codec/cursor.h"
#include "fanout/members.h"

struct chunk *subscribers_chunk_of_copy(const void *bytes, size_t len)
{
	struct chunk *chunk = chunk_new(len);

	if (chunk != NULL)
		chunk_append(chunk, bytes, len);
	return chunk;
}

static struct chunk *chunk_of_long(struct message *m, enum message_form form,
				   const struct message_source *source)
{
	struct message_encoding *apart;
	struct span bytes = message_encode(m, form, source, &apart);

	if (apart != NULL)
		return chunk_of_encoding(apart, bytes);
	if (bytes.bytes == NULL)
		return NULL;
	return chunk_of_part(message_ref(m, 1), bytes);
}

struct chunk *subscribers_chunk_of(struct subscribers *all, struct message *m,
				   enum message_form form,
				   const struct message_source *source)
{
	if (form == MESSAGE_FRAME)
		return chunk_of_message(message_ref(m, 1));
	if (message_is_long(m))
		return chunk_of_long(m, form, source);
	all->text.len = 0;
	if (message_append(&all->text, m, form, source) != 0)
		return NULL;
	return subscribers_chunk_of_copy(all->text.bytes, all->text.len);
}

/* --- events with a cursor ------------------------------------------------- */

struct chunk *subscribers_body_of(struct subscribers *all, struct message *m,
				  enum message_form form,
				  const struct message_source *source)
{
	struct chunk *chunk = subscribers_chunk_of(all, m, form, source);

	if (chunk == NULL)
		return NULL;
	struct span event = {(const char *)chunk->bytes, chunk->len};
	struct span body = message_event_body(event, form);
	chunk->bytes = (const uint8_t *)body.bytes;
	chunk->len = (uint32_t)body.len;
	return chunk;
}

int subscribers_write_cursor(const struct subscribers *all,
			     const struct subscriber *s, struct buf *out)
{
	const struct subscriber *sibling = s - s->ordinal;
	size_t before = out->len;

	if (buf_reserve(out, CURSOR_MAX) != 0)
		return UV_ENOMEM;
	out->len += cursor_write(out->bytes + out->len, all->epoch,
				 subscribers_since(sibling));
	while (!sibling->is_last) {
		sibling++;
		if (buf_reserve(out, CURSOR_PART_MAX + 1) != 0) {
			out->len = before;
			return UV_ENOMEM;
		}
		out->len += cursor_write_part(out->bytes + out->len,
					      subscribers_since(sibling));
	}
	return 0;
}

/* Writes the beginning of an event of `s`, up to `body`, into all->text.
 * Returns it; absent without memory. */
static struct span write_event_start(struct subscribers *all,
				     const struct subscriber *s,
				     const struct chunk *body)
{
	struct buf *text = &all->text;

	all->cursor.len = 0;
	text->len = 0;
	if (subscribers_write_cursor(all, s, &all->cursor) != 0 ||
	    message_append_event_start(
		    text, (enum message_form)s->form,
		    (struct span){all->cursor.bytes, all->cursor.len},
		    body->len) != 0)
		return (struct span){NULL, 0};
	return (struct span){text->bytes, text->len};
}

void subscribers_send_event(struct subscribers *all, const struct subscriber *s,
			    struct chunk *body)
{
	struct span start = {NULL, 0};

	if (body != NULL)
		start = write_event_start(all, s, body);
	if (start.bytes == NULL) {
		conn_end_later(s->conn, CLOSE_REASON_no_memory);
		return;
	}
	conn_send_part(s->conn, start);
	conn_send(s->conn, body); /* nothing, if the part found no memory */
	stats_add(all->stats, STATS_delivered, 1);
	stats_add(all->stats, STATS_delivered_bytes, start.len + body->len);
}

bool subscribers_count_deflated(struct subscribers *all)
{
	struct deflate_totals before = all->deflated;

	if (all->deflater == NULL)
		return false;
	all->deflated = deflater_totals(all->deflater);
	if (all->deflated.messages == before.messages)
		return false;
	stats_add(all->stats, STATS_deflated,
		  all->deflated.messages - before.messages);
	stats_add(all->stats, STATS_deflate_bytes_in,
		  all->deflated.bytes_in - before.bytes_in);
	stats_add(all->stats, STATS_deflate_bytes_out,
		  all->deflated.bytes_out - before.bytes_out);
	return true;
}
