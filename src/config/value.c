/* value.c - reads numbers and addresses, which several kinds of settings
 * have. */
#include "config/private.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

bool config_read_number(const char *text, uint64_t *out, char **end)
{
	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	*out = strtoull(text, end, 10);
	return errno == 0;
}

int config_read_whole_number(const char *text, uint64_t *out,
			     const char **wrong)
{
	char *end;
	if (!config_read_number(text, out, &end) || *end != '\0')
		return refuse(wrong, "must be a whole number");
	return 0;
}

const char *config_numeric_address(const char *text)
{
	return strcasecmp(text, "localhost") == 0 ? "127.0.0.1" : text;
}
