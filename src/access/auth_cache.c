/* auth_cache.c - one hash table of ids that are asked, or known for a yes.
 *
 *  auth_cache_ask() --> QUEUED --> ASKED --> KEPT --> gone
 *        |              |          ^  |
 *        +--------------+----------+  +--> gone, unless it is a yes
 *                       +--> gone: it was left, or expired
 *
 * Nothing is allocated when an answer or a turn comes, so it reaches all that
 * wait. While one is queued, as many as may be are asked: each that ends gives
 * its turn to the one that has waited for longest. */
#include "access/auth_cache.h"

#include "base/check.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/siphash.h"

#include <stdlib.h>
#include <sys/random.h>

#define BUCKETS_MAX 65536 /* a power of two */
/* Expired yeses that one call drops: more than it can add, and not so many that
 * others would wait for the lock. */
#define EXPIRED_MAX 4

enum entry_state {
	ENTRY_QUEUED,
	ENTRY_ASKED,
	ENTRY_KEPT,
	ENTRY_STATES,
};

/* Guarded by the table's lock. */
struct entry {
	struct entry *next; /* in its bucket */
	struct list link;   /* in `kept` or `queue`; in no list while asked */
	struct auth_cache_id id;
	enum entry_state state;
	/* Until it is kept. */
	unsigned asker;               /* who asks, or will */
	struct mailbox_note *waiting; /* struct auth_cache_note */
	struct auth_cache_note *turn; /* while queued: for the asker */
	uint64_t until_ms;            /* while kept */
};

struct auth_cache {
	/* Immutable. */
	struct auth_cache_options options;
	struct siphash_key key;
	size_t buckets_count; /* a power of two */
	struct lock lock;
	/* Guarded by `lock`. */
	struct entry **buckets;
	struct list kept;  /* oldest first, which expires first */
	struct list queue; /* oldest first */
	/* Atomic; written under `lock`. */
	_Atomic size_t counts[ENTRY_STATES];
};

/* --- the table ------------------------------------------------------------ */

static size_t buckets_for(const struct auth_cache_options *options)
{
	size_t count = 1;

	while (count < BUCKETS_MAX &&
	       (count < (size_t)options->checks_max + options->queue_max ||
		count < options->entries_max))
		count *= 2;
	return count;
}

int auth_cache_new(struct auth_cache **out,
		   const struct auth_cache_options *options)
{
	struct auth_cache *cache = calloc(1, sizeof *cache);

	CHECK(options->checks_max > 0);
	if (cache == NULL)
		return UV_ENOMEM;
	cache->options = *options;
	if (options->ttl_ms == 0)
		cache->options.entries_max = 0;
	cache->buckets_count = buckets_for(&cache->options);
	cache->buckets = calloc(cache->buckets_count, sizeof(struct entry *));
	int rv = cache->buckets == NULL ? UV_ENOMEM
					: lock_init(&cache->lock, LOCK_LEAF);
	if (rv != 0)
		goto err;
	if (getrandom(&cache->key, sizeof cache->key, 0) !=
	    (ssize_t)sizeof cache->key) {
		lock_fini(&cache->lock);
		rv = UV_EIO;
		goto err;
	}
	list_init(&cache->kept);
	list_init(&cache->queue);
	memory_charge(cache->buckets_count * sizeof(struct entry *));
	*out = cache;
	return 0;
err:
	free(cache->buckets);
	free(cache);
	return rv;
}

uint64_t auth_cache_hash(const struct auth_cache *cache,
			 const struct auth_cache_id *id)
{
	return siphash(&cache->key, id->bytes, sizeof id->bytes);
}

static struct entry **bucket_of_id(const struct auth_cache *cache,
				   const struct auth_cache_id *id)
{
	return &cache->buckets[auth_cache_hash(cache, id) &
			       (cache->buckets_count - 1)];
}

static struct entry *find_entry_locked(const struct auth_cache *cache,
				       const struct auth_cache_id *id)
{
	struct entry *e = *bucket_of_id(cache, id);

	CHECK_HOLDS(&cache->lock);
	while (e != NULL && memcmp(&e->id, id, sizeof *id) != 0)
		e = e->next;
	return e;
}

static struct entry *find_asked_locked(const struct auth_cache *cache,
				       const struct auth_cache_id *id)
{
	struct entry *e = find_entry_locked(cache, id);

	CHECK_HOLDS(&cache->lock);
	CHECK(e != NULL && e->state != ENTRY_KEPT);
	return e;
}

static void count_locked(struct auth_cache *cache, enum entry_state state,
			 bool up)
{
	CHECK_HOLDS(&cache->lock);
	_Atomic size_t *count = &cache->counts[state];
	size_t now = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, up ? now + 1 : now - 1,
			      memory_order_relaxed);
}

static void move_locked(struct auth_cache *cache, struct entry *e,
			enum entry_state to)
{
	CHECK_HOLDS(&cache->lock);
	count_locked(cache, e->state, false);
	list_remove(&e->link);
	e->state = to;
	count_locked(cache, to, true);
}

/* The turn of one that is queued is not needed any more. */
static void drop_turn_locked(struct entry *e)
{
	if (e->turn == NULL)
		return;
	memory_credit(sizeof *e->turn);
	free(e->turn);
	e->turn = NULL;
}

/* Nobody may be waiting. */
static void forget_locked(struct auth_cache *cache, struct entry *e)
{
	struct entry **at = bucket_of_id(cache, &e->id);

	CHECK_HOLDS(&cache->lock);
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_remove(&e->link);
	count_locked(cache, e->state, false);
	drop_turn_locked(e);
	memory_credit(sizeof *e);
	free(e);
}

static struct entry *oldest_kept_locked(const struct auth_cache *cache)
{
	CHECK_HOLDS(&cache->lock);
	/* The analyzer loses track of list_remove() in forget_locked(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(cache->kept.next, struct entry, link);
}

static void drop_expired_locked(struct auth_cache *cache, uint64_t now_ms)
{
	CHECK_HOLDS(&cache->lock);
	for (int i = 0; i < EXPIRED_MAX && !list_is_empty(&cache->kept); i++) {
		struct entry *e = oldest_kept_locked(cache);
		if (now_ms < e->until_ms)
			return;
		forget_locked(cache, e);
	}
}

void auth_cache_free(struct auth_cache *cache)
{
	if (cache == NULL)
		return;
	CHECK(auth_cache_asked(cache) == 0 && auth_cache_queued(cache) == 0);
	lock_acquire(&cache->lock);
	while (!list_is_empty(&cache->kept))
		forget_locked(cache, oldest_kept_locked(cache));
	lock_release(&cache->lock);
	memory_credit(cache->buckets_count * sizeof(struct entry *));
	free(cache->buckets);
	lock_fini(&cache->lock);
	free(cache);
}

/* --- asking --------------------------------------------------------------- */

/* NULL without memory. */
static struct auth_cache_note *new_note(const struct auth_cache_id *id,
					unsigned worker)
{
	struct auth_cache_note *n = calloc(1, sizeof *n);

	if (n == NULL)
		return NULL;
	memory_charge(sizeof *n);
	n->note.kind = MAILBOX_NOTE_AUTH;
	n->id = *id;
	n->worker = worker;
	return n;
}

static int wait_locked(struct entry *e, unsigned worker)
{
	CHECK(e->asker != worker);
	struct auth_cache_note *n = new_note(&e->id, worker);
	if (n == NULL)
		return UV_ENOMEM;
	n->note.next = e->waiting;
	e->waiting = &n->note;
	return UV_EAGAIN;
}

/* Returns 0, AUTH_CACHE_QUEUED, or UV_ENOMEM with nothing changed. */
static int enter_locked(struct auth_cache *cache, struct entry *e)
{
	CHECK_HOLDS(&cache->lock);
	e->state = ENTRY_ASKED;
	if (auth_cache_asked(cache) < cache->options.checks_max)
		return 0;
	e->turn = new_note(&e->id, e->asker);
	if (e->turn == NULL)
		return UV_ENOMEM;
	e->turn->is_turn = true;
	e->state = ENTRY_QUEUED;
	list_append(&cache->queue, &e->link);
	return AUTH_CACHE_QUEUED;
}

static int begin_locked(struct auth_cache *cache,
			const struct auth_cache_id *id, unsigned worker)
{
	struct entry **bucket = bucket_of_id(cache, id);
	struct entry *e;

	CHECK_HOLDS(&cache->lock);
	if (auth_cache_asked(cache) >= cache->options.checks_max &&
	    auth_cache_queued(cache) >= cache->options.queue_max)
		return UV_EBUSY;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return UV_ENOMEM;
	list_init(&e->link);
	e->id = *id;
	e->asker = worker;
	int rv = enter_locked(cache, e);
	if (rv == UV_ENOMEM) {
		free(e);
		return rv;
	}
	memory_charge(sizeof *e);
	e->next = *bucket;
	*bucket = e;
	count_locked(cache, e->state, true);
	return rv;
}

int auth_cache_ask(struct auth_cache *cache, const struct auth_cache_id *id,
		   unsigned worker, uint64_t now_ms)
{
	struct entry *e;
	int rv;

	lock_acquire(&cache->lock);
	drop_expired_locked(cache, now_ms);
	e = find_entry_locked(cache, id);
	if (e != NULL && e->state == ENTRY_KEPT && now_ms >= e->until_ms) {
		forget_locked(cache, e);
		e = NULL;
	}
	if (e == NULL)
		rv = begin_locked(cache, id, worker);
	else
		rv = e->state == ENTRY_KEPT ? UV_EALREADY
					    : wait_locked(e, worker);
	lock_release(&cache->lock);
	return rv;
}

/* --- answering ------------------------------------------------------------ */

static void keep_answer_locked(struct auth_cache *cache, struct entry *e,
			       uint64_t now_ms)
{
	CHECK_HOLDS(&cache->lock);
	if (auth_cache_kept(cache) >= cache->options.entries_max)
		forget_locked(cache, oldest_kept_locked(cache));
	move_locked(cache, e, ENTRY_KEPT);
	drop_turn_locked(e);
	e->until_ms = now_ms + cache->options.ttl_ms;
	list_append(&cache->kept, &e->link);
}

/* A check may have ended: gives its turn to the next. Returns the note to be
 * posted, or NULL. */
static struct auth_cache_note *grant_locked(struct auth_cache *cache)
{
	CHECK_HOLDS(&cache->lock);
	if (list_is_empty(&cache->queue) ||
	    auth_cache_asked(cache) >= cache->options.checks_max)
		return NULL;
	struct entry *e = CONTAINER_OF(cache->queue.next, struct entry, link);
	struct auth_cache_note *turn = e->turn;
	e->turn = NULL;
	move_locked(cache, e, ENTRY_ASKED);
	return turn;
}

static void post(const struct auth_cache *cache, struct auth_cache_note *n)
{
	if (n == NULL)
		return;
	memory_credit(sizeof *n);
	mailbox_post_note(cache->options.mailboxes[n->worker], &n->note);
}

/* What is posted is charged no more: its taker frees it at once. */
static void post_answer(const struct auth_cache *cache,
			struct mailbox_note *waiting, enum auth_answer answer)
{
	while (waiting != NULL) {
		struct auth_cache_note *n =
			CONTAINER_OF(waiting, struct auth_cache_note, note);
		waiting = waiting->next;
		n->answer = answer;
		post(cache, n);
	}
}

/* Takes those that wait for `e` off it, and ends it. */
static struct mailbox_note *end_locked(struct auth_cache *cache,
				       struct entry *e, bool is_kept,
				       uint64_t now_ms)
{
	struct mailbox_note *waiting = e->waiting;

	CHECK_HOLDS(&cache->lock);
	e->waiting = NULL;
	if (is_kept)
		keep_answer_locked(cache, e, now_ms);
	else
		forget_locked(cache, e);
	return waiting;
}

void auth_cache_answer(struct auth_cache *cache, const struct auth_cache_id *id,
		       enum auth_answer answer, uint64_t now_ms)
{
	bool is_kept = answer == AUTH_YES && cache->options.entries_max > 0;

	lock_acquire(&cache->lock);
	drop_expired_locked(cache, now_ms);
	struct mailbox_note *waiting = end_locked(
		cache, find_asked_locked(cache, id), is_kept, now_ms);
	struct auth_cache_note *turn = grant_locked(cache);
	lock_release(&cache->lock);
	post_answer(cache, waiting, answer);
	post(cache, turn);
}

bool auth_cache_give_up(struct auth_cache *cache,
			const struct auth_cache_id *id)
{
	struct auth_cache_note *turn = NULL;

	lock_acquire(&cache->lock);
	struct entry *e = find_asked_locked(cache, id);
	bool may_stop = e->waiting == NULL;
	if (may_stop) {
		forget_locked(cache, e);
		turn = grant_locked(cache);
	}
	lock_release(&cache->lock);
	post(cache, turn);
	return may_stop;
}

bool auth_cache_leave_queue(struct auth_cache *cache,
			    const struct auth_cache_id *id)
{
	lock_acquire(&cache->lock);
	struct entry *e = find_asked_locked(cache, id);
	bool may_leave = e->state == ENTRY_QUEUED && e->waiting == NULL;
	if (may_leave)
		forget_locked(cache, e);
	lock_release(&cache->lock);
	return may_leave;
}

bool auth_cache_expire(struct auth_cache *cache, const struct auth_cache_id *id)
{
	struct mailbox_note *waiting = NULL;

	lock_acquire(&cache->lock);
	struct entry *e = find_asked_locked(cache, id);
	bool is_queued = e->state == ENTRY_QUEUED;
	if (is_queued)
		waiting = end_locked(cache, e, false, 0);
	lock_release(&cache->lock);
	post_answer(cache, waiting, AUTH_BUSY);
	return is_queued;
}

static size_t count_of(const struct auth_cache *cache, enum entry_state state)
{
	return atomic_load_explicit(&cache->counts[state],
				    memory_order_relaxed);
}

size_t auth_cache_asked(const struct auth_cache *cache)
{
	return count_of(cache, ENTRY_ASKED);
}

size_t auth_cache_queued(const struct auth_cache *cache)
{
	return count_of(cache, ENTRY_QUEUED);
}

size_t auth_cache_kept(const struct auth_cache *cache)
{
	return count_of(cache, ENTRY_KEPT);
}
