/* head.h - inside the http room: makes a struct http_request of the parts of a
 * head.
 *
 * It takes the parts as they arrive, in pieces, and keeps the fields of enum
 * http_field. It does not know the parser that finds them. */
#ifndef ISIMUD_CODEC_HTTP_HEAD_H
#define ISIMUD_CODEC_HTTP_HEAD_H

#include "base/buf.h"
#include "base/span.h"
#include "codec/http/http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_NAME_MAX_BYTES 32 /* no field of enum http_field has a longer */

/* Why a request is bad; `status` is 0 as long as it is not. */
struct http_error {
	int status;
	const char *reason; /* static text */
};

/* Returns `status`, for the caller to return. */
static inline int http_refuse(struct http_error *error, int status,
			      const char *reason)
{
	error->status = status;
	error->reason = reason;
	return status;
}

/* A field line of interest: where in the head's bytes its value lies. */
struct http_line {
	uint32_t at;
	uint16_t len;
	uint8_t field; /* enum http_field */
};

struct http_head {
	struct buf bytes;  /* the request target, then the lines' values */
	size_t target_len; /* at the start of `bytes` */
	struct http_line lines[HTTP_FIELDS_MAX];
	unsigned lines_len;
	size_t event_id_len; /* values of Last-Event-ID, so far */

	/* Transfer-Encoding, all lines together. */
	bool has_transfer_encoding;
	unsigned transfer_codings;
	unsigned transfer_chunked; /* those that are "chunked" */
	bool ends_in_chunked;      /* the last one is */

	/* The field line being read. */
	unsigned fields;                /* its number, from 1 */
	unsigned field;                 /* enum http_field */
	char name[HTTP_NAME_MAX_BYTES]; /* complete if `name_len` fits */
	size_t name_len;
};

/* Forgets the parts; keeps the memory unless it is large. */
void http_head_clear(struct http_head *head);
void http_head_fini(struct http_head *head);

/* The parts in the order they come in, each in one or more pieces. Those that
 * return something return 0 or error->status. */
int http_head_add_target(struct http_head *head, const char *at, size_t len,
			 struct http_error *error);
void http_head_add_name(struct http_head *head, const char *at, size_t len);
int http_head_end_name(struct http_head *head, struct http_error *error);
int http_head_add_value(struct http_head *head, const char *at, size_t len,
			struct http_error *error);
void http_head_end_value(struct http_head *head);

/* The value of the one line of `field` among those that are complete; absent if
 * there is none, or there are several. */
struct span http_head_find(const struct http_head *head, enum http_field field);

/* After the head was found bad: looks for Origin in its unread `rest`, which
 * begins with a line and ends at the empty line or earlier. Only whole lines
 * count. */
void http_head_look_ahead(struct http_head *head, struct span rest);

/* Whether what comes next belongs to the value of Content-Length or
 * Transfer-Encoding. */
bool http_head_is_in_framing(const struct http_head *head);

/* Completes `r`, whose method, minor_version, has_content_length,
 * content_length and is_chunked say what the parser found; its spans lie in
 * `head` then. Returns 0 or error->status. */
int http_head_make_request(struct http_head *head, struct http_request *r,
			   struct http_error *error);

/* `s` without spaces and tabs around it (RFC 9110 5.6.3). */
struct span http_trim(struct span s);

#endif
