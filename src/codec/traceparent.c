/* traceparent.c - see traceparent.h. */
#include "codec/traceparent.h"

#include <stdbool.h>

/* What stands where; `x` is a lower-case hexadecimal digit. */
static const char form[TRACEPARENT_BYTES + 1] =
	"00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";

#define TRACE_AT    3
#define TRACE_BYTES 32
#define SPAN_AT     36
#define SPAN_BYTES  16

static bool is_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* No trace and no span has the number zero. */
static bool is_zero(const char *at, size_t len)
{
	while (len > 0 && *at == '0') {
		at++;
		len--;
	}
	return len == 0;
}

struct span traceparent_parse(struct span value)
{
	const struct span none = {0};

	if (value.len != TRACEPARENT_BYTES)
		return none;
	for (size_t i = 0; i < TRACEPARENT_BYTES; i++)
		if (form[i] == 'x' ? !is_digit(value.bytes[i])
				   : value.bytes[i] != form[i])
			return none;
	if (is_zero(value.bytes + TRACE_AT, TRACE_BYTES) ||
	    is_zero(value.bytes + SPAN_AT, SPAN_BYTES))
		return none;
	return value;
}
