/* routes.c - which request goes where; origins; health and metrics. */
#include "api/routes.h"

#include "access/guesses.h"
#include "access/secret.h"
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"
#include "codec/host.h"
#include "codec/origin.h"
#include "stats/metrics.h"
#include "topics/receipts.h"

#include <stdlib.h>

#define PROJECT_PAGE  "https://github.com/tropicbliss/isimud"
#define SUBSCRIBE_MAX 65536 /* bytes of a message from a subscriber */
/* For which history is sent in one iteration of the loop, but for the last
 * message. */
#define TURNS_NS UINT64_C(1000000)
#define BASIC_CHALLENGE                                                        \
	"WWW-Authenticate: Basic realm=\"isimud\", charset=\"UTF-8\"\r\n"
#define NO_STORE "Cache-Control: no-store\r\n"

/* --- paths -------------------------------------------------------------- */

/* Whether the path is `folder`, a slash, and something. */
static bool is_under(struct span path, struct span folder)
{
	return path.len > folder.len + 1 &&
	       memcmp(path.bytes, folder.bytes, folder.len) == 0 &&
	       path.bytes[folder.len] == '/';
}

static bool is_publishing(const struct http_request *request)
{
	return span_equal(request->path, SPAN("/pub")) ||
	       is_under(request->path, SPAN("/pub"));
}

/* --- whose request it is ------------------------------------------------ */

static struct forwarded_fields forwarded_of(const struct http_request *request)
{
	return (struct forwarded_fields){
		.x_for = request->fields[HTTP_X_FORWARDED_FOR],
		.x_proto = request->fields[HTTP_X_FORWARDED_PROTO],
		.forwarded = request->fields[HTTP_FORWARDED]};
}

void routes_find_client(struct conn *c, char out[static CONN_PEER_MAX])
{
	const struct config *config = routes_config(routes_of(c));
	struct forwarded_fields fields = forwarded_of(conn_request(c));
	char peer[CONN_PEER_MAX];

	conn_peer(c, peer);
	forwarded_find_client(&config->proxies, peer, &fields, out);
}

const char *routes_find_scheme(struct conn *c)
{
	const struct config *config = routes_config(routes_of(c));
	struct forwarded_fields fields = forwarded_of(conn_request(c));
	char peer[CONN_PEER_MAX];

	conn_peer(c, peer);
	return forwarded_find_scheme(&config->proxies, peer, &fields);
}

void routes_log_refusal(struct conn *c, struct log_limit *limit,
			struct span publisher, const char *why)
{
	char peer[CONN_PEER_MAX];

	if (!log_is_on(LOG_INFO) || !log_limit_allows(limit))
		return;
	routes_find_client(c, peer);
	log_event(LOG_INFO, limit->event,
		  LOG_FIELDS(log_text("peer", peer[0] == '\0' ? NULL : peer),
			     log_number("worker", routes_of(c)->worker->index),
			     log_span("publisher", publisher),
			     log_span("path", conn_request(c)->path)),
		  "refused a client: %s", why);
}

/* --- credentials -------------------------------------------------------- */

int routes_decode_credentials(struct routes *r, struct conn *c,
			      struct span *username, struct span *password)
{
	struct span value = conn_request(c)->fields[HTTP_AUTHORIZATION];

	int rv = http_basic_credentials(value, &r->credentials, username,
					password);
	r->credentials_of = rv == 0 ? c : NULL;
	if (rv == 0)
		r->username = *username;
	return rv;
}

bool routes_read_credentials(struct routes *r, struct conn *c,
			     struct span *username, struct span *password)
{
	/* The original answers 400 where one publishes. */
	int status = is_publishing(conn_request(c)) ? 400 : 401;
	int rv = routes_decode_credentials(r, c, username, password);

	if (rv == UV_ENOMEM)
		conn_respond_error(c, 500, "Internal server error", NULL);
	else if (rv != 0)
		conn_respond_error(c, status, "Missing credentials",
				   BASIC_CHALLENGE);
	return rv == 0;
}

void routes_refuse_password(struct routes *r, struct conn *c,
			    struct span publisher)
{
	static struct log_limit limit = LOG_LIMIT("password_wrong");
	static struct log_limit guessing = LOG_LIMIT("password_guessing");
	char peer[CONN_PEER_MAX];

	routes_find_client(c, peer);
	unsigned count = guesses_note(peer, uv_hrtime() / 1000000);
	stats_add(routes_stats(r), STATS_password_wrong, 1);
	routes_log_refusal(c, &limit, publisher, "the password is wrong");
	if (count <= GUESSES_FREE) {
		conn_respond_error(c, 401, "Wrong credentials",
				   BASIC_CHALLENGE);
		return;
	}
	stats_add(routes_stats(r), STATS_password_late, 1);
	if (count == GUESSES_FREE + 1 && log_limit_allows(&guessing))
		log_event(LOG_WARN, "password_guessing",
			  LOG_FIELDS(log_text("peer", peer),
				     log_number("count", count)),
			  "too many wrong passwords: answers come late now");
	conn_respond_late(c, 401, "Wrong credentials", BASIC_CHALLENGE);
}

bool routes_check_password(struct routes *r, struct conn *c)
{
	struct span publisher;
	struct span password;

	if (!routes_read_credentials(r, c, &publisher, &password))
		return false;
	if (secret_matches_again(&r->password, password)) {
		conn_trust(c);
		return true;
	}
	routes_refuse_password(r, c, publisher);
	return false;
}

const char *routes_refuse_name(struct span name)
{
	if (name.len > NAME_MAX_BYTES)
		return NAME_TOO_LONG;
	return json_is_utf8(name) ? NULL : "The username is not UTF-8";
}

bool routes_check_publisher(struct routes *r, struct conn *c)
{
	const char *wrong;

	if (!routes_check_password(r, c))
		return false;
	wrong = routes_refuse_name(r->username);
	if (wrong != NULL)
		conn_respond_error(c, 400, wrong, NULL);
	return wrong == NULL;
}

/* --- origins: pages of browsers (the WHATWG Fetch standard, 3.2) -------- */

bool routes_trusts_origin(const struct routes *r,
			  const struct http_request *request)
{
	const char *list = routes_config(r)->allowed_origins;
	struct span origin = request->fields[HTTP_ORIGIN];

	if (origin.bytes == NULL ||
	    origin_is_same(origin, request->fields[HTTP_HOST]))
		return true;
	return !origin_allows_any(list) && origin_is_allowed(list, origin);
}

/* Whether a page of another site asks without saying which, where only listed
 * origins may: a browser leaves Origin out with a GET by an element or a link,
 * but not Sec-Fetch-Site (W3C Fetch Metadata, 2.3). */
static bool is_hidden_cross_site(const struct routes *r,
				 const struct http_request *request)
{
	return http_list_has(request->fields[HTTP_SEC_FETCH_SITE],
			     SPAN("cross-site")) &&
	       !origin_allows_any(routes_config(r)->allowed_origins);
}

static bool is_origin_allowed(const struct routes *r,
			      const struct http_request *request)
{
	struct span origin = request->fields[HTTP_ORIGIN];

	if (origin.bytes == NULL)
		return !is_hidden_cross_site(r, request);
	return origin_is_allowed(routes_config(r)->allowed_origins, origin);
}

static int append(struct buf *out, const char *text)
{
	return buf_append(out, text, strlen(text));
}

/* For whoever answers: what a page of the request's origin may see of it. Where
 * the head could not be read, that is known only if any may. */
static const char *origin_fields(struct conn *c,
				 const struct http_request *request)
{
	struct routes *r = routes_of(c);
	bool any = origin_allows_any(routes_config(r)->allowed_origins);
	struct span origin = {0};
	struct buf *out = &r->fields;

	if (request != NULL)
		origin = request->fields[HTTP_ORIGIN];
	if (conn_listener(c) == LISTENER_ADMIN ||
	    (origin.bytes == NULL && (request != NULL || !any)))
		return NULL;
	if (any)
		return "Access-Control-Allow-Origin: *\r\n"
		       "Access-Control-Expose-Headers: Idempotency-Replayed, "
		       "Retry-After\r\n";
	if (!is_origin_allowed(r, request))
		return "Vary: Origin\r\n";
	out->len = 0;
	if (append(out, "Access-Control-Allow-Origin: ") != 0 ||
	    buf_append(out, origin.bytes, origin.len) != 0 ||
	    append(out, "\r\nAccess-Control-Allow-Credentials: true\r\n"
			"Access-Control-Expose-Headers: Idempotency-Replayed, "
			"Retry-After\r\n"
			"Vary: Origin\r\n") != 0 ||
	    buf_append(out, "", 1) != 0)
		return NULL;
	return out->bytes;
}

/* --- health and metrics ------------------------------------------------- */

static void respond_state(struct conn *c, bool is_fine, const char *text)
{
	struct http_response response = {.status = is_fine ? 200 : 503,
					 .content_type = "text/plain",
					 .content = span_of(text),
					 .fields = NO_STORE};
	conn_respond(c, &response);
}

static void show_health(const struct routes *r, struct conn *c)
{
	bool is_fine = worker_all_turn(r->worker->shared);
	respond_state(c, is_fine, is_fine ? "ok\n" : "a worker is stuck\n");
}

static void show_readiness(const struct routes *r, struct conn *c)
{
	struct worker_shared *shared = r->worker->shared;

	if (atomic_load_explicit(&shared->is_draining, memory_order_relaxed))
		respond_state(c, false, "draining\n");
	else if (!worker_has_place(shared))
		respond_state(c, false, "too many connections\n");
	else if (memory_level() >= MEMORY_TIGHT)
		respond_state(c, false, "memory is tight\n");
	else if (shared->bus != NULL && !bus_is_warm(shared->bus))
		respond_state(c, false, "joining the log\n");
	else if (shared->bus != NULL &&
		 bus_lag_ms(shared->bus) > shared->config->bus_lag_ms)
		respond_state(c, false, "behind the log\n");
	else
		respond_state(c, true, "ready\n");
}

static struct metrics_bus metrics_of(const struct bus_status *s)
{
	return (struct metrics_bus){.is_up = s->is_up,
				    .sequence = s->sequence,
				    .lag_ms = s->lag_ms,
				    .pending_bytes = s->pending_bytes,
				    .records_in = s->records_in,
				    .publications_in = s->publications_in,
				    .records_out = s->records_out,
				    .publications_out = s->publications_out,
				    .joins = s->joins,
				    .join_names = bus_join_names,
				    .join_kinds = BUS_JOIN_COUNT,
				    .epochs = s->epochs,
				    .lost_records = s->lost_records,
				    .divergences = s->divergences,
				    .unknown = s->unknown,
				    .resends = s->resends,
				    .warm_up_ms = s->warm_up_ms,
				    .nodes = s->nodes,
				    .acks = s->acks};
}

static void show_metrics(struct routes *r, struct conn *c)
{
	const struct worker_shared *shared = r->worker->shared;
	const struct stats *stats[CONFIG_WORKERS_MAX];

	if (conn_listener(c) != LISTENER_ADMIN && !routes_check_password(r, c))
		return;
	for (unsigned i = 0; i < shared->workers_count; i++)
		stats[i] = &shared->workers[i]->stats;
	struct bus_status status;
	struct metrics_bus bus;
	struct metrics_source source = {
		.workers = stats,
		.workers_count = shared->workers_count,
		.acceptor = shared->acceptor,
		.topics = registry_topics(shared->registry),
		.history_bytes = registry_history_bytes(shared->registry),
		.replay_bytes = registry_replay_bytes(shared->registry),
		.forms_bytes = message_kept_forms(),
		.receipts_count = receipts_count(shared->receipts),
		.receipts_bytes = receipts_bytes(shared->receipts),
		.auth_asked = verdicts_asked(shared->verdicts),
		.auth_queued = verdicts_queued(shared->verdicts),
		.auth_kept = verdicts_kept(shared->verdicts),
		.is_draining = atomic_load(&shared->is_draining)};
	if (shared->bus != NULL) {
		bus_status(shared->bus, &status);
		bus = metrics_of(&status);
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

static void show_homepage(struct conn *c)
{
	conn_respond(c, &(struct http_response){
				.status = 303,
				.fields = "Location: " PROJECT_PAGE "\r\n"});
}

/* --- requests ----------------------------------------------------------- */

enum target {
	TARGET_NONE,
	TARGET_HOMEPAGE,
	TARGET_PUBLISH,
	TARGET_PUBLISH_TEXT, /* /pub/TOPIC */
	TARGET_SUBSCRIBE,
	TARGET_TOPICS,
	TARGET_TOPIC,
	TARGET_HEALTH,
	TARGET_READINESS,
	TARGET_METRICS,
};

static enum target operator_target_of(struct span path)
{
	if (span_equal(path, SPAN("/healthz")))
		return TARGET_HEALTH;
	if (span_equal(path, SPAN("/readyz")))
		return TARGET_READINESS;
	if (span_equal(path, SPAN("/metrics")))
		return TARGET_METRICS;
	return TARGET_NONE;
}

static enum target client_target_of(const struct routes *r, struct span path)
{
	if (span_equal(path, SPAN("/pub")))
		return TARGET_PUBLISH;
	if (is_under(path, SPAN("/pub")))
		return TARGET_PUBLISH_TEXT;
	if (span_equal(path, SPAN("/sub")))
		return TARGET_SUBSCRIBE;
	if (span_equal(path, SPAN("/topics")))
		return TARGET_TOPICS;
	if (is_under(path, SPAN("/topics")))
		return TARGET_TOPIC;
	if (span_equal(path, SPAN("/")) && routes_config(r)->homepage)
		return TARGET_HOMEPAGE;
	return TARGET_NONE;
}

/* Which target a path is, for a connection of this kind: with ADMIN_PORT,
 * health and metrics are there and nowhere else. */
static enum target target_of(const struct routes *r, enum listener_kind kind,
			     struct span path)
{
	bool is_admin = kind == LISTENER_ADMIN;
	enum target target = TARGET_NONE;

	if (!is_admin)
		target = client_target_of(r, path);
	if (target == TARGET_NONE &&
	    (is_admin || !routes_config(r)->has_admin_port))
		target = operator_target_of(path);
	return target;
}

static bool is_for_pages(enum target target)
{
	return target == TARGET_PUBLISH || target == TARGET_PUBLISH_TEXT ||
	       target == TARGET_SUBSCRIBE || target == TARGET_TOPICS ||
	       target == TARGET_TOPIC;
}

/* A preflight asks, for a page, whether it may ask (Fetch, 3.2.2). */
static bool is_preflight(enum target target, const struct http_request *request)
{
	return request->method == HTTP_METHOD_OPTIONS && is_for_pages(target) &&
	       request->fields[HTTP_ORIGIN].bytes != NULL &&
	       request->fields[HTTP_ACCESS_CONTROL_REQUEST_METHOD].bytes !=
		       NULL;
}

#define MAY_PUBLISH                                                            \
	"Access-Control-Allow-Headers: Authorization, Content-Type, "          \
	"Idempotency-Key\r\n"                                                  \
	"Access-Control-Max-Age: 600\r\n"

static void answer_preflight(struct conn *c, enum target target)
{
	struct http_response response = {.status = 204};

	switch (target) {
	case TARGET_PUBLISH:
		response.fields =
			"Access-Control-Allow-Methods: POST\r\n" MAY_PUBLISH;
		break;
	case TARGET_PUBLISH_TEXT:
		response.fields = "Access-Control-Allow-Methods: POST, "
				  "PUT\r\n" MAY_PUBLISH;
		break;
	default:
		response.fields =
			"Access-Control-Allow-Methods: GET, HEAD\r\n"
			"Access-Control-Allow-Headers: Authorization, "
			"Cache-Control, Last-Event-ID\r\n"
			"Access-Control-Max-Age: 600\r\n";
	}
	conn_respond(c, &response);
}

static const char *allowed_methods(enum target target)
{
	switch (target) {
	case TARGET_NONE: /* of all that is here */
		return "Allow: GET, HEAD, OPTIONS, POST, PUT\r\n";
	case TARGET_PUBLISH:
		return "Allow: OPTIONS, POST\r\n";
	case TARGET_PUBLISH_TEXT:
		return "Allow: OPTIONS, POST, PUT\r\n";
	default:
		return "Allow: GET, HEAD, OPTIONS\r\n";
	}
}

/* OPTIONS of a path, or of the server itself, which `*` is (RFC 9110 9.3.7),
 * and `/`: HAProxy's checks are `OPTIONS / HTTP/1.0`. */
static bool asks_for_methods(enum target target,
			     const struct http_request *request)
{
	return request->method == HTTP_METHOD_OPTIONS &&
	       (target != TARGET_NONE || span_equal(request->path, SPAN("*")) ||
		span_equal(request->path, SPAN("/")));
}

static void answer_options(struct conn *c, enum target target)
{
	struct http_response response = {
		.status = 204,
		.fields = allowed_methods(target),
	};

	conn_respond(c, &response);
}

static bool is_allowed(enum target target, enum http_method method)
{
	switch (target) {
	case TARGET_PUBLISH:
		return method == HTTP_METHOD_POST;
	case TARGET_PUBLISH_TEXT:
		return method == HTTP_METHOD_POST || method == HTTP_METHOD_PUT;
	default:
		return method == HTTP_METHOD_GET || method == HTTP_METHOD_HEAD;
	}
}

/* Answers what is wrong with method or path. Returns whether all is fine. */
static bool check_method(struct conn *c, enum target target,
			 const struct http_request *request)
{
	if (target == TARGET_NONE && request->method != HTTP_METHOD_CONNECT) {
		conn_respond_error(c, 404, "Not found", NULL);
		return false;
	}
	if (target != TARGET_NONE && is_allowed(target, request->method))
		return true;
	conn_respond_error(c, 405, "Method not allowed",
			   allowed_methods(target));
	return false;
}

/* By ALLOWED_HOSTS, against names that were made to point here. Health tells
 * nothing, and whoever probes it asks by address; /metrics is for who has the
 * password; the admin listener serves only these. */
static bool is_host_allowed(const struct routes *r, const struct conn *c,
			    enum target target,
			    const struct http_request *request)
{
	return conn_listener(c) == LISTENER_ADMIN || target == TARGET_HEALTH ||
	       target == TARGET_READINESS ||
	       host_is_allowed(routes_config(r)->allowed_hosts,
			       request->fields[HTTP_HOST]);
}

static void refuse_host(struct routes *r, struct conn *c)
{
	static struct log_limit limit = LOG_LIMIT("host_refused");

	stats_add(routes_stats(r), STATS_host_refused, 1);
	routes_log_refusal(c, &limit, (struct span){0},
			   "the host is not in ALLOWED_HOSTS");
	conn_respond_error(c, 421, "This server does not serve that host",
			   NULL);
}

static void refuse_origin(struct routes *r, struct conn *c)
{
	static struct log_limit limit = LOG_LIMIT("origin_refused");

	stats_add(routes_stats(r), STATS_origin_refused, 1);
	routes_log_refusal(c, &limit, (struct span){0},
			   "the origin is not in ALLOWED_ORIGINS");
	conn_respond_error(c, 403, "Origin is not allowed", NULL);
}

/* All that can be refused is refused here, so that content is kept for nobody
 * but a publisher. */
static void on_head(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);
	enum target target = target_of(r, conn_listener(c), request->path);

	if (!is_host_allowed(r, c, target, request)) {
		refuse_host(r, c);
		return;
	}
	if (is_for_pages(target) && !is_origin_allowed(r, request)) {
		refuse_origin(r, c);
		return;
	}
	if (is_preflight(target, request)) {
		answer_preflight(c, target);
		return;
	}
	if (asks_for_methods(target, request)) {
		answer_options(c, target);
		return;
	}
	if (!check_method(c, target, request))
		return;
	if (target == TARGET_PUBLISH || target == TARGET_PUBLISH_TEXT)
		routes_check_publish(r, c, request);
	else if (request->content_length > 0 || request->is_chunked)
		conn_respond_error(c, 400, "No content is expected", NULL);
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);

	switch (target_of(r, conn_listener(c), request->path)) {
	case TARGET_PUBLISH:
	case TARGET_PUBLISH_TEXT:
		routes_publish(r, c, request);
		break;
	case TARGET_SUBSCRIBE:
		routes_subscribe(r, c, request);
		break;
	case TARGET_TOPICS:
		routes_show_topics(r, c, request);
		break;
	case TARGET_TOPIC:
		routes_show_topic(r, c, request);
		break;
	case TARGET_HOMEPAGE:
		show_homepage(c);
		break;
	case TARGET_HEALTH:
		show_health(r, c);
		break;
	case TARGET_READINESS:
		show_readiness(r, c);
		break;
	case TARGET_METRICS:
		show_metrics(r, c);
		break;
	case TARGET_NONE:
		break; /* on_head() has answered */
	}
}

/* --- messages, and the end ---------------------------------------------- */

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct client *client = conn_user(c);

	if (!is_text)
		conn_end(c, ENDING_binary, NULL);
	else if (client->session != NULL && client->session->is_v1)
		routes_on_command(routes_of(c), c, message);
	else
		routes_on_raw_message(routes_of(c), c, message);
}

/* Gives one of the subscriptions of a URL its turn, if any is behind. */
static bool catch_up_of_url(struct routes *r, struct client *client)
{
	struct session *session = client->session;
	unsigned count = session == NULL ? 0 : session->several_count;

	if (subscribers_catch_up(&r->subscribers, &client->only))
		return true;
	for (unsigned i = 0; i < count; i++)
		if (subscribers_catch_up(&r->subscribers, &session->several[i]))
			return true;
	return false;
}

/* Returns whether `s` has no more use for room. */
static bool use_room(struct routes *r, struct subscriber *s)
{
	if (subscribers_catch_up(&r->subscribers, s))
		return false;
	return !s->is_lossy ||
	       subscribers_feed(&r->subscribers,
				CONTAINER_OF(s, struct lossy, subscriber));
}

/* Takes turns, so that one subscription does not keep all the room there is. */
static void on_room(struct conn *c)
{
	struct client *client = conn_user(c);
	struct session *session = client->session;
	struct routes *r = routes_of(c);
	unsigned count = session == NULL ? 0 : session->subscribed_count;

	if (catch_up_of_url(r, client))
		return;
	for (unsigned i = 0; i < count; i++) {
		unsigned at = (session->fed + i) % count;
		if (!use_room(r, session->subscribed[at])) {
			session->fed = (at + 1) % count;
			return;
		}
	}
}

static bool on_leaving(struct conn *c)
{
	return routes_refuse_at_the_end(routes_of(c), c);
}

static void on_end(struct conn *c)
{
	routes_forget(routes_of(c), c);
}

/* --- the application ---------------------------------------------------- */

/* This worker's part of the connections to an authority that are kept. */
static unsigned kept_checks(const struct config *config)
{
	uint64_t part = DESCRIPTORS_CHECKS_KEPT(config->auth_checks_max) /
			config->workers;

	return part > 0 ? (unsigned)part : 1;
}

static int open_auth(struct routes *r)
{
	const struct config *config = routes_config(r);
	struct auth_options options = {
		.url = config->auth_url,
		.timeout_ms = (unsigned)config->auth_timeout_ms,
		.kept_max = kept_checks(config),
		.verdicts = r->worker->shared->verdicts,
		.worker = r->worker->index};

	if (config->auth_url == NULL)
		return 0;
	return auth_open(&r->auth, &r->worker->loop, &options);
}

static int routes_open(struct worker *w, void **state)
{
	const struct config *config = w->shared->config;
	struct routes *r = calloc(1, sizeof *r);
	if (r == NULL)
		return UV_ENOMEM;
	r->worker = w;
	int rv = secret_memory_init(&r->password);
	if (rv != 0)
		goto err_routes;
	rv = subscribers_init(&r->subscribers, w->shared->registry, w->index,
			      config->buffered_max_bytes, &w->stats);
	if (rv != 0)
		goto err_routes;
	r->subscribers.on_loss = routes_on_loss;
	r->subscribers.on_reset = routes_on_reset;
	rv = routes_open_waits(r);
	if (rv == 0)
		rv = open_auth(r);
	if (rv != 0)
		goto err_subscribers;
	*state = r;
	return 0;

err_subscribers:
	subscribers_fini(&r->subscribers);
err_routes:
	free(r);
	return rv;
}

static bool routes_deliver(void *state, struct message *first,
			   uint64_t until_ns)
{
	struct routes *r = state;
	return subscribers_deliver(&r->subscribers, first, until_ns);
}

static void routes_flushed(void *state)
{
	struct routes *r = state;
	struct subscribers *all = &r->subscribers;

	subscribers_flushed(all);
	if (!subscribers_has_turns(all))
		return;
	uint64_t until_ns = uv_hrtime() + TURNS_NS;
	do {
		subscribers_take_turns(all, until_ns);
		conn_group_flush(&r->worker->group);
	} while (subscribers_has_turns(all) && uv_hrtime() < until_ns);
	/* What others wait for has its turn first; then, without waiting. */
	if (subscribers_has_turns(all))
		uv_async_send(&r->worker->mailbox.async);
}

static void routes_notify(void *state, struct mailbox_note *note)
{
	struct routes *r = state;

	if (note->kind == MAILBOX_NOTE_PUBLISHED)
		routes_on_replicated(r, note);
	else
		auth_take_note(r->auth, note);
}

static void routes_close(void *state)
{
	struct routes *r = state;

	auth_close(r->auth);
	routes_close_waits(r);
	subscribers_fini(&r->subscribers);
	buf_fini(&r->page);
	buf_fini(&r->fields);
	buf_fini(&r->credentials);
	buf_fini(&r->query);
	buf_fini(&r->uri);
	buf_fini(&r->key_uri);
	buf_fini(&r->record);
	json_publications_fini(&r->publications);
	buf_fini(&r->subscription.memory);
	buf_fini(&r->command.memory);
	free(r);
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct client),
	.on_head = on_head,
	.on_request = on_request,
	.fields = origin_fields,
	.on_message = on_message,
	.on_room = on_room,
	.is_committed = routes_is_publishing, /* 503: it is not published */
	.on_leaving = on_leaving,
	.on_end = on_end,
};

const struct worker_app routes_app = {
	.hooks = &hooks,
	.message_max_bytes = SUBSCRIBE_MAX,
	.open = routes_open,
	.deliver = routes_deliver,
	.flushed = routes_flushed,
	.notify = routes_notify,
	.close = routes_close,
};
