/* cli.c - which command it is. */
#include "cli/cli.h"

#include "cli/arguments.h"
#include "cli/place.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static bool asks_for_help(char *const *words)
{
	for (; *words != NULL; words++)
		if (strcmp(*words, "--help") == 0 || strcmp(*words, "-h") == 0)
			return true;
	return false;
}

bool cli_is_command(char *const *arguments)
{
	const struct command *command =
		arguments[0] == NULL ? NULL : command_of(arguments[0]);

	return command != NULL &&
	       (command->run != NULL || asks_for_help(arguments + 1));
}

int cli_run(char **arguments)
{
	const struct command *command = command_of(arguments[0]);
	struct arguments a = {0};
	char error[ARGUMENTS_ERROR_MAX];

	if (command->run == NULL) {
		command_print_help(command, stdout);
		return EXIT_SUCCESS;
	}
	if (arguments_read(command, arguments + 1, &a, error) != 0) {
		cli_say(command->name, "%s", error);
		return EXIT_USAGE;
	}
	if (a.help) {
		command_print_help(command, stdout);
		return EXIT_SUCCESS;
	}
	/* libuv writes without MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	return command->run(&a);
}
