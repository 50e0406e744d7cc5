/* window.c - writes records to the log, and waits for their acks.
 *
 * A record that no server took, or whose ack was lost with the connection, is
 * sent again with the same Msg-Id, by which the server recognises it. When its
 * time is up, its requests are answered: refused if every attempt was refused,
 * else unknown. */
#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "cluster/private.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t window_now_ms(const struct bus *b)
{
	return uv_now(&b->loop);
}

/* --- answering ------------------------------------------------------------ */

static size_t request_bytes(const struct bus_request *r)
{
	return sizeof *r + r->len;
}

static void answer(struct bus *b, struct bus_request *r,
		   enum bus_outcome outcome)
{
	r->outcome = outcome;
	if (outcome == BUS_UNKNOWN)
		bus_count(&b->unknown, 1);
	atomic_fetch_sub_explicit(&b->pending_bytes, request_bytes(r),
				  memory_order_relaxed);
	memory_credit(request_bytes(r));
	mailbox_post_note(b->options.mailboxes[r->worker], &r->note);
}

static void release(struct bus *b, struct window_slot *s)
{
	memory_credit(s->bytes.cap);
	buf_fini(&s->bytes);
	*s = (struct window_slot){0};
	b->window.used--;
}

/* The record is in the log: its requests get their numbers. */
static void succeed(struct bus *b, struct window_slot *s, uint64_t sequence,
		    enum bus_outcome outcome)
{
	unsigned index = 0;

	while (s->first != NULL) {
		struct bus_request *r = s->first;
		s->first = r->next;
		r->epoch = b->log.epoch;
		r->number = record_number(sequence, index);
		index += r->count;
		answer(b, r, outcome);
	}
	release(b, s);
}

static void fail_record(struct bus *b, struct window_slot *s,
			enum bus_outcome outcome)
{
	while (s->first != NULL) {
		struct bus_request *r = s->first;
		s->first = r->next;
		answer(b, r, outcome);
	}
	release(b, s);
}

/* --- sending -------------------------------------------------------------- */

static void send_slot(struct bus *b, struct window_slot *s)
{
	bool is_again = s->sent_ms != 0;

	s->retry_ms = 0;
	if (b->nats == NULL)
		return;
	if (!is_again) {
		s->applied = b->log.applied;
		s->first_ns = uv_hrtime();
	}
	s->sent_ms = window_now_ms(b);
	struct span bytes = {s->bytes.bytes, s->bytes.len};
	int rv = nats_publish(b->nats, s->is_marker ? BUS_MARKERS : BUS_RECORDS,
			      bytes, s->token,
			      s->is_marker ? NULL : s->message_id,
			      s->is_marker ? s->expected : UINT64_MAX);
	if (is_again)
		bus_count(&b->resends, 1);
	/* The library may have written a part of it. Then the connection is
	 * unusable, and NATS_LOST comes. */
	if (rv != 0) {
		s->is_uncertain = true;
		log_event(LOG_DEBUG, "bus_publish_failed",
			  LOG_FIELDS(log_text("error", uv_err_name(rv))),
			  "bus: publishing failed: %s", uv_strerror(rv));
	}
}

static struct window_slot *take_slot(struct bus *b)
{
	for (unsigned i = 0; i < WINDOW_RECORDS; i++) {
		struct window_slot *s = &b->window.slots[i];
		if (s->token != 0)
			continue;
		/* The token's low bits are the slot's index, so an ack finds
		 * it. */
		s->token = (++b->window.last_token * WINDOW_RECORDS) | i;
		s->nonce = bus_random();
		b->window.used++;
		return s;
	}
	return NULL;
}

void window_mark(struct bus *b, uint64_t epoch, uint32_t flags,
		 uint64_t expected, uint64_t sum)
{
	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS; i++)
		if (b->window.slots[i].is_marker)
			return; /* one is on its way */
	struct window_slot *s = take_slot(b);
	if (s == NULL)
		return;
	struct record r = {.kind = RECORD_MARKER,
			   .flags = flags,
			   .epoch = epoch,
			   .nonce = s->nonce,
			   .previous = b->log.marker,
			   .sum = sum,
			   .begins = flags & RECORD_IS_NEW ? 0 : b->log.begins};
	s->is_marker = true;
	s->expected = expected;
	s->due_ms = window_now_ms(b) + BUS_CONNECT_MS;
	if (record_begin(&s->bytes, &r) != 0) {
		release(b, s);
		return;
	}
	memory_charge(s->bytes.cap);
	send_slot(b, s);
}

/* A request with an idempotency key is a record of its own; all nodes know it
 * by the key. */
static void name_record(const struct bus *b, struct window_slot *s)
{
	const struct bus_request *r = s->first;
	char *out = s->message_id;

	if (!(r->flags & RECORD_KEYED)) {
		snprintf(out, WINDOW_ID_MAX, "%016llx-%llu",
			 (unsigned long long)b->node,
			 (unsigned long long)s->token);
		return;
	}
	*out++ = 'k';
	for (unsigned i = 0; i < DIGEST_SHA256_BYTES; i++)
		out += sprintf(out, "%02x", r->id[i]);
}

static int fill_record(const struct bus *b, struct window_slot *s,
		       unsigned count)
{
	const struct bus_request *first = s->first;
	struct record r = {.kind = RECORD_PUBLICATIONS,
			   .flags = first->flags,
			   .count = count,
			   .epoch = b->log.epoch,
			   .nonce = s->nonce,
			   .id = first->id,
			   .content = first->content};
	size_t len = RECORD_HEAD_MAX;

	for (const struct bus_request *q = first; q != NULL; q = q->next)
		len += q->len;
	int rv = buf_reserve(&s->bytes, len);
	if (rv == 0)
		rv = record_begin(&s->bytes, &r);
	for (const struct bus_request *q = first; q != NULL && rv == 0;
	     q = q->next)
		rv = record_append(&s->bytes, 0, q->count,
				   (struct span){q->body, q->len});
	return rv;
}

/* Moves requests from the queue into the slot, as many as one record holds.
 * Returns the number of their publications, 0 if none waits. */
static unsigned take_requests(struct bus *b, struct window_slot *s)
{
	struct bus_request **end = &s->first;
	unsigned count = 0;
	size_t bytes = 0;

	lock_acquire(&b->lock);
	while (b->first != NULL) {
		struct bus_request *r = b->first;
		bool is_alone = r->flags & RECORD_KEYED;
		if (count > 0 &&
		    (is_alone || count + r->count > RECORD_PUBLICATIONS_MAX ||
		     bytes + r->len > BUS_RECORD_BYTES))
			break;
		b->first = r->next;
		r->next = NULL;
		*end = r;
		end = &r->next;
		count += r->count;
		bytes += r->len;
		if (is_alone)
			break;
	}
	if (b->first == NULL)
		b->end = &b->first;
	lock_release(&b->lock);
	return count;
}

void window_fill(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	while (b->state == BUS_STATE_LIVE) {
		struct window_slot *s = take_slot(b);
		if (s == NULL)
			return;
		unsigned count = take_requests(b, s);
		if (count == 0) {
			release(b, s);
			return;
		}
		s->due_ms = s->first->due_ms;
		int rv = fill_record(b, s, count);
		memory_charge(s->bytes.cap);
		if (rv != 0) {
			fail_record(b, s, BUS_REFUSED);
			continue;
		}
		name_record(b, s);
		send_slot(b, s);
		bus_count(&b->records_out, 1);
		bus_count(&b->publications_out, count);
	}
}

/* --- acks ----------------------------------------------------------------- */

static enum bus_join on_marker_ack(struct bus *b, struct window_slot *s,
				   const struct nats_mail *m)
{
	if (m->ack == NATS_ACK_ERROR)
		log_event(LOG_WARN, "bus_marker_refused", LOG_NO_FIELDS,
			  "bus: the log refused a marker");
	release(b, s);
	/* Either it is in the log, or another node was faster: judge what is
	 * there now. */
	return b->state == BUS_STATE_JOIN ? BUS_JOIN_marker : BUS_JOIN_NONE;
}

/* The log has a record with this Msg-Id at `sequence`: this one, or an earlier
 * one. */
static void on_duplicate(struct bus *b, struct window_slot *s,
			 uint64_t sequence)
{
	s->duplicate = sequence;
	/* Once it is applied, nobody remembers whose it was. With a key, its
	 * receipt is in the idempotency table; without one, it is ours, sent
	 * again. */
	if (sequence <= b->log.applied)
		succeed(b, s, sequence,
			s->first->flags & RECORD_KEYED ? BUS_REPEATED
						       : BUS_PUBLISHED);
}

enum bus_join window_on_ack(struct bus *b, const struct nats_mail *m)
{
	struct window_slot *s =
		&b->window.slots[m->token & (WINDOW_RECORDS - 1)];

	CHECK_ON_THREAD(b->owner);
	if (m->token == 0 || s->token != m->token)
		return BUS_JOIN_NONE; /* it was given up */
	if (s->is_marker)
		return on_marker_ack(b, s, m);
	switch (m->ack) {
	case NATS_ACK_OK:
		if (m->sequence > s->applied) {
			histogram_add(&b->acks,
				      (uv_hrtime() - s->first_ns) / 1000, 1);
			succeed(b, s, m->sequence, BUS_PUBLISHED);
			break;
		}
		/* The log has started again, and gives numbers that were used
		 * before. */
		fail_record(b, s, BUS_UNKNOWN);
		return BUS_JOIN_back;
	case NATS_ACK_DUPLICATE:
		on_duplicate(b, s, m->sequence);
		break;
	case NATS_ACK_UNCERTAIN:
		s->is_uncertain = true;
		s->retry_ms = window_now_ms(b) + BUS_RETRY_MS;
		break;
	case NATS_ACK_NOBODY:
	case NATS_ACK_SEQUENCE:
	case NATS_ACK_ERROR:
		s->retry_ms = window_now_ms(b) + BUS_RETRY_MS;
		break;
	}
	return BUS_JOIN_NONE;
}

void window_on_applied(struct bus *b, uint64_t sequence, uint64_t nonce)
{
	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS && b->window.used > 0; i++) {
		struct window_slot *s = &b->window.slots[i];
		if (s->token != 0 && s->duplicate != 0 &&
		    s->duplicate == sequence)
			succeed(b, s, sequence,
				s->nonce == nonce ? BUS_PUBLISHED
						  : BUS_REPEATED);
	}
}

/* --- time, and connections that come and go ------------------------------- */

static void give_up(struct bus *b, struct window_slot *s)
{
	bool is_refused =
		s->sent_ms == 0 || (s->retry_ms != 0 && !s->is_uncertain);
	fail_record(b, s, is_refused ? BUS_REFUSED : BUS_UNKNOWN);
}

/* Requests that never got into the window. */
static void refuse_overdue(struct bus *b, uint64_t now)
{
	for (;;) {
		lock_acquire(&b->lock);
		struct bus_request *r = b->first;
		if (r != NULL && r->due_ms <= now) {
			b->first = r->next;
			if (b->first == NULL)
				b->end = &b->first;
		} else {
			r = NULL;
		}
		lock_release(&b->lock);
		if (r == NULL)
			return;
		answer(b, r, BUS_REFUSED);
	}
}

void window_tick(struct bus *b)
{
	uint64_t now = window_now_ms(b);

	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS; i++) {
		struct window_slot *s = &b->window.slots[i];
		if (s->token == 0)
			continue;
		if (s->due_ms <= now)
			give_up(b, s);
		else if (s->retry_ms != 0 && s->retry_ms <= now)
			send_slot(b, s);
	}
	refuse_overdue(b, now);
}

void window_resend(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS; i++) {
		struct window_slot *s = &b->window.slots[i];
		if (s->token == 0 || s->duplicate != 0)
			continue;
		if (s->is_marker) {
			release(b, s);
			continue;
		}
		if (s->retry_ms == 0)
			s->is_uncertain = true;
		send_slot(b, s);
	}
}

void window_void(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS; i++) {
		struct window_slot *s = &b->window.slots[i];
		if (s->token != 0 && s->sent_ms != 0 && !s->is_marker)
			fail_record(b, s, BUS_UNKNOWN);
	}
}

void window_give_up(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	for (unsigned i = 0; i < WINDOW_RECORDS; i++)
		if (b->window.slots[i].token != 0)
			give_up(b, &b->window.slots[i]);
	refuse_overdue(b, UINT64_MAX);
}

void window_fini(struct window *w)
{
	CHECK(w->used == 0);
}
