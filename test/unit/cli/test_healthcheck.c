/* test_healthcheck.c - what src/cli/healthcheck.h promises, asked of a server
 * that answers whatever a test has set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/healthcheck.h"
#include "loopback.h"
#include "oom.h"

#define FINE      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
#define TRIES_MAX 500 /* allocations of one probe; more is a loop */

/* Answers each connection's first request, and closes it. */
struct answerer {
	uv_thread_t thread;
	int listener;
	unsigned port;
	const char *answer;
	char asked[1024]; /* the last request */
};

static void answer_one(struct answerer *a, int fd)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < sizeof a->asked - 1 &&
	       memmem(a->asked, len, "\r\n\r\n", 4) == NULL) {
		n = recv(fd, a->asked + len, sizeof a->asked - 1 - len, 0);
		if (n > 0)
			len += (size_t)n;
	}
	a->asked[len] = '\0';
	(void)!send(fd, a->answer, strlen(a->answer), MSG_NOSIGNAL);
	close(fd);
}

static void answerer_main(void *arg)
{
	struct answerer *a = arg;
	int fd;

	while ((fd = accept(a->listener, NULL, NULL)) >= 0)
		answer_one(a, fd);
}

static int set_up(void **state)
{
	struct answerer *a = calloc(1, sizeof *a);
	struct sockaddr_in name;

	assert_non_null(a);
	a->listener = listen_on_loopback(&name);
	a->port = ntohs(name.sin_port);
	a->answer = FINE;
	assert_int_equal(uv_thread_create(&a->thread, answerer_main, a), 0);
	*state = a;
	return 0;
}

static int tear_down(void **state)
{
	struct answerer *a = *state;

	shutdown(a->listener, SHUT_RDWR); /* accept() returns */
	uv_thread_join(&a->thread);
	close(a->listener);
	free(a);
	return 0;
}

static struct config config_of(unsigned port)
{
	struct config c = {.ip = "127.0.0.1", .listeners_count = 1};

	snprintf(c.listeners[0].address, sizeof c.listeners[0].address,
		 "127.0.0.1");
	c.listeners[0].port = port;
	return c;
}

static int probe(const struct answerer *a)
{
	struct config c = config_of(a->port);
	return probe_run(&c);
}

static void one_that_answers_200_is_well(void **state)
{
	struct answerer *a = *state;

	assert_int_equal(probe(a), 0);
	assert_memory_equal(a->asked, "GET /healthz HTTP/1.1\r\n", 23);
}

static void one_that_answers_something_else_is_not(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok\n",
		"SSH-2.0-OpenSSH\r\n",
		"",
	};
	struct answerer *a = *state;

	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		a->answer = answers[i];
		assert_int_equal(probe(a), 1);
	}
}

static void one_that_is_not_there_is_not_well(void **state)
{
	struct sockaddr_in name;
	int listener = listen_on_loopback(&name);
	struct config c = config_of(ntohs(name.sin_port));
	(void)state;

	close(listener); /* nobody listens there now */
	assert_int_equal(probe_run(&c), 1);
}

static void any_port_is_none_to_ask(void **state)
{
	struct config c = config_of(0);
	(void)state;

	assert_int_equal(probe_run(&c), 1);
}

static void the_admin_port_is_asked_where_there_is_one(void **state)
{
	struct answerer *a = *state;
	struct config c = config_of(0);

	c.has_admin_port = true;
	c.admin_port = a->port;
	assert_int_equal(probe_run(&c), 0);
}

static int probe_in_child(void *arg)
{
	return probe(arg);
}

static void without_memory_it_is_not_well(void **state)
{
	unsigned refused = 0;

	OOM_OR_SKIP();
	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct oom_child child =
			oom_in_child(probe_in_child, *state, n);
		if (!child.has_failed) {
			assert_int_equal(child.rv, 0);
			assert_true(refused > 2);
			return;
		}
		if (!child.is_aborted_by_libuv)
			assert_in_range(child.rv, 0, 1);
		refused += child.rv == 1;
	}
	fail_msg("no end of allocations");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_answers_200_is_well),
		TEST(one_that_answers_something_else_is_not),
		cmocka_unit_test(one_that_is_not_there_is_not_well),
		cmocka_unit_test(any_port_is_none_to_ask),
		TEST(the_admin_port_is_asked_where_there_is_one),
		TEST(without_memory_it_is_not_well),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
