/* notify.c - one datagram. */
#include "server/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Its address: a path, or a name in the abstract namespace, which begins with
 * '@' (sd_notify(3)). Returns its length, or 0 if it is neither. */
static socklen_t read_address(const char *text, struct sockaddr_un *out)
{
	size_t len = strlen(text);

	memset(out, 0, sizeof *out);
	out->sun_family = AF_UNIX;
	if ((text[0] != '/' && text[0] != '@') || len < 2 ||
	    len >= sizeof out->sun_path)
		return 0;
	memcpy(out->sun_path, text, len);
	if (text[0] == '@')
		out->sun_path[0] = '\0';
	/* The NUL belongs to a path, and not to an abstract name (unix(7)). */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
			   (text[0] == '/'));
}

void notify_send(const char *text)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t len = name == NULL ? 0 : read_address(name, &address);

	if (len == 0)
		return;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL,
		     (const struct sockaddr *)&address, len);
	close(fd);
}
