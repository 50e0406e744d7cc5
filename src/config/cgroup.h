/* cgroup.h - the limits of this process's control group: CPUs, memory.
 *
 * Both versions of cgroups. A limit may be set for the group itself or for any
 * above it; the lowest counts. In a container, the groups above are mostly not
 * visible, and its own lies at the top of /sys/fs/cgroup. `root` is "/" except
 * in tests. Threads: any. */
#ifndef ISIMUD_CONFIG_CGROUP_H
#define ISIMUD_CONFIG_CGROUP_H

#include <stdint.h>

/* The CPUs of this process's affinity, cut to the CPU quota, rounded up; at
 * least 1. */
unsigned cgroup_cpus(const char *root);

/* The most memory this process may use, in bytes; 0: no limit, which a limit of
 * all the machine's memory or more is, too. */
uint64_t cgroup_memory_limit(const char *root);

#endif
