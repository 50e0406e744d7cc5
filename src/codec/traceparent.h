/* traceparent.h - which trace a publication is part of (W3C Trace Context,
 * 3.2): "00-", 32 hexadecimal digits of the trace, "-", 16 of the span that
 * published, "-", 2 of flags. isimud passes it on and makes no spans.
 * Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_TRACEPARENT_H
#define ISIMUD_CODEC_TRACEPARENT_H

#include "base/span.h"

#define TRACEPARENT_BYTES 55

/* `value` if it is one of version 00, which is TRACEPARENT_BYTES long and needs
 * no escapes anywhere; else absent: others are ignored, as that text says.
 * `value` may be absent. */
struct span traceparent_parse(struct span value);

#endif
