/* test_permessage_deflate.c - offers, and what they are answered. */
#include "codec/permessage_deflate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ANSWER                                                                 \
	"permessage-deflate; server_no_context_takeover; "                     \
	"client_no_context_takeover"

#define NONE      NULL /* no extension is agreed */
#define MALFORMED "400"

static void offers_are_answered_by_the_rfc(void **state)
{
	static const struct {
		const char *offers;
		const char *answer;
	} cases[] = {
		/* Whoever offers it. */
		{"permessage-deflate", ANSWER},
		{"permessage-deflate; client_max_window_bits", ANSWER},
		{"permessage-deflate;client_max_window_bits", ANSWER},
		{" permessage-deflate ;\tclient_max_window_bits ", ANSWER},
		{"permessage-deflate; client_max_window_bits; "
		 "server_no_context_takeover; client_no_context_takeover",
		 ANSWER},
		{"permessage-deflate; client_max_window_bits=8", ANSWER},
		{"permessage-deflate; client_max_window_bits=15", ANSWER},
		/* Our window. */
		{"permessage-deflate; server_max_window_bits=15",
		 ANSWER "; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=9",
		 ANSWER "; server_max_window_bits=9"},
		{"permessage-deflate; server_max_window_bits=14; "
		 "client_max_window_bits=10",
		 ANSWER "; server_max_window_bits=14"},
		{"permessage-deflate; server_max_window_bits=8", NONE},
		{"permessage-deflate; server_max_window_bits=7", NONE},
		{"permessage-deflate; server_max_window_bits=16", NONE},
		{"permessage-deflate; server_max_window_bits", NONE},
		{"permessage-deflate; server_max_window_bits=010", NONE},
		{"permessage-deflate; server_max_window_bits=9x", NONE},
		{"permessage-deflate; server_max_window_bits=150", NONE},
		{"permessage-deflate; server_max_window_bits=4294967305", NONE},
		{"permessage-deflate; server_max_window_bits=-9", NONE},
		{"permessage-deflate; client_max_window_bits=7", NONE},
		{"permessage-deflate; client_max_window_bits=16", NONE},
		{"permessage-deflate; client_max_window_bits=08", NONE},
		/* Quoted values, with escapes. */
		{"permessage-deflate; server_max_window_bits=\"10\"",
		 ANSWER "; server_max_window_bits=10"},
		{"permessage-deflate; server_max_window_bits=\"1\\0\"",
		 ANSWER "; server_max_window_bits=10"},
		{"permessage-deflate; server_max_window_bits=\"100\"", NONE},
		{"permessage-deflate; server_max_window_bits=\"\"", MALFORMED},
		{"permessage-deflate; server_max_window_bits=\"1 0\"",
		 MALFORMED},
		{"permessage-deflate; server_max_window_bits=\"10", MALFORMED},
		{"permessage-deflate; server_max_window_bits=\"10\\\"",
		 MALFORMED},
		{"permessage-deflate; server_max_window_bits=\"", MALFORMED},
		{"permessage-deflate; a=\"b,c\"", MALFORMED},
		/* Parameters that there are not, or not so. */
		{"permessage-deflate; unknown", NONE},
		{"permessage-deflate; unknown=1; server_max_window_bits=10",
		 NONE},
		{"permessage-deflate; server_no_context_takeover=1", NONE},
		{"permessage-deflate; client_no_context_takeover=15", NONE},
		{"permessage-deflate; client_max_window_bits; "
		 "client_max_window_bits",
		 NONE},
		{"permessage-deflate; server_no_context_takeover; "
		 "server_no_context_takeover",
		 NONE},
		{"permessage-deflate; Server_No_Context_Takeover", NONE},
		/* Several offers: the first that can be met. */
		{"permessage-deflate; server_max_window_bits=10, "
		 "permessage-deflate",
		 ANSWER "; server_max_window_bits=10"},
		{"permessage-deflate; server_max_window_bits=8, "
		 "permessage-deflate; unknown, permessage-deflate",
		 ANSWER},
		{"permessage-deflate; unknown, permessage-deflate; other",
		 NONE},
		{"x-webkit-deflate-frame, permessage-deflate", ANSWER},
		{"mux; max-channels=4; flow-control, permessage-deflate",
		 ANSWER},
		{"foo; a=\"1\\2\"; b, permessage-deflate", ANSWER},
		/* Other extensions. */
		{"x-webkit-deflate-frame", NONE},
		{"permessage-deflate2", NONE},
		{"permessage-bzip2; level=9", NONE},
		{"Permessage-Deflate", NONE},
		/* What is no list of extensions. */
		{"", NONE},
		{" , ", NONE},
		{",permessage-deflate,,", ANSWER},
		{"permessage-deflate;", MALFORMED},
		{"permessage-deflate;;client_max_window_bits", MALFORMED},
		{"permessage-deflate; =15", MALFORMED},
		{"permessage-deflate; client_max_window_bits=", MALFORMED},
		{"permessage-deflate; client_max_window_bits=1=2", MALFORMED},
		{"permessage deflate", MALFORMED},
		{"; client_max_window_bits", MALFORMED},
		{"permessage-deflate, foo; bar baz", MALFORMED},
		{"permessage-deflate, \x80", MALFORMED},
		{"\"permessage-deflate\"", MALFORMED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct permessage_deflate p;
		char answer[PERMESSAGE_DEFLATE_MAX] = "400";
		const char *got = answer;
		int status = permessage_deflate_choose(
			(struct span){cases[i].offers, strlen(cases[i].offers)},
			&p);
		assert_true(status == 0 || status == 400);
		assert_true(status == 0 || !p.is_agreed);
		if (status == 0 && p.is_agreed)
			permessage_deflate_write(&p, answer);
		else if (status == 0)
			got = NULL;
		if (got == NULL || cases[i].answer == NULL) {
			if (got != cases[i].answer)
				fail_msg("%s: %s", cases[i].offers,
					 got == NULL ? "none" : got);
		} else if (strcmp(got, cases[i].answer) != 0) {
			fail_msg("%s: %s", cases[i].offers, got);
		}
	}
}

static void without_an_offer_nothing_is_agreed(void **state)
{
	struct permessage_deflate p;

	(void)state;
	assert_int_equal(permessage_deflate_choose((struct span){NULL, 0}, &p),
			 0);
	assert_false(p.is_agreed);
}

static void the_window_is_never_larger_than_asked_for(void **state)
{
	(void)state;
	for (unsigned bits = 9; bits <= 15; bits++) {
		char offer[64];
		struct permessage_deflate p;
		int len = snprintf(offer, sizeof offer,
				   "permessage-deflate; "
				   "server_max_window_bits=%u",
				   bits);
		assert_int_equal(permessage_deflate_choose(
					 (struct span){offer, (size_t)len}, &p),
				 0);
		assert_int_equal(p.server_bits, bits);
		assert_int_equal(p.ours, bits == 15 ? DEFLATE_WINDOW_FULL
						    : DEFLATE_WINDOW_SMALL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_are_answered_by_the_rfc),
		cmocka_unit_test(without_an_offer_nothing_is_agreed),
		cmocka_unit_test(the_window_is_never_larger_than_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
