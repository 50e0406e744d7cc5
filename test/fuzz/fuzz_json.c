/* fuzz_json.c - feeds any text to src/json.c and checks what must always hold:
 * the scan and the readers agree, cJSON takes what the scan takes and decodes
 * it alike, and what was read survives being written and read again. */
#include "json.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "check.h"

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
	CHECK(json_is_utf8(span));
}

/* cJSON decodes a string of `text` to the same bytes, unless U+0000 is in the
 * text, where it cuts names and values. */
static void check_decoded(const cJSON *root, struct span text, const char *name,
			  struct span decoded)
{
	const cJSON *item;

	if (memmem(text.bytes, text.len, "\\u0000", 6) != NULL)
		return;
	item = cJSON_GetObjectItemCaseSensitive(root, name);
	CHECK(cJSON_IsString(item));
	CHECK(span_equal(span_of(item->valuestring), decoded));
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

static void check_survives(const struct json_publication *p)
{
	struct json_publication again = {0};
	struct json_error error;
	struct buf out = {0};

	append(&out, "{\"data\":");
	append_string(&out, p->data);
	append(&out, ",\"topic\":");
	append_string(&out, p->topic);
	append(&out, "}");
	CHECK(json_read_publication(&again, (struct span){out.bytes, out.len},
				    &error) == 0);
	CHECK(span_equal(again.topic, p->topic));
	CHECK(span_equal(again.data, p->data));
	buf_fini(&again.memory);
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

/* Returns what cJSON makes of `text`, NULL if it is not JSON. */
static cJSON *check_text(struct span text)
{
	struct json_error error;
	int status = json_check(text, &error);
	cJSON *root;

	if (status != 0) {
		CHECK(status == 400);
		check_error(&error, status);
		return NULL;
	}
	CHECK(json_is_utf8(text));
	root = cJSON_ParseWithLengthOpts(text.bytes, text.len, NULL, false);
	CHECK(root != NULL);
	check_printed(root);
	if (cJSON_IsObject(root))
		check_beginnings(text);
	return root;
}

static void check_publication(struct span text, const cJSON *root)
{
	struct json_publication p = {0};
	struct json_error error;
	int status = json_read_publication(&p, text, &error);

	CHECK((status == 400) == (root == NULL));
	if (status == 0) {
		check_span(p.topic, &p.memory);
		check_span(p.data, &p.memory);
		check_decoded(root, text, "topic", p.topic);
		check_decoded(root, text, "data", p.data);
		check_survives(&p);
	} else {
		check_error(&error, status);
	}
	buf_fini(&p.memory);
}

static void check_subscription(struct span text, const cJSON *root)
{
	struct json_subscription s = {0};
	struct json_error error;
	int status = json_read_subscription(&s, text, &error);

	CHECK((status == 400) == (root == NULL));
	if (status == 0) {
		check_span(s.publisher, &s.memory);
		check_span(s.topic, &s.memory);
		check_decoded(root, text, "publisher", s.publisher);
		check_decoded(root, text, "topic", s.topic);
	} else {
		check_error(&error, status);
	}
	buf_fini(&s.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct span text = {(const char *)bytes, len};
	cJSON *root = check_text(text);

	check_publication(text, root);
	check_subscription(text, root);
	cJSON_Delete(root);
	return 0;
}
