/* service.h - the server without its acceptor: workers with the application of
 * api/, on threads of their own, and clients of them. To be included after
 * cmocka.h. */
#ifndef ISIMUD_TEST_SERVICE_H
#define ISIMUD_TEST_SERVICE_H

#include "config/config.h"
#include "loopback.h"
#include "server/worker.h"

#define SERVICE_PASSWORD "secret"
#define SERVICE_BASIC    "Authorization: Basic bmV3czpzZWNyZXQ=\r\n" /* news */
#define SERVICE_UPGRADE                                                        \
	"Connection: Upgrade\r\nUpgrade: websocket\r\n"                        \
	"Sec-WebSocket-Version: 13\r\n"                                        \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define SERVICE_WORKERS 1

struct service {
	struct config config;
	struct worker_shared shared;
	struct worker *workers[SERVICE_WORKERS];
	struct mailbox *mailboxes[SERVICE_WORKERS];
	struct client clients[CLIENTS_MAX];
	unsigned clients_count;
	unsigned connected; /* so far */
	size_t memory_used; /* before it was opened */
	struct stats acceptor;
};

/* Starts it with the settings of `get` (config_load()); NULL: none is set. */
void service_open(struct service *s, config_get_cb get);

/* Stops it, and finds out whether all that was charged is credited. */
void service_close(struct service *s);

/* A client, connected, in the place of one that is over. It takes what comes in
 * each service_turn(). */
struct client *service_connect(struct service *s);

/* Gives the workers a moment, and takes what has come. */
void service_turn(struct service *s);

#define SERVICE_UNTIL(s, condition)                                            \
	do {                                                                   \
		uint64_t until_ = uv_hrtime() + WAIT_MS * 1000000ULL;          \
		while (!(condition)) {                                         \
			if (uv_hrtime() > until_)                              \
				fail_msg("never came: %s", #condition);        \
			service_turn(s);                                       \
		}                                                              \
	} while (0)

/* Sends a request, and waits for what comes of it: returns the status code of
 * the answer, whose head and content lie in `c->in` and end in a NUL; 0 if the
 * connection ended without one. */
int service_ask(struct service *s, struct client *c, const char *request);

/* A WebSocket of isimud.v1 without a subscription, the publisher's own. */
struct client *service_open_v1(struct service *s);

/* Waits for the next frame; false if the connection ended without one. */
bool service_receive(struct service *s, struct client *c, struct frame *out);

/* The one of a program whose tests have no settings. */
extern struct service service;

int service_set_up(void **state);
int service_tear_down(void **state);

#define WITH_SERVICE(test)                                                     \
	cmocka_unit_test_setup_teardown(test, service_set_up, service_tear_down)

#endif
