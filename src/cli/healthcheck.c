/* healthcheck.c - one request, with one deadline. */
#include "cli/healthcheck.h"

#include <stdio.h>
#include <uv.h>

#include "cli/ask.h"
#include "cli/url.h"

static struct config_listener choose(const struct config *c)
{
	struct config_listener admin = {.port = (unsigned)c->admin_port};

	if (!c->has_admin_port)
		return c->listeners[0];
	snprintf(admin.address, sizeof admin.address, "%s", c->ip);
	return admin;
}

static int exchange_health(const struct url *url, struct ask_answer *answer)
{
	static const struct client_request request = {.method = "GET",
						      .path = "/healthz"};
	struct ask *ask = ask_new(url);
	int rv = ask == NULL ? UV_ENOMEM
			     : ask_now(ask, &request, PROBE_TIMEOUT_MS, answer);

	ask_free(ask);
	return rv;
}

int probe_run(const struct config *c)
{
	struct config_listener l = choose(c);
	struct url url = {0};
	struct ask_answer answer = {0};
	char name[CONFIG_LISTENER_TEXT_MAX];

	config_name_listener(&l, l.port, name);
	if (!l.is_unix && l.port == 0) {
		log_event(
			LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			"healthcheck: port 0 is any free port: say which one");
		return 1;
	}
	url_of_listener(&url, &l);
	int rv = exchange_health(&url, &answer);
	if (rv == UV_EPROTO)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: %s does not answer in HTTP", name);
	else if (rv != 0)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: no answer from %s: %s", name,
			  uv_strerror(rv));
	else if (answer.status != 200)
		log_event(LOG_ERROR, "healthcheck", LOG_NO_FIELDS,
			  "healthcheck: %s answered %u", name, answer.status);
	bool is_well = rv == 0 && answer.status == 200;
	ask_answer_fini(&answer);
	url_fini(&url);
	return is_well ? 0 : 1;
}
