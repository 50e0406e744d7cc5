/* metrics.h - the counters and gauges in Prometheus's text format (0.0.4).
 *
 * Only atomics are read: no loop is stopped, no lock taken. There is no label
 * by topic or publisher, of which there may be any number.
 * Threads: any. */
#ifndef ISIMUD_STATS_METRICS_H
#define ISIMUD_STATS_METRICS_H

#include "base/buf.h"
#include "stats/stats.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Of a node among several: how its bus is (cluster/bus.h). */
struct metrics_bus {
	bool is_up;
	uint64_t sequence;
	uint64_t lag_ms;
	uint64_t pending_bytes;
	uint64_t records_in;
	uint64_t publications_in;
	uint64_t records_out;
	uint64_t publications_out;
	/* By reason: the first has none, and is not told. */
	const uint64_t *joins;
	const char *const *join_names;
	unsigned join_kinds;
	uint64_t epochs;
	uint64_t lost_records;
	uint64_t divergences;
	uint64_t unknown;
	uint64_t resends;
	uint64_t warm_up_ms;
	unsigned nodes;
	const struct histogram *acks;
};

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
	const struct metrics_bus *bus; /* NULL: the process is alone */
};

/* Appends all metrics to `out`. Returns 0, or UV_ENOMEM with a part of them
 * appended. */
int metrics_write(struct buf *out, const struct metrics_source *source);

#endif
