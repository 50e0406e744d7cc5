/* read.c - reads the value of a setting, by its kind. */
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
static int read_bytes(const char *text, uint64_t *out, const char **wrong)
{
	static const char suffixes[] = "KMG";
	static const char *const behind[] = {"", "i", "B", "iB"};
	static const char problem[] =
		"must be a number of bytes, such as 65536, 64K, 1M, 64MiB";
	char *end;
	if (!config_read_number(text, out, &end))
		return refuse(wrong, problem);
	if (*end == '\0')
		return 0;
	const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
	if (suffix == NULL)
		return refuse(wrong, problem);
	size_t i = 0;
	while (i < 4 && strcasecmp(end + 1, behind[i]) != 0)
		i++;
	unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
	if (i == 4 || *out > UINT64_MAX >> shift)
		return refuse(wrong, problem);
	*out <<= shift;
	return 0;
}

static int read_milliseconds(const char *text, uint64_t *out,
			     const char **wrong)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = {
		{"", 1000},   {"s", 1000},    {"ms", 1},
		{"m", 60000}, {"h", 3600000},
	};
	static const char problem[] =
		"must be a number of seconds, such as 30 or 0.5, or have a "
		"unit: 500ms, 10s, 2m, 1h";
	size_t digits = strspn(text, "0123456789.");
	char *end;
	double number = strtod(text, &end);
	size_t i = 0;

	/* strtod() also knows signs, exponents, hex and names. */
	if (!isdigit((unsigned char)text[0]) || end != text + digits)
		return refuse(wrong, problem);
	while (i < sizeof units / sizeof units[0] &&
	       strcasecmp(end, units[i].name) != 0)
		i++;
	if (i == sizeof units / sizeof units[0])
		return refuse(wrong, problem);
	if (number * units[i].ms > (double)CONFIG_DURATION_MAX_MS)
		return refuse(wrong, "is out of range");
	*out = (uint64_t)(number * units[i].ms + 0.5);
	return 0;
}

static int read_mode(const char *text, uint64_t *out, const char **wrong)
{
	if (text[0] == '\0' || strlen(text) > 4 ||
	    text[strspn(text, "01234567")] != '\0')
		return refuse(wrong, "must be a mode in octal, such as 0660");
	*out = strtoull(text, NULL, 8);
	/* Its owner may always connect: isimud healthcheck does. */
	if (*out > 0777 || (*out & 0600) != 0600)
		return refuse(
			wrong,
			"must be from 0600 to 0777, for its owner at least");
	return 0;
}

static int read_flag(const char *text, bool *out, const char **wrong)
{
	static const char *const yes[] = {"true", "t", "1"};
	static const char *const no[] = {"false", "f", "0"};
	for (size_t i = 0; i < 3; i++) {
		if (strcasecmp(text, yes[i]) == 0 ||
		    strcasecmp(text, no[i]) == 0) {
			*out = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return refuse(wrong, "must be true, t, 1, false, f or 0");
}

static int read_numeric_address(const char *text, const char **out,
				const char **wrong)
{
	unsigned char address[sizeof(struct in6_addr)];
	*out = config_numeric_address(text);
	if (inet_pton(AF_INET, *out, address) == 1 ||
	    inet_pton(AF_INET6, *out, address) == 1)
		return 0;
	return refuse(wrong,
		      "must be a numeric IPv4 or IPv6 address, or localhost");
}

static int read_format(const char *text, bool *is_json, const char **wrong)
{
	*is_json = strcasecmp(text, "json") == 0;
	if (!*is_json && strcasecmp(text, "text") != 0)
		return refuse(wrong, "must be text or json");
	return 0;
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

static int check_servers(const char *text, const char **wrong)
{
	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		size_t len = strcspn(text, ",");
		if (!is_nats_server(text, len))
			break;
		if (text[len] == '\0')
			return 0;
		text += len + 1;
	}
	return refuse(wrong,
		      "must be 1 to 16 URLs with commas between, such as "
		      "nats://10.0.0.1:4222,tls://nats.example:4222");
}

/* What JetStream takes for a stream's name. */
static int check_name(const char *text, const char **wrong)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '-' &&
		    text[i] != '_')
			len = 0;
	if (len > 0 && len <= 64)
		return 0;
	return refuse(wrong, "must be 1 to 64 letters, digits, - and "
			     "_");
}

int config_read_setting(struct config *c, const struct config_setting *s,
			const char *text, const char **wrong)
{
	void *member = (char *)c + s->offset;
	uint64_t *number = member;
	int rv = 0;
	int level;

	switch (s->kind) {
	case SECRET:
	case TEXT:
	case URL:
		*(const char **)member = text;
		return 0;
	case URLS:
		*(const char **)member = text;
		return check_servers(text, wrong);
	case NAME:
		*(const char **)member = text;
		return check_name(text, wrong);
	case ADDRESS:
		return read_numeric_address(text, member, wrong);
	case ORIGINS:
		*(const char **)member = text;
		return origin_check_list(text, wrong);
	case HOSTS:
		*(const char **)member = text;
		return host_check_list(text, wrong);
	case PROXIES:
		*(const char **)member = text;
		return forwarded_read_proxies(&c->proxies, text, wrong);
	case LISTENERS:
		*(const char **)member = text;
		return config_read_listeners(c, text, wrong);
	case FLAG:
		return read_flag(text, member, wrong);
	case FORMAT:
		return read_format(text, member, wrong);
	case LEVEL:
		level = log_level_of(text);
		*number = level < 0 ? 0 : (uint64_t)level;
		if (level < 0)
			return refuse(wrong,
				      "must be debug, info, warn or error");
		return 0;
	case PORT_OR_NONE:
		c->has_admin_port = true;
		rv = config_read_whole_number(text, number, wrong);
		break;
	case NUMBER:
		rv = config_read_whole_number(text, number, wrong);
		break;
	case BYTES:
		rv = read_bytes(text, number, wrong);
		break;
	case MODE:
		return read_mode(text, number, wrong);
	case DURATION:
		rv = read_milliseconds(text, number, wrong);
		break;
	}
	if (rv == 0 && (*number < s->min || *number > s->max))
		return refuse(wrong, "is out of range");
	return rv;
}
