/* members.c - the subscribers of a topic, group behind group. */
#include "fanout/members.h"

#include "base/memory.h"

#include <stdlib.h>

#define INDEX_MAX UINT32_MAX

struct local_topic *local_topic_new(void)
{
	struct local_topic *local = calloc(1, sizeof *local);
	if (local != NULL)
		memory_charge(sizeof *local);
	return local;
}

void local_topic_free(struct local_topic *local)
{
	memory_credit(sizeof *local + local->cap * sizeof(struct subscriber *));
	free(local->members);
	free(local);
}

struct message_source local_topic_source(const struct subscribers *all,
					 const struct local_topic *local)
{
	struct topic_key key = registry_key_of(local->topic);

	return (struct message_source){.epoch = all->epoch,
				       .publisher = key.publisher,
				       .topic = key.name,
				       .deflater = all->deflater};
}

int local_topic_reserve(struct local_topic *local)
{
	if (local_topic_count(local) < local->cap)
		return 0;
	if (local->cap > INDEX_MAX / 2)
		return UV_ENOMEM;
	uint32_t cap = local->cap == 0 ? 1 : 2 * local->cap;
	struct subscriber **members =
		realloc(local->members, cap * sizeof(struct subscriber *));
	if (members == NULL)
		return UV_ENOMEM;
	memory_charge((cap - local->cap) * sizeof(struct subscriber *));
	local->members = members;
	local->cap = cap;
	return 0;
}

static unsigned group_of(const struct subscriber *s)
{
	if (s->is_behind)
		return GROUP_BEHIND;
	return s->has_cursor || s->is_lossy ? GROUP_SINGLE : s->form;
}

static void place_member(struct local_topic *local, struct subscriber *s,
			 uint32_t at)
{
	local->members[at] = s;
	s->index = at;
}

/* Makes room at the end of its group: the first member of each later group
 * moves to that group's end. */
void local_topic_insert(struct local_topic *local, struct subscriber *s)
{
	unsigned group = group_of(s);
	uint32_t hole = local_topic_count(local);

	for (unsigned g = GROUPS - 1; g > group; g--) {
		uint32_t first = local->ends[g - 1];
		if (first != hole)
			place_member(local, local->members[first], hole);
		hole = first;
		local->ends[g]++;
	}
	local->ends[group]++;
	place_member(local, s, hole);
}

/* Fills the hole with the last member of its group, then that hole with the
 * last of the next group, and so on. */
void local_topic_take_out(struct local_topic *local, const struct subscriber *s)
{
	uint32_t hole = s->index;

	for (unsigned g = group_of(s); g < GROUPS; g++) {
		uint32_t last = --local->ends[g];
		if (last != hole)
			place_member(local, local->members[last], hole);
		hole = last;
	}
}

uint64_t subscribers_since(const struct subscriber *s)
{
	return s->is_behind ? replay_since(s->replay) : s->since;
}

struct topic_key subscribers_key(const struct subscriber *s)
{
	return registry_key_of(s->topic->topic);
}
