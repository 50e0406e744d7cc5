/* test_auth_cache.c - what src/access/auth_cache.c promises, by hand and with
 * threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sched.h>
#include <unistd.h>

#include "aborts.h"
#include "access/auth_cache.h"
#include "base/memory.h"
#include "oom.h"

#define WORKERS     4
#define CHECKS_MAX  8
#define ENTRIES_MAX 300 /* more than some buckets' share */
#define TTL_MS      1000

struct world {
	uv_loop_t loop;
	struct mailbox boxes[WORKERS];
	struct mailbox *mailboxes[WORKERS];
	struct auth_cache *auth_cache;
	size_t memory_used;
	unsigned queue_max; /* of the next that is opened */
};

static size_t settled_memory_used(void)
{
	memory_settle();
	return memory_used();
}

static void on_wake(uv_async_t *async)
{
	(void)async;
}

static void open_auth_cache(struct world *w, unsigned checks_max,
			    uint64_t ttl_ms, size_t entries_max)
{
	struct auth_cache_options options = {.checks_max = checks_max,
					     .queue_max = w->queue_max,
					     .ttl_ms = ttl_ms,
					     .entries_max = entries_max,
					     .mailboxes = w->mailboxes};

	auth_cache_free(w->auth_cache);
	assert_int_equal(auth_cache_new(&w->auth_cache, &options), 0);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	alarm(120); /* a note that is lost fails the program */
	assert_int_equal(uv_loop_init(&w->loop), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(
			mailbox_open(&w->boxes[i], &w->loop, i, 1000, on_wake),
			0);
		w->mailboxes[i] = &w->boxes[i];
	}
	w->memory_used = settled_memory_used();
	open_auth_cache(w, CHECKS_MAX, TTL_MS, ENTRIES_MAX);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	auth_cache_free(w->auth_cache);
	assert_int_equal(settled_memory_used(), w->memory_used);
	for (unsigned i = 0; i < WORKERS; i++)
		if (!uv_is_closing((uv_handle_t *)&w->boxes[i].async))
			mailbox_close(&w->boxes[i]);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	for (unsigned i = 0; i < WORKERS; i++)
		mailbox_fini(&w->boxes[i]);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	free(w);
	alarm(0);
	return 0;
}

static struct auth_cache_id id_of(uint32_t n)
{
	struct auth_cache_id id;

	digest_sha256(&n, sizeof n, id.bytes);
	return id;
}

static int ask_at(struct world *w, uint32_t n, unsigned worker, uint64_t now_ms)
{
	struct auth_cache_id id = id_of(n);
	return auth_cache_ask(w->auth_cache, &id, worker, now_ms);
}

static int ask(struct world *w, uint32_t n, unsigned worker)
{
	return ask_at(w, n, worker, 0);
}

static void answer_at(struct world *w, uint32_t n, enum auth_answer verdict,
		      uint64_t now_ms)
{
	struct auth_cache_id id = id_of(n);
	auth_cache_answer(w->auth_cache, &id, verdict, now_ms);
}

static void answer(struct world *w, uint32_t n, enum auth_answer verdict)
{
	answer_at(w, n, verdict, 0);
}

static bool give_up(struct world *w, uint32_t n)
{
	struct auth_cache_id id = id_of(n);
	return auth_cache_give_up(w->auth_cache, &id);
}

/* From asking to a yes, at `now_ms`. */
static void learn(struct world *w, uint32_t n, uint64_t now_ms)
{
	assert_int_equal(ask_at(w, n, 0, now_ms), 0);
	answer_at(w, n, AUTH_YES, now_ms);
}

/* The mail of `worker` is one note, with this in it. */
static void assert_told(struct world *w, unsigned worker, uint32_t n,
			enum auth_answer verdict)
{
	struct auth_cache_id id = id_of(n);
	struct auth_cache_note *note;
	struct mail mail;

	assert_true(mailbox_take(w->mailboxes[worker], &mail));
	assert_non_null(mail.notes);
	assert_null(mail.notes->next);
	note = (struct auth_cache_note *)(void *)mail.notes;
	assert_memory_equal(&note->id, &id, sizeof id);
	assert_false(note->is_turn);
	assert_int_equal(note->answer, verdict);
	assert_int_equal(note->worker, worker);
	free(note);
}

/* The mail of `worker` is one note, which says that it is to ask `n`. */
static void assert_turn(struct world *w, unsigned worker, uint32_t n)
{
	struct auth_cache_id id = id_of(n);
	struct auth_cache_note *note;
	struct mail mail;

	assert_true(mailbox_take(w->mailboxes[worker], &mail));
	assert_non_null(mail.notes);
	assert_null(mail.notes->next);
	note = (struct auth_cache_note *)(void *)mail.notes;
	assert_memory_equal(&note->id, &id, sizeof id);
	assert_true(note->is_turn);
	free(note);
}

static void assert_not_told(struct world *w, unsigned worker)
{
	assert_false(mailbox_is_waiting(w->mailboxes[worker]));
}

/* --- asking and waiting --------------------------------------------------- */

static void the_first_that_wants_to_know_asks(void **state)
{
	struct world *w = *state;

	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	assert_int_equal(ask(w, 1, 2), 0);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	answer(w, 1, AUTH_NO);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	assert_not_told(w, 2);
}

static void others_wait_and_are_told_what_came_of_it(void **state)
{
	static const enum auth_answer auth_cache[] = {AUTH_YES, AUTH_NO,
						      AUTH_FAILED};
	struct world *w = *state;

	for (uint32_t n = 0; n < 3; n++) {
		assert_int_equal(ask(w, n, 1), 0);
		assert_int_equal(ask(w, n, 0), UV_EAGAIN);
		assert_int_equal(ask(w, n, 3), UV_EAGAIN);
		assert_int_equal(auth_cache_asked(w->auth_cache), 1);
		assert_not_told(w, 0);
		answer(w, n, auth_cache[n]);
		assert_told(w, 0, n, auth_cache[n]);
		assert_not_told(w, 1);
		assert_not_told(w, 2);
		assert_told(w, 3, n, auth_cache[n]);
	}
}

static void what_differs_in_any_byte_is_asked_for_itself(void **state)
{
	struct world *w = *state;

	open_auth_cache(w, DIGEST_SHA256_BYTES + 1, TTL_MS, ENTRIES_MAX);
	for (unsigned i = 0; i <= DIGEST_SHA256_BYTES; i++) {
		struct auth_cache_id id = {{0}};
		if (i < DIGEST_SHA256_BYTES)
			id.bytes[i] = 1;
		assert_int_equal(auth_cache_ask(w->auth_cache, &id, 0, 0), 0);
	}
	for (unsigned i = 0; i <= DIGEST_SHA256_BYTES; i++) {
		struct auth_cache_id id = {{0}};
		if (i < DIGEST_SHA256_BYTES)
			id.bytes[i] = 1;
		assert_true(auth_cache_give_up(w->auth_cache, &id));
	}
}

static void after_a_no_it_is_asked_anew(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, 1, 0), 0);
	assert_int_equal(ask(w, 1, 1), UV_EAGAIN);
	answer(w, 1, AUTH_NO);
	/* Its note is on the way, but it is not the one that asks now. */
	assert_int_equal(ask(w, 1, 2), 0);
	assert_told(w, 1, 1, AUTH_NO);
	assert_int_equal(ask(w, 1, 1), UV_EAGAIN);
	answer(w, 1, AUTH_FAILED);
	assert_told(w, 1, 1, AUTH_FAILED);
}

static void one_check_too_many_is_refused(void **state)
{
	struct world *w = *state;

	learn(w, 100, 0);
	for (uint32_t n = 0; n < CHECKS_MAX; n++)
		assert_int_equal(ask(w, n, n % WORKERS), 0);
	assert_int_equal(ask(w, CHECKS_MAX, 0), UV_EBUSY);
	/* What costs nothing goes on. */
	assert_int_equal(ask(w, 100, 0), UV_EALREADY);
	assert_int_equal(ask(w, 0, 1), UV_EAGAIN);
	answer(w, 0, AUTH_YES);
	assert_int_equal(ask(w, CHECKS_MAX, 0), 0);
	assert_int_equal(ask(w, CHECKS_MAX + 1, 0), UV_EBUSY);
	for (uint32_t n = 1; n <= CHECKS_MAX; n++)
		assert_true(give_up(w, n));
}

static bool leave_queue(struct world *w, uint32_t n)
{
	struct auth_cache_id id = id_of(n);
	return auth_cache_leave_queue(w->auth_cache, &id);
}

static bool expire(struct world *w, uint32_t n)
{
	struct auth_cache_id id = id_of(n);
	return auth_cache_expire(w->auth_cache, &id);
}

static void open_queue(struct world *w, unsigned queue_max)
{
	w->queue_max = queue_max;
	open_auth_cache(w, 1, TTL_MS, ENTRIES_MAX);
}

static void whoever_is_queued_has_its_turn_in_order(void **state)
{
	struct world *w = *state;

	open_queue(w, 3);
	assert_int_equal(ask(w, 0, 0), 0);
	for (uint32_t n = 1; n <= 3; n++)
		assert_int_equal(ask(w, n, n), AUTH_CACHE_QUEUED);
	assert_int_equal(ask(w, 4, 0), UV_EBUSY);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	assert_int_equal(auth_cache_queued(w->auth_cache), 3);
	/* One that is queued can be waited for. */
	assert_int_equal(ask(w, 2, 0), UV_EAGAIN);
	answer(w, 0, AUTH_NO);
	assert_turn(w, 1, 1);
	assert_not_told(w, 2);
	assert_int_equal(ask(w, 4, 0), AUTH_CACHE_QUEUED);
	assert_true(give_up(w, 1));
	assert_turn(w, 2, 2);
	answer(w, 2, AUTH_YES);
	assert_told(w, 0, 2, AUTH_YES);
	assert_turn(w, 3, 3);
	answer(w, 3, AUTH_YES);
	assert_turn(w, 0, 4);
	answer(w, 4, AUTH_FAILED);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	assert_int_equal(auth_cache_queued(w->auth_cache), 0);
	assert_int_equal(auth_cache_kept(w->auth_cache), 2);
}

static void whoever_is_queued_may_leave_until_its_turn_has_come(void **state)
{
	struct world *w = *state;

	open_queue(w, 8);
	assert_int_equal(ask(w, 0, 0), 0);
	for (uint32_t n = 1; n <= 4; n++)
		assert_int_equal(ask(w, n, 1), AUTH_CACHE_QUEUED);
	assert_int_equal(ask(w, 2, 2), UV_EAGAIN);
	assert_true(leave_queue(w, 1));
	assert_false(leave_queue(w, 2)); /* another worker waits */
	assert_true(expire(w, 2));
	assert_told(w, 2, 2, AUTH_BUSY);
	answer(w, 0, AUTH_NO);
	assert_false(leave_queue(w, 3));
	assert_false(expire(w, 3));
	assert_turn(w, 1, 3);
	/* One that ends while it is queued, like all that its worker asks. */
	answer(w, 4, AUTH_FAILED);
	assert_int_equal(auth_cache_queued(w->auth_cache), 0);
	answer(w, 3, AUTH_NO);
	assert_not_told(w, 1);
}

/* As all end that a worker asks, when it closes. */
static void one_that_ends_while_it_is_queued_gives_no_turn(void **state)
{
	struct world *w = *state;

	open_queue(w, 8);
	assert_int_equal(ask(w, 0, 0), 0);
	assert_int_equal(ask(w, 1, 1), AUTH_CACHE_QUEUED);
	assert_int_equal(ask(w, 2, 2), AUTH_CACHE_QUEUED);
	answer(w, 1, AUTH_FAILED);
	assert_not_told(w, 2);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	assert_int_equal(auth_cache_queued(w->auth_cache), 1);
	answer(w, 0, AUTH_NO);
	assert_turn(w, 2, 2);
	answer(w, 2, AUTH_NO);
}

static void without_memory_nobody_is_queued(void **state)
{
	struct world *w = *state;
	struct auth_cache_id id = id_of(1);

	OOM_OR_SKIP();
	open_queue(w, 8);
	assert_int_equal(ask(w, 0, 0), 0);
	for (unsigned nth = 1; nth <= 2; nth++) {
		oom_fail_at(nth);
		int rv = auth_cache_ask(w->auth_cache, &id, 1, 0);
		assert_true(oom_end());
		assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(auth_cache_queued(w->auth_cache), 0);
	}
	answer(w, 0, AUTH_NO);
	assert_not_told(w, 1);
}

static void giving_up_is_granted_while_nobody_waits(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, 1, 0), 0);
	assert_true(give_up(w, 1));
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	assert_int_equal(ask(w, 1, 1), 0);
	assert_int_equal(ask(w, 1, 0), UV_EAGAIN);
	assert_false(give_up(w, 1));
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	answer(w, 1, AUTH_YES);
	assert_told(w, 0, 1, AUTH_YES);
}

static void ask_twice(void *user)
{
	struct world *w = user;

	ask(w, 1, 0);
	ask(w, 1, 0);
}

static void answer_what_nobody_asked(void *user)
{
	struct world *w = user;

	learn(w, 1, 0);
	answer(w, 1, AUTH_NO);
}

static void a_callers_mistake_ends_the_process(void **state)
{
	assert_true(aborts(ask_twice, *state));
	assert_true(aborts(answer_what_nobody_asked, *state));
}

static void a_note_for_a_closed_mailbox_is_dropped(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, 1, 0), 0);
	assert_int_equal(ask(w, 1, 1), UV_EAGAIN);
	assert_int_equal(ask(w, 1, 2), UV_EAGAIN);
	mailbox_close(w->mailboxes[1]);
	answer(w, 1, AUTH_FAILED);
	assert_told(w, 2, 1, AUTH_FAILED);
}

/* --- keeping -------------------------------------------------------------- */

static void a_yes_is_kept_for_its_time(void **state)
{
	struct world *w = *state;

	learn(w, 1, 5000);
	assert_int_equal(auth_cache_kept(w->auth_cache), 1);
	for (unsigned worker = 0; worker < WORKERS; worker++)
		assert_int_equal(ask_at(w, 1, worker, 5000 + TTL_MS - 1),
				 UV_EALREADY);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	/* Asking for it has not made it younger. */
	assert_int_equal(ask_at(w, 1, 0, 5000 + TTL_MS), 0);
	assert_int_equal(auth_cache_kept(w->auth_cache), 0);
	answer(w, 1, AUTH_NO);
	assert_int_equal(ask_at(w, 1, 0, 5000), 0);
	assert_true(give_up(w, 1));
}

static void neither_a_no_nor_a_failure_is_kept(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, 1, 0), 0);
	answer(w, 1, AUTH_NO);
	assert_int_equal(ask(w, 2, 0), 0);
	answer(w, 2, AUTH_FAILED);
	assert_int_equal(auth_cache_kept(w->auth_cache), 0);
	assert_int_equal(ask(w, 1, 0), 0);
	assert_int_equal(ask(w, 2, 0), 0);
	assert_true(give_up(w, 1));
	assert_true(give_up(w, 2));
}

static void without_time_or_room_a_yes_is_not_kept(void **state)
{
	struct world *w = *state;

	open_auth_cache(w, CHECKS_MAX, 0, ENTRIES_MAX);
	learn(w, 1, 0);
	assert_int_equal(auth_cache_kept(w->auth_cache), 0);
	learn(w, 1, 0);
	open_auth_cache(w, CHECKS_MAX, TTL_MS, 0);
	learn(w, 1, 0);
	assert_int_equal(auth_cache_kept(w->auth_cache), 0);
	learn(w, 1, 0);
}

static void as_many_as_allowed_are_kept_and_the_oldest_goes(void **state)
{
	struct world *w = *state;

	for (uint32_t n = 0; n < ENTRIES_MAX; n++)
		learn(w, n, 0);
	for (uint32_t n = 0; n < ENTRIES_MAX; n++)
		assert_int_equal(ask(w, n, 1), UV_EALREADY);
	learn(w, ENTRIES_MAX, 1);
	assert_int_equal(auth_cache_kept(w->auth_cache), ENTRIES_MAX);
	assert_int_equal(ask(w, ENTRIES_MAX, 1), UV_EALREADY);
	assert_int_equal(ask(w, 1, 1), UV_EALREADY);
	assert_int_equal(ask(w, 0, 1), 0);
	assert_true(give_up(w, 0));
}

static void what_has_expired_is_dropped_by_and_by(void **state)
{
	struct world *w = *state;

	for (uint32_t n = 0; n < ENTRIES_MAX; n++)
		learn(w, n, 0);
	/* Whatever is still there, it is a yes no more. */
	assert_int_equal(ask_at(w, ENTRIES_MAX - 1, 0, TTL_MS), 0);
	assert_true(give_up(w, ENTRIES_MAX - 1));
	for (int i = 0; i < ENTRIES_MAX; i++) {
		assert_int_equal(ask_at(w, ENTRIES_MAX, 0, TTL_MS), 0);
		assert_true(give_up(w, ENTRIES_MAX));
	}
	assert_int_equal(auth_cache_kept(w->auth_cache), 0);
}

static void an_expired_yes_that_is_asked_keeps_who_waits(void **state)
{
	struct world *w = *state;

	learn(w, 1, 0);
	learn(w, 2, 0);
	assert_int_equal(ask_at(w, 2, 1, TTL_MS), 0);
	assert_int_equal(ask_at(w, 2, 2, TTL_MS), UV_EAGAIN);
	answer_at(w, 2, AUTH_YES, 2 * TTL_MS);
	assert_told(w, 2, 2, AUTH_YES);
	assert_int_equal(ask_at(w, 2, 2, 3 * TTL_MS - 1), UV_EALREADY);
}

static void the_hash_differs_from_table_to_table(void **state)
{
	struct world *w = *state;
	struct auth_cache_id id = id_of(1);
	struct auth_cache_id other = id_of(2);
	uint64_t before = auth_cache_hash(w->auth_cache, &id);

	assert_true(before == auth_cache_hash(w->auth_cache, &id));
	assert_true(before != auth_cache_hash(w->auth_cache, &other));
	open_auth_cache(w, CHECKS_MAX, TTL_MS, ENTRIES_MAX);
	assert_true(before != auth_cache_hash(w->auth_cache, &id));
}

/* --- memory --------------------------------------------------------------- */

static void all_that_is_held_is_charged(void **state)
{
	struct world *w = *state;
	size_t empty = settled_memory_used();
	size_t kept;

	assert_true(empty > w->memory_used);
	learn(w, 1, 0);
	kept = settled_memory_used();
	assert_true(kept >= empty + sizeof(struct auth_cache_id));
	assert_int_equal(ask(w, 2, 0), 0);
	assert_int_equal(ask(w, 2, 1), UV_EAGAIN);
	assert_true(settled_memory_used() >=
		    kept + sizeof(struct auth_cache_id) +
			    sizeof(struct auth_cache_note));
	answer(w, 2, AUTH_NO);
	assert_int_equal(settled_memory_used(), kept);
	assert_told(w, 1, 2, AUTH_NO);
}

/* These make the id first: a digest without memory ends the process. */
static void without_memory_nothing_is_asked_or_waited_for(void **state)
{
	struct world *w = *state;
	struct auth_cache_id id = id_of(1);
	int rv;

	OOM_OR_SKIP();
	oom_fail_at(1);
	rv = auth_cache_ask(w->auth_cache, &id, 0, 0);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	assert_int_equal(ask(w, 1, 0), 0);
	oom_fail_at(1);
	rv = auth_cache_ask(w->auth_cache, &id, 1, 0);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	answer(w, 1, AUTH_NO);
	assert_not_told(w, 1);
}

static void an_answer_needs_no_memory(void **state)
{
	struct world *w = *state;
	struct auth_cache_id id = id_of(1);

	OOM_OR_SKIP();
	assert_int_equal(ask(w, 1, 0), 0);
	assert_int_equal(ask(w, 1, 1), UV_EAGAIN);
	oom_fail_at(1);
	auth_cache_answer(w->auth_cache, &id, AUTH_YES, 0);
	assert_false(oom_end());
	assert_told(w, 1, 1, AUTH_YES);
	assert_int_equal(ask(w, 1, 1), UV_EALREADY);
}

static void a_table_that_cannot_be_made_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct auth_cache_options options = {.checks_max = 1,
					     .mailboxes = w->mailboxes};
	struct auth_cache *v = NULL;
	unsigned nth = 0;
	int rv;

	OOM_OR_SKIP();
	do {
		oom_fail_at(++nth);
		rv = auth_cache_new(&v, &options);
		assert_int_equal(rv, oom_end() ? UV_ENOMEM : 0);
	} while (rv != 0);
	assert_int_equal(nth, 3);
	auth_cache_free(v);
}

static void freeing_nothing_is_fine(void **state)
{
	(void)state;
	auth_cache_free(NULL);
}

/* --- threads -------------------------------------------------------------- */

/* Each thread is a worker that wants to know what the others want to know too.
 * What it asks it answers, or gives up, some rounds later; the first byte of
 * the id tells the verdict. They go on until each has waited often enough. */
#define SUBJECTS  6
#define WAITS_MIN 2000

static _Atomic unsigned threads_satisfied;

enum knowledge {
	KNOWN,
	ASKING,
	WAITING
};

struct thread {
	uv_thread_t thread;
	uv_loop_t loop;
	struct mailbox *box;
	unsigned worker;
	struct auth_cache *auth_cache;
	enum knowledge knowledge[SUBJECTS];
	unsigned notes;
	unsigned waits;
	unsigned mistakes;
};

static struct auth_cache_id subject_id(uint32_t subject)
{
	struct auth_cache_id id = id_of(subject);
	id.bytes[0] = (uint8_t)subject;
	return id;
}

static enum auth_answer verdict_on(uint32_t subject)
{
	return (enum auth_answer)(subject % 3);
}

static void take_notes(struct thread *t)
{
	struct mail mail;

	mailbox_take(t->box, &mail);
	while (mail.notes != NULL) {
		struct auth_cache_note *n =
			(struct auth_cache_note *)(void *)mail.notes;
		uint32_t subject = n->id.bytes[0];
		mail.notes = n->note.next;
		t->notes++;
		t->mistakes += subject >= SUBJECTS || n->worker != t->worker ||
			       t->knowledge[subject % SUBJECTS] != WAITING ||
			       n->answer != verdict_on(subject);
		t->knowledge[subject % SUBJECTS] = KNOWN;
		free(n);
	}
}

static void start_asking(struct thread *t, uint32_t subject, uint64_t now_ms)
{
	struct auth_cache_id id = subject_id(subject);
	int rv = auth_cache_ask(t->auth_cache, &id, t->worker, now_ms);

	if (rv == 0) {
		t->knowledge[subject] = ASKING;
	} else if (rv == UV_EAGAIN) {
		t->knowledge[subject] = WAITING;
		if (++t->waits == WAITS_MIN)
			threads_satisfied++;
	} else if (rv == UV_EALREADY) {
		t->mistakes += verdict_on(subject) != AUTH_YES;
	} else {
		t->mistakes += rv != UV_EBUSY;
	}
}

static void end_asking(struct thread *t, uint32_t subject, bool gives_up,
		       uint64_t now_ms)
{
	struct auth_cache_id id = subject_id(subject);

	if (!gives_up || !auth_cache_give_up(t->auth_cache, &id))
		auth_cache_answer(t->auth_cache, &id, verdict_on(subject),
				  now_ms);
	t->knowledge[subject] = KNOWN;
}

static bool is_waiting(const struct thread *t)
{
	for (uint32_t s = 0; s < SUBJECTS; s++)
		if (t->knowledge[s] == WAITING)
			return true;
	return false;
}

static void thread_main(void *arg)
{
	struct thread *t = arg;
	uint32_t random = t->worker * 2654435761u + 1;
	uint64_t round = 0;

	mailbox_set_owner(t->box);
	for (; threads_satisfied < WORKERS; round++) {
		random = random * 1664525 + 1013904223;
		uint32_t subject = (random >> 16) % SUBJECTS;
		if (t->knowledge[subject] == KNOWN)
			start_asking(t, subject, round);
		else if (t->knowledge[subject] == ASKING)
			end_asking(t, subject, (random >> 8) % 4 == 0, round);
		take_notes(t);
		sched_yield();
	}
	for (uint32_t s = 0; s < SUBJECTS; s++)
		if (t->knowledge[s] == ASKING)
			end_asking(t, s, false, round);
	/* Its own loop sleeps until the others have posted. */
	while (is_waiting(t)) {
		uv_run(&t->loop, UV_RUN_ONCE);
		take_notes(t);
	}
	memory_settle();
}

static void open_threads(struct thread *threads, struct mailbox *boxes)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		struct thread *t = &threads[i];
		t->worker = i;
		t->box = &boxes[i];
		assert_int_equal(uv_loop_init(&t->loop), 0);
		assert_int_equal(
			mailbox_open(t->box, &t->loop, i, 1000, on_wake), 0);
	}
}

static void close_threads(struct thread *threads)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		mailbox_close(threads[i].box);
		uv_run(&threads[i].loop, UV_RUN_DEFAULT);
		mailbox_fini(threads[i].box);
		assert_int_equal(uv_loop_close(&threads[i].loop), 0);
	}
}

static void every_worker_that_waits_is_told_once_by_any_thread(void **state)
{
	struct world *w = *state;
	static struct thread threads[WORKERS];
	static struct mailbox boxes[WORKERS];
	struct mailbox *mailboxes[WORKERS] = {&boxes[0], &boxes[1], &boxes[2],
					      &boxes[3]};
	struct auth_cache_options options = {.checks_max = SUBJECTS - 1,
					     .ttl_ms = 50,
					     .entries_max = 1,
					     .mailboxes = mailboxes};

	auth_cache_free(w->auth_cache);
	assert_int_equal(auth_cache_new(&w->auth_cache, &options), 0);
	threads_satisfied = 0;
	open_threads(threads, boxes);
	for (unsigned i = 0; i < WORKERS; i++) {
		threads[i].auth_cache = w->auth_cache;
		assert_int_equal(uv_thread_create(&threads[i].thread,
						  thread_main, &threads[i]),
				 0);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		uv_thread_join(&threads[i].thread);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(threads[i].mistakes, 0);
		assert_int_equal(threads[i].notes, threads[i].waits);
	}
	close_threads(threads);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(the_first_that_wants_to_know_asks),
		TEST(others_wait_and_are_told_what_came_of_it),
		TEST(what_differs_in_any_byte_is_asked_for_itself),
		TEST(after_a_no_it_is_asked_anew),
		TEST(one_check_too_many_is_refused),
		TEST(whoever_is_queued_has_its_turn_in_order),
		TEST(whoever_is_queued_may_leave_until_its_turn_has_come),
		TEST(one_that_ends_while_it_is_queued_gives_no_turn),
		TEST(without_memory_nobody_is_queued),
		TEST(giving_up_is_granted_while_nobody_waits),
		TEST(a_callers_mistake_ends_the_process),
		TEST(a_note_for_a_closed_mailbox_is_dropped),
		TEST(a_yes_is_kept_for_its_time),
		TEST(neither_a_no_nor_a_failure_is_kept),
		TEST(without_time_or_room_a_yes_is_not_kept),
		TEST(as_many_as_allowed_are_kept_and_the_oldest_goes),
		TEST(what_has_expired_is_dropped_by_and_by),
		TEST(an_expired_yes_that_is_asked_keeps_who_waits),
		TEST(the_hash_differs_from_table_to_table),
		TEST(all_that_is_held_is_charged),
		TEST(without_memory_nothing_is_asked_or_waited_for),
		TEST(an_answer_needs_no_memory),
		TEST(a_table_that_cannot_be_made_leaves_nothing),
		cmocka_unit_test(freeing_nothing_is_fine),
		TEST(every_worker_that_waits_is_told_once_by_any_thread),
	};

	/* A sum below the base would not hide what is credited twice. */
	memory_set_limit(0, 1 << 20);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
