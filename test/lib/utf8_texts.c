/* utf8_texts.c - see utf8_texts.h. */
#include "utf8_texts.h"

void utf8_encode_in(uint32_t character, size_t len, char out[static 4])
{
	static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (character & 0x3f));
		character >>= 6;
	}
	out[0] = (char)(leads[len] | character);
}

size_t utf8_shortest(uint32_t character)
{
	if (character < 0x80)
		return 1;
	if (character < 0x800)
		return 2;
	return character < 0x10000 ? 3 : 4;
}
