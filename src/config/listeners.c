/* listeners.c - the list of listeners. */
#include "config/private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* Splits `text`, IP:PORT or [IPV6]:PORT, in place. Returns the port, or NULL if
 * it has another form; `*ip` is the address then. */
static char *split_port(char *text, char **ip, bool *is_v6)
{
	char *colon = strrchr(text, ':');

	if (colon == NULL || colon == text)
		return NULL;
	*colon = '\0';
	*is_v6 = text[0] == '[';
	*ip = text + *is_v6;
	if (!*is_v6)
		return colon + 1;
	if (colon[-1] != ']')
		return NULL;
	colon[-1] = '\0';
	return colon + 1;
}

static int read_tcp_listener(struct config_listener *l, char *text,
			     const char **wrong)
{
	unsigned char address[sizeof(struct in6_addr)];
	uint64_t port_number;
	bool is_v6;
	char *ip;
	char *port = split_port(text, &ip, &is_v6);

	const char *numeric = NULL;

	if (port != NULL)
		numeric = is_v6 ? ip : config_numeric_address(ip);
	if (numeric == NULL ||
	    inet_pton(is_v6 ? AF_INET6 : AF_INET, numeric, address) != 1)
		return refuse(wrong, "must name IP:PORT, [IPV6]:PORT or "
				     "unix:/PATH, separated"
				     " by commas");
	if (config_read_whole_number(port, &port_number, wrong) != 0 ||
	    port_number > 65535)
		return refuse(
			wrong,
			"has a port that is not a number from 0 to 65535");
	snprintf(l->address, sizeof l->address, "%s", numeric);
	l->port = (unsigned)port_number;
	return 0;
}

static const char path_too_long[] =
	"has a Unix socket whose path is over 107 bytes";

static int read_unix_listener(struct config_listener *l, const char *path,
			      const char **wrong)
{
	if (path[0] != '/' || path[1] == '\0')
		return refuse(
			wrong,
			"has a Unix socket whose path does not start with /");
	size_t len = strlen(path);
	if (len >= sizeof l->address)
		return refuse(wrong, path_too_long);
	l->is_unix = true;
	memcpy(l->address, path, len + 1);
	return 0;
}

int config_read_listeners(struct config *c, const char *text,
			  const char **wrong)
{
	static const char unix_prefix[] = "unix:";
	char one[sizeof unix_prefix + sizeof c->listeners[0].address];

	for (;;) {
		size_t len = strcspn(text, ",");
		int rv;
		if (c->listeners_count == CONFIG_LISTENERS_MAX)
			return refuse(wrong, "names more than 8 listeners");
		if (len >= sizeof one)
			return refuse(wrong, path_too_long);
		memcpy(one, text, len);
		one[len] = '\0';
		struct config_listener *l = &c->listeners[c->listeners_count++];
		if (strncmp(one, unix_prefix, sizeof unix_prefix - 1) == 0)
			rv = read_unix_listener(l, one + sizeof unix_prefix - 1,
						wrong);
		else
			rv = read_tcp_listener(l, one, wrong);
		if (rv != 0 || text[len] == '\0')
			return rv;
		text += len + 1;
	}
}

static bool is_v6(const struct config_listener *l)
{
	return !l->is_unix && strchr(l->address, ':') != NULL;
}

void config_tell_families_apart(struct config *c)
{
	for (unsigned i = 0; i < c->listeners_count; i++) {
		struct config_listener *l = &c->listeners[i];
		for (unsigned n = 0; is_v6(l) && n < c->listeners_count; n++) {
			const struct config_listener *other = &c->listeners[n];
			/* Of ports 0 each is another. */
			if (!other->is_unix && !is_v6(other) &&
			    other->port == l->port && l->port != 0)
				l->is_v6_only = true;
		}
	}
}

void config_name_listener(const struct config_listener *l, unsigned port,
			  char out[static CONFIG_LISTENER_TEXT_MAX])
{
	if (l->is_unix)
		snprintf(out, CONFIG_LISTENER_TEXT_MAX, "unix:%s", l->address);
	else
		snprintf(out, CONFIG_LISTENER_TEXT_MAX,
			 is_v6(l) ? "[%s]:%u" : "%s:%u", l->address, port);
}
