/* config.h - the settings, read once at start.
 *
 * Each setting is a row of the table in settings.c, which --help prints too;
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

struct config {
	/* Text lies in the environment or the arguments, which nobody changes.
	 */
	const char *password;      /* NULL: not given */
	const char *password_file; /* NULL: not given */
	const char *ip;            /* a numeric IPv4 or IPv6 address */
	uint64_t port;             /* 0: any free one */
	const char *listen;        /* NULL: not given; what became of it: */
	/* All there are: what `listen` says, else one of `ip` and `port`. */
	struct config_listener listeners[CONFIG_LISTENERS_MAX];
	unsigned listeners_count; /* at least 1 */
	uint64_t unix_mode;       /* of Unix sockets' files */
	uint64_t admin_port;      /* on `ip`; 0: any free one */
	bool has_admin_port;
	bool homepage;
	const char *auth_url;     /* NULL: subscribing needs no token */
	uint64_t workers;         /* loop threads, 1 to CONFIG_WORKERS_MAX */
	uint64_t connections_max; /* subscribers over TCP; `shares` may allow
				     fewer */
	struct descriptors_shares shares;
	uint64_t memory_limit_bytes; /* for the whole process; 0: none */
	uint64_t body_max_bytes;     /* of a request's content */
	uint64_t buffered_max_bytes; /* unsent, for one connection */
	uint64_t unsent_max_bytes;   /* in the kernel, of one; 0: any */
	uint64_t mailbox_max_bytes;  /* unread by one worker, from all */
	uint64_t defer_accept_ms;    /* 0: accept at once */
	uint64_t header_timeout_ms;
	uint64_t body_timeout_ms;
	uint64_t write_timeout_ms;
	uint64_t speed_min; /* bytes/s that a client must take; 0: any */
	uint64_t idle_timeout_ms;
	uint64_t close_timeout_ms;
	uint64_t ping_interval_ms;
	uint64_t drain_ms; /* over which subscribers are ended; 0: at once */
	uint64_t auth_timeout_ms;
	uint64_t auth_checks_max;    /* under way at once */
	uint64_t auth_queue;         /* more that wait for their turn */
	bool auth_cookie;            /* the client's Cookie is passed on */
	bool auth_per_topic;         /* each subscription is asked about */
	uint64_t auth_cache_ttl_ms;  /* of a yes; 0: none is kept */
	uint64_t auth_cache_entries; /* yeses kept */
	const char *allowed_origins; /* a list as in origin.h */
	const char *allowed_hosts;   /* a list as in host.h */
	const char *trusted_proxies; /* NULL: nobody; what became of it: */
	struct forwarded_proxies proxies;
	uint64_t compress_min_bytes; /* of a message; 0: none is compressed */
	uint64_t compress_level;     /* 1 to 9 */
	uint64_t subscriptions_max;  /* for one connection */
	uint64_t sse_retry_ms;       /* told to event streams' clients */
	uint64_t history_size;       /* messages a topic; 0: no history */
	uint64_t history_ttl_ms;     /* the same */
	uint64_t history_bytes;      /* of all topics; the same */
	uint64_t replay_bytes;       /* beyond it, for who still reads it */
	bool retain;                 /* each topic's last message stays */
	const char *history_file;    /* NULL: history ends with the process */
	uint64_t idempotency_ttl_ms; /* 0: no answer is kept for repeats */
	uint64_t idempotency_bytes;  /* of all answers kept; the same */
	const char *nats_url;        /* NULL: one process, no cluster */
	const char *nats_creds;      /* NULL: none */
	const char *nats_ca;         /* NULL: none */
	const char *bus_stream;
	bool bus_create;
	uint64_t bus_replicas;
	uint64_t bus_timeout_ms;
	uint64_t bus_pending_bytes;
	uint64_t bus_lag_ms;
	uint64_t log_level; /* enum log_level */
	bool log_is_json;
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
