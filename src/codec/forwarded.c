/* forwarded.c - reads which client a proxy forwards for. */
#include "codec/forwarded.h"

#include "base/refuse.h"
#include "codec/http/http.h"

#include <arpa/inet.h>
#include <string.h>

#define V4_BITS 96 /* of the prefix that maps IPv4 */

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v4(const struct forwarded_address *a)
{
	return memcmp(a->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

/* Reads a bare address. */
static bool read_bare(struct span text, struct forwarded_address *out)
{
	char copy[FORWARDED_TEXT_MAX];

	if (text.len == 0 || text.len >= sizeof copy ||
	    memchr(text.bytes, '\0', text.len) != NULL)
		return false;
	memcpy(copy, text.bytes, text.len);
	copy[text.len] = '\0';
	memcpy(out->bytes, v4_prefix, sizeof v4_prefix);
	if (inet_pton(AF_INET, copy, out->bytes + sizeof v4_prefix) == 1)
		return true;
	return inet_pton(AF_INET6, copy, out->bytes) == 1;
}

static bool is_port(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.bytes[i] < '0' || text.bytes[i] > '9')
			return false;
	return text.len >= 1 && text.len <= 5;
}

/* The part before `end`, a byte of `text`. */
static struct span text_before(struct span text, const char *end)
{
	return (struct span){text.bytes, (size_t)(end - text.bytes)};
}

static struct span behind(struct span text, const char *at)
{
	return (struct span){at + 1, (size_t)(text.bytes + text.len - at) - 1};
}

bool forwarded_read_address(struct span text, struct forwarded_address *out)
{
	const char *end;

	if (text.len == 0)
		return false;
	if (text.bytes[0] == '[') {
		end = memchr(text.bytes, ']', text.len);
		if (end == NULL)
			return false;
		struct span rest = behind(text, end);
		if (rest.len > 0 && (rest.bytes[0] != ':' ||
				     !is_port(behind(rest, rest.bytes))))
			return false;
		return read_bare(text_before(behind(text, text.bytes), end),
				 out) &&
		       !is_v4(out);
	}
	end = memchr(text.bytes, ':', text.len);
	if (end != NULL && is_port(behind(text, end)))
		text = text_before(text, end); /* IPv4 with its port */
	return read_bare(text, out);
}

void forwarded_write_address(const struct forwarded_address *a,
			     char out[static FORWARDED_TEXT_MAX])
{
	if (is_v4(a))
		inet_ntop(AF_INET, a->bytes + sizeof v4_prefix, out,
			  FORWARDED_TEXT_MAX);
	else
		inet_ntop(AF_INET6, a->bytes, out, FORWARDED_TEXT_MAX);
}

/* --- the list of proxies -------------------------------------------------- */

static bool is_in_network(const struct forwarded_address *a,
			  const struct forwarded_address *net, unsigned bits)
{
	unsigned whole = bits / 8;
	uint8_t mask = (uint8_t)(0xff00u >> bits % 8);

	return memcmp(a->bytes, net->bytes, whole) == 0 &&
	       (bits % 8 == 0 ||
		((a->bytes[whole] ^ net->bytes[whole]) & mask) == 0);
}

static bool is_trusted(const struct forwarded_proxies *p,
		       const struct forwarded_address *a)
{
	for (unsigned i = 0; i < p->count; i++)
		if (is_in_network(a, &p->nets[i].address, p->nets[i].bits))
			return true;
	return false;
}

/* Reads the digits of a prefix's length. Returns false if it is over `max`. */
static bool read_bits(struct span digits, unsigned max, unsigned *out)
{
	*out = 0;
	if (!is_port(digits) || digits.len > 3)
		return false;
	for (size_t i = 0; i < digits.len; i++)
		*out = *out * 10 + (unsigned)(digits.bytes[i] - '0');
	return *out <= max;
}

static bool read_net(struct forwarded_proxies *p, struct span text)
{
	const char *slash = memchr(text.bytes, '/', text.len);
	struct forwarded_address *a = &p->nets[p->count].address;
	unsigned *bits = &p->nets[p->count].bits;

	if (!read_bare(slash == NULL ? text : text_before(text, slash), a))
		return false;
	bool has_v4 = is_v4(a) && memchr(text.bytes, ':', text.len) == NULL;
	unsigned max = has_v4 ? 128 - V4_BITS : 128;
	*bits = max;
	if (slash != NULL && !read_bits(behind(text, slash), max, bits))
		return false;
	if (has_v4)
		*bits += V4_BITS;
	p->count++;
	return true;
}

int forwarded_read_proxies(struct forwarded_proxies *p, const char *list,
			   const char **wrong)
{
	struct span rest = span_of(list);

	*p = (struct forwarded_proxies){0};
	while (rest.bytes != NULL) {
		struct span one = http_list_take(&rest);
		if (span_equal(one, SPAN("unix"))) {
			p->has_unix = true;
			continue;
		}
		if (p->count == FORWARDED_PROXIES_MAX)
			return refuse(wrong, "names more than 64 networks");
		if (one.len == 0 || !read_net(p, one))
			return refuse(
				wrong,
				"must name addresses and networks, such as "
				"10.0.0.0/8 or fd00::/8, or unix, separated by "
				"commas");
	}
	return 0;
}

bool forwarded_trusts(const struct forwarded_proxies *p, const char *peer)
{
	struct forwarded_address a;

	if (*peer == '\0')
		return p->has_unix;
	return read_bare(span_of(peer), &a) && is_trusted(p, &a);
}

/* --- the fields ----------------------------------------------------------- */

/* Returns the value of parameter `name` of an element of Forwarded (RFC 7239
 * 4), absent if there is none. Escapes in a quoted string are left as they are:
 * neither an address nor a scheme has any. */
static struct span find_parameter(struct span element, struct span name)
{
	while (element.bytes != NULL) {
		struct span pair = http_part_take(&element, ';');
		const char *is = pair.len == 0
					 ? NULL
					 : memchr(pair.bytes, '=', pair.len);
		if (is == NULL ||
		    !span_equal_nocase(text_before(pair, is), name))
			continue;
		struct span value = behind(pair, is);
		if (value.len >= 2 && value.bytes[0] == '"' &&
		    value.bytes[value.len - 1] == '"')
			value = (struct span){value.bytes + 1, value.len - 2};
		return value;
	}
	return (struct span){0};
}

/* The client that one field names so far. Elements are read from the left;
 * those to the right count for more. */
struct walk {
	bool is_known;
	struct forwarded_address client; /* if so */
	bool is_open; /* the last element that is no trusted proxy could not be
			 read: the proxy to its right counts */
};

static void walk_step(const struct forwarded_proxies *p, struct walk *w,
		      struct span text)
{
	struct forwarded_address a;

	if (!forwarded_read_address(text, &a)) {
		*w = (struct walk){.is_open = true};
	} else if (!is_trusted(p, &a)) {
		*w = (struct walk){.is_known = true, .client = a};
	} else if (w->is_open || !w->is_known) {
		/* A trusted proxy counts only until another address is found.
		 */
		w->is_known = true;
		w->client = a;
		w->is_open = false;
	}
}

static struct walk walk_x_for(const struct forwarded_proxies *p,
			      struct span value)
{
	struct walk w = {0};

	while (value.bytes != NULL)
		walk_step(p, &w, http_list_take(&value));
	return w;
}

static struct walk walk_forwarded(const struct forwarded_proxies *p,
				  struct span value)
{
	struct walk w = {0};

	while (value.bytes != NULL)
		walk_step(p, &w,
			  find_parameter(http_list_take(&value), SPAN("for")));
	return w;
}

static bool agree(const struct walk *a, const struct walk *b)
{
	return a->is_known && b->is_known &&
	       memcmp(&a->client, &b->client, sizeof a->client) == 0;
}

void forwarded_find_client(const struct forwarded_proxies *p, const char *peer,
			   const struct forwarded_fields *fields,
			   char out[static FORWARDED_TEXT_MAX])
{
	struct walk w = walk_x_for(p, fields->x_for);
	struct walk other = walk_forwarded(p, fields->forwarded);

	strncpy(out, peer, FORWARDED_TEXT_MAX - 1);
	out[FORWARDED_TEXT_MAX - 1] = '\0';
	if (!forwarded_trusts(p, peer))
		return;
	if (fields->x_for.bytes == NULL)
		w = other;
	else if (fields->forwarded.bytes != NULL && !agree(&w, &other))
		return;
	if (w.is_known)
		forwarded_write_address(&w.client, out);
}

const char *forwarded_find_scheme(const struct forwarded_proxies *p,
				  const char *peer,
				  const struct forwarded_fields *fields)
{
	struct span rest = fields->x_proto;
	struct span scheme = {0};

	if (!forwarded_trusts(p, peer))
		return "http";
	while (rest.bytes != NULL)
		scheme = http_list_take(&rest);
	rest = fields->forwarded;
	while (fields->x_proto.bytes == NULL && rest.bytes != NULL)
		scheme = find_parameter(http_list_take(&rest), SPAN("proto"));
	return span_equal_nocase(scheme, SPAN("https")) ? "https" : "http";
}
