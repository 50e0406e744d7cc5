/* counts.h - how many subscribers the topics have on the other nodes.
 *
 * Each node tells once a second what has changed, in numbered messages, and
 * all it has to who asks: because it is new, or a number is missing. What a
 * node told goes when it is silent for COUNTS_SILENT_MS. A topic is named by a
 * hash with the epoch as its key, so all of it is told anew in a new epoch.
 *
 * A message (numbers little-endian):
 *   version 1, kind                    1 + 1
 *   number of topics                   2
 *   node, number of the message        8 + 8
 *   epoch                              8
 *   the topics: hash, subscribers      8 + 4 each
 *
 * Owner: the bus's thread, which counts_adopt() names. counts_others() and
 * counts_nodes(): any thread. */
#ifndef ISIMUD_CLUSTER_COUNTS_H
#define ISIMUD_CLUSTER_COUNTS_H

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define COUNTS_SILENT_MS  5000
#define COUNTS_NODES_MAX  64
#define COUNTS_TOPICS_MAX 4096 /* in a message */
/* Limit of the counts of all other nodes. Topics beyond it, or that come while
 * memory is tight, are not counted. */
#define COUNTS_HEARD_MAX_BYTES 67108864

struct counts; /* opaque */

/* `node`: this one, which is not counted. Returns 0 or UV_ENOMEM. */
int counts_new(struct counts **out, uint64_t node);
void counts_free(struct counts *c); /* NULL is fine; no thread uses it */

/* The calling thread is the owner from now on; before, it is the one that
 * called counts_new(). */
void counts_adopt(struct counts *c);

/* How many subscribers the topic has on other nodes, as far as they told. */
uint64_t counts_others(struct counts *c, struct span publisher,
		       struct span topic);

/* How many other nodes there are. */
unsigned counts_nodes(const struct counts *c);

/* Forgets what was told and heard: topics are named anew. */
void counts_set_epoch(struct counts *c, uint64_t epoch);

/* --- telling -------------------------------------------------------------- */

/* Takes this node's counts: begin, each topic that has subscribers, end. Topics
 * that are not named have none. `send` is called with messages that tell the
 * changes since the last time, at least one: it shows that the node lives. */
typedef void (*counts_send_cb)(void *user, struct span message);
void counts_begin(struct counts *c);
void counts_add(struct counts *c, struct span publisher, struct span topic,
		uint64_t subscribers);
void counts_end(struct counts *c, counts_send_cb send, void *user);

/* --- hearing -------------------------------------------------------------- */

/* Takes a message of another node. Ignores this node's own, and malformed ones.
 * `send` is called to answer, or to ask. */
void counts_hear(struct counts *c, struct span message, uint64_t now_ms,
		 counts_send_cb send, void *user);

/* Whether something was not counted since this was asked last. */
bool counts_take_full(struct counts *c);

/* Forgets nodes that are silent. To be called each second. */
void counts_age(struct counts *c, uint64_t now_ms);

#endif
