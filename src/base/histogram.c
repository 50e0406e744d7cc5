/* histogram.c - see histogram.h. */
#include "base/histogram.h"

const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
	100,   250,    500,    1000,   2500,    5000,    10000,   25000,
	50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

/* There is one writer, so a plain load and store are enough. */
static void add_relaxed(_Atomic uint64_t *to, uint64_t n)
{
	atomic_store_explicit(
		to, atomic_load_explicit(to, memory_order_relaxed) + n,
		memory_order_relaxed);
}

void histogram_add(struct histogram *h, uint64_t us, uint64_t count)
{
	unsigned i = 0;
	while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i])
		i++;
	add_relaxed(&h->counts[i], count);
	add_relaxed(&h->sum_us, us * count);
}
