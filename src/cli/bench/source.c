/* source.c - connections that publish. */
#include "cli/bench/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cli/arguments.h"
#include "cli/client.h"
#include "cli/place.h"

#define NAME "bench"

struct publisher {
	struct source *source;
	struct client *client; /* NULL: it has ended */
	struct buf out;
	uint64_t under_way; /* without an answer */
	uint64_t unpinged;
	struct dialect_reader reader;
};

struct source {
	const struct plan *plan;
	struct trouble *trouble;
	uv_loop_t *loop;
	struct publisher *publishers;
	size_t clients; /* that are not freed yet */
	size_t open;
	bool is_closing;
	uint64_t answered;
	uint64_t refused;

	struct buf template;
	size_t topic_at;
	size_t stamp_at;
};

/* --- the template ---------------------------------------------------------
 */

/* The first publication of topic 0, as bytes of a connection. */
static int make_template(struct source *s, const char *topic,
			 struct span payload)
{
	const struct plan *plan = s->plan;
	const struct dialect *d = plan->dialect;
	struct buf content = {0};
	struct buf path = {0};
	struct buf fields = {0};
	int rv = 0;

	if (d->publish == NULL) {
		rv = d->write_publication(&content, topic, payload);
		rv = rv != 0 ? rv
			     : dialect_append_frame(&s->template,
						    (struct span){content.bytes,
								  content.len});
	} else {
		rv = dialect_expand(&path, d->publish, &plan->names, 0);
		rv = rv != 0 ? rv : buf_append(&path, "", 1);
		rv = rv != 0 ? rv
			     : dialect_expand(&content, d->before, &plan->names,
					      0);
		rv = rv != 0 ? rv
			     : buf_append(&content, payload.bytes, payload.len);
		rv = rv != 0 ? rv : buf_append_text(&content, d->after);
		rv = rv != 0 ? rv
			     : buf_append(&fields, plan->publisher_fields.bytes,
					  plan->publisher_fields.len);
		rv = rv != 0 ? rv : buf_append_text(&fields, d->fields);
		const struct client_request request = {
			.method = "POST",
			.path = path.bytes,
			.fields = {fields.bytes, fields.len},
			.content = {content.bytes, content.len},
		};
		rv = rv != 0 ? rv
			     : client_append_request(s->publishers[0].client,
						     &request, &s->template);
	}
	buf_fini(&content);
	buf_fini(&path);
	if (fields.bytes != NULL)
		explicit_bzero(fields.bytes, fields.cap);
	buf_fini(&fields);
	return rv;
}

static size_t place_in(const struct buf *all, const void *part, size_t len)
{
	const char *at = memmem(all->bytes, all->len, part, len);

	CHECK(at != NULL);
	return (size_t)(at - all->bytes);
}

static int find_places(struct source *s)
{
	const struct stamp first = {.topic = 0};
	size_t size = s->plan->size;
	char topic[DIALECT_TOPIC_MAX];
	char *payload = malloc(size);

	if (payload == NULL)
		return UV_ENOMEM;
	memset(payload, STAMP_FILLER, size);
	stamp_write(payload, &first);
	dialect_name_topic(&s->plan->names, 0, topic);
	int rv = make_template(s, topic, (struct span){payload, size});
	if (rv == 0) {
		s->topic_at = place_in(&s->template, topic, strlen(topic)) +
			      strlen(topic) - DIALECT_TOPIC_DIGITS;
		s->stamp_at = place_in(&s->template, payload, size);
	}
	free(payload);
	return rv;
}

/* --- answers --------------------------------------------------------------
 */

static void on_source_answer(void *user, const struct http_answer *answer)
{
	struct publisher *p = user;
	struct source *s = p->source;
	const char *refusal = s->plan->dialect->refusal;
	bool is_refused = answer->status < 200 || answer->status > 299 ||
			  (refusal != NULL &&
			   memmem(answer->content.bytes, answer->content.len,
				  refusal, strlen(refusal)) != NULL);

	if (p->under_way > 0)
		p->under_way--;
	s->answered++;
	if (!is_refused)
		return;
	if (answer->status == 401 || answer->status == 403)
		trouble_tell(s->trouble, EXIT_REFUSED,
			     "the server refuses to publish: %u %.*s",
			     answer->status, plan_shown_len(answer->content),
			     answer->content.bytes);
	else if (s->refused++ == 0)
		cli_say(NAME, "a publication is answered %u: %.*s",
			answer->status, plan_shown_len(answer->content),
			answer->content.bytes);
}

static void on_source_pong(void *user)
{
	struct publisher *p = user;

	p->source->answered += p->under_way;
	p->under_way = 0;
}

static void on_source_bytes(void *user, struct span bytes)
{
	struct publisher *p = user;

	p->reader.dialect->read(&p->reader, bytes);
}

static void ignore_payload(void *user, struct span payload)
{
	(void)user;
	(void)payload;
}

static void on_source_damage(void *user)
{
	struct publisher *p = user;

	trouble_tell(p->source->trouble, EXIT_FAILURE,
		     "the server tells a publisher what is not understood");
}

/* --- connections ----------------------------------------------------------
 */

/* A publisher by WebSocket. */
static void on_source_open(void *user)
{
	struct publisher *p = user;
	struct buf out = {0};
	int rv = dialect_append_hello(p->reader.dialect, &out, "", true);

	rv = rv != 0 ? rv
		     : client_write(p->client,
				    (struct span){out.bytes, out.len});
	buf_fini(&out);
	if (rv != 0)
		client_abort(p->client, rv);
	else
		p->source->open++;
}

static void on_source_end(void *user, const struct client_end *end)
{
	struct publisher *p = user;
	struct source *s = p->source;

	p->client = NULL;
	s->clients--;
	if (!s->is_closing)
		trouble_tell(s->trouble, EXIT_FAILURE,
			     "a publisher's connection ended: %s",
			     end->error != 0 ? uv_strerror(end->error)
					     : "the server closed it");
}

static const struct client_handler publisher_handler = {
	.on_answer = on_source_answer,
	.on_open = on_source_open,
	.on_message = on_source_bytes,
	.on_binary = on_source_bytes,
	.on_end = on_source_end,
};

static int open_publisher(struct source *s, struct publisher *p)
{
	const struct dialect *d = s->plan->dialect;

	p->source = s;
	p->reader = (struct dialect_reader){
		.dialect = d,
		.user = p,
		.on_payload = ignore_payload,
		.on_damage = on_source_damage,
		.on_pong = on_source_pong,
	};
	int rv = client_open(&p->client, s->loop, s->plan->url,
			     &publisher_handler, p);
	if (rv != 0) {
		p->client = NULL;
		return rv;
	}
	s->clients++;
	if (d->publish == NULL)
		rv = client_upgrade(p->client, d->subscribe, d->protocol,
				    s->plan->publisher_fields);
	return rv;
}

int source_open(struct source **out, const struct plan *plan,
		struct trouble *trouble, uv_loop_t *loop)
{
	struct source *s = calloc(1, sizeof *s);
	int rv = 0;

	if (s == NULL)
		return UV_ENOMEM;
	s->plan = plan;
	s->trouble = trouble;
	s->loop = loop;
	s->publishers = calloc(plan->publishers, sizeof *s->publishers);
	if (s->publishers == NULL)
		rv = UV_ENOMEM;
	for (unsigned i = 0; rv == 0 && i < plan->publishers; i++)
		rv = open_publisher(s, &s->publishers[i]);
	if (rv == 0)
		rv = find_places(s);
	if (rv != 0) {
		source_close(s);
		return rv;
	}
	*out = s;
	return 0;
}

bool source_is_ready(const struct source *s)
{
	return s->plan->dialect->publish != NULL ||
	       s->open == s->plan->publishers;
}

void source_close(struct source *s)
{
	if (s == NULL)
		return;
	s->is_closing = true;
	for (unsigned i = 0; s->publishers != NULL && i < s->plan->publishers;
	     i++)
		if (s->publishers[i].client != NULL)
			client_abort(s->publishers[i].client, 0);
	while (s->clients > 0)
		uv_run(s->loop, UV_RUN_ONCE);
	for (unsigned i = 0; s->publishers != NULL && i < s->plan->publishers;
	     i++) {
		buf_fini(&s->publishers[i].out);
		dialect_reader_fini(&s->publishers[i].reader);
	}
	if (s->template.bytes != NULL)
		explicit_bzero(s->template.bytes, s->template.cap);
	buf_fini(&s->template);
	free(s->publishers);
	free(s);
}

/* --- publishing -----------------------------------------------------------
 */

bool source_has_room(const struct source *s, unsigned publisher)
{
	const struct publisher *p = &s->publishers[publisher];
	const struct plan *plan = s->plan;

	/* Where nothing is answered, a ping ends a pipeline, and its answer is
	 * that to all of it. */
	if (plan->dialect->publish == NULL)
		return p->under_way < plan->pipeline && p->client != NULL &&
		       (p->unpinged > 0 || p->under_way == 0);
	return p->under_way < plan->pipeline && p->client != NULL;
}

static void write_ping(struct publisher *p)
{
	int rv = dialect_append_ping(p->reader.dialect, &p->out);

	if (rv != 0)
		client_abort(p->client, rv);
	p->unpinged = 0;
}

void source_publish(struct source *s, unsigned publisher,
		    const struct stamp *stamp)
{
	struct publisher *p = &s->publishers[publisher];
	const struct dialect *d = s->plan->dialect;
	unsigned left = stamp->topic;
	int rv = buf_append(&p->out, s->template.bytes, s->template.len);

	if (rv != 0) {
		trouble_tell(s->trouble, EXIT_FAILURE, "out of memory");
		return;
	}
	char *out = p->out.bytes + p->out.len - s->template.len;
	for (unsigned i = DIALECT_TOPIC_DIGITS; i-- > 0; left /= 10)
		out[s->topic_at + i] = (char)('0' + left % 10);
	stamp_write(out + s->stamp_at, stamp);
	if (d->publish != NULL) {
		p->under_way++;
	} else if (s->plan->mode == PLAN_PUBLISH) {
		p->under_way++;
		if (++p->unpinged == s->plan->pipeline)
			write_ping(p);
	}
}

void source_flush(struct source *s)
{
	for (unsigned i = 0; i < s->plan->publishers; i++) {
		struct publisher *p = &s->publishers[i];
		if (p->out.len == 0)
			continue;
		int rv = p->client == NULL
				 ? 0
				 : client_write(p->client,
						(struct span){p->out.bytes,
							      p->out.len});
		p->out.len = 0;
		if (rv != 0)
			client_abort(p->client, rv);
	}
}

uint64_t source_answered(const struct source *s)
{
	return s->answered;
}

uint64_t source_refused(const struct source *s)
{
	return s->refused;
}

uint64_t source_unanswered(const struct source *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->plan->publishers; i++)
		sum += s->publishers[i].under_way;
	return sum;
}
