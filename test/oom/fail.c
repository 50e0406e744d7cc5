/* fail.c - a library for LD_PRELOAD that makes the nth allocation of a program
 * fail, its libraries' included.
 *
 * FAIL_FILE names a file of the size of `struct board`, by which the test sees
 * what happens and says what shall: allocations are counted from 1, and those
 * from `first` to `last` fail (0: none). What failed first, and who called
 * abort(), stand there as return addresses, innermost first.
 * Threads: any; `board` is all atomic or written once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES 30 /* oom.py knows these, and the layout */

struct board {
	_Atomic uint64_t count;
	_Atomic uint64_t first;
	_Atomic uint64_t last;
	_Atomic uint64_t failed; /* how many */
	uint64_t failed_at[FRAMES];
	uint64_t aborted_at[FRAMES];
};

static struct board *board; /* NULL: all goes on as ever */
static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void (*next_free)(void *);
static _Thread_local bool is_inside __attribute__((tls_model("initial-exec")));

/* What dlsym() and a sanitizer's beginning allocate while the functions above
 * are looked for. Never freed. */
static char early[65536];
static size_t early_used;

static void *early_malloc(size_t size)
{
	size_t at = (early_used + 15) & ~(size_t)15;

	if (at + size > sizeof(early))
		return NULL;
	early_used = at + size;
	return early + at;
}

static bool is_early(const void *p)
{
	return (const char *)p >= early &&
	       (const char *)p < early + sizeof(early);
}

static void find_next(void)
{
	if (next_malloc != NULL || is_inside)
		return;
	is_inside = true;
	next_calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	next_realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
	next_memalign = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "memalign");
	next_posix_memalign = (int (*)(void **, size_t, size_t))dlsym(
		RTLD_NEXT, "posix_memalign");
	next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
	next_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
	is_inside = false;
}

static void trace(uint64_t out[FRAMES])
{
	void *frames[FRAMES + 2];
	int count;

	is_inside = true;
	count = backtrace(frames, FRAMES + 2);
	for (int i = 2; i < count; i++)
		out[i - 2] = (uint64_t)(uintptr_t)frames[i];
	is_inside = false;
}

__attribute__((noinline)) static bool is_to_fail(void)
{
	uint64_t n;

	if (board == NULL || is_inside)
		return false;
	n = atomic_fetch_add(&board->count, 1) + 1;
	if (n < atomic_load(&board->first) || n > atomic_load(&board->last))
		return false;
	if (atomic_fetch_add(&board->failed, 1) == 0)
		trace(board->failed_at);
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	find_next();
	if (next_malloc == NULL)
		return early_malloc(size);
	return is_to_fail() ? NULL : next_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	find_next();
	if (next_malloc == NULL) /* `early` is zero, and used once */
		return early_malloc(count * size);
	return is_to_fail() ? NULL : next_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	find_next();
	if (is_early(old) || next_malloc == NULL) {
		void *new = malloc(size);
		if (new != NULL && old != NULL)
			memcpy(new, old,
			       size < (size_t)(early + sizeof(early) -
					       (char *)old)
				       ? size
				       : (size_t)(early + sizeof(early) -
						  (char *)old));
		return new;
	}
	/* Making smaller, or nothing, does not fail. */
	return size > 0 && is_to_fail() ? NULL : next_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
	find_next();
	return is_to_fail() ? NULL : next_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	find_next();
	return is_to_fail() ? ENOMEM
			    : next_posix_memalign(out, alignment, size);
}

void free(void *p)
{
	find_next();
	if (p != NULL && !is_early(p) && next_free != NULL)
		next_free(p);
}

void abort(void)
{
	if (board != NULL)
		trace(board->aborted_at);
	((void (*)(void))dlsym(RTLD_NEXT, "abort"))();
	_exit(134); /* not reached */
}

/* Where all that is loaded lies: PATH.maps becomes a copy of
 * /proc/self/maps. */
static void tell_maps(const char *path)
{
	char name[4096];
	char piece[4096];
	size_t len = strlen(path);
	ssize_t got;

	if (len + sizeof(".maps") > sizeof(name))
		return;
	memcpy(name, path, len);
	memcpy(name + len, ".maps", sizeof(".maps"));
	int from = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	int to = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while (from >= 0 && to >= 0 &&
	       (got = read(from, piece, sizeof(piece))) > 0)
		if (write(to, piece, (size_t)got) != got)
			break;
	close(from);
	close(to);
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("FAIL_FILE");
	void *frames[4];
	void *map;
	int fd;

	find_next();
	backtrace(frames, 4); /* loads what it needs */
	fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	tell_maps(path);
	map = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE,
		   MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		board = map;
}
