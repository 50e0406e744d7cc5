/* head.c - the rules for a request's head: which fields may be repeated,
 * what a Host and a request target are, how the content is delimited. */
#include "codec/http/head.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#define BUFFER_KEEP_BYTES 16384

/* Read like the fields of enum http_field, but not given to callers. */
#define FIELD_TRANSFER_ENCODING (HTTP_FIELD_COUNT + 1)
#define FIELD_CONTENT_LENGTH    (HTTP_FIELD_COUNT + 2)

#define BIT(field) (1u << (field))
/* A traceparent that is there twice is no list, but to be ignored (W3C Trace
 * Context, 3.2): joined, it is not valid. */
#define LIST_FIELDS                                                            \
	(BIT(HTTP_ACCEPT) | BIT(HTTP_ACCEPT_ENCODING) |                        \
	 BIT(HTTP_ACCESS_CONTROL_REQUEST_HEADERS) | BIT(HTTP_CONNECTION) |     \
	 BIT(HTTP_CONTENT_ENCODING) | BIT(HTTP_COOKIE) | BIT(HTTP_FORWARDED) | \
	 BIT(HTTP_IF_NONE_MATCH) | BIT(HTTP_SEC_FETCH_SITE) |                  \
	 BIT(HTTP_X_FORWARDED_FOR) | BIT(HTTP_X_FORWARDED_PROTO) |             \
	 BIT(HTTP_SEC_WEBSOCKET_EXTENSIONS) |                                  \
	 BIT(HTTP_SEC_WEBSOCKET_PROTOCOL) | BIT(HTTP_TRACEPARENT) |            \
	 BIT(HTTP_UPGRADE))

void http_head_clear(struct http_head *head)
{
	if (head->bytes.cap > BUFFER_KEEP_BYTES)
		buf_fini(&head->bytes);
	head->bytes.len = 0;
	head->target_len = 0;
	head->lines_len = 0;
	head->event_id_len = 0;
	head->has_transfer_encoding = false;
	head->transfer_codings = 0;
	head->transfer_chunked = 0;
	head->ends_in_chunked = false;
	head->fields = 0;
	head->field = HTTP_FIELD_UNKNOWN;
	head->name_len = 0;
}

void http_head_fini(struct http_head *head)
{
	buf_fini(&head->bytes);
}

/* --- taking the parts ------------------------------------------------------
 */

static int append_head(struct http_head *head, const char *at, size_t len,
		       struct http_error *error)
{
	if (buf_append(&head->bytes, at, len) != 0)
		return http_refuse(error, 500, "out of memory");
	return 0;
}

int http_head_add_target(struct http_head *head, const char *at, size_t len,
			 struct http_error *error)
{
	head->target_len += len;
	if (head->target_len > HTTP_TARGET_MAX_BYTES)
		return http_refuse(error, 414,
				   "the request target is too long");
	return append_head(head, at, len, error);
}

void http_head_add_name(struct http_head *head, const char *at, size_t len)
{
	if (head->name_len + len <= sizeof head->name)
		memcpy(head->name + head->name_len, at, len);
	head->name_len += len;
}

#define NAME_KEY(len, first) ((len) << 8 | (size_t)(first))

static const char *const field_names[] = {
	[HTTP_ACCEPT] = "accept",
	[HTTP_ACCEPT_ENCODING] = "accept-encoding",
	[HTTP_ACCESS_CONTROL_REQUEST_HEADERS] =
		"access-control-request-headers",
	[HTTP_ACCESS_CONTROL_REQUEST_METHOD] = "access-control-request-method",
	[HTTP_AUTHORIZATION] = "authorization",
	[HTTP_CONNECTION] = "connection",
	[HTTP_CONTENT_ENCODING] = "content-encoding",
	[HTTP_CONTENT_TYPE] = "content-type",
	[HTTP_COOKIE] = "cookie",
	[HTTP_EXPECT] = "expect",
	[HTTP_FORWARDED] = "forwarded",
	[HTTP_HOST] = "host",
	[HTTP_IDEMPOTENCY_KEY] = "idempotency-key",
	[HTTP_IF_NONE_MATCH] = "if-none-match",
	[HTTP_LAST_EVENT_ID] = "last-event-id",
	[HTTP_ORIGIN] = "origin",
	[HTTP_SEC_FETCH_SITE] = "sec-fetch-site",
	[HTTP_SEC_WEBSOCKET_EXTENSIONS] = "sec-websocket-extensions",
	[HTTP_SEC_WEBSOCKET_KEY] = "sec-websocket-key",
	[HTTP_SEC_WEBSOCKET_PROTOCOL] = "sec-websocket-protocol",
	[HTTP_SEC_WEBSOCKET_VERSION] = "sec-websocket-version",
	[HTTP_TRACEPARENT] = "traceparent",
	[HTTP_UPGRADE] = "upgrade",
	[HTTP_X_FORWARDED_FOR] = "x-forwarded-for",
	[HTTP_X_FORWARDED_PROTO] = "x-forwarded-proto",
	[FIELD_TRANSFER_ENCODING] = "transfer-encoding",
	[FIELD_CONTENT_LENGTH] = "content-length",
};

/* The one field that has this length and first letter. */
static unsigned guess_field(size_t len, unsigned char first)
{
	switch (NAME_KEY(len, first | 0x20)) {
	case NAME_KEY(4, 'h'):
		return HTTP_HOST;
	case NAME_KEY(6, 'a'):
		return HTTP_ACCEPT;
	case NAME_KEY(6, 'c'):
		return HTTP_COOKIE;
	case NAME_KEY(6, 'e'):
		return HTTP_EXPECT;
	case NAME_KEY(6, 'o'):
		return HTTP_ORIGIN;
	case NAME_KEY(7, 'u'):
		return HTTP_UPGRADE;
	case NAME_KEY(9, 'f'):
		return HTTP_FORWARDED;
	case NAME_KEY(10, 'c'):
		return HTTP_CONNECTION;
	case NAME_KEY(11, 't'):
		return HTTP_TRACEPARENT;
	case NAME_KEY(12, 'c'):
		return HTTP_CONTENT_TYPE;
	case NAME_KEY(13, 'a'):
		return HTTP_AUTHORIZATION;
	case NAME_KEY(13, 'i'):
		return HTTP_IF_NONE_MATCH;
	case NAME_KEY(13, 'l'):
		return HTTP_LAST_EVENT_ID;
	case NAME_KEY(14, 'c'):
		return FIELD_CONTENT_LENGTH;
	case NAME_KEY(14, 's'):
		return HTTP_SEC_FETCH_SITE;
	case NAME_KEY(15, 'a'):
		return HTTP_ACCEPT_ENCODING;
	case NAME_KEY(15, 'x'):
		return HTTP_X_FORWARDED_FOR;
	case NAME_KEY(17, 'x'):
		return HTTP_X_FORWARDED_PROTO;
	case NAME_KEY(15, 'i'):
		return HTTP_IDEMPOTENCY_KEY;
	case NAME_KEY(16, 'c'):
		return HTTP_CONTENT_ENCODING;
	case NAME_KEY(17, 's'):
		return HTTP_SEC_WEBSOCKET_KEY;
	case NAME_KEY(17, 't'):
		return FIELD_TRANSFER_ENCODING;
	case NAME_KEY(21, 's'):
		return HTTP_SEC_WEBSOCKET_VERSION;
	case NAME_KEY(22, 's'):
		return HTTP_SEC_WEBSOCKET_PROTOCOL;
	case NAME_KEY(24, 's'):
		return HTTP_SEC_WEBSOCKET_EXTENSIONS;
	case NAME_KEY(29, 'a'):
		return HTTP_ACCESS_CONTROL_REQUEST_METHOD;
	case NAME_KEY(30, 'a'):
		return HTTP_ACCESS_CONTROL_REQUEST_HEADERS;
	default:
		return HTTP_FIELD_UNKNOWN;
	}
}

static unsigned find_field(const char *name, size_t len)
{
	unsigned field = guess_field(len, (unsigned char)name[0]);

	if (field != HTTP_FIELD_UNKNOWN &&
	    strncasecmp(name, field_names[field], len) == 0)
		return field;
	return HTTP_FIELD_UNKNOWN;
}

int http_head_end_name(struct http_head *head, struct http_error *error)
{
	if (++head->fields > HTTP_FIELDS_MAX)
		return http_refuse(error, 431, "too many field lines");
	head->field = find_field(head->name, head->name_len);
	head->name_len = 0;
	head->lines[head->lines_len].at = (uint32_t)head->bytes.len;
	return 0;
}

bool http_head_is_in_framing(const struct http_head *head)
{
	return head->field == FIELD_CONTENT_LENGTH ||
	       head->field == FIELD_TRANSFER_ENCODING;
}

int http_head_add_value(struct http_head *head, const char *at, size_t len,
			struct http_error *error)
{
	if (head->field == HTTP_FIELD_UNKNOWN ||
	    head->field == FIELD_CONTENT_LENGTH)
		return 0;
	if (head->field == HTTP_LAST_EVENT_ID)
		head->event_id_len += len;
	return append_head(head, at, len, error);
}

/* Counts transfer codings over all field lines, and notes the last. */
static void add_codings(struct http_head *head, struct span value)
{
	head->has_transfer_encoding = true;
	while (value.bytes != NULL) {
		struct span coding = http_list_take(&value);

		if (coding.len == 0)
			continue;
		head->ends_in_chunked =
			span_equal_nocase(coding, SPAN("chunked"));
		head->transfer_codings++;
		head->transfer_chunked += head->ends_in_chunked;
	}
}

void http_head_end_value(struct http_head *head)
{
	struct http_line *line = &head->lines[head->lines_len];
	unsigned field = head->field;
	struct span value;

	head->field = HTTP_FIELD_UNKNOWN;
	if (field == HTTP_FIELD_UNKNOWN || field == FIELD_CONTENT_LENGTH)
		return;
	value = http_trim((struct span){head->bytes.bytes + line->at,
					head->bytes.len - line->at});
	if (field == FIELD_TRANSFER_ENCODING) {
		add_codings(head, value);
		head->bytes.len = line->at;
		return;
	}
	line->at = (uint32_t)(value.bytes - head->bytes.bytes);
	head->bytes.len = line->at + value.len;
	line->len = (uint16_t)value.len;
	line->field = (uint8_t)field;
	head->lines_len++;
}

struct span http_head_find(const struct http_head *head, enum http_field field)
{
	struct span found = {0};

	for (unsigned i = 0; i < head->lines_len; i++) {
		const struct http_line *line = &head->lines[i];

		if (line->field != field)
			continue;
		if (found.bytes != NULL)
			return (struct span){0};
		found = (struct span){head->bytes.bytes + line->at, line->len};
	}
	return found;
}

/* Takes the first line off `*bytes`, without its CR LF. Returns false if no
 * whole line of a head is there. */
static bool take_head_line(struct span *bytes, struct span *line)
{
	const char *end =
		bytes->len == 0 ? NULL : memchr(bytes->bytes, '\r', bytes->len);

	if (end == NULL || end + 1 == bytes->bytes + bytes->len ||
	    end[1] != '\n')
		return false;
	*line = (struct span){bytes->bytes, (size_t)(end - bytes->bytes)};
	bytes->len -= line->len + 2;
	bytes->bytes = end + 2;
	return memchr(line->bytes, '\n', line->len) == NULL &&
	       memchr(line->bytes, '\0', line->len) == NULL;
}

void http_head_look_ahead(struct http_head *head, struct span rest)
{
	struct span line;

	while (take_head_line(&rest, &line) && line.len > 0) {
		const char *colon = memchr(line.bytes, ':', line.len);
		size_t name_len =
			colon == NULL ? 0 : (size_t)(colon - line.bytes);

		if (name_len == 0 || head->lines_len == HTTP_FIELDS_MAX ||
		    name_len + 1 == line.len || /* it is empty */
		    find_field(line.bytes, name_len) != HTTP_ORIGIN)
			continue;
		head->field = HTTP_ORIGIN;
		head->lines[head->lines_len].at = (uint32_t)head->bytes.len;
		if (buf_append(&head->bytes, colon + 1,
			       line.len - name_len - 1) != 0)
			return;
		http_head_end_value(head);
	}
}

/* --- fields ----------------------------------------------------------------
 */

/* Joins the lines of a field that are not empty, behind the bytes of the head.
 */
static struct span join_lines(struct http_head *head, unsigned field)
{
	const char *separator = field == HTTP_COOKIE ? "; " : ", ";
	char *start = head->bytes.bytes + head->bytes.len;
	char *end = start;

	for (unsigned i = 0; i < head->lines_len; i++) {
		const struct http_line *line = &head->lines[i];

		if (line->field != field || line->len == 0)
			continue;
		if (end != start) {
			memcpy(end, separator, 2);
			end += 2;
		}
		memcpy(end, head->bytes.bytes + line->at, line->len);
		end += line->len;
	}
	head->bytes.len += (size_t)(end - start);
	return (struct span){start, (size_t)(end - start)};
}

static int set_fields(struct http_head *head, struct http_request *r,
		      struct http_error *error)
{
	unsigned seen = 0;
	unsigned repeated = 0;

	for (unsigned i = 0; i < head->lines_len; i++) {
		repeated |= seen & BIT(head->lines[i].field);
		seen |= BIT(head->lines[i].field);
	}
	if (repeated & ~LIST_FIELDS)
		return http_refuse(error, 400, "a field line is repeated");
	/* The joined values are no longer than the head, separators aside. No
	 * byte moves from here on. */
	if (repeated != 0 &&
	    buf_reserve(&head->bytes,
			head->bytes.len + 2 * (size_t)head->lines_len))
		return http_refuse(error, 500, "out of memory");
	for (unsigned i = 0; i < head->lines_len; i++) {
		const struct http_line *line = &head->lines[i];

		r->fields[line->field] =
			(struct span){head->bytes.bytes + line->at, line->len};
	}
	for (unsigned field = 0; repeated >> field != 0; field++) {
		if (repeated & BIT(field))
			r->fields[field] = join_lines(head, field);
	}
	return 0;
}

/* --- Host and request target -----------------------------------------------
 */

/* Whether all of `s` is unreserved, sub-delims or pct-encoded (RFC 3986
 * reg-name); an IPv4 address is, too. */
static bool is_reg_name(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.bytes[i];

		if (isalnum(c) || (c != 0 && strchr("-._~!$&'()*+,;=", c)))
			continue;
		if (c != '%' || s.len - i < 3 ||
		    !isxdigit((unsigned char)s.bytes[i + 1]) ||
		    !isxdigit((unsigned char)s.bytes[i + 2]))
			return false;
		i += 2;
	}
	return true;
}

static bool is_ipv6_address(struct span s)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (s.len >= sizeof text || memchr(s.bytes, '\0', s.len) != NULL)
		return false;
	memcpy(text, s.bytes, s.len);
	text[s.len] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* Whether `s` is uri-host [ ":" port ] (RFC 9110 7.2). */
static bool is_host_and_port(struct span s)
{
	const char *end = s.bytes + s.len;
	const char *p;
	struct span host = {s.bytes, s.len};

	if (s.len > 0 && s.bytes[0] == '[') {
		p = memchr(s.bytes, ']', s.len);
		if (p == NULL)
			return false;
		host = (struct span){s.bytes + 1, (size_t)(p - s.bytes) - 1};
		if (!is_ipv6_address(host))
			return false;
		p++;
	} else {
		p = memchr(s.bytes, ':', s.len);
		if (p == NULL)
			p = end;
		host.len = (size_t)(p - s.bytes);
		if (!is_reg_name(host))
			return false;
	}
	if (p != end && *p++ != ':')
		return false;
	while (p != end && isdigit((unsigned char)*p))
		p++;
	return p == end;
}

static int check_host(const struct http_request *r, struct http_error *error)
{
	struct span host = r->fields[HTTP_HOST];

	if (host.bytes == NULL && r->minor_version == 0)
		return 0;
	if (host.bytes == NULL)
		return http_refuse(error, 400, "the Host field is missing");
	if (!is_host_and_port(host))
		return http_refuse(error, 400, "malformed Host field");
	return 0;
}

/* Takes scheme and authority off a target in absolute form (RFC 9112 3.2.2).
 * Returns the authority, absent if the target is malformed. */
static struct span cut_authority(struct span *target)
{
	const struct span schemes[] = {SPAN("http://"), SPAN("https://")};
	struct span none = {NULL, 0};
	struct span rest = none;
	struct span authority;

	for (size_t i = 0; i < 2; i++) {
		size_t len = schemes[i].len;

		if (target->len > len &&
		    strncasecmp(target->bytes, schemes[i].bytes, len) == 0)
			rest = (struct span){target->bytes + len,
					     target->len - len};
	}
	authority = (struct span){rest.bytes, 0};
	while (rest.len > 0 && rest.bytes[0] != '/' && rest.bytes[0] != '?') {
		rest.bytes++;
		rest.len--;
		authority.len++;
	}
	*target = rest;
	return authority.len > 0 && is_host_and_port(authority) ? authority
								: none;
}

static bool is_target(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.bytes[i];

		if (c <= ' ' || c > '~' || c == '#')
			return false;
	}
	return s.len > 0;
}

/* Splits a target in origin or absolute form into path and query. The authority
 * of the absolute form replaces Host (RFC 9112 3.2.2). */
static int divide_target(struct span target, struct http_request *r)
{
	const char *mark;

	if (target.bytes[0] != '/') {
		r->fields[HTTP_HOST] = cut_authority(&target);
		if (r->fields[HTTP_HOST].bytes == NULL)
			return -1;
	}
	r->path = target;
	mark = target.len == 0 ? NULL : memchr(target.bytes, '?', target.len);
	if (mark != NULL) {
		r->path.len = (size_t)(mark - target.bytes);
		r->query =
			(struct span){mark + 1, target.len - r->path.len - 1};
	}
	if (r->path.len == 0)
		r->path = SPAN("/");
	return 0;
}

static int set_target(const struct http_head *head, struct http_request *r,
		      struct http_error *error)
{
	struct span target = {head->bytes.bytes, head->target_len};

	/* The asterisk form is for OPTIONS alone, the authority form for
	 * CONNECT alone (RFC 9112 3.2.3, 3.2.4). */
	if (r->method == HTTP_METHOD_OPTIONS && span_equal(target, SPAN("*")))
		/* Branches that are alike by chance. */
		/* NOLINTNEXTLINE(bugprone-branch-clone) */
		r->path = target;
	else if (r->method == HTTP_METHOD_CONNECT && is_host_and_port(target))
		r->path = target;
	else if (r->method == HTTP_METHOD_CONNECT)
		/* The same. */
		/* NOLINTNEXTLINE(bugprone-branch-clone) */
		return http_refuse(error, 400, "malformed request target");
	else if (!is_target(target) || divide_target(target, r) != 0)
		return http_refuse(error, 400, "malformed request target");
	return 0;
}

/* --- what follows the head -------------------------------------------------
 */

/* Refuses a request whose content two servers could delimit in different ways
 * (RFC 9112 6.1 and 6.3). */
static int check_framing(const struct http_head *head,
			 const struct http_request *r, struct http_error *error)
{
	if (!head->has_transfer_encoding)
		return 0;
	if (r->has_content_length)
		return http_refuse(error, 400,
				   "both Content-Length and Transfer-Encoding");
	if (r->minor_version == 0)
		return http_refuse(error, 400, "Transfer-Encoding in HTTP/1.0");
	if (!head->ends_in_chunked)
		return http_refuse(error, 400,
				   "Transfer-Encoding does not end in chunked");
	if (head->transfer_chunked < head->transfer_codings)
		return http_refuse(error, 501, "a transfer coding but chunked");
	if (!r->is_chunked || head->transfer_chunked > 1)
		return http_refuse(error, 400, "malformed Transfer-Encoding");
	return 0;
}

static int set_expectation(struct http_request *r, struct http_error *error)
{
	struct span expect = r->fields[HTTP_EXPECT];

	if (expect.bytes == NULL)
		return 0;
	if (!span_equal_nocase(expect, SPAN("100-continue")))
		return http_refuse(error, 417,
				   "an expectation but 100-continue");
	r->expects_continue = r->minor_version == 1;
	return 0;
}

/* RFC 9112 9.3. Bytes behind CONNECT may be for another server. */
static void set_keep_alive(struct http_request *r)
{
	struct span connection = r->fields[HTTP_CONNECTION];

	r->keep_alive = r->method != HTTP_METHOD_CONNECT &&
			!http_list_has(connection, SPAN("close")) &&
			(r->minor_version == 1 ||
			 http_list_has(connection, SPAN("keep-alive")));
}

int http_head_make_request(struct http_head *head, struct http_request *r,
			   struct http_error *error)
{
	if (set_fields(head, r, error) != 0 || check_host(r, error) != 0 ||
	    set_target(head, r, error) != 0 ||
	    check_framing(head, r, error) != 0 ||
	    set_expectation(r, error) != 0)
		return error->status;
	set_keep_alive(r);
	return 0;
}
