/* ask.h - one request, and its answer is waited for.
 *
 * Threads: the main thread; it runs a loop of its own meanwhile. */
#ifndef ISIMUD_CLI_ASK_H
#define ISIMUD_CLI_ASK_H

#include "base/buf.h"
#include "cli/client.h"

/* What came. Zeroed memory may be filled. */
struct ask_answer {
	unsigned status;
	struct buf content;     /* ends in a NUL that is not counted */
	uint64_t retry_after_s; /* 0: not said */
	char why[128]; /* after UV_EPROTO: what is wrong with the answer */
};

void ask_answer_fini(struct ask_answer *answer);

/* Several requests to one server, one at a time, over one connection as long as
 * that holds. */
struct ask;

/* NULL without memory. `to` must live as long as it. */
struct ask *ask_new(const struct url *to);
void ask_free(struct ask *a); /* NULL is fine */

/* Sends `request` and waits for its answer, for `timeout_ms` in all. A
 * connection that was kept from before, and is found closed before a byte of an
 * answer, is replaced once. Returns 0; UV_ETIMEDOUT, or another UV_E… with
 * `answer` empty, or `why` filled. */
int ask_now(struct ask *a, const struct client_request *request,
	    uint64_t timeout_ms, struct ask_answer *answer);

#endif
