/* state.c - what state the bus is in; what all its files need. */
#include "base/check.h"
#include "base/log.h"
#include "cluster/private.h"

#define NS_A_MS 1000000ULL

uint64_t bus_random(void)
{
	uint64_t value = 0;

	/* Not a secret: only two nodes must not have the same. */
	while (value == 0)
		CHECK(uv_random(NULL, NULL, &value, sizeof value, 0, NULL) ==
		      0);
	return value;
}

void bus_set_state(struct bus *b, enum bus_state state)
{
	static const char *const names[] = {"down", "join", "warming", "live"};

	CHECK_ON_THREAD(b->owner);
	if (b->state == state)
		return;
	log_event(LOG_DEBUG, "bus_state",
		  LOG_FIELDS(log_text("from", names[b->state]),
			     log_text("to", names[state])),
		  "bus: %s -> %s", names[b->state], names[state]);
	b->state = state;
	if (state == BUS_STATE_LIVE) {
		b->away_ms = 0;
		atomic_store(&b->is_warm, true);
		atomic_store(&b->is_up, true);
		return;
	}
	atomic_store(&b->is_up, false);
	if (b->away_ms == 0)
		b->away_ms = uv_now(&b->loop);
	if (state == BUS_STATE_WARMING)
		b->warm_from_ms = uv_now(&b->loop);
	if (atomic_load(&b->behind_ms) == 0)
		atomic_store(&b->behind_ms, uv_hrtime() / NS_A_MS);
}

void bus_next_server(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	b->server = (b->server + 1) % b->servers_count;
}

void bus_disconnect(struct bus *b, const char *why)
{
	CHECK_ON_THREAD(b->owner);
	log_event(LOG_WARN, "bus_down", LOG_FIELDS(log_text("reason", why)),
		  "bus: %s", why);
	nats_close(b->nats);
	b->nats = NULL;
	b->wait_until_ms = 0;
	bus_next_server(b);
	b->connect_ms = uv_now(&b->loop) + BUS_TICK_MS +
			bus_random() % (2 * BUS_TICK_MS);
	bus_set_state(b, BUS_STATE_DOWN);
}
