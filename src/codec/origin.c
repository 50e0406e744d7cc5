/* origin.c - from which web origins browsers may come. */
#include "codec/origin.h"

#include "base/refuse.h"

#include <ctype.h>
#include <string.h>

#define PORT_NONE (-1)
#define PORT_MAX  65535

/* An origin in its parts (RFC 6454 4). "null" is a scheme alone. */
struct origin {
	struct span scheme;
	struct span host;
	int port; /* the scheme's if none is named, PORT_NONE without any */
};

static int default_port(struct span scheme)
{
	if (span_equal_nocase(scheme, SPAN("http")))
		return 80;
	if (span_equal_nocase(scheme, SPAN("https")))
		return 443;
	return PORT_NONE;
}

/* RFC 3986 3.1. */
static bool is_scheme(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.bytes[i];

		if (!isalpha(c) && (i == 0 || (!isdigit(c) && c != '+' &&
					       c != '-' && c != '.')))
			return false;
	}
	return s.len > 0;
}

/* Whether `s` is a name or an address as browsers write it (names beyond ASCII
 * come as xn--…). */
static bool is_origin_host(struct span s)
{
	bool is_ipv6 =
		s.len > 2 && s.bytes[0] == '[' && s.bytes[s.len - 1] == ']';
	size_t skip = is_ipv6 ? 1 : 0;

	for (size_t i = skip; i < s.len - skip; i++) {
		unsigned char c = (unsigned char)s.bytes[i];

		if (is_ipv6 ? !isxdigit(c) && c != ':' && c != '.'
			    : !isalnum(c) && c != '-' && c != '.' && c != '_')
			return false;
	}
	return s.len > 0;
}

static bool read_port(struct span digits, int *port)
{
	*port = 0;
	for (size_t i = 0; i < digits.len; i++) {
		if (!isdigit((unsigned char)digits.bytes[i]))
			return false;
		*port = *port * 10 + (digits.bytes[i] - '0');
		if (*port > PORT_MAX)
			return false;
	}
	return digits.len > 0;
}

/* Splits host [":" port] (RFC 3986 3.2). Without a port, `*port` is left alone.
 */
static bool divide_authority(struct span s, struct span *host, int *port)
{
	const char *colon = s.len == 0 ? NULL : memrchr(s.bytes, ':', s.len);

	*host = s;
	if (colon == NULL || s.bytes[s.len - 1] == ']')
		return is_origin_host(s);
	host->len = (size_t)(colon - s.bytes);
	return is_origin_host(*host) &&
	       read_port((struct span){colon + 1, s.len - host->len - 1}, port);
}

/* Splits an origin. Returns 0; or -EINVAL and `*wrong`, as origin_check_list()
 * does. */
static int divide(struct span s, struct origin *o, const char **wrong)
{
	const char *mark = s.len == 0 ? NULL : memmem(s.bytes, s.len, "://", 3);
	struct span authority;

	*o = (struct origin){.scheme = s, .port = PORT_NONE};
	if (span_equal_nocase(s, SPAN("null")))
		return 0;
	if (mark != NULL)
		o->scheme.len = (size_t)(mark - s.bytes);
	if (mark == NULL || !is_scheme(o->scheme) ||
	    memchr(s.bytes, ' ', s.len) != NULL)
		return refuse(
			wrong,
			"must be *, or origins with their scheme, such as "
			"https://example.com, separated by commas");
	authority = (struct span){mark + 3, s.len - o->scheme.len - 3};
	if (memchr(authority.bytes, '/', authority.len) != NULL)
		return refuse(
			wrong,
			"must name origins without a path, and without a / at "
			"the end, such as https://example.com");
	if (memchr(authority.bytes, '@', authority.len) != NULL)
		return refuse(wrong,
			      "must name origins without a user, such as "
			      "https://example.com");
	o->port = default_port(o->scheme);
	if (!divide_authority(authority, &o->host, &o->port))
		return refuse(
			wrong,
			"must name hosts as browsers do: a name in ASCII or an "
			"address, and the port if any, such as "
			"https://example.com:8443 or http://[::1]:3000");
	return 0;
}

static bool is_equal(const struct origin *a, const struct origin *b)
{
	return span_equal_nocase(a->scheme, b->scheme) &&
	       span_equal_nocase(a->host, b->host) && a->port == b->port;
}

/* --- the list ------------------------------------------------------------- */

static bool is_list_space(char c)
{
	return c == ' ' || c == '\t';
}

/* Takes the next element, without the space around it, off `*list`, which is
 * absent behind the last one. */
static struct span take_element(struct span *list)
{
	const char *comma =
		list->len == 0 ? NULL : memchr(list->bytes, ',', list->len);
	struct span element = *list;

	if (comma == NULL) {
		*list = (struct span){NULL, 0};
	} else {
		element.len = (size_t)(comma - element.bytes);
		list->bytes += element.len + 1;
		list->len -= element.len + 1;
	}
	while (element.len > 0 && is_list_space(element.bytes[0])) {
		element.bytes++;
		element.len--;
	}
	while (element.len > 0 && is_list_space(element.bytes[element.len - 1]))
		element.len--;
	return element;
}

int origin_check_list(const char *list, const char **wrong)
{
	struct span rest = span_of(list);
	struct origin origin;
	int rv = 0;

	if (origin_allows_any(list))
		return 0;
	while (rv == 0 && rest.bytes != NULL) {
		struct span element = take_element(&rest);

		if (span_equal(element, SPAN("*")))
			return refuse(wrong,
				      "must be * alone, or origins without *");
		rv = divide(element, &origin, wrong);
	}
	return rv;
}

bool origin_allows_any(const char *list)
{
	struct span rest = span_of(list);
	struct span first = take_element(&rest);

	return rest.bytes == NULL && span_equal(first, SPAN("*"));
}

bool origin_is_allowed(const char *list, struct span origin)
{
	struct span rest = span_of(list);
	struct origin asked;
	struct origin listed;

	if (origin_allows_any(list))
		return true;
	if (divide(origin, &asked, NULL) != 0)
		return false;
	while (rest.bytes != NULL) {
		if (divide(take_element(&rest), &listed, NULL) == 0 &&
		    is_equal(&asked, &listed))
			return true;
	}
	return false;
}

bool origin_is_same(struct span origin, struct span host)
{
	struct origin from;
	struct origin to;

	if (divide(origin, &from, NULL) != 0 ||
	    default_port(from.scheme) == PORT_NONE)
		return false;
	to = (struct origin){.scheme = from.scheme,
			     .port = default_port(from.scheme)};
	/* Host may end in a colon without a port (RFC 3986 3.2.3). */
	if (host.len > 0 && host.bytes[host.len - 1] == ':')
		host.len--;
	return divide_authority(host, &to.host, &to.port) &&
	       is_equal(&from, &to);
}
