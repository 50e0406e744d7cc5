/* unix_path.c - bind() and unlink() of a path that others may want. */
#include "server/unix_path.h"

#include "server/handover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

static int address_of_path(const char *path, struct sockaddr_un *out)
{
	memset(out, 0, sizeof *out);
	out->sun_family = AF_UNIX;
	size_t size = strlen(path) + 1;
	if (size > sizeof out->sun_path)
		return UV_ENAMETOOLONG;
	memcpy(out->sun_path, path, size);
	return 0;
}

/* Removes the file of a socket that its process has left behind: connecting to
 * it is refused. Any other file stays, and bind() says so. */
static void remove_stale_socket(const struct sockaddr_un *address)
{
	struct stat info;
	const char *path = address->sun_path;

	if (lstat(path, &info) != 0 || !S_ISSOCK(info.st_mode))
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) !=
		    0 &&
	    errno == ECONNREFUSED)
		unlink(path);
	close(fd);
}

int unix_path_take(struct unix_path *p, const char *path,
		   const struct config *c, const sigset_t *signals)
{
	struct sockaddr_un address;

	int rv = address_of_path(path, &address);
	if (rv != 0)
		return rv;
	rv = handover_lock(&p->lock, path, &p->found, c, signals);
	if (rv != 0)
		return rv;
	snprintf(p->path, sizeof p->path, "%s", path);
	remove_stale_socket(&address);
	return 0;
}

int unix_path_bind(struct unix_path *p, int fd, mode_t mode)
{
	struct sockaddr_un address;
	struct stat info;

	int rv = address_of_path(p->path, &address);
	if (rv != 0)
		return rv;
	/* Linux: the file gets the socket's mode, less the umask; chmod() then
	 * gives what the umask took, so it is never wider than `mode`. */
	if (fchmod(fd, mode) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
		return uv_translate_sys_error(errno);
	if (lstat(p->path, &info) != 0)
		return uv_translate_sys_error(errno);
	p->is_bound = true;
	p->device = info.st_dev;
	p->inode = info.st_ino;
	if (chmod(p->path, mode) != 0)
		return uv_translate_sys_error(errno);
	return 0;
}

void unix_path_leave(struct unix_path *p)
{
	struct stat info;

	if (p->is_bound && lstat(p->path, &info) == 0 &&
	    info.st_dev == p->device && info.st_ino == p->inode)
		unlink(p->path);
	p->is_bound = false;
	lockfile_remove(&p->lock);
}
