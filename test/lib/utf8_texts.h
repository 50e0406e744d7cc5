/* utf8_texts.h - characters as bytes, right or wrong. */
#ifndef ISIMUD_TEST_UTF8_TEXTS_H
#define ISIMUD_TEST_UTF8_TEXTS_H

#include <stddef.h>
#include <stdint.h>

/* Encodes in `len` bytes, be that overlong or beyond Unicode. */
void utf8_encode_in(uint32_t character, size_t len, char out[static 4]);

/* In how many bytes it is encoded. */
size_t utf8_shortest(uint32_t character);

#endif
