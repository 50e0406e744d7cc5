/* auth.h - asks AUTH_URL whether a bearer token may subscribe.
 *
 * libcurl's multi interface on the worker's own loop: it never blocks the loop,
 * whatever the authority does. One `struct auth` a worker.
 * Threads: the loop's thread for everything, auth_open() and callbacks
 * included. The process ignores SIGPIPE (TLS writes without MSG_NOSIGNAL). */
#ifndef ISIMUD_AUTH_H
#define ISIMUD_AUTH_H

#include <stdbool.h>

#include <uv.h>

#include "span.h"

enum auth_verdict {
	AUTH_YES,    /* the status code was 2xx */
	AUTH_NO,     /* any other final status code, redirects included */
	AUTH_FAILED, /* no connection, no answer in time, not HTTP */
};

/* Once per libcurl: call auth_global_init() before any thread starts, and
 * auth_global_fini() after the last has ended. Returns 0 or UV_ENOMEM. */
int auth_global_init(void);
void auth_global_fini(void);

struct auth;       /* Owner: the loop's thread */
struct auth_check; /* one check under way. Owner: the loop's thread */

/* Called once for each check that was not cancelled, from the loop, never from
 * inside auth_check_start(). The check is gone from here on. The callback may
 * start and cancel checks, and close. `user` is what auth_check_start() was
 * given. */
typedef void (*auth_cb)(void *user, enum auth_verdict verdict);

struct auth_options {
	const char *url;     /* http or https; borrowed for life */
	unsigned timeout_ms; /* > 0; for all of a check, name lookup included */
	unsigned checks_max; /* > 0; under way at once, and connections kept */
};

/* Whether libcurl takes `url` as an absolute http or https URL. */
bool auth_is_url(const char *url);

/* Returns 0 and `*out`, or UV_ENOMEM or another UV_E…. */
int auth_open(struct auth **out, uv_loop_t *loop,
	      const struct auth_options *options);

/* Cancels what is under way (no callback comes), and closes all handles; the
 * memory goes in their close callbacks, so the loop must run on until it has
 * none left. NULL is fine. */
void auth_close(struct auth *a);

/* Sends GET url, with an empty body and `Authorization: Bearer token`. `token`
 * is copied; it must be token68 (http_bearer_token). The status code decides as
 * soon as it is certain (the final head has come); what follows is never
 * waited for, but up to 16 KiB of head and body together are read, so that the
 * connection can serve another check. A head beyond that fails. No redirect is
 * followed.
 * Returns 0 and `*out`; UV_EBUSY if checks_max are under way; UV_ENOMEM. */
int auth_check_start(struct auth *a, struct span token, auth_cb cb, void *user,
		     struct auth_check **out);

/* Drops a check: its callback will not come. */
void auth_check_cancel(struct auth_check *check);

#endif
