/* lockfile.h - a file or a socket that one process at a time may use.
 *
 * Beside PATH lies PATH.lock, on which its user holds flock(2): the kernel ends
 * that however the process ends. In it is a note of who that is and how far he
 * has got, for those who find it locked and for those who come later. Nothing
 * is left of it after lockfile_remove(); the note stays after
 * lockfile_release() and after a crash.
 * Where two machines share a folder, flock() must be known to its file system.
 * Threads: one at a time. */
#ifndef ISIMUD_BASE_LOCKFILE_H
#define ISIMUD_BASE_LOCKFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum lockfile_state {
	LOCKFILE_STARTING, /* or nobody ever wrote a note */
	LOCKFILE_SERVING,
	LOCKFILE_DRAINING, /* its user will let go of it by himself, soon */
	LOCKFILE_SAVED,    /* its user is done, and left something behind */
};

struct lockfile_note {
	int pid; /* as its user's PID namespace has it; 0: not known */
	enum lockfile_state state;
	uint64_t number; /* what it means is the user's */
};

/* Zeroed memory is one that is not taken. */
struct lockfile {
	bool is_taken;
	int fd;
	char path[PATH_MAX];       /* of the lock file */
	struct lockfile_note note; /* that which lies there */
};

/* Takes the lock of `path`, and puts our process id into the note. `*found`
 * receives the note that was there. Returns 0; UV_EBUSY if another process has
 * it; or another UV_E…: UV_ENAMETOOLONG, UV_EINVAL if PATH.lock is something
 * else, or what open() or flock() said. */
int lockfile_take(struct lockfile *l, const char *path,
		  struct lockfile_note *found);

/* Changes the note. Does nothing if it is not taken. Returns 0 or a UV_E…. */
int lockfile_write(struct lockfile *l, enum lockfile_state state,
		   uint64_t number);

/* Whether we have it still: somebody may have removed the file, and another
 * process may then have the one that is there now. If nobody has, it is made
 * again. */
bool lockfile_keep(struct lockfile *l);

/* Lets go. The note stays. Does nothing if it is not taken. */
void lockfile_release(struct lockfile *l);

/* Lets go, and removes the file. */
void lockfile_remove(struct lockfile *l);

#endif
