/* fuzz_deflate.c - offers of permessage-deflate, and payloads of compressed
 * messages.
 *
 * An input is a byte, which says which of them, and that. What is agreed is an
 * offer itself, and agreed again; what is inflated keeps its limit, is the same
 * each time, and comes back from compressing it, by any window and level. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "codec/deflate.h"
#include "codec/permessage_deflate.h"

#define LIMIT 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_offers(struct span offers)
{
	char answer[PERMESSAGE_DEFLATE_MAX];
	struct permessage_deflate chosen;
	struct permessage_deflate again;
	int rv = permessage_deflate_choose(offers, &chosen);

	CHECK(rv == 0 || (rv == 400 && !chosen.is_agreed));
	if (!chosen.is_agreed)
		return;
	CHECK(chosen.server_bits == 0 ||
	      (chosen.server_bits >= DEFLATE_WINDOW_MIN &&
	       chosen.server_bits <= DEFLATE_WINDOW_MAX));
	CHECK((chosen.ours == DEFLATE_WINDOW_SMALL) ==
	      (chosen.server_bits != 0 &&
	       chosen.server_bits != DEFLATE_WINDOW_MAX));
	permessage_deflate_write(&chosen, answer);
	CHECK(permessage_deflate_choose(span_of(answer), &again) == 0);
	CHECK(again.is_agreed && again.server_bits == chosen.server_bits);
}

static void check_round_trip(struct inflater *i, struct span message,
			     enum deflate_window window, int level)
{
	struct deflater *d = deflater_new(level, 1);
	struct buf payload = {0};
	struct span back;

	CHECK(d != NULL);
	CHECK(deflater_append(d, window, message, SIZE_MAX, &payload) == 0);
	CHECK(payload.len >= DEFLATE_TAIL_LEN &&
	      memcmp(payload.bytes + payload.len - DEFLATE_TAIL_LEN,
		     DEFLATE_TAIL, DEFLATE_TAIL_LEN) == 0);
	size_t len = payload.len - DEFLATE_TAIL_LEN;
	CHECK(len <= inflater_payload_max(message.len));
	CHECK(inflater_inflate(i, (struct span){payload.bytes, len}, LIMIT,
			       &back) == 0);
	CHECK(span_equal(back, message));
	/* A byte less is not enough. */
	CHECK(deflater_append(d, window, message, payload.len - 1, &payload) ==
	      -E2BIG);
	CHECK(payload.len == len + DEFLATE_TAIL_LEN);
	deflater_free(d);
	buf_fini(&payload);
}

/* Stored blocks are the same, appended or made in place, and are inflated. */
static void check_stored(struct inflater *i, struct span message)
{
	size_t gap = deflate_stored_len(message.len) - message.len + 1;
	struct buf appended = {0};
	struct buf in_place = {0};
	struct span back;

	CHECK(deflate_append_stored(&appended, message) == 0);
	CHECK(buf_reserve(&in_place, gap + message.len) == 0);
	in_place.len = gap;
	CHECK(buf_append(&in_place, message.bytes, message.len) == 0);
	deflate_store_in_place(&in_place, 0, gap);
	CHECK(span_equal((struct span){in_place.bytes, in_place.len},
			 (struct span){appended.bytes, appended.len}));
	/* The begin of the empty block that the inflater ends. */
	CHECK(buf_append(&appended, "", 1) == 0);
	CHECK(inflater_inflate(i, (struct span){appended.bytes, appended.len},
			       LIMIT, &back) == 0);
	CHECK(span_equal(back, message));
	buf_fini(&appended);
	buf_fini(&in_place);
}

static void check_payload(struct span payload, unsigned how)
{
	static const size_t limits[] = {0, 1, 100, LIMIT};
	size_t limit = limits[how % 4];
	struct inflater *i = inflater_new();
	struct span out;

	CHECK(i != NULL);
	int rv = inflater_inflate(i, payload, limit, &out);
	CHECK(rv == 0 || rv == -E2BIG || rv == -EINVAL);
	if (rv == 0) {
		CHECK(out.len <= limit);
		char *copy = malloc(out.len + 1);
		CHECK(copy != NULL);
		if (out.len > 0)
			memcpy(copy, out.bytes, out.len);
		struct span message = {copy, out.len};
		CHECK(inflater_inflate(i, payload, limit, &out) == 0);
		CHECK(span_equal(out, message));
		check_round_trip(i, message,
				 how & 4 ? DEFLATE_WINDOW_SMALL
					 : DEFLATE_WINDOW_FULL,
				 1 + (int)(how >> 3) % 9);
		check_stored(i, message);
		free(copy);
	}
	inflater_free(i);
}

/* zlib's memory comes from ours (deflate.c). */
static void check_without_memory(struct span payload)
{
	for (unsigned nth = 1; nth < 12; nth++) {
		struct inflater *i = inflater_new();
		struct span out;

		CHECK(i != NULL);
		alloc_fail_at(nth);
		int rv = inflater_inflate(i, payload, LIMIT, &out);
		bool has_failed = alloc_end();
		CHECK(has_failed || rv != -ENOMEM);
		inflater_free(i);
		if (!has_failed)
			return;
	}
}

static void check_deflating_without_memory(struct span message)
{
	for (unsigned nth = 1; nth < 12; nth++) {
		struct deflater *d = deflater_new(1, 1);
		struct buf out = {0};

		CHECK(d != NULL);
		alloc_fail_at(nth);
		int rv = deflater_append(d, DEFLATE_WINDOW_FULL, message,
					 SIZE_MAX, &out);
		bool has_failed = alloc_end();
		CHECK(rv == 0 || (rv == -ENOMEM && has_failed && out.len == 0));
		deflater_free(d);
		buf_fini(&out);
		if (!has_failed)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy;

	if (size < 1)
		return 0;
	copy = malloc(size); /* its end is the input's */
	CHECK(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	struct span rest = {copy, size - 1};
	if (data[0] >= 128) {
		check_offers(rest);
	} else {
		check_payload(rest, data[0]);
		check_without_memory(rest);
		check_deflating_without_memory(rest);
	}
	free(copy);
	return 0;
}
