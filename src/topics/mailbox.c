/* mailbox.c - intrusive lists of messages and of notes, an array of sockets,
 * and bits. */
#include "topics/mailbox.h"

#include "base/check.h"

#include <stdlib.h>
#include <unistd.h>

int mailbox_open(struct mailbox *m, uv_loop_t *loop, unsigned worker,
		 size_t max_bytes, uv_async_cb on_wake)
{
	memset(m, 0, sizeof *m);
	m->end = &m->first;
	m->notes_end = &m->first_note;
	m->worker = worker;
	m->max_bytes = max_bytes;
	int rv = lock_init(&m->lock, LOCK_LEAF);
	if (rv != 0)
		return rv;
	rv = uv_async_init(loop, &m->async, on_wake);
	if (rv != 0)
		lock_fini(&m->lock);
	return rv;
}

void mailbox_set_owner(struct mailbox *m)
{
	m->owner = uv_thread_self();
	m->has_owner = true;
}

static bool take_posted(struct mailbox *m, struct mail *mail,
			bool wants_messages);

static void drop_mail(const struct mailbox *m, struct mail *mail)
{
	while (mail->messages != NULL) {
		struct message *message = mail->messages;
		mail->messages = message->links[m->worker].next;
		message_unref(message, 1);
	}
	for (size_t i = 0; i < mail->sockets_count; i++)
		close(mail->sockets[i].socket);
	while (mail->notes != NULL) {
		struct mailbox_note *note = mail->notes;
		mail->notes = note->next;
		free(note);
	}
}

void mailbox_close(struct mailbox *m)
{
	struct mail mail;

	lock_acquire(&m->lock);
	m->is_closed = true;
	lock_release(&m->lock);
	uv_close((uv_handle_t *)&m->async, NULL);
	/* The owner's thread may have ended. */
	while (take_posted(m, &mail, true))
		drop_mail(m, &mail);
}

void mailbox_fini(struct mailbox *m)
{
	free(m->sockets);
	lock_fini(&m->lock);
}

bool mailbox_has_room(struct mailbox *m, size_t size)
{
	size_t bytes = atomic_load_explicit(&m->bytes, memory_order_relaxed) +
		       atomic_load_explicit(&m->reserved, memory_order_relaxed);
	return bytes == 0 || bytes + size <= m->max_bytes;
}

bool mailbox_reserve(struct mailbox *m, size_t size)
{
	/* The lock is for those who reserve at once. */
	lock_acquire(&m->lock);
	bool has_room = mailbox_has_room(m, size);
	if (has_room)
		atomic_fetch_add_explicit(&m->reserved, size,
					  memory_order_relaxed);
	lock_release(&m->lock);
	return has_room;
}

void mailbox_unreserve(struct mailbox *m, size_t size)
{
	atomic_fetch_sub_explicit(&m->reserved, size, memory_order_relaxed);
}

/* Releases the lock, and wakes the loop if the mailbox was empty before. */
static void unlock_and_wake(struct mailbox *m)
{
	bool was_waiting = atomic_exchange_explicit(&m->is_waiting, true,
						    memory_order_relaxed);
	uv_thread_t self = uv_thread_self();
	lock_release(&m->lock);
	if (!was_waiting && !uv_thread_equal(&self, &m->owner))
		uv_async_send(&m->async);
}

void mailbox_post_message(struct mailbox *m, void *member,
			  struct message *message)
{
	struct message_link *link = &message->links[m->worker];

	lock_acquire(&m->lock);
	link->next = NULL;
	link->member = member;
	*m->end = message;
	m->end = &link->next;
	m->count++;
	atomic_fetch_add_explicit(&m->bytes, message->size,
				  memory_order_relaxed);
	unlock_and_wake(m);
}

/* Makes room for `count` more sockets. Returns 0 or UV_ENOMEM. */
static int grow_sockets(struct mailbox *m, size_t count)
{
	size_t cap = m->sockets_cap == 0 ? 64 : m->sockets_cap;

	while (cap < m->sockets_count + count)
		cap *= 2;
	if (cap == m->sockets_cap)
		return 0;
	struct accepted *grown = realloc(m->sockets, cap * sizeof *grown);
	if (grown == NULL)
		return UV_ENOMEM;
	m->sockets = grown;
	m->sockets_cap = cap;
	return 0;
}

int mailbox_post_sockets(struct mailbox *m, const struct accepted *sockets,
			 size_t count, size_t stride)
{
	lock_acquire(&m->lock);
	int rv = grow_sockets(m, count);
	if (rv != 0) {
		lock_release(&m->lock);
		return rv;
	}
	for (size_t i = 0; i < count; i++)
		m->sockets[m->sockets_count++] = sockets[i * stride];
	unlock_and_wake(m);
	return 0;
}

void mailbox_post_order(struct mailbox *m, enum mailbox_order order)
{
	lock_acquire(&m->lock);
	if (m->is_closed) {
		lock_release(&m->lock);
		return;
	}
	m->orders |= (unsigned)order;
	unlock_and_wake(m);
}

void mailbox_post_note(struct mailbox *m, struct mailbox_note *note)
{
	lock_acquire(&m->lock);
	if (m->is_closed) {
		lock_release(&m->lock);
		free(note);
		return;
	}
	note->next = NULL;
	*m->notes_end = note;
	m->notes_end = &note->next;
	unlock_and_wake(m);
}

bool mailbox_is_waiting(const struct mailbox *m)
{
	return atomic_load_explicit(&m->is_waiting, memory_order_relaxed);
}

static void take_messages(struct mailbox *m, struct mail *mail)
{
	atomic_store_explicit(&m->bytes, 0, memory_order_relaxed);
	mail->messages = m->first;
	mail->messages_count = m->count;
	m->first = NULL;
	m->end = &m->first;
	m->count = 0;
}

static void take_sockets(struct mailbox *m, struct mail *mail)
{
	size_t count = m->sockets_count < MAILBOX_SOME ? m->sockets_count
						       : MAILBOX_SOME;

	m->sockets_count -= count;
	if (count > 0)
		memcpy(m->taken, m->sockets, count * sizeof *m->sockets);
	if (m->sockets_count > 0)
		memmove(m->sockets, m->sockets + count,
			m->sockets_count * sizeof *m->sockets);
	mail->sockets = m->taken;
	mail->sockets_count = count;
}

static void take_notes(struct mailbox *m, struct mail *mail)
{
	struct mailbox_note **end = &m->first_note;

	for (int i = 0; i < MAILBOX_SOME && *end != NULL; i++)
		end = &(*end)->next;
	mail->notes = m->first_note;
	m->first_note = *end;
	if (m->first_note == NULL)
		m->notes_end = &m->first_note;
	if (end != &m->first_note)
		*end = NULL;
}

static bool is_empty(const struct mailbox *m)
{
	return m->first == NULL && m->first_note == NULL &&
	       m->sockets_count == 0;
}

static bool take_posted(struct mailbox *m, struct mail *mail,
			bool wants_messages)
{
	memset(mail, 0, sizeof *mail);
	if (!mailbox_is_waiting(m))
		return false;

	lock_acquire(&m->lock);
	take_sockets(m, mail);
	take_notes(m, mail);
	if (wants_messages)
		take_messages(m, mail);
	mail->orders = m->orders;
	if (!is_empty(m))
		mail->orders &= ~(unsigned)MAILBOX_STOP;
	m->orders &= ~mail->orders;
	atomic_store_explicit(&m->is_waiting, m->orders != 0 || !is_empty(m),
			      memory_order_relaxed);
	lock_release(&m->lock);
	return true;
}

static void check_taker(const struct mailbox *m)
{
	if (m->has_owner)
		CHECK_ON_THREAD(m->owner);
}

bool mailbox_take(struct mailbox *m, struct mail *mail)
{
	check_taker(m);
	return take_posted(m, mail, true);
}

bool mailbox_take_but_messages(struct mailbox *m, struct mail *mail)
{
	check_taker(m);
	return take_posted(m, mail, false);
}
