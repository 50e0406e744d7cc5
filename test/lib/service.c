/* service.c - see service.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "access/auth_cache.h"
#include "access/password.h"
#include "api/routes.h"
#include "service.h"

#define CLIENT_ROOM 65536 /* bytes, so that taking them allocates nothing */

static struct worker *make_worker(struct service *s, unsigned index)
{
	struct worker *w = aligned_alloc(_Alignof(struct worker), sizeof *w);

	assert_non_null(w);
	memset(w, 0, sizeof *w);
	assert_int_equal(worker_init(w, index, &s->shared), 0);
	return w;
}

/* What the workers share. */
static void open_shared(struct service *s)
{
	const struct config *c = &s->config;
	const struct registry_options registry = {
		.mailboxes = s->mailboxes,
		.workers = SERVICE_WORKERS,
		.history_size = (uint32_t)c->history_size,
		.history_ttl_ms = c->history_ttl_ms,
		.history_bytes = c->history_bytes,
		.replay_bytes = c->replay_bytes};
	const struct auth_cache_options auth_cache = {
		.checks_max = (unsigned)c->auth_checks_max,
		.queue_max = (unsigned)c->auth_queue,
		.mailboxes = s->mailboxes};

	assert_int_equal(registry_new(&s->shared.registry, &registry), 0);
	assert_int_equal(auth_cache_new(&s->shared.auth_cache, &auth_cache), 0);
	assert_int_equal(idempotency_new(&s->shared.idempotency,
					 c->idempotency_ttl_ms,
					 c->idempotency_bytes),
			 0);
}

static const char *no_settings(const char *name)
{
	(void)name;
	return NULL;
}

void service_open(struct service *s, config_get_cb get)
{
	char error[CONFIG_ERROR_MAX];

	signal(SIGPIPE, SIG_IGN); /* as in server.c */
	memset(s, 0, sizeof *s);
	s->memory_used = settled_memory_used();
	if (config_load(&s->config, get != NULL ? get : no_settings, error) !=
	    0)
		fail_msg("%s", error);
	password_set(SPAN(SERVICE_PASSWORD));
	s->config.shares = (struct descriptors_shares){.admin = 2,
						       .clients = 100,
						       .subscribers = 90,
						       .tcp = 100,
						       .tcp_subscribers = 90,
						       .reserve = 10};
	s->shared.config = &s->config;
	s->shared.app = &routes_app;
	s->shared.acceptor = &s->acceptor;
	s->shared.workers = s->workers;
	s->shared.workers_count = SERVICE_WORKERS;
	for (unsigned w = 0; w < SERVICE_WORKERS; w++) {
		s->workers[w] = make_worker(s, w);
		s->mailboxes[w] = &s->workers[w]->mailbox;
	}
	open_shared(s);
	for (unsigned w = 0; w < SERVICE_WORKERS; w++)
		assert_int_equal(worker_start(s->workers[w]), 0);
}

void service_close(struct service *s)
{
	for (unsigned i = 0; i < s->clients_count; i++) {
		close_client(&s->clients[i]);
		buf_fini(&s->clients[i].in);
	}
	for (unsigned w = 0; w < SERVICE_WORKERS; w++)
		mailbox_post_order(s->mailboxes[w], MAILBOX_STOP);
	for (unsigned w = 0; w < SERVICE_WORKERS; w++)
		worker_join(s->workers[w]);
	for (unsigned w = 0; w < SERVICE_WORKERS; w++)
		worker_fini(s->workers[w]);
	registry_free(s->shared.registry);
	auth_cache_free(s->shared.auth_cache);
	idempotency_free(s->shared.idempotency);
	for (unsigned w = 0; w < SERVICE_WORKERS; w++)
		free(s->workers[w]);
	assert_int_equal(settled_memory_used(), s->memory_used);
}

/* A place for one more client: that of one that is over, if there is one. */
static struct client *free_place(struct service *s)
{
	for (unsigned i = 0; i < s->clients_count; i++)
		if (s->clients[i].is_over) {
			close_client(&s->clients[i]);
			buf_fini(&s->clients[i].in);
			return &s->clients[i];
		}
	assert_true(s->clients_count < CLIENTS_MAX);
	return &s->clients[s->clients_count++];
}

struct client *service_connect(struct service *s)
{
	struct client *c = free_place(s);
	int server;
	int fd;

	tcp_pair(0, &server, &fd);
	*c = (struct client){.fd = fd, .reads = true};
	assert_int_equal(buf_reserve(&c->in, CLIENT_ROOM), 0);
	atomic_fetch_add(&s->shared.connections[LISTENER_TCP], 1);
	assert_int_equal(mailbox_post_socket(
				 s->mailboxes[s->connected++ % SERVICE_WORKERS],
				 (struct accepted){server, LISTENER_TCP}),
			 0);
	/* Once it is the worker's, nothing more is allocated for it. */
	SERVICE_UNTIL(s, stats_get(&s->workers[0]->stats, STATS_accepted) >=
				 s->connected);
	return c;
}

void service_turn(struct service *s)
{
	usleep(200);
	for (unsigned i = 0; i < s->clients_count; i++)
		client_take(&s->clients[i]);
}

/* Whether an answer is there whole: its Content-Length says. */
static bool is_whole(const struct client *c)
{
	const char *head = c->in.bytes + c->at;
	size_t len = c->in.len - c->at;
	const char *end = memmem(head, len, "\r\n\r\n", 4);

	if (end == NULL)
		return false;
	size_t head_len = (size_t)(end - head) + 4;
	const char *field = memmem(head, head_len, "Content-Length: ", 16);
	if (field == NULL)
		return true;
	return len - head_len >= strtoul(field + 16, NULL, 10);
}

int service_ask(struct service *s, struct client *c, const char *request)
{
	c->at = 0;
	c->in.len = 0;
	/* It may have been ended for want of memory. */
	(void)!send(c->fd, request, strlen(request), MSG_NOSIGNAL);
	SERVICE_UNTIL(s, c->is_over || is_whole(c));
	assert_true(c->in.len < CLIENT_ROOM);
	c->in.bytes[c->in.len] = '\0';
	if (c->in.len < 12)
		return 0;
	assert_memory_equal(c->in.bytes, "HTTP/1.1 ", 9);
	return (int)strtol(c->in.bytes + 9, NULL, 10);
}

struct client *service_open_v1(struct service *s)
{
	struct client *c = service_connect(s);

	assert_int_equal(
		service_ask(s, c,
			    "GET /sub HTTP/1.1\r\nHost: x\r\n" SERVICE_UPGRADE
				    SERVICE_BASIC
			    "Sec-WebSocket-Protocol: isimud.v1\r\n\r\n"),
		101);
	skip_upgrade(c);
	return c;
}

bool service_receive(struct service *s, struct client *c, struct frame *out)
{
	bool has_come = false;

	SERVICE_UNTIL(s, (has_come = next_frame(c, out)) || c->is_over);
	return has_come;
}

struct service service;

int service_set_up(void **state)
{
	(void)state;
	service_open(&service, NULL);
	return 0;
}

int service_tear_down(void **state)
{
	(void)state;
	service_close(&service);
	return 0;
}
