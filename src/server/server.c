/* server.c - order of start and stop; signals. */
#include "server/server.h"

#include "access/rotation.h"
#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "server/acceptor.h"
#include "server/apply.h"
#include "server/handover.h"
#include "server/notify.h"
#include "server/replica.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS         10   /* between checks whether all clients are gone */
#define REQUESTS_MS     1000 /* for requests that have begun, at the end */
#define LAST_ANSWERS_MS 200  /* for those that the log has not answered */
/* Memory of a worker before it has any client: its stack, its read buffer, its
 * part of the allocator. Measured, and rounded up. */
#define WORKER_OWN_BYTES 262144

struct server {
	struct worker_shared shared;
	struct acceptor acceptor;
	unsigned workers_count; /* of those that are made */
	unsigned started;       /* of those that run */
	struct worker *workers[CONFIG_WORKERS_MAX];
	struct mailbox *mailboxes[CONFIG_WORKERS_MAX];
	struct handover handover;
	struct apply apply;
	struct rotation rotation;
	uint64_t look_due_ms; /* of `rotation`, while draining */
	struct unix_path paths[CONFIG_LISTENERS_MAX]; /* of listeners[i] */
	sigset_t signals;
};

static void log_start_failed(int error)
{
	log_event(LOG_ERROR, "start_failed",
		  LOG_FIELDS(log_text("error", uv_err_name(error))),
		  "can't start: %s", uv_strerror(error));
}

static void never_called(int number)
{
	(void)number;
}

/* Signals are taken by sigwaitinfo() in the main thread alone; threads made
 * later inherit the mask. */
static void block_signals(struct server *s)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	sigaddset(&s->signals, SIGUSR1);
	sigaddset(&s->signals, SIGHUP);
#ifdef ISIMUD_DEBUG
	sigaddset(&s->signals, SIGUSR2);
#endif
	CHECK(pthread_sigmask(SIG_BLOCK, &s->signals, NULL) == 0);
	/* So that /proc/PID/status tells `isimud reload` that the signal does
	 * no harm: during sigwaitinfo() it does not list blocked signals. */
	signal(SIGHUP, never_called);
}

static void end_now(int number)
{
	_exit(128 + number);
}

/* From here on SIGTERM and SIGINT end the process at once; by a handler, as
 * the default effect does not exist for a container's process 1. The other
 * signals stay blocked. */
static void unblock_stop_signals(void)
{
	struct sigaction action = {.sa_handler = end_now};
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	CHECK(pthread_sigmask(SIG_UNBLOCK, &stop, NULL) == 0);
}

/* A connection is a descriptor: take as many as the system lets us have. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_event(LOG_WARN, "descriptor_limit", LOG_NO_FIELDS,
			  "the limit of descriptors could not be raised");
}

static int make_workers(struct server *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct worker *w =
			aligned_alloc(_Alignof(struct worker), sizeof *w);
		if (w == NULL)
			return UV_ENOMEM;
		memset(w, 0, sizeof *w);
		int rv = worker_init(w, i, &s->shared);
		if (rv != 0) {
			free(w);
			return rv;
		}
		s->workers[i] = w;
		s->mailboxes[i] = &w->mailbox;
		s->workers_count++;
		s->shared.workers_count++;
	}
	return 0;
}

/* What the log still knows as a duplicate must still be in the table. */
static uint64_t idempotency_ttl_ms(const struct config *c)
{
	if (c->nats_url == NULL || c->idempotency_ttl_ms == 0)
		return c->idempotency_ttl_ms;
	return c->idempotency_ttl_ms > BUS_KEYS_MS ? c->idempotency_ttl_ms
						   : BUS_KEYS_MS;
}

/* What all workers share, and post to their mailboxes. */
static int make_tables(struct server *s)
{
	const struct config *c = s->shared.config;
	const struct registry_options registry = {
		.mailboxes = s->mailboxes,
		.workers = s->workers_count,
		.history_size = (uint32_t)c->history_size,
		.history_ttl_ms = c->history_ttl_ms,
		.history_bytes = c->history_bytes,
		.retains = c->retain,
		.is_log = c->nats_url != NULL,
		.replay_bytes = c->replay_bytes};
	const struct auth_cache_options auth_cache = {
		.mailboxes = s->mailboxes,
		.checks_max = (unsigned)c->auth_checks_max,
		.queue_max = (unsigned)c->auth_queue,
		.ttl_ms = c->auth_cache_ttl_ms,
		.entries_max = c->auth_cache_entries};

	int rv = registry_new(&s->shared.registry, &registry);
	if (rv == 0)
		rv = auth_cache_new(&s->shared.auth_cache, &auth_cache);
	if (rv == 0)
		rv = idempotency_new(&s->shared.idempotency,
				     idempotency_ttl_ms(c),
				     c->idempotency_bytes);
	return rv;
}

static void free_workers(struct server *s)
{
	/* Mailboxes name topics' members, so both go after all threads. */
	for (unsigned i = 0; i < s->workers_count; i++)
		worker_fini(s->workers[i]);
	registry_free(s->shared.registry);
	auth_cache_free(s->shared.auth_cache);
	idempotency_free(s->shared.idempotency);
	recent_free(s->shared.recent);
	for (unsigned i = 0; i < s->workers_count; i++)
		free(s->workers[i]);
}

static int make_recent(struct server *s)
{
	const struct stats *stats[CONFIG_WORKERS_MAX];

	for (unsigned i = 0; i < s->workers_count; i++)
		stats[i] = &s->workers[i]->stats;
	return recent_new(&s->shared.recent, stats, s->workers_count,
			  uv_hrtime() / 1000000);
}

static int start_workers(struct server *s)
{
	int made = make_recent(s);

	if (made != 0)
		return made;
	s->shared.started_s = (uint64_t)time(NULL);
	while (s->started < s->workers_count) {
		int rv = worker_start(s->workers[s->started]);
		if (rv != 0)
			return rv;
		s->started++;
	}
	return 0;
}

static void order_all(struct server *s, enum mailbox_order order)
{
	for (unsigned i = 0; i < s->started; i++)
		mailbox_post_order(s->mailboxes[i], order);
}

static void stop_workers(struct server *s)
{
	/* It posts to the workers, which ask it how it is. */
	bus_stop(s->shared.bus);
	order_all(s, MAILBOX_STOP);
	for (unsigned i = 0; i < s->started; i++)
		worker_join(s->workers[i]);
	s->started = 0;
}

static void log_counters(const struct server *s)
{
	struct log_field fields[STATS_COUNT + 2];

	for (int c = 0; c < STATS_COUNT; c++) {
		uint64_t sum =
			stats_get(&s->acceptor.stats, (enum stats_counter)c);
		for (unsigned i = 0; i < s->workers_count; i++)
			sum += stats_get(&s->workers[i]->stats,
					 (enum stats_counter)c);
		fields[c] = log_number(stats_counters[c].name, sum);
	}
	fields[STATS_COUNT] =
		log_number("topics", registry_topics(s->shared.registry));
	fields[STATS_COUNT + 1] = log_number("log_dropped", log_dropped());
	log_event(LOG_INFO, "counters", fields, STATS_COUNT + 2, "counters:");
}

static void dump_all(struct server *s)
{
	order_all(s, MAILBOX_DUMP);
	log_counters(s);
}

/* The next signal; or 0 where a while has passed and PASSWORD_FILE is to be
 * looked at. */
static int next_signal(const struct server *s)
{
	const struct timespec while_waiting = {0, ROTATION_LOOK_MS * 1000000L};

	if (s->shared.config->password_file == NULL)
		return sigwaitinfo(&s->signals, NULL);
	int number = sigtimedwait(&s->signals, NULL, &while_waiting);
	return number < 0 ? 0 : number;
}

static void wait_for_stop(struct server *s)
{
	int number;

	do {
		number = next_signal(s);
		if (number == 0)
			rotation_look(&s->rotation, s->shared.config);
		else if (number == SIGUSR1)
			dump_all(s);
		else if (number == SIGHUP)
			rotation_reload(&s->rotation, s->shared.config);
#ifdef ISIMUD_DEBUG
		else if (number == SIGUSR2)
			mailbox_post_order(s->mailboxes[0], MAILBOX_HANG);
#endif
	} while (number != SIGTERM && number != SIGINT);
	const char *signal_name = number == SIGTERM ? "SIGTERM" : "SIGINT";
	log_event(LOG_INFO, "draining",
		  LOG_FIELDS(log_text("signal", signal_name)), "draining on %s",
		  signal_name);
}

/* --- draining ----------------------------------------------------------- */

typedef size_t (*count_cb)(const struct worker_shared *shared);

/* Waits until `count` says 0, or until `until_ms` (uv_hrtime()). Returns
 * whether it does. */
static bool wait_for_none(struct server *s, count_cb count, uint64_t until_ms)
{
	while (count(&s->shared) > 0) {
		uint64_t now_ms = uv_hrtime() / 1000000;
		if (now_ms >= until_ms)
			return false;
		/* Publishers are served all the while. */
		if (now_ms >= s->look_due_ms) {
			rotation_look(&s->rotation, s->shared.config);
			s->look_due_ms = now_ms + ROTATION_LOOK_MS;
		}
		uv_sleep(STEP_MS);
	}
	return true;
}

/* The time is divided into tenths. In the first, new subscribers are refused
 * and /readyz says no, so that no client is sent here. In the next seven,
 * subscribers are ended evenly. One more is for those that are slow to leave.
 * Publishing and health are served until the last subscriber has left; then, or
 * after nine tenths, nothing is accepted any more. */
static void drain_subscribers(struct server *s, uint64_t start_ms)
{
	uint64_t all = s->shared.config->drain_ms;

	if (wait_for_none(s, worker_subscribers, start_ms + all / 10))
		return;
	s->shared.drain_spread_ms = all * 7 / 10;
	order_all(s, MAILBOX_DRAIN);
	wait_for_none(s, worker_subscribers, start_ms + all * 8 / 10);
}

/* Requests that have begun are answered, within this time. */
static uint64_t rest_ms(const struct server *s, uint64_t start_ms,
			uint64_t now_ms)
{
	const struct config *c = s->shared.config;
	uint64_t end_ms = start_ms + c->drain_ms * 9 / 10;

	if (c->drain_ms == 0) /* subscribers are told only now */
		return c->close_timeout_ms + STEP_MS;
	if (end_ms <= now_ms)
		return 0;
	return end_ms - now_ms < REQUESTS_MS ? end_ms - now_ms : REQUESTS_MS;
}

/* What the log has not answered by now nobody waits for: the bus says what is
 * known of it, and the workers tell their clients. */
static void answer_publishers(struct server *s)
{
	if (s->shared.bus == NULL || worker_connections(&s->shared) == 0)
		return;
	bus_stop(s->shared.bus);
	wait_for_none(s, worker_connections,
		      uv_hrtime() / 1000000 + LAST_ANSWERS_MS);
}

static void drain_all(struct server *s)
{
	uint64_t start = uv_hrtime() / 1000000;

	atomic_store(&s->shared.is_draining, true);
	if (s->shared.config->drain_ms > 0)
		drain_subscribers(s, start);
	acceptor_stop(&s->acceptor);
	order_all(s, MAILBOX_STOP);
	uint64_t now = uv_hrtime() / 1000000;
	wait_for_none(s, worker_connections, now + rest_ms(s, start, now));
	answer_publishers(s);
	order_all(s, MAILBOX_ABORT);
}

/* --- start and stop ------------------------------------------------------ */

/* Opens one, and says so if that fails. */
static int open_listener(struct server *s, const struct config_listener *l,
			 struct unix_path *path, int *fd, unsigned *port)
{
	const struct config *c = s->shared.config;
	char text[CONFIG_LISTENER_TEXT_MAX];

	int rv = l->is_unix ? unix_path_take(path, l->address, c, &s->signals)
			    : 0;
	if (rv == 0)
		rv = acceptor_listen(l, path, (mode_t)c->unix_mode, fd, port);
	if (rv == 0)
		return 0;
	config_name_listener(l, l->port, text);
	if (rv == UV_EBUSY)
		log_event(LOG_ERROR, "conflict",
			  LOG_FIELDS(
				  log_text("address", text),
				  /* Only a Unix socket's has that. */
				  /* NOLINTNEXTLINE(clang-analyzer-core.*) */
				  log_number("pid", (uint64_t)path->found.pid)),
			  "can't listen on %s: another isimud, process %d, has "
			  "it",
			  text, path->found.pid);
	else if (rv != UV_ECANCELED)
		log_event(LOG_ERROR, "listen_failed",
			  LOG_FIELDS(log_text("address", text),
				     log_text("error", uv_err_name(rv))),
			  "can't listen on %s: %s", text, uv_strerror(rv));
	if (l->is_unix)
		unix_path_leave(path);
	return rv;
}

/* Opens what is asked for. Returns the listeners made, whatever `*error`. */
static unsigned open_listeners(struct server *s, struct acceptor_listener *out,
			       unsigned *ports, int *error)
{
	const struct config *c = s->shared.config;
	unsigned n = 0;

	for (unsigned i = 0; i < c->listeners_count + c->has_admin_port; i++) {
		bool is_admin = i == c->listeners_count;
		struct config_listener l;
		if (is_admin) {
			l = (struct config_listener){
				.port = (unsigned)c->admin_port};
			snprintf(l.address, sizeof l.address, "%s", c->ip);
		} else {
			l = c->listeners[i];
		}
		struct unix_path *path = l.is_unix ? &s->paths[i] : NULL;
		*error = open_listener(s, &l, path, &out[n].fd, &ports[n]);
		if (*error != 0)
			break;
		out[n].path = path;
		out[n++].kind = is_admin    ? LISTENER_ADMIN
				: l.is_unix ? LISTENER_UNIX
					    : LISTENER_TCP;
	}
	return n;
}

static void log_listeners(const struct config *c, const unsigned *ports)
{
	char text[CONFIG_LISTENER_TEXT_MAX];

	for (unsigned i = 0; i < c->listeners_count; i++) {
		config_name_listener(&c->listeners[i], ports[i], text);
		log_event(LOG_INFO, "listening",
			  LOG_FIELDS(log_text("address", text)),
			  "listening on %s", text);
	}
	if (c->has_admin_port)
		log_event(LOG_INFO, "listening_admin",
			  LOG_FIELDS(log_number("port",
						ports[c->listeners_count])),
			  "health and metrics on port %u",
			  ports[c->listeners_count]);
}

/* For processes that find the addresses taken. The acceptor does not run, or
 * was not asked to close any listener. */
static void note_on_paths(struct server *s, enum lockfile_state state)
{
	for (unsigned i = 0; i < CONFIG_LISTENERS_MAX; i++)
		(void)lockfile_write(&s->paths[i].lock, state, 0);
}

/* Accepts until told to stop. Takes the listeners. */
static int accept_until_stopped(struct server *s,
				const struct acceptor_listener *listeners,
				const unsigned *ports, unsigned count)
{
	int rv = acceptor_init(&s->acceptor, &s->shared, listeners, count);
	if (rv != 0) {
		log_start_failed(rv);
		return rv;
	}
	s->shared.acceptor = &s->acceptor.stats;
	handover_note_serving(&s->handover);
	note_on_paths(s, LOCKFILE_SERVING);
	rv = acceptor_start(&s->acceptor);
	if (rv == 0) {
		log_listeners(s->shared.config, ports);
		notify_send("READY=1\nSTATUS=serving");
		wait_for_stop(s);
		notify_send("STOPPING=1\nSTATUS=draining");
		unblock_stop_signals();
		handover_note_draining(&s->handover);
		note_on_paths(s, LOCKFILE_DRAINING);
		drain_all(s);
	} else {
		log_start_failed(rv);
	}
	stop_workers(s);
	acceptor_fini(&s->acceptor);
	return rv;
}

/* Memory in use by now is not the clients'. */
static void set_memory_limit(const struct config *c)
{
	size_t base = memory_own();

	memory_set_limit(c->memory_limit_bytes, base);
	base += c->workers * WORKER_OWN_BYTES;
	size_t least = memory_least_limit(base);
	if (c->memory_limit_bytes != 0 && c->memory_limit_bytes < least)
		log_event(LOG_ERROR, "memory_limit",
			  LOG_FIELDS(log_number("least", least)),
			  "MEMORY_LIMIT (%" PRIu64 " bytes) is too low to let "
			  "subscribers in: it must be over %zu bytes, or fewer "
			  "WORKERS",
			  c->memory_limit_bytes, least);
}

/* What was asked for and can't be had. */
static void tell_shares(const struct config *c)
{
	if (c->connections_max > c->shares.tcp_subscribers)
		log_event(LOG_WARN, "few_descriptors",
			  LOG_FIELDS(log_number("max_connections",
						c->connections_max),
				     log_number("descriptors",
						descriptors_limit()),
				     log_number("subscribers",
						c->shares.tcp_subscribers)),
			  "MAX_CONNECTIONS is %" PRIu64 ", but %" PRIu64
			  " descriptors (ulimit -n) allow %" PRIu64
			  " subscribers",
			  c->connections_max, descriptors_limit(),
			  c->shares.tcp_subscribers);
}

#define BUS_TRIES 30 /* one a second: servers start in any order */

/* Joins the cluster, if there is one. SERVER_… or 0. */
static int start_bus(struct server *s)
{
	const struct config *c = s->shared.config;
	const struct timespec second = {.tv_sec = 1};
	char error[BUS_ERROR_MAX];
	int rv;

	if (c->nats_url == NULL)
		return 0;
	apply_init(&s->apply, &s->shared, s->mailboxes);
	const struct bus_options options = {
		.servers = c->nats_url,
		.creds = c->nats_creds,
		.ca = c->nats_ca,
		.stream = c->bus_stream,
		.creates = c->bus_create,
		.replicas = (unsigned)c->bus_replicas,
		.timeout_ms = c->bus_timeout_ms,
		.pending_bytes = c->bus_pending_bytes,
		.history_ttl_ms = c->history_ttl_ms,
		.body_max_bytes = c->body_max_bytes,
		.mailboxes = s->mailboxes,
		.sink = apply_sink(&s->apply)};
	for (unsigned i = 1;; i++) {
		rv = bus_start(&s->shared.bus, &options, error);
		if (rv == 0)
			return 0;
		if (rv == UV_EINVAL || i == BUS_TRIES)
			break;
		if (i == 1)
			log_event(LOG_WARN, "start_failed", LOG_NO_FIELDS,
				  "%s; trying again", error);
		int number = sigtimedwait(&s->signals, NULL, &second);
		if (number == SIGTERM || number == SIGINT)
			return UV_ECANCELED;
	}
	log_event(LOG_ERROR, "start_failed", LOG_NO_FIELDS, "%s", error);
	return rv;
}

static int start_threads(struct server *s)
{
	const struct config *c = s->shared.config;
	struct acceptor_listener listeners[ACCEPTOR_LISTENERS_MAX];
	unsigned ports[ACCEPTOR_LISTENERS_MAX] = {0};
	int rv = 0;

	unsigned count = open_listeners(s, listeners, ports, &rv);
	bool is_logged = rv != 0;
	if (rv == 0)
		rv = make_workers(s, (unsigned)c->workers);
	if (rv == 0)
		rv = make_tables(s);
	if (rv == 0) {
		set_memory_limit(c);
		handover_restore(&s->handover, c, s->shared.registry,
				 s->workers_count);
		rv = start_workers(s);
	}
	if (rv == 0) {
		rv = start_bus(s);
		is_logged = rv != 0;
	}
	if (rv == 0)
		return accept_until_stopped(s, listeners, ports, count);
	while (count-- > 0) {
		if (listeners[count].path != NULL)
			unix_path_leave(listeners[count].path);
		close(listeners[count].fd);
	}
	if (!is_logged)
		log_start_failed(rv);
	return rv;
}

int server_run(const struct config *config, const struct worker_app *app)
{
	struct server s = {.shared = {.config = config, .app = app}};

	block_signals(&s);
	raise_descriptor_limit();
	tell_shares(config);
	replica_warn(config);
	s.shared.workers = s.workers;
	int rv = handover_claim(&s.handover, config, &s.signals);
	if (rv != 0 && rv != UV_ECANCELED)
		return SERVER_CONFLICT;
	if (rv == 0) {
		rv = start_threads(&s);
		stop_workers(&s);
		handover_save(&s.handover, s.shared.registry);
		bus_free(s.shared.bus);
		free_workers(&s);
		apply_fini(&s.apply);
	}
	if (rv == 0 || rv == UV_ECANCELED) {
		log_event(LOG_INFO, "stopped", LOG_NO_FIELDS, "stopped");
		return 0;
	}
	/* The latter is start_bus()'s, of a stream that does not fit. */
	return rv == UV_EADDRINUSE || rv == UV_EBUSY || rv == UV_EINVAL
		       ? SERVER_CONFLICT
		       : 1;
}
