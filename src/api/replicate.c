/* replicate.c - publishing where several nodes share their topics: by way of
 * the log (bus.h), which says later what became of it. Meanwhile an HTTP
 * request stays pending, and a WebSocket is paused, so that answers keep their
 * order.
 */
#include "api/private.h"
#include "base/check.h"
#include "cluster/bus.h"

#include <stdlib.h>

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
static int encode_batch(struct routes *r, const struct batch *b,
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
					       .traceparent =
						       from->data.traceparent,
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
		     const struct idempotency_request *key,
		     routes_published_cb on_published)
{
	struct session *session = routes_session(c);
	struct bus_request *q;

	if (session == NULL)
		return UV_ENOMEM;
	CHECK(session->publishing == NULL);
	int rv = encode_batch(r, b, &q);
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
	if (rv != 0) {
		free(q);
		return rv;
	}
	session->publishing = q;
	session->next.published = on_published;
	return 0;
}

bool routes_is_committed(struct conn *c)
{
	struct session *session = routes_session_of(c);

	if (session == NULL || session->publishing == NULL)
		return false;
	session->is_leaving = conn_state(c) == CONN_WEBSOCKET;
	return true;
}

void routes_on_replicated(struct routes *r, struct mailbox_note *note)
{
	struct bus_request *q = CONTAINER_OF(note, struct bus_request, note);
	struct conn *c = q->owner;

	if (c != NULL) {
		struct session *session = routes_session_of(c);
		bool is_leaving = session->is_leaving;
		session->publishing = NULL;
		if (conn_state(c) == CONN_PENDING ||
		    conn_state(c) == CONN_WEBSOCKET)
			session->next.published(r, c, q);
		if (is_leaving)
			conn_end(c, CLOSE_REASON_going_away, NULL);
	}
	free(q);
}
