/* utf8.c - checks UTF-8: ASCII characters by words, others by the bounds
 * of their bytes (RFC 3629 4). */
#include "base/utf8.h"

#include <string.h>

static bool is_continuation(uint8_t byte, uint8_t low, uint8_t high)
{
	return byte >= low && byte <= high;
}

/* Begins a character with its first byte. */
static bool start_character(struct utf8 *u, uint8_t byte)
{
	if (byte < 0x80)
		return true;
	if (byte < 0xc2 || byte > 0xf4)
		return false;
	u->left = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
	u->low = byte == 0xe0   ? 0xa0
		 : byte == 0xf0 ? 0x90
				: 0x80; /* shortest */
	u->high = byte == 0xed   ? 0x9f /* no surrogates */
		  : byte == 0xf4 ? 0x8f /* at most U+10FFFF */
				 : 0xbf;
	return true;
}

static bool continue_character(struct utf8 *u, uint8_t byte)
{
	if (!is_continuation(byte, u->low, u->high))
		return false;
	u->low = 0x80;
	u->high = 0xbf;
	u->left--;
	return true;
}

static bool is_ascii(const void *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return (word & 0x8080808080808080) == 0;
}

/* Some of the bytes at the start, all of which are ASCII; if all bytes are, all
 * of them. Tells after eight bytes that it is of no use. */
static size_t skip_ascii(const uint8_t *bytes, size_t len)
{
	uint64_t words[4];
	size_t i = 0;

	while (len - i >= sizeof words) {
		memcpy(words, bytes + i, sizeof words);
		if (((words[0] | words[1] | words[2] | words[3]) &
		     0x8080808080808080) != 0)
			break;
		i += sizeof words;
	}
	while (len - i >= 8 && is_ascii(bytes + i))
		i += 8;
	/* The last eight: some of them are known. */
	if (len - i < 8 && len >= 8 && is_ascii(bytes + len - 8))
		return len;
	return i;
}

bool utf8_feed(struct utf8 *u, const uint8_t *bytes, size_t len)
{
	size_t i = 0;

	while (i < len) {
		if (u->left == 0)
			i += skip_ascii(bytes + i, len - i);
		if (i == len)
			break;
		if (u->left == 0 ? !start_character(u, bytes[i])
				 : !continue_character(u, bytes[i]))
			return false;
		i++;
	}
	return true;
}

size_t utf8_length(const char *text, size_t len)
{
	const uint8_t *at = (const uint8_t *)text;
	struct utf8 u = {0};

	if (!start_character(&u, at[0]))
		return 0;
	size_t need = 1 + u.left;
	if (need == 1)
		return 1;
	if (len < need || !is_continuation(at[1], u.low, u.high))
		return 0;
	for (size_t i = 2; i < need; i++)
		if (!is_continuation(at[i], 0x80, 0xbf))
			return 0;
	return need;
}

bool utf8_is_valid(struct span text)
{
	size_t i = skip_ascii((const uint8_t *)text.bytes, text.len);

	while (i < text.len) {
		size_t len = utf8_length(text.bytes + i, text.len - i);
		if (len == 0)
			return false;
		i += len;
		i += skip_ascii((const uint8_t *)text.bytes + i, text.len - i);
	}
	return true;
}
