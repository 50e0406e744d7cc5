/* message.c - one allocation: the struct, its links, the frame. */
#include "message.h"

#include "check.h"
#include "memory.h"
#include "websocket.h"

#include <stdlib.h>

#define OPCODE_TEXT 1

struct message *message_new(struct span data, bool is_json, unsigned workers)
{
	size_t links = workers * sizeof(struct message_link);

	if (data.len > MESSAGE_MAX_BYTES - WEBSOCKET_HEADER_MAX)
		return NULL;
	size_t size = sizeof(struct message) + links + WEBSOCKET_HEADER_MAX +
		      data.len;
	struct message *m = malloc(size);
	if (m == NULL)
		return NULL;
	memory_charge(size);
	uint8_t *payload =
		(uint8_t *)(m->links + workers) + WEBSOCKET_HEADER_MAX;
	size_t header = websocket_write_header(payload, OPCODE_TEXT, data.len);
	if (data.len > 0)
		memcpy(payload, data.bytes, data.len);
	atomic_init(&m->refs, 1);
	m->size = size;
	m->header_len = (uint8_t)header;
	m->is_json = is_json;
	m->sequence = 0;
	m->accepted_ns = 0;
	m->frame = payload - header;
	m->frame_len = (uint32_t)(header + data.len);
	return m;
}

struct span message_data(const struct message *m)
{
	return (struct span){(const char *)m->frame + m->header_len,
			     m->frame_len - m->header_len};
}

struct message *message_ref(struct message *m, unsigned n)
{
	atomic_fetch_add_explicit(&m->refs, n, memory_order_relaxed);
	return m;
}

void message_unref(struct message *m, unsigned n)
{
	/* All that others did with it happens before it is freed. */
	unsigned old =
		atomic_fetch_sub_explicit(&m->refs, n, memory_order_acq_rel);
	CHECK(old >= n);
	if (old > n)
		return;
	memory_credit(m->size);
	free(m);
}
