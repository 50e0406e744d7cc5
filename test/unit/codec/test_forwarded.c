/* test_forwarded.c - what src/codec/forwarded.c promises. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/forwarded.h"

static struct forwarded_proxies proxies_of(const char *list)
{
	struct forwarded_proxies p;
	const char *wrong;

	if (forwarded_read_proxies(&p, list, &wrong) != 0)
		fail_msg("%s: %s", list, wrong);
	return p;
}

static void lists_of_networks_are_read(void **state)
{
	static const char *const good[] = {
		"10.0.0.1",       "10.0.0.0/8",
		"0.0.0.0/0",      "::/0",
		"fd00::/8",       "::1",
		"unix",           "unix, 10.1.2.3/32",
		"::ffff:1.2.3.4", "2001:db8::/32 , 10.0.0.0/8"};
	static const char *const bad[] = {
		"",           "10.0.0.0/33",  "::/129",  "10.0.0.0/",
		"10.0.0.0/a", "10.0.0.0/8,",  "example", "10.0.0",
		"[::1]",      "10.0.0.0/-1",  "Unix",    "10.0.0.1:80",
		"/8",         "10.0.0.0/8/8", "::1/0128"};
	struct forwarded_proxies p;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_int_equal(forwarded_read_proxies(&p, good[i], NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (forwarded_read_proxies(&p, bad[i], NULL) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void no_more_than_64_networks_are_read(void **state)
{
	char list[65 * 9] = "";
	struct forwarded_proxies p;

	(void)state;
	for (int i = 0; i < 64; i++)
		strcat(list, i == 0 ? "10.0.0.1" : ",10.0.0.1");
	assert_int_equal(forwarded_read_proxies(&p, list, NULL), 0);
	strcat(list, ",::1");
	assert_int_equal(forwarded_read_proxies(&p, list, NULL), -EINVAL);
}

static void a_network_has_its_addresses_and_no_others(void **state)
{
	struct forwarded_proxies p = proxies_of("10.1.0.0/15,fd00:1::/33");

	(void)state;
	assert_true(forwarded_trusts(&p, "10.0.255.255"));
	assert_true(forwarded_trusts(&p, "10.1.0.0"));
	assert_true(forwarded_trusts(&p, "::ffff:10.1.0.0"));
	assert_false(forwarded_trusts(&p, "10.2.0.0"));
	assert_false(forwarded_trusts(&p, "11.1.0.0"));
	assert_true(forwarded_trusts(&p, "fd00:1:7fff::1"));
	assert_false(forwarded_trusts(&p, "fd00:1:8000::1"));
	assert_false(forwarded_trusts(&p, ""));
	p = proxies_of("unix");
	assert_true(forwarded_trusts(&p, ""));
	assert_false(forwarded_trusts(&p, "127.0.0.1"));
	/* A mapped network is one of IPv6's. */
	p = proxies_of("::/0");
	assert_true(forwarded_trusts(&p, "1.2.3.4"));
	p = proxies_of("0.0.0.0/0");
	assert_true(forwarded_trusts(&p, "1.2.3.4"));
	assert_false(forwarded_trusts(&p, "2001:db8::1"));
}

static void addresses_are_read_in_each_form(void **state)
{
	static const struct {
		const char *text;
		const char *is; /* NULL: none */
	} cases[] = {
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:8080", "192.0.2.1"},
		{"2001:DB8::1", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"[2001:db8::1]:443", "2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"", NULL},
		{"unknown", NULL},
		{"_hidden", NULL},
		{"192.0.2.1:", NULL},
		{"192.0.2.1:123456", NULL},
		{"192.0.2.256", NULL},
		{"[192.0.2.1]", NULL},
		{"[::1", NULL},
		{"[]", NULL},
		{"[::1]x", NULL},
		{"[::1]:", NULL},
		{"fe80::1%eth0", NULL},
		{"1:2:3:4:5:6:7:8:9", NULL},
		{"00000000000000000000000000000000000000000000000001", NULL},
	};
	char text[FORWARDED_TEXT_MAX];
	struct forwarded_address a;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool is = forwarded_read_address(span_of(cases[i].text), &a);
		if (is != (cases[i].is != NULL))
			fail_msg("%s", cases[i].text);
		if (!is)
			continue;
		forwarded_write_address(&a, text);
		assert_string_equal(text, cases[i].is);
	}
}

/* What 10.0.0.1, a proxy of 10.0.0.0/8, says. */
static void assert_client(const char *x_for, const char *forwarded,
			  const char *client)
{
	struct forwarded_proxies p = proxies_of("10.0.0.0/8");
	struct forwarded_fields fields = {.x_for = span_of(x_for),
					  .forwarded = span_of(forwarded)};
	char out[FORWARDED_TEXT_MAX];

	forwarded_find_client(&p, "10.0.0.1", &fields, out);
	assert_string_equal(out, client);
}

static void the_rightmost_that_is_no_proxy_is_the_client(void **state)
{
	(void)state;
	assert_client(NULL, NULL, "10.0.0.1");
	assert_client("192.0.2.1", NULL, "192.0.2.1");
	assert_client("6.6.6.6, 192.0.2.1", NULL, "192.0.2.1");
	assert_client("6.6.6.6, 192.0.2.1, 10.0.0.2", NULL, "192.0.2.1");
	assert_client("10.9.9.9, 192.0.2.1 ,10.0.0.2,10.0.0.3", NULL,
		      "192.0.2.1");
	/* All are proxies: who is farthest away. */
	assert_client("10.0.0.9, 10.0.0.2", NULL, "10.0.0.9");
	assert_client("2001:db8::1", NULL, "2001:db8::1");
}

static void behind_what_is_no_address_nobody_is_believed(void **state)
{
	(void)state;
	assert_client("", NULL, "10.0.0.1");
	assert_client("unknown", NULL, "10.0.0.1");
	assert_client("6.6.6.6, unknown", NULL, "10.0.0.1");
	assert_client("6.6.6.6, unknown, 10.0.0.7", NULL, "10.0.0.7");
	assert_client("6.6.6.6,", NULL, "10.0.0.1");
}

static void forwarded_says_the_same_as_x_forwarded_for(void **state)
{
	(void)state;
	assert_client(NULL, "for=192.0.2.1", "192.0.2.1");
	assert_client(NULL, "For=\"[2001:db8::1]:4711\"", "2001:db8::1");
	assert_client(NULL, "for=6.6.6.6;proto=https, by=x;for=192.0.2.1",
		      "192.0.2.1");
	assert_client(NULL, "for=192.0.2.1, proto=http", "10.0.0.1");
	assert_client(NULL, "for=_x", "10.0.0.1");
	assert_client(NULL, "for=\"a, for=6.6.6.6\"", "10.0.0.1");
}

static void fields_that_do_not_agree_are_not_believed(void **state)
{
	(void)state;
	assert_client("192.0.2.1", "for=192.0.2.1", "192.0.2.1");
	assert_client("192.0.2.1", "for=6.6.6.6", "10.0.0.1");
	assert_client("6.6.6.6", "for=unknown", "10.0.0.1");
}

static void who_is_not_trusted_is_not_believed(void **state)
{
	struct forwarded_proxies p = proxies_of("10.0.0.0/8");
	struct forwarded_fields fields = {.x_for = SPAN("6.6.6.6"),
					  .x_proto = SPAN("https")};
	char out[FORWARDED_TEXT_MAX];

	(void)state;
	forwarded_find_client(&p, "192.0.2.9", &fields, out);
	assert_string_equal(out, "192.0.2.9");
	assert_string_equal(forwarded_find_scheme(&p, "192.0.2.9", &fields),
			    "http");
	forwarded_find_client(&p, "", &fields, out);
	assert_string_equal(out, "");
	p = proxies_of("unix");
	forwarded_find_client(&p, "", &fields, out);
	assert_string_equal(out, "6.6.6.6");
	p = (struct forwarded_proxies){0};
	forwarded_find_client(&p, "10.0.0.1", &fields, out);
	assert_string_equal(out, "10.0.0.1");
}

static void the_scheme_is_what_the_nearest_proxy_says(void **state)
{
	struct forwarded_proxies p = proxies_of("10.0.0.0/8");
	static const struct {
		const char *x_proto;
		const char *forwarded;
		const char *scheme;
	} cases[] = {
		{NULL, NULL, "http"},
		{"https", NULL, "https"},
		{"HTTPS", NULL, "https"},
		{"http, https", NULL, "https"},
		{"https, http", NULL, "http"},
		{"https\", x", NULL, "http"},
		{NULL, "for=1.2.3.4;proto=https", "https"},
		{NULL, "proto=https, for=1.2.3.4", "http"},
		{"http", "proto=https", "http"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct forwarded_fields fields = {
			.x_proto = span_of(cases[i].x_proto),
			.forwarded = span_of(cases[i].forwarded)};
		assert_string_equal(
			forwarded_find_scheme(&p, "10.0.0.1", &fields),
			cases[i].scheme);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_networks_are_read),
		cmocka_unit_test(no_more_than_64_networks_are_read),
		cmocka_unit_test(a_network_has_its_addresses_and_no_others),
		cmocka_unit_test(addresses_are_read_in_each_form),
		cmocka_unit_test(the_rightmost_that_is_no_proxy_is_the_client),
		cmocka_unit_test(behind_what_is_no_address_nobody_is_believed),
		cmocka_unit_test(forwarded_says_the_same_as_x_forwarded_for),
		cmocka_unit_test(fields_that_do_not_agree_are_not_believed),
		cmocka_unit_test(who_is_not_trusted_is_not_believed),
		cmocka_unit_test(the_scheme_is_what_the_nearest_proxy_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
