/* log.c - joins the log, after judging whether it is the one that this node
 * knows, and applies its messages.
 *
 * Every message of the stream is applied in the order of its sequence, markers
 * included. Nothing makes holes in the log on purpose, so a hole means lost
 * records, and all subscribers are told. */
#include "base/log.h"
#include "base/check.h"
#include "cluster/private.h"

#include <stdio.h>
#include <string.h>

#define NS_A_MS   1000000ULL
#define NAME_MAX_ 64

static uint64_t log_now_ms(const struct bus *b)
{
	return uv_now(&b->loop);
}

/* --- the stream ----------------------------------------------------------- */

static int64_t age_min_ns(const struct bus_options *o)
{
	uint64_t age_ms = o->history_ttl_ms > BUS_AGE_MIN_MS ? o->history_ttl_ms
							     : BUS_AGE_MIN_MS;

	return (int64_t)(age_ms * NS_A_MS);
}

/* What the stream must be: member, the value it is created with, whether the
 * value found (`is`) will do, and what the error says. */
/* clang-format off */
#define DEMANDS(X)                                                             \
	X(is_limits, true, is == want,                                         \
	  "its retention must be by limits")                                   \
	X(discards_old, true, is == want,                                      \
	  "it must discard old messages")                                      \
	X(denies_delete, true, is == want,                                     \
	  "it must deny deleting messages (deny_delete)")                      \
	X(messages_per_subject_max, -1, is <= 0,                               \
	  "it must have no limit of messages per subject")                     \
	X(age_max_ns, age_min_ns(o), is == 0 || is >= want,                    \
	  "its max_age must be at least HISTORY_TTL, and 2 minutes")           \
	X(duplicates_ns, (int64_t)(BUS_DUPLICATES_MS * NS_A_MS), is >= want,   \
	  "its duplicate window must be at least 30 seconds")                  \
	X(message_max_bytes, -1,                                               \
	  is <= 0 || (uint64_t)is >= o->body_max_bytes + 1024,                 \
	  "its max_msg_size must be at least MAX_BODY and 1 KiB")
/* clang-format on */

void log_want_stream(const struct bus_options *o, struct nats_stream *s)
{
	*s = (struct nats_stream){.subject = BUS_SUBJECT,
				  .messages_max = -1,
				  .bytes_max = -1,
				  .replicas = o->replicas};
#define DEMAND(member, wanted, fits, text) s->member = (wanted);
	DEMANDS(DEMAND)
#undef DEMAND
}

int log_check_stream(const struct bus_options *o, const struct nats_stream *s,
		     char error[static BUS_ERROR_MAX])
{
	struct nats_stream wanted;
	const char *wrong = NULL;
	int64_t is;
	int64_t want;

	log_want_stream(o, &wanted);
	if (strcmp(s->subject, wanted.subject) != 0)
		wrong = "its one subject must be " BUS_SUBJECT;
#define DEMAND(member, value, fits, text)                                      \
	is = s->member;                                                        \
	want = wanted.member;                                                  \
	if (wrong == NULL && !(fits))                                          \
		wrong = text;
	DEMANDS(DEMAND)
#undef DEMAND
	if (wrong == NULL)
		return 0;
	snprintf(error, BUS_ERROR_MAX, "the stream %s does not fit: %s",
		 o->stream, wrong);
	return UV_EINVAL;
}

/* --- judging -------------------------------------------------------------- */

/* The last marker, as the leader has it. */
struct last_marker {
	uint64_t sequence; /* 0: there is none */
	uint64_t time_ns;
	bool is_none; /* it is no marker: somebody else wrote there */
	struct record record;
};

/* Returns 0, or a UV_E… if no server can tell now. */
static int read_last_marker(struct bus *b, struct last_marker *m)
{
	*m = (struct last_marker){0};
	int rv = nats_last_message(b->nats, b->options.stream, BUS_MARKERS,
				   &m->sequence, &m->time_ns, &b->scratch);
	if (rv == UV_ENOENT)
		return 0;
	if (rv != 0)
		return rv;
	rv = record_parse(&m->record,
			  (struct span){b->scratch.bytes, b->scratch.len});
	m->is_none = rv != 0 || m->record.kind != RECORD_MARKER;
	if (m->is_none)
		m->record = (struct record){0};
	return 0;
}

/* Whether the last record that was applied is still the same. Returns 0 if it
 * is, or is too old to be kept; 1 if it is another; or a UV_E…. */
static int is_another(struct bus *b, const struct nats_stream *s)
{
	struct record r;
	struct buf data = {0};
	uint64_t time_ns;
	int rv;

	if (b->log.applied == 0 || b->log.applied < s->first_sequence)
		return 0;
	rv = nats_message(b->nats, b->options.stream, b->log.applied, &time_ns,
			  &data);
	if (rv == UV_ENOENT)
		rv = 0;
	else if (rv == 0)
		rv = record_parse(&r, (struct span){data.bytes, data.len}) !=
			     0 ||
		     r.nonce != b->log.applied_nonce;
	buf_fini(&data);
	return rv;
}

enum judgement {
	GO_ON,     /* the same log: read on behind what was applied */
	ADOPT,     /* another epoch, or a first start: begin to read it */
	WATCH,     /* perhaps no node renews it: wait for a new marker */
	NEW_EPOCH, /* no node can renew it */
};

/* Returns a judgement and its reason in `*why`, or a UV_E…. */
static int judge(struct bus *b, const struct nats_stream *s,
		 const struct last_marker *m, const char **why)
{
	const struct bus_log *log = &b->log;

	if (m->sequence == 0) {
		*why = "the log has no marker";
		return NEW_EPOCH;
	}
	if (log->epoch == 0)
		return WATCH;
	if (m->is_none && log->is_first)
		return WATCH;
	if (!m->is_none && m->record.epoch != log->epoch) {
		*why = "the log is in another epoch";
		return ADOPT;
	}
	if (log->is_first) {
		*why = "nothing of it was read yet";
		return ADOPT;
	}
	if (s->last_sequence < log->applied || m->sequence < log->marker) {
		*why = "the log ends before what was applied";
		return NEW_EPOCH;
	}
	*why = "a record is not what was applied";
	int rv = is_another(b, s);
	return rv < 0 ? rv : rv == 0 ? GO_ON : NEW_EPOCH;
}

/* Joins again later: the servers may be electing a leader. A server that does
 * not answer at all is left for another. */
static void try_later(struct bus *b, int rv, const char *error)
{
	if (rv == UV_ETIMEDOUT) {
		bus_disconnect(b, error);
		return;
	}
	if (!b->has_complained)
		log_event(LOG_WARN, "bus_down",
			  LOG_FIELDS(log_text("reason", error)), "bus: %s",
			  error);
	b->has_complained = true;
	b->join_ms = log_now_ms(b) + BUS_AGAIN_MS - BUS_JOIN_MS;
}

/* --- reading -------------------------------------------------------------- */

static int consume(struct bus *b, struct nats_from from, uint64_t *server_ns)
{
	char error[NATS_ERROR_MAX];
	char name[NAME_MAX_];

	snprintf(name, sizeof name, "isimud-%016llx-%llu",
		 (unsigned long long)b->node,
		 (unsigned long long)++b->consumers);
	int rv = nats_consume(b->nats, b->options.stream, name, from, server_ns,
			      error);
	if (rv != 0) {
		/* The cluster may have placed the consumer on a server that is
		 * cut off; the next consumer may be placed elsewhere. */
		try_later(b, rv == UV_ETIMEDOUT ? UV_EAGAIN : rv, error);
		return rv;
	}
	uv_update_time(&b->loop); /* that may have taken seconds */
	b->proof.ticket = 0;
	b->log.consumer_sequence = 0;
	b->log.clock_ns = (int64_t)(uv_hrtime() - *server_ns);
	b->heard_ms = log_now_ms(b);
	b->log.marker_ms = log_now_ms(b);
	return 0;
}

static void go_on(struct bus *b)
{
	struct nats_from from = {.sequence = b->log.applied + 1};
	uint64_t server_ns;

	if (consume(b, from, &server_ns) == 0)
		bus_set_state(b, BUS_STATE_WARMING);
}

/* From number `base` + 1 on, `epoch` is in force. `why` goes into the log line.
 */
static void renew_at(struct bus *b, uint64_t epoch, uint64_t base,
		     const char *why)
{
	const struct bus_options *o = &b->options;
	char text[17];

	snprintf(text, sizeof text, "%016llx", (unsigned long long)epoch);
	log_event(LOG_INFO, "bus_epoch",
		  LOG_FIELDS(log_text("epoch", text), log_text("reason", why)),
		  "bus: epoch %s: %s", text, why);
	bus_count(&b->epochs, 1);
	if (epoch != b->log.epoch)
		window_void(b);
	b->log.epoch = epoch;
	tell_renew(b, epoch);
	o->sink.renew(o->sink.user, epoch, base);
}

/* The same above record `sequence`. */
static void renew(struct bus *b, uint64_t epoch, uint64_t sequence,
		  const char *why)
{
	renew_at(b, epoch, record_number(sequence, 0), why);
}

/* Finds when record `sequence` was written. Returns 0, UV_ENOENT if it was
 * trimmed, or another UV_E…. */
static int find_time(struct bus *b, const struct nats_stream *s,
		     uint64_t sequence, uint64_t *time_ns)
{
	struct buf data = {0};

	if (sequence < s->first_sequence)
		return UV_ENOENT;
	int rv = nats_message(b->nats, b->options.stream, sequence, time_ns,
			      &data);
	buf_fini(&data);
	return rv;
}

/* Finds where to start reading: at the oldest record that is young enough to be
 * history, and at least one marker before the last, so that the sum is known;
 * but not before the epoch began, since subscribers would get those messages
 * again. Returns 0 or a UV_E…. */
static int find_start(struct bus *b, const struct nats_stream *s,
		      const struct last_marker *m, struct nats_from *from)
{
	uint64_t begins =
		/* Filled in by record_parse(), which has returned 0. */
		/* NOLINTNEXTLINE(clang-analyzer-core.*) */
		m->record.begins != 0 ? m->record.begins : m->sequence;
	uint64_t ttl_ns = b->options.history_ttl_ms * NS_A_MS;
	uint64_t time_ns;

	*from = (struct nats_from){
		.time_ns = m->time_ns > ttl_ns ? m->time_ns - ttl_ns : 1};
	int rv = find_time(b, s, m->record.previous, &time_ns);
	if (rv == 0 && time_ns < from->time_ns)
		from->time_ns = time_ns;
	if (rv != 0 && rv != UV_ENOENT)
		return rv;
	rv = find_time(b, s, begins, &time_ns);
	if (rv == 0 && time_ns >= from->time_ns)
		*from = (struct nats_from){.sequence = begins};
	return rv == UV_ENOENT ? 0 : rv;
}

/* Begins a log of which this node knows nothing in this epoch. Subscribers are
 * told with its first record. */
static void begin(struct bus *b, const struct nats_stream *s,
		  const struct last_marker *m, const char *why)
{
	struct nats_from from;
	uint64_t server_ns;

	int rv = find_start(b, s, m, &from);
	if (rv != 0) {
		try_later(b, rv, "the start of the epoch can't be found");
		return;
	}
	window_void(b);
	b->log = (struct bus_log){.epoch = m->record.epoch,
				  .begins = m->record.begins,
				  .is_first = true};
	b->why = why;
	if (consume(b, from, &server_ns) == 0)
		bus_set_state(b, BUS_STATE_WARMING);
}

/* Writes the marker of a new epoch by compare-and-set on the last marker: one
 * node wins, the others read its marker. */
static void make_epoch(struct bus *b, uint64_t last_marker)
{
	b->log.epoch = 0; /* what there was is void: begin anew */
	window_mark(b, bus_random(), RECORD_IS_NEW | RECORD_SUMS_NEW,
		    last_marker, 0);
}

/* Joins if the marker is young or a node renews it; begins a new epoch if
 * waiting for that was in vain. */
static void watch(struct bus *b, const struct nats_stream *s,
		  const struct last_marker *m)
{
	uint64_t server_ns = 0;
	struct nats_from from = {.sequence = s->last_sequence + 1};

	if (b->wait_until_ms == 0) {
		/* The time at which a consumer was made is by the server's
		 * clock. */
		if (consume(b, from, &server_ns) != 0)
			return;
		/* Filled in where judging has returned no error. */
		/* NOLINTNEXTLINE(clang-analyzer-core.*) */
		if (!m->is_none &&
		    server_ns < m->time_ns + BUS_VOUCHED_MS * NS_A_MS) {
			begin(b, s, m, "joined");
			return;
		}
		b->wait_marker = m->sequence;
		b->wait_until_ms = log_now_ms(b) + BUS_WAIT_MS;
		uint64_t age_s = (server_ns - m->time_ns) / (1000 * NS_A_MS);
		log_event(LOG_INFO, "bus_waits",
			  LOG_FIELDS(log_number("seconds", age_s)),
			  "bus: no marker for %llu s: waiting for a node that "
			  "renews the log",
			  (unsigned long long)age_s);
		return;
	}
	/* The same. */
	/* NOLINTNEXTLINE(clang-analyzer-core.*) */
	if (m->sequence != b->wait_marker && !m->is_none) {
		b->wait_until_ms = 0;
		begin(b, s, m, "joined");
	} else if (log_now_ms(b) >= b->wait_until_ms) {
		b->wait_until_ms = 0;
		make_epoch(b, m->sequence);
	}
}

/* Finds the stream, and makes it if BUS_CREATE says so: servers that kept it in
 * memory may have restarted. */
static int find_stream(struct bus *b, struct nats_stream *s,
		       char error[static BUS_ERROR_MAX])
{
	const struct bus_options *o = &b->options;
	int rv = nats_find_stream(b->nats, o->stream, s, error);

	if (rv == UV_ENOENT && o->creates) {
		log_want_stream(o, s);
		rv = nats_make_stream(b->nats, o->stream, s, error);
		if (rv == 0)
			rv = nats_find_stream(b->nats, o->stream, s, error);
	}
	return rv == 0 ? log_check_stream(o, s, error) : rv;
}

const char *const bus_join_names[] = {
#define BUS_NAME(name, text) [BUS_JOIN_##name] = (#name),
	BUS_JOINS(BUS_NAME)
#undef BUS_NAME
};

static const char *const join_texts[] = {
#define BUS_TEXT(name, text) [BUS_JOIN_##name] = (text),
	BUS_JOINS(BUS_TEXT)
#undef BUS_TEXT
};

void log_join(struct bus *b, enum bus_join why)
{
	char error[BUS_ERROR_MAX];
	struct nats_stream stream;
	struct last_marker marker;
	const char *reason = "";

	CHECK_ON_THREAD(b->owner);
	log_event(LOG_DEBUG, "bus_joins",
		  LOG_FIELDS(log_text("reason", bus_join_names[why])),
		  "bus: joins: %s", join_texts[why]);
	if (b->wait_until_ms == 0)
		bus_count(&b->joins[why], 1);
	b->join_ms = log_now_ms(b);
	bus_set_state(b, BUS_STATE_JOIN);
	int rv = find_stream(b, &stream, error);
	if (rv == 0) {
		snprintf(error, sizeof error, "the last marker can't be read");
		rv = read_last_marker(b, &marker);
	}
	if (rv == 0) {
		snprintf(error, sizeof error, "the log can't be judged");
		rv = judge(b, &stream, &marker, &reason);
	}
	if (rv < 0) {
		try_later(b, rv, error);
		return;
	}
	b->has_complained = false;
	switch ((enum judgement)rv) {
	case GO_ON:
		go_on(b);
		break;
	case ADOPT:
		begin(b, &stream, &marker, reason);
		break;
	case WATCH:
		watch(b, &stream, &marker);
		break;
	case NEW_EPOCH:
		log_event(LOG_WARN, "bus_new_epoch",
			  LOG_FIELDS(log_text("reason", reason)),
			  "bus: %s: a new epoch", reason);
		/* The same. */
		/* NOLINTNEXTLINE(clang-analyzer-core.*) */
		make_epoch(b, marker.sequence);
		break;
	}
}

/* --- applying ------------------------------------------------------------- */

/* A marker has the sum of all records up to the marker before it. Returns
 * whether the node that wrote it has applied other records than this one. */
static bool has_diverged(struct bus *b, const struct record *r)
{
	struct bus_log *log = &b->log;

	if (r->flags & RECORD_SUMS_NEW) {
		log->sum = 0;
		log->is_sum_known = true;
		return false;
	}
	if (r->previous != log->marker)
		return false; /* the first one that this node reads */
	if (!log->is_sum_known) {
		log->sum = r->sum;
		log->is_sum_known = true;
		return false;
	}
	if (log->sum == r->sum)
		return false;
	log_event(LOG_ERROR, "bus_diverged",
		  LOG_FIELDS(log_number("sequence", b->log.applied)),
		  "bus: this node has applied other records than the node "
		  "that wrote marker %llu",
		  (unsigned long long)b->log.applied);
	bus_count(&b->divergences, 1);
	return true;
}

/* Returns whether this node has diverged. */
static bool on_marker(struct bus *b, const struct nats_mail *m,
		      const struct record *r)
{
	struct bus_log *log = &b->log;
	uint64_t sequence = m->sequence;

	if (r->epoch != log->epoch)
		renew(b, r->epoch, sequence, "it begins in the log");
	log->begins = r->begins != 0 ? r->begins : sequence;
	bool diverged = has_diverged(b, r);
	/* From now on, sum up what follows this marker, itself included. */
	if (log->is_sum_known && !(r->flags & RECORD_SUMS_NEW))
		log->sum += log->sum_behind;
	log->sum += record_mix(sequence, r->nonce);
	log->sum_behind = 0;
	log->marker = sequence;
	log->marker_last = sequence;
	log->marker_ms = log_now_ms(b);
	/* The marker was written just now, so its time tells the clock of the
	 * server that leads now; the consumer may have been made by another
	 * one. */
	if (b->state == BUS_STATE_LIVE && b->backlog.first == NULL)
		log->clock_ns = (int64_t)(uv_hrtime() - m->time_ns);
	if (b->proof.ticket != 0 && sequence > b->proof.after) {
		atomic_store(&b->proved, b->proof.ticket);
		b->proof.ticket = 0;
	}
	log->marker_jitter_ms = bus_random() % (BUS_MARKER_MS / 2);
	return diverged;
}

static void on_publications(struct bus *b, const struct nats_mail *m,
			    const struct record *r)
{
	const struct bus_sink *sink = &b->options.sink;
	uint64_t accepted_ns = m->time_ns + (uint64_t)b->log.clock_ns;
	struct span body = r->body;
	struct record_publication p;

	for (unsigned i = 0; record_next(&body, &p); i++)
		sink->apply(sink->user, record_number(m->sequence, i),
			    accepted_ns, &p);
	if (r->flags & RECORD_KEYED)
		sink->applied(sink->user, r, record_number(m->sequence, 0));
	bus_count(&b->publications_in, r->count);
	b->log.sum_behind += record_mix(m->sequence, r->nonce);
}

/* Records are missing before `sequence`, and will not come: most likely they
 * were trimmed. */
static void on_hole(struct bus *b, uint64_t sequence)
{
	uint64_t lost = sequence - b->log.applied - 1;

	log_event(LOG_ERROR, "bus_lost", LOG_FIELDS(log_number("count", lost)),
		  "bus: %llu records of the log are lost to this node",
		  (unsigned long long)lost);
	bus_count(&b->lost_records, lost);
	b->log.is_sum_known = false;
	b->log.sum_behind = 0;
	b->log.marker = 0;
	renew(b, b->log.epoch, sequence - 1, "a part of the log is lost");
}

/* Whether a marker came lately. Heartbeats prove nothing: a server that is cut
 * off sends them too. */
static bool is_fresh(const struct bus *b)
{
	return log_now_ms(b) - b->log.marker_ms < BUS_DOWN_MS;
}

static void fall_behind(struct bus *b)
{
	if (atomic_load(&b->behind_ms) == 0)
		atomic_store(&b->behind_ms, uv_hrtime() / NS_A_MS);
}

static void caught_up(struct bus *b)
{
	uint64_t took;

	if (is_fresh(b))
		atomic_store(&b->behind_ms, 0);
	if (b->state != BUS_STATE_WARMING)
		return;
	took = log_now_ms(b) - b->warm_from_ms;
	atomic_store(&b->warm_up_ms, took);
	log_event(LOG_INFO, "bus_live",
		  LOG_FIELDS(log_number("sequence", b->log.applied),
			     log_number("ms", took)),
		  "bus: live, at record %llu, after %llu ms",
		  (unsigned long long)b->log.applied, (unsigned long long)took);
	bus_set_state(b, BUS_STATE_LIVE);
	window_resend(b);
	window_fill(b);
}

void log_on_record(struct bus *b, const struct nats_mail *m)
{
	struct bus_log *log = &b->log;
	const struct bus_sink *sink = &b->options.sink;
	struct record r;
	bool diverged = false;

	CHECK_ON_THREAD(b->owner);
	if (b->state != BUS_STATE_WARMING && b->state != BUS_STATE_LIVE)
		return; /* while the log is watched */
	if (m->consumer_sequence != log->consumer_sequence + 1) {
		log_join(b, BUS_JOIN_missing);
		return;
	}
	log->consumer_sequence = m->consumer_sequence;
	if (log->is_first) {
		/* A node that starts does not call earlier records lost. */
		log->is_first = false;
		renew_at(b, log->epoch, record_number(m->sequence, 0) - 1,
			 b->why);
	} else if (m->sequence <= log->applied) {
		log_join(b, BUS_JOIN_back);
		return;
	} else if (m->sequence != log->applied + 1) {
		on_hole(b, m->sequence);
	}
	if (record_parse(&r, m->data) != 0) {
		/* Every node skips it in the same way. */
		static struct log_limit limit = LOG_LIMIT("bus_no_record");
		if (log_limit_allows(&limit))
			log_event(
				LOG_ERROR, "bus_no_record",
				LOG_FIELDS(log_number("sequence", m->sequence)),
				"bus: message %llu of the log is no record",
				(unsigned long long)m->sequence);
		r = (struct record){0};
		if (span_equal(m->subject, SPAN(BUS_MARKERS)))
			log->marker_last = m->sequence;
	} else if (r.kind == RECORD_MARKER) {
		diverged = on_marker(b, m, &r);
	} else {
		on_publications(b, m, &r);
	}
	log->applied = m->sequence;
	log->applied_nonce = r.nonce;
	atomic_store_explicit(&b->sequence, m->sequence, memory_order_relaxed);
	bus_count(&b->records_in, 1);
	sink->reached(sink->user, record_number(m->sequence + 1, 0) - 1);
	window_on_applied(b, m->sequence, r.nonce);
	if (diverged) {
		/* Servers that were cut off may have dropped records that they
		 * had acknowledged. Begin a new epoch, so that all subscribers
		 * are told. */
		bus_set_state(b, BUS_STATE_JOIN);
		b->join_ms = log_now_ms(b);
		make_epoch(b, log->marker);
		return;
	}
	if (m->is_last && b->backlog.first == NULL)
		caught_up(b);
	else
		fall_behind(b);
}

void log_on_heartbeat(struct bus *b, const struct nats_mail *m)
{
	CHECK_ON_THREAD(b->owner);
	if (b->state != BUS_STATE_WARMING && b->state != BUS_STATE_LIVE)
		return;
	if (m->consumer_sequence > b->log.consumer_sequence)
		log_join(b, BUS_JOIN_missing);
	else
		caught_up(b);
}

/* Writes a marker where nobody has for a while. Nodes that know the sum go
 * first; if none does, because all have lost a part of the log, the sum starts
 * again. */
static void renew_marker(struct bus *b, uint64_t age_ms)
{
	const struct bus_log *log = &b->log;

	if (age_ms <= BUS_MARKER_MS + log->marker_jitter_ms)
		return;
	if (log->is_sum_known)
		window_mark(b, log->epoch, 0, log->marker_last, log->sum);
	else if (age_ms > BUS_NO_SUM_MS)
		window_mark(b, log->epoch, RECORD_SUMS_NEW, UINT64_MAX, 0);
}

void log_tick(struct bus *b)
{
	uint64_t now = log_now_ms(b);
	struct bus_log *log = &b->log;

	CHECK_ON_THREAD(b->owner);
	if (b->state == BUS_STATE_JOIN &&
	    (b->wait_until_ms != 0 || now - b->join_ms > BUS_JOIN_MS)) {
		log_join(b, BUS_JOIN_again);
		return;
	}
	if (b->state != BUS_STATE_WARMING && b->state != BUS_STATE_LIVE)
		return;
	if (now - b->heard_ms > BUS_SILENT_MS) {
		b->heard_ms = now;
		if (++b->silences > BUS_SILENCES_MAX) {
			/* It makes consumers that get nothing. */
			b->silences = 0;
			bus_disconnect(b, "nothing comes of the log: another "
					  "server");
			return;
		}
		log_join(b, BUS_JOIN_silent);
		return;
	}
	/* There may be markers in the backlog. */
	bool is_late = b->backlog.first != NULL;
	if (b->state == BUS_STATE_LIVE && !is_late)
		renew_marker(b, now - log->marker_ms);
	if (now - log->marker_ms > BUS_STALE_MS && !is_late) {
		bus_disconnect(b, "nobody renews the log: another server");
		return;
	}
	if (!is_fresh(b))
		fall_behind(b);
	atomic_store(&b->is_up, b->state == BUS_STATE_LIVE && is_fresh(b));
}

void log_prove(struct bus *b)
{
	uint64_t asked = atomic_load(&b->asked);
	struct last_marker m;

	CHECK_ON_THREAD(b->owner);
	if (b->state != BUS_STATE_LIVE || b->proof.ticket != 0 ||
	    asked == atomic_load(&b->proved) || log_now_ms(b) < b->proof.due_ms)
		return;
	int rv = read_last_marker(b, &m);
	uv_update_time(&b->loop); /* that may have taken seconds */
	b->proof.due_ms = log_now_ms(b) + BUS_PROOF_MS;
	if (rv != 0)
		return;
	if (m.is_none)
		return; /* the nodes write another one soon */
	if (m.record.epoch != b->log.epoch || m.sequence < b->log.marker) {
		log_join(b, BUS_JOIN_epoch);
		return;
	}
	b->proof.ticket = asked;
	b->proof.after = m.sequence;
}
