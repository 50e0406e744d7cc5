/* list.h - a doubly linked list whose links lie inside its elements.
 *
 * An empty list is a head that links to itself. Threads: its owner's. */
#ifndef ISIMUD_BASE_LIST_H
#define ISIMUD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

/* Makes `l` an empty list, or an element that is in no list. */
static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *element)
{
	element->prev = head->prev;
	element->next = head;
	head->prev->next = element;
	head->prev = element;
}

/* Behind `head`, as the first; or behind any element. */
static inline void list_prepend(struct list *head, struct list *element)
{
	list_append(head->next, element);
}

/* Moves all elements of `from` in front of those of `head`; `from` is empty
 * then. */
static inline void list_move_all(struct list *head, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->prev->next = head->next;
	head->next->prev = from->prev;
	from->next->prev = head;
	head->next = from->next;
	list_init(from);
}

/* Takes `element` out of its list; nothing happens if it is in none. */
static inline void list_remove(struct list *element)
{
	element->prev->next = element->next;
	element->next->prev = element->prev;
	list_init(element);
}

/* Walks from first to last; the body may remove the current element. */
/* NOLINTBEGIN(bugprone-macro-parentheses): the names are declarations. */
#define LIST_FOR_EACH_SAFE(it, after, head)                                    \
	for (struct list *it = (head)->next, *after = it->next; it != (head);  \
	     it = after, after = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
