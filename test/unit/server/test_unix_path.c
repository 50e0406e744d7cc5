/* test_unix_path.c - what src/server/unix_path.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "server/unix_path.h"

static char folder[64];
static char path[96];
static char lock[128];
static struct unix_path one;
static struct unix_path two;
static int first;
static int second;
static const struct config config;
static sigset_t signals;

static int new_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int open_all(void **state)
{
	(void)state;
	memset(&one, 0, sizeof one);
	memset(&two, 0, sizeof two);
	sigemptyset(&signals);
	first = new_socket();
	second = new_socket();
	snprintf(folder, sizeof folder, "/tmp/isimud-path-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/socket", folder);
	snprintf(lock, sizeof lock, "%s.lock", path);
	return 0;
}

static int close_all(void **state)
{
	(void)state;
	unix_path_leave(&one);
	unix_path_leave(&two);
	close(first);
	close(second);
	unlink(path);
	return rmdir(folder);
}

static int take(struct unix_path *p)
{
	return unix_path_take(p, path, &config, &signals);
}

static unsigned mode_of(void)
{
	struct stat st;
	return lstat(path, &st) == 0 ? st.st_mode & 0777 : 0;
}

static bool exists(const char *name)
{
	struct stat st;
	return lstat(name, &st) == 0;
}

static void it_is_there_from_binding_to_leaving(void **state)
{
	(void)state;
	assert_int_equal(take(&one), 0);
	assert_true(exists(lock));
	assert_int_equal(unix_path_bind(&one, first, 0600), 0);
	assert_true(exists(path));
	unix_path_leave(&one);
	assert_false(exists(path));
	assert_false(exists(lock));
	unix_path_leave(&one);
}

static void its_mode_is_what_was_asked_for(void **state)
{
	static const mode_t masks[] = {0, 022, 077, 0777};
	static const mode_t modes[] = {0600, 0660, 0666, 0777};

	(void)state;
	for (size_t i = 0; i < 16; i++) {
		int fd = new_socket();
		mode_t before = umask(masks[i % 4]);
		assert_int_equal(take(&one), 0);
		int rv = unix_path_bind(&one, fd, modes[i / 4]);
		umask(before);
		assert_int_equal(rv, 0);
		assert_int_equal(mode_of(), modes[i / 4]);
		unix_path_leave(&one);
		close(fd);
	}
}

static void the_second_is_refused_while_the_first_has_it(void **state)
{
	(void)state;
	assert_int_equal(take(&one), 0);
	/* Not even a file is needed. */
	assert_int_equal(take(&two), UV_EBUSY);
	assert_int_equal(two.found.pid, getpid());
	assert_int_equal(unix_path_bind(&one, first, 0600), 0);
	unix_path_leave(&two);
	assert_true(exists(path));
	assert_true(exists(lock));
	unix_path_leave(&one);
	assert_int_equal(take(&two), 0);
}

static void the_file_of_a_successor_is_left_alone(void **state)
{
	(void)state;
	assert_int_equal(take(&one), 0);
	assert_int_equal(unix_path_bind(&one, first, 0600), 0);
	/* Somebody tidied up, and another came. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(take(&two), 0);
	assert_int_equal(unix_path_bind(&two, second, 0600), 0);
	unix_path_leave(&one);
	assert_true(exists(path));
	assert_true(exists(lock));
	unix_path_leave(&two);
	assert_false(exists(path));
}

static void what_was_left_behind_is_replaced(void **state)
{
	(void)state;
	assert_int_equal(take(&one), 0);
	assert_int_equal(unix_path_bind(&one, first, 0600), 0);
	close(first);
	lockfile_release(&one.lock); /* as a kill does */
	assert_true(exists(lock));
	assert_int_equal(take(&two), 0);
	assert_false(exists(path));
	assert_int_equal(unix_path_bind(&two, second, 0600), 0);
	unix_path_leave(&two);
	first = new_socket();
}

static void who_does_not_lock_is_noticed_by_listening(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)state;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	assert_int_equal(
		bind(second, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(second, 1), 0);
	assert_int_equal(take(&one), 0);
	assert_true(exists(path));
	assert_int_equal(unix_path_bind(&one, first, 0600), UV_EADDRINUSE);
	unix_path_leave(&one);
	assert_true(exists(path));
}

static void what_is_no_socket_is_left_alone(void **state)
{
	(void)state;
	assert_int_equal(symlink("/nonexistent", path), 0);
	assert_int_equal(take(&one), 0);
	assert_int_equal(unix_path_bind(&one, first, 0600), UV_EADDRINUSE);
	unix_path_leave(&one);
	assert_true(exists(path));
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	static char longer[200];

	(void)state;
	memset(longer, 'x', sizeof longer - 1);
	longer[0] = '/';
	assert_int_equal(unix_path_take(&one, longer, &config, &signals),
			 UV_ENAMETOOLONG);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(it_is_there_from_binding_to_leaving),
		TEST(its_mode_is_what_was_asked_for),
		TEST(the_second_is_refused_while_the_first_has_it),
		TEST(the_file_of_a_successor_is_left_alone),
		TEST(what_was_left_behind_is_replaced),
		TEST(who_does_not_lock_is_noticed_by_listening),
		TEST(what_is_no_socket_is_left_alone),
		TEST(a_path_that_is_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
