/* test_log.c - what the bus makes of a log, and of what becomes of its records:
 * src/cluster/log.c and window.c, with a NATS that does as it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aborts.h"
#include "boxes.h"
#include "cluster/private.h"

#define MINE   0x11
#define OTHERS 0x22

/* Writes a record, with a publication if it is to have some. */
static int write_record(struct buf *out, const struct record *r)
{
	const struct record_publication p = {
		.publisher = SPAN("a"), .topic = SPAN("t"), .data = SPAN("x")};
	size_t start = out->len;

	int rv = record_begin(out, r);
	if (rv == 0 && r->kind == RECORD_PUBLICATIONS)
		rv = record_add(out, start, &p);
	return rv;
}

/* --- the NATS ------------------------------------------------------------- */

static struct {
	struct nats_stream stream;
	struct record marker; /* the last one, at `marker_sequence`; 0: none */
	uint64_t marker_sequence;
	bool is_marker_none; /* what is there is somebody else's */
	uint64_t nonce;      /* of any record that is asked for */
	uint64_t now_ns;     /* the server's clock; the marker's time is 0 */
	int consume_rv;
	/* What it was told. */
	struct nats_from from;
	unsigned consumed;
	unsigned published;
	uint64_t token;
	uint64_t expected;
	struct record sent;
	char message_id[WINDOW_ID_MAX];
} fake;

int nats_connect(struct nats **out, const struct nats_options *options,
		 char error[static NATS_ERROR_MAX])
{
	(void)out, (void)options, (void)error;
	return UV_ECONNREFUSED;
}
void nats_adopt(struct nats *n)
{
	(void)n;
}
void nats_close(struct nats *n)
{
	(void)n;
}
void nats_fini(void)
{
}
size_t nats_max_payload(const struct nats *n)
{
	(void)n;
	return 1 << 20;
}
void nats_server(const struct nats *n, char out[static NATS_SERVER_MAX])
{
	(void)n;
	out[0] = '\0';
}
struct nats_mail *nats_take(struct nats *n)
{
	(void)n;
	return NULL;
}
void nats_mail_free(struct nats_mail *m)
{
	free(m->message);
	free(m);
}
int nats_respond(struct nats *n, const struct nats_mail *m)
{
	(void)n, (void)m;
	return 0;
}
int nats_send(struct nats *n, const char *subject, struct span data)
{
	(void)n, (void)subject, (void)data;
	return 0;
}
int nats_listen(struct nats *n, const char *subject)
{
	(void)n, (void)subject;
	return 0;
}
int nats_publish(struct nats *n, const char *subject, struct span data,
		 uint64_t token, const char *message_id, uint64_t expected)
{
	(void)n, (void)subject;
	assert_int_equal(record_parse(&fake.sent, data), 0);
	fake.published++;
	fake.token = token;
	fake.expected = expected;
	strcpy(fake.message_id, message_id == NULL ? "" : message_id);
	return 0;
}
int nats_find_stream(struct nats *n, const char *stream,
		     struct nats_stream *out, char error[static NATS_ERROR_MAX])
{
	(void)n, (void)stream, (void)error;
	*out = fake.stream;
	return 0;
}
int nats_make_stream(struct nats *n, const char *stream,
		     const struct nats_stream *want,
		     char error[static NATS_ERROR_MAX])
{
	(void)n, (void)stream, (void)want, (void)error;
	return UV_EIO;
}
int nats_last_message(struct nats *n, const char *stream, const char *subject,
		      uint64_t *sequence, uint64_t *time_ns, struct buf *data)
{
	(void)n, (void)stream, (void)subject;
	if (fake.marker_sequence == 0)
		return UV_ENOENT;
	*sequence = fake.marker_sequence;
	*time_ns = 1;
	data->len = 0;
	if (fake.is_marker_none)
		return buf_append(data, "x", 1);
	return record_begin(data, &fake.marker);
}
int nats_message(struct nats *n, const char *stream, uint64_t sequence,
		 uint64_t *time_ns, struct buf *data)
{
	struct record r = {.kind = RECORD_PUBLICATIONS, .nonce = fake.nonce};
	(void)n, (void)stream, (void)sequence;
	*time_ns = 1;
	data->len = 0;
	return write_record(data, &r);
}
int nats_consume(struct nats *n, const char *stream, const char *name,
		 struct nats_from from, uint64_t *now_ns,
		 char error[static NATS_ERROR_MAX])
{
	(void)n, (void)stream, (void)name;
	fake.from = from;
	*now_ns = fake.now_ns;
	error[0] = '\0';
	fake.consumed += fake.consume_rv == 0;
	return fake.consume_rv;
}

/* --- the registry's part -------------------------------------------------- */

static struct {
	unsigned applied;
	unsigned renewals;
	uint64_t epoch;
	uint64_t base;
} heard;

static void apply(void *user, uint64_t number, uint64_t accepted_ns,
		  const struct record_publication *p)
{
	(void)user, (void)number, (void)accepted_ns, (void)p;
	heard.applied++;
}
static void applied(void *user, const struct record *r, uint64_t number)
{
	(void)user, (void)r, (void)number;
}
static void renew(void *user, uint64_t epoch, uint64_t base)
{
	(void)user;
	heard.renewals++;
	heard.epoch = epoch;
	heard.base = base;
}
static void reached(void *user, uint64_t number)
{
	(void)user, (void)number;
}
static bool is_full;
static bool has_room(void *user, size_t bytes)
{
	(void)user, (void)bytes;
	return !is_full;
}

static struct bus *bus;
static struct nats *const connection = (struct nats *)&fake;

static int open_bus(void **state)
{
	(void)state;
	(void)members;
	memset(&fake, 0, sizeof fake);
	memset(&heard, 0, sizeof heard);
	if (open_boxes(SIZE_MAX) != 0 || new_registry(0, 0, 0) != 0)
		return -1;
	bus = calloc(1, sizeof *bus);
	bus->owner = uv_thread_self();
	bus->options = (struct bus_options){.stream = "S",
					    .timeout_ms = 5000,
					    .pending_bytes = 1000,
					    .history_ttl_ms = 60000,
					    .body_max_bytes = 1024,
					    .mailboxes = box_pointers,
					    .sink = {.has_room = has_room,
						     .apply = apply,
						     .applied = applied,
						     .renew = renew,
						     .reached = reached}};
	is_full = false;
	bus->record_max = 10000;
	bus->end = &bus->first;
	bus->backlog.end = &bus->backlog.first;
	bus->servers_count = 1;
	bus->node = 1;
	log_want_stream(&bus->options, &fake.stream);
	fake.stream.first_sequence = 1;
	fake.stream.last_sequence = 10;
	fake.marker = (struct record){.kind = RECORD_MARKER, .epoch = MINE};
	fake.marker_sequence = 10;
	lock_init(&bus->lock, LOCK_LEAF);
	counts_new(&bus->counts, 1);
	uv_loop_init(&bus->loop);
	uv_update_time(&bus->loop);
	uv_async_init(&bus->loop, &bus->wake, NULL);
	bus->nats = connection;
	return 0;
}

/* Frees the answers, which the workers would. */
static unsigned take_answers(enum bus_outcome *outcome, uint64_t *number)
{
	struct mail mail;
	unsigned n = 0;

	if (!mailbox_take(&boxes[0], &mail))
		return 0;
	while (mail.notes != NULL) {
		struct bus_request *r = (struct bus_request *)mail.notes;
		mail.notes = mail.notes->next;
		*outcome = r->outcome;
		*number = r->number;
		free(r);
		n++;
	}
	return n;
}

static int close_bus(void **state)
{
	enum bus_outcome outcome;
	uint64_t number;

	bus->nats = NULL;
	backlog_drop(bus);
	window_give_up(bus);
	window_fini(&bus->window);
	take_answers(&outcome, &number);
	assert_int_equal(atomic_load(&bus->pending_bytes), 0);
	uv_close((uv_handle_t *)&bus->wake, NULL);
	uv_run(&bus->loop, UV_RUN_DEFAULT);
	uv_loop_close(&bus->loop);
	lock_fini(&bus->lock);
	counts_free(bus->counts);
	buf_fini(&bus->scratch);
	free(bus);
	return close_registry(state);
}

/* As if it had applied the log up to `sequence`, in its epoch. */
static void go_live(uint64_t sequence, uint64_t nonce)
{
	bus->log = (struct bus_log){.epoch = MINE,
				    .applied = sequence,
				    .applied_nonce = nonce,
				    .marker = sequence < 10 ? sequence : 10,
				    .marker_ms = uv_now(&bus->loop)};
	bus_set_state(bus, BUS_STATE_LIVE);
}

static void hear(uint64_t sequence, uint64_t consumer, const struct record *r)
{
	struct buf bytes = {0};

	assert_int_equal(write_record(&bytes, r), 0);
	const struct nats_mail m = {.event = NATS_RECORD,
				    .data = {bytes.bytes, bytes.len},
				    .sequence = sequence,
				    .consumer_sequence = consumer,
				    .is_last = true};
	log_on_record(bus, &m);
	buf_fini(&bytes);
}

static void hear_nonce(uint64_t sequence, uint64_t consumer, uint64_t nonce)
{
	const struct record r = {
		.kind = RECORD_PUBLICATIONS, .epoch = MINE, .nonce = nonce};
	hear(sequence, consumer, &r);
}

static enum bus_join ack(enum nats_ack what, uint64_t sequence)
{
	const struct nats_mail m = {.event = NATS_ACK,
				    .token = fake.token,
				    .ack = what,
				    .sequence = sequence};
	return window_on_ack(bus, &m);
}

static void ask(uint32_t flags)
{
	const struct record none = {.kind = RECORD_PUBLICATIONS};
	struct buf bytes = {0};

	assert_int_equal(record_begin(&bytes, &none), 0);
	size_t head = bytes.len;
	bytes.len = 0;
	assert_int_equal(write_record(&bytes, &none), 0);
	struct bus_request *r = calloc(1, sizeof *r + bytes.len - head);
	r->count = 1;
	r->flags = flags;
	r->len = bytes.len - head;
	memcpy(r->body, bytes.bytes + head, r->len);
	buf_fini(&bytes);
	assert_int_equal(bus_publish(bus, r), 0);
}

static void expect_answer(enum bus_outcome outcome, uint64_t sequence)
{
	enum bus_outcome was;
	uint64_t number;

	assert_int_equal(take_answers(&was, &number), 1);
	assert_int_equal(was, outcome);
	if (outcome <= BUS_REPEATED)
		assert_int_equal(number, record_number(sequence, 0));
}

static void expect_none(void)
{
	enum bus_outcome outcome;
	uint64_t number;
	assert_int_equal(take_answers(&outcome, &number), 0);
}

static void make_late(void)
{
	for (unsigned i = 0; i < WINDOW_RECORDS; i++)
		bus->window.slots[i].due_ms = uv_now(&bus->loop);
	window_tick(bus);
}

/* --- joining -------------------------------------------------------------- */

static void a_log_that_is_what_it_was_is_read_on(void **state)
{
	(void)state;
	go_live(8, fake.nonce = 5);
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.from.sequence, 9);
	assert_int_equal(heard.renewals, 0);
}

static void another_record_where_one_was_applied_begins_an_epoch(void **state)
{
	(void)state;
	go_live(8, 5);
	fake.nonce = 6;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.sent.kind, RECORD_MARKER);
	assert_true(fake.sent.flags & RECORD_IS_NEW);
	assert_int_equal(fake.expected, 10); /* compare and set */
}

static void a_log_that_ends_before_what_was_applied_begins_one(void **state)
{
	(void)state;
	go_live(12, 5);
	log_join(bus, BUS_JOIN_again);
	assert_true(fake.sent.flags & RECORD_IS_NEW);
}

static void a_log_without_a_marker_begins_one(void **state)
{
	(void)state;
	fake.marker_sequence = 0;
	log_join(bus, BUS_JOIN_again);
	assert_true(fake.sent.flags & RECORD_IS_NEW);
	assert_int_equal(fake.expected, 0);
}

static void whoever_loses_the_race_for_an_epoch_reads_the_others(void **state)
{
	(void)state;
	a_log_that_ends_before_what_was_applied_begins_one(state);
	assert_int_not_equal(ack(NATS_ACK_SEQUENCE, 0), BUS_JOIN_NONE);
	fake.marker.epoch = OTHERS;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.published, 1);
	assert_int_equal(bus->log.epoch, OTHERS);
}

static void the_epoch_of_others_is_read_from_its_marker_on(void **state)
{
	(void)state;
	go_live(8, 5);
	fake.marker.epoch = OTHERS;
	fake.marker.begins = 9;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.from.sequence, 9);
	assert_int_equal(heard.renewals, 0);
	const struct record marker = {.kind = RECORD_MARKER,
				      .flags = RECORD_IS_NEW | RECORD_SUMS_NEW,
				      .epoch = OTHERS};
	hear(9, 1, &marker);
	assert_int_equal(heard.renewals, 1); /* once */
	assert_int_equal(heard.epoch, OTHERS);
	assert_int_equal(heard.base, record_number(9, 0) - 1);
}

/* It would read the log from its first record, and tell all of it again. */
static void an_epoch_that_was_not_begun_is_begun_again(void **state)
{
	(void)state;
	go_live(8, 5);
	fake.marker.epoch = OTHERS;
	fake.marker.begins = 9;
	fake.consume_rv = UV_EAGAIN;
	log_join(bus, BUS_JOIN_again);
	fake.consume_rv = 0;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.from.sequence, 9);
}

static void a_new_node_watches_a_log_that_nobody_renews(void **state)
{
	(void)state;
	fake.now_ns = (BUS_VOUCHED_MS + 1000) * 1000000ULL;
	log_join(bus, BUS_JOIN_again);
	assert_int_not_equal(bus->wait_until_ms, 0);
	assert_int_equal(fake.published, 0);
	bus->wait_until_ms = 1;
	log_join(bus, BUS_JOIN_again);
	assert_true(fake.sent.flags & RECORD_IS_NEW);
}

/* --- reading -------------------------------------------------------------- */

static void a_hole_in_the_log_is_told(void **state)
{
	(void)state;
	go_live(10, 5);
	hear_nonce(14, 1, 1);
	assert_int_equal(atomic_load(&bus->lost_records), 3);
	assert_int_equal(heard.renewals, 1);
	assert_int_equal(heard.base, record_number(13, 0));
}

static void a_message_that_the_consumer_lost_is_asked_for_again(void **state)
{
	(void)state;
	go_live(10, fake.nonce = 5);
	hear_nonce(12, 2, 1);
	assert_int_equal(fake.from.sequence, 11);
	assert_int_equal(heard.renewals, 0);
}

static void another_sum_begins_an_epoch(void **state)
{
	const struct record marker = {.kind = RECORD_MARKER,
				      .epoch = MINE,
				      .previous = 10,
				      .sum = 77};
	(void)state;
	go_live(10, 5);
	bus->log.is_sum_known = true;
	hear(11, 1, &marker);
	assert_int_equal(atomic_load(&bus->divergences), 1);
	assert_true(fake.sent.flags & RECORD_IS_NEW);
	assert_int_equal(fake.expected, 11);
	assert_int_equal(bus->state, BUS_STATE_JOIN);
}

static void where_all_have_lost_a_part_the_sum_begins_anew(void **state)
{
	(void)state;
	go_live(10, 5);
	hear_nonce(14, 1, 1);
	bus->heard_ms = uv_now(&bus->loop);
	bus->log.marker_ms = uv_now(&bus->loop) - BUS_NO_SUM_MS - 1000;
	log_tick(bus);
	assert_int_equal(fake.sent.kind, RECORD_MARKER);
	assert_int_equal(fake.sent.epoch, MINE);
	assert_true(fake.sent.flags & RECORD_SUMS_NEW);
}

static void what_is_no_record_is_skipped(void **state)
{
	static const char illegal[] = "\xff";
	const struct record r = {.kind = RECORD_PUBLICATIONS, .epoch = MINE};
	const struct record_publication p = {.publisher = SPAN("a"),
					     .topic = SPAN("t"),
					     .data = {illegal, 1}};
	struct buf bytes = {0};
	(void)state;
	go_live(10, 5);
	assert_int_equal(record_begin(&bytes, &r), 0);
	assert_int_equal(record_add(&bytes, 0, &p), 0);
	const struct nats_mail m = {.event = NATS_RECORD,
				    .data = {bytes.bytes, bytes.len},
				    .sequence = 11,
				    .consumer_sequence = 1,
				    .is_last = true};
	log_on_record(bus, &m);
	buf_fini(&bytes);
	assert_int_equal(heard.applied, 0);
	assert_int_equal(bus->log.applied, 11);
	hear_nonce(12, 2, 1);
	assert_int_equal(heard.applied, 1);
	assert_int_equal(heard.renewals, 0);
}

/* Who can write to the log can write what is no marker where they are. */
static void what_is_no_marker_does_not_end_the_renewing(void **state)
{
	const struct nats_mail m = {.event = NATS_RECORD,
				    .subject = SPAN(BUS_MARKERS),
				    .data = SPAN("x"),
				    .sequence = 11,
				    .consumer_sequence = 1,
				    .is_last = true};
	(void)state;
	go_live(10, 5);
	bus->log.is_sum_known = true;
	log_on_record(bus, &m);
	bus->heard_ms = uv_now(&bus->loop);
	bus->log.marker_ms = uv_now(&bus->loop) - BUS_MARKER_MS - 1000;
	log_tick(bus);
	assert_int_equal(fake.expected, 11); /* compare and set */
	assert_int_equal(fake.sent.previous, 10);
	assert_int_equal(fake.sent.epoch, MINE);
}

static void what_is_no_marker_does_not_make_a_log_another(void **state)
{
	(void)state;
	go_live(8, fake.nonce = 5);
	fake.is_marker_none = true;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(fake.from.sequence, 9);
	assert_int_equal(fake.published, 0);
}

static void a_new_node_waits_for_a_marker_behind_what_is_none(void **state)
{
	(void)state;
	fake.is_marker_none = true;
	log_join(bus, BUS_JOIN_again);
	assert_int_not_equal(bus->wait_until_ms, 0);
	assert_int_equal(fake.published, 0);
	fake.is_marker_none = false;
	fake.marker_sequence = 11;
	log_join(bus, BUS_JOIN_again);
	assert_int_equal(bus->log.epoch, MINE);
	assert_int_equal(fake.published, 0);
}

/* It answers, and makes consumers, but nothing comes of them. */
static void a_server_whose_consumers_stay_silent_is_left(void **state)
{
	(void)state;
	go_live(10, fake.nonce = 5);
	for (unsigned i = 0; i < BUS_SILENCES_MAX; i++) {
		bus->heard_ms = uv_now(&bus->loop) - BUS_SILENT_MS - 1;
		log_tick(bus);
		assert_non_null(bus->nats);
	}
	bus->heard_ms = uv_now(&bus->loop) - BUS_SILENT_MS - 1;
	log_tick(bus);
	assert_null(bus->nats);
	assert_int_equal(bus->state, BUS_STATE_DOWN);
}

/* --- waiting for workers -------------------------------------------------- */

/* As it comes from nats.c, to be handled in its turn. */
static void queue(uint64_t sequence, uint64_t consumer, const struct record *r)
{
	struct nats_mail *m = calloc(1, sizeof *m);
	struct buf bytes = {0};

	assert_int_equal(write_record(&bytes, r), 0);
	m->event = NATS_RECORD;
	m->message = bytes.bytes;
	m->data = (struct span){bytes.bytes, bytes.len};
	m->sequence = sequence;
	m->consumer_sequence = consumer;
	m->is_last = true;
	backlog_add(bus, m, bus->consumers);
}

static const struct record publication = {.kind = RECORD_PUBLICATIONS,
					  .epoch = MINE};

static void a_record_waits_while_a_mailbox_is_full(void **state)
{
	(void)state;
	go_live(10, 5);
	queue(11, 1, &publication);
	queue(12, 2, &publication);
	is_full = true;
	assert_int_equal(backlog_work(bus), BACKLOG_STALLED);
	assert_int_equal(heard.applied, 0);
	is_full = false;
	assert_int_equal(backlog_work(bus), BACKLOG_DONE);
	assert_int_equal(heard.applied, 2);
}

static void a_worker_is_waited_for_a_second_a_record(void **state)
{
	(void)state;
	go_live(10, 5);
	queue(11, 1, &publication);
	queue(12, 2, &publication);
	is_full = true;
	assert_int_equal(backlog_work(bus), BACKLOG_STALLED);
	bus->backlog.stalled_ms -= 1000;
	assert_int_equal(backlog_work(bus), BACKLOG_STALLED);
	assert_int_equal(heard.applied, 1);
}

/* Acks and time-outs have their turn meanwhile, and nothing is a silence. */
static void a_stalled_log_is_neither_silent_nor_stale(void **state)
{
	(void)state;
	go_live(10, 5);
	queue(11, 1, &publication);
	is_full = true;
	backlog_work(bus);
	bus->log.marker_ms = uv_now(&bus->loop) - BUS_STALE_MS - 1000;
	log_tick(bus);
	assert_int_equal(bus->state, BUS_STATE_LIVE);
	assert_int_equal(fake.published, 0);
	assert_false(atomic_load(&bus->is_up)); /* publishing is refused */
	assert_true(bus_lag_ms(bus) < 60000);
	assert_int_not_equal(atomic_load(&bus->behind_ms), 0);
}

static void what_waits_is_dropped_where_the_log_is_joined_again(void **state)
{
	(void)state;
	go_live(10, fake.nonce = 5);
	queue(11, 1, &publication);
	log_join(bus, BUS_JOIN_again);
	bus->consumers++; /* which nats_consume() does */
	assert_int_equal(backlog_work(bus), BACKLOG_DONE);
	assert_int_equal(heard.applied, 0);
}

/* --- proving the epoch ---------------------------------------------------- */

static void queue_marker(uint64_t sequence, uint64_t consumer)
{
	const struct record marker = {.kind = RECORD_MARKER, .epoch = MINE};
	queue(sequence, consumer, &marker);
	backlog_work(bus);
}

/* A process that was stopped finds old markers in its queue. */
static void markers_of_before_the_leader_was_asked_prove_nothing(void **state)
{
	(void)state;
	go_live(10, 5);
	uint64_t ticket = bus_ask_epoch(bus);
	queue_marker(11, 1);
	fake.marker_sequence = 14;
	log_prove(bus);
	queue_marker(12, 2);
	queue_marker(13, 3);
	queue_marker(14, 4);
	assert_false(bus_knows_epoch(bus, ticket));
	queue_marker(15, 5);
	assert_true(bus_knows_epoch(bus, ticket));
	assert_false(bus_knows_epoch(bus, bus_ask_epoch(bus)));
}

static void another_epoch_at_the_leader_is_read(void **state)
{
	(void)state;
	go_live(10, 5);
	bus_ask_epoch(bus);
	fake.marker.epoch = OTHERS;
	log_prove(bus);
	assert_int_equal(bus->log.epoch, OTHERS);
	assert_int_equal(bus->state, BUS_STATE_WARMING);
}

static void a_proof_ends_where_the_log_is_joined_again(void **state)
{
	(void)state;
	go_live(10, fake.nonce = 5);
	uint64_t ticket = bus_ask_epoch(bus);
	log_prove(bus);
	log_join(bus, BUS_JOIN_again);
	queue_marker(11, 1);
	assert_false(bus_knows_epoch(bus, ticket));
}

/* --- publishing ----------------------------------------------------------- */

static void what_nobody_takes_is_sent_again_until_it_is_taken(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	char first[WINDOW_ID_MAX];
	strcpy(first, fake.message_id);
	ack(NATS_ACK_NOBODY, 0);
	expect_none();
	bus->window.slots[0].retry_ms = 1;
	window_tick(bus);
	assert_int_equal(fake.published, 2);
	assert_string_equal(fake.message_id, first);
	ack(NATS_ACK_OK, 11);
	expect_answer(BUS_PUBLISHED, 11);
}

static void what_nobody_took_in_time_is_refused(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	ack(NATS_ACK_NOBODY, 0);
	make_late();
	expect_answer(BUS_REFUSED, 0);
}

static void what_nobody_has_answered_in_time_is_unknown(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	make_late();
	expect_answer(BUS_UNKNOWN, 0);
}

/* The leader has noted the Msg-Id; the others may never agree. */
static void a_duplicate_without_a_place_is_no_success(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	ack(NATS_ACK_UNCERTAIN, 0);
	expect_none();
	make_late();
	expect_answer(BUS_UNKNOWN, 0);
}

static void a_duplicate_of_its_own_is_published(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	uint64_t nonce = fake.sent.nonce;
	ack(NATS_ACK_DUPLICATE, 11);
	expect_none(); /* whose it is shows when it is applied */
	hear_nonce(11, 1, nonce);
	expect_answer(BUS_PUBLISHED, 11);
}

static void a_duplicate_of_anothers_key_is_repeated(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(RECORD_KEYED);
	window_fill(bus);
	ack(NATS_ACK_DUPLICATE, 11);
	hear_nonce(11, 1, 1);
	expect_answer(BUS_REPEATED, 11);
}

static void a_number_of_before_is_never_answered(void **state)
{
	(void)state;
	go_live(10, 5);
	ask(0);
	window_fill(bus);
	assert_int_not_equal(ack(NATS_ACK_OK, 3), BUS_JOIN_NONE);
	expect_answer(BUS_UNKNOWN, 0);
}

static void what_waits_goes_in_one_record(void **state)
{
	enum bus_outcome outcome;
	uint64_t number;
	(void)state;
	go_live(10, 5);
	ask(0);
	ask(0);
	ask(RECORD_KEYED);
	window_fill(bus);
	assert_int_equal(fake.published, 2); /* who has a key goes alone */
	assert_int_equal(bus->window.used, 2);
	fake.token = bus->window.slots[0].token;
	ack(NATS_ACK_OK, 11);
	assert_int_equal(take_answers(&outcome, &number), 2);
	assert_int_equal(number, record_number(11, 1));
}

static void what_waits_is_bounded(void **state)
{
	(void)state;
	go_live(10, 5);
	struct bus_request *big = calloc(1, sizeof *big + 2000);
	big->count = 1;
	big->len = 2000;
	assert_int_equal(bus_publish(bus, big), UV_ENOBUFS);
	free(big);
	assert_int_equal(atomic_load(&bus->pending_bytes), 0);
}

/* The server would drop the connection, or nats.c refuse it for ever. */
static void what_fits_no_message_is_refused_at_once(void **state)
{
	(void)state;
	go_live(10, 5);
	bus->options.pending_bytes = 100000;
	struct bus_request *big = calloc(1, sizeof *big + 10000);
	big->count = 1;
	big->len = 10000;
	assert_int_equal(bus_publish(bus, big), UV_E2BIG);
	free(big);
	assert_int_equal(atomic_load(&bus->pending_bytes), 0);
}

static void tick(void *b)
{
	log_tick(b);
}

static void fill(void *b)
{
	window_fill(b);
}

static void work_off(void *b)
{
	backlog_work(b);
}

static void only_its_thread_touches_the_bus(void **state)
{
	(void)state;
	assert_true(aborts_elsewhere(tick, bus));
	assert_true(aborts_elsewhere(fill, bus));
	assert_true(aborts_elsewhere(work_off, bus));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_bus, close_bus)
	const struct CMUnitTest tests[] = {
		TEST(a_log_that_is_what_it_was_is_read_on),
		TEST(another_record_where_one_was_applied_begins_an_epoch),
		TEST(a_log_that_ends_before_what_was_applied_begins_one),
		TEST(a_log_without_a_marker_begins_one),
		TEST(whoever_loses_the_race_for_an_epoch_reads_the_others),
		TEST(the_epoch_of_others_is_read_from_its_marker_on),
		TEST(an_epoch_that_was_not_begun_is_begun_again),
		TEST(a_new_node_watches_a_log_that_nobody_renews),
		TEST(a_hole_in_the_log_is_told),
		TEST(a_message_that_the_consumer_lost_is_asked_for_again),
		TEST(another_sum_begins_an_epoch),
		TEST(where_all_have_lost_a_part_the_sum_begins_anew),
		TEST(what_is_no_record_is_skipped),
		TEST(what_is_no_marker_does_not_end_the_renewing),
		TEST(what_is_no_marker_does_not_make_a_log_another),
		TEST(a_new_node_waits_for_a_marker_behind_what_is_none),
		TEST(a_server_whose_consumers_stay_silent_is_left),
		TEST(a_record_waits_while_a_mailbox_is_full),
		TEST(a_worker_is_waited_for_a_second_a_record),
		TEST(a_stalled_log_is_neither_silent_nor_stale),
		TEST(what_waits_is_dropped_where_the_log_is_joined_again),
		TEST(markers_of_before_the_leader_was_asked_prove_nothing),
		TEST(another_epoch_at_the_leader_is_read),
		TEST(a_proof_ends_where_the_log_is_joined_again),
		TEST(what_nobody_takes_is_sent_again_until_it_is_taken),
		TEST(what_nobody_took_in_time_is_refused),
		TEST(what_nobody_has_answered_in_time_is_unknown),
		TEST(a_duplicate_without_a_place_is_no_success),
		TEST(a_duplicate_of_its_own_is_published),
		TEST(a_duplicate_of_anothers_key_is_repeated),
		TEST(a_number_of_before_is_never_answered),
		TEST(what_waits_goes_in_one_record),
		TEST(what_waits_is_bounded),
		TEST(what_fits_no_message_is_refused_at_once),
		TEST(only_its_thread_touches_the_bus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
