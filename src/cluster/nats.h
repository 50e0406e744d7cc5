/* nats.h - one connection to a NATS server: the calls of nats.c that the bus
 * needs, and the only ones.
 *
 * nats.c runs threads of its own. What they bring (messages of the log, acks,
 * messages of other nodes, the end of the connection) is queued here in the
 * order in which it came, and `wake` is called, on one of those threads, when
 * the queue was empty. Owner: the thread that has connected, until another
 * one adopts the connection. Those that say so block, for `timeout_ms` at most.
 *
 * nats.c never connects again by itself: it would publish again what it had
 * buffered, and hide that messages may be missing. Who gets NATS_LOST closes,
 * and connects anew.
 *
 * Bounded: messages of the log by the server's flow control, which counts what
 * was not answered by nats_respond(); acks by who publishes; messages of nodes
 * by a constant, what is more being dropped. */
#ifndef ISIMUD_CLUSTER_NATS_H
#define ISIMUD_CLUSTER_NATS_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nats; /* opaque */

#define NATS_ERROR_MAX  256 /* characters of an error's text, and a NUL */
#define NATS_SERVER_MAX 256

struct nats_options {
	const char *const *servers; /* URLs; the first is tried first */
	unsigned servers_count;
	const char *creds; /* a file, or NULL */
	const char *ca;    /* the same */
	const char *name;  /* of this client, for the server's lists */
	uint64_t timeout_ms;
	void (*wake)(void *user);
	void *user;
};

/* Blocks, for each server. Returns 0 and `*out`; or a UV_E… with `error` saying
 * why, for a log line; it has no credentials in it. */
int nats_connect(struct nats **out, const struct nats_options *options,
		 char error[static NATS_ERROR_MAX]);

/* The calling thread is the owner from now on. */
void nats_adopt(struct nats *n);

/* Drops what is queued. `wake` is not called any more once it has returned.
 * NULL is fine. */
void nats_close(struct nats *n);

/* Frees what nats.c keeps for the process. After all connections. */
void nats_fini(void);

/* The largest message that the server takes, bytes. */
size_t nats_max_payload(const struct nats *n);

/* The URL of the server, without credentials. */
void nats_server(const struct nats *n, char out[static NATS_SERVER_MAX]);

/* --- what comes ----------------------------------------------------------- */

enum nats_event {
	NATS_RECORD,    /* a message of the log */
	NATS_HEARTBEAT, /* of the consumer: there is nothing new */
	NATS_FLOW,      /* asks for nats_respond() */
	NATS_ACK,       /* what became of nats_publish() */
	NATS_NODE,      /* a message of another node, or of this one */
	NATS_LOST,      /* the connection is gone; nothing else will come */
};

enum nats_ack {
	NATS_ACK_OK,        /* it is in the log */
	NATS_ACK_DUPLICATE, /* its Msg-Id is there already, at `sequence` */
	NATS_ACK_UNCERTAIN, /* its Msg-Id is known, but is in the log at no
			   place yet, and may never be */
	NATS_ACK_NOBODY,    /* no server takes it now: it is not in the log */
	NATS_ACK_SEQUENCE,  /* refused: another last sequence than expected */
	NATS_ACK_ERROR,     /* refused for another reason: not in the log */
};

struct nats_mail {
	struct nats_mail *next;
	enum nats_event event;
	void *message; /* nats.c's, which `data` and `subject` lie in */
	struct span subject;
	struct span data;
	uint64_t sequence; /* of a record, in the stream; of an ack */
	/* Of a record or a heartbeat: by the consumer's own count, the last
	 * that it sent. */
	uint64_t consumer_sequence;
	uint64_t time_ns;  /* of a record: the server's stamp, since 1970 */
	bool is_last;      /* of a record: the log has no more now */
	uint64_t token;    /* of an ack: as given to nats_publish() */
	enum nats_ack ack; /* the same */
};

/* Takes all that has come, oldest first; NULL if nothing has. */
struct nats_mail *nats_take(struct nats *n);

/* Frees one of them. */
void nats_mail_free(struct nats_mail *m);

/* Answers NATS_FLOW, once all before it is handled. Returns 0 or a UV_E…. */
int nats_respond(struct nats *n, const struct nats_mail *m);

/* --- sending -------------------------------------------------------------- */

/* Publishes a message to the log, and asks for an ack that has `token`.
 * `message_id`: for the server to recognise a repetition, or NULL. `expected`:
 * the last sequence of this subject, or the message is refused; UINT64_MAX: any
 * will do. Waits only where the socket is full, 500 ms at most. Returns 0 or a
 * UV_E…; it may have been published in the latter case, too. */
int nats_publish(struct nats *n, const char *subject, struct span data,
		 uint64_t token, const char *message_id, uint64_t expected);

/* Sends a message to all nodes that listen, without an ack. */
int nats_send(struct nats *n, const char *subject, struct span data);

/* Listens to what nodes send: NATS_NODE. Once a connection. */
int nats_listen(struct nats *n, const char *subject);

/* --- the log -------------------------------------------------------------- */

struct nats_stream {
	uint64_t first_sequence;
	uint64_t last_sequence; /* 0: there never was a message */
	/* How it is configured, as far as the log depends on it. */
	char subject[64]; /* the only one, else "" */
	bool is_limits;   /* retention by limits */
	bool discards_old;
	bool denies_delete;
	bool is_in_memory;
	int64_t messages_max; /* -1: no limit; as the next ones */
	int64_t messages_per_subject_max;
	int64_t bytes_max;
	int64_t age_max_ns;        /* 0: no limit */
	int64_t duplicates_ns;     /* the window in which Msg-Ids are known */
	int64_t message_max_bytes; /* -1: no limit */
	int64_t replicas;
};

/* These block. Errors: UV_ENOENT, there is none; UV_ETIMEDOUT, no answer;
 * UV_EAGAIN, nobody answers for JetStream now; UV_EIO, anything else. `error`
 * says why, where it is asked for. */
int nats_find_stream(struct nats *n, const char *stream,
		     struct nats_stream *out,
		     char error[static NATS_ERROR_MAX]);

/* Makes it, as `want` says; sequences do not matter. */
int nats_make_stream(struct nats *n, const char *stream,
		     const struct nats_stream *want,
		     char error[static NATS_ERROR_MAX]);

/* The last message of a subject; of the stream's leader, so that none is older.
 * `data` receives its bytes. */
int nats_last_message(struct nats *n, const char *stream, const char *subject,
		      uint64_t *sequence, uint64_t *time_ns, struct buf *data);

/* Message number `sequence`. */
int nats_message(struct nats *n, const char *stream, uint64_t sequence,
		 uint64_t *time_ns, struct buf *data);

/* From where on the log is read. */
struct nats_from {
	uint64_t sequence; /* from this one on; or, if 0: */
	uint64_t time_ns;  /* from the first that is not older; since 1970 */
};

/* Reads the log from there on: NATS_RECORD, NATS_HEARTBEAT and NATS_FLOW come,
 * of this consumer alone. `name` must be new. `*now_ns`: the server's clock.
 * What an earlier one had queued is dropped, and that one is left to the
 * server, which forgets it after some seconds. */
int nats_consume(struct nats *n, const char *stream, const char *name,
		 struct nats_from from, uint64_t *now_ns,
		 char error[static NATS_ERROR_MAX]);

#endif
