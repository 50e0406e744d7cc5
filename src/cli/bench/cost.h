/* cost.h - what processes use of this machine, by /proc.
 *
 * Threads: the main thread. */
#ifndef ISIMUD_CLI_BENCH_COST_H
#define ISIMUD_CLI_BENCH_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define COST_PIDS_MAX 256

/* Processes and all that descend from them. Zeroed memory is none. */
struct cost_group {
	size_t count;
	pid_t pids[COST_PIDS_MAX];
};

/* Fills `out` with the processes that `list` names ("12,34") and their
 * descendants. Returns false if one of them is not there. */
bool cost_group_find(struct cost_group *out, const char *list);

/* User and system time of all their threads, in seconds; it counts in
 * hundredths. */
double cost_group_cpu(const struct cost_group *g);

/* The bytes of their memory that are in RAM. */
double cost_group_rss(const struct cost_group *g);

/* This process's CPU seconds; and those of the whole machine, interrupts too.
 */
double cost_own_cpu(void);
double cost_machine_cpu(void);

#endif
