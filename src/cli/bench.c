/* bench.c - `isimud bench`: from arguments to a plan, and from a result to an
 * exit status. */
#include "cli/bench/bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/bench/report.h"
#include "cli/bench/run.h"
#include "cli/bench/stamp.h"
#include "cli/place.h"

#define NAME           "bench"
#define PUBLISHER      "bench" /* where none is given */
#define SUBSCRIBERS    100
#define CROWD          1000 /* where it is about connections */
#define PUBLISHERS     64
#define WINDOW         64
#define LATENCY_RATE   1000
#define PIPELINE       4096 /* of an open loop */
#define SIZE           64
#define SIZE_MAX_BYTES 1000000
#define BURST          64
#define WARMUP_MS      1000
#define DURATION_MS    3000
#define MS             1000000 /* nanoseconds */
#define OTHER_FILES    32      /* that are open besides connections */
#define THREADS_MAX    64
#define PUBLISHERS_MAX 10000
#define PREFIX_LETTERS                                                         \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#define PREFIX_MAX 32

struct bench {
	const struct arguments *arguments;
	struct place place;
	struct plan plan;
	struct trouble trouble;
	struct run_result result;
	struct cost_group server;
	char prefix[PREFIX_MAX];
	struct buf fields;
	struct buf publisher_fields;
};

static uint64_t given_or(uint64_t given, uint64_t other)
{
	return given > 0 ? given : other;
}

/* --- the plan -------------------------------------------------------------
 */

static bool is_between(const char *option, uint64_t value, uint64_t low,
		       uint64_t high, char *error)
{
	if (value >= low && value <= high)
		return true;
	snprintf(error, ARGUMENTS_ERROR_MAX,
		 "%s must be from %" PRIu64 " to %" PRIu64, option, low, high);
	return false;
}

static int read_sizes(struct bench *b, char error[static ARGUMENTS_ERROR_MAX])
{
	const struct arguments *a = b->arguments;
	struct plan *p = &b->plan;
	bool is_publish = p->mode == PLAN_PUBLISH;
	bool is_crowd = p->mode == PLAN_IDLE || p->mode == PLAN_STORM;
	uint64_t subscribers =
		is_publish ? 0
			   : given_or(a->subscribers,
				      is_crowd ? CROWD : SUBSCRIBERS);
	uint64_t topics = given_or(a->topics, 1);
	uint64_t publishers =
		given_or(a->publishers, is_publish ? PUBLISHERS : 1);
	uint64_t window = given_or(a->window, WINDOW);
	uint64_t pipeline =
		given_or(a->pipeline, is_publish               ? 1
				      : p->mode == PLAN_FANOUT ? window
							       : PIPELINE);
	uint64_t size = given_or(a->size, SIZE);
	uint64_t threads = given_or(a->threads, 1);

	if (!is_between("--size", size, STAMP_BYTES, SIZE_MAX_BYTES, error) ||
	    !is_between("--topics", topics, 1,
			is_publish ? STAMP_TOPICS_MAX : subscribers, error) ||
	    !is_between("--topics", topics, 1, STAMP_TOPICS_MAX, error) ||
	    !is_between("--publishers", publishers, 1, PUBLISHERS_MAX, error) ||
	    !is_between("--window", window, 1, 1u << 20, error) ||
	    !is_between("--pipeline", pipeline, 1, 1u << 20, error) ||
	    !is_between("--threads", threads, 1, THREADS_MAX, error))
		return UV_EINVAL;
	if (is_publish && a->subscribers > 0) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "publish has no subscribers");
		return UV_EINVAL;
	}
	if (a->stalled > 0 && p->mode != PLAN_FANOUT) {
		snprintf(error, ARGUMENTS_ERROR_MAX, "--stalled is for fanout");
		return UV_EINVAL;
	}
	p->subscribers = (unsigned)subscribers;
	p->stalled = (unsigned)a->stalled;
	p->topics = (unsigned)topics;
	p->publishers = (unsigned)publishers;
	p->window = (unsigned)window;
	p->pipeline = (unsigned)pipeline;
	p->size = size;
	p->threads = (unsigned)threads;
	p->burst = p->mode == PLAN_STORM ? p->subscribers : BURST;
	p->messages = a->count;
	p->rate = (double)given_or(a->rate, LATENCY_RATE);
	p->warmup_ns = given_or(a->warmup_ms, WARMUP_MS) * MS;
	p->duration_ns = given_or(a->duration_ms, DURATION_MS) * MS;
	return 0;
}

static int find_dialect(struct bench *b, const struct dialect *known,
			char error[static ARGUMENTS_ERROR_MAX])
{
	const char *name = b->arguments->protocol;
	size_t used = 0;

	for (const struct dialect *d = known; d->name != NULL; d++)
		if (name == NULL || strcmp(d->name, name) == 0) {
			b->plan.dialect = d;
			return 0;
		}
	used += (size_t)snprintf(error, ARGUMENTS_ERROR_MAX,
				 "--protocol must be one of");
	for (const struct dialect *d = known;
	     d->name != NULL && used < ARGUMENTS_ERROR_MAX; d++)
		used += (size_t)snprintf(error + used,
					 ARGUMENTS_ERROR_MAX - used, " %s",
					 d->name);
	return UV_EINVAL;
}

/* Whose topics, and what the server is shown. */
static int make_names(struct bench *b, char error[static ARGUMENTS_ERROR_MAX])
{
	const struct dialect *d = b->plan.dialect;
	struct span publisher = b->place.publisher;
	const char *topic = b->arguments->topic;
	int rv = 0;

	if (topic != NULL && (strlen(topic) >= PREFIX_MAX || topic[0] == '\0' ||
			      topic[strspn(topic, PREFIX_LETTERS)] != '\0')) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "--topic takes up to %d letters, digits, '-' and '_'",
			 PREFIX_MAX - 1);
		return UV_EINVAL;
	}
	if (topic != NULL)
		snprintf(b->prefix, sizeof b->prefix, "%s", topic);
	else
		snprintf(b->prefix, sizeof b->prefix, "bench-%x-",
			 (unsigned)getpid());
	b->plan.names.prefix = b->prefix;
	b->plan.names.publisher =
		publisher.bytes != NULL ? publisher : SPAN(PUBLISHER);
	if (d->needs_password)
		rv = place_add_basic(&b->place, PUBLISHER, &b->publisher_fields,
				     error);
	if (d->token_name != NULL)
		rv = rv != 0 ? rv
			     : place_add_token(&b->place, d->token_name,
					       d->publisher_has_token
						       ? &b->publisher_fields
						       : &b->fields,
					       error);
	b->plan.fields = (struct span){b->fields.bytes, b->fields.len};
	b->plan.publisher_fields = (struct span){b->publisher_fields.bytes,
						 b->publisher_fields.len};
	return rv;
}

static int find_server(struct bench *b, char error[static ARGUMENTS_ERROR_MAX])
{
	char own[32];
	const char *list = b->arguments->pid;

	if (list == NULL && b->place.running.pid > 0) {
		snprintf(own, sizeof own, "%d", (int)b->place.running.pid);
		(void)cost_group_find(&b->server, own);
	} else if (list != NULL && !cost_group_find(&b->server, list)) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "--pid: there is no such process");
		return UV_EINVAL;
	}
	return 0;
}

/* As many files as connections. */
static int raise_files(const struct plan *p,
		       char error[static ARGUMENTS_ERROR_MAX])
{
	struct rlimit limit;
	uint64_t wanted = (uint64_t)p->subscribers + p->stalled +
			  p->publishers + OTHER_FILES;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= wanted)
		return 0;
	snprintf(error, ARGUMENTS_ERROR_MAX,
		 "that needs %" PRIu64 " open files, and ulimit -Hn allows "
		 "%" PRIu64,
		 wanted, (uint64_t)limit.rlim_cur);
	return UV_EINVAL;
}

static int make_plan(struct bench *b, const struct dialect *known,
		     char error[static ARGUMENTS_ERROR_MAX])
{
	if (!report_find_mode(b->arguments->words[0], &b->plan.mode)) {
		snprintf(error, ARGUMENTS_ERROR_MAX,
			 "what is measured must be fanout, publish, latency, "
			 "idle or storm");
		return UV_EINVAL;
	}
	int rv = find_dialect(b, known, error);
	rv = rv != 0 ? rv : read_sizes(b, error);
	rv = rv != 0 ? rv : place_find(&b->place, b->arguments, error);
	b->plan.url = &b->place.url;
	rv = rv != 0 ? rv : make_names(b, error);
	rv = rv != 0 ? rv : find_server(b, error);
	return rv != 0 ? rv : raise_files(&b->plan, error);
}

/* --- all of it ------------------------------------------------------------
 */

static int measure_plan(struct bench *b)
{
	bool has_terminal = isatty(STDERR_FILENO) == 1;
	bool has_server = b->server.count > 0;

	if (uv_mutex_init(&b->trouble.lock) != 0)
		return EXIT_FAILURE;
	int rv = run_plan(&b->plan, &b->server,
			  has_terminal ? report_progress : NULL, stderr,
			  &b->trouble, &b->result);
	if (has_terminal)
		report_end_progress(stderr);
	if (rv != 0)
		cli_say(NAME, "%s", b->trouble.text);
	else if (b->arguments->json)
		report_json(stdout, &b->plan, &b->result, has_server);
	else
		report_text(stdout, &b->plan, &b->result, has_server);
	uv_mutex_destroy(&b->trouble.lock);
	if (rv != 0)
		return b->trouble.status;
	return fflush(stdout) == 0 && b->result.is_good ? EXIT_SUCCESS
							: EXIT_FAILURE;
}

int bench_run_with(const struct arguments *a, const struct dialect *known)
{
	struct bench *b = calloc(1, sizeof *b);
	char error[ARGUMENTS_ERROR_MAX] = "";
	int status = EXIT_USAGE;

	if (b == NULL) {
		cli_say(NAME, "out of memory");
		return EXIT_FAILURE;
	}
	b->arguments = a;
	int rv = make_plan(b, known, error);
	if (rv == 0)
		status = measure_plan(b);
	else
		cli_say(NAME, "%s", error[0] != '\0' ? error : uv_strerror(rv));
	if (b->publisher_fields.bytes != NULL)
		explicit_bzero(b->publisher_fields.bytes,
			       b->publisher_fields.cap);
	buf_fini(&b->publisher_fields);
	buf_fini(&b->fields);
	place_fini(&b->place);
	free(b);
	return status;
}

int bench_run(const struct arguments *a)
{
	return bench_run_with(a, dialects);
}
