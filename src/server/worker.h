/* worker.h - one loop thread and the connections that it owns.
 *
 * All that comes from other threads comes by the mailbox: sockets from the
 * acceptor, messages from publishers, notes for the application, orders from
 * the server. Before each poll the worker takes its mail, then writes once to
 * every connection that has something to write. The application says what
 * requests and messages mean (api/; test/echo). */
#ifndef ISIMUD_SERVER_WORKER_H
#define ISIMUD_SERVER_WORKER_H

#include "access/auth_cache.h"
#include "cluster/bus.h"
#include "config/config.h"
#include "conn/conn.h"
#include "stats/recent.h"
#include "stats/stats.h"
#include "topics/idempotency.h"
#include "topics/mailbox.h"
#include "topics/registry.h"

#include <uv.h>

struct worker;

/* What the application does on a worker. All is called on the worker's
 * thread. */
struct worker_app {
	const struct conn_hooks *hooks; /* their group's context is `state` */
	size_t message_max_bytes; /* of a WebSocket message from a client */
	/* Makes the application's state for a worker. Returns 0 or a UV_E…. */
	int (*open)(struct worker *w, void **state);
	/* Delivers messages from the mailbox, whose references it takes;
	 * `first` may be NULL. It stops soon after `until_ns` (uv_hrtime()) and
	 * returns false if something is left: then it is called again. NULL for
	 * an application without a registry. */
	bool (*deliver)(void *state, struct message *first, uint64_t until_ns);
	/* Takes a note from the mailbox. NULL for an application that posts
	 * none. */
	void (*notify)(void *state, struct mailbox_note *note);
	/* The flush has written what was delivered, or as much as there was
	 * time for. May be NULL. */
	void (*flushed)(void *state);
	/* Comes every WORKER_TICK_MS. NULL where nobody wants to know. */
	void (*tick)(void *state);
	/* No connection is left. Closes handles; the loop runs on until they
	 * are gone. */
	void (*close)(void *state);
};

/* What all workers share. Immutable, but for what says otherwise. */
struct worker_shared {
	const struct config *config;
	const struct worker_app *app;
	struct registry *registry; /* its own locks, as the next two */
	struct auth_cache *auth_cache;
	struct idempotency *idempotency;
	struct bus *bus; /* NULL: this process is alone */
	struct worker *const *workers;
	unsigned workers_count;
	const struct stats *acceptor;
	struct recent *recent;    /* worker 0 takes; NULL: nobody wants it */
	uint64_t drain_spread_ms; /* for MAILBOX_DRAIN */
	uint64_t started_s;       /* since 1970, by the wall clock */
	/* By door: connections that are accepted and not closed; and of these,
	 * those that are, or ask to become, a WebSocket or an event stream. */
	_Atomic size_t connections[LISTENER_KINDS];
	_Atomic size_t subscribers[LISTENER_KINDS];
	_Atomic bool is_draining;     /* from the first signal to stop on */
	_Atomic bool is_relief_asked; /* MAILBOX_RELIEVE is on its way */
};

/* A loop ticks every WORKER_TICK_MS; one whose last tick is older than
 * WORKER_STUCK_MS is stuck. */
#define WORKER_TICK_MS  500
#define WORKER_STUCK_MS 5000

/* Whether the loops of all workers turn. Threads: any. */
bool worker_all_turn(const struct worker_shared *shared);

/* The subscribers of all doors. Threads: any. */
size_t worker_subscribers(const struct worker_shared *shared);

/* How many subscribers a topic has, here and on all other nodes; theirs are
 * some two seconds old. Threads: any. */
uint64_t worker_count_subscribers(const struct worker_shared *shared,
				  const struct topic_key *key);

/* Whether one more subscriber would be let in over TCP. Threads: any. */
bool worker_has_place(const struct worker_shared *shared);

/* All connections, of all doors. Threads: any. */
size_t worker_connections(const struct worker_shared *shared);

/* Owner: its thread. The members before `loop` are Immutable once it runs,
 * unless they say otherwise. */
struct worker {
	unsigned index;
	struct worker_shared *shared;
	uv_thread_t thread;
	uv_thread_t owner; /* the same, known to it from the start */
	uv_sem_t started;
	int start_error;
	struct mailbox mailbox; /* its own lock */
	struct stats stats;     /* Atomic */

	uv_loop_t loop;
	uv_prepare_t prepare;
	uv_timer_t tick;
	uint64_t tick_due_ms;
	uv_timer_t aging; /* worker 0's: forgets what is too old */
	uv_timer_t drain; /* wakes the loop while subscribers are being ended */
	size_t drain_total;
	size_t drain_ended;
	uint64_t drain_from_ms;
	size_t mail_most; /* messages taken at once since the last tick */
	void *state;      /* the application's */
	bool is_stop_due; /* MAILBOX_STOP came; is_stopping follows */
	bool is_stopping;
	bool is_behind; /* messages were taken that are not delivered */
	struct conn_group group;
};

/* Makes loop and mailbox. From here on things can be posted. 0 or a UV_E…;
 * worker_fini() undoes it. */
int worker_init(struct worker *w, unsigned index, struct worker_shared *shared);
void worker_fini(struct worker *w);

/* Starts the thread and waits until it is ready. 0 or a UV_E…, the thread then
 * being gone. */
int worker_start(struct worker *w);

/* Waits until the thread has ended, after MAILBOX_STOP was posted. */
void worker_join(struct worker *w);

#endif
