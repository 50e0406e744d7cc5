/* source.h - the publishers of a run.
 *
 * Each is one connection, on which requests are sent without waiting for their
 * answers. A publication is copied from a template in which its topic and its
 * stamp are put. Threads: the main thread, whose loop it is. */
#ifndef ISIMUD_CLI_BENCH_SOURCE_H
#define ISIMUD_CLI_BENCH_SOURCE_H

#include "cli/bench/plan.h"
#include "cli/bench/stamp.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct source;

/* Begins to connect all publishers. The pointers must live as long as it.
 * Returns 0 or UV_E…. */
int source_open(struct source **out, const struct plan *plan,
		struct trouble *trouble, uv_loop_t *loop);

/* Whether all are connected, as far as that must be waited for. */
bool source_is_ready(const struct source *s);

/* Whether `publisher` has fewer requests under way than the pipeline takes. */
bool source_has_room(const struct source *s, unsigned publisher);

/* Writes a publication, which goes out with source_flush(). */
void source_publish(struct source *s, unsigned publisher,
		    const struct stamp *stamp);

/* Sends what was written. */
void source_flush(struct source *s);

uint64_t source_answered(const struct source *s); /* refusals too */
uint64_t source_refused(const struct source *s);
uint64_t source_unanswered(const struct source *s);

/* Ends all connections, and frees it. NULL is fine. */
void source_close(struct source *s);

#endif
