/* http_fields.c - reading field values: lists, media types, credentials.
 *
 * Errors are those of errno.h, negative, which is what libuv's UV_E… are: a
 * codec does not know libuv. */
#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "digest.h"
#include "http_private.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

struct span http_trim(struct span s)
{
	while (s.len > 0 && is_space(s.bytes[0])) {
		s.bytes++;
		s.len--;
	}
	while (s.len > 0 && is_space(s.bytes[s.len - 1]))
		s.len--;
	return s;
}

/* The length of the first element of a list: up to a comma that is not in a
 * quoted string (RFC 9110 5.6.4). */
static size_t element_len(struct span list)
{
	bool is_quoted = false;

	for (size_t i = 0; i < list.len; i++) {
		char c = list.bytes[i];

		if (c == ',' && !is_quoted)
			return i;
		if (c == '"')
			is_quoted = !is_quoted;
		else if (c == '\\' && is_quoted)
			i++;
	}
	return list.len;
}

bool http_list_has(struct span value, struct span token)
{
	while (value.len > 0) {
		size_t len = element_len(value);

		if (span_equal_nocase(
			    http_trim((struct span){value.bytes, len}), token))
			return true;
		if (len == value.len)
			break;
		value.bytes += len + 1;
		value.len -= len + 1;
	}
	return false;
}

bool http_is_media_type(struct span content_type, struct span type)
{
	const char *end = content_type.len == 0 ? NULL
						: memchr(content_type.bytes,
							 ';', content_type.len);

	if (end != NULL)
		content_type.len = (size_t)(end - content_type.bytes);
	return content_type.bytes != NULL &&
	       span_equal_nocase(http_trim(content_type), type);
}

/* What follows `scheme` and at least one space; absent if `value` is of
 * another scheme. */
static struct span credentials_of(struct span value, struct span scheme)
{
	struct span none = {NULL, 0};

	if (value.len <= scheme.len ||
	    strncasecmp(value.bytes, scheme.bytes, scheme.len) != 0 ||
	    value.bytes[scheme.len] != ' ')
		return none;
	value.bytes += scheme.len;
	value.len -= scheme.len;
	while (value.len > 0 && value.bytes[0] == ' ') {
		value.bytes++;
		value.len--;
	}
	return value;
}

int http_basic_credentials(struct span value, struct buf *memory,
			   struct span *username, struct span *password)
{
	struct span encoded = credentials_of(value, SPAN("Basic"));
	const char *colon;
	ptrdiff_t len;

	if (encoded.len == 0)
		return -EINVAL;
	memory->len = 0;
	if (buf_reserve(memory, encoded.len) != 0)
		return -ENOMEM;
	len = base64_decode(encoded.bytes, encoded.len,
			    (uint8_t *)memory->bytes);
	if (len < 0)
		return -EINVAL;
	memory->len = (size_t)len;
	colon = memchr(memory->bytes, ':', memory->len);
	if (colon == NULL)
		return -EINVAL;
	username->bytes = memory->bytes;
	username->len = (size_t)(colon - memory->bytes);
	password->bytes = colon + 1;
	password->len = memory->len - username->len - 1;
	return 0;
}

static bool is_token68(struct span s)
{
	size_t i = 0;

	while (i < s.len && s.bytes[i] != '\0' &&
	       (isalnum((unsigned char)s.bytes[i]) ||
		strchr("-._~+/", s.bytes[i]) != NULL))
		i++;
	if (i == 0)
		return false;
	while (i < s.len && s.bytes[i] == '=')
		i++;
	return i == s.len;
}

struct span http_bearer_token(struct span value)
{
	struct span token = credentials_of(value, SPAN("Bearer"));

	if (token.len > HTTP_BEARER_MAX_BYTES || !is_token68(token))
		return (struct span){NULL, 0};
	return token;
}
