/* history_file.h - the history of all topics in a file, over a restart.
 *
 * It is written when the last client has gone, and read at the next start, so
 * that clients resume as if nothing had happened: epoch, numbers and messages
 * are kept. Reading removes the file: were it still there after a crash,
 * numbers would come back with other messages. Format: "The history file" in
 * src/README.md. A SHA-256 of everything before it ends the file, and shows
 * that it is whole; it does not show who wrote it, so only isimud may write to
 * the folder. Threads: the main thread, while no other runs. */
#ifndef ISIMUD_TOPICS_HISTORY_FILE_H
#define ISIMUD_TOPICS_HISTORY_FILE_H

#include "topics/registry.h"

#define HISTORY_FILE_ERROR_MAX 256

/* Whether history can be saved to `path`: writes some bytes to what
 * history_file_save() would write, and removes that, as it does one that a
 * killed process left there. Returns 0, or a UV_E… with `error` filled:
 * UV_EINVAL if at `path` is something that is not a file. */
int history_file_try(const char *path,
		     char error[static HISTORY_FILE_ERROR_MAX]);

/* For history_file_loading.saved_ms. */
#define HISTORY_FILE_ANY  0
#define HISTORY_FILE_NONE UINT64_MAX

struct history_file_loading {
	unsigned workers; /* for message_new() */
	uint64_t ttl_ms;  /* a file that is older gives no epoch */
	/* The one that the last process saved, by history_file_save(); any
	 * other is from before a process whose messages it knows nothing of.
	 * HISTORY_FILE_ANY: not known; HISTORY_FILE_NONE: it saved none. */
	uint64_t saved_ms;

	size_t topics;    /* out: how many there are now */
	bool is_too_old;  /* out: the epoch is a new one */
	bool is_in_place; /* out: the file is where it was, and still good */
};

/* Reads `path` into `r`, which is fresh, and removes the file. Ages include the
 * time between, by the wall clock; none if that was set back. Returns 0;
 * UV_ENOENT if there is no such file; or, with `error` a line that tells (the
 * file is torn, foreign, of another version, not the last one saved, can't be
 * read or can't be removed; no memory, no descriptors), another UV_E…: `r` then
 * has no topic and the epoch it came with. A file that is no use is left for
 * whoever wants to look at it, renamed to `path` with ".refused" behind it
 * where that works; where memory or descriptors lacked, it stays where it is.
 * What is not a file, but a folder or a device, stays as it is. */
int history_file_load(struct registry *r, const char *path,
		      struct history_file_loading *loading,
		      char error[static HISTORY_FILE_ERROR_MAX]);

/* What saved_ms is to be if it is saved now: milliseconds since 1970. */
uint64_t history_file_now_ms(void);

/* Writes everything to a new file beside `path`, named `path` with ".new"
 * behind it, syncs it, and renames it to `path`; mode 0600. Returns 0 and
 * `*topics`, as many as it wrote; or a UV_E… with `error` filled, and whatever
 * was at `path` unchanged: UV_EINVAL if that is not a file. */
int history_file_save(struct registry *r, const char *path, uint64_t saved_ms,
		      size_t *topics,
		      char error[static HISTORY_FILE_ERROR_MAX]);

#endif
