/* log.c - formats a line on the stack and writes it with one system call. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int threshold = LOG_INFO;

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&threshold, (int)level, memory_order_relaxed);
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

/* Copies text, each byte that is not printable ASCII, and each backslash, as
 * \xNN; stops where it no longer fits. Returns the bytes written. */
static size_t escape(char *out, size_t cap, const char *text)
{
	size_t n = 0;
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		if (c >= 0x20 && c < 0x7f && c != '\\') {
			if (n + 1 > cap)
				break;
			out[n++] = (char)c;
		} else {
			static const char hex[] = "0123456789abcdef";
			if (n + 4 > cap)
				break;
			out[n++] = '\\';
			out[n++] = 'x';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	return n;
}

static size_t write_prefix(char *out, size_t cap, enum log_level level)
{
	struct timespec now;
	struct tm utc;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &utc);
	int more = snprintf(out + n, cap - n, ".%03ldZ %-5s ",
			    now.tv_nsec / 1000000, names[level]);
	return n + (more > 0 ? (size_t)more : 0);
}

void log_write(enum log_level level, const char *format, ...)
{
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
	size_t n = write_prefix(line, sizeof line, level);
	n += escape(line + n, sizeof line - n - 1, text);
	line[n++] = '\n';
	/* A line that can't be written has nowhere else to go. */
	ssize_t written = write(STDERR_FILENO, line, n);
	(void)written;
}
