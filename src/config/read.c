/* read.c - the readers of the kinds of settings. */
#include "config/private.h"

#include "codec/origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Reads an unsigned decimal number; `*end` is the first character behind it.
 * Returns false if there is none, or it is too large. */
static bool read_number(const char *text, uint64_t *out, char **end)
{
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*out = strtoull(text, end, 10);
	return errno == 0;
}

const char *config_read_whole_number(const char *text, uint64_t *out)
{
	char *end;
	if (!read_number(text, out, &end) || *end != '\0')
		return "must be a whole number";
	return NULL;
}

static const char *read_bytes(const char *text, uint64_t *out)
{
	static const char suffixes[] = "KMG";
	const char *wrong = "must be a number of bytes, such as 65536, 64K, 1M";
	char *end;
	if (!read_number(text, out, &end))
		return wrong;
	if (*end == '\0')
		return NULL;
	const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
	if (suffix == NULL || end[1] != '\0')
		return wrong;
	unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
	if (*out > UINT64_MAX >> shift)
		return wrong;
	*out <<= shift;
	return NULL;
}

static const char *read_duration(const char *text, uint64_t *out)
{
	char *end;
	double seconds = strtod(text, &end);

	/* strtod() also knows signs, exponents, hex and names. */
	if (!isdigit((unsigned char)text[0]) || *end != '\0' ||
	    text[strspn(text, "0123456789.")] != '\0')
		return "must be a number of seconds, such as 30 or 0.5";
	if (seconds * 1000 > (double)CONFIG_DURATION_MAX_MS)
		return "is out of range";
	*out = (uint64_t)(seconds * 1000 + 0.5);
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

static const char *read_address(const char *text)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (inet_pton(AF_INET, text, address) == 1 ||
	    inet_pton(AF_INET6, text, address) == 1)
		return NULL;
	return "must be a numeric IPv4 or IPv6 address";
}

static const char *read_format(const char *text, bool *is_json)
{
	*is_json = strcmp(text, "json") == 0;
	if (!*is_json && strcmp(text, "text") != 0)
		return "must be text or json";
	return NULL;
}

/* Reads `text` into the member of `s`. Returns NULL, or what is wrong. */
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
	case ADDRESS:
		wrong = read_address(text);
		*(const char **)member = text;
		return wrong;
	case ORIGINS:
		*(const char **)member = text;
		return origin_check_list(text);
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
