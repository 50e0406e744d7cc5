/* room.c - where connections are too many, some are ended for those that came
 * last. */
#include "server/room.h"

#include "base/check.h"
#include "base/memory.h"

/* While memory is tight, connections that do not subscribe may have this part
 * of the limit; and about so many bytes each, the kernel's included. */
#define OTHERS_LIMIT_PART 10
#define OTHER_BYTES       8192

/* Where connections are too many, and what there may be of those that are no
 * subscribers. */
struct excess {
	enum conn_room room;
	size_t others_max;
};

static size_t less(size_t a, size_t b)
{
	return a > b ? a - b : 0;
}

/* How many of those that do not subscribe there may be where memory is tight:
 * they alone never take what is left for publishing, however many descriptors
 * there are. */
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

/* Whether there are more connections than there may be. `kind`: by which door
 * one has come. Where memory is tight, a new one is let in, for it may publish,
 * and another goes. */
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
