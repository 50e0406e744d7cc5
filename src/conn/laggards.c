/* laggards.c - ends those that do not read, or too slowly: where memory is
 * tight, and below a speed. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

/* A write that waits for so long is a laggard's, whatever else there is. */
#define STUCK_MS 2000
/* One that has taken nothing for so long goes before those that read. */
#define STILL_MS 250

/* --- relief of memory ----------------------------------------------------- */

static bool is_leaving(const struct conn *c)
{
	return c->state >= CONN_CLOSING;
}

/* What a connection that does not read occupies. */
static size_t burden(const struct conn_write *w)
{
	return w->conn->outq.bytes + w->kernel_bytes;
}

/* The least that one has that is worth ending: half of the worst. They may all
 * wait for the same messages, with laggards of other loops too, so that ending
 * one frees nothing. */
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

/* Since when the peer takes nothing, be it slowly. */
static uint64_t waits_since(struct conn_write *w, uint64_t now_ms)
{
	uint32_t acknowledged = conn_acknowledged(w->conn);

	if (acknowledged != w->acknowledged) {
		w->acknowledged = acknowledged;
		w->since_ms = now_ms;
	}
	return w->since_ms;
}

/* Ends those that have at least `bytes` and do not read since `until_ms`, while
 * memory is tight. Returns whether there were any. */
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
		conn_end(w->conn, ENDING_slow,
			 "too slow while memory is scarce");
		memory_settle();
		has_ended = true;
	}
	return has_ended;
}

/* Those that take nothing first: who reads may have as much, since that is what
 * everybody has room for. */
static void end_worst(struct conn_group *g, uint64_t now_ms)
{
	size_t bytes = burden_to_end(g);

	if (now_ms < STILL_MS || !end_laggards(g, bytes, now_ms - STILL_MS))
		end_laggards(g, bytes, now_ms);
}

/* Those that were told to go, and still hold what they did not read. */
static void abort_leaving(struct conn_group *g)
{
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn *c =
			CONTAINER_OF(it, struct conn_write, link)->conn;
		if (is_leaving(c))
			conn_abort(c, ENDING_slow);
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
		conn_end(c, ENDING_slow, "slower than MIN_SPEED");
	else
		conn_abort(c, ENDING_slow);
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
