/* version.c - what `make` says of the commit; it alone is compiled anew when
 * that changes. */
#include "base/version.h"

#ifndef REVISION
#define REVISION "unknown"
#endif

const char *version_revision(void)
{
	return REVISION;
}
