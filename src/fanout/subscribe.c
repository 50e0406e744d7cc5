/* subscribe.c - subscribing and unsubscribing. */
#include "base/check.h"
#include "fanout/members.h"
#include "fanout/subscribers.h"

int subscribers_init(struct subscribers *all, struct registry *registry,
		     unsigned worker, size_t buffered_max_bytes,
		     struct stats *stats)
{
	*all = (struct subscribers){.owner = uv_thread_self(),
				    .registry = registry,
				    .epoch = registry_epoch(registry),
				    .worker = worker,
				    .stats = stats,
				    .buffered_max_bytes = buffered_max_bytes};
	list_init(&all->turns);
	return 0;
}

void subscribers_fini(struct subscribers *all)
{
	CHECK_ON_THREAD(all->owner);
	CHECK(list_is_empty(&all->turns));
	deflater_free(all->deflater);
	buf_fini(&all->text);
	buf_fini(&all->cursor);
	buf_fini(&all->batch);
}

/* Joins the topic, as a new member if this worker has no subscriber of it. */
static int join_topic(struct subscribers *all, const struct topic_key *key,
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

/* Undoes join_topic(). */
static void leave_topic(struct subscribers *all, struct local_topic *local)
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
static int become_member(struct subscribers *all, struct subscriber *s,
			 const struct registry_join *how)
{
	struct local_topic *local = how->member;
	struct replay *replay = NULL;

	if (local_topic_reserve(local) != 0)
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
	s->parity = all->parity;
	s->is_behind = how->is_behind;
	local_topic_insert(local, s);
	return 0;
}

int subscribers_add(struct subscribers *all, struct subscriber *s,
		    struct conn *c, const struct topic_key *key,
		    const struct subscribers_resume *resume, bool *is_exact)
{
	struct registry_join how = {.member = NULL};

	CHECK_ON_THREAD(all->owner);
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
	if (all->is_renewing || all->epoch != registry_epoch(all->registry))
		return UV_EAGAIN;
	int rv = join_topic(all, key, &how);
	if (rv != 0)
		return rv;
	/* The epoch has changed meanwhile: its reset is not for this
	 * subscriber. */
	rv = how.topic_epoch == all->epoch ? become_member(all, s, &how)
					   : UV_EAGAIN;
	if (rv != 0) {
		if (how.is_behind)
			registry_give_up(all->registry, how.topic,
					 how.topic_epoch, how.since);
		leave_topic(all, how.member);
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

/* It will not read the rest of the history. */
static void give_up_replay(struct subscribers *all, struct subscriber *s)
{
	uint64_t since = replay_since(s->replay);

	/* In another epoch it has no claims. */
	if (s->parity == all->parity)
		registry_give_up(all->registry, s->topic->topic, all->epoch,
				 since);
	replay_free(s->replay);
	s->is_behind = false;
	s->since = since;
	stats_set_gauge(all->stats, STATS_GAUGE_behind, --all->behind);
}

void subscribers_remove(struct subscribers *all, struct subscriber *s)
{
	struct local_topic *local = s->topic;

	CHECK_ON_THREAD(all->owner);
	if (local == NULL)
		return;
	if (s->is_lossy)
		subscribers_forget(lossy_of(s));
	local_topic_take_out(local, s);
	if (s->is_behind)
		give_up_replay(all, s);
	s->topic = NULL;
	stats_set_gauge(all->stats, STATS_GAUGE_subscriptions, --all->count);
	leave_topic(all, local);
}
