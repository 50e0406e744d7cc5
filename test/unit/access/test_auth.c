/* test_auth.c - auth.c against authorities that answer well, badly, or not.
 *
 * An authority is a thread with plain blocking sockets; it serves one
 * connection after the other by a script. The checks run on the test's loop,
 * which all workers there are share: each has an auth and a mailbox. */
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

#define LONG_MS      20000u /* a time-out that no test waits for */
#define SHORT_MS     200u   /* a time-out that a test waits for */
#define DEADLINE_MS  5000u  /* for what must happen before LONG_MS */
#define CHECKS_MAX   4u
#define REQUEST_MAX  65536
#define CONNECTS_MAX 8
#define WORKERS      3
#define ENTRIES_MAX  4u

/* --- name lookups --------------------------------------------------------- */

/* getaddrinfo() for libcurl: "stuck.test" takes until release_lookups(), any
 * other name is 127.0.0.1 at once. */
static uv_mutex_t lookups_mutex;
static uv_cond_t lookups_released;
static bool lookups_stuck;
static atomic_uint lookups_begun, lookups_ended;

typedef int lookup_fn(const char *node, const char *service,
		      const struct addrinfo *hints, struct addrinfo **out);

int getaddrinfo(const char *node, const char *service,
		const struct addrinfo *hints, struct addrinfo **out)
{
	uint64_t patience = 3000000000; /* ns; then a test fails, not hangs */
	lookup_fn *real;
	int rv = 0;

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	atomic_fetch_add(&lookups_begun, 1);
	uv_mutex_lock(&lookups_mutex);
	while (rv == 0 && lookups_stuck && strcmp(node, "stuck.test") == 0)
		rv = uv_cond_timedwait(&lookups_released, &lookups_mutex,
				       patience);
	uv_mutex_unlock(&lookups_mutex);
	rv = real("127.0.0.1", service, hints, out);
	atomic_fetch_add(&lookups_ended, 1);
	return rv;
}

static void release_lookups(void)
{
	uv_mutex_lock(&lookups_mutex);
	lookups_stuck = false;
	uv_cond_broadcast(&lookups_released);
	uv_mutex_unlock(&lookups_mutex);
}

/* --- allocations ---------------------------------------------------------- */

/* libcurl's allocations: the one after `allocations_left` others fails. */
static atomic_int allocations_left;

static bool is_to_fail(void)
{
	return atomic_fetch_sub(&allocations_left, 1) == 0;
}

static void *failing_malloc(size_t size)
{
	return is_to_fail() ? NULL : malloc(size);
}

static void *failing_calloc(size_t count, size_t size)
{
	return is_to_fail() ? NULL : calloc(count, size);
}

static void *failing_realloc(void *old, size_t size)
{
	return is_to_fail() ? NULL : realloc(old, size);
}

static char *failing_strdup(const char *text)
{
	return is_to_fail() ? NULL : strdup(text);
}

static void let_all_allocations_pass(void)
{
	atomic_store(&allocations_left, -1);
}

/* --- authorities ---------------------------------------------------------- */

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
static bool read_request(struct authority *a, int fd)
{
	size_t len = 0;
	ssize_t n;

	while (len < REQUEST_MAX - 1) {
		n = recv(fd, a->request + len, REQUEST_MAX - 1 - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
		a->request[len] = '\0';
		if (strstr(a->request, "\r\n\r\n") != NULL) {
			atomic_fetch_add(&a->requests, 1);
			return true;
		}
	}
	return false;
}

static bool send_bytes(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	for (; len > 0; bytes += n, len -= (size_t)n) {
		n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
	}
	return true;
}

static bool send_text(int fd, const char *text)
{
	return send_bytes(fd, text, strlen(text));
}

static void wait_for_close(struct authority *a, int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	if (n == 0 || (n < 0 && errno == ECONNRESET))
		atomic_fetch_add(&a->dropped, 1);
}

static void authority_main(void *arg)
{
	struct authority *a = arg;
	struct timeval patience = {.tv_sec = 10};
	int on = 1;
	int fd;

	while ((fd = accept(a->listener, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
			   sizeof(patience));
		atomic_fetch_add(&a->connections, 1);
		a->script(a, fd);
		close(fd);
	}
}

static void authority_start(struct authority *a, script_fn *script,
			    const char *text, int backlog)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memset(a, 0, sizeof(*a));
	assert_int_equal(uv_sem_init(&a->leave, 0), 0);
	a->script = script;
	a->text = text;
	a->text_len = text == NULL ? 0 : strlen(text);
	a->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(a->listener >= 0);
	assert_int_equal(bind(a->listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(a->listener, backlog), 0);
	assert_int_equal(getsockname(a->listener, (struct sockaddr *)&at, &len),
			 0);
	a->port = ntohs(at.sin_port);
	if (script != NULL)
		assert_int_equal(
			uv_thread_create(&a->thread, authority_main, a), 0);
}

static void authority_stop(struct authority *a)
{
	uv_sem_post(&a->leave);
	shutdown(a->listener, SHUT_RDWR); /* ends accept() */
	if (a->script != NULL)
		uv_thread_join(&a->thread);
	close(a->listener);
	uv_sem_destroy(&a->leave);
}

/* --- scripts -------------------------------------------------------------- */

/* Answers each request with the text, until the client closes. */
static void answer(struct authority *a, int fd)
{
	while (read_request(a, fd)) {
		if (!send_bytes(fd, a->text, a->text_len))
			break;
		atomic_fetch_add(&a->answers, 1);
	}
	atomic_fetch_add(&a->dropped, 1);
}

/* Waits for `leave`, answers and closes: another worker's connection may be the
 * next. */
static void answer_when_told(struct authority *a, int fd)
{
	if (!read_request(a, fd))
		return;
	uv_sem_wait(&a->leave);
	send_bytes(fd, a->text, a->text_len);
}

static void answer_and_close(struct authority *a, int fd)
{
	if (read_request(a, fd))
		send_bytes(fd, a->text, a->text_len);
}

static void answer_and_reset(struct authority *a, int fd)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	answer_and_close(a, fd);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

static void answer_byte_by_byte(struct authority *a, int fd)
{
	if (!read_request(a, fd))
		return;
	for (size_t i = 0; i < a->text_len; i++) {
		if (!send_bytes(fd, a->text + i, 1))
			break;
		usleep(500);
	}
	wait_for_close(a, fd);
}

/* The text ends in a head; a byte of something more comes every 10 ms. */
static void answer_and_drip(struct authority *a, int fd)
{
	if (!read_request(a, fd) || !send_bytes(fd, a->text, a->text_len))
		return;
	while (send_text(fd, "x"))
		usleep(10000);
	atomic_fetch_add(&a->dropped, 1);
}

/* Repeats the text's last line as fast as it is read. */
static void answer_and_flood(struct authority *a, int fd)
{
	const char *last = a->text + a->text_len - 1;

	while (last > a->text && last[-1] != '\n')
		last--;
	if (!read_request(a, fd) || !send_bytes(fd, a->text, a->text_len))
		return;
	while (send_text(fd, last))
		;
	atomic_fetch_add(&a->dropped, 1);
}

/* Sends each body 20 ms after its head. */
static void answer_body_later(struct authority *a, int fd)
{
	const char *body = strstr(a->text, "\r\n\r\n") + 4;

	while (read_request(a, fd)) {
		send_bytes(fd, a->text, (size_t)(body - a->text));
		usleep(20000);
		if (!send_text(fd, body))
			break;
		atomic_fetch_add(&a->answers, 1);
	}
	atomic_fetch_add(&a->dropped, 1);
}

/* --- the client's side ---------------------------------------------------- */

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

static void on_answer(void *user, enum auth_answer verdict)
{
	struct asked *q = user;

	q->calls++;
	q->verdict = verdict;
	q->check = NULL;
	if (q->then != NULL)
		q->then(q);
}

static void on_tick(uv_timer_t *ticker)
{
	struct world *w = ticker->data;

	w->ticks++;
}

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
static void run_for_a_while(struct world *w)
{
	for (int turns = 0; turns < 20; turns++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		usleep(2000);
	}
}

static uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000;
}

/* What worker.c does, for a worker without an auth too. */
static void on_mail(uv_async_t *async)
{
	struct mailbox *m = CONTAINER_OF(async, struct mailbox, async);
	struct world *w = CONTAINER_OF(m - m->worker, struct world, boxes[0]);
	struct mail mail;

	mailbox_take(m, &mail);
	while (mail.notes != NULL) {
		struct mailbox_note *note = mail.notes;
		struct auth *a = w->auths[m->worker];
		mail.notes = note->next;
		if (a != NULL)
			auth_take_note(a, note);
		else
			free(note);
	}
}

static void open_auth_cache(struct world *w, unsigned checks_max,
			    uint64_t ttl_ms)
{
	struct auth_cache_options options = {.checks_max = checks_max,
					     .queue_max = w->queue_max,
					     .ttl_ms = ttl_ms,
					     .entries_max = ENTRIES_MAX,
					     .mailboxes = w->mailboxes};

	auth_cache_free(w->auth_cache);
	assert_int_equal(auth_cache_new(&w->auth_cache, &options), 0);
}

static size_t settled_memory_used(void)
{
	memory_settle();
	return memory_used();
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		w->mailboxes[i] = &w->boxes[i];
		assert_int_equal(
			mailbox_open(&w->boxes[i], &w->loop, i, 1000, on_mail),
			0);
	}
	w->memory_used = settled_memory_used();
	open_auth_cache(w, CHECKS_MAX, 0);
	uv_timer_init(&w->loop, &w->ticker);
	w->ticker.data = w;
	atomic_store(&lookups_begun, 0);
	atomic_store(&lookups_ended, 0);
	lookups_stuck = true;
	*state = w;
	return 0;
}

/* Each test ends with a loop that closes clean. */
static int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < WORKERS; i++)
		auth_close(w->auths[i]);
	auth_cache_free(w->auth_cache); /* so nothing is asked any more */
	assert_int_equal(settled_memory_used(), w->memory_used);
	for (unsigned i = 0; i < WORKERS; i++)
		mailbox_close(&w->boxes[i]);
	uv_close((uv_handle_t *)&w->ticker, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	for (unsigned i = 0; i < WORKERS; i++)
		mailbox_fini(&w->boxes[i]);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	release_lookups();
	for (unsigned i = 0;
	     i < DEADLINE_MS &&
	     atomic_load(&lookups_ended) < atomic_load(&lookups_begun);
	     i++)
		usleep(1000);
	assert_int_equal(lookups_begun, lookups_ended);
	if (w->has_authority)
		authority_stop(&w->authority);
	free(w);
	return 0;
}

static void open_worker(struct world *w, unsigned worker, unsigned timeout_ms)
{
	struct auth_options options = {.url = w->url,
				       .timeout_ms = timeout_ms,
				       .kept_max = CHECKS_MAX,
				       .auth_cache = w->auth_cache,
				       .worker = worker};

	assert_int_equal(auth_open(&w->auths[worker], &w->loop, &options), 0);
}

static void open_auth(struct world *w, const char *host, unsigned timeout_ms)
{
	snprintf(w->url, sizeof(w->url), "http://%s:%d/verify?by=isimud", host,
		 w->authority.port);
	open_worker(w, 0, timeout_ms);
}

static void close_worker(struct world *w, unsigned worker)
{
	auth_close(w->auths[worker]);
	w->auths[worker] = NULL;
}

static void start_authority(struct world *w, script_fn *script,
			    const char *text)
{
	authority_start(&w->authority, script, text, 16);
	w->has_authority = true;
}

static void start_world(struct world *w, script_fn *script, const char *text,
			unsigned timeout_ms)
{
	start_authority(w, script, text);
	open_auth(w, "127.0.0.1", timeout_ms);
}

/* An authority that takes connections and never says a word. */
static void start_mute_world(struct world *w, unsigned timeout_ms)
{
	start_world(w, NULL, NULL, timeout_ms);
}

static int start_check(struct world *w, const struct auth_request *request,
		       struct asked *q)
{
	int rv;

	q->world = w;
	q->calls = 0;
	rv = auth_check_start(w->auths[q->worker], request, on_answer, q,
			      &q->check);
	assert_int_equal(q->calls, 0);
	return rv;
}

static void ask_about(struct world *w, const char *token, struct asked *q)
{
	struct auth_request request = {.token = span_of(token)};

	assert_int_equal(start_check(w, &request, q), 0);
}

static void ask(struct world *w, struct asked *q)
{
	ask_about(w, "s3cr.et-_~+/==", q);
}

/* About somebody else than whoever was asked about before. */
static void ask_anew(struct world *w, struct asked *q)
{
	static unsigned number;
	char token[32];

	snprintf(token, sizeof(token), "token-%u", number++);
	ask_about(w, token, q);
}

static enum auth_answer verdict(struct world *w)
{
	struct asked q = {0};

	ask(w, &q);
	RUN_UNTIL(w, q.calls > 0);
	assert_int_equal(q.calls, 1);
	return q.verdict;
}

/* The verdict on `text`, sent by `script`, which must not take long. */
static enum auth_answer verdict_on(void **state, script_fn *script,
				   const char *text)
{
	start_world(*state, script, text, LONG_MS);
	return verdict(*state);
}

/* The same if nothing but the time-out ends the check. */
static enum auth_answer late_verdict_on(void **state, script_fn *script,
					const char *text)
{
	uint64_t begin = now_ms();
	enum auth_answer v;

	start_world(*state, script, text, SHORT_MS);
	v = verdict(*state);
	assert_in_range(now_ms() - begin, SHORT_MS - 20, SHORT_MS + 1500);
	return v;
}

/* --- auth_cache -------------------------------------------------------------
 */

static void status_204_is_a_yes(void **state)
{
	assert_int_equal(
		verdict_on(state, answer, "HTTP/1.1 204 No Content\r\n\r\n"),
		AUTH_YES);
}

static void any_2xx_status_is_a_yes(void **state)
{
	assert_int_equal(
		verdict_on(state, answer,
			   "HTTP/1.1 299 Ok\r\nContent-Length: 0\r\n\r\n"),
		AUTH_YES);
}

static void status_403_is_a_no_of_its_own(void **state)
{
	assert_int_equal(
		verdict_on(state, answer,
			   "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"),
		AUTH_FORBIDDEN);
}

static void status_401_is_a_no_and_asked_once(void **state)
{
	struct world *w = *state;

	assert_int_equal(verdict_on(state, answer,
				    "HTTP/1.1 401 No\r\nContent-Length: 0\r\n"
				    "WWW-Authenticate: Basic realm=x\r\n\r\n"),
			 AUTH_NO);
	assert_int_equal(w->authority.requests, 1);
}

static void status_5xx_is_an_outage(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close,
				    "HTTP/1.0 500 Oops\r\n\r\noops"),
			 AUTH_AWAY);
}

static void status_429_is_an_outage(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close,
				    "HTTP/1.0 429 Slow\r\n\r\n"),
			 AUTH_AWAY);
}

static void status_404_is_a_no(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close,
				    "HTTP/1.0 404 None\r\n\r\n"),
			 AUTH_NO);
}

static void a_redirect_is_a_no_and_not_followed(void **state)
{
	struct world *w = *state;

	assert_int_equal(verdict_on(state, answer,
				    "HTTP/1.1 302 Found\r\nLocation: /yes\r\n"
				    "Content-Length: 0\r\n\r\n"),
			 AUTH_NO);
	assert_int_equal(w->authority.requests, 1);
}

static void interim_responses_decide_nothing(void **state)
{
	assert_int_equal(verdict_on(state, answer,
				    "HTTP/1.1 100 Continue\r\n\r\n"
				    "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
				    "HTTP/1.1 204 No Content\r\n\r\n"),
			 AUTH_YES);
}

static void an_interim_response_alone_is_no_answer(void **state)
{
	assert_int_equal(
		late_verdict_on(state, answer, "HTTP/1.1 100 Go on\r\n\r\n"),
		AUTH_FAILED);
}

static void a_response_may_come_byte_by_byte(void **state)
{
	assert_int_equal(verdict_on(state, answer_byte_by_byte,
				    "HTTP/1.1 100 Continue\r\n\r\n"
				    "HTTP/1.1 401 No\r\n"
				    "Content-Length: 2\r\n\r\nno"),
			 AUTH_NO);
}

static void a_response_before_a_reset_counts(void **state)
{
	assert_int_equal(
		verdict_on(state, answer_and_reset,
			   "HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n"),
		AUTH_YES);
}

static void a_refused_connection_is_a_failure(void **state)
{
	struct world *w = *state;

	authority_start(&w->authority, NULL, NULL, 1);
	authority_stop(&w->authority); /* nobody listens there now */
	open_auth(w, "127.0.0.1", LONG_MS);
	assert_int_equal(verdict(w), AUTH_FAILED);
}

static void a_connection_closed_at_once_is_a_failure(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close, ""), AUTH_FAILED);
}

static void a_head_cut_short_is_a_failure(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close,
				    "HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n"),
			 AUTH_FAILED);
}

static void garbage_is_a_failure(void **state)
{
	assert_int_equal(verdict_on(state, answer,
				    "\x16\x03\x01\x02\x00 200 OK\r\n\r\n"),
			 AUTH_FAILED);
}

static void an_http_0_9_answer_is_a_failure(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_close, "<p>200 OK</p>\n"),
			 AUTH_FAILED);
}

/* --- stalls and floods ---------------------------------------------------- */

static void a_stall_in_connect_ends_with_the_timeout(void **state)
{
	struct world *w = *state;
	struct sockaddr_in at = {.sin_family = AF_INET};
	int fds[CONNECTS_MAX];
	uint64_t begin;

	authority_start(&w->authority, NULL, NULL, 0);
	w->has_authority = true;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.sin_port = htons((uint16_t)w->authority.port);
	for (int i = 0; i < CONNECTS_MAX; i++) { /* fills the backlog */
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&at, sizeof(at));
	}
	open_auth(w, "127.0.0.1", SHORT_MS);
	begin = now_ms();
	assert_int_equal(verdict(w), AUTH_FAILED);
	assert_in_range(now_ms() - begin, SHORT_MS - 20, SHORT_MS + 1500);
	for (int i = 0; i < CONNECTS_MAX; i++)
		close(fds[i]);
}

static void a_stall_in_the_head_ends_with_the_timeout(void **state)
{
	assert_int_equal(late_verdict_on(state, NULL, NULL), AUTH_FAILED);
}

static void a_dripping_head_ends_with_the_timeout(void **state)
{
	assert_int_equal(late_verdict_on(state, answer_and_drip,
					 "HTTP/1.1 200 Ok\r\nA: "),
			 AUTH_FAILED);
}

static void endless_header_lines_fail_before_the_timeout(void **state)
{
	struct world *w = *state;

	assert_int_equal(verdict_on(state, answer_and_flood,
				    "HTTP/1.1 200 Ok\r\nA: b\r\n"),
			 AUTH_FAILED);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void an_endless_header_line_fails_before_the_timeout(void **state)
{
	assert_int_equal(verdict_on(state, answer_and_flood,
				    "HTTP/1.1 200 Ok\r\nAaaaaaaaaaaaa"),
			 AUTH_FAILED);
}

static void endless_interim_responses_fail_before_the_timeout(void **state)
{
	static char text[32 * 1024]; /* the authority reads it until it ends */

	for (size_t n = 0; n + 32 < sizeof(text); n += 25)
		memcpy(text + n, "HTTP/1.1 100 Continue\r\n\r\n", 26);
	assert_int_equal(verdict_on(state, answer, text), AUTH_FAILED);
}

/* 16 KiB are allowed, to the byte. */
static void the_head_may_have_16_kib(void **state)
{
	static const char start[] = "HTTP/1.1 204 No Content\r\n";
	struct world *w = *state;
	static char text[16 * 1024 + 1];

	memset(text, 'a', sizeof(text));
	memcpy(text, start, sizeof(start) - 1);
	text[sizeof(start)] = ':';
	memcpy(text + sizeof(text) - 5, "\r\n\r\n", 5);
	assert_int_equal(verdict_on(state, answer, text), AUTH_YES);
	assert_int_equal(verdict(w), AUTH_YES);
	assert_int_equal(w->authority.connections, 1);
}

static void a_head_over_16_kib_is_a_failure(void **state)
{
	static const char start[] = "HTTP/1.1 204 No Content\r\n";
	static char text[16 * 1024 + 2];

	memset(text, 'a', sizeof(text));
	memcpy(text, start, sizeof(start) - 1);
	text[sizeof(start)] = ':';
	memcpy(text + sizeof(text) - 5, "\r\n\r\n", 5);
	assert_int_equal(verdict_on(state, answer, text), AUTH_FAILED);
}

static void an_endless_body_does_not_delay_the_yes(void **state)
{
	struct world *w = *state;

	assert_int_equal(verdict_on(state, answer_and_flood,
				    "HTTP/1.1 200 Ok\r\n\r\nxxxxxxxxxxxxxxxx"),
			 AUTH_YES);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void a_dripping_body_does_not_delay_the_yes(void **state)
{
	struct world *w = *state;
	uint64_t begin = now_ms();

	start_world(w, answer_and_drip,
		    "HTTP/1.1 200 Ok\r\nContent-Length: 1000\r\n\r\n", 1000);
	assert_int_equal(verdict(w), AUTH_YES);
	assert_in_range(now_ms() - begin, 0, 500);
	RUN_UNTIL(w, w->authority.dropped == 1); /* by the time-out */
}

static void a_body_that_never_comes_does_not_delay_the_no(void **state)
{
	assert_int_equal(
		verdict_on(state, answer,
			   "HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\n"),
		AUTH_NO);
}

/* --- connections ---------------------------------------------------------- */

/* Asks five times over one connection. */
static void assert_kept(void **state, script_fn *script, const char *text)
{
	struct world *w = *state;

	start_world(w, script, text, LONG_MS);
	for (unsigned i = 1; i <= 5; i++) {
		verdict(w);
		assert_int_equal(w->authority.requests, i);
		RUN_UNTIL(w, w->authority.answers == i);
		run_for_a_while(w); /* what was sent is there to be read */
	}
	assert_int_equal(w->authority.connections, 1);
}

static void a_response_without_body_keeps_the_connection(void **state)
{
	assert_kept(state, answer, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void a_short_body_keeps_the_connection(void **state)
{
	assert_kept(state, answer,
		    "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
}

static void a_short_chunked_body_keeps_the_connection(void **state)
{
	assert_kept(state, answer,
		    "HTTP/1.1 200 Ok\r\nTransfer-Encoding: chunked\r\n\r\n"
		    "2\r\nok\r\n0\r\nTrailer: x\r\n\r\n");
}

static void a_short_body_after_the_head_keeps_the_connection(void **state)
{
	assert_kept(state, answer_body_later,
		    "HTTP/1.1 200 Ok\r\nContent-Length: 2\r\n\r\nok");
}

static void a_connection_that_the_authority_closed_is_replaced(void **state)
{
	struct world *w = *state;

	start_world(w, answer_and_close,
		    "HTTP/1.1 200 Ok\r\nContent-Length: 0\r\n\r\n", LONG_MS);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(verdict(w), AUTH_YES);
		assert_int_equal(w->authority.connections, i);
	}
}

/* --- the request ---------------------------------------------------------- */

static void the_request_is_a_get_with_the_token_and_nothing_else(void **state)
{
	struct world *w = *state;
	char expected[512];

	verdict_on(state, answer, "HTTP/1.1 204 No Content\r\n\r\n");
	snprintf(expected, sizeof(expected),
		 "GET /verify?by=isimud HTTP/1.1\r\n"
		 "Host: 127.0.0.1:%d\r\n"
		 "User-Agent: isimud/" VERSION "\r\n"
		 "Accept: */*\r\n"
		 "Authorization: Bearer s3cr.et-_~+/==\r\n\r\n",
		 w->authority.port);
	assert_string_equal(w->authority.request, expected);
}

/* The lines of the only request, from the first field of ours on. */
static const char *own_lines(struct world *w)
{
	static const char before[] = "\r\nAccept: */*\r\n";
	const char *at;

	assert_int_equal(w->authority.requests, 1);
	at = strstr(w->authority.request, before);
	assert_non_null(at);
	return at + sizeof(before) - 1;
}

static void ask_and_wait(struct world *w, const struct auth_request *request)
{
	struct asked q = {0};

	assert_int_equal(start_check(w, request, &q), 0);
	RUN_UNTIL(w, q.calls == 1);
	assert_int_equal(q.verdict, AUTH_YES);
}

static void the_request_tells_all_that_it_was_given(void **state)
{
	struct world *w = *state;
	struct auth_request request = {
		.token = SPAN("abc"),
		.cookie = SPAN("a=b; session=\"x, y\""),
		.method = SPAN("GET"),
		.host = SPAN("push.example:8443"),
		.uri = SPAN("/sub?topic=a%20b&since=5-7"),
		.key_uri = SPAN("/sub?topic=a%20b"),
		.peer = "2001:db8::1"};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask_and_wait(w, &request);
	assert_string_equal(own_lines(w),
			    "X-Forwarded-Method: GET\r\n"
			    "X-Forwarded-Host: push.example:8443\r\n"
			    "X-Forwarded-Uri: /sub?topic=a%20b&since=5-7\r\n"
			    "X-Forwarded-For: 2001:db8::1\r\n"
			    "Cookie: a=b; session=\"x, y\"\r\n"
			    "Authorization: Bearer abc\r\n\r\n");
}

static void what_is_absent_is_not_sent(void **state)
{
	struct world *w = *state;
	struct auth_request request = {.cookie = SPAN("a=b"), .peer = ""};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask_and_wait(w, &request);
	assert_string_equal(own_lines(w), "Cookie: a=b\r\n\r\n");
}

static void what_is_empty_or_blank_is_sent_without_value(void **state)
{
	struct world *w = *state;
	struct auth_request request = {.cookie = SPAN(""),
				       .method = SPAN("GET"),
				       .host = SPAN(""),
				       .uri = SPAN(" \t")};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask_and_wait(w, &request);
	assert_string_equal(own_lines(w), "X-Forwarded-Method: GET\r\n"
					  "X-Forwarded-Host:\r\n"
					  "X-Forwarded-Uri:\r\n"
					  "Cookie:\r\n\r\n");
}

static void values_that_libcurl_might_take_for_more_are_sent_as_they_are(
	void **state)
{
	struct world *w = *state;
	struct auth_request request = {.cookie = SPAN(";"),
				       .method = SPAN("%s%n"),
				       .host = SPAN(":"),
				       .uri = SPAN("@file;x:")};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask_and_wait(w, &request);
	assert_string_equal(own_lines(w), "X-Forwarded-Method: %s%n\r\n"
					  "X-Forwarded-Host: :\r\n"
					  "X-Forwarded-Uri: @file;x:\r\n"
					  "Cookie: ;\r\n\r\n");
}

static struct span filled(char *bytes, size_t len, int first)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(first + (int)(i % 26));
	return (struct span){bytes, len};
}

static void long_values_arrive_whole(void **state)
{
	static char token[8192], uri[8192], cookie[16384];
	static char expected[REQUEST_MAX];
	struct world *w = *state;
	size_t before = settled_memory_used();
	struct auth_request request = {
		.token = filled(token, sizeof(token), 'a'),
		.cookie = filled(cookie, sizeof(cookie), 'A'),
		.uri = filled(uri, sizeof(uri), 'a')};
	struct asked q = {0};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	assert_int_equal(start_check(w, &request, &q), 0);
	/* Clients choose how long they are. */
	assert_true(settled_memory_used() - before >=
		    2 * (sizeof(token) + sizeof(uri) + sizeof(cookie)));
	RUN_UNTIL(w, q.calls == 1);
	snprintf(expected, sizeof(expected),
		 "X-Forwarded-Uri: %.*s\r\nCookie: %.*s\r\n"
		 "Authorization: Bearer %.*s\r\n\r\n",
		 (int)sizeof(uri), uri, (int)sizeof(cookie), cookie,
		 (int)sizeof(token), token);
	assert_string_equal(own_lines(w), expected);
}

struct attempt {
	struct world *world;
	struct auth_request request;
};

static void attempt(void *user)
{
	struct attempt *a = user;
	struct asked q = {0};

	start_check(a->world, &a->request, &q);
}

static void a_value_of_two_lines_ends_the_process(void **state)
{
	static const struct span values[] = {
		{"a\rb", 3}, {"a\nb", 3}, {"a\0b", 3}, {"\n", 1}};
	struct world *w = *state;

	start_mute_world(w, LONG_MS);
	for (int i = 0; i < 4; i++) {
		struct auth_request requests[] = {{.token = values[i]},
						  {.cookie = values[i]},
						  {.method = values[i]},
						  {.host = values[i]},
						  {.uri = values[i]}};
		for (int field = 0; field < 5; field++) {
			struct attempt a = {w, requests[field]};
			assert_true(aborts(attempt, &a));
		}
	}
	struct attempt fine = {w, {.token = SPAN("a\tb")}};
	assert_false(aborts(attempt, &fine));
}

static void a_url_of_another_scheme_is_not_asked(void **state)
{
	struct world *w = *state;
	struct auth_options options = {.url = w->url,
				       .timeout_ms = LONG_MS,
				       .kept_max = 1,
				       .auth_cache = w->auth_cache};

	start_authority(w, answer, "220 ready\r\n");
	snprintf(w->url, sizeof(w->url), "ftp://127.0.0.1:%d/",
		 w->authority.port);
	assert_int_equal(auth_open(&w->auths[0], &w->loop, &options), 0);
	assert_int_equal(verdict(w), AUTH_FAILED);
	assert_int_equal(w->authority.connections, 0);
}

static void a_token_ends_where_its_span_ends(void **state)
{
	struct world *w = *state;
	struct asked q = {0};
	struct auth_request request = {.token = {"abcdef", 3}};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	assert_int_equal(start_check(w, &request, &q), 0);
	RUN_UNTIL(w, q.calls == 1);
	assert_non_null(strstr(w->authority.request,
			       "\r\nAuthorization: Bearer abc\r\n"));
}

static void the_environments_proxy_is_asked(void **state)
{
	struct world *w = *state;
	char proxy[64];

	start_authority(w, answer, "HTTP/1.1 204 No Content\r\n\r\n");
	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d",
		 w->authority.port);
	setenv("http_proxy", proxy, 1);
	open_auth(w, "auth.test", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	unsetenv("http_proxy");
	assert_non_null(strstr(w->authority.request, "GET http://auth.test:"));
}

/* --- name lookups --------------------------------------------------------- */

static void a_name_is_looked_up(void **state)
{
	struct world *w = *state;

	start_authority(w, answer, "HTTP/1.1 204 No Content\r\n\r\n");
	open_auth(w, "auth.test", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	assert_int_equal(lookups_ended, 1);
}

static void a_stuck_lookup_ends_with_the_timeout(void **state)
{
	struct world *w = *state;
	uint64_t begin = now_ms();

	start_authority(w, NULL, NULL);
	open_auth(w, "stuck.test", SHORT_MS);
	assert_int_equal(verdict(w), AUTH_FAILED);
	assert_in_range(now_ms() - begin, SHORT_MS - 20, SHORT_MS + 1500);
	assert_int_equal(lookups_begun, 1);
	assert_int_equal(lookups_ended, 0);
}

static void a_cancel_does_not_wait_for_a_stuck_lookup(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_authority(w, NULL, NULL);
	open_auth(w, "stuck.test", LONG_MS);
	ask(w, &q);
	RUN_UNTIL(w, lookups_begun == 1);
	auth_check_cancel(q.check);
	assert_int_equal(lookups_ended, 0);
}

static void a_close_does_not_wait_for_a_stuck_lookup(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_authority(w, NULL, NULL);
	open_auth(w, "stuck.test", LONG_MS);
	ask(w, &q);
	RUN_UNTIL(w, lookups_begun == 1);
	auth_close(w->auths[0]);
	w->auths[0] = NULL;
	assert_int_equal(lookups_ended, 0);
	assert_int_equal(q.calls, 0);
}

/* --- cancelling and closing ----------------------------------------------- */

static void a_check_cancelled_at_once_is_not_called_back(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask(w, &q);
	auth_check_cancel(q.check);
	run_for_a_while(w);
	assert_int_equal(q.calls, 0);
	assert_int_equal(w->authority.connections, 0);
}

static void a_check_cancelled_after_connecting_is_not_called_back(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\nA: ", LONG_MS);
	ask(w, &q);
	RUN_UNTIL(w, w->authority.connections == 1);
	auth_check_cancel(q.check);
	RUN_UNTIL(w, w->authority.dropped == 1 || w->authority.requests == 0);
	assert_int_equal(q.calls, 0);
}

static void a_check_cancelled_in_the_head_is_not_called_back(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\nA: ", LONG_MS);
	ask(w, &q);
	RUN_UNTIL(w, w->authority.requests == 1);
	run_for_a_while(w);
	auth_check_cancel(q.check);
	RUN_UNTIL(w, w->authority.dropped == 1);
	assert_int_equal(q.calls, 0);
}

static void a_cancelled_check_gives_its_place_up(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_mute_world(w, LONG_MS);
	for (unsigned i = 0; i < 5 * CHECKS_MAX; i++) {
		ask(w, &q);
		auth_check_cancel(q.check);
	}
}

static void cancel_other(struct asked *q)
{
	if (q->other->check != NULL)
		auth_check_cancel(q->other->check);
	q->other->check = NULL;
}

/* Both time-outs have passed when the loop looks, so both auth_cache are
 * certain when the first callback comes. */
static void a_callback_may_cancel_a_check_that_is_decided(void **state)
{
	struct world *w = *state;
	struct asked first = {.then = cancel_other};
	struct asked second = {.then = cancel_other, .other = &first};

	first.other = &second;
	start_mute_world(w, SHORT_MS);
	ask_anew(w, &first);
	ask_anew(w, &second);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	usleep((SHORT_MS + 50) * 1000);
	RUN_UNTIL(w, first.calls + second.calls > 0);
	run_for_a_while(w);
	assert_int_equal(first.calls + second.calls, 1);
}

static void a_callback_may_cancel_a_check_that_is_under_way(void **state)
{
	struct world *w = *state;
	struct asked first = {.then = cancel_other};
	struct asked second = {.then = cancel_other, .other = &first};

	first.other = &second;
	/* The authority answers on one connection, and leaves the other be. */
	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask_anew(w, &first);
	ask_anew(w, &second);
	RUN_UNTIL(w, first.calls + second.calls > 0);
	run_for_a_while(w);
	assert_int_equal(first.calls + second.calls, 1);
}

static void ask_other(struct asked *q)
{
	ask(q->world, q->other);
}

static void a_callback_may_start_a_check(void **state)
{
	struct world *w = *state;
	struct asked second = {0};
	struct asked first = {.then = ask_other, .other = &second};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	ask(w, &first);
	RUN_UNTIL(w, second.calls == 1);
	assert_int_equal(second.verdict, AUTH_YES);
	assert_int_equal(w->authority.connections, 1);
	/* What it wanted to know was asked anew. */
	assert_int_equal(w->authority.requests, 2);
}

static void close_auth(struct asked *q)
{
	auth_close(q->world->auths[0]);
	q->world->auths[0] = NULL;
}

static void a_callback_may_close(void **state)
{
	struct world *w = *state;
	struct asked first = {.then = close_auth};
	struct asked second = {.then = close_auth};

	start_mute_world(w, SHORT_MS);
	ask_anew(w, &first);
	ask_anew(w, &second);
	uv_run(&w->loop, UV_RUN_NOWAIT);
	usleep((SHORT_MS + 50) * 1000);
	RUN_UNTIL(w, first.calls + second.calls > 0);
	run_for_a_while(w);
	assert_int_equal(first.calls + second.calls, 1);
}

static void closing_ends_checks_that_have_not_begun(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_mute_world(w, LONG_MS);
	ask(w, &q);
	auth_close(w->auths[0]);
	w->auths[0] = NULL;
	run_for_a_while(w);
	assert_int_equal(q.calls, 0);
}

static void closing_ends_checks_in_the_head(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\nA: ", LONG_MS);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	RUN_UNTIL(w, w->authority.requests == 1);
	auth_close(w->auths[0]);
	w->auths[0] = NULL;
	RUN_UNTIL(w, w->authority.dropped >= 1);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		assert_int_equal(asked[i].calls, 0);
}

static void closing_drops_a_body_that_still_comes(void **state)
{
	struct world *w = *state;

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\n\r\n", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	auth_close(w->auths[0]);
	w->auths[0] = NULL;
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void closing_nothing_is_fine(void **state)
{
	(void)state;
	auth_close(NULL);
}

/* --- sharing -------------------------------------------------------------- */

#define YES "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
#define NO  "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

/* All workers there are, and an authority that waits for tell(). */
static void start_workers(struct world *w, const char *text)
{
	start_world(w, answer_when_told, text, LONG_MS);
	for (unsigned i = 1; i < WORKERS; i++)
		open_worker(w, i, LONG_MS);
}

static void tell(struct world *w)
{
	uv_sem_post(&w->authority.leave);
}

static void checks_for_the_same_are_one_request(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_workers(w, YES);
	for (int i = 0; i < 3; i++) {
		ask(w, &asked[i]);
		assert_int_equal(auth_was_shared(asked[i].check), i > 0);
	}
	RUN_UNTIL(w, w->authority.requests == 1);
	tell(w);
	RUN_UNTIL(w, asked[0].calls + asked[1].calls + asked[2].calls == 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(asked[i].calls, 1);
		assert_int_equal(asked[i].verdict, AUTH_YES);
	}
	assert_int_equal(w->authority.requests, 1);
}

static void checks_on_other_workers_are_the_same_request(void **state)
{
	struct world *w = *state;
	struct asked asked[2 * WORKERS] = {0};

	start_workers(w, NO);
	for (unsigned i = 0; i < 2 * WORKERS; i++) {
		asked[i].worker = i % WORKERS;
		ask(w, &asked[i]);
		assert_int_equal(auth_was_shared(asked[i].check), i > 0);
	}
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	RUN_UNTIL(w, w->authority.requests == 1);
	tell(w);
	for (unsigned i = 0; i < 2 * WORKERS; i++) {
		RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(asked[i].verdict, AUTH_NO);
	}
	run_for_a_while(w);
	for (unsigned i = 0; i < 2 * WORKERS; i++)
		assert_int_equal(asked[i].calls, 1);
	assert_int_equal(w->authority.requests, 1);
}

/* Any worker may be the one that asks next. */
static void what_was_shared_once_is_asked_anew(void **state)
{
	struct world *w = *state;

	start_workers(w, NO);
	for (unsigned round = 0; round < WORKERS; round++) {
		struct asked asked[WORKERS] = {0};
		for (unsigned i = 0; i < WORKERS; i++) {
			asked[i].worker = (round + i) % WORKERS;
			ask(w, &asked[i]);
			assert_int_equal(auth_was_shared(asked[i].check),
					 i > 0);
		}
		tell(w);
		for (unsigned i = 0; i < WORKERS; i++)
			RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(w->authority.requests, round + 1);
	}
}

static void only_what_an_answer_depends_on_makes_a_difference(void **state)
{
	static const struct auth_request different[] = {
		{.token = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("b"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .key_uri = SPAN("/b")},
		{.token = SPAN("a"), .cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .cookie = SPAN(""), .key_uri = SPAN("/")},
		{.cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN(""), .cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .cookie = SPAN("/")},
		{.token = SPAN("ab"), .cookie = SPAN("c")},
		{.token = SPAN("a"), .cookie = SPAN("bc")},
		{.token = SPAN("a"), .cookie = SPAN("b"), .key_uri = SPAN("c")},
		{.key_uri = SPAN("")},
		{.token = {NULL, 0}},
	};
	enum {
		COUNT = sizeof(different) / sizeof(different[0])
	};
	struct world *w = *state;
	struct asked asked[COUNT] = {0};
	struct asked other = {0};

	open_auth_cache(w, COUNT, 0);
	start_mute_world(w, LONG_MS);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(start_check(w, &different[i], &asked[i]), 0);
		assert_false(auth_was_shared(asked[i].check));
		assert_int_equal(auth_cache_asked(w->auth_cache), i + 1);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		struct auth_request same = different[i];
		same.method = SPAN("HEAD");
		same.host = SPAN("elsewhere");
		same.uri = SPAN("/sub?since=1-1");
		same.peer = "192.0.2.1";
		assert_int_equal(start_check(w, &same, &other), 0);
		assert_true(auth_was_shared(other.check));
	}
	assert_int_equal(auth_cache_asked(w->auth_cache), COUNT);
}

static void a_cancelled_check_leaves_those_that_share_it(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_workers(w, YES);
	for (int i = 0; i < 3; i++)
		ask(w, &asked[i]);
	RUN_UNTIL(w, w->authority.requests == 1);
	auth_check_cancel(asked[0].check);
	auth_check_cancel(asked[2].check);
	tell(w);
	RUN_UNTIL(w, asked[1].calls == 1);
	assert_int_equal(asked[1].verdict, AUTH_YES);
	assert_int_equal(asked[0].calls + asked[2].calls, 0);
}

static void the_last_that_is_cancelled_drops_the_request(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\nA: ", LONG_MS);
	for (int i = 0; i < 3; i++)
		ask(w, &asked[i]);
	RUN_UNTIL(w, w->authority.requests == 1);
	auth_check_cancel(asked[1].check);
	auth_check_cancel(asked[0].check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	auth_check_cancel(asked[2].check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void a_request_goes_on_while_another_worker_waits(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked late = {0};
	struct asked waiter = {.worker = 1};

	start_workers(w, YES);
	ask(w, &asker);
	ask(w, &waiter);
	auth_check_cancel(asker.check);
	/* The asker's next client finds it under way, and may leave again. */
	ask(w, &late);
	assert_true(auth_was_shared(late.check));
	auth_check_cancel(late.check);
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_YES);
	assert_int_equal(asker.calls + late.calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_waiting_worker_whose_checks_are_cancelled_waits_on(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};
	struct asked late = {.worker = 1};

	start_workers(w, NO);
	ask(w, &asker);
	ask(w, &waiter);
	auth_check_cancel(waiter.check);
	ask(w, &late);
	assert_true(auth_was_shared(late.check));
	tell(w);
	RUN_UNTIL(w, late.calls == 1);
	assert_int_equal(late.verdict, AUTH_NO);
	assert_int_equal(waiter.calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_note_that_nobody_waits_for_any_more_is_taken(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};

	start_workers(w, NO);
	ask(w, &asker);
	ask(w, &waiter);
	auth_check_cancel(waiter.check);
	tell(w);
	RUN_UNTIL(w, asker.calls == 1);
	RUN_UNTIL(w, !mailbox_is_waiting(&w->boxes[1]));
	assert_int_equal(waiter.calls, 0);
	/* And it is known to be over: this one is not attached to it. */
	ask(w, &waiter);
	assert_false(auth_was_shared(waiter.check));
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
}

static void a_closing_asker_fails_those_that_wait_elsewhere(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};
	struct asked again = {.worker = 2};

	start_workers(w, YES);
	ask(w, &asker);
	ask(w, &waiter);
	close_worker(w, 0);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_FAILED);
	assert_int_equal(asker.calls, 0);
	ask(w, &again);
	assert_false(auth_was_shared(again.check));
}

static void a_closed_waiter_takes_no_answer(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiters[2] = {{.worker = 1}, {.worker = 2}};

	start_workers(w, YES);
	ask(w, &asker);
	ask(w, &waiters[0]);
	ask(w, &waiters[1]);
	close_worker(w, 1);
	tell(w);
	RUN_UNTIL(w, asker.calls == 1);
	RUN_UNTIL(w, waiters[1].calls == 1);
	close_worker(w, 2);
	run_for_a_while(w); /* on_mail() frees the note of the first */
	assert_int_equal(waiters[0].calls, 0);
	assert_int_equal(asker.verdict, AUTH_YES);
	assert_int_equal(waiters[1].verdict, AUTH_YES);
}

static void a_yes_that_is_kept_needs_no_request(void **state)
{
	struct world *w = *state;
	struct auth_request request = {.token = SPAN("t")};
	struct asked asked[WORKERS] = {0};

	open_auth_cache(w, CHECKS_MAX, LONG_MS);
	start_workers(w, YES);
	tell(w);
	ask_and_wait(w, &request);
	for (unsigned i = 0; i < WORKERS; i++) {
		asked[i].worker = i;
		assert_int_equal(start_check(w, &request, &asked[i]),
				 UV_EALREADY);
	}
	run_for_a_while(w);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(asked[i].calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_no_is_asked_for_each_time(void **state)
{
	struct world *w = *state;

	open_auth_cache(w, CHECKS_MAX, LONG_MS);
	start_world(w, answer, NO, LONG_MS);
	assert_int_equal(verdict(w), AUTH_NO);
	assert_int_equal(verdict(w), AUTH_NO);
	assert_int_equal(w->authority.requests, 2);
}

static void a_body_that_still_comes_shares_no_answer(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\n\r\n", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	ask(w, &q);
	assert_false(auth_was_shared(q.check));
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
}

/* Both have the same verdict, and are to be told in one go: by the request on
 * the first worker, by a note on the second. */
static void share_a_verdict(struct world *w, void (*then)(struct asked *),
			    struct asked *first, struct asked *second)
{
	for (unsigned worker = 0; worker < 2; worker++) {
		first[worker] = (struct asked){.worker = worker,
					       .then = then,
					       .other = &second[worker]};
		second[worker] = (struct asked){.worker = worker};
		ask(w, &first[worker]);
		ask(w, &second[worker]);
	}
	tell(w);
	RUN_UNTIL(w, first[0].calls + first[1].calls == 2);
	run_for_a_while(w);
}

static void a_callback_may_cancel_a_check_that_shares_its_verdict(void **state)
{
	struct world *w = *state;
	struct asked first[2], second[2];

	start_workers(w, YES);
	share_a_verdict(w, cancel_other, first, second);
	assert_int_equal(second[0].calls + second[1].calls, 0);
}

static void close_own(struct asked *q)
{
	close_worker(q->world, q->worker);
}

static void a_callback_may_close_under_those_that_share_its_verdict(
	void **state)
{
	struct world *w = *state;
	struct asked first[2], second[2];

	start_workers(w, YES);
	share_a_verdict(w, close_own, first, second);
	assert_int_equal(second[0].calls + second[1].calls, 0);
}

static void a_callback_may_ask_anew_what_it_was_just_told(void **state)
{
	struct world *w = *state;
	struct asked again = {.worker = 1};
	struct asked first = {.worker = 1, .then = ask_other, .other = &again};
	struct asked asker = {0};

	start_workers(w, NO);
	ask(w, &asker);
	ask(w, &first);
	tell(w);
	RUN_UNTIL(w, first.calls == 1);
	assert_false(auth_was_shared(again.check));
	tell(w);
	RUN_UNTIL(w, again.calls == 1);
	assert_int_equal(w->authority.requests, 2);
}

/* --- limits --------------------------------------------------------------- */

static void one_check_too_many_is_refused(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	struct asked other = {0};
	struct auth_request request = {.token = SPAN("t")};

	start_mute_world(w, LONG_MS);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	assert_int_equal(start_check(w, &request, &other), UV_EBUSY);
	auth_check_cancel(asked[1].check);
	ask_anew(w, &asked[1]);
}

static void open_queue(struct world *w, unsigned checks_max)
{
	w->queue_max = 8;
	open_auth_cache(w, checks_max, 0);
}

static void ask_token(struct world *w, struct asked *asked, const char *token)
{
	struct auth_request request = {.token = span_of(token)};

	assert_int_equal(start_check(w, &request, asked), 0);
}

static void a_check_too_many_waits_for_its_turn(void **state)
{
	static const char *const tokens[] = {"a", "b", "c", "d"};
	struct world *w = *state;
	struct asked asked[4] = {0};
	struct asked same = {.worker = 1};

	open_queue(w, 1);
	start_workers(w, YES);
	for (unsigned i = 0; i < 4; i++) {
		asked[i].worker = i % 2;
		ask_token(w, &asked[i], tokens[i]);
	}
	ask_token(w, &same, "c");
	assert_true(auth_was_shared(same.check));
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	assert_int_equal(auth_cache_queued(w->auth_cache), 3);
	auth_check_cancel(asked[1].check);
	assert_int_equal(auth_cache_queued(w->auth_cache), 2);
	for (unsigned i = 0; i < 4; i += i == 0 ? 2 : 1) {
		RUN_UNTIL(w, w->authority.requests == (i == 0 ? 1 : i));
		tell(w);
		RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(asked[i].verdict, AUTH_YES);
	}
	RUN_UNTIL(w, same.calls == 1);
	assert_int_equal(same.verdict, AUTH_YES);
	assert_int_equal(asked[1].calls, 0);
	assert_int_equal(w->authority.requests, 3);
}

static void one_whose_turn_does_not_come_in_time_is_told_so(void **state)
{
	struct world *w = *state;
	struct asked first = {.worker = 1};
	struct asked queued[3] = {{.worker = 0}, {.worker = 0}, {.worker = 1}};
	uint64_t from = now_ms();

	open_queue(w, 1);
	/* The one that is asked has more time. */
	start_mute_world(w, 50);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued[0], "a");
	ask_token(w, &queued[1], "b");
	ask_token(w, &queued[2], "a");
	for (unsigned i = 0; i < 3; i++) {
		RUN_UNTIL(w, queued[i].calls == 1);
		assert_int_equal(queued[i].verdict, AUTH_BUSY);
	}
	assert_true(now_ms() - from >= 50);
	assert_int_equal(auth_cache_queued(w->auth_cache), 0);
	assert_int_equal(first.calls, 0);
	/* Another one sets the timer anew. */
	ask_token(w, &queued[0], "c");
	RUN_UNTIL(w, queued[0].calls == 1);
}

/* What it waited is a part of its time. */
static void one_that_was_queued_has_the_rest_of_its_time(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked second = {0};
	uint64_t from = now_ms();

	open_queue(w, 1);
	start_mute_world(w, 400);
	ask_token(w, &first, "first");
	while (now_ms() - from < 200)
		run_for_a_while(w);
	ask_token(w, &second, "second");
	RUN_UNTIL(w, second.calls == 1);
	assert_int_equal(first.verdict, AUTH_FAILED);
	assert_int_equal(second.verdict, AUTH_FAILED);
	assert_true(now_ms() - from >= 600);
}

static void whoever_is_queued_may_be_closed(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked queued = {0};
	struct asked waits = {.worker = 1};
	struct asked next = {.worker = 1};

	open_queue(w, 1);
	start_mute_world(w, LONG_MS);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued, "a");
	ask_token(w, &waits, "a");
	ask_token(w, &next, "b");
	close_worker(w, 0);
	RUN_UNTIL(w, waits.calls == 1);
	assert_int_equal(waits.verdict, AUTH_FAILED);
	assert_int_equal(queued.calls + first.calls, 0);
	RUN_UNTIL(w, auth_cache_queued(w->auth_cache) == 0);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	/* The last is closed by the tear-down, being asked. */
}

/* Between its turn and the note that tells of it. */
static void one_may_be_cancelled_while_its_turn_is_on_its_way(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked queued = {.worker = 1};

	open_queue(w, 1);
	start_mute_world(w, LONG_MS);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued, "a");
	auth_check_cancel(first.check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	auth_check_cancel(queued.check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	RUN_UNTIL(w, auth_cache_asked(w->auth_cache) == 0);
}

static void the_limit_is_that_of_all_workers_but_sharing_is_free(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	struct asked other = {.worker = 2};
	struct auth_request request = {.token = SPAN("t")};

	start_workers(w, YES);
	ask(w, &asked[0]);
	for (unsigned i = 1; i < CHECKS_MAX; i++) {
		asked[i].worker = i % 2;
		ask_anew(w, &asked[i]);
	}
	assert_int_equal(start_check(w, &request, &other), UV_EBUSY);
	ask(w, &other);
}

static void a_body_that_still_comes_gives_its_place_up(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\n\r\n", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	for (unsigned i = 0; i + 1 < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	run_for_a_while(w);
	assert_int_equal(w->authority.dropped, 0);
	ask_anew(w, &asked[CHECKS_MAX - 1]);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void checks_run_side_by_side(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	unsigned calls;

	start_mute_world(w, SHORT_MS);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	RUN_UNTIL(w, (calls = asked[0].calls + asked[1].calls + asked[2].calls +
			      asked[3].calls) == CHECKS_MAX);
	assert_in_range(w->ticks, 0, 2 * SHORT_MS / 5);
}

/* Whichever allocation of libcurl's fails, start returns an error or a verdict
 * comes, and the next check is as ever. Each round has an auth of its own,
 * which allocates what it will keep. */
static void a_check_that_runs_out_of_memory_ends(void **state)
{
	struct world *w = *state;
	unsigned failures = 0;

	start_authority(w, answer, "HTTP/1.1 204 No Content\r\n\r\n");
	for (int n = 0; n < 150; n++) {
		struct asked q = {0};
		struct auth_request request = {.token = SPAN("t")};

		open_auth(w, "127.0.0.1", LONG_MS);
		atomic_store(&allocations_left, n);
		if (start_check(w, &request, &q) == 0)
			RUN_UNTIL(w, q.calls == 1);
		let_all_allocations_pass();
		failures += q.calls == 0 || q.verdict == AUTH_FAILED;
		assert_int_equal(verdict(w), AUTH_YES);
		close_worker(w, 0);
	}
	assert_in_range(failures, 20, 149);
}

/* Starts a check over and over, until no allocation of it fails. Returns how
 * many there were. */
static unsigned start_without_memory(struct world *w,
				     const struct auth_request *request,
				     struct asked *q)
{
	size_t before = settled_memory_used();
	size_t asked = auth_cache_asked(w->auth_cache);

	for (unsigned nth = 1;; nth++) {
		oom_fail_at(nth);
		int rv = start_check(w, request, q);
		if (!oom_end()) {
			assert_int_equal(rv, 0);
			return nth - 1;
		}
		if (rv == 0)
			auth_check_cancel(q->check);
		else
			assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(settled_memory_used(), before);
		assert_int_equal(auth_cache_asked(w->auth_cache), asked);
	}
}

static void a_start_without_memory_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct auth_request request = {
		.token = SPAN("t"), .cookie = SPAN("a=b"), .uri = SPAN("/")};
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};

	OOM_OR_SKIP();
	start_workers(w, YES);
	/* Asking, of which libcurl can spare an allocation or two. */
	assert_in_range(start_without_memory(w, &request, &asker), 10, 200);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	/* Waiting: the check, the inquiry, the note. */
	assert_int_equal(start_without_memory(w, &request, &waiter), 3);
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_YES);
}

static void opening_returns_what_fails(void **state)
{
	struct world *w = *state;
	struct auth_options options = {.url = "http://auth.test",
				       .timeout_ms = 1,
				       .kept_max = 1,
				       .auth_cache = w->auth_cache};
	int n = 0;

	atomic_store(&allocations_left, n);
	while (auth_open(&w->auths[0], &w->loop, &options) == UV_ENOMEM)
		atomic_store(&allocations_left, ++n);
	let_all_allocations_pass();
	assert_non_null(w->auths[0]);
	assert_in_range(n, 5, 100);
}

static void a_second_auth_shares_nothing_with_the_first(void **state)
{
	struct world *w = *state;
	struct auth *first;

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	first = w->auths[0];
	open_auth(w, "127.0.0.1", LONG_MS);
	auth_close(first);
	assert_int_equal(verdict(w), AUTH_YES);
}

/* --- URLs ----------------------------------------------------------------- */

static void http_and_https_urls_are_taken(void **state)
{
	(void)state;
	assert_true(auth_is_url("http://auth"));
	assert_true(auth_is_url("https://auth.example/verify?a=b"));
	assert_true(auth_is_url("HTTP://127.0.0.1:8080/"));
	assert_true(auth_is_url("https://[::1]:8443/verify"));
}

static void other_urls_are_refused(void **state)
{
	static const char *const urls[] = {
		"",
		"auth",
		"auth.example/verify",
		"/verify",
		"//auth.example/verify",
		"http",
		"http:",
		"http:/auth",
		"http://",
		"http:///verify",
		"https:///auth/verify",
		"http://:80/",
		"http://?a",
		"http://#a",
		"http://user@/",
		"http://auth:port/",
		"http://auth:70000/",
		"http://[::1/",
		"http://a b/",
		"http://auth/\r\nX: y",
		" http://auth/",
		"ftp://auth/",
		"file:///etc/passwd",
		"file://auth/etc/passwd",
		"httpx://auth/",
		"gopher://auth/",
		"javascript:alert(1)",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		if (auth_is_url(urls[i]))
			fail_msg("taken: %s", urls[i]);
}

/* --- main ----------------------------------------------------------------- */

static int group_setup(void **state)
{
	(void)state;
	/* A sum below the base would not hide what is credited twice. */
	memory_set_limit(0, 1 << 20);
	signal(SIGPIPE, SIG_IGN);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	if (uv_mutex_init(&lookups_mutex) != 0 ||
	    uv_cond_init(&lookups_released) != 0)
		return -1;
	let_all_allocations_pass();
	/* The first to initialise libcurl says how it allocates. */
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, failing_malloc, free,
				 failing_realloc, failing_strdup,
				 failing_calloc) != CURLE_OK)
		return -1;
	return auth_global_init();
}

static int group_teardown(void **state)
{
	(void)state;
	auth_global_fini();
	curl_global_cleanup();
	uv_cond_destroy(&lookups_released);
	uv_mutex_destroy(&lookups_mutex);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(status_204_is_a_yes),
		TEST(any_2xx_status_is_a_yes),
		TEST(status_403_is_a_no_of_its_own),
		TEST(status_401_is_a_no_and_asked_once),
		TEST(status_5xx_is_an_outage),
		TEST(status_429_is_an_outage),
		TEST(status_404_is_a_no),
		TEST(a_redirect_is_a_no_and_not_followed),
		TEST(interim_responses_decide_nothing),
		TEST(an_interim_response_alone_is_no_answer),
		TEST(a_response_may_come_byte_by_byte),
		TEST(a_response_before_a_reset_counts),
		TEST(a_refused_connection_is_a_failure),
		TEST(a_connection_closed_at_once_is_a_failure),
		TEST(a_head_cut_short_is_a_failure),
		TEST(garbage_is_a_failure),
		TEST(an_http_0_9_answer_is_a_failure),
		TEST(a_stall_in_connect_ends_with_the_timeout),
		TEST(a_stall_in_the_head_ends_with_the_timeout),
		TEST(a_dripping_head_ends_with_the_timeout),
		TEST(endless_header_lines_fail_before_the_timeout),
		TEST(an_endless_header_line_fails_before_the_timeout),
		TEST(endless_interim_responses_fail_before_the_timeout),
		TEST(the_head_may_have_16_kib),
		TEST(a_head_over_16_kib_is_a_failure),
		TEST(an_endless_body_does_not_delay_the_yes),
		TEST(a_dripping_body_does_not_delay_the_yes),
		TEST(a_body_that_never_comes_does_not_delay_the_no),
		TEST(a_response_without_body_keeps_the_connection),
		TEST(a_short_body_keeps_the_connection),
		TEST(a_short_chunked_body_keeps_the_connection),
		TEST(a_short_body_after_the_head_keeps_the_connection),
		TEST(a_connection_that_the_authority_closed_is_replaced),
		TEST(the_request_is_a_get_with_the_token_and_nothing_else),
		TEST(the_request_tells_all_that_it_was_given),
		TEST(what_is_absent_is_not_sent),
		TEST(what_is_empty_or_blank_is_sent_without_value),
		TEST(values_that_libcurl_might_take_for_more_are_sent_as_they_are),
		TEST(long_values_arrive_whole),
		TEST(a_value_of_two_lines_ends_the_process),
		TEST(a_url_of_another_scheme_is_not_asked),
		TEST(a_token_ends_where_its_span_ends),
		TEST(the_environments_proxy_is_asked),
		TEST(a_name_is_looked_up),
		TEST(a_stuck_lookup_ends_with_the_timeout),
		TEST(a_cancel_does_not_wait_for_a_stuck_lookup),
		TEST(a_close_does_not_wait_for_a_stuck_lookup),
		TEST(a_check_cancelled_at_once_is_not_called_back),
		TEST(a_check_cancelled_after_connecting_is_not_called_back),
		TEST(a_check_cancelled_in_the_head_is_not_called_back),
		TEST(a_cancelled_check_gives_its_place_up),
		TEST(a_callback_may_cancel_a_check_that_is_decided),
		TEST(a_callback_may_cancel_a_check_that_is_under_way),
		TEST(a_callback_may_start_a_check),
		TEST(a_callback_may_close),
		TEST(closing_ends_checks_that_have_not_begun),
		TEST(closing_ends_checks_in_the_head),
		TEST(closing_drops_a_body_that_still_comes),
		cmocka_unit_test(closing_nothing_is_fine),
		TEST(checks_for_the_same_are_one_request),
		TEST(checks_on_other_workers_are_the_same_request),
		TEST(what_was_shared_once_is_asked_anew),
		TEST(only_what_an_answer_depends_on_makes_a_difference),
		TEST(a_cancelled_check_leaves_those_that_share_it),
		TEST(the_last_that_is_cancelled_drops_the_request),
		TEST(a_request_goes_on_while_another_worker_waits),
		TEST(a_waiting_worker_whose_checks_are_cancelled_waits_on),
		TEST(a_note_that_nobody_waits_for_any_more_is_taken),
		TEST(a_closing_asker_fails_those_that_wait_elsewhere),
		TEST(a_closed_waiter_takes_no_answer),
		TEST(a_yes_that_is_kept_needs_no_request),
		TEST(a_no_is_asked_for_each_time),
		TEST(a_body_that_still_comes_shares_no_answer),
		TEST(a_callback_may_cancel_a_check_that_shares_its_verdict),
		TEST(a_callback_may_close_under_those_that_share_its_verdict),
		TEST(a_callback_may_ask_anew_what_it_was_just_told),
		TEST(one_check_too_many_is_refused),
		TEST(a_check_too_many_waits_for_its_turn),
		TEST(one_whose_turn_does_not_come_in_time_is_told_so),
		TEST(one_that_was_queued_has_the_rest_of_its_time),
		TEST(whoever_is_queued_may_be_closed),
		TEST(one_may_be_cancelled_while_its_turn_is_on_its_way),
		TEST(the_limit_is_that_of_all_workers_but_sharing_is_free),
		TEST(a_body_that_still_comes_gives_its_place_up),
		TEST(checks_run_side_by_side),
		TEST(a_check_that_runs_out_of_memory_ends),
		TEST(a_start_without_memory_leaves_nothing),
		TEST(opening_returns_what_fails),
		TEST(a_second_auth_shares_nothing_with_the_first),
		cmocka_unit_test(http_and_https_urls_are_taken),
		cmocka_unit_test(other_urls_are_refused),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
