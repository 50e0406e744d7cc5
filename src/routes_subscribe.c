/* routes_subscribe.c - GET /sub: what is asked for, who may, and the start of
 * it.
 *
 * The request stays there until it is answered, so while the authority is being
 * asked nothing is kept of it: its query is read again when the answer comes.
 */
#include "check.h"
#include "memory.h"
#include "origin.h"
#include "routes_private.h"
#include "secret.h"
#include "sse.h"

#include <stdlib.h>

#define BEARER_CHALLENGE "WWW-Authenticate: Bearer realm=\"isimud\"\r\n"
#define BASIC_CHALLENGE                                                        \
	"WWW-Authenticate: Basic realm=\"isimud\", charset=\"UTF-8\"\r\n"
#define RETRY         "Retry-After: 1\r\n"
#define SUBPROTOCOL   "isimud.v1"
#define BEARER_PREFIX "bearer." /* of a subprotocol that is a token */

/* Where a client goes on. */
struct resume {
	bool is_wanted;
	uint64_t epoch; /* its places: r->positions */
};

/* --- sessions ----------------------------------------------------------- */

struct session *routes_session(struct conn *c)
{
	struct client *client = conn_user(c);

	if (client->session == NULL) {
		client->session = calloc(1, sizeof *client->session);
		if (client->session != NULL)
			memory_charge(sizeof *client->session);
	}
	return client->session;
}

/* Copies `s` to the heap, with a NUL. An absent one stays so. Returns 0 or
 * UV_ENOMEM. */
static int keep(struct span s, char **out)
{
	if (s.bytes == NULL)
		return 0;
	*out = malloc(s.len + 1);
	if (*out == NULL)
		return UV_ENOMEM;
	memory_charge(s.len + 1);
	if (s.len > 0)
		memcpy(*out, s.bytes, s.len);
	(*out)[s.len] = '\0';
	return 0;
}

static void drop(char *kept, size_t len)
{
	if (kept == NULL)
		return;
	memory_credit(len + 1);
	free(kept);
}

static void drop_text(char *kept)
{
	drop(kept, kept == NULL ? 0 : strlen(kept));
}

static void drop_waiting(struct session *session)
{
	memory_credit(session->waiting.cap);
	buf_fini(&session->waiting);
}

static size_t size_of(const struct subscriber *s)
{
	return s->is_lossy ? sizeof(struct lossy) : sizeof *s;
}

static void forget_subscriptions(struct routes *r, struct session *session)
{
	for (unsigned i = 0; i < session->subscribed_count; i++) {
		struct subscriber *s = session->subscribed[i];
		subscribers_remove(&r->subscribers, s);
		memory_credit(size_of(s));
		free(s);
	}
	memory_credit(session->subscribed_cap * sizeof(struct subscriber *));
	free(session->subscribed);
	for (unsigned i = 0; i < session->several_count; i++)
		subscribers_remove(&r->subscribers, &session->several[i]);
	memory_credit(session->several_count * sizeof(struct subscriber));
	free(session->several);
}

static void forget_session(struct routes *r, struct client *client)
{
	struct session *session = client->session;

	if (session == NULL)
		return;
	client->session = NULL;
	if (session->check != NULL)
		auth_check_cancel(session->check);
	forget_subscriptions(r, session);
	drop_text(session->token);
	drop_text(session->cookie);
	drop_text(session->host);
	drop((char *)(uintptr_t)session->publisher.bytes,
	     session->publisher.len);
	drop_waiting(session);
	memory_credit(sizeof *session);
	free(session);
}

void routes_forget(struct routes *r, struct conn *c)
{
	struct client *client = conn_user(c);

	subscribers_remove(&r->subscribers, &client->only);
	forget_session(r, client);
}

/* --- the plan ----------------------------------------------------------- */

/* Decodes a value behind those that r->query has; it has room for all. */
static const char *decode(struct routes *r, struct span value, struct span *out)
{
	size_t start = r->query.len;

	if (http_decode(value, true, &r->query) != 0)
		return "The query is not percent-encoded UTF-8";
	*out = (struct span){r->query.bytes + start, r->query.len - start};
	return NULL;
}

static const char *add_topic(struct routes *r, struct plan *plan,
			     struct span value)
{
	if (plan->topics_count == routes_config(r)->subscriptions_max)
		return "There are too many topics";
	return decode(r, value, &plan->topics[plan->topics_count++]);
}

static const char *read_parameter(struct routes *r, struct plan *plan,
				  struct span name, struct span value)
{
	if (http_query_is_name(name, "topic"))
		return add_topic(r, plan, value);
	if (http_query_is_name(name, "publisher")) {
		if (plan->publisher.bytes != NULL)
			return "publisher is there twice";
		return decode(r, value, &plan->publisher);
	}
	if (http_query_is_name(name, "since") && value.len > 0)
		return decode(r, value, &plan->since);
	if (http_query_is_name(name, "access_token"))
		return decode(r, value, &plan->token);
	if (http_query_is_name(name, "envelope"))
		plan->has_envelopes = span_equal(value, SPAN("true"));
	return NULL;
}

/* Reads the query into r->plan. Returns NULL, or what is wrong. */
static const char *read_plan(struct routes *r, struct span query)
{
	struct plan *plan = &r->plan;
	struct span name;
	struct span value;
	const char *wrong = NULL;
	uint64_t epoch;

	*plan = (struct plan){.topics_count = 0};
	r->query.len = 0;
	/* Once: decoding makes nothing longer, and spans must not move. */
	if (buf_reserve(&r->query, query.len + 1) != 0)
		return "Internal server error";
	while (wrong == NULL && http_query_next(&query, &name, &value))
		wrong = read_parameter(r, plan, name, value);
	if (wrong != NULL)
		return wrong;
	if ((plan->publisher.bytes != NULL) != (plan->topics_count > 0))
		return "publisher and topic go together";
	if (plan->since.bytes == NULL)
		return NULL;
	if (plan->topics_count == 0)
		return "since needs a topic";
	if (cursor_parse(plan->since, plan->topics_count, &epoch,
			 r->positions) != 0)
		return "since must be an id, with a number for each topic";
	return NULL;
}

static bool is_websocket(const struct http_request *request)
{
	return http_list_has(request->fields[HTTP_UPGRADE], SPAN("websocket"));
}

static bool is_v1(const struct http_request *request)
{
	return is_websocket(request) &&
	       http_list_has_exactly(
		       request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL],
		       SPAN(SUBPROTOCOL));
}

/* Checks that it can be served, in one way or the other. Returns false if it
 * has been answered. */
static bool check_kind(const struct routes *r, struct conn *c,
		       const struct http_request *request)
{
	const struct span type = SPAN("text/event-stream");
	struct span accept = request->fields[HTTP_ACCEPT];
	bool has_topics = r->plan.topics_count > 0;

	if (is_websocket(request))
		return conn_check_upgrade(c);
	if (has_topics && http_accept_quality(accept, type) > 0)
		return true;
	if (has_topics)
		conn_respond_error(c, 406,
				   "Accept must allow text/event-stream", NULL);
	else if (http_accepts_explicitly(accept, type))
		conn_respond_error(c, 400,
				   "An event stream needs publisher and topic",
				   NULL);
	else
		conn_check_upgrade(c); /* says what it lacks */
	return false;
}

/* Where the client wants to go on: an event stream by what it last saw, which
 * is newer than its URL. */
static struct resume read_resume(struct routes *r,
				 const struct http_request *request)
{
	struct plan *plan = &r->plan;
	struct span id = request->fields[HTTP_LAST_EVENT_ID];
	struct resume resume = {.is_wanted = true};

	if (id.len == 0 || is_websocket(request))
		id = plan->since;
	if (id.bytes == NULL)
		return (struct resume){.is_wanted = false};
	if (cursor_parse(id, plan->topics_count, &resume.epoch, r->positions) ==
	    0)
		return resume;
	/* What is no id of ours is answered as one that is too old. */
	resume.epoch = ~registry_epoch(r->worker->shared->registry);
	memset(r->positions, 0, plan->topics_count * sizeof r->positions[0]);
	return resume;
}

/* --- the start ---------------------------------------------------------- */

/* Where the subscriptions of a URL lie: NULL without memory. */
static struct subscriber *make_subscribers(struct conn *c, unsigned count)
{
	struct client *client = conn_user(c);

	if (count == 1)
		return &client->only;
	struct session *session = routes_session(c);
	if (session == NULL)
		return NULL;
	session->several = calloc(count, sizeof(struct subscriber));
	if (session->several == NULL)
		return NULL;
	session->several_count = count;
	memory_charge(count * sizeof(struct subscriber));
	return session->several;
}

static void prepare(struct routes *r, struct subscriber *all,
		    enum message_form form, const struct resume *resume)
{
	unsigned count = r->plan.topics_count;
	bool is_event = form == MESSAGE_EVENT || form == MESSAGE_EVENT_ENVELOPE;

	for (unsigned i = 0; i < count; i++) {
		all[i].form = (uint8_t)form;
		all[i].has_cursor = is_event && count > 1;
		all[i].is_last = i == count - 1;
		all[i].ordinal = (uint16_t)i;
		all[i].since = resume->is_wanted ? r->positions[i] : 0;
	}
}

/* Tells an event stream that it can't go on without a loss. */
static int send_reset(struct routes *r, struct conn *c, struct span topic)
{
	struct buf data = {0};
	const struct span start =
		SPAN("{\"reason\":\"messages were lost\",\"publisher\":");

	int rv = buf_append(&data, start.bytes, start.len);
	if (rv == 0)
		rv = json_write_string(&data, r->plan.publisher);
	if (rv == 0)
		rv = buf_append(&data, ",\"topic\":", 9);
	if (rv == 0)
		rv = json_write_string(&data, topic);
	if (rv == 0)
		rv = buf_append(&data, "}", 1);
	r->page.len = 0;
	if (rv == 0)
		rv = sse_write_event(&r->page, SPAN("reset"),
				     (struct span){data.bytes, data.len});
	if (rv == 0)
		conn_send_text(c, (struct span){r->page.bytes, r->page.len});
	buf_fini(&data);
	return rv;
}

/* A client that can't be told in its protocol is ended. */
static int tell_loss(struct routes *r, struct conn *c, struct span topic)
{
	if (conn_state(c) == CONN_EVENT_STREAM)
		return send_reset(r, c, topic);
	conn_end(c, ENDING_not_resumed, NULL);
	return UV_ECANCELED;
}

/* Returns 0, or UV_ENOMEM; or UV_ECANCELED, the client being ended already. */
static int start_one(struct routes *r, struct conn *c, struct subscriber *s,
		     const struct resume *resume)
{
	struct span topic = r->plan.topics[s->ordinal];
	struct topic_key key = {r->plan.publisher, topic};
	struct subscribers_resume from = {resume->epoch,
					  r->positions[s->ordinal]};
	bool is_exact;

	int rv = subscribers_add(&r->subscribers, s, c, &key,
				 resume->is_wanted ? &from : NULL, &is_exact);
	if (rv == 0 && resume->is_wanted && !is_exact)
		rv = tell_loss(r, c, topic);
	if (rv == 0)
		subscribers_replay(&r->subscribers, s);
	return rv;
}

/* What the client has got, once its history was replayed. */
static int write_position(struct routes *r, const struct subscriber *all,
			  struct buf *out)
{
	char id[CURSOR_MAX];

	if (all[0].has_cursor)
		return subscribers_write_cursor(&r->subscribers, all, out);
	size_t len = cursor_write(
		id, registry_epoch(r->worker->shared->registry), all[0].since);
	return buf_append(out, id, len);
}

/* An id without an event: from here on the client knows where it is, even if
 * nothing is published before it connects again. */
static int send_position(struct routes *r, struct conn *c,
			 const struct subscriber *all)
{
	struct buf id = {0};

	int rv = write_position(r, all, &id);
	r->page.len = 0;
	if (rv == 0)
		rv = sse_write_id(&r->page, (struct span){id.bytes, id.len});
	if (rv == 0)
		rv = buf_append(&r->page, "\n", 1);
	if (rv == 0)
		conn_send_text(c, (struct span){r->page.bytes, r->page.len});
	buf_fini(&id);
	return rv;
}

/* Subscribes an open WebSocket or event stream to all topics of the plan. */
static void start(struct routes *r, struct conn *c, enum message_form form,
		  const struct resume *resume)
{
	unsigned count = r->plan.topics_count;
	struct subscriber *all = make_subscribers(c, count);
	int rv = all == NULL ? UV_ENOMEM : 0;

	if (rv == 0)
		prepare(r, all, form, resume);
	for (unsigned i = 0; rv == 0 && i < count; i++)
		rv = start_one(r, c, &all[i], resume);
	if (rv == 0 && form != MESSAGE_FRAME)
		rv = send_position(r, c, all);
	if (rv != 0 && rv != UV_ECANCELED)
		conn_end(c, ENDING_no_memory, NULL);
}

/* Clients that were cut off together should not all come back at once. */
static unsigned retry_ms(const struct routes *r)
{
	uint64_t ms = routes_config(r)->sse_retry_ms;

	return (unsigned)(ms + uv_hrtime() / 1024 % (ms / 2 + 1));
}

static void start_stream(struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	enum message_form form =
		r->plan.has_envelopes ? MESSAGE_EVENT_ENVELOPE : MESSAGE_EVENT;
	struct resume resume = read_resume(r, request);

	r->page.len = 0;
	if (sse_write_retry(&r->page, retry_ms(r)) != 0) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return;
	}
	conn_stream(c, (struct span){r->page.bytes, r->page.len});
	if (conn_state(c) == CONN_EVENT_STREAM)
		start(r, c, form, &resume);
}

/* What the client is told of the subprotocols it offered. A browser takes no
 * WebSocket that chose none of them. */
static struct span choose_subprotocol(const struct http_request *request)
{
	struct span offered = request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL];

	if (is_v1(request))
		return SPAN(SUBPROTOCOL);
	return http_list_find_prefix(offered, SPAN(BEARER_PREFIX));
}

static void start_websocket(struct routes *r, struct conn *c,
			    const struct http_request *request)
{
	struct client *client = conn_user(c);
	struct resume resume = read_resume(r, request);
	bool speaks_v1 = is_v1(request);

	conn_upgrade(c, choose_subprotocol(request));
	if (conn_state(c) != CONN_WEBSOCKET)
		return;
	if (speaks_v1) {
		client->session->is_v1 = true;
		routes_start_session(r, c, &r->plan, resume.is_wanted,
				     resume.epoch);
	} else if (r->plan.topics_count > 0) {
		start(r, c, MESSAGE_FRAME, &resume);
	}
}

/* --- who may ------------------------------------------------------------ */

/* The token among the offered subprotocols, or an absent or malformed one. */
static struct span offered_token(const struct http_request *request)
{
	const struct span prefix = SPAN(BEARER_PREFIX);
	struct span offered = http_list_find_prefix(
		request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL], prefix);

	if (offered.bytes == NULL)
		return offered;
	return (struct span){offered.bytes + prefix.len,
			     offered.len - prefix.len};
}

/* Of the places where a token may be, the first that has one counts; what is
 * malformed is none. */
static struct span find_token(const struct routes *r,
			      const struct http_request *request)
{
	const struct span places[] = {
		http_bearer_token(request->fields[HTTP_AUTHORIZATION]),
		offered_token(request), r->plan.token};

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
		if (http_is_token(places[i]))
			return places[i];
	return (struct span){0};
}

/* An empty one says nothing. */
static struct span find_cookie(const struct routes *r,
			       const struct http_request *request)
{
	struct span cookie = request->fields[HTTP_COOKIE];

	if (!routes_config(r)->auth_cookie || cookie.len == 0)
		return (struct span){0};
	return cookie;
}

/* Writes the request target, less some of its parameters. */
static int write_uri(struct buf *out, const struct http_request *request,
		     const char *const *without)
{
	out->len = 0;
	int rv = buf_append(out, request->path.bytes, request->path.len);
	if (rv != 0 || request->query.len == 0)
		return rv;
	size_t path_len = out->len;
	rv = buf_append(out, "?", 1);
	if (rv == 0)
		rv = http_query_without(request->query, without, out);
	if (rv == 0 && out->len == path_len + 1)
		out->len = path_len;
	return rv;
}

static int add_host(struct routes *r, struct span host)
{
	int rv = buf_append(&r->key_uri, " ", 1);

	if (rv != 0 || host.len == 0)
		return rv;
	return buf_append(&r->key_uri, host.bytes, host.len);
}

/* Writes the URI that the authority is told, and what answers are shared by: an
 * authority may decide by the host, but not by where a client goes on. */
static int write_uris(struct routes *r, const struct http_request *request)
{
	static const char *const secrets[] = {"access_token", NULL};
	static const char *const varying[] = {"access_token", "since", NULL};

	int rv = write_uri(&r->uri, request, secrets);
	if (rv == 0)
		rv = write_uri(&r->key_uri, request, varying);
	return rv != 0 ? rv : add_host(r, request->fields[HTTP_HOST]);
}

/* Writes the URI that stands for one topic. */
static int write_topic_uri(struct routes *r, const struct topic_key *key,
			   struct span host)
{
	static const char start[] = "/sub?publisher=";
	struct buf *out = &r->uri;

	out->len = 0;
	int rv = buf_append(out, start, sizeof start - 1);
	if (rv == 0)
		rv = http_encode(key->publisher, out);
	if (rv == 0)
		rv = buf_append(out, "&topic=", 7);
	if (rv == 0)
		rv = http_encode(key->name, out);
	r->key_uri.len = 0;
	if (rv == 0)
		rv = buf_append(&r->key_uri, out->bytes, out->len);
	return rv != 0 ? rv : add_host(r, host);
}

static void on_verdict(void *user, enum auth_verdict verdict);

/* Asks about r->uri. Returns as auth_check_start(). */
static int start_check(struct routes *r, struct conn *c,
		       struct auth_request *request)
{
	struct session *session = routes_session(c);
	char peer[CONN_PEER_MAX];

	if (session == NULL)
		return UV_ENOMEM;
	conn_peer(c, peer);
	request->peer = peer;
	request->method = SPAN("GET");
	request->uri = (struct span){r->uri.bytes, r->uri.len};
	request->key_uri = (struct span){r->key_uri.bytes, r->key_uri.len};
	int rv = auth_check_start(r->auth, request, on_verdict, c,
				  &session->check);
	if (rv == UV_EALREADY)
		stats_add(routes_stats(r), STATS_auth_known, 1);
	else if (rv == UV_EBUSY)
		stats_add(routes_stats(r), STATS_auth_busy, 1);
	else if (rv == 0 && auth_was_shared(session->check))
		stats_add(routes_stats(r), STATS_auth_shared, 1);
	session->check_from_ns = uv_hrtime();
	return rv;
}

static bool asks_per_topic(const struct routes *r)
{
	return r->auth != NULL && routes_config(r)->auth_per_topic;
}

/* Keeps what later checks need, of a client that will subscribe by messages.
 * Returns 0 or UV_ENOMEM. */
static int keep_credentials(struct routes *r, struct conn *c,
			    const struct http_request *request)
{
	struct session *session = routes_session(c);

	if (session == NULL)
		return UV_ENOMEM;
	int rv = keep(find_token(r, request), &session->token);
	if (rv == 0)
		rv = keep(find_cookie(r, request), &session->cookie);
	if (rv == 0)
		rv = keep(request->fields[HTTP_HOST], &session->host);
	return rv;
}

/* All is allowed: what is asked for begins. */
static void accept_client(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	struct client *client = conn_user(c);
	bool subscribes_later = is_v1(request) || r->plan.topics_count == 0;

	if (asks_per_topic(r) && subscribes_later &&
	    keep_credentials(r, c, request) != 0) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return;
	}
	/* What was needed for the check only is not kept. */
	if (!is_v1(request) && !(asks_per_topic(r) && subscribes_later))
		forget_session(r, client);
	if (is_websocket(request))
		start_websocket(r, c, request);
	else
		start_stream(r, c, request);
}

static void refuse_check(struct conn *c, int error)
{
	if (error == UV_EBUSY)
		conn_respond_error(c, 503, "Too many clients are being checked",
				   RETRY);
	else
		conn_respond_error(c, 500, "Internal server error", NULL);
}

/* Asks about the whole request, or about the next topic of its URL. */
static int check_next(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	struct session *session = routes_session(c);
	struct auth_request asked = {.token = find_token(r, request),
				     .cookie = find_cookie(r, request),
				     .host = request->fields[HTTP_HOST]};
	int rv;

	if (session == NULL)
		return UV_ENOMEM;
	if (asks_per_topic(r) && r->plan.topics_count > 0) {
		struct topic_key key = {
			r->plan.publisher,
			r->plan.topics[session->topics_allowed]};
		rv = write_topic_uri(r, &key, asked.host);
	} else {
		rv = write_uris(r, request);
	}
	return rv != 0 ? rv : start_check(r, c, &asked);
}

/* One more yes. Returns whether that is all it needs. */
static bool is_all_allowed(struct routes *r, struct conn *c)
{
	struct session *session = routes_session(c);

	return !asks_per_topic(r) || r->plan.topics_count == 0 ||
	       ++session->topics_allowed == r->plan.topics_count;
}

/* Asks until all is allowed, or an answer has to be waited for. */
static void authorize(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	for (;;) {
		int rv = check_next(r, c, request);
		if (rv == 0)
			return; /* on_verdict() goes on */
		if (rv != UV_EALREADY) {
			refuse_check(c, rv);
			return;
		}
		if (is_all_allowed(r, c)) {
			accept_client(r, c, request);
			return;
		}
	}
}

static void on_handshake_verdict(struct routes *r, struct conn *c,
				 enum auth_verdict verdict)
{
	const struct http_request *request = conn_request(c);

	switch (verdict) {
	case AUTH_YES:
		if (read_plan(r, request->query) != NULL)
			conn_respond_error(c, 500, "Internal server error",
					   NULL); /* out of memory, by now */
		else if (is_all_allowed(r, c))
			accept_client(r, c, request);
		else
			authorize(r, c, request);
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

/* --- the raw protocol --------------------------------------------------- */

static void subscribe_raw(struct routes *r, struct conn *c,
			  const struct topic_key *key)
{
	struct client *client = conn_user(c);

	client->only.form = MESSAGE_FRAME;
	/* A client chooses how long the names are that a topic keeps. */
	if (memory_level() == MEMORY_FULL ||
	    subscribers_add(&r->subscribers, &client->only, c, key, NULL,
			    NULL) != 0) {
		conn_end(c, ENDING_no_memory, NULL);
		return;
	}
	forget_session(r, client);
}

/* Returns whether `message` is a subscription; if not, the client is ended. */
static bool read_raw(struct routes *r, struct conn *c, struct span message,
		     struct topic_key *key)
{
	struct json_error error;
	int status = json_read_subscription(&r->subscription, message, &error);

	if (status != 0)
		conn_end(c,
			 status == 400   ? ENDING_bad_data
			 : status == 422 ? ENDING_policy
					 : ENDING_no_memory,
			 error.text);
	*key = (struct topic_key){r->subscription.publisher,
				  r->subscription.topic};
	return status == 0;
}

void routes_on_raw_message(struct routes *r, struct conn *c,
			   struct span message)
{
	const struct client *client = conn_user(c);
	struct topic_key key;

	if (client->only.topic != NULL ||
	    (client->session != NULL && client->session->several_count > 0)) {
		conn_end(c, ENDING_policy, "already subscribed");
		return;
	}
	if (!read_raw(r, c, message, &key))
		return;
	switch (routes_check_topic(r, c, &key, message)) {
	case ROUTES_ALLOWED:
		subscribe_raw(r, c, &key);
		break;
	case ROUTES_CHECKING:
		break;
	case ROUTES_BUSY:
		conn_end(c, ENDING_busy, NULL);
		break;
	case ROUTES_NO_MEMORY:
		conn_end(c, ENDING_no_memory, NULL);
		break;
	}
}

static void on_raw_checked(struct routes *r, struct conn *c,
			   struct span message, enum auth_verdict verdict)
{
	struct topic_key key;

	if (verdict == AUTH_NO)
		conn_end(c, ENDING_forbidden, NULL);
	else if (verdict == AUTH_FAILED)
		conn_end(c, ENDING_auth_failed, NULL);
	else if (read_raw(r, c, message, &key))
		subscribe_raw(r, c, &key);
}

/* --- checks of messages ------------------------------------------------- */

enum routes_check routes_check_topic(struct routes *r, struct conn *c,
				     const struct topic_key *key,
				     struct span message)
{
	struct session *session;

	if (!asks_per_topic(r))
		return ROUTES_ALLOWED;
	session = routes_session(c);
	if (session == NULL ||
	    write_topic_uri(r, key, span_of(session->host)) != 0)
		return ROUTES_NO_MEMORY;
	struct auth_request asked = {.token = span_of(session->token),
				     .cookie = span_of(session->cookie),
				     .host = span_of(session->host)};
	if (buf_append(&session->waiting, message.bytes, message.len) != 0)
		return ROUTES_NO_MEMORY;
	memory_charge(session->waiting.cap);
	int rv = start_check(r, c, &asked);
	if (rv == 0) {
		conn_pause(c);
		return ROUTES_CHECKING;
	}
	drop_waiting(session);
	if (rv == UV_EALREADY)
		return ROUTES_ALLOWED;
	return rv == UV_EBUSY ? ROUTES_BUSY : ROUTES_NO_MEMORY;
}

static void on_message_verdict(struct routes *r, struct conn *c,
			       struct session *session,
			       enum auth_verdict verdict)
{
	struct buf waiting = session->waiting;
	struct span message = {waiting.bytes, waiting.len};

	/* The session may be gone before the message has been dealt with. */
	session->waiting = (struct buf){0};
	memory_credit(waiting.cap);
	conn_resume(c);
	if (session->is_v1)
		routes_on_command_checked(r, c, message, verdict);
	else
		on_raw_checked(r, c, message, verdict);
	buf_fini(&waiting);
}

/* The worker that asked for others, too, may have ended before them. */
static bool failed_by_our_end(const struct routes *r, enum auth_verdict verdict)
{
	return verdict == AUTH_FAILED &&
	       atomic_load_explicit(&r->worker->shared->is_draining,
				    memory_order_relaxed);
}

static void on_verdict(void *user, enum auth_verdict verdict)
{
	static const enum stats_counter counters[] = {
		[AUTH_YES] = STATS_auth_yes,
		[AUTH_NO] = STATS_auth_no,
		[AUTH_FAILED] = STATS_auth_failed,
	};
	struct conn *c = user;
	struct client *client = conn_user(c);
	struct session *session = client->session;
	struct routes *r = routes_of(c);

	session->check = NULL;
	stats_add(routes_stats(r), counters[verdict], 1);
	histogram_add(&routes_stats(r)->auth,
		      (uv_hrtime() - session->check_from_ns) / 1000, 1);
	if (failed_by_our_end(r, verdict))
		conn_end(c, ENDING_going_away, NULL);
	else if (conn_state(c) == CONN_PENDING)
		on_handshake_verdict(r, c, verdict);
	else
		on_message_verdict(r, c, session, verdict);
}

/* --- requests ----------------------------------------------------------- */

/* A client of isimud.v1 that has a publisher's credentials may publish; where a
 * browser may have added them by itself, they do not count. Returns false if it
 * has been answered. */
static bool read_publisher(struct routes *r, struct conn *c,
			   const struct http_request *request)
{
	struct session *session = routes_session(c);
	struct span publisher;
	struct span password;
	char *copy = NULL;
	int rv;

	if (session == NULL)
		goto no_memory;
	rv = routes_decode_credentials(r, c, &publisher, &password);
	if (rv == UV_ENOMEM)
		goto no_memory;
	if (rv != 0 || !routes_trusts_origin(r, request))
		return true;
	session->secret_generation = secret_generation();
	if (!secret_matches(password)) {
		conn_respond_error(c, 401, "Wrong credentials",
				   BASIC_CHALLENGE);
		return false;
	}
	if (keep(publisher, &copy) != 0)
		goto no_memory;
	session->publisher = (struct span){copy, publisher.len};
	return true;

no_memory:
	conn_respond_error(c, 500, "Internal server error", NULL);
	return false;
}

void routes_subscribe(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	const char *wrong = read_plan(r, request->query);

	/* One of an earlier request, that was refused. */
	forget_session(r, conn_user(c));
	if (wrong != NULL) {
		conn_respond_error(c, 400, wrong, NULL);
		return;
	}
	if (!check_kind(r, c, request))
		return;
	if (r->plan.topics_count > 0 && memory_level() == MEMORY_FULL) {
		conn_respond_error(c, 503, "Memory is full", RETRY);
		return;
	}
	if (is_v1(request) && !read_publisher(r, c, request))
		return;
	if (r->auth == NULL)
		accept_client(r, c, request);
	else if (find_token(r, request).bytes == NULL &&
		 find_cookie(r, request).bytes == NULL)
		conn_respond_error(c, 400, "Missing credentials", NULL);
	else
		authorize(r, c, request);
}
