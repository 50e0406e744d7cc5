/* test_room.c - what src/server/room.h promises: whether others are asked to
 * make room. Whom a worker ends is in conn/test_room.c. The workers are not
 * started: they have mailboxes, and this thread looks into them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crew.h"
#include "server/room.h"

#define WORKERS 2
#define TCP     (1u << LISTENER_TCP)
#define UNIX    (1u << LISTENER_UNIX)
#define ADMIN   (1u << LISTENER_ADMIN)

static const struct config config = {
	.workers = WORKERS,
	.mailbox_max_bytes = 1 << 20,
	.shares = {.admin = 2,
		   .clients = 6,
		   .subscribers = 5,
		   .tcp = 4,
		   .tcp_subscribers = 3,
		   .reserve = 1},
};

static struct crew crew;

static int set_up(void **state)
{
	(void)state;
	crew_open(&crew, &config, NULL, WORKERS);
	crew.workers[0]->owner = uv_thread_self();
	crew.workers[0]->group.owner = uv_thread_self();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	crew_close(&crew);
	return 0;
}

/* Whether the first worker asked the second, and never itself, when so many
 * connections had come by its doors. */
static bool asks_others(unsigned kinds, size_t tcp, size_t local, size_t admin)
{
	struct mail mail;

	atomic_store(&crew.shared.connections[LISTENER_TCP], tcp);
	atomic_store(&crew.shared.connections[LISTENER_UNIX], local);
	atomic_store(&crew.shared.connections[LISTENER_ADMIN], admin);
	room_make_for(crew.workers[0], kinds);
	assert_false(mailbox_take(crew.mailboxes[0], &mail));
	return mailbox_take(crew.mailboxes[1], &mail) &&
	       (mail.orders & MAILBOX_MAKE_ROOM) != 0;
}

static void as_many_as_there_may_be_are_not_too_many(void **state)
{
	(void)state;
	assert_false(asks_others(TCP, 4, 0, 0));
	assert_false(asks_others(UNIX, 4, 2, 0));
	assert_false(asks_others(ADMIN, 0, 0, 2));
	assert_false(asks_others(TCP | UNIX | ADMIN, 4, 2, 2));
}

static void one_more_is_one_that_others_end(void **state)
{
	(void)state;
	assert_true(asks_others(TCP, 5, 0, 0));
	assert_true(asks_others(UNIX, 4, 3, 0));
	assert_true(asks_others(ADMIN, 0, 0, 3));
}

/* Each door has its share. */
static void too_many_at_one_door_are_nothing_to_another(void **state)
{
	(void)state;
	assert_false(asks_others(ADMIN, 5, 0, 2));
	assert_false(asks_others(UNIX, 5, 1, 0));
	assert_false(asks_others(TCP, 4, 0, 3));
	assert_true(asks_others(TCP | ADMIN, 4, 0, 3));
}

static void while_memory_is_tight_there_are_fewer(void **state)
{
	(void)state;
	/* Of what does not subscribe, no more than the reserve. */
	set_memory_limit(settled_memory_used() / 85 * 100);
	assert_int_equal(memory_level(), MEMORY_TIGHT);
	bool is_fine = !asks_others(TCP, 1, 0, 0);
	bool is_too_much = asks_others(TCP, 2, 0, 0);
	atomic_store(&crew.shared.subscribers[LISTENER_TCP], 1);
	bool is_fine_with_subscriber = !asks_others(TCP, 2, 0, 0);
	set_memory_limit(0);
	assert_true(is_fine && is_too_much && is_fine_with_subscriber);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(as_many_as_there_may_be_are_not_too_many),
		TEST(one_more_is_one_that_others_end),
		TEST(too_many_at_one_door_are_nothing_to_another),
		TEST(while_memory_is_tight_there_are_fewer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
