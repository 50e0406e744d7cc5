/* private.h - the inside of the bus, for its files:
 *
 * state.c   what state it is in
 * tell.c    how many subscribers the topics have, told between nodes
 * window.c  writing to the log: records that wait for their acks
 * log.c     joining the log, and applying what comes of it
 * backlog.c what has come of it and waits for its turn
 * bus.c     the thread, its clock, and what other threads call
 *
 * Each uses those above it.
 *
 * Owner: the bus's thread (`owner`), but for what says otherwise. */
#ifndef ISIMUD_CLUSTER_PRIVATE_H
#define ISIMUD_CLUSTER_PRIVATE_H

#include "base/check.h"
#include "base/lock.h"
#include "cluster/bus.h"
#include "cluster/counts.h"
#include "cluster/nats.h"

#include <stdatomic.h>
#include <uv.h>

#define BUS_TICK_MS       100
#define BUS_SERVERS_MAX   16
#define BUS_SUBJECT       "isimud.log.>"
#define BUS_RECORDS       "isimud.log.0"
#define BUS_MARKERS       "isimud.log.e"
#define BUS_SUBJECT_MAX   320
#define BUS_CONNECT_MS    2000  /* for a server, and for each of its answers */
#define BUS_MARKER_MS     1000  /* without a marker: this node writes one */
#define BUS_NO_SUM_MS     2500  /* the same, and nobody has its sum */
#define BUS_SILENCES_MAX  2     /* in a row: another server */
#define BUS_SILENT_MS     1500  /* without a word of the consumer: join again */
#define BUS_DOWN_MS       4000  /* without a marker: nothing is published */
#define BUS_AWAY_MS       3000  /* joining without success: another server */
#define BUS_STALE_MS      6000  /* without a marker: another server */
#define BUS_VOUCHED_MS    10000 /* older markers are vouched for by nobody */
#define BUS_WAIT_MS       3000  /* for somebody to vouch */
#define BUS_JOIN_MS       2500  /* without an answer: judge again */
#define BUS_AGAIN_MS      300   /* until that, where the servers said no */
#define BUS_RETRY_MS      100   /* until a refused record is sent again */
#define BUS_COMPLAIN_MS   10000 /* between lines that nothing is reached */
#define BUS_ROOM_MS       2     /* until a full mailbox is looked at again */
#define BUS_PROOF_MS      1000  /* until the leader is asked again */
#define BUS_DUPLICATES_MS 30000
#define BUS_AGE_MIN_MS    120000
#define BUS_RECORD_BYTES                                                       \
	262144              /* one of many publications; one alone may         \
			       be longer */
#define BUS_HEADERS_MAX 512 /* of a message that is a record */
#define WINDOW_RECORDS  64
#define WINDOW_ID_MAX   80

enum bus_state {
	BUS_STATE_DOWN,
	BUS_STATE_JOIN, /* connected; judging the log, or waiting for a vouch */
	BUS_STATE_WARMING,
	BUS_STATE_LIVE,
};

/* A record that is sent, or about to be, and not acknowledged. */
struct window_slot {
	uint64_t token; /* 0: free */
	uint64_t nonce;
	struct buf bytes;
	char message_id[WINDOW_ID_MAX];
	struct bus_request *first; /* whose publications are in it, in order */
	bool is_marker;
	uint64_t expected; /* of a marker: the last one's sequence */
	bool is_uncertain; /* an earlier sending may have succeeded */
	uint64_t first_ns; /* when it was sent first, by uv_hrtime() */
	uint64_t sent_ms;  /* the last time; 0: to be sent */
	uint64_t retry_ms; /* 0: it waits for its ack */
	uint64_t due_ms;
	uint64_t applied;   /* by this node when it was sent first */
	uint64_t duplicate; /* it is, or an earlier one with its key: waits
			       until that sequence is applied; 0: no */
};

struct window {
	struct window_slot slots[WINDOW_RECORDS];
	unsigned used;
	uint64_t last_token;
};

/* What this node knows of the log. */
struct bus_log {
	uint64_t epoch;   /* 0: none yet */
	uint64_t applied; /* sequence of the last record that was */
	uint64_t applied_nonce;
	uint64_t consumer_sequence; /* of the last message of the consumer */
	bool is_first;              /* none of this consumer came yet */
	uint64_t begins;            /* sequence of the marker of its start */
	uint64_t marker;            /* sequence of the last marker applied */
	uint64_t marker_last;       /* of its subject, whoever wrote there */
	uint64_t marker_ms;         /* when it was, by uv_now() */
	uint64_t marker_jitter_ms;
	/* Sums up to the last marker, and of what came behind it. */
	uint64_t sum;
	uint64_t sum_behind;
	bool is_sum_known;
	int64_t clock_ns; /* uv_hrtime() is that much more than the server's */
};

/* Proving that the epoch that is known here is in force: the leader is asked
 * for its last marker, and one behind it must come. Neither can be old news. */
struct bus_proof {
	uint64_t ticket; /* what it proves; 0: nothing is being proved */
	uint64_t after;  /* sequence of the leader's last marker */
	uint64_t due_ms; /* when to ask again */
};

/* Of the log, oldest first, not handled yet. */
struct bus_backlog {
	struct nats_mail *first;
	struct nats_mail **end;
	uint64_t consumer;   /* generation of its name */
	uint64_t stalled_ms; /* since when the first has no room; 0: it has */
};

struct bus {
	/* The bus's thread; before that runs, the one that starts it. */
	uv_thread_t owner;
	/* Immutable once the thread runs. */
	struct bus_options options;
	char *servers_text;
	const char *servers[BUS_SERVERS_MAX];
	unsigned servers_count;
	uint64_t node; /* random: this process */
	struct counts *counts;

	uv_thread_t thread;
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t tick;
	uv_timer_t room; /* while a mailbox is full */

	enum bus_state state;
	struct nats *nats;      /* NULL: not connected */
	unsigned server;        /* index of the one to try first */
	uint64_t connect_ms;    /* when to try next */
	uint64_t complain_ms;   /* when to say again that none is reached */
	uint64_t join_ms;       /* when the log was judged last */
	uint64_t heard_ms;      /* the last word of the consumer */
	unsigned silences;      /* in a row: joined, and nothing came */
	uint64_t away_ms;       /* since when it is not live, 0: it is */
	uint64_t wait_until_ms; /* for somebody to vouch; 0: not waiting */
	uint64_t wait_marker;   /* sequence of the one that nobody renewed */
	uint64_t warm_from_ms;
	bool is_stopping;
	bool has_complained; /* of the log, since it was joined last */
	const char *why;     /* it has begun to read the log; static text */
	struct bus_log log;
	struct bus_proof proof;
	struct bus_backlog backlog;
	struct window window;
	uint64_t consumers; /* generation of its name */
	struct buf scratch;
	/* Telling how many subscribers there are: topic by topic. */
	bool is_telling;
	uint64_t tell_epoch; /* by which the nodes name topics */
	uint64_t tell_at;    /* where registry_page() goes on */
	uint64_t tell_ms;    /* when to begin again */

	/* Guarded by `lock`: requests that wait, oldest first; none is taken
	 * any more once it is shut. */
	struct lock lock;
	bool is_shut;
	struct bus_request *first;
	struct bus_request **end;

	/* Atomic. */
	_Atomic bool is_up;
	_Atomic bool is_warm;
	_Atomic bool wants_stop;
	_Atomic uint64_t behind_ms; /* uv_hrtime() in ms since when it is not at
				       the end of the log; 0: it is */
	_Atomic size_t record_max;  /* bytes that the server takes */
	_Atomic size_t pending_bytes;
	_Atomic uint64_t sequence;
	_Atomic uint64_t asked;  /* the last ticket of bus_ask_epoch() */
	_Atomic uint64_t proved; /* the last one that is proved */
	_Atomic uint64_t records_in;
	_Atomic uint64_t publications_in;
	_Atomic uint64_t records_out;
	_Atomic uint64_t publications_out;
	_Atomic uint64_t joins[BUS_JOIN_COUNT];
	_Atomic uint64_t epochs;
	_Atomic uint64_t lost_records;
	_Atomic uint64_t divergences;
	_Atomic uint64_t unknown;
	_Atomic uint64_t resends;
	_Atomic uint64_t warm_up_ms;
	struct histogram acks; /* from sent to acknowledged */
};

static inline void bus_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* --- state.c --- */

/* Never 0. */
uint64_t bus_random(void);

/* Gives the connection up, and tries again soon. `why` is for the log. */
void bus_disconnect(struct bus *b, const char *why);
void bus_next_server(struct bus *b);
void bus_set_state(struct bus *b, enum bus_state state);

/* --- tell.c --- */

/* Listens to the other nodes, on a new connection. Returns 0 or a UV_E…. */
int tell_listen(struct bus *b);
void tell_renew(struct bus *b, uint64_t epoch);
void tell_on_node(struct bus *b, const struct nats_mail *m);
/* Each tick: tells what has changed, once a second. */
void tell_tick(struct bus *b);

/* --- log.c --- */

/* The stream must be as the log needs it. Returns 0; or UV_EINVAL with `error`
 * saying what differs. */
int log_check_stream(const struct bus_options *o, const struct nats_stream *s,
		     char error[static BUS_ERROR_MAX]);
void log_want_stream(const struct bus_options *o, struct nats_stream *s);

/* Connected: judges the log, and begins to read it. */
void log_join(struct bus *b, enum bus_join why);
void log_on_record(struct bus *b, const struct nats_mail *m);
void log_on_heartbeat(struct bus *b, const struct nats_mail *m);
/* Each tick: whether the log is still being renewed and heard. */
void log_tick(struct bus *b);
/* Begins to prove that the epoch is in force, if that was asked for. */
void log_prove(struct bus *b);

/* --- backlog.c --- */

/* Takes `m`, a record, heartbeat or question of the flow control, that was
 * queued while `consumer` (its generation) was being read. */
void backlog_add(struct bus *b, struct nats_mail *m, uint64_t consumer);

enum backlog_work {
	BACKLOG_DONE,    /* nothing is left */
	BACKLOG_BUSY,    /* a turn is over: go on soon */
	BACKLOG_STALLED, /* a worker's mailbox is full: look in BUS_ROOM_MS */
};

/* Handles what there is, for some milliseconds. */
enum backlog_work backlog_work(struct bus *b);
void backlog_drop(struct bus *b);

/* --- window.c --- */

/* Sends what waits, as far as the window has room. */
void window_fill(struct bus *b);
/* Writes a marker. `expected`: the sequence of the last one, or UINT64_MAX. */
void window_mark(struct bus *b, uint64_t epoch, uint32_t flags,
		 uint64_t expected, uint64_t sum);
/* Returns why the log must be joined again, or BUS_JOIN_NONE. */
enum bus_join window_on_ack(struct bus *b, const struct nats_mail *m);
/* Record `sequence` is applied, which has `nonce`. */
void window_on_applied(struct bus *b, uint64_t sequence, uint64_t nonce);
/* Each tick: what was refused is sent again, what is over time given up. */
void window_tick(struct bus *b);
/* Connected anew: what was sent may be lost. */
void window_resend(struct bus *b);
/* The log is not what it was: no id of before is answered any more. */
void window_void(struct bus *b);
/* The end: all is answered. */
void window_give_up(struct bus *b);
void window_fini(struct window *w);

#endif
