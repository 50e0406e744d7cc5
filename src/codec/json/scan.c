/* scan.c - one pass over a text: is it JSON, and where are its values? */
#include "codec/json/scan.h"

#include "base/utf8.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define UNIT_BYTES 6 /* of one \uXXXX */

#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* --- errors --------------------------------------------------------------- */

int json_fail(struct json_error *error, int status, const char *format, ...)
{
	va_list args;

	error->status = status;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return status;
}

/* --- characters ----------------------------------------------------------- */

/* Eight bytes, the first of them lowest. */
static uint64_t load_word(const char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return le64toh(word);
}

/* Whether the character is ASCII and needs no escape in a string. */
static bool is_plain_char(char c)
{
	unsigned char byte = (unsigned char)c;

	return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* The same for eight at once: the top bit of the first that is not plain is
 * set, and perhaps those of later ones; 0 if all are. A byte that is not plain
 * has its top bit set, or borrows it in one of the subtractions; plain bytes
 * never do, unless one before them borrowed. */
static uint64_t mark_special(uint64_t word)
{
	uint64_t marks = word | (word - EVERY_BYTE(0x20)) |
			 ((word ^ EVERY_BYTE('"')) - EVERY_BYTE(1)) |
			 ((word ^ EVERY_BYTE('\\')) - EVERY_BYTE(1));

	return marks & EVERY_BYTE(0x80);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The UTF-16 code unit of the \uXXXX at `at`, or -1 if none is there. */
static int32_t read_unit(const char *at, const char *end)
{
	int32_t unit = 0;

	if (end - at < UNIT_BYTES || at[0] != '\\' || at[1] != 'u')
		return -1;
	for (int i = 2; i < UNIT_BYTES; i++) {
		int digit = hex_digit(at[i]);
		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

int32_t json_read_character(const char *at, const char *end, size_t *used)
{
	int32_t high = read_unit(at, end);
	int32_t low;

	*used = UNIT_BYTES;
	if (high < 0xd800 || high > 0xdfff)
		return high;
	low = read_unit(at + UNIT_BYTES, end);
	if (high > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return -2;
	*used += UNIT_BYTES;
	return 0x10000 + (high - 0xd800) * 0x400 + (low - 0xdc00);
}

/* --- parts ---------------------------------------------------------------- */

static bool refuse_text(struct json_scan *s, const char *problem)
{
	s->problem = problem;
	return false;
}

static bool is_next(const struct json_scan *s, char c)
{
	return s->at < s->end && *s->at == c;
}

static bool take_next(struct json_scan *s, char c)
{
	if (!is_next(s, c))
		return false;
	s->at++;
	return true;
}

static void skip_space(struct json_scan *s)
{
	if (s->at == s->end || !json_is_space(*s->at))
		return;
	s->has_space = true;
	do
		s->at++;
	while (s->at < s->end && json_is_space(*s->at));
}

static void skip_plain(struct json_scan *s)
{
	const char *at = s->at;

	for (; s->end - at >= 8; at += 8) {
		uint64_t marks = mark_special(load_word(at));
		if (marks != 0) {
			s->at = at + __builtin_ctzll(marks) / 8;
			return;
		}
	}
	while (at < s->end && is_plain_char(*at))
		at++;
	s->at = at;
}

/* Starts at a backslash. */
static bool scan_escape(struct json_scan *s, struct json_scan_string *string)
{
	size_t used;
	int32_t character;

	string->has_escape = true;
	if (s->end - s->at < 2 || s->at[1] != 'u') {
		s->at++;
		if (s->at == s->end || *s->at == '\0' ||
		    strchr("\"\\/bfnrt", *s->at) == NULL)
			return refuse_text(s, "an escape was expected");
		s->at++;
		return true;
	}
	character = json_read_character(s->at, s->end, &used);
	if (character == -1)
		return refuse_text(s,
				   "an escape needs four hexadecimal digits");
	if (character == -2)
		return refuse_text(s, "an escape is half a surrogate pair");
	if (character == 0)
		string->has_nul = true;
	s->at += used;
	return true;
}

/* Starts at something in a string that is not plain, nor its end. */
static bool scan_special(struct json_scan *s, struct json_scan_string *string)
{
	if (s->at == s->end)
		return refuse_text(s, "a closing quote was expected");
	if (*s->at == '\\')
		return scan_escape(s, string);
	if ((unsigned char)*s->at < 0x20)
		return refuse_text(s, "a control character is not escaped");
	do { /* one that is not ASCII is seldom alone */
		size_t len = utf8_length(s->at, (size_t)(s->end - s->at));
		if (len == 0)
			return refuse_text(s, "a character is not UTF-8");
		s->at += len;
	} while (s->at < s->end && (unsigned char)*s->at >= 0x80);
	return true;
}

/* Starts at the opening quote. */
static bool scan_string(struct json_scan *s, struct json_scan_string *string)
{
	const char *start = s->at++;

	*string = (struct json_scan_string){0};
	skip_plain(s);
	while (!take_next(s, '"')) {
		if (!scan_special(s, string))
			return false;
		skip_plain(s);
	}
	string->raw = (struct span){start, (size_t)(s->at - start)};
	return true;
}

static bool is_digit_next(const struct json_scan *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static bool scan_digits(struct json_scan *s)
{
	if (!is_digit_next(s))
		return refuse_text(s, "a digit was expected");
	while (is_digit_next(s))
		s->at++;
	return true;
}

static bool scan_number(struct json_scan *s)
{
	take_next(s, '-');
	if (!take_next(s, '0') && !scan_digits(s))
		return false;
	if (take_next(s, '.') && !scan_digits(s))
		return false;
	if (take_next(s, 'e') || take_next(s, 'E')) {
		if (!take_next(s, '+'))
			take_next(s, '-');
		if (!scan_digits(s))
			return false;
	}
	return true;
}

static bool scan_word(struct json_scan *s, struct span word)
{
	if ((size_t)(s->end - s->at) < word.len ||
	    memcmp(s->at, word.bytes, word.len) != 0)
		return refuse_text(s, "a value was expected");
	s->at += word.len;
	return true;
}

/* A value that has no others in it. */
static bool scan_scalar(struct json_scan *s)
{
	struct json_scan_string string; /* nobody asks */

	switch (s->at < s->end ? *s->at : '\0') {
	case '"':
		return scan_string(s, &string);
	case 'f':
		return scan_word(s, SPAN("false"));
	case 'n':
		return scan_word(s, SPAN("null"));
	case 't':
		return scan_word(s, SPAN("true"));
	default:
		if (is_next(s, '-') || is_digit_next(s))
			return scan_number(s);
		return refuse_text(s, "a value was expected");
	}
}

/* --- arrays and objects --------------------------------------------------- */

static bool is_in_object(const struct json_scan *s)
{
	unsigned i = s->depth - 1;

	return (s->objects[i / 64] >> i % 64 & 1) != 0;
}

static bool take_closing(struct json_scan *s)
{
	if (!take_next(s, is_in_object(s) ? '}' : ']'))
		return false;
	s->depth--;
	return true;
}

bool json_scan_enter(struct json_scan *s, bool *is_entry)
{
	unsigned i = s->depth;
	uint64_t bit = UINT64_C(1) << i % 64;

	if (i == JSON_DEPTH_MAX) {
		s->is_too_deep = true;
		return refuse_text(s, "nested too deep");
	}
	if (*s->at++ == '{')
		/* Each depth has its bits set when it is entered. */
		/* NOLINTNEXTLINE(clang-analyzer-core.*) */
		s->objects[i / 64] |= bit;
	else
		/* The same. */
		/* NOLINTNEXTLINE(clang-analyzer-core.*) */
		s->objects[i / 64] &= ~bit;
	s->depth++;
	skip_space(s);
	*is_entry = !take_closing(s);
	return true;
}

bool json_scan_next(struct json_scan *s, bool *is_entry)
{
	skip_space(s);
	*is_entry = take_next(s, ',');
	if (*is_entry) {
		skip_space(s);
		return true;
	}
	if (take_closing(s))
		return true;
	return refuse_text(s, is_in_object(s) ? "a comma or } was expected"
					      : "a comma or ] was expected");
}

bool json_scan_name(struct json_scan *s, struct json_scan_string *name)
{
	if (!is_next(s, '"'))
		return refuse_text(s, "a name in quotes was expected");
	if (!scan_string(s, name))
		return false;
	skip_space(s);
	if (!take_next(s, ':'))
		return refuse_text(s, "a colon was expected");
	skip_space(s);
	return true;
}

bool json_scan_value(struct json_scan *s, struct span *value)
{
	const char *start = s->at;
	unsigned depth = s->depth;
	struct json_scan_string name; /* nobody asks */
	bool is_entry;

	do { /* a value each time */
		if (is_next(s, '[') || is_next(s, '{')) {
			if (!json_scan_enter(s, &is_entry))
				return false;
		} else {
			if (!scan_scalar(s))
				return false;
			is_entry = false;
		}
		while (!is_entry && s->depth > depth) {
			if (!json_scan_next(s, &is_entry))
				return false;
		}
		if (is_entry && is_in_object(s) && !json_scan_name(s, &name))
			return false;
	} while (is_entry);
	*value = (struct span){start, (size_t)(s->at - start)};
	return true;
}

/* --- texts ---------------------------------------------------------------- */

void json_scan_start(struct json_scan *s, struct span text)
{
	s->start = text.bytes == NULL ? "" : text.bytes;
	s->at = s->start;
	s->end = s->start + text.len;
	s->problem = NULL;
	s->is_too_deep = false;
	s->has_space = false;
	s->depth = 0;
	skip_space(s);
}

bool json_scan_finish(struct json_scan *s)
{
	skip_space(s);
	return s->at == s->end || refuse_text(s, "the end was expected");
}

int json_scan_fail(const struct json_scan *s, struct json_error *error)
{
	size_t byte = (size_t)(s->at - s->start) + 1;

	error->is_too_deep = s->is_too_deep;
	if (s->is_too_deep)
		return json_fail(error, 400,
				 "byte %zu: arrays and objects are nested more "
				 "than %d deep",
				 byte, JSON_DEPTH_MAX);
	return json_fail(error, 400, "text is not JSON: byte %zu: %s%s", byte,
			 s->problem,
			 s->at == s->end ? ", but the text ends" : "");
}

int json_check(struct span text, struct json_error *error)
{
	struct json_scan scan;
	struct span value;

	json_scan_start(&scan, text);
	if (json_scan_value(&scan, &value) && json_scan_finish(&scan))
		return 0;
	return json_scan_fail(&scan, error);
}
