/* alloc.h - makes the nth allocation of the fuzzed code fail.
 *
 * The targets are linked with --wrap=malloc and the like (Makefile), so that
 * the calls of our objects and of libraries that are linked statically come to
 * alloc.c; those of libc and of the sanitizers do not. Threads: one. */
#ifndef ISIMUD_FUZZ_ALLOC_H
#define ISIMUD_FUZZ_ALLOC_H

#include <stdbool.h>

/* From now on the `nth` allocation (1: the next) fails, once; 0: none. */
void alloc_fail_at(unsigned nth);

/* Lets all succeed again. Returns whether one has failed. */
bool alloc_end(void);

#endif
