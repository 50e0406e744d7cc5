/* record.h - what the nodes of a cluster write to their log.
 *
 * A message of the stream is one record: publications, in order, or a marker,
 * which says what epoch the log is in. Numbers are little-endian; bytes follow
 * each other without padding.
 *
 *   version 1, kind                        1 + 1
 *   number of publications, flags          2 + 4
 *   epoch, nonce                           8 + 8
 *   RECORD_KEYED: identity, digest         32 + 32
 *   publications, each:
 *     RECORD_IS_JSON, RECORD_TRACED; event's length 1 + 1
 *     lengths of publisher, topic, data             2 + 2 + 4
 *     publisher, topic, event, data
 *     RECORD_TRACED: traceparent                    55
 *   or of a marker:
 *     sequence of the marker before, 0: none        8
 *     sum over all records up to that marker        8
 *     sequence of the marker that began the epoch   8   0: this one
 *
 * Other bytes than these are no record. No socket, thread or clock; what is
 * read comes from other nodes, and is checked like a client's bytes.
 * Threads: any. */
#ifndef ISIMUD_CLUSTER_RECORD_H
#define ISIMUD_CLUSTER_RECORD_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define RECORD_VERSION          1
#define RECORD_PUBLICATIONS_MAX 1024 /* in one record */
#define RECORD_INDEX_BITS       10   /* an index of them, from 0 */
#define RECORD_NAME_MAX_BYTES   UINT16_MAX
#define RECORD_EVENT_MAX_BYTES  UINT8_MAX
/* What a record needs beside the bytes of its publications, at most. */
#define RECORD_HEAD_MAX         88
#define RECORD_PUBLICATION_HEAD 10

enum record_kind {
	RECORD_PUBLICATIONS = 1,
	RECORD_MARKER = 2,
};

/* Flags. */
#define RECORD_KEYED    1u /* has the identity of a request with a key */
#define RECORD_IS_ARRAY 2u /* that request was a batch */
#define RECORD_IS_NEW   4u /* of a marker: it begins its epoch */
#define RECORD_SUMS_NEW 8u /* the same: the sum begins with it */

/* Flags of a publication. */
#define RECORD_IS_JSON 1u /* the data is JSON text, and not a string's */
#define RECORD_TRACED  2u /* it has a traceparent */

struct record_publication {
	struct span publisher;
	struct span topic;
	struct span event; /* absent or empty: none */
	struct span data;
	struct span traceparent; /* absent: none */
	bool is_json;            /* the data is JSON text */
};

struct record {
	enum record_kind kind;
	uint32_t flags;
	unsigned count; /* publications */
	uint64_t epoch;
	uint64_t nonce;         /* random: tells two records apart */
	const uint8_t *id;      /* RECORD_KEYED: DIGEST_SHA256_BYTES each */
	const uint8_t *content; /* the same */
	uint64_t previous;      /* of a marker */
	uint64_t sum;           /* the same */
	uint64_t begins;        /* the same */
	struct span body;       /* the publications, for record_next() */
};

/* Appends a record without publications yet; `r->count` and `r->body` do not
 * matter. Returns 0, or UV_ENOMEM with `out` unchanged. */
int record_begin(struct buf *out, const struct record *r);

/* Appends a publication to the record that begins at `start` of `out`, and
 * counts it there. Returns 0; UV_ENOMEM; or UV_E2BIG if the record is full or a
 * part is too long; `out` is then unchanged. */
int record_add(struct buf *out, size_t start,
	       const struct record_publication *p);

/* Appends `count` publications at once: `bytes` is what record_add() appended
 * for them to another record. The same errors. */
int record_append(struct buf *out, size_t start, unsigned count,
		  struct span bytes);

/* Reads a record, which must be all of `bytes`, as far as its last publication.
 * What is in `r` lies in `bytes`. Returns 0, or UV_EINVAL. */
int record_parse(struct record *r, struct span bytes);

/* Takes the next publication off `*body` of a record that was parsed. Returns
 * false at the end. */
bool record_next(struct span *body, struct record_publication *p);

/* The number of a publication in its topic: increasing, but not in steps of
 * one. */
static inline uint64_t record_number(uint64_t sequence, unsigned index)
{
	return sequence << RECORD_INDEX_BITS | index;
}

/* What record number `sequence` of the stream adds to the sum (modulo 2^64) by
 * which nodes find that they have not applied the same records. */
uint64_t record_mix(uint64_t sequence, uint64_t nonce);

#endif
