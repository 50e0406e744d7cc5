/* replicate.c - publishing where several nodes share their topics: by way of
 * the log (bus.h), which says later what became of it. Meanwhile an HTTP
 * request stays pending, and a WebSocket is paused, so that answers keep their
 * order.
 */
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"
#include "cluster/bus.h"

#include <stdlib.h>

#define UNKNOWN                                                                \
	"It may have been published: repeat it with the same Idempotency-Key"

static void count_full(struct routes *r)
{
	stats_add(routes_stats(r), STATS_publish_full, 1);
}

/* --- asking --------------------------------------------------------------- */

/* NULL without memory. */
static struct bus_request *request_of(const struct buf *record, size_t head,
				      size_t count)
{
	size_t len = record->len - head;
	struct bus_request *q = calloc(1, sizeof *q + len);

	if (q == NULL)
		return NULL;
	q->count = (unsigned)count;
	q->len = len;
	memcpy(q->body, record->bytes + head, len);
	return q;
}

/* Makes `*out` of a batch. Returns 0, UV_ENOMEM, or UV_E2BIG. */
static int encode(struct routes *r, const struct batch *b,
		  struct bus_request **out)
{
	const struct record none = {.kind = RECORD_PUBLICATIONS};
	struct buf *record = &r->record;

	if (b->count > RECORD_PUBLICATIONS_MAX)
		return UV_E2BIG;
	record->len = 0;
	int rv = record_begin(record, &none);
	size_t head = record->len;
	for (size_t i = 0; i < b->count && rv == 0; i++) {
		const struct json_publication *from = &b->all[i];
		struct record_publication p = {.publisher = b->publisher,
					       .topic = from->topic,
					       .event = from->data.event,
					       .data = from->data.text,
					       .is_json = from->data.is_json};
		rv = record_add(record, 0, &p);
	}
	if (rv != 0)
		return rv;
	*out = request_of(record, head, b->count);
	return *out == NULL ? UV_ENOMEM : 0;
}

int routes_replicate(struct routes *r, struct conn *c, const struct batch *b,
		     const struct receipts_request *key)
{
	struct session *session = routes_session(c);
	struct bus_request *q;

	if (session == NULL)
		return UV_ENOMEM;
	CHECK(session->publishing == NULL);
	int rv = encode(r, b, &q);
	if (rv != 0)
		return rv;
	q->worker = r->worker->index;
	q->note.kind = MAILBOX_NOTE_PUBLISHED;
	q->is_array = b->is_array;
	q->owner = c;
	if (key != NULL) {
		q->flags = RECORD_KEYED | (b->is_array ? RECORD_IS_ARRAY : 0);
		memcpy(q->id, key->id, sizeof q->id);
		memcpy(q->content, key->content, sizeof q->content);
	}
	rv = bus_publish(r->worker->shared->bus, q);
	if (rv == 0)
		session->publishing = q;
	else
		free(q);
	return rv;
}

bool routes_is_publishing(struct conn *c)
{
	const struct session *session = routes_session_of(c);
	return session != NULL && session->publishing != NULL;
}

void routes_forget_publishing(struct session *session)
{
	if (session->publishing != NULL)
		session->publishing->owner = NULL;
	session->publishing = NULL;
}

/* --- answering ------------------------------------------------------------ */

/* Writes the receipts to r->page. Returns 0 or UV_ENOMEM. */
static int write_receipts(struct routes *r, const struct bus_request *q)
{
	struct span body = {q->body, q->len};
	struct record_publication p;
	struct buf *page = &r->page;

	page->len = 0;
	if (buf_reserve(page, q->count * (RECEIPT_MAX + 1) + 2) != 0)
		return UV_ENOMEM;
	char *at = page->bytes;
	if (q->is_array)
		*at++ = '[';
	for (unsigned i = 0; record_next(&body, &p); i++) {
		struct topic_key key = {p.publisher, p.topic};
		struct registry_receipt receipt = {
			q->number + i,
			worker_count_subscribers(r->worker->shared, &key)};
		if (i > 0)
			*at++ = ',';
		at = receipt_write(at, q->epoch, &receipt);
	}
	if (q->is_array)
		*at++ = ']';
	page->len = (size_t)(at - page->bytes);
	return 0;
}

static void answer_request(struct routes *r, struct conn *c,
			   const struct bus_request *q)
{
	switch (q->outcome) {
	case BUS_PUBLISHED:
		stats_add(routes_stats(r), STATS_published, q->count);
		if (write_receipts(r, q) == 0)
			routes_answer_receipts(r, c, false);
		else
			conn_respond_error(c, 500, "Internal server error",
					   NULL);
		break;
	case BUS_REPEATED: {
		struct receipts_request key;
		memcpy(key.id, q->id, sizeof key.id);
		memcpy(key.content, q->content, sizeof key.content);
		if (!routes_answer_repeated(r, c, &key))
			conn_respond_error(c, 504, UNKNOWN, NULL);
		break;
	}
	case BUS_REFUSED:
		count_full(r);
		conn_respond_error(c, 503, "The log can't be reached",
				   "Retry-After: 1\r\n");
		break;
	case BUS_UNKNOWN:
		conn_respond_error(c, 504, UNKNOWN, NULL);
		break;
	}
}

/* Of a publish command of isimud.v1, whose `ref` waits in the session. */
static void answer_command(struct routes *r, struct conn *c,
			   const struct bus_request *q)
{
	struct session *session = routes_session_of(c);
	struct span ref = {session->waiting.bytes, session->waiting.len};
	struct registry_receipt receipt = {.sequence = q->number};
	struct span body = {q->body, q->len};
	struct record_publication p;

	if (q->outcome == BUS_PUBLISHED && record_next(&body, &p)) {
		struct topic_key key = {p.publisher, p.topic};
		receipt.subscribers =
			worker_count_subscribers(r->worker->shared, &key);
		stats_add(routes_stats(r), STATS_published, 1);
		routes_answer_published(r, c, ref, q->epoch, &receipt);
	} else if (q->outcome == BUS_UNKNOWN) {
		routes_answer_error(r, c, ref, ENVELOPE_unknown_outcome,
				    "it may have been published");
	} else {
		count_full(r);
		routes_answer_error(r, c, ref, ENVELOPE_busy, NULL);
	}
	routes_drop_waiting(session);
	conn_resume(c);
}

void routes_on_replicated(struct routes *r, struct mailbox_note *note)
{
	struct bus_request *q = CONTAINER_OF(note, struct bus_request, note);
	struct conn *c = q->owner;

	if (c != NULL) {
		routes_session_of(c)->publishing = NULL;
		if (conn_state(c) == CONN_PENDING)
			answer_request(r, c, q);
		else if (conn_state(c) == CONN_WEBSOCKET)
			answer_command(r, c, q);
	}
	free(q);
}
