/* stream.c - event streams: how they begin, show life, and end. */
#include "base/check.h"
#include "codec/deflate.h"
#include "codec/json/json.h"
#include "codec/sse.h"
#include "conn/private.h"

#include <stdio.h>

/* no-transform: compression by a proxy holds small events back. The last is for
 * nginx, which would keep them. */
#define FIELDS                                                                 \
	"Cache-Control: no-store, no-transform\r\n"                            \
	"Vary: Accept-Encoding\r\n"                                            \
	"X-Accel-Buffering: no\r\n"

/* How a stream begins, by its framing. */
static const struct {
	const char *fields;
	struct span head; /* before the first lines */
	bool is_chunked;
} kinds[FRAMINGS] = {
	[FRAMING_BARE] = {FIELDS, {"", 0}, false},
	[FRAMING_CHUNK] = {FIELDS, {"", 0}, true},
	[FRAMING_GZIP] = {FIELDS "Content-Encoding: gzip\r\n",
			  {DEFLATE_GZIP_HEAD, DEFLATE_GZIP_HEAD_LEN},
			  true},
};

static enum framing choose_framing(const struct conn *c)
{
	const struct http_request *request = conn_request(c);
	struct span accepted = request->fields[HTTP_ACCEPT_ENCODING];

	if (request->minor_version < 1)
		return FRAMING_BARE;
	if (c->group->limits.compresses &&
	    http_accepts_coding(accepted, SPAN("gzip")))
		return FRAMING_GZIP;
	return FRAMING_CHUNK;
}

void conn_stream(struct conn *c, struct span first)
{
	const struct http_request *request = conn_request(c);
	enum framing framing = choose_framing(c);
	struct http_response response = {
		.status = 200,
		.content_type = "text/event-stream",
		.content = kinds[framing].head,
		.fields = kinds[framing].fields,
		.is_head = request->method == HTTP_METHOD_HEAD,
		.is_stream = true,
		.is_chunked = kinds[framing].is_chunked,
	};

	CHECK_ON_THREAD(c->group->owner);
	CHECK(c->state == CONN_PENDING);
	conn_queue_response(c, &response);
	if (response.is_head) {
		conn_note_end(c, CLOSE_REASON_done);
		conn_finish(c);
		return;
	}
	conn_set_framing(c, framing);
	if (c->doomed == CLOSE_REASON_NONE &&
	    conn_queue_unit(c, first, false) != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	if (c->doomed != CLOSE_REASON_NONE)
		return; /* no head, so no stream; the flush ends it */
	conn_have_place(c);
	conn_move(c, CONN_EVENT_STREAM);
	conn_set_deadline(c, DEADLINE_PING);
}

struct chunk *conn_new_keep_alive(enum framing framing)
{
	const struct span line = SPAN(SSE_KEEP_ALIVE);
	struct span after = framing_end(framing);
	char start[FRAMING_START_MAX];
	char *end = start + sizeof start;
	size_t len = framing_write_start(framing, end, line.len);
	struct chunk *c = chunk_new(len + line.len + after.len);

	if (c == NULL)
		return NULL;
	chunk_append(c, end - len, len);
	chunk_append(c, line.bytes, line.len);
	chunk_append(c, after.bytes, after.len);
	return c;
}

/* A peer need not answer: each interval begins with a line that it has to
 * acknowledge. A peer that acknowledges nothing all through an interval is
 * gone, or does not read. */
void conn_keep_alive(struct conn *c)
{
	if (conn_look_at_progress(c).has_moved)
		c->pings_missed = 0;
	else if (++c->pings_missed >= c->group->limits.ping_misses_max) {
		conn_abort(c, CLOSE_REASON_write_timeout);
		return;
	}
	conn_set_deadline(c, DEADLINE_PING);
	conn_send(c, c->group->keep_alive[c->framing]);
}

static void queue_last_block(struct conn *c, unsigned code, const char *reason)
{
	struct buf *out = &c->group->out;
	struct buf data = {0};
	char start[32];

	snprintf(start, sizeof start, "{\"code\":%u,\"reason\":", code);
	out->len = 0;
	if (buf_append(&data, start, strlen(start)) != 0 ||
	    json_write_string(&data, span_of(reason)) != 0 ||
	    buf_append(&data, "}", 1) != 0 ||
	    sse_write_event(out, SPAN(SSE_CLOSE),
			    (struct span){data.bytes, data.len}) != 0 ||
	    conn_queue_unit(c, (struct span){out->bytes, out->len}, true) != 0)
		conn_end_later(c, CLOSE_REASON_no_memory);
	buf_fini(&data);
}

void conn_end_stream(struct conn *c, enum close_reason why, unsigned code,
		     const char *reason)
{
	conn_note_end(c, why);
	/* The backlog of a slow subscriber is dropped, in whole blocks. */
	if (why == CLOSE_REASON_slow)
		outq_truncate(&c->outq, conn_in_flight(c));
	/* What is unfinished would swallow the last block. */
	outq_drop_unfinished(&c->outq, conn_in_flight(c));
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
	queue_last_block(c, code, reason);
}
