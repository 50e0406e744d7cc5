/* durations.c - buckets by logarithm, each divided evenly. */
#include "cli/bench/durations.h"

#define STEP_BITS 6 /* of DURATIONS_STEPS */

static unsigned durations_bucket_of(uint64_t ns)
{
	if (ns < DURATIONS_STEPS)
		return (unsigned)ns;
	unsigned power = 63 - (unsigned)__builtin_clzll(ns);
	unsigned step = (ns >> (power - STEP_BITS)) & (DURATIONS_STEPS - 1);
	return DURATIONS_STEPS * (power - STEP_BITS + 1) + step;
}

void durations_add(struct durations *d, uint64_t ns)
{
	d->buckets[durations_bucket_of(ns)]++;
	d->count++;
	if (ns > d->longest_ns)
		d->longest_ns = ns;
}

void durations_merge(struct durations *into, const struct durations *from)
{
	for (unsigned i = 0; i < DURATIONS_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
	into->count += from->count;
	if (from->longest_ns > into->longest_ns)
		into->longest_ns = from->longest_ns;
}

/* The lowest that is in a bucket. */
static uint64_t lowest_of(unsigned bucket)
{
	if (bucket < DURATIONS_STEPS)
		return bucket;
	return (uint64_t)(DURATIONS_STEPS + bucket % DURATIONS_STEPS)
	       << (bucket / DURATIONS_STEPS - 1);
}

uint64_t durations_at(const struct durations *d, double share)
{
	uint64_t wanted = (uint64_t)(share * (double)d->count + 0.5);
	uint64_t passed = 0;

	if (wanted == 0)
		wanted = 1;
	for (unsigned i = 0; i < DURATIONS_BUCKETS && d->count > 0; i++) {
		passed += d->buckets[i];
		if (passed >= wanted)
			return lowest_of(i);
	}
	return d->longest_ns;
}
