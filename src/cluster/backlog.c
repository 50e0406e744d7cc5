/* backlog.c - messages of the log that have arrived and are not applied yet.
 *
 * The bus's thread never waits for a worker. While a worker's mailbox is full,
 * records stay here; acks, time-outs and markers are still handled. The thread
 * also applies a long log in turns, so that a node that starts does not neglect
 * the rest. The server's flow control bounds this queue: its questions are
 * queued like records, and answered when they are reached. */
#include "base/check.h"
#include "cluster/private.h"

#define TURN_NS     5000000ULL
#define TURN_LOOK   16   /* records between looks at the clock */
#define PATIENCE_MS 1000 /* with a full mailbox; then it gets one record */

static void pop(struct bus *b)
{
	struct nats_mail *m = b->backlog.first;

	b->backlog.first = m->next;
	if (b->backlog.first == NULL)
		b->backlog.end = &b->backlog.first;
	b->backlog.stalled_ms = 0;
}

void backlog_drop(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	while (b->backlog.first != NULL) {
		struct nats_mail *m = b->backlog.first;
		pop(b);
		nats_mail_free(m);
	}
}

/* Whether the backlog belongs to an earlier consumer. */
static bool is_stale(const struct bus *b)
{
	return b->backlog.consumer != b->consumers;
}

void backlog_add(struct bus *b, struct nats_mail *m, uint64_t consumer)
{
	CHECK_ON_THREAD(b->owner);
	CHECK(m->event <= NATS_FLOW);
	if (is_stale(b))
		backlog_drop(b);
	if (consumer != b->consumers) {
		nats_mail_free(m);
		return;
	}
	b->backlog.consumer = consumer;
	b->heard_ms = uv_now(&b->loop);
	b->silences = 0;
	m->next = NULL;
	*b->backlog.end = m;
	b->backlog.end = &m->next;
}

static bool has_room(struct bus *b, const struct nats_mail *m)
{
	const struct bus_sink *sink = &b->options.sink;
	uint64_t now = uv_now(&b->loop);

	if (m->event != NATS_RECORD || sink->has_room(sink->user, m->data.len))
		return true;
	if (b->backlog.stalled_ms == 0)
		b->backlog.stalled_ms = now;
	return now - b->backlog.stalled_ms >= PATIENCE_MS;
}

static void handle(struct bus *b, const struct nats_mail *m)
{
	switch (m->event) {
	case NATS_RECORD:
		log_on_record(b, m);
		break;
	case NATS_HEARTBEAT:
		log_on_heartbeat(b, m);
		break;
	case NATS_FLOW:
		nats_respond(b->nats, m);
		break;
	default:
		break;
	}
}

enum backlog_work backlog_work(struct bus *b)
{
	uint64_t until_ns = uv_hrtime() + TURN_NS;

	CHECK_ON_THREAD(b->owner);
	for (unsigned n = 1; b->backlog.first != NULL && b->nats != NULL; n++) {
		struct nats_mail *m = b->backlog.first;
		if (is_stale(b))
			break;
		if (!has_room(b, m))
			return BACKLOG_STALLED;
		pop(b);
		handle(b, m);
		nats_mail_free(m);
		if (n % TURN_LOOK == 0 && uv_hrtime() >= until_ns &&
		    b->backlog.first != NULL)
			return BACKLOG_BUSY;
	}
	backlog_drop(b); /* what is left is stale */
	return BACKLOG_DONE;
}
