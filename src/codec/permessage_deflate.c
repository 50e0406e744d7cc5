/* permessage_deflate.c - see permessage_deflate.h. */
#include "codec/permessage_deflate.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "codec/http/http.h"

#define NAME      "permessage-deflate"
#define BITS_MIN  8 /* that may be asked for */
#define VALUE_MAX 2 /* bytes of a value that means something */

/* A parameter of an extension. */
struct parameter {
	struct span name;
	bool has_value;
	struct span value; /* without quotes and escapes; cut to VALUE_MAX + 1
			      bytes */
	char unquoted[VALUE_MAX + 1];
};

/* RFC 9110 5.6.2. */
static bool is_token_char(char c)
{
	return isalnum((unsigned char)c) ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_token_char(s.bytes[i]))
			return false;
	return s.len > 0;
}

/* Reads a quoted string whose content is a token (RFC 6455 9.1). */
static bool read_quoted(struct span s, struct parameter *p)
{
	size_t len = 0;
	size_t i = 1;

	if (s.len < 2 || s.bytes[s.len - 1] != '"')
		return false;
	for (; i < s.len - 1; i++) {
		if (s.bytes[i] == '\\' && ++i == s.len - 1)
			return false; /* the quote is no end */
		if (!is_token_char(s.bytes[i]))
			return false;
		if (len < sizeof p->unquoted)
			p->unquoted[len++] = s.bytes[i];
	}
	p->value = (struct span){p->unquoted, len};
	return len > 0;
}

/* Returns whether it is one. */
static bool read_extension_parameter(struct span part, struct parameter *p)
{
	p->name = http_part_take(&part, '=');
	p->has_value = part.bytes != NULL;
	if (!is_token(p->name) || !p->has_value)
		return is_token(p->name);
	p->value = http_part_take(&part, ';');
	if (p->value.len > 0 && p->value.bytes[0] == '"')
		return read_quoted(p->value, p);
	return is_token(p->value);
}

/* Reads a number of bits, 8 to 15, without a zero before it (RFC 7692 7.1.2).
 * Returns 0 if it is none. */
static unsigned bits_of(const struct parameter *p)
{
	unsigned bits = 0;

	if (!p->has_value || p->value.len > VALUE_MAX ||
	    p->value.bytes[0] == '0')
		return 0;
	for (size_t i = 0; i < p->value.len; i++) {
		if (!isdigit((unsigned char)p->value.bytes[i]))
			return 0;
		bits = 10 * bits + (unsigned)(p->value.bytes[i] - '0');
	}
	return bits >= BITS_MIN && bits <= DEFLATE_WINDOW_MAX ? bits : 0;
}

/* The parameters that there are: each at most once. */
enum known {
	SERVER_NO_CONTEXT_TAKEOVER,
	CLIENT_NO_CONTEXT_TAKEOVER,
	SERVER_MAX_WINDOW_BITS,
	CLIENT_MAX_WINDOW_BITS,
	KNOWN,
};

static const struct {
	struct span name;
	bool may_have_value;
	bool must_have_value;
} known[KNOWN] = {
	[SERVER_NO_CONTEXT_TAKEOVER] = {{"server_no_context_takeover", 26},
					false,
					false},
	[CLIENT_NO_CONTEXT_TAKEOVER] = {{"client_no_context_takeover", 26},
					false,
					false},
	[SERVER_MAX_WINDOW_BITS] = {{"server_max_window_bits", 22}, true, true},
	[CLIENT_MAX_WINDOW_BITS] = {{"client_max_window_bits", 22},
				    true,
				    false},
};

/* An offer of permessage-deflate while it is read. */
struct offer {
	bool is_acceptable;
	bool has[KNOWN];
	unsigned server_bits;
};

/* Returns whether the offer can still be met. */
static bool take_parameter(struct offer *offer, const struct parameter *p)
{
	unsigned which = 0;

	while (which < KNOWN && !span_equal(p->name, known[which].name))
		which++;
	if (which == KNOWN || offer->has[which])
		return false;
	offer->has[which] = true;
	if (p->has_value ? !known[which].may_have_value || bits_of(p) == 0
			 : known[which].must_have_value)
		return false;
	if (which != SERVER_MAX_WINDOW_BITS)
		return true;
	offer->server_bits = bits_of(p);
	return offer->server_bits >= DEFLATE_WINDOW_MIN;
}

/* Reads one extension. Returns whether it is well-formed. */
static bool read_extension(struct span extension, struct offer *offer)
{
	struct span name = http_part_take(&extension, ';');
	struct parameter p;

	*offer = (struct offer){.is_acceptable = span_equal(name, SPAN(NAME))};
	if (!is_token(name))
		return false;
	while (extension.bytes != NULL) {
		if (!read_extension_parameter(http_part_take(&extension, ';'),
					      &p))
			return false;
		if (offer->is_acceptable)
			offer->is_acceptable = take_parameter(offer, &p);
	}
	return true;
}

int permessage_deflate_choose(struct span offers,
			      struct permessage_deflate *out)
{
	*out = (struct permessage_deflate){.is_agreed = false};
	while (offers.bytes != NULL) {
		struct span extension = http_list_take(&offers);
		struct offer offer;
		if (extension.len == 0)
			continue; /* RFC 9110 5.6.1.2 */
		if (!read_extension(extension, &offer)) {
			out->is_agreed = false;
			return 400;
		}
		if (!offer.is_acceptable || out->is_agreed)
			continue;
		out->is_agreed = true;
		out->server_bits = offer.server_bits;
		out->ours = offer.server_bits == 0 || offer.server_bits ==
							      DEFLATE_WINDOW_MAX
				    ? DEFLATE_WINDOW_FULL
				    : DEFLATE_WINDOW_SMALL;
	}
	return 0;
}

void permessage_deflate_write(const struct permessage_deflate *p,
			      char out[static PERMESSAGE_DEFLATE_MAX])
{
	int len = snprintf(out, PERMESSAGE_DEFLATE_MAX, NAME "; %s; %s",
			   known[SERVER_NO_CONTEXT_TAKEOVER].name.bytes,
			   known[CLIENT_NO_CONTEXT_TAKEOVER].name.bytes);

	CHECK(p->is_agreed);
	if (p->server_bits != 0)
		len += snprintf(out + len, PERMESSAGE_DEFLATE_MAX - (size_t)len,
				"; %s=%u",
				known[SERVER_MAX_WINDOW_BITS].name.bytes,
				p->server_bits);
	CHECK(len < PERMESSAGE_DEFLATE_MAX);
}
