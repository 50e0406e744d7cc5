/* config.c - reads all settings, and derives what follows from them. */
#include "config/private.h"

#include "codec/origin.h"
#include "config/cgroup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
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

/* The default is at most this part of the memory budget. */
#define HISTORY_MEMORY_PART     4
#define REPLAY_MEMORY_PART      8
#define IDEMPOTENCY_MEMORY_PART 16
/* The kernel's memory counts against a container's limit. */
#define UNSENT_LIMITED_BYTES 4096

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
	if (get("AUTH_MAX_CHECKS") == NULL)
		c->auth_checks_max = descriptors_default_checks(
			descriptors_limit(), c->auth_checks_max);
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
	if (get("MAX_UNSENT") == NULL && c->memory_limit_bytes != 0)
		c->unsent_max_bytes = UNSENT_LIMITED_BYTES;
	if (c->listeners_count == 0) {
		snprintf(c->listeners[0].address,
			 sizeof c->listeners[0].address, "%s", c->ip);
		c->listeners[0].port = (unsigned)c->port;
		c->listeners_count = 1;
	}
	config_tell_families_apart(c);
}

/* Shares out the descriptors. Returns 0, or UV_EINVAL and `error`. */
static int share_descriptors(struct config *c,
			     char error[static CONFIG_ERROR_MAX])
{
	const struct descriptors_needs needs = {
		.limit = descriptors_limit(),
		.workers = c->workers,
		.listeners = c->listeners_count + c->has_admin_port,
		.checks = c->auth_url == NULL ? 0 : c->auth_checks_max,
		.has_admin = c->has_admin_port,
		.subscribers = c->connections_max};
	uint64_t least;

	if (!descriptors_share(&needs, &c->shares, &least)) {
		snprintf(error, CONFIG_ERROR_MAX,
			 "%" PRIu64 " descriptors (ulimit -n) are too few: "
			 "these settings need %" PRIu64 ", or fewer WORKERS",
			 needs.limit, least);
		return UV_EINVAL;
	}
	if (c->connections_max == 0)
		c->connections_max = c->shares.tcp_subscribers;
	return 0;
}

/* Checks settings that are fine by themselves. Returns 0, or UV_EINVAL and
 * `*wrong`. A browser adds cookies to what any page makes it send, so that only
 * the origin tells whether the user wants it (RFC 6455 10.2); and any site can
 * make a page whose origin is null. */
static int check_together(const struct config *c, const char **wrong)
{
	if (c->auth_per_topic && c->auth_url == NULL)
		return refuse(wrong, "AUTH_PER_TOPIC needs AUTH_URL");
	if (c->nats_url != NULL && c->history_file != NULL)
		return refuse(
			wrong,
			"HISTORY_FILE and NATS_URL exclude each other: with "
			"NATS_URL the history is in the log");
	if (c->retain && (c->history_size == 0 || c->history_ttl_ms == 0 ||
			  c->history_bytes == 0))
		return refuse(wrong,
			      "RETAIN needs HISTORY_SIZE, HISTORY_TTL and "
			      "HISTORY_BYTES above 0");
	if (c->nats_url == NULL &&
	    (c->nats_creds != NULL || c->nats_ca != NULL))
		return refuse(wrong, "NATS_CREDS and NATS_CA need NATS_URL");
	if (c->auth_cookie &&
	    (c->auth_url == NULL ||
	     origin_is_allowed(c->allowed_origins, SPAN("null"))))
		return refuse(wrong,
			      "AUTH_COOKIE needs AUTH_URL, and ALLOWED_ORIGINS "
			      "without * and null");
	return 0;
}

bool config_is_setting(const char *name)
{
	for (size_t i = 0; i < CONFIG_SETTINGS_COUNT; i++)
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
	const char *wrong;
	int rv = config_read_setting(c, s, text, &wrong);
	if (rv == 0)
		return 0;
	say_range(s, range, sizeof range);
	snprintf(error, CONFIG_ERROR_MAX, "%s %s%s", s->name, wrong, range);
	return rv;
}

int config_load(struct config *c, config_get_cb get,
		char error[static CONFIG_ERROR_MAX])
{
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < CONFIG_SETTINGS_COUNT; i++) {
		const struct config_setting *s = &config_settings[i];
		int rv = load_one(c, s, get(s->name), error);
		if (rv != 0)
			return rv;
	}
	complete(c, get);
	const char *wrong;
	int rv = check_together(c, &wrong);
	if (rv == 0)
		return share_descriptors(c, error);
	snprintf(error, CONFIG_ERROR_MAX, "%s", wrong);
	return rv;
}
