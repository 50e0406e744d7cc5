/* nats.c - see nats.h. The library's threads run the callbacks, which only
 * append to the queue. */
#include "cluster/nats.h"

#include "base/check.h"
#include "base/lock.h"
#include "base/memory.h"

#include <nats/nats.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define WRITE_DEADLINE_MS 500
#define PING_MS           1000 /* two without an answer end the connection */
#define HEARTBEAT_NS      500000000LL
#define INACTIVE_NS       5000000000LL /* then the server drops a consumer */
#define SUBJECT_MAX       160
#define SERVERS_MAX       16
/* Limit of queued messages of other nodes. More are dropped; their numbers tell
 * that some are missing. */
#define NODES_MAX_BYTES 33554432
#define MESSAGE_BYTES   384 /* what the library adds to a message */

struct nats {
	uv_thread_t owner;
	/* References: one of the owner, one of each subscription, and one of
	 * the connection, until its last callback has returned. Atomic. */
	atomic_uint refs;
	natsConnection *connection;
	jsCtx *jetstream;
	natsSubscription *acks;
	natsSubscription *nodes;
	natsSubscription *records;
	char *inbox; /* natsInbox */
	uint64_t timeout_ms;
	unsigned consumers; /* made so far */
	void (*wake)(void *user);
	void *user;

	struct lock lock;
	/* Guarded by `lock`. */
	struct nats_mail *first;
	struct nats_mail **end;
	natsSubscription *current; /* `records` in force: others' are dropped */
	size_t nodes_bytes;        /* of the NATS_NODE in the queue */
	bool is_closed;
};

/* --- the queue ------------------------------------------------------------ */

static void nats_unref(struct nats *n)
{
	if (atomic_fetch_sub(&n->refs, 1) > 1)
		return;
	lock_fini(&n->lock);
	natsInbox_Destroy(n->inbox);
	free(n);
}

static size_t mail_bytes(const struct nats_mail *m)
{
	return sizeof *m + MESSAGE_BYTES + m->data.len;
}

void nats_mail_free(struct nats_mail *m)
{
	memory_credit(mail_bytes(m));
	natsMsg_Destroy(m->message);
	free(m);
}

static void free_all(struct nats_mail *m)
{
	while (m != NULL) {
		struct nats_mail *next = m->next;
		nats_mail_free(m);
		m = next;
	}
}

/* Takes `m`, which came by subscription `from` (NULL: by none), and queues it;
 * drops it if that is not in force. */
static void queue_mail(struct nats *n, struct nats_mail *m,
		       const natsSubscription *from)
{
	bool was_empty;
	bool is_stale;

	lock_acquire(&n->lock);
	is_stale =
		n->is_closed || (m->event <= NATS_FLOW && from != n->current);
	was_empty = n->first == NULL;
	if (m->event == NATS_NODE && !is_stale) {
		is_stale = n->nodes_bytes > NODES_MAX_BYTES;
		n->nodes_bytes += is_stale ? 0 : mail_bytes(m);
	}
	if (!is_stale) {
		*n->end = m;
		n->end = &m->next;
		/* Under the lock: nats_close() then knows that it is over. */
		if (was_empty)
			n->wake(n->user);
	}
	lock_release(&n->lock);
	if (is_stale)
		nats_mail_free(m);
}

struct nats_mail *nats_take(struct nats *n)
{
	CHECK_ON_THREAD(n->owner);
	lock_acquire(&n->lock);
	struct nats_mail *first = n->first;
	n->first = NULL;
	n->end = &n->first;
	n->nodes_bytes = 0;
	lock_release(&n->lock);
	return first;
}

/* --- on nats.c's threads -------------------------------------------------- */

/* Takes `message`. NULL without memory: the message is dropped, and found to be
 * missing by the consumer's sequence, or because no ack comes. */
static struct nats_mail *mail_of(natsMsg *message, enum nats_event event)
{
	struct nats_mail *m = calloc(1, sizeof *m);

	if (m == NULL) {
		natsMsg_Destroy(message);
		return NULL;
	}
	m->event = event;
	m->message = message;
	if (message != NULL) {
		m->subject = span_of(natsMsg_GetSubject(message));
		m->data = (struct span){natsMsg_GetData(message),
					(size_t)natsMsg_GetDataLength(message)};
	}
	memory_charge(mail_bytes(m));
	return m;
}

static void on_nats_closed(natsConnection *connection, void *user)
{
	struct nats *n = user;
	struct nats_mail *m = mail_of(NULL, NATS_LOST);
	(void)connection;

	if (m != NULL)
		queue_mail(n, m, NULL);
	nats_unref(n);
}

static void on_nats_complete(void *user)
{
	nats_unref(user);
}

/* Reads the number at `*at`, a token of a subject, and steps over its dot. */
static uint64_t number_token(const char **at)
{
	uint64_t value = 0;

	while (**at >= '0' && **at <= '9')
		value = 10 * value + (uint64_t)(*(*at)++ - '0');
	if (**at == '.')
		++*at;
	return value;
}

/* Reads the position of a record from its reply subject:
 * $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.TIME.PENDING, where NUMBER
 * is the consumer's own sequence. Newer servers have two or three more tokens:
 * domain and account behind ACK, and one at the end. Returns false if the
 * subject has another form. */
static bool read_place(struct nats_mail *m, const char *reply)
{
	unsigned dots = 0;
	const char *at = reply;

	if (reply == NULL || strncmp(reply, "$JS.ACK.", 8) != 0)
		return false;
	for (const char *p = reply; *p != '\0'; p++)
		dots += *p == '.';
	unsigned skip = dots >= 10 ? 6 : 4;
	if (dots < 8)
		return false;
	while (skip > 0)
		skip -= *at++ == '.';
	(void)number_token(&at); /* how often it was delivered */
	m->sequence = number_token(&at);
	m->consumer_sequence = number_token(&at);
	m->time_ns = number_token(&at);
	m->is_last = number_token(&at) == 0;
	return m->sequence > 0;
}

static uint64_t header_number(natsMsg *message, const char *name)
{
	const char *value;

	if (natsMsgHeader_Get(message, name, &value) != NATS_OK)
		return 0;
	return number_token(&value);
}

static void on_record(natsConnection *connection, natsSubscription *from,
		      natsMsg *message, void *user)
{
	struct nats *n = user;
	struct nats_mail *m = mail_of(message, NATS_RECORD);
	const char *status;
	(void)connection;

	if (m == NULL)
		return;
	if (read_place(m, natsMsg_GetReply(message))) {
		queue_mail(n, m, from);
	} else if (natsMsgHeader_Get(message, "Status", &status) == NATS_OK) {
		m->event = natsMsg_GetReply(message) != NULL ? NATS_FLOW
							     : NATS_HEARTBEAT;
		m->consumer_sequence =
			header_number(message, "Nats-Last-Consumer");
		m->sequence = header_number(message, "Nats-Last-Stream");
		queue_mail(n, m, from);
	} else {
		nats_mail_free(m);
	}
}

static void on_node(natsConnection *connection, natsSubscription *from,
		    natsMsg *message, void *user)
{
	struct nats_mail *m = mail_of(message, NATS_NODE);
	(void)connection;

	if (m != NULL)
		queue_mail(user, m, from);
}

/* Finds the number behind `name` in an ack:
 * {"stream":"S","seq":5,"duplicate":true}, or
 * {"error":{"code":400,"err_code":10071,"description":"…"},…}. The server
 * writes it, and stream names have no quotes. */
static uint64_t json_number(const char *json, const char *name)
{
	const char *at = strstr(json, name);

	if (at == NULL)
		return 0;
	at += strlen(name);
	while (*at == ' ')
		at++;
	return number_token(&at);
}

/* Of JetStream: JSStreamWrongLastSequenceErrF, and (newer servers)
 * JSStreamDuplicateMessageConflict. */
#define WRONG_LAST_SEQUENCE 10071
#define DUPLICATE_CONFLICT  10158
#define ACK_MAX             1024

/* A leader remembers a Msg-Id as soon as it proposes the message to the other
 * servers. Until they agree, it answers a repetition with sequence 0, newer
 * servers with a conflict. */
static enum nats_ack error_of(uint64_t code)
{
	switch (code) {
	case WRONG_LAST_SEQUENCE:
		return NATS_ACK_SEQUENCE;
	case DUPLICATE_CONFLICT:
		return NATS_ACK_UNCERTAIN;
	default:
		return NATS_ACK_ERROR;
	}
}

static void read_ack(struct nats_mail *m, natsMsg *message)
{
	char json[ACK_MAX] = {0};
	size_t len = m->data.len < ACK_MAX - 1 ? m->data.len : ACK_MAX - 1;

	if (natsMsg_IsNoResponders(message)) {
		m->ack = NATS_ACK_NOBODY;
		return;
	}
	if (len > 0)
		memcpy(json, m->data.bytes, len);
	m->sequence = json_number(json, "\"seq\":");
	if (strstr(json, "\"error\":") != NULL)
		m->ack = error_of(json_number(json, "\"err_code\":"));
	else if (strstr(json, "\"duplicate\":true") != NULL ||
		 strstr(json, "\"duplicate\": true") != NULL)
		m->ack = m->sequence > 0 ? NATS_ACK_DUPLICATE
					 : NATS_ACK_UNCERTAIN;
	else
		m->ack = m->sequence > 0 ? NATS_ACK_OK : NATS_ACK_ERROR;
}

static void on_ack(natsConnection *connection, natsSubscription *from,
		   natsMsg *message, void *user)
{
	struct nats *n = user;
	struct nats_mail *m = mail_of(message, NATS_ACK);
	(void)connection;

	if (m == NULL)
		return;
	/* The inbox is made before anything is subscribed. */
	/* NOLINTNEXTLINE(clang-analyzer-core.*) */
	m->token = strtoull(m->subject.bytes + strlen(n->inbox) + 1, NULL, 16);
	read_ack(m, message);
	queue_mail(n, m, from);
}

/* --- connecting ----------------------------------------------------------- */

static int to_uv(natsStatus s)
{
	switch (s) {
	case NATS_OK:
		return 0;
	case NATS_NOT_FOUND:
		return UV_ENOENT;
	case NATS_TIMEOUT:
		return UV_ETIMEDOUT;
	case NATS_NO_RESPONDERS:
		return UV_EAGAIN;
	case NATS_NO_MEMORY:
		return UV_ENOMEM;
	default:
		return UV_EIO;
	}
}

/* The library knows more about the thread's last error than its status. */
static int fail_nats(natsStatus s, char *error)
{
	const char *more = nats_GetLastError(NULL);

	if (more == NULL || *more == '\0')
		snprintf(error, NATS_ERROR_MAX, "%s", natsStatus_GetText(s));
	else
		snprintf(error, NATS_ERROR_MAX, "%s: %s", natsStatus_GetText(s),
			 more);
	return to_uv(s);
}

static natsStatus fill_options(natsOptions *to, struct nats *n,
			       const struct nats_options *from)
{
	const char *servers[SERVERS_MAX];
	unsigned count = from->servers_count < SERVERS_MAX ? from->servers_count
							   : SERVERS_MAX;

	for (unsigned i = 0; i < count; i++)
		servers[i] = from->servers[i];
	natsStatus s = natsOptions_SetServers(to, servers, (int)count);
	if (s == NATS_OK)
		s = natsOptions_SetNoRandomize(to, true);
	if (s == NATS_OK)
		s = natsOptions_SetName(to, from->name);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(to, (int64_t)from->timeout_ms);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(to, false);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(to, PING_MS);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(to, 2);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(to, WRITE_DEADLINE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(to, on_nats_closed, n);
	if (s == NATS_OK && from->creds != NULL)
		s = natsOptions_SetUserCredentialsFromFiles(to, from->creds,
							    NULL);
	if (s == NATS_OK && from->ca != NULL)
		s = natsOptions_LoadCATrustedCertificates(to, from->ca);
	if (s == NATS_OK && from->ca != NULL)
		s = natsOptions_SetSecure(to, true);
	return s;
}

/* A subscription holds a reference until its last callback has returned. */
static natsStatus subscribe(struct nats *n, natsSubscription **sub,
			    const char *subject, natsMsgHandler handler)
{
	natsStatus s = natsConnection_Subscribe(sub, n->connection, subject,
						handler, n);
	if (s != NATS_OK)
		return s;
	atomic_fetch_add(&n->refs, 1);
	s = natsSubscription_SetOnCompleteCB(*sub, on_nats_complete, n);
	if (s != NATS_OK)
		nats_unref(n);
	if (s == NATS_OK)
		s = natsSubscription_SetPendingLimits(*sub, -1, -1);
	return s;
}

static natsStatus open_connection(struct nats *n, natsOptions *options)
{
	char subject[SUBJECT_MAX];
	jsOptions js;

	natsStatus s = natsConnection_Connect(&n->connection, options);
	if (s != NATS_OK)
		return s;
	atomic_fetch_add(&n->refs, 1); /* on_nats_closed() */
	s = jsOptions_Init(&js);
	js.Wait = (int64_t)n->timeout_ms;
	if (s == NATS_OK)
		s = natsConnection_JetStream(&n->jetstream, n->connection, &js);
	if (s == NATS_OK)
		s = natsInbox_Create(&n->inbox);
	if (s != NATS_OK)
		return s;
	snprintf(subject, sizeof subject, "%s.*", n->inbox);
	return subscribe(n, &n->acks, subject, on_ack);
}

int nats_connect(struct nats **out, const struct nats_options *options,
		 char error[static NATS_ERROR_MAX])
{
	natsOptions *native = NULL;
	struct nats *n = calloc(1, sizeof *n);

	if (n == NULL)
		return fail_nats(NATS_NO_MEMORY, error);
	atomic_init(&n->refs, 1);
	n->owner = uv_thread_self();
	n->end = &n->first;
	n->timeout_ms = options->timeout_ms;
	n->wake = options->wake;
	n->user = options->user;
	if (lock_init(&n->lock, LOCK_LEAF) != 0) {
		free(n);
		return fail_nats(NATS_NO_MEMORY, error);
	}
	natsStatus s = natsOptions_Create(&native);
	if (s == NATS_OK)
		s = fill_options(native, n, options);
	if (s == NATS_OK)
		s = open_connection(n, native);
	natsOptions_Destroy(native);
	if (s != NATS_OK) {
		int rv = fail_nats(s, error);
		/* The caller has a reference of its own. */
		/* NOLINTNEXTLINE(clang-analyzer-unix.*) */
		nats_close(n);
		return rv;
	}
	*out = n;
	return 0;
}

void nats_adopt(struct nats *n)
{
	n->owner = uv_thread_self();
}

void nats_close(struct nats *n)
{
	if (n == NULL)
		return;
	CHECK_ON_THREAD(n->owner);
	lock_acquire(&n->lock);
	n->is_closed = true;
	struct nats_mail *left = n->first;
	n->first = NULL;
	n->end = &n->first;
	lock_release(&n->lock);
	free_all(left);
	natsSubscription_Destroy(n->acks);
	natsSubscription_Destroy(n->nodes);
	natsSubscription_Destroy(n->records);
	jsCtx_Destroy(n->jetstream);
	natsConnection_Destroy(n->connection);
	nats_unref(n);
}

void nats_fini(void)
{
	nats_CloseAndWait((int64_t)2 * PING_MS);
}

size_t nats_max_payload(const struct nats *n)
{
	CHECK_ON_THREAD(n->owner);
	int64_t max = natsConnection_GetMaxPayload(n->connection);
	return max < 0 ? SIZE_MAX : (size_t)max;
}

void nats_server(const struct nats *n, char out[static NATS_SERVER_MAX])
{
	char url[NATS_SERVER_MAX] = "";

	CHECK_ON_THREAD(n->owner);
	out[0] = '\0';
	if (natsConnection_GetConnectedUrl(n->connection, url, sizeof url) !=
	    NATS_OK)
		return;
	const char *at = strrchr(url, '@');
	const char *scheme = strstr(url, "://");
	snprintf(out, NATS_SERVER_MAX, "%s",
		 at != NULL       ? at + 1
		 : scheme != NULL ? scheme + 3
				  : url);
}

/* --- sending -------------------------------------------------------------- */

int nats_respond(struct nats *n, const struct nats_mail *m)
{
	CHECK_ON_THREAD(n->owner);
	const char *reply = natsMsg_GetReply(m->message);
	return to_uv(natsConnection_Publish(n->connection, reply, NULL, 0));
}

int nats_publish(struct nats *n, const char *subject, struct span data,
		 uint64_t token, const char *message_id, uint64_t expected)
{
	char reply[SUBJECT_MAX];
	char number[24];
	natsMsg *message = NULL;

	CHECK_ON_THREAD(n->owner);
	snprintf(reply, sizeof reply, "%s.%llx", n->inbox,
		 (unsigned long long)token);
	natsStatus s = natsMsg_Create(&message, subject, reply, data.bytes,
				      (int)data.len);
	if (s == NATS_OK && message_id != NULL)
		s = natsMsgHeader_Set(message, "Nats-Msg-Id", message_id);
	if (s == NATS_OK && expected != UINT64_MAX) {
		snprintf(number, sizeof number, "%llu",
			 (unsigned long long)expected);
		s = natsMsgHeader_Set(
			message, "Nats-Expected-Last-Subject-Sequence", number);
	}
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(n->connection, message);
	natsMsg_Destroy(message);
	return to_uv(s);
}

int nats_send(struct nats *n, const char *subject, struct span data)
{
	CHECK_ON_THREAD(n->owner);
	return to_uv(natsConnection_Publish(n->connection, subject, data.bytes,
					    (int)data.len));
}

int nats_listen(struct nats *n, const char *subject)
{
	CHECK_ON_THREAD(n->owner);
	CHECK(n->nodes == NULL);
	return to_uv(subscribe(n, &n->nodes, subject, on_node));
}

/* --- the log -------------------------------------------------------------- */

static void read_stream(struct nats_stream *out, const jsStreamInfo *info)
{
	const jsStreamConfig *c = info->Config;

	*out = (struct nats_stream){
		.first_sequence = info->State.FirstSeq,
		.last_sequence = info->State.LastSeq,
		.is_limits = c->Retention == js_LimitsPolicy,
		.discards_old = c->Discard == js_DiscardOld,
		.denies_delete = c->DenyDelete,
		.is_in_memory = c->Storage == js_MemoryStorage,
		.messages_max = c->MaxMsgs,
		.messages_per_subject_max = c->MaxMsgsPerSubject,
		.bytes_max = c->MaxBytes,
		.age_max_ns = c->MaxAge,
		.duplicates_ns = c->Duplicates,
		.message_max_bytes = c->MaxMsgSize,
		.replicas = c->Replicas,
	};
	if (c->SubjectsLen == 1)
		snprintf(out->subject, sizeof out->subject, "%s",
			 c->Subjects[0]);
}

int nats_find_stream(struct nats *n, const char *stream,
		     struct nats_stream *out, char error[static NATS_ERROR_MAX])
{
	jsStreamInfo *info = NULL;
	natsStatus s =
		js_GetStreamInfo(&info, n->jetstream, stream, NULL, NULL);

	CHECK_ON_THREAD(n->owner);
	if (s != NATS_OK)
		return fail_nats(s, error);
	read_stream(out, info);
	jsStreamInfo_Destroy(info);
	return 0;
}

int nats_make_stream(struct nats *n, const char *stream,
		     const struct nats_stream *want,
		     char error[static NATS_ERROR_MAX])
{
	const char *subjects[] = {want->subject};
	jsStreamConfig config;
	jsErrCode code;

	CHECK_ON_THREAD(n->owner);
	jsStreamConfig_Init(&config);
	config.Name = stream;
	config.Subjects = subjects;
	config.SubjectsLen = 1;
	config.Retention =
		want->is_limits ? js_LimitsPolicy : js_InterestPolicy;
	config.Discard = want->discards_old ? js_DiscardOld : js_DiscardNew;
	config.Storage = want->is_in_memory ? js_MemoryStorage : js_FileStorage;
	config.DenyDelete = want->denies_delete;
	config.MaxMsgs = want->messages_max;
	config.MaxMsgsPerSubject = want->messages_per_subject_max;
	config.MaxBytes = want->bytes_max;
	config.MaxAge = want->age_max_ns;
	config.Duplicates = want->duplicates_ns;
	config.MaxMsgSize = (int32_t)want->message_max_bytes;
	config.Replicas = want->replicas;
	natsStatus s = js_AddStream(NULL, n->jetstream, &config, NULL, &code);
	return s == NATS_OK ? 0 : fail_nats(s, error);
}

static int read_message(natsStatus s, natsMsg *message, uint64_t *sequence,
			uint64_t *time_ns, struct buf *data)
{
	if (s != NATS_OK)
		return to_uv(s);
	if (sequence != NULL)
		*sequence = natsMsg_GetSequence(message);
	*time_ns = (uint64_t)natsMsg_GetTime(message);
	data->len = 0;
	int rv = buf_append(data, natsMsg_GetData(message),
			    (size_t)natsMsg_GetDataLength(message));
	natsMsg_Destroy(message);
	return rv;
}

int nats_last_message(struct nats *n, const char *stream, const char *subject,
		      uint64_t *sequence, uint64_t *time_ns, struct buf *data)
{
	CHECK_ON_THREAD(n->owner);
	natsMsg *message = NULL;
	natsStatus s = js_GetLastMsg(&message, n->jetstream, stream, subject,
				     NULL, NULL);
	return read_message(s, message, sequence, time_ns, data);
}

int nats_message(struct nats *n, const char *stream, uint64_t sequence,
		 uint64_t *time_ns, struct buf *data)
{
	CHECK_ON_THREAD(n->owner);
	natsMsg *message = NULL;
	natsStatus s =
		js_GetMsg(&message, n->jetstream, stream, sequence, NULL, NULL);
	return read_message(s, message, NULL, time_ns, data);
}

/* Drops what earlier consumers have queued; their callbacks drop what still
 * arrives. */
static void forget_records(struct nats *n)
{
	struct nats_mail **at;
	struct nats_mail *stale = NULL;

	lock_acquire(&n->lock);
	n->current = NULL;
	for (at = &n->first; *at != NULL;) {
		struct nats_mail *m = *at;
		if (m->event > NATS_FLOW) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		m->next = stale;
		stale = m;
	}
	n->end = at;
	lock_release(&n->lock);
	free_all(stale);
	natsSubscription_Destroy(n->records);
	n->records = NULL;
}

int nats_consume(struct nats *n, const char *stream, const char *name,
		 struct nats_from from, uint64_t *now_ns,
		 char error[static NATS_ERROR_MAX])
{
	char subject[SUBJECT_MAX];
	jsConsumerConfig config;
	jsConsumerInfo *info = NULL;
	jsErrCode code;

	CHECK_ON_THREAD(n->owner);
	forget_records(n);
	snprintf(subject, sizeof subject, "%s.log%u", n->inbox + 1,
		 ++n->consumers);
	natsStatus s = subscribe(n, &n->records, subject, on_record);
	if (s != NATS_OK)
		return fail_nats(s, error);
	lock_acquire(&n->lock);
	n->current = n->records;
	lock_release(&n->lock);
	jsConsumerConfig_Init(&config);
	config.Name = name;
	config.DeliverSubject = subject;
	config.AckPolicy = js_AckNone;
	config.MemoryStorage = true;
	config.Replicas = 1;
	config.Heartbeat = HEARTBEAT_NS;
	config.FlowControl = true;
	config.InactiveThreshold = INACTIVE_NS;
	if (from.sequence > 0) {
		config.DeliverPolicy = js_DeliverByStartSequence;
		config.OptStartSeq = from.sequence;
	} else {
		config.DeliverPolicy = js_DeliverByStartTime;
		config.OptStartTime = (int64_t)from.time_ns;
	}
	s = js_AddConsumer(&info, n->jetstream, stream, &config, NULL, &code);
	if (s != NATS_OK)
		return fail_nats(s, error);
	*now_ns = (uint64_t)info->Created;
	jsConsumerInfo_Destroy(info);
	return 0;
}
