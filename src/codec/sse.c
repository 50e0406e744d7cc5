/* sse.c - see sse.h. */
#include "codec/sse.h"

#include "base/refuse.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ID    "id: "
#define EVENT "event: "
#define END   "\n" /* of a line, and of a block */

/* Bytes of a retry line: its letters, a number of 32 bits, a NUL. */
#define RETRY_MAX (sizeof "retry: 4294967295\n")

#define WORD             8 /* bytes looked at at once */
#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The first byte is the lowest. */
static uint64_t word_at(const char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof word);
	return le64toh(word);
}

/* The top bit of each byte of `word` that is `byte`, and nothing else. */
static uint64_t marks_of(uint64_t word, unsigned char byte)
{
	uint64_t other = word ^ EVERY_BYTE(byte);
	uint64_t sum = (other & EVERY_BYTE(0x7f)) + EVERY_BYTE(0x7f);

	return ~(sum | other) & EVERY_BYTE(0x80);
}

static unsigned count_marks(uint64_t marks)
{
	return (unsigned)((marks >> 7) * EVERY_BYTE(1) >> 56);
}

size_t sse_data_len(struct span data)
{
	size_t ends = 0;  /* of lines, in the data */
	size_t bytes = 0; /* that they have */
	bool was_cr = false;
	size_t i = 0;

	for (; data.len - i >= WORD; i += WORD) {
		uint64_t word = word_at(data.bytes + i);
		uint64_t cr = marks_of(word, '\r');
		uint64_t lf = marks_of(word, '\n');
		uint64_t behind_cr = cr << 8 | (was_cr ? 0x80 : 0);
		bytes += count_marks(cr) + count_marks(lf);
		ends += count_marks(cr) + count_marks(lf & ~behind_cr);
		was_cr = cr >> 63 != 0;
	}
	for (; i < data.len; i++) {
		bool is_cr = data.bytes[i] == '\r';
		bool is_lf = data.bytes[i] == '\n';
		bytes += is_cr || is_lf;
		ends += is_cr || (is_lf && !was_cr);
		was_cr = is_cr;
	}
	return (ends + 1) * (sizeof SSE_DATA - 1 + sizeof END - 1) + data.len -
	       bytes + sizeof END - 1;
}

/* To a buffer that has the room. */
static void put_bytes(struct buf *out, struct span bytes)
{
	if (bytes.len > 0)
		memcpy(out->bytes + out->len, bytes.bytes, bytes.len);
	out->len += bytes.len;
}

static void put_line(struct buf *out, struct span name, struct span value)
{
	put_bytes(out, name);
	put_bytes(out, value);
	put_bytes(out, SPAN(END));
}

static bool is_line_end(char byte)
{
	return byte == '\r' || byte == '\n';
}

/* Copies the line that begins at `*from` to `*to`, which has room for WORD more
 * bytes, and steps over its end (CR LF, CR or LF). Returns false, with `*from`
 * at `end`, if the line has no end: it is the last. */
static bool put_line_of_data(char **to, const char **from, const char *end)
{
	const char *at = *from;
	char *out = *to;
	uint64_t marks = 0;

	while (marks == 0 && end - at >= WORD && !is_line_end(*at)) {
		uint64_t word = word_at(at);
		marks = marks_of(word, '\r') | marks_of(word, '\n');
		size_t len = marks == 0 ? WORD
					: (size_t)__builtin_ctzll(marks) / WORD;
		memcpy(out, at, WORD);
		out += len;
		at += len;
	}
	while (at < end && !is_line_end(*at))
		*out++ = *at++;
	*to = out;
	*from = at;
	if (at == end)
		return false;
	*from += at[0] == '\r' && end - at > 1 && at[1] == '\n' ? 2 : 1;
	return true;
}

/* There is room for sse_data_len() and WORD more. */
static void put_data(struct buf *out, struct span data)
{
	const char *from = data.bytes;
	char *to = out->bytes + out->len;
	bool is_more = true;

	while (is_more) {
		memcpy(to, SSE_DATA, sizeof SSE_DATA - 1);
		to += sizeof SSE_DATA - 1;
		is_more = data.len > 0 &&
			  put_line_of_data(&to, &from, data.bytes + data.len);
		*to++ = END[0];
	}
	*to++ = END[0];
	out->len = (size_t)(to - out->bytes);
}

int sse_write_data(struct buf *out, struct span data)
{
	if (buf_reserve(out, sse_data_len(data) + WORD) != 0)
		return -ENOMEM;
	put_data(out, data);
	return 0;
}

int sse_write_id(struct buf *out, struct span id)
{
	if (buf_reserve(out, sizeof ID - 1 + id.len + sizeof END - 1) != 0)
		return -ENOMEM;
	put_line(out, SPAN(ID), id);
	return 0;
}

int sse_write_type(struct buf *out, struct span type)
{
	if (buf_reserve(out, sizeof EVENT - 1 + type.len + sizeof END - 1) != 0)
		return -ENOMEM;
	put_line(out, SPAN(EVENT), type);
	return 0;
}

int sse_check_type(struct span type, const char **wrong)
{
	if (type.len > SSE_TYPE_MAX_BYTES)
		return refuse(wrong, "`event` has more than 128 bytes");
	for (size_t i = 0; i < type.len; i++)
		if (type.bytes[i] == '\r' || type.bytes[i] == '\n' ||
		    type.bytes[i] == '\0')
			return refuse(wrong,
				      "`event` has a line end or U+0000");
	if (span_equal(type, SPAN(SSE_RESET)) ||
	    span_equal(type, SPAN(SSE_CLOSE)))
		return refuse(wrong, "`event` must not be `reset` or `close`, "
				     "which are the server's");
	return 0;
}

int sse_write_event(struct buf *out, struct span type, struct span data)
{
	size_t line = sizeof EVENT - 1 + type.len + sizeof END - 1;

	if (buf_reserve(out, line + sse_data_len(data) + WORD) != 0)
		return -ENOMEM;
	put_line(out, SPAN(EVENT), type);
	put_data(out, data);
	return 0;
}

int sse_write_retry(struct buf *out, unsigned retry_ms)
{
	char line[RETRY_MAX];
	int len = snprintf(line, sizeof line, "retry: %u\n", retry_ms);

	return buf_append(out, line, (size_t)len);
}
