/* options.c - looks through arguments and environment, again for each setting:
 * there are few of all. */
#include "config/options.h"

#include "config/foreign.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define NAME_MAX_BYTES 64 /* longer than the name of any setting */

static const char prefix[] = "ISIMUD_";

#define PREFIX_LEN (sizeof prefix - 1)

/* What options_parse() found to be right. */
static char *none[] = {NULL};
static char **flags = none;

/* NULL: our own. */
static char **variables;

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
		[OPTIONS_RELOAD] = "reload",
		[OPTIONS_CHECK_CONFIG] = "--check-config",
		[OPTIONS_HELP] = "--help",
		[OPTIONS_VERSION] = "--version",
	};
	for (int i = OPTIONS_SERVE + 1; i <= OPTIONS_VERSION; i++)
		if (strcmp(argument, names[i]) == 0)
			return (enum options_command)i;
	return OPTIONS_SERVE;
}

/* An argument that is no flag may be a password that lost its flag, so the
 * message gives its place instead of its text. */
static int refuse_option(char **arguments, char *const *wrong,
			 char error[static CONFIG_ERROR_MAX])
{
	if (strncmp(*wrong, "--", 2) == 0)
		snprintf(error, CONFIG_ERROR_MAX,
			 "%.*s is not a setting; see --help",
			 (int)strcspn(*wrong, "="), *wrong);
	else
		snprintf(error, CONFIG_ERROR_MAX,
			 "argument %d is neither a flag nor a command; see "
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
			return refuse_option(arguments, a, error);
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

static char **environment_in_use(void)
{
	return variables != NULL ? variables : environ;
}

void options_set_environment(char **environment)
{
	variables = environment;
}

/* Splits `entry`, NAME=VALUE. A name that is cut is that of no setting. Returns
 * the value. */
static const char *split_entry(const char *entry,
			       char name[static PREFIX_LEN + NAME_MAX_BYTES])
{
	size_t len = strcspn(entry, "=");

	snprintf(name, PREFIX_LEN + NAME_MAX_BYTES, "%.*s", (int)len, entry);
	return entry + len + (entry[len] == '=');
}

/* What the commands that are clients read (cli/place.h), and the server does
 * not: the two may share an environment. */
static bool is_of_client(const char *name)
{
	return strcmp(name, "URL") == 0 || strcmp(name, "PUBLISHER") == 0 ||
	       strcmp(name, "TOKEN") == 0;
}

int options_check_environment(char error[static CONFIG_ERROR_MAX])
{
	char name[PREFIX_LEN + NAME_MAX_BYTES];

	for (char **e = environment_in_use(); *e != NULL; e++) {
		const char *value = split_entry(*e, name);
		if (strncmp(name, prefix, PREFIX_LEN) != 0 ||
		    config_is_setting(name + PREFIX_LEN) ||
		    is_of_client(name + PREFIX_LEN) ||
		    foreign_is_service_link(name + PREFIX_LEN, value))
			continue;
		snprintf(error, CONFIG_ERROR_MAX,
			 "%s is not a setting; see --help", name);
		return UV_EINVAL;
	}
	return 0;
}

/* An empty variable counts as not set: many places where variables are written
 * down have no other way to say that. But a setting that protects must not be
 * absent because something else was empty. */
static bool counts_when_empty(const char *name)
{
	return strcmp(name, "PASSWORD") == 0 || strcmp(name, "AUTH_URL") == 0;
}

/* The value of the variable `prefix_or_not` and `name`, or NULL where it is not
 * set. */
static const char *find_variable(const char *prefix_or_not, const char *name)
{
	size_t prefix_len = strlen(prefix_or_not);
	size_t len = strlen(name);

	for (char **e = environment_in_use(); *e != NULL; e++)
		if (strncmp(*e, prefix_or_not, prefix_len) == 0 &&
		    strncmp(*e + prefix_len, name, len) == 0 &&
		    (*e)[prefix_len + len] == '=' &&
		    ((*e)[prefix_len + len + 1] != '\0' ||
		     counts_when_empty(name)))
			return *e + prefix_len + len + 1;
	return NULL;
}

static const char *find_flag(const char *name)
{
	char of_flag[NAME_MAX_BYTES];
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
	return value;
}

char **options_arguments(void)
{
	return flags;
}

bool options_has_flag(const char *name)
{
	return find_flag(name) != NULL;
}

const char *options_get(const char *name)
{
	const char *value = find_flag(name);

	if (value != NULL)
		return value;
	value = find_variable(prefix, name);
	if (value != NULL && !foreign_is_service_link(name, value))
		return value;
	value = find_variable("", name);
	return value != NULL && foreign_is_value(name, value) ? NULL : value;
}

/* A variable that would count, were its value not foreign. */
static void warn_of_foreign(const char *name)
{
	const char *value = find_variable("", name);

	if (value != NULL && foreign_is_value(name, value) &&
	    options_get(name) == NULL)
		log_event(
			LOG_WARN, "variable_ignored",
			LOG_FIELDS(log_text("name", name)),
			"%s is ignored: its value is not meant for isimud; if "
			"it is, set ISIMUD_%s",
			name, name);
}

void options_warn(void)
{
	char name[PREFIX_LEN + NAME_MAX_BYTES];
	char first[sizeof name] = "";
	unsigned links = 0;

	for (char **e = environment_in_use(); *e != NULL; e++) {
		const char *value = split_entry(*e, name);
		if (strncmp(name, prefix, PREFIX_LEN) != 0) {
			warn_of_foreign(name);
		} else if (foreign_is_service_link(name + PREFIX_LEN, value)) {
			if (links++ == 0)
				memcpy(first, name, sizeof first);
		}
	}
	if (links > 0)
		log_event(LOG_WARN, "service_links_ignored",
			  LOG_FIELDS(log_number("count", links)),
			  "%u variables, such as %s, are ignored: Kubernetes "
			  "made them of a Service; enableServiceLinks: false "
			  "keeps them away",
			  links, first);
}
