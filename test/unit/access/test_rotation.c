/* test_rotation.c - what src/access/rotation.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/password.h"
#include "access/rotation.h"

static char folder[64];
static char path[96];
static struct config config;
static struct rotation rotation;

static void name_in_folder(char out[static 96], const char *name)
{
	snprintf(out, 96, "%s/%s", folder, name);
}

static void write_file(const char *name, const char *text)
{
	char full[96];

	name_in_folder(full, name);
	FILE *file = fopen(full, "we");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static int open_all(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/isimud-rotation-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	name_in_folder(path, "password");
	config = (struct config){.password_file = path};
	rotation = (struct rotation){0};
	write_file("password", "old\n");
	password_set_all(&SPAN("old"), 1);
	/* It is read once anyway: nobody knows what it was at the start. */
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	return 0;
}

static int close_all(void **state)
{
	static const char *const names[] = {
		"password", "a/password", "b/password", "a", "b", "..data"};
	char full[96];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		name_in_folder(full, names[i]);
		remove(full);
	}
	return rmdir(folder);
}

static bool matches(const char *password)
{
	return password_matches(span_of(password));
}

static void a_change_is_taken_at_the_second_look(void **state)
{
	(void)state;
	rotation_look(&rotation, &config);
	assert_true(matches("old"));
	write_file("password", "new, and longer\n");
	rotation_look(&rotation, &config);
	assert_true(matches("old"));
	rotation_look(&rotation, &config);
	assert_false(matches("old"));
	assert_true(matches("new, and longer"));
}

static void one_that_is_still_being_written_is_not_taken(void **state)
{
	(void)state;
	write_file("password", "n");
	rotation_look(&rotation, &config);
	write_file("password", "ne");
	rotation_look(&rotation, &config);
	assert_true(matches("old"));
	write_file("password", "new");
	rotation_look(&rotation, &config);
	assert_true(matches("old"));
	rotation_look(&rotation, &config);
	assert_true(matches("new"));
}

/* As Kubernetes mounts a Secret: password -> ..data/password, ..data -> a. */
static void a_link_that_is_swapped_is_a_change(void **state)
{
	char one[96];
	char two[96];

	(void)state;
	name_in_folder(one, "a");
	assert_int_equal(mkdir(one, 0700), 0);
	name_in_folder(two, "b");
	assert_int_equal(mkdir(two, 0700), 0);
	write_file("a/password", "one");
	write_file("b/password", "two");
	name_in_folder(one, "..data");
	assert_int_equal(symlink("a", one), 0);
	assert_int_equal(remove(path), 0);
	assert_int_equal(symlink("..data/password", path), 0);
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_true(matches("one"));
	name_in_folder(two, "new");
	assert_int_equal(symlink("b", two), 0);
	assert_int_equal(rename(two, one), 0);
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_false(matches("one"));
	assert_true(matches("two"));
}

static void what_is_no_use_keeps_the_old_one_until_it_is(void **state)
{
	static const char *const bad[] = {"", "\n", "1\n2\n3\n"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		write_file("password", bad[i]);
		for (int look = 0; look < 4; look++)
			rotation_look(&rotation, &config);
		assert_true(matches("old"));
	}
	assert_int_equal(remove(path), 0);
	for (int look = 0; look < 4; look++)
		rotation_look(&rotation, &config);
	assert_true(matches("old"));
	assert_true(rotation.has_refused);
	write_file("password", "new\nold\n");
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_false(rotation.has_refused);
	assert_true(matches("old"));
	assert_true(matches("new"));
}

static void what_comes_back_as_it_was_is_read_again(void **state)
{
	char aside[96];

	(void)state;
	name_in_folder(aside, "aside");
	assert_int_equal(rename(path, aside), 0);
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_true(rotation.has_refused);
	assert_int_equal(rename(aside, path), 0);
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_false(rotation.has_refused);
	assert_true(matches("old"));
}

static void reloading_reads_at_once(void **state)
{
	(void)state;
	write_file("password", "new");
	rotation_reload(&rotation, &config);
	assert_true(matches("new"));
	unsigned before = password_generation();
	rotation_look(&rotation, &config);
	rotation_look(&rotation, &config);
	assert_int_equal(password_generation(), before);
}

static void without_a_file_there_is_nothing_to_look_at(void **state)
{
	(void)state;
	config = (struct config){.password = "plain"};
	rotation_look(&rotation, &config);
	assert_true(matches("old"));
	rotation_reload(&rotation, &config);
	assert_true(matches("plain"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_change_is_taken_at_the_second_look),
		TEST(one_that_is_still_being_written_is_not_taken),
		TEST(a_link_that_is_swapped_is_a_change),
		TEST(what_is_no_use_keeps_the_old_one_until_it_is),
		TEST(what_comes_back_as_it_was_is_read_again),
		TEST(reloading_reads_at_once),
		TEST(without_a_file_there_is_nothing_to_look_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
