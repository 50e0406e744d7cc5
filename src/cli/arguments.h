/* arguments.h - the commands that are clients, what each may be given, and what
 * is said of that: one table, from which arguments are read, and `--help`, the
 * completion of shells and the man page are made.
 *
 * Threads: the main thread. */
#ifndef ISIMUD_CLI_ARGUMENTS_H
#define ISIMUD_CLI_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a command is given. Zeroed: nothing. Text is the arguments' own. */
struct arguments {
	char **words; /* those that are no options; end in NULL */
	size_t words_count;
	bool help;
	const char *url;
	const char *publisher;
	const char *password_file;
	const char *token;
	bool json;
	bool lines;
	bool receipts;
	bool once;
	bool all;
	bool exact;
	bool no_retry;
	const char *key;
	const char *event;
	const char *traceparent;
	const char *since;
	uint64_t last;
	uint64_t count; /* 0: not given, here and below */
	uint64_t timeout_ms;
	uint64_t interval_ms;
	const char *protocol;
	const char *pid;
	const char *topic;
	uint64_t subscribers;
	uint64_t stalled;
	uint64_t topics;
	uint64_t publishers;
	uint64_t rate;
	uint64_t size;
	uint64_t window;
	uint64_t pipeline;
	uint64_t threads;
	uint64_t duration_ms;
	uint64_t warmup_ms;
};

#define ARGUMENTS_ERROR_MAX 256

struct command {
	const char *name;
	const char *usage;   /* what follows the name */
	const char *summary; /* a line */
	const char *about;   /* paragraphs, with line ends */
	unsigned options;    /* a set of them, see arguments.c */
	size_t words_min;
	size_t words_max;
	const char *choices; /* what its first word may be; or NULL: anything */
	/* NULL: main() does it, and it takes settings instead of options.
	 * Returns the exit status. */
	int (*run)(const struct arguments *a);
};

/* The command called `name`, or NULL. */
const struct command *command_of(const char *name);

/* Reads what follows the command's name; `words`, which end in NULL, are put
 * into another order. `out` is zeroed memory. Returns 0; or UV_EINVAL with
 * `error` a line that says what is wrong and shows no value. */
int arguments_read(const struct command *command, char **words,
		   struct arguments *out,
		   char error[static ARGUMENTS_ERROR_MAX]);

/* `isimud COMMAND --help`. */
void command_print_help(const struct command *command, FILE *out);

/* A line for each command: `isimud help`. */
void command_print_list(FILE *out);

/* `isimud completion SHELL`. Returns 0, or UV_EINVAL if it knows no such. */
int command_print_completion(const char *shell, FILE *out);

/* --- the commands ---------------------------------------------------------
 */

/* Exit statuses. */
#define EXIT_USAGE   2 /* arguments or settings are wrong */
#define EXIT_REFUSED 3 /* the server says no: coming back is no use */
#define EXIT_TIMEOUT 4 /* sub: --timeout */
#define EXIT_LOST    5 /* sub --exact: messages were lost */

int pub_run(const struct arguments *a);
int sub_run(const struct arguments *a);
int topics_run(const struct arguments *a);
int top_run(const struct arguments *a);
int bench_run(const struct arguments *a);
int completion_run(const struct arguments *a);
int help_run(const struct arguments *a);

#endif
