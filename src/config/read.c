/* read.c - the readers of the kinds of settings. */
#include "config/private.h"

#include "codec/forwarded.h"
#include "codec/host.h"
#include "codec/origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* K, Ki, KB and KiB are all 1024, since K always was. */
static const char *read_bytes(const char *text, uint64_t *out)
{
	static const char suffixes[] = "KMG";
	static const char *const behind[] = {"", "i", "B", "iB"};
	const char *wrong =
		"must be a number of bytes, such as 65536, 64K, 1M, 64MiB";
	char *end;
	if (!config_read_number(text, out, &end))
		return wrong;
	if (*end == '\0')
		return NULL;
	const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
	if (suffix == NULL)
		return wrong;
	size_t i = 0;
	while (i < 4 && strcasecmp(end + 1, behind[i]) != 0)
		i++;
	unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
	if (i == 4 || *out > UINT64_MAX >> shift)
		return wrong;
	*out <<= shift;
	return NULL;
}

static const char *read_duration(const char *text, uint64_t *out)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = {
		{"", 1000},   {"s", 1000},    {"ms", 1},
		{"m", 60000}, {"h", 3600000},
	};
	const char *wrong =
		"must be a number of seconds, such as 30 or 0.5, or have a "
		"unit: 500ms, 10s, 2m, 1h";
	size_t digits = strspn(text, "0123456789.");
	char *end;
	double number = strtod(text, &end);
	size_t i = 0;

	/* strtod() also knows signs, exponents, hex and names. */
	if (!isdigit((unsigned char)text[0]) || end != text + digits)
		return wrong;
	while (i < sizeof units / sizeof units[0] &&
	       strcasecmp(end, units[i].name) != 0)
		i++;
	if (i == sizeof units / sizeof units[0])
		return wrong;
	if (number * units[i].ms > (double)CONFIG_DURATION_MAX_MS)
		return "is out of range";
	*out = (uint64_t)(number * units[i].ms + 0.5);
	return NULL;
}

static const char *read_mode(const char *text, uint64_t *out)
{
	if (text[0] == '\0' || strlen(text) > 4 ||
	    text[strspn(text, "01234567")] != '\0')
		return "must be a mode in octal, such as 0660";
	*out = strtoull(text, NULL, 8);
	/* Its owner may always connect: isimud healthcheck does. */
	return *out > 0777 || (*out & 0600) != 0600
		       ? "must be from 0600 to 0777, for its owner at least"
		       : NULL;
}

static const char *read_flag(const char *text, bool *out)
{
	static const char *const yes[] = {"true", "t", "1"};
	static const char *const no[] = {"false", "f", "0"};
	for (size_t i = 0; i < 3; i++) {
		if (strcasecmp(text, yes[i]) == 0 ||
		    strcasecmp(text, no[i]) == 0) {
			*out = strcasecmp(text, yes[i]) == 0;
			return NULL;
		}
	}
	return "must be true, t, 1, false, f or 0";
}

static const char *read_address(const char *text, const char **out)
{
	unsigned char address[sizeof(struct in6_addr)];
	*out = config_numeric_address(text);
	if (inet_pton(AF_INET, *out, address) == 1 ||
	    inet_pton(AF_INET6, *out, address) == 1)
		return NULL;
	return "must be a numeric IPv4 or IPv6 address, or localhost";
}

static const char *read_format(const char *text, bool *is_json)
{
	*is_json = strcasecmp(text, "json") == 0;
	if (!*is_json && strcasecmp(text, "text") != 0)
		return "must be text or json";
	return NULL;
}

#define SERVERS_MAX 16

/* A URL of a NATS server, of `len` bytes: nats:// or tls://, then a host. */
static bool is_nats_server(const char *url, size_t len)
{
	static const char *const schemes[] = {"nats://", "tls://"};

	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		size_t n = strlen(schemes[i]);
		if (len > n && strncasecmp(url, schemes[i], n) == 0)
			return memchr(url, ' ', len) == NULL;
	}
	return false;
}

static const char *check_servers(const char *text)
{
	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		size_t len = strcspn(text, ",");
		if (!is_nats_server(text, len))
			break;
		if (text[len] == '\0')
			return NULL;
		text += len + 1;
	}
	return "must be 1 to 16 URLs with commas between, such as "
	       "nats://10.0.0.1:4222,tls://nats.example:4222";
}

/* What JetStream takes for a stream's name. */
static const char *check_name(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-' &&
		    text[i] != '_')
			len = 0;
	return len > 0 && len <= 64 ? NULL
				    : "must be 1 to 64 letters, digits, - and "
				      "_";
}

const char *config_read_setting(struct config *c,
				const struct config_setting *s,
				const char *text)
{
	void *member = (char *)c + s->offset;
	uint64_t *number = member;
	const char *wrong = NULL;
	int level;

	switch (s->kind) {
	case SECRET:
	case TEXT:
	case URL:
		*(const char **)member = text;
		return NULL;
	case URLS:
		*(const char **)member = text;
		return check_servers(text);
	case NAME:
		*(const char **)member = text;
		return check_name(text);
	case ADDRESS:
		return read_address(text, member);
	case ORIGINS:
		*(const char **)member = text;
		return origin_check_list(text);
	case HOSTS:
		*(const char **)member = text;
		return host_check_list(text);
	case PROXIES:
		*(const char **)member = text;
		return forwarded_read_proxies(&c->proxies, text);
	case LISTENERS:
		*(const char **)member = text;
		return config_read_listeners(c, text);
	case FLAG:
		return read_flag(text, member);
	case FORMAT:
		return read_format(text, member);
	case LEVEL:
		level = log_level_of(text);
		*number = level < 0 ? 0 : (uint64_t)level;
		return level < 0 ? "must be debug, info, warn or error" : NULL;
	case PORT_OR_NONE:
		c->has_admin_port = true;
		wrong = config_read_whole_number(text, number);
		break;
	case NUMBER:
		wrong = config_read_whole_number(text, number);
		break;
	case BYTES:
		wrong = read_bytes(text, number);
		break;
	case MODE:
		return read_mode(text, number);
	case DURATION:
		wrong = read_duration(text, number);
		break;
	}
	if (wrong == NULL && (*number < s->min || *number > s->max))
		wrong = "is out of range";
	return wrong;
}
