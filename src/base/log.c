/* log.c - lines into a ring, and the thread that writes them.
 *
 * The ring holds whole lines, each up to its line feed, which no line has
 * elsewhere. Everything is guarded by one lock, which is never held over a
 * system call that may block. */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define NSEC_PER_SEC     1000000000L
#define CRASH_WAIT_MS    200
#define CRASH_SECONDS    2    /* until SIGALRM */
#define SENTENCE_MAX     2048 /* bytes, before they are escaped */
#define LONGEST_SENTENCE 2800 /* bytes, escaped: fields have the rest */

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
		if (strcasecmp(name, names[i]) == 0)
			return i;
	return -1;
}

int log_is_on(enum log_level level)
{
	return (int)level >=
	       atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* --- making a line -------------------------------------------------------- */

/* A line being made; `cap` leaves room for its end. */
struct line {
	enum log_format format;
	size_t len;
	size_t cap;
	char bytes[LOG_LINE_MAX];
};

static bool line_put(struct line *l, struct span text)
{
	if (l->cap - l->len < text.len)
		return false;
	memcpy(l->bytes + l->len, text.bytes, text.len);
	l->len += text.len;
	return true;
}

/* Whether `c` is written as it is. A double quote ends a JSON string, and a
 * quoted value of text. */
static bool is_plain_byte(unsigned char c, bool is_quoted)
{
	return c >= 0x20 && c < 0x7f && c != '\\' && (c != '"' || !is_quoted);
}

/* Writes one byte, as it is or in hexadecimal. Returns false if it does not
 * fit; nothing is written then. */
static bool put_byte(struct line *l, unsigned char c, bool is_quoted)
{
	static const char hex[] = "0123456789abcdef";
	struct span mark = l->format == LOG_TEXT ? SPAN("\\x") : SPAN("\\u00");

	if (is_plain_byte(c, is_quoted))
		return line_put(l, (struct span){(const char *)&c, 1});
	if (l->cap - l->len < mark.len + 2)
		return false;
	line_put(l, mark);
	l->bytes[l->len++] = hex[c >> 4];
	l->bytes[l->len++] = hex[c & 15];
	return true;
}

/* Writes `text` as far as it fits. Returns whether all of it did. */
static bool escape(struct line *l, struct span text, bool is_quoted)
{
	for (size_t i = 0; i < text.len; i++)
		if (!put_byte(l, (unsigned char)text.bytes[i], is_quoted))
			return false;
	return true;
}

/* Whether a value of text has to be in quotes: programs that read name=value
 * divide at spaces. */
static bool needs_quotes(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.bytes[i] == ' ' || text.bytes[i] == '"' ||
		    text.bytes[i] == '=')
			return true;
	return text.len == 0;
}

static bool line_put_text(struct line *l, struct span text)
{
	bool is_quoted = l->format == LOG_JSON || needs_quotes(text);
	bool is_long = text.len > LOG_VALUE_MAX;

	if (is_long)
		text.len = LOG_VALUE_MAX;
	return (!is_quoted || line_put(l, SPAN("\""))) &&
	       escape(l, text, is_quoted) &&
	       (!is_long || line_put(l, SPAN("..."))) &&
	       (!is_quoted || line_put(l, SPAN("\"")));
}

static bool line_put_number(struct line *l, uint64_t number)
{
	char text[24];
	int n = snprintf(text, sizeof text, "%llu", (unsigned long long)number);

	return line_put(l, (struct span){text, (size_t)n});
}

/* Writes a field, or none of it if it does not fit. */
static void line_put_field(struct line *l, const struct log_field *f)
{
	size_t before = l->len;
	bool is_json = l->format == LOG_JSON;

	if (!f->is_number && f->text.bytes == NULL)
		return;
	if (!line_put(l, is_json ? SPAN(",\"") : SPAN(" ")) ||
	    !line_put(l, span_of(f->name)) ||
	    !line_put(l, is_json ? SPAN("\":") : SPAN("=")) ||
	    !(f->is_number ? line_put_number(l, f->number)
			   : line_put_text(l, f->text)))
		l->len = before;
}

/* The time and the level. */
static void put_start(struct line *l, enum log_level level)
{
	struct timespec now;
	struct tm utc;
	char date[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
	int n = snprintf(l->bytes, l->cap,
			 l->format == LOG_TEXT
				 ? "%s.%03ldZ %-5s "
				 : "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\"",
			 date, now.tv_nsec / 1000000, names[level]);
	l->len = n > 0 ? (size_t)n : 0;
}

/* Leaves room for the fields. */
static void put_sentence(struct line *l, const char *sentence)
{
	size_t cap = l->cap;

	l->cap = LONGEST_SENTENCE;
	if (l->format == LOG_JSON) {
		line_put(l, SPAN(",\"message\":\""));
		escape(l, span_of(sentence), true);
	} else {
		escape(l, span_of(sentence), false);
	}
	l->cap = cap;
	if (l->format == LOG_JSON)
		line_put(l, SPAN("\""));
}

static void make_line(struct line *l, enum log_level level, const char *event,
		      const struct log_field *fields, size_t count,
		      const char *sentence)
{
	const struct log_field first = log_text("event", event);

	l->format = (enum log_format)atomic_load_explicit(&line_format,
							  memory_order_relaxed);
	struct span end = l->format == LOG_TEXT ? SPAN("\n") : SPAN("}\n");
	l->cap = sizeof l->bytes - end.len;
	put_start(l, level);
	if (l->format == LOG_JSON)
		line_put_field(l, &first);
	put_sentence(l, sentence);
	if (l->format == LOG_TEXT)
		line_put_field(l, &first);
	for (size_t i = 0; i < count; i++)
		line_put_field(l, &fields[i]);
	l->cap = sizeof l->bytes;
	line_put(l, end);
}

/* --- writing -------------------------------------------------------------- */

/* Writes all of it, however long that takes. Somebody else may have made stderr
 * non-blocking. Returns false if it can't be written. */
static bool write_whole(const char *bytes, size_t len)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};

	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, bytes, len);
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			poll(&room, 1, -1);
		} else if (n == 0 || errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* Writes if there is room within LOG_PATIENCE_MS. A line is no longer than
 * PIPE_BUF, so where a pipe has room it has room for all of it (pipe(7)); only
 * another process that writes between the two calls can still block this. */
static void write_patiently(const char *bytes, size_t len)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (poll(&room, 1, LOG_PATIENCE_MS) <= 0 ||
	    (room.revents & POLLOUT) == 0)
		return;
	/* A line that can't be written has nowhere else to go. */
	ssize_t written = write(STDERR_FILENO, bytes, len);
	(void)written;
}

/* --- the ring ------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by `lock`. `put` and `taken` count bytes since the start; what lies
 * between them is in the ring. */
static struct {
	char bytes[LOG_RING_BYTES];
	uint64_t put;
	uint64_t taken;
	uint64_t untold;     /* lines dropped and not reported yet */
	uint64_t dropped_at; /* `put` when the first of these was dropped */
	bool is_failing;     /* the last line could not be written */
	bool is_running;
	bool is_stopping;
	bool is_writing;
	bool has_ended;
	pthread_cond_t has_work;
	pthread_cond_t has_news; /* for those who wait for the thread */
	struct log_limit *limits;
} ring;

static _Atomic uint64_t dropped;

uint64_t log_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}

static void drop_line_locked(void)
{
	atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
	if (ring.untold++ == 0)
		ring.dropped_at = ring.put;
}

static void put_locked(const struct line *l)
{
	if (ring.put - ring.taken + l->len > LOG_RING_BYTES) {
		drop_line_locked();
		return;
	}
	/* An empty ring begins anew, so that it occupies no more memory than it
	 * ever needed. */
	if (ring.put == ring.taken)
		ring.put = ring.taken = ring.dropped_at = 0;
	size_t at = ring.put % LOG_RING_BYTES;
	size_t first =
		LOG_RING_BYTES - at < l->len ? LOG_RING_BYTES - at : l->len;
	memcpy(ring.bytes + at, l->bytes, first);
	memcpy(ring.bytes, l->bytes + first, l->len - first);
	ring.put += l->len;
	pthread_cond_signal(&ring.has_work);
}

/* The next line, or 0. */
static size_t take_locked(char line[static LOG_LINE_MAX])
{
	size_t n = 0;

	while (ring.taken < ring.put && n < LOG_LINE_MAX) {
		char c = ring.bytes[ring.taken++ % LOG_RING_BYTES];
		line[n++] = c;
		if (c == '\n')
			break;
	}
	return n;
}

static void finish_line(enum log_level level, const char *event,
			const struct log_field *fields, size_t count,
			const char *sentence)
{
	struct line l;

	make_line(&l, level, event, fields, count, sentence);
	pthread_mutex_lock(&lock);
	bool is_running = ring.is_running;
	if (is_running)
		put_locked(&l);
	pthread_mutex_unlock(&lock);
	if (!is_running)
		write_patiently(l.bytes, l.len);
}

void log_write(enum log_level level, const char *event,
	       const struct log_field *fields, size_t count, const char *format,
	       ...)
{
	char sentence[SENTENCE_MAX];
	va_list arguments;

	if (!log_is_on(level))
		return;
	va_start(arguments, format);
	int n = vsnprintf(sentence, sizeof sentence, format, arguments);
	va_end(arguments);
	if (n >= 0)
		finish_line(level, event, fields, count, sentence);
}

/* --- rate limits ---------------------------------------------------------- */

static time_t monotonic_second(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

bool log_limit_allows(struct log_limit *limit)
{
	time_t now = monotonic_second();

	pthread_mutex_lock(&lock);
	if (!limit->is_known) {
		limit->is_known = true;
		limit->next = ring.limits;
		ring.limits = limit;
	}
	if (now != limit->second) {
		limit->second = now;
		limit->lines = 0;
	}
	bool is_allowed = limit->lines < LOG_LIMIT_LINES;
	if (is_allowed)
		limit->lines++;
	else if (limit->held_back++ == 0 && ring.is_running)
		pthread_cond_signal(&ring.has_work); /* the drop will be
						      * reported */
	pthread_mutex_unlock(&lock);
	return is_allowed;
}

/* A limit that has held lines back in a second that has passed, or, at the very
 * end, at all. */
static struct log_limit *find_untold_locked(bool *is_any)
{
	time_t now = monotonic_second();

	*is_any = false;
	for (struct log_limit *l = ring.limits; l != NULL; l = l->next) {
		if (l->held_back == 0)
			continue;
		*is_any = true;
		if (l->second != now || ring.is_stopping)
			return l;
	}
	return NULL;
}

static void tell_held_back_locked(struct log_limit *limit, struct line *out)
{
	const struct log_field fields[] = {
		log_text("of", limit->event),
		log_number("count", limit->held_back)};
	char sentence[128];

	snprintf(sentence, sizeof sentence, "%llu more lines were held back",
		 (unsigned long long)limit->held_back);
	limit->held_back = 0;
	make_line(out, LOG_INFO, "held_back", fields, 2, sentence);
}

/* --- the thread ----------------------------------------------------------- */

/* Reported in the place of the missing lines. */
static bool must_tell_dropped_locked(void)
{
	return ring.untold > 0 && ring.taken >= ring.dropped_at &&
	       !ring.is_failing;
}

static bool tell_dropped(uint64_t count)
{
	const struct log_field fields[] = {log_number("count", count)};
	struct line l;

	make_line(&l, LOG_WARN, "log_dropped", fields, 1,
		  "lines were dropped, as nobody read them");
	return write_whole(l.bytes, l.len);
}

/* Writes without the lock, which is taken again after. */
static bool write_unlocked(const char *bytes, size_t len)
{
	ring.is_writing = true;
	pthread_mutex_unlock(&lock);
	bool is_written = write_whole(bytes, len);
	pthread_mutex_lock(&lock);
	ring.is_writing = false;
	return is_written;
}

/* Does the next thing there is to do. Returns false if there is none. */
static bool work_locked(bool *must_tell_later)
{
	struct line l;
	struct log_limit *limit;
	uint64_t untold = ring.untold;

	*must_tell_later = false;
	if (must_tell_dropped_locked()) {
		ring.is_writing = true;
		pthread_mutex_unlock(&lock);
		bool is_told = tell_dropped(untold);
		pthread_mutex_lock(&lock);
		ring.is_writing = false;
		ring.is_failing = !is_told;
		if (is_told)
			ring.untold -= untold;
		ring.dropped_at = ring.put;
		return true;
	}
	l.len = take_locked(l.bytes);
	if (l.len == 0) {
		limit = find_untold_locked(must_tell_later);
		if (limit == NULL)
			return false;
		tell_held_back_locked(limit, &l);
	}
	bool is_written = write_unlocked(l.bytes, l.len);
	ring.is_failing = !is_written;
	if (!is_written)
		drop_line_locked();
	return true;
}

static struct timespec in_ms(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= NSEC_PER_SEC) {
		t.tv_sec++;
		t.tv_nsec -= NSEC_PER_SEC;
	}
	return t;
}

static void *log_main(void *arg)
{
	bool must_tell_later;

	(void)arg;
	pthread_setname_np(pthread_self(), "isi-log");
	pthread_mutex_lock(&lock);
	for (;;) {
		if (work_locked(&must_tell_later))
			continue;
		pthread_cond_broadcast(&ring.has_news);
		if (ring.is_stopping)
			break;
		struct timespec later = in_ms(1000);
		if (must_tell_later)
			pthread_cond_timedwait(&ring.has_work, &lock, &later);
		else
			pthread_cond_wait(&ring.has_work, &lock);
	}
	ring.has_ended = true;
	pthread_cond_broadcast(&ring.has_news);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void make_conditions(void)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&ring.has_work, &monotonic);
	pthread_cond_init(&ring.has_news, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

/* Detached, since it may never come back from a write. */
static int start_thread(void)
{
	pthread_attr_t detached;
	pthread_t thread;
	sigset_t all;
	sigset_t before;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rv = pthread_create(&thread, &detached, log_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&detached);
	return -rv;
}

int log_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_conditions);
	pthread_mutex_lock(&lock);
	ring.is_stopping = false;
	ring.has_ended = false;
	int rv = start_thread();
	ring.is_running = rv == 0;
	pthread_mutex_unlock(&lock);
	return rv;
}

bool log_stop(void)
{
	struct timespec end = in_ms(LOG_PATIENCE_MS);

	pthread_mutex_lock(&lock);
	if (!ring.is_running) {
		pthread_mutex_unlock(&lock);
		return true;
	}
	ring.is_stopping = true;
	pthread_cond_signal(&ring.has_work);
	while (!ring.has_ended &&
	       pthread_cond_timedwait(&ring.has_news, &lock, &end) == 0)
		;
	bool has_ended = ring.has_ended;
	/* If it failed, later lines fill the ring as well. */
	if (has_ended)
		ring.is_running = false;
	pthread_mutex_unlock(&lock);
	return has_ended;
}

/* --- the end -------------------------------------------------------------- */

static void wait_until_written(void)
{
	struct timespec end = in_ms(CRASH_WAIT_MS);

	pthread_mutex_lock(&lock);
	while (ring.is_running && (ring.put > ring.taken || ring.is_writing) &&
	       pthread_cond_timedwait(&ring.has_news, &lock, &end) == 0)
		;
	pthread_mutex_unlock(&lock);
}

/* SIGALRM shall end the process if writing blocks for ever. */
static void set_alarm(void)
{
	sigset_t alarm_alone;

	signal(SIGALRM, SIG_DFL);
	sigemptyset(&alarm_alone);
	sigaddset(&alarm_alone, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &alarm_alone, NULL);
	alarm(CRASH_SECONDS);
}

void log_crash(const char *text)
{
	struct line l;

	set_alarm();
	wait_until_written();
	make_line(&l, LOG_ERROR, "crash", NULL, 0, text);
	write_patiently(l.bytes, l.len);
}
