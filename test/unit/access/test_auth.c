/* test_auth.c - what the authority answers, and how it is asked (auth.h) */

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

#include "authority.h"

#define CONNECTS_MAX 8

/* --- authorities ---------------------------------------------------------- */

static void wait_for_close(struct authority *a, int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	if (n == 0 || (n < 0 && errno == ECONNRESET))
		atomic_fetch_add(&a->dropped, 1);
}

/* --- scripts -------------------------------------------------------------- */

static void answer_and_close(struct authority *a, int fd)
{
	if (read_request(a, fd))
		authority_send_bytes(fd, a->text, a->text_len);
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
		if (!authority_send_bytes(fd, a->text + i, 1))
			break;
		usleep(500);
	}
	wait_for_close(a, fd);
}

/* Repeats the text's last line as fast as it is read. */
static void answer_and_flood(struct authority *a, int fd)
{
	const char *last = a->text + a->text_len - 1;

	while (last > a->text && last[-1] != '\n')
		last--;
	if (!read_request(a, fd) ||
	    !authority_send_bytes(fd, a->text, a->text_len))
		return;
	while (authority_send_text(fd, last))
		;
	atomic_fetch_add(&a->dropped, 1);
}

/* Sends each body 20 ms after its head. */
static void answer_body_later(struct authority *a, int fd)
{
	const char *body = strstr(a->text, "\r\n\r\n") + 4;

	while (read_request(a, fd)) {
		authority_send_bytes(fd, a->text, (size_t)(body - a->text));
		usleep(20000);
		if (!authority_send_text(fd, body))
			break;
		atomic_fetch_add(&a->answers, 1);
	}
	atomic_fetch_add(&a->dropped, 1);
}

/* --- the client's side ---------------------------------------------------- */

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

/* --- auth_cache ----------------------------------------------------------- */

static void the_status_decides(void **state)
{
	static const struct {
		const char *head;
		enum auth_answer verdict;
	} rows[] = {
		{"HTTP/1.1 200 Ok", AUTH_YES},
		{"HTTP/1.1 204 No Content", AUTH_YES},
		{"HTTP/1.0 299 Ok", AUTH_YES},
		{"HTTP/1.1 300 Several", AUTH_NO},
		{"HTTP/1.1 304 The Same", AUTH_NO},
		{"HTTP/1.1 400 Bad", AUTH_NO},
		{"HTTP/1.1 403 No", AUTH_FORBIDDEN},
		{"HTTP/1.0 404 None", AUTH_NO},
		{"HTTP/1.1 428 No", AUTH_NO},
		{"HTTP/1.0 429 Slow", AUTH_AWAY},
		{"HTTP/1.1 430 No", AUTH_NO},
		{"HTTP/1.1 499 No", AUTH_NO},
		{"HTTP/1.0 500 Oops", AUTH_AWAY},
		{"HTTP/1.1 503 Later", AUTH_AWAY},
		{"HTTP/1.1 599 Oops", AUTH_AWAY},
	};
	char text[100];
	void *world;
	(void)state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(text, sizeof text, "%s\r\nContent-Length: 0\r\n\r\n",
			 rows[i].head);
		assert_int_equal(setup(&world), 0);
		if (verdict_on(&world, answer, text) != rows[i].verdict)
			fail_msg("%s", rows[i].head);
		assert_int_equal(teardown(&world), 0);
	}
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
	size_t before = authority_settled_memory_used();
	struct auth_request request = {
		.token = filled(token, sizeof(token), 'a'),
		.cookie = filled(cookie, sizeof(cookie), 'A'),
		.uri = filled(uri, sizeof(uri), 'a')};
	struct asked q = {0};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	assert_int_equal(start_check(w, &request, &q), 0);
	/* Clients choose how long they are. */
	size_t len = sizeof(token) + sizeof(uri) + sizeof(cookie);
	assert_in_range(authority_settled_memory_used() - before, 2 * len,
			3 * len);
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
	authority_ask(w, &q);
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
	authority_ask(w, &q);
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
	authority_ask(w, &q);
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
	authority_ask(w, &q);
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
	authority_ask(w, &q);
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
		authority_ask(w, &q);
		auth_check_cancel(q.check);
	}
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

static void a_callback_may_start_a_check(void **state)
{
	struct world *w = *state;
	struct asked second = {0};
	struct asked first = {.then = ask_other, .other = &second};

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	authority_ask(w, &first);
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
	authority_ask(w, &q);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_status_decides),
		TEST(status_401_is_a_no_and_asked_once),
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
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
