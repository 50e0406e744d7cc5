/* settings.c - the table of settings, as rows. */
#include "config/private.h"

#define KIB    1024ULL
#define GIB    (1024 * 1024 * KIB)
#define TIB    (1024 * GIB)
#define DAY_MS CONFIG_DURATION_MAX_MS

const struct config_setting config_settings[CONFIG_SETTINGS_COUNT] = {
#define ROW(kind, name, member, fallback, min, max, help)                      \
	{#name, kind, offsetof(struct config, member), fallback, min,          \
	 max,   help},
	CONFIG_SETTINGS(ROW)
#undef ROW
};
