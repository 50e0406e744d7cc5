/* guesses.h - counts wrong passwords by address.
 *
 * One table for the process, of GUESSES_MAX addresses; an IPv6 address counts
 * as its /64, since that is one customer's. Only wrong passwords are looked up:
 * the right one is never delayed or refused, whatever its address. The count of
 * an address starts again after GUESSES_FORGET_MS without one; a full table
 * evicts the address that was silent for longest. Threads: any. Takes one lock.
 */
#ifndef ISIMUD_ACCESS_GUESSES_H
#define ISIMUD_ACCESS_GUESSES_H

#include <stdint.h>

#define GUESSES_MAX       4096
#define GUESSES_FREE      10 /* wrong ones that are answered at once */
#define GUESSES_FORGET_MS 60000

/* Notes a wrong password from `peer`, an IP address as text. Returns how many
 * have come from there, this one included; 0 if `peer` is no address: a Unix
 * socket, whose mode says who may use it. */
unsigned guesses_note(const char *peer, uint64_t now_ms);

/* Forgets all. For tests. */
void guesses_clear(void);

#endif
