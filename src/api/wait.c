/* wait.c - clients that come from another node, and are ahead of this one: they
 * wait for a moment, until it has applied what they have got there.
 *
 * An id of an epoch that is not ours may be of the past, or of an epoch that
 * this node has not heard of yet. A marker that is applied after the client
 * came tells: it is of the epoch in force. */
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

#define LOOK_MS   50
#define WAIT_MS   1000 /* for what is only late */
#define MARKER_MS 3000 /* for a marker */

static uint64_t now_ms(const struct routes *r)
{
	return uv_now(&r->worker->loop);
}

/* The highest number that the client has got, 0 for none. */
static uint64_t highest(const struct plan *plan)
{
	uint64_t n = 0;

	for (unsigned i = 0; plan->resume.is_wanted && i < plan->topics_count;
	     i++)
		if (plan->resume.positions[i] > n)
			n = plan->resume.positions[i];
	return n;
}

static bool is_served(const struct routes *r, const struct log_wait *wait)
{
	const struct worker_shared *shared = r->worker->shared;

	if (!bus_is_warm(shared->bus) ||
	    r->subscribers.epoch != registry_epoch(shared->registry))
		return false;
	if (r->plan.resume.is_foreign)
		return wait != NULL && bus_markers(shared->bus) > wait->markers;
	return highest(&r->plan) <= registry_applied(shared->registry);
}

bool routes_is_waiting(struct conn *c)
{
	const struct session *session = routes_session_of(c);
	return session != NULL && session->wait != NULL;
}

static void on_look(uv_timer_t *timer)
{
	struct routes *r = timer->data;

	LIST_FOR_EACH_SAFE (it, after, &r->waits) {
		struct log_wait *wait = CONTAINER_OF(it, struct log_wait, link);
		wait->on_turn(r, wait->conn, conn_request(wait->conn));
	}
	if (list_is_empty(&r->waits))
		uv_timer_stop(timer);
}

/* Returns false without memory. */
static bool begin_wait(struct routes *r, struct conn *c,
		       routes_request_cb on_turn)
{
	struct session *session = routes_session(c);
	struct log_wait *wait;

	if (session == NULL || (wait = calloc(1, sizeof *wait)) == NULL)
		return false;
	memory_charge(sizeof *wait);
	wait->conn = c;
	wait->on_turn = on_turn;
	wait->until_ms =
		now_ms(r) + (r->plan.resume.is_foreign ? MARKER_MS : WAIT_MS);
	wait->markers = bus_markers(r->worker->shared->bus);
	list_append(&r->waits, &wait->link);
	session->wait = wait;
	uv_timer_start(r->look, on_look, LOOK_MS, LOOK_MS);
	return true;
}

bool routes_wait_for_log(struct routes *r, struct conn *c,
			 routes_request_cb on_turn)
{
	struct session *session = routes_session_of(c);
	struct log_wait *wait = session == NULL ? NULL : session->wait;

	if (r->worker->shared->bus == NULL)
		return false;
	if (is_served(r, wait)) {
		if (session != NULL)
			routes_forget_wait(session);
		return false;
	}
	if (wait == NULL && bus_is_warm(r->worker->shared->bus) &&
	    begin_wait(r, c, on_turn))
		return true;
	if (wait != NULL && now_ms(r) < wait->until_ms)
		return true;
	if (session != NULL)
		routes_forget_wait(session);
	routes_refuse_for_now(r, c, "This node is behind the others");
	return true;
}

int routes_open_waits(struct routes *r)
{
	list_init(&r->waits);
	if (routes_config(r)->nats_url == NULL)
		return 0;
	r->look = malloc(sizeof *r->look);
	if (r->look == NULL)
		return UV_ENOMEM;
	CHECK(uv_timer_init(&r->worker->loop, r->look) == 0);
	r->look->data = r;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle);
}

void routes_close_waits(struct routes *r)
{
	CHECK(list_is_empty(&r->waits));
	if (r->look != NULL)
		uv_close((uv_handle_t *)r->look, on_closed);
}
