/* span.h - bytes that somebody else owns: where they start and how many.
 *
 * A span need not end in a NUL, and its bytes may hold NULs. `bytes` NULL means
 * absent, which is different from empty. A function that returns a span says
 * how long its bytes live. Threads: any. */
#ifndef ISIMUD_BASE_SPAN_H
#define ISIMUD_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct span {
	const char *bytes;
	size_t len;
};

/* The span of a string literal. */
#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})

static inline struct span span_of(const char *text)
{
	return (struct span){text, text == NULL ? 0 : strlen(text)};
}

/* Byte for byte; an absent span equals an empty one. */
static inline bool span_equal(struct span a, struct span b)
{
	return a.len == b.len &&
	       (a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

/* The same without regard to the case of ASCII letters (the C locale is never
 * changed). */
static inline bool span_equal_nocase(struct span a, struct span b)
{
	return a.len == b.len &&
	       (a.len == 0 || strncasecmp(a.bytes, b.bytes, a.len) == 0);
}

#endif
