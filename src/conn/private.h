/* private.h - the inside of a connection, for the files of its room, from the
 * bottom up; each uses only those above it here:
 *
 * chunk.c     bytes that wait to be written, shared
 * outq.c      the queue of one connection
 * deadline.c  time-outs
 * progress.c  whether the peer takes what it is sent
 * conn.c      states, deadline, place, memory
 * reading.c   the reading side: its states, the stash, turns
 * close.c     why it ended is noted; the handle is closed
 * write.c     the queue is filled, and written
 * respond.c   answers to requests
 * handshake.c the opening handshake
 * stream.c    event streams: their beginning, keep-alive, end
 * end.c       how the peer is told of the end
 * end_all.c   all connections are ended, or some
 * laggards.c  those that do not read are ended
 * room.c      one is ended for another to come
 * read.c      bytes from the peer: requests, then frames
 * flush.c     what each iteration writes and ends
 * group.c     all of a loop
 */
#ifndef ISIMUD_CONN_PRIVATE_H
#define ISIMUD_CONN_PRIVATE_H

#include "conn/conn.h"

#include <stdalign.h>

/* The reading side of a connection that is not CLOSED; reading.c's
 * move_reading() moves it, and nothing else.
 *
 *        +------------- all is used ---------------+
 *        v                                         |
 *     FLOWING --- much came, or the turn is over -> IN_LINE <--+
 *        |                                         |   ^       |
 *        +-- more answers than are read, or -------+-> BLOCKED |
 *        |   one that is given later               |   written |
 *        +-- conn_pause() -------------------------+-> HELD ---+
 *                                                 conn_resume() */
enum conn_reading {
	READING_NOT_BEGUN,
	READING_FLOWING, /* libuv reads */
	READING_IN_LINE, /* what is in the stash waits for its turn */
	READING_BLOCKED, /* behind a request that is not answered yet, or behind
			  * answers that the peer has not read */
	READING_HELD,    /* by conn_pause() */
	READING_COUNT,
};

/* Bytes that were read and are not used yet. There is a stash only while
 * reading does not flow, and only if bytes are left. */
struct stash {
	struct list link; /* in group->line, or in none */
	struct conn *conn;
	size_t len;
	size_t used;
	char bytes[];
};

/* One connection, from accept to the uv_close() callback that frees it. Owner:
 * the loop thread of its group. An idle subscriber has this and nothing more,
 * so every byte counts: state that is needed only for a while is behind a
 * pointer. */
struct conn {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp; /* a Unix socket, too: libuv does not ask */
		struct conn_group *group; /* handle.data, which is ours */
	};
	struct list link;  /* in group->conns */
	struct list dirty; /* in group->answering, group->dirty, or in none */
	struct deadline deadline;
	struct outq outq;
	struct http *http; /* until it is a WebSocket or an event stream */
	struct websocket
		*websocket;         /* while a frame or message is unfinished */
	struct conn_write *writing; /* a write that waits for the kernel */
	struct stash *stash; /* what was read and not used; NULL: nothing */
	uint32_t charged;    /* memory.h: for what this connection holds */
	/* Bytes, modulo 2^32: taken by the kernel in writes that are done;
	 * acknowledged by the peer when progress was last looked at;
	 * acknowledged when speed was last judged. */
	uint32_t handed;
	uint32_t seen;
	uint32_t judged_at;
	uint8_t state;         /* enum conn_state */
	uint8_t reading;       /* enum conn_reading */
	uint8_t deadline_kind; /* enum deadline_kind; DEADLINE_KINDS: the one
				  set, if any, is to be replaced */
	uint8_t doomed; /* enum close_reason: what the next flush ends it with
			 */
	uint8_t why;    /* enum close_reason: why it ended, once it has */
	uint8_t pings_missed : 4; /* at most limits.ping_misses_max */
	uint8_t listener : 2;     /* enum listener_kind */
	bool was_heard : 1;       /* since the last ping */
	bool has_ended : 1;       /* on_end was called */
	bool is_in_content : 1; /* of a request; else in its head, or between */
	bool is_agreed : 1;  /* Close was sent and received (RFC 6455 7.1.1) */
	bool is_overdue : 1; /* a message is unfinished since the last ping */
	bool wants_room : 1; /* conn_wait_for_room() was called */
	bool was_behind : 1; /* something was unsent at the last ping */
	bool is_judged : 1;  /* something was at `judged_at`, and since */
	uint8_t framing : 3; /* enum framing, of what it is sent once open */
	bool has_place : 1;  /* is counted in group->subscribers */
	bool is_trusted : 1; /* conn_trust() was called */
	bool has_asked : 1;  /* a whole request has come */
	bool is_marked : 1;  /* conn_mark() was called */
	alignas(max_align_t) char user[];
};

_Static_assert(offsetof(uv_handle_t, data) == 0, "data is the first member");

/* A write that the kernel had no room for; lives until its callback. */
struct conn_write {
	uv_write_t request;
	struct conn *conn;
	struct list link; /* in group->stalled */
	size_t bytes;
	uint32_t chunks;     /* of outq, which it covers */
	size_t kernel_bytes; /* charged for what the kernel holds */
	/* If memory has a limit: what the peer had acknowledged when
	 * conn_group_relieve() last looked, and since when, on the loop's
	 * clock, that has not grown. */
	uint32_t acknowledged;
	uint64_t since_ms;
};

/* While a connection has more unwritten responses than that, its requests
 * wait. */
#define CONN_HIGH_WATER_BYTES 65536

/* Whether it is a WebSocket or an event stream that can be sent to. */
static inline bool conn_is_open(const struct conn *c)
{
	return c->state == CONN_WEBSOCKET || c->state == CONN_EVENT_STREAM;
}

/* About the memory that the kernel has for a connection besides its bytes: the
 * socket, its file, their entries in tables. Measured, and rounded up. */
#define KERNEL_CONN_BYTES 4096

static inline bool conn_reads_requests(const struct conn *c)
{
	return c->state == CONN_REQUEST || c->state == CONN_DISCARDING;
}

static inline bool conn_reads_frames(const struct conn *c)
{
	return c->state == CONN_WEBSOCKET || c->state == CONN_CLOSING;
}

static inline bool conn_has_too_many_answers(const struct conn *c)
{
	return c->outq.bytes > CONN_HIGH_WATER_BYTES;
}

/* How many chunks of outq a write covers that waits for the kernel. */
static inline uint32_t conn_in_flight(const struct conn *c)
{
	return c->writing == NULL ? 0 : c->writing->chunks;
}

/* The bytes of memory that the stash has. */
static inline size_t conn_stash_memory(const struct conn *c)
{
	return c->stash == NULL ? 0 : sizeof *c->stash + c->stash->len;
}

#define CONN_ROUND_CLOCK 16 /* connections between looks at the clock */

/* Whether a round over connections has taken CONN_ROUND_NS, before the one that
 * is number `done`, from 1 on. `*until_ns` is when that is; or 0, if the round
 * begins with the first look at the clock. That costs as much as queueing, so
 * it is looked at only now and then. */
static inline bool conn_is_time_up(unsigned done, uint64_t *until_ns)
{
	if (done % CONN_ROUND_CLOCK != 0)
		return false;
	uint64_t now_ns = uv_hrtime();
	if (*until_ns == 0)
		*until_ns = now_ns + CONN_ROUND_NS;
	return now_ns > *until_ns;
}

/* --- progress.c --- */

struct conn_progress {
	bool is_behind; /* the peer has not acknowledged all */
	bool has_moved; /* it has acknowledged some since the last look */
	size_t waiting; /* bytes that it has not acknowledged, or not got */
};
struct conn_progress conn_look_at_progress(struct conn *c);
/* After a deadline: whether there is something that the peer still has to take,
 * and it has taken some since the last look. */
bool conn_takes_its_time(struct conn *c);
/* Bytes that the peer has acknowledged, modulo 2^32. */
uint32_t conn_acknowledged(const struct conn *c);

/* --- conn.c --- */

void conn_move(struct conn *c, enum conn_state to);
void conn_set_deadline(struct conn *c, enum deadline_kind kind);
/* Sets the deadline that a connection with requests needs now, or none. */
void conn_set_request_deadline(struct conn *c);
/* Debug builds check that the connection has an end: outside of its turns and
 * flushes each has a deadline, unless it is PENDING, which the hooks end, or
 * CLOSED. */
void conn_check_deadline(const struct conn *c);
void conn_mark_dirty(struct conn *c);
/* Charges what it holds now. */
void conn_account(struct conn *c);
/* Counts it as a subscriber, whatever the limit; nothing happens if it is
 * one. */
void conn_have_place(struct conn *c);
void conn_release_http(struct conn *c);
void conn_release_websocket(struct conn *c);

/* --- reading.c --- */

void conn_start_reading(struct conn *c);
/* Drops the stash, and reads on from the kernel. */
void conn_restart_reading(struct conn *c);
/* Keeps unused bytes in the stash; nothing more is read until it is empty. In
 * the stash's own turn, `bytes` are its end. Without memory the connection is
 * doomed. */
void conn_keep(struct conn *c, struct span bytes);
void conn_drop_stash(struct conn *c);
/* A turn: from conn_begin_turn() to conn_end_turn(). */
void conn_begin_turn(struct conn *c);
/* A request or a message was handled. */
void conn_count_unit(struct conn *c);
bool conn_is_turn_over(const struct conn *c);
void conn_end_turn(struct conn *c);
/* Gives it a turn in the next iteration, for its stash; without a stash it
 * reads on from the kernel. */
void conn_get_in_line(struct conn *c);
/* Keeps bytes that came behind a request that is not answered yet, or behind
 * answers that are not read, and reads no more. */
void conn_block(struct conn *c, struct span bytes);
/* Puts one that is BLOCKED in line, if what it waited for is over. */
void conn_unblock(struct conn *c);
/* Whether there are unused bytes of a request, here or in the kernel. */
bool conn_has_unread(const struct conn *c);

/* --- close.c --- */

struct conn_close_reason {
	const char *name;
	unsigned code; /* of Close; 0: it is closed without */
	const char *reason;
};
extern const struct conn_close_reason conn_close_reasons[CLOSE_REASON_COUNT];

/* Notes why it ends, once, and calls on_end. */
void conn_note_end(struct conn *c, enum close_reason why);
/* Notes the end, and closes the handle now; what is queued is lost. */
void conn_abort(struct conn *c, enum close_reason why);
/* Frees at once all that a connection holds that will not read any more. Not
 * inside a call of its parser. */
void conn_give_back(struct conn *c);
/* No more requests: what is queued is written, then our side is shut. */
void conn_finish(struct conn *c);

/* --- write.c --- */

/* Queues a copy; without memory the connection is doomed. */
void conn_queue(struct conn *c, struct span bytes);
/* Queues a copy of a unit in the connection's framing; of an event stream,
 * nothing if it is empty. `is_last`: no other follows. Returns 0 or UV_ENOMEM.
 */
int conn_queue_unit(struct conn *c, struct span unit, bool is_last);
void conn_set_framing(struct conn *c, enum framing framing);
/* Writes as much as the kernel takes. Returns 0 or a UV_E…. */
int conn_write_queued(struct conn *c);

/* --- respond.c --- */

/* Queues an answer to the current request, with the hooks' fields. */
void conn_queue_response(struct conn *c, struct http_response *response);
/* Answers and ends the connection, whatever the request says. */
void conn_respond_last(struct conn *c, int status, const char *text);
/* An answer that is to be late (conn_respond_late) is sent by the next flush.
 */
void conn_send_late(struct conn *c);

/* --- stream.c --- */

/* The line that keeps an event stream alive; NULL without memory. */
struct chunk *conn_new_keep_alive(enum framing framing);
/* DEADLINE_PING of an event stream has come. */
void conn_keep_alive(struct conn *c);
/* Tells an event stream's client why it ends, and finishes. */
void conn_end_stream(struct conn *c, enum close_reason why, unsigned code,
		     const char *reason);

/* --- end.c --- */

/* Fails a WebSocket (RFC 6455 7.1.7): Close with `code`, unless one was sent,
 * and no more reading. */
void conn_fail_websocket(struct conn *c, enum close_reason why, unsigned code,
			 const char *reason);

/* --- end_all.c --- */

/* Ends more of the connections that are still to be ended, for CONN_ROUND_NS.
 */
void conn_group_go_on_ending(struct conn_group *g);

/* --- read.c: what libuv calls --- */

void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
void conn_on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

#endif
