/* verdicts.c - one hash table of ids that are asked, or known for a yes.
 *
 * An entry is asked from verdicts_ask() to the answer. A yes then turns it into
 * one that is kept: nothing is allocated when an answer comes, so it reaches
 * all that wait. */
#include "access/verdicts.h"

#include "base/check.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/siphash.h"

#include <stdlib.h>
#include <sys/random.h>

#define BUCKETS_MAX 65536 /* a power of two */
/* Expired yeses that one call drops: more than it can add, and not so many that
 * others would wait for the lock. */
#define EXPIRED_MAX 4

/* Guarded by the table's lock. */
struct entry {
	struct entry *next; /* in its bucket */
	struct list link;   /* in `kept`; in no list while asked */
	struct verdicts_id id;
	bool is_asked;
	unsigned asker;               /* while asked: who does */
	struct mailbox_note *waiting; /* while asked: struct verdicts_note */
	uint64_t until_ms;            /* while kept */
};

struct verdicts {
	/* Immutable. */
	struct verdicts_options options;
	struct siphash_key key;
	size_t buckets_count; /* a power of two */
	uv_mutex_t lock;
	/* Guarded by `lock`. */
	struct entry **buckets;
	struct list kept; /* oldest first, which expires first */
	/* Atomic; written under `lock`. */
	_Atomic size_t asked_count;
	_Atomic size_t kept_count;
};

/* --- the table ------------------------------------------------------------ */

static size_t buckets_for(const struct verdicts_options *options)
{
	size_t count = 1;

	while (count < BUCKETS_MAX &&
	       (count < options->checks_max || count < options->entries_max))
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
	int rv = v->buckets == NULL ? UV_ENOMEM : uv_mutex_init(&v->lock);
	if (rv != 0)
		goto err;
	if (getrandom(&v->key, sizeof v->key, 0) != (ssize_t)sizeof v->key) {
		uv_mutex_destroy(&v->lock);
		rv = UV_EIO;
		goto err;
	}
	list_init(&v->kept);
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

static struct entry **bucket_of(const struct verdicts *v,
				const struct verdicts_id *id)
{
	return &v->buckets[verdicts_hash(v, id) & (v->buckets_count - 1)];
}

static struct entry *find_locked(const struct verdicts *v,
				 const struct verdicts_id *id)
{
	struct entry *e = *bucket_of(v, id);

	while (e != NULL && memcmp(&e->id, id, sizeof *id) != 0)
		e = e->next;
	return e;
}

static struct entry *find_asked_locked(const struct verdicts *v,
				       const struct verdicts_id *id)
{
	struct entry *e = find_locked(v, id);

	CHECK(e != NULL && e->is_asked);
	return e;
}

static void count_locked(_Atomic size_t *count, bool up)
{
	size_t now = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, up ? now + 1 : now - 1,
			      memory_order_relaxed);
}

/* Of an asked entry nobody may be waiting. */
static void forget_locked(struct verdicts *v, struct entry *e)
{
	struct entry **at = bucket_of(v, &e->id);

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	list_remove(&e->link);
	count_locked(e->is_asked ? &v->asked_count : &v->kept_count, false);
	memory_credit(sizeof *e);
	free(e);
}

static struct entry *oldest_locked(const struct verdicts *v)
{
	/* The analyzer loses track of list_remove() in forget_locked(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(v->kept.next, struct entry, link);
}

static void drop_expired_locked(struct verdicts *v, uint64_t now_ms)
{
	for (int i = 0; i < EXPIRED_MAX && !list_is_empty(&v->kept); i++) {
		struct entry *e = oldest_locked(v);
		if (now_ms < e->until_ms)
			return;
		forget_locked(v, e);
	}
}

void verdicts_free(struct verdicts *v)
{
	if (v == NULL)
		return;
	CHECK(verdicts_asked(v) == 0);
	while (!list_is_empty(&v->kept))
		forget_locked(v, oldest_locked(v));
	memory_credit(v->buckets_count * sizeof(struct entry *));
	free(v->buckets);
	uv_mutex_destroy(&v->lock);
	free(v);
}

/* --- asking --------------------------------------------------------------- */

static int wait_locked(struct entry *e, unsigned worker)
{
	struct verdicts_note *n;

	CHECK(e->asker != worker);
	n = calloc(1, sizeof *n);
	if (n == NULL)
		return UV_ENOMEM;
	memory_charge(sizeof *n);
	n->id = e->id;
	n->worker = worker;
	n->note.next = e->waiting;
	e->waiting = &n->note;
	return UV_EAGAIN;
}

static int begin_locked(struct verdicts *v, const struct verdicts_id *id,
			unsigned worker)
{
	struct entry **bucket = bucket_of(v, id);
	struct entry *e;

	if (verdicts_asked(v) >= v->options.checks_max)
		return UV_EBUSY;
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return UV_ENOMEM;
	memory_charge(sizeof *e);
	list_init(&e->link);
	e->id = *id;
	e->is_asked = true;
	e->asker = worker;
	e->next = *bucket;
	*bucket = e;
	count_locked(&v->asked_count, true);
	return 0;
}

int verdicts_ask(struct verdicts *v, const struct verdicts_id *id,
		 unsigned worker, uint64_t now_ms)
{
	struct entry *e;
	int rv;

	uv_mutex_lock(&v->lock);
	drop_expired_locked(v, now_ms);
	e = find_locked(v, id);
	if (e != NULL && !e->is_asked && now_ms >= e->until_ms) {
		forget_locked(v, e);
		e = NULL;
	}
	if (e == NULL)
		rv = begin_locked(v, id, worker);
	else
		rv = e->is_asked ? wait_locked(e, worker) : UV_EALREADY;
	uv_mutex_unlock(&v->lock);
	return rv;
}

/* --- answering ------------------------------------------------------------ */

static void keep_locked(struct verdicts *v, struct entry *e, uint64_t now_ms)
{
	if (verdicts_kept(v) >= v->options.entries_max)
		forget_locked(v, oldest_locked(v));
	e->is_asked = false;
	e->until_ms = now_ms + v->options.ttl_ms;
	list_append(&v->kept, &e->link);
	count_locked(&v->asked_count, false);
	count_locked(&v->kept_count, true);
}

/* What is posted is charged no more: its taker frees it at once. */
static void post_all(const struct verdicts *v, struct mailbox_note *waiting,
		     enum auth_verdict verdict)
{
	while (waiting != NULL) {
		struct verdicts_note *n =
			CONTAINER_OF(waiting, struct verdicts_note, note);
		waiting = waiting->next;
		n->verdict = verdict;
		memory_credit(sizeof *n);
		mailbox_post_note(v->options.mailboxes[n->worker], &n->note);
	}
}

void verdicts_answer(struct verdicts *v, const struct verdicts_id *id,
		     enum auth_verdict verdict, uint64_t now_ms)
{
	struct mailbox_note *waiting;
	struct entry *e;

	uv_mutex_lock(&v->lock);
	drop_expired_locked(v, now_ms);
	e = find_asked_locked(v, id);
	waiting = e->waiting;
	e->waiting = NULL;
	if (verdict == AUTH_YES && v->options.entries_max > 0)
		keep_locked(v, e, now_ms);
	else
		forget_locked(v, e);
	uv_mutex_unlock(&v->lock);
	post_all(v, waiting, verdict);
}

bool verdicts_give_up(struct verdicts *v, const struct verdicts_id *id)
{
	struct entry *e;
	bool may_stop;

	uv_mutex_lock(&v->lock);
	e = find_asked_locked(v, id);
	may_stop = e->waiting == NULL;
	if (may_stop)
		forget_locked(v, e);
	uv_mutex_unlock(&v->lock);
	return may_stop;
}

size_t verdicts_asked(const struct verdicts *v)
{
	return atomic_load_explicit(&v->asked_count, memory_order_relaxed);
}

size_t verdicts_kept(const struct verdicts *v)
{
	return atomic_load_explicit(&v->kept_count, memory_order_relaxed);
}
