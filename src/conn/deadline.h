/* deadline.h - the time-outs of a loop's connections, with one timer for all.
 *
 * Each kind of time-out has one duration, so a list in the order of setting is
 * in the order of expiry: to set or clear one costs a few pointers, and only
 * the first of each list is ever looked at. Owner: the loop's thread. */
#ifndef ISIMUD_CONN_DEADLINE_H
#define ISIMUD_CONN_DEADLINE_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum deadline_kind {
	DEADLINE_HEAD,   /* a request's head */
	DEADLINE_BODY,   /* a request's content */
	DEADLINE_IDLE,   /* between requests */
	DEADLINE_WRITE,  /* until the peer takes more of an answer */
	DEADLINE_PING,   /* until the next ping */
	DEADLINE_CLOSE,  /* the same of what comes before Close; then the peer's
			  * own Close */
	DEADLINE_LINGER, /* the peer's end, after ours */
	DEADLINE_LATE,   /* until an answer that is to be late is sent */
	DEADLINE_KINDS,
};

/* Lies inside what has the deadline; zeroed memory is none set. */
struct deadline {
	struct list link;
	uint64_t due_ms; /* on uv_now()'s clock */
};

struct deadlines;
typedef void (*deadline_cb)(struct deadlines *all, struct deadline *d,
			    enum deadline_kind kind);

struct deadlines {
	uv_thread_t owner;
	uv_timer_t timer;
	uint64_t timer_due_ms; /* when the timer is set for; 0: it is not */
	uint64_t durations_ms[DEADLINE_KINDS];
	struct list lists[DEADLINE_KINDS];
	deadline_cb on_due;
};

/* `on_due` is called for each deadline that has passed, the first due first,
 * some at a time; the deadline is not set any more then. Returns 0 or a
 * UV_E…. */
int deadlines_open(struct deadlines *all, uv_loop_t *loop,
		   const uint64_t durations_ms[static DEADLINE_KINDS],
		   deadline_cb on_due);

/* Closes the timer; none may be set any more. */
void deadlines_close(struct deadlines *all);

/* Sets `d`, in place of what it was set to before. */
void deadline_set(struct deadlines *all, struct deadline *d,
		  enum deadline_kind kind);

/* Nothing happens if none is set. */
void deadline_clear(struct deadline *d);

bool deadline_is_set(const struct deadline *d);

#endif
