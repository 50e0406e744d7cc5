/* replica.h - whether this is one of several that know nothing of each other.
 */
#ifndef ISIMUD_SERVER_REPLICA_H
#define ISIMUD_SERVER_REPLICA_H

#include "config/config.h"

/* Logs a warning if it is a further replica of a StatefulSet and not in a
 * cluster: it would serve subscribers whom the first one's publishers do not
 * reach, and nobody would be told. Other replicas are found by the metric
 * isimud_alone. Reads the environment; before other threads run. */
void replica_warn(const struct config *c);

#endif
