/* running.h - the isimud that runs here, found by /proc.
 *
 * It is a process of the same PID namespace that we may look into (of the same
 * user, or any if we are root), that runs the same program file (by device and
 * inode, or, where that was replaced since, by its path), that has no command
 * among its arguments, and that has come so far as to take signals. That needs
 * no file to write, no setting and no shell: it works in a container that has
 * nothing but this program.
 * Threads: the main thread, in a process of its own. */
#ifndef ISIMUD_CLI_RUNNING_H
#define ISIMUD_CLI_RUNNING_H

#include "base/buf.h"

#include <stdbool.h>
#include <sys/types.h>

/* Zeroed memory is none. */
struct running {
	pid_t pid;
	char **arguments;    /* without the program's name; end in NULL */
	char **environment;  /* the same */
	struct buf texts[2]; /* where they lie */
};

void running_fini(struct running *r);

/* Lets options.h give the settings of the one that runs, flags and environment,
 * where that is clear: our own flags say nothing of where it listens (IP, PORT,
 * LISTEN, ADMIN_PORT), and of those that run exactly one has in its environment
 * all that ours says of that. `r`, zeroed memory, must be kept as long as
 * options.h is used. Returns whether it does; else our own settings count. */
bool running_adopt(struct running *r);

/* `isimud reload`: makes the one that runs read its password again. Returns 0,
 * or 1 if none or several run, or it can't be signalled, which is logged. */
int running_reload(void);

#endif
