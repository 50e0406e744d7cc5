/* private.h - what the files of api/ share:
 *
 * routes.c     the application: events of connections, a worker's state
 * dispatch.c   the table of routes: which request goes where
 * operate.c    GET /healthz, /readyz, /metrics
 * origins.c    what pages of browsers may ask for
 * caller.c     who sends a request: address, credentials
 * publish.c    POST /pub, POST /pub/TOPIC
 * topics.c     GET /topics
 * status.c     GET /status, /status/recent
 * web.c        GET /isimud.js, the console
 * subscribe.c  GET /sub: the start of it
 * sub_query.c       GET /sub: what it asks for
 * authorize.c  who may subscribe
 * refuse.c     GET /sub that can't be served
 * client.c     what is kept of a client
 * v1_session.c isimud.v1
 * raw.c        the original's protocol
 * replicate.c  publishing by way of the log
 * wait.c       clients whose last id is ahead of this node
 *
 * Owner: everything here belongs to one worker's thread; routes_of() and
 * routes_stats() check it. */
#ifndef ISIMUD_API_PRIVATE_H
#define ISIMUD_API_PRIVATE_H

#include "access/auth.h"
#include "access/password.h"
#include "api/routes.h"
#include "base/check.h"
#include "base/name.h"
#include "base/refuse.h"
#include "cluster/bus.h"
#include "codec/cursor.h"
#include "codec/json/json.h"
#include "codec/v1_codec.h"
#include "config/config.h"
#include "fanout/subscribers.h"

#define ROUTES_BEARER_PREFIX "bearer." /* of a subprotocol that is a token */
#define ROUTES_SUBPROTOCOL   "isimud.v1"

struct routes;

/* In which protocol GET /sub is asked for. */
enum sub_kind {
	SUB_STREAM,
	SUB_RAW, /* a WebSocket, without a subprotocol of ours */
	SUB_V1,  /* a WebSocket that speaks isimud.v1 */
};

/* Where a client goes on. */
struct sub_resume {
	bool is_wanted;
	bool is_foreign; /* an id of another epoch was among those it named */
	uint64_t epoch;
	uint64_t positions[CURSOR_PARTS_MAX]; /* one a topic */
};

/* What a GET /sub asks for, by its query and its fields. It lies in
 * `routes.query` and in the request, and so is good until the next is read. */
struct sub_query {
	enum sub_kind kind;
	struct span publisher; /* absent: no topic is named */
	struct span topics[CURSOR_PARTS_MAX];
	unsigned topics_count;
	bool has_last;
	uint32_t last; /* so many of the history, where it is not exact */
	struct sub_resume resume;
	bool has_envelopes;
	struct span token;  /* absent: it shows none */
	struct span cookie; /* absent: none, or AUTH_COOKIE is off */
};

/* What is published, in order. */
struct batch {
	struct span publisher;
	const struct json_publication *all;
	size_t count;
	bool is_array;
};

/* State of one worker, for all its clients. */
struct routes {
	struct worker *worker;
	struct auth *auth; /* NULL without AUTH_URL */
	struct subscribers subscribers;
	/* Scratch, used within one call. */
	struct buf page;
	struct buf fields; /* of the answer: origins */
	struct buf credentials;
	/* Whose credentials these are, or NULL. Another client may be read
	 * while this one sends its content. */
	const struct conn *credentials_of;
	struct span username;
	struct password_memory password;
	struct buf query;
	struct buf uri;
	struct buf key_uri;
	struct buf record; /* what goes to the log */
	struct list waits; /* clients that are ahead of this node, by link */
	uv_timer_t *look;  /* for those; NULL without a cluster */
	struct sub_query sub_query;
	struct json_publications publications;
	struct json_subscription subscription;
	struct v1_command command;
};

/* Continuations: called when what a client waited for is there. */
typedef void (*routes_request_cb)(struct routes *r, struct conn *c,
				  const struct http_request *request);
typedef void (*routes_checked_cb)(struct routes *r, struct conn *c,
				  struct span message, enum auth_answer answer);
typedef void (*routes_published_cb)(struct routes *r, struct conn *c,
				    const struct bus_request *q);

/* Where a client was, maybe on another node. */
struct routes_place {
	uint64_t highest; /* number, 0: none */
	bool is_foreign;  /* an id of another epoch */
};

/* A client that is ahead of this node (wait.c). */
struct log_wait {
	struct list link; /* in routes.waits */
	struct conn *conn;
	routes_request_cb on_turn;
	struct routes_place place;
	uint64_t epoch;    /* that was ours then */
	uint64_t ticket;   /* bus_ask_epoch(); 0: not asked */
	uint64_t until_ms; /* uv_now() */
};

/* State of a client that one subscriber does not hold; most clients have
 * none. */
struct session {
	struct auth_check *check; /* under way, or NULL */
	uint64_t check_from_ns;
	unsigned topics_allowed; /* of the URL, so far: AUTH_PER_TOPIC */

	/* What a later check needs: AUTH_PER_TOPIC. Heap, or absent. */
	char *token;
	char *cookie;
	char *host;
	char *peer;         /* its address, where a proxy told it */
	const char *scheme; /* by which it came; static text */
	/* The message whose subscription is being checked, or the `ref` of what
	 * is being published; reading is paused meanwhile. */
	struct buf waiting;
	struct bus_request *publishing; /* waits for the log, or NULL */
	struct log_wait *wait;          /* the same */
	bool is_leaving; /* a WebSocket that ends once `publishing` is answered
			  */
	/* The continuation of `check` or `publishing`, of which only one is
	 * under way at a time. */
	union {
		routes_request_cb allowed;     /* a handshake's check */
		routes_checked_cb checked;     /* a message's check */
		routes_published_cb published; /* the log has answered */
	} next;

	/* Who publishes by isimud.v1: the handshake had its credentials. Heap;
	 * absent: nobody may. */
	struct span publisher;
	unsigned password; /* the password that it had: password_match() */

	/* Subscriptions of isimud.v1 beside client.only, each on the heap: see
	 * routes_free_subscriber(). */
	struct subscriber **subscribed;
	unsigned subscribed_count;
	unsigned subscribed_cap;
	unsigned fed;       /* routes_subscription() that is first given room */
	size_t lossy_bytes; /* what waits in those that are lossy, together */
	/* Else: those of a URL with several topics. */
	struct subscriber *several;
	unsigned several_count;
};

/* What a client is, beside its connection (conn_user): as little as can be. One
 * that speaks isimud.v1 is marked (conn_mark). */
struct client {
	struct subscriber only; /* the one of a client with one topic */
	struct session *session;
};

/* The subscriptions of isimud.v1, in no order: a plain one lies in the client,
 * so that one with a single topic needs no session. */
static inline unsigned routes_subscriptions(const struct client *client)
{
	return (client->only.topic != NULL) +
	       (client->session == NULL ? 0
					: client->session->subscribed_count);
}

static inline struct subscriber *routes_subscription(struct client *client,
						     unsigned i)
{
	if (client->only.topic != NULL && i-- == 0)
		return &client->only;
	return client->session->subscribed[i];
}

/* The client's session, or NULL. */
static inline struct session *routes_session_of(struct conn *c)
{
	struct client *client = conn_user(c);
	return client->session;
}

static inline struct routes *routes_of(const struct conn *c)
{
	CHECK_ON_THREAD(conn_group_of(c)->owner);
	return conn_group_of(c)->context;
}

static inline const struct config *routes_config(const struct routes *r)
{
	return r->worker->shared->config;
}

static inline struct stats *routes_stats(struct routes *r)
{
	CHECK_ON_THREAD(r->worker->owner);
	return &r->worker->stats;
}

/* dispatch.c: conn_hooks (conn.h) */

void routes_on_head(struct conn *c, const struct http_request *request);
void routes_on_request(struct conn *c, const struct http_request *request);

/* operate.c */

void routes_show_health(struct routes *r, struct conn *c,
			const struct http_request *request);
void routes_show_readiness(struct routes *r, struct conn *c,
			   const struct http_request *request);

/* Whether /readyz answers 200. `*state` is "ready", or what keeps it from being
 * so. */
bool routes_is_ready(const struct routes *r, const char **state);

/* Whether the request has the password, or came by ADMIN_PORT, which needs
 * none. If not, it has been answered. */
bool routes_check_operator(struct routes *r, struct conn *c);

/* With the password, or on ADMIN_PORT. */
void routes_show_metrics(struct routes *r, struct conn *c,
			 const struct http_request *request);

/* origins.c */

/* Whether a page of the request's origin may ask, by ALLOWED_ORIGINS; a request
 * that is no page's may. */
bool routes_allows_origin(const struct routes *r,
			  const struct http_request *request);

/* Whether credentials that a browser may have added by itself can be trusted:
 * the request is no page's, or that of a page that is named, not just any. */
bool routes_trusts_origin(const struct routes *r,
			  const struct http_request *request);

/* Refuses a page whose origin is not allowed: 403, or of a PENDING handshake of
 * isimud.v1, which conn_check_upgrade() has passed, Close, 4403. Counted, and
 * logged. */
void routes_refuse_origin(struct routes *r, struct conn *c);

/* conn_hooks.fields: what a page of the request's origin may see of the answer.
 * Where the head could not be read, its origin may not be known: then that is
 * nothing, unless any may. */
const char *routes_origin_fields(struct conn *c,
				 const struct http_request *request,
				 struct span origin);

/* caller.c */

/* Decodes Basic credentials into r->credentials. Returns 0, UV_EINVAL if there
 * are none, or UV_ENOMEM. */
int routes_decode_credentials(struct routes *r, struct conn *c,
			      struct span *username, struct span *password);

/* Writes the address of the client of the current request: what a proxy of
 * TRUSTED_PROXIES reports, or else the peer's; "" for a Unix socket. */
void routes_find_client(struct conn *c, char out[static CONN_PEER_MAX]);

/* The scheme of the current request, "http" or "https", by the same rule. */
const char *routes_find_scheme(struct conn *c);

/* Logs, rate-limited by `limit`, that the request being answered was refused:
 * event, address, worker, path, traceparent, and the publisher and topic that
 * it is about. `publisher`: who it says it is, or absent. Overwrites
 * r->sub_query and r->uri. */
void routes_log_refusal(struct conn *c, struct log_limit *limit,
			struct span publisher, const char *why);

/* The same for a request without credentials that needs them. */
void routes_log_unnamed(struct conn *c);

/* Refuses a client of isimud.v1, whose handshake conn_check_upgrade() has
 * passed, so that a page sees why: accepts it and closes; it has no place among
 * subscribers meanwhile. `reason` NULL: that of `ending`. Returns false, with
 * nothing done, for any other client. */
bool routes_close_v1(struct conn *c, enum close_reason why, const char *reason);

/* Answers a wrong password, 401 (a client of isimud.v1: Close, 4401), and logs
 * it. An address that has presented too many (guesses.h) is answered late, by
 * 401, and loses the connection. */
void routes_refuse_password(struct routes *r, struct conn *c,
			    struct span publisher);

/* Decodes Basic credentials; where there are none, answers with the status
 * `missing`. Returns false if it has answered. */
bool routes_read_credentials(struct routes *r, struct conn *c, int missing,
			     struct span *username, struct span *password);

/* Whether the request has the password; sets r->username. If not, it has been
 * answered: with the status `missing` where there are no credentials (the
 * original answers 400 to publishers). */
bool routes_check_password(struct routes *r, struct conn *c, int missing);

/* The same, and the username must be valid as a publisher's name: UTF-8, at
 * most NAME_MAX_BYTES. */
bool routes_check_publisher(struct routes *r, struct conn *c, int missing);

/* Whether `name` can be a publisher's. Returns 0, or UV_EINVAL and `*wrong`, a
 * text for the client. */
int routes_check_name(struct span name, const char **wrong);

/* publish.c */

/* Checks the head of a publishing request before its content is read, so that
 * content is buffered only for publishers. Answers a request that it refuses.
 */
void routes_check_publish(struct routes *r, struct conn *c,
			  const struct http_request *request);
void routes_publish(struct routes *r, struct conn *c,
		    const struct http_request *request);

/* Makes one publication, counts it, and asks for relief where memory is scarce.
 * Returns 0; UV_ENOBUFS if too much is waiting, or UV_ENOMEM. */
int routes_publish_one(struct routes *r, const struct topic_key *key,
		       struct json_data data, struct registry_receipt *receipt);

/* Logs a publication at LOG_DEBUG; `traceparent` may be absent. What is
 * published by routes_publish_one() has been. */
void routes_log_published(struct routes *r, const struct topic_key *key,
			  struct span traceparent, uint64_t epoch,
			  const struct registry_receipt *receipt);

/* replicate.c */

/* Publishes by way of the log, with the identity of a key or NULL. Returns 0:
 * `on_published` is called with its answer later, if the client is still there;
 * UV_E2BIG, UV_ENOTCONN or UV_ENOBUFS (bus.h), or UV_ENOMEM. */
int routes_replicate(struct routes *r, struct conn *c, const struct batch *b,
		     const struct idempotency_request *key,
		     routes_published_cb on_published);

/* Takes a request back from the bus, and calls its continuation. */
void routes_on_replicated(struct routes *r, struct mailbox_note *note);

/* conn_hooks.is_committed: whether a publication of this connection waits for
 * the log's answer, which a WebSocket then gets before Close. */
bool routes_is_committed(struct conn *c);

/* wait.c */

/* Whether this node knows what a client has that was at `place`. */
enum routes_log {
	ROUTES_LOG_KNOWN,
	ROUTES_LOG_AWAITED, /* it waits: `on_turn` is called, to ask again; with
			       the request, or NULL of a WebSocket */
	ROUTES_LOG_BEHIND,  /* it has waited in vain */
};
enum routes_log routes_await_log(struct routes *r, struct conn *c,
				 const struct routes_place *place,
				 routes_request_cb on_turn);
bool routes_is_waiting(struct conn *c);
int routes_open_waits(struct routes *r); /* 0 or UV_ENOMEM */
void routes_close_waits(struct routes *r);

/* topics.c */
void routes_show_topics(struct routes *r, struct conn *c,
			const struct http_request *request);
void routes_show_topic(struct routes *r, struct conn *c,
		       const struct http_request *request);

/* status.c */
void routes_show_status(struct routes *r, struct conn *c,
			const struct http_request *request);

void routes_show_recent(struct routes *r, struct conn *c,
			const struct http_request *request);

/* web.c */
/* The console: a page, its style sheet, its script. */
void routes_show_console(struct routes *r, struct conn *c,
			 const struct http_request *request);
void routes_show_library(struct routes *r, struct conn *c,
			 const struct http_request *request);

/* client.c */

/* The client's session, made if there is none. NULL without memory. */
struct session *routes_session(struct conn *c);

/* Copies `s` to the heap, for a session, with a NUL behind it. An absent one
 * stays so. Returns 0 or UV_ENOMEM. */
int routes_keep(struct span s, char **out);

void routes_drop_waiting(struct session *session);

/* Ends a wait of wait.c, if there is one. */
void routes_forget_wait(struct session *session);

/* Cancels its check and its wait, removes its subscriptions, and frees it. */
void routes_forget_session(struct routes *r, struct client *client);

/* Frees one of session.subscribed, by which kind it is (is_lossy). It is not
 * subscribed any more. */
void routes_free_subscriber(struct subscriber *s);

/* The same, and all else there is of the client. */
void routes_forget(struct routes *r, struct conn *c);

/* sub_query.c */

/* In which protocol a GET /sub is asked for. */
enum sub_kind routes_kind_of(const struct http_request *request);

/* Reads what a GET /sub asks for into r->sub_query. Returns 0; UV_EINVAL and
 * `*wrong`, a text for the client; or UV_ENOMEM. */
int routes_read_sub_query(struct routes *r, const struct http_request *request,
			  const char **wrong);
extern const char routes_no_memory[]; /* the text for that */

/* subscribe.c */
void routes_subscribe(struct routes *r, struct conn *c,
		      const struct http_request *request);

/* subscribers.h: on_loss. An event stream gets `reset`, isimud.v1 a gap notice;
 * a raw WebSocket ends with 4410. */
void routes_on_reset(struct subscribers *all, struct subscriber *s);
void routes_on_loss(struct subscribers *all, struct subscriber *s,
		    uint64_t from, uint64_t to);

/* raw.c: the original's protocol */

/* The first message of a raw WebSocket that named no topic. */
void routes_on_raw_message(struct routes *r, struct conn *c,
			   struct span message);

/* refuse.c: for GET /sub that is PENDING (conn.h) */

/* Refuses a subscriber for now. An event stream gets 200, `retry` of 2 to 5
 * times SSE_RETRY, the event `close` with 1013 and `why`, and its end; a
 * WebSocket or HEAD gets 503 with Retry-After. Counted as refused. */
void routes_refuse_for_now(struct routes *r, struct conn *c, const char *why);

/* The same, with 500 instead of 503. */
void routes_fail_for_now(struct routes *r, struct conn *c, const char *why);

/* Refuses a subscriber without credentials. */
void routes_refuse_unnamed(struct conn *c);

/* Refuses a subscriber by what the authority has answered. */
void routes_refuse_by_answer(struct routes *r, struct conn *c,
			     enum auth_answer answer);

/* conn_hooks.on_leaving: the process ends. Answers an event stream; returns
 * false for any other request. */
bool routes_refuse_at_the_end(struct routes *r, struct conn *c);

/* authorize.c */

/* Whether the authority is asked about each subscription (AUTH_PER_TOPIC). */
bool routes_asks_per_topic(const struct routes *r);

/* Asks the authority about r->sub_query. Calls `on_allowed`, now or later, with
 * the query read again; or refuses the client. */
void routes_authorize(struct routes *r, struct conn *c,
		      const struct http_request *request,
		      routes_request_cb on_allowed);

/* Ends clients that have left while the authority is asked about them: nothing
 * is read from them meanwhile, and their checks may keep others waiting. To be
 * called now and then. */
void routes_drop_gone_checks(struct routes *r);

/* Copies token, cookie, host and address into the session, for checks of
 * subscriptions that come by message. Returns 0 or UV_ENOMEM. */
int routes_keep_credentials(struct routes *r, struct conn *c,
			    const struct http_request *request);

/* The result of routes_check_topic(). */
enum routes_check {
	ROUTES_ALLOWED,
	ROUTES_CHECKING, /* the callback comes later */
	ROUTES_BUSY,
	ROUTES_NO_MEMORY,
};

/* Asks, where AUTH_PER_TOPIC says so, whether an open WebSocket may subscribe.
 * If that takes time, `message` is kept, the connection paused, and
 * `on_checked` called with that message and what came of it. */
enum routes_check routes_check_topic(struct routes *r, struct conn *c,
				     const struct topic_key *key,
				     struct span message,
				     routes_checked_cb on_checked);

/* v1_session.c: isimud.v1 */

/* Subscribes to the topics of r->sub_query, each answered as a command is. */
void routes_start_session(struct routes *r, struct conn *c);
void routes_on_command(struct routes *r, struct conn *c, struct span message);

void routes_send_reset(struct routes *r, struct conn *c,
		       const struct topic_key *key, uint64_t since);

/* Tells the client what it lost of a topic. Ends nothing inside the call. */
void routes_send_gap(struct routes *r, struct conn *c,
		     const struct topic_key *key, uint64_t from, uint64_t to);

#endif
