/* framing.c - see framing.h. */
#include "codec/framing.h"

#include "base/check.h"
#include "codec/http/http.h"
#include "codec/websocket.h"

#define OPCODE_TEXT 1
#define RSV1        0x40 /* in the first byte of a frame (RFC 6455 5.2) */

_Static_assert(WEBSOCKET_HEADER_MAX <= FRAMING_START_MAX, "a frame has room");
_Static_assert(HTTP_CHUNK_START_MAX + DEFLATE_STORED_OVERHEAD <=
		       FRAMING_START_MAX,
	       "a chunk has room");
_Static_assert(DEFLATE_FLUSH_LEN + sizeof HTTP_CHUNK_END - 1 <= FRAMING_END_MAX,
	       "so has its end");

static size_t write_text_header(char *end, size_t len)
{
	return websocket_write_header((uint8_t *)end, OPCODE_TEXT, len);
}

static size_t write_deflated_header(char *end, size_t len)
{
	return websocket_write_header((uint8_t *)end, RSV1 | OPCODE_TEXT, len);
}

/* A chunk with one stored block, and the empty one behind it. */
static size_t write_stored_start(char *end, size_t len)
{
	char *p = end - DEFLATE_STORED_OVERHEAD;

	deflate_write_stored_head((uint8_t *)p, len);
	return DEFLATE_STORED_OVERHEAD +
	       http_write_chunk_start(p, DEFLATE_STORED_OVERHEAD + len +
						 DEFLATE_FLUSH_LEN);
}

static size_t write_nothing(char *end, size_t len)
{
	(void)end;
	(void)len;
	return 0;
}

#define NO_END                                                                 \
	{                                                                      \
		"", 0                                                          \
	}
#define CHUNK_END                                                              \
	{                                                                      \
		HTTP_CHUNK_END, sizeof HTTP_CHUNK_END - 1                      \
	}
#define LAST                                                                   \
	{                                                                      \
		HTTP_LAST_CHUNK, sizeof HTTP_LAST_CHUNK - 1                    \
	}
#define FLUSH_END                                                              \
	{                                                                      \
		FLUSHED_CHUNK_END, sizeof FLUSHED_CHUNK_END - 1                \
	}

#define FLUSHED_CHUNK_END DEFLATE_FLUSH HTTP_CHUNK_END

static const struct {
	enum framing plain;
	bool is_websocket;
	size_t unit_max;
	size_t (*write_start)(char *end, size_t len);
	struct span end;
	struct span last;
	/* Where something may be compressed: */
	size_t (*write_compressed_start)(char *end, size_t len);
	struct span compressed_end;
	enum deflate_window window;
} rows[FRAMINGS] = {
	[FRAMING_TEXT] = {FRAMING_TEXT, true, UINT32_MAX, write_text_header,
			  NO_END, NO_END, NULL, NO_END, DEFLATE_WINDOW_FULL},
	[FRAMING_DEFLATED] = {FRAMING_TEXT, true, UINT32_MAX, write_text_header,
			      NO_END, NO_END, write_deflated_header, NO_END,
			      DEFLATE_WINDOW_FULL},
	[FRAMING_DEFLATED_SMALL] = {FRAMING_TEXT, true, UINT32_MAX,
				    write_text_header, NO_END, NO_END,
				    write_deflated_header, NO_END,
				    DEFLATE_WINDOW_SMALL},
	[FRAMING_CHUNK] = {FRAMING_CHUNK, false, UINT32_MAX,
			   http_write_chunk_start, CHUNK_END, LAST, NULL,
			   NO_END, DEFLATE_WINDOW_FULL},
	[FRAMING_GZIP] = {FRAMING_CHUNK, false, DEFLATE_STORED_MAX,
			  write_stored_start, FLUSH_END, LAST,
			  http_write_chunk_start, CHUNK_END,
			  DEFLATE_WINDOW_FULL},
	[FRAMING_BARE] = {FRAMING_BARE, false, UINT32_MAX, write_nothing,
			  NO_END, NO_END, NULL, NO_END, DEFLATE_WINDOW_FULL},
};

enum framing framing_plain(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].plain;
}

enum deflate_window framing_window(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].window;
}

bool framing_is_websocket(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].is_websocket;
}

size_t framing_unit_max(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].unit_max;
}

size_t framing_write_start(enum framing framing, char *end, size_t len)
{
	CHECK(len <= framing_unit_max(framing));
	return rows[framing].write_start(end, len);
}

size_t framing_write_compressed_start(enum framing framing, char *end,
				      size_t len)
{
	CHECK(framing_may_compress(framing));
	return rows[framing].write_compressed_start(end, len);
}

struct span framing_end(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].end;
}

struct span framing_compressed_end(enum framing framing)
{
	CHECK(framing_may_compress(framing));
	return rows[framing].compressed_end;
}

struct span framing_last(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].last;
}
