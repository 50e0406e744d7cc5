/* frames.h - streams of frames, and what a reader tells of them. */
#ifndef ISIMUD_TEST_FRAMES_H
#define ISIMUD_TEST_FRAMES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/deflate.h"
#include "codec/websocket.h"

#define LIMIT 65536 /* of a message, where a test names no other */

#define SPLITS 20 /* random ones */

#define TEXT 0x1 /* opcodes (5.2) */

#define BINARY 0x2

#define CLOSE 0x8

#define PING 0x9

#define PONG 0xa

#define FIN 0x80

#define RSV1 0x40

#define STOP "stop" /* frame_on_message answers this text with 1008 */

#define BYTES(s) (s), sizeof(s) - 1

void put(struct buf *b, const void *bytes, size_t len);

/* The header of a masked frame, in the shortest form. */
void put_header(struct buf *b, unsigned first, size_t len);

/* A frame; `first` is its first byte: FIN, reserved bits, opcode. */
void frame_put_frame(struct buf *b, unsigned first, const void *payload,
		     size_t len);

/* What was told, as `text:hello;`, `binary:...;`, `reply:...;`. */
struct record {
	struct buf events;
	struct websocket_result result;
	bool was_idle;   /* at the end */
	size_t read_len; /* up to and with the piece that came to an end */
};

void put_event(struct buf *events, const char *kind, struct span bytes);

unsigned frame_on_message(void *user, bool is_text, struct span message);

void on_reply(void *user, struct span frame);

static const struct websocket_handler handler = {frame_on_message, on_reply};

/* The next piece's length: of the whole, of one byte, of a random number. */
size_t frame_piece_len(unsigned split, size_t left);

/* Whether permessage-deflate was agreed. */
extern struct inflater *inflater;

struct record read_split(struct span in, size_t limit, unsigned split);

/* An expected end, and how many of the bytes it takes to be certain of it. */
struct expected {
	int outcome;
	unsigned code;
	size_t certain; /* 0: do not ask */
};

void assert_record(const struct record *r, struct span events,
		   const struct expected *e);

/* Feeds `in`, and frees it. */
void assert_comes_to(struct buf *in, size_t limit, struct span events,
		     struct expected e);

void assert_events(struct buf *in, struct span events);

void assert_fails(struct buf *in, struct span events, unsigned code);

void assert_closed(struct buf *in, struct span events, unsigned code);

#endif
