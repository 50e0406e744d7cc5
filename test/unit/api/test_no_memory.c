/* test_no_memory.c - what src/api answers where memory is missing: each
 * allocation of the worker fails in turn, for each kind of request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oom.h"
#include "service.h"

#define TRIES_MAX 200 /* allocations of one request; more is a loop */

static uint64_t counted(enum stats_counter counter)
{
	return stats_get(&service.crew.workers[0]->stats, counter);
}

/* Sends `request` on connections of its own until none of its allocations has
 * failed. Each answer but the last is 500 or none, or `fine`, where the worker
 * could do without. Returns how many were 500. */
static unsigned fail_each(const char *request, int fine)
{
	unsigned refused = 0;

	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct client *c = service_connect(&service);
		oom_fail_elsewhere(n);
		int status = service_ask(&service, c, request);
		bool has_failed = oom_end();
		close_client(c);
		c->is_over = true;
		if (!has_failed) {
			assert_int_equal(status, fine);
			return refused;
		}
		if (status != fine && status != 0)
			assert_int_equal(status, 500);
		refused += status == 500;
	}
	fail_msg("no end of allocations");
	return 0;
}

static void publishing_is_500(void **state)
{
	const char *one = "POST /pub HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
			  "Content-Type: application/json\r\n"
			  "Content-Length: 30\r\n\r\n"
			  "{\"topic\":\"sports\",\"data\":\"hi\"}";
	const char *batch = "POST /pub HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
			    "Content-Type: application/json\r\n"
			    "Content-Length: 51\r\n\r\n"
			    "[{\"topic\":\"a\",\"data\":\"1\"},"
			    "{\"topic\":\"b\",\"data\":\"2\"}]";

	(void)state;
	OOM_OR_SKIP();
	assert_in_range(fail_each(one, 200), 1, TRIES_MAX);
	assert_in_range(fail_each(batch, 200), 1, TRIES_MAX);
}

static void what_was_answered_500_was_not_published(void **state)
{
	const char *request =
		"POST /pub/a%20b?event=goal HTTP/1.1\r\n"
		"Host: x\r\n" SERVICE_BASIC "Content-Length: 2\r\n\r\nhi";

	(void)state;
	OOM_OR_SKIP();
	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct client *c = service_connect(&service);
		uint64_t before = counted(STATS_published);
		oom_fail_elsewhere(n);
		int status = service_ask(&service, c, request);
		bool has_failed = oom_end();
		if (status != 0)
			assert_int_equal(counted(STATS_published) - before,
					 status == 200);
		close_client(c);
		c->is_over = true;
		if (!has_failed)
			return;
	}
	fail_msg("no end of allocations");
}

static void a_key_that_was_answered_500_may_be_tried_again(void **state)
{
	const char *request =
		"PUT /pub/sports HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
		"Idempotency-Key: k\r\n"
		"Content-Length: 2\r\n\r\nhi";
	struct client *c = service_connect(&service);

	(void)state;
	OOM_OR_SKIP();
	fail_each(request, 200);
	assert_int_equal(service_ask(&service, c, request), 200);
	assert_non_null(strstr(c->in.bytes, "Idempotency-Replayed: true\r\n"));
	assert_int_equal(counted(STATS_published), 1);
}

static void pages_for_operators_are_500(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	fail_each("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200);
	fail_each("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", 200);
	assert_in_range(
		fail_each("GET /metrics HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
			  "\r\n",
			  200),
		1, TRIES_MAX);
}

static void a_publishers_topics_are_500(void **state)
{
	const char *publish =
		"POST /pub/sports HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
		"Content-Length: 2\r\n\r\nhi";
	struct client *c = service_connect(&service);

	(void)state;
	OOM_OR_SKIP();
	assert_int_equal(service_ask(&service, c, publish), 200);
	assert_in_range(fail_each("GET /topics?limit=2 HTTP/1.1\r\nHost: "
				  "x\r\n" SERVICE_BASIC "\r\n",
				  200),
			1, TRIES_MAX);
	fail_each("GET /topics/sports HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
		  "\r\n",
		  200);
}

static void an_event_stream_is_told_to_come_back(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	/* 200, also where it is refused: with `close`, or cut. */
	fail_each("GET /sub?publisher=news&topic=a&topic=b&last=3 HTTP/1.1\r\n"
		  "Host: x\r\nAccept: text/event-stream\r\n\r\n",
		  200);
	SERVICE_UNTIL(&service,
		      registry_topics(service.crew.shared.registry) == 0 ||
			      worker_subscribers(&service.crew.shared) == 0);
}

static void a_websocket_is_500_or_ends(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	fail_each("GET /sub?publisher=news&topic=a HTTP/1.1\r\nHost: "
		  "x\r\n" SERVICE_UPGRADE "\r\n",
		  101);
	fail_each("GET /sub?publisher=news&topic=a&topic=b HTTP/1.1\r\n"
		  "Host: x\r\n" SERVICE_UPGRADE SERVICE_BASIC
		  "Sec-WebSocket-Protocol: isimud.v1\r\n\r\n",
		  101);
	SERVICE_UNTIL(&service, worker_subscribers(&service.crew.shared) == 0);
}

/* Sends a command; returns the answer, in the client's memory; or a span that
 * is absent, if the connection has ended. */
static struct span command(struct client *c, const char *text)
{
	struct frame frame;

	send_frame(c, OP_TEXT, span_of(text));
	if (!service_receive(&service, c, &frame) || frame.opcode != OP_TEXT)
		return (struct span){0};
	return frame.payload;
}

static bool has_text(struct span text, const char *wanted)
{
	return text.len > 0 &&
	       memmem(text.bytes, text.len, wanted, strlen(wanted)) != NULL;
}

/* Each command on a connection of its own, until no allocation fails. */
static void fail_each_command(const char *text, const char *fine)
{
	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct client *c = service_open_v1(&service);
		oom_fail_elsewhere(n);
		struct span answer = command(c, text);
		bool has_failed = oom_end();
		if (answer.len > 0 && !has_text(answer, fine))
			assert_true(has_text(answer, "no_memory"));
		if (!has_failed)
			assert_true(has_text(answer, fine));
		close_client(c);
		c->is_over = true;
		if (!has_failed)
			return;
	}
	fail_msg("no end of allocations");
}

static void a_command_is_answered_no_memory(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	fail_each_command("{\"type\":\"ping\",\"ref\":\"1\"}", "pong");
	fail_each_command("{\"type\":\"subscribe\",\"publisher\":\"news\","
			  "\"topic\":\"sp\\u006frts\",\"ref\":1}",
			  "subscribed");
	fail_each_command("{\"type\":\"publish\",\"topic\":\"sports\","
			  "\"data\":{\"a\": 1},\"ref\":1}",
			  "published");
	fail_each_command("{\"type\":\"unsubscribe\",\"publisher\":\"news\","
			  "\"topic\":\"sports\"}",
			  "not_subscribed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVICE(publishing_is_500),
		WITH_SERVICE(what_was_answered_500_was_not_published),
		WITH_SERVICE(a_key_that_was_answered_500_may_be_tried_again),
		WITH_SERVICE(pages_for_operators_are_500),
		WITH_SERVICE(a_publishers_topics_are_500),
		WITH_SERVICE(an_event_stream_is_told_to_come_back),
		WITH_SERVICE(a_websocket_is_500_or_ends),
		WITH_SERVICE(a_command_is_answered_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
