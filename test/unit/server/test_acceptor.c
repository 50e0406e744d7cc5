/* test_acceptor.c - what src/server/acceptor.h promises: a real thread and real
 * sockets; the workers are mailboxes that nobody but the test empties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oom.h"
#include "server/acceptor.h"

#define WORKERS     2
#define CLIENTS_MAX 400
#define PATIENCE_MS 30000

static const struct config config = {
	.workers = WORKERS,
	.shares = {.admin = 2, .clients = 4, .subscribers = 3, .tcp = 4},
	.ping_interval_ms = 30000,
};

static struct worker workers[WORKERS];
static struct worker *const pointers[WORKERS] = {&workers[0], &workers[1]};
static struct worker_shared shared;
static struct acceptor acceptor;
static bool is_running;
static uv_loop_t loop;
static unsigned ports[2]; /* for clients, and for admins */

static int clients[CLIENTS_MAX];
static unsigned clients_count;
/* What each worker was given, and by which door. */
static int given[WORKERS][CLIENTS_MAX];
static unsigned given_count[WORKERS];
static unsigned given_by[LISTENER_KINDS];

static void on_wake(uv_async_t *async)
{
	(void)async;
}

static int set_up(void **state)
{
	struct acceptor_listener listeners[2];

	(void)state;
	clients_count = 0;
	memset(given_count, 0, sizeof given_count);
	memset(given_by, 0, sizeof given_by);
	memset(&shared, 0, sizeof shared);
	shared.config = &config;
	shared.workers = pointers;
	shared.workers_count = WORKERS;
	assert_int_equal(uv_loop_init(&loop), 0);
	for (unsigned w = 0; w < WORKERS; w++)
		assert_int_equal(mailbox_open(&workers[w].mailbox, &loop, w,
					      1 << 20, on_wake),
				 0);
	for (unsigned i = 0; i < 2; i++) {
		struct config_listener l = {.address = "127.0.0.1"};
		listeners[i] = (struct acceptor_listener){
			.kind = i == 0 ? LISTENER_TCP : LISTENER_ADMIN};
		assert_int_equal(acceptor_listen(&l, NULL, 0, &listeners[i].fd,
						 &ports[i]),
				 0);
	}
	assert_int_equal(acceptor_init(&acceptor, &shared, listeners, 2), 0);
	assert_int_equal(acceptor_start(&acceptor), 0);
	is_running = true;
	return 0;
}

static void stop(void)
{
	if (is_running)
		acceptor_stop(&acceptor);
	is_running = false;
}

static int tear_down(void **state)
{
	(void)state;
	stop();
	acceptor_fini(&acceptor);
	for (unsigned w = 0; w < WORKERS; w++) {
		while (given_count[w] > 0)
			close(given[w][--given_count[w]]);
		mailbox_close(&workers[w].mailbox);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_fini(&workers[w].mailbox);
	while (clients_count > 0)
		close(clients[--clients_count]);
	return uv_loop_close(&loop);
}

/* A client that has connected: it need not be accepted yet. */
static void connect_to(unsigned port)
{
	struct sockaddr_in to;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	clients[clients_count++] = fd;
	assert_int_equal(uv_ip4_addr("127.0.0.1", (int)port, &to), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
}

static unsigned take_all(void)
{
	unsigned total = 0;

	for (unsigned w = 0; w < WORKERS; w++) {
		struct mail mail;
		if (mailbox_take(&workers[w].mailbox, &mail))
			for (size_t i = 0; i < mail.sockets_count; i++) {
				given[w][given_count[w]++] =
					mail.sockets[i].socket;
				given_by[mail.sockets[i].kind]++;
			}
		total += given_count[w];
	}
	return total;
}

/* Waits until the workers were given `count` in all. */
static void await_given(unsigned count)
{
	for (int ms = 0; take_all() < count && ms < PATIENCE_MS; ms++)
		uv_sleep(1);
	assert_int_equal(take_all(), count);
}

/* What a worker does when it closes one. */
static void count_out(enum listener_kind kind, unsigned count)
{
	atomic_fetch_sub(&shared.connections[kind], count);
}

static void workers_are_given_connections_in_turn(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 8; i++) {
		connect_to(ports[0]);
		await_given(i);
	}
	assert_int_equal(given_count[0], 4);
	assert_int_equal(given_count[1], 4);
	assert_int_equal(given_by[LISTENER_TCP], 8);
	assert_int_equal(atomic_load(&shared.connections[LISTENER_TCP]), 8);
}

static void no_more_are_accepted_than_there_are_places(void **state)
{
	const unsigned most = 4 + DESCRIPTORS_OVER_MAX;

	(void)state;
	for (unsigned i = 0; i < most + 5; i++)
		connect_to(ports[0]);
	await_given(most);
	connect_to(ports[1]); /* who comes by another door is not held up */
	await_given(most + 1);
	assert_int_equal(given_by[LISTENER_ADMIN], 1);
	count_out(LISTENER_TCP, 3);
	await_given(most + 1 + 3);
	assert_int_equal(given_by[LISTENER_TCP], most + 3);
	assert_int_equal(stats_get(&acceptor.stats, STATS_accept_paused), 0);
}

static void accepted_sockets_are_nonblocking_and_watch_over_their_peer(
	void **state)
{
	int value = 0;
	socklen_t len = sizeof value;

	(void)state;
	connect_to(ports[0]);
	await_given(1);
	int fd = given_count[0] > 0 ? given[0][0] : given[1][0];
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len),
			 0);
	assert_true(value);
	assert_int_equal(
		getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
	assert_int_equal(value, 60000);
}

static void without_memory_a_client_is_closed_and_the_next_is_accepted(
	void **state)
{
	char byte;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_elsewhere(1);
	connect_to(ports[0]);
	assert_int_equal(recv(clients[0], &byte, 1, 0), 0);
	assert_true(oom_end());
	assert_int_equal(take_all(), 0);
	connect_to(ports[0]);
	await_given(1);
	assert_int_equal(atomic_load(&shared.connections[LISTENER_TCP]), 1);
}

/* Leaves the process no descriptor but those that are open. */
static struct rlimit take_descriptors_away(void)
{
	struct rlimit before;
	int first_free = dup(0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	struct rlimit none = before;
	none.rlim_cur = (rlim_t)first_free;
	close(first_free);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

static void without_descriptors_an_admin_is_accepted_and_others_wait(
	void **state)
{
	(void)state;
	/* The spare of the acceptor is taken as its thread starts. */
	connect_to(ports[0]);
	await_given(1);
	for (unsigned i = 0; i < 2; i++) {
		clients[clients_count++] = socket(AF_INET, SOCK_STREAM, 0);
		assert_true(clients[clients_count - 1] >= 0);
	}
	struct rlimit before = take_descriptors_away();
	for (unsigned i = 0; i < 2; i++) { /* a client, then an admin */
		struct sockaddr_in to;
		uv_ip4_addr("127.0.0.1", (int)ports[i], &to);
		assert_int_equal(connect(clients[clients_count - 2 + i],
					 (struct sockaddr *)&to, sizeof to),
				 0);
	}
	await_given(2);
	assert_int_equal(given_by[LISTENER_ADMIN], 1);
	assert_true(stats_get(&acceptor.stats, STATS_accept_paused) > 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	await_given(3);
	assert_int_equal(given_by[LISTENER_TCP], 2);
}

static void who_has_connected_is_accepted_before_the_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++)
		connect_to(ports[0]);
	stop();
	await_given(300);
	assert_int_equal(given_by[LISTENER_TCP], 300);
}

static void a_port_that_somebody_has_is_an_error(void **state)
{
	struct config_listener l = {.address = "127.0.0.1", .port = ports[0]};
	unsigned port;
	int fd;

	(void)state;
	assert_int_equal(acceptor_listen(&l, NULL, 0, &fd, &port),
			 UV_EADDRINUSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			workers_are_given_connections_in_turn, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			no_more_are_accepted_than_there_are_places, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			accepted_sockets_are_nonblocking_and_watch_over_their_peer,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			without_descriptors_an_admin_is_accepted_and_others_wait,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			without_memory_a_client_is_closed_and_the_next_is_accepted,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			who_has_connected_is_accepted_before_the_end, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			a_port_that_somebody_has_is_an_error, set_up,
			tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
