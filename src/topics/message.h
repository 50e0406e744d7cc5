/* message.h - one published message, and its encodings, shared by all.
 *
 * Its first form is made with it: a whole WebSocket text frame (RFC 6455 5.2).
 * A server's frames are not masked (5.1), so every subscriber gets the very
 * same bytes. The other forms are made when they are first needed, by any
 * thread. It has a link for each worker, so that posting it to a mailbox needs
 * no memory and can't fail. Its memory counts against the budget (memory.h).
 * Immutable after message_new(), but for `accepted_ns` (the publisher's, before
 * it is posted), `refs`, `forms` and `further` (Atomic), `sequence` (written
 * once, under its topic's lock, before it is posted anywhere), each entry of
 * `links` (Guarded by the lock of that worker's mailbox until it is taken, then
 * Owner: that worker), and `claims`. */
#ifndef ISIMUD_TOPICS_MESSAGE_H
#define ISIMUD_TOPICS_MESSAGE_H

#include "base/span.h"
#include "codec/json/json.h"
#include "topics/forms.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MESSAGE_MAX_BYTES UINT32_MAX /* of a form */

#define MESSAGE_IS_KEPT (~(SIZE_MAX >> 1)) /* the history has it */

struct message_link {
	struct message *next; /* in the mailbox of that worker */
	void *member;         /* whom it is for there (registry.h) */
};

struct buf;

/* A form but the first, in one allocation with its bytes. Immutable once it is
 * in a message's `forms`. */
struct message_encoding {
	struct message_encoding *next; /* there */
	size_t size;                   /* of this allocation */
	uint32_t at;                   /* where the bytes begin in it */
	uint32_t len;                  /* 0: what it is made of does as well */
	uint8_t form;                  /* enum message_form */
};

struct message {
	atomic_uint refs;
	uint32_t frame_len;
	uint8_t header_len; /* of the frame; behind it is the data */
	bool is_json : 1;   /* the data is JSON text, and not a string's */
	/* Behind data and event's type there are TRACEPARENT_BYTES more. */
	bool has_traceparent : 1;
	uint8_t event_len;    /* of the event's type, behind the data */
	bool is_reset;        /* no publication: the topic begins anew behind
				 it (registry_renew()) */
	uint32_t claims;      /* on it in the history (Guarded by the lock of
				 its topic) */
	size_t size;          /* of this allocation */
	uint64_t sequence;    /* its place in the topic, counted from 1 */
	uint64_t epoch;       /* which life of the numbers that is one of */
	uint64_t accepted_ns; /* when it was published, by uv_hrtime() */
	uint8_t *frame;       /* inside this allocation */
	/* Bytes of the further forms; MESSAGE_IS_KEPT besides. */
	_Atomic size_t further;
	/* A list of those that somebody wanted, which only grows. */
	_Atomic(struct message_encoding *) forms;
	struct message_link links[]; /* one for each worker */
};

/* Makes a message of `data`, copied, with room for `workers` links and one
 * reference, the caller's. `is_json`: it is compact JSON text (json.h), which
 * has no line ends. NULL without memory, or if it is longer than
 * MESSAGE_MAX_BYTES. Threads: any. */
struct message *message_new(struct span data, bool is_json, unsigned workers);

/* The same of all that a publication has: the type of its event, too, and its
 * traceparent, which are copied as well. */
struct message *message_new_from(struct json_data data, unsigned workers);

/* What it was made of; lives as long as the message. The event's type and the
 * traceparent are absent if it has none. */
struct span message_data(const struct message *m);
struct span message_event(const struct message *m);
struct span message_traceparent(const struct message *m);

/* Makes an encoding of what `out` holds from `start` on, in that memory, which
 * it takes: charged to memory.h. The first sizeof(struct message_encoding)
 * bytes are left for it. */
struct message_encoding *message_encoding_of(const struct buf *out,
					     size_t start,
					     enum message_form form);
void message_encoding_free(struct message_encoding *e); /* NULL is fine */

static inline struct span message_encoding_bytes(
	const struct message_encoding *e)
{
	return (struct span){(const char *)e + e->at, e->len};
}

/* What it has for a form, or NULL. Threads: any that holds a reference. */
struct message_encoding *message_find(const struct message *m,
				      enum message_form form);

/* Whether there is room for a form of `bytes`: always, unless the history has
 * the message. Somebody else may be faster. */
bool message_has_room(const struct message *m, size_t bytes);

/* Gives the message `e`, which it takes, unless there is no room, or it has
 * that form by now. Returns what it has then; or NULL, and `e` is still the
 * caller's. Threads: any that holds a reference. */
struct message_encoding *message_add(struct message *m,
				     struct message_encoding *e);

/* The history keeps `m` from now on: once, while no other thread has it. */
void message_keep(struct message *m);

/* The history keeps it no longer. Threads: any that holds a reference. */
void message_drop(struct message *m);

/* What the forms but the first of all messages that histories keep take, in the
 * process; and the most that it may be, from now on. Nobody takes forms back
 * that there are. Threads: any; takes no lock. */
size_t message_kept_forms(void);
void message_bound_forms(size_t bytes);

/* Takes `n` more references. Returns `m`. Threads: any that holds one. */
struct message *message_ref(struct message *m, unsigned n);

/* Gives `n` references up; the last frees it, on whichever thread that is. */
void message_unref(struct message *m, unsigned n);

#endif
