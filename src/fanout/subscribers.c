/* subscribers.c - who has subscribed, topic by topic. */
#include "fanout/subscribers.h"

#include "base/check.h"
#include "base/memory.h"
#include "codec/cursor.h"
#include "fanout/members.h"

#include <stdlib.h>

#define INDEX_MAX UINT32_MAX

int subscribers_init(struct subscribers *all, struct registry *registry,
		     unsigned worker, size_t buffered_max_bytes,
		     struct stats *stats)
{
	*all = (struct subscribers){.registry = registry,
				    .epoch = registry_epoch(registry),
				    .worker = worker,
				    .stats = stats,
				    .buffered_max_bytes = buffered_max_bytes};
	list_init(&all->turns);
	return 0;
}

void subscribers_fini(struct subscribers *all)
{
	CHECK(list_is_empty(&all->turns));
	deflater_free(all->deflater);
	buf_fini(&all->text);
	buf_fini(&all->cursor);
	buf_fini(&all->batch);
}

bool subscribers_count_deflated(struct subscribers *all)
{
	struct deflate_totals before = all->deflated;

	if (all->deflater == NULL)
		return false;
	all->deflated = deflater_totals(all->deflater);
	stats_add(all->stats, STATS_deflated,
		  all->deflated.messages - before.messages);
	stats_add(all->stats, STATS_deflate_bytes_in,
		  all->deflated.bytes_in - before.bytes_in);
	stats_add(all->stats, STATS_deflate_bytes_out,
		  all->deflated.bytes_out - before.bytes_out);
	return all->deflated.messages != before.messages;
}

/* --- a topic's members ---------------------------------------------------- */

static struct local_topic *local_topic_new(void)
{
	struct local_topic *local = calloc(1, sizeof *local);
	if (local != NULL)
		memory_charge(sizeof *local);
	return local;
}

void local_topic_free(struct local_topic *local)
{
	memory_credit(sizeof *local + local->cap * sizeof(struct subscriber *));
	free(local->members);
	free(local);
}

struct message_source local_topic_source(const struct subscribers *all,
					 const struct local_topic *local)
{
	struct topic_key key = registry_key_of(local->topic);

	return (struct message_source){.epoch = all->epoch,
				       .publisher = key.publisher,
				       .topic = key.name,
				       .deflater = all->deflater};
}

static int reserve(struct local_topic *local)
{
	if (local_topic_count(local) < local->cap)
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

static unsigned group_of(const struct subscriber *s)
{
	if (s->is_behind)
		return GROUP_BEHIND;
	return s->has_cursor || s->is_lossy ? GROUP_SINGLE : s->form;
}

static void place(struct local_topic *local, struct subscriber *s, uint32_t at)
{
	local->members[at] = s;
	s->index = at;
}

/* Makes room at the end of its group: of each group behind it, the first goes
 * to the end. */
static void insert(struct local_topic *local, struct subscriber *s)
{
	unsigned group = group_of(s);
	uint32_t hole = local_topic_count(local);

	for (unsigned g = GROUPS - 1; g > group; g--) {
		uint32_t first = local->ends[g - 1];
		if (first != hole)
			place(local, local->members[first], hole);
		hole = first;
		local->ends[g]++;
	}
	local->ends[group]++;
	place(local, s, hole);
}

/* Closes the hole with the last of its group; that one's, with the last of the
 * group behind it; and so on. */
static void take_out(struct local_topic *local, const struct subscriber *s)
{
	uint32_t hole = s->index;

	for (unsigned g = group_of(s); g < GROUPS; g++) {
		uint32_t last = --local->ends[g];
		if (last != hole)
			place(local, local->members[last], hole);
		hole = last;
	}
}

/* --- subscribing ---------------------------------------------------------- */

/* Joins the topic, as a new member if this worker has no subscriber of it. */
static int join(struct subscribers *all, const struct topic_key *key,
		struct registry_join *how)
{
	int rv = registry_join(all->registry, key, all->worker, how);
	if (rv != UV_ENOENT)
		return rv;
	struct local_topic *local = local_topic_new();
	if (local == NULL)
		return UV_ENOMEM;
	how->member = local;
	rv = registry_join(all->registry, key, all->worker, how);
	if (rv != 0) {
		local_topic_free(local);
		return rv;
	}
	CHECK(how->member == local); /* nobody else joins for this worker */
	local->topic = how->topic;
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

static void count_resumed(struct subscribers *all, bool is_exact)
{
	stats_add(all->stats, is_exact ? STATS_resumed : STATS_not_resumed, 1);
}

/* Makes `s`, which has joined, a member. Returns 0 or UV_ENOMEM. */
static int enter(struct subscribers *all, struct subscriber *s,
		 const struct registry_join *how)
{
	struct local_topic *local = how->member;
	struct replay *replay = NULL;

	if (reserve(local) != 0)
		return UV_ENOMEM;
	if (how->is_behind) {
		replay = replay_new(s, how->since);
		if (replay == NULL)
			return UV_ENOMEM;
		s->replay = replay;
		all->behind++;
	} else {
		s->since = how->since;
	}
	s->topic = local;
	s->is_behind = how->is_behind;
	insert(local, s);
	return 0;
}

int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key,
		    const struct subscribers_resume *resume, bool *is_exact)
{
	struct registry_join how = {.member = NULL};

	CHECK(s->topic == NULL);
	CHECK(!s->is_lossy || (message_forms[s->form].has_envelope &&
			       !message_forms[s->form].is_event));
	CHECK(!s->has_cursor || message_forms[s->form].is_event);
	if (resume != NULL) {
		how.resumes = resume->resumes;
		how.epoch = resume->epoch;
		how.after = resume->after;
		how.last = resume->last;
	}
	if (all->epoch != registry_epoch(all->registry))
		return UV_EAGAIN;
	int rv = join(all, key, &how);
	if (rv != 0)
		return rv;
	/* Renewed meanwhile: the reset of it is not for this one. */
	rv = how.topic_epoch == all->epoch ? enter(all, s, &how) : UV_EAGAIN;
	if (rv != 0) {
		if (how.is_behind)
			registry_give_up(all->registry, how.topic,
					 how.topic_epoch, how.since);
		leave(all, how.member);
		return rv;
	}
	s->conn = c;
	stats_set_gauge(all->stats, STATS_GAUGE_subscriptions, ++all->count);
	stats_set_gauge(all->stats, STATS_GAUGE_behind, all->behind);
	stats_add(all->stats, STATS_subscribed, 1);
	if (how.resumes)
		count_resumed(all, how.is_exact);
	if (is_exact != NULL)
		*is_exact = how.is_exact;
	if (s->is_behind)
		conn_wait_for_room(c);
	return 0;
}

uint64_t subscribers_since(const struct subscriber *s)
{
	return s->is_behind ? replay_since(s->replay) : s->since;
}

void subscribers_go_live(struct subscribers *all, struct subscriber *s,
			 uint64_t since)
{
	struct replay *replay = s->replay;

	take_out(s->topic, s);
	replay_free(replay);
	s->is_behind = false;
	s->since = since;
	insert(s->topic, s);
	stats_set_gauge(all->stats, STATS_GAUGE_behind, --all->behind);
}

void subscribers_reset(struct subscribers *all, struct local_topic *local,
		       uint64_t base)
{
	/* What these still had to get is void, and their claims with it. */
	while (local->ends[GROUP_BEHIND] > local->ends[GROUP_SINGLE])
		subscribers_go_live(
			all, local->members[local->ends[GROUP_BEHIND] - 1],
			base);
	for (uint32_t i = 0; i < local_topic_count(local); i++) {
		struct subscriber *s = local->members[i];
		if (s->is_lossy)
			subscribers_forget(
				CONTAINER_OF(s, struct lossy, subscriber));
		s->since = base;
		all->on_reset(all, s);
	}
}

/* It will not read what it still had to. */
static void give_up(struct subscribers *all, struct subscriber *s)
{
	uint64_t since = replay_since(s->replay);

	registry_give_up(all->registry, s->topic->topic, all->epoch, since);
	replay_free(s->replay);
	s->is_behind = false;
	s->since = since;
	stats_set_gauge(all->stats, STATS_GAUGE_behind, --all->behind);
}

void subscribers_remove(struct subscribers *all, struct subscriber *s)
{
	struct local_topic *local = s->topic;

	if (local == NULL)
		return;
	if (s->is_lossy)
		subscribers_forget(CONTAINER_OF(s, struct lossy, subscriber));
	take_out(local, s);
	if (s->is_behind)
		give_up(all, s);
	s->topic = NULL;
	stats_set_gauge(all->stats, STATS_GAUGE_subscriptions, --all->count);
	leave(all, local);
}

struct topic_key subscribers_key(const struct subscriber *s)
{
	return registry_key_of(s->topic->topic);
}

int subscribers_write_cursor(const struct subscribers *all,
			     const struct subscriber *s, struct buf *out)
{
	const struct subscriber *sibling = s - s->ordinal;
	size_t before = out->len;

	if (buf_reserve(out, CURSOR_MAX) != 0)
		return UV_ENOMEM;
	out->len += cursor_write(out->bytes + out->len, all->epoch,
				 subscribers_since(sibling));
	while (!sibling->is_last) {
		sibling++;
		if (buf_reserve(out, CURSOR_PART_MAX + 1) != 0) {
			out->len = before;
			return UV_ENOMEM;
		}
		out->len += cursor_write_part(out->bytes + out->len,
					      subscribers_since(sibling));
	}
	return 0;
}
