/* refuse.h - the one way to say that a text is not what it should be: the
 * function that reads it returns an error, and tells why in `*wrong`, an out
 * parameter, which is left alone as long as all is well. Threads: any. */
#ifndef ISIMUD_BASE_REFUSE_H
#define ISIMUD_BASE_REFUSE_H

#include <errno.h>
#include <stddef.h>

/* Returns -EINVAL, which is UV_EINVAL, for the caller to return. `text` is
 * static, and for whoever wrote what is refused; `wrong` NULL: nobody asks. */
static inline int refuse(const char **wrong, const char *text)
{
	if (wrong != NULL)
		*wrong = text;
	return -EINVAL;
}

#endif
