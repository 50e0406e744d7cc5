/* progress.c - whether the peer takes what it is sent, and is there.
 *
 * Over TCP, what the peer has acknowledged shows that. Over a Unix socket, only
 * what the kernel has taken is known; its buffer is small there. */
#include "conn/private.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

/* Bytes of the write under way that the kernel has taken. */
static size_t taken(const struct conn *c)
{
	if (c->writing == NULL)
		return 0;
	return c->writing->bytes - uv_stream_get_write_queue_size(&c->stream);
}

/* Bytes that the kernel still has for the peer. */
static size_t unacknowledged(const struct conn *c)
{
	uv_os_fd_t fd;
	int bytes = 0;

	if (c->listener == LISTENER_UNIX || uv_fileno(&c->handle, &fd) != 0 ||
	    ioctl(fd, SIOCOUTQ, &bytes) != 0)
		return 0;
	return (size_t)bytes;
}

uint32_t conn_acknowledged(const struct conn *c)
{
	return (uint32_t)(c->handed + taken(c) - unacknowledged(c));
}

struct conn_progress conn_look_at_progress(struct conn *c)
{
	size_t waiting = unacknowledged(c);
	uint32_t now = (uint32_t)(c->handed + taken(c) - waiting);
	struct conn_progress progress = {
		.is_behind = waiting > 0 || c->outq.bytes > 0,
		.waiting = waiting + c->outq.bytes,
		.has_moved = now != c->seen,
	};

	c->seen = now;
	return progress;
}

bool conn_takes_its_time(struct conn *c)
{
	struct conn_progress progress = conn_look_at_progress(c);

	return progress.is_behind && progress.has_moved;
}

bool conn_has_hung_up(const struct conn *c)
{
	struct pollfd peer = {.events = POLLRDHUP};

	return c->state != CONN_CLOSED &&
	       uv_fileno(&c->handle, &peer.fd) == 0 && poll(&peer, 1, 0) > 0;
}
