/* sub_query.c - what a GET /sub asks for: its protocol, topics, place and
 * token. */
#include "api/private.h"

const char routes_no_memory[] = "Internal server error";

/* --- the query ------------------------------------------------------------ */

/* What the query says, beside what goes into the query as it is. */
struct query {
	struct span since; /* absent, or not empty */
	/* The same by names that clients' libraries use, of which nobody has
	 * checked that they are ids: lastEventId, Last-Event-ID. */
	struct span seen[2];
	struct span token; /* ?access_token, or absent */
};

/* Decodes a value behind those that r->query has; it has room for all. */
static int decode_value(struct routes *r, struct span value, struct span *out,
			const char **wrong)
{
	size_t start = r->query.len;

	if (http_decode(value, true, &r->query) != 0)
		return refuse(wrong, "The query is not percent-encoded UTF-8");
	*out = (struct span){r->query.bytes + start, r->query.len - start};
	return 0;
}

static int decode_name(struct routes *r, struct span value, struct span *out,
		       const char **wrong)
{
	int rv = decode_value(r, value, out, wrong);

	if (rv == 0 && out->len > NAME_MAX_BYTES)
		return refuse(wrong, NAME_TOO_LONG);
	return rv;
}

static int add_query_topic(struct routes *r, struct sub_query *sub_query,
			   struct span value, const char **wrong)
{
	struct span *topic = &sub_query->topics[sub_query->topics_count];

	if (sub_query->topics_count == routes_config(r)->subscriptions_max)
		return refuse(wrong, "There are too many topics");
	int rv = decode_name(r, value, topic, wrong);
	if (rv != 0)
		return rv;
	for (unsigned i = 0; i < sub_query->topics_count; i++)
		if (span_equal(sub_query->topics[i], *topic))
			return refuse(wrong, "A topic is there twice");
	sub_query->topics_count++;
	return 0;
}

static int read_sub_parameter(struct routes *r, struct query *query,
			      struct span name, struct span value,
			      const char **wrong)
{
	struct sub_query *sub_query = &r->sub_query;

	if (http_query_is_name(name, "topic"))
		return add_query_topic(r, sub_query, value, wrong);
	if (http_query_is_name(name, "publisher")) {
		if (sub_query->publisher.bytes != NULL)
			return refuse(wrong, "publisher is there twice");
		return decode_name(r, value, &sub_query->publisher, wrong);
	}
	if (http_query_is_name(name, "since") && value.len > 0)
		return decode_value(r, value, &query->since, wrong);
	if (http_query_is_name(name, "last")) {
		sub_query->has_last = true;
		if (cursor_parse_last(value, &sub_query->last) == 0)
			return 0;
		return refuse(wrong, "last must be a number, at most 65536");
	}
	if (http_query_is_name(name, "lastEventId") && value.len > 0)
		return decode_value(r, value, &query->seen[0], wrong);
	if (http_query_is_name(name, "Last-Event-ID") && value.len > 0)
		return decode_value(r, value, &query->seen[1], wrong);
	if (http_query_is_name(name, "access_token"))
		return decode_value(r, value, &query->token, wrong);
	if (http_query_is_name(name, "envelope"))
		sub_query->has_envelopes = span_equal(value, SPAN("true"));
	return 0;
}

static int read_sub_parameters(struct routes *r, struct span text,
			       struct query *query, const char **wrong)
{
	struct span name;
	struct span value;
	int rv = 0;

	r->query.len = 0;
	/* Once: decoding makes nothing longer, and spans must not move. */
	if (buf_reserve(&r->query, text.len + 1) != 0)
		return UV_ENOMEM;
	while (rv == 0 && http_query_next(&text, &name, &value))
		rv = read_sub_parameter(r, query, name, value, wrong);
	return rv;
}

/* Whether what it says goes together. */
static int check_query(struct sub_query *sub_query, const struct query *query,
		       const char **wrong)
{
	uint64_t epoch;

	if ((sub_query->publisher.bytes != NULL) !=
	    (sub_query->topics_count > 0))
		return refuse(wrong, "publisher and topic go together");
	if (sub_query->has_last && sub_query->topics_count == 0)
		return refuse(wrong, "last needs a topic");
	if (query->since.bytes == NULL)
		return 0;
	if (sub_query->topics_count == 0)
		return refuse(wrong, "since needs a topic");
	if (cursor_parse(query->since, sub_query->topics_count, &epoch,
			 sub_query->resume.positions) != 0)
		return refuse(
			wrong,
			"since must be an id, with a number for each topic");
	return 0;
}

/* --- where it goes on ----------------------------------------------------- */

/* Whether a client was at `a` before it was at `b`. */
static bool is_older(const uint64_t *a, const uint64_t *b, unsigned count)
{
	bool is_lower = false;

	for (unsigned i = 0; i < count; i++) {
		if (a[i] > b[i])
			return false;
		is_lower |= a[i] < b[i];
	}
	return is_lower;
}

/* Reads one place where the client says that it was; the newest counts. */
static void read_resume_place(struct sub_query *sub_query, uint64_t ours,
			      struct span id)
{
	struct sub_resume *resume = &sub_query->resume;
	unsigned count = sub_query->topics_count;
	uint64_t positions[CURSOR_PARTS_MAX];
	uint64_t epoch;

	if (id.len == 0)
		return;
	if (!resume->is_wanted) {
		/* What is no id of ours is answered as one that is too old. */
		resume->is_wanted = true;
		resume->epoch = ~ours;
		memset(resume->positions, 0, count * sizeof positions[0]);
	}
	if (cursor_parse(id, count, &epoch, positions) != 0)
		return;
	resume->is_foreign |= epoch != ours;
	if (epoch != ours)
		return;
	if (resume->epoch == ours &&
	    is_older(positions, resume->positions, count))
		return;
	resume->epoch = ours;
	memcpy(resume->positions, positions, count * sizeof positions[0]);
}

/* Of several places the newest counts, since a library that connects again may
 * leave an older one in the URL. */
static void read_resume(struct routes *r, const struct query *query,
			const struct http_request *request)
{
	uint64_t ours = registry_epoch(r->worker->shared->registry);
	struct sub_query *sub_query = &r->sub_query;

	if (sub_query->topics_count == 0)
		return;
	read_resume_place(sub_query, ours, query->since);
	read_resume_place(sub_query, ours, query->seen[0]);
	read_resume_place(sub_query, ours, query->seen[1]);
	if (sub_query->kind == SUB_STREAM)
		read_resume_place(sub_query, ours,
				  request->fields[HTTP_LAST_EVENT_ID]);
}

/* --- what it shows -------------------------------------------------------- */

/* The token among the offered subprotocols, or an absent or malformed one. */
static struct span offered_token(const struct http_request *request)
{
	const struct span prefix = SPAN(ROUTES_BEARER_PREFIX);
	struct span offered = http_list_find_prefix(
		request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL], prefix);

	if (offered.bytes == NULL)
		return offered;
	return (struct span){offered.bytes + prefix.len,
			     offered.len - prefix.len};
}

/* Of the places where a token may be, the first that has one counts; what is
 * malformed is none. */
static struct span find_token(struct span in_query,
			      const struct http_request *request)
{
	const struct span places[] = {
		http_bearer_token(request->fields[HTTP_AUTHORIZATION]),
		offered_token(request), in_query};

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
		if (http_is_token(places[i]))
			return places[i];
	return (struct span){0};
}

/* An empty one says nothing. */
static struct span find_cookie(const struct routes *r,
			       const struct http_request *request)
{
	struct span cookie = request->fields[HTTP_COOKIE];

	if (!routes_config(r)->auth_cookie || cookie.len == 0)
		return (struct span){0};
	return cookie;
}

/* --- all of it ------------------------------------------------------------ */

enum sub_kind routes_kind_of(const struct http_request *request)
{
	if (!http_list_has(request->fields[HTTP_UPGRADE], SPAN("websocket")))
		return SUB_STREAM;
	return http_list_has_exactly(
		       request->fields[HTTP_SEC_WEBSOCKET_PROTOCOL],
		       SPAN(ROUTES_SUBPROTOCOL))
		       ? SUB_V1
		       : SUB_RAW;
}

int routes_read_sub_query(struct routes *r, const struct http_request *request,
			  const char **wrong)
{
	struct sub_query *sub_query = &r->sub_query;
	struct query query = {.token = {0}};

	*sub_query = (struct sub_query){.kind = routes_kind_of(request)};
	int rv = read_sub_parameters(r, request->query, &query, wrong);
	if (rv == 0)
		rv = check_query(sub_query, &query, wrong);
	if (rv != 0)
		return rv;
	read_resume(r, &query, request);
	sub_query->token = find_token(query.token, request);
	sub_query->cookie = find_cookie(r, request);
	return 0;
}
