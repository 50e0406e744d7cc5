/* registry.h - which workers have subscribers of a topic, and what the topic
 * had lately.
 *
 * It names workers and one opaque member on each, never connections, which
 * only their own loop threads touch: a publication is posted once to each such
 * worker, and that worker finds the connections (subscribers.h).
 *
 * Topics are hashed over shards; a shard is a rwlock and a hash table. A topic
 * keeps its last messages, as many as the options say, for as long as they say,
 * and in all as many bytes as they say: beyond that the topics that were silent
 * for longest, to the second, lose theirs first, and each its oldest. A topic
 * without a subscriber goes away once it has been without one, and silent, for
 * the time that messages are kept; sooner if those bytes are needed; at once
 * where no history is kept. One that retains its newest message beyond that
 * time (options) stays, and is one of those silent for longest. What it takes
 * by itself while it has no subscriber counts as history too; those that never
 * had a message get a sixteenth of the bytes at most, and go first.
 *
 * What a subscriber that comes back has missed is read from the history message
 * by message, and not dropped meanwhile: see struct registry_reading.
 *
 * Its numbers never come back in an epoch: a topic made again goes on above the
 * numbers it, or any other of its shard that is gone, had.
 *
 * Threads: any. Lock order: shard (rwlock) -> topic -> mailbox or history, the
 * last two never together, and never another. Posting happens under the topic's
 * lock, so that every worker gets the publications of a topic in one and the
 * same order. */
#ifndef ISIMUD_TOPICS_REGISTRY_H
#define ISIMUD_TOPICS_REGISTRY_H

#include "base/span.h"
#include "topics/mailbox.h"
#include "topics/message.h"

#include <stdbool.h>
#include <stdint.h>

struct registry; /* opaque: this room alone sees inside */
struct topic;    /* the same */

/* What a topic is known by. Compared byte by byte; as two spans, so that
 * ("a", "bc") is not ("ab", "c"). Borrowed. */
struct topic_key {
	struct span publisher;
	struct span name;
};

struct registry_options {
	struct mailbox *const *mailboxes; /* [w] of worker w; they outlive it */
	unsigned workers;
	/* Where any of them is 0, no history is kept. */
	uint32_t history_size;   /* messages a topic */
	uint64_t history_ttl_ms; /* how long each */
	size_t history_bytes;    /* in all */
	/* A topic's newest message, if it is kept, never gets too old. */
	bool retains;
	/* Beside those: of messages that are kept only for subscribers that are
	 * behind, of all topics. Of what others leave, a topic gets half. */
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

/* Which life of the numbers this is (cursor.h). Changes by registry_renew()
 * alone. */
uint64_t registry_epoch(const struct registry *r);

/* Of a topic that has a subscriber: lives as long as that. */
struct topic_key registry_key_of(const struct topic *t);

/* Adding a subscriber: what is asked, and what came of it. */
struct registry_join {
	/* In: a member for the topic to know this worker by, or NULL. It is
	 * taken only if the topic does not have one of that worker yet. Out:
	 * the one in force. */
	void *member;
	/* In: whether it wants what was published above number `after` of
	 * epoch `epoch`. */
	bool resumes;
	uint64_t epoch;
	uint64_t after;
	/* In: of what the history has, it wants so many messages at most, the
	 * newest, where it does not resume, or can't; 0: none where it does not
	 * resume, all where it can't. */
	uint32_t last;

	/* Out: valid until registry_leave(). */
	struct topic *topic;
	/* Out: the one that its numbers are of. */
	uint64_t topic_epoch;
	/* Out: nothing up to this number will come any more. */
	uint64_t since;
	/* Out: what will come is all that was ever published above `after`.
	 * Else some of it is gone, or the epoch was another. False unless it
	 * resumes. */
	bool is_exact;
	/* Out: the history has messages above `since`. It is to be read with
	 * registry_read(), which says when the subscriber is not behind any
	 * more; or given up with registry_give_up(). Until then, of what is
	 * posted to the worker nothing is meant for it. */
	bool is_behind;
};

/* Adds one subscriber on `worker`, called on that worker's thread. Returns 0;
 * UV_ENOENT, with nothing changed, if a member is needed and none was given;
 * UV_ENOMEM. */
int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, struct registry_join *join);

/* Takes one subscriber of `worker` away, called on that worker's thread. If it
 * was the worker's last, nothing more is posted for its member, and `*posted`
 * receives how many messages ever were; those not yet taken from the mailbox
 * still name the member. Returns whether it was the last. */
bool registry_leave(struct registry *r, struct topic *t, unsigned worker,
		    uint64_t *posted);

/* A step of a subscriber that is behind. While it is, the next message that it
 * has to get is claimed for it: no limit of the history drops it. Claimed
 * messages that would have been dropped otherwise are no part of the history
 * any more, and have a bound of their own, replay_bytes. Where that is reached,
 * or memory is scarce, claims are broken. */
struct registry_reading {
	uint64_t epoch; /* In: that of `since` */
	uint64_t since; /* In: what it has got so far. Out: the same */
	/* Out: the topic has begun anew, in another epoch, and nothing else is
	 * set: it waits for the message that says so, and claims nothing. */
	bool is_void;
	/* Out: the next message, a reference to which is now the caller's.
	 * NULL: those above the old `since` and up to the new one are lost. */
	struct message *message;
	/* Out: it is not behind any more. What is above `since` will be posted;
	 * what is not may still be in the worker's mailbox. */
	bool is_live;
};
void registry_read(struct registry *r, struct topic *t,
		   struct registry_reading *reading);

/* The subscriber, which is behind and has got what is up to `since` of `epoch`,
 * will not read any more: before registry_leave(). */
void registry_give_up(struct registry *r, struct topic *t, uint64_t epoch,
		      uint64_t since);

/* What became of a publication. */
struct registry_receipt {
	uint64_t sequence;    /* its number */
	uint64_t subscribers; /* how many there were */
};

/* Gives `m` its place in the topic, keeps it if there is history, and posts it
 * to every worker that has a subscriber. Takes the caller's reference, in any
 * case. `m->accepted_ns` is the time now. Where no history is kept and nobody
 * has subscribed, it only gets a number. A message larger than history_bytes is
 * not kept, nor are those before it any longer. Returns 0; or UV_ENOBUFS if a
 * mailbox is full, UV_ENOMEM if the topic can't be made, and then nobody gets
 * it, and `*receipt` is zeroed. */
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
 * is reserved for all of them first; of a worker that gets its first subscriber
 * meanwhile, the mailbox may be more than full. History makes room first; of
 * more than history_bytes it keeps the last ones. Takes the caller's reference
 * to each message, in any case. Joining and leaving topics of theirs waits as
 * long as this takes. Returns 0; or UV_ENOBUFS if a mailbox is full,
 * UV_ENOMEM if a topic can't be made, and then nobody gets anything. */
int registry_publish_all(struct registry *r, struct registry_item *items,
			 size_t count);

/* --- a log's numbers (options: is_log); one thread calls these -------------
 */

/* Gives `m` the place that the log has given it, `m->sequence`, above all
 * before; keeps it, and posts it to every worker that has a subscriber, room or
 * not. Takes the caller's reference. `m->accepted_ns` is set. Without memory
 * for the topic, which then has no subscriber, it counts as dropped. */
void registry_apply(struct registry *r, const struct topic_key *key,
		    struct message *m);

/* All numbers up to this one are applied, or were of no topic. */
void registry_reach(struct registry *r, uint64_t number);
uint64_t registry_applied(const struct registry *r); /* threads: any */

/* What the topics have and had is void: numbers go on in `epoch`, above `base`,
 * and whoever has subscribed is posted a message that is_reset, in line: behind
 * all of before, and before all of the new epoch. A last one follows, for each
 * worker, without a member. Ends the process if there is no memory for these.
 */
void registry_renew(struct registry *r, uint64_t epoch, uint64_t base);

/* --- history ------------------------------------------------------------ */

/* Drops the history of topics that were silent for history_ttl_ms and a second,
 * but for what they retain, and those of them that retain nothing and that
 * nobody has subscribed; to be called every second or so. `now_ns`:
 * uv_hrtime(). A topic that is not silent drops what is too old as it is
 * published to; what is still there by then is not told to anybody. Stops after
 * some thousand topics or messages, a few milliseconds, and returns whether
 * there is more: then it is to be called again soon, when whatever else waits
 * has had its turn. */
bool registry_age(struct registry *r, uint64_t now_ns);

/* Drops history, as where it has more than history_bytes, until it has at most
 * `bytes`: memory is scarce. Whoever still sends a message keeps it. Stops and
 * returns as registry_age() does. */
bool registry_shrink_history(struct registry *r, size_t bytes);

/* Breaks claims, those of the topic that has had some for longest first, until
 * at most `bytes` are kept only for subscribers that are behind: memory is
 * scarce. Stops and returns as registry_age() does. */
bool registry_shrink_replay(struct registry *r, size_t bytes);

/* What history takes now, without what is kept only for those that are behind;
 * and that. Take no lock. Further forms are in neither: they have a bound of
 * their own (message_bound_forms), an eighth of history_bytes. */
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

/* Tells of one topic. Returns 0, or UV_ENOENT. */
int registry_find(struct registry *r, const struct topic_key *key,
		  registry_visit_cb visit, void *user);

/* Tells of up to `limit` (1 to 1000) topics behind `*at` (0: from the start),
 * in an order that does not change while topics come and go; of one publisher
 * if `publisher` is not absent. `*at` receives where to go on, or 0 at the end:
 * there may be fewer than `limit` before it, even none, since it does not look
 * at more than some ten thousand topics. A topic that is there all the while is
 * told exactly once. Returns 0, or what `visit` returned, `*at` then being as
 * it was. */
int registry_page(struct registry *r, struct span publisher, unsigned limit,
		  uint64_t *at, registry_visit_cb visit, void *user);

/* --- saving and restoring (history_file.h), while no other thread runs ---- */

/* No number of this epoch is above it. */
uint64_t registry_last_sequence(struct registry *r);

/* Tells of all topics, those that were silent for longest first; those that
 * have a subscriber and no history come last. Returns 0, or what `visit`
 * returned. */
int registry_visit_all(struct registry *r, registry_visit_cb visit, void *user);

/* Goes on in `epoch`, above `last_sequence`. Before any topic is made. */
void registry_set_epoch(struct registry *r, uint64_t epoch,
			uint64_t last_sequence);

/* Makes a topic with a history, without subscribers whatever `saved` says;
 * takes a reference to each message, in any case. Messages that are too old,
 * too many or too large for the options are dropped, the oldest first; so are
 * topics that were not used for as long, and retain nothing. Returns 0;
 * UV_EEXIST; UV_EINVAL if the messages' numbers are not as in struct
 * registry_topic; UV_ENOMEM. A time before the machine's start is below 0,
 * modulo 2^64. */
int registry_restore(struct registry *r, const struct registry_topic *saved);

#endif
