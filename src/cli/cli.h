/* cli.h - the commands that are clients, by name.
 *
 * Threads: the main thread, in a process of its own. */
#ifndef ISIMUD_CLI_CLI_H
#define ISIMUD_CLI_CLI_H

#include <stdbool.h>

/* Whether `arguments`, which end in NULL and have no program name, begin with a
 * command that cli_run() does: pub, sub, topics, top, bench, completion or
 * help; or ask for the help of another command. */
bool cli_is_command(char *const *arguments);

/* Does it. Returns the exit status. */
int cli_run(char **arguments);

#endif
