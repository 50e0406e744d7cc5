/* acceptor.c - accept4() in batches, round robin. */
#include "server/acceptor.h"

#include "base/check.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG  4096
#define RETRY_MS 100
#define ROOM_MS  2
/* Of a client that acknowledges nothing: the least that is waited, so that a
 * short PING_INTERVAL does not end those on slow links. */
#define VANISHED_MIN_MS 5000
#define PROBES          3
#define IDLE_MAX_S      32767 /* tcp(7): TCP_KEEPIDLE */

/* --- listening ---------------------------------------------------------- */

union address {
	struct sockaddr any;
	struct sockaddr_in ip4;
	struct sockaddr_in6 ip6;
};

/* The address of `l`, and its length. Returns 0 or a UV_E…. */
static int listener_address(const struct config_listener *l, union address *out,
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

/* Whatever the machine's default is (net.ipv6.bindv6only). */
static int set_family(int fd, const union address *address, bool is_v6_only)
{
	int only = is_v6_only;

	if (address->any.sa_family != AF_INET6)
		return 0;
	return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
}

/* Accepted sockets inherit TCP_NODELAY. */
static int bind_tcp(int fd, const union address *address, socklen_t len,
		    bool is_v6_only)
{
	int one = 1;
	if (set_family(fd, address, is_v6_only) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
	    bind(fd, &address->any, len) != 0)
		return uv_translate_sys_error(errno);
	return 0;
}

static int make_socket(const union address *address)
{
	return socket(address->any.sa_family,
		      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool is_any_v6(const union address *address)
{
	return address->any.sa_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&address->ip6.sin6_addr);
}

static void address_of_any_v4(unsigned port, union address *out, socklen_t *len)
{
	memset(out, 0, sizeof *out);
	out->ip4.sin_family = AF_INET;
	out->ip4.sin_port = htons((uint16_t)port);
	*len = sizeof out->ip4;
}

int acceptor_listen(const struct config_listener *l, struct unix_path *path,
		    mode_t mode, int *fd, unsigned *port)
{
	union address address = {.any.sa_family = AF_UNIX};
	socklen_t len = 0;

	int rv = l->is_unix ? 0 : listener_address(l, &address, &len);
	if (rv != 0)
		return rv;
	*fd = make_socket(&address);
	if (*fd < 0 && errno == EAFNOSUPPORT && is_any_v6(&address) &&
	    !l->is_v6_only) {
		/* A kernel without IPv6: all addresses are those of IPv4. */
		address_of_any_v4(l->port, &address, &len);
		*fd = make_socket(&address);
	}
	if (*fd < 0)
		return uv_translate_sys_error(errno);
	rv = l->is_unix ? unix_path_bind(path, *fd, mode)
			: bind_tcp(*fd, &address, len, l->is_v6_only);
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

/* --- accepting ---------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void watch_listeners(struct acceptor *a)
{
	for (unsigned i = 0; i < a->listeners_count; i++)
		CHECK(uv_poll_start(&a->polls[i], UV_READABLE, on_readable) ==
		      0);
}

/* Takes a descriptor that nobody needs, until an admin does. */
static void take_spare(struct acceptor *a)
{
	if (a->spare < 0)
		a->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept_retry(uv_timer_t *timer)
{
	struct acceptor *a = CONTAINER_OF(timer, struct acceptor, retry);

	CHECK_ON_THREAD(a->owner);
	take_spare(a);
	watch_listeners(a);
	if (a->spare < 0)
		uv_timer_start(&a->retry, on_accept_retry, RETRY_MS, 0);
}

/* Waits, so that a lack of descriptors does not make the thread spin: the
 * listening socket stays readable all the while. The admin listener goes on as
 * long as there is a spare for it. */
static void pause_accepting(struct acceptor *a, int error)
{
	CHECK_ON_THREAD(a->owner);
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
		if (a->spare < 0 || a->listeners[i].kind != LISTENER_ADMIN)
			uv_poll_stop(&a->polls[i]);
	uv_timer_start(&a->retry, on_accept_retry, RETRY_MS, 0);
}

static bool lacks_descriptors(int error)
{
	return error == EMFILE || error == ENFILE;
}

static int accept_once(const struct acceptor_listener *l)
{
	return accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* Accepts one. Returns its descriptor, or -1 and errno. */
static int accept_one(struct acceptor *a, const struct acceptor_listener *l)
{
	int socket = accept_once(l);

	CHECK_ON_THREAD(a->owner);
	if (socket >= 0 || l->kind != LISTENER_ADMIN ||
	    !lacks_descriptors(errno) || a->spare < 0)
		return socket;
	close(a->spare);
	a->spare = -1;
	socket = accept_once(l);
	int error = errno;
	take_spare(a);
	if (a->spare < 0)
		uv_timer_start(&a->retry, on_accept_retry, RETRY_MS, 0);
	errno = error;
	return socket;
}

static bool is_passing_error(int error)
{
	/* The errors of a connection that is gone already (accept(2)). */
	return error == EINTR || error == ECONNABORTED || error == EPROTO ||
	       error == ENETDOWN || error == ENOPROTOOPT ||
	       error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH ||
	       error == EOPNOTSUPP || error == ENETUNREACH || error == EPERM;
}

/* Hands every worker its part of the batch, with one wake-up for all of it. */
static void hand_to_workers(struct acceptor *a, unsigned count)
{
	struct worker_shared *shared = a->shared;
	unsigned workers = shared->workers_count;

	CHECK_ON_THREAD(a->owner);
	for (unsigned i = 0; i < workers && i < count; i++) {
		struct worker *w = shared->workers[(a->next + i) % workers];
		unsigned part = (count - i + workers - 1) / workers;
		if (mailbox_post_sockets(&w->mailbox, a->batch + i, part,
					 workers) == 0)
			continue;
		for (unsigned n = 0; n < part; n++)
			close(a->batch[i + n * workers].socket);
		atomic_fetch_sub_explicit(
			&shared->connections[a->batch[i].kind], part,
			memory_order_relaxed);
	}
	/* There is one worker at least. */
	/* NOLINTNEXTLINE(clang-analyzer-core.*) */
	a->next = (a->next + count) % workers;
}

/* Accepts up to `max`, `*accepted` in all. Returns 0, or why there was not one
 * more: EAGAIN, or what the listener has to wait for. */
static int accept_batch(struct acceptor *a, const struct acceptor_listener *l,
			unsigned max, unsigned *accepted)
{
	unsigned count = 0;
	int error = 0;

	while (count < max && error == 0) {
		int socket = accept_one(a, l);
		if (socket >= 0)
			a->batch[count++] = (struct accepted){socket, l->kind};
		else if (!is_passing_error(errno))
			error = errno;
	}
	*accepted = count;
	if (count == 0)
		return error;
	if (a->is_paused)
		log_event(LOG_INFO, "accept_resumed", LOG_NO_FIELDS,
			  "accepting again");
	a->is_paused = false;
	atomic_fetch_add_explicit(&a->shared->connections[l->kind], count,
				  memory_order_relaxed);
	hand_to_workers(a, count);
	return error;
}

/* How many may be accepted by this door now: as many as there are places, and a
 * few more, for which workers make room (room.c). */
static size_t places_at(const struct acceptor *a, enum listener_kind kind)
{
	const struct descriptors_shares *shares = &a->shared->config->shares;
	const _Atomic size_t *by_door = a->shared->connections;
	size_t max = DESCRIPTORS_OVER_MAX;
	size_t now = atomic_load_explicit(&by_door[kind], memory_order_relaxed);

	if (kind == LISTENER_ADMIN) {
		max += shares->admin;
	} else {
		max += shares->clients;
		now += atomic_load_explicit(
			&by_door[kind == LISTENER_TCP ? LISTENER_UNIX
						      : LISTENER_TCP],
			memory_order_relaxed);
	}
	return now < max ? max - now : 0;
}

/* Waits for the workers to make room: the connections that came told them
 * to. */
static void wait_for_places(struct acceptor *a, uv_poll_t *poll)
{
	uv_poll_stop(poll);
	if (!uv_is_active((uv_handle_t *)&a->retry))
		uv_timer_start(&a->retry, on_accept_retry, ROOM_MS, 0);
}

/* The loop calls again while there are more, so one that comes alone needs no
 * second call to find out that it is alone; where many come, as many again are
 * asked for at once, or all that came while the thread napped. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct acceptor *a = poll->data;
	struct acceptor_listener *l = &a->listeners[poll - a->polls];
	(void)status;
	(void)events;

	size_t room = places_at(a, l->kind);
	if (room == 0) {
		wait_for_places(a, poll);
		return;
	}
	if (a->nap.has_napped)
		l->expected = ACCEPTOR_BATCH_MAX;
	if (room > l->expected)
		room = l->expected;
	unsigned count;
	int error = accept_batch(a, l, (unsigned)room, &count);
	if (error != 0)
		l->expected = 1;
	else if (l->expected < ACCEPTOR_BATCH_MAX)
		l->expected *= 2;
	if (error != 0 && error != EAGAIN)
		pause_accepting(a, error);
	if (nap_is_due(&a->nap, count, uv_hrtime()))
		uv_sleep(NAP_MS);
}

/* --- life --------------------------------------------------------------- */

/* Connections that are in the kernel's queue now are answered; a client that
 * connects later is reset, and tries another server. */
static void accept_rest(struct acceptor *a, const struct acceptor_listener *l)
{
	unsigned count;

	for (int i = 0; i <= BACKLOG / ACCEPTOR_BATCH_MAX; i++)
		if (accept_batch(a, l, ACCEPTOR_BATCH_MAX, &count) != 0)
			return;
}

static void close_acceptor(struct acceptor *a)
{
	CHECK_ON_THREAD(a->owner);
	for (unsigned i = 0; i < a->listeners_count; i++) {
		struct acceptor_listener *l = &a->listeners[i];
		uv_close((uv_handle_t *)&a->polls[i], NULL);
		if (l->path != NULL)
			unix_path_leave(l->path);
		close(l->fd);
		l->fd = -1;
	}
	uv_close((uv_handle_t *)&a->retry, NULL);
	uv_close((uv_handle_t *)&a->wake, NULL);
}

/* It is woken for one thing only: its end. */
static void on_acceptor_wake(uv_async_t *async)
{
	struct acceptor *a = CONTAINER_OF(async, struct acceptor, wake);

	for (unsigned i = 0; i < a->listeners_count; i++)
		accept_rest(a, &a->listeners[i]);
	close_acceptor(a);
}

static void acceptor_main(void *arg)
{
	struct acceptor *a = arg;
	a->owner = uv_thread_self();
	pthread_setname_np(pthread_self(), "isi-accept");
	take_spare(a);
	watch_listeners(a);
	uv_run(&a->loop, UV_RUN_DEFAULT);
}

static void init_handles(struct acceptor *a)
{
	uv_timer_init(&a->loop, &a->retry);
	for (unsigned i = 0; i < a->listeners_count; i++) {
		/* It fails only for what epoll can't watch: no socket does. */
		CHECK(uv_poll_init(&a->loop, &a->polls[i],
				   a->listeners[i].fd) == 0);
		a->polls[i].data = a;
		a->listeners[i].expected = 1;
	}
}

/* Sets what accepted sockets inherit, which then costs nothing for each. */
static void set_option(const struct acceptor_listener *l, int level, int name,
		       int value)
{
	if (setsockopt(l->fd, level, name, &value, sizeof value) != 0)
		log_event(LOG_WARN, "socket_option", LOG_NO_FIELDS,
			  "can't set option %d of a listening socket: %s", name,
			  uv_strerror(uv_translate_sys_error(errno)));
}

/* For a peer that does not read, the kernel takes megabytes: of its own memory,
 * a copy for each. Behind this bound, messages wait here instead, where clients
 * share them. What is under way is not bounded, so speed on a long link is
 * not. */
static void bound_unsent(const struct acceptor_listener *l, uint64_t bytes)
{
	if (bytes != 0)
		set_option(l, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)bytes);
}

/* A client that has vanished without a word is noticed by what it does not
 * acknowledge: pings, the rest of an answer, or, where nothing is sent, the
 * kernel's probes. */
static void notice_the_vanished(const struct acceptor_listener *l,
				uint64_t ping_interval_ms)
{
	uint64_t interval_s = (ping_interval_ms + 999) / 1000;
	uint64_t timeout_ms = 2 * ping_interval_ms;
	uint64_t idle_s = interval_s < IDLE_MAX_S ? interval_s : IDLE_MAX_S;
	uint64_t probe_s = (idle_s + PROBES - 1) / PROBES;

	if (timeout_ms < VANISHED_MIN_MS)
		timeout_ms = VANISHED_MIN_MS;
	if (timeout_ms > INT_MAX)
		timeout_ms = INT_MAX;
	set_option(l, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(l, IPPROTO_TCP, TCP_KEEPIDLE, (int)idle_s);
	set_option(l, IPPROTO_TCP, TCP_KEEPINTVL, (int)probe_s);
	set_option(l, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
	set_option(l, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)timeout_ms);
}

/* Tells the kernel to keep a connection until its first bytes come, or for
 * `defer_ms`: acceptor and worker are woken once less for each. An admin's is
 * never kept, since a probe may only connect. */
static void defer_accepting(const struct acceptor_listener *l,
			    uint64_t defer_ms)
{
	if (defer_ms != 0 && l->kind != LISTENER_ADMIN)
		set_option(l, IPPROTO_TCP, TCP_DEFER_ACCEPT,
			   (int)((defer_ms + 999) / 1000));
}

static void set_socket_options(const struct acceptor_listener *l,
			       const struct config *config)
{
	if (l->kind == LISTENER_UNIX)
		return;
	bound_unsent(l, config->unsent_max_bytes);
	notice_the_vanished(l, config->ping_interval_ms);
	defer_accepting(l, config->defer_accept_ms);
}

int acceptor_init(struct acceptor *a, struct worker_shared *shared,
		  const struct acceptor_listener *listeners, unsigned count)
{
	memset(a, 0, sizeof *a);
	CHECK(count <= ACCEPTOR_LISTENERS_MAX);
	memcpy(a->listeners, listeners, count * sizeof listeners[0]);
	a->listeners_count = count;
	for (unsigned i = 0; i < count; i++)
		set_socket_options(&listeners[i], shared->config);
	a->shared = shared;
	a->owner = uv_thread_self(); /* until its own thread runs */
	a->spare = -1;
	int rv = uv_loop_init(&a->loop);
	if (rv != 0)
		goto err_listeners;
	rv = uv_async_init(&a->loop, &a->wake, on_acceptor_wake);
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

void acceptor_stop(struct acceptor *a)
{
	uv_async_send(&a->wake);
	uv_thread_join(&a->thread);
}

void acceptor_fini(struct acceptor *a)
{
	/* One that was never started still has its handles. */
	if (!uv_is_closing((uv_handle_t *)&a->wake)) {
		close_acceptor(a);
		uv_run(&a->loop, UV_RUN_DEFAULT);
	}
	if (a->spare >= 0)
		close(a->spare);
	CHECK(uv_loop_close(&a->loop) == 0);
}
