/* aborts.h - whether a CHECK ends the process, tried in a child process. */
#ifndef ISIMUD_TEST_ABORTS_H
#define ISIMUD_TEST_ABORTS_H

#include <stdbool.h>

bool aborts(void (*run)(void *), void *arg);

#endif
