/* worker.c - the loop: poll, then (prepare) mail and flush, then poll again. */
#include "worker.h"

#include "check.h"
#include "log.h"

#include <stdio.h>
#include <unistd.h>

#define PING_MISSES_MAX 2
/* Times the mail is looked at again before a poll: what a flush lets in (a
 * paused publisher) is delivered without a wake-up, but can't keep the loop. */
#define MAIL_ROUNDS_MAX 4

static struct worker *worker_of(struct conn_group *g)
{
	return CONTAINER_OF(g, struct worker, group);
}

static void on_wake(uv_async_t *async)
{
	(void)async; /* the mail is taken before the next poll */
}

static void on_handle_gone(uv_handle_t *handle)
{
	(void)handle;
}

static void on_freed(struct conn_group *g)
{
	struct worker *w = worker_of(g);
	atomic_fetch_sub_explicit(&w->shared->connections, 1,
				  memory_order_relaxed);
}

static void dump(struct worker *w, size_t mail_count)
{
	size_t states[CONN_STATES];
	size_t queued;

	conn_group_count(&w->group, states, &queued);
	log_info("worker %u: http=%zu pending=%zu websocket=%zu closing=%zu "
		 "queued_bytes=%zu mailbox=%zu",
		 w->index, states[CONN_REQUEST] + states[CONN_DISCARDING],
		 states[CONN_PENDING], states[CONN_WEBSOCKET],
		 states[CONN_CLOSING] + states[CONN_FINISHING] +
			 states[CONN_LINGERING],
		 queued, mail_count);
}

static void adopt(struct worker *w, int socket)
{
	size_t before = w->group.count;
	int rv = UV_ECANCELED;

	if (w->is_stopping)
		close(socket);
	else
		rv = conn_open(&w->group, socket);
	if (rv == 0)
		return;
	log_debug("a connection was dropped: %s", uv_strerror(rv));
	if (w->group.count == before) /* else on_freed() will count it */
		atomic_fetch_sub_explicit(&w->shared->connections, 1,
					  memory_order_relaxed);
}

static void handle_mail(struct worker *w, const struct mail *mail)
{
	for (size_t i = 0; i < mail->sockets_count; i++)
		adopt(w, mail->sockets[i]);
	if (mail->messages != NULL)
		w->shared->app->deliver(w->state, mail->messages);
	if (mail->orders & MAILBOX_DUMP)
		dump(w, mail->messages_count);
	if (mail->orders & MAILBOX_STOP) {
		w->is_stopping = true;
		conn_group_end_all(&w->group);
	}
}

/* No connection is left, and no mail, so no topic of ours is either: nothing
 * keeps the loop any more. */
static void close_all(struct worker *w)
{
	mailbox_close(&w->mailbox);
	uv_close((uv_handle_t *)&w->prepare, on_handle_gone);
	w->shared->app->close(w->state);
	conn_group_close(&w->group);
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct worker *w = CONTAINER_OF(prepare, struct worker, prepare);
	struct mail mail;
	int rounds = 0;

	do {
		if (mailbox_take(&w->mailbox, &mail))
			handle_mail(w, &mail);
		conn_group_flush(&w->group);
	} while (mailbox_is_waiting(&w->mailbox) && ++rounds < MAIL_ROUNDS_MAX);
	if (rounds == MAIL_ROUNDS_MAX)
		uv_async_send(&w->mailbox.async);
	else if (w->is_stopping && w->group.count == 0)
		close_all(w);
}

static struct conn_limits limits_of(const struct worker_shared *shared)
{
	const struct config *c = shared->config;
	return (struct conn_limits){
		.body_max_bytes = c->body_max_bytes,
		.message_max_bytes = shared->app->message_max_bytes,
		.buffered_max_bytes = c->buffered_max_bytes,
		.ping_misses_max = PING_MISSES_MAX,
		.durations_ms = {[DEADLINE_HEAD] = c->header_timeout_ms,
				 [DEADLINE_BODY] = c->body_timeout_ms,
				 [DEADLINE_IDLE] = c->idle_timeout_ms,
				 [DEADLINE_WRITE] = c->write_timeout_ms,
				 [DEADLINE_PING] = c->ping_interval_ms,
				 [DEADLINE_CLOSE] = c->close_timeout_ms,
				 [DEADLINE_LINGER] = c->close_timeout_ms},
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
	w->group.on_freed = on_freed;
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
	mailbox_set_owner(&w->mailbox);
	w->start_error = open_all(w);
	if (w->start_error != 0)
		mailbox_close(&w->mailbox);
	uv_sem_post(&w->started);
	uv_run(&w->loop, UV_RUN_DEFAULT);
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
			  shared->config->mailbox_max_bytes, on_wake);
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
