/* subscribers.h - the subscribers of one worker, by topic.
 *
 * The registry knows that this worker has subscribers of a topic, and a member
 * to post for; which connections they are is known here alone.
 * Owner: the worker's thread, for everything; hence no locks. */
#ifndef ISIMUD_SUBSCRIBERS_H
#define ISIMUD_SUBSCRIBERS_H

#include "conn.h"
#include "registry.h"
#include "stats.h"

#include <stdint.h>

#define SUBSCRIBERS_SAMPLES 64 /* messages timed, a delivery */

struct local_topic; /* the subscribers of one topic; subscribers.c alone */

/* One subscription of one connection; lies in the connection's memory. Zeroed
 * memory is none. */
struct subscriber {
	struct conn *conn;
	struct local_topic *topic; /* NULL: not subscribed */
	uint64_t since; /* number of the last message it does not get */
	uint32_t index; /* its place in the topic */
};

struct subscribers {
	struct registry *registry;
	unsigned worker;
	struct stats *stats;
	size_t count;
	/* When messages of the last delivery were accepted: some of them. */
	uint64_t accepted_ns[SUBSCRIBERS_SAMPLES];
	unsigned samples;
};

void subscribers_init(struct subscribers *all, struct registry *registry,
		      unsigned worker, struct stats *stats);

/* Subscribes `c` to a topic; from here on it gets every message of it. `s` must
 * not be subscribed. Returns 0, or UV_ENOMEM with nothing changed. */
int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key);

/* Nothing happens if `s` is not subscribed. Never called while messages are
 * delivered: endings wait for the flush (conn_send). */
void subscribers_remove(struct subscribers *all, struct subscriber *s);

/* What was delivered is written now: notes how long it took (stats.h). */
void subscribers_flushed(struct subscribers *all);

/* Hands messages that were taken from the mailbox to the connections, in order,
 * and gives their references up. Messages of one topic are sent as one chunk
 * where they are small, so that a burst costs a connection as much as one
 * message. */
void subscribers_deliver(struct subscribers *all, struct message *first);

#endif
