/* history_topics.h - a registry with a history, and what is read of it. */
#ifndef ISIMUD_TEST_HISTORY_TOPICS_H
#define ISIMUD_TEST_HISTORY_TOPICS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/encode.h"
#include "topics/registry.h"

#define SIZE 4 /* messages a topic */

#define TTL 60000 /* ms */

#define BYTES (64 << 10) /* in all */

#define SECOND UINT64_C(1000000000) /* in ns */

#define OLD (TTL * UINT64_C(1000000))

extern uint64_t start; /* of the test, by uv_hrtime() */
;

extern size_t used_before;

int open_with(size_t mailbox_max_bytes, uint32_t size, size_t bytes);

int open_registry(void **state);

int open_boxes_alone(void **state);

/* All that was charged must be credited once it has gone. */
int close_and_weigh(void **state);

static const struct topic_key news = {{"alice", 5}, {"news", 4}};

static const struct topic_key weather = {{"alice", 5}, {"weather", 7}};

struct message *message_of(size_t len);

/* Publishes `len` bytes `later_ns` after the test's start. Returns the number
 * that it got. */
uint64_t publish_later(const struct topic_key *key, size_t len,
		       uint64_t later_ns);

uint64_t publish(const struct topic_key *key);

extern struct message *missed[SIZE];

extern unsigned missed_count;

struct registry_join join_after(const struct topic_key *key, uint64_t epoch,
				uint64_t after);

void leave(const struct registry_join *j);

/* Whether who comes back after number `after` gets all since; checks that these
 * are what is told, then. Does not change the topic but for its use. */
bool can_resume(const struct topic_key *key, uint64_t after);

void age_later(uint64_t later_ns);

/* Joins, and does not read. */
struct registry_join stay_behind(const struct topic_key *key, uint64_t after);

/* Reads one message, which must be there. */
void read_next(struct registry_join *j);

void read_all(struct registry_join *j);

/* Reads that something was lost. Returns the number of the last such. */
uint64_t read_loss(struct registry_join *j);

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, open_registry, close_and_weigh)

/* Makes registries itself. */
#define TEST_BARE(f)                                                           \
	cmocka_unit_test_setup_teardown(f, open_boxes_alone, close_registry)

#endif
