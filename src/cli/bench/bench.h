/* bench.h - `isimud bench` with other dialects: test/bench speaks to the
 * servers that isimud is compared with.
 *
 * Threads: the main thread. */
#ifndef ISIMUD_CLI_BENCH_BENCH_H
#define ISIMUD_CLI_BENCH_BENCH_H

#include "cli/arguments.h"
#include "cli/bench/dialect.h"

/* Does what `a` says; --protocol is one of `known`, which ends in one without a
 * name; the first if it is not given. Returns the exit status. */
int bench_run_with(const struct arguments *a, const struct dialect *known);

#endif
