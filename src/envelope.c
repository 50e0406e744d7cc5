/* envelope.c - the isimud.v1 subprotocol: commands in, everything else out. */
#include "envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes of a message's envelope but for what differs, and some more. */
#define MESSAGE_OVERHEAD 128

/* --- objects -------------------------------------------------------------- */

/* An object that is being appended. */
struct object {
	struct buf *out;
	size_t start; /* where it begins in `out` */
	int rv;       /* once it is not 0, nothing more is appended */
};

static void append(struct object *o, struct span text)
{
	if (o->rv == 0)
		o->rv = buf_append(o->out, text.bytes, text.len);
}

static void append_string(struct object *o, struct span text)
{
	if (o->rv == 0)
		o->rv = json_write_string(o->out, text);
}

/* Our names and types need no escapes. */
static struct object begin(struct buf *out, const char *type)
{
	struct object o = {.out = out, .start = out->len};

	append(&o, SPAN("{\"type\":\""));
	append(&o, span_of(type));
	append(&o, SPAN("\""));
	return o;
}

static void append_name(struct object *o, const char *name)
{
	append(o, SPAN(",\""));
	append(o, span_of(name));
	append(o, SPAN("\":"));
}

static void add_string(struct object *o, const char *name, struct span text)
{
	append_name(o, name);
	append_string(o, text);
}

/* `text` is JSON. */
static void add_json(struct object *o, const char *name, struct span text)
{
	append_name(o, name);
	append(o, text);
}

static void add_ref(struct object *o, struct span ref)
{
	if (ref.bytes != NULL)
		add_json(o, "ref", ref);
}

static void add_topic(struct object *o, struct span publisher,
		      struct span topic)
{
	add_string(o, "publisher", publisher);
	add_string(o, "topic", topic);
}

static int end(struct object *o)
{
	append(o, SPAN("}"));
	if (o->rv != 0)
		o->out->len = o->start;
	return o->rv;
}

/* --- writing -------------------------------------------------------------- */

int envelope_write_message(struct buf *out, struct span publisher,
			   struct span topic, struct span id,
			   struct json_data data)
{
	struct object o;
	int rv = buf_reserve(out, MESSAGE_OVERHEAD + publisher.len + topic.len +
					  id.len + data.text.len);

	if (rv != 0)
		return rv;
	o = begin(out, "message");
	add_topic(&o, publisher, topic);
	add_string(&o, "id", id);
	if (data.is_json)
		add_json(&o, "data", data.text);
	else
		add_string(&o, "data", data.text);
	return end(&o);
}

int envelope_write_gap(struct buf *out, struct span publisher,
		       struct span topic, struct span from, struct span to)
{
	struct object o = begin(out, "gap");

	add_topic(&o, publisher, topic);
	add_string(&o, "from", from);
	add_string(&o, "to", to);
	return end(&o);
}

int envelope_write_subscribed(struct buf *out, struct span ref,
			      struct span publisher, struct span topic,
			      struct span id, enum envelope_resumed resumed)
{
	struct object o = begin(out, "subscribed");

	add_ref(&o, ref);
	add_topic(&o, publisher, topic);
	add_string(&o, "id", id);
	if (resumed == ENVELOPE_RESUMED)
		add_json(&o, "resumed", SPAN("true"));
	else if (resumed == ENVELOPE_NOT_RESUMED)
		add_json(&o, "resumed", SPAN("false"));
	return end(&o);
}

int envelope_write_unsubscribed(struct buf *out, struct span ref,
				struct span publisher, struct span topic)
{
	struct object o = begin(out, "unsubscribed");

	add_ref(&o, ref);
	add_topic(&o, publisher, topic);
	return end(&o);
}

int envelope_write_published(struct buf *out, struct span ref, struct span id,
			     uint64_t subscribers)
{
	struct object o = begin(out, "published");
	char number[24];

	snprintf(number, sizeof(number), "%" PRIu64, subscribers);
	add_ref(&o, ref);
	add_string(&o, "id", id);
	add_json(&o, "subscribers", span_of(number));
	return end(&o);
}

int envelope_write_pong(struct buf *out, struct span ref)
{
	struct object o = begin(out, "pong");

	add_ref(&o, ref);
	return end(&o);
}

/* --- errors --------------------------------------------------------------- */

static const struct {
	const char *name;
	const char *text;
} errors[] = {
#define ERROR_ROW(name, text) {#name, text},
	ENVELOPE_ERRORS(ERROR_ROW)
#undef ERROR_ROW
};

int envelope_write_error(struct buf *out, struct span ref,
			 enum envelope_error code, const char *text)
{
	struct object o = begin(out, "error");

	add_ref(&o, ref);
	add_string(&o, "code", span_of(errors[code].name));
	add_string(&o, "message",
		   span_of(text == NULL ? errors[code].text : text));
	return end(&o);
}
