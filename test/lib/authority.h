/* authority.h - servers that stand for AUTH_URL, with scripts of what
 * they answer, and clients that authority_ask. */
#ifndef ISIMUD_TEST_AUTHORITY_H
#define ISIMUD_TEST_AUTHORITY_H

#include "access/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aborts.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/version.h"
#include "oom.h"

#define LONG_MS 20000u /* a time-out that no test waits for */

#define SHORT_MS 200u /* a time-out that a test waits for */

#define DEADLINE_MS 5000u /* for what must happen before LONG_MS */

#define CHECKS_MAX 4u

#define REQUEST_MAX 65536

#define WORKERS 3

#define ENTRIES_MAX 4u

/* getaddrinfo() for libcurl: "stuck.test" takes until release_lookups(), any
 * other name is 127.0.0.1 at once. */
extern uv_mutex_t lookups_mutex;

extern uv_cond_t lookups_released;

extern bool lookups_stuck;

extern atomic_uint lookups_begun, lookups_ended;

typedef int lookup_fn(const char *node, const char *service,
		      const struct addrinfo *hints, struct addrinfo **out);

void release_lookups(void);

/* libcurl's allocations: the one after `allocations_left` others fails. */
extern atomic_int allocations_left;

bool is_to_fail(void);

void *failing_malloc(size_t size);

void *failing_calloc(size_t count, size_t size);

void *failing_realloc(void *old, size_t size);

char *failing_strdup(const char *text);

void let_all_allocations_pass(void);

struct authority;

typedef void script_fn(struct authority *a, int fd);

struct authority {
	uv_sem_t leave; /* for answer_when_told() */
	int listener;
	int port;
	uv_thread_t thread;
	script_fn *script; /* NULL: connections are never accepted */
	const char *text;  /* what the script sends */
	size_t text_len;
	atomic_uint connections;
	atomic_uint dropped;       /* ended by the client */
	atomic_uint answers;       /* sent to their end */
	atomic_uint requests;      /* heads that came whole */
	char request[REQUEST_MAX]; /* the last; read once `requests` says so */
};

/* Returns false once the client has closed, or after a long silence. */
bool read_request(struct authority *a, int fd);

bool authority_send_bytes(int fd, const char *bytes, size_t len);

bool authority_send_text(int fd, const char *text);

void authority_main(void *arg);

void authority_start(struct authority *a, script_fn *script, const char *text,
		     int backlog);

void authority_stop(struct authority *a);

/* Answers each request with the text, until the client closes. */
void answer(struct authority *a, int fd);

/* The text ends in a head; a byte of something more comes every 10 ms. */
void answer_and_drip(struct authority *a, int fd);

struct world {
	uv_loop_t loop;
	uv_timer_t ticker;
	unsigned ticks;
	struct mailbox boxes[WORKERS];
	struct mailbox *mailboxes[WORKERS];
	struct auth *auths[WORKERS]; /* most tests have the first only */
	struct auth_cache *auth_cache;
	size_t memory_used;
	struct authority authority;
	bool has_authority;
	char url[128];
	unsigned queue_max; /* of the auth_cache that are opened next */
};

/* What became of one check. */
struct asked {
	struct world *world;
	unsigned worker;
	struct auth_check *check;
	enum auth_answer verdict;
	unsigned calls;
	void (*then)(struct asked *self); /* inside the callback; or NULL */
	struct asked *other;
};

void on_answer(void *user, enum auth_answer verdict);

void on_tick(uv_timer_t *ticker);

/* Runs the loop until `condition`, which other threads may bring about. */
#define RUN_UNTIL(w, condition)                                                \
	do {                                                                   \
		(w)->ticks = 0;                                                \
		uv_timer_start(&(w)->ticker, on_tick, 5, 5);                   \
		while (!(condition) && (w)->ticks < DEADLINE_MS / 5)           \
			uv_run(&(w)->loop, UV_RUN_ONCE);                       \
		uv_timer_stop(&(w)->ticker);                                   \
		assert_true(condition);                                        \
	} while (0)

/* Lets whatever might still come, come. */
void run_for_a_while(struct world *w);

uint64_t now_ms(void);

/* What worker.c does, for a worker without an auth too. */
void on_mail(uv_async_t *async);

void open_auth_cache(struct world *w, unsigned checks_max, uint64_t ttl_ms);

size_t authority_settled_memory_used(void);

int setup(void **state);

/* Each test ends with a loop that closes clean. */
int teardown(void **state);

void open_worker(struct world *w, unsigned worker, unsigned timeout_ms);

void open_auth(struct world *w, const char *host, unsigned timeout_ms);

void start_authority(struct world *w, script_fn *script, const char *text);

void start_world(struct world *w, script_fn *script, const char *text,
		 unsigned timeout_ms);

/* An authority that takes connections and never says a word. */
void start_mute_world(struct world *w, unsigned timeout_ms);

int start_check(struct world *w, const struct auth_request *request,
		struct asked *q);

void ask_about(struct world *w, const char *token, struct asked *q);

void authority_ask(struct world *w, struct asked *q);

/* About somebody else than whoever was asked about before. */
void ask_anew(struct world *w, struct asked *q);

enum auth_answer verdict(struct world *w);

void ask_and_wait(struct world *w, const struct auth_request *request);

void cancel_other(struct asked *q);

void ask_other(struct asked *q);

int group_setup(void **state);

int group_teardown(void **state);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
