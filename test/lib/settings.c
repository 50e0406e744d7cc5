/* settings.c - see settings.h. */
#include "settings.h"

const char *password;

const char *name;

const char *value;

const char *others[4][2]; /* names and values; NULL behind the last */

const char *get(const char *of)
{
	if (name != NULL && strcmp(of, name) == 0)
		return value;
	for (size_t i = 0; others[i][0] != NULL; i++)
		if (strcmp(of, others[i][0]) == 0)
			return others[i][1];
	return strcmp(of, "PASSWORD") == 0 ? password : NULL;
}

int reset(void **state)
{
	(void)state;
	password = "secret";
	name = NULL;
	value = NULL;
	memset(others, 0, sizeof others);
	return 0;
}

struct config load(const char *of, const char *text)
{
	char error[CONFIG_ERROR_MAX] = "";
	struct config c;

	name = of;
	value = text;
	if (config_load(&c, get, error) != 0)
		fail_msg("%s=%s: %s", of, text, error);
	return c;
}

void assert_refused(const char *of, const char *text, const char *says)
{
	char error[CONFIG_ERROR_MAX] = "";
	struct config c;

	name = of;
	value = text;
	if (config_load(&c, get, error) != UV_EINVAL)
		fail_msg("%s=%s was accepted", of, text);
	assert_string_equal(error, says);
}
