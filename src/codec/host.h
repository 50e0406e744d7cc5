/* host.h - for which names a request may be (ALLOWED_HOSTS).
 *
 * A page can make its own name point to this server (DNS rebinding) and is then
 * of the same origin as it; but the browser sends that name as Host. The list
 * is "*" (any), or hosts separated by commas, without scheme and port, as they
 * stand in Host: names, IPv4 addresses, IPv6 addresses in brackets; *.NAME
 * stands for all names below NAME. Space around hosts is allowed; case does not
 * matter. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_HOST_H
#define ISIMUD_CODEC_HOST_H

#include "base/span.h"

#include <stdbool.h>

/* Returns 0; or -EINVAL and `*wrong`, a text that goes on after the setting's
 * name. A NULL list is fine. */
int host_check_list(const char *list, const char **wrong);

/* Whether `host`, a value of Host, is in the list, which has passed
 * host_check_list(), or that is "*" or NULL. Its port does not matter. An
 * absent one is allowed: every browser sends it. */
bool host_is_allowed(const char *list, struct span host);

#endif
