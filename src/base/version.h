/* version.h - the release this tree makes, and of which commit. Threads: any.
 */
#ifndef ISIMUD_BASE_VERSION_H
#define ISIMUD_BASE_VERSION_H

#define VERSION "0.2.0"

/* The commit, as `git rev-parse --short` has it, or "unknown". */
const char *version_revision(void);

#endif
