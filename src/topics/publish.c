/* publish.c - gives a message its number, keeps it, and posts it to all workers
 * that have a subscriber. */
#include "topics/table.h"

/* How many workers `t` has; -1 if the mailbox of one has no room for `size`
 * bytes (0: not checked). */
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

void registry_post_all_locked(struct registry *r, struct topic *t,
			      struct message *m, unsigned workers)
{
	registry_check_locked(r, t);
	for (unsigned w = 0; workers > 0; w++) {
		struct registry_slot *slot = &t->slots[w];
		if (slot->member == NULL)
			continue;
		slot->posted++;
		workers--;
		mailbox_post_message(r->options.mailboxes[w], slot->member, m);
	}
}

void registry_place_locked(struct registry *r, struct topic *t,
			   struct registry_posting *p, unsigned workers)
{
	struct message *m = p->message;
	unsigned users = workers;

	registry_check_locked(r, t);
	m->epoch = t->epoch;
	p->receipt->sequence = m->sequence;
	p->receipt->subscribers = t->subscribers;
	registry_count_bytes(r, -(ptrdiff_t)p->reserved);
	p->reserved = 0;
	if (!r->has_history)
		t->dropped = m->sequence;
	else if (p->is_passing)
		registry_pass_locked(r, t, m, &p->drops);
	else
		users += registry_keep_locked(r, t, m, &p->drops);
	/* The caller's reference is for one of them. */
	if (users > 1)
		message_ref(m, users - 1);
	if (users > 0)
		p->message = NULL;
	registry_post_all_locked(r, t, m, workers);
}

int registry_post(struct registry *r, struct topic *t,
		  struct registry_posting *p)
{
	struct message *m = p->message;

	lock_acquire(&t->lock);
	int workers = count_workers(r, t, p->has_room ? 0 : m->size);
	if (workers < 0) {
		lock_release(&t->lock);
		return UV_ENOBUFS;
	}
	if (!t->was_used)
		registry_use_locked(r, t);
	m->sequence = ++t->sequence;
	registry_place_locked(r, t, p, (unsigned)workers);
	lock_release(&t->lock);
	return 0;
}

struct topic *registry_make_locked(struct registry *r, struct registry_shard *s,
				   uint64_t hash, const struct topic_key *key,
				   uint64_t now_ns)
{
	struct topic *t = registry_find_locked(s, hash, key);

	CHECK_HOLDS_FOR_WRITING(&s->lock);
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

/* The same for a topic that did not exist a moment ago. */
static int publish_to_new(struct registry *r, uint64_t hash,
			  const struct topic_key *key,
			  struct registry_posting *p)
{
	struct registry_shard *s = registry_shard_of(r, hash);
	int rv = UV_ENOMEM;

	rwlock_write_acquire(&s->lock);
	struct topic *t =
		registry_make_locked(r, s, hash, key, p->message->accepted_ns);
	if (t != NULL)
		rv = registry_post(r, t, p);
	rwlock_write_release(&s->lock);
	return rv;
}

size_t registry_reserve_one(struct registry *r, const struct message *m)
{
	size_t max = r->options.history_bytes;

	if (!r->has_history || m->size > max ||
	    registry_history_bytes(r) <= max - m->size)
		return 0;
	registry_reserve(r, m->size);
	return m->size;
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
	p.reserved = registry_reserve_one(r, m);
	p.is_passing = false;
	registry_drops_init(&p.drops);
	*receipt = (struct registry_receipt){0};
	rwlock_read_acquire(&s->lock);
	struct topic *t = registry_find_locked(s, hash, key);
	if (t != NULL)
		rv = registry_post(r, t, &p);
	else if (!r->has_history)
		receipt->sequence = registry_number_without(s);
	rwlock_read_release(&s->lock);
	if (t == NULL && r->has_history)
		rv = publish_to_new(r, hash, key, &p);
	if (p.message != NULL)
		message_unref(p.message, 1);
	registry_drops_free(&p.drops);
	registry_count_bytes(r, -(ptrdiff_t)p.reserved);
	registry_bound(r);
	return rv;
}
