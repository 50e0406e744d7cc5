/* dispatch.c - which request goes where: one table. A row is all that a route
 * needs: 404, 405, Allow, OPTIONS, and the preflights of pages come from it. */
#include "api/private.h"
#include "codec/host.h"

#include <stdio.h>

#define PROJECT_PAGE "https://github.com/tropicbliss/isimud"
#define FIELDS_MAX   256 /* bytes of the field lines that are made here */

/* --- the table ---------------------------------------------------------- */

#define BIT(method) (1u << HTTP_METHOD_##method)
#define READS       (BIT(GET) | BIT(HEAD))

/* Which listeners a route is on. */
enum door {
	DOOR_CLIENTS,   /* all but that of ADMIN_PORT */
	DOOR_OPERATORS, /* that of ADMIN_PORT; without one, all */
	DOOR_ADMIN,     /* that of ADMIN_PORT alone */
	DOOR_ALL,
};

struct route {
	/* One that ends in a slash stands for whatever is in that folder. */
	struct span path;
	unsigned methods; /* BIT() of each; OPTIONS is answered for all */
	enum door door;
	bool is_for_any_host; /* ALLOWED_HOSTS does not count */
	/* Fields that a page may send; NULL: pages may not ask. */
	const char *page_fields;
	/* A page does not see the status of a handshake: one of isimud.v1 whose
	 * origin is not allowed is refused by `on_request`, by Close. */
	bool closes_v1_by_origin;
	/* Whether it is there, by the settings; NULL: always. */
	bool (*is_on)(const struct config *config);
	/* Before the content is read: refuses what can't be served. NULL: no
	 * content is expected. */
	void (*on_head)(struct routes *r, struct conn *c,
			const struct http_request *request);
	void (*on_request)(struct routes *r, struct conn *c,
			   const struct http_request *request);
};

static bool has_homepage(const struct config *config)
{
	return config->homepage;
}

static void show_homepage(struct routes *r, struct conn *c,
			  const struct http_request *request)
{
	(void)r;
	(void)request;
	conn_respond(c, &(struct http_response){
				.status = 303,
				.fields = "Location: " PROJECT_PAGE "\r\n"});
}

#define PATH(text)                                                             \
	{                                                                      \
		(text), sizeof(text) - 1                                       \
	}
#define TO_PUBLISH   "Authorization, Content-Type, Idempotency-Key, Traceparent"
#define TO_READ      "Cache-Control"
#define TO_SUBSCRIBE "Authorization, Cache-Control, Last-Event-ID"

/* Those that are asked for most come first. */
static const struct route table[] = {
	{.path = PATH("/pub"),
	 .methods = BIT(POST),
	 .page_fields = TO_PUBLISH,
	 .on_head = routes_check_publish,
	 .on_request = routes_publish},
	{.path = PATH("/pub/"),
	 .methods = BIT(POST) | BIT(PUT),
	 .page_fields = TO_PUBLISH,
	 .on_head = routes_check_publish,
	 .on_request = routes_publish},
	{.path = PATH("/sub"),
	 .methods = READS,
	 .page_fields = TO_SUBSCRIBE,
	 .closes_v1_by_origin = true,
	 .on_request = routes_subscribe},
	{.path = PATH("/topics"),
	 .methods = READS,
	 .door = DOOR_ALL,
	 .page_fields = TO_SUBSCRIBE,
	 .on_request = routes_show_topics},
	{.path = PATH("/topics/"),
	 .methods = READS,
	 .door = DOOR_ALL,
	 .page_fields = TO_SUBSCRIBE,
	 .on_request = routes_show_topic},
	{.path = PATH("/isimud.js"),
	 .methods = READS,
	 .door = DOOR_ALL,
	 .page_fields = TO_READ,
	 .on_request = routes_show_library},
	/* Health reveals nothing, and probes ask by address. */
	{.path = PATH("/healthz"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .is_for_any_host = true,
	 .on_request = routes_show_health},
	{.path = PATH("/readyz"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .is_for_any_host = true,
	 .on_request = routes_show_readiness},
	{.path = PATH("/metrics"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_metrics},
	{.path = PATH("/status"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_status},
	{.path = PATH("/status/recent"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_recent},
	{.path = PATH("/console"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_console},
	{.path = PATH("/console.css"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_console},
	{.path = PATH("/console.js"),
	 .methods = READS,
	 .door = DOOR_OPERATORS,
	 .on_request = routes_show_console},
	{.path = PATH("/"),
	 .methods = READS,
	 .door = DOOR_ADMIN,
	 .on_request = routes_show_console},
	{.path = PATH("/"),
	 .methods = READS,
	 .is_on = has_homepage,
	 .on_request = show_homepage},
};

#define ROUTES_COUNT (sizeof table / sizeof table[0])

static bool has_path(const struct route *route, struct span path)
{
	const struct span *own = &route->path;

	if (span_equal(path, *own))
		return own->len == 1 || own->bytes[own->len - 1] != '/';
	return own->len > 1 && own->bytes[own->len - 1] == '/' &&
	       path.len > own->len &&
	       memcmp(path.bytes, own->bytes, own->len) == 0;
}

static bool is_open(const struct route *route, const struct config *config,
		    enum listener_kind listener)
{
	bool is_admin = listener == LISTENER_ADMIN;

	if (route->is_on != NULL && !route->is_on(config))
		return false;
	switch (route->door) {
	case DOOR_OPERATORS:
		return is_admin || !config->has_admin_port;
	case DOOR_CLIENTS:
		return !is_admin;
	case DOOR_ADMIN:
		return is_admin;
	case DOOR_ALL:
		break;
	}
	return true;
}

/* NULL: there is none. */
static const struct route *find_route(const struct conn *c,
				      const struct http_request *request)
{
	const struct config *config = routes_config(routes_of(c));

	for (size_t i = 0; i < ROUTES_COUNT; i++)
		if (has_path(&table[i], request->path) &&
		    is_open(&table[i], config, conn_listener(c)))
			return &table[i];
	return NULL;
}

/* --- methods ------------------------------------------------------------ */

/* Writes "GET, HEAD" or the like; returns its length. */
static int write_methods(char out[static FIELDS_MAX], unsigned methods)
{
	static const char *const names[] = {[HTTP_METHOD_GET] = "GET",
					    [HTTP_METHOD_HEAD] = "HEAD",
					    [HTTP_METHOD_OPTIONS] = "OPTIONS",
					    [HTTP_METHOD_POST] = "POST",
					    [HTTP_METHOD_PUT] = "PUT"};
	static const enum http_method order[] = {
		HTTP_METHOD_GET, HTTP_METHOD_HEAD, HTTP_METHOD_OPTIONS,
		HTTP_METHOD_POST, HTTP_METHOD_PUT};
	int len = 0;

	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		if (methods & 1u << order[i])
			len += snprintf(out + len, FIELDS_MAX - (size_t)len,
					"%s%s", len == 0 ? "" : ", ",
					names[order[i]]);
	return len;
}

/* Writes the field Allow (RFC 9110 10.2.1); without a route it names whatever
 * the server knows. */
static void write_allow(char out[static FIELDS_MAX], const struct route *route)
{
	unsigned methods = BIT(OPTIONS);
	char names[FIELDS_MAX];

	for (size_t i = 0; i < ROUTES_COUNT; i++)
		if (route == NULL || route == &table[i])
			methods |= table[i].methods;
	write_methods(names, methods);
	snprintf(out, FIELDS_MAX, "Allow: %.200s\r\n", names);
}

/* A preflight asks, for a page, whether it may ask (Fetch, 3.2.2). */
static bool is_preflight(const struct route *route,
			 const struct http_request *request)
{
	return request->method == HTTP_METHOD_OPTIONS && route != NULL &&
	       route->page_fields != NULL &&
	       request->fields[HTTP_ORIGIN].bytes != NULL &&
	       request->fields[HTTP_ACCESS_CONTROL_REQUEST_METHOD].bytes !=
		       NULL;
}

static void answer_preflight(struct conn *c, const struct route *route)
{
	char methods[FIELDS_MAX];
	char fields[2 * FIELDS_MAX];

	write_methods(methods, route->methods);
	snprintf(fields, sizeof fields,
		 "Access-Control-Allow-Methods: %s\r\n"
		 "Access-Control-Allow-Headers: %s\r\n"
		 "Access-Control-Max-Age: 600\r\n",
		 methods, route->page_fields);
	conn_respond(c,
		     &(struct http_response){.status = 204, .fields = fields});
}

/* OPTIONS of a path, or of the server itself, which `*` is (RFC 9110 9.3.7),
 * and `/`: HAProxy's checks are `OPTIONS / HTTP/1.0`. */
static bool asks_for_methods(const struct route *route,
			     const struct http_request *request)
{
	return request->method == HTTP_METHOD_OPTIONS &&
	       (route != NULL || span_equal(request->path, SPAN("*")) ||
		span_equal(request->path, SPAN("/")));
}

static void answer_options(struct conn *c, const struct route *route)
{
	char allow[FIELDS_MAX];

	write_allow(allow, route);
	conn_respond(c,
		     &(struct http_response){.status = 204, .fields = allow});
}

/* Answers what is wrong with method or path. Returns whether all is fine. */
static bool check_method(struct conn *c, const struct route *route,
			 const struct http_request *request)
{
	char allow[FIELDS_MAX];

	if (route == NULL && request->method != HTTP_METHOD_CONNECT) {
		conn_respond_error(c, 404, "Not found", NULL);
		return false;
	}
	if (route != NULL && (route->methods & 1u << request->method))
		return true;
	write_allow(allow, route);
	conn_respond_error(c, 405, "Method not allowed", allow);
	return false;
}

/* --- hosts and origins -------------------------------------------------- */

/* By ALLOWED_HOSTS, against names that were made to point here. The listener of
 * ADMIN_PORT is for those who operate the server. */
static bool is_host_allowed(const struct routes *r, const struct conn *c,
			    const struct route *route,
			    const struct http_request *request)
{
	return conn_listener(c) == LISTENER_ADMIN ||
	       (route != NULL && route->is_for_any_host) ||
	       host_is_allowed(routes_config(r)->allowed_hosts,
			       request->fields[HTTP_HOST]);
}

static void refuse_host(struct routes *r, struct conn *c)
{
	static struct log_limit limit = LOG_LIMIT("host_refused");

	stats_add(routes_stats(r), STATS_host_refused, 1);
	routes_log_refusal(c, &limit, (struct span){0},
			   "the host is not in ALLOWED_HOSTS");
	conn_respond_error(c, 421, "This server does not serve that host",
			   NULL);
}

/* Whether the origin is to be looked at before the request is complete, and is
 * not allowed. */
static bool is_origin_refused(const struct routes *r, const struct route *route,
			      const struct http_request *request)
{
	if (route == NULL || route->page_fields == NULL ||
	    routes_allows_origin(r, request))
		return false;
	return !route->closes_v1_by_origin ||
	       request->method != HTTP_METHOD_GET ||
	       routes_kind_of(request) != SUB_V1;
}

/* --- requests ----------------------------------------------------------- */

/* All that can be refused is refused here, so that content is kept for nobody
 * but a publisher. */
void routes_on_head(struct conn *c, const struct http_request *request)
{
	struct routes *r = routes_of(c);
	const struct route *route = find_route(c, request);

	if (!is_host_allowed(r, c, route, request))
		refuse_host(r, c);
	else if (is_origin_refused(r, route, request))
		routes_refuse_origin(r, c);
	else if (is_preflight(route, request))
		answer_preflight(c, route);
	else if (asks_for_methods(route, request))
		answer_options(c, route);
	else if (!check_method(c, route, request))
		return;
	else if (route->on_head != NULL)
		route->on_head(r, c, request);
	else if (request->content_length > 0 || request->is_chunked)
		conn_respond_error(c, 400, "No content is expected", NULL);
}

void routes_on_request(struct conn *c, const struct http_request *request)
{
	/* Never NULL: routes_on_head() would have answered. */
	const struct route *route = find_route(c, request);

	if (route != NULL)
		route->on_request(routes_of(c), c, request);
}
