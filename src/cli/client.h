/* client.h - the client side of one connection: HTTP/1.1 requests, and then, if
 * it asks for that, a WebSocket (RFC 6455) or an answer without end.
 *
 * All that isimud's own commands say to a server goes through here. It is a
 * connection, not a policy: it neither comes back nor repeats anything. Plain
 * TCP and Unix sockets; no TLS.
 *
 *   CONNECTING ---> HTTP ---> HANDSHAKE ---> OPEN ---> CLOSING
 *        from any state: on_end(), once, and the memory is freed behind it
 *
 * A stream is OPEN from the head of its answer on, and has no CLOSING.
 *
 * Threads: the one of its loop; SIGPIPE must be ignored. No callback is called
 * within client_open(). Callbacks may call everything here. The `data` of a
 * loop is what its clients share. */
#ifndef ISIMUD_CLI_CLIENT_H
#define ISIMUD_CLI_CLIENT_H

#include "base/buf.h"
#include "base/span.h"
#include "cli/url.h"
#include "codec/http/answer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#define CLIENT_CONTENT_MAX_BYTES (64u << 20) /* of an answer */
#define CLIENT_MESSAGE_MAX_BYTES (1u << 30)  /* of a WebSocket */

/* One connection. */
struct client;

/* How it ended. */
struct client_end {
	int error;       /* UV_E…; UV_EOF: the server closed it; UV_EPROTO: it
			    speaks something else; 0: by Close, or by
			    client_close() */
	unsigned code;   /* of the server's Close (1005: it had none); 0: no
			    Close came */
	struct span why; /* the reason of that Close, or of UV_EPROTO; may be
			    empty */
};

struct client_handler {
	/* The answers to client_request(), in the order of the requests; and
	 * that to client_upgrade(), if it is another than 101. Borrowed. */
	void (*on_answer)(void *user, const struct http_answer *answer);
	/* It is a WebSocket now, of the subprotocol that was asked for; or a
	 * stream. */
	void (*on_open)(void *user);
	/* A text message; borrowed. A binary one ends the connection, */
	void (*on_message)(void *user, struct span text);
	/* unless this is not NULL. */
	void (*on_binary)(void *user, struct span bytes);
	/* Some content of a stream; borrowed. */
	void (*on_content)(void *user, struct span bytes);
	/* Not NULL: a TCP socket that is about to connect to `to`; what it does
	 * not have yet may be set, its own address too. */
	void (*on_socket)(void *user, int fd, const struct sockaddr *to);
	/* The last call. `end` is borrowed; the client is freed behind it. */
	void (*on_end)(void *user, const struct client_end *end);
};

/* Connects to `to`, which is copied, the first of its addresses that answers.
 * Of a Unix socket whose backlog is full it tries again. There is no time-out:
 * a caller that has waited for long enough calls client_abort(). Returns 0, or
 * UV_ENOMEM or another UV_E… and there is no client. */
int client_open(struct client **out, uv_loop_t *loop, const struct url *to,
		const struct client_handler *handler, void *user);

/* A request. All is borrowed. */
struct client_request {
	const char *method;
	const char *path; /* "/pub", without the prefix of the URL; encoded */
	/* Field lines, each with CR LF; or absent. Host, Content-Length and
	 * User-Agent are the client's. */
	struct span fields;
	struct span content; /* absent: none is announced */
};

/* Sends a request, as soon as it is connected, without waiting for earlier
 * answers. Returns 0, or UV_ENOMEM with nothing sent. */
int client_request(struct client *c, const struct client_request *request);

/* Appends such a request, as client_request() sends it, to `out`, for
 * client_write(). Returns 0, or UV_ENOMEM with `out` unchanged. */
int client_append_request(const struct client *c,
			  const struct client_request *request,
			  struct buf *out);

/* Sends bytes as they are: whole requests, each to be answered, or, when it is
 * a WebSocket, masked frames. Borrowed. Returns 0, or UV_ENOMEM with nothing
 * sent. */
int client_write(struct client *c, struct span bytes);

/* Sends the opening handshake for `path`, with the subprotocol `protocol` if
 * that is not NULL; `fields` as above. Nothing may be sent until on_open().
 * Returns 0, or UV_ENOMEM with nothing sent. */
int client_upgrade(struct client *c, const char *path, const char *protocol,
		   struct span fields);

/* Asks for the event stream `path`, whose content goes to on_content(), if its
 * status is 200. Its end in good order is UV_EOF. Nothing may be sent any more;
 * else as client_upgrade(). */
int client_stream(struct client *c, const char *path, struct span fields);

/* Sends a text message. Returns 0, or UV_ENOMEM with nothing sent. */
int client_send(struct client *c, struct span text);

/* From on_open() on, for a WebSocket: sends a ping whenever nothing has come
 * for `interval_ms`, and ends with UV_ETIMEDOUT if nothing comes for as long
 * again. */
void client_watch(struct client *c, uint64_t interval_ms);

/* Reads nothing from now on: the server has to wait, and its end goes
 * unnoticed.
 */
void client_pause(struct client *c);

/* Ends it: a WebSocket by Close, once the server has answered, or 2 s later;
 * anything else at once. on_end() is called later, in any case. */
void client_close(struct client *c);

/* Ends it at once; `error` is what on_end() is told. */
void client_abort(struct client *c, int error);

/* `out` receives Authorization: Basic (RFC 7617), a whole field line. Returns
 * 0, or UV_ENOMEM with `out` unchanged. */
int client_basic(struct buf *out, struct span user, struct span password);

#endif
