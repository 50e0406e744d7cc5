/* crew.c - see crew.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "access/auth_cache.h"
#include "crew.h"

const struct descriptors_shares crew_shares = {.admin = 2,
					       .clients = 100,
					       .subscribers = 90,
					       .tcp = 100,
					       .tcp_subscribers = 90,
					       .reserve = 10};

static struct worker *make_worker(struct crew *crew, unsigned index)
{
	struct worker *w = aligned_alloc(_Alignof(struct worker), sizeof *w);

	assert_non_null(w);
	memset(w, 0, sizeof *w);
	assert_int_equal(worker_init(w, index, &crew->shared), 0);
	return w;
}

void crew_open(struct crew *crew, const struct config *config,
	       const struct worker_app *app, unsigned count)
{
	signal(SIGPIPE, SIG_IGN); /* as in server.c */
	assert_true(count <= CREW_MAX);
	memset(crew, 0, sizeof *crew);
	crew->memory_used = settled_memory_used();
	crew->count = count;
	crew->shared.config = config;
	crew->shared.app = app;
	crew->shared.workers = crew->workers;
	crew->shared.workers_count = count;
	for (unsigned w = 0; w < count; w++) {
		crew->workers[w] = make_worker(crew, w);
		crew->mailboxes[w] = &crew->workers[w]->mailbox;
	}
}

void crew_start(struct crew *crew)
{
	while (crew->started < crew->count) {
		assert_int_equal(worker_start(crew->workers[crew->started]), 0);
		crew->started++;
	}
}

void crew_stop(struct crew *crew)
{
	for (unsigned w = 0; w < crew->started; w++)
		mailbox_post_order(crew->mailboxes[w], MAILBOX_STOP);
	for (unsigned w = 0; w < crew->started; w++)
		worker_join(crew->workers[w]);
	crew->started = 0;
}

void crew_close(struct crew *crew)
{
	for (unsigned i = 0; i < crew->clients_count; i++) {
		close_client(&crew->clients[i]);
		buf_fini(&crew->clients[i].in);
	}
	crew_stop(crew);
	for (unsigned w = 0; w < crew->count; w++)
		worker_fini(crew->workers[w]);
	registry_free(crew->shared.registry);
	auth_cache_free(crew->shared.auth_cache);
	idempotency_free(crew->shared.idempotency);
	for (unsigned w = 0; w < crew->count; w++)
		free(crew->workers[w]);
	/* What one thread charges another may credit. */
	assert_int_equal(settled_memory_used(), crew->memory_used);
}

struct client *crew_connect(struct crew *crew, struct client *place)
{
	int server;
	int fd;

	if (place == NULL) {
		assert_true(crew->clients_count < CLIENTS_MAX);
		place = &crew->clients[crew->clients_count++];
	}
	tcp_pair(0, &server, &fd);
	*place = (struct client){.fd = fd, .reads = true};
	atomic_fetch_add(&crew->shared.connections[LISTENER_TCP], 1);
	assert_int_equal(
		mailbox_post_socket(crew->mailboxes[crew->next++ % crew->count],
				    (struct accepted){server, LISTENER_TCP}),
		0);
	return place;
}

void crew_turn(struct crew *crew)
{
	usleep(200);
	for (unsigned i = 0; i < crew->clients_count; i++)
		client_take(&crew->clients[i]);
}
