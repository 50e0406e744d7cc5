/* run.c - the phases of a run: connect, probe, measure_mode, drain, count. */
#include "cli/bench/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/arguments.h"
#include "cli/bench/source.h"

#define MS             UINT64_C(1000000) /* nanoseconds */
#define SECOND         (1000 * MS)
#define TICK_MS        10
#define PROGRESS_MS    100
#define CONNECT_NS     (10 * SECOND) /* without another one connected */
#define DRAIN_NS       (5 * SECOND)  /* without another delivery */
#define LINGER_NS      (50 * MS)     /* so that duplicates are seen */
#define PROBE_ROUNDS   60
#define PROBE_BURST    64
#define STORM_PROBE_NS (50 * MS)
#define IDLE_NS        SECOND

struct run {
	const struct plan *plan;
	const struct cost_group *server;
	struct trouble *trouble;
	struct run_result *result;
	run_progress_cb progress;
	void *user;
	uint64_t told_ns; /* when progress was told last */
	const char *phase;
	double done;

	uv_loop_t loop;
	uv_timer_t tick; /* so that a turn does not last */
	uv_poll_t alarm;
	int alarm_fd;
	struct crowd *crowd;
	struct source *source;  /* NULL: not yet */
	uint64_t published;     /* measured ones, over all topics */
	uint64_t *published_in; /* the same, by topic */
};

/* --- turns ----------------------------------------------------------------
 */

static void on_run_tick(uv_timer_t *tick)
{
	(void)tick;
}

static void on_alarm(uv_poll_t *alarm, int status, int events)
{
	struct run *r = alarm->data;
	uint64_t times;

	(void)status;
	(void)events;
	(void)!read(r->alarm_fd, &times, sizeof times);
}

static void tell_progress(struct run *r)
{
	uint64_t now = plan_now_ns();
	struct crowd_counts n;

	if (r->progress == NULL || now - r->told_ns < PROGRESS_MS * MS)
		return;
	r->told_ns = now;
	crowd_count(r->crowd, &n);
	r->progress(r->user, r->phase, r->done, n.delivered,
		    r->source == NULL ? 0 : source_answered(r->source));
}

/* Lets events come, and returns at the latest after a tick. */
static void turn(struct run *r)
{
	if (r->source != NULL)
		source_flush(r->source);
	uv_run(&r->loop, UV_RUN_ONCE);
	tell_progress(r);
}

/* The same, and returns at `ns` to the microsecond. */
static void turn_until(struct run *r, uint64_t ns)
{
	const struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(ns / SECOND),
			     .tv_nsec = (long)(ns % SECOND)}};

	timerfd_settime(r->alarm_fd, TFD_TIMER_ABSTIME, &when, NULL);
	turn(r);
}

static bool is_in_trouble(const struct run *r)
{
	return r->trouble->is_there;
}

static struct crowd_counts counts_of(const struct run *r)
{
	struct crowd_counts n;

	crowd_count(r->crowd, &n);
	return n;
}

/* --- samples --------------------------------------------------------------
 */

struct sample {
	uint64_t ns;
	uint64_t delivered;
	uint64_t answered;
	double server;
	double own;
	double machine;
};

static struct sample take_sample(const struct run *r)
{
	struct sample s = {
		.delivered = counts_of(r).delivered,
		.answered = source_answered(r->source),
		.server = cost_group_cpu(r->server),
		.own = cost_own_cpu(),
		.machine = cost_machine_cpu(),
	};

	s.ns = plan_now_ns();
	return s;
}

static void note_samples(struct run *r, const struct sample *a,
			 const struct sample *b)
{
	struct run_result *out = r->result;

	out->seconds = (double)(b->ns - a->ns) / (double)SECOND;
	out->delivered = b->delivered - a->delivered;
	out->answered = b->answered - a->answered;
	out->server_cpu = b->server - a->server;
	out->own_cpu = b->own - a->own;
	out->machine_cpu = b->machine - a->machine;
}

/* The measured time of a loop that publishes. */
struct interval {
	uint64_t from;
	uint64_t end;
	bool has_begun;
	struct sample first;
};

static struct interval start_interval(const struct run *r)
{
	struct interval i = {.from = plan_now_ns() + r->plan->warmup_ns};

	i.end = i.from + r->plan->duration_ns;
	if (r->plan->messages > 0) { /* all of them count */
		i.has_begun = true;
		i.first = take_sample(r);
	}
	return i;
}

/* Returns whether the time, or the number of messages, is not used up. */
static bool is_running(struct run *r, struct interval *i, uint64_t now,
		       uint64_t published)
{
	uint64_t messages = r->plan->messages;

	if (!i->has_begun && now >= i->from) {
		i->has_begun = true;
		i->first = take_sample(r);
	}
	r->done = now < i->from ? 0
				: (double)(now - i->from) /
					  (double)r->plan->duration_ns;
	if (messages > 0)
		r->done = (double)published / (double)messages;
	return now < i->end && (messages == 0 || published < messages) &&
	       !is_in_trouble(r);
}

/* --- publishing -----------------------------------------------------------
 */

/* Messages of one topic keep their order on one connection only. */
static unsigned publisher_of(const struct run *r, uint64_t id, unsigned topic)
{
	return (unsigned)((r->plan->topics > 1 ? topic : id) %
			  r->plan->publishers);
}

static unsigned topic_of(const struct run *r, uint64_t id)
{
	return (unsigned)(id % r->plan->topics);
}

static bool may_publish_next(const struct run *r)
{
	uint64_t id = r->published;

	return (r->plan->messages == 0 || id < r->plan->messages) &&
	       source_has_room(r->source, publisher_of(r, id, topic_of(r, id)));
}

static void publish_next(struct run *r, uint64_t due_ns)
{
	uint64_t id = r->published++;
	const struct stamp stamp = {
		.topic = topic_of(r, id),
		.number = (uint32_t)(id / r->plan->topics),
		.due_ns = due_ns,
	};

	r->published_in[stamp.topic]++;
	source_publish(r->source, publisher_of(r, id, stamp.topic), &stamp);
}

static void publish_probe(struct run *r, unsigned topic)
{
	const struct stamp stamp = {.topic = topic, .is_probe = true};

	source_publish(r->source, publisher_of(r, topic, topic), &stamp);
}

/* Waits for what is missing, as long as more comes. */
static void drain(struct run *r)
{
	uint64_t wanted = 0;
	uint64_t since = plan_now_ns();
	uint64_t seen = 0;

	for (unsigned t = 0; t < r->plan->topics; t++)
		wanted += r->published_in[t] * plan_subscribers_of(r->plan, t);
	r->phase = "draining";
	while (!is_in_trouble(r) && (counts_of(r).delivered < wanted ||
				     source_unanswered(r->source) > 0)) {
		turn(r);
		uint64_t now_seen =
			counts_of(r).delivered + source_answered(r->source);
		if (now_seen != seen)
			since = plan_now_ns();
		else if (plan_now_ns() - since > DRAIN_NS)
			break;
		seen = now_seen;
	}
	for (uint64_t end = plan_now_ns() + LINGER_NS; plan_now_ns() < end;)
		turn(r);
}

/* --- the phases before ----------------------------------------------------
 */

static void connect_all(struct run *r)
{
	uint64_t start = plan_now_ns();
	uint64_t since = start;
	uint64_t seen = 0;
	unsigned wanted = r->plan->subscribers + r->plan->stalled;

	r->phase = "connecting";
	while (!is_in_trouble(r) && counts_of(r).open < wanted) {
		turn(r);
		uint64_t open = counts_of(r).open;
		if (open != seen)
			since = plan_now_ns();
		else if (plan_now_ns() - since > CONNECT_NS)
			trouble_tell(r->trouble, EXIT_FAILURE,
				     "only %llu of %u subscribers could "
				     "connect",
				     (unsigned long long)open, wanted);
		seen = open;
		r->done = (double)open / wanted;
	}
	r->result->connect_seconds =
		(double)(plan_now_ns() - start) / (double)SECOND;
}

/* Not before they are needed: a server ends connections that ask for nothing.
 */
static void open_publishers(struct run *r)
{
	uint64_t end = plan_now_ns() + CONNECT_NS;
	int rv = source_open(&r->source, r->plan, r->trouble, &r->loop);

	if (rv != 0) {
		trouble_tell(r->trouble, EXIT_FAILURE, "%s", uv_strerror(rv));
		return;
	}
	while (!is_in_trouble(r) && !source_is_ready(r->source)) {
		turn(r);
		if (plan_now_ns() > end)
			trouble_tell(r->trouble, EXIT_FAILURE,
				     "not all publishers could connect");
	}
}

/* A probe to each topic that has a subscriber without one. */
static void publish_probes(struct run *r)
{
	unsigned sent = 0;

	for (unsigned t = 0; t < r->plan->topics && !is_in_trouble(r); t++) {
		if (crowd_ready_of(r->crowd, t) >=
		    plan_subscribers_of(r->plan, t))
			continue;
		while (!source_has_room(r->source, publisher_of(r, t, t)) &&
		       !is_in_trouble(r))
			turn(r);
		publish_probe(r, t);
		/* Where nothing is answered, too many at once are too many. */
		if (++sent % PROBE_BURST == 0)
			turn(r);
	}
}

/* Publishes until every subscriber has got something: most ways to subscribe
 * have no answer. */
static void probe_all(struct run *r)
{
	unsigned wanted = r->plan->subscribers;

	r->phase = "subscribing";
	for (unsigned round = 0; round < PROBE_ROUNDS && !is_in_trouble(r) &&
				 counts_of(r).ready < wanted;
	     round++) {
		publish_probes(r);
		uint64_t end =
			plan_now_ns() + SECOND / 4 + (uint64_t)wanted * MS / 20;
		while (plan_now_ns() < end && !is_in_trouble(r) &&
		       (counts_of(r).ready < wanted ||
			source_unanswered(r->source) > 0)) {
			turn(r);
			r->done = (double)counts_of(r).ready / wanted;
		}
		if (counts_of(r).ended > 0 || source_refused(r->source) > 0)
			trouble_tell(r->trouble, EXIT_FAILURE,
				     "the server ended a connection, or "
				     "refused a probe");
	}
	if (counts_of(r).ready < wanted && !is_in_trouble(r))
		trouble_tell(r->trouble, EXIT_FAILURE,
			     "only %llu of %u subscribers received anything",
			     (unsigned long long)counts_of(r).ready, wanted);
	/* Probes that are still on their way. */
	uint64_t seen = counts_of(r).probes;
	for (uint64_t quiet = plan_now_ns();
	     !is_in_trouble(r) && plan_now_ns() - quiet < SECOND / 10;) {
		turn(r);
		if (counts_of(r).probes != seen ||
		    source_unanswered(r->source) > 0)
			quiet = plan_now_ns();
		seen = counts_of(r).probes;
	}
}

/* --- what is measured ------------------------------------------------------
 */

/* Refills the window in bursts of half its size. One by one, a closed loop
 * settles at random either in lockstep or in bursts, and figures of the same
 * server differ tenfold. */
static void refill(struct run *r, uint64_t now)
{
	unsigned window = r->plan->window;

	if (r->published - crowd_completed(r->crowd) > window / 2)
		return;
	while (r->published - crowd_completed(r->crowd) < window &&
	       may_publish_next(r)) {
		unsigned topic = topic_of(r, r->published);
		crowd_expect(r->crowd, r->published,
			     plan_subscribers_of(r->plan, topic));
		publish_next(r, now);
	}
}

static void measure_fanout(struct run *r)
{
	struct interval i = start_interval(r);
	uint64_t now = plan_now_ns();

	while (is_running(r, &i, now, r->published)) {
		refill(r, now);
		turn(r);
		now = plan_now_ns();
	}
	if (r->plan->messages > 0)
		drain(r);
	struct sample last = take_sample(r);
	if (r->plan->messages > 0)
		last.ns -= LINGER_NS;
	note_samples(r, &i.first, &last);
	drain(r);
}

static void measure_latency(struct run *r)
{
	double gap_ns = (double)SECOND / r->plan->rate;
	struct interval i = start_interval(r);
	uint64_t start = plan_now_ns();
	uint64_t due = start;
	uint64_t now = start;

	crowd_measure_from(r->crowd, r->plan->messages > 0 ? 0 : i.from);
	while (is_running(r, &i, now, r->published)) {
		while (due <= now && may_publish_next(r)) {
			if (due >= i.from &&
			    now - due > r->result->sent_late_ns)
				r->result->sent_late_ns = now - due;
			publish_next(r, due);
			due = start + (uint64_t)((double)r->published * gap_ns);
		}
		if (due > now)
			turn_until(r, due);
		else
			turn(r); /* the pipeline is full */
		now = plan_now_ns();
	}
	const struct sample last = take_sample(r);
	note_samples(r, &i.first, &last);
	drain(r);
}

static void measure_publishing(struct run *r)
{
	struct interval i = start_interval(r);
	uint64_t now = plan_now_ns();

	while (is_running(r, &i, now, r->published)) {
		for (unsigned p = 0; p < r->plan->publishers; p++)
			while (source_has_room(r->source, p)) {
				uint64_t id = r->published++;
				const struct stamp stamp = {
					.topic = topic_of(r, id),
					.number = (uint32_t)id,
					.due_ns = now,
				};
				source_publish(r->source, p, &stamp);
			}
		turn(r);
		now = plan_now_ns();
	}
	const struct sample last = take_sample(r);
	note_samples(r, &i.first, &last);
	drain(r);
}

/* Cuts all, and waits until each is subscribed again. */
static void measure_storm(struct run *r)
{
	const struct sample first = take_sample(r);
	unsigned wanted = r->plan->subscribers;
	uint64_t since = first.ns;
	uint64_t next_probe = 0;
	uint64_t seen = 0;
	struct crowd_counts n;

	r->phase = "storm";
	crowd_cut(r->crowd);
	do {
		turn(r);
		n = counts_of(r);
	} while (n.ready == wanted && !is_in_trouble(r));
	while (n.ready < wanted && !is_in_trouble(r)) {
		uint64_t now = plan_now_ns();
		if (n.open == wanted && r->result->storm_open == 0)
			r->result->storm_open =
				(double)(now - first.ns) / (double)SECOND;
		/* One as soon as all are connected, then others. */
		if (n.open == wanted && now >= next_probe) {
			publish_probes(r);
			next_probe = now + STORM_PROBE_NS;
		}
		turn_until(r, now + MS);
		n = counts_of(r);
		if (n.open + n.ready != seen)
			since = now;
		else if (now - since > 2 * CONNECT_NS)
			trouble_tell(r->trouble, EXIT_FAILURE,
				     "only %llu of %u came back",
				     (unsigned long long)n.open, wanted);
		seen = n.open + n.ready;
		r->done = (double)n.ready / wanted;
	}
	const struct sample last = take_sample(r);
	note_samples(r, &first, &last);
	r->result->storm_ready = r->result->seconds;
	drain(r);
}

static void measure_mode(struct run *r)
{
	switch (r->plan->mode) {
	case PLAN_FANOUT:
		r->phase = "fan-out";
		measure_fanout(r);
		break;
	case PLAN_LATENCY:
		r->phase = "latency";
		measure_latency(r);
		break;
	case PLAN_PUBLISH:
		r->phase = "publishing";
		measure_publishing(r);
		break;
	case PLAN_STORM:
		measure_storm(r);
		break;
	case PLAN_IDLE:
		break;
	}
}

static void run_phases(struct run *r)
{
	struct run_result *out = r->result;
	double cpu_before = cost_group_cpu(r->server);

	out->rss_before = cost_group_rss(r->server);
	connect_all(r);
	out->connect_cpu = cost_group_cpu(r->server) - cpu_before;
	if (r->plan->mode == PLAN_IDLE) {
		r->phase = "idle";
		for (uint64_t end = plan_now_ns() + IDLE_NS;
		     plan_now_ns() < end && !is_in_trouble(r);)
			turn(r);
		out->rss_open = cost_group_rss(r->server);
	}
	if (!is_in_trouble(r))
		open_publishers(r);
	if (r->plan->subscribers > 0 && !is_in_trouble(r))
		probe_all(r);
	if (r->plan->mode != PLAN_IDLE)
		out->rss_open = cost_group_rss(r->server);
	if (!is_in_trouble(r))
		measure_mode(r);
	out->rss_after = cost_group_rss(r->server);
}

/* --- all of it ------------------------------------------------------------
 */

static void judge_run(struct run *r)
{
	struct run_result *out = r->result;
	/* Of several publishers to one topic nobody knows the order. */
	bool has_order = r->plan->publishers == 1 || r->plan->topics > 1;

	out->counts = counts_of(r);
	out->refused = source_refused(r->source);
	out->unanswered = source_unanswered(r->source);
	crowd_stop(r->crowd);
	out->missing = crowd_missing(r->crowd, r->published_in,
				     &out->missing_subscribers);
	crowd_merge_durations(r->crowd, &out->durations);
	out->is_good = out->missing == 0 && out->counts.twice == 0 &&
		       out->counts.damaged == 0 && out->counts.misrouted == 0 &&
		       out->counts.ended == 0 && out->refused == 0 &&
		       out->unanswered == 0 &&
		       (out->counts.late == 0 || !has_order);
}

static void open_loop(struct run *r)
{
	CHECK(uv_loop_init(&r->loop) == 0);
	uv_timer_init(&r->loop, &r->tick);
	uv_timer_start(&r->tick, on_run_tick, TICK_MS, TICK_MS);
	r->alarm_fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	CHECK(r->alarm_fd >= 0);
	CHECK(uv_poll_init(&r->loop, &r->alarm, r->alarm_fd) == 0);
	r->alarm.data = r;
	uv_poll_start(&r->alarm, UV_READABLE, on_alarm);
}

static void close_loop(struct run *r)
{
	uv_close((uv_handle_t *)&r->tick, NULL);
	uv_close((uv_handle_t *)&r->alarm, NULL);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	close(r->alarm_fd);
	CHECK(uv_loop_close(&r->loop) == 0);
}

int run_plan(const struct plan *plan, const struct cost_group *server,
	     run_progress_cb progress, void *user, struct trouble *trouble,
	     struct run_result *out)
{
	struct run r = {
		.plan = plan,
		.server = server,
		.trouble = trouble,
		.result = out,
		.progress = progress,
		.user = user,
		.published_in = calloc(plan->topics, sizeof(uint64_t)),
	};

	open_loop(&r);
	int rv = r.published_in == NULL
			 ? UV_ENOMEM
			 : crowd_start(&r.crowd, plan, trouble, &r.loop);
	if (rv == 0) {
		run_phases(&r);
		if (r.source != NULL)
			judge_run(&r);
		crowd_stop(r.crowd);
	} else {
		trouble_tell(trouble, EXIT_FAILURE, "%s", uv_strerror(rv));
	}
	source_close(r.source);
	crowd_free(r.crowd);
	free(r.published_in);
	close_loop(&r);
	return trouble->is_there ? -1 : 0;
}
