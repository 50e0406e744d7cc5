/* reading.c - the reading side of a connection: its states, the stash of unused
 * bytes, and turns. read.c knows what the bytes mean. */
#include "base/check.h"
#include "conn/private.h"

#include <stdlib.h>
#include <sys/socket.h>

/* A turn ends after so many requests and messages, */
#define TURN_UNITS 128
/* or after so long; the clock is read only now and then, since short turns are
 * many. */
#define TURN_NS    1000000
#define TURN_CLOCK 8

/* The drawing of private.h as a table: a bit for each state that may follow. */
#define TO(reading) (1u << READING_##reading)
static const unsigned allowed[READING_COUNT] = {
	[READING_NOT_BEGUN] = TO(FLOWING),
	[READING_FLOWING] = TO(IN_LINE) | TO(BLOCKED) | TO(HELD),
	[READING_IN_LINE] = TO(FLOWING) | TO(BLOCKED) | TO(HELD),
	[READING_BLOCKED] = TO(FLOWING) | TO(IN_LINE),
	[READING_HELD] = TO(FLOWING) | TO(IN_LINE),
};

static void move_reading(struct conn *c, enum conn_reading to)
{
	CHECK(allowed[c->reading] & (1u << to));
	if (c->reading == READING_FLOWING)
		uv_read_stop(&c->stream);
	c->reading = (uint8_t)to;
	if (to == READING_FLOWING &&
	    uv_read_start(&c->stream, c->group->on_alloc, c->group->on_read) !=
		    0)
		conn_end_later(c, CLOSE_REASON_peer_gone);
}

void conn_start_reading(struct conn *c)
{
	move_reading(c, READING_FLOWING);
}

void conn_restart_reading(struct conn *c)
{
	conn_drop_stash(c);
	conn_account(c);
	if (c->reading == READING_FLOWING)
		move_reading(c, READING_IN_LINE);
	move_reading(c, READING_FLOWING);
}

/* --- the stash ------------------------------------------------------------ */

void conn_keep(struct conn *c, struct span bytes)
{
	struct stash *s = c->stash;

	/* A WebSocket may have read ahead. */
	if (bytes.len == 0 && c->websocket == NULL) {
		conn_drop_stash(c);
		return;
	}
	if (s != NULL) {
		s->used = s->len - bytes.len;
		return;
	}
	s = malloc(sizeof *s + bytes.len);
	if (s == NULL) {
		conn_end_later(c, CLOSE_REASON_no_memory);
		return;
	}
	*s = (struct stash){.conn = c, .len = bytes.len};
	list_init(&s->link);
	if (bytes.len > 0)
		memcpy(s->bytes, bytes.bytes, bytes.len);
	c->stash = s;
}

void conn_drop_stash(struct conn *c)
{
	if (c->stash == NULL)
		return;
	list_remove(&c->stash->link);
	free(c->stash);
	c->stash = NULL;
}

/* --- turns ---------------------------------------------------------------- */

void conn_begin_turn(struct conn *c)
{
	c->group->turn = (struct conn_turn){.conn = c};
}

void conn_count_unit(struct conn *c)
{
	struct conn_turn *turn = &c->group->turn;

	turn->units++;
	if (turn->units >= TURN_UNITS)
		turn->is_over = true;
	if (turn->units % TURN_CLOCK != 0)
		return;
	uint64_t now_ns = uv_hrtime();
	if (turn->until_ns == 0)
		turn->until_ns = now_ns + TURN_NS;
	if (now_ns > turn->until_ns)
		turn->is_over = true;
}

bool conn_is_turn_over(const struct conn *c)
{
	return c->group->turn.is_over;
}

void conn_get_in_line(struct conn *c)
{
	if (c->reading != READING_IN_LINE)
		move_reading(c, READING_IN_LINE);
	if (c->stash != NULL)
		list_append(&c->group->line, &c->stash->link);
	else
		move_reading(c, READING_FLOWING);
}

static bool is_in_line(const struct conn *c)
{
	return c->stash != NULL && !list_is_empty(&c->stash->link);
}

/* If it does not wait for anything, all bytes were used. */
void conn_end_turn(struct conn *c)
{
	c->group->turn = (struct conn_turn){0};
	if (c->state == CONN_CLOSED || c->reading != READING_IN_LINE ||
	    is_in_line(c))
		return;
	conn_drop_stash(c);
	move_reading(c, READING_FLOWING);
	conn_check_deadline(c);
}

/* --- waiting -------------------------------------------------------------- */

void conn_block(struct conn *c, struct span bytes)
{
	conn_keep(c, bytes);
	move_reading(c, READING_BLOCKED);
	conn_set_request_deadline(c);
}

/* Whether the reason for being BLOCKED is over. */
static bool may_read_on(const struct conn *c)
{
	if (conn_reads_requests(c))
		return !conn_has_too_many_answers(c);
	return c->state != CONN_PENDING;
}

void conn_unblock(struct conn *c)
{
	if (c->reading != READING_BLOCKED || !may_read_on(c))
		return;
	/* There was none while the answer was pending. */
	if (conn_reads_requests(c))
		conn_set_request_deadline(c);
	conn_get_in_line(c);
}

void conn_pause(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->state != CONN_WEBSOCKET || c->reading == READING_HELD)
		return;
	if (is_in_line(c))
		list_remove(&c->stash->link);
	move_reading(c, READING_HELD);
}

void conn_resume(struct conn *c)
{
	CHECK_ON_THREAD(c->group->owner);
	if (c->reading != READING_HELD)
		return;
	if (c->group->turn.conn == c)
		move_reading(c, READING_IN_LINE); /* its turn goes on */
	else
		conn_get_in_line(c);
}

bool conn_has_unread(const struct conn *c)
{
	uv_os_fd_t fd;
	char byte;

	if (c->state == CONN_REQUEST && c->reading == READING_IN_LINE)
		return true;
	return c->state == CONN_REQUEST && c->reading == READING_FLOWING &&
	       uv_fileno(&c->handle, &fd) == 0 &&
	       recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}
