/* metrics.h - the counters and gauges in Prometheus's text format (0.0.4).
 *
 * Only atomics are read: no loop is stopped, no lock taken. There is no label
 * by topic or publisher, of which there may be any number.
 * Threads: any. */
#ifndef ISIMUD_STATS_METRICS_H
#define ISIMUD_STATS_METRICS_H

#include "base/buf.h"
#include "stats/stats.h"

#include <stdint.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* clang-format off */
/* What the process tells beside its workers: member, metric, type, help. */
#define METRICS_VALUES(X)                                                      \
	X(auth_asked, "auth_checks_running", "gauge", "Checks under way.")     \
	X(auth_queued, "auth_checks_queued", "gauge",                          \
	  "Checks that wait for their turn.")                                  \
	X(auth_kept, "auth_kept", "gauge",                                     \
	  "Yeses of the authority that are kept.")                             \
	X(idempotency_count, "idempotency_keys", "gauge",                      \
	  "Answers kept for such repeats.")                                    \
	X(idempotency_bytes, "idempotency_bytes", "gauge", "What they take.")  \
	X(topics, "topics", "gauge",                                           \
	  "Topics that have a subscriber or history.")                         \
	X(history_bytes, "history_bytes", "gauge",                             \
	  "What the history of all topics takes.")                             \
	X(forms_bytes, "history_forms_bytes", "gauge",                         \
	  "What further forms of its messages take besides.")                  \
	X(replay_bytes, "replay_bytes", "gauge",                               \
	  "What is kept beyond the history for those that are behind.")        \
	X(memory_used, "memory_used_bytes", "gauge",                           \
	  "Memory counted against the budget (MEMORY_LIMIT).")                 \
	X(memory_limit, "memory_limit_bytes", "gauge",                         \
	  "The budget; 0: none.")                                              \
	X(memory_resident, "process_resident_memory_bytes", "gauge",           \
	  "Resident memory.")                                                  \
	X(log_dropped, "log_dropped_total", "counter",                         \
	  "Log lines dropped, as nobody read stderr.")                         \
	X(workers_count, "workers", "gauge", "Loop threads.")                  \
	X(connections_limit, "connections_limit", "gauge",                     \
	  "Subscribers over TCP at once (MAX_CONNECTIONS).")                   \
	X(is_draining, "draining", "gauge",                                    \
	  "1 while the server is draining.")                                   \
	X(is_alone, "alone", "gauge",                                          \
	  "1 if topics are this process's own, 0 if nodes share them.")

/* What a node among several tells of its bus (cluster/bus.h): member, metric,
 * labels, type, help. Those in "_seconds" are counted in ms. Rows of the same
 * metric stand one behind the other. */
#define METRICS_BUS(X)                                                         \
	X(is_up, "bus_up", "", "gauge",                                        \
	  "1 while the log takes publications.")                               \
	X(nodes, "bus_nodes", "", "gauge",                                     \
	  "Nodes heard of, this one included.")                                \
	X(sequence, "bus_applied_sequence", "", "gauge",                       \
	  "The last record applied.")                                          \
	X(lag_ms, "bus_lag_seconds", "", "gauge",                              \
	  "For how long it has not been at the log's end.")                    \
	X(warm_up_ms, "bus_warm_up_seconds", "", "gauge",                      \
	  "What the last reading up to the log's end took.")                   \
	X(pending_bytes, "bus_pending_bytes", "", "gauge",                     \
	  "Publications that wait for the log, or its answer.")                \
	X(records_in, "bus_records_total", "direction=\"in\"", "counter",      \
	  "Records of the log, read and written, markers read included.")      \
	X(records_out, "bus_records_total", "direction=\"out\"", "counter",    \
	  NULL)                                                                \
	X(publications_in, "bus_publications_total", "direction=\"in\"",       \
	  "counter", "Publications in these records.")                         \
	X(publications_out, "bus_publications_total", "direction=\"out\"",     \
	  "counter", NULL)                                                     \
	X(epochs, "bus_epochs_total", "", "counter",                           \
	  "Times that all began anew.")                                        \
	X(lost_records, "bus_lost_records_total", "", "counter",               \
	  "Records that were gone before they were read.")                     \
	X(divergences, "bus_divergences_total", "", "counter",                 \
	  "Times it had not applied what others had.")                         \
	X(unknown, "bus_unknown_total", "", "counter",                         \
	  "Requests of which nobody knows whether they were published.")       \
	X(resends, "bus_resends_total", "", "counter",                         \
	  "Records sent again.")
/* clang-format on */

#define METRICS_MEMBER(name, ...) uint64_t name;

/* How a bus is. */
struct metrics_bus {
	METRICS_BUS(METRICS_MEMBER)
	/* Times that the log was joined, by reason: the first has none, and is
	 * not told. Borrowed. */
	const _Atomic uint64_t *joins;
	const char *const *join_names;
	unsigned join_kinds;
	/* From a record sent to its acknowledgement. Borrowed. */
	const struct histogram *acks;
};

/* What is told. Borrowed. */
struct metrics_source {
	METRICS_VALUES(METRICS_MEMBER)
	const struct stats *const *workers; /* `workers_count` of them */
	const struct stats *acceptor;
	const struct metrics_bus *bus; /* NULL: the process is alone */
};
#undef METRICS_MEMBER

/* Appends all metrics to `out`. Returns 0, or UV_ENOMEM with a part of them
 * appended. */
int metrics_write(struct buf *out, const struct metrics_source *source);

#endif
