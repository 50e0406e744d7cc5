/* record.c - see record.h for the layout. */
#include "cluster/record.h"

#include "base/check.h"
#include "base/little_endian.h"
#include "base/name.h"
#include "base/utf8.h"
#include "codec/json/json.h"
#include "codec/sse.h"
#include "codec/traceparent.h"

#include <string.h>
#include <uv.h>

#define COUNT_AT     2  /* offset of the number of publications */
#define FIXED        24 /* bytes before what depends on the kind */
#define MARKER_BYTES 24 /* what follows in a marker */

int record_begin(struct buf *out, const struct record *r)
{
	uint8_t head[RECORD_HEAD_MAX] = {RECORD_VERSION, (uint8_t)r->kind};
	size_t len = FIXED;

	little_endian_write(head + 4, r->flags, 4);
	little_endian_write(head + 8, r->epoch, 8);
	little_endian_write(head + 16, r->nonce, 8);
	if (r->flags & RECORD_KEYED) {
		memcpy(head + len, r->id, DIGEST_SHA256_BYTES);
		len += DIGEST_SHA256_BYTES;
		memcpy(head + len, r->content, DIGEST_SHA256_BYTES);
		len += DIGEST_SHA256_BYTES;
	}
	if (r->kind == RECORD_MARKER) {
		little_endian_write(head + len, r->previous, 8);
		little_endian_write(head + len + 8, r->sum, 8);
		little_endian_write(head + len + 16, r->begins, 8);
		len += MARKER_BYTES;
	}
	CHECK(len <= sizeof head);
	return buf_append(out, head, len);
}

static void copy(struct buf *out, struct span s)
{
	if (s.len > 0)
		memcpy(out->bytes + out->len, s.bytes, s.len);
	out->len += s.len;
}

int record_add(struct buf *out, size_t start,
	       const struct record_publication *p)
{
	uint8_t *count_at = (uint8_t *)out->bytes + start + COUNT_AT;
	unsigned count =
		(unsigned)little_endian_read((const char *)count_at, 2);
	bool is_traced = p->traceparent.bytes != NULL;
	uint8_t head[RECORD_PUBLICATION_HEAD] = {
		(uint8_t)((p->is_json ? RECORD_IS_JSON : 0) |
			  (is_traced ? RECORD_TRACED : 0)),
		(uint8_t)p->event.len};

	CHECK(!is_traced || p->traceparent.len == TRACEPARENT_BYTES);

	if (count == RECORD_PUBLICATIONS_MAX ||
	    p->publisher.len > RECORD_NAME_MAX_BYTES ||
	    p->topic.len > RECORD_NAME_MAX_BYTES ||
	    p->event.len > RECORD_EVENT_MAX_BYTES || p->data.len > UINT32_MAX)
		return UV_E2BIG;
	if (buf_reserve(out, sizeof head + p->publisher.len + p->topic.len +
				     p->event.len + p->data.len +
				     p->traceparent.len) != 0)
		return UV_ENOMEM;
	little_endian_write(head + 2, p->publisher.len, 2);
	little_endian_write(head + 4, p->topic.len, 2);
	little_endian_write(head + 6, p->data.len, 4);
	copy(out, (struct span){(const char *)head, sizeof head});
	copy(out, p->publisher);
	copy(out, p->topic);
	copy(out, p->event);
	copy(out, p->data);
	copy(out, p->traceparent);
	little_endian_write((uint8_t *)out->bytes + start + COUNT_AT, count + 1,
			    2);
	return 0;
}

int record_append(struct buf *out, size_t start, unsigned count,
		  struct span bytes)
{
	unsigned before =
		(unsigned)little_endian_read(out->bytes + start + COUNT_AT, 2);

	if (count > RECORD_PUBLICATIONS_MAX - before)
		return UV_E2BIG;
	int rv = buf_append(out, bytes.bytes, bytes.len);
	if (rv == 0)
		little_endian_write((uint8_t *)out->bytes + start + COUNT_AT,
				    before + count, 2);
	return rv;
}

/* Takes the next `len` bytes. Returns false if there are fewer. */
static bool take_record_bytes(struct span *from, size_t len, struct span *taken)
{
	if (from->len < len)
		return false;
	*taken = (struct span){from->bytes, len};
	from->bytes += len;
	from->len -= len;
	return true;
}

bool record_next(struct span *body, struct record_publication *p)
{
	struct span head;

	if (!take_record_bytes(body, RECORD_PUBLICATION_HEAD, &head) ||
	    ((uint8_t)head.bytes[0] & ~(RECORD_IS_JSON | RECORD_TRACED)) != 0)
		return false;
	unsigned flags = (unsigned char)head.bytes[0];
	bool is_traced = (flags & RECORD_TRACED) != 0;
	p->is_json = (flags & RECORD_IS_JSON) != 0;
	p->traceparent = (struct span){0};
	return take_record_bytes(body, little_endian_read(head.bytes + 2, 2),
				 &p->publisher) &&
	       take_record_bytes(body, little_endian_read(head.bytes + 4, 2),
				 &p->topic) &&
	       take_record_bytes(body, little_endian_read(head.bytes + 1, 1),
				 &p->event) &&
	       take_record_bytes(body, little_endian_read(head.bytes + 6, 4),
				 &p->data) &&
	       (!is_traced ||
		take_record_bytes(body, TRACEPARENT_BYTES, &p->traceparent));
}

/* Whether a node could have been asked to publish it. Other bytes would break
 * the connections of subscribers. */
static bool is_sound(const struct record_publication *p)
{
	struct json_error error;

	return p->publisher.len <= NAME_MAX_BYTES &&
	       p->topic.len <= NAME_MAX_BYTES && utf8_is_valid(p->publisher) &&
	       utf8_is_valid(p->topic) &&
	       (p->event.len == 0 || (utf8_is_valid(p->event) &&
				      sse_check_type(p->event, NULL) == 0)) &&
	       (p->traceparent.bytes == NULL ||
		traceparent_parse(p->traceparent).bytes != NULL) &&
	       (p->is_json ? json_check(p->data, &error) == 0
			   : utf8_is_valid(p->data));
}

static int parse_marker(struct record *r, struct span rest)
{
	if (r->count != 0 || rest.len != MARKER_BYTES ||
	    r->flags & ~(RECORD_IS_NEW | RECORD_SUMS_NEW))
		return UV_EINVAL;
	r->previous = little_endian_read(rest.bytes, 8);
	r->sum = little_endian_read(rest.bytes + 8, 8);
	r->begins = little_endian_read(rest.bytes + 16, 8);
	return 0;
}

static int parse_publications(struct record *r, struct span rest)
{
	struct record_publication p;
	struct span digest;

	if (r->count < 1 || r->count > RECORD_PUBLICATIONS_MAX ||
	    r->flags & ~(RECORD_KEYED | RECORD_IS_ARRAY))
		return UV_EINVAL;
	if (r->flags & RECORD_KEYED) {
		if (!take_record_bytes(&rest, DIGEST_SHA256_BYTES, &digest))
			return UV_EINVAL;
		r->id = (const uint8_t *)digest.bytes;
		if (!take_record_bytes(&rest, DIGEST_SHA256_BYTES, &digest))
			return UV_EINVAL;
		r->content = (const uint8_t *)digest.bytes;
	}
	r->body = rest;
	for (unsigned i = 0; i < r->count; i++)
		if (!record_next(&rest, &p) || !is_sound(&p))
			return UV_EINVAL;
	return rest.len == 0 ? 0 : UV_EINVAL;
}

int record_parse(struct record *r, struct span bytes)
{
	struct span rest = bytes;
	struct span head;

	*r = (struct record){0};
	if (!take_record_bytes(&rest, FIXED, &head) ||
	    head.bytes[0] != RECORD_VERSION)
		return UV_EINVAL;
	r->count = (unsigned)little_endian_read(head.bytes + COUNT_AT, 2);
	r->flags = (uint32_t)little_endian_read(head.bytes + 4, 4);
	r->epoch = little_endian_read(head.bytes + 8, 8);
	r->nonce = little_endian_read(head.bytes + 16, 8);
	switch (head.bytes[1]) {
	case RECORD_PUBLICATIONS:
		r->kind = RECORD_PUBLICATIONS;
		return parse_publications(r, rest);
	case RECORD_MARKER:
		r->kind = RECORD_MARKER;
		return parse_marker(r, rest);
	default:
		return UV_EINVAL;
	}
}

/* The finaliser of splitmix64, which has every bit depend on every other. */
uint64_t record_mix(uint64_t sequence, uint64_t nonce)
{
	uint64_t x = nonce + 0x9e3779b97f4a7c15U * (sequence + 1);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
	return x ^ (x >> 31);
}
