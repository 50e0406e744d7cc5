/* fuzz_handshake.c - the opening handshake (RFC 6455 4.2): a request's head,
 * what its fields say of it, and the key's answer.
 *
 * The input is a head; and once more, as it is, a key. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "base/check.h"
#include "base/digest.h"
#include "codec/http/http.h"
#include "codec/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A key is good if it is what base64 makes of some 16 bytes. */
static void check_key(struct span key)
{
	char accept[WEBSOCKET_ACCEPT_LEN + 1];
	uint8_t decoded[64];
	char again[BASE64_LEN(64) + 1];
	int rv = websocket_accept(key, accept);

	CHECK(rv == 0 || rv == 400);
	bool is_good = key.len == 24 &&
		       base64_decode(key.bytes, key.len, decoded) == 16;
	CHECK((rv == 0) == is_good);
	if (!is_good)
		return;
	CHECK(strlen(accept) == WEBSOCKET_ACCEPT_LEN);
	CHECK(base64_decode(accept, WEBSOCKET_ACCEPT_LEN, decoded) ==
	      DIGEST_SHA1_BYTES);
	base64_encode(decoded, DIGEST_SHA1_BYTES, again);
	CHECK(strcmp(accept, again) == 0);
}

static void check_within(struct span part, struct span whole)
{
	if (part.bytes == NULL)
		return;
	CHECK(part.bytes >= whole.bytes);
	CHECK(part.bytes + part.len <= whole.bytes + whole.len);
}

/* As conn_check_upgrade() and the choice of a subprotocol read them. */
static void check_fields(const struct http_request *r)
{
	struct span offered = r->fields[HTTP_SEC_WEBSOCKET_PROTOCOL];

	(void)http_list_has(r->fields[HTTP_CONNECTION], SPAN("upgrade"));
	(void)http_list_has(r->fields[HTTP_UPGRADE], SPAN("websocket"));
	check_key(r->fields[HTTP_SEC_WEBSOCKET_KEY]);
	struct span bearer = http_list_find_prefix(offered, SPAN("bearer."));
	check_within(bearer, offered);
	if (bearer.bytes != NULL)
		CHECK(http_list_has(offered, bearer));
	(void)http_list_has(offered, SPAN("isimud.v1"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http *h = http_new(1000);
	char *copy = malloc(size + 1);
	size_t used;

	CHECK(h != NULL && copy != NULL);
	memcpy(copy, data, size);
	struct span input = {copy, size};
	check_key(input);
	if (size > 1)
		check_key((struct span){copy, size - 1}); /* less its newline */
	if (http_read(h, copy, size, &used) == HTTP_HEAD)
		check_fields(http_request(h));
	http_free(h);
	free(copy);
	return 0;
}
