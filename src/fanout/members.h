/* members.h - a topic's subscribers, for the files of the room:
 *
 * subscribers.c  who has subscribed
 * deliver.c      messages to all of them
 * replay.c       history to those that are behind
 * lossy.c        messages to those that may lose some
 */
#ifndef ISIMUD_FANOUT_MEMBERS_H
#define ISIMUD_FANOUT_MEMBERS_H

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

/* subscribers.c */
/* Counts what was compressed since the last call. Returns whether anything was:
 * the clock is to be looked at. */
bool subscribers_count_deflated(struct subscribers *all);
void local_topic_free(struct local_topic *local);
/* What forms of its messages are made from; while it has a subscriber. */
struct message_source local_topic_source(const struct subscribers *all,
					 const struct local_topic *local);

/* Moves one that is behind to where messages are delivered to it: it has got
 * what is up to `since`. */
void subscribers_go_live(struct subscribers *all, struct subscriber *s,
			 uint64_t since);

/* The topic has begun anew behind number `base`: all are told. */
void subscribers_reset(struct subscribers *all, struct local_topic *local,
		       uint64_t base);

/* deliver.c */
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

/* replay.c */
/* Makes what is kept for one that is behind and has got what is up to `since`.
 * NULL without memory. */
struct replay *replay_new(struct subscriber *s, uint64_t since);
uint64_t replay_since(const struct replay *replay);
void replay_free(struct replay *replay);

/* lossy.c */
/* Sends `m`, or lets it wait, or drops something. */
void subscribers_offer(struct subscribers *all, struct lossy *l,
		       struct message *m);
/* Gives up all that waits. */
void subscribers_forget(struct lossy *l);

#endif
