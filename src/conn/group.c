/* group.c - the group of a loop's connections: opening connections, their
 * deadlines, and what is done to all of them. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

#include <stdlib.h>
#include <unistd.h>

/* --- deadlines ---------------------------------------------------------- */

static void on_request_timeout(struct conn *c)
{
	conn_note_end(c, CLOSE_REASON_header_timeout);
	if (c->state == CONN_REQUEST && http_is_in_request(c->http))
		conn_respond_last(c, 408, "The request took too long");
	else
		conn_abort(c, CLOSE_REASON_header_timeout);
}

static void on_ping_due(struct conn *c)
{
	/* While we do not read, we can't see an answer. */
	if (c->reading != READING_FLOWING) {
		conn_set_deadline(c, DEADLINE_PING);
		conn_send(c, c->group->ping);
		return;
	}
	/* The ping may wait behind data that the peer still reads, so progress
	 * counts as life. A peer that acknowledges only the ping itself has not
	 * shown life by that. */
	struct conn_progress progress = conn_look_at_progress(c);
	bool is_alive = c->was_heard || (c->was_behind && progress.has_moved);
	/* A ping alone may not be acknowledged yet (RFC 9293 3.8.6.3). */
	c->was_behind = progress.waiting > c->group->ping->len;
	if (!is_alive &&
	    ++c->pings_missed >= c->group->limits.ping_misses_max) {
		conn_end(c, CLOSE_REASON_ping_timeout, NULL);
		return;
	}
	/* A message has at least one interval to arrive in, and at most two. */
	if (c->websocket != NULL && c->is_overdue) {
		conn_end(c, CLOSE_REASON_message_timeout, NULL);
		return;
	}
	c->is_overdue = c->websocket != NULL;
	if (is_alive)
		c->pings_missed = 0;
	c->was_heard = false;
	conn_set_deadline(c, DEADLINE_PING);
	conn_send(c, c->group->ping);
}

/* A peer that takes what it is sent, be it slowly, gets more time. */
static void end_unless_it_takes(struct conn *c, enum deadline_kind kind,
				enum close_reason why)
{
	if (conn_takes_its_time(c))
		conn_set_deadline(c, kind);
	else
		conn_abort(c, why);
}

static void on_conn_deadline(struct deadlines *all, struct deadline *d,
			     enum deadline_kind kind)
{
	struct conn *c = CONTAINER_OF(d, struct conn, deadline);
	(void)all;

	switch (kind) {
	case DEADLINE_HEAD:
	case DEADLINE_BODY:
		on_request_timeout(c);
		break;
	case DEADLINE_IDLE:
		conn_abort(c, CLOSE_REASON_idle_timeout);
		break;
	case DEADLINE_WRITE:
		end_unless_it_takes(c, kind, CLOSE_REASON_write_timeout);
		break;
	case DEADLINE_PING:
		if (c->state == CONN_EVENT_STREAM)
			conn_keep_alive(c);
		else
			on_ping_due(c);
		break;
	case DEADLINE_CLOSE:
		end_unless_it_takes(c, kind, CLOSE_REASON_close_timeout);
		break;
	case DEADLINE_LINGER:
		end_unless_it_takes(c, kind, CLOSE_REASON_done);
		break;
	case DEADLINE_LATE:
		conn_send_late(c);
		break;
	case DEADLINE_KINDS:
		CHECK(false);
	}
	conn_check_deadline(c);
}

/* --- the group ---------------------------------------------------------- */

/* The promised time-out is a second shorter than the real one: a request that
 * is on its way when the time ends would be lost. */
static uint64_t keep_alive_of(uint64_t idle_ms)
{
	return idle_ms < 2000 ? 0 : idle_ms / 1000 - 1;
}

/* A WebSocket has the Ping. */
static int make_keep_alives(struct conn_group *g)
{
	for (unsigned i = 0; i < FRAMINGS; i++) {
		if (framing_is_websocket((enum framing)i))
			continue;
		g->keep_alive[i] = conn_new_keep_alive((enum framing)i);
		if (g->keep_alive[i] == NULL)
			return UV_ENOMEM;
	}
	return 0;
}

static void drop_keep_alives(struct conn_group *g)
{
	for (unsigned i = 0; i < FRAMINGS; i++)
		if (g->keep_alive[i] != NULL)
			chunk_unref(g->keep_alive[i]);
}

int conn_group_open(struct conn_group *g, uv_loop_t *loop,
		    const struct conn_hooks *hooks, void *context,
		    const struct conn_limits *limits, struct stats *stats)
{
	uint8_t ping[WEBSOCKET_CONTROL_MAX];
	size_t ping_len = websocket_write_ping(ping, SPAN(""));

	memset(g, 0, offsetof(struct conn_group, read_buffer));
	g->loop = loop;
	g->owner = uv_thread_self();
	g->hooks = hooks;
	g->context = context;
	g->limits = *limits;
	g->stats = stats;
	g->on_alloc = conn_on_alloc;
	g->on_read = conn_on_read;
	g->keep_alive_s = keep_alive_of(limits->durations_ms[DEADLINE_IDLE]);
	list_init(&g->conns);
	list_init(&g->line);
	list_init(&g->answering);
	list_init(&g->dirty);
	list_init(&g->stalled);
	g->subscribers = g->own_subscribers;
	g->ping = chunk_new(ping_len);
	if (g->ping == NULL)
		return UV_ENOMEM;
	chunk_append(g->ping, ping, ping_len);
	int rv = UV_ENOMEM;
	if (make_keep_alives(g) != 0)
		goto err_ping;
	if (limits->compresses) {
		g->inflater = inflater_new();
		if (g->inflater == NULL)
			goto err_ping;
	}
	rv = deadlines_open(&g->deadlines, loop, limits->durations_ms,
			    on_conn_deadline);
	if (rv == 0) {
		CHECK(uv_idle_init(loop, &g->idle) == 0);
		return 0;
	}
	inflater_free(g->inflater);
err_ping:
	drop_keep_alives(g);
	chunk_unref(g->ping);
	return rv;
}

void conn_group_close(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	CHECK(g->count == 0);
	deadlines_close(&g->deadlines);
	uv_close((uv_handle_t *)&g->idle, NULL);
	chunk_unref(g->ping);
	drop_keep_alives(g);
	inflater_free(g->inflater);
	buf_fini(&g->out);
	while (g->http_pooled > 0)
		http_free(g->http_pool[--g->http_pooled]);
	while (g->websocket_pooled > 0)
		websocket_free(g->websocket_pool[--g->websocket_pooled]);
}

/* --- new connections ---------------------------------------------------- */

static int open_handle(struct conn *c, int socket)
{
	int rv = uv_tcp_init(c->group->loop, &c->tcp);

	return rv != 0 ? rv : uv_tcp_open(&c->tcp, socket);
}

int conn_open(struct conn_group *g, struct accepted accepted)
{
	CHECK_ON_THREAD(g->owner);
	struct conn *c = calloc(1, sizeof *c + g->hooks->user_bytes);
	if (c == NULL)
		goto err_socket;
	c->group = g;
	c->listener = accepted.kind & 3; /* two bits */
	c->http = g->http_pooled > 0 ? g->http_pool[--g->http_pooled]
				     : http_new(g->limits.body_max_bytes);
	if (c->http == NULL)
		goto err_memory;
	g->count++;
	memory_charge_kernel(KERNEL_CONN_BYTES);
	g->states[CONN_REQUEST]++;
	g->others[c->listener]++;
	list_init(&c->link);
	list_init(&c->dirty);
	c->state = CONN_REQUEST;
	c->doomed = CLOSE_REASON_NONE;
	c->why = CLOSE_REASON_NONE;
	int rv = open_handle(c, accepted.socket);
	if (rv != 0) {
		close(accepted.socket);
		conn_abort(c, CLOSE_REASON_no_memory);
		return rv;
	}
	list_append(c->listener == LISTENER_ADMIN ? g->conns.next : &g->conns,
		    &c->link);
	stats_add(g->stats, STATS_accepted, 1);
	conn_account(c);
	conn_set_deadline(c, DEADLINE_HEAD);
	conn_start_reading(c);
	return 0;

err_memory:
	free(c);
err_socket:
	close(accepted.socket);
	return UV_ENOMEM;
}

/* --- all of them -------------------------------------------------------- */

void conn_group_count(const struct conn_group *g,
		      size_t states[static CONN_STATES], size_t *queued_bytes)
{
	CHECK_ON_THREAD(g->owner);
	memcpy(states, g->states, sizeof g->states);
	*queued_bytes = 0;
	LIST_FOR_EACH_SAFE (it, after, &g->conns)
		*queued_bytes +=
			CONTAINER_OF(it, struct conn, link)->outq.bytes;
}

struct conn_backlog conn_group_backlog(const struct conn_group *g)
{
	struct conn_backlog backlog = {0};

	CHECK_ON_THREAD(g->owner);
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		const struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		size_t bytes = w->conn->outq.bytes;
		backlog.bytes += bytes;
		if (bytes > backlog.worst_bytes)
			backlog.worst_bytes = bytes;
	}
	return backlog;
}
