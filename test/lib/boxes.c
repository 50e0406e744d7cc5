/* boxes.c - see boxes.h. */
#include "boxes.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

uv_loop_t loop;
struct mailbox boxes[WORKERS];
struct mailbox *box_pointers[WORKERS];
struct registry *registry;
char members[WORKERS][2];

static void on_wake(uv_async_t *async)
{
	(void)async;
}

int open_boxes(size_t mailbox_max_bytes)
{
	alarm(300); /* threads that block each other fail the program */
	if (uv_loop_init(&loop) != 0)
		return 1;
	for (unsigned w = 0; w < WORKERS; w++) {
		box_pointers[w] = &boxes[w];
		if (mailbox_open(&boxes[w], &loop, w, mailbox_max_bytes,
				 on_wake) != 0)
			return 1;
	}
	return 0;
}

struct registry_options options_of(uint32_t size, uint64_t ttl_ms, size_t bytes)
{
	return (struct registry_options){
		.mailboxes = box_pointers,
		.workers = WORKERS,
		.history_size = size,
		.history_ttl_ms = ttl_ms,
		.history_bytes = bytes,
		.replay_bytes = bytes,
	};
}

int new_registry(uint32_t size, uint64_t ttl_ms, size_t bytes)
{
	const struct registry_options options = options_of(size, ttl_ms, bytes);

	return registry_new(&registry, &options);
}

unsigned read_missed(struct registry_join *j, struct message **missed,
		     unsigned max)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};
	unsigned n = 0;

	while (j->is_behind) {
		registry_read(registry, j->topic, &reading);
		assert_non_null(reading.message);
		if (n < max)
			missed[n] = reading.message;
		else
			message_unref(reading.message, 1);
		n++;
		j->is_behind = !reading.is_live;
	}
	j->since = reading.since;
	return n;
}

int close_registry(void **state)
{
	(void)state;
	registry_free(registry);
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_close(&boxes[w]);
	uv_run(&loop, UV_RUN_DEFAULT);
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_fini(&boxes[w]);
	alarm(0);
	return uv_loop_close(&loop);
}

size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

unsigned random_below(uint64_t *random, unsigned limit)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return (unsigned)(*random >> 32) % limit;
}
