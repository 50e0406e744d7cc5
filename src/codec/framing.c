/* framing.c - see framing.h. */
#include "codec/framing.h"

#include "base/check.h"
#include "codec/http/http.h"
#include "codec/websocket.h"

#define OPCODE_TEXT 1

_Static_assert(WEBSOCKET_HEADER_MAX <= FRAMING_START_MAX, "a frame has room");
_Static_assert(HTTP_CHUNK_START_MAX <= FRAMING_START_MAX, "a chunk has room");
_Static_assert(sizeof HTTP_CHUNK_END - 1 <= FRAMING_END_MAX, "so has its end");

static size_t write_frame_header(char *end, size_t len)
{
	return websocket_write_header((uint8_t *)end, OPCODE_TEXT, len);
}

static size_t write_nothing(char *end, size_t len)
{
	(void)end;
	(void)len;
	return 0;
}

static const struct {
	size_t (*write_start)(char *end, size_t len);
	struct span end;
	struct span last;
} rows[FRAMINGS] = {
	[FRAMING_TEXT] = {write_frame_header, {"", 0}, {"", 0}},
	[FRAMING_CHUNK] = {http_write_chunk_start,
			   {HTTP_CHUNK_END, sizeof HTTP_CHUNK_END - 1},
			   {HTTP_LAST_CHUNK, sizeof HTTP_LAST_CHUNK - 1}},
	[FRAMING_BARE] = {write_nothing, {"", 0}, {"", 0}},
};

size_t framing_write_start(enum framing framing, char *end, size_t len)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].write_start(end, len);
}

struct span framing_end(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].end;
}

struct span framing_last(enum framing framing)
{
	CHECK(framing < FRAMINGS);
	return rows[framing].last;
}
