/* memory.c - counts what is charged, corrects the sum by what the process
 * occupies, and compares it with the limit. */
#include "base/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Percent of the limit. */
#define TIGHT_PERCENT  80
#define SCARCE_PERCENT 90
/* Trim the allocator when it holds more than 1/TRIM_LIMIT_PART of the limit
 * that is not charged, and spend at most 1/TRIM_TIME_PART of the time on it. */
#define TRIM_LIMIT_PART 8
#define TRIM_TIME_PART  10
/* Also trim when usage has dropped FALLEN_BYTES below its peak; while usage
 * still fluctuates (by more than CALM_BYTES a call), only if it dropped by
 * 1/FALLEN_PART of the peak. */
#define FALLEN_BYTES 1048576
#define FALLEN_PART  4
#define CALM_BYTES   65536

/* A sanitizer's memory counts as the process's own, many times ours. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_MEASURABLE 0
#else
#define IS_MEASURABLE 1
#endif

static _Atomic ptrdiff_t used;
static _Atomic ptrdiff_t kernel;      /* charged for what the kernel holds */
static _Atomic ptrdiff_t excess;      /* occupied beyond what is charged; >=
				       * 0 */
static _Atomic uint64_t trim_from_ns; /* when the next trim may start */
/* The peak of what was charged since the last trim, and the value at the last
 * call. Only memory_give_back() uses them, which one thread calls. */
static ptrdiff_t highest;
static ptrdiff_t latest;
static _Thread_local ptrdiff_t untold;
static _Thread_local size_t unmeasured; /* charged since memory_measure() */
static size_t limit; /* Immutable once threads run, as are the marks */
static size_t tight = SIZE_MAX;
static size_t scarce = SIZE_MAX;
static size_t full = SIZE_MAX;

void memory_set_limit(size_t bytes, size_t base)
{
	limit = bytes;
	atomic_store_explicit(&used, (ptrdiff_t)base, memory_order_relaxed);
	atomic_store_explicit(&excess, 0, memory_order_relaxed);
	highest = 0;
	latest = 0;
	tight = bytes == 0 ? SIZE_MAX : bytes / 100 * TIGHT_PERCENT;
	scarce = bytes == 0 ? SIZE_MAX : bytes / 100 * SCARCE_PERCENT;
	full = bytes == 0 ? SIZE_MAX : bytes;
}

size_t memory_least_limit(size_t base)
{
	return base / TIGHT_PERCENT * 100 + 100;
}

/* Reads the pages of the resident set, and how many of them are unchanged pages
 * of files (proc(5), statm); both 0 if unknown. */
static void read_pages(size_t *resident, size_t *of_files)
{
	FILE *file = fopen("/proc/self/statm", "re");

	*resident = 0;
	*of_files = 0;
	if (file == NULL)
		return;
	if (fscanf(file, "%*s %zu %zu", resident, of_files) != 2) {
		*resident = 0;
		*of_files = 0;
	}
	fclose(file);
}

size_t memory_resident(void)
{
	size_t resident;
	size_t of_files;

	read_pages(&resident, &of_files);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

size_t memory_own(void)
{
	size_t resident;
	size_t of_files;

	read_pages(&resident, &of_files);
	/* The kernel adds each up from counters that others are changing. */
	if (of_files > resident)
		return 0;
	return (resident - of_files) * (size_t)sysconf(_SC_PAGESIZE);
}

void memory_settle(void)
{
	atomic_fetch_add_explicit(&used, untold, memory_order_relaxed);
	untold = 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static ptrdiff_t measure_excess(void)
{
	ptrdiff_t bytes = (ptrdiff_t)memory_own() -
			  atomic_load_explicit(&used, memory_order_relaxed);
	return bytes < 0 ? 0 : bytes;
}

/* Trims the allocator, unless that was done a moment ago or another thread is
 * doing it. Returns whether it did. */
static bool trim_allocator(void)
{
	uint64_t start = now_ns();
	uint64_t from =
		atomic_load_explicit(&trim_from_ns, memory_order_relaxed);

	if (start < from ||
	    !atomic_compare_exchange_strong(&trim_from_ns, &from, UINT64_MAX))
		return false;
	malloc_trim(0);
	uint64_t end = now_ns();
	atomic_store_explicit(&trim_from_ns,
			      end + (end - start) * (TRIM_TIME_PART - 1),
			      memory_order_relaxed);
	return true;
}

void memory_give_back(void)
{
	ptrdiff_t now = atomic_load_explicit(&used, memory_order_relaxed);
	bool is_calm = now < latest + CALM_BYTES && latest < now + CALM_BYTES;

	latest = now;
	if (now > highest)
		highest = now;
	ptrdiff_t fallen = highest - now;
	if (IS_MEASURABLE && fallen >= FALLEN_BYTES &&
	    (is_calm || fallen >= highest / FALLEN_PART) && trim_allocator())
		highest = now;
}

/* Whether it is only the allocator's free memory that makes the level FULL. */
static bool would_be_full(ptrdiff_t bytes)
{
	ptrdiff_t sum = atomic_load_explicit(&used, memory_order_relaxed) +
			atomic_load_explicit(&kernel, memory_order_relaxed);

	return sum < (ptrdiff_t)full && sum + bytes >= (ptrdiff_t)full;
}

bool memory_measure(void)
{
	bool is_all_given_back = true;

	memory_settle();
	unmeasured = 0;
	if (limit == 0 || !IS_MEASURABLE)
		return true;
	ptrdiff_t bytes = measure_excess();
	if (bytes > (ptrdiff_t)(limit / TRIM_LIMIT_PART) ||
	    would_be_full(bytes)) {
		is_all_given_back = trim_allocator();
		bytes = measure_excess();
	}
	atomic_store_explicit(&excess, bytes, memory_order_relaxed);
	return is_all_given_back;
}

void memory_charge(size_t bytes)
{
	untold += (ptrdiff_t)bytes;
	unmeasured += bytes;
	if (unmeasured > MEMORY_STEP_BYTES)
		memory_measure();
	else if (untold > MEMORY_SLACK_BYTES)
		memory_settle();
}

void memory_credit(size_t bytes)
{
	untold -= (ptrdiff_t)bytes;
	if (untold < -MEMORY_SLACK_BYTES)
		memory_settle();
}

void memory_charge_kernel(size_t bytes)
{
	atomic_fetch_add_explicit(&kernel, (ptrdiff_t)bytes,
				  memory_order_relaxed);
}

void memory_credit_kernel(size_t bytes)
{
	atomic_fetch_sub_explicit(&kernel, (ptrdiff_t)bytes,
				  memory_order_relaxed);
}

size_t memory_used(void)
{
	/* One thread may have reported a credit before another reported the
	 * charge. */
	ptrdiff_t sum = atomic_load_explicit(&used, memory_order_relaxed) +
			atomic_load_explicit(&kernel, memory_order_relaxed) +
			atomic_load_explicit(&excess, memory_order_relaxed);
	return sum < 0 ? 0 : (size_t)sum;
}

size_t memory_limit(void)
{
	return limit;
}

bool memory_allows(enum memory_use use)
{
	static const enum memory_level refused_from[MEMORY_USES_COUNT] = {
#define MEMORY_REFUSAL(use, level) MEMORY_##level,
		MEMORY_USES(MEMORY_REFUSAL)
#undef MEMORY_REFUSAL
	};

	return memory_level() < refused_from[use];
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
