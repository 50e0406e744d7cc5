/* log.h - one line an event, on stderr.
 *
 * A line is a UTC time, a level and a sentence. Bytes that are not printable
 * ASCII, and backslashes, come out as \xNN, so a client can't forge a line; no
 * credential, token or message content is ever given to a log call. Each line
 * is one write(2). As JSON, a line is an object with "time", "level" and
 * "message", escaped as \u00NN.
 * Threads: any. */
#ifndef ISIMUD_BASE_LOG_H
#define ISIMUD_BASE_LOG_H

#include <stdbool.h>
#include <time.h>

enum log_level {
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARN,
	LOG_ERROR
};

#define LOG_LINE_MAX 4096 /* bytes; a longer line is cut */

/* Lines below `level` are dropped. Before the first call: LOG_INFO. */
void log_set_level(enum log_level level);

enum log_format {
	LOG_TEXT,
	LOG_JSON
};

/* Before the first call: LOG_TEXT. */
void log_set_format(enum log_format format);

/* The level called `name` (debug, info, warn, error), or -1. */
int log_level_of(const char *name);

void log_write(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Whether lines of `level` are written; saves making costly arguments. */
int log_is_on(enum log_level level);

/* Holds a kind of line that clients can cause down to LOG_LIMIT_LINES a second.
 * Zeroed memory is a fresh one. Owner: one thread. */
#define LOG_LIMIT_LINES 10

struct log_limit {
	time_t second; /* of the monotonic clock */
	unsigned lines;
	unsigned suppressed;
};

/* Whether a line may be written now. `*suppressed`: how many were not, in the
 * last second that had any, to be said once. */
bool log_limit_allows(struct log_limit *limit, unsigned *suppressed);

#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_is_on(LOG_DEBUG))                                      \
			log_write(LOG_DEBUG, __VA_ARGS__);                     \
	} while (0)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
