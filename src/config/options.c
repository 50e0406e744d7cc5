/* options.c - arguments and environment, looked through again for each setting:
 * there are few of all. */
#include "config/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define NAME_MAX_BYTES 64 /* longer than the name of any setting */

static const char prefix[] = "ISIMUD_";

#define PREFIX_LEN (sizeof prefix - 1)

/* What options_parse() found to be right. */
static char *none[] = {NULL};
static char **flags = none;

/* `name` receives the setting that a flag is of: MAX_BODY for --max-body=2M;
 * or "", if it is none. */
static void name_of_flag(const char *flag, char name[static NAME_MAX_BYTES])
{
	size_t len = strcspn(flag, "=");

	name[0] = '\0';
	if (len < 3 || len - 2 >= NAME_MAX_BYTES || flag[0] != '-' ||
	    flag[1] != '-')
		return;
	for (size_t i = 2; i < len; i++) {
		if (islower((unsigned char)flag[i])) {
			name[i - 2] = (char)toupper((unsigned char)flag[i]);
		} else if (flag[i] == '-') {
			name[i - 2] = '_';
		} else {
			name[0] = '\0';
			return;
		}
	}
	name[len - 2] = '\0';
	if (!config_is_setting(name))
		name[0] = '\0';
}

/* The value of the flag at `flag`; it may be the argument behind, and NULL if
 * there is none. */
static const char *value_of_flag(char *const *flag)
{
	const char *equals = strchr(flag[0], '=');

	if (equals != NULL)
		return equals + 1;
	if (flag[1] == NULL || strncmp(flag[1], "--", 2) == 0)
		return NULL;
	return flag[1];
}

/* Returns the command of that name; OPTIONS_SERVE, which has none, if there is
 * no such. */
static enum options_command command_of(const char *argument)
{
	static const char *const names[] = {
		[OPTIONS_HEALTHCHECK] = "healthcheck",
		[OPTIONS_CHECK_CONFIG] = "--check-config",
		[OPTIONS_HELP] = "--help",
		[OPTIONS_VERSION] = "--version",
	};
	for (int i = OPTIONS_SERVE + 1; i <= OPTIONS_VERSION; i++)
		if (strcmp(argument, names[i]) == 0)
			return (enum options_command)i;
	return OPTIONS_SERVE;
}

/* An argument that is no flag at all may be a password that lost its flag: it
 * is told by its place. */
static int refuse(char **arguments, char *const *wrong,
		  char error[static CONFIG_ERROR_MAX])
{
	if (strncmp(*wrong, "--", 2) == 0)
		snprintf(error, CONFIG_ERROR_MAX,
			 "%.*s is not a setting; see --help",
			 (int)strcspn(*wrong, "="), *wrong);
	else
		snprintf(error, CONFIG_ERROR_MAX,
			 "argument %d is neither a flag nor healthcheck; see "
			 "--help",
			 (int)(wrong - arguments) + 1);
	return UV_EINVAL;
}

int options_parse(char **arguments, enum options_command *command,
		  char error[static CONFIG_ERROR_MAX])
{
	char name[NAME_MAX_BYTES];

	*command = OPTIONS_SERVE;
	for (char **a = arguments; *a != NULL; a++) {
		enum options_command one = command_of(*a);
		if (one != OPTIONS_SERVE) {
			if (*command != OPTIONS_SERVE && *command != one) {
				snprintf(error, CONFIG_ERROR_MAX,
					 "%s is one thing too many; see --help",
					 *a);
				return UV_EINVAL;
			}
			*command = one;
			continue;
		}
		name_of_flag(*a, name);
		if (name[0] == '\0')
			return refuse(arguments, a, error);
		if (value_of_flag(a) == NULL) {
			snprintf(error, CONFIG_ERROR_MAX, "%s needs a value",
				 *a);
			return UV_EINVAL;
		}
		if (value_of_flag(a) == a[1])
			a++;
	}
	flags = arguments;
	return 0;
}

/* In a namespace with a Service whose name begins with isimud, Kubernetes puts
 * such names into every pod (its documentation: Service, "Environment
 * variables"). */
static bool is_service_link(const char *name)
{
	return strstr(name, "_SERVICE_") != NULL ||
	       strstr(name, "_PORT") != NULL;
}

int options_check_environment(char **environment,
			      char error[static CONFIG_ERROR_MAX])
{
	char name[NAME_MAX_BYTES];

	for (char **e = environment; *e != NULL; e++) {
		if (strncmp(*e, prefix, PREFIX_LEN) != 0)
			continue;
		/* A name that is cut here is that of no setting either. */
		snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
		if (config_is_setting(name + PREFIX_LEN))
			continue;
		snprintf(error, CONFIG_ERROR_MAX, "%s is not a setting%s", name,
			 is_service_link(name)
				 ? "; if Kubernetes made it of a Service, set "
				   "enableServiceLinks: false"
				 : "; see --help");
		return UV_EINVAL;
	}
	return 0;
}

const char *options_get(const char *name)
{
	char of_flag[NAME_MAX_BYTES];
	char with_prefix[PREFIX_LEN + NAME_MAX_BYTES];
	const char *value = NULL;

	for (char **f = flags; *f != NULL; f++) {
		name_of_flag(*f, of_flag);
		if (of_flag[0] == '\0')
			continue;
		if (strcmp(of_flag, name) == 0)
			value = value_of_flag(f);
		if (value_of_flag(f) == f[1])
			f++;
	}
	if (value != NULL)
		return value;
	snprintf(with_prefix, sizeof with_prefix, "%s%s", prefix, name);
	value = getenv(with_prefix);
	return value != NULL ? value : getenv(name);
}
