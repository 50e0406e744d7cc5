/* foreign.h - recognizes environment variables that were set by others, or for
 * others.
 *
 * Some settings have the names of other programs' settings, and all programs of
 * a container share its environment. And Kubernetes makes variables for each
 * Service: for one whose name begins with isimud, their names begin with
 * ISIMUD_ (its documentation: Service, "Environment variables"; docker --link
 * made some of the same). Threads: any. */
#ifndef ISIMUD_CONFIG_FOREIGN_H
#define ISIMUD_CONFIG_FOREIGN_H

#include <stdbool.h>

/* Whether the value of the variable `name`, a setting's name without a prefix,
 * is of another kind than the setting's: a URL where a number is due, a level
 * that we don't have. A slip, such as PORT=99999, is none. False for names that
 * nobody else uses. */
bool foreign_is_value(const char *name, const char *value);

/* Whether ISIMUD_ and `name` is what Kubernetes sets for a Service, to
 * `value`. */
bool foreign_is_service_link(const char *name, const char *value);

#endif
