/* permessage_deflate.h - the negotiation of permessage-deflate (RFC 7692 7.1).
 *
 * What is agreed is always without context takeover, on both sides: so a
 * message is compressed once for all who get it, and costs no memory when it
 * has come. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_PERMESSAGE_DEFLATE_H
#define ISIMUD_CODEC_PERMESSAGE_DEFLATE_H

#include "base/span.h"
#include "codec/deflate.h"

/* What was chosen of a client's offers. */
struct permessage_deflate {
	bool is_agreed;           /* else: no extension, and the next two are
				     nothing */
	unsigned server_bits;     /* of server_max_window_bits; 0: not asked */
	enum deflate_window ours; /* for what we send */
};

/* Chooses the first offer that can be met of `offers`, the value of
 * Sec-WebSocket-Extensions, or absent or empty. An offer is declined if it has
 * a parameter that is unknown, there twice, or whose value is not one; or asks
 * for a window of 8 bits of ours (deflate.h). Its client_max_window_bits costs
 * nothing to accept: what a client sends is inflated with the largest window,
 * and so the answer does not have it. Returns 0; or 400 if the value is not a
 * list of extensions (RFC 6455 9.1). */
int permessage_deflate_choose(struct span offers,
			      struct permessage_deflate *out);

#define PERMESSAGE_DEFLATE_MAX 120 /* bytes of the answer, with a NUL */

/* Writes the value of the answer's Sec-WebSocket-Extensions, and a NUL. `p`
 * is_agreed. */
void permessage_deflate_write(const struct permessage_deflate *p,
			      char out[static PERMESSAGE_DEFLATE_MAX]);

#endif
