/* fuzz_json.c - feeds any text to src/codec/json and checks what must always
 * hold: the check and the readers agree, cJSON takes what the scan takes, finds
 * the same members in it and decodes them alike, and what was read survives
 * being written and read again. */
#include "codec/json/json.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "alloc.h"
#include "base/check.h"
#include "base/name.h"
#include "base/utf8.h"
#include "codec/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check_error(const struct json_error *error, int status)
{
	CHECK(status == 400 || status == 422);
	CHECK(error->status == status);
	CHECK(error->text[0] != '\0');
	for (size_t i = 0; error->text[i] != '\0'; i++) {
		CHECK(i + 1 < JSON_ERROR_MAX);
		CHECK(error->text[i] >= ' ' && error->text[i] <= '~');
	}
}

/* Decoded strings are UTF-8, present, and lie in the memory. */
static void check_span(struct span span, const struct buf *memory)
{
	CHECK(span.bytes >= memory->bytes);
	CHECK(span.bytes + span.len <= memory->bytes + memory->len);
	CHECK(utf8_is_valid(span));
}

static bool has_nul(struct span text)
{
	return memmem(text.bytes, text.len, "\\u0000", 6) != NULL;
}

/* cJSON copies a number into 64 bytes, and fails at a longer one. */
static bool has_long_number(struct span text)
{
	size_t run = 0;

	for (size_t i = 0; i < text.len && run <= 63; i++)
		run = strchr("0123456789+-.eE", text.bytes[i]) != NULL &&
				      text.bytes[i] != '\0'
			      ? run + 1
			      : 0;
	return run > 63;
}

/* cJSON decodes a string of `text` to the same bytes, unless U+0000 is in the
 * text, where it cuts names and values. `root` is NULL where cJSON can't tell.
 */
static void check_decoded(const cJSON *root, struct span text, const char *name,
			  struct span decoded)
{
	const cJSON *item;

	if (root == NULL || has_nul(text))
		return;
	item = cJSON_GetObjectItemCaseSensitive(root, name);
	CHECK(cJSON_IsString(item));
	CHECK(span_equal(span_of(item->valuestring), decoded));
}

/* A compact text says the same as the value it was made of. */
static void check_compact(const cJSON *value, struct span compact)
{
	cJSON *again =
		cJSON_ParseWithLengthOpts(compact.bytes, compact.len, NULL, 0);
	char *one = cJSON_PrintUnformatted(value);
	char *other = cJSON_PrintUnformatted(again);

	CHECK(again != NULL && one != NULL && other != NULL);
	CHECK(strcmp(one, other) == 0);
	cJSON_free(one);
	cJSON_free(other);
	cJSON_Delete(again);
}

static void check_data(const cJSON *root, struct span text,
		       struct json_data data)
{
	struct json_error error;

	if (!data.is_json) {
		check_decoded(root, text, "data", data.text);
		return;
	}
	CHECK(json_check(data.text, &error) == 0);
	if (root != NULL && !has_nul(text))
		check_compact(cJSON_GetObjectItemCaseSensitive(root, "data"),
			      data.text);
}

static void append(struct buf *out, const char *text)
{
	CHECK(buf_append(out, text, strlen(text)) == 0);
}

/* Encodes so that each character that may be escaped is, in the long form. */
static void append_string(struct buf *out, struct span decoded)
{
	append(out, "\"");
	for (size_t i = 0; i < decoded.len; i++) {
		unsigned char byte = (unsigned char)decoded.bytes[i];
		if (byte < 0x80) {
			char escape[8];
			snprintf(escape, sizeof(escape), "\\u%04x", byte);
			append(out, escape);
		} else {
			CHECK(buf_append(out, &decoded.bytes[i], 1) == 0);
		}
	}
	append(out, "\"");
}

static void append_data(struct buf *out, struct json_data data)
{
	if (data.is_json)
		CHECK(buf_append(out, data.text.bytes, data.text.len) == 0);
	else
		append_string(out, data.text);
}

/* As `p`, once with every character escaped and once as we write strings. */
static void check_survives(const struct json_publication *p)
{
	struct json_publications again = {0};
	struct json_error error;
	struct buf out = {0};

	append(&out, "[{\"data\":");
	append_data(&out, p->data);
	append(&out, ",\"topic\":");
	append_string(&out, p->topic);
	append(&out, "},{\"data\":");
	CHECK(json_write_string(&out, p->data.text) == 0);
	append(&out, ",\"topic\":");
	CHECK(json_write_string(&out, p->topic) == 0);
	append(&out, "}]");
	if (json_read_publications(&again, (struct span){out.bytes, out.len},
				   &error) == 0) {
		CHECK(again.count == 2);
		CHECK(again.all[0].data.is_json == p->data.is_json);
		CHECK(!again.all[1].data.is_json);
		for (size_t i = 0; i < 2; i++) {
			CHECK(span_equal(again.all[i].topic, p->topic));
			CHECK(span_equal(again.all[i].data.text, p->data.text));
		}
	} else { /* it was nested near the limit, which the array is over */
		CHECK(p->data.is_json);
	}
	json_publications_fini(&again);
	buf_fini(&out);
}

/* What cJSON prints of a text is JSON. A number may come out as `null`, and
 * names may be cut, so that it need not be a publication any more. */
static void check_printed(const cJSON *root)
{
	struct json_error error;
	char *printed = cJSON_PrintUnformatted(root);

	CHECK(printed != NULL);
	CHECK(json_check(span_of(printed), &error) == 0);
	cJSON_free(printed);
}

/* The beginnings of an object are never JSON. */
static void check_beginnings(struct span text)
{
	struct json_error error;

	while (text.len > 0 && text.bytes[text.len - 1] != '}')
		text.len--;
	for (size_t len = 0; len < text.len && len < 64; len++)
		CHECK(json_check((struct span){text.bytes, len}, &error) ==
		      400);
}

/* What is known of a text. */
struct known {
	struct span text;
	int status;  /* json_check() */
	cJSON *root; /* what cJSON makes of it, where it can and must */
};

static void check_text(struct known *known)
{
	struct span text = known->text;
	struct json_error error;

	known->status = json_check(text, &error);
	known->root = NULL;
	if (known->status != 0) {
		check_error(&error, known->status);
		return;
	}
	CHECK(utf8_is_valid(text));
	if (text.len > 0 && text.bytes[text.len - 1] == '}')
		check_beginnings(text);
	known->root =
		cJSON_ParseWithLengthOpts(text.bytes, text.len, NULL, false);
	CHECK(known->root != NULL || has_long_number(text));
	if (known->root != NULL)
		check_printed(known->root);
}

/* What a reader returned for the text; without an error that it had. */
static void check_status(const struct known *known, int status,
			 const struct json_error *error)
{
	if (status != 0)
		check_error(error, status);
	CHECK((status == 400) == (known->status == 400));
}

/* A publication is refused for what cJSON finds in it: a member is missing, or
 * there twice, or of the wrong type, or too long. */
static bool is_publication(const cJSON *item)
{
	unsigned topics = 0;
	unsigned data = 0;
	unsigned events = 0;
	unsigned traces = 0;

	if (!cJSON_IsObject(item))
		return false;
	for (item = item->child; item != NULL; item = item->next) {
		if (strcmp(item->string, "topic") == 0) {
			topics++;
			if (!cJSON_IsString(item) ||
			    strlen(item->valuestring) > NAME_MAX_BYTES)
				return false;
		} else if (strcmp(item->string, "event") == 0) {
			events++;
			if (!cJSON_IsString(item) ||
			    sse_check_type(span_of(item->valuestring), NULL) !=
				    0)
				return false;
		} else if (strcmp(item->string, "data") == 0) {
			data++;
		} else if (strcmp(item->string, "traceparent") == 0) {
			traces++;
		}
	}
	return topics == 1 && data == 1 && events <= 1 && traces <= 1;
}

static bool are_publications(const cJSON *root)
{
	if (!cJSON_IsArray(root))
		return is_publication(root);
	size_t count = 0;
	for (root = root->child; root != NULL; root = root->next) {
		if (!is_publication(root) || ++count > JSON_PUBLICATIONS_MAX)
			return false;
	}
	return true;
}

static void check_publication(const struct json_publications *p, size_t i,
			      struct span text, const cJSON *item)
{
	const struct json_publication *one = &p->all[i];

	check_span(one->topic, &p->memory);
	check_span(one->data.text, &p->memory);
	check_decoded(item, text, "topic", one->topic);
	check_data(item, text, one->data);
	check_survives(one);
}

static void check_publications(const struct known *known)
{
	const cJSON *root = known->root;
	struct json_publications p = {0};
	struct json_error error;
	int status = json_read_publications(&p, known->text, &error);

	check_status(known, status, &error);
	if (root != NULL && !has_nul(known->text))
		CHECK((status == 0) == are_publications(root));
	if (status == 0) {
		const cJSON *item = cJSON_IsArray(root) ? root->child : root;
		CHECK(root == NULL || p.is_array == (bool)cJSON_IsArray(root));
		CHECK(p.is_array || p.count == 1);
		for (size_t i = 0; i < p.count; i++) {
			check_publication(&p, i, known->text, item);
			item = item == NULL ? NULL : item->next;
		}
		CHECK(item == NULL || !p.is_array);
	}
	json_publications_fini(&p);
}

/* The text of a member is JSON, and in the text. */
static void check_member(const struct json_member *m, struct span text)
{
	struct json_error error;

	if (m->raw.bytes == NULL)
		return;
	CHECK(m->raw.bytes >= text.bytes);
	CHECK(m->raw.bytes + m->raw.len <= text.bytes + text.len);
	CHECK(json_check(m->raw, &error) == 0);
	CHECK(m->is_string == (m->raw.bytes[0] == '"'));
}

static void on_element(void *user, struct span element)
{
	struct json_error error;
	int *count = user;

	CHECK(json_check(element, &error) == 0);
	(*count)++;
}

static void check_array(const struct known *known)
{
	struct json_error error;
	int count = 0;
	int status = json_read_array(known->text, on_element, &count, &error);

	if (status != 0)
		check_error(&error, status);
	CHECK(known->status == 0 ? status != 400 : status != 0);
	if (known->root != NULL)
		CHECK((status == 0) == (bool)cJSON_IsArray(known->root));
	if (known->root != NULL && status == 0)
		CHECK(count == cJSON_GetArraySize(known->root));
}

static void check_members(const struct known *known)
{
	struct json_member wanted[] = {
		{"topic", .kinds = JSON_STRING + JSON_NUMBER},
		{"data", .kinds = JSON_ANY},
		{"publisher", .kinds = JSON_NUMBER},
	};
	struct buf memory = {0};
	struct json_error error;
	int status = json_read_members(known->text, wanted, 3, &memory, &error);

	check_status(known, status, &error);
	for (size_t i = 0; i < 3; i++) {
		check_member(&wanted[i], known->text);
		if (status == 0 && wanted[i].raw.bytes != NULL)
			check_span(wanted[i].value, &memory);
		else if (status == 0)
			CHECK(wanted[i].value.bytes == NULL);
		if (status == 400)
			CHECK(wanted[i].raw.bytes == NULL);
	}
	buf_fini(&memory);
}

static void check_subscription(const struct known *known)
{
	struct json_subscription s = {0};
	struct json_error error;
	int status = json_read_subscription(&s, known->text, &error);

	check_status(known, status, &error);
	if (status == 0) {
		check_span(s.publisher, &s.memory);
		check_span(s.topic, &s.memory);
		check_decoded(known->root, known->text, "publisher",
			      s.publisher);
		check_decoded(known->root, known->text, "topic", s.topic);
	}
	buf_fini(&s.memory);
}

/* No allocation fails unnoticed. */
static void read_without_memory(struct span text)
{
	bool has_failed = true;

	for (unsigned nth = 1; has_failed && nth < 20; nth++) {
		struct json_publications p = {0};
		struct json_subscription s = {0};
		struct json_error error;
		struct buf out = {0};

		alloc_fail_at(nth);
		int rv = json_read_publications(&p, text, &error);
		if (rv == 0 && p.count > 0 &&
		    json_write_string(&out, p.all[0].topic) != 0)
			rv = 500;
		if (rv != 0 && rv != 500)
			rv = json_read_subscription(&s, text, &error);
		if (json_write_error(&out, "text \"\n") != 0)
			rv = 500;
		has_failed = alloc_end();
		/* What is wrong anyway may be told as that. */
		CHECK(has_failed ? rv != 0 : rv != 500);
		json_publications_fini(&p);
		buf_fini(&s.memory);
		buf_fini(&out);
	}
}

/* What one text left behind is no part of the next. */
static void read_again(struct span text)
{
	static struct json_publications kept;
	struct json_publications fresh = {0};
	struct json_error error;
	int status = json_read_publications(&fresh, text, &error);

	CHECK(json_read_publications(&kept, text, &error) == status);
	if (status == 0) {
		CHECK(kept.count == fresh.count);
		for (size_t i = 0; i < fresh.count; i++)
			CHECK(span_equal(kept.all[i].data.text,
					 fresh.all[i].data.text));
	}
	json_publications_fini(&fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct known known = {.text = {(const char *)bytes, len}};

	check_text(&known);
	check_publications(&known);
	check_array(&known);
	check_members(&known);
	check_subscription(&known);
	cJSON_Delete(known.root);
	if (len < 4096) /* it is read twenty times */
		read_without_memory((struct span){(const char *)bytes, len});
	read_again((struct span){(const char *)bytes, len});
	return 0;
}
