/* test_counts.c - what src/cluster/counts.h promises. */
#include "cluster/counts.h"

#include "aborts.h"
#include "base/little_endian.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define EPOCH 77
#define NEWS  SPAN("alice"), SPAN("news")

/* Two nodes, and what each sent, not yet heard by the other. */
struct link {
	struct counts *a;
	struct counts *b;
	char sent[1 << 20];
	size_t len;
	unsigned messages;
	bool loses; /* what is sent */
};

static void send_one(void *user, struct span message)
{
	struct link *l = user;
	uint32_t len = (uint32_t)message.len;

	l->messages++;
	if (l->loses)
		return;
	memcpy(l->sent + l->len, &len, sizeof len);
	memcpy(l->sent + l->len + sizeof len, message.bytes, len);
	l->len += sizeof len + len;
}

/* All that was sent is heard by all, answers included. */
static void deliver(struct link *l)
{
	for (size_t at = 0; at < l->len;) {
		uint32_t len;
		memcpy(&len, l->sent + at, sizeof len);
		struct span m = {l->sent + at + sizeof len, len};
		at += sizeof len + len;
		counts_hear(l->a, m, 1000, send_one, l);
		counts_hear(l->b, m, 1000, send_one, l);
	}
	l->len = 0;
}

static void tell(struct link *l, struct counts *c, uint64_t news)
{
	counts_begin(c);
	if (news > 0)
		counts_add(c, NEWS, news);
	counts_end(c, send_one, l);
}

static int set_up(void **state)
{
	static struct link l;

	l = (struct link){.len = 0};
	assert_int_equal(counts_new(&l.a, 1), 0);
	assert_int_equal(counts_new(&l.b, 2), 0);
	counts_set_epoch(l.a, EPOCH);
	counts_set_epoch(l.b, EPOCH);
	*state = &l;
	return 0;
}

static int tear_down(void **state)
{
	struct link *l = *state;
	counts_free(l->a);
	counts_free(l->b);
	return 0;
}

static void a_node_hears_what_the_other_has(void **state)
{
	struct link *l = *state;

	tell(l, l->a, 5);
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 5);
	assert_int_equal(counts_others(l->a, NEWS), 0);
	assert_int_equal(counts_nodes(l->b), 1);
	tell(l, l->a, 7);
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 7);
	tell(l, l->a, 0);
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 0);
}

static void what_did_not_change_is_not_told_again(void **state)
{
	struct link *l = *state;

	tell(l, l->a, 5);
	deliver(l);
	tell(l, l->a, 5);
	assert_true(l->len < 40); /* it is there, and that is all */
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 5);
}

static void a_lost_message_is_made_up_for(void **state)
{
	struct link *l = *state;

	tell(l, l->a, 5);
	deliver(l);
	l->loses = true;
	tell(l, l->a, 6);
	l->loses = false;
	tell(l, l->a, 6);
	deliver(l); /* b finds the gap, and asks */
	deliver(l); /* a hears that */
	tell(l, l->a, 6);
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 6);
}

static void a_silent_node_counts_no_more(void **state)
{
	struct link *l = *state;

	tell(l, l->a, 5);
	deliver(l);
	counts_age(l->b, 1000 + COUNTS_SILENT_MS);
	assert_int_equal(counts_others(l->b, NEWS), 5);
	counts_age(l->b, 1001 + COUNTS_SILENT_MS);
	assert_int_equal(counts_others(l->b, NEWS), 0);
	assert_int_equal(counts_nodes(l->b), 0);
}

static void a_new_epoch_begins_from_nothing(void **state)
{
	struct link *l = *state;

	tell(l, l->a, 5);
	deliver(l);
	counts_set_epoch(l->b, EPOCH + 1);
	assert_int_equal(counts_others(l->b, NEWS), 0);
	tell(l, l->a, 6);
	deliver(l); /* of the old one */
	assert_int_equal(counts_others(l->b, NEWS), 0);
	counts_set_epoch(l->a, EPOCH + 1);
	tell(l, l->a, 6);
	deliver(l);
	assert_int_equal(counts_others(l->b, NEWS), 6);
}

static void many_topics_go_in_several_messages(void **state)
{
	struct link *l = *state;
	char name[16];

	counts_begin(l->a);
	for (unsigned i = 0; i < 2 * COUNTS_TOPICS_MAX + 5; i++) {
		snprintf(name, sizeof name, "t%u", i);
		counts_add(l->a, SPAN("alice"), span_of(name), i + 1);
	}
	counts_end(l->a, send_one, l);
	assert_int_equal(l->messages, 3);
	deliver(l);
	for (unsigned i = 0; i < 2 * COUNTS_TOPICS_MAX + 5; i++) {
		snprintf(name, sizeof name, "t%u", i);
		assert_int_equal(
			counts_others(l->b, SPAN("alice"), span_of(name)),
			i + 1);
	}
}

/* Who may publish there can tell of as many topics as he likes. */
static void what_is_heard_is_bounded(void **state)
{
	struct link *l = *state;
	static char message[28 + 12 * COUNTS_TOPICS_MAX];
	size_t before = memory_used();
	bool was_full = false;

	tell(l, l->a, 5);
	deliver(l);
	message[0] = 1;
	little_endian_write(message + 2, COUNTS_TOPICS_MAX, 2);
	little_endian_write(message + 4, 99, 8); /* the node */
	little_endian_write(message + 20, EPOCH, 8);
	for (uint64_t n = 0; n < 400; n++) {
		message[1] = n == 0 ? 2 : 1; /* all; then changes */
		little_endian_write(message + 12, n + 1, 8);
		for (uint64_t i = 0; i < COUNTS_TOPICS_MAX; i++) {
			char *at = message + 28 + 12 * i;
			little_endian_write(at, n * COUNTS_TOPICS_MAX + i + 1,
					    8);
			little_endian_write(at + 8, 1, 4);
		}
		counts_hear(l->b, (struct span){message, sizeof message}, 1000,
			    send_one, l);
		was_full |= counts_take_full(l->b);
	}
	assert_true(was_full);
	memory_settle();
	assert_true(memory_used() - before <= COUNTS_HEARD_MAX_BYTES);
	assert_true(memory_used() - before > COUNTS_HEARD_MAX_BYTES / 8);
	assert_int_equal(counts_others(l->b, NEWS), 5);
	assert_int_equal(l->messages, 1); /* nobody is asked again and again */
	counts_age(l->b, 1000 + COUNTS_SILENT_MS + 1);
	memory_settle();
	assert_true(memory_used() <= before + MEMORY_SLACK_BYTES);
}

static void what_is_no_message_is_ignored(void **state)
{
	struct link *l = *state;
	char message[64];

	tell(l, l->a, 5);
	size_t len = l->len - 4;
	memcpy(message, l->sent + 4, len);
	l->len = 0;
	for (size_t cut = 0; cut < len; cut++)
		counts_hear(l->b, (struct span){message, cut}, 1000, send_one,
			    l);
	message[0] = 2;
	counts_hear(l->b, (struct span){message, len}, 1000, send_one, l);
	assert_int_equal(counts_others(l->b, NEWS), 0);
	message[0] = 1;
	counts_hear(l->b, (struct span){message, len}, 1000, send_one, l);
	assert_int_equal(counts_others(l->b, NEWS), 5);
}

static void begin_counting(void *c)
{
	counts_begin(c);
}

#ifdef ISIMUD_DEBUG
static void adopt_and_begin(void *c)
{
	counts_adopt(c);
	counts_begin(c);
}
#endif

static void only_its_owner_counts(void **state)
{
	struct link *l = *state;

	assert_true(aborts_elsewhere(begin_counting, l->a));
	assert_false(aborts(begin_counting, l->a));
#ifdef ISIMUD_DEBUG
	assert_false(aborts_elsewhere(adopt_and_begin, l->a));
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_node_hears_what_the_other_has,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_did_not_change_is_not_told_again, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(a_lost_message_is_made_up_for,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_silent_node_counts_no_more,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_new_epoch_begins_from_nothing,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			many_topics_go_in_several_messages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_heard_is_bounded,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_message_is_ignored,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_its_owner_counts, set_up,
						tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
