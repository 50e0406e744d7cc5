/* office.c - see office.h. */
#include "office.h"

void office_on_head(struct conn *c, const struct http_request *request)
{
	(void)c;
	(void)request;
}

void office_on_request(struct conn *c, const struct http_request *request)
{
	struct loopback *l = conn_group_of(c)->context;
	CONTAINER_OF(l, struct office, l)->newest = c;
	if (span_equal(request->path, SPAN("/events"))) {
		conn_stream(c, SPAN(""));
		return;
	}
	assert_true(conn_check_upgrade(c));
	conn_upgrade(c, (struct span){0});
}

void office_on_message(struct conn *c, bool is_text, struct span message)
{
	(void)c;
	(void)is_text;
	(void)message;
}

void office_on_end(struct conn *c)
{
	struct member *member = conn_user(c);
	if (member->all == NULL)
		return;
	subscribers_remove(member->all, &member->subscriber);
	for (int i = 0; i < SIBLINGS; i++) {
		subscribers_remove(member->all, &member->siblings[i]);
		if (member->lossy[i] == NULL)
			continue;
		subscribers_remove(member->all, member->lossy[i]);
		subscribers_lossy_free(member->lossy[i]);
	}
	assert_int_equal(member->lossy_bytes, 0);
}

void office_on_room(struct conn *c)
{
	struct member *member = conn_user(c);
	struct subscribers *all = member->all;
	bool is_behind = subscribers_catch_up(all, &member->subscriber);

	for (int i = 0; i < SIBLINGS && !is_behind; i++)
		is_behind = subscribers_catch_up(all, &member->siblings[i]);
	for (int i = 0; i < SIBLINGS && !is_behind; i++)
		is_behind = member->lossy[i] != NULL &&
			    subscribers_catch_up(all, member->lossy[i]);
	if (is_behind) {
		subscribers_take_turns(all, 0);
		return;
	}
	for (int i = 0; i < SIBLINGS; i++)
		if (member->lossy[i] != NULL)
			subscribers_feed(all, member->lossy[i]);
}

uint64_t lost_from;

uint64_t lost_to;

unsigned losses;

void on_loss(struct subscribers *all, struct subscriber *s, uint64_t from,
	     uint64_t to)
{
	(void)all;
	(void)s;
	lost_from = from;
	lost_to = to;
	losses++;
}

void on_wake(uv_async_t *async)
{
	(void)async;
}

int set_up_with(void **state, uint32_t history_size)
{
	struct office *o = calloc(1, sizeof *o);
	assert_non_null(o);
	loopback_open(&o->l, &hooks, &roomy_limits);
	for (unsigned w = 0; w < WORKERS; w++) {
		struct mailbox *m = &o->mailboxes[w];
		assert_int_equal(
			mailbox_open(m, &o->l.loop, w, MAILBOX_MAX, on_wake),
			0);
		mailbox_set_owner(m);
		o->by_worker[w] = m;
	}
	struct registry_options options = {.mailboxes = o->by_worker,
					   .workers = WORKERS,
					   .history_size = history_size,
					   .history_ttl_ms = 60000,
					   .history_bytes = 1 << 20,
					   .replay_bytes = 1 << 20};
	assert_int_equal(registry_new(&o->registry, &options), 0);
	losses = 0;
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_int_equal(
			subscribers_init(&o->subscribers[w], o->registry, w,
					 roomy_limits.buffered_max_bytes,
					 &o->l.stats),
			0);
		o->subscribers[w].on_loss = on_loss;
	}
	*state = o;
	return 0;
}

int office_set_up(void **state)
{
	return set_up_with(state, 0);
}

void deliver(struct office *o, unsigned worker)
{
	struct mail mail;
	if (mailbox_take(&o->mailboxes[worker], &mail))
		assert_true(subscribers_deliver(&o->subscribers[worker],
						mail.messages, UINT64_MAX));
}

void end_all(struct office *o)
{
	conn_group_abort_all(o->l.group);
	WAIT_UNTIL(&o->l, o->l.group->count == 0);
	for (unsigned w = 0; w < WORKERS; w++) {
		assert_int_equal(o->subscribers[w].count, 0);
		deliver(o, w);
		subscribers_fini(&o->subscribers[w]);
	}
	while (registry_shrink_history(o->registry, 0))
		;
	assert_int_equal(registry_topics(o->registry), 0);
}

int office_tear_down(void **state)
{
	struct office *o = *state;

	for (unsigned w = 0; w < WORKERS; w++) {
		deliver(o, w);
		uv_close((uv_handle_t *)&o->mailboxes[w].async, NULL);
	}
	end_all(o);
	loopback_close(&o->l);
	for (unsigned w = 0; w < WORKERS; w++)
		mailbox_fini(&o->mailboxes[w]);
	registry_free(o->registry);
	free(o);
	return 0;
}

struct topic_key key_of(const char *topic)
{
	return (struct topic_key){SPAN("alice"), span_of(topic)};
}

struct reader connect_to(struct office *o, unsigned worker, const char *request,
			 bool is_lazy)
{
	struct client *c =
		is_lazy ? connect_lazy_client(&o->l) : connect_client(&o->l);
	c->reads = true;
	send_text(c, request);
	WAIT_UNTIL(&o->l, count_of(c, "\r\n\r\n") == 1);
	skip_upgrade(c);
	c->reads = !is_lazy;
	struct member *member = conn_user(o->newest);
	member->all = &o->subscribers[worker];
	return (struct reader){c, o->newest, member};
}

struct reader connect_reader(struct office *o, unsigned worker, bool is_lazy)
{
	return connect_to(o, worker, UPGRADE, is_lazy);
}

void join(struct reader *r, const char *topic)
{
	struct topic_key key = key_of(topic);
	assert_int_equal(subscribers_add(r->member->all, &r->member->subscriber,
					 r->conn, &key, NULL, NULL),
			 0);
}

void office_leave(struct reader *r)
{
	subscribers_remove(r->member->all, &r->member->subscriber);
}

struct reader subscribe(struct office *o, unsigned worker, const char *topic)
{
	struct reader r = connect_reader(o, worker, false);
	join(&r, topic);
	return r;
}

struct message *publish_filling(struct office *o, const char *topic, size_t len)
{
	struct topic_key key = key_of(topic);
	struct registry_receipt receipt;
	char *filling = malloc(len);
	assert_non_null(filling);
	memset(filling, 'x', len);
	struct message *m =
		message_new((struct span){filling, len}, false, WORKERS);

	free(filling);
	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	message_ref(m, 1); /* the test's own */
	assert_int_equal(registry_publish(o->registry, &key, m, &receipt), 0);
	return m;
}

void publish_nth(struct office *o, const char *topic, uint64_t n)
{
	struct topic_key key = key_of(topic);
	struct registry_receipt receipt;
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, n);
	struct message *m = message_new(span_of(text), true, WORKERS);
	assert_non_null(m);
	m->accepted_ns = uv_hrtime();
	assert_int_equal(registry_publish(o->registry, &key, m, &receipt), 0);
	assert_int_equal(receipt.sequence, n);
}

void publish_from_to(struct office *o, const char *topic, uint64_t from,
		     uint64_t to)
{
	for (uint64_t n = from; n <= to; n++)
		publish_nth(o, topic, n);
}

void put_form(struct office *o, struct buf *out, const char *topic,
	      enum message_form form, uint64_t n)
{
	struct topic_key key = key_of(topic);
	struct message_source source = {.epoch = registry_epoch(o->registry),
					.publisher = key.publisher,
					.topic = key.name};
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, n);
	struct message *m = message_new(span_of(text), true, 0);
	assert_non_null(m);
	m->sequence = n;
	m->epoch = source.epoch;
	assert_int_equal(message_append(out, m, form, &source), 0);
	message_unref(m, 1);
}

struct span unread(const struct reader *r)
{
	return (struct span){r->client->in.bytes + r->client->at,
			     r->client->in.len - r->client->at};
}

void expect_bytes(struct office *o, struct reader *r, struct span bytes)
{
	WAIT_UNTIL(&o->l, unread(r).len >= bytes.len);
	for (int i = 0; i < 3; i++)
		turn(&o->l);
	if (!span_equal(unread(r), bytes))
		fail_msg("received %.*s, not %.*s", (int)unread(r).len,
			 unread(r).bytes, (int)bytes.len, bytes.bytes);
	r->client->at = r->client->in.len;
}

void expect_from_to(struct office *o, struct reader *r, const char *topic,
		    uint64_t from, uint64_t to)
{
	struct buf bytes = {0};

	for (uint64_t n = from; n <= to; n++)
		put_form(o, &bytes, topic,
			 (enum message_form)r->member->subscriber.form, n);
	expect_bytes(o, r, (struct span){bytes.bytes, bytes.len});
	buf_fini(&bytes);
}

const char *request_of(enum message_form form)
{
	if (message_forms[form].framing == FRAMING_BARE)
		return OLD_STREAM;
	return message_forms[form].is_event ? STREAM : UPGRADE;
}

struct reader subscribe_in(struct office *o, unsigned worker, const char *topic,
			   enum message_form form)
{
	struct reader r = connect_to(o, worker, request_of(form), false);
	r.member->subscriber.form = (uint8_t)form;
	join(&r, topic);
	return r;
}
