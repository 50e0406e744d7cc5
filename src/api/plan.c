/* plan.c - the query of GET /sub. */
#include "api/private.h"

const char routes_no_memory[] = "Internal server error";

/* Decodes a value behind those that r->query has; it has room for all. */
static const char *decode(struct routes *r, struct span value, struct span *out)
{
	size_t start = r->query.len;

	if (http_decode(value, true, &r->query) != 0)
		return "The query is not percent-encoded UTF-8";
	*out = (struct span){r->query.bytes + start, r->query.len - start};
	return NULL;
}

static const char *decode_name(struct routes *r, struct span value,
			       struct span *out)
{
	const char *wrong = decode(r, value, out);

	return wrong == NULL && out->len > NAME_MAX_BYTES ? NAME_TOO_LONG
							  : wrong;
}

static const char *add_topic(struct routes *r, struct plan *plan,
			     struct span value)
{
	struct span *topic = &plan->topics[plan->topics_count];

	if (plan->topics_count == routes_config(r)->subscriptions_max)
		return "There are too many topics";
	const char *wrong = decode_name(r, value, topic);
	if (wrong != NULL)
		return wrong;
	for (unsigned i = 0; i < plan->topics_count; i++)
		if (span_equal(plan->topics[i], *topic))
			return "A topic is there twice";
	plan->topics_count++;
	return NULL;
}

static const char *read_parameter(struct routes *r, struct plan *plan,
				  struct span name, struct span value)
{
	if (http_query_is_name(name, "topic"))
		return add_topic(r, plan, value);
	if (http_query_is_name(name, "publisher")) {
		if (plan->publisher.bytes != NULL)
			return "publisher is there twice";
		return decode_name(r, value, &plan->publisher);
	}
	if (http_query_is_name(name, "since") && value.len > 0)
		return decode(r, value, &plan->since);
	if (http_query_is_name(name, "last")) {
		plan->has_last = true;
		return cursor_parse_last(value, &plan->last) == 0
			       ? NULL
			       : "last must be a number, at most 65536";
	}
	if (http_query_is_name(name, "lastEventId") && value.len > 0)
		return decode(r, value, &plan->seen[0]);
	if (http_query_is_name(name, "Last-Event-ID") && value.len > 0)
		return decode(r, value, &plan->seen[1]);
	if (http_query_is_name(name, "access_token"))
		return decode(r, value, &plan->token);
	if (http_query_is_name(name, "envelope"))
		plan->has_envelopes = span_equal(value, SPAN("true"));
	return NULL;
}

const char *routes_read_plan(struct routes *r, struct span query)
{
	struct plan *plan = &r->plan;
	struct span name;
	struct span value;
	const char *wrong = NULL;
	uint64_t epoch;

	*plan = (struct plan){.topics_count = 0};
	r->query.len = 0;
	/* Once: decoding makes nothing longer, and spans must not move. */
	if (buf_reserve(&r->query, query.len + 1) != 0)
		return routes_no_memory;
	while (wrong == NULL && http_query_next(&query, &name, &value))
		wrong = read_parameter(r, plan, name, value);
	if (wrong != NULL)
		return wrong;
	if ((plan->publisher.bytes != NULL) != (plan->topics_count > 0))
		return "publisher and topic go together";
	if (plan->has_last && plan->topics_count == 0)
		return "last needs a topic";
	if (plan->since.bytes == NULL)
		return NULL;
	if (plan->topics_count == 0)
		return "since needs a topic";
	if (cursor_parse(plan->since, plan->topics_count, &epoch,
			 r->positions) != 0)
		return "since must be an id, with a number for each topic";
	return NULL;
}
