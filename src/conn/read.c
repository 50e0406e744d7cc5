/* read.c - what the peer sends: requests, then the frames of a WebSocket.
 *
 * Bytes are read into the group's one buffer. Bytes that can't be used at once
 * go to a stash, and nothing more is read until it is empty. That happens to
 * bytes behind a request that is answered later, behind more answers than the
 * peer reads, behind a message that paused the connection, and to all that
 * waits for its turn. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

/* A read is large if, together with an unfinished request or message of the
 * connection, it is more than this. It waits for its turn, unless it is the
 * first of the poll and nobody is in line: one publisher's burst is neither
 * copied nor put off. */
#define MUCH_BYTES 32768
/* Once the poll has taken CONN_ROUND_NS, a read waits if it is more than */
#define LITTLE_BYTES 4096
/* and, after as long again, in any case. The clock is read for one of so many
 * small reads. */
#define LITTLE_CLOCK 8

/* --- requests ----------------------------------------------------------- */

static void on_request_head(struct conn *c, bool has_more)
{
	const struct http_request *request = http_request(c->http);

	c->group->hooks->on_head(c, request);
	if (c->state == CONN_REQUEST && request->expects_continue && !has_more)
		conn_queue(c, SPAN("HTTP/1.1 100 Continue\r\n\r\n"));
}

static void on_whole_request(struct conn *c)
{
	stats_add(c->group->stats, STATS_requests, 1);
	c->has_asked = true;
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
	conn_note_end(c, CLOSE_REASON_bad_request);
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
		on_request_head(c, bytes->len > 0);
	else if (event == HTTP_REQUEST)
		on_whole_request(c);
	else if (event == HTTP_BAD)
		on_bad_request(c);
	return event;
}

/* --- frames ------------------------------------------------------------- */

static unsigned on_websocket_message(void *user, bool is_text,
				     struct span message)
{
	struct conn *c = user;
	c->is_overdue = false; /* if one is unfinished now, it is the next
				* one */
	/* A doomed connection answers no more messages. */
	if (c->state == CONN_WEBSOCKET && c->doomed == CLOSE_REASON_NONE)
		c->group->hooks->on_message(c, is_text, message);
	conn_count_unit(c);
	return c->reading == READING_HELD || conn_is_turn_over(c)
		       ? WEBSOCKET_PAUSE
		       : 0;
}

static void on_websocket_reply(void *user, struct span frame)
{
	struct conn *c = user;
	/* A doomed connection may lack an earlier answer. */
	if (c->state == CONN_WEBSOCKET && c->doomed == CLOSE_REASON_NONE)
		conn_queue(c, frame);
}

static const struct websocket_handler websocket_handler = {
	.on_message = on_websocket_message,
	.on_reply = on_websocket_reply,
};

static enum close_reason close_reason_of_code(unsigned code)
{
	switch (code) {
	case WEBSOCKET_INVALID_DATA:
		return CLOSE_REASON_bad_data;
	case WEBSOCKET_TOO_BIG:
		return CLOSE_REASON_too_big;
	case WEBSOCKET_INTERNAL_ERROR:
		return CLOSE_REASON_no_memory;
	default:
		return CLOSE_REASON_protocol;
	}
}

static struct websocket *borrow_websocket(struct conn *c)
{
	struct conn_group *g = c->group;

	if (c->websocket != NULL)
		return c->websocket;
	c->websocket = g->websocket_pooled > 0
			       ? g->websocket_pool[--g->websocket_pooled]
			       : websocket_new(g->limits.message_max_bytes);
	if (c->websocket != NULL)
		websocket_set_inflater(c->websocket,
				       framing_may_compress(conn_framing(c))
					       ? g->inflater
					       : NULL);
	return c->websocket;
}

static void on_peer_close(struct conn *c)
{
	conn_note_end(c, CLOSE_REASON_peer_closed);
	c->is_agreed = true;
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
}

static void count_inflated(struct conn_group *g)
{
	struct deflate_totals before = g->inflated;

	g->inflated = inflater_totals(g->inflater);
	if (g->inflated.messages == before.messages)
		return;
	stats_add(g->stats, STATS_inflated,
		  g->inflated.messages - before.messages);
	stats_add(g->stats, STATS_inflate_bytes_in,
		  g->inflated.bytes_in - before.bytes_in);
	stats_add(g->stats, STATS_inflate_bytes_out,
		  g->inflated.bytes_out - before.bytes_out);
}

static void read_frames(struct conn *c, struct span bytes)
{
	struct websocket *ws = borrow_websocket(c);
	if (ws == NULL) {
		conn_abort(c, CLOSE_REASON_no_memory);
		return;
	}
	struct websocket_result result =
		websocket_read(ws, bytes, &websocket_handler, c);
	if (framing_may_compress(conn_framing(c)))
		count_inflated(c->group);
	if (c->state == CONN_WEBSOCKET || c->state == CONN_CLOSING) {
		if (result.outcome == WEBSOCKET_CLOSED)
			on_peer_close(c);
		else if (result.outcome == WEBSOCKET_FAILED)
			conn_fail_websocket(c,
					    close_reason_of_code(result.code),
					    result.code, result.reason);
	}
	if (result.outcome == WEBSOCKET_CLOSED ||
	    result.outcome == WEBSOCKET_FAILED) {
		websocket_free(c->websocket);
		c->websocket = NULL;
		return;
	}
	if (websocket_is_idle(ws))
		conn_release_websocket(c);
	if (result.outcome != WEBSOCKET_PAUSED)
		return;
	conn_keep(c, result.unread);
	if (c->reading != READING_HELD)
		conn_get_in_line(c);
}

/* --- bytes -------------------------------------------------------------- */

/* Reads requests until the bytes are used up, the state changes, the turn is
 * over, or too many answers are unread: a few bytes may ask for many
 * answers. */
static void read_requests(struct conn *c, struct span *bytes)
{
	enum http_event event = HTTP_MORE;

	/* After a head there is more to tell, even without further bytes. */
	while (conn_reads_requests(c) &&
	       (bytes->len > 0 || event == HTTP_HEAD)) {
		event = read_request(c, bytes);
		if (event != HTTP_REQUEST)
			continue;
		conn_count_unit(c);
		if (conn_is_turn_over(c) || conn_has_too_many_answers(c))
			break;
	}
	if (!conn_reads_requests(c))
		return;
	if (conn_has_too_many_answers(c)) {
		conn_block(c, *bytes);
		return;
	}
	if (bytes->len > 0) {
		conn_keep(c, *bytes);
		conn_get_in_line(c);
	}
	conn_set_request_deadline(c);
}

/* Whether it has an unfinished request or message, which may grow. */
static bool is_collecting(const struct conn *c)
{
	return c->websocket != NULL || c->stash != NULL ||
	       (c->state == CONN_REQUEST && http_is_in_request(c->http));
}

/* Whether a connection may take more memory. While it is FULL, none may: idle
 * connections are many, and all of them were let in before. While it is SCARCE,
 * only trusted ones may, so that publishers' requests are still read. */
static bool may_take_memory(const struct conn *c)
{
	if (c->listener == LISTENER_ADMIN || memory_allows(MEMORY_FOR_REQUESTS))
		return true;
	if (c->is_trusted && !memory_allows(MEMORY_FOR_TRUSTED_REQUESTS))
		memory_measure(); /* memory may have been full for a moment
				   * only */
	return (c->is_trusted || c->reading == READING_BLOCKED) &&
	       memory_allows(MEMORY_FOR_TRUSTED_REQUESTS);
}

/* A publisher in the middle of its content is told to come back; the rest is
 * discarded, within its time. To close the connection would lose the answer: a
 * peer that is still sending gets a reset. */
static void refuse_content(struct conn *c)
{
	conn_respond_error(c, 503, "The server is out of memory",
			   "Retry-After: 1\r\n");
	http_release_content(c->http);
	conn_account(c);
}

static void account(struct conn *c)
{
	uint32_t before = c->charged;

	conn_account(c);
	if (c->charged <= before || !is_collecting(c) || may_take_memory(c))
		return;
	if (c->state == CONN_REQUEST && c->is_trusted && c->is_in_content) {
		refuse_content(c);
		return;
	}
	/* Nothing more is read from it, so its memory is freed at once: the
	 * next connection of this iteration may need as much. */
	if (c->state == CONN_WEBSOCKET)
		conn_fail_websocket(c, CLOSE_REASON_no_memory,
				    WEBSOCKET_INTERNAL_ERROR, NULL);
	else
		conn_abort(c, CLOSE_REASON_no_memory);
	conn_give_back(c);
}

/* Uses bytes by the state; in states that are not named they are dropped. A
 * WebSocket that was paused may go on without new bytes. */
static void process(struct conn *c, struct span bytes)
{
	conn_begin_turn(c);
	if (conn_reads_requests(c))
		read_requests(c, &bytes);
	if (c->state == CONN_PENDING)
		conn_block(c, bytes);
	else if (conn_reads_frames(c) &&
		 (bytes.len > 0 || c->websocket != NULL))
		read_frames(c, bytes);
	conn_end_turn(c);
	if (c->state != CONN_CLOSED)
		account(c);
}

static void take_stash_turn(struct stash *s)
{
	/* http_read() fills it in. */
	/* NOLINTNEXTLINE(clang-analyzer-core.*) */
	struct span bytes = {s->bytes + s->used, s->len - s->used};

	s->used = s->len; /* conn_keep() gives back what is left */
	process(s->conn, bytes);
}

void conn_group_take_turns(struct conn_group *g)
{
	struct list line;

	CHECK_ON_THREAD(g->owner);
	g->has_read = NULL;
	g->has_used_much = false;
	g->poll_until_ns = 0;
	g->poll_reads = 0;
	g->is_poll_over = false;
	if (list_is_empty(&g->line))
		return;
	list_init(&line);
	list_move_all(&line, &g->line);
	uint64_t until_ns = uv_hrtime() + CONN_ROUND_NS;
	do {
		struct stash *s = CONTAINER_OF(line.next, struct stash, link);
		list_remove(&s->link);
		take_stash_turn(s);
	} while (!list_is_empty(&line) && uv_hrtime() < until_ns);
	list_move_all(&g->line, &line);
}

/* Whether the poll has taken too long for a read of so many bytes. */
static bool is_poll_over_for(struct conn_group *g, size_t len)
{
	bool is_little = len <= LITTLE_BYTES;

	if (is_little && g->poll_reads++ % LITTLE_CLOCK != 0)
		return g->is_poll_over;
	uint64_t now_ns = uv_hrtime();
	if (g->poll_until_ns == 0)
		g->poll_until_ns = now_ns + CONN_ROUND_NS;
	g->is_poll_over = now_ns > g->poll_until_ns + CONN_ROUND_NS;
	return g->is_poll_over || (!is_little && now_ns > g->poll_until_ns);
}

/* Whether a large read is used at once. */
static bool may_use_much(const struct conn_group *g)
{
	return !g->has_used_much && list_is_empty(&g->line);
}

/* Whether a read waits for its turn: all large ones but one do, so that small
 * ones are handled soon, however many clients send much. Small ones do, too, if
 * there are so many that the poll would take long. */
static bool must_wait(const struct conn *c, size_t len)
{
	struct conn_group *g = c->group;
	size_t idle = sizeof *c + g->hooks->user_bytes;

	if (!conn_reads_requests(c) && !conn_reads_frames(c))
		return false; /* it is dropped */
	if (c->state == CONN_DISCARDING &&
	    !memory_allows(MEMORY_FOR_TRUSTED_REQUESTS))
		return false; /* no memory to wait with */
	if (len + (c->charged - idle) > MUCH_BYTES) {
		if (!may_use_much(g))
			return true;
		g->has_used_much = true;
	}
	return is_poll_over_for(g, len);
}

static void take_bytes(struct conn *c, struct span bytes)
{
	if (!must_wait(c, bytes.len)) {
		process(c, bytes);
		if (bytes.len >= CONN_READ_BYTES)
			c->group->has_read = c;
		return;
	}
	conn_keep(c, bytes);
	conn_get_in_line(c);
	account(c);
}

/* libuv goes on as long as reads fill the buffer, up to 32 times, unless there
 * is none (uv_alloc_cb); the rest comes in the next iteration. */
void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, handle);
	struct conn_group *g = c->group;
	unsigned len = may_use_much(g) ? CONN_BURST_BYTES : CONN_READ_BYTES;

	(void)suggested;
	*buf = uv_buf_init(g->read_buffer, g->has_read == c ? 0 : len);
}

void conn_on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(stream, struct conn, stream);

	CHECK_ON_THREAD(c->group->owner);
	if (len == UV_ENOBUFS)
		return; /* conn_on_alloc() gave none */
	if (len > 0) {
		c->was_heard = true;
		stats_add(c->group->stats, STATS_bytes_in, (uint64_t)len);
		take_bytes(c, (struct span){buf->base, (size_t)len});
	} else if (len == UV_EOF && conn_reads_requests(c) &&
		   c->outq.bytes > 0) {
		/* A peer that has shut its side is answered all the same. */
		conn_note_end(c, CLOSE_REASON_done);
		conn_finish(c);
	} else if (len == UV_EOF && c->state == CONN_FINISHING) {
		conn_mark_dirty(c); /* what is queued is still written */
	} else if (len < 0) {
		conn_abort(c, CLOSE_REASON_peer_gone);
	}
}
