/* digest.c - SHA-1, SHA-256 and base64, by libcrypto.
 *
 * It uses libcrypto's functions of version 1.1, which are bound to one
 * algorithm and work in our memory: they do not allocate, so they can't fail.
 * OpenSSL 3's EVP functions allocate for each digest, even with a context that
 * is used again. Both run the same code inside. */
#define OPENSSL_API_COMPAT 10101 /* they count as deprecated since 3.0 */

#include "base/digest.h"

#include <limits.h>

#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <uv.h>

#include "base/check.h"

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct digest_stream),
	       "digest_stream has room for libcrypto's state");
_Static_assert(_Alignof(SHA256_CTX) <= _Alignof(struct digest_stream),
	       "and as it must lie");

static SHA256_CTX *context_of(struct digest_stream *s)
{
	return (SHA256_CTX *)(void *)s;
}

/* OpenSSL looks for the algorithms of a kind when one is first wanted; what it
 * has not found then, be it for want of memory, it does not look for again. To
 * walk over all of a kind makes them. */
/* NOLINTBEGIN(bugprone-macro-parentheses): the name is a type. */
#define FETCH_ALL(kind)                                                        \
	static void ignore_##kind(kind *algorithm, void *arg)                  \
	{                                                                      \
		(void)algorithm;                                               \
		(void)arg;                                                     \
	}                                                                      \
	static void fetch_all_##kind(void)                                     \
	{                                                                      \
		kind##_do_all_provided(NULL, ignore_##kind, NULL);             \
	}
/* NOLINTEND(bugprone-macro-parentheses) */
#define KINDS(X)                                                               \
	X(EVP_RAND)                                                            \
	X(EVP_MD)                                                              \
	X(EVP_CIPHER)                                                          \
	X(EVP_MAC)                                                             \
	X(EVP_KDF)                                                             \
	X(EVP_KEYMGMT)                                                         \
	X(EVP_KEYEXCH)                                                         \
	X(EVP_SIGNATURE)                                                       \
	X(OSSL_DECODER)

KINDS(FETCH_ALL)

static bool lacked_memory(void)
{
	unsigned long error;

	while ((error = ERR_get_error()) != 0)
		if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE)
			return true;
	return false;
}

int libcrypto_prepare(void)
{
	ERR_clear_error();
#define FETCH(kind) fetch_all_##kind();
	KINDS(FETCH)
#undef FETCH
	return RAND_status() == 1 && !lacked_memory() ? 0 : UV_ENOMEM;
}

void digest_sha1(const void *bytes, size_t len,
		 uint8_t out[static DIGEST_SHA1_BYTES])
{
	SHA_CTX context;

	CHECK(SHA1_Init(&context) == 1);
	CHECK(SHA1_Update(&context, bytes, len) == 1);
	CHECK(SHA1_Final(out, &context) == 1);
	OPENSSL_cleanse(&context, sizeof(context));
}

void digest_sha256(const void *bytes, size_t len,
		   uint8_t out[static DIGEST_SHA256_BYTES])
{
	struct digest_stream s;

	digest_stream_init(&s);
	digest_stream_add(&s, bytes, len);
	digest_stream_end(&s, out);
}

void digest_stream_init(struct digest_stream *s)
{
	CHECK(SHA256_Init(context_of(s)) == 1);
}

void digest_stream_add(struct digest_stream *s, const void *bytes, size_t len)
{
	CHECK(SHA256_Update(context_of(s), bytes, len) == 1);
}

void digest_stream_end(struct digest_stream *s,
		       uint8_t out[static DIGEST_SHA256_BYTES])
{
	CHECK(SHA256_Final(out, context_of(s)) == 1);
	OPENSSL_cleanse(s, sizeof(*s));
}

bool digest_equal(const uint8_t a[static DIGEST_SHA256_BYTES],
		  const uint8_t b[static DIGEST_SHA256_BYTES])
{
	return CRYPTO_memcmp(a, b, DIGEST_SHA256_BYTES) == 0;
}

void base64_encode(const void *bytes, size_t len, char *out)
{
	CHECK(len <= INT_MAX / 4 * 3); /* libcrypto counts in int */
	EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
}

/* The six bits that a character of the alphabet stands for; -1 for others. */
static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : -1;
}

/* EVP_DecodeBlock() skips spaces, takes any pad bits, and counts padding as
 * bytes; so all of that is checked before. */
ptrdiff_t base64_decode(const char *text, size_t len, uint8_t *out)
{
	static const int pad_bits[] = {0, 0x03, 0x0f}; /* by number of pads */
	size_t pads = 0;

	if (len == 0)
		return 0;
	if (len % 4 != 0 || len > INT_MAX)
		return -1;
	while (pads < 2 && text[len - 1 - pads] == '=')
		pads++;
	for (size_t i = 0; i < len - pads; i++) {
		if (base64_value(text[i]) < 0)
			return -1;
	}
	if ((base64_value(text[len - pads - 1]) & pad_bits[pads]) != 0)
		return -1;
	if (EVP_DecodeBlock(out, (const unsigned char *)text, (int)len) < 0)
		return -1;
	return (ptrdiff_t)(len / 4 * 3 - pads);
}
