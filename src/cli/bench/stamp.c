/* stamp.c - stamps in and out, and what a subscriber has of them. */
#include "cli/bench/stamp.h"

#include <string.h>

#define TOPIC_DIGITS  6
#define NUMBER_DIGITS 8
#define TIME_DIGITS   16
#define TOPIC_AT      1
#define NUMBER_AT     (TOPIC_AT + TOPIC_DIGITS)
#define TIME_AT       (NUMBER_AT + NUMBER_DIGITS)
#define PROBE         0x800000u /* in the topic's digits */
#define SEEN_BITS     64

static void write_hex(char *out, uint64_t value, unsigned digits)
{
	while (digits-- > 0) {
		out[digits] = "0123456789abcdef"[value & 15];
		value >>= 4;
	}
}

/* Of each character, one more than its value as a lower-case digit; 0: none. */
static const uint8_t digit_values[256] = {
	['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
	['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
	['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* Returns false if one of them is no digit. */
static bool read_hex(const char *text, unsigned digits, uint64_t *out)
{
	uint64_t value = 0;
	bool is_good = true;

	for (unsigned i = 0; i < digits; i++) {
		unsigned digit = digit_values[(uint8_t)text[i]];
		is_good &= digit != 0;
		value = value << 4 | (digit - 1);
	}
	*out = value;
	return is_good;
}

void stamp_write(char out[static STAMP_BYTES], const struct stamp *stamp)
{
	out[0] = '@';
	write_hex(out + TOPIC_AT, stamp->topic | (stamp->is_probe ? PROBE : 0),
		  TOPIC_DIGITS);
	write_hex(out + NUMBER_AT, stamp->number, NUMBER_DIGITS);
	write_hex(out + TIME_AT, stamp->due_ns, TIME_DIGITS);
}

static bool is_filler(const char *bytes, size_t len)
{
	/* Each byte equals the one behind it. */
	return len == 0 || (bytes[0] == STAMP_FILLER &&
			    memcmp(bytes, bytes + 1, len - 1) == 0);
}

bool stamp_read(struct span payload, struct stamp *out)
{
	uint64_t topic;
	uint64_t number;

	if (payload.len < STAMP_BYTES || payload.bytes[0] != '@' ||
	    !read_hex(payload.bytes + TOPIC_AT, TOPIC_DIGITS, &topic) ||
	    !read_hex(payload.bytes + NUMBER_AT, NUMBER_DIGITS, &number) ||
	    !read_hex(payload.bytes + TIME_AT, TIME_DIGITS, &out->due_ns) ||
	    !is_filler(payload.bytes + STAMP_BYTES, payload.len - STAMP_BYTES))
		return false;
	out->is_probe = (topic & PROBE) != 0;
	out->topic = (unsigned)topic & ~PROBE;
	out->number = (uint32_t)number;
	return true;
}

enum tally_verdict tally_take(struct tally *t, uint32_t number)
{
	enum tally_verdict verdict = TALLY_NEXT;

	if (number >= t->next) {
		uint32_t step = number - t->next + 1;
		verdict = step == 1 ? TALLY_NEXT : TALLY_AHEAD;
		t->seen = step < SEEN_BITS ? t->seen << step | 1 : 1;
		t->next = number + 1;
	} else {
		uint32_t back = t->next - 1 - number;
		uint64_t bit = back < SEEN_BITS ? UINT64_C(1) << back : 0;
		if ((t->seen & bit) != 0)
			return TALLY_TWICE;
		t->seen |= bit;
		verdict = TALLY_LATE;
	}
	t->received++;
	return verdict;
}
