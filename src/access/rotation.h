/* rotation.h - reads PASSWORD_FILE again when it has changed.
 *
 * It polls with stat() rather than inotify: Kubernetes mounts a Secret as a
 * symbolic link to a file behind a second link, and swaps that one, so several
 * folders would have to be watched; and some file systems send no events. A
 * changed file is read once two polls have found it the same, so that it is not
 * read while it is being written.
 * Threads: the one that sets secrets. */
#ifndef ISIMUD_ACCESS_ROTATION_H
#define ISIMUD_ACCESS_ROTATION_H

#include "config/config.h"

#include <sys/types.h>
#include <time.h>

#define ROTATION_LOOK_MS 500 /* between two looks */

/* What tells one content of a file from another; zeroed: there is no file. */
struct rotation_stamp {
	dev_t device; /* of what the links lead to, as all of it */
	ino_t inode;
	off_t size;
	struct timespec modified;
	struct timespec changed;
};

/* Zeroed memory is a fresh one, which looks at once. */
struct rotation {
	struct rotation_stamp read;    /* when the passwords were read */
	struct rotation_stamp seen;    /* at the last look */
	struct rotation_stamp refused; /* logged as unusable */
	bool has_read;
	bool has_refused; /* since it was read */
};

/* Polls once, and reads the file if it has changed. A file that can't be read,
 * or has no password, is logged once, and the old passwords stay. Does nothing
 * if `c` names no file. */
void rotation_look(struct rotation *r, const struct config *c);

/* Reads the file in any case, and logs that. */
void rotation_reload(struct rotation *r, const struct config *c);

#endif
