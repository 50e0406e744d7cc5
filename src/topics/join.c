/* join.c - adds subscribers to a topic, and removes them. */
#include "topics/table.h"

#include "base/check.h"

/* Adds a subscriber to a topic whose shard is locked either way. */
static int add_subscriber(struct registry *r, struct topic *t, unsigned worker,
			  struct registry_join *join)
{
	struct registry_slot *slot = &t->slots[worker];

	lock_acquire(&t->lock);
	if (slot->member == NULL && join->member == NULL) {
		lock_release(&t->lock);
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
	/* The topic has missed nothing of what is applied. */
	if (r->options.is_log && t->sequence < registry_applied(r))
		t->sequence = registry_applied(r);
	registry_resume_locked(r, t, join);
	lock_release(&t->lock);
	return 0;
}

int registry_join(struct registry *r, const struct topic_key *key,
		  unsigned worker, struct registry_join *join)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);

	rwlock_read_acquire(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	int rv = t == NULL ? UV_ENOENT : add_subscriber(r, t, worker, join);
	rwlock_read_release(&s->lock);
	if (rv == 0 || join->member == NULL)
		return rv;

	rwlock_write_acquire(&s->lock);
	t = registry_find_locked(s, hash, key);
	if (t == NULL)
		t = registry_insert_locked(r, s, hash, key);
	rv = t == NULL ? UV_ENOMEM : add_subscriber(r, t, worker, join);
	rwlock_write_release(&s->lock);
	return rv;
}

/* Removes one subscriber. Returns whether it was the worker's last;
 * `*is_unused`: the topic's last. */
static bool take_subscriber(struct topic *t, unsigned worker, uint64_t *posted,
			    bool *is_unused)
{
	struct registry_slot *slot = &t->slots[worker];

	lock_acquire(&t->lock);
	CHECK(slot->subscribers > 0);
	bool is_last = --slot->subscribers == 0;
	if (is_last) {
		*posted = slot->posted;
		slot->member = NULL;
	}
	*is_unused = --t->subscribers == 0;
	lock_release(&t->lock);
	return is_last;
}

bool registry_leave(struct registry *r, struct topic *t, unsigned worker,
		    uint64_t *posted)
{
	struct registry_shard *s = registry_shard_of(r, t->hash);
	bool is_unused;

	/* The write lock is taken at once: were it taken only for the last
	 * subscriber, somebody else could free the topic between the two
	 * locks. */
	rwlock_write_acquire(&s->lock);
	bool is_last = take_subscriber(t, worker, posted, &is_unused);
	if (is_unused && r->has_history)
		registry_count_topic_locked(r, t, uv_hrtime());
	else if (is_unused)
		registry_remove_locked(r, s, t);
	rwlock_write_release(&s->lock);
	if (is_unused)
		registry_bound(r);
	return is_last;
}
