/* idempotency.c - stripes of chained hash tables, keyed with SipHash, each with
 * a list of its answers by age. */
#include "topics/idempotency.h"

#include "base/check.h"
#include "base/decimal.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/siphash.h"
#include "codec/cursor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

#define STRIPES     16 /* a power of two */
#define BUCKETS_MIN 16 /* a power of two */

/* One answer. Guarded by the stripe's lock. */
struct receipt {
	struct list by_age;
	struct receipt *next; /* in its bucket */
	uint64_t hash;
	struct idempotency_request request;
	uint64_t made_ms;
	size_t len;
	char bytes[];
};

struct stripe {
	_Alignas(64) struct lock lock;
	/* Guarded by `lock`. */
	struct receipt **buckets; /* NULL while there is no answer */
	size_t buckets_count;     /* a power of two */
	size_t count;
	/* Oldest first, but that threads read the clock at different moments:
	 * one lasts as long as those before it. */
	struct list by_age;
	/* Written under `lock`, read by any: `made_ms` of the oldest, or
	 * UINT64_MAX. Atomic. */
	_Atomic uint64_t oldest_ms;
};

struct idempotency {
	struct siphash_key key; /* Immutable, as are the next two */
	uint64_t ttl_ms;
	size_t max_bytes; /* 0: nothing is kept */
	_Atomic size_t count;
	_Atomic size_t bytes; /* of answers and buckets */
	struct stripe stripes[STRIPES];
};

/* The stripe that this thread holds between begin and end: beginning a second
 * request could wait for itself for ever. */
static _Thread_local struct stripe *held;
/* Memory for the answer that `held` is held for. */
static _Thread_local struct receipt *reserved;

int idempotency_new(struct idempotency **out, uint64_t ttl_ms, size_t max_bytes)
{
	struct idempotency *all =
		aligned_alloc(_Alignof(struct idempotency), sizeof *all);
	if (all == NULL)
		return UV_ENOMEM;
	memset(all, 0, sizeof *all);
	if (getrandom(&all->key, sizeof all->key, 0) !=
	    (ssize_t)sizeof all->key) {
		free(all);
		return UV_EIO;
	}
	all->ttl_ms = ttl_ms;
	all->max_bytes = ttl_ms == 0 ? 0 : max_bytes;
	for (unsigned i = 0; i < STRIPES; i++) {
		struct stripe *s = &all->stripes[i];
		CHECK(lock_init(&s->lock, LOCK_STRIPE) == 0);
		list_init(&s->by_age);
		atomic_store(&s->oldest_ms, UINT64_MAX);
	}
	*out = all;
	return 0;
}

static void charge(struct idempotency *all, size_t bytes)
{
	atomic_fetch_add_explicit(&all->bytes, bytes, memory_order_relaxed);
	memory_charge(bytes);
}

static void credit(struct idempotency *all, size_t bytes)
{
	atomic_fetch_sub_explicit(&all->bytes, bytes, memory_order_relaxed);
	memory_credit(bytes);
}

/* --- one stripe ---------------------------------------------------------- */

static struct receipt *oldest_locked(const struct stripe *s)
{
	CHECK_HOLDS(&s->lock);
	return list_is_empty(&s->by_age)
		       ? NULL
		       : CONTAINER_OF(s->by_age.next, struct receipt, by_age);
}

static void note_oldest_locked(struct stripe *s)
{
	CHECK_HOLDS(&s->lock);
	const struct receipt *oldest = oldest_locked(s);
	atomic_store_explicit(&s->oldest_ms,
			      oldest == NULL ? UINT64_MAX : oldest->made_ms,
			      memory_order_relaxed);
}

static struct receipt **bucket_of(const struct stripe *s, uint64_t hash)
{
	return &s->buckets[hash / STRIPES & (s->buckets_count - 1)];
}

static void free_buckets_locked(struct idempotency *all, struct stripe *s)
{
	CHECK_HOLDS(&s->lock);
	credit(all, s->buckets_count * sizeof(struct receipt *));
	free(s->buckets);
	s->buckets = NULL;
	s->buckets_count = 0;
}

/* Doubles the buckets. Without memory the old ones stay, and chains are longer
 * than need be. */
static void grow_locked(struct idempotency *all, struct stripe *s)
{
	CHECK_HOLDS(&s->lock);
	size_t count =
		s->buckets_count == 0 ? BUCKETS_MIN : 2 * s->buckets_count;
	struct receipt **buckets = calloc(count, sizeof(struct receipt *));
	if (buckets == NULL)
		return;
	free_buckets_locked(all, s);
	charge(all, count * sizeof(struct receipt *));
	s->buckets = buckets;
	s->buckets_count = count;
	LIST_FOR_EACH_SAFE (it, after, &s->by_age) {
		struct receipt *r = CONTAINER_OF(it, struct receipt, by_age);
		struct receipt **bucket = bucket_of(s, r->hash);
		r->next = *bucket;
		*bucket = r;
	}
}

static void drop_locked(struct idempotency *all, struct stripe *s,
			struct receipt *r)
{
	CHECK_HOLDS(&s->lock);
	struct receipt **at = bucket_of(s, r->hash);
	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	list_remove(&r->by_age);
	note_oldest_locked(s);
	atomic_fetch_sub_explicit(&all->count, 1, memory_order_relaxed);
	credit(all, sizeof *r + r->len);
	free(r);
	if (--s->count == 0)
		free_buckets_locked(all, s);
}

static bool is_over(const struct idempotency *all, uint64_t made_ms,
		    uint64_t now_ms)
{
	return made_ms <= now_ms && now_ms - made_ms >= all->ttl_ms;
}

static void drop_old_locked(struct idempotency *all, struct stripe *s,
			    uint64_t now_ms)
{
	CHECK_HOLDS(&s->lock);
	struct receipt *r;
	while ((r = oldest_locked(s)) != NULL &&
	       is_over(all, r->made_ms, now_ms))
		drop_locked(all, s, r);
}

static struct receipt *find_locked(const struct stripe *s, uint64_t hash,
				   const struct idempotency_request *request)
{
	CHECK_HOLDS(&s->lock);
	if (s->count == 0)
		return NULL;
	struct receipt *r = *bucket_of(s, hash);
	while (r != NULL &&
	       memcmp(r->request.id, request->id, sizeof request->id) != 0)
		r = r->next;
	return r;
}

static void insert_locked(struct idempotency *all, struct stripe *s,
			  struct receipt *r)
{
	CHECK_HOLDS(&s->lock);
	struct receipt **bucket = bucket_of(s, r->hash);
	r->next = *bucket;
	*bucket = r;
	list_append(&s->by_age, &r->by_age);
	note_oldest_locked(s);
	s->count++;
	atomic_fetch_add_explicit(&all->count, 1, memory_order_relaxed);
	charge(all, sizeof *r + r->len);
}

/* Makes sure that an answer of up to `len` bytes can be kept. Returns 0 or
 * UV_ENOMEM. */
static int reserve_locked(struct idempotency *all, struct stripe *s, size_t len)
{
	CHECK_HOLDS(&s->lock);
	if (s->count >= s->buckets_count)
		grow_locked(all, s);
	if (s->buckets_count == 0)
		return UV_ENOMEM;
	reserved = malloc(sizeof *reserved + len);
	if (reserved != NULL)
		return 0;
	if (s->count == 0)
		free_buckets_locked(all, s);
	return UV_ENOMEM;
}

static bool fits(const struct idempotency *all, struct span text)
{
	return text.len <= all->max_bytes &&
	       all->max_bytes - text.len >=
		       sizeof(struct receipt) +
			       BUCKETS_MIN * sizeof(struct receipt *);
}

/* Keeps an answer, in the memory reserved. */
static void keep_locked(struct idempotency *all, struct stripe *s,
			uint64_t hash,
			const struct idempotency_request *request,
			uint64_t now_ms, struct span text)
{
	CHECK_HOLDS(&s->lock);
	struct receipt *r = realloc(reserved, sizeof *r + text.len);
	if (r == NULL) /* it only makes the block smaller, which may fail */
		r = reserved;
	r->hash = hash;
	r->request = *request;
	r->made_ms = now_ms;
	r->len = text.len;
	if (text.len > 0)
		memcpy(r->bytes, text.bytes, text.len);
	insert_locked(all, s, r);
	reserved = NULL;
}

/* Gives back what was reserved and not needed. */
static void unreserve_locked(struct idempotency *all, struct stripe *s)
{
	CHECK_HOLDS(&s->lock);
	free(reserved);
	reserved = NULL;
	if (s->count == 0)
		free_buckets_locked(all, s);
}

/* --- all stripes --------------------------------------------------------- */

static bool is_too_much(const struct idempotency *all)
{
	return idempotency_bytes(all) > all->max_bytes;
}

/* The stripe that has the oldest answer, or had it a moment ago; NULL if there
 * is none at all. */
static struct stripe *oldest_stripe(struct idempotency *all)
{
	struct stripe *oldest = NULL;
	uint64_t oldest_ms = UINT64_MAX;

	for (unsigned i = 0; i < STRIPES; i++) {
		uint64_t ms = atomic_load_explicit(&all->stripes[i].oldest_ms,
						   memory_order_relaxed);
		if (ms < oldest_ms) {
			oldest = &all->stripes[i];
			oldest_ms = ms;
		}
	}
	return oldest;
}

/* Drops the oldest answers until the rest is within max_bytes. The caller holds
 * no stripe, so it may wait for any. */
static void make_room(struct idempotency *all)
{
	struct stripe *s;

	while (is_too_much(all) && (s = oldest_stripe(all)) != NULL) {
		lock_acquire(&s->lock);
		if (is_too_much(all) && s->count > 0)
			drop_locked(all, s, oldest_locked(s));
		lock_release(&s->lock);
	}
}

void idempotency_free(struct idempotency *all)
{
	if (all == NULL)
		return;
	for (unsigned i = 0; i < STRIPES; i++) {
		struct stripe *s = &all->stripes[i];
		lock_acquire(&s->lock);
		while (s->count > 0)
			drop_locked(all, s, oldest_locked(s));
		lock_release(&s->lock);
		lock_fini(&s->lock);
	}
	free(all);
}

void idempotency_age(struct idempotency *all, uint64_t now_ms)
{
	for (unsigned i = 0; i < STRIPES; i++) {
		struct stripe *s = &all->stripes[i];
		if (!is_over(all,
			     atomic_load_explicit(&s->oldest_ms,
						  memory_order_relaxed),
			     now_ms))
			continue;
		lock_acquire(&s->lock);
		drop_old_locked(all, s, now_ms);
		lock_release(&s->lock);
	}
}

size_t idempotency_count(const struct idempotency *all)
{
	return atomic_load_explicit(&all->count, memory_order_relaxed);
}

size_t idempotency_bytes(const struct idempotency *all)
{
	return atomic_load_explicit(&all->bytes, memory_order_relaxed);
}

static char *put_literal(char *at, struct span text)
{
	memcpy(at, text.bytes, text.len);
	return at + text.len;
}

size_t receipt_list_max(size_t count)
{
	return count * (RECEIPT_MAX + 1) + 2;
}

int receipt_list_begin(struct buf *out, size_t count, bool is_array)
{
	out->len = 0;
	int rv = buf_reserve(out, receipt_list_max(count));

	if (rv == 0 && is_array)
		out->bytes[out->len++] = '[';
	return rv;
}

void receipt_list_add(struct buf *out, uint64_t epoch,
		      const struct registry_receipt *receipt)
{
	_Static_assert(CURSOR_MAX + DECIMAL_MAX + 32 <= RECEIPT_MAX,
		       "the longest receipt fits");
	char *at = out->bytes + out->len;

	if (out->len > 1) /* behind another */
		*at++ = ',';
	at = put_literal(at, SPAN("{\"id\":\""));
	at += cursor_write(at, epoch, receipt->sequence);
	at = put_literal(at, SPAN("\",\"subscribers\":"));
	at = decimal_write(at, receipt->subscribers);
	*at++ = '}';
	out->len = (size_t)(at - out->bytes);
}

void receipt_list_end(struct buf *out, bool is_array)
{
	if (is_array)
		out->bytes[out->len++] = ']';
}

/* --- requests ------------------------------------------------------------ */

/* `out` receives the digest of the digests of `a` and `b`, whose borders those
 * keep apart. */
static void digest_pair(struct span a, struct span b,
			uint8_t out[static DIGEST_SHA256_BYTES])
{
	uint8_t both[2][DIGEST_SHA256_BYTES];

	digest_sha256(a.bytes, a.len, both[0]);
	digest_sha256(b.bytes, b.len, both[1]);
	digest_sha256(both, sizeof both, out);
}

void idempotency_identify(struct idempotency_request *request,
			  struct span publisher, struct span key,
			  struct span target, struct span content)
{
	digest_pair(publisher, key, request->id);
	digest_pair(target, content, request->content);
}

static uint64_t request_hash(const struct idempotency *all,
			     const struct idempotency_request *request)
{
	return siphash(&all->key, request->id, sizeof request->id);
}

static int answer_again(const struct receipt *r,
			const struct idempotency_request *request,
			struct buf *out)
{
	if (memcmp(r->request.content, request->content,
		   sizeof request->content) != 0)
		return UV_EINVAL;
	out->len = 0;
	int rv = buf_append(out, r->bytes, r->len);
	return rv == 0 ? UV_EEXIST : rv;
}

int idempotency_begin(struct idempotency *all,
		      const struct idempotency_request *request,
		      uint64_t now_ms, size_t len_max, struct buf *receipt)
{
	if (all->max_bytes == 0)
		return 0;
	uint64_t hash = request_hash(all, request);
	struct stripe *s = &all->stripes[hash & (STRIPES - 1)];
	CHECK(held == NULL);
	lock_acquire(&s->lock);
	drop_old_locked(all, s, now_ms);
	const struct receipt *r = find_locked(s, hash, request);
	int rv = r == NULL ? reserve_locked(all, s, len_max)
			   : answer_again(r, request, receipt);
	if (rv == 0) {
		held = s;
		return 0;
	}
	lock_release(&s->lock);
	return rv;
}

void idempotency_end(struct idempotency *all,
		     const struct idempotency_request *request, uint64_t now_ms,
		     struct span receipt)
{
	if (all->max_bytes == 0)
		return;
	uint64_t hash = request_hash(all, request);
	struct stripe *s = &all->stripes[hash & (STRIPES - 1)];
	CHECK(held == s);
	if (receipt.bytes != NULL && fits(all, receipt))
		keep_locked(all, s, hash, request, now_ms, receipt);
	else
		unreserve_locked(all, s);
	held = NULL;
	lock_release(&s->lock);
	make_room(all);
}
