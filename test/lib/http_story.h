/* http_story.h - what a reader of requests tells, written down: any two
 * ways of cutting the same bytes must tell the same. */
#ifndef ISIMUD_TEST_HTTP_STORY_H
#define ISIMUD_TEST_HTTP_STORY_H

#include "codec/http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "oom.h"

#define CONTENT_MAX_BYTES 1000

#define RANDOM_ROUNDS 20

/* Of a method, and of a field in small letters, as the story has them. */
extern const char *const method_names[];
extern const char *const field_names[HTTP_FIELD_COUNT];

void add(struct buf *log, const char *text);

void add_span(struct buf *log, const char *name, struct span s);

/* HEAD METHOD PATH, then whatever is not as in the plainest request. */
void add_head(struct buf *log, const struct http_request *r);

/* Between head and end of a request nothing but the content changes. */
void check_head_again(const struct buf *log, const struct http_request *r);

void add_event(struct buf *log, const struct http *h, enum http_event event);

/* Reads one piece, which lies alone in memory of its own. Returns false once
 * the request is bad. */
bool feed_piece(struct http *h, const char *bytes, size_t len, struct buf *log);

enum cut {
	WHOLE,
	BYTES,
	RANDOM,
};

size_t piece_len(enum cut cut, size_t left);

void feed(struct http *h, const char *bytes, size_t len, enum cut cut,
	  struct buf *log);

void expect_cut(const char *bytes, size_t len, enum cut cut,
		const char *expected);

void story_expect_bytes(const char *bytes, size_t len, const char *expected);

void expect(const char *text, const char *expected);

/* A GET with Host and one further field line, or none. */
void expect_field(const char *line, const char *expected);

/* Text that is made of parts and of runs of one character. */
void add_run(struct buf *b, char c, size_t count);

#endif
