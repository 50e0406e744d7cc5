/* forms.h - the wire forms of a message: one table.
 *
 * Immutable. Threads: any. */
#ifndef ISIMUD_TOPICS_FORMS_H
#define ISIMUD_TOPICS_FORMS_H

#include "codec/framing.h"

#include <stdbool.h>

/* The forms: one table, a row each. Name; its framing; whether an envelope
 * (v1_write_message()) takes the place of the data; whether it is an
 * event, which begins with its id; the form that it is made of: that in whose
 * bytes it lies, or the one that is compressed; else itself.
 * An event that may be compressed has its id in a stored block of its own, so
 * that the rest is the same whatever the id, and compressed once. */
#define MESSAGE_FORM_TABLE(X)                                                  \
	X(FRAME, TEXT, false, false, FRAME)                                    \
	X(V1, TEXT, true, false, V1)                                           \
	X(DEFLATED_FRAME, DEFLATED, false, false, FRAME)                       \
	X(DEFLATED_V1, DEFLATED, true, false, V1)                              \
	X(DEFLATED_SMALL_FRAME, DEFLATED_SMALL, false, false, FRAME)           \
	X(DEFLATED_SMALL_V1, DEFLATED_SMALL, true, false, V1)                  \
	X(EVENT, CHUNK, false, true, EVENT)                                    \
	X(EVENT_V1, CHUNK, true, true, EVENT_V1)                               \
	X(GZIP_EVENT, GZIP, false, true, EVENT)                                \
	X(GZIP_EVENT_V1, GZIP, true, true, EVENT_V1)                           \
	X(BARE_EVENT, BARE, false, true, EVENT)                                \
	X(BARE_EVENT_V1, BARE, true, true, EVENT_V1)

enum message_form {
#define MESSAGE_FORM_ENUM(name, framing, has_envelope, is_event, made_of)      \
	MESSAGE_##name,
	MESSAGE_FORM_TABLE(MESSAGE_FORM_ENUM)
#undef MESSAGE_FORM_ENUM
	MESSAGE_FORMS,
};

struct message_form_row {
	enum framing framing;
	bool has_envelope;
	bool is_event;
	enum message_form made_of;
};
extern const struct message_form_row message_forms[MESSAGE_FORMS];

/* The form for a connection with that framing: with the envelope, or not. */
enum message_form message_form_for(enum framing framing, bool has_envelope);

#endif
