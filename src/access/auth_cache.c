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
	struct auth_cache *v = calloc(1, sizeof *v);

	CHECK(options->checks_max > 0);
	if (v == NULL)
		return UV_ENOMEM;
	v->options = *options;
	if (options->ttl_ms == 0)
		v->options.entries_max = 0;
	v->buckets_count = buckets_for(&v->options);
	v->buckets = calloc(v->buckets_count, sizeof(struct entry *));
	int rv =
		v->buckets == NULL ? UV_ENOMEM : lock_init(&v->lock, LOCK_LEAF);
	if (rv != 0)
		goto err;
	if (getrandom(&v->key, sizeof v->key, 0) != (ssize_t)sizeof v->key) {
		lock_fini(&v->lock);
		rv = UV_EIO;
		goto err;
	}
	list_init(&v->kept);
	list_init(&v->queue);
	memory_charge(v->buckets_count * sizeof(struct entry *));
	*out = v;
	return 0;
err:
	free(v->buckets);
	free(v);
	return rv;
}

uint64_t auth_cache_hash(const struct auth_cache *v,
			 const struct auth_cache_id *id)
{
	return siphash(&v->key, id->bytes, sizeof id->bytes);
}

static struct entry **verdict_bucket(const struct auth_cache *v,
				     const struct auth_cache_id *id)
{
	return &v->buckets[auth_cache_hash(v, id) & (v->buckets_count - 1)];
}

static struct entry *find_verdict_locked(const struct auth_cache *v,
					 const struct auth_cache_id *id)
{
	struct entry *e = *verdict_bucket(v, id);

	CHECK_HOLDS(&v->lock);
	while (e != NULL && memcmp(&e->id, id, sizeof *id) != 0)
		e = e->next;
	return e;
}

static struct entry *find_asked_locked(const struct auth_cache *v,
				       const struct auth_cache_id *id)
{
	struct entry *e = find_verdict_locked(v, id);

	CHECK_HOLDS(&v->lock);
	CHECK(e != NULL && e->state != ENTRY_KEPT);
	return e;
}

static void count_locked(struct auth_cache *v, enum entry_state state, bool up)
{
	CHECK_HOLDS(&v->lock);
	_Atomic size_t *count = &v->counts[state];
	size_t now = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, up ? now + 1 : now - 1,
			      memory_order_relaxed);
}

static void move_locked(struct auth_cache *v, struct entry *e,
			enum entry_state to)
{
	CHECK_HOLDS(&v->lock);
	count_locked(v, e->state, false);
	list_remove(&e->link);
	e->state = to;
	count_locked(v, to, true);
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
static void forget_locked(struct auth_cache *v, struct entry *e)
{
	struct entry **at = verdict_bucket(v, &e->id);

	CHECK_HOLDS(&v->lock);
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_remove(&e->link);
	count_locked(v, e->state, false);
	drop_turn_locked(e);
	memory_credit(sizeof *e);
	free(e);
}

static struct entry *oldest_verdict_locked(const struct auth_cache *v)
{
	CHECK_HOLDS(&v->lock);
	/* The analyzer loses track of list_remove() in forget_locked(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(v->kept.next, struct entry, link);
}

static void drop_expired_locked(struct auth_cache *v, uint64_t now_ms)
{
	CHECK_HOLDS(&v->lock);
	for (int i = 0; i < EXPIRED_MAX && !list_is_empty(&v->kept); i++) {
		struct entry *e = oldest_verdict_locked(v);
		if (now_ms < e->until_ms)
			return;
		forget_locked(v, e);
	}
}

void auth_cache_free(struct auth_cache *v)
{
	if (v == NULL)
		return;
	CHECK(auth_cache_asked(v) == 0 && auth_cache_queued(v) == 0);
	lock_acquire(&v->lock);
	while (!list_is_empty(&v->kept))
		forget_locked(v, oldest_verdict_locked(v));
	lock_release(&v->lock);
	memory_credit(v->buckets_count * sizeof(struct entry *));
	free(v->buckets);
	lock_fini(&v->lock);
	free(v);
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
static int enter_locked(struct auth_cache *v, struct entry *e)
{
	CHECK_HOLDS(&v->lock);
	e->state = ENTRY_ASKED;
	if (auth_cache_asked(v) < v->options.checks_max)
		return 0;
	e->turn = new_note(&e->id, e->asker);
	if (e->turn == NULL)
		return UV_ENOMEM;
	e->turn->is_turn = true;
	e->state = ENTRY_QUEUED;
	list_append(&v->queue, &e->link);
	return AUTH_CACHE_QUEUED;
}

static int begin_locked(struct auth_cache *v, const struct auth_cache_id *id,
			unsigned worker)
{
	struct entry **bucket = verdict_bucket(v, id);
	struct entry *e;

	CHECK_HOLDS(&v->lock);
	if (auth_cache_asked(v) >= v->options.checks_max &&
	    auth_cache_queued(v) >= v->options.queue_max)
		return UV_EBUSY;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return UV_ENOMEM;
	list_init(&e->link);
	e->id = *id;
	e->asker = worker;
	int rv = enter_locked(v, e);
	if (rv == UV_ENOMEM) {
		free(e);
		return rv;
	}
	memory_charge(sizeof *e);
	e->next = *bucket;
	*bucket = e;
	count_locked(v, e->state, true);
	return rv;
}

int auth_cache_ask(struct auth_cache *v, const struct auth_cache_id *id,
		   unsigned worker, uint64_t now_ms)
{
	struct entry *e;
	int rv;

	lock_acquire(&v->lock);
	drop_expired_locked(v, now_ms);
	e = find_verdict_locked(v, id);
	if (e != NULL && e->state == ENTRY_KEPT && now_ms >= e->until_ms) {
		forget_locked(v, e);
		e = NULL;
	}
	if (e == NULL)
		rv = begin_locked(v, id, worker);
	else
		rv = e->state == ENTRY_KEPT ? UV_EALREADY
					    : wait_locked(e, worker);
	lock_release(&v->lock);
	return rv;
}

/* --- answering ------------------------------------------------------------ */

static void keep_verdict_locked(struct auth_cache *v, struct entry *e,
				uint64_t now_ms)
{
	CHECK_HOLDS(&v->lock);
	if (auth_cache_kept(v) >= v->options.entries_max)
		forget_locked(v, oldest_verdict_locked(v));
	move_locked(v, e, ENTRY_KEPT);
	drop_turn_locked(e);
	e->until_ms = now_ms + v->options.ttl_ms;
	list_append(&v->kept, &e->link);
}

/* A check may have ended: gives its turn to the next. Returns the note to be
 * posted, or NULL. */
static struct auth_cache_note *grant_locked(struct auth_cache *v)
{
	CHECK_HOLDS(&v->lock);
	if (list_is_empty(&v->queue) ||
	    auth_cache_asked(v) >= v->options.checks_max)
		return NULL;
	struct entry *e = CONTAINER_OF(v->queue.next, struct entry, link);
	struct auth_cache_note *turn = e->turn;
	e->turn = NULL;
	move_locked(v, e, ENTRY_ASKED);
	return turn;
}

static void post(const struct auth_cache *v, struct auth_cache_note *n)
{
	if (n == NULL)
		return;
	memory_credit(sizeof *n);
	mailbox_post_note(v->options.mailboxes[n->worker], &n->note);
}

/* What is posted is charged no more: its taker frees it at once. */
static void post_verdict(const struct auth_cache *v,
			 struct mailbox_note *waiting, enum auth_answer answer)
{
	while (waiting != NULL) {
		struct auth_cache_note *n =
			CONTAINER_OF(waiting, struct auth_cache_note, note);
		waiting = waiting->next;
		n->answer = answer;
		post(v, n);
	}
}

/* Takes those that wait for `e` off it, and ends it. */
static struct mailbox_note *end_locked(struct auth_cache *v, struct entry *e,
				       bool is_kept, uint64_t now_ms)
{
	struct mailbox_note *waiting = e->waiting;

	CHECK_HOLDS(&v->lock);
	e->waiting = NULL;
	if (is_kept)
		keep_verdict_locked(v, e, now_ms);
	else
		forget_locked(v, e);
	return waiting;
}

void auth_cache_answer(struct auth_cache *v, const struct auth_cache_id *id,
		       enum auth_answer answer, uint64_t now_ms)
{
	bool is_kept = answer == AUTH_YES && v->options.entries_max > 0;

	lock_acquire(&v->lock);
	drop_expired_locked(v, now_ms);
	struct mailbox_note *waiting =
		end_locked(v, find_asked_locked(v, id), is_kept, now_ms);
	struct auth_cache_note *turn = grant_locked(v);
	lock_release(&v->lock);
	post_verdict(v, waiting, answer);
	post(v, turn);
}

bool auth_cache_give_up(struct auth_cache *v, const struct auth_cache_id *id)
{
	struct auth_cache_note *turn = NULL;

	lock_acquire(&v->lock);
	struct entry *e = find_asked_locked(v, id);
	bool may_stop = e->waiting == NULL;
	if (may_stop) {
		forget_locked(v, e);
		turn = grant_locked(v);
	}
	lock_release(&v->lock);
	post(v, turn);
	return may_stop;
}

bool auth_cache_leave_queue(struct auth_cache *v,
			    const struct auth_cache_id *id)
{
	lock_acquire(&v->lock);
	struct entry *e = find_asked_locked(v, id);
	bool may_leave = e->state == ENTRY_QUEUED && e->waiting == NULL;
	if (may_leave)
		forget_locked(v, e);
	lock_release(&v->lock);
	return may_leave;
}

bool auth_cache_expire(struct auth_cache *v, const struct auth_cache_id *id)
{
	struct mailbox_note *waiting = NULL;

	lock_acquire(&v->lock);
	struct entry *e = find_asked_locked(v, id);
	bool is_queued = e->state == ENTRY_QUEUED;
	if (is_queued)
		waiting = end_locked(v, e, false, 0);
	lock_release(&v->lock);
	post_verdict(v, waiting, AUTH_BUSY);
	return is_queued;
}

static size_t count_of(const struct auth_cache *v, enum entry_state state)
{
	return atomic_load_explicit(&v->counts[state], memory_order_relaxed);
}

size_t auth_cache_asked(const struct auth_cache *v)
{
	return count_of(v, ENTRY_ASKED);
}

size_t auth_cache_queued(const struct auth_cache *v)
{
	return count_of(v, ENTRY_QUEUED);
}

size_t auth_cache_kept(const struct auth_cache *v)
{
	return count_of(v, ENTRY_KEPT);
}
