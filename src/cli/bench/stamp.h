/* stamp.h - what a published payload says of itself, so that who receives it
 * can tell what was lost, doubled, damaged, misrouted or out of order.
 *
 * A payload is a stamp and then nothing but 'x': text that needs no escapes in
 * JSON. Threads: any. */
#ifndef ISIMUD_CLI_BENCH_STAMP_H
#define ISIMUD_CLI_BENCH_STAMP_H

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define STAMP_BYTES      31     /* '@', topic, number, time in hex */
#define STAMP_TOPICS_MAX 999999 /* a topic's number has 20 bits */
#define STAMP_FILLER     'x'

struct stamp {
	unsigned topic;  /* below STAMP_TOPICS_MAX */
	uint32_t number; /* within the topic, from 0 */
	uint64_t due_ns; /* when it was to be sent, by the monotonic clock */
	bool is_probe;   /* published to see who is subscribed; not counted */
};

void stamp_write(char out[static STAMP_BYTES], const struct stamp *stamp);

/* Returns false if `payload` is no stamp with filler behind it. */
bool stamp_read(struct span payload, struct stamp *out);

/* What one subscriber has received of its topic. Zeroed memory is nothing. */
struct tally {
	uint32_t next;     /* the number that comes next */
	uint64_t seen;     /* bit i: number next - 1 - i was received */
	uint64_t received; /* different ones */
};

enum tally_verdict {
	TALLY_NEXT,  /* the one that was to come */
	TALLY_AHEAD, /* others have not come yet */
	TALLY_LATE,  /* behind one with a higher number */
	TALLY_TWICE, /* it had come before; one that is 64 back counts as late
		      */
};

/* Takes down that `number` has come. */
enum tally_verdict tally_take(struct tally *t, uint32_t number);

#endif
