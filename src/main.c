/* main.c - settings in, exit status out. */
#include "auth.h"
#include "config.h"
#include "log.h"
#include "routes.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define EXIT_SETTINGS 2 /* a setting is missing or malformed */

static const char *get_setting(const char *name)
{
	return getenv(name);
}

int main(void)
{
	struct config config;
	char error[CONFIG_ERROR_MAX];

	int rv = config_load(&config, get_setting, error);
	if (rv == 0 && config.auth_url != NULL &&
	    !auth_is_url(config.auth_url)) {
		snprintf(error, sizeof error,
			 "AUTH_URL must be an absolute http or https URL");
		rv = UV_EINVAL;
	}
	if (rv != 0) {
		log_error("%s", error);
		return EXIT_SETTINGS;
	}
	log_set_level((enum log_level)config.log_level);
	if (auth_global_init() != 0) {
		log_error("can't start: libcurl could not be initialized");
		return EXIT_FAILURE;
	}
	int status = server_run(&config, &routes_app);
	auth_global_fini();
	return status;
}
