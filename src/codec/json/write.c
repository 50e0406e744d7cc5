/* write.c - the JSON texts that we answer. */
#include "codec/json/json.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

#define ESCAPE_MAX 6    /* characters of an escape */
#define STEP_BYTES 1024 /* of the text, which are written at once */
#define LONG_BYTES 524288

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

static bool is_line_separator(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text;

	return len >= 3 && at[0] == LINE_END_BYTE1 && at[1] == LINE_END_BYTE2 &&
	       (at[2] == 0xa8 || at[2] == 0xa9);
}

/* What a byte is written as. All of it is copied: that costs less than looking
 * at its length. */
struct escape {
	char text[ESCAPE_MAX + 1];
	uint8_t len; /* 0: as it is, but at the start of U+2028 and U+2029 */
};

#define SAME(byte)                                                             \
	{                                                                      \
		{(char)(byte)}, 1                                              \
	}
#define SHORT(character)                                                       \
	{                                                                      \
		{'\\', character}, 2                                           \
	}
#define LONG(digit1, digit2)                                                   \
	{                                                                      \
		{'\\', 'u', '0', '0', digit1, digit2}, ESCAPE_MAX              \
	}
#define SAME_8(byte)                                                           \
	SAME(byte), SAME((byte) + 1), SAME((byte) + 2), SAME((byte) + 3),      \
		SAME((byte) + 4), SAME((byte) + 5), SAME((byte) + 6),          \
		SAME((byte) + 7)
#define SAME_32(byte)                                                          \
	SAME_8(byte), SAME_8((byte) + 8), SAME_8((byte) + 16),                 \
		SAME_8((byte) + 24)

static const struct escape escapes[256] = {
	LONG('0', '0'),
	LONG('0', '1'),
	LONG('0', '2'),
	LONG('0', '3'),
	LONG('0', '4'),
	LONG('0', '5'),
	LONG('0', '6'),
	LONG('0', '7'),
	SHORT('b'),
	SHORT('t'),
	SHORT('n'),
	LONG('0', 'b'),
	SHORT('f'),
	SHORT('r'),
	LONG('0', 'e'),
	LONG('0', 'f'),
	LONG('1', '0'),
	LONG('1', '1'),
	LONG('1', '2'),
	LONG('1', '3'),
	LONG('1', '4'),
	LONG('1', '5'),
	LONG('1', '6'),
	LONG('1', '7'),
	LONG('1', '8'),
	LONG('1', '9'),
	LONG('1', 'a'),
	LONG('1', 'b'),
	LONG('1', 'c'),
	LONG('1', 'd'),
	LONG('1', 'e'),
	LONG('1', 'f'),
	SAME(' '),
	SAME('!'),
	SHORT('"'),
	SAME('#'),
	SAME('$'),
	SAME('%'),
	SAME('&'),
	SAME('\''),
	SAME_8('('),
	SAME_8('0'),
	SAME_8('8'),
	SAME_8('@'),
	SAME_8('H'),
	SAME_8('P'),
	SAME('X'),
	SAME('Y'),
	SAME('Z'),
	SAME('['),
	SHORT('\\'),
	SAME(']'),
	SAME('^'),
	SAME('_'),
	SAME_32(0x60),
	SAME_32(0x80),
	SAME_32(0xa0),
	SAME_32(0xc0),
	SAME(0xe0),
	SAME(0xe1),
	{{(char)LINE_END_BYTE1}, 0},
	SAME(0xe3),
	SAME(0xe4),
	SAME(0xe5),
	SAME(0xe6),
	SAME(0xe7),
	SAME_8(0xe8),
	SAME_8(0xf0),
	SAME_8(0xf8),
};

/* Writes the character at the start of `text`, which begins as U+2028 does.
 * Returns how many bytes of the text that was. */
static size_t put_line_end(char **to, struct span text)
{
	if (!is_line_separator(text.bytes, text.len)) {
		*(*to)++ = text.bytes[0];
		return 1;
	}
	bool is_first = (unsigned char)text.bytes[2] == 0xa8;
	memcpy(*to, is_first ? "\\u2028" : "\\u2029", ESCAPE_MAX);
	*to += ESCAPE_MAX;
	return 3;
}

static size_t step_of(struct span text)
{
	return text.len < STEP_BYTES ? text.len : STEP_BYTES;
}

/* The most that put_step() writes over. */
static size_t room_of_step(struct span text)
{
	return step_of(text) * ESCAPE_MAX + sizeof(struct escape);
}

/* Writes the next few bytes of `text`, escaped, to where there is
 * room_of_step(). Returns how many bytes of the text it has written. */
static size_t put_step(char **to, struct span text)
{
	size_t max = step_of(text);
	char *out = *to;
	size_t i = 0;

	while (i < max) {
		size_t from = i;
		while (max - i >= 8 && are_verbatim(text.bytes + i))
			i += 8;
		memcpy(out, text.bytes + from, i - from);
		out += i - from;
		/* Byte by byte for as many as were looked at. */
		size_t end = max - i < 8 ? max : i + 8;
		while (i < end) {
			const struct escape *e =
				&escapes[(unsigned char)text.bytes[i]];
			if (e->len == 0) {
				struct span rest = {text.bytes + i,
						    text.len - i};
				i += put_line_end(&out, rest);
				continue;
			}
			memcpy(out, e, sizeof *e);
			out += e->len;
			i++;
		}
	}
	*to = out;
	return i;
}

static int append_escaped(struct buf *out, struct span text)
{
	while (text.len > 0) {
		if (buf_reserve(out, room_of_step(text)) != 0)
			return -ENOMEM;
		char *to = out->bytes + out->len;
		size_t used = put_step(&to, text);
		out->len = (size_t)(to - out->bytes);
		text.bytes += used;
		text.len -= used;
	}
	return 0;
}

int json_write_string(struct buf *out, struct span text)
{
	size_t start = out->len;
	int rv;

	if (text.len > SIZE_MAX / (2 * ESCAPE_MAX))
		return -ENOMEM; /* UV_ENOMEM */
	/* At once, where little is escaped; a long text has room for the worst
	 * at once. What is not used of that was never touched. */
	rv = buf_reserve(out, text.len >= LONG_BYTES
				      ? ESCAPE_MAX * text.len +
						sizeof(struct escape) + 2
				      : text.len + room_of_step(text));
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
