/* crowd.c - connections that receive, and their threads. */
#include "cli/bench/crowd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "cli/arguments.h"
#include "cli/bench/stamp.h"
#include "cli/client.h"

#define SOURCES        32 /* addresses of ours, so that ports suffice */
#define LOOPBACK_NET   127
#define STALLED_BUFFER 4096 /* bytes that the kernel takes for one */
#define RETRY_MS       50
#define EXPECTED_MIN   1024
#define WINDOWS_OF_IDS 8

struct crowd_thread;

/* One subscriber. Owner: its thread. */
struct member {
	struct crowd_thread *thread;
	struct client *client; /* NULL: there is none */
	unsigned topic;
	unsigned index;  /* over all threads */
	bool is_open;    /* it is subscribed, or has asked to be */
	bool is_ready;   /* it has got a probe */
	bool was_cut;    /* by us */
	bool is_stalled; /* it reads nothing once it is open */
	struct tally tally;
	struct dialect_reader reader;
};

/* Counters have one writer, their thread. */
struct thread_counts {
	_Atomic uint64_t open;
	_Atomic uint64_t ready;
	_Atomic uint64_t probes;
	_Atomic uint64_t delivered;
	_Atomic uint64_t twice;
	_Atomic uint64_t late;
	_Atomic uint64_t damaged;
	_Atomic uint64_t misrouted;
	_Atomic uint64_t ended;
	_Atomic uint64_t retries;
};

/* Owner: itself, but for what is atomic. */
struct crowd_thread {
	struct crowd *crowd;
	unsigned index; /* 0: the caller's */
	uv_thread_t id;
	bool is_started; /* its loop has its handles */
	bool has_thread;
	uv_loop_t own_loop; /* unless it is the caller's */
	uv_loop_t *loop;
	uv_async_t orders; /* tells that `is_cutting` or `is_stopping` is set */
	uv_timer_t retry;
	uv_check_t turn; /* after each poll */
	unsigned handles;
	_Atomic bool is_cutting;
	_Atomic bool is_stopping;

	struct member *members;
	size_t members_count;
	struct member **waiting; /* a stack: those that are to connect */
	size_t waiting_count;
	size_t connecting;
	size_t clients; /* that are not freed yet */

	struct thread_counts counts;
	uint64_t completed; /* in this turn */
	struct durations *durations;
};

struct crowd {
	const struct plan *plan;
	struct trouble *trouble;
	struct crowd_thread *threads;
	size_t threads_count;
	_Atomic unsigned *ready_of; /* by topic */
	struct buf *heads;          /* by topic; NULL: the dialect has none */
	_Atomic unsigned *expected; /* deliveries missing, by id */
	uint64_t expected_mask;
	_Atomic uint64_t completed;
	_Atomic uint64_t measure_from_ns;
};

static void count_up(_Atomic uint64_t *counter)
{
	atomic_store_explicit(
		counter,
		atomic_load_explicit(counter, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

static void count_down(_Atomic uint64_t *counter)
{
	atomic_store_explicit(
		counter,
		atomic_load_explicit(counter, memory_order_relaxed) - 1,
		memory_order_relaxed);
}

/* --- what is received ------------------------------------------------------
 */

static void take_probe(struct member *m)
{
	struct crowd_thread *t = m->thread;

	count_up(&t->counts.probes);
	if (m->is_ready)
		return;
	m->is_ready = true;
	count_up(&t->counts.ready);
	atomic_fetch_add_explicit(&t->crowd->ready_of[m->topic], 1,
				  memory_order_relaxed);
}

/* One delivery less is missing of a message. */
static void complete_delivery(struct crowd_thread *t, const struct stamp *s)
{
	struct crowd *c = t->crowd;
	uint64_t id = (uint64_t)s->number * c->plan->topics + s->topic;
	_Atomic unsigned *left = &c->expected[id & c->expected_mask];
	unsigned before;

	if (c->threads_count == 1) {
		before = atomic_load_explicit(left, memory_order_relaxed);
		atomic_store_explicit(left, before - 1, memory_order_relaxed);
	} else {
		before = atomic_fetch_sub_explicit(left, 1,
						   memory_order_relaxed);
	}
	t->completed += before == 1;
}

static void measure_delay(struct crowd_thread *t, const struct stamp *s)
{
	uint64_t from = atomic_load_explicit(&t->crowd->measure_from_ns,
					     memory_order_relaxed);
	uint64_t now = plan_now_ns();

	if (s->due_ns >= from)
		durations_add(t->durations,
			      now > s->due_ns ? now - s->due_ns : 0);
}

static void on_crowd_payload(void *user, struct span payload)
{
	struct member *m = user;
	struct crowd_thread *t = m->thread;
	struct crowd *c = t->crowd;
	struct stamp s;

	if (payload.len != c->plan->size || !stamp_read(payload, &s)) {
		count_up(&t->counts.damaged);
		return;
	}
	if (s.topic != m->topic) {
		count_up(&t->counts.misrouted);
		return;
	}
	if (s.is_probe) {
		take_probe(m);
		return;
	}
	enum tally_verdict verdict = tally_take(&m->tally, s.number);
	if (verdict == TALLY_TWICE) {
		count_up(&t->counts.twice);
		return;
	}
	if (verdict == TALLY_LATE)
		count_up(&t->counts.late);
	count_up(&t->counts.delivered);
	if (c->expected != NULL)
		complete_delivery(t, &s);
	else if (t->durations != NULL)
		measure_delay(t, &s);
}

static void on_crowd_damage(void *user)
{
	struct member *m = user;

	count_up(&m->thread->counts.damaged);
}

static void on_crowd_message(void *user, struct span bytes)
{
	struct member *m = user;

	m->reader.dialect->read(&m->reader, bytes);
}

/* Text is sent in text messages, by all but those that have none. */
static void on_crowd_binary(void *user, struct span bytes)
{
	struct member *m = user;

	if (m->reader.dialect->write_hello == NULL)
		on_crowd_damage(m);
	else
		on_crowd_message(m, bytes);
}

/* --- connections ----------------------------------------------------------
 */

static int say_hello(struct member *m)
{
	const struct plan *plan = m->thread->crowd->plan;
	const struct dialect *d = plan->dialect;
	char topic[DIALECT_TOPIC_MAX];
	struct buf out = {0};
	int rv = 0;

	if (d->write_hello != NULL) {
		dialect_name_topic(&plan->names, m->topic, topic);
		rv = dialect_append_hello(d, &out, topic, false);
		rv = rv != 0 ? rv
			     : client_write(m->client,
					    (struct span){out.bytes, out.len});
	}
	for (size_t i = 0; i < 2 && d->hello[i] != NULL && rv == 0; i++) {
		out.len = 0;
		rv = dialect_expand(&out, d->hello[i], &plan->names, m->topic);
		rv = rv != 0 ? rv
			     : client_send(m->client,
					   (struct span){out.bytes, out.len});
	}
	buf_fini(&out);
	return rv;
}

static void on_crowd_open(void *user)
{
	struct member *m = user;
	int rv = say_hello(m);

	if (rv != 0) {
		client_abort(m->client, rv);
		return;
	}
	m->is_open = true;
	m->thread->connecting--;
	count_up(&m->thread->counts.open);
	if (m->is_stalled)
		client_pause(m->client);
}

static void on_crowd_answer(void *user, const struct http_answer *answer)
{
	struct member *m = user;
	struct crowd *c = m->thread->crowd;
	bool is_final = answer->status >= 400 && answer->status < 500;

	/* In a storm it comes back. */
	if (c->plan->mode == PLAN_STORM && !is_final)
		return;
	trouble_tell(c->trouble, is_final ? EXIT_REFUSED : EXIT_FAILURE,
		     "the server answers a subscriber %u: %.*s", answer->status,
		     plan_shown_len(answer->content), answer->content.bytes);
}

static void connect_more(struct crowd_thread *t);

/* Of a connection that was open. */
static void forget_connection(struct member *m)
{
	struct crowd_thread *t = m->thread;

	m->is_open = false;
	count_down(&t->counts.open);
	if (m->is_ready) {
		m->is_ready = false;
		count_down(&t->counts.ready);
		atomic_fetch_sub_explicit(&t->crowd->ready_of[m->topic], 1,
					  memory_order_relaxed);
	}
}

/* A connection that came to nothing. */
static void tell_end(struct crowd *c, const struct client_end *end)
{
	bool is_refused =
		end->code == 4401 || end->code == 4403 || end->code == 1008;

	if (end->code != 0)
		trouble_tell(c->trouble,
			     is_refused ? EXIT_REFUSED : EXIT_FAILURE,
			     "the server ends a subscriber's connection: %u "
			     "%.*s",
			     end->code, (int)end->why.len, end->why.bytes);
	else if (end->error == UV_EPROTO)
		trouble_tell(c->trouble, EXIT_FAILURE, "%.*s",
			     (int)end->why.len, end->why.bytes);
	else
		trouble_tell(c->trouble, EXIT_FAILURE,
			     "a subscriber can't connect: %s",
			     uv_strerror(end->error));
}

static void on_crowd_end(void *user, const struct client_end *end)
{
	struct member *m = user;
	struct crowd_thread *t = m->thread;
	bool is_storm = t->crowd->plan->mode == PLAN_STORM;

	m->client = NULL;
	t->clients--;
	if (t->is_stopping)
		return;
	if (m->was_cut) {
		m->was_cut = false;
		t->waiting[t->waiting_count++] = m;
		connect_more(t);
	} else if (m->is_open) {
		bool was_ready = m->is_ready;
		forget_connection(m);
		count_up(&t->counts.ended);
		if (!was_ready)
			tell_end(t->crowd, end);
	} else if (is_storm) {
		t->connecting--;
		count_up(&t->counts.retries);
		t->waiting[t->waiting_count++] = m;
	} else {
		t->connecting--;
		tell_end(t->crowd, end);
	}
}

/* On loopback, ports of one address are not enough for many; and what is reset
 * leaves none in TIME_WAIT. */
static void on_crowd_socket(void *user, int fd, const struct sockaddr *to)
{
	const struct member *m = user;
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	const int one = 1;
	const int small = STALLED_BUFFER;
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct sockaddr_in address;

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	if (m->is_stalled)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small,
				 sizeof small);
	if (to->sa_family != AF_INET)
		return;
	memcpy(&address, to, sizeof address);
	if (ntohl(address.sin_addr.s_addr) >> 24 != LOOPBACK_NET)
		return;
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + m->index % SOURCES);
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one,
			 sizeof one);
	/* Without it, it is 127.0.0.1. */
	(void)!bind(fd, (const struct sockaddr *)&from, sizeof from);
}

static const struct client_handler member_handler = {
	.on_answer = on_crowd_answer,
	.on_open = on_crowd_open,
	.on_message = on_crowd_message,
	.on_binary = on_crowd_binary,
	.on_content = on_crowd_message,
	.on_end = on_crowd_end,
	.on_socket = on_crowd_socket,
};

static int connect_member(struct member *m)
{
	struct crowd_thread *t = m->thread;
	const struct plan *plan = t->crowd->plan;
	struct buf path = {0};
	int rv =
		client_open(&m->client, t->loop, plan->url, &member_handler, m);

	if (rv != 0) {
		m->client = NULL;
		return rv;
	}
	t->clients++;
	t->connecting++;
	dialect_reader_reset(&m->reader);
	rv = dialect_expand(&path, plan->dialect->subscribe, &plan->names,
			    m->topic);
	rv = rv != 0 ? rv : buf_append(&path, "", 1);
	if (rv == 0 && plan->dialect->is_stream)
		rv = client_stream(m->client, path.bytes, plan->fields);
	else if (rv == 0)
		rv = client_upgrade(m->client, path.bytes,
				    plan->dialect->protocol, plan->fields);
	buf_fini(&path);
	return rv;
}

static void connect_more(struct crowd_thread *t)
{
	while (t->waiting_count > 0 && t->connecting < t->crowd->plan->burst &&
	       !t->is_stopping) {
		int rv = connect_member(t->waiting[--t->waiting_count]);
		if (rv != 0)
			trouble_tell(t->crowd->trouble, EXIT_FAILURE,
				     "a subscriber can't connect: %s",
				     uv_strerror(rv));
	}
}

/* --- threads --------------------------------------------------------------
 */

static void cut_members(struct crowd_thread *t)
{
	for (size_t i = 0; i < t->members_count; i++) {
		struct member *m = &t->members[i];
		if (!m->is_open || m->client == NULL)
			continue;
		forget_connection(m);
		m->was_cut = true;
		client_abort(m->client, 0);
	}
}

static void on_crowd_closed(uv_handle_t *handle)
{
	struct crowd_thread *t = handle->data;

	t->handles--;
}

static void stop_thread(struct crowd_thread *t)
{
	for (size_t i = 0; i < t->members_count; i++)
		if (t->members[i].client != NULL)
			client_abort(t->members[i].client, 0);
	uv_close((uv_handle_t *)&t->orders, on_crowd_closed);
	uv_close((uv_handle_t *)&t->retry, on_crowd_closed);
	uv_close((uv_handle_t *)&t->turn, on_crowd_closed);
}

static void on_orders(uv_async_t *async)
{
	struct crowd_thread *t = async->data;

	if (atomic_exchange(&t->is_cutting, false))
		cut_members(t);
	if (t->is_stopping && !uv_is_closing((uv_handle_t *)async))
		stop_thread(t);
}

static void on_crowd_retry(uv_timer_t *timer)
{
	connect_more(timer->data);
}

/* After each poll: tells the main thread what is complete. */
static void on_turn(uv_check_t *check)
{
	struct crowd_thread *t = check->data;

	if (t->connecting < t->crowd->plan->burst && t->waiting_count > 0 &&
	    t->crowd->plan->mode != PLAN_STORM)
		connect_more(t);
	if (t->completed == 0)
		return;
	atomic_fetch_add(&t->crowd->completed, t->completed);
	t->completed = 0;
	if (t->index > 0)
		uv_async_send(&t->crowd->threads[0].orders);
}

static void crowd_thread_main(void *argument)
{
	struct crowd_thread *t = argument;

	connect_more(t);
	uv_run(t->loop, UV_RUN_DEFAULT);
}

static int open_thread(struct crowd_thread *t, uv_loop_t *loop)
{
	t->loop = loop != NULL ? loop : &t->own_loop;
	int rv = loop != NULL ? 0 : uv_loop_init(&t->own_loop);

	if (rv != 0)
		return rv;
	rv = uv_async_init(t->loop, &t->orders, on_orders);
	if (rv != 0) {
		if (loop == NULL)
			uv_loop_close(&t->own_loop);
		return rv;
	}
	uv_timer_init(t->loop, &t->retry);
	uv_check_init(t->loop, &t->turn);
	uv_timer_start(&t->retry, on_crowd_retry, RETRY_MS, RETRY_MS);
	uv_check_start(&t->turn, on_turn);
	t->orders.data = t->retry.data = t->turn.data = t;
	t->handles = 3;
	return 0;
}

/* --- all of it ------------------------------------------------------------
 */

static int make_members(struct crowd *c, struct crowd_thread *t)
{
	const struct plan *plan = c->plan;

	t->crowd = c;
	t->index = (unsigned)(t - c->threads);
	unsigned all = plan->subscribers + plan->stalled;
	t->members_count =
		all / plan->threads + (t->index < all % plan->threads);
	t->members = calloc(t->members_count + 1, sizeof *t->members);
	t->waiting = calloc(t->members_count + 1, sizeof(struct member *));
	if (plan->mode == PLAN_LATENCY)
		t->durations = calloc(1, sizeof *t->durations);
	if (t->members == NULL || t->waiting == NULL ||
	    (plan->mode == PLAN_LATENCY && t->durations == NULL))
		return UV_ENOMEM;
	for (size_t i = t->members_count; i-- > 0;) {
		struct member *m = &t->members[i];
		m->thread = t;
		m->index = (unsigned)i * plan->threads + t->index;
		m->topic = m->index % plan->topics;
		m->is_stalled = m->index >= plan->subscribers;
		m->reader = (struct dialect_reader){
			.dialect = plan->dialect,
			.user = m,
			.on_payload = on_crowd_payload,
			.on_damage = on_crowd_damage,
		};
		if (c->heads != NULL)
			m->reader.head = (struct span){c->heads[m->topic].bytes,
						       c->heads[m->topic].len};
		t->waiting[t->waiting_count++] = m;
	}
	return 0;
}

static int make_heads(struct crowd *c)
{
	const struct plan *plan = c->plan;
	int rv = 0;

	if (plan->dialect->head == NULL)
		return 0;
	c->heads = calloc(plan->topics, sizeof *c->heads);
	if (c->heads == NULL)
		return UV_ENOMEM;
	for (unsigned t = 0; rv == 0 && t < plan->topics; t++)
		rv = dialect_expand(&c->heads[t], plan->dialect->head,
				    &plan->names, t);
	return rv;
}

static int make_crowd(struct crowd *c)
{
	const struct plan *plan = c->plan;
	uint64_t ids = EXPECTED_MIN;
	int rv = 0;

	c->ready_of = calloc(plan->topics, sizeof *c->ready_of);
	c->threads = calloc(plan->threads, sizeof *c->threads);
	if (c->ready_of == NULL || c->threads == NULL)
		return UV_ENOMEM;
	c->threads_count = plan->threads;
	if (plan->mode == PLAN_FANOUT) {
		while (ids < (uint64_t)WINDOWS_OF_IDS * plan->window)
			ids *= 2;
		c->expected = calloc(ids, sizeof *c->expected);
		c->expected_mask = ids - 1;
		if (c->expected == NULL)
			return UV_ENOMEM;
	}
	rv = make_heads(c);
	for (size_t i = 0; rv == 0 && i < c->threads_count; i++)
		rv = make_members(c, &c->threads[i]);
	return rv;
}

int crowd_start(struct crowd **out, const struct plan *plan,
		struct trouble *trouble, uv_loop_t *loop)
{
	struct crowd *c = calloc(1, sizeof *c);

	if (c == NULL)
		return UV_ENOMEM;
	c->plan = plan;
	c->trouble = trouble;
	c->measure_from_ns = UINT64_MAX;
	int rv = make_crowd(c);
	for (size_t i = 0; rv == 0 && i < c->threads_count; i++) {
		struct crowd_thread *t = &c->threads[i];
		rv = open_thread(t, i == 0 ? loop : NULL);
		t->is_started = rv == 0;
		if (rv == 0 && i > 0)
			rv = uv_thread_create(&t->id, crowd_thread_main, t);
		t->has_thread = rv == 0 && i > 0;
	}
	if (rv != 0) {
		crowd_stop(c);
		crowd_free(c);
		return rv;
	}
	connect_more(&c->threads[0]);
	*out = c;
	return 0;
}

static void end_thread(struct crowd_thread *t)
{
	t->is_stopping = true;
	if (t->has_thread) {
		uv_async_send(&t->orders);
		uv_thread_join(&t->id);
	} else {
		stop_thread(t);
	}
	while (t->clients > 0 || t->handles > 0)
		uv_run(t->loop, UV_RUN_ONCE);
	if (t->loop == &t->own_loop)
		CHECK(uv_loop_close(&t->own_loop) == 0);
	t->is_started = false;
}

void crowd_stop(struct crowd *c)
{
	/* The first is the last: the others wake it. */
	for (size_t i = c->threads_count; i-- > 0;)
		if (c->threads[i].is_started)
			end_thread(&c->threads[i]);
}

void crowd_free(struct crowd *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->threads_count; i++) {
		struct crowd_thread *t = &c->threads[i];
		for (size_t m = 0; t->members != NULL && m < t->members_count;
		     m++)
			dialect_reader_fini(&t->members[m].reader);
		free(t->members);
		free(t->waiting);
		free(t->durations);
	}
	for (unsigned t = 0; c->heads != NULL && t < c->plan->topics; t++)
		buf_fini(&c->heads[t]);
	free(c->heads);
	free(c->threads);
	free(c->ready_of);
	free(c->expected);
	free(c);
}

/* --- what has been ---------------------------------------------------------
 */

void crowd_count(const struct crowd *c, struct crowd_counts *out)
{
	*out = (struct crowd_counts){0};
	for (size_t i = 0; i < c->threads_count; i++) {
		const struct thread_counts *n = &c->threads[i].counts;
		out->open += n->open;
		out->ready += n->ready;
		out->probes += n->probes;
		out->delivered += n->delivered;
		out->twice += n->twice;
		out->late += n->late;
		out->damaged += n->damaged;
		out->misrouted += n->misrouted;
		out->ended += n->ended;
		out->retries += n->retries;
	}
}

unsigned crowd_ready_of(const struct crowd *c, unsigned topic)
{
	return c->ready_of[topic];
}

void crowd_expect(struct crowd *c, uint64_t id, unsigned deliveries)
{
	c->expected[id & c->expected_mask] = deliveries;
}

uint64_t crowd_completed(const struct crowd *c)
{
	return c->completed;
}

void crowd_measure_from(struct crowd *c, uint64_t ns)
{
	c->measure_from_ns = ns;
}

void crowd_cut(struct crowd *c)
{
	for (size_t i = 0; i < c->threads_count; i++) {
		c->threads[i].is_cutting = true;
		uv_async_send(&c->threads[i].orders);
	}
}

void crowd_merge_durations(const struct crowd *c, struct durations *into)
{
	for (size_t i = 0; i < c->threads_count; i++)
		if (c->threads[i].durations != NULL)
			durations_merge(into, c->threads[i].durations);
}

uint64_t crowd_missing(const struct crowd *c, const uint64_t *published,
		       uint64_t *subscribers)
{
	uint64_t missing = 0;

	*subscribers = 0;
	for (size_t i = 0; i < c->threads_count; i++)
		for (size_t k = 0; k < c->threads[i].members_count; k++) {
			const struct member *m = &c->threads[i].members[k];
			uint64_t wanted = published[m->topic];
			if (m->tally.received >= wanted || m->is_stalled)
				continue;
			missing += wanted - m->tally.received;
			(*subscribers)++;
		}
	return missing;
}
