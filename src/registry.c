/* registry.c - shards of chained hash tables, keyed with SipHash.
 *
 * A topic is freed only under its shard's write lock, so whoever holds the read
 * lock may use any topic of the shard. */
#include "registry.h"

#include "check.h"
#include "memory.h"
#include "siphash.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define SHARDS      64 /* a power of two */
#define BUCKETS_MIN 16 /* a power of two */

/* A worker in a topic. Guarded by the topic's lock. */
struct slot {
	void *member; /* NULL: that worker has no subscriber */
	uint64_t subscribers;
	uint64_t posted; /* messages posted for `member` */
};

struct topic {
	struct topic *next; /* Guarded by the shard's lock */
	uint64_t hash;      /* Immutable, as are the key and its lengths */
	struct span publisher;
	struct span name;
	uv_mutex_t lock;
	/* Guarded by `lock`. */
	uint64_t sequence;
	uint64_t subscribers; /* on all workers */
	struct slot slots[];  /* one for each worker; then the key's bytes */
};

struct shard {
	_Alignas(64) uv_rwlock_t lock;
	/* Guarded by `lock`. */
	struct topic **buckets; /* NULL while there never was a topic */
	size_t buckets_count;   /* a power of two */
	size_t topics;
	uint64_t sequence_base; /* no topic gone had a higher number */
};

struct registry {
	struct siphash_key key;
	struct mailbox *const *mailboxes;
	unsigned workers;
	struct shard shards[SHARDS];
};

/* Hashes both parts with their border, in two passes: the second is keyed by
 * the first, so no pair of parts can be mistaken for another. */
static uint64_t hash_of(const struct registry *r, const struct topic_key *key)
{
	struct siphash_key second = r->key;
	second.k0 ^= siphash(&r->key, key->publisher.bytes, key->publisher.len);
	return siphash(&second, key->name.bytes, key->name.len);
}

static struct shard *shard_of(struct registry *r, uint64_t hash)
{
	return &r->shards[hash & (SHARDS - 1)];
}

static struct topic **bucket_of(const struct shard *s, uint64_t hash)
{
	return &s->buckets[hash / SHARDS & (s->buckets_count - 1)];
}

/* uv_rwlock_init() makes a lock that prefers readers: under steady publishing
 * subscribers could wait for ever. uv_rwlock_t is a pthread_rwlock_t (libuv:
 * unix.h). */
static void init_lock(uv_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;
	CHECK(pthread_rwlockattr_init(&attr) == 0);
	CHECK(pthread_rwlockattr_setkind_np(
		      &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) ==
	      0);
	CHECK(pthread_rwlock_init(lock, &attr) == 0);
	pthread_rwlockattr_destroy(&attr);
}

int registry_new(struct registry **out, struct mailbox *const *mailboxes,
		 unsigned workers)
{
	struct registry *r =
		aligned_alloc(_Alignof(struct registry), sizeof *r);
	if (r == NULL)
		return UV_ENOMEM;
	memset(r, 0, sizeof *r);
	if (getrandom(&r->key, sizeof r->key, 0) != (ssize_t)sizeof r->key) {
		free(r);
		return UV_EIO;
	}
	r->mailboxes = mailboxes;
	r->workers = workers;
	for (unsigned i = 0; i < SHARDS; i++)
		init_lock(&r->shards[i].lock);
	*out = r;
	return 0;
}

void registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		CHECK(r->shards[i].topics == 0);
		free(r->shards[i].buckets);
		uv_rwlock_destroy(&r->shards[i].lock);
	}
	free(r);
}

static struct topic *find_locked(const struct shard *s, uint64_t hash,
				 const struct topic_key *key)
{
	if (s->topics == 0)
		return NULL;
	struct topic *t = *bucket_of(s, hash);
	while (t != NULL &&
	       (t->hash != hash || !span_equal(t->publisher, key->publisher) ||
		!span_equal(t->name, key->name)))
		t = t->next;
	return t;
}

/* Moves all topics to a table of `count` buckets. Without memory the old one
 * stays: chains are then longer, or the table larger, than need be. */
static void resize_locked(struct shard *s, size_t count)
{
	struct topic **old = s->buckets;
	size_t old_count = s->buckets_count;
	struct topic **buckets = calloc(count, sizeof(struct topic *));
	if (buckets == NULL)
		return;
	s->buckets = buckets;
	s->buckets_count = count;
	for (size_t i = 0; i < old_count; i++) {
		for (struct topic *t = old[i], *next; t != NULL; t = next) {
			struct topic **bucket = bucket_of(s, t->hash);
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

static size_t topic_size(const struct registry *r, const struct topic_key *key)
{
	return sizeof(struct topic) + r->workers * sizeof(struct slot) +
	       key->publisher.len + key->name.len;
}

static struct topic *topic_new(const struct registry *r, uint64_t hash,
			       const struct topic_key *key)
{
	struct topic *t = calloc(1, topic_size(r, key));
	if (t == NULL)
		return NULL;
	if (uv_mutex_init(&t->lock) != 0) {
		free(t);
		return NULL;
	}
	memory_charge(topic_size(r, key));
	char *at = (char *)(t->slots + r->workers);
	t->hash = hash;
	t->publisher = copy_key(&at, key->publisher);
	t->name = copy_key(&at, key->name);
	return t;
}

static struct topic *insert_locked(struct registry *r, struct shard *s,
				   uint64_t hash, const struct topic_key *key)
{
	if (s->topics >= s->buckets_count)
		resize_locked(s, s->buckets_count == 0 ? BUCKETS_MIN
						       : 2 * s->buckets_count);
	if (s->buckets_count == 0)
		return NULL;
	struct topic *t = topic_new(r, hash, key);
	if (t == NULL)
		return NULL;
	struct topic **bucket = bucket_of(s, hash);
	t->sequence = s->sequence_base;
	t->next = *bucket;
	*bucket = t;
	s->topics++;
	return t;
}

static void remove_locked(const struct registry *r, struct shard *s,
			  struct topic *t)
{
	struct topic_key key = {t->publisher, t->name};
	struct topic **at = bucket_of(s, t->hash);
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	s->topics--;
	if (s->sequence_base < t->sequence)
		s->sequence_base = t->sequence;
	uv_mutex_destroy(&t->lock);
	memory_credit(topic_size(r, &key));
	free(t);
	if (s->buckets_count > BUCKETS_MIN && s->topics < s->buckets_count / 8)
		resize_locked(s, s->buckets_count / 2);
}

/* Adds a subscriber to a topic whose shard is locked either way. */
static int enter(struct topic *t, unsigned worker, void **member,
		 uint64_t *since)
{
	struct slot *slot = &t->slots[worker];
	int rv = 0;

	uv_mutex_lock(&t->lock);
	if (slot->member == NULL && *member == NULL) {
		rv = UV_ENOENT;
	} else {
		if (slot->member == NULL)
			*slot = (struct slot){.member = *member};
		*member = slot->member;
		slot->subscribers++;
		t->subscribers++;
		*since = t->sequence;
	}
	uv_mutex_unlock(&t->lock);
	return rv;
}

int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, void **member, uint64_t *since,
		  struct topic **out)
{
	uint64_t hash = hash_of(r, key);
	struct shard *s = shard_of(r, hash);
	int rv;

	uv_rwlock_rdlock(&s->lock);
	*out = find_locked(s, hash, key);
	rv = *out == NULL ? UV_ENOENT : enter(*out, worker, member, since);
	uv_rwlock_rdunlock(&s->lock);
	if (rv == 0 || *member == NULL)
		return rv;

	uv_rwlock_wrlock(&s->lock);
	*out = find_locked(s, hash, key);
	if (*out == NULL)
		*out = insert_locked(r, s, hash, key);
	rv = *out == NULL ? UV_ENOMEM : enter(*out, worker, member, since);
	uv_rwlock_wrunlock(&s->lock);
	return rv;
}

/* Returns whether it was the worker's last; `*is_unused`: anybody's last. */
static bool exit_topic(struct topic *t, unsigned worker, uint64_t *posted,
		       bool *is_unused)
{
	struct slot *slot = &t->slots[worker];

	uv_mutex_lock(&t->lock);
	CHECK(slot->subscribers > 0);
	bool is_last = --slot->subscribers == 0;
	if (is_last) {
		*posted = slot->posted;
		slot->member = NULL;
	}
	*is_unused = --t->subscribers == 0;
	uv_mutex_unlock(&t->lock);
	return is_last;
}

bool registry_leave(struct registry *r, struct topic *t, unsigned worker,
		    uint64_t *posted)
{
	struct shard *s = shard_of(r, t->hash);
	bool is_unused;

	/* The write lock at once: were it taken only for the last subscriber,
	 * somebody else could free the topic between the two locks. */
	uv_rwlock_wrlock(&s->lock);
	bool is_last = exit_topic(t, worker, posted, &is_unused);
	if (is_unused)
		remove_locked(r, s, t);
	uv_rwlock_wrunlock(&s->lock);
	return is_last;
}

static bool has_room(const struct registry *r, const struct topic *t,
		     size_t size)
{
	for (unsigned w = 0; w < r->workers; w++)
		if (t->slots[w].member != NULL &&
		    !mailbox_has_room(r->mailboxes[w], size))
			return false;
	return true;
}

/* Posts `m` to every worker of `t`; takes the caller's reference. */
static void post_locked(struct registry *r, struct topic *t, struct message *m)
{
	unsigned workers = 0;

	for (unsigned w = 0; w < r->workers; w++)
		workers += t->slots[w].member != NULL;
	if (workers > 1)
		message_ref(m, workers - 1);
	for (unsigned w = 0; workers > 0; w++) {
		struct slot *slot = &t->slots[w];
		if (slot->member == NULL)
			continue;
		slot->posted++;
		workers--;
		mailbox_post_message(r->mailboxes[w], slot->member, m);
	}
}

int registry_publish(struct registry *r, const struct topic_key *key,
		     struct message *m, struct registry_receipt *receipt)
{
	uint64_t hash = hash_of(r, key);
	struct shard *s = shard_of(r, hash);
	bool is_posted = false;
	int rv = 0;

	*receipt = (struct registry_receipt){0};
	uv_rwlock_rdlock(&s->lock);
	struct topic *t = find_locked(s, hash, key);
	if (t != NULL) {
		uv_mutex_lock(&t->lock);
		if (!has_room(r, t, m->size)) {
			rv = UV_ENOBUFS;
		} else if (t->subscribers > 0) {
			m->sequence = ++t->sequence;
			receipt->sequence = m->sequence;
			receipt->subscribers = t->subscribers;
			post_locked(r, t, m);
			is_posted = true;
		}
		uv_mutex_unlock(&t->lock);
	}
	uv_rwlock_rdunlock(&s->lock);
	if (!is_posted)
		message_unref(m, 1);
	return rv;
}

size_t registry_topics(struct registry *r)
{
	size_t topics = 0;
	for (unsigned i = 0; i < SHARDS; i++) {
		uv_rwlock_rdlock(&r->shards[i].lock);
		topics += r->shards[i].topics;
		uv_rwlock_rdunlock(&r->shards[i].lock);
	}
	return topics;
}
