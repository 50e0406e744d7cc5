/* run.h - a run from its first connection to its last, and what came of it.
 *
 * Threads: the main thread; it runs a loop of its own meanwhile. */
#ifndef ISIMUD_CLI_BENCH_RUN_H
#define ISIMUD_CLI_BENCH_RUN_H

#include "cli/bench/cost.h"
#include "cli/bench/crowd.h"
#include "cli/bench/durations.h"
#include "cli/bench/plan.h"

#include <stdbool.h>
#include <stdint.h>

/* What was measured. Zeroed memory is nothing. */
struct run_result {
	/* Over the measured time; PLAN_STORM: from the cut to the last probe.
	 */
	double seconds;
	uint64_t delivered;
	uint64_t answered; /* publications */
	double server_cpu; /* seconds, here and below */
	double own_cpu;
	double machine_cpu;

	/* What it took to connect all. */
	double connect_seconds;
	double connect_cpu; /* the server's */

	/* The server's memory, in bytes: before, with all subscribed, at last.
	 */
	double rss_before;
	double rss_open;
	double rss_after;

	/* PLAN_LATENCY */
	struct durations durations;
	uint64_t sent_late_ns; /* the worst of the generator's own delays */

	/* PLAN_STORM: seconds until all are connected, and subscribed again. */
	double storm_open;
	double storm_ready;

	/* What was checked, over all of the run. */
	struct crowd_counts counts;
	uint64_t missing;
	uint64_t missing_subscribers; /* who lack some */
	uint64_t refused;             /* publications */
	uint64_t unanswered;          /* the same */
	bool is_good;
};

/* Tells how far it is, some times a second: `done` from 0 to 1. */
typedef void (*run_progress_cb)(void *user, const char *phase, double done,
				uint64_t delivered, uint64_t answered);

/* Does it. `server` may be empty. Returns 0; or -1, and `trouble` says why. */
int run_plan(const struct plan *plan, const struct cost_group *server,
	     run_progress_cb progress, void *user, struct trouble *trouble,
	     struct run_result *out);

#endif
