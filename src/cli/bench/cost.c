/* cost.c - reads /proc. */
#include "cli/bench/cost.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Reads a file of /proc as text. Returns whether there was any. */
static bool read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return false;
	size_t len = fread(text, 1, size - 1, file);
	fclose(file);
	text[len] = '\0';
	return len > 0;
}

/* The parent and the CPU seconds of a process (proc_pid_stat(5)). */
static bool read_process(pid_t pid, pid_t *parent, double *cpu)
{
	char path[64];
	char text[1024];
	unsigned long user;
	unsigned long system;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (!read_text(path, text, sizeof text))
		return false;
	/* The command's name may have any character. */
	const char *rest = strrchr(text, ')');
	if (rest == NULL ||
	    sscanf(rest + 2,
		   "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", parent,
		   &user, &system) != 3)
		return false;
	*cpu = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
	return true;
}

static bool has_process(const struct cost_group *g, pid_t pid)
{
	for (size_t i = 0; i < g->count; i++)
		if (g->pids[i] == pid)
			return true;
	return false;
}

static void add_process(struct cost_group *g, pid_t pid)
{
	if (g->count < COST_PIDS_MAX)
		g->pids[g->count++] = pid;
}

/* Adds the children of those that are in it. Returns whether there were any. */
static bool add_children(struct cost_group *g)
{
	DIR *proc = opendir("/proc");
	size_t before = g->count;
	const struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		pid_t parent;
		double cpu;
		if (pid > 0 && !has_process(g, pid) &&
		    read_process(pid, &parent, &cpu) && has_process(g, parent))
			add_process(g, pid);
	}
	if (proc != NULL)
		closedir(proc);
	return g->count > before;
}

bool cost_group_find(struct cost_group *g, const char *list)
{
	pid_t parent;
	double cpu;

	g->count = 0;
	while (*list != '\0') {
		char *end;
		pid_t pid = (pid_t)strtol(list, &end, 10);
		if (end == list || (*end != ',' && *end != '\0') ||
		    !read_process(pid, &parent, &cpu))
			return false;
		add_process(g, pid);
		list = *end == ',' ? end + 1 : end;
	}
	while (add_children(g))
		;
	return g->count > 0;
}

double cost_group_cpu(const struct cost_group *g)
{
	double sum = 0;

	for (size_t i = 0; i < g->count; i++) {
		pid_t parent;
		double cpu;
		if (read_process(g->pids[i], &parent, &cpu))
			sum += cpu;
	}
	return sum;
}

double cost_group_rss(const struct cost_group *g)
{
	double sum = 0;

	for (size_t i = 0; i < g->count; i++) {
		char path[64];
		char text[4096];
		snprintf(path, sizeof path, "/proc/%d/smaps_rollup",
			 (int)g->pids[i]);
		const char *row = read_text(path, text, sizeof text)
					  ? strstr(text, "\nRss:")
					  : NULL;
		if (row != NULL)
			sum += 1024 * strtod(row + strlen("\nRss:"), NULL);
	}
	return sum;
}

double cost_own_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double cost_machine_cpu(void)
{
	char text[512];
	unsigned long long v[7];

	if (!read_text("/proc/stat", text, sizeof text) ||
	    sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1],
		   &v[2], &v[3], &v[4], &v[5], &v[6]) != 7)
		return 0;
	/* All but idle and waiting for disks (proc_stat(5)). */
	return (double)(v[0] + v[1] + v[2] + v[5] + v[6]) /
	       (double)sysconf(_SC_CLK_TCK);
}
