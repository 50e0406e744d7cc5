/* test_auth_sharing.c - checks that share a request, limits, URLs (auth.h) */

#include "access/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aborts.h"
#include "base/check.h"
#include "base/memory.h"
#include "base/version.h"
#include "oom.h"

#include "authority.h"

/* --- scripts -------------------------------------------------------------- */

/* Waits for `leave`, answers and closes: another worker's connection may be the
 * next. */
static void answer_when_told(struct authority *a, int fd)
{
	if (!read_request(a, fd))
		return;
	uv_sem_wait(&a->leave);
	authority_send_bytes(fd, a->text, a->text_len);
}

/* --- the client's side ---------------------------------------------------- */

static void close_worker(struct world *w, unsigned worker)
{
	auth_close(w->auths[worker]);
	w->auths[worker] = NULL;
}

/* --- sharing -------------------------------------------------------------- */

#define YES "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"

#define NO "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

/* All workers there are, and an authority that waits for tell(). */
static void start_workers(struct world *w, const char *text)
{
	start_world(w, answer_when_told, text, LONG_MS);
	for (unsigned i = 1; i < WORKERS; i++)
		open_worker(w, i, LONG_MS);
}

static void tell(struct world *w)
{
	uv_sem_post(&w->authority.leave);
}

static void checks_for_the_same_are_one_request(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_workers(w, YES);
	for (int i = 0; i < 3; i++) {
		authority_ask(w, &asked[i]);
		assert_int_equal(auth_was_shared(asked[i].check), i > 0);
	}
	RUN_UNTIL(w, w->authority.requests == 1);
	tell(w);
	RUN_UNTIL(w, asked[0].calls + asked[1].calls + asked[2].calls == 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(asked[i].calls, 1);
		assert_int_equal(asked[i].verdict, AUTH_YES);
	}
	assert_int_equal(w->authority.requests, 1);
}

static void checks_on_other_workers_are_the_same_request(void **state)
{
	struct world *w = *state;
	struct asked asked[2 * WORKERS] = {0};

	start_workers(w, NO);
	for (unsigned i = 0; i < 2 * WORKERS; i++) {
		asked[i].worker = i % WORKERS;
		authority_ask(w, &asked[i]);
		assert_int_equal(auth_was_shared(asked[i].check), i > 0);
	}
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	RUN_UNTIL(w, w->authority.requests == 1);
	tell(w);
	for (unsigned i = 0; i < 2 * WORKERS; i++) {
		RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(asked[i].verdict, AUTH_NO);
	}
	run_for_a_while(w);
	for (unsigned i = 0; i < 2 * WORKERS; i++)
		assert_int_equal(asked[i].calls, 1);
	assert_int_equal(w->authority.requests, 1);
}

/* Any worker may be the one that asks next. */
static void what_was_shared_once_is_asked_anew(void **state)
{
	struct world *w = *state;

	start_workers(w, NO);
	for (unsigned round = 0; round < WORKERS; round++) {
		struct asked asked[WORKERS] = {0};
		for (unsigned i = 0; i < WORKERS; i++) {
			asked[i].worker = (round + i) % WORKERS;
			authority_ask(w, &asked[i]);
			assert_int_equal(auth_was_shared(asked[i].check),
					 i > 0);
		}
		tell(w);
		for (unsigned i = 0; i < WORKERS; i++)
			RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(w->authority.requests, round + 1);
	}
}

static void only_what_an_answer_depends_on_makes_a_difference(void **state)
{
	static const struct auth_request different[] = {
		{.token = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("b"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .key_uri = SPAN("/b")},
		{.token = SPAN("a"), .cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .cookie = SPAN(""), .key_uri = SPAN("/")},
		{.cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN(""), .cookie = SPAN("a"), .key_uri = SPAN("/")},
		{.token = SPAN("a"), .cookie = SPAN("/")},
		{.token = SPAN("ab"), .cookie = SPAN("c")},
		{.token = SPAN("a"), .cookie = SPAN("bc")},
		{.token = SPAN("a"), .cookie = SPAN("b"), .key_uri = SPAN("c")},
		{.key_uri = SPAN("")},
		{.token = {NULL, 0}},
	};
	enum {
		COUNT = sizeof(different) / sizeof(different[0])
	};
	struct world *w = *state;
	struct asked asked[COUNT] = {0};
	struct asked other = {0};

	open_auth_cache(w, COUNT, 0);
	start_mute_world(w, LONG_MS);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(start_check(w, &different[i], &asked[i]), 0);
		assert_false(auth_was_shared(asked[i].check));
		assert_int_equal(auth_cache_asked(w->auth_cache), i + 1);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		struct auth_request same = different[i];
		same.method = SPAN("HEAD");
		same.host = SPAN("elsewhere");
		same.uri = SPAN("/sub?since=1-1");
		same.peer = "192.0.2.1";
		assert_int_equal(start_check(w, &same, &other), 0);
		assert_true(auth_was_shared(other.check));
	}
	assert_int_equal(auth_cache_asked(w->auth_cache), COUNT);
}

static void a_cancelled_check_leaves_those_that_share_it(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_workers(w, YES);
	for (int i = 0; i < 3; i++)
		authority_ask(w, &asked[i]);
	RUN_UNTIL(w, w->authority.requests == 1);
	auth_check_cancel(asked[0].check);
	auth_check_cancel(asked[2].check);
	tell(w);
	RUN_UNTIL(w, asked[1].calls == 1);
	assert_int_equal(asked[1].verdict, AUTH_YES);
	assert_int_equal(asked[0].calls + asked[2].calls, 0);
}

static void the_last_that_is_cancelled_drops_the_request(void **state)
{
	struct world *w = *state;
	struct asked asked[3] = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\nA: ", LONG_MS);
	for (int i = 0; i < 3; i++)
		authority_ask(w, &asked[i]);
	RUN_UNTIL(w, w->authority.requests == 1);
	auth_check_cancel(asked[1].check);
	auth_check_cancel(asked[0].check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	auth_check_cancel(asked[2].check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void a_request_goes_on_while_another_worker_waits(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked late = {0};
	struct asked waiter = {.worker = 1};

	start_workers(w, YES);
	authority_ask(w, &asker);
	authority_ask(w, &waiter);
	auth_check_cancel(asker.check);
	/* The asker's next client finds it under way, and may leave again. */
	authority_ask(w, &late);
	assert_true(auth_was_shared(late.check));
	auth_check_cancel(late.check);
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_YES);
	assert_int_equal(asker.calls + late.calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_waiting_worker_whose_checks_are_cancelled_waits_on(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};
	struct asked late = {.worker = 1};

	start_workers(w, NO);
	authority_ask(w, &asker);
	authority_ask(w, &waiter);
	auth_check_cancel(waiter.check);
	authority_ask(w, &late);
	assert_true(auth_was_shared(late.check));
	tell(w);
	RUN_UNTIL(w, late.calls == 1);
	assert_int_equal(late.verdict, AUTH_NO);
	assert_int_equal(waiter.calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_note_that_nobody_waits_for_any_more_is_taken(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};

	start_workers(w, NO);
	authority_ask(w, &asker);
	authority_ask(w, &waiter);
	auth_check_cancel(waiter.check);
	tell(w);
	RUN_UNTIL(w, asker.calls == 1);
	RUN_UNTIL(w, !mailbox_is_waiting(&w->boxes[1]));
	assert_int_equal(waiter.calls, 0);
	/* And it is known to be over: this one is not attached to it. */
	authority_ask(w, &waiter);
	assert_false(auth_was_shared(waiter.check));
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
}

static void a_closing_asker_fails_those_that_wait_elsewhere(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};
	struct asked again = {.worker = 2};

	start_workers(w, YES);
	authority_ask(w, &asker);
	authority_ask(w, &waiter);
	close_worker(w, 0);
	assert_int_equal(auth_cache_asked(w->auth_cache), 0);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_FAILED);
	assert_int_equal(asker.calls, 0);
	authority_ask(w, &again);
	assert_false(auth_was_shared(again.check));
}

static void a_closed_waiter_takes_no_answer(void **state)
{
	struct world *w = *state;
	struct asked asker = {0};
	struct asked waiters[2] = {{.worker = 1}, {.worker = 2}};

	start_workers(w, YES);
	authority_ask(w, &asker);
	authority_ask(w, &waiters[0]);
	authority_ask(w, &waiters[1]);
	close_worker(w, 1);
	tell(w);
	RUN_UNTIL(w, asker.calls == 1);
	RUN_UNTIL(w, waiters[1].calls == 1);
	close_worker(w, 2);
	run_for_a_while(w); /* on_mail() frees the note of the first */
	assert_int_equal(waiters[0].calls, 0);
	assert_int_equal(asker.verdict, AUTH_YES);
	assert_int_equal(waiters[1].verdict, AUTH_YES);
}

static void a_yes_that_is_kept_needs_no_request(void **state)
{
	struct world *w = *state;
	struct auth_request request = {.token = SPAN("t")};
	struct asked asked[WORKERS] = {0};

	open_auth_cache(w, CHECKS_MAX, LONG_MS);
	start_workers(w, YES);
	tell(w);
	ask_and_wait(w, &request);
	for (unsigned i = 0; i < WORKERS; i++) {
		asked[i].worker = i;
		assert_int_equal(start_check(w, &request, &asked[i]),
				 UV_EALREADY);
	}
	run_for_a_while(w);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(asked[i].calls, 0);
	assert_int_equal(w->authority.requests, 1);
}

static void a_no_is_asked_for_each_time(void **state)
{
	struct world *w = *state;

	open_auth_cache(w, CHECKS_MAX, LONG_MS);
	start_world(w, answer, NO, LONG_MS);
	assert_int_equal(verdict(w), AUTH_NO);
	assert_int_equal(verdict(w), AUTH_NO);
	assert_int_equal(w->authority.requests, 2);
}

static void a_body_that_still_comes_shares_no_answer(void **state)
{
	struct world *w = *state;
	struct asked q = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\n\r\n", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	authority_ask(w, &q);
	assert_false(auth_was_shared(q.check));
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
}

/* Both have the same verdict, and are to be told in one go: by the request on
 * the first worker, by a note on the second. */
static void share_a_verdict(struct world *w, void (*then)(struct asked *),
			    struct asked *first, struct asked *second)
{
	for (unsigned worker = 0; worker < 2; worker++) {
		first[worker] = (struct asked){.worker = worker,
					       .then = then,
					       .other = &second[worker]};
		second[worker] = (struct asked){.worker = worker};
		authority_ask(w, &first[worker]);
		authority_ask(w, &second[worker]);
	}
	tell(w);
	RUN_UNTIL(w, first[0].calls + first[1].calls == 2);
	run_for_a_while(w);
}

static void a_callback_may_cancel_a_check_that_shares_its_verdict(void **state)
{
	struct world *w = *state;
	struct asked first[2], second[2];

	start_workers(w, YES);
	share_a_verdict(w, cancel_other, first, second);
	assert_int_equal(second[0].calls + second[1].calls, 0);
}

static void close_own(struct asked *q)
{
	close_worker(q->world, q->worker);
}

static void a_callback_may_close_under_those_that_share_its_verdict(
	void **state)
{
	struct world *w = *state;
	struct asked first[2], second[2];

	start_workers(w, YES);
	share_a_verdict(w, close_own, first, second);
	assert_int_equal(second[0].calls + second[1].calls, 0);
}

static void a_callback_may_ask_anew_what_it_was_just_told(void **state)
{
	struct world *w = *state;
	struct asked again = {.worker = 1};
	struct asked first = {.worker = 1, .then = ask_other, .other = &again};
	struct asked asker = {0};

	start_workers(w, NO);
	authority_ask(w, &asker);
	authority_ask(w, &first);
	tell(w);
	RUN_UNTIL(w, first.calls == 1);
	assert_false(auth_was_shared(again.check));
	tell(w);
	RUN_UNTIL(w, again.calls == 1);
	assert_int_equal(w->authority.requests, 2);
}

/* --- limits --------------------------------------------------------------- */

static void one_check_too_many_is_refused(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	struct asked other = {0};
	struct auth_request request = {.token = SPAN("t")};

	start_mute_world(w, LONG_MS);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	assert_int_equal(start_check(w, &request, &other), UV_EBUSY);
	auth_check_cancel(asked[1].check);
	ask_anew(w, &asked[1]);
}

static void open_queue(struct world *w, unsigned checks_max)
{
	w->queue_max = 8;
	open_auth_cache(w, checks_max, 0);
}

static void ask_token(struct world *w, struct asked *asked, const char *token)
{
	struct auth_request request = {.token = span_of(token)};

	assert_int_equal(start_check(w, &request, asked), 0);
}

static void a_check_too_many_waits_for_its_turn(void **state)
{
	static const char *const tokens[] = {"a", "b", "c", "d"};
	struct world *w = *state;
	struct asked asked[4] = {0};
	struct asked same = {.worker = 1};

	open_queue(w, 1);
	start_workers(w, YES);
	for (unsigned i = 0; i < 4; i++) {
		asked[i].worker = i % 2;
		ask_token(w, &asked[i], tokens[i]);
	}
	ask_token(w, &same, "c");
	assert_true(auth_was_shared(same.check));
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	assert_int_equal(auth_cache_queued(w->auth_cache), 3);
	auth_check_cancel(asked[1].check);
	assert_int_equal(auth_cache_queued(w->auth_cache), 2);
	for (unsigned i = 0; i < 4; i += i == 0 ? 2 : 1) {
		RUN_UNTIL(w, w->authority.requests == (i == 0 ? 1 : i));
		tell(w);
		RUN_UNTIL(w, asked[i].calls == 1);
		assert_int_equal(asked[i].verdict, AUTH_YES);
	}
	RUN_UNTIL(w, same.calls == 1);
	assert_int_equal(same.verdict, AUTH_YES);
	assert_int_equal(asked[1].calls, 0);
	assert_int_equal(w->authority.requests, 3);
}

static void one_whose_turn_does_not_come_in_time_is_told_so(void **state)
{
	struct world *w = *state;
	struct asked first = {.worker = 1};
	struct asked queued[3] = {{.worker = 0}, {.worker = 0}, {.worker = 1}};
	uint64_t from = now_ms();

	open_queue(w, 1);
	/* The one that is asked has more time. */
	start_mute_world(w, 50);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued[0], "a");
	ask_token(w, &queued[1], "b");
	ask_token(w, &queued[2], "a");
	for (unsigned i = 0; i < 3; i++) {
		RUN_UNTIL(w, queued[i].calls == 1);
		assert_int_equal(queued[i].verdict, AUTH_BUSY);
	}
	assert_true(now_ms() - from >= 50);
	assert_int_equal(auth_cache_queued(w->auth_cache), 0);
	assert_int_equal(first.calls, 0);
	/* Another one sets the timer anew. */
	ask_token(w, &queued[0], "c");
	RUN_UNTIL(w, queued[0].calls == 1);
}

/* What it waited is a part of its time. */
static void one_that_was_queued_has_the_rest_of_its_time(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked second = {0};
	uint64_t from = now_ms();

	open_queue(w, 1);
	start_mute_world(w, 400);
	ask_token(w, &first, "first");
	while (now_ms() - from < 200)
		run_for_a_while(w);
	ask_token(w, &second, "second");
	RUN_UNTIL(w, second.calls == 1);
	assert_int_equal(first.verdict, AUTH_FAILED);
	assert_int_equal(second.verdict, AUTH_FAILED);
	assert_true(now_ms() - from >= 600);
}

static void whoever_is_queued_may_be_closed(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked queued = {0};
	struct asked waits = {.worker = 1};
	struct asked next = {.worker = 1};

	open_queue(w, 1);
	start_mute_world(w, LONG_MS);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued, "a");
	ask_token(w, &waits, "a");
	ask_token(w, &next, "b");
	close_worker(w, 0);
	RUN_UNTIL(w, waits.calls == 1);
	assert_int_equal(waits.verdict, AUTH_FAILED);
	assert_int_equal(queued.calls + first.calls, 0);
	RUN_UNTIL(w, auth_cache_queued(w->auth_cache) == 0);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	/* The last is closed by the tear-down, being asked. */
}

/* Between its turn and the note that tells of it. */
static void one_may_be_cancelled_while_its_turn_is_on_its_way(void **state)
{
	struct world *w = *state;
	struct asked first = {0};
	struct asked queued = {.worker = 1};

	open_queue(w, 1);
	start_mute_world(w, LONG_MS);
	open_worker(w, 1, LONG_MS);
	ask_token(w, &first, "first");
	ask_token(w, &queued, "a");
	auth_check_cancel(first.check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	auth_check_cancel(queued.check);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	RUN_UNTIL(w, auth_cache_asked(w->auth_cache) == 0);
}

static void the_limit_is_that_of_all_workers_but_sharing_is_free(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	struct asked other = {.worker = 2};
	struct auth_request request = {.token = SPAN("t")};

	start_workers(w, YES);
	authority_ask(w, &asked[0]);
	for (unsigned i = 1; i < CHECKS_MAX; i++) {
		asked[i].worker = i % 2;
		ask_anew(w, &asked[i]);
	}
	assert_int_equal(start_check(w, &request, &other), UV_EBUSY);
	authority_ask(w, &other);
}

static void a_body_that_still_comes_gives_its_place_up(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};

	start_world(w, answer_and_drip, "HTTP/1.1 200 Ok\r\n\r\n", LONG_MS);
	assert_int_equal(verdict(w), AUTH_YES);
	for (unsigned i = 0; i + 1 < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	run_for_a_while(w);
	assert_int_equal(w->authority.dropped, 0);
	ask_anew(w, &asked[CHECKS_MAX - 1]);
	RUN_UNTIL(w, w->authority.dropped == 1);
}

static void checks_run_side_by_side(void **state)
{
	struct world *w = *state;
	struct asked asked[CHECKS_MAX] = {0};
	unsigned calls;

	start_mute_world(w, SHORT_MS);
	for (unsigned i = 0; i < CHECKS_MAX; i++)
		ask_anew(w, &asked[i]);
	RUN_UNTIL(w, (calls = asked[0].calls + asked[1].calls + asked[2].calls +
			      asked[3].calls) == CHECKS_MAX);
	assert_in_range(w->ticks, 0, 2 * SHORT_MS / 5);
}

/* Whichever allocation of libcurl's fails, start returns an error or a verdict
 * comes, and the next check is as ever. Each round has an auth of its own,
 * which allocates what it will keep. */
static void a_check_that_runs_out_of_memory_ends(void **state)
{
	struct world *w = *state;
	unsigned failures = 0;

	start_authority(w, answer, "HTTP/1.1 204 No Content\r\n\r\n");
	for (int n = 0; n < 150; n++) {
		struct asked q = {0};
		struct auth_request request = {.token = SPAN("t")};

		open_auth(w, "127.0.0.1", LONG_MS);
		atomic_store(&allocations_left, n);
		if (start_check(w, &request, &q) == 0)
			RUN_UNTIL(w, q.calls == 1);
		let_all_allocations_pass();
		failures += q.calls == 0 || q.verdict == AUTH_FAILED;
		assert_int_equal(verdict(w), AUTH_YES);
		close_worker(w, 0);
	}
	assert_in_range(failures, 20, 149);
}

/* Starts a check over and over, until no allocation of it fails. Returns how
 * many there were. */
static unsigned start_without_memory(struct world *w,
				     const struct auth_request *request,
				     struct asked *q)
{
	size_t before = authority_settled_memory_used();
	size_t asked = auth_cache_asked(w->auth_cache);

	for (unsigned nth = 1;; nth++) {
		oom_fail_at(nth);
		int rv = start_check(w, request, q);
		if (!oom_end()) {
			assert_int_equal(rv, 0);
			return nth - 1;
		}
		if (rv == 0)
			auth_check_cancel(q->check);
		else
			assert_int_equal(rv, UV_ENOMEM);
		assert_int_equal(authority_settled_memory_used(), before);
		assert_int_equal(auth_cache_asked(w->auth_cache), asked);
	}
}

static void a_start_without_memory_leaves_nothing(void **state)
{
	struct world *w = *state;
	struct auth_request request = {
		.token = SPAN("t"), .cookie = SPAN("a=b"), .uri = SPAN("/")};
	struct asked asker = {0};
	struct asked waiter = {.worker = 1};

	OOM_OR_SKIP();
	start_workers(w, YES);
	/* Asking, of which libcurl can spare an allocation or two. */
	assert_in_range(start_without_memory(w, &request, &asker), 10, 200);
	assert_int_equal(auth_cache_asked(w->auth_cache), 1);
	/* Waiting: the check, the inquiry, the note. */
	assert_int_equal(start_without_memory(w, &request, &waiter), 3);
	tell(w);
	RUN_UNTIL(w, waiter.calls == 1);
	assert_int_equal(waiter.verdict, AUTH_YES);
}

static void opening_returns_what_fails(void **state)
{
	struct world *w = *state;
	struct auth_options options = {.url = "http://auth.test",
				       .timeout_ms = 1,
				       .kept_max = 1,
				       .auth_cache = w->auth_cache};
	int n = 0;

	atomic_store(&allocations_left, n);
	while (auth_open(&w->auths[0], &w->loop, &options) == UV_ENOMEM)
		atomic_store(&allocations_left, ++n);
	let_all_allocations_pass();
	assert_non_null(w->auths[0]);
	assert_in_range(n, 5, 100);
}

static void a_second_auth_shares_nothing_with_the_first(void **state)
{
	struct world *w = *state;
	struct auth *first;

	start_world(w, answer, "HTTP/1.1 204 No Content\r\n\r\n", LONG_MS);
	first = w->auths[0];
	open_auth(w, "127.0.0.1", LONG_MS);
	auth_close(first);
	assert_int_equal(verdict(w), AUTH_YES);
}

/* --- URLs ----------------------------------------------------------------- */

static void http_and_https_urls_are_taken(void **state)
{
	(void)state;
	assert_true(auth_is_url("http://auth"));
	assert_true(auth_is_url("https://auth.example/verify?a=b"));
	assert_true(auth_is_url("HTTP://127.0.0.1:8080/"));
	assert_true(auth_is_url("https://[::1]:8443/verify"));
}

static void other_urls_are_refused(void **state)
{
	static const char *const urls[] = {
		"",
		"auth",
		"auth.example/verify",
		"/verify",
		"//auth.example/verify",
		"http",
		"http:",
		"http:/auth",
		"http://",
		"http:///verify",
		"https:///auth/verify",
		"http://:80/",
		"http://?a",
		"http://#a",
		"http://user@/",
		"http://auth:port/",
		"http://auth:70000/",
		"http://[::1/",
		"http://a b/",
		"http://auth/\r\nX: y",
		" http://auth/",
		"ftp://auth/",
		"file:///etc/passwd",
		"file://auth/etc/passwd",
		"httpx://auth/",
		"gopher://auth/",
		"javascript:alert(1)",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		if (auth_is_url(urls[i]))
			fail_msg("taken: %s", urls[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(checks_for_the_same_are_one_request),
		TEST(checks_on_other_workers_are_the_same_request),
		TEST(what_was_shared_once_is_asked_anew),
		TEST(only_what_an_answer_depends_on_makes_a_difference),
		TEST(a_cancelled_check_leaves_those_that_share_it),
		TEST(the_last_that_is_cancelled_drops_the_request),
		TEST(a_request_goes_on_while_another_worker_waits),
		TEST(a_waiting_worker_whose_checks_are_cancelled_waits_on),
		TEST(a_note_that_nobody_waits_for_any_more_is_taken),
		TEST(a_closing_asker_fails_those_that_wait_elsewhere),
		TEST(a_closed_waiter_takes_no_answer),
		TEST(a_yes_that_is_kept_needs_no_request),
		TEST(a_no_is_asked_for_each_time),
		TEST(a_body_that_still_comes_shares_no_answer),
		TEST(a_callback_may_cancel_a_check_that_shares_its_verdict),
		TEST(a_callback_may_close_under_those_that_share_its_verdict),
		TEST(a_callback_may_ask_anew_what_it_was_just_told),
		TEST(one_check_too_many_is_refused),
		TEST(a_check_too_many_waits_for_its_turn),
		TEST(one_whose_turn_does_not_come_in_time_is_told_so),
		TEST(one_that_was_queued_has_the_rest_of_its_time),
		TEST(whoever_is_queued_may_be_closed),
		TEST(one_may_be_cancelled_while_its_turn_is_on_its_way),
		TEST(the_limit_is_that_of_all_workers_but_sharing_is_free),
		TEST(a_body_that_still_comes_gives_its_place_up),
		TEST(checks_run_side_by_side),
		TEST(a_check_that_runs_out_of_memory_ends),
		TEST(a_start_without_memory_leaves_nothing),
		TEST(opening_returns_what_fails),
		TEST(a_second_auth_shares_nothing_with_the_first),
		cmocka_unit_test(http_and_https_urls_are_taken),
		cmocka_unit_test(other_urls_are_refused),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
