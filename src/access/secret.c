/* secret.c - a digest behind a sequence lock.
 *
 * Every publication compares, on every worker, so that a reader writes to no
 * memory that workers share: it reads the digest, and reads again if a writer
 * was there meanwhile. The atomics are all sequentially consistent, so the
 * order of the lines is the order of things; on the reader's side that costs
 * nothing here. */
#include "access/secret.h"

#include "base/buf.h"
#include "base/digest.h"

#include <stdatomic.h>
#include <stdint.h>

#define WORDS (DIGEST_SHA256_BYTES / sizeof(uint64_t))

/* Atomic. `version` is odd while a writer is at work. Before the first, the
 * digest is all zeros, as that of no password is. */
static atomic_uint version;
static _Atomic uint64_t words[WORDS];

static void read_digest(uint64_t digest[static WORDS])
{
	unsigned before;

	do {
		before = atomic_load(&version);
		for (size_t i = 0; i < WORDS; i++)
			digest[i] = atomic_load(&words[i]);
	} while (before % 2 != 0 || before != atomic_load(&version));
}

void secret_set(struct span password)
{
	uint64_t current[WORDS];
	uint64_t digest[WORDS];

	read_digest(current);
	digest_sha256(password.bytes, password.len, (uint8_t *)digest);
	if (memcmp(digest, current, sizeof digest) == 0)
		return;
	atomic_fetch_add(&version, 1);
	for (size_t i = 0; i < WORDS; i++)
		atomic_store(&words[i], digest[i]);
	atomic_fetch_add(&version, 1);
}

unsigned secret_generation(void)
{
	return atomic_load(&version) & ~1u;
}

int secret_load(const struct config *c, char error[static CONFIG_ERROR_MAX])
{
	struct buf password = {0};

	int rv = config_read_password(c, &password, error);
	if (rv == 0) {
		secret_set((struct span){password.bytes, password.len});
		explicit_bzero(password.bytes, password.len);
	}
	buf_fini(&password);
	return rv;
}

bool secret_matches(struct span candidate)
{
	uint64_t current[WORDS];
	uint64_t digest[WORDS];

	read_digest(current);
	digest_sha256(candidate.bytes, candidate.len, (uint8_t *)digest);
	return digest_equal((const uint8_t *)digest, (const uint8_t *)current);
}
