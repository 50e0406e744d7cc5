/* office.h - a worker's subscribers, with clients. */
#ifndef ISIMUD_TEST_OFFICE_H
#define ISIMUD_TEST_OFFICE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fanout/members.h"
#include "fanout/subscribers.h"
#include "loopback.h"
#include "oom.h"
#include "topics/encode.h"

#include <inttypes.h>

#define UPGRADE                                                                \
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"                 \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                  \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

#define STREAM "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"

#define OLD_STREAM "GET /events HTTP/1.0\r\n\r\n"

#define WORKERS 2

#define MAILBOX_MAX (1 << 20)

#define SIBLINGS 3

struct office {
	struct loopback l;
	struct mailbox mailboxes[WORKERS];
	struct mailbox *by_worker[WORKERS];
	struct registry *registry;
	struct subscribers subscribers[WORKERS];
	struct conn *newest;
};

/* What a connection is to its worker (conn_user). */
struct member {
	struct subscribers *all;
	struct subscriber subscriber;
	struct subscriber siblings[SIBLINGS];
	struct subscriber *lossy[SIBLINGS]; /* NULL: none */
	size_t lossy_bytes;
};

/* A subscriber as the tests see it. */
struct reader {
	struct client *client;
	struct conn *conn;
	struct member *member;
};

void office_on_head(struct conn *c, const struct http_request *request);

void office_on_request(struct conn *c, const struct http_request *request);

void office_on_message(struct conn *c, bool is_text, struct span message);

void office_on_end(struct conn *c);

void office_on_room(struct conn *c);

/* What was lost last, and how often. */
extern uint64_t lost_from;

extern uint64_t lost_to;

extern unsigned losses;

void on_loss(struct subscribers *all, struct subscriber *s, uint64_t from,
	     uint64_t to);

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(struct member),
	.on_head = office_on_head,
	.on_request = office_on_request,
	.on_message = office_on_message,
	.on_room = office_on_room,
	.on_end = office_on_end,
};

void on_wake(uv_async_t *async);

int set_up_with(void **state, uint32_t history_size);

int office_set_up(void **state);

void deliver(struct office *o, unsigned worker);

/* Lets all go that is charged, so that what is not credited shows. */
void end_all(struct office *o);

int office_tear_down(void **state);

struct topic_key key_of(const char *topic);

struct reader connect_to(struct office *o, unsigned worker, const char *request,
			 bool is_lazy);

struct reader connect_reader(struct office *o, unsigned worker, bool is_lazy);

void join(struct reader *r, const char *topic);

void office_leave(struct reader *r);

struct reader subscribe(struct office *o, unsigned worker, const char *topic);

struct message *publish_filling(struct office *o, const char *topic,
				size_t len);

/* Publishes the text of number `n`, which the topic must be at. */
void publish_nth(struct office *o, const char *topic, uint64_t n);

void publish_from_to(struct office *o, const char *topic, uint64_t from,
		     uint64_t to);

/* Appends what publish_nth() makes, in a form. */
void put_form(struct office *o, struct buf *out, const char *topic,
	      enum message_form form, uint64_t n);

struct span unread(const struct reader *r);

/* Waits for exactly these bytes; then nothing more may come. */
void expect_bytes(struct office *o, struct reader *r, struct span bytes);

void expect_from_to(struct office *o, struct reader *r, const char *topic,
		    uint64_t from, uint64_t to);

const char *request_of(enum message_form form);

struct reader subscribe_in(struct office *o, unsigned worker, const char *topic,
			   enum message_form form);

#define WITH_OFFICE(test)                                                      \
	cmocka_unit_test_setup_teardown(test, office_set_up, office_tear_down)

#endif
