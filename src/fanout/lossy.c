/* lossy.c - subscriptions that lose messages rather than their connection.
 *
 * A subscription's numbers go on without a hole: messages that were sent; then
 * those that were dropped and are not reported yet, from gap_from to gap_to;
 * then those that wait. Hence only the oldest that waits may be dropped, or
 * all. */
#include "base/check.h"
#include "base/memory.h"
#include "codec/cursor.h"
#include "codec/v1_codec.h"
#include "fanout/members.h"
#include "fanout/subscribers.h"

#include <stdlib.h>

#define RING_MIN 8 /* messages; a power of two */

struct subscriber *subscribers_lossy_new(enum message_form form,
					 size_t *shared_bytes)
{
	struct lossy *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	memory_charge(sizeof *l);
	l->subscriber.form = (uint8_t)form;
	l->subscriber.is_lossy = true;
	l->shared_bytes = shared_bytes;
	return &l->subscriber;
}

void subscribers_lossy_free(struct subscriber *s)
{
	struct lossy *l = lossy_of(s);

	CHECK(s->topic == NULL && l->waiting == NULL);
	memory_credit(sizeof *l);
	free(l);
}

/* --- what waits ----------------------------------------------------------- */

static struct message **waiting_slot(const struct lossy *l, uint32_t i)
{
	return &l->waiting[(l->head + i) & (l->cap - 1)];
}

static void free_ring(struct lossy *l)
{
	memory_credit(l->cap * sizeof(struct message *));
	free(l->waiting);
	l->waiting = NULL;
	l->cap = 0;
	l->head = 0;
}

static int grow_waiting(struct lossy *l)
{
	uint32_t cap = l->cap == 0 ? RING_MIN : 2 * l->cap;
	struct message **waiting = calloc(cap, sizeof(struct message *));

	if (waiting == NULL)
		return UV_ENOMEM;
	for (uint32_t i = 0; i < l->count; i++)
		waiting[i] = *waiting_slot(l, i);
	free_ring(l);
	memory_charge(cap * sizeof(struct message *));
	l->waiting = waiting;
	l->cap = cap;
	return 0;
}

static void note_bytes(struct lossy *l, size_t more, size_t less)
{
	l->bytes += more - less;
	*l->shared_bytes += more - less;
}

/* Takes a reference of its own. */
static int append_waiting(struct lossy *l, struct message *m)
{
	if (l->count == l->cap && grow_waiting(l) != 0)
		return UV_ENOMEM;
	*waiting_slot(l, l->count++) = message_ref(m, 1);
	note_bytes(l, m->size, 0);
	return 0;
}

/* Takes the oldest off, with its reference; an empty ring keeps no memory. */
static struct message *take_oldest(struct lossy *l)
{
	struct message *m = *waiting_slot(l, 0);

	note_bytes(l, 0, m->size);
	l->head = (l->head + 1) & (l->cap - 1);
	if (--l->count == 0)
		free_ring(l);
	return m;
}

void subscribers_forget(struct lossy *l)
{
	while (l->count > 0)
		message_unref(take_oldest(l), 1);
	l->gap_from = 0;
	l->gap_to = 0;
}

/* --- what is lost --------------------------------------------------------- */

/* Notes a loss: its number is above all lost ones, and below all that wait. */
static void lose(struct subscribers *all, struct lossy *l, uint64_t sequence)
{
	if (l->gap_from == 0)
		l->gap_from = sequence;
	l->gap_to = sequence;
	stats_add(all->stats, STATS_dropped, 1);
}

static void lose_oldest(struct subscribers *all, struct lossy *l)
{
	struct message *m = take_oldest(l);

	lose(all, l, m->sequence);
	message_unref(m, 1);
}

/* Drops `m`, and all that waits, since that came before it. */
static void lose_up_to(struct subscribers *all, struct lossy *l,
		       const struct message *m)
{
	while (l->count > 0)
		lose_oldest(all, l);
	lose(all, l, m->sequence);
}

/* Drops the oldest until `len` bytes more are within the limit. Returns whether
 * they are: the connection's queue alone may exceed it. A single message is
 * never too long. */
static bool drop_for_room(struct subscribers *all, struct lossy *l, size_t len)
{
	for (;;) {
		size_t waiting = *l->shared_bytes;
		size_t before = conn_unsent_bytes(l->subscriber.conn) + waiting;
		if (before == 0 || before + len <= all->buffered_max_bytes)
			return true;
		if (l->count == 0)
			return false;
		lose_oldest(all, l);
	}
}

/* --- sending -------------------------------------------------------------- */

static void send_gap(struct subscribers *all, struct lossy *l)
{
	struct message_source source =
		local_topic_source(all, l->subscriber.topic);
	char from[CURSOR_MAX];
	char to[CURSOR_MAX];
	struct span from_id = {from,
			       cursor_write(from, source.epoch, l->gap_from)};
	struct span to_id = {to, cursor_write(to, source.epoch, l->gap_to)};

	all->text.len = 0;
	if (v1_write_gap(&all->text, source.publisher, source.topic, from_id,
			 to_id) != 0) {
		conn_end_later(l->subscriber.conn, CLOSE_REASON_no_memory);
		return;
	}
	conn_send_text(l->subscriber.conn,
		       (struct span){all->text.bytes, all->text.len});
	l->gap_from = 0;
	l->gap_to = 0;
}

/* Sends a message for which there is room; it does not count against the limit,
 * however long it is. Returns false without memory. */
static bool send_now(struct subscribers *all, struct lossy *l,
		     struct message *m)
{
	struct message_source source =
		local_topic_source(all, l->subscriber.topic);
	struct chunk *chunk = subscribers_chunk_of(
		all, m, (enum message_form)l->subscriber.form, &source);

	if (chunk == NULL)
		return false;
	chunk->is_paced = true;
	conn_send(l->subscriber.conn, chunk);
	stats_add(all->stats, STATS_delivered, 1);
	stats_add(all->stats, STATS_delivered_bytes, chunk->len);
	chunk_unref(chunk);
	return true;
}

static void send_oldest(struct subscribers *all, struct lossy *l)
{
	struct message *m = take_oldest(l);

	if (!send_now(all, l, m))
		lose(all, l, m->sequence);
	message_unref(m, 1);
}

/* A peer that reads takes what is queued, and then there is room again. */
static bool has_room_now(struct conn *c)
{
	if (!conn_has_room(c))
		conn_write_now(c);
	return conn_has_room(c);
}

/* As subscribers_feed(). */
static bool feed_lossy(struct subscribers *all, struct lossy *l)
{
	CHECK_ON_THREAD(all->owner);
	while (l->gap_from != 0 || l->count > 0) {
		if (!has_room_now(l->subscriber.conn)) {
			conn_wait_for_room(l->subscriber.conn);
			return false;
		}
		if (l->gap_from != 0)
			send_gap(all, l);
		else
			send_oldest(all, l);
	}
	return true;
}

bool subscribers_feed(struct subscribers *all, struct subscriber *s)
{
	return feed_lossy(all, lossy_of(s));
}

void subscribers_offer(struct subscribers *all, struct lossy *l,
		       struct message *m)
{
	struct conn *c = l->subscriber.conn;

	if (m->sequence <= l->subscriber.since)
		return;
	l->subscriber.since = m->sequence;
	bool is_next = feed_lossy(all, l) && has_room_now(c);
	bool is_taken = is_next ? send_now(all, l, m)
				: drop_for_room(all, l, m->size) &&
					  append_waiting(l, m) == 0;
	if (!is_taken)
		lose_up_to(all, l, m);
	if (!is_taken || !is_next)
		conn_wait_for_room(c);
}
