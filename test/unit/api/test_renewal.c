/* test_renewal.c - how each protocol tells its subscribers that all topics have
 * begun anew in another epoch (registry_renew()). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service.h"

#define EPOCH UINT64_C(0x1234567890abcdef)
#define BASE  1000
#define ID    "1234567890abcdef-1000"

static void an_event_stream_gets_a_reset_with_the_new_position(void **state)
{
	struct client *c = service_connect(&service);
	(void)state;

	assert_int_equal(
		service_ask(&service, c,
			    "GET /sub?publisher=news&topic=a HTTP/1.1\r\n"
			    "Host: x\r\nAccept: text/event-stream\r\n\r\n"),
		200);
	registry_renew(service.crew.shared.registry, EPOCH, BASE);
	SERVICE_UNTIL(&service, count_of(c, "event: reset\n") == 1 &&
					count_of(c, "\"topic\":\"a\"") == 1 &&
					count_of(c, "\"id\":\"" ID "\"") == 1);
	assert_false(c->is_over);
}

static void a_session_gets_a_reset_of_each_subscription(void **state)
{
	struct client *c = service_open_v1(&service);
	struct frame frame;
	(void)state;

	send_frame(c, OP_TEXT,
		   SPAN("{\"type\":\"subscribe\",\"publisher\":\"news\","
			"\"topic\":\"a\"}"));
	assert_true(service_receive(&service, c, &frame));
	registry_renew(service.crew.shared.registry, EPOCH, BASE);
	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_TEXT);
	assert_non_null(memmem(frame.payload.bytes, frame.payload.len,
			       "\"type\":\"reset\"", 14));
	assert_non_null(memmem(frame.payload.bytes, frame.payload.len,
			       "\"" ID "\"", sizeof ID + 1));
}

/* The raw protocol has no words for it. */
static void a_raw_websocket_is_closed_to_come_again(void **state)
{
	struct client *c = service_connect(&service);
	struct frame frame;
	(void)state;

	assert_int_equal(
		service_ask(&service, c,
			    "GET /sub?publisher=news&topic=a HTTP/1.1\r\n"
			    "Host: x\r\n" SERVICE_UPGRADE "\r\n"),
		101);
	skip_upgrade(c);
	registry_renew(service.crew.shared.registry, EPOCH, BASE);
	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, 1012);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVICE(
			an_event_stream_gets_a_reset_with_the_new_position),
		WITH_SERVICE(a_session_gets_a_reset_of_each_subscription),
		WITH_SERVICE(a_raw_websocket_is_closed_to_come_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
