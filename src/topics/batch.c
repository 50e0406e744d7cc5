/* batch.c - publishes several messages at once: all of them, or none.
 *
 * Nothing may fail once the first is posted. So the topics are made first; then
 * all their shards are locked for reading, in order, so that no topic goes away
 * while others may still publish; then room is reserved in every mailbox that
 * will get a message; then all are posted. History makes room before all that,
 * for as many of them as it can keep. */
#include "config/config.h"
#include "topics/mailbox.h"
#include "topics/table.h"

#include <uv.h>

/* How often topics are made again: history may be dropped between making them
 * and locking all. */
#define ATTEMPTS_MAX 4

static bool is_in_set(uint64_t shards, unsigned i)
{
	return (shards >> i & 1) != 0;
}

_Static_assert(REGISTRY_SHARDS <= 64, "a set of shards is a word");

static void lock_shards(struct registry *r, uint64_t shards)
{
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++)
		if (is_in_set(shards, i))
			rwlock_read_acquire(&r->shards[i].lock);
}

static void unlock_shards(struct registry *r, uint64_t shards)
{
	for (unsigned i = 0; i < REGISTRY_SHARDS; i++)
		if (is_in_set(shards, i))
			rwlock_read_release(&r->shards[i].lock);
}

/* Hashes all keys, and returns the shards that they are in. */
static uint64_t hash_all(const struct registry *r, struct registry_item *items,
			 size_t count)
{
	uint64_t shards = 0;

	for (size_t i = 0; i < count; i++) {
		items[i].hash = registry_hash(r, &items[i].key);
		shards |= UINT64_C(1)
			  << (items[i].hash & (REGISTRY_SHARDS - 1));
	}
	return shards;
}

/* Finds the topic of each item; the shards are locked. Returns whether all
 * topics are there that are needed. */
static bool find_all_locked(struct registry *r, struct registry_item *items,
			    size_t count)
{
	bool has_all = true;

	for (size_t i = 0; i < count; i++) {
		struct registry_item *item = &items[i];
		item->topic =
			registry_find_locked(registry_shard_of(r, item->hash),
					     item->hash, &item->key);
		has_all = has_all && (item->topic != NULL || !r->has_history);
	}
	return has_all;
}

/* Makes those that are missing. Returns 0 or UV_ENOMEM. */
static int make_all(struct registry *r, struct registry_item *items,
		    size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct registry_item *item = &items[i];
		struct registry_shard *s = registry_shard_of(r, item->hash);
		if (item->topic != NULL)
			continue;
		rwlock_write_acquire(&s->lock);
		struct topic *t =
			registry_make_locked(r, s, item->hash, &item->key,
					     item->message->accepted_ns);
		rwlock_write_release(&s->lock);
		if (t == NULL)
			return UV_ENOMEM;
	}
	return 0;
}

/* Locks the shards so that every topic that is needed is there. Returns 0; or,
 * with none locked, UV_ENOMEM, or UV_ENOBUFS if topics are dropped as fast as
 * they are made. */
static int lock_all(struct registry *r, struct registry_item *items,
		    size_t count, uint64_t shards)
{
	for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		lock_shards(r, shards);
		if (find_all_locked(r, items, count))
			return 0;
		unlock_shards(r, shards);
		int rv = make_all(r, items, count);
		if (rv != 0)
			return rv;
	}
	return UV_ENOBUFS;
}

/* --- room ---------------------------------------------------------------- */

/* What each worker's mailbox will get, in bytes. */
static void measure_locked(const struct registry *r,
			   const struct registry_item *items, size_t count,
			   size_t *bytes)
{
	for (size_t i = 0; i < count; i++) {
		struct topic *t = items[i].topic;
		if (t == NULL)
			continue;
		lock_acquire(&t->lock);
		for (unsigned w = 0; w < r->options.workers; w++)
			if (t->slots[w].member != NULL)
				bytes[w] += items[i].message->size;
		lock_release(&t->lock);
	}
}

static void unreserve_mail(const struct registry *r, const size_t *bytes,
			   unsigned workers)
{
	for (unsigned w = 0; w < workers; w++)
		if (bytes[w] > 0)
			mailbox_unreserve(r->options.mailboxes[w], bytes[w]);
}

/* Returns whether there is room for all; if not, nothing is reserved. */
static bool reserve_mail(const struct registry *r, const size_t *bytes)
{
	for (unsigned w = 0; w < r->options.workers; w++) {
		if (bytes[w] == 0 ||
		    mailbox_reserve(r->options.mailboxes[w], bytes[w]))
			continue;
		unreserve_mail(r, bytes, w);
		return false;
	}
	return true;
}

/* --- posting ------------------------------------------------------------- */

/* What the history needs for a message that it keeps: a ring that grows has up
 * to two places for each. */
static size_t cost_of(const struct message *m)
{
	return m->size + 2 * sizeof(struct message *);
}

/* What topics that have to be made may need, at most; of all that there is, no
 * more than half. */
static size_t cost_of_topics(const struct registry *r,
			     const struct registry_item *items, size_t count)
{
	size_t max = r->options.history_bytes / 2;
	size_t bytes = 0;

	for (size_t i = 0; i < count && bytes < max; i++)
		if (i == 0 || items[i].hash != items[i - 1].hash)
			bytes += registry_topic_size(r, &items[i].key);
	return bytes < max ? bytes : max;
}

/* Makes room for as many of the last ones as history can have, and for topics.
 * Returns how many bytes it keeps for the former; `*first` is the first of
 * them. */
static size_t reserve_history(struct registry *r,
			      const struct registry_item *items, size_t count,
			      size_t *first)
{
	size_t bytes = 0;
	size_t i = count;

	*first = 0;
	if (!r->has_history)
		return 0;
	size_t of_topics = cost_of_topics(r, items, count);
	while (i > 0) {
		size_t cost = cost_of(items[i - 1].message);
		if (cost > r->options.history_bytes - of_topics - bytes)
			break;
		bytes += cost;
		i--;
	}
	*first = i;
	registry_reserve(r, bytes + of_topics);
	registry_count_bytes(r, -(ptrdiff_t)of_topics);
	return bytes;
}

/* `is_kept`: room was made for it in the history. */
static void post_one_locked(struct registry *r, struct registry_item *item,
			    bool is_kept)
{
	struct registry_posting p;

	p.reserved = r->has_history && is_kept ? cost_of(item->message) : 0;
	if (item->topic == NULL) {
		item->receipt.sequence = registry_number_without(
			registry_shard_of(r, item->hash));
		return;
	}
	p.message = item->message;
	p.receipt = &item->receipt;
	p.has_room = true;
	p.is_passing = !is_kept;
	registry_drops_init(&p.drops);
	registry_post(r, item->topic, &p);
	item->message = p.message;
	registry_drops_free(&p.drops);
}

static int post_all_locked(struct registry *r, struct registry_item *items,
			   size_t count, size_t first_kept)
{
	size_t bytes[CONFIG_WORKERS_MAX] = {0};

	measure_locked(r, items, count, bytes);
	if (!reserve_mail(r, bytes))
		return UV_ENOBUFS;
	for (size_t i = 0; i < count; i++)
		post_one_locked(r, &items[i], i >= first_kept);
	unreserve_mail(r, bytes, r->options.workers);
	return 0;
}

int registry_publish_all(struct registry *r, struct registry_item *items,
			 size_t count)
{
	uint64_t shards = hash_all(r, items, count);
	size_t first_kept;
	size_t reserved = reserve_history(r, items, count, &first_kept);
	int rv = lock_all(r, items, count, shards);

	if (rv == 0) {
		rv = post_all_locked(r, items, count, first_kept);
		unlock_shards(r, shards);
	}
	if (rv != 0)
		registry_count_bytes(r, -(ptrdiff_t)reserved);
	for (size_t i = 0; i < count; i++) {
		if (items[i].message != NULL)
			message_unref(items[i].message, 1);
		items[i].message = NULL;
	}
	registry_bound(r);
	return rv;
}
