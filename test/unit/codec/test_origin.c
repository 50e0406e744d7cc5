/* Unit tests of origin. */
#include "codec/origin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- checking a list ------------------------------------------------------ */

/* `word` is in the sentence that says what is wrong; NULL: nothing is. */
static void expect_verdict(const char *list, const char *word)
{
	const char *wrong;

	if (word == NULL) {
		assert_int_equal(origin_check_list(list, NULL), 0);
		return;
	}
	assert_int_equal(origin_check_list(list, &wrong), -EINVAL);
	assert_int_equal(strncmp(wrong, "must ", 5), 0);
	assert_non_null(strstr(wrong, word));
}

static void a_list_is_origins_or_a_star_or_null(void **state)
{
	static const char *const good[] = {
		"*",
		" * ",
		"null",
		"https://example.com",
		"http://localhost:3000",
		"HTTPS://Example.COM:8443",
		"https://a.example, http://b.example:80 ,null\t, https://c",
		"http://127.0.0.1:8080,http://[::1]:8080,http://[2001:db8::1]",
		"https://xn--bcher-kva.example",
		"chrome-extension://abcdefghijklmnop",
		"capacitor://localhost",
		"http://a_b.example",
		"http://a:0,http://a:65535",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		expect_verdict(good[i], NULL);
}

static void no_list_is_fine(void **state)
{
	(void)state;
	expect_verdict(NULL, NULL);
}

static void a_star_stands_alone(void **state)
{
	(void)state;
	expect_verdict("*,https://a", "alone");
	expect_verdict("https://a, *", "alone");
	expect_verdict("*,*", "alone");
	expect_verdict("* ,", "alone");
}

static void an_origin_has_a_scheme(void **state)
{
	static const char *const bad[] = {
		"example.com", "example.com:443", "//example.com", "localhost",
		"https:/a",    "https:a",         "://a",          "1a://b",
		"*://a",       "ht tp://a",       "h\xc3\xa9://a", "nulls",
		"**",          "https",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_verdict(bad[i], "scheme");
}

static void no_element_is_empty(void **state)
{
	static const char *const bad[] = {
		"", " ", ",", "https://a,", ",https://a", "https://a, ,null",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_verdict(bad[i], "separated");
}

static void origins_are_separated_by_commas(void **state)
{
	(void)state;
	expect_verdict("https://a https://b", "separated by commas");
	expect_verdict("null https://a", "separated by commas");
	expect_verdict("https://a: 80", "separated by commas");
}

static void an_origin_has_no_path(void **state)
{
	static const char *const bad[] = {
		"https://a/",     "https://a/b", "https://a:1/",
		"https://u@a/",   "https:///a",  "https://b,https://a/",
		"https://[::1]/",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_verdict(bad[i], "path");
}

static void an_origin_has_no_user(void **state)
{
	(void)state;
	expect_verdict("https://u@a", "user");
	expect_verdict("https://u:p@a:443", "user");
}

static void an_origin_has_a_host_as_browsers_send_it(void **state)
{
	static const char *const bad[] = {
		"https://",       "https://:443",   "https://*.a.com",
		"https://a?b",    "https://a#b",    "https://b\xc3\xbc.com",
		"https://a%20",   "https://[]",     "https://[::1",
		"https://::1",    "https://[a-b]",  "https://[::1]a",
		"https://[::1]:", "https://x[::1]",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_verdict(bad[i], "hosts");
}

static void a_port_is_a_number_up_to_65535(void **state)
{
	static const char *const bad[] = {
		"https://a:",   "https://a:x",     "https://a:65536",
		"https://a:-1", "https://a:+1",    "https://a:4294967376",
		"https://a:1a", "https://a:80:80",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		expect_verdict(bad[i], "port");
}

/* --- asking it ------------------------------------------------------------ */

/* A copy of `text` that is alone in memory of its own and ends without a NUL,
 * so that a sanitizer sees what is read beyond it. */
static struct span copy_of(const char *text)
{
	size_t len = strlen(text);
	char *bytes = malloc(len + (len == 0));

	assert_non_null(bytes);
	memcpy(bytes, text, len);
	return (struct span){bytes, len};
}

static void free_copy(struct span s)
{
	/* It is copy_of()'s own. */
	free((void *)(uintptr_t)s.bytes);
}

static bool allows(const char *list, const char *origin)
{
	struct span copy = copy_of(origin);
	bool is_allowed = origin_is_allowed(list, copy);

	assert_int_equal(origin_check_list(list, NULL), 0);
	free_copy(copy);
	return is_allowed;
}

static void only_a_star_allows_any(void **state)
{
	(void)state;
	assert_true(origin_allows_any("*"));
	assert_true(origin_allows_any(" *\t"));
	assert_false(origin_allows_any("null"));
	assert_false(origin_allows_any("https://a"));
	assert_false(origin_allows_any("*,*"));
	assert_false(origin_allows_any(""));
	assert_false(origin_allows_any(NULL));
}

static void a_star_allows_whatever_is_sent(void **state)
{
	(void)state;
	assert_true(allows("*", "https://a"));
	assert_true(allows("*", "null"));
	assert_true(allows("*", "no origin"));
	assert_true(origin_is_allowed("*", (struct span){NULL, 0}));
}

static void an_origin_is_allowed_if_it_is_in_the_list(void **state)
{
	const char *list = "https://a.example, http://b.example:8080\t,"
			   "app://c";

	(void)state;
	assert_true(allows(list, "https://a.example"));
	assert_true(allows(list, "http://b.example:8080"));
	assert_true(allows(list, "app://c"));
	assert_true(allows("https://only.example", "https://only.example"));
	assert_true(allows(" http://[::1]:1 ", "http://[::1]:1"));
}

static void scheme_host_and_port_must_all_be_the_same(void **state)
{
	const char *list = "https://a.example,http://b.example:8080,app://c";
	static const char *const others[] = {
		"http://a.example",
		"https://a.example:8443",
		"https://b.example:8080",
		"http://b.example",
		"http://b.example:808",
		"http://b.example:80800",
		"https://a.example.evil.x",
		"https://xa.example",
		"https://a.exampl",
		"https://www.a.example",
		"app://c:80",
		"app://d",
		"ap://c",
		"a.example",
		"https://a.example.",
		"https://a.example:0",
	};

	(void)state;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		assert_false(allows(list, others[i]));
}

static void case_does_not_matter(void **state)
{
	(void)state;
	assert_true(allows("HTTPS://A.Example", "https://a.example"));
	assert_true(allows("https://a.example", "Https://a.EXAMPLE"));
	assert_true(allows("http://[2001:DB8::1]", "http://[2001:db8::1]"));
}

static void the_port_of_the_scheme_may_be_left_out(void **state)
{
	(void)state;
	assert_true(allows("https://a:443", "https://a"));
	assert_true(allows("https://a", "https://a:443"));
	assert_true(allows("http://a:80", "http://a"));
	assert_true(allows("HTTP://a", "http://a:80"));
	assert_true(allows("http://[::1]", "http://[::1]:80"));
	assert_false(allows("http://a:443", "http://a"));
	assert_false(allows("https://a", "https://a:80"));
	assert_false(allows("app://a", "app://a:80"));
}

static void null_is_allowed_only_if_listed(void **state)
{
	(void)state;
	assert_true(allows("null", "null"));
	assert_true(allows("https://a, null", "null"));
	assert_false(allows("https://a", "null"));
	assert_false(allows("null", "https://null"));
	assert_false(allows("https://null", "null"));
}

static void a_malformed_origin_is_not_allowed(void **state)
{
	static const char *const bad[] = {
		"",
		"https://",
		"https://a/",
		"https://u@a",
		"https://a:",
		"https://a https://b",
		"https://a,https://b",
		" https://a",
		"https://a ",
		"*",
		"a",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(allows("https://a,https://b,null", bad[i]));
	assert_false(origin_is_allowed("https://a", SPAN("https://a\0")));
	assert_false(
		origin_is_allowed("https://a,null", (struct span){NULL, 0}));
}

static void without_a_list_nothing_is_allowed(void **state)
{
	(void)state;
	assert_false(origin_is_allowed(NULL, SPAN("https://a")));
	assert_false(origin_is_allowed(NULL, SPAN("null")));
	assert_false(origin_is_allowed(NULL, (struct span){NULL, 0}));
}

/* --- the same host -------------------------------------------------------- */

static bool is_same(const char *origin, const char *host)
{
	struct span origin_copy = copy_of(origin);
	struct span host_copy = copy_of(host);
	bool rv = origin_is_same(origin_copy, host_copy);

	free_copy(origin_copy);
	free_copy(host_copy);
	return rv;
}

static void an_origin_is_the_same_if_host_names_its_host_and_port(void **state)
{
	(void)state;
	assert_true(is_same("http://a.example:3000", "a.example:3000"));
	assert_true(is_same("https://A.example", "a.EXAMPLE"));
	assert_true(is_same("http://[::1]:3000", "[::1]:3000"));
	assert_true(is_same("http://127.0.0.1", "127.0.0.1"));
}

static void a_port_that_host_leaves_out_is_that_of_the_origins_scheme(
	void **state)
{
	(void)state;
	assert_true(is_same("http://a", "a"));
	assert_true(is_same("https://a", "a"));
	assert_true(is_same("https://a:443", "a"));
	assert_true(is_same("http://a:80", "a:"));
	assert_true(is_same("https://[::1]", "[::1]:"));
	assert_true(is_same("http://a", "a:80"));
	assert_true(is_same("https://a", "a:443"));
	assert_false(is_same("https://a:8443", "a"));
	assert_false(is_same("http://a:443", "a"));
	assert_false(is_same("https://a", "a:80"));
}

static void another_host_or_port_is_not_the_same(void **state)
{
	(void)state;
	assert_false(is_same("http://a", "b"));
	assert_false(is_same("http://a.b", "a"));
	assert_false(is_same("http://a", "a.b"));
	assert_false(is_same("http://a:3000", "a:3001"));
	assert_false(is_same("http://a:3000", "a"));
	assert_false(is_same("http://a", "a:3000"));
}

static void other_schemes_are_never_the_same(void **state)
{
	(void)state;
	assert_false(is_same("ws://a", "a"));
	assert_false(is_same("app://a:80", "a:80"));
	assert_false(is_same("null", ""));
	assert_false(is_same("null", "null"));
	assert_false(is_same("https", ""));
}

static void what_is_malformed_is_not_the_same(void **state)
{
	(void)state;
	assert_false(is_same("http://", ""));
	assert_false(is_same("http://a/", "a"));
	assert_false(is_same("a", "a"));
	assert_false(is_same("", ""));
	assert_false(is_same("http://a", "a::"));
	assert_false(is_same("http://a", ":"));
	assert_false(is_same("http://a:65536", "a:65536"));
	assert_false(is_same("http://u@a", "u@a"));
	assert_false(origin_is_same(SPAN("http://a"), (struct span){NULL, 0}));
	assert_false(origin_is_same((struct span){NULL, 0}, SPAN("a")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_list_is_origins_or_a_star_or_null),
		cmocka_unit_test(no_list_is_fine),
		cmocka_unit_test(a_star_stands_alone),
		cmocka_unit_test(an_origin_has_a_scheme),
		cmocka_unit_test(no_element_is_empty),
		cmocka_unit_test(origins_are_separated_by_commas),
		cmocka_unit_test(an_origin_has_no_path),
		cmocka_unit_test(an_origin_has_no_user),
		cmocka_unit_test(an_origin_has_a_host_as_browsers_send_it),
		cmocka_unit_test(a_port_is_a_number_up_to_65535),
		cmocka_unit_test(only_a_star_allows_any),
		cmocka_unit_test(a_star_allows_whatever_is_sent),
		cmocka_unit_test(an_origin_is_allowed_if_it_is_in_the_list),
		cmocka_unit_test(scheme_host_and_port_must_all_be_the_same),
		cmocka_unit_test(case_does_not_matter),
		cmocka_unit_test(the_port_of_the_scheme_may_be_left_out),
		cmocka_unit_test(null_is_allowed_only_if_listed),
		cmocka_unit_test(a_malformed_origin_is_not_allowed),
		cmocka_unit_test(without_a_list_nothing_is_allowed),
		cmocka_unit_test(
			an_origin_is_the_same_if_host_names_its_host_and_port),
		cmocka_unit_test(
			a_port_that_host_leaves_out_is_that_of_the_origins_scheme),
		cmocka_unit_test(another_host_or_port_is_not_the_same),
		cmocka_unit_test(other_schemes_are_never_the_same),
		cmocka_unit_test(what_is_malformed_is_not_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
