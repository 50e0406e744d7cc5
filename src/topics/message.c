/* message.c - a message is one allocation (the struct, its links, the frame),
 * and one for each further form that was needed. */
#include "topics/message.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "codec/sse.h"
#include "codec/traceparent.h"
#include "codec/websocket.h"

#include <stdlib.h>

/* An encoding of n bytes may occupy 1/SPARE_PART of them more. */
#define SPARE_PART 32

static _Atomic size_t kept_forms;
static _Atomic size_t kept_forms_max = SIZE_MAX;

_Static_assert(SSE_TYPE_MAX_BYTES <= UINT8_MAX, "event_len is a byte");

/* Copies `s` to `to`; returns where it ends there. */
static uint8_t *copy_to(uint8_t *to, struct span s)
{
	if (s.len > 0)
		memcpy(to, s.bytes, s.len);
	return to + s.len;
}

struct message *message_new_from(struct json_data from, unsigned workers)
{
	size_t links = workers * sizeof(struct message_link);
	struct span data = from.text;

	CHECK(from.event.len <= SSE_TYPE_MAX_BYTES);
	CHECK(from.traceparent.len == 0 ||
	      from.traceparent.len == TRACEPARENT_BYTES);
	if (data.len > MESSAGE_MAX_BYTES - WEBSOCKET_HEADER_MAX)
		return NULL;
	size_t size = sizeof(struct message) + links + WEBSOCKET_HEADER_MAX +
		      data.len + from.event.len + from.traceparent.len;
	struct message *m = malloc(size);
	if (m == NULL)
		return NULL;
	memory_charge(size);
	uint8_t *payload =
		(uint8_t *)(m->links + workers) + WEBSOCKET_HEADER_MAX;
	size_t header =
		framing_write_start(FRAMING_TEXT, (char *)payload, data.len);
	copy_to(copy_to(copy_to(payload, data), from.event), from.traceparent);
	atomic_init(&m->refs, 1);
	atomic_init(&m->further, 0);
	m->size = size;
	m->header_len = (uint8_t)header;
	m->is_json = from.is_json;
	m->has_traceparent = from.traceparent.len > 0;
	m->event_len = (uint8_t)from.event.len;
	m->is_reset = false;
	m->epoch = 0;
	m->claims = 0;
	m->sequence = 0;
	m->accepted_ns = 0;
	m->frame = payload - header;
	m->frame_len = (uint32_t)(header + data.len);
	atomic_init(&m->forms, NULL);
	return m;
}

struct message *message_new(struct span data, bool is_json, unsigned workers)
{
	return message_new_from(
		(struct json_data){.text = data, .is_json = is_json}, workers);
}

struct span message_event(const struct message *m)
{
	if (m->event_len == 0)
		return (struct span){0};
	return (struct span){(const char *)m->frame + m->frame_len,
			     m->event_len};
}

struct span message_traceparent(const struct message *m)
{
	if (!m->has_traceparent)
		return (struct span){0};
	return (struct span){(const char *)m->frame + m->frame_len +
				     m->event_len,
			     TRACEPARENT_BYTES};
}

struct span message_data(const struct message *m)
{
	return (struct span){(const char *)m->frame + m->header_len,
			     m->frame_len - m->header_len};
}

/* --- further forms -------------------------------------------------------- */

struct message_encoding *message_encoding_of(const struct buf *out,
					     size_t start,
					     enum message_form form)
{
	struct message_encoding *e = (void *)out->bytes;
	size_t size = out->cap;

	CHECK(start >= sizeof *e && out->len >= start);
	if (size - out->len > out->len / SPARE_PART) {
		void *smaller = realloc(out->bytes, out->len);
		if (smaller != NULL) {
			e = smaller;
			size = out->len;
		}
	}
	memory_charge(size);
	*e = (struct message_encoding){.size = size,
				       .at = (uint32_t)start,
				       .len = (uint32_t)(out->len - start),
				       .form = (uint8_t)form};
	return e;
}

void message_encoding_free(struct message_encoding *e)
{
	if (e == NULL)
		return;
	memory_credit(e->size);
	free(e);
}

static struct message_encoding *find_from(struct message_encoding *first,
					  enum message_form form)
{
	while (first != NULL && first->form != form)
		first = first->next;
	return first;
}

struct message_encoding *message_find(const struct message *m,
				      enum message_form form)
{
	return find_from(atomic_load_explicit(&m->forms, memory_order_acquire),
			 form);
}

/* --- those that the history keeps ----------------------------------------- */

void message_keep(struct message *m)
{
	size_t before = atomic_load_explicit(&m->further, memory_order_relaxed);

	/* Not in one step: it is nobody else's, and this is on the way of every
	 * publication. */
	if (before > 0)
		atomic_fetch_add_explicit(&kept_forms, before,
					  memory_order_relaxed);
	atomic_store_explicit(&m->further, before | MESSAGE_IS_KEPT,
			      memory_order_relaxed);
}

void message_drop(struct message *m)
{
	size_t before = atomic_fetch_and_explicit(&m->further, ~MESSAGE_IS_KEPT,
						  memory_order_acq_rel);
	size_t bytes = before & ~MESSAGE_IS_KEPT;

	CHECK(before != bytes);
	if (bytes > 0)
		atomic_fetch_sub_explicit(&kept_forms, bytes,
					  memory_order_relaxed);
}

size_t message_kept_forms(void)
{
	return atomic_load_explicit(&kept_forms, memory_order_relaxed);
}

void message_bound_forms(size_t bytes)
{
	atomic_store_explicit(&kept_forms_max, bytes, memory_order_relaxed);
}

static void uncount_kept(size_t bytes)
{
	atomic_fetch_sub_explicit(&kept_forms, bytes, memory_order_relaxed);
}

/* Counts a form that `m` is to have, as if the history kept it. Returns false,
 * with nothing counted, if it does and there is no room. */
static bool count_form(const struct message *m, size_t bytes)
{
	size_t max =
		atomic_load_explicit(&kept_forms_max, memory_order_relaxed);
	size_t all = atomic_fetch_add_explicit(&kept_forms, bytes,
					       memory_order_relaxed) +
		     bytes;
	size_t further =
		atomic_load_explicit(&m->further, memory_order_relaxed);

	if (all <= max || (further & MESSAGE_IS_KEPT) == 0)
		return true;
	uncount_kept(bytes);
	return false;
}

/* `m` has the form now. If the history does not keep the message, or has just
 * dropped it, the form is not counted after all. */
static void settle_form(struct message *m, size_t bytes)
{
	size_t before = atomic_fetch_add_explicit(&m->further, bytes,
						  memory_order_acq_rel);

	if ((before & MESSAGE_IS_KEPT) == 0)
		uncount_kept(bytes);
}

bool message_has_room(const struct message *m, size_t bytes)
{
	if (!count_form(m, bytes))
		return false;
	uncount_kept(bytes);
	return true;
}

struct message_encoding *message_add(struct message *m,
				     struct message_encoding *e)
{
	struct message_encoding *has =
		atomic_load_explicit(&m->forms, memory_order_acquire);
	size_t size = e->size;

	if (!count_form(m, size))
		return NULL;
	do {
		struct message_encoding *same =
			find_from(has, (enum message_form)e->form);
		if (same != NULL) {
			uncount_kept(size);
			message_encoding_free(e);
			return same;
		}
		e->next = has;
	} while (!atomic_compare_exchange_weak_explicit(&m->forms, &has, e,
							memory_order_acq_rel,
							memory_order_acquire));
	settle_form(m, size);
	return e;
}

/* --- references ----------------------------------------------------------- */

struct message *message_ref(struct message *m, unsigned n)
{
	atomic_fetch_add_explicit(&m->refs, n, memory_order_relaxed);
	return m;
}

void message_unref(struct message *m, unsigned n)
{
	/* All that others did with it happens before it is freed. */
	unsigned old =
		atomic_fetch_sub_explicit(&m->refs, n, memory_order_acq_rel);
	CHECK(old >= n);
	if (old > n)
		return;
	struct message_encoding *e =
		atomic_load_explicit(&m->forms, memory_order_relaxed);
	while (e != NULL) {
		struct message_encoding *next = e->next;
		message_encoding_free(e);
		e = next;
	}
	memory_credit(m->size);
	free(m);
}
