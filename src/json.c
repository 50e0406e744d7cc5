/* json.c - the JSON texts that clients send, and the ones we answer.
 *
 * A text is read in three steps. The scan goes over it once, decides whether it
 * is JSON, and records where the members of its object have their values. cJSON
 * parses it again and says how these members are named and of which type they
 * are; its i-th member is the i-th that was recorded. The strings asked for are
 * then decoded from the text itself.
 *
 * cJSON_GetErrorPtr() must never be called: what it points to is shared by all
 * threads. */
#include "json.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "check.h"

#define MEMBERS_MAX 64 /* of the outermost object; more are a 422 */

/* cJSON copies a number into 64 bytes and takes the rest for something else;
 * RFC 8259 6 allows a limit. */
#define NUMBER_MAX_BYTES 63

#define UNIT_BYTES 6 /* of one \uXXXX */

#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* --- errors --------------------------------------------------------------- */

/* Only texts of our own may go in, never a byte of the client's. */
__attribute__((format(printf, 3, 4))) static int fail(struct json_error *error,
						      int status,
						      const char *format, ...)
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

static uint64_t load_word(const char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

/* Whether a character stands in a string for itself, and is ASCII. */
static bool is_plain(char c)
{
	unsigned char byte = (unsigned char)c;

	return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* The same for eight at once. A byte that is not plain has its top bit set, or
 * borrows it in one of the subtractions; plain bytes never do. */
static bool are_plain(uint64_t word)
{
	uint64_t marks = word | (word - EVERY_BYTE(0x20)) |
			 ((word ^ EVERY_BYTE('"')) - EVERY_BYTE(1)) |
			 ((word ^ EVERY_BYTE('\\')) - EVERY_BYTE(1));

	return (marks & EVERY_BYTE(0x80)) == 0;
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

/* The character of the \uXXXX at `at`, or of the two that are a surrogate pair
 * (RFC 8259 7); `*used` receives their bytes. -1 if none is there, -2 if it is
 * a lone surrogate. */
static int32_t read_character(const char *at, const char *end, size_t *used)
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

/* One member of the outermost object. */
struct member {
	struct span value; /* in the text; a string with its quotes */
	bool name_has_nul; /* U+0000, where cJSON's copy of the name ends */
};

/* One pass over a text. */
struct scan {
	const char *at; /* the next byte */
	const char *end;
	const char *problem; /* once it failed: why, at `at` */
	unsigned depth;
	size_t values_count;  /* on all levels */
	size_t members_count; /* all there are, recorded or not */
	struct member members[MEMBERS_MAX];
};

static bool refuse(struct scan *s, const char *problem)
{
	s->problem = problem;
	return false;
}

static bool is_next(const struct scan *s, char c)
{
	return s->at < s->end && *s->at == c;
}

static bool take(struct scan *s, char c)
{
	if (!is_next(s, c))
		return false;
	s->at++;
	return true;
}

static void skip_space(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' ||
				  *s->at == '\r' || *s->at == '\t'))
		s->at++;
}

static void skip_plain(struct scan *s)
{
	while (s->end - s->at >= 8 && are_plain(load_word(s->at)))
		s->at += 8;
	while (s->at < s->end && is_plain(*s->at))
		s->at++;
}

/* Starts at a backslash. */
static bool scan_escape(struct scan *s, bool *has_nul)
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
	character = read_character(s->at, s->end, &used);
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
static bool scan_special(struct scan *s, bool *has_nul)
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
static bool scan_string(struct scan *s, bool *has_nul)
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

static bool is_digit_next(const struct scan *s)
{
	return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static bool scan_digits(struct scan *s)
{
	if (!is_digit_next(s))
		return refuse(s, "a digit was expected");
	while (is_digit_next(s))
		s->at++;
	return true;
}

static bool scan_number(struct scan *s)
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

static bool scan_word(struct scan *s, struct span word)
{
	if ((size_t)(s->end - s->at) < word.len ||
	    memcmp(s->at, word.bytes, word.len) != 0)
		return refuse(s, "a value was expected");
	s->at += word.len;
	return true;
}

static bool scan_value(struct scan *s);

static bool scan_member(struct scan *s)
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
		if (s->members_count < MEMBERS_MAX)
			s->members[s->members_count] = (struct member){
				{value, (size_t)(s->at - value)}, name_has_nul};
		s->members_count++;
	}
	skip_space(s);
	return true;
}

static bool scan_element(struct scan *s)
{
	skip_space(s);
	if (!scan_value(s))
		return false;
	skip_space(s);
	return true;
}

/* Starts at the opening bracket. It calls itself by way of scan_value(), at
 * most JSON_DEPTH_MAX deep. */
static bool scan_nested(struct scan *s, char closing,
			bool (*scan_one)(struct scan *s), const char *problem)
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

static bool scan_value(struct scan *s)
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

/* Returns 0, or 400 with `error` filled. */
static int scan_text(struct scan *s, struct span text, struct json_error *error)
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
	return fail(error, 400, "text is not JSON: byte %zu: %s%s",
		    (size_t)(s->at - start) + 1, s->problem,
		    s->at == s->end ? ", but the text ends" : "");
}

/* --- decode --------------------------------------------------------------- */

/* Returns where the next byte goes. */
static char *encode_utf8(int32_t character, char *out)
{
	if (character < 0x80) {
		*out++ = (char)character;
		return out;
	}
	if (character < 0x800) {
		*out++ = (char)(0xc0 | character >> 6);
	} else {
		if (character < 0x10000) {
			*out++ = (char)(0xe0 | character >> 12);
		} else {
			*out++ = (char)(0xf0 | character >> 18);
			*out++ = (char)(0x80 | (character >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (character >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (character & 0x3f));
	return out;
}

/* Decodes the escape at `*at`, moves `*at` behind it, and returns where the
 * next byte goes. */
static char *decode_escape(const char **at, const char *end, char *out)
{
	static const char letters[] = "bfnrt";
	const char *letter = strchr(letters, (*at)[1]);
	size_t used = 2;

	if ((*at)[1] == 'u')
		out = encode_utf8(read_character(*at, end, &used), out);
	else if (letter != NULL)
		*out++ = "\b\f\n\r\t"[letter - letters];
	else
		*out++ = (*at)[1];
	*at += used;
	return out;
}

/* Appends what the string `raw` stands for, quotes included and scanned, to
 * `memory`, which has room for raw.len bytes: decoding makes nothing longer. */
static struct span decode_string(struct span raw, struct buf *memory)
{
	const char *at = raw.bytes + 1;
	const char *end = raw.bytes + raw.len - 1;
	char *start = memory->bytes + memory->len;
	char *out = start;

	while (at < end) {
		size_t rest = (size_t)(end - at);
		const char *backslash = memchr(at, '\\', rest);
		size_t run =
			backslash == NULL ? rest : (size_t)(backslash - at);
		memcpy(out, at, run);
		out += run;
		at += run;
		if (at < end)
			out = decode_escape(&at, end, out);
	}
	memory->len += (size_t)(out - start);
	return (struct span){start, (size_t)(out - start)};
}

/* --- read ----------------------------------------------------------------- */

/* A string that must be a member of the object. */
struct wanted {
	const char *name;
	struct span *out;
	struct span raw; /* absent until it is found */
};

static const char *type_name(const cJSON *item)
{
	if (cJSON_IsObject(item))
		return "an object";
	if (cJSON_IsArray(item))
		return "an array";
	if (cJSON_IsString(item))
		return "a string";
	if (cJSON_IsNumber(item))
		return "a number";
	return cJSON_IsNull(item) ? "null" : "a boolean";
}

static struct wanted *find_wanted(struct wanted wanted[], size_t count,
				  const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(wanted[i].name, name) == 0)
			return &wanted[i];
	}
	return NULL;
}

static int take_member(struct wanted *w, const cJSON *item, struct span value,
		       struct json_error *error)
{
	if (w->raw.bytes != NULL)
		return fail(error, 422, "`%s` is there twice", w->name);
	if (!cJSON_IsString(item))
		return fail(error, 422, "`%s` must be a string, not %s",
			    w->name, type_name(item));
	w->raw = value;
	return 0;
}

/* Finds the raw string of each member wanted. */
static int find_members(const cJSON *root, const struct scan *s,
			struct wanted wanted[], size_t count,
			struct json_error *error)
{
	size_t i = 0;

	if (!cJSON_IsObject(root))
		return fail(error, 422, "an object was expected, not %s",
			    type_name(root));
	for (const cJSON *item = root->child; item != NULL; item = item->next) {
		const struct member *member = &s->members[i++];
		struct wanted *w = find_wanted(wanted, count, item->string);
		int status;
		CHECK(i <= s->members_count);
		if (w == NULL || member->name_has_nul)
			continue;
		status = take_member(w, item, member->value, error);
		if (status != 0)
			return status;
	}
	CHECK(i == s->members_count);
	for (i = 0; i < count; i++) {
		if (wanted[i].raw.bytes == NULL)
			return fail(error, 422, "missing member `%s`",
				    wanted[i].name);
	}
	return 0;
}

static int find_strings(struct span text, struct wanted wanted[], size_t count,
			struct json_error *error)
{
	struct scan scan;
	cJSON *root;
	int status;

	status = scan_text(&scan, text, error);
	if (status != 0)
		return status;
	if (scan.values_count > JSON_VALUES_MAX)
		return fail(error, 422, "too many values, at most %d allowed",
			    JSON_VALUES_MAX);
	if (scan.members_count > MEMBERS_MAX)
		return fail(error, 422, "too many members, at most %d allowed",
			    MEMBERS_MAX);
	root = cJSON_ParseWithLengthOpts(text.bytes, text.len, NULL, false);
	if (root == NULL) /* what the scan lets through is JSON to cJSON, too */
		return fail(error, 500, "out of memory");
	status = find_members(root, &scan, wanted, count, error);
	cJSON_Delete(root);
	return status;
}

static int read_strings(struct span text, struct wanted wanted[], size_t count,
			struct buf *memory, struct json_error *error)
{
	size_t room = 0;
	int status;

	status = find_strings(text, wanted, count, error);
	if (status != 0)
		return status;
	for (size_t i = 0; i < count; i++)
		room += wanted[i].raw.len;
	memory->len = 0;
	if (buf_reserve(memory, room) != 0) /* once: spans must not move */
		return fail(error, 500, "out of memory");
	for (size_t i = 0; i < count; i++)
		*wanted[i].out = decode_string(wanted[i].raw, memory);
	return 0;
}

int json_read_publication(struct json_publication *p, struct span text,
			  struct json_error *error)
{
	struct wanted wanted[] = {
		{.name = "topic", .out = &p->topic},
		{.name = "data", .out = &p->data},
	};

	return read_strings(text, wanted, 2, &p->memory, error);
}

int json_read_subscription(struct json_subscription *s, struct span text,
			   struct json_error *error)
{
	struct wanted wanted[] = {
		{.name = "publisher", .out = &s->publisher},
		{.name = "topic", .out = &s->topic},
	};

	return read_strings(text, wanted, 2, &s->memory, error);
}

int json_check(struct span text, struct json_error *error)
{
	struct scan scan;

	return scan_text(&scan, text, error);
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
