/* handshake.c - the opening handshake of a WebSocket (RFC 6455 4.2). */
#include "base/check.h"
#include "codec/permessage_deflate.h"
#include "conn/private.h"

#include <stdio.h>

#define UPGRADE_MAX 256 /* bytes of a 101 response */

static const char *what_lacks(const struct http_request *request)
{
	return request->fields[HTTP_SEC_WEBSOCKET_KEY].bytes != NULL &&
			       request->fields[HTTP_UPGRADE].bytes == NULL
		       ? "A proxy has removed Upgrade"
		       : "A WebSocket handshake is expected";
}

/* What is agreed of the extensions that the client offers. Returns 0, or 400.
 */
static int choose_extension(const struct conn *c,
			    struct permessage_deflate *chosen)
{
	struct span offers =
		conn_request(c)->fields[HTTP_SEC_WEBSOCKET_EXTENSIONS];

	if (!c->group->limits.compresses)
		offers = (struct span){NULL, 0};
	return permessage_deflate_choose(offers, chosen);
}

bool conn_check_upgrade(struct conn *c)
{
	const struct http_request *request = conn_request(c);
	const struct span *fields = request->fields;
	char accept[WEBSOCKET_ACCEPT_LEN + 1];
	struct permessage_deflate deflate;

	if (request->method != HTTP_METHOD_GET || request->minor_version < 1 ||
	    !http_list_has(fields[HTTP_CONNECTION], SPAN("upgrade")) ||
	    !http_list_has(fields[HTTP_UPGRADE], SPAN("websocket"))) {
		conn_respond_error(c, 426, what_lacks(request),
				   "Upgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Version: 13\r\n");
		return false;
	}
	if (!span_equal(fields[HTTP_SEC_WEBSOCKET_VERSION], SPAN("13"))) {
		conn_respond_error(c, 426, "Sec-WebSocket-Version must be 13",
				   "Upgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Version: 13\r\n");
		return false;
	}
	if (websocket_accept(fields[HTTP_SEC_WEBSOCKET_KEY], accept) != 0) {
		conn_respond_error(c, 400,
				   "Sec-WebSocket-Key must be 16 bytes in "
				   "base64",
				   NULL);
		return false;
	}
	if (choose_extension(c, &deflate) != 0) {
		conn_respond_error(c, 400,
				   "Sec-WebSocket-Extensions is no list of "
				   "extensions",
				   NULL);
		return false;
	}
	return true;
}

static void queue_extension(struct conn *c)
{
	struct permessage_deflate chosen;
	char answer[PERMESSAGE_DEFLATE_MAX];

	CHECK(choose_extension(c, &chosen) == 0);
	conn_set_framing(c, FRAMING_TEXT);
	if (!chosen.is_agreed)
		return;
	permessage_deflate_write(&chosen, answer);
	conn_queue(c, SPAN("Sec-WebSocket-Extensions: "));
	conn_queue(c, span_of(answer));
	conn_queue(c, SPAN("\r\n"));
	conn_set_framing(c, chosen.ours == DEFLATE_WINDOW_SMALL
				    ? FRAMING_DEFLATED_SMALL
				    : FRAMING_DEFLATED);
}

void conn_upgrade(struct conn *c, struct span subprotocol)
{
	char accept[WEBSOCKET_ACCEPT_LEN + 1];
	char response[UPGRADE_MAX];
	struct span key = conn_request(c)->fields[HTTP_SEC_WEBSOCKET_KEY];

	CHECK_ON_THREAD(c->group->owner);
	CHECK(websocket_accept(key, accept) == 0);
	snprintf(response, sizeof response,
		 "HTTP/1.1 101 Switching Protocols\r\n"
		 "Upgrade: websocket\r\n"
		 "Connection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: %s\r\n",
		 accept);
	conn_queue(c, span_of(response));
	if (subprotocol.bytes != NULL) {
		conn_queue(c, SPAN("Sec-WebSocket-Protocol: "));
		conn_queue(c, subprotocol);
		conn_queue(c, SPAN("\r\n"));
	}
	queue_extension(c);
	conn_queue(c, SPAN("\r\n"));
	if (c->doomed != CLOSE_REASON_NONE)
		return; /* no 101, so no WebSocket; the flush ends it */
	stats_add_status(c->group->stats, 101);
	conn_have_place(c);
	conn_move(c, CONN_WEBSOCKET);
	c->was_heard = true;
	conn_set_deadline(c, DEADLINE_PING);
}
