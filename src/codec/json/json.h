/* json.h - the JSON texts that clients send, and the ones we answer.
 *
 * A scan of our own reads a text once, and makes no tree of its values: it
 * checks what cJSON would let through (invalid UTF-8, raw control characters,
 * `01`, trailing text), and finds the members asked for. cJSON decodes what is
 * seldom: names that are written with escapes. Time and memory are linear in
 * the text, whatever is in it. Codec: no socket, thread or clock.
 * Threads: any. */
#ifndef ISIMUD_CODEC_JSON_JSON_H
#define ISIMUD_CODEC_JSON_JSON_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH_MAX 512 /* nested arrays and objects; more are a 400 */
#define JSON_ERROR_MAX 160 /* bytes of an error text, its NUL included */

/* Publications of one text: all that a worker does before others have their
 * turn. More are a 422. */
#define JSON_PUBLICATIONS_MAX 16384

/* Why a text was not accepted. */
struct json_error {
	int status;       /* 400: not JSON, or nested too deep; 422: not
			     what is asked for; 500: no memory */
	bool is_too_deep; /* 400 for that: it may well be JSON */
	char text[JSON_ERROR_MAX]; /* what and where, for the client: printable
				      ASCII */
};

/* What is published: the text that a raw subscriber gets, and what it is. */
struct json_data {
	struct span text;  /* UTF-8: a string's characters (decoded, may hold
			      U+0000); or the compact JSON text of another value,
			      numbers and escapes as they were written */
	bool is_json;      /* the latter: it stands for itself in an envelope,
			      without quotes */
	struct span event; /* the type of its event (sse_check_type()), not
			      empty; or absent */
	struct span traceparent; /* what traceparent_parse() lets pass, or
				    absent */
};

/* What may be asked of a member. */
enum json_kind {
	JSON_STRING = 1, /* `value` is decoded */
	JSON_NUMBER = 2, /* `value` is its JSON text */
	JSON_ANY = 4,    /* any value, as struct json_data has it */
};

/* One member that is asked for. */
struct json_member {
	const char *name;
	unsigned kinds; /* enum json_kind, added up */
	bool is_required;
	size_t max_bytes;  /* of a string, decoded; 0: no limit */
	struct span value; /* out; absent if there is none */
	struct span raw;   /* out: its JSON text, in the text that was read */
	bool is_string;    /* out: it was a string */
};

/* Reads `text`, an object, for the `count` members of `wanted`. Others are
 * ignored; one that is wanted and there twice is refused, as is anything but an
 * object. `memory`, emptied first, is what the values lie in; text.len bytes of
 * it are always enough. Returns 0; or error->status, with the values undefined,
 * but `raw` is right: after 422 that of a member that was found and is of its
 * kind, else absent. */
int json_read_members(struct span text, struct json_member *wanted,
		      size_t count, struct buf *memory,
		      struct json_error *error);

/* Calls `on_element` with the text of each element of `text`, an array, in
 * their order. Returns 0; or error->status: 422 if it is something else, 400 if
 * it is no JSON, when some elements may have been told already. */
int json_read_array(struct span text,
		    void (*on_element)(void *user, struct span element),
		    void *user, struct json_error *error);

/* A publication: {"topic": string, "data": any value, "event": string,
 * "traceparent": string}. The
 * topic has at most NAME_MAX_BYTES (base/name.h); a longer one is refused
 * (422), as is an event that sse_check_type() refuses. It may be missing, or
 * empty, which is the same. A traceparent that is none is ignored, whatever it
 * is. */
struct json_publication {
	struct span topic;
	struct json_data data;
};

/* Gives `data` the event type that was asked for. Returns 0; or error->status,
 * 422, if there can't be such a one. */
int json_take_event(struct json_data *data, struct span event,
		    struct json_error *error);

/* Publications to be read: one object, or an array of them. Used again and
 * again: its memory is kept; what a large text needed is freed when the next
 * one of at most 64 KiB is read. Zeroed memory is empty. */
struct json_publications {
	struct json_publication *all;
	size_t count;
	size_t cap;
	bool is_array;
	struct buf memory; /* what their spans lie in */
};

/* Reads `text`: all of it, or nothing. Of an array's elements the error's text
 * names the one, from 1: "item 3: missing member `topic`". Returns 0; or
 * error->status, with `p` of no use. */
int json_read_publications(struct json_publications *p, struct span text,
			   struct json_error *error);
void json_publications_fini(struct json_publications *p);

/* A subscription: {"publisher": string, "topic": string}; the same rules, for
 * both names. */
struct json_subscription {
	struct span publisher;
	struct span topic;
	struct buf memory;
};

int json_read_subscription(struct json_subscription *s, struct span text,
			   struct json_error *error);

/* Whether `text` is one JSON text by RFC 8259 and nothing else: UTF-8 without
 * surrogates, names and strings without raw control characters, escapes that
 * make Unicode scalar values (a lone surrogate is refused). Space around it is
 * allowed, a byte order mark is not. Numbers may be of any length. Returns 0;
 * or 400 with `error` filled; bytes are counted from 1. Exactly what it
 * refuses, the readers refuse likewise. */
int json_check(struct span text, struct json_error *error);

/* Appends `text` (UTF-8, U+0000 allowed) as a JSON string, quotes included:
 * escaped is what must be, U+2028 and U+2029 too. Returns 0, or UV_ENOMEM with
 * `out` unchanged. */
int json_write_string(struct buf *out, struct span text);

/* Appends {"error": text} as JSON to `out`; `text` is UTF-8. Returns 0, or
 * UV_ENOMEM with `out` unchanged. */
int json_write_error(struct buf *out, const char *text);

#endif
