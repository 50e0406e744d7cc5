/* permessage_deflate.h - negotiates permessage-deflate (RFC 7692 7.1).
 *
 * The answer always has no context takeover for both sides: a message is then
 * compressed once for all subscribers, and no memory is kept between messages.
 * Codec: no socket, thread or clock. Threads: any. */
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

/* Chooses the first acceptable offer of `offers`, the value of
 * Sec-WebSocket-Extensions (absent or empty: none). An offer is declined if a
 * parameter is unknown, repeated or malformed, or if it limits our window to 8
 * bits (deflate.h). client_max_window_bits is accepted and not answered: we
 * inflate with the largest window anyway. Returns 0; or 400 if the value is not
 * a list of extensions (RFC 6455 9.1). */
int permessage_deflate_choose(struct span offers,
			      struct permessage_deflate *out);

#define PERMESSAGE_DEFLATE_MAX 120 /* bytes of the answer, with a NUL */

/* Writes the value of the answer's Sec-WebSocket-Extensions, and a NUL. `p`
 * is_agreed. */
void permessage_deflate_write(const struct permessage_deflate *p,
			      char out[static PERMESSAGE_DEFLATE_MAX]);

#endif
