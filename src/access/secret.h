/* secret.h - the password that publishers must present, as its digest.
 *
 * One for the process. It can be replaced while others compare: each
 * comparison is with the whole of the old or the whole of the new one.
 * Threads: one thread at a time sets; any compares. */
#ifndef ISIMUD_ACCESS_SECRET_H
#define ISIMUD_ACCESS_SECRET_H

#include "base/span.h"
#include "config/config.h"

/* From now on only `password` matches. */
void secret_set(struct span password);

/* Reads the password that `c` tells of, anew if it is a file, and sets it.
 * Returns 0, or the error of config_read_password() with the old one kept. */
int secret_load(const struct config *c, char error[static CONFIG_ERROR_MAX]);

/* Whether `candidate` is the password, in a time that tells nothing of it.
 * Before the first is set, nothing is. Takes no lock. */
bool secret_matches(struct span candidate);

/* A number that changes whenever the password does: whoever remembers that a
 * password matched can tell, without it, whether it would still. Ask before
 * secret_matches(). Takes no lock. */
unsigned secret_generation(void);

#endif
