/* sub.c - `isimud sub`: one WebSocket of isimud.v1 for all topics; connects
 * again whenever it ends. */
#include "base/check.h"
#include "base/utf8.h"
#include "cli/arguments.h"
#include "cli/client.h"
#include "cli/place.h"
#include "codec/json/json.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define NAME         "sub"
#define PAUSE_MIN_MS 250   /* before it comes back, at first */
#define PAUSE_MAX_MS 15000 /* doubled up to that */
#define WATCH_MS     15000 /* without a byte, before a ping */
#define CONNECT_MS   10000 /* for connection and handshake */

struct topic {
	struct span name;
	struct buf place; /* the last id, to resume behind; empty: none yet */
};

struct sub {
	const struct arguments *arguments;
	struct place place;
	struct topic *topics;
	size_t topics_count;
	struct buf path;
	struct buf fields;
	struct buf command; /* and what is read */

	uv_loop_t loop;
	uv_timer_t retry;    /* until it comes back */
	uv_timer_t patience; /* CONNECT_MS, then --timeout */
	uv_check_t flush;
	struct client *client; /* NULL: none */
	uint64_t pause_ms;
	uint64_t received;
	bool is_over;
	int status; /* once it is */
};

/* The members of what the server sends. */
enum member {
	TYPE,
	REF,
	TOPIC,
	ID,
	DATA,
	RESUMED,
	FROM,
	TO,
	CODE,
	MESSAGE,
	MEMBERS,
};

/* Ends the command with exit status `status`; the first call decides. */
static void sub_finish(struct sub *s, int status)
{
	if (s->is_over)
		return;
	s->is_over = true;
	s->status = status;
	if (s->client != NULL)
		client_close(s->client);
	else
		uv_stop(&s->loop);
}

static void sub_fail_memory(struct sub *s)
{
	cli_say(NAME, "out of memory");
	sub_finish(s, EXIT_FAILURE);
}

/* --- what comes -----------------------------------------------------------
 */

static struct topic *topic_named(struct sub *s, struct span name)
{
	for (size_t i = 0; i < s->topics_count; i++)
		if (span_equal(s->topics[i].name, name))
			return &s->topics[i];
	return NULL;
}

static void set_place(struct sub *s, struct topic *t, struct span id)
{
	t->place.len = 0;
	if (buf_append(&t->place, id.bytes, id.len) != 0)
		sub_fail_memory(s);
}

static void print_message(struct span text)
{
	fwrite(text.bytes, 1, text.len, stdout);
	putchar('\n');
}

/* Messages of `t` were lost. */
static void print_loss(struct sub *s, const struct topic *t, struct span text)
{
	if (s->arguments->json)
		print_message(text);
	cli_say(NAME, "%.*s: messages were lost", (int)t->name.len,
		t->name.bytes);
	if (s->arguments->exact)
		sub_finish(s, EXIT_LOST);
}

static void take_message(struct sub *s, struct topic *t,
			 const struct json_member *m, struct span text)
{
	set_place(s, t, m[ID].value);
	print_message(s->arguments->json ? text : m[DATA].value);
	s->received++;
	if (s->arguments->timeout_ms > 0)
		uv_timer_again(&s->patience);
	if (s->arguments->count > 0 && s->received == s->arguments->count)
		sub_finish(s, EXIT_SUCCESS);
}

static void on_sub_timeout(uv_timer_t *timer)
{
	sub_finish(timer->data, EXIT_TIMEOUT);
}

static void take_subscribed(struct sub *s, struct topic *t,
			    const struct json_member *m, struct span text)
{
	bool is_first = t->place.len == 0;

	s->pause_ms = PAUSE_MIN_MS;
	if (span_equal(m[RESUMED].value, SPAN("false")))
		print_loss(s, t, text);
	if (is_first || span_equal(m[RESUMED].value, SPAN("false")))
		set_place(s, t, m[ID].value);
}

static void take_error(struct sub *s, const struct json_member *m)
{
	struct span code = m[CODE].value;

	cli_say(NAME, "%.*s (%.*s)", (int)m[MESSAGE].value.len,
		m[MESSAGE].value.bytes, (int)code.len, code.bytes);
	if (span_equal(code, SPAN("busy")) ||
	    span_equal(code, SPAN("no_memory")) ||
	    span_equal(code, SPAN("auth_failed")))
		client_close(s->client); /* it comes back */
	else
		sub_finish(s, EXIT_REFUSED);
}

static void sub_take(struct sub *s, const struct json_member *m,
		     struct span text)
{
	struct span type = m[TYPE].value;
	struct topic *t = topic_named(s, m[TOPIC].value);

	if (span_equal(type, SPAN("error"))) {
		take_error(s, m);
	} else if (t == NULL) {
		return; /* something new, which may be ignored */
	} else if (span_equal(type, SPAN("message"))) {
		take_message(s, t, m, text);
	} else if (span_equal(type, SPAN("subscribed"))) {
		take_subscribed(s, t, m, text);
	} else if (span_equal(type, SPAN("gap"))) {
		set_place(s, t, m[TO].value);
		print_loss(s, t, text);
	} else if (span_equal(type, SPAN("reset"))) {
		set_place(s, t, m[ID].value);
		print_loss(s, t, text);
	}
}

static void on_sub_message(void *user, struct span text)
{
	struct sub *s = user;
	struct json_error error;
	struct json_member m[MEMBERS] = {
		[TYPE] = {.name = "type",
			  .kinds = JSON_STRING,
			  .is_required = true},
		[REF] = {.name = "ref", .kinds = JSON_NUMBER},
		[TOPIC] = {.name = "topic", .kinds = JSON_STRING},
		[ID] = {.name = "id", .kinds = JSON_STRING},
		[DATA] = {.name = "data", .kinds = JSON_ANY},
		[RESUMED] = {.name = "resumed", .kinds = JSON_ANY},
		[FROM] = {.name = "from", .kinds = JSON_STRING},
		[TO] = {.name = "to", .kinds = JSON_STRING},
		[CODE] = {.name = "code", .kinds = JSON_STRING},
		[MESSAGE] = {.name = "message", .kinds = JSON_STRING},
	};

	if (s->is_over)
		return;
	if (json_read_members(text, m, MEMBERS, &s->command, &error) != 0) {
		cli_say(NAME, "the server sent what is not isimud.v1: %s",
			error.text);
		sub_finish(s, EXIT_FAILURE);
		return;
	}
	sub_take(s, m, text);
}

/* --- connections ----------------------------------------------------------
 */

static int write_command(struct sub *s, const struct topic *t)
{
	char last[48] = "";
	struct buf *out = &s->command;

	out->len = 0;
	if (s->arguments->last > 0 && t->place.len == 0)
		snprintf(last, sizeof last, ",\"last\":%" PRIu64,
			 s->arguments->last);
	int rv = buf_append_text(out, "{\"type\":\"subscribe\",\"publisher\":");
	rv = rv != 0 ? rv : json_write_string(out, s->place.publisher);
	rv = rv != 0 ? rv : buf_append_text(out, ",\"topic\":");
	rv = rv != 0 ? rv : json_write_string(out, t->name);
	rv = rv != 0 ? rv : buf_append_text(out, last);
	if (t->place.len > 0) {
		rv = rv != 0 ? rv : buf_append_text(out, ",\"since\":");
		rv = rv != 0 ? rv
			     : json_write_string(out,
						 (struct span){t->place.bytes,
							       t->place.len});
	}
	return rv != 0 ? rv : buf_append_text(out, "}");
}

static void on_open(void *user)
{
	struct sub *s = user;
	int rv = 0;

	if (s->arguments->timeout_ms == 0)
		uv_timer_stop(&s->patience);
	client_watch(s->client, WATCH_MS);
	for (size_t i = 0; rv == 0 && i < s->topics_count; i++) {
		rv = write_command(s, &s->topics[i]);
		if (rv == 0)
			rv = client_send(s->client,
					 (struct span){s->command.bytes,
						       s->command.len});
	}
	if (rv != 0)
		sub_fail_memory(s);
}

/* The handshake was refused. */
static void on_sub_answer(void *user, const struct http_answer *answer)
{
	struct sub *s = user;
	struct buf memory = {0};
	struct span text = cli_error_text(answer->content, &memory);
	/* A proxy's error while the server is away is not final. */
	bool is_final = answer->status >= 400 && answer->status < 500 &&
			answer->status != 408 && answer->status != 429;

	cli_say(NAME, "the server answers %u%s%.*s", answer->status,
		text.len > 0 ? ": " : "", (int)text.len, text.bytes);
	buf_fini(&memory);
	if (is_final)
		sub_finish(s, EXIT_REFUSED);
}

static void connect_again(struct sub *s);

static void on_retry(uv_timer_t *timer)
{
	connect_again(timer->data);
}

static void on_sub_end(void *user, const struct client_end *end)
{
	struct sub *s = user;
	bool is_refused =
		end->code == 4401 || end->code == 4403 || end->code == 1008;

	s->client = NULL;
	if (s->is_over) {
		uv_stop(&s->loop);
		return;
	}
	if (end->code != 0)
		cli_say(NAME, "the server ended it: %u%s%.*s", end->code,
			end->why.len > 0 ? " " : "", (int)end->why.len,
			end->why.bytes);
	else if (end->error == UV_EPROTO)
		cli_say(NAME, "%.*s", (int)end->why.len, end->why.bytes);
	else if (end->error != 0)
		cli_say(NAME, "the connection ended: %s",
			uv_strerror(end->error));
	if (is_refused)
		sub_finish(s, EXIT_REFUSED);
	else if (s->arguments->no_retry || end->error == UV_EAI_NONAME)
		sub_finish(s, EXIT_FAILURE);
	if (s->is_over)
		return;
	/* Not all clients at once. */
	uint64_t pause_ms = cli_random(s->pause_ms);
	s->pause_ms =
		s->pause_ms * 2 < PAUSE_MAX_MS ? s->pause_ms * 2 : PAUSE_MAX_MS;
	uv_timer_start(&s->retry, on_retry, pause_ms, 0);
}

static const struct client_handler handler = {
	.on_answer = on_sub_answer,
	.on_open = on_open,
	.on_message = on_sub_message,
	.on_end = on_sub_end,
};

static void on_patience(uv_timer_t *timer)
{
	struct sub *s = timer->data;

	if (s->client != NULL)
		client_abort(s->client, UV_ETIMEDOUT);
}

static void connect_again(struct sub *s)
{
	int rv = client_open(&s->client, &s->loop, &s->place.url, &handler, s);

	if (rv != 0) {
		s->client = NULL;
		on_sub_end(s, &(struct client_end){.error = rv});
		return;
	}
	/* --timeout runs on while the server is away. */
	if (s->arguments->timeout_ms == 0)
		uv_timer_start(&s->patience, on_patience, CONNECT_MS, 0);
	rv = client_upgrade(s->client, s->path.bytes, "isimud.v1",
			    (struct span){s->fields.bytes, s->fields.len});
	if (rv != 0)
		sub_fail_memory(s);
}

/* --- all of it ------------------------------------------------------------
 */

/* After each iteration of the loop: flushes what was printed in it. */
static void on_flush(uv_check_t *check)
{
	if (fflush(stdout) == 0)
		return;
	/* Nobody reads the output any more: end as SIGPIPE would. */
	signal(SIGPIPE, SIG_DFL);
	raise(SIGPIPE);
	sub_finish(check->data, EXIT_FAILURE);
}

static int read_topics(struct sub *s, char error[static ARGUMENTS_ERROR_MAX])
{
	const struct arguments *a = s->arguments;
	int rv = 0;

	s->topics = calloc(a->words_count, sizeof *s->topics);
	if (s->topics == NULL)
		return UV_ENOMEM;
	s->topics_count = a->words_count;
	for (size_t i = 0; i < s->topics_count; i++) {
		struct span name = span_of(a->words[i]);
		if (!utf8_is_valid(name) || topic_named(s, name) != NULL) {
			snprintf(error, ARGUMENTS_ERROR_MAX,
				 "a topic is not UTF-8, or named twice");
			return UV_EINVAL;
		}
		s->topics[i].name = name;
	}
	if (a->since != NULL && s->topics_count > 1) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "--since is for one topic");
		return UV_EINVAL;
	}
	if (a->since != NULL)
		rv = buf_append(&s->topics[0].place, a->since,
				strlen(a->since));
	return rv;
}

static int sub_prepare(struct sub *s, char error[static ARGUMENTS_ERROR_MAX])
{
	int rv = place_find(&s->place, s->arguments, error);

	if (rv == 0 && s->place.publisher.bytes == NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "whose topics? say --publisher NAME, or set "
			 "ISIMUD_PUBLISHER");
		rv = UV_EINVAL;
	}
	rv = rv != 0 ? rv : read_topics(s, error);
	rv = rv != 0 ? rv
		     : place_add_token(&s->place, "Authorization: Bearer ",
				       &s->fields, error);
	/* With its NUL: it is a path for client_upgrade(). */
	return rv != 0 ? rv : buf_append(&s->path, "/sub", sizeof "/sub");
}

static void run_subscription(struct sub *s)
{
	CHECK(uv_loop_init(&s->loop) == 0);
	uv_timer_init(&s->loop, &s->retry);
	uv_timer_init(&s->loop, &s->patience);
	uv_check_init(&s->loop, &s->flush);
	s->retry.data = s->patience.data = s->flush.data = s;
	uv_check_start(&s->flush, on_flush);
	s->pause_ms = PAUSE_MIN_MS;
	if (s->arguments->timeout_ms > 0)
		uv_timer_start(&s->patience, on_sub_timeout,
			       s->arguments->timeout_ms,
			       s->arguments->timeout_ms);
	connect_again(s);
	while (!s->is_over || s->client != NULL)
		uv_run(&s->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&s->retry, NULL);
	uv_close((uv_handle_t *)&s->patience, NULL);
	uv_close((uv_handle_t *)&s->flush, NULL);
	uv_run(&s->loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&s->loop) == 0);
	if (fflush(stdout) != 0)
		s->status = EXIT_FAILURE;
}

static void sub_fini(struct sub *s)
{
	for (size_t i = 0; i < s->topics_count; i++)
		buf_fini(&s->topics[i].place);
	free(s->topics);
	buf_fini(&s->path);
	buf_fini(&s->fields);
	buf_fini(&s->command);
	place_fini(&s->place);
}

int sub_run(const struct arguments *a)
{
	struct sub s = {.arguments = a, .status = EXIT_USAGE};
	char error[ARGUMENTS_ERROR_MAX] = "";

	int rv = sub_prepare(&s, error);
	if (rv == 0)
		run_subscription(&s);
	else
		cli_say(NAME, "%s", error[0] != '\0' ? error : uv_strerror(rv));
	sub_fini(&s);
	return s.status;
}
