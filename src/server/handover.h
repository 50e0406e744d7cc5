/* handover.h - the history that a process takes over from the one before, and
 * leaves to the next, in HISTORY_FILE.
 *
 * A process holds the lock of the file (lockfile.h) from before it listens
 * until it has saved, so one process at a time uses it. A second one does not
 * start, unless the first is draining: then it waits for that. The note in the
 * lock file names the file that was saved last, so that an older one is not
 * taken for the present. Threads: the main thread. */
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

/* How long to wait for a process that does not drain: it may have had its
 * signal already. */
#define HANDOVER_GRACE_MS 1000
/* How much longer than its DRAIN_SECONDS and CLOSE_TIMEOUT a draining process
 * may take, to save for instance. */
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

/* Loads the file that the last process left, if there is one. A file that can't
 * be used does not keep the server from starting. */
void handover_restore(struct handover *h, const struct config *c,
		      struct registry *r, unsigned workers);

/* Says that clients are served from now on, or that all of it will end. */
void handover_note_serving(struct handover *h);
void handover_note_draining(struct handover *h);

/* Saves, while no worker runs, and lets go of the lock. Where the start failed,
 * too: the next may not. */
void handover_save(struct handover *h, struct registry *r);

#endif
