/* test_arguments.c - what src/cli/arguments.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/arguments.h"

static int read_words(const char *command, struct arguments *out,
		      const char *const *given)
{
	static char *words[16]; /* which are put into another order */
	size_t count = 0;
	char error[ARGUMENTS_ERROR_MAX] = "";
	int rv;

	do
		words[count] = (char *)(uintptr_t)given[count];
	while (given[count++] != NULL);
	*out = (struct arguments){0};
	rv = arguments_read(command_of(command), words, out, error);
	assert_true((rv != 0) == (error[0] != '\0'));
	assert_null(strstr(error, "sesame"));
	return rv;
}

#define WORDS(...)                                                             \
	(const char *[])                                                       \
	{                                                                      \
		__VA_ARGS__, NULL                                              \
	}

static void options_and_words_may_be_mixed(void **state)
{
	struct arguments a;

	(void)state;
	assert_int_equal(read_words("pub", &a,
				    WORDS("--json", "sports", "--key", "k",
					  "--publisher=news", "--", "-1")),
			 0);
	assert_true(a.json);
	assert_string_equal(a.key, "k");
	assert_string_equal(a.publisher, "news");
	assert_int_equal(a.words_count, 2);
	assert_string_equal(a.words[0], "sports");
	assert_string_equal(a.words[1], "-1");
	assert_null(a.words[2]);
}

static void numbers_and_durations_are_read(void **state)
{
	struct arguments a;

	(void)state;
	assert_int_equal(
		read_words("sub", &a,
			   WORDS("t", "--count=3", "--timeout", "0.5")),
		0);
	assert_int_equal(a.count, 3);
	assert_int_equal(a.timeout_ms, 500);
	assert_true(read_words("sub", &a, WORDS("t", "--count=0")) != 0);
	assert_true(read_words("sub", &a, WORDS("t", "--count=1x")) != 0);
	assert_true(read_words("sub", &a, WORDS("t", "--count=-1")) != 0);
	assert_true(read_words("sub", &a, WORDS("t", "--timeout=")) != 0);
}

static void what_is_wrong_is_told_without_its_value(void **state)
{
	struct arguments a;

	(void)state;
	assert_true(read_words("pub", &a, WORDS("--count=sesame", "t")) != 0);
	assert_true(read_words("pub", &a, WORDS("--lines=sesame", "t")) != 0);
	assert_true(read_words("pub", &a, WORDS("t", "--key")) != 0);
	assert_true(read_words("pub", &a, WORDS("t", "sesame", "x")) != 0);
	assert_true(read_words("sub", &a, (const char *[]){NULL}) != 0);
}

static void help_needs_nothing_else(void **state)
{
	struct arguments a;

	(void)state;
	assert_int_equal(read_words("pub", &a, WORDS("-h")), 0);
	assert_true(a.help);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_words_may_be_mixed),
		cmocka_unit_test(numbers_and_durations_are_read),
		cmocka_unit_test(what_is_wrong_is_told_without_its_value),
		cmocka_unit_test(help_needs_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
