/* sse.c - see sse.h. */
#include "codec/sse.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#define ID    "id: "
#define EVENT "event: "
#define END   "\n" /* of a line, and of a block */

/* Bytes of a retry line: its letters, a number of 32 bits, a NUL. */
#define RETRY_MAX (sizeof "retry: 4294967295\n")

/* Takes the next line off `rest`, without its end (CR LF, CR or LF). Returns
 * false at the end; what follows the last line end is a line, too, if an empty
 * one, so that a client's data ends as ours does. `rest` is absent then. */
static bool next_line(struct span *rest, struct span *line)
{
	size_t len = 0;

	if (rest->bytes == NULL)
		return false;
	while (len < rest->len && rest->bytes[len] != '\r' &&
	       rest->bytes[len] != '\n')
		len++;
	*line = (struct span){rest->bytes, len};
	if (len == rest->len) {
		rest->bytes = NULL;
		return true;
	}
	size_t end = rest->bytes[len] == '\r' && len + 1 < rest->len &&
				     rest->bytes[len + 1] == '\n'
			     ? 2
			     : 1;
	rest->bytes += len + end;
	rest->len -= len + end;
	return true;
}

/* Absent data is empty data. */
static struct span present(struct span data)
{
	return data.bytes == NULL ? SPAN("") : data;
}

size_t sse_data_len(struct span data)
{
	struct span rest = present(data);
	struct span line;
	size_t len = sizeof END - 1;

	while (next_line(&rest, &line))
		len += sizeof SSE_DATA - 1 + line.len + sizeof END - 1;
	return len;
}

/* To a buffer that has the room. */
static void put(struct buf *out, struct span bytes)
{
	if (bytes.len > 0)
		memcpy(out->bytes + out->len, bytes.bytes, bytes.len);
	out->len += bytes.len;
}

static void put_line(struct buf *out, struct span name, struct span value)
{
	put(out, name);
	put(out, value);
	put(out, SPAN(END));
}

static void put_data(struct buf *out, struct span data)
{
	struct span rest = present(data);
	struct span line;

	while (next_line(&rest, &line))
		put_line(out, SPAN(SSE_DATA), line);
	put(out, SPAN(END));
}

int sse_write_data(struct buf *out, struct span data)
{
	if (buf_reserve(out, sse_data_len(data)) != 0)
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

const char *sse_refuse_type(struct span type)
{
	if (type.len > SSE_TYPE_MAX_BYTES)
		return "`event` has more than 128 bytes";
	for (size_t i = 0; i < type.len; i++)
		if (type.bytes[i] == '\r' || type.bytes[i] == '\n' ||
		    type.bytes[i] == '\0')
			return "`event` has a line end or U+0000";
	if (span_equal(type, SPAN(SSE_RESET)) ||
	    span_equal(type, SPAN(SSE_CLOSE)))
		return "`event` must not be `reset` or `close`, which are the "
		       "server's";
	return NULL;
}

int sse_write_event(struct buf *out, struct span type, struct span data)
{
	size_t line = sizeof EVENT - 1 + type.len + sizeof END - 1;

	if (buf_reserve(out, line + sse_data_len(data)) != 0)
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
