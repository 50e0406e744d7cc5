/* password.h - the passwords of publishers, kept as digests.
 *
 * The process has one or two. Either is right, so that a new password can be
 * rolled out while some publishers still have the old one. A thread may replace
 * them while others compare: each comparison sees all old or all new ones.
 * Threads: one thread at a time sets; any compares. */
#ifndef ISIMUD_ACCESS_PASSWORD_H
#define ISIMUD_ACCESS_PASSWORD_H

#include "base/siphash.h"
#include "base/span.h"
#include "config/config.h"

#define PASSWORDS_MAX CONFIG_PASSWORDS_MAX

/* From now on only the `count` (1 to PASSWORDS_MAX) passwords match. */
void password_set_all(const struct span *passwords, unsigned count);

/* Reads the passwords that `c` tells of, anew if it is a file, and sets them.
 * Returns 0, or the error of config_read_passwords() with the old ones kept. */
int password_load(const struct config *c, char error[static CONFIG_ERROR_MAX]);

/* Whether `candidate` is one of the passwords, compared in constant time.
 * Always false before the first is set. Takes no lock. */
bool password_matches(struct span candidate);

/* The same. Returns which one it is, for password_is_valid(); 0 for none. */
unsigned password_match(struct span candidate);

/* Whether the password that password_match() returned is still one of them, so
 * that a client that showed it may go on. Takes no lock. */
bool password_is_valid(unsigned which);

/* A number that changes whenever the passwords do. Takes no lock. */
unsigned password_generation(void);

/* A worker's cache of the password that matched last: a keyed hash, never the
 * password, so that the next request costs no SHA-256. Void once the passwords
 * change. Part of a worker's state, which checks its thread. */
struct password_memory {
	struct siphash_key key;
	uint64_t hash;
	unsigned generation;
	bool has_match;
};

/* Returns 0, or UV_EIO if the kernel gives no random key. */
int password_memory_init(struct password_memory *m);

/* As password_matches(), and caches a match in `m`. Neither the time it takes
 * nor `m` reveals more of the password than whether it matched. */
bool password_matches_again(struct password_memory *m, struct span candidate);

#endif
