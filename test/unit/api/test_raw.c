/* test_raw.c - the original's protocol (src/api/raw.c): the first message of a
 * WebSocket says what it subscribes to, and there is no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oom.h"
#include "service.h"

#define SUBSCRIBE "{\"publisher\":\"news\",\"topic\":\"sports\"}"
#define TRIES_MAX 50 /* allocations of a subscription; more is a loop */

static struct client *open_raw(const char *target)
{
	struct client *c = service_connect(&service);
	char request[512];

	snprintf(request, sizeof request,
		 "GET %s HTTP/1.1\r\nHost: x\r\n" SERVICE_UPGRADE "\r\n",
		 target);
	assert_int_equal(service_ask(&service, c, request), 101);
	skip_upgrade(c);
	return c;
}

static void publish(const char *topic, const char *data)
{
	struct client *c = service_connect(&service);
	char request[512];

	snprintf(request, sizeof request,
		 "POST /pub/%s HTTP/1.1\r\nHost: x\r\n" SERVICE_BASIC
		 "Content-Length: %zu\r\n\r\n%s",
		 topic, strlen(data), data);
	assert_int_equal(service_ask(&service, c, request), 200);
}

static void expect_text(struct client *c, const char *text)
{
	struct frame frame;

	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_TEXT);
	assert_true(span_equal(frame.payload, span_of(text)));
}

static void expect_close(struct client *c, unsigned code)
{
	struct frame frame;

	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, code);
}

static void subscribe(struct client *c)
{
	struct frame frame;

	send_frame(c, OP_TEXT, SPAN(SUBSCRIBE));
	send_frame(c, OP_PING, SPAN("")); /* answered once it is in force */
	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_PONG);
}

static void the_first_message_subscribes(void **state)
{
	struct client *c = open_raw("/sub");
	(void)state;

	subscribe(c);
	publish("weather", "rain");
	publish("sports", "goal");
	expect_text(c, "goal");
}

static void a_second_message_is_one_too_many(void **state)
{
	struct client *c = open_raw("/sub");
	(void)state;

	subscribe(c);
	send_frame(c, OP_TEXT, SPAN(SUBSCRIBE));
	expect_close(c, 1008);
}

static void who_subscribed_by_its_url_may_say_nothing(void **state)
{
	static const char *const targets[] = {
		"/sub?publisher=news&topic=a",
		"/sub?publisher=news&topic=a&topic=b",
	};
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		struct client *c = open_raw(targets[i]);
		send_frame(c, OP_TEXT, SPAN(SUBSCRIBE));
		expect_close(c, 1008);
	}
}

static void what_is_no_subscription_is_told_by_the_code(void **state)
{
	static const struct {
		unsigned opcode;
		const char *message;
		unsigned code;
	} rows[] = {
		{OP_BINARY, SUBSCRIBE, 1003},
		{OP_TEXT, "news", 1007},
		{OP_TEXT, "", 1007},
		{OP_TEXT, "[]", 1008},
		{OP_TEXT, "{\"publisher\":\"news\"}", 1008},
		{OP_TEXT, "{\"publisher\":\"news\",\"topic\":1}", 1008},
	};
	(void)state;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct client *c = open_raw("/sub");
		send_frame(c, rows[i].opcode, span_of(rows[i].message));
		expect_close(c, rows[i].code);
	}
	assert_int_equal(registry_topics(service.crew.shared.registry), 0);
}

static void without_memory_it_is_closed_with_1011(void **state)
{
	unsigned closed = 0;
	(void)state;

	OOM_OR_SKIP();
	for (unsigned n = 1; n < TRIES_MAX; n++) {
		struct client *c = open_raw("/sub");
		struct frame frame;
		oom_fail_elsewhere(n);
		send_frame(c, OP_TEXT, SPAN(SUBSCRIBE));
		send_frame(c, OP_PING, SPAN(""));
		bool has_frame = service_receive(&service, c, &frame);
		bool has_failed = oom_end();
		if (has_frame && frame.opcode == OP_CLOSE) {
			assert_true(has_failed);
			assert_int_equal(frame.code, 1011);
			closed++;
		}
		close_client(c);
		c->is_over = true;
		if (!has_failed) {
			assert_int_equal(frame.opcode, OP_PONG);
			assert_true(closed > 0);
			return;
		}
	}
	fail_msg("no end of allocations");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVICE(the_first_message_subscribes),
		WITH_SERVICE(a_second_message_is_one_too_many),
		WITH_SERVICE(who_subscribed_by_its_url_may_say_nothing),
		WITH_SERVICE(what_is_no_subscription_is_told_by_the_code),
		WITH_SERVICE(without_memory_it_is_closed_with_1011),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
