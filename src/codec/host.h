/* host.h - which values of Host a request may have (ALLOWED_HOSTS).
 *
 * With DNS rebinding, a page makes its own name point to this server, and is
 * then of the same origin; but the browser still sends that name as Host. The
 * list is "*" (any), or hosts separated by commas, without scheme and port, as
 * in Host: names, IPv4 addresses, IPv6 addresses in brackets; *.NAME means all
 * names below NAME. Space around hosts is allowed; case does not matter. Codec:
 * no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_HOST_H
#define ISIMUD_CODEC_HOST_H

#include "base/span.h"

#include <stdbool.h>

/* Returns 0; or -EINVAL and `*wrong`, a text that goes on after the setting's
 * name. A NULL list is fine. */
int host_check_list(const char *list, const char **wrong);

/* Whether the list, checked by host_check_list(), has `host`, a value of Host,
 * or is "*" or NULL. The port is ignored. A missing Host is allowed: every
 * browser sends it. */
bool host_is_allowed(const char *list, struct span host);

#endif
