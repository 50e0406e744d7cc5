/* deadline.c - lists in order of expiry, swept by one timer. */
#include "conn/deadline.h"

#include "base/check.h"

#include <string.h>

/* Deadlines that are told at once: the loop turns before the next ones, however
 * many clients came in one and the same moment. */
#define SOME 256

static void on_deadline_timer(uv_timer_t *timer);

int deadlines_open(struct deadlines *all, uv_loop_t *loop,
		   const uint64_t durations_ms[static DEADLINE_KINDS],
		   deadline_cb on_due)
{
	memset(all, 0, sizeof *all);
	memcpy(all->durations_ms, durations_ms, sizeof all->durations_ms);
	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		list_init(&all->lists[kind]);
	all->owner = uv_thread_self();
	all->on_due = on_due;
	return uv_timer_init(loop, &all->timer);
}

void deadlines_close(struct deadlines *all)
{
	CHECK_ON_THREAD(all->owner);
	for (int kind = 0; kind < DEADLINE_KINDS; kind++)
		CHECK(list_is_empty(&all->lists[kind]));
	uv_close((uv_handle_t *)&all->timer, NULL);
}

/* The one that is due first, of all kinds; NULL if none is set. */
static struct deadline *find_first(struct deadlines *all,
				   enum deadline_kind *kind)
{
	struct deadline *first = NULL;

	for (int i = 0; i < DEADLINE_KINDS; i++) {
		if (list_is_empty(&all->lists[i]))
			continue;
		struct deadline *d =
			CONTAINER_OF(all->lists[i].next, struct deadline, link);
		if (first == NULL || d->due_ms < first->due_ms) {
			first = d;
			*kind = (enum deadline_kind)i;
		}
	}
	return first;
}

static void set_timer(struct deadlines *all, uint64_t due_ms)
{
	uint64_t now = uv_now(all->timer.loop);
	if (all->timer_due_ms != 0 && all->timer_due_ms <= due_ms)
		return;
	all->timer_due_ms = due_ms;
	CHECK(uv_timer_start(&all->timer, on_deadline_timer,
			     due_ms > now ? due_ms - now : 0, 0) == 0);
}

static void on_deadline_timer(uv_timer_t *timer)
{
	struct deadlines *all = CONTAINER_OF(timer, struct deadlines, timer);
	uint64_t now = uv_now(timer->loop);
	enum deadline_kind kind;
	struct deadline *d;

	all->timer_due_ms = 0;
	for (int told = 0; (d = find_first(all, &kind)) != NULL; told++) {
		if (told == SOME || d->due_ms > now) {
			/* Not 0: libuv would call in this very iteration. */
			set_timer(all, d->due_ms > now ? d->due_ms : now + 1);
			return;
		}
		list_remove(&d->link);
		all->on_due(all, d, kind);
	}
}

void deadline_set(struct deadlines *all, struct deadline *d,
		  enum deadline_kind kind)
{
	CHECK_ON_THREAD(all->owner);
	deadline_clear(d);
	d->due_ms = uv_now(all->timer.loop) + all->durations_ms[kind];
	list_append(&all->lists[kind], &d->link);
	set_timer(all, d->due_ms);
}

void deadline_clear(struct deadline *d)
{
	if (d->link.next != NULL)
		list_remove(&d->link);
}

bool deadline_is_set(const struct deadline *d)
{
	return d->link.next != NULL && !list_is_empty(&d->link);
}
