/* auth_cache.h - who may subscribe: checks under way, and the cache of yeses.
 *
 * A cache and single flight for all workers. The first worker that needs an
 * answer asks the authority (auth.h); workers that need the same answer wait
 * for it. Only a yes is cached. Three limits bound the table: checks under way,
 * checks queued, and yeses cached, of which the oldest are evicted first. All
 * of it is charged to memory.h. Threads: any. Its lock is a leaf: no other is
 * taken while it is held, and mailbox_post_note() comes after. */
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
	uint64_t ttl_ms;     /* how long a yes is cached; 0: not at all */
	size_t entries_max;  /* yeses cached; 0: none */
	/* [w] of worker w; they outlive the table. */
	struct mailbox *const *mailboxes;
};

/* Returns 0 and `*out`, UV_ENOMEM, or UV_EIO without the kernel's random
 * source. */
int auth_cache_new(struct auth_cache **out,
		   const struct auth_cache_options *options);

/* Nothing may be asked any more. NULL is fine. */
void auth_cache_free(struct auth_cache *cache);

/* What is asked: a digest of everything that the answer may depend on. */
struct auth_cache_id {
	uint8_t bytes[DIGEST_SHA256_BYTES];
};

/* Tells a waiting worker the answer, or that its turn to ask has come. It is a
 * heap block, made when the worker began to wait; the worker frees it when it
 * takes it from its mailbox. */
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
 *               the caller must ask once a struct auth_cache_note with
 * `is_turn` comes; until then it may call auth_cache_leave_queue() or
 *               auth_cache_expire()
 *   0           the caller must ask now, and end the check by one
 *               auth_cache_answer(), or by a auth_cache_give_up() that returns
 * true UV_EALREADY a yes is cached UV_EAGAIN   another worker asks: a struct
 * auth_cache_note will be posted to the mailbox of `worker` UV_EBUSY    the
 * queue is full UV_ENOMEM A worker that asks or waits must not call this again
 * for the same id before it has the answer. `now_ms`: uv_hrtime() in ms. */
int auth_cache_ask(struct auth_cache *cache, const struct auth_cache_id *id,
		   unsigned worker, uint64_t now_ms);

/* Ends a check with its answer, and posts it to all workers that wait. The
 * caller may still be queued. */
void auth_cache_answer(struct auth_cache *cache, const struct auth_cache_id *id,
		       enum auth_answer answer, uint64_t now_ms);

/* Cancels a check that the caller has begun. Returns false if another worker
 * waits for it: then the caller must go on to auth_cache_answer(). */
bool auth_cache_give_up(struct auth_cache *cache,
			const struct auth_cache_id *id);

/* Takes a queued check out of the queue. Returns false, with nothing changed,
 * if another worker waits for it, or if its turn has come and the note is on
 * its way. */
bool auth_cache_leave_queue(struct auth_cache *cache,
			    const struct auth_cache_id *id);

/* The same, but other workers that wait are told AUTH_BUSY. Returns false only
 * if its turn has come. */
bool auth_cache_expire(struct auth_cache *cache,
		       const struct auth_cache_id *id);

/* A keyed hash of `id`, for a caller's own table. Clients can't foresee it, but
 * could try tokens until bytes of the digests collide. Takes no lock. */
uint64_t auth_cache_hash(const struct auth_cache *cache,
			 const struct auth_cache_id *id);

/* Checks under way, checks queued, and yeses cached. A yes that has expired
 * counts until it is dropped; each call above drops a few. Takes no lock. */
size_t auth_cache_asked(const struct auth_cache *cache);
size_t auth_cache_queued(const struct auth_cache *cache);
size_t auth_cache_kept(const struct auth_cache *cache);

#endif
