/* client.c - one libuv stream, its parser, and what waits to be written. */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/digest.h"
#include "base/version.h"
#include "codec/http/http.h"
#include "codec/websocket.h"

#define KEY_BYTES        16 /* of Sec-WebSocket-Key (RFC 6455 4.1) */
#define OPCODE_TEXT      1  /* RFC 6455 5.2 */
#define OPCODE_MASK      0x0f
#define CLOSE_TIMEOUT_MS 2000
#define BACKLOG_WAIT_MS  50
#define READ_BYTES       (256 * 1024)
#define REASON_MAX_BYTES 124

enum state {
	CONNECTING,
	HTTP,
	HANDSHAKE,
	OPEN,
	CLOSING, /* Close was sent */
	ENDED,   /* uv_close() was called */
};

struct write {
	uv_write_t request;
	size_t len;
	char bytes[];
};

/* What the clients of a loop share. Freed with the last of them. */
struct shared_input {
	size_t clients;
	char input[READ_BYTES];
};

/* Owner: the thread of its loop, `owner`. Freed once all three handles are
 * closed. */
struct client {
	uv_thread_t owner;
	uv_loop_t *loop;
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} socket;
	bool has_socket;  /* between attempts there is none */
	uv_timer_t timer; /* what it is for, the state says */
	uv_getaddrinfo_t lookup;
	uv_connect_t connect;
	unsigned handles; /* open ones */
	bool is_looking_up;

	enum state state;
	bool is_stream;              /* it is one, or asks to be */
	bool is_pinged;              /* and nothing has come since */
	struct websocket *websocket; /* NULL: it is none */
	struct http_answers *answers;
	const struct client_handler *handler;
	void *user;
	uint64_t watch_ms; /* 0: it is not watched */
	struct url url;

	/* All; `address`: the one tried next. Where the host is a number,
	 * `numeric`, which leads to `number`. */
	struct addrinfo *addresses;
	struct addrinfo *address;
	struct addrinfo numeric;
	struct sockaddr_storage number;
	int error; /* of the last attempt; then of the end */
	unsigned code;
	char why[REASON_MAX_BYTES];
	size_t why_len;

	struct buf pending; /* given before it was connected */
	size_t unsent;
	char accept[WEBSOCKET_ACCEPT_LEN + 1]; /* what must be answered */
	char protocol[32];                     /* the same; "" for none */
};

static void try_next(struct client *c);

/* --- what a loop's clients share ------------------------------------------
 */

/* Returns 0 or UV_ENOMEM. */
static int hold_input(uv_loop_t *loop)
{
	struct shared_input *s = loop->data;

	if (s == NULL) {
		s = malloc(sizeof *s);
		if (s == NULL)
			return UV_ENOMEM;
		s->clients = 0;
		loop->data = s;
	}
	s->clients++;
	return 0;
}

static void release_input(uv_loop_t *loop)
{
	struct shared_input *s = loop->data;

	if (--s->clients > 0)
		return;
	free(s);
	loop->data = NULL;
}

/* --- the end --------------------------------------------------------------
 */

/* Frees the client once no handle or request of libuv is left, behind the last
 * callback. */
static void free_if_over(struct client *c)
{
	struct client_end end = {.error = c->error,
				 .code = c->code,
				 .why = {c->why, c->why_len}};

	if (c->state != ENDED || c->handles > 0 || c->is_looking_up)
		return;
	c->handler->on_end(c->user, &end);
	if (c->addresses != &c->numeric)
		uv_freeaddrinfo(c->addresses);
	http_answers_free(c->answers);
	websocket_free(c->websocket);
	buf_fini(&c->pending);
	url_fini(&c->url);
	release_input(c->loop);
	free(c);
}

static void on_client_closed(uv_handle_t *handle)
{
	struct client *c = handle->data;

	c->handles--;
	free_if_over(c);
}

void client_abort(struct client *c, int error)
{
	CHECK_ON_THREAD(c->owner);
	if (c->state == ENDED)
		return;
	c->state = ENDED;
	c->error = error;
	if (c->is_looking_up)
		uv_cancel((uv_req_t *)&c->lookup);
	uv_close((uv_handle_t *)&c->timer, on_client_closed);
	if (c->has_socket && !uv_is_closing(&c->socket.handle))
		uv_close(&c->socket.handle, on_client_closed);
}

static void fail_connection(struct client *c, const char *why)
{
	c->why_len = strlen(why);
	memcpy(c->why, why, c->why_len);
	client_abort(c, UV_EPROTO);
}

/* --- writing --------------------------------------------------------------
 */

static void on_written(uv_write_t *request, int status)
{
	struct write *w = (struct write *)request;
	struct client *c = request->handle->data;

	c->unsent -= w->len;
	free(w);
	if (status != 0 && status != UV_ECANCELED)
		client_abort(c, status);
}

/* Writes `bytes`; those that the kernel does not take at once are copied. */
static int write_now(struct client *c, struct span bytes)
{
	uv_buf_t all = {.base = (char *)(uintptr_t)bytes.bytes,
			.len = bytes.len};
	int sent = c->unsent > 0 ? UV_EAGAIN
				 : uv_try_write(&c->socket.stream, &all, 1);

	if (sent > 0) {
		bytes.bytes += sent;
		bytes.len -= (size_t)sent;
	}
	if (bytes.len == 0)
		return 0;
	struct write *w = malloc(sizeof *w + bytes.len);
	if (w == NULL)
		return UV_ENOMEM;
	memcpy(w->bytes, bytes.bytes, bytes.len);
	w->len = bytes.len;
	all = uv_buf_init(w->bytes, (unsigned)w->len);
	c->unsent += w->len;
	int rv = uv_write(&w->request, &c->socket.stream, &all, 1, on_written);
	if (rv == 0)
		return 0;
	c->unsent -= w->len;
	free(w);
	return rv;
}

int client_write(struct client *c, struct span bytes)
{
	CHECK_ON_THREAD(c->owner);
	if (c->state == CONNECTING)
		return buf_append(&c->pending, bytes.bytes, bytes.len);
	return c->state == ENDED ? 0 : write_now(c, bytes);
}

/* Sends what was appended to `out` with the result `rv`, and frees it. */
static int send_all(struct client *c, struct buf *out, int rv)
{
	if (rv == 0)
		rv = client_write(c, (struct span){out->bytes, out->len});
	buf_fini(out);
	return rv;
}

static void random_bytes(void *out, size_t len)
{
	/* Reading up to 256 bytes is never interrupted (getrandom(2)). */
	CHECK(getrandom(out, len, 0) == (ssize_t)len);
}

static int send_frame(struct client *c, unsigned opcode, struct span payload)
{
	uint8_t mask[WEBSOCKET_MASK_BYTES];
	struct buf frame = {0};

	random_bytes(mask, sizeof mask);
	int rv = websocket_append_masked(&frame, opcode, payload, mask);
	return send_all(c, &frame, rv);
}

/* A control frame as a server writes it: its header has two bytes. */
static void send_control(struct client *c, struct span frame)
{
	unsigned opcode = (unsigned)frame.bytes[0] & OPCODE_MASK;
	struct span payload = {frame.bytes + 2, frame.len - 2};
	int rv = send_frame(c, opcode, payload);

	if (rv != 0)
		client_abort(c, rv);
}

int client_send(struct client *c, struct span text)
{
	CHECK_ON_THREAD(c->owner);
	return send_frame(c, OPCODE_TEXT, text);
}

/* Writes a request line and the fields of all requests. */
static int start_head(const struct client *c, struct buf *out,
		      const char *method, const char *path)
{
	char host[URL_TEXT_MAX];

	url_name(&c->url, host);
	int rv = buf_append_text(out, method);
	rv = rv != 0 ? rv : buf_append_text(out, " ");
	rv = rv != 0 ? rv
		     : buf_append(out, c->url.prefix.bytes, c->url.prefix.len);
	rv = rv != 0 ? rv : buf_append_text(out, path);
	rv = rv != 0 ? rv : buf_append_text(out, " HTTP/1.1\r\nHost: ");
	rv = rv != 0 ? rv
		     : buf_append_text(out,
				       c->url.is_unix ? "localhost" : host);
	return rv != 0 ? rv
		       : buf_append_text(out, "\r\nUser-Agent: isimud/" VERSION
					      "\r\n");
}

int client_append_request(const struct client *c,
			  const struct client_request *request, struct buf *out)
{
	size_t before = out->len;
	char length[48] = "\r\n";

	if (request->content.bytes != NULL)
		snprintf(length, sizeof length, "Content-Length: %zu\r\n\r\n",
			 request->content.len);
	int rv = start_head(c, out, request->method, request->path);
	rv = rv != 0 ? rv
		     : buf_append(out, request->fields.bytes,
				  request->fields.len);
	rv = rv != 0 ? rv : buf_append_text(out, length);
	rv = rv != 0 ? rv
		     : buf_append(out, request->content.bytes,
				  request->content.len);
	if (rv != 0)
		out->len = before;
	return rv;
}

int client_request(struct client *c, const struct client_request *request)
{
	struct buf out = {0};
	int rv = client_append_request(c, request, &out);

	CHECK_ON_THREAD(c->owner);
	return send_all(c, &out, rv);
}

int client_upgrade(struct client *c, const char *path, const char *protocol,
		   struct span fields)
{
	uint8_t bytes[KEY_BYTES];
	char key[BASE64_LEN(KEY_BYTES) + 1];
	struct buf out = {0};

	CHECK_ON_THREAD(c->owner);
	snprintf(c->protocol, sizeof c->protocol, "%s",
		 protocol == NULL ? "" : protocol);
	random_bytes(bytes, sizeof bytes);
	base64_encode(bytes, sizeof bytes, key);
	CHECK(websocket_accept(span_of(key), c->accept) == 0);
	int rv = start_head(c, &out, "GET", path);
	rv = rv != 0 ? rv
		     : buf_append_text(
			       &out,
			       "Connection: Upgrade\r\nUpgrade: websocket\r\n"
			       "Sec-WebSocket-Version: 13\r\n"
			       "Sec-WebSocket-Key: ");
	rv = rv != 0 ? rv : buf_append_text(&out, key);
	if (c->protocol[0] != '\0') {
		rv = rv != 0 ? rv
			     : buf_append_text(&out,
					       "\r\nSec-WebSocket-Protocol: ");
		rv = rv != 0 ? rv : buf_append_text(&out, c->protocol);
	}
	rv = rv != 0 ? rv : buf_append_text(&out, "\r\n");
	rv = rv != 0 ? rv : buf_append(&out, fields.bytes, fields.len);
	rv = rv != 0 ? rv : buf_append_text(&out, "\r\n");
	if (rv == 0 && c->state == HTTP)
		c->state = HANDSHAKE;
	return send_all(c, &out, rv);
}

static void on_stream_head(void *user)
{
	struct client *c = user;

	if (c->state != HANDSHAKE)
		return;
	c->state = OPEN;
	c->handler->on_open(c->user);
}

static void on_stream_content(void *user, struct span bytes)
{
	struct client *c = user;

	if (c->state == OPEN)
		c->handler->on_content(c->user, bytes);
}

static const struct http_answers_stream stream_handler = {
	.on_head = on_stream_head,
	.on_content = on_stream_content,
};

int client_stream(struct client *c, const char *path, struct span fields)
{
	struct buf all = {0};

	CHECK_ON_THREAD(c->owner);
	int rv = buf_append_text(&all, "Accept: text/event-stream\r\n");
	rv = rv != 0 ? rv : buf_append(&all, fields.bytes, fields.len);
	const struct client_request request = {
		.method = "GET",
		.path = path,
		.fields = {all.bytes, all.len},
	};
	rv = rv != 0 ? rv : client_request(c, &request);
	buf_fini(&all);
	if (rv != 0)
		return rv;
	http_answers_stream(c->answers, &stream_handler, c);
	c->is_stream = true;
	if (c->state == HTTP)
		c->state = HANDSHAKE;
	return 0;
}

int client_basic(struct buf *out, struct span user, struct span password)
{
	static const char name[] = "Authorization: Basic ";
	struct buf pair = {0};
	size_t before = out->len;

	int rv = buf_append(&pair, user.bytes, user.len);
	rv = rv != 0 ? rv : buf_append_text(&pair, ":");
	rv = rv != 0 ? rv : buf_append(&pair, password.bytes, password.len);
	rv = rv != 0 ? rv
		     : buf_reserve(out, sizeof name + BASE64_LEN(pair.len) + 2);
	if (rv == 0) {
		rv = buf_append_text(out, name);
		base64_encode(pair.bytes, pair.len, out->bytes + out->len);
		out->len += BASE64_LEN(pair.len);
		rv = rv != 0 ? rv : buf_append_text(out, "\r\n");
	}
	if (rv != 0)
		out->len = before;
	if (pair.bytes != NULL)
		explicit_bzero(pair.bytes, pair.cap);
	buf_fini(&pair);
	return rv;
}

/* --- reading --------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer);

static unsigned on_server_message(void *user, bool is_text, struct span message)
{
	struct client *c = user;

	if (!is_text && c->handler->on_binary == NULL)
		return WEBSOCKET_UNSUPPORTED_DATA;
	if (c->state == OPEN && is_text)
		c->handler->on_message(c->user, message);
	else if (c->state == OPEN)
		c->handler->on_binary(c->user, message);
	return 0;
}

/* Sends a Pong; or answers Close, with its code alone. */
static void on_reply(void *user, struct span frame)
{
	struct client *c = user;

	if (c->state != ENDED)
		send_control(c, frame);
}

static const struct websocket_handler websocket_handler = {
	.on_message = on_server_message,
	.on_reply = on_reply,
};

static void read_websocket(struct client *c, struct span bytes)
{
	struct websocket_result r =
		websocket_read(c->websocket, bytes, &websocket_handler, c);

	if (c->state == ENDED || r.outcome == WEBSOCKET_OPEN)
		return;
	if (r.outcome == WEBSOCKET_CLOSED) {
		c->code = r.code;
		c->why_len = r.close_reason.len;
		if (c->why_len > 0)
			memcpy(c->why, r.close_reason.bytes, c->why_len);
		client_abort(c, 0);
		return;
	}
	uint8_t frame[WEBSOCKET_CONTROL_MAX];
	size_t len = websocket_write_close(frame, r.code, SPAN(""));
	send_control(c, (struct span){(const char *)frame, len});
	fail_connection(c, r.reason != NULL ? r.reason : "a binary message");
}

/* The answer to client_upgrade(). */
static void open_websocket(struct client *c, const struct http_answer *answer)
{
	struct span accept = answer->fields[HTTP_ANSWER_ACCEPT];
	struct span protocol = answer->fields[HTTP_ANSWER_PROTOCOL];

	if (!span_equal(accept, span_of(c->accept)) ||
	    !span_equal(protocol, span_of(c->protocol))) {
		fail_connection(c, "the handshake was answered wrongly");
		return;
	}
	c->websocket = websocket_new_client(CLIENT_MESSAGE_MAX_BYTES);
	if (c->websocket == NULL) {
		client_abort(c, UV_ENOMEM);
		return;
	}
	c->state = OPEN;
	c->handler->on_open(c->user);
}

static void take_answer(struct client *c)
{
	const struct http_answer *answer = http_answers_last(c->answers);

	if (c->state == OPEN) { /* a stream that is complete */
		client_abort(c, UV_EOF);
		return;
	}
	if (c->state == HANDSHAKE && !c->is_stream && answer->status == 101) {
		open_websocket(c, answer);
		return;
	}
	c->handler->on_answer(c->user, answer);
	if (c->state != ENDED && (!answer->keep_alive || c->state == HANDSHAKE))
		client_abort(c, UV_EOF);
}

static bool speaks_http(const struct client *c)
{
	return c->state == HTTP || c->state == HANDSHAKE ||
	       (c->state == OPEN && c->is_stream);
}

static void read_all(struct client *c, struct span bytes)
{
	while (bytes.len > 0 && speaks_http(c)) {
		size_t used;
		enum http_answer_event event =
			http_answers_read(c->answers, bytes, &used);
		bytes.bytes += used;
		bytes.len -= used;
		if (event == HTTP_ANSWER_BAD)
			fail_connection(c, "it does not answer in HTTP");
		else if (event == HTTP_ANSWER_DONE)
			take_answer(c);
	}
	if (bytes.len > 0 && (c->state == OPEN || c->state == CLOSING))
		read_websocket(c, bytes);
}

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
	struct client *c = handle->data;

	(void)wanted;
	struct shared_input *s = c->loop->data;

	*out = uv_buf_init(s->input, sizeof s->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct client *c = stream->data;

	if (c->state == ENDED || n == 0)
		return;
	if (n < 0) {
		if (n == UV_EOF && speaks_http(c) &&
		    http_answers_finish(c->answers) == HTTP_ANSWER_DONE)
			take_answer(c);
		client_abort(c, (int)n);
		return;
	}
	c->is_pinged = false;
	if (c->watch_ms > 0 && c->state == OPEN)
		uv_timer_start(&c->timer, on_timer, c->watch_ms, 0);
	read_all(c, (struct span){buf->base, (size_t)n});
}

/* --- connecting -----------------------------------------------------------
 */

static void on_connected(uv_connect_t *request, int status);

/* The timer: nothing has arrived for a time, Close was not answered, or a
 * backlog was full. */
static void on_timer(uv_timer_t *timer)
{
	struct client *c = timer->data;

	if (c->state == CONNECTING) {
		try_next(c);
	} else if (c->state == CLOSING) {
		client_abort(c, 0);
	} else if (c->is_pinged) {
		client_abort(c, UV_ETIMEDOUT);
	} else if (c->state == OPEN) {
		uint8_t frame[WEBSOCKET_CONTROL_MAX];
		size_t len = websocket_write_ping(frame, SPAN(""));
		c->is_pinged = true;
		uv_timer_start(&c->timer, on_timer, c->watch_ms, 0);
		send_control(c, (struct span){(const char *)frame, len});
	}
}

static void on_attempt_closed(uv_handle_t *handle)
{
	struct client *c = handle->data;

	c->handles--;
	c->has_socket = false;
	if (c->state == ENDED)
		free_if_over(c);
	else if (c->url.is_unix)
		uv_timer_start(&c->timer, on_timer, BACKLOG_WAIT_MS, 0);
	else
		try_next(c);
}

/* The attempt failed with c->error. */
static void give_up_attempt(struct client *c)
{
	bool is_backlog = c->url.is_unix && c->error == UV_EAGAIN;

	if (!is_backlog && (c->url.is_unix || c->address == NULL))
		client_abort(c, c->error);
	else
		uv_close(&c->socket.handle, on_attempt_closed);
}

static void on_connected(uv_connect_t *request, int status)
{
	struct client *c = request->handle->data;

	if (c->state == ENDED)
		return;
	if (status != 0) {
		c->error = status;
		give_up_attempt(c);
		return;
	}
	c->error = 0;
	c->state = c->accept[0] != '\0' || c->is_stream ? HANDSHAKE : HTTP;
	if (!c->url.is_unix)
		uv_tcp_nodelay(&c->socket.tcp, 1);
	int rv = uv_read_start(&c->socket.stream, on_alloc, on_read);
	if (rv == 0 && c->pending.len > 0)
		rv = write_now(c,
			       (struct span){c->pending.bytes, c->pending.len});
	buf_fini(&c->pending);
	if (rv != 0)
		client_abort(c, rv);
}

static int connect_unix(struct client *c)
{
	int rv = uv_pipe_init(c->loop, &c->socket.pipe, 0);

	CHECK(rv == 0);
	c->socket.handle.data = c;
	c->has_socket = true;
	c->handles++;
	uv_pipe_connect(&c->connect, &c->socket.pipe, c->url.host,
			on_connected);
	return 0;
}

/* Makes the handle and its socket. Returns 0, or UV_E… with the handle alone.
 */
static int open_socket(struct client *c, const struct sockaddr *to)
{
	uv_os_fd_t fd;
	int rv = uv_tcp_init_ex(c->loop, &c->socket.tcp, to->sa_family);

	if (rv != 0) {
		CHECK(uv_tcp_init(c->loop, &c->socket.tcp) == 0);
		return rv;
	}
	if (c->handler->on_socket != NULL &&
	    uv_fileno(&c->socket.handle, &fd) == 0)
		c->handler->on_socket(c->user, fd, to);
	return 0;
}

/* Tries the next address; after the last one, ends with its error. */
static void try_next(struct client *c)
{
	if (c->state == ENDED)
		return;
	if (c->url.is_unix) {
		connect_unix(c);
		return;
	}
	const struct addrinfo *address = c->address;
	c->address = address->ai_next;
	/* After an error the handle exists all the same, without a socket. */
	c->error = open_socket(c, address->ai_addr);
	c->socket.handle.data = c;
	c->has_socket = true;
	c->handles++;
	if (c->error == 0)
		c->error = uv_tcp_connect(&c->connect, &c->socket.tcp,
					  address->ai_addr, on_connected);
	if (c->error != 0)
		give_up_attempt(c);
}

static void on_looked_up(uv_getaddrinfo_t *lookup, int status,
			 struct addrinfo *found)
{
	struct client *c = lookup->data;

	c->is_looking_up = false;
	c->addresses = found;
	if (c->state == ENDED) {
		free_if_over(c);
		return;
	}
	c->address = found;
	if (status != 0)
		client_abort(c, status);
	else
		try_next(c);
}

/* Whether the host is a number, which needs no lookup; then `numeric` is
 * filled. */
static bool read_number_host(struct client *c)
{
	struct sockaddr *to = (struct sockaddr *)&c->number;
	int port = (int)c->url.port;

	if (uv_ip4_addr(c->url.host, port, (struct sockaddr_in *)to) != 0 &&
	    uv_ip6_addr(c->url.host, port, (struct sockaddr_in6 *)to) != 0)
		return false;
	c->numeric.ai_addr = to;
	c->address = &c->numeric;
	c->addresses = &c->numeric;
	return true;
}

static int look_up(struct client *c)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICSERV};
	char port[16];

	snprintf(port, sizeof port, "%u", c->url.port);
	c->lookup.data = c;
	int rv = uv_getaddrinfo(c->loop, &c->lookup, on_looked_up, c->url.host,
				port, &hints);
	c->is_looking_up = rv == 0;
	return rv;
}

static int copy_url(struct url *to, const struct url *from)
{
	to->is_unix = from->is_unix;
	memcpy(to->host, from->host, sizeof to->host);
	to->port = from->port;
	return buf_append(&to->prefix, from->prefix.bytes, from->prefix.len);
}

int client_open(struct client **out, uv_loop_t *loop, const struct url *to,
		const struct client_handler *handler, void *user)
{
	struct client *c = calloc(1, sizeof *c);

	if (c == NULL)
		return UV_ENOMEM;
	c->owner = uv_thread_self();
	c->loop = loop;
	c->handler = handler;
	c->user = user;
	int rv = hold_input(loop);
	if (rv != 0) {
		free(c);
		return rv;
	}
	c->answers = http_answers_new(CLIENT_CONTENT_MAX_BYTES);
	rv = c->answers == NULL ? UV_ENOMEM : copy_url(&c->url, to);
	bool is_at_hand = rv == 0 && (to->is_unix || read_number_host(c));
	if (rv == 0 && !is_at_hand)
		rv = look_up(c);
	if (rv != 0) {
		http_answers_free(c->answers);
		url_fini(&c->url);
		release_input(loop);
		free(c);
		return rv;
	}
	uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	c->handles = 1;
	if (is_at_hand)
		/* Not now: callbacks come later. */
		uv_timer_start(&c->timer, on_timer, 0, 0);
	*out = c;
	return 0;
}

/* --- the rest -------------------------------------------------------------
 */

void client_watch(struct client *c, uint64_t interval_ms)
{
	CHECK_ON_THREAD(c->owner);
	if (c->state != OPEN || c->is_stream)
		return;
	c->watch_ms = interval_ms;
	uv_timer_start(&c->timer, on_timer, interval_ms, 0);
}

void client_pause(struct client *c)
{
	CHECK_ON_THREAD(c->owner);
	if (c->state != ENDED)
		uv_read_stop(&c->socket.stream);
}

void client_close(struct client *c)
{
	uint8_t frame[WEBSOCKET_CONTROL_MAX];

	CHECK_ON_THREAD(c->owner);
	if (c->state != OPEN || c->is_stream) {
		if (c->state != CLOSING)
			client_abort(c, 0);
		return;
	}
	size_t len = websocket_write_close(frame, WEBSOCKET_NORMAL, SPAN(""));
	send_control(c, (struct span){(const char *)frame, len});
	if (c->state == ENDED)
		return;
	c->state = CLOSING;
	uv_timer_start(&c->timer, on_timer, CLOSE_TIMEOUT_MS, 0);
}
