/* cursor.h - a client's position in its topics, as text: EPOCH-SEQ.
 *
 * EPOCH is 16 lower-case hexadecimal digits, new whenever the history begins
 * anew. SEQ is the number of the last message that the client has, decimal,
 * without leading zeros. A client with several topics in one event stream has
 * one cursor for all: EPOCH-SEQ.SEQ.SEQ, in the order in which it named the
 * topics. Codec: no socket, thread or clock. Threads: any. */
#ifndef ISIMUD_CODEC_CURSOR_H
#define ISIMUD_CODEC_CURSOR_H

#include "base/span.h"

#include <stdint.h>

#define CURSOR_EPOCH_LEN 16
#define CURSOR_PARTS_MAX 1024
/* Bytes of a cursor of one part, its NUL included; each further part needs up
 * to CURSOR_PART_MAX more. */
#define CURSOR_MAX      (CURSOR_EPOCH_LEN + 1 + 20 + 1)
#define CURSOR_PART_MAX 21

/* Writes EPOCH-SEQ and a NUL; returns its length. */
size_t cursor_write(char out[static CURSOR_MAX], uint64_t epoch,
		    uint64_t sequence);

/* Appends ".SEQ" and a NUL at `out`, which has CURSOR_PART_MAX + 1 bytes;
 * returns its length. */
size_t cursor_write_part(char *out, uint64_t sequence);

/* Reads a cursor of exactly `parts` parts (1 to CURSOR_PARTS_MAX). Returns 0,
 * or -EINVAL if it is not one: anything else, SEQ above UINT64_MAX, another
 * number of parts; `*epoch` and `sequences` are undefined then. */
int cursor_parse(struct span text, unsigned parts, uint64_t *epoch,
		 uint64_t *sequences);

/* Reads how many of its last messages a client wants of a topic: a decimal
 * number from 0 to CURSOR_LAST_MAX without leading zeros. Returns 0, or
 * -EINVAL. */
#define CURSOR_LAST_MAX 65536
int cursor_parse_last(struct span text, uint32_t *last);

#endif
