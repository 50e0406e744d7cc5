/* routes.c - the application that a worker runs: what a connection's events
 * mean, and what is kept for all clients of a worker. */
#include "api/routes.h"

#include "api/private.h"

#include <stdlib.h>

#define SUBSCRIBE_MAX 65536 /* bytes of a message from a subscriber */
/* For which history is sent in one iteration of the loop, but for the last
 * message. */
#define TURNS_NS UINT64_C(1000000)

/* --- messages, and the end ---------------------------------------------- */

static void on_client_message(struct conn *c, bool is_text, struct span message)
{
	if (!is_text)
		conn_end(c, CLOSE_REASON_binary, NULL);
	else if (conn_is_marked(c))
		routes_on_command(routes_of(c), c, message);
	else
		routes_on_raw_message(routes_of(c), c, message);
}

/* Gives one of the subscriptions of a URL its turn, if any is behind. */
static void catch_up_of_url(struct routes *r, struct client *client)
{
	struct session *session = client->session;
	unsigned count = session == NULL ? 0 : session->several_count;

	if (subscribers_catch_up(&r->subscribers, &client->only))
		return;
	for (unsigned i = 0; i < count; i++)
		if (subscribers_catch_up(&r->subscribers, &session->several[i]))
			return;
}

/* Returns whether `s` has no more use for room. */
static bool use_room(struct routes *r, struct subscriber *s)
{
	if (subscribers_catch_up(&r->subscribers, s))
		return false;
	return !s->is_lossy || subscribers_feed(&r->subscribers, s);
}

/* Takes turns, so that one subscription does not keep all the room there is. */
static void on_room(struct conn *c)
{
	struct client *client = conn_user(c);
	struct session *session = client->session;
	struct routes *r = routes_of(c);

	if (!conn_is_marked(c)) {
		catch_up_of_url(r, client);
		return;
	}
	unsigned count = routes_subscriptions(client);
	unsigned first = session == NULL ? 0 : session->fed;
	for (unsigned i = 0; i < count; i++) {
		unsigned at = (first + i) % count;
		if (use_room(r, routes_subscription(client, at)))
			continue;
		if (session != NULL)
			session->fed = (at + 1) % count;
		return;
	}
}

static bool on_leaving(struct conn *c)
{
	return routes_refuse_at_the_end(routes_of(c), c);
}

/* Of several subscriptions the first, and how many there are. */
static size_t describe(struct conn *c,
		       struct log_field fields[static CONN_FIELDS_MAX])
{
	struct client *client = conn_user(c);
	const struct session *session = client->session;
	const struct subscriber *s = &client->only;
	struct topic_key key = {{0}, {0}};
	unsigned count = routes_subscriptions(client);

	if (session != NULL && session->several_count > 0) {
		s = &session->several[0];
		count = session->several_count;
	} else if (count > 0) {
		s = routes_subscription(client, 0);
	}
	if (s->topic != NULL)
		key = subscribers_key(s);
	fields[0] = log_number("worker", routes_of(c)->worker->index);
	fields[1] = log_span("publisher", key.publisher);
	fields[2] = log_span("topic", key.name);
	fields[3] = count > 1 ? log_number("count", count)
			      : log_text("count", NULL);
	return 4;
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
		.auth_cache = r->worker->shared->auth_cache,
		.worker = r->worker->index};

	if (config->auth_url == NULL)
		return 0;
	return auth_open(&r->auth, &r->worker->loop, &options);
}

static int open_deflater(struct routes *r)
{
	const struct config *config = routes_config(r);

	if (config->compress_min_bytes == 0)
		return 0;
	r->subscribers.deflater = deflater_new((int)config->compress_level,
					       config->compress_min_bytes);
	return r->subscribers.deflater == NULL ? UV_ENOMEM : 0;
}

static int routes_open(struct worker *w, void **state)
{
	const struct config *config = w->shared->config;
	struct routes *r = calloc(1, sizeof *r);
	if (r == NULL)
		return UV_ENOMEM;
	r->worker = w;
	int rv = password_memory_init(&r->password);
	if (rv != 0)
		goto err_routes;
	rv = subscribers_init(&r->subscribers, w->shared->registry, w->index,
			      config->buffered_max_bytes, &w->stats);
	if (rv != 0)
		goto err_routes;
	rv = open_deflater(r);
	if (rv != 0)
		goto err_subscribers;
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

static void routes_tick(void *state)
{
	routes_drop_gone_checks(state);
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
	.on_head = routes_on_head,
	.on_request = routes_on_request,
	.fields = routes_origin_fields,
	.on_message = on_client_message,
	.on_room = on_room,
	.is_committed = routes_is_committed,
	.on_leaving = on_leaving,
	.describe = describe,
	.on_end = on_end,
};

const struct worker_app routes_app = {
	.hooks = &hooks,
	.message_max_bytes = SUBSCRIBE_MAX,
	.open = routes_open,
	.deliver = routes_deliver,
	.flushed = routes_flushed,
	.notify = routes_notify,
	.tick = routes_tick,
	.close = routes_close,
};
