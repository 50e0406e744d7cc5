/* config.c - one table of settings, and the readers of their kinds. */
#include "config.h"

#include "cgroup.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <uv.h>

enum kind {
	SECRET, /* text that is never shown */
	TEXT,
	URL, /* text that is shown without credentials */
	ADDRESS,
	LISTENERS,
	FLAG,
	NUMBER,
	PORT_OR_NONE, /* the admin port: a NUMBER, and whether it is given */
	BYTES,        /* with an optional suffix K, M or G (of 1024) */
	DURATION,     /* seconds, decimals allowed; kept in milliseconds */
	LEVEL,
	FORMAT,
};

/* One setting. */
struct setting {
	const char *name;
	enum kind kind;
	size_t offset;
	const char *fallback; /* NULL: stays zero unless config_load() knows */
	uint64_t min, max;    /* of the value as kept; max 0: no range */
	const char *help;     /* ends in the default where fallback is NULL */
};

#define AT(member)      offsetof(struct config, member)
#define KIB             1024ULL
#define GIB             (1024 * 1024 * KIB)
#define TIB             (1024 * GIB)
#define DURATION_MAX_MS 86400000ULL /* a day */

static const struct setting settings[] = {
	{"PASSWORD", SECRET, AT(password), NULL, 0, 0,
	 "what publishers must present; this or PASSWORD_FILE is required. "
	 "Prefer PASSWORD_FILE: everybody can see arguments, by ps"},
	{"PASSWORD_FILE", TEXT, AT(password_file), NULL, 0, 0,
	 "a file with the password, less one trailing newline; read again on "
	 "SIGHUP"},
	{"IP", ADDRESS, AT(ip), "127.0.0.1", 0, 0,
	 "the address to listen on, and that of ADMIN_PORT"},
	{"PORT", NUMBER, AT(port), "3000", 0, 65535,
	 "the port to listen on; 0: any free one"},
	{"LISTEN", LISTENERS, AT(listen), NULL, 0, 0,
	 "in place of IP and PORT, up to 8 of IP:PORT, [IPV6]:PORT and "
	 "unix:/PATH, separated by commas; default: IP and PORT"},
	{"ADMIN_PORT", PORT_OR_NONE, AT(admin_port), NULL, 0, 65535,
	 "a listener of its own, on IP, for health and metrics; default: none"},
	{"HOMEPAGE", FLAG, AT(homepage), "true", 0, 0,
	 "whether / redirects to the project page"},
	{"AUTH_URL", URL, AT(auth_url), NULL, 0, 0,
	 "whom to ask about a subscriber's token; default: nobody, all may "
	 "subscribe"},
	{"WORKERS", NUMBER, AT(workers), NULL, 1, CONFIG_WORKERS_MAX,
	 "loop threads; default: one for each CPU that the process may use"},
	{"MAX_CONNECTIONS", NUMBER, AT(connections_max), NULL, 1, 10000000,
	 "clients at once; default: by the limit of descriptors"},
	{"MEMORY_LIMIT", BYTES, AT(memory_limit_bytes), NULL, 0, 64 * TIB,
	 "for the whole process, 0: none; default: 80 % of the cgroup's limit, "
	 "else none"},
	{"MAX_BODY", BYTES, AT(body_max_bytes), "1M", 1, GIB,
	 "of a request's body"},
	{"MAX_BUFFERED", BYTES, AT(buffered_max_bytes), "1M", KIB, GIB,
	 "waiting for one subscriber; above it, the subscriber is ended"},
	{"MAX_MAILBOX", BYTES, AT(mailbox_max_bytes), "64M", KIB, 64 * GIB,
	 "waiting for one worker; above it, publishing is refused"},
	{"HEADER_TIMEOUT", DURATION, AT(header_timeout_ms), "10", 10,
	 DURATION_MAX_MS, "for a whole request head"},
	{"BODY_TIMEOUT", DURATION, AT(body_timeout_ms), "30", 10,
	 DURATION_MAX_MS, "for a whole request body"},
	{"WRITE_TIMEOUT", DURATION, AT(write_timeout_ms), "30", 10,
	 DURATION_MAX_MS, "without progress in an answer"},
	{"IDLE_TIMEOUT", DURATION, AT(idle_timeout_ms), "75", 10,
	 DURATION_MAX_MS, "between requests"},
	{"CLOSE_TIMEOUT", DURATION, AT(close_timeout_ms), "5", 10,
	 DURATION_MAX_MS, "for a client's answer to Close"},
	{"PING_INTERVAL", DURATION, AT(ping_interval_ms), "30", 10,
	 DURATION_MAX_MS,
	 "between pings; two without a sign of life end a WebSocket"},
	{"DRAIN_SECONDS", DURATION, AT(drain_ms), "20", 0, 3600000,
	 "after SIGTERM, over which subscribers are ended; 0: at once"},
	{"AUTH_TIMEOUT", DURATION, AT(auth_timeout_ms), "5", 10,
	 DURATION_MAX_MS, "for one check with AUTH_URL"},
	{"AUTH_MAX_CHECKS", NUMBER, AT(auth_checks_max), "256", 1, 65536,
	 "checks under way at once, for one worker"},
	{"LOG_LEVEL", LEVEL, AT(log_level), "info", 0, 0,
	 "the least important lines to write"},
	{"LOG_FORMAT", FORMAT, AT(log_is_json), "text", 0, 0,
	 "how log lines look"},
};

#define SETTINGS_COUNT (sizeof settings / sizeof settings[0])

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

static const char *read_format(const char *text, bool *is_json)
{
	*is_json = strcmp(text, "json") == 0;
	if (!*is_json && strcmp(text, "text") != 0)
		return "must be text or json";
	return NULL;
}

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

static const char *read_tcp_listener(struct config_listener *l, char *text)
{
	unsigned char address[sizeof(struct in6_addr)];
	uint64_t port_number;
	bool is_v6;
	char *ip;
	char *port = split_port(text, &ip, &is_v6);

	if (port == NULL ||
	    inet_pton(is_v6 ? AF_INET6 : AF_INET, ip, address) != 1)
		return "must name IP:PORT, [IPV6]:PORT or unix:/PATH, separated"
		       " by commas";
	if (read_whole_number(port, &port_number) != NULL ||
	    port_number > 65535)
		return "has a port that is not a number from 0 to 65535";
	snprintf(l->address, sizeof l->address, "%s", ip);
	l->port = (unsigned)port_number;
	return NULL;
}

static const char path_too_long[] =
	"has a Unix socket whose path is over 107 bytes";

static const char *read_unix_listener(struct config_listener *l,
				      const char *path)
{
	if (path[0] != '/' || path[1] == '\0')
		return "has a Unix socket whose path does not start with /";
	size_t len = strlen(path);
	if (len >= sizeof l->address)
		return path_too_long;
	l->is_unix = true;
	memcpy(l->address, path, len + 1);
	return NULL;
}

/* Reads a list separated by commas. Returns NULL, or what is wrong. */
static const char *read_listeners(struct config *c, const char *text)
{
	static const char unix_prefix[] = "unix:";
	char one[sizeof unix_prefix + sizeof c->listeners[0].address];

	for (;;) {
		size_t len = strcspn(text, ",");
		const char *wrong;
		if (c->listeners_count == CONFIG_LISTENERS_MAX)
			return "names more than 8 listeners";
		if (len >= sizeof one)
			return path_too_long;
		memcpy(one, text, len);
		one[len] = '\0';
		struct config_listener *l = &c->listeners[c->listeners_count++];
		if (strncmp(one, unix_prefix, sizeof unix_prefix - 1) == 0)
			wrong = read_unix_listener(l, one + sizeof unix_prefix -
							      1);
		else
			wrong = read_tcp_listener(l, one);
		if (wrong != NULL || text[len] == '\0')
			return wrong;
		text += len + 1;
	}
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
	case SECRET:
	case TEXT:
	case URL:
		*(const char **)member = text;
		return NULL;
	case ADDRESS:
		wrong = read_address(text);
		*(const char **)member = text;
		return wrong;
	case LISTENERS:
		*(const char **)member = text;
		return read_listeners(c, text);
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
		wrong = read_whole_number(text, number);
		break;
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

/* What follows from other settings, or from the machine. */
static void complete(struct config *c, config_get_cb get)
{
	if (c->workers == 0)
		c->workers = cgroup_cpus("/");
	if (c->workers > CONFIG_WORKERS_MAX)
		c->workers = CONFIG_WORKERS_MAX;
	if (c->connections_max == 0)
		c->connections_max = default_connections_max();
	if (get("MEMORY_LIMIT") == NULL)
		c->memory_limit_bytes = cgroup_memory_limit("/") / 5 * 4;
	if (c->listeners_count == 0) {
		snprintf(c->listeners[0].address,
			 sizeof c->listeners[0].address, "%s", c->ip);
		c->listeners[0].port = (unsigned)c->port;
		c->listeners_count = 1;
	}
}

bool config_is_setting(const char *name)
{
	for (size_t i = 0; i < SETTINGS_COUNT; i++)
		if (strcmp(settings[i].name, name) == 0)
			return true;
	return false;
}

int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX])
{
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < SETTINGS_COUNT; i++) {
		const struct setting *s = &settings[i];
		const char *text = get(s->name);
		const char *wrong;
		char range[64] = "";

		if (text != NULL && text[0] == '\0') {
			snprintf(error, CONFIG_ERROR_MAX,
				 "%s must not be empty", s->name);
			return UV_EINVAL;
		}
		if (text == NULL)
			text = s->fallback;
		if (text == NULL)
			continue;
		wrong = read_setting(c, s, text);
		if (wrong != NULL) {
			say_range(s, range, sizeof range);
			snprintf(error, CONFIG_ERROR_MAX, "%s %s%s", s->name,
				 wrong, range);
			return UV_EINVAL;
		}
	}
	complete(c, get);
	return 0;
}

/* --- showing ------------------------------------------------------------- */

void config_name_listener(const struct config_listener *l, unsigned port,
			  char out[static CONFIG_LISTENER_TEXT_MAX])
{
	bool is_v6 = !l->is_unix && strchr(l->address, ':') != NULL;

	if (l->is_unix)
		snprintf(out, CONFIG_LISTENER_TEXT_MAX, "unix:%s", l->address);
	else
		snprintf(out, CONFIG_LISTENER_TEXT_MAX,
			 is_v6 ? "[%s]:%u" : "%s:%u", l->address, port);
}

/* Shows a URL without what may be a credential: user and password, which end
 * at an @, and the query. */
static void show_url(const char *url, char *out, size_t cap)
{
	const char *scheme_end = strstr(url, "://");
	const char *rest = scheme_end == NULL ? url : scheme_end + 3;
	size_t len = strcspn(rest, "?#");
	const char *at = memrchr(rest, '@', len);
	const char *host = at == NULL ? rest : at + 1;

	snprintf(out, cap, "%.*s%s%.*s%s", (int)(rest - url), url,
		 at == NULL ? "" : "***@", (int)(rest + len - host), host,
		 rest[len] == '\0' ? "" : "?***");
}

static void show_text(const struct setting *s, const char *text, char *out,
		      size_t cap)
{
	if (text == NULL)
		out[0] = '\0';
	else if (s->kind == URL)
		show_url(text, out, cap);
	else
		snprintf(out, cap, "%s", s->kind == SECRET ? "***" : text);
}

/* `out` receives the value, "" if there is none. */
static void show_value(const struct config *c, const struct setting *s,
		       char *out, size_t cap)
{
	static const char *const levels[] = {[LOG_DEBUG] = "debug",
					     [LOG_INFO] = "info",
					     [LOG_WARN] = "warn",
					     [LOG_ERROR] = "error"};
	const void *member = (const char *)c + s->offset;
	const uint64_t *number = member;

	switch (s->kind) {
	case SECRET:
	case TEXT:
	case URL:
	case ADDRESS:
	case LISTENERS:
		show_text(s, *(const char *const *)member, out, cap);
		break;
	case FLAG:
		snprintf(out, cap, "%s",
			 *(const bool *)member ? "true" : "false");
		break;
	case FORMAT:
		snprintf(out, cap, "%s",
			 *(const bool *)member ? "json" : "text");
		break;
	case LEVEL:
		snprintf(out, cap, "%s", levels[*number]);
		break;
	case DURATION:
		snprintf(out, cap, "%.8g", (double)*number / 1000);
		break;
	case PORT_OR_NONE:
		out[0] = '\0';
		if (!c->has_admin_port)
			break;
		/* fall through */
	case NUMBER:
	case BYTES:
		snprintf(out, cap, "%" PRIu64, *number);
		break;
	}
}

void config_print(const struct config *c, FILE *out)
{
	char value[LOG_LINE_MAX];

	for (size_t i = 0; i < SETTINGS_COUNT; i++) {
		show_value(c, &settings[i], value, sizeof value);
		if (value[0] == '\0')
			fprintf(out, "%s is not set\n", settings[i].name);
		else
			fprintf(out, "%s=%s\n", settings[i].name, value);
	}
}

void config_log(const struct config *c)
{
	char value[LOG_LINE_MAX];
	char line[LOG_LINE_MAX];
	size_t len = 0;

	line[0] = '\0';
	for (size_t i = 0; i < SETTINGS_COUNT && len < sizeof line; i++) {
		show_value(c, &settings[i], value, sizeof value);
		if (value[0] == '\0')
			continue;
		int n = snprintf(line + len, sizeof line - len, " %s=%s",
				 settings[i].name, value);
		len += n < 0 ? 0 : (size_t)n;
	}
	log_info("settings:%s", line);
}

void config_print_help(FILE *out)
{
	static const char *const values[] = {
		[SECRET] = "TEXT",
		[TEXT] = "PATH",
		[URL] = "URL",
		[ADDRESS] = "ADDRESS",
		[LISTENERS] = "LIST",
		[FLAG] = "true|false",
		[NUMBER] = "NUMBER",
		[PORT_OR_NONE] = "NUMBER",
		[BYTES] = "BYTES",
		[DURATION] = "SECONDS",
		[LEVEL] = "debug|info|warn|error",
		[FORMAT] = "text|json",
	};

	for (const struct setting *s = settings; s < settings + SETTINGS_COUNT;
	     s++) {
		fputs("  --", out);
		for (const char *c = s->name; *c != '\0'; c++)
			fputc(*c == '_' ? '-' : tolower((unsigned char)*c),
			      out);
		fprintf(out, " %s\n        %s", values[s->kind], s->help);
		if (s->fallback != NULL)
			fprintf(out, "; default: %s", s->fallback);
		fputc('\n', out);
	}
}
