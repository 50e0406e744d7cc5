/* config.h - the settings, read once at start.
 *
 * Each setting is a row of the table in settings.h, which --help prints too;
 * options.h knows how settings are given. A malformed value is an error;
 * nothing falls back silently. Immutable after config_load(). Threads: any,
 * after that. */
#ifndef ISIMUD_CONFIG_CONFIG_H
#define ISIMUD_CONFIG_CONFIG_H

#include "base/buf.h"
#include "base/log.h"
#include "base/span.h"
#include "codec/forwarded.h"
#include "config/descriptors.h"
#include "config/settings.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_ERROR_MAX     256
#define CONFIG_WORKERS_MAX   64
#define CONFIG_LISTENERS_MAX 8
#define CONFIG_PASSWORDS_MAX 2
/* A longer password, with a publisher's name of 1 KiB and other fields, would
 * not fit into a request head of 16 KiB: base64 makes four bytes of three. */
#define CONFIG_PASSWORD_MAX_BYTES 8192

/* Where to listen. */
struct config_listener {
	bool is_unix;
	char address[108]; /* numeric IPv4 or IPv6; or a path, as sun_path */
	unsigned port;     /* 0: any free one; nothing if is_unix */
	/* IPv6, and another listener has the same port of IPv4: it must not
	 * take IPv4 clients, which would come as ::ffff:1.2.3.4. */
	bool is_v6_only;
};

/* A member's type, by the kind of its setting. */
#define CONFIG_SECRET       const char *
#define CONFIG_TEXT         const char *
#define CONFIG_URL          const char *
#define CONFIG_URLS         const char *
#define CONFIG_NAME         const char *
#define CONFIG_ADDRESS      const char *
#define CONFIG_LISTENERS    const char *
#define CONFIG_ORIGINS      const char *
#define CONFIG_HOSTS        const char *
#define CONFIG_PROXIES      const char *
#define CONFIG_FLAG         bool
#define CONFIG_NUMBER       uint64_t
#define CONFIG_PORT_OR_NONE uint64_t
#define CONFIG_BYTES        uint64_t
#define CONFIG_DURATION     uint64_t
#define CONFIG_MODE         uint64_t
#define CONFIG_LEVEL        uint64_t /* enum log_level */
#define CONFIG_FORMAT       bool     /* whether it is JSON */

struct config {
	/* Each setting: settings.h. Text lies in the environment or the
	 * arguments, which nobody changes; NULL: it was not given. */
#define CONFIG_MEMBER(kind, name, member, fallback, min, max, help)            \
	CONFIG_##kind member;
	CONFIG_SETTINGS(CONFIG_MEMBER)
#undef CONFIG_MEMBER
	/* What became of them. All listeners there are: those of `listen`,
	 * else one of `ip` and `port`. */
	struct config_listener listeners[CONFIG_LISTENERS_MAX];
	unsigned listeners_count; /* at least 1 */
	bool has_admin_port;
	/* Of descriptors; it may allow fewer than `connections_max`. */
	struct descriptors_shares shares;
	struct forwarded_proxies proxies; /* of `trusted_proxies` */
};

/* Gives the value of a setting, or NULL where it is not set. */
typedef const char *(*config_get_cb)(const char *name);

/* Whether `name`, as in the table, is a setting. */
bool config_is_setting(const char *name);

/* Fills `c` from `get` (options_get, but in tests). Whether there is a password
 * is for config_read_passwords() to find. Returns 0; or UV_EINVAL with `error`
 * a line that names the setting and says what is wrong. */
int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX]);

/* One or two passwords, both of which are valid, so that one can be replaced
 * while publishers still use the other. Zeroed memory is none. */
struct config_passwords {
	struct buf bytes;
	struct span each[CONFIG_PASSWORDS_MAX]; /* in `bytes` */
	unsigned count;
};

/* Reads PASSWORD, or the lines of PASSWORD_FILE as it is now (ended by LF or
 * CRLF; empty ones are skipped); exactly one of the two must be set. Each
 * password has 1 to CONFIG_PASSWORD_MAX_BYTES bytes. `out` is zeroed memory.
 * Returns 0; or UV_EINVAL or UV_ENOMEM, with `error` a line that says why. Call
 * config_passwords_fini() in any case. */
int config_read_passwords(const struct config *c, struct config_passwords *out,
			  char error[static CONFIG_ERROR_MAX]);

/* Overwrites them. */
void config_passwords_fini(struct config_passwords *passwords);

/* Writes a line or two for each setting: how to give it, its default, its
 * meaning. */
void config_print_help(FILE *out);

/* Writes the effective settings, one a line; secrets are masked. */
void config_print(const struct config *c, FILE *out);

/* Calls `tell` for each setting, with the effective value, masked in the same
 * way; "" if it has none. Ends at once if that returns anything but 0, which it
 * returns. */
typedef int (*config_tell_cb)(void *user, const char *name, const char *value);
int config_tell(const struct config *c, config_tell_cb tell, void *user);

/* Logs, at info, the settings that have a value, in one line, in the same way.
 */
void config_log(const struct config *c);

#define CONFIG_LISTENER_TEXT_MAX 128

/* `out` receives the listener as LISTEN has it, with `port` for its port. */
void config_name_listener(const struct config_listener *l, unsigned port,
			  char out[static CONFIG_LISTENER_TEXT_MAX]);

#endif
