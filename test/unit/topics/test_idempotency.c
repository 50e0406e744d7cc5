/* test_idempotency.c - what src/topics/idempotency.h promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <unistd.h>
#include <uv.h>

#include "aborts.h"
#include "base/memory.h"
#include "oom.h"
#include "topics/idempotency.h"

#define TTL_MS    1000
#define MAX_BYTES 20000
#define LEN_MAX   MAX_BYTES /* of an answer */
#define THREADS   4

#ifdef OOM_SANITIZED
#define TURNS 500
#else
#define TURNS 5000
#endif

static struct idempotency *all;
static struct buf answer;
static size_t used_before;

static size_t settled_memory_used(void)
{
	memory_settle();
	return memory_used();
}

static int open_with(uint64_t ttl_ms, size_t max_bytes)
{
	alarm(300); /* threads that block each other fail the program */
	used_before = settled_memory_used();
	answer = (struct buf){0};
	return idempotency_new(&all, ttl_ms, max_bytes);
}

static int open_idempotency(void **state)
{
	(void)state;
	return open_with(TTL_MS, MAX_BYTES);
}

/* Also sees that everything charged is credited. */
static int close_idempotency(void **state)
{
	(void)state;
	idempotency_free(all);
	buf_fini(&answer);
	alarm(0);
	return settled_memory_used() == used_before ? 0 : 1;
}

static struct idempotency_request request_of(const char *key,
					     const char *content)
{
	struct idempotency_request request;

	idempotency_identify(&request, SPAN("alice"), span_of(key),
			     SPAN("/pub"), span_of(content));
	return request;
}

static int begin(const char *key, const char *content, uint64_t now_ms)
{
	struct idempotency_request request = request_of(key, content);
	return idempotency_begin(all, &request, now_ms, LEN_MAX, &answer);
}

static void end(const char *key, const char *content, uint64_t now_ms,
		struct span receipt)
{
	struct idempotency_request request = request_of(key, content);
	idempotency_end(all, &request, now_ms, receipt);
}

/* A request from its begin, which must find it new, to its end. */
static void serve(const char *key, uint64_t now_ms, const char *receipt)
{
	assert_int_equal(begin(key, "x", now_ms), 0);
	end(key, "x", now_ms, span_of(receipt));
}

static void serve_number(unsigned i, uint64_t now_ms, struct span receipt)
{
	char key[32];

	snprintf(key, sizeof key, "key %u", i);
	assert_int_equal(begin(key, "x", now_ms), 0);
	end(key, "x", now_ms, receipt);
}

static bool is_kept(const char *key, uint64_t now_ms)
{
	int rv = begin(key, "x", now_ms);
	if (rv == 0)
		end(key, "x", now_ms, (struct span){0});
	return rv == UV_EEXIST;
}

static bool is_number_kept(unsigned i, uint64_t now_ms)
{
	char key[32];

	snprintf(key, sizeof key, "key %u", i);
	return is_kept(key, now_ms);
}

static void assert_answer(const char *expected)
{
	assert_int_equal(answer.len, strlen(expected));
	assert_memory_equal(answer.bytes, expected, answer.len);
}

/* --- what is one request --------------------------------------------------*/

static bool is_same(const uint8_t a[DIGEST_SHA256_BYTES],
		    const uint8_t b[DIGEST_SHA256_BYTES])
{
	return memcmp(a, b, DIGEST_SHA256_BYTES) == 0;
}

static void a_request_is_known_by_publisher_and_key(void **state)
{
	struct idempotency_request a, b;

	(void)state;
	idempotency_identify(&a, SPAN("p"), SPAN("k"), SPAN("/t"), SPAN("c"));
	idempotency_identify(&b, SPAN("p"), SPAN("k"), SPAN("/u"), SPAN("d"));
	assert_true(is_same(a.id, b.id));
	idempotency_identify(&b, SPAN("q"), SPAN("k"), SPAN("/t"), SPAN("c"));
	assert_false(is_same(a.id, b.id));
	assert_true(is_same(a.content, b.content));
	idempotency_identify(&b, SPAN("p"), SPAN("l"), SPAN("/t"), SPAN("c"));
	assert_false(is_same(a.id, b.id));
}

static void a_request_asks_for_target_and_content(void **state)
{
	struct idempotency_request a, b;

	(void)state;
	idempotency_identify(&a, SPAN("p"), SPAN("k"), SPAN("/t"), SPAN("c"));
	idempotency_identify(&b, SPAN("p"), SPAN("k"), SPAN("/u"), SPAN("c"));
	assert_false(is_same(a.content, b.content));
	idempotency_identify(&b, SPAN("p"), SPAN("k"), SPAN("/t"), SPAN("d"));
	assert_false(is_same(a.content, b.content));
}

static void the_border_between_two_parts_counts(void **state)
{
	struct idempotency_request a, b;

	(void)state;
	idempotency_identify(&a, SPAN("ab"), SPAN("c"), SPAN("/t"), SPAN("de"));
	idempotency_identify(&b, SPAN("a"), SPAN("bc"), SPAN("/td"), SPAN("e"));
	assert_false(is_same(a.id, b.id));
	assert_false(is_same(a.content, b.content));
}

static void an_absent_part_is_as_an_empty_one(void **state)
{
	struct idempotency_request a, b;

	(void)state;
	idempotency_identify(&a, SPAN(""), SPAN("k"), SPAN("/t"), SPAN(""));
	idempotency_identify(&b, (struct span){0}, SPAN("k"), SPAN("/t"),
			     (struct span){0});
	assert_memory_equal(&a, &b, sizeof a);
}

/* --- answers --------------------------------------------------------------*/

static void a_repeat_gets_the_first_answer(void **state)
{
	(void)state;
	serve("a", 0, "first");
	serve("b", 0, "second");
	assert_int_equal(begin("a", "x", 1), UV_EEXIST);
	assert_answer("first");
	assert_int_equal(begin("b", "x", 1), UV_EEXIST);
	assert_answer("second");
	assert_int_equal(begin("a", "x", 2), UV_EEXIST);
	assert_answer("first");
}

static void an_answer_may_be_empty(void **state)
{
	(void)state;
	serve("a", 0, "");
	assert_int_equal(buf_append(&answer, "old", 3), 0);
	assert_int_equal(begin("a", "x", 0), UV_EEXIST);
	assert_answer("");
}

static void an_answer_may_have_any_bytes(void **state)
{
	static const char bytes[] = {0, '\n', (char)0xff, 0};

	(void)state;
	assert_int_equal(begin("a", "x", 0), 0);
	end("a", "x", 0, (struct span){bytes, sizeof bytes});
	assert_int_equal(begin("a", "x", 0), UV_EEXIST);
	assert_int_equal(answer.len, sizeof bytes);
	assert_memory_equal(answer.bytes, bytes, sizeof bytes);
}

static void a_key_used_for_another_content_is_refused(void **state)
{
	(void)state;
	serve("a", 0, "first");
	assert_int_equal(begin("a", "y", 0), UV_EINVAL);
	assert_int_equal(begin("a", "x", 0), UV_EEXIST);
	assert_answer("first");
}

static void a_request_that_failed_may_be_tried_again(void **state)
{
	(void)state;
	assert_int_equal(begin("a", "x", 0), 0);
	end("a", "x", 0, (struct span){0});
	assert_int_equal(idempotency_count(all), 0);
	assert_int_equal(begin("a", "y", 0), 0);
	end("a", "y", 0, SPAN("first"));
	assert_int_equal(begin("a", "y", 0), UV_EEXIST);
}

static void begin_another(void *arg)
{
	(void)arg;
	begin("b", "x", 0);
}

static void a_thread_that_begins_a_second_request_is_a_mistake(void **state)
{
	(void)state;
	assert_int_equal(begin("a", "x", 0), 0);
	assert_true(aborts(begin_another, NULL));
	end("a", "x", 0, SPAN("first"));
}

/* --- time -----------------------------------------------------------------*/

static void an_answer_is_kept_for_the_time_that_was_set(void **state)
{
	(void)state;
	assert_int_equal(begin("a", "x", 10), 0);
	end("a", "x", 20, SPAN("first"));
	assert_true(is_kept("a", 20 + TTL_MS - 1));
	assert_false(is_kept("a", 20 + TTL_MS));
	assert_int_equal(idempotency_count(all), 0);
}

static void a_repeat_does_not_make_it_last_longer(void **state)
{
	(void)state;
	serve("a", 0, "first");
	assert_true(is_kept("a", TTL_MS - 1));
	assert_false(is_kept("a", TTL_MS));
}

static void a_clock_that_is_behind_another_threads_does_no_harm(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		serve_number(i, 100 - i, SPAN("first"));
	for (unsigned i = 0; i < 100; i++)
		assert_true(is_number_kept(i, 0));
	for (unsigned i = 0; i < 100; i++)
		assert_false(is_number_kept(i, 100 + TTL_MS));
	assert_int_equal(idempotency_count(all), 0);
}

static void answers_go_with_time_even_if_nobody_asks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++)
		serve_number(i, i, SPAN("first"));
	idempotency_age(all, TTL_MS - 1);
	assert_int_equal(idempotency_count(all), 50);
	idempotency_age(all, TTL_MS + 19);
	assert_int_equal(idempotency_count(all), 30);
	idempotency_age(all, TTL_MS + 49);
	assert_int_equal(idempotency_count(all), 0);
	assert_int_equal(idempotency_bytes(all), 0);
}

/* --- room -----------------------------------------------------------------*/

static void beyond_the_bytes_the_oldest_go(void **state)
{
	static char kilobyte[1024];
	struct span text = {kilobyte, sizeof kilobyte};

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		serve_number(i, i, text);
		assert_true(idempotency_bytes(all) <= MAX_BYTES);
	}
	/* 1 KiB each, and not yet as much again for struct and buckets. */
	size_t kept = idempotency_count(all);
	assert_in_range(kept, MAX_BYTES / 2048, MAX_BYTES / 1024);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(is_number_kept(i, 100), i >= 100 - kept);
}

static void what_is_too_large_is_not_kept_and_drops_nothing(void **state)
{
	static char large[MAX_BYTES];

	(void)state;
	serve("a", 0, "first");
	for (size_t len = MAX_BYTES - 100; len <= MAX_BYTES; len++) {
		assert_int_equal(begin("b", "x", 0), 0);
		end("b", "x", 0, (struct span){large, len});
		assert_false(is_kept("b", 0));
	}
	assert_true(is_kept("a", 0));
}

static void an_answer_may_take_all_there_is(void **state)
{
	static char large[MAX_BYTES - 400];

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		serve_number(i, 0, SPAN("first"));
	assert_int_equal(begin("a", "x", 1), 0);
	end("a", "x", 1, (struct span){large, sizeof large});
	assert_true(is_kept("a", 1));
	assert_true(idempotency_bytes(all) <= MAX_BYTES);
}

static void bytes_are_all_that_is_charged(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 80; i++) {
		serve_number(i, i, SPAN("first"));
		assert_int_equal(settled_memory_used() - used_before,
				 idempotency_bytes(all));
	}
	assert_true(idempotency_bytes(all) >
		    80 * sizeof(struct idempotency_request));
	idempotency_age(all, 40 + TTL_MS);
	assert_int_equal(settled_memory_used() - used_before,
			 idempotency_bytes(all));
}

static void assert_nothing_is_kept(uint64_t ttl_ms, size_t max_bytes)
{
	assert_int_equal(open_with(ttl_ms, max_bytes), 0);
	serve("a", 0, "first");
	assert_false(is_kept("a", 0));
	idempotency_age(all, 1);
	assert_int_equal(idempotency_count(all), 0);
	assert_int_equal(idempotency_bytes(all), 0);
	assert_int_equal(close_idempotency(NULL), 0);
}

static void without_time_or_room_nothing_is_kept(void **state)
{
	(void)state;
	assert_nothing_is_kept(0, MAX_BYTES);
	assert_nothing_is_kept(TTL_MS, 0);
	assert_nothing_is_kept(TTL_MS, 1);
}

static void very_many_are_found_again(void **state)
{
	(void)state;
	assert_int_equal(open_with(TTL_MS, 64 << 20), 0);
	for (unsigned i = 0; i < 20000; i++)
		serve_number(i, 0, SPAN("first"));
	for (unsigned i = 0; i < 20000; i++)
		assert_true(is_number_kept(i, 0));
	assert_int_equal(idempotency_count(all), 20000);
	assert_int_equal(close_idempotency(NULL), 0);
}

/* --- memory ---------------------------------------------------------------*/

static void without_memory_there_is_no_table(void **state)
{
	struct idempotency *none;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	int rv = idempotency_new(&none, TTL_MS, MAX_BYTES);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
}

/* Begins a request with its `nth` allocation failing; what that returns, and
 * whether one did. */
static int begin_without_memory(const char *key, unsigned nth, bool *has_failed)
{
	struct idempotency_request request = request_of(key, "x");
	oom_fail_at(nth);
	int rv = idempotency_begin(all, &request, 0, LEN_MAX, &answer);
	*has_failed = oom_end();
	return rv;
}

/* Else it would be published, and again if it came again. */
static void without_memory_for_its_answer_no_request_begins(void **state)
{
	bool has_failed;

	(void)state;
	OOM_OR_SKIP();
	for (unsigned nth = 1; nth <= 2; nth++) { /* buckets, answer */
		assert_int_equal(begin_without_memory("a", nth, &has_failed),
				 UV_ENOMEM);
		assert_true(has_failed);
		assert_false(is_kept("a", 0));
		assert_int_equal(idempotency_bytes(all), 0);
	}
	assert_int_equal(begin_without_memory("a", 3, &has_failed), 0);
	assert_false(has_failed);
	end("a", "x", 0, SPAN("first"));
	assert_true(is_kept("a", 0));
}

static void the_end_of_a_request_needs_no_memory(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	assert_int_equal(begin("a", "x", 0), 0);
	struct idempotency_request request = request_of("a", "x");
	oom_fail_at(1);
	idempotency_end(all, &request, 0, SPAN("first"));
	oom_end();
	assert_true(is_kept("a", 0));
	assert_answer("first");
}

static void without_memory_for_buckets_chains_are_longer(void **state)
{
	char key[32];
	bool failed = false;

	(void)state;
	OOM_OR_SKIP();
	assert_int_equal(open_with(TTL_MS, 1 << 20), 0);
	/* One stripe or another has 16 by then, and would get more buckets. */
	for (unsigned i = 0; i < 16 * 16 + 1; i++) {
		bool fails;

		snprintf(key, sizeof key, "key %u", i);
		if (begin_without_memory(key, 1, &fails) != 0) {
			serve_number(i, 0, SPAN("first"));
			continue;
		}
		failed = failed || fails;
		end(key, "x", 0, SPAN("first"));
	}
	assert_true(failed);
	for (unsigned i = 0; i < 16 * 16 + 1; i++)
		assert_true(is_number_kept(i, 0));
	assert_int_equal(close_idempotency(NULL), 0);
}

static void without_memory_for_a_repeat_it_is_enomem(void **state)
{
	(void)state;
	OOM_OR_SKIP();
	serve("a", 0, "first");
	struct idempotency_request request = request_of("a", "x");
	oom_fail_at(1);
	int rv = idempotency_begin(all, &request, 0, LEN_MAX, &answer);
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_true(is_kept("a", 0));
}

/* --- threads --------------------------------------------------------------*/

/* What threads do at once; each turn has a key of its own. */
struct race {
	uv_barrier_t start;
	atomic_uint published[TURNS];
	atomic_uint wrong;
};

static void publish_once(struct race *race, unsigned turn)
{
	struct buf again = {0};
	char key[32];
	char text[32];

	snprintf(key, sizeof key, "key %u", turn);
	snprintf(text, sizeof text, "answer %u", turn);
	struct idempotency_request request = request_of(key, "x");
	int rv = idempotency_begin(all, &request, turn, LEN_MAX, &again);
	if (rv == 0) {
		atomic_fetch_add(&race->published[turn], 1);
		idempotency_end(all, &request, turn, span_of(text));
	} else if (rv != UV_EEXIST || again.len != strlen(text) ||
		   memcmp(again.bytes, text, again.len) != 0) {
		atomic_fetch_add(&race->wrong, 1);
	}
	buf_fini(&again);
}

static void publish_all(void *user)
{
	struct race *race = user;

	uv_barrier_wait(&race->start);
	for (unsigned turn = 0; turn < TURNS; turn++)
		publish_once(race, turn);
	memory_settle();
}

static void run_threads(uv_thread_cb run, void *user)
{
	uv_thread_t threads[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(uv_thread_create(&threads[i], run, user), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(uv_thread_join(&threads[i]), 0);
}

static void of_threads_that_begin_with_one_key_exactly_one_publishes(
	void **state)
{
	static struct race race;

	(void)state;
	memset(&race, 0, sizeof race);
	assert_int_equal(uv_barrier_init(&race.start, THREADS), 0);
	assert_int_equal(open_with(UINT64_C(86400000), 64 << 20), 0);
	run_threads(publish_all, &race);
	for (unsigned turn = 0; turn < TURNS; turn++)
		assert_int_equal(race.published[turn], 1);
	assert_int_equal(race.wrong, 0);
	assert_int_equal(idempotency_count(all), TURNS);
	assert_int_equal(close_idempotency(NULL), 0);
	uv_barrier_destroy(&race.start);
}

/* Room for few, so that each thread drops what others keep, while time passes.
 */
static void keep_many(void *user)
{
	atomic_uint *number = user;
	struct buf again = {0};
	char key[32];

	for (unsigned turn = 0; turn < TURNS; turn++) {
		unsigned n = atomic_fetch_add(number, 1);
		snprintf(key, sizeof key, "key %u", n);
		struct idempotency_request request = request_of(key, "x");
		if (idempotency_begin(all, &request, n, LEN_MAX, &again) != 0)
			continue;
		idempotency_end(all, &request, n, SPAN("first"));
		if (turn % 100 == 0)
			idempotency_age(all, n);
	}
	buf_fini(&again);
	memory_settle();
}

static void threads_that_make_room_keep_to_the_limit(void **state)
{
	static atomic_uint number;

	(void)state;
	run_threads(keep_many, &number);
	assert_int_equal(number, THREADS * TURNS);
	assert_true(idempotency_bytes(all) <= MAX_BYTES);
	/* What is there is near the limit: not much more than need be went. */
	assert_true(idempotency_bytes(all) > MAX_BYTES / 2);
	idempotency_age(all, number + TTL_MS);
	assert_int_equal(idempotency_count(all), 0);
	assert_int_equal(idempotency_bytes(all), 0);
}

/* A thread whose request is under way until it is told to end it. */
struct server {
	uv_thread_t thread;
	uv_sem_t has_begun;
	uv_sem_t may_end;
};

static void serve_slowly(void *user)
{
	struct server *server = user;
	struct idempotency_request request = request_of("a", "x");
	struct buf none = {0};

	if (idempotency_begin(all, &request, 0, LEN_MAX, &none) != 0)
		abort();
	uv_sem_post(&server->has_begun);
	uv_sem_wait(&server->may_end);
	idempotency_end(all, &request, 0, SPAN("first"));
	memory_settle();
}

/* Returns once its request, "a", is under way. */
static void start(struct server *server)
{
	assert_int_equal(uv_sem_init(&server->has_begun, 0), 0);
	assert_int_equal(uv_sem_init(&server->may_end, 0), 0);
	assert_int_equal(
		uv_thread_create(&server->thread, serve_slowly, server), 0);
	uv_sem_wait(&server->has_begun);
}

static void stop(struct server *server)
{
	uv_sem_post(&server->may_end);
	assert_int_equal(uv_thread_join(&server->thread), 0);
	uv_sem_destroy(&server->has_begun);
	uv_sem_destroy(&server->may_end);
}

/* A thread that asks while another's request may be under way. */
struct asker {
	uv_thread_t thread;
	uv_sem_t *about_to; /* posted before */
	uv_sem_t *has;      /* posted after */
	char key[32];
	int rv;
};

static void ask(void *user)
{
	struct asker *asker = user;
	struct idempotency_request request = request_of(asker->key, "x");
	struct buf again = {0};

	uv_sem_post(asker->about_to);
	asker->rv = idempotency_begin(all, &request, 0, LEN_MAX, &again);
	if (asker->rv == 0)
		idempotency_end(all, &request, 0, SPAN("of the asker"));
	uv_sem_post(asker->has);
	buf_fini(&again);
	memory_settle();
}

static void whoever_asks_again_meanwhile_waits_for_the_answer(void **state)
{
	uv_sem_t about_to, has;
	struct asker asker = {.about_to = &about_to, .has = &has, .key = "a"};
	struct server server;

	(void)state;
	assert_int_equal(uv_sem_init(&about_to, 0), 0);
	assert_int_equal(uv_sem_init(&has, 0), 0);
	start(&server);
	assert_int_equal(uv_thread_create(&asker.thread, ask, &asker), 0);
	uv_sem_wait(&about_to);
	assert_int_equal(uv_sem_trywait(&has), UV_EAGAIN);
	stop(&server);
	assert_int_equal(uv_thread_join(&asker.thread), 0);
	assert_int_equal(asker.rv, UV_EEXIST);
	uv_sem_destroy(&about_to);
	uv_sem_destroy(&has);
}

#define ASKERS 24

/* A few keys share the stripe of the request under way, and wait; but that all
 * do is as likely as 16 to the power of -24. */
static void a_request_under_way_holds_up_few_others(void **state)
{
	static struct asker askers[ASKERS];
	uv_sem_t about_to, has;
	struct server server;

	(void)state;
	assert_int_equal(uv_sem_init(&about_to, 0), 0);
	assert_int_equal(uv_sem_init(&has, 0), 0);
	start(&server);
	for (unsigned i = 0; i < ASKERS; i++) {
		askers[i].about_to = &about_to;
		askers[i].has = &has;
		snprintf(askers[i].key, sizeof askers[i].key, "key %u", i);
		assert_int_equal(
			uv_thread_create(&askers[i].thread, ask, &askers[i]),
			0);
	}
	uv_sem_wait(&has);
	stop(&server);
	for (unsigned i = 0; i < ASKERS; i++) {
		assert_int_equal(uv_thread_join(&askers[i].thread), 0);
		assert_int_equal(askers[i].rv, 0);
	}
	uv_sem_destroy(&about_to);
	uv_sem_destroy(&has);
}

#define TEST(f)                                                                \
	cmocka_unit_test_setup_teardown(f, open_idempotency, close_idempotency)
/* Those that open and close others than the usual. */
#define TEST_OWN(f) cmocka_unit_test(f)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_request_is_known_by_publisher_and_key),
		TEST(a_request_asks_for_target_and_content),
		TEST(the_border_between_two_parts_counts),
		TEST(an_absent_part_is_as_an_empty_one),
		TEST(a_repeat_gets_the_first_answer),
		TEST(an_answer_may_be_empty),
		TEST(an_answer_may_have_any_bytes),
		TEST(a_key_used_for_another_content_is_refused),
		TEST(a_request_that_failed_may_be_tried_again),
		TEST(a_thread_that_begins_a_second_request_is_a_mistake),
		TEST(an_answer_is_kept_for_the_time_that_was_set),
		TEST(a_repeat_does_not_make_it_last_longer),
		TEST(a_clock_that_is_behind_another_threads_does_no_harm),
		TEST(answers_go_with_time_even_if_nobody_asks),
		TEST(beyond_the_bytes_the_oldest_go),
		TEST(what_is_too_large_is_not_kept_and_drops_nothing),
		TEST(an_answer_may_take_all_there_is),
		TEST(bytes_are_all_that_is_charged),
		TEST_OWN(without_time_or_room_nothing_is_kept),
		TEST_OWN(very_many_are_found_again),
		TEST(without_memory_there_is_no_table),
		TEST(without_memory_for_its_answer_no_request_begins),
		TEST(the_end_of_a_request_needs_no_memory),
		TEST_OWN(without_memory_for_buckets_chains_are_longer),
		TEST(without_memory_for_a_repeat_it_is_enomem),
		TEST_OWN(
			of_threads_that_begin_with_one_key_exactly_one_publishes),
		TEST(threads_that_make_room_keep_to_the_limit),
		TEST(whoever_asks_again_meanwhile_waits_for_the_answer),
		TEST(a_request_under_way_holds_up_few_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
