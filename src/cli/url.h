/* url.h - where a server is, as `--url` and ISIMUD_URL say it.
 *
 * http://[USER[:PASSWORD]@]HOST[:PORT][/PREFIX], the same with ws:// or without
 * a scheme; or unix:/PATH. HOST may be a name, an IPv4 address, or an IPv6
 * address in brackets; PORT is 80 where there is none. USER and PASSWORD are
 * percent-encoded. Threads: any. */
#ifndef ISIMUD_CLI_URL_H
#define ISIMUD_CLI_URL_H

#include "base/buf.h"
#include "config/config.h"

#include <stdbool.h>

#define URL_HOST_MAX 256 /* bytes, its NUL included (RFC 1035 2.3.4) */

/* Zeroed memory is none. */
struct url {
	bool is_unix;
	char host[URL_HOST_MAX]; /* without brackets; or the path */
	unsigned port;
	struct buf prefix; /* "", or "/push": what is before all our paths */
	/* Decoded; not there if `has_user` or `has_password` is not set. */
	struct buf user;
	struct buf password;
	bool has_user;
	bool has_password;
};

/* Reads `text`. `out` is zeroed memory. Returns 0; or UV_EINVAL or UV_ENOMEM
 * and `*wrong`, a text that goes on after the name of what was read. In any
 * case url_fini() is due. */
int url_parse(struct url *out, const char *text, const char **wrong);

/* Where a listener is reached from the machine it is on: what is bound to all
 * addresses, by loopback. Port 0 stays 0. The same memory rules. */
void url_of_listener(struct url *out, const struct config_listener *l);

/* Overwrites the password. */
void url_fini(struct url *url);

#define URL_TEXT_MAX (URL_HOST_MAX + 16)

/* Names it for people, without credentials: "127.0.0.1:3000", "[::1]:3000",
 * "unix:/run/isimud.sock". It is the value of Host too, but for Unix sockets.
 */
void url_name(const struct url *url, char out[static URL_TEXT_MAX]);

#endif
