/* test_descriptors.c - what src/config/descriptors.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/descriptors.h"

static const struct descriptors_needs usual = {
	.limit = 20000, .workers = 2, .listeners = 2, .has_admin = true};

static struct descriptors_shares share(const struct descriptors_needs *needs)
{
	struct descriptors_shares shares;
	assert_true(descriptors_share(needs, &shares, NULL));
	return shares;
}

/* What holds for whatever is wanted. */
static void check(const struct descriptors_needs *n)
{
	struct descriptors_shares s = share(n);
	uint64_t own = 4 * n->workers + n->listeners;

	if (n->checks > 0) {
		uint64_t all =
			2 * n->checks + DESCRIPTORS_CHECKS_KEPT(n->checks);
		own += 2 * n->workers +
		       (all < n->limit / 2 ? all : n->limit / 2);
	}
	assert_true(s.clients + s.admin + own + 16 <= n->limit);
	assert_true(s.reserve >= n->workers);
	assert_int_equal(s.subscribers + s.reserve, s.clients);
	assert_true(s.tcp_subscribers >= 1);
	assert_true(s.tcp_subscribers <= s.subscribers);
	assert_true(s.tcp <= s.clients);
	assert_true(s.tcp >= s.tcp_subscribers + s.reserve);
	assert_int_equal(s.admin > 0, n->has_admin);
	assert_true(!n->has_admin || s.admin >= n->workers);
	if (n->subscribers > 0)
		assert_true(s.tcp_subscribers <= n->subscribers);
}

static void no_more_is_given_than_there_is(void **state)
{
	static const uint64_t limits[] = {
		64,   100,   256,     700,     1024,
		4096, 20000, 1 << 20, 1 << 30, DESCRIPTORS_UNLIMITED};
	static const uint64_t workers[] = {1, 2, 8, 64};
	static const uint64_t wanted[] = {0, 1, 50, 1000, 10000000};
	unsigned checked = 0;

	(void)state;
	for (int i = 0; i < 10 * 4 * 5 * 2; i++) {
		struct descriptors_needs n = {.limit = limits[i % 10],
					      .workers = workers[i / 10 % 4],
					      .listeners = 2,
					      .subscribers = wanted[i / 40 % 5],
					      .has_admin = i / 200 != 0};
		for (int asks = 0; asks < 2; asks++) {
			uint64_t least;
			struct descriptors_shares s;
			n.checks = asks == 0 ? 0
					     : descriptors_default_checks(
						       n.limit, 256);
			if (!descriptors_share(&n, &s, &least)) {
				assert_true(least > n.limit);
				continue;
			}
			assert_true(least <= n.limit);
			check(&n);
			checked++;
		}
	}
	assert_true(checked > 600);
}

static void few_subscribers_leave_a_reserve_beside_them(void **state)
{
	struct descriptors_needs n = usual;

	(void)state;
	n.subscribers = 50;
	struct descriptors_shares s = share(&n);
	assert_int_equal(s.tcp_subscribers, 50);
	assert_int_equal(s.reserve, 128);
	assert_int_equal(s.tcp, 178);
	assert_true(s.clients > 10000);
}

static void many_subscribers_leave_more(void **state)
{
	struct descriptors_shares s = share(&usual);

	(void)state;
	assert_in_range(s.reserve, 1000, 1250);
	assert_int_equal(s.tcp, s.clients);
}

static void sixty_four_workers_work_with_1024_descriptors(void **state)
{
	struct descriptors_needs n = {
		.limit = 1024,
		.workers = 64,
		.listeners = 2,
		.has_admin = true,
		.checks = descriptors_default_checks(1024, 256)};

	(void)state;
	check(&n);
	assert_true(share(&n).tcp_subscribers > 60);
}

static void too_few_descriptors_are_told_with_how_many_would_do(void **state)
{
	struct descriptors_needs n = {
		.limit = 200, .workers = 64, .listeners = 1};
	struct descriptors_shares s;
	uint64_t least = 0;

	(void)state;
	assert_false(descriptors_share(&n, &s, &least));
	assert_in_range(least, 400, 612);
	n.limit = least - 1;
	assert_false(descriptors_share(&n, &s, &least));
	n.limit = least;
	assert_true(descriptors_share(&n, &s, NULL));
}

static void many_checks_take_half_of_the_descriptors(void **state)
{
	struct descriptors_needs n = usual;

	(void)state;
	n.checks = 65536;
	check(&n);
	assert_in_range(share(&n).clients, 9000, 10000);
}

static void checks_are_as_many_as_was_said_unless_descriptors_are_few(
	void **state)
{
	(void)state;
	assert_int_equal(descriptors_default_checks(20000, 256), 256);
	assert_int_equal(descriptors_default_checks(800, 256), 100);
	assert_int_equal(descriptors_default_checks(4, 256), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_more_is_given_than_there_is),
		cmocka_unit_test(few_subscribers_leave_a_reserve_beside_them),
		cmocka_unit_test(many_subscribers_leave_more),
		cmocka_unit_test(sixty_four_workers_work_with_1024_descriptors),
		cmocka_unit_test(
			too_few_descriptors_are_told_with_how_many_would_do),
		cmocka_unit_test(many_checks_take_half_of_the_descriptors),
		cmocka_unit_test(
			checks_are_as_many_as_was_said_unless_descriptors_are_few),
	};
	return cmocka_run_group_tests_name("config/test_descriptors", tests,
					   NULL, NULL);
}
