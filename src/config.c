/* config.c - one table of settings, and the readers of their kinds. */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <uv.h>

enum kind {
	TEXT,
	ADDRESS,
	FLAG,
	NUMBER,
	BYTES,    /* with an optional suffix K, M or G (of 1024) */
	DURATION, /* seconds, decimals allowed; kept in milliseconds */
	LEVEL,
};

/* One setting. `fallback` NULL: without a default it is required; "": it has
 * a default that config_load() works out, or none is needed. */
struct setting {
	const char *name;
	enum kind kind;
	size_t offset;
	const char *fallback;
	uint64_t min, max; /* of the value as kept */
};

#define AT(member)      offsetof(struct config, member)
#define KIB             1024ULL
#define GIB             (1024 * 1024 * KIB)
#define DURATION_MAX_MS 86400000ULL /* a day */

static const struct setting settings[] = {
	{"PASSWORD", TEXT, AT(password), NULL, 0, 0},
	{"IP", ADDRESS, AT(ip), "127.0.0.1", 0, 0},
	{"PORT", NUMBER, AT(port), "3000", 0, 65535},
	{"HOMEPAGE", FLAG, AT(homepage), "true", 0, 0},
	{"AUTH_URL", TEXT, AT(auth_url), "", 0, 0},
	{"WORKERS", NUMBER, AT(workers), "", 1, CONFIG_WORKERS_MAX},
	{"MAX_CONNECTIONS", NUMBER, AT(connections_max), "", 1, 10000000},
	{"MAX_BODY", BYTES, AT(body_max_bytes), "1M", 1, GIB},
	{"MAX_BUFFERED", BYTES, AT(buffered_max_bytes), "1M", KIB, GIB},
	{"MAX_MAILBOX", BYTES, AT(mailbox_max_bytes), "64M", KIB, 64 * GIB},
	{"HEADER_TIMEOUT", DURATION, AT(header_timeout_ms), "10", 10,
	 DURATION_MAX_MS},
	{"BODY_TIMEOUT", DURATION, AT(body_timeout_ms), "30", 10,
	 DURATION_MAX_MS},
	{"WRITE_TIMEOUT", DURATION, AT(write_timeout_ms), "30", 10,
	 DURATION_MAX_MS},
	{"IDLE_TIMEOUT", DURATION, AT(idle_timeout_ms), "75", 10,
	 DURATION_MAX_MS},
	{"CLOSE_TIMEOUT", DURATION, AT(close_timeout_ms), "5", 10,
	 DURATION_MAX_MS},
	{"PING_INTERVAL", DURATION, AT(ping_interval_ms), "30", 10,
	 DURATION_MAX_MS},
	{"AUTH_TIMEOUT", DURATION, AT(auth_timeout_ms), "5", 10,
	 DURATION_MAX_MS},
	{"AUTH_MAX_CHECKS", NUMBER, AT(auth_checks_max), "256", 1, 65536},
	{"LOG_LEVEL", LEVEL, AT(log_level), "info", 0, 0},
};

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

static const char *read_whole_number(const char *text, uint64_t *out)
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
	if (seconds * 1000 > (double)DURATION_MAX_MS)
		return "is out of range";
	*out = (uint64_t)(seconds * 1000 + 0.5);
	return NULL;
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

/* Reads `text` into the member of `s`. Returns NULL, or what is wrong. */
static const char *read_setting(struct config *c, const struct setting *s,
				const char *text)
{
	void *member = (char *)c + s->offset;
	uint64_t *number = member;
	const char *wrong = NULL;
	int level;

	switch (s->kind) {
	case ADDRESS:
		wrong = read_address(text);
		*(const char **)member = text;
		return wrong;
	case TEXT:
		*(const char **)member = text;
		return NULL;
	case FLAG:
		return read_flag(text, member);
	case LEVEL:
		level = log_level_of(text);
		*number = level < 0 ? 0 : (uint64_t)level;
		return level < 0 ? "must be debug, info, warn or error" : NULL;
	case NUMBER:
		wrong = read_whole_number(text, number);
		break;
	case BYTES:
		wrong = read_bytes(text, number);
		break;
	case DURATION:
		wrong = read_duration(text, number);
		break;
	}
	if (wrong == NULL && (*number < s->min || *number > s->max))
		wrong = "is out of range";
	return wrong;
}

static void say_range(const struct setting *s, char *out, size_t cap)
{
	if (s->max == 0)
		out[0] = '\0';
	else if (s->kind == DURATION)
		snprintf(out, cap, " (%g to %g)", (double)s->min / 1000,
			 (double)s->max / 1000);
	else
		snprintf(out, cap, " (%" PRIu64 " to %" PRIu64 ")", s->min,
			 s->max);
}

/* Descriptors that are not client connections: loops, listeners, logs, and the
 * authority's. */
#define DESCRIPTORS_RESERVED 128

static uint64_t default_connections_max(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
	    limit.rlim_max == RLIM_INFINITY || limit.rlim_max > 10000000)
		return 1000000;
	if (limit.rlim_max <= 2 * DESCRIPTORS_RESERVED)
		return limit.rlim_max;
	return limit.rlim_max - DESCRIPTORS_RESERVED;
}

int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX])
{
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
		const struct setting *s = &settings[i];
		const char *text = get(s->name);
		const char *wrong;
		char range[64] = "";

		if (text != NULL ? text[0] == '\0' : s->fallback == NULL) {
			snprintf(error, CONFIG_ERROR_MAX, "%s %s", s->name,
				 text != NULL ? "must not be empty"
					      : "is required");
			return UV_EINVAL;
		}
		if (text == NULL && s->fallback[0] == '\0')
			continue;
		wrong = read_setting(c, s, text != NULL ? text : s->fallback);
		if (wrong != NULL) {
			say_range(s, range, sizeof range);
			snprintf(error, CONFIG_ERROR_MAX, "%s %s%s", s->name,
				 wrong, range);
			return UV_EINVAL;
		}
	}
	if (c->workers == 0)
		c->workers = config_available_cpus("/");
	if (c->connections_max == 0)
		c->connections_max = default_connections_max();
	return 0;
}

/* Reads up to two numbers from a file of a cgroup; "max" reads as -1. Returns
 * how many it read. */
static int read_quota(const char *root, const char *path, double out[2])
{
	char name[256];
	char text[64];
	int n = 0;
	snprintf(name, sizeof name, "%s%s", root, path);
	FILE *file = fopen(name, "re");
	if (file == NULL)
		return 0;
	if (fgets(text, sizeof text, file) != NULL) {
		char *rest;
		for (char *word = strtok_r(text, " \n", &rest);
		     word != NULL && n < 2; word = strtok_r(NULL, " \n", &rest))
			out[n++] = strcmp(word, "max") == 0 ? -1 : atof(word);
	}
	fclose(file);
	return n;
}

unsigned config_available_cpus(const char *root)
{
	cpu_set_t set;
	double quota[2] = {-1, 0};
	double period[2] = {0, 0};
	double cpus = 1;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		cpus = CPU_COUNT(&set);
	if (read_quota(root, "sys/fs/cgroup/cpu.max", quota) != 2) {
		if (read_quota(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
			       quota) != 1 ||
		    read_quota(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us",
			       period) != 1)
			quota[0] = -1;
		else
			quota[1] = period[0];
	}
	if (quota[0] > 0 && quota[1] > 0 && quota[0] / quota[1] < cpus)
		cpus = quota[0] / quota[1];
	if (cpus > CONFIG_WORKERS_MAX)
		cpus = CONFIG_WORKERS_MAX;
	unsigned whole = (unsigned)cpus;
	return whole < cpus ? whole + 1 : whole;
}
