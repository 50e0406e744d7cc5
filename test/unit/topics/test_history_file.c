/* test_history_file.c - what src/topics/history_file.c promises. */
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

#define SIZE  4
#define TTL   60000      /* ms */
#define BYTES (64 << 20) /* in all */

#define SECOND UINT64_C(1000000000) /* in ns */

/* Where the numbers of the file's head lie. */
#define EPOCH_AT    17
#define LAST_AT     25
#define SAVED_AT    33
#define TOPICS_AT   41
#define TOPIC_AT    49 /* the first topic */
#define NAME_LEN_AT (TOPIC_AT + 8)
#define SEQUENCE_AT (TOPIC_AT + 16)
#define COUNT_AT    (TOPIC_AT + 32)
#define KEY_AT      (TOPIC_AT + 40)
#define MESSAGE_AT  (KEY_AT + 9) /* alice, news */
#define JSON_AT     (MESSAGE_AT + 8)
#define DATA_LEN_AT (MESSAGE_AT + 9)

/* --- help ------------------------------------------------------------------*/

static char folder[64];
static char path[96];
static char beside[128];  /* what saving makes first */
static char refused[128]; /* what a bad file is renamed to */
static char error[HISTORY_FILE_ERROR_MAX];
static size_t topics;
static size_t used_before;
static struct history_file_loading loading;

static int open_all(void **state)
{
	(void)state;
	memory_settle();
	memory_set_limit(0, 1 << 30);
	used_before = memory_used();
	snprintf(folder, sizeof folder, "/tmp/isimud-history-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/history", folder);
	snprintf(beside, sizeof beside, "%s.new", path);
	snprintf(refused, sizeof refused, "%s.refused", path);
	loading.saved_ms = HISTORY_FILE_ANY;
	return open_boxes(SIZE_MAX) != 0 || new_registry(SIZE, TTL, BYTES) != 0;
}

static int close_all(void **state)
{
	int rv = close_registry(state);

	chmod(folder, 0700);
	unlink(path);
	rmdir(path);
	unlink(refused);
	unlink(beside);
	rmdir(beside);
	memory_settle();
	return rv != 0 || rmdir(folder) != 0 || memory_used() != used_before;
}

static const struct topic_key news = {{"alice", 5}, {"news", 4}};
static const struct topic_key weather = {{"alice", 5}, {"weather", 7}};

static void publish_span(const struct topic_key *key, struct span data,
			 bool is_json)
{
	struct registry_receipt receipt;
	struct message *m = message_new(data, is_json, WORKERS);

	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
}

static void publish(const struct topic_key *key, const char *text)
{
	publish_span(key, span_of(text), false);
}

/* As after a restart: another registry. */
static void restart(void)
{
	registry_free(registry);
	assert_int_equal(new_registry(SIZE, TTL, BYTES), 0);
}

static int save(void)
{
	snprintf(error, sizeof error, "untouched");
	return history_file_save(registry, path, history_file_now_ms(), &topics,
				 error);
}

static int load(void)
{
	snprintf(error, sizeof error, "untouched");
	loading.workers = WORKERS;
	loading.ttl_ms = TTL;
	int rv = history_file_load(registry, path, &loading, error);
	topics = loading.topics;
	return rv;
}

static bool exists(const char *name)
{
	return access(name, F_OK) == 0;
}

/* A topic as text: "SEQUENCE:text,text,"; JSON in brackets. */
static char told[256];

static int tell(void *user, const struct registry_topic *t)
{
	size_t len =
		(size_t)snprintf(told, sizeof told, "%d:", (int)t->sequence);

	(void)user;
	for (unsigned i = 0; i < t->messages_count; i++) {
		const struct message *m = t->messages[i];
		struct span data = message_data(m);
		assert_int_equal(m->sequence,
				 t->sequence - (t->messages_count - 1 - i));
		len += (size_t)snprintf(told + len, sizeof told - len,
					m->is_json ? "[%.*s]," : "%.*s,",
					(int)data.len, data.bytes);
	}
	return 0;
}

static const char *find(const struct topic_key *key)
{
	told[0] = '\0';
	registry_find(registry, key, tell, NULL);
	return told;
}

/* --- the file's bytes ------------------------------------------------------*/

static unsigned char bytes[4096];
static size_t len; /* of the file */

static void read_bytes(void)
{
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	len = fread(bytes, 1, sizeof bytes, file);
	assert_in_range(len, DIGEST_SHA256_BYTES, sizeof bytes - 1);
	fclose(file);
}

static void write_bytes(size_t written)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, written, file), written);
	assert_int_equal(fclose(file), 0);
}

/* Writes a file with a digest that is right. */
static void seal_bytes(void)
{
	digest_sha256(bytes, len - DIGEST_SHA256_BYTES,
		      bytes + len - DIGEST_SHA256_BYTES);
	write_bytes(len);
}

static void set_number(size_t at, uint64_t number)
{
	for (int i = 0; i < 8; i++)
		bytes[at + (size_t)i] = (unsigned char)(number >> 8 * i);
}

static uint64_t get_number(size_t at)
{
	uint64_t number = 0;
	for (int i = 7; i >= 0; i--)
		number = number << 8 | bytes[at + (size_t)i];
	return number;
}

/* The file of one topic, news, with messages "one", JSON 2, "". */
static void save_news(void)
{
	publish(&news, "one");
	publish_span(&news, SPAN("2"), true);
	publish(&news, "");
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
}

/* Must refuse what is at `path` with `rv`, and a text with `word`. */
static void expect_refusal(int rv, const char *word)
{
	uint64_t epoch = registry_epoch(registry);

	unlink(refused);
	assert_int_equal(load(), rv);
	if (strstr(error, word) == NULL || strstr(error, path) == NULL)
		fail_msg("the error is: %s", error);
	assert_int_equal(topics, 0);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_int_equal(registry_last_sequence(registry), 0);
	assert_false(exists(path));
	assert_true(exists(refused));
}

/* --- there and back --------------------------------------------------------*/

static void topics_and_messages_are_there_again_after_a_restart(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	publish(&news, "one");
	publish_span(&news, SPAN("{\"two\":2}"), true);
	publish(&news, "");
	publish(&weather, "rain");
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 2);
	restart();
	assert_int_not_equal(registry_epoch(registry), epoch);
	assert_int_equal(load(), 0);
	assert_int_equal(topics, 2);
	assert_string_equal(error, "untouched");
	assert_int_equal(registry_epoch(registry), epoch);
	assert_string_equal(find(&news), "3:one,[{\"two\":2}],,");
	assert_string_equal(find(&weather), "1:rain,");
	publish(&news, "four");
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
	publish(&news, "one");
	publish(&news, "two");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
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
		publish(&weather, "x");
	assert_false(registry_shrink_history(registry, 0));
	publish(&news, "one");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
	assert_int_equal(registry_last_sequence(registry), 9);
	publish(&weather, "rain");
	assert_string_equal(find(&weather), "10:rain,");
}

static void a_topics_number_is_saved_without_messages(void **state)
{
	struct registry_join j = {.member = members[0]};
	uint64_t posted;

	(void)state;
	publish(&news, "one");
	assert_int_equal(registry_join(registry, &news, 0, &j), 0);
	assert_false(registry_shrink_history(registry, 0));
	registry_leave(registry, j.topic, 0, &posted);
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 1);
	restart();
	assert_int_equal(load(), 0);
	assert_int_equal(topics, 1);
	assert_string_equal(find(&news), "1:");
}

static void a_registry_without_topics_is_saved_with_its_numbers(void **state)
{
	uint64_t epoch = registry_epoch(registry);

	(void)state;
	publish(&news, "one");
	assert_false(registry_shrink_history(registry, 0));
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 0);
	restart();
	assert_int_equal(load(), 0);
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
	assert_int_equal(load(), 0);
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
			message_new_event(SPAN("x"), false, types[i], WORKERS);
		assert_non_null(m);
		m->accepted_ns = uv_hrtime();
		assert_int_equal(registry_publish(registry, &news, m, &receipt),
				 0);
	}
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
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
	publish(&news, "x"); /* one message, and so one byte too many */
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
	assert_int_equal(bytes[15], '2');
	bytes[15] = '1';
	len--;
	seal_bytes();
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "1:x,");
}

static void a_type_that_no_publication_may_have_is_refused(void **state)
{
	(void)state;
	publish(&news, "x\3bad");
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
	/* The end of the data becomes a type. */
	memcpy(bytes + len - DIGEST_SHA256_BYTES - 5, "\4b\nad", 5);
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
		publish(&key, name);
	}
	size_t kept = registry_history_bytes(registry);
	assert_int_equal(save(), 0);
	assert_int_equal(topics, 20000);
	restart();
	assert_int_equal(load(), 0);
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
	publish(&news, "one");
	assert_int_equal(save(), 0);
	registry_free(registry);
	assert_int_equal(new_registry(0, 0, 0), 0);
	assert_int_equal(load(), 0);
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
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "3:one,[2],,");
	assert_int_equal(save(), 0);
	assert_in_range(oldest_age(), 30 * SECOND, 55 * SECOND);
	restart();
	set_number(SAVED_AT, get_number(SAVED_AT) - 31000);
	seal_bytes();
	assert_int_equal(load(), 0);
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
	assert_int_equal(load(), 0);
	assert_false(loading.is_too_old);
	assert_int_equal(registry_epoch(registry), epoch);
	restart();
	uint64_t fresh = registry_epoch(registry);
	set_number(SAVED_AT, get_number(SAVED_AT) - 20001);
	seal_bytes();
	assert_int_equal(load(), 0);
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
	write_bytes(len);
	loading.saved_ms = HISTORY_FILE_NONE;
	expect_refusal(UV_EINVAL, "another process has run");
	write_bytes(len);
	loading.saved_ms = saved_ms;
	assert_int_equal(load(), 0);
	assert_int_equal(topics, 1);
}

static void a_wall_clock_that_was_set_back_counts_as_no_time(void **state)
{
	(void)state;
	save_news();
	set_number(SAVED_AT, get_number(SAVED_AT) + 1000000);
	seal_bytes();
	assert_int_equal(load(), 0);
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
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "3:[2],,");
	restart();
	set_number(SAVED_AT, 0);
	seal_bytes();
	assert_int_equal(load(), 0);
	assert_int_equal(topics, 0);
}

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
	assert_int_equal(load(), 0);
	assert_false(exists(path));
	assert_false(exists(refused));
	restart();
	assert_int_equal(load(), UV_ENOENT);
	assert_string_equal(error, "untouched");
}

static void a_later_one_takes_its_place(void **state)
{
	(void)state;
	publish(&news, "one");
	assert_int_equal(save(), 0);
	publish(&news, "two");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "2:one,two,");
}

static void what_a_crash_left_is_no_hindrance(void **state)
{
	(void)state;
	save_news();
	assert_int_equal(rename(path, beside), 0);
	assert_int_equal(load(), UV_ENOENT);
	publish(&news, "new");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "1:new,");
	assert_false(exists(beside));
}

static void without_a_folder_nothing_is_saved(void **state)
{
	char elsewhere[sizeof folder + 32];

	(void)state;
	snprintf(elsewhere, sizeof elsewhere, "%s/none/history", folder);
	assert_int_equal(
		history_file_save(registry, elsewhere, 1, &topics, error),
		UV_ENOENT);
	assert_non_null(strstr(error, elsewhere));
	assert_int_equal(topics, 0);
	assert_int_equal(history_file_try(elsewhere, error), UV_ENOENT);
	assert_non_null(strstr(error, elsewhere));
}

static void a_path_that_is_too_long_is_refused(void **state)
{
	static char longer[5000];

	(void)state;
	memset(longer, 'x', sizeof longer - 1);
	assert_int_equal(history_file_save(registry, longer, 1, &topics, error),
			 UV_ENAMETOOLONG);
	assert_int_equal(history_file_load(registry, longer, &loading, error),
			 UV_ENAMETOOLONG);
	assert_int_equal(history_file_try(longer, error), UV_ENAMETOOLONG);
}

/* A limit of the size is a full disk. */
static void a_file_that_can_not_be_written_leaves_the_old_one(void **state)
{
	struct rlimit limit;

	(void)state;
	publish(&news, "one");
	assert_int_equal(save(), 0);
	read_bytes();
	size_t old_len = len;
	for (unsigned i = 0; i < SIZE; i++)
		publish(&news, "a text that makes it longer");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
	struct rlimit small = {old_len + 1, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int rv = save();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	signal(SIGXFSZ, before);
	assert_int_equal(rv, UV_EFBIG);
	assert_non_null(strstr(error, path));
	assert_false(exists(beside));
	restart();
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "1:one,");
}

static void trying_leaves_nothing_but_the_file(void **state)
{
	(void)state;
	assert_int_equal(history_file_try(path, error), 0);
	assert_false(exists(path));
	assert_false(exists(beside));
	save_news();
	write_bytes(len);
	assert_int_equal(rename(path, beside), 0);
	write_bytes(len);
	assert_int_equal(history_file_try(path, error), 0);
	assert_true(exists(path));
	assert_false(exists(beside));
	assert_int_equal(load(), 0);
}

static void where_a_folder_has_its_name_saving_fails(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(history_file_try(path, error), UV_EINVAL);
	assert_non_null(strstr(error, "not a file"));
	assert_int_equal(save(), UV_EINVAL);
	assert_non_null(strstr(error, "not a file"));
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
	int rv = load();
	if (is_root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(rv, UV_EACCES);
	assert_non_null(strstr(error, "removed"));
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_true(exists(path));
}

/* --- what is refused -------------------------------------------------------*/

static void expect_no_file(void)
{
	assert_int_equal(load(), UV_EINVAL);
	assert_non_null(strstr(error, "not a file"));
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
	for (size_t torn = 0; torn < len; torn++) {
		write_bytes(torn);
		expect_refusal(UV_EINVAL, "torn");
	}
}

static void a_file_with_any_byte_changed_is_refused(void **state)
{
	(void)state;
	save_news();
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 1;
		write_bytes(len);
		bool is_version = i == 15 || i == 16;
		expect_refusal(UV_EINVAL, is_version ? "version" : "torn");
		bytes[i] ^= 1;
	}
	write_bytes(len);
	assert_int_equal(load(), 0);
}

static void a_file_with_anything_behind_it_is_refused(void **state)
{
	(void)state;
	save_news();
	bytes[len] = 0;
	write_bytes(len + 1);
	expect_refusal(UV_EINVAL, "torn");
	len++;
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
	size_t topic = len - DIGEST_SHA256_BYTES - TOPIC_AT;
	memcpy(copy, bytes + TOPIC_AT, topic);
	memcpy(bytes + TOPIC_AT + topic, copy, topic);
	len += topic;
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
		publish(&keys[i], "x");
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
	int rv = load();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rv, UV_EMFILE);
	assert_true(loading.is_in_place);
	assert_false(exists(refused));
	assert_int_equal(load(), 0);
	assert_false(loading.is_in_place);
	assert_string_equal(find(&news), "3:one,[2],,");
}

static void after_a_refusal_the_registry_serves(void **state)
{
	(void)state;
	save_news();
	write_bytes(len - 1);
	expect_refusal(UV_EINVAL, "torn");
	publish(&news, "one");
	assert_string_equal(find(&news), "1:one,");
	assert_int_equal(save(), 0);
	restart();
	assert_int_equal(load(), 0);
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
	publish(&weather, "rain");
	save_news();
	do {
		restart();
		write_bytes(len);
		uint64_t epoch = registry_epoch(registry);
		oom_fail_at(++nth);
		int rv = load();
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
	publish(&news, "one");
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
	assert_int_equal(load(), 0);
	assert_string_equal(find(&news), "1:one,");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

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
