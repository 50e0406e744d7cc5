/* password.c - the password, from where the settings say. */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Reads what is left of an open file. Returns 0, or a UV_E…; UV_EFBIG if there
 * is more than CONFIG_PASSWORD_MAX_BYTES. */
static int read_all(int file, struct buf *out)
{
	/* Reserved at once: growing would leave copies behind. */
	int rv = buf_reserve(out, CONFIG_PASSWORD_MAX_BYTES + 1);
	size_t end = out->len + CONFIG_PASSWORD_MAX_BYTES + 1;
	ssize_t n = 1;

	while (rv == 0 && n > 0 && out->len < end) {
		n = read(file, out->bytes + out->len, end - out->len);
		if (n > 0)
			out->len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			rv = uv_translate_sys_error(errno);
	}
	return rv == 0 && out->len == end ? UV_EFBIG : rv;
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
		rv = read_all(file, out);
	close(file);
	return rv;
}

static int read_password_file(const char *path, struct buf *out,
			      char error[static CONFIG_ERROR_MAX])
{
	size_t start = out->len;
	int rv = read_regular_file(path, out);

	if (rv != 0) {
		const char *why = rv == UV_EINVAL  ? "not a regular file"
				  : rv == UV_EFBIG ? "it is over 64 KiB"
						   : uv_strerror(rv);
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD_FILE can't be read: %s", why);
		return rv == UV_ENOMEM ? rv : UV_EINVAL;
	}
	if (out->len > start && out->bytes[out->len - 1] == '\n') {
		out->len--;
		if (out->len > start && out->bytes[out->len - 1] == '\r')
			out->len--;
	}
	if (out->len > start)
		return 0;
	snprintf(error, CONFIG_ERROR_MAX, "PASSWORD_FILE has no password");
	return UV_EINVAL;
}

int config_read_password(const struct config *c, struct buf *out,
			 char error[static CONFIG_ERROR_MAX])
{
	int rv = UV_EINVAL;

	if (c->password != NULL && c->password_file != NULL) {
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD and PASSWORD_FILE must not both be set");
	} else if (c->password_file != NULL) {
		rv = read_password_file(c->password_file, out, error);
	} else if (c->password == NULL) {
		snprintf(error, CONFIG_ERROR_MAX,
			 "PASSWORD or PASSWORD_FILE is required");
	} else {
		rv = buf_append(out, c->password, strlen(c->password));
		if (rv != 0)
			snprintf(error, CONFIG_ERROR_MAX,
				 "PASSWORD can't be kept: %s", uv_strerror(rv));
	}
	return rv;
}
