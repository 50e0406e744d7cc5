/* idempotency.h - the answers to publishers' requests that have an idempotency
 * key.
 *
 * A publisher that does not know whether its request was served sends it again
 * with the same Idempotency-Key (draft-ietf-httpapi-idempotency-key-header),
 * and gets the first answer instead of a second publication. Answers are kept
 * for some time, within a number of bytes: beyond it the oldest are dropped.
 *
 * The table has stripes, each with a lock, which is held from
 * idempotency_begin() to idempotency_end(): requests with the same key are
 * served one after the other, others rarely wait. So the work in between must
 * be short, wait for no client, and begin no second request. Threads: any. Lock
 * order: base/lock.h; a thread holds one stripe at most. */
#ifndef ISIMUD_TOPICS_IDEMPOTENCY_H
#define ISIMUD_TOPICS_IDEMPOTENCY_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/span.h"
#include "topics/registry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idempotency; /* opaque */

/* `ttl_ms` (up to a day), `max_bytes`: how long, and how much in all (struct
 * and bookkeeping included); 0: nothing is kept. Returns 0 and `*out`;
 * UV_ENOMEM, or UV_EIO if the kernel has no random bytes. */
int idempotency_new(struct idempotency **out, uint64_t ttl_ms,
		    size_t max_bytes);

/* No request may be under way. NULL is fine. */
void idempotency_free(struct idempotency *all);

#define RECEIPT_MAX 96 /* bytes */

/* Writes what a publishing request is answered: one receipt, as
 * {"id":"EPOCH-SEQ","subscribers":N}, or an array of them. The first empties
 * `out` and makes room for `count` receipts, so that the others can't fail; it
 * returns 0 or UV_ENOMEM. */
int receipt_list_begin(struct buf *out, size_t count, bool is_array);
void receipt_list_add(struct buf *out, uint64_t epoch,
		      const struct registry_receipt *receipt);
void receipt_list_end(struct buf *out, bool is_array);

/* Bytes that a list of `count` has at most. */
size_t receipt_list_max(size_t count);

/* One request that has a key. */
struct idempotency_request {
	uint8_t id[DIGEST_SHA256_BYTES];      /* of publisher and key */
	uint8_t content[DIGEST_SHA256_BYTES]; /* of what it asks for */
};

/* Makes the digests; what belongs to one part is never taken for another's. An
 * absent part is as an empty one. `target` and `content` together are what the
 * request asks for. */
void idempotency_identify(struct idempotency_request *request,
			  struct span publisher, struct span key,
			  struct span target, struct span content);

/* Begins a request. Returns
 *   0          a new one: the calling thread must end it with
 * idempotency_end(); until then any other with the same id waits in this call
 *   UV_EEXIST  `*receipt` (emptied first) receives the first answer
 *   UV_EINVAL  the key was used for another content
 *   UV_ENOMEM  no memory to keep an answer of `len_max` bytes in; or there is
 *              an answer, but no room in `*receipt`
 * and nothing is to be ended in the latter cases. `now_ms`: any clock that does
 * not go back. */
int idempotency_begin(struct idempotency *all,
		      const struct idempotency_request *request,
		      uint64_t now_ms, size_t len_max, struct buf *receipt);

/* Ends a request that began. `receipt`, of up to the `len_max` it began with,
 * is kept, for which there is always memory; but not if it is larger than all
 * that may be kept. Absent: the request failed, and may be tried again. */
void idempotency_end(struct idempotency *all,
		     const struct idempotency_request *request, uint64_t now_ms,
		     struct span receipt);

/* Drops answers that are too old; call it every second or so. (Requests drop
 * them too, but only in their own stripe.) */
void idempotency_age(struct idempotency *all, uint64_t now_ms);

/* How many there are, and what they take; the latter is above `max_bytes` only
 * for a moment, while a thread makes room. Takes no lock. */
size_t idempotency_count(const struct idempotency *all);
size_t idempotency_bytes(const struct idempotency *all);

#endif
