/* ring.c - the array of a topic's last messages. */
#include "topics/table.h"

#include "base/memory.h"

#include <stdlib.h>

static size_t array_bytes(uint32_t cap)
{
	return cap * sizeof(struct message *);
}

void registry_ring_resize(struct registry_ring *ring, uint32_t cap)
{
	struct message **messages = malloc(array_bytes(cap));
	if (messages == NULL)
		return;
	for (uint32_t i = 0; i < ring->count; i++)
		messages[i] = registry_ring_at(ring, i);
	memory_charge(array_bytes(cap));
	memory_credit(array_bytes(ring->cap));
	ring->bytes += array_bytes(cap);
	ring->bytes -= array_bytes(ring->cap);
	free(ring->messages);
	ring->messages = messages;
	ring->cap = cap;
	ring->head = 0;
}

void registry_ring_grow(struct registry_ring *ring, uint32_t size_max)
{
	uint32_t cap = ring->cap == 0 ? 1 : 2 * ring->cap;
	if (ring->cap > size_max / 2)
		cap = size_max;
	if (cap > ring->cap)
		registry_ring_resize(ring, cap);
}

void registry_ring_append(struct registry_ring *ring, struct message *m)
{
	uint32_t behind = ring->cap - ring->head;
	uint32_t at = ring->count < behind ? ring->head + ring->count
					   : ring->count - behind;
	message_keep(m);
	ring->messages[at] = m;
	ring->bytes += m->size;
	ring->count++;
}

void registry_ring_trim(struct registry_ring *ring, uint32_t max)
{
	if (ring->held == 0 && ring->cap > max && ring->count <= max)
		registry_ring_resize(ring, max);
}

void registry_ring_fini(struct registry_ring *ring)
{
	for (uint32_t i = 0; i < ring->count; i++)
		message_unref(registry_ring_at(ring, i), 1);
	memory_credit(array_bytes(ring->cap));
	free(ring->messages);
}

void registry_ring_drop(struct registry_ring *ring)
{
	for (uint32_t i = 0; i < ring->count; i++)
		message_drop(registry_ring_at(ring, i));
}
