/* no_zstd.c - OpenSSL's part for zstd, as it is where OpenSSL is built without.
 *
 * For LINK=static alone. Debian's libcrypto.a can compress certificates by
 * zstd, for which it needs 0.7 MB of libzstd. With these functions, linked
 * before it, its own are left out; a NULL says that there is no zstd
 * (COMP_zstd(3)), and then OpenSSL does not offer it to a peer (RFC 8879 3). */
#include <openssl/bio.h>
#include <openssl/comp.h>

void ossl_comp_zstd_cleanup(void); /* OPENSSL_cleanup() calls it */

COMP_METHOD *COMP_zstd(void)
{
	return NULL;
}

COMP_METHOD *COMP_zstd_oneshot(void)
{
	return NULL;
}

const BIO_METHOD *BIO_f_zstd(void)
{
	return NULL;
}

void ossl_comp_zstd_cleanup(void)
{
}
