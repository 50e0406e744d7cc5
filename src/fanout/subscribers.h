/* subscribers.h - the subscribers of one worker, by topic.
 *
 * The registry knows only that this worker has subscribers of a topic, and a
 * member to post messages for. Which connections these are is known here alone.
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

#define SUBSCRIBERS_SAMPLES                                                    \
	64 /* messages of a delivery whose time is                             \
	    * measured */

struct local_topic; /* the subscribers of one topic; this room alone */
struct replay;      /* the same */

/* One subscription of one connection. It lies in the connection's memory, or in
 * memory that lives as long, and does not move. Zeroed memory is not
 * subscribed. */
struct subscriber {
	struct conn *conn;
	struct local_topic *topic; /* NULL: not subscribed */
	union {
		/* Messages with sequence <= since are not sent. Advanced on
		 * delivery only if has_cursor or is_lossy. */
		uint64_t since;
		struct replay *replay; /* while it is behind; heap */
	};
	uint32_t index; /* its place in the topic */
	/* The caller sets what follows before it subscribes. */
	uint8_t form; /* enum message_form: what it is sent */
	/* Each of its events has an id with the numbers, `since`, of all
	 * subscriptions of the stream (cursor.h). These siblings lie in an
	 * array. A sibling that is not subscribed yet has as `since` the number
	 * that it will resume from. */
	bool has_cursor : 1;
	bool is_last : 1;  /* of that array */
	bool is_lossy : 1; /* subscribers_lossy_new() made it */
	/* It is sent the history first, message by message, as there is room;
	 * messages that are published meanwhile wait there, too. */
	bool is_behind : 1;
	bool parity : 1;  /* subscribers.parity of the epoch that it knows of */
	uint16_t ordinal; /* its place in that array */
};

struct subscribers {
	uv_thread_t owner; /* Immutable */
	struct registry *registry;
	/* A subscriber that was behind has lost the messages from `from` to
	 * `to`: they were dropped before they could be sent, for lack of memory
	 * or room (registry.h: replay_bytes). Tells the client; inside the call
	 * it may be ended only with conn_end_later(). */
	void (*on_loss)(struct subscribers *all, struct subscriber *s,
			uint64_t from, uint64_t to);
	/* The topic of `s` has begun anew, in another epoch: messages published
	 * before may be lost, and later ones have numbers above `s->since`. The
	 * same rules. */
	void (*on_reset)(struct subscribers *all, struct subscriber *s);
	/* The epoch of what was delivered here. registry_epoch() may be ahead
	 * of it while the reset is still in the mailbox. */
	uint64_t epoch;
	/* Compresses for this worker, owned; NULL: nothing is compressed. To be
	 * set after subscribers_init(). */
	struct deflater *deflater;
	struct deflate_totals deflated; /* of that, as far as it is counted */
	unsigned worker;
	struct stats *stats;
	size_t buffered_max_bytes; /* of a connection */
	size_t count;
	/* When some messages of the last delivery were accepted. */
	uint64_t accepted_ns[SUBSCRIBERS_SAMPLES];
	unsigned samples;
	/* Topics with messages that were taken from the mailbox and are not
	 * sent yet, in the order of their turns. */
	struct local_topic *waiting;
	struct local_topic **waiting_end; /* nothing if none waits */
	/* A reset that was taken from the mailbox, and what came behind it. It
	 * is handled once no topic waits. NULL: there is none. */
	struct message *mail;
	/* From the first reset of a new epoch to the last: nobody can
	 * subscribe. */
	bool is_renewing;
	bool parity; /* whether the number of epochs so far is odd */
	/* The first reset's topic: whether some were told, and how many of its
	 * members still have to be. */
	bool is_resetting;
	uint32_t to_reset;
	struct buf text;   /* scratch */
	struct buf cursor; /* the same */
	struct buf batch;  /* the same: forms that are sent together */
	struct list turns; /* subscribers that are behind and wait for a turn,
			    * by replay->link */
	size_t behind;     /* how many are behind */
};

/* Returns 0 or UV_ENOMEM. `on_loss` and `on_reset` are to be set after it. */
int subscribers_init(struct subscribers *all, struct registry *registry,
		     unsigned worker, size_t buffered_max_bytes,
		     struct stats *stats);
void subscribers_fini(struct subscribers *all);

/* Where a subscriber wants to resume (struct registry_join). */
struct subscribers_resume {
	bool resumes;
	uint64_t epoch;
	uint64_t after;
	uint32_t last;
};

/* Subscribes `c` to a topic; from now on it gets every message of it. `s` must
 * not be subscribed; its members say what it is sent, and must not change
 * afterwards. `resume` NULL: only new messages; `*is_exact`, which may be NULL,
 * is false. Else `*is_exact` says whether all messages above `after` will come.
 * History is sent as there is room, from on_room() (subscribers_catch_up()), so
 * the client can be answered first. subscribers_since() is the number before
 * the first message that will come. Returns 0; or, with nothing changed,
 * UV_ENOMEM, or UV_EAGAIN while a new epoch begins: its resets are in the
 * mailbox. */
int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key,
		    const struct subscribers_resume *resume, bool *is_exact);

/* Messages with a sequence up to this number are not sent any more. For
 * siblings (has_cursor) also before they are subscribed. */
uint64_t subscribers_since(const struct subscriber *s);

/* Gives `s` a turn if it is behind. Call it from on_room (conn.h), for one
 * subscription of a connection at a time. Returns whether it is behind. */
bool subscribers_catch_up(struct subscribers *all, struct subscriber *s);

/* Whether a turn waits, and may be had: not while an epoch begins, since
 * topics have new numbers before their subscribers here are told. */
static inline bool subscribers_has_turns(const struct subscribers *all)
{
	return !list_is_empty(&all->turns) && !all->is_renewing;
}

/* Sends history to the subscribers that have a turn, until uv_hrtime() is
 * `until_ns`, but to one at least: to each as much as there is room for, at
 * most some tens of kilobytes. Each then asks for room, so a flush must follow.
 * Never while messages are delivered. */
void subscribers_take_turns(struct subscribers *all, uint64_t until_ns);

/* Ends a subscription; nothing happens if `s` is not subscribed. Never while
 * messages are delivered: endings wait for the flush (conn_send). */
void subscribers_remove(struct subscribers *all, struct subscriber *s);

/* The topic of a subscription; valid as long as that. */
struct topic_key subscribers_key(const struct subscriber *s);

/* Appends the cursor of `s`, which has_cursor, and its siblings: the messages
 * that the client has got. Returns 0, or UV_ENOMEM with `out` unchanged. */
int subscribers_write_cursor(const struct subscribers *all,
			     const struct subscriber *s, struct buf *out);

/* Makes a lossy subscription. Messages for which its connection has no room
 * wait here, within MAX_BUFFERED for queue and waiting messages together;
 * beyond it, or without memory, the oldest are dropped. A gap notice
 * (v1_codec.h) tells the client before the next message, or as soon as there is
 * room. `form` has an envelope, and is no event. `shared_bytes`: the caller's
 * sum, from 0, of the bytes that wait in all lossy subscriptions of the
 * connection. Returns the subscription, for subscribers_add(); NULL without
 * memory. */
struct subscriber *subscribers_lossy_new(enum message_form form,
					 size_t *shared_bytes);

/* It is not subscribed. */
void subscribers_lossy_free(struct subscriber *s);

/* Sends waiting messages and gap notices of `s`, which is_lossy, while the
 * connection has room (conn_has_room), and asks for room for the rest. Call it
 * from on_room (conn.h). Returns whether nothing waits any more. */
bool subscribers_feed(struct subscribers *all, struct subscriber *s);

/* The flush has written what was delivered: measures how long that took
 * (stats.h). */
void subscribers_flushed(struct subscribers *all);

/* Delivers messages that were taken from the mailbox, in order, and takes their
 * references. Short messages of one topic are sent as one chunk, so that a
 * burst costs a connection as much as one message. Topics take turns. It stops
 * soon after `until_ns` (uv_hrtime(); UINT64_MAX: never). Returns whether all
 * is sent; if not, the next call sends the rest, with `first` NULL or further
 * messages. */
bool subscribers_deliver(struct subscribers *all, struct message *first,
			 uint64_t until_ns);

#endif
