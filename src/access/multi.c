/* multi.c - see multi.h. */
#include "access/multi.h"

#include "base/check.h"

#include <stdlib.h>

/* A descriptor that libcurl waits for; lives until its close callback. */
struct socket {
	uv_poll_t poll;
	struct multi *multi;
	struct list link; /* in multi->sockets, until it is closed */
	curl_socket_t fd;
};

/* Tells libcurl what has happened. */
static void act(struct multi *m, curl_socket_t fd, int flags)
{
	int running;

	if (curl_multi_socket_action(m->handle, fd, flags, &running) !=
	    CURLM_OK)
		m->hooks->on_broken(m);
	m->hooks->on_turn(m);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct socket *s = CONTAINER_OF(poll, struct socket, poll);
	int flags = 0;

	if ((events & UV_READABLE) != 0)
		flags |= CURL_CSELECT_IN;
	if ((events & UV_WRITABLE) != 0)
		flags |= CURL_CSELECT_OUT;
	/* With the error alone libcurl would not read the response that came
	 * before a reset. */
	if (status < 0)
		flags = CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
	act(s->multi, s->fd, flags);
}

static void on_transfer_timer(uv_timer_t *timer)
{
	act(CONTAINER_OF(timer, struct multi, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF((uv_poll_t *)handle, struct socket, poll));
}

static struct socket *socket_open(struct multi *m, curl_socket_t fd)
{
	struct socket *s = malloc(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->multi = m;
	s->fd = fd;
	if (uv_poll_init_socket(m->loop, &s->poll, fd) != 0) {
		free(s);
		return NULL;
	}
	list_append(&m->sockets, &s->link);
	curl_multi_assign(m->handle, fd, s);
	return s;
}

static void socket_close(struct socket *s)
{
	list_remove(&s->link);
	uv_close((uv_handle_t *)&s->poll, on_socket_closed);
}

/* Failing here would make libcurl give up all transfers, for good. A transfer
 * whose socket can't be waited for runs into its own time-out instead. */
static int on_socket(CURL *transfer, curl_socket_t fd, int what, void *user,
		     void *socket)
{
	struct socket *s = socket;
	int events = 0;

	(void)transfer;
	if (what == CURL_POLL_REMOVE) {
		/* Takes `fd` out of the loop before libcurl closes it. */
		if (s != NULL)
			socket_close(s);
		return 0;
	}
	if (s == NULL)
		s = socket_open(user, fd);
	if (s == NULL)
		return 0;
	if ((what & CURL_POLL_IN) != 0)
		events |= UV_READABLE;
	if ((what & CURL_POLL_OUT) != 0)
		events |= UV_WRITABLE;
	uv_poll_start(&s->poll, events, on_poll);
	return 0;
}

static int on_timeout(CURLM *handle, long timeout_ms, void *user)
{
	struct multi *m = user;

	(void)handle;
	if (timeout_ms < 0)
		uv_timer_stop(&m->timer);
	else
		uv_timer_start(&m->timer, on_transfer_timer,
			       (uint64_t)timeout_ms, 0);
	return 0;
}

static bool set_multi(struct multi *m)
{
	CURLM *h = m->handle;
	int rv = 0;

	rv |= (int)curl_multi_setopt(h, CURLMOPT_SOCKETFUNCTION, on_socket);
	rv |= (int)curl_multi_setopt(h, CURLMOPT_SOCKETDATA, m);
	rv |= (int)curl_multi_setopt(h, CURLMOPT_TIMERFUNCTION, on_timeout);
	rv |= (int)curl_multi_setopt(h, CURLMOPT_TIMERDATA, m);
	rv |= (int)curl_multi_setopt(h, CURLMOPT_MAXCONNECTS,
				     (long)m->kept_max);
	return rv == 0;
}

int multi_open(struct multi *m)
{
	CHECK_ON_THREAD(m->owner);
	m->handle = curl_multi_init();
	if (m->handle == NULL)
		return UV_ENOMEM;
	if (set_multi(m))
		return 0;
	curl_multi_cleanup(m->handle);
	m->handle = NULL;
	return UV_ENOMEM;
}

int multi_init(struct multi *m, uv_loop_t *loop, unsigned kept_max,
	       const struct multi_hooks *hooks)
{
	m->owner = uv_thread_self();
	m->loop = loop;
	m->kept_max = kept_max;
	m->hooks = hooks;
	list_init(&m->sockets);
	int rv = multi_open(m);
	if (rv == 0)
		uv_timer_init(loop, &m->timer);
	return rv;
}

/* A descriptor leaves the loop before libcurl closes it, also one that libcurl
 * has lost count of. */
void multi_close(struct multi *m)
{
	CHECK_ON_THREAD(m->owner);
	if (m->handle == NULL)
		return;
	curl_multi_setopt(m->handle, CURLMOPT_SOCKETFUNCTION, NULL);
	curl_multi_setopt(m->handle, CURLMOPT_TIMERFUNCTION, NULL);
	LIST_FOR_EACH_SAFE (it, after, &m->sockets)
		socket_close(CONTAINER_OF(it, struct socket, link));
	uv_timer_stop(&m->timer);
	curl_multi_cleanup(m->handle);
	m->handle = NULL;
}
