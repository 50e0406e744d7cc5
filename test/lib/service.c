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

/* What workers share. */
static void open_shared(struct service *s)
{
	const struct config *c = &s->config;
	struct worker_shared *shared = &s->crew.shared;
	const struct registry_options registry = {
		.mailboxes = s->crew.mailboxes,
		.workers = 1,
		.history_size = (uint32_t)c->history_size,
		.history_ttl_ms = c->history_ttl_ms,
		.history_bytes = c->history_bytes,
		.replay_bytes = c->replay_bytes};
	const struct auth_cache_options auth_cache = {
		.checks_max = (unsigned)c->auth_checks_max,
		.queue_max = (unsigned)c->auth_queue,
		.mailboxes = s->crew.mailboxes};

	shared->acceptor = &s->acceptor;
	assert_int_equal(registry_new(&shared->registry, &registry), 0);
	assert_int_equal(auth_cache_new(&shared->auth_cache, &auth_cache), 0);
	assert_int_equal(idempotency_new(&shared->idempotency,
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

	memset(s, 0, sizeof *s);
	if (config_load(&s->config, get != NULL ? get : no_settings, error) !=
	    0)
		fail_msg("%s", error);
	password_set_all(&SPAN(SERVICE_PASSWORD), 1);
	s->config.shares = crew_shares;
	crew_open(&s->crew, &s->config, &routes_app, 1);
	open_shared(s);
	crew_start(&s->crew);
}

void service_close(struct service *s)
{
	crew_close(&s->crew);
}

/* That of one that is over, or NULL. */
static struct client *free_place(struct service *s)
{
	for (unsigned i = 0; i < s->crew.clients_count; i++)
		if (s->crew.clients[i].is_over) {
			close_client(&s->crew.clients[i]);
			buf_fini(&s->crew.clients[i].in);
			return &s->crew.clients[i];
		}
	return NULL;
}

struct client *service_connect(struct service *s)
{
	struct client *c = crew_connect(&s->crew, free_place(s));

	assert_int_equal(buf_reserve(&c->in, CLIENT_ROOM), 0);
	s->connected++;
	/* Once it is the worker's, nothing more is allocated for it. */
	SERVICE_UNTIL(s, stats_get(&s->crew.workers[0]->stats,
				   STATS_accepted) >= s->connected);
	return c;
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
