/* room.h - makes room for the connections that have just come.
 *
 * Descriptors bound how many there may be (config/descriptors.h); while memory
 * is TIGHT (base/memory.h), those that do not subscribe are bounded by memory
 * too. Each worker keeps its share of connections, so that a new one is not
 * ended for another that waits in some other worker's mailbox. Threads: the
 * worker's. */
#ifndef ISIMUD_SERVER_ROOM_H
#define ISIMUD_SERVER_ROOM_H

#include "server/worker.h"

/* Connections have come by the doors in `kinds`, a bit each. Ends others while
 * there are too many; if this worker has none to end, asks the other
 * workers. */
void room_make_for(struct worker *w, unsigned kinds);

/* Ends connections of this worker while too many have come by the door `kind`,
 * but never the newest. Returns whether there are not too many any more. */
bool room_make(struct worker *w, enum listener_kind kind);

#endif
