/* boxes.h - a registry, and the mailboxes of workers that take only when told
 * to: one of each for a program. */
#ifndef ISIMUD_TEST_BOXES_H
#define ISIMUD_TEST_BOXES_H

#include "oom.h"
#include "topics/registry.h"

#define WORKERS 4

/* What many topics, and many turns of a thread, are to a program of its kind: a
 * sanitizer makes each about ten times as slow. */
#ifdef OOM_SANITIZED
#define MANY_TOPICS 100000
#define TURNS       3000
#else
#define MANY_TOPICS 1000000
#define TURNS       20000
#endif

extern uv_loop_t loop;
extern struct mailbox boxes[WORKERS];
extern struct mailbox *box_pointers[WORKERS];
extern struct registry *registry;
extern char members[WORKERS][2]; /* their addresses are members */

int open_boxes(size_t mailbox_max_bytes);

struct registry_options options_of(uint32_t size, uint64_t ttl_ms,
				   size_t bytes);

int new_registry(uint32_t size, uint64_t ttl_ms, size_t bytes);

/* Reads what one that has joined missed, of which nothing may be lost, until it
 * is live: as many as there are, `max` of them into `missed`, with a reference.
 * `j->since` is the last one's number then. */
unsigned read_missed(struct registry_join *j, struct message **missed,
		     unsigned max);

int close_registry(void **state);

/* Bytes in use on the heap; 0 with sanitizers, which have one of their own. */
size_t heap_bytes(void);

unsigned random_below(uint64_t *random, unsigned limit);

#endif
