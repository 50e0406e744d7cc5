/* replica.c - what the name of the host says in Kubernetes. */
#include "server/replica.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define ORDINAL_DIGITS 4

/* The ordinal of a StatefulSet's pod, whose name is its host's: 0 if this is
 * the first one, or none. */
static unsigned find_ordinal(void)
{
	const char *name = getenv("HOSTNAME");
	const char *dash = name == NULL ? NULL : strrchr(name, '-');
	char *end;

	if (getenv("KUBERNETES_SERVICE_HOST") == NULL || dash == NULL ||
	    !isdigit((unsigned char)dash[1]))
		return 0;
	unsigned long ordinal = strtoul(dash + 1, &end, 10);
	/* The random end of a Deployment's pod is longer. */
	return *end == '\0' && end - dash <= ORDINAL_DIGITS + 1
		       ? (unsigned)ordinal
		       : 0;
}

void replica_warn(const struct config *c)
{
	unsigned ordinal = find_ordinal();

	if (ordinal == 0 || c->nats_url != NULL)
		return;
	log_event(LOG_WARN, "replica_alone",
		  LOG_FIELDS(log_number("ordinal", ordinal)),
		  "this is not the first replica of its StatefulSet, and "
		  "without NATS_URL replicas share no topics: what is "
		  "published to one does not reach the others' subscribers");
}
