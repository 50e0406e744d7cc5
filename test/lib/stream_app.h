/* stream_app.h - connections whose hooks do as a test says, for event
 * streams and handshakes. */
#ifndef ISIMUD_TEST_STREAM_APP_H
#define ISIMUD_TEST_STREAM_APP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "codec/sse.h"
#include "conn/private.h"
#include "loopback.h"
#include "oom.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

#define UPGRADE                                                                \
	"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"               \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* Of HTTP/1.0, which gets lines as they are, without chunks around them. */
#define GET_OLD(path) "GET " path " HTTP/1.0\r\n\r\n"

#define FIRST "retry: 1\n\n"

/* What the hooks saw, and what they are to do. */
struct app {
	struct loopback l;
	struct conn *conn; /* that of the last request, until it ends */
	unsigned ends;
	struct buf texts; /* of messages, each with a ';' */
	unsigned messages;
	bool pauses;                 /* at each message */
	bool resumes;                /* right after */
	enum close_reason then_ends; /* right after, if not NONE */
	unsigned rooms;
	size_t to_feed; /* bytes that on_room sends, as long as it may */
	struct span subprotocol;
	unsigned asked; /* times that fields were asked for */
};

struct app *app_of(const struct conn *c);

bool is_path(const struct http_request *request, const char *path);

void on_head(struct conn *c, const struct http_request *request);

void on_request(struct conn *c, const struct http_request *request);

/* Tells what it was asked about: the spans must be those of the request. */
const char *fields(struct conn *c, const struct http_request *request,
		   struct span origin);

void on_message(struct conn *c, bool is_text, struct span message);

void on_room(struct conn *c);

void on_end(struct conn *c);

static const struct conn_hooks hooks = {
	.on_head = on_head,
	.on_request = on_request,
	.fields = fields,
	.on_message = on_message,
	.on_room = on_room,
	.on_end = on_end,
};

struct app *app_new(const struct conn_limits *limits);

struct app *app_with_duration(enum deadline_kind kind, uint64_t ms);

void app_free(struct app *a);

int set_up(void **state);

int tear_down(void **state);

/* Sends a request, and skips the head of the answer. */
struct client *ask(struct app *a, struct client *c, const char *request);

struct client *open_stream(struct app *a);

struct client *open_websocket(struct app *a);

struct chunk *chunk_of(const char *text);

void send_filling(struct conn *c, size_t len);

void wait_for_frame(struct app *a, struct client *c, struct frame *out);

void expect_close(struct app *a, struct client *c, unsigned code);

void expect_ending(struct app *a, enum stats_counter how);

#define WITH_APP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
