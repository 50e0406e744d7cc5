/* decimal.h - writes numbers in decimal, where there are so many that
 * snprintf() would take too much of the time. Threads: any. */
#ifndef ISIMUD_BASE_DECIMAL_H
#define ISIMUD_BASE_DECIMAL_H

#include <stdint.h>
#include <string.h>

#define DECIMAL_MAX 20 /* digits */

/* Writes `number` without leading zeros, and no NUL, to `out`, which has room
 * for DECIMAL_MAX bytes. Returns where it ends. */
static inline char *decimal_write(char *out, uint64_t number)
{
	char digits[DECIMAL_MAX];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	memcpy(out, digits + at, sizeof digits - at);
	return out + (sizeof digits - at);
}

#endif
