/* digest.c - SHA-1, SHA-256 and base64, by libcrypto (OpenSSL 3).
 *
 * Looking an algorithm up and making a context cost more than a short digest
 * does (OpenSSL: EVP_MD_fetch(3), "Performance"): the algorithms are fetched
 * once for all, and each thread keeps a context for each algorithm until it
 * ends. What fails here is memory or the installation, at a thread's first
 * digest; there is no answer without it, so it ends the process. */
#include "base/digest.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/check.h"

/* An algorithm, and the key of each thread's context for it. Immutable after
 * fetch_all(). */
struct algorithm {
	EVP_MD *md;
	pthread_key_t context;
};

static pthread_once_t fetched = PTHREAD_ONCE_INIT;
static struct algorithm sha1;
static struct algorithm sha256;

static void free_context(void *context)
{
	EVP_MD_CTX_free(context);
}

static void fetch(struct algorithm *a, const char *name, int bytes)
{
	a->md = EVP_MD_fetch(NULL, name, NULL);
	CHECK(a->md != NULL && EVP_MD_get_size(a->md) == bytes);
	CHECK(pthread_key_create(&a->context, free_context) == 0);
}

static void fetch_all(void)
{
	fetch(&sha1, "SHA1", DIGEST_SHA1_BYTES);
	fetch(&sha256, "SHA256", DIGEST_SHA256_BYTES);
}

/* The calling thread's own. */
static EVP_MD_CTX *context_of(const struct algorithm *a)
{
	EVP_MD_CTX *context = pthread_getspecific(a->context);

	if (context != NULL)
		return context;
	context = EVP_MD_CTX_new();
	CHECK(context != NULL);
	CHECK(pthread_setspecific(a->context, context) == 0);
	return context;
}

static void digest(const struct algorithm *a, const void *bytes, size_t len,
		   uint8_t *out)
{
	EVP_MD_CTX *context = context_of(a);

	CHECK(EVP_DigestInit_ex2(context, a->md, NULL) == 1);
	CHECK(EVP_DigestUpdate(context, bytes, len) == 1);
	CHECK(EVP_DigestFinal_ex(context, out, NULL) == 1);
}

void digest_sha1(const void *bytes, size_t len,
		 uint8_t out[static DIGEST_SHA1_BYTES])
{
	CHECK(pthread_once(&fetched, fetch_all) == 0);
	digest(&sha1, bytes, len, out);
}

void digest_sha256(const void *bytes, size_t len,
		   uint8_t out[static DIGEST_SHA256_BYTES])
{
	CHECK(pthread_once(&fetched, fetch_all) == 0);
	digest(&sha256, bytes, len, out);
}

int digest_stream_init(struct digest_stream *s)
{
	CHECK(pthread_once(&fetched, fetch_all) == 0);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	if (context == NULL)
		return -ENOMEM;
	if (EVP_DigestInit_ex2(context, sha256.md, NULL) != 1) {
		EVP_MD_CTX_free(context);
		return -ENOMEM;
	}
	s->context = context;
	return 0;
}

void digest_stream_add(struct digest_stream *s, const void *bytes, size_t len)
{
	CHECK(EVP_DigestUpdate(s->context, bytes, len) == 1);
}

void digest_stream_fini(struct digest_stream *s, uint8_t *out)
{
	if (out != NULL)
		CHECK(EVP_DigestFinal_ex(s->context, out, NULL) == 1);
	EVP_MD_CTX_free(s->context);
	s->context = NULL;
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
