/* memory.c - a counter and three marks. */
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* Percent of the limit. */
#define TIGHT_PERCENT  80
#define SCARCE_PERCENT 90

static _Atomic ptrdiff_t used;
static _Thread_local ptrdiff_t untold;
static size_t limit; /* Immutable once threads run, as are the marks */
static size_t tight = SIZE_MAX;
static size_t scarce = SIZE_MAX;
static size_t full = SIZE_MAX;

void memory_set_limit(size_t bytes, size_t base)
{
	limit = bytes;
	atomic_store_explicit(&used, (ptrdiff_t)base, memory_order_relaxed);
	tight = bytes == 0 ? SIZE_MAX : bytes / 100 * TIGHT_PERCENT;
	scarce = bytes == 0 ? SIZE_MAX : bytes / 100 * SCARCE_PERCENT;
	full = bytes == 0 ? SIZE_MAX : bytes;
}

size_t memory_resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t pages = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*s %zu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

void memory_settle(void)
{
	atomic_fetch_add_explicit(&used, untold, memory_order_relaxed);
	untold = 0;
}

void memory_charge(size_t bytes)
{
	untold += (ptrdiff_t)bytes;
	if (untold > MEMORY_SLACK_BYTES)
		memory_settle();
}

void memory_credit(size_t bytes)
{
	untold -= (ptrdiff_t)bytes;
	if (untold < -MEMORY_SLACK_BYTES)
		memory_settle();
}

size_t memory_used(void)
{
	/* One thread may have told of a credit before another of the charge. */
	ptrdiff_t sum = atomic_load_explicit(&used, memory_order_relaxed);
	return sum < 0 ? 0 : (size_t)sum;
}

size_t memory_limit(void)
{
	return limit;
}

enum memory_level memory_level(void)
{
	size_t now = memory_used();
	if (now < tight)
		return MEMORY_FINE;
	if (now < scarce)
		return MEMORY_TIGHT;
	return now < full ? MEMORY_SCARCE : MEMORY_FULL;
}
