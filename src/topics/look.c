/* look.c - calls back for topics: one, a page of them, or all. */
#include "topics/table.h"

#include "base/check.h"

#include <stdlib.h>

#define LIMIT_MAX 1000
/* Topics and buckets looked at for a page: a millisecond or two. */
#define SCAN_MAX 16384

/* --- telling ------------------------------------------------------------- */

static void reverse(struct message **messages, uint32_t count)
{
	for (uint32_t i = 0; i < count / 2; i++) {
		struct message *m = messages[i];
		messages[i] = messages[count - 1 - i];
		messages[count - 1 - i] = m;
	}
}

/* Turns the array so that the oldest comes first. */
static void straighten(struct registry_ring *ring)
{
	if (ring->head == 0)
		return;
	reverse(ring->messages, ring->head);
	reverse(ring->messages + ring->head, ring->cap - ring->head);
	reverse(ring->messages, ring->cap);
	ring->head = 0;
}

/* The shard is locked, either way. */
static int tell(const struct registry *r, struct topic *t, uint64_t now_ns,
		registry_visit_cb visit, void *user)
{
	struct registry_ring *ring = &t->ring;

	lock_acquire(&t->lock);
	straighten(ring);
	uint32_t first = registry_first(r, ring, now_ns);
	struct registry_topic topic = {
		.key = registry_key_of(t),
		.sequence = t->sequence,
		.subscribers = t->subscribers,
		.used_ns = t->is_listed ? t->used_ns : now_ns,
		.messages_count = ring->count - first,
	};
	if (topic.messages_count > 0)
		topic.messages = ring->messages + first;
	int rv = visit(user, &topic);
	lock_release(&t->lock);
	return rv;
}

size_t registry_topics(struct registry *r)
{
	size_t topics = 0;
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		rwlock_read_acquire(&r->shards[i].lock);
		topics += r->shards[i].topics;
		rwlock_read_release(&r->shards[i].lock);
	}
	return topics;
}

int registry_find(struct registry *r, const struct topic_key *key,
		  registry_visit_cb visit, void *user)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);
	int rv = UV_ENOENT;

	rwlock_read_acquire(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	if (t != NULL)
		rv = tell(r, t, uv_hrtime(), visit, user);
	rwlock_read_release(&s->lock);
	return rv;
}

/* --- pages --------------------------------------------------------------- */

/* A topic's place in the order of all topics: its hash, with the shard's bits
 * in front. Equal hashes are as good as impossible: among a million topics two
 * are equal once in 10^8 registries. */
static uint64_t place_of_hash(uint64_t hash)
{
	return hash << (64 - REGISTRY_SHARD_BITS) | hash >> REGISTRY_SHARD_BITS;
}

static uint64_t first_place(uint64_t shard)
{
	return shard << (64 - REGISTRY_SHARD_BITS);
}

struct page {
	struct span publisher;
	registry_visit_cb visit;
	void *user;
	uint64_t now_ns;
	uint64_t from; /* places below it are done */
	unsigned topics_left;
	unsigned scans_left;
};

/* The first from `from` on in a bucket, which has about one. */
static struct topic *next_in_bucket(struct topic *bucket, uint64_t from)
{
	struct topic *first = NULL;
	for (struct topic *t = bucket; t != NULL; t = t->next)
		if (place_of_hash(t->hash) >= from &&
		    (first == NULL || t->hash < first->hash))
			first = t;
	return first;
}

static bool is_full(const struct page *p)
{
	return p->topics_left == 0 || p->scans_left == 0;
}

static int page_bucket(const struct registry *r, struct topic *bucket,
		       struct page *p)
{
	int rv = 0;
	struct topic *t;

	p->scans_left--;
	while (rv == 0 && !is_full(p) &&
	       (t = next_in_bucket(bucket, p->from)) != NULL) {
		p->scans_left--;
		if (p->publisher.bytes == NULL ||
		    span_equal(p->publisher, t->publisher)) {
			rv = tell(r, t, p->now_ns, p->visit, p->user);
			p->topics_left--;
		}
		p->from = place_of_hash(t->hash) + 1;
	}
	return rv;
}

/* The buckets of a shard are in the order of places. */
static int page_shard(const struct registry *r, const struct registry_shard *s,
		      uint64_t first, struct page *p)
{
	unsigned shift = 64 - REGISTRY_SHARD_BITS - s->bucket_bits;
	int rv = 0;

	if (s->topics == 0)
		return 0;
	uint64_t i = (p->from - first) >> shift;
	while (rv == 0 && !is_full(p) && i >> s->bucket_bits == 0) {
		rv = page_bucket(r, s->buckets[i], p);
		if (rv == 0 && !is_full(p))
			p->from = first + (++i << shift);
	}
	return rv;
}

int registry_page(struct registry *r, struct span publisher, unsigned limit,
		  uint64_t *at, registry_visit_cb visit, void *user)
{
	struct page p = {
		.publisher = publisher,
		.visit = visit,
		.user = user,
		.now_ns = uv_hrtime(),
		.from = *at,
		.topics_left = limit,
		.scans_left = SCAN_MAX,
	};
	int rv = 0;

	CHECK(limit > 0 && limit <= LIMIT_MAX);
	uint64_t i = p.from >> (64 - REGISTRY_SHARD_BITS);
	while (rv == 0 && !is_full(&p) && i < REGISTRY_SHARDS) {
		struct registry_shard *s = &r->shards[i];
		rwlock_read_acquire(&s->lock);
		rv = page_shard(r, s, first_place(i), &p);
		rwlock_read_release(&s->lock);
		if (rv == 0 && !is_full(&p))
			p.from = first_place(++i);
	}
	if (rv == 0)
		*at = p.from; /* behind the last shard that is 0 */
	return rv;
}

/* --- all, while no other thread runs ------------------------------------- */

static int visit_unlisted(struct registry *r, const struct registry_shard *s,
			  registry_visit_cb visit, void *user)
{
	uint64_t now_ns = uv_hrtime();
	int rv = 0;

	for (size_t b = 0; s->topics > 0 && b >> s->bucket_bits == 0; b++)
		for (struct topic *t = s->buckets[b]; rv == 0 && t != NULL;
		     t = t->next)
			if (!t->is_listed)
				rv = tell(r, t, now_ns, visit, user);
	return rv;
}

int registry_visit_all(struct registry *r, registry_visit_cb visit, void *user)
{
	uint64_t now_ns = uv_hrtime();
	int rv = 0;

	LIST_FOR_EACH_SAFE (it, after, &r->by_use) {
		if (it == &r->border)
			continue;
		rv = tell(r, CONTAINER_OF(it, struct topic, by_use), now_ns,
			  visit, user);
		if (rv != 0)
			return rv;
	}
	for (unsigned i = 0; rv == 0 && i < REGISTRY_SHARDS; i++)
		rv = visit_unlisted(r, &r->shards[i], visit, user);
	return rv;
}
