/* scan.h - what the files of the room json share: the scan, which says
 * whether a text is JSON and where its members stand. Threads: any. */
#ifndef ISIMUD_CODEC_JSON_SCAN_H
#define ISIMUD_CODEC_JSON_SCAN_H

#include "codec/json/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One member of an object. */
struct json_scan_member {
	struct span value; /* in the text; a string with its quotes */
	bool name_has_nul; /* U+0000, where cJSON's copy of the name ends */
};

/* One pass over a text. */
struct json_scan {
	const char *at; /* the next byte */
	const char *end;
	const char *problem; /* once it failed: why, at `at` */
	unsigned depth;
	size_t values_count; /* on all levels */
	/* Of the outermost object, or the item that was scanned last. */
	size_t members_count; /* all there are, recorded or not */
	struct json_scan_member members[JSON_MEMBERS_MAX];
};

/* Scans all of `text`. Returns 0, or 400 with `error` filled, as json_check().
 */
int json_scan_text(struct json_scan *s, struct span text,
		   struct json_error *error);

/* Goes over an array again, whose text has passed: back to its beginning, then
 * to one item after the other, as many as it has, recording the members of each
 * that is an object. */
void json_scan_array(struct json_scan *s, struct span text);
void json_scan_item(struct json_scan *s);

/* The character of the \uXXXX at `at`, or of the two that are a surrogate pair
 * (RFC 8259 7); `*used` receives their bytes. -1 if none is there, -2 if it is
 * a lone surrogate. */
int32_t json_read_character(const char *at, const char *end, size_t *used);

/* Fills `error` and returns `status`. Only texts of our own may go in, never a
 * byte of the client's. */
__attribute__((format(printf, 3, 4))) int json_fail(struct json_error *error,
						    int status,
						    const char *format, ...);

#endif
