/* test_conn.c - requests, peers that end or do not read (conn.h) */
#include "app.h"

/* --- requests ------------------------------------------------------------- */

static void a_request_is_answered_and_the_connection_is_kept(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "HTTP/1.1 200 OK\r\nDate: ");
	place_of(c, "\r\n\r\n/one");
	assert_int_equal(count_of(c, "Connection: close"), 0);
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "\r\n\r\n/two");
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
}

static void requests_are_read_byte_by_byte_as_well(void **state)
{
	static const char text[] = "POST /one HTTP/1.1\r\nHost: x\r\n"
				   "Content-Length: 3\r\n\r\nabc" GET("/two");
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	for (size_t i = 0; i < sizeof text - 1; i++) {
		send_bytes(c, text + i, 1);
		turn(&a->l);
	}
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
	assert_int_equal(a->heads, 2);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/two") GET("/three"));
	WAIT_UNTIL(&a->l, responses(c) == 3);
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
	assert_true(place_of(c, "/two") < place_of(c, "/three"));
}

static void head_is_answered_without_content(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "HEAD /one HTTP/1.1\r\nHost: x\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(count_of(c, "Content-Length: 4\r\n"), 2);
	assert_int_equal(count_of(c, "/one"), 0);
}

static void a_pending_request_holds_back_those_behind_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") GET("/one") GET("/later") GET("/two"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	assert_int_equal(c->in.len, 0);
	assert_int_equal(a->requests, 1);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, a->pending_count == 2);
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(a->requests, 3);
	app_respond(a->pending[1], SPAN("/second"));
	WAIT_UNTIL(&a->l, responses(c) == 4);
	assert_true(place_of(c, "/first") < place_of(c, "/one"));
	assert_true(place_of(c, "/one") < place_of(c, "/second"));
	assert_true(place_of(c, "/second") < place_of(c, "/two"));
}

static void what_comes_while_pending_is_read_after_the_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") "GET /o");
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	send_text(c, "ne HTTP/1.1\r\nHost: x\r\n\r\n" GET("/two"));
	turn_for(&a->l, 20);
	assert_int_equal(a->requests, 1);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, responses(c) == 3);
	assert_true(place_of(c, "/first") < place_of(c, "/one"));
	assert_true(place_of(c, "/one") < place_of(c, "/two"));
}

static void the_content_of_a_refused_request_is_discarded(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 9\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_int_equal(count_in(&a->l, CONN_DISCARDING), 1);
	send_text(c, "GET /bad ");
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_int_equal(count_of(c, "/bad"), 0);
	assert_int_equal(a->requests, 1);
}

static void an_expected_continue_is_sent(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	place_of(c, "HTTP/1.1 100 Continue\r\n\r\n");
	send_text(c, "abc");
	WAIT_UNTIL(&a->l, responses(c) == 2);
}

static void a_continue_is_not_sent_for_content_that_has_come(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\nabc");
	WAIT_UNTIL(&a->l, count_of(c, "/one") == 1);
	assert_int_equal(responses(c), 1);
}

static void a_refused_expectation_ends_the_connection(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
		     "Expect: 100-continue\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1); /* no 100 */
	place_of(c, "HTTP/1.1 401 ");
	place_of(c, "Connection: close\r\n");
	close_client(c);
	app_expect_ending(a, STATS_closed_done);
}

static void a_bad_request_is_answered_and_lingers(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") "nonsense\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	place_of(c, "HTTP/1.1 400 ");
	assert_int_equal(count_in(&a->l, CONN_LINGERING), 1);
	send_text(c, "more that nobody wants");
	turn_for(&a->l, 20);
	assert_int_equal(a->l.group->count, 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_bad_request);
}

static void a_refused_request_gets_one_answer_even_if_it_turns_bad(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early HTTP/1.1\r\nHost: x\r\n"
		     "Transfer-Encoding: chunked\r\n\r\n");
	WAIT_UNTIL(&a->l, responses(c) == 1);
	send_text(c, "no chunk\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_int_equal(responses(c), 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_bad_request);
}

static void the_last_request_is_answered_before_the_end(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(
		c,
		"GET /one HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET(
			"/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 1);
	place_of(c, "Connection: close\r\n");
	close_client(c);
	app_expect_ending(a, STATS_closed_done);
}

static void a_last_answer_at_the_head_drops_the_content(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "POST /early-last HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 9\r\n\r\nabc");
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	place_of(c, "HTTP/1.1 401 ");
	send_text(c, "def" GET("/two"));
	close_client(c);
	app_expect_ending(a, STATS_closed_done);
	assert_int_equal(a->requests, 0);
}

static void a_last_answer_may_come_later(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "GET /later HTTP/1.0\r\n\r\n" GET("/two"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_done);
}

static void a_hook_may_end_the_connection_at_the_head(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/gone-early") GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->requests, 0);
}

static void a_hook_may_end_the_connection_at_the_request(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/gone") GET("/two"));
	WAIT_UNTIL(&a->l, c->is_over);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_int_equal(a->requests, 2);
}

/* --- the peer's end ------------------------------------------------------- */

static void a_peer_that_has_shut_its_side_is_answered(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one") GET("/two"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
}

static void a_peer_that_has_shut_its_side_is_answered_later(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later") GET("/two"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_int_equal(responses(c), 2);
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
}

static void a_peer_that_has_shut_its_side_gets_all_of_a_long_answer(
	void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/big"));
	shutdown(c->fd, SHUT_WR);
	WAIT_UNTIL(&a->l, count_in(&a->l, CONN_FINISHING) == 1);
	turn_for(&a->l, 20);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_true(c->in.len > BIG_BYTES);
	app_expect_ending(a, STATS_closed_done);
}

static void a_peer_that_shuts_its_side_gets_all_of_the_last_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, "GET /big HTTP/1.0\r\n\r\n");
	WAIT_UNTIL(&a->l, count_in(&a->l, CONN_FINISHING) == 1);
	turn(&a->l);
	shutdown(c->fd, SHUT_WR);
	turn_for(&a->l, 20);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_false(c->is_reset);
	assert_true(c->in.len > BIG_BYTES);
	app_expect_ending(a, STATS_closed_done);
}

static void a_peer_that_leaves_between_requests_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	close_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_peer_that_leaves_within_a_request_is_gone(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "GET /one HT");
	WAIT_UNTIL(&a->l, ended(&a->l, STATS_bytes_in) > 0);
	close_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_pending_is_seen_at_the_answer(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	reset_client(c);
	turn_for(&a->l, 20);
	assert_non_null(a->pending[0]);
	app_respond(a->pending[0], SPAN("/first"));
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_a_write_is_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/huge"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
}

static void a_reset_while_pending_with_a_write_in_flight_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/big") GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	turn_for(&a->l, 20);
	assert_true(queued_bytes(&a->l) > 0);
	reset_client(c);
	app_expect_ending(a, STATS_closed_peer_gone);
	assert_null(a->pending[0]);
}

static void a_reset_while_lingering_ends_it(void **state)
{
	struct app *a = *state;
	struct client *c = connect_client(&a->l);

	send_text(c, "nonsense\r\n\r\n");
	WAIT_UNTIL(&a->l, c->is_over);
	reset_client(c);
	app_expect_ending(a, STATS_closed_bad_request);
}

/* --- a peer that does not read -------------------------------------------- */

static void a_peer_that_does_not_read_is_not_read_any_further(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);

	send_text(c, GET("/huge"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/two"));
	turn_for(&a->l, 30);
	assert_int_equal(a->requests, 1);
	c->reads = true;
	WAIT_UNTIL(&a->l, responses(c) == 2);
	assert_true(place_of(c, "\r\n\r\n/two") > HUGE_BYTES);
}

/* A short request can ask for a long answer, many times in one read. */
static void a_pipeline_whose_answers_are_not_read_waits(void **state)
{
	struct app *a = *state;
	struct client *c = connect_lazy_client(&a->l);
	const unsigned all = 500;
	struct buf b = {0};

	for (unsigned i = 0; i < all; i++)
		assert_int_equal(
			buf_append(&b, GET("/big"), sizeof GET("/big") - 1), 0);
	send_buf(c, &b);
	turn_for(&a->l, 20);
	assert_in_range(queued_bytes(&a->l), 1,
			CONN_HIGH_WATER_BYTES + BIG_BYTES + 1000);
	assert_true(a->requests < all);
	c->reads = true;
	WAIT_UNTIL(&a->l,
		   a->requests == all && c->in.len > (size_t)all * BIG_BYTES);
	assert_int_equal(count_in(&a->l, CONN_REQUEST), 1);
}

static void a_peer_that_never_reads_is_given_up(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/huge"));
	app_expect_ending(a, STATS_closed_write_timeout);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->is_over);
	assert_true(c->is_reset);
	app_free(a);
}

static void a_peer_that_never_reads_its_last_answer_is_given_up(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") "nonsense\r\n\r\n");
	app_expect_ending(a, STATS_closed_bad_request);
	app_free(a);
}

static void a_peer_that_never_reads_is_given_up_while_pending(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/later"));
	app_expect_ending(a, STATS_closed_write_timeout);
	app_free(a);
}

static void a_write_that_starts_while_pending_has_its_time_too(void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 30);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") GET("/later"));
	app_expect_ending(a, STATS_closed_write_timeout);
	assert_int_equal(a->requests, 2);
	app_free(a);
}

static void a_peer_that_never_reads_is_given_up_after_a_pending_request(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	app_respond_filling(a->pending[0], HUGE_BYTES);
	app_expect_ending(a, STATS_closed_write_timeout);
	app_free(a);
}

static void the_time_to_write_ends_when_all_is_written(void **state)
{
	struct conn_limits limits = roomy_limits;
	limits.durations_ms[DEADLINE_WRITE] = 200;
	limits.durations_ms[DEADLINE_IDLE] = 400;
	struct app *a = app_new(&limits);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, GET("/two"));
	WAIT_UNTIL(&a->l, a->requests == 2);
	c->reads = true;
	WAIT_UNTIL(&a->l, responses(c) == 2);
	app_expect_ending(a, STATS_closed_idle_timeout);
	app_free(a);
}

static void the_time_to_write_ends_when_all_is_written_while_pending(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_WRITE, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big") GET("/later"));
	WAIT_UNTIL(&a->l, a->pending_count == 1);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->in.len > BIG_BYTES);
	turn_for(&a->l, 200);
	assert_non_null(a->pending[0]);
	app_respond(a->pending[0], SPAN("/first"));
	WAIT_UNTIL(&a->l, responses(c) == 2);
	app_free(a);
}

static void content_that_comes_beside_a_slow_write_has_its_own_time(
	void **state)
{
	struct app *a = app_with_duration(DEADLINE_HEAD, 100);
	struct client *c = connect_lazy_client(&a->l);
	(void)state;

	send_text(c, GET("/big"));
	WAIT_UNTIL(&a->l, a->requests == 1);
	turn(&a->l);
	send_text(c, "POST /two HTTP/1.1\r\nHost: x\r\n"
		     "Content-Length: 3\r\n\r\na");
	WAIT_UNTIL(&a->l, a->heads == 2);
	turn(&a->l);
	c->reads = true;
	WAIT_UNTIL(&a->l, c->in.len > BIG_BYTES);
	turn_for(&a->l, 200);
	send_text(c, "b");
	turn_for(&a->l, 200);
	send_text(c, "c");
	WAIT_UNTIL(&a->l, responses(c) == 2);
	place_of(c, "\r\n\r\n/two");
	app_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_APP(a_request_is_answered_and_the_connection_is_kept),
		WITH_APP(requests_are_read_byte_by_byte_as_well),
		WITH_APP(pipelined_requests_are_answered_in_order),
		WITH_APP(head_is_answered_without_content),
		WITH_APP(a_pending_request_holds_back_those_behind_it),
		WITH_APP(what_comes_while_pending_is_read_after_the_answer),
		WITH_APP(the_content_of_a_refused_request_is_discarded),
		WITH_APP(an_expected_continue_is_sent),
		WITH_APP(a_continue_is_not_sent_for_content_that_has_come),
		WITH_APP(a_refused_expectation_ends_the_connection),
		WITH_APP(a_bad_request_is_answered_and_lingers),
		WITH_APP(
			a_refused_request_gets_one_answer_even_if_it_turns_bad),
		WITH_APP(the_last_request_is_answered_before_the_end),
		WITH_APP(a_last_answer_at_the_head_drops_the_content),
		WITH_APP(a_last_answer_may_come_later),
		WITH_APP(a_hook_may_end_the_connection_at_the_head),
		WITH_APP(a_hook_may_end_the_connection_at_the_request),
		WITH_APP(a_peer_that_has_shut_its_side_is_answered),
		WITH_APP(a_peer_that_has_shut_its_side_is_answered_later),
		WITH_APP(
			a_peer_that_has_shut_its_side_gets_all_of_a_long_answer),
		WITH_APP(
			a_peer_that_shuts_its_side_gets_all_of_the_last_answer),
		WITH_APP(a_peer_that_leaves_between_requests_is_gone),
		WITH_APP(a_peer_that_leaves_within_a_request_is_gone),
		WITH_APP(a_reset_while_pending_is_seen_at_the_answer),
		WITH_APP(a_reset_while_a_write_is_in_flight_ends_it),
		WITH_APP(a_reset_while_pending_with_a_write_in_flight_ends_it),
		WITH_APP(a_reset_while_lingering_ends_it),
		WITH_APP(a_peer_that_does_not_read_is_not_read_any_further),
		WITH_APP(a_pipeline_whose_answers_are_not_read_waits),
		cmocka_unit_test(a_peer_that_never_reads_is_given_up),
		cmocka_unit_test(
			a_peer_that_never_reads_its_last_answer_is_given_up),
		cmocka_unit_test(
			a_peer_that_never_reads_is_given_up_while_pending),
		cmocka_unit_test(
			a_write_that_starts_while_pending_has_its_time_too),
		cmocka_unit_test(
			a_peer_that_never_reads_is_given_up_after_a_pending_request),
		cmocka_unit_test(the_time_to_write_ends_when_all_is_written),
		cmocka_unit_test(
			the_time_to_write_ends_when_all_is_written_while_pending),
		cmocka_unit_test(
			content_that_comes_beside_a_slow_write_has_its_own_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
