/* members.h - a topic's subscribers, for the files of the room:
 *
 * subscribers.c  who has subscribed
 * deliver.c      messages to all of them
 * lossy.c        messages to those that may lose some
 */
#ifndef ISIMUD_FANOUT_MEMBERS_H
#define ISIMUD_FANOUT_MEMBERS_H

#include "fanout/subscribers.h"

/* Subscribers that are sent the same bytes stand together, by form, so that
 * what is theirs needs no look at what each of them is. The others are looked
 * at one by one: cursors and what may be lost differ. */
#define GROUP_SINGLE MESSAGE_FORMS
#define GROUPS       (GROUP_SINGLE + 1)

struct local_topic {
	struct topic *topic; /* NULL once the registry has forgotten us */
	struct subscriber **members; /* group behind group */
	uint32_t ends[GROUPS];       /* where each ends there */
	uint32_t cap;
	/* Messages posted for it that were taken from the mailbox, ever; once
	 * `topic` is NULL it is freed when they are all that ever were. */
	uint64_t taken;
	uint64_t posted;
	/* During subscribers_deliver(): what is for it, and the next topic that
	 * has something. */
	struct message *first;
	struct message **end;
	struct local_topic *next;
};

static inline uint32_t local_topic_count(const struct local_topic *local)
{
	return local->ends[GROUP_SINGLE];
}

/* subscribers.c */
void local_topic_free(struct local_topic *local);
/* What forms of its messages are made from; while it has a subscriber. */
struct message_source local_topic_source(const struct subscribers *all,
					 const struct local_topic *local);

/* deliver.c */
/* Sends one message to one subscriber, in its form. */
void subscribers_send(struct subscribers *all, struct subscriber *s,
		      struct message *m);

/* lossy.c */
/* Sends `m`, or lets it wait, or drops something. */
void subscribers_offer(struct subscribers *all, struct lossy *l,
		       struct message *m);
/* Gives up all that waits. */
void subscribers_forget(struct lossy *l);

#endif
