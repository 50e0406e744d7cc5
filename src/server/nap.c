/* nap.c - when the acceptor naps. */
#include "server/nap.h"

/* Batches that come so soon one after another are in quick succession. */
#define QUICK_NS 1000000
/* Batches without a nap, after one that found nobody. */
#define SKIPPED 64

bool nap_is_due(struct nap *n, unsigned count, uint64_t now_ns)
{
	bool is_quick = n->has_napped || now_ns - n->came_ns < QUICK_NS;

	if (n->has_napped && count < 2)
		n->skipped = SKIPPED;
	n->came_ns = now_ns;
	n->has_napped = is_quick && n->skipped == 0;
	if (n->skipped > 0)
		n->skipped--;
	return n->has_napped;
}
