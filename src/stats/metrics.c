/* metrics.c - one function a kind of metric, one list of what there is. */
#include "stats/metrics.h"

#include "base/check.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/version.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

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
static uint64_t sum(const struct page *p, enum stats_counter counter)
{
	uint64_t n = stats_get(p->source->acceptor, counter);
	for (unsigned w = 0; w < p->source->workers_count; w++)
		n += stats_get(p->source->workers[w], counter);
	return n;
}

static void counter(struct page *p, const char *name, const char *help,
		    enum stats_counter which)
{
	head(p, name, "counter", help);
	line(p, "isimud_%s %" PRIu64 "\n", name, sum(p, which));
}

static void value(struct page *p, const char *name, const char *help,
		  uint64_t n)
{
	head(p, name, "gauge", help);
	line(p, "isimud_%s %" PRIu64 "\n", name, n);
}

/* One value for each worker. */
static void gauge(struct page *p, const char *name, const char *help,
		  enum stats_gauge which, double scale)
{
	head(p, name, "gauge", help);
	for (unsigned w = 0; w < p->source->workers_count; w++)
		line(p, "isimud_%s{worker=\"%u\"} %.9g\n", name, w,
		     (double)stats_gauge(p->source->workers[w], which) * scale);
}

/* A row for each counter from `first` to `last`, labelled with what follows the
 * first '_' of its name. */
static void family(struct page *p, const char *name, const char *help,
		   const char *label, int first, int last)
{
	head(p, name, "counter", help);
	for (int c = first; c <= last; c++)
		line(p, "isimud_%s{%s=\"%s\"} %" PRIu64 "\n", name, label,
		     strchr(stats_name((enum stats_counter)c), '_') + 1,
		     sum(p, (enum stats_counter)c));
}

static void labelled(struct page *p, const char *name, const char *label,
		     const char *is, enum stats_counter which)
{
	line(p, "isimud_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, is,
	     sum(p, which));
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

static void write_connections(struct page *p)
{
	static const struct {
		const char *kind;
		enum stats_gauge gauge;
	} kinds[] = {{"http", STATS_GAUGE_http},
		     {"websocket", STATS_GAUGE_websocket},
		     {"event_stream", STATS_GAUGE_event_stream},
		     {"closing", STATS_GAUGE_closing}};

	head(p, "connections", "gauge", "Connections, by kind and worker.");
	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
		for (unsigned w = 0; w < p->source->workers_count; w++)
			line(p,
			     "isimud_connections{kind=\"%s\",worker=\"%u\"} "
			     "%" PRIu64 "\n",
			     kinds[k].kind, w,
			     stats_gauge(p->source->workers[w],
					 kinds[k].gauge));
	counter(p, "connections_accepted_total", "Connections taken on.",
		STATS_accepted);
	counter(p, "connections_refused_total",
		"Connections and subscriptions told to come back later.",
		STATS_refused);
	counter(p, "accept_pauses_total",
		"Times that accepting waited for descriptors.",
		STATS_accept_paused);
	family(p, "connections_closed_total", "Connections ended, by reason.",
	       "reason", STATS_closed_done, STATS_http_101 - 1);
}

static void write_http(struct page *p)
{
	counter(p, "http_requests_total", "HTTP requests read.",
		STATS_requests);
	family(p, "http_responses_total", "HTTP answers, by status code.",
	       "status", STATS_http_101, STATS_COUNT - 1);
	counter(p, "received_bytes_total", "Bytes read from clients.",
		STATS_bytes_in);
	counter(p, "sent_bytes_total", "Bytes written to clients.",
		STATS_bytes_out);
	counter(p, "writes_total", "System calls that wrote.", STATS_writes);
	counter(p, "passwords_wrong_total", "Wrong passwords presented.",
		STATS_password_wrong);
	counter(p, "passwords_late_total",
		"Those answered late, since their address had too many.",
		STATS_password_late);
	counter(p, "host_refused_total",
		"Requests for a host that is not allowed.", STATS_host_refused);
	counter(p, "origin_refused_total",
		"Requests from a web origin that is not allowed.",
		STATS_origin_refused);
}

static void write_auth(struct page *p)
{
	head(p, "auth_checks_total", "counter",
	     "Checks of subscribers' tokens, by result; known: by a yes that "
	     "was kept, shared: by another's check, busy: too many under way.");
	labelled(p, "auth_checks_total", "result", "yes", STATS_auth_yes);
	labelled(p, "auth_checks_total", "result", "no", STATS_auth_no);
	labelled(p, "auth_checks_total", "result", "failed", STATS_auth_failed);
	labelled(p, "auth_checks_total", "result", "known", STATS_auth_known);
	labelled(p, "auth_checks_total", "result", "shared", STATS_auth_shared);
	labelled(p, "auth_checks_total", "result", "busy", STATS_auth_busy);
	histogram(p, "auth_check_seconds",
		  "Duration of the checks that were answered.",
		  offsetof(struct stats, auth));
	value(p, "auth_checks_running", "Checks under way.",
	      p->source->auth_asked);
	value(p, "auth_checks_queued", "Checks that wait for their turn.",
	      p->source->auth_queued);
	value(p, "auth_kept", "Yeses of the authority that are kept.",
	      p->source->auth_kept);
}

static void write_publishing(struct page *p)
{
	head(p, "publishes_total", "counter", "Publications, by result.");
	labelled(p, "publishes_total", "result", "ok", STATS_published);
	labelled(p, "publishes_total", "result", "denied",
		 STATS_publish_denied);
	labelled(p, "publishes_total", "result", "invalid",
		 STATS_publish_invalid);
	labelled(p, "publishes_total", "result", "full", STATS_publish_full);
	counter(p, "publish_repeats_total",
		"Publishing requests answered as the first with the same key.",
		STATS_publish_repeated);
	value(p, "idempotency_keys", "Answers kept for such repeats.",
	      p->source->receipts_count);
	value(p, "idempotency_bytes", "What they take.",
	      p->source->receipts_bytes);
}

static void write_subscribing(struct page *p)
{
	counter(p, "subscribed_total", "Subscriptions made.", STATS_subscribed);
	head(p, "resumes_total", "counter",
	     "Subscriptions that were to go on from an id, by result: exact, "
	     "or reset where messages were lost.");
	labelled(p, "resumes_total", "result", "exact", STATS_resumed);
	labelled(p, "resumes_total", "result", "reset", STATS_not_resumed);
	counter(p, "commands_total", "Commands of isimud.v1.", STATS_commands);
	counter(p, "command_errors_total", "Those answered with an error.",
		STATS_command_errors);
	gauge(p, "subscriptions", "Subscriptions.", STATS_GAUGE_subscriptions,
	      1);
	value(p, "topics", "Topics that have a subscriber or history.",
	      p->source->topics);
	value(p, "history_bytes", "What the history of all topics takes.",
	      p->source->history_bytes);
	value(p, "history_forms_bytes",
	      "What further forms of its messages take besides.",
	      p->source->forms_bytes);
	gauge(p, "subscriptions_behind",
	      "Subscriptions that still get history.", STATS_GAUGE_behind, 1);
	value(p, "replay_bytes",
	      "What is kept beyond the history for those that are behind.",
	      p->source->replay_bytes);
	counter(p, "replay_lost_total",
		"Times one that was behind was told that messages were lost.",
		STATS_replay_lost);
}

static void write_compression(struct page *p)
{
	counter(p, "deflated_total",
		"Messages compressed, each once for all who get it so.",
		STATS_deflated);
	head(p, "deflate_bytes_total", "counter",
	     "Bytes of those, before (in) and after (out).");
	labelled(p, "deflate_bytes_total", "direction", "in",
		 STATS_deflate_bytes_in);
	labelled(p, "deflate_bytes_total", "direction", "out",
		 STATS_deflate_bytes_out);
	counter(p, "inflated_total", "Compressed messages of clients.",
		STATS_inflated);
	head(p, "inflate_bytes_total", "counter",
	     "Bytes of those, as they came (in) and inflated (out).");
	labelled(p, "inflate_bytes_total", "direction", "in",
		 STATS_inflate_bytes_in);
	labelled(p, "inflate_bytes_total", "direction", "out",
		 STATS_inflate_bytes_out);
}

static void write_deliveries(struct page *p)
{
	counter(p, "deliveries_total", "Messages queued to subscribers.",
		STATS_delivered);
	counter(p, "replayed_total",
		"Messages of the history queued to subscribers.",
		STATS_replayed);
	counter(p, "dropped_total",
		"Messages that subscriptions with slow=drop lost.",
		STATS_dropped);
	write_compression(p);
	histogram(p, "delivery_seconds",
		  "From a publication accepted to its messages given to the "
		  "kernel, once a worker.",
		  offsetof(struct stats, delivery));
	gauge(p, "mailbox_messages",
	      "Messages a worker found in its mailbox, at most in a second.",
	      STATS_GAUGE_mailbox_messages, 1);
	gauge(p, "buffered_bytes", "Bytes the kernel has not taken yet.",
	      STATS_GAUGE_buffered_bytes, 1);
	gauge(p, "buffered_worst_bytes",
	      "The same, of the connection that has the most.",
	      STATS_GAUGE_buffered_worst_bytes, 1);
}

static void write_process(struct page *p)
{
	gauge(p, "last_loop_lag_seconds",
	      "How late the worker's last tick was.", STATS_GAUGE_loop_lag_us,
	      1e-6);
	histogram(p, "loop_lag_seconds", "How late ticks were.",
		  offsetof(struct stats, lag));
	value(p, "memory_used_bytes",
	      "Memory counted against the budget (MEMORY_LIMIT).",
	      memory_used());
	value(p, "memory_limit_bytes", "The budget; 0: none.", memory_limit());
	value(p, "process_resident_memory_bytes", "Resident memory.",
	      memory_resident());
	head(p, "log_dropped_total", "counter",
	     "Log lines dropped, as nobody read stderr.");
	line(p, "isimud_log_dropped_total %" PRIu64 "\n", log_dropped());
	value(p, "workers", "Loop threads.", p->source->workers_count);
	value(p, "draining", "1 while the server is draining.",
	      (uint64_t)p->source->is_draining);
	head(p, "build_info", "gauge", "The version.");
	line(p, "isimud_build_info{version=\"%s\"} 1\n", VERSION);
}

static void total(struct page *p, const char *name, const char *help,
		  uint64_t n)
{
	head(p, name, "counter", help);
	line(p, "isimud_%s %" PRIu64 "\n", name, n);
}

static void seconds(struct page *p, const char *name, const char *help,
		    uint64_t ms)
{
	head(p, name, "gauge", help);
	line(p, "isimud_%s %.3f\n", name, (double)ms / 1e3);
}

static void write_bus(struct page *p, const struct metrics_bus *b)
{
	struct histogram_sum acks = {0};

	value(p, "bus_up", "1 while the log takes publications.", b->is_up);
	value(p, "bus_nodes", "Nodes heard of, this one included.", b->nodes);
	value(p, "bus_applied_sequence", "The last record applied.",
	      b->sequence);
	seconds(p, "bus_lag_seconds",
		"For how long it has not been at the log's end.", b->lag_ms);
	seconds(p, "bus_warm_up_seconds",
		"What the last reading up to the log's end took.",
		b->warm_up_ms);
	value(p, "bus_pending_bytes",
	      "Publications that wait for the log, or its answer.",
	      b->pending_bytes);
	head(p, "bus_records_total", "counter",
	     "Records of the log, read and written, markers read included.");
	line(p, "isimud_bus_records_total{direction=\"in\"} %" PRIu64 "\n",
	     b->records_in);
	line(p, "isimud_bus_records_total{direction=\"out\"} %" PRIu64 "\n",
	     b->records_out);
	head(p, "bus_publications_total", "counter",
	     "Publications in these records.");
	line(p, "isimud_bus_publications_total{direction=\"in\"} %" PRIu64 "\n",
	     b->publications_in);
	line(p,
	     "isimud_bus_publications_total{direction=\"out\"} %" PRIu64 "\n",
	     b->publications_out);
	add_histogram(&acks, b->acks);
	write_histogram(p, "bus_ack_seconds",
			"From a record sent to its acknowledgement.", &acks);
	head(p, "bus_joins_total", "counter",
	     "Times the log was joined, by reason.");
	for (unsigned i = 1; i < b->join_kinds; i++)
		line(p, "isimud_bus_joins_total{reason=\"%s\"} %" PRIu64 "\n",
		     b->join_names[i], b->joins[i]);
	total(p, "bus_epochs_total", "Times that all began anew.", b->epochs);
	total(p, "bus_lost_records_total",
	      "Records that were gone before they were read.", b->lost_records);
	total(p, "bus_divergences_total",
	      "Times it had not applied what others had.", b->divergences);
	total(p, "bus_unknown_total",
	      "Requests of which nobody knows whether they were published.",
	      b->unknown);
	total(p, "bus_resends_total", "Records sent again.", b->resends);
}

int metrics_write(struct buf *out, const struct metrics_source *source)
{
	struct page p = {.out = out, .source = source};

	write_connections(&p);
	write_http(&p);
	write_auth(&p);
	write_publishing(&p);
	write_subscribing(&p);
	write_deliveries(&p);
	write_process(&p);
	if (source->bus != NULL)
		write_bus(&p, source->bus);
	return p.error;
}
