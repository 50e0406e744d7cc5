/* report.h - how far a run is, and what came of it, for people and programs.
 *
 * Threads: the main thread. */
#ifndef ISIMUD_CLI_BENCH_REPORT_H
#define ISIMUD_CLI_BENCH_REPORT_H

#include "cli/bench/run.h"

#include <stdio.h>

/* The name of a mode, as the command line has it; and back: returns whether
 * there is one. */
const char *report_mode(enum plan_mode mode);
bool report_find_mode(const char *name, enum plan_mode *out);

/* A line on the terminal `user`, a FILE, over the one before. */
void report_progress(void *user, const char *phase, double done,
		     uint64_t delivered, uint64_t answered);

/* Removes that line. */
void report_end_progress(FILE *terminal);

/* `has_server`: what the server has used is known. */
void report_text(FILE *out, const struct plan *plan,
		 const struct run_result *result, bool has_server);

/* One object, in one line. */
void report_json(FILE *out, const struct plan *plan,
		 const struct run_result *result, bool has_server);

#endif
