/* histogram.h - how long something took, counted by upper bounds.
 *
 * The bounds are the same for all: from 100 us to 10 s, as Prometheus has them.
 * Atomic: one thread adds, any number read. Zeroed memory is an empty one. */
#ifndef ISIMUD_BASE_HISTOGRAM_H
#define ISIMUD_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 16

struct histogram {
	/* counts[i]: at most histogram_bounds_us[i], more than the one before;
	 * the last: more than all. */
	_Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1];
	_Atomic uint64_t sum_us;
};

extern const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

/* Adds `count` events that took `us` microseconds each. */
void histogram_add(struct histogram *h, uint64_t us, uint64_t count);

#endif
