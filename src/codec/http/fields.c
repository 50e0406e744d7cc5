/* fields.c - reading field values: lists, media types, what is accepted,
 * credentials.
 *
 * Errors are those of errno.h, negative, which is what libuv's UV_E… are: a
 * codec does not know libuv. */
#include "codec/http/http.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "codec/http/head.h"

static bool is_field_space(char c)
{
	return c == ' ' || c == '\t';
}

struct span http_trim(struct span s)
{
	while (s.len > 0 && is_field_space(s.bytes[0])) {
		s.bytes++;
		s.len--;
	}
	while (s.len > 0 && is_field_space(s.bytes[s.len - 1]))
		s.len--;
	return s;
}

/* The bytes of `s` before its first `separator` that is not in a quoted string
 * (RFC 9110 5.6.4); all if there is none. */
static size_t part_len(struct span s, char separator)
{
	bool is_quoted = false;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.bytes[i];

		if (c == separator && !is_quoted)
			return i;
		if (c == '"')
			is_quoted = !is_quoted;
		else if (c == '\\' && is_quoted)
			i++;
	}
	return s.len;
}

/* Takes the part before the next `separator`, or all, off `*s`. Behind the last
 * part, `*s` is absent. */
static struct span take_part(struct span *s, char separator)
{
	struct span part = {s->bytes, part_len(*s, separator)};

	if (part.len == s->len) {
		*s = (struct span){NULL, 0};
	} else {
		s->bytes += part.len + 1;
		s->len -= part.len + 1;
	}
	return http_trim(part);
}

struct span http_list_take(struct span *list)
{
	return take_part(list, ',');
}

struct span http_part_take(struct span *parts, char separator)
{
	return take_part(parts, separator);
}

bool http_list_has(struct span value, struct span token)
{
	while (value.bytes != NULL) {
		if (span_equal_nocase(take_part(&value, ','), token))
			return true;
	}
	return false;
}

bool http_list_has_exactly(struct span value, struct span token)
{
	while (value.bytes != NULL) {
		if (span_equal(take_part(&value, ','), token))
			return true;
	}
	return false;
}

struct span http_list_find_prefix(struct span value, struct span prefix)
{
	while (value.bytes != NULL) {
		struct span element = take_part(&value, ',');

		if (element.len >= prefix.len &&
		    span_equal((struct span){element.bytes, prefix.len},
			       prefix))
			return element;
	}
	return (struct span){NULL, 0};
}

/* --- Accept --------------------------------------------------------------- */

/* How closely a media range names a type. */
enum closeness {
	MATCHES_NOT,
	MATCHES_ANY_TYPE,
	MATCHES_ANY_SUBTYPE,
	MATCHES_ITSELF,
};

struct preference {
	enum closeness closeness;
	unsigned quality; /* in thousandths */
};

static enum closeness compare_range(struct span range, struct span type)
{
	struct span start = type; /* with the slash */
	const char *slash =
		type.len == 0 ? NULL : memchr(type.bytes, '/', type.len);

	if (slash == NULL)
		return MATCHES_NOT;
	start.len = (size_t)(slash - type.bytes) + 1;
	if (span_equal_nocase(range, type))
		return MATCHES_ITSELF;
	if (span_equal(range, SPAN("*/*")))
		return MATCHES_ANY_TYPE;
	if (range.len == start.len + 1 && range.bytes[start.len] == '*' &&
	    strncasecmp(range.bytes, start.bytes, start.len) == 0)
		return MATCHES_ANY_SUBTYPE;
	return MATCHES_NOT;
}

/* A weight (RFC 9110 12.4.2) in thousandths, 0 if it is malformed. ".2" counts
 * as "0.2": Java 8 sends it with every request. */
static unsigned quality_of(struct span weight)
{
	unsigned quality = 0;
	unsigned unit = 1000;

	for (size_t i = 0; i < weight.len; i++) {
		char c = weight.bytes[i];

		if (c == '.' && unit == 1000) {
			unit = 100;
			continue;
		}
		if (!isdigit((unsigned char)c) || unit == 0 ||
		    (unit == 1000 && i > 0))
			return 0;
		quality += unit * (unsigned)(c - '0');
		if (unit < 1000)
			unit /= 10;
	}
	return quality <= 1000 ? quality : 0;
}

/* What one element of Accept says of `type`. */
static struct preference read_range(struct span element, struct span type)
{
	const struct preference none = {MATCHES_NOT, 0};
	struct preference p = {.quality = 1000};

	p.closeness = compare_range(take_part(&element, ';'), type);
	if (p.closeness == MATCHES_NOT)
		return none;
	while (element.bytes != NULL) {
		struct span parameter = take_part(&element, ';');

		if (parameter.len >= 2 &&
		    strncasecmp(parameter.bytes, "q=", 2) == 0)
			p.quality = quality_of((struct span){
				parameter.bytes + 2, parameter.len - 2});
		else if (parameter.len > 0)
			return none;
	}
	return p;
}

/* What all of them say. */
static struct preference read_accept(struct span accept, struct span type)
{
	struct preference best = {MATCHES_NOT, 0};

	while (accept.bytes != NULL) {
		struct preference p = read_range(take_part(&accept, ','), type);

		if (p.closeness > best.closeness ||
		    (p.closeness == best.closeness && p.quality > best.quality))
			best = p;
	}
	return best;
}

unsigned http_accept_quality(struct span accept, struct span type)
{
	if (accept.len == 0)
		return 1000;
	return read_accept(accept, type).quality;
}

bool http_accepts_explicitly(struct span accept, struct span type)
{
	struct preference p = read_accept(accept, type);

	return p.closeness == MATCHES_ITSELF && p.quality > 0;
}

/* --- codings and entity tags ---------------------------------------------- */

/* The weight of one element of Accept-Encoding; its other parameters are
 * ignored. */
static unsigned weight_of(struct span element)
{
	while (element.bytes != NULL) {
		struct span parameter = take_part(&element, ';');

		if (parameter.len >= 2 &&
		    strncasecmp(parameter.bytes, "q=", 2) == 0)
			return quality_of((struct span){parameter.bytes + 2,
							parameter.len - 2});
	}
	return 1000;
}

bool http_accepts_coding(struct span accept_encoding, struct span coding)
{
	int named = -1; /* weights; -1: not there */
	int any = -1;
	int identity = -1;

	while (accept_encoding.bytes != NULL) {
		struct span element = take_part(&accept_encoding, ',');
		struct span name = take_part(&element, ';');
		int weight = (int)weight_of(element);

		if (span_equal_nocase(name, coding))
			named = weight > named ? weight : named;
		else if (span_equal_nocase(name, SPAN("identity")))
			identity = weight > identity ? weight : identity;
		else if (span_equal(name, SPAN("*")))
			any = weight > any ? weight : any;
	}
	int wanted = named >= 0 ? named : any;
	return wanted > 0 && wanted >= identity;
}

bool http_has_entity_tag(struct span if_none_match, struct span tag)
{
	while (if_none_match.bytes != NULL) {
		struct span element = take_part(&if_none_match, ',');

		if (span_equal(element, SPAN("*")))
			return true;
		if (element.len > 2 && memcmp(element.bytes, "W/", 2) == 0) {
			element.bytes += 2;
			element.len -= 2;
		}
		if (span_equal(element, tag))
			return true;
	}
	return false;
}

/* --- media types and credentials ------------------------------------------ */

/* Without its parameters. */
static struct span media_type_of(struct span content_type)
{
	const char *end = content_type.len == 0 ? NULL
						: memchr(content_type.bytes,
							 ';', content_type.len);

	if (end != NULL)
		content_type.len = (size_t)(end - content_type.bytes);
	return http_trim(content_type);
}

bool http_is_media_type(struct span content_type, struct span type)
{
	return content_type.bytes != NULL &&
	       span_equal_nocase(media_type_of(content_type), type);
}

bool http_is_json(struct span content_type)
{
	const struct span start = SPAN("application/");
	const struct span end = SPAN("+json");
	struct span type = media_type_of(content_type);

	if (span_equal_nocase(type, SPAN("application/json")))
		return true;
	return type.len > start.len + end.len &&
	       strncasecmp(type.bytes, start.bytes, start.len) == 0 &&
	       strncasecmp(type.bytes + type.len - end.len, end.bytes,
			   end.len) == 0;
}

/* Returns what follows `scheme` and its spaces; absent if `value` has another
 * scheme. */
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

bool http_is_token(struct span token)
{
	size_t i = 0;

	if (token.len > HTTP_BEARER_MAX_BYTES)
		return false;
	while (i < token.len && token.bytes[i] != '\0' &&
	       (isalnum((unsigned char)token.bytes[i]) ||
		strchr("-._~+/", token.bytes[i]) != NULL))
		i++;
	if (i == 0)
		return false;
	while (i < token.len && token.bytes[i] == '=')
		i++;
	return i == token.len;
}

struct span http_bearer_token(struct span value)
{
	struct span token = credentials_of(value, SPAN("Bearer"));

	if (!http_is_token(token))
		return (struct span){NULL, 0};
	return token;
}
