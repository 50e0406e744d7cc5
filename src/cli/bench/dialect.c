/* dialect.c - isimud's protocols, from a client that checks what it gets. */
#include "cli/bench/dialect.h"

#include <stdio.h>
#include <string.h>

#include "codec/http/http.h"
#include "codec/json/json.h"
#include "codec/websocket.h"

#define BINARY_FRAME 2 /* RFC 6455 5.2 */

void dialect_name_topic(const struct dialect_names *names, unsigned topic,
			char out[static DIALECT_TOPIC_MAX])
{
	snprintf(out, DIALECT_TOPIC_MAX, "%s%0*u", names->prefix,
		 DIALECT_TOPIC_DIGITS, topic);
}

int dialect_expand(struct buf *out, const char *text,
		   const struct dialect_names *names, unsigned topic)
{
	int rv = 0;

	while (rv == 0 && *text != '\0') {
		char name[DIALECT_TOPIC_MAX];
		size_t plain = strcspn(text, "%");
		rv = buf_append(out, text, plain);
		text += plain;
		if (rv != 0 || *text == '\0')
			break;
		if (text[1] == 't') {
			dialect_name_topic(names, topic, name);
			rv = buf_append_text(out, name);
		} else if (text[1] == 'p') {
			rv = http_encode(names->publisher, out);
		} else if (text[1] == 'q') {
			rv = json_write_string(out, names->publisher);
		} else {
			rv = buf_append(out, text, 1);
			text++;
			continue;
		}
		text += 2;
	}
	return rv;
}

int dialect_append_frame(struct buf *out, struct span bytes)
{
	static const uint8_t no_mask[4];

	return websocket_append_masked(out, BINARY_FRAME, bytes, no_mask);
}

/* Appends what was written to `bytes` with the result `rv`, and frees it. */
static int append_written(struct buf *out, struct buf *bytes, int rv)
{
	if (rv == 0)
		rv = dialect_append_frame(
			out, (struct span){bytes->bytes, bytes->len});
	buf_fini(bytes);
	return rv;
}

int dialect_append_hello(const struct dialect *d, struct buf *out,
			 const char *topic, bool is_publisher)
{
	struct buf hello = {0};
	int rv = d->write_hello(&hello, topic, is_publisher);

	return append_written(out, &hello, rv);
}

int dialect_append_ping(const struct dialect *d, struct buf *out)
{
	struct buf ping = {0};
	int rv = d->write_ping(&ping);

	return append_written(out, &ping, rv);
}

void dialect_reader_fini(struct dialect_reader *r)
{
	buf_fini(&r->rest);
}

void dialect_reader_reset(struct dialect_reader *r)
{
	r->rest.len = 0;
	r->sequence = 0;
}

void dialect_read_rest(struct dialect_reader *r, struct span bytes,
		       size_t (*take)(struct dialect_reader *r,
				      struct span bytes))
{
	bool is_joined = r->rest.len > 0;
	struct span all = bytes;

	if (is_joined) {
		if (buf_append(&r->rest, bytes.bytes, bytes.len) != 0) {
			r->on_damage(r->user);
			return;
		}
		all = (struct span){r->rest.bytes, r->rest.len};
	}
	size_t used = take(r, all);
	if (is_joined)
		buf_consume(&r->rest, used);
	else if (used < all.len &&
		 buf_append(&r->rest, all.bytes + used, all.len - used) != 0)
		r->on_damage(r->user);
}

/* --- raw ------------------------------------------------------------------
 */

static void read_raw_message(struct dialect_reader *r, struct span message)
{
	r->on_payload(r->user, message);
}

/* --- isimud.v1 ------------------------------------------------------------
 */

#define EPOCH_LEN (sizeof "0123456789abcdef-" - 1)

static bool starts_with(struct span text, struct span start)
{
	return text.len >= start.len &&
	       memcmp(text.bytes, start.bytes, start.len) == 0;
}

/* Reads digits off the front of `text`. */
static uint64_t take_sequence(struct span *text)
{
	uint64_t number = 0;

	while (text->len > 0 && text->bytes[0] >= '0' &&
	       text->bytes[0] <= '9') {
		number = number * 10 + (uint64_t)(text->bytes[0] - '0');
		text->bytes++;
		text->len--;
	}
	return number;
}

/* The envelope is checked to the byte, and that its number grows. */
static void read_v1(struct dialect_reader *r, struct span message)
{
	static const struct span data = SPAN("\",\"data\":\"");
	static const struct span subscribed = SPAN("{\"type\":\"subscribed\"");
	size_t before = r->head.len + EPOCH_LEN;

	if (message.len < before || !starts_with(message, r->head)) {
		if (!starts_with(message, subscribed))
			r->on_damage(r->user);
		return;
	}
	struct span rest = {message.bytes + before, message.len - before};
	uint64_t sequence = take_sequence(&rest);
	if (!starts_with(rest, data) || rest.len < data.len + 2 ||
	    memcmp(rest.bytes + rest.len - 2, "\"}", 2) != 0 ||
	    sequence <= r->sequence) {
		r->on_damage(r->user);
		return;
	}
	r->sequence = sequence;
	r->on_payload(r->user, (struct span){rest.bytes + data.len,
					     rest.len - data.len - 2});
}

/* --- event streams --------------------------------------------------------
 */

/* The value of a line "NAME: VALUE" of an event. */
static bool is_field(struct span line, const char *name, struct span *value)
{
	size_t len = strlen(name);

	if (line.len <= len || memcmp(line.bytes, name, len) != 0 ||
	    line.bytes[len] != ':')
		return false;
	len += line.len > len + 1 && line.bytes[len + 1] == ' ' ? 2 : 1;
	*value = (struct span){line.bytes + len, line.len - len};
	return true;
}

/* An event, as far as its lines have come. */
struct event {
	struct span data;
	bool is_damaged;
};

/* One with a type of its own is the server's way to tell of a loss or an end,
 * and no payload is more than one line. */
static void take_event_line(struct event *e, struct span line)
{
	struct span value;

	if (is_field(line, "data", &value)) {
		e->is_damaged |= e->data.bytes != NULL;
		e->data = value;
	} else if (is_field(line, "event", &value)) {
		e->is_damaged |= !span_equal(value, SPAN("message"));
	}
}

static void finish_event(struct dialect_reader *r, const struct event *e)
{
	if (e->is_damaged)
		r->on_damage(r->user);
	else if (e->data.bytes != NULL)
		r->on_payload(r->user, e->data);
}

/* Returns how many bytes whole events have, their empty lines included. */
static size_t take_events(struct dialect_reader *r, struct span bytes)
{
	struct event event = {0};
	size_t used = 0;
	size_t at = 0;
	const char *end;

	while (at < bytes.len &&
	       (end = memchr(bytes.bytes + at, '\n', bytes.len - at)) != NULL) {
		struct span line = {bytes.bytes + at,
				    (size_t)(end - bytes.bytes) - at};
		at += line.len + 1;
		if (line.len > 0 && line.bytes[line.len - 1] == '\r')
			line.len--;
		if (line.len > 0) {
			take_event_line(&event, line);
			continue;
		}
		finish_event(r, &event);
		event = (struct event){0};
		used = at;
	}
	return used;
}

void dialect_read_events(struct dialect_reader *r, struct span bytes)
{
	dialect_read_rest(r, bytes, take_events);
}

/* --- all of them ----------------------------------------------------------
 */

#define ISIMUD_PUBLISH                                                         \
	.publish = "/pub", .fields = "Content-Type: application/json\r\n",     \
	.token_name = "Authorization: Bearer ", .needs_password = true,        \
	.before = "{\"topic\":\"%t\",\"data\":\"", .after = "\"}"

const struct dialect dialects[] = {
	{.name = "raw",
	 .subscribe = "/sub",
	 .hello = {"{\"publisher\":%q,\"topic\":\"%t\"}"},
	 .read = read_raw_message,
	 ISIMUD_PUBLISH},
	{.name = "v1",
	 .protocol = "isimud.v1",
	 .subscribe = "/sub?publisher=%p&topic=%t",
	 .head = "{\"type\":\"message\",\"publisher\":%q,\"topic\":\"%t\","
		 "\"id\":\"",
	 .read = read_v1,
	 ISIMUD_PUBLISH},
	{.name = "sse",
	 .is_stream = true,
	 .subscribe = "/sub?publisher=%p&topic=%t",
	 .read = dialect_read_events,
	 ISIMUD_PUBLISH},
	{.name = NULL},
};
