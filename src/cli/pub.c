/* pub.c - `isimud pub`: POST /pub, one request after another.
 *
 * Lines that have already arrived go out together, as a batch: a busy pipe does
 * not cost a round trip for each line, and a slow one does not delay its lines.
 */
#include "base/utf8.h"
#include "cli/arguments.h"
#include "cli/ask.h"
#include "cli/place.h"
#include "codec/json/json.h"
#include "codec/sse.h"
#include "codec/traceparent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define NAME            "pub"
#define BATCH_MAX       256
#define BATCH_MAX_BYTES 262144 /* of JSON, before the last message */
#define READ_BYTES      65536
#define TIMEOUT_MS      10000 /* where --timeout is not given */
#define PAUSE_MAX_MS    2000
#define KEY_BYTES       16
#define KEY_PREFIX      "isimud-pub-"

struct pub {
	const struct arguments *arguments;
	struct ask *ask;
	struct buf fields; /* of all requests */
	struct buf prefix; /* of a publication's JSON, up to its data */
	struct buf suffix; /* behind that */
	struct buf batch;
	uint64_t count;    /* messages in the batch */
	uint64_t first;    /* the number of its first message, from 1 */
	uint64_t pause_ms; /* before the next attempt */
	bool was_answered; /* a request, by this server */
	struct ask_answer answer;
};

static void pub_fini(struct pub *p)
{
	ask_free(p->ask);
	if (p->fields.bytes != NULL)
		explicit_bzero(p->fields.bytes, p->fields.cap);
	buf_fini(&p->fields);
	buf_fini(&p->prefix);
	buf_fini(&p->suffix);
	buf_fini(&p->batch);
	ask_answer_fini(&p->answer);
}

static int pub_fail_memory(void)
{
	cli_say(NAME, "out of memory");
	return EXIT_FAILURE;
}

/* --- one request ----------------------------------------------------------
 */

/* Appends the field lines, with a new idempotency key, so that a request whose
 * answer was lost can be sent again. */
static int make_fields(const struct pub *p, struct buf *out)
{
	uint8_t random[KEY_BYTES] = {0};
	char key[sizeof KEY_PREFIX + (size_t)2 * KEY_BYTES] = KEY_PREFIX;
	char number[32] = "";

	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return UV_EIO;
	for (size_t i = 0; i < KEY_BYTES; i++)
		snprintf(key + strlen(key), 3, "%02x", random[i]);
	if (p->arguments->lines)
		snprintf(number, sizeof number, "-%" PRIu64, p->first);
	bool is_given = p->arguments->key != NULL;
	int rv = buf_append(out, p->fields.bytes, p->fields.len);
	rv = rv != 0 ? rv : buf_append_text(out, "Idempotency-Key: ");
	rv = rv != 0 ? rv
		     : buf_append_text(out, is_given ? p->arguments->key : key);
	rv = rv != 0 ? rv : buf_append_text(out, is_given ? number : "");
	return rv != 0 ? rv : buf_append_text(out, "\r\n");
}

/* Prints what is in the receipt, or in the array of them. */
static int print_receipts(struct span content)
{
	int depth = 0;
	bool is_in_string = false;

	/* Receipts have no brackets in their strings, and are flat. */
	for (size_t i = 0; i < content.len; i++) {
		char c = content.bytes[i];
		is_in_string ^= c == '"';
		if (c == '{' && !is_in_string)
			depth++;
		if (depth > 0)
			putchar(c);
		if (c == '}' && !is_in_string && --depth == 0)
			putchar('\n');
	}
	if (fflush(stdout) == 0)
		return 0;
	return EXIT_FAILURE;
}

/* Says which messages it is about: "lines 3 to 9: ". */
static void name_batch(const struct pub *p, char out[static 64])
{
	out[0] = '\0';
	if (!p->arguments->lines)
		return;
	if (p->count == 1)
		snprintf(out, 64, "line %" PRIu64 ": ", p->first);
	else
		snprintf(out, 64, "lines %" PRIu64 " to %" PRIu64 ": ",
			 p->first, p->first + p->count - 1);
}

/* Prints an answer that is an error. Returns the exit status. */
static int refuse(const struct pub *p)
{
	const struct buf *content = &p->answer.content;
	struct buf memory = {0};
	char which[64];
	struct span text = cli_error_text(
		(struct span){content->bytes, content->len}, &memory);

	name_batch(p, which);
	cli_say(NAME, "%sthe server answers %u%s%.*s", which, p->answer.status,
		text.len > 0 ? ": " : "", (int)text.len, text.bytes);
	buf_fini(&memory);
	return p->answer.status < 500 ? EXIT_REFUSED : EXIT_FAILURE;
}

/* Whether the same request may be answered differently soon. A server that was
 * never there is waited for only by who says for how long. */
static bool is_passing(const struct pub *p, int rv)
{
	unsigned status = p->answer.status;

	if (rv == 0)
		return status == 502 || status == 503 || status == 504;
	if ((rv == UV_ECONNREFUSED || rv == UV_ENOENT) && !p->was_answered)
		return p->arguments->timeout_ms > 0;
	return rv != UV_EPROTO && rv != UV_ENOMEM && rv != UV_EAI_NONAME &&
	       rv != UV_EACCES;
}

static void pub_pause(struct pub *p, uint64_t left_ms)
{
	uint64_t ms = p->pause_ms / 2 + cli_random(p->pause_ms / 2);

	p->pause_ms =
		p->pause_ms * 2 < PAUSE_MAX_MS ? p->pause_ms * 2 : PAUSE_MAX_MS;
	uv_sleep((unsigned)(ms < left_ms ? ms : left_ms));
}

/* Sends the batch until it has a final answer. Returns the exit status. */
static int exchange_publication(struct pub *p,
				const struct client_request *request)
{
	uint64_t timeout_ms = p->arguments->timeout_ms > 0
				      ? p->arguments->timeout_ms
				      : TIMEOUT_MS;
	uint64_t deadline = uv_hrtime() / 1000000 + timeout_ms;
	uint64_t left_ms = timeout_ms;
	int rv;

	p->pause_ms = 100;
	for (;;) {
		rv = ask_now(p->ask, request, left_ms, &p->answer);
		uint64_t now = uv_hrtime() / 1000000;
		left_ms = deadline > now ? deadline - now : 0;
		p->was_answered |= rv == 0;
		if (!is_passing(p, rv) || left_ms == 0)
			break;
		pub_pause(p, left_ms);
		now = uv_hrtime() / 1000000;
		left_ms = deadline > now ? deadline - now : 1;
	}
	if (rv == 0)
		return p->answer.status == 200 ? 0 : refuse(p);
	cli_say(NAME, "no answer: %s",
		rv == UV_EPROTO ? p->answer.why : uv_strerror(rv));
	return EXIT_FAILURE;
}

/* Publishes the batch and empties it. Returns the exit status. */
static int flush(struct pub *p)
{
	struct buf fields = {0};

	if (p->count == 0)
		return 0;
	if (buf_append(&p->batch, "]", 1) != 0 ||
	    make_fields(p, &fields) != 0) {
		buf_fini(&fields);
		return pub_fail_memory();
	}
	bool is_one = p->count == 1; /* its answer is no array */
	struct client_request request = {
		.method = "POST",
		.path = "/pub",
		.fields = {fields.bytes, fields.len},
		.content = {p->batch.bytes + is_one,
			    p->batch.len - (is_one ? 2 : 0)},
	};
	int status = exchange_publication(p, &request);
	explicit_bzero(fields.bytes, fields.cap);
	buf_fini(&fields);
	if (status == 0 && p->arguments->receipts)
		status = print_receipts((struct span){p->answer.content.bytes,
						      p->answer.content.len});
	p->first += p->count;
	p->count = 0;
	p->batch.len = 0;
	return status;
}

/* --- messages -------------------------------------------------------------
 */

/* Adds a message to the batch, and publishes it if it is full. Returns the exit
 * status. */
static int pub_take(struct pub *p, struct span data)
{
	struct json_error error;
	char which[64];
	int rv = 0;

	if (p->arguments->json ? json_check(data, &error) != 0
			       : !utf8_is_valid(data)) {
		int status = flush(p);
		p->count = 1;
		name_batch(p, which);
		cli_say(NAME, "%s%s", which,
			p->arguments->json ? error.text : "it is not UTF-8");
		p->count = 0;
		return status != 0 ? status : EXIT_USAGE;
	}
	rv = buf_append_text(&p->batch, p->count == 0 ? "[" : ",");
	rv = rv != 0 ? rv
		     : buf_append(&p->batch, p->prefix.bytes, p->prefix.len);
	if (p->arguments->json)
		rv = rv != 0 ? rv : buf_append(&p->batch, data.bytes, data.len);
	else
		rv = rv != 0 ? rv : json_write_string(&p->batch, data);
	rv = rv != 0 ? rv
		     : buf_append(&p->batch, p->suffix.bytes, p->suffix.len);
	if (rv != 0)
		return pub_fail_memory();
	p->count++;
	if (p->count == BATCH_MAX || p->batch.len >= BATCH_MAX_BYTES ||
	    p->arguments->key != NULL)
		return flush(p);
	return 0;
}

/* Reads on from standard input. Returns 0 with `*n` the bytes, 0 at the end. */
static int read_input(struct buf *in, ssize_t *n)
{
	if (buf_reserve(in, READ_BYTES) != 0)
		return pub_fail_memory();
	do
		*n = read(STDIN_FILENO, in->bytes + in->len, READ_BYTES);
	while (*n < 0 && errno == EINTR);
	if (*n < 0) {
		cli_say(NAME, "the input can't be read: %s",
			uv_strerror(uv_translate_sys_error(errno)));
		return EXIT_FAILURE;
	}
	in->len += (size_t)*n;
	return 0;
}

/* Publishes each whole line of `in`; at the end of input, a last line without a
 * newline too. */
static int take_lines(struct pub *p, struct buf *in, bool is_end)
{
	size_t at = 0;
	int status = 0;

	while (status == 0 && at < in->len) {
		const char *newline =
			memchr(in->bytes + at, '\n', in->len - at);
		if (newline == NULL && !is_end)
			break;
		size_t end = newline == NULL ? in->len
					     : (size_t)(newline - in->bytes);
		size_t len = end - at;
		if (newline != NULL && len > 0 &&
		    in->bytes[at + len - 1] == '\r')
			len--;
		status = pub_take(p, (struct span){in->bytes + at, len});
		at = end + (newline != NULL);
	}
	buf_consume(in, at);
	return status != 0 ? status : flush(p);
}

static int publish_lines(struct pub *p)
{
	struct buf in = {0};
	ssize_t n = 1;
	int status = 0;

	while (status == 0 && n > 0) {
		status = read_input(&in, &n);
		if (status == 0)
			status = take_lines(p, &in, n == 0);
	}
	buf_fini(&in);
	return status;
}

static int publish_input(struct pub *p)
{
	struct buf in = {0};
	ssize_t n = 1;
	int status = 0;

	while (status == 0 && n > 0)
		status = read_input(&in, &n);
	struct span data = {in.bytes, in.len};
	if (data.len > 0 && data.bytes[data.len - 1] == '\n')
		data.len--;
	if (data.len == 0)
		data = SPAN("");
	if (status == 0)
		status = pub_take(p, data);
	buf_fini(&in);
	return status != 0 ? status : flush(p);
}

static int publish_request(struct pub *p)
{
	const struct arguments *a = p->arguments;

	if (a->lines)
		return publish_lines(p);
	if (a->words_count == 1)
		return publish_input(p);
	int status = pub_take(p, span_of(a->words[1]));
	return status != 0 ? status : flush(p);
}

/* --- before ---------------------------------------------------------------
 */

static int pub_prepare(struct pub *p, const struct place *place,
		       char error[static ARGUMENTS_ERROR_MAX])
{
	const struct arguments *a = p->arguments;
	const char *wrong = "it is empty";

	error[0] = '\0';
	if (a->event != NULL &&
	    (a->event[0] == '\0' ||
	     sse_check_type(span_of(a->event), &wrong) != 0)) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "--event: %s", wrong);
		return UV_EINVAL;
	}
	if (a->traceparent != NULL &&
	    traceparent_parse(span_of(a->traceparent)).bytes == NULL) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "--traceparent: it is none of version 00");
		return UV_EINVAL;
	}
	for (const char *k = a->key; k != NULL && *k != '\0'; k++)
		if (*k <= ' ' || *k > '~') {
			snprintf(error, ARGUMENTS_ERROR_MAX,
				 "--key: printable ASCII alone is allowed");
			return UV_EINVAL;
		}
	if (a->lines && a->words_count == 2) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "--lines reads the input, so no DATA is allowed");
		return UV_EINVAL;
	}
	if (!utf8_is_valid(span_of(a->words[0]))) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "TOPIC is not UTF-8");
		return UV_EINVAL;
	}
	int rv = place_add_basic(place, NULL, &p->fields, error);
	rv = rv != 0 ? rv
		     : buf_append_text(&p->fields,
				       "Content-Type: application/json\r\n");
	rv = rv != 0 ? rv : buf_append_text(&p->prefix, "{\"topic\":");
	rv = rv != 0 ? rv : json_write_string(&p->prefix, span_of(a->words[0]));
	if (a->event != NULL) {
		rv = rv != 0 ? rv : buf_append_text(&p->prefix, ",\"event\":");
		rv = rv != 0 ? rv
			     : json_write_string(&p->prefix, span_of(a->event));
	}
	if (a->traceparent != NULL) {
		rv = rv != 0 ? rv
			     : buf_append_text(&p->prefix, ",\"traceparent\":");
		rv = rv != 0 ? rv
			     : json_write_string(&p->prefix,
						 span_of(a->traceparent));
	}
	rv = rv != 0 ? rv : buf_append_text(&p->prefix, ",\"data\":");
	rv = rv != 0 ? rv : buf_append_text(&p->suffix, "}");
	p->ask = ask_new(&place->url);
	return p->ask == NULL ? UV_ENOMEM : rv;
}

int pub_run(const struct arguments *a)
{
	struct place place = {0};
	struct pub p = {.arguments = a, .first = 1};
	char error[ARGUMENTS_ERROR_MAX] = "";

	int rv = place_find(&place, a, error);
	if (rv == 0)
		rv = pub_prepare(&p, &place, error);
	int status = EXIT_USAGE;
	if (rv == 0)
		status = publish_request(&p);
	else
		cli_say(NAME, "%s", error[0] != '\0' ? error : uv_strerror(rv));
	pub_fini(&p);
	place_fini(&place);
	return status;
}
