/* client.c - what the server keeps of a client beside its connection:
 * made when it is needed, and forgotten with all that it holds. */
#include "api/private.h"
#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

struct session *routes_session(struct conn *c)
{
	struct client *client = conn_user(c);

	CHECK_ON_THREAD(conn_group_of(c)->owner);
	if (client->session == NULL) {
		client->session = calloc(1, sizeof *client->session);
		if (client->session != NULL)
			memory_charge(sizeof *client->session);
	}
	return client->session;
}

int routes_keep(struct span s, char **out)
{
	if (s.bytes == NULL)
		return 0;
	*out = malloc(s.len + 1);
	if (*out == NULL)
		return UV_ENOMEM;
	memory_charge(s.len + 1);
	if (s.len > 0)
		memcpy(*out, s.bytes, s.len);
	(*out)[s.len] = '\0';
	return 0;
}

static void drop_kept(char *kept, size_t len)
{
	if (kept == NULL)
		return;
	memory_credit(len + 1);
	free(kept);
}

static void drop_text(char *kept)
{
	drop_kept(kept, kept == NULL ? 0 : strlen(kept));
}

void routes_drop_waiting(struct session *session)
{
	memory_credit(session->waiting.cap);
	buf_fini(&session->waiting);
}

void routes_free_subscriber(struct subscriber *s)
{
	if (s->is_lossy) {
		subscribers_lossy_free(s);
		return;
	}
	memory_credit(sizeof *s);
	free(s);
}

static void forget_subscriptions(struct routes *r, struct session *session)
{
	for (unsigned i = 0; i < session->subscribed_count; i++) {
		struct subscriber *s = session->subscribed[i];
		subscribers_remove(&r->subscribers, s);
		routes_free_subscriber(s);
	}
	memory_credit(session->subscribed_cap * sizeof(struct subscriber *));
	free(session->subscribed);
	for (unsigned i = 0; i < session->several_count; i++)
		subscribers_remove(&r->subscribers, &session->several[i]);
	memory_credit(session->several_count * sizeof(struct subscriber));
	free(session->several);
}

void routes_forget_wait(struct session *session)
{
	struct log_wait *wait = session->wait;

	if (wait == NULL)
		return;
	session->wait = NULL;
	list_remove(&wait->link);
	memory_credit(sizeof *wait);
	free(wait);
}

/* The bus still answers, but nobody is told. */
static void forget_publishing(struct session *session)
{
	if (session->publishing != NULL)
		session->publishing->owner = NULL;
	session->publishing = NULL;
}

void routes_forget_session(struct routes *r, struct client *client)
{
	struct session *session = client->session;

	if (session == NULL)
		return;
	client->session = NULL;
	if (session->check != NULL)
		auth_check_cancel(session->check);
	forget_publishing(session);
	routes_forget_wait(session);
	forget_subscriptions(r, session);
	drop_text(session->token);
	drop_text(session->cookie);
	drop_text(session->host);
	drop_text(session->peer);
	drop_kept((char *)(uintptr_t)session->publisher.bytes,
		  session->publisher.len);
	routes_drop_waiting(session);
	memory_credit(sizeof *session);
	free(session);
}

void routes_forget(struct routes *r, struct conn *c)
{
	struct client *client = conn_user(c);

	subscribers_remove(&r->subscribers, &client->only);
	routes_forget_session(r, client);
}
