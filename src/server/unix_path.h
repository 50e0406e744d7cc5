/* unix_path.h - the file of a Unix socket: it belongs to one process at a time,
 * and goes with its listener.
 *
 * The process that listens there holds the lock of the path (lockfile.h) from
 * before it makes the file until it has removed it. So two processes that start
 * at once can't both replace a file that was left behind, and none removes the
 * file of its successor. Other programs, which do not take the lock, are
 * noticed by asking whether somebody listens, and by device and inode. Threads:
 * one at a time. */
#ifndef ISIMUD_SERVER_UNIX_PATH_H
#define ISIMUD_SERVER_UNIX_PATH_H

#include "base/lockfile.h"
#include "config/config.h"

#include <signal.h>
#include <sys/types.h>

/* Zeroed memory is one that was not taken. */
struct unix_path {
	struct lockfile lock;
	char path[sizeof((struct config_listener *)NULL)->address];
	struct lockfile_note found; /* in the lock file: of whoever has it */
	bool is_bound;
	dev_t device; /* of the file that we made */
	ino_t inode;
};

/* Takes the lock, as handover_lock() does, and removes a socket's file that
 * nobody listens on. Returns 0 or the error of handover_lock(). */
int unix_path_take(struct unix_path *p, const char *path,
		   const struct config *c, const sigset_t *signals);

/* Binds `fd` to it; nobody whom `mode` keeps out can connect at any time.
 * Returns 0; or a UV_E…: UV_EADDRINUSE if the path is somebody's who listens,
 * or no socket. */
int unix_path_bind(struct unix_path *p, int fd, mode_t mode);

/* Removes the file if it is still ours, and lets go of the lock; to be called
 * before the socket is closed, since as long as that is open the inode's number
 * can't be another's. Does nothing the second time. */
void unix_path_leave(struct unix_path *p);

#endif
