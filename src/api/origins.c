/* origins.c - what pages of browsers may ask for (the WHATWG Fetch standard,
 * 3.2). */
#include "api/private.h"
#include "codec/origin.h"

bool routes_trusts_origin(const struct routes *r,
			  const struct http_request *request)
{
	const char *list = routes_config(r)->allowed_origins;
	struct span origin = request->fields[HTTP_ORIGIN];

	if (origin.bytes == NULL ||
	    origin_is_same(origin, request->fields[HTTP_HOST]))
		return true;
	return !origin_allows_any(list) && origin_is_allowed(list, origin);
}

/* Whether a page of another site asks without saying which, where only listed
 * origins may: a browser leaves Origin out with a GET by an element or a link,
 * but not Sec-Fetch-Site (W3C Fetch Metadata, 2.3). */
static bool is_hidden_cross_site(const struct routes *r,
				 const struct http_request *request)
{
	return http_list_has(request->fields[HTTP_SEC_FETCH_SITE],
			     SPAN("cross-site")) &&
	       !origin_allows_any(routes_config(r)->allowed_origins);
}

bool routes_allows_origin(const struct routes *r,
			  const struct http_request *request)
{
	struct span origin = request->fields[HTTP_ORIGIN];

	if (origin.bytes == NULL)
		return !is_hidden_cross_site(r, request);
	return origin_is_allowed(routes_config(r)->allowed_origins, origin);
}

void routes_refuse_origin(struct routes *r, struct conn *c)
{
	static struct log_limit limit = LOG_LIMIT("origin_refused");

	stats_add(routes_stats(r), STATS_origin_refused, 1);
	routes_log_refusal(c, &limit, (struct span){0},
			   "the origin is not in ALLOWED_ORIGINS");
	if (conn_state(c) == CONN_PENDING &&
	    routes_close_v1(c, CLOSE_REASON_denied, "Origin is not allowed"))
		return;
	conn_respond_error(c, 403, "Origin is not allowed", NULL);
}

const char *routes_origin_fields(struct conn *c,
				 const struct http_request *request,
				 struct span origin)
{
	struct routes *r = routes_of(c);
	bool any = origin_allows_any(routes_config(r)->allowed_origins);
	struct buf *out = &r->fields;

	if (conn_listener(c) == LISTENER_ADMIN ||
	    (origin.bytes == NULL && (request != NULL || !any)))
		return NULL;
	if (any)
		return "Access-Control-Allow-Origin: *\r\n"
		       "Access-Control-Expose-Headers: Idempotency-Replayed, "
		       "Retry-After\r\n";
	if (!origin_is_allowed(routes_config(r)->allowed_origins, origin))
		return "Vary: Origin\r\n";
	out->len = 0;
	if (buf_append_text(out, "Access-Control-Allow-Origin: ") != 0 ||
	    buf_append(out, origin.bytes, origin.len) != 0 ||
	    buf_append_text(
		    out, "\r\nAccess-Control-Allow-Credentials: true\r\n"
			 "Access-Control-Expose-Headers: Idempotency-Replayed, "
			 "Retry-After\r\n"
			 "Vary: Origin\r\n") != 0 ||
	    buf_append(out, "", 1) != 0)
		return NULL;
	return out->bytes;
}
