/* restore.c - makes topics as another process left them, while no other thread
 * runs. */
#include "topics/table.h"

#include "base/check.h"

uint64_t registry_last_sequence(struct registry *r)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		const struct registry_shard *s = &r->shards[i];
		if (last < s->sequence_base)
			last = s->sequence_base;
		for (size_t b = 0; s->topics > 0 && b >> s->bucket_bits == 0;
		     b++)
			for (const struct topic *t = s->buckets[b]; t != NULL;
			     t = t->next)
				if (last < t->sequence)
					last = t->sequence;
	}
	return last;
}

void registry_set_epoch(struct registry *r, uint64_t epoch,
			uint64_t last_sequence)
{
	atomic_store(&r->epoch, epoch);
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		CHECK(r->shards[i].topics == 0);
		r->shards[i].sequence_base = last_sequence;
	}
}

static bool is_numbered(const struct registry_topic *t)
{
	if (t->messages_count > t->sequence)
		return false;
	for (unsigned i = 0; i < t->messages_count; i++)
		if (t->messages[i]->sequence !=
		    t->sequence - (t->messages_count - 1 - i))
			return false;
	return true;
}

/* Makes the topic, still without messages. `*out` is NULL if it is too old. */
static int make_saved_topic(struct registry *r, struct registry_shard *s,
			    uint64_t hash, const struct registry_topic *saved,
			    struct topic **out)
{
	*out = NULL;
	if (!is_numbered(saved))
		return UV_EINVAL;
	if (registry_find_locked(s, hash, &saved->key) != NULL)
		return UV_EEXIST;
	bool retains = r->options.retains && saved->messages_count > 0;
	if (!r->has_history ||
	    (!retains &&
	     registry_age_of(uv_hrtime(), saved->used_ns) >= r->ttl_ns))
		return 0;
	struct topic *t = registry_insert_locked(r, s, hash, &saved->key);
	if (t == NULL)
		return UV_ENOMEM;
	t->sequence = saved->sequence;
	t->dropped = saved->sequence;
	t->was_used = true;
	registry_count_topic_locked(r, t, saved->used_ns);
	*out = t;
	return 0;
}

/* Takes the reference. */
static void restore_message(struct registry *r, struct topic *t,
			    struct message *m)
{
	struct registry_drops drops;

	registry_drops_init(&drops);
	if (t == NULL) {
		message_unref(m, 1);
		return;
	}
	if (t->ring.count == 0)
		t->dropped = m->sequence - 1;
	m->epoch = t->epoch;
	if (!registry_keep_locked(r, t, m, &drops))
		message_unref(m, 1);
	registry_drops_free(&drops);
}

/* How many of the first messages are too old, and not retained. Times are not
 * quite in the order of numbers, as they are taken earlier; but the messages
 * that are kept must not have a gap. */
static unsigned count_expired(const struct registry *r,
			      const struct registry_topic *saved)
{
	uint64_t now_ns = uv_hrtime();
	unsigned n = 0;
	unsigned end = saved->messages_count;

	if (r->options.retains && end > 0)
		end--;
	while (n < end &&
	       registry_age_of(now_ns, saved->messages[n]->accepted_ns) >=
		       r->ttl_ns)
		n++;
	return n;
}

int registry_restore(struct registry *r, const struct registry_topic *saved)
{
	uint64_t hash = registry_hash(r, &saved->key);
	struct registry_shard *s = registry_shard_of(r, hash);
	struct topic *t;

	rwlock_write_acquire(&s->lock);
	int rv = make_saved_topic(r, s, hash, saved, &t);
	unsigned expired = count_expired(r, saved);
	for (unsigned i = 0; i < saved->messages_count; i++)
		restore_message(r, i < expired ? NULL : t, saved->messages[i]);
	rwlock_write_release(&s->lock);
	registry_bound(r);
	return rv;
}
