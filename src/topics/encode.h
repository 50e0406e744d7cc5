/* encode.h - a message in its wire forms, each encoded once for all who get it.
 */
#ifndef ISIMUD_TOPICS_ENCODE_H
#define ISIMUD_TOPICS_ENCODE_H

#include "topics/message.h"

struct buf;
struct deflater; /* deflate.h */

/* What a form has from the topic, and who compresses it. Borrowed. */
struct message_source {
	uint64_t epoch; /* of what is told besides: a message has its own */
	struct span publisher;
	struct span topic;
	struct deflater *deflater; /* NULL: nothing is compressed */
};

/* The bytes of a form, for all who want it; made now if they never were, from
 * `source`, which is the same each time. Valid as long as the message. If the
 * history has the message and has no room for further forms
 * (message_bound_forms), they are the caller's alone: `*apart` receives what
 * they lie in, charged to memory.h, which message_encoding_free() frees; else
 * NULL. Absent without memory, or if they were longer than MESSAGE_MAX_BYTES.
 * A form that may be compressed is so if the message is long enough and gets
 * shorter by it (deflate.h), once for all threads; else, and without memory for
 * it, it has the bytes of a WebSocket's plain form, or stored blocks.
 * `sequence` must be set. Threads: any that holds a reference. */
struct span message_encode(struct message *m, enum message_form form,
			   const struct message_source *source,
			   struct message_encoding **apart);

/* Appends a form to `out`. What is compressed is kept for all, as
 * message_encode() keeps it; others are soon made again. Returns 0, or
 * UV_ENOMEM with `out` unchanged. */
int message_append(struct buf *out, struct message *m, enum message_form form,
		   const struct message_source *source);

/* What of an event, in any of the forms, follows its id; with the end of its
 * framing. */
struct span message_event_body(struct span event, enum message_form form);

/* Appends what goes before that body, of `body_len` bytes, in an event with
 * another id. Returns 0, or UV_ENOMEM with `out` unchanged. */
int message_append_event_start(struct buf *out, enum message_form form,
			       struct span id, size_t body_len);

#endif
