/* v1_codec.h - the isimud.v1 subprotocol: commands in, everything else out.
 *
 * Each is a JSON object in one text message, told apart by its member "type".
 * README specifies them. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_V1_CODEC_H
#define ISIMUD_CODEC_V1_CODEC_H

#include "base/buf.h"
#include "base/span.h"
#include "codec/json/json.h"

#include <stdbool.h>
#include <stdint.h>

#define V1_REF_MAX_BYTES 128 /* of "ref", as JSON text */

/* The codes of {"type":"error"}: one table, which makes the enum and the names.
 * The sentence is the message unless there is a better one. */
#define V1_ERRORS(X)                                                           \
	X(bad_json, "the message is not JSON")                                 \
	X(bad_command, "the command is not valid")                             \
	X(unknown_type, "there is no such command")                            \
	X(already_subscribed, "this topic is subscribed already")              \
	X(not_subscribed, "this topic is not subscribed")                      \
	X(too_many_subscriptions, "no more subscriptions are allowed")         \
	X(forbidden, "this is not allowed")                                    \
	X(auth_failed, "the authority did not answer")                         \
	X(busy, "try again later")                                             \
	X(unknown_outcome, "it may have been published")                       \
	X(no_memory, "the server is out of memory")

enum v1_error {
#define V1_ERROR_ENUM(name, text) V1_##name,
	V1_ERRORS(V1_ERROR_ENUM)
#undef V1_ERROR_ENUM
};

enum v1_type {
	V1_SUBSCRIBE,
	V1_UNSUBSCRIBE,
	V1_PUBLISH,
	V1_PING,
};

/* A command. Which members it must have, and may have:
 *   subscribe    publisher, topic; since (string), last (cursor.h),
 *                slow ("close" or "drop")
 *   unsubscribe  publisher, topic
 *   publish      topic, data (any value); event, traceparent (json.h)
 *   ping
 * publisher and topic of at most NAME_MAX_BYTES (base/name.h),
 * and "ref" (a string or a number, at most V1_REF_MAX_BYTES as JSON text)
 * each. Other members are ignored, but none of those named here may be there
 * twice. Zeroed memory may be read into. */
struct v1_command {
	enum v1_type type;
	struct span ref;       /* its JSON text, to be sent back; or absent */
	struct span publisher; /* decoded, UTF-8, may hold U+0000; or absent */
	struct span topic;     /* the same */
	struct span since;     /* the same */
	uint32_t last;         /* 0 where there is none */
	bool drops;            /* "slow": "drop" */
	struct json_data data; /* as in a publication (json.h); or absent */
	struct buf memory;     /* what all of it lies in; reused */
};

/* Reads `text`, which is at most as long as a WebSocket message. Returns 0; or
 * error->status with `*code`, `error->text`, and `ref` if the text has a usable
 * one; the rest of `command` is undefined then. Codes: bad_json, unknown_type,
 * no_memory, and bad_command for all else. */
int v1_read(struct v1_command *command, struct span text, enum v1_error *code,
	    struct json_error *error);

/* --- writing: each appends one JSON object to `out`, and returns 0, or
 * UV_ENOMEM with `out` unchanged. `ref` absent: no such member. Ids are text as
 * cursor.h writes it. ------------------------------------------------------ */

/* {"type":"message","publisher":…,"topic":…,"id":…,"event":…,"traceparent":…,
 * "data":…}; without an event or a traceparent no such member. */
int v1_write_message(struct buf *out, struct span publisher, struct span topic,
		     struct span id, struct json_data data);

/* {"type":"gap","publisher":…,"topic":…,"from":ID,"to":ID}: messages that were
 * dropped, first and last. */
int v1_write_gap(struct buf *out, struct span publisher, struct span topic,
		 struct span from, struct span to);

/* {"type":"reset","publisher":…,"topic":…,"id":ID}: the topic has begun anew
 * behind `id`; what was published before may be lost. */
int v1_write_reset(struct buf *out, struct span publisher, struct span topic,
		   struct span id);

/* {"type":"subscribed","ref":…,"publisher":…,"topic":…,"id":ID,"resumed":bool}:
 * `id` is that of the last message before those to come; `resumed` is left out
 * where `since` was not given. */
enum v1_resumed {
	V1_NOT_ASKED,
	V1_RESUMED,
	V1_NOT_RESUMED
};
int v1_write_subscribed(struct buf *out, struct span ref, struct span publisher,
			struct span topic, struct span id,
			enum v1_resumed resumed);

/* {"type":"unsubscribed","ref":…,"publisher":…,"topic":…} */
int v1_write_unsubscribed(struct buf *out, struct span ref,
			  struct span publisher, struct span topic);

/* {"type":"published","ref":…,"id":ID,"subscribers":N} */
int v1_write_published(struct buf *out, struct span ref, struct span id,
		       uint64_t subscribers);

/* {"type":"pong","ref":…} */
int v1_write_pong(struct buf *out, struct span ref);

/* {"type":"error","ref":…,"code":…,"message":…}; `text` NULL: that of the
 * table. */
int v1_write_error(struct buf *out, struct span ref, enum v1_error code,
		   const char *text);

#endif
