/* room.c - ends connections, where there are too many, for those that have just
 * come. */
#include "server/room.h"

#include "base/check.h"
#include "base/memory.h"

/* While memory is TIGHT, connections that do not subscribe may take this part
 * of the limit, at about so many bytes each, the kernel's included. */
#define OTHERS_LIMIT_PART 10
#define OTHER_BYTES       8192

/* At which door connections are too many, and how many may stay that do not
 * subscribe. */
struct excess {
	enum conn_room room;
	size_t others_max;
};

static size_t less(size_t a, size_t b)
{
	return a > b ? a - b : 0;
}

/* How many connections may stay that do not subscribe while memory is TIGHT, so
 * that they never take the memory that publishing needs, however many
 * descriptors there are. SIZE_MAX while memory is FINE. */
static size_t others_max(const struct worker_shared *shared)
{
	if (memory_level() < MEMORY_TIGHT)
		return SIZE_MAX;
	size_t reserve = shared->config->shares.reserve;
	size_t most = memory_limit() / OTHERS_LIMIT_PART / OTHER_BYTES;

	if (most < shared->workers_count)
		most = shared->workers_count;
	return most < reserve ? most : reserve;
}

/* Whether there are too many connections, after one has come by the door
 * `kind`. While memory is TIGHT a new connection is let in, since it may
 * publish, and another one goes. */
static bool are_too_many(const struct worker_shared *shared,
			 enum listener_kind kind, struct excess *excess)
{
	const struct descriptors_shares *shares = &shared->config->shares;
	size_t tcp = atomic_load_explicit(&shared->connections[LISTENER_TCP],
					  memory_order_relaxed);
	size_t admin = atomic_load_explicit(
		&shared->connections[LISTENER_ADMIN], memory_order_relaxed);
	size_t clients = less(worker_connections(shared), admin);
	size_t subscribers = worker_subscribers(shared);

	if (kind == LISTENER_ADMIN) {
		*excess = (struct excess){CONN_ROOM_ADMIN, shares->admin};
		return admin > shares->admin;
	}
	if (kind == LISTENER_TCP && tcp > shares->tcp) {
		size_t of_tcp =
			atomic_load_explicit(&shared->subscribers[LISTENER_TCP],
					     memory_order_relaxed);
		*excess = (struct excess){CONN_ROOM_TCP,
					  less(shares->tcp, of_tcp)};
		return true;
	}
	if (clients > shares->clients) {
		*excess = (struct excess){CONN_ROOM_CLIENT,
					  less(shares->clients, subscribers)};
		return true;
	}
	*excess = (struct excess){CONN_ROOM_CLIENT, others_max(shared)};
	return less(clients, subscribers) > excess->others_max;
}

bool room_make(struct worker *w, enum listener_kind kind)
{
	struct excess excess;

	CHECK_ON_THREAD(w->owner);
	while (are_too_many(w->shared, kind, &excess)) {
		size_t part = excess.others_max / w->shared->workers_count;
		if (conn_group_others(&w->group, excess.room) <=
			    (part > 0 ? part : 1) ||
		    !conn_group_make_room(&w->group, excess.room))
			return false;
	}
	return true;
}

void room_make_for(struct worker *w, unsigned kinds)
{
	bool is_enough = true;

	CHECK_ON_THREAD(w->owner);
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		if (kinds & (1u << kind))
			is_enough &= room_make(w, (enum listener_kind)kind);
	for (unsigned i = 0; !is_enough && i < w->shared->workers_count; i++)
		if (i != w->index)
			mailbox_post_order(&w->shared->workers[i]->mailbox,
					   MAILBOX_MAKE_ROOM);
}
