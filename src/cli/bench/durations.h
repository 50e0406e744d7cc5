/* durations.h - how long things took, so that any quantile is known within 1.6
 * %.
 *
 * Owner: one thread at a time. */
#ifndef ISIMUD_CLI_BENCH_DURATIONS_H
#define ISIMUD_CLI_BENCH_DURATIONS_H

#include <stdint.h>

/* Below 64 ns each has a bucket of its own, above each power of two has 64. */
#define DURATIONS_STEPS   64
#define DURATIONS_BUCKETS (DURATIONS_STEPS + 58 * DURATIONS_STEPS)

/* Zeroed memory is none. */
struct durations {
	uint64_t count;
	uint64_t longest_ns;
	uint64_t buckets[DURATIONS_BUCKETS];
};

void durations_add(struct durations *d, uint64_t ns);

/* Adds all of `from`. */
void durations_merge(struct durations *into, const struct durations *from);

/* What so many of all, from 0 to 1, did not exceed, in nanoseconds; 0 of none.
 */
uint64_t durations_at(const struct durations *d, double share);

#endif
