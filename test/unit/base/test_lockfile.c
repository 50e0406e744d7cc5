/* test_lockfile.c - what src/base/lockfile.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/lockfile.h"

static char folder[64];
static char path[96];
static char lock[128];
static struct lockfile one;
static struct lockfile two;
static struct lockfile_note found;

static int open_all(void **state)
{
	(void)state;
	memset(&one, 0, sizeof one);
	memset(&two, 0, sizeof two);
	snprintf(folder, sizeof folder, "/tmp/isimud-lock-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/history", folder);
	snprintf(lock, sizeof lock, "%s.lock", path);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	lockfile_release(&one);
	lockfile_release(&two);
	unlink(lock);
	rmdir(lock);
	return rmdir(folder);
}

static bool exists(const char *name)
{
	return access(name, F_OK) == 0;
}

static void the_second_is_told_who_is_the_first(void **state)
{
	(void)state;
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_int_equal(found.pid, 0);
	assert_int_equal(found.state, LOCKFILE_STARTING);
	assert_int_equal(lockfile_write(&one, LOCKFILE_SERVING, 0), 0);
	assert_int_equal(lockfile_take(&two, path, &found), UV_EBUSY);
	assert_false(two.is_taken);
	assert_int_equal(found.pid, getpid());
	assert_int_equal(found.state, LOCKFILE_SERVING);
	assert_int_equal(lockfile_write(&one, LOCKFILE_DRAINING, 0), 0);
	assert_int_equal(lockfile_take(&two, path, &found), UV_EBUSY);
	assert_int_equal(found.state, LOCKFILE_DRAINING);
}

static void the_note_is_there_for_the_next(void **state)
{
	(void)state;
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_int_equal(lockfile_write(&one, LOCKFILE_SAVED, UINT64_MAX), 0);
	lockfile_release(&one);
	assert_int_equal(lockfile_take(&two, path, &found), 0);
	assert_int_equal(found.state, LOCKFILE_SAVED);
	assert_int_equal(found.number, UINT64_MAX);
	/* It stays until it is replaced: the second may not come far. */
	lockfile_release(&two);
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_int_equal(found.state, LOCKFILE_SAVED);
}

static void it_is_free_once_its_process_was_killed(void **state)
{
	int ready[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (lockfile_take(&one, path, &found) == 0 &&
		    lockfile_write(&one, LOCKFILE_SERVING, 7) == 0 &&
		    write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(lockfile_take(&two, path, &found), UV_EBUSY);
	assert_int_equal(found.pid, child);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(lockfile_take(&two, path, &found), 0);
	assert_int_equal(found.pid, child);
	assert_int_equal(found.number, 7);
	close(ready[0]);
	close(ready[1]);
}

static void removing_leaves_nothing(void **state)
{
	(void)state;
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_true(exists(lock));
	lockfile_remove(&one);
	assert_false(exists(lock));
	lockfile_remove(&one);
	assert_int_equal(lockfile_take(&two, path, &found), 0);
	lockfile_remove(&one);
	assert_true(exists(lock));
}

static void who_lost_it_to_another_knows(void **state)
{
	(void)state;
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_true(lockfile_keep(&one));
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(lockfile_take(&two, path, &found), 0);
	assert_false(lockfile_keep(&one));
	/* Also once that one has ended. */
	lockfile_release(&two);
	assert_false(lockfile_keep(&one));
	lockfile_remove(&one);
	assert_true(exists(lock));
}

static void who_lost_it_to_nobody_makes_it_again(void **state)
{
	(void)state;
	assert_int_equal(lockfile_take(&one, path, &found), 0);
	assert_int_equal(lockfile_write(&one, LOCKFILE_SERVING, 3), 0);
	assert_int_equal(unlink(lock), 0);
	assert_true(lockfile_keep(&one));
	assert_true(exists(lock));
	assert_int_equal(lockfile_take(&two, path, &found), UV_EBUSY);
	assert_int_equal(found.state, LOCKFILE_SERVING);
	assert_int_equal(found.number, 3);
}

static void one_that_is_not_taken_is_nobodys(void **state)
{
	(void)state;
	assert_false(lockfile_keep(&one));
	assert_int_equal(lockfile_write(&one, LOCKFILE_SERVING, 0), 0);
	lockfile_release(&one);
	assert_false(exists(lock));
}

static void what_is_no_file_is_no_lock(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(lock, 0600), 0);
	assert_int_equal(lockfile_take(&one, path, &found), UV_EINVAL);
	unlink(lock);
	assert_int_equal(symlink("/dev/null", lock), 0);
	assert_int_equal(lockfile_take(&one, path, &found), UV_ELOOP);
	unlink(lock);
	assert_int_equal(mkdir(lock, 0700), 0);
	assert_int_equal(lockfile_take(&one, path, &found), UV_EISDIR);
}

static void a_note_of_nonsense_is_none(void **state)
{
	static const char *const notes[] = {
		"", "x", "1 serving", "1 loitering 5                     \n"};

	(void)state;
	for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
		FILE *file = fopen(lock, "w");
		assert_non_null(file);
		fprintf(file, "%-47s\n", notes[i]);
		fclose(file);
		assert_int_equal(lockfile_take(&one, path, &found), 0);
		assert_int_equal(found.pid, 0);
		assert_int_equal(found.state, LOCKFILE_STARTING);
		lockfile_release(&one);
	}
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	static char longer[PATH_MAX];

	(void)state;
	memset(longer, 'x', sizeof longer - 1);
	assert_int_equal(lockfile_take(&one, longer, &found), UV_ENAMETOOLONG);
}

/* Each takes it, looks whether he is alone, and removes it, again and again:
 * the file comes and goes under all of them. */
#define TAKERS 4
#define TAKES  500

static void take_and_remove(int marks[2])
{
	char byte = 'x';

	for (int taken = 0; taken < TAKES;) {
		if (lockfile_take(&one, path, &found) != 0)
			continue;
		/* The pipe holds one byte, which whoever is in has. */
		if (read(marks[0], &byte, 1) != 1)
			_exit(1);
		if (write(marks[1], &byte, 1) != 1)
			_exit(2);
		lockfile_remove(&one);
		taken++;
	}
	_exit(0);
}

static void however_many_take_and_remove_it_one_has_it(void **state)
{
	pid_t children[TAKERS];
	int marks[2];
	int status;

	(void)state;
	/* Reading does not wait: two who are in at once find one byte. */
	assert_int_equal(uv_pipe(marks, UV_NONBLOCK_PIPE, 0), 0);
	assert_int_equal(write(marks[1], "x", 1), 1);
	for (int i = 0; i < TAKERS; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (children[i] == 0)
			take_and_remove(marks);
	}
	for (int i = 0; i < TAKERS; i++) {
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	assert_false(exists(lock));
	close(marks[0]);
	close(marks[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(the_second_is_told_who_is_the_first),
		TEST(the_note_is_there_for_the_next),
		TEST(it_is_free_once_its_process_was_killed),
		TEST(removing_leaves_nothing),
		TEST(who_lost_it_to_another_knows),
		TEST(who_lost_it_to_nobody_makes_it_again),
		TEST(one_that_is_not_taken_is_nobodys),
		TEST(what_is_no_file_is_no_lock),
		TEST(a_note_of_nonsense_is_none),
		TEST(a_path_that_is_too_long_is_refused),
		TEST(however_many_take_and_remove_it_one_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
