/* healthcheck.c - one request on one blocking socket, with one deadline. */
#include "cli/healthcheck.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* The status line begins so (RFC 9112 4). */
static const char status_line[] = "HTTP/1.1 200 ";

#define STATUS_LEN (sizeof status_line - 1)

union address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* What the server binds to for all addresses is reached by loopback. Returns
 * the length of `out`. */
static socklen_t make_address(const struct config_listener *l,
			      union address *out)
{
	memset(out, 0, sizeof *out);
	if (l->is_unix) {
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, l->address, sizeof l->address);
		return sizeof out->un;
	}
	if (inet_pton(AF_INET, l->address, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons((uint16_t)l->port);
		if (out->v4.sin_addr.s_addr == htonl(INADDR_ANY))
			out->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof out->v4;
	}
	inet_pton(AF_INET6, l->address, &out->v6.sin6_addr);
	out->v6.sin6_family = AF_INET6;
	out->v6.sin6_port = htons((uint16_t)l->port);
	if (!IN6_IS_ADDR_UNSPECIFIED(&out->v6.sin6_addr))
		return sizeof out->v6;
	out->v6.sin6_addr = in6addr_loopback;
	if (l->is_v6_only)
		return sizeof out->v6;
	/* It takes IPv4 too, which loopback has everywhere; IPv6 may be off. */
	memset(out, 0, sizeof *out);
	out->v4.sin_family = AF_INET;
	out->v4.sin_port = htons((uint16_t)l->port);
	out->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof out->v4;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Lets the next call on `fd` wait until the deadline and no longer. Returns 0,
 * or UV_ETIMEDOUT if there is no time left. */
static int limit_wait(int fd, int64_t deadline_ms)
{
	int64_t left_ms = deadline_ms - now_ms();
	struct timeval left = {left_ms / 1000, left_ms % 1000 * 1000};

	if (left_ms <= 0)
		return UV_ETIMEDOUT;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &left, sizeof left) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left) != 0)
		return uv_translate_sys_error(errno);
	return 0;
}

/* What the last call failed for; a wait cut short by limit_wait() says EAGAIN,
 * and by connect() EINPROGRESS (socket(7)). */
static int last_error(void)
{
	if (errno == EAGAIN || errno == EINPROGRESS)
		return UV_ETIMEDOUT;
	return uv_translate_sys_error(errno);
}

/* Receives the first STATUS_LEN bytes. Returns 0; UV_EOF if there are fewer; or
 * another UV_E…. */
static int receive(int fd, int64_t deadline_ms, char *out)
{
	size_t len = 0;

	while (len < STATUS_LEN) {
		int rv = limit_wait(fd, deadline_ms);
		if (rv != 0)
			return rv;
		ssize_t n = recv(fd, out + len, STATUS_LEN - len, 0);
		if (n == 0)
			return UV_EOF;
		if (n < 0)
			return last_error();
		len += (size_t)n;
	}
	return 0;
}

static int ask(int fd, const union address *to, socklen_t to_len, char *answer)
{
	static const char request[] = "GET /healthz HTTP/1.1\r\n"
				      "Host: localhost\r\n"
				      "Connection: close\r\n"
				      "\r\n";
	int64_t deadline_ms = now_ms() + PROBE_TIMEOUT_MS;

	int rv = limit_wait(fd, deadline_ms);
	if (rv != 0)
		return rv;
	if (connect(fd, &to->any, to_len) != 0)
		return last_error();
	/* The buffer of a new socket takes it whole. */
	if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return last_error();
	return receive(fd, deadline_ms, answer);
}

static int exchange(const struct config_listener *l, char *answer)
{
	union address to;
	socklen_t to_len = make_address(l, &to);
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return uv_translate_sys_error(errno);
	int rv = ask(fd, &to, to_len, answer);
	close(fd);
	return rv;
}

static struct config_listener choose(const struct config *c)
{
	struct config_listener admin = {.port = (unsigned)c->admin_port};

	if (!c->has_admin_port)
		return c->listeners[0];
	snprintf(admin.address, sizeof admin.address, "%s", c->ip);
	return admin;
}

int probe_run(const struct config *c)
{
	struct config_listener l = choose(c);
	char name[CONFIG_LISTENER_TEXT_MAX];
	char answer[STATUS_LEN + 1] = "";

	config_name_listener(&l, l.port, name);
	if (!l.is_unix && l.port == 0) {
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: port 0 is any port, so none to ask");
		return 1;
	}
	int rv = exchange(&l, answer);
	if (rv != 0)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: no answer from %s: %s", name,
			  uv_strerror(rv));
	else if (strncmp(answer, "HTTP/1.", 7) != 0)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: %s does not answer in HTTP", name);
	else if (strcmp(answer, status_line) != 0)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: %s answered %.3s", name, answer + 9);
	return rv != 0 || strcmp(answer, status_line) != 0;
}
