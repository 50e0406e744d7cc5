/* acceptor.h - the thread that owns the listening sockets.
 *
 * It accepts what there is, and hands bare descriptors to the workers in turn:
 * libuv forbids accepting on one loop for another. Out of descriptors it
 * pauses, and tries again after a while; over the limit of connections a client
 * gets 503 and is closed. */
#ifndef ISIMUD_SERVER_ACCEPTOR_H
#define ISIMUD_SERVER_ACCEPTOR_H

#include "server/unix_path.h"
#include "server/worker.h"
#include "stats/stats.h"

#include <uv.h>

#define ACCEPTOR_LISTENERS_MAX (CONFIG_LISTENERS_MAX + 1)
#define ACCEPTOR_LINGERERS     64
#define ADMIN_CONNECTIONS_MAX  512

/* A listening, non-blocking socket. */
struct acceptor_listener {
	int fd;
	enum listener_kind kind;
	struct unix_path *path; /* left before `fd` is closed; NULL: none */
};

/* Makes a listening socket where `l` says: at `path`, which was taken for it,
 * with that mode, if it is a Unix socket. `*port`: the one it got (0 for a Unix
 * socket). Returns 0 and `*fd`; or a UV_E…, with no file of ours there; the
 * lock is the caller's to let go of, by unix_path_leave(). */
int acceptor_listen(const struct config_listener *l, struct unix_path *path,
		    mode_t mode, int *fd, unsigned *port);

/* What the acceptor is asked for, each more than the one before. */
enum acceptor_wish {
	ACCEPTOR_ACCEPT,
	ACCEPTOR_DRAIN, /* close all listeners but LISTENER_ADMIN */
	ACCEPTOR_STOP,  /* end the thread */
};

/* Owner: its thread, once it runs. */
struct acceptor {
	struct worker_shared *shared;
	unsigned next; /* worker to get the next connection */
	uv_thread_t thread;
	uv_loop_t loop;
	uv_async_t wake;
	_Atomic int wish; /* enum acceptor_wish */
	uv_timer_t retry; /* while accepting is paused */
	uv_timer_t sweep; /* while refused connections linger */
	bool is_paused;
	struct acceptor_listener listeners[ACCEPTOR_LISTENERS_MAX];
	uv_poll_t polls[ACCEPTOR_LISTENERS_MAX];
	unsigned listeners_count;
	/* Refused connections: 503 is sent, closing waits a moment, so that the
	 * answer is not lost to a reset. The oldest makes room for a new one.
	 */
	int lingerers[ACCEPTOR_LINGERERS]; /* -1: none */
	unsigned lingerers_next;
	struct stats stats; /* Atomic */
};

/* Prepares the acceptor; takes the `count` listening sockets, on errors too,
 * and borrows their paths until it has ended.
 * Returns 0 or a UV_E…. */
int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  const struct acceptor_listener *listeners, unsigned count);
int acceptor_start(struct acceptor *a);

/* Stops accepting, but for health and metrics. Threads: the one that started
 * it. */
void acceptor_drain(struct acceptor *a);

/* Stops accepting and ends the thread. Threads: the same. */
void acceptor_stop(struct acceptor *a);
void acceptor_fini(struct acceptor *a);

#endif
