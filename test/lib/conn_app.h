/* conn_app.h - connections whose hooks do as a test says. */
#ifndef ISIMUD_TEST_CONN_APP_H
#define ISIMUD_TEST_CONN_APP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "conn/private.h"
#include "loopback.h"
#include "oom.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

#define UPGRADE(path)                                                          \
	"GET " path " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"          \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

#define BIG_BYTES 50000 /* the content of /big: under the high water */

#define HUGE_BYTES 500000 /* of /huge: over it */

#define PENDING_MAX 64

/* What the hooks saw, and what they are to do. */
struct app {
	struct loopback l;
	struct conn *pending[PENDING_MAX]; /* to be answered by the test */
	unsigned pending_count;
	struct conn *websocket; /* the last that was accepted */
	unsigned heads;
	unsigned requests;
	unsigned ends;
	struct buf texts; /* of messages, each with a ';' */
	unsigned messages;
	enum close_reason on_message; /* ends the connection, if not NONE */
	bool is_later;                /* by conn_end_later() */
	enum conn_state state_after_end;
	bool has_no_memory; /* ends are not counted */
	bool pauses;        /* at each message */
};

struct app *conn_app_of(const struct conn *c);

bool app_is_path(const struct http_request *request, const char *path);

void app_on_head(struct conn *c, const struct http_request *request);

void respond_with(struct conn *c, struct span content);

void respond_with_filling(struct conn *c, size_t len);

void upgrade(struct conn *c);

void keep_pending(struct conn *c);

void app_on_request(struct conn *c, const struct http_request *request);

void app_on_message(struct conn *c, bool is_text, struct span message);

const char *app_fields(struct conn *c, const struct http_request *request,
		       struct span origin);

void app_on_room(struct conn *c);

void app_on_end(struct conn *c);

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(bool),
	.on_head = app_on_head,
	.on_request = app_on_request,
	.fields = app_fields,
	.on_room = app_on_room,
	.on_message = app_on_message,
	.on_end = app_on_end,
};

struct app *conn_app_new(const struct conn_limits *limits);

struct app *conn_app_with_duration(enum deadline_kind kind, uint64_t ms);

void conn_app_free(struct app *a);

int app_set_up(void **state);

int app_tear_down(void **state);

struct client *app_open_websocket(struct app *a);

/* One that has stopped reading, on small kernel buffers. */
struct client *open_lazy_websocket(struct app *a);

struct chunk *frame_of(unsigned opcode, size_t len, char filling);

void app_send_filling(struct conn *c, size_t len, char filling);

void app_wait_for_frame(struct app *a, struct client *c, struct frame *out);

void app_expect_close(struct app *a, struct client *c, unsigned code);

void app_expect_ending(struct app *a, enum stats_counter how);

#ifndef STORM_ROUNDS
#define STORM_ROUNDS 20
#endif

#define WITH_APP(test)                                                         \
	cmocka_unit_test_setup_teardown(test, app_set_up, app_tear_down)

#endif
