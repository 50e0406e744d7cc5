/* recent.h - the figures of the last ten minutes, for the console's curves: who
 * opens it after something has happened sees that it has.
 *
 * One thread takes a sample every RECENT_STEP_MS, of what the workers count
 * anyway. A ring of a fixed size holds them: 53 KB for 64 workers, 16 KB for
 * two, allocated once. Atomic: one thread takes, any number read and never
 * wait. */
#ifndef ISIMUD_STATS_RECENT_H
#define ISIMUD_STATS_RECENT_H

#include "base/buf.h"
#include "stats/stats.h"

#include <stdint.h>

#define RECENT_STEP_MS 2000
#define RECENT_SAMPLES 300 /* ten minutes */

/* What a sample has, beside the loop lag of each worker. Those "a second" are
 * means since the sample before, as the percentiles are of that time. */
/* clang-format off */
#define RECENT_FIGURES(X)                                                      \
	X(subscribers)                                                         \
	X(publications)    /* a second */                                      \
	X(deliveries)      /* a second */                                      \
	X(latency_p50)     /* s; none: nothing was delivered */                \
	X(latency_p99)                                                         \
	X(buffered)        /* bytes */                                         \
	X(buffered_worst)  /* bytes, of one connection */                      \
	X(memory)          /* bytes, as counted against the budget */          \
	X(sent)            /* bytes a second */                                \
	X(received)        /* bytes a second */
/* clang-format on */

struct recent;

/* `*out` is of `count` workers (1 or more), whose stats outlive it; `now_ms` on
 * any clock that only goes forward, as for recent_take(). Returns 0, or
 * UV_ENOMEM; recent_free() undoes it. */
int recent_new(struct recent **out, const struct stats *const *workers,
	       unsigned count, uint64_t now_ms);
void recent_free(struct recent *r); /* NULL: nothing */

/* Takes a sample, if the last one is RECENT_STEP_MS old. Threads: always the
 * same one. */
void recent_take(struct recent *r, uint64_t now_ms);

/* Appends all samples as a JSON object, the oldest first: an array for each
 * figure; "age", seconds; and "lag", an array of seconds for each worker. What
 * is not known is null. Returns 0, or UV_ENOMEM with a part of it appended.
 * Threads: any. */
int recent_write(const struct recent *r, uint64_t now_ms, struct buf *out);

#endif
