/* log.c - formats a line on the stack and writes it with one system call. */
#include "base/log.h"

#include "base/span.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int threshold = LOG_INFO;
static _Atomic int line_format = LOG_TEXT;

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
}

void log_set_format(enum log_format format)
{
	atomic_store_explicit(&line_format, (int)format, memory_order_relaxed);
}

int log_level_of(const char *name)
{
	for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	return -1;
}

int log_is_on(enum log_level level)
{
	return (int)level >=
	       atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* Whether `c` is written as it is in this format. */
static bool is_plain(enum log_format format, unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '\\' &&
	       (format == LOG_TEXT || c != '"');
}

/* Copies text, each byte that is not plain as \xNN, in JSON as \u00NN; stops
 * where it no longer fits. Returns the bytes written. */
static size_t escape(enum log_format format, char *out, size_t cap,
		     const char *text)
{
	static const char hex[] = "0123456789abcdef";
	struct span mark = format == LOG_TEXT ? SPAN("\\x") : SPAN("\\u00");
	size_t n = 0;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain = is_plain(format, c);
		if (n + (plain ? 1 : mark.len + 2) > cap)
			break;
		if (plain) {
			out[n++] = (char)c;
			continue;
		}
		memcpy(out + n, mark.bytes, mark.len);
		n += mark.len;
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return n;
}

/* Writes all that comes before the sentence. */
static size_t write_prefix(enum log_format format, char *out, size_t cap,
			   enum log_level level)
{
	struct timespec now;
	struct tm utc;
	char date[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
	int n = snprintf(out, cap,
			 format == LOG_TEXT
				 ? "%s.%03ldZ %-5s "
				 : "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\","
				   "\"message\":\"",
			 date, now.tv_nsec / 1000000, names[level]);
	return n > 0 ? (size_t)n : 0;
}

void log_write(enum log_level level, const char *format, ...)
{
	enum log_format as = (enum log_format)atomic_load_explicit(
		&line_format, memory_order_relaxed);
	struct span end = as == LOG_TEXT ? SPAN("\n") : SPAN("\"}\n");
	char text[LOG_LINE_MAX];
	char line[LOG_LINE_MAX];
	va_list arguments;

	if (!log_is_on(level))
		return;
	va_start(arguments, format);
	int len = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (len < 0)
		return;
	size_t n = write_prefix(as, line, sizeof line, level);
	n += escape(as, line + n, sizeof line - n - end.len, text);
	memcpy(line + n, end.bytes, end.len);
	/* A line that can't be written has nowhere else to go. */
	ssize_t written = write(STDERR_FILENO, line, n + end.len);
	(void)written;
}

bool log_limit_allows(struct log_limit *limit, unsigned *suppressed)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*suppressed = 0;
	if (now.tv_sec != limit->second) {
		*suppressed = limit->suppressed;
		*limit = (struct log_limit){.second = now.tv_sec};
	}
	if (limit->lines < LOG_LIMIT_LINES) {
		limit->lines++;
		return true;
	}
	limit->suppressed++;
	return false;
}
