/* crowd.h - the subscribers of a run, and what they have received.
 *
 * They are dealt out over threads, each with a loop; the first is the caller's.
 * Threads: the caller's, which is the main thread. */
#ifndef ISIMUD_CLI_BENCH_CROWD_H
#define ISIMUD_CLI_BENCH_CROWD_H

#include "cli/bench/durations.h"
#include "cli/bench/plan.h"

#include <stdint.h>
#include <uv.h>

struct crowd;

/* What has been since the start, all threads together. */
struct crowd_counts {
	uint64_t open;      /* connections that are subscribed, or asked to;
			       stalled ones too */
	uint64_t ready;     /* of those: have got a probe */
	uint64_t probes;    /* received */
	uint64_t delivered; /* different messages, probes not counted */
	uint64_t twice;     /* messages that had come before */
	uint64_t late;      /* ... that came behind later ones */
	uint64_t damaged;   /* what is no message of ours */
	uint64_t misrouted; /* messages of other topics */
	uint64_t ended;     /* connections that the server ended */
	uint64_t retries;   /* PLAN_STORM: handshakes that failed */
};

/* Begins to connect all subscribers, on `loop` and on threads of their own.
 * `plan`, `trouble` and `loop` must live as long as it. Returns 0 or UV_E…. */
int crowd_start(struct crowd **out, const struct plan *plan,
		struct trouble *trouble, uv_loop_t *loop);

void crowd_count(const struct crowd *c, struct crowd_counts *out);

/* How many subscribers of `topic` have got a probe. */
unsigned crowd_ready_of(const struct crowd *c, unsigned topic);

/* PLAN_FANOUT: message `id`, counted over all topics, is on its way to so many.
 * At most as many as the window are under way. */
void crowd_expect(struct crowd *c, uint64_t id, unsigned deliveries);

/* How many of those have been delivered to all. */
uint64_t crowd_completed(const struct crowd *c);

/* PLAN_LATENCY: messages that were due before are not measured. */
void crowd_measure_from(struct crowd *c, uint64_t ns);

/* PLAN_STORM: resets all connections, which connect again at once. */
void crowd_cut(struct crowd *c);

/* Ends all connections and threads. What follows may be called then. */
void crowd_stop(struct crowd *c);

void crowd_merge_durations(const struct crowd *c, struct durations *into);

/* How many messages are missing if so many were published in each topic;
 * `*subscribers` receives how many lack one. */
uint64_t crowd_missing(const struct crowd *c, const uint64_t *published,
		       uint64_t *subscribers);

void crowd_free(struct crowd *c); /* NULL is fine */

#endif
