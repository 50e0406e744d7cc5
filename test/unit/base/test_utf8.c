/* test_utf8.c - what src/base/utf8.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "utf8_texts.h"

static void every_character_is_utf8_in_its_shortest_form_only(void **state)
{
	static const uint32_t limits[] = {0, 0x80, 0x800, 0x10000, 0x200000};
	char text[4] = {0};

	(void)state;
	for (size_t len = 1; len <= 4; len++) {
		for (uint32_t c = 0; c < limits[len]; c++) {
			bool expected = len == utf8_shortest(c) &&
					c <= 0x10ffff &&
					(c < 0xd800 || c > 0xdfff);
			utf8_encode_in(c, len, text);
			if (utf8_is_valid((struct span){text, len}) != expected)
				fail_msg("U+%X in %zu bytes", c, len);
		}
	}
}

static void a_cut_or_broken_character_is_not_utf8(void **state)
{
	static const uint32_t characters[] = {0x80,   0x7ff,   0x800,
					      0xffff, 0x10000, 0x10ffff};

	(void)state;
	for (size_t i = 0; i < sizeof(characters) / sizeof(*characters); i++) {
		size_t len = utf8_shortest(characters[i]);
		for (size_t at = 1; at < len; at++) {
			char text[4];
			utf8_encode_in(characters[i], len, text);
			assert_false(utf8_is_valid((struct span){text, at}));
			text[at] = '\x7f';
			assert_false(utf8_is_valid((struct span){text, len}));
			text[at] = '\xc0';
			assert_false(utf8_is_valid((struct span){text, len}));
		}
	}
}

static void a_lone_byte_over_127_is_not_utf8(void **state)
{
	(void)state;
	for (int byte = 0x80; byte < 256; byte++) {
		for (size_t at = 0; at < 20; at++) {
			char text[20];
			struct span span = {text, sizeof(text)};
			memset(text, 'a', sizeof(text));
			assert_true(utf8_is_valid(span));
			text[at] = (char)byte;
			assert_false(utf8_is_valid(span));
		}
	}
	assert_true(utf8_is_valid(SPAN("")));
	assert_true(utf8_is_valid((struct span){NULL, 0}));
	assert_true(utf8_is_valid(SPAN("a\0b")));
}

/* As utf8_is_valid(), in two parts. */
static bool is_valid_in_parts(const uint8_t *text, size_t len, size_t first)
{
	struct utf8 u = {0};

	return utf8_feed(&u, text, first) &&
	       utf8_feed(&u, text + first, len - first) && u.left == 0;
}

static void a_text_in_parts_is_what_it_is_as_a_whole(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x10ffff; c += 61) {
		uint8_t text[32];
		size_t len = utf8_shortest(c);
		memset(text, 'a', sizeof(text));
		utf8_encode_in(c, len, (char *)text + 13);
		bool expected = utf8_is_valid(
			(struct span){(const char *)text, sizeof(text)});
		assert_int_equal(expected, c < 0xd800 || c > 0xdfff);
		for (size_t first = 0; first <= sizeof(text); first++)
			assert_int_equal(
				is_valid_in_parts(text, sizeof(text), first),
				expected);
	}
}

/* So that a connection need not wait for the rest of it. */
static void a_part_that_can_be_no_beginning_is_refused_at_once(void **state)
{
	static const char *const parts[] = {"\x80",     "\xc1",     "\xed\xa0",
					    "\xf4\x90", "\xe0\x80", "\xc3("};

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		struct utf8 u = {0};
		assert_false(utf8_feed(&u, (const uint8_t *)parts[i],
				       strlen(parts[i])));
	}
}

/* Wherever it stands among ASCII characters, which are read by words. */
static void a_byte_that_is_wrong_is_found_anywhere(void **state)
{
	uint8_t text[100];

	(void)state;
	for (size_t len = 1; len <= sizeof text; len++)
		for (size_t at = 0; at < len; at++) {
			struct utf8 u = {0};
			memset(text, 'x', len);
			text[at] = 0x80;
			assert_false(utf8_feed(&u, text, len));
			assert_false(utf8_is_valid(
				(struct span){(const char *)text, len}));
			if (at == 0)
				continue;
			text[at - 1] = 0xc3;
			u = (struct utf8){0};
			assert_true(utf8_feed(&u, text, len));
			assert_int_equal(u.left, 0);
			assert_true(utf8_is_valid(
				(struct span){(const char *)text, len}));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_character_is_utf8_in_its_shortest_form_only),
		cmocka_unit_test(a_cut_or_broken_character_is_not_utf8),
		cmocka_unit_test(a_lone_byte_over_127_is_not_utf8),
		cmocka_unit_test(a_text_in_parts_is_what_it_is_as_a_whole),
		cmocka_unit_test(
			a_part_that_can_be_no_beginning_is_refused_at_once),
		cmocka_unit_test(a_byte_that_is_wrong_is_found_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
