/* forms.c - see forms.h. */
#include "topics/forms.h"

#include "base/check.h"

const struct message_form_row message_forms[MESSAGE_FORMS] = {
#define FORM_ROW(name, framing, has_envelope, is_event, made_of)               \
	[MESSAGE_##name] = {FRAMING_##framing, has_envelope, is_event,         \
			    MESSAGE_##made_of},
	MESSAGE_FORM_TABLE(FORM_ROW)
#undef FORM_ROW
};

enum message_form message_form_for(enum framing framing, bool has_envelope)
{
	unsigned form = 0;

	while (message_forms[form].framing != framing ||
	       message_forms[form].has_envelope != has_envelope) {
		form++;
		CHECK(form < MESSAGE_FORMS);
	}
	return (enum message_form)form;
}
