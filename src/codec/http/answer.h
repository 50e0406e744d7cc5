/* answer.h - HTTP/1.1 responses in, for the client side (RFC 9110, RFC 9112).
 *
 * Codec: no socket, thread or clock. Threads: any; a `struct http_answers`
 * belongs to one at a time. */
#ifndef ISIMUD_CODEC_HTTP_ANSWER_H
#define ISIMUD_CODEC_HTTP_ANSWER_H

#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>

/* The fields that a client reads; the others are dropped. */
enum http_answer_field {
	HTTP_ANSWER_ACCEPT,      /* Sec-WebSocket-Accept */
	HTTP_ANSWER_PROTOCOL,    /* Sec-WebSocket-Protocol */
	HTTP_ANSWER_RETRY_AFTER, /* Retry-After */
	HTTP_ANSWER_FIELDS,
	HTTP_ANSWER_OTHER = HTTP_ANSWER_FIELDS,
};

/* A response. Its spans live until the next call with the same reader, and no
 * longer than the bytes that were read last. */
struct http_answer {
	unsigned status; /* 100 to 999; 101 and all 1xx are without content */
	struct span fields[HTTP_ANSWER_FIELDS]; /* absent if not sent */
	struct span content;                    /* all of it, decoded */
	bool keep_alive; /* the connection may be used again (9112 9.3) */
};

enum http_answer_event {
	HTTP_ANSWER_MORE, /* all bytes are used, the response is not complete */
	HTTP_ANSWER_DONE, /* it is */
	HTTP_ANSWER_BAD,  /* it is no HTTP/1.x, or over the limit */
};

/* The reading side of a connection: one response after another, each to a GET,
 * POST or PUT. (It would wait for the content of an answer to HEAD.) */
struct http_answers;

/* `content_max_bytes`: of one response. NULL without memory. */
struct http_answers *http_answers_new(size_t content_max_bytes);
void http_answers_free(struct http_answers *a); /* NULL is fine */

/* Reads bytes until a response is complete. `*used` receives how many were
 * read; the rest belongs to the next response, or to the protocol that was
 * changed to (status 101). After HTTP_ANSWER_BAD: http_answers_free(). */
enum http_answer_event http_answers_read(struct http_answers *a,
					 struct span bytes, size_t *used);

/* At the end of the connection. Returns HTTP_ANSWER_DONE if that ends the
 * response's content (RFC 9112 6.3, item 8), else HTTP_ANSWER_BAD. */
enum http_answer_event http_answers_finish(struct http_answers *a);

/* What a stream's reader is told, during http_answers_read(). No callback may
 * free the reader. */
struct http_answers_stream {
	/* The head of an answer 200 is complete. */
	void (*on_head)(void *user);
	/* Some of its content, decoded; borrowed. */
	void (*on_content)(void *user, struct span bytes);
};

/* From now on the content of answers 200 is not kept, and not limited, but
 * given to `stream`; other answers are read as ever. */
void http_answers_stream(struct http_answers *a,
			 const struct http_answers_stream *stream, void *user);

/* After HTTP_ANSWER_DONE. */
const struct http_answer *http_answers_last(const struct http_answers *a);

#endif
