/* write.c - queues what the peer is sent, and writes it. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GATHER_MAX    64    /* buffers in one system call */
#define IN_FLIGHT_MAX 65536 /* bytes in one write that waits for the kernel */
/* About the memory of a chunk, and its place in the queue, beside its bytes. */
#define CHUNK_COST_BYTES 64

/* --- writing ------------------------------------------------------------ */

static void on_conn_written(uv_write_t *request, int status)
{
	struct conn_write *w =
		CONTAINER_OF(request, struct conn_write, request);
	struct conn *c = w->conn;
	size_t bytes = w->bytes;

	list_remove(&w->link);
	memory_credit(sizeof *w);
	memory_credit_kernel(w->kernel_bytes);
	free(w);
	c->writing = NULL;
	if (c->state == CONN_CLOSED)
		return;
	if (status != 0) {
		conn_abort(c, CLOSE_REASON_peer_gone);
		return;
	}
	stats_add(c->group->stats, STATS_bytes_out, bytes);
	c->handed += (uint32_t)bytes;
	outq_consume(&c->outq, bytes);
	conn_mark_dirty(c);
}

/* The memory that the kernel now occupies for bytes that the peer has not
 * taken; asked only if there is a budget. */
static size_t kernel_bytes(const struct conn *c)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof info;
	uv_os_fd_t fd;

	if (memory_limit() == 0 || uv_fileno(&c->handle, &fd) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) != 0)
		return 0;
	/* The one is TCP's, the other a Unix socket's. */
	return info[SK_MEMINFO_WMEM_QUEUED] > info[SK_MEMINFO_WMEM_ALLOC]
		       ? info[SK_MEMINFO_WMEM_QUEUED]
		       : info[SK_MEMINFO_WMEM_ALLOC];
}

/* Hands the oldest bytes to libuv, which writes them when the kernel can take
 * them. There is only one such write at a time, so that the rest can still be
 * dropped. */
static int start_write(struct conn *c)
{
	uv_buf_t bufs[GATHER_MAX];
	struct conn_write *w = malloc(sizeof *w);
	if (w == NULL)
		return UV_ENOMEM;
	unsigned n = outq_gather(&c->outq, bufs, GATHER_MAX, IN_FLIGHT_MAX);
	w->conn = c;
	w->bytes = 0;
	for (unsigned i = 0; i < n; i++)
		w->bytes += bufs[i].len;
	int rv = uv_write(&w->request, &c->stream, bufs, n, on_conn_written);
	if (rv != 0) {
		free(w);
		return rv;
	}
	w->kernel_bytes = kernel_bytes(c);
	w->since_ms = uv_now(c->group->loop);
	w->acknowledged = 0;
	memory_charge(sizeof *w);
	memory_charge_kernel(w->kernel_bytes);
	list_init(&w->link);
	list_append(&c->group->stalled, &w->link);
	c->writing = w;
	w->chunks = n;
	if (memory_limit() != 0)
		w->acknowledged = conn_acknowledged(c);
	if (c->state == CONN_REQUEST || c->state == CONN_DISCARDING ||
	    c->state == CONN_PENDING)
		conn_set_deadline(c, DEADLINE_WRITE);
	else if (!conn_is_open(c))
		conn_look_at_progress(c); /* its deadline is set already */
	return 0;
}

/* All is written: reads on. */
static void on_drained(struct conn *c)
{
	c->is_judged = false;
	if (c->state == CONN_FINISHING)
		return; /* the flush goes on */
	if (c->deadline_kind == DEADLINE_WRITE)
		conn_set_request_deadline(c);
	conn_unblock(c);
}

int conn_write_queued(struct conn *c)
{
	uv_buf_t bufs[GATHER_MAX];

	while (c->outq.count > 0) {
		size_t bytes = 0;
		unsigned n = outq_gather(&c->outq, bufs, GATHER_MAX, SIZE_MAX);
		for (unsigned i = 0; i < n; i++)
			bytes += bufs[i].len;
		int rv = uv_try_write(&c->stream, bufs, n);
		stats_add(c->group->stats, STATS_writes, 1);
		if (rv == UV_EAGAIN)
			return start_write(c);
		if (rv < 0)
			return rv;
		stats_add(c->group->stats, STATS_bytes_out, (uint64_t)rv);
		c->handed += (uint32_t)rv;
		outq_consume(&c->outq, (size_t)rv);
		if ((size_t)rv < bytes)
			return start_write(c);
	}
	on_drained(c);
	return 0;
}

/* --- the queue ---------------------------------------------------------- */

size_t conn_unsent_bytes(const struct conn *c)
{
	if (c->writing == NULL)
		return c->outq.bytes;
	return c->outq.bytes - c->writing->bytes +
	       uv_stream_get_write_queue_size(&c->stream);
}

/* Whether more is queued than may be. Thousands of small chunks cost more than
 * their bytes. The unit that is being written does not count, however long it
 * is, so that any message can be delivered; nor do chunks that are paced. */
static bool is_over_limit(const struct conn *c)
{
	size_t max = c->group->limits.buffered_max_bytes;
	size_t unsent = conn_unsent_bytes(c);

	if (c->outq.count > GATHER_MAX + max / CHUNK_COST_BYTES)
		return true;
	return unsent > max && unsent > max + outq_spared_bytes(&c->outq);
}

static bool may_send(const struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	return conn_is_open(c) && c->doomed == CLOSE_REASON_NONE;
}

bool conn_can_send(const struct conn *c)
{
	return may_send(c);
}

void conn_write_now(struct conn *c)
{
	if (may_send(c) && c->writing == NULL && conn_write_queued(c) != 0)
		conn_end_later(c, CLOSE_REASON_peer_gone);
}

/* Subscribers must keep up, or end; requests are slowed down instead
 * (reading.c). A peer that reads gets the chance to take a burst before it is
 * ended. */
static void check_limit(struct conn *c)
{
	if (!conn_is_open(c) || !is_over_limit(c))
		return;
	conn_write_now(c);
	if (is_over_limit(c))
		conn_end_later(c, CLOSE_REASON_slow);
}

void conn_queue(struct conn *c, struct span bytes)
{
	if (outq_write(&c->outq, bytes, conn_in_flight(c)) != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	conn_mark_dirty(c);
	check_limit(c);
}

/* Whole units were queued, unless `rv` says that memory was missing. */
static void sent(struct conn *c, int rv)
{
	if (rv != 0) {
		conn_end_later(c, CLOSE_REASON_no_memory);
		return;
	}
	conn_mark_dirty(c);
	check_limit(c);
}

void conn_send(struct conn *c, struct chunk *chunk)
{
	if (may_send(c))
		sent(c, outq_push(&c->outq, chunk));
}

enum framing conn_framing(const struct conn *c)
{
	return (enum framing)c->framing;
}

void conn_set_framing(struct conn *c, enum framing framing)
{
	CHECK(framing < FRAMINGS);
	c->framing = framing & 7u; /* as wide as the member */
}

int conn_queue_unit(struct conn *c, struct span unit, bool is_last)
{
	enum framing framing = conn_framing(c);
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;

	/* An empty chunk would be the last one. */
	if (unit.len == 0 && !framing_is_websocket(framing))
		return 0;
	size_t len = framing_write_start(framing, end, unit.len);
	const struct span pieces[] = {
		{end - len, len},
		unit,
		framing_end(framing),
		is_last ? framing_last(framing) : SPAN(""),
	};
	return outq_write_pieces(&c->outq, pieces,
				 sizeof pieces / sizeof pieces[0],
				 conn_in_flight(c));
}

void conn_send_text(struct conn *c, struct span payload)
{
	if (may_send(c))
		sent(c, conn_queue_unit(c, payload, false));
}

/* The chunk has no spare room, so nothing is appended to it. Limits are checked
 * only when the block is complete, so no ending cuts one. */
void conn_send_part(struct conn *c, struct span bytes)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state != CONN_EVENT_STREAM || c->doomed != CLOSE_REASON_NONE)
		return;
	struct chunk *part = chunk_new(bytes.len);
	if (part == NULL) {
		conn_end_later(c, CLOSE_REASON_no_memory);
		return;
	}
	chunk_append(part, bytes.bytes, bytes.len);
	part->is_continued = true;
	if (outq_push(&c->outq, part) != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	chunk_unref(part);
	conn_mark_dirty(c);
}

/* Half of the limit, where that is low: a connection with room is still far
 * from it. */
bool conn_has_room(const struct conn *c)
{
	size_t max = c->group->limits.buffered_max_bytes / 2;
	size_t room = max < CONN_ROOM_BYTES ? max : CONN_ROOM_BYTES;

	return may_send(c) && conn_unsent_bytes(c) < room;
}

void conn_wait_for_room(struct conn *c)
{
	c->wants_room = true;
	conn_mark_dirty(c);
}
