/* stats.h - what happened so far, counted, and how things stand.
 *
 * Each loop thread and the acceptor count in a `struct stats` of their own, on
 * cache lines of its own; a reader adds them up. Atomic: everything has one
 * writer, its thread, and any number of readers. */
#ifndef ISIMUD_STATS_STATS_H
#define ISIMUD_STATS_STATS_H

#include "base/histogram.h"
#include "stats/endings.h"

#include <stdatomic.h>
#include <stdint.h>

#define STATS_COUNTERS(X)                                                      \
	X(accepted)         /* connections taken on */                         \
	X(refused)          /* clients told to come back: over a limit */      \
	X(accept_paused)    /* times that accepting waited for descriptors */  \
	X(requests)         /* HTTP requests read */                           \
	X(published)        /* publications answered 200 */                    \
	X(publish_denied)   /* wrong credentials */                            \
	X(publish_invalid)  /* not acceptable: 4xx but for credentials */      \
	X(publish_full)     /* answered 503: a mailbox, or memory, was full */ \
	X(subscribed)       /* subscriptions made */                           \
	X(delivered)        /* messages queued to subscribers */               \
	X(replayed)         /* messages of the history queued to them */       \
	X(resumed)          /* subscriptions that went on without a loss */    \
	X(not_resumed)      /* those that were told they could not */          \
	X(replay_lost)      /* times one that was behind lost messages */      \
	X(dropped)          /* messages that a lossy subscription lost */      \
	X(publish_repeated) /* answered as the first with the same key */      \
	X(commands)         /* of isimud.v1 */                                 \
	X(command_errors)   /* those answered with an error */                 \
	X(password_wrong)   /* presented by publishers and the like */         \
	X(password_late)    /* those answered late, after too many */          \
	X(host_refused)     /* requests for a host not allowed */              \
	X(origin_refused)   /* requests from a web origin not allowed */       \
	X(bytes_in)         /* read from clients */                            \
	X(bytes_out)        /* written to clients */                           \
	X(writes)           /* system calls that wrote */                      \
	X(deflated)         /* messages compressed */                          \
	X(deflate_bytes_in)                                                    \
	X(deflate_bytes_out)                                                   \
	X(inflated) /* messages of clients that were compressed */             \
	X(inflate_bytes_in)                                                    \
	X(inflate_bytes_out)                                                   \
	X(auth_yes)                                                            \
	X(auth_no)                                                             \
	X(auth_failed)                                                         \
	X(auth_known)  /* answered by a yes that was kept */                   \
	X(auth_shared) /* waited for a check under way */                      \
	X(auth_busy)   /* refused: too many under way */

/* The status codes that are ever answered. (clang-format 14 lays this out
 * differently each time.) */
/* clang-format off */
#define STATS_STATUSES(X)                                                      \
	X(101) X(200) X(204) X(303)                                            \
	X(400) X(401) X(403) X(404) X(405) X(406) X(408) X(413) X(414) X(415)  \
	X(417) X(421) X(422) X(426) X(431)                                            \
	X(500) X(501) X(503) X(504) X(505)
/* clang-format on */

/* How things stand, brought up to date every second or when they change. */
#define STATS_GAUGES(X)                                                        \
	X(http)         /* connections with requests */                        \
	X(websocket)    /* open WebSockets */                                  \
	X(event_stream) /* open event streams */                               \
	X(closing)      /* connections on their way out */                     \
	X(subscriptions)                                                       \
	X(behind)               /* subscriptions that still get history */     \
	X(buffered_bytes)       /* not taken by the kernel yet */              \
	X(buffered_worst_bytes) /* of the connection that has the most */      \
	X(mailbox_messages) /* taken at once, the most of the last second */   \
	X(loop_lag_us)      /* how late the last tick was */                   \
	X(beat_ms)          /* when it was, on uv_hrtime()'s clock */

enum stats_counter {
#define STATS_ENUM(name) STATS_##name,
	STATS_COUNTERS(STATS_ENUM)
#undef STATS_ENUM
#define STATS_ENUM(name, code, reason) STATS_closed_##name,
	ENDINGS(STATS_ENUM)
#undef STATS_ENUM
#define STATS_ENUM(status) STATS_http_##status,
		STATS_STATUSES(STATS_ENUM)
#undef STATS_ENUM
			STATS_COUNT,
};

enum stats_gauge {
#define STATS_ENUM(name) STATS_GAUGE_##name,
	STATS_GAUGES(STATS_ENUM)
#undef STATS_ENUM
	STATS_GAUGE_COUNT,
};

struct stats {
	_Alignas(64) _Atomic uint64_t counters[STATS_COUNT];
	_Atomic uint64_t gauges[STATS_GAUGE_COUNT];
	struct histogram delivery; /* from accepted to given to the kernel */
	struct histogram auth;     /* of checks that were answered */
	struct histogram lag;      /* how late ticks were */
};

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

/* The counter's name: "accepted", "closed_slow", "http_200", … */
const char *stats_name(enum stats_counter counter);

/* Counts an answer. A status that is not in the table is counted as 500. */
void stats_add_status(struct stats *s, int status);

#endif
