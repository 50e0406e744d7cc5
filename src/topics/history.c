/* history.c - the messages that topics keep.
 *
 * Topics that keep something, be it only their number, are in a list by use. To
 * move a topic to its end takes a lock that all topics share, so that happens
 * once a second a topic, not with each publication. The sum of all bytes is one
 * number that all share; it changes only if a message is not as large as the
 * one that it replaces.
 *
 * A message that would be dropped while a subscriber still has to read it is
 * held instead: it leaves the history and its sum, and counts in another sum
 * until it is read. As messages are read and dropped in order, the held ones
 * are the oldest of a ring, and the first of them is claimed. */
#include "topics/table.h"

#include "base/check.h"
#include "base/memory.h"

/* A publication drops so many old messages at most; the next ones drop more. */
#define EXPIRED_MAX 16

size_t registry_history_bytes(const struct registry *r)
{
	return atomic_load_explicit(&r->history_bytes, memory_order_relaxed);
}

size_t registry_replay_bytes(const struct registry *r)
{
	return atomic_load_explicit(&r->replay_bytes, memory_order_relaxed);
}

/* --- dropping and holding ------------------------------------------------ */

static void set_holding(struct registry *r, struct topic *t, bool is_holding)
{
	lock_acquire(&r->by_use_lock);
	list_remove(&t->holding);
	if (is_holding)
		list_append(&r->holding, &t->holding);
	lock_release(&r->by_use_lock);
}

size_t registry_drop_oldest_locked(struct registry *r, struct topic *t,
				   struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	struct message *m = ring->messages[ring->head];
	size_t bytes = 0;

	registry_check_locked(r, t);
	CHECK(drops->count < REGISTRY_DROPS_MAX);
	drops->messages[drops->count++] = m;
	ring->claims -= m->claims;
	m->claims = 0;
	t->dropped = m->sequence;
	if (ring->held > 0) {
		ring->held_bytes -= m->size;
		if (--ring->held == 0)
			set_holding(r, t, false);
		atomic_fetch_sub_explicit(&r->replay_bytes, m->size,
					  memory_order_relaxed);
	} else {
		ring->bytes -= m->size;
		bytes = m->size;
	}
	ring->count--;
	if (++ring->head == ring->cap)
		ring->head = 0;
	message_drop(m);
	return bytes;
}

/* Counts `size` bytes that a topic holds from now on. Returns false, with
 * nothing counted, if that would be too much. */
static bool count_held(struct registry *r, const struct registry_ring *ring,
		       size_t size)
{
	size_t max =
		memory_allows(MEMORY_FOR_REPLAY) ? r->options.replay_bytes : 0;
	size_t own = ring->held_bytes + size;
	size_t all = atomic_fetch_add_explicit(&r->replay_bytes, size,
					       memory_order_relaxed) +
		     size;

	if (all <= max && own <= max - all)
		return true;
	atomic_fetch_sub_explicit(&r->replay_bytes, size, memory_order_relaxed);
	return false;
}

bool registry_release_held_locked(struct registry *r, struct topic *t,
				  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	registry_check_locked(r, t);
	while (ring->held > 0 && ring->messages[ring->head]->claims == 0) {
		if (!registry_drops_has_room(drops))
			return false;
		registry_drop_oldest_locked(r, t, drops);
	}
	return true;
}

size_t registry_shed_oldest_locked(struct registry *r, struct topic *t,
				   struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	struct message *m = registry_ring_at(ring, ring->held);
	size_t bytes = 0;

	registry_check_locked(r, t);
	while ((ring->held > 0 || m->claims > 0) &&
	       registry_drops_has_room(drops)) {
		if (count_held(r, ring, m->size)) {
			if (ring->held++ == 0)
				set_holding(r, t, true);
			ring->held_bytes += m->size;
			ring->bytes -= m->size;
			return bytes + m->size;
		}
		bool was_it = ring->held == 0;
		bytes += registry_drop_oldest_locked(r, t, drops);
		if (was_it)
			return bytes;
		registry_release_held_locked(r, t, drops);
	}
	return registry_drops_has_room(drops)
		       ? bytes + registry_drop_oldest_locked(r, t, drops)
		       : bytes;
}

void registry_drop_history_locked(struct registry *r, struct topic *t,
				  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	registry_check_locked(r, t);
	registry_count_bytes(r, -(ptrdiff_t)ring->bytes);
	atomic_fetch_sub_explicit(&r->replay_bytes, ring->held_bytes,
				  memory_order_relaxed);
	registry_ring_drop(ring);
	if (ring->held > 0)
		set_holding(r, t, false);
	t->dropped = t->sequence;
	drops->ring = *ring;
	*ring = (struct registry_ring){0};
}

void registry_drops_free(struct registry_drops *drops)
{
	for (unsigned i = 0; i < drops->count; i++)
		message_unref(drops->messages[i], 1);
	if (drops->ring.messages != NULL)
		registry_ring_fini(&drops->ring);
}

/* --- the list by use ----------------------------------------------------- */

static void touch_locked(struct registry *r, struct topic *t, uint64_t now_ns)
{
	registry_check_locked(r, t);
	lock_acquire(&r->by_use_lock);
	list_remove(&t->by_use);
	list_append(&r->by_use, &t->by_use);
	t->used_ns = now_ns;
	t->is_listed = true;
	lock_release(&r->by_use_lock);
}

void registry_cross_locked(struct registry *r, struct topic *t)
{
	registry_check_locked(r, t);
	lock_acquire(&r->by_use_lock);
	list_remove(&t->by_use);
	list_append(&r->border, &t->by_use);
	lock_release(&r->by_use_lock);
}

void registry_reset_border(struct registry *r)
{
	lock_acquire(&r->by_use_lock);
	list_remove(&r->border);
	list_prepend(&r->by_use, &r->border);
	lock_release(&r->by_use_lock);
}

void registry_unlist_locked(struct registry *r, struct topic *t)
{
	registry_check_locked(r, t);
	lock_acquire(&r->by_use_lock);
	list_remove(&t->by_use);
	t->is_listed = false;
	lock_release(&r->by_use_lock);
}

static ptrdiff_t size_of(const struct registry *r, const struct topic *t)
{
	struct topic_key key = registry_key_of(t);
	return (ptrdiff_t)registry_topic_size(r, &key);
}

void registry_forget_unused_locked(struct registry *r, struct topic *t)
{
	registry_check_locked(r, t);
	registry_unlist_locked(r, t);
	t->is_unused = false;
	registry_count_bytes(r, -size_of(r, t));
	atomic_fetch_sub_explicit(&r->unused_bytes, (size_t)size_of(r, t),
				  memory_order_relaxed);
}

static void count_unused_locked(struct registry *r, struct topic *t,
				uint64_t now_ns)
{
	registry_check_locked(r, t);
	registry_count_bytes(r, size_of(r, t));
	atomic_fetch_add_explicit(&r->unused_bytes, (size_t)size_of(r, t),
				  memory_order_relaxed);
	lock_acquire(&r->by_use_lock);
	list_append(&r->unused, &t->by_use);
	t->used_ns = now_ns;
	t->is_unused = true;
	lock_release(&r->by_use_lock);
}

void registry_use_locked(struct registry *r, struct topic *t)
{
	registry_check_locked(r, t);
	t->was_used = true;
	if (!t->is_unused)
		return;
	registry_forget_unused_locked(r, t);
	registry_count_bytes(r, size_of(r, t));
	touch_locked(r, t, uv_hrtime());
}

void registry_uncount_topic_locked(struct registry *r, struct topic *t)
{
	registry_check_locked(r, t);
	if (t->is_unused)
		registry_forget_unused_locked(r, t);
	else
		registry_count_bytes(r, -size_of(r, t));
}

void registry_count_topic_locked(struct registry *r, struct topic *t,
				 uint64_t now_ns)
{
	registry_check_locked(r, t);
	if (!t->was_used) {
		count_unused_locked(r, t, now_ns);
		return;
	}
	registry_count_bytes(r, size_of(r, t));
	touch_locked(r, t, now_ns);
}

/* --- keeping ------------------------------------------------------------- */

static bool is_too_old(const struct registry *r, const struct message *m,
		       uint64_t now_ns)
{
	return registry_age_of(now_ns, m->accepted_ns) >= r->ttl_ns;
}

uint32_t registry_first(const struct registry *r,
			const struct registry_ring *ring, uint64_t now_ns)
{
	bool retains = r->options.retains && registry_ring_kept(ring) > 0;
	uint32_t end = retains ? ring->count - 1 : ring->count;
	uint32_t i = ring->held;

	while (i < end && is_too_old(r, registry_ring_at(ring, i), now_ns))
		i++;
	return i;
}

/* Drops some messages that are too old, before a newer one comes: so none of
 * them is the newest, which may be retained. */
static void shed_expired(struct registry *r, struct topic *t, uint64_t now_ns,
			 struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	for (unsigned n = 0; n < EXPIRED_MAX && registry_ring_kept(ring) > 0;
	     n++) {
		if (!is_too_old(r, registry_ring_at(ring, ring->held), now_ns))
			return;
		registry_shed_oldest_locked(r, t, drops);
	}
}

/* Puts `m` into the ring; if the ring is full, the oldest goes. */
static bool store(struct registry *r, struct topic *t, struct message *m,
		  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	uint32_t max = r->options.history_size;

	while (registry_ring_kept(ring) >= max &&
	       registry_drops_has_room(drops))
		registry_shed_oldest_locked(r, t, drops);
	if (ring->count == ring->cap)
		registry_ring_grow(ring, ring->held > 0 ? UINT32_MAX : max);
	if (ring->cap == 0)
		return false;
	if (ring->count == ring->cap)
		registry_drop_oldest_locked(r, t, drops);
	registry_ring_append(ring, m);
	return true;
}

/* A topic before the border was not used for longer than that. */
static void touch_for(struct registry *r, struct topic *t,
		      const struct message *m)
{
	if (!t->is_listed ||
	    registry_age_of(m->accepted_ns, t->used_ns) >= REGISTRY_TOUCH_NS)
		touch_locked(r, t, m->accepted_ns);
}

void registry_pass_locked(struct registry *r, struct topic *t,
			  const struct message *m, struct registry_drops *drops)
{
	registry_check_locked(r, t);
	touch_for(r, t, m);
	registry_drop_history_locked(r, t, drops);
}

bool registry_keep_locked(struct registry *r, struct topic *t,
			  struct message *m, struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t before = ring->bytes;

	registry_check_locked(r, t);
	if (m->size > r->options.history_bytes) {
		registry_pass_locked(r, t, m, drops);
		return false;
	}
	touch_for(r, t, m);
	registry_release_held_locked(r, t, drops);
	shed_expired(r, t, m->accepted_ns, drops);
	bool is_kept = store(r, t, m, drops);
	if (!is_kept)
		t->dropped = m->sequence;
	registry_count_bytes(r, (ptrdiff_t)(ring->bytes - before));
	return is_kept;
}
