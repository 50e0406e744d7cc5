/* operate.c - GET /healthz, /readyz and /metrics: for operators. */
#include "api/private.h"
#include "base/memory.h"
#include "stats/metrics.h"
#include "topics/idempotency.h"

#include <stdio.h>

#define NO_STORE "Cache-Control: no-store\r\n"

static void respond_state(struct conn *c, bool is_fine, const char *text)
{
	struct http_response response = {.status = is_fine ? 200 : 503,
					 .content_type = "text/plain",
					 .content = span_of(text),
					 .fields = NO_STORE};
	conn_respond(c, &response);
}

void routes_show_health(struct routes *r, struct conn *c,
			const struct http_request *request)
{
	bool is_fine = worker_all_turn(r->worker->shared);

	(void)request;
	respond_state(c, is_fine, is_fine ? "ok\n" : "a worker is stuck\n");
}

bool routes_is_ready(const struct routes *r, const char **state)
{
	struct worker_shared *shared = r->worker->shared;

	*state = "ready";
	if (atomic_load_explicit(&shared->is_draining, memory_order_relaxed))
		*state = "draining";
	else if (!worker_has_place(shared))
		*state = "too many connections";
	else if (!memory_allows(MEMORY_FOR_SUBSCRIBING))
		*state = "memory is tight";
	else if (shared->bus != NULL && !bus_is_warm(shared->bus))
		*state = "joining the log";
	else if (shared->bus != NULL &&
		 bus_lag_ms(shared->bus) > shared->config->bus_lag_ms)
		*state = "behind the log";
	else
		return true;
	return false;
}

void routes_show_readiness(struct routes *r, struct conn *c,
			   const struct http_request *request)
{
	const char *state;
	bool is_ready = routes_is_ready(r, &state);
	char text[64];

	(void)request;
	snprintf(text, sizeof text, "%s\n", state);
	respond_state(c, is_ready, text);
}

bool routes_check_operator(struct routes *r, struct conn *c)
{
	return conn_listener(c) == LISTENER_ADMIN ||
	       routes_check_password(r, c, 401);
}

void routes_show_metrics(struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	const struct worker_shared *shared = r->worker->shared;
	const struct stats *stats[CONFIG_WORKERS_MAX];

	(void)request;
	if (!routes_check_operator(r, c))
		return;
	for (unsigned i = 0; i < shared->workers_count; i++)
		stats[i] = &shared->workers[i]->stats;
	struct metrics_bus bus;
	struct metrics_source source = {
		.workers = stats,
		.workers_count = shared->workers_count,
		.acceptor = shared->acceptor,
		.connections_limit = shared->config->shares.tcp_subscribers,
		.topics = registry_topics(shared->registry),
		.history_bytes = registry_history_bytes(shared->registry),
		.replay_bytes = registry_replay_bytes(shared->registry),
		.forms_bytes = message_kept_forms(),
		.idempotency_count = idempotency_count(shared->idempotency),
		.idempotency_bytes = idempotency_bytes(shared->idempotency),
		.auth_asked = auth_cache_asked(shared->auth_cache),
		.auth_queued = auth_cache_queued(shared->auth_cache),
		.auth_kept = auth_cache_kept(shared->auth_cache),
		.memory_used = memory_used(),
		.memory_limit = memory_limit(),
		.memory_resident = memory_resident(),
		.log_dropped = log_dropped(),
		.is_draining = atomic_load(&shared->is_draining),
		.is_alone = shared->bus == NULL};
	if (shared->bus != NULL) {
		bus_status(shared->bus, &bus);
		source.bus = &bus;
	}
	r->page.len = 0;
	if (metrics_write(&r->page, &source) != 0) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return;
	}
	conn_respond(c, &(struct http_response){
				.status = 200,
				.content_type = METRICS_CONTENT_TYPE,
				.content = {r->page.bytes, r->page.len},
				.fields = NO_STORE});
}
