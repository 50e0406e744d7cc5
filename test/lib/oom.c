/* oom.c - see oom.h. */
#include "oom.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

/* Volatile, since a compiler knows malloc() and that it changes no variable. */
static _Thread_local volatile unsigned oom_left; /* 0: none will fail */
static _Thread_local volatile bool oom_failed;
static _Thread_local bool is_spared; /* by oom_fail_elsewhere() */
static atomic_uint elsewhere_left;
static atomic_bool has_failed_elsewhere;

void oom_fail_at(unsigned nth)
{
	oom_failed = false;
	oom_left = nth;
}

void oom_fail_elsewhere(unsigned nth)
{
	oom_fail_at(0);
	is_spared = true;
	atomic_store(&has_failed_elsewhere, false);
	atomic_store(&elsewhere_left, nth);
}

unsigned oom_left_now(void)
{
	return oom_left;
}

bool oom_has_failed(void)
{
	return oom_failed;
}

bool oom_end(void)
{
	oom_left = 0;
	atomic_store(&elsewhere_left, 0);
	return oom_failed || atomic_exchange(&has_failed_elsewhere, false);
}

#ifndef OOM_SANITIZED
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static bool is_now_elsewhere(void)
{
	unsigned left = atomic_load(&elsewhere_left);

	if (is_spared)
		return false;
	while (left > 0)
		if (atomic_compare_exchange_weak(&elsewhere_left, &left,
						 left - 1))
			break;
	if (left != 1)
		return false;
	atomic_store(&has_failed_elsewhere, true);
	errno = ENOMEM;
	return true;
}

static bool oom_is_now(void)
{
	unsigned left = oom_left;
	if (left == 0)
		return is_now_elsewhere();
	oom_left = left - 1;
	if (left > 1)
		return false;
	oom_failed = true;
	errno = ENOMEM;
	return true;
}

/* `used`: with -flto the compiler makes calls to these after it has looked for
 * functions that nobody calls. */
__attribute__((used)) void *malloc(size_t size)
{
	return oom_is_now() ? NULL : __libc_malloc(size);
}

__attribute__((used)) void *calloc(size_t count, size_t size)
{
	return oom_is_now() ? NULL : __libc_calloc(count, size);
}

__attribute__((used)) void *realloc(void *old, size_t size)
{
	return oom_is_now() ? NULL : __libc_realloc(old, size);
}

__attribute__((used)) void *aligned_alloc(size_t alignment, size_t size)
{
	return oom_is_now() ? NULL : __libc_memalign(alignment, size);
}
#endif

bool oom_is_available(void)
{
	void *volatile probe;

	oom_fail_at(1);
	probe = malloc(1);
	free(probe);
	return oom_end();
}
