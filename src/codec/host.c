/* host.c - for which names a request may be. */
#include "codec/host.h"

#include "base/refuse.h"
#include "codec/http/http.h"

#include <ctype.h>

static bool is_any(const char *list)
{
	struct span rest = span_of(list);
	struct span first = http_list_take(&rest);

	return list == NULL ||
	       (rest.bytes == NULL && span_equal(first, SPAN("*")));
}

/* Whether it is a name or an address as it stands in Host (RFC 9110 7.2). */
static bool is_host_name(struct span s)
{
	bool is_v6 =
		s.len > 2 && s.bytes[0] == '[' && s.bytes[s.len - 1] == ']';

	for (size_t i = is_v6; i < s.len - is_v6; i++) {
		unsigned char c = (unsigned char)s.bytes[i];
		if (is_v6 ? !isxdigit(c) && c != ':' && c != '.'
			  : !isalnum(c) && c != '-' && c != '.' && c != '_')
			return false;
	}
	return s.len > 0;
}

static bool is_wildcard(struct span s)
{
	return s.len > 2 && s.bytes[0] == '*' && s.bytes[1] == '.';
}

int host_check_list(const char *list, const char **wrong)
{
	struct span rest = span_of(list);

	if (is_any(list))
		return 0;
	while (rest.bytes != NULL) {
		struct span one = http_list_take(&rest);
		if (is_wildcard(one))
			one = (struct span){one.bytes + 2, one.len - 2};
		if (!is_host_name(one))
			return refuse(
				wrong,
				"must be *, or hosts without scheme and port, "
				"such as push.example.com, *.example.com, "
				"127.0.0.1 or [::1], separated by commas");
	}
	return 0;
}

static struct span without_port(struct span host)
{
	const char *colon =
		host.len == 0 ? NULL : memrchr(host.bytes, ':', host.len);

	if (colon != NULL && host.bytes[host.len - 1] != ']')
		host.len = (size_t)(colon - host.bytes);
	/* A dot at the end does not make it another name (RFC 3986 3.2.2). */
	if (host.len > 1 && host.bytes[host.len - 1] == '.')
		host.len--;
	return host;
}

static bool matches(struct span listed, struct span host)
{
	if (!is_wildcard(listed))
		return span_equal_nocase(listed, host);
	struct span end = {listed.bytes + 1, listed.len - 1};
	return host.len > end.len &&
	       span_equal_nocase(
		       end,
		       (struct span){host.bytes + host.len - end.len, end.len});
}

bool host_is_allowed(const char *list, struct span host)
{
	struct span rest = span_of(list);

	if (host.bytes == NULL || is_any(list))
		return true;
	host = without_port(host);
	while (rest.bytes != NULL)
		if (matches(http_list_take(&rest), host))
			return true;
	return false;
}
