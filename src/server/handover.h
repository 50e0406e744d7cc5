/* handover.h - what a process takes over from the one before it, and leaves to
 * the one behind it: the history, in HISTORY_FILE.
 *
 * From before it listens until it has saved, a process holds the lock of the
 * file (lockfile.h), so that one process at a time has it: a second one does
 * not start, unless the first is draining; then it waits for that. The lock's
 * note tells which file was saved last, so that one which another life lies
 * behind is not taken for the present.
 * Threads: the main thread. */
#ifndef ISIMUD_SERVER_HANDOVER_H
#define ISIMUD_SERVER_HANDOVER_H

#include "base/lockfile.h"
#include "config/config.h"
#include "topics/registry.h"

#include <signal.h>

/* Zeroed memory is a fresh one. */
struct handover {
	const char *path; /* NULL: there is nothing to hand over */
	struct lockfile lock;
	struct lockfile_note found; /* when it was locked */
	bool has_read;              /* and the file is gone */
	bool has_served;
};

/* How long a process that does not drain may take to let go: it may have had
 * its signal already. */
#define HANDOVER_GRACE_MS 1000
/* How much longer than its DRAIN_SECONDS and CLOSE_TIMEOUT one that drains may
 * take, to save for instance. */
#define HANDOVER_SPARE_MS 5000

/* Takes the lock of `path`; where another process has it, waits as the numbers
 * above say, by our own settings. `signals` are blocked. Returns 0; UV_EBUSY
 * and `*found`, what the other says; UV_ECANCELED if a signal said to stop; or
 * the error of lockfile_take(). */
int handover_lock(struct lockfile *l, const char *path,
		  struct lockfile_note *found, const struct config *c,
		  const sigset_t *signals);

/* Locks HISTORY_FILE, if there is one, and tries whether it can be written.
 * Returns 0, also where the machine is at fault, such as for a full disk, which
 * is logged; UV_ECANCELED as above; or another UV_E…, logged, if the setting
 * is. */
int handover_claim(struct handover *h, const struct config *c,
		   const sigset_t *signals);

/* Goes on where the last process ended, if it left a file. A file that is no
 * use is no reason not to serve. */
void handover_restore(struct handover *h, const struct config *c,
		      struct registry *r, unsigned workers);

/* Says that clients are served from now on, or that all of it will end. */
void handover_note_serving(struct handover *h);
void handover_note_draining(struct handover *h);

/* Saves, while no worker runs, and lets go of the lock. Where the start failed,
 * too: the next may not. */
void handover_save(struct handover *h, struct registry *r);

#endif
