/* config.c - the settings together: what each says, and what follows. */
#include "config/private.h"

#include "codec/origin.h"
#include "config/cgroup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

static void say_range(const struct config_setting *s, char *out, size_t cap)
{
	if (s->max == 0 || s->kind == MODE)
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

/* At most such parts of the budget are taken, unless more was asked for. */
#define HISTORY_MEMORY_PART     4
#define REPLAY_MEMORY_PART      8
#define IDEMPOTENCY_MEMORY_PART 16

static void limit_to_part(uint64_t *bytes, uint64_t budget, uint64_t part)
{
	if (budget != 0 && *bytes > budget / part)
		*bytes = budget / part;
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
	if (get("HISTORY_BYTES") == NULL)
		limit_to_part(&c->history_bytes, c->memory_limit_bytes,
			      HISTORY_MEMORY_PART);
	if (get("REPLAY_BYTES") == NULL)
		limit_to_part(&c->replay_bytes, c->memory_limit_bytes,
			      REPLAY_MEMORY_PART);
	if (get("IDEMPOTENCY_BYTES") == NULL)
		limit_to_part(&c->idempotency_bytes, c->memory_limit_bytes,
			      IDEMPOTENCY_MEMORY_PART);
	if (c->listeners_count == 0) {
		snprintf(c->listeners[0].address,
			 sizeof c->listeners[0].address, "%s", c->ip);
		c->listeners[0].port = (unsigned)c->port;
		c->listeners_count = 1;
	}
}

/* Returns NULL, or what is wrong with settings that are fine by themselves. A
 * browser adds cookies to what any page makes it send, so that only the origin
 * tells whether the user wants it (RFC 6455 10.2); and any site can make a page
 * whose origin is null. */
static const char *check_together(const struct config *c)
{
	if (c->auth_per_topic && c->auth_url == NULL)
		return "AUTH_PER_TOPIC needs AUTH_URL";
	if (c->auth_cookie &&
	    (c->auth_url == NULL ||
	     origin_is_allowed(c->allowed_origins, SPAN("null"))))
		return "AUTH_COOKIE needs AUTH_URL, and ALLOWED_ORIGINS "
		       "without * and null";
	return NULL;
}

bool config_is_setting(const char *name)
{
	for (size_t i = 0; i < config_settings_count; i++)
		if (strcmp(config_settings[i].name, name) == 0)
			return true;
	return false;
}

/* Reads one setting. Returns 0, or UV_EINVAL and `error`. */
static int load_one(struct config *c, const struct config_setting *s,
		    const char *text, char error[static CONFIG_ERROR_MAX])
{
	char range[64] = "";

	if (text != NULL && text[0] == '\0') {
		snprintf(error, CONFIG_ERROR_MAX, "%s must not be empty",
			 s->name);
		return UV_EINVAL;
	}
	if (text == NULL)
		text = s->fallback;
	if (text == NULL)
		return 0;
	const char *wrong = config_read_setting(c, s, text);
	if (wrong == NULL)
		return 0;
	say_range(s, range, sizeof range);
	snprintf(error, CONFIG_ERROR_MAX, "%s %s%s", s->name, wrong, range);
	return UV_EINVAL;
}

int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX])
{
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < config_settings_count; i++) {
		const struct config_setting *s = &config_settings[i];
		int rv = load_one(c, s, get(s->name), error);
		if (rv != 0)
			return rv;
	}
	complete(c, get);
	const char *wrong = check_together(c);
	if (wrong == NULL)
		return 0;
	snprintf(error, CONFIG_ERROR_MAX, "%s", wrong);
	return UV_EINVAL;
}
