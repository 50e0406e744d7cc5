/* log.h - one line an event, on stderr, written by a thread of its own.
 *
 * A line is a UTC time, a level, a sentence for people, and fields for
 * programs, of which the first is `event`: what kind of line it is. As text,
 * fields are name=value, in double quotes where a value has spaces, quotes or
 * equals signs; as JSON, a line is an object with "time", "level", "event",
 * "message" and the other fields. Bytes that are not printable ASCII, and
 * backslashes, come out as \xNN, in JSON as \u00NN, so a client can't forge a
 * line; no credential, token or message content is ever given to a log call.
 *
 * Nobody waits for who reads stderr: log_write() puts the line into a ring of
 * LOG_RING_BYTES, and the thread `isi-log` writes it, with one write(2) a line.
 * Where the ring is full because the reader does not read, lines are dropped
 * and counted, and a line says how many once it reads again. stderr itself is
 * never made non-blocking: it is shared with other processes.
 * Before log_start() and after log_stop() the caller writes the line itself,
 * and gives it up if there is no room for LOG_PATIENCE_MS.
 * Threads: any. Takes one lock, for as long as copying a line takes. */
#ifndef ISIMUD_BASE_LOG_H
#define ISIMUD_BASE_LOG_H

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum log_level {
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARN,
	LOG_ERROR
};

#define LOG_LINE_MAX                                                           \
	4096 /* bytes; of a longer line the last fields are left               \
		out, then the sentence is cut */
#define LOG_VALUE_MAX                                                          \
	256 /* bytes of a field's text, before they are escaped;               \
	       a longer one is cut and ends in "..." */
#define LOG_RING_BYTES  (256 * 1024)
#define LOG_PATIENCE_MS 1000

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

/* Whether lines of `level` are written; saves making costly arguments. */
int log_is_on(enum log_level level);

/* --- lines ---------------------------------------------------------------- */

/* A name and its value: a text, which is left out if it is absent, or a number.
 * `name` is made of letters, digits and _. */
struct log_field {
	const char *name;
	bool is_number;
	struct span text;
	uint64_t number;
};

static inline struct log_field log_span(const char *name, struct span text)
{
	return (struct log_field){.name = name, .text = text};
}

static inline struct log_field log_text(const char *name, const char *text)
{
	return log_span(name, span_of(text));
}

static inline struct log_field log_number(const char *name, uint64_t number)
{
	return (struct log_field){
		.name = name, .is_number = true, .number = number};
}

/* A list of fields, for log_event(). */
#define LOG_FIELDS(...)                                                        \
	(const struct log_field[]){__VA_ARGS__},                               \
		sizeof((const struct log_field[]){__VA_ARGS__}) /              \
			sizeof(struct log_field)
#define LOG_NO_FIELDS NULL, 0

/* Writes a line if `level` is on; arguments are made only then.
 *
 *	log_event(LOG_INFO, "listening",
 *		  LOG_FIELDS(log_text("address", text)), "listening on %s",
 *		  text); */
#define log_event(level, event, ...)                                           \
	do {                                                                   \
		if (log_is_on(level))                                          \
			log_write(level, event, __VA_ARGS__);                  \
	} while (0)

void log_write(enum log_level level, const char *event,
	       const struct log_field *fields, size_t count, const char *format,
	       ...) __attribute__((format(printf, 5, 6)));

/* --- the thread ----------------------------------------------------------- */

/* Starts it; it takes no signals. Returns 0 or a negative errno. */
int log_start(void);

/* Stops the thread once everything is written, or after LOG_PATIENCE_MS: lines
 * that could not be written by then are lost. Returns whether all were written.
 * Does nothing if the thread does not run. */
bool log_stop(void);

/* How many lines were dropped so far. */
uint64_t log_dropped(void);

/* For a process that is about to abort: waits a moment for the ring to be
 * written, then writes the line itself. If even that blocks, SIGALRM ends the
 * process. */
void log_crash(const char *text);

/* --- rate limits ---------------------------------------------------------- */

/* A rate limit for a kind of line that clients can cause: LOG_LIMIT_LINES a
 * second in the process. Once a second, if lines were held back, a line says
 * how many, with the fields `event` = "held_back", `of` and `count`. Lies in
 * static memory; LOG_LIMIT makes one. Guarded by the log's lock. */
#define LOG_LIMIT_LINES 10

struct log_limit {
	const char *event;
	time_t second; /* of the monotonic clock */
	unsigned lines;
	uint64_t held_back;
	bool is_known; /* is in the list of all */
	struct log_limit *next;
};

#define LOG_LIMIT(of_event)                                                    \
	{                                                                      \
		.event = (of_event)                                            \
	}

/* Whether a line of this kind may be written now; else it is counted. */
bool log_limit_allows(struct log_limit *limit);

#endif
