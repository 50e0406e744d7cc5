/* server.c - order of start and stop; signals. */
#include "server.h"

#include "acceptor.h"
#include "check.h"
#include "log.h"
#include "version.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct server {
	struct worker_shared shared;
	struct acceptor acceptor;
	unsigned workers_count; /* of those that are made */
	unsigned started;       /* of those that run */
	struct worker *workers[CONFIG_WORKERS_MAX];
	struct mailbox *mailboxes[CONFIG_WORKERS_MAX];
	sigset_t signals;
};

/* Signals are taken by sigwaitinfo() in the main thread alone; threads made
 * later inherit the mask. */
static void block_signals(struct server *s)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	sigaddset(&s->signals, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &s->signals, NULL) == 0);
}

static void unblock_signals(struct server *s)
{
	CHECK(pthread_sigmask(SIG_UNBLOCK, &s->signals, NULL) == 0);
}

/* A connection is a descriptor: take as many as the system lets us have. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warn("the limit of descriptors could not be raised");
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
	}
	return registry_new(&s->shared.registry, s->mailboxes, count);
}

static void free_workers(struct server *s)
{
	/* Mailboxes name topics' members, so both go after all threads. */
	for (unsigned i = 0; i < s->workers_count; i++)
		worker_fini(s->workers[i]);
	registry_free(s->shared.registry);
	for (unsigned i = 0; i < s->workers_count; i++)
		free(s->workers[i]);
}

static int start_workers(struct server *s)
{
	while (s->started < s->workers_count) {
		int rv = worker_start(s->workers[s->started]);
		if (rv != 0)
			return rv;
		s->started++;
	}
	return 0;
}

static void stop_workers(struct server *s)
{
	for (unsigned i = 0; i < s->started; i++)
		mailbox_post_order(s->mailboxes[i], MAILBOX_STOP);
	for (unsigned i = 0; i < s->started; i++)
		worker_join(s->workers[i]);
	s->started = 0;
}

static void log_counters(const struct server *s)
{
	char text[LOG_LINE_MAX];
	size_t len = 0;

	for (int c = 0; c < STATS_COUNT; c++) {
		uint64_t sum =
			stats_get(&s->acceptor.stats, (enum stats_counter)c);
		for (unsigned i = 0; i < s->workers_count; i++)
			sum += stats_get(&s->workers[i]->stats,
					 (enum stats_counter)c);
		int n = snprintf(text + len, sizeof text - len, " %s=%" PRIu64,
				 stats_name((enum stats_counter)c), sum);
		if (n < 0 || (size_t)n >= sizeof text - len)
			break;
		len += (size_t)n;
	}
	log_info("counters:%s topics=%zu", text,
		 registry_topics(s->shared.registry));
}

static void dump(struct server *s)
{
	for (unsigned i = 0; i < s->started; i++)
		mailbox_post_order(s->mailboxes[i], MAILBOX_DUMP);
	log_counters(s);
}

static void wait_for_stop(struct server *s)
{
	int signal_number;
	for (;;) {
		signal_number = sigwaitinfo(&s->signals, NULL);
		if (signal_number == SIGUSR1)
			dump(s);
		else if (signal_number > 0)
			break;
	}
	log_info("stopping on %s",
		 signal_number == SIGTERM ? "SIGTERM" : "SIGINT");
}

/* Accepts until told to stop. */
static int serve(struct server *s, int listener, unsigned port)
{
	const struct config *c = s->shared.config;
	int rv = acceptor_init(&s->acceptor, &s->shared, s->workers,
			       s->workers_count, &listener, 1);
	if (rv != 0)
		return rv;
	rv = acceptor_start(&s->acceptor);
	if (rv == 0) {
		log_info("isimud " VERSION ", %u workers, listening on "
			 "%s%s%s:%u",
			 s->workers_count, strchr(c->ip, ':') ? "[" : "", c->ip,
			 strchr(c->ip, ':') ? "]" : "", port);
		wait_for_stop(s);
		/* From here on a second signal has its default effect. */
		unblock_signals(s);
		acceptor_stop(&s->acceptor);
	}
	stop_workers(s);
	acceptor_fini(&s->acceptor);
	return rv;
}

int server_run(const struct config *config, const struct worker_app *app)
{
	struct server s = {.shared = {.config = config, .app = app}};
	int listener;
	unsigned port;

	block_signals(&s);
	raise_descriptor_limit();
	int rv = acceptor_listen(config->ip, (unsigned)config->port, &listener,
				 &port);
	if (rv != 0) {
		log_error("can't listen on %s:%" PRIu64 ": %s", config->ip,
			  config->port, uv_strerror(rv));
		return 1;
	}
	rv = make_workers(&s, (unsigned)config->workers);
	if (rv == 0)
		rv = start_workers(&s);
	if (rv == 0)
		rv = serve(&s, listener, port);
	else
		close(listener);
	stop_workers(&s);
	free_workers(&s);
	if (rv != 0) {
		log_error("can't start: %s", uv_strerror(rv));
		return 1;
	}
	log_info("stopped");
	return 0;
}
