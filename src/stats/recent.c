/* recent.c - see recent.h. */
#include "stats/recent.h"

#include "base/check.h"
#include "base/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define SLOTS       (RECENT_SAMPLES + 1) /* one is being written */
#define LAG_UNIT_US 100                  /* so that 16 bits hold 6.5 s */
#define NUMBER_MAX  32

enum figure {
#define RECENT_ENUM(name) FIGURE_##name,
	RECENT_FIGURES(RECENT_ENUM)
#undef RECENT_ENUM
	FIGURE_COUNT,
};

static const char *const names[FIGURE_COUNT] = {
#define RECENT_NAME(name) #name,
	RECENT_FIGURES(RECENT_NAME)
#undef RECENT_NAME
};

struct sample {
	_Atomic uint64_t at_ms;
	_Atomic float figures[FIGURE_COUNT]; /* NAN: not known */
};

/* What counts up, of all workers. */
struct totals {
	uint64_t at_ms;
	uint64_t published, delivered, sent, received;
	uint64_t delivery[HISTOGRAM_BOUNDS + 1];
};

/* `before`: Owner: the thread that takes. The rest but `taken` and what the
 * samples hold: Immutable. */
struct recent {
	unsigned count;
	struct totals before;   /* at the last sample */
	_Atomic uint64_t taken; /* all that ever were */
	_Atomic uint16_t *lags; /* `count` for each slot, in LAG_UNIT_US */
	struct sample samples[SLOTS];
	const struct stats *workers[]; /* `count` of them */
};

static uint64_t load(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void sum_workers(const struct recent *r, uint64_t now_ms,
			struct totals *out)
{
	*out = (struct totals){.at_ms = now_ms};
	for (unsigned i = 0; i < r->count; i++) {
		const struct stats *s = r->workers[i];

		out->published += stats_get(s, STATS_published);
		out->delivered += stats_get(s, STATS_delivered);
		out->sent += stats_get(s, STATS_bytes_out);
		out->received += stats_get(s, STATS_bytes_in);
		for (unsigned j = 0; j <= HISTOGRAM_BOUNDS; j++)
			out->delivery[j] += load(&s->delivery.counts[j]);
	}
}

/* Of what was delivered between two totals, in seconds, by its buckets. */
static double percentile(const struct totals *from, const struct totals *to,
			 double part)
{
	uint64_t all = 0;
	double below = 0;

	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
		all += to->delivery[i] - from->delivery[i];
	if (all == 0)
		return NAN;
	double wanted = part * (double)all;
	double low_us = 0;
	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		double here = (double)(to->delivery[i] - from->delivery[i]);
		double high_us = (double)histogram_bounds_us[i];

		if (here > 0 && below + here >= wanted)
			return (low_us +
				(high_us - low_us) * (wanted - below) / here) /
			       1e6;
		below += here;
		low_us = high_us;
	}
	return low_us / 1e6; /* or more */
}

static void set(struct sample *s, enum figure figure, double value)
{
	atomic_store_explicit(&s->figures[figure], (float)value,
			      memory_order_relaxed);
}

static void take_counted(struct sample *s, const struct totals *from,
			 const struct totals *to)
{
	double seconds = (double)(to->at_ms - from->at_ms) / 1000;

	set(s, FIGURE_publications,
	    (double)(to->published - from->published) / seconds);
	set(s, FIGURE_deliveries,
	    (double)(to->delivered - from->delivered) / seconds);
	set(s, FIGURE_sent, (double)(to->sent - from->sent) / seconds);
	set(s, FIGURE_received,
	    (double)(to->received - from->received) / seconds);
	set(s, FIGURE_latency_p50, percentile(from, to, 0.5));
	set(s, FIGURE_latency_p99, percentile(from, to, 0.99));
}

static void take_gauges(const struct recent *r, struct sample *s,
			_Atomic uint16_t *lags)
{
	uint64_t subscribers = 0;
	uint64_t buffered = 0;
	uint64_t worst = 0;

	for (unsigned i = 0; i < r->count; i++) {
		const struct stats *of = r->workers[i];
		uint64_t one =
			stats_gauge(of, STATS_GAUGE_buffered_worst_bytes);
		uint64_t lag =
			stats_gauge(of, STATS_GAUGE_loop_lag_us) / LAG_UNIT_US;

		subscribers += stats_gauge(of, STATS_GAUGE_websocket) +
			       stats_gauge(of, STATS_GAUGE_event_stream);
		buffered += stats_gauge(of, STATS_GAUGE_buffered_bytes);
		worst = one > worst ? one : worst;
		atomic_store_explicit(
			&lags[i],
			(uint16_t)(lag < UINT16_MAX ? lag : UINT16_MAX),
			memory_order_relaxed);
	}
	set(s, FIGURE_subscribers, (double)subscribers);
	set(s, FIGURE_buffered, (double)buffered);
	set(s, FIGURE_buffered_worst, (double)worst);
	set(s, FIGURE_memory, (double)memory_used());
}

int recent_new(struct recent **out, const struct stats *const *workers,
	       unsigned count, uint64_t now_ms)
{
	CHECK(count > 0);
	/* It is pointers that lie behind it. */
	/* NOLINTNEXTLINE(bugprone-sizeof-expression) */
	struct recent *r = calloc(1, sizeof *r + count * sizeof r->workers[0]);
	*out = r;
	if (r == NULL)
		return UV_ENOMEM;
	r->count = count;
	for (unsigned i = 0; i < count; i++)
		r->workers[i] = workers[i];
	r->lags = calloc((size_t)SLOTS * count, sizeof r->lags[0]);
	if (r->lags == NULL) {
		free(r);
		*out = NULL;
		return UV_ENOMEM;
	}
	sum_workers(r, now_ms, &r->before);
	return 0;
}

void recent_free(struct recent *r)
{
	if (r == NULL)
		return;
	free(r->lags);
	free(r);
}

void recent_take(struct recent *r, uint64_t now_ms)
{
	struct totals now;
	uint64_t taken = load(&r->taken);
	unsigned slot = (unsigned)(taken % SLOTS);

	if (now_ms - r->before.at_ms < RECENT_STEP_MS)
		return;
	sum_workers(r, now_ms, &now);
	atomic_store_explicit(&r->samples[slot].at_ms, now_ms,
			      memory_order_relaxed);
	take_counted(&r->samples[slot], &r->before, &now);
	take_gauges(r, &r->samples[slot], &r->lags[(size_t)slot * r->count]);
	r->before = now;
	/* Who sees the number sees the sample. */
	atomic_store_explicit(&r->taken, taken + 1, memory_order_release);
}

/* --- as JSON -------------------------------------------------------------- */

/* The samples that there are: from `first` on, `count` of them. */
struct range {
	uint64_t first, count;
};

/* Behind a comma unless it `is_first`. */
static int write_number(struct buf *out, bool is_first, double value)
{
	char text[NUMBER_MAX];
	int len = isnan(value) ? snprintf(text, sizeof text, ",null")
			       : snprintf(text, sizeof text, ",%.6g", value);

	return buf_append(out, text + is_first, (size_t)(len - is_first));
}

static int write_figure(const struct recent *r, struct range range,
			enum figure figure, struct buf *out)
{
	int rv = 0;

	for (uint64_t i = 0; rv == 0 && i < range.count; i++) {
		const struct sample *s = &r->samples[(range.first + i) % SLOTS];

		rv = write_number(
			out, i == 0,
			(double)atomic_load_explicit(&s->figures[figure],
						     memory_order_relaxed));
	}
	return rv;
}

static int write_lags(const struct recent *r, struct range range,
		      unsigned worker, struct buf *out)
{
	int rv = 0;

	for (uint64_t i = 0; rv == 0 && i < range.count; i++) {
		size_t slot = (size_t)((range.first + i) % SLOTS);

		rv = write_number(out, i == 0,
				  (double)atomic_load_explicit(
					  &r->lags[slot * r->count + worker],
					  memory_order_relaxed) *
					  LAG_UNIT_US / 1e6);
	}
	return rv;
}

static int write_ages(const struct recent *r, struct range range,
		      uint64_t now_ms, struct buf *out)
{
	int rv = 0;

	for (uint64_t i = 0; rv == 0 && i < range.count; i++) {
		uint64_t at_ms =
			load(&r->samples[(range.first + i) % SLOTS].at_ms);

		/* Another thread may have taken it after `now_ms`. */
		rv = write_number(
			out, i == 0,
			now_ms > at_ms ? (double)(now_ms - at_ms) / 1000 : 0);
	}
	return rv;
}

int recent_write(const struct recent *r, uint64_t now_ms, struct buf *out)
{
	uint64_t taken = atomic_load_explicit(&r->taken, memory_order_acquire);
	uint64_t count = taken < RECENT_SAMPLES ? taken : RECENT_SAMPLES;
	struct range range = {taken - count, count};
	char head[NUMBER_MAX];

	int rv = buf_append_text(out, "{\"age\":[");
	if (rv == 0)
		rv = write_ages(r, range, now_ms, out);
	for (unsigned i = 0; rv == 0 && i < FIGURE_COUNT; i++) {
		snprintf(head, sizeof head, "],\"%s\":[", names[i]);
		rv = buf_append_text(out, head);
		if (rv == 0)
			rv = write_figure(r, range, i, out);
	}
	if (rv == 0)
		rv = buf_append_text(out, "],\"lag\":[");
	for (unsigned i = 0; rv == 0 && i < r->count; i++) {
		rv = buf_append_text(out, i == 0 ? "[" : ",[");
		if (rv == 0)
			rv = write_lags(r, range, i, out);
		if (rv == 0)
			rv = buf_append_text(out, "]");
	}
	return rv != 0 ? rv : buf_append_text(out, "]}");
}
