/* worker.c - the loop: poll, then (prepare) turns, mail and flush, then poll
 * again. */
#include "server/worker.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "server/relief.h"
#include "server/room.h"

#include <stdio.h>
#include <unistd.h>

#define PING_MISSES_MAX 2
/* How often the mailbox is read again before a poll: mail that comes meanwhile
 * needs no wake-up, but can't keep the loop from polling. */
#define MAIL_ROUNDS_MAX 4
#define DRAIN_STEP_MS   20
#define DRAIN_SOME      256 /* subscribers ended in one iteration */
#define SPEED_WINDOW_MS 60000
#define AGING_MS        1000

static struct worker *worker_of(struct conn_group *g)
{
	return CONTAINER_OF(g, struct worker, group);
}

static void on_worker_wake(uv_async_t *async)
{
	(void)async; /* the mail is taken before the next poll */
}

static void count_out(struct worker *w, enum listener_kind kind)
{
	atomic_fetch_sub_explicit(&w->shared->connections[kind], 1,
				  memory_order_relaxed);
}

static void on_conn_closed(struct conn_group *g, enum listener_kind kind)
{
	count_out(worker_of(g), kind);
}

static void dump_worker(struct worker *w, size_t mail_count)
{
	size_t states[CONN_STATES];
	size_t queued;

	conn_group_count(&w->group, states, &queued);
	const struct log_field fields[] = {
		log_number("worker", w->index),
		log_number("http",
			   states[CONN_REQUEST] + states[CONN_DISCARDING]),
		log_number("pending", states[CONN_PENDING]),
		log_number("websocket", states[CONN_WEBSOCKET]),
		log_number("event_stream", states[CONN_EVENT_STREAM]),
		log_number("closing", states[CONN_CLOSING] +
					      states[CONN_FINISHING] +
					      states[CONN_LINGERING]),
		log_number("queued_bytes", queued),
		log_number("mailbox", mail_count)};
	log_event(LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
		  "worker %u:", w->index);
}

/* --- ticks: signs of life, gauges --------------------------------------- */

static uint64_t worker_now_ms(void)
{
	return uv_hrtime() / 1000000;
}

static void set_gauges(struct worker *w)
{
	const size_t *states = w->group.states;
	struct conn_backlog backlog = conn_group_backlog(&w->group);
	struct stats *s = &w->stats;

	stats_set_gauge(s, STATS_GAUGE_http,
			states[CONN_REQUEST] + states[CONN_DISCARDING] +
				states[CONN_PENDING]);
	stats_set_gauge(s, STATS_GAUGE_websocket, states[CONN_WEBSOCKET]);
	stats_set_gauge(s, STATS_GAUGE_event_stream, states[CONN_EVENT_STREAM]);
	stats_set_gauge(s, STATS_GAUGE_closing,
			states[CONN_CLOSING] + states[CONN_FINISHING] +
				states[CONN_LINGERING]);
	stats_set_gauge(s, STATS_GAUGE_buffered_bytes, backlog.bytes);
	stats_set_gauge(s, STATS_GAUGE_buffered_worst_bytes,
			backlog.worst_bytes);
	stats_set_gauge(s, STATS_GAUGE_mailbox_messages, w->mail_most);
	w->mail_most = 0;
}

static void on_worker_tick(uv_timer_t *timer)
{
	struct worker *w = CONTAINER_OF(timer, struct worker, tick);
	uint64_t now = worker_now_ms();
	uint64_t lag_us =
		now > w->tick_due_ms ? (now - w->tick_due_ms) * 1000 : 0;

	CHECK_ON_THREAD(w->owner);
	w->tick_due_ms = now + WORKER_TICK_MS;
	stats_set_gauge(&w->stats, STATS_GAUGE_beat_ms, now);
	stats_set_gauge(&w->stats, STATS_GAUGE_loop_lag_us, lag_us);
	histogram_add(&w->stats.lag, lag_us, 1);
	relief_on_tick(w->shared);
	set_gauges(w);
	if (w->index == 0 && w->shared->recent != NULL)
		recent_take(w->shared->recent, now);
	conn_group_judge_speed(&w->group);
	if (w->shared->app->tick != NULL)
		w->shared->app->tick(w->state);
}

/* --- forgetting --------------------------------------------------------- */

/* Drops history that is too old, and, if memory is short, more; a part at a
 * time, so that the loop turns between. */
static void on_aging_timer(uv_timer_t *timer)
{
	struct worker *w = CONTAINER_OF(timer, struct worker, aging);
	uint64_t now_ns = uv_hrtime();

	CHECK_ON_THREAD(w->owner);
	bool is_more = registry_age(w->shared->registry, now_ns);
	idempotency_age(w->shared->idempotency, now_ns / 1000000);
	is_more |= relief_on_aging(w->shared);
	if (!is_more)
		memory_give_back();
	uv_timer_start(timer, on_aging_timer, is_more ? 1 : AGING_MS, 0);
}

/* --- draining ----------------------------------------------------------- */

static void on_drain_timer(uv_timer_t *timer)
{
	(void)timer; /* end_due() runs before the next poll */
}

/* From now on each answer ends its connection; WebSockets and event streams are
 * ended evenly over the time given. */
static void start_draining(struct worker *w)
{
	CHECK_ON_THREAD(w->owner);
	w->group.is_draining = true;
	w->drain_total = w->group.states[CONN_WEBSOCKET] +
			 w->group.states[CONN_EVENT_STREAM];
	w->drain_from_ms = worker_now_ms();
	uv_timer_start(&w->drain, on_drain_timer, 0, DRAIN_STEP_MS);
}

/* Ends as many as are due, some at a time. Comes after all mail is delivered
 * that was taken, so that whatever was answered 200 before is sent before
 * Close. */
static void end_due(struct worker *w)
{
	uint64_t spread = w->shared->drain_spread_ms;
	uint64_t past = worker_now_ms() - w->drain_from_ms;
	size_t due = w->drain_total;

	CHECK_ON_THREAD(w->owner);
	if (past < spread)
		due = (size_t)(w->drain_total * past / spread);
	if (due > w->drain_ended + DRAIN_SOME) {
		due = w->drain_ended + DRAIN_SOME;
		uv_async_send(&w->mailbox.async);
	}
	if (due > w->drain_ended) {
		conn_group_end_some(&w->group, due - w->drain_ended);
		w->drain_ended = due;
	}
}

/* --- mail ------------------------------------------------------------------
 */

static void adopt(struct worker *w, struct accepted accepted)
{
	size_t before = w->group.count;
	int rv = UV_ECANCELED;

	if (w->is_stopping)
		close(accepted.socket);
	else
		rv = conn_open(&w->group, accepted);
	if (rv == 0)
		return;
	log_event(LOG_DEBUG, "connection_dropped",
		  LOG_FIELDS(log_text("error", uv_err_name(rv)),
			     log_number("worker", w->index)),
		  "a connection was dropped: %s", uv_strerror(rv));
	if (w->group.count == before) /* else on_conn_closed() has counted it */
		count_out(w, accepted.kind);
}

static void obey(struct worker *w, unsigned orders, size_t mail_count)
{
	CHECK_ON_THREAD(w->owner);
	if (orders & MAILBOX_DUMP)
		dump_worker(w, mail_count);
	if (orders & MAILBOX_DRAIN)
		start_draining(w);
	if (orders & MAILBOX_MAKE_ROOM) /* another worker has none to end */
		for (int kind = 0; kind < LISTENER_KINDS; kind++)
			room_make(w, (enum listener_kind)kind);
	if (orders & MAILBOX_RELIEVE)
		relief_obey(w);
	if (orders & MAILBOX_STOP)
		w->is_stop_due = true;
	if (orders & MAILBOX_ABORT)
		conn_group_abort_all(&w->group);
#ifdef ISIMUD_DEBUG
	if (orders & MAILBOX_HANG)
		uv_sleep(2 * WORKER_STUCK_MS);
#endif
}

static void hand_notes_over(struct worker *w, struct mailbox_note *notes)
{
	while (notes != NULL) {
		struct mailbox_note *note = notes;
		notes = note->next; /* `note` may be freed now */
		w->shared->app->notify(w->state, note);
	}
}

/* Ends all connections, once what was answered 200 before is delivered. */
static void stop_worker(struct worker *w)
{
	w->is_stop_due = false;
	w->is_stopping = true;
	conn_group_end_all(&w->group);
}

/* While not all is delivered, further messages stay in the mailbox, where they
 * count against MAX_MAILBOX. */
static bool take_worker_mail(struct worker *w, struct mail *mail)
{
	if (!w->is_behind)
		return mailbox_take(&w->mailbox, mail);
	mailbox_take_but_messages(&w->mailbox, mail);
	return true;
}

static void handle_mail(struct worker *w, const struct mail *mail)
{
	unsigned kinds = 0;

	for (size_t i = 0; i < mail->sockets_count; i++) {
		adopt(w, mail->sockets[i]);
		kinds |= 1u << mail->sockets[i].kind;
	}
	if (kinds != 0)
		room_make_for(w, kinds);
	if (mail->messages != NULL || w->is_behind)
		w->is_behind = !w->shared->app->deliver(
			w->state, mail->messages, uv_hrtime() + CONN_ROUND_NS);
	if (w->mail_most < mail->messages_count)
		w->mail_most = mail->messages_count;
	hand_notes_over(w, mail->notes);
	obey(w, mail->orders, mail->messages_count);
}

/* --- the loop ----------------------------------------------------------- */

/* No connection and no mail is left, hence no topic either. Closes all handles,
 * so that the loop ends. */
static void close_worker(struct worker *w)
{
	CHECK_ON_THREAD(w->owner);
	mailbox_close(&w->mailbox);
	uv_close((uv_handle_t *)&w->prepare, NULL);
	uv_close((uv_handle_t *)&w->tick, NULL);
	uv_close((uv_handle_t *)&w->drain, NULL);
	uv_close((uv_handle_t *)&w->aging, NULL);
	w->shared->app->close(w->state);
	conn_group_close(&w->group);
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct worker *w = CONTAINER_OF(prepare, struct worker, prepare);
	struct mail mail;
	int rounds = 0;

	CHECK_ON_THREAD(w->owner);
	conn_group_take_turns(&w->group);
	do {
		if (take_worker_mail(w, &mail))
			handle_mail(w, &mail);
		if (w->group.is_draining && !w->is_behind)
			end_due(w);
		if (w->is_stop_due && !w->is_behind)
			stop_worker(w);
		conn_group_flush(&w->group);
		if (w->shared->app->flushed != NULL)
			w->shared->app->flushed(w->state);
	} while (mailbox_is_waiting(&w->mailbox) && !w->is_behind &&
		 !conn_group_is_busy(&w->group) && ++rounds < MAIL_ROUNDS_MAX);
	if (rounds == MAIL_ROUNDS_MAX || w->is_behind)
		uv_async_send(&w->mailbox.async);
	else if (w->is_stopping && w->group.count == 0)
		close_worker(w);
}

static struct conn_limits limits_of(const struct worker_shared *shared)
{
	const struct config *c = shared->config;
	return (struct conn_limits){
		.body_max_bytes = c->body_max_bytes,
		.message_max_bytes = shared->app->message_max_bytes,
		.buffered_max_bytes = c->buffered_max_bytes,
		.tcp_subscribers_max = c->shares.tcp_subscribers,
		.subscribers_max = c->shares.subscribers,
		.ping_misses_max = PING_MISSES_MAX,
		.speed_min = c->speed_min,
		.speed_window_ms = SPEED_WINDOW_MS,
		.compresses = c->compress_min_bytes > 0,
		.durations_ms = {[DEADLINE_HEAD] = c->header_timeout_ms,
				 [DEADLINE_BODY] = c->body_timeout_ms,
				 [DEADLINE_IDLE] = c->idle_timeout_ms,
				 [DEADLINE_WRITE] = c->write_timeout_ms,
				 [DEADLINE_PING] = c->ping_interval_ms,
				 [DEADLINE_CLOSE] = c->close_timeout_ms,
				 [DEADLINE_LINGER] = c->close_timeout_ms,
				 [DEADLINE_LATE] = CONN_LATE_MS},
	};
}

static int open_all(struct worker *w)
{
	const struct worker_app *app = w->shared->app;
	struct conn_limits limits = limits_of(w->shared);

	int rv = app->open(w, &w->state);
	if (rv != 0)
		return rv;
	rv = conn_group_open(&w->group, &w->loop, app->hooks, w->state, &limits,
			     &w->stats);
	if (rv != 0) {
		app->close(w->state);
		return rv;
	}
	w->group.on_closed = on_conn_closed;
	w->group.subscribers = w->shared->subscribers;
	uv_timer_init(&w->loop, &w->drain);
	uv_timer_init(&w->loop, &w->aging);
	if (w->index == 0)
		uv_timer_start(&w->aging, on_aging_timer, AGING_MS, 0);
	uv_timer_init(&w->loop, &w->tick);
	w->tick_due_ms = worker_now_ms();
	stats_set_gauge(&w->stats, STATS_GAUGE_beat_ms, w->tick_due_ms);
	uv_timer_start(&w->tick, on_worker_tick, 0, WORKER_TICK_MS);
	uv_prepare_init(&w->loop, &w->prepare);
	CHECK(uv_prepare_start(&w->prepare, on_prepare) == 0);
	return 0;
}

static void worker_main(void *arg)
{
	struct worker *w = arg;
	char name[16];

	snprintf(name, sizeof name, "isi-worker-%u", w->index);
	pthread_setname_np(pthread_self(), name);
	w->owner = uv_thread_self();
	mailbox_set_owner(&w->mailbox);
	w->start_error = open_all(w);
	if (w->start_error != 0)
		mailbox_close(&w->mailbox);
	uv_sem_post(&w->started);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	memory_settle();
}

int worker_init(struct worker *w, unsigned index, struct worker_shared *shared)
{
	w->index = index;
	w->shared = shared;
	int rv = uv_loop_init(&w->loop);
	if (rv != 0)
		return rv;
	rv = uv_sem_init(&w->started, 0);
	if (rv != 0)
		goto err_loop;
	rv = mailbox_open(&w->mailbox, &w->loop, index,
			  shared->config->mailbox_max_bytes, on_worker_wake);
	if (rv == 0)
		return 0;
	uv_sem_destroy(&w->started);
err_loop:
	uv_loop_close(&w->loop);
	return rv;
}

int worker_start(struct worker *w)
{
	int rv = uv_thread_create(&w->thread, worker_main, w);
	if (rv != 0)
		return rv;
	uv_sem_wait(&w->started);
	if (w->start_error != 0)
		uv_thread_join(&w->thread);
	return w->start_error;
}

void worker_join(struct worker *w)
{
	uv_thread_join(&w->thread);
}

void worker_fini(struct worker *w)
{
	/* A worker that was never started still has its mailbox's handle. */
	if (!uv_is_closing((uv_handle_t *)&w->mailbox.async)) {
		mailbox_close(&w->mailbox);
		uv_run(&w->loop, UV_RUN_DEFAULT);
	}
	mailbox_fini(&w->mailbox);
	uv_sem_destroy(&w->started);
	CHECK(uv_loop_close(&w->loop) == 0);
}
