/* origin.h - from which web origins browsers may come (ALLOWED_ORIGINS).
 *
 * The list is "*" (any), or origins separated by commas, as browsers send them
 * in Origin (RFC 6454 7: scheme "://" host [":" port]), or "null", which stands
 * for every page without an origin of its own. Space around origins is allowed.
 * Origins are compared without regard to case; the port of the scheme (80 for
 * http, 443 for https) may be left out or not. IPv6 addresses are compared as
 * text, so they must be written as browsers write them.
 * Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_ORIGIN_H
#define ISIMUD_CODEC_ORIGIN_H

#include "base/span.h"

#include <stdbool.h>

/* Returns 0; or -EINVAL and `*wrong`, a text that goes on after the setting's
 * name ("must be …"). A NULL list is fine. Wrong are "*" beside origins, an
 * empty element, and an origin without scheme or host, or with a path (be it
 * only "/"), a user, or anything else that no browser sends. */
int origin_check_list(const char *list, const char **wrong);

/* In the following two, `list` has passed origin_check_list(), or is NULL,
 * which has no origin. */

/* Whether the list is "*". */
bool origin_allows_any(const char *list);

/* Whether the list has `origin`, a value of Origin, or is "*", which also
 * allows a malformed or missing one. */
bool origin_is_allowed(const char *list, struct span origin);

/* Whether `origin` names the host that a request was sent to: http or https,
 * and the host and port of `host`, a value of Host. A port that Host leaves out
 * is that of the origin's scheme, whichever this is: where TLS ends at a proxy,
 * nobody here knows the scheme. */
bool origin_is_same(struct span origin, struct span host);

#endif
