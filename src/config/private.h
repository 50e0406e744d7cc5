/* private.h - what the files of config share: the table of settings.
 * Threads: any; all is immutable. */
#ifndef ISIMUD_CONFIG_PRIVATE_H
#define ISIMUD_CONFIG_PRIVATE_H

#include "base/refuse.h"
#include "config/config.h"

#include <stddef.h>
#include <stdint.h>

enum config_kind {
	SECRET, /* text that is never shown */
	TEXT,
	URL,  /* text that is shown without credentials */
	URLS, /* the same, several, separated by commas: of NATS servers */
	NAME, /* of a stream */
	ADDRESS,
	LISTENERS,
	ORIGINS, /* text, a list as in origin.h */
	HOSTS,   /* the same, as in host.h */
	PROXIES, /* the same, as in forwarded.h */
	FLAG,
	NUMBER,
	PORT_OR_NONE, /* the admin port: a NUMBER, and whether it is given */
	BYTES,        /* with an optional suffix such as K or MiB (of 1024) */
	DURATION,     /* seconds, or with a unit; kept in milliseconds */
	MODE,         /* of a file, in octal */
	LEVEL,
	FORMAT,
};

/* One setting: a row of settings.h. */
struct config_setting {
	const char *name;
	enum config_kind kind;
	size_t offset;
	const char *fallback; /* NULL: stays zero unless config_load() knows */
	uint64_t min, max;    /* of the value as kept; max 0: no range */
	const char *help;     /* ends in the default where fallback is NULL */
};

#define CONFIG_DURATION_MAX_MS 86400000ULL /* a day */

#define CONFIG_ONE(kind, name, member, fallback, min, max, help) +1
enum {
	CONFIG_SETTINGS_COUNT = CONFIG_SETTINGS(CONFIG_ONE)
};
#undef CONFIG_ONE

extern const struct config_setting config_settings[CONFIG_SETTINGS_COUNT];

/* --- value.c -------------------------------------------------------------- */

/* Reads an unsigned decimal number; `*end` is the first character behind it.
 * Returns false if there is none, or it is too large. */
bool config_read_number(const char *text, uint64_t *out, char **end);

/* Reads digits, and nothing else. Returns 0, or UV_EINVAL and `*wrong`, a text
 * that goes on after the setting's name; so do the other readers. */
int config_read_whole_number(const char *text, uint64_t *out,
			     const char **wrong);

/* localhost as a number, 127.0.0.1; any other text as it is. */
const char *config_numeric_address(const char *text);

/* --- listeners.c ---------------------------------------------------------- */

/* Reads a list of listeners, separated by commas. */
int config_read_listeners(struct config *c, const char *text,
			  const char **wrong);

/* Says of each listener whether it is_v6_only. */
void config_tell_families_apart(struct config *c);

/* --- read.c --------------------------------------------------------------- */

/* Reads `text` into the member of `s`. */
int config_read_setting(struct config *c, const struct config_setting *s,
			const char *text, const char **wrong);

#endif
