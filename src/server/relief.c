/* relief.c - drops history first, then ends connections. */
#include "server/relief.h"

#include "base/check.h"
#include "base/memory.h"
#include "server/room.h"

/* A history smaller than this part of the limit is not why memory is short. */
#define HISTORY_LIMIT_PART 32

/* Whether memory is TIGHT, and there is enough history to drop. */
static bool should_give_history(const struct worker_shared *shared)
{
	return memory_level() >= MEMORY_TIGHT &&
	       registry_history_bytes(shared->registry) >
		       memory_limit() / HISTORY_LIMIT_PART;
}

/* Free history before ending connections. True if nothing more is needed
 * now. */
static bool relieve_by_history(const struct worker_shared *shared)
{
	struct registry *r = shared->registry;

	if (!memory_measure() && memory_level() < MEMORY_FULL)
		return true; /* the last step may have freed enough */
	registry_shrink_history(r, registry_history_bytes(r) / 2);
	if (memory_level() >= MEMORY_SCARCE)
		registry_shrink_replay(r, registry_replay_bytes(r) / 2);
	bool is_known = memory_measure();
	return memory_level() < MEMORY_TIGHT || should_give_history(shared) ||
	       (!is_known && memory_level() < MEMORY_FULL);
}

void relief_ask(struct worker_shared *shared)
{
	if (atomic_exchange(&shared->is_relief_asked, true))
		return;
	if (relieve_by_history(shared)) {
		atomic_store(&shared->is_relief_asked, false);
		return;
	}
	for (unsigned i = 0; i < shared->workers_count; i++)
		mailbox_post_order(&shared->workers[i]->mailbox,
				   MAILBOX_RELIEVE);
}

void relief_on_tick(struct worker_shared *shared)
{
	memory_measure();
	if (memory_level() >= MEMORY_TIGHT)
		relief_ask(shared);
}

void relief_on_publication(struct worker_shared *shared)
{
	if (memory_level() >= MEMORY_SCARCE)
		relief_ask(shared);
}

bool relief_on_aging(struct worker_shared *shared)
{
	if (!should_give_history(shared))
		return false;
	relief_ask(shared);
	return should_give_history(shared);
}

void relief_obey(struct worker *w)
{
	CHECK_ON_THREAD(w->owner);
	conn_group_relieve(&w->group);
	atomic_store(&w->shared->is_relief_asked, false);
}

bool relief_find_memory(struct worker *w)
{
	if (memory_allows(MEMORY_FOR_PUBLISHING))
		return true;
	memory_measure();
	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		room_make(w, (enum listener_kind)kind);
	memory_measure();
	if (memory_allows(MEMORY_FOR_PUBLISHING))
		return true;
	relief_ask(w->shared);
	return memory_allows(MEMORY_FOR_PUBLISHING);
}
