/* auth.c - asks AUTH_URL about tokens, on libcurl's multi interface.
 *
 * libcurl names the descriptors it waits for in on_socket() and the time until
 * it wants to be called in on_timeout(); a uv_poll_t for each descriptor and
 * one uv_timer_t carry that out (libcurl: curl_multi_socket_action). Inside its
 * callbacks libcurl allows no transfer to be removed, so those only note what
 * they saw, and settle() acts on it once libcurl has returned. */
#include "auth.h"

#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "check.h"
#include "list.h"
#include "version.h"

/* What is taken of one response: every head, then the body. libcurl itself
 * ends a single line that grows beyond 100 KiB. */
#define RESPONSE_MAX_BYTES 16384

/*  ASKING ----> DECIDED ----> DRAINING
 *
 * A verdict is given as soon as it is certain. If the rest of the response has
 * not come by then, the transfer goes on without anybody waiting for it: a
 * connection read to the end of a response serves the next check, while one
 * cut off costs a new handshake, and the authority a failed write. */
enum check_state {
	CHECK_ASKING,   /* the final head has not come */
	CHECK_DECIDED,  /* settle() will call back */
	CHECK_DRAINING, /* called back; until the response has ended, or is too
			 * long, or the time is up, or the place is needed */
	CHECK_STATES,
};

/* Owner: the loop's thread, `owner`. */
struct auth {
	uv_thread_t owner;
	uv_loop_t *loop;
	uv_timer_t timer;
	CURLM *multi;
	CURL *request; /* never performed; each check's is a copy of it */
	unsigned checks_max;
	struct list checks[CHECK_STATES]; /* oldest first */
	unsigned counts[CHECK_STATES];    /* sum <= checks_max */
};

/* From auth_check_start() until it was called back or cancelled, or, if it
 * drains, until its transfer has ended. Owner: the thread of `auth`. */
struct auth_check {
	struct auth *auth;
	struct list link; /* in auth->checks[state] */
	enum check_state state;
	CURL *transfer; /* NULL once it has ended */
	struct curl_slist *headers;
	size_t received; /* bytes, heads included; <= RESPONSE_MAX_BYTES */
	enum auth_verdict verdict;
	auth_cb cb;
	void *user;
};

/* A descriptor that libcurl waits for; lives until its close callback. */
struct socket {
	uv_poll_t poll;
	struct auth *auth;
	curl_socket_t fd;
};

int auth_global_init(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0
								 : UV_ENOMEM;
}

void auth_global_fini(void)
{
	curl_global_cleanup();
}

bool auth_is_url(const char *url)
{
	const char *host = NULL;
	CURLU *parsed;
	bool is_url;

	if (strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	else if (strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	/* libcurl would skip a third slash and take the path for a host. */
	if (host == NULL || *host == '/')
		return false;
	parsed = curl_url();
	is_url = parsed != NULL &&
		 curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
	curl_url_cleanup(parsed);
	return is_url;
}

/* --- checks --------------------------------------------------------------- */

static void move(struct auth_check *c, enum check_state to)
{
	struct auth *a = c->auth;

	a->counts[c->state]--;
	list_remove(&c->link);
	c->state = to;
	a->counts[to]++;
	list_append(&a->checks[to], &c->link);
}

static void decide(struct auth_check *c, enum auth_verdict verdict)
{
	c->verdict = verdict;
	move(c, CHECK_DECIDED);
}

/* The connection is kept if the response was read to its end, else closed. */
static void end_transfer(struct auth_check *c)
{
	if (c->transfer == NULL)
		return;
	curl_multi_remove_handle(c->auth->multi, c->transfer);
	curl_easy_cleanup(c->transfer);
	curl_slist_free_all(c->headers);
	c->transfer = NULL;
}

static void fail(struct auth_check *c)
{
	end_transfer(c);
	decide(c, AUTH_FAILED);
}

static void drop(struct auth_check *c)
{
	end_transfer(c);
	c->auth->counts[c->state]--;
	list_remove(&c->link);
	free(c);
}

static struct auth_check *oldest(struct auth *a, enum check_state state)
{
	if (list_is_empty(&a->checks[state]))
		return NULL;
	/* The analyzer loses track of list_remove() in drop(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(a->checks[state].next, struct auth_check, link);
}

/* The callback may start and cancel checks, and close `c->auth`. */
static void deliver(struct auth_check *c)
{
	auth_cb cb = c->cb;
	void *user = c->user;
	enum auth_verdict verdict = c->verdict;

	if (c->transfer == NULL)
		drop(c);
	else
		move(c, CHECK_DRAINING);
	cb(user, verdict);
}

static void on_transfer_end(CURL *transfer)
{
	char *private = NULL;
	struct auth_check *c;

	curl_easy_getinfo(transfer, CURLINFO_PRIVATE, &private);
	c = (struct auth_check *)(void *)private;
	if (c->state == CHECK_ASKING)
		fail(c);
	else if (c->state == CHECK_DRAINING)
		drop(c);
	else
		end_transfer(c);
}

/* Gives the verdicts, and ends the transfers that are over. */
static void settle(struct auth *a)
{
	struct auth_check *c;
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(a->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			on_transfer_end(message->easy_handle);
	while ((c = oldest(a, CHECK_DECIDED)) != NULL)
		deliver(c);
}

/* --- libcurl's callbacks for the response --------------------------------- */

static bool take(struct auth_check *c, size_t len)
{
	c->received += len;
	return c->received <= RESPONSE_MAX_BYTES;
}

/* Gets each line of each head (1xx ones too), the empty one that ends it
 * included, and later the trailers. Less than `len` returned ends the transfer.
 */
static size_t on_header(char *line, size_t size, size_t len, void *user)
{
	struct auth_check *c = user;
	long status = 0;

	(void)size; /* always 1 */
	if (!take(c, len))
		return 0;
	if (c->state != CHECK_ASKING || (line[0] != '\r' && line[0] != '\n'))
		return len;
	curl_easy_getinfo(c->transfer, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200)
		decide(c, status < 300 ? AUTH_YES : AUTH_NO);
	return len;
}

static size_t on_body(char *bytes, size_t size, size_t len, void *user)
{
	(void)bytes;
	(void)size; /* always 1 */
	return take(user, len) ? len : 0;
}

/* --- libcurl on the loop -------------------------------------------------- */

/* Tells libcurl what came about, and acts on what came of it. An error here
 * (libcurl is out of memory) may leave transfers that never end: they fail. */
static void act(struct auth *a, curl_socket_t fd, int flags)
{
	int running;

	if (curl_multi_socket_action(a->multi, fd, flags, &running) != CURLM_OK)
		LIST_FOR_EACH_SAFE (it, after, &a->checks[CHECK_ASKING])
			fail(CONTAINER_OF(it, struct auth_check, link));
	settle(a);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct socket *s = CONTAINER_OF(poll, struct socket, poll);
	int flags = 0;

	if ((events & UV_READABLE) != 0)
		flags |= CURL_CSELECT_IN;
	if ((events & UV_WRITABLE) != 0)
		flags |= CURL_CSELECT_OUT;
	/* With the error alone libcurl would not read the response that came
	 * before a reset. */
	if (status < 0)
		flags = CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
	act(s->auth, s->fd, flags);
}

static void on_timer(uv_timer_t *timer)
{
	act(CONTAINER_OF(timer, struct auth, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF((uv_poll_t *)handle, struct socket, poll));
}

static struct socket *socket_open(struct auth *a, curl_socket_t fd)
{
	struct socket *s = malloc(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->auth = a;
	s->fd = fd;
	if (uv_poll_init_socket(a->loop, &s->poll, fd) != 0) {
		free(s);
		return NULL;
	}
	curl_multi_assign(a->multi, fd, s);
	return s;
}

/* Failing here would make libcurl give up all transfers, for good. A transfer
 * whose socket can't be waited for runs into its own time-out instead. */
static int on_socket(CURL *transfer, curl_socket_t fd, int what, void *user,
		     void *socket)
{
	struct socket *s = socket;
	int events = 0;

	(void)transfer;
	if (what == CURL_POLL_REMOVE) {
		/* Takes `fd` out of the loop before libcurl closes it. */
		if (s != NULL)
			uv_close((uv_handle_t *)&s->poll, on_socket_closed);
		return 0;
	}
	if (s == NULL)
		s = socket_open(user, fd);
	if (s == NULL)
		return 0;
	if ((what & CURL_POLL_IN) != 0)
		events |= UV_READABLE;
	if ((what & CURL_POLL_OUT) != 0)
		events |= UV_WRITABLE;
	uv_poll_start(&s->poll, events, on_poll);
	return 0;
}

static int on_timeout(CURLM *multi, long timeout_ms, void *user)
{
	struct auth *a = user;

	(void)multi;
	if (timeout_ms < 0)
		uv_timer_stop(&a->timer);
	else
		uv_timer_start(&a->timer, on_timer, (uint64_t)timeout_ms, 0);
	return 0;
}

/* --- opening and closing -------------------------------------------------- */

/* libcurl's defaults do the rest: GET, any type accepted, no redirects, no
 * netrc, no cookies, no HTTP/0.9, and the environment's proxy variables. HTTP/2
 * is left out: it would bring a second protocol to parse, for no more than the
 * few connections that checks_max saves it from. */
static bool set_request(CURL *r, const struct auth_options *options)
{
	long timeout_ms = (long)options->timeout_ms;
	int rv = 0;

	rv |= (int)curl_easy_setopt(r, CURLOPT_URL, options->url);
	rv |= (int)curl_easy_setopt(r, CURLOPT_PROTOCOLS_STR, "http,https");
	rv |= (int)curl_easy_setopt(r, CURLOPT_HTTP_VERSION,
				    (long)CURL_HTTP_VERSION_1_1);
	rv |= (int)curl_easy_setopt(r, CURLOPT_USERAGENT, "isimud/" VERSION);
	rv |= (int)curl_easy_setopt(r, CURLOPT_NOSIGNAL, 1L);
	rv |= (int)curl_easy_setopt(r, CURLOPT_TIMEOUT_MS, timeout_ms);
	rv |= (int)curl_easy_setopt(r, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
	/* A transfer that ends during its name lookup, by its time-out too,
	 * would else wait until getaddrinfo() returns. Like this libcurl lets
	 * go of the lookup's thread, which cleans up by itself. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_QUICK_EXIT, 1L);
	/* Beside a directory of certificates, libcurl parses Debian's bundle
	 * (some 20 ms) for each connection; the bundle alone it keeps. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_CAPATH, NULL);
	/* A proxy's answer to CONNECT is not the authority's. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	rv |= (int)curl_easy_setopt(r, CURLOPT_HEADERFUNCTION, on_header);
	rv |= (int)curl_easy_setopt(r, CURLOPT_WRITEFUNCTION, on_body);
	return rv == 0;
}

static bool set_multi(struct auth *a)
{
	CURLM *m = a->multi;
	int rv = 0;

	rv |= (int)curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket);
	rv |= (int)curl_multi_setopt(m, CURLMOPT_SOCKETDATA, a);
	rv |= (int)curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timeout);
	rv |= (int)curl_multi_setopt(m, CURLMOPT_TIMERDATA, a);
	/* Idle ones included. */
	rv |= (int)curl_multi_setopt(m, CURLMOPT_MAXCONNECTS,
				     (long)a->checks_max);
	return rv == 0;
}

int auth_open(struct auth **out, uv_loop_t *loop,
	      const struct auth_options *options)
{
	struct auth *a = calloc(1, sizeof(*a));

	CHECK(options->timeout_ms > 0 && options->checks_max > 0);
	if (a == NULL)
		return UV_ENOMEM;
	a->owner = uv_thread_self();
	a->loop = loop;
	a->checks_max = options->checks_max;
	for (int state = 0; state < CHECK_STATES; state++)
		list_init(&a->checks[state]);
	a->multi = curl_multi_init();
	a->request = curl_easy_init();
	if (a->multi == NULL || a->request == NULL || !set_multi(a) ||
	    !set_request(a->request, options)) {
		curl_easy_cleanup(a->request);
		curl_multi_cleanup(a->multi);
		free(a);
		return UV_ENOMEM;
	}
	uv_timer_init(loop, &a->timer);
	*out = a;
	return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(CONTAINER_OF((uv_timer_t *)handle, struct auth, timer));
}

void auth_close(struct auth *a)
{
	if (a == NULL)
		return;
	CHECK_ON_THREAD(a->owner);
	for (int state = 0; state < CHECK_STATES; state++)
		LIST_FOR_EACH_SAFE (it, after, &a->checks[state])
			drop(CONTAINER_OF(it, struct auth_check, link));
	curl_easy_cleanup(a->request);
	/* Calls on_socket() and on_timeout() still. */
	curl_multi_cleanup(a->multi);
	a->multi = NULL;
	uv_close((uv_handle_t *)&a->timer, on_timer_closed);
}

/* --- starting and cancelling ---------------------------------------------- */

/* Returns a transfer of `c`, under way, and sets `c->headers`; NULL without
 * memory. */
static CURL *start_transfer(struct auth_check *c, const char *authorization)
{
	CURL *transfer = curl_easy_duphandle(c->auth->request);

	c->headers = curl_slist_append(NULL, authorization);
	if (transfer == NULL || c->headers == NULL)
		goto err;
	curl_easy_setopt(transfer, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(transfer, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(transfer, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(transfer, CURLOPT_PRIVATE, c);
	if (curl_multi_add_handle(c->auth->multi, transfer) == CURLM_OK)
		return transfer;
err:
	curl_easy_cleanup(transfer);
	curl_slist_free_all(c->headers);
	return NULL;
}

static struct auth_check *check_new(struct auth *a, struct span token)
{
	struct auth_check *c = calloc(1, sizeof(*c));
	char *authorization = NULL;

	if (c == NULL)
		return NULL;
	c->auth = a;
	if (asprintf(&authorization, "Authorization: Bearer %.*s",
		     (int)token.len, token.bytes) >= 0) {
		c->transfer = start_transfer(c, authorization);
		free(authorization);
	}
	if (c->transfer == NULL) {
		free(c);
		return NULL;
	}
	return c;
}

int auth_check_start(struct auth *a, struct span token, auth_cb cb, void *user,
		     struct auth_check **out)
{
	unsigned under_way = a->counts[CHECK_ASKING] + a->counts[CHECK_DECIDED];
	struct auth_check *c;

	CHECK_ON_THREAD(a->owner);
	if (under_way == a->checks_max)
		return UV_EBUSY;
	if (under_way + a->counts[CHECK_DRAINING] == a->checks_max)
		drop(oldest(a, CHECK_DRAINING));
	c = check_new(a, token);
	if (c == NULL)
		return UV_ENOMEM;
	c->cb = cb;
	c->user = user;
	c->state = CHECK_ASKING;
	a->counts[CHECK_ASKING]++;
	list_append(&a->checks[CHECK_ASKING], &c->link);
	*out = c;
	return 0;
}

void auth_check_cancel(struct auth_check *check)
{
	CHECK_ON_THREAD(check->auth->owner);
	CHECK(check->state != CHECK_DRAINING);
	drop(check);
}
