/* oom_child.c - a child process without memory: see oom.h. */
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "oom.h"

#define FRAMES_MAX    16
#define HAS_FAILED    32
#define ABORTED_BY_UV 64

static int parents_stderr; /* the child's own is closed: errors are no news */

/* Whose code an address is, "" if nobody's. */
static const char *library_of(void *address)
{
	Dl_info info;

	return dladdr(address, &info) != 0 && info.dli_fname != NULL
		       ? info.dli_fname
		       : "";
}

/* libuv's own, if its code called abort(). */
static void on_abort(int number)
{
	void *frames[FRAMES_MAX];
	int count = backtrace(frames, FRAMES_MAX);

	(void)number;
	for (int i = 1; i < count; i++) {
		const char *library = library_of(frames[i]);
		if (strstr(library, "libuv.so") != NULL)
			_exit(ABORTED_BY_UV | HAS_FAILED);
		if (strstr(library, "libc.so") == NULL)
			break;
	}
	backtrace_symbols_fd(frames, count, parents_stderr);
	signal(SIGABRT, SIG_DFL);
}

/* Exits by exit(), so that its coverage counts. */
static void be_child(int (*run)(void *), void *arg, unsigned nth)
{
	struct rlimit no_core = {0, 0};
	void *frame;

	setrlimit(RLIMIT_CORE, &no_core);
	parents_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	(void)!backtrace(&frame, 1); /* allocates, the first time */
	signal(SIGABRT, on_abort);
	oom_fail_at(nth);
	int rv = run(arg);
	bool has_failed = oom_end();
	exit((rv & (HAS_FAILED - 1)) | (has_failed ? HAS_FAILED : 0));
}

struct oom_child oom_in_child(int (*run)(void *), void *arg, unsigned nth)
{
	int status = 0;

	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		be_child(run, arg, nth);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status))
		fail_msg("allocation %u failed, and signal %d ended it", nth,
			 WTERMSIG(status));
	int code = WEXITSTATUS(status);
	return (struct oom_child){.rv = code & (HAS_FAILED - 1),
				  .has_failed = (code & HAS_FAILED) != 0,
				  .is_aborted_by_libuv =
					  (code & ABORTED_BY_UV) != 0};
}
