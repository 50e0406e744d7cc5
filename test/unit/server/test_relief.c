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

static struct worker_shared shared;
static struct worker *workers[WORKERS];
static struct mailbox *mailboxes[WORKERS];

static int set_up(void **state)
{
	(void)state;
	memset(&shared, 0, sizeof shared);
	shared.config = &config;
	shared.workers = workers;
	shared.workers_count = WORKERS;
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = calloc(1, sizeof *workers[i]);
		if (workers[i] == NULL ||
		    worker_init(workers[i], i, &shared) != 0)
			return -1;
		mailboxes[i] = &workers[i]->mailbox;
	}
	const struct registry_options options = {
		.mailboxes = mailboxes,
		.workers = WORKERS,
		.history_size = 100,
		.history_ttl_ms = 60000,
		.history_bytes = LIMIT,
	};
	return registry_new(&shared.registry, &options);
}

static int tear_down(void **state)
{
	(void)state;
	memory_set_limit(0, 0);
	registry_free(shared.registry);
	for (unsigned i = 0; i < WORKERS; i++) {
		worker_fini(workers[i]);
		free(workers[i]);
	}
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
		assert_int_equal(
			registry_publish(shared.registry, &key, m, &receipt),
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
		if (mailbox_take(mailboxes[i], &mail))
			told += (mail.orders & MAILBOX_RELIEVE) != 0;
	}
	assert_true(told == 0 || told == WORKERS);
	return told > 0;
}

static void history_is_halved_before_a_connection_is_ended(void **state)
{
	(void)state;
	publish_much();
	size_t before = registry_history_bytes(shared.registry);
	assert_true(before > LIMIT / 32);
	memory_set_limit(LIMIT, TIGHT);
	relief_ask(&shared);
	assert_in_range(registry_history_bytes(shared.registry), before / 4,
			before / 2);
	/* There is little left now, so the next step is another one. */
	assert_false(relief_on_aging(&shared));
	assert_true(registry_history_bytes(shared.registry) <= LIMIT / 32);
}

static void once_little_history_is_left_workers_end_connections(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, TIGHT);
	relief_ask(&shared);
	assert_true(are_workers_told());
	/* One step at a time. */
	relief_ask(&shared);
	assert_false(are_workers_told());
	atomic_store(&shared.is_relief_asked, false);
	relief_ask(&shared);
	assert_true(are_workers_told());
}

static void a_tick_asks_from_tight_on(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, TIGHT - 20 * MIB);
	relief_on_tick(&shared);
	assert_false(are_workers_told());
	memory_set_limit(LIMIT, TIGHT);
	relief_on_tick(&shared);
	assert_true(are_workers_told());
}

static void a_publication_asks_from_scarce_on(void **state)
{
	(void)state;
	memory_set_limit(LIMIT, TIGHT);
	relief_on_publication(&shared);
	assert_false(are_workers_told());
	memory_set_limit(LIMIT, SCARCE);
	relief_on_publication(&shared);
	assert_true(are_workers_told());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			history_is_halved_before_a_connection_is_ended, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			once_little_history_is_left_workers_end_connections,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_tick_asks_from_tight_on,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_publication_asks_from_scarce_on, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
