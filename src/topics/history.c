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
 * old. Where the newest message is retained, the topic is then not dropped, but
 * moved before the border of the list: there those are in the order of their
 * use that go first where bytes are needed, and that age no more.
 *
 * What would be dropped while a subscriber still has to read it is held
 * instead: it leaves the history and its sum for another one, until it is read.
 * As messages are read and dropped in order, those held are the oldest of a
 * ring, and the first of them is claimed. */
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
/* Of history_bytes: what topics that never had a message may take. */
#define UNUSED_PART 16
/* Of REGISTRY_DROPS_MAX. */
#define DROPS_RESERVE 8
/* Times REGISTRY_DROPS_MAX messages that one who leaves makes free. */
#define RELEASES_MAX 32

static void count_bytes(struct registry *r, ptrdiff_t bytes)
{
	if (bytes != 0)
		atomic_fetch_add_explicit(&r->history_bytes, (size_t)bytes,
					  memory_order_relaxed);
}

size_t registry_history_bytes(const struct registry *r)
{
	return atomic_load_explicit(&r->history_bytes, memory_order_relaxed);
}

size_t registry_replay_bytes(const struct registry *r)
{
	return atomic_load_explicit(&r->replay_bytes, memory_order_relaxed);
}

/* --- the ring ------------------------------------------------------------ */

static size_t array_bytes(uint32_t cap)
{
	return cap * sizeof(struct message *);
}

static uint32_t kept_count(const struct registry_ring *ring)
{
	return ring->count - ring->held;
}

/* Moves the messages to an array of `cap`, which is enough. Without memory the
 * old one stays. */
static void ring_resize(struct registry_ring *ring, uint32_t cap)
{
	struct message **messages = malloc(array_bytes(cap));
	if (messages == NULL)
		return;
	for (uint32_t i = 0; i < ring->count; i++)
		messages[i] = registry_ring_at(ring, i);
	memory_charge(array_bytes(cap));
	memory_credit(array_bytes(ring->cap));
	ring->bytes += array_bytes(cap);
	ring->bytes -= array_bytes(ring->cap);
	free(ring->messages);
	ring->messages = messages;
	ring->cap = cap;
	ring->head = 0;
}

/* Makes the array larger, if `size_max` allows and there is memory. */
static void ring_grow(struct registry_ring *ring, uint32_t size_max)
{
	uint32_t cap = ring->cap == 0 ? 1 : 2 * ring->cap;
	if (ring->cap > size_max / 2)
		cap = size_max;
	if (cap > ring->cap)
		ring_resize(ring, cap);
}

/* Whether one that need not be dropped now may be: some room is left for those
 * that have to be. */
static bool has_room(const struct registry_drops *drops)
{
	return drops->count < REGISTRY_DROPS_MAX - DROPS_RESERVE;
}

static void set_holding(struct registry *r, struct topic *t, bool is_holding)
{
	uv_mutex_lock(&r->by_use_lock);
	list_remove(&t->holding);
	if (is_holding)
		list_append(&r->holding, &t->holding);
	uv_mutex_unlock(&r->by_use_lock);
}

/* Takes the oldest out, whether it is claimed or not. Returns how much less
 * the history has. */
static size_t drop_oldest(struct registry *r, struct topic *t,
			  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	struct message *m = ring->messages[ring->head];
	size_t bytes = 0;

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
 * nothing counted, if that is too much. */
static bool count_held(struct registry *r, const struct registry_ring *ring,
		       size_t size)
{
	size_t max =
		memory_level() >= MEMORY_SCARCE ? 0 : r->options.replay_bytes;
	size_t own = ring->held_bytes + size;
	size_t all = atomic_fetch_add_explicit(&r->replay_bytes, size,
					       memory_order_relaxed) +
		     size;

	if (all <= max && own <= max - all)
		return true;
	atomic_fetch_sub_explicit(&r->replay_bytes, size, memory_order_relaxed);
	return false;
}

/* Drops what is held and nobody has to read any more, as far as `drops` has
 * room. Returns whether that is all. */
static bool release_held(struct registry *r, struct topic *t,
			 struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	while (ring->held > 0 && ring->messages[ring->head]->claims == 0) {
		if (!has_room(drops))
			return false;
		drop_oldest(r, t, drops);
	}
	return true;
}

/* The oldest message of the history leaves it: it is held if it is before one
 * that is claimed, or dropped; those held already are dropped if there are too
 * many. Returns how much less the history has. */
static size_t shed_oldest(struct registry *r, struct topic *t,
			  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	struct message *m = registry_ring_at(ring, ring->held);
	size_t bytes = 0;

	while ((ring->held > 0 || m->claims > 0) && has_room(drops)) {
		if (count_held(r, ring, m->size)) {
			if (ring->held++ == 0)
				set_holding(r, t, true);
			ring->held_bytes += m->size;
			ring->bytes -= m->size;
			return bytes + m->size;
		}
		bool was_it = ring->held == 0;
		bytes += drop_oldest(r, t, drops);
		if (was_it)
			return bytes;
		release_held(r, t, drops);
	}
	return has_room(drops) ? bytes + drop_oldest(r, t, drops) : bytes;
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

/* Takes all of it at once, whether it is claimed or not. */
static void drop_ring_locked(struct registry *r, struct topic *t,
			     struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	count_bytes(r, -(ptrdiff_t)ring->bytes);
	atomic_fetch_sub_explicit(&r->replay_bytes, ring->held_bytes,
				  memory_order_relaxed);
	for (uint32_t i = 0; i < ring->count; i++)
		message_drop(registry_ring_at(ring, i));
	if (ring->held > 0)
		set_holding(r, t, false);
	t->dropped = t->sequence;
	drops->ring = *ring;
	*ring = (struct registry_ring){0};
}

void registry_drop_history_locked(struct registry *r, struct topic *t,
				  struct registry_drops *drops)
{
	drop_ring_locked(r, t, drops);
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

/* Moves a topic that is listed before the border, as the last there. */
static void cross_locked(struct registry *r, struct topic *t)
{
	uv_mutex_lock(&r->by_use_lock);
	list_remove(&t->by_use);
	list_append(&r->border, &t->by_use);
	uv_mutex_unlock(&r->by_use_lock);
}

void registry_reset_border(struct registry *r)
{
	uv_mutex_lock(&r->by_use_lock);
	list_remove(&r->border);
	list_prepend(&r->by_use, &r->border);
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

/* Nobody lists or counts an unused topic any more. */
static void forget_unused_locked(struct registry *r, struct topic *t)
{
	unlist_locked(r, t);
	t->is_unused = false;
	count_bytes(r, -size_of(r, t));
	atomic_fetch_sub_explicit(&r->unused_bytes, (size_t)size_of(r, t),
				  memory_order_relaxed);
}

static void count_unused_locked(struct registry *r, struct topic *t,
				uint64_t now_ns)
{
	count_bytes(r, size_of(r, t));
	atomic_fetch_add_explicit(&r->unused_bytes, (size_t)size_of(r, t),
				  memory_order_relaxed);
	uv_mutex_lock(&r->by_use_lock);
	list_append(&r->unused, &t->by_use);
	t->used_ns = now_ns;
	t->is_unused = true;
	uv_mutex_unlock(&r->by_use_lock);
}

void registry_use_locked(struct registry *r, struct topic *t)
{
	t->was_used = true;
	if (!t->is_unused)
		return;
	forget_unused_locked(r, t);
	count_bytes(r, size_of(r, t));
	touch_locked(r, t, uv_hrtime());
}

void registry_uncount_topic_locked(struct registry *r, struct topic *t)
{
	if (t->is_unused)
		forget_unused_locked(r, t);
	else
		count_bytes(r, -size_of(r, t));
}

void registry_count_topic_locked(struct registry *r, struct topic *t,
				 uint64_t now_ns)
{
	if (!t->was_used) {
		count_unused_locked(r, t, now_ns);
		return;
	}
	count_bytes(r, size_of(r, t));
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
	bool retains = r->options.retains && kept_count(ring) > 0;
	uint32_t end = retains ? ring->count - 1 : ring->count;
	uint32_t i = ring->held;

	while (i < end && is_too_old(r, registry_ring_at(ring, i), now_ns))
		i++;
	return i;
}

/* The history loses messages that are too old, some at a time, before a newer
 * one comes: so none of them is the newest, which may be retained. */
static void shed_expired(struct registry *r, struct topic *t, uint64_t now_ns,
			 struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;

	for (unsigned n = 0; n < EXPIRED_MAX && kept_count(ring) > 0; n++) {
		if (!is_too_old(r, registry_ring_at(ring, ring->held), now_ns))
			return;
		shed_oldest(r, t, drops);
	}
}

/* Puts `m` into the ring, in the place of the oldest if there are as many as
 * may be. */
static bool store(struct registry *r, struct topic *t, struct message *m,
		  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	uint32_t max = r->options.history_size;

	while (kept_count(ring) >= max && has_room(drops))
		shed_oldest(r, t, drops);
	if (ring->count == ring->cap)
		ring_grow(ring, ring->held > 0 ? UINT32_MAX : max);
	if (ring->cap == 0)
		return false;
	if (ring->count == ring->cap)
		drop_oldest(r, t, drops);
	ring_append(ring, m);
	return true;
}

/* Gives back what the array has for messages that were held. */
static void trim(const struct registry *r, struct registry_ring *ring)
{
	uint32_t max = r->options.history_size;

	if (ring->held == 0 && ring->cap > max && ring->count <= max)
		ring_resize(ring, max);
}

bool registry_keep_locked(struct registry *r, struct topic *t,
			  struct message *m, struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t before = ring->bytes;

	/* One before the border was not used for longer than that. */
	if (!t->is_listed ||
	    registry_age_of(m->accepted_ns, t->used_ns) >= TOUCH_NS)
		touch_locked(r, t, m->accepted_ns);
	if (m->size > r->options.history_bytes) {
		drop_ring_locked(r, t, drops);
		return false;
	}
	release_held(r, t, drops);
	shed_expired(r, t, m->accepted_ns, drops);
	bool is_kept = store(r, t, m, drops);
	if (!is_kept)
		t->dropped = m->sequence;
	count_bytes(r, (ptrdiff_t)(ring->bytes - before));
	return is_kept;
}

/* --- resuming and reading ------------------------------------------------ */

/* The first message of the ring with a number above `since`, or `count`. */
static uint32_t first_above(const struct registry_ring *ring, uint64_t since)
{
	uint32_t low = 0;
	uint32_t high = ring->count;

	if (high == 0 || registry_ring_at(ring, 0)->sequence > since)
		return 0;
	/* Where no number is missing, it is there. */
	uint64_t guess = since - registry_ring_at(ring, 0)->sequence;
	if (guess < high &&
	    registry_ring_at(ring, (uint32_t)guess)->sequence == since)
		return (uint32_t)guess + 1;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (registry_ring_at(ring, middle)->sequence > since)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* Claims message `i` of the ring, if there is one. Returns whether there is. */
static bool claim(struct registry_ring *ring, uint32_t i)
{
	if (i == ring->count)
		return false;
	registry_ring_at(ring, i)->claims++;
	ring->claims++;
	return true;
}

static void unclaim(struct registry_ring *ring, uint32_t i)
{
	struct message *m = registry_ring_at(ring, i);

	CHECK(i < ring->count && m->claims > 0);
	m->claims--;
	ring->claims--;
}

/* The last number before message `i` of the ring: nothing that could be told
 * lies between them. */
static uint64_t before(const struct topic *t, uint32_t i)
{
	return i == t->ring.count ? t->sequence
				  : registry_ring_at(&t->ring, i)->sequence - 1;
}

/* Whether all above `after` is told from message `first` of the ring on. */
static bool is_exact(const struct topic *t, uint32_t first, uint64_t after)
{
	uint64_t lost =
		first == 0 ? t->dropped
			   : registry_ring_at(&t->ring, first - 1)->sequence;
	return after >= lost && after <= t->sequence;
}

void registry_resume_locked(const struct registry *r, struct topic *t,
			    struct registry_join *join)
{
	struct registry_ring *ring = &t->ring;
	uint32_t first =
		ring->count > 0 ? registry_first(r, ring, uv_hrtime()) : 0;
	uint32_t told = ring->count - first;

	join->is_exact = join->resumes && join->epoch == t->epoch &&
			 is_exact(t, first, join->after);
	if (join->is_exact)
		join->since = join->after;
	else if (join->last > 0 && join->last < told)
		join->since = before(t, ring->count - join->last);
	else if (join->last > 0 || join->resumes)
		join->since = before(t, first);
	else
		join->since = t->sequence;
	join->is_behind = claim(ring, first_above(ring, join->since));
}

/* What was claimed is gone: goes on with what is told. */
static void skip_lost(const struct registry *r, struct topic *t,
		      struct registry_reading *reading)
{
	uint32_t i = registry_first(r, &t->ring, uv_hrtime());

	reading->message = NULL;
	reading->since = before(t, i);
	reading->is_live = !claim(&t->ring, i);
}

static void read_locked(const struct registry *r, struct topic *t,
			struct registry_reading *reading)
{
	struct registry_ring *ring = &t->ring;

	reading->is_void = reading->epoch != t->epoch;
	reading->is_live = false;
	reading->message = NULL;
	if (reading->is_void)
		return;
	if (reading->since < t->dropped) {
		skip_lost(r, t, reading);
		return;
	}
	uint32_t i = first_above(ring, reading->since);
	unclaim(ring, i);
	reading->message = message_ref(registry_ring_at(ring, i), 1);
	reading->since = reading->message->sequence;
	reading->is_live = !claim(ring, i + 1);
}

/* Drops what is held for nobody. Returns false if there is more. */
static bool release_locked(struct registry *r, struct topic *t,
			   struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	bool is_all = release_held(r, t, drops);
	size_t had = ring->bytes;

	if (ring->count == 0 && !t->is_listed) {
		drop_ring_locked(r, t, drops); /* the array */
		return true;
	}
	trim(r, ring);
	count_bytes(r, (ptrdiff_t)(ring->bytes - had));
	return is_all;
}

void registry_read(struct registry *r, struct topic *t,
		   struct registry_reading *reading)
{
	struct registry_shard *s = registry_shard_of(r, t->hash);
	struct registry_drops drops;

	registry_drops_init(&drops);
	uv_rwlock_rdlock(&s->lock);
	uv_mutex_lock(&t->lock);
	read_locked(r, t, reading);
	release_locked(r, t, &drops);
	uv_mutex_unlock(&t->lock);
	uv_rwlock_rdunlock(&s->lock);
	registry_drops_free(&drops);
}

void registry_give_up(struct registry *r, struct topic *t, uint64_t epoch,
		      uint64_t since)
{
	struct registry_shard *s = registry_shard_of(r, t->hash);
	struct registry_drops drops;
	bool is_all = false;

	/* More than these go with the next publications. */
	for (unsigned i = 0; i < RELEASES_MAX && !is_all; i++) {
		registry_drops_init(&drops);
		uv_rwlock_rdlock(&s->lock);
		uv_mutex_lock(&t->lock);
		if (i == 0 && epoch == t->epoch && since >= t->dropped)
			unclaim(&t->ring, first_above(&t->ring, since));
		is_all = release_locked(r, t, &drops);
		uv_mutex_unlock(&t->lock);
		uv_rwlock_rdunlock(&s->lock);
		registry_drops_free(&drops);
	}
}

/* --- dropping ------------------------------------------------------------ */

/* The first topic of by_use, unused or holding, or behind the border; NULL if
 * there is none. */
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

/* Returns the first topic of a list (first_in), if it was not used for
 * `age_ns` or more, and locks its shard for writing; NULL if there is none. */
static struct topic *lock_first(struct registry *r, const struct list *list,
				uint64_t now_ns, uint64_t age_ns)
{
	struct registry_shard *locked = NULL;

	/* Without its shard's lock it may go, or be used, at any moment; and
	 * that lock comes before the list's. So it is looked at twice. */
	for (;;) {
		struct registry_shard *s = NULL;

		uv_mutex_lock(&r->by_use_lock);
		struct topic *t = first_in(r, list);
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

/* What is left of the history of a topic that was not used for longest goes,
 * but for what is held; so does the topic itself if nobody has subscribed. Its
 * shard is locked for writing. Returns how much work it was beside that. */
static size_t retire_locked(struct registry *r, struct topic *t,
			    struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t had = ring->bytes;

	if (ring->claims == 0) {
		drop_ring_locked(r, t, drops);
	} else {
		while (kept_count(ring) > 0 && has_room(drops))
			shed_oldest(r, t, drops);
		count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
		if (kept_count(ring) > 0)
			return 0; /* it stays the first */
	}
	unlist_locked(r, t);
	if (t->subscribers > 0)
		return 0;
	registry_uncount_topic_locked(r, t);
	return registry_remove_locked(r, registry_shard_of(r, t->hash), t);
}

/* Makes the history lose its oldest messages until there are at most `bytes` in
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
	while (kept_count(ring) > 0 && has_room(drops)) {
		if (dropped >= needed &&
		    (kept_count(ring) == 1 || dropped >= needed + spare))
			break;
		dropped += shed_oldest(r, t, drops);
	}
	count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
}

/* Forgets the topic that was left first of those that never had a message, if
 * that is `age_ns` or more ago. Returns how much work it was; 0 if there is
 * none. */
static size_t forget_unused(struct registry *r, uint64_t now_ns,
			    uint64_t age_ns)
{
	struct topic *t = lock_first(r, &r->unused, now_ns, age_ns);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	forget_unused_locked(r, t);
	size_t work = 1 + registry_remove_locked(r, s, t);
	uv_rwlock_wrunlock(&s->lock);
	return work;
}

/* Makes one that never had a message go, or the topic not used for longest lose
 * something. Returns how much work it was; 0 if there is nothing to lose. */
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
	if (kept_count(&t->ring) == 0)
		work += retire_locked(r, t, &drops);
	uv_rwlock_wrunlock(&s->lock);
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
	while (t->ring.held > 0 && has_room(&drops))
		drop_oldest(r, t, &drops);
	uv_rwlock_wrunlock(&s->lock);
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

/* Forgets the topic not used for longest. Returns how much work it was; 0 if
 * there is none. */
static size_t retire_first(struct registry *r)
{
	struct registry_drops drops;
	struct topic *t = lock_first(r, &r->by_use, 0, 0);

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

/* A topic that is too old loses all but its newest message, and goes before the
 * border. Its shard is locked for writing. */
static void retain_locked(struct registry *r, struct topic *t,
			  struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	size_t had = ring->bytes;

	while (kept_count(ring) > 1 && has_room(drops))
		shed_oldest(r, t, drops);
	if (ring->count == 1 && ring->cap > 1)
		ring_resize(ring, 1);
	count_bytes(r, -(ptrdiff_t)(had - ring->bytes));
	if (kept_count(ring) == 1) /* else it stays the first behind it */
		cross_locked(r, t);
}

/* Makes the topic not used for longest lose what is too old, if it was not used
 * for `age_ns`. Returns how much work it was; 0 if there is none. */
static size_t age_oldest(struct registry *r, uint64_t now_ns, uint64_t age_ns)
{
	struct registry_drops drops;
	struct topic *t = lock_first(r, &r->border, now_ns, age_ns);

	if (t == NULL)
		return 0;
	struct registry_shard *s = registry_shard_of(r, t->hash);
	size_t work = 1;
	registry_drops_init(&drops);
	if (r->options.retains && kept_count(&t->ring) > 0) {
		retain_locked(r, t, &drops);
		work += drops.count;
	} else {
		work += t->ring.count;
		work += retire_locked(r, t, &drops);
	}
	uv_rwlock_wrunlock(&s->lock);
	registry_drops_free(&drops);
	return work;
}

bool registry_age(struct registry *r, uint64_t now_ns)
{
	size_t work = 0;

	/* Its last message may be younger than its use, by less than that. */
	while (work < STEP_MAX) {
		size_t done = age_oldest(r, now_ns, r->ttl_ns + TOUCH_NS);
		if (done == 0)
			done = forget_unused(r, now_ns, r->ttl_ns + TOUCH_NS);
		if (done == 0)
			return false;
		work += done;
	}
	return true;
}

void registry_forget_all(struct registry *r)
{
	while (forget_unused(r, 0, 0) > 0 || retire_first(r) > 0)
		;
}
