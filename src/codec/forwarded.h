/* forwarded.h - which client a proxy forwards for (TRUSTED_PROXIES).
 *
 * A trusted proxy names the client in X-Forwarded-For, or in Forwarded (RFC
 * 7239). Clients can write these fields too, so the rightmost address that is
 * not itself a trusted proxy's counts. If a request has both fields and they
 * differ, the client wrote one of them, and the proxy's own address counts.
 * Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_FORWARDED_H
#define ISIMUD_CODEC_FORWARDED_H

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define FORWARDED_PROXIES_MAX 64
#define FORWARDED_TEXT_MAX    46 /* characters of an address, and a NUL */

/* An IPv6 address, or an IPv4 one as RFC 4291 2.5.5.2 maps it. */
struct forwarded_address {
	uint8_t bytes[16];
};

struct forwarded_proxies {
	struct {
		struct forwarded_address address;
		unsigned bits; /* of the prefix, up to 128 */
	} nets[FORWARDED_PROXIES_MAX];
	unsigned count;
	bool has_unix; /* who comes by a Unix socket is trusted */
};

/* Reads addresses and networks (10.0.0.0/8, fd00::/8), and the word `unix`,
 * separated by commas, with space around them or not. Returns 0; or -EINVAL and
 * `*wrong`, a text that goes on after the setting's name. */
int forwarded_read_proxies(struct forwarded_proxies *p, const char *list,
			   const char **wrong);

/* Reads an address as these fields have it: IPv4 or IPv6, with or without
 * brackets and port (an IPv6 address with a port needs brackets). Returns false
 * for anything else, such as "unknown" or "_hidden" (RFC 7239 6). */
bool forwarded_read_address(struct span text, struct forwarded_address *out);

/* `out` receives it as text; an IPv4 address as such. */
void forwarded_write_address(const struct forwarded_address *a,
			     char out[static FORWARDED_TEXT_MAX]);

/* What a request says of its way; absent fields are absent. */
struct forwarded_fields {
	struct span x_for;     /* X-Forwarded-For, its lines joined by ", " */
	struct span x_proto;   /* X-Forwarded-Proto, the same */
	struct span forwarded; /* Forwarded, the same */
};

/* Whether the proxy at `peer` ("": a Unix socket) is trusted. */
bool forwarded_trusts(const struct forwarded_proxies *p, const char *peer);

/* `out` receives the client's address: `peer`, unless that is a trusted proxy
 * and names another; "" for a Unix socket. `peer` and `out` must not overlap.
 */
void forwarded_find_client(const struct forwarded_proxies *p, const char *peer,
			   const struct forwarded_fields *fields,
			   char out[static FORWARDED_TEXT_MAX]);

/* "https" if a trusted `peer` says so (the last of X-Forwarded-Proto, else that
 * of the last element of Forwarded), else "http": isimud itself speaks no TLS.
 */
const char *forwarded_find_scheme(const struct forwarded_proxies *p,
				  const char *peer,
				  const struct forwarded_fields *fields);

#endif
