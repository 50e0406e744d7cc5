/* close.c - notes why a connection ends, and closes its handle. */
#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "conn/private.h"

#include <stdlib.h>

const struct conn_close_reason conn_close_reasons[CLOSE_REASON_COUNT] = {
#define CLOSE_REASON_ROW(name, code, reason) {#name, code, reason},
	CLOSE_REASONS(CLOSE_REASON_ROW)
#undef CLOSE_REASON_ROW
};

static const enum stats_counter close_reason_counters[CLOSE_REASON_COUNT] = {
#define CLOSE_REASON_COUNTER(name, code, reason) STATS_closed_##name,
	CLOSE_REASONS(CLOSE_REASON_COUNTER)
#undef CLOSE_REASON_COUNTER
};

/* Endings that are part of normal use are not worth a line at info. */
static bool is_ordinary(enum close_reason why)
{
	return why == CLOSE_REASON_done || why == CLOSE_REASON_peer_gone ||
	       why == CLOSE_REASON_peer_closed ||
	       why == CLOSE_REASON_idle_timeout ||
	       why == CLOSE_REASON_going_away;
}

static void log_end(struct conn *c, enum close_reason why)
{
	static struct log_limit limit = LOG_LIMIT("connection_ended");
	const struct conn_hooks *hooks = c->group->hooks;
	enum log_level level = is_ordinary(why) ? LOG_DEBUG : LOG_INFO;
	unsigned code = conn_close_reasons[why].code;
	char peer[CONN_PEER_MAX];

	if (!log_is_on(level) ||
	    (level == LOG_INFO && !log_limit_allows(&limit)))
		return;
	conn_peer(c, peer);
	struct log_field fields[3 + CONN_FIELDS_MAX] = {
		log_text("reason", conn_close_reasons[why].name),
		code > 0 ? log_number("code", code) : log_text("code", NULL),
		log_text("peer", peer[0] != '\0' ? peer : NULL)};
	size_t count = 3;
	if (hooks->describe != NULL)
		count += hooks->describe(c, fields + count);
	log_event(level, "connection_ended", fields, count,
		  "ended a connection (%s): %s", conn_close_reasons[why].name,
		  conn_close_reasons[why].reason);
}

void conn_note_end(struct conn *c, enum close_reason why)
{
	if (c->why == CLOSE_REASON_NONE) {
		c->why = (uint8_t)why;
		stats_add(c->group->stats, close_reason_counters[why], 1);
		log_end(c, why);
	}
	if (!c->has_ended) {
		c->has_ended = true;
		c->group->hooks->on_end(c);
	}
	conn_resume(c); /* the peer's answer to Close is still read */
}

void conn_give_back(struct conn *c)
{
	conn_release_http(c);
	conn_release_websocket(c);
	conn_drop_stash(c);
	if (c->state == CONN_CLOSED && c->writing == NULL)
		outq_fini(&c->outq);
	conn_account(c);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, handle);
	struct conn_group *g = c->group;

	conn_release_http(c);
	conn_release_websocket(c);
	memory_credit(c->charged);
	outq_fini(&c->outq);
	free(c);
	g->count--;
	g->states[CONN_CLOSED]--;
}

/* libuv closes the descriptor at once, and calls back later. */
static void close_handle(struct conn *c, bool has_unsent)
{
	struct conn_group *g = c->group;
	enum listener_kind kind = conn_listener(c);

	g->others[kind]--;
	memory_credit_kernel(KERNEL_CONN_BYTES);
	/* Bytes that the peer does not read must not stay in the kernel either:
	 * a reset frees them at once. */
	if (!has_unsent || kind == LISTENER_UNIX ||
	    uv_tcp_close_reset(&c->tcp, on_handle_closed) != 0)
		uv_close(&c->handle, on_handle_closed);
	if (g->on_closed != NULL)
		g->on_closed(g, kind);
}

void conn_abort(struct conn *c, enum close_reason why)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state == CONN_CLOSED)
		return;
	conn_note_end(c, why);
	bool has_unsent = c->outq.bytes > 0;
	conn_move(c, CONN_CLOSED);
	deadline_clear(&c->deadline);
	list_remove(&c->link);
	list_remove(&c->dirty);
	conn_drop_stash(c);
	close_handle(c, has_unsent);
}

void conn_finish(struct conn *c)
{
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_WRITE);
	conn_mark_dirty(c);
}
