/* topics.c - GET /topics and GET /topics/TOPIC: what there is. */
#include "api/private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000
#define NUMBERS_MAX   128 /* bytes of a topic's numbers, as JSON */
/* Bytes of a page: behind that no topic begins. */
#define PAGE_MAX      1048576
#define PAGE_KEPT_MAX 262144 /* bytes kept for the next page */
#define NO_STORE      "Cache-Control: no-store\r\n"

static const struct span folder = {"/topics/", 8};

/* What a query asks for. */
struct wanted {
	bool all; /* the topics of every publisher */
	unsigned limit;
	uint64_t after;
};

/* A page being written, under a shard's lock. */
struct page {
	struct buf *out;
	const struct bus *bus; /* NULL: there is this node alone */
	uint64_t epoch;
	unsigned count;
};

static int append_part(struct buf *out, struct span text)
{
	return buf_append(out, text.bytes, text.len);
}

static int append_member(struct buf *out, struct span name, struct span value)
{
	int rv = append_part(out, name);
	return rv != 0 ? rv : json_write_string(out, value);
}

static int append_numbers(struct page *p, const struct registry_topic *t)
{
	char id[CURSOR_MAX];
	char text[NUMBERS_MAX];
	uint64_t subscribers = t->subscribers;

	if (p->bus != NULL)
		subscribers += bus_subscribers_elsewhere(
			p->bus, t->key.publisher, t->key.name);
	cursor_write(id, p->epoch, t->sequence);
	int n = snprintf(text, sizeof text,
			 ",\"subscribers\":%" PRIu64
			 ",\"id\":\"%s\",\"history\":%u}",
			 subscribers, id, t->messages_count);
	return buf_append(p->out, text, (size_t)n);
}

/* registry_visit_cb */
static int write_topic(void *user, const struct registry_topic *t)
{
	struct page *p = user;
	int rv = 0;

	if (p->out->len > PAGE_MAX)
		return UV_E2BIG;
	if (p->count++ > 0)
		rv = append_part(p->out, SPAN(","));
	if (rv == 0)
		rv = append_member(p->out, SPAN("{\"publisher\":"),
				   t->key.publisher);
	if (rv == 0)
		rv = append_member(p->out, SPAN(",\"topic\":"), t->key.name);
	return rv != 0 ? rv : append_numbers(p, t);
}

static void send_page(struct conn *c, struct buf *page)
{
	conn_respond(
		c, &(struct http_response){.status = 200,
					   .content_type = "application/json",
					   .content = {page->bytes, page->len},
					   .fields = NO_STORE});
	if (page->cap > PAGE_KEPT_MAX)
		buf_fini(page);
}

/* Reads all of `text` as a number of the base. */
static bool read_digits(struct span text, int base, size_t max_digits,
			uint64_t *out)
{
	static const char digits[] = "0123456789abcdef";

	*out = 0;
	for (size_t i = 0; i < text.len; i++) {
		const char *digit = memchr(digits, text.bytes[i], (size_t)base);
		if (digit == NULL)
			return false;
		*out = *out * (uint64_t)base + (uint64_t)(digit - digits);
	}
	return text.len > 0 && text.len <= max_digits;
}

/* Returns 0, or UV_EINVAL and `*wrong`. */
static int read_wanted(struct span query, struct wanted *wanted,
		       const char **wrong)
{
	struct span name;
	struct span value;
	uint64_t limit = LIMIT_DEFAULT;

	*wanted = (struct wanted){0};
	while (http_query_next(&query, &name, &value)) {
		if (http_query_is_name(name, "all"))
			wanted->all = span_equal(value, SPAN("true"));
		else if (http_query_is_name(name, "limit") &&
			 (!read_digits(value, 10, 4, &limit) || limit == 0 ||
			  limit > LIMIT_MAX))
			return refuse(wrong,
				      "limit must be a number from 1 to 1000");
		else if (http_query_is_name(name, "after") &&
			 !read_digits(value, 16, 16, &wanted->after))
			return refuse(wrong,
				      "after must be the `next` of a page");
	}
	wanted->limit = (unsigned)limit;
	return 0;
}

/* Writes up to `limit` topics from `*at` on. Returns 0 and where to go on; or
 * UV_E2BIG and how many fit into a page, fewer than `*limit`; or another UV_E…
 */
static int write_topics(struct routes *r, struct span publisher,
			unsigned *limit, uint64_t *at)
{
	struct registry *registry = r->worker->shared->registry;
	struct page page = {.out = &r->page,
			    .bus = r->worker->shared->bus,
			    .epoch = registry_epoch(registry)};

	r->page.len = 0;
	int rv = append_part(&r->page, SPAN("{\"topics\":["));
	if (rv == 0)
		rv = registry_page(registry, publisher, *limit, at, write_topic,
				   &page);
	*limit = page.count;
	return rv;
}

/* Returns 0 or a UV_E…, with the page in r->page. */
static int write_page(struct routes *r, struct span publisher,
		      const struct wanted *wanted)
{
	const struct span anybody = {0};
	unsigned limit = wanted->limit;
	uint64_t at = wanted->after;
	char next[24] = "null";
	char nodes[32] = "";
	char end[96];
	int rv;

	do
		rv = write_topics(r, wanted->all ? anybody : publisher, &limit,
				  &at);
	while (rv == UV_E2BIG);
	if (at != 0)
		snprintf(next, sizeof next, "\"%016" PRIx64 "\"", at);
	if (r->worker->shared->bus != NULL)
		snprintf(nodes, sizeof nodes, ",\"nodes\":%u",
			 bus_nodes(r->worker->shared->bus));
	snprintf(end, sizeof end, "],\"next\":%s%s}", next, nodes);
	return rv != 0 ? rv : append_part(&r->page, span_of(end));
}

void routes_show_topics(struct routes *r, struct conn *c,
			const struct http_request *request)
{
	struct wanted wanted;

	if (!routes_check_publisher(r, c, 401))
		return;
	const char *wrong;
	if (read_wanted(request->query, &wanted, &wrong) != 0)
		conn_respond_error(c, 400, wrong, NULL);
	else if (write_page(r, r->username, &wanted) != 0)
		conn_respond_error(c, 500, "Internal server error", NULL);
	else
		send_page(c, &r->page);
}

/* Returns 0, UV_EINVAL or UV_ENOMEM; the name lies in r->query. */
static int read_name(struct routes *r, struct span path, struct span *name)
{
	struct span encoded = {path.bytes + folder.len, path.len - folder.len};

	r->query.len = 0;
	int rv = http_decode(encoded, false, &r->query);
	*name = (struct span){r->query.bytes, r->query.len};
	return rv;
}

/* A topic of other nodes' subscribers alone never had a message that is still
 * kept, and will have none up to the number that is applied. Returns 0;
 * UV_ENOENT; UV_ENOMEM. */
static int find_elsewhere(const struct routes *r, const struct topic_key *key,
			  struct page *page)
{
	const struct registry_topic topic = {
		.key = *key,
		.sequence = registry_applied(r->worker->shared->registry)};

	if (bus_subscribers_elsewhere(page->bus, key->publisher, key->name) ==
	    0)
		return UV_ENOENT;
	return write_topic(page, &topic);
}

void routes_show_topic(struct routes *r, struct conn *c,
		       const struct http_request *request)
{
	struct registry *registry = r->worker->shared->registry;
	struct page page = {.out = &r->page,
			    .bus = r->worker->shared->bus,
			    .epoch = registry_epoch(registry)};
	struct topic_key key;

	if (!routes_check_publisher(r, c, 401))
		return;
	key.publisher = r->username;
	r->page.len = 0;
	int rv = read_name(r, request->path, &key.name);
	if (rv == UV_EINVAL) {
		conn_respond_error(
			c, 400, "The topic is not percent-encoded UTF-8", NULL);
		return;
	}
	if (key.name.len > NAME_MAX_BYTES) {
		conn_respond_error(c, 400, NAME_TOO_LONG, NULL);
		return;
	}
	if (rv == 0)
		rv = registry_find(registry, &key, write_topic, &page);
	if (rv == UV_ENOENT && page.bus != NULL)
		rv = find_elsewhere(r, &key, &page);
	if (rv == UV_ENOENT)
		conn_respond_error(c, 404, "There is no such topic", NULL);
	else if (rv != 0)
		conn_respond_error(c, 500, "Internal server error", NULL);
	else
		send_page(c, &r->page);
}
