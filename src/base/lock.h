/* lock.h - locks that debug builds check: that threads take them in one order,
 * and that functions called ..._locked find them held.
 *
 * In release builds they are libuv's, and nothing is added. Threads: any. */
#ifndef ISIMUD_BASE_LOCK_H
#define ISIMUD_BASE_LOCK_H

#include "base/check.h"

#include <pthread.h>
#include <stdbool.h>
#include <uv.h>

/* The lock order: under a lock, a thread takes only locks of a higher rank. Of
 * LOCK_SHARD it may take several, in the order of their addresses. */
enum lock_rank {
	LOCK_STRIPE, /* of receipts (idempotency.c) */
	LOCK_SHARD,  /* of the registry */
	LOCK_TOPIC,  /* of the registry */
	LOCK_LEAF,   /* any other: no lock is taken under it */
};

struct lock {
	uv_mutex_t mutex;
#ifdef ISIMUD_DEBUG
	enum lock_rank rank;
#endif
};

/* Many may hold it for reading, or one for writing. A thread holds it once, and
 * who waits to write goes before who comes to read. */
struct rwlock {
	uv_rwlock_t rwlock;
#ifdef ISIMUD_DEBUG
	enum lock_rank rank;
#endif
};

/* For one in static memory. */
#ifdef ISIMUD_DEBUG
#define LOCK_INITIALIZER(of_rank)                                              \
	{                                                                      \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = (of_rank)          \
	}
#else
#define LOCK_INITIALIZER(of_rank)                                              \
	{                                                                      \
		.mutex = PTHREAD_MUTEX_INITIALIZER                             \
	}
#endif

/* Return 0 or a UV_E…. */
int lock_init(struct lock *l, enum lock_rank rank);
int rwlock_init(struct rwlock *l, enum lock_rank rank);

/* The same for a lock that is held for so short a time that waiting for it
 * awake costs less than sleeping. */
int lock_init_short(struct lock *l, enum lock_rank rank);

/* Nobody holds it. */
void lock_fini(struct lock *l);
void rwlock_fini(struct rwlock *l);

#ifdef ISIMUD_DEBUG
/* Checks the order, and notes that the calling thread holds `lock`. */
void lock_note_acquired(const void *lock, enum lock_rank rank,
			bool is_for_writing);
void lock_note_released(const void *lock);

/* Whether the calling thread holds it; for writing, if so asked. */
bool lock_is_held(const void *lock, bool is_for_writing);

#define LOCK_NOTE_ACQUIRED(l, is_for_writing)                                  \
	lock_note_acquired(l, (l)->rank, is_for_writing)
#define LOCK_NOTE_RELEASED(l) lock_note_released(l)
/* Abort unless the calling thread holds the lock; an rwlock either way, or for
 * writing. */
#define CHECK_HOLDS(l)             CHECK(lock_is_held(l, false))
#define CHECK_HOLDS_FOR_WRITING(l) CHECK(lock_is_held(l, true))
#else
#define LOCK_NOTE_ACQUIRED(l, is_for_writing) ((void)(l))
#define LOCK_NOTE_RELEASED(l)                 ((void)(l))
#define CHECK_HOLDS(l)                        ((void)(l))
#define CHECK_HOLDS_FOR_WRITING(l)            ((void)(l))
#endif

static inline void lock_acquire(struct lock *l)
{
	LOCK_NOTE_ACQUIRED(l, true);
	uv_mutex_lock(&l->mutex);
}

static inline void lock_release(struct lock *l)
{
	LOCK_NOTE_RELEASED(l);
	uv_mutex_unlock(&l->mutex);
}

static inline void rwlock_read_acquire(struct rwlock *l)
{
	LOCK_NOTE_ACQUIRED(l, false);
	uv_rwlock_rdlock(&l->rwlock);
}

static inline void rwlock_read_release(struct rwlock *l)
{
	LOCK_NOTE_RELEASED(l);
	uv_rwlock_rdunlock(&l->rwlock);
}

static inline void rwlock_write_acquire(struct rwlock *l)
{
	LOCK_NOTE_ACQUIRED(l, true);
	uv_rwlock_wrlock(&l->rwlock);
}

static inline void rwlock_write_release(struct rwlock *l)
{
	LOCK_NOTE_RELEASED(l);
	uv_rwlock_wrunlock(&l->rwlock);
}

#endif
