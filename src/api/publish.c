/* publish.c - POST /pub and POST /pub/TOPIC. */
#include "api/private.h"
#include "base/utf8.h"
#include "codec/traceparent.h"
#include "server/apply.h"
#include "server/relief.h"
#include "topics/idempotency.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY_MAX_BYTES 255 /* of an Idempotency-Key */
#define RETRY         "Retry-After: 1\r\n"
#define UNKNOWN                                                                \
	"It may have been published: repeat it with the same Idempotency-Key"

static const struct span folder = {"/pub/", 5};

/* Of the request; absent if it has none. */
static struct span trace_of(const struct http_request *request)
{
	return traceparent_parse(request->fields[HTTP_TRACEPARENT]);
}

static bool is_plain_request(const struct http_request *request)
{
	return request->path.len > folder.len;
}

/* --- the log ------------------------------------------------------------- */

void routes_log_published(struct routes *r, const struct topic_key *key,
			  struct span traceparent, uint64_t epoch,
			  const struct registry_receipt *receipt)
{
	char id[CURSOR_MAX];

	if (!log_is_on(LOG_DEBUG))
		return;
	size_t len = cursor_write(id, epoch, receipt->sequence);
	log_event(LOG_DEBUG, "published",
		  LOG_FIELDS(log_number("worker", r->worker->index),
			     log_span("publisher", key->publisher),
			     log_span("topic", key->name),
			     log_span("id", (struct span){id, len}),
			     log_number("subscribers", receipt->subscribers),
			     log_span("traceparent", traceparent)),
		  "published a message");
}

static void log_unpublished(struct conn *c, int status, const char *why)
{
	const struct http_request *request = conn_request(c);

	log_event(LOG_DEBUG, "publish_refused",
		  LOG_FIELDS(log_number("worker", routes_of(c)->worker->index),
			     log_span("path", request->path),
			     log_number("status", (uint64_t)status),
			     log_span("traceparent", trace_of(request))),
		  "refused a publication: %s", why);
}

/* --- before the content ------------------------------------------------- */

static void refuse_publication(struct routes *r, struct conn *c, int status,
			       const char *text)
{
	stats_add(routes_stats(r), STATS_publish_invalid, 1);
	log_unpublished(c, status, text);
	conn_respond_error(c, status, text, NULL);
}

/* For now: 503. */
static void refuse_for_now(struct routes *r, struct conn *c, const char *text)
{
	stats_add(routes_stats(r), STATS_publish_full, 1);
	log_unpublished(c, 503, text);
	conn_respond_error(c, 503, text, RETRY);
}

static void refuse_as_full(struct routes *r, struct conn *c)
{
	refuse_for_now(r, c, "Too much is waiting to be sent");
}

static void refuse_without_log(struct routes *r, struct conn *c)
{
	refuse_for_now(r, c, "The log can't be reached");
}

/* Media types of a plain body; `curl -d` sends that of a form. */
static bool is_plain_type(struct span type)
{
	return type.bytes == NULL ||
	       (type.len > 5 && strncasecmp(type.bytes, "text/", 5) == 0) ||
	       http_is_media_type(type,
				  SPAN("application/x-www-form-urlencoded"));
}

/* An application/json request of a page is preceded by a preflight; a plain one
 * may be a form's, sent with the password that the browser remembers. */
static bool check_content_type(struct routes *r, struct conn *c,
			       const struct http_request *request)
{
	struct span type = request->fields[HTTP_CONTENT_TYPE];

	if (!is_plain_request(request)) {
		if (http_is_json(type))
			return true;
		refuse_publication(r, c, 415,
				   "Content-Type must be application/json");
		return false;
	}
	if (!routes_trusts_origin(r, request)) {
		stats_add(routes_stats(r), STATS_origin_refused, 1);
		refuse_publication(r, c, 403,
				   "Origin is not allowed to publish here");
		return false;
	}
	if (is_plain_type(type))
		return true;
	refuse_publication(
		r, c, 415,
		"Content-Type must be text/*; for JSON there is /pub");
	return false;
}

/* A coded body is refused: it is not decoded here, and is no text as it is. */
static bool check_coding(struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	struct span coding = request->fields[HTTP_CONTENT_ENCODING];

	if (coding.len == 0 || span_equal_nocase(coding, SPAN("identity")))
		return true;
	stats_add(routes_stats(r), STATS_publish_invalid, 1);
	conn_respond_error(c, 415, "Content-Encoding is not supported",
			   "Accept-Encoding: identity\r\n");
	return false;
}

static bool is_key(struct span key)
{
	for (size_t i = 0; i < key.len; i++)
		if (key.bytes[i] < 0x20 || key.bytes[i] > 0x7e)
			return false;
	return key.len > 0 && key.len <= KEY_MAX_BYTES;
}

void routes_check_publish(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	struct span key = request->fields[HTTP_IDEMPOTENCY_KEY];

	if (!routes_check_publisher(r, c, 400)) {
		stats_add(routes_stats(r), STATS_publish_denied, 1);
		return;
	}
	if (!relief_find_memory(r->worker)) {
		refuse_as_full(r, c);
		return;
	}
	if (!check_content_type(r, c, request) || !check_coding(r, c, request))
		return;
	if (key.bytes != NULL && !is_key(key))
		refuse_publication(
			r, c, 400,
			"Idempotency-Key must be 1 to 255 printable ASCII "
			"characters");
}

/* --- publishing --------------------------------------------------------- */

static struct message *make_message(const struct routes *r,
				    struct json_data data)
{
	struct message *m =
		message_new_from(data, r->worker->shared->workers_count);

	if (m != NULL)
		m->accepted_ns = uv_hrtime();
	return m;
}

static void count_published(struct routes *r, size_t count, size_t bytes)
{
	relief_on_publication(r->worker->shared);
	stats_add(routes_stats(r), STATS_published, count);
	stats_add(routes_stats(r), STATS_published_bytes, bytes);
}

int routes_publish_one(struct routes *r, const struct topic_key *key,
		       struct json_data data, struct registry_receipt *receipt)
{
	struct message *m = make_message(r, data);
	if (m == NULL)
		return UV_ENOMEM;
	int rv = registry_publish(r->worker->shared->registry, key, m, receipt);
	if (rv != 0)
		return rv;
	count_published(r, 1, data.text.len);
	routes_log_published(r, key, data.traceparent,
			     registry_epoch(r->worker->shared->registry),
			     receipt);
	return 0;
}

/* A client's mistake; or a full machine. */
static int refused(struct json_error *error, int status, const char *text)
{
	error->status = status;
	snprintf(error->text, sizeof error->text, "%s", text);
	return status;
}

/* Decodes a part of the target behind what r->query has, which has room. */
static int decode_part(struct routes *r, struct span encoded, bool is_query,
		       struct span *out, struct json_error *error)
{
	size_t start = r->query.len;

	if (http_decode(encoded, is_query, &r->query) != 0)
		return refused(error, 400,
			       is_query ? "The query is not percent-encoded "
					  "UTF-8"
					: "The topic is not percent-encoded "
					  "UTF-8");
	*out = (struct span){r->query.bytes + start, r->query.len - start};
	return 0;
}

/* Reads ?event=TYPE; whatever else is in the query is nobody's. */
static int read_event(struct routes *r, struct span query,
		      struct json_data *data, struct json_error *error)
{
	struct span event = {0};
	struct span name;
	struct span value;
	int status = 0;

	while (status == 0 && http_query_next(&query, &name, &value)) {
		if (!http_query_is_name(name, "event"))
			continue;
		if (event.bytes != NULL)
			return refused(error, 400, "event is there twice");
		status = decode_part(r, value, true, &event, error);
	}
	return status != 0 ? status : json_take_event(data, event, error);
}

/* A plain body as one publication, whose topic and event lie in r->query.
 * Returns 0 or error->status. */
static int read_plain(struct routes *r, const struct http_request *request,
		      struct json_publication *p, struct json_error *error)
{
	struct span topic = {request->path.bytes + folder.len,
			     request->path.len - folder.len};

	p->data = (struct json_data){.text = request->content};
	r->query.len = 0;
	/* Once: decoding makes nothing longer, and spans must not move. */
	if (buf_reserve(&r->query, topic.len + request->query.len + 1) != 0)
		return refused(error, 500, "Internal server error");
	int status = decode_part(r, topic, false, &p->topic, error);
	if (status != 0)
		return status;
	if (p->topic.len > NAME_MAX_BYTES)
		return refused(error, 400, NAME_TOO_LONG);
	if (!utf8_is_valid(request->content))
		return refused(error, 400, "The body is not UTF-8");
	return read_event(r, request->query, &p->data, error);
}

static void add_receipt(struct routes *r,
			const struct registry_receipt *receipt)
{
	receipt_list_add(&r->page, registry_epoch(r->worker->shared->registry),
			 receipt);
}

static int publish_single(struct routes *r, const struct batch *b)
{
	struct topic_key key = {b->publisher, b->all[0].topic};
	struct registry_receipt receipt;

	int rv = routes_publish_one(r, &key, b->all[0].data, &receipt);
	if (rv == 0)
		add_receipt(r, &receipt);
	return rv;
}

/* Makes the messages of all. Returns 0; or UV_ENOMEM, with none made. */
static int make_items(struct routes *r, const struct batch *b,
		      struct registry_item *items)
{
	for (size_t i = 0; i < b->count; i++) {
		items[i] = (struct registry_item){
			.key = {b->publisher, b->all[i].topic},
			.message = make_message(r, b->all[i].data)};
		if (items[i].message != NULL)
			continue;
		while (i-- > 0)
			message_unref(items[i].message, 1);
		return UV_ENOMEM;
	}
	return 0;
}

static int publish_several(struct routes *r, const struct batch *b)
{
	struct registry_item *items = malloc(b->count * sizeof *items);
	size_t bytes = 0;
	int rv = UV_ENOMEM;

	if (items != NULL)
		rv = make_items(r, b, items);
	if (rv == 0)
		rv = registry_publish_all(r->worker->shared->registry, items,
					  b->count);
	for (size_t i = 0; rv == 0 && i < b->count; i++) {
		add_receipt(r, &items[i].receipt);
		routes_log_published(
			r, &items[i].key, b->all[i].data.traceparent,
			registry_epoch(r->worker->shared->registry),
			&items[i].receipt);
	}
	for (size_t i = 0; i < b->count; i++)
		bytes += b->all[i].data.text.len;
	if (rv == 0)
		count_published(r, b->count, bytes);
	free(items);
	return rv;
}

/* Publishes all or nothing, with the receipts in r->page, which has room for
 * them before anything is published: nothing that was goes unmentioned. Returns
 * 0, UV_ENOBUFS or UV_ENOMEM. */
static int publish_all(struct routes *r, const struct batch *b)
{
	int rv = receipt_list_begin(&r->page, b->count, b->is_array);

	if (rv == 0 && b->count == 1)
		rv = publish_single(r, b);
	else if (rv == 0 && b->count > 1)
		rv = publish_several(r, b);
	if (rv == 0)
		receipt_list_end(&r->page, b->is_array);
	return rv;
}

static void answer_receipts(struct routes *r, struct conn *c, bool is_repeated)
{
	conn_respond(c, &(struct http_response){
				.status = 200,
				.content_type = "application/json",
				.content = {r->page.bytes, r->page.len},
				.fields = is_repeated ? "Idempotency-Replayed: "
							"true\r\n"
						      : NULL});
}

static void answer_outcome(struct routes *r, struct conn *c, int rv)
{
	if (rv == 0)
		answer_receipts(r, c, false);
	else if (rv == UV_ENOBUFS)
		refuse_as_full(r, c);
	else
		conn_respond_error(c, 500, "Internal server error", NULL);
}

/* Answers what was answered before. */
static void repeat(struct routes *r, struct conn *c)
{
	stats_add(routes_stats(r), STATS_publish_repeated, 1);
	answer_receipts(r, c, true);
}

/* What idempotency_begin() has found. */
static void answer_found(struct routes *r, struct conn *c, int found)
{
	if (found == UV_EEXIST)
		repeat(r, c);
	else if (found == UV_EINVAL)
		refuse_publication(
			r, c, 422,
			"Idempotency-Key was used for another request");
	else
		conn_respond_error(c, 500, "Internal server error", NULL);
}

static bool answer_repeated(struct routes *r, struct conn *c,
			    const struct idempotency_request *key)
{
	struct idempotency *idempotency = r->worker->shared->idempotency;
	uint64_t now_ms = uv_hrtime() / 1000000;
	int rv = idempotency_begin(idempotency, key, now_ms, 0, &r->page);

	if (rv == 0)
		idempotency_end(idempotency, key, now_ms, (struct span){0});
	else
		answer_found(r, c, rv);
	return rv != 0;
}

/* Writes the receipts to r->page. Returns 0 or UV_ENOMEM. */
static int write_replicated(struct routes *r, const struct bus_request *q)
{
	const struct apply_published published = {.body = {q->body, q->len},
						  .count = q->count,
						  .is_array = q->is_array,
						  .epoch = q->epoch,
						  .number = q->number};

	return apply_write_receipts(r->worker->shared, &r->page, &published);
}

static void log_replicated(struct routes *r, const struct bus_request *q)
{
	struct span body = {q->body, q->len};
	struct record_publication p;

	if (!log_is_on(LOG_DEBUG))
		return;
	for (unsigned i = 0; record_next(&body, &p); i++) {
		struct topic_key key = {p.publisher, p.topic};
		struct registry_receipt receipt = {
			q->number + i,
			worker_count_subscribers(r->worker->shared, &key)};

		routes_log_published(r, &key, p.traceparent, q->epoch,
				     &receipt);
	}
}

static void count_replicated(struct routes *r, const struct bus_request *q)
{
	struct span body = {q->body, q->len};
	struct record_publication p;
	uint64_t bytes = 0;

	while (record_next(&body, &p))
		bytes += p.data.len;
	stats_add(routes_stats(r), STATS_published, q->count);
	stats_add(routes_stats(r), STATS_published_bytes, bytes);
}

/* routes_published_cb */
static void on_request_published(struct routes *r, struct conn *c,
				 const struct bus_request *q)
{
	switch (q->outcome) {
	case BUS_PUBLISHED:
		count_replicated(r, q);
		log_replicated(r, q);
		if (write_replicated(r, q) == 0)
			answer_receipts(r, c, false);
		else
			conn_respond_error(c, 500, "Internal server error",
					   NULL);
		break;
	case BUS_REPEATED: {
		struct idempotency_request key;
		memcpy(key.id, q->id, sizeof key.id);
		memcpy(key.content, q->content, sizeof key.content);
		if (!answer_repeated(r, c, &key))
			conn_respond_error(c, 504, UNKNOWN, NULL);
		break;
	}
	case BUS_REFUSED:
		refuse_without_log(r, c);
		break;
	case BUS_UNKNOWN:
		conn_respond_error(c, 504, UNKNOWN, NULL);
		break;
	}
}

/* The log has it first. */
static void respond_later(struct routes *r, struct conn *c,
			  const struct batch *b,
			  const struct idempotency_request *key)
{
	switch (routes_replicate(r, c, b, key, on_request_published)) {
	case 0:
		break;
	case UV_E2BIG:
		refuse_publication(
			r, c, 413,
			"What is published at once has at most 1024 "
			"publications, and fits one message of the log");
		break;
	case UV_ENOTCONN:
		refuse_without_log(r, c);
		break;
	case UV_ENOBUFS:
		refuse_as_full(r, c);
		break;
	default:
		conn_respond_error(c, 500, "Internal server error", NULL);
	}
}

/* Path and query, which stand side by side. */
static struct span target_of(const struct http_request *request)
{
	struct span target = request->path;

	if (request->query.bytes != NULL)
		target.len += 1 + request->query.len;
	return target;
}

/* A batch of nothing is no record. */
static bool goes_to_log(const struct routes *r, const struct batch *b)
{
	return r->worker->shared->bus != NULL && b->count > 0;
}

/* A request that may come again. */
static void publish_once(struct routes *r, struct conn *c,
			 const struct http_request *request,
			 const struct batch *b)
{
	struct idempotency *idempotency = r->worker->shared->idempotency;
	struct idempotency_request id;
	uint64_t now_ms = uv_hrtime() / 1000000;

	idempotency_identify(&id, b->publisher,
			     request->fields[HTTP_IDEMPOTENCY_KEY],
			     target_of(request), request->content);
	int rv = idempotency_begin(idempotency, &id, now_ms,
				   receipt_list_max(b->count), &r->page);
	if (rv != 0) {
		answer_found(r, c, rv);
		return;
	}
	if (goes_to_log(r, b)) {
		idempotency_end(idempotency, &id, now_ms, (struct span){0});
		/* Without receipts the log must not know it again, either. */
		respond_later(r, c, b,
			      routes_config(r)->idempotency_ttl_ms > 0 ? &id
								       : NULL);
		return;
	}
	rv = publish_all(r, b);
	struct span receipt = {r->page.bytes, r->page.len};
	idempotency_end(idempotency, &id, now_ms,
			rv == 0 ? receipt : (struct span){0});
	answer_outcome(r, c, rv);
}

/* The publications that name no trace of their own are of the request's. */
static void take_trace(const struct http_request *request,
		       struct json_publication *all, size_t count)
{
	struct span trace = trace_of(request);

	if (trace.bytes == NULL)
		return;
	for (size_t i = 0; i < count; i++)
		if (all[i].data.traceparent.bytes == NULL)
			all[i].data.traceparent = trace;
}

static void publish_batch(struct routes *r, struct conn *c,
			  const struct http_request *request,
			  const struct batch *b)
{
	if (request->fields[HTTP_IDEMPOTENCY_KEY].bytes != NULL)
		publish_once(r, c, request, b);
	else if (goes_to_log(r, b))
		respond_later(r, c, b, NULL);
	else
		answer_outcome(r, c, publish_all(r, b));
}

static void publish_plain(struct routes *r, struct conn *c,
			  const struct http_request *request,
			  struct span publisher)
{
	struct json_publication one;
	struct json_error error;

	if (read_plain(r, request, &one, &error) != 0) {
		refuse_publication(r, c, error.status, error.text);
		return;
	}
	take_trace(request, &one, 1);
	struct batch batch = {publisher, &one, 1, false};
	publish_batch(r, c, request, &batch);
}

/* routes_check_publish() has read it, of this very request; seldom has another
 * client had its turn since. Returns false if it has answered. */
static bool find_publisher(struct routes *r, struct conn *c,
			   struct span *publisher)
{
	struct span password;

	*publisher = r->username;
	return r->credentials_of == c ||
	       routes_read_credentials(r, c, 400, publisher, &password);
}

void routes_publish(struct routes *r, struct conn *c,
		    const struct http_request *request)
{
	struct json_error error;
	struct span publisher;

	if (!find_publisher(r, c, &publisher))
		return;
	if (is_plain_request(request)) {
		publish_plain(r, c, request, publisher);
		return;
	}
	if (json_read_publications(&r->publications, request->content,
				   &error) != 0) {
		refuse_publication(r, c, error.status, error.text);
		return;
	}
	take_trace(request, r->publications.all, r->publications.count);
	struct batch batch = {publisher, r->publications.all,
			      r->publications.count, r->publications.is_array};
	publish_batch(r, c, request, &batch);
}
