/* peers.c - `isimud bench` for the servers that isimud is compared with: what
 * is said to them, and where payloads are in what they send.
 *
 * usage: peers MODE [OPTION ...]   (as isimud bench; --protocol is one of
 * these, and --token the key that a peer wants of its publishers) */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/bench/bench.h"
#include "cli/bench/dialect.h"
#include "cli/place.h"

static void read_message(struct dialect_reader *r, struct span message)
{
	r->on_payload(r->user, message);
}

/* --- NATS: its protocol in binary messages, without regard to their borders
 */

#define NATS_CONNECT                                                           \
	"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\","        \
	"\"version\":\"1\",\"protocol\":1}\r\n"

static int nats_hello(struct buf *out, const char *topic, bool is_publisher)
{
	int rv = buf_append_text(out, NATS_CONNECT);

	if (is_publisher)
		return rv;
	rv = rv != 0 ? rv : buf_append_text(out, "SUB ");
	rv = rv != 0 ? rv : buf_append_text(out, topic);
	return rv != 0 ? rv : buf_append_text(out, " 1\r\n");
}

static int nats_publication(struct buf *out, const char *topic,
			    struct span payload)
{
	char head[128];

	snprintf(head, sizeof head, "PUB %s %zu\r\n", topic, payload.len);
	int rv = buf_append_text(out, head);
	rv = rv != 0 ? rv : buf_append(out, payload.bytes, payload.len);
	return rv != 0 ? rv : buf_append_text(out, "\r\n");
}

static int nats_ping(struct buf *out)
{
	return buf_append_text(out, "PING\r\n");
}

static size_t take_nats(struct dialect_reader *r, struct span bytes)
{
	size_t at = 0;
	const char *end;

	while (at < bytes.len &&
	       (end = memchr(bytes.bytes + at, '\n', bytes.len - at)) != NULL) {
		const char *line = bytes.bytes + at;
		size_t next = (size_t)(end - bytes.bytes) + 1;
		if (strncmp(line, "MSG ", 4) == 0) {
			const char *digits = end - 1; /* CR */
			while (digits[-1] >= '0' && digits[-1] <= '9')
				digits--;
			size_t len = strtoul(digits, NULL, 10);
			if (bytes.len - next < len + 2)
				break;
			r->on_payload(r->user,
				      (struct span){bytes.bytes + next, len});
			next += len + 2;
		} else if (strncmp(line, "PONG", 4) == 0 &&
			   r->on_pong != NULL) {
			r->on_pong(r->user);
		} else if (strncmp(line, "-ERR", 4) == 0) {
			r->on_damage(r->user);
		}
		at = next;
	}
	return at;
}

static void read_nats(struct dialect_reader *r, struct span bytes)
{
	dialect_read_rest(r, bytes, take_nats);
}

/* --- MQTT 3.1.1, in the same way ------------------------------------------
 */

static int append_mqtt(struct buf *out, unsigned char type, struct span a,
		       struct span b)
{
	unsigned char head[8] = {type};
	size_t len = a.len + b.len;
	size_t n = 1;

	do {
		head[n++] =
			(unsigned char)((len & 127) | (len > 127 ? 128 : 0));
		len >>= 7;
	} while (len > 0);
	int rv = buf_append(out, head, n);
	rv = rv != 0 ? rv : buf_append(out, a.bytes, a.len);
	return rv != 0 ? rv : buf_append(out, b.bytes, b.len);
}

/* Two bytes of length, and the name. */
static struct span mqtt_name(const char *name, char out[static 128])
{
	size_t len = strlen(name);

	out[0] = 0;
	out[1] = (char)len;
	memcpy(out + 2, name, len);
	return (struct span){out, len + 2};
}

static int mqtt_hello(struct buf *out, const char *topic, bool is_publisher)
{
	/* A clean session without keep-alive; an id for each. */
	static unsigned serial;
	char id[16];
	char name[128];
	char filter[160] = {0, 1}; /* the packet's id */

	snprintf(id, sizeof id, "b%08x",
		 __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED));
	int rv = append_mqtt(out, 0x10, SPAN("\0\4MQTT\4\2\0\0"),
			     mqtt_name(id, name));
	if (is_publisher)
		return rv;
	struct span of = mqtt_name(topic, name);
	memcpy(filter + 2, of.bytes, of.len); /* and QoS 0 behind it */
	return rv != 0 ? rv
		       : append_mqtt(out, 0x82,
				     (struct span){filter, of.len + 3},
				     SPAN(""));
}

static int mqtt_publication(struct buf *out, const char *topic,
			    struct span payload)
{
	char name[128];

	return append_mqtt(out, 0x30, mqtt_name(topic, name), payload);
}

static int mqtt_ping(struct buf *out)
{
	return append_mqtt(out, 0xc0, SPAN(""), SPAN(""));
}

static void take_mqtt_packet(struct dialect_reader *r, unsigned type,
			     struct span body)
{
	const unsigned char *b = (const unsigned char *)body.bytes;

	if (type == 0x30 && body.len > 2) {
		size_t name = (size_t)(b[0] << 8 | b[1]) + 2;
		if (name <= body.len)
			r->on_payload(r->user, (struct span){body.bytes + name,
							     body.len - name});
	} else if (type == 0x20 && body.len > 1 && b[1] != 0) {
		r->on_damage(r->user); /* it refuses the connection */
	} else if (type == 0xd0 && r->on_pong != NULL) {
		r->on_pong(r->user);
	}
}

static size_t take_mqtt(struct dialect_reader *r, struct span bytes)
{
	const unsigned char *b = (const unsigned char *)bytes.bytes;
	size_t at = 0;

	while (at + 2 <= bytes.len) {
		size_t len = 0;
		size_t body = at + 1;
		unsigned shift = 0;
		while (body < bytes.len && (b[body] & 128) != 0) {
			len |= (size_t)(b[body++] & 127) << shift;
			shift += 7;
		}
		if (body == bytes.len)
			break;
		len |= (size_t)b[body++] << shift;
		if (bytes.len - body < len)
			break;
		take_mqtt_packet(r, b[at] & 0xf0,
				 (struct span){bytes.bytes + body, len});
		at = body + len;
	}
	return at;
}

static void read_mqtt(struct dialect_reader *r, struct span bytes)
{
	dialect_read_rest(r, bytes, take_mqtt);
}

/* --- Centrifugo -----------------------------------------------------------
 */

/* Replies in lines of JSON; a payload begins with '@' and ends with a quote. */
static void read_centrifugo(struct dialect_reader *r, struct span message)
{
	while (message.len > 0) {
		const char *end = memchr(message.bytes, '\n', message.len);
		size_t len = end == NULL ? message.len
					 : (size_t)(end - message.bytes);
		const char *payload = memchr(message.bytes, '@', len);
		size_t left = payload == NULL
				      ? 0
				      : len - (size_t)(payload - message.bytes);
		const char *quote =
			payload == NULL ? NULL : memchr(payload, '"', left);
		if (quote != NULL)
			r->on_payload(r->user,
				      (struct span){payload,
						    (size_t)(quote - payload)});
		else if (memmem(message.bytes, len, "\"error\"", 7) != NULL)
			r->on_damage(r->user);
		len += end != NULL;
		message.bytes += len;
		message.len -= len;
	}
}

/* Events whose data is such a line. */
static void take_centrifugo_event(void *user, struct span data)
{
	read_centrifugo(user, data);
}

static void damage_centrifugo_event(void *user)
{
	struct dialect_reader *line = user;

	line->on_damage(line->user);
}

static void read_centrifugo_events(struct dialect_reader *r, struct span bytes)
{
	struct dialect_reader line = *r; /* where what is in the data goes */

	r->on_payload = take_centrifugo_event;
	r->on_damage = damage_centrifugo_event;
	r->user = &line;
	dialect_read_events(r, bytes);
	r->on_payload = line.on_payload;
	r->on_damage = line.on_damage;
	r->user = line.user;
}

#define CENTRIFUGO                                                             \
	.publish = "/api/publish",                                             \
	.fields = "Content-Type: application/json\r\n",                        \
	.before = "{\"channel\":\"%t\",\"data\":\"", .after = "\"}",           \
	.token_name = "X-API-Key: ", .publisher_has_token = true,              \
	.refusal = "\"error\""

#define NCHAN                                                                  \
	.subscribe = "/sub?id=%t", .publish = "/pub?id=%t",                    \
	.fields = "Content-Type: text/plain\r\n", .before = "", .after = ""

/* --- all of them ----------------------------------------------------------
 */

static const struct dialect peers[] = {
	{.name = "nchan", .read = read_message, NCHAN},
	{.name = "nchan-sse",
	 .is_stream = true,
	 .read = dialect_read_events,
	 NCHAN},
	{.name = "nats",
	 .subscribe = "/",
	 .read = read_nats,
	 .write_hello = nats_hello,
	 .write_publication = nats_publication,
	 .write_ping = nats_ping},
	{.name = "mqtt",
	 .protocol = "mqtt",
	 .subscribe = "/mqtt",
	 .read = read_mqtt,
	 .write_hello = mqtt_hello,
	 .write_publication = mqtt_publication,
	 .write_ping = mqtt_ping},
	{.name = "centrifugo",
	 .subscribe = "/connection/websocket",
	 .hello = {"{\"id\":1,\"connect\":{}}\n"
		   "{\"id\":2,\"subscribe\":{\"channel\":\"%t\"}}"},
	 .read = read_centrifugo,
	 CENTRIFUGO},
	{.name = "centrifugo-uni",
	 .subscribe = "/connection/uni_websocket",
	 .hello = {"{\"subs\":{\"%t\":{}}}"},
	 .read = read_centrifugo,
	 CENTRIFUGO},
	{.name = "centrifugo-sse",
	 .is_stream = true,
	 .subscribe = "/connection/uni_sse?cf_connect="
		      "%7B%22subs%22%3A%7B%22%t%22%3A%7B%7D%7D%7D",
	 .read = read_centrifugo_events,
	 CENTRIFUGO},
	{.name = "mercure",
	 .is_stream = true,
	 .subscribe = "/.well-known/mercure?topic=%t",
	 .publish = "/.well-known/mercure",
	 .fields = "Content-Type: application/x-www-form-urlencoded\r\n",
	 .before = "topic=%t&data=",
	 .after = "",
	 .token_name = "Authorization: Bearer ",
	 .publisher_has_token = true,
	 .read = dialect_read_events},
	/* The original in Rust begins only after one more message. */
	{.name = "isimud-rs",
	 .subscribe = "/sub",
	 .hello = {"{\"publisher\":%q,\"topic\":\"%t\"}", "go"},
	 .publish = "/pub",
	 .fields = "Content-Type: application/json\r\n",
	 .before = "{\"topic\":\"%t\",\"data\":\"",
	 .after = "\"}",
	 .needs_password = true,
	 .read = read_message},
	{.name = NULL},
};

int main(int argc, char **argv)
{
	const struct command *bench = command_of("bench");
	struct arguments a = {0};
	char error[ARGUMENTS_ERROR_MAX];

	if (argc < 2 || arguments_read(bench, argv + 1, &a, error) != 0) {
		fprintf(stderr, "peers: %s\n", argc < 2 ? bench->usage : error);
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	return bench_run_with(&a, peers);
}
