/* registry.c - the table: shards of chained hash tables, keyed with SipHash.
 *
 * A topic is freed only under its shard's write lock, so whoever holds the read
 * lock may use any topic of the shard. */
#include "topics/table.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>
#include <sys/random.h>

#define BUCKET_BITS_MIN 4
#define NS_PER_MS       1000000
/* Part of history_bytes that further forms of kept messages may take
 * besides. */
#define FORMS_PART 8

uint64_t registry_epoch(const struct registry *r)
{
	return atomic_load_explicit(&r->epoch, memory_order_relaxed);
}

struct topic_key registry_key_of(const struct topic *t)
{
	return (struct topic_key){t->publisher, t->name};
}

uint64_t registry_applied(const struct registry *r)
{
	return atomic_load_explicit(&r->applied, memory_order_acquire);
}

void registry_reach(struct registry *r, uint64_t number)
{
	atomic_store_explicit(&r->applied, number, memory_order_release);
}

/* Hashes both parts, in two passes: the hash of the first keys the second, so
 * that no other pair of parts has the same input. */
uint64_t registry_hash(const struct registry *r, const struct topic_key *key)
{
	struct siphash_key second = r->key;
	second.k0 ^= siphash(&r->key, key->publisher.bytes, key->publisher.len);
	return siphash(&second, key->name.bytes, key->name.len);
}

static struct topic **topic_bucket(const struct registry_shard *s,
				   uint64_t hash)
{
	return &s->buckets[hash >> (64 - s->bucket_bits)];
}

/* --- topics -------------------------------------------------------------- */

struct topic *registry_find_locked(const struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key)
{
	CHECK_HOLDS(&s->lock);
	if (s->topics == 0)
		return NULL;
	struct topic *t = *topic_bucket(s, hash);
	while (t != NULL &&
	       (t->hash != hash || !span_equal(t->publisher, key->publisher) ||
		!span_equal(t->name, key->name)))
		t = t->next;
	return t;
}

/* Moves all topics to a table of 2^bits buckets. Without memory the old table
 * stays: its chains are longer, or it is larger, than need be. */
static void resize_locked(struct registry_shard *s, unsigned bits)
{
	CHECK_HOLDS_FOR_WRITING(&s->lock);
	struct topic **old = s->buckets;
	size_t old_count = old == NULL ? 0 : (size_t)1 << s->bucket_bits;
	struct topic **buckets =
		calloc((size_t)1 << bits, sizeof(struct topic *));
	if (buckets == NULL)
		return;
	s->buckets = buckets;
	s->bucket_bits = bits;
	for (size_t i = 0; i < old_count; i++) {
		for (struct topic *t = old[i], *next; t != NULL; t = next) {
			struct topic **bucket = topic_bucket(s, t->hash);
			next = t->next;
			t->next = *bucket;
			*bucket = t;
		}
	}
	free(old);
}

static struct span copy_key(char **at, struct span part)
{
	struct span copy = {*at, part.len};
	if (part.len > 0)
		memcpy(*at, part.bytes, part.len);
	*at += part.len;
	return copy;
}

size_t registry_topic_size(const struct registry *r,
			   const struct topic_key *key)
{
	return sizeof(struct topic) +
	       r->options.workers * sizeof(struct registry_slot) +
	       key->publisher.len + key->name.len;
}

static struct topic *topic_new(const struct registry *r, uint64_t hash,
			       const struct topic_key *key)
{
	size_t size = registry_topic_size(r, key);
	struct topic *t = calloc(1, size);
	if (t == NULL)
		return NULL;
	if (lock_init_short(&t->lock, LOCK_TOPIC) != 0) {
		free(t);
		return NULL;
	}
	memory_charge(size);
	char *at = (char *)(t->slots + r->options.workers);
	t->hash = hash;
	t->publisher = copy_key(&at, key->publisher);
	t->name = copy_key(&at, key->name);
	list_init(&t->by_use);
	list_init(&t->holding);
	return t;
}

static void topic_free(const struct registry *r, struct topic *t)
{
	struct topic_key key = registry_key_of(t);

	lock_fini(&t->lock);
	memory_credit(registry_topic_size(r, &key));
	free(t);
}

struct topic *registry_insert_locked(struct registry *r,
				     struct registry_shard *s, uint64_t hash,
				     const struct topic_key *key)
{
	CHECK_HOLDS_FOR_WRITING(&s->lock);
	if (s->buckets == NULL)
		resize_locked(s, BUCKET_BITS_MIN);
	else if (s->topics >> s->bucket_bits > 0)
		resize_locked(s, s->bucket_bits + 1);
	if (s->buckets == NULL)
		return NULL;
	struct topic *t = topic_new(r, hash, key);
	if (t == NULL)
		return NULL;
	struct topic **bucket = topic_bucket(s, hash);
	t->sequence =
		atomic_load_explicit(&s->sequence_base, memory_order_relaxed);
	t->dropped = t->sequence;
	t->epoch = registry_epoch(r);
	t->next = *bucket;
	*bucket = t;
	s->topics++;
	return t;
}

size_t registry_remove_locked(const struct registry *r,
			      struct registry_shard *s, struct topic *t)
{
	CHECK_HOLDS_FOR_WRITING(&s->lock);
	struct topic **at = topic_bucket(s, t->hash);
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	s->topics--;
	/* Nobody counts it up meanwhile: that needs the read lock. */
	uint64_t last = r->options.is_log ? t->dropped : t->sequence;
	if (s->sequence_base < last)
		s->sequence_base = last;
	topic_free(r, t);
	if (s->bucket_bits == BUCKET_BITS_MIN ||
	    s->topics >> (s->bucket_bits - 3) > 0)
		return 0;
	resize_locked(s, s->bucket_bits - 1);
	return s->topics;
}

/* --- all of it ----------------------------------------------------------- */

static void set_options(struct registry *r,
			const struct registry_options *options)
{
	const uint64_t longest = INT64_MAX / NS_PER_MS;
	uint64_t ttl_ms = options->history_ttl_ms;

	r->options = *options;
	r->ttl_ns = (ttl_ms < longest ? ttl_ms : longest) * NS_PER_MS;
	r->has_history = options->history_size > 0 && ttl_ms > 0 &&
			 options->history_bytes > 0;
	message_bound_forms(options->history_bytes / FORMS_PART);
}

static int fill_random(void *bytes, size_t len)
{
	return getrandom(bytes, len, 0) == (ssize_t)len ? 0 : UV_EIO;
}

int registry_new(struct registry **out, const struct registry_options *options)
{
	struct registry *r =
		aligned_alloc(_Alignof(struct registry), sizeof *r);
	if (r == NULL)
		return UV_ENOMEM;
	uint64_t epoch;
	memset(r, 0, sizeof *r);
	if (fill_random(&r->key, sizeof r->key) != 0 ||
	    fill_random(&epoch, sizeof epoch) != 0 ||
	    lock_init(&r->by_use_lock, LOCK_LEAF) != 0) {
		free(r);
		return UV_EIO;
	}
	atomic_init(&r->epoch, epoch);
	set_options(r, options);
	list_init(&r->by_use);
	list_append(&r->by_use, &r->border);
	list_init(&r->unused);
	list_init(&r->holding);
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++)
		CHECK(rwlock_init(&r->shards[i].lock, LOCK_SHARD) == 0);
	*out = r;
	return 0;
}

/* Nobody else uses it any more, so no lock is taken and no sum kept. */
static void free_shard(const struct registry *r, struct registry_shard *s)
{
	for (size_t b = 0; s->topics > 0 && b >> s->bucket_bits == 0; b++) {
		for (struct topic *t = s->buckets[b], *next; t != NULL;
		     t = next) {
			next = t->next;
			CHECK(t->subscribers == 0);
			registry_ring_drop(&t->ring);
			registry_ring_fini(&t->ring);
			topic_free(r, t);
		}
	}
	free(s->buckets);
	rwlock_fini(&s->lock);
}

void registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++)
		free_shard(r, &r->shards[i]);
	lock_fini(&r->by_use_lock);
	free(r);
}
