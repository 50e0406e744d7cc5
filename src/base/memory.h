/* memory.h - one budget for all that clients can make grow.
 *
 * Code that allocates something whose size or number a client decides
 * (messages, chunks, queues, connections, request content) charges it here, and
 * credits it when it is freed. Memory that the kernel holds for a client is
 * charged too, since a control group counts it. Now and then the sum is
 * compared with the memory that the process itself occupies. What it occupies
 * beyond the sum, mostly free memory in the allocator, counts as well; if it is
 * much, the allocator is trimmed. The total is compared with MEMORY_LIMIT in
 * steps:
 *
 *   TIGHT    history is dropped; those that do not read for seconds are ended
 *   SCARCE   those that read too slowly are ended until it is not TIGHT
 *   FULL     no client gets more memory
 *
 * MEMORY_USES says what is refused from which level on; server/relief.h says
 * what is done.
 *
 * The limit should be some 80 % of the memory at which the kernel would kill
 * the process: what is allocated between two comparisons comes out of the rest.
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

/* Sets the budget in bytes (0: none), of which `base` are in use already. Call
 * it once, before any other thread runs. */
void memory_set_limit(size_t limit, size_t base);

/* The limit at which `base` bytes alone are TIGHT. */
size_t memory_least_limit(size_t base);

/* The bytes in this process's resident set; 0 if unknown. */
size_t memory_resident(void);

/* The part of them that only this process uses: anonymous pages, and pages of
 * files that it has changed. The kernel can drop the others (unchanged pages of
 * the program and its libraries) and read them again, so they are no reason to
 * end the process. 0 if unknown. */
size_t memory_own(void);

/* Each thread collects its charges and credits, and adds them to the sum when
 * they reach MEMORY_SLACK_BYTES: the sum may be wrong by that much for each
 * thread. */
#define MEMORY_SLACK_BYTES 16384

void memory_charge(size_t bytes);
void memory_credit(size_t bytes);

/* The same for memory that the kernel holds, which is not in the resident
 * set. */
void memory_charge_kernel(size_t bytes);
void memory_credit_kernel(size_t bytes);

/* Adds what the calling thread has collected to the sum. */
void memory_settle(void);

/* The same, and compares the sum with memory_own(). Call it now and then; a
 * thread that has charged MEMORY_STEP_BYTES does it by itself. Returns false if
 * the allocator holds much free memory and could not be trimmed yet: then usage
 * may look higher than it is. */
#define MEMORY_STEP_BYTES 1048576

bool memory_measure(void);

/* Trims the allocator if usage has dropped since the last trim: by a mebibyte,
 * or, while usage still fluctuates, by a quarter. So memory that clients needed
 * once does not stay occupied, with a limit or without. One thread calls it
 * every second or so. */
void memory_give_back(void);

/* The sum: `base`, what is charged, and what is occupied beyond that. */
size_t memory_used(void);
size_t memory_limit(void); /* 0: none */

enum memory_level memory_level(void);

/* What clients need memory for, and the level from which on they get no more:
 * one table. */
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
