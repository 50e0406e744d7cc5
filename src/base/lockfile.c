/* lockfile.c - flock() on a file that may come and go.
 *
 * A process removes the file only while it holds the lock. So a process that
 * waited between open() and flock() may get the lock of a file that is no
 * longer at the path; it notices that, and tries again with the file that is
 * there now. */
#include "base/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define TRIES_MAX 100
#define NOTE_LEN  48 /* always, so that it can be replaced on a full disk */

static const char *const names[] = {
	[LOCKFILE_STARTING] = "starting",
	[LOCKFILE_SERVING] = "serving",
	[LOCKFILE_DRAINING] = "draining",
	[LOCKFILE_SAVED] = "saved",
};

static void read_note(int fd, struct lockfile_note *out)
{
	char text[NOTE_LEN + 1];
	char name[16];

	memset(out, 0, sizeof *out);
	ssize_t n = pread(fd, text, NOTE_LEN, 0);
	if (n != NOTE_LEN)
		return;
	text[n] = '\0';
	int pid;
	uint64_t number;
	if (sscanf(text, "%d %15s %" SCNu64, &pid, name, &number) != 3)
		return;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0)
			*out = (struct lockfile_note){
				pid, (enum lockfile_state)i, number};
}

int lockfile_write(struct lockfile *l, enum lockfile_state state,
		   uint64_t number)
{
	char text[NOTE_LEN + 1];

	if (!l->is_taken)
		return 0;
	l->note = (struct lockfile_note){(int)getpid(), state, number};
	snprintf(text, sizeof text, "%-10d %-8s %-20" PRIu64 "       \n",
		 l->note.pid, names[state], number);
	ssize_t n = pwrite(l->fd, text, NOTE_LEN, 0);
	if (n < 0)
		return uv_translate_sys_error(errno);
	return n == NOTE_LEN ? 0 : UV_ENOSPC;
}

/* Whether `fd` is what lies at the path. */
static bool is_at(int fd, const char *path)
{
	struct stat ours;
	struct stat there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Opens and locks what is at the path now. Returns 0; UV_EBUSY; UV_EAGAIN if it
 * was removed meanwhile; or another UV_E…. */
static int try_to_take(struct lockfile *l, struct lockfile_note *found)
{
	struct stat st;
	int fd = open(l->path,
		      O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		      S_IRUSR | S_IWUSR);
	int rv = 0;

	if (fd < 0)
		return uv_translate_sys_error(errno);
	if (fstat(fd, &st) != 0)
		rv = uv_translate_sys_error(errno);
	else if (!S_ISREG(st.st_mode))
		rv = UV_EINVAL;
	else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		rv = errno == EWOULDBLOCK ? UV_EBUSY
					  : uv_translate_sys_error(errno);
	if (rv == 0 || rv == UV_EBUSY)
		read_note(fd, found);
	if (rv == 0 && !is_at(fd, l->path))
		rv = UV_EAGAIN;
	if (rv == 0)
		l->fd = fd;
	else
		close(fd);
	return rv;
}

int lockfile_take(struct lockfile *l, const char *path,
		  struct lockfile_note *found)
{
	int rv = UV_EAGAIN;

	memset(found, 0, sizeof *found);
	int len = snprintf(l->path, sizeof l->path, "%s.lock", path);
	if (len < 0 || (size_t)len >= sizeof l->path)
		return UV_ENAMETOOLONG;
	for (int i = 0; rv == UV_EAGAIN && i < TRIES_MAX; i++)
		rv = try_to_take(l, found);
	if (rv == UV_EAGAIN)
		return UV_EBUSY;
	if (rv != 0)
		return rv;
	l->is_taken = true;
	rv = lockfile_write(l, found->state, found->number);
	if (rv != 0)
		lockfile_release(l);
	return rv;
}

bool lockfile_keep(struct lockfile *l)
{
	struct lockfile_note ours = l->note;
	struct lockfile_note found;
	struct lockfile again = {0};
	char path[PATH_MAX];

	if (!l->is_taken)
		return false;
	if (is_at(l->fd, l->path))
		return true;
	snprintf(path, sizeof path, "%.*s",
		 (int)(strlen(l->path) - strlen(".lock")), l->path);
	if (lockfile_take(&again, path, &found) != 0)
		return false;
	/* A note of another process is that of one that has come and gone. */
	if (found.pid != 0) {
		lockfile_release(&again);
		return false;
	}
	lockfile_release(l);
	*l = again;
	return lockfile_write(l, ours.state, ours.number) == 0;
}

void lockfile_release(struct lockfile *l)
{
	if (l->is_taken)
		close(l->fd);
	l->is_taken = false;
}

void lockfile_remove(struct lockfile *l)
{
	if (l->is_taken && is_at(l->fd, l->path))
		unlink(l->path);
	lockfile_release(l);
}
