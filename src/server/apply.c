/* apply.c - see apply.h. */
#include "server/apply.h"

#include "base/check.h"
#include "server/relief.h"
#include "topics/idempotency.h"

/* Topics read at once, for telling the other nodes. */
#define COUNT_TOPICS 500

void apply_init(struct apply *a, struct worker_shared *shared,
		struct mailbox *const *mailboxes)
{
	*a = (struct apply){.shared = shared, .mailboxes = mailboxes};
}

void apply_fini(struct apply *a)
{
	buf_fini(&a->receipt);
}

static bool have_mailboxes_room(void *user, size_t bytes)
{
	const struct apply *a = user;

	for (unsigned w = 0; w < a->shared->workers_count; w++)
		if (!mailbox_has_room(a->mailboxes[w], bytes))
			return false;
	return true;
}

/* A node that went on without a message that others have would deliver another
 * history. */
static struct message *message_of(const struct apply *a,
				  const struct record_publication *p)
{
	struct json_data data = {.text = p->data,
				 .is_json = p->is_json,
				 .event = p->event,
				 .traceparent = p->traceparent};
	struct message *m = message_new_from(data, a->shared->workers_count);

	CHECK(m != NULL);
	return m;
}

static void apply(void *user, uint64_t number, uint64_t accepted_ns,
		  const struct record_publication *p)
{
	struct apply *a = user;
	struct topic_key key = {p->publisher, p->topic};
	struct message *m = message_of(a, p);

	m->sequence = number;
	m->accepted_ns = accepted_ns;
	registry_apply(a->shared->registry, &key, m);
	relief_on_publication(a->shared);
}

int apply_write_receipts(const struct worker_shared *shared, struct buf *out,
			 const struct apply_published *published)
{
	struct span body = published->body;
	struct record_publication p;

	int rv = receipt_list_begin(out, published->count, published->is_array);
	for (unsigned i = 0; rv == 0 && record_next(&body, &p); i++) {
		struct topic_key key = {p.publisher, p.topic};
		struct registry_receipt receipt = {
			published->number + i,
			worker_count_subscribers(shared, &key)};
		receipt_list_add(out, published->epoch, &receipt);
	}
	if (rv == 0)
		receipt_list_end(out, published->is_array);
	return rv;
}

static void applied(void *user, const struct record *r, uint64_t number)
{
	struct apply *a = user;
	struct idempotency *idempotency = a->shared->idempotency;
	uint64_t now_ms = uv_hrtime() / 1000000;
	struct idempotency_request key;
	struct buf found = {0};
	const struct apply_published published = {
		.body = r->body,
		.count = r->count,
		.is_array = r->flags & RECORD_IS_ARRAY,
		.epoch = registry_epoch(a->shared->registry),
		.number = number};

	if (apply_write_receipts(a->shared, &a->receipt, &published) != 0)
		return;
	struct span text = {a->receipt.bytes, a->receipt.len};
	memcpy(key.id, r->id, sizeof key.id);
	memcpy(key.content, r->content, sizeof key.content);
	if (idempotency_begin(idempotency, &key, now_ms, text.len, &found) == 0)
		idempotency_end(idempotency, &key, now_ms, text);
	buf_fini(&found);
}

static void renew_registry(void *user, uint64_t epoch, uint64_t base)
{
	struct apply *a = user;
	registry_renew(a->shared->registry, epoch, base);
}

static void reached(void *user, uint64_t number)
{
	struct apply *a = user;
	registry_reach(a->shared->registry, number);
}

/* registry_visit_cb */
static int count_topic(void *user, const struct registry_topic *t)
{
	if (t->subscribers > 0)
		counts_add(user, t->key.publisher, t->key.name, t->subscribers);
	return 0;
}

static void count_topics(void *user, struct counts *c, uint64_t *at)
{
	struct apply *a = user;
	const struct span anybody = {0};

	registry_page(a->shared->registry, anybody, COUNT_TOPICS, at,
		      count_topic, c);
}

struct bus_sink apply_sink(struct apply *a)
{
	return (struct bus_sink){.has_room = have_mailboxes_room,
				 .apply = apply,
				 .applied = applied,
				 .renew = renew_registry,
				 .reached = reached,
				 .count = count_topics,
				 .user = a};
}
