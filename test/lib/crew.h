/* crew.h - workers (server/worker.h), each on a thread of its own once it is
 * started, and clients of theirs. To be included after cmocka.h. */
#ifndef ISIMUD_TEST_CREW_H
#define ISIMUD_TEST_CREW_H

#include "config/config.h"
#include "loopback.h"
#include "server/worker.h"

#define CREW_MAX 2

struct crew {
	struct worker_shared shared;
	struct worker *workers[CREW_MAX];
	struct mailbox *mailboxes[CREW_MAX];
	unsigned count;
	unsigned started;
	unsigned next; /* who gets the next client */
	struct client clients[CLIENTS_MAX];
	unsigned clients_count;
	size_t memory_used; /* before it was opened */
};

/* Enough for every test. */
extern const struct descriptors_shares crew_shares;

/* Makes `count` workers, which do not run yet. What they share beside `config`
 * and `app` is the test's to make: registry, idempotency and auth_cache are
 * then the crew's. */
void crew_open(struct crew *crew, const struct config *config,
	       const struct worker_app *app, unsigned count);

void crew_start(struct crew *crew);

/* Stops those that run, and waits for them. */
void crew_stop(struct crew *crew);

/* Stops, frees all, and finds out whether all that was charged is credited. */
void crew_close(struct crew *crew);

/* Posts a connection to the next worker. The client is in `place`, or, NULL, in
 * one of its own; it takes what comes in each crew_turn(). */
struct client *crew_connect(struct crew *crew, struct client *place);

/* Gives the workers a moment, and lets the clients take what has come. */
void crew_turn(struct crew *crew);

#define CREW_UNTIL(crew, condition)                                            \
	do {                                                                   \
		uint64_t until_ = uv_hrtime() + WAIT_MS * 1000000ULL;          \
		while (!(condition)) {                                         \
			if (uv_hrtime() > until_)                              \
				fail_msg("never came: %s", #condition);        \
			crew_turn(crew);                                       \
		}                                                              \
	} while (0)

#endif
