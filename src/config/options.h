/* options.h - how settings are given: flags, then environment.
 *
 * The setting MAX_BODY is --max-body 2M or --max-body=2M, else ISIMUD_MAX_BODY,
 * else MAX_BODY. A flag always takes a value; one that begins with -- needs the
 * form with =. Of a flag given twice the last counts. A variable that is empty
 * is not set, but for PASSWORD and AUTH_URL; so is one whose value is foreign
 * (foreign.h).
 * Threads: the main thread, before any other. */
#ifndef ISIMUD_CONFIG_OPTIONS_H
#define ISIMUD_CONFIG_OPTIONS_H

#include "config/config.h"

enum options_command {
	OPTIONS_SERVE,        /* none is given */
	OPTIONS_HEALTHCHECK,  /* healthcheck */
	OPTIONS_RELOAD,       /* reload */
	OPTIONS_CHECK_CONFIG, /* --check-config */
	OPTIONS_HELP,         /* --help */
	OPTIONS_VERSION,      /* --version */
};

/* Reads the arguments, which are kept; `*command` is what they ask for. Returns
 * 0; or UV_EINVAL with `error` a line that says what is wrong and shows no
 * value, and `*command` the one found until there. */
int options_parse(char **arguments, enum options_command *command,
		  char error[static CONFIG_ERROR_MAX]);

/* From now on `environment`, which is kept, is the environment; NULL, as at
 * first: our own. */
void options_set_environment(char **environment);

/* Looks through the environment for names that begin with ISIMUD_ and are
 * neither a setting nor made by Kubernetes. Returns 0; or UV_EINVAL with
 * `error` a line that names it. */
int options_check_environment(char error[static CONFIG_ERROR_MAX]);

/* Logs which variables are ignored as foreign. */
void options_warn(void);

/* Those that options_parse() took last; they end in NULL. */
char **options_arguments(void);

/* Whether a setting is among them. */
bool options_has_flag(const char *name);

/* The value of a setting, or NULL: what config_load() wants. */
const char *options_get(const char *name);

#endif
