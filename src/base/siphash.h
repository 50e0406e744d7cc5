/* siphash.h - SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash. Clients
 * choose topic names; without the key they can't make them collide. Threads:
 * any. */
#ifndef ISIMUD_BASE_SIPHASH_H
#define ISIMUD_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k0; /* bytes 0 to 7 of the key, little-endian */
	uint64_t k1; /* bytes 8 to 15 */
};

uint64_t siphash(const struct siphash_key *key, const void *bytes, size_t len);

#endif
