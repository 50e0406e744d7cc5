/* acceptor.h - the thread that owns the listening sockets.
 *
 * It accepts until there is nothing more, and hands bare descriptors to the
 * workers in turn: libuv forbids accepting on one loop for another. Out of
 * descriptors it pauses, and tries again after a while; over the limit of
 * connections a client gets 503 and is closed. */
#ifndef ISIMUD_ACCEPTOR_H
#define ISIMUD_ACCEPTOR_H

#include "stats.h"
#include "worker.h"

#include <uv.h>

#define ACCEPTOR_LISTENERS_MAX 8
#define ACCEPTOR_LINGERERS     64

/* Makes a listening, non-blocking socket on `ip` (numeric) and `port`. Returns
 * 0, `*out`, and the port it got in `*port_got`; or a UV_E…. */
int acceptor_listen(const char *ip, unsigned port, int *out,
		    unsigned *port_got);

/* Owner: its thread, once it runs. */
struct acceptor {
	struct worker_shared *shared;
	struct worker *const *workers;
	unsigned workers_count;
	unsigned next; /* worker to get the next connection */
	uv_thread_t thread;
	uv_loop_t loop;
	uv_async_t stop;
	uv_timer_t retry; /* while accepting is paused */
	uv_timer_t sweep; /* while refused connections linger */
	bool is_paused;
	int listeners[ACCEPTOR_LISTENERS_MAX];
	uv_poll_t polls[ACCEPTOR_LISTENERS_MAX];
	unsigned listeners_count;
	/* Refused connections: 503 is sent, closing waits a moment, so that the
	 * answer is not lost to a reset. The oldest makes room for a new one.
	 */
	int lingerers[ACCEPTOR_LINGERERS]; /* -1: none */
	unsigned lingerers_next;
	struct stats stats; /* Atomic */
};

/* Prepares the acceptor; takes the `count` listening sockets, on errors too.
 * Returns 0 or a UV_E…. */
int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  struct worker *const *workers, unsigned workers_count,
		  const int *listeners, unsigned count);
int acceptor_start(struct acceptor *a);

/* Stops accepting and ends the thread. Threads: the one that started it. */
void acceptor_stop(struct acceptor *a);
void acceptor_fini(struct acceptor *a);

#endif
