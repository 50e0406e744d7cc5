/* report.c - words and numbers. */
#include "cli/bench/report.h"

#include <math.h> /* its macros alone */
#include <string.h>

#define BAR_WIDTH 30
#define FULL_LOAD 0.93 /* of a core: the generator is at its limit */

static const char *const mode_names[] = {
	[PLAN_FANOUT] = "fanout",   [PLAN_PUBLISH] = "publish",
	[PLAN_LATENCY] = "latency", [PLAN_IDLE] = "idle",
	[PLAN_STORM] = "storm",
};

const char *report_mode(enum plan_mode mode)
{
	return mode_names[mode];
}

bool report_find_mode(const char *name, enum plan_mode *out)
{
	for (unsigned i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++)
		if (strcmp(name, mode_names[i]) == 0) {
			*out = (enum plan_mode)i;
			return true;
		}
	return false;
}

/* --- how far it is --------------------------------------------------------
 */

void report_progress(void *user, const char *phase, double done,
		     uint64_t delivered, uint64_t answered)
{
	static const char bar[] = "##############################";
	static const char gap[] = "..............................";
	FILE *terminal = user;
	int filled = done >= 1 ? BAR_WIDTH : (int)(done * BAR_WIDTH);

	/* ECMA-48: EL clears what is left of the line before. */
	fprintf(terminal,
		"\r%-11s [%.*s%.*s] %llu published, %llu delivered\033[K",
		phase, filled, bar, BAR_WIDTH - filled, gap,
		(unsigned long long)answered, (unsigned long long)delivered);
	fflush(terminal);
}

void report_end_progress(FILE *terminal)
{
	fputs("\r\033[K", terminal);
	fflush(terminal);
}

/* --- figures --------------------------------------------------------------
 */

/* What is worked out of a result, NAN where there is nothing. */
struct figures {
	double deliveries_per_s;
	double publications_per_s;
	double bytes_per_s;
	double server_cores;
	double own_cores;
	double foreign_cores;
	double cpu_per_million; /* seconds; of deliveries, or publications */
	double connects_per_s;
	double cpu_us_per_connect;
	double rss_per_connection;
	double rss_per_connection_after;
};

static double ratio(double a, double b)
{
	return b > 0 ? a / b : (double)NAN;
}

static struct figures work_out(const struct plan *p, const struct run_result *r,
			       bool has_server)
{
	double known = has_server ? 1 : (double)NAN;
	double things = p->mode == PLAN_PUBLISH ? (double)r->answered
						: (double)r->delivered;
	struct figures f = {
		.deliveries_per_s = ratio((double)r->delivered, r->seconds),
		.publications_per_s = ratio((double)r->answered, r->seconds),
		.server_cores = known * ratio(r->server_cpu, r->seconds),
		.own_cores = ratio(r->own_cpu, r->seconds),
		.cpu_per_million = known * ratio(r->server_cpu * 1e6, things),
		.connects_per_s = ratio(p->subscribers, r->connect_seconds),
		.cpu_us_per_connect =
			known * ratio(r->connect_cpu * 1e6, p->subscribers),
		.rss_per_connection = known * ratio(r->rss_open - r->rss_before,
						    p->subscribers),
		.rss_per_connection_after =
			known *
			ratio(r->rss_after - r->rss_before, p->subscribers),
	};

	f.bytes_per_s = f.deliveries_per_s * (double)p->size;
	f.foreign_cores = ratio(r->machine_cpu, r->seconds) - f.own_cores -
			  (has_server ? f.server_cores : 0);
	return f;
}

/* A whole number with commas between thousands. */
static const char *with_commas(double value, char out[static 32])
{
	char digits[32];
	size_t n = 0;

	int len = snprintf(digits, sizeof digits, "%.0f", value);
	for (int i = 0; i < len && n + 2 < 32; i++) {
		if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
			out[n++] = ',';
		out[n++] = digits[i];
	}
	out[n] = '\0';
	return out;
}

/* --- for people -----------------------------------------------------------
 */

#define ROW "  %-22s "

static void print_number(FILE *out, const char *title, double value)
{
	char text[32];

	fprintf(out, ROW "%s\n", title, with_commas(value, text));
}

static void print_plan(FILE *out, const struct plan *p,
		       const struct run_result *r)
{
	fprintf(out, "isimud bench %s, %s:", report_mode(p->mode),
		p->dialect->name);
	if (p->subscribers > 0)
		fprintf(out, " %u subscriber%s,", p->subscribers,
			p->subscribers == 1 ? "" : "s");
	fprintf(out, " %u topic%s, %zu bytes", p->topics,
		p->topics == 1 ? "" : "s", p->size);
	if (p->mode == PLAN_FANOUT)
		fprintf(out, ", window %u", p->window);
	if (p->mode == PLAN_LATENCY)
		fprintf(out, ", %.0f messages/s", p->rate);
	if (p->mode == PLAN_PUBLISH)
		fprintf(out, ", %u publisher%s, pipeline %u", p->publishers,
			p->publishers == 1 ? "" : "s", p->pipeline);
	if (r->seconds > 0)
		fprintf(out, ", %.2f s", r->seconds);
	fputc('\n', out);
}

static void print_rates(FILE *out, const struct plan *p,
			const struct figures *f)
{
	if (p->mode == PLAN_FANOUT || p->mode == PLAN_LATENCY) {
		print_number(out, "deliveries/s", f->deliveries_per_s);
		fprintf(out, ROW "%.1f\n", "payload MB/s",
			f->bytes_per_s / 1e6);
	}
	if (p->mode != PLAN_IDLE && p->mode != PLAN_STORM)
		print_number(out, "publications/s", f->publications_per_s);
	if (p->mode == PLAN_IDLE)
		print_number(out, "connections/s", f->connects_per_s);
}

static void print_delays(FILE *out, const struct run_result *r)
{
	const struct durations *d = &r->durations;

	fprintf(out, ROW "p50 %.0f, p90 %.0f, p99 %.0f, p99.9 %.0f, max %.0f\n",
		"latency, us", (double)durations_at(d, 0.5) / 1e3,
		(double)durations_at(d, 0.9) / 1e3,
		(double)durations_at(d, 0.99) / 1e3,
		(double)durations_at(d, 0.999) / 1e3,
		(double)d->longest_ns / 1e3);
	fprintf(out, ROW "%.0f us at most, which is part of it\n", "sent late",
		(double)r->sent_late_ns / 1e3);
}

static void print_server(FILE *out, const struct plan *p,
			 const struct run_result *r, const struct figures *f)
{
	if (p->mode == PLAN_IDLE) {
		print_number(out, "server, bytes each", f->rss_per_connection);
		print_number(out, "... after a message",
			     f->rss_per_connection_after);
		fprintf(out, ROW "%.1f\n", "server, CPU us each",
			f->cpu_us_per_connect);
	} else if (p->mode != PLAN_STORM) {
		fprintf(out, ROW "%.2f cores, %.3f CPU seconds a million %s\n",
			"server", f->server_cores, f->cpu_per_million,
			p->mode == PLAN_PUBLISH ? "publications"
						: "deliveries");
	} else {
		fprintf(out, ROW "%.0f ms\n", "server, CPU",
			r->server_cpu * 1e3);
	}
	fprintf(out, ROW "%.1f MB\n", "server, memory", r->rss_after / 1e6);
}

static void print_generator(FILE *out, const struct plan *p,
			    const struct figures *f)
{
	bool is_full = f->own_cores > FULL_LOAD * p->threads;

	fprintf(out, ROW "%.2f of %u core%s%s; others %.2f cores\n",
		"this generator", f->own_cores, p->threads,
		p->threads == 1 ? "" : "s",
		is_full ? ", its limit: the server may be faster" : "",
		f->foreign_cores > 0 ? f->foreign_cores : 0);
}

static void print_check(FILE *out, const struct run_result *r)
{
	const struct crowd_counts *n = &r->counts;

	if (r->is_good && n->late == 0 && n->probes == 0) {
		fprintf(out, ROW "all good: each request was answered 200\n",
			"checked");
		return;
	}
	if (r->is_good && n->late == 0) {
		fprintf(out,
			ROW "all good: nothing lost, doubled, damaged, "
			    "misrouted or out of order\n",
			"checked");
		return;
	}
	fprintf(out,
		ROW "%s: lost %llu (of %llu subscribers), doubled %llu, "
		    "out of order %llu, damaged %llu, misrouted %llu, "
		    "connections ended %llu, refused %llu, unanswered %llu\n",
		"checked", r->is_good ? "good" : "FAILED",
		(unsigned long long)r->missing,
		(unsigned long long)r->missing_subscribers,
		(unsigned long long)n->twice, (unsigned long long)n->late,
		(unsigned long long)n->damaged,
		(unsigned long long)n->misrouted, (unsigned long long)n->ended,
		(unsigned long long)r->refused,
		(unsigned long long)r->unanswered);
}

void report_text(FILE *out, const struct plan *p, const struct run_result *r,
		 bool has_server)
{
	const struct figures f = work_out(p, r, has_server);

	print_plan(out, p, r);
	print_rates(out, p, &f);
	if (p->mode == PLAN_LATENCY)
		print_delays(out, r);
	if (p->mode == PLAN_STORM)
		fprintf(out,
			ROW "connected after %.0f ms, subscribed after %.0f "
			    "ms, %llu retries\n",
			"all again", r->storm_open * 1e3, r->storm_ready * 1e3,
			(unsigned long long)r->counts.retries);
	if (has_server)
		print_server(out, p, r, &f);
	if (p->mode != PLAN_IDLE)
		print_generator(out, p, &f);
	print_check(out, r);
}

/* --- for programs ---------------------------------------------------------
 */

static void print_item(FILE *out, const char *name, double value)
{
	if (isnan(value) || isinf(value))
		fprintf(out, ",\"%s\":null", name);
	else
		fprintf(out, ",\"%s\":%.6g", name, value);
}

static void print_delay_items(FILE *out, const struct plan *p,
			      const struct run_result *r)
{
	const struct durations *d = &r->durations;

	print_item(out, "rate", p->rate);
	print_item(out, "p50_us", (double)durations_at(d, 0.5) / 1e3);
	print_item(out, "p90_us", (double)durations_at(d, 0.9) / 1e3);
	print_item(out, "p99_us", (double)durations_at(d, 0.99) / 1e3);
	print_item(out, "p999_us", (double)durations_at(d, 0.999) / 1e3);
	print_item(out, "max_us", (double)d->longest_ns / 1e3);
	print_item(out, "sent_late_us", (double)r->sent_late_ns / 1e3);
}

static void print_check_items(FILE *out, const struct run_result *r)
{
	const struct crowd_counts *n = &r->counts;

	print_item(out, "lost", (double)r->missing);
	print_item(out, "doubled", (double)n->twice);
	print_item(out, "out_of_order", (double)n->late);
	print_item(out, "damaged", (double)n->damaged);
	print_item(out, "misrouted", (double)n->misrouted);
	print_item(out, "ended", (double)n->ended);
	print_item(out, "refused", (double)r->refused);
	print_item(out, "unanswered", (double)r->unanswered);
}

void report_json(FILE *out, const struct plan *p, const struct run_result *r,
		 bool has_server)
{
	const struct figures f = work_out(p, r, has_server);
	double known = has_server ? 1 : (double)NAN;

	fprintf(out, "{\"mode\":\"%s\",\"protocol\":\"%s\"",
		report_mode(p->mode), p->dialect->name);
	print_item(out, "subscribers", p->subscribers);
	print_item(out, "topics", p->topics);
	print_item(out, "publishers", p->publishers);
	print_item(out, "pipeline", p->pipeline);
	print_item(out, "window", p->window);
	print_item(out, "threads", p->threads);
	print_item(out, "size", (double)p->size);
	print_item(out, "seconds", r->seconds);
	print_item(out, "deliveries", (double)r->delivered);
	print_item(out, "deliveries_per_s", f.deliveries_per_s);
	print_item(out, "publications_per_s", f.publications_per_s);
	print_item(out, "cpu_s_per_million", f.cpu_per_million);
	if (p->mode == PLAN_LATENCY)
		print_delay_items(out, p, r);
	if (p->mode == PLAN_STORM) {
		print_item(out, "open_s", r->storm_open);
		print_item(out, "ready_s", r->storm_ready);
		print_item(out, "retries", (double)r->counts.retries);
	}
	print_item(out, "connects_per_s", f.connects_per_s);
	print_item(out, "cpu_us_per_connect", f.cpu_us_per_connect);
	print_item(out, "rss_per_connection", f.rss_per_connection);
	print_item(out, "rss_per_connection_after", f.rss_per_connection_after);
	print_item(out, "rss", known * r->rss_after);
	print_item(out, "server_cpu_s", known * r->server_cpu);
	print_item(out, "server_cores", f.server_cores);
	print_item(out, "generator_cores", f.own_cores);
	print_item(out, "foreign_cores", f.foreign_cores);
	print_check_items(out, r);
	fprintf(out, ",\"ok\":%s}\n", r->is_good ? "true" : "false");
}
