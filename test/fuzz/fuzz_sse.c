/* fuzz_sse.c - writes any data as events and reads them as a client does
 * (WHATWG HTML 9.2.5 and 9.2.6): what comes out is the data, its line ends LF.
 * The same input is read as a cursor: what is accepted is written the same.
 *
 * The input: a byte that says how many parts a cursor has, then the data. */
#include "codec/cursor.h"
#include "codec/sse.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "base/check.h"

#define PARTS_MAX 4
#define EVENTS    2

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What a client knows while it reads a stream, and of the events so far. */
struct client {
	struct buf data;
	struct buf type;
	struct buf id;
	struct buf dispatched[EVENTS]; /* the data of each event */
	struct buf types[EVENTS];
	size_t events;
	unsigned retry;
};

static void append(struct buf *b, struct span bytes)
{
	CHECK(buf_append(b, bytes.bytes, bytes.len) == 0);
}

static struct span span_of_buf(const struct buf *b)
{
	return (struct span){b->bytes, b->len};
}

/* 9.2.6, "dispatch the event". */
static void dispatch(struct client *c)
{
	if (c->data.len > 0) {
		CHECK(c->events < EVENTS);
		c->data.len--; /* the last LF */
		append(&c->dispatched[c->events], span_of_buf(&c->data));
		append(&c->types[c->events], span_of_buf(&c->type));
		c->events++;
	}
	c->data.len = 0;
	c->type.len = 0;
}

/* 9.2.6, "process the field". */
static void process(struct client *c, struct span name, struct span value)
{
	if (span_equal(name, SPAN("event"))) {
		c->type.len = 0;
		append(&c->type, value);
	} else if (span_equal(name, SPAN("data"))) {
		append(&c->data, value);
		append(&c->data, SPAN("\n"));
	} else if (span_equal(name, SPAN("id"))) {
		CHECK(memchr(value.bytes, 0, value.len) == NULL);
		c->id.len = 0;
		append(&c->id, value);
	} else {
		CHECK(span_equal(name, SPAN("retry")));
		c->retry = (unsigned)strtoul(value.bytes, NULL, 10);
	}
}

static void read_line(struct client *c, struct span line)
{
	if (line.len == 0) {
		dispatch(c);
		return;
	}
	const char *colon = memchr(line.bytes, ':', line.len);
	CHECK(colon != NULL); /* we write no field without */
	if (colon == line.bytes)
		return; /* a comment */
	struct span name = {line.bytes, (size_t)(colon - line.bytes)};
	struct span value = {colon + 1, line.len - name.len - 1};
	if (value.len > 0 && value.bytes[0] == ' ') {
		value.bytes++;
		value.len--;
	}
	process(c, name, value);
}

/* 9.2.5: a line ends in CR LF, CR or LF. The whole stream is there, and ends in
 * a line end. */
static void read_stream(struct client *c, struct span text)
{
	size_t start = 0;

	for (size_t i = 0; i < text.len; i++) {
		char byte = text.bytes[i];
		if (byte != '\r' && byte != '\n')
			continue;
		read_line(c, (struct span){text.bytes + start, i - start});
		if (byte == '\r' && i + 1 < text.len &&
		    text.bytes[i + 1] == '\n')
			i++;
		start = i + 1;
	}
	CHECK(start == text.len);
}

static void append_normalised(struct buf *out, struct span data)
{
	for (size_t i = 0; i < data.len; i++) {
		if (data.bytes[i] != '\r')
			append(out, (struct span){data.bytes + i, 1});
		else if (i + 1 == data.len || data.bytes[i + 1] != '\n')
			append(out, SPAN("\n"));
	}
}

static void fini(struct client *c)
{
	buf_fini(&c->data);
	buf_fini(&c->type);
	buf_fini(&c->id);
	for (unsigned i = 0; i < EVENTS; i++) {
		buf_fini(&c->dispatched[i]);
		buf_fini(&c->types[i]);
	}
}

static void check_events(struct span data)
{
	struct client c = {0};
	struct buf expected = {0};
	struct buf out = {0};

	append(&out, SPAN(SSE_KEEP_ALIVE));
	CHECK(sse_write_retry(&out, 1500) == 0);
	CHECK(sse_write_id(&out, SPAN("e-1")) == 0);
	size_t before = out.len;
	CHECK(sse_write_data(&out, data) == 0);
	CHECK(out.len == before + sse_data_len(data));
	CHECK(sse_write_event(&out, SPAN("close"), data) == 0);
	read_stream(&c, span_of_buf(&out));
	append_normalised(&expected, data);
	CHECK(c.retry == 1500);
	CHECK(c.events == EVENTS);
	CHECK(span_equal(span_of_buf(&c.id), SPAN("e-1")));
	CHECK(span_equal(span_of_buf(&c.types[0]), SPAN("")));
	CHECK(span_equal(span_of_buf(&c.types[1]), SPAN("close")));
	for (unsigned i = 0; i < EVENTS; i++)
		CHECK(span_equal(span_of_buf(&c.dispatched[i]),
				 span_of_buf(&expected)));
	fini(&c);
	buf_fini(&expected);
	buf_fini(&out);
}

/* In memory of its own, so that reading behind it shows. */
static void check_cursor(struct span text, unsigned parts)
{
	uint64_t numbers[PARTS_MAX];
	uint64_t epoch;
	char again[CURSOR_MAX + PARTS_MAX * CURSOR_PART_MAX];
	char *copy = malloc(text.len == 0 ? 1 : text.len);

	CHECK(copy != NULL);
	if (text.len > 0)
		memcpy(copy, text.bytes, text.len);
	uint32_t last;
	CHECK(cursor_parse_last((struct span){copy, text.len}, &last) <= 0);
	CHECK(cursor_parse_last(SPAN("64"), &last) == 0 && last == 64);
	CHECK(cursor_parse_last(SPAN("65537"), &last) != 0);
	int rv = cursor_parse((struct span){copy, text.len}, parts, &epoch,
			      numbers);
	CHECK(rv == 0 || rv == -EINVAL);
	if (rv == 0) {
		size_t len = cursor_write(again, epoch, numbers[0]);
		for (unsigned i = 1; i < parts; i++)
			len += cursor_write_part(again + len, numbers[i]);
		CHECK(span_equal((struct span){again, len}, text));
	}
	free(copy);
}

/* A type that is taken is one line, which a client reads as it is. */
static void check_type(struct span type)
{
	struct buf out = {0};
	struct client c = {0};

	if (sse_check_type(type, NULL) != 0)
		return;
	CHECK(memchr(type.bytes, '\n', type.len) == NULL);
	CHECK(memchr(type.bytes, '\r', type.len) == NULL);
	CHECK(sse_write_type(&out, type) == 0);
	CHECK(sse_write_data(&out, SPAN("x")) == 0);
	read_stream(&c, span_of_buf(&out));
	CHECK(c.events == 1);
	CHECK(span_equal(span_of_buf(&c.types[0]), type));
	fini(&c);
	buf_fini(&out);
}

static void write_without_memory(struct span data)
{
	int (*const writers[])(struct buf *, struct span) = {
		sse_write_data, sse_write_id, sse_write_type};

	for (unsigned i = 0; i < 3; i++) {
		struct buf out = {0};

		alloc_fail_at(1);
		int rv = writers[i](&out, data);
		CHECK(alloc_end() == (rv != 0) && (rv == 0 || out.len == 0));
		buf_fini(&out);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	if (len == 0)
		return 0;
	struct span rest = {(const char *)bytes + 1, len - 1};
	check_events(rest);
	check_type(rest);
	write_without_memory(rest);
	check_cursor(rest, 1 + bytes[0] % PARTS_MAX);
	return 0;
}
