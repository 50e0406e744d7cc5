/* test_url.c - what src/cli/url.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/url.h"

/* What a URL comes to: "host:port prefix user password". */
static void expect(const char *text, const char *name, const char *prefix,
		   const char *user, const char *password)
{
	struct url url = {0};
	char found[URL_TEXT_MAX];
	const char *wrong;

	assert_int_equal(url_parse(&url, text, &wrong), 0);
	url_name(&url, found);
	assert_string_equal(found, name);
	assert_true(span_equal((struct span){url.prefix.bytes, url.prefix.len},
			       span_of(prefix)));
	assert_int_equal(url.has_user, user != NULL);
	assert_true(span_equal((struct span){url.user.bytes, url.user.len},
			       span_of(user)));
	assert_int_equal(url.has_password, password != NULL);
	assert_true(
		span_equal((struct span){url.password.bytes, url.password.len},
			   span_of(password)));
	url_fini(&url);
}

static void a_url_has_parts(void **state)
{
	(void)state;
	expect("http://example.org", "example.org:80", "", NULL, NULL);
	expect("127.0.0.1:3000", "127.0.0.1:3000", "", NULL, NULL);
	expect("WS://[::1]:3000/push/", "[::1]:3000", "/push", NULL, NULL);
	expect("http://news:a%40b@h:1/x", "h:1", "/x", "news", "a@b");
	expect("http://news@h:1", "h:1", "", "news", NULL);
	expect("http://:pw@h:1", "h:1", "", NULL, "pw");
	expect("unix:/run/isimud.sock", "unix:/run/isimud.sock", "", NULL,
	       NULL);
}

static void what_is_none_is_refused(void **state)
{
	static const char *const texts[] = {"",
					    "http://",
					    "https://h",
					    "ftp://h",
					    "http://h:0",
					    "http://h:65536",
					    "http://h:x",
					    "http://[::1",
					    "http://[h]:1",
					    "http://h?x=1",
					    "http://h/#x",
					    "unix:",
					    "http://h h",
					    "http://%4@h:1",
					    "http://[::1]x",
					    "http://h:1:2"};
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct url url = {0};
		const char *wrong = NULL;
		assert_true(url_parse(&url, texts[i], &wrong) < 0);
		assert_non_null(wrong);
		url_fini(&url);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_url_has_parts),
		cmocka_unit_test(what_is_none_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
