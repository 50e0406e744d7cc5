/* registry.h - topics: which workers have subscribers, and the history.
 *
 * It knows workers, and one opaque member on each, never connections, which
 * only their own loop threads touch: a publication is posted once to each
 * worker that has subscribers, and that worker finds the connections
 * (subscribers.h).
 *
 * Topics are hashed over shards; a shard is a rwlock and a hash table. A topic
 * keeps its last messages: the options bound their number, their age, and the
 * bytes of all topics together. Beyond those bytes, the topics that were silent
 * for longest (to the second) lose messages first, each its oldest first. A
 * topic without subscribers is forgotten once it has been silent, and without
 * one, for the time that messages are kept; earlier if its bytes are needed; at
 * once if no history is kept. With `retains` a topic keeps its newest message,
 * and so stays, as one of those silent for longest. While a topic has no
 * subscriber, the memory of the topic itself counts as history. Topics that
 * never had a message get a sixteenth of the bytes at most, and go first.
 *
 * A subscriber that comes back reads the history message by message; what it
 * still has to read is not dropped meanwhile: see struct registry_reading.
 *
 * Numbers never come back in an epoch: a topic that is made again goes on above
 * the numbers that it, or any forgotten topic of its shard, had.
 *
 * Threads: any. Lock order: base/lock.h. Posting happens under the topic's
 * lock, so that every worker gets the messages of a topic in one and the same
 * order. */
#ifndef ISIMUD_TOPICS_REGISTRY_H
#define ISIMUD_TOPICS_REGISTRY_H

#include "base/span.h"
#include "topics/mailbox.h"
#include "topics/message.h"

#include <stdbool.h>
#include <stdint.h>

struct registry; /* opaque: table.h */
struct topic;    /* the same */

/* The name of a topic, in two parts that are compared apart, byte by byte:
 * ("a", "bc") is not ("ab", "c"). Borrowed. */
struct topic_key {
	struct span publisher;
	struct span name;
};

struct registry_options {
	struct mailbox *const *mailboxes; /* [w] of worker w; they outlive it */
	unsigned workers;
	/* If any of these three is 0, no history is kept. */
	uint32_t history_size;   /* messages a topic */
	uint64_t history_ttl_ms; /* how long each */
	size_t history_bytes;    /* in all */
	/* A topic's newest message, if it is kept, never gets too old. */
	bool retains;
	/* Besides: bytes of messages that are kept only for subscribers that
	 * are behind, of all topics. One topic gets at most half of what the
	 * others leave. */
	size_t replay_bytes;
	/* Numbers come from a log that others share: registry_apply() in place
	 * of registry_publish(). */
	bool is_log;
};

/* Returns 0 and `*out`; UV_ENOMEM, or the error of the kernel's random source.
 * The epoch is random. */
int registry_new(struct registry **out, const struct registry_options *options);

/* No subscriber may be left; history goes. NULL is fine. */
void registry_free(struct registry *r);

/* The epoch of the numbers (cursor.h). Only registry_renew() changes it. */
uint64_t registry_epoch(const struct registry *r);

/* The key of a topic that has a subscriber; valid as long as it has one. */
struct topic_key registry_key_of(const struct topic *t);

/* Adding a subscriber: the request, and the result. */
struct registry_join {
	/* In: the member that the topic shall know this worker by, or NULL;
	 * used only if the topic has none of this worker yet. Out: the one that
	 * it has. */
	void *member;
	/* In: whether it wants the messages above number `after` of epoch
	 * `epoch`. */
	bool resumes;
	uint64_t epoch;
	uint64_t after;
	/* In: if it does not resume, or can't: how many of the newest messages
	 * of the history it wants. 0: none if it does not resume, all if it
	 * can't. */
	uint32_t last;

	/* Out: valid until registry_leave(). */
	struct topic *topic;
	/* Out: the epoch of its numbers. */
	uint64_t topic_epoch;
	/* Out: no message up to this number will come any more. */
	uint64_t since;
	/* Out: all messages above `after` will come. False if some of them are
	 * gone, if the epoch is another, or if it does not resume. */
	bool is_exact;
	/* Out: the history has messages above `since`. Read them with
	 * registry_read(), which says when the subscriber is not behind any
	 * more; or call registry_give_up(). Until then, messages that are
	 * posted to the worker are not for this subscriber. */
	bool is_behind;
};

/* Adds one subscriber on `worker`, called on that worker's thread. Returns 0;
 * UV_ENOENT, with nothing changed, if a member is needed and none was given;
 * UV_ENOMEM. */
int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, struct registry_join *join);

/* Removes one subscriber of `worker`, on that worker's thread. If it was the
 * worker's last, nothing more is posted for its member, and `*posted` says how
 * many messages ever were; messages that are still in the mailbox name the
 * member. Returns whether it was the last. */
bool registry_leave(struct registry *r, struct topic *t, unsigned worker,
		    uint64_t *posted);

/* One step of a subscriber that is behind. Its next message is claimed: no
 * limit of the history drops it. Claimed messages that the limits would have
 * dropped are held: they do not count as history, and have a bound of their
 * own, replay_bytes. Beyond that bound, or while memory is SCARCE, claims are
 * broken. */
struct registry_reading {
	uint64_t epoch; /* In: that of `since` */
	uint64_t since; /* In, and out: the last message that it has got */
	/* Out: the topic has begun anew, in another epoch, and nothing else is
	 * set. The subscriber waits for the reset in its mail, and claims
	 * nothing. */
	bool is_void;
	/* Out: the next message, with a reference for the caller. NULL: the
	 * messages above the old `since`, up to the new one, are lost. */
	struct message *message;
	/* Out: it is not behind any more. Messages above `since` will be
	 * posted; earlier ones may still be in the worker's mailbox. */
	bool is_live;
};
void registry_read(struct registry *r, struct topic *t,
		   struct registry_reading *reading);

/* A subscriber that is behind, and has got the messages up to `since` of
 * `epoch`, will not read any more. Call it before registry_leave(). */
void registry_give_up(struct registry *r, struct topic *t, uint64_t epoch,
		      uint64_t since);

/* The result of a publication. */
struct registry_receipt {
	uint64_t sequence;    /* its number */
	uint64_t subscribers; /* how many there were */
};

/* Publishes `m`: gives it the topic's next number, keeps it if there is
 * history, and posts it to every worker that has a subscriber. Takes the
 * caller's reference, also on failure. `m->accepted_ns` is the time now.
 * Without history and subscribers it only gets a number. A message larger than
 * history_bytes is not kept, and the history before it is dropped. Returns 0;
 * or UV_ENOBUFS if a mailbox is full, UV_ENOMEM if the topic can't be made:
 * then nobody gets it, and `*receipt` is zeroed. */
int registry_publish(struct registry *r, const struct topic_key *key,
		     struct message *m, struct registry_receipt *receipt);

/* One of several publications. */
struct registry_item {
	struct topic_key key;
	struct message *message;         /* its `accepted_ns` is the time now */
	struct registry_receipt receipt; /* out */
	uint64_t hash;                   /* batch.c alone */
	struct topic *topic;             /* the same */
};

/* Publishes all of `items`, one after another, or none. Room in the mailboxes
 * is reserved for all of them first. The mailbox of a worker that gets its
 * first subscriber meanwhile may be more than full. The history makes room
 * first; if they take more than history_bytes, it keeps the last ones. Takes
 * the caller's reference to each message, also on failure. Joining and leaving
 * these topics waits meanwhile. Returns 0; or UV_ENOBUFS if a mailbox is full,
 * UV_ENOMEM if a topic can't be made: then nobody gets anything. */
int registry_publish_all(struct registry *r, struct registry_item *items,
			 size_t count);

/* --- a log's numbers (options: is_log); one thread calls these -------------
 */

/* Publishes `m` with the number that the log has given it, `m->sequence`, which
 * is above all earlier ones: keeps it, and posts it to every worker that has a
 * subscriber, even if a mailbox is full. Takes the caller's reference.
 * `m->accepted_ns` is set. If there is no memory for the topic, which then has
 * no subscriber, the message counts as dropped. */
void registry_apply(struct registry *r, const struct topic_key *key,
		    struct message *m);

/* All numbers up to this one are applied, or were of no topic. */
void registry_reach(struct registry *r, uint64_t number);
uint64_t registry_applied(const struct registry *r); /* threads: any */

/* Begins a new epoch: drops the history of all topics; numbers go on in
 * `epoch`, above `base`. Subscribers are posted a message that is_reset, after
 * all messages of before, and before all of the new epoch. A last one, without
 * a member, is for each worker. Ends the process if there is no memory for
 * these. */
void registry_renew(struct registry *r, uint64_t epoch, uint64_t base);

/* --- history ------------------------------------------------------------ */

/* Drops the history of topics that were silent for history_ttl_ms and a second,
 * except retained messages; forgets such topics if they retain nothing and have
 * no subscriber. Call it every second or so. `now_ns`: uv_hrtime(). Publishing
 * drops old messages of topics that are not silent; until then they are not
 * shown to anybody. It stops after some thousand topics or messages (a few
 * milliseconds), and returns whether there is more: then call it again soon. */
bool registry_age(struct registry *r, uint64_t now_ns);

/* Drops history, as above history_bytes, until it has at most `bytes`: memory
 * is short. A message that is still being sent stays allocated. Stops and
 * returns as registry_age() does. */
bool registry_shrink_history(struct registry *r, size_t bytes);

/* Breaks claims, first those of the topic that has held messages for longest,
 * until at most `bytes` are held: memory is SCARCE. Stops and returns as
 * registry_age() does. */
bool registry_shrink_replay(struct registry *r, size_t bytes);

/* The bytes of the history, without messages that are held; and of those. They
 * take no lock. Further forms are in neither, and have a bound of their own
 * (message_bound_forms), an eighth of history_bytes. */
size_t registry_history_bytes(const struct registry *r);
size_t registry_replay_bytes(const struct registry *r);

/* --- looking ------------------------------------------------------------ */

/* A topic as it is at one moment; borrowed for the call. */
struct registry_topic {
	struct topic_key key;
	uint64_t sequence;    /* of its last message, or the one before its
				 first */
	uint64_t subscribers; /* on all workers */
	uint64_t used_ns;     /* by uv_hrtime(), to the second: when it last had
				 a message, or lost its last subscriber */
	struct message *const *messages; /* the history, oldest first, numbered
					    without a gap up to `sequence` */
	unsigned messages_count;
};

/* Called under the locks of shard and topic: must not call the registry, and
 * should be short. Not 0: stop. */
typedef int (*registry_visit_cb)(void *user, const struct registry_topic *t);

/* The number of topics there are. */
size_t registry_topics(struct registry *r);

/* Calls `visit` for one topic. Returns what it returned, or UV_ENOENT. */
int registry_find(struct registry *r, const struct topic_key *key,
		  registry_visit_cb visit, void *user);

/* Calls `visit` for up to `limit` (1 to 1000) topics after `*at` (0: from the
 * start), in an order that does not change while topics come and go; only for
 * those of one publisher if `publisher` is not absent. `*at` receives where to
 * go on, or 0 at the end. There may be fewer than `limit` before the end, even
 * none, since it looks at some ten thousand topics at most. A topic that exists
 * all the while is visited exactly once. Returns 0; or what `visit` returned,
 * with `*at` unchanged. */
int registry_page(struct registry *r, struct span publisher, unsigned limit,
		  uint64_t *at, registry_visit_cb visit, void *user);

/* --- saving and restoring (history_file.h), while no other thread runs ---- */

/* No number of this epoch is above it. */
uint64_t registry_last_sequence(struct registry *r);

/* Calls `visit` for all topics, those silent for longest first; those that have
 * a subscriber and no history come last. Returns 0, or what `visit`
 * returned. */
int registry_visit_all(struct registry *r, registry_visit_cb visit, void *user);

/* Numbers go on in `epoch`, above `last_sequence`. Before any topic is made. */
void registry_set_epoch(struct registry *r, uint64_t epoch,
			uint64_t last_sequence);

/* Makes a topic with its history and without subscribers, whatever `saved`
 * says; takes a reference to each message, also on failure. Messages that are
 * too old, too many or too large for the options are dropped, the oldest first,
 * and so is a topic that is too old and retains nothing. Returns 0; UV_EEXIST;
 * UV_EINVAL if the messages' numbers are not as in struct registry_topic;
 * UV_ENOMEM. A time before the machine's start is below 0, modulo 2^64. */
int registry_restore(struct registry *r, const struct registry_topic *saved);

#endif
