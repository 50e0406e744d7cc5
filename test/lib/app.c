/* app.c - see app.h. */
#include "app.h"

const struct app_ending app_endings[CLOSE_REASON_COUNT] = {
#define ROW(name, code, reason)                                                \
	{CLOSE_REASON_##name, STATS_closed_##name, code, reason},
	CLOSE_REASONS(ROW)
#undef ROW
};

static struct app *app_of(const struct conn *c)
{
	return CONTAINER_OF(conn_group_of(c)->context, struct app, l);
}

static char *filling_of(size_t len, char filling)
{
	char *bytes = malloc(len + 1);

	assert_non_null(bytes);
	memset(bytes, filling, len);
	return bytes;
}

/* --- hooks ---------------------------------------------------------------- */

bool app_is_path(const struct http_request *request, const char *path)
{
	return span_equal(request->path, span_of(path));
}

static void on_head(struct conn *c, const struct http_request *request)
{
	app_of(c)->heads++;
	assert_int_equal(conn_state(c), CONN_REQUEST);
	if (app_is_path(request, "/early"))
		conn_respond_error(c, 401, "early", "X-Own: 1\r\n");
	else if (app_is_path(request, "/early-last"))
		conn_respond(c, &(struct http_response){.status = 401,
							.close = true});
	else if (app_is_path(request, "/gone-early"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
}

void app_respond(struct conn *c, struct span content)
{
	conn_respond(c, &(struct http_response){.status = 200,
						.content_type = "text/plain",
						.close = app_of(c)->is_last,
						.content = content});
}

void app_respond_filling(struct conn *c, size_t len)
{
	char *filling = filling_of(len, 'x');
	app_respond(c, (struct span){filling, len});
	free(filling);
}

static void keep_pending(struct app *a, struct conn *c)
{
	/* While the test closes the group nobody would answer later. */
	if (conn_group_of(c)->is_draining) {
		app_respond(c, SPAN("the end"));
		return;
	}
	assert_true(a->pending_count < PENDING_MAX);
	a->pending[a->pending_count++] = c;
}

static void on_request(struct conn *c, const struct http_request *request)
{
	struct app *a = app_of(c);

	a->requests++;
	a->conn = c;
	assert_int_equal(conn_state(c), CONN_PENDING);
	assert_ptr_equal(conn_request(c), request);
	if (app_is_path(request, "/later"))
		keep_pending(a, c);
	else if (app_is_path(request, "/gone"))
		conn_end(c, CLOSE_REASON_peer_gone, NULL);
	else if (app_is_path(request, "/big"))
		app_respond_filling(c, BIG_BYTES);
	else if (app_is_path(request, "/huge"))
		app_respond_filling(c, HUGE_BYTES);
	else if (app_is_path(request, "/stream"))
		conn_stream(c, SPAN(FIRST));
	else if (!app_is_path(request, "/ws") &&
		 !app_is_path(request, "/ws-later"))
		app_respond(c, request->path);
	else if (conn_check_upgrade(c)) {
		if (app_is_path(request, "/ws"))
			conn_upgrade(c, a->subprotocol);
		else
			keep_pending(a, c);
	}
}

/* Tells what it was asked about: the spans must be those of the request. */
static const char *fields(struct conn *c, const struct http_request *request,
			  struct span origin)
{
	static char text[64];

	if (request == NULL)
		return "X-Unread: yes\r\n"; /* its head could not be read */
	app_of(c)->asked++;
	assert_ptr_equal(conn_request(c), request);
	if (origin.bytes == NULL)
		return NULL;
	snprintf(text, sizeof text, "X-Origin: %.*s\r\n", (int)origin.len,
		 origin.bytes);
	return text;
}

static void take_time(uint64_t ns)
{
	uint64_t until_ns = uv_hrtime() + ns;
	while (uv_hrtime() < until_ns)
		;
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct app *a = app_of(c);

	assert_int_equal(conn_state(c), CONN_WEBSOCKET);
	if (c == a->unheard)
		return;
	a->messages++;
	if (is_text) {
		buf_append(&a->texts, message.bytes, message.len);
		buf_append(&a->texts, ";", 1);
	}
	take_time(a->message_ns);
	if (a->pauses)
		conn_pause(c);
	if (a->resumes)
		conn_resume(c);
	if (a->ends_with == CLOSE_REASON_NONE)
		return;
	if (a->is_later)
		conn_end_later(c, a->ends_with);
	else
		conn_end(c, a->ends_with, NULL);
	a->state_after_end = conn_state(c);
}

static void on_room(struct conn *c)
{
	static const char filling[10000];
	struct app *a = app_of(c);
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	assert_true(conn_has_room(c));
	a->rooms++;
	while (a->to_feed > 0 && conn_has_room(c)) {
		size_t len = a->to_feed < sizeof filling ? a->to_feed
							 : sizeof filling;
		conn_send_text(c, (struct span){filling, len});
		a->to_feed -= len;
	}
	if (a->to_feed > 0)
		conn_wait_for_room(c);
}

static bool is_committed(struct conn *c)
{
	return app_of(c)->is_committed;
}

static void on_end(struct conn *c)
{
	struct app *a = app_of(c);
	bool *has_ended = conn_user(c);

	assert_false(*has_ended);
	*has_ended = true;
	if (a->end_takes_ms > 0)
		uv_sleep(a->end_takes_ms);
	a->ends++;
	for (unsigned i = 0; i < a->pending_count; i++)
		if (a->pending[i] == c)
			a->pending[i] = NULL;
	if (a->conn == c)
		a->conn = NULL;
}

static const struct conn_hooks hooks = {
	.user_bytes = sizeof(bool), /* whether it has ended */
	.on_head = on_head,
	.on_request = on_request,
	.fields = fields,
	.on_room = on_room,
	.on_message = on_message,
	.is_committed = is_committed,
	.on_end = on_end,
};

/* --- set-up --------------------------------------------------------------- */

struct app *app_new(const struct conn_limits *limits)
{
	struct app *a = calloc(1, sizeof *a);

	assert_non_null(a);
	a->ends_with = CLOSE_REASON_NONE;
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
	uint64_t accepted = ended(&a->l, STATS_accepted);

	loopback_close(&a->l);
	assert_true(a->has_no_memory || a->ends == accepted);
	buf_fini(&a->texts);
	free(a);
}

int app_set_up(void **state)
{
	*state = app_new(&roomy_limits);
	return 0;
}

int app_tear_down(void **state)
{
	app_free(*state);
	return 0;
}

/* --- clients -------------------------------------------------------------- */

struct client *app_ask(struct app *a, struct client *c, const char *request)
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

struct client *app_open_websocket(struct app *a)
{
	return app_ask(a, connect_client(&a->l), UPGRADE("/ws"));
}

struct client *app_open_lazy_websocket(struct app *a)
{
	return app_ask(a, connect_lazy_client(&a->l), UPGRADE("/ws"));
}

struct client *app_open_stream(struct app *a)
{
	return app_ask(a, connect_client(&a->l), GET_OLD("/stream"));
}

struct client *app_connect_high(struct app *a)
{
	int server;
	int client;

	tcp_pair(0, &server, &client);
	int high = fcntl(server, F_DUPFD_CLOEXEC, 200);
	assert_true(high >= 200);
	close(server);
	assert_int_equal(
		conn_open(a->l.group, (struct accepted){high, LISTENER_TCP}),
		0);
	struct client *c = add_client(&a->l, client);
	send_text(c, GET("/one"));
	WAIT_UNTIL(&a->l, responses(c) == 1);
	a->conn = NULL;
	return c;
}

bool app_has_read(const struct app *a, const char *texts)
{
	struct span got = {a->texts.bytes, a->texts.len};
	return span_equal(got, span_of(texts));
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

/* --- sending to clients --------------------------------------------------- */

struct chunk *app_chunk(const char *bytes)
{
	struct chunk *chunk = chunk_new(strlen(bytes));

	assert_non_null(chunk);
	chunk_append(chunk, bytes, strlen(bytes));
	return chunk;
}

struct chunk *app_frame(unsigned opcode, size_t len, char filling)
{
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t header_len = websocket_write_header(end, opcode, len);
	struct chunk *chunk = chunk_new(header_len + len);
	char *payload = filling_of(len, filling);

	assert_non_null(chunk);
	chunk_append(chunk, end - header_len, header_len);
	chunk_append(chunk, payload, len);
	free(payload);
	return chunk;
}

void app_send_filling(struct conn *c, size_t len, char filling)
{
	struct chunk *chunk = app_frame(OP_TEXT, len, filling);

	conn_send(c, chunk);
	chunk_unref(chunk);
}

void app_send_text(struct conn *c, size_t len)
{
	char *text = filling_of(len, 'x');

	conn_send_text(c, (struct span){text, len});
	free(text);
}
