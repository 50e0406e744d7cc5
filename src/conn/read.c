/* read.c - what the peer sends: requests, then the frames of a WebSocket.
 *
 * Bytes are read into the group's one buffer and used up before the next read;
 * the exception is the stash: what lay behind a request that is answered later,
 * behind more answers than the peer reads, or behind a message that paused. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, handle);
	(void)suggested;
	*buf = uv_buf_init(c->group->read_buffer, CONN_READ_BYTES);
}

/* --- requests ----------------------------------------------------------- */

static void on_head(struct conn *c, bool has_more)
{
	const struct http_request *request = http_request(c->http);

	c->group->hooks->on_head(c, request);
	if (c->state == CONN_REQUEST && request->expects_continue && !has_more)
		conn_queue(c, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
}

static void on_request(struct conn *c)
{
	stats_add(c->group->stats, STATS_requests, 1);
	if (c->state == CONN_DISCARDING) {
		conn_move(c, CONN_REQUEST);
		return;
	}
	conn_move(c, CONN_PENDING);
	c->group->hooks->on_request(c, http_request(c->http));
	http_release_content(c->http);
}

/* A request that was answered at its head gets no second answer. */
static void on_bad_request(struct conn *c)
{
	conn_note_end(c, ENDING_bad_request);
	if (c->state == CONN_DISCARDING)
		conn_finish(c);
	else
		conn_respond_last(c, http_status(c->http),
				  http_reason(c->http));
}

/* Reads up to the next event, and takes what was used off `bytes`. */
static enum http_event read_request(struct conn *c, struct span *bytes)
{
	size_t used = 0;
	enum http_event event =
		http_read(c->http, bytes->bytes, bytes->len, &used);

	bytes->bytes += used;
	bytes->len -= used;
	if (event == HTTP_HEAD || event == HTTP_REQUEST)
		c->is_in_content = event == HTTP_HEAD;
	/* A new deadline is due; that of a write goes on. */
	if (event != HTTP_MORE && c->writing == NULL)
		c->deadline_kind = DEADLINE_KINDS;
	if (event == HTTP_HEAD)
		on_head(c, bytes->len > 0);
	else if (event == HTTP_REQUEST)
		on_request(c);
	else if (event == HTTP_BAD)
		on_bad_request(c);
	return event;
}

/* --- frames ------------------------------------------------------------- */

/* Keeps bytes for later; until then nothing is read. */
static void stash(struct conn *c, struct span bytes)
{
	conn_pause_reading(c);
	if (bytes.len > 0 && buf_append(&c->stash, bytes.bytes, bytes.len) != 0)
		conn_end_later(c, ENDING_no_memory);
}

static unsigned on_message(void *user, bool is_text, struct span message)
{
	struct conn *c = user;
	c->is_overdue = false; /* it is another that may be unfinished now */
	/* One that is to be ended has no answer to expect. */
	if (c->state == CONN_WEBSOCKET && c->doomed == ENDING_NONE)
		c->group->hooks->on_message(c, is_text, message);
	return c->is_held ? WEBSOCKET_PAUSE : 0;
}

static void on_reply(void *user, struct span frame)
{
	struct conn *c = user;
	if (c->state == CONN_WEBSOCKET)
		conn_queue(c, frame);
}

static const struct websocket_handler websocket_handler = {
	.on_message = on_message,
	.on_reply = on_reply,
};

static enum ending ending_of_code(unsigned code)
{
	switch (code) {
	case WEBSOCKET_INVALID_DATA:
		return ENDING_bad_data;
	case WEBSOCKET_TOO_BIG:
		return ENDING_too_big;
	case WEBSOCKET_INTERNAL_ERROR:
		return ENDING_no_memory;
	default:
		return ENDING_protocol;
	}
}

static struct websocket *borrow_websocket(struct conn *c)
{
	struct conn_group *g = c->group;
	if (c->websocket == NULL)
		c->websocket =
			g->websocket_pooled > 0
				? g->websocket_pool[--g->websocket_pooled]
				: websocket_new(g->limits.message_max_bytes);
	return c->websocket;
}

static void on_peer_close(struct conn *c)
{
	conn_note_end(c, ENDING_peer_closed);
	c->is_agreed = true;
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
}

static void read_frames(struct conn *c, struct span bytes)
{
	struct websocket *ws = borrow_websocket(c);
	if (ws == NULL) {
		conn_abort(c, ENDING_no_memory);
		return;
	}
	struct websocket_result result =
		websocket_read(ws, bytes, &websocket_handler, c);
	if (c->state == CONN_WEBSOCKET || c->state == CONN_CLOSING) {
		if (result.outcome == WEBSOCKET_CLOSED)
			on_peer_close(c);
		else if (result.outcome == WEBSOCKET_FAILED)
			conn_fail_websocket(c, ending_of_code(result.code),
					    result.code, result.reason);
	}
	if (result.outcome == WEBSOCKET_CLOSED ||
	    result.outcome == WEBSOCKET_FAILED) {
		websocket_free(c->websocket);
		c->websocket = NULL;
		return;
	}
	if (result.outcome == WEBSOCKET_PAUSED)
		stash(c, result.unread);
	if (websocket_is_idle(ws))
		conn_release_websocket(c);
}

/* --- bytes -------------------------------------------------------------- */

static void stash_requests(struct conn *c, struct span bytes)
{
	stash(c, bytes);
	conn_set_request_deadline(c);
}

static bool reads_requests(const struct conn *c)
{
	return c->state == CONN_REQUEST || c->state == CONN_DISCARDING;
}

static bool has_too_many_answers(const struct conn *c)
{
	return c->outq.bytes > CONN_HIGH_WATER_BYTES;
}

/* Reads requests until the bytes are used up, the state is another, or too many
 * answers are unread: a few bytes may ask for many. */
static void read_requests(struct conn *c, struct span *bytes)
{
	enum http_event event = HTTP_MORE;

	/* After a head there is more to tell, even without further bytes. */
	while (reads_requests(c) && (bytes->len > 0 || event == HTTP_HEAD)) {
		event = read_request(c, bytes);
		if (event == HTTP_REQUEST && has_too_many_answers(c))
			break;
	}
	if (!reads_requests(c))
		return;
	if (has_too_many_answers(c))
		stash_requests(c, *bytes);
	else
		conn_set_request_deadline(c);
}

/* Whether it has something unfinished, that may grow. */
static bool is_collecting(const struct conn *c)
{
	return c->websocket != NULL || c->stash.len > 0 ||
	       (c->state == CONN_REQUEST && http_is_in_request(c->http));
}

/* Where memory is full, whoever takes more of it goes: connections that were
 * idle are many, and were all let in before. */
static void account(struct conn *c)
{
	uint32_t before = c->charged;

	conn_account(c);
	if (c->charged <= before || !is_collecting(c) ||
	    c->listener == LISTENER_ADMIN || memory_level() != MEMORY_FULL)
		return;
	/* Nothing more is read, so what was goes at once: the next connection
	 * of this very iteration may want as much. */
	if (c->state == CONN_WEBSOCKET)
		conn_fail_websocket(c, ENDING_no_memory,
				    WEBSOCKET_INTERNAL_ERROR, NULL);
	else
		conn_abort(c, ENDING_no_memory);
	conn_release_http(c);
	conn_release_websocket(c);
	buf_fini(&c->stash);
	conn_account(c);
}

/* Hands bytes to whom they are for in this state; in those that are not named,
 * what still comes is dropped. A WebSocket that was paused may go on without
 * any.
 */
static void process(struct conn *c, struct span bytes)
{
	if (reads_requests(c))
		read_requests(c, &bytes);
	if (c->state == CONN_PENDING)
		stash_requests(c, bytes);
	else if ((c->state == CONN_WEBSOCKET || c->state == CONN_CLOSING) &&
		 (bytes.len > 0 || c->websocket != NULL))
		read_frames(c, bytes);
	if (c->state != CONN_CLOSED)
		account(c);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(stream, struct conn, stream);

	CHECK_ON_THREAD(c->group->owner);
	if (len > 0) {
		c->was_heard = true;
		stats_add(c->group->stats, STATS_bytes_in, (uint64_t)len);
		process(c, (struct span){buf->base, (size_t)len});
	} else if (len == UV_EOF && reads_requests(c) && c->outq.bytes > 0) {
		/* A peer that has shut its side is answered all the same. */
		conn_note_end(c, ENDING_done);
		conn_finish(c);
	} else if (len == UV_EOF && c->state == CONN_FINISHING) {
		conn_mark_dirty(c); /* what is queued is still written */
	} else if (len < 0) {
		conn_abort(c, ENDING_peer_gone);
	}
}

void conn_start_reading(struct conn *c)
{
	c->is_paused = false;
	c->is_resumed = false;
	if (uv_read_start(&c->stream, on_alloc, on_read) != 0)
		conn_end_later(c, ENDING_peer_gone);
}

void conn_pause_reading(struct conn *c)
{
	c->is_paused = true;
	uv_read_stop(&c->stream);
}

void conn_resume_reading(struct conn *c)
{
	struct buf bytes = c->stash;

	c->stash = (struct buf){0};
	conn_start_reading(c);
	process(c, (struct span){bytes.bytes, bytes.len});
	buf_fini(&bytes);
}

bool conn_may_read_on(const struct conn *c)
{
	if (!c->is_paused || c->is_held || c->state == CONN_PENDING)
		return false;
	return c->is_resumed || c->state == CONN_EVENT_STREAM ||
	       !has_too_many_answers(c);
}

/* --- pausing a WebSocket ------------------------------------------------ */

void conn_pause(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state == CONN_WEBSOCKET)
		c->is_held = true;
}

void conn_resume(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (!c->is_held)
		return;
	c->is_held = false;
	c->is_resumed = true;
	conn_mark_dirty(c);
}
