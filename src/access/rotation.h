/* rotation.h - PASSWORD_FILE, looked at again and again: whoever changes it
 * need not tell anybody.
 *
 * By stat(), not inotify: Kubernetes mounts a Secret as a symbolic link to a
 * file behind a second link, which it swaps, so that folders would have to be
 * watched one behind the other; and some file systems tell nothing. A change is
 * taken once the file has been the same at two looks, so that none is read
 * while it is being written.
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
	struct rotation_stamp read;    /* what the passwords are of */
	struct rotation_stamp seen;    /* at the last look */
	struct rotation_stamp refused; /* it was said of */
	bool has_read;
	bool has_refused; /* since it was read */
};

/* Looks, and reads the file if it has changed. What can't be read, or has no
 * password, is logged once, and the old ones stay. Does nothing if `c` names no
 * file. */
void rotation_look(struct rotation *r, const struct config *c);

/* Reads it in any case, and says so. */
void rotation_reload(struct rotation *r, const struct config *c);

#endif
