/* auth.h - asks AUTH_URL whether a client may subscribe.
 *
 * It runs libcurl's multi interface on the worker's own loop, and never blocks
 * it. Each worker has one `struct auth`. Equal checks that overlap are one
 * request in the process, on whatever workers they are (auth_cache.h).
 * Threads: the loop's thread for everything, auth_open() and callbacks
 * included. The process ignores SIGPIPE (TLS writes without MSG_NOSIGNAL). */
#ifndef ISIMUD_ACCESS_AUTH_H
#define ISIMUD_ACCESS_AUTH_H

#include <stdbool.h>

#include <uv.h>

#include "access/auth_cache.h"
#include "base/span.h"
#include "topics/mailbox.h"

/* Once per libcurl: call auth_global_init() before any thread starts, and
 * auth_global_fini() after the last has ended. Returns 0 or UV_ENOMEM. */
int auth_global_init(void);
void auth_global_fini(void);

struct auth;       /* Owner: the loop's thread */
struct auth_check; /* one client's check. Owner: the loop's thread */

/* Called once for each check that was not cancelled, from the loop or from
 * auth_take_note(), never from inside auth_check_start(). The check is gone
 * from here on. The callback may start and cancel checks, and close. `user` is
 * what auth_check_start() was given. */
typedef void (*auth_cb)(void *user, enum auth_answer answer);

struct auth_options {
	const char *url;     /* http or https; borrowed for life */
	unsigned timeout_ms; /* > 0; for all of a check, the time in the queue
			      * and name lookup included */
	unsigned kept_max;   /* > 0; idle connections kept. Over it, a
			      * response that no check waits for is dropped. The
			      * limit on checks under way is that of
			      * `auth_cache`. */
	struct auth_cache *auth_cache; /* borrowed for life */
	unsigned worker; /* the index of its mailbox in `auth_cache` */
};

/* Whether libcurl takes `url` as an absolute http or https URL. */
bool auth_is_url(const char *url);

/* Returns 0 and `*out`, or UV_ENOMEM or another UV_E…. */
int auth_open(struct auth **out, uv_loop_t *loop,
	      const struct auth_options *options);

/* Cancels what is under way (no callback comes; on other workers, whoever waits
 * for it gets AUTH_FAILED), and closes all handles; the memory goes in their
 * close callbacks, so the loop must run on until it has none left. A note that
 * is found in the mail afterwards is its taker's to free. NULL is fine. */
void auth_close(struct auth *a);

/* What the authority is told of the client. All is copied. No CR, LF or NUL may
 * be in it: that is a mistake of the caller's. What is absent is not sent. */
struct auth_request {
	struct span token;  /* Authorization: Bearer; token68 */
	struct span cookie; /* Cookie */
	struct span method; /* X-Forwarded-Method */
	struct span host;   /* X-Forwarded-Host */
	struct span uri; /* X-Forwarded-Uri: request target without its token */
	/* `uri` without the parameters that can't matter to an authority; not
	 * sent. */
	struct span key_uri;
	const char *peer;   /* X-Forwarded-For; "": not sent */
	const char *scheme; /* X-Forwarded-Proto; NULL: not sent */
};

/* Checks whether the client of `request` may subscribe. Checks that overlap and
 * have the same token, cookie and key_uri, byte for byte, share one request,
 * which carries the fields of the first; and a yes may be cached
 * (auth_cache.h).
 *
 * The request is GET url with an empty body. The status code decides as soon as
 * it is certain (the final head has come); what follows is never waited for,
 * but up to 16 KiB of head and body together are read, so that the connection
 * can serve another check. A head beyond that fails. No redirect is followed.
 *
 * Returns 0 and `*out`; or, with no callback to come, UV_EALREADY: a yes is
 * cached; UV_EBUSY: the limits on checks under way and on the queue are both
 * reached; UV_ENOMEM. */
int auth_check_start(struct auth *a, const struct auth_request *request,
		     auth_cb cb, void *user, struct auth_check **out);

/* Whether the check waits for a request that another one caused. */
bool auth_was_shared(const struct auth_check *check);

/* Calls `visit` with the `user` of each check whose callback is to come, as
 * long as it returns true; inside it checks must neither be started nor
 * dropped. */
void auth_visit(struct auth *a, bool (*visit)(void *user));

/* Cancels a check: its callback will not come. The request is cancelled with
 * the last check of the process that waits for it. */
void auth_check_cancel(struct auth_check *check);

/* Takes a struct auth_cache_note from the worker's mailbox, and calls back the
 * checks that waited for it. */
void auth_take_note(struct auth *a, struct mailbox_note *note);

#endif
