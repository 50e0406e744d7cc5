/* place.c - finds out from arguments and settings which server is meant. */
#include "cli/place.h"

#include "cli/client.h"
#include "codec/http/http.h"
#include "codec/json/json.h"
#include "config/config.h"
#include "config/options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

void cli_say(const char *name, const char *format, ...)
{
	va_list list;
	char text[1024];

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	/* What a server said may be in it. */
	for (char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	fprintf(stderr, "isimud %s: %s\n", name, text);
}

uint64_t cli_random(uint64_t most)
{
	uint64_t number = 0;

	/* If the kernel gives none, clients only come back at the same time. */
	(void)!getrandom(&number, sizeof number, 0);
	return number % (most + 1);
}

struct span cli_error_text(struct span content, struct buf *memory)
{
	struct json_member member = {
		.name = "error", .kinds = JSON_STRING, .is_required = true};
	struct json_error error;

	if (json_read_members(content, &member, 1, memory, &error) != 0)
		return SPAN("");
	return member.value;
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Reads the first password that `c` names. */
static int read_password(struct place *p, const struct config *c, char *error)
{
	struct config_passwords passwords = {0};
	int rv = config_read_passwords(c, &passwords, error);

	if (rv == 0)
		rv = buf_append(&p->password, passwords.each[0].bytes,
				passwords.each[0].len);
	p->has_password = rv == 0;
	config_passwords_fini(&passwords);
	return rv;
}

static int find_password(struct place *p, const struct arguments *a,
			 char *error)
{
	struct config c = {.password_file = a->password_file};
	char ignored[CONFIG_ERROR_MAX];

	if (a->password_file != NULL) {
		int rv = read_password(p, &c, error);
		if (rv != 0)
			snprintf(error, ARGUMENTS_ERROR_MAX,
				 "--password-file can't be read, or has no "
				 "password");
		return rv;
	}
	if (p->url.has_password) {
		p->has_password = true;
		return buf_append(&p->password, p->url.password.bytes,
				  p->url.password.len);
	}
	c.password = options_get("PASSWORD");
	c.password_file = options_get("PASSWORD_FILE");
	(void)read_password(p, &c, ignored);
	return 0;
}

static int find_beside(struct place *p, char *error)
{
	struct config config;
	struct config_listener admin = {0};

	(void)running_adopt(&p->running);
	int rv = options_check_environment(error);
	if (rv == 0)
		rv = config_load(&config, options_get, error);
	if (rv != 0)
		return rv;
	url_of_listener(&p->url, &config.listeners[0]);
	p->has_admin = config.has_admin_port;
	snprintf(admin.address, sizeof admin.address, "%s", config.ip);
	admin.port = (unsigned)config.admin_port;
	url_of_listener(&p->admin, &admin);
	if (p->url.is_unix || p->url.port != 0)
		return 0;
	snprintf(error, ARGUMENTS_ERROR_MAX,
		 "the server's port is any port (0); say --url");
	return UV_EINVAL;
}

static int find_url(struct place *p, const struct arguments *a, char *error)
{
	const char *name = a->url != NULL ? "--url" : "ISIMUD_URL";
	const char *text = a->url != NULL ? a->url : variable("ISIMUD_URL");
	const char *wrong;

	if (text == NULL)
		return find_beside(p, error);
	int rv = url_parse(&p->url, text, &wrong);
	if (rv != 0)
		snprintf(error, ARGUMENTS_ERROR_MAX, "%s %s", name, wrong);
	return rv;
}

int place_find(struct place *p, const struct arguments *a,
	       char error[static ARGUMENTS_ERROR_MAX])
{
	int rv = find_url(p, a, error);

	if (rv == 0)
		rv = find_password(p, a, error);
	if (a->publisher != NULL)
		p->publisher = span_of(a->publisher);
	else if (p->url.has_user)
		p->publisher =
			(struct span){p->url.user.bytes, p->url.user.len};
	else
		p->publisher = span_of(variable("ISIMUD_PUBLISHER"));
	p->token =
		span_of(a->token != NULL ? a->token : variable("ISIMUD_TOKEN"));
	return rv;
}

void place_fini(struct place *p)
{
	if (p->password.bytes != NULL)
		explicit_bzero(p->password.bytes, p->password.cap);
	buf_fini(&p->password);
	url_fini(&p->url);
	url_fini(&p->admin);
	running_fini(&p->running);
}

int place_add_basic(const struct place *p, const char *fallback,
		    struct buf *out, char error[static ARGUMENTS_ERROR_MAX])
{
	struct span publisher = p->publisher;

	if (publisher.bytes == NULL)
		publisher = span_of(fallback);
	if (publisher.bytes == NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "who publishes? say --publisher NAME, or set "
			 "ISIMUD_PUBLISHER");
		return UV_EINVAL;
	}
	if (memchr(publisher.bytes, ':', publisher.len) != NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "a publisher with a colon can't log in (RFC 7617)");
		return UV_EINVAL;
	}
	if (!p->has_password) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "no password: say --password-file FILE, or set "
			 "PASSWORD_FILE or PASSWORD");
		return UV_EINVAL;
	}
	int rv =
		client_basic(out, publisher,
			     (struct span){p->password.bytes, p->password.len});
	if (rv != 0)
		snprintf(error, ARGUMENTS_ERROR_MAX, "out of memory");
	return rv;
}

int place_add_token(const struct place *p, const char *field, struct buf *out,
		    char error[static ARGUMENTS_ERROR_MAX])
{
	if (p->token.bytes == NULL)
		return 0;
	if (!http_is_token(p->token)) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "the token has characters that none may have");
		return UV_EINVAL;
	}
	int rv = buf_append_text(out, field);
	rv = rv != 0 ? rv : buf_append(out, p->token.bytes, p->token.len);
	return rv != 0 ? rv : buf_append_text(out, "\r\n");
}
