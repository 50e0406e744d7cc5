/* cgroup.c - reads the limits of the groups from the files the kernel makes.
 *
 * Linux: Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max) and
 * cgroup-v1/memory.rst, scheduler/sched-bwc.rst; cgroups(7) for
 * /proc/self/cgroup. */
#include "config/cgroup.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 1024

/* A group that this process is in, or one above it: a folder. */
struct group {
	const char *mount; /* where its hierarchy is mounted, under root */
	char path[PATH_BYTES];
};

/* Whether `controller` is one of a list separated by commas. */
static bool names_controller(const char *list, const char *controller)
{
	size_t len = strlen(controller);
	for (;;) {
		size_t n = strcspn(list, ",");
		if (n == len && memcmp(list, controller, n) == 0)
			return true;
		if (list[n] == '\0')
			return false;
		list += n + 1;
	}
}

/* Finds the group of this process in the hierarchy of `controller` ("": the
 * one of version 2). Its path is empty at the top, and where nothing is said.
 */
static void find_group(struct group *g, const char *root,
		       const char *controller)
{
	char name[PATH_BYTES];
	char line[PATH_BYTES];

	g->path[0] = '\0';
	snprintf(name, sizeof name, "%sproc/self/cgroup", root);
	FILE *file = fopen(name, "re");
	if (file == NULL)
		return;
	/* HIERARCHY-ID:CONTROLLERS:PATH */
	while (fgets(line, sizeof line, file) != NULL) {
		char *list = strchr(line, ':');
		char *path = list == NULL ? NULL : strchr(list + 1, ':');
		if (path == NULL)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (names_controller(list + 1, controller))
			snprintf(g->path, sizeof g->path, "%s", path);
	}
	fclose(file);
}

/* Goes to the group above. Returns false at the top of what is mounted. */
static bool go_up(struct group *g)
{
	char *last = strrchr(g->path, '/');
	if (last == NULL)
		return false;
	*last = '\0';
	return true;
}

/* Reads up to two numbers from a file of a group; "max" reads as -1. Returns
 * how many it read. */
static int read_numbers(const char *root, const struct group *g,
			const char *file_name, double out[2])
{
	char name[2 * PATH_BYTES];
	char text[64];
	int n = 0;

	snprintf(name, sizeof name, "%s%s%s/%s", root, g->mount, g->path,
		 file_name);
	FILE *file = fopen(name, "re");
	if (file == NULL)
		return 0;
	if (fgets(text, sizeof text, file) != NULL) {
		char *rest;
		for (char *word = strtok_r(text, " \n", &rest);
		     word != NULL && n < 2; word = strtok_r(NULL, " \n", &rest))
			out[n++] = strcmp(word, "max") == 0 ? -1 : atof(word);
	}
	fclose(file);
	return n;
}

/* Cuts `*cpus` to a quota of so many microseconds in a period of so many; a
 * quota of -1, or one that makes no sense, is none. */
static void cut_to_quota(double *cpus, double quota, double period)
{
	if (quota > 0 && period > 0 && quota / period < *cpus)
		*cpus = quota / period;
}

unsigned cgroup_cpus(const char *root)
{
	struct group two = {.mount = "sys/fs/cgroup"};
	struct group one = {.mount = "sys/fs/cgroup/cpu"};
	double cpus = 1;
	double quota[2];
	double period[2];
	bool has_two = false;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		cpus = CPU_COUNT(&set);
	find_group(&two, root, "");
	do {
		if (read_numbers(root, &two, "cpu.max", quota) != 2)
			continue;
		has_two = true;
		cut_to_quota(&cpus, quota[0], quota[1]);
	} while (go_up(&two));
	find_group(&one, root, "cpu");
	do {
		if (!has_two &&
		    read_numbers(root, &one, "cpu.cfs_quota_us", quota) == 1 &&
		    read_numbers(root, &one, "cpu.cfs_period_us", period) == 1)
			cut_to_quota(&cpus, quota[0], period[0]);
	} while (go_up(&one));
	unsigned whole = (unsigned)cpus;
	return whole < cpus ? whole + 1 : whole;
}

/* Lowers `*limit` to what one file of the group and those above it say. */
static void cut_to_memory(double *limit, const char *root, struct group *g,
			  const char *file_name)
{
	double bytes[2];

	do {
		if (read_numbers(root, g, file_name, bytes) == 1 &&
		    bytes[0] > 0 && bytes[0] < *limit)
			*limit = bytes[0];
	} while (go_up(g));
}

uint64_t cgroup_memory_limit(const char *root)
{
	struct group two = {.mount = "sys/fs/cgroup"};
	struct group one = {.mount = "sys/fs/cgroup/memory"};
	double all =
		(double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
	double limit = all;

	find_group(&two, root, "");
	cut_to_memory(&limit, root, &two, "memory.max");
	find_group(&one, root, "memory");
	cut_to_memory(&limit, root, &one, "memory.limit_in_bytes");
	return limit < all ? (uint64_t)limit : 0;
}
