/* config.h - the settings, read once at start.
 *
 * Each setting is an environment variable and a row of the table in config.c.
 * A value that is missing or malformed is an error; nothing falls back
 * silently. Immutable after config_load(). Threads: any, after that. */
#ifndef ISIMUD_CONFIG_H
#define ISIMUD_CONFIG_H

#include "log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_ERROR_MAX   256
#define CONFIG_WORKERS_MAX 64

struct config {
	/* Text lies in the environment, which nobody changes. */
	const char *password;
	const char *ip; /* a numeric IPv4 or IPv6 address */
	uint64_t port;  /* 0: any free one */
	bool homepage;
	const char *auth_url; /* NULL: subscribing needs no token */
	uint64_t workers;     /* loop threads, 1 to CONFIG_WORKERS_MAX */
	uint64_t connections_max;
	uint64_t body_max_bytes;     /* of a request's content */
	uint64_t buffered_max_bytes; /* unsent, for one connection */
	uint64_t mailbox_max_bytes;  /* unread by one worker, from all */
	uint64_t header_timeout_ms;
	uint64_t body_timeout_ms;
	uint64_t write_timeout_ms;
	uint64_t idle_timeout_ms;
	uint64_t close_timeout_ms;
	uint64_t ping_interval_ms;
	uint64_t auth_timeout_ms;
	uint64_t auth_checks_max; /* under way at once, for one worker */
	uint64_t log_level;       /* enum log_level */
};

/* Gives the value of a setting, or NULL where it is not set. */
typedef const char *(*config_get_cb)(const char *name);

/* Fills `c` from `get` (getenv, but in tests). Returns 0; or UV_EINVAL with
 * `error` a line that names the setting and says what is wrong. */
int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX]);

/* The CPUs this process may use: its affinity, cut to the cgroup's CPU quota
 * (v1 and v2), rounded up; at least 1. `root` is "/" but in tests. */
unsigned config_available_cpus(const char *root);

#endif
