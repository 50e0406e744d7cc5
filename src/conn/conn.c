/* conn.c - the group of a loop's connections; their states, deadlines, ends. */
#include "conn/conn.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "conn/private.h"

#include <stdlib.h>
#include <sys/socket.h>

/* What the kernel has for a connection besides its bytes: the socket, its file,
 * their entries in tables. Measured, and rounded up. */
#define KERNEL_CONN_BYTES 4096
/* A write that waits for so long is a laggard's, whatever else there is. */
#define STUCK_MS 2000
/* One that has taken nothing for so long goes before those that read. */
#define STILL_MS    250
#define FLUSH_CLOCK 16 /* connections flushed between looks at the clock */

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

static const struct {
	const char *name;
	unsigned code;
	const char *reason;
} endings[ENDING_COUNT] = {
#define ENDING_ROW(name, code, reason) {#name, code, reason},
	ENDINGS(ENDING_ROW)
#undef ENDING_ROW
};

static const enum stats_counter ending_counters[ENDING_COUNT] = {
#define ENDING_COUNTER(name, code, reason) STATS_closed_##name,
	ENDINGS(ENDING_COUNTER)
#undef ENDING_COUNTER
};

static void send_late(struct conn *c)
{
	conn_set_deadline(c, DEADLINE_WRITE);
	conn_mark_dirty(c);
}

static void on_deadline(struct deadlines *all, struct deadline *d,
			enum deadline_kind kind);

/* --- the group ---------------------------------------------------------- */

/* A second less than it is: a request that is on its way when the time is over
 * would be lost. */
static uint64_t keep_alive_of(uint64_t idle_ms)
{
	return idle_ms < 2000 ? 0 : idle_ms / 1000 - 1;
}

int conn_group_open(struct conn_group *g, uv_loop_t *loop,
		    const struct conn_hooks *hooks, void *context,
		    const struct conn_limits *limits, struct stats *stats)
{
	uint8_t ping[WEBSOCKET_CONTROL_MAX];
	size_t ping_len = websocket_write_ping(ping, SPAN(""));

	memset(g, 0, offsetof(struct conn_group, read_buffer));
	g->loop = loop;
	g->owner = uv_thread_self();
	g->hooks = hooks;
	g->context = context;
	g->limits = *limits;
	g->stats = stats;
	g->keep_alive_s = keep_alive_of(limits->durations_ms[DEADLINE_IDLE]);
	list_init(&g->conns);
	list_init(&g->line);
	list_init(&g->answering);
	list_init(&g->dirty);
	list_init(&g->stalled);
	g->subscribers = g->own_subscribers;
	g->ping = chunk_new(ping_len);
	if (g->ping == NULL)
		return UV_ENOMEM;
	chunk_append(g->ping, ping, ping_len);
	int rv = UV_ENOMEM;
	g->keep_alive = conn_new_keep_alive();
	if (g->keep_alive == NULL)
		goto err_ping;
	rv = deadlines_open(&g->deadlines, loop, limits->durations_ms,
			    on_deadline);
	if (rv == 0) {
		CHECK(uv_idle_init(loop, &g->idle) == 0);
		return 0;
	}
	chunk_unref(g->keep_alive);
err_ping:
	chunk_unref(g->ping);
	return rv;
}

void conn_group_close(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	CHECK(g->count == 0);
	deadlines_close(&g->deadlines);
	uv_close((uv_handle_t *)&g->idle, NULL);
	chunk_unref(g->ping);
	chunk_unref(g->keep_alive);
	buf_fini(&g->out);
	while (g->http_pooled > 0)
		http_free(g->http_pool[--g->http_pooled]);
	while (g->websocket_pooled > 0)
		websocket_free(g->websocket_pool[--g->websocket_pooled]);
}

static void flush_one(struct conn *c)
{
	if (c->doomed != ENDING_NONE)
		conn_end(c, (enum ending)c->doomed, NULL);
	if (c->state == CONN_CLOSED)
		return;
	conn_unblock(c);
	if ((conn_is_open(c) || c->state == CONN_FINISHING) &&
	    c->http != NULL) {
		conn_release_http(c);
		conn_account(c);
	}
	if (c->state != CONN_CLOSED && c->writing == NULL &&
	    c->deadline_kind != DEADLINE_LATE && conn_write_queued(c) != 0)
		conn_abort(c, ENDING_peer_gone);
	if (c->wants_room && conn_has_room(c)) {
		c->wants_room = false;
		c->group->hooks->on_room(c);
	}
}

/* Looks at the clock now and then only: it costs as much as queueing. */
static bool is_time_up(unsigned done, uint64_t *until_ns)
{
	if (done % FLUSH_CLOCK != 0)
		return false;
	uint64_t now_ns = uv_hrtime();
	if (*until_ns == 0)
		*until_ns = now_ns + CONN_ROUND_NS;
	return now_ns > *until_ns;
}

static void flush_list(struct list *list)
{
	uint64_t until_ns = 0;
	unsigned done = 0;

	while (!list_is_empty(list) && !is_time_up(++done, &until_ns)) {
		struct conn *c = CONTAINER_OF(list->next, struct conn, dirty);
		list_remove(&c->dirty);
		flush_one(c);
	}
}

static void on_idle(uv_idle_t *idle)
{
	(void)idle; /* that it is active keeps the poll from waiting */
}

bool conn_group_is_busy(const struct conn_group *g)
{
	return !list_is_empty(&g->line) || !list_is_empty(&g->answering) ||
	       !list_is_empty(&g->dirty);
}

void conn_group_flush(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	/* Whoever waits for one answer does not wait for a fan-out. */
	flush_list(&g->answering);
	flush_list(&g->dirty);
	if (conn_group_is_busy(g))
		uv_idle_start(&g->idle, on_idle);
	else
		uv_idle_stop(&g->idle);
}

/* Whether there are bytes of a request that nobody has looked at yet, the
 * kernel's included. */
static bool has_unread(const struct conn *c)
{
	uv_os_fd_t fd;
	char byte;

	if (c->state == CONN_REQUEST && c->reading == READING_IN_LINE)
		return true;
	return c->state == CONN_REQUEST && c->reading == READING_FLOWING &&
	       uv_fileno(&c->handle, &fd) == 0 &&
	       recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Whether a request has begun to come. */
static bool is_asking(const struct conn *c)
{
	return (c->state == CONN_REQUEST && c->reading != READING_BLOCKED &&
		http_is_in_request(c->http)) ||
	       has_unread(c);
}

void conn_group_end_all(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	g->is_draining = true;
	LIST_FOR_EACH_SAFE (it, after, &g->conns) {
		struct conn *c = CONTAINER_OF(it, struct conn, link);
		if (!is_asking(c))
			conn_end(c, ENDING_going_away, NULL);
	}
}

size_t conn_group_end_some(struct conn_group *g, size_t n)
{
	size_t ended = 0;

	CHECK_ON_THREAD(g->owner);
	LIST_FOR_EACH_SAFE (it, after, &g->conns) {
		struct conn *c = CONTAINER_OF(it, struct conn, link);
		if (ended == n)
			break;
		if (!conn_is_open(c))
			continue;
		conn_end(c, ENDING_going_away, NULL);
		ended++;
	}
	return ended;
}

void conn_group_abort_all(struct conn_group *g)
{
	CHECK_ON_THREAD(g->owner);
	LIST_FOR_EACH_SAFE (it, after, &g->conns)
		conn_abort(CONTAINER_OF(it, struct conn, link),
			   ENDING_going_away);
}

/* --- making room ---------------------------------------------------------- */

/* Entries of a list of deadlines that are looked at, where the first ones are
 * none to end; and of those, how many the kernel is asked about. */
#define LOOKED_AT_MAX   256
#define ASKED_ABOUT_MAX 32

/* How much a connection would be missed. */
enum worth {
	WORTH_NOTHING,
	WORTH_A_REQUEST, /* it wants more, and has been served before */
	WORTH_A_MOMENT,  /* it has had no time yet to say what it wants */
	WORTH_A_FIRST,   /* it wants something for the first time */
	WORTH_TRUST,     /* conn_trust() was called */
};

/* So long a client may take to say what it wants, as far away as it is. */
#define YOUNG_MS 250

static enum worth worth_of(const struct conn *c, uint64_t since_ms)
{
	if (c->is_trusted)
		return WORTH_TRUST;
	if (has_unread(c))
		return c->has_asked ? WORTH_A_REQUEST : WORTH_A_FIRST;
	if (!c->has_asked && since_ms + YOUNG_MS > uv_now(c->group->loop))
		return WORTH_A_MOMENT;
	return WORTH_NOTHING;
}

/* One to end, and why that and no other: what is worth less goes first, and of
 * those that are worth the same the one that has been quiet for longest. */
struct candidate {
	struct conn *conn; /* NULL: none yet */
	enum worth worth;
	uint64_t since_ms;
};

/* Its last sign of life: its deadline has been set since. Returns its worth. */
static enum worth consider(struct candidate *best, struct conn *c, int kind)
{
	uint64_t since_ms =
		c->deadline.due_ms - c->group->limits.durations_ms[kind];
	enum worth worth = worth_of(c, since_ms);

	if (best->conn == NULL || worth < best->worth ||
	    (worth == best->worth && since_ms < best->since_ms))
		*best = (struct candidate){c, worth, since_ms};
	return worth;
}

static bool is_in_room(const struct conn *c, enum conn_room room)
{
	return !c->has_place &&
	       (c->listener == LISTENER_TCP ||
		(room == CONN_ROOM_CLIENT && c->listener == LISTENER_UNIX));
}

/* Considers the connections with one kind of deadline, oldest first, as far as
 * a later one may be worth less. */
static void consider_list(struct candidate *best, struct conn_group *g,
			  enum deadline_kind kind, enum conn_room room)
{
	int looked_at = 0;
	int asked_about = 0;

	LIST_FOR_EACH_SAFE (it, after, &g->deadlines.lists[kind]) {
		struct conn *c = CONTAINER_OF(it, struct conn, deadline.link);
		if (++looked_at > LOOKED_AT_MAX)
			return;
		if (!is_in_room(c, room))
			continue;
		if (consider(best, c, (int)kind) == WORTH_NOTHING ||
		    (!c->is_trusted && ++asked_about == ASKED_ABOUT_MAX))
			return;
	}
}

/* All that may go have a deadline, of any kind but that of idle subscribers. */
static struct conn *find_client_to_end(struct conn_group *g,
				       enum conn_room room)
{
	struct candidate best = {.conn = NULL};

	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		if (kind != DEADLINE_PING)
			consider_list(&best, g, (enum deadline_kind)kind, room);
	return best.conn;
}

/* They are few, and in front of all others. */
static struct conn *find_admin_to_end(struct conn_group *g)
{
	struct candidate best = {.conn = NULL};

	LIST_FOR_EACH_SAFE (it, after, &g->conns) {
		struct conn *c = CONTAINER_OF(it, struct conn, link);
		if (c->listener != LISTENER_ADMIN)
			break;
		if (c->deadline_kind != DEADLINE_KINDS)
			consider(&best, c, c->deadline_kind);
	}
	return best.conn;
}

size_t conn_group_others(const struct conn_group *g, enum conn_room room)
{
	CHECK_ON_THREAD(g->owner);
	if (room == CONN_ROOM_ADMIN)
		return g->others[LISTENER_ADMIN];
	return g->others[LISTENER_TCP] +
	       (room == CONN_ROOM_CLIENT ? g->others[LISTENER_UNIX] : 0);
}

bool conn_group_make_room(struct conn_group *g, enum conn_room room)
{
	CHECK_ON_THREAD(g->owner);
	struct conn *c = room == CONN_ROOM_ADMIN ? find_admin_to_end(g)
						 : find_client_to_end(g, room);
	if (c != NULL)
		conn_abort(c, ENDING_displaced);
	return c != NULL;
}

/* --- relief of memory ----------------------------------------------------- */

static bool is_leaving(const struct conn *c)
{
	return c->state >= CONN_CLOSING;
}

/* What a connection that does not read occupies. */
static size_t burden(const struct conn_write *w)
{
	return w->conn->outq.bytes + w->kernel_bytes;
}

/* The least that one has that is worth ending: half of the worst. They may all
 * wait for the same messages, with laggards of other loops too, so that ending
 * one frees nothing. */
static size_t burden_to_end(const struct conn_group *g)
{
	size_t worst = 0;

	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		const struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		if (!is_leaving(w->conn) && burden(w) > worst)
			worst = burden(w);
	}
	return worst - worst / 2;
}

/* Since when the peer takes nothing, be it slowly. */
static uint64_t waits_since(struct conn_write *w, uint64_t now_ms)
{
	uint32_t acknowledged = conn_acknowledged(w->conn);

	if (acknowledged != w->acknowledged) {
		w->acknowledged = acknowledged;
		w->since_ms = now_ms;
	}
	return w->since_ms;
}

/* Ends those that have at least `bytes` and do not read since `until_ms`, while
 * memory is tight. Returns whether there were any. */
static bool end_laggards(struct conn_group *g, size_t bytes, uint64_t until_ms)
{
	bool has_ended = false;

	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		if (memory_level() < MEMORY_TIGHT)
			break;
		if (is_leaving(w->conn) || burden(w) < bytes ||
		    waits_since(w, uv_now(g->loop)) > until_ms)
			continue;
		conn_end(w->conn, ENDING_slow,
			 "too slow while memory is scarce");
		memory_settle();
		has_ended = true;
	}
	return has_ended;
}

/* Those that take nothing first: who reads may have as much, since that is what
 * everybody has room for. */
static void end_worst(struct conn_group *g, uint64_t now_ms)
{
	size_t bytes = burden_to_end(g);

	if (now_ms < STILL_MS || !end_laggards(g, bytes, now_ms - STILL_MS))
		end_laggards(g, bytes, now_ms);
}

/* Those that were told to go, and still hold what they did not read. */
static void abort_leaving(struct conn_group *g)
{
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		struct conn *c =
			CONTAINER_OF(it, struct conn_write, link)->conn;
		if (is_leaving(c))
			conn_abort(c, ENDING_slow);
	}
}

void conn_group_relieve(struct conn_group *g)
{
	uint64_t now_ms = uv_now(g->loop);

	CHECK_ON_THREAD(g->owner);
	memory_settle();
	enum memory_level level = memory_level();
	if (level == MEMORY_FULL)
		abort_leaving(g);
	if (level >= MEMORY_SCARCE)
		end_worst(g, now_ms);
	else if (now_ms > STUCK_MS)
		end_laggards(g, 0, now_ms - STUCK_MS);
	memory_measure();
}

void conn_group_count(const struct conn_group *g,
		      size_t states[static CONN_STATES], size_t *queued_bytes)
{
	CHECK_ON_THREAD(g->owner);
	memcpy(states, g->states, sizeof g->states);
	*queued_bytes = 0;
	LIST_FOR_EACH_SAFE (it, after, &g->conns)
		*queued_bytes +=
			CONTAINER_OF(it, struct conn, link)->outq.bytes;
}

struct conn_backlog conn_group_backlog(const struct conn_group *g)
{
	struct conn_backlog backlog = {0};

	CHECK_ON_THREAD(g->owner);
	LIST_FOR_EACH_SAFE (it, after, &g->stalled) {
		const struct conn_write *w =
			CONTAINER_OF(it, struct conn_write, link);
		size_t bytes = w->conn->outq.bytes;
		backlog.bytes += bytes;
		if (bytes > backlog.worst_bytes)
			backlog.worst_bytes = bytes;
	}
	return backlog;
}

/* --- the life of a connection ------------------------------------------- */

/* Makes the handle for the kind of socket it is. */
static int open_handle(struct conn *c, int socket)
{
	uv_loop_t *loop = c->group->loop;
	int rv;

	if (c->listener == LISTENER_UNIX) {
		rv = uv_pipe_init(loop, &c->pipe, 0);
		return rv != 0 ? rv : uv_pipe_open(&c->pipe, socket);
	}
	rv = uv_tcp_init(loop, &c->tcp);
	return rv != 0 ? rv : uv_tcp_open(&c->tcp, socket);
}

int conn_open(struct conn_group *g, struct accepted accepted)
{
	CHECK_ON_THREAD(g->owner);
	struct conn *c = calloc(1, sizeof *c + g->hooks->user_bytes);
	if (c == NULL)
		goto err_socket;
	c->group = g;
	c->listener = (uint8_t)accepted.kind;
	c->http = g->http_pooled > 0 ? g->http_pool[--g->http_pooled]
				     : http_new(g->limits.body_max_bytes);
	if (c->http == NULL)
		goto err_memory;
	g->count++;
	memory_charge_kernel(KERNEL_CONN_BYTES);
	g->states[CONN_REQUEST]++;
	g->others[c->listener]++;
	list_init(&c->link);
	list_init(&c->dirty);
	c->state = CONN_REQUEST;
	c->doomed = ENDING_NONE;
	c->ending = ENDING_NONE;
	int rv = open_handle(c, accepted.socket);
	if (rv != 0) {
		close(accepted.socket);
		conn_abort(c, ENDING_no_memory);
		return rv;
	}
	list_append(c->listener == LISTENER_ADMIN ? g->conns.next : &g->conns,
		    &c->link);
	stats_add(g->stats, STATS_accepted, 1);
	conn_account(c);
	conn_set_deadline(c, DEADLINE_HEAD);
	conn_start_reading(c);
	return 0;

err_memory:
	free(c);
err_socket:
	close(accepted.socket);
	return UV_ENOMEM;
}

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

const struct http_request *conn_request(const struct conn *c)
{
	return http_request(c->http);
}

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

void conn_trust(struct conn *c)
{
	c->is_trusted = true;
}

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
	/* From now on is what counts where something waits already. */
	if (c->writing != NULL &&
	    (kind == DEADLINE_WRITE || kind == DEADLINE_CLOSE))
		conn_look_at_progress(c);
	deadline_set(&c->group->deadlines, &c->deadline, kind);
}

/* Time-outs of requests are absolute: a byte now and then does not help, so one
 * that is set already goes on. */
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

void conn_mark_dirty(struct conn *c)
{
	struct conn_group *g = c->group;

	if (list_is_empty(&c->dirty))
		list_append(conn_is_open(c) ? &g->dirty : &g->answering,
			    &c->dirty);
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

/* --- deadlines ---------------------------------------------------------- */

static void on_request_timeout(struct conn *c)
{
	conn_note_end(c, ENDING_header_timeout);
	if (c->state == CONN_REQUEST && http_is_in_request(c->http))
		conn_respond_last(c, 408, "The request took too long");
	else
		conn_abort(c, ENDING_header_timeout);
}

static void on_ping_due(struct conn *c)
{
	/* What is not read can't be held against the peer. */
	if (c->reading != READING_FLOWING) {
		conn_set_deadline(c, DEADLINE_PING);
		conn_send(c, c->group->ping);
		return;
	}
	/* The ping may be behind what it still reads. One that answers nothing
	 * acknowledges the ping itself all the same, which says nothing. */
	struct conn_progress progress = conn_look_at_progress(c);
	bool is_alive = c->was_heard || (c->was_behind && progress.has_moved);
	/* A ping alone may just not be acknowledged yet (RFC 9293 3.8.6.3). */
	c->was_behind = progress.waiting > c->group->ping->len;
	if (!is_alive &&
	    ++c->pings_missed >= c->group->limits.ping_misses_max) {
		conn_end(c, ENDING_ping_timeout, NULL);
		return;
	}
	/* A message has at least one interval to arrive in, and at most two. */
	if (c->websocket != NULL && c->is_overdue) {
		conn_end(c, ENDING_message_timeout, NULL);
		return;
	}
	c->is_overdue = c->websocket != NULL;
	if (is_alive)
		c->pings_missed = 0;
	c->was_heard = false;
	conn_set_deadline(c, DEADLINE_PING);
	conn_send(c, c->group->ping);
}

/* Whoever takes what it is sent, be it slowly, has more time. */
static void end_unless_it_takes(struct conn *c, enum deadline_kind kind,
				enum ending ending)
{
	if (conn_takes_its_time(c))
		conn_set_deadline(c, kind);
	else
		conn_abort(c, ending);
}

static void on_deadline(struct deadlines *all, struct deadline *d,
			enum deadline_kind kind)
{
	struct conn *c = CONTAINER_OF(d, struct conn, deadline);
	(void)all;

	switch (kind) {
	case DEADLINE_HEAD:
	case DEADLINE_BODY:
		on_request_timeout(c);
		break;
	case DEADLINE_IDLE:
		conn_abort(c, ENDING_idle_timeout);
		break;
	case DEADLINE_WRITE:
		end_unless_it_takes(c, kind, ENDING_write_timeout);
		break;
	case DEADLINE_PING:
		if (c->state == CONN_EVENT_STREAM)
			conn_keep_alive(c);
		else
			on_ping_due(c);
		break;
	case DEADLINE_CLOSE:
		end_unless_it_takes(c, kind, ENDING_close_timeout);
		break;
	case DEADLINE_LINGER:
		end_unless_it_takes(c, kind, ENDING_done);
		break;
	case DEADLINE_LATE:
		send_late(c);
		break;
	case DEADLINE_KINDS:
		CHECK(false);
	}
}

/* --- endings ------------------------------------------------------------ */

void conn_end_later(struct conn *c, enum ending ending)
{
	if (c->doomed == ENDING_NONE)
		c->doomed = (uint8_t)ending;
	conn_mark_dirty(c);
}

/* What happens every day, and to everybody, is not worth a line at info. */
static bool is_ordinary(enum ending ending)
{
	return ending == ENDING_done || ending == ENDING_peer_gone ||
	       ending == ENDING_peer_closed || ending == ENDING_idle_timeout ||
	       ending == ENDING_going_away;
}

static void log_end(const struct conn *c, enum ending ending)
{
	static struct log_limit limit = LOG_LIMIT("connection_ended");
	enum log_level level = is_ordinary(ending) ? LOG_DEBUG : LOG_INFO;
	unsigned code = endings[ending].code;
	char peer[CONN_PEER_MAX];

	if (!log_is_on(level) ||
	    (level == LOG_INFO && !log_limit_allows(&limit)))
		return;
	conn_peer(c, peer);
	log_event(level, "connection_ended",
		  LOG_FIELDS(log_text("reason", endings[ending].name),
			     code > 0 ? log_number("code", code)
				      : log_text("code", NULL),
			     log_text("peer", peer[0] != '\0' ? peer : NULL)),
		  "ended a connection (%s): %s", endings[ending].name,
		  endings[ending].reason);
}

void conn_note_end(struct conn *c, enum ending ending)
{
	if (c->ending == ENDING_NONE) {
		c->ending = (uint8_t)ending;
		stats_add(c->group->stats, ending_counters[ending], 1);
		log_end(c, ending);
	}
	if (!c->has_ended) {
		c->has_ended = true;
		c->group->hooks->on_end(c);
	}
	conn_resume(c); /* the peer's answer to Close is still read */
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, handle);
	struct conn_group *g = c->group;

	conn_release_http(c);
	conn_release_websocket(c);
	memory_credit(c->charged);
	memory_credit_kernel(KERNEL_CONN_BYTES);
	outq_fini(&c->outq);
	free(c);
	g->count--;
	g->states[CONN_CLOSED]--;
}

/* libuv closes the descriptor at once, and calls back later. */
static void close_handle(struct conn *c, bool has_unsent)
{
	struct conn_group *g = c->group;
	enum listener_kind kind = conn_listener(c);

	g->others[kind]--;
	/* What the peer does not read must not occupy the kernel either: a
	 * reset frees it at once. */
	if (!has_unsent || kind == LISTENER_UNIX ||
	    uv_tcp_close_reset(&c->tcp, on_closed) != 0)
		uv_close(&c->handle, on_closed);
	if (g->on_closed != NULL)
		g->on_closed(g, kind);
}

void conn_abort(struct conn *c, enum ending ending)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state == CONN_CLOSED)
		return;
	conn_note_end(c, ending);
	bool has_unsent = c->outq.bytes > 0;
	conn_move(c, CONN_CLOSED);
	deadline_clear(&c->deadline);
	list_remove(&c->link);
	list_remove(&c->dirty);
	conn_drop_stash(c);
	close_handle(c, has_unsent);
}

void conn_finish(struct conn *c)
{
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_WRITE);
	conn_mark_dirty(c);
}

static void queue_close_frame(struct conn *c, unsigned code, const char *reason)
{
	uint8_t frame[WEBSOCKET_CONTROL_MAX];
	size_t len = websocket_write_close(frame, code, span_of(reason));
	conn_queue(c, (struct span){(const char *)frame, len});
}

void conn_fail_websocket(struct conn *c, enum ending ending, unsigned code,
			 const char *reason)
{
	bool is_close_sent = c->state == CONN_CLOSING;

	conn_note_end(c, ending);
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
	if (!is_close_sent)
		queue_close_frame(c, code,
				  reason != NULL ? reason
						 : endings[ending].reason);
}

static void end_websocket(struct conn *c, enum ending ending,
			  const char *reason)
{
	conn_note_end(c, ending);
	/* A laggard's backlog is given up, whole frames of it. */
	if (ending == ENDING_slow)
		outq_truncate(&c->outq, c->in_flight);
	/* First of all CLOSING: no limit holds back Close itself. */
	conn_move(c, CONN_CLOSING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	queue_close_frame(c, endings[ending].code,
			  reason != NULL ? reason : endings[ending].reason);
}

/* The server ends before the request was answered. */
static void end_pending(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;

	if (hooks->is_committed != NULL && hooks->is_committed(c))
		return;
	conn_note_end(c, ENDING_going_away);
	if (hooks->on_leaving == NULL || !hooks->on_leaving(c))
		conn_respond_last(c, 503, "The server is going away");
}

void conn_end(struct conn *c, enum ending ending, const char *reason)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->doomed != ENDING_NONE && c->doomed != ending) {
		ending = (enum ending)c->doomed;
		reason = NULL;
	}
	c->doomed = ENDING_NONE;
	switch ((enum conn_state)c->state) {
	case CONN_WEBSOCKET:
		if (endings[ending].code != 0) {
			end_websocket(c, ending, reason);
			return;
		}
		break;
	case CONN_EVENT_STREAM:
		if (endings[ending].code != 0) {
			conn_end_stream(c, ending, endings[ending].code,
					reason != NULL
						? reason
						: endings[ending].reason);
			return;
		}
		break;
	case CONN_PENDING:
		if (ending == ENDING_going_away) {
			end_pending(c);
			return;
		}
		break;
	case CONN_REQUEST:
	case CONN_DISCARDING:
		/* What is answered already is sent. */
		if (ending == ENDING_going_away && c->outq.bytes > 0) {
			conn_note_end(c, ending);
			conn_finish(c);
			return;
		}
		break;
	case CONN_CLOSING:
	case CONN_FINISHING:
	case CONN_LINGERING:
		if (ending == ENDING_going_away &&
		    c->deadline_kind == DEADLINE_LATE)
			send_late(c);
		if (ending == ENDING_going_away)
			return; /* it is on its way, and has a deadline */
		break;
	default:
		break;
	}
	conn_abort(c, ending);
}
