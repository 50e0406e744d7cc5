/* lockfile.h - a file or a socket that one process at a time may use.
 *
 * Beside PATH lies PATH.lock, on which its user holds flock(2); the kernel
 * releases that however the process ends. A note in it says who the user is and
 * how far it has got, for processes that find it locked and for those that come
 * later. lockfile_remove() removes the file; the note stays after
 * lockfile_release() and after a crash. If two machines share the folder, its
 * file system must support flock(). Threads: one at a time. */
#ifndef ISIMUD_BASE_LOCKFILE_H
#define ISIMUD_BASE_LOCKFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum lockfile_state {
	LOCKFILE_STARTING, /* or nobody ever wrote a note */
	LOCKFILE_SERVING,
	LOCKFILE_DRAINING, /* its user will release it soon, by itself */
	LOCKFILE_SAVED,    /* its user is done, and left something behind */
};

struct lockfile_note {
	int pid; /* as its user's PID namespace has it; 0: not known */
	enum lockfile_state state;
	uint64_t number; /* its meaning is the user's */
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

/* Whether we still have it. Somebody may have removed the file, and another
 * process may have locked a new one there. If no process has, the file is made
 * again. */
bool lockfile_keep(struct lockfile *l);

/* Releases the lock. The note stays. Does nothing if it is not taken. */
void lockfile_release(struct lockfile *l);

/* Releases the lock, and removes the file. */
void lockfile_remove(struct lockfile *l);

#endif
