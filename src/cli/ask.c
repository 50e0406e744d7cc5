/* ask.c - runs a loop until the answer has arrived. */
#include "cli/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct ask {
	const struct url *to;
	uv_loop_t loop;
	uv_timer_t deadline;
	struct client *client; /* NULL: none is open */
	struct ask_answer *answer;
	bool is_waiting; /* for the answer or the end */
	int error;       /* of the end */
};

void ask_answer_fini(struct ask_answer *answer)
{
	buf_fini(&answer->content);
	memset(answer, 0, sizeof *answer);
}

/* Text that is a number of seconds; a date is none (RFC 9110 10.2.3). */
static uint64_t read_seconds(struct span text)
{
	uint64_t seconds = 0;

	if (text.len > 6)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (text.bytes[i] < '0' || text.bytes[i] > '9')
			return 0;
		seconds = seconds * 10 + (uint64_t)(text.bytes[i] - '0');
	}
	return seconds;
}

static void on_ask_answer(void *user, const struct http_answer *answer)
{
	struct ask *a = user;

	if (!a->is_waiting)
		return;
	a->is_waiting = false;
	a->error = 0;
	a->answer->status = answer->status;
	a->answer->retry_after_s =
		read_seconds(answer->fields[HTTP_ANSWER_RETRY_AFTER]);
	if (buf_append(&a->answer->content, answer->content.bytes,
		       answer->content.len) != 0 ||
	    buf_append(&a->answer->content, "", 1) != 0)
		a->error = UV_ENOMEM;
	else
		a->answer->content.len--;
	uv_stop(&a->loop);
}

static void on_ask_end(void *user, const struct client_end *end)
{
	struct ask *a = user;

	a->client = NULL;
	if (!a->is_waiting)
		return;
	a->is_waiting = false;
	a->error = end->error;
	snprintf(a->answer->why, sizeof a->answer->why, "%.*s",
		 (int)end->why.len, end->why.bytes);
	uv_stop(&a->loop);
}

static const struct client_handler handler = {
	.on_answer = on_ask_answer,
	.on_end = on_ask_end,
};

static void on_deadline(uv_timer_t *timer)
{
	struct ask *a = timer->data;

	if (a->client != NULL)
		client_abort(a->client, UV_ETIMEDOUT);
}

struct ask *ask_new(const struct url *to)
{
	struct ask *a = calloc(1, sizeof *a);

	if (a == NULL)
		return NULL;
	if (uv_loop_init(&a->loop) != 0) {
		free(a);
		return NULL;
	}
	uv_timer_init(&a->loop, &a->deadline);
	a->deadline.data = a;
	a->to = to;
	return a;
}

void ask_free(struct ask *a)
{
	if (a == NULL)
		return;
	if (a->client != NULL)
		client_abort(a->client, 0);
	uv_close((uv_handle_t *)&a->deadline, NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&a->loop) == 0);
	free(a);
}

static int ask_once(struct ask *a, const struct client_request *request)
{
	int rv = 0;

	if (a->client == NULL)
		rv = client_open(&a->client, &a->loop, a->to, &handler, a);
	if (rv == 0)
		rv = client_request(a->client, request);
	if (rv != 0)
		return rv;
	a->is_waiting = true;
	while (a->is_waiting)
		uv_run(&a->loop, UV_RUN_DEFAULT);
	return a->error;
}

int ask_now(struct ask *a, const struct client_request *request,
	    uint64_t timeout_ms, struct ask_answer *answer)
{
	a->answer = answer;
	ask_answer_fini(answer);
	uv_update_time(&a->loop);
	uv_timer_start(&a->deadline, on_deadline, timeout_ms, 0);
	/* What has happened to a kept connection meanwhile. */
	uv_run(&a->loop, UV_RUN_NOWAIT);
	bool was_kept = a->client != NULL;
	int rv = ask_once(a, request);
	if (was_kept && (rv == UV_EOF || rv == UV_ECONNRESET || rv == UV_EPIPE))
		rv = ask_once(a, request);
	uv_timer_stop(&a->deadline);
	return rv;
}
