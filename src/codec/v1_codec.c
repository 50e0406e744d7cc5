/* v1_codec.c - the isimud.v1 subprotocol: commands in, everything else out. */
#include "codec/v1_codec.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/name.h"
#include "codec/cursor.h"
#include "codec/traceparent.h"

/* Bytes of an envelope beside what differs between messages, rounded up. */
#define MESSAGE_OVERHEAD 128

static const struct {
	const char *name;
	const char *text;
} errors[] = {
#define ERROR_ROW(name, text) {#name, text},
	V1_ERRORS(ERROR_ROW)
#undef ERROR_ROW
};

/* --- reading -------------------------------------------------------------- */

enum member {
	TYPE,
	REF,
	PUBLISHER,
	TOPIC,
	SINCE,
	LAST,
	SLOW,
	DATA,
	EVENT,
	TRACEPARENT,
	MEMBERS,
};

#define BIT(member) (1u << (member))

/* Not all members are strings. */
#define MAY_BE_ANYTHING (BIT(DATA) | BIT(LAST) | BIT(TRACEPARENT))

/* Which members a command must have, and which it may have, besides `type` and
 * `ref`. */
static const struct {
	const char *name;
	unsigned required;
	unsigned optional;
} commands[] = {
	[V1_SUBSCRIBE] = {"subscribe", BIT(PUBLISHER) | BIT(TOPIC),
			  BIT(SINCE) | BIT(LAST) | BIT(SLOW)},
	[V1_UNSUBSCRIBE] = {"unsubscribe", BIT(PUBLISHER) | BIT(TOPIC), 0},
	[V1_PUBLISH] = {"publish", BIT(TOPIC) | BIT(DATA),
			BIT(EVENT) | BIT(TRACEPARENT)},
	[V1_PING] = {"ping", 0, 0},
};

#define COMMANDS (sizeof(commands) / sizeof(*commands))

/* Returns error->status. */
__attribute__((format(printf, 2, 3))) static int refuse_command(
	struct json_error *error, const char *format, ...)
{
	va_list args;

	error->status = 422;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return error->status;
}

static int out_of_memory(enum v1_error *code, struct json_error *error)
{
	*code = V1_no_memory;
	refuse_command(error, "%s", errors[V1_no_memory].text);
	error->status = 500;
	return error->status;
}

/* Finds all members, of any kind: which of them must be strings depends on the
 * command, and members that the command does not use may be anything. */
static int find_members(struct json_member members[static MEMBERS],
			struct span text, struct buf *memory,
			enum v1_error *code, struct json_error *error)
{
	static const struct json_member all[MEMBERS] = {
		[TYPE] = {"type", .kinds = JSON_STRING, .is_required = true},
		[REF] = {"ref", .kinds = JSON_STRING | JSON_NUMBER},
		[PUBLISHER] = {"publisher", .kinds = JSON_ANY},
		[TOPIC] = {"topic", .kinds = JSON_ANY},
		[SINCE] = {"since", .kinds = JSON_ANY},
		[LAST] = {"last", .kinds = JSON_ANY},
		[SLOW] = {"slow", .kinds = JSON_ANY},
		[DATA] = {"data", .kinds = JSON_ANY},
		[EVENT] = {"event", .kinds = JSON_ANY},
		[TRACEPARENT] = {"traceparent", .kinds = JSON_ANY},
	};
	int status;

	memcpy(members, all, sizeof(all));
	status = json_read_members(text, members, MEMBERS, memory, error);
	if (status == 500)
		return out_of_memory(code, error);
	if (status == 400 && !error->is_too_deep)
		*code = V1_bad_json;
	return status;
}

/* Copies the ref behind the other values. v1_read() has made room, so that no
 * span moves. */
static int take_ref(struct v1_command *command, struct span raw,
		    struct json_error *error)
{
	struct buf *memory = &command->memory;

	if (raw.bytes == NULL)
		return 0;
	if (raw.len > V1_REF_MAX_BYTES)
		return refuse_command(error, "`ref` has more than %d bytes",
				      V1_REF_MAX_BYTES);
	CHECK(memory->cap - memory->len >= raw.len);
	command->ref = (struct span){memory->bytes + memory->len, raw.len};
	memcpy(memory->bytes + memory->len, raw.bytes, raw.len);
	memory->len += raw.len;
	return 0;
}

static int find_type(struct v1_command *command, struct span name,
		     enum v1_error *code, struct json_error *error)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		if (span_equal(span_of(commands[i].name), name)) {
			command->type = (enum v1_type)i;
			return 0;
		}
	}
	*code = V1_unknown_type;
	return refuse_command(error, "%s", errors[V1_unknown_type].text);
}

/* Checks the members that the command may have, and drops the others. */
static int check_members(struct json_member members[static MEMBERS],
			 enum v1_type type, struct json_error *error)
{
	unsigned required = commands[type].required;
	unsigned allowed = required | commands[type].optional;

	for (unsigned i = PUBLISHER; i < MEMBERS; i++) {
		struct json_member *m = &members[i];
		if ((allowed & BIT(i)) == 0)
			m->value = (struct span){0};
		else if (m->value.bytes != NULL && !m->is_string &&
			 (BIT(i) & MAY_BE_ANYTHING) == 0)
			return refuse_command(error, "`%s` must be a string",
					      m->name);
		else if (m->value.bytes == NULL && (required & BIT(i)) != 0)
			return refuse_command(error, "missing member `%s`",
					      m->name);
		else if (m->value.len > NAME_MAX_BYTES &&
			 (i == PUBLISHER || i == TOPIC))
			return refuse_command(error,
					      "`%s` has more than %d bytes",
					      m->name, NAME_MAX_BYTES);
	}
	return 0;
}

static int take_slow(struct v1_command *command, struct span slow,
		     struct json_error *error)
{
	command->drops = span_equal(slow, SPAN("drop"));
	if (slow.bytes == NULL || command->drops ||
	    span_equal(slow, SPAN("close")))
		return 0;
	return refuse_command(error, "`slow` must be \"close\" or \"drop\"");
}

static int take_last(struct v1_command *command, const struct json_member *last,
		     struct json_error *error)
{
	if (last->value.bytes == NULL ||
	    (!last->is_string &&
	     cursor_parse_last(last->raw, &command->last) == 0))
		return 0;
	return refuse_command(error, "`last` must be a number, at most %d",
			      CURSOR_LAST_MAX);
}

static int take_members(struct v1_command *command,
			const struct json_member members[static MEMBERS],
			struct json_error *error)
{
	command->publisher = members[PUBLISHER].value;
	command->topic = members[TOPIC].value;
	command->since = members[SINCE].value;
	if (take_last(command, &members[LAST], error) != 0)
		return error->status;
	command->data.text = members[DATA].value;
	command->data.is_json =
		command->data.text.bytes != NULL && !members[DATA].is_string;
	if (json_take_event(&command->data, members[EVENT].value, error) != 0)
		return error->status;
	if (members[TRACEPARENT].is_string)
		command->data.traceparent =
			traceparent_parse(members[TRACEPARENT].value);
	return take_slow(command, members[SLOW].value, error);
}

int v1_read(struct v1_command *command, struct span text, enum v1_error *code,
	    struct json_error *error)
{
	struct json_member members[MEMBERS];
	int rv;

	*code = V1_bad_command; /* unless it is worse */
	*command = (struct v1_command){.memory = command->memory};
	command->memory.len = 0;
	/* Room for the members (json_read_members()), and for the ref behind
	 * them. */
	if (buf_reserve(&command->memory, text.len + V1_REF_MAX_BYTES) != 0)
		return out_of_memory(code, error);
	rv = find_members(members, text, &command->memory, code, error);
	if (rv != 0) {
		struct json_error later;
		take_ref(command, members[REF].raw, &later);
		return rv;
	}
	rv = take_ref(command, members[REF].raw, error);
	if (rv == 0)
		rv = find_type(command, members[TYPE].value, code, error);
	if (rv == 0)
		rv = check_members(members, command->type, error);
	return rv == 0 ? take_members(command, members, error) : rv;
}

/* --- objects -------------------------------------------------------------- */

/* An object that is being appended. */
struct object {
	struct buf *out;
	size_t start; /* where it begins in `out` */
	int rv;       /* once it is not 0, nothing more is appended */
};

static void append_text(struct object *o, struct span text)
{
	if (o->rv == 0)
		o->rv = buf_append(o->out, text.bytes, text.len);
}

static void append_json_string(struct object *o, struct span text)
{
	if (o->rv == 0)
		o->rv = json_write_string(o->out, text);
}

/* Our names and types need no escapes. */
static struct object begin_object(struct buf *out, const char *type)
{
	struct object o = {.out = out, .start = out->len};

	append_text(&o, SPAN("{\"type\":\""));
	append_text(&o, span_of(type));
	append_text(&o, SPAN("\""));
	return o;
}

static void append_name(struct object *o, const char *name)
{
	append_text(o, SPAN(",\""));
	append_text(o, span_of(name));
	append_text(o, SPAN("\":"));
}

static void add_string(struct object *o, const char *name, struct span text)
{
	append_name(o, name);
	append_json_string(o, text);
}

/* `text` is JSON. */
static void add_json(struct object *o, const char *name, struct span text)
{
	append_name(o, name);
	append_text(o, text);
}

static void add_ref(struct object *o, struct span ref)
{
	if (ref.bytes != NULL)
		add_json(o, "ref", ref);
}

static void add_topic_members(struct object *o, struct span publisher,
			      struct span topic)
{
	add_string(o, "publisher", publisher);
	add_string(o, "topic", topic);
}

static int end(struct object *o)
{
	append_text(o, SPAN("}"));
	if (o->rv != 0)
		o->out->len = o->start;
	return o->rv;
}

/* --- writing -------------------------------------------------------------- */

int v1_write_message(struct buf *out, struct span publisher, struct span topic,
		     struct span id, struct json_data data)
{
	struct object o;
	int rv = buf_reserve(out, MESSAGE_OVERHEAD + publisher.len + topic.len +
					  id.len + data.text.len);

	if (rv != 0)
		return rv;
	o = begin_object(out, "message");
	add_topic_members(&o, publisher, topic);
	add_string(&o, "id", id);
	if (data.event.bytes != NULL)
		add_string(&o, "event", data.event);
	if (data.traceparent.bytes != NULL)
		add_string(&o, "traceparent", data.traceparent);
	if (data.is_json)
		add_json(&o, "data", data.text);
	else
		add_string(&o, "data", data.text);
	return end(&o);
}

int v1_write_gap(struct buf *out, struct span publisher, struct span topic,
		 struct span from, struct span to)
{
	struct object o = begin_object(out, "gap");

	add_topic_members(&o, publisher, topic);
	add_string(&o, "from", from);
	add_string(&o, "to", to);
	return end(&o);
}

int v1_write_reset(struct buf *out, struct span publisher, struct span topic,
		   struct span id)
{
	struct object o = begin_object(out, "reset");

	add_topic_members(&o, publisher, topic);
	add_string(&o, "id", id);
	return end(&o);
}

int v1_write_subscribed(struct buf *out, struct span ref, struct span publisher,
			struct span topic, struct span id,
			enum v1_resumed resumed)
{
	struct object o = begin_object(out, "subscribed");

	add_ref(&o, ref);
	add_topic_members(&o, publisher, topic);
	add_string(&o, "id", id);
	if (resumed == V1_RESUMED)
		add_json(&o, "resumed", SPAN("true"));
	else if (resumed == V1_NOT_RESUMED)
		add_json(&o, "resumed", SPAN("false"));
	return end(&o);
}

int v1_write_unsubscribed(struct buf *out, struct span ref,
			  struct span publisher, struct span topic)
{
	struct object o = begin_object(out, "unsubscribed");

	add_ref(&o, ref);
	add_topic_members(&o, publisher, topic);
	return end(&o);
}

int v1_write_published(struct buf *out, struct span ref, struct span id,
		       uint64_t subscribers)
{
	struct object o = begin_object(out, "published");
	char number[24];

	snprintf(number, sizeof(number), "%" PRIu64, subscribers);
	add_ref(&o, ref);
	add_string(&o, "id", id);
	add_json(&o, "subscribers", span_of(number));
	return end(&o);
}

int v1_write_pong(struct buf *out, struct span ref)
{
	struct object o = begin_object(out, "pong");

	add_ref(&o, ref);
	return end(&o);
}

int v1_write_error(struct buf *out, struct span ref, enum v1_error code,
		   const char *text)
{
	struct object o = begin_object(out, "error");

	add_ref(&o, ref);
	add_string(&o, "code", span_of(errors[code].name));
	add_string(&o, "message",
		   span_of(text == NULL ? errors[code].text : text));
	return end(&o);
}
