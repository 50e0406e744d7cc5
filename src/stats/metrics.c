/* metrics.c - a page of all that is counted, written from the tables of stats.h
 * and metrics.h. */
#include "stats/metrics.h"

#include "base/check.h"
#include "base/version.h"
#include "stats/process.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 256

/* The writing of one answer; `error` once memory was missing. */
struct page {
	struct buf *out;
	const struct metrics_source *source;
	int error;
};

__attribute__((format(printf, 2, 3))) static void line(struct page *p,
						       const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list arguments;

	va_start(arguments, format);
	int len = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	CHECK(len > 0 && len < LINE_MAX_BYTES);
	if (p->error == 0)
		p->error = buf_append(p->out, text, (size_t)len);
}

static void head(struct page *p, const char *name, const char *type,
		 const char *help)
{
	line(p, "# HELP isimud_%s %s\n", name, help);
	line(p, "# TYPE isimud_%s %s\n", name, type);
}

/* The sum over all workers and the acceptor. */
static uint64_t sum_counter(const struct page *p, enum stats_counter counter)
{
	uint64_t n = stats_get(p->source->acceptor, counter);
	for (unsigned w = 0; w < p->source->workers_count; w++)
		n += stats_get(p->source->workers[w], counter);
	return n;
}

/* Begins a metric, unless the row before had the same: `*last` is its name. */
static void begin_metric(struct page *p, const char **last, const char *name,
			 const char *type, const char *help)
{
	if (*last == NULL || strcmp(*last, name) != 0)
		head(p, name, type, help);
	*last = name;
}

static void write_counters(struct page *p)
{
	const char *last = NULL;

	for (unsigned c = 0; c < STATS_COUNT; c++) {
		const struct stats_row *row = &stats_counters[c];
		bool has_labels = row->labels[0] != '\0';
		begin_metric(p, &last, row->metric, "counter", row->help);
		line(p, "isimud_%s%s%s%s %" PRIu64 "\n", row->metric,
		     has_labels ? "{" : "", row->labels, has_labels ? "}" : "",
		     sum_counter(p, (enum stats_counter)c));
	}
}

/* One value for each worker. */
static void write_gauges(struct page *p)
{
	const char *last = NULL;

	for (unsigned g = 0; g < STATS_GAUGE_COUNT; g++) {
		const struct stats_row *row = &stats_gauges[g];
		if (row->metric == NULL)
			continue;
		begin_metric(p, &last, row->metric, "gauge", row->help);
		for (unsigned w = 0; w < p->source->workers_count; w++)
			line(p, "isimud_%s{%s%sworker=\"%u\"} %.9g\n",
			     row->metric, row->labels,
			     row->labels[0] == '\0' ? "" : ",", w,
			     (double)stats_gauge(p->source->workers[w],
						 (enum stats_gauge)g) *
				     stats_gauge_factors[g]);
	}
}

/* Histograms, added up. */
struct histogram_sum {
	uint64_t counts[HISTOGRAM_BOUNDS + 1];
	uint64_t sum_us;
};

static void add_histogram(struct histogram_sum *to, const struct histogram *h)
{
	for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
		to->counts[i] += atomic_load_explicit(&h->counts[i],
						      memory_order_relaxed);
	to->sum_us += atomic_load_explicit(&h->sum_us, memory_order_relaxed);
}

static void write_histogram(struct page *p, const char *name, const char *help,
			    const struct histogram_sum *h)
{
	uint64_t below = 0;

	head(p, name, "histogram", help);
	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		below += h->counts[i];
		line(p, "isimud_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
		     (double)histogram_bounds_us[i] / 1e6, below);
	}
	below += h->counts[HISTOGRAM_BOUNDS];
	line(p, "isimud_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, below);
	line(p, "isimud_%s_sum %.6f\n", name, (double)h->sum_us / 1e6);
	line(p, "isimud_%s_count %" PRIu64 "\n", name, below);
}

/* The histograms at `offset` of each worker's stats. */
static void histogram(struct page *p, const char *name, const char *help,
		      size_t offset)
{
	struct histogram_sum all = {0};
	const struct metrics_source *s = p->source;

	for (unsigned w = 0; w < s->workers_count; w++)
		add_histogram(
			&all,
			(const struct histogram *)((const char *)s->workers[w] +
						   offset));
	write_histogram(p, name, help, &all);
}

/* --- what there is ------------------------------------------------------- */

static void write_histograms(struct page *p)
{
#define WRITE(name, metric, help)                                              \
	histogram(p, metric, help, offsetof(struct stats, name));
	STATS_HISTOGRAMS(WRITE)
#undef WRITE
}

static void write_values(struct page *p)
{
	const struct metrics_source *s = p->source;

#define WRITE(member, metric, type, help)                                      \
	head(p, metric, type, help);                                           \
	line(p, "isimud_%s %" PRIu64 "\n", metric, s->member);
	METRICS_VALUES(WRITE)
#undef WRITE
	head(p, "build_info", "gauge", "The version, and of which commit.");
	line(p, "isimud_build_info{version=\"%s\",revision=\"%s\"} 1\n",
	     VERSION, version_revision());
}

/* What every program has, by the names that Prometheus's client libraries have
 * given it: there is no "isimud_" before them. */
static void write_process(struct page *p)
{
	struct process now;

	process_read(&now);
#define WRITE(member, metric, type, help)                                      \
	line(p, "# HELP process_%s %s\n", metric, help);                       \
	line(p, "# TYPE process_%s %s\n", metric, type);                       \
	line(p, "process_%s %.14g\n", metric, (double)now.member);
	PROCESS_VALUES(WRITE)
#undef WRITE
}

static bool is_in_seconds(const char *metric)
{
	return strstr(metric, "_seconds") != NULL;
}

static void write_bus_value(struct page *p, const char *metric,
			    const char *labels, uint64_t n)
{
	bool has_labels = labels[0] != '\0';
	const char *open = has_labels ? "{" : "";
	const char *close = has_labels ? "}" : "";

	if (is_in_seconds(metric))
		line(p, "isimud_%s%s%s%s %.3f\n", metric, open, labels, close,
		     (double)n / 1e3);
	else
		line(p, "isimud_%s%s%s%s %" PRIu64 "\n", metric, open, labels,
		     close, n);
}

static void write_bus(struct page *p, const struct metrics_bus *b)
{
	struct histogram_sum acks = {0};
	const char *last = NULL;

#define WRITE(member, metric, labels, type, help)                              \
	begin_metric(p, &last, metric, type, help);                            \
	write_bus_value(p, metric, labels, b->member);
	METRICS_BUS(WRITE)
#undef WRITE
	add_histogram(&acks, b->acks);
	write_histogram(p, "bus_ack_seconds",
			"From a record sent to its acknowledgement.", &acks);
	head(p, "bus_joins_total", "counter",
	     "Times the log was joined, by reason.");
	for (unsigned i = 1; i < b->join_kinds; i++)
		line(p, "isimud_bus_joins_total{reason=\"%s\"} %" PRIu64 "\n",
		     b->join_names[i],
		     atomic_load_explicit(&b->joins[i], memory_order_relaxed));
}

int metrics_write(struct buf *out, const struct metrics_source *source)
{
	struct page p = {.out = out, .source = source};

	write_counters(&p);
	write_gauges(&p);
	write_histograms(&p);
	write_values(&p);
	write_process(&p);
	if (source->bus != NULL)
		write_bus(&p, source->bus);
	return p.error;
}
