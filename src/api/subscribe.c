/* subscribe.c - GET /sub: who is let in, and the start of it. */
#include "access/password.h"
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"
#include "codec/sse.h"

#include <stdlib.h>

/* Checks that it can be served, in one way or the other. Returns false if it
 * has been answered. */
static bool check_protocol(const struct routes *r, struct conn *c,
			   const struct http_request *request)
{
	const struct span type = SPAN("text/event-stream");
	struct span accept = request->fields[HTTP_ACCEPT];
	bool has_topics = r->sub_query.topics_count > 0;

	/* With a key alone it was a handshake: a proxy has removed the rest. */
	if (r->sub_query.kind != SUB_STREAM ||
	    request->fields[HTTP_SEC_WEBSOCKET_KEY].bytes != NULL)
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

static void prepare(const struct sub_query *sub_query, struct subscriber *all,
		    enum message_form form)
{
	const struct sub_resume *resume = &sub_query->resume;
	unsigned count = sub_query->topics_count;
	bool is_event = message_forms[form].is_event;

	for (unsigned i = 0; i < count; i++) {
		all[i].form = (uint8_t)form;
		all[i].has_cursor = is_event && count > 1;
		all[i].is_last = i == count - 1;
		all[i].ordinal = (uint16_t)i;
		all[i].since = resume->is_wanted ? resume->positions[i] : 0;
	}
}

/* Tells an event stream that messages of a topic were lost; what comes is from
 * behind number `since` on. */
static int send_reset(struct routes *r, struct conn *c,
		      const struct topic_key *key, uint64_t since)
{
	struct buf data = {0};
	char id[CURSOR_MAX];
	size_t id_len = cursor_write(id, r->subscribers.epoch, since);
	const struct span start =
		SPAN("{\"reason\":\"messages were lost\",\"publisher\":");

	int rv = buf_append(&data, start.bytes, start.len);
	if (rv == 0)
		rv = json_write_string(&data, key->publisher);
	if (rv == 0)
		rv = buf_append(&data, ",\"topic\":", 9);
	if (rv == 0)
		rv = json_write_string(&data, key->name);
	if (rv == 0)
		rv = buf_append(&data, ",\"id\":", 6);
	if (rv == 0)
		rv = json_write_string(&data, (struct span){id, id_len});
	if (rv == 0)
		rv = buf_append(&data, "}", 1);
	r->page.len = 0;
	if (rv == 0)
		rv = sse_write_event(&r->page, SPAN(SSE_RESET),
				     (struct span){data.bytes, data.len});
	if (rv == 0)
		conn_send_text(c, (struct span){r->page.bytes, r->page.len});
	buf_fini(&data);
	return rv;
}

/* A client that can't be told in its protocol is ended, unless it named what it
 * wants then. */
static int tell_loss(struct routes *r, struct conn *c,
		     const struct subscriber *s)
{
	struct topic_key key = subscribers_key(s);

	if (conn_state(c) == CONN_EVENT_STREAM)
		return send_reset(r, c, &key, subscribers_since(s));
	if (r->sub_query.has_last)
		return 0;
	conn_end(c, CLOSE_REASON_not_resumed, NULL);
	return UV_ECANCELED;
}

/* Returns 0, UV_ENOMEM or UV_EAGAIN (subscribers_add()); or UV_ECANCELED, the
 * client being ended already. */
static int start_one(struct routes *r, struct conn *c, struct subscriber *s)
{
	const struct sub_resume *resume = &r->sub_query.resume;
	struct span topic = r->sub_query.topics[s->ordinal];
	struct topic_key key = {r->sub_query.publisher, topic};
	struct subscribers_resume from = {.resumes = resume->is_wanted,
					  .epoch = resume->epoch,
					  .after =
						  resume->positions[s->ordinal],
					  .last = r->sub_query.last};
	bool is_exact;

	int rv = subscribers_add(&r->subscribers, s, c, &key, &from, &is_exact);
	if (rv == 0 && resume->is_wanted && !is_exact)
		rv = tell_loss(r, c, s);
	return rv;
}

void routes_on_loss(struct subscribers *all, struct subscriber *s,
		    uint64_t from, uint64_t to)
{
	struct routes *r = CONTAINER_OF(all, struct routes, subscribers);
	struct topic_key key = subscribers_key(s);

	if (conn_state(s->conn) == CONN_EVENT_STREAM) {
		if (send_reset(r, s->conn, &key, to) != 0)
			conn_end_later(s->conn, CLOSE_REASON_no_memory);
	} else if (message_forms[s->form].has_envelope) {
		routes_send_gap(r, s->conn, &key, from, to);
	} else {
		conn_end_later(s->conn, CLOSE_REASON_not_resumed);
	}
}

void routes_on_reset(struct subscribers *all, struct subscriber *s)
{
	struct routes *r = CONTAINER_OF(all, struct routes, subscribers);
	struct topic_key key = subscribers_key(s);

	if (conn_state(s->conn) == CONN_EVENT_STREAM) {
		if (send_reset(r, s->conn, &key, s->since) != 0)
			conn_end_later(s->conn, CLOSE_REASON_no_memory);
	} else if (message_forms[s->form].has_envelope) {
		routes_send_reset(r, s->conn, &key, s->since);
	} else {
		conn_end_later(s->conn, CLOSE_REASON_renewed);
	}
}

/* What the client has got, before its history comes. */
static int write_position(struct routes *r, const struct subscriber *all,
			  struct buf *out)
{
	char id[CURSOR_MAX];

	if (all[0].has_cursor)
		return subscribers_write_cursor(&r->subscribers, all, out);
	size_t len =
		cursor_write(id, registry_epoch(r->worker->shared->registry),
			     subscribers_since(&all[0]));
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

/* Subscribes an open WebSocket or event stream to all topics of the query. */
static void start_subscribers(struct routes *r, struct conn *c,
			      enum message_form form)
{
	unsigned count = r->sub_query.topics_count;
	struct subscriber *all = make_subscribers(c, count);
	int rv = all == NULL ? UV_ENOMEM : 0;

	if (rv == 0)
		prepare(&r->sub_query, all, form);
	for (unsigned i = 0; rv == 0 && i < count; i++)
		rv = start_one(r, c, &all[i]);
	if (rv == 0 && message_forms[form].is_event)
		rv = send_position(r, c, all);
	if (rv != 0 && rv != UV_ECANCELED)
		conn_end(c,
			 rv == UV_EAGAIN ? CLOSE_REASON_busy
					 : CLOSE_REASON_no_memory,
			 NULL);
}

/* Clients that were cut off together should not all come back at once. */
static unsigned stream_retry_ms(const struct routes *r)
{
	uint64_t ms = routes_config(r)->sse_retry_ms;

	return (unsigned)(ms + uv_hrtime() / 1024 % (ms / 2 + 1));
}

static void start_stream(struct routes *r, struct conn *c)
{
	r->page.len = 0;
	if (sse_write_retry(&r->page, stream_retry_ms(r)) != 0) {
		routes_fail_for_now(r, c, routes_no_memory);
		return;
	}
	conn_stream(c, (struct span){r->page.bytes, r->page.len});
	if (conn_state(c) == CONN_EVENT_STREAM)
		start_subscribers(r, c,
				  message_form_for(conn_framing(c),
						   r->sub_query.has_envelopes));
}

/* What the client is told of the subprotocols it offered. A browser takes no
 * WebSocket that chose none of them. */
static struct span choose_subprotocol(enum sub_kind kind,
				      const struct http_request *request)
{
	struct span offered = request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL];

	if (kind == SUB_V1)
		return SPAN(ROUTES_SUBPROTOCOL);
	return http_list_find_prefix(offered, SPAN(ROUTES_BEARER_PREFIX));
}

static void start_websocket(struct routes *r, struct conn *c,
			    const struct http_request *request)
{
	const struct sub_query *sub_query = &r->sub_query;

	conn_upgrade(c, choose_subprotocol(sub_query->kind, request));
	if (conn_state(c) != CONN_WEBSOCKET)
		return;
	if (sub_query->kind == SUB_V1) {
		conn_mark(c);
		routes_start_session(r, c);
	} else if (sub_query->topics_count > 0) {
		start_subscribers(r, c,
				  message_form_for(conn_framing(c), false));
	}
}

/* --- admission ----------------------------------------------------------- */

/* Whether one more subscriber is let in now: the one place where that is
 * decided. Publishing, health and the like are not asked. Returns false if the
 * client has been refused. */
static bool admit(struct routes *r, struct conn *c)
{
	const struct worker_shared *shared = r->worker->shared;

	if (atomic_load_explicit(&shared->is_draining, memory_order_relaxed))
		routes_refuse_for_now(r, c, "The server is going away");
	else if (!memory_allows(MEMORY_FOR_SUBSCRIBING))
		routes_refuse_for_now(r, c, "Memory is tight");
	else if (!conn_take_place(c))
		routes_refuse_for_now(r, c, "Too many connections");
	else
		return true;
	return false;
}

static bool is_publisher(const struct client *client)
{
	return client->session != NULL &&
	       client->session->publisher.bytes != NULL;
}

/* All is allowed: what is asked for, by r->sub_query, begins. */
static void accept_client(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	struct client *client = conn_user(c);
	bool is_v1 = r->sub_query.kind == SUB_V1;
	bool subscribes_later = is_v1 || r->sub_query.topics_count == 0;

	/* Things may have changed while the authority was asked. */
	if (!admit(r, c))
		return;
	if (routes_asks_per_topic(r) && subscribes_later &&
	    routes_keep_credentials(r, c, request) != 0) {
		routes_fail_for_now(r, c, routes_no_memory);
		return;
	}
	/* What was needed for the check only is not kept. */
	if (!(routes_asks_per_topic(r) && subscribes_later) &&
	    !is_publisher(client))
		routes_forget_session(r, client);
	if (r->sub_query.kind == SUB_STREAM)
		start_stream(r, c);
	else
		start_websocket(r, c, request);
}

/* --- requests ----------------------------------------------------------- */

/* A client of isimud.v1 that has a publisher's credentials may publish; where a
 * browser may have added them by itself, they do not count. Returns false if it
 * has been answered. */
static bool read_publisher(struct routes *r, struct conn *c,
			   const struct http_request *request)
{
	struct session *session;
	struct span publisher;
	struct span password;
	const char *wrong;
	char *copy = NULL;
	int rv;

	rv = routes_decode_credentials(r, c, &publisher, &password);
	if (rv == UV_ENOMEM)
		goto no_memory;
	if (rv != 0 || !routes_trusts_origin(r, request))
		return true;
	unsigned secret = password_match(password);
	if (secret == 0) {
		routes_refuse_password(r, c, publisher);
		return false;
	}
	if (routes_check_name(publisher, &wrong) != 0) {
		conn_respond_error(c, 400, wrong, NULL);
		return false;
	}
	session = routes_session(c);
	if (session == NULL || routes_keep(publisher, &copy) != 0)
		goto no_memory;
	session->password = secret;
	session->publisher = (struct span){copy, publisher.len};
	return true;

no_memory:
	conn_respond_error(c, 500, "Internal server error", NULL);
	return false;
}

/* The place that the client names, as far as this node may be behind it. */
static struct routes_place place_of(const struct sub_query *sub_query)
{
	const struct sub_resume *resume = &sub_query->resume;
	struct routes_place place = {.is_foreign = resume->is_foreign};

	for (unsigned i = 0; resume->is_wanted && i < sub_query->topics_count;
	     i++)
		if (resume->positions[i] > place.highest)
			place.highest = resume->positions[i];
	return place;
}

void routes_subscribe(struct routes *r, struct conn *c,
		      const struct http_request *request)
{
	/* Of isimud.v1: of others it was seen at the head. */
	if (!routes_allows_origin(r, request)) {
		if (conn_check_upgrade(c))
			routes_refuse_origin(r, c);
		return;
	}
	const char *wrong;
	int rv = routes_read_sub_query(r, request, &wrong);

	/* One of an earlier request, that was refused. */
	if (!routes_is_waiting(c))
		routes_forget_session(r, conn_user(c));
	if (rv == UV_ENOMEM) {
		routes_fail_for_now(r, c, routes_no_memory);
		return;
	}
	if (rv != 0) {
		conn_respond_error(c, 400, wrong, NULL);
		return;
	}
	if (!check_protocol(r, c, request))
		return;
	if (!admit(r, c))
		return;
	const struct routes_place place = place_of(&r->sub_query);
	switch (routes_await_log(r, c, &place, routes_subscribe)) {
	case ROUTES_LOG_KNOWN:
		break;
	case ROUTES_LOG_AWAITED:
		return;
	case ROUTES_LOG_BEHIND:
		routes_refuse_for_now(r, c, "This node is behind the others");
		return;
	}
	if (r->sub_query.kind == SUB_V1 && !read_publisher(r, c, request))
		return;
	routes_authorize(r, c, request, accept_client);
}
