/* aborts.h - whether a CHECK ends the process, tried in a child process. */
#ifndef ISIMUD_TEST_ABORTS_H
#define ISIMUD_TEST_ABORTS_H

#include <stdbool.h>

bool aborts(void (*run)(void *), void *arg);

/* The same of `run` on a thread of its own: what has another owner ends a debug
 * build there, by CHECK_ON_THREAD. Of a release build, which does not look, it
 * is true as well. */
bool aborts_elsewhere(void (*run)(void *), void *arg);

#endif
