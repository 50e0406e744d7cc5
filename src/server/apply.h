/* apply.h - applies the log of the cluster (bus.h) to what the workers share.
 *
 * The bus's thread calls it: each publication goes to the registry, which posts
 * it to the workers; the receipt of each request with a key goes to the table,
 * so that any node can answer a repetition. */
#ifndef ISIMUD_SERVER_APPLY_H
#define ISIMUD_SERVER_APPLY_H

#include "cluster/bus.h"
#include "server/worker.h"

/* Used by the bus's thread alone, once it runs: bus.c checks that. */
struct apply {
	struct worker_shared *shared; /* outlives it */
	struct mailbox *const *mailboxes;
	struct buf receipt; /* scratch */
};

void apply_init(struct apply *a, struct worker_shared *shared,
		struct mailbox *const *mailboxes);
void apply_fini(struct apply *a);

struct bus_sink apply_sink(struct apply *a);

/* Publications that the log has. */
struct apply_published {
	struct span body; /* as record_next() reads it */
	size_t count;     /* of them in `body` */
	bool is_array;    /* the request had an array */
	uint64_t epoch;
	uint64_t number; /* of the first */
};

/* Writes to `out` what their publisher is answered: a receipt, or an array.
 * Returns 0 or UV_ENOMEM. Threads: any. */
int apply_write_receipts(const struct worker_shared *shared, struct buf *out,
			 const struct apply_published *published);

#endif
