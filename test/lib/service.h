/* service.h - the server without its acceptor: workers with the application of
 * api/, on threads of their own, and clients of them. To be included after
 * cmocka.h. */
#ifndef ISIMUD_TEST_SERVICE_H
#define ISIMUD_TEST_SERVICE_H

#include "crew.h"

#define SERVICE_PASSWORD "secret"
#define SERVICE_BASIC    "Authorization: Basic bmV3czpzZWNyZXQ=\r\n" /* news */
#define SERVICE_UPGRADE                                                        \
	"Connection: Upgrade\r\nUpgrade: websocket\r\n"                        \
	"Sec-WebSocket-Version: 13\r\n"                                        \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define SERVICE_WORKERS 1

/* One worker. */
struct service {
	struct config config;
	struct crew crew;
	unsigned connected; /* so far */
	struct stats acceptor;
};

/* Starts it with the settings of `get` (config_load()); NULL: none is set. */
void service_open(struct service *s, config_get_cb get);

/* Stops it, and finds out whether all that was charged is credited. */
void service_close(struct service *s);

/* A client, connected, in the place of one that is over. */
struct client *service_connect(struct service *s);

#define SERVICE_UNTIL(s, condition) CREW_UNTIL(&(s)->crew, condition)

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
