/* log.h - one line an event, on stderr.
 *
 * A line is a UTC time, a level and a sentence. Bytes that are not printable
 * ASCII, and backslashes, come out as \xNN, so a client can't forge a line; no
 * credential, token or message content is ever given to a log call. Each line
 * is one write(2).
 * Threads: any. */
#ifndef ISIMUD_LOG_H
#define ISIMUD_LOG_H

enum log_level {
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARN,
	LOG_ERROR
};

#define LOG_LINE_MAX 2048 /* bytes; a longer line is cut */

/* Lines below `level` are dropped. Before the first call: LOG_INFO. */
void log_set_level(enum log_level level);

/* The level called `name` (debug, info, warn, error), or -1. */
int log_level_of(const char *name);

void log_write(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Whether lines of `level` are written; saves making costly arguments. */
int log_is_on(enum log_level level);

#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_is_on(LOG_DEBUG))                                      \
			log_write(LOG_DEBUG, __VA_ARGS__);                     \
	} while (0)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
