/* fuzz_v1_codec.c - feeds any text to src/codec/v1_codec.c as a command, checks
 * what must always hold, and has what was read written: that is JSON, and says
 * the same. */
#include "codec/sse.h"
#include "codec/traceparent.h"
#include "codec/v1_codec.h"

#include <stdint.h>
#include <string.h>

#include "alloc.h"
#include "base/check.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_error(const struct json_error *error, enum v1_error code)
{
	CHECK(code == V1_bad_json || code == V1_bad_command ||
	      code == V1_unknown_type);
	CHECK(error->text[0] != '\0');
	for (size_t i = 0; error->text[i] != '\0'; i++) {
		CHECK(i + 1 < JSON_ERROR_MAX);
		CHECK(error->text[i] >= ' ' && error->text[i] <= '~');
	}
}

/* Absent, if it may be; or UTF-8 that lies in the memory. */
static void check_span(struct span span, bool is_required,
		       const struct buf *memory)
{
	CHECK(span.bytes != NULL || !is_required);
	if (span.bytes == NULL)
		return;
	CHECK(span.bytes >= memory->bytes);
	CHECK(span.bytes + span.len <= memory->bytes + memory->len);
	CHECK(utf8_is_valid(span));
}

static void check_ref(const struct v1_command *c)
{
	struct json_error error;

	check_span(c->ref, false, &c->memory);
	if (c->ref.bytes == NULL)
		return;
	CHECK(c->ref.len <= V1_REF_MAX_BYTES);
	CHECK(strchr("\"-0123456789", c->ref.bytes[0]) != NULL);
	CHECK(json_check(c->ref, &error) == 0);
}

static void check_command(const struct v1_command *c)
{
	bool subscribes = c->type == V1_SUBSCRIBE;
	bool publishes = c->type == V1_PUBLISH;
	struct json_error error;

	check_span(c->publisher, subscribes || c->type == V1_UNSUBSCRIBE,
		   &c->memory);
	check_span(c->topic, c->type != V1_PING, &c->memory);
	check_span(c->since, false, &c->memory);
	check_span(c->data.text, publishes, &c->memory);
	CHECK(subscribes || (c->since.bytes == NULL && !c->drops));
	CHECK(publishes || (c->data.text.bytes == NULL && !c->data.is_json));
	check_span(c->data.event, false, &c->memory);
	CHECK(c->data.event.bytes == NULL ||
	      (publishes && c->data.event.len > 0 &&
	       sse_check_type(c->data.event, NULL) == 0));
	CHECK(c->data.traceparent.bytes == NULL ||
	      (publishes && traceparent_parse(c->data.traceparent).bytes ==
				    c->data.traceparent.bytes));
	if (c->data.is_json)
		CHECK(json_check(c->data.text, &error) == 0);
}

/* Reads `out` for the member `name`, and empties it. */
static void check_written(struct buf *out, const char *name,
			  struct span expected)
{
	struct json_member member = {name, .kinds = JSON_ANY};
	struct span text = {out->bytes, out->len};
	struct buf memory = {0};
	struct json_error error;

	CHECK(json_check(text, &error) == 0);
	/* It may have more values than the command, and so too many. */
	if (json_read_members(text, &member, 1, &memory, &error) == 0)
		CHECK(span_equal(member.value, expected));
	buf_fini(&memory);
	out->len = 0;
}

/* A ref is what it was, with its escapes. */
static void check_pong(const struct v1_command *c)
{
	struct json_member ref = {"ref", .kinds = JSON_STRING | JSON_NUMBER};
	struct buf memory = {0};
	struct buf out = {0};
	struct json_error error;

	CHECK(v1_write_pong(&out, c->ref) == 0);
	CHECK(json_read_members((struct span){out.bytes, out.len}, &ref, 1,
				&memory, &error) == 0);
	CHECK(span_equal(ref.raw, c->ref));
	buf_fini(&memory);
	buf_fini(&out);
}

static void check_writing(const struct v1_command *c)
{
	struct buf out = {0};

	CHECK(v1_write_subscribed(&out, c->ref, c->publisher, c->topic,
				  c->since, V1_RESUMED) == 0);
	check_written(&out, "topic", c->topic);
	CHECK(v1_write_unsubscribed(&out, c->ref, c->publisher, c->topic) == 0);
	check_written(&out, "publisher", c->publisher);
	CHECK(v1_write_gap(&out, c->publisher, c->topic, c->since,
			   SPAN("0-1")) == 0);
	check_written(&out, "from", c->since);
	CHECK(v1_write_reset(&out, c->publisher, c->topic, c->since) == 0);
	check_written(&out, "id", c->since);
	CHECK(v1_write_published(&out, c->ref, c->since, 1) == 0);
	check_written(&out, "subscribers", SPAN("1"));
	CHECK(v1_write_message(&out, c->publisher, c->topic, c->since,
			       c->data) == 0);
	check_written(&out, "data", c->data.text);
	check_pong(c);
	buf_fini(&out);
}

static void check_refusal(const struct v1_command *c, enum v1_error code,
			  const struct json_error *error)
{
	struct buf out = {0};

	CHECK(v1_write_error(&out, c->ref, code, error->text) == 0);
	check_written(&out, "message", span_of(error->text));
	buf_fini(&out);
}

/* Whichever allocation fails, it is told, and nothing half-written is left. */
static void read_without_memory(struct span text)
{
	bool has_failed = true;

	for (unsigned nth = 1; has_failed && nth < 20; nth++) {
		struct v1_command c = {0};
		struct buf out = {0};
		enum v1_error code;
		struct json_error error;

		alloc_fail_at(nth);
		int rv = v1_read(&c, text, &code, &error);
		if (rv == 0)
			rv = v1_write_subscribed(&out, c.ref, c.publisher,
						 c.topic, c.since,
						 V1_NOT_RESUMED);
		has_failed = alloc_end();
		CHECK(rv == 0 || out.len == 0);
		if (rv != 0 && !has_failed)
			check_error(&error, code);
		buf_fini(&out);
		buf_fini(&c.memory);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct span text = {(const char *)bytes, len};
	struct v1_command command = {0};
	enum v1_error code;
	struct json_error error;

	for (int i = 0; i < 2; i++) { /* the memory is used again */
		int rv = v1_read(&command, text, &code, &error);
		check_ref(&command);
		if (rv == 0) {
			check_command(&command);
			check_writing(&command);
		} else {
			check_error(&error, code);
			check_refusal(&command, code, &error);
		}
	}
	buf_fini(&command.memory);
	read_without_memory(text);
	return 0;
}
