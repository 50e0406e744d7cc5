/* end_all.c - ends all connections of a group, or some of them. */
#include "base/check.h"
#include "conn/private.h"

/* Whether a request has begun to come. */
static bool is_asking(const struct conn *c)
{
	return (c->state == CONN_REQUEST && c->reading != READING_BLOCKED &&
		http_is_in_request(c->http)) ||
	       conn_has_unread(c);
}

/* All that are there now will be ended. */
static void set_to_end(struct conn_group *g)
{
	g->to_end = 0;
	for (int state = 0; state < CONN_CLOSED; state++)
		g->to_end += g->states[state];
}

void conn_group_end_all(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	g->is_draining = true;
	set_to_end(g);
}

void conn_group_abort_all(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	g->is_aborting = true;
	set_to_end(g);
}

/* Those that stay for now get to the end of the list. */
static void end_first(struct conn_group *g)
{
	struct conn *c = CONTAINER_OF(g->conns.next, struct conn, link);

	if (g->is_aborting) {
		conn_abort(c, CLOSE_REASON_going_away);
		return;
	}
	list_remove(&c->link);
	list_append(&g->conns, &c->link);
	if (!is_asking(c))
		conn_end(c, CLOSE_REASON_going_away, NULL);
}

void conn_group_go_on_ending(struct conn_group *g)
{
	uint64_t until_ns = uv_hrtime() + CONN_ROUND_NS;
	unsigned done = 0;

	/* Some may have ended by themselves. Then others come twice, and
	 * nothing more happens to them. */
	while (g->to_end > 0 && !list_is_empty(&g->conns) &&
	       !conn_is_time_up(++done, &until_ns)) {
		end_first(g);
		g->to_end--;
	}
	if (list_is_empty(&g->conns))
		g->to_end = 0;
}

size_t conn_group_end_some(struct conn_group *g, size_t n)
{
	size_t ended = 0;

	CHECK_ON_THREAD(g->owner);
	LIST_FOR_EACH_SAFE (it, after, &g->conns) {
		struct conn *c = CONTAINER_OF(it, struct conn, link);
		if (ended == n)
			break;
		if (!conn_is_open(c))
			continue;
		conn_end(c, CLOSE_REASON_going_away, NULL);
		ended++;
	}
	return ended;
}
