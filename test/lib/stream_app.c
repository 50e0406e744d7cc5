/* stream_app.c - see stream_app.h. */
#include "stream_app.h"

struct app *app_of(const struct conn *c)
{
	return CONTAINER_OF(conn_group_of(c)->context, struct app, l);
}

bool is_path(const struct http_request *request, const char *path)
{
	return span_equal(request->path, span_of(path));
}

void on_head(struct conn *c, const struct http_request *request)
{
	if (is_path(request, "/early"))
		conn_respond_error(c, 401, "early", "X-Own: 1\r\n");
}

void on_request(struct conn *c, const struct http_request *request)
{
	struct app *a = app_of(c);

	a->conn = c;
	if (is_path(request, "/stream"))
		conn_stream(c, SPAN(FIRST));
	else if (is_path(request, "/ws")) {
		if (conn_check_upgrade(c))
			conn_upgrade(c, a->subprotocol);
	} else if (!is_path(request, "/later"))
		conn_respond(c, &(struct http_response){.status = 200});
}

const char *fields(struct conn *c, const struct http_request *request,
		   struct span origin)
{
	static char text[64];

	if (request == NULL)
		return "X-Unread: yes\r\n";
	app_of(c)->asked++;
	assert_ptr_equal(request, conn_request(c));
	if (origin.bytes == NULL)
		return NULL;
	snprintf(text, sizeof text, "X-Origin: %.*s\r\n", (int)origin.len,
		 origin.bytes);
	return text;
}

void on_message(struct conn *c, bool is_text, struct span message)
{
	struct app *a = app_of(c);

	assert_true(is_text);
	assert_int_equal(conn_state(c), CONN_WEBSOCKET);
	a->messages++;
	buf_append(&a->texts, message.bytes, message.len);
	buf_append(&a->texts, ";", 1);
	if (a->pauses)
		conn_pause(c);
	if (a->resumes)
		conn_resume(c);
	if (a->then_ends != CLOSE_REASON_NONE)
		conn_end(c, a->then_ends, NULL);
}

void on_room(struct conn *c)
{
	static const char filling[10000];
	struct app *a = app_of(c);

	a->rooms++;
	assert_true(conn_has_room(c));
	while (a->to_feed > 0 && conn_has_room(c)) {
		size_t len = a->to_feed < sizeof filling ? a->to_feed
							 : sizeof filling;
		conn_send_text(c, (struct span){filling, len});
		a->to_feed -= len;
	}
	if (a->to_feed > 0)
		conn_wait_for_room(c);
}

void on_end(struct conn *c)
{
	struct app *a = app_of(c);

	a->ends++;
	if (a->conn == c)
		a->conn = NULL;
}

struct app *app_new(const struct conn_limits *limits)
{
	struct app *a = calloc(1, sizeof *a);
	assert_non_null(a);
	a->then_ends = CLOSE_REASON_NONE;
	loopback_open(&a->l, &hooks, limits);
	return a;
}

struct app *app_with_duration(enum deadline_kind kind, uint64_t ms)
{
	struct conn_limits limits = roomy_limits;
	limits.durations_ms[kind] = ms;
	return app_new(&limits);
}

void app_free(struct app *a)
{
	loopback_close(&a->l);
	buf_fini(&a->texts);
	free(a);
}

int set_up(void **state)
{
	*state = app_new(&roomy_limits);
	return 0;
}

int tear_down(void **state)
{
	app_free(*state);
	return 0;
}

struct client *ask(struct app *a, struct client *c, const char *request)
{
	bool reads = c->reads;

	c->reads = true;
	send_text(c, request);
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_non_null(a->conn);
	skip_upgrade(c);
	c->reads = reads;
	return c;
}

struct client *open_stream(struct app *a)
{
	return ask(a, connect_client(&a->l), GET_OLD("/stream"));
}

struct client *open_websocket(struct app *a)
{
	return ask(a, connect_client(&a->l), UPGRADE);
}

struct chunk *chunk_of(const char *text)
{
	struct chunk *chunk = chunk_new(strlen(text));

	assert_non_null(chunk);
	chunk_append(chunk, text, strlen(text));
	return chunk;
}

void send_filling(struct conn *c, size_t len)
{
	char *filling = malloc(len);

	assert_non_null(filling);
	memset(filling, 'x', len);
	conn_send_text(c, (struct span){filling, len});
	free(filling);
}

void wait_for_frame(struct app *a, struct client *c, struct frame *out)
{
	WAIT_UNTIL(&a->l, next_frame(c, out));
}

void expect_close(struct app *a, struct client *c, unsigned code)
{
	struct frame frame;
	wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, code);
}

void expect_ending(struct app *a, enum stats_counter how)
{
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(ended(&a->l, how), 1);
}
