/* alloc.c - malloc() and the like, for the fuzz targets (ld: --wrap). */
#include "alloc.h"

#include <errno.h>
#include <stddef.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static unsigned left; /* 0: none will fail */
static bool has_failed;

void alloc_fail_at(unsigned nth)
{
	has_failed = false;
	left = nth;
}

bool alloc_end(void)
{
	left = 0;
	return has_failed;
}

static bool is_now(void)
{
	if (left == 0 || --left > 0)
		return false;
	has_failed = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return is_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return is_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return is_now() ? NULL : __real_realloc(old, size);
}
