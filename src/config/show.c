/* show.c - the settings as text. */
#include "config/private.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

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

/* Each of several, with commas between. */
static void show_urls(const char *urls, char *out, size_t cap)
{
	char one[LOG_LINE_MAX];
	size_t at = 0;

	for (;;) {
		size_t len = strcspn(urls, ",");
		snprintf(one, sizeof one, "%.*s", (int)len, urls);
		show_url(one, out + at, cap - at);
		at += strlen(out + at);
		if (urls[len] == '\0' || at + 1 >= cap)
			return;
		out[at++] = ',';
		urls += len + 1;
	}
}

static void show_text(const struct config_setting *s, const char *text,
		      char *out, size_t cap)
{
	if (text == NULL)
		out[0] = '\0';
	else if (s->kind == URL)
		show_url(text, out, cap);
	else if (s->kind == URLS)
		show_urls(text, out, cap);
	else
		snprintf(out, cap, "%s", s->kind == SECRET ? "***" : text);
}

/* `out` receives the value, "" if there is none. */
static void show_value(const struct config *c, const struct config_setting *s,
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
	case URLS:
	case NAME:
	case ADDRESS:
	case LISTENERS:
	case ORIGINS:
	case HOSTS:
	case PROXIES:
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
	case MODE:
		snprintf(out, cap, "%04o", (unsigned)*number);
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

int config_tell(const struct config *c, config_tell_cb tell, void *user)
{
	char value[LOG_LINE_MAX];
	int rv = 0;

	for (size_t i = 0; i < CONFIG_SETTINGS_COUNT && rv == 0; i++) {
		show_value(c, &config_settings[i], value, sizeof value);
		rv = tell(user, config_settings[i].name, value);
	}
	return rv;
}

static int print_setting(void *user, const char *name, const char *value)
{
	if (value[0] == '\0')
		fprintf(user, "%s is not set\n", name);
	else
		fprintf(user, "%s=%s\n", name, value);
	return 0;
}

void config_print(const struct config *c, FILE *out)
{
	config_tell(c, print_setting, out);
}

#define SHOWN_MAX (2 * LOG_VALUE_MAX) /* bytes of a value in the log */

void config_log(const struct config *c)
{
	char values[CONFIG_SETTINGS_COUNT][SHOWN_MAX];
	struct log_field fields[CONFIG_SETTINGS_COUNT];
	size_t count = 0;

	for (size_t i = 0; i < CONFIG_SETTINGS_COUNT; i++) {
		show_value(c, &config_settings[i], values[count], SHOWN_MAX);
		if (values[count][0] == '\0')
			continue;
		fields[count] =
			log_text(config_settings[i].name, values[count]);
		count++;
	}
	log_event(LOG_INFO, "settings", fields, count, "settings:");
}

void config_print_help(FILE *out)
{
	static const char *const values[] = {
		[SECRET] = "TEXT",
		[TEXT] = "PATH",
		[URL] = "URL",
		[URLS] = "LIST",
		[NAME] = "NAME",
		[ADDRESS] = "ADDRESS",
		[LISTENERS] = "LIST",
		[ORIGINS] = "LIST",
		[HOSTS] = "LIST",
		[PROXIES] = "LIST",
		[FLAG] = "true|false",
		[NUMBER] = "NUMBER",
		[PORT_OR_NONE] = "NUMBER",
		[BYTES] = "BYTES",
		[DURATION] = "SECONDS",
		[MODE] = "OCTAL",
		[LEVEL] = "debug|info|warn|error",
		[FORMAT] = "text|json",
	};

	for (const struct config_setting *s = config_settings;
	     s < config_settings + CONFIG_SETTINGS_COUNT; s++) {
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
