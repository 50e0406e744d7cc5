/* sequenced.c - publications whose numbers come from a log that several nodes
 * share. */
#include "topics/table.h"

#include "base/check.h"

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
	lock_acquire(&t->lock);
	CHECK(p->message->sequence > t->sequence);
	if (!t->was_used)
		registry_use_locked(r, t);
	t->sequence = p->message->sequence;
	registry_place_locked(r, t, p, count_members(r, t));
	lock_release(&t->lock);
}

/* There was no topic. Without history nobody would get the message, so none is
 * made. */
static void apply_to_new(struct registry *r, uint64_t hash,
			 const struct topic_key *key,
			 struct registry_posting *p)
{
	struct registry_shard *s = registry_shard_of(r, hash);

	rwlock_write_acquire(&s->lock);
	struct topic *t =
		r->has_history ? registry_make_locked(r, s, hash, key,
						      p->message->accepted_ns)
			       : registry_find_locked(s, hash, key);
	if (t != NULL)
		apply_to(r, t, p);
	else /* topics that are made later in this shard begin above it */
		s->sequence_base = p->message->sequence;
	rwlock_write_release(&s->lock);
}

void registry_apply(struct registry *r, const struct topic_key *key,
		    struct message *m)
{
	uint64_t hash = registry_hash(r, key);
	struct registry_shard *s = registry_shard_of(r, hash);
	struct registry_receipt receipt;
	struct registry_posting p = {.message = m, .receipt = &receipt};

	p.reserved = registry_reserve_one(r, m);
	registry_drops_init(&p.drops);
	rwlock_read_acquire(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	if (t != NULL)
		apply_to(r, t, &p);
	rwlock_read_release(&s->lock);
	if (t == NULL)
		apply_to_new(r, hash, key, &p);
	if (p.message != NULL)
		message_unref(p.message, 1);
	registry_drops_free(&p.drops);
	registry_count_bytes(r, -(ptrdiff_t)p.reserved);
	registry_bound(r);
}

/* --- another epoch -------------------------------------------------------- */

/* The message that tells subscribers of a new epoch. Without memory the process
 * ends: no subscriber may go on as if nothing was lost. */
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
	lock_acquire(&t->lock);
	registry_drop_history_locked(r, t, &drops);
	t->epoch = epoch;
	t->sequence = base;
	t->dropped = base;
	unsigned workers = count_members(r, t);
	if (workers > 0) {
		struct message *m = reset_of(r, epoch, base);
		message_ref(m, workers);
		registry_post_all_locked(r, t, m, workers);
		message_unref(m, 1);
	}
	lock_release(&t->lock);
	registry_drops_free(&drops);
}

void registry_renew(struct registry *r, uint64_t epoch, uint64_t base)
{
	atomic_store_explicit(&r->epoch, epoch, memory_order_relaxed);
	registry_reach(r, base);
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++) {
		struct registry_shard *s = &r->shards[i];
		rwlock_write_acquire(&s->lock);
		s->sequence_base = base;
		size_t buckets =
			s->buckets == NULL ? 0 : (size_t)1 << s->bucket_bits;
		for (size_t b = 0; b < buckets; b++)
			for (struct topic *t = s->buckets[b]; t != NULL;
			     t = t->next)
				renew_topic(r, t, epoch, base);
		rwlock_write_release(&s->lock);
	}
	registry_reset_border(r);
	/* After all of those: who subscribes from then on is in the new
	 * epoch. */
	struct message *m = reset_of(r, epoch, base);
	message_ref(m, r->options.workers);
	for (unsigned w = 0; w < r->options.workers; w++)
		mailbox_post_message(r->options.mailboxes[w], NULL, m);
	message_unref(m, 1);
}
