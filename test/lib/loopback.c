/* loopback.c - see loopback.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "conn/private.h"
#include "loopback.h"

uint64_t totals[STATS_COUNT];
unsigned states_seen;

const struct conn_limits roomy_limits = {
	.body_max_bytes = 65536,
	.message_max_bytes = 65536,
	.buffered_max_bytes = 262144,
	.ping_misses_max = 2,
	.durations_ms = {[DEADLINE_HEAD] = 60000,
			 [DEADLINE_BODY] = 60000,
			 [DEADLINE_IDLE] = 60000,
			 [DEADLINE_WRITE] = 60000,
			 [DEADLINE_PING] = 60000,
			 [DEADLINE_CLOSE] = 60000,
			 [DEADLINE_LINGER] = 60000},
};

size_t settled_memory_used(void)
{
	memory_settle();
	if (memory_used() < (size_t)1 << 29)
		memory_set_limit(0, (size_t)1 << 30);
	return memory_used();
}

void set_memory_limit(size_t bytes)
{
	size_t used = settled_memory_used();
	memory_set_limit(0, used);
	size_t beyond_base = memory_used() - used; /* the kernel's part */
	memory_set_limit(bytes, used - beyond_base);
}

static void on_loopback_prepare(uv_prepare_t *prepare)
{
	struct loopback *l = prepare->data;
	conn_group_take_turns(l->group);
	conn_group_flush(l->group);
}

static void on_loopback_tick(uv_timer_t *timer)
{
	(void)timer;
}

void loopback_open(struct loopback *l, const struct conn_hooks *hooks,
		   const struct conn_limits *limits)
{
	signal(SIGPIPE, SIG_IGN); /* as in server.c */
	memset(l, 0, sizeof *l);
	l->memory_used = settled_memory_used();
	l->group = calloc(1, sizeof *l->group);
	assert_non_null(l->group);
	assert_int_equal(uv_loop_init(&l->loop), 0);
	assert_int_equal(uv_prepare_init(&l->loop, &l->prepare), 0);
	l->prepare.data = l;
	uv_prepare_start(&l->prepare, on_loopback_prepare);
	assert_int_equal(uv_timer_init(&l->loop, &l->tick), 0);
	uv_timer_start(&l->tick, on_loopback_tick, 1, 1);
	assert_int_equal(conn_group_open(l->group, &l->loop, hooks, l, limits,
					 &l->stats),
			 0);
}

void client_take(struct client *c)
{
	char bytes[65536];

	while (c->reads && c->fd >= 0 && !c->is_over) {
		ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			c->is_over = true;
			c->is_reset = n < 0;
			return;
		}
		assert_int_equal(buf_append(&c->in, bytes, (size_t)n), 0);
	}
}

size_t count_in(const struct loopback *l, enum conn_state state)
{
	size_t states[CONN_STATES];
	size_t queued;

	conn_group_count(l->group, states, &queued);
	return states[state];
}

size_t queued_bytes(const struct loopback *l)
{
	size_t states[CONN_STATES];
	size_t queued;

	conn_group_count(l->group, states, &queued);
	return queued;
}

void turn(struct loopback *l)
{
	uv_run(&l->loop, UV_RUN_ONCE);
	for (int state = 0; state < CONN_CLOSED; state++)
		if (count_in(l, (enum conn_state)state) > 0)
			l->states_seen |= 1u << state;
	for (unsigned i = 0; i < l->clients_count; i++)
		client_take(&l->clients[i]);
}

void turn_for(struct loopback *l, uint64_t ms)
{
	uint64_t until = uv_hrtime() + ms * 1000000;
	while (uv_hrtime() < until)
		turn(l);
}

uint64_t ended(const struct loopback *l, enum stats_counter how)
{
	return stats_get(&l->stats, how);
}

int listen_on_loopback(struct sockaddr_in *name)
{
	socklen_t len = sizeof *name;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	*name = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	assert_int_equal(bind(fd, (struct sockaddr *)name, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)name, &len), 0);
	return fd;
}

void tcp_pair(int buffer_bytes, int *server, int *client)
{
	struct sockaddr_in name;
	int one = 1;
	int listener = listen_on_loopback(&name);

	*client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(*client >= 0);
	setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (buffer_bytes > 0)
		setsockopt(*client, SOL_SOCKET, SO_RCVBUF, &buffer_bytes,
			   sizeof buffer_bytes);
	assert_int_equal(
		connect(*client, (struct sockaddr *)&name, sizeof name), 0);
	assert_int_equal(fcntl(*client, F_SETFL, O_NONBLOCK), 0);
	*server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(*server >= 0);
	setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (buffer_bytes > 0)
		setsockopt(*server, SOL_SOCKET, SO_SNDBUF, &buffer_bytes,
			   sizeof buffer_bytes);
	close(listener);
}

struct client *add_client(struct loopback *l, int fd)
{
	assert_true(l->clients_count < CLIENTS_MAX);
	struct client *c = &l->clients[l->clients_count++];
	*c = (struct client){.fd = fd, .reads = true};
	return c;
}

struct client *connect_client(struct loopback *l)
{
	int server;
	int client;

	tcp_pair(0, &server, &client);
	assert_int_equal(
		conn_open(l->group, (struct accepted){server, LISTENER_TCP}),
		0);
	return add_client(l, client);
}

struct client *connect_lazy_client(struct loopback *l)
{
	int server;
	int client;

	tcp_pair(SMALL_BYTES, &server, &client);
	assert_int_equal(
		conn_open(l->group, (struct accepted){server, LISTENER_TCP}),
		0);
	struct client *c = add_client(l, client);
	c->reads = false;
	return c;
}

void send_bytes(struct client *c, const void *bytes, size_t len)
{
	assert_int_equal(send(c->fd, bytes, len, MSG_NOSIGNAL), len);
}

void send_text(struct client *c, const char *text)
{
	send_bytes(c, text, strlen(text));
}

void send_buf(struct client *c, struct buf *b)
{
	send_bytes(c, b->bytes, b->len);
	buf_fini(b);
}

void put_frame(struct buf *b, unsigned opcode, struct span text)
{
	char header[8] = {(char)(0x80 | opcode)};
	size_t len = 2;

	if (text.len <= 125) {
		header[1] = (char)(0x80 | text.len);
	} else {
		assert_true(text.len <= UINT16_MAX);
		header[1] = (char)(0x80 | 126);
		header[2] = (char)(text.len >> 8);
		header[3] = (char)(text.len & 0xff);
		len = 4;
	}
	assert_int_equal(buf_append(b, header, len), 0);
	assert_int_equal(buf_append(b, "\0\0\0", 4), 0);
	assert_int_equal(buf_append(b, text.bytes, text.len), 0);
}

void put_text(struct buf *b, const char *text)
{
	put_frame(b, OP_TEXT, span_of(text));
}

void send_frame(struct client *c, unsigned opcode, struct span text)
{
	struct buf b = {0};
	put_frame(&b, opcode, text);
	send_buf(c, &b);
}

void close_client(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void reset_client(struct client *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	assert_int_equal(
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	close_client(c);
}

unsigned count_of(const struct client *c, const char *text)
{
	unsigned count = 0;
	size_t len = strlen(text);

	for (size_t i = c->at; i + len <= c->in.len; i++)
		count += memcmp(c->in.bytes + i, text, len) == 0;
	return count;
}

unsigned responses(const struct client *c)
{
	return count_of(c, "HTTP/1.1 ");
}

size_t place_of(const struct client *c, const char *text)
{
	const char *found = memmem(c->in.bytes, c->in.len, text, strlen(text));
	if (found == NULL)
		fail_msg("not received: %s", text);
	return (size_t)(found - c->in.bytes);
}

uint64_t read_number(const uint8_t *bytes, size_t len)
{
	uint64_t number = 0;
	for (size_t i = 0; i < len; i++)
		number = number << 8 | bytes[i];
	return number;
}

bool next_frame(struct client *c, struct frame *out)
{
	const uint8_t *bytes = (const uint8_t *)c->in.bytes + c->at;
	size_t left = c->in.len - c->at;

	if (left < 2)
		return false;
	assert_int_equal(bytes[0] & 0xf0, 0x80); /* whole, nothing reserved */
	size_t extra = bytes[1] == 126 ? 2 : bytes[1] == 127 ? 8 : 0;
	if (left < 2 + extra)
		return false;
	uint64_t len = extra == 0 ? bytes[1] : read_number(bytes + 2, extra);
	if (left - 2 - extra < len)
		return false;
	*out = (struct frame){
		.opcode = bytes[0] & 0xf,
		.payload = {(const char *)bytes + 2 + extra, (size_t)len}};
	if (out->opcode == OP_CLOSE && len >= 2)
		out->code = (unsigned)read_number(bytes + 2, 2);
	c->at += 2 + extra + (size_t)len;
	return true;
}

void skip_upgrade(struct client *c)
{
	c->at = place_of(c, "\r\n\r\n") + 4;
}

/* For whoever looks for the reason why connections do not end. */
static void describe_connections(const struct loopback *l)
{
	LIST_FOR_EACH_SAFE (it, after, &l->group->conns) {
		const struct conn *c = CONTAINER_OF(it, struct conn, link);
		print_error("conn %p: state %u, reading %u, deadline %u (%s), "
			    "doomed %u, why %u, %zu bytes queued, a write %s, "
			    "%zu bytes unread\n",
			    (const void *)c, c->state, c->reading,
			    c->deadline_kind,
			    deadline_is_set(&c->deadline) ? "set" : "not set",
			    c->doomed, c->why, c->outq.bytes,
			    c->writing != NULL ? "waits" : "does not wait",
			    c->stash != NULL ? c->stash->len : 0);
	}
}

void loopback_close(struct loopback *l)
{
	for (unsigned i = 0; i < l->clients_count; i++)
		close_client(&l->clients[i]);
	conn_group_end_all(l->group);
	uint64_t until = uv_hrtime() + WAIT_MS * 1000000ULL;
	while (l->group->count > 0 && uv_hrtime() < until)
		turn(l);
	describe_connections(l);
	assert_int_equal(l->group->count, 0);
	assert_true(list_is_empty(&l->group->conns));
	assert_true(list_is_empty(&l->group->dirty));
	conn_group_close(l->group);
	uv_close((uv_handle_t *)&l->prepare, NULL);
	uv_close((uv_handle_t *)&l->tick, NULL);
	uv_run(&l->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&l->loop), 0);
	for (unsigned i = 0; i < l->clients_count; i++)
		buf_fini(&l->clients[i].in);
	for (int i = 0; i < STATS_COUNT; i++)
		totals[i] += stats_get(&l->stats, (enum stats_counter)i);
	states_seen |= l->states_seen;
	free(l->group);
	assert_int_equal(settled_memory_used(), l->memory_used);
}
