/* password.h - the passwords that publishers may present, as their digests.
 *
 * One or two for the process: either is right, so that publishers can be given
 * another one while some have the old. They can be replaced while others
 * compare: each comparison is with all of the old or all of the new ones.
 * Threads: one thread at a time sets; any compares. */
#ifndef ISIMUD_ACCESS_PASSWORD_H
#define ISIMUD_ACCESS_PASSWORD_H

#include "base/siphash.h"
#include "base/span.h"
#include "config/config.h"

#define PASSWORDS_MAX CONFIG_PASSWORDS_MAX

/* From now on only the `count` (1 to PASSWORDS_MAX) passwords match. */
void password_set_all(const struct span *passwords, unsigned count);

/* From now on only `password` matches. */
void password_set(struct span password);

/* Reads the passwords that `c` tells of, anew if it is a file, and sets them.
 * Returns 0, or the error of config_read_passwords() with the old ones kept. */
int password_load(const struct config *c, char error[static CONFIG_ERROR_MAX]);

/* Whether `candidate` is a password, in a time that tells nothing of any.
 * Before the first is set, nothing is. Takes no lock. */
bool password_matches(struct span candidate);

/* The same; which one it is, for password_is_valid(); 0: none. */
unsigned password_match(struct span candidate);

/* Whether the password that password_match() named is still one: who had it may
 * go on without being asked again. Takes no lock. */
bool password_is_valid(unsigned which);

/* A number that changes whenever the passwords do. Takes no lock. */
unsigned password_generation(void);

/* What a worker remembers of the password that matched last, so that the next
 * request costs no SHA-256: a hash by a key that nobody else has, never the
 * password. It is of no use once the password changes. Owner: one thread. */
struct password_memory {
	struct siphash_key key;
	uint64_t hash;
	unsigned generation;
	bool has_match;
};

/* Returns 0, or UV_EIO if the kernel gives no random key. */
int password_memory_init(struct password_memory *m);

/* As password_matches(), and remembers in `m` what does. Neither the time it
 * takes nor `m` tells anything of the password but whether it matched. */
bool password_matches_again(struct password_memory *m, struct span candidate);

#endif
