/* conn.c - the basis of a connection: its state, its deadline, its place among
 * subscribers, the memory that it holds. */
#include "conn/conn.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "conn/private.h"

static const char *const state_names[CONN_STATES] = {
	[CONN_REQUEST] = "request",
	[CONN_DISCARDING] = "discarding",
	[CONN_PENDING] = "pending",
	[CONN_WEBSOCKET] = "websocket",
	[CONN_EVENT_STREAM] = "event stream",
	[CONN_CLOSING] = "closing",
	[CONN_FINISHING] = "finishing",
	[CONN_LINGERING] = "lingering",
	[CONN_CLOSED] = "closed",
};

/* The drawing of conn.h as a table: a bit for each state that may follow. */
#define TO(state) (1u << CONN_##state)
static const unsigned allowed[CONN_STATES] = {
	[CONN_REQUEST] =
		TO(PENDING) | TO(DISCARDING) | TO(FINISHING) | TO(CLOSED),
	[CONN_DISCARDING] = TO(REQUEST) | TO(FINISHING) | TO(CLOSED),
	[CONN_PENDING] = TO(REQUEST) | TO(WEBSOCKET) | TO(EVENT_STREAM) |
			 TO(FINISHING) | TO(CLOSED),
	[CONN_EVENT_STREAM] = TO(FINISHING) | TO(CLOSED),
	[CONN_WEBSOCKET] = TO(CLOSING) | TO(FINISHING) | TO(CLOSED),
	[CONN_CLOSING] = TO(FINISHING) | TO(CLOSED),
	[CONN_FINISHING] = TO(LINGERING) | TO(CLOSED),
	[CONN_LINGERING] = TO(CLOSED),
	[CONN_CLOSED] = 0,
};

struct conn_group *conn_group_of(const struct conn *c)
{
	return c->group;
}

enum conn_state conn_state(const struct conn *c)
{
	return (enum conn_state)c->state;
}

enum listener_kind conn_listener(const struct conn *c)
{
	return (enum listener_kind)c->listener;
}

void conn_peer(const struct conn *c, char out[static CONN_PEER_MAX])
{
	struct sockaddr_storage name = {0};
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&name;
	int len = sizeof name;

	out[0] = '\0';
	if (c->listener == LISTENER_UNIX ||
	    uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&name, &len) != 0)
		return;
	if (name.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		uv_inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, out,
			     CONN_PEER_MAX);
	else
		uv_ip_name((const struct sockaddr *)&name, out, CONN_PEER_MAX);
}

void *conn_user(struct conn *c)
{
	return c->user;
}

void conn_mark(struct conn *c)
{
	c->is_marked = true;
}

bool conn_is_marked(const struct conn *c)
{
	return c->is_marked;
}

const struct http_request *conn_request(const struct conn *c)
{
	return http_request(c->http);
}

void conn_trust(struct conn *c)
{
	c->is_trusted = true;
}

/* --- places of subscribers ------------------------------------------------ */

static void leave_place(struct conn *c)
{
	if (!c->has_place)
		return;
	c->has_place = false;
	c->group->others[c->listener]++;
	atomic_fetch_sub_explicit(&c->group->subscribers[c->listener], 1,
				  memory_order_relaxed);
}

void conn_have_place(struct conn *c)
{
	if (c->has_place)
		return;
	c->has_place = true;
	c->group->others[c->listener]--;
	atomic_fetch_add_explicit(&c->group->subscribers[c->listener], 1,
				  memory_order_relaxed);
}

bool conn_take_place(struct conn *c)
{
	const struct conn_limits *limits = &c->group->limits;
	_Atomic size_t *by_door = c->group->subscribers;
	size_t all = 0;

	CHECK_ON_THREAD(c->group->owner);
	if (c->has_place)
		return true;
	conn_have_place(c);
	for (int i = 0; i < LISTENER_KINDS; i++)
		all += atomic_load_explicit(&by_door[i], memory_order_relaxed);
	if (all <= limits->subscribers_max &&
	    (c->listener != LISTENER_TCP ||
	     atomic_load_explicit(&by_door[LISTENER_TCP],
				  memory_order_relaxed) <=
		     limits->tcp_subscribers_max))
		return true;
	leave_place(c);
	return false;
}

void conn_leave_place(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	leave_place(c);
}

/* --- states and deadlines --------------------------------------------------
 */

void conn_move(struct conn *c, enum conn_state to)
{
	CHECK_ON_THREAD(c->group->owner);
	if (to == CONN_REQUEST || to == CONN_CLOSED)
		leave_place(c);
	CHECK(allowed[c->state] & (1u << to));
	log_event(LOG_DEBUG, "state",
		  LOG_FIELDS(log_text("from", state_names[c->state]),
			     log_text("to", state_names[to])),
		  "conn %p: %s -> %s", (void *)c, state_names[c->state],
		  state_names[to]);
	c->group->states[c->state]--;
	c->group->states[to]++;
	c->state = (uint8_t)to;
}

void conn_set_deadline(struct conn *c, enum deadline_kind kind)
{
	c->deadline_kind = (uint8_t)kind;
	/* Progress is measured from now on. */
	if (c->writing != NULL &&
	    (kind == DEADLINE_WRITE || kind == DEADLINE_CLOSE))
		conn_look_at_progress(c);
	deadline_set(&c->group->deadlines, &c->deadline, kind);
}

/* Time-outs of requests are absolute: a byte now and then does not extend them.
 * So a deadline that is set already is kept. */
void conn_set_request_deadline(struct conn *c)
{
	enum deadline_kind kind = DEADLINE_IDLE;

	if (c->writing != NULL)
		kind = DEADLINE_WRITE;
	else if (c->state == CONN_PENDING)
		kind = DEADLINE_KINDS;
	else if (http_is_in_request(c->http))
		kind = c->is_in_content ? DEADLINE_BODY : DEADLINE_HEAD;
	if (kind == DEADLINE_KINDS) {
		c->deadline_kind = DEADLINE_KINDS;
		deadline_clear(&c->deadline);
	} else if (kind != c->deadline_kind) {
		conn_set_deadline(c, kind);
	}
}

void conn_check_deadline(const struct conn *c)
{
#ifdef ISIMUD_DEBUG
	CHECK(c->state == CONN_CLOSED || c->state == CONN_PENDING ||
	      deadline_is_set(&c->deadline));
#else
	(void)c;
#endif
}

void conn_mark_dirty(struct conn *c)
{
	struct conn_group *g = c->group;

	if (list_is_empty(&c->dirty))
		list_append(conn_is_open(c) ? &g->dirty : &g->answering,
			    &c->dirty);
}

void conn_end_later(struct conn *c, enum close_reason why)
{
	if (c->doomed == CLOSE_REASON_NONE)
		c->doomed = (uint8_t)why;
	conn_mark_dirty(c);
}

/* --- what it holds ---------------------------------------------------------
 */

void conn_account(struct conn *c)
{
	size_t held =
		sizeof *c + c->group->hooks->user_bytes + conn_stash_memory(c);

	if (c->http != NULL)
		held += http_memory(c->http);
	if (c->websocket != NULL)
		held += websocket_memory(c->websocket);
	if (held > c->charged)
		memory_charge(held - c->charged);
	else
		memory_credit(c->charged - held);
	c->charged = (uint32_t)held;
}

void conn_release_http(struct conn *c)
{
	struct conn_group *g = c->group;
	struct http *h = c->http;

	c->http = NULL;
	if (h == NULL)
		return;
	if (g->http_pooled == sizeof g->http_pool / sizeof g->http_pool[0]) {
		http_free(h);
		return;
	}
	http_reset(h);
	g->http_pool[g->http_pooled++] = h;
}

void conn_release_websocket(struct conn *c)
{
	struct conn_group *g = c->group;
	struct websocket *ws = c->websocket;
	const unsigned max =
		sizeof g->websocket_pool / sizeof g->websocket_pool[0];

	c->websocket = NULL;
	c->is_overdue = false;
	if (ws != NULL && websocket_is_idle(ws) && g->websocket_pooled < max)
		g->websocket_pool[g->websocket_pooled++] = ws;
	else
		websocket_free(ws);
}
