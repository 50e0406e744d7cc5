/* chunk.c - see chunk.h. */
#include "conn/chunk.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

#ifdef ISIMUD_DEBUG
#define SET_OWNER(c)   ((c)->owner = uv_thread_self())
#define CHECK_OWNER(c) CHECK_ON_THREAD((c)->owner)
#else
#define SET_OWNER(c)   ((void)(c))
#define CHECK_OWNER(c) ((void)(c))
#endif

struct chunk *chunk_of_message(struct message *m)
{
	return chunk_of_part(
		m, (struct span){(const char *)m->frame, m->frame_len});
}

struct chunk *chunk_of_part(struct message *m, struct span bytes)
{
	CHECK(bytes.len <= UINT32_MAX);
	struct chunk *c = malloc(sizeof *c);
	if (c == NULL) {
		message_unref(m, 1);
		return NULL;
	}
	memory_charge(sizeof *c);
	*c = (struct chunk){.refs = 1,
			    .len = (uint32_t)bytes.len,
			    .bytes = (const uint8_t *)bytes.bytes,
			    .message = m};
	SET_OWNER(c);
	return c;
}

struct chunk *chunk_of_encoding(struct message_encoding *e, struct span bytes)
{
	CHECK(bytes.len <= UINT32_MAX);
	struct chunk *c = malloc(sizeof *c);
	if (c == NULL) {
		message_encoding_free(e);
		return NULL;
	}
	memory_charge(sizeof *c);
	*c = (struct chunk){.refs = 1,
			    .len = (uint32_t)bytes.len,
			    .bytes = (const uint8_t *)bytes.bytes,
			    .encoding = e};
	SET_OWNER(c);
	return c;
}

struct chunk *chunk_new(size_t cap)
{
	if (cap > UINT32_MAX)
		return NULL;
	struct chunk *c = malloc(sizeof *c + cap);
	if (c == NULL)
		return NULL;
	memory_charge(sizeof *c + cap);
	*c = (struct chunk){.refs = 1, .cap = (uint32_t)cap, .bytes = c->own};
	SET_OWNER(c);
	return c;
}

void chunk_append(struct chunk *c, const void *bytes, size_t len)
{
	CHECK_OWNER(c);
	CHECK(c->refs == 1 && c->bytes == c->own && len <= c->cap - c->len);
	if (len > 0)
		memcpy(c->own + c->len, bytes, len);
	c->len += (uint32_t)len;
}

struct chunk *chunk_ref(struct chunk *c)
{
	CHECK_OWNER(c);
	c->refs++;
	return c;
}

void chunk_unref(struct chunk *c)
{
	CHECK_OWNER(c);
	if (--c->refs > 0)
		return;
	if (c->message != NULL)
		message_unref(c->message, 1);
	message_encoding_free(c->encoding);
	memory_credit(sizeof *c + c->cap);
	free(c);
}
