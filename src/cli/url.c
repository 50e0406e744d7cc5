/* url.c - URLs into parts. */
#include "cli/url.h"

#include "base/refuse.h"
#include "codec/http/http.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* Takes `prefix` off the front of `*text`, without regard to case. */
static bool url_take(struct span *text, const char *prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || strncasecmp(text->bytes, prefix, len) != 0)
		return false;
	text->bytes += len;
	text->len -= len;
	return true;
}

/* Takes the part before the first or last `c`, and `c` itself, off `*text`.
 * Absent if there is no `c`. */
static struct span url_take_until(struct span *text, char c, bool is_last)
{
	const char *at = NULL;
	struct span part = {0};

	if (text->len > 0)
		at = is_last ? memrchr(text->bytes, c, text->len)
			     : memchr(text->bytes, c, text->len);
	if (at == NULL)
		return part;
	part = (struct span){text->bytes, (size_t)(at - text->bytes)};
	text->len -= part.len + 1;
	text->bytes = at + 1;
	return part;
}

static int set_host(struct url *out, struct span host, const char **wrong)
{
	if (host.len == 0)
		return refuse(wrong, "has no host");
	if (host.len >= sizeof out->host)
		return refuse(wrong, "has a host of more than 255 bytes");
	for (size_t i = 0; i < host.len; i++)
		if ((unsigned char)host.bytes[i] <= ' ')
			return refuse(wrong, "has a space in its host");
	memcpy(out->host, host.bytes, host.len);
	return 0;
}

static int set_port(struct url *out, struct span text, const char **wrong)
{
	unsigned long port = 0;

	out->port = 80;
	if (text.bytes == NULL || text.len == 0)
		return 0;
	for (size_t i = 0; i < text.len && port <= UINT16_MAX; i++) {
		if (text.bytes[i] < '0' || text.bytes[i] > '9')
			return refuse(wrong, "has a port that is no number");
		port = port * 10 + (unsigned long)(text.bytes[i] - '0');
	}
	if (port == 0 || port > UINT16_MAX)
		return refuse(wrong,
			      "has a port that is not between 1 and 65535");
	out->port = (unsigned)port;
	return 0;
}

static int set_authority(struct url *out, struct span text, const char **wrong)
{
	if (text.len > 0 && text.bytes[0] == '[') {
		text.bytes++;
		text.len--;
		struct span host = url_take_until(&text, ']', false);
		struct in6_addr address;
		int rv = set_host(out, host, wrong);
		if (rv != 0)
			return rv;
		if (inet_pton(AF_INET6, out->host, &address) != 1)
			return refuse(
				wrong,
				"has no IPv6 address between its brackets");
		if (text.len > 0 && !url_take(&text, ":"))
			return refuse(wrong, "has something behind its host");
		return set_port(out, text, wrong);
	}
	struct span host = url_take_until(&text, ':', false);
	if (host.bytes == NULL) {
		host = text;
		text = (struct span){0};
	}
	int rv = set_host(out, host, wrong);
	return rv != 0 ? rv : set_port(out, text, wrong);
}

/* The user and the password of `text`. */
static int set_credentials(struct url *out, struct span text,
			   const char **wrong)
{
	struct span user = url_take_until(&text, ':', false);
	int rv = 0;

	out->has_password = user.bytes != NULL;
	if (!out->has_password)
		user = text;
	out->has_user = user.len > 0;
	rv = http_decode(user, false, &out->user);
	if (rv == 0 && out->has_password)
		rv = http_decode(text, false, &out->password);
	if (rv == UV_EINVAL)
		return refuse(wrong,
			      "has a malformed % in its user or password");
	return rv;
}

static int set_unix(struct url *out, struct span path, const char **wrong)
{
	struct config_listener l;

	out->is_unix = true;
	if (path.len == 0)
		return refuse(wrong, "has no path");
	if (path.len >= sizeof l.address)
		return refuse(wrong, "has a path of over 107 bytes");
	memcpy(out->host, path.bytes, path.len);
	return 0;
}

int url_parse(struct url *out, const char *text, const char **wrong)
{
	struct span rest = span_of(text);
	int rv = 0;

	if (url_take(&rest, "unix:"))
		return set_unix(out, rest, wrong);
	if (url_take(&rest, "https://") || url_take(&rest, "wss://"))
		return refuse(wrong,
			      "wants TLS, which is not spoken here: name the "
			      "server itself, by http://");
	if (!url_take(&rest, "http://") && !url_take(&rest, "ws://") &&
	    memmem(rest.bytes, rest.len, "://", 3) != NULL)
		return refuse(wrong,
			      "begins with neither http://, ws:// nor unix:");
	size_t len = strcspn(rest.bytes, "/?#");
	struct span authority = {rest.bytes, len};
	struct span prefix = {rest.bytes + len, rest.len - len};
	if (memchr(prefix.bytes, '?', prefix.len) != NULL ||
	    memchr(prefix.bytes, '#', prefix.len) != NULL)
		return refuse(wrong, "has a query or a fragment");
	while (prefix.len > 0 && prefix.bytes[prefix.len - 1] == '/')
		prefix.len--;
	struct span credentials = url_take_until(&authority, '@', true);
	if (credentials.bytes != NULL)
		rv = set_credentials(out, credentials, wrong);
	if (rv == 0)
		rv = set_authority(out, authority, wrong);
	if (rv == 0)
		rv = buf_append(&out->prefix, prefix.bytes, prefix.len);
	if (rv == UV_ENOMEM)
		*wrong = "can't be read: out of memory";
	return rv;
}

void url_of_listener(struct url *out, const struct config_listener *l)
{
	struct in6_addr address;

	out->is_unix = l->is_unix;
	out->port = l->port;
	snprintf(out->host, sizeof out->host, "%s", l->address);
	if (l->is_unix)
		return;
	if (inet_pton(AF_INET6, l->address, &address) == 1 &&
	    IN6_IS_ADDR_UNSPECIFIED(&address)) {
		/* It accepts IPv4 too. Loopback always has IPv4, but IPv6 may
		 * be off. */
		snprintf(out->host, sizeof out->host, "%s",
			 l->is_v6_only ? "::1" : "127.0.0.1");
	} else if (strcmp(l->address, "0.0.0.0") == 0) {
		snprintf(out->host, sizeof out->host, "127.0.0.1");
	}
}

void url_fini(struct url *url)
{
	if (url->password.bytes != NULL)
		explicit_bzero(url->password.bytes, url->password.cap);
	buf_fini(&url->prefix);
	buf_fini(&url->user);
	buf_fini(&url->password);
	memset(url, 0, sizeof *url);
}

void url_name(const struct url *url, char out[static URL_TEXT_MAX])
{
	if (url->is_unix)
		snprintf(out, URL_TEXT_MAX, "unix:%s", url->host);
	else if (strchr(url->host, ':') != NULL)
		snprintf(out, URL_TEXT_MAX, "[%s]:%u", url->host, url->port);
	else
		snprintf(out, URL_TEXT_MAX, "%s:%u", url->host, url->port);
}
