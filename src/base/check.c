/* check.c - what a failed CHECK says before it aborts. */
#include "base/check.h"

#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *condition, const char *file, int line,
		  const char *function)
{
	char thread[16] = "?";
	char text[512];

	pthread_getname_np(pthread_self(), thread, sizeof thread);
	snprintf(text, sizeof text,
		 "CHECK failed: %s at %s:%d in %s, thread %s", condition, file,
		 line, function, thread);
	log_crash(text);
	abort();
}
