/* descriptors.h - shares out the descriptors that the process may have.
 *
 * A connection is a descriptor. A formula sets aside what the server itself
 * needs, so that clients, however many, never take the descriptor of an
 * authority's check, a probe, a log line or the history file. Of the rest, a
 * part is reserved for clients that do not subscribe, above all publishers.
 * Threads: any. */
#ifndef ISIMUD_CONFIG_DESCRIPTORS_H
#define ISIMUD_CONFIG_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

/* What there is to share out. */
struct descriptors_needs {
	uint64_t limit; /* DESCRIPTORS_UNLIMITED: none */
	uint64_t workers;
	uint64_t listeners; /* that of the admin's included */
	uint64_t checks;    /* of an authority, at once; 0: there is none */
	bool has_admin;
	uint64_t
		subscribers; /* wanted at most, over TCP; 0: all there can be */
};

#define DESCRIPTORS_UNLIMITED UINT64_MAX

/* The shares, each in connections at once. */
struct descriptors_shares {
	uint64_t admin;       /* by the admin listener; one a worker at least */
	uint64_t clients;     /* by all other doors */
	uint64_t subscribers; /* of `clients`: the rest is for those that
				 do not subscribe */
	uint64_t tcp;         /* of `clients`, those that came over TCP */
	uint64_t tcp_subscribers;
	uint64_t reserve; /* of `tcp`, kept from subscribers; one a worker at
			     least */
};

/* How many idle connections to an authority are kept for the next checks, by
 * all workers together; each may keep one. */
#define DESCRIPTORS_CHECKS_KEPT(checks) ((checks) / 2)

/* By how much connections may exceed their share for a moment: those of the
 * admin listener, and those of clients. */
#define DESCRIPTORS_OVER_MAX 8

/* Returns whether `limit` suffices. If not, `*least` is the lowest limit that
 * would, and `out` is only good for messages. `least` may be NULL. */
bool descriptors_share(const struct descriptors_needs *needs,
		       struct descriptors_shares *out, uint64_t *least);

/* The limit that the process may have (RLIMIT_NOFILE, the hard one). */
uint64_t descriptors_limit(void);

/* The default of concurrent checks, at most `most`, that leaves most
 * descriptors to clients. */
uint64_t descriptors_default_checks(uint64_t limit, uint64_t most);

#endif
