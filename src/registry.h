/* registry.h - which workers have subscribers of a topic.
 *
 * It names workers and one opaque member on each, never connections, which
 * only their own loop threads touch: a publication is posted once to each such
 * worker, and that worker finds the connections (subscribers.h).
 *
 * Topics are hashed over shards; a shard is a rwlock and a hash table. A topic
 * exists as long as it has a subscriber. Its numbers never come back: a topic
 * made again goes on above the numbers it, or any other of its shard, had.
 *
 * Threads: any. Lock order: shard (rwlock) -> topic -> mailbox, never another.
 * Posting happens under the topic's lock, so that every worker gets the
 * publications of a topic in one and the same order. */
#ifndef ISIMUD_REGISTRY_H
#define ISIMUD_REGISTRY_H

#include "mailbox.h"
#include "message.h"
#include "span.h"

#include <stdint.h>

struct registry; /* opaque: registry.c alone sees inside */
struct topic;    /* the same */

/* What a topic is known by. Compared byte by byte; as two spans, so that
 * ("a", "bc") is not ("ab", "c"). Borrowed. */
struct topic_key {
	struct span publisher;
	struct span name;
};

/* `mailboxes[w]` is the mailbox of worker w < workers; they outlive the
 * registry. Returns 0 and `*out`; UV_ENOMEM, or the error of the kernel's
 * random source. */
int registry_new(struct registry **out, struct mailbox *const *mailboxes,
		 unsigned workers);

/* No topic may be left. NULL is fine. */
void registry_free(struct registry *r);

/* Adds one subscriber on `worker`, called on that worker's thread.
 *
 * `*member` is NULL or a member for the topic to know this worker by; it is
 * taken only if the topic does not have one of that worker yet. On return it is
 * the one in force. `*since` is the number of the last message before: the
 * subscriber gets those above it, all of which will be posted to the worker.
 * Returns 0 and `*out`, valid until registry_leave(); UV_ENOENT, with nothing
 * changed, if a member is needed and `*member` is NULL; UV_ENOMEM. */
int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, void **member, uint64_t *since,
		  struct topic **out);

/* Takes one subscriber of `worker` away, called on that worker's thread. If it
 * was the worker's last, nothing more is posted for its member, and `*posted`
 * receives how many messages ever were; those not yet taken from the mailbox
 * still name the member. Returns whether it was the last. */
bool registry_leave(struct registry *r, struct topic *t, unsigned worker,
		    uint64_t *posted);

/* What became of a publication. */
struct registry_receipt {
	uint64_t sequence;    /* 0: there was no subscriber anywhere */
	uint64_t subscribers; /* how many there were */
};

/* Gives `m` its place in the topic and posts it to every worker that has a
 * subscriber of it. Takes the caller's reference, in any case. Returns 0; or
 * UV_ENOBUFS if a mailbox is full, and then nobody gets it. */
int registry_publish(struct registry *r, const struct topic_key *key,
		     struct message *m, struct registry_receipt *receipt);

/* The number of topics there are. */
size_t registry_topics(struct registry *r);

#endif
