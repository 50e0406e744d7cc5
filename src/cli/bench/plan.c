/* plan.c - small things that all of a run share. */
#include "cli/bench/plan.h"

#include <stdarg.h>
#include <stdio.h>

#define SHOWN_BYTES 200

unsigned plan_subscribers_of(const struct plan *p, unsigned topic)
{
	return p->subscribers / p->topics +
	       (topic < p->subscribers % p->topics);
}

void trouble_tell(struct trouble *t, int status, const char *format, ...)
{
	va_list list;

	uv_mutex_lock(&t->lock);
	if (!t->is_there) {
		va_start(list, format);
		vsnprintf(t->text, sizeof t->text, format, list);
		va_end(list);
		t->status = status;
		t->is_there = true;
	}
	uv_mutex_unlock(&t->lock);
}

int plan_shown_len(struct span text)
{
	return (int)(text.len < SHOWN_BYTES ? text.len : SHOWN_BYTES);
}

uint64_t plan_now_ns(void)
{
	return uv_hrtime();
}
