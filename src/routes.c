/* routes.c - requests and messages, answered. */
#include "routes.h"

#include "auth.h"
#include "digest.h"
#include "json.h"
#include "subscribers.h"

#include <stdlib.h>

#define PROJECT_PAGE  "https://github.com/tropicbliss/isimud"
#define SUBSCRIBE_MAX 65536 /* bytes of a message from a subscriber */
#define BASIC_CHALLENGE                                                        \
	"WWW-Authenticate: Basic realm=\"isimud\", charset=\"UTF-8\"\r\n"
#define BEARER_CHALLENGE "WWW-Authenticate: Bearer realm=\"isimud\"\r\n"

/* What a worker keeps for all its clients. */
struct routes {
	struct worker *worker;
	struct auth *auth; /* NULL without AUTH_URL */
	struct subscribers subscribers;
	uint8_t password[DIGEST_SHA256_BYTES];
	/* Scratch, used within one call. */
	struct buf credentials;
	struct json_publication publication;
	struct json_subscription subscription;
};

/* What a client is, beside its connection (conn_user). */
struct client {
	struct auth_check *check; /* under way, or NULL */
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

/* Before the content is read: only a publisher may make us keep any. */
static void check_publish(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	uint8_t digest[DIGEST_SHA256_BYTES];
	struct span publisher;
	struct span password;

	if (!read_publisher(r, c, &publisher, &password))
		return;
	digest_sha256(password.bytes, password.len, digest);
	if (!digest_equal(digest, r->password))
		conn_respond_error(c, 401, "Wrong credentials",
				   BASIC_CHALLENGE);
	else if (!http_is_media_type(request->fields[HTTP_CONTENT_TYPE],
				     SPAN("application/json")))
		conn_respond_error(
			c, 415, "Content-Type must be application/json", NULL);
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
		conn_respond_error(c, error.status, error.text, NULL);
		return;
	}
	key.name = r->publication.topic;
	struct message *m = message_new(r->publication.data,
					(unsigned)config_of(r)->workers);
	if (m == NULL) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return;
	}
	if (registry_publish(registry, &key, m, &receipt) != 0) {
		stats_add(&r->worker->stats, STATS_publish_full, 1);
		conn_respond_error(c, 503, "Too much is waiting to be sent",
				   "Retry-After: 1\r\n");
		return;
	}
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

	client->check = NULL;
	stats_add(&routes_of(c)->worker->stats, counters[verdict], 1);
	switch (verdict) {
	case AUTH_YES:
		conn_upgrade(c);
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
		conn_upgrade(c);
	else
		authorize(r, c, request);
}

/* --- requests ----------------------------------------------------------- */

static void show_homepage(struct conn *c)
{
	conn_respond(c, &(struct http_response){
				.status = 303,
				.fields = "Location: " PROJECT_PAGE "\r\n"});
}

static bool is_get(const struct http_request *request)
{
	return request->method == HTTP_METHOD_GET ||
	       request->method == HTTP_METHOD_HEAD;
}

/* Answers what is wrong with method or path. Returns whether all is fine. */
static bool check_target(const struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	struct span path = request->path;
	bool is_post = request->method == HTTP_METHOD_POST;

	if (span_equal(path, SPAN("/pub"))) {
		if (!is_post)
			conn_respond_error(c, 405, "Method not allowed",
					   "Allow: POST\r\n");
		return is_post;
	}
	if (!span_equal(path, SPAN("/sub")) &&
	    !(span_equal(path, SPAN("/")) && config_of(r)->homepage)) {
		conn_respond_error(c, 404, "Not found", NULL);
		return false;
	}
	if (!is_get(request))
		conn_respond_error(c, 405, "Method not allowed",
				   "Allow: GET, HEAD\r\n");
	return is_get(request);
}

/* All that can be refused is refused here, so that content is kept for nobody
 * but a publisher. */
static void on_head(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);

	if (!check_target(r, c, request))
		return;
	if (request->method == HTTP_METHOD_POST)
		check_publish(r, c, request);
	else if (request->content_length > 0 || request->is_chunked)
		conn_respond_error(c, 400, "No content is expected", NULL);
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);

	if (request->method == HTTP_METHOD_POST)
		publish(r, c, request);
	else if (span_equal(request->path, SPAN("/sub")))
		subscribe(r, c, request);
	else
		show_homepage(c);
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
	if (subscribers_add(&r->subscribers, s, c, &key) != 0)
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
	digest_sha256(config->password, strlen(config->password), r->password);
	subscribers_init(&r->subscribers, w->shared->registry, w->index,
			 &w->stats);
	if (config->auth_url != NULL) {
		struct auth_options options = {
			.url = config->auth_url,
			.timeout_ms = (unsigned)config->auth_timeout_ms,
			.checks_max = (unsigned)config->auth_checks_max};
		int rv = auth_open(&r->auth, &w->loop, &options);
		if (rv != 0) {
			free(r);
			return rv;
		}
	}
	*state = r;
	return 0;
}

static void routes_deliver(void *state, struct message *first)
{
	struct routes *r = state;
	subscribers_deliver(&r->subscribers, first);
}

static void routes_close(void *state)
{
	struct routes *r = state;

	auth_close(r->auth);
	buf_fini(&r->credentials);
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
	.close = routes_close,
};
