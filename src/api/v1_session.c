/* v1_session.c - isimud.v1: commands of one connection, each answered. */
#include "access/password.h"
#include "api/private.h"
#include "base/memory.h"
#include "server/relief.h"

#include <stdlib.h>

#define SUBSCRIBED_MIN 4 /* room for so many subscriptions at first */

/* Answers with what was written to r->page. Ends nothing inside the call, so
 * that what a caller has of the session stays. */
static void send_answer(struct routes *r, struct conn *c, int written)
{
	if (written != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	else
		conn_send_text(c, (struct span){r->page.bytes, r->page.len});
}

static void answer_error(struct routes *r, struct conn *c, struct span ref,
			 enum v1_error code, const char *text)
{
	stats_add(routes_stats(r), STATS_command_errors, 1);
	r->page.len = 0;
	send_answer(r, c, v1_write_error(&r->page, ref, code, text));
}

/* --- subscriptions ------------------------------------------------------ */

static struct subscriber *find_subscribed(struct client *client,
					  const struct topic_key *key)
{
	unsigned count = routes_subscriptions(client);

	for (unsigned i = 0; i < count; i++) {
		struct subscriber *s = routes_subscription(client, i);
		struct topic_key has = subscribers_key(s);
		if (span_equal(has.publisher, key->publisher) &&
		    span_equal(has.name, key->name))
			return s;
	}
	return NULL;
}

static int reserve_subscribed(struct session *session)
{
	if (session->subscribed_count < session->subscribed_cap)
		return 0;
	unsigned cap = session->subscribed_cap == 0
			       ? SUBSCRIBED_MIN
			       : 2 * session->subscribed_cap;
	struct subscriber **more =
		realloc(session->subscribed, cap * sizeof(struct subscriber *));
	if (more == NULL)
		return UV_ENOMEM;
	memory_charge((cap - session->subscribed_cap) *
		      sizeof(struct subscriber *));
	session->subscribed = more;
	session->subscribed_cap = cap;
	return 0;
}

/* One more of the session's. Returns it, or NULL without memory. */
static struct subscriber *add_on_heap(struct conn *c, bool is_lossy)
{
	enum message_form form = message_form_for(conn_framing(c), true);
	struct session *session = routes_session(c);
	struct subscriber *s;

	if (session == NULL || reserve_subscribed(session) != 0)
		return NULL;
	if (is_lossy)
		s = subscribers_lossy_new(form, &session->lossy_bytes);
	else
		s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	if (!is_lossy) {
		memory_charge(sizeof *s);
		s->form = (uint8_t)form;
	}
	session->subscribed[session->subscribed_count++] = s;
	return s;
}

/* Returns a subscriber that is to be subscribed, or NULL without memory. */
static struct subscriber *add_subscribed(struct conn *c, bool is_lossy)
{
	struct client *client = conn_user(c);
	struct subscriber *s = &client->only;

	if (is_lossy || s->topic != NULL)
		return add_on_heap(c, is_lossy);
	*s = (struct subscriber){0};
	s->form = (uint8_t)message_form_for(conn_framing(c), true);
	return s;
}

/* Gives back what add_subscribed() gave, once it is subscribed no more. */
static void give_back(struct client *client, struct subscriber *s)
{
	struct session *session = client->session;
	unsigned i = 0;

	if (s == &client->only)
		return;
	while (session->subscribed[i] != s)
		i++;
	session->subscribed[i] =
		session->subscribed[--session->subscribed_count];
	routes_free_subscriber(s);
}

/* A subscription that is asked for, by a command or by the URL. */
struct wish {
	struct span ref;
	struct topic_key key;
	bool drops;
	struct subscribers_resume from;
};

/* Tells that it is in force; what came before it follows. */
static void welcome(struct routes *r, struct conn *c, const struct wish *wish,
		    const struct subscriber *s, bool is_exact)
{
	enum v1_resumed resumed = V1_NOT_ASKED;
	char id[CURSOR_MAX];

	if (wish->from.resumes)
		resumed = is_exact ? V1_RESUMED : V1_NOT_RESUMED;
	size_t len =
		cursor_write(id, registry_epoch(r->worker->shared->registry),
			     subscribers_since(s));
	r->page.len = 0;
	send_answer(r, c,
		    v1_write_subscribed(&r->page, wish->ref,
					wish->key.publisher, wish->key.name,
					(struct span){id, len}, resumed));
}

void routes_send_gap(struct routes *r, struct conn *c,
		     const struct topic_key *key, uint64_t from, uint64_t to)
{
	uint64_t epoch = r->subscribers.epoch;
	char first[CURSOR_MAX];
	char last[CURSOR_MAX];
	struct span from_id = {first, cursor_write(first, epoch, from)};
	struct span to_id = {last, cursor_write(last, epoch, to)};

	r->page.len = 0;
	send_answer(r, c,
		    v1_write_gap(&r->page, key->publisher, key->name, from_id,
				 to_id));
}

void routes_send_reset(struct routes *r, struct conn *c,
		       const struct topic_key *key, uint64_t since)
{
	char id[CURSOR_MAX];
	size_t len = cursor_write(id, r->subscribers.epoch, since);

	r->page.len = 0;
	send_answer(r, c,
		    v1_write_reset(&r->page, key->publisher, key->name,
				   (struct span){id, len}));
}

static void subscribe_wish(struct routes *r, struct conn *c,
			   const struct wish *wish)
{
	struct subscriber *s;
	bool is_exact = false;

	/* A client chooses how long the names are that a topic keeps. */
	if (!memory_allows(MEMORY_FOR_SUBSCRIBING))
		goto no_memory;
	s = add_subscribed(c, wish->drops);
	if (s == NULL)
		goto no_memory;
	int rv = subscribers_add(&r->subscribers, s, c, &wish->key, &wish->from,
				 &is_exact);
	if (rv != 0) {
		give_back(conn_user(c), s);
		if (rv != UV_EAGAIN)
			goto no_memory;
		answer_error(r, c, wish->ref, V1_busy, NULL);
		return;
	}
	welcome(r, c, wish, s, is_exact);
	return;

no_memory:
	answer_error(r, c, wish->ref, V1_no_memory, NULL);
}

static void unsubscribe(struct routes *r, struct conn *c,
			const struct v1_command *command)
{
	struct client *client = conn_user(c);
	struct topic_key key = {command->publisher, command->topic};
	struct subscriber *s = find_subscribed(client, &key);

	if (s == NULL) {
		answer_error(r, c, command->ref, V1_not_subscribed, NULL);
		return;
	}
	subscribers_remove(&r->subscribers, s);
	give_back(client, s);
	r->page.len = 0;
	send_answer(r, c,
		    v1_write_unsubscribed(&r->page, command->ref,
					  command->publisher, command->topic));
}

/* Reads what a subscribe command wishes. Returns whether it can be granted; if
 * not, it has been answered. */
static bool read_wish(struct routes *r, struct conn *c,
		      const struct v1_command *command, struct wish *wish)
{
	struct client *client = conn_user(c);

	*wish = (struct wish){.ref = command->ref,
			      .key = {command->publisher, command->topic},
			      .drops = command->drops,
			      .from.resumes = command->since.bytes != NULL,
			      .from.last = command->last};
	if (find_subscribed(client, &wish->key) != NULL)
		answer_error(r, c, command->ref, V1_already_subscribed, NULL);
	else if (routes_subscriptions(client) ==
		 routes_config(r)->subscriptions_max)
		answer_error(r, c, command->ref, V1_too_many_subscriptions,
			     NULL);
	else if (wish->from.resumes &&
		 cursor_parse(command->since, 1, &wish->from.epoch,
			      &wish->from.after) != 0)
		answer_error(r, c, command->ref, V1_bad_command,
			     "`since` must be an id");
	else
		return true;
	return false;
}

/* The place that a subscription goes on from. */
static struct routes_place wished_place(const struct routes *r,
					const struct wish *wish)
{
	struct routes_place place = {0};

	if (!wish->from.resumes)
		return place;
	place.is_foreign =
		wish->from.epoch != registry_epoch(r->worker->shared->registry);
	if (!place.is_foreign)
		place.highest = wish->from.after;
	return place;
}

static void on_awaited(struct routes *r, struct conn *c,
		       const struct http_request *none);

/* Subscribes once this node knows what the client has; until then `message` is
 * kept, and the connection paused. */
static void subscribe_when_known(struct routes *r, struct conn *c,
				 const struct wish *wish, struct span message)
{
	const struct routes_place place = wished_place(r, wish);

	switch (routes_await_log(r, c, &place, on_awaited)) {
	case ROUTES_LOG_KNOWN:
		subscribe_wish(r, c, wish);
		return;
	case ROUTES_LOG_BEHIND:
		answer_error(r, c, wish->ref, V1_busy, NULL);
		return;
	case ROUTES_LOG_AWAITED:
		break;
	}
	/* Made for the wait, if there was none. */
	struct session *session = routes_session_of(c);
	if (buf_append(&session->waiting, message.bytes, message.len) != 0) {
		routes_forget_wait(session);
		answer_error(r, c, wish->ref, V1_no_memory, NULL);
		return;
	}
	memory_charge(session->waiting.cap);
	conn_pause(c);
}

/* Reads a command that has waited. It was read before, so only memory can be
 * missing now. Returns whether it could be read; if not, it has been answered.
 */
static bool read_again(struct routes *r, struct conn *c, struct span message)
{
	enum v1_error code;
	struct json_error error;

	if (v1_read(&r->command, message, &code, &error) == 0)
		return true;
	answer_error(r, c, r->command.ref, code, error.text);
	return false;
}

/* Returns whether it waits on. */
static bool try_again(struct routes *r, struct conn *c, struct span message)
{
	struct wish wish;

	if (!read_again(r, c, message) || !read_wish(r, c, &r->command, &wish))
		return false;
	subscribe_when_known(r, c, &wish, message);
	return routes_is_waiting(c);
}

/* routes_request_cb, of a message */
static void on_awaited(struct routes *r, struct conn *c,
		       const struct http_request *none)
{
	struct session *session = routes_session_of(c);
	struct buf waiting = session->waiting;
	(void)none;

	session->waiting = (struct buf){0};
	memory_credit(waiting.cap);
	conn_resume(c);
	if (!try_again(r, c, (struct span){waiting.bytes, waiting.len}))
		routes_forget_wait(session);
	buf_fini(&waiting);
}

/* routes_checked_cb */
static void on_command_checked(struct routes *r, struct conn *c,
			       struct span message, enum auth_answer answer)
{
	struct v1_command *command = &r->command;
	struct wish wish;

	if (!read_again(r, c, message))
		return;
	if (answer == AUTH_NO || answer == AUTH_FORBIDDEN)
		answer_error(r, c, command->ref, V1_forbidden, NULL);
	else if (answer != AUTH_YES)
		answer_error(r, c, command->ref,
			     answer == AUTH_BUSY ? V1_busy : V1_auth_failed,
			     NULL);
	else if (read_wish(r, c, command, &wish))
		subscribe_when_known(r, c, &wish, message);
}

static void ask_and_subscribe(struct routes *r, struct conn *c,
			      const struct v1_command *command,
			      struct span message)
{
	struct wish wish;

	if (!read_wish(r, c, command, &wish))
		return;
	switch (routes_check_topic(r, c, &wish.key, message,
				   on_command_checked)) {
	case ROUTES_ALLOWED:
		subscribe_when_known(r, c, &wish, message);
		break;
	case ROUTES_CHECKING:
		break;
	case ROUTES_BUSY:
		answer_error(r, c, command->ref, V1_busy, NULL);
		break;
	case ROUTES_NO_MEMORY:
		answer_error(r, c, command->ref, V1_no_memory, NULL);
		break;
	}
}

void routes_start_session(struct routes *r, struct conn *c)
{
	const struct sub_query *sub_query = &r->sub_query;
	struct wish wish = {.drops = false};

	for (unsigned i = 0; i < sub_query->topics_count; i++) {
		wish.key = (struct topic_key){sub_query->publisher,
					      sub_query->topics[i]};
		wish.from = (struct subscribers_resume){
			.resumes = sub_query->resume.is_wanted,
			.epoch = sub_query->resume.epoch,
			.after = sub_query->resume.positions[i],
			.last = sub_query->last};
		subscribe_wish(r, c, &wish);
		if (conn_state(c) != CONN_WEBSOCKET)
			return;
	}
}

/* --- publishing --------------------------------------------------------- */

/* The passwords may have been changed since the handshake. */
static bool may_publish(const struct session *session)
{
	return session != NULL && session->publisher.bytes != NULL &&
	       password_is_valid(session->password);
}

static void answer_published(struct routes *r, struct conn *c, struct span ref,
			     uint64_t epoch,
			     const struct registry_receipt *receipt)
{
	char id[CURSOR_MAX];
	size_t len = cursor_write(id, epoch, receipt->sequence);

	r->page.len = 0;
	send_answer(r, c,
		    v1_write_published(&r->page, ref, (struct span){id, len},
				       receipt->subscribers));
}

/* routes_published_cb; the `ref` of the command waits in the session. */
static void on_command_published(struct routes *r, struct conn *c,
				 const struct bus_request *q)
{
	struct session *session = routes_session_of(c);
	struct span ref = {session->waiting.bytes, session->waiting.len};
	struct registry_receipt receipt = {.sequence = q->number};
	struct span body = {q->body, q->len};
	struct record_publication p;

	if (q->outcome == BUS_PUBLISHED && record_next(&body, &p)) {
		struct topic_key key = {p.publisher, p.topic};
		receipt.subscribers =
			worker_count_subscribers(r->worker->shared, &key);
		stats_add(routes_stats(r), STATS_published, 1);
		stats_add(routes_stats(r), STATS_published_bytes, p.data.len);
		routes_log_published(r, &key, p.traceparent, q->epoch,
				     &receipt);
		answer_published(r, c, ref, q->epoch, &receipt);
	} else if (q->outcome == BUS_UNKNOWN) {
		answer_error(r, c, ref, V1_unknown_outcome,
			     "it may have been published");
	} else {
		stats_add(routes_stats(r), STATS_publish_full, 1);
		answer_error(r, c, ref, V1_busy, NULL);
	}
	routes_drop_waiting(session);
	conn_resume(c);
}

/* The log has it first. */
static void publish_later(struct routes *r, struct conn *c,
			  const struct v1_command *command)
{
	struct session *session = routes_session_of(c);
	const struct json_publication one = {.topic = command->topic,
					     .data = command->data};
	const struct batch batch = {session->publisher, &one, 1, false};
	enum v1_error code = V1_no_memory;

	int rv = buf_append(&session->waiting, command->ref.bytes,
			    command->ref.len);
	memory_charge(session->waiting.cap);
	if (rv == 0)
		rv = routes_replicate(r, c, &batch, NULL, on_command_published);
	if (rv == 0) {
		conn_pause(c);
		return;
	}
	routes_drop_waiting(session);
	if (rv == UV_ENOTCONN || rv == UV_ENOBUFS) {
		stats_add(routes_stats(r), STATS_publish_full, 1);
		code = V1_busy;
	}
	if (rv == UV_E2BIG)
		answer_error(r, c, command->ref, V1_bad_command,
			     "it is too long for the log");
	else
		answer_error(r, c, command->ref, code, NULL);
}

static void publish_command(struct routes *r, struct conn *c,
			    const struct v1_command *command)
{
	const struct session *session = routes_session_of(c);
	struct registry_receipt receipt;

	if (!may_publish(session)) {
		stats_add(routes_stats(r), STATS_publish_denied, 1);
		answer_error(r, c, command->ref, V1_forbidden,
			     "the handshake had no credentials that may "
			     "publish");
		return;
	}
	if (!relief_find_memory(r->worker)) {
		stats_add(routes_stats(r), STATS_publish_full, 1);
		answer_error(r, c, command->ref, V1_busy, NULL);
		return;
	}
	if (r->worker->shared->bus != NULL) {
		publish_later(r, c, command);
		return;
	}
	struct topic_key key = {session->publisher, command->topic};
	int rv = routes_publish_one(r, &key, command->data, &receipt);
	if (rv != 0) {
		stats_add(routes_stats(r), STATS_publish_full, 1);
		answer_error(r, c, command->ref,
			     rv == UV_ENOBUFS ? V1_busy : V1_no_memory, NULL);
		return;
	}
	answer_published(r, c, command->ref,
			 registry_epoch(r->worker->shared->registry), &receipt);
}

/* --- commands ----------------------------------------------------------- */

static void ping(struct routes *r, struct conn *c,
		 const struct v1_command *command)
{
	r->page.len = 0;
	send_answer(r, c, v1_write_pong(&r->page, command->ref));
}

void routes_on_command(struct routes *r, struct conn *c, struct span message)
{
	struct v1_command *command = &r->command;
	enum v1_error code;
	struct json_error error;

	stats_add(routes_stats(r), STATS_commands, 1);
	if (v1_read(command, message, &code, &error) != 0) {
		answer_error(r, c, command->ref, code, error.text);
		return;
	}
	switch (command->type) {
	case V1_SUBSCRIBE:
		ask_and_subscribe(r, c, command, message);
		break;
	case V1_UNSUBSCRIBE:
		unsubscribe(r, c, command);
		break;
	case V1_PUBLISH:
		publish_command(r, c, command);
		break;
	case V1_PING:
		ping(r, c, command);
		break;
	}
}
