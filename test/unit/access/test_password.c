/* test_password.c - what src/access/password.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "access/password.h"
#include "base/digest.h"
#include "oom.h"

#define READERS         3
#define MAYBE_NO_PTRACE (-1)
#define SETTINGS        2000

static bool matches(const char *candidate)
{
	return password_matches(span_of(candidate));
}

/* Runs first: there is one secret for the process. */
static void before_there_is_a_password_nothing_matches(void **state)
{
	static const char zeros[32];

	(void)state;
	assert_false(matches(""));
	assert_false(matches("secret"));
	assert_false(matches(NULL));
	assert_false(password_matches((struct span){zeros, sizeof zeros}));
}

static void only_the_password_matches(void **state)
{
	static const char *const wrong[] = {"",        "s",           "secre",
					    "secret ", " secret",     "Secret",
					    "secres",  "secretsecret"};

	(void)state;
	password_set_all(&SPAN("secret"), 1);
	assert_true(matches("secret"));
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_false(matches(wrong[i]));
	assert_false(matches(NULL));
	assert_false(password_matches(SPAN("secret\0")));
}

static void the_generation_changes_with_the_password_alone(void **state)
{
	(void)state;
	password_set_all(&SPAN("one"), 1);
	unsigned first = password_generation();
	assert_int_equal(password_generation(), first);
	password_set_all(&SPAN("one"), 1);
	assert_int_equal(password_generation(), first);
	password_set_all(&SPAN("two"), 1);
	unsigned second = password_generation();
	assert_int_not_equal(second, first);
	password_set_all(&SPAN("one"), 1);
	assert_int_not_equal(password_generation(), first);
	assert_int_not_equal(password_generation(), second);
}

static void of_two_either_matches(void **state)
{
	const struct span both[] = {SPAN("old"), SPAN("new")};

	(void)state;
	password_set_all(both, 2);
	assert_true(matches("old"));
	assert_true(matches("new"));
	assert_false(matches("oldnew"));
	assert_false(matches(""));
	password_set_all(&SPAN("new"), 1);
	assert_false(matches("old"));
	assert_true(matches("new"));
}

static void who_had_one_of_two_may_go_on_until_it_goes(void **state)
{
	const struct span both[] = {SPAN("new"), SPAN("old")};

	(void)state;
	password_set_all(&SPAN("old"), 1);
	unsigned old = password_match(SPAN("old"));
	assert_true(password_is_valid(old));
	assert_false(password_is_valid(0));
	unsigned before = password_generation();
	password_set_all(both, 2);
	assert_int_not_equal(password_generation(), before);
	unsigned new = password_match(SPAN("new"));
	assert_int_not_equal(new, old);
	assert_int_equal(password_match(SPAN("old")), old);
	assert_true(password_is_valid(old));
	assert_true(password_is_valid(new));
	password_set_all(&SPAN("new"), 1);
	assert_false(password_is_valid(old));
	assert_true(password_is_valid(new));
	/* The same text later is not what was remembered. */
	password_set_all(&SPAN("old"), 1);
	assert_false(password_is_valid(old));
}

static void the_same_twice_is_one(void **state)
{
	const struct span both[] = {SPAN("one"), SPAN("one")};

	(void)state;
	password_set_all(&SPAN("one"), 1);
	unsigned before = password_generation();
	password_set_all(both, 2);
	assert_int_equal(password_generation(), before);
	assert_true(password_is_valid(password_match(SPAN("one"))));
}

static void a_password_may_hold_any_bytes(void **state)
{
	(void)state;
	password_set_all(&SPAN("a\0b\xff"), 1);
	assert_true(password_matches(SPAN("a\0b\xff")));
	assert_false(password_matches(SPAN("a\0c\xff")));
	assert_false(matches("a"));
}

static void a_new_password_replaces_the_old_one(void **state)
{
	(void)state;
	password_set_all(&SPAN("old"), 1);
	password_set_all(&SPAN("new"), 1);
	assert_false(matches("old"));
	assert_true(matches("new"));
}

static bool matches_again(struct password_memory *m, const char *candidate)
{
	return password_matches_again(m, span_of(candidate));
}

static void what_matched_is_remembered_and_nothing_else_matches(void **state)
{
	struct password_memory m;

	(void)state;
	password_set_all(&SPAN("one"), 1);
	assert_int_equal(password_memory_init(&m), 0);
	assert_false(matches_again(&m, ""));
	assert_false(matches_again(&m, "two"));
	assert_false(m.has_match);
	for (int i = 0; i < 3; i++) {
		assert_true(matches_again(&m, "one"));
		assert_true(m.has_match);
		assert_false(matches_again(&m, "two"));
		assert_false(matches_again(&m, "on"));
		assert_false(matches_again(&m, "one "));
	}
}

static void what_is_remembered_ends_with_the_password(void **state)
{
	struct password_memory m;

	(void)state;
	password_set_all(&SPAN("one"), 1);
	assert_int_equal(password_memory_init(&m), 0);
	assert_true(matches_again(&m, "one"));
	password_set_all(&SPAN("two"), 1);
	assert_false(matches_again(&m, "one"));
	assert_true(matches_again(&m, "two"));
	password_set_all(&SPAN("one"), 1);
	assert_false(matches_again(&m, "two"));
	assert_true(matches_again(&m, "one"));
}

static void memories_have_keys_of_their_own(void **state)
{
	struct password_memory a;
	struct password_memory b;

	(void)state;
	password_set_all(&SPAN("one"), 1);
	assert_int_equal(password_memory_init(&a), 0);
	assert_int_equal(password_memory_init(&b), 0);
	assert_true(matches_again(&a, "one"));
	assert_true(matches_again(&b, "one"));
	assert_true(a.hash != b.hash);
}

static atomic_bool is_over;
static atomic_bool is_new; /* "two" has been set for good */
static _Atomic unsigned rounds;
static _Atomic unsigned mistakes;

/* What has been replaced for good must not match again, and what was never set
 * not at all; that there is no race is for ThreadSanitizer to say. */
static void compare(void *arg)
{
	struct password_memory m;

	(void)arg;
	if (password_memory_init(&m) != 0)
		mistakes++;
	while (!is_over) {
		bool was_new = is_new;
		bool matches_one = rounds % 2 == 0 ? matches("one")
						   : matches_again(&m, "one");
		if (matches("neither") || matches_again(&m, "neither") ||
		    (was_new && matches_one))
			mistakes++;
		rounds++;
	}
}

static void while_it_is_replaced_others_may_compare(void **state)
{
	uv_thread_t threads[READERS];

	(void)state;
	password_set_all(&SPAN("one"), 1);
	for (size_t i = 0; i < READERS; i++)
		assert_int_equal(uv_thread_create(&threads[i], compare, NULL),
				 0);
	while (rounds < READERS)
		usleep(1);
	for (size_t i = 0; i < SETTINGS; i++) {
		password_set_all(i % 2 == 0 ? &SPAN("two") : &SPAN("one"), 1);
		assert_true(matches(i % 2 == 0 ? "two" : "one"));
	}
	password_set_all(&SPAN("two"), 1);
	is_new = true;
	unsigned before = rounds;
	while (rounds < before + 10 * READERS)
		usleep(1);
	is_over = true;
	for (size_t i = 0; i < READERS; i++)
		uv_thread_join(&threads[i]);
	assert_int_equal(mistakes, 0);
}

static void loading_again_takes_what_the_file_has_now(void **state)
{
	char path[] = "/tmp/isimud-test-XXXXXX";
	struct config c = {.password_file = path};
	char error[CONFIG_ERROR_MAX];

	(void)state;
	int file = mkstemp(path);
	assert_true(file >= 0);
	assert_int_equal(write(file, "first\n", 6), 6);
	assert_int_equal(password_load(&c, error), 0);
	assert_true(matches("first"));
	assert_int_equal(pwrite(file, "again\n", 6, 0), 6);
	assert_true(matches("first"));
	assert_int_equal(password_load(&c, error), 0);
	assert_false(matches("first"));
	assert_true(matches("again"));
	close(file);
	assert_int_equal(remove(path), 0);
}

static void a_failed_loading_keeps_the_old_password(void **state)
{
	struct config c = {.password_file = "/nonexistent"};
	char error[CONFIG_ERROR_MAX] = "";

	(void)state;
	password_set_all(&SPAN("old"), 1);
	assert_int_equal(password_load(&c, error), UV_EINVAL);
	assert_string_equal(error, "PASSWORD_FILE can't be read: no such file "
				   "or directory");
	assert_true(matches("old"));
}

/* --- how long a comparison takes, in instructions ------------------------- */

#ifndef OOM_SANITIZED
struct comparison {
	bool (*compare)(const struct comparison *c);
	struct span candidate;
	const uint8_t *a;
	const uint8_t *b;
};

static bool compare_password(const struct comparison *c)
{
	return password_matches(c->candidate);
}

static bool compare_digests(const struct comparison *c)
{
	return digest_equal(c->a, c->b);
}

/* The child stops, compares, and ends; each of its steps is counted. No clock
 * is asked, so a busy machine alters nothing. */
static long count_steps(const struct comparison *c)
{
	long steps = 0;
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(2);
		raise(SIGSTOP);
		(void)c->compare(c);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return MAYBE_NO_PTRACE;
	if (!WIFSTOPPED(status))
		return MAYBE_NO_PTRACE;
	while (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0 &&
	       waitpid(child, &status, 0) == child && WIFSTOPPED(status))
		steps++;
	return steps;
}

static void assert_steps(const struct comparison *c, long expected)
{
	assert_int_equal(count_steps(c), expected);
}

/* T10: however much of it is right. */
static void every_wrong_password_of_a_length_takes_as_many_steps(void **state)
{
	static const char *const wrong[] = {
		"xxxxxxxxxxxx",
		"sxxxxxxxxxxx",
		"secret-passx",
		"xecret-pass1",
		"secret-pass2",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
	struct comparison c = {.compare = compare_password};

	(void)state;
	password_set_all(&SPAN("secret-pass1"), 1);
	assert_true(matches("secret-pass1")); /* what is made once is made */
	c.candidate = SPAN("yyyyyyyyyyyy");
	long steps = count_steps(&c);
	if (steps == MAYBE_NO_PTRACE)
		skip();
	assert_true(steps > 100);
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		c.candidate = span_of(wrong[i]);
		assert_steps(&c, steps);
	}
	/* The password itself has no way of its own either. */
	c.candidate = SPAN("secret-pass1");
	assert_steps(&c, steps);
}

static void digests_take_as_many_steps_wherever_they_differ(void **state)
{
	uint8_t a[DIGEST_SHA256_BYTES] = {0};
	uint8_t b[DIGEST_SHA256_BYTES] = {0};
	struct comparison c = {.compare = compare_digests, .a = a, .b = b};

	(void)state;
	assert_true(digest_equal(a, b));
	long steps = count_steps(&c);
	if (steps == MAYBE_NO_PTRACE)
		skip();
	for (size_t i = 0; i < sizeof b; i++) {
		b[i] ^= 0x80;
		assert_steps(&c, steps);
		b[i] ^= 0x80;
	}
	memset(b, 0xff, sizeof b);
	assert_steps(&c, steps);
}

/* That counting can tell at all. */
static bool compare_carelessly(const struct comparison *c)
{
	for (size_t i = 0; i < DIGEST_SHA256_BYTES; i++)
		if (((const volatile uint8_t *)c->a)[i] != c->b[i])
			return false;
	return true;
}

static void a_comparison_that_stops_early_is_noticed(void **state)
{
	uint8_t a[DIGEST_SHA256_BYTES] = {0};
	uint8_t b[DIGEST_SHA256_BYTES] = {0};
	struct comparison c = {.compare = compare_carelessly, .a = a, .b = b};

	(void)state;
	long steps = count_steps(&c);
	if (steps == MAYBE_NO_PTRACE)
		skip();
	b[3] = 1;
	assert_true(count_steps(&c) < steps);
}
#endif

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_there_is_a_password_nothing_matches),
		cmocka_unit_test(only_the_password_matches),
		cmocka_unit_test(
			the_generation_changes_with_the_password_alone),
		cmocka_unit_test(of_two_either_matches),
		cmocka_unit_test(who_had_one_of_two_may_go_on_until_it_goes),
		cmocka_unit_test(the_same_twice_is_one),
		cmocka_unit_test(a_password_may_hold_any_bytes),
		cmocka_unit_test(a_new_password_replaces_the_old_one),
		cmocka_unit_test(
			what_matched_is_remembered_and_nothing_else_matches),
		cmocka_unit_test(what_is_remembered_ends_with_the_password),
		cmocka_unit_test(memories_have_keys_of_their_own),
		cmocka_unit_test(while_it_is_replaced_others_may_compare),
		cmocka_unit_test(loading_again_takes_what_the_file_has_now),
		cmocka_unit_test(a_failed_loading_keeps_the_old_password),
#ifndef OOM_SANITIZED
		cmocka_unit_test(
			every_wrong_password_of_a_length_takes_as_many_steps),
		cmocka_unit_test(
			digests_take_as_many_steps_wherever_they_differ),
		cmocka_unit_test(a_comparison_that_stops_early_is_noticed),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
