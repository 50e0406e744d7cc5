/* stats.c - the names, from the same tables as the enum. */
#include "stats.h"

static const char *const names[] = {
#define STATS_NAME(name) [STATS_##name] = #name,
	STATS_COUNTERS(STATS_NAME)
#undef STATS_NAME
#define STATS_NAME(name, code, reason) [STATS_closed_##name] = "closed_" #name,
		ENDINGS(STATS_NAME)
#undef STATS_NAME
};

const char *stats_name(enum stats_counter counter)
{
	return names[counter];
}
