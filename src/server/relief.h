/* relief.h - frees memory while it is short (base/memory.h says what is
 * refused).
 *
 *   TIGHT    half of the history is dropped, again and again; once little of it
 *            is left, workers end connections that have not read for seconds.
 *            Fewer connections that do not subscribe may stay (room.c)
 *   SCARCE   the same for messages held for subscribers that are behind;
 *            workers end connections that read too slowly (conn_group_relieve)
 *
 * One step is taken at a time, for all workers, and its effect is measured
 * before the next.
 * Threads: any, unless a function says otherwise. */
#ifndef ISIMUD_SERVER_RELIEF_H
#define ISIMUD_SERVER_RELIEF_H

#include "server/worker.h"

/* Takes the next step, unless one is under way. Call it again as long as memory
 * is TIGHT. */
void relief_ask(struct worker_shared *shared);

/* For a worker's tick: measures memory, and calls relief_ask() if it is
 * TIGHT. */
void relief_on_tick(struct worker_shared *shared);

/* After a publication: calls relief_ask() if memory is SCARCE. */
void relief_on_publication(struct worker_shared *shared);

/* After registry_age(): calls relief_ask() if memory is TIGHT and history can
 * be dropped. Returns whether there is still history to drop. */
bool relief_on_aging(struct worker_shared *shared);

/* MAILBOX_RELIEVE has come: ends connections, which completes the step under
 * way. Threads: the worker's. */
void relief_obey(struct worker *w);

/* Whether there is memory for a publication. If it is FULL: measures again,
 * ends connections that are too many, and calls relief_ask(). Never ends the
 * connection whose turn it is. Threads: the worker's. */
bool relief_find_memory(struct worker *w);

#endif
