/* stats.c - the names, from the same tables as the enum. */
#include "stats/stats.h"

static const char *const names[] = {
#define STATS_NAME(name) [STATS_##name] = #name,
	STATS_COUNTERS(STATS_NAME)
#undef STATS_NAME
#define STATS_NAME(name, code, reason) [STATS_closed_##name] = "closed_" #name,
		ENDINGS(STATS_NAME)
#undef STATS_NAME
#define STATS_NAME(status) [STATS_http_##status] = "http_" #status,
			STATS_STATUSES(STATS_NAME)
#undef STATS_NAME
};

const char *stats_name(enum stats_counter counter)
{
	return names[counter];
}

void stats_add_status(struct stats *s, int status)
{
	switch (status) {
#define STATS_CASE(number)                                                     \
	case number:                                                           \
		stats_add(s, STATS_http_##number, 1);                          \
		return;
		STATS_STATUSES(STATS_CASE)
#undef STATS_CASE
	default:
		stats_add(s, STATS_http_500, 1);
	}
}
