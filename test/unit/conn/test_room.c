/* test_room.c - what src/conn/conn.h promises of places for subscribers, and of
 * room for connections: who has to go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conn/private.h"
#include "loopback.h"

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define TCP_PLACES 2
#define PLACES     3
/* A client is young for 250 ms. */
#define GROWN_UP_MS 300
/* What a connection has in the kernel. */
#define KERNEL_BYTES 4096

static void on_head(struct conn *c, const struct http_request *request)
{
	(void)c;
	(void)request;
}

/* /sub subscribes, if there is a place; /full asks, and is refused all the
 * same; /trust is a publisher; /room makes room, and is answered whether. */
static void on_request(struct conn *c, const struct http_request *request)
{
	bool is_subscriber = span_equal(request->path, SPAN("/sub"));

	if (span_equal(request->path, SPAN("/trust")))
		conn_trust(c);
	if (span_equal(request->path, SPAN("/room"))) {
		bool is_made = conn_group_make_room(conn_group_of(c),
						    CONN_ROOM_CLIENT);
		conn_respond(c, &(struct http_response){
					.status = is_made ? 200 : 404});
		return;
	}
	if ((is_subscriber || span_equal(request->path, SPAN("/full"))) &&
	    !conn_take_place(c))
		conn_respond_error(c, 503, "full", NULL);
	else if (is_subscriber)
		conn_stream(c, SPAN(":\n\n"));
	else
		conn_respond(c, &(struct http_response){.status = 200});
}

static void on_end(struct conn *c)
{
	(void)c;
}

static const struct conn_hooks hooks = {
	.on_head = on_head, .on_request = on_request, .on_end = on_end};

static int setup(void **state)
{
	static struct loopback l;
	struct conn_limits limits = roomy_limits;

	limits.tcp_subscribers_max = TCP_PLACES;
	limits.subscribers_max = PLACES;
	loopback_open(&l, &hooks, &limits);
	*state = &l;
	return 0;
}

static int teardown(void **state)
{
	loopback_close(*state);
	return 0;
}

static struct client *connect_by(struct loopback *l, enum listener_kind kind)
{
	int fds[2];

	if (kind == LISTENER_UNIX)
		assert_int_equal(
			socketpair(AF_UNIX,
				   SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				   0, fds),
			0);
	else
		tcp_pair(0, &fds[0], &fds[1]);
	assert_int_equal(conn_open(l->group, (struct accepted){fds[0], kind}),
			 0);
	return add_client(l, fds[1]);
}

/* Asks, and waits for the answer. */
static void ask(struct loopback *l, struct client *c, const char *request)
{
	unsigned before = responses(c);

	send_text(c, request);
	WAIT_UNTIL(l, responses(c) == before + 1);
}

static struct client *asking(struct loopback *l, const char *request)
{
	struct client *c = connect_by(l, LISTENER_TCP);
	ask(l, c, request);
	return c;
}

static bool make_room(struct loopback *l)
{
	return conn_group_make_room(l->group, CONN_ROOM_CLIENT);
}

static bool is_open(struct loopback *l, struct client *c)
{
	for (int i = 0; i < 5; i++)
		turn(l);
	return !c->is_over;
}

static size_t subscribers(const struct loopback *l, enum listener_kind kind)
{
	return l->group->subscribers[kind];
}

/* --- room ----------------------------------------------------------------- */

static void without_connections_there_is_none_to_end(void **state)
{
	assert_false(make_room(*state));
	assert_false(conn_group_make_room(((struct loopback *)*state)->group,
					  CONN_ROOM_ADMIN));
}

/* Memory is for who asks next, in the same turn of the loop. */
static void what_one_had_is_free_at_once(void **state)
{
	struct loopback *l = *state;
	size_t before = settled_memory_used();
	struct client *a = connect_by(l, LISTENER_TCP);
	send_text(a, "GET / HTTP/1.1\r\nX: ");
	WAIT_UNTIL(l, settled_memory_used() > before + KERNEL_BYTES + 1000);
	turn_for(l, GROWN_UP_MS);
	size_t with = settled_memory_used();
	assert_true(make_room(l));
	assert_true(with - settled_memory_used() > KERNEL_BYTES + 500);
	WAIT_UNTIL(l, a->is_over);
}

static void who_makes_room_is_not_ended_for_it(void **state)
{
	struct loopback *l = *state;
	struct client *a = asking(l, GET("/room"));
	assert_memory_equal(a->in.bytes, "HTTP/1.1 404", 12);
	struct client *b = connect_by(l, LISTENER_TCP);
	turn_for(l, GROWN_UP_MS);
	ask(l, a, GET("/room"));
	WAIT_UNTIL(l, b->is_over);
	assert_true(is_open(l, a));
}

static void the_one_that_is_quiet_for_longest_goes_first(void **state)
{
	struct loopback *l = *state;
	struct client *a = connect_by(l, LISTENER_TCP); /* says nothing */
	turn_for(l, 2);
	struct client *b = asking(l, GET("/"));
	turn_for(l, 2);
	struct client *c = asking(l, GET("/"));
	turn_for(l, 2);
	ask(l, b, GET("/"));
	turn_for(l, GROWN_UP_MS);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_TCP), 3);
	assert_true(make_room(l));
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_TCP), 2);
	WAIT_UNTIL(l, a->is_over);
	assert_true(is_open(l, b) && is_open(l, c));
	assert_true(make_room(l));
	WAIT_UNTIL(l, c->is_over);
	assert_true(is_open(l, b));
	assert_true(make_room(l));
	WAIT_UNTIL(l, b->is_over);
	assert_false(make_room(l));
	assert_int_equal(ended(l, STATS_closed_displaced), 3);
}

static void the_trusted_goes_last(void **state)
{
	struct loopback *l = *state;
	struct client *trusted = asking(l, GET("/trust"));
	turn_for(l, GROWN_UP_MS);
	struct client *young = connect_by(l, LISTENER_TCP);
	turn(l);
	assert_true(make_room(l));
	WAIT_UNTIL(l, young->is_over);
	assert_true(is_open(l, trusted));
	assert_true(make_room(l));
	WAIT_UNTIL(l, trusted->is_over);
}

static void who_has_just_come_goes_after_who_was_served(void **state)
{
	struct loopback *l = *state;
	struct client *young = connect_by(l, LISTENER_TCP);
	turn(l);
	struct client *served = asking(l, GET("/"));
	assert_true(make_room(l));
	WAIT_UNTIL(l, served->is_over);
	assert_true(is_open(l, young));
	assert_true(make_room(l));
	WAIT_UNTIL(l, young->is_over);
}

static void who_asks_goes_after_who_does_not(void **state)
{
	struct loopback *l = *state;
	struct client *first = asking(l, GET("/"));
	struct client *second = asking(l, GET("/"));

	send_text(first, GET("/")); /* nobody has read it yet */
	assert_true(make_room(l));
	WAIT_UNTIL(l, second->is_over);
	WAIT_UNTIL(l, responses(first) == 2);
}

static void a_slow_head_is_no_request(void **state)
{
	struct loopback *l = *state;
	struct client *slow = connect_by(l, LISTENER_TCP);
	struct client *served;

	send_text(slow, "GET / HT");
	turn_for(l, GROWN_UP_MS);
	served = asking(l, GET("/"));
	send_text(served, GET("/"));
	assert_true(make_room(l));
	WAIT_UNTIL(l, slow->is_over);
	WAIT_UNTIL(l, responses(served) == 2);
}

static void a_subscriber_never_goes(void **state)
{
	struct loopback *l = *state;
	struct client *c = asking(l, GET("/sub"));

	turn_for(l, GROWN_UP_MS);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_CLIENT), 0);
	assert_false(make_room(l));
	assert_true(is_open(l, c));
}

static void doors_are_told_apart(void **state)
{
	struct loopback *l = *state;
	struct client *admin = connect_by(l, LISTENER_ADMIN);
	struct client *local = connect_by(l, LISTENER_UNIX);

	assert_false(conn_group_make_room(l->group, CONN_ROOM_TCP));
	struct client *tcp = connect_by(l, LISTENER_TCP);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_TCP), 1);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_CLIENT), 2);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_ADMIN), 1);
	assert_true(conn_group_make_room(l->group, CONN_ROOM_TCP));
	WAIT_UNTIL(l, tcp->is_over);
	assert_true(conn_group_make_room(l->group, CONN_ROOM_CLIENT));
	WAIT_UNTIL(l, local->is_over);
	assert_false(conn_group_make_room(l->group, CONN_ROOM_CLIENT));
	assert_true(is_open(l, admin));
	assert_true(conn_group_make_room(l->group, CONN_ROOM_ADMIN));
	WAIT_UNTIL(l, admin->is_over);
}

static void admins_are_found_among_many_others(void **state)
{
	struct loopback *l = *state;
	struct client *admins[2];

	for (int i = 0; i < 2; i++) {
		for (int n = 0; n < 5; n++)
			connect_by(l, LISTENER_TCP);
		admins[i] = connect_by(l, LISTENER_ADMIN);
		ask(l, admins[i], GET("/"));
		turn_for(l, 2);
	}
	ask(l, admins[0], GET("/"));
	assert_true(conn_group_make_room(l->group, CONN_ROOM_ADMIN));
	WAIT_UNTIL(l, admins[1]->is_over);
	assert_true(is_open(l, admins[0]));
}

/* From another address than all others: 127.0.0.2. */
static struct client *connect_admin_from_elsewhere(struct loopback *l)
{
	struct sockaddr_in name;
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_addr = {htonl(INADDR_LOOPBACK + 1)},
	};
	int listener = listen_on_loopback(&name);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	int server =
		accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(listener);
	assert_int_equal(
		conn_open(l->group, (struct accepted){server, LISTENER_ADMIN}),
		0);
	return add_client(l, fd);
}

static void a_crowd_does_not_push_a_probe_out_before_it_asks(void **state)
{
	struct loopback *l = *state;
	struct client *probe = connect_admin_from_elsewhere(l);

	for (unsigned i = 0; i < 10; i++) {
		struct client *c = connect_by(l, LISTENER_ADMIN);
		if (i % 2 == 0)
			send_text(c, GET("/"));
	}
	for (unsigned i = 0; i < 9; i++)
		assert_true(conn_group_make_room(l->group, CONN_ROOM_ADMIN));
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_ADMIN), 2);
	ask(l, probe, GET("/"));
	assert_true(is_open(l, probe));
}

/* --- places --------------------------------------------------------------- */

static void there_are_as_many_places_as_was_said(void **state)
{
	struct loopback *l = *state;
	struct client *first = asking(l, GET("/sub"));
	asking(l, GET("/sub"));
	struct client *third = asking(l, GET("/sub"));

	place_of(third, "HTTP/1.1 503 ");
	assert_int_equal(subscribers(l, LISTENER_TCP), TCP_PLACES);
	close_client(first);
	WAIT_UNTIL(l, subscribers(l, LISTENER_TCP) == TCP_PLACES - 1);
	ask(l, third, GET("/sub"));
	assert_int_equal(subscribers(l, LISTENER_TCP), TCP_PLACES);
}

static void by_a_unix_socket_there_are_all_the_places(void **state)
{
	struct loopback *l = *state;

	for (int i = 0; i < PLACES + 1; i++)
		ask(l, connect_by(l, LISTENER_UNIX), GET("/sub"));
	assert_int_equal(subscribers(l, LISTENER_UNIX), PLACES);
	place_of(asking(l, GET("/sub")), "HTTP/1.1 503 ");
	assert_int_equal(subscribers(l, LISTENER_TCP), 0);
}

static void another_answer_gives_the_place_back(void **state)
{
	struct loopback *l = *state;
	struct client *c = connect_by(l, LISTENER_TCP);

	for (int i = 0; i < 2 * PLACES; i++)
		ask(l, c, GET("/full"));
	assert_int_equal(subscribers(l, LISTENER_TCP), 0);
	assert_int_equal(conn_group_others(l->group, CONN_ROOM_TCP), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_connections_there_is_none_to_end),
		TEST(what_one_had_is_free_at_once),
		TEST(who_makes_room_is_not_ended_for_it),
		TEST(the_one_that_is_quiet_for_longest_goes_first),
		TEST(the_trusted_goes_last),
		TEST(who_has_just_come_goes_after_who_was_served),
		TEST(who_asks_goes_after_who_does_not),
		TEST(a_slow_head_is_no_request),
		TEST(a_subscriber_never_goes),
		TEST(doors_are_told_apart),
		TEST(admins_are_found_among_many_others),
		TEST(a_crowd_does_not_push_a_probe_out_before_it_asks),
		TEST(there_are_as_many_places_as_was_said),
		TEST(by_a_unix_socket_there_are_all_the_places),
		TEST(another_answer_gives_the_place_back),
	};
	return cmocka_run_group_tests_name("conn/test_room", tests, NULL, NULL);
}
