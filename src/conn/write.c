/* write.c - what the peer is sent: responses, frames, and the queue that
 * both go through. */
#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "codec/json/json.h"
#include "conn/private.h"

#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GATHER_MAX    64    /* buffers in one system call */
#define IN_FLIGHT_MAX 65536 /* bytes left to the kernel's readiness at once */
#define CONTENT_JSON  "application/json"
#define OPCODE_TEXT   1
#define UPGRADE_MAX   256 /* bytes of a 101 response */
/* About what a chunk, and its place in the queue, need beside its bytes. */
#define CHUNK_COST_BYTES 64

/* --- the queue ---------------------------------------------------------- */

size_t conn_unsent_bytes(const struct conn *c)
{
	if (c->writing == NULL)
		return c->outq.bytes;
	return c->outq.bytes - c->writing->bytes +
	       uv_stream_get_write_queue_size(&c->stream);
}

/* Small chunks by the thousand cost more than their bytes. The unit that is
 * being written is not held against the peer, however long it is: what was
 * published can be delivered. Nor is what was queued as there was room. */
static bool is_over_limit(const struct conn *c)
{
	size_t max = c->group->limits.buffered_max_bytes;
	size_t unsent = conn_unsent_bytes(c);

	if (c->outq.count > GATHER_MAX + max / CHUNK_COST_BYTES)
		return true;
	return unsent > max && unsent > max + outq_spared_bytes(&c->outq);
}

/* Subscribers must keep up; requests are slowed down instead (read.c).
 * Before a burst is held against it, a peer that reads gets the chance to take
 * it. */
static void check_limit(struct conn *c)
{
	if (!conn_is_open(c) || !is_over_limit(c))
		return;
	conn_write_now(c);
	if (is_over_limit(c))
		conn_end_later(c, ENDING_slow);
}

void conn_queue(struct conn *c, struct span bytes)
{
	if (outq_write(&c->outq, bytes, c->in_flight) != 0)
		conn_end_later(c, ENDING_no_memory);
	conn_mark_dirty(c);
	check_limit(c);
}

static bool may_send(const struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	return conn_is_open(c) && c->doomed == ENDING_NONE;
}

bool conn_can_send(const struct conn *c)
{
	return may_send(c);
}

void conn_write_now(struct conn *c)
{
	if (may_send(c) && c->writing == NULL && conn_write_queued(c) != 0)
		conn_end_later(c, ENDING_peer_gone);
}

/* Whole units were queued, unless `rv` says that memory was missing. */
static void sent(struct conn *c, int rv)
{
	if (rv != 0) {
		conn_end_later(c, ENDING_no_memory);
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

static int queue_message(struct conn *c, struct span payload)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t len = websocket_write_header(end, OPCODE_TEXT, payload.len);
	const struct span pieces[] = {{(const char *)end - len, len}, payload};

	return outq_write_pieces(&c->outq, pieces, 2, c->in_flight);
}

void conn_send_text(struct conn *c, struct span payload)
{
	if (!may_send(c))
		return;
	sent(c, c->state == CONN_WEBSOCKET
			? queue_message(c, payload)
			: conn_queue_lines(c, payload, false));
}

/* Where the limit itself is low, whoever has room is still far from it. */
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

/* --- writing ------------------------------------------------------------ */

static void on_written(uv_write_t *request, int status)
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
	c->in_flight = 0;
	if (c->state == CONN_CLOSED)
		return;
	if (status != 0) {
		conn_abort(c, ENDING_peer_gone);
		return;
	}
	stats_add(c->group->stats, STATS_bytes_out, bytes);
	c->handed += (uint32_t)bytes;
	outq_consume(&c->outq, bytes);
	conn_mark_dirty(c);
}

/* What the kernel occupies for bytes that the peer has not taken, now; asked
 * only where there is a budget to hold it against. */
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
 * them. One such write at a time, so that the rest can still be given up. */
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
	int rv = uv_write(&w->request, &c->stream, bufs, n, on_written);
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
	c->in_flight = n;
	if (memory_limit() != 0)
		w->acknowledged = conn_acknowledged(c);
	if (c->state == CONN_REQUEST || c->state == CONN_DISCARDING ||
	    c->state == CONN_PENDING)
		conn_set_deadline(c, DEADLINE_WRITE);
	else if (!conn_is_open(c))
		conn_look_at_progress(c); /* its deadline is set already */
	return 0;
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
	conn_on_drained(c);
	return 0;
}

static void shut_our_side(struct conn *c)
{
	uv_os_fd_t fd;

	conn_move(c, CONN_LINGERING);
	conn_set_deadline(c, DEADLINE_LINGER);
	if (uv_fileno(&c->handle, &fd) == 0)
		shutdown(fd, SHUT_WR);
	/* So that an end that came before comes again. */
	conn_restart_reading(c);
}

void conn_on_drained(struct conn *c)
{
	c->is_judged = false;
	if (c->state == CONN_FINISHING) {
		if (c->is_agreed)
			conn_abort(c, ENDING_done); /* neither side waits */
		else
			shut_our_side(c);
		return;
	}
	if (c->deadline_kind == DEADLINE_WRITE)
		conn_set_request_deadline(c);
	conn_unblock(c);
}

/* --- responses ---------------------------------------------------------- */

/* The time for the Date field (RFC 9110 5.6.7), made once a second. */
static const char *date_now(struct conn_group *g)
{
	time_t now = time(NULL);
	struct tm utc;
	if (now != g->date_at) {
		g->date_at = now;
		gmtime_r(&now, &utc);
		strftime(g->date, sizeof g->date, "%a, %d %b %Y %H:%M:%S GMT",
			 &utc);
	}
	return g->date;
}

/* The hooks' field lines. */
static const char *more_fields(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;
	bool has_head = c->state == CONN_PENDING || c->is_in_content;

	if (hooks->fields == NULL)
		return NULL;
	return hooks->fields(c, has_head ? conn_request(c) : NULL);
}

void conn_queue_response(struct conn *c, struct http_response *response)
{
	struct conn_group *g = c->group;

	stats_add_status(g->stats, response->status);
	response->date = date_now(g);
	response->more_fields = more_fields(c);
	g->out.len = 0;
	if (http_write_response(&g->out, response) != 0)
		conn_end_later(c, ENDING_no_memory);
	else
		conn_queue(c, (struct span){g->out.bytes, g->out.len});
}

static void log_response(const struct conn *c, struct span path, int status)
{
	log_event(LOG_DEBUG, "response",
		  LOG_FIELDS(log_span("path", path),
			     log_number("status", (uint64_t)status)),
		  "conn %p: answered", (const void *)c);
}

void conn_respond(struct conn *c, const struct http_response *response)
{
	const struct http_request *request = http_request(c->http);
	struct http_response full = *response;
	/* A client that waits for 100 (Continue) may never send the content it
	 * announced, so there is no telling where a next request would start
	 * (RFC 9110 10.1.1). */
	bool is_early = c->state == CONN_REQUEST;
	bool is_last = response->close || !request->keep_alive ||
		       c->group->is_draining ||
		       (is_early && request->expects_continue);

	CHECK_ON_THREAD(c->group->owner);
	CHECK(is_early || c->state == CONN_PENDING);
	log_response(c, request->path, response->status);
	full.is_head = request->method == HTTP_METHOD_HEAD;
	full.close = is_last;
	full.keep_alive = !is_last && request->minor_version == 0;
	/* 426 has a Connection field of its own. */
	if (!is_last && response->status != 426)
		full.keep_alive_s = c->group->keep_alive_s;
	conn_queue_response(c, &full);
	if (is_last) {
		conn_note_end(c, ENDING_done);
		conn_finish(c);
	} else if (is_early) {
		http_discard_content(c->http);
		conn_move(c, CONN_DISCARDING);
	} else {
		conn_move(c, CONN_REQUEST);
	}
}

static struct http_response error_response(struct buf *content, int status,
					   const char *text, const char *fields)
{
	struct http_response response = {.status = status, .fields = fields};
	if (json_write_error(content, text) == 0) {
		response.content_type = CONTENT_JSON;
		response.content = (struct span){content->bytes, content->len};
	}
	return response;
}

void conn_respond_error(struct conn *c, int status, const char *text,
			const char *fields)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, fields);
	conn_respond(c, &response);
	buf_fini(&content);
}

void conn_respond_late(struct conn *c, int status, const char *text,
		       const char *fields)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, fields);

	response.close = true;
	conn_respond(c, &response);
	buf_fini(&content);
	conn_set_deadline(c, DEADLINE_LATE); /* in place of DEADLINE_WRITE */
}

void conn_respond_last(struct conn *c, int status, const char *text)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, NULL);
	response.close = true;
	response.is_head = conn_request(c)->method == HTTP_METHOD_HEAD;
	conn_queue_response(c, &response);
	buf_fini(&content);
	conn_finish(c);
}

/* --- the opening handshake ---------------------------------------------- */

static const char *what_lacks(const struct http_request *request)
{
	return request->fields[HTTP_SEC_WEBSOCKET_KEY].bytes != NULL &&
			       request->fields[HTTP_UPGRADE].bytes == NULL
		       ? "A proxy has removed Upgrade"
		       : "A WebSocket handshake is expected";
}

bool conn_check_upgrade(struct conn *c)
{
	const struct http_request *request = conn_request(c);
	const struct span *fields = request->fields;
	char accept[WEBSOCKET_ACCEPT_LEN + 1];

	if (request->method != HTTP_METHOD_GET || request->minor_version < 1 ||
	    !http_list_has(fields[HTTP_CONNECTION], SPAN("upgrade")) ||
	    !http_list_has(fields[HTTP_UPGRADE], SPAN("websocket"))) {
		conn_respond_error(c, 426, what_lacks(request),
				   "Upgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Version: 13\r\n");
		return false;
	}
	if (!span_equal(fields[HTTP_SEC_WEBSOCKET_VERSION], SPAN("13"))) {
		conn_respond_error(c, 426, "Sec-WebSocket-Version must be 13",
				   "Upgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Version: 13\r\n");
		return false;
	}
	if (websocket_accept(fields[HTTP_SEC_WEBSOCKET_KEY], accept) != 0) {
		conn_respond_error(c, 400,
				   "Sec-WebSocket-Key must be 16 bytes in "
				   "base64",
				   NULL);
		return false;
	}
	return true;
}

void conn_upgrade(struct conn *c, struct span subprotocol)
{
	char accept[WEBSOCKET_ACCEPT_LEN + 1];
	char response[UPGRADE_MAX];
	struct span key = conn_request(c)->fields[HTTP_SEC_WEBSOCKET_KEY];

	CHECK_ON_THREAD(c->group->owner);
	CHECK(websocket_accept(key, accept) == 0);
	snprintf(response, sizeof response,
		 "HTTP/1.1 101 Switching Protocols\r\n"
		 "Upgrade: websocket\r\n"
		 "Connection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: %s\r\n",
		 accept);
	conn_queue(c, span_of(response));
	if (subprotocol.bytes != NULL) {
		conn_queue(c, SPAN("Sec-WebSocket-Protocol: "));
		conn_queue(c, subprotocol);
		conn_queue(c, SPAN("\r\n"));
	}
	conn_queue(c, SPAN("\r\n"));
	if (c->doomed != ENDING_NONE)
		return; /* no 101, so no WebSocket; the flush ends it */
	stats_add_status(c->group->stats, 101);
	conn_have_place(c);
	conn_move(c, CONN_WEBSOCKET);
	c->was_heard = true;
	conn_set_deadline(c, DEADLINE_PING);
}
