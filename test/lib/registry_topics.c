/* registry_topics.c - see registry_topics.h. */
#include "registry_topics.h"

int bare_open_with(size_t mailbox_max_bytes)
{
	int rv = open_boxes(mailbox_max_bytes);
	return rv != 0 ? rv : new_registry(0, 0, 0);
}

int bare_open_registry(void **state)
{
	(void)state;
	return bare_open_with(SIZE_MAX);
}

struct topic *bare_join(const struct topic_key *key, unsigned worker)
{
	struct registry_join j = {.member = members[worker]};

	assert_int_equal(registry_join(registry, key, worker, &j), 0);
	assert_non_null(j.topic);
	return j.topic;
}

bool bare_leave(struct topic *t, unsigned worker)
{
	uint64_t posted;

	return registry_leave(registry, t, worker, &posted);
}

struct registry_receipt bare_publish(const struct topic_key *key)
{
	struct registry_receipt receipt;
	struct message *m = message_new(SPAN("x"), false, WORKERS);

	assert_non_null(m);
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
	return receipt;
}
