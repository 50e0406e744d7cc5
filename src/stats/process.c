/* process.c - /proc/self, getrusage(2), getrlimit(2). */
#include "stats/process.h"

#include "base/memory.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Those of proc(5), stat, behind the program's name: num_threads (20),
 * starttime (22), vsize (23). */
static void read_stat(struct process *out, double *start_ticks)
{
	char text[1024];
	unsigned long long start = 0;
	unsigned long long size = 0;
	unsigned long long threads = 0;
	FILE *file = fopen("/proc/self/stat", "re");

	*start_ticks = 0;
	if (file == NULL)
		return;
	size_t len = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[len] = '\0';
	const char *behind = strrchr(text, ')'); /* the name may have some */
	if (behind == NULL ||
	    sscanf(behind + 1,
		   "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
		   "%*s %*s %*s %llu %*s %llu %llu",
		   &threads, &start, &size) != 3)
		return;
	out->threads = threads;
	out->virtual_bytes = size;
	*start_ticks = (double)start;
}

/* The same in each look, though the wall clock may be set meanwhile. */
static double started_at(double ticks)
{
	static _Atomic double started;
	double before = 0;

	if (ticks > 0)
		before = seconds_of(CLOCK_REALTIME) -
			 seconds_of(CLOCK_BOOTTIME) +
			 ticks / (double)sysconf(_SC_CLK_TCK);
	double known = 0;
	if (atomic_compare_exchange_strong(&started, &known, before))
		return before;
	return known;
}

static uint64_t count_descriptors(void)
{
	static const char folder[] = "/proc/self/fd";
	struct stat status;
	uint64_t count = 0;

	if (stat(folder, &status) == 0 && status.st_size > 0)
		return (uint64_t)status.st_size; /* Linux 6.2 and later */
	DIR *all = opendir(folder);
	if (all == NULL)
		return 0;
	while (readdir(all) != NULL)
		count++;
	closedir(all);
	return count < 3 ? 0 : count - 3; /* `.`, `..`, and the folder itself */
}

void process_read(struct process *out)
{
	struct rusage usage;
	struct rlimit limit;
	double ticks;

	*out = (struct process){0};
	read_stat(out, &ticks);
	out->start_seconds = started_at(ticks);
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		out->cpu_seconds = (double)usage.ru_utime.tv_sec +
				   (double)usage.ru_stime.tv_sec +
				   (double)(usage.ru_utime.tv_usec +
					    usage.ru_stime.tv_usec) /
					   1e6;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		out->descriptors_max = limit.rlim_cur;
	out->descriptors = count_descriptors();
	out->resident_bytes = memory_resident();
}
