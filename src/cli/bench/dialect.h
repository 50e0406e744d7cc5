/* dialect.h - how subscribers and publishers speak to a server: isimud's three
 * protocols; and the interface that others are added by (test/bench has those
 * of other servers).
 *
 * In templates %t is the topic's name, %p the publisher for a URL, and %q the
 * publisher as a JSON string. Threads: any, but a reader belongs to one. */
#ifndef ISIMUD_CLI_BENCH_DIALECT_H
#define ISIMUD_CLI_BENCH_DIALECT_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

#define DIALECT_TOPIC_DIGITS 6
#define DIALECT_TOPIC_MAX    64 /* bytes of a topic's name, its NUL included */

/* What topics are called, and whose they are. */
struct dialect_names {
	const char *prefix; /* letters and digits; six digits come behind it */
	struct span publisher;
};

void dialect_name_topic(const struct dialect_names *names, unsigned topic,
			char out[static DIALECT_TOPIC_MAX]);

struct dialect_reader;

struct dialect {
	const char *name;
	bool is_stream;         /* an event stream; else a WebSocket */
	const char *protocol;   /* the subprotocol, or NULL */
	const char *subscribe;  /* path, a template */
	const char *hello[2];   /* what is sent first, templates; or NULL */
	const char *publish;    /* path, a template; NULL: by WebSocket */
	const char *fields;     /* of a publication; each with CR LF */
	const char *token_name; /* what --token is sent as; NULL: not at all */
	bool publisher_has_token;
	bool needs_password;
	/* Around the payload; a template, and text. */
	const char *before;
	const char *after;
	/* What stands in the content of an answer 200 that says no; or NULL. */
	const char *refusal;
	/* How every message begins for a subscriber, a template; or NULL. */
	const char *head;
	/* Finds payloads in what has come: a message, or some of a stream. */
	void (*read)(struct dialect_reader *r, struct span bytes);

	/* Where all is binary messages, also what is published. Append to
	 * `out`, and return 0 or UV_ENOMEM. */
	int (*write_hello)(struct buf *out, const char *topic,
			   bool is_publisher);
	int (*write_publication)(struct buf *out, const char *topic,
				 struct span payload);
	int (*write_ping)(struct buf *out); /* is answered by on_pong() */
};

/* Append a client's binary message, with a mask of zeros: of `bytes`, or of
 * what write_hello() or write_ping() writes. Return 0 or UV_ENOMEM. */
int dialect_append_frame(struct buf *out, struct span bytes);
int dialect_append_hello(const struct dialect *d, struct buf *out,
			 const char *topic, bool is_publisher);
int dialect_append_ping(const struct dialect *d, struct buf *out);

/* isimud's own; ends in one without a name. */
extern const struct dialect dialects[];

/* What is received on one connection. Zeroed but for `dialect`, `user` and the
 * callbacks. */
struct dialect_reader {
	const struct dialect *dialect;
	struct span head;  /* `dialect->head` for its topic; borrowed */
	struct buf rest;   /* what is not complete yet */
	uint64_t sequence; /* of the last message, where they are numbered */
	void *user;
	void (*on_payload)(void *user, struct span payload);
	void (*on_damage)(void *user); /* it is not what it should be */
	void (*on_pong)(void *user);
};

void dialect_reader_fini(struct dialect_reader *r);

/* Forgets what the connection before has left. */
void dialect_reader_reset(struct dialect_reader *r);

/* Gives `bytes`, behind what is left from before, to `take`, which returns how
 * many it has used, and keeps the others. */
void dialect_read_rest(struct dialect_reader *r, struct span bytes,
		       size_t (*take)(struct dialect_reader *r,
				      struct span bytes));

/* Appends what a template stands for. Returns 0 or UV_ENOMEM. */
int dialect_expand(struct buf *out, const char *text,
		   const struct dialect_names *names, unsigned topic);

/* The payloads of an event stream. */
void dialect_read_events(struct dialect_reader *r, struct span bytes);

#endif
