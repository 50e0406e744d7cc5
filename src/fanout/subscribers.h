/* subscribers.h - the subscribers of one worker, by topic.
 *
 * The registry knows that this worker has subscribers of a topic, and a member
 * to post for; which connections they are is known here alone.
 * Owner: the worker's thread, for everything; hence no locks. */
#ifndef ISIMUD_FANOUT_SUBSCRIBERS_H
#define ISIMUD_FANOUT_SUBSCRIBERS_H

#include "conn/conn.h"
#include "stats/stats.h"
#include "topics/message.h"
#include "topics/registry.h"

#include <stdbool.h>
#include <stdint.h>

#define SUBSCRIBERS_SAMPLES 64 /* messages timed, a delivery */

struct local_topic; /* the subscribers of one topic; this room alone */

/* One subscription of one connection; lies in the connection's memory, or in
 * memory that goes with it, and does not move. Zeroed memory is none. */
struct subscriber {
	struct conn *conn;
	struct local_topic *topic; /* NULL: not subscribed */
	/* Number of the last message it does not get, or that it got: it counts
	 * on only where has_cursor or is_lossy. */
	uint64_t since;
	uint32_t index; /* its place in the topic */
	/* What follows is the caller's to say, before it is subscribed. */
	uint8_t form; /* enum message_form: what it is sent */
	/* Its events are sent with an id that has the numbers, `since`, of this
	 * and its siblings (cursor.h): all the subscriptions of a stream, in an
	 * array. Those that are not subscribed yet while a sibling's history is
	 * replayed have the number that they will resume from as `since`. */
	bool has_cursor : 1;
	bool is_last : 1;  /* of that array */
	bool is_lossy : 1; /* it lies in a struct lossy */
	uint16_t ordinal;  /* its place in that array */
};

/* A subscription that would rather lose messages than its connection: what its
 * connection has no room for waits here, within MAX_BUFFERED for queue and
 * waiting together; beyond it, or without memory, the oldest goes, and the
 * client is told by a gap notice (envelope.h) before the next message, or as
 * soon as there is room if none follows. Always MESSAGE_ENVELOPE.
 * Zeroed memory is none. */
struct lossy {
	struct subscriber subscriber; /* the first member */
	/* The bytes that wait in all lossy subscriptions of the connection,
	 * from 0: one number that they share, the caller's; or NULL, and its
	 * own are all. */
	size_t *shared_bytes;
	struct message **waiting; /* a ring; a reference each */
	uint32_t head;
	uint32_t count;
	uint32_t cap;
	size_t bytes;      /* of those, as encoded */
	uint64_t gap_from; /* dropped before the oldest that waits; 0: none */
	uint64_t gap_to;
};

struct subscribers {
	struct registry *registry;
	unsigned worker;
	struct stats *stats;
	size_t buffered_max_bytes; /* of a connection */
	size_t count;
	/* When messages of the last delivery were accepted: some of them. */
	uint64_t accepted_ns[SUBSCRIBERS_SAMPLES];
	unsigned samples;
	struct buf text;   /* scratch */
	struct buf cursor; /* the same */
	/* What the last subscribers_add() found, see subscribers_replay(), and
	 * the number of the last message before what comes live. */
	struct message **missed;
	unsigned missed_count;
	uint64_t missed_to;
};

/* `history_size`: as the registry's. Returns 0 or UV_ENOMEM. */
int subscribers_init(struct subscribers *all, struct registry *registry,
		     unsigned worker, uint32_t history_size,
		     size_t buffered_max_bytes, struct stats *stats);
void subscribers_fini(struct subscribers *all);

/* From where on a subscriber wants to be served. */
struct subscribers_resume {
	uint64_t epoch;
	uint64_t after;
};

/* Subscribes `c` to a topic; from here on it gets every message of it. `s` must
 * not be subscribed, and says in its members what it is, which stays so.
 * `resume` NULL: only what comes from now on; `*is_exact` is false, and may be
 * NULL. Else it receives whether all above it will come: what was published
 * before waits for subscribers_replay(), which must be the next call here, so
 * that the client can be told first. `s->since` is the number of the last
 * message before those to come. Returns 0, or UV_ENOMEM with nothing changed.
 */
int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key,
		    const struct subscribers_resume *resume, bool *is_exact);

/* Sends what subscribers_add() found in the history. Nothing happens if that
 * was not exact. */
void subscribers_replay(struct subscribers *all, struct subscriber *s);

/* Nothing happens if `s` is not subscribed. Never called while messages are
 * delivered: endings wait for the flush (conn_send). */
void subscribers_remove(struct subscribers *all, struct subscriber *s);

/* The topic of one that is subscribed, as long as it is. */
struct topic_key subscribers_key(const struct subscriber *s);

/* Appends the cursor of `s`, which has one, and its siblings: what the client
 * has got. Returns 0, or UV_ENOMEM with `out` unchanged. */
int subscribers_write_cursor(const struct subscribers *all,
			     const struct subscriber *s, struct buf *out);

/* Sends what waits, gap notices included, while the connection has room
 * (conn_has_room), and asks for room for the rest: to be called from on_room
 * (conn.h). Returns whether nothing waits any more. */
bool subscribers_feed(struct subscribers *all, struct lossy *l);

/* What was delivered is written now: notes how long it took (stats.h). */
void subscribers_flushed(struct subscribers *all);

/* Hands messages that were taken from the mailbox to the connections, in order,
 * and gives their references up. Messages of one topic are sent as one chunk
 * where they are small, so that a burst costs a connection as much as one
 * message. */
void subscribers_deliver(struct subscribers *all, struct message *first);

#endif
