/* acceptor.c - accept4() until EAGAIN, round robin. */
#include "acceptor.h"

#include "check.h"
#include "log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG         4096
#define RETRY_MS        100
#define LINGER_SWEEP_MS 1000

static const char refusal[] = "HTTP/1.1 503 Service Unavailable\r\n"
			      "Content-Type: application/json\r\n"
			      "Content-Length: 32\r\n"
			      "Retry-After: 1\r\n"
			      "Connection: close\r\n"
			      "\r\n"
			      "{\"error\":\"Too many connections\"}";

/* --- listening ---------------------------------------------------------- */

static int address_of(const char *ip, unsigned port,
		      struct sockaddr_storage *out, socklen_t *len)
{
	if (uv_ip4_addr(ip, (int)port, (struct sockaddr_in *)out) == 0) {
		*len = sizeof(struct sockaddr_in);
		return 0;
	}
	*len = sizeof(struct sockaddr_in6);
	return uv_ip6_addr(ip, (int)port, (struct sockaddr_in6 *)out);
}

static unsigned port_of(int fd)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof name;

	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0)
		return 0;
	if (name.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&name)->sin6_port);
	return ntohs(((struct sockaddr_in *)&name)->sin_port);
}

int acceptor_listen(const char *ip, unsigned port, int *out, unsigned *port_got)
{
	struct sockaddr_storage address = {0};
	socklen_t len;
	int one = 1;
	int rv = address_of(ip, port, &address, &len);

	if (rv != 0)
		return rv;
	int fd = socket(address.ss_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return uv_translate_sys_error(errno);
	/* Accepted sockets inherit TCP_NODELAY. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
	    bind(fd, (struct sockaddr *)&address, len) != 0 ||
	    listen(fd, BACKLOG) != 0) {
		rv = uv_translate_sys_error(errno);
		close(fd);
		return rv;
	}
	*out = fd;
	*port_got = port_of(fd);
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

static void refuse(struct acceptor *a, int fd)
{
	ssize_t sent = send(fd, refusal, sizeof refusal - 1,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)sent; /* a fresh socket has room; if not, so be it */
	shutdown(fd, SHUT_WR);
	close_lingerer(a, a->lingerers_next);
	a->lingerers[a->lingerers_next] = fd;
	a->lingerers_next = (a->lingerers_next + 1) % ACCEPTOR_LINGERERS;
	if (!uv_is_active((uv_handle_t *)&a->sweep))
		uv_timer_start(&a->sweep, on_sweep, LINGER_SWEEP_MS, 0);
	stats_add(&a->stats, STATS_refused, 1);
}

/* --- accepting ---------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void watch_listeners(struct acceptor *a)
{
	for (unsigned i = 0; i < a->listeners_count; i++)
		CHECK(uv_poll_start(&a->polls[i], UV_READABLE, on_readable) ==
		      0);
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
		log_warn("accepting pauses: %s",
			 uv_strerror(uv_translate_sys_error(error)));
	a->is_paused = true;
	stats_add(&a->stats, STATS_accept_paused, 1);
	for (unsigned i = 0; i < a->listeners_count; i++)
		uv_poll_stop(&a->polls[i]);
	uv_timer_start(&a->retry, on_retry, RETRY_MS, 0);
}

static void hand_over(struct acceptor *a, int fd)
{
	_Atomic size_t *connections = &a->shared->connections;

	if (atomic_load_explicit(connections, memory_order_relaxed) >=
	    a->shared->config->connections_max) {
		refuse(a, fd);
		return;
	}
	struct worker *w = a->workers[a->next];
	a->next = (a->next + 1) % a->workers_count;
	atomic_fetch_add_explicit(connections, 1, memory_order_relaxed);
	if (mailbox_post_socket(&w->mailbox, fd) != 0) {
		atomic_fetch_sub_explicit(connections, 1, memory_order_relaxed);
		close(fd);
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
	int fd;
	(void)status;
	(void)events;

	if (uv_fileno((uv_handle_t *)poll, &fd) != 0)
		return;
	for (;;) {
		int socket =
			accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (socket >= 0) {
			if (a->is_paused)
				log_info("accepting again");
			a->is_paused = false;
			hand_over(a, socket);
		} else if (errno == EAGAIN) {
			return;
		} else if (!is_passing(errno)) {
			pause_accepting(a, errno);
			return;
		}
	}
}

/* --- life --------------------------------------------------------------- */

static void on_stop(uv_async_t *async)
{
	struct acceptor *a = CONTAINER_OF(async, struct acceptor, stop);

	for (unsigned i = 0; i < a->listeners_count; i++)
		uv_close((uv_handle_t *)&a->polls[i], NULL);
	uv_close((uv_handle_t *)&a->retry, NULL);
	uv_close((uv_handle_t *)&a->sweep, NULL);
	uv_close((uv_handle_t *)&a->stop, NULL);
}

static void acceptor_main(void *arg)
{
	struct acceptor *a = arg;
	pthread_setname_np(pthread_self(), "isi-accept");
	watch_listeners(a);
	uv_run(&a->loop, UV_RUN_DEFAULT);
}

int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  struct worker *const *workers, unsigned workers_count,
		  const int *listeners, unsigned count)
{
	memset(a, 0, sizeof *a);
	CHECK(count <= ACCEPTOR_LISTENERS_MAX);
	memcpy(a->listeners, listeners, count * sizeof listeners[0]);
	a->listeners_count = count;
	a->shared = shared;
	a->workers = workers;
	a->workers_count = workers_count;
	for (unsigned i = 0; i < ACCEPTOR_LINGERERS; i++)
		a->lingerers[i] = -1;
	int rv = uv_loop_init(&a->loop);
	if (rv != 0)
		goto err_listeners;
	rv = uv_async_init(&a->loop, &a->stop, on_stop);
	if (rv != 0)
		goto err_loop;
	uv_timer_init(&a->loop, &a->retry);
	uv_timer_init(&a->loop, &a->sweep);
	for (unsigned i = 0; i < count; i++) {
		/* It fails only for what epoll can't watch: no socket does. */
		CHECK(uv_poll_init(&a->loop, &a->polls[i], listeners[i]) == 0);
		a->polls[i].data = a;
	}
	return 0;

err_loop:
	uv_loop_close(&a->loop);
err_listeners:
	for (unsigned i = 0; i < count; i++)
		close(listeners[i]);
	return rv;
}

int acceptor_start(struct acceptor *a)
{
	return uv_thread_create(&a->thread, acceptor_main, a);
}

void acceptor_stop(struct acceptor *a)
{
	uv_async_send(&a->stop);
	uv_thread_join(&a->thread);
}

void acceptor_fini(struct acceptor *a)
{
	/* One that was never started still has its handles. */
	if (!uv_is_closing((uv_handle_t *)&a->stop)) {
		on_stop(&a->stop);
		uv_run(&a->loop, UV_RUN_DEFAULT);
	}
	for (unsigned i = 0; i < a->listeners_count; i++)
		close(a->listeners[i]);
	for (unsigned i = 0; i < ACCEPTOR_LINGERERS; i++)
		close_lingerer(a, i);
	CHECK(uv_loop_close(&a->loop) == 0);
}
