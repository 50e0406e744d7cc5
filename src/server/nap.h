/* nap.h - when the acceptor naps, so that clients that come in quick succession
 * are accepted together, and workers are woken once for many.
 *
 * A wake-up of another thread costs about a quarter of all that a connection
 * costs. A nap is worth it only if somebody comes meanwhile: a client that
 * connects again when it has its answer never does, and would wait for nothing.
 * So a nap that found nobody is not repeated for a while.
 *
 * Threads: one. */
#ifndef ISIMUD_SERVER_NAP_H
#define ISIMUD_SERVER_NAP_H

#include <stdbool.h>
#include <stdint.h>

#define NAP_MS 1

/* Zeroed: nobody has come yet. */
struct nap {
	uint64_t came_ns; /* when the last batch was accepted */
	unsigned skipped; /* batches until a nap is tried again */
	bool has_napped;  /* before the next batch */
};

/* Call it after each batch of `count` connections. Returns whether to nap for
 * NAP_MS before the next. */
bool nap_is_due(struct nap *n, unsigned count, uint64_t now_ns);

#endif
