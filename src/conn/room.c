/* room.c - chooses the connection to end when another one comes. */
#include "base/check.h"
#include "conn/private.h"

#include <string.h>

/* How many entries of a list of deadlines are looked at; and for how many of
 * those the kernel is asked. */
#define LOOKED_AT_MAX   256
#define ASKED_ABOUT_MAX 32
/* Connections to ADMIN_PORT of one loop that are considered. */
#define ADMINS_MAX 128

/* What a connection is worth, the least first. */
enum worth {
	WORTH_NOTHING,
	WORTH_A_REQUEST, /* it wants more, and has been served before */
	WORTH_A_MOMENT,  /* it has had no time yet to say what it wants */
	WORTH_A_FIRST,   /* it wants something for the first time */
	WORTH_TRUST,     /* conn_trust() was called */
};

/* A client may take so long to send its request, however far away it is. */
#define YOUNG_MS 250

static enum worth worth_of(const struct conn *c, uint64_t since_ms)
{
	if (c->is_trusted)
		return WORTH_TRUST;
	if (conn_has_unread(c))
		return c->has_asked ? WORTH_A_REQUEST : WORTH_A_FIRST;
	if (!c->has_asked && since_ms + YOUNG_MS > uv_now(c->group->loop))
		return WORTH_A_MOMENT;
	return WORTH_NOTHING;
}

/* The connection to end: the one that is worth least, and of several the one
 * that has been quiet for longest. */
struct candidate {
	struct conn *conn; /* NULL: none yet */
	enum worth worth;
	uint64_t since_ms;
};

/* Considers one connection; it has been quiet since its deadline was set.
 * Returns its worth. */
static enum worth consider(struct candidate *best, struct conn *c, int kind)
{
	uint64_t since_ms =
		c->deadline.due_ms - c->group->limits.durations_ms[kind];
	enum worth worth = worth_of(c, since_ms);

	if (c->group->turn.conn == c)
		return WORTH_TRUST; /* it is being read: room is for it */
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

/* Considers the connections with one kind of deadline, oldest first, until no
 * later one can be worth less. */
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

/* Every connection that may go has a deadline, and not the one of idle
 * subscribers. */
static struct conn *find_client_to_end(struct conn_group *g,
				       enum conn_room room)
{
	struct candidate best = {.conn = NULL};

	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		if (kind != DEADLINE_PING)
			consider_list(&best, g, (enum deadline_kind)kind, room);
	return best.conn;
}

/* --- the admin's door ----------------------------------------------------- */

/* They are few, and in front of all others. Returns the first `max`. */
static size_t list_admins(const struct conn_group *g, struct conn **out,
			  size_t max)
{
	size_t count = 0;

	LIST_FOR_EACH_SAFE (it, after, &g->conns) {
		struct conn *c = CONTAINER_OF(it, struct conn, link);
		if (c->listener != LISTENER_ADMIN || count == max)
			break;
		if (c->deadline_kind != DEADLINE_KINDS)
			out[count++] = c;
	}
	return count;
}

/* Where a peer comes from: an IPv4 address, or the first half of another, which
 * a single host may have all of. */
struct origin {
	uint8_t bytes[8];
};

static struct origin origin_of(const struct conn *c)
{
	struct sockaddr_storage name = {0};
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&name;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&name;
	struct origin origin = {{0}};
	int len = sizeof name;

	if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&name, &len) != 0)
		return origin;
	if (name.ss_family == AF_INET)
		memcpy(origin.bytes, &v4->sin_addr, 4);
	else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		memcpy(origin.bytes, v6->sin6_addr.s6_addr + 12, 4);
	else
		memcpy(origin.bytes, v6->sin6_addr.s6_addr, 8);
	return origin;
}

/* Moves those of the origin that has the most to the front. Returns how many
 * that are. */
static size_t choose_origin(struct conn **admins, size_t count)
{
	struct origin origins[ADMINS_MAX];
	size_t most = 0;
	size_t of = 0;

	for (size_t i = 0; i < count; i++)
		origins[i] = origin_of(admins[i]);
	for (size_t i = 0; i < count; i++) {
		size_t same = 0;
		for (size_t k = i; k < count; k++)
			same += memcmp(&origins[i], &origins[k],
				       sizeof origins[i]) == 0;
		if (same > most) {
			most = same;
			of = i;
		}
	}
	size_t chosen = 0;
	for (size_t i = of; i < count; i++)
		if (memcmp(&origins[of], &origins[i], sizeof origins[i]) == 0)
			admins[chosen++] = admins[i];
	return chosen;
}

/* Whoever has nothing to say goes first. If all have just come, or ask, it is
 * one of the origin that has the most: else a crowd would push a probe out
 * between its connecting and its request. */
static struct conn *find_admin_to_end(struct conn_group *g)
{
	struct conn *admins[ADMINS_MAX];
	size_t count = list_admins(g, admins, ADMINS_MAX);
	struct candidate best = {.conn = NULL};

	for (size_t i = 0; i < count; i++)
		consider(&best, admins[i], admins[i]->deadline_kind);
	if (best.conn == NULL || best.worth == WORTH_NOTHING ||
	    best.worth == WORTH_TRUST)
		return best.conn;
	count = choose_origin(admins, count);
	best.conn = NULL;
	for (size_t i = 0; i < count; i++)
		consider(&best, admins[i], admins[i]->deadline_kind);
	return best.conn;
}

/* --- all doors ------------------------------------------------------------ */

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
	if (c == NULL)
		return false;
	conn_abort(c, CLOSE_REASON_displaced);
	conn_give_back(c); /* it is not being read */
	return true;
}
