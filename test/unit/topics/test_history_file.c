/* test_history_file.c - there and back, and time (history_file.h) */
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

#define SECOND UINT64_C(1000000000) /* in ns */

#define SAVED_AT 33

/* --- there and back --------------------------------------------------------*/

static void topics_and_messages_are_there_again_after_a_restart(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	file_publish(&news, "one");
	publish_span(&news, SPAN("{\"two\":2}"), true);
	file_publish(&news, "");
	file_publish(&weather, "rain");
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 2);
	restart();
	assert_int_not_equal(registry_epoch(registry), epoch);
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 2);
	assert_string_equal(file_error, "untouched");
	assert_int_equal(registry_epoch(registry), epoch);
	assert_string_equal(find(&news), "3:one,[{\"two\":2}],,");
	assert_string_equal(find(&weather), "1:rain,");
	file_publish(&news, "four");
	assert_string_equal(find(&news), "4:one,[{\"two\":2}],,four,");
}

static void clients_resume_as_if_nothing_had_been(void **state)
{
	struct message *missed[SIZE];
	struct registry_join j = {
		.member = members[0],
		.resumes = true,
		.epoch = registry_epoch(registry),
		.after = 1,
	};
	uint64_t posted;

	(void)state;
	file_publish(&news, "one");
	file_publish(&news, "two");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_true(j.is_exact);
	assert_int_equal(read_missed(&j, missed, SIZE), 1);
	assert_int_equal(j.since, 2);
	message_unref(missed[0], 1);
	registry_leave(registry, j.topic, 0, &posted);
}

static void numbers_go_on_above_all_that_were_given(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 9; i++)
		file_publish(&weather, "x");
	assert_false(registry_shrink_history(registry, 0));
	file_publish(&news, "one");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(registry_last_sequence(registry), 9);
	file_publish(&weather, "rain");
	assert_string_equal(find(&weather), "10:rain,");
}

static void a_topics_number_is_saved_without_messages(void **state)
{
	struct registry_join j = {.member = members[0]};
	uint64_t posted;

	(void)state;
	file_publish(&news, "one");
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_false(registry_shrink_history(registry, 0));
	registry_leave(registry, j.topic, 0, &posted);
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 1);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 1);
	assert_string_equal(find(&news), "1:");
}

static void a_registry_without_topics_is_saved_with_its_numbers(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	file_publish(&news, "one");
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_int_equal(registry_last_sequence(registry), 1);
}

static void keys_and_data_of_any_length_and_bytes_come_back(void **state)
{
	static char large[300000];
	static char name[NAME_MAX_BYTES];
	static const size_t lens[] = {0, 1, 100, 65535, 65536, sizeof large};
	static const size_t name_lens[] = {0, 1, 2, 100, 1023, sizeof name};
	struct topic_key key = {{"a\0\xc3\xa9", 4}, {name, 0}};

	(void)state;
	for (size_t i = 0; i < sizeof large; i++)
		large[i] = (char)(i * 7);
	for (size_t i = 0; i < sizeof name; i++)
		name[i] = (char)(i * 7 & 0x7f);
	for (unsigned i = 0; i < 6; i++) {
		key.name.len = name_lens[i];
		publish_span(&key, (struct span){large, lens[5 - i]}, false);
	}
	publish_span(&(struct topic_key){{NULL, 0}, {NULL, 0}},
		     (struct span){large, 1}, false);
	size_t kept = registry_history_bytes(registry);
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 7);
	assert_int_equal(registry_history_bytes(registry), kept);
	for (unsigned i = 0; i < 6; i++) {
		struct registry_join j = {.member = members[0],
					  .resumes = true,
					  .epoch = registry_epoch(registry)};
		struct message *missed[SIZE];
		uint64_t posted;
		key.name.len = name_lens[i];
		assert_int_equal(registry_join(registry, &key, 0, &j), 0);
		assert_int_equal(read_missed(&j, missed, SIZE), 1);
		struct span data = message_data(missed[0]);
		assert_int_equal(data.len, lens[5 - i]);
		assert_memory_equal(data.bytes, large, data.len);
		message_unref(missed[0], 1);
		registry_leave(registry, j.topic, 0, &posted);
	}
}

static void types_of_events_come_back(void **state)
{
	char longest[SSE_TYPE_MAX_BYTES];
	const struct span types[] = {
		{NULL, 0}, {"g\xc3\xb6l", 4}, {longest, sizeof longest}};
	struct registry_join j = {.member = members[0], .resumes = true};
	struct registry_receipt receipt;
	struct message *missed[SIZE];
	uint64_t posted;

	(void)state;
	memset(longest, 'x', sizeof longest);
	for (size_t i = 0; i < 3; i++) {
		struct message *m =
			message_new_from((struct json_data){.text = SPAN("x"),
							    .event = types[i]},
					 WORKERS);
		assert_non_null(m);
		m->accepted_ns = uv_hrtime();
		assert_int_equal(registry_publish(registry, &news, m, &receipt),
				 0);
	}
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(file_load(), 0);
	j.epoch = registry_epoch(registry);
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_int_equal(read_missed(&j, missed, SIZE), 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(span_equal(message_event(missed[i]), types[i]));
		assert_true(span_equal(message_data(missed[i]), SPAN("x")));
		message_unref(missed[i], 1);
	}
	registry_leave(registry, j.topic, 0, &posted);
}

/* Of the version before, which had none. */
static void a_file_without_types_of_events_is_read(void **state)
{
	(void)state;
	file_publish(&news, "x"); /* one message, and so one byte too many */
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
	assert_int_equal(bytes[15], '2');
	bytes[15] = '1';
	file_len--;
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "1:x,");
}

static void a_type_that_no_publication_may_have_is_refused(void **state)
{
	(void)state;
	file_publish(&news, "x\3bad");
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
	/* The end of the data becomes a type. */
	memcpy(bytes + file_len - DIGEST_SHA256_BYTES - 5, "\4b\nad", 5);
	set_number(DATA_LEN_AT, 1);
	seal_bytes();
	expect_refusal(UV_EINVAL, "torn");
}

static void many_topics_come_back_in_their_order(void **state)
{
	char name[16];
	struct topic_key key = {{"a", 1}, {name, 0}};

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(name, sizeof name, "%u", i);
		key.name = span_of(name);
		file_publish(&key, name);
	}
	size_t kept = registry_history_bytes(registry);
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 20000);
	restart();
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 20000);
	assert_int_equal(registry_history_bytes(registry), kept);
	/* Those that came first go first. */
	assert_false(registry_shrink_history(registry, kept - kept / 10));
	assert_string_equal(find(&key), "1:19999,");
	key.name = SPAN("0");
	assert_string_equal(find(&key), "");
}

static void where_no_history_is_kept_any_more_the_numbers_go_on(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	file_publish(&news, "one");
	assert_int_equal(save(), 0);
	registry_free(registry);
	assert_int_equal(new_registry(0, 0, 0), 0);
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_int_equal(registry_last_sequence(registry), 1);
}

/* --- time ------------------------------------------------------------------*/

static uint64_t oldest_age(void)
{
	read_bytes();
	return get_number(MESSAGE_AT);
}

static void ages_include_the_time_between(void **state)
{
	(void)state;
	save_news();
	set_number(SAVED_AT, get_number(SAVED_AT) - 30000);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "3:one,[2],,");
	assert_int_equal(save(), 0);
	assert_in_range(oldest_age(), 30 * SECOND, 55 * SECOND);
	restart();
	set_number(SAVED_AT, get_number(SAVED_AT) - 31000);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 0);
	assert_string_equal(find(&news), "");
	assert_int_equal(registry_last_sequence(registry), 3);
}

static void one_older_than_the_ttl_gives_no_epoch(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	save_news();
	set_number(SAVED_AT, get_number(SAVED_AT) - TTL + 20000);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_false(loading.is_too_old);
	assert_int_equal(registry_epoch(registry), epoch);
	restart();
	uint64_t fresh = registry_epoch(registry);
	set_number(SAVED_AT, get_number(SAVED_AT) - 20001);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_true(loading.is_too_old);
	assert_int_equal(registry_epoch(registry), fresh);
	assert_int_equal(topics, 0);
	assert_false(exists(path));
}

static void only_the_last_one_saved_is_read(void **state)
{
	(void)state;
	save_news();
	uint64_t saved_ms = get_number(SAVED_AT);
	loading.saved_ms = saved_ms + 1;
	expect_refusal(UV_EINVAL, "another process has run");
	write_bytes(file_len);
	loading.saved_ms = HISTORY_FILE_NONE;
	expect_refusal(UV_EINVAL, "another process has run");
	write_bytes(file_len);
	loading.saved_ms = saved_ms;
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 1);
}

static void a_wall_clock_that_was_set_back_counts_as_no_time(void **state)
{
	(void)state;
	save_news();
	set_number(SAVED_AT, get_number(SAVED_AT) + 1000000);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "3:one,[2],,");
	assert_int_equal(save(), 0);
	assert_in_range(oldest_age(), 0, 25 * SECOND);
}

static void times_beyond_all_measure_are_long_ago(void **state)
{
	(void)state;
	save_news();
	set_number(MESSAGE_AT, UINT64_MAX);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_string_equal(find(&news), "3:[2],,");
	restart();
	set_number(SAVED_AT, 0);
	seal_bytes();
	assert_int_equal(file_load(), 0);
	assert_int_equal(topics, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(topics_and_messages_are_there_again_after_a_restart),
		TEST(clients_resume_as_if_nothing_had_been),
		TEST(numbers_go_on_above_all_that_were_given),
		TEST(a_topics_number_is_saved_without_messages),
		TEST(a_registry_without_topics_is_saved_with_its_numbers),
		TEST(keys_and_data_of_any_length_and_bytes_come_back),
		TEST(types_of_events_come_back),
		TEST(a_file_without_types_of_events_is_read),
		TEST(a_type_that_no_publication_may_have_is_refused),
		TEST(many_topics_come_back_in_their_order),
		TEST(where_no_history_is_kept_any_more_the_numbers_go_on),
		TEST(ages_include_the_time_between),
		TEST(one_older_than_the_ttl_gives_no_epoch),
		TEST(only_the_last_one_saved_is_read),
		TEST(a_wall_clock_that_was_set_back_counts_as_no_time),
		TEST(times_beyond_all_measure_are_long_ago),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
