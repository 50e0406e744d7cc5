/* running.c - a look at every process of /proc. */
#include "cli/running.h"

#include "base/log.h"
#include "config/options.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define TEXT_MAX_BYTES (4 << 20) /* of arguments or environment */
#define PIECE_BYTES    4096

static const char deleted[] = " (deleted)"; /* proc(5), of exe */

/* A program file. */
struct program {
	dev_t device;
	ino_t inode;
	char path[PATH_MAX];
};

/* Reads a file of /proc. Returns whether it could be read, and ends in a NUL
 * that is not counted. */
static bool read_proc(pid_t pid, const char *name, struct buf *out)
{
	char path[64];
	ssize_t n = 1;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (n > 0 && out->len < TEXT_MAX_BYTES) {
		if (buf_reserve(out, PIECE_BYTES + 1) != 0) {
			n = -1;
			break;
		}
		n = read(fd, out->bytes + out->len, PIECE_BYTES);
		if (n > 0)
			out->len += (size_t)n;
	}
	close(fd);
	if (n != 0)
		return false;
	out->bytes[out->len] = '\0';
	return true;
}

static bool read_program(const char *pid, struct program *out)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	if (stat(path, &st) != 0)
		return false;
	ssize_t n = readlink(path, out->path, sizeof out->path - 1);
	if (n < 0)
		return false;
	out->path[n] = '\0';
	size_t len = (size_t)n;
	size_t suffix = sizeof deleted - 1;
	if (len > suffix && strcmp(out->path + len - suffix, deleted) == 0)
		out->path[len - suffix] = '\0';
	out->device = st.st_dev;
	out->inode = st.st_ino;
	return true;
}

static bool is_same_program(const struct program *a, const struct program *b)
{
	return (a->device == b->device && a->inode == b->inode) ||
	       strcmp(a->path, b->path) == 0;
}

/* Points at each text that ends in a NUL, but for the first `skip`. */
static char **split_texts(const struct buf *text, size_t skip)
{
	size_t count = 0;
	size_t n = 0;

	for (size_t i = 0; i < text->len; i++)
		count += text->bytes[i] == '\0';
	char **out = calloc(count + 1, sizeof *out);
	char *at = text->bytes;
	for (size_t i = 0; out != NULL && i < count; i++) {
		if (i >= skip)
			out[n++] = at;
		at += strlen(at) + 1;
	}
	return out;
}

void running_fini(struct running *r)
{
	free(r->arguments);
	free(r->environment);
	buf_fini(&r->texts[0]);
	buf_fini(&r->texts[1]);
	memset(r, 0, sizeof *r);
}

/* Whether the process handles SIGHUP yet: a server does so first of all, and
 * until then the signal would end it. */
static bool takes_signals(pid_t pid)
{
	struct buf status = {0};
	uint64_t caught = 0;

	if (read_proc(pid, "status", &status)) {
		const char *line = strstr(status.bytes, "\nSigCgt:");
		if (line != NULL)
			caught = strtoull(line + 8, NULL, 16);
	}
	buf_fini(&status);
	return (caught >> (SIGHUP - 1) & 1) != 0;
}

static bool is_server_command(char **arguments)
{
	enum options_command command;
	char error[CONFIG_ERROR_MAX];

	return options_parse(arguments, &command, error) == 0 &&
	       command == OPTIONS_SERVE;
}

/* Looks at a process. Returns whether it is an isimud that serves. */
static bool read_running(const char *name, const struct program *ours,
			 struct running *out)
{
	struct program program;

	memset(out, 0, sizeof *out);
	out->pid = (pid_t)strtol(name, NULL, 10);
	if (out->pid == getpid() || !read_program(name, &program) ||
	    !is_same_program(&program, ours) || !takes_signals(out->pid) ||
	    !read_proc(out->pid, "cmdline", &out->texts[0]) ||
	    !read_proc(out->pid, "environ", &out->texts[1]))
		return false;
	out->arguments = split_texts(&out->texts[0], 1);
	out->environment = split_texts(&out->texts[1], 0);
	return out->arguments != NULL && out->environment != NULL &&
	       is_server_command(out->arguments);
}

typedef bool (*suits_fn)(const struct running *r);

/* Finds the processes that match, and returns their number; `*out` receives the
 * first. Overwrites what options_parse() had parsed. */
static unsigned find_running(suits_fn suits, struct running *out)
{
	struct program ours;
	struct running one;
	unsigned count = 0;
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	if (proc == NULL || !read_program("self", &ours)) {
		if (proc != NULL)
			closedir(proc);
		return 0;
	}
	while ((entry = readdir(proc)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (read_running(entry->d_name, &ours, &one) && suits(&one) &&
		    count++ == 0)
			*out = one;
		else
			running_fini(&one);
	}
	closedir(proc);
	return count;
}

/* --- healthcheck -----------------------------------------------------------
 */

static const char *const places[] = {"IP", "PORT", "LISTEN", "ADMIN_PORT"};

#define PLACES (sizeof places / sizeof places[0])

/* The value of the variable, "" if it is not set. */
static const char *value_in(char *const *environment, const char *prefix,
			    const char *name)
{
	size_t prefix_len = strlen(prefix);
	size_t len = strlen(name);

	for (; *environment != NULL; environment++)
		if (strncmp(*environment, prefix, prefix_len) == 0 &&
		    strncmp(*environment + prefix_len, name, len) == 0 &&
		    (*environment)[prefix_len + len] == '=')
			return *environment + prefix_len + len + 1;
	return "";
}

/* Whether our environment and that of `r` name the same places. If so, we run
 * beside it, in its container for instance; if not, another server is meant. */
static bool has_our_places(const struct running *r)
{
	static const char *const prefixes[] = {"", "ISIMUD_"};

	for (size_t i = 0; i < 2 * PLACES; i++) {
		const char *prefix = prefixes[i % 2];
		const char *name = places[i / 2];
		const char *ours = value_in(environ, prefix, name);
		if (ours[0] != '\0' &&
		    strcmp(ours, value_in(r->environment, prefix, name)) != 0)
			return false;
	}
	return true;
}

bool running_adopt(struct running *r)
{
	char **ours = options_arguments();

	for (size_t i = 0; i < PLACES; i++)
		if (options_has_flag(places[i]))
			return false;
	if (find_running(has_our_places, r) == 1 &&
	    is_server_command(r->arguments)) {
		options_set_environment(r->environment);
		return true;
	}
	running_fini(r);
	/* They were right before. */
	enum options_command command;
	char error[CONFIG_ERROR_MAX];
	(void)options_parse(ours, &command, error);
	return false;
}

/* --- reload ----------------------------------------------------------------
 */

static bool suits_all(const struct running *r)
{
	(void)r;
	return true;
}

int running_reload(void)
{
	struct running r = {0};
	unsigned count = find_running(suits_all, &r);
	pid_t pid = r.pid;

	running_fini(&r);
	if (count == 0) {
		log_event(LOG_ERROR, "reload", LOG_NO_FIELDS,
			  "reload: no isimud runs here that this user may "
			  "signal");
		return 1;
	}
	if (count > 1) {
		log_event(LOG_ERROR, "reload", LOG_NO_FIELDS,
			  "reload: %u run here; send SIGHUP to the right one",
			  count);
		return 1;
	}
	if (kill(pid, SIGHUP) != 0) {
		log_event(LOG_ERROR, "reload", LOG_NO_FIELDS,
			  "reload: process %d can't be signalled: %s", (int)pid,
			  uv_strerror(uv_translate_sys_error(errno)));
		return 1;
	}
	printf("process %d reads its password again\n", (int)pid);
	return 0;
}
