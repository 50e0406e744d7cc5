/* test_digest.c - what src/base/digest.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/digest.h"
#include "oom.h"

#define THREADS 4

/* `out` receives `len` bytes in hexadecimal and a NUL. */
static void to_hex(const uint8_t *bytes, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void assert_sha1(const char *text, size_t len, const char *expected)
{
	uint8_t sha1[DIGEST_SHA1_BYTES];
	char hex[2 * DIGEST_SHA1_BYTES + 1];

	digest_sha1(text, len, sha1);
	to_hex(sha1, sizeof(sha1), hex);
	assert_string_equal(hex, expected);
}

static void assert_sha256(const char *text, size_t len, const char *expected)
{
	uint8_t sha256[DIGEST_SHA256_BYTES];
	char hex[2 * DIGEST_SHA256_BYTES + 1];

	digest_sha256(text, len, sha256);
	to_hex(sha256, sizeof(sha256), hex);
	assert_string_equal(hex, expected);
}

/* RFC 3174 7.3, and the digest of nothing. */
static void sha1_gives_the_digests_of_its_rfc(void **state)
{
	static const char two_blocks[] =
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

	(void)state;
	assert_sha1("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	assert_sha1("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
	assert_sha1(two_blocks, 56, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

/* FIPS 180-2 appendix B, and the digest of nothing. */
static void sha256_gives_the_digests_of_its_standard(void **state)
{
	static const char two_blocks[] =
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

	(void)state;
	assert_sha256("", 0,
		      "e3b0c44298fc1c149afbf4c8996fb924"
		      "27ae41e4649b934ca495991b7852b855");
	assert_sha256("abc", 3,
		      "ba7816bf8f01cfea414140de5dae2223"
		      "b00361a396177a9cb410ff61f20015ad");
	assert_sha256(two_blocks, 56,
		      "248d6a61d20638b8e5c026930c3e6039"
		      "a33ce45964ff2167f6ecedd419db06c1");
}

static void a_digest_takes_nuls_as_bytes(void **state)
{
	(void)state;
	assert_sha1("a\0b", 3, "4a3dec2d1f8245280855c42db0ee4239f917fdb8");
}

/* Writes 0 to the int at `user` if every digest was right. */
static void digest_often(void *user)
{
	static const uint8_t expected[4] = {0xba, 0x78, 0x16, 0xbf};
	int *failed = user;
	uint8_t sha1[DIGEST_SHA1_BYTES];
	uint8_t sha256[DIGEST_SHA256_BYTES];

	*failed = 0;
	for (int i = 0; i < 1000; i++) {
		digest_sha1("abc", 3, sha1);
		digest_sha256("abc", 3, sha256);
		*failed |= memcmp(sha256, expected, sizeof(expected)) != 0;
		*failed |= sha1[0] != 0xa9;
	}
}

static void threads_that_start_at_once_digest_without_disturbing_each_other(
	void **state)
{
	uv_thread_t threads[THREADS];
	int failed[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		failed[i] = 1;
		assert_int_equal(
			uv_thread_create(&threads[i], digest_often, &failed[i]),
			0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(uv_thread_join(&threads[i]), 0);
		assert_int_equal(failed[i], 0);
	}
}

/* Of every length around a block's 64 bytes, cut at every place. */
static void in_two_pieces_a_sha256_is_that_of_the_whole(void **state)
{
	char text[140];
	uint8_t whole[DIGEST_SHA256_BYTES];
	uint8_t pieces[DIGEST_SHA256_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)i;
	for (size_t len = 0; len <= sizeof(text); len++) {
		digest_sha256(text, len, whole);
		for (size_t cut = 0; cut <= len; cut++) {
			struct digest_stream s;

			digest_stream_init(&s);
			digest_stream_add(&s, text, cut);
			digest_stream_add(&s, text + cut, len - cut);
			digest_stream_end(&s, pieces);
			assert_memory_equal(pieces, whole, sizeof(whole));
		}
	}
}

static void streams_of_one_thread_do_not_disturb_each_other(void **state)
{
	struct digest_stream a;
	struct digest_stream b;
	uint8_t expected[DIGEST_SHA256_BYTES];
	uint8_t got[DIGEST_SHA256_BYTES];

	(void)state;
	digest_stream_init(&a);
	digest_stream_add(&a, "a", 1);
	digest_stream_init(&b);
	digest_stream_add(&b, "x", 1);
	digest_sha256("abc", 3, expected);
	digest_stream_add(&a, "bc", 2);
	digest_stream_end(&a, got);
	assert_memory_equal(got, expected, sizeof(got));
	digest_stream_add(&b, "yz", 2);
	digest_stream_end(&b, got);
	digest_sha256("xyz", 3, expected);
	assert_memory_equal(got, expected, sizeof(got));
}

static void no_digest_allocates(void **state)
{
	struct digest_stream s;
	uint8_t sha1[DIGEST_SHA1_BYTES];
	uint8_t sha256[DIGEST_SHA256_BYTES];

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	digest_sha1("abc", 3, sha1);
	digest_sha256("abc", 3, sha256);
	digest_stream_init(&s);
	digest_stream_add(&s, "abc", 3);
	digest_stream_end(&s, sha256);
	assert_false(oom_end());
}

static void digests_that_differ_in_any_one_bit_are_not_equal(void **state)
{
	uint8_t a[DIGEST_SHA256_BYTES];
	uint8_t b[DIGEST_SHA256_BYTES];

	(void)state;
	digest_sha256("secret", 6, a);
	memcpy(b, a, sizeof(b));
	assert_true(digest_equal(a, b));
	for (size_t bit = 0; bit < 8 * sizeof(b); bit++) {
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(digest_equal(a, b));
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* RFC 4648 10. */
static const struct {
	const char *bytes;
	const char *text;
} vectors[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xfb\xff\xbf", "+/+/"},
};

static void base64_encodes_the_examples_of_its_rfc(void **state)
{
	char out[BASE64_LEN(6) + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		size_t len = strlen(vectors[i].bytes);

		base64_encode(vectors[i].bytes, len, out);
		assert_string_equal(out, vectors[i].text);
		assert_int_equal(strlen(out), BASE64_LEN(len));
	}
}

static void base64_decodes_the_examples_of_its_rfc(void **state)
{
	uint8_t out[6];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		size_t len = strlen(vectors[i].bytes);

		assert_int_equal(base64_decode(vectors[i].text,
					       strlen(vectors[i].text), out),
				 len);
		assert_memory_equal(out, vectors[i].bytes, len);
	}
}

static void every_byte_survives_base64_at_every_place(void **state)
{
	char text[BASE64_LEN(5) + 1];
	uint8_t out[6];

	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		for (size_t place = 0; place < 5; place++) {
			uint8_t in[5] = {0};

			in[place] = (uint8_t)byte;
			base64_encode(in, sizeof(in), text);
			assert_int_equal(base64_decode(text, 8, out), 5);
			assert_memory_equal(out, in, sizeof(in));
		}
	}
}

static void assert_no_base64(const char *text, size_t len)
{
	uint8_t out[16];

	if (base64_decode(text, len, out) != -1)
		fail_msg("accepted: \"%s\"", text);
}

static void base64_of_a_length_that_is_no_multiple_of_four_is_refused(
	void **state)
{
	(void)state;
	assert_no_base64("Z", 1);
	assert_no_base64("Zg", 2);
	assert_no_base64("Zm8", 3);
	assert_no_base64("Zm9vY", 5);
	assert_no_base64("Zg===", 5);
}

static void every_character_outside_the_alphabet_is_refused_at_every_place(
	void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "abcdefghijklmnopqrstuvwxyz"
				       "0123456789+/";

	(void)state;
	for (int c = 0; c < 256; c++) {
		for (size_t place = 0; place < 8; place++) {
			char text[] = "AAAAAAAA";
			uint8_t out[6];
			int is_pad = c == '=' && place == 7;
			int is_good = is_pad || memchr(alphabet, c, 64) != NULL;

			text[place] = (char)c;
			assert_int_equal(base64_decode(text, 8, out) != -1,
					 is_good);
		}
	}
}

static void padding_anywhere_but_at_the_end_is_refused(void **state)
{
	(void)state;
	assert_no_base64("====", 4);
	assert_no_base64("Z===", 4);
	assert_no_base64("=g==", 4);
	assert_no_base64("Zg=A", 4);
	assert_no_base64("Zg==Zg==", 8);
	assert_no_base64("Zm8=Zm9v", 8);
}

static void pad_bits_that_are_not_zero_are_refused(void **state)
{
	(void)state;
	assert_no_base64("Zh==", 4);
	assert_no_base64("Zv==", 4);
	assert_no_base64("Zm9=", 4);
	assert_no_base64("Zm+=", 4);
}

static void space_around_base64_is_refused(void **state)
{
	(void)state;
	assert_no_base64("    Zg==", 8);
	assert_no_base64("Zg==\n\n\n\n", 8);
	assert_no_base64("Zm9v\r\n\r\n", 8);
	assert_no_base64(" Zm9vYg=", 8);
}

static void libcrypto_is_prepared_again_and_again(void **state)
{
	(void)state;
	assert_int_equal(libcrypto_prepare(), 0);
	assert_int_equal(libcrypto_prepare(), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			threads_that_start_at_once_digest_without_disturbing_each_other),
		cmocka_unit_test(libcrypto_is_prepared_again_and_again),
		cmocka_unit_test(sha1_gives_the_digests_of_its_rfc),
		cmocka_unit_test(sha256_gives_the_digests_of_its_standard),
		cmocka_unit_test(a_digest_takes_nuls_as_bytes),
		cmocka_unit_test(in_two_pieces_a_sha256_is_that_of_the_whole),
		cmocka_unit_test(
			streams_of_one_thread_do_not_disturb_each_other),
		cmocka_unit_test(no_digest_allocates),
		cmocka_unit_test(
			digests_that_differ_in_any_one_bit_are_not_equal),
		cmocka_unit_test(base64_encodes_the_examples_of_its_rfc),
		cmocka_unit_test(base64_decodes_the_examples_of_its_rfc),
		cmocka_unit_test(every_byte_survives_base64_at_every_place),
		cmocka_unit_test(
			base64_of_a_length_that_is_no_multiple_of_four_is_refused),
		cmocka_unit_test(
			every_character_outside_the_alphabet_is_refused_at_every_place),
		cmocka_unit_test(padding_anywhere_but_at_the_end_is_refused),
		cmocka_unit_test(pad_bits_that_are_not_zero_are_refused),
		cmocka_unit_test(space_around_base64_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
