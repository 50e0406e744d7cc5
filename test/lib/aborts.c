/* aborts.c - see aborts.h. */
#include "aborts.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

bool aborts(void (*run)(void *), void *arg)
{
	int status = 0;

	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct rlimit no_core = {0, 0};
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		run(arg);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return false;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

struct errand {
	void (*run)(void *);
	void *arg;
};

static void run_elsewhere(void *arg)
{
	struct errand *errand = arg;
	uv_thread_t thread;

	if (uv_thread_create(&thread, errand->run, errand->arg) == 0)
		uv_thread_join(&thread);
}

bool aborts_elsewhere(void (*run)(void *), void *arg)
{
	struct errand errand = {run, arg};

#ifdef ISIMUD_DEBUG
	return aborts(run_elsewhere, &errand);
#else
	return !aborts(run_elsewhere, &errand);
#endif
}
