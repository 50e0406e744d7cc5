/* mailbox.h - the only way to another thread's loop.
 *
 * Many threads post, one worker takes, in the order of posting: it detaches
 * what was posted under the lock and handles it after. Messages are taken all
 * at once; sockets and notes some at a time, so that no wake-up has many of
 * them. The loop is woken only when the mailbox was empty: libuv merges
 * wake-ups, so they can't be counted (uv_async_send).
 *
 * Bounds: messages by `max_bytes` of memory, which posters check first
 * (mailbox_has_room); several may exceed it together, since checking and
 * posting are two steps. A poster of several messages reserves room for all
 * (mailbox_reserve). Sockets are bounded by descriptors, notes by those who
 * post them. Threads: posting, any; the rest, the worker that owns the loop.
 * Its lock is a leaf (base/lock.h). */
#ifndef ISIMUD_TOPICS_MAILBOX_H
#define ISIMUD_TOPICS_MAILBOX_H

#include "base/lock.h"
#include "config/listener.h"
#include "topics/message.h"

#include <stdbool.h>
#include <uv.h>

/* Things to do that need no data; a bit each, merged until taken. */
enum mailbox_order {
	MAILBOX_STOP = 1,       /* end all connections, then the loop; taken
				   with the last of what was posted before */
	MAILBOX_DUMP = 2,       /* log what the worker has */
	MAILBOX_DRAIN = 4,      /* end all connections, spread over time */
	MAILBOX_RELIEVE = 8,    /* memory is scarce: end the worst laggards */
	MAILBOX_ABORT = 16,     /* end all connections without a word */
	MAILBOX_HANG = 32,      /* debug builds: stand still, for a test */
	MAILBOX_MAKE_ROOM = 64, /* there are more connections than there may be
				 */
};

/* A note for a worker: the start of a heap block that the poster gives away.
 * free() must be enough to free it. */
struct mailbox_note {
	struct mailbox_note *next;
	enum {
		MAILBOX_NOTE_AUTH,      /* a struct auth_cache_note */
		MAILBOX_NOTE_PUBLISHED, /* a struct bus_request */
	} kind;
};

/* Sockets, and notes, that are taken at once. */
#define MAILBOX_SOME 64

/* What was taken. */
struct mail {
	struct message *messages; /* first, along links[worker].next; each holds
				     a reference, now the taker's */
	size_t messages_count;
	const struct accepted *sockets; /* descriptors, now the taker's; lie in
			 memory that is the mailbox's until the next take */
	size_t sockets_count;
	struct mailbox_note *notes; /* first; now the taker's */
	unsigned orders;
};

struct mailbox {
	struct lock lock;
	uv_async_t async;
	uv_thread_t owner;       /* Immutable after mailbox_set_owner() */
	bool has_owner;          /* the same */
	unsigned worker;         /* Immutable: the index of its links */
	size_t max_bytes;        /* Immutable */
	_Atomic size_t bytes;    /* of the messages inside, as allocated */
	_Atomic size_t reserved; /* reserved for messages to come; for a moment,
				  * of both */
	_Atomic bool is_waiting; /* there is something to take */
	/* Guarded by `lock`. */
	struct message *first;
	struct message **end;
	size_t count;
	struct mailbox_note *first_note;
	struct mailbox_note **notes_end;
	unsigned orders;
	bool is_closed;
	struct accepted *sockets;
	size_t sockets_count;
	size_t sockets_cap;
	/* Owner: `owner`. What the last take gave out. */
	struct accepted taken[MAILBOX_SOME];
};

/* `on_wake` is called on the loop after a post to an empty mailbox; it may do
 * nothing if the worker takes its mail before each poll. Returns 0 or a
 * UV_E…. */
int mailbox_open(struct mailbox *m, uv_loop_t *loop, unsigned worker,
		 size_t max_bytes, uv_async_cb on_wake);

/* Says which thread runs the loop, and alone takes mail: its own posts need no
 * wake-up, since it takes its mail before it sleeps. Called on that thread,
 * before any post. */
void mailbox_set_owner(struct mailbox *m);

/* Closes the handle; drops all that is inside (closes sockets). Nobody may post
 * any more, except orders and notes, which are dropped. Call mailbox_fini()
 * after the loop has run the close callback and no other thread posts. */
void mailbox_close(struct mailbox *m);
void mailbox_fini(struct mailbox *m);

/* Whether a message of `size` bytes is within `max_bytes`, or the mailbox is
 * empty of messages. */
bool mailbox_has_room(struct mailbox *m, size_t size);

/* The same; and if so, reserves the bytes, until mailbox_unreserve() after the
 * messages were posted. */
bool mailbox_reserve(struct mailbox *m, size_t size);
void mailbox_unreserve(struct mailbox *m, size_t size);

/* Posts `message` for `member`; takes one reference of the caller's. A message
 * is posted at most once to each worker. */
void mailbox_post_message(struct mailbox *m, void *member,
			  struct message *message);

/* Posts accepted sockets: `count` of an array, each `stride` behind the one
 * before. Returns 0 (the mailbox has them), or UV_ENOMEM (they are still the
 * caller's). */
int mailbox_post_sockets(struct mailbox *m, const struct accepted *sockets,
			 size_t count, size_t stride);

static inline int mailbox_post_socket(struct mailbox *m, struct accepted socket)
{
	return mailbox_post_sockets(m, &socket, 1, 1);
}

void mailbox_post_order(struct mailbox *m, enum mailbox_order order);

/* Takes `note`; a closed mailbox frees it. Never fails. */
void mailbox_post_note(struct mailbox *m, struct mailbox_note *note);

/* Whether there is something to take. */
bool mailbox_is_waiting(const struct mailbox *m);

/* Takes all there is, but of sockets and notes MAILBOX_SOME at most; then there
 * still is something to take, and no post wakes the loop. Returns false, `mail`
 * then empty, if there is nothing. */
bool mailbox_take(struct mailbox *m, struct mail *mail);

/* The same, but messages stay inside, where they count against `max_bytes`. */
bool mailbox_take_but_messages(struct mailbox *m, struct mail *mail);

#endif
