/* echo.c - a test-only server on the same HTTP and WebSocket code: on `/` it
 * sends every text and binary message back, compressed where that was agreed
 * and makes it shorter, so that public conformance suites can be pointed at it.
 * PORT and the other settings as for isimud. */
#include "base/check.h"
#include "base/log.h"
#include "config/config.h"
#include "server/server.h"

#include <stdlib.h>

#define ECHO_MAX_BYTES (16UL << 20)
#define OPCODE_TEXT    1
#define OPCODE_BINARY  2
#define RSV1           0x40 /* the message is compressed (RFC 7692 6) */

/* Of one worker. */
struct echo {
	struct deflater *deflater;
	struct buf payload;
};

static void on_head(struct conn *c, const struct http_request *request)
{
	if (!span_equal(request->path, SPAN("/")))
		conn_respond_error(c, 404, "Not found", NULL);
}

static void on_request(struct conn *c, const struct http_request *request)
{
	(void)request;
	if (conn_check_upgrade(c))
		conn_upgrade(c, (struct span){0});
}

/* Replaces a message by its compressed payload. Returns whether it has. */
static bool compress(const struct conn *c, struct span *message)
{
	struct echo *echo = conn_group_of(c)->context;
	enum framing framing = conn_framing(c);

	echo->payload.len = 0;
	if (!framing_may_compress(framing) ||
	    !deflater_takes(echo->deflater, message->len) ||
	    deflater_append(echo->deflater, framing_window(framing), *message,
			    message->len, &echo->payload) != 0)
		return false;
	*message = (struct span){echo->payload.bytes,
				 echo->payload.len - DEFLATE_TAIL_LEN};
	return true;
}

static void on_message(struct conn *c, bool is_text, struct span message)
{
	unsigned opcode = is_text ? OPCODE_TEXT : OPCODE_BINARY;
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;

	if (compress(c, &message))
		opcode |= RSV1;
	struct chunk *chunk = chunk_new(WEBSOCKET_HEADER_MAX + message.len);
	if (chunk == NULL) {
		conn_end(c, CLOSE_REASON_no_memory, NULL);
		return;
	}
	size_t len = websocket_write_header(end, opcode, message.len);
	chunk_append(chunk, end - len, len);
	chunk_append(chunk, message.bytes, message.len);
	conn_send(c, chunk);
	chunk_unref(chunk);
}

static void on_end(struct conn *c)
{
	(void)c;
}

static int echo_open(struct worker *w, void **state)
{
	const struct config *config = w->shared->config;
	struct echo *echo = calloc(1, sizeof *echo);

	if (echo == NULL)
		return UV_ENOMEM;
	echo->deflater = deflater_new((int)config->compress_level,
				      config->compress_min_bytes);
	*state = echo;
	return 0;
}

static void echo_close(void *state)
{
	struct echo *echo = state;

	deflater_free(echo->deflater);
	buf_fini(&echo->payload);
	free(echo);
}

/* The settings of isimud, but for defaults that suit large messages. */
static const char *get_setting(const char *name)
{
	const char *value = getenv(name);
	if (value != NULL)
		return value;
	if (strcmp(name, "PASSWORD") == 0)
		return "unused";
	if (strcmp(name, "MAX_BUFFERED") == 0)
		return "64M";
	return NULL;
}

int main(void)
{
	static const struct conn_hooks hooks = {
		.on_head = on_head,
		.on_request = on_request,
		.on_message = on_message,
		.on_end = on_end,
	};
	static const struct worker_app app = {
		.hooks = &hooks,
		.message_max_bytes = ECHO_MAX_BYTES,
		.open = echo_open,
		.close = echo_close,
	};
	struct config config;
	char error[CONFIG_ERROR_MAX];

	if (config_load(&config, get_setting, error) != 0) {
		log_event(LOG_ERROR, "settings", LOG_NO_FIELDS, "%s", error);
		return 2;
	}
	log_set_level((enum log_level)config.log_level);
	return server_run(&config, &app);
}
