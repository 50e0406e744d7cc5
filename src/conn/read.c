/* read.c - what the peer sends: requests, then the frames of a WebSocket.
 *
 * Bytes are read into the group's one buffer. What is not used up at once goes
 * to a stash, and nothing is read until that is empty: what lay behind a
 * request that is answered later, behind more answers than the peer reads,
 * behind a message that paused, and whatever has to wait for its turn. */
#include "base/check.h"
#include "base/memory.h"
#include "conn/private.h"

#include <stdlib.h>

/* A turn ends after so many requests and messages, */
#define TURN_UNITS 64
/* or after so long; looked at now and then only, since short turns are many. */
#define TURN_NS    1000000
#define TURN_CLOCK 8
/* What was just read gets in line if, with what the connection has of an
 * unfinished request or message, it is more than */
#define MUCH_BYTES 32768
/* or, once the poll has been at it for CONN_ROUND_NS, more than */
#define LITTLE_BYTES 4096
/* or, after as long again, whatever it is. The clock is looked at for one of so
 * many little reads. */
#define LITTLE_CLOCK 8

/* --- the reading side --------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

/* The drawing of private.h as a table: a bit for each state that may follow. */
#define TO(reading) (1u << READING_##reading)
static const unsigned allowed[READING_COUNT] = {
	[READING_NOT_BEGUN] = TO(FLOWING),
	[READING_FLOWING] = TO(IN_LINE) | TO(BLOCKED) | TO(HELD),
	[READING_IN_LINE] = TO(FLOWING) | TO(BLOCKED) | TO(HELD),
	[READING_BLOCKED] = TO(FLOWING) | TO(IN_LINE),
	[READING_HELD] = TO(FLOWING) | TO(IN_LINE),
};

static void move_reading(struct conn *c, enum conn_reading to)
{
	CHECK(allowed[c->reading] & (1u << to));
	if (c->reading == READING_FLOWING)
		uv_read_stop(&c->stream);
	c->reading = (uint8_t)to;
	if (to == READING_FLOWING &&
	    uv_read_start(&c->stream, on_alloc, on_read) != 0)
		conn_end_later(c, ENDING_peer_gone);
}

void conn_start_reading(struct conn *c)
{
	move_reading(c, READING_FLOWING);
}

void conn_restart_reading(struct conn *c)
{
	conn_drop_stash(c);
	conn_account(c);
	if (c->reading == READING_FLOWING)
		move_reading(c, READING_IN_LINE);
	move_reading(c, READING_FLOWING);
}

/* Keeps bytes for later; until then nothing is read. In a turn of the stash's
 * own they are the end of it. */
static void keep(struct conn *c, struct span bytes)
{
	struct stash *s = c->stash;

	/* A WebSocket may have read ahead. */
	if (bytes.len == 0 && c->websocket == NULL) {
		conn_drop_stash(c);
		return;
	}
	if (s != NULL) {
		s->used = s->len - bytes.len;
		return;
	}
	s = malloc(sizeof *s + bytes.len);
	if (s == NULL) {
		conn_end_later(c, ENDING_no_memory);
		return;
	}
	*s = (struct stash){.conn = c, .len = bytes.len};
	list_init(&s->link);
	if (bytes.len > 0)
		memcpy(s->bytes, bytes.bytes, bytes.len);
	c->stash = s;
}

size_t conn_stash_memory(const struct conn *c)
{
	return c->stash == NULL ? 0 : sizeof *c->stash + c->stash->len;
}

void conn_drop_stash(struct conn *c)
{
	if (c->stash == NULL)
		return;
	list_remove(&c->stash->link);
	free(c->stash);
	c->stash = NULL;
}

/* --- turns -------------------------------------------------------------- */

static void begin_turn(struct conn *c)
{
	c->group->turn = (struct conn_turn){.conn = c};
}

/* A request or a message was handled. */
static void count_unit(struct conn *c)
{
	struct conn_turn *turn = &c->group->turn;

	turn->units++;
	if (turn->units >= TURN_UNITS)
		turn->is_over = true;
	if (turn->units % TURN_CLOCK != 0)
		return;
	uint64_t now_ns = uv_hrtime();
	if (turn->until_ns == 0)
		turn->until_ns = now_ns + TURN_NS;
	if (now_ns > turn->until_ns)
		turn->is_over = true;
}

static bool is_turn_over(const struct conn *c)
{
	return c->group->turn.is_over;
}

/* Its turn comes in the next iteration: for what it has in the stash, and if
 * that is nothing, for what the kernel has. */
static void get_in_line(struct conn *c)
{
	if (c->reading != READING_IN_LINE)
		move_reading(c, READING_IN_LINE);
	if (c->stash != NULL)
		list_append(&c->group->line, &c->stash->link);
	else
		move_reading(c, READING_FLOWING);
}

static bool is_in_line(const struct conn *c)
{
	return c->stash != NULL && !list_is_empty(&c->stash->link);
}

/* All was used, unless it waits for something. */
static void end_turn(struct conn *c)
{
	c->group->turn = (struct conn_turn){0};
	if (c->state == CONN_CLOSED || c->reading != READING_IN_LINE ||
	    is_in_line(c))
		return;
	conn_drop_stash(c);
	move_reading(c, READING_FLOWING);
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

static unsigned on_message(void *user, bool is_text, struct span message)
{
	struct conn *c = user;
	c->is_overdue = false; /* it is another that may be unfinished now */
	/* One that is to be ended has no answer to expect. */
	if (c->state == CONN_WEBSOCKET && c->doomed == ENDING_NONE)
		c->group->hooks->on_message(c, is_text, message);
	count_unit(c);
	return c->reading == READING_HELD || is_turn_over(c) ? WEBSOCKET_PAUSE
							     : 0;
}

static void on_reply(void *user, struct span frame)
{
	struct conn *c = user;
	/* One that is to be ended may lack the answer before this one. */
	if (c->state == CONN_WEBSOCKET && c->doomed == ENDING_NONE)
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
	if (websocket_is_idle(ws))
		conn_release_websocket(c);
	if (result.outcome != WEBSOCKET_PAUSED)
		return;
	keep(c, result.unread);
	if (c->reading != READING_HELD)
		get_in_line(c);
}

/* --- bytes -------------------------------------------------------------- */

static void block(struct conn *c, struct span bytes)
{
	keep(c, bytes);
	move_reading(c, READING_BLOCKED);
	conn_set_request_deadline(c);
}

static bool reads_requests(const struct conn *c)
{
	return c->state == CONN_REQUEST || c->state == CONN_DISCARDING;
}

static bool reads_frames(const struct conn *c)
{
	return c->state == CONN_WEBSOCKET || c->state == CONN_CLOSING;
}

static bool has_too_many_answers(const struct conn *c)
{
	return c->outq.bytes > CONN_HIGH_WATER_BYTES;
}

/* Reads requests until the bytes are used up, the state is another, the turn is
 * over, or too many answers are unread: a few bytes may ask for many. */
static void read_requests(struct conn *c, struct span *bytes)
{
	enum http_event event = HTTP_MORE;

	/* After a head there is more to tell, even without further bytes. */
	while (reads_requests(c) && (bytes->len > 0 || event == HTTP_HEAD)) {
		event = read_request(c, bytes);
		if (event != HTTP_REQUEST)
			continue;
		count_unit(c);
		if (is_turn_over(c) || has_too_many_answers(c))
			break;
	}
	if (!reads_requests(c))
		return;
	if (has_too_many_answers(c)) {
		block(c, *bytes);
		return;
	}
	if (bytes->len > 0) {
		keep(c, *bytes);
		get_in_line(c);
	}
	conn_set_request_deadline(c);
}

/* Whether it has something unfinished, that may grow. */
static bool is_collecting(const struct conn *c)
{
	return c->websocket != NULL || c->stash != NULL ||
	       (c->state == CONN_REQUEST && http_is_in_request(c->http));
}

/* Where memory is full, whoever takes more of it goes: connections that were
 * idle are many, and were all let in before. Those that may be nobody's go
 * where it is scarce, so that publishers' requests are still read. */
static bool may_take_memory(const struct conn *c)
{
	enum memory_level level = memory_level();

	if (level < MEMORY_SCARCE || c->listener == LISTENER_ADMIN)
		return true;
	return level == MEMORY_SCARCE &&
	       (c->is_trusted || c->reading == READING_BLOCKED);
}

static void account(struct conn *c)
{
	uint32_t before = c->charged;

	conn_account(c);
	if (c->charged <= before || !is_collecting(c) || may_take_memory(c))
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
	conn_drop_stash(c);
	conn_account(c);
}

/* Hands bytes to whom they are for in this state; in those that are not named,
 * what still comes is dropped. A WebSocket that was paused may go on without
 * any.
 */
static void process(struct conn *c, struct span bytes)
{
	begin_turn(c);
	if (reads_requests(c))
		read_requests(c, &bytes);
	if (c->state == CONN_PENDING)
		block(c, bytes);
	else if (reads_frames(c) && (bytes.len > 0 || c->websocket != NULL))
		read_frames(c, bytes);
	end_turn(c);
	if (c->state != CONN_CLOSED)
		account(c);
}

static void take_turn(struct stash *s)
{
	/* http_read() fills it in. */
	/* NOLINTNEXTLINE(clang-analyzer-core.*) */
	struct span bytes = {s->bytes + s->used, s->len - s->used};

	s->used = s->len; /* keep() gives back what is left */
	process(s->conn, bytes);
}

void conn_group_take_turns(struct conn_group *g)
{
	struct list line;

	CHECK_ON_THREAD(g->owner);
	g->has_read = NULL;
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
		take_turn(s);
	} while (!list_is_empty(&line) && uv_hrtime() < until_ns);
	list_move_all(&g->line, &line);
}

/* Whether the time of this poll is up for a read of so many bytes. */
static bool is_too_late(struct conn_group *g, size_t len)
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

/* Whether what was just read has to wait for its turn: much does, so that what
 * little others send is handled soon, however many send much; and little, too,
 * where there are so many that the poll would take long. */
static bool must_wait(const struct conn *c, size_t len)
{
	const struct conn_group *g = c->group;
	size_t idle = sizeof *c + g->hooks->user_bytes;

	if (!reads_requests(c) && !reads_frames(c))
		return false; /* it is dropped */
	if (len + (c->charged - idle) > MUCH_BYTES)
		return true;
	return is_too_late(c->group, len);
}

static void take(struct conn *c, struct span bytes)
{
	if (!must_wait(c, bytes.len)) {
		process(c, bytes);
		if (bytes.len == CONN_READ_BYTES)
			c->group->has_read = c;
		return;
	}
	keep(c, bytes);
	get_in_line(c);
	account(c);
}

/* libuv goes on as long as reads fill the buffer, up to 32 times, unless there
 * is none (uv_alloc_cb); the rest comes in the next iteration. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(handle, struct conn, handle);
	bool had_its_turn = c->group->has_read == c;

	(void)suggested;
	*buf = uv_buf_init(c->group->read_buffer,
			   had_its_turn ? 0 : CONN_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct conn *c = CONTAINER_OF(stream, struct conn, stream);

	CHECK_ON_THREAD(c->group->owner);
	if (len == UV_ENOBUFS)
		return; /* on_alloc() gave none */
	if (len > 0) {
		c->was_heard = true;
		stats_add(c->group->stats, STATS_bytes_in, (uint64_t)len);
		take(c, (struct span){buf->base, (size_t)len});
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

/* Whether what it was blocked for is over. */
static bool may_read_on(const struct conn *c)
{
	if (reads_requests(c))
		return !has_too_many_answers(c);
	return c->state != CONN_PENDING;
}

void conn_unblock(struct conn *c)
{
	if (c->reading == READING_BLOCKED && may_read_on(c))
		get_in_line(c);
}

/* --- pausing a WebSocket ------------------------------------------------ */

void conn_pause(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state != CONN_WEBSOCKET || c->reading == READING_HELD)
		return;
	if (is_in_line(c))
		list_remove(&c->stash->link);
	move_reading(c, READING_HELD);
}

void conn_resume(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->reading != READING_HELD)
		return;
	if (c->group->turn.conn == c)
		move_reading(c, READING_IN_LINE); /* its turn goes on */
	else
		get_in_line(c);
}
