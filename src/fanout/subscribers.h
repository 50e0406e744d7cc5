/* subscribers.h - the subscribers of one worker, by topic.
 *
 * The registry knows that this worker has subscribers of a topic, and a member
 * to post for; which connections they are is known here alone.
 * Owner: the worker's thread, for everything; hence no locks. */
#ifndef ISIMUD_FANOUT_SUBSCRIBERS_H
#define ISIMUD_FANOUT_SUBSCRIBERS_H

#include "base/list.h"
#include "codec/deflate.h"
#include "conn/conn.h"
#include "stats/stats.h"
#include "topics/message.h"
#include "topics/registry.h"

#include <stdbool.h>
#include <stdint.h>

#define SUBSCRIBERS_SAMPLES 64 /* messages timed, a delivery */

struct local_topic; /* the subscribers of one topic; this room alone */
struct replay;      /* the same */

/* One subscription of one connection; lies in the connection's memory, or in
 * memory that goes with it, and does not move. Zeroed memory is none. */
struct subscriber {
	struct conn *conn;
	struct local_topic *topic; /* NULL: not subscribed */
	union {
		/* Number of the last message it does not get, or that it got:
		 * it counts on only where has_cursor or is_lossy. */
		uint64_t since;
		struct replay *replay; /* while it is behind; heap */
	};
	uint32_t index; /* its place in the topic */
	/* What follows is the caller's to say, before it is subscribed. */
	uint8_t form; /* enum message_form: what it is sent */
	/* Its events are sent with an id that has the numbers, `since`, of this
	 * and its siblings (cursor.h): all the subscriptions of a stream, in an
	 * array. Those that are not subscribed yet while a sibling's history is
	 * replayed have the number that they will resume from as `since`. */
	bool has_cursor : 1;
	bool is_last : 1;  /* of that array */
	bool is_lossy : 1; /* subscribers_lossy_new() made it */
	/* It still has to get messages of the history, one after another as
	 * there is room; what is published meanwhile waits there, too. */
	bool is_behind : 1;
	uint16_t ordinal; /* its place in that array */
};

struct subscribers {
	uv_thread_t owner; /* Immutable */
	struct registry *registry;
	/* A subscriber that was behind has lost what is from `from` to `to`: it
	 * was dropped before it could be sent, for want of memory, or of room
	 * (registry.h: replay_bytes). To tell the client; inside the call it
	 * may be ended only with conn_end_later(). */
	void (*on_loss)(struct subscribers *all, struct subscriber *s,
			uint64_t from, uint64_t to);
	/* The topic of `s` has begun anew, in another epoch: what was published
	 * before may be lost, and what comes is above `s->since`. The same
	 * rules. */
	void (*on_reset)(struct subscribers *all, struct subscriber *s);
	/* Of all that was delivered here: registry_epoch() is ahead of it while
	 * the news is in the mailbox. */
	uint64_t epoch;
	/* Who compresses for this worker, owned; NULL: nobody. To be set behind
	 * subscribers_init(). */
	struct deflater *deflater;
	struct deflate_totals deflated; /* of that, as far as it is counted */
	unsigned worker;
	struct stats *stats;
	size_t buffered_max_bytes; /* of a connection */
	size_t count;
	/* When messages of the last delivery were accepted: some of them. */
	uint64_t accepted_ns[SUBSCRIBERS_SAMPLES];
	unsigned samples;
	/* Topics with messages that were taken and not sent yet, those whose
	 * turn comes first first. */
	struct local_topic *waiting;
	struct local_topic **waiting_end; /* nothing if none waits */
	struct buf text;                  /* scratch */
	struct buf cursor;                /* the same */
	struct buf batch;  /* the same: forms that are sent together */
	struct list turns; /* those behind whose turn comes, by replay->link */
	size_t behind;     /* how many are behind */
};

/* Returns 0 or UV_ENOMEM. `on_loss` and `on_reset` are to be set behind it. */
int subscribers_init(struct subscribers *all, struct registry *registry,
		     unsigned worker, size_t buffered_max_bytes,
		     struct stats *stats);
void subscribers_fini(struct subscribers *all);

/* From where on a subscriber wants to be served (struct registry_join). */
struct subscribers_resume {
	bool resumes;
	uint64_t epoch;
	uint64_t after;
	uint32_t last;
};

/* Subscribes `c` to a topic; from here on it gets every message of it. `s` must
 * not be subscribed, and says in its members what it is, which stays so.
 * `resume` NULL: only what comes from now on; `*is_exact` is false, and may be
 * NULL. Else it receives whether all above `after` will come. What was
 * published before is sent as there is room: it waits for on_room()
 * (subscribers_catch_up()), so the client can be told first.
 * subscribers_since() is the number of the last message before those to come.
 * Returns 0; or with nothing changed UV_ENOMEM, or UV_EAGAIN while a new epoch
 * begins: its resets are in the mail. */
int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key,
		    const struct subscribers_resume *resume, bool *is_exact);

/* The number of the last message that `s` got, or does not get; for siblings
 * (has_cursor), also before it is subscribed. */
uint64_t subscribers_since(const struct subscriber *s);

/* Gives `s` a turn, if it is behind; to be called from on_room (conn.h), and
 * not for another of the same connection at once. Returns whether it is. */
bool subscribers_catch_up(struct subscribers *all, struct subscriber *s);

/* Whether a turn waits. */
static inline bool subscribers_has_turns(const struct subscribers *all)
{
	return !list_is_empty(&all->turns);
}

/* Sends history to those whose turn it is, each as much as it has room for, or
 * some tens of kilobytes, until uv_hrtime() is `until_ns`; to one at least. Who
 * had a turn asks for room, so a flush must follow. Never while messages are
 * delivered. */
void subscribers_take_turns(struct subscribers *all, uint64_t until_ns);

/* Nothing happens if `s` is not subscribed. Never called while messages are
 * delivered: endings wait for the flush (conn_send). */
void subscribers_remove(struct subscribers *all, struct subscriber *s);

/* The topic of one that is subscribed, as long as it is. */
struct topic_key subscribers_key(const struct subscriber *s);

/* Appends the cursor of `s`, which has one, and its siblings: what the client
 * has got. Returns 0, or UV_ENOMEM with `out` unchanged. */
int subscribers_write_cursor(const struct subscribers *all,
			     const struct subscriber *s, struct buf *out);

/* Makes a subscription that would rather lose messages than its connection:
 * what its connection has no room for waits here, within MAX_BUFFERED for queue
 * and waiting together; beyond it, or without memory, the oldest goes, and the
 * client is told by a gap notice (envelope.h) before the next message, or as
 * soon as there is room if none follows. `form` has an envelope, and is no
 * event. `shared_bytes`: the bytes that wait in all lossy subscriptions of the
 * connection, from 0: one number that they share, the caller's. Returns it for
 * subscribers_add(); NULL without memory. */
struct subscriber *subscribers_lossy_new(enum message_form form,
					 size_t *shared_bytes);

/* It is not subscribed. */
void subscribers_lossy_free(struct subscriber *s);

/* Sends what waits in `s`, which is_lossy, gap notices included, while the
 * connection has room (conn_has_room), and asks for room for the rest: to be
 * called from on_room (conn.h). Returns whether nothing waits any more. */
bool subscribers_feed(struct subscribers *all, struct subscriber *s);

/* What was delivered is written now: notes how long it took (stats.h). */
void subscribers_flushed(struct subscribers *all);

/* Hands messages that were taken from the mailbox to the connections, in order,
 * and gives their references up. Messages of one topic are sent as one chunk
 * where they are small, so that a burst costs a connection as much as one
 * message. Topics take turns; after `until_ns` (uv_hrtime(); UINT64_MAX: never)
 * it stops, soon and not at once. Returns whether all is sent; if not, the rest
 * waits for the next call, `first` NULL or further messages. */
bool subscribers_deliver(struct subscribers *all, struct message *first,
			 uint64_t until_ns);

#endif
