/* little_endian.h - unsigned numbers as bytes, the least significant first: in
 * files, and between nodes. Threads: any. */
#ifndef ISIMUD_BASE_LITTLE_ENDIAN_H
#define ISIMUD_BASE_LITTLE_ENDIAN_H

#include <stdint.h>

/* Writes the lowest `bytes` bytes of `value`, at most 8. */
static inline void little_endian_write(void *to, uint64_t value, unsigned bytes)
{
	uint8_t *out = to;

	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

/* Reads a number of `bytes` bytes, at most 8. */
static inline uint64_t little_endian_read(const void *from, unsigned bytes)
{
	const uint8_t *in = from;
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

#endif
