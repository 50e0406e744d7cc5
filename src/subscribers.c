/* subscribers.c - sorts the mail by topic, and sends runs of it. */
#include "subscribers.h"

#include "check.h"
#include "memory.h"

#include <stdlib.h>

#define INDEX_MAX      UINT32_MAX
#define RUN_MAX_BYTES  65536 /* frames joined in one chunk */
#define JOIN_MAX_BYTES 16384 /* a longer frame is sent without a copy */

struct local_topic {
	struct topic *topic; /* NULL once the registry has forgotten us */
	struct subscriber **members;
	uint32_t count;
	uint32_t cap;
	/* Messages posted for it that were taken from the mailbox, ever; once
	 * `topic` is NULL it is freed when they are all that ever were. */
	uint64_t taken;
	uint64_t posted;
	/* During subscribers_deliver(): what is for it, and the next topic that
	 * has something. */
	struct message *first;
	struct message **end;
	struct local_topic *next;
};

/* Messages of one topic in a row that are sent together. */
struct run {
	struct message *first;
	struct message *after; /* the first that does not belong to it */
	size_t bytes;
	uint64_t messages;
};

void subscribers_init(struct subscribers *all, struct registry *registry,
		      unsigned worker, struct stats *stats)
{
	*all = (struct subscribers){
		.registry = registry, .worker = worker, .stats = stats};
}

static struct local_topic *local_topic_new(void)
{
	struct local_topic *local = calloc(1, sizeof *local);
	if (local != NULL)
		memory_charge(sizeof *local);
	return local;
}

static void local_topic_free(struct local_topic *local)
{
	memory_credit(sizeof *local + local->cap * sizeof(struct subscriber *));
	free(local->members);
	free(local);
}

static int reserve(struct local_topic *local)
{
	if (local->count < local->cap)
		return 0;
	if (local->cap > INDEX_MAX / 2)
		return UV_ENOMEM;
	uint32_t cap = local->cap == 0 ? 1 : 2 * local->cap;
	struct subscriber **members =
		realloc(local->members, cap * sizeof(struct subscriber *));
	if (members == NULL)
		return UV_ENOMEM;
	memory_charge((cap - local->cap) * sizeof(struct subscriber *));
	local->members = members;
	local->cap = cap;
	return 0;
}

/* Joins the topic, as a new member if this worker has no subscriber of it. */
static int join(struct subscribers *all, const struct topic_key *key,
		uint64_t *since, struct local_topic **out)
{
	struct registry_join join = {0};
	int rv = registry_join(all->registry, key, all->worker, &join);
	if (rv != UV_ENOENT) {
		*since = join.since;
		*out = join.member;
		return rv;
	}
	struct local_topic *local = local_topic_new();
	if (local == NULL)
		return UV_ENOMEM;
	join.member = local;
	rv = registry_join(all->registry, key, all->worker, &join);
	if (rv != 0) {
		local_topic_free(local);
		return rv;
	}
	CHECK(join.member == local); /* nobody else joins for this worker */
	local->topic = join.topic;
	*since = join.since;
	*out = local;
	return 0;
}

/* Undoes join(). */
static void leave(struct subscribers *all, struct local_topic *local)
{
	uint64_t posted;
	if (!registry_leave(all->registry, local->topic, all->worker, &posted))
		return;
	local->topic = NULL;
	local->posted = posted;
	if (local->taken == local->posted)
		local_topic_free(local);
}

int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key)
{
	struct local_topic *local;

	CHECK(s->topic == NULL);
	int rv = join(all, key, &s->since, &local);
	if (rv != 0)
		return rv;
	if (reserve(local) != 0) {
		leave(all, local);
		return UV_ENOMEM;
	}
	s->conn = c;
	s->topic = local;
	s->index = local->count;
	local->members[local->count++] = s;
	stats_set_gauge(all->stats, STATS_GAUGE_subscriptions, ++all->count);
	stats_add(all->stats, STATS_subscribed, 1);
	return 0;
}

void subscribers_remove(struct subscribers *all, struct subscriber *s)
{
	struct local_topic *local = s->topic;

	if (local == NULL)
		return;
	struct subscriber *last = local->members[--local->count];
	local->members[s->index] = last;
	last->index = s->index;
	s->topic = NULL;
	stats_set_gauge(all->stats, STATS_GAUGE_subscriptions, --all->count);
	leave(all, local);
}

/* --- delivery ----------------------------------------------------------- */

/* Hangs each message on the topic it is for, keeping the order. Returns the
 * topics that have some. */
static struct local_topic *sort_mail(struct message *m, unsigned worker)
{
	struct local_topic *first = NULL;
	struct local_topic **end = &first;

	while (m != NULL) {
		struct message_link *link = &m->links[worker];
		struct message *next = link->next;
		struct local_topic *local = link->member;
		if (local->first == NULL) {
			local->end = &local->first;
			local->next = NULL;
			*end = local;
			end = &local->next;
		}
		*local->end = m;
		local->end = &link->next;
		link->next = NULL;
		m = next;
	}
	return first;
}

static struct run next_run(struct message *first, unsigned worker)
{
	struct run run = {.first = first, .after = first};
	while (run.after != NULL) {
		size_t len = run.after->frame_len;
		if (run.messages > 0 &&
		    (len > JOIN_MAX_BYTES || run.bytes + len > RUN_MAX_BYTES))
			break;
		run.bytes += len;
		run.messages++;
		run.after = run.after->links[worker].next;
		if (len > JOIN_MAX_BYTES)
			break;
	}
	return run;
}

/* One chunk for all of the run: the message itself if it is only one. Does not
 * use up its references. */
static struct chunk *chunk_of_run(const struct run *run, unsigned worker)
{
	if (run->messages == 1)
		return chunk_of_message(message_ref(run->first, 1));
	struct chunk *chunk = chunk_new(run->bytes);
	if (chunk == NULL)
		return NULL;
	for (struct message *m = run->first; m != run->after;
	     m = m->links[worker].next)
		chunk_append(chunk, m->frame, m->frame_len);
	return chunk;
}

/* To a subscriber that came in the middle of the run: only what came after. */
static void send_rest_of_run(const struct run *run, unsigned worker,
			     const struct subscriber *s)
{
	for (struct message *m = run->first; m != run->after;
	     m = m->links[worker].next) {
		if (m->sequence <= s->since)
			continue;
		struct chunk *chunk = chunk_of_message(message_ref(m, 1));
		if (chunk == NULL) {
			conn_end_later(s->conn, ENDING_no_memory);
			return;
		}
		conn_send(s->conn, chunk);
		chunk_unref(chunk);
	}
}

static void send_run(struct subscribers *all, const struct local_topic *local,
		     const struct run *run)
{
	struct chunk *chunk = chunk_of_run(run, all->worker);

	for (uint32_t i = 0; i < local->count; i++) {
		const struct subscriber *s = local->members[i];
		if (chunk == NULL)
			conn_end_later(s->conn, ENDING_no_memory);
		else if (run->first->sequence > s->since)
			conn_send(s->conn, chunk);
		else
			send_rest_of_run(run, all->worker, s);
	}
	stats_add(all->stats, STATS_delivered, local->count * run->messages);
	if (chunk != NULL)
		chunk_unref(chunk);
}

static void deliver_topic(struct subscribers *all, struct local_topic *local)
{
	struct message *m = local->first;

	local->first = NULL;
	while (m != NULL) {
		struct run run = next_run(m, all->worker);
		local->taken += run.messages;
		if (local->count > 0) {
			send_run(all, local, &run);
			if (all->samples < SUBSCRIBERS_SAMPLES)
				all->accepted_ns[all->samples++] =
					run.first->accepted_ns;
		}
		while (m != run.after) {
			struct message *next = m->links[all->worker].next;
			message_unref(m, 1);
			m = next;
		}
	}
	if (local->topic == NULL && local->taken == local->posted)
		local_topic_free(local);
}

void subscribers_flushed(struct subscribers *all)
{
	uint64_t now = all->samples > 0 ? uv_hrtime() : 0;

	while (all->samples > 0)
		histogram_add(&all->stats->delivery,
			      (now - all->accepted_ns[--all->samples]) / 1000,
			      1);
}

void subscribers_deliver(struct subscribers *all, struct message *first)
{
	struct local_topic *local = sort_mail(first, all->worker);
	while (local != NULL) {
		struct local_topic *next = local->next;
		deliver_topic(all, local);
		local = next;
	}
}
