/* read.c - what the JSON texts that clients send say.
 *
 * A text is read in three steps. The scan goes over it once, decides whether it
 * is JSON, and records where the members of its object have their values. cJSON
 * parses it again and says how these members are named and of which type they
 * are; its i-th member is the i-th that was recorded. The values asked for are
 * then decoded from the text itself. The items of an array are scanned once
 * more, one by one, so that members are recorded of a single object at a time.
 *
 * cJSON_GetErrorPtr() must never be called: what it points to is shared by all
 * threads. */
#include "codec/json/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/check.h"

/* What publications may go on holding for the next ones. */
#define KEPT_MAX_BYTES 65536
#define KEPT_MAX_COUNT (KEPT_MAX_BYTES / sizeof(struct json_publication))

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

/* Appends what the string `raw` stands for, quotes included and scanned, to
 * `memory`, which has room for raw.len bytes: decoding makes nothing longer. */
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

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Appends a value that is not a string, without the space in it, to `memory`,
 * which has room for raw.len bytes. */
static struct span copy_compact(struct span raw, struct buf *memory)
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
		else if (!is_in_string && is_space(c))
			continue;
		*out++ = raw.bytes[i];
	}
	memory->len += (size_t)(out - start);
	return (struct span){start, (size_t)(out - start)};
}

static struct span decode(struct span raw, bool is_string, struct buf *memory)
{
	return is_string ? decode_string(raw, memory)
			 : copy_compact(raw, memory);
}

/* --- find ----------------------------------------------------------------- */

/* As cJSON_IsString() and the like have it. */
static int type_of(const cJSON *item)
{
	return item->type & 0xff;
}

static const char *type_name(const cJSON *item)
{
	switch (type_of(item)) {
	case cJSON_Object:
		return "an object";
	case cJSON_Array:
		return "an array";
	case cJSON_String:
		return "a string";
	case cJSON_Number:
		return "a number";
	case cJSON_NULL:
		return "null";
	default:
		return "a boolean";
	}
}

static bool is_of_kind(int type, unsigned kinds)
{
	return (kinds & JSON_ANY) != 0 ||
	       ((kinds & JSON_STRING) != 0 && type == cJSON_String) ||
	       ((kinds & JSON_NUMBER) != 0 && type == cJSON_Number);
}

static const char *kinds_name(unsigned kinds)
{
	if (kinds == JSON_STRING)
		return "a string";
	return kinds == JSON_NUMBER ? "a number" : "a string or a number";
}

static struct json_member *find_wanted(struct json_member wanted[],
				       size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		const char *other = wanted[i].name;
		if (*other == *name && strcmp(other, name) == 0)
			return &wanted[i];
	}
	return NULL;
}

static int take_member(struct json_member *w, const cJSON *item,
		       struct span value, struct json_error *error)
{
	if (w->raw.bytes != NULL)
		return json_fail(error, 422, "`%s` is there twice", w->name);
	if (!is_of_kind(type_of(item), w->kinds))
		return json_fail(error, 422, "`%s` must be %s, not %s", w->name,
				 kinds_name(w->kinds), type_name(item));
	w->raw = value;
	w->is_string = type_of(item) == cJSON_String;
	return 0;
}

/* Takes what is wanted of the members of `object`, which were recorded in `s`.
 * The first error is the one reported; the others are found all the same. */
static int take_members(const cJSON *object, const struct json_scan *s,
			struct json_member wanted[], size_t count,
			struct json_error *error)
{
	struct json_error later;
	int status = 0;
	size_t i = 0;

	for (const cJSON *item = object->child; item != NULL;
	     item = item->next) {
		const struct json_scan_member *member = &s->members[i++];
		struct json_member *w =
			find_wanted(wanted, count, item->string);
		int rv;
		CHECK(i <= s->members_count);
		if (w == NULL || member->name_has_nul)
			continue;
		rv = take_member(w, item, member->value,
				 status == 0 ? error : &later);
		if (status == 0)
			status = rv;
	}
	CHECK(i == s->members_count);
	return status;
}

/* Finds what is wanted in `value`, which `s` scanned last. `value` and `raw` of
 * all that is wanted are absent. */
static int find_members(const cJSON *value, const struct json_scan *s,
			struct json_member wanted[], size_t count,
			struct json_error *error)
{
	int status;

	if (type_of(value) != cJSON_Object)
		return json_fail(error, 422, "an object was expected, not %s",
				 type_name(value));
	if (s->members_count > JSON_MEMBERS_MAX)
		return json_fail(error, 422,
				 "too many members, at most %d allowed",
				 JSON_MEMBERS_MAX);
	status = take_members(value, s, wanted, count, error);
	for (size_t i = 0; i < count && status == 0; i++) {
		if (wanted[i].is_required && wanted[i].raw.bytes == NULL)
			status = json_fail(error, 422, "missing member `%s`",
					   wanted[i].name);
	}
	return status;
}

/* Scans and parses `text`. Returns what the caller is to delete; or NULL, with
 * `error` filled. */
static cJSON *parse(struct span text, struct json_scan *s,
		    struct json_error *error)
{
	cJSON *root;

	if (json_scan_text(s, text, error) != 0)
		return NULL;
	if (s->values_count > JSON_VALUES_MAX) {
		json_fail(error, 422, "too many values, at most %d allowed",
			  JSON_VALUES_MAX);
		return NULL;
	}
	root = cJSON_ParseWithLengthOpts(text.bytes, text.len, NULL, false);
	if (root == NULL) /* what the scan lets through is JSON to cJSON, too */
		json_fail(error, 500, "out of memory");
	return root;
}

/* --- members -------------------------------------------------------------- */

static int find_in_text(struct span text, struct json_member wanted[],
			size_t count, struct json_error *error)
{
	struct json_scan scan;
	cJSON *root = parse(text, &scan, error);
	int status;

	if (root == NULL)
		return error->status;
	status = find_members(root, &scan, wanted, count, error);
	cJSON_Delete(root);
	return status;
}

int json_read_members(struct span text, struct json_member *wanted,
		      size_t count, struct buf *memory,
		      struct json_error *error)
{
	size_t room = 0;
	int status;

	memory->len = 0;
	for (size_t i = 0; i < count; i++) {
		wanted[i].value = wanted[i].raw = (struct span){0};
		wanted[i].is_string = false;
	}
	status = find_in_text(text, wanted, count, error);
	if (status != 0)
		return status;
	for (size_t i = 0; i < count; i++)
		room += wanted[i].raw.len;
	if (buf_reserve(memory, room) != 0) /* once: spans must not move */
		return json_fail(error, 500, "out of memory");
	for (size_t i = 0; i < count; i++) {
		if (wanted[i].raw.bytes != NULL)
			wanted[i].value = decode(wanted[i].raw,
						 wanted[i].is_string, memory);
	}
	return 0;
}

int json_read_subscription(struct json_subscription *s, struct span text,
			   struct json_error *error)
{
	struct json_member wanted[] = {
		{"publisher", .kinds = JSON_STRING, .is_required = true},
		{"topic", .kinds = JSON_STRING, .is_required = true},
	};
	int status = json_read_members(text, wanted, 2, &s->memory, error);

	s->publisher = wanted[0].value;
	s->topic = wanted[1].value;
	return status;
}

/* --- publications --------------------------------------------------------- */

/* Makes room for as many as there are. Memory that an earlier text made large
 * goes, unless this one makes use of it. */
static int reserve(struct json_publications *p, const cJSON *root,
		   struct span text)
{
	p->memory.len = 0;
	if (p->memory.cap > KEPT_MAX_BYTES && text.len <= KEPT_MAX_BYTES)
		buf_fini(&p->memory);
	p->is_array = type_of(root) == cJSON_Array;
	p->count = p->is_array ? (size_t)cJSON_GetArraySize(root) : 1;
	if (p->count <= p->cap &&
	    (p->cap <= KEPT_MAX_COUNT || p->count > KEPT_MAX_COUNT))
		return 0;
	free(p->all); /* and not realloc(): nothing in it is needed */
	p->cap = p->count == 0 ? 1 : p->count;
	p->all = malloc(p->cap * sizeof(*p->all));
	if (p->all != NULL)
		return 0;
	p->cap = 0;
	return -ENOMEM; /* UV_ENOMEM */
}

/* Its spans are as they stand in the text. */
static int find_publication(struct json_publication *found, const cJSON *value,
			    const struct json_scan *s, struct json_error *error)
{
	struct json_member wanted[] = {
		{"topic", .kinds = JSON_STRING, .is_required = true},
		{"data", .kinds = JSON_ANY, .is_required = true},
	};
	int status = find_members(value, s, wanted, 2, error);

	found->topic = wanted[0].raw;
	found->data.text = wanted[1].raw;
	found->data.is_json = !wanted[1].is_string;
	return status;
}

/* Puts in front of the text which item it is about, counted from 1. */
static int name_item(struct json_error *error, size_t number)
{
	char text[JSON_ERROR_MAX];

	memcpy(text, error->text, sizeof(text));
	return json_fail(error, error->status, "item %zu: %s", number, text);
}

static int find_items(struct json_publications *p, const cJSON *root,
		      struct json_scan *s, struct span text,
		      struct json_error *error)
{
	size_t i = 0;

	json_scan_array(s, text);
	for (const cJSON *item = root->child; item != NULL; item = item->next) {
		CHECK(i < p->count);
		json_scan_item(s);
		if (find_publication(&p->all[i++], item, s, error) != 0)
			return name_item(error, i);
	}
	return 0;
}

static int find_publications(struct json_publications *p, struct span text,
			     struct json_error *error)
{
	struct json_scan scan;
	cJSON *root = parse(text, &scan, error);
	int status;

	if (root == NULL)
		return error->status;
	if (reserve(p, root, text) != 0)
		status = json_fail(error, 500, "out of memory");
	else if (p->is_array)
		status = find_items(p, root, &scan, text, error);
	else
		status = find_publication(p->all, root, &scan, error);
	cJSON_Delete(root);
	return status;
}

int json_read_publications(struct json_publications *p, struct span text,
			   struct json_error *error)
{
	size_t room = 0;
	int status = find_publications(p, text, error);

	if (status != 0)
		return status;
	for (size_t i = 0; i < p->count; i++)
		room += p->all[i].topic.len + p->all[i].data.text.len;
	if (buf_reserve(&p->memory, room) != 0) /* once: spans must not move */
		return json_fail(error, 500, "out of memory");
	for (size_t i = 0; i < p->count; i++) {
		struct json_publication *one = &p->all[i];
		one->topic = decode_string(one->topic, &p->memory);
		one->data.text =
			decode(one->data.text, !one->data.is_json, &p->memory);
	}
	return 0;
}

void json_publications_fini(struct json_publications *p)
{
	free(p->all);
	buf_fini(&p->memory);
	*p = (struct json_publications){0};
}
