/* test_cgroup.c - what src/config/cgroup.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ftw.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/cgroup.h"

/* A root folder, ending in a slash. */
static char root[64];

/* Writes a file under the root, and makes the folders above it. */
static void write_file(const char *path, const char *text)
{
	char full[256];

	snprintf(full, sizeof full, "%s%s", root, path);
	for (char *slash = strchr(full + strlen(root), '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	FILE *file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static int make_root(void **state)
{
	(void)state;
	strcpy(root, "/tmp/isimud-test-XXXXXX");
	assert_non_null(mkdtemp(root));
	strcat(root, "/");
	return 0;
}

static int remove_one(const char *path, const struct stat *status, int type,
		      struct FTW *place)
{
	(void)status;
	(void)type;
	(void)place;
	return remove(path);
}

static int remove_root(void **state)
{
	(void)state;
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- CPUs ------------------------------------------------------------------*/

/* The CPUs there are without any quota. */
static unsigned all_cpus(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
	return (unsigned)CPU_COUNT(&set);
}

static unsigned at_most_all(unsigned cpus)
{
	return cpus < all_cpus() ? cpus : all_cpus();
}

static void without_a_quota_all_cpus_of_the_affinity_are_available(void **state)
{
	(void)state;
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void an_affinity_of_one_cpu_leaves_one(void **state)
{
	cpu_set_t before;
	cpu_set_t one;
	size_t cpu = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	write_file("sys/fs/cgroup/cpu.max", "400000 100000\n");
	unsigned cpus = cgroup_cpus(root);
	sched_setaffinity(0, sizeof before, &before);
	assert_int_equal(cpus, 1);
}

static void a_quota_of_cgroup_v2_is_rounded_up(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu.max", "50000 100000\n");
	assert_int_equal(cgroup_cpus(root), 1);
	write_file("sys/fs/cgroup/cpu.max", "100000 100000\n");
	assert_int_equal(cgroup_cpus(root), 1);
	write_file("sys/fs/cgroup/cpu.max", "100001 100000\n");
	assert_int_equal(cgroup_cpus(root), at_most_all(2));
	write_file("sys/fs/cgroup/cpu.max", "30000 20000");
	assert_int_equal(cgroup_cpus(root), at_most_all(2));
	write_file("sys/fs/cgroup/cpu.max", "1000 1000000\n");
	assert_int_equal(cgroup_cpus(root), 1);
}

static void a_quota_above_the_affinity_changes_nothing(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu.max", "99900000 100000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void no_quota_is_called_max_in_cgroup_v2(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu.max", "max 100000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void a_quota_of_cgroup_v1_is_rounded_up(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	write_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(cgroup_cpus(root), 1);
	write_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
	assert_int_equal(cgroup_cpus(root), at_most_all(2));
}

static void no_quota_is_minus_one_in_cgroup_v1(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	write_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void a_quota_of_cgroup_v2_comes_before_one_of_v1(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu.max", "max 100000\n");
	write_file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
	write_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void a_quota_that_makes_no_sense_is_none(void **state)
{
	static const char *const texts[] = {"",      "\n",  "x y\n", "50000\n",
					    "0 0\n", "0 1", "1 0",   "-5 10"};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		write_file("sys/fs/cgroup/cpu.max", texts[i]);
		assert_int_equal(cgroup_cpus(root), all_cpus());
	}
}

static void half_a_quota_of_cgroup_v1_is_none(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

static void the_lowest_quota_of_all_groups_above_counts(void **state)
{
	(void)state;
	write_file("proc/self/cgroup", "0::/slice/unit\n");
	write_file("sys/fs/cgroup/slice/unit/cpu.max", "max 100000\n");
	write_file("sys/fs/cgroup/slice/cpu.max", "100000 100000\n");
	assert_int_equal(cgroup_cpus(root), 1);
	write_file("sys/fs/cgroup/slice/cpu.max", "max 100000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
	write_file("sys/fs/cgroup/slice/unit/cpu.max", "100000 100000\n");
	assert_int_equal(cgroup_cpus(root), 1);
}

static void the_own_group_is_found_among_those_of_version_1(void **state)
{
	(void)state;
	write_file("proc/self/cgroup", "3:cpuset:/wrong\n"
				       "2:cpu,cpuacct:/right\n"
				       "1:name=systemd:/wrong\n"
				       "0::/wrong\n");
	write_file("sys/fs/cgroup/cpu/right/cpu.cfs_quota_us", "100000\n");
	write_file("sys/fs/cgroup/cpu/right/cpu.cfs_period_us", "100000\n");
	assert_int_equal(cgroup_cpus(root), 1);
	write_file("sys/fs/cgroup/cpu/right/cpu.cfs_quota_us", "-1\n");
	write_file("sys/fs/cgroup/cpu/wrong/cpu.cfs_quota_us", "100000\n");
	write_file("sys/fs/cgroup/cpu/wrong/cpu.cfs_period_us", "100000\n");
	assert_int_equal(cgroup_cpus(root), all_cpus());
}

/* --- memory ----------------------------------------------------------------*/

#define MIB (UINT64_C(1) << 20)

static void without_files_of_a_cgroup_memory_has_no_limit(void **state)
{
	(void)state;
	assert_int_equal(cgroup_memory_limit(root), 0);
}

static void memory_of_cgroup_v2_is_limited_by_memory_max(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/memory.max", "67108864\n");
	assert_int_equal(cgroup_memory_limit(root), 64 * MIB);
	write_file("sys/fs/cgroup/memory.max", "max\n");
	assert_int_equal(cgroup_memory_limit(root), 0);
}

static void memory_of_cgroup_v1_is_limited_by_limit_in_bytes(void **state)
{
	(void)state;
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n");
	assert_int_equal(cgroup_memory_limit(root), 64 * MIB);
}

static void all_memory_of_the_machine_or_more_is_no_limit(void **state)
{
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) *
		       (uint64_t)sysconf(_SC_PAGESIZE);
	char text[32];

	(void)state;
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes",
		   "9223372036854771712\n");
	assert_int_equal(cgroup_memory_limit(root), 0);
	snprintf(text, sizeof text, "%ju\n", (uintmax_t)all);
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", text);
	assert_int_equal(cgroup_memory_limit(root), 0);
	snprintf(text, sizeof text, "%ju\n", (uintmax_t)all - 4096);
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", text);
	assert_int_equal(cgroup_memory_limit(root), all - 4096);
}

static void the_lowest_memory_limit_of_all_groups_above_counts(void **state)
{
	(void)state;
	write_file("proc/self/cgroup", "4:memory:/pod/one\n0::/pod/one\n");
	write_file("sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes",
		   "67108864\n");
	write_file("sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
		   "33554432\n");
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes",
		   "9223372036854771712\n");
	assert_int_equal(cgroup_memory_limit(root), 32 * MIB);
	write_file("sys/fs/cgroup/pod/one/memory.max", "16777216\n");
	write_file("sys/fs/cgroup/pod/memory.max", "max\n");
	assert_int_equal(cgroup_memory_limit(root), 16 * MIB);
}

static void a_group_that_is_out_of_sight_is_the_one_at_the_top(void **state)
{
	(void)state;
	write_file("proc/self/cgroup", "4:memory:/docker/0123456789ab\n");
	write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n");
	assert_int_equal(cgroup_memory_limit(root), 64 * MIB);
}

static void a_memory_limit_that_makes_no_sense_is_none(void **state)
{
	static const char *const texts[] = {"", "\n", "x\n", "0\n", "-1\n"};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		write_file("sys/fs/cgroup/memory.max", texts[i]);
		assert_int_equal(cgroup_memory_limit(root), 0);
	}
}

static void lines_that_name_no_group_are_passed_over(void **state)
{
	(void)state;
	write_file("proc/self/cgroup", "\n:\nmemory\n4:memory\n"
				       "4:memory:/pod\n");
	write_file("sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
		   "67108864\n");
	assert_int_equal(cgroup_memory_limit(root), 64 * MIB);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(without_a_quota_all_cpus_of_the_affinity_are_available),
		TEST(an_affinity_of_one_cpu_leaves_one),
		TEST(a_quota_of_cgroup_v2_is_rounded_up),
		TEST(a_quota_above_the_affinity_changes_nothing),
		TEST(no_quota_is_called_max_in_cgroup_v2),
		TEST(a_quota_of_cgroup_v1_is_rounded_up),
		TEST(no_quota_is_minus_one_in_cgroup_v1),
		TEST(a_quota_of_cgroup_v2_comes_before_one_of_v1),
		TEST(a_quota_that_makes_no_sense_is_none),
		TEST(half_a_quota_of_cgroup_v1_is_none),
		TEST(the_lowest_quota_of_all_groups_above_counts),
		TEST(the_own_group_is_found_among_those_of_version_1),
		TEST(without_files_of_a_cgroup_memory_has_no_limit),
		TEST(memory_of_cgroup_v2_is_limited_by_memory_max),
		TEST(memory_of_cgroup_v1_is_limited_by_limit_in_bytes),
		TEST(all_memory_of_the_machine_or_more_is_no_limit),
		TEST(the_lowest_memory_limit_of_all_groups_above_counts),
		TEST(a_group_that_is_out_of_sight_is_the_one_at_the_top),
		TEST(a_memory_limit_that_makes_no_sense_is_none),
		TEST(lines_that_name_no_group_are_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
