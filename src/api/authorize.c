/* authorize.c - who may subscribe: tokens, and what AUTH_URL says of them.
 *
 * The request stays there until it is answered, so while the authority is being
 * asked nothing is kept of it: its query is read again when the answer comes.
 */
#include "api/private.h"
#include "base/memory.h"

/* --- what is asked -------------------------------------------------------- */

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
	static const char *const varying[] = {
		"access_token", "since", "lastEventId", "Last-Event-ID", NULL};

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

static void on_authority_answer(void *user, enum auth_answer answer);

/* Finds whose check it is: `peer` receives the address. What an open WebSocket
 * asks for comes from where its handshake came. An authority may decide by the
 * scheme, so answers are shared by it. Returns 0 or UV_ENOMEM. */
static int name_client(struct routes *r, struct conn *c,
		       struct session *session, char peer[static CONN_PEER_MAX])
{
	if (conn_state(c) == CONN_PENDING) {
		routes_find_client(c, peer);
		session->scheme = routes_find_scheme(c);
	} else if (session->peer != NULL) {
		snprintf(peer, CONN_PEER_MAX, "%s", session->peer);
	} else {
		conn_peer(c, peer);
	}
	int rv = buf_append(&r->key_uri, " ", 1);
	return rv != 0 ? rv
		       : buf_append(&r->key_uri, session->scheme,
				    strlen(session->scheme));
}

/* Asks about r->uri. Returns as auth_check_start(). */
static int start_check(struct routes *r, struct conn *c,
		       struct auth_request *request)
{
	struct session *session = routes_session(c);
	char peer[CONN_PEER_MAX];

	if (session == NULL || name_client(r, c, session, peer) != 0)
		return UV_ENOMEM;
	request->peer = peer;
	request->scheme = session->scheme;
	request->method = SPAN("GET");
	request->uri = (struct span){r->uri.bytes, r->uri.len};
	request->key_uri = (struct span){r->key_uri.bytes, r->key_uri.len};
	int rv = auth_check_start(r->auth, request, on_authority_answer, c,
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

bool routes_asks_per_topic(const struct routes *r)
{
	return r->auth != NULL && routes_config(r)->auth_per_topic;
}

int routes_keep_credentials(struct routes *r, struct conn *c,
			    const struct http_request *request)
{
	struct session *session = routes_session(c);
	char found[CONN_PEER_MAX];
	char peer[CONN_PEER_MAX];

	if (session == NULL)
		return UV_ENOMEM;
	int rv = routes_keep(r->sub_query.token, &session->token);
	if (rv == 0)
		rv = routes_keep(r->sub_query.cookie, &session->cookie);
	if (rv == 0)
		rv = routes_keep(request->fields[HTTP_HOST], &session->host);
	session->scheme = routes_find_scheme(c);
	routes_find_client(c, found);
	conn_peer(c, peer);
	if (rv == 0 && strcmp(found, peer) != 0)
		rv = routes_keep(span_of(found), &session->peer);
	return rv;
}

static void refuse_check(struct routes *r, struct conn *c, int error)
{
	if (error == UV_EBUSY)
		routes_refuse_by_answer(r, c, AUTH_BUSY);
	else
		routes_fail_for_now(r, c, routes_no_memory);
}

/* Asks about the whole request, or about the next topic of its URL. */
static int check_next(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	struct session *session = routes_session(c);
	struct auth_request asked = {.token = r->sub_query.token,
				     .cookie = r->sub_query.cookie,
				     .host = request->fields[HTTP_HOST]};
	int rv;

	if (session == NULL)
		return UV_ENOMEM;
	if (routes_asks_per_topic(r) && r->sub_query.topics_count > 0) {
		struct topic_key key = {
			r->sub_query.publisher,
			r->sub_query.topics[session->topics_allowed]};
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

	return !routes_asks_per_topic(r) || r->sub_query.topics_count == 0 ||
	       ++session->topics_allowed == r->sub_query.topics_count;
}

/* Asks until all is allowed, or an answer has to be waited for. */
static void ask_all(struct routes *r, struct conn *c,
		    const struct http_request *request,
		    routes_request_cb on_allowed)
{
	for (;;) {
		int rv = check_next(r, c, request);
		if (rv == 0) {
			routes_session_of(c)->next.allowed = on_allowed;
			return; /* on_authority_answer() goes on */
		}
		if (rv != UV_EALREADY) {
			refuse_check(r, c, rv);
			return;
		}
		if (is_all_allowed(r, c)) {
			on_allowed(r, c, request);
			return;
		}
	}
}

static void on_handshake_answer(struct routes *r, struct conn *c,
				enum auth_answer answer)
{
	const struct http_request *request = conn_request(c);
	routes_request_cb on_allowed = routes_session_of(c)->next.allowed;
	/* Another client's query may have been read since. */
	const char *wrong;
	int rv = routes_read_sub_query(r, request, &wrong);

	if (answer != AUTH_YES)
		routes_refuse_by_answer(r, c, answer);
	else if (rv != 0)
		routes_fail_for_now(r, c, routes_no_memory); /* by now */
	else if (is_all_allowed(r, c))
		on_allowed(r, c, request);
	else
		ask_all(r, c, request, on_allowed);
}

/* Until then clients are looked at; checks may be many. */
static _Thread_local uint64_t look_until_ns;

/* auth_visit() */
static bool look_at(void *user)
{
	struct conn *c = user;

	if (conn_has_hung_up(c))
		conn_end_later(c, CLOSE_REASON_peer_gone);
	return uv_hrtime() < look_until_ns;
}

void routes_drop_gone_checks(struct routes *r)
{
	if (r->auth == NULL)
		return;
	look_until_ns = uv_hrtime() + CONN_ROUND_NS;
	auth_visit(r->auth, look_at);
}

void routes_authorize(struct routes *r, struct conn *c,
		      const struct http_request *request,
		      routes_request_cb on_allowed)
{
	if (r->auth == NULL)
		on_allowed(r, c, request);
	else if (r->sub_query.token.bytes == NULL &&
		 r->sub_query.cookie.bytes == NULL)
		routes_refuse_unnamed(c);
	else
		ask_all(r, c, request, on_allowed);
}

/* --- checks of messages ------------------------------------------------- */

enum routes_check routes_check_topic(struct routes *r, struct conn *c,
				     const struct topic_key *key,
				     struct span message,
				     routes_checked_cb on_checked)
{
	struct session *session;

	if (!routes_asks_per_topic(r))
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
		session->next.checked = on_checked;
		conn_pause(c);
		return ROUTES_CHECKING;
	}
	routes_drop_waiting(session);
	if (rv == UV_EALREADY)
		return ROUTES_ALLOWED;
	return rv == UV_EBUSY ? ROUTES_BUSY : ROUTES_NO_MEMORY;
}

static void on_message_answer(struct routes *r, struct conn *c,
			      struct session *session, enum auth_answer answer)
{
	struct buf waiting = session->waiting;
	struct span message = {waiting.bytes, waiting.len};

	/* The session may be gone before the message has been dealt with. */
	session->waiting = (struct buf){0};
	memory_credit(waiting.cap);
	conn_resume(c);
	session->next.checked(r, c, message, answer);
	buf_fini(&waiting);
}

/* The worker that asked for others, too, may have ended before them. */
static bool failed_by_our_end(const struct routes *r, enum auth_answer answer)
{
	return answer == AUTH_FAILED &&
	       atomic_load_explicit(&r->worker->shared->is_draining,
				    memory_order_relaxed);
}

static void on_authority_answer(void *user, enum auth_answer answer)
{
	static const enum stats_counter counters[] = {
		[AUTH_YES] = STATS_auth_yes,
		[AUTH_NO] = STATS_auth_no,
		[AUTH_FORBIDDEN] = STATS_auth_no,
		[AUTH_AWAY] = STATS_auth_failed,
		[AUTH_FAILED] = STATS_auth_failed,
		[AUTH_BUSY] = STATS_auth_busy,
	};
	struct conn *c = user;
	struct client *client = conn_user(c);
	struct session *session = client->session;
	struct routes *r = routes_of(c);

	session->check = NULL;
	stats_add(routes_stats(r), counters[answer], 1);
	histogram_add(&routes_stats(r)->auth,
		      (uv_hrtime() - session->check_from_ns) / 1000, 1);
	if (failed_by_our_end(r, answer))
		conn_end(c, CLOSE_REASON_going_away, NULL);
	else if (conn_state(c) == CONN_PENDING)
		on_handshake_answer(r, c, answer);
	else
		on_message_answer(r, c, session, answer);
}
