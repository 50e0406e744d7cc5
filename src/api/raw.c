/* raw.c - the original's protocol: the first message of a WebSocket says what
 * it subscribes to. */
#include "api/private.h"
#include "base/memory.h"

/* Subscribes to what was asked for, and is allowed. */
static void subscribe_raw(struct routes *r, struct conn *c,
			  const struct topic_key *key)
{
	struct client *client = conn_user(c);

	client->only.form = (uint8_t)message_form_for(conn_framing(c), false);
	/* A client chooses how long the names are that a topic keeps. */
	int rv = memory_allows(MEMORY_FOR_SUBSCRIBING)
			 ? subscribers_add(&r->subscribers, &client->only, c,
					   key, NULL, NULL)
			 : UV_ENOMEM;
	if (rv != 0) {
		conn_end(c,
			 rv == UV_EAGAIN ? CLOSE_REASON_busy
					 : CLOSE_REASON_no_memory,
			 NULL);
		return;
	}
	routes_forget_session(r, client);
}

/* Returns whether `message` is a subscription; if not, the client is ended. */
static bool read_raw(struct routes *r, struct conn *c, struct span message,
		     struct topic_key *key)
{
	struct json_error error;
	int status = json_read_subscription(&r->subscription, message, &error);

	if (status != 0)
		conn_end(c,
			 status == 500 ? CLOSE_REASON_no_memory
			 : status == 400 && !error.is_too_deep
				 ? CLOSE_REASON_bad_data
				 : CLOSE_REASON_policy,
			 error.text);
	*key = (struct topic_key){r->subscription.publisher,
				  r->subscription.topic};
	return status == 0;
}

static void on_raw_checked(struct routes *r, struct conn *c,
			   struct span message, enum auth_answer answer)
{
	struct topic_key key;

	switch (answer) {
	case AUTH_YES:
		if (read_raw(r, c, message, &key))
			subscribe_raw(r, c, &key);
		break;
	case AUTH_NO:
	case AUTH_FORBIDDEN:
		conn_end(c, CLOSE_REASON_forbidden, NULL);
		break;
	case AUTH_AWAY:
		conn_end(c, CLOSE_REASON_auth_away, NULL);
		break;
	case AUTH_FAILED:
		conn_end(c, CLOSE_REASON_auth_failed, NULL);
		break;
	case AUTH_BUSY:
		conn_end(c, CLOSE_REASON_busy, NULL);
		break;
	}
}

void routes_on_raw_message(struct routes *r, struct conn *c,
			   struct span message)
{
	const struct client *client = conn_user(c);
	struct topic_key key;

	if (client->only.topic != NULL ||
	    (client->session != NULL && client->session->several_count > 0)) {
		conn_end(c, CLOSE_REASON_policy, "already subscribed");
		return;
	}
	if (!read_raw(r, c, message, &key))
		return;
	switch (routes_check_topic(r, c, &key, message, on_raw_checked)) {
	case ROUTES_ALLOWED:
		subscribe_raw(r, c, &key);
		break;
	case ROUTES_CHECKING:
		break;
	case ROUTES_BUSY:
		conn_end(c, CLOSE_REASON_busy, NULL);
		break;
	case ROUTES_NO_MEMORY:
		conn_end(c, CLOSE_REASON_no_memory, NULL);
		break;
	}
}
