/* loopback.h - a group of connections on a loop, and clients of it, all on one
 * thread: the clients never block, and every wait turns the loop. To
 * be included after cmocka.h. */
#ifndef ISIMUD_TEST_LOOPBACK_H
#define ISIMUD_TEST_LOOPBACK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "conn/conn.h"

#define WAIT_MS     20000 /* after which what is waited for will not come */
#define CLIENTS_MAX 64
#define SMALL_BYTES 4096 /* kernel buffers of a connection that fills up */

#define OP_TEXT   0x1
#define OP_BINARY 0x2
#define OP_CLOSE  0x8
#define OP_PING   0x9
#define OP_PONG   0xa

/* A client: the other end of a connection, and what it has received. */
struct client {
	int fd; /* -1: closed */
	struct buf in;
	size_t at;     /* what next_frame() has not looked at yet */
	bool reads;    /* takes what comes, whenever the loop turns */
	bool is_over;  /* the server's end has come */
	bool is_reset; /* as a reset */
};

struct loopback {
	uv_loop_t loop;
	uv_prepare_t prepare;
	uv_timer_t tick; /* so that no turn of the loop waits long */
	struct stats stats;
	struct conn_group *group;
	struct client clients[CLIENTS_MAX];
	unsigned clients_count;
	unsigned states_seen; /* a bit each */
	size_t memory_used;   /* before it was opened */
	void *context;        /* the test's */
};

/* Over all tests of the program. */
extern uint64_t totals[STATS_COUNT];
extern unsigned states_seen;

extern const struct conn_limits roomy_limits;

/* What is charged to the budget (memory.h); so far from 0 that what is credited
 * and was never charged shows, too. */
size_t settled_memory_used(void);

/* Sets another limit, 0 for none, and leaves alone what is used. */
void set_memory_limit(size_t bytes);

void loopback_open(struct loopback *l, const struct conn_hooks *hooks,
		   const struct conn_limits *limits);

/* --- the loop ------------------------------------------------------------- */

void client_take(struct client *c);

size_t count_in(const struct loopback *l, enum conn_state state);

size_t queued_bytes(const struct loopback *l);

/* Turns the loop once. */
void turn(struct loopback *l);

/* For what must not happen: lets some time pass. */
void turn_for(struct loopback *l, uint64_t ms);

#define WAIT_UNTIL(l, condition)                                               \
	do {                                                                   \
		uint64_t until_ = uv_hrtime() + WAIT_MS * 1000000ULL;          \
		while (!(condition)) {                                         \
			if (uv_hrtime() > until_)                              \
				fail_msg("never came: %s", #condition);        \
			turn(l);                                               \
		}                                                              \
	} while (0)

uint64_t ended(const struct loopback *l, enum stats_counter how);

/* --- clients -------------------------------------------------------------- */

int listen_on_loopback(struct sockaddr_in *name);

/* A connected pair of TCP sockets; `buffer_bytes` of room in the kernel on
 * either side, or 0 for its default. */
void tcp_pair(int buffer_bytes, int *server, int *client);

struct client *add_client(struct loopback *l, int fd);

struct client *connect_client(struct loopback *l);

/* One that does not read for now, and whose connection fills up soon. */
struct client *connect_lazy_client(struct loopback *l);

void send_bytes(struct client *c, const void *bytes, size_t len);

void send_text(struct client *c, const char *text);

/* Sends what is in `b`, and frees it. */
void send_buf(struct client *c, struct buf *b);

/* Appends a masked frame; the mask is 0, which masks nothing. */
void put_frame(struct buf *b, unsigned opcode, struct span text);

/* The same of a text message. */
void put_text(struct buf *b, const char *text);

void send_frame(struct client *c, unsigned opcode, struct span text);

void close_client(struct client *c);

void reset_client(struct client *c);

/* How often `text` stands in what the client got, from `at` on. */
unsigned count_of(const struct client *c, const char *text);

unsigned responses(const struct client *c);

/* Where `text` stands; fails if it does not. */
size_t place_of(const struct client *c, const char *text);

/* --- frames from the server ----------------------------------------------- */

struct frame {
	unsigned opcode;
	unsigned code; /* of a Close */
	struct span payload;
};

uint64_t read_number(const uint8_t *bytes, size_t len);

/* Takes the next whole frame; false if there is none yet. It is valid until
 * more is received. */
bool next_frame(struct client *c, struct frame *out);

/* The head of the 101 response is no frame. */
void skip_upgrade(struct client *c);

/* --- the end -------------------------------------------------------------- */

/* Ends all, and finds out whether the loop closes clean, with all that was
 * charged credited. */
void loopback_close(struct loopback *l);

#endif
