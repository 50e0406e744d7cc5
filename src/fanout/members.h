/* members.h - a topic's subscribers, for the files of the folder, from the
 * bottom up; each uses only those above it here:
 *
 * members.c    the subscribers of a topic
 * chunks.c     messages in the forms that they are sent
 * lossy.c      messages to those that may lose some
 * replay.c     history to those that are behind
 * subscribe.c  who subscribes, and who leaves
 * deliver.c    messages to all of them
 */
#ifndef ISIMUD_FANOUT_MEMBERS_H
#define ISIMUD_FANOUT_MEMBERS_H

#include "base/check.h"
#include "fanout/subscribers.h"
#include "topics/encode.h"

/* Subscribers that are sent the same bytes stand together, by form, so that
 * what is theirs needs no look at what each of them is. The others are looked
 * at one by one: cursors and what may be lost differ. */
#define GROUP_SINGLE MESSAGE_FORMS
/* Those that are behind: nothing is delivered to them. */
#define GROUP_BEHIND (GROUP_SINGLE + 1)
#define GROUPS       (GROUP_BEHIND + 1)

/* What is longer is sent without a copy. */
#define JOIN_MAX_BYTES 16384

struct local_topic {
	struct topic *topic; /* NULL once the registry has forgotten us */
	struct subscriber **members; /* group behind group */
	uint32_t ends[GROUPS];       /* where each ends there */
	uint32_t cap;
	/* Messages posted for it that were taken from the mailbox, ever; once
	 * `topic` is NULL it is freed when they are all that ever were. */
	uint64_t taken;
	uint64_t posted;
	/* What was taken for it and is not sent yet, and the next topic that
	 * has something. */
	struct message *first;
	struct message **end;
	struct local_topic *next;
};

static inline uint32_t local_topic_count(const struct local_topic *local)
{
	return local->ends[GROUP_BEHIND];
}

/* A subscription that may lose messages (subscribers_lossy_new). */
struct lossy {
	struct subscriber subscriber;
	/* The bytes that wait in all lossy subscriptions of the connection:
	 * the caller's. */
	size_t *shared_bytes;
	struct message **waiting; /* a ring; a reference each */
	uint32_t head;
	uint32_t count;
	uint32_t cap;
	size_t bytes;      /* of those, as raw messages */
	uint64_t gap_from; /* dropped before the oldest that waits; 0: none */
	uint64_t gap_to;
};

static inline struct lossy *lossy_of(struct subscriber *s)
{
	return CONTAINER_OF(s, struct lossy, subscriber);
}

/* What is kept for one subscriber while it is behind. */
struct replay {
	struct list link; /* in subscribers.turns, or in none */
	struct subscriber *subscriber;
	uint64_t since; /* it has got what is up to it */
};

static inline uint64_t replay_since(const struct replay *replay)
{
	return replay->since;
}

/* Whether it is sent without a copy. */
static inline bool message_is_long(const struct message *m)
{
	return m->frame_len > JOIN_MAX_BYTES;
}

/* --- members.c ------------------------------------------------------------ */

/* Without members; NULL without memory. */
struct local_topic *local_topic_new(void);
void local_topic_free(struct local_topic *local);
/* What forms of its messages are made from; while it has a subscriber. */
struct message_source local_topic_source(const struct subscribers *all,
					 const struct local_topic *local);
/* Makes room for one member more. Returns 0 or UV_ENOMEM. */
int local_topic_reserve(struct local_topic *local);
/* Puts `s` into its group, and takes it out; there is room. */
void local_topic_insert(struct local_topic *local, struct subscriber *s);
void local_topic_take_out(struct local_topic *local,
			  const struct subscriber *s);

/* --- chunks.c ------------------------------------------------------------- */

/* A chunk with a copy of `bytes`; NULL without memory. */
struct chunk *subscribers_chunk_of_copy(const void *bytes, size_t len);
/* A chunk of a message in a form: its own bytes where it is long and has them,
 * or may keep them; else others. NULL without memory. */
struct chunk *subscribers_chunk_of(struct subscribers *all, struct message *m,
				   enum message_form form,
				   const struct message_source *source);
/* The same of an event (either form) without its first line, the id. */
struct chunk *subscribers_body_of(struct subscribers *all, struct message *m,
				  enum message_form form,
				  const struct message_source *source);
/* Sends that, `body`, behind an id with the cursor of `s`, which counts the
 * message already: both, or nothing. `body` NULL: memory is missing. */
void subscribers_send_event(struct subscribers *all, const struct subscriber *s,
			    struct chunk *body);
/* Counts what was compressed since the last call. Returns whether anything was:
 * the clock is to be looked at. */
bool subscribers_count_deflated(struct subscribers *all);

/* --- lossy.c -------------------------------------------------------------- */

/* Sends `m`, or lets it wait, or drops something. */
void subscribers_offer(struct subscribers *all, struct lossy *l,
		       struct message *m);
/* Gives up all that waits. */
void subscribers_forget(struct lossy *l);

/* --- replay.c ------------------------------------------------------------- */

/* Makes what is kept for one that is behind and has got what is up to `since`.
 * NULL without memory. */
struct replay *replay_new(struct subscriber *s, uint64_t since);
void replay_free(struct replay *replay);
/* Moves one that is behind to where messages are delivered to it: it has got
 * what is up to `since`. */
void subscribers_go_live(struct subscribers *all, struct subscriber *s,
			 uint64_t since);

#endif
