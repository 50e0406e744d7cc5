/* scan.h - inside the room json: one pass over a text, which checks it and says
 * where its values stand.
 *
 * A reader drives the scan through what it wants to see: into an array or
 * object, from one entry to the next; a value that it does not look into is
 * scanned whole, to any depth. Nothing is allocated, nothing is called
 * recursively, and no byte is looked at twice. All functions that return bool
 * return false if the text is refused; the scan is over then, and
 * json_scan_fail() says why. Threads: any. */
#ifndef ISIMUD_CODEC_JSON_SCAN_H
#define ISIMUD_CODEC_JSON_SCAN_H

#include "codec/json/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_scan {
	const char *start;
	const char *at; /* the next byte */
	const char *end;
	const char *problem; /* once it failed: why, at `at` */
	bool is_too_deep;    /* that is why */
	bool has_space;      /* there is space between its parts, so far */
	unsigned depth;      /* arrays and objects that are open */
	uint64_t objects[JSON_DEPTH_MAX / 64]; /* which of them are objects */
};

/* A string, or the name of a member. */
struct json_scan_string {
	struct span raw; /* in the text, with its quotes */
	bool has_escape;
	bool has_nul; /* U+0000, as an escape */
};

/* Starts at the first byte of `text` that is not space. */
void json_scan_start(struct json_scan *s, struct span text);

/* Goes into the array or object whose bracket is next, to its first entry.
 * `*is_entry` is false if it has none; it is left then. */
bool json_scan_enter(struct json_scan *s, bool *is_entry);

/* Behind an entry's value: goes to the next entry; or, with `*is_entry` false,
 * out of the array or object. */
bool json_scan_next(struct json_scan *s, bool *is_entry);

/* At an entry of an object: reads its name, and goes to its value. */
bool json_scan_name(struct json_scan *s, struct json_scan_string *name);

/* Reads the value that is next, whatever is in it. `value` is its text. */
bool json_scan_value(struct json_scan *s, struct span *value);

/* Behind the outermost value: whether only space follows. */
bool json_scan_finish(struct json_scan *s);

/* Fills `error` with why the scan failed. Returns 400. */
int json_scan_fail(const struct json_scan *s, struct json_error *error);

/* The character of the \uXXXX at `at`, or of the two that are a surrogate pair
 * (RFC 8259 7); `*used` receives their bytes. -1 if none is there, -2 if it is
 * a lone surrogate. */
int32_t json_read_character(const char *at, const char *end, size_t *used);

/* Fills `error` and returns `status`. Only texts of our own may go in, never a
 * byte of the client's. */
__attribute__((format(printf, 3, 4))) int json_fail(struct json_error *error,
						    int status,
						    const char *format, ...);

/* RFC 8259 2. */
static inline bool json_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

#endif
