/* room.h - room for the connections that have just come.
 *
 * There may be only so many, by descriptors (config/descriptors.h), and, while
 * memory is TIGHT (base/memory.h), by a part of it, so that connections that do
 * not subscribe never take what is left for publishing. Each worker keeps its
 * part of what there may be, so that a connection that has just come is not
 * ended for one that waits in another worker's mailbox. Threads: the worker's.
 */
#ifndef ISIMUD_SERVER_ROOM_H
#define ISIMUD_SERVER_ROOM_H

#include "server/worker.h"

/* Some have come by the doors in `kinds`, a bit each: ends connections while
 * there are too many, and asks the other workers to do so where this one has
 * none to end. */
void room_make_for(struct worker *w, unsigned kinds);

/* Ends connections of this worker, none of those that came last, while there
 * are too many for one more to come by door `kind`. Returns whether there are
 * no more than there may be. */
bool room_make(struct worker *w, enum listener_kind kind);

#endif
