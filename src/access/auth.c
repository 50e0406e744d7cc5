/* auth.c - asks AUTH_URL about clients, by transfers of libcurl (multi.h).
 *
 * Each client has a check; those that want to know the same share an inquiry,
 * which is either a transfer of our own, or waits for what another worker
 * learns.
 *
 * Inside its callbacks libcurl allows no transfer to be removed, so they only
 * note what they saw, and settle_transfers() acts on it once libcurl has
 * returned. */
#include "access/auth.h"

#include <stdlib.h>

#include <curl/curl.h>

#include "access/multi.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/version.h"

/* What is taken of one response: every head, then the body. libcurl itself
 * ends a single line that grows beyond 100 KiB. */
#define RESPONSE_MAX_BYTES 16384

/*            it asks
 *  new ------------------> ASKING ----> DECIDED ----> DRAINING
 *   | too many do             ^
 *   +--------------> QUEUED --+ a note: its turn
 *   |                   +-----------------------> gone, if none came in time
 *   | another worker asks
 *   +--------------------> WAITING ---- a note ---> gone
 *
 * An answer is given as soon as it is certain. If the rest of the response has
 * not come by then, the transfer goes on without anybody waiting for it: a
 * connection read to the end of a response serves the next request, while one
 * cut off costs a new handshake, and the authority a failed write. */
enum inquiry_state {
	INQUIRY_ASKING,   /* the final head has not come */
	INQUIRY_DECIDED,  /* settle_transfers() will tell; never seen outside of
			     it */
	INQUIRY_DRAINING, /* told; until the response has ended, or is too long,
			   * or the time is up, or the place is needed */
	INQUIRY_WAITING,  /* also while none of our own clients wants it */
	INQUIRY_QUEUED,   /* the same, once the note is on its way */
	INQUIRY_STATES,
};

#define BUCKETS          256 /* a power of two */
#define TIMEOUT_AGAIN_MS 10
#define TIMEOUT_LEAST    8 /* the part of it that a check has at least */

/* Owner: the loop's thread, `owner`. */
struct auth {
	uv_thread_t owner;
	struct multi multi;
	uv_timer_t queue_timer; /* while any is QUEUED */
	CURL *request; /* never performed; each transfer is a copy of it */
	unsigned kept_max;
	unsigned timeout_ms;
	uint64_t distrusted_ms; /* when TLS failed last; 0: it never did */
	struct auth_cache *auth_cache;
	unsigned worker;
	struct list inquiries[INQUIRY_STATES]; /* oldest first */
	unsigned counts[INQUIRY_STATES];
	struct list buckets[BUCKETS]; /* all but DRAINING, by id */
	struct list ready; /* checks that call_back() is about to take */
};

/* What this worker wants to know of one id, from the first check on; at most
 * one for an id, but for those that drain. Owner: the thread of `auth`. */
struct inquiry {
	struct auth *auth;
	struct list link;   /* in auth->inquiries[state] */
	struct list bucket; /* in auth->buckets */
	enum inquiry_state state;
	struct auth_cache_id id;
	struct list checks; /* oldest first */
	uint64_t until_ms;  /* while QUEUED, on the clock of clock_ms() */
	CURL *transfer;     /* NULL before ASKING, and once it has ended */
	struct curl_slist *fields; /* NULL while WAITING, or as that */
	size_t charged;  /* bytes, with what libcurl makes of `fields` */
	size_t received; /* bytes, heads included; <= RESPONSE_MAX_BYTES */
	enum auth_answer answer; /* once it is certain */
};

/* Until it is called back or cancelled. Owner: the thread of `auth`. */
struct auth_check {
	struct auth *auth;
	struct list link;        /* in inquiry->checks, then in auth->ready */
	struct inquiry *inquiry; /* NULL once it is ready */
	bool is_shared;
	enum auth_answer answer; /* once it is ready */
	auth_cb cb;
	void *user;
};

/* For which libcurl keeps what it has read of its bundle of certificates. */
#define CERTIFICATES_S 86400

int auth_global_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return UV_ENOMEM;
	int rv = libcrypto_prepare();
	if (rv != 0)
		curl_global_cleanup();
	return rv;
}

void auth_global_fini(void)
{
	curl_global_cleanup();
}

bool auth_is_url(const char *url)
{
	const char *host = NULL;
	CURLU *parsed;
	bool is_url;

	if (strncasecmp(url, "http://", 7) == 0)
		host = url + 7;
	else if (strncasecmp(url, "https://", 8) == 0)
		host = url + 8;
	/* libcurl would skip a third slash and take the path for a host. */
	if (host == NULL || *host == '/')
		return false;
	parsed = curl_url();
	is_url = parsed != NULL &&
		 curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
	curl_url_cleanup(parsed);
	return is_url;
}

/* --- inquiries ------------------------------------------------------------ */

static uint64_t clock_ms(void)
{
	return uv_hrtime() / 1000000;
}

static void move(struct inquiry *q, enum inquiry_state to)
{
	struct auth *a = q->auth;

	a->counts[q->state]--;
	list_remove(&q->link);
	q->state = to;
	a->counts[to]++;
	list_append(&a->inquiries[to], &q->link);
}

static void decide(struct inquiry *q, enum auth_answer answer)
{
	q->answer = answer;
	move(q, INQUIRY_DECIDED);
}

/* The connection is kept if the response was read to its end, else closed. */
static void end_transfer(struct inquiry *q)
{
	if (q->transfer != NULL) {
		curl_multi_remove_handle(q->auth->multi.handle, q->transfer);
		curl_easy_cleanup(q->transfer);
		q->transfer = NULL;
	}
	curl_slist_free_all(q->fields);
	q->fields = NULL;
}

static void fail_inquiry(struct inquiry *q)
{
	end_transfer(q);
	decide(q, AUTH_FAILED);
}

static void inquiry_free(struct inquiry *q)
{
	memory_credit(q->charged);
	free(q);
}

static void drop_inquiry(struct inquiry *q)
{
	end_transfer(q);
	q->auth->counts[q->state]--;
	list_remove(&q->link);
	list_remove(&q->bucket);
	inquiry_free(q);
}

static struct inquiry *oldest(struct auth *a, enum inquiry_state state)
{
	if (list_is_empty(&a->inquiries[state]))
		return NULL;
	/* The analyzer loses track of list_remove() in drop_inquiry(). */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return CONTAINER_OF(a->inquiries[state].next, struct inquiry, link);
}

static struct list *inquiry_bucket(struct auth *a,
				   const struct auth_cache_id *id)
{
	return &a->buckets[auth_cache_hash(a->auth_cache, id) & (BUCKETS - 1)];
}

/* The one that a new check for `id` may join, or NULL. */
static struct inquiry *find_inquiry(struct auth *a,
				    const struct auth_cache_id *id)
{
	LIST_FOR_EACH_SAFE (it, after, inquiry_bucket(a, id)) {
		struct inquiry *q = CONTAINER_OF(it, struct inquiry, bucket);
		if (memcmp(&q->id, id, sizeof(*id)) == 0)
			return q;
	}
	return NULL;
}

/* --- telling what came of it ---------------------------------------------- */

static void check_free(struct auth_check *c)
{
	list_remove(&c->link);
	memory_credit(sizeof(*c));
	free(c);
}

/* Makes the checks ready, here and on other workers, and lets go of `q`: from
 * now on the same may be asked anew. */
static void release_inquiry(struct inquiry *q)
{
	struct auth *a = q->auth;

	if (q->state == INQUIRY_DECIDED)
		auth_cache_answer(a->auth_cache, &q->id, q->answer, clock_ms());
	LIST_FOR_EACH_SAFE (it, after, &q->checks) {
		struct auth_check *c =
			CONTAINER_OF(it, struct auth_check, link);
		list_remove(&c->link);
		list_append(&a->ready, &c->link);
		c->inquiry = NULL;
		c->answer = q->answer;
	}
	list_remove(&q->bucket);
	if (q->transfer == NULL)
		drop_inquiry(q);
	else
		move(q, INQUIRY_DRAINING);
}

/* Callbacks may start and cancel checks, and close `a`: then nothing is ready
 * any more, and `a` lives until the loop has turned. */
static void call_back(struct auth *a)
{
	while (!list_is_empty(&a->ready)) {
		struct auth_check *c =
			CONTAINER_OF(a->ready.next, struct auth_check, link);
		/* The analyzer loses track of list_remove(). */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		auth_cb cb = c->cb;
		void *user = c->user;
		enum auth_answer answer = c->answer;
		check_free(c);
		cb(user, answer);
	}
}

/* Whether the certificates that libcurl keeps may be why a transfer failed. */
static bool is_distrust(CURLcode result)
{
	return result == CURLE_PEER_FAILED_VERIFICATION ||
	       result == CURLE_SSL_CONNECT_ERROR ||
	       result == CURLE_SSL_CACERT_BADFILE ||
	       result == CURLE_OUT_OF_MEMORY;
}

static void on_transfer_end(CURL *transfer, CURLcode result)
{
	char *private = NULL;
	struct inquiry *q;

	curl_easy_getinfo(transfer, CURLINFO_PRIVATE, &private);
	q = (struct inquiry *)(void *)private;
	if (is_distrust(result))
		q->auth->distrusted_ms = clock_ms();
	if (q->state == INQUIRY_ASKING)
		fail_inquiry(q);
	else if (q->state == INQUIRY_DRAINING)
		drop_inquiry(q);
	else
		end_transfer(q);
}

/* Gives answers to the cache and the checks, and ends finished transfers. */
static void settle_transfers(struct auth *a)
{
	struct inquiry *q;
	CURLMsg *message;
	int left;

	while (a->multi.handle != NULL &&
	       (message = curl_multi_info_read(a->multi.handle, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
			on_transfer_end(message->easy_handle,
					message->data.result);
	while ((q = oldest(a, INQUIRY_DECIDED)) != NULL)
		release_inquiry(q);
	call_back(a);
}

/* --- libcurl's callbacks for the response --------------------------------- */

static bool take_response_bytes(struct inquiry *q, size_t len)
{
	q->received += len;
	return q->received <= RESPONSE_MAX_BYTES;
}

static enum auth_answer answer_of_status(long status)
{
	if (status < 300)
		return AUTH_YES;
	if (status == 403)
		return AUTH_FORBIDDEN;
	return status >= 500 || status == 429 ? AUTH_AWAY : AUTH_NO;
}

/* Gets each line of each head (1xx ones too), the empty one that ends it
 * included, and later the trailers. Less than `len` returned ends the transfer.
 */
static size_t on_header(char *line, size_t size, size_t len, void *user)
{
	struct inquiry *q = user;
	long status = 0;

	(void)size; /* always 1 */
	if (!take_response_bytes(q, len))
		return 0;
	if (q->state != INQUIRY_ASKING || (line[0] != '\r' && line[0] != '\n'))
		return len;
	curl_easy_getinfo(q->transfer, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200)
		decide(q, answer_of_status(status));
	return len;
}

static size_t on_body(char *bytes, size_t size, size_t len, void *user)
{
	(void)bytes;
	(void)size; /* always 1 */
	return take_response_bytes(user, len) ? len : 0;
}

/* --- libcurl on the loop (multi.h) ---------------------------------------- */

/* Ends all transfers, and replaces the handle, now or before the next check. */
static void on_multi_broken(struct multi *m)
{
	struct auth *a = CONTAINER_OF(m, struct auth, multi);
	struct inquiry *q;

	while ((q = oldest(a, INQUIRY_ASKING)) != NULL)
		fail_inquiry(q);
	LIST_FOR_EACH_SAFE (it, after, &a->inquiries[INQUIRY_DECIDED])
		end_transfer(CONTAINER_OF(it, struct inquiry, link));
	while ((q = oldest(a, INQUIRY_DRAINING)) != NULL)
		drop_inquiry(q);
	multi_close(m);
	multi_open(m);
}

/* Acts on what libcurl has done. */
static void on_multi_turn(struct multi *m)
{
	settle_transfers(CONTAINER_OF(m, struct auth, multi));
}

/* --- opening and closing -------------------------------------------------- */

/* libcurl's defaults do the rest: GET, any type accepted, no redirects, no
 * netrc, no cookies, no HTTP/0.9, and the environment's proxy variables. HTTP/2
 * is left out: it would bring a second protocol to parse, for no more than the
 * few connections that kept_max saves it from. */
static bool set_request(CURL *r, const struct auth_options *options)
{
	long timeout_ms = (long)options->timeout_ms;
	int rv = 0;

	rv |= (int)curl_easy_setopt(r, CURLOPT_URL, options->url);
	rv |= (int)curl_easy_setopt(r, CURLOPT_PROTOCOLS_STR, "http,https");
	rv |= (int)curl_easy_setopt(r, CURLOPT_HTTP_VERSION,
				    (long)CURL_HTTP_VERSION_1_1);
	rv |= (int)curl_easy_setopt(r, CURLOPT_USERAGENT, "isimud/" VERSION);
	rv |= (int)curl_easy_setopt(r, CURLOPT_NOSIGNAL, 1L);
	rv |= (int)curl_easy_setopt(r, CURLOPT_TIMEOUT_MS, timeout_ms);
	/* libcurl 7.88 forgets a transfer's time-out where something comes in
	 * the last millisecond before it. The one of connecting, which stays
	 * when it is connected, makes it look again. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_CONNECTTIMEOUT_MS,
				    timeout_ms + TIMEOUT_AGAIN_MS);
	/* A transfer that ends during its name lookup, by its time-out too,
	 * would else wait until getaddrinfo() returns. Like this libcurl lets
	 * go of the lookup's thread, which cleans up by itself. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_QUICK_EXIT, 1L);
	/* Beside a directory of certificates, libcurl parses Debian's bundle
	 * (some 20 ms) for each connection; the bundle alone it keeps. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_CAPATH, NULL);
	/* A proxy's answer to CONNECT is not the authority's. */
	rv |= (int)curl_easy_setopt(r, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	rv |= (int)curl_easy_setopt(r, CURLOPT_HEADERFUNCTION, on_header);
	rv |= (int)curl_easy_setopt(r, CURLOPT_WRITEFUNCTION, on_body);
	return rv == 0;
}

static void init_lists(struct auth *a)
{
	for (int state = 0; state < INQUIRY_STATES; state++)
		list_init(&a->inquiries[state]);
	for (int i = 0; i < BUCKETS; i++)
		list_init(&a->buckets[i]);
	list_init(&a->ready);
}

static const struct multi_hooks multi_hooks = {.on_turn = on_multi_turn,
					       .on_broken = on_multi_broken};

int auth_open(struct auth **out, uv_loop_t *loop,
	      const struct auth_options *options)
{
	struct auth *a = calloc(1, sizeof(*a));

	CHECK(options->timeout_ms > 0 && options->kept_max > 0);
	if (a == NULL)
		return UV_ENOMEM;
	a->owner = uv_thread_self();
	a->kept_max = options->kept_max;
	a->timeout_ms = options->timeout_ms;
	a->auth_cache = options->auth_cache;
	a->worker = options->worker;
	init_lists(a);
	a->request = curl_easy_init();
	int rv = a->request == NULL || !set_request(a->request, options)
			 ? UV_ENOMEM
			 : multi_init(&a->multi, loop, options->kept_max,
				      &multi_hooks);
	if (rv != 0) {
		curl_easy_cleanup(a->request);
		free(a);
		return rv;
	}
	uv_timer_init(loop, &a->queue_timer);
	*out = a;
	return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct multi *m =
		CONTAINER_OF((uv_timer_t *)handle, struct multi, timer);

	free(CONTAINER_OF(m, struct auth, multi));
}

static void on_queue_timer_closed(uv_handle_t *handle)
{
	struct auth *a =
		CONTAINER_OF((uv_timer_t *)handle, struct auth, queue_timer);

	uv_close((uv_handle_t *)&a->multi.timer, on_timer_closed);
}

static void free_checks(struct list *checks)
{
	LIST_FOR_EACH_SAFE (it, after, checks)
		check_free(CONTAINER_OF(it, struct auth_check, link));
}

void auth_close(struct auth *a)
{
	struct inquiry *q;

	if (a == NULL)
		return;
	CHECK_ON_THREAD(a->owner);
	free_checks(&a->ready);
	for (int state = 0; state < INQUIRY_STATES; state++)
		while ((q = oldest(a, (enum inquiry_state)state)) != NULL) {
			free_checks(&q->checks);
			if (state == INQUIRY_ASKING || state == INQUIRY_QUEUED)
				auth_cache_answer(a->auth_cache, &q->id,
						  AUTH_FAILED, clock_ms());
			drop_inquiry(q);
		}
	curl_easy_cleanup(a->request);
	multi_close(&a->multi);
	uv_close((uv_handle_t *)&a->queue_timer, on_queue_timer_closed);
}

/* --- the request ---------------------------------------------------------- */

/* What of a request its answer may depend on. Lengths first: no two requests
 * are told apart only by where one part ends and the next begins. */
static struct auth_cache_id id_of(const struct auth_request *request)
{
	const struct span spans[] = {request->token, request->cookie,
				     request->key_uri};
	struct {
		uint64_t len; /* UINT64_MAX: absent */
		uint8_t digest[DIGEST_SHA256_BYTES];
	} parts[3];
	struct auth_cache_id id = {{0}};

	for (int i = 0; i < 3; i++) {
		parts[i].len =
			spans[i].bytes == NULL ? UINT64_MAX : spans[i].len;
		digest_sha256(spans[i].bytes, spans[i].len, parts[i].digest);
	}
	digest_sha256(parts, sizeof(parts), id.bytes);
	return id;
}

/* With one of these a client could add lines to the request, or end it. */
static bool is_one_line(struct span value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.bytes[i] == '\r' || value.bytes[i] == '\n' ||
		    value.bytes[i] == '\0')
			return false;
	return true;
}

static bool is_blank(struct span value)
{
	for (size_t i = 0; i < value.len; i++)
		if (strchr(" \t\v\f", value.bytes[i]) == NULL)
			return false;
	return true;
}

/* Adds the line "name: scheme value" to `q->fields`. Returns false without
 * memory. */
static bool add_field(struct inquiry *q, const char *name, const char *scheme,
		      struct span value)
{
	struct curl_slist *longer;
	char *line = NULL;
	int len;

	if (value.bytes == NULL)
		return true;
	CHECK(is_one_line(value));
	/* libcurl: "Name:" leaves a field out, "Name;" is one without value. */
	if (*scheme == '\0' && is_blank(value))
		len = asprintf(&line, "%s;", name);
	else
		len = asprintf(&line, "%s: %s%.*s", name, scheme,
			       (int)value.len, value.bytes);
	if (len < 0)
		return false;
	longer = curl_slist_append(q->fields, line);
	free(line);
	if (longer == NULL)
		return false;
	q->fields = longer;
	/* Once in the list, once in the head that libcurl writes. */
	q->charged += 2 * (size_t)len;
	return true;
}

static bool add_fields(struct inquiry *q, const struct auth_request *r)
{
	struct span peer = r->peer == NULL || *r->peer == '\0'
				   ? (struct span){NULL, 0}
				   : span_of(r->peer);

	return add_field(q, "X-Forwarded-Method", "", r->method) &&
	       add_field(q, "X-Forwarded-Host", "", r->host) &&
	       add_field(q, "X-Forwarded-Uri", "", r->uri) &&
	       add_field(q, "X-Forwarded-For", "", peer) &&
	       add_field(q, "X-Forwarded-Proto", "", span_of(r->scheme)) &&
	       add_field(q, "Cookie", "", r->cookie) &&
	       add_field(q, "Authorization", "Bearer ", r->token);
}

/* What is left of its time, if it was queued. */
static void shorten_time(const struct inquiry *q, CURL *transfer)
{
	uint64_t now = clock_ms();
	long left_ms = q->until_ms > now ? (long)(q->until_ms - now) : 1;

	curl_easy_setopt(transfer, CURLOPT_TIMEOUT_MS, left_ms);
	curl_easy_setopt(transfer, CURLOPT_CONNECTTIMEOUT_MS,
			 left_ms + TIMEOUT_AGAIN_MS);
}

/* libcurl keeps the certificates of its bundle for a day, even if one of them
 * could not be read for want of memory, or if the file has changed. So those
 * from before the last failure are read again; once a second at most, since
 * that takes some 20 ms. */
static void renew_certificates(const struct auth *a, CURL *transfer)
{
	uint64_t past_s = (clock_ms() - a->distrusted_ms) / 1000;

	if (a->distrusted_ms != 0 && past_s < CERTIFICATES_S)
		curl_easy_setopt(transfer, CURLOPT_CA_CACHE_TIMEOUT,
				 past_s < 1 ? 1L : (long)past_s);
}

/* Returns false without memory. */
static bool start_transfer(struct inquiry *q)
{
	CURL *transfer = curl_easy_duphandle(q->auth->request);
	struct multi *m = &q->auth->multi;

	if (transfer == NULL || (m->handle == NULL && multi_open(m) != 0))
		goto err;
	if (q->state == INQUIRY_QUEUED)
		shorten_time(q, transfer);
	renew_certificates(q->auth, transfer);
	curl_easy_setopt(transfer, CURLOPT_HTTPHEADER, q->fields);
	curl_easy_setopt(transfer, CURLOPT_HEADERDATA, q);
	curl_easy_setopt(transfer, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(transfer, CURLOPT_PRIVATE, q);
	if (curl_multi_add_handle(m->handle, transfer) != CURLM_OK)
		goto err;
	q->transfer = transfer;
	return true;
err:
	curl_easy_cleanup(transfer);
	return false;
}

/* --- starting and cancelling ---------------------------------------------- */

/* What drains is worth a connection kept, but not one more. */
static void make_transfer_room(struct auth *a)
{
	unsigned transfers =
		a->counts[INQUIRY_ASKING] + a->counts[INQUIRY_DRAINING];

	if (transfers >= a->kept_max && a->counts[INQUIRY_DRAINING] > 0)
		drop_inquiry(oldest(a, INQUIRY_DRAINING));
}

static int start_inquiry(struct inquiry *q, const struct auth_request *request)
{
	struct auth *a = q->auth;
	int rv = auth_cache_ask(a->auth_cache, &q->id, a->worker, clock_ms());

	if (rv == UV_EAGAIN) {
		q->state = INQUIRY_WAITING;
		return 0;
	}
	if (rv < 0)
		return rv;
	bool is_ready = add_fields(q, request);
	if (rv == AUTH_CACHE_QUEUED) {
		q->state = INQUIRY_QUEUED;
		q->until_ms = clock_ms() + a->timeout_ms;
	} else {
		q->state = INQUIRY_ASKING;
		make_transfer_room(a);
		is_ready = is_ready && start_transfer(q);
	}
	if (is_ready)
		return 0;
	end_transfer(q);
	auth_cache_answer(a->auth_cache, &q->id, AUTH_FAILED, clock_ms());
	return UV_ENOMEM;
}

/* --- the queue ------------------------------------------------------------ */

static void set_queue_timer(struct auth *a);

/* Those whose turn comes too late are told so; one whose note is on its way is
 * not too late. */
static void on_queue_timer(uv_timer_t *timer)
{
	struct auth *a = CONTAINER_OF(timer, struct auth, queue_timer);
	uint64_t now = clock_ms();

	LIST_FOR_EACH_SAFE (it, after, &a->inquiries[INQUIRY_QUEUED]) {
		struct inquiry *q = CONTAINER_OF(it, struct inquiry, link);
		if (q->until_ms > now)
			break;
		if (!auth_cache_expire(a->auth_cache, &q->id))
			continue;
		q->answer = AUTH_BUSY;
		release_inquiry(q);
	}
	call_back(a);
	/* A callback may have closed it. */
	if (!uv_is_closing((uv_handle_t *)timer))
		set_queue_timer(a);
}

/* For the one that has waited for longest. */
static void set_queue_timer(struct auth *a)
{
	const struct inquiry *q = oldest(a, INQUIRY_QUEUED);
	uint64_t now = clock_ms();

	if (q != NULL)
		uv_timer_start(&a->queue_timer, on_queue_timer,
			       q->until_ms > now ? q->until_ms - now : 1, 0);
}

/* So little of its time is left that asking would be in vain: then the turn is
 * the next one's at once. */
static bool is_turn_too_late(const struct inquiry *q)
{
	return q->until_ms < clock_ms() + q->auth->timeout_ms / TIMEOUT_LEAST;
}

static void take_check_turn(struct inquiry *q)
{
	struct auth *a = q->auth;

	if (list_is_empty(&q->checks) &&
	    auth_cache_give_up(a->auth_cache, &q->id)) {
		drop_inquiry(q);
		return;
	}
	make_transfer_room(a);
	if (is_turn_too_late(q)) {
		q->answer = AUTH_BUSY;
		auth_cache_answer(a->auth_cache, &q->id, AUTH_BUSY, clock_ms());
	} else if (start_transfer(q)) {
		move(q, INQUIRY_ASKING);
		return;
	} else {
		fail_inquiry(q);
	}
	release_inquiry(q);
	call_back(a);
}

void auth_take_note(struct auth *a, struct mailbox_note *note)
{
	struct auth_cache_note *n =
		CONTAINER_OF(note, struct auth_cache_note, note);
	struct inquiry *q;

	CHECK_ON_THREAD(a->owner);
	q = find_inquiry(a, &n->id);
	CHECK(q != NULL &&
	      q->state == (n->is_turn ? INQUIRY_QUEUED : INQUIRY_WAITING));
	bool is_turn = n->is_turn;
	q->answer = n->answer;
	free(n);
	if (is_turn) {
		take_check_turn(q);
		return;
	}
	release_inquiry(q);
	call_back(a);
}

/* --- a check -------------------------------------------------------------- */

/* Returns 0 and `*out`, or what auth_check_start() does. */
static int inquire(struct auth *a, const struct auth_cache_id *id,
		   const struct auth_request *request, struct inquiry **out)
{
	struct inquiry *q = calloc(1, sizeof(*q));
	int rv;

	if (q == NULL)
		return UV_ENOMEM;
	q->auth = a;
	q->id = *id;
	q->charged = sizeof(*q);
	list_init(&q->checks);
	rv = start_inquiry(q, request);
	if (rv != 0) {
		free(q);
		return rv;
	}
	memory_charge(q->charged);
	a->counts[q->state]++;
	list_append(&a->inquiries[q->state], &q->link);
	list_append(inquiry_bucket(a, id), &q->bucket);
	if (q->state == INQUIRY_QUEUED &&
	    !uv_is_active((uv_handle_t *)&a->queue_timer))
		set_queue_timer(a);
	*out = q;
	return 0;
}

int auth_check_start(struct auth *a, const struct auth_request *request,
		     auth_cb cb, void *user, struct auth_check **out)
{
	struct auth_cache_id id = id_of(request);
	struct auth_check *c;
	struct inquiry *q;
	bool is_shared;
	int rv = 0;

	CHECK_ON_THREAD(a->owner);
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return UV_ENOMEM;
	q = find_inquiry(a, &id);
	is_shared = q != NULL;
	if (q == NULL)
		rv = inquire(a, &id, request, &q);
	if (rv != 0) {
		free(c);
		return rv;
	}
	memory_charge(sizeof(*c));
	*c = (struct auth_check){.auth = a,
				 .inquiry = q,
				 .is_shared = is_shared ||
					      q->state == INQUIRY_WAITING,
				 .cb = cb,
				 .user = user};
	list_append(&q->checks, &c->link);
	*out = c;
	return 0;
}

bool auth_was_shared(const struct auth_check *check)
{
	return check->is_shared;
}

/* Returns whether to go on. */
static bool visit_checks(const struct inquiry *q, bool (*visit)(void *user))
{
	LIST_FOR_EACH_SAFE (it, after, &q->checks) {
		const struct auth_check *c =
			CONTAINER_OF(it, struct auth_check, link);
		if (!visit(c->user))
			return false;
	}
	return true;
}

void auth_visit(struct auth *a, bool (*visit)(void *user))
{
	static const enum inquiry_state states[] = {
		INQUIRY_QUEUED, INQUIRY_WAITING, INQUIRY_ASKING};

	CHECK_ON_THREAD(a->owner);
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
		LIST_FOR_EACH_SAFE (it, after, &a->inquiries[states[i]])
			if (!visit_checks(
				    CONTAINER_OF(it, struct inquiry, link),
				    visit))
				return;
}

void auth_check_cancel(struct auth_check *check)
{
	struct inquiry *q = check->inquiry;

	CHECK_ON_THREAD(check->auth->owner);
	check_free(check);
	if (q == NULL || !list_is_empty(&q->checks))
		return;
	/* One that waits is needed until its note has come. */
	if ((q->state == INQUIRY_ASKING &&
	     auth_cache_give_up(q->auth->auth_cache, &q->id)) ||
	    (q->state == INQUIRY_QUEUED &&
	     auth_cache_leave_queue(q->auth->auth_cache, &q->id)))
		drop_inquiry(q);
}
