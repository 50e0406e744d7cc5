/* echo.c - a test-only server on the same HTTP and WebSocket code: on `/` it
 * sends every text and binary message back, so that public conformance suites
 * can be pointed at it. PORT and the other settings as for isimud. */
#include "base/check.h"
#include "base/log.h"
#include "config/config.h"
#include "server/server.h"

#include <stdlib.h>

#define ECHO_MAX_BYTES (16UL << 20)
#define OPCODE_TEXT    1
#define OPCODE_BINARY  2

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

static void on_message(struct conn *c, bool is_text, struct span message)
{
	struct chunk *chunk = chunk_new(WEBSOCKET_HEADER_MAX + message.len);
	if (chunk == NULL) {
		conn_end(c, ENDING_no_memory, NULL);
		return;
	}
	uint8_t header[WEBSOCKET_HEADER_MAX];
	uint8_t *end = header + sizeof header;
	size_t len = websocket_write_header(
		end, is_text ? OPCODE_TEXT : OPCODE_BINARY, message.len);
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
	*state = w;
	return 0;
}

static void echo_close(void *state)
{
	(void)state;
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
