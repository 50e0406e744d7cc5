/* handshake.c - the opening handshake of a WebSocket (RFC 6455 4.2). */
#include "base/check.h"
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

bool conn_check_upgrade(struct conn *c)
{
	const struct http_request *request = conn_request(c);
	const struct span *fields = request->fields;
	char accept[WEBSOCKET_ACCEPT_LEN + 1];

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
	return true;
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
	conn_queue(c, SPAN("\r\n"));
	if (c->doomed != ENDING_NONE)
		return; /* no 101, so no WebSocket; the flush ends it */
	stats_add_status(c->group->stats, 101);
	conn_have_place(c);
	conn_move(c, CONN_WEBSOCKET);
	c->was_heard = true;
	conn_set_deadline(c, DEADLINE_PING);
}
