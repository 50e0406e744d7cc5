/* memory.h - one budget for all that clients can make grow.
 *
 * Whoever allocates something whose size or number a client decides (messages,
 * chunks, queues, connections, request content) charges it here, and credits it
 * when it is freed. So does who makes the kernel hold something for a client,
 * since a control group counts that too. Now and then the sum is compared with
 * the memory that is the process's own: the rest, mostly what the allocator has
 * but does not use, counts as well, and is given back if it is much. All that
 * is held against MEMORY_LIMIT in steps:
 *
 *   TIGHT    history is given up; those that do not read for seconds are ended
 *   SCARCE   the worst laggards are ended until it is not TIGHT
 *   FULL     no client gets more memory
 *
 * From which level on what is refused, MEMORY_USES says; what is done then,
 * server/relief.h.
 *
 * The limit is meant to be some 80 % of what the kernel would end the process
 * for: what is between two comparisons comes out of the rest.
 * Threads: any. Atomic. */
#ifndef ISIMUD_BASE_MEMORY_H
#define ISIMUD_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

enum memory_level {
	MEMORY_FINE,
	MEMORY_TIGHT,
	MEMORY_SCARCE,
	MEMORY_FULL,
};

/* Sets the budget in bytes, 0 for none, of which `base` are used already. Once,
 * before any other thread runs. */
void memory_set_limit(size_t limit, size_t base);

/* The limit at which `base` bytes alone are TIGHT. */
size_t memory_least_limit(size_t base);

/* The bytes in this process's resident set; 0 if unknown. */
size_t memory_resident(void);

/* Those of them that are its own: anonymous pages, and pages of files that it
 * has changed. The others, of the program and its libraries, the kernel drops
 * and reads again as it needs: they are no reason to end the process, and other
 * processes use them too. 0 if unknown. */
size_t memory_own(void);

/* A thread adds up what it charges and credits, and tells the rest only when it
 * comes to MEMORY_SLACK_BYTES: so much is the sum off, a thread. */
#define MEMORY_SLACK_BYTES 16384

void memory_charge(size_t bytes);
void memory_credit(size_t bytes);

/* The same for what the kernel holds, which is not in the resident set. */
void memory_charge_kernel(size_t bytes);
void memory_credit_kernel(size_t bytes);

/* Tells what the calling thread has not told yet. */
void memory_settle(void);

/* The same, and compares the sum with memory_own(). To be called now and
 * then; a thread that charges MEMORY_STEP_BYTES does it by itself. Returns
 * false if the allocator has much free that it could not be asked to give back
 * yet: some of what is used may not be needed. */
#define MEMORY_STEP_BYTES 1048576

bool memory_measure(void);

/* Makes the allocator give back what it has free, if less is charged than was
 * at most since it last did, by a mebibyte or, while that sum rises and falls,
 * by a quarter: what clients needed once does not stay occupied, with a limit
 * or without. To be called every second or so, by one thread. */
void memory_give_back(void);

/* The base, what is charged, and what is occupied beyond that. */
size_t memory_used(void);
size_t memory_limit(void); /* 0: none */

enum memory_level memory_level(void);

/* What memory is used for that a client asks for, and the level from which on
 * no more is: one table. */
#define MEMORY_USES(X)                                                         \
	X(SUBSCRIBING, TIGHT) /* a subscriber, or one more subscription */     \
	X(REPLAY, SCARCE)     /* messages held for those that are behind */    \
	X(REQUESTS, SCARCE)   /* requests and messages, as they come in */     \
	X(TRUSTED_REQUESTS, FULL) /* the same of publishers */                 \
	X(PUBLISHING, FULL)       /* messages */

enum memory_use {
#define MEMORY_USE(use, level) MEMORY_FOR_##use,
	MEMORY_USES(MEMORY_USE)
#undef MEMORY_USE
	MEMORY_USES_COUNT,
};

bool memory_allows(enum memory_use use);

#endif
