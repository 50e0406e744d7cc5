/* fuzz_fields.c - fuzzes the reading of queries, percent-coding, Accept, lists
 * origins, hosts, and what proxies say.
 *
 * The input is two values, divided at its first line feed; a head could hold
 * most such values, but these functions must bear any. What is read must lie
 * within what was given, and agree with what related functions say. */
#include "codec/http/http.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/utf8.h"
#include "codec/forwarded.h"
#include "codec/host.h"
#include "codec/origin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that is alone in memory of its own, so that nothing is read beyond it
 * unnoticed; `text` gets a NUL behind it. */
static struct span copy_of(const uint8_t *data, size_t len, char **text)
{
	char *bytes = malloc(len + (len == 0));

	*text = malloc(len + 1);
	CHECK(bytes != NULL && *text != NULL);
	if (len > 0) {
		memcpy(bytes, data, len);
		memcpy(*text, data, len);
	}
	(*text)[len] = '\0';
	return (struct span){bytes, len};
}

static void check_within(struct span part, struct span whole)
{
	CHECK(part.bytes >= whole.bytes);
	CHECK(part.bytes + part.len <= whole.bytes + whole.len);
}

static struct span span_of_buf(const struct buf *b)
{
	return (struct span){b->bytes, b->len};
}

/* --- queries -------------------------------------------------------------- */

/* Whether `encoded` decodes to `text`. */
static bool decodes_to(struct span encoded, const char *text)
{
	struct buf decoded = {0};
	bool rv = http_decode(encoded, true, &decoded) == 0 &&
		  span_equal(span_of_buf(&decoded), span_of(text));

	buf_fini(&decoded);
	return rv;
}

/* Writes down the parameters of `query`, as they are, but those called `name`
 * (NULL: all). */
static void add_parameters(struct span query, const char *name,
			   struct buf *story)
{
	struct span rest = query;
	struct span n;
	struct span v;

	while (http_query_next(&rest, &n, &v)) {
		check_within(n, query);
		check_within(v, query);
		CHECK(memchr(n.bytes, '=', n.len) == NULL);
		CHECK(memchr(n.bytes, '&', n.len) == NULL);
		CHECK(memchr(v.bytes, '&', v.len) == NULL);
		if (name != NULL && decodes_to(n, name))
			continue;
		CHECK(buf_append(story, n.bytes, n.len) == 0);
		CHECK(buf_append(story, "=", 1) == 0);
		CHECK(buf_append(story, v.bytes, v.len) == 0);
		CHECK(buf_append(story, "&", 1) == 0);
	}
}

static void check_leaving_out(struct span query, const char *name)
{
	const char *const names[] = {name, NULL};
	struct buf out = {0};
	struct buf expected = {0};
	struct buf left = {0};

	CHECK(http_query_without(query, names, &out) == 0);
	CHECK(out.len <= query.len);
	add_parameters(query, name, &expected);
	add_parameters(span_of_buf(&out), NULL, &left);
	CHECK(span_equal(span_of_buf(&expected), span_of_buf(&left)));
	buf_fini(&out);
	buf_fini(&expected);
	buf_fini(&left);
}

static void check_query(struct span query)
{
	const char *const none[] = {NULL};
	struct buf out = {0};

	CHECK(http_query_without(query, none, &out) == 0);
	CHECK(span_equal(span_of_buf(&out), query));
	buf_fini(&out);
}

/* --- percent-coding ------------------------------------------------------- */

static void check_decoding(struct span text)
{
	for (int plus_is_space = 0; plus_is_space < 2; plus_is_space++) {
		struct buf out = {0};

		if (http_decode(text, plus_is_space, &out) == 0)
			CHECK(utf8_is_valid(span_of_buf(&out)));
		else
			CHECK(out.len == 0);
		buf_fini(&out);
	}
}

static void check_encoding(struct span text)
{
	struct buf encoded = {0};
	struct buf decoded = {0};
	struct span rest;
	struct span name;
	struct span value;

	CHECK(http_encode(text, &encoded) == 0);
	rest = span_of_buf(&encoded);
	CHECK(http_query_next(&rest, &name, &value) == (text.len > 0));
	CHECK(text.len == 0 || span_equal(name, span_of_buf(&encoded)));
	CHECK((http_decode(span_of_buf(&encoded), true, &decoded) == 0) ==
	      utf8_is_valid(text));
	CHECK(decoded.len == 0 || span_equal(span_of_buf(&decoded), text));
	buf_fini(&encoded);
	buf_fini(&decoded);
}

/* --- fields and origins --------------------------------------------------- */

static void check_accept(struct span accept, struct span type)
{
	unsigned quality = http_accept_quality(accept, type);

	CHECK(quality <= 1000);
	if (http_accepts_explicitly(accept, type))
		CHECK(quality > 0);
}

static void check_coding_and_tag(struct span text, struct span one)
{
	http_accepts_coding(text, one);
	if (http_has_entity_tag(text, one))
		CHECK(text.len >= one.len || memchr(text.bytes, '*', text.len));
}

static void check_list(struct span list, struct span prefix)
{
	struct span found = http_list_find_prefix(list, prefix);

	(void)http_is_token(list);
	if (found.bytes == NULL)
		return;
	check_within(found, list);
	CHECK(found.len >= prefix.len);
	CHECK(http_list_has(list, found));
}

static void check_origins(const char *list, struct span origin)
{
	bool is_fine = origin_check_list(list, NULL) == 0;
	bool is_allowed = origin_is_allowed(list, origin);

	if (origin_allows_any(list))
		CHECK(is_fine && is_allowed);
	/* What is one origin in a list is in that list. */
	if (is_fine && strchr(list, ',') == NULL && strchr(list, ' ') == NULL &&
	    strchr(list, '\t') == NULL)
		CHECK(origin_is_allowed(list, span_of(list)));
	if (origin_is_same(origin, span_of(list)))
		CHECK(origin_is_allowed("*", origin) &&
		      !origin_is_allowed("null", origin));
}

/* --- proxies and hosts ---------------------------------------------------- */

static void check_address(struct span text)
{
	struct forwarded_address a;
	struct forwarded_address again;
	char written[FORWARDED_TEXT_MAX];

	if (!forwarded_read_address(text, &a))
		return;
	forwarded_write_address(&a, written);
	CHECK(forwarded_read_address(span_of(written), &again));
	CHECK(memcmp(&a, &again, sizeof a) == 0);
}

static bool is_address(const char *text)
{
	struct forwarded_address a;

	return forwarded_read_address(span_of(text), &a);
}

/* Whoever is not trusted is himself, whatever he says; else it is an address.
 */
static void check_proxies(const char *list, struct span value)
{
	static const char *const peers[] = {"10.0.0.1", "2001:db8::1", ""};
	const struct forwarded_fields fields[] = {
		{.x_for = value, .x_proto = value},
		{.forwarded = value},
		{.x_for = value, .forwarded = value}};
	struct forwarded_proxies p;
	char client[FORWARDED_TEXT_MAX];

	if (forwarded_read_proxies(&p, list, NULL) != 0)
		CHECK(forwarded_read_proxies(&p, "10.0.0.0/8,unix", NULL) == 0);
	for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++)
		for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
			forwarded_find_client(&p, peers[i], &fields[f], client);
			(void)forwarded_find_scheme(&p, peers[i], &fields[f]);
			if (!forwarded_trusts(&p, peers[i]))
				CHECK(strcmp(client, peers[i]) == 0);
			else
				CHECK(is_address(client) ||
				      strcmp(client, peers[i]) == 0);
		}
}

static void check_hosts(const char *list, struct span host)
{
	if (host_check_list(list, NULL) != 0)
		return;
	CHECK(host_is_allowed("*", host));
	if (host_is_allowed(list, host) && host.bytes != NULL)
		CHECK(strchr(list, '*') != NULL || host.len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size == 0 ? NULL : memchr(data, '\n', size);
	size_t len = end == NULL ? size : (size_t)(end - data);
	size_t other_len = end == NULL ? 0 : size - len - 1;
	char *text;
	char *other_text;
	struct span value = copy_of(data, len, &text);
	struct span other =
		copy_of(data + size - other_len, other_len, &other_text);

	check_query(value);
	if (utf8_is_valid(span_of(other_text)))
		check_leaving_out(value, other_text);
	check_leaving_out(value, "token");
	check_decoding(value);
	check_encoding(value);
	check_accept(value, other);
	check_accept(value, SPAN("text/event-stream"));
	check_coding_and_tag(value, SPAN("gzip"));
	check_list(value, other);
	check_list(value, SPAN("bearer."));
	check_origins(text, other);
	check_address(value);
	check_proxies(text, other);
	check_hosts(text, other);
	/* They are copy_of()'s own. */
	free((void *)(uintptr_t)value.bytes);
	free((void *)(uintptr_t)other.bytes);
	free(text);
	free(other_text);
	return 0;
}
