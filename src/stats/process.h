/* process.h - what the kernel says of this process, for the metrics that every
 * program has (process_…).
 *
 * Threads: any. */
#ifndef ISIMUD_STATS_PROCESS_H
#define ISIMUD_STATS_PROCESS_H

#include <stdint.h>

/* What is told: member, metric without "process_", type, help. */
/* clang-format off */
#define PROCESS_VALUES(X)                                                      \
	X(start_seconds, "start_time_seconds", "gauge",                        \
	  "When it was started, in seconds since 1970.")                       \
	X(cpu_seconds, "cpu_seconds_total", "counter",                         \
	  "User and system time.")                                             \
	X(descriptors, "open_fds", "gauge", "Open descriptors.")               \
	X(descriptors_max, "max_fds", "gauge", "The most there may be.")       \
	X(resident_bytes, "resident_memory_bytes", "gauge",                    \
	  "Resident memory.")                                                  \
	X(virtual_bytes, "virtual_memory_bytes", "gauge", "Address space.")    \
	X(threads, "threads", "gauge", "Threads.")
/* clang-format on */

/* 0 where it is unknown. */
struct process {
	double start_seconds; /* by the wall clock at the first look */
	double cpu_seconds;   /* of all threads */
	uint64_t descriptors;
	uint64_t descriptors_max;
	uint64_t resident_bytes;
	uint64_t virtual_bytes;
	uint64_t threads;
};

/* Reads files of /proc; the open descriptors are counted one by one on a kernel
 * before 6.2, some 100 ns each. */
void process_read(struct process *out);

#endif
