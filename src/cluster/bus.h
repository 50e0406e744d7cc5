/* bus.h - this node's place in the cluster: it writes publications to the log,
 * reads the log, and hands all that it has to the registry in order.
 *
 *             connected         log judged            all is read
 *    DOWN ---------------> JOIN -----------> WARMING ------------> LIVE
 *     ^                     ^ |                                      |
 *     |  connection lost,   | | nobody vouches for it: 3 s           |
 *     +--- nothing heard ---+-+--------- a doubt about the log ------+
 *
 * One thread, `isi-bus`, and one connection. Workers touch a bounded queue and
 * atomics alone, so that a server that hangs costs them nothing. The log is one
 * stream of records (record.h). Publications that wait while WINDOW_RECORDS are
 * not acknowledged go together in one record.
 *
 * An epoch lives in the log: a marker, renewed each second by whoever has seen
 * none for a second. It is replaced, by exactly one node, where the log is not
 * what it was: shorter than what was applied, another record where one was
 * applied, no marker, or none renewed for longer than anybody here lives.
 *
 * Lock order: the queue's lock is a leaf; mailbox_post_note() comes after. */
#ifndef ISIMUD_CLUSTER_BUS_H
#define ISIMUD_CLUSTER_BUS_H

#include "cluster/counts.h"
#include "cluster/record.h"
#include "stats/metrics.h"
#include "topics/mailbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus; /* opaque */

/* Who applies the log. All is called on the bus's thread. */
struct bus_sink {
	/* Whether `bytes` of publications can be applied now, no worker being
	 * too far behind. Where not, they are after a second nevertheless. */
	bool (*has_room)(void *user, size_t bytes);
	/* Publication `number` (record_number()) is next. `accepted_ns`: when,
	 * by uv_hrtime(). What `p` names is borrowed. Does not fail. */
	void (*apply)(void *user, uint64_t number, uint64_t accepted_ns,
		      const struct record_publication *p);
	/* All publications of record `r` were applied; the first was `number`.
	 * Only for those that are RECORD_KEYED. */
	void (*applied)(void *user, const struct record *r, uint64_t number);
	/* What is known of all topics is void, whatever their numbers: those
	 * from here on are of `epoch`, above `base`. Everybody is to be told.
	 */
	void (*renew)(void *user, uint64_t epoch, uint64_t base);
	/* There is nothing up to `number` that was not applied. */
	void (*reached)(void *user, uint64_t number);
	/* Tells `c` by counts_add() of some topics that have subscribers on
	 * this node, from `*at` on (0: the first). `*at` receives where to go
	 * on, or 0 at the end. Returns within a millisecond or so. */
	void (*count)(void *user, struct counts *c, uint64_t *at);
	void *user;
};

struct bus_options {
	const char *servers; /* NATS_URL: URLs with commas between */
	const char *creds;   /* or NULL */
	const char *ca;      /* or NULL */
	const char *stream;
	bool creates;         /* makes the stream if there is none */
	unsigned replicas;    /* then */
	uint64_t timeout_ms;  /* for a publication */
	size_t pending_bytes; /* waiting for the log, or for its answer */
	uint64_t history_ttl_ms;
	size_t body_max_bytes; /* of a publication; max_payload must hold it */
	/* [w] of worker w; they outlive the bus. */
	struct mailbox *const *mailboxes;
	struct bus_sink sink;
};

#define BUS_ERROR_MAX 512

/* Connects, checks the stream (and makes it), and starts the thread, which
 * joins. Blocks for some seconds at most a server. Returns 0 and `*out`, which
 * is set before the thread runs; or
 * UV_EINVAL if the settings or the stream are wrong, another UV_E… if no server
 * can be reached; `error` says what, in one line. */
int bus_start(struct bus **out, const struct bus_options *options,
	      char error[static BUS_ERROR_MAX]);

/* Ends the thread: what waits is refused, and what was sent is unknown, first.
 * The mailboxes must still be there. From then on bus_publish() refuses, and
 * the rest can be asked as before. NULL, and a second time, are fine. */
void bus_stop(struct bus *b);

/* After bus_stop(), once no other thread uses it. NULL is fine. */
void bus_free(struct bus *b);

/* For so long at least must a key be remembered that was published with: twice
 * the duplicate window of a stream that BUS_CREATE makes. */
#define BUS_KEYS_MS 60000

/* What became of a request. */
enum bus_outcome {
	BUS_PUBLISHED, /* in the log: `number` */
	BUS_REPEATED,  /* its key was used before: at `number`, applied */
	BUS_REFUSED,   /* not in the log, and will not be */
	BUS_UNKNOWN,   /* nobody can tell */
};

/* Publications that belong together: they get numbers in a row. A heap block of
 * the worker that asks, which gets it back in its mail, and then frees it. */
struct bus_request {
	struct mailbox_note note; /* the first member */
	/* In. */
	unsigned worker;
	unsigned count; /* publications, 1 to RECORD_PUBLICATIONS_MAX */
	uint32_t flags; /* RECORD_KEYED and RECORD_IS_ARRAY, or 0 */
	uint8_t id[DIGEST_SHA256_BYTES];      /* RECORD_KEYED */
	uint8_t content[DIGEST_SHA256_BYTES]; /* the same */
	/* Out. */
	enum bus_outcome outcome;
	uint64_t epoch;
	uint64_t number; /* of the first publication; the others follow */
	/* The bus's own. */
	struct bus_request *next;
	uint64_t due_ms;
	/* The caller's own: the bus does not look at it. */
	void *owner;
	bool is_array;

	size_t len;
	char body[]; /* `len` bytes, as record_add() appends them */
};

/* Takes `r` if it returns 0: it comes back by the worker's mailbox, within
 * BUS_TIMEOUT and a little. Else `r` stays the caller's, and the result is
 * UV_ENOTCONN (the log can't be reached), UV_ENOBUFS (too much is waiting) or
 * UV_E2BIG (larger than a message of the servers). Threads: any. */
int bus_publish(struct bus *b, struct bus_request *r);

/* Whether the node was live once. From then on its state is exact, if late. */
bool bus_is_warm(const struct bus *b);

/* Asks for a proof that the epoch applied here is in force, and returns a
 * ticket; bus_knows_epoch() says whether the proof has come. That takes a
 * second or so, or for ever while the log is unreachable. A record that was
 * written before the question proves nothing: a stopped process or a slow line
 * may only now read it. Threads: any. */
uint64_t bus_ask_epoch(struct bus *b);
bool bus_knows_epoch(const struct bus *b, uint64_t ticket);

/* For how long it has not been at the end of the log, in ms. */
uint64_t bus_lag_ms(const struct bus *b);

/* How many subscribers a topic has on the other nodes, as they told it some two
 * seconds ago at most. A leaf lock is taken. Threads: any. */
uint64_t bus_subscribers_elsewhere(const struct bus *b, struct span publisher,
				   struct span topic);

/* How many nodes there are, this one included. Threads: any. */
unsigned bus_nodes(const struct bus *b);

/* Why the log is judged anew: what metrics call it, and what the log's line
 * says. */
#define BUS_JOINS(X)                                                           \
	X(start, "the start")                                                  \
	X(connected, "connected")                                              \
	X(silent, "nothing is heard")                                          \
	X(missing, "a message of the consumer did not come")                   \
	X(back, "the log, or a number of it, went back")                       \
	X(marker, "a marker was written")                                      \
	X(epoch, "the leader has another marker")                              \
	X(again, "the last try came to nothing")

enum bus_join {
	BUS_JOIN_NONE, /* there is no need */
#define BUS_ENUM(name, text) BUS_JOIN_##name,
	BUS_JOINS(BUS_ENUM)
#undef BUS_ENUM
	BUS_JOIN_COUNT,
};

/* The name of each; NULL of BUS_JOIN_NONE. */
extern const char *const bus_join_names[BUS_JOIN_COUNT];

/* How it is, each value by itself; what is borrowed lives as long as the bus.
 * Threads: any. */
void bus_status(const struct bus *b, struct metrics_bus *out);

#endif
