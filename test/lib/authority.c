/* authority.c - see authority.h. */
#include "authority.h"

uv_mutex_t lookups_mutex;

uv_cond_t lookups_released;

bool lookups_stuck;

atomic_uint lookups_begun, lookups_ended;

int getaddrinfo(const char *node, const char *service,
		const struct addrinfo *hints, struct addrinfo **out)
{
	uint64_t patience = 3000000000; /* ns; then a test fails, not hangs */
	lookup_fn *real;
	int rv = 0;

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	atomic_fetch_add(&lookups_begun, 1);
	uv_mutex_lock(&lookups_mutex);
	while (rv == 0 && lookups_stuck && strcmp(node, "stuck.test") == 0)
		rv = uv_cond_timedwait(&lookups_released, &lookups_mutex,
				       patience);
	uv_mutex_unlock(&lookups_mutex);
	rv = real("127.0.0.1", service, hints, out);
	atomic_fetch_add(&lookups_ended, 1);
	return rv;
}

void release_lookups(void)
{
	uv_mutex_lock(&lookups_mutex);
	lookups_stuck = false;
	uv_cond_broadcast(&lookups_released);
	uv_mutex_unlock(&lookups_mutex);
}

atomic_int allocations_left;

bool is_to_fail(void)
{
	return atomic_fetch_sub(&allocations_left, 1) == 0;
}

void *failing_malloc(size_t size)
{
	return is_to_fail() ? NULL : malloc(size);
}

void *failing_calloc(size_t count, size_t size)
{
	return is_to_fail() ? NULL : calloc(count, size);
}

void *failing_realloc(void *old, size_t size)
{
	return is_to_fail() ? NULL : realloc(old, size);
}

char *failing_strdup(const char *text)
{
	return is_to_fail() ? NULL : strdup(text);
}

void let_all_allocations_pass(void)
{
	atomic_store(&allocations_left, -1);
}

bool read_request(struct authority *a, int fd)
{
	size_t len = 0;
	ssize_t n;

	while (len < REQUEST_MAX - 1) {
		n = recv(fd, a->request + len, REQUEST_MAX - 1 - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
		a->request[len] = '\0';
		if (strstr(a->request, "\r\n\r\n") != NULL) {
			atomic_fetch_add(&a->requests, 1);
			return true;
		}
	}
	return false;
}

bool authority_send_bytes(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	for (; len > 0; bytes += n, len -= (size_t)n) {
		n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
	}
	return true;
}

bool authority_send_text(int fd, const char *text)
{
	return authority_send_bytes(fd, text, strlen(text));
}

void authority_main(void *arg)
{
	struct authority *a = arg;
	struct timeval patience = {.tv_sec = 10};
	int on = 1;
	int fd;

	while ((fd = accept(a->listener, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
			   sizeof(patience));
		atomic_fetch_add(&a->connections, 1);
		a->script(a, fd);
		close(fd);
	}
}

void authority_start(struct authority *a, script_fn *script, const char *text,
		     int backlog)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memset(a, 0, sizeof(*a));
	assert_int_equal(uv_sem_init(&a->leave, 0), 0);
	a->script = script;
	a->text = text;
	a->text_len = text == NULL ? 0 : strlen(text);
	a->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(a->listener >= 0);
	assert_int_equal(bind(a->listener, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(a->listener, backlog), 0);
	assert_int_equal(getsockname(a->listener, (struct sockaddr *)&at, &len),
			 0);
	a->port = ntohs(at.sin_port);
	if (script != NULL)
		assert_int_equal(
			uv_thread_create(&a->thread, authority_main, a), 0);
}

void authority_stop(struct authority *a)
{
	uv_sem_post(&a->leave);
	shutdown(a->listener, SHUT_RDWR); /* ends accept() */
	if (a->script != NULL)
		uv_thread_join(&a->thread);
	close(a->listener);
	uv_sem_destroy(&a->leave);
}

void answer(struct authority *a, int fd)
{
	while (read_request(a, fd)) {
		if (!authority_send_bytes(fd, a->text, a->text_len))
			break;
		atomic_fetch_add(&a->answers, 1);
	}
	atomic_fetch_add(&a->dropped, 1);
}

void answer_and_drip(struct authority *a, int fd)
{
	if (!read_request(a, fd) ||
	    !authority_send_bytes(fd, a->text, a->text_len))
		return;
	while (authority_send_text(fd, "x"))
		usleep(10000);
	atomic_fetch_add(&a->dropped, 1);
}

void on_answer(void *user, enum auth_answer verdict)
{
	struct asked *q = user;

	q->calls++;
	q->verdict = verdict;
	q->check = NULL;
	if (q->then != NULL)
		q->then(q);
}

void on_tick(uv_timer_t *ticker)
{
	struct world *w = ticker->data;

	w->ticks++;
}

void run_for_a_while(struct world *w)
{
	for (int turns = 0; turns < 20; turns++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		usleep(2000);
	}
}

uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000;
}

void on_mail(uv_async_t *async)
{
	struct mailbox *m = CONTAINER_OF(async, struct mailbox, async);
	struct world *w = CONTAINER_OF(m - m->worker, struct world, boxes[0]);
	struct mail mail;

	mailbox_take(m, &mail);
	while (mail.notes != NULL) {
		struct mailbox_note *note = mail.notes;
		struct auth *a = w->auths[m->worker];
		mail.notes = note->next;
		if (a != NULL)
			auth_take_note(a, note);
		else
			free(note);
	}
}

void open_auth_cache(struct world *w, unsigned checks_max, uint64_t ttl_ms)
{
	struct auth_cache_options options = {.checks_max = checks_max,
					     .queue_max = w->queue_max,
					     .ttl_ms = ttl_ms,
					     .entries_max = ENTRIES_MAX,
					     .mailboxes = w->mailboxes};

	auth_cache_free(w->auth_cache);
	assert_int_equal(auth_cache_new(&w->auth_cache, &options), 0);
}

size_t authority_settled_memory_used(void)
{
	memory_settle();
	return memory_used();
}

int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		w->mailboxes[i] = &w->boxes[i];
		assert_int_equal(
			mailbox_open(&w->boxes[i], &w->loop, i, 1000, on_mail),
			0);
	}
	w->memory_used = authority_settled_memory_used();
	open_auth_cache(w, CHECKS_MAX, 0);
	uv_timer_init(&w->loop, &w->ticker);
	w->ticker.data = w;
	atomic_store(&lookups_begun, 0);
	atomic_store(&lookups_ended, 0);
	lookups_stuck = true;
	*state = w;
	return 0;
}

int teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < WORKERS; i++)
		auth_close(w->auths[i]);
	auth_cache_free(w->auth_cache); /* so nothing is asked any more */
	assert_int_equal(authority_settled_memory_used(), w->memory_used);
	for (unsigned i = 0; i < WORKERS; i++)
		mailbox_close(&w->boxes[i]);
	uv_close((uv_handle_t *)&w->ticker, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	for (unsigned i = 0; i < WORKERS; i++)
		mailbox_fini(&w->boxes[i]);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	release_lookups();
	for (unsigned i = 0;
	     i < DEADLINE_MS &&
	     atomic_load(&lookups_ended) < atomic_load(&lookups_begun);
	     i++)
		usleep(1000);
	assert_int_equal(lookups_begun, lookups_ended);
	if (w->has_authority)
		authority_stop(&w->authority);
	free(w);
	return 0;
}

void open_worker(struct world *w, unsigned worker, unsigned timeout_ms)
{
	struct auth_options options = {.url = w->url,
				       .timeout_ms = timeout_ms,
				       .kept_max = CHECKS_MAX,
				       .auth_cache = w->auth_cache,
				       .worker = worker};

	assert_int_equal(auth_open(&w->auths[worker], &w->loop, &options), 0);
}

void open_auth(struct world *w, const char *host, unsigned timeout_ms)
{
	snprintf(w->url, sizeof(w->url), "http://%s:%d/verify?by=isimud", host,
		 w->authority.port);
	open_worker(w, 0, timeout_ms);
}

void start_authority(struct world *w, script_fn *script, const char *text)
{
	authority_start(&w->authority, script, text, 16);
	w->has_authority = true;
}

void start_world(struct world *w, script_fn *script, const char *text,
		 unsigned timeout_ms)
{
	start_authority(w, script, text);
	open_auth(w, "127.0.0.1", timeout_ms);
}

void start_mute_world(struct world *w, unsigned timeout_ms)
{
	start_world(w, NULL, NULL, timeout_ms);
}

int start_check(struct world *w, const struct auth_request *request,
		struct asked *q)
{
	int rv;

	q->world = w;
	q->calls = 0;
	rv = auth_check_start(w->auths[q->worker], request, on_answer, q,
			      &q->check);
	assert_int_equal(q->calls, 0);
	return rv;
}

void ask_about(struct world *w, const char *token, struct asked *q)
{
	struct auth_request request = {.token = span_of(token)};

	assert_int_equal(start_check(w, &request, q), 0);
}

void authority_ask(struct world *w, struct asked *q)
{
	ask_about(w, "s3cr.et-_~+/==", q);
}

void ask_anew(struct world *w, struct asked *q)
{
	static unsigned number;
	char token[32];

	snprintf(token, sizeof(token), "token-%u", number++);
	ask_about(w, token, q);
}

enum auth_answer verdict(struct world *w)
{
	struct asked q = {0};

	authority_ask(w, &q);
	RUN_UNTIL(w, q.calls > 0);
	assert_int_equal(q.calls, 1);
	return q.verdict;
}

void ask_and_wait(struct world *w, const struct auth_request *request)
{
	struct asked q = {0};

	assert_int_equal(start_check(w, request, &q), 0);
	RUN_UNTIL(w, q.calls == 1);
	assert_int_equal(q.verdict, AUTH_YES);
}

void cancel_other(struct asked *q)
{
	if (q->other->check != NULL)
		auth_check_cancel(q->other->check);
	q->other->check = NULL;
}

void ask_other(struct asked *q)
{
	authority_ask(q->world, q->other);
}

int group_setup(void **state)
{
	(void)state;
	/* A sum below the base would not hide what is credited twice. */
	memory_set_limit(0, 1 << 20);
	signal(SIGPIPE, SIG_IGN);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	if (uv_mutex_init(&lookups_mutex) != 0 ||
	    uv_cond_init(&lookups_released) != 0)
		return -1;
	let_all_allocations_pass();
	/* The first to initialise libcurl says how it allocates. */
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, failing_malloc, free,
				 failing_realloc, failing_strdup,
				 failing_calloc) != CURLE_OK)
		return -1;
	return auth_global_init();
}

int group_teardown(void **state)
{
	(void)state;
	auth_global_fini();
	curl_global_cleanup();
	uv_cond_destroy(&lookups_released);
	uv_mutex_destroy(&lookups_mutex);
	return 0;
}
