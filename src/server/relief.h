/* relief.h - what is done while memory is short (base/memory.h says from which
 * level on what is refused).
 *
 *   TIGHT    history is given up, by halves; once little of it is left, workers
 *            end connections that have not read for seconds; there may be fewer
 *            of those that do not subscribe (room.c)
 *   SCARCE   the same of what is held for subscribers that are behind; workers
 *            end those that read too slowly (conn_group_relieve)
 *
 * It goes on in steps, one at a time for all workers, so that each step's
 * effect is seen before the next. Threads: any, unless a function says
 * otherwise. */
#ifndef ISIMUD_SERVER_RELIEF_H
#define ISIMUD_SERVER_RELIEF_H

#include "server/worker.h"

/* Memory is TIGHT: does the next step, unless one is under way. To be called
 * again as long as memory is. */
void relief_ask(struct worker_shared *shared);

/* A worker's tick: compares what is charged with what is occupied, and asks if
 * memory is TIGHT. */
void relief_on_tick(struct worker_shared *shared);

/* Something was published: asks if memory is SCARCE. */
void relief_on_publication(struct worker_shared *shared);

/* The registry has aged: asks if history can give what memory lacks. Returns
 * whether more could be given. */
bool relief_on_aging(struct worker_shared *shared);

/* MAILBOX_RELIEVE has come, on the worker's thread: the step that was under way
 * ends. */
void relief_obey(struct worker *w);

/* Whether a publisher that asks now can have memory: if it is FULL, compares
 * again, ends connections that are too many, and asks. Never ends the
 * connection whose turn it is. Threads: the worker's. */
bool relief_find_memory(struct worker *w);

#endif
