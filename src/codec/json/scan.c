/* scan.c - whether a text is JSON, and where its members stand. */
#include "codec/json/scan.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

/* cJSON copies a number into 64 bytes and takes the rest for something else;
 * RFC 8259 6 allows a limit. */
#define NUMBER_MAX_BYTES 63

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

/* How many bytes the character at `text` has, 0 if it is none that UTF-8 allows
 * (RFC 3629 4). At least one byte is there. */
static size_t utf8_length(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text;
	unsigned char low = 0x80; /* bounds of the second byte */
	unsigned char high = 0xbf;
	size_t need;

	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	need = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (at[0] == 0xe0)
		low = 0xa0; /* below: overlong */
	else if (at[0] == 0xed)
		high = 0x9f; /* above: surrogates */
	else if (at[0] == 0xf0)
		low = 0x90; /* below: overlong */
	else if (at[0] == 0xf4)
		high = 0x8f; /* above: over U+10FFFF */
	if (len < need || at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++) {
		if (at[i] < 0x80 || at[i] > 0xbf)
			return 0;
	}
	return need;
}

/* Eight bytes, the first of them lowest. */
static uint64_t load_word(const char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return le64toh(word);
}

/* Whether a character stands in a string for itself, and is ASCII. */
static bool is_plain(char c)
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

/* --- scan ----------------------------------------------------------------- */

static bool refuse(struct json_scan *s, const char *problem)
{
	s->problem = problem;
	return false;
}

static bool is_next(const struct json_scan *s, char c)
{
	return s->at < s->end && *s->at == c;
}

static bool take(struct json_scan *s, char c)
{
	if (!is_next(s, c))
		return false;
	s->at++;
	return true;
}

static void skip_space(struct json_scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' ||
				  *s->at == '\r' || *s->at == '\t'))
		s->at++;
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
	while (at < s->end && is_plain(*at))
		at++;
	s->at = at;
}

/* Starts at a backslash. */
static bool scan_escape(struct json_scan *s, bool *has_nul)
{
	size_t used;
	int32_t character;

	if (s->end - s->at < 2 || s->at[1] != 'u') {
		s->at++;
		if (s->at == s->end || *s->at == '\0' ||
		    strchr("\"\\/bfnrt", *s->at) == NULL)
			return refuse(s, "an escape was expected");
		s->at++;
		return true;
	}
	character = json_read_character(s->at, s->end, &used);
	if (character == -1)
		return refuse(s, "an escape needs four hexadecimal digits");
	if (character == -2)
		return refuse(s, "an escape is half a surrogate pair");
	if (character == 0)
		*has_nul = true;
	s->at += used;
	return true;
}

/* Starts at something in a string that is not plain, nor its end. */
static bool scan_special(struct json_scan *s, bool *has_nul)
{
	if (s->at == s->end)
		return refuse(s, "a closing quote was expected");
	if (*s->at == '\\')
		return scan_escape(s, has_nul);
	if ((unsigned char)*s->at < 0x20)
		return refuse(s, "a control character is not escaped");
	do { /* one that is not ASCII is seldom alone */
		size_t len = utf8_length(s->at, (size_t)(s->end - s->at));
		if (len == 0)
			return refuse(s, "a character is not UTF-8");
		s->at += len;
	} while (s->at < s->end && (unsigned char)*s->at >= 0x80);
	return true;
}

/* Starts at the opening quote. `*has_nul` is set if it holds U+0000. */
static bool scan_string(struct json_scan *s, bool *has_nul)
{
	s->at++;
	skip_plain(s);
	while (!take(s, '"')) {
		if (!scan_special(s, has_nul))
			return false;
		skip_plain(s);
	}
	return true;
}

static bool is_digit_next(const struct json_scan *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static bool scan_digits(struct json_scan *s)
{
	if (!is_digit_next(s))
		return refuse(s, "a digit was expected");
	while (is_digit_next(s))
		s->at++;
	return true;
}

static bool scan_number(struct json_scan *s)
{
	const char *start = s->at;

	take(s, '-');
	if (!take(s, '0') && !scan_digits(s))
		return false;
	if (take(s, '.') && !scan_digits(s))
		return false;
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			take(s, '-');
		if (!scan_digits(s))
			return false;
	}
	if (s->at - start > NUMBER_MAX_BYTES) {
		s->at = start;
		return refuse(s, "a number is too long");
	}
	return true;
}

static bool scan_word(struct json_scan *s, struct span word)
{
	if ((size_t)(s->end - s->at) < word.len ||
	    memcmp(s->at, word.bytes, word.len) != 0)
		return refuse(s, "a value was expected");
	s->at += word.len;
	return true;
}

static bool scan_value(struct json_scan *s);

static bool scan_member(struct json_scan *s)
{
	bool name_has_nul = false;
	const char *value;

	skip_space(s);
	if (!is_next(s, '"'))
		return refuse(s, "a name in quotes was expected");
	if (!scan_string(s, &name_has_nul))
		return false;
	skip_space(s);
	if (!take(s, ':'))
		return refuse(s, "a colon was expected");
	skip_space(s);
	value = s->at;
	if (!scan_value(s))
		return false;
	if (s->depth == 1) {
		if (s->members_count < JSON_MEMBERS_MAX)
			s->members[s->members_count] =
				(struct json_scan_member){
					{value, (size_t)(s->at - value)},
					name_has_nul};
		s->members_count++;
	}
	skip_space(s);
	return true;
}

static bool scan_element(struct json_scan *s)
{
	skip_space(s);
	if (!scan_value(s))
		return false;
	skip_space(s);
	return true;
}

/* Starts at the opening bracket. It calls itself by way of scan_value(), at
 * most JSON_DEPTH_MAX deep. */
static bool scan_nested(struct json_scan *s, char closing,
			bool (*scan_one)(struct json_scan *s),
			const char *problem)
{
	if (s->depth == JSON_DEPTH_MAX)
		return refuse(s, "nested too deep");
	s->depth++;
	s->at++;
	skip_space(s);
	if (!take(s, closing)) {
		do {
			if (!scan_one(s))
				return false;
		} while (take(s, ','));
		if (!take(s, closing))
			return refuse(s, problem);
	}
	s->depth--;
	return true;
}

static bool scan_value(struct json_scan *s)
{
	bool has_nul = false; /* nobody asks */

	s->values_count++;
	switch (s->at < s->end ? *s->at : '\0') {
	case '{':
		return scan_nested(s, '}', scan_member,
				   "a comma or } was expected");
	case '[':
		return scan_nested(s, ']', scan_element,
				   "a comma or ] was expected");
	case '"':
		return scan_string(s, &has_nul);
	case 'f':
		return scan_word(s, SPAN("false"));
	case 'n':
		return scan_word(s, SPAN("null"));
	case 't':
		return scan_word(s, SPAN("true"));
	default:
		if (is_next(s, '-') || is_digit_next(s))
			return scan_number(s);
		return refuse(s, "a value was expected");
	}
}

int json_scan_text(struct json_scan *s, struct span text,
		   struct json_error *error)
{
	const char *start = text.bytes == NULL ? "" : text.bytes;

	s->at = start;
	s->end = start + text.len;
	s->depth = 0;
	s->values_count = 0;
	s->members_count = 0;
	if (scan_element(s)) {
		if (s->at == s->end)
			return 0;
		s->problem = "the end was expected";
	}
	return json_fail(error, 400, "text is not JSON: byte %zu: %s%s",
			 (size_t)(s->at - start) + 1, s->problem,
			 s->at == s->end ? ", but the text ends" : "");
}

void json_scan_array(struct json_scan *s, struct span text)
{
	s->at = text.bytes;
	s->end = text.bytes + text.len;
	skip_space(s);
	CHECK(take(s, '['));
}

void json_scan_item(struct json_scan *s)
{
	s->depth = 0;
	s->members_count = 0;
	CHECK(scan_element(s));
	CHECK(take(s, ',') || is_next(s, ']'));
}

int json_check(struct span text, struct json_error *error)
{
	struct json_scan scan;

	return json_scan_text(&scan, text, error);
}

bool json_is_utf8(struct span text)
{
	size_t i = 0;

	while (i < text.len) {
		size_t len = utf8_length(text.bytes + i, text.len - i);
		if (len == 0)
			return false;
		i += len;
		while (text.len - i >= 8 &&
		       (load_word(text.bytes + i) & EVERY_BYTE(0x80)) == 0)
			i += 8;
	}
	return true;
}
