/* status.c - GET /status and /status/recent: what the console needs beyond
 * /metrics, as JSON. */
#include "api/private.h"
#include "base/version.h"

#include <inttypes.h>
#include <stdio.h>

#define NO_STORE   "Cache-Control: no-store\r\n"
#define NUMBER_MAX 96

static int append(struct buf *out, struct span text)
{
	return buf_append(out, text.bytes, text.len);
}

struct settings {
	struct buf *out;
	bool is_behind; /* one is there already */
};

/* config_tell_cb */
static int write_setting(void *user, const char *name, const char *value)
{
	struct settings *s = user;
	int rv = s->is_behind ? append(s->out, SPAN(",")) : 0;

	s->is_behind = true;
	if (rv == 0)
		rv = json_write_string(s->out, span_of(name));
	if (rv == 0)
		rv = append(s->out, SPAN(":"));
	if (rv != 0)
		return rv;
	return value[0] == '\0' ? append(s->out, SPAN("null"))
				: json_write_string(s->out, span_of(value));
}

/* Returns 0 or a UV_E…, with the text in r->page. */
static int write_status(struct routes *r)
{
	const struct worker_shared *shared = r->worker->shared;
	const char *state;
	struct settings settings = {.out = &r->page};
	char numbers[NUMBER_MAX];

	r->page.len = 0;
	routes_is_ready(r, &state);
	snprintf(numbers, sizeof numbers,
		 ",\"started\":%" PRIu64 ",\"epoch\":\"%016" PRIx64 "\"",
		 shared->started_s, registry_epoch(shared->registry));
	int rv = append(&r->page, SPAN("{\"version\":\"" VERSION "\""
				       ",\"state\":"));
	if (rv == 0)
		rv = json_write_string(&r->page, span_of(state));
	if (rv == 0)
		rv = append(&r->page, span_of(numbers));
	if (rv == 0)
		rv = append(&r->page, SPAN(",\"settings\":{"));
	if (rv == 0)
		rv = config_tell(shared->config, write_setting, &settings);
	return rv != 0 ? rv : append(&r->page, SPAN("}}"));
}

/* `written`: 0, or why r->page could not be written. */
static void respond_page(struct routes *r, struct conn *c, int written)
{
	if (written != 0)
		conn_respond_error(c, 500, "Internal server error", NULL);
	else
		conn_respond(c, &(struct http_response){
					.status = 200,
					.content_type = "application/json",
					.content = {r->page.bytes, r->page.len},
					.fields = NO_STORE});
}

void routes_show_status(struct routes *r, struct conn *c,
			const struct http_request *request)
{
	(void)request;
	if (routes_check_operator(r, c))
		respond_page(r, c, write_status(r));
}

void routes_show_recent(struct routes *r, struct conn *c,
			const struct http_request *request)
{
	(void)request;
	if (!routes_check_operator(r, c))
		return;
	r->page.len = 0;
	respond_page(r, c,
		     recent_write(r->worker->shared->recent,
				  uv_hrtime() / 1000000, &r->page));
}
