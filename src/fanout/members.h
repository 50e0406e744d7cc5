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

/* Subscribers that are sent the same bytes stand together, in a group for each
 * form, so that nothing has to be decided for each. Those in GROUP_SINGLE are
 * sent to one by one: their cursors, or losses, differ. */
#define GROUP_SINGLE MESSAGE_FORMS
/* Subscribers that are behind: nothing is delivered to them. */
#define GROUP_BEHIND (GROUP_SINGLE + 1)
#define GROUPS       (GROUP_BEHIND + 1)

/* Longer messages are sent without a copy. */
#define JOIN_MAX_BYTES 16384

struct local_topic {
	struct topic *topic;         /* NULL once this worker has left it */
	struct subscriber **members; /* group behind group */
	uint32_t ends[GROUPS];       /* where each group ends there */
	uint32_t cap;
	/* How many messages were taken from the mailbox for it, ever; and, once
	 * `topic` is NULL, how many were posted: when both are equal, it is
	 * freed. */
	uint64_t taken;
	uint64_t posted;
	/* Messages that were taken for it and are not sent yet; and the next
	 * topic that has some. */
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

/* The state of a subscriber while it is behind. */
struct replay {
	struct list link; /* in subscribers.turns, or in none */
	struct subscriber *subscriber;
	uint64_t since; /* it has got all messages up to this number */
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
/* The source of the forms of its messages, while it has a subscriber. */
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
/* A chunk of a message in a form: a long message's own bytes if it has, or may
 * keep, that form; else a copy. NULL without memory. */
struct chunk *subscribers_chunk_of(struct subscribers *all, struct message *m,
				   enum message_form form,
				   const struct message_source *source);
/* The same of an event (either form) without its first line, the id. */
struct chunk *subscribers_body_of(struct subscribers *all, struct message *m,
				  enum message_form form,
				  const struct message_source *source);
/* Sends an event: an id with the cursor of `s`, which counts the message
 * already, then `body`; both, or nothing. `body` NULL: memory was missing. */
void subscribers_send_event(struct subscribers *all, const struct subscriber *s,
			    struct chunk *body);
/* Adds what was compressed since the last call to the counters. Returns whether
 * anything was: then the caller looks at the clock. */
bool subscribers_count_deflated(struct subscribers *all);

/* --- lossy.c -------------------------------------------------------------- */

/* Sends `m`, or lets it wait, or drops the oldest. */
void subscribers_offer(struct subscribers *all, struct lossy *l,
		       struct message *m);
/* Drops all messages that wait. */
void subscribers_forget(struct lossy *l);

/* --- replay.c ------------------------------------------------------------- */

/* Makes the state of a subscriber that is behind and has got all messages up to
 * `since`. NULL without memory. */
struct replay *replay_new(struct subscriber *s, uint64_t since);
void replay_free(struct replay *replay);
/* A subscriber is not behind any more, and has got all messages up to `since`:
 * from now on messages are delivered to it. */
void subscribers_go_live(struct subscribers *all, struct subscriber *s,
			 uint64_t since);

#endif
