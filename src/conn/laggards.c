/* laggards.c - ends connections that do not read, while memory is short, and
 * those that read slower than a minimum. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

/* A connection whose write has waited for so long counts as one that does not
 * read. */
#define STUCK_MS 2000
/* While memory is SCARCE, those that have taken nothing for so long go
 * first. */
#define STILL_MS 250

/* --- relief of memory ----------------------------------------------------- */

static bool is_leaving(const struct conn *c)
{
	return c->state >= CONN_CLOSING;
}

/* The memory that a connection occupies whose peer does not read. */
static size_t burden(const struct conn_write *w)
{
	return w->conn->outq.bytes + w->kernel_bytes;
}

/* A connection is worth ending if it occupies at least half as much as the
 * worst. Ending only the worst may free nothing: many may wait for the same
 * messages, here and on other loops. */
static size_t burden_to_end(const struct conn_group *g)
{
	size_t worst = 0;

	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		const struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		if (!is_leaving(w->conn) && burden(w) > worst)
			worst = burden(w);
	}
	return worst - worst / 2;
}

/* Since when the peer has taken nothing. */
static uint64_t waits_since(struct conn_write *w, uint64_t now_ms)
{
	uint32_t acknowledged = conn_acknowledged(w->conn);

	if (acknowledged != w->acknowledged) {
		w->acknowledged = acknowledged;
		w->since_ms = now_ms;
	}
	return w->since_ms;
}

/* Ends connections that occupy at least `bytes` and have taken nothing since
 * `until_ms`, as long as memory is TIGHT. Returns whether there were any. */
static bool end_laggards(struct conn_group *g, size_t bytes, uint64_t until_ms)
{
	bool has_ended = false;

	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		if (memory_level() < MEMORY_TIGHT)
			break;
		if (is_leaving(w->conn) || burden(w) < bytes ||
		    waits_since(w, uv_now(g->loop)) > until_ms)
			continue;
		conn_end(w->conn, CLOSE_REASON_slow,
			 "memory is scarce, and much was waiting: connect "
			 "again");
		memory_settle();
		has_ended = true;
	}
	return has_ended;
}

/* Those that take nothing go first: one that reads may hold as much, since
 * MAX_BUFFERED allows it. */
static void end_worst(struct conn_group *g, uint64_t now_ms)
{
	size_t bytes = burden_to_end(g);

	if (now_ms < STILL_MS || !end_laggards(g, bytes, now_ms - STILL_MS))
		end_laggards(g, bytes, now_ms);
}

/* Closes connections that were told to go and hold data that they do not
 * read. */
static void abort_leaving(struct conn_group *g)
{
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn *c =
			CONTAINER_OF(it, struct conn_write, link)->conn;
		if (is_leaving(c))
			conn_abort(c, CLOSE_REASON_slow);
	}
}

void conn_group_relieve(struct conn_group *g)
{
	uint64_t now_ms = uv_now(g->loop);

	CHECK_ON_THREAD(g->owner);
	memory_settle();
	enum memory_level level = memory_level();
	if (level == MEMORY_FULL)
		abort_leaving(g);
	if (level >= MEMORY_SCARCE)
		end_worst(g, now_ms);
	else if (now_ms > STUCK_MS)
		end_laggards(g, 0, now_ms - STUCK_MS);
	memory_measure();
}

/* --- the floor of speed --------------------------------------------------- */

static void end_slow(struct conn *c)
{
	if (conn_is_open(c))
		conn_end(c, CLOSE_REASON_slow, "slower than MIN_SPEED");
	else
		conn_abort(c, CLOSE_REASON_slow);
}

void conn_group_judge_speed(struct conn_group *g)
{
	uint64_t now_ms = uv_now(g->loop);
	uint64_t window_ms = g->limits.speed_window_ms;
	uint64_t least = g->limits.speed_min * window_ms / 1000;

	CHECK_ON_THREAD(g->owner);
	if (least == 0 || now_ms < g->judged_ms + window_ms)
		return;
	g->judged_ms = now_ms;
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn *c =
			CONTAINER_OF(it, struct conn_write, link)->conn;
		uint32_t acknowledged = conn_acknowledged(c);
		bool is_slow =
			c->is_judged && acknowledged - c->judged_at < least;
		c->is_judged = true;
		c->judged_at = acknowledged;
		if (is_slow)
			end_slow(c);
	}
}
