/* fuzz_history_file.c - the history file, whatever is in it.
 *
 * An input is two bytes and a file. The first: 1, the file gets the digest that
 * makes it whole; 2, it was saved just now; 4, another process has saved one
 * since. The second: which allocation fails
 * while it is read. What can be read is saved, and read again: that is the
 * same. What can't leaves no topic. */
#include "topics/history_file.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "base/check.h"
#include "base/digest.h"
/* A helper for cmocka's tests, which nobody calls here, needs it. */
#define assert_non_null(pointer) CHECK((pointer) != NULL)
#include "boxes.h"

#define SAVED_AT 33 /* src/README.md */
#define TTL_MS   60000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static char path[96];
static char refused[128];

static void remove_folder(void)
{
	rmdir(folder);
}

static void open_once(void)
{
	if (folder[0] != '\0')
		return;
	snprintf(folder, sizeof folder, "/tmp/isimud-fuzz-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	CHECK(atexit(remove_folder) == 0);
	snprintf(path, sizeof path, "%s/history", folder);
	snprintf(refused, sizeof refused, "%s.refused", path);
	CHECK(open_boxes(SIZE_MAX) == 0);
	alarm(0);
}

static void write_file(const uint8_t *bytes, size_t len, unsigned how)
{
	uint8_t *copy = malloc(len + DIGEST_SHA256_BYTES);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(copy != NULL && fd >= 0);
	if (len > 0)
		memcpy(copy, bytes, len);
	if ((how & 2) != 0 && len >= SAVED_AT + 8) {
		uint64_t now_ms = history_file_now_ms();
		for (unsigned i = 0; i < 8; i++)
			copy[SAVED_AT + i] = (uint8_t)(now_ms >> 8 * i);
	}
	if ((how & 1) != 0) {
		digest_sha256(copy, len, copy + len);
		len += DIGEST_SHA256_BYTES;
	}
	CHECK(write(fd, copy, len) == (ssize_t)len);
	close(fd);
	free(copy);
}

static int load(struct history_file_loading *loading, uint64_t saved_ms)
{
	char error[HISTORY_FILE_ERROR_MAX];

	*loading = (struct history_file_loading){
		.workers = WORKERS, .ttl_ms = TTL_MS, .saved_ms = saved_ms};
	return history_file_load(registry, path, loading, error);
}

/* What was read survives another restart. */
static void check_again(const struct history_file_loading *first)
{
	struct history_file_loading again;
	char error[HISTORY_FILE_ERROR_MAX];
	uint64_t epoch = registry_epoch(registry);
	size_t topics;

	CHECK(registry_topics(registry) == first->topics);
	CHECK(history_file_save(registry, path, history_file_now_ms(), &topics,
				error) == 0);
	CHECK(topics <= first->topics);
	registry_free(registry);
	CHECK(new_registry(4, TTL_MS, 1 << 20) == 0);
	CHECK(load(&again, HISTORY_FILE_ANY) == 0);
	CHECK(again.topics <= topics);
	CHECK(again.is_too_old || registry_epoch(registry) == epoch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct history_file_loading loading;

	if (size < 2)
		return 0;
	open_once();
	CHECK(new_registry(4, TTL_MS, 1 << 20) == 0);
	write_file(data + 2, size - 2, data[0]);
	alloc_fail_at(data[1]);
	int rv = load(&loading, (data[0] & 4) != 0 ? 5 : HISTORY_FILE_ANY);
	bool has_failed = alloc_end();
	if (rv == 0)
		check_again(&loading);
	else
		CHECK(registry_topics(registry) == 0);
	/* Whatever is in a file, it is put aside; not so for want of memory. */
	CHECK(rv == 0 || has_failed || access(path, F_OK) != 0);
	unlink(path);
	CHECK(load(&loading, HISTORY_FILE_ANY) == UV_ENOENT);
	registry_free(registry);
	unlink(refused);
	return 0;
}
