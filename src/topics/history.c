/* history.c - what topics keep, and which of them lose it first.
 *
 * Topics that keep something, be it only their number, are in a list by use. To
 * move a topic to its end takes a lock that all topics share; so that happens
 * once a second a topic, not at each publication. The sum of what is kept is
 * one number that all share; it changes only where the size of a message is not
 * that of the one it displaces.
 *
 * What is too old is not told to anybody, whether it is dropped yet or not: it
 * is dropped by the publications that follow, or when the whole topic is too
 * old. */
#include "topics/table.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

#define TOUCH_NS UINT64_C(1000000000)
/* Publications that find much that is too old leave some for the next. */
#define EXPIRED_MAX 16
/* Topics and messages freed, and topics moved, in one call of registry_age().
 */
#define STEP_MAX 4096
/* A topic of many messages loses so much more than is needed, so that not each
 * publication has to look for a topic that can lose something. */
#define SPARE_BYTES 65536
#define SPARE_PART  16 /* of what there may be, at most */

static void count_bytes(struct registry *r, ptrdiff_t bytes)
{
	if (bytes != 0)
		atomic_fetch_add_explicit(&r->history_bytes, (size_t)bytes,
					  memory_order_relaxed);
}

size_t registry_history_bytes(const struct registry *r)
{
	return atomic_load_explicit(&r->history_bytes, memory_order_relaxed) +
	       message_kept_forms();
}

/* --- the ring ------------------------------------------------------------ */

static size_t array_bytes(uint32_t cap)
{
	return cap * sizeof(struct message *);
}

/* Makes the array larger, if `size_max` allows and there is memory. */
static void ring_grow(struct registry_ring *ring, uint32_t size_max)
{
	uint32_t cap = ring->cap == 0 ? 1 : 2 * ring->cap;
	if (ring->cap > size_max / 2)
		cap = size_max;
	if (cap <= ring->cap)
		return;
	struct message **messages = malloc(array_bytes(cap));
	if (messages == NULL)
		return;
	for (uint32_t i = 0; i < ring->count; i++)
		messages[i] = registry_ring_at(ring, i);
	memory_charge(array_bytes(cap) - array_bytes(ring->cap));
	ring->bytes += array_bytes(cap) - array_bytes(ring->cap);
	free(ring->messages);
	ring->messages = messages;
	ring->cap = cap;
	ring->head = 0;
}

/* Takes the oldest out. Returns how much less that is, further forms included.
 */
static size_t ring_drop(struct registry_ring *ring,
			struct registry_drops *drops)
{
	struct message *m = ring->messages[ring->head];

	CHECK(drops->count < REGISTRY_DROPS_MAX);
	drops->messages[drops->count++] = m;
	ring->bytes -= m->size;
	ring->count--;
	if (++ring->head == ring->cap)
		ring->head = 0;
	return m->size + message_drop(m);
}

/* The ring has room. */
static void ring_append(struct registry_ring *ring, struct message *m)
{
	uint32_t behind = ring->cap - ring->head;
	uint32_t at = ring->count < behind ? ring->head + ring->count
					   : ring->count - behind;
	message_keep(m);
	ring->messages[at] = m;
	ring->bytes += m->size;
	ring->count++;
}

/* Takes all of it at once. */
static void drop_ring_locked(struct registry *r, struct topic *t,
			     struct registry_drops *drops)
{
	count_bytes(r, -(ptrdiff_t)t->ring.bytes);
	for (uint32_t i = 0; i < t->ring.count; i++)
		message_drop(registry_ring_at(&t->ring, i));
	drops->ring = t->ring;
	t->ring = (struct registry_ring){0};
}

void registry_drops_free(struct registry_drops *drops)
{
	struct registry_ring *ring = &drops->ring;

	for (unsigned i = 0; i < drops->count; i++)
		message_unref(drops->messages[i], 1);
	if (ring->messages == NULL)
		return;
	for (uint32_t i = 0; i < ring->count; i++)
		message_unref(registry_ring_at(ring, i), 1);
	memory_credit(array_bytes(ring->cap));
	free(ring->messages);
}

/* --- the list by use ----------------------------------------------------- */

static void touch_locked(struct registry *r, struct topic *t, uint64_t now_ns)
{
	uv_mutex_lock(&r->by_use_lock);
	list_remove(&t->by_use);
	list_append(&r->by_use, &t->by_use);
	t->used_ns = now_ns;
	t->is_listed = true;
	uv_mutex_unlock(&r->by_use_lock);
}

static void unlist_locked(struct registry *r, struct topic *t)
{
	uv_mutex_lock(&r->by_use_lock);
	list_remove(&t->by_use);
	t->is_listed = false;
	uv_mutex_unlock(&r->by_use_lock);
}

static ptrdiff_t size_of(const struct registry *r, const struct topic *t)
{
	struct topic_key key = registry_key_of(t);
	return (ptrdiff_t)registry_topic_size(r, &key);
}

void registry_uncount_topic_locked(struct registry *r, const struct topic *t)
{
	count_bytes(r, -size_of(r, t));
}

void registry_count_topic_locked(struct registry *r, struct topic *t,
				 uint64_t now_ns)
{
	count_bytes(r, size_of(r, t));
	touch_locked(r, t, now_ns);
}

/* --- keeping and resuming ------------------------------------------------ */

uint32_t registry_expired(const struct registry *r,
			  const struct registry_ring *ring, uint64_t now_ns)
{
	uint32_t n = 0;
	while (n < ring->count &&
	       registry_age_of(now_ns,
			       registry_ring_at(ring, n)->accepted_ns) >=
		       r->ttl_ns)
		n++;
	return n;
}

/* Drops messages that are as old, some at a time. */
static void drop_expired(const struct registry *r, struct registry_ring *ring,
			 uint64_t now_ns, struct registry_drops *drops)
{
	for (unsigned n = 0; n < EXPIRED_MAX && ring->count > 0; n++) {
		const struct message *m = ring->messages[ring->head];
		if (registry_age_of(now_ns, m->accepted_ns) < r->ttl_ns)
			return;
		ring_drop(ring, drops);
	}
}

/* Puts `m` into the ring, in the place of the oldest if it is full. */
static bool store(const struct registry *r, struct registry_ring *ring,
		  struct message *m, struct registry_drops *drops)
{
	if (ring->count == ring->cap)
		ring_grow(ring, r->options.history_size);
	if (ring->cap == 0)
		return false;
	if (ring->count == ring->cap)
		ring_drop(ring, drops);
	ring_append(ring, m);
	return true;
}

bool registry_keep_locked(struct registry *r, struct topic *t,
			  struct message *m, struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t before = ring->bytes;

	if (!t->is_listed ||
	    registry_age_of(m->accepted_ns, t->used_ns) >= TOUCH_NS)
		touch_locked(r, t, m->accepted_ns);
	if (m->size > r->options.history_bytes) {
		drop_ring_locked(r, t, drops);
		return false;
	}
	drop_expired(r, ring, m->accepted_ns, drops);
	bool is_kept = store(r, ring, m, drops);
	count_bytes(r, (ptrdiff_t)(ring->bytes - before));
	return is_kept;
}

void registry_resume_locked(const struct registry *r, const struct topic *t,
			    struct registry_join *join)
{
	const struct registry_ring *ring = &t->ring;

	join->is_exact = false;
	join->missed_count = 0;
	if (!join->resumes || join->epoch != r->epoch ||
	    join->after > t->sequence)
		return;
	uint32_t expired =
		ring->count > 0 ? registry_expired(r, ring, uv_hrtime()) : 0;
	if (t->sequence - join->after > ring->count - expired)
		return;
	join->is_exact = true;
	join->missed_count = (unsigned)(t->sequence - join->after);
	for (uint32_t i = 0; i < join->missed_count; i++) {
		uint32_t at = ring->count - join->missed_count + i;
		join->missed[i] = message_ref(registry_ring_at(ring, at), 1);
	}
}

/* --- dropping ------------------------------------------------------------ */

/* Returns the topic not used for longest, if that is `age_ns` or more, and
 * locks its shard for writing; NULL if there is none. */
static struct topic *lock_oldest(struct registry *r, uint64_t now_ns,
				 uint64_t age_ns)
{
	struct registry_shard *locked = NULL;

	/* Without its shard's lock it may go, or be used, at any moment; and
	 * that lock comes before the list's. So it is looked at twice. */
	for (;;) {
		struct topic *t = NULL;
		struct registry_shard *s = NULL;

		uv_mutex_lock(&r->by_use_lock);
		if (!list_is_empty(&r->by_use))
			t = CONTAINER_OF(r->by_use.next, struct topic, by_use);
		if (t != NULL && registry_age_of(now_ns, t->used_ns) >= age_ns)
			s = registry_shard_of(r, t->hash);
		uv_mutex_unlock(&r->by_use_lock);
		if (s != NULL && s == locked)
			return t;
		if (locked != NULL)
			uv_rwlock_wrunlock(&locked->lock);
		if (s == NULL)
			return NULL;
		locked = s;
		uv_rwlock_wrlock(&s->lock);
	}
}

/* A topic that was not used for longest, and has no message any more, goes, or
 * stays for its subscribers. Its shard is locked for writing. Returns how much
 * work it was beside that. */
static size_t retire_locked(struct registry *r, struct topic *t,
			    struct registry_drops *drops)
{
	drop_ring_locked(r, t, drops);
	unlist_locked(r, t);
	if (t->subscribers > 0)
		return 0;
	registry_uncount_topic_locked(r, t);
	return registry_remove_locked(r, registry_shard_of(r, t->hash), t);
}

/* Drops the oldest messages until there are at most `bytes` in all. */
static void drop_down_to(struct registry *r, struct topic *t, size_t bytes,
			 struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t had = ring->bytes;
	size_t now = registry_history_bytes(r);
	size_t needed = now > bytes ? now - bytes : 0;
	size_t spare = bytes / SPARE_PART < SPARE_BYTES ? bytes / SPARE_PART
							: SPARE_BYTES;
	size_t dropped = 0;

	if (needed == 0)
		return; /* another thread was first */
	while (ring->count > 0 && drops->count < REGISTRY_DROPS_MAX) {
		if (dropped >= needed &&
		    (ring->count == 1 || dropped >= needed + spare))
			break;
		dropped += ring_drop(ring, drops);
	}
	count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
}

/* Makes the topic not used for longest lose something. Returns how much work it
 * was; 0 if there is nothing to lose. */
static size_t evict(struct registry *r, size_t bytes)
{
	struct registry_drops drops;
	struct topic *t = lock_oldest(r, 0, 0);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	size_t work = 1;
	registry_drops_init(&drops);
	drop_down_to(r, t, bytes, &drops);
	if (t->ring.count == 0)
		work += retire_locked(r, t, &drops);
	uv_rwlock_wrunlock(&s->lock);
	registry_drops_free(&drops);
	return work + drops.count;
}

void registry_bound(struct registry *r)
{
	size_t max = r->options.history_bytes;

	while (registry_history_bytes(r) > max && evict(r, max) > 0)
		;
}

bool registry_shrink_history(struct registry *r, size_t bytes)
{
	size_t work = 0;

	while (registry_history_bytes(r) > bytes) {
		if (work >= STEP_MAX)
			return true;
		size_t done = evict(r, bytes);
		if (done == 0)
			break;
		work += done;
	}
	return false;
}

/* Forgets the topic not used for longest, if it is too old. Returns how much
 * work it was; 0 if there is none. */
static size_t retire_oldest(struct registry *r, uint64_t now_ns,
			    uint64_t age_ns)
{
	struct registry_drops drops;
	struct topic *t = lock_oldest(r, now_ns, age_ns);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	size_t work = 1 + t->ring.count;
	registry_drops_init(&drops);
	work += retire_locked(r, t, &drops);
	uv_rwlock_wrunlock(&s->lock);
	registry_drops_free(&drops);
	return work;
}

bool registry_age(struct registry *r, uint64_t now_ns)
{
	size_t work = 0;

	/* Its last message may be younger than its use, by less than that. */
	while (work < STEP_MAX) {
		size_t done = retire_oldest(r, now_ns, r->ttl_ns + TOUCH_NS);
		if (done == 0)
			return false;
		work += done;
	}
	return true;
}

void registry_forget_all(struct registry *r)
{
	while (retire_oldest(r, 0, 0) > 0)
		;
}
