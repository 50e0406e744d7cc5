/* stats.h - what happened so far, counted, and how things stand.
 *
 * Each loop thread and the acceptor count in a `struct stats` of their own, on
 * cache lines of its own; a reader adds them up. Atomic: everything has one
 * writer, its thread, and any number of readers. */
#ifndef ISIMUD_STATS_STATS_H
#define ISIMUD_STATS_STATS_H

#include "base/histogram.h"
#include "codec/http/status.h"
#include "stats/close_reasons.h"

#include <stdatomic.h>
#include <stdint.h>

/* Every table has a row for each; /metrics shows them in this order. A metric
 * is named without "isimud_". Rows of the same metric, which differ by their
 * labels, stand one behind the other, and the first of them has its help.
 *
 * clang-format 14 lays this out differently each time. */
/* clang-format off */

/* Counters: name, metric, labels, help. publish_invalid counts answers of 4xx
 * but for credentials, publish_full those of 503: a mailbox or memory was full,
 * or the log was out of reach. */
#define STATS_COUNTERS(X)                                                      \
	X(accepted, "connections_accepted_total", "",                          \
	  "Connections taken on.")                                             \
	X(refused, "connections_refused_total", "",                            \
	  "Connections and subscriptions told to come back later.")            \
	X(accept_paused, "accept_pauses_total", "",                            \
	  "Times that accepting waited for descriptors.")                      \
	X(requests, "http_requests_total", "", "HTTP requests read.")          \
	X(bytes_in, "received_bytes_total", "", "Bytes read from clients.")    \
	X(bytes_out, "sent_bytes_total", "", "Bytes written to clients.")      \
	X(writes, "writes_total", "", "System calls that wrote.")              \
	X(password_wrong, "passwords_wrong_total", "",                         \
	  "Wrong passwords presented.")                                        \
	X(password_late, "passwords_late_total", "",                           \
	  "Those answered late, since their address had too many.")            \
	X(host_refused, "host_refused_total", "",                              \
	  "Requests for a host that is not allowed.")                          \
	X(origin_refused, "origin_refused_total", "",                          \
	  "Requests from a web origin that is not allowed.")                   \
	X(auth_yes, "auth_checks_total", "result=\"yes\"",                     \
	  "Checks of subscribers' tokens, by result; known: by a yes that "    \
	  "was kept, shared: by another's check, busy: too many under "        \
	  "way.")                                                              \
	X(auth_no, "auth_checks_total", "result=\"no\"", NULL)                 \
	X(auth_failed, "auth_checks_total", "result=\"failed\"", NULL)         \
	X(auth_known, "auth_checks_total", "result=\"known\"", NULL)           \
	X(auth_shared, "auth_checks_total", "result=\"shared\"", NULL)         \
	X(auth_busy, "auth_checks_total", "result=\"busy\"", NULL)             \
	X(published, "publishes_total", "result=\"ok\"",                       \
	  "Publications, by result.")                                          \
	X(publish_denied, "publishes_total", "result=\"denied\"", NULL)        \
	X(publish_invalid, "publishes_total", "result=\"invalid\"", NULL)      \
	X(publish_full, "publishes_total", "result=\"full\"", NULL)            \
	X(published_bytes, "published_bytes_total", "",                        \
	  "Bytes of data published.")                                          \
	X(publish_repeated, "publish_repeats_total", "",                       \
	  "Publishing requests answered as the first with the same key.")      \
	X(subscribed, "subscribed_total", "", "Subscriptions made.")           \
	X(resumed, "resumes_total", "result=\"exact\"",                        \
	  "Subscriptions that were to go on from an id, by result: exact, "    \
	  "or reset where messages were lost.")                                \
	X(not_resumed, "resumes_total", "result=\"reset\"", NULL)              \
	X(commands, "commands_total", "", "Commands of isimud.v1.")            \
	X(command_errors, "command_errors_total", "",                          \
	  "Those answered with an error.")                                     \
	X(replay_lost, "replay_lost_total", "",                                \
	  "Times one that was behind was told that messages were lost.")       \
	X(delivered, "deliveries_total", "",                                   \
	  "Messages queued to subscribers.")                                   \
	X(delivered_bytes, "delivered_bytes_total", "",                        \
	  "Bytes queued with these messages, framing included.")               \
	X(replayed, "replayed_total", "",                                      \
	  "Messages of the history queued to subscribers.")                    \
	X(dropped, "dropped_total", "",                                        \
	  "Messages that subscriptions with slow=drop lost.")                  \
	X(deflated, "deflated_total", "",                                      \
	  "Messages compressed, each once for all who get it so.")             \
	X(deflate_bytes_in, "deflate_bytes_total", "direction=\"in\"",         \
	  "Bytes of those, before (in) and after (out).")                      \
	X(deflate_bytes_out, "deflate_bytes_total", "direction=\"out\"", NULL) \
	X(inflated, "inflated_total", "", "Compressed messages of clients.")   \
	X(inflate_bytes_in, "inflate_bytes_total", "direction=\"in\"",         \
	  "Bytes of those, as they came (in) and inflated (out).")             \
	X(inflate_bytes_out, "inflate_bytes_total", "direction=\"out\"", NULL)

/* Gauges of a worker, brought up to date at its ticks, twice a second, or when
 * they change: name, metric, labels, factor from our unit to that of the
 * metric, help. beat_ms, which is not shown, is when the last tick was, on
 * uv_hrtime()'s clock. */
#define STATS_GAUGES(X)                                                        \
	X(http, "connections", "kind=\"http\"", 1,                             \
	  "Connections, by kind and worker.")                                  \
	X(websocket, "connections", "kind=\"websocket\"", 1, NULL)             \
	X(event_stream, "connections", "kind=\"event_stream\"", 1, NULL)       \
	X(closing, "connections", "kind=\"closing\"", 1, NULL)                 \
	X(subscriptions, "subscriptions", "", 1, "Subscriptions.")             \
	X(behind, "subscriptions_behind", "", 1,                               \
	  "Subscriptions that still get history.")                             \
	X(mailbox_messages, "mailbox_messages", "", 1,                         \
	  "Messages a worker took from its mailbox at once, "                  \
	  "at most since its last tick.")                                      \
	X(buffered_bytes, "buffered_bytes", "", 1,                             \
	  "Bytes the kernel has not taken yet.")                               \
	X(buffered_worst_bytes, "buffered_worst_bytes", "", 1,                 \
	  "The same, of the connection that has the most.")                    \
	X(loop_lag_us, "last_loop_lag_seconds", "", 1e-6,                      \
	  "How late the worker's last tick was.")                              \
	X(beat_ms, NULL, "", 1, NULL)

/* Histograms of a worker: name, metric, help. */
#define STATS_HISTOGRAMS(X)                                                    \
	X(delivery, "delivery_seconds",                                        \
	  "From a publication accepted to its messages given to the "          \
	  "kernel, once a worker.")                                            \
	X(auth, "auth_check_seconds",                                          \
	  "Duration of the checks that were answered.")                        \
	X(lag, "loop_lag_seconds", "How late ticks were.")
/* clang-format on */

enum stats_counter {
#define STATS_ENUM(name, ...) STATS_##name,
	STATS_COUNTERS(STATS_ENUM)
#undef STATS_ENUM
#define STATS_ENUM(name, ...) STATS_closed_##name,
	CLOSE_REASONS(STATS_ENUM)
#undef STATS_ENUM
#define STATS_ENUM(status, phrase) STATS_http_##status,
		HTTP_STATUSES(STATS_ENUM)
#undef STATS_ENUM
			STATS_COUNT,
};

enum stats_gauge {
#define STATS_ENUM(name, ...) STATS_GAUGE_##name,
	STATS_GAUGES(STATS_ENUM)
#undef STATS_ENUM
	STATS_GAUGE_COUNT,
};

struct stats {
	_Alignas(64) _Atomic uint64_t counters[STATS_COUNT];
	_Atomic uint64_t gauges[STATS_GAUGE_COUNT];
#define STATS_MEMBER(name, ...) struct histogram name;
	STATS_HISTOGRAMS(STATS_MEMBER)
#undef STATS_MEMBER
};

/* What a counter, a gauge or a histogram is called. */
struct stats_row {
	const char *name;
	const char *metric; /* NULL: it is not shown */
	const char *labels; /* "" for none */
	const char *help;   /* of the metric, in its first row */
};
extern const struct stats_row stats_counters[STATS_COUNT];
extern const struct stats_row stats_gauges[STATS_GAUGE_COUNT];
extern const double stats_gauge_factors[STATS_GAUGE_COUNT];

/* Adds `n`; only ever called by the thread whose stats these are, so a plain
 * load and store are enough. */
static inline void stats_add(struct stats *s, enum stats_counter counter,
			     uint64_t n)
{
	uint64_t old = atomic_load_explicit(&s->counters[counter],
					    memory_order_relaxed);
	atomic_store_explicit(&s->counters[counter], old + n,
			      memory_order_relaxed);
}

static inline uint64_t stats_get(const struct stats *s,
				 enum stats_counter counter)
{
	return atomic_load_explicit(&s->counters[counter],
				    memory_order_relaxed);
}

static inline void stats_set_gauge(struct stats *s, enum stats_gauge gauge,
				   uint64_t value)
{
	atomic_store_explicit(&s->gauges[gauge], value, memory_order_relaxed);
}

static inline uint64_t stats_gauge(const struct stats *s,
				   enum stats_gauge gauge)
{
	return atomic_load_explicit(&s->gauges[gauge], memory_order_relaxed);
}

/* Counts an answer; `status` is one of codec/http/status.h. */
void stats_add_status(struct stats *s, int status);

#endif
