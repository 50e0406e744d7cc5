/* name.h - the names of publishers and topics: UTF-8, any characters in it,
 * U+0000 too, and at most so long. Whoever reads one of a client's checks it.
 * Threads: any. */
#ifndef ISIMUD_BASE_NAME_H
#define ISIMUD_BASE_NAME_H

#define NAME_MAX_BYTES 1024

#define NAME_TOO_LONG "A name has more than 1024 bytes"

#endif
