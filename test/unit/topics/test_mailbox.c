/* test_mailbox.c - what src/topics/mailbox.c promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aborts.h"
#include "oom.h"
#include "topics/mailbox.h"

#define WORKER    2 /* of 4: the links in use are not the first */
#define WORKERS   4
#define MAX_BYTES 1000
#define POSTERS   4
#define POSTS     20000
#define NOTES     2000 /* of each poster, between its messages */

/* Stands in front of libuv's: wake-ups are counted where they are sent, since
 * the loop merges them. */
static _Atomic unsigned wake_ups;

int uv_async_send(uv_async_t *async)
{
	static int (*real)(uv_async_t *);

	if (real == NULL) {
		void *found = dlsym(RTLD_NEXT, "uv_async_send");
		memcpy(&real, &found, sizeof real);
	}
	wake_ups++;
	return real(async);
}

static struct accepted tcp(int socket)
{
	return (struct accepted){socket, LISTENER_TCP};
}

static uv_loop_t loop;
static struct mailbox box;
static unsigned times_woken;

static void on_wake(uv_async_t *async)
{
	assert_ptr_equal(async, &box.async);
	times_woken++;
}

static int open_box(void **state)
{
	(void)state;
	wake_ups = 0;
	times_woken = 0;
	alarm(120); /* a wake-up that is lost fails the program */
	return uv_loop_init(&loop) != 0 ||
	       mailbox_open(&box, &loop, WORKER, MAX_BYTES, on_wake) != 0;
}

static int close_box(void **state)
{
	(void)state;
	mailbox_close(&box);
	uv_run(&loop, UV_RUN_DEFAULT);
	mailbox_fini(&box);
	alarm(0);
	return uv_loop_close(&loop);
}

/* A message whose frame has `len` bytes, from 2 to 127. */
static struct message *message_of(size_t len)
{
	static const char data[128];
	struct message *m =
		message_new((struct span){data, len - 2}, false, WORKERS);

	assert_non_null(m);
	return m;
}

static void post_messages(unsigned n)
{
	while (n-- > 0)
		mailbox_post_message(&box, NULL, message_of(10));
}

/* The memory of a message with a frame of `len` bytes. */
static size_t message_size(size_t len)
{
	struct message *m = message_of(len);
	size_t size = m->size;

	message_unref(m, 1);
	return size;
}

static void drop_messages(struct message *m)
{
	while (m != NULL) {
		struct message *next = m->links[WORKER].next;
		message_unref(m, 1);
		m = next;
	}
}

/* Takes all there is, and drops it. */
static void empty(void)
{
	struct mail mail;

	assert_true(mailbox_take(&box, &mail));
	drop_messages(mail.messages);
}

/* --- taking ----------------------------------------------------------------*/

static void a_new_mailbox_has_nothing_to_take(void **state)
{
	static const struct mail none;
	struct mail mail;

	(void)state;
	memset(&mail, 0xff, sizeof mail);
	assert_false(mailbox_is_waiting(&box));
	assert_false(mailbox_take(&box, &mail));
	assert_memory_equal(&mail, &none, sizeof mail);
}

static void messages_are_taken_in_the_order_of_posting(void **state)
{
	struct message *posted[100];
	char members[100];
	struct mail mail;

	(void)state;
	for (int i = 0; i < 100; i++) {
		posted[i] = message_of(10);
		mailbox_post_message(&box, &members[i], posted[i]);
	}
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.messages_count, 100);
	struct message *m = mail.messages;
	for (int i = 0; i < 100; i++) {
		assert_ptr_equal(m, posted[i]);
		assert_ptr_equal(m->links[WORKER].member, &members[i]);
		m = m->links[WORKER].next;
	}
	assert_null(m);
	drop_messages(mail.messages);
}

static void everything_is_taken_at_once(void **state)
{
	struct mail mail;

	(void)state;
	post_messages(3);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_true(mailbox_is_waiting(&box));
	empty();
	assert_false(mailbox_is_waiting(&box));
	assert_false(mailbox_take(&box, &mail));
	assert_null(mail.messages);
	assert_int_equal(mail.messages_count, 0);
	assert_int_equal(mail.orders, 0);
}

static void messages_may_be_left_and_count(void **state)
{
	char member;
	struct mail mail;

	(void)state;
	mailbox_post_message(&box, &member, message_of(10));
	size_t bytes = atomic_load(&box.bytes);
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	assert_true(mailbox_take_but_messages(&box, &mail));
	assert_null(mail.messages);
	assert_int_equal(mail.sockets_count, 1);
	assert_int_equal(atomic_load(&box.bytes), bytes);
	assert_true(mailbox_is_waiting(&box));
	/* The last order follows what was posted before. */
	mailbox_post_order(&box, MAILBOX_STOP);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_true(mailbox_take_but_messages(&box, &mail));
	assert_int_equal(mail.orders, MAILBOX_DUMP);
	assert_null(mail.messages);
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.orders, MAILBOX_STOP);
	assert_int_equal(mail.messages_count, 1);
	drop_messages(mail.messages);
	assert_int_equal(atomic_load(&box.bytes), 0);
	assert_false(mailbox_is_waiting(&box));
}

static void what_is_posted_after_a_take_is_for_the_next(void **state)
{
	struct message *later = message_of(10);
	struct mail first;
	struct mail second;

	(void)state;
	post_messages(2);
	assert_true(mailbox_take(&box, &first));
	mailbox_post_message(&box, NULL, later);
	assert_true(mailbox_take(&box, &second));
	assert_int_equal(first.messages_count, 2);
	assert_int_equal(second.messages_count, 1);
	assert_ptr_equal(second.messages, later);
	assert_null(later->links[WORKER].next);
	drop_messages(first.messages);
	drop_messages(second.messages);
}

static void a_message_brings_the_posters_reference_to_the_taker(void **state)
{
	struct message *m = message_ref(message_of(10), 1);
	struct mail mail;

	(void)state;
	mailbox_post_message(&box, NULL, m);
	assert_int_equal(atomic_load(&m->refs), 2);
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(atomic_load(&m->refs), 2);
	message_unref(m, 2);
}

static void sockets_are_taken_in_the_order_of_posting(void **state)
{
	struct mail mail;

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 1000; i++)
			assert_int_equal(
				mailbox_post_socket(&box, tcp(1000 + i)), 0);
		mailbox_post_order(&box, MAILBOX_STOP);
		for (int i = 0; i < 1000; i++) {
			if (i % MAILBOX_SOME == 0)
				assert_true(mailbox_take(&box, &mail));
			assert_int_equal(mail.sockets[i % MAILBOX_SOME].socket,
					 1000 + i);
			assert_int_equal(mail.orders,
					 i < 1000 - 1000 % MAILBOX_SOME
						 ? 0
						 : MAILBOX_STOP);
		}
		assert_int_equal(mail.sockets_count, 1000 % MAILBOX_SOME);
		assert_false(mailbox_is_waiting(&box));
	}
}

static void sockets_that_were_taken_stay_until_the_next_take(void **state)
{
	struct mail mail;
	struct mail next;

	(void)state;
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	assert_true(mailbox_take(&box, &mail));
	for (int i = 0; i < 1000; i++)
		assert_int_equal(mailbox_post_socket(&box, tcp(2000 + i)), 0);
	assert_int_equal(mail.sockets[0].socket, 1000);
	assert_true(mailbox_take(&box, &next));
	assert_int_equal(next.sockets_count, MAILBOX_SOME);
	assert_int_equal(next.sockets[0].socket, 2000);
	while (mailbox_take(&box, &next))
		;
}

static void orders_are_merged_until_they_are_taken(void **state)
{
	struct mail mail;

	(void)state;
	mailbox_post_order(&box, MAILBOX_DUMP);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.orders, MAILBOX_DUMP);
	mailbox_post_order(&box, MAILBOX_DUMP);
	mailbox_post_order(&box, MAILBOX_STOP);
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.orders, MAILBOX_DUMP | MAILBOX_STOP);
}

struct numbered_note {
	struct mailbox_note note;
	unsigned number;
};

static void post_note(unsigned number)
{
	struct numbered_note *n = malloc(sizeof *n);

	assert_non_null(n);
	n->number = number;
	mailbox_post_note(&box, &n->note);
}

/* Frees the notes, which have these numbers, one after the other. */
static void assert_notes(struct mailbox_note *first, unsigned from, unsigned to)
{
	for (unsigned number = from; number < to; number++) {
		struct numbered_note *n = (struct numbered_note *)(void *)first;
		assert_non_null(n);
		assert_int_equal(n->number, number);
		first = n->note.next;
		free(n);
	}
	assert_null(first);
}

static void notes_are_taken_in_the_order_of_posting(void **state)
{
	struct mail mail;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		post_note(i);
	assert_true(mailbox_take(&box, &mail));
	/* What comes meanwhile is for the next. */
	post_note(100);
	mailbox_post_order(&box, MAILBOX_STOP);
	assert_notes(mail.notes, 0, MAILBOX_SOME);
	assert_true(mailbox_is_waiting(&box));
	assert_true(mailbox_take(&box, &mail));
	assert_notes(mail.notes, MAILBOX_SOME, 101);
	assert_int_equal(mail.orders, MAILBOX_STOP);
	post_note(101);
	assert_true(mailbox_take(&box, &mail));
	assert_notes(mail.notes, 101, 102);
	assert_false(mailbox_take(&box, &mail));
	assert_null(mail.notes);
}

static void notes_and_messages_do_not_mix(void **state)
{
	struct mail mail;

	(void)state;
	post_note(0);
	post_messages(2);
	post_note(1);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_true(mailbox_has_room(&box, 0));
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.messages_count, 2);
	assert_int_equal(mail.orders, MAILBOX_DUMP);
	drop_messages(mail.messages);
	assert_notes(mail.notes, 0, 2);
}

/* --- waking ----------------------------------------------------------------*/

static void only_a_post_to_an_empty_mailbox_wakes_the_loop(void **state)
{
	(void)state;
	post_messages(1);
	assert_int_equal(wake_ups, 1);
	post_messages(9);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	assert_int_equal(wake_ups, 1);
	empty();
	assert_int_equal(wake_ups, 1);
	post_messages(2);
	assert_int_equal(wake_ups, 2);
	empty();
}

static void a_note_wakes_the_loop_once(void **state)
{
	struct mail mail;

	(void)state;
	post_note(0);
	post_note(1);
	assert_int_equal(wake_ups, 1);
	assert_true(mailbox_take(&box, &mail));
	assert_notes(mail.notes, 0, 2);
}

static void a_socket_and_an_order_wake_the_loop_as_well(void **state)
{
	(void)state;
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	assert_int_equal(wake_ups, 1);
	empty();
	mailbox_post_order(&box, MAILBOX_STOP);
	assert_int_equal(wake_ups, 2);
	empty();
}

static void post_a_message(void *arg)
{
	(void)arg;
	post_messages(1);
}

static void post_from_another_thread(void)
{
	uv_thread_t thread;

	assert_int_equal(uv_thread_create(&thread, post_a_message, NULL), 0);
	uv_thread_join(&thread);
}

static void the_callback_runs_on_the_loop_after_a_post(void **state)
{
	(void)state;
	post_from_another_thread();
	assert_int_equal(times_woken, 0);
	while (times_woken == 0)
		uv_run(&loop, UV_RUN_ONCE);
	assert_true(mailbox_is_waiting(&box));
	empty();
}

static void the_owners_own_posts_wake_nobody(void **state)
{
	(void)state;
	mailbox_set_owner(&box);
	post_messages(1);
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_int_equal(wake_ups, 0);
	assert_true(mailbox_is_waiting(&box));
	empty();
}

static void another_threads_post_wakes_the_owner(void **state)
{
	(void)state;
	mailbox_set_owner(&box);
	post_from_another_thread();
	assert_int_equal(wake_ups, 1);
	post_from_another_thread();
	assert_int_equal(wake_ups, 1);
	empty();
}

/* --- room ------------------------------------------------------------------*/

static void an_empty_mailbox_has_room_for_any_message(void **state)
{
	(void)state;
	assert_true(mailbox_has_room(&box, 0));
	assert_true(mailbox_has_room(&box, MAX_BYTES + 1));
	assert_true(mailbox_has_room(&box, UINT32_MAX));
}

/* All of a message counts: a short frame would not tell what it costs. */
static void messages_have_room_up_to_the_limit(void **state)
{
	struct message *m = message_of(10);
	size_t left = MAX_BYTES - m->size;

	(void)state;
	assert_true(m->size > WORKERS * sizeof m->links[0]);
	mailbox_post_message(&box, NULL, m);
	assert_true(mailbox_has_room(&box, left));
	assert_false(mailbox_has_room(&box, left + 1));
	empty();
}

/* Asking and posting are two steps. */
static void a_post_past_the_limit_is_taken_and_leaves_no_room(void **state)
{
	struct mail mail;

	size_t size = message_size(10);
	size_t count = MAX_BYTES / size + 1;

	(void)state;
	post_messages((unsigned)count);
	assert_false(mailbox_has_room(&box, 0));
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mail.messages_count, count);
	drop_messages(mail.messages);
}

static void taking_makes_room(void **state)
{
	(void)state;
	post_messages((unsigned)(MAX_BYTES / message_size(10)));
	assert_false(mailbox_has_room(&box, message_size(10)));
	empty();
	assert_true(mailbox_has_room(&box, MAX_BYTES));
}

static void sockets_and_orders_need_no_room(void **state)
{
	(void)state;
	assert_int_equal(mailbox_post_socket(&box, tcp(1000)), 0);
	mailbox_post_order(&box, MAILBOX_DUMP);
	assert_true(mailbox_has_room(&box, MAX_BYTES + 1));
	empty();
}

/* --- closing ---------------------------------------------------------------*/

static void closing_gives_up_the_messages_inside(void **state)
{
	struct message *m[3];

	open_box(state);
	for (int i = 0; i < 3; i++) {
		m[i] = message_ref(message_of(10), 1);
		mailbox_post_message(&box, NULL, m[i]);
	}
	assert_int_equal(close_box(state), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(atomic_load(&m[i]->refs), 1);
		message_unref(m[i], 1);
	}
}

/* LeakSanitizer sees whether they are freed. */
static void closing_frees_the_notes_inside_and_those_that_come_later(
	void **state)
{
	open_box(state);
	post_note(0);
	post_note(1);
	mailbox_close(&box);
	wake_ups = 0;
	post_note(2);
	assert_int_equal(wake_ups, 0);
	assert_false(mailbox_is_waiting(&box));
	uv_run(&loop, UV_RUN_DEFAULT);
	post_note(3);
	mailbox_fini(&box);
	assert_int_equal(uv_loop_close(&loop), 0);
	alarm(0);
}

static void closing_closes_the_sockets_inside_and_no_others(void **state)
{
	struct mail mail;
	int taken[2];
	int inside[2];
	char byte;

	open_box(state);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, taken), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, inside), 0);
	assert_int_equal(mailbox_post_socket(&box, tcp(taken[0])), 0);
	assert_true(mailbox_take(&box, &mail));
	assert_int_equal(mailbox_post_socket(&box, tcp(inside[0])), 0);
	assert_int_equal(close_box(state), 0);
	assert_int_equal(recv(inside[1], &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(recv(taken[1], &byte, 1, MSG_DONTWAIT), -1);
	close(taken[0]);
	close(taken[1]);
	close(inside[1]);
}

/* --- threads ---------------------------------------------------------------*/

struct poster {
	uv_thread_t thread;
	uint64_t next; /* expected by the taker */
};

static struct poster posters[POSTERS];
static unsigned taken_count;
static unsigned notes_count;
static unsigned out_of_order;

static void post_many(void *arg)
{
	for (uint64_t i = 0; i < POSTS; i++) {
		struct message *m = message_new(SPAN("x"), false, WORKERS);
		if (m == NULL)
			return; /* the taker misses it until the alarm */
		m->sequence = i;
		(void)mailbox_has_room(&box, m->size);
		mailbox_post_message(&box, arg, m);
		if (i % (POSTS / NOTES) == 0)
			post_note((unsigned)i);
	}
}

static void look_at(struct mail *mail)
{
	taken_count += (unsigned)mail->messages_count;
	while (mail->notes != NULL) {
		struct mailbox_note *note = mail->notes;
		mail->notes = note->next;
		free(note);
		notes_count++;
	}
	for (struct message *m = mail->messages; m != NULL;
	     m = m->links[WORKER].next) {
		struct poster *p = m->links[WORKER].member;
		out_of_order += m->sequence != p->next++;
	}
	drop_messages(mail->messages);
}

static void on_wake_take(uv_async_t *async)
{
	struct mail mail;

	(void)async;
	while (mailbox_take(&box, &mail))
		look_at(&mail);
	if (taken_count >= POSTERS * POSTS && notes_count >= POSTERS * NOTES)
		uv_stop(&loop);
}

static void many_threads_posts_are_all_taken_each_threads_in_order(void **state)
{
	taken_count = 0;
	notes_count = 0;
	out_of_order = 0;
	memset(posters, 0, sizeof posters);
	alarm(120);
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(
		mailbox_open(&box, &loop, WORKER, MAX_BYTES, on_wake_take), 0);
	mailbox_set_owner(&box);
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(uv_thread_create(&posters[i].thread, post_many,
						  &posters[i]),
				 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	for (int i = 0; i < POSTERS; i++)
		uv_thread_join(&posters[i].thread);
	assert_int_equal(taken_count, POSTERS * POSTS);
	assert_int_equal(notes_count, POSTERS * NOTES);
	assert_int_equal(out_of_order, 0);
	assert_false(mailbox_is_waiting(&box));
	assert_int_equal(close_box(state), 0);
}

/* --- without memory --------------------------------------------------------*/

static void without_memory_a_socket_stays_the_callers(void **state)
{
	struct mail mail;

	(void)state;
	OOM_OR_SKIP();
	oom_fail_at(1);
	int rv = mailbox_post_socket(&box, tcp(1000));
	assert_true(oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_false(mailbox_take(&box, &mail));
	assert_int_equal(wake_ups, 0);
}

static void without_memory_the_sockets_inside_stay(void **state)
{
	struct mail mail;
	int posted = 0;
	int rv;

	(void)state;
	OOM_OR_SKIP();
	assert_int_equal(mailbox_post_socket(&box, tcp(1000 + posted++)), 0);
	do {
		oom_fail_at(1);
		rv = mailbox_post_socket(&box, tcp(1000 + posted));
		posted += rv == 0;
	} while (!oom_end());
	assert_int_equal(rv, UV_ENOMEM);
	assert_int_equal(mailbox_post_socket(&box, tcp(1000 + posted++)), 0);
	for (int i = 0; i < posted; i++) {
		if (i % MAILBOX_SOME == 0)
			assert_true(mailbox_take(&box, &mail));
		assert_int_equal(mail.sockets[i % MAILBOX_SOME].socket,
				 1000 + i);
	}
	assert_int_equal(mail.sockets_count, (posted - 1) % MAILBOX_SOME + 1);
}

static void posting_a_message_needs_no_memory(void **state)
{
	struct message *m;
	struct mail mail;

	(void)state;
	OOM_OR_SKIP();
	m = message_of(10);
	oom_fail_at(1);
	mailbox_post_message(&box, NULL, m);
	mailbox_post_order(&box, MAILBOX_DUMP);
	bool is_taken = mailbox_take(&box, &mail);
	assert_false(oom_end());
	assert_true(is_taken);
	drop_messages(mail.messages);
}

static void take_mail(void *m)
{
	struct mail mail;

	mailbox_take(m, &mail);
}

static void only_its_owner_takes_mail(void **state)
{
	(void)state;
	mailbox_set_owner(&box);
	assert_true(aborts_elsewhere(take_mail, &box));
}

/* Every test that posts made-up socket numbers takes them back. */
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_box, close_box)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(a_new_mailbox_has_nothing_to_take),
		TEST(messages_are_taken_in_the_order_of_posting),
		TEST(everything_is_taken_at_once),
		TEST(messages_may_be_left_and_count),
		TEST(what_is_posted_after_a_take_is_for_the_next),
		TEST(a_message_brings_the_posters_reference_to_the_taker),
		TEST(sockets_are_taken_in_the_order_of_posting),
		TEST(sockets_that_were_taken_stay_until_the_next_take),
		TEST(orders_are_merged_until_they_are_taken),
		TEST(notes_are_taken_in_the_order_of_posting),
		TEST(notes_and_messages_do_not_mix),
		TEST(only_a_post_to_an_empty_mailbox_wakes_the_loop),
		TEST(a_note_wakes_the_loop_once),
		TEST(a_socket_and_an_order_wake_the_loop_as_well),
		TEST(the_callback_runs_on_the_loop_after_a_post),
		TEST(the_owners_own_posts_wake_nobody),
		TEST(another_threads_post_wakes_the_owner),
		TEST(an_empty_mailbox_has_room_for_any_message),
		TEST(messages_have_room_up_to_the_limit),
		TEST(a_post_past_the_limit_is_taken_and_leaves_no_room),
		TEST(taking_makes_room),
		TEST(sockets_and_orders_need_no_room),
		cmocka_unit_test(closing_gives_up_the_messages_inside),
		cmocka_unit_test(
			closing_frees_the_notes_inside_and_those_that_come_later),
		cmocka_unit_test(
			closing_closes_the_sockets_inside_and_no_others),
		cmocka_unit_test(
			many_threads_posts_are_all_taken_each_threads_in_order),
		TEST(without_memory_a_socket_stays_the_callers),
		TEST(without_memory_the_sockets_inside_stay),
		TEST(posting_a_message_needs_no_memory),
		TEST(only_its_owner_takes_mail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
