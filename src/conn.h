/* conn.h - one client connection, from accept to close.
 *
 *                  +-- keep-alive --+
 *                  v                |
 *   accepted --> REQUEST -------> PENDING ---------> WEBSOCKET
 *                 |  ^ answered     |                    | Close sent
 *                 v  | at the head  | last response      v
 *              DISCARDING           +--> FINISHING    CLOSING
 *                 |                      ^   | all is    | Close
 *                 +----------------------+   | written   | received
 *                                            v           |
 *   from any state to CLOSED:             LINGERING      +--> FINISHING
 *   the peer is gone, or took too long       | the peer's end
 *                                            +--> CLOSED
 *
 * What requests and messages mean is the business of the hooks; this room reads
 * them, writes what it is given, and ends the connection one way or another
 * (endings.h). Nothing is written inside a call: connections with something to
 * write are marked, and conn_group_flush() writes them, once per iteration of
 * the loop.
 *
 * Threads: a connection, and a group, belong to one loop's thread for life; no
 * other may touch them. */
#ifndef ISIMUD_CONN_H
#define ISIMUD_CONN_H

#include "chunk.h"
#include "deadline.h"
#include "endings.h"
#include "http.h"
#include "listener.h"
#include "log.h"
#include "outq.h"
#include "stats.h"
#include "websocket.h"

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <uv.h>

enum conn_state {
	CONN_REQUEST,    /* reading a request, or waiting for one */
	CONN_DISCARDING, /* answered already; reading the rest of the request */
	CONN_PENDING,    /* a hook answers later; nothing is read */
	CONN_WEBSOCKET,  /* open (RFC 6455 4.2.2) */
	CONN_CLOSING,    /* Close is sent, the peer's is awaited (7.1.2) */
	CONN_FINISHING,  /* the last bytes are queued; what comes is dropped */
	CONN_LINGERING,  /* our side is shut; waiting for the peer's end */
	CONN_CLOSED,     /* uv_close() called */
	CONN_STATES,
};

struct conn;

/* What the connections of a group are for. Called on the group's thread. No
 * hook may close the group. */
struct conn_hooks {
	size_t user_bytes; /* of conn_user(), zeroed at the start */

	/* The head of a request is there. To refuse its content, answer with
	 * conn_respond(); else do nothing. */
	void (*on_head)(struct conn *c, const struct http_request *request);

	/* A request is complete. Exactly one conn_respond() or conn_upgrade()
	 * must follow, from here or later; until then nothing is read. The
	 * request stays valid until then (its content: until return). */
	void (*on_request)(struct conn *c, const struct http_request *request);

	/* A message came; it is borrowed. conn_end() may be called. */
	void (*on_message)(struct conn *c, bool is_text, struct span message);

	/* Nothing more will come, and nothing can be sent: forget the
	 * connection. Comes exactly once, while it is still whole. */
	void (*on_end)(struct conn *c);
};

/* Limits, fixed for a group. */
struct conn_limits {
	size_t body_max_bytes;     /* of a request's content */
	size_t message_max_bytes;  /* of a WebSocket message from a client */
	size_t buffered_max_bytes; /* not written yet; a WebSocket over it ends
				      with ENDING_slow */
	unsigned ping_misses_max;  /* pings without an answer */
	uint64_t durations_ms[DEADLINE_KINDS];
};

#define CONN_READ_BYTES 65536 /* read at once; one such buffer a loop */

/* All connections of one loop, and what they share. */
struct conn_group {
	uv_loop_t *loop;
	uv_thread_t owner;
	const struct conn_hooks *hooks;
	void *context; /* the hooks' own; conn_group_of(c)->context */
	struct conn_limits limits;
	struct stats *stats;
	struct deadlines deadlines;
	struct list conns;   /* all that are not CLOSED, by conn->link */
	struct list stalled; /* writes that wait, by conn_write->link */
	struct list dirty;   /* those with something to write, or to end */
	struct chunk *ping;  /* the encoded Ping, shared by all */
	struct http *http_pool[32]; /* for the next connections */
	unsigned http_pooled;
	struct websocket *websocket_pool[8];
	unsigned websocket_pooled;
	struct buf out; /* scratch: the response being encoded */
	time_t date_at; /* what `date` tells */
	char date[32];
	size_t states[CONN_STATES]; /* connections in each state */
	bool is_draining;           /* answers end their connections */
	struct log_limit log_limit; /* for lines about endings */
	size_t count; /* connections whose memory is not freed yet */
	/* After each whose memory went; may be NULL. */
	void (*on_freed)(struct conn_group *g, enum listener_kind kind);
	char read_buffer[CONN_READ_BYTES];
};

/* Called on the loop's thread; `hooks`, `stats` and `context` are borrowed for
 * life. Returns 0 or a UV_E…. */
int conn_group_open(struct conn_group *g, uv_loop_t *loop,
		    const struct conn_hooks *hooks, void *context,
		    const struct conn_limits *limits, struct stats *stats);

/* Closes the handles and frees the pools; `count` must be 0. */
void conn_group_close(struct conn_group *g);

/* Writes what is queued, one gathered write a connection, and carries out the
 * endings that had to wait. Afterwards nothing is left that could be written
 * without the kernel's room. */
void conn_group_flush(struct conn_group *g);

/* Ends all connections: ENDING_going_away for WebSockets, FINISHING for the
 * others once nothing is pending for them. */
void conn_group_end_all(struct conn_group *g);

/* Ends up to `n` WebSockets with ENDING_going_away, those that came first
 * first. Returns how many it ended. */
size_t conn_group_end_some(struct conn_group *g, size_t n);

/* Ends all connections at once, whatever is still to be sent. */
void conn_group_abort_all(struct conn_group *g);

/* Where memory is tight (memory.h): ends connections with ENDING_slow that have
 * not read for some time; where it is scarce, those that have the most unsent;
 * where it is full, those on their way out that do not read are closed at once.
 * To be called again if that was not enough. */
void conn_group_relieve(struct conn_group *g);

/* How many connections are in each state, and the bytes they have queued. Walks
 * over all of them. */
void conn_group_count(const struct conn_group *g,
		      size_t states[static CONN_STATES], size_t *queued_bytes);

/* What is queued and not taken by the kernel: of all connections, and of the
 * one that has the most. */
struct conn_backlog {
	size_t bytes;
	size_t worst_bytes;
};
struct conn_backlog conn_group_backlog(const struct conn_group *g);

/* Takes an accepted, connected, non-blocking socket on; closes it if that
 * fails. Returns 0 or a UV_E…. */
int conn_open(struct conn_group *g, struct accepted accepted);

struct conn_group *conn_group_of(const struct conn *c);
enum conn_state conn_state(const struct conn *c);

/* By which door it came. */
enum listener_kind conn_listener(const struct conn *c);

/* The hooks' own memory in the connection, `user_bytes` long. */
void *conn_user(struct conn *c);

/* The request being answered (on_head, on_request, PENDING). */
const struct http_request *conn_request(const struct conn *c);

/* Answers the current request; `is_head`, `date` and `close` are filled in. */
void conn_respond(struct conn *c, const struct http_response *response);

/* Answers {"error": text}; `fields` as in struct http_response, or NULL. */
void conn_respond_error(struct conn *c, int status, const char *text,
			const char *fields);

/* Whether the current request is an opening handshake that may be accepted
 * (RFC 6455 4.2.1). If not, it has been answered: 400, or 426. */
bool conn_check_upgrade(struct conn *c);

/* Accepts the opening handshake, which conn_check_upgrade() has passed. */
void conn_upgrade(struct conn *c);

/* Queues a chunk of whole frames to an open WebSocket, holding it. Never ends
 * the connection inside the call, so it may be used while walking over
 * connections: one that is over its limit, or broken, is ended by the next
 * flush. Does nothing in any other state. */
void conn_send(struct conn *c, struct chunk *chunk);

/* Ends the connection: a WebSocket with Close, unless the ending has no code;
 * others at once. `reason` for the client, or NULL for that of the table. What
 * an earlier conn_end_later() said goes first. */
void conn_end(struct conn *c, enum ending ending, const char *reason);

/* The same, but only in the next flush: for use while walking over connections.
 * The first such call decides. */
void conn_end_later(struct conn *c, enum ending ending);

#endif
