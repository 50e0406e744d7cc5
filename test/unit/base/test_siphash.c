/* test_siphash.c - src/base/siphash.c against the vectors of its inventors, and
 * further ones that `openssl mac ... siphash` says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/siphash.h"

/* The key 00 01 ... 0f. */
static const struct siphash_key reference_key = {
	.k0 = 0x0706050403020100,
	.k1 = 0x0f0e0d0c0b0a0908,
};

/* The inputs are nothing, 00, 00 01, 00 01 02, and so on. Number 15 is the one
 * in appendix A of the paper, all of them are in its reference code. */
static const uint64_t reference_vectors[64] = {
	0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a,
	0x85676696d7fb7e2d, 0xcf2794e0277187b7, 0x18765564cd99a68d,
	0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462,
	0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
	0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee,
	0xa129ca6149be45e5, 0x3f2acc7f57c29bdb, 0x699ae9f52cbe4794,
	0x4bc1b3f0968dd39c, 0xbb6dc91da77961bd, 0xbed65cf21aa2ee98,
	0xd0f2cbb02e3b67c7, 0x93536795e3a33e88, 0xa80c038ccd5ccec8,
	0xb8ad50c6f649af94, 0xbce192de8a85b8ea, 0x17d835b85bbb15f3,
	0x2f2e6163076bcfad, 0xde4daaaca71dc9a5, 0xa6a2506687956571,
	0xad87a3535c49ef28, 0x32d892fad841c342, 0x7127512f72f27cce,
	0xa7f32346f95978e3, 0x12e0b01abb051238, 0x15e034d40fa197ae,
	0x314dffbe0815a3b4, 0x027990f029623981, 0xcadcd4e59ef40c4d,
	0x9abfd8766a33735c, 0x0e3ea96b5304a7d0, 0xad0c42d6fc585992,
	0x187306c89bc215a9, 0xd4a60abcf3792b95, 0xf935451de4f21df2,
	0xa9538f0419755787, 0xdb9acddff56ca510, 0xd06c98cd5c0975eb,
	0xe612a3cb9ecba951, 0xc766e62cfcadaf96, 0xee64435a9752fe72,
	0xa192d576b245165a, 0x0a8787bf8ecb74b2, 0x81b3e73d20b49b6f,
	0x7fa8220ba3b2ecea, 0x245731c13ca42499, 0xb78dbfaf3a8d83bd,
	0xea1ad565322a1a0b, 0x60e61c23a3795013, 0x6606d7e446282b93,
	0x6ca4ecb15c5f91e1, 0x9f626da15c9625f3, 0xe51b38608ef25f57,
	0x958a324ceb064572,
};

static void the_reference_vectors_are_met(void **state)
{
	unsigned char input[64];

	(void)state;
	for (size_t len = 0; len < sizeof input; len++) {
		input[len] = (unsigned char)len;
		assert_int_equal(siphash(&reference_key, input, len),
				 reference_vectors[len]);
	}
}

static void a_thousand_bytes_under_another_key_hash_as_openssl_says(
	void **state)
{
	/* fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0 */
	const struct siphash_key key = {0xf8f9fafbfcfdfeff, 0xf0f1f2f3f4f5f6f7};
	unsigned char input[1000];

	(void)state;
	for (size_t i = 0; i < sizeof input; i++)
		input[i] = (unsigned char)(i * 7);
	assert_int_equal(siphash(&key, input, sizeof input),
			 0x296c9cd49415e9b7);
}

/* The length goes in modulo 256. */
static void lengths_around_256_hash_as_openssl_says(void **state)
{
	unsigned char zeros[300] = {0};

	(void)state;
	assert_int_equal(siphash(&reference_key, zeros, 255),
			 0x91c97abab4cdbf56);
	assert_int_equal(siphash(&reference_key, zeros, 256),
			 0x7408248d2694d61c);
	assert_int_equal(siphash(&reference_key, zeros, 300),
			 0x65772868999c6fce);
}

static void bytes_at_any_address_hash_the_same(void **state)
{
	unsigned char room[8 + 63];

	(void)state;
	for (size_t offset = 0; offset < 8; offset++) {
		for (size_t i = 0; i < 63; i++)
			room[offset + i] = (unsigned char)i;
		assert_int_equal(siphash(&reference_key, room + offset, 63),
				 reference_vectors[63]);
	}
}

static void nothing_needs_no_address(void **state)
{
	(void)state;
	assert_int_equal(siphash(&reference_key, NULL, 0),
			 reference_vectors[0]);
}

static void each_bit_of_the_key_counts(void **state)
{
	uint64_t seen[129];

	(void)state;
	seen[128] = siphash(&reference_key, "news", 4);
	for (unsigned bit = 0; bit < 128; bit++) {
		struct siphash_key key = reference_key;
		*(bit < 64 ? &key.k0 : &key.k1) ^= UINT64_C(1) << bit % 64;
		seen[bit] = siphash(&key, "news", 4);
	}
	for (unsigned i = 0; i < 129; i++)
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(seen[i], seen[j]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_vectors_are_met),
		cmocka_unit_test(
			a_thousand_bytes_under_another_key_hash_as_openssl_says),
		cmocka_unit_test(lengths_around_256_hash_as_openssl_says),
		cmocka_unit_test(bytes_at_any_address_hash_the_same),
		cmocka_unit_test(nothing_needs_no_address),
		cmocka_unit_test(each_bit_of_the_key_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
