/* test_server.c - that src/server/server.h starts and stops, whatever memory
 * is missing. What the whole process does else is for test/integration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "access/password.h"
#include "api/routes.h"
#include "loopback.h"
#include "oom.h"
#include "server/server.h"

#define TRIES_MAX 2000 /* allocations of a start; more is a loop */

static const char *settings(const char *name)
{
	static const char *const rows[][2] = {
		{"PASSWORD", "secret"}, {"PORT", "0"},
		{"ADMIN_PORT", "0"},    {"WORKERS", "2"},
		{"DRAIN_SECONDS", "0"}, {"LOG_LEVEL", "error"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (strcmp(name, rows[i][0]) == 0)
			return rows[i][1];
	return NULL;
}

/* A server with orders that it finds as soon as it looks: reload, tell what you
 * have, stop. */
static int start_and_stop(void *arg)
{
	static const int signals[] = {SIGHUP, SIGUSR1, SIGTERM};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < 3; i++)
		sigaddset(&set, signals[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (size_t i = 0; i < 3; i++)
		kill(getpid(), signals[i]);
	return server_run(arg, &routes_app);
}

static struct config config_of_test(void)
{
	struct config c;
	char error[CONFIG_ERROR_MAX];

	if (config_load(&c, settings, error) != 0)
		fail_msg("%s", error);
	password_set_all(&SPAN("secret"), 1);
	return c;
}

static void it_starts_and_stops_when_it_is_told_to(void **state)
{
	struct config c = config_of_test();
	size_t used = settled_memory_used();
	(void)state;

	assert_int_equal(start_and_stop(&c), 0);
	assert_int_equal(settled_memory_used(), used);
}

static void without_memory_it_does_not_start_and_says_so(void **state)
{
	struct config c = config_of_test();
	unsigned refused = 0;
	(void)state;

	OOM_OR_SKIP();
	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct oom_child child = oom_in_child(start_and_stop, &c, n);
		if (!child.has_failed) {
			assert_int_equal(child.rv, 0);
			assert_true(refused > 10);
			return;
		}
		if (!child.is_aborted_by_libuv)
			assert_in_range(child.rv, 0, 1);
		refused += child.rv == 1;
	}
	fail_msg("no end of allocations");
}

/* Another has the port. */
static void where_it_cannot_listen_it_does_not_start(void **state)
{
	struct config c = config_of_test();
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name);
	(void)state;

	c.listeners[0].port = ntohs(name.sin_port);
	assert_int_equal(start_and_stop(&c), SERVER_CONFLICT);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(where_it_cannot_listen_it_does_not_start),
		cmocka_unit_test(without_memory_it_does_not_start_and_says_so),
		cmocka_unit_test(it_starts_and_stops_when_it_is_told_to),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
