/* wait.c - clients that come from another node, and are ahead of this one: they
 * wait for a moment, until it has applied what they have got there.
 *
 * An id of an epoch that is not ours may be of the past, or of an epoch that
 * this node has not heard of yet: the bus finds out. */
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

#define LOOK_MS  50
#define WAIT_MS  1000 /* for what is only late */
#define PROOF_MS 3000 /* for a proof of the epoch */

static uint64_t loop_now_ms(const struct routes *r)
{
	return uv_now(&r->worker->loop);
}

static uint64_t epoch_of(const struct routes *r)
{
	return registry_epoch(r->worker->shared->registry);
}

static bool is_known(const struct routes *r, const struct log_wait *wait,
		     const struct routes_place *place)
{
	const struct worker_shared *shared = r->worker->shared;

	if (!bus_is_warm(shared->bus) || r->subscribers.epoch != epoch_of(r))
		return false;
	if (place->is_foreign)
		return wait != NULL && wait->ticket != 0 &&
		       bus_knows_epoch(shared->bus, wait->ticket);
	return place->highest <= registry_applied(shared->registry);
}

bool routes_is_waiting(struct conn *c)
{
	const struct session *session = routes_session_of(c);
	return session != NULL && session->wait != NULL;
}

static bool is_decided(const struct routes *r, const struct log_wait *wait)
{
	return wait->epoch != epoch_of(r) || loop_now_ms(r) >= wait->until_ms ||
	       is_known(r, wait, &wait->place);
}

static void on_look(uv_timer_t *timer)
{
	struct routes *r = timer->data;

	LIST_FOR_EACH_SAFE (it, after, &r->waits) {
		struct log_wait *wait = CONTAINER_OF(it, struct log_wait, link);
		if (!is_decided(r, wait))
			continue;
		if (conn_state(wait->conn) == CONN_PENDING)
			wait->on_turn(r, wait->conn, conn_request(wait->conn));
		else if (conn_state(wait->conn) == CONN_WEBSOCKET)
			wait->on_turn(r, wait->conn, NULL);
		else /* it is being closed */
			routes_forget_wait(routes_session_of(wait->conn));
	}
	if (list_is_empty(&r->waits))
		uv_timer_stop(timer);
}

/* --- asking --------------------------------------------------------------- */

static void note_place(const struct routes *r, struct log_wait *wait,
		       const struct routes_place *place)
{
	wait->place = *place;
	wait->epoch = epoch_of(r);
	if (place->is_foreign && wait->ticket == 0)
		wait->ticket = bus_ask_epoch(r->worker->shared->bus);
}

/* Returns false without memory. */
static bool begin_wait(struct routes *r, struct conn *c,
		       const struct routes_place *place,
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
		loop_now_ms(r) + (place->is_foreign ? PROOF_MS : WAIT_MS);
	note_place(r, wait, place);
	list_append(&r->waits, &wait->link);
	session->wait = wait;
	uv_timer_start(r->look, on_look, LOOK_MS, LOOK_MS);
	return true;
}

enum routes_log routes_await_log(struct routes *r, struct conn *c,
				 const struct routes_place *place,
				 routes_request_cb on_turn)
{
	struct session *session = routes_session_of(c);
	struct log_wait *wait = session == NULL ? NULL : session->wait;

	if (r->worker->shared->bus == NULL)
		return ROUTES_LOG_KNOWN;
	if (is_known(r, wait, place)) {
		if (session != NULL)
			routes_forget_wait(session);
		return ROUTES_LOG_KNOWN;
	}
	if (wait == NULL && bus_is_warm(r->worker->shared->bus) &&
	    begin_wait(r, c, place, on_turn))
		return ROUTES_LOG_AWAITED;
	if (wait != NULL && loop_now_ms(r) < wait->until_ms) {
		note_place(r, wait, place);
		return ROUTES_LOG_AWAITED;
	}
	if (session != NULL)
		routes_forget_wait(session);
	return ROUTES_LOG_BEHIND;
}

/* --- the worker's --------------------------------------------------------- */

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

static void on_look_closed(uv_handle_t *handle)
{
	free(handle);
}

void routes_close_waits(struct routes *r)
{
	CHECK(list_is_empty(&r->waits));
	if (r->look != NULL)
		uv_close((uv_handle_t *)r->look, on_look_closed);
}
