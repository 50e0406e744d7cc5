/* guesses.c - a table of sets of a few places each, by a keyed hash: an address
 * has its place in one set, and pushes out at most one of the same set. */
#include "access/guesses.h"

#include "base/siphash.h"
#include "codec/forwarded.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#define WAYS       8
#define SETS       (GUESSES_MAX / WAYS)
#define NET6_BYTES 8 /* a /64 */

struct entry {
	struct forwarded_address from;
	unsigned count; /* 0: free */
	uint64_t last_ms;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by `lock`. */
static struct entry table[SETS][WAYS];
static struct siphash_key key;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Without randomness it is still a table, only one that can be aimed at. */
static void make_key(void)
{
	ssize_t n = getrandom(&key, sizeof key, 0);
	(void)n;
}

static struct entry *find_guesser(struct entry *set,
				  const struct forwarded_address *from)
{
	struct entry *oldest = &set[0];

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].count > 0 &&
		    memcmp(&set[i].from, from, sizeof *from) == 0)
			return &set[i];
		if (set[i].count == 0 ||
		    (oldest->count > 0 && set[i].last_ms < oldest->last_ms))
			oldest = &set[i];
	}
	*oldest = (struct entry){.from = *from};
	return oldest;
}

unsigned guesses_note(const char *peer, uint64_t now_ms)
{
	static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0,    0,
					      0, 0, 0, 0, 0xff, 0xff};
	struct forwarded_address from;

	if (!forwarded_read_address(span_of(peer), &from))
		return 0;
	if (memcmp(from.bytes, v4_mapped, sizeof v4_mapped) != 0)
		memset(from.bytes + NET6_BYTES, 0,
		       sizeof from.bytes - NET6_BYTES);
	pthread_once(&once, make_key);
	pthread_mutex_lock(&lock);
	struct entry *e = find_guesser(
		table[siphash(&key, &from, sizeof from) % SETS], &from);
	if (now_ms - e->last_ms > GUESSES_FORGET_MS)
		e->count = 0;
	if (e->count < UINT_MAX)
		e->count++;
	e->last_ms = now_ms;
	unsigned count = e->count;
	pthread_mutex_unlock(&lock);
	return count;
}

void guesses_clear(void)
{
	pthread_mutex_lock(&lock);
	memset(table, 0, sizeof table);
	pthread_mutex_unlock(&lock);
}
