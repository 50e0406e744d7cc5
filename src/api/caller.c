/* caller.c - who sends the request being answered: its address and scheme, and
 * the credentials of a publisher. */
#include "access/guesses.h"
#include "access/password.h"
#include "api/private.h"
#include "base/utf8.h"
#include "codec/traceparent.h"

#define BASIC_CHALLENGE                                                        \
	"WWW-Authenticate: Basic realm=\"isimud\", charset=\"UTF-8\"\r\n"

/* --- where it comes from -------------------------------------------------- */

static struct forwarded_fields forwarded_of(const struct http_request *request)
{
	return (struct forwarded_fields){
		.x_for = request->fields[HTTP_X_FORWARDED_FOR],
		.x_proto = request->fields[HTTP_X_FORWARDED_PROTO],
		.forwarded = request->fields[HTTP_FORWARDED]};
}

void routes_find_client(struct conn *c, char out[static CONN_PEER_MAX])
{
	const struct config *config = routes_config(routes_of(c));
	struct forwarded_fields fields = forwarded_of(conn_request(c));
	char peer[CONN_PEER_MAX];

	conn_peer(c, peer);
	forwarded_find_client(&config->proxies, peer, &fields, out);
}

const char *routes_find_scheme(struct conn *c)
{
	const struct config *config = routes_config(routes_of(c));
	struct forwarded_fields fields = forwarded_of(conn_request(c));
	char peer[CONN_PEER_MAX];

	conn_peer(c, peer);
	return forwarded_find_scheme(&config->proxies, peer, &fields);
}

/* What the request being answered is about, as far as its head says: the
 * publisher and topic of GET /sub's query, the topic of /pub/TOPIC. Another
 * client's query may have been read since its own was. */
static struct topic_key subject_of(struct routes *r,
				   const struct http_request *request)
{
	const struct span folder = SPAN("/pub/");
	struct span path = request->path;
	struct topic_key about = {{0}, {0}};
	const char *wrong;

	if (span_equal(path, SPAN("/sub"))) {
		if (routes_read_sub_query(r, request, &wrong) != 0)
			return about;
		about.publisher = r->sub_query.publisher;
		if (r->sub_query.topics_count > 0)
			about.name = r->sub_query.topics[0];
	} else if (path.len > folder.len &&
		   memcmp(path.bytes, folder.bytes, folder.len) == 0) {
		struct span name = {path.bytes + folder.len,
				    path.len - folder.len};
		r->uri.len = 0;
		if (http_decode(name, false, &r->uri) == 0)
			about.name = (struct span){r->uri.bytes, r->uri.len};
	}
	return about;
}

void routes_log_refusal(struct conn *c, struct log_limit *limit,
			struct span publisher, const char *why)
{
	const struct http_request *request = conn_request(c);
	char peer[CONN_PEER_MAX];

	if (!log_is_on(LOG_INFO) || !log_limit_allows(limit))
		return;
	routes_find_client(c, peer);
	struct topic_key about = subject_of(routes_of(c), request);
	if (publisher.bytes != NULL)
		about.publisher = publisher;
	log_event(LOG_INFO, limit->event,
		  LOG_FIELDS(
			  log_text("peer", peer[0] == '\0' ? NULL : peer),
			  log_number("worker", routes_of(c)->worker->index),
			  log_span("publisher", about.publisher),
			  log_span("topic", about.name),
			  log_span("path", request->path),
			  log_span("traceparent",
				   traceparent_parse(
					   request->fields[HTTP_TRACEPARENT]))),
		  "refused a client: %s", why);
}

void routes_log_unnamed(struct conn *c)
{
	static struct log_limit limit = LOG_LIMIT("credentials_missing");

	routes_log_refusal(c, &limit, (struct span){0},
			   "it shows no credentials");
}

bool routes_close_v1(struct conn *c, enum close_reason why, const char *reason)
{
	if (routes_kind_of(conn_request(c)) != SUB_V1)
		return false;
	conn_upgrade(c, SPAN(ROUTES_SUBPROTOCOL));
	conn_end(c, why, reason);
	conn_leave_place(c);
	return true;
}

/* --- credentials -------------------------------------------------------- */

int routes_decode_credentials(struct routes *r, struct conn *c,
			      struct span *username, struct span *password)
{
	struct span value = conn_request(c)->fields[HTTP_AUTHORIZATION];

	int rv = http_basic_credentials(value, &r->credentials, username,
					password);
	r->credentials_of = rv == 0 ? c : NULL;
	if (rv == 0)
		r->username = *username;
	return rv;
}

bool routes_read_credentials(struct routes *r, struct conn *c, int missing,
			     struct span *username, struct span *password)
{
	int rv = routes_decode_credentials(r, c, username, password);

	if (rv == 0)
		return true;
	if (rv == UV_ENOMEM) {
		conn_respond_error(c, 500, "Internal server error", NULL);
		return false;
	}
	routes_log_unnamed(c);
	conn_respond_error(c, missing, "Missing credentials", BASIC_CHALLENGE);
	return false;
}

void routes_refuse_password(struct routes *r, struct conn *c,
			    struct span publisher)
{
	static struct log_limit limit = LOG_LIMIT("password_wrong");
	static struct log_limit guessing = LOG_LIMIT("password_guessing");
	char peer[CONN_PEER_MAX];

	routes_find_client(c, peer);
	unsigned count = guesses_note(peer, uv_hrtime() / 1000000);
	stats_add(routes_stats(r), STATS_password_wrong, 1);
	routes_log_refusal(c, &limit, publisher, "the password is wrong");
	if (count <= GUESSES_FREE && conn_state(c) == CONN_PENDING &&
	    routes_close_v1(c, CLOSE_REASON_unauthorized, "Wrong credentials"))
		return;
	if (count <= GUESSES_FREE) {
		conn_respond_error(c, 401, "Wrong credentials",
				   BASIC_CHALLENGE);
		return;
	}
	stats_add(routes_stats(r), STATS_password_late, 1);
	if (count == GUESSES_FREE + 1 && log_limit_allows(&guessing))
		log_event(LOG_WARN, "password_guessing",
			  LOG_FIELDS(log_text("peer", peer),
				     log_number("worker", r->worker->index),
				     log_span("publisher", publisher),
				     log_number("count", count)),
			  "too many wrong passwords: answers come late now");
	conn_respond_late(c, 401, "Wrong credentials", BASIC_CHALLENGE);
}

bool routes_check_password(struct routes *r, struct conn *c, int missing)
{
	struct span publisher;
	struct span password;

	if (!routes_read_credentials(r, c, missing, &publisher, &password))
		return false;
	if (password_matches_again(&r->password, password)) {
		conn_trust(c);
		return true;
	}
	routes_refuse_password(r, c, publisher);
	return false;
}

int routes_check_name(struct span name, const char **wrong)
{
	if (name.len <= NAME_MAX_BYTES && utf8_is_valid(name))
		return 0;
	return refuse(wrong, name.len > NAME_MAX_BYTES
				     ? NAME_TOO_LONG
				     : "The username is not UTF-8");
}

bool routes_check_publisher(struct routes *r, struct conn *c, int missing)
{
	const char *wrong;

	if (!routes_check_password(r, c, missing))
		return false;
	if (routes_check_name(r->username, &wrong) == 0)
		return true;
	conn_respond_error(c, 400, wrong, NULL);
	return false;
}
