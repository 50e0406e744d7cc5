/* test_epochs.c - subscribers are told that their topics began anew
 * (subscribers.h) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fanout/members.h"
#include "fanout/subscribers.h"
#include "loopback.h"
#include "topics/encode.h"

#include "office.h"

#define READERS       60
#define SUBSCRIPTIONS (SIBLINGS + 2) /* of a reader */
#define HISTORY_SIZE  8

static unsigned resets;

static void on_reset(struct subscribers *all, struct subscriber *s)
{
	assert_int_equal(s->parity, all->parity);
	resets++;
}

static int set_up_epochs(void **state)
{
	int rv = set_up_with(state, HISTORY_SIZE);
	struct office *o = *state;

	resets = 0;
	for (unsigned w = 0; w < WORKERS; w++)
		o->subscribers[w].on_reset = on_reset;
	return rv;
}

static void renew(struct office *o, uint64_t base)
{
	registry_renew(o->registry, registry_epoch(o->registry) + 1, base);
}

static int add_to(struct reader *r, struct subscriber *s, const char *topic,
		  const struct subscribers_resume *resume)
{
	struct topic_key key = key_of(topic);

	return subscribers_add(r->member->all, s, r->conn, &key, resume, NULL);
}

static struct message *take_messages(struct office *o)
{
	struct mail mail;

	assert_true(mailbox_take(&o->mailboxes[0], &mail));
	assert_non_null(mail.messages);
	return mail.messages;
}

/* One connection that subscribes to one topic again and again. */
static struct reader subscribe_often(struct office *o, const char *topic)
{
	struct reader r = subscribe(o, 0, topic);

	for (unsigned i = 0; i < SIBLINGS; i++)
		assert_int_equal(
			add_to(&r, &r.member->siblings[i], topic, NULL), 0);
	r.member->lossy[0] =
		subscribers_lossy_new(MESSAGE_V1, &r.member->lossy_bytes);
	assert_non_null(r.member->lossy[0]);
	assert_int_equal(add_to(&r, r.member->lossy[0], topic, NULL), 0);
	return r;
}

static void all_are_told_once_and_in_rounds(void **state)
{
	struct office *o = *state;
	struct subscribers *all = &o->subscribers[0];
	struct reader readers[READERS];
	struct reader late = connect_reader(o, 0, false);
	unsigned left = 0;

	for (unsigned i = 0; i < READERS; i++)
		readers[i] = subscribe_often(o, "big");
	renew(o, 100);
	/* There is no time at all. */
	assert_false(subscribers_deliver(all, take_messages(o), 0));
	assert_in_range(resets, 1, READERS * SUBSCRIPTIONS - 1);
	/* Who leaves in the middle is replaced by another. */
	for (unsigned i = 0; i < READERS; i += 7) {
		left += readers[i].member->subscriber.parity != all->parity;
		office_leave(&readers[i]);
	}
	assert_int_equal(add_to(&late, &late.member->subscriber, "big", NULL),
			 UV_EAGAIN);
	while (!subscribers_deliver(all, NULL, 0))
		;
	assert_int_equal(resets, READERS * SUBSCRIPTIONS - left);
	assert_int_equal(add_to(&late, &late.member->subscriber, "big", NULL),
			 0);
	publish_nth(o, "big", 101);
	deliver(o, 0);
	expect_from_to(o, &late, "big", 101, 101);
}

static void what_comes_behind_a_reset_waits_for_it(void **state)
{
	struct office *o = *state;
	struct subscribers *all = &o->subscribers[0];
	struct reader readers[READERS];
	struct reader other = subscribe(o, 0, "other");

	for (unsigned i = 0; i < READERS; i++)
		readers[i] = subscribe_often(o, "big");
	renew(o, 100);
	struct message *mail = take_messages(o);
	assert_false(subscribers_deliver(all, mail, 0));
	publish_nth(o, "big", 101);
	publish_nth(o, "other", 101);
	assert_false(subscribers_deliver(all, take_messages(o), 0));
	while (!subscribers_deliver(all, NULL, 0))
		;
	assert_int_equal(resets, READERS * SUBSCRIPTIONS + 1);
	expect_from_to(o, &other, "other", 101, 101);
	assert_int_equal(readers[READERS - 1].member->subscriber.since, 100);
}

/* The mailbox may be read while only some topics have begun anew. Takes what is
 * in it, and delivers the reset of `local` alone. Returns the rest. */
static struct message *deliver_one_reset(struct office *o,
					 const struct local_topic *local)
{
	struct message *rest = NULL;
	struct message **end = &rest;
	struct message *it = take_messages(o);

	while (it != NULL) {
		struct message *m = it;
		struct message_link *link = &m->links[0];
		it = link->next;
		link->next = NULL;
		if (link->member == local) {
			assert_true(subscribers_deliver(&o->subscribers[0], m,
							UINT64_MAX));
			continue;
		}
		*end = m;
		end = &link->next;
	}
	return rest;
}

static void be_behind(struct reader *r, const char *topic)
{
	const struct subscribers_resume resume = {.last = UINT32_MAX};

	assert_int_equal(add_to(r, &r->member->subscriber, topic, &resume), 0);
	assert_true(r->member->subscriber.is_behind);
}

static void one_that_is_behind_waits_for_its_reset(void **state)
{
	struct office *o = *state;
	struct reader first = subscribe(o, 0, "first");

	struct reader reads = connect_reader(o, 0, false);
	struct reader leaves = connect_reader(o, 0, false);

	publish_from_to(o, "second", 1, 5);
	be_behind(&reads, "second");
	be_behind(&leaves, "second");
	renew(o, 0);
	publish_from_to(o, "second", 1, 3);
	struct message *rest =
		deliver_one_reset(o, first.member->subscriber.topic);
	/* "second" has other numbers now than its subscribers know. */
	for (int i = 0; i < 10; i++)
		turn(&o->l);
	assert_int_equal(unread(&reads).len, 0);
	office_leave(&leaves);
	assert_true(subscribers_deliver(&o->subscribers[0], rest, UINT64_MAX));
	assert_int_equal(resets, 2);
	expect_from_to(o, &reads, "second", 1, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define EPOCHS(test)                                                           \
	cmocka_unit_test_setup_teardown(test, set_up_epochs, office_tear_down)
		EPOCHS(all_are_told_once_and_in_rounds),
		EPOCHS(what_comes_behind_a_reset_waits_for_it),
		EPOCHS(one_that_is_behind_waits_for_its_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
