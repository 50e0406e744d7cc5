/* fuzz_http.c - fuzzes the reading of requests.
 *
 * The input is what a client sends. It is read whole, byte by byte, and in
 * pieces whose lengths are taken from the input itself, from its end: each must
 * tell the same story, within the limits of http.h. */
#include "codec/http/http.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "base/check.h"

/* Byte by byte through a long input takes too long. */
#define LONG_BYTES 65536

/* Of short inputs and of long ones. */
static size_t content_max_bytes;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum cut {
	WHOLE,
	BYTES,
	FROM_INPUT,
};

/* --- the story ------------------------------------------------------------ */

static void add(struct buf *story, const void *bytes, size_t len)
{
	CHECK(buf_append(story, bytes, len) == 0);
}

static void add_number(struct buf *story, uint64_t number)
{
	add(story, &number, sizeof number);
}

static void add_span(struct buf *story, struct span s)
{
	add_number(story, s.bytes == NULL ? UINT64_MAX : s.len);
	add(story, s.bytes, s.len);
}

static void check_field(struct span value)
{
	if (value.len == 0)
		return;
	CHECK(strchr(" \t", value.bytes[0]) == NULL);
	CHECK(strchr(" \t", value.bytes[value.len - 1]) == NULL);
	for (size_t i = 0; i < value.len; i++)
		CHECK(value.bytes[i] != '\0' && value.bytes[i] != '\r' &&
		      value.bytes[i] != '\n');
}

static void check_request(const struct http_request *r)
{
	size_t fields_len = 0;

	CHECK(r->path.len > 0);
	CHECK(r->path.bytes[0] == '/' || span_equal(r->path, SPAN("*")) ||
	      r->method == HTTP_METHOD_CONNECT);
	CHECK(r->path.len + r->query.len <= HTTP_TARGET_MAX_BYTES);
	CHECK(r->minor_version <= 1);
	CHECK(r->minor_version == 0 || r->fields[HTTP_HOST].bytes != NULL);
	CHECK(!r->is_chunked ||
	      (!r->has_content_length && r->content_length == 0 &&
	       r->minor_version == 1));
	CHECK(r->content_length <= content_max_bytes);
	CHECK(r->content.len <= content_max_bytes);
	for (unsigned i = 0; i < HTTP_FIELD_COUNT; i++) {
		check_field(r->fields[i]);
		fields_len += r->fields[i].len;
	}
	CHECK(fields_len <= HTTP_HEAD_MAX_BYTES + HTTP_EVENT_ID_MAX_BYTES);
}

static void add_request(struct buf *story, const struct http_request *r)
{
	check_request(r);
	add_number(story, r->method);
	add_number(story, r->minor_version);
	add_number(story, r->has_content_length);
	add_number(story, r->content_length);
	add_number(story, r->is_chunked);
	add_number(story, r->expects_continue);
	add_number(story, r->keep_alive);
	add_span(story, r->path);
	add_span(story, r->query);
	for (unsigned i = 0; i < HTTP_FIELD_COUNT; i++)
		add_span(story, r->fields[i]);
	add_number(story, r->content.len);
	add(story, r->content.bytes, r->content.len);
}

static void add_event(struct buf *story, const struct http *h,
		      enum http_event event, size_t at)
{
	const struct http_request *r = http_request(h);

	add_number(story, event);
	if (event == HTTP_BAD) {
		CHECK(http_status(h) >= 400);
		CHECK(http_reason_phrase(http_status(h)) != NULL);
		add_number(story, (uint64_t)http_status(h));
		add_span(story, span_of(http_reason(h)));
		return;
	}
	add_number(story, at);
	add_request(story, r);
	CHECK(http_is_in_request(h) == (event == HTTP_HEAD));
	if (event == HTTP_HEAD)
		CHECK(r->content.len == 0);
	else if (!r->is_chunked)
		CHECK(r->content.len == r->content_length);
}

/* --- reading -------------------------------------------------------------- */

/* Reads one piece, alone in memory of its own, which starts at byte `start` of
 * the input. Returns false once the request is bad. */
static bool read_piece(struct http *h, const uint8_t *data, size_t len,
		       size_t start, struct buf *story)
{
	char *piece = malloc(len);
	enum http_event event = HTTP_MORE;
	size_t at = 0;

	CHECK(piece != NULL);
	memcpy(piece, data, len);
	while (at < len || event == HTTP_HEAD) {
		size_t used;

		event = http_read(h, piece + at, len - at, &used);
		CHECK(used <= len - at);
		at += used;
		if (event == HTTP_MORE)
			break;
		add_event(story, h, event, start + at);
		if (event == HTTP_BAD)
			break;
	}
	CHECK(event != HTTP_MORE || at == len);
	free(piece);
	return event != HTTP_BAD;
}

static size_t piece_len(enum cut cut, const uint8_t *data, size_t size,
			size_t at, size_t piece)
{
	size_t len = 1;

	if (cut == WHOLE)
		len = size;
	else if (cut == FROM_INPUT)
		len = 1 + data[size - 1 - piece % size];
	return len < size - at ? len : size - at;
}

/* Returns whether no request was bad. */
static bool read_all(struct http *h, const uint8_t *data, size_t size,
		     enum cut cut, struct buf *story)
{
	size_t at = 0;

	for (size_t piece = 0; at < size; piece++) {
		size_t len = piece_len(cut, data, size, at, piece);

		bool is_good = read_piece(h, data + at, len, at, story);
		check_field(http_origin_so_far(h));
		if (!is_good)
			return false;
		at += len;
	}
	return true;
}

/* Values reach these only from a request, but they must bear anything. */
static void read_values(const uint8_t *data, size_t size)
{
	struct span value = {(const char *)data, size};
	struct buf memory = {0};
	struct span username;
	struct span password;

	(void)http_list_has(value, SPAN("close"));
	if (http_list_has_exactly(value, SPAN("close")))
		CHECK(http_list_has(value, SPAN("CLOSE")));
	if (http_is_media_type(value, SPAN("application/json")))
		CHECK(http_is_json(value));
	(void)http_is_json(value);
	(void)http_is_media_type(value, SPAN("text/plain"));
	CHECK(http_bearer_token(value).len <= HTTP_BEARER_MAX_BYTES);
	if (http_basic_credentials(value, &memory, &username, &password) == 0)
		CHECK(username.len + 1 + password.len == memory.len);
	buf_fini(&memory);
	alloc_fail_at(1);
	(void)http_basic_credentials(value, &memory, &username, &password);
	alloc_end();
	buf_fini(&memory);
}

/* The parser was another connection's, which ended anywhere. */
static void read_again(struct http *h, const uint8_t *data, size_t size,
		       enum cut cut, const struct buf *expected)
{
	struct buf story = {0};

	http_reset(h);
	CHECK(!http_is_in_request(h));
	read_all(h, data, size, cut, &story);
	CHECK(span_equal((struct span){expected->bytes, expected->len},
			 (struct span){story.bytes, story.len}));
	buf_fini(&story);
}

/* Whichever allocation fails, it is 500, or nobody needed it. */
static void read_without_memory(const uint8_t *data, size_t size)
{
	for (unsigned nth = 1; nth < 40; nth++) {
		struct http_request const *r;
		char *copy = malloc(size + 1);
		size_t at = 0;

		CHECK(copy != NULL);
		memcpy(copy, data, size);
		alloc_fail_at(nth);
		struct http *h = http_new(content_max_bytes);
		enum http_event event = HTTP_MORE;
		while (h != NULL && event != HTTP_BAD &&
		       (at < size || event == HTTP_HEAD)) {
			size_t used;

			event = http_read(h, copy + at, size - at, &used);
			at += used;
			if (event == HTTP_MORE)
				break;
			r = http_request(h);
			if (event == HTTP_REQUEST && r->content.len > 100)
				http_release_content(h);
		}
		bool has_failed = alloc_end();
		CHECK(h != NULL || has_failed);
		http_free(h);
		free(copy);
		if (!has_failed)
			return;
	}
}

/* Content that nobody wants is checked all the same. */
static void read_discarding(const uint8_t *data, size_t size)
{
	struct http *h = http_new(content_max_bytes);
	enum http_event event = HTTP_MORE;
	size_t at = 0;

	CHECK(h != NULL);
	while (event != HTTP_BAD && (at < size || event == HTTP_HEAD)) {
		size_t used;

		event = http_read(h, (const char *)data + at, size - at, &used);
		at += used;
		if (event == HTTP_MORE)
			break;
		if (event == HTTP_HEAD)
			http_discard_content(h);
		if (event == HTTP_REQUEST)
			CHECK(http_request(h)->content.len == 0);
		CHECK(http_memory(h) > 0);
	}
	http_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = {0};

	content_max_bytes = size < LONG_BYTES ? 2000 : 2 << 20;
	struct http *h = http_new(content_max_bytes);
	CHECK(h != NULL);
	read_all(h, data, size, WHOLE, &whole);
	for (enum cut cut = BYTES; cut <= FROM_INPUT; cut++)
		if (cut != BYTES || size < LONG_BYTES)
			read_again(h, data, size, cut, &whole);
	struct buf half = {0};
	http_reset(h);
	read_all(h, data, size / 2, WHOLE, &half);
	read_again(h, data, size, WHOLE, &whole);
	buf_fini(&half);
	http_free(h);
	buf_fini(&whole);
	if (size < LONG_BYTES)
		read_without_memory(data, size);
	read_discarding(data, size);
	read_values(data, size);
	return 0;
}
