/* end.c - tells the peer that its connection ends. */
#include "base/check.h"
#include "conn/private.h"

static void queue_close_frame(struct conn *c, unsigned code, const char *reason)
{
	uint8_t frame[WEBSOCKET_CONTROL_MAX];
	size_t len = websocket_write_close(frame, code, span_of(reason));
	conn_queue(c, (struct span){(const char *)frame, len});
}

void conn_fail_websocket(struct conn *c, enum ending ending, unsigned code,
			 const char *reason)
{
	bool is_close_sent = c->state == CONN_CLOSING;

	conn_note_end(c, ending);
	conn_move(c, CONN_FINISHING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	conn_mark_dirty(c);
	if (!is_close_sent)
		queue_close_frame(c, code,
				  reason != NULL ? reason
						 : conn_endings[ending].reason);
}

static void end_websocket(struct conn *c, enum ending ending,
			  const char *reason)
{
	conn_note_end(c, ending);
	/* The backlog of a slow subscriber is dropped, in whole frames. */
	if (ending == ENDING_slow)
		outq_truncate(&c->outq, conn_in_flight(c));
	/* CLOSING comes first: then no limit holds Close itself back. */
	conn_move(c, CONN_CLOSING);
	conn_set_deadline(c, DEADLINE_CLOSE);
	queue_close_frame(c, conn_endings[ending].code,
			  reason != NULL ? reason
					 : conn_endings[ending].reason);
}

/* The server ends before the request was answered. */
static void end_pending(struct conn *c)
{
	const struct conn_hooks *hooks = c->group->hooks;

	if (hooks->is_committed != NULL && hooks->is_committed(c))
		return;
	conn_note_end(c, ENDING_going_away);
	if (hooks->on_leaving == NULL || !hooks->on_leaving(c))
		conn_respond_last(c, 503, "The server is going away");
}

void conn_end(struct conn *c, enum ending ending, const char *reason)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->doomed != ENDING_NONE && c->doomed != ending) {
		ending = (enum ending)c->doomed;
		reason = NULL;
	}
	c->doomed = ENDING_NONE;
	switch ((enum conn_state)c->state) {
	case CONN_WEBSOCKET:
		if (conn_endings[ending].code != 0) {
			end_websocket(c, ending, reason);
			return;
		}
		break;
	case CONN_EVENT_STREAM:
		if (conn_endings[ending].code != 0) {
			conn_end_stream(c, ending, conn_endings[ending].code,
					reason != NULL
						? reason
						: conn_endings[ending].reason);
			return;
		}
		break;
	case CONN_PENDING:
		if (ending == ENDING_going_away) {
			end_pending(c);
			return;
		}
		break;
	case CONN_REQUEST:
	case CONN_DISCARDING:
		/* The answers that are queued are still sent. */
		if (ending == ENDING_going_away && c->outq.bytes > 0) {
			conn_note_end(c, ending);
			conn_finish(c);
			return;
		}
		break;
	case CONN_CLOSING:
	case CONN_FINISHING:
	case CONN_LINGERING:
		if (ending == ENDING_going_away &&
		    c->deadline_kind == DEADLINE_LATE)
			conn_send_late(c);
		if (ending == ENDING_going_away)
			return; /* it is on its way, and has a deadline */
		break;
	default:
		break;
	}
	conn_abort(c, ending);
}
