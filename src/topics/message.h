/* message.h - one published message, encoded once a wire form, shared by all.
 *
 * Its first form is made with it: a whole WebSocket text frame (RFC 6455 5.2);
 * a server's frames are not masked (5.1), so every subscriber gets the very
 * same bytes. The others are made the first time somebody wants them, by
 * whichever thread that is. It also carries a link for each worker, so that
 * posting it to a mailbox needs no memory and can't fail.
 * Its memory counts against the budget (memory.h).
 * Immutable after message_new(), but for `accepted_ns` (the publisher's, before
 * it is posted), `refs`, `forms` and `further` (Atomic), `sequence` (written
 * once, under its topic's lock, before it is posted anywhere) and each `links`
 * entry (Guarded by the lock of that worker's mailbox until it is taken, then
 * Owner: that worker), and `claims`. */
#ifndef ISIMUD_TOPICS_MESSAGE_H
#define ISIMUD_TOPICS_MESSAGE_H

#include "base/span.h"
#include "codec/framing.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MESSAGE_MAX_BYTES UINT32_MAX /* of a form */

/* The forms: one table, a row each. Name; its framing; whether an envelope
 * (envelope_write_message()) takes the place of the data; whether it is an
 * event, which begins with its id; the form in whose bytes it lies, which is
 * itself where it has bytes of its own. Those come first. */
#define MESSAGE_FORM_TABLE(X)                                                  \
	X(FRAME, TEXT, false, false, FRAME)                                    \
	X(ENVELOPE, TEXT, true, false, ENVELOPE)                               \
	X(EVENT, CHUNK, false, true, EVENT)                                    \
	X(EVENT_ENVELOPE, CHUNK, true, true, EVENT_ENVELOPE)                   \
	X(BARE_EVENT, BARE, false, true, EVENT)                                \
	X(BARE_EVENT_ENVELOPE, BARE, true, true, EVENT_ENVELOPE)

enum message_form {
#define MESSAGE_FORM_ENUM(name, framing, has_envelope, is_event, lies_in)      \
	MESSAGE_##name,
	MESSAGE_FORM_TABLE(MESSAGE_FORM_ENUM)
#undef MESSAGE_FORM_ENUM
	MESSAGE_FORMS,
};

struct message_form_row {
	enum framing framing;
	bool has_envelope;
	bool is_event;
	enum message_form lies_in;
};
extern const struct message_form_row message_forms[MESSAGE_FORMS];

/* The form for a connection with that framing: with the envelope, or not. */
enum message_form message_form_for(enum framing framing, bool has_envelope);

/* Forms that have bytes of their own: those before. */
#define MESSAGE_ENCODINGS MESSAGE_BARE_EVENT

/* What a form has from the topic. Borrowed. */
struct message_source {
	uint64_t epoch; /* of what is told besides: a message has its own */
	struct span publisher;
	struct span topic;
};

#define MESSAGE_IS_KEPT (~(SIZE_MAX >> 1)) /* the history has it */

struct message_link {
	struct message *next; /* in the mailbox of that worker */
	void *member;         /* whom it is for there (registry.h) */
};

struct message_encoding; /* a form but the first; message.c alone */
struct buf;

struct message {
	atomic_uint refs;
	uint32_t frame_len;
	uint8_t header_len;   /* of the frame; behind it is the data */
	bool is_json;         /* the data is JSON text, and not a string's */
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
	/* [form - 1]; NULL until it is wanted. Never changes after. */
	_Atomic(struct message_encoding *) forms[MESSAGE_ENCODINGS - 1];
	struct message_link links[]; /* one for each worker */
};

/* Makes a message of `data`, copied, with room for `workers` links and one
 * reference, the caller's. `is_json`: it is compact JSON text (json.h), which
 * has no line ends. NULL without memory, or if it is longer than
 * MESSAGE_MAX_BYTES. Threads: any. */
struct message *message_new(struct span data, bool is_json, unsigned workers);

/* The same with the type of its event: absent, or what sse_refuse_type() lets
 * pass, which is copied as well. */
struct message *message_new_event(struct span data, bool is_json,
				  struct span event, unsigned workers);

/* What it was made of; lives as long as the message. The event's type is absent
 * if it has none. */
struct span message_data(const struct message *m);
struct span message_event(const struct message *m);

/* The bytes of a form, for all who want it; made now if they never were, from
 * `source`, which is the same each time. Valid as long as the message; absent
 * without memory, if they were longer than MESSAGE_MAX_BYTES, or if the history
 * has the message and has no room for further forms (message_bound_forms). For
 * long messages: forms of short ones are soon made again. `sequence` must be
 * set. Threads: any that holds a reference. */
struct span message_encode(struct message *m, enum message_form form,
			   const struct message_source *source);

/* The same for the caller alone, charged to memory.h: NULL without memory, or
 * if they were longer. message_encoding_free() frees it. */
struct message_encoding *message_encode_apart(
	const struct message *m, enum message_form form,
	const struct message_source *source);
struct span message_encoding_bytes(const struct message_encoding *e);
void message_encoding_free(struct message_encoding *e);

/* Appends a form to `out`. Returns 0, or UV_ENOMEM with `out` unchanged. */
int message_append(struct buf *out, const struct message *m,
		   enum message_form form, const struct message_source *source);

/* What of an event, in any of the forms, follows its id; with the end of its
 * framing. */
struct span message_event_body(struct span event, enum message_form form);

/* Appends what goes before that body, of `body_len` bytes, in an event with
 * another id. Returns 0, or UV_ENOMEM with `out` unchanged. */
int message_append_event_start(struct buf *out, enum message_form form,
			       struct span id, size_t body_len);

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
