/* apply.h - applies the log of the cluster (bus.h) to what the workers share.
 *
 * The bus's thread calls it: each publication goes to the registry, which posts
 * it to the workers; the receipt of each request with a key goes to the table,
 * so that any node can answer a repetition. */
#ifndef ISIMUD_SERVER_APPLY_H
#define ISIMUD_SERVER_APPLY_H

#include "cluster/bus.h"
#include "server/worker.h"

/* Owner: the bus's thread, once it runs. */
struct apply {
	struct worker_shared *shared; /* outlives it */
	struct mailbox *const *mailboxes;
	struct buf receipt; /* scratch */
};

void apply_init(struct apply *a, struct worker_shared *shared,
		struct mailbox *const *mailboxes);
void apply_fini(struct apply *a);

struct bus_sink apply_sink(struct apply *a);

#endif
