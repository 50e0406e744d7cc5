/* topics.c - `isimud topics`: GET /topics, page by page, or one. */
#include "cli/arguments.h"
#include "cli/ask.h"
#include "cli/place.h"
#include "codec/http/http.h"
#include "codec/json/json.h"

#include <stdlib.h>

#define NAME       "topics"
#define TIMEOUT_MS 10000

struct topics {
	const struct arguments *arguments;
	struct ask *ask;
	struct buf fields;
	struct buf path; /* ends in a NUL */
	struct ask_answer answer;
	struct buf memory; /* what the members of a topic lie in */
	bool has_header;
};

enum member {
	PUBLISHER,
	TOPIC,
	SUBSCRIBERS,
	ID,
	HISTORY,
	MEMBERS,
};

/* Prints a name as one line: control characters as \xNN. */
static void print_name(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.bytes[i];
		if (c < ' ' || c == 127 || c == '\\')
			printf("\\x%02x", c);
		else
			putchar(c);
	}
	putchar('\n');
}

static void on_topic(void *user, struct span text)
{
	struct topics *t = user;
	struct json_error error;
	struct json_member m[MEMBERS] = {
		[PUBLISHER] = {.name = "publisher", .kinds = JSON_STRING},
		[TOPIC] = {.name = "topic", .kinds = JSON_STRING},
		[SUBSCRIBERS] = {.name = "subscribers", .kinds = JSON_NUMBER},
		[ID] = {.name = "id", .kinds = JSON_ANY},
		[HISTORY] = {.name = "history", .kinds = JSON_NUMBER},
	};

	if (t->arguments->json) {
		printf("%.*s\n", (int)text.len, text.bytes);
		return;
	}
	if (json_read_members(text, m, MEMBERS, &t->memory, &error) != 0)
		return;
	if (!t->has_header)
		printf("%11s  %7s  %-26s  %sTOPIC\n", "SUBSCRIBERS", "HISTORY",
		       "ID", t->arguments->all ? "PUBLISHER  " : "");
	t->has_header = true;
	printf("%11.*s  %7.*s  %-26.*s  ", (int)m[SUBSCRIBERS].value.len,
	       m[SUBSCRIBERS].value.bytes, (int)m[HISTORY].value.len,
	       m[HISTORY].value.bytes, (int)m[ID].value.len, m[ID].value.bytes);
	if (t->arguments->all)
		printf("%.*s  ", (int)m[PUBLISHER].value.len,
		       m[PUBLISHER].value.bytes);
	print_name(m[TOPIC].value);
}

/* Asks for `path`. Returns the exit status. */
static int get_topics(struct topics *t)
{
	struct client_request request = {
		.method = "GET",
		.path = t->path.bytes,
		.fields = {t->fields.bytes, t->fields.len},
	};
	struct buf memory = {0};
	int rv = ask_now(t->ask, &request, TIMEOUT_MS, &t->answer);

	if (rv != 0) {
		cli_say(NAME, "no answer: %s",
			rv == UV_EPROTO ? t->answer.why : uv_strerror(rv));
		return EXIT_FAILURE;
	}
	if (t->answer.status == 200)
		return 0;
	struct span text = cli_error_text(
		(struct span){t->answer.content.bytes, t->answer.content.len},
		&memory);
	cli_say(NAME, "the server answers %u%s%.*s", t->answer.status,
		text.len > 0 ? ": " : "", (int)text.len, text.bytes);
	buf_fini(&memory);
	return t->answer.status < 500 ? EXIT_REFUSED : EXIT_FAILURE;
}

static struct span content_of(const struct topics *t)
{
	return (struct span){t->answer.content.bytes, t->answer.content.len};
}

static int show_one(struct topics *t, const char *name)
{
	int rv = buf_append_text(&t->path, "/topics/");

	rv = rv != 0 ? rv : http_encode(span_of(name), &t->path);
	rv = rv != 0 ? rv : buf_append(&t->path, "", 1);
	if (rv != 0) {
		cli_say(NAME, "out of memory");
		return EXIT_FAILURE;
	}
	int status = get_topics(t);
	if (status == 0)
		on_topic(t, content_of(t));
	return status;
}

/* Prints a page. `after` receives the `next` of the page, empty if it is the
 * last. Returns the exit status. */
static int show_page(struct topics *t, struct buf *after)
{
	struct json_error error;
	struct json_member m[] = {
		{.name = "topics", .kinds = JSON_ANY, .is_required = true},
		{.name = "next", .kinds = JSON_ANY},
	};
	struct buf memory = {0};

	t->path.len = 0;
	int rv = buf_append_text(&t->path, "/topics?limit=1000");
	rv = rv != 0 ? rv
		     : buf_append_text(&t->path,
				       t->arguments->all ? "&all=true" : "");
	if (after->len > 0) {
		rv = rv != 0 ? rv : buf_append_text(&t->path, "&after=");
		rv = rv != 0 ? rv
			     : http_encode(
				       (struct span){after->bytes, after->len},
				       &t->path);
	}
	rv = rv != 0 ? rv : buf_append(&t->path, "", 1);
	int status = rv == 0 ? get_topics(t) : EXIT_FAILURE;
	if (status != 0)
		return status;
	after->len = 0;
	if (json_read_members(content_of(t), m, 2, &memory, &error) != 0 ||
	    json_read_array(m[0].value, on_topic, t, &error) != 0) {
		cli_say(NAME, "the server's list can't be read: %s",
			error.text);
		status = EXIT_FAILURE;
	} else if (m[1].is_string &&
		   buf_append(after, m[1].value.bytes, m[1].value.len) != 0) {
		status = EXIT_FAILURE;
	}
	buf_fini(&memory);
	return status;
}

static int show_all(struct topics *t)
{
	struct buf after = {0};
	int status;

	do
		status = show_page(t, &after);
	while (status == 0 && after.len > 0);
	buf_fini(&after);
	return status;
}

int topics_run(const struct arguments *a)
{
	struct place place = {0};
	struct topics t = {.arguments = a};
	char error[ARGUMENTS_ERROR_MAX] = "";

	int rv = place_find(&place, a, error);
	if (rv == 0)
		rv = place_add_basic(&place, a->all ? "isimud" : NULL,
				     &t.fields, error);
	t.ask = ask_new(&place.url);
	int status = EXIT_USAGE;
	if (rv != 0 || t.ask == NULL)
		cli_say(NAME, "%s",
			error[0] != '\0' ? error : uv_strerror(UV_ENOMEM));
	else
		status = a->words_count == 1 ? show_one(&t, a->words[0])
					     : show_all(&t);
	if (fflush(stdout) != 0 && status == 0)
		status = EXIT_FAILURE;
	ask_free(t.ask);
	ask_answer_fini(&t.answer);
	if (t.fields.bytes != NULL)
		explicit_bzero(t.fields.bytes, t.fields.cap);
	buf_fini(&t.fields);
	buf_fini(&t.path);
	buf_fini(&t.memory);
	place_fini(&place);
	return status;
}
