/* registry_topics.h - a registry without a history. */
#ifndef ISIMUD_TEST_REGISTRY_TOPICS_H
#define ISIMUD_TEST_REGISTRY_TOPICS_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "aborts.h"
#include "base/memory.h"
#include "boxes.h"
#include "oom.h"
#include "topics/registry.h"

int bare_open_with(size_t mailbox_max_bytes);

int bare_open_registry(void **state);

static const struct topic_key news = {{"alice", 5}, {"news", 4}};

/* Joins with a member that is new to the topic, or one in force. */
struct topic *bare_join(const struct topic_key *key, unsigned worker);

bool bare_leave(struct topic *t, unsigned worker);

struct registry_receipt bare_publish(const struct topic_key *key);

#define KEYS 3

/* What a worker knows of a topic: fanout/subscribe.c in small. Owner: its
 * thread. */
struct local {
	struct topic *topic;
	unsigned subscribers;
	uint64_t last;  /* number of the last message */
	uint64_t taken; /* messages since the first subscriber joined */
};

struct worker {
	uv_thread_t thread;
	unsigned index;
	uint64_t random;
	struct local locals[KEYS];
};

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, bare_open_registry, close_registry)

#ifdef OOM_SANITIZED
#define COLLIDING_BITS 13
#else
#define COLLIDING_BITS 18 /* 262,144 names */
#endif

#endif
