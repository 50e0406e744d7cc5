/* digest.h - SHA-1, SHA-256, base64 and a comparison in constant time.
 *
 * Thin over libcrypto, which libcurl brings anyway. But for libcrypto_prepare()
 * nothing here allocates, so nothing fails. Threads: any. */
#ifndef ISIMUD_BASE_DIGEST_H
#define ISIMUD_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SHA1_BYTES   20
#define DIGEST_SHA256_BYTES 32

/* For others who use libcrypto, for TLS: makes what it makes once and, if
 * memory lacks just then, never again. Call it once,
 * before any thread starts. Returns 0 or UV_ENOMEM. */
int libcrypto_prepare(void);

/* `out` receives the SHA-1 (RFC 3174) of `len` bytes. */
void digest_sha1(const void *bytes, size_t len,
		 uint8_t out[static DIGEST_SHA1_BYTES]);

/* `out` receives the SHA-256 (RFC 6234) of `len` bytes. */
void digest_sha256(const void *bytes, size_t len,
		   uint8_t out[static DIGEST_SHA256_BYTES]);

/* The same of bytes that come in pieces: init, any number of adds, end. There
 * is nothing to free. Threads: any, but one at a time for each. */
struct digest_stream {
	uint32_t state[28]; /* libcrypto's, which digest.c alone looks into */
};

void digest_stream_init(struct digest_stream *s);
void digest_stream_add(struct digest_stream *s, const void *bytes, size_t len);
/* `out` receives the SHA-256 of all that was added. */
void digest_stream_end(struct digest_stream *s,
		       uint8_t out[static DIGEST_SHA256_BYTES]);

/* Whether two digests are equal, in a time that does not depend on where they
 * differ. */
bool digest_equal(const uint8_t a[static DIGEST_SHA256_BYTES],
		  const uint8_t b[static DIGEST_SHA256_BYTES]);

/* The characters, without a NUL, that base64 makes of `len` bytes. */
#define BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Encodes (RFC 4648 4, padded). `out` has BASE64_LEN(len) + 1 bytes and ends
 * in a NUL. */
void base64_encode(const void *bytes, size_t len, char *out);

/* Decodes strictly: the alphabet of RFC 4648 4, padding required, zero pad
 * bits, nothing else. `out` has len / 4 * 3 bytes. Returns the number of bytes
 * decoded, or -1 if `text` is not base64. */
ptrdiff_t base64_decode(const char *text, size_t len, uint8_t *out);

#endif
