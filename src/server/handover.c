/* handover.c - the lock of HISTORY_FILE, and what is said of it. */
#include "server/handover.h"

#include "base/log.h"
#include "topics/history_file.h"

#include <time.h>
#include <uv.h>

#define STEP_MS 20 /* between looks whether the lock is free */

/* Waits for a step. Returns false if a signal says to stop. */
static bool wait_a_step(const sigset_t *signals)
{
	const struct timespec step = {0, STEP_MS * 1000000L};
	int number = sigtimedwait(signals, NULL, &step);

	return number != SIGTERM && number != SIGINT;
}

int handover_lock(struct lockfile *l, const char *path,
		  struct lockfile_note *found, const struct config *c,
		  const sigset_t *signals)
{
	uint64_t longest_ms =
		c->drain_ms + c->close_timeout_ms + HANDOVER_SPARE_MS;
	uint64_t start_ms = uv_hrtime() / 1000000;
	uint64_t drained_ms = start_ms; /* when it was last seen to drain */
	bool is_told = false;

	for (;;) {
		int rv = lockfile_take(l, path, found);
		uint64_t now_ms = uv_hrtime() / 1000000;
		if (rv != UV_EBUSY)
			return rv;
		if (found->state == LOCKFILE_DRAINING) {
			drained_ms = now_ms;
			if (!is_told)
				log_event(LOG_INFO, "waiting",
					  LOG_FIELDS(
						  log_number(
							  "pid",
							  (uint64_t)found->pid),
						  log_text("file", path)),
					  "waiting for process %d, which is "
					  "draining, to let go of %s",
					  found->pid, path);
			is_told = true;
		}
		if (now_ms - drained_ms > HANDOVER_GRACE_MS ||
		    now_ms - start_ms > longest_ms) {
			return UV_EBUSY;
		}
		if (!wait_a_step(signals))
			return UV_ECANCELED;
	}
}

/* Whether the setting names what can't be; else the machine can't just now. */
static bool is_of_setting(int error)
{
	static const int errors[] = {UV_EACCES,       UV_EPERM,  UV_ENOENT,
				     UV_ENOTDIR,      UV_EISDIR, UV_EINVAL,
				     UV_ENAMETOOLONG, UV_ELOOP};
	for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
		if (error == errors[i])
			return true;
	return false;
}

int handover_claim(struct handover *h, const struct config *c,
		   const sigset_t *signals)
{
	char error[HISTORY_FILE_ERROR_MAX];

	if (c->history_file == NULL)
		return 0;
	int rv =
		handover_lock(&h->lock, c->history_file, &h->found, c, signals);
	if (rv == UV_EBUSY)
		log_event(LOG_ERROR, "conflict",
			  LOG_FIELDS(log_number("pid", (uint64_t)h->found.pid),
				     log_text("file", c->history_file)),
			  "another isimud, process %d, has %s", h->found.pid,
			  c->history_file);
	if (rv == UV_EBUSY || rv == UV_ECANCELED)
		return rv;
	if (rv != 0)
		snprintf(error, sizeof error, "can't write %s.lock: %s",
			 c->history_file, uv_strerror(rv));
	else
		rv = history_file_try(c->history_file, error);
	if (h->lock.is_taken)
		h->path = c->history_file;
	if (rv == 0)
		return 0;
	if (is_of_setting(rv)) {
		log_event(LOG_ERROR, "history_refused",
			  LOG_FIELDS(log_text("file", c->history_file)),
			  "HISTORY_FILE can't be used: %s", error);
		lockfile_release(&h->lock);
		return rv;
	}
	log_event(LOG_ERROR, "history_unsaved",
		  LOG_FIELDS(log_text("file", c->history_file)),
		  "the history can't be saved now: %s", error);
	return 0;
}

/* The saved_ms that the file must have, by the note of the last process. */
static uint64_t saved_ms_of(const struct lockfile_note *note)
{
	switch (note->state) {
	case LOCKFILE_SAVED:
		return note->number;
	case LOCKFILE_SERVING:
	case LOCKFILE_DRAINING:
		return HISTORY_FILE_NONE;
	case LOCKFILE_STARTING:
		break;
	}
	return HISTORY_FILE_ANY;
}

void handover_restore(struct handover *h, const struct config *c,
		      struct registry *r, unsigned workers)
{
	struct history_file_loading loading = {.workers = workers,
					       .ttl_ms = c->history_ttl_ms,
					       .saved_ms =
						       saved_ms_of(&h->found)};
	char error[HISTORY_FILE_ERROR_MAX];

	if (h->path == NULL)
		return;
	int rv = history_file_load(r, h->path, &loading, error);
	h->has_read = !loading.is_in_place;
	if (rv == 0 && loading.is_too_old)
		log_event(LOG_INFO, "history_too_old", LOG_NO_FIELDS,
			  "the saved history is older than HISTORY_TTL: ids "
			  "begin anew%s",
			  c->retain ? ", with the retained messages" : "");
	else if (rv == 0)
		log_event(LOG_INFO, "history_restored",
			  LOG_FIELDS(log_number("topics", loading.topics)),
			  "restored the history of %zu topics", loading.topics);
	else if (rv == UV_ENOENT)
		log_event(LOG_INFO, "history_none", LOG_NO_FIELDS,
			  "no history to restore");
	else
		log_event(LOG_ERROR, "history_refused",
			  LOG_FIELDS(log_text("file", h->path),
				     log_text("error", error)),
			  "starting without history: %s%s", error,
			  loading.is_in_place ? "; the file stays" : "");
}

void handover_note_serving(struct handover *h)
{
	h->has_served = true;
	/* Even if the note is lost, the file is gone, unless memory was
	 * missing. */
	(void)lockfile_write(&h->lock, LOCKFILE_SERVING, 0);
}

void handover_note_draining(struct handover *h)
{
	(void)lockfile_write(&h->lock, LOCKFILE_DRAINING, 0);
}

static int save_file(struct handover *h, struct registry *r, size_t *topics,
		     char error[static HISTORY_FILE_ERROR_MAX])
{
	uint64_t now_ms = history_file_now_ms();

	if (!lockfile_keep(&h->lock)) {
		snprintf(error, HISTORY_FILE_ERROR_MAX,
			 "another isimud has %s now", h->path);
		return UV_EBUSY;
	}
	/* The note first: without it the next process would take the file for
	 * one from before our life. */
	int rv = lockfile_write(&h->lock, LOCKFILE_SAVED, now_ms);
	if (rv == 0)
		return history_file_save(r, h->path, now_ms, topics, error);
	snprintf(error, HISTORY_FILE_ERROR_MAX, "can't write %s.lock: %s",
		 h->path, uv_strerror(rv));
	return rv;
}

void handover_save(struct handover *h, struct registry *r)
{
	char error[HISTORY_FILE_ERROR_MAX];
	size_t topics;

	/* A file that could not be read is still good if nobody was served
	 * since. */
	if (h->path != NULL && (h->has_read || h->has_served)) {
		if (save_file(h, r, &topics, error) == 0)
			log_event(LOG_INFO, "history_saved",
				  LOG_FIELDS(log_number("topics", topics)),
				  "saved the history of %zu topics", topics);
		else
			log_event(LOG_ERROR, "history_lost",
				  LOG_FIELDS(log_text("file", h->path)),
				  "the history is lost: %s", error);
	}
	lockfile_release(&h->lock);
}
