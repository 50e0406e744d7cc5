/* stamp.c - stamps in and out, and what a subscriber has of them. */
#include "cli/bench/stamp.h"

#include <endian.h>
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

#define EVERY_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Reads eight lower-case digits at once, the first character in the highest
 * byte. Returns false if one is none. */
static bool read_hex_word(const char *text, uint32_t *out)
{
	uint64_t word;

	memcpy(&word, text, sizeof word);
	word = be64toh(word);
	/* A letter's low bits are 1 to 6, and bit 6 tells it from '0' to '9'.
	 */
	uint64_t value =
		(word & EVERY_BYTE(0x0f)) + 9 * (word >> 6 & EVERY_BYTE(1));
	uint64_t is_letter =
		(value + EVERY_BYTE(0x80 - 10)) >> 7 & EVERY_BYTE(1);
	/* What these values are written as must be what is there. */
	uint64_t written = value + EVERY_BYTE('0') +
			   is_letter * (uint64_t)('a' - '0' - 10);
	value = (value | value >> 4) & 0x00ff00ff00ff00ff;
	value = (value | value >> 8) & 0x0000ffff0000ffff;
	*out = (uint32_t)(value | value >> 16);
	return written == word;
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
	uint32_t topic; /* and two digits of the number */
	uint32_t due[2];

	if (payload.len < STAMP_BYTES || payload.bytes[0] != '@' ||
	    !read_hex_word(payload.bytes + TOPIC_AT, &topic) ||
	    !read_hex_word(payload.bytes + NUMBER_AT, &out->number) ||
	    !read_hex_word(payload.bytes + TIME_AT, &due[0]) ||
	    !read_hex_word(payload.bytes + TIME_AT + 8, &due[1]) ||
	    !is_filler(payload.bytes + STAMP_BYTES, payload.len - STAMP_BYTES))
		return false;
	topic >>= 8;
	out->is_probe = (topic & PROBE) != 0;
	out->topic = topic & ~PROBE;
	out->due_ns = (uint64_t)due[0] << 32 | due[1];
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
