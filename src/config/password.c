/* password.c - the passwords, from where the settings say. */
#include "config/private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Each line of the longest, and something behind it. */
#define FILE_MAX_BYTES (CONFIG_PASSWORDS_MAX * (CONFIG_PASSWORD_MAX_BYTES + 2))

#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number
#define TOO_LONG                                                               \
	"is over " TEXT_OF(                                                    \
		CONFIG_PASSWORD_MAX_BYTES) " bytes, more than fits "           \
					   "into a request head"

/* Reads what is left of an open file. Returns 0, or a UV_E…; UV_EFBIG if there
 * is more than FILE_MAX_BYTES. */
static int read_rest(int file, struct buf *out)
{
	/* Reserved at once: growing would leave copies behind. */
	int rv = buf_reserve(out, FILE_MAX_BYTES + 1);
	ssize_t n = 1;

	while (rv == 0 && n > 0 && out->len <= FILE_MAX_BYTES) {
		n = read(file, out->bytes + out->len,
			 FILE_MAX_BYTES + 1 - out->len);
		if (n > 0)
			out->len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			rv = uv_translate_sys_error(errno);
	}
	return rv == 0 && out->len > FILE_MAX_BYTES ? UV_EFBIG : rv;
}

/* Opening a pipe must not wait for a writer, nor reading, on SIGHUP, for ever:
 * it is a regular file or none. */
static int read_regular_file(const char *path, struct buf *out)
{
	struct stat status;
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rv;

	if (file < 0)
		return uv_translate_sys_error(errno);
	if (fstat(file, &status) != 0)
		rv = uv_translate_sys_error(errno);
	else if (!S_ISREG(status.st_mode))
		rv = S_ISDIR(status.st_mode) ? UV_EISDIR : UV_EINVAL;
	else
		rv = read_rest(file, out);
	close(file);
	return rv;
}

/* Finds the lines. Returns 0, or UV_EINVAL and `*wrong`. */
static int find_lines(struct config_passwords *p, const char **wrong)
{
	struct span rest = {p->bytes.bytes, p->bytes.len};

	while (rest.len > 0) {
		const char *newline = memchr(rest.bytes, '\n', rest.len);
		size_t len = newline == NULL ? rest.len
					     : (size_t)(newline - rest.bytes);
		struct span line = {rest.bytes, len};
		len += newline != NULL;
		rest = (struct span){rest.bytes + len, rest.len - len};
		if (newline != NULL && line.len > 0 &&
		    line.bytes[line.len - 1] == '\r')
			line.len--;
		if (line.len == 0)
			continue;
		if (line.len > CONFIG_PASSWORD_MAX_BYTES)
			return refuse(wrong, "has a password that " TOO_LONG);
		if (p->count == CONFIG_PASSWORDS_MAX)
			return refuse(wrong, "has more than two lines");
		p->each[p->count++] = line;
	}
	return p->count == 0 ? refuse(wrong, "has no password") : 0;
}

static int read_password_file(const char *path, struct config_passwords *out,
			      char error[static CONFIG_ERROR_MAX])
{
	int rv = read_regular_file(path, &out->bytes);

	if (rv != 0) {
		const char *why = rv == UV_EINVAL  ? "not a regular file"
				  : rv == UV_EFBIG ? "it is over 16 KiB"
						   : uv_strerror(rv);
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD_FILE can't be read: %s", why);
		return rv == UV_ENOMEM ? rv : UV_EINVAL;
	}
	const char *wrong;
	rv = find_lines(out, &wrong);
	if (rv == 0)
		return 0;
	snprintf(error, CONFIG_ERROR_MAX, "PASSWORD_FILE %s", wrong);
	return UV_EINVAL;
}

static int take_password(const char *password, struct config_passwords *out,
			 char error[static CONFIG_ERROR_MAX])
{
	size_t len = strlen(password);

	if (len > CONFIG_PASSWORD_MAX_BYTES) {
		snprintf(error, CONFIG_ERROR_MAX, "PASSWORD " TOO_LONG);
		return UV_EINVAL;
	}
	int rv = buf_append(&out->bytes, password, len);
	if (rv != 0) {
		snprintf(error, CONFIG_ERROR_MAX, "PASSWORD can't be kept: %s",
			 uv_strerror(rv));
		return rv;
	}
	out->each[0] = (struct span){out->bytes.bytes, len};
	out->count = 1;
	return 0;
}

int config_read_passwords(const struct config *c, struct config_passwords *out,
			  char error[static CONFIG_ERROR_MAX])
{
	if (c->password != NULL && c->password_file != NULL)
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD and PASSWORD_FILE must not both be set");
	else if (c->password_file != NULL)
		return read_password_file(c->password_file, out, error);
	else if (c->password != NULL)
		return take_password(c->password, out, error);
	else
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD or PASSWORD_FILE is required");
	return UV_EINVAL;
}

void config_passwords_fini(struct config_passwords *passwords)
{
	if (passwords->bytes.bytes != NULL)
		explicit_bzero(passwords->bytes.bytes, passwords->bytes.cap);
	buf_fini(&passwords->bytes);
}
