/* test_foreign.c - what src/config/foreign.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/foreign.h"

struct variable {
	const char *name;
	const char *value;
};

static void a_value_of_another_kind_is_foreign(void **state)
{
	static const struct variable foreign[] = {
		{"LOG_LEVEL", "trace"},
		{"LOG_LEVEL", "info,hyper=warn"},
		{"LOG_LEVEL", "3"},
		{"LOG_FORMAT", "logfmt"},
		{"HOMEPAGE", "https://example.com/"},
		{"HOMEPAGE", "/index.html"},
		{"PORT", "tcp://10.0.0.1:80"},
		{"PORT", "\\\\.\\pipe\\node"},
		{"ADMIN_PORT", "tcp://10.0.0.1:80"},
		{"IP", "10.0.0.0/8"},
		{"IP", "10.0.0.1 10.0.0.2"},
		{"IP", "www.example.com"},
		{"LISTEN", "yes"},
		{"LISTEN", "tcp://0.0.0.0:80"},
		{"WORKERS", "auto"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
		if (!foreign_is_value(foreign[i].name, foreign[i].value))
			fail_msg("%s=%s is ours", foreign[i].name,
				 foreign[i].value);
}

static void ours_is_not_nor_is_a_slip(void **state)
{
	static const struct variable ours[] = {
		{"LOG_LEVEL", "WARN"},
		{"LOG_FORMAT", "JSON"},
		{"HOMEPAGE", "false"},
		{"HOMEPAGE", "2"},
		{"HOMEPAGE", "maybe"},
		{"PORT", "3000"},
		{"PORT", "99999"},
		{"PORT", "http"},
		{"PORT", "80 "},
		{"ADMIN_PORT", "off"},
		{"IP", "::1"},
		{"IP", "1.2.3"},
		{"IP", "::g"},
		{"IP", "localhost"},
		{"LISTEN", "3000"},
		{"LISTEN", ":3000"},
		{"LISTEN", "unix:/run/s"},
		{"LISTEN", ","},
		{"WORKERS", "0"},
		{"WORKERS", "-2"},
		{"MAX_BODY", "lots"},
		{"PASSWORD", "a://b"},
		{"AUTH_URL", "example"},
		{"UNKNOWN", "a://b"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (foreign_is_value(ours[i].name, ours[i].value))
			fail_msg("%s=%s is foreign", ours[i].name,
				 ours[i].value);
}

/* Of Services called isimud, isimud-web and isimud-admin. */
static void service_links_are_known(void **state)
{
	static const struct variable links[] = {
		{"SERVICE_HOST", "10.0.0.1"},
		{"SERVICE_PORT", "80"},
		{"SERVICE_PORT_HTTP", "80"},
		{"PORT", "tcp://10.0.0.1:80"},
		{"PORT_80_TCP", "tcp://10.0.0.1:80"},
		{"PORT_80_TCP_PROTO", "tcp"},
		{"PORT_80_TCP_PORT", "80"},
		{"PORT_80_TCP_ADDR", "10.0.0.1"},
		{"PORT_53_UDP", "udp://10.0.0.1:53"},
		{"WEB_SERVICE_HOST", "10.0.0.1"},
		{"WEB_SERVICE_PORT_HTTP", "80"},
		{"WEB_PORT", "sctp://10.0.0.1:80"},
		{"WEB_PORT_80_TCP_ADDR", "10.0.0.1"},
		{"ADMIN_PORT", "tcp://10.0.0.1:80"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
		if (!foreign_is_service_link(links[i].name, links[i].value))
			fail_msg("%s=%s is none", links[i].name,
				 links[i].value);
}

static void nothing_else_is_a_service_link(void **state)
{
	static const struct variable others[] = {
		{"PORT", "3000"},        {"PORT", "http://x"},
		{"PORT", "tcp"},         {"PORT", ""},
		{"ADMIN_PORT", "9090"},  {"PORTS", "tcp://10.0.0.1:80"},
		{"WEB_PORT", "80"},      {"PORT_X_TCP", "tcp://10.0.0.1:80"},
		{"PORT__TCP", "x"},      {"PORT_80_TCPX", "x"},
		{"MYSERVICE_HOST", "x"}, {"SERVICE_HOSTS", "x"},
		{"PASWORD", "x"},        {"", "x"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (foreign_is_service_link(others[i].name, others[i].value))
			fail_msg("%s=%s is one", others[i].name,
				 others[i].value);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_of_another_kind_is_foreign),
		cmocka_unit_test(ours_is_not_nor_is_a_slip),
		cmocka_unit_test(service_links_are_known),
		cmocka_unit_test(nothing_else_is_a_service_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
