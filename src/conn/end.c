/* end.c - tells the peer that its connection ends. */
#include "base/check.h"
#include "conn/private.h"

static void queue_close_frame(struct conn *c, unsigned code, const char *reason)
{
	uint8_t frame[WEBSOCKET_CONTROL_MAX];
	size_t len = websocket_write_close(frame, code, span_of(reason));
	conn_queue(c, (struct span){(const char *)frame, len});
}

void conn_fail_websocket(struct conn *c, enum close_reason why, unsigned code,
			 const char *reason)
{
	bool is_close_sent = c->state == CONN_CLOSING;

	conn_note_end(c, why);
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
	if (!is_close_sent)
		queue_close_frame(c, code,
				  reason != NULL
					  ? reason
					  : conn_close_reasons[why].reason);
}

static void end_websocket(struct conn *c, enum close_reason why,
			  const char *reason)
{
	conn_note_end(c, why);
	/* The backlog of a slow subscriber is dropped, in whole frames. */
	if (why == CLOSE_REASON_slow)
		outq_truncate(&c->outq, conn_in_flight(c));
	/* CLOSING comes first: then no limit holds Close itself back. */
	conn_move(c, CONN_CLOSING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	queue_close_frame(c, conn_close_reasons[why].code,
			  reason != NULL ? reason
					 : conn_close_reasons[why].reason);
}

static bool is_committed(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;

	return hooks->is_committed != NULL && hooks->is_committed(c);
}

/* The server ends before the request was answered. */
static void end_pending(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;

	if (is_committed(c))
		return;
	conn_note_end(c, CLOSE_REASON_going_away);
	if (hooks->on_leaving == NULL || !hooks->on_leaving(c))
		conn_respond_last(c, 503, "The server is going away");
}

void conn_end(struct conn *c, enum close_reason why, const char *reason)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->doomed != CLOSE_REASON_NONE && c->doomed != why) {
		why = (enum close_reason)c->doomed;
		reason = NULL;
	}
	c->doomed = CLOSE_REASON_NONE;
	switch ((enum conn_state)c->state) {
	case CONN_WEBSOCKET:
		if (why == CLOSE_REASON_going_away && is_committed(c))
			return;
		if (conn_close_reasons[why].code != 0) {
			end_websocket(c, why, reason);
			return;
		}
		break;
	case CONN_EVENT_STREAM:
		if (conn_close_reasons[why].code != 0) {
			conn_end_stream(
				c, why, conn_close_reasons[why].code,
				reason != NULL
					? reason
					: conn_close_reasons[why].reason);
			return;
		}
		break;
	case CONN_PENDING:
		if (why == CLOSE_REASON_going_away) {
			end_pending(c);
			return;
		}
		break;
	case CONN_REQUEST:
	case CONN_DISCARDING:
		/* The answers that are queued are still sent. */
		if (why == CLOSE_REASON_going_away && c->outq.bytes > 0) {
			conn_note_end(c, why);
			conn_finish(c);
			return;
		}
		break;
	case CONN_CLOSING:
	case CONN_FINISHING:
	case CONN_LINGERING:
		if (why == CLOSE_REASON_going_away &&
		    c->deadline_kind == DEADLINE_LATE)
			conn_send_late(c);
		if (why == CLOSE_REASON_going_away)
			return; /* it is on its way, and has a deadline */
		break;
	default:
		break;
	}
	conn_abort(c, why);
}
