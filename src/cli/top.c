/* top.c - `isimud top`: /metrics, twice, and what has changed in between. */
#include "cli/arguments.h"
#include "cli/ask.h"
#include "cli/place.h"

#include <math.h> /* its macros alone */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAME        "top"
#define TIMEOUT_MS  5000
#define INTERVAL_MS 1000 /* where --interval is not given */
#define WORKERS_MAX 64

/* A line of Prometheus's text format. */
struct sample {
	struct span name;
	struct span labels; /* a="x",b="y"; empty without any */
	double value;
};

/* One look. */
struct look {
	struct buf text;
	struct sample *samples;
	size_t count;
	double seconds; /* when, by the monotonic clock */
};

struct top {
	const struct arguments *arguments;
	struct place place;
	struct buf fields;
	struct ask *ask;
	struct look before;
	struct look now;
	char name[URL_TEXT_MAX];
};

static void look_fini(struct look *l)
{
	buf_fini(&l->text);
	free(l->samples);
	*l = (struct look){0};
}

/* --- reading --------------------------------------------------------------
 */

/* Reads a line: name{labels} value. Returns whether it is a sample. */
static bool read_sample(struct span line, struct sample *out)
{
	const char *space = memrchr(line.bytes, ' ', line.len);
	const char *brace = memchr(line.bytes, '{', line.len);

	if (line.len == 0 || line.bytes[0] == '#' || space == NULL)
		return false;
	*out = (struct sample){.labels = SPAN("")};
	out->value = strtod(space + 1, NULL);
	out->name = (struct span){line.bytes, (size_t)(space - line.bytes)};
	if (brace != NULL && brace < space) {
		out->name.len = (size_t)(brace - line.bytes);
		out->labels =
			(struct span){brace + 1, (size_t)(space - brace) - 2};
	}
	return true;
}

/* Takes the text of an answer, which ends in a NUL. Returns 0 or UV_ENOMEM. */
static int read_look(struct look *l, struct buf *text)
{
	size_t lines = 0;
	struct timespec now;

	look_fini(l);
	l->text = *text;
	*text = (struct buf){0};
	for (size_t i = 0; i < l->text.len; i++)
		lines += l->text.bytes[i] == '\n';
	l->samples = calloc(lines + 1, sizeof *l->samples);
	if (l->samples == NULL)
		return UV_ENOMEM;
	struct span rest = {l->text.bytes, l->text.len};
	while (rest.len > 0) {
		const char *end = memchr(rest.bytes, '\n', rest.len);
		if (end == NULL)
			break;
		struct span line = {rest.bytes, (size_t)(end - rest.bytes)};
		rest.bytes += line.len + 1;
		rest.len -= line.len + 1;
		if (read_sample(line, &l->samples[l->count]))
			l->count++;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	l->seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	return 0;
}

/* Asks for /metrics. Returns 0 or the exit status. */
static int look(struct top *t, struct look *out)
{
	const struct client_request request = {
		.method = "GET",
		.path = "/metrics",
		.fields = {t->fields.bytes, t->fields.len},
	};
	struct ask_answer answer = {0};
	int rv = ask_now(t->ask, &request, TIMEOUT_MS, &answer);
	int status = EXIT_FAILURE;

	if (rv == 0 && answer.status == 200)
		rv = read_look(out, &answer.content);
	if (rv != 0)
		cli_say(NAME, "no answer from %s: %s", t->name,
			rv == UV_EPROTO ? answer.why : uv_strerror(rv));
	else if (answer.status != 200)
		cli_say(NAME, "%s answers %u", t->name, answer.status);
	if (rv == 0 && answer.status != 200)
		status = answer.status < 500 ? EXIT_REFUSED : EXIT_FAILURE;
	else if (rv == 0)
		status = 0;
	ask_answer_fini(&answer);
	return status;
}

/* --- figures --------------------------------------------------------------
 */

/* Whether the labels of `s` have `label` ("" for any). */
static bool has_label(const struct sample *s, const char *label)
{
	return label[0] == '\0' || memmem(s->labels.bytes, s->labels.len, label,
					  strlen(label)) != NULL;
}

/* The sum of all samples of that name that have the label. */
static double sum(const struct look *l, const char *name, const char *label)
{
	double total = 0;

	for (size_t i = 0; i < l->count; i++)
		if (span_equal(l->samples[i].name, span_of(name)) &&
		    has_label(&l->samples[i], label))
			total += l->samples[i].value;
	return total;
}

static double most(const struct look *l, const char *name)
{
	double highest = 0;

	for (size_t i = 0; i < l->count; i++)
		if (span_equal(l->samples[i].name, span_of(name)) &&
		    l->samples[i].value > highest)
			highest = l->samples[i].value;
	return highest;
}

/* How much a counter rose a second between the two looks. */
static double rate(const struct top *t, const char *name, const char *label)
{
	double seconds = t->now.seconds - t->before.seconds;
	double rise = sum(&t->now, name, label) - sum(&t->before, name, label);

	/* A server that was started again counts from 0. */
	return rise < 0 || seconds <= 0 ? 0 : rise / seconds;
}

/* A quantile of a histogram, of what was counted between the two looks: the
 * upper bound of its bucket; NAN if nothing was. */
static double quantile(const struct top *t, const char *name, double q)
{
	double total = NAN;
	double found = NAN;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < t->now.count; i++) {
			const struct sample *s = &t->now.samples[i];
			char label[64];
			if (!span_equal(s->name, span_of(name)) ||
			    s->labels.len >= sizeof label)
				continue;
			snprintf(label, sizeof label, "%.*s",
				 (int)s->labels.len, s->labels.bytes);
			double rise = s->value - sum(&t->before, name, label);
			double border = strtod(label + strlen("le=\""), NULL);
			if (pass == 0 && isinf(border))
				total = rise;
			if (pass == 1 && total > 0 && isnan(found) &&
			    rise >= q * total)
				found = border;
		}
	return found;
}

/* --- showing --------------------------------------------------------------
 */

/* Numbers for people: 950, 12.3k, 4.5M; bytes by 1024. */
static const char *human(double value, bool is_bytes, char out[static 32])
{
	static const char units[] = " kMGT";
	double step = is_bytes ? 1024 : 1000;
	size_t u = 0;

	while (value >= step && u + 2 < sizeof units) {
		value /= step;
		u++;
	}
	if (u == 0)
		snprintf(out, 32,
			 value == (double)(int64_t)value ? "%.0f" : "%.1f",
			 value);
	else
		snprintf(out, 32, "%.1f%c%s", value, units[u],
			 is_bytes ? "iB" : "");
	return out;
}

static const char *millis(double seconds, char out[static 32])
{
	if (isnan(seconds))
		snprintf(out, 32, "-");
	else if (isinf(seconds))
		snprintf(out, 32, "> 10 s");
	else
		snprintf(out, 32, "<= %g ms", seconds * 1000);
	return out;
}

/* Ends each line; on a terminal it also clears what an earlier, longer line
 * left. */
static const char *line_end;

#define ROW(title, ...)                                                        \
	do {                                                                   \
		printf("%-14s", title);                                        \
		printf(__VA_ARGS__);                                           \
		fputs(line_end, stdout);                                       \
	} while (0)

static void print_head(const struct top *t)
{
	struct span version = SPAN("");
	double started = sum(&t->now, "process_start_time_seconds", "");
	char up[64] = "";

	for (size_t i = 0; i < t->now.count; i++) {
		const struct sample *s = &t->now.samples[i];
		const char *at = NULL;
		if (span_equal(s->name, SPAN("isimud_build_info")))
			at = memmem(s->labels.bytes, s->labels.len,
				    "version=\"", 9);
		if (at != NULL)
			version = (struct span){at + 9, strcspn(at + 9, "\"")};
	}
	double seconds = (double)time(NULL) - started;
	if (started > 0 && seconds > 0)
		snprintf(up, sizeof up, ", up %.0f s", seconds);
	printf("isimud %.*s at %s%s, %.0f workers%s%s", (int)version.len,
	       version.bytes, t->name, up, sum(&t->now, "isimud_workers", ""),
	       sum(&t->now, "isimud_draining", "") > 0 ? ", DRAINING" : "",
	       line_end);
	fputs(line_end, stdout);
}

static void print_traffic(const struct top *t)
{
	const struct look *n = &t->now;
	char a[32];
	char b[32];
	char c[32];
	char d[32];

	ROW("subscribers", "%-10s websocket %s, event stream %s, http %s",
	    human(sum(n, "isimud_connections", "kind=\"websocket\"") +
			  sum(n, "isimud_connections", "kind=\"event_stream\""),
		  false, a),
	    human(sum(n, "isimud_connections", "kind=\"websocket\""), false, b),
	    human(sum(n, "isimud_connections", "kind=\"event_stream\""), false,
		  c),
	    human(sum(n, "isimud_connections", "kind=\"http\""), false, d));
	ROW("subscriptions", "%-10s topics %s, behind %s",
	    human(sum(n, "isimud_subscriptions", ""), false, a),
	    human(sum(n, "isimud_topics", ""), false, b),
	    human(sum(n, "isimud_subscriptions_behind", ""), false, c));
	ROW("published/s", "%-10s refused/s %s",
	    human(rate(t, "isimud_publishes_total", "result=\"ok\""), false, a),
	    human(rate(t, "isimud_publishes_total", "") -
			  rate(t, "isimud_publishes_total", "result=\"ok\""),
		  false, b));
	ROW("delivered/s", "%-10s replayed/s %s, dropped/s %s",
	    human(rate(t, "isimud_deliveries_total", ""), false, a),
	    human(rate(t, "isimud_replayed_total", ""), false, b),
	    human(rate(t, "isimud_dropped_total", ""), false, c));
	ROW("latency", "p50 %s, p99 %s",
	    millis(quantile(t, "isimud_delivery_seconds_bucket", 0.5), a),
	    millis(quantile(t, "isimud_delivery_seconds_bucket", 0.99), b));
	ROW("sent/s", "%-10s received/s %s",
	    human(rate(t, "isimud_sent_bytes_total", ""), true, a),
	    human(rate(t, "isimud_received_bytes_total", ""), true, b));
}

static void print_memory(const struct top *t)
{
	const struct look *n = &t->now;
	double used = sum(n, "isimud_memory_used_bytes", "");
	double limit = sum(n, "isimud_memory_limit_bytes", "");
	char a[32];
	char b[32];
	char share[32] = "no limit";

	if (limit > 0)
		snprintf(share, sizeof share, "%.0f %% of %s",
			 used / limit * 100, human(limit, true, a));
	ROW("memory", "%-10s %s", human(used, true, b), share);
	ROW("buffered", "%-10s worst connection %s",
	    human(sum(n, "isimud_buffered_bytes", ""), true, a),
	    human(most(n, "isimud_buffered_worst_bytes"), true, b));
	ROW("history", "%-10s",
	    human(sum(n, "isimud_history_bytes", ""), true, a));
	ROW("refused/s", "%-10s wrong passwords/s %s",
	    human(rate(t, "isimud_connections_refused_total", ""), false, a),
	    human(rate(t, "isimud_passwords_wrong_total", ""), false, b));
	fputs(line_end, stdout);
}

static void print_workers(const struct top *t)
{
	const struct look *n = &t->now;
	unsigned workers = (unsigned)sum(n, "isimud_workers", "");
	char label[32];
	char a[32];
	char b[32];
	char c[32];

	printf("%6s %12s %14s %10s %9s%s", "WORKER", "CONNECTIONS",
	       "SUBSCRIPTIONS", "BUFFERED", "LAG", line_end);
	for (unsigned w = 0; w < workers && w < WORKERS_MAX; w++) {
		snprintf(label, sizeof label, "worker=\"%u\"", w);
		printf("%6u %12s %14s %10s %6.0f ms%s", w,
		       human(sum(n, "isimud_connections", label), false, a),
		       human(sum(n, "isimud_subscriptions", label), false, b),
		       human(sum(n, "isimud_buffered_bytes", label), true, c),
		       sum(n, "isimud_last_loop_lag_seconds", label) * 1000,
		       line_end);
	}
	fputs(line_end, stdout);
}

/* The samples of `name` that are not 0: since the last look, and in all. */
static void print_reasons(const struct top *t, const char *name,
			  const char *title)
{
	printf("%-22s %12s %12s%s", title, "A SECOND", "IN ALL", line_end);
	for (size_t i = 0; i < t->now.count; i++) {
		const struct sample *s = &t->now.samples[i];
		char label[64];
		char a[32];
		if (!span_equal(s->name, span_of(name)) || s->value <= 0 ||
		    s->labels.len >= sizeof label)
			continue;
		snprintf(label, sizeof label, "%.*s", (int)s->labels.len,
			 s->labels.bytes);
		const char *value = strchr(label, '"');
		if (value == NULL)
			continue;
		printf("%-22.*s %12s %12.0f%s", (int)strcspn(value + 1, "\""),
		       value + 1, human(rate(t, name, label), false, a),
		       s->value, line_end);
	}
}

static void print_figures(const struct top *t)
{
	print_head(t);
	print_traffic(t);
	print_memory(t);
	print_workers(t);
	print_reasons(t, "isimud_connections_closed_total", "ENDED");
	fputs(line_end, stdout);
	print_reasons(t, "isimud_http_responses_total", "ANSWERED");
}

/* --- all of it ------------------------------------------------------------
 */

static void top_pause(const struct arguments *a)
{
	uint64_t ms = a->interval_ms > 0 ? a->interval_ms : INTERVAL_MS;

	uv_sleep((unsigned)ms);
}

static int run_figures(struct top *t)
{
	bool is_terminal = isatty(STDOUT_FILENO) && !t->arguments->once;
	int status = look(t, &t->before);

	line_end = is_terminal ? "\033[K\n" : "\n"; /* ECMA-48: EL */
	if (is_terminal && status == 0)
		fputs("\033[2J", stdout); /* ED: all */
	while (status == 0) {
		top_pause(t->arguments);
		status = look(t, &t->now);
		if (status != 0)
			break;
		if (is_terminal)
			fputs("\033[H", stdout); /* CUP: the top left */
		print_figures(t);
		fputs(is_terminal ? "\033[J" : "", stdout); /* ED: below */
		if (fflush(stdout) != 0)
			return EXIT_FAILURE;
		if (t->arguments->once)
			break;
		look_fini(&t->before);
		t->before = t->now;
		t->now = (struct look){0};
	}
	return status;
}

int top_run(const struct arguments *a)
{
	struct top t = {.arguments = a};
	char error[ARGUMENTS_ERROR_MAX] = "";
	int status = EXIT_USAGE;
	int rv = place_find(&t.place, a, error);

	/* The admin listener asks for no password; who names a URL may mean
	 * either. */
	if (rv == 0 && t.place.has_password && !t.place.has_admin)
		rv = place_add_basic(&t.place, "isimud", &t.fields, error);
	const struct url *url =
		t.place.has_admin ? &t.place.admin : &t.place.url;
	url_name(url, t.name);
	t.ask = ask_new(url);
	if (rv != 0 || t.ask == NULL)
		cli_say(NAME, "%s",
			error[0] != '\0' ? error : uv_strerror(UV_ENOMEM));
	else
		status = run_figures(&t);
	ask_free(t.ask);
	look_fini(&t.before);
	look_fini(&t.now);
	if (t.fields.bytes != NULL)
		explicit_bzero(t.fields.bytes, t.fields.cap);
	buf_fini(&t.fields);
	place_fini(&t.place);
	return status;
}
