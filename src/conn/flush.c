/* flush.c - what is done once an iteration of the loop: queued bytes are
 * written, our side of finished connections is shut, and endings that were put
 * off are carried out. */
#include "base/check.h"
#include "conn/private.h"

#include <sys/socket.h>

static void shut_our_side(struct conn *c)
{
	uv_os_fd_t fd;

	conn_move(c, CONN_LINGERING);
	conn_set_deadline(c, DEADLINE_LINGER);
	if (uv_fileno(&c->handle, &fd) == 0)
		shutdown(fd, SHUT_WR);
	/* Reading again reports an end of the peer that came before. */
	conn_restart_reading(c);
}

/* All is written, and nothing more will be. */
static void end_our_side(struct conn *c)
{
	if (c->is_agreed)
		conn_abort(c, CLOSE_REASON_done); /* neither side waits */
	else
		shut_our_side(c);
}

static void flush_one(struct conn *c)
{
	if (c->doomed != CLOSE_REASON_NONE)
		conn_end(c, (enum close_reason)c->doomed, NULL);
	if (c->state == CONN_CLOSED)
		return;
	conn_unblock(c);
	if ((conn_is_open(c) || c->state == CONN_FINISHING) &&
	    c->http != NULL) {
		conn_release_http(c);
		conn_account(c);
	}
	if (c->state != CONN_CLOSED && c->writing == NULL &&
	    c->deadline_kind != DEADLINE_LATE && conn_write_queued(c) != 0)
		conn_abort(c, CLOSE_REASON_peer_gone);
	if (c->state == CONN_FINISHING && c->outq.count == 0)
		end_our_side(c);
	if (c->wants_room && conn_has_room(c)) {
		c->wants_room = false;
		c->group->hooks->on_room(c);
	}
	conn_check_deadline(c);
}

static void flush_list(struct list *list)
{
	uint64_t until_ns = 0;
	unsigned done = 0;

	while (!list_is_empty(list) && !conn_is_time_up(++done, &until_ns)) {
		struct conn *c = CONTAINER_OF(list->next, struct conn, dirty);
		list_remove(&c->dirty);
		flush_one(c);
	}
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* that it is active keeps the poll from waiting */
}

bool conn_group_is_busy(const struct conn_group *g)
{
	return !list_is_empty(&g->line) || !list_is_empty(&g->answering) ||
	       !list_is_empty(&g->dirty) || g->to_end > 0;
}

void conn_group_flush(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	if (g->to_end > 0)
		conn_group_go_on_ending(g);
	/* Answers come first: they shall not wait for a fan-out. */
	flush_list(&g->answering);
	flush_list(&g->dirty);
	if (conn_group_is_busy(g))
		uv_idle_start(&g->idle, on_idle);
	else
		uv_idle_stop(&g->idle);
}
