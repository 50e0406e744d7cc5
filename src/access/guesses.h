/* guesses.h - who presents wrong passwords, and how often.
 *
 * One table for the process, of GUESSES_MAX addresses, an IPv6 address counting
 * as its /64: that is one customer's. It is only ever asked about what was
 * wrong: the right password is never delayed, nor refused, wherever it comes
 * from. An address that has been silent for GUESSES_FORGET_MS begins anew;
 * where the table is full, who was silent for longest goes. Threads: any. Takes
 * one lock. */
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
