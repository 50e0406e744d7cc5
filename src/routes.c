/* routes.c - requests and messages, answered. */
#include "routes.h"

#include "auth.h"
#include "json.h"
#include "memory.h"
#include "metrics.h"
#include "secret.h"
#include "subscribers.h"

#include <stdlib.h>

#define PROJECT_PAGE  "https://github.com/tropicbliss/isimud"
#define SUBSCRIBE_MAX 65536 /* bytes of a message from a subscriber */
#define BASIC_CHALLENGE                                                        \
	"WWW-Authenticate: Basic realm=\"isimud\", charset=\"UTF-8\"\r\n"
#define NO_STORE         "Cache-Control: no-store\r\n"
#define BEARER_CHALLENGE "WWW-Authenticate: Bearer realm=\"isimud\"\r\n"

/* What a worker keeps for all its clients. */
struct routes {
	struct worker *worker;
	struct auth *auth; /* NULL without AUTH_URL */
	struct subscribers subscribers;
	/* Scratch, used within one call. */
	struct buf page;
	struct buf credentials;
	struct json_publication publication;
	struct json_subscription subscription;
};

/* What a client is, beside its connection (conn_user). */
struct client {
	struct auth_check *check; /* under way, or NULL */
	uint64_t check_from_ns;
	struct subscriber subscriber;
};

static struct routes *routes_of(const struct conn *c)
{
	return conn_group_of(c)->context;
}

static const struct config *config_of(const struct routes *r)
{
	return r->worker->shared->config;
}

/* --- POST /pub ---------------------------------------------------------- */

/* Finds the publisher's name in the credentials; it lies in r->credentials.
 * Returns false if it has answered. */
static bool read_publisher(struct routes *r, struct conn *c,
			   struct span *publisher, struct span *password)
{
	struct span value = conn_request(c)->fields[HTTP_AUTHORIZATION];
	int rv = http_basic_credentials(value, &r->credentials, publisher,
					password);
	if (rv == UV_ENOMEM)
		conn_respond_error(c, 500, "Internal server error", NULL);
	else if (rv != 0)
		conn_respond_error(c, 400, "Missing credentials", NULL);
	return rv == 0;
}

/* Whether the request has the password. If not, it has been answered. */
static bool check_password(struct routes *r, struct conn *c)
{
	struct span publisher;
	struct span password;

	if (!read_publisher(r, c, &publisher, &password))
		return false;
	if (secret_matches(password))
		return true;
	conn_respond_error(c, 401, "Wrong credentials", BASIC_CHALLENGE);
	return false;
}

static void refuse_as_full(struct routes *r, struct conn *c)
{
	stats_add(&r->worker->stats, STATS_publish_full, 1);
	conn_respond_error(c, 503, "Too much is waiting to be sent",
			   "Retry-After: 1\r\n");
}

/* Before the content is read: only a publisher may make us keep any. */
static void check_publish(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	if (!check_password(r, c)) {
		stats_add(&r->worker->stats, STATS_publish_denied, 1);
		return;
	}
	if (memory_level() == MEMORY_FULL) {
		worker_ask_relief(r->worker->shared);
		refuse_as_full(r, c);
	} else if (!http_is_media_type(request->fields[HTTP_CONTENT_TYPE],
				       SPAN("application/json"))) {
		stats_add(&r->worker->stats, STATS_publish_invalid, 1);
		conn_respond_error(
			c, 415, "Content-Type must be application/json", NULL);
	}
}

static void publish(struct routes *r, struct conn *c,
		    const struct http_request *request)
{
	struct registry *registry = r->worker->shared->registry;
	struct json_error error;
	struct registry_receipt receipt;
	struct topic_key key;
	struct span password;

	if (!read_publisher(r, c, &key.publisher, &password))
		return;
	if (json_read_publication(&r->publication, request->content, &error)) {
		stats_add(&r->worker->stats, STATS_publish_invalid, 1);
		conn_respond_error(c, error.status, error.text, NULL);
		return;
	}
	key.name = r->publication.topic;
	struct message *m = message_new(r->publication.data, false,
					(unsigned)config_of(r)->workers);
	if (m == NULL) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return;
	}
	m->accepted_ns = uv_hrtime();
	if (registry_publish(registry, &key, m, &receipt) != 0) {
		refuse_as_full(r, c);
		return;
	}
	if (memory_level() >= MEMORY_SCARCE)
		worker_ask_relief(r->worker->shared);
	stats_add(&r->worker->stats, STATS_published, 1);
	conn_respond(c, &(struct http_response){.status = 200});
}

/* --- GET /sub ----------------------------------------------------------- */

static void on_verdict(void *user, enum auth_verdict verdict)
{
	static const enum stats_counter counters[] = {
		[AUTH_YES] = STATS_auth_yes,
		[AUTH_NO] = STATS_auth_no,
		[AUTH_FAILED] = STATS_auth_failed,
	};
	struct conn *c = user;
	struct client *client = conn_user(c);
	struct stats *stats = &routes_of(c)->worker->stats;

	client->check = NULL;
	stats_add(stats, counters[verdict], 1);
	histogram_add(&stats->auth,
		      (uv_hrtime() - client->check_from_ns) / 1000, 1);
	switch (verdict) {
	case AUTH_YES:
		conn_upgrade(c, (struct span){0});
		break;
	case AUTH_NO:
		conn_respond_error(c, 401, "Wrong credentials",
				   BEARER_CHALLENGE);
		break;
	case AUTH_FAILED:
		conn_respond_error(c, 500, "Internal server error", NULL);
		break;
	}
}

static void authorize(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	struct client *client = conn_user(c);
	struct span token =
		http_bearer_token(request->fields[HTTP_AUTHORIZATION]);

	if (token.bytes == NULL) {
		conn_respond_error(c, 400, "Missing credentials", NULL);
		return;
	}
	int rv =
		auth_check_start(r->auth, token, on_verdict, c, &client->check);
	if (rv == UV_EBUSY)
		conn_respond_error(c, 503, "Too many clients are being checked",
				   "Retry-After: 1\r\n");
	else if (rv != 0)
		conn_respond_error(c, 500, "Internal server error", NULL);
}

static void subscribe(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	if (!conn_check_upgrade(c))
		return;
	if (r->auth == NULL)
		conn_upgrade(c, (struct span){0});
	else
		authorize(r, c, request);
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
	else if (atomic_load_explicit(&shared->connections,
				      memory_order_relaxed) >=
		 shared->config->connections_max)
		respond_state(c, false, "too many connections\n");
	else if (memory_level() >= MEMORY_TIGHT)
		respond_state(c, false, "memory is tight\n");
	else
		respond_state(c, true, "ready\n");
}

static void show_metrics(struct routes *r, struct conn *c)
{
	const struct worker_shared *shared = r->worker->shared;
	const struct stats *stats[CONFIG_WORKERS_MAX];

	if (conn_listener(c) != LISTENER_ADMIN && !check_password(r, c))
		return;
	for (unsigned i = 0; i < shared->workers_count; i++)
		stats[i] = &shared->workers[i]->stats;
	struct metrics_source source = {
		.workers = stats,
		.workers_count = shared->workers_count,
		.acceptor = shared->acceptor,
		.topics = registry_topics(shared->registry),
		.is_draining = atomic_load(&shared->is_draining)};
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

/* --- requests ----------------------------------------------------------- */

enum target {
	TARGET_NONE,
	TARGET_HOMEPAGE,
	TARGET_PUBLISH,
	TARGET_SUBSCRIBE,
	TARGET_HEALTH,
	TARGET_READINESS,
	TARGET_METRICS,
};

/* Which target a path is, for a connection of this kind: with ADMIN_PORT,
 * health and metrics are there and nowhere else. */
static enum target target_of(const struct routes *r, enum listener_kind kind,
			     struct span path)
{
	bool is_admin = kind == LISTENER_ADMIN;

	if (is_admin || !config_of(r)->has_admin_port) {
		if (span_equal(path, SPAN("/healthz")))
			return TARGET_HEALTH;
		if (span_equal(path, SPAN("/readyz")))
			return TARGET_READINESS;
		if (span_equal(path, SPAN("/metrics")))
			return TARGET_METRICS;
	}
	if (is_admin)
		return TARGET_NONE;
	if (span_equal(path, SPAN("/pub")))
		return TARGET_PUBLISH;
	if (span_equal(path, SPAN("/sub")))
		return TARGET_SUBSCRIBE;
	if (span_equal(path, SPAN("/")) && config_of(r)->homepage)
		return TARGET_HOMEPAGE;
	return TARGET_NONE;
}

static void show_homepage(struct conn *c)
{
	conn_respond(c, &(struct http_response){
				.status = 303,
				.fields = "Location: " PROJECT_PAGE "\r\n"});
}

/* Answers what is wrong with method or path. Returns whether all is fine. */
static bool check_method(struct conn *c, enum target target,
			 const struct http_request *request)
{
	bool is_post = request->method == HTTP_METHOD_POST;
	bool is_get = request->method == HTTP_METHOD_GET ||
		      request->method == HTTP_METHOD_HEAD;

	if (target == TARGET_NONE) {
		conn_respond_error(c, 404, "Not found", NULL);
		return false;
	}
	if (target == TARGET_PUBLISH ? is_post : is_get)
		return true;
	conn_respond_error(c, 405, "Method not allowed",
			   target == TARGET_PUBLISH ? "Allow: POST\r\n"
						    : "Allow: GET, HEAD\r\n");
	return false;
}

/* All that can be refused is refused here, so that content is kept for nobody
 * but a publisher. */
static void on_head(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);
	enum target target = target_of(r, conn_listener(c), request->path);

	if (!check_method(c, target, request))
		return;
	if (target == TARGET_PUBLISH)
		check_publish(r, c, request);
	else if (request->content_length > 0 || request->is_chunked)
		conn_respond_error(c, 400, "No content is expected", NULL);
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);

	switch (target_of(r, conn_listener(c), request->path)) {
	case TARGET_PUBLISH:
		publish(r, c, request);
		break;
	case TARGET_SUBSCRIBE:
		subscribe(r, c, request);
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

/* --- messages ----------------------------------------------------------- */

static void on_subscribe_message(struct routes *r, struct conn *c,
				 struct subscriber *s, struct span message)
{
	struct json_subscription *wanted = &r->subscription;
	struct json_error error;

	int status = json_read_subscription(wanted, message, &error);
	if (status != 0) {
		conn_end(c,
			 status == 400   ? ENDING_bad_data
			 : status == 422 ? ENDING_policy
					 : ENDING_no_memory,
			 error.text);
		return;
	}
	struct topic_key key = {wanted->publisher, wanted->topic};
	/* A client chooses how long the names are that a topic keeps. */
	if (memory_level() == MEMORY_FULL ||
	    subscribers_add(&r->subscribers, s, c, &key, NULL, NULL) != 0)
		conn_end(c, ENDING_no_memory, NULL);
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct client *client = conn_user(c);

	if (!is_text)
		conn_end(c, ENDING_binary, NULL);
	else if (client->subscriber.topic != NULL)
		conn_end(c, ENDING_policy, "already subscribed");
	else
		on_subscribe_message(routes_of(c), c, &client->subscriber,
				     message);
}

static void on_end(struct conn *c)
{
	struct client *client = conn_user(c);

	if (client->check != NULL)
		auth_check_cancel(client->check);
	client->check = NULL;
	subscribers_remove(&routes_of(c)->subscribers, &client->subscriber);
}

/* --- the application ---------------------------------------------------- */

static int routes_open(struct worker *w, void **state)
{
	const struct config *config = w->shared->config;
	struct routes *r = calloc(1, sizeof *r);
	if (r == NULL)
		return UV_ENOMEM;
	r->worker = w;
	int rv =
		subscribers_init(&r->subscribers, w->shared->registry, w->index,
				 0, config->buffered_max_bytes, &w->stats);
	if (rv == 0 && config->auth_url != NULL) {
		struct auth_options options = {
			.url = config->auth_url,
			.timeout_ms = (unsigned)config->auth_timeout_ms,
			.checks_max = (unsigned)config->auth_checks_max};
		rv = auth_open(&r->auth, &w->loop, &options);
	}
	if (rv != 0) {
		subscribers_fini(&r->subscribers);
		free(r);
		return rv;
	}
	*state = r;
	return 0;
}

static void routes_deliver(void *state, struct message *first)
{
	struct routes *r = state;
	subscribers_deliver(&r->subscribers, first);
}

static void routes_flushed(void *state)
{
	struct routes *r = state;
	subscribers_flushed(&r->subscribers);
}

static void routes_close(void *state)
{
	struct routes *r = state;

	auth_close(r->auth);
	subscribers_fini(&r->subscribers);
	buf_fini(&r->credentials);
	buf_fini(&r->page);
	buf_fini(&r->publication.memory);
	buf_fini(&r->subscription.memory);
	free(r);
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct client),
	.on_head = on_head,
	.on_request = on_request,
	.on_message = on_message,
	.on_end = on_end,
};

const struct worker_app routes_app = {
	.hooks = &hooks,
	.message_max_bytes = SUBSCRIBE_MAX,
	.open = routes_open,
	.deliver = routes_deliver,
	.flushed = routes_flushed,
	.close = routes_close,
};
