/* acceptor.h - the thread that owns the listening sockets.
 *
 * It accepts connections, and hands the descriptors to the workers in turn, a
 * batch at a time (nap.h): libuv forbids accepting on one loop for another. It
 * refuses nobody: whether a client may subscribe is decided at its request, and
 * where there are too many connections the worker ends another one (room.c).
 * Descriptors are shared out so that they do not run out (descriptors.h). If
 * they do, because the whole machine has none, accepting pauses for a moment;
 * only the admin listener goes on, with a descriptor in reserve. */
#ifndef ISIMUD_SERVER_ACCEPTOR_H
#define ISIMUD_SERVER_ACCEPTOR_H

#include "server/nap.h"
#include "server/unix_path.h"
#include "server/worker.h"
#include "stats/stats.h"

#include <uv.h>

#define ACCEPTOR_LISTENERS_MAX (CONFIG_LISTENERS_MAX + 1)
#define ACCEPTOR_BATCH_MAX     256

/* A listening, non-blocking socket. */
struct acceptor_listener {
	int fd;
	enum listener_kind kind;
	struct unix_path *path; /* left before `fd` is closed; NULL: none */
	/* How many connections probably wait: so many are accepted at once, and
	 * more only if all of these were there. */
	unsigned expected;
};

/* Makes a listening socket where `l` says: at `path`, which was taken for it,
 * with that mode, if it is a Unix socket. `*port`: the one it got (0 for a Unix
 * socket). Returns 0 and `*fd`; or a UV_E…, with no file of ours there; the
 * lock is the caller's to let go of, by unix_path_leave(). */
int acceptor_listen(const struct config_listener *l, struct unix_path *path,
		    mode_t mode, int *fd, unsigned *port);

/* Owner: its thread, once it runs. */
struct acceptor {
	struct worker_shared *shared;
	unsigned next; /* worker to get the next connection */
	uv_thread_t thread;
	uv_thread_t owner; /* the same, from its start on; before, its maker */
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t retry; /* while accepting is paused, or the spare is gone */
	struct nap nap;   /* before it accepts more */
	int spare;        /* a descriptor that gives way to an admin; or -1 */
	bool is_paused;
	struct acceptor_listener listeners[ACCEPTOR_LISTENERS_MAX];
	uv_poll_t polls[ACCEPTOR_LISTENERS_MAX];
	unsigned listeners_count;
	struct accepted batch[ACCEPTOR_BATCH_MAX]; /* scratch */
	struct stats stats;                        /* Atomic */
};

/* Prepares the acceptor; takes the `count` listening sockets, on errors too,
 * and borrows their paths until it has ended.
 * Returns 0 or a UV_E…. */
int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  const struct acceptor_listener *listeners, unsigned count);
int acceptor_start(struct acceptor *a);

/* Accepts those that have connected, so that they are answered, closes the
 * listeners, and ends the thread. Threads: the one that started it. */
void acceptor_stop(struct acceptor *a);
void acceptor_fini(struct acceptor *a);

#endif
