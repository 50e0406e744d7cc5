/* stats.h - what happened so far, counted.
 *
 * Each loop thread and the acceptor count in a `struct stats` of their own, on
 * cache lines of its own; a reader adds them up. Atomic: each counter has one
 * writer, its thread, and any number of readers. */
#ifndef ISIMUD_STATS_H
#define ISIMUD_STATS_H

#include "endings.h"

#include <stdatomic.h>
#include <stdint.h>

#define STATS_COUNTERS(X)                                                      \
	X(accepted)      /* connections taken on */                            \
	X(refused)       /* connections over MAX_CONNECTIONS: 503 */           \
	X(accept_paused) /* times that accepting waited for descriptors */     \
	X(requests)      /* HTTP requests read */                              \
	X(published)     /* publications answered 200 */                       \
	X(publish_full)  /* publications answered 503: a mailbox was full */   \
	X(subscribed)    /* subscriptions made */                              \
	X(delivered)     /* messages queued to subscribers */                  \
	X(bytes_in)      /* read from clients */                               \
	X(bytes_out)     /* written to clients */                              \
	X(writes)        /* system calls that wrote */                         \
	X(auth_yes)                                                            \
	X(auth_no)                                                             \
	X(auth_failed)

enum stats_counter {
#define STATS_ENUM(name) STATS_##name,
	STATS_COUNTERS(STATS_ENUM)
#undef STATS_ENUM
#define STATS_ENUM(name, code, reason) STATS_closed_##name,
	ENDINGS(STATS_ENUM)
#undef STATS_ENUM
		STATS_COUNT,
};

struct stats {
	_Alignas(64) _Atomic uint64_t counters[STATS_COUNT];
};

/* Adds `n`; only ever called by the thread whose stats these are, so a plain
 * load and store are enough. */
static inline void stats_add(struct stats *s, enum stats_counter counter,
			     uint64_t n)
{
	uint64_t old = atomic_load_explicit(&s->counters[counter],
					    memory_order_relaxed);
	atomic_store_explicit(&s->counters[counter], old + n,
			      memory_order_relaxed);
}

static inline uint64_t stats_get(const struct stats *s,
				 enum stats_counter counter)
{
	return atomic_load_explicit(&s->counters[counter],
				    memory_order_relaxed);
}

/* The counter's name: "accepted", "closed_slow", … */
const char *stats_name(enum stats_counter counter);

#endif
