/* history_files.c - see history_files.h. */
#include "history_files.h"

char folder[64];

char path[96];

char beside[128]; /* what saving makes first */

char refused[128]; /* what a bad file is renamed to */

char file_error[HISTORY_FILE_ERROR_MAX];

size_t topics;

size_t file_used_before;

struct history_file_loading loading;

int open_all(void **state)
{
	(void)state;
	memory_settle();
	memory_set_limit(0, 1 << 30);
	file_used_before = memory_used();
	snprintf(folder, sizeof folder, "/tmp/isimud-history-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/history", folder);
	snprintf(beside, sizeof beside, "%s.new", path);
	snprintf(refused, sizeof refused, "%s.refused", path);
	loading.saved_ms = HISTORY_FILE_ANY;
	return open_boxes(SIZE_MAX) != 0 || new_registry(SIZE, TTL, BYTES) != 0;
}

int close_all(void **state)
{
	int rv = close_registry(state);

	chmod(folder, 0700);
	unlink(path);
	rmdir(path);
	unlink(refused);
	unlink(beside);
	rmdir(beside);
	memory_settle();
	return rv != 0 || rmdir(folder) != 0 ||
	       memory_used() != file_used_before;
}

void publish_span(const struct topic_key *key, struct span data, bool is_json)
{
	struct registry_receipt receipt;
	struct message *m = message_new(data, is_json, WORKERS);

	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
}

void file_publish(const struct topic_key *key, const char *text)
{
	publish_span(key, span_of(text), false);
}

void restart(void)
{
	registry_free(registry);
	assert_int_equal(new_registry(SIZE, TTL, BYTES), 0);
}

int save(void)
{
	snprintf(file_error, sizeof file_error, "untouched");
	return history_file_save(registry, path, history_file_now_ms(), &topics,
				 file_error);
}

int file_load(void)
{
	snprintf(file_error, sizeof file_error, "untouched");
	loading.workers = WORKERS;
	loading.ttl_ms = TTL;
	int rv = history_file_load(registry, path, &loading, file_error);
	topics = loading.topics;
	return rv;
}

bool exists(const char *name)
{
	return access(name, F_OK) == 0;
}

char told[256];

int tell(void *user, const struct registry_topic *t)
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

const char *find(const struct topic_key *key)
{
	told[0] = '\0';
	registry_find(registry, key, tell, NULL);
	return told;
}

unsigned char bytes[4096];

size_t file_len; /* of the file */

void read_bytes(void)
{
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	file_len = fread(bytes, 1, sizeof bytes, file);
	assert_in_range(file_len, DIGEST_SHA256_BYTES, sizeof bytes - 1);
	fclose(file);
}

void write_bytes(size_t written)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, written, file), written);
	assert_int_equal(fclose(file), 0);
}

void seal_bytes(void)
{
	digest_sha256(bytes, file_len - DIGEST_SHA256_BYTES,
		      bytes + file_len - DIGEST_SHA256_BYTES);
	write_bytes(file_len);
}

void set_number(size_t at, uint64_t number)
{
	for (int i = 0; i < 8; i++)
		bytes[at + (size_t)i] = (unsigned char)(number >> 8 * i);
}

uint64_t get_number(size_t at)
{
	uint64_t number = 0;
	for (int i = 7; i >= 0; i--)
		number = number << 8 | bytes[at + (size_t)i];
	return number;
}

void save_news(void)
{
	file_publish(&news, "one");
	publish_span(&news, SPAN("2"), true);
	file_publish(&news, "");
	assert_int_equal(save(), 0);
	restart();
	read_bytes();
}

void expect_refusal(int rv, const char *word)
{
	uint64_t epoch = registry_epoch(registry);

	unlink(refused);
	assert_int_equal(file_load(), rv);
	if (strstr(file_error, word) == NULL ||
	    strstr(file_error, path) == NULL)
		fail_msg("the error is: %s", file_error);
	assert_int_equal(topics, 0);
	assert_int_equal(registry_topics(registry), 0);
	assert_int_equal(registry_history_bytes(registry), 0);
	assert_int_equal(registry_epoch(registry), epoch);
	assert_int_equal(registry_last_sequence(registry), 0);
	assert_false(exists(path));
	assert_true(exists(refused));
}
