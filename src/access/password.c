/* password.c - digests behind a sequence lock.
 *
 * Every publication compares, on every worker, so that a reader writes to no
 * memory that workers share: it reads the digests, and reads again if a writer
 * was there meanwhile. The atomics are all sequentially consistent, so the
 * order of the lines is the order of things; on the reader's side that costs
 * nothing here. */
#include "access/password.h"

#include "base/check.h"
#include "base/digest.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/random.h>

#include <uv.h>

#define WORDS (DIGEST_SHA256_BYTES / sizeof(uint64_t))

/* A password. Where there is one, both are that one. */
struct password {
	uint64_t digest[WORDS];
	unsigned which; /* no other ever had it; 0: there is none */
};

/* Atomic. `version` is odd while a writer is at work. Before the first, the
 * digests are all zeros, as that of no password is. */
static atomic_uint version;
static struct {
	_Atomic uint64_t digest[WORDS];
	atomic_uint which;
} kept[PASSWORDS_MAX];

static unsigned last_which; /* of the thread that sets */

static void read_secrets(struct password out[static PASSWORDS_MAX])
{
	unsigned before;

	do {
		before = atomic_load(&version);
		for (size_t s = 0; s < PASSWORDS_MAX; s++) {
			for (size_t i = 0; i < WORDS; i++)
				out[s].digest[i] =
					atomic_load(&kept[s].digest[i]);
			out[s].which = atomic_load(&kept[s].which);
		}
	} while (before % 2 != 0 || before != atomic_load(&version));
}

static bool is_same_secret(const struct password *s,
			   const uint64_t digest[static WORDS])
{
	return digest_equal((const uint8_t *)s->digest,
			    (const uint8_t *)digest);
}

/* Fills in `which`: the old one, if it was a password before. */
static void name(struct password *s,
		 const struct password old[static PASSWORDS_MAX])
{
	s->which = 0;
	for (size_t i = 0; i < PASSWORDS_MAX; i++)
		if (old[i].which != 0 && is_same_secret(&old[i], s->digest))
			s->which = old[i].which;
	if (s->which == 0)
		s->which = ++last_which;
}

void password_set_all(const struct span *passwords, unsigned count)
{
	struct password old[PASSWORDS_MAX];
	struct password new[PASSWORDS_MAX];

	CHECK(count >= 1 && count <= PASSWORDS_MAX);
	read_secrets(old);
	for (unsigned i = 0; i < PASSWORDS_MAX; i++) {
		struct span password = passwords[i < count ? i : 0];
		digest_sha256(password.bytes, password.len,
			      (uint8_t *)new[i].digest);
		name(&new[i], i == 1 && is_same_secret(&new[0], new[1].digest)
				      ? new
				      : old);
	}
	bool is_changed = false;
	for (size_t i = 0; i < PASSWORDS_MAX; i++)
		is_changed |= new[i].which != old[i].which;
	if (!is_changed)
		return;
	atomic_fetch_add(&version, 1);
	for (size_t s = 0; s < PASSWORDS_MAX; s++) {
		for (size_t i = 0; i < WORDS; i++)
			atomic_store(&kept[s].digest[i], new[s].digest[i]);
		atomic_store(&kept[s].which, new[s].which);
	}
	atomic_fetch_add(&version, 1);
}

unsigned password_generation(void)
{
	return atomic_load(&version) & ~1u;
}

int password_load(const struct config *c, char error[static CONFIG_ERROR_MAX])
{
	struct config_passwords passwords = {0};

	int rv = config_read_passwords(c, &passwords, error);
	if (rv == 0)
		password_set_all(passwords.each, passwords.count);
	config_passwords_fini(&passwords);
	return rv;
}

unsigned password_match(struct span candidate)
{
	struct password all[PASSWORDS_MAX];
	uint64_t digest[WORDS];
	unsigned which = 0;

	read_secrets(all);
	digest_sha256(candidate.bytes, candidate.len, (uint8_t *)digest);
	/* All are compared, whichever it is, and nothing branches on it. */
	for (size_t i = 0; i < PASSWORDS_MAX; i++) {
		unsigned mask = 0u - (unsigned)is_same_secret(&all[i], digest);
		which = (which & ~mask) | (all[i].which & mask);
	}
	return which;
}

bool password_matches(struct span candidate)
{
	return password_match(candidate) != 0;
}

bool password_is_valid(unsigned which)
{
	unsigned before;
	bool is_valid;

	do {
		before = atomic_load(&version);
		is_valid = false;
		for (size_t i = 0; i < PASSWORDS_MAX; i++)
			is_valid |= atomic_load(&kept[i].which) == which;
	} while (before % 2 != 0 || before != atomic_load(&version));
	return which != 0 && is_valid;
}

int password_memory_init(struct password_memory *m)
{
	*m = (struct password_memory){0};
	if (getrandom(&m->key, sizeof m->key, 0) != (ssize_t)sizeof m->key)
		return UV_EIO;
	return 0;
}

/* Comparing two hashes is one instruction: there is no time to be measured in
 * it, and without the key nobody can tell what another candidate's would be. */
bool password_matches_again(struct password_memory *m, struct span candidate)
{
	uint64_t hash = siphash(&m->key, candidate.bytes, candidate.len);
	unsigned generation = password_generation();

	if (m->has_match && m->generation == generation && m->hash == hash)
		return true;
	if (!password_matches(candidate))
		return false;
	m->hash = hash;
	m->generation = generation;
	m->has_match = true;
	return true;
}
