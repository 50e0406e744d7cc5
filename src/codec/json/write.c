/* write.c - the JSON texts that we answer. */
#include "codec/json/json.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

#define ESCAPE_MAX  6    /* bytes of an escape */
#define ESCAPES_MAX 1024 /* made at once */

/* U+2028 and U+2029 end a line in scripts before ES2019: the first two of their
 * three bytes; the third is 0xa8 or 0xa9. */
#define LINE_END_BYTE1 0xe2
#define LINE_END_BYTE2 0x80

/* Marks the bytes of `word` that are 0: the top bit of each, and perhaps of
 * bytes above the first such one. */
static uint64_t zero_bytes(uint64_t word)
{
	return (word - EVERY_BYTE(1)) & ~word;
}

/* Whether each of eight bytes goes into a string as it is. False also if one of
 * them only starts like U+2028. */
static bool are_verbatim(const char *at)
{
	uint64_t word;
	uint64_t marks;

	memcpy(&word, at, sizeof(word));
	marks = ((word - EVERY_BYTE(0x20)) & ~word) |
		zero_bytes(word ^ EVERY_BYTE('"')) |
		zero_bytes(word ^ EVERY_BYTE('\\')) |
		zero_bytes(word ^ EVERY_BYTE(LINE_END_BYTE1));
	return (marks & EVERY_BYTE(0x80)) == 0;
}

static bool is_line_end(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text;

	return len >= 3 && at[0] == LINE_END_BYTE1 && at[1] == LINE_END_BYTE2 &&
	       (at[2] == 0xa8 || at[2] == 0xa9);
}

static bool is_escaped(const char *at, size_t len)
{
	return (unsigned char)*at < 0x20 || *at == '"' || *at == '\\' ||
	       is_line_end(at, len);
}

/* How many bytes at the start of `text` stay as they are. */
static size_t verbatim_length(struct span text)
{
	size_t i = 0;

	for (;;) {
		while (text.len - i >= 8 && are_verbatim(text.bytes + i))
			i += 8;
		if (i == text.len || is_escaped(text.bytes + i, text.len - i))
			return i;
		i++;
	}
}

/* Writes the escape of the character at `at`, and its length to `*len`. Returns
 * how many bytes that character has. */
static size_t make_escape(const char *at, char out[static ESCAPE_MAX],
			  size_t *len)
{
	static const char characters[] = {
		['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
		['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
	static const char digits[] = "0123456789abcdef";
	unsigned char byte = (unsigned char)*at;

	out[0] = '\\';
	if (byte < sizeof characters && characters[byte] != '\0') {
		out[1] = characters[byte];
		*len = 2;
		return 1;
	}
	bool is_control = byte < 0x20; /* else U+2028 or U+2029 */
	unsigned low = is_control ? byte : (unsigned char)at[2] - 0x80u;
	*len = 6;
	out[1] = 'u';
	out[2] = is_control ? '0' : '2';
	out[3] = '0';
	out[4] = digits[low >> 4];
	out[5] = digits[low & 15];
	return is_control ? 1 : 3;
}

/* Appends the escapes that `text` begins with, some thousand of them at most.
 * Returns how many of its bytes those are, or 0 without memory. */
static size_t append_escapes(struct buf *out, struct span text)
{
	size_t max = text.len < ESCAPES_MAX ? text.len : ESCAPES_MAX;
	size_t used = 0;

	if (buf_reserve(out, max * ESCAPE_MAX) != 0)
		return 0;
	while (used < max && is_escaped(text.bytes + used, text.len - used)) {
		size_t len;
		used += make_escape(text.bytes + used, out->bytes + out->len,
				    &len);
		out->len += len;
	}
	return used;
}

static int append_escaped(struct buf *out, struct span text)
{
	while (text.len > 0) {
		size_t used = verbatim_length(text);
		if (buf_append(out, text.bytes, used) != 0)
			return -ENOMEM;
		if (used == 0)
			used = append_escapes(out, text);
		if (used == 0)
			return -ENOMEM;
		text.bytes += used;
		text.len -= used;
	}
	return 0;
}

int json_write_string(struct buf *out, struct span text)
{
	size_t start = out->len;
	int rv;

	if (text.len > SIZE_MAX - 2)
		return -ENOMEM; /* UV_ENOMEM */
	rv = buf_reserve(out,
			 text.len + 2); /* at once, where none is escaped */
	if (rv == 0)
		rv = buf_append(out, "\"", 1);
	if (rv == 0)
		rv = append_escaped(out, text);
	if (rv == 0)
		rv = buf_append(out, "\"", 1);
	if (rv != 0)
		out->len = start;
	return rv;
}

int json_write_error(struct buf *out, const char *text)
{
	size_t start = out->len;
	int rv = buf_append(out, "{\"error\":", strlen("{\"error\":"));

	if (rv == 0)
		rv = json_write_string(out, span_of(text));
	if (rv == 0)
		rv = buf_append(out, "}", 1);
	if (rv != 0)
		out->len = start;
	return rv;
}
