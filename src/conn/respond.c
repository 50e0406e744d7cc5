/* respond.c - answers to requests. */
#include "base/check.h"
#include "base/log.h"
#include "codec/json/json.h"
#include "conn/private.h"

#define CONTENT_JSON "application/json"

/* The time for the Date field (RFC 9110 5.6.7), made once a second. */
static const char *date_now(struct conn_group *g)
{
	time_t now = time(NULL);
	struct tm utc;
	if (now != g->date_at) {
		g->date_at = now;
		gmtime_r(&now, &utc);
		strftime(g->date, sizeof g->date, "%a, %d %b %Y %H:%M:%S GMT",
			 &utc);
	}
	return g->date;
}

/* The hooks' field lines. */
static const char *more_fields(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;
	bool has_head = c->state == CONN_PENDING || c->is_in_content;

	if (hooks->fields == NULL)
		return NULL;
	if (has_head)
		return hooks->fields(c, conn_request(c),
				     conn_request(c)->fields[HTTP_ORIGIN]);
	return hooks->fields(c, NULL, http_origin_so_far(c->http));
}

void conn_queue_response(struct conn *c, struct http_response *response)
{
	struct conn_group *g = c->group;

	stats_add_status(g->stats, response->status);
	response->date = date_now(g);
	response->more_fields = more_fields(c);
	g->out.len = 0;
	if (http_write_response(&g->out, response) != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	else
		conn_queue(c, (struct span){g->out.bytes, g->out.len});
}

static void log_response(const struct conn *c, struct span path, int status)
{
	log_event(LOG_DEBUG, "response",
		  LOG_FIELDS(log_span("path", path),
			     log_number("status", (uint64_t)status)),
		  "conn %p: answered", (const void *)c);
}

void conn_respond(struct conn *c, const struct http_response *response)
{
	const struct http_request *request = http_request(c->http);
	struct http_response full = *response;
	/* A client that waits for 100 (Continue) may never send the content
	 * that it announced, so we could not tell where the next request starts
	 * (RFC 9110 10.1.1). */
	bool is_early = c->state == CONN_REQUEST;
	bool is_last = response->close || !request->keep_alive ||
		       c->group->is_draining ||
		       (is_early && request->expects_continue);

	CHECK_ON_THREAD(c->group->owner);
	CHECK(is_early || c->state == CONN_PENDING);
	log_response(c, request->path, response->status);
	full.is_head = request->method == HTTP_METHOD_HEAD;
	full.close = is_last;
	full.keep_alive = !is_last && request->minor_version == 0;
	/* 426 has a Connection field of its own. */
	if (!is_last && response->status != 426)
		full.keep_alive_s = c->group->keep_alive_s;
	conn_queue_response(c, &full);
	if (is_last) {
		conn_note_end(c, CLOSE_REASON_done);
		conn_finish(c);
	} else if (is_early) {
		http_discard_content(c->http);
		conn_move(c, CONN_DISCARDING);
	} else {
		conn_move(c, CONN_REQUEST);
	}
}

static struct http_response error_response(struct buf *content, int status,
					   const char *text, const char *fields)
{
	struct http_response response = {.status = status, .fields = fields};
	if (json_write_error(content, text) == 0) {
		response.content_type = CONTENT_JSON;
		response.content = (struct span){content->bytes, content->len};
	}
	return response;
}

void conn_respond_error(struct conn *c, int status, const char *text,
			const char *fields)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, fields);
	conn_respond(c, &response);
	buf_fini(&content);
}

void conn_respond_late(struct conn *c, int status, const char *text,
		       const char *fields)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, fields);

	response.close = true;
	conn_respond(c, &response);
	buf_fini(&content);
	conn_set_deadline(c, DEADLINE_LATE); /* in place of DEADLINE_WRITE */
}

void conn_send_late(struct conn *c)
{
	conn_set_deadline(c, DEADLINE_WRITE);
	conn_mark_dirty(c);
}

void conn_respond_last(struct conn *c, int status, const char *text)
{
	struct buf content = {0};
	struct http_response response =
		error_response(&content, status, text, NULL);
	response.close = true;
	response.is_head = conn_request(c)->method == HTTP_METHOD_HEAD;
	conn_queue_response(c, &response);
	buf_fini(&content);
	conn_finish(c);
}
