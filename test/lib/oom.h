/* oom.h - makes the nth allocation from now fail, on the calling thread.
 *
 * It puts a malloc of its own in front of glibc's, which libraries then use
 * too, in each program that calls it. Sanitizers and valgrind need theirs to be
 * the one; there OOM_OR_SKIP() skips the test. */
#ifndef ISIMUD_TEST_OOM_H
#define ISIMUD_TEST_OOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* Defined in programs that a sanitizer watches. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OOM_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OOM_SANITIZED
#endif

/* From now on the `nth` allocation (1: the next) fails, once. */
void oom_fail_at(unsigned nth);

/* The same in all threads but the calling one. */
void oom_fail_elsewhere(unsigned nth);

/* Lets all succeed again. Returns whether one has failed. */
bool oom_end(void);

/* How many allocations are left before one fails; 0: none will fail. */
unsigned oom_left_now(void);

/* Whether one has failed since oom_fail_at(). */
bool oom_has_failed(void);

/* What became of a child process. */
struct oom_child {
	int rv; /* what `run` returned, 0 to 31 */
	bool has_failed;
	bool is_aborted_by_libuv; /* which can't tell its callers everything */
};

/* Runs `run` in a child process, whose nth allocation of this thread fails.
 * Whatever else ends the process fails the test. */
struct oom_child oom_in_child(int (*run)(void *), void *arg, unsigned nth);

/* Whether the malloc of oom.c is the one in use. */
bool oom_is_available(void);

#define OOM_OR_SKIP()                                                          \
	do {                                                                   \
		if (!oom_is_available())                                       \
			skip();                                                \
	} while (0)

#endif
