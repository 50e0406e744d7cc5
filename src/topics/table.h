/* table.h - inside the registry: shards, topics, and what they keep. For these
 * files, from the bottom up; each uses only those above it here:
 *
 * ring.c      the array of a topic's messages
 * registry.c  the table
 * history.c   what topics keep
 * evict.c     which of them lose it first
 * replay.c    history for those that have missed some
 * join.c      who subscribes
 * publish.c   who is told
 * batch.c     several publications at once
 * sequenced.c publications that a log has numbered
 * look.c      who asks
 * restore.c   the topics of another process
 */
#ifndef ISIMUD_TOPICS_TABLE_H
#define ISIMUD_TOPICS_TABLE_H

#include "base/list.h"
#include "base/lock.h"
#include "base/siphash.h"
#include "topics/registry.h"

#include <stdatomic.h>

/* ThreadSanitizer's deadlock detector ends the process where a thread has more
 * than 64 locks, as batch.c may with all shards of 6 bits and a topic. */
#ifdef __SANITIZE_THREAD__
#define REGISTRY_SHARD_BITS 5
#else
#define REGISTRY_SHARD_BITS 6
#endif
#define REGISTRY_SHARDS (1 << REGISTRY_SHARD_BITS)

/* A worker in a topic. Guarded by the topic's lock. */
struct registry_slot {
	void *member; /* NULL: that worker has no subscriber */
	uint64_t subscribers;
	uint64_t posted; /* messages posted for `member` */
};

/* A topic's last messages, in the order of their numbers. The first `held` of
 * them are kept only for subscribers that are behind; the others are the
 * history. A subscriber claims the message that it has to get next: the
 * message's `claims` counts that. */
struct registry_ring {
	struct message **messages; /* a reference to each */
	uint32_t cap;
	uint32_t head; /* where the oldest is */
	uint32_t count;
	uint32_t held;     /* of those */
	uint32_t claims;   /* on any of them */
	size_t bytes;      /* of the array, and of messages not held */
	size_t held_bytes; /* of messages */
};

struct topic {
	struct topic *next; /* Guarded by the shard's lock */
	uint64_t hash;      /* Immutable, as are the key and its lengths */
	struct span publisher;
	struct span name;
	struct lock lock;
	/* Guarded by `lock`, or by the shard's lock held for writing. */
	uint64_t epoch; /* of its numbers */
	uint64_t sequence;
	uint64_t dropped;     /* the number of the last message that `ring` has
			       * dropped */
	uint64_t subscribers; /* on all workers */
	struct registry_ring ring;
	/* Guarded by registry.by_use_lock, too. */
	uint64_t used_ns;
	bool is_listed;
	bool was_used; /* it has had a message */
	/* It has had no message, and has no subscriber: it is in
	 * registry.unused, by `by_use`. The same. */
	bool is_unused;
	struct list by_use;           /* Guarded by registry.by_use_lock */
	struct list holding;          /* the same */
	struct registry_slot slots[]; /* a worker each; then the key's bytes */
};

struct registry_shard {
	_Alignas(64) struct rwlock lock;
	/* No number above it was given, except by topics that exist. Atomic:
	 * publications without a topic count it up under the read lock. */
	_Atomic uint64_t sequence_base;
	/* Guarded by `lock`. The highest bits of its hash are a topic's bucket,
	 * so that buckets are in the order of hashes. */
	struct topic **buckets; /* NULL while there never was a topic */
	unsigned bucket_bits;
	size_t topics;
};

struct registry {
	/* Immutable once threads run. */
	struct siphash_key key;
	struct registry_options options;
	_Atomic uint64_t epoch; /* changes only by registry_renew() */
	/* Atomic: the number up to which the log is applied. */
	_Atomic uint64_t applied;
	uint64_t ttl_ns;
	bool has_history;
	struct registry_shard shards[REGISTRY_SHARDS];
	/* Bytes that are kept: rings, and topics without subscribers. They lie
	 * apart from what every publication reads, and from what changes
	 * seldom. */
	_Alignas(64) _Atomic size_t history_bytes;
	_Atomic size_t unused_bytes; /* of those, what `unused` takes */
	_Atomic size_t replay_bytes; /* of messages that are held */
	/* Topics that have messages or no subscriber, those not used for
	 * longest first. Guarded by `by_use_lock`. */
	_Alignas(64) struct list by_use;
	/* A border in `by_use`, no topic: topics before it are too old, and
	 * stay for the message that they retain. The same. */
	struct list border;
	/* Topics without a subscriber that never had a message, the oldest
	 * first: a client that may subscribe can make any number of them. The
	 * same. */
	struct list unused;
	/* Topics that hold messages, those that began first at the front. The
	 * same. */
	struct list holding;
	struct lock by_use_lock; /* taken after all others, and alone */
};

/* How much later `now` is than `then`; 0 if it is not. Times may have wrapped
 * around: restored messages can be older than the machine's start. */
static inline uint64_t registry_age_of(uint64_t now_ns, uint64_t then_ns)
{
	int64_t age = (int64_t)(now_ns - then_ns);
	return age < 0 ? 0 : (uint64_t)age;
}

/* Message number `i` of the ring, from 0, the oldest, to count - 1. */
static inline struct message *registry_ring_at(const struct registry_ring *ring,
					       uint32_t i)
{
	uint32_t behind = ring->cap - ring->head;
	return ring->messages[i < behind ? ring->head + i : i - behind];
}

/* --- ring.c --------------------------------------------------------------- */

/* How many messages are the history's. */
static inline uint32_t registry_ring_kept(const struct registry_ring *ring)
{
	return ring->count - ring->held;
}

/* Moves the messages to an array of `cap`, which is enough. Without memory the
 * old one stays. */
void registry_ring_resize(struct registry_ring *ring, uint32_t cap);

/* Makes the array larger, if `size_max` allows and there is memory. */
void registry_ring_grow(struct registry_ring *ring, uint32_t size_max);

/* Shrinks an array that grew for messages that were held to `max`. */
void registry_ring_trim(struct registry_ring *ring, uint32_t max);

/* The ring has room. Takes a reference of the caller's. */
void registry_ring_append(struct registry_ring *ring, struct message *m);

/* The messages are not kept any more (message_drop). */
void registry_ring_drop(struct registry_ring *ring);

/* Releases the references, and frees the array. */
void registry_ring_fini(struct registry_ring *ring);

/* --- registry.c ----------------------------------------------------------- */

static inline struct registry_shard *registry_shard_of(struct registry *r,
						       uint64_t hash)
{
	return &r->shards[hash & (REGISTRY_SHARDS - 1)];
}

uint64_t registry_hash(const struct registry *r, const struct topic_key *key);

/* The shard is locked, either way. */
struct topic *registry_find_locked(const struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key);

/* Makes a topic that nobody else has made; NULL without memory. The shard is
 * locked for writing. The topic has no subscriber, and is not listed yet. */
struct topic *registry_insert_locked(struct registry *r,
				     struct registry_shard *s, uint64_t hash,
				     const struct topic_key *key);

/* Frees a topic without subscribers, history or place in the list. The shard is
 * locked for writing. Returns how many others had to be moved. */
size_t registry_remove_locked(const struct registry *r,
			      struct registry_shard *s, struct topic *t);

/* What a topic takes by itself. */
size_t registry_topic_size(const struct registry *r,
			   const struct topic_key *key);

/* Aborts, in a debug build, unless the locks of the topic and its shard are
 * held, or the shard's for writing. */
static inline void registry_check_locked(const struct registry *r,
					 const struct topic *t)
{
#ifdef ISIMUD_DEBUG
	const struct registry_shard *s =
		&r->shards[t->hash & (REGISTRY_SHARDS - 1)];

	CHECK(lock_is_held(&s->lock, true) ||
	      (lock_is_held(&s->lock, false) && lock_is_held(&t->lock, true)));
#else
	(void)r;
	(void)t;
#endif
}

/* --- history.c ------------------------------------------------------------ */

/* `used_ns` is exact to this. */
#define REGISTRY_TOUCH_NS UINT64_C(1000000000)

#define REGISTRY_DROPS_MAX 64
/* Of these, reserved for messages that have to be dropped now. */
#define REGISTRY_DROPS_RESERVE 8

/* Messages that were dropped under locks, to be freed without them: free()
 * there would cost everybody. */
struct registry_drops {
	struct message *messages[REGISTRY_DROPS_MAX];
	unsigned count;
	struct registry_ring ring;
};

static inline void registry_drops_init(struct registry_drops *drops)
{
	drops->count = 0;
	drops->ring.messages = NULL;
}

/* Whether a message may be dropped that need not be dropped now. */
static inline bool registry_drops_has_room(const struct registry_drops *drops)
{
	return drops->count < REGISTRY_DROPS_MAX - REGISTRY_DROPS_RESERVE;
}

void registry_drops_free(struct registry_drops *drops);

/* Counts `bytes` that the history has more, or, below 0, less. */
static inline void registry_count_bytes(struct registry *r, ptrdiff_t bytes)
{
	if (bytes != 0)
		atomic_fetch_add_explicit(&r->history_bytes, (size_t)bytes,
					  memory_order_relaxed);
}

/* For all functions below, the locks of the topic and its shard are held, or
 * the shard's for writing. */

/* Keeps `m`, the topic's newest message, and then takes a reference of the
 * caller's. Returns whether it is kept: not if it is too large, or without
 * memory. registry_bound() must follow once no lock is held. */
bool registry_keep_locked(struct registry *r, struct topic *t,
			  struct message *m, struct registry_drops *drops);

/* The topic's newest message is not kept, nor those before it any longer. */
void registry_pass_locked(struct registry *r, struct topic *t,
			  const struct message *m,
			  struct registry_drops *drops);

/* Drops the oldest message, claimed or not. Returns how many bytes less the
 * history has, for registry_count_bytes(). */
size_t registry_drop_oldest_locked(struct registry *r, struct topic *t,
				   struct registry_drops *drops);

/* Takes the oldest message out of the history. It is held if it, or one before
 * it, is claimed; else dropped. If too much is held, the oldest held messages
 * are dropped. Returns how many bytes less the history has, for
 * registry_count_bytes(). */
size_t registry_shed_oldest_locked(struct registry *r, struct topic *t,
				   struct registry_drops *drops);

/* Drops held messages that nobody has to read any more, as far as `drops` has
 * room. Returns whether these were all. */
bool registry_release_held_locked(struct registry *r, struct topic *t,
				  struct registry_drops *drops);

/* Drops all that the topic keeps, claimed or not. */
void registry_drop_history_locked(struct registry *r, struct topic *t,
				  struct registry_drops *drops);

/* The index of the first message that may be shown: those before it are only
 * held, or too old and not retained. `count` if there is none. */
uint32_t registry_first(const struct registry *r,
			const struct registry_ring *ring, uint64_t now_ns);

/* A topic has its first message. */
void registry_use_locked(struct registry *r, struct topic *t);

/* A topic has got its first subscriber; or has lost its last, or was made
 * without. */
void registry_uncount_topic_locked(struct registry *r, struct topic *t);
void registry_count_topic_locked(struct registry *r, struct topic *t,
				 uint64_t now_ns);

/* Moves a listed topic before the border, as the last there. */
void registry_cross_locked(struct registry *r, struct topic *t);

/* Takes a topic off the list by use. */
void registry_unlist_locked(struct registry *r, struct topic *t);

/* An unused topic is neither listed nor counted any more. */
void registry_forget_unused_locked(struct registry *r, struct topic *t);

/* Nothing is retained any more: all listed topics may get too old. No list's
 * lock is held. */
void registry_reset_border(struct registry *r);

/* --- evict.c -------------------------------------------------------------- */

/* Drops what history has beyond history_bytes. No lock is held. */
void registry_bound(struct registry *r);

/* Makes room for `bytes`, at most history_bytes, that are to be kept: makes
 * the history lose as much, and counts them as history before they are. Whoever
 * keeps them uncounts them first (struct registry_posting). No lock is held. */
void registry_reserve(struct registry *r, size_t bytes);

/* --- replay.c ------------------------------------------------------------- */

/* Fills in the members of `join` that the history decides. Both locks are
 * held. */
void registry_resume_locked(const struct registry *r, struct topic *t,
			    struct registry_join *join);

/* --- publish.c ------------------------------------------------------------ */

/* A publication under way. */
struct registry_posting {
	struct message *message; /* NULL once the reference is used up */
	struct registry_receipt *receipt;
	struct registry_drops drops;
	bool has_room; /* it was reserved in the mailboxes */
	/* Counted as history already, for what the message takes: see
	 * registry_reserve(). */
	size_t reserved;
	/* It is not kept, nor is what was before: more than history_bytes
	 * comes right behind it. */
	bool is_passing;
};

/* Publishes to a topic whose shard is locked either way. Returns 0, or
 * UV_ENOBUFS if a mailbox is full. */
int registry_post(struct registry *r, struct topic *t,
		  struct registry_posting *p);

/* Makes room for a message to be kept, if that lacks; returns what it has
 * reserved, for `reserved` of a posting. No lock is held. */
size_t registry_reserve_one(struct registry *r, const struct message *m);

/* Posts `m` to each of the `workers` of `t`, with a reference. Both locks are
 * held. */
void registry_post_all_locked(struct registry *r, struct topic *t,
			      struct message *m, unsigned workers);

/* Keeps and posts a message that has its number. Both locks are held; the topic
 * has `workers` workers. */
void registry_place_locked(struct registry *r, struct topic *t,
			   struct registry_posting *p, unsigned workers);

/* The topic, made and listed if there is none; NULL without memory. The shard
 * is locked for writing. */
struct topic *registry_make_locked(struct registry *r, struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key,
				   uint64_t now_ns);

/* The number of a message that no topic has, for want of history. */
uint64_t registry_number_without(struct registry_shard *s);

#endif
