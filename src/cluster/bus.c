/* bus.c - the bus's thread, its clock, and what other threads call. */
#include "cluster/bus.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "cluster/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define NS_A_MS 1000000ULL

/* --- connecting ---------------------------------------------------------- */

static void on_wake(void *user)
{
	struct bus *b = user;
	uv_async_send(&b->wake);
}

/* To one server; `b->server` says which. */
static int connect_to(struct bus *b, char error[static NATS_ERROR_MAX])
{
	char name[32];

	snprintf(name, sizeof name, "isimud-%016llx",
		 (unsigned long long)b->node);
	struct nats_options options = {
		.servers = &b->servers[b->server],
		.servers_count = 1,
		.creds = b->options.creds,
		.ca = b->options.ca,
		.name = name,
		.timeout_ms = BUS_CONNECT_MS,
		.wake = on_wake,
		.user = b,
	};
	int rv = nats_connect(&b->nats, &options, error);
	if (rv == 0 && (rv = tell_listen(b)) != 0) {
		snprintf(error, NATS_ERROR_MAX, "subscribing failed: %s",
			 uv_strerror(rv));
		nats_close(b->nats);
		b->nats = NULL;
	}
	if (rv == 0)
		atomic_store(&b->record_max, nats_max_payload(b->nats));
	return rv;
}

static void try_connect(struct bus *b)
{
	char error[NATS_ERROR_MAX];
	char server[NATS_SERVER_MAX];

	if (connect_to(b, error) != 0) {
		uv_update_time(&b->loop);
		/* It is tried ten times a second. */
		if (uv_now(&b->loop) >= b->complain_ms) {
			b->complain_ms = uv_now(&b->loop) + BUS_COMPLAIN_MS;
			log_event(LOG_WARN, "bus_unreachable",
				  LOG_FIELDS(log_text("error", error)),
				  "bus: a server can't be reached: %s", error);
		}
		bus_next_server(b);
		b->connect_ms = uv_now(&b->loop) + BUS_TICK_MS;
		return;
	}
	uv_update_time(&b->loop);
	b->complain_ms = 0;
	nats_server(b->nats, server);
	log_event(LOG_INFO, "bus_connected",
		  LOG_FIELDS(log_text("server", server)),
		  "bus: connected to %s", server);
	log_join(b, BUS_JOIN_connected);
}

/* --- the loop ------------------------------------------------------------- */

static void handle_nats_mail(struct bus *b, struct nats_mail *m)
{
	enum bus_join doubt;

	switch (m->event) {
	case NATS_RECORD:
	case NATS_HEARTBEAT:
	case NATS_FLOW:
		break; /* backlog.c's */
	case NATS_ACK:
		doubt = window_on_ack(b, m);
		if (doubt != BUS_JOIN_NONE)
			log_join(b, doubt);
		break;
	case NATS_NODE:
		tell_on_node(b, m);
		break;
	case NATS_LOST:
		bus_disconnect(b, "the connection is gone");
		break;
	}
}

static void take_nats_mail(struct bus *b)
{
	while (b->nats != NULL) {
		struct nats *from = b->nats;
		uint64_t consumer = b->consumers;
		struct nats_mail *m = nats_take(from);
		if (m == NULL)
			return;
		while (m != NULL) {
			struct nats_mail *next = m->next;
			if (m->event <= NATS_FLOW) {
				backlog_add(b, m, consumer);
			} else {
				if (b->nats == from)
					handle_nats_mail(b, m);
				nats_mail_free(m);
			}
			m = next;
		}
	}
}

static void on_mailbox_room(uv_timer_t *timer);

/* Handles what has arrived, then sends what waits. */
static void work(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	take_nats_mail(b);
	switch (backlog_work(b)) {
	case BACKLOG_DONE:
		break;
	case BACKLOG_BUSY:
		uv_async_send(&b->wake);
		break;
	case BACKLOG_STALLED:
		uv_timer_start(&b->room, on_mailbox_room, BUS_ROOM_MS, 0);
		break;
	}
	if (b->nats != NULL)
		log_prove(b);
	window_fill(b);
}

static void on_mailbox_room(uv_timer_t *timer)
{
	work(timer->data);
}

static void stop(struct bus *b)
{
	CHECK_ON_THREAD(b->owner);
	b->is_stopping = true;
	atomic_store(&b->is_up, false);
	lock_acquire(&b->lock);
	b->is_shut = true;
	lock_release(&b->lock);
	window_give_up(b);
	nats_close(b->nats);
	b->nats = NULL;
	backlog_drop(b);
	uv_close((uv_handle_t *)&b->room, NULL);
	uv_close((uv_handle_t *)&b->tick, NULL);
	uv_close((uv_handle_t *)&b->wake, NULL);
}

static void on_async(uv_async_t *async)
{
	struct bus *b = async->data;

	CHECK_ON_THREAD(b->owner);
	if (b->is_stopping)
		return;
	work(b);
	if (atomic_load(&b->wants_stop))
		stop(b);
}

static void on_tick(uv_timer_t *timer)
{
	struct bus *b = timer->data;
	uint64_t now = uv_now(&b->loop);

	CHECK_ON_THREAD(b->owner);
	work(b);
	if (b->nats == NULL && now >= b->connect_ms)
		try_connect(b);
	else if (b->nats != NULL && b->away_ms != 0 &&
		 b->state == BUS_STATE_JOIN && now - b->away_ms > BUS_AWAY_MS &&
		 b->wait_until_ms == 0) {
		b->away_ms = now;
		bus_disconnect(b, "not live for too long: another server");
	}
	if (b->nats != NULL)
		log_tick(b);
	tell_tick(b);
	window_tick(b);
	window_fill(b);
}

static void bus_main(void *arg)
{
	struct bus *b = arg;

	prctl(PR_SET_NAME, "isi-bus");
	b->owner = uv_thread_self();
	counts_adopt(b->counts);
	nats_adopt(b->nats);
	uv_update_time(&b->loop);
	log_join(b, BUS_JOIN_start);
	uv_run(&b->loop, UV_RUN_DEFAULT);
}

/* --- start and stop ------------------------------------------------------- */

static int split_servers(struct bus *b)
{
	char *rest = strdup(b->options.servers);
	char *server;

	b->servers_text = rest;
	if (rest == NULL)
		return UV_ENOMEM;
	char *next = rest;
	while ((server = strsep(&next, ",")) != NULL) {
		if (*server == '\0' || b->servers_count == BUS_SERVERS_MAX)
			return UV_EINVAL;
		b->servers[b->servers_count++] = server;
	}
	return 0;
}

static int check_server(struct bus *b, char error[static BUS_ERROR_MAX])
{
	const struct bus_options *o = &b->options;
	char text[NATS_ERROR_MAX];
	struct nats_stream stream;

	if (nats_max_payload(b->nats) < o->body_max_bytes + 1024) {
		snprintf(error, BUS_ERROR_MAX,
			 "the server's max_payload (%zu) must be at least "
			 "MAX_BODY and 1 KiB (%zu)",
			 nats_max_payload(b->nats), o->body_max_bytes + 1024);
		return UV_EINVAL;
	}
	int rv = nats_find_stream(b->nats, o->stream, &stream, text);
	if (rv == UV_ENOENT && o->creates) {
		log_want_stream(o, &stream);
		rv = nats_make_stream(b->nats, o->stream, &stream, text);
		if (rv == 0)
			log_event(LOG_INFO, "bus_stream",
				  LOG_FIELDS(log_text("stream", o->stream)),
				  "bus: made the stream %s", o->stream);
		else /* another node may have been faster */
			rv = nats_find_stream(b->nats, o->stream, &stream,
					      text);
	} else if (rv == UV_ENOENT) {
		snprintf(error, BUS_ERROR_MAX,
			 "there is no stream %s: make it, or set BUS_CREATE",
			 o->stream);
		return UV_EINVAL;
	}
	if (rv != 0) {
		snprintf(error, BUS_ERROR_MAX, "the stream %s: %s", o->stream,
			 text);
		return rv;
	}
	return log_check_stream(o, &stream, error);
}

static void free_bus(struct bus *b)
{
	nats_close(b->nats);
	counts_free(b->counts);
	buf_fini(&b->scratch);
	lock_fini(&b->lock);
	free(b->servers_text);
	free(b);
	nats_fini();
}

int bus_start(struct bus **out, const struct bus_options *options,
	      char error[static BUS_ERROR_MAX])
{
	char text[NATS_ERROR_MAX];
	struct bus *b = calloc(1, sizeof *b);
	int rv = UV_ENOMEM;

	snprintf(error, BUS_ERROR_MAX, "no memory");
	if (b == NULL)
		return rv;
	b->owner = uv_thread_self();
	b->options = *options;
	b->end = &b->first;
	b->backlog.end = &b->backlog.first;
	if (lock_init(&b->lock, LOCK_LEAF) != 0) {
		free(b);
		return rv;
	}
	b->node = bus_random();
	rv = counts_new(&b->counts, b->node);
	if (rv != 0)
		goto err_bus;
	rv = split_servers(b);
	if (rv != 0) {
		snprintf(error, BUS_ERROR_MAX,
			 "NATS_URL must be 1 to %d URLs with commas between",
			 BUS_SERVERS_MAX);
		goto err_bus;
	}
	rv = uv_loop_init(&b->loop);
	if (rv != 0)
		goto err_bus;
	rv = uv_async_init(&b->loop, &b->wake, on_async);
	if (rv != 0)
		goto err_loop;
	uv_timer_init(&b->loop, &b->tick);
	uv_timer_init(&b->loop, &b->room);
	b->wake.data = b;
	b->tick.data = b;
	b->room.data = b;
	uv_timer_start(&b->tick, on_tick, BUS_TICK_MS, BUS_TICK_MS);
	/* Spreads nodes that have the same settings over the servers. */
	b->server = (unsigned)(b->node % b->servers_count);
	for (unsigned i = 0; i < b->servers_count && b->nats == NULL; i++) {
		rv = connect_to(b, text);
		if (rv != 0)
			bus_next_server(b);
	}
	if (b->nats == NULL)
		snprintf(error, BUS_ERROR_MAX,
			 "no server of NATS_URL can be reached: %s", text);
	else
		rv = check_server(b, error);
	if (rv != 0)
		goto err_handles;
	atomic_store(&b->behind_ms, uv_hrtime() / NS_A_MS);
	b->away_ms = uv_now(&b->loop);
	*out = b;
	rv = uv_thread_create(&b->thread, bus_main, b);
	if (rv == 0)
		return 0;
	*out = NULL;
err_handles:
	nats_close(b->nats);
	b->nats = NULL;
	uv_close((uv_handle_t *)&b->room, NULL);
	uv_close((uv_handle_t *)&b->tick, NULL);
	uv_close((uv_handle_t *)&b->wake, NULL);
	uv_run(&b->loop, UV_RUN_DEFAULT); /* lets the handles go */
err_loop:
	uv_loop_close(&b->loop);
err_bus:
	free_bus(b);
	return rv;
}

void bus_stop(struct bus *b)
{
	if (b == NULL || atomic_exchange(&b->wants_stop, true))
		return;
	uv_async_send(&b->wake);
	uv_thread_join(&b->thread);
}

void bus_free(struct bus *b)
{
	if (b == NULL)
		return;
	CHECK(atomic_load(&b->wants_stop));
	uv_loop_close(&b->loop);
	window_fini(&b->window);
	free_bus(b);
}

/* --- for other threads ---------------------------------------------------- */

int bus_publish(struct bus *b, struct bus_request *r)
{
	size_t bytes = sizeof *r + r->len;
	bool was_empty;

	CHECK(r->count > 0);
	if (!atomic_load_explicit(&b->is_up, memory_order_relaxed))
		return UV_ENOTCONN;
	if (r->len + RECORD_HEAD_MAX + BUS_HEADERS_MAX >
	    atomic_load_explicit(&b->record_max, memory_order_relaxed))
		return UV_E2BIG;
	if (atomic_fetch_add_explicit(&b->pending_bytes, bytes,
				      memory_order_relaxed) +
		    bytes >
	    b->options.pending_bytes) {
		atomic_fetch_sub_explicit(&b->pending_bytes, bytes,
					  memory_order_relaxed);
		return UV_ENOBUFS;
	}
	r->next = NULL;
	r->due_ms = uv_hrtime() / NS_A_MS + b->options.timeout_ms;
	lock_acquire(&b->lock);
	if (b->is_shut) {
		lock_release(&b->lock);
		atomic_fetch_sub_explicit(&b->pending_bytes, bytes,
					  memory_order_relaxed);
		return UV_ENOTCONN;
	}
	memory_charge(bytes);
	was_empty = b->first == NULL;
	*b->end = r;
	b->end = &r->next;
	lock_release(&b->lock);
	if (was_empty)
		uv_async_send(&b->wake);
	return 0;
}

static uint64_t get_counter(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

bool bus_is_warm(const struct bus *b)
{
	return atomic_load_explicit(&b->is_warm, memory_order_acquire);
}

uint64_t bus_ask_epoch(struct bus *b)
{
	uint64_t ticket = atomic_fetch_add(&b->asked, 1) + 1;

	lock_acquire(&b->lock);
	if (!b->is_shut)
		uv_async_send(&b->wake);
	lock_release(&b->lock);
	return ticket;
}

bool bus_knows_epoch(const struct bus *b, uint64_t ticket)
{
	return atomic_load(&b->proved) >= ticket;
}

uint64_t bus_lag_ms(const struct bus *b)
{
	uint64_t behind_ms = get_counter(&b->behind_ms);
	uint64_t now = uv_hrtime() / NS_A_MS;

	return behind_ms == 0 || now < behind_ms ? 0 : now - behind_ms;
}

uint64_t bus_subscribers_elsewhere(const struct bus *b, struct span publisher,
				   struct span topic)
{
	return counts_others(b->counts, publisher, topic);
}

unsigned bus_nodes(const struct bus *b)
{
	return counts_nodes(b->counts) + 1;
}

void bus_status(const struct bus *b, struct metrics_bus *out)
{
	*out = (struct metrics_bus){
		.is_up = atomic_load(&b->is_up),
		.lag_ms = bus_lag_ms(b),
		.sequence = get_counter(&b->sequence),
		.pending_bytes = atomic_load_explicit(&b->pending_bytes,
						      memory_order_relaxed),
		.records_in = get_counter(&b->records_in),
		.publications_in = get_counter(&b->publications_in),
		.records_out = get_counter(&b->records_out),
		.publications_out = get_counter(&b->publications_out),
		.epochs = get_counter(&b->epochs),
		.lost_records = get_counter(&b->lost_records),
		.divergences = get_counter(&b->divergences),
		.unknown = get_counter(&b->unknown),
		.resends = get_counter(&b->resends),
		.warm_up_ms = get_counter(&b->warm_up_ms),
		.nodes = bus_nodes(b),
		.acks = &b->acks,
		.joins = b->joins,
		.join_names = bus_join_names,
		.join_kinds = BUS_JOIN_COUNT,
	};
}
