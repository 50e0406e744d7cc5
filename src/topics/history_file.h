/* history_file.h - the history of all topics in a file, over a restart.
 *
 * Written when the last client has gone, read at the next start, so that
 * clients resume as if nothing had been: epoch, numbers and messages are kept.
 * It is used up by reading: were it still there after a crash, numbers would
 * come back with other messages. Format: "The history file" in
 * README. A SHA-256 of everything before it ends the file, which tells a torn
 * one; it does not tell who wrote it, so the folder must be isimud's alone.
 * Threads: the main thread, while no other runs. */
#ifndef ISIMUD_TOPICS_HISTORY_FILE_H
#define ISIMUD_TOPICS_HISTORY_FILE_H

#include "topics/registry.h"

#define HISTORY_FILE_ERROR_MAX 256

/* Reads `path` into `r`, which is fresh, and removes the file. Ages include the
 * time between, by the wall clock; none if that was set back. `workers`: for
 * message_new(). Returns 0 and how many `*topics` there are now, of those that
 * were not too old meanwhile; UV_ENOENT if there is no such file; or, with
 * `error` a line that tells (the file is torn, foreign, of another version,
 * can't be read or can't be removed, no memory), another UV_E…: `r` then has no
 * topic and the epoch it came with, and the file is left for whoever wants to
 * look at it, renamed to `path` with ".refused" behind it where that works.
 * What is not a file, but a folder or a device, stays as it is. */
int history_file_load(struct registry *r, const char *path, unsigned workers,
		      size_t *topics,
		      char error[static HISTORY_FILE_ERROR_MAX]);

/* Writes everything to a new file beside `path`, named `path` with ".new"
 * behind it, syncs it, and renames it to `path`; mode 0600. Returns 0 and
 * `*topics`, as many as it wrote; or a UV_E… with `error` filled, and whatever
 * was at `path` unchanged: UV_EINVAL if that is not a file. */
int history_file_save(struct registry *r, const char *path, size_t *topics,
		      char error[static HISTORY_FILE_ERROR_MAX]);

#endif
