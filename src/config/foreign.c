/* foreign.c - the shapes of values that are not ours. */
#include "config/foreign.h"

#include "base/log.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static bool has_letter(const char *text)
{
	while (*text != '\0' && !isalpha((unsigned char)*text))
		text++;
	return *text != '\0';
}

static bool is_other_level(const char *value)
{
	return log_level_of(value) < 0;
}

static bool is_other_format(const char *value)
{
	return strcasecmp(value, "text") != 0 && strcasecmp(value, "json") != 0;
}

/* A URL, a host, a path. */
static bool is_page(const char *value)
{
	return strpbrk(value, ":/.") != NULL;
}

/* tcp://10.0.0.1:80, a named pipe, HOST:PORT. */
static bool is_other_port(const char *value)
{
	return strpbrk(value, ":/\\") != NULL;
}

/* A network, several, a host's name. */
static bool is_other_address(const char *value)
{
	return strpbrk(value, "/, %") != NULL ||
	       (strchr(value, ':') == NULL && has_letter(value) &&
		strcasecmp(value, "localhost") != 0);
}

/* yes, tcp://0.0.0.0:80; each of ours has a number or a path. */
static bool is_other_list(const char *value)
{
	return strstr(value, "://") != NULL ||
	       (strpbrk(value, ":0123456789") == NULL && has_letter(value));
}

/* auto */
static bool is_word(const char *value)
{
	return isalpha((unsigned char)value[0]);
}

bool foreign_is_value(const char *name, const char *value)
{
	static const struct {
		const char *name;
		bool (*is_other)(const char *value);
	} shared[] = {
		{"ADMIN_PORT", is_other_port},   {"HOMEPAGE", is_page},
		{"IP", is_other_address},        {"LISTEN", is_other_list},
		{"LOG_FORMAT", is_other_format}, {"LOG_LEVEL", is_other_level},
		{"PORT", is_other_port},         {"WORKERS", is_word},
	};

	for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
		if (strcmp(shared[i].name, name) == 0)
			return shared[i].is_other(value);
	return false;
}

static const char *const protocols[] = {"TCP", "UDP", "SCTP"};

#define PROTOCOLS (sizeof protocols / sizeof protocols[0])

/* Whether `text` begins with `word`, as a whole word of a name. */
static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);
	return strncmp(text, word, len) == 0 &&
	       (text[len] == '\0' || text[len] == '_');
}

/* 80_TCP, 80_TCP_ADDR */
static bool is_port_and_protocol(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	for (size_t i = 0; digits > 0 && i < PROTOCOLS; i++)
		if (text[digits] == '_' &&
		    has_word(text + digits + 1, protocols[i]))
			return true;
	return false;
}

/* tcp://10.0.0.1:80 */
static bool is_link(const char *value)
{
	for (size_t i = 0; i < PROTOCOLS; i++) {
		size_t len = strlen(protocols[i]);
		if (strncasecmp(value, protocols[i], len) == 0 &&
		    strncmp(value + len, "://", 3) == 0)
			return true;
	}
	return false;
}

/* What stands behind the Service's name. */
static bool is_rest_of_link(const char *rest, const char *value)
{
	if (strcmp(rest, "SERVICE_HOST") == 0 || has_word(rest, "SERVICE_PORT"))
		return true;
	if (strcmp(rest, "PORT") == 0)
		return is_link(value);
	return strncmp(rest, "PORT_", 5) == 0 && is_port_and_protocol(rest + 5);
}

bool foreign_is_service_link(const char *name, const char *value)
{
	for (;;) {
		if (is_rest_of_link(name, value))
			return true;
		name = strchr(name, '_');
		if (name == NULL)
			return false;
		name++;
	}
}
