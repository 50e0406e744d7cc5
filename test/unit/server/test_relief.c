/* test_relief.c - what src/server/relief.c promises: what goes while memory is
 * short, and in which order. The workers are not started: they have mailboxes,
 * and this thread looks into them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "crew.h"
#include "server/relief.h"

#define WORKERS  2
#define MIB      ((size_t)1 << 20)
#define LIMIT    (1000 * MIB)
#define TIGHT    (810 * MIB)
#define SCARCE   (910 * MIB)
#define MESSAGES 48 /* of a MiB: more than a 32nd of the limit */

static const struct config config = {
	.connections_max = 100,
	.mailbox_max_bytes = SIZE_MAX,
};

static struct crew crew;
static size_t invented; /* what is said to be used, and is not */

/* So much is used, of LIMIT. */
static void use(size_t bytes)
{
	memory_settle();
	invented += bytes - memory_used();
	memory_set_limit(LIMIT, bytes);
}

static int set_up(void **state)
{
	(void)state;
	crew_open(&crew, &config, NULL, WORKERS);
	const struct registry_options options = {
		.mailboxes = crew.mailboxes,
		.workers = WORKERS,
		.history_size = 100,
		.history_ttl_ms = 60000,
		.history_bytes = LIMIT,
	};
	return registry_new(&crew.shared.registry, &options);
}

static int tear_down(void **state)
{
	(void)state;
	memory_settle();
	memory_set_limit(0, memory_used() - invented);
	invented = 0;
	crew_close(&crew);
	return 0;
}

/* A history that is worth giving up. It is not part of what `used` says. */
static void publish_much(void)
{
	const struct topic_key key = {SPAN("alice"), SPAN("news")};
	struct registry_receipt receipt;
	char *text = calloc(1, MIB);

	assert_non_null(text);
	for (int i = 0; i < MESSAGES; i++) {
		struct message *m =
			message_new((struct span){text, MIB}, false, WORKERS);
		assert_non_null(m);
		m->accepted_ns = uv_hrtime();
		assert_int_equal(registry_publish(crew.shared.registry, &key, m,
						  &receipt),
				 0);
	}
	free(text);
}

/* Whether each worker, or none, has been told to end connections. */
static bool are_workers_told(void)
{
	unsigned told = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		struct mail mail;
		if (mailbox_take(crew.mailboxes[i], &mail))
			told += (mail.orders & MAILBOX_RELIEVE) != 0;
	}
	assert_true(told == 0 || told == WORKERS);
	return told > 0;
}

static void history_is_halved_before_a_connection_is_ended(void **state)
{
	(void)state;
	publish_much();
	size_t before = registry_history_bytes(crew.shared.registry);
	assert_true(before > LIMIT / 32);
	use(TIGHT);
	relief_ask(&crew.shared);
	assert_in_range(registry_history_bytes(crew.shared.registry),
			before / 4, before / 2);
	/* There is little left now, so the next step is another one. */
	assert_false(relief_on_aging(&crew.shared));
	assert_true(registry_history_bytes(crew.shared.registry) <= LIMIT / 32);
}

static void once_little_history_is_left_workers_end_connections(void **state)
{
	(void)state;
	use(TIGHT);
	relief_ask(&crew.shared);
	assert_true(are_workers_told());
	/* One step at a time. */
	relief_ask(&crew.shared);
	assert_false(are_workers_told());
	atomic_store(&crew.shared.is_relief_asked, false);
	relief_ask(&crew.shared);
	assert_true(are_workers_told());
}

static void a_tick_asks_from_tight_on(void **state)
{
	(void)state;
	use(TIGHT - 20 * MIB);
	relief_on_tick(&crew.shared);
	assert_false(are_workers_told());
	use(TIGHT);
	relief_on_tick(&crew.shared);
	assert_true(are_workers_told());
}

static void a_publication_asks_from_scarce_on(void **state)
{
	(void)state;
	use(TIGHT);
	relief_on_publication(&crew.shared);
	assert_false(are_workers_told());
	use(SCARCE);
	relief_on_publication(&crew.shared);
	assert_true(are_workers_told());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(history_is_halved_before_a_connection_is_ended),
		TEST(once_little_history_is_left_workers_end_connections),
		TEST(a_tick_asks_from_tight_on),
		TEST(a_publication_asks_from_scarce_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
