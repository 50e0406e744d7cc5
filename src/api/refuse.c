/* refuse.c - GET /sub that can't be served: for now, or for good.
 *
 * A page sees neither the status of a WebSocket's handshake nor, but for 200,
 * that of an event stream, and EventSource takes any other for good (WHATWG
 * HTML, 9.2.3). So an event stream is only answered with a status where coming
 * back is no use, and isimud.v1 is told by Close. */
#include "api/private.h"
#include "base/log.h"
#include "codec/sse.h"

#define BEARER_CHALLENGE "WWW-Authenticate: Bearer realm=\"isimud\"\r\n"
#define RETRY            "Retry-After: 1\r\n"

/* A stream that is refused comes back after 2 to 5 times SSE_RETRY. */
#define RETRY_MIN    2
#define RETRY_SPREAD 3

static bool is_event_stream(const struct http_request *request)
{
	return request->method == HTTP_METHOD_GET &&
	       routes_kind_of(request) == SUB_STREAM &&
	       http_accept_quality(request->fields[HTTP_ACCEPT],
				   SPAN("text/event-stream")) > 0;
}

/* Those that were refused together should not come back together. */
static unsigned refused_retry_ms(const struct routes *r)
{
	uint64_t ms = routes_config(r)->sse_retry_ms;

	return (unsigned)(RETRY_MIN * ms +
			  uv_hrtime() / 1024 % (RETRY_SPREAD * ms + 1));
}

/* Returns false without memory, the request not being answered. */
static bool refuse_stream(struct routes *r, struct conn *c, const char *why)
{
	r->page.len = 0;
	if (sse_write_retry(&r->page, refused_retry_ms(r)) != 0)
		return false;
	conn_stream(c, (struct span){r->page.bytes, r->page.len});
	conn_end(c, CLOSE_REASON_refused, why);
	conn_leave_place(c);
	return true;
}

static void refuse_subscriber(struct routes *r, struct conn *c, int status,
			      const char *text, const char *why)
{
	static struct log_limit limit = LOG_LIMIT("subscriber_refused");

	stats_add(routes_stats(r), STATS_refused, 1);
	routes_log_refusal(c, &limit, (struct span){0}, why);
	if (is_event_stream(conn_request(c)) && refuse_stream(r, c, why))
		return;
	conn_respond_error(c, status, text, status == 503 ? RETRY : NULL);
}

void routes_refuse_for_now(struct routes *r, struct conn *c, const char *why)
{
	refuse_subscriber(r, c, 503, why, why);
}

void routes_fail_for_now(struct routes *r, struct conn *c, const char *why)
{
	refuse_subscriber(r, c, 500, "Internal server error", why);
}

void routes_refuse_unnamed(struct conn *c)
{
	routes_log_unnamed(c);
	if (!routes_close_v1(c, CLOSE_REASON_unauthorized,
			     "Missing credentials"))
		conn_respond_error(c, 400, "Missing credentials",
				   BEARER_CHALLENGE);
}

void routes_refuse_by_answer(struct routes *r, struct conn *c,
			     enum auth_answer answer)
{
	static struct log_limit denied = LOG_LIMIT("token_refused");

	switch (answer) {
	case AUTH_YES:
		break;
	case AUTH_NO:
	case AUTH_FORBIDDEN:
		routes_log_refusal(c, &denied, (struct span){0},
				   "the authority says no");
		if (!routes_close_v1(c,
				     answer == AUTH_NO
					     ? CLOSE_REASON_unauthorized
					     : CLOSE_REASON_denied,
				     NULL))
			conn_respond_error(c, 401, "Wrong credentials",
					   BEARER_CHALLENGE);
		break;
	case AUTH_AWAY:
		if (!routes_close_v1(c, CLOSE_REASON_auth_away, NULL))
			routes_refuse_for_now(r, c,
					      "The authority is out of order");
		break;
	case AUTH_BUSY:
		if (!routes_close_v1(c, CLOSE_REASON_busy, NULL))
			routes_refuse_for_now(
				r, c, "Too many clients are being checked");
		break;
	case AUTH_FAILED:
		if (!routes_close_v1(c, CLOSE_REASON_auth_timeout, NULL))
			routes_fail_for_now(r, c,
					    "The authority did not answer");
		break;
	}
}

bool routes_refuse_at_the_end(struct routes *r, struct conn *c)
{
	return span_equal(conn_request(c)->path, SPAN("/sub")) &&
	       is_event_stream(conn_request(c)) &&
	       refuse_stream(r, c, "The server is going away");
}
