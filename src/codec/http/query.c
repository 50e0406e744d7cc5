/* query.c - the query of a request target, and percent-coding.
 *
 * A query is split as the URL standard says (5.1), with one difference: a %
 * without two hexadecimal digits is refused, so that no server behind this one
 * can read the query in another way. */
#include "codec/http/http.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/utf8.h"

/* Takes the part before the next `separator`, or all, off `*text`. Behind the
 * last part, `*text` is absent. */
static struct span take_until(struct span *text, char separator)
{
	struct span part = *text;
	const char *end =
		part.len == 0 ? NULL : memchr(part.bytes, separator, part.len);

	if (end == NULL) {
		*text = (struct span){NULL, 0};
		return part;
	}
	part.len = (size_t)(end - part.bytes);
	text->bytes += part.len + 1;
	text->len -= part.len + 1;
	return part;
}

bool http_query_next(struct span *query, struct span *name, struct span *value)
{
	struct span sequence = {NULL, 0};

	while (sequence.len == 0) {
		if (query->bytes == NULL)
			return false;
		sequence = take_until(query, '&');
	}
	*value = sequence;
	*name = take_until(value, '=');
	if (value->bytes == NULL)
		*value = (struct span){name->bytes + name->len, 0};
	return true;
}

/* --- percent-coding ------------------------------------------------------- */

static int percent_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Takes one byte off `*text`, which is not empty, and returns it decoded; -1
 * for a % without two hexadecimal digits. */
static int take_byte(struct span *text, bool plus_is_space)
{
	int byte = (unsigned char)text->bytes[0];
	size_t len = 1;

	if (byte == '%') {
		int high = text->len < 3 ? -1 : percent_digit(text->bytes[1]);
		int low = high < 0 ? -1 : percent_digit(text->bytes[2]);

		if (low < 0)
			return -1;
		byte = high * 16 + low;
		len = 3;
	} else if (byte == '+' && plus_is_space) {
		byte = ' ';
	}
	text->bytes += len;
	text->len -= len;
	return byte;
}

int http_decode(struct span text, bool plus_is_space, struct buf *out)
{
	struct span decoded;
	size_t len = 0;

	if (text.len == 0)
		return 0;
	if (buf_reserve(out, text.len) != 0)
		return -ENOMEM;
	while (text.len > 0) {
		int byte = take_byte(&text, plus_is_space);

		if (byte < 0)
			return -EINVAL;
		out->bytes[out->len + len++] = (char)byte;
	}
	decoded = (struct span){out->bytes + out->len, len};
	if (!utf8_is_valid(decoded))
		return -EINVAL;
	out->len += len;
	return 0;
}

static bool is_unreserved(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' ||
	       c == '~';
}

int http_encode(struct span text, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";

	if (buf_reserve(out, 3 * text.len) != 0)
		return -ENOMEM;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.bytes[i];

		if (is_unreserved(text.bytes[i])) {
			out->bytes[out->len++] = text.bytes[i];
			continue;
		}
		out->bytes[out->len++] = '%';
		out->bytes[out->len++] = digits[byte >> 4];
		out->bytes[out->len++] = digits[byte & 15];
	}
	return 0;
}

/* --- names ---------------------------------------------------------------- */

bool http_query_is_name(struct span name, const char *wanted)
{
	while (name.len > 0) {
		int byte = take_byte(&name, true);

		if (*wanted == '\0' || byte != (unsigned char)*wanted)
			return false;
		wanted++;
	}
	return *wanted == '\0';
}

/* --- leaving parameters out ----------------------------------------------- */

static bool has_name_of(struct span sequence, const char *const *names)
{
	struct span name = take_until(&sequence, '=');

	for (; *names != NULL; names++) {
		if (http_query_is_name(name, *names))
			return true;
	}
	return false;
}

int http_query_without(struct span query, const char *const *names,
		       struct buf *out)
{
	bool is_first = true;

	if (buf_reserve(out, query.len) != 0)
		return -ENOMEM;
	while (query.bytes != NULL) {
		struct span sequence = take_until(&query, '&');

		/* An empty sequence has no name, not an empty one. */
		if (sequence.len > 0 && has_name_of(sequence, names))
			continue;
		if (!is_first)
			out->bytes[out->len++] = '&';
		is_first = false;
		if (sequence.len == 0)
			continue;
		memcpy(out->bytes + out->len, sequence.bytes, sequence.len);
		out->len += sequence.len;
	}
	return 0;
}
