/* utf8.h - UTF-8 as RFC 3629 has it: no surrogates, nothing overlong, nothing
 * above U+10FFFF. */
#ifndef ISIMUD_BASE_UTF8_H
#define ISIMUD_BASE_UTF8_H

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a text that comes in parts stands. Zeroed: between characters. */
struct utf8 {
	unsigned left; /* bytes that the character still needs */
	uint8_t low;   /* what the next of them must lie between */
	uint8_t high;
};

/* Reads the next part. Returns whether the text so far can be the beginning of
 * UTF-8; it is UTF-8 by itself if then `left` is 0. */
bool utf8_feed(struct utf8 *u, const uint8_t *bytes, size_t len);

/* Returns how many bytes the character at `text` has, 0 if it is none. At least
 * one byte is there. */
size_t utf8_length(const char *text, size_t len);

/* Whether the whole text is UTF-8. */
bool utf8_is_valid(struct span text);

#endif
