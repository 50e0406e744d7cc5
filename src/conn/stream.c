/* stream.c - event streams: how they begin, show life, and end. */
#include "base/check.h"
#include "codec/json/json.h"
#include "codec/sse.h"
#include "conn/private.h"

#include <stdio.h>

void conn_stream(struct conn *c, struct span first)
{
	struct http_response response = {
		.status = 200,
		.content_type = "text/event-stream",
		.content = first,
		/* The latter is for nginx, which would keep the events. */
		.fields = "Cache-Control: no-store\r\n"
			  "X-Accel-Buffering: no\r\n",
		.is_stream = true,
	};

	CHECK_ON_THREAD(c->group->owner);
	CHECK(c->state == CONN_PENDING);
	response.is_head = conn_request(c)->method == HTTP_METHOD_HEAD;
	conn_queue_response(c, &response);
	if (response.is_head) {
		conn_note_end(c, ENDING_done);
		conn_finish(c);
		return;
	}
	if (c->doomed != ENDING_NONE)
		return; /* no head, so no stream; the flush ends it */
	conn_move(c, CONN_EVENT_STREAM);
	conn_set_deadline(c, DEADLINE_PING);
}

/* Its chunk has no room for more, so that nothing is appended to it. Limits are
 * checked when the block is complete: none is cut by an ending. */
void conn_send_part(struct conn *c, struct span bytes)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state != CONN_EVENT_STREAM || c->doomed != ENDING_NONE)
		return;
	struct chunk *part = chunk_new(bytes.len);
	if (part == NULL) {
		conn_end_later(c, ENDING_no_memory);
		return;
	}
	chunk_append(part, bytes.bytes, bytes.len);
	part->is_continued = true;
	if (outq_push(&c->outq, part) != 0)
		conn_end_later(c, ENDING_no_memory);
	chunk_unref(part);
	conn_mark_dirty(c);
}

/* No answer is needed: a peer that is gone is known by what it does not read.
 */
void conn_keep_alive(struct conn *c)
{
	uint64_t interval_ms = c->group->limits.durations_ms[DEADLINE_PING];

	if (c->writing != NULL &&
	    c->writing->since_ms + interval_ms <= uv_now(c->group->loop)) {
		conn_abort(c, ENDING_write_timeout);
		return;
	}
	conn_set_deadline(c, DEADLINE_PING);
	conn_send(c, c->group->keep_alive);
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
	    sse_write_event(out, SPAN("close"),
			    (struct span){data.bytes, data.len}) != 0)
		conn_end_later(c, ENDING_no_memory);
	else
		conn_queue(c, (struct span){out->bytes, out->len});
	buf_fini(&data);
}

void conn_end_stream(struct conn *c, enum ending ending, unsigned code,
		     const char *reason)
{
	conn_note_end(c, ending);
	/* A laggard's backlog is given up, whole blocks of it. */
	if (ending == ENDING_slow)
		outq_truncate(&c->outq, c->in_flight);
	/* What is unfinished would swallow the last block. */
	outq_drop_unfinished(&c->outq, c->in_flight);
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
	queue_last_block(c, code, reason);
}
