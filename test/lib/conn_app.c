/* conn_app.c - see conn_app.h. */
#include "conn_app.h"

struct app *conn_app_of(const struct conn *c)
{
	return CONTAINER_OF(conn_group_of(c)->context, struct app, l);
}

bool app_is_path(const struct http_request *request, const char *path)
{
	return span_equal(request->path, span_of(path));
}

void app_on_head(struct conn *c, const struct http_request *request)
{
	conn_app_of(c)->heads++;
	assert_int_equal(conn_state(c), CONN_REQUEST);
	if (app_is_path(request, "/early"))
		conn_respond_error(c, 401, "early", NULL);
	else if (app_is_path(request, "/early-last"))
		conn_respond(c, &(struct http_response){.status = 401,
							.close = true});
	else if (app_is_path(request, "/gone-early"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
}

void respond_with(struct conn *c, struct span content)
{
	conn_respond(c, &(struct http_response){.status = 200,
						.content_type = "text/plain",
						.content = content});
}

void respond_with_filling(struct conn *c, size_t len)
{
	char *filling = malloc(len);
	assert_non_null(filling);
	memset(filling, 'x', len);
	respond_with(c, (struct span){filling, len});
	free(filling);
}

void upgrade(struct conn *c)
{
	conn_app_of(c)->websocket = c;
	conn_upgrade(c, (struct span){0});
}

void keep_pending(struct conn *c)
{
	struct app *a = conn_app_of(c);

	/* While the test closes the group nobody would answer later. */
	if (conn_group_of(c)->is_draining) {
		respond_with(c, SPAN("the end"));
		return;
	}
	assert_true(a->pending_count < PENDING_MAX);
	a->pending[a->pending_count++] = c;
}

void app_on_request(struct conn *c, const struct http_request *request)
{
	conn_app_of(c)->requests++;
	assert_int_equal(conn_state(c), CONN_PENDING);
	assert_ptr_equal(conn_request(c), request);
	if (app_is_path(request, "/later"))
		keep_pending(c);
	else if (app_is_path(request, "/gone"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
	else if (app_is_path(request, "/big"))
		respond_with_filling(c, BIG_BYTES);
	else if (app_is_path(request, "/huge"))
		respond_with_filling(c, HUGE_BYTES);
	else if (app_is_path(request, "/stream"))
		conn_stream(c, SPAN("first"));
	else if (!app_is_path(request, "/ws") &&
		 !app_is_path(request, "/ws-later"))
		respond_with(c, request->path);
	else if (conn_check_upgrade(c)) {
		if (app_is_path(request, "/ws"))
			upgrade(c);
		else
			keep_pending(c);
	}
}

void app_on_message(struct conn *c, bool is_text, struct span message)
{
	struct app *a = conn_app_of(c);

	assert_int_equal(conn_state(c), CONN_WEBSOCKET);
	a->messages++;
	if (is_text) {
		buf_append(&a->texts, message.bytes, message.len);
		buf_append(&a->texts, ";", 1);
	}
	if (a->pauses)
		conn_pause(c);
	if (a->on_message == CLOSE_REASON_NONE)
		return;
	if (a->is_later)
		conn_end_later(c, a->on_message);
	else
		conn_end(c, a->on_message, NULL);
	a->state_after_end = conn_state(c);
}

const char *app_fields(struct conn *c, const struct http_request *request,
		       struct span origin)
{
	(void)origin;
	if (request == NULL)
		return NULL; /* its head could not be read */
	assert_ptr_equal(conn_request(c), request);
	return request->path.len > 4 ? "X-Long: yes\r\n" : NULL;
}

void app_on_room(struct conn *c)
{
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	conn_send_text(c, SPAN("room"));
}

void app_on_end(struct conn *c)
{
	struct app *a = conn_app_of(c);
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	*has_ended = true;
	a->ends++;
	for (unsigned i = 0; i < a->pending_count; i++)
		if (a->pending[i] == c)
			a->pending[i] = NULL;
	if (a->websocket == c)
		a->websocket = NULL;
}

struct app *conn_app_new(const struct conn_limits *limits)
{
	struct app *a = calloc(1, sizeof *a);
	assert_non_null(a);
	a->on_message = CLOSE_REASON_NONE;
	loopback_open(&a->l, &hooks, limits);
	return a;
}

struct app *conn_app_with_duration(enum deadline_kind kind, uint64_t ms)
{
	struct conn_limits limits = roomy_limits;
	limits.durations_ms[kind] = ms;
	return conn_app_new(&limits);
}

void conn_app_free(struct app *a)
{
	uint64_t opened = ended(&a->l, STATS_accepted);
	loopback_close(&a->l);
	assert_true(a->has_no_memory || a->ends == opened);
	buf_fini(&a->texts);
	free(a);
}

int app_set_up(void **state)
{
	*state = conn_app_new(&roomy_limits);
	return 0;
}

int app_tear_down(void **state)
{
	conn_app_free(*state);
	return 0;
}

struct client *app_open_websocket(struct app *a)
{
	struct client *c = connect_client(&a->l);
	send_text(c, UPGRADE("/ws"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	assert_non_null(a->websocket);
	skip_upgrade(c);
	return c;
}

struct client *open_lazy_websocket(struct app *a)
{
	struct client *c = connect_lazy_client(&a->l);
	c->reads = true;
	send_text(c, UPGRADE("/ws"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	skip_upgrade(c);
	c->reads = false;
	return c;
}

struct chunk *frame_of(unsigned opcode, size_t len, char filling)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t header_len = websocket_write_header(end, opcode, len);
	struct chunk *chunk = chunk_new(header_len + len);
	char *payload = malloc(len);

	assert_non_null(chunk);
	assert_non_null(payload);
	memset(payload, filling, len);
	chunk_append(chunk, end - header_len, header_len);
	chunk_append(chunk, payload, len);
	free(payload);
	return chunk;
}

void app_send_filling(struct conn *c, size_t len, char filling)
{
	struct chunk *chunk = frame_of(OP_TEXT, len, filling);
	conn_send(c, chunk);
	chunk_unref(chunk);
}

void app_wait_for_frame(struct app *a, struct client *c, struct frame *out)
{
	WAIT_UNTIL(&a->l, next_frame(c, out));
}

void app_expect_close(struct app *a, struct client *c, unsigned code)
{
	struct frame frame;
	app_wait_for_frame(a, c, &frame);
	assert_int_equal(frame.opcode, OP_CLOSE);
	assert_int_equal(frame.code, code);
}

void app_expect_ending(struct app *a, enum stats_counter how)
{
	WAIT_UNTIL(&a->l, a->l.group->count == 0);
	assert_int_equal(ended(&a->l, how), 1);
}
