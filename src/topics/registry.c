/* registry.c - shards of chained hash tables, keyed with SipHash; who joins a
 * topic, and who is told of a publication.
 *
 * A topic is freed only under its shard's write lock, so whoever holds the read
 * lock may use any topic of the shard. */
#include "topics/table.h"

#include "base/check.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define BUCKET_BITS_MIN 4
#define NS_PER_MS       1000000
/* Of history_bytes: what further forms of the messages kept may take besides.
 */
#define FORMS_PART 8

/* Hashes both parts with their border, in two passes: the second is keyed by
 * the first, so no pair of parts can be mistaken for another. */
uint64_t registry_hash(const struct registry *r, const struct topic_key *key)
{
	struct siphash_key second = r->key;
	second.k0 ^= siphash(&r->key, key->publisher.bytes, key->publisher.len);
	return siphash(&second, key->name.bytes, key->name.len);
}

static struct topic **bucket_of(const struct registry_shard *s, uint64_t hash)
{
	return &s->buckets[hash >> (64 - s->bucket_bits)];
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

/* Held for so short a time that to wait for it awake costs less than to sleep;
 * all publications of a topic need it. uv_mutex_t is a pthread_mutex_t (libuv:
 * unix.h). */
static int init_topic_lock(uv_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	if (pthread_mutexattr_init(&attr) != 0)
		return UV_ENOMEM;
	int rv = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	if (rv == 0)
		rv = pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return -rv;
}

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
	    uv_mutex_init(&r->by_use_lock) != 0) {
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
		init_lock(&r->shards[i].lock);
	*out = r;
	return 0;
}

void registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	registry_forget_all(r);
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		CHECK(r->shards[i].topics == 0);
		free(r->shards[i].buckets);
		uv_rwlock_destroy(&r->shards[i].lock);
	}
	uv_mutex_destroy(&r->by_use_lock);
	free(r);
}

uint64_t registry_epoch(const struct registry *r)
{
	return atomic_load_explicit(&r->epoch, memory_order_relaxed);
}

struct topic_key registry_key_of(const struct topic *t)
{
	return (struct topic_key){t->publisher, t->name};
}

/* --- topics -------------------------------------------------------------- */

struct topic *registry_find_locked(const struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key)
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

/* Moves all topics to a table of 2^bits buckets. Without memory the old one
 * stays: chains are then longer, or the table larger, than need be. */
static void resize_locked(struct registry_shard *s, unsigned bits)
{
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
	if (init_topic_lock(&t->lock) != 0) {
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

struct topic *registry_insert_locked(struct registry *r,
				     struct registry_shard *s, uint64_t hash,
				     const struct topic_key *key)
{
	if (s->buckets == NULL)
		resize_locked(s, BUCKET_BITS_MIN);
	else if (s->topics >> s->bucket_bits > 0)
		resize_locked(s, s->bucket_bits + 1);
	if (s->buckets == NULL)
		return NULL;
	struct topic *t = topic_new(r, hash, key);
	if (t == NULL)
		return NULL;
	struct topic **bucket = bucket_of(s, hash);
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
	struct topic_key key = registry_key_of(t);
	struct topic **at = bucket_of(s, t->hash);
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	s->topics--;
	/* Nobody counts it up meanwhile: that takes the read lock. */
	uint64_t last = r->options.is_log ? t->dropped : t->sequence;
	if (s->sequence_base < last)
		s->sequence_base = last;
	uv_mutex_destroy(&t->lock);
	memory_credit(registry_topic_size(r, &key));
	free(t);
	if (s->bucket_bits == BUCKET_BITS_MIN ||
	    s->topics >> (s->bucket_bits - 3) > 0)
		return 0;
	resize_locked(s, s->bucket_bits - 1);
	return s->topics;
}

/* --- subscribers --------------------------------------------------------- */

/* Adds a subscriber to a topic whose shard is locked either way. */
static int enter(struct registry *r, struct topic *t, unsigned worker,
		 struct registry_join *join)
{
	struct registry_slot *slot = &t->slots[worker];

	uv_mutex_lock(&t->lock);
	if (slot->member == NULL && join->member == NULL) {
		uv_mutex_unlock(&t->lock);
		return UV_ENOENT;
	}
	if (slot->member == NULL)
		*slot = (struct registry_slot){.member = join->member};
	if (t->subscribers == 0 && (t->is_listed || t->is_unused))
		registry_uncount_topic_locked(r, t);
	slot->subscribers++;
	t->subscribers++;
	join->member = slot->member;
	join->topic = t;
	join->topic_epoch = t->epoch;
	/* The topic had nothing else of what is applied. */
	if (r->options.is_log && t->sequence < registry_applied(r))
		t->sequence = registry_applied(r);
	registry_resume_locked(r, t, join);
	uv_mutex_unlock(&t->lock);
	return 0;
}

int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, struct registry_join *join)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);

	uv_rwlock_rdlock(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	int rv = t == NULL ? UV_ENOENT : enter(r, t, worker, join);
	uv_rwlock_rdunlock(&s->lock);
	if (rv == 0 || join->member == NULL)
		return rv;

	uv_rwlock_wrlock(&s->lock);
	t = registry_find_locked(s, hash, key);
	if (t == NULL)
		t = registry_insert_locked(r, s, hash, key);
	rv = t == NULL ? UV_ENOMEM : enter(r, t, worker, join);
	uv_rwlock_wrunlock(&s->lock);
	return rv;
}

/* Returns whether it was the worker's last; `*is_unused`: anybody's last. */
static bool exit_topic(struct topic *t, unsigned worker, uint64_t *posted,
		       bool *is_unused)
{
	struct registry_slot *slot = &t->slots[worker];

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
	struct registry_shard *s = registry_shard_of(r, t->hash);
	bool is_unused;

	/* The write lock at once: were it taken only for the last subscriber,
	 * somebody else could free the topic between the two locks. */
	uv_rwlock_wrlock(&s->lock);
	bool is_last = exit_topic(t, worker, posted, &is_unused);
	if (is_unused && r->has_history)
		registry_count_topic_locked(r, t, uv_hrtime());
	else if (is_unused)
		registry_remove_locked(r, s, t);
	uv_rwlock_wrunlock(&s->lock);
	if (is_unused)
		registry_bound(r);
	return is_last;
}

/* --- publishing ---------------------------------------------------------- */

/* How many workers `t` has; -1 if the mailbox of one has no room for `size`
 * bytes. 0: nobody asks. */
static int count_workers(const struct registry *r, const struct topic *t,
			 size_t size)
{
	int workers = 0;
	for (unsigned w = 0; w < r->options.workers; w++) {
		if (t->slots[w].member == NULL)
			continue;
		if (size > 0 &&
		    !mailbox_has_room(r->options.mailboxes[w], size))
			return -1;
		workers++;
	}
	return workers;
}

/* Posts `m` to each of the `workers` of `t`, with a reference. */
static void post_locked(struct registry *r, struct topic *t, struct message *m,
			unsigned workers)
{
	for (unsigned w = 0; workers > 0; w++) {
		struct registry_slot *slot = &t->slots[w];
		if (slot->member == NULL)
			continue;
		slot->posted++;
		workers--;
		mailbox_post_message(r->options.mailboxes[w], slot->member, m);
	}
}

/* Keeps and posts what has its number. The topic is locked; it has `workers`
 * workers. */
static void place_locked(struct registry *r, struct topic *t,
			 struct registry_posting *p, unsigned workers)
{
	struct message *m = p->message;
	unsigned users = workers;

	m->epoch = t->epoch;
	p->receipt->sequence = m->sequence;
	p->receipt->subscribers = t->subscribers;
	if (r->has_history)
		users += registry_keep_locked(r, t, m, &p->drops);
	else
		t->dropped = m->sequence;
	/* The caller's reference is for one of them. */
	if (users > 1)
		message_ref(m, users - 1);
	if (users > 0)
		p->message = NULL;
	post_locked(r, t, m, workers);
}

int registry_post(struct registry *r, struct topic *t,
		  struct registry_posting *p)
{
	struct message *m = p->message;

	uv_mutex_lock(&t->lock);
	int workers = count_workers(r, t, p->has_room ? 0 : m->size);
	if (workers < 0) {
		uv_mutex_unlock(&t->lock);
		return UV_ENOBUFS;
	}
	if (!t->was_used)
		registry_use_locked(r, t);
	m->sequence = ++t->sequence;
	place_locked(r, t, p, (unsigned)workers);
	uv_mutex_unlock(&t->lock);
	return 0;
}

struct topic *registry_make_locked(struct registry *r, struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key,
				   uint64_t now_ns)
{
	struct topic *t = registry_find_locked(s, hash, key);

	if (t != NULL)
		return t;
	t = registry_insert_locked(r, s, hash, key);
	if (t == NULL)
		return NULL;
	t->was_used = true; /* or is about to be */
	registry_count_topic_locked(r, t, now_ns);
	return t;
}

uint64_t registry_number_without(struct registry_shard *s)
{
	return 1 + atomic_fetch_add_explicit(&s->sequence_base, 1,
					     memory_order_relaxed);
}

/* The same where there was no topic a moment ago. */
static int publish_to_new(struct registry *r, uint64_t hash,
			  const struct topic_key *key,
			  struct registry_posting *p)
{
	struct registry_shard *s = registry_shard_of(r, hash);
	int rv = UV_ENOMEM;

	uv_rwlock_wrlock(&s->lock);
	struct topic *t =
		registry_make_locked(r, s, hash, key, p->message->accepted_ns);
	if (t != NULL)
		rv = registry_post(r, t, p);
	uv_rwlock_wrunlock(&s->lock);
	return rv;
}

int registry_publish(struct registry *r, const struct topic_key *key,
		     struct message *m, struct registry_receipt *receipt)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);
	struct registry_posting p;
	int rv = 0;

	p.message = m;
	p.receipt = receipt;
	p.has_room = false;
	registry_drops_init(&p.drops);
	*receipt = (struct registry_receipt){0};
	uv_rwlock_rdlock(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	if (t != NULL)
		rv = registry_post(r, t, &p);
	else if (!r->has_history)
		receipt->sequence = registry_number_without(s);
	uv_rwlock_rdunlock(&s->lock);
	if (t == NULL && r->has_history)
		rv = publish_to_new(r, hash, key, &p);
	if (p.message != NULL)
		message_unref(p.message, 1);
	registry_drops_free(&p.drops);
	registry_bound(r);
	return rv;
}

/* --- a log's numbers ------------------------------------------------------ */

uint64_t registry_applied(const struct registry *r)
{
	return atomic_load_explicit(&r->applied, memory_order_acquire);
}

void registry_reach(struct registry *r, uint64_t number)
{
	atomic_store_explicit(&r->applied, number, memory_order_release);
}

static unsigned count_members(const struct registry *r, const struct topic *t)
{
	unsigned workers = 0;

	for (unsigned w = 0; w < r->options.workers; w++)
		workers += t->slots[w].member != NULL;
	return workers;
}

static void apply_to(struct registry *r, struct topic *t,
		     struct registry_posting *p)
{
	uv_mutex_lock(&t->lock);
	CHECK(p->message->sequence > t->sequence);
	if (!t->was_used)
		registry_use_locked(r, t);
	t->sequence = p->message->sequence;
	place_locked(r, t, p, count_members(r, t));
	uv_mutex_unlock(&t->lock);
}

/* Where there is history, or else nobody has it and it is gone at once. */
static void apply_to_new(struct registry *r, uint64_t hash,
			 const struct topic_key *key,
			 struct registry_posting *p)
{
	struct registry_shard *s = registry_shard_of(r, hash);

	uv_rwlock_wrlock(&s->lock);
	struct topic *t =
		r->has_history ? registry_make_locked(r, s, hash, key,
						      p->message->accepted_ns)
			       : registry_find_locked(s, hash, key);
	if (t != NULL)
		apply_to(r, t, p);
	else /* no topic of this shard is known from before it */
		s->sequence_base = p->message->sequence;
	uv_rwlock_wrunlock(&s->lock);
}

void registry_apply(struct registry *r, const struct topic_key *key,
		    struct message *m)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);
	struct registry_receipt receipt;
	struct registry_posting p = {.message = m, .receipt = &receipt};

	registry_drops_init(&p.drops);
	uv_rwlock_rdlock(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	if (t != NULL)
		apply_to(r, t, &p);
	uv_rwlock_rdunlock(&s->lock);
	if (t == NULL)
		apply_to_new(r, hash, key, &p);
	if (p.message != NULL)
		message_unref(p.message, 1);
	registry_drops_free(&p.drops);
	registry_bound(r);
}

/* A message that says so, for those that have subscribed; NULL without memory,
 * which ends the process: nobody may go on as if nothing was lost. */
static struct message *reset_of(const struct registry *r, uint64_t epoch,
				uint64_t base)
{
	struct message *m = message_new(SPAN(""), false, r->options.workers);

	CHECK(m != NULL);
	m->is_reset = true;
	m->sequence = base;
	m->epoch = epoch;
	m->accepted_ns = uv_hrtime();
	return m;
}

static void renew_topic(struct registry *r, struct topic *t, uint64_t epoch,
			uint64_t base)
{
	struct registry_drops drops;

	registry_drops_init(&drops);
	uv_mutex_lock(&t->lock);
	registry_drop_history_locked(r, t, &drops);
	t->epoch = epoch;
	t->sequence = base;
	t->dropped = base;
	unsigned workers = count_members(r, t);
	if (workers > 0) {
		struct message *m = reset_of(r, epoch, base);
		message_ref(m, workers);
		post_locked(r, t, m, workers);
		message_unref(m, 1);
	}
	uv_mutex_unlock(&t->lock);
	registry_drops_free(&drops);
}

void registry_renew(struct registry *r, uint64_t epoch, uint64_t base)
{
	atomic_store_explicit(&r->epoch, epoch, memory_order_relaxed);
	registry_reach(r, base);
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		struct registry_shard *s = &r->shards[i];
		uv_rwlock_wrlock(&s->lock);
		s->sequence_base = base;
		size_t buckets =
			s->buckets == NULL ? 0 : (size_t)1 << s->bucket_bits;
		for (size_t b = 0; b < buckets; b++)
			for (struct topic *t = s->buckets[b]; t != NULL;
			     t = t->next)
				renew_topic(r, t, epoch, base);
		uv_rwlock_wrunlock(&s->lock);
	}
	registry_reset_border(r);
	/* Behind those: whoever subscribes from then on is in the new epoch. */
	struct message *m = reset_of(r, epoch, base);
	message_ref(m, r->options.workers);
	for (unsigned w = 0; w < r->options.workers; w++)
		mailbox_post_message(r->options.mailboxes[w], NULL, m);
	message_unref(m, 1);
}
