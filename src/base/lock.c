/* lock.c - how locks are made, and what a debug build notes of them. */
#include "base/lock.h"

#include <pthread.h>

#ifdef ISIMUD_DEBUG
#define SET_RANK(l, is) ((l)->rank = (is))
#else
#define SET_RANK(l, is) ((void)(is))
#endif

int lock_init(struct lock *l, enum lock_rank rank)
{
	SET_RANK(l, rank);
	return uv_mutex_init(&l->mutex);
}

/* uv_mutex_t is a pthread_mutex_t (libuv: unix.h). */
int lock_init_short(struct lock *l, enum lock_rank rank)
{
	pthread_mutexattr_t attr;

	SET_RANK(l, rank);
	if (pthread_mutexattr_init(&attr) != 0)
		return UV_ENOMEM;
	int rv = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	if (rv == 0)
		rv = pthread_mutex_init(&l->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return -rv;
}

/* uv_rwlock_init() makes a lock that prefers readers: under steady publishing
 * subscribers could wait for ever. uv_rwlock_t is a pthread_rwlock_t (libuv:
 * unix.h). */
int rwlock_init(struct rwlock *l, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	SET_RANK(l, rank);
	if (pthread_rwlockattr_init(&attr) != 0)
		return UV_ENOMEM;
	int rv = pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	if (rv == 0)
		rv = pthread_rwlock_init(&l->rwlock, &attr);
	pthread_rwlockattr_destroy(&attr);
	return -rv;
}

void lock_fini(struct lock *l)
{
	uv_mutex_destroy(&l->mutex);
}

void rwlock_fini(struct rwlock *l)
{
	uv_rwlock_destroy(&l->rwlock);
}

#ifdef ISIMUD_DEBUG

/* All shards of the registry (batch.c), a stripe, a topic and a leaf. */
#define HELD_MAX 80

struct held {
	const void *lock;
	enum lock_rank rank;
	bool is_for_writing;
};

/* What the thread holds, in the lock order. */
static _Thread_local struct held all_held[HELD_MAX];
static _Thread_local unsigned held_count;

static bool is_in_order(const void *lock, enum lock_rank rank)
{
	if (held_count == 0)
		return true;
	const struct held *last = &all_held[held_count - 1];
	if (rank == LOCK_SHARD && last->rank == LOCK_SHARD)
		return last->lock < lock;
	return last->rank < rank;
}

void lock_note_acquired(const void *lock, enum lock_rank rank,
			bool is_for_writing)
{
	CHECK(is_in_order(lock, rank));
	CHECK(held_count < HELD_MAX);
	all_held[held_count++] = (struct held){lock, rank, is_for_writing};
}

static struct held *find_held(const void *lock)
{
	for (unsigned i = held_count; i > 0; i--)
		if (all_held[i - 1].lock == lock)
			return &all_held[i - 1];
	return NULL;
}

void lock_note_released(const void *lock)
{
	struct held *held = find_held(lock);

	CHECK(held != NULL);
	held_count--;
	for (; held < &all_held[held_count]; held++)
		held[0] = held[1];
}

bool lock_is_held(const void *lock, bool is_for_writing)
{
	const struct held *held = find_held(lock);

	return held != NULL && (held->is_for_writing || !is_for_writing);
}

#endif
