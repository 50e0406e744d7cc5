/* arguments.c - the tables of commands and options, and their readers. */
#include "cli/arguments.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* Sets of options. */
enum {
	SERVER = 1 << 0, /* all that say which server */
	WRITER = 1 << 1, /* ... who logs in there */
	TOKEN = 1 << 2,
	PUB = 1 << 3,
	SUB = 1 << 4,
	TOPICS = 1 << 5,
	TOP = 1 << 6,
	BENCH = 1 << 7,
};

enum kind {
	FLAG,
	TEXT,
	NUMBER,   /* from 1 */
	DURATION, /* seconds, decimals allowed; kept in milliseconds */
};

struct option {
	const char *name;
	enum kind kind;
	const char *value; /* what it is called */
	unsigned of;       /* in which sets it is */
	size_t offset;
	const char *help;
};

#define AT(member) offsetof(struct arguments, member)

static const struct option options[] = {
	{"--json", FLAG, NULL, PUB, AT(json),
	 "DATA, or each line, is JSON, and not a string"},
	{"--lines", FLAG, NULL, PUB, AT(lines),
	 "each line of the input is a message; they go out as they come"},
	{"--event", TEXT, "TYPE", PUB, AT(event),
	 "the type of the messages' event"},
	{"--traceparent", TEXT, "TRACEPARENT", PUB, AT(traceparent),
	 "which trace they are part of (W3C Trace Context)"},
	{"--key", TEXT, "KEY", PUB, AT(key),
	 "publishes once, however often it is run: the Idempotency-Key; with "
	 "--lines KEY-N, where N is the line's number"},
	{"--receipts", FLAG, NULL, PUB, AT(receipts),
	 "prints each message's receipt, as a line of JSON"},
	{"--json", FLAG, NULL, SUB, AT(json),
	 "prints whole messages of isimud.v1 (topic, id, data), not data "
	 "alone"},
	{"--last", NUMBER, "N", SUB, AT(last),
	 "begins with up to N messages of each topic's history"},
	{"--since", TEXT, "ID", SUB, AT(since),
	 "goes on behind the message with that id; for one topic"},
	{"--count", NUMBER, "N", SUB, AT(count), "ends after N messages"},
	{"--timeout", DURATION, "SECONDS", SUB, AT(timeout_ms),
	 "ends when nothing has been received for so long"},
	{"--exact", FLAG, NULL, SUB, AT(exact),
	 "ends when messages were lost, instead of saying so and going on"},
	{"--no-retry", FLAG, NULL, SUB, AT(no_retry),
	 "ends when the connection does, instead of coming back"},
	{"--all", FLAG, NULL, TOPICS, AT(all), "the topics of all publishers"},
	{"--json", FLAG, NULL, TOPICS, AT(json), "a line of JSON for each"},
	{"--once", FLAG, NULL, TOP, AT(once),
	 "prints the figures once, over one interval, and ends"},
	{"--interval", DURATION, "SECONDS", TOP, AT(interval_ms),
	 "between two looks; 1 if it is not given"},
	{"--timeout", DURATION, "SECONDS", PUB, AT(timeout_ms),
	 "for which it tries again where the server is away or busy; if it is "
	 "not given 10, but a server that was never there is not waited for"},
	{"--protocol", TEXT, "NAME", BENCH, AT(protocol),
	 "how subscribers receive: raw (WebSockets), v1 (isimud.v1) or sse "
	 "(event streams); raw if it is not given"},
	{"--subscribers", NUMBER, "N", BENCH, AT(subscribers),
	 "100 if it is not given; idle and storm 1000"},
	{"--topics", NUMBER, "N", BENCH, AT(topics),
	 "over which subscribers and messages are dealt out; 1 if it is not "
	 "given"},
	{"--topic", TEXT, "NAME", BENCH, AT(topic),
	 "what topics are called, with six digits behind it; bench-PID- if it "
	 "is not given"},
	{"--stalled", NUMBER, "N", BENCH, AT(stalled),
	 "fanout: so many subscribers more, that read nothing"},
	{"--size", NUMBER, "BYTES", BENCH, AT(size),
	 "of a message, at least 31; 64 if it is not given"},
	{"--window", NUMBER, "N", BENCH, AT(window),
	 "fanout: messages under way, that are not yet delivered to all; 64 if "
	 "it is not given"},
	{"--rate", NUMBER, "N", BENCH, AT(rate),
	 "latency: messages a second; 1000 if it is not given"},
	{"--publishers", NUMBER, "N", BENCH, AT(publishers),
	 "connections that publish; 1 if it is not given, publish 64"},
	{"--pipeline", NUMBER, "N", BENCH, AT(pipeline),
	 "requests of a publisher that wait for their answers; publish 1 if it "
	 "is not given, others as many as needed"},
	{"--duration", DURATION, "SECONDS", BENCH, AT(duration_ms),
	 "for which it measures; 3 if it is not given"},
	{"--warmup", DURATION, "SECONDS", BENCH, AT(warmup_ms),
	 "before that; 1 if it is not given"},
	{"--count", NUMBER, "N", BENCH, AT(count),
	 "ends after N messages, which are all measured"},
	{"--threads", NUMBER, "N", BENCH, AT(threads),
	 "over which subscribers are dealt out; 1 if it is not given"},
	{"--pid", TEXT, "LIST", BENCH, AT(pid),
	 "the server's processes, whose CPU time and memory are told; else "
	 "those of the server that runs here"},
	{"--json", FLAG, NULL, BENCH, AT(json),
	 "one object of JSON, in a line"},
	{"--url", TEXT, "URL", SERVER, AT(url),
	 "the server: http://HOST:PORT, or unix:/PATH; http alone, no TLS"},
	{"--publisher", TEXT, "NAME", SERVER, AT(publisher),
	 "whose topics; else the URL's user, else ISIMUD_PUBLISHER"},
	{"--password-file", TEXT, "FILE", WRITER, AT(password_file),
	 "where the password is; else the URL's, else that of the settings"},
	{"--token", TEXT, "TOKEN", TOKEN, AT(token),
	 "what AUTH_URL is asked about; else ISIMUD_TOKEN, which others can't "
	 "see in a list of processes"},
	{"--help", FLAG, NULL, ~0u, AT(help), "this text"},
};

#define OPTIONS (sizeof options / sizeof options[0])

static const struct command commands[] = {
	{"pub", "[OPTION ...] TOPIC [DATA]",
	 "publishes a message, or each line of the input",
	 "Publishes DATA to the publisher's TOPIC. Without DATA it is the "
	 "standard input,\n"
	 "up to its end, without one newline there.\n"
	 "\n"
	 "A request that may have been lost is sent again with the same "
	 "Idempotency-Key,\n"
	 "so that it is published once.\n"
	 "\n"
	 "examples:\n"
	 "  isimud pub --publisher news sports '1 : 0'\n"
	 "  isimud pub --publisher news --json --receipts sports '{\"home\": "
	 "1}'\n"
	 "  tail -f app.log | isimud pub --publisher app --lines log\n"
	 "\n"
	 "exit status:\n"
	 "  0  all is published\n"
	 "  1  the server is away or busy, for longer than --timeout\n"
	 "  2  the arguments are wrong, or the input is no UTF-8 or no JSON\n"
	 "  3  the server refuses it\n",
	 SERVER | WRITER | PUB, 1, 2, NULL, pub_run},
	{"sub", "[OPTION ...] TOPIC...",
	 "prints the messages of topics as they come",
	 "Subscribes to the publisher's topics, and prints the data of each "
	 "message, a\n"
	 "line each. After a cut, or a restart of the server, it comes back "
	 "and goes on\n"
	 "where it was; if messages were lost, it says so on stderr.\n"
	 "\n"
	 "examples:\n"
	 "  isimud sub --publisher news sports weather\n"
	 "  isimud sub --publisher news --last 1 --count 1 --timeout 5 sports\n"
	 "  isimud sub --publisher news --json sports | jq .id\n"
	 "\n"
	 "exit status:\n"
	 "  0  --count messages were received\n"
	 "  1  the connection ended, and --no-retry was given; or stdout did\n"
	 "  2  the arguments are wrong\n"
	 "  3  the server refuses it: the token is wrong, or not for that "
	 "topic\n"
	 "  4  nothing was received for --timeout\n"
	 "  5  messages were lost, and --exact was given\n",
	 SERVER | TOKEN | SUB, 1, 128, NULL, sub_run},
	{"topics", "[OPTION ...] [TOPIC]",
	 "lists topics, with their subscribers and last ids",
	 "Lists the publisher's topics that have subscribers or history, or "
	 "shows one.\n"
	 "\n"
	 "examples:\n"
	 "  isimud topics --publisher news\n"
	 "  isimud topics --all --json\n"
	 "\n"
	 "exit status:\n"
	 "  0  they are shown\n"
	 "  1  the server is away or busy\n"
	 "  2  the arguments are wrong\n"
	 "  3  the server refuses it, or there is no such topic\n",
	 SERVER | WRITER | TOPICS, 0, 1, NULL, topics_run},
	{"top", "[OPTION ...]",
	 "shows what the server does, refreshed in place",
	 "Shows the figures of /metrics, each interval, until it is "
	 "interrupted. The\n"
	 "admin listener is asked, if the server beside it has one; else the "
	 "password is\n"
	 "needed.\n"
	 "\n"
	 "examples:\n"
	 "  isimud top\n"
	 "  isimud top --once --url http://127.0.0.1:9090\n"
	 "\n"
	 "exit status:\n"
	 "  0  it was shown\n"
	 "  1  the server is away\n"
	 "  2  the arguments are wrong\n"
	 "  3  the server refuses it\n",
	 SERVER | WRITER | TOP, 0, 0, NULL, top_run},
	{"bench", "[OPTION ...] fanout|publish|latency|idle|storm",
	 "measures a server, and checks all that it delivers",
	 "Measures the server with subscribers and publishers of its own, on "
	 "topics of its\n"
	 "own:\n"
	 "\n"
	 "  fanout   as many deliveries as it can; a window of messages is "
	 "under way\n"
	 "  publish  as many publications as it can; nobody is subscribed\n"
	 "  latency  how long messages take that are sent at a fixed rate\n"
	 "  idle     what connections cost that hardly get anything\n"
	 "  storm    all connections are cut at once: how long until all are "
	 "back\n"
	 "\n"
	 "Each message is checked: lost, doubled, out of order, damaged, "
	 "misrouted.\n"
	 "Latency runs from the time at which a message was due. The generator "
	 "needs a\n"
	 "core of its own, and says so when that was not enough.\n"
	 "\n"
	 "examples:\n"
	 "  isimud bench fanout --subscribers 1000\n"
	 "  isimud bench latency --rate 200 --size 1000 --protocol v1\n"
	 "  isimud bench publish --publishers 8 --pipeline 16 --json\n"
	 "\n"
	 "exit status:\n"
	 "  0  it is measured, and all was delivered as it must be\n"
	 "  1  it was not; or the server is away\n"
	 "  2  the arguments are wrong\n"
	 "  3  the server refuses it\n",
	 SERVER | WRITER | TOKEN | BENCH, 1, 1,
	 "fanout publish latency idle storm", bench_run},
	{"reload", "",
	 "makes the server that runs here read its password again",
	 "Sends SIGHUP to the one isimud of this container or PID namespace "
	 "that its user\n"
	 "may look into; it needs no setting.\n"
	 "\n"
	 "exit status:\n"
	 "  0  it was told\n"
	 "  1  none or several run here\n",
	 0, 0, 0, NULL, NULL},
	{"healthcheck", "[SETTING ...]",
	 "asks the server that runs here whether it is well",
	 "Asks for /healthz on ADMIN_PORT, else at the first listener, by the "
	 "settings of\n"
	 "the server that runs here, unless flags (--port, --listen, ...) or "
	 "variables say\n"
	 "where. It waits for 3 s and needs no password.\n"
	 "\n"
	 "exit status:\n"
	 "  0  it is well\n"
	 "  1  it is not, or can't be asked\n",
	 0, 0, 0, NULL, NULL},
	{"completion", "bash|zsh",
	 "prints a script that completes commands and options",
	 "examples:\n"
	 "  source <(isimud completion bash)\n"
	 "  isimud completion zsh > \"${fpath[1]}/_isimud\"\n",
	 0, 1, 1, "bash zsh", completion_run},
	{"help", "[COMMAND]", "lists the commands, or explains one", "", 0, 0,
	 1, NULL, help_run},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

const struct command *command_of(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* --- reading --------------------------------------------------------------
 */

/* The option of `command` that `word` names, up to its `=`. */
static const struct option *option_of(const struct command *command,
				      const char *word)
{
	size_t len = strcspn(word, "=");

	for (size_t i = 0; i < OPTIONS; i++)
		if ((options[i].of == ~0u ||
		     (options[i].of & command->options) != 0) &&
		    strlen(options[i].name) == len &&
		    strncmp(options[i].name, word, len) == 0)
			return &options[i];
	return NULL;
}

static bool read_number(const char *text, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)text[0]) || strlen(text) > 9)
		return false;
	*out = strtoull(text, &end, 10);
	return *end == '\0' && *out > 0;
}

static bool read_duration(const char *text, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)text[0]) || strlen(text) > 9)
		return false;
	double seconds = strtod(text, &end);
	*out = (uint64_t)(seconds * 1000);
	return *end == '\0' && *out > 0;
}

/* Reads `value` into the member of `o`. */
static bool read_value(const struct option *o, const char *value,
		       struct arguments *out)
{
	void *member = (char *)out + o->offset;

	switch (o->kind) {
	case FLAG:
		*(bool *)member = true;
		return true;
	case TEXT:
		*(const char **)member = value;
		return true;
	case NUMBER:
		return read_number(value, member);
	case DURATION:
		return read_duration(value, member);
	}
	return false;
}

/* Reads the option at `words`. Returns how many words it takes, or 0. */
static size_t read_option(const struct command *command, char *const *words,
			  struct arguments *out, char *error)
{
	const struct option *o = option_of(
		command, strcmp(words[0], "-h") == 0 ? "--help" : words[0]);
	const char *equals = strchr(words[0], '=');
	size_t used = 1;

	if (o == NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "%.*s is no option; see isimud %s --help",
			 (int)strcspn(words[0], "="), words[0], command->name);
		return 0;
	}
	const char *value = equals == NULL ? NULL : equals + 1;
	if (o->kind == FLAG && value != NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "%s takes no value",
			 o->name);
		return 0;
	}
	if (o->kind != FLAG && value == NULL) {
		value = words[1];
		used = 2;
	}
	if (o->kind != FLAG && value == NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "%s needs a value",
			 o->name);
		return 0;
	}
	if (read_value(o, value, out))
		return used;
	snprintf(error, ARGUMENTS_ERROR_MAX, "%s needs %s above 0", o->name,
		 o->kind == NUMBER ? "a whole number" : "a number of seconds");
	return 0;
}

int arguments_read(const struct command *command, char **words,
		   struct arguments *out,
		   char error[static ARGUMENTS_ERROR_MAX])
{
	bool is_over = false; /* behind "--" */

	out->words = words;
	for (char **w = words; *w != NULL;) {
		if (is_over || (*w)[0] != '-' || (*w)[1] == '\0') {
			words[out->words_count++] = *w++;
		} else if (strcmp(*w, "--") == 0) {
			is_over = true;
			w++;
		} else {
			size_t used = read_option(command, w, out, error);
			if (used == 0)
				return UV_EINVAL;
			w += used;
		}
	}
	words[out->words_count] = NULL;
	if (out->help)
		return 0;
	if (out->words_count < command->words_min ||
	    out->words_count > command->words_max) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "usage: isimud %s %s",
			 command->name, command->usage);
		return UV_EINVAL;
	}
	return 0;
}

/* --- showing --------------------------------------------------------------
 */

#define WIDTH  79
#define INDENT 6

/* Prints `text`, filled into lines that are indented. */
static void print_filled(const char *text, FILE *out)
{
	size_t column = INDENT;

	fprintf(out, "%*s", INDENT, "");
	while (*text != '\0') {
		size_t len = strcspn(text, " ");
		if (column > INDENT && column + 1 + len > WIDTH) {
			fprintf(out, "\n%*s", INDENT, "");
			column = INDENT;
		}
		if (column > INDENT) {
			fputc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", (int)len, text);
		column += len;
		text += len + (text[len] == ' ');
	}
	fputc('\n', out);
}

void command_print_help(const struct command *command, FILE *out)
{
	const char *rest = strstr(command->about, "examples:\n");
	size_t len = rest == NULL ? strlen(command->about)
				  : (size_t)(rest - command->about);

	fprintf(out, "usage: isimud %s %s\n\n", command->name, command->usage);
	if (len > 0)
		fwrite(command->about, 1, len, out);
	else
		fprintf(out, "It %s.\n\n", command->summary);
	fputs(len > 0 && rest == NULL ? "\noptions:\n" : "options:\n", out);
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *o = &options[i];
		if (option_of(command, o->name) != o)
			continue;
		fprintf(out, "  %s%s%s\n", o->name, o->value != NULL ? " " : "",
			o->value != NULL ? o->value : "");
		print_filled(o->help, out);
	}
	if (rest != NULL)
		fprintf(out, "\n%s", rest);
}

void command_print_list(FILE *out)
{
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-11s  %s\n", commands[i].name,
			commands[i].summary);
}

int help_run(const struct arguments *a)
{
	if (a->words_count == 0) {
		fputs("usage: isimud COMMAND [OPTION ...]\n\ncommands:\n",
		      stdout);
		command_print_list(stdout);
		fputs("\nEach explains itself: isimud COMMAND --help. Without "
		      "a command it serves; its\nsettings: isimud --help.\n",
		      stdout);
		return EXIT_SUCCESS;
	}
	const struct command *command = command_of(a->words[0]);
	if (command == NULL) {
		fprintf(stderr, "isimud help: there is no such command\n");
		return EXIT_USAGE;
	}
	command_print_help(command, stdout);
	return EXIT_SUCCESS;
}

/* --- completion -----------------------------------------------------------
 */

static void print_options(const struct command *command, FILE *out)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (option_of(command, options[i].name) == &options[i])
			fprintf(out, " %s%s", options[i].name,
				options[i].kind == FLAG ? "" : "=");
}

/* Whether its words are topics, as its usage says. */
static bool takes_topics(const struct command *command)
{
	return strstr(command->usage, "TOPIC") != NULL;
}

/* Both shells' way to the names of topics: one a line, if the server answers
 * within a second. Names with control characters are left out. */
#define TOPIC_NAMES                                                            \
	"timeout 1 isimud topics \"${given[@]}\" 2>/dev/null </dev/null | "    \
	"sed -n -e '/\\\\/d' "                                                 \
	"-e '2,$s/^ *[^ ][^ ]*  *[^ ][^ ]*  *[^ ][^ ]*  *//p'"

/* Settings are asked for: they are not of this table. What comes from a server
 * is never given to `compgen -W`, which expands it as the shell does. */
static const char bash_head[] =
	"# bash completion for isimud; made by `isimud completion bash`.\n"
	"_isimud_topics()\n"
	"{\n"
	"	local line=${COMP_LINE:0:COMP_POINT} name given=()\n"
	"	local whole=${line##* } rest=$COMP_LINE\n"
	"	while [[ $rest =~ --(url|publisher|password-file)[=\\ ]"
	"([^\\ ]+)(.*) ]]; do\n"
	"		given+=(\"--${BASH_REMATCH[1]}=${BASH_REMATCH[2]}\")\n"
	"		rest=${BASH_REMATCH[3]}\n"
	"	done\n"
	"	while IFS= read -r name; do\n"
	"		printf -v name %q \"$name\"\n"
	"		[[ $name != \"$whole\"* ]] || "
	"COMPREPLY+=(\"${name#\"${whole%\"$1\"}\"} \")\n"
	"	done < <(" TOPIC_NAMES ")\n"
	"}\n"
	"_isimud()\n"
	"{\n"
	"	local word=${COMP_WORDS[COMP_CWORD]} "
	"before=${COMP_WORDS[COMP_CWORD-1]} options= topics=\n"
	"	compopt -o nospace\n"
	"	if [[ $before == = ]]; then\n"
	"		before=${COMP_WORDS[COMP_CWORD-2]}\n"
	"	elif [[ $word == = ]]; then\n"
	"		word=\n"
	"	fi\n"
	"	case $before in\n"
	"	--password-file|--history-file|--nats-creds|--nats-ca)\n"
	"		compopt -o filenames +o nospace\n"
	"		mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
	"		return;;\n"
	"	esac\n"
	"	case ${COMP_WORDS[1]} in\n";

static const char bash_tail[] =
	"	*)\n"
	"		[[ $COMP_CWORD == 1 ]] && options=\"@COMMANDS@ --help "
	"--version --check-config \"\n"
	"		options+=$(isimud --help 2>/dev/null | "
	"sed -n 's/^  \\(--[a-z-]*\\) .*/\\1=/p');;\n"
	"	esac\n"
	"	mapfile -t COMPREPLY < <(compgen -W \"$options\" -- "
	"\"$word\")\n"
	"	for i in \"${!COMPREPLY[@]}\"; do\n"
	"		[[ ${COMPREPLY[i]} == *= ]] || COMPREPLY[i]+=' '\n"
	"	done\n"
	"	[[ -z $topics || $word == -* ]] || _isimud_topics \"$word\"\n"
	"}\n"
	"complete -F _isimud isimud\n";

static void print_names(FILE *out)
{
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "%s%s", i == 0 ? "" : " ", commands[i].name);
}

static void print_bash(FILE *out)
{
	const char *names = strstr(bash_tail, "@COMMANDS@");

	fputs(bash_head, out);
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, "healthcheck") == 0)
			continue; /* it takes settings */
		fprintf(out, "\t%s)\n\t\toptions=\"", commands[i].name);
		if (commands[i].choices != NULL)
			fputs(commands[i].choices, out);
		else if (commands[i].run == help_run)
			print_names(out);
		print_options(&commands[i], out);
		fprintf(out, "\"%s;;\n",
			takes_topics(&commands[i]) ? " topics=yes" : "");
	}
	fwrite(bash_tail, 1, (size_t)(names - bash_tail), out);
	print_names(out);
	fputs(names + strlen("@COMMANDS@"), out);
}

/* Text within '...' and [...] of _arguments (zshcompsys(1)). */
static void print_zsh_text(const char *text, FILE *out)
{
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			fputs("'\\'", out);
		else if (strchr("[]:\\", *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void print_zsh_command(const struct command *command, FILE *out)
{
	fprintf(out, "\t%s)\n\t\t_arguments", command->name);
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *o = &options[i];
		if (option_of(command, o->name) != o)
			continue;
		fprintf(out, " \\\n\t\t\t'%s%s[", o->name,
			o->kind == FLAG ? "" : "=");
		print_zsh_text(o->help, out);
		fputc(']', out);
		if (o->kind != FLAG)
			fprintf(out, ":%s:%s", o->value,
				strcmp(o->value, "FILE") == 0 ? "_files" : "");
		fputc('\'', out);
	}
	if (command->choices != NULL)
		fprintf(out, " \\\n\t\t\t'1:word:(%s)'", command->choices);
	if (command->run == help_run) {
		fputs(" \\\n\t\t\t'1:command:(", out);
		print_names(out);
		fputs(")'", out);
	}
	if (takes_topics(command))
		fprintf(out, " \\\n\t\t\t'%s:topic:_isimud_topics'",
			command->words_max > 2 ? "*" : "1");
	fputs(";;\n", out);
}

static void print_zsh(FILE *out)
{
	fputs("#compdef isimud\n"
	      "# zsh completion for isimud; made by `isimud completion zsh`.\n"
	      "_isimud_topics()\n"
	      "{\n"
	      "	local -a given\n"
	      "	local i\n"
	      "	for ((i = 2; i < CURRENT; i++)); do\n"
	      "		case $words[i] in\n"
	      "		--url=*|--publisher=*|--password-file=*)\n"
	      "			given+=(\"${(Q)words[i]}\");;\n"
	      "		--url|--publisher|--password-file)\n"
	      "			given+=($words[i] \"${(Q)words[i+1]}\");;\n"
	      "		esac\n"
	      "	done\n"
	      "	compadd -- ${(f)\"$(" TOPIC_NAMES ")\"}\n"
	      "}\n"
	      "_isimud()\n"
	      "{\n"
	      "	local -a commands settings\n"
	      "	commands=(\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++) {
		fprintf(out, "\t\t'%s:", commands[i].name);
		print_zsh_text(commands[i].summary, out);
		fputs("'\n", out);
	}
	fputs("	)\n"
	      "	settings=(${(f)\"$(isimud --help 2>/dev/null | "
	      "sed -n 's/^  \\(--[a-z-]*\\) .*/\\1=/p')\"})\n"
	      "	if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then\n"
	      "		_describe command commands\n"
	      "		return\n"
	      "	fi\n"
	      "	local command=$words[2]\n"
	      "	if (( CURRENT > 2 )) && (( $+commands[(r)$command:*] )); then\n"
	      "		words=(\"${(@)words[2,-1]}\")\n"
	      "		(( CURRENT-- ))\n"
	      "	else\n"
	      "		command=\n"
	      "	fi\n"
	      "	case $command in\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, "healthcheck") != 0)
			print_zsh_command(&commands[i], out);
	fputs("	*)\n"
	      "		compadd -S '' -- $settings\n"
	      "		compadd -- --help --version --check-config;;\n"
	      "	esac\n"
	      "}\n"
	      "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
	      "	_isimud \"$@\"\n"
	      "else\n"
	      "	compdef _isimud isimud\n"
	      "fi\n",
	      out);
}

int command_print_completion(const char *shell, FILE *out)
{
	if (strcmp(shell, "bash") == 0)
		print_bash(out);
	else if (strcmp(shell, "zsh") == 0)
		print_zsh(out);
	else
		return UV_EINVAL;
	return 0;
}

int completion_run(const struct arguments *a)
{
	if (command_print_completion(a->words[0], stdout) == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "isimud completion: bash and zsh are known\n");
	return EXIT_USAGE;
}
