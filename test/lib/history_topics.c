/* history_topics.c - see history_topics.h. */
#include "history_topics.h"

uint64_t start; /* of the test, by uv_hrtime() */

size_t used_before;

int open_with(size_t mailbox_max_bytes, uint32_t size, size_t bytes)
{
	memory_settle();
	memory_set_limit(0, 1 << 30);
	used_before = memory_used();
	start = uv_hrtime();
	int rv = open_boxes(mailbox_max_bytes);
	return rv != 0 ? rv : new_registry(size, TTL, bytes);
}

int open_registry(void **state)
{
	(void)state;
	return open_with(SIZE_MAX, SIZE, BYTES);
}

int open_boxes_alone(void **state)
{
	(void)state;
	registry = NULL;
	return open_boxes(SIZE_MAX);
}

int close_and_weigh(void **state)
{
	int rv = close_registry(state);
	memory_settle();
	return rv != 0 || memory_used() != used_before;
}

struct message *message_of(size_t len)
{
	static const char data[BYTES + 1];
	struct message *m =
		message_new((struct span){data, len}, false, WORKERS);

	assert_non_null(m);
	return m;
}

uint64_t publish_later(const struct topic_key *key, size_t len,
		       uint64_t later_ns)
{
	struct registry_receipt receipt;
	struct message *m = message_of(len);

	m->accepted_ns = start + later_ns;
	assert_int_equal(registry_publish(registry, key, m, &receipt), 0);
	assert_true(registry_history_bytes(registry) <= BYTES);
	return receipt.sequence;
}

uint64_t publish(const struct topic_key *key)
{
	return publish_later(key, 1, 0);
}

struct message *missed[SIZE];

unsigned missed_count;

struct registry_join join_after(const struct topic_key *key, uint64_t epoch,
				uint64_t after)
{
	struct registry_join j = {
		.member = members[0],
		.resumes = true,
		.epoch = epoch,
		.after = after,
	};
	assert_int_equal(registry_join(registry, key, 0, &j), 0);
	missed_count = read_missed(&j, missed, SIZE);
	for (unsigned i = 0; i < missed_count; i++)
		message_unref(missed[i], 1);
	return j;
}

void leave(const struct registry_join *j)
{
	uint64_t posted;

	if (j->is_behind)
		registry_give_up(registry, j->topic, registry_epoch(registry),
				 j->since);
	registry_leave(registry, j->topic, 0, &posted);
}

bool can_resume(const struct topic_key *key, uint64_t after)
{
	struct registry_join j =
		join_after(key, registry_epoch(registry), after);

	for (unsigned i = 0; i < missed_count; i++)
		assert_int_equal(missed[i]->sequence,
				 j.since - missed_count + 1 + i);
	if (j.is_exact)
		assert_int_equal(missed_count, j.since - after);
	leave(&j);
	return j.is_exact;
}

void age_later(uint64_t later_ns)
{
	while (registry_age(registry, start + later_ns))
		;
}

struct registry_join stay_behind(const struct topic_key *key, uint64_t after)
{
	struct registry_join j = {
		.member = members[0],
		.resumes = true,
		.epoch = registry_epoch(registry),
		.after = after,
	};
	assert_int_equal(registry_join(registry, key, 0, &j), 0);
	assert_true(j.is_exact);
	assert_true(j.is_behind);
	assert_int_equal(j.since, after);
	return j;
}

void read_next(struct registry_join *j)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};

	assert_true(j->is_behind);
	registry_read(registry, j->topic, &reading);
	assert_non_null(reading.message);
	assert_int_equal(reading.message->sequence, j->since + 1);
	assert_int_equal(reading.since, j->since + 1);
	message_unref(reading.message, 1);
	j->since = reading.since;
	j->is_behind = !reading.is_live;
}

void read_all(struct registry_join *j)
{
	while (j->is_behind)
		read_next(j);
}

uint64_t read_loss(struct registry_join *j)
{
	struct registry_reading reading = {.epoch = registry_epoch(registry),
					   .since = j->since};

	registry_read(registry, j->topic, &reading);
	assert_null(reading.message);
	assert_true(reading.since > j->since);
	j->since = reading.since;
	j->is_behind = !reading.is_live;
	return reading.since;
}
