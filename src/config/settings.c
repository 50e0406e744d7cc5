/* settings.c - the table of settings, as rows. */
#include "config/private.h"

#define KIB 1024ULL
#define GIB (1024 * 1024 * KIB)
#define TIB (1024 * GIB)

#define ANY             0, 0
#define RANGE(min, max) (min), (max)
#define TIMEOUT         10, CONFIG_DURATION_MAX_MS
#define TTL             0, CONFIG_DURATION_MAX_MS

const struct config_setting config_settings[CONFIG_SETTINGS_COUNT] = {
#define ROW(kind, name, member, fallback, range, help)                         \
	{#name, kind, offsetof(struct config, member), fallback, range, help},
	CONFIG_SETTINGS(ROW)
#undef ROW
};
