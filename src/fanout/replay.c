/* replay.c - sends history to subscribers that are behind, message by message,
 * in turns, as their connections have room.
 *
 * A subscriber that is behind asks for room. When there is room, it gets a
 * turn; after the turn it asks again, until it has caught up. So the room of
 * its connection bounds the cost of one turn, however long the history is; a
 * time bounds the cost of all turns in an iteration. */
#include "base/check.h"
#include "base/memory.h"
#include "fanout/members.h"
#include "fanout/subscribers.h"

#include <stdlib.h>

/* The bounds of a turn, beside the room of the connection. */
#define TURN_MESSAGES 64
#define TURN_BYTES    262144 /* needed where messages are compressed */
/* A scratch buffer larger than that is freed. */
#define SCRATCH_MAX_BYTES (4 * JOIN_MAX_BYTES)

struct replay *replay_new(struct subscriber *s, uint64_t since)
{
	struct replay *replay = malloc(sizeof *replay);

	if (replay == NULL)
		return NULL;
	memory_charge(sizeof *replay);
	list_init(&replay->link);
	replay->subscriber = s;
	replay->since = since;
	return replay;
}

void replay_free(struct replay *replay)
{
	list_remove(&replay->link);
	memory_credit(sizeof *replay);
	free(replay);
}

void subscribers_go_live(struct subscribers *all, struct subscriber *s,
			 uint64_t since)
{
	struct replay *replay = s->replay;

	local_topic_take_out(s->topic, s);
	replay_free(replay);
	s->is_behind = false;
	s->since = since;
	local_topic_insert(s->topic, s);
	stats_set_gauge(all->stats, STATS_GAUGE_behind, --all->behind);
}

/* --- sending -------------------------------------------------------------- */

static void send_paced(struct subscribers *all, struct subscriber *s,
		       struct chunk *chunk)
{
	if (chunk == NULL) {
		conn_end_later(s->conn, CLOSE_REASON_no_memory);
		return;
	}
	chunk->is_paced = true;
	conn_send(s->conn, chunk);
	stats_add(all->stats, STATS_delivered_bytes, chunk->len);
	chunk_unref(chunk);
}

/* Sends what was joined so far. */
static void send_batch(struct subscribers *all, struct subscriber *s)
{
	struct buf *batch = &all->batch;

	if (batch->len == 0)
		return;
	struct chunk *chunk = chunk_new(batch->len);
	if (chunk != NULL)
		chunk_append(chunk, batch->bytes, batch->len);
	send_paced(all, s, chunk);
	batch->len = 0;
	if (batch->cap > SCRATCH_MAX_BYTES)
		buf_fini(batch);
}

/* Sends `m`, or adds it to the batch that send_batch() sends. */
static void replay_message(struct subscribers *all, struct subscriber *s,
			   struct message *m)
{
	struct message_source source = local_topic_source(all, s->topic);
	enum message_form form = (enum message_form)s->form;

	if (!s->has_cursor && m->frame_len <= JOIN_MAX_BYTES) {
		if (message_append(&all->batch, m, form, &source) != 0)
			conn_end_later(s->conn, CLOSE_REASON_no_memory);
		return;
	}
	send_batch(all, s);
	if (!s->has_cursor) {
		send_paced(all, s, subscribers_chunk_of(all, m, form, &source));
		return;
	}
	struct chunk *body = subscribers_body_of(all, m, form, &source);
	if (body != NULL)
		body->is_paced = true;
	subscribers_send_event(all, s, body);
	if (body != NULL)
		chunk_unref(body);
}

/* Sends the next message to a subscriber that is behind, and adds its length to
 * `*bytes`. Returns whether there was one. */
static bool replay_step(struct subscribers *all, struct subscriber *s,
			size_t *bytes)
{
	struct replay *replay = s->replay;
	uint64_t before = replay->since;
	struct registry_reading reading = {.epoch = all->epoch,
					   .since = before};

	registry_read(all->registry, s->topic->topic, &reading);
	if (reading.is_void)
		return false;
	replay->since = reading.since;
	if (reading.is_live)
		subscribers_go_live(all, s, reading.since);
	if (reading.message == NULL) {
		send_batch(all, s);
		stats_add(all->stats, STATS_replay_lost, 1);
		all->on_loss(all, s, before + 1, reading.since);
		return true;
	}
	*bytes += reading.message->frame_len;
	replay_message(all, s, reading.message);
	message_unref(reading.message, 1);
	stats_add(all->stats, STATS_replayed, 1);
	if (!s->has_cursor)
		stats_add(all->stats, STATS_delivered, 1);
	return true;
}

/* --- turns ---------------------------------------------------------------- */

bool subscribers_catch_up(struct subscribers *all, struct subscriber *s)
{
	CHECK_ON_THREAD(all->owner);
	if (s->topic == NULL || !s->is_behind)
		return false;
	if (list_is_empty(&s->replay->link))
		list_append(&all->turns, &s->replay->link);
	return true;
}

static void take_replay_turn(struct subscribers *all, struct subscriber *s)
{
	size_t bytes = 0;

	all->batch.len = 0;
	for (unsigned n = 0; n < TURN_MESSAGES && s->is_behind; n++) {
		if (all->batch.len >= JOIN_MAX_BYTES)
			send_batch(all, s);
		if (bytes >= TURN_BYTES || !conn_has_room(s->conn) ||
		    !replay_step(all, s, &bytes))
			break;
	}
	send_batch(all, s);
	subscribers_count_deflated(all);
	conn_write_now(s->conn);
	/* For its next turn, or its siblings'. */
	conn_wait_for_room(s->conn);
}

void subscribers_take_turns(struct subscribers *all, uint64_t until_ns)
{
	CHECK_ON_THREAD(all->owner);
	do {
		struct replay *replay =
			CONTAINER_OF(all->turns.next, struct replay, link);
		if (!subscribers_has_turns(all))
			return;
		list_remove(&replay->link);
		take_replay_turn(all, replay->subscriber);
	} while (uv_hrtime() < until_ns);
}
