/* healthcheck.h - `isimud healthcheck`: asks a running isimud whether it is
 * well.
 *
 * For images that have no other program to ask with. Threads: the main thread,
 * in a process of its own. */
#ifndef ISIMUD_CLI_HEALTHCHECK_H
#define ISIMUD_CLI_HEALTHCHECK_H

#include "config/config.h"

#define PROBE_TIMEOUT_MS 3000 /* for all of it */

/* Sends GET /healthz to the admin listener if there is one, else to the first
 * listener. Returns 0 if the answer is 200; else 1, and has logged why. */
int probe_run(const struct config *c);

#endif
