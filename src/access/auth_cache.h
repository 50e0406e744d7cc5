/* auth_cache.h - who may subscribe: what is being asked, and what is
 * remembered.
 *
 * One table for all workers. The first worker that wants to know something asks
 * the authority (auth.h); others that want to know the same meanwhile wait for
 * its answer. A yes can be kept for some time, no other answer is. Bounded by
 * the checks that may be under way, by the queue of those that wait for their
 * turn, and by the yeses that are kept, of which the oldest go first; all of it
 * is charged to memory.h.
 * Threads: any. Its lock is a leaf: no other is taken while it is held, and
 * mailbox_post_note() comes after. */
#ifndef ISIMUD_ACCESS_AUTH_CACHE_H
#define ISIMUD_ACCESS_AUTH_CACHE_H

#include "base/digest.h"
#include "topics/mailbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum auth_answer {
	AUTH_YES,       /* the status code was 2xx */
	AUTH_NO,        /* any but these, redirects included */
	AUTH_FORBIDDEN, /* 403 */
	AUTH_AWAY,      /* 5xx or 429: an outage says nothing of the client */
	AUTH_FAILED,    /* no connection, no answer in time, not HTTP */
	AUTH_BUSY,      /* its turn has not come in time */
};

struct auth_cache; /* opaque */

struct auth_cache_options {
	unsigned checks_max; /* > 0; under way at once */
	unsigned queue_max;  /* more that wait for their turn */
	uint64_t ttl_ms;     /* a yes is kept for so long; 0: it is not */
	size_t entries_max;  /* yeses kept; 0: none */
	/* [w] of worker w; they outlive the table. */
	struct mailbox *const *mailboxes;
};

/* Returns 0 and `*out`, UV_ENOMEM, or UV_EIO without the kernel's random
 * source. */
int auth_cache_new(struct auth_cache **out,
		   const struct auth_cache_options *options);

/* Nothing may be asked any more. NULL is fine. */
void auth_cache_free(struct auth_cache *v);

/* What is asked: a digest of everything that the answer may depend on. */
struct auth_cache_id {
	uint8_t bytes[DIGEST_SHA256_BYTES];
};

/* Tells a worker, by its mailbox, what the worker that asked has learnt, or
 * that its turn to ask has come. A heap block, made when the worker began to
 * wait, and the worker's to free() when it finds it in its mail. */
struct auth_cache_note {
	struct mailbox_note note; /* the first member */
	struct auth_cache_id id;
	bool is_turn; /* to ask; else `answer` is there */
	enum auth_answer answer;
	unsigned worker; /* that waits */
};

#define AUTH_CACHE_QUEUED 1

/* Returns
 *   AUTH_CACHE_QUEUED
 *               the caller is to ask, but only once a struct auth_cache_note
 * has come that says so; until then it may auth_cache_leave_queue() or
 *               auth_cache_expire()
 *   0           nobody asks yet: the caller must, and then end it by exactly
 *               one auth_cache_answer(), or a auth_cache_give_up() that is
 * granted UV_EALREADY a yes is remembered UV_EAGAIN   another worker asks: a
 * struct auth_cache_note will be posted to the mailbox of `worker` UV_EBUSY the
 * queue is full UV_ENOMEM A worker that asks or waits must not call this again
 * for the same id before it knows. `now_ms`: uv_hrtime() in ms. */
int auth_cache_ask(struct auth_cache *v, const struct auth_cache_id *id,
		   unsigned worker, uint64_t now_ms);

/* What came of it; posts to all that wait. The caller may still be queued. */
void auth_cache_answer(struct auth_cache *v, const struct auth_cache_id *id,
		       enum auth_answer answer, uint64_t now_ms);

/* The caller, who asks, would rather not: nobody of its own waits any more.
 * Returns whether it may stop; if not, another worker waits, and it must go on
 * to auth_cache_answer(). */
bool auth_cache_give_up(struct auth_cache *v, const struct auth_cache_id *id);

/* For one that is queued: the caller would rather not. Returns false, with
 * nothing changed, if another worker waits, or its turn has come and the note
 * is on its way. */
bool auth_cache_leave_queue(struct auth_cache *v,
			    const struct auth_cache_id *id);

/* The same, but whoever waits is told AUTH_BUSY: false only if its turn has
 * come. */
bool auth_cache_expire(struct auth_cache *v, const struct auth_cache_id *id);

/* A hash of `id` that no client can foresee, for a caller's own table: clients
 * can try tokens until the digests' own bytes collide. Takes no lock. */
uint64_t auth_cache_hash(const struct auth_cache *v,
			 const struct auth_cache_id *id);

/* Checks under way, checks queued, and yeses kept; those that have expired
 * count until they are dropped, a few at each call above. Takes no lock. */
size_t auth_cache_asked(const struct auth_cache *v);
size_t auth_cache_queued(const struct auth_cache *v);
size_t auth_cache_kept(const struct auth_cache *v);

#endif
