/* read.c - reads the JSON texts that clients send.
 *
 * The text is scanned once. Meanwhile the reader notes where the wanted members
 * of the outermost object, or of each item of an array, have their values; the
 * first byte of a value tells its type. Then it decodes those values. cJSON
 * decodes member names that have escapes, which are rare.
 *
 * "Not JSON" takes precedence over any other error, so the scan goes on after
 * the first one.
 *
 * cJSON_GetErrorPtr() must not be called: all threads share what it returns. */
#include "codec/json/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/name.h"
#include "codec/sse.h"
#include "codec/traceparent.h"

/* Memory that publications may keep for the next text. */
#define KEPT_MAX_BYTES 65536
#define KEPT_MAX_COUNT (KEPT_MAX_BYTES / sizeof(struct json_publication))

#define COUNT_AT_FIRST 4 /* publications that room is made for */

/* No wanted name is longer: 16 characters as \uXXXX, in quotes. */
#define ESCAPED_NAME_MAX_BYTES (16 * 6 + 2)

/* --- decode --------------------------------------------------------------- */

/* Returns where the next byte goes. */
static char *encode_utf8(int32_t character, char *out)
{
	if (character < 0x80) {
		*out++ = (char)character;
		return out;
	}
	if (character < 0x800) {
		*out++ = (char)(0xc0 | character >> 6);
	} else {
		if (character < 0x10000) {
			*out++ = (char)(0xe0 | character >> 12);
		} else {
			*out++ = (char)(0xf0 | character >> 18);
			*out++ = (char)(0x80 | (character >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (character >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (character & 0x3f));
	return out;
}

/* Decodes the escape at `*at`, moves `*at` behind it, and returns where the
 * next byte goes. */
static char *decode_escape(const char **at, const char *end, char *out)
{
	static const char letters[] = "bfnrt";
	const char *letter = strchr(letters, (*at)[1]);
	size_t used = 2;

	if ((*at)[1] == 'u')
		out = encode_utf8(json_read_character(*at, end, &used), out);
	else if (letter != NULL)
		*out++ = "\b\f\n\r\t"[letter - letters];
	else
		*out++ = (*at)[1];
	*at += used;
	return out;
}

/* Decodes the string `raw`, which has been scanned and has its quotes, to the
 * end of `memory`. raw.len bytes of room are enough: decoding makes nothing
 * longer. */
static struct span decode_string(struct span raw, struct buf *memory)
{
	const char *at = raw.bytes + 1;
	const char *end = raw.bytes + raw.len - 1;
	char *start = memory->bytes + memory->len;
	char *out = start;

	while (at < end) {
		size_t rest = (size_t)(end - at);
		const char *backslash = memchr(at, '\\', rest);
		size_t run =
			backslash == NULL ? rest : (size_t)(backslash - at);
		memcpy(out, at, run);
		out += run;
		at += run;
		if (at < end)
			out = decode_escape(&at, end, out);
	}
	memory->len += (size_t)(out - start);
	return (struct span){start, (size_t)(out - start)};
}

/* Appends a value that is not a string, without the space in it. */
static struct span strip(struct span raw, struct buf *memory)
{
	char *start = memory->bytes + memory->len;
	char *out = start;
	bool is_in_string = false;

	for (size_t i = 0; i < raw.len; i++) {
		char c = raw.bytes[i];
		if (c == '"')
			is_in_string = !is_in_string;
		else if (is_in_string && c == '\\')
			*out++ = raw.bytes[i++]; /* a quote may be next */
		else if (!is_in_string && json_is_space(c))
			continue;
		*out++ = raw.bytes[i];
	}
	memory->len += (size_t)(out - start);
	return (struct span){start, (size_t)(out - start)};
}

/* Appends `raw`, which the scan has passed, to `memory`, which has room for
 * raw.len bytes. `has_space`: there may be some in it. */
static struct span decode_raw(struct span raw, bool has_space,
			      struct buf *memory)
{
	if (raw.bytes[0] == '"')
		return decode_string(raw, memory);
	if (has_space)
		return strip(raw, memory);
	char *start = memory->bytes + memory->len;
	memcpy(start, raw.bytes, raw.len);
	memory->len += raw.len;
	return (struct span){start, raw.len};
}

/* --- find ----------------------------------------------------------------- */

/* A text that is being read. */
struct reader {
	struct json_scan scan;
	int status;               /* of the first error; 0: none so far */
	struct json_error *error; /* what that is */
	struct json_error later;  /* and those behind it */
};

/* Where the next error goes. */
static struct json_error *next_error(struct reader *r)
{
	return r->status == 0 ? r->error : &r->later;
}

static void note(struct reader *r, int status)
{
	if (r->status == 0)
		r->status = status;
}

static const char *type_name(char first)
{
	switch (first) {
	case '{':
		return "an object";
	case '[':
		return "an array";
	case '"':
		return "a string";
	case 'n':
		return "null";
	case 't':
	case 'f':
		return "a boolean";
	default:
		return "a number";
	}
}

static bool is_of_kind(char first, unsigned kinds)
{
	bool is_number = first == '-' || (first >= '0' && first <= '9');

	return (kinds & JSON_ANY) != 0 ||
	       ((kinds & JSON_STRING) != 0 && first == '"') ||
	       ((kinds & JSON_NUMBER) != 0 && is_number);
}

static const char *kinds_name(unsigned kinds)
{
	if (kinds == JSON_STRING)
		return "a string";
	return kinds == JSON_NUMBER ? "a number" : "a string or a number";
}

/* The members that are asked for. */
struct wanted {
	struct json_member *all;
	size_t count;
};

static struct json_member *find_plain(const struct wanted *wanted,
				      struct span name)
{
	for (size_t i = 0; i < wanted->count; i++) {
		const char *other = wanted->all[i].name;
		if (name.len > 0 && *other == *name.bytes &&
		    strncmp(other, name.bytes, name.len) == 0 &&
		    other[name.len] == '\0')
			return &wanted->all[i];
	}
	return NULL;
}

static struct json_member *find_escaped(struct reader *r,
					const struct wanted *wanted,
					struct span raw)
{
	struct json_member *found;
	cJSON *name =
		cJSON_ParseWithLengthOpts(raw.bytes, raw.len, NULL, false);

	if (name == NULL) { /* what the scan lets through is JSON to cJSON */
		note(r, json_fail(next_error(r), 500, "out of memory"));
		return NULL;
	}
	found = find_plain(wanted, span_of(cJSON_GetStringValue(name)));
	cJSON_Delete(name);
	return found;
}

/* No name that is wanted has U+0000, where cJSON would cut it. */
static struct json_member *find_wanted(struct reader *r,
				       const struct wanted *wanted,
				       const struct json_scan_string *name)
{
	if (name->has_nul || name->raw.len > ESCAPED_NAME_MAX_BYTES)
		return NULL;
	if (name->has_escape)
		return find_escaped(r, wanted, name->raw);
	return find_plain(
		wanted, (struct span){name->raw.bytes + 1, name->raw.len - 2});
}

static void take_member(struct reader *r, struct json_member *w,
			struct span value)
{
	char first = value.bytes[0];

	if (w->raw.bytes != NULL) {
		note(r, json_fail(next_error(r), 422, "`%s` is there twice",
				  w->name));
		return;
	}
	if (!is_of_kind(first, w->kinds)) {
		note(r, json_fail(next_error(r), 422, "`%s` must be %s, not %s",
				  w->name, kinds_name(w->kinds),
				  type_name(first)));
		return;
	}
	w->raw = value;
	w->is_string = first == '"';
}

/* Starts at the name. */
static bool read_member(struct reader *r, const struct wanted *wanted)
{
	struct json_scan_string name;
	struct json_member *w;
	struct span value;

	if (!json_scan_name(&r->scan, &name))
		return false;
	w = find_wanted(r, wanted, &name);
	if (!json_scan_value(&r->scan, &value))
		return false;
	if (w != NULL)
		take_member(r, w, value);
	return true;
}

/* Starts at the opening brace, with `raw` of all wanted members absent. */
static bool read_members(struct reader *r, const struct wanted *wanted)
{
	bool is_entry;

	if (!json_scan_enter(&r->scan, &is_entry))
		return false;
	while (is_entry) {
		if (!read_member(r, wanted) ||
		    !json_scan_next(&r->scan, &is_entry))
			return false;
	}
	for (size_t i = 0; i < wanted->count; i++) {
		const struct json_member *w = &wanted->all[i];
		if (w->is_required && w->raw.bytes == NULL && r->status == 0)
			note(r, json_fail(next_error(r), 422,
					  "missing member `%s`", w->name));
	}
	return true;
}

/* Reads the value that is next. Returns false if it is not JSON. */
static bool read_object(struct reader *r, const struct wanted *wanted)
{
	struct span value;
	bool is_object = r->scan.at < r->scan.end && *r->scan.at == '{';

	if (is_object)
		return read_members(r, wanted);
	if (!json_scan_value(&r->scan, &value))
		return false;
	note(r, json_fail(next_error(r), 422, "an object was expected, not %s",
			  type_name(value.bytes[0])));
	return true;
}

/* Returns the status of all. */
static int finish_reading(struct reader *r, bool is_json)
{
	if (is_json && json_scan_finish(&r->scan))
		return r->status;
	return json_scan_fail(&r->scan, r->error);
}

/* Whether the string `name` is short enough once decoded. */
static int check_length(const char *name, struct span text, size_t max_bytes,
			struct json_error *error)
{
	if (text.len <= max_bytes)
		return 0;
	return json_fail(error, 422, "`%s` has more than %zu bytes", name,
			 max_bytes);
}

static int take_value(struct json_member *w, bool has_space, struct buf *memory,
		      struct json_error *error)
{
	w->value = decode_raw(w->raw, has_space, memory);
	if (w->max_bytes == 0 || !w->is_string)
		return 0;
	return check_length(w->name, w->value, w->max_bytes, error);
}

/* --- members -------------------------------------------------------------- */

int json_read_members(struct span text, struct json_member *wanted,
		      size_t count, struct buf *memory,
		      struct json_error *error)
{
	struct reader r = {.error = error};
	size_t room = 0;
	int status;

	memory->len = 0;
	for (size_t i = 0; i < count; i++) {
		wanted[i].value = wanted[i].raw = (struct span){0};
		wanted[i].is_string = false;
	}
	json_scan_start(&r.scan, text);
	status = finish_reading(
		&r, read_object(&r, &(struct wanted){wanted, count}));
	for (size_t i = 0; i < count; i++) {
		if (status == 400)
			wanted[i].raw = (struct span){0};
		room += wanted[i].raw.len;
	}
	if (status != 0)
		return status;
	if (buf_reserve(memory, room) != 0) /* once: spans must not move */
		return json_fail(error, 500, "out of memory");
	for (size_t i = 0; i < count && status == 0; i++) {
		if (wanted[i].raw.bytes != NULL)
			status = take_value(&wanted[i], r.scan.has_space,
					    memory, error);
	}
	return status;
}

int json_read_subscription(struct json_subscription *s, struct span text,
			   struct json_error *error)
{
	struct json_member wanted[] = {
		{"publisher", .kinds = JSON_STRING, .is_required = true,
		 .max_bytes = NAME_MAX_BYTES},
		{"topic", .kinds = JSON_STRING, .is_required = true,
		 .max_bytes = NAME_MAX_BYTES},
	};
	int status = json_read_members(text, wanted, 2, &s->memory, error);

	s->publisher = wanted[0].value;
	s->topic = wanted[1].value;
	return status;
}

/* --- publications --------------------------------------------------------- */

/* Frees memory that an earlier text made large, unless this text may use it. */
static void start_publications(struct json_publications *p, struct span text)
{
	p->count = 0;
	p->is_array = false;
	p->memory.len = 0;
	if (text.len > KEPT_MAX_BYTES)
		return;
	if (p->memory.cap > KEPT_MAX_BYTES)
		buf_fini(&p->memory);
	if (p->cap > KEPT_MAX_COUNT) {
		free(p->all);
		p->all = NULL;
		p->cap = 0;
	}
}

/* Makes room for one more. */
static int reserve_one(struct json_publications *p)
{
	size_t cap = p->cap == 0 ? COUNT_AT_FIRST : 2 * p->cap;
	struct json_publication *all;

	if (p->count < p->cap)
		return 0;
	all = realloc(p->all, cap * sizeof(*all));
	if (all == NULL)
		return -ENOMEM; /* UV_ENOMEM */
	p->all = all;
	p->cap = cap;
	return 0;
}

/* Reads the next object. Its spans lie in the text, not decoded. */
static bool read_publication(struct reader *r, struct json_publications *p)
{
	struct json_member all[] = {
		{"topic", .kinds = JSON_STRING, .is_required = true},
		{"data", .kinds = JSON_ANY, .is_required = true},
		{"event", .kinds = JSON_STRING},
		{"traceparent", .kinds = JSON_ANY},
	};

	if (!read_object(r, &(struct wanted){all, 4}))
		return false;
	if (r->status != 0)
		return true;
	if (reserve_one(p) != 0) {
		note(r, json_fail(next_error(r), 500, "out of memory"));
		return true;
	}
	p->all[p->count++] = (struct json_publication){
		.topic = all[0].raw,
		.data = {.text = all[1].raw,
			 .is_json = !all[1].is_string,
			 .event = all[2].raw,
			 .traceparent = all[3].is_string ? all[3].raw
							 : (struct span){0}}};
	return true;
}

/* Names the item, counted from 1, at the start of the error's text. */
static int name_item(struct json_error *error, size_t number)
{
	char text[JSON_ERROR_MAX];

	memcpy(text, error->text, sizeof(text));
	return json_fail(error, error->status, "item %zu: %s", number, text);
}

/* Starts at an item. After an error, only checks that the rest is JSON. */
static bool read_item(struct reader *r, struct json_publications *p)
{
	struct span value;

	if (r->status != 0)
		return json_scan_value(&r->scan, &value);
	if (p->count == JSON_PUBLICATIONS_MAX) {
		note(r, json_fail(next_error(r), 422,
				  "too many publications, at most %d allowed",
				  JSON_PUBLICATIONS_MAX));
		return json_scan_value(&r->scan, &value);
	}
	if (!read_publication(r, p))
		return false;
	if (r->status == 422)
		name_item(r->error, p->count + 1);
	return true;
}

/* Starts at the opening bracket. */
static bool read_items(struct reader *r, struct json_publications *p)
{
	bool is_entry;

	p->is_array = true;
	if (!json_scan_enter(&r->scan, &is_entry))
		return false;
	while (is_entry) {
		if (!read_item(r, p) || !json_scan_next(&r->scan, &is_entry))
			return false;
	}
	return true;
}

static bool read_publications(struct reader *r, struct json_publications *p)
{
	if (r->scan.at < r->scan.end && *r->scan.at == '[')
		return read_items(r, p);
	return read_publication(r, p);
}

int json_take_event(struct json_data *data, struct span event,
		    struct json_error *error)
{
	const char *wrong;

	data->event = event.len > 0 ? event : (struct span){0};
	if (sse_check_type(event, &wrong) != 0)
		return json_fail(error, 422, "%s", wrong);
	return 0;
}

static int decode_publication(struct json_publications *p,
			      struct json_publication *one, bool has_space,
			      struct json_error *error)
{
	struct json_data *data = &one->data;
	int status;

	one->topic = decode_string(one->topic, &p->memory);
	data->text = decode_raw(data->text, has_space, &p->memory);
	if (data->traceparent.bytes != NULL)
		data->traceparent = traceparent_parse(
			decode_string(data->traceparent, &p->memory));
	status = check_length("topic", one->topic, NAME_MAX_BYTES, error);
	if (status != 0 || data->event.bytes == NULL)
		return status;
	return json_take_event(data, decode_string(data->event, &p->memory),
			       error);
}

int json_read_publications(struct json_publications *p, struct span text,
			   struct json_error *error)
{
	struct reader r = {.error = error};
	size_t room = 0;
	int status;

	start_publications(p, text);
	json_scan_start(&r.scan, text);
	status = finish_reading(&r, read_publications(&r, p));
	if (status != 0)
		return status;
	for (size_t i = 0; i < p->count; i++)
		room += p->all[i].topic.len + p->all[i].data.text.len +
			p->all[i].data.event.len +
			p->all[i].data.traceparent.len;
	if (buf_reserve(&p->memory, room) != 0) /* once: spans must not move */
		return json_fail(error, 500, "out of memory");
	for (size_t i = 0; i < p->count && status == 0; i++) {
		status = decode_publication(p, &p->all[i], r.scan.has_space,
					    error);
		if (status != 0 && p->is_array)
			name_item(error, i + 1);
	}
	return status;
}

void json_publications_fini(struct json_publications *p)
{
	free(p->all);
	buf_fini(&p->memory);
	*p = (struct json_publications){0};
}

int json_read_array(struct span text,
		    void (*on_element)(void *user, struct span element),
		    void *user, struct json_error *error)
{
	struct json_scan s;
	struct span element;
	bool is_entry;

	json_scan_start(&s, text);
	if (s.at == s.end)
		return json_check(text, error);
	if (*s.at != '[')
		return json_fail(error, 422, "it is not an array");
	bool is_right = json_scan_enter(&s, &is_entry);
	while (is_right && is_entry) {
		is_right = json_scan_value(&s, &element);
		if (!is_right)
			break;
		on_element(user, element);
		is_right = json_scan_next(&s, &is_entry);
	}
	if (is_right && json_scan_finish(&s))
		return 0;
	return json_scan_fail(&s, error);
}
