/* main.c - settings in, exit status out. */
#include "access/auth.h"
#include "access/password.h"
#include "api/routes.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/cli.h"
#include "cli/healthcheck.h"
#include "cli/running.h"
#include "config/config.h"
#include "config/options.h"
#include "server/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#define EXIT_SETTINGS 2 /* a setting is missing or malformed */

static const char usage[] =
	"isimud " VERSION " pushes messages to subscribers over WebSocket.\n"
	"\n"
	"usage: isimud [SETTING ...]               serves until SIGTERM\n"
	"       isimud healthcheck [SETTING ...]   asks a running one: 0 if it"
	" is well, else 1\n"
	"       isimud reload                      makes a running one read its"
	" password again\n"
	"       isimud --check-config [SETTING ...]  shows the settings: 0 if"
	" they are right, else 2\n"
	"       isimud COMMAND --help              pub, sub, topics, top and"
	" others: isimud help\n"
	"       isimud --help | --version\n"
	"\n"
	"Each setting is a flag, --max-body 2M or --max-body=2M; or a variable"
	" of the\n"
	"environment, ISIMUD_MAX_BODY or MAX_BODY. The first of these that is"
	" given counts.\n"
	"BYTES may end in K, M or G (of 1024); SECONDS may have decimals, or"
	" end in ms, s,\n"
	"m or h.\n"
	"\n";

/* Reads all settings but the password. */
static int load_settings(struct config *c, char error[static CONFIG_ERROR_MAX])
{
	int rv = options_check_environment(error);
	if (rv == 0)
		rv = config_load(c, options_get, error);
	if (rv == 0 && c->auth_url != NULL && !auth_is_url(c->auth_url)) {
		snprintf(error, CONFIG_ERROR_MAX,
			 "AUTH_URL must be an absolute http or https URL");
		rv = UV_EINVAL;
	}
	return rv;
}

static int serve_clients(const struct config *c)
{
	log_set_level((enum log_level)c->log_level);
	log_set_format(c->log_is_json ? LOG_JSON : LOG_TEXT);
	int rv = log_start();
	if (rv != 0) {
		log_event(LOG_ERROR, "start_failed", LOG_NO_FIELDS,
			  "can't start: %s", uv_strerror(rv));
		return EXIT_FAILURE;
	}
	options_warn();
	config_log(c);
	/* It takes some 90 KB, so only where it is of use. */
	bool uses_libcurl = c->auth_url != NULL;
	if (uses_libcurl && auth_global_init() != 0) {
		log_event(LOG_ERROR, "start_failed", LOG_NO_FIELDS,
			  "can't start: libcurl could not be initialized");
		log_stop();
		return EXIT_FAILURE;
	}
	int status = server_run(c, &routes_app);
	if (uses_libcurl)
		auth_global_fini();
	log_stop();
	return status;
}

/* Docker keeps the status 2 of a health check for itself. */
static int fail_start(enum options_command command, const char *error)
{
	log_event(LOG_ERROR, "settings", LOG_NO_FIELDS, "%s", error);
	return command == OPTIONS_HEALTHCHECK ? EXIT_FAILURE : EXIT_SETTINGS;
}

static int healthcheck(void)
{
	struct running running = {0}; /* the settings may lie there */
	char error[CONFIG_ERROR_MAX];
	struct config config;

	signal(SIGPIPE, SIG_IGN);
	running_adopt(&running);
	int status = load_settings(&config, error) == 0
			     ? probe_run(&config)
			     : fail_start(OPTIONS_HEALTHCHECK, error);
	running_fini(&running);
	return status;
}

/* What needs the settings, done with them. */
static int run(enum options_command command)
{
	char error[CONFIG_ERROR_MAX];
	struct config config;

	int rv = load_settings(&config, error);
	if (rv == 0)
		rv = password_load(&config, error);
	if (rv != 0)
		return fail_start(command, error);
	if (command == OPTIONS_SERVE)
		return serve_clients(&config);
	options_warn();
	config_print(&config, stdout);
	return EXIT_SUCCESS;
}

/* Where one of 0, 1 and 2 is closed, the next socket would get its number, and
 * the log would go to a client. */
static void keep_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	enum options_command command;
	char error[CONFIG_ERROR_MAX];

	keep_standard_descriptors();
	if (cli_is_command(argv + (argc > 0)))
		return cli_run(argv + (argc > 0));
	if (options_parse(argv + (argc > 0), &command, error) != 0)
		return fail_start(command, error);
	if (command == OPTIONS_HELP) {
		fputs(usage, stdout);
		config_print_help(stdout);
		return EXIT_SUCCESS;
	}
	if (command == OPTIONS_VERSION) {
		puts("isimud " VERSION);
		return EXIT_SUCCESS;
	}
	if (command == OPTIONS_HEALTHCHECK)
		return healthcheck();
	if (command == OPTIONS_RELOAD)
		return running_reload();
	return run(command);
}
