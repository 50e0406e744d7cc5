/* test_history_file_refused.c - what is refused, and lack of memory
 * (history_file.h) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/name.h"
#include "boxes.h"
#include "codec/sse.h"
#include "oom.h"
#include "topics/history_file.h"

#include "history_files.h"

#define LAST_AT 25

#define TOPICS_AT 41

#define NAME_LEN_AT (TOPIC_AT + 8)

#define SEQUENCE_AT (TOPIC_AT + 16)

#define COUNT_AT (TOPIC_AT + 32)

#define JSON_AT (MESSAGE_AT + 8)

/* --- the file --------------------------------------------------------------*/

static void it_is_for_its_owner_alone(void **state)
{
	struct stat st;
	mode_t mask = umask(0);

	(void)state;
	assert_int_equal(save(), 0);
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_false(exists(beside));
}

static void it_is_used_up_by_reading(void **state)
{
	(void)state;
	save_news();
	assert_int_equal(file_load(), 0);
	assert_false(exists(path));
	assert_false(exists(refused));
	restart();
	assert_int_equal(file_load(), UV_ENOENT);
	assert_string_equal(file_error, "untouched");
}

static void a_later_one_takes_its_place(void **state)
{
	(void)state;
	file_publish(&news, "one");
	assert_int_equal(save(), 0);
	file_publish(&news, "two");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "2:one,two,");
}

static void what_a_crash_left_is_no_hindrance(void **state)
{
	(void)state;
	save_news();
	assert_int_equal(rename(path, beside), 0);
	assert_int_equal(file_load(), UV_ENOENT);
	file_publish(&news, "new");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "1:new,");
	assert_false(exists(beside));
}

static void without_a_folder_nothing_is_saved(void **state)
{
	char elsewhere[sizeof folder + 32];

	(void)state;
	snprintf(elsewhere, sizeof elsewhere, "%s/none/history", folder);
	assert_int_equal(
		history_file_save(registry, elsewhere, 1, &topics, file_error),
		UV_ENOENT);
	assert_non_null(strstr(file_error, elsewhere));
	assert_int_equal(topics, 0);
	assert_int_equal(history_file_try(elsewhere, file_error), UV_ENOENT);
	assert_non_null(strstr(file_error, elsewhere));
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	static char longer[5000];

	(void)state;
	memset(longer, 'x', sizeof longer - 1);
	assert_int_equal(
		history_file_save(registry, longer, 1, &topics, file_error),
		UV_ENAMETOOLONG);
	assert_int_equal(
		history_file_load(registry, longer, &loading, file_error),
		UV_ENAMETOOLONG);
	assert_int_equal(history_file_try(longer, file_error), UV_ENAMETOOLONG);
}

/* A limit of the size is a full disk. */
static void a_file_that_can_not_be_written_leaves_the_old_one(void **state)
{
	struct rlimit limit;

	(void)state;
	file_publish(&news, "one");
	assert_int_equal(save(), 0);
	read_bytes();
	size_t old_len = file_len;
	for (unsigned i = 0; i < SIZE; i++)
		file_publish(&news, "a text that makes it longer");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
	struct rlimit small = {old_len + 1, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int rv = save();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	signal(SIGXFSZ, before);
	assert_int_equal(rv, UV_EFBIG);
	assert_non_null(strstr(file_error, path));
	assert_false(exists(beside));
	restart();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "1:one,");
}

static void trying_leaves_nothing_but_the_file(void **state)
{
	(void)state;
	assert_int_equal(history_file_try(path, file_error), 0);
	assert_false(exists(path));
	assert_false(exists(beside));
	save_news();
	write_bytes(file_len);
	assert_int_equal(rename(path, beside), 0);
	write_bytes(file_len);
	assert_int_equal(history_file_try(path, file_error), 0);
	assert_true(exists(path));
	assert_false(exists(beside));
	assert_int_equal(file_load(), 0);
}

static void where_a_folder_has_its_name_saving_fails(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(history_file_try(path, file_error), UV_EINVAL);
	assert_non_null(strstr(file_error, "not a file"));
	assert_int_equal(save(), UV_EINVAL);
	assert_non_null(strstr(file_error, "not a file"));
	assert_false(exists(beside));
	rmdir(path);
}

/* Such as /dev/null, which root could replace. */
static void nothing_is_put_in_the_place_of_what_is_not_a_file(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(save(), UV_EINVAL);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
}

/* root may do everything, so it becomes nobody for a while. */
static void a_file_that_can_not_be_removed_is_refused(void **state)
{
	const uid_t nobody = 65534;
	bool is_root = geteuid() == 0;

	(void)state;
	save_news();
	uint64_t epoch = registry_epoch(registry);
	if (is_root && (chown(path, nobody, (gid_t)-1) != 0 ||
			chown(folder, nobody, (gid_t)-1) != 0))
		skip();
	assert_int_equal(chmod(folder, 0500), 0);
	if (is_root && seteuid(nobody) != 0)
		skip();
	int rv = file_load();
	if (is_root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(rv, UV_EACCES);
	assert_non_null(strstr(file_error, "removed"));
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_true(exists(path));
}

/* --- what is refused -------------------------------------------------------*/

static void expect_no_file(void)
{
	assert_int_equal(file_load(), UV_EINVAL);
	assert_non_null(strstr(file_error, "not a file"));
	assert_int_equal(registry_topics(registry), 0);
	assert_true(exists(path));
	assert_false(exists(refused));
}

static void a_folder_and_a_fifo_are_refused_and_stay(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_no_file();
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_no_file();
	rmdir(path);
}

static void a_file_torn_anywhere_is_refused(void **state)
{
	(void)state;
	save_news();
	for (size_t torn = 0; torn < file_len; torn++) {
		write_bytes(torn);
		expect_refusal(UV_EINVAL, "torn");
	}
}

static void a_file_with_any_byte_changed_is_refused(void **state)
{
	(void)state;
	save_news();
	for (size_t i = 0; i < file_len; i++) {
		bytes[i] ^= 1;
		write_bytes(file_len);
		bool is_version = i == 15 || i == 16;
		expect_refusal(UV_EINVAL, is_version ? "version" : "torn");
		bytes[i] ^= 1;
	}
	write_bytes(file_len);
	assert_int_equal(file_load(), 0);
}

static void a_file_with_anything_behind_it_is_refused(void **state)
{
	(void)state;
	save_news();
	bytes[file_len] = 0;
	write_bytes(file_len + 1);
	expect_refusal(UV_EINVAL, "torn");
	file_len++;
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
}

static void another_version_is_refused_by_its_name(void **state)
{
	(void)state;
	save_news();
	bytes[15] = '3';
	seal_bytes();
	expect_refusal(UV_EINVAL, "version");
}

/* Each length and number, though the digest is right: too large by one, or by
 * far, or such that sums overflow. */
static void no_length_is_trusted(void **state)
{
	static const size_t places[] = {
		TOPICS_AT,   TOPIC_AT, NAME_LEN_AT,
		SEQUENCE_AT, COUNT_AT, DATA_LEN_AT,
	};
	static const uint64_t wrong[] = {
		4, 5000, UINT32_MAX, INT64_MAX, UINT64_MAX - 5, UINT64_MAX,
	};

	(void)state;
	save_news();
	for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
		uint64_t right = get_number(places[p]);
		for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
			if (wrong[w] == right)
				continue;
			set_number(places[p], wrong[w]);
			seal_bytes();
			expect_refusal(UV_EINVAL, "torn");
		}
		set_number(places[p], right);
	}
	set_number(LAST_AT, 2); /* below the topic's */
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
	set_number(LAST_AT, UINT64_MAX); /* no number is left */
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
	set_number(LAST_AT, 3);
	bytes[JSON_AT] = 2;
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
}

static void a_topic_that_is_there_twice_is_refused(void **state)
{
	static unsigned char copy[4096];

	(void)state;
	save_news();
	size_t topic = file_len - DIGEST_SHA256_BYTES - TOPIC_AT;
	memcpy(copy, bytes + TOPIC_AT, topic);
	memcpy(bytes + TOPIC_AT + topic, copy, topic);
	file_len += topic;
	set_number(TOPICS_AT, 2);
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
}

static void names_that_no_client_could_give_are_refused(void **state)
{
	static char name[NAME_MAX_BYTES + 1];
	struct topic_key keys[] = {
		{SPAN("alice"), {name, sizeof name}},
		{{name, sizeof name}, SPAN("news")},
		{SPAN("al\xef"
		      "ce"),
		 SPAN("news")}, /* Latin-1 */
		{SPAN("alice"), SPAN("\xed\xa0\x80")},
	};

	(void)state;
	memset(name, 'x', sizeof name);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		file_publish(&keys[i], "x");
		assert_int_equal(save(), 0);
		restart();
		expect_refusal(UV_EINVAL, "torn");
	}
}

static void without_descriptors_the_file_stays_for_the_next(void **state)
{
	struct rlimit limit;

	(void)state;
	save_news();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	struct rlimit none = {0, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int rv = file_load();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rv, UV_EMFILE);
	assert_true(loading.is_in_place);
	assert_false(exists(refused));
	assert_int_equal(file_load(), 0);
	assert_false(loading.is_in_place);
	assert_string_equal(find(&news), "3:one,[2],,");
}

static void after_a_refusal_the_registry_serves(void **state)
{
	(void)state;
	save_news();
	write_bytes(file_len - 1);
	expect_refusal(UV_EINVAL, "torn");
	file_publish(&news, "one");
	assert_string_equal(find(&news), "1:one,");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "1:one,");
}

/* --- without memory --------------------------------------------------------*/

static void without_memory_loading_is_refused_or_complete(void **state)
{
	unsigned nth = 0;
	unsigned failures = 0;
	bool has_failed;

	(void)state;
	OOM_OR_SKIP();
	file_publish(&weather, "rain");
	save_news();
	do {
		restart();
		write_bytes(file_len);
		uint64_t epoch = registry_epoch(registry);
		oom_fail_at(++nth);
		int rv = file_load();
		has_failed = oom_end();
		failures += rv != 0;
		if (rv != 0) {
			assert_int_equal(rv, UV_ENOMEM);
			assert_int_equal(registry_topics(registry), 0);
			assert_int_equal(registry_epoch(registry), epoch);
			assert_true(loading.is_in_place);
			assert_true(exists(path));
			assert_false(exists(refused));
		} else {
			assert_int_equal(topics, 2);
		}
	} while (has_failed);
	assert_string_equal(find(&news), "3:one,[2],,");
	assert_string_equal(find(&weather), "1:rain,");
	assert_true(failures > 5);
}

static void without_memory_saving_fails_or_is_complete(void **state)
{
	unsigned nth = 0;
	unsigned failures = 0;
	bool has_failed;

	(void)state;
	OOM_OR_SKIP();
	file_publish(&news, "one");
	do {
		unlink(path);
		oom_fail_at(++nth);
		int rv = save();
		has_failed = oom_end();
		failures += rv != 0;
		assert_true(rv == 0 || rv == UV_ENOMEM);
		assert_int_equal(exists(path), rv == 0);
		assert_false(exists(beside));
	} while (has_failed);
	assert_true(failures > 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "1:one,");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(it_is_for_its_owner_alone),
		TEST(it_is_used_up_by_reading),
		TEST(a_later_one_takes_its_place),
		TEST(what_a_crash_left_is_no_hindrance),
		TEST(without_a_folder_nothing_is_saved),
		TEST(a_path_that_is_too_long_is_refused),
		TEST(a_file_that_can_not_be_written_leaves_the_old_one),
		TEST(trying_leaves_nothing_but_the_file),
		TEST(where_a_folder_has_its_name_saving_fails),
		TEST(nothing_is_put_in_the_place_of_what_is_not_a_file),
		TEST(a_file_that_can_not_be_removed_is_refused),
		TEST(a_folder_and_a_fifo_are_refused_and_stay),
		TEST(a_file_torn_anywhere_is_refused),
		TEST(a_file_with_any_byte_changed_is_refused),
		TEST(a_file_with_anything_behind_it_is_refused),
		TEST(another_version_is_refused_by_its_name),
		TEST(no_length_is_trusted),
		TEST(a_topic_that_is_there_twice_is_refused),
		TEST(names_that_no_client_could_give_are_refused),
		TEST(without_descriptors_the_file_stays_for_the_next),
		TEST(after_a_refusal_the_registry_serves),
		TEST(without_memory_loading_is_refused_or_complete),
		TEST(without_memory_saving_fails_or_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
