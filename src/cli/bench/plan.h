/* plan.h - what a run of `isimud bench` is to do, and why it can't go on.
 *
 * Immutable once a run has begun, but for struct trouble. */
#ifndef ISIMUD_CLI_BENCH_PLAN_H
#define ISIMUD_CLI_BENCH_PLAN_H

#include "base/span.h"
#include "cli/bench/dialect.h"
#include "cli/url.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum plan_mode {
	PLAN_FANOUT,  /* closed loop: a window of messages is under way */
	PLAN_PUBLISH, /* without subscribers */
	PLAN_LATENCY, /* open loop: a message whenever it is due */
	PLAN_IDLE,    /* subscribers that get one message */
	PLAN_STORM,   /* all are cut at once, and come back */
};

struct plan {
	enum plan_mode mode;
	const struct dialect *dialect;
	const struct url *url;
	struct dialect_names names;
	struct span fields;           /* of subscribers; each with CR LF */
	struct span publisher_fields; /* the same, of publishers */
	unsigned subscribers;         /* 0: PLAN_PUBLISH */
	unsigned stalled;             /* more of them, that read nothing */
	unsigned topics;
	unsigned publishers;
	unsigned pipeline; /* requests without an answer, a publisher */
	unsigned window;
	unsigned threads;
	unsigned burst;    /* handshakes at once, a thread */
	size_t size;       /* of a payload, in bytes */
	uint64_t messages; /* after which it ends; 0: no limit */
	double rate;       /* PLAN_LATENCY: messages a second */
	uint64_t warmup_ns;
	uint64_t duration_ns;
};

/* The subscribers of a topic: they are dealt out evenly. */
unsigned plan_subscribers_of(const struct plan *p, unsigned topic);

/* The first reason why a run can't go on. Any thread may tell one. */
struct trouble {
	uv_mutex_t lock;
	_Atomic bool is_there;
	int status;     /* Guarded by `lock`: the exit status */
	char text[512]; /* the same */
};

__attribute__((format(printf, 3, 4))) void trouble_tell(struct trouble *t,
							int status,
							const char *format,
							...);

/* How many bytes of what a server says are shown, for "%.*s". */
int plan_shown_len(struct span text);

/* By the monotonic clock. */
uint64_t plan_now_ns(void);

#endif
