/* deliver.c - sorts messages by topic, and sends runs of them. */
#include "base/check.h"
#include "fanout/members.h"
#include "fanout/subscribers.h"

#define RUN_MAX_BYTES 65536 /* of a form, joined in one chunk */
/* Messages, times subscribers in GROUP_SINGLE, in one batch. */
#define SINGLES_MAX 4096
#define SENT_CLOCK                                                             \
	256 /* messages, times subscribers, between two looks at the           \
	     * clock */

#define RESET_SOME 64 /* subscribers that are told of a reset at once */

/* Messages of one topic, one after another, that are sent together. */
struct run {
	struct message *first;
	struct message *after; /* the first that does not belong to it */
	size_t bytes;          /* in the form that it is for */
	uint64_t messages;
};

/* The subscribers that get runs, and the form that they get. */
struct audience {
	struct subscribers *all;
	enum message_form form;
	struct message_source source;
	struct subscriber **members;
	uint32_t count;
};

static void wait_for_turn(struct subscribers *all, struct local_topic *local)
{
	if (all->waiting == NULL)
		all->waiting_end = &all->waiting;
	local->next = NULL;
	*all->waiting_end = local;
	all->waiting_end = &local->next;
}

/* Appends each message to the list of its topic, up to the first that is_reset.
 * Returns that one, or NULL. */
static struct message *sort_mail(struct subscribers *all, struct message *m)
{
	while (m != NULL && !m->is_reset) {
		struct message_link *link = &m->links[all->worker];
		struct message *next = link->next;
		struct local_topic *local = link->member;
		if (local->first == NULL) {
			local->end = &local->first;
			wait_for_turn(all, local);
		}
		*local->end = m;
		local->end = &link->next;
		link->next = NULL;
		m = next;
	}
	return m;
}

/* --- runs ----------------------------------------------------------------- */

/* Adds `m` to the run. Forms other than the frame are joined in all->batch.
 * Returns false without memory. */
static bool add_to_run(const struct audience *a, struct run *run,
		       struct message *m)
{
	struct buf *batch = &a->all->batch;

	if (a->form == MESSAGE_FRAME) {
		run->bytes += m->frame_len;
		return true;
	}
	if (message_append(batch, m, a->form, &a->source) != 0)
		return false;
	run->bytes = batch->len;
	return true;
}

/* The next run of messages before `end`. A long message is a run by itself, and
 * so is one for which memory is missing. */
static struct run next_run(const struct audience *a, struct message *first,
			   const struct message *end)
{
	struct run run = {.first = first, .after = first};

	a->all->batch.len = 0;
	while (run.after != end && run.bytes <= RUN_MAX_BYTES) {
		bool is_alone =
			message_is_long(run.after) ||
			(a->form == MESSAGE_FRAME &&
			 run.bytes + run.after->frame_len > RUN_MAX_BYTES);
		if (!is_alone)
			is_alone = !add_to_run(a, &run, run.after);
		if (is_alone && run.messages > 0)
			break;
		run.messages++;
		run.after = run.after->links[a->all->worker].next;
		if (is_alone)
			break;
	}
	return run;
}

/* Makes one chunk of the run: of the message's own bytes if it is a long one,
 * or the only frame. NULL without memory. Takes no reference. */
static struct chunk *chunk_of_run(const struct audience *a,
				  const struct run *run)
{
	const struct buf *batch = &a->all->batch;

	if (a->form != MESSAGE_FRAME && batch->len > 0)
		return subscribers_chunk_of_copy(batch->bytes, batch->len);
	if (run->messages == 1)
		return subscribers_chunk_of(a->all, run->first, a->form,
					    &a->source);
	struct chunk *chunk = chunk_new(run->bytes);
	if (chunk == NULL)
		return NULL;
	for (struct message *m = run->first; m != run->after;
	     m = m->links[a->all->worker].next)
		chunk_append(chunk, m->frame, m->frame_len);
	return chunk;
}

/* Sends the later messages of a run to a subscriber that came in the middle of
 * it. Returns how many it did not get. */
static uint64_t send_rest_of_run(const struct audience *a,
				 const struct run *run,
				 const struct subscriber *s)
{
	uint64_t sent = 0;

	for (struct message *m = run->first; m != run->after;
	     m = m->links[a->all->worker].next) {
		if (m->sequence <= s->since)
			continue;
		struct chunk *chunk =
			subscribers_chunk_of(a->all, m, a->form, &a->source);
		if (chunk == NULL) {
			conn_end_later(s->conn, CLOSE_REASON_no_memory);
			break;
		}
		conn_send(s->conn, chunk);
		chunk_unref(chunk);
		sent++;
	}
	return run->messages - sent;
}

static void end_all(const struct audience *a)
{
	for (uint32_t i = 0; i < a->count; i++)
		conn_end_later(a->members[i]->conn, CLOSE_REASON_no_memory);
}

/* Whether any subscriber can be sent to: if all are doomed, a long message need
 * not be encoded. */
static bool is_heard(const struct audience *a)
{
	for (uint32_t i = 0; i < a->count; i++)
		if (conn_can_send(a->members[i]->conn))
			return true;
	return false;
}

static void send_run(const struct audience *a, const struct run *run)
{
	if (!is_heard(a))
		return;
	struct chunk *chunk = chunk_of_run(a, run);
	uint64_t sequence = run->first->sequence;
	uint64_t missed = 0;

	if (chunk == NULL) {
		end_all(a);
		return;
	}
	for (uint32_t i = 0; i < a->count; i++) {
		const struct subscriber *s = a->members[i];
		if (sequence > s->since)
			conn_send(s->conn, chunk);
		else
			missed += send_rest_of_run(a, run, s);
	}
	stats_add(a->all->stats, STATS_delivered,
		  a->count * run->messages - missed);
	/* What those missed that have a part already is let go of. */
	stats_add(a->all->stats, STATS_delivered_bytes,
		  (uint64_t)a->count * chunk->len);
	chunk_unref(chunk);
}

/* Sends the messages of `batch` to the subscribers that want `form`. */
static void send_form(struct subscribers *all, const struct local_topic *local,
		      enum message_form form, const struct run *batch)
{
	uint32_t start = form == MESSAGE_FRAME ? 0 : local->ends[form - 1];
	struct audience a = {.all = all,
			     .form = form,
			     .source = local_topic_source(all, local),
			     .members = local->members + start,
			     .count = local->ends[form] - start};
	struct run run;

	if (form == MESSAGE_FRAME) { /* a batch is a run of frames */
		send_run(&a, batch);
		return;
	}
	for (struct message *m = batch->first; m != batch->after;
	     m = run.after) {
		run = next_run(&a, m, batch->after);
		send_run(&a, &run);
	}
}

/* --- one by one ----------------------------------------------------------- */

/* Sends `m` to the subscribers in GROUP_SINGLE. Events of one form share a
 * body. */
static void send_singles(struct subscribers *all,
			 const struct local_topic *local, struct message *m)
{
	struct message_source source = local_topic_source(all, local);
	struct chunk *bodies[MESSAGE_FORMS] = {NULL};

	for (uint32_t i = local->ends[GROUP_SINGLE - 1];
	     i < local->ends[GROUP_SINGLE]; i++) {
		struct subscriber *s = local->members[i];
		if (s->is_lossy) {
			subscribers_offer(all, lossy_of(s), m);
			continue;
		}
		if (m->sequence <= s->since || !conn_can_send(s->conn))
			continue;
		s->since = m->sequence;
		if (bodies[s->form] == NULL)
			bodies[s->form] = subscribers_body_of(
				all, m, (enum message_form)s->form, &source);
		subscribers_send_event(all, s, bodies[s->form]);
	}
	for (unsigned form = 0; form < MESSAGE_FORMS; form++)
		if (bodies[form] != NULL)
			chunk_unref(bodies[form]);
}

/* --- delivery ------------------------------------------------------------- */

static void sample(struct subscribers *all, const struct message *m)
{
	if (all->samples < SUBSCRIBERS_SAMPLES)
		all->accepted_ns[all->samples++] = m->accepted_ns;
}

static void send_to_all(struct subscribers *all,
			const struct local_topic *local,
			const struct run *batch)
{
	uint32_t start = 0;

	for (unsigned form = 0; form < MESSAGE_FORMS; form++) {
		if (local->ends[form] > start)
			send_form(all, local, (enum message_form)form, batch);
		start = local->ends[form];
	}
	if (local->ends[GROUP_SINGLE] > start)
		for (struct message *m = batch->first; m != batch->after;
		     m = m->links[all->worker].next)
			send_singles(all, local, m);
	sample(all, batch->first);
}

/* Releases the references of the batch. */
static void drop_batch(const struct run *batch, unsigned worker)
{
	struct message *m = batch->first;

	while (m != batch->after) {
		struct message *next = m->links[worker].next;
		message_unref(m, 1);
		m = next;
	}
}

/* Shortens a batch where each message goes to many subscribers one by one. */
static void shorten(const struct subscribers *all,
		    const struct local_topic *local, struct run *batch)
{
	uint32_t singles =
		local->ends[GROUP_SINGLE] - local->ends[GROUP_SINGLE - 1];
	uint64_t most = singles == 0 ? UINT64_MAX : 1 + SINGLES_MAX / singles;
	struct message *m = batch->first;

	if (batch->messages <= most)
		return;
	batch->messages = most;
	batch->bytes = 0;
	while (most-- > 0) {
		batch->bytes += m->frame_len;
		m = m->links[all->worker].next;
	}
	batch->after = m;
}

/* Sends one batch of a topic, a run of frames, so that all work with a message
 * is done while the processor's caches have it; then it is the next topic's
 * turn. Returns how often something was sent. */
static uint64_t deliver_batch(struct subscribers *all)
{
	const struct audience raw = {.all = all, .form = MESSAGE_FRAME};
	struct local_topic *local = all->waiting;
	uint32_t count = local_topic_count(local);
	struct run batch = next_run(&raw, local->first, NULL);

	all->waiting = local->next;
	shorten(all, local, &batch);
	local->taken += batch.messages;
	if (count > 0)
		send_to_all(all, local, &batch);
	local->first = batch.after;
	drop_batch(&batch, all->worker);
	if (local->first != NULL)
		wait_for_turn(all, local);
	else if (local->topic == NULL && local->taken == local->posted)
		local_topic_free(local);
	if (subscribers_count_deflated(all))
		return SENT_CLOCK;
	return batch.messages * (1 + count);
}

void subscribers_flushed(struct subscribers *all)
{
	uint64_t now = all->samples > 0 ? uv_hrtime() : 0;

	CHECK_ON_THREAD(all->owner);
	while (all->samples > 0)
		histogram_add(&all->stats->delivery,
			      (now - all->accepted_ns[--all->samples]) / 1000,
			      1);
}

/* --- a new epoch ---------------------------------------------------------- */

/* The first reset of a new epoch. All who are subscribed now will be told, each
 * with the reset of its topic; nobody else subscribes before the last one. */
static void begin_epoch(struct subscribers *all, uint64_t epoch)
{
	if (all->is_renewing && all->epoch == epoch)
		return;
	all->epoch = epoch;
	all->is_renewing = true;
	all->parity = !all->parity;
}

/* The topic has begun anew above number `base`: its subscriber is told, unless
 * it was told before. */
static void tell_reset(struct subscribers *all, struct subscriber *s,
		       uint64_t base)
{
	if (s->parity == all->parity)
		return;
	s->parity = all->parity;
	if (s->is_lossy)
		subscribers_forget(lossy_of(s));
	s->since = base;
	all->on_reset(all, s);
}

/* The topic's subscribers begin to be told. The history that some still had to
 * get is void, and so are their claims. */
static void begin_reset(struct subscribers *all, struct local_topic *local,
			uint64_t base)
{
	while (local->ends[GROUP_BEHIND] > local->ends[GROUP_SINGLE])
		subscribers_go_live(
			all, local->members[local->ends[GROUP_BEHIND] - 1],
			base);
	all->is_resetting = true;
	all->to_reset = local_topic_count(local);
}

/* Tells some subscribers of a topic, the last members first: whoever leaves
 * meanwhile is replaced by a later one, so none is missed. Returns whether that
 * were all. */
static bool reset_some(struct subscribers *all, struct local_topic *local,
		       uint64_t base)
{
	if (!all->is_resetting)
		begin_reset(all, local, base);
	if (all->to_reset > local_topic_count(local))
		all->to_reset = local_topic_count(local);
	for (unsigned n = 0; n < RESET_SOME && all->to_reset > 0; n++)
		tell_reset(all, local->members[--all->to_reset], base);
	all->is_resetting = all->to_reset > 0;
	return !all->is_resetting;
}

/* Goes on with the reset that is the first of the mail; all messages before it
 * were delivered. Those behind it are sorted once all its subscribers are
 * told. */
static void take_reset(struct subscribers *all)
{
	struct message *m = all->mail;
	struct message_link *link = &m->links[all->worker];
	struct local_topic *local = link->member;

	begin_epoch(all, m->epoch);
	if (local == NULL) {
		all->is_renewing = false;
	} else {
		if (!reset_some(all, local, m->sequence))
			return;
		local->taken++;
		if (local->topic == NULL && local->taken == local->posted)
			local_topic_free(local);
	}
	all->mail = sort_mail(all, link->next);
	message_unref(m, 1);
}

/* --- all of it ------------------------------------------------------------ */

/* Sorts what comes, unless a reset waits: then it waits behind that. */
static void take_mail(struct subscribers *all, struct message *first)
{
	struct message *last = all->mail;

	if (last == NULL) {
		all->mail = sort_mail(all, first);
		return;
	}
	while (last->links[all->worker].next != NULL)
		last = last->links[all->worker].next;
	last->links[all->worker].next = first;
}

bool subscribers_deliver(struct subscribers *all, struct message *first,
			 uint64_t until_ns)
{
	uint64_t sent = 0;

	CHECK_ON_THREAD(all->owner);
	take_mail(all, first);
	while (all->waiting != NULL || all->mail != NULL) {
		if (all->waiting != NULL) {
			sent += deliver_batch(all);
		} else {
			take_reset(all);
			sent += RESET_SOME;
		}
		if (sent < SENT_CLOCK)
			continue;
		sent = 0;
		if (uv_hrtime() > until_ns)
			break;
	}
	return all->waiting == NULL && all->mail == NULL;
}
