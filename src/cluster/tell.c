/* tell.c - tells the other nodes how many subscribers each topic has here, and
 * hears theirs (counts.h). These messages do not go through the log: a node
 * asks again for those that it misses, and publishing does not wait for them.
 */
#include "base/log.h"
#include "cluster/private.h"

#include <stdio.h>

#define TELL_MS       1000
#define TELL_SLICE_NS 10000000ULL /* of each tick, for looking at topics */

static uint64_t tell_now_ms(const struct bus *b)
{
	return uv_now(&b->loop);
}

static void node_subject(const struct bus *b, char out[static BUS_SUBJECT_MAX])
{
	snprintf(out, BUS_SUBJECT_MAX, "isimud.counts.%s", b->options.stream);
}

int tell_listen(struct bus *b)
{
	char subject[BUS_SUBJECT_MAX];

	CHECK_ON_THREAD(b->owner);
	node_subject(b, subject);
	return nats_listen(b->nats, subject);
}

/* counts_send_cb. A node that misses the message asks for it. */
static void send_counts(void *user, struct span message)
{
	struct bus *b = user;
	char subject[BUS_SUBJECT_MAX];

	if (b->nats == NULL)
		return;
	node_subject(b, subject);
	nats_send(b->nats, subject, message);
}

void tell_renew(struct bus *b, uint64_t epoch)
{
	CHECK_ON_THREAD(b->owner);
	if (epoch == b->tell_epoch)
		return; /* topics keep their names */
	b->tell_epoch = epoch;
	counts_set_epoch(b->counts, epoch);
	b->is_telling = false;
}

void tell_on_node(struct bus *b, const struct nats_mail *m)
{
	static struct log_limit limit = LOG_LIMIT("bus_counts_full");

	CHECK_ON_THREAD(b->owner);
	counts_hear(b->counts, m->data, tell_now_ms(b), send_counts, b);
	if (counts_take_full(b->counts) && log_limit_allows(&limit))
		log_event(LOG_WARN, "bus_counts_full", LOG_NO_FIELDS,
			  "bus: the other nodes have more topics than this "
			  "node counts");
}

/* Looks at topics for TELL_SLICE_NS; the rest follows in the next ticks. */
void tell_tick(struct bus *b)
{
	const struct bus_sink *sink = &b->options.sink;
	uint64_t until_ns = uv_hrtime() + TELL_SLICE_NS;

	CHECK_ON_THREAD(b->owner);
	counts_age(b->counts, tell_now_ms(b));
	if (b->nats == NULL || b->log.epoch == 0)
		return;
	if (!b->is_telling) {
		if (tell_now_ms(b) < b->tell_ms)
			return;
		b->tell_ms = tell_now_ms(b) + TELL_MS;
		b->tell_at = 0;
		b->is_telling = true;
		counts_begin(b->counts);
	}
	do
		sink->count(sink->user, b->counts, &b->tell_at);
	while (b->tell_at != 0 && uv_hrtime() < until_ns);
	if (b->tell_at != 0)
		return;
	b->is_telling = false;
	counts_end(b->counts, send_counts, b);
}
