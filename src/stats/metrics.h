/* metrics.h - the counters and gauges in Prometheus's text format (0.0.4).
 *
 * Only atomics are read: no loop is stopped, no lock taken. There is no label
 * by topic or publisher, of which there may be any number.
 * Threads: any. */
#ifndef ISIMUD_STATS_METRICS_H
#define ISIMUD_STATS_METRICS_H

#include "base/buf.h"
#include "stats/stats.h"

#include <stddef.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What is told. Borrowed. */
struct metrics_source {
	const struct stats *const *workers; /* of each worker */
	unsigned workers_count;
	const struct stats *acceptor;
	size_t topics;
	size_t history_bytes;  /* of what topics keep */
	size_t replay_bytes;   /* of what is kept for those behind alone */
	size_t forms_bytes;    /* of further forms that are kept with it */
	size_t receipts_count; /* answers kept for repeats (receipts.h) */
	size_t receipts_bytes;
	size_t auth_asked;  /* checks of tokens under way (verdicts.h) */
	size_t auth_queued; /* checks that wait for their turn */
	size_t auth_kept;   /* yeses kept */
	int is_draining;
};

/* Appends all metrics to `out`. Returns 0, or UV_ENOMEM with a part of them
 * appended. */
int metrics_write(struct buf *out, const struct metrics_source *source);

#endif
