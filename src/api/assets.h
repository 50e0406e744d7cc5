/* assets.h - the files of src/web that are in the program: isimud.js and the
 * console. web/embed.sh makes the table when the program is built.
 * Threads: any; all is immutable. */
#ifndef ISIMUD_API_ASSETS_H
#define ISIMUD_API_ASSETS_H

#include "base/span.h"

struct asset {
	const char *name; /* of the file: "isimud.js" */
	const char *type; /* Content-Type */
	const char *hash; /* of the content: 16 hexadecimal digits */
	struct span plain;
	struct span gzip;
	struct span brotli; /* absent where the build had no brotli */
};

extern const struct asset assets[]; /* the last one has no name */

#endif
