/* shared.c - what is counted for all workers: connections, subscribers, and
 * whether the loops turn. */
#include "server/worker.h"

static size_t sum_of_doors(const _Atomic size_t by_door[static LISTENER_KINDS])
{
	size_t all = 0;

	for (int kind = 0; kind < LISTENER_KINDS; kind++)
		all += atomic_load_explicit(&by_door[kind],
					    memory_order_relaxed);
	return all;
}

/* registry_visit_cb */
static int note_subscribers(void *user, const struct registry_topic *t)
{
	*(uint64_t *)user = t->subscribers;
	return 0;
}

uint64_t worker_count_subscribers(const struct worker_shared *shared,
				  const struct topic_key *key)
{
	uint64_t count = 0;

	registry_find(shared->registry, key, note_subscribers, &count);
	if (shared->bus != NULL)
		count += bus_subscribers_elsewhere(shared->bus, key->publisher,
						   key->name);
	return count;
}

size_t worker_subscribers(const struct worker_shared *shared)
{
	return sum_of_doors(shared->subscribers);
}

bool worker_has_place(const struct worker_shared *shared)
{
	const struct descriptors_shares *shares = &shared->config->shares;

	return atomic_load_explicit(&shared->subscribers[LISTENER_TCP],
				    memory_order_relaxed) <
		       shares->tcp_subscribers &&
	       worker_subscribers(shared) < shares->subscribers;
}

size_t worker_connections(const struct worker_shared *shared)
{
	return sum_of_doors(shared->connections);
}

bool worker_all_turn(const struct worker_shared *shared)
{
	uint64_t now = uv_hrtime() / 1000000;
	for (unsigned i = 0; i < shared->workers_count; i++) {
		uint64_t beat = stats_gauge(&shared->workers[i]->stats,
					    STATS_GAUGE_beat_ms);
		if (now > beat + WORKER_STUCK_MS)
			return false;
	}
	return true;
}
