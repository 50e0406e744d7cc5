/* message.h - one published message, encoded once and shared by all.
 *
 * It is a whole WebSocket text frame (RFC 6455 5.2): a server's frames are not
 * masked (5.1), so every subscriber gets the very same bytes. It also carries
 * a link for each worker, so that posting it to a mailbox needs no memory and
 * can't fail.
 * Its memory counts against the budget (memory.h).
 * Immutable after message_new(), but for `accepted_ns` (the publisher's, before
 * it is posted), `refs` (Atomic), `sequence` (written
 * once, under its topic's lock, before it is posted anywhere) and each `links`
 * entry (Guarded by the lock of that worker's mailbox until it is taken, then
 * Owner: that worker). */
#ifndef ISIMUD_MESSAGE_H
#define ISIMUD_MESSAGE_H

#include "span.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MESSAGE_MAX_BYTES UINT32_MAX /* of a frame */

struct message_link {
	struct message *next; /* in the mailbox of that worker */
	void *member;         /* whom it is for there (registry.h) */
};

struct message {
	atomic_uint refs;
	uint32_t frame_len;
	uint8_t header_len;   /* of the frame; behind it is the data */
	bool is_json;         /* the data is JSON text, and not a string's */
	size_t size;          /* of this allocation */
	uint64_t sequence;    /* its place in the topic, counted from 1 */
	uint64_t accepted_ns; /* when it was published, by uv_hrtime() */
	uint8_t *frame;       /* inside this allocation */
	struct message_link links[]; /* one for each worker */
};

/* Makes a message of `data` (UTF-8), copied, with room for `workers` links and
 * one reference, the caller's. NULL without memory, or if it is longer than
 * MESSAGE_MAX_BYTES. Threads: any. */
struct message *message_new(struct span data, bool is_json, unsigned workers);

/* What it was made of; lives as long as the message. */
struct span message_data(const struct message *m);

/* Takes `n` more references. Returns `m`. Threads: any that holds one. */
struct message *message_ref(struct message *m, unsigned n);

/* Gives `n` references up; the last frees it, on whichever thread that is. */
void message_unref(struct message *m, unsigned n);

#endif
