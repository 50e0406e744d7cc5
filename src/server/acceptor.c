/* acceptor.c - accept4() until EAGAIN, round robin. */
#include "server/acceptor.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG     4096
#define ACCEPTS_MAX 256 /* at once, before other listeners have a turn */
#define RETRY_MS    100
/* Of a client that acknowledges nothing: the least that is waited, so that a
 * short PING_INTERVAL does not end those on slow links. */
#define VANISHED_MIN_MS 5000
#define PROBES          3
#define IDLE_MAX_S      32767 /* tcp(7): TCP_KEEPIDLE */
#define UNSENT_MAX      4096  /* bytes, see bound_unsent() */
#define LINGER_SWEEP_MS 1000

static const char refusal[] = "HTTP/1.1 503 Service Unavailable\r\n"
			      "Content-Type: application/json\r\n"
			      "X-Content-Type-Options: nosniff\r\n"
			      "Content-Length: 32\r\n"
			      "Retry-After: 1\r\n"
			      "Connection: close\r\n"
			      "\r\n"
			      "{\"error\":\"Too many connections\"}";

/* --- listening ---------------------------------------------------------- */

union address {
	struct sockaddr any;
	struct sockaddr_in ip4;
	struct sockaddr_in6 ip6;
};

/* The address of `l`, and its length. Returns 0 or a UV_E…. */
static int address_of(const struct config_listener *l, union address *out,
		      socklen_t *len)
{
	memset(out, 0, sizeof *out);
	*len = sizeof out->ip4;
	if (uv_ip4_addr(l->address, (int)l->port, &out->ip4) == 0)
		return 0;
	*len = sizeof out->ip6;
	return uv_ip6_addr(l->address, (int)l->port, &out->ip6);
}

static unsigned port_of(int fd)
{
	union address name;
	socklen_t len = sizeof name;

	memset(&name, 0, sizeof name);
	if (getsockname(fd, &name.any, &len) != 0)
		return 0;
	switch (name.any.sa_family) {
	case AF_INET:
		return ntohs(name.ip4.sin_port);
	case AF_INET6:
		return ntohs(name.ip6.sin6_port);
	default:
		return 0;
	}
}

/* Accepted sockets inherit TCP_NODELAY. */
static int bind_tcp(int fd, const union address *address, socklen_t len)
{
	int one = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
	    bind(fd, &address->any, len) != 0)
		return uv_translate_sys_error(errno);
	return 0;
}

int acceptor_listen(const struct config_listener *l, struct unix_path *path,
		    mode_t mode, int *fd, unsigned *port)
{
	union address address = {.any.sa_family = AF_UNIX};
	socklen_t len = 0;

	int rv = l->is_unix ? 0 : address_of(l, &address, &len);
	if (rv != 0)
		return rv;
	*fd = socket(address.any.sa_family,
		     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return uv_translate_sys_error(errno);
	rv = l->is_unix ? unix_path_bind(path, *fd, mode)
			: bind_tcp(*fd, &address, len);
	if (rv == 0 && listen(*fd, BACKLOG) != 0)
		rv = uv_translate_sys_error(errno);
	if (rv != 0) {
		if (l->is_unix)
			unix_path_leave(path); /* while the socket is open */
		close(*fd);
		return rv;
	}
	*port = port_of(*fd);
	return 0;
}

/* --- over the limit ----------------------------------------------------- */

static void close_lingerer(struct acceptor *a, unsigned i)
{
	if (a->lingerers[i] >= 0)
		close(a->lingerers[i]);
	a->lingerers[i] = -1;
}

static void on_sweep(uv_timer_t *timer)
{
	struct acceptor *a = CONTAINER_OF(timer, struct acceptor, sweep);
	for (unsigned i = 0; i < ACCEPTOR_LINGERERS; i++)
		close_lingerer(a, i);
}

/* The address of who is at the other end; "" for a Unix socket, and where it is
 * gone. */
static void name_peer(int fd, char out[static CONN_PEER_MAX])
{
	union address name;
	socklen_t len = sizeof name;

	out[0] = '\0';
	memset(&name, 0, sizeof name);
	if (getpeername(fd, &name.any, &len) == 0 &&
	    name.any.sa_family != AF_UNIX)
		uv_ip_name(&name.any, out, CONN_PEER_MAX);
}

static void log_refusal(int fd)
{
	static struct log_limit limit = LOG_LIMIT("connection_refused");
	const char *why = memory_level() >= MEMORY_TIGHT ? "memory is tight"
							 : "there are too many";
	char peer[CONN_PEER_MAX];

	if (!log_limit_allows(&limit))
		return;
	name_peer(fd, peer);
	log_event(LOG_INFO, "connection_refused",
		  LOG_FIELDS(log_text("peer", peer[0] != '\0' ? peer : NULL)),
		  "refused a connection: %s", why);
}

static void refuse(struct acceptor *a, int fd)
{
	ssize_t sent = send(fd, refusal, sizeof refusal - 1,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)sent; /* a fresh socket has room; if not, so be it */
	shutdown(fd, SHUT_WR);
	close_lingerer(a, a->lingerers_next);
	a->lingerers[a->lingerers_next] = fd;
	a->lingerers_next = (a->lingerers_next + 1) % ACCEPTOR_LINGERERS;
	/* Anew each time: the youngest has its moment too. */
	uv_timer_start(&a->sweep, on_sweep, LINGER_SWEEP_MS, 0);
	stats_add(&a->stats, STATS_refused, 1);
	log_refusal(fd);
}

/* --- accepting ---------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void watch_listeners(struct acceptor *a)
{
	for (unsigned i = 0; i < a->listeners_count; i++)
		if (!uv_is_closing((uv_handle_t *)&a->polls[i]))
			CHECK(uv_poll_start(&a->polls[i], UV_READABLE,
					    on_readable) == 0);
}

static void on_retry(uv_timer_t *timer)
{
	watch_listeners(CONTAINER_OF(timer, struct acceptor, retry));
}

/* Waits, so that a lack of descriptors does not make the thread spin: the
 * listening socket stays readable all the while. */
static void pause_accepting(struct acceptor *a, int error)
{
	if (!a->is_paused)
		log_event(LOG_WARN, "accept_paused",
			  LOG_FIELDS(log_text(
				  "error",
				  uv_err_name(uv_translate_sys_error(error)))),
			  "accepting pauses: %s",
			  uv_strerror(uv_translate_sys_error(error)));
	a->is_paused = true;
	stats_add(&a->stats, STATS_accept_paused, 1);
	for (unsigned i = 0; i < a->listeners_count; i++)
		if (!uv_is_closing((uv_handle_t *)&a->polls[i]))
			uv_poll_stop(&a->polls[i]);
	uv_timer_start(&a->retry, on_retry, RETRY_MS, 0);
}

static bool is_full(struct worker_shared *shared, enum listener_kind kind)
{
	size_t connections = atomic_load_explicit(worker_count_of(shared, kind),
						  memory_order_relaxed);

	/* A probe is answered however full the server is. */
	if (kind == LISTENER_ADMIN)
		return connections >= ADMIN_CONNECTIONS_MAX;
	return connections >= shared->config->connections_max ||
	       memory_level() >= MEMORY_TIGHT;
}

static void hand_over(struct acceptor *a, struct accepted accepted)
{
	struct worker_shared *shared = a->shared;
	_Atomic size_t *count = worker_count_of(shared, accepted.kind);

	if (is_full(shared, accepted.kind)) {
		refuse(a, accepted.socket);
		return;
	}
	struct worker *w = shared->workers[a->next];
	a->next = (a->next + 1) % shared->workers_count;
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	if (mailbox_post_socket(&w->mailbox, accepted) != 0) {
		atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
		close(accepted.socket);
	}
}

static bool is_passing(int error)
{
	/* The errors of a connection that is gone already (accept(2)). */
	return error == EINTR || error == ECONNABORTED || error == EPROTO ||
	       error == ENETDOWN || error == ENOPROTOOPT ||
	       error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
	       error == EOPNOTSUPP || error == ENETUNREACH || error == EPERM;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct acceptor *a = poll->data;
	const struct acceptor_listener *l = &a->listeners[poll - a->polls];
	(void)status;
	(void)events;

	/* The loop calls again while there are more. */
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		int socket = accept4(l->fd, NULL, NULL,
				     SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (socket >= 0) {
			if (a->is_paused)
				log_event(LOG_INFO, "accept_resumed",
					  LOG_NO_FIELDS, "accepting again");
			a->is_paused = false;
			hand_over(a, (struct accepted){socket, l->kind});
		} else if (errno == EAGAIN) {
			return;
		} else if (!is_passing(errno)) {
			pause_accepting(a, errno);
			return;
		}
	}
}

/* --- life --------------------------------------------------------------- */

/* Closes the listeners of all kinds, or of all but the admin's. A client in the
 * kernel's queue is reset, and tries somebody else. */
static void close_listeners(struct acceptor *a, bool admin_too)
{
	for (unsigned i = 0; i < a->listeners_count; i++) {
		struct acceptor_listener *l = &a->listeners[i];
		uv_handle_t *handle = (uv_handle_t *)&a->polls[i];
		if (l->fd < 0 || (l->kind == LISTENER_ADMIN && !admin_too))
			continue;
		uv_close(handle, NULL);
		if (l->path != NULL)
			unix_path_leave(l->path);
		close(l->fd);
		l->fd = -1;
	}
}

static void close_all(struct acceptor *a)
{
	close_listeners(a, true);
	uv_close((uv_handle_t *)&a->retry, NULL);
	uv_close((uv_handle_t *)&a->sweep, NULL);
	uv_close((uv_handle_t *)&a->wake, NULL);
}

static void on_wake(uv_async_t *async)
{
	struct acceptor *a = CONTAINER_OF(async, struct acceptor, wake);

	if (atomic_load(&a->wish) == ACCEPTOR_STOP)
		close_all(a);
	else
		close_listeners(a, false);
}

static void acceptor_main(void *arg)
{
	struct acceptor *a = arg;
	pthread_setname_np(pthread_self(), "isi-accept");
	watch_listeners(a);
	uv_run(&a->loop, UV_RUN_DEFAULT);
}

static void init_handles(struct acceptor *a)
{
	uv_timer_init(&a->loop, &a->retry);
	uv_timer_init(&a->loop, &a->sweep);
	for (unsigned i = 0; i < a->listeners_count; i++) {
		/* It fails only for what epoll can't watch: no socket does. */
		CHECK(uv_poll_init(&a->loop, &a->polls[i],
				   a->listeners[i].fd) == 0);
		a->polls[i].data = a;
	}
}

/* For a peer that does not read, the kernel takes megabytes, which a control
 * group counts. Where memory has a limit it shall take no more than that beyond
 * what is under way; accepted sockets inherit it. */
static void bound_unsent(const struct acceptor_listener *l)
{
	int max = UNSENT_MAX;

	if (memory_limit() == 0 || l->kind == LISTENER_UNIX)
		return;
	if (setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &max,
		       sizeof max) != 0)
		log_event(LOG_WARN, "socket_option", LOG_NO_FIELDS,
			  "TCP_NOTSENT_LOWAT: %s",
			  uv_strerror(uv_translate_sys_error(errno)));
}

/* A client that has vanished without a word is noticed by what it does not
 * acknowledge: pings, the rest of an answer, or, where nothing is sent, the
 * kernel's probes. Set here, since it costs nothing to inherit. */
static void notice_the_vanished(const struct acceptor_listener *l,
				uint64_t ping_interval_ms)
{
	uint64_t interval_s = (ping_interval_ms + 999) / 1000;
	uint64_t timeout_ms = 2 * ping_interval_ms;
	uint64_t idle_s = interval_s < IDLE_MAX_S ? interval_s : IDLE_MAX_S;
	uint64_t probe_s = (idle_s + PROBES - 1) / PROBES;
	if (timeout_ms < VANISHED_MIN_MS)
		timeout_ms = VANISHED_MIN_MS;
	const struct {
		int level;
		int name;
		int value;
	} options[] = {
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s},
		{IPPROTO_TCP, TCP_KEEPINTVL, (int)probe_s},
		{IPPROTO_TCP, TCP_KEEPCNT, PROBES},
		{IPPROTO_TCP, TCP_USER_TIMEOUT,
		 timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX},
	};

	if (l->kind == LISTENER_UNIX)
		return;
	for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
		if (setsockopt(l->fd, options[i].level, options[i].name,
			       &options[i].value, sizeof options[i].value) != 0)
			log_event(LOG_WARN, "socket_option", LOG_NO_FIELDS,
				  "a listener's option %d: %s", options[i].name,
				  uv_strerror(uv_translate_sys_error(errno)));
}

int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  const struct acceptor_listener *listeners, unsigned count)
{
	memset(a, 0, sizeof *a);
	CHECK(count <= ACCEPTOR_LISTENERS_MAX);
	memcpy(a->listeners, listeners, count * sizeof listeners[0]);
	a->listeners_count = count;
	for (unsigned i = 0; i < count; i++) {
		bound_unsent(&listeners[i]);
		notice_the_vanished(&listeners[i],
				    shared->config->ping_interval_ms);
	}
	a->shared = shared;
	for (unsigned i = 0; i < ACCEPTOR_LINGERERS; i++)
		a->lingerers[i] = -1;
	int rv = uv_loop_init(&a->loop);
	if (rv != 0)
		goto err_listeners;
	rv = uv_async_init(&a->loop, &a->wake, on_wake);
	if (rv != 0)
		goto err_loop;
	init_handles(a);
	return 0;

err_loop:
	uv_loop_close(&a->loop);
err_listeners:
	for (unsigned i = 0; i < count; i++) {
		if (listeners[i].path != NULL)
			unix_path_leave(listeners[i].path);
		close(listeners[i].fd);
	}
	return rv;
}

int acceptor_start(struct acceptor *a)
{
	return uv_thread_create(&a->thread, acceptor_main, a);
}

void acceptor_drain(struct acceptor *a)
{
	atomic_store(&a->wish, ACCEPTOR_DRAIN);
	uv_async_send(&a->wake);
}

void acceptor_stop(struct acceptor *a)
{
	atomic_store(&a->wish, ACCEPTOR_STOP);
	uv_async_send(&a->wake);
	uv_thread_join(&a->thread);
}

void acceptor_fini(struct acceptor *a)
{
	/* One that was never started still has its handles. */
	if (!uv_is_closing((uv_handle_t *)&a->wake)) {
		close_all(a);
		uv_run(&a->loop, UV_RUN_DEFAULT);
	}
	for (unsigned i = 0; i < ACCEPTOR_LINGERERS; i++)
		close_lingerer(a, i);
	CHECK(uv_loop_close(&a->loop) == 0);
}
