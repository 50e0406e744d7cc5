/* app.h - a group of connections on a loopback (loopback.h), for the tests of
 * src/conn. Its application answers by the path of a request, records what its
 * hooks saw, and does what the test has set.
 *
 * At the head of a request:
 *   /early       401 and a field of its own, X-Own
 *   /early-last  401, the last answer of the connection
 *   /gone-early  the connection ends
 * Once it is whole:
 *   /later       nothing: it is in `pending`
 *   /gone        the connection ends
 *   /ws          a WebSocket, with `subprotocol`
 *   /ws-later    the same, but for the acceptance: it is in `pending`
 *   /stream      an event stream that begins with FIRST
 *   /big /huge   200, BIG_BYTES and HUGE_BYTES of x
 *   any other    200, the path itself */
#ifndef ISIMUD_TEST_APP_H
#define ISIMUD_TEST_APP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conn/private.h"
#include "loopback.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* Of HTTP/1.0: a stream gets lines as they are, without chunks around them. */
#define GET_OLD(path) "GET " path " HTTP/1.0\r\n\r\n"

#define UPGRADE(path)                                                          \
	"GET " path " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"          \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

#define FIRST      "retry: 1\n\n"
#define BIG_BYTES  50000  /* under the high water */
#define HUGE_BYTES 500000 /* over it */

#define PENDING_MAX 64

struct app {
	struct loopback l;

	/* What the hooks saw. */
	struct conn *conn; /* that of the last whole request, until it ends */
	struct conn *pending[PENDING_MAX]; /* NULL: has ended */
	unsigned pending_count;
	unsigned heads;
	unsigned requests;
	unsigned ends;
	unsigned messages;
	struct buf texts; /* of messages, each with a ';' */
	unsigned rooms;
	unsigned asked; /* times that fields of a request were asked for */
	enum conn_state state_after_end; /* by `ends_with` */

	/* What they are to do. */
	const struct conn *unheard; /* whose messages are not recorded */
	struct span subprotocol;
	bool is_last;                /* answers end their connection */
	bool pauses;                 /* at each message */
	bool resumes;                /* right after */
	enum close_reason ends_with; /* then, if not NONE */
	bool is_later;               /* by conn_end_later() */
	bool is_committed;     /* something will be answered before the end */
	uint64_t message_ns;   /* the time that a message takes */
	unsigned end_takes_ms; /* of each connection */
	size_t to_feed;        /* bytes that on_room sends, as long as it may */

	bool has_no_memory; /* connections may end before they are accepted */
};

struct app *app_new(const struct conn_limits *limits);

/* With roomy_limits, but for one duration. */
struct app *app_with_duration(enum deadline_kind kind, uint64_t ms);

/* Each connection that was accepted must have ended once by then. */
void app_free(struct app *a);

int app_set_up(void **state);
int app_tear_down(void **state);

#define WITH_APP(test)                                                         \
	cmocka_unit_test_setup_teardown(test, app_set_up, app_tear_down)

/* Each way to end a connection (close_reasons.h), and what a client is told. */
struct app_ending {
	enum close_reason why;
	enum stats_counter counter;
	unsigned code; /* 0: nothing */
	const char *reason;
};
extern const struct app_ending app_endings[CLOSE_REASON_COUNT];

/* --- answers, for what is pending ----------------------------------------- */

void app_respond(struct conn *c, struct span content);
void app_respond_filling(struct conn *c, size_t len);
bool app_is_path(const struct http_request *request, const char *path);

/* --- clients -------------------------------------------------------------- */

/* Sends the first request, waits for the answer, and skips its head. A client
 * that has stopped reading has stopped again afterwards. Returns `c`. */
struct client *app_ask(struct app *a, struct client *c, const char *request);

struct client *app_open_websocket(struct app *a);

/* One that has stopped reading, on small kernel buffers. */
struct client *app_open_lazy_websocket(struct app *a);

struct client *app_open_stream(struct app *a);

/* One with a high descriptor, which has been answered once: the loop has made
 * room for those below, which it can't do without memory (libuv: uv__io_start
 * aborts). */
struct client *app_connect_high(struct app *a);

/* Whether the messages so far were these: "one;two;". */
bool app_has_read(const struct app *a, const char *texts);

void app_wait_for_frame(struct app *a, struct client *c, struct frame *out);

/* The next frame must be this Close. */
void app_expect_close(struct app *a, struct client *c, unsigned code);

/* Waits until all have ended; exactly one must have ended so. */
void app_expect_ending(struct app *a, enum stats_counter how);

/* --- sending to clients --------------------------------------------------- */

/* The bytes as they are; and as a whole frame of `filling`. */
struct chunk *app_chunk(const char *bytes);
struct chunk *app_frame(unsigned opcode, size_t len, char filling);

/* A text message of `filling`, as a frame that was made before. */
void app_send_filling(struct conn *c, size_t len, char filling);

/* A text of x, made into a message for this one. */
void app_send_text(struct conn *c, size_t len);

#endif
