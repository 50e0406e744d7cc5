/* stats.c - what counters and gauges are called, from the tables of stats.h. */
#include "stats/stats.h"

#include "base/check.h"
#include "codec/http/http.h"

const struct stats_row stats_counters[STATS_COUNT] = {
#define STATS_ROW(name, metric, labels, help)                                  \
	[STATS_##name] = {#name, metric, labels, help},
	STATS_COUNTERS(STATS_ROW)
#undef STATS_ROW
#define STATS_ROW(name, code, reason)                                          \
	[STATS_closed_##name] = {"closed_" #name, "connections_closed_total",  \
				 "reason=\"" #name "\"",                       \
				 "Connections ended, by reason."},
		CLOSE_REASONS(STATS_ROW)
#undef STATS_ROW
#define STATS_ROW(status, phrase)                                              \
	[STATS_http_##status] = {"http_" #status, "http_responses_total",      \
				 "status=\"" #status "\"",                     \
				 "HTTP answers, by status code."},
			HTTP_STATUSES(STATS_ROW)
#undef STATS_ROW
};

const struct stats_row stats_gauges[STATS_GAUGE_COUNT] = {
#define STATS_ROW(name, metric, labels, factor, help)                          \
	[STATS_GAUGE_##name] = {#name, metric, labels, help},
	STATS_GAUGES(STATS_ROW)
#undef STATS_ROW
};

const double stats_gauge_factors[STATS_GAUGE_COUNT] = {
#define STATS_ROW(name, metric, labels, factor, help)                          \
	[STATS_GAUGE_##name] = (factor),
	STATS_GAUGES(STATS_ROW)
#undef STATS_ROW
};

void stats_add_status(struct stats *s, int status)
{
	switch (status) {
#define STATS_CASE(number, phrase)                                             \
	case number:                                                           \
		stats_add(s, STATS_http_##number, 1);                          \
		return;
		HTTP_STATUSES(STATS_CASE)
#undef STATS_CASE
	default:
		CHECK(http_reason_phrase(status) != NULL); /* it is not */
	}
}
