/* test_dispatch.c - what the table of src/api/dispatch.c promises: methods,
 * preflights, what is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service.h"

static const char *one_origin(const char *name)
{
	return strcmp(name, "ALLOWED_ORIGINS") == 0 ? "https://app.example"
						    : NULL;
}

static int set_up_with_origin(void **state)
{
	(void)state;
	service_open(&service, one_origin);
	return 0;
}

/* Sends a request line with these fields; returns the status. */
static int ask(struct client *c, const char *line, const char *fields)
{
	char request[1024];

	snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: x\r\n%s\r\n",
		 line, fields);
	return service_ask(&service, c, request);
}

static void assert_has(const struct client *c, const char *line)
{
	if (strstr(c->in.bytes, line) == NULL)
		fail_msg("no %s in %s", line, c->in.bytes);
}

static void assert_has_not(const struct client *c, const char *text)
{
	if (strstr(c->in.bytes, text) != NULL)
		fail_msg("%s in %s", text, c->in.bytes);
}

static void each_path_says_which_methods_it_has(void **state)
{
	static const struct {
		const char *path;
		const char *allow;
	} rows[] = {
		{"/pub", "Allow: OPTIONS, POST\r\n"},
		{"/pub/sports", "Allow: OPTIONS, POST, PUT\r\n"},
		{"/sub", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/topics", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/topics/sports", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/healthz", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/readyz", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/metrics", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"/", "Allow: GET, HEAD, OPTIONS\r\n"},
		{"*", "Allow: GET, HEAD, OPTIONS, POST, PUT\r\n"},
	};
	struct client *c = service_connect(&service);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char line[64];
		snprintf(line, sizeof line, "OPTIONS %s", rows[i].path);
		assert_int_equal(ask(c, line, ""), 204);
		assert_has(c, rows[i].allow);
		if (rows[i].path[0] == '*')
			continue;
		snprintf(line, sizeof line, "DELETE %s", rows[i].path);
		assert_int_equal(ask(c, line, ""), 405);
		assert_has(c, rows[i].allow);
	}
}

static void what_is_not_in_the_table_is_404(void **state)
{
	static const char *const lines[] = {"GET /nothing",    "GET /pub/",
					    "GET /topics/",    "POST /publish",
					    "GET /sub/x",      "GET /healthz/",
					    "OPTIONS /nothing"};
	struct client *c = service_connect(&service);

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		assert_int_equal(ask(c, lines[i], ""), 404);
}

static void a_page_is_told_what_it_may_send(void **state)
{
	const char *fields = "Origin: https://app.example\r\n"
			     "Access-Control-Request-Method: POST\r\n";
	struct client *c = service_connect(&service);

	(void)state;
	assert_int_equal(ask(c, "OPTIONS /pub/sports", fields), 204);
	assert_has(c, "Access-Control-Allow-Methods: POST, PUT\r\n");
	assert_has(c, "Access-Control-Allow-Headers: Authorization, "
		      "Content-Type, Idempotency-Key, Traceparent\r\n");
	assert_has(c, "Access-Control-Allow-Origin: https://app.example\r\n");
	assert_has_not(c, "Allow: ");
	assert_int_equal(ask(c, "OPTIONS /sub", fields), 204);
	assert_has(c, "Access-Control-Allow-Methods: GET, HEAD\r\n");
	assert_has(c, "Last-Event-ID\r\n");
	/* What is for operators is not for pages. */
	assert_int_equal(ask(c, "OPTIONS /metrics", fields), 204);
	assert_has(c, "Allow: GET, HEAD, OPTIONS\r\n");
	assert_has_not(c, "Access-Control-Allow-Methods");
}

static void a_page_of_another_origin_is_refused_where_pages_may_ask(
	void **state)
{
	const char *fields = "Origin: https://evil.example\r\n";
	struct client *c = service_connect(&service);

	(void)state;
	assert_int_equal(ask(c, "GET /sub", fields), 403);
	assert_int_equal(ask(c, "GET /healthz", fields), 200);
}

/* A page sees a close code, and no status. */
static void a_session_of_another_origin_is_accepted_to_be_closed(void **state)
{
	const char *fields = "Origin: https://evil.example\r\n" SERVICE_UPGRADE
			     "Sec-WebSocket-Protocol: isimud.v1\r\n";
	struct client *c = service_connect(&service);
	struct frame frame;

	(void)state;
	/* It is no preflight. */
	assert_int_equal(ask(c, "OPTIONS /sub", fields), 403);
	assert_int_equal(ask(c, "GET /sub", fields), 101);
	skip_upgrade(c);
	assert_true(service_receive(&service, c, &frame));
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, 4403);
}

static void content_is_for_publishing_alone(void **state)
{
	struct client *c = service_connect(&service);

	(void)state;
	assert_int_equal(ask(c, "GET /healthz", "Content-Length: 1\r\n"), 400);
	assert_has(c, "No content is expected");
}

#define TEST_ORIGIN(f)                                                         \
	cmocka_unit_test_setup_teardown(f, set_up_with_origin,                 \
					service_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVICE(each_path_says_which_methods_it_has),
		WITH_SERVICE(what_is_not_in_the_table_is_404),
		TEST_ORIGIN(a_page_is_told_what_it_may_send),
		TEST_ORIGIN(
			a_page_of_another_origin_is_refused_where_pages_may_ask),
		TEST_ORIGIN(
			a_session_of_another_origin_is_accepted_to_be_closed),
		WITH_SERVICE(content_is_for_publishing_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
