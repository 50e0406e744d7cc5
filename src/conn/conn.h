/* conn.h - one client connection, from accept to close.
 *
 *                  +-- keep-alive --+
 *                  v                |
 *   accepted --> REQUEST -------> PENDING ------+-----> WEBSOCKET
 *                 |  ^ answered     |           |          | Close sent
 *                 v  | at the head  |           v          v
 *              DISCARDING           |      EVENT_STREAM  CLOSING
 *                 |            last |           | last     | Close
 *                 |        response v           | block    | received
 *                 +------------> FINISHING <----+----------+
 *                                   | all is written
 *   from any state to CLOSED:       v
 *   the peer is gone,            LINGERING
 *   or took too long                | the peer's end
 *                                   +--> CLOSED
 *
 * What requests and messages mean is the business of the hooks; this room reads
 * them, writes what it is given, and ends the connection one way or another
 * (close_reasons.h). Connections with something to write are marked, and
 * conn_group_flush() writes them, once per iteration of the loop; inside a call
 * that is done only where a queue got too long (conn_write_now).
 *
 * Threads: a connection, and a group, belong to one loop's thread for life; no
 * other may touch them. */
#ifndef ISIMUD_CONN_CONN_H
#define ISIMUD_CONN_CONN_H

#include "base/log.h"
#include "codec/deflate.h"
#include "codec/framing.h"
#include "codec/http/http.h"
#include "codec/websocket.h"
#include "config/listener.h"
#include "conn/chunk.h"
#include "conn/deadline.h"
#include "conn/outq.h"
#include "stats/close_reasons.h"
#include "stats/stats.h"

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <uv.h>

enum conn_state {
	CONN_REQUEST,    /* reading a request, or waiting for one */
	CONN_DISCARDING, /* answered already; reading the rest of the request */
	CONN_PENDING,    /* a hook answers later; nothing is read */
	CONN_WEBSOCKET,  /* open (RFC 6455 4.2.2) */
	CONN_EVENT_STREAM, /* an answer that goes on: Server-Sent Events */
	CONN_CLOSING,      /* Close is sent, the peer's is awaited (7.1.2) */
	CONN_FINISHING, /* the last bytes are queued; what comes is dropped */
	CONN_LINGERING, /* our side is shut; waiting for the peer's end */
	CONN_CLOSED,    /* uv_close() called */
	CONN_STATES,
};

struct conn;

#define CONN_FIELDS_MAX 8 /* of a line of the log, from conn_hooks.describe */

/* What the connections of a group are for. Called on the group's thread. No
 * hook may close the group. */
struct conn_hooks {
	size_t user_bytes; /* of conn_user(), zeroed at the start */

	/* The head of a request is there. To refuse its content, answer with
	 * conn_respond(). */
	void (*on_head)(struct conn *c, const struct http_request *request);

	/* A request is complete. Exactly one conn_respond(), conn_upgrade() or
	 * conn_stream() must follow, now or later; until then nothing more is
	 * read. The request stays valid until then; its content, until this
	 * call returns. */
	void (*on_request)(struct conn *c, const struct http_request *request);

	/* Returns further field lines, each with its CR LF, for an answer to
	 * the current request (any but 101, our own errors included), or NULL.
	 * They live until the next call. `request` is NULL if the head could
	 * not be read. May be NULL. */
	const char *(*fields)(struct conn *c,
			      const struct http_request *request,
			      struct span origin);

	/* A message came; it is borrowed. May call conn_end() and
	 * conn_pause(). */
	void (*on_message)(struct conn *c, bool is_text, struct span message);

	/* There is room, for which conn_wait_for_room() asked. May send as long
	 * as conn_has_room() holds, and call conn_wait_for_room() for the rest:
	 * it is called again after the other connections of this flush, or,
	 * once that has taken CONN_ROUND_NS, in the next iteration. May be NULL
	 * if conn_wait_for_room() is never called. */
	void (*on_room)(struct conn *c);

	/* The server ends while a request is PENDING, or a WebSocket is open:
	 * whether something will be answered soon all the same, since it can't
	 * be taken back. A WebSocket then stays open, until the hooks have
	 * answered and end it. May be NULL. */
	bool (*is_committed)(struct conn *c);

	/* The server ends while a request is PENDING that is not committed;
	 * on_end() was called. Answers it by conn_stream() and conn_end(), or
	 * returns false: then it is answered 503. May be NULL. */
	bool (*on_leaving)(struct conn *c);

	/* Fields for a line of the log: whose it is, what it has subscribed
	 * to. Returns how many were written, CONN_FIELDS_MAX at most; their
	 * texts live as long as the connection is unchanged. May be NULL. */
	size_t (*describe)(struct conn *c,
			   struct log_field fields[static CONN_FIELDS_MAX]);

	/* The connection ends: nothing more will come, and nothing can be sent.
	 * Called exactly once, while it is still whole. */
	void (*on_end)(struct conn *c);
};

/* Limits, fixed for a group. */
struct conn_limits {
	size_t body_max_bytes;      /* of a request's content */
	size_t message_max_bytes;   /* of a WebSocket message from a client */
	size_t buffered_max_bytes;  /* unsent, behind the message that is being
				     * written; a WebSocket or an event stream
				     * above it ends with CLOSE_REASON_slow */
	size_t tcp_subscribers_max; /* see conn_take_place() */
	size_t subscribers_max;
	unsigned ping_misses_max; /* up to 15: pings without a sign of life:
				     bytes, or progress in what waited before */
	/* A connection that has something to write all through a window must
	 * take this many bytes a second, or ends with CLOSE_REASON_slow. 0: no
	 * limit. */
	uint64_t speed_min;
	uint64_t speed_window_ms;
	bool compresses; /* permessage-deflate and gzip, where clients want it
			  */
	uint64_t durations_ms[DEADLINE_KINDS];
};

#define CONN_READ_BYTES 65536 /* read at once from a connection */
/* The same while no large read has come in a poll, and nobody waits: two bursts
 * of a publisher, delivered together. */
#define CONN_BURST_BYTES (2 * CONN_READ_BYTES)
#define CONN_ROOM_BYTES  65536 /* waiting to be written: see conn_has_room() */
#define CONN_PEER_MAX    46    /* characters of an address, and a NUL */
/* The time for turns, and for each list of a flush, in one iteration. */
#define CONN_ROUND_NS 5000000

/* The turn of one connection: requests, or messages of a WebSocket, that it
 * handles before the next connection's turn. */
struct conn_turn {
	const struct conn *conn; /* NULL: none is under way */
	unsigned units;          /* requests and messages so far */
	uint64_t until_ns;       /* 0: not yet known */
	bool is_over;
};

/* All connections of one loop, and what they share. */
struct conn_group {
	uv_loop_t *loop;
	uv_thread_t owner;
	const struct conn_hooks *hooks;
	void *context; /* the hooks' own; conn_group_of(c)->context */
	struct conn_limits limits;
	struct stats *stats;
	uv_alloc_cb on_alloc; /* read.c's, for reading.c */
	uv_read_cb on_read;
	struct deadlines deadlines;
	struct list conns;     /* all that are not CLOSED, by conn->link: first
				  those of LISTENER_ADMIN */
	struct list line;      /* those that wait for their turn, by
				* stash->link */
	struct conn_turn turn; /* the one under way */
	const struct conn *has_read; /* the connection that has just filled the
				      * buffer */
	uint64_t judged_ms;          /* when conn_group_judge_speed() last
				      * looked */
	uint64_t poll_until_ns;      /* after it, large reads wait for a turn;
				      * 0: not yet known */
	unsigned poll_reads;         /* small reads in this poll */
	bool is_poll_over;           /* all reads wait for a turn */
	bool has_used_much;          /* large reads wait for a turn */
	struct list stalled;         /* writes that wait for the kernel, by
				      * conn_write->link */
	struct list answering; /* those with something to write, or to end */
	struct list dirty;     /* the same of open WebSockets and streams */
	uv_idle_t idle;        /* active while one of those lists is not
				* empty */
	struct chunk *ping;    /* the encoded Ping, shared by all */
	struct chunk *keep_alive[FRAMINGS]; /* the same for event streams
					       (sse.h), by their framing */
	struct http *http_pool[32];         /* for the next connections */
	unsigned http_pooled;
	struct websocket *websocket_pool[8];
	unsigned websocket_pooled;
	struct inflater *inflater;      /* what all of them inflate with; NULL
					   unless limits.compresses */
	struct deflate_totals inflated; /* of that, as far as it is counted */
	struct buf out; /* scratch: the response being encoded */
	time_t date_at; /* the second that `date` shows */
	char date[32];
	uint64_t keep_alive_s;         /* time-out that answers promise; 0:
					* none */
	size_t states[CONN_STATES];    /* connections in each state */
	size_t others[LISTENER_KINDS]; /* those without a place of a subscriber,
					* by door */
	bool is_draining;              /* answers end their connections */
	bool is_aborting;              /* by conn_group_abort_all() */
	size_t to_end; /* connections that the flushes still have to end */
	size_t count;  /* connections whose memory is not freed yet */
	/* Called after each descriptor that was closed; may be NULL. */
	void (*on_closed)(struct conn_group *g, enum listener_kind kind);
	/* Subscribers by door, of all groups that share the array. Atomic. */
	_Atomic size_t *subscribers;
	_Atomic size_t own_subscribers[LISTENER_KINDS]; /* for one alone */
	char read_buffer[CONN_BURST_BYTES];
};

/* Called on the loop's thread; `hooks`, `stats` and `context` are borrowed for
 * life. Returns 0 or a UV_E…. */
int conn_group_open(struct conn_group *g, uv_loop_t *loop,
		    const struct conn_hooks *hooks, void *context,
		    const struct conn_limits *limits, struct stats *stats);

/* Closes the handles and frees the pools; `count` must be 0. */
void conn_group_close(struct conn_group *g);

/* Gives each connection in line a turn, for CONN_ROUND_NS in all. Call it once
 * an iteration, before conn_group_flush(). No client makes the others wait:
 * from the poll comes at most one read a connection and iteration; a small one
 * is used at once, a large one waits for its turn if another has come before it
 * or waits already. */
void conn_group_take_turns(struct conn_group *g);

/* Writes what is queued, with one gathered write a connection, and carries out
 * the endings that were put off: first answers, for CONN_ROUND_NS, then
 * WebSockets and event streams, for as long. What is left then either waits for
 * the kernel, or makes conn_group_is_busy() true. */
void conn_group_flush(struct conn_group *g);

/* Whether work is left for the next iteration, which then comes without a
 * sleep. */
bool conn_group_is_busy(const struct conn_group *g);

/* Ends all connections, from the next flush on, in each for CONN_ROUND_NS:
 * WebSockets and event streams with CLOSE_REASON_going_away, the others without
 * a word. Requests that have begun to come, be it in the kernel, are answered
 * first, and then end their connections (`is_draining`). None may be opened
 * from now on. */
void conn_group_end_all(struct conn_group *g);

/* Ends up to `n` WebSockets and event streams with CLOSE_REASON_going_away, the
 * oldest first. Returns how many it ended. */
size_t conn_group_end_some(struct conn_group *g, size_t n);

/* The same, but closes them, whatever is still to be sent. */
void conn_group_abort_all(struct conn_group *g);

/* Whom conn_group_make_room() may end. */
enum conn_room {
	CONN_ROOM_TCP,    /* those of LISTENER_TCP */
	CONN_ROOM_CLIENT, /* those of all doors but the next */
	CONN_ROOM_ADMIN,  /* those of LISTENER_ADMIN */
};

/* Ends the least valuable connection (CLOSE_REASON_displaced), so that another
 * can come: never one with a place (conn_take_place()); a trusted one, or one
 * that has just asked for something, only if there is no other; and of several,
 * the one that has been quiet for longest; of LISTENER_ADMIN, if all of them
 * have just come or ask, one of the address that has the most. Its descriptor
 * is free on return.
 * Returns false if there is none. */
bool conn_group_make_room(struct conn_group *g, enum conn_room room);

/* How many connections it chooses from, whether it may end them or not. */
size_t conn_group_others(const struct conn_group *g, enum conn_room room);

/* Memory is TIGHT (memory.h): ends connections that have not read for some
 * time, with CLOSE_REASON_slow. SCARCE: also those that have the most unsent.
 * FULL: closes connections at once that are on their way out and do not read.
 * Call it again if that was not enough. */
void conn_group_relieve(struct conn_group *g);

/* Ends connections that are slower than speed_min. Call it now and then; it
 * looks once in speed_window_ms. */
void conn_group_judge_speed(struct conn_group *g);

/* How many connections are in each state, and the bytes they have queued. Walks
 * over all of them. */
void conn_group_count(const struct conn_group *g,
		      size_t states[static CONN_STATES], size_t *queued_bytes);

/* Bytes that the kernel has not taken: of all connections, and of the one that
 * has the most. */
struct conn_backlog {
	size_t bytes;
	size_t worst_bytes;
};
struct conn_backlog conn_group_backlog(const struct conn_group *g);

/* Takes over an accepted, non-blocking socket; closes it on failure. Returns 0
 * or a UV_E…. */
int conn_open(struct conn_group *g, struct accepted accepted);

struct conn_group *conn_group_of(const struct conn *c);
enum conn_state conn_state(const struct conn *c);

/* By which door it came. */
enum listener_kind conn_listener(const struct conn *c);

/* The peer's IP address as text; of an IPv4 client, without the mapping of RFC
 * 4291 2.5.5.2. "" for a Unix socket, and for a peer that is gone. */
void conn_peer(const struct conn *c, char out[static CONN_PEER_MAX]);

/* The hooks' own memory in the connection, `user_bytes` long. */
void *conn_user(struct conn *c);

/* One bit more that is the hooks' own: set for good, by the first. */
void conn_mark(struct conn *c);
bool conn_is_marked(const struct conn *c);

/* Takes a subscriber's place for a client that asks to become one. From now on
 * it counts as a subscriber, and is never ended to make room. It gives the
 * place back with its end, or when the request gets another answer. Over TCP
 * there are `tcp_subscribers_max` places for all groups that share
 * `subscribers`; by all doors, `subscribers_max`. Returns whether it has one.
 * conn_upgrade() and conn_stream() take one without asking if this was not
 * called. */
bool conn_take_place(struct conn *c);

/* Gives the place back early: the client was told to go. */
void conn_leave_place(struct conn *c);

/* The client has shown a valid password: its connection is the last to be ended
 * to make room, and its requests are the last to be refused for lack of
 * memory. */
void conn_trust(struct conn *c);

/* The request being answered (on_head, on_request, PENDING). */
const struct http_request *conn_request(const struct conn *c);

/* Answers the current request; `is_head`, `date` and `close` are filled in. */
void conn_respond(struct conn *c, const struct http_response *response);

/* Answers {"error": text}; `fields` as in struct http_response, or NULL. */
void conn_respond_error(struct conn *c, int status, const char *text,
			const char *fields);

/* The same, but sends the answer only after CONN_LATE_MS, and ends the
 * connection: against guessing. Meanwhile only the answer is kept. */
#define CONN_LATE_MS 1000
void conn_respond_late(struct conn *c, int status, const char *text,
		       const char *fields);

/* Whether the current request is an opening handshake that may be accepted (RFC
 * 6455 4.2.1). If not, it has been answered: 400, or 426. A malformed list of
 * extensions is answered 400 if the group compresses. */
bool conn_check_upgrade(struct conn *c);

/* Accepts the opening handshake, which conn_check_upgrade() has passed.
 * `subprotocol`: for Sec-WebSocket-Protocol, one that the client offered; or
 * absent. permessage-deflate is agreed if the client offers it and the group
 * compresses. */
void conn_upgrade(struct conn *c, struct span subprotocol);

/* Answers 200 with an event stream (sse.h). To a client of HTTP/1.1 it is in
 * chunks (RFC 9112 7.1), and conn_end() ends it with the last of them, so that
 * a cut can be told from an end; to one of HTTP/1.0 it goes on until the
 * connection ends. Chunks are gzip if the client would have that and the group
 * compresses. `first`, whole lines, copied, or empty, goes right behind the
 * head. A HEAD request gets the head, and the connection is finished. What
 * the client still sends is dropped; its end ends the connection. */
void conn_stream(struct conn *c, struct span first);

/* The framing of all that conn_send() and conn_send_part() send to an open
 * WebSocket or an event stream. */
enum framing conn_framing(const struct conn *c);

/* Queues a chunk of whole frames to an open WebSocket, or of whole lines to an
 * event stream; holds it. It never ends the connection inside the call, so it
 * may be used while walking over connections: the next flush ends one that is
 * over its limit, or broken. A paced chunk (chunk.h) never counts against the
 * limit. Does nothing in any other state. */
void conn_send(struct conn *c, struct chunk *chunk);

/* Queues a copy of `payload` as one text message to a WebSocket, or, whole
 * lines, to an event stream; the same rules. */
void conn_send_text(struct conn *c, struct span payload);

/* Queues a copy of `bytes` to an event stream: the beginning of an event. The
 * next conn_send() must bring the rest, before the next flush, with nothing
 * sent between them. The same rules. */
void conn_send_part(struct conn *c, struct span bytes);

/* Whether the peer has ended its side, or is gone. For those of which nothing
 * is read now, so that nothing else tells; it costs a system call. */
bool conn_has_hung_up(const struct conn *c);

/* Whether the peer may still get what is sent now: the connection is open, and
 * not doomed. */
bool conn_can_send(const struct conn *c);

/* Whether little waits to be written: less than CONN_ROOM_BYTES, and less than
 * half of buffered_max_bytes. False if it is doomed, or neither an open
 * WebSocket nor an event stream. */
bool conn_has_room(const struct conn *c);

/* Writes what is queued now, as far as the kernel takes it, instead of in the
 * next flush: so a peer that reads is not ended for a burst. Ends nothing
 * inside the call. Does nothing while a write waits for the kernel. */
void conn_write_now(struct conn *c);

/* Asks for one on_room(): in the next flush, if conn_has_room() holds after the
 * write; else in a later one. */
void conn_wait_for_room(struct conn *c);

/* Bytes queued that the kernel has not got yet. */
size_t conn_unsent_bytes(const struct conn *c);

/* Pauses an open WebSocket, from on_message: no further message is handed over
 * and no Ping is answered until conn_resume(). At most one read of what comes
 * meanwhile is kept here; the rest, the peer's end included, waits in the
 * kernel. Pings are still sent, and may stay unanswered. Any ending still ends
 * it. */
void conn_pause(struct conn *c);

/* Reads on when its turn comes, never inside the call. Nothing happens if it is
 * not paused. */
void conn_resume(struct conn *c);

/* Ends the connection: a WebSocket with Close; an event stream with a last
 * event, `close`, with {"code":…,"reason":…}; any other, and for an ending
 * without a code, at once. `reason` is for the client; NULL: that of the table.
 * An earlier conn_end_later() overrules it. */
void conn_end(struct conn *c, enum close_reason why, const char *reason);

/* The same, but in the next flush: for use while walking over connections. The
 * first such call decides. */
void conn_end_later(struct conn *c, enum close_reason why);

#endif
