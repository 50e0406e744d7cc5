/* history_file.c - writes epoch, numbers and messages of all topics to a file,
 * and reads them.
 *
 * The file is read twice: nothing is restored before its digest is known to be
 * right, and it may be larger than the memory one wants to use at once. */
#include "topics/history_file.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/little_endian.h"
#include "base/name.h"
#include "base/utf8.h"
#include "codec/sse.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The layout: "The history file" in src/README.md. */
#define MAGIC             "isimud history "
#define FIRST_LINE        MAGIC "2\n"
#define FIRST_LINE_OLD    MAGIC "1\n" /* without types of events */
#define FIRST_LINE_LEN    (sizeof FIRST_LINE - 1)
#define MESSAGE_MIN_BYTES 17

#define NOT_A_FILE "it is not a file"

#define PIECE_BYTES 65536
#define NS_PER_MS   1000000
/* Longer ago than anything is kept. */
#define LONG_AGO_NS (UINT64_C(1) << 60)

/* A file being written or read. After an error nothing more happens to it. */
struct file {
	FILE *stream;
	struct digest_stream digest; /* of what was written */
	uint64_t left;               /* to be read, without the digest */
	bool is_old;                 /* what is read has FIRST_LINE_OLD */
	int error;                   /* UV_E…; 0: none */
	const char *reason;          /* static text; NULL: what `error` says */
};

static void fail_file(struct file *f, int error, const char *reason)
{
	if (f->error != 0)
		return;
	f->error = error;
	f->reason = reason;
}

static void fail_by_errno(struct file *f)
{
	fail_file(f, uv_translate_sys_error(errno), NULL);
}

static void describe_error(const struct file *f, const char *doing,
			   const char *path,
			   char error[static HISTORY_FILE_ERROR_MAX])
{
	snprintf(error, HISTORY_FILE_ERROR_MAX, "can't %s %s: %s", doing, path,
		 f->reason != NULL ? f->reason : uv_strerror(f->error));
}

uint64_t history_file_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

static int append_to_path(char out[static PATH_MAX], const char *path,
			  const char *why)
{
	int len = snprintf(out, PATH_MAX, "%s%s", path, why);
	return len < 0 || len >= PATH_MAX ? UV_ENAMETOOLONG : 0;
}

/* Whether something is there that is not a file: a folder by mistake, or
 * /dev/null, which root could rename, or put a file in the place of. */
static bool is_something_else(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

/* Makes what happened to the names in the folder of `path` last. Returns 0 or a
 * UV_E…. */
static int sync_folder(const char *path)
{
	char copy[PATH_MAX];
	int rv = append_to_path(copy, path, "");
	if (rv != 0)
		return rv;
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return uv_translate_sys_error(errno);
	/* fsync(2): EINVAL where there is no such thing, as in some mounts. */
	if (fsync(fd) != 0 && errno != EINVAL)
		rv = uv_translate_sys_error(errno);
	close(fd);
	return rv;
}

/* --- writing ------------------------------------------------------------- */

static void put_exactly(struct file *f, const void *bytes, size_t len)
{
	if (f->error != 0 || len == 0)
		return;
	digest_stream_add(&f->digest, bytes, len);
	if (fwrite(bytes, 1, len, f->stream) != len)
		fail_by_errno(f);
}

static void put_file_number(struct file *f, uint64_t number)
{
	uint8_t bytes[8];

	little_endian_write(bytes, number, sizeof bytes);
	put_exactly(f, bytes, sizeof bytes);
}

/* What is to be saved, and where to. */
struct saving {
	struct file file;
	uint64_t saved_ms;
	uint64_t now_ns;
	size_t topics;
};

static uint64_t age_of(const struct saving *s, uint64_t then_ns)
{
	int64_t age = (int64_t)(s->now_ns - then_ns);
	return age < 0 ? 0 : (uint64_t)age;
}

static void put_message(struct saving *s, const struct message *m)
{
	uint8_t is_json = m->is_json;
	struct span data = message_data(m);

	put_file_number(&s->file, age_of(s, m->accepted_ns));
	put_exactly(&s->file, &is_json, 1);
	put_file_number(&s->file, data.len);
	put_exactly(&s->file, data.bytes, data.len);
	put_exactly(&s->file, &m->event_len, 1);
	put_exactly(&s->file, message_event(m).bytes, m->event_len);
}

static int put_topic(void *user, const struct registry_topic *t)
{
	struct saving *s = user;
	struct file *f = &s->file;

	put_file_number(f, t->key.publisher.len);
	put_file_number(f, t->key.name.len);
	put_file_number(f, t->sequence);
	put_file_number(f, age_of(s, t->used_ns));
	put_file_number(f, t->messages_count);
	put_exactly(f, t->key.publisher.bytes, t->key.publisher.len);
	put_exactly(f, t->key.name.bytes, t->key.name.len);
	for (unsigned i = 0; i < t->messages_count; i++)
		put_message(s, t->messages[i]);
	s->topics++;
	return f->error;
}

static void put_all(struct saving *s, struct registry *r)
{
	struct file *f = &s->file;
	size_t topics = registry_topics(r);

	put_exactly(f, FIRST_LINE, FIRST_LINE_LEN);
	put_file_number(f, registry_epoch(r));
	put_file_number(f, registry_last_sequence(r));
	put_file_number(f, s->saved_ms);
	put_file_number(f, topics);
	s->now_ns = uv_hrtime();
	registry_visit_all(r, put_topic, s);
	CHECK(f->error != 0 || s->topics == topics);
}

/* The new file, with nothing in it. Whatever a crash left there goes. */
static void create(struct file *f, const char *path)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		      S_IRUSR | S_IWUSR);
	if (fd < 0) {
		fail_by_errno(f);
		return;
	}
	f->stream = fdopen(fd, "w");
	if (f->stream == NULL) {
		fail_by_errno(f);
		close(fd);
	}
}

/* Ends the file with its digest, and makes it last. */
static void finish_file(struct file *f)
{
	uint8_t digest[DIGEST_SHA256_BYTES];

	digest_stream_end(&f->digest, digest);
	if (f->error == 0 &&
	    (fwrite(digest, 1, sizeof digest, f->stream) != sizeof digest ||
	     fflush(f->stream) != 0 || fsync(fileno(f->stream)) != 0))
		fail_by_errno(f);
	if (fclose(f->stream) != 0)
		fail_by_errno(f);
}

static void save_topics(struct saving *s, struct registry *r, const char *path)
{
	struct file *f = &s->file;

	create(f, path);
	if (f->error != 0)
		return;
	digest_stream_init(&f->digest);
	put_all(s, r);
	finish_file(f);
}

int history_file_save(struct registry *r, const char *path, uint64_t saved_ms,
		      size_t *topics, char error[static HISTORY_FILE_ERROR_MAX])
{
	struct saving s = {.saved_ms = saved_ms};
	struct file *f = &s.file;
	char beside[PATH_MAX];

	*topics = 0;
	int rv = append_to_path(beside, path, ".new");
	if (rv != 0) {
		fail_file(f, rv, NULL);
	} else if (is_something_else(path)) {
		fail_file(f, UV_EINVAL, NOT_A_FILE);
	} else {
		save_topics(&s, r, beside);
		if (f->error == 0 && rename(beside, path) != 0)
			fail_by_errno(f);
		if (f->error != 0)
			unlink(beside);
	}
	if (f->error != 0) {
		describe_error(f, "write", path, error);
		return f->error;
	}
	/* Should the name not last, the next start knows of no history. */
	(void)sync_folder(path);
	*topics = s.topics;
	return 0;
}

int history_file_try(const char *path,
		     char error[static HISTORY_FILE_ERROR_MAX])
{
	struct file f = {0};
	char beside[PATH_MAX];

	int rv = append_to_path(beside, path, ".new");
	if (rv != 0)
		fail_file(&f, rv, NULL);
	else if (is_something_else(path))
		fail_file(&f, UV_EINVAL, NOT_A_FILE);
	if (f.error == 0)
		create(&f, beside);
	if (f.error == 0) {
		if (fputs(FIRST_LINE, f.stream) < 0 || fflush(f.stream) != 0)
			fail_by_errno(&f);
		if (fclose(f.stream) != 0)
			fail_by_errno(&f);
		unlink(beside);
	}
	if (f.error != 0)
		describe_error(&f, "write", path, error);
	return f.error;
}

/* --- reading ------------------------------------------------------------- */

static void fail_as_foreign(struct file *f)
{
	fail_file(f, UV_EINVAL, "it is not a history file, or a torn one");
}

/* Reads exactly `len` bytes, zeros after an error. */
static void get_exactly(struct file *f, void *bytes, size_t len)
{
	memset(bytes, 0, len);
	if (f->error != 0)
		return;
	if (len > f->left) {
		fail_as_foreign(f);
	} else if (fread(bytes, 1, len, f->stream) != len) {
		if (ferror(f->stream))
			fail_by_errno(f);
		else
			fail_as_foreign(f);
	}
	f->left -= f->error == 0 ? len : 0;
}

static uint64_t get_number(struct file *f)
{
	uint8_t bytes[8];

	get_exactly(f, bytes, sizeof bytes);
	return little_endian_read(bytes, sizeof bytes);
}

/* A number of things to come, each of which takes `each` bytes or more. */
static size_t get_count(struct file *f, size_t each)
{
	uint64_t count = get_number(f);
	if (f->error == 0 && count > f->left / each)
		fail_as_foreign(f);
	return f->error == 0 ? (size_t)count : 0;
}

/* Replaces what `out` has by `len` bytes. */
static void get_bytes(struct file *f, struct buf *out, size_t len)
{
	out->len = 0;
	if (f->error != 0)
		return;
	if (buf_reserve(out, len) != 0) {
		fail_file(f, UV_ENOMEM, NULL);
		return;
	}
	if (len > 0)
		get_exactly(f, out->bytes, len);
	out->len = len;
}

/* Sets `left`; the file is at its start. */
static void measure(struct file *f)
{
	struct stat st;

	if (fstat(fileno(f->stream), &st) != 0)
		fail_by_errno(f);
	else if (!S_ISREG(st.st_mode))
		fail_file(f, UV_EINVAL, NOT_A_FILE);
	else if (st.st_size < (off_t)(FIRST_LINE_LEN + DIGEST_SHA256_BYTES))
		fail_as_foreign(f);
	else
		f->left = (uint64_t)st.st_size - DIGEST_SHA256_BYTES;
}

/* O_NONBLOCK: were it a FIFO, opening would wait for a writer. */
static void open_file(struct file *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		fail_by_errno(f);
		return;
	}
	f->stream = fdopen(fd, "r");
	if (f->stream == NULL) {
		fail_by_errno(f);
		close(fd);
	}
}

static void check_first_line(struct file *f)
{
	char line[FIRST_LINE_LEN];

	get_exactly(f, line, sizeof line);
	if (f->error != 0 || memcmp(line, FIRST_LINE, sizeof line) == 0)
		return;
	f->is_old = memcmp(line, FIRST_LINE_OLD, sizeof line) == 0;
	if (f->is_old)
		return;
	if (memcmp(line, MAGIC, sizeof MAGIC - 1) == 0)
		fail_file(f, UV_EINVAL, "another version of isimud wrote it");
	else
		fail_as_foreign(f);
}

/* Reads to the digest; `out` receives what it should be. */
static void digest_rest(struct file *f, uint8_t out[static DIGEST_SHA256_BYTES])
{
	static char piece[PIECE_BYTES];
	struct digest_stream digest;

	digest_stream_init(&digest);
	digest_stream_add(&digest, f->is_old ? FIRST_LINE_OLD : FIRST_LINE,
			  FIRST_LINE_LEN);
	while (f->error == 0 && f->left > 0) {
		size_t len = f->left < sizeof piece ? f->left : sizeof piece;
		get_exactly(f, piece, len);
		digest_stream_add(&digest, piece, len);
	}
	digest_stream_end(&digest, out);
}

/* Checks all but the meaning; leaves the file behind its first line. */
static void verify(struct file *f)
{
	uint8_t expected[DIGEST_SHA256_BYTES];
	uint8_t found[DIGEST_SHA256_BYTES];

	measure(f);
	uint64_t len = f->left;
	check_first_line(f);
	if (f->error != 0)
		return;
	digest_rest(f, expected);
	f->left = sizeof found;
	get_exactly(f, found, sizeof found);
	if (f->error == 0 && !digest_equal(expected, found))
		fail_as_foreign(f);
	if (f->error == 0 && fseek(f->stream, FIRST_LINE_LEN, SEEK_SET) != 0)
		fail_by_errno(f);
	f->left = len - FIRST_LINE_LEN;
}

/* What is being restored. */
struct loading {
	struct file file;
	struct registry *registry;
	struct history_file_loading *asked;
	uint64_t fresh_epoch; /* the registry's own */
	uint64_t last_sequence;
	uint64_t now_ns;
	uint64_t elapsed_ns; /* since it was saved */
	struct buf key;      /* of a topic, both parts */
	struct buf data;     /* of a message */
};

/* Reads an age, and returns when that was, by uv_hrtime(). */
static uint64_t get_time(struct loading *l)
{
	uint64_t age = get_number(&l->file);
	if (age > LONG_AGO_NS)
		age = LONG_AGO_NS;
	return l->now_ns - age - l->elapsed_ns;
}

/* The type of a message's event, which lies in `memory`. */
static struct span get_event(struct file *f, char memory[static UINT8_MAX])
{
	uint8_t len = 0;

	if (f->is_old)
		return (struct span){0};
	get_exactly(f, &len, 1);
	get_exactly(f, memory, len);
	struct span event = {memory, len};
	if (f->error == 0 &&
	    (!utf8_is_valid(event) || sse_check_type(event, NULL) != 0))
		fail_as_foreign(f);
	return event;
}

static struct message *get_message(struct loading *l, uint64_t sequence)
{
	struct file *f = &l->file;
	char memory[UINT8_MAX];
	uint8_t is_json;

	uint64_t accepted_ns = get_time(l);
	get_exactly(f, &is_json, 1);
	if (is_json > 1)
		fail_as_foreign(f);
	get_bytes(f, &l->data, get_count(f, 1));
	struct span event = get_event(f, memory);
	if (f->error != 0)
		return NULL;
	struct json_data data = {.text = {l->data.bytes, l->data.len},
				 .is_json = is_json != 0,
				 .event = event};
	struct message *m = message_new_from(data, l->asked->workers);
	if (m == NULL) {
		fail_file(f, UV_ENOMEM, NULL);
		return NULL;
	}
	m->accepted_ns = accepted_ns;
	m->sequence = sequence;
	return m;
}

/* Returns how many of `t->messages_count` could be read. */
static unsigned get_messages(struct loading *l, const struct registry_topic *t,
			     struct message **out)
{
	unsigned n = 0;
	uint64_t before = t->sequence - t->messages_count;

	while (n < t->messages_count) {
		out[n] = get_message(l, before + n + 1);
		if (out[n] == NULL)
			break;
		n++;
	}
	return n;
}

static void restore_from_file(struct loading *l, struct registry_topic *t)
{
	struct file *f = &l->file;
	struct message **messages =
		calloc((size_t)t->messages_count + 1, sizeof(struct message *));

	if (messages == NULL) {
		fail_file(f, UV_ENOMEM, NULL);
		return;
	}
	unsigned n = get_messages(l, t, messages);
	t->messages = messages;
	if (n == t->messages_count) {
		int rv = registry_restore(l->registry, t);
		if (rv == UV_ENOMEM)
			fail_file(f, rv, NULL);
		else if (rv != 0)
			fail_as_foreign(f);
	} else {
		while (n > 0)
			message_unref(messages[--n], 1);
	}
	free(messages);
}

/* What the server would take from a client. */
static bool is_name(struct span name)
{
	return name.len <= NAME_MAX_BYTES && utf8_is_valid(name);
}

static void load_topic(struct loading *l)
{
	struct file *f = &l->file;
	struct registry_topic t = {0};

	size_t publisher_len = get_count(f, 1);
	size_t name_len = get_count(f, 1);
	t.sequence = get_number(f);
	t.used_ns = get_time(l);
	size_t count = get_count(f, MESSAGE_MIN_BYTES);
	if (t.sequence > l->last_sequence || count > t.sequence ||
	    count > UINT_MAX || publisher_len + name_len > f->left)
		fail_as_foreign(f);
	get_bytes(f, &l->key, publisher_len + name_len);
	if (f->error != 0)
		return;
	t.messages_count = (unsigned)count;
	t.key.publisher = (struct span){l->key.bytes, publisher_len};
	t.key.name = (struct span){l->key.bytes, name_len};
	if (publisher_len > 0)
		t.key.name.bytes += publisher_len;
	if (is_name(t.key.publisher) && is_name(t.key.name))
		restore_from_file(l, &t);
	else
		fail_as_foreign(f);
}

static void load_all(struct loading *l)
{
	struct file *f = &l->file;

	uint64_t epoch = get_number(f);
	l->last_sequence = get_number(f);
	uint64_t saved_ms = get_number(f);
	uint64_t topics = get_number(f);
	if (l->last_sequence > INT64_MAX) /* else numbers could run out */
		fail_as_foreign(f);
	else if (l->asked->saved_ms != HISTORY_FILE_ANY &&
		 l->asked->saved_ms != saved_ms)
		fail_file(f, UV_EINVAL,
			  "another process has run since it was saved");
	if (f->error != 0)
		return;
	uint64_t now_ms = history_file_now_ms();
	uint64_t elapsed_ms = now_ms > saved_ms ? now_ms - saved_ms : 0;
	l->asked->is_too_old = elapsed_ms > l->asked->ttl_ms;
	l->now_ns = uv_hrtime();
	l->elapsed_ns = elapsed_ms < LONG_AGO_NS / NS_PER_MS
				? elapsed_ms * NS_PER_MS
				: LONG_AGO_NS;
	/* Nobody can go on at so old a number; and who knows what has been
	 * published meanwhile, by a process that was told of no file. */
	registry_set_epoch(l->registry,
			   l->asked->is_too_old ? l->fresh_epoch : epoch,
			   l->last_sequence);
	while (f->error == 0 && topics-- > 0)
		load_topic(l);
	if (f->error == 0 && f->left > 0)
		fail_as_foreign(f);
}

static void load_topics(struct loading *l, const char *path)
{
	struct file *f = &l->file;

	open_file(f, path);
	if (f->error != 0)
		return;
	verify(f);
	if (f->error == 0)
		load_all(l);
	fclose(f->stream);
	buf_fini(&l->key);
	buf_fini(&l->data);
}

static void remove_file(struct file *f, const char *path)
{
	int rv = unlink(path) == 0 ? sync_folder(path)
				   : uv_translate_sys_error(errno);
	if (rv != 0)
		fail_file(
			f, rv,
			"it can't be removed, and so could be read once more");
}

/* Undoes what was restored. */
static void forget(struct registry *r, uint64_t epoch)
{
	while (registry_shrink_history(r, 0))
		;
	registry_set_epoch(r, epoch, 0);
}

/* Whether the machine is at fault, and not the file. */
static bool is_lack(int error)
{
	return error == UV_ENOMEM || error == UV_EMFILE || error == UV_ENFILE;
}

int history_file_load(struct registry *r, const char *path,
		      struct history_file_loading *loading,
		      char error[static HISTORY_FILE_ERROR_MAX])
{
	struct loading l = {.registry = r,
			    .asked = loading,
			    .fresh_epoch = registry_epoch(r)};
	struct file *f = &l.file;
	char refused[PATH_MAX];

	loading->topics = 0;
	loading->is_too_old = false;
	loading->is_in_place = false;
	load_topics(&l, path);
	if (f->error == UV_ENOENT)
		return UV_ENOENT;
	if (f->error == 0)
		remove_file(f, path);
	if (f->error == 0) {
		loading->topics = registry_topics(r);
		return 0;
	}
	forget(r, l.fresh_epoch);
	loading->is_in_place = is_lack(f->error);
	if (!loading->is_in_place && !is_something_else(path) &&
	    append_to_path(refused, path, ".refused") == 0)
		(void)rename(path, refused);
	describe_error(f, "use", path, error);
	return f->error;
}
