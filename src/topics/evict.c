/* evict.c - drops history: of which topics, if there is too much of it, or it
 * is too old.
 *
 * A message that is too old is not shown to anybody, whether it is dropped yet
 * or not. Later publications of its topic drop it, or it goes with the whole
 * topic when that is too old. If the newest message is retained, the topic
 * stays, and moves before the border of the list by use. Topics there are in
 * the order of their use; they lose messages first where bytes are needed, and
 * do not age any more. */
#include "topics/table.h"

#include "base/check.h"

/* Topics and messages that one call frees or moves. */
#define STEP_MAX 4096
/* A topic of many messages loses so much more than is needed, so that not every
 * publication has to look for a topic that can lose something. */
#define SPARE_BYTES 65536
#define SPARE_PART  16 /* of what there may be, at most */
/* Part of history_bytes for topics that never had a message. */
#define UNUSED_PART 16

/* The first topic of by_use, unused or holding, or, given the border, the first
 * after it; NULL if there is none. */
static struct topic *first_in(const struct registry *r, const struct list *list)
{
	struct list *it = list->next;

	if (it == &r->border)
		it = it->next;
	if (it == list || it == &r->by_use)
		return NULL;
	return list == &r->holding ? CONTAINER_OF(it, struct topic, holding)
				   : CONTAINER_OF(it, struct topic, by_use);
}

/* Returns the first topic of a list (first_in), with its shard locked for
 * writing; NULL if there is none that was not used for `age_ns` or more. */
static struct topic *lock_first(struct registry *r, const struct list *list,
				uint64_t now_ns, uint64_t age_ns)
{
	struct registry_shard *locked = NULL;

	/* Without its shard's lock the topic may be freed, or used, at any
	 * moment; and that lock comes before the list's. So the list is read
	 * twice. */
	for (;;) {
		struct registry_shard *s = NULL;

		lock_acquire(&r->by_use_lock);
		struct topic *t = first_in(r, list);
		if (t != NULL && registry_age_of(now_ns, t->used_ns) >= age_ns)
			s = registry_shard_of(r, t->hash);
		lock_release(&r->by_use_lock);
		if (s != NULL && s == locked)
			return t;
		if (locked != NULL)
			rwlock_write_release(&locked->lock);
		if (s == NULL)
			return NULL;
		locked = s;
		rwlock_write_acquire(&s->lock);
	}
}

/* Drops the history of the topic that was not used for longest, except messages
 * that are held; forgets the topic if it has no subscriber. Its shard is locked
 * for writing. Returns how much work that was beside the messages. */
static size_t retire_locked(struct registry *r, struct topic *t,
			    struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t had = ring->bytes;

	registry_check_locked(r, t);
	if (ring->claims == 0) {
		registry_drop_history_locked(r, t, drops);
	} else {
		while (registry_ring_kept(ring) > 0 &&
		       registry_drops_has_room(drops))
			registry_shed_oldest_locked(r, t, drops);
		registry_count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
		if (registry_ring_kept(ring) > 0)
			return 0; /* it stays the first */
	}
	registry_unlist_locked(r, t);
	if (t->subscribers > 0)
		return 0;
	registry_uncount_topic_locked(r, t);
	return registry_remove_locked(r, registry_shard_of(r, t->hash), t);
}

/* --- too much ------------------------------------------------------------ */

/* Drops a topic's oldest messages until the history has at most `bytes` in
 * all. */
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
	while (registry_ring_kept(ring) > 0 && registry_drops_has_room(drops)) {
		if (dropped >= needed && (registry_ring_kept(ring) == 1 ||
					  dropped >= needed + spare))
			break;
		dropped += registry_shed_oldest_locked(r, t, drops);
	}
	registry_count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
}

/* Forgets the topic that was left first of those that never had a message, if
 * that was `age_ns` or more ago. Returns how much work it was; 0 if there is
 * none. */
static size_t forget_unused(struct registry *r, uint64_t now_ns,
			    uint64_t age_ns)
{
	struct topic *t = lock_first(r, &r->unused, now_ns, age_ns);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	registry_forget_unused_locked(r, t);
	size_t work = 1 + registry_remove_locked(r, s, t);
	rwlock_write_release(&s->lock);
	return work;
}

/* Forgets a topic that never had a message, or drops some history of the topic
 * that was not used for longest. Returns how much work it was; 0 if there is
 * nothing to drop. */
static size_t evict(struct registry *r, size_t bytes)
{
	struct registry_drops drops;
	size_t done = forget_unused(r, 0, 0);

	if (done > 0)
		return done;
	struct topic *t = lock_first(r, &r->by_use, 0, 0);
	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	size_t work = 1;
	registry_drops_init(&drops);
	drop_down_to(r, t, bytes, &drops);
	/* At once: before the border it would not age. */
	if (registry_ring_kept(&t->ring) == 0)
		work += retire_locked(r, t, &drops);
	rwlock_write_release(&s->lock);
	registry_drops_free(&drops);
	return work + drops.count;
}

void registry_bound(struct registry *r)
{
	size_t max = r->options.history_bytes;

	while (atomic_load_explicit(&r->unused_bytes, memory_order_relaxed) >
		       max / UNUSED_PART &&
	       forget_unused(r, 0, 0) > 0)
		;
	while (registry_history_bytes(r) > max && evict(r, max) > 0)
		;
}

void registry_reserve(struct registry *r, size_t bytes)
{
	size_t most = r->options.history_bytes - bytes;
	size_t now = registry_history_bytes(r);
	bool is_counted = false;

	while (!is_counted) {
		if (now <= most) {
			is_counted = atomic_compare_exchange_weak_explicit(
				&r->history_bytes, &now, now + bytes,
				memory_order_relaxed, memory_order_relaxed);
			continue;
		}
		if (evict(r, most) == 0) { /* others have reserved it */
			registry_count_bytes(r, (ptrdiff_t)bytes);
			return;
		}
		now = registry_history_bytes(r);
	}
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

/* Breaks the claims on up to REGISTRY_DROPS_MAX messages of the topic that has
 * held some for longest. Returns how much work it was; 0 if none does. */
static size_t break_claims(struct registry *r)
{
	struct registry_drops drops;
	struct topic *t = lock_first(r, &r->holding, 0, 0);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	registry_drops_init(&drops);
	while (t->ring.held > 0 && registry_drops_has_room(&drops))
		registry_drop_oldest_locked(r, t, &drops);
	rwlock_write_release(&s->lock);
	registry_drops_free(&drops);
	return 1 + drops.count;
}

bool registry_shrink_replay(struct registry *r, size_t bytes)
{
	size_t work = 0;

	while (registry_replay_bytes(r) > bytes) {
		if (work >= STEP_MAX)
			return true;
		size_t done = break_claims(r);
		if (done == 0)
			break;
		work += done;
	}
	return false;
}

/* --- too old ------------------------------------------------------------- */

/* Drops all messages but the newest of a topic that is too old, and moves it
 * before the border. Its shard is locked for writing. */
static void retain_locked(struct registry *r, struct topic *t,
			  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t had = ring->bytes;

	registry_check_locked(r, t);
	while (registry_ring_kept(ring) > 1 && registry_drops_has_room(drops))
		registry_shed_oldest_locked(r, t, drops);
	if (ring->count == 1 && ring->cap > 1)
		registry_ring_resize(ring, 1);
	registry_count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
	if (registry_ring_kept(ring) ==
	    1) /* else it stays the first behind it */
		registry_cross_locked(r, t);
}

/* Drops what is too old of the topic that was not used for longest, if that is
 * `age_ns`. Returns how much work it was; 0 if there is none. */
static size_t age_oldest(struct registry *r, uint64_t now_ns, uint64_t age_ns)
{
	struct registry_drops drops;
	struct topic *t = lock_first(r, &r->border, now_ns, age_ns);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	size_t work = 1;
	registry_drops_init(&drops);
	if (r->options.retains && registry_ring_kept(&t->ring) > 0) {
		retain_locked(r, t, &drops);
		work += drops.count;
	} else {
		work += t->ring.count;
		work += retire_locked(r, t, &drops);
	}
	rwlock_write_release(&s->lock);
	registry_drops_free(&drops);
	return work;
}

bool registry_age(struct registry *r, uint64_t now_ns)
{
	size_t work = 0;

	/* Its last message may be younger than its use, by less than that. */
	while (work < STEP_MAX) {
		size_t done =
			age_oldest(r, now_ns, r->ttl_ns + REGISTRY_TOUCH_NS);
		if (done == 0)
			done = forget_unused(r, now_ns,
					     r->ttl_ns + REGISTRY_TOUCH_NS);
		if (done == 0)
			return false;
		work += done;
	}
	return true;
}
