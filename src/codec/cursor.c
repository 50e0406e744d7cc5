/* cursor.c - see cursor.h. */
#include "codec/cursor.h"

#include "base/decimal.h"

#include <errno.h>
#include <stdbool.h>

size_t cursor_write(char out[static CURSOR_MAX], uint64_t epoch,
		    uint64_t sequence)
{
	static const char digits[] = "0123456789abcdef";
	char *end = out + CURSOR_EPOCH_LEN;

	for (char *p = end; p > out; epoch >>= 4)
		*--p = digits[epoch & 15];
	*end++ = '-';
	end = decimal_write(end, sequence);
	*end = '\0';
	return (size_t)(end - out);
}

size_t cursor_write_part(char *out, uint64_t sequence)
{
	char *end = out;

	*end++ = '.';
	end = decimal_write(end, sequence);
	*end = '\0';
	return (size_t)(end - out);
}

/* --- reading: each takes what it has read off `text` ---------------------- */

static bool take_char(struct span *text, char wanted)
{
	if (text->len == 0 || text->bytes[0] != wanted)
		return false;
	text->bytes++;
	text->len--;
	return true;
}

/* The value of a lower-case hexadecimal digit, or -1. */
static int lower_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_epoch(struct span *text, uint64_t *epoch)
{
	*epoch = 0;
	if (text->len < CURSOR_EPOCH_LEN)
		return false;
	for (size_t i = 0; i < CURSOR_EPOCH_LEN; i++) {
		int digit = lower_hex_digit(text->bytes[i]);
		if (digit < 0)
			return false;
		*epoch = *epoch << 4 | (unsigned)digit;
	}
	text->bytes += CURSOR_EPOCH_LEN;
	text->len -= CURSOR_EPOCH_LEN;
	return true;
}

/* Reads all digits that follow. A number has one form: 0 is followed by no
 * other digit. */
static bool take_number(struct span *text, uint64_t *number)
{
	size_t len = 0;

	*number = 0;
	while (len < text->len && text->bytes[len] >= '0' &&
	       text->bytes[len] <= '9') {
		uint64_t digit = (uint64_t)(text->bytes[len] - '0');
		if ((len > 0 && *number == 0) ||
		    *number > (UINT64_MAX - digit) / 10)
			return false;
		*number = *number * 10 + digit;
		len++;
	}
	text->bytes += len;
	text->len -= len;
	return len > 0;
}

int cursor_parse(struct span text, unsigned parts, uint64_t *epoch,
		 uint64_t *sequences)
{
	if (!take_epoch(&text, epoch))
		return -EINVAL;
	for (unsigned i = 0; i < parts; i++)
		if (!take_char(&text, i == 0 ? '-' : '.') ||
		    !take_number(&text, &sequences[i]))
			return -EINVAL;
	return text.len == 0 ? 0 : -EINVAL;
}

int cursor_parse_last(struct span text, uint32_t *last)
{
	uint32_t n = 0;

	if (text.len == 0 || (text.bytes[0] == '0' && text.len > 1))
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		char digit = text.bytes[i];
		if (digit < '0' || digit > '9')
			return -EINVAL;
		n = 10 * n + (uint32_t)(digit - '0');
		if (n > CURSOR_LAST_MAX)
			return -EINVAL;
	}
	*last = n;
	return 0;
}
