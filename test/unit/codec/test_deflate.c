/* test_deflate.c - compressing and inflating messages, against zlib's own. */
#include "codec/deflate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/memory.h"
#include "oom.h"

#define MAX_BYTES 65536

/* JSON enough to be worth it. */
static void fill_json(char *out, size_t len)
{
	static const char record[] = "{\"user\":\"u%u\",\"price\":%u},";
	size_t at = 0;
	unsigned n = 1;

	while (at < len) {
		char one[64];
		int size = snprintf(one, sizeof one, record, n % 97, n * 7919);
		size_t part = (size_t)size < len - at ? (size_t)size : len - at;
		memcpy(out + at, one, part);
		at += part;
		n++;
	}
}

/* Bytes that nothing makes shorter. */
static void fill_noise(char *out, size_t len)
{
	unsigned state = 1;

	for (size_t i = 0; i < len; i++) {
		state = state * 1103515245 + 12345;
		out[i] = (char)(state >> 16);
	}
}

/* Inflates by zlib alone, with a window of `bits`. */
static size_t inflate_by_zlib(struct span bytes, int bits, char *out,
			      size_t room)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes.bytes,
		      .avail_in = (uInt)bytes.len,
		      .next_out = (Bytef *)out,
		      .avail_out = (uInt)room};

	assert_int_equal(inflateInit2(&z, bits), Z_OK);
	int rv = inflate(&z, Z_SYNC_FLUSH);
	assert_true(rv == Z_OK || rv == Z_BUF_ERROR || rv == Z_STREAM_END);
	assert_int_equal(z.avail_in, 0);
	size_t len = room - z.avail_out;
	inflateEnd(&z);
	return len;
}

static void what_is_compressed_stands_alone(void **state)
{
	static const size_t lens[] = {0,     1,     200,    1024,
				      65536, 65537, 200000, DEFLATE_MAX_BYTES};
	static char data[DEFLATE_MAX_BYTES];
	static char back[DEFLATE_MAX_BYTES + 1];
	struct deflater *d = deflater_new(1, 256);
	struct buf out = {0};

	(void)state;
	fill_json(data, sizeof data);
	assert_non_null(d);
	for (unsigned window = 0; window < DEFLATE_WINDOWS; window++) {
		for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
			size_t before = out.len;
			struct span in = {data, lens[i]};
			int bits = window == DEFLATE_WINDOW_FULL ? 15 : 9;
			assert_int_equal(
				deflater_append(d, (enum deflate_window)window,
						in, SIZE_MAX, &out),
				0);
			struct span got = {out.bytes + before,
					   out.len - before};
			assert_memory_equal(got.bytes + got.len -
						    DEFLATE_TAIL_LEN,
					    DEFLATE_TAIL, DEFLATE_TAIL_LEN);
			assert_int_equal(
				inflate_by_zlib(got, -bits, back, sizeof back),
				lens[i]);
			assert_memory_equal(back, data, lens[i]);
		}
	}
	/* All of them, one behind another, are one stream. */
	size_t sum = 0;
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
		sum += 2 * lens[i];
	char *all = malloc(sum);
	assert_int_equal(inflate_by_zlib((struct span){out.bytes, out.len}, -15,
					 all, sum),
			 sum);
	free(all);
	buf_fini(&out);
	deflater_free(d);
}

static void what_does_not_get_shorter_is_refused(void **state)
{
	static char noise[4096];
	struct deflater *d = deflater_new(1, 1);
	struct buf out = {0};

	(void)state;
	fill_noise(noise, sizeof noise);
	assert_int_equal(buf_append(&out, "before", 6), 0);
	assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL,
					 (struct span){noise, sizeof noise},
					 sizeof noise, &out),
			 -E2BIG);
	assert_int_equal(out.len, 6);
	/* It is none of the next one's business. */
	memset(noise, 'a', sizeof noise);
	assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL,
					 (struct span){noise, sizeof noise},
					 sizeof noise, &out),
			 0);
	assert_in_range(out.len, 6 + DEFLATE_TAIL_LEN, 100);
	buf_fini(&out);
	deflater_free(d);
}

/* The exact length is enough, one byte less is not. */
static void the_limit_of_what_is_compressed_is_exact(void **state)
{
	static char data[1000];
	struct deflater *d = deflater_new(1, 1);
	struct buf out = {0};
	struct span in = {data, sizeof data};

	(void)state;
	fill_json(data, sizeof data);
	assert_int_equal(
		deflater_append(d, DEFLATE_WINDOW_FULL, in, SIZE_MAX, &out), 0);
	size_t len = out.len;
	out.len = 0;
	assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL, in, len, &out),
			 0);
	assert_int_equal(out.len, len);
	assert_int_equal(
		deflater_append(d, DEFLATE_WINDOW_FULL, in, len - 1, &out),
		-E2BIG);
	buf_fini(&out);
	deflater_free(d);
}

static void what_is_short_or_long_is_not_compressed(void **state)
{
	struct deflater *d = deflater_new(1, 256);
	struct deflater *off = deflater_new(1, 0);

	(void)state;
	assert_false(deflater_takes(d, 0));
	assert_false(deflater_takes(d, 255));
	assert_true(deflater_takes(d, 256));
	assert_true(deflater_takes(d, DEFLATE_MAX_BYTES));
	assert_false(deflater_takes(d, DEFLATE_MAX_BYTES + 1));
	assert_false(deflater_takes(off, 0));
	assert_false(deflater_takes(off, 1000));
	assert_false(deflater_takes(NULL, 1000));
	deflater_free(d);
	deflater_free(off);
}

static void stored_blocks_are_read_as_they_are(void **state)
{
	static const size_t lens[] = {0, 1, 65535, 65536, 200000};
	static char data[200000];
	static char back[200001];

	(void)state;
	fill_noise(data, sizeof data);
	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		struct buf out = {0};
		assert_int_equal(deflate_append_stored(
					 &out, (struct span){data, lens[i]}),
				 0);
		assert_int_equal(out.len, deflate_stored_len(lens[i]));
		if (lens[i] > 0)
			assert_int_equal(
				inflate_by_zlib(
					(struct span){out.bytes, out.len}, -15,
					back, sizeof back),
				lens[i]);
		assert_memory_equal(back, data, lens[i]);
		buf_fini(&out);
	}
	assert_int_equal(deflate_stored_len(65535), 65540);
	assert_int_equal(deflate_stored_len(65536), 65546);
}

static void stored_blocks_are_made_in_place(void **state)
{
	static const size_t lens[] = {0, 1, 65535, 65536, 200000};
	static char data[200000];

	(void)state;
	fill_noise(data, sizeof data);
	for (size_t i = 0; i < 2 * sizeof lens / sizeof lens[0]; i++) {
		size_t len = lens[i / 2];
		/* As little as is allowed, or more. */
		size_t gap = deflate_stored_len(len) - len + (i % 2) * 7;
		struct buf out = {0};
		struct buf expected = {0};
		assert_int_equal(buf_append(&expected, "abc", 3), 0);
		assert_int_equal(deflate_append_stored(
					 &expected, (struct span){data, len}),
				 0);
		assert_int_equal(buf_append(&out, "abc", 3), 0);
		assert_int_equal(buf_reserve(&out, gap), 0);
		out.len += gap;
		assert_int_equal(buf_append(&out, data, len), 0);
		deflate_store_in_place(&out, 3, gap);
		assert_int_equal(out.len, expected.len);
		assert_memory_equal(out.bytes, expected.bytes, out.len);
		buf_fini(&out);
		buf_fini(&expected);
	}
}

static void a_gzip_stream_is_its_head_and_blocks(void **state)
{
	struct deflater *d = deflater_new(6, 1);
	struct buf out = {0};
	char back[100];

	(void)state;
	assert_int_equal(
		buf_append(&out, DEFLATE_GZIP_HEAD, DEFLATE_GZIP_HEAD_LEN), 0);
	assert_int_equal(deflate_append_stored(&out, SPAN("one,")), 0);
	assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL, SPAN("two,"),
					 SIZE_MAX, &out),
			 0);
	assert_int_equal(deflate_append_stored(&out, SPAN("three")), 0);
	assert_int_equal(inflate_by_zlib((struct span){out.bytes, out.len},
					 15 + 16, back, sizeof back),
			 13);
	assert_memory_equal(back, "one,two,three", 13);
	buf_fini(&out);
	deflater_free(d);
}

/* --- inflating ------------------------------------------------------------ */

static void assert_inflates(struct inflater *i, struct span payload,
			    struct span expected)
{
	struct span out;

	assert_int_equal(inflater_inflate(i, payload, MAX_BYTES, &out), 0);
	assert_int_equal(out.len, expected.len);
	assert_memory_equal(out.bytes, expected.bytes, expected.len);
}

static void assert_refused(struct inflater *i, struct span payload, int error)
{
	struct span out;

	assert_int_equal(inflater_inflate(i, payload, MAX_BYTES, &out), error);
}

/* RFC 7692 7.2.3. */
static void the_examples_of_the_rfc_are_read(void **state)
{
	struct inflater *i = inflater_new();

	(void)state;
	assert_inflates(i, SPAN("\xf2\x48\xcd\xc9\xc9\x07\x00"), SPAN("Hello"));
	/* No compression. */
	assert_inflates(i, SPAN("\x00\x05\x00\xfa\xffHello\x00"),
			SPAN("Hello"));
	/* A last block. */
	assert_inflates(i, SPAN("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
			SPAN("Hello"));
	/* Two blocks. */
	assert_inflates(
		i, SPAN("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
		SPAN("Hello"));
	/* An empty message (7.2.3.6). */
	assert_inflates(i, SPAN("\x00"), SPAN(""));
	inflater_free(i);
}

static void a_last_block_may_be_all_there_is(void **state)
{
	struct inflater *i = inflater_new();

	(void)state;
	assert_inflates(i, SPAN("\xf3\x48\xcd\xc9\xc9\x07\x00"), SPAN("Hello"));
	assert_inflates(i,
			SPAN("\x01\x01\x00\xfe\xff"
			     "a"),
			SPAN("a"));
	inflater_free(i);
}

/* "Hello" in a last block, then a block that repeats five bytes from before. */
static void what_follows_a_last_block_may_refer_to_it(void **state)
{
	struct inflater *i = inflater_new();
	struct buf in = {0};
	char data[400];
	z_stream z = {0};
	char out[600];

	(void)state;
	fill_json(data, sizeof data);
	/* The second half is compressed with the first as its dictionary. */
	assert_int_equal(buf_append(&in, "\x01\xc8\x00\x37\xff", 5),
			 0); /* 200 bytes */
	assert_int_equal(buf_append(&in, data, 200), 0);
	memcpy(data + 200, data, 200);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, 0), Z_OK);
	deflateSetDictionary(&z, (Bytef *)data, 200);
	z.next_in = (Bytef *)data + 200;
	z.avail_in = 200;
	z.next_out = (Bytef *)out;
	z.avail_out = sizeof out;
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	size_t len = sizeof out - z.avail_out - DEFLATE_TAIL_LEN;
	assert_in_range(len, 1, 20); /* it does refer to it */
	deflateEnd(&z);
	assert_int_equal(buf_append(&in, out, len), 0);
	assert_inflates(i, (struct span){in.bytes, in.len},
			(struct span){data, 400});
	buf_fini(&in);
	inflater_free(i);
}

static void what_is_no_deflate_is_refused(void **state)
{
	struct inflater *i = inflater_new();

	(void)state;
	assert_refused(i, SPAN("\x07"), -EINVAL); /* a reserved kind of block */
	assert_refused(i, SPAN("\x00\x05\x00\xff\xffHello\x00"), -EINVAL);
	assert_refused(i, SPAN("\xff\xff\xff\xff"), -EINVAL);
	/* Ends in the middle of a block. */
	assert_refused(i, SPAN("\xf2\x48\xcd"), -EINVAL);
	assert_refused(i,
		       SPAN("\x00\x0a\x00\xf5\xff"
			    "ab"),
		       -EINVAL);
	/* A distance before the start: of this message, not of the last. */
	assert_inflates(i, SPAN("\xf2\x48\xcd\xc9\xc9\x07\x00"), SPAN("Hello"));
	assert_refused(i, SPAN("\xf2\x00\x11\x00\x00"), -EINVAL);
	assert_inflates(i, SPAN("\xf2\x48\xcd\xc9\xc9\x07\x00"), SPAN("Hello"));
	inflater_free(i);
}

/* `len` bytes of a letter, compressed as a client does. */
static struct buf bomb_of(size_t len)
{
	struct buf out = {0};
	char *data = malloc(len);
	z_stream z = {0};

	memset(data, 'a', len);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, 0), Z_OK);
	assert_int_equal(buf_reserve(&out, len / 100 + 200), 0);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = (Bytef *)out.bytes;
	z.avail_out = (uInt)out.cap;
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	out.len = out.cap - z.avail_out - DEFLATE_TAIL_LEN;
	deflateEnd(&z);
	free(data);
	return out;
}

static size_t charged(void)
{
	memory_settle();
	return memory_used();
}

static void a_bomb_is_stopped_at_the_limit(void **state)
{
	struct inflater *i = inflater_new();
	struct buf in = bomb_of(64 << 20);

	(void)state;
	memory_set_limit(0, 1 << 20);
	size_t before = charged();
	assert_refused(i, (struct span){in.bytes, in.len}, -E2BIG);
	assert_in_range(charged() - before, 0, 4 * MAX_BYTES);
	inflater_free(i);
	assert_int_equal(charged(), before);
	memory_set_limit(0, 0);
	buf_fini(&in);
}

static void the_limit_of_what_is_inflated_is_exact(void **state)
{
	static const size_t lens[] = {MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1};
	struct inflater *i = inflater_new();

	(void)state;
	for (size_t n = 0; n < 3; n++) {
		struct buf in = bomb_of(lens[n]);
		struct span out;
		int rv = inflater_inflate(i, (struct span){in.bytes, in.len},
					  MAX_BYTES, &out);
		assert_int_equal(rv, lens[n] > MAX_BYTES ? -E2BIG : 0);
		if (rv == 0)
			assert_int_equal(out.len, lens[n]);
		buf_fini(&in);
	}
	inflater_free(i);
}

/* What a client may send of a message that is within the limit. */
static void a_payload_may_be_longer_than_its_message(void **state)
{
	static char noise[MAX_BYTES];
	struct inflater *i = inflater_new();
	struct buf in = {0};
	z_stream z = {0};

	(void)state;
	fill_noise(noise, sizeof noise);
	assert_int_equal(deflateInit2(&z, 0, Z_DEFLATED, -9, 1, 0), Z_OK);
	assert_int_equal(buf_reserve(&in, 2 * sizeof noise), 0);
	z.next_in = (Bytef *)noise;
	z.avail_in = sizeof noise;
	z.next_out = (Bytef *)in.bytes;
	z.avail_out = (uInt)in.cap;
	assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
	in.len = in.cap - z.avail_out - DEFLATE_TAIL_LEN;
	deflateEnd(&z);
	assert_in_range(in.len, MAX_BYTES, inflater_payload_max(MAX_BYTES));
	assert_inflates(i, (struct span){in.bytes, in.len},
			(struct span){noise, sizeof noise});
	buf_fini(&in);
	inflater_free(i);
}

/* Every message of ours comes back, whatever it is and however long. */
static void what_is_compressed_is_inflated(void **state)
{
	static char data[MAX_BYTES];
	struct deflater *d = deflater_new(9, 1);
	struct inflater *i = inflater_new();

	(void)state;
	for (size_t len = 0; len <= sizeof data; len += 1 + len / 3) {
		struct buf out = {0};
		if (len % 2 == 0)
			fill_json(data, len);
		else
			fill_noise(data, len);
		assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL,
						 (struct span){data, len},
						 SIZE_MAX, &out),
				 0);
		assert_inflates(
			i, (struct span){out.bytes, out.len - DEFLATE_TAIL_LEN},
			(struct span){data, len});
		buf_fini(&out);
	}
	deflater_free(d);
	inflater_free(i);
}

static void what_was_done_is_counted(void **state)
{
	struct deflater *d = deflater_new(1, 1);
	struct inflater *i = inflater_new();
	struct buf out = {0};
	struct span back;
	char data[500];

	(void)state;
	fill_json(data, sizeof data);
	deflater_append(d, DEFLATE_WINDOW_FULL, (struct span){data, 500},
			SIZE_MAX, &out);
	deflater_append(d, DEFLATE_WINDOW_FULL, (struct span){data, 500}, 10,
			&out);
	struct deflate_totals t = deflater_totals(d);
	assert_int_equal(t.messages, 1);
	assert_int_equal(t.bytes_in, 500);
	assert_int_equal(t.bytes_out, out.len);
	struct span payload = {out.bytes, out.len - DEFLATE_TAIL_LEN};
	inflater_inflate(i, payload, MAX_BYTES, &back);
	inflater_inflate(i, payload, 10, &back);
	t = inflater_totals(i);
	assert_int_equal(t.messages, 1);
	assert_int_equal(t.bytes_in, payload.len);
	assert_int_equal(t.bytes_out, 500);
	buf_fini(&out);
	deflater_free(d);
	inflater_free(i);
}

static void contexts_are_charged_while_there_are_any(void **state)
{
	memory_set_limit(0, 1 << 20);
	size_t before = charged();
	struct deflater *d = deflater_new(1, 1);
	struct inflater *i = inflater_new();
	struct buf out = {0};

	(void)state;
	assert_int_equal(charged(), before); /* made at first need */
	deflater_append(d, DEFLATE_WINDOW_FULL, SPAN("a"), SIZE_MAX, &out);
	assert_in_range(charged() - before, 200000, 400000);
	deflater_append(d, DEFLATE_WINDOW_SMALL, SPAN("a"), SIZE_MAX, &out);
	assert_inflates(i, SPAN("\x00"), SPAN(""));
	deflater_free(d);
	inflater_free(i);
	assert_int_equal(charged(), before);
	buf_fini(&out);
	memory_set_limit(0, 0);
}

static void without_memory_it_works_with_the_next(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	for (unsigned n = 1; n < 12; n++) {
		struct deflater *d = deflater_new(1, 1);
		struct inflater *i = inflater_new();
		struct span payload = SPAN("\xf2\x48\xcd\xc9\xc9\x07\x00");
		struct buf out = {0};
		struct span back;
		oom_fail_at(n);
		int rv = deflater_append(d, DEFLATE_WINDOW_FULL, SPAN("hello"),
					 SIZE_MAX, &out);
		int rv2 = inflater_inflate(i, payload, MAX_BYTES, &back);
		oom_end();
		assert_true(rv == 0 || (rv == -ENOMEM && out.len == 0));
		assert_true(rv2 == 0 || rv2 == -ENOMEM);
		out.len = 0;
		assert_int_equal(deflater_append(d, DEFLATE_WINDOW_FULL,
						 SPAN("hello"), SIZE_MAX, &out),
				 0);
		assert_inflates(i, payload, SPAN("Hello"));
		buf_fini(&out);
		deflater_free(d);
		inflater_free(i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_compressed_stands_alone),
		cmocka_unit_test(what_does_not_get_shorter_is_refused),
		cmocka_unit_test(the_limit_of_what_is_compressed_is_exact),
		cmocka_unit_test(what_is_short_or_long_is_not_compressed),
		cmocka_unit_test(stored_blocks_are_read_as_they_are),
		cmocka_unit_test(stored_blocks_are_made_in_place),
		cmocka_unit_test(a_gzip_stream_is_its_head_and_blocks),
		cmocka_unit_test(the_examples_of_the_rfc_are_read),
		cmocka_unit_test(a_last_block_may_be_all_there_is),
		cmocka_unit_test(what_follows_a_last_block_may_refer_to_it),
		cmocka_unit_test(what_is_no_deflate_is_refused),
		cmocka_unit_test(a_bomb_is_stopped_at_the_limit),
		cmocka_unit_test(the_limit_of_what_is_inflated_is_exact),
		cmocka_unit_test(a_payload_may_be_longer_than_its_message),
		cmocka_unit_test(what_is_compressed_is_inflated),
		cmocka_unit_test(what_was_done_is_counted),
		cmocka_unit_test(contexts_are_charged_while_there_are_any),
		cmocka_unit_test(without_memory_it_works_with_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
