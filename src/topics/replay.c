/* replay.c - the history that a subscriber has to get: where it begins, and
 * reading it message by message. */
#include "topics/table.h"

#include "base/check.h"

/* A subscriber that leaves frees at most so many times REGISTRY_DROPS_MAX
 * messages. */
#define RELEASES_MAX 32

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

/* The last number before message `i` of the ring: no message that may be shown
 * lies between them. */
static uint64_t number_before(const struct topic *t, uint32_t i)
{
	return i == t->ring.count ? t->sequence
				  : registry_ring_at(&t->ring, i)->sequence - 1;
}

/* Whether all messages above `after` come if the first is message `first` of
 * the ring. */
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

	registry_check_locked(r, t);
	join->is_exact = join->resumes && join->epoch == t->epoch &&
			 is_exact(t, first, join->after);
	if (join->is_exact)
		join->since = join->after;
	else if (join->last > 0 && join->last < told)
		join->since = number_before(t, ring->count - join->last);
	else if (join->last > 0 || join->resumes)
		join->since = number_before(t, first);
	else
		join->since = t->sequence;
	join->is_behind = claim(ring, first_above(ring, join->since));
}

/* The claimed message is gone: goes on with the first that may be shown. */
static void skip_lost(const struct registry *r, struct topic *t,
		      struct registry_reading *reading)
{
	uint32_t i = registry_first(r, &t->ring, uv_hrtime());

	reading->message = NULL;
	reading->since = number_before(t, i);
	reading->is_live = !claim(&t->ring, i);
}

static void read_locked(const struct registry *r, struct topic *t,
			struct registry_reading *reading)
{
	struct registry_ring *ring = &t->ring;

	registry_check_locked(r, t);
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

/* Drops messages that are held for nobody. Returns false if there are more. */
static bool release_locked(struct registry *r, struct topic *t,
			   struct registry_drops *drops)
{
	struct registry_ring *ring = &t->ring;
	bool is_all = registry_release_held_locked(r, t, drops);
	size_t had = ring->bytes;

	registry_check_locked(r, t);
	if (ring->count == 0 && !t->is_listed) {
		registry_drop_history_locked(r, t, drops); /* the array */
		return true;
	}
	registry_ring_trim(ring, r->options.history_size);
	registry_count_bytes(r, (ptrdiff_t)(ring->bytes - had));
	return is_all;
}

void registry_read(struct registry *r, struct topic *t,
		   struct registry_reading *reading)
{
	struct registry_shard *s = registry_shard_of(r, t->hash);
	struct registry_drops drops;

	registry_drops_init(&drops);
	rwlock_read_acquire(&s->lock);
	lock_acquire(&t->lock);
	read_locked(r, t, reading);
	release_locked(r, t, &drops);
	lock_release(&t->lock);
	rwlock_read_release(&s->lock);
	registry_drops_free(&drops);
}

void registry_give_up(struct registry *r, struct topic *t, uint64_t epoch,
		      uint64_t since)
{
	struct registry_shard *s = registry_shard_of(r, t->hash);
	struct registry_drops drops;
	bool is_all = false;

	/* Later publications drop the rest. */
	for (unsigned i = 0; i < RELEASES_MAX && !is_all; i++) {
		registry_drops_init(&drops);
		rwlock_read_acquire(&s->lock);
		lock_acquire(&t->lock);
		if (i == 0 && epoch == t->epoch && since >= t->dropped)
			unclaim(&t->ring, first_above(&t->ring, since));
		is_all = release_locked(r, t, &drops);
		lock_release(&t->lock);
		rwlock_read_release(&s->lock);
		registry_drops_free(&drops);
	}
}
