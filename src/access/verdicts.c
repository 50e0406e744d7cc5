/* verdicts.c - one hash table of ids that are asked, or known for a yes.
 *
 *  verdicts_ask() --> QUEUED --> ASKED --> KEPT --> gone
 *        |              |          ^  |
 *        +--------------+----------+  +--> gone, unless it is a yes
 *                       +--> gone: it was left, or expired
 *
 * Nothing is allocated when an answer or a turn comes, so it reaches all that
 * wait. While one is queued, as many as may be are asked: each that ends gives
 * its turn to the one that has waited for longest. */
#include "access/verdicts.h"

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
	struct verdicts_id id;
	enum entry_state state;
	/* Until it is kept. */
	unsigned asker;               /* who asks, or will */
	struct mailbox_note *waiting; /* struct verdicts_note */
	struct verdicts_note *turn;   /* while queued: for the asker */
	uint64_t until_ms;            /* while kept */
};

struct verdicts {
	/* Immutable. */
	struct verdicts_options options;
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

static size_t buckets_for(const struct verdicts_options *options)
{
	size_t count = 1;

	while (count < BUCKETS_MAX &&
	       (count < (size_t)options->checks_max + options->queue_max ||
		count < options->entries_max))
		count *= 2;
	return count;
}

int verdicts_new(struct verdicts **out, const struct verdicts_options *options)
{
	struct verdicts *v = calloc(1, sizeof *v);

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

uint64_t verdicts_hash(const struct verdicts *v, const struct verdicts_id *id)
{
	return siphash(&v->key, id->bytes, sizeof id->bytes);
}

static struct entry **verdict_bucket(const struct verdicts *v,
				     const struct verdicts_id *id)
{
	return &v->buckets[verdicts_hash(v, id) & (v->buckets_count - 1)];
}

static struct entry *find_verdict_locked(const struct verdicts *v,
					 const struct verdicts_id *id)
{
	struct entry *e = *verdict_bucket(v, id);

	CHECK_HOLDS(&v->lock);
	while (e != NULL && memcmp(&e->id, id, sizeof *id) != 0)
		e = e->next;
	return e;
}

static struct entry *find_asked_locked(const struct verdicts *v,
				       const struct verdicts_id *id)
{
	struct entry *e = find_verdict_locked(v, id);

	CHECK_HOLDS(&v->lock);
	CHECK(e != NULL && e->state != ENTRY_KEPT);
	return e;
}

static void count_locked(struct verdicts *v, enum entry_state state, bool up)
{
	CHECK_HOLDS(&v->lock);
	_Atomic size_t *count = &v->counts[state];
	size_t now = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, up ? now + 1 : now - 1,
			      memory_order_relaxed);
}

static void move_locked(struct verdicts *v, struct entry *e,
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
static void forget_locked(struct verdicts *v, struct entry *e)
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

static struct entry *oldest_verdict_locked(const struct verdicts *v)
{
	CHECK_HOLDS(&v->lock);
	/* The analyzer loses track of list_remove() in forget_locked(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(v->kept.next, struct entry, link);
}

static void drop_expired_locked(struct verdicts *v, uint64_t now_ms)
{
	CHECK_HOLDS(&v->lock);
	for (int i = 0; i < EXPIRED_MAX && !list_is_empty(&v->kept); i++) {
		struct entry *e = oldest_verdict_locked(v);
		if (now_ms < e->until_ms)
			return;
		forget_locked(v, e);
	}
}

void verdicts_free(struct verdicts *v)
{
	if (v == NULL)
		return;
	CHECK(verdicts_asked(v) == 0 && verdicts_queued(v) == 0);
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
static struct verdicts_note *new_note(const struct verdicts_id *id,
				      unsigned worker)
{
	struct verdicts_note *n = calloc(1, sizeof *n);

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
	struct verdicts_note *n = new_note(&e->id, worker);
	if (n == NULL)
		return UV_ENOMEM;
	n->note.next = e->waiting;
	e->waiting = &n->note;
	return UV_EAGAIN;
}

/* Returns 0, VERDICTS_QUEUED, or UV_ENOMEM with nothing changed. */
static int enter_locked(struct verdicts *v, struct entry *e)
{
	CHECK_HOLDS(&v->lock);
	e->state = ENTRY_ASKED;
	if (verdicts_asked(v) < v->options.checks_max)
		return 0;
	e->turn = new_note(&e->id, e->asker);
	if (e->turn == NULL)
		return UV_ENOMEM;
	e->turn->is_turn = true;
	e->state = ENTRY_QUEUED;
	list_append(&v->queue, &e->link);
	return VERDICTS_QUEUED;
}

static int begin_locked(struct verdicts *v, const struct verdicts_id *id,
			unsigned worker)
{
	struct entry **bucket = verdict_bucket(v, id);
	struct entry *e;

	CHECK_HOLDS(&v->lock);
	if (verdicts_asked(v) >= v->options.checks_max &&
	    verdicts_queued(v) >= v->options.queue_max)
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

int verdicts_ask(struct verdicts *v, const struct verdicts_id *id,
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

static void keep_verdict_locked(struct verdicts *v, struct entry *e,
				uint64_t now_ms)
{
	CHECK_HOLDS(&v->lock);
	if (verdicts_kept(v) >= v->options.entries_max)
		forget_locked(v, oldest_verdict_locked(v));
	move_locked(v, e, ENTRY_KEPT);
	drop_turn_locked(e);
	e->until_ms = now_ms + v->options.ttl_ms;
	list_append(&v->kept, &e->link);
}

/* A check may have ended: gives its turn to the next. Returns the note to be
 * posted, or NULL. */
static struct verdicts_note *grant_locked(struct verdicts *v)
{
	CHECK_HOLDS(&v->lock);
	if (list_is_empty(&v->queue) ||
	    verdicts_asked(v) >= v->options.checks_max)
		return NULL;
	struct entry *e = CONTAINER_OF(v->queue.next, struct entry, link);
	struct verdicts_note *turn = e->turn;
	e->turn = NULL;
	move_locked(v, e, ENTRY_ASKED);
	return turn;
}

static void post(const struct verdicts *v, struct verdicts_note *n)
{
	if (n == NULL)
		return;
	memory_credit(sizeof *n);
	mailbox_post_note(v->options.mailboxes[n->worker], &n->note);
}

/* What is posted is charged no more: its taker frees it at once. */
static void post_verdict(const struct verdicts *v, struct mailbox_note *waiting,
			 enum auth_verdict verdict)
{
	while (waiting != NULL) {
		struct verdicts_note *n =
			CONTAINER_OF(waiting, struct verdicts_note, note);
		waiting = waiting->next;
		n->verdict = verdict;
		post(v, n);
	}
}

/* Takes those that wait for `e` off it, and ends it. */
static struct mailbox_note *end_locked(struct verdicts *v, struct entry *e,
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

void verdicts_answer(struct verdicts *v, const struct verdicts_id *id,
		     enum auth_verdict verdict, uint64_t now_ms)
{
	bool is_kept = verdict == AUTH_YES && v->options.entries_max > 0;

	lock_acquire(&v->lock);
	drop_expired_locked(v, now_ms);
	struct mailbox_note *waiting =
		end_locked(v, find_asked_locked(v, id), is_kept, now_ms);
	struct verdicts_note *turn = grant_locked(v);
	lock_release(&v->lock);
	post_verdict(v, waiting, verdict);
	post(v, turn);
}

bool verdicts_give_up(struct verdicts *v, const struct verdicts_id *id)
{
	struct verdicts_note *turn = NULL;

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

bool verdicts_leave_queue(struct verdicts *v, const struct verdicts_id *id)
{
	lock_acquire(&v->lock);
	struct entry *e = find_asked_locked(v, id);
	bool may_leave = e->state == ENTRY_QUEUED && e->waiting == NULL;
	if (may_leave)
		forget_locked(v, e);
	lock_release(&v->lock);
	return may_leave;
}

bool verdicts_expire(struct verdicts *v, const struct verdicts_id *id)
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

static size_t count_of(const struct verdicts *v, enum entry_state state)
{
	return atomic_load_explicit(&v->counts[state], memory_order_relaxed);
}

size_t verdicts_asked(const struct verdicts *v)
{
	return count_of(v, ENTRY_ASKED);
}

size_t verdicts_queued(const struct verdicts *v)
{
	return count_of(v, ENTRY_QUEUED);
}

size_t verdicts_kept(const struct verdicts *v)
{
	return count_of(v, ENTRY_KEPT);
}
