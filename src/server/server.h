/* server.h - the whole of it: what starts first, what ends last.
 *
 * Listening sockets, workers, registry, acceptor, then signals until one says
 * to stop. Threads: the main thread, before any other. */
#ifndef ISIMUD_SERVER_SERVER_H
#define ISIMUD_SERVER_SERVER_H

#include "config/config.h"
#include "server/worker.h"

#define SERVER_CONFLICT 2 /* as for a malformed setting */

/* Runs until SIGTERM or SIGINT, and then until all connections have ended; a
 * second signal ends the process at once. SIGUSR1 logs what every worker has,
 * and all counters. Returns the process's exit status: 0; 1 if it could not
 * start; or SERVER_CONFLICT if another process has what the settings name, or
 * it can't be used. It has logged that then. */
int server_run(const struct config *config, const struct worker_app *app);

#endif
